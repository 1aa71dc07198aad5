// Tensors as they lie in a file, whatever its container: a type, a shape, strides over a storage. The layout is held against the storage's bytes
// when a tensor is made, so that by the time numbers are asked for every size is known to be there.
import { crc32 } from 'node:zlib';
import { ComFaceError, show } from '../errors.js';
import { allocated, type ByteSource, corrupt, MemorySource, readBytes } from './source.js';

/** Types of numbers, by safetensors' names. */
export type DType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8' | 'BOOL';

type Get = (view: DataView, at: number, isLittle: boolean) => number;

/** Of each type its bytes and how one number is read. */
const types: Readonly<Record<DType, readonly [bytes: number, get: Get]>> = {
  F64: [8, (view, at, isLittle) => view.getFloat64(at, isLittle)],
  F32: [4, (view, at, isLittle) => view.getFloat32(at, isLittle)],
  F16: [2, (view, at, isLittle) => halfOf(view.getUint16(at, isLittle))],
  BF16: [2, (view, at, isLittle) => bfloatOf(view.getUint16(at, isLittle))],
  I64: [8, (view, at, isLittle) => Number(view.getBigInt64(at, isLittle))],
  I32: [4, (view, at, isLittle) => view.getInt32(at, isLittle)],
  I16: [2, (view, at, isLittle) => view.getInt16(at, isLittle)],
  I8: [1, (view, at) => view.getInt8(at)],
  U64: [8, (view, at, isLittle) => Number(view.getBigUint64(at, isLittle))],
  U32: [4, (view, at, isLittle) => view.getUint32(at, isLittle)],
  U16: [2, (view, at, isLittle) => view.getUint16(at, isLittle)],
  U8: [1, (view, at) => view.getUint8(at)],
  BOOL: [1, (view, at) => (view.getUint8(at) === 0 ? 0 : 1)],
};

export const knownTypes = Object.keys(types) as readonly DType[];
export const bytesOfType = (dtype: DType): number => types[dtype][0];

/** IEEE 754 binary16. */
function halfOf(bits: number): number {
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  const size =
    exponent === 0x1f
      ? fraction
        ? Number.NaN
        : Number.POSITIVE_INFINITY
      : exponent
        ? (1 + fraction / 1024) * 2 ** (exponent - 15)
        : fraction * 2 ** -24;
  return bits & 0x8000 ? -size : size;
}

const wordOf = new Uint32Array(1);
const floatOf = new Float32Array(wordOf.buffer);

/** The upper half of a float32. */
function bfloatOf(bits: number): number {
  wordOf[0] = bits << 16;
  return floatOf[0]!;
}

/** Reads one number of a type, as numpy's scalars are stored; an int64 keeps all its digits. */
export function scalarOf(dtype: DType, bytes: Uint8Array, isLittle: boolean): number | bigint | boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === 'BOOL') return view.getUint8(0) !== 0;
  const value = types[dtype][1](view, 0, isLittle);
  if (Number.isSafeInteger(value) || (dtype !== 'I64' && dtype !== 'U64')) return value;
  return dtype === 'I64' ? view.getBigInt64(0, isLittle) : view.getBigUint64(0, isLittle);
}

/** More than any framework has. */
export const kMostDimensions = 64;
/** Bytes read and converted at a time. */
const kPieceBytes = 2 ** 20;

/** A run of bytes in a source. */
export interface Place {
  source: ByteSource;
  /** Byte of the source where it begins; undefined until the container has said it, which is before anybody can ask for numbers. */
  at: number | undefined;
  bytes: number;
  /** CRC-32 of all of it, where the container has one. */
  crc?: number;
}

/** Numbers in a row that tensors look at, perhaps several of them. */
export interface Storage {
  dtype: DType;
  /** Numbers of that type. */
  count: number;
  place: Place;
  /** Bytes of the place before the first number. */
  skip: number;
  isLittle: boolean;
}

/** How a tensor lies over its storage; offset and strides count numbers. */
export interface Layout {
  shape: readonly number[];
  strides: readonly number[];
  offset: number;
}

