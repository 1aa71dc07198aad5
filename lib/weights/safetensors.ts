// Reads and writes safetensors: 8 bytes of header length, a JSON header, then the tensors, all little-endian as is every machine we run on.
// The header is read byte by byte and not with JSON.parse, which keeps the last of two equal keys in silence and knows no offsets.
import { ComFaceError, invalid, show } from '../errors.js';
import { type ByteSource, readBytes } from './source.js';
import { bytesOfType, type DType, knownTypes, rowMajor, StoredTensor, storageIn } from './stored.js';

/** One array and its shape, row-major; a shape of `[]` is one number. */
export type Tensor =
  | {
      /** 32-bit floats. */
      dtype: 'F32';
      /** Sizes of its dimensions; none for a single number. */
      shape: number[];
      /** Its numbers, the last dimension fastest. */
      data: Float32Array;
    }
  | {
      /** 64-bit integers. */
      dtype: 'I64';
      /** Sizes of its dimensions; none for a single number. */
      shape: number[];
      /** Its numbers, the last dimension fastest. */
      data: BigInt64Array;
    };

/** What the format allows a header to take, in bytes. */
const headerLimit = 100_000_000;
/** More than any framework has; keeps a list of numbers from taking several times the file. */
const mostSizes = 64;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const itemBytes = { F32: 4, I64: 8 } as const;
/** Legal in the format and read nowhere here. */
const unreadTypes = ['F8_E5M2', 'F8_E4M3'];
/** What our own files hold; {@link readSafetensors} knows the other types too. */
const ownTypes: readonly DType[] = ['F32', 'I64'];

/**
 * Writes named tensors, in the order of the map, and a string map as one safetensors file.
 *
 * @throws ComFaceError INVALID_INPUT when a shape does not match its data or a tensor is named `__metadata__`.
 */
export function encodeSafetensors(tensors: ReadonlyMap<string, Tensor>, metadata: Record<string, string> = {}): Uint8Array {
  const pieces = encodeInPieces(tensors, metadata);
  for (;;) {
    const piece = pieces.next();
    if (piece.done) return piece.value;
  }
}

/** Bytes copied at a time: tenths of a millisecond, most of it for memory that is touched for the first time. */
const kPiece = 2 ** 17;

/** {@link encodeSafetensors} with a pause after every piece, in which others may have the event loop; returns the file. */
export function* encodeInPieces(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): Generator<undefined, Uint8Array> {
  const offsets = placeTensors(tensors);
  const entries = Object.keys(metadata).length === 0 ? [] : [`"__metadata__":${JSON.stringify(metadata)}`];
  let dataBytes = 0;
  for (const [name, { dtype, shape, data }] of tensors) {
    const begin = offsets.get(name) ?? 0;
    const end = begin + data.byteLength;
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
    dataBytes = Math.max(dataBytes, end);
  }
  const text = new TextEncoder().encode(`{${entries.join(',')}}`);
  const headerBytes = Math.ceil(text.length / 8) * 8;
  const file = new Uint8Array(8 + headerBytes + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true);
  file.set(text, 8);
  file.fill(0x20, 8 + text.length, 8 + headerBytes);
  for (const [name, { data }] of tensors) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const begin = 8 + headerBytes + (offsets.get(name) ?? 0);
    for (let at = 0; at < bytes.length; at += kPiece) {
      file.set(bytes.subarray(at, at + kPiece), begin + at);
      yield;
    }
  }
  return file;
}

/** Offset of each tensor in the data part: the 8-byte ones come first so that every one is aligned to its own item. */
function placeTensors(tensors: ReadonlyMap<string, Tensor>): Map<string, number> {
  const offsets = new Map<string, number>();
  let at = 0;
  for (const [name, tensor] of [...tensors].sort(([, a], [, b]) => itemBytes[b.dtype] - itemBytes[a.dtype])) {
    if (name === '__metadata__') throw invalid('tensors', 'names other than "__metadata__"', name);
    const count = tensor.shape.reduce((product, size) => product * size, 1);
    if (!tensor.shape.every((size) => Number.isSafeInteger(size) && size >= 0) || count !== tensor.data.length) {
      throw invalid(name, `a shape of ${tensor.data.length} elements`, tensor.shape);
    }
    offsets.set(name, at);
    at += tensor.data.byteLength;
  }
  return offsets;
}

interface Entry<T extends DType = DType> {
  name: string;
  dtype: T;
  shape: number[];
  begin: number;
  end: number;
  /** Byte of the file where the header names it. */
  at: number;
}

/**
 * Reads a safetensors file into fresh, aligned arrays; nothing is allocated before the whole layout is checked against the file's size.
 *
 * @param name What to call the file in messages: its path.
 * @throws ComFaceError CORRUPT_FILE with the byte offset; INVALID_INPUT for a tensor of a legal type other than F32 and I64.
 */
