// Cuts bytes that come in pieces into lines. A line end is the byte 10; no character of UTF-8 has it inside.

/** The lines of a file, without their ends, whatever the pieces it comes in. */
export class LineReader {
  readonly #mostBytes: number;
  #rest: Buffer = Buffer.alloc(0);

  /** @param mostBytes A line that is longer may come without its middle, but still longer than this. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** The lines that end in these bytes; each is valid until the next call. */
  *push(bytes: Buffer): Generator<Buffer> {
    if (this.#rest.length > this.#mostBytes && !bytes.includes(10)) return;
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let from = 0;
    for (let end = all.indexOf(10); end >= 0; end = all.indexOf(10, from)) {
      yield all.subarray(from, end);
      from = end + 1;
    }
    this.#rest = Buffer.from(all.subarray(from, from + this.#mostBytes + 1));
  }

  /** What follows the last line end. */
  get rest(): Buffer {
    return this.#rest;
  }
}