export const rowMajor = (shape: readonly number[]): number[] => {
  const strides = new Array<number>(shape.length);
  for (let i = shape.length - 1, stride = 1; i >= 0; stride *= Math.max(1, shape[i]!), i--) strides[i] = stride;
  return strides;
};

export const columnMajor = (shape: readonly number[]): number[] => rowMajor([...shape].reverse()).reverse();

/** The number of elements; NaN from 2^53 on. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => (Number.isSafeInteger(product * size) ? product * size : Number.NaN), 1);
}

const isSize = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

/** What was expected and what was found. */
export type Fault = readonly [rule: string, found: string];

/** What is wrong with a shape, whatever its items are. */
export function shapeFault(shape: readonly unknown[]): Fault | undefined {
  if (shape.length > kMostDimensions) return [`at most ${kMostDimensions} dimensions`, String(shape.length)];
  if (!shape.every(isSize)) return ['whole sizes below 2^53', `the shape ${shapeText(shape)}`];
  return Number.isNaN(elementsOf(shape)) ? ['fewer than 2^53 elements', `the shape ${shapeText(shape)}`] : undefined;
}

/** Whatever stands in it: JSON knows no bigint. */
const shapeText = (shape: readonly unknown[]): string =>
  `[${shape
    .slice(0, kMostDimensions)
    .map((size) => (typeof size === 'object' && size !== null ? 'a container' : show(size)))
    .join(', ')}]`.slice(0, 80);

/** What is wrong with a layout over so many numbers. */
export function layoutFault(count: number, { shape, strides, offset }: Layout): Fault | undefined {
  const fault = shapeFault(shape);
  if (fault) return fault;
  const elements = elementsOf(shape);
  if (strides.length !== shape.length || !strides.every(isSize)) return [`${shape.length} strides, none negative`, shapeText(strides)];
  if (!isSize(offset)) return ['an offset from 0 on', show(offset)];
  if (elements === 0) return undefined;
  const last = shape.reduce((sum, size, i) => sum + (size - 1) * strides[i]!, offset);
  if (!(last < count)) return [`a tensor within the ${count} numbers of its storage`, `one that reaches number ${last}`];
  return undefined;
}

type Put = (view: DataView, at: number, i: number) => void;