export function decodeSafetensors(bytes: Uint8Array, name: string): { tensors: Map<string, Tensor>; metadata: Record<string, string> } {
  const reader = new HeaderReader(bytes, name, bytes.length);
  const { entries, metadata } = readHeader(reader, ownTypes);
  const tensors = new Map(entries.map((entry) => [entry.name, copyTensor(bytes, reader.end, entry as Entry<Tensor['dtype']>)]));
  return { tensors, metadata };
}

/**
 * Reads the header of a safetensors file of any types of numbers; the tensors stay in the file until somebody asks for their numbers.
 *
 * @throws ComFaceError CORRUPT_FILE with the byte offset; INVALID_INPUT for the types of 8 bits that have no name here; IO.
 */
export async function readSafetensors(
  source: ByteSource,
): Promise<{ tensors: Map<string, StoredTensor>; metadata: Record<string, string> }> {
  const start = await readBytes(source, 0, Math.min(8, source.size));
  const length = start.length < 8 ? 0n : new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  const most = BigInt(Math.min(headerLimit, source.size - 8));
  // A header that is too long is not read: the error needs no more than the length.
  const header = length <= most ? await readBytes(source, 0, Math.min(source.size, 8 + Number(length))) : start;
  const reader = new HeaderReader(header, source.name, source.size);
  const { entries, metadata } = readHeader(reader, knownTypes);
  const tensors = new Map<string, StoredTensor>();
  for (const { name, dtype, shape, begin, end } of entries) {
    const place = { source, at: reader.end + begin, bytes: end - begin };
    tensors.set(name, new StoredTensor(storageIn(place, dtype), { shape, strides: rowMajor(shape), offset: 0 }));
  }
  return { tensors, metadata };
}

function readHeader(reader: HeaderReader, types: readonly DType[]): { entries: Entry[]; metadata: Record<string, string> } {
  const entries: Entry[] = [];
  const metadata = new Map<string, string>();
  reader.object((key, at) => {
    if (key === '__metadata__') reader.object((field) => metadata.set(field, reader.string()));
    else entries.push(readEntry(reader, key, at, types));
  });
  reader.finish();
  checkLayout(reader, entries);
  return { entries, metadata: Object.fromEntries(metadata) };
}

function readEntry(reader: HeaderReader, name: string, at: number, types: readonly DType[]): Entry {
  let dtype: DType | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  reader.object((field, fieldAt) => {
    if (field === 'dtype') dtype = readType(reader, name, types);
    else if (field === 'shape') shape = reader.integers();
    else if (field === 'data_offsets') offsets = reader.integers();
    else throw reader.error('"dtype", "shape" or "data_offsets"', fieldAt, show(field));
  });
  const [begin, end, ...more] = offsets ?? [];
  if (dtype === undefined || shape === undefined) throw reader.error('a dtype and a shape', at, `neither or one in ${show(name)}`);
  if (begin === undefined || end === undefined || more.length > 0) {
    throw reader.error('two data_offsets', at, `${show(offsets ?? [])} in ${show(name)}`);
  }
  return { name, dtype, shape, begin, end, at };
}

function readType(reader: HeaderReader, name: string, types: readonly DType[]): DType {
  const at = reader.skip();
  const dtype = reader.string();
  const known = types.find((type) => type === dtype);
  if (known) return known;
  if (!unreadTypes.includes(dtype) && !knownTypes.some((type) => type === dtype))
    throw reader.error('a dtype of the format', at, show(dtype));
  const expected = `${types.slice(0, -1).join(', ')} or ${types.at(-1)}`;
  throw new ComFaceError('INVALID_INPUT', `${reader.name}: expected ${expected} for \`${name}\` at byte ${at} but found ${dtype}`, {
    hint: 'Convert the tensors to float32 before saving them (in PyTorch: tensor.float()).',
  });
}

/** Offsets count from the end of the header: no hole, no overlap, no byte left over. */
function checkLayout(reader: HeaderReader, entries: readonly Entry[]): void {
  let at = 0;
  for (const entry of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const found = `[${entry.begin}, ${entry.end}] for ${show(entry.name)}`;
    if (entry.begin !== at) throw reader.error(`data_offsets that begin at ${at}`, entry.at, found);
    const count = entry.shape.reduce((product, size) => (Number.isSafeInteger(product * size) ? product * size : Number.NaN), 1);
    if (Number.isNaN(count)) throw reader.error('fewer than 2^53 elements', entry.at, `the shape ${show(entry.shape)}`);
    const size = count * bytesOfType(entry.dtype);
    if (entry.end - entry.begin !== size) throw reader.error(`data_offsets ${size} bytes apart`, entry.at, found);
    at = entry.end;
  }
  const fileEnd = reader.end + at;
  if (fileEnd !== reader.size) {
    throw reader.error(`the end of the file at byte ${fileEnd}`, Math.min(fileEnd, reader.size), `${reader.size} bytes in all`);
  }
}

