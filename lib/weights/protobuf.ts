// Writes messages of protocol buffers, as an ONNX file is one: numbers of a varying length and bytes behind their length, each behind its field's number.
// Large pieces are held by reference until the end, for a network is hundreds of megabytes.

const kVarint = 0;
const kBytes = 2;
const kFixed32 = 5;

/** A number in groups of seven bits, the lowest first; negative ones as 64 bits in two's complement. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const more = rest > 0x7fn;
    bytes.push(Number(rest & 0x7fn) | (more ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

/** A message under construction; each call adds a field. */
export class Message {
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  #add(...pieces: readonly Uint8Array[]): this {
    for (const piece of pieces) {
      this.#pieces.push(piece);
      this.#length += piece.length;
    }
    return this;
  }

  integer(field: number, value: number): this {
    return this.#add(varint(field * 8 + kVarint), varint(value));
  }

  float(field: number, value: number): this {
    return this.#add(varint(field * 8 + kFixed32), new Uint8Array(Float32Array.of(value).buffer));
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#add(varint(field * 8 + kBytes), varint(value.length), value);
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  message(field: number, value: Message): this {
    return this.#add(varint(field * 8 + kBytes), varint(value.#length), ...value.#pieces);
  }

  /** All of it, copied once. */
  encode(): Uint8Array {
    return Buffer.concat(this.#pieces, this.#length);
  }
}