/** A tensor of a file; its numbers are read when they are asked for. */
export class StoredTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly #storage: Storage;
  readonly #layout: Layout;

  /** @param layout One without a {@link layoutFault}. */
  constructor(storage: Storage, layout: Layout) {
    this.dtype = storage.dtype;
    this.shape = layout.shape;
    this.#storage = storage;
    this.#layout = layout;
  }

  get elements(): number {
    return elementsOf(this.shape);
  }

  /** Its numbers in row-major order; float64 and integers are rounded to the nearest float32. @throws ComFaceError CORRUPT_FILE, IO. */
  async float32(): Promise<Float32Array> {
    const out = this.#room((count) => new Float32Array(count));
    const { dtype, isLittle } = this.#storage;
    const get = types[dtype][1];
    if (dtype === 'F32' && isLittle && this.#isRowMajor()) await this.#during(() => this.#readPieces(new Uint8Array(out.buffer)));
    else await this.#each((view, at, i) => (out[i] = get(view, at, isLittle)));
    return out;
  }

  /** The numbers of an int64 tensor, all digits of them. @throws ComFaceError INVALID_INPUT for another type; CORRUPT_FILE, IO. */
  async int64(): Promise<BigInt64Array> {
    if (this.dtype !== 'I64')
      throw new ComFaceError('INVALID_INPUT', `Expected I64 for \`tensor\` but received ${this.dtype}`, {
        hint: 'Ask for float32() instead.',
      });
    const out = this.#room((count) => new BigInt64Array(count));
    const { isLittle } = this.#storage;
    await this.#each((view, at, i) => (out[i] = view.getBigInt64(at, isLittle)));
    return out;
  }

  #room<T>(make: (count: number) => T): T {
    return allocated(this.#storage.place.source.name, this.elements, make);
  }

  #during<T>(work: () => Promise<T>): Promise<T> {
    return this.#storage.place.source.during(work);
  }

  /** Calls `put` for each number in row-major order. */
  #each(put: Put): Promise<void> {
    return this.#during(() => (this.#isRowMajor() ? this.#convert(put) : this.#gather(put)));
  }

  #isRowMajor(): boolean {
    const { shape, strides } = this.#layout;
    const expected = rowMajor(shape);
    return this.elements === 0 || shape.every((size, i) => size === 1 || strides[i] === expected[i]);
  }

  async #convert(put: Put): Promise<void> {
    const size = bytesOfType(this.dtype);
    let done = 0;
    await this.#readPieces(new Uint8Array(Math.min(kPieceBytes, this.elements * size)), (view) => {
      for (let at = 0; at < view.byteLength; at += size) put(view, at, done++);
    });
  }

  /** Reads all bytes of a row-major tensor: straight into `room` when they fit, else piece by piece through it. */
  async #readPieces(room: Uint8Array, use?: (view: DataView) => void): Promise<void> {
    const { source } = this.#storage.place;
    const bytes = this.elements * bytesOfType(this.dtype);
    const begin = this.#begin();
    const crc = this.#crcOf(bytes);
    let sum = 0;
    for (let at = 0; at < bytes; ) {
      const into = room.length === bytes ? room.subarray(at, at + kPieceBytes) : room.subarray(0, Math.min(room.length, bytes - at));
      await source.read(begin + at, into);
      if (crc !== undefined) sum = crc32(into, sum);
      use?.(new DataView(into.buffer, into.byteOffset, into.byteLength));
      at += into.length;
    }
    if (crc !== undefined && sum !== crc) throw wrongSum(source.name, begin, crc, sum);
  }

  /** The checksum of so many bytes of the storage: only that of all of them is known. */
  #crcOf(bytes: number): number | undefined {
    const { place } = this.#storage;
    return bytes === place.bytes ? place.crc : undefined;
  }

  /** Calls `put` for each number of a tensor with strides; reads no more of the storage than it spans. */
  async #gather(put: Put): Promise<void> {
    const { shape, strides } = this.#layout;
    const size = bytesOfType(this.dtype);
    const span = shape.reduce((sum, length, i) => sum + (length - 1) * strides[i]!, 1);
    const { source } = this.#storage.place;
    const bytes = await readBytes(source, this.#begin(), span * size);
    const crc = this.#crcOf(bytes.length);
    const sum = crc === undefined ? 0 : crc32(bytes);
    if (crc !== undefined && sum !== crc) throw wrongSum(source.name, this.#begin(), crc, sum);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const place = new Array<number>(shape.length).fill(0);
    let at = 0;
    for (let i = 0, count = this.elements; i < count; i++) {
      put(view, at * size, i);
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        at += strides[axis]!;
        if (++place[axis]! < shape[axis]!) break;
        at -= shape[axis]! * strides[axis]!;
        place[axis] = 0;
      }
    }
  }

  /** Byte of the source where its first number is. */
  #begin(): number {
    const { place, skip } = this.#storage;
    if (place.at === undefined) throw corrupt(place.source.name, 'a place for each storage', place.source.size, 'none');
    return place.at + skip + this.#layout.offset * bytesOfType(this.dtype);
  }
}

export function wrongSum(name: string, at: number, crc: number, found: number): ComFaceError {
  const hex = (word: number) => `0x${word.toString(16).padStart(8, '0')}`;
  return corrupt(name, `bytes with the checksum ${hex(crc)}`, at, hex(found));
}

/** A storage that fills a place, as far as whole numbers go. */
export function storageIn(place: Place, dtype: DType, isLittle = true): Storage {
  return { dtype, count: Math.floor(place.bytes / bytesOfType(dtype)), place, skip: 0, isLittle };
}

/** Bytes in memory as a place. */
export const memoryPlace = (bytes: Uint8Array, name: string): Place => ({
  source: new MemorySource(bytes, name),
  at: 0,
  bytes: bytes.length,
});