function copyTensor(bytes: Uint8Array, dataStart: number, { dtype, shape, begin, end }: Entry<Tensor['dtype']>): Tensor {
  const fresh = new Uint8Array(end - begin);
  fresh.set(bytes.subarray(dataStart + begin, dataStart + end));
  return dtype === 'F32' ? { dtype, shape, data: new Float32Array(fresh.buffer) } : { dtype, shape, data: new BigInt64Array(fresh.buffer) };
}

/** Reads the JSON of a header: objects, strings and lists of whole numbers, which is all the format has. */
class HeaderReader {
  /** At least up to the end of the header. */
  readonly bytes: Uint8Array;
  readonly name: string;
  /** Bytes of the whole file. */
  readonly size: number;
  /** Where the header ends and the data begins. */
  readonly end: number;
  private at = 8;

  constructor(bytes: Uint8Array, name: string, size: number) {
    this.bytes = bytes;
    this.name = name;
    this.size = size;
    this.end = bytes.length;
    if (size < 8) throw this.error('8 bytes of header length', 0, `${size} bytes in all`);
    const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
    const limit = Math.min(headerLimit, size - 8);
    if (length > limit) throw this.error(`a header of at most ${limit} bytes`, 0, `a length of ${length}`);
    this.end = 8 + Number(length);
    if (bytes[8] !== 0x7b || this.end === 8) throw this.error('`{`', 8);
  }

  /** The error to throw; by default it shows the byte at the place. */
  error(rule: string, at: number, found = this.describe(at)): ComFaceError {
    return new ComFaceError('CORRUPT_FILE', `${this.name}: expected ${rule} at byte ${at} but found ${found}`, {
      hint: 'Copy or download the file again: it is incomplete, damaged or no safetensors file.',
    });
  }

  /** Passes white space and returns the place after it. */
  skip(): number {
    while (this.at < this.end && [0x20, 0x09, 0x0a, 0x0d].includes(this.bytes[this.at] ?? 0)) this.at++;
    return this.at;
  }

  /** Calls `visit` at each value, with its key and the byte where the key stands. */
  object(visit: (key: string, at: number) => void): void {
    const seen = new Set<string>();
    this.list('{', '}', () => {
      const at = this.skip();
      const key = this.string();
      if (seen.has(key)) throw this.error('each key once', at, `${show(key)} again`);
      seen.add(key);
      this.need(':');
      visit(key, at);
    });
  }

  integers(): number[] {
    const values: number[] = [];
    this.list('[', ']', () => {
      if (values.length === mostSizes) throw this.error(`at most ${mostSizes} numbers`, this.at);
      values.push(this.integer());
    });
    return values;
  }

  string(): string {
    const start = this.skip();
    this.need('"');
    while (this.at < this.end && this.bytes[this.at] !== 0x22) this.at += this.bytes[this.at] === 0x5c ? 2 : 1;
    if (this.at >= this.end) throw this.error('a closing quote', this.end, 'the end of the header');
    this.at++;
    try {
      return JSON.parse(decoder.decode(this.bytes.subarray(start, this.at)));
    } catch {
      throw this.error('a JSON string in UTF-8', start, 'one that is not');
    }
  }

  /** White space alone may follow the closing brace. */
  finish(): void {
    if (this.skip() !== this.end) throw this.error('the end of the header', this.at);
  }

  private integer(): number {
    const start = this.skip();
    while (this.at < this.end && this.isDigit()) this.at++;
    const text = String.fromCharCode(...this.bytes.subarray(start, Math.min(this.at, start + 20)));
    if (text === '' || (text.length > 1 && text.startsWith('0'))) throw this.error('a whole number', start);
    if (!Number.isSafeInteger(Number(text))) throw this.error('a number below 2^53', start, text);
    return Number(text);
  }

  private isDigit(): boolean {
    const byte = this.bytes[this.at] ?? 0;
    return byte >= 0x30 && byte <= 0x39;
  }

  private list(open: string, close: string, item: () => void): void {
    this.need(open);
    if (this.took(close)) return;
    do item();
    while (this.took(','));
    this.need(close);
  }

  private took(char: string): boolean {
    const here = this.skip() < this.end && this.bytes[this.at] === char.charCodeAt(0);
    if (here) this.at++;
    return here;
  }

  private need(char: string): void {
    if (!this.took(char)) throw this.error(`\`${char}\``, this.at);
  }

  private describe(at: number): string {
    const byte = at < this.end ? this.bytes[at] : undefined;
    if (byte === undefined) return 'the end of the header';
    return byte >= 0x20 && byte < 0x7f ? `\`${String.fromCharCode(byte)}\`` : `0x${byte.toString(16).padStart(2, '0')}`;
  }
}
