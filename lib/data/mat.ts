// Reads one matrix of numbers from a MATLAB level 5 file (MathWorks, "MAT-File Format"): what landmarks of DISFA come in. Files may come from
// anywhere: every length is held against the bytes that are there, and nothing compressed becomes more than `kMostMatBytes`.
import { inflateSync } from 'node:zlib';
import { show } from '../errors.js';

/** Of a file, and of all that is compressed in it. */
export const kMostMatBytes = 1 << 18;
const kHeaderBytes = 128;
const kMostVariables = 64;
const kMatrix = 14;
const kCompressed = 15;
const kComplex = 0x800;
const kInt8 = 1;
const kInt32 = 5;
const kUint32 = 6;
const kClasses = ['cell', 'struct', 'object', 'char', 'sparse'];
/** mxDOUBLE_CLASS to mxUINT64_CLASS. */
const kFirstNumeric = 6;
const kLastNumeric = 15;

type Read = (view: DataView, at: number, isLittle: boolean) => number;
/** Of each type of numbers its bytes and how one is read. */
const numberTypes: ReadonlyMap<number, readonly [bytes: number, read: Read]> = new Map<number, readonly [number, Read]>([
  [kInt8, [1, (view, at) => view.getInt8(at)]],
  [2, [1, (view, at) => view.getUint8(at)]],
  [3, [2, (view, at, isLittle) => view.getInt16(at, isLittle)]],
  [4, [2, (view, at, isLittle) => view.getUint16(at, isLittle)]],
  [kInt32, [4, (view, at, isLittle) => view.getInt32(at, isLittle)]],
  [kUint32, [4, (view, at, isLittle) => view.getUint32(at, isLittle)]],
  [7, [4, (view, at, isLittle) => view.getFloat32(at, isLittle)]],
  [9, [8, (view, at, isLittle) => view.getFloat64(at, isLittle)]],
  [12, [8, (view, at, isLittle) => Number(view.getBigInt64(at, isLittle))]],
  [13, [8, (view, at, isLittle) => Number(view.getBigUint64(at, isLittle))]],
]);

/** Numbers column by column. */
export interface Matrix {
  rows: number;
  columns: number;
  data: Float64Array;
}

/** What is wrong with a file, in words for a list of reasons. */
class Fault extends Error {}

interface Element {
  type: number;
  view: DataView;
}

/**
 * The matrix of a name.
 *
 * @param bytes Of the file.
 * @returns The matrix, or why there is none.
 */
export function readMatrix(bytes: Uint8Array, name: string): Matrix | string {
  try {
    return matrixIn(bytes, name);
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  }
}

function matrixIn(bytes: Uint8Array, name: string): Matrix {
  if (bytes.length > kMostMatBytes) throw new Fault(`expected at most ${kMostMatBytes} bytes but found ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isLittle = checkHeader(view);
  let room = kMostMatBytes;
  const elements = new Elements(new DataView(view.buffer, view.byteOffset + kHeaderBytes, view.byteLength - kHeaderBytes), isLittle);
  for (let variables = 0; !elements.isAtEnd; variables++) {
    if (variables === kMostVariables) throw new Fault(`it has more than ${kMostVariables} variables`);
    let element = elements.next();
    if (element.type === kCompressed) {
      const inflated = inflate(element.view, room);
      room -= inflated.byteLength;
      element = new Elements(inflated, isLittle).next();
    }
    const matrix = element.type === kMatrix ? namedMatrix(element.view, isLittle, name) : undefined;
    if (matrix) return matrix;
  }
  throw new Fault(`it has no variable ${show(name)}`);
}

/** @returns Whether its numbers are little endian. */
function checkHeader(view: DataView): boolean {
  const text = (from: number, to: number) => String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + from, to - from));
  const size = view.byteLength;
  if ((size >= 19 && text(0, 19) === 'MATLAB 7.3 MAT-file') || (size >= 4 && text(0, 4) === '\x89HDF'))
    throw new Fault('it is of MATLAB 7.3 (HDF5): save it with -v7');
  if (size < kHeaderBytes) throw new Fault(`expected a MATLAB file of level 5 but found ${size} bytes`);
  const order = text(126, 128);
  if (order !== 'IM' && order !== 'MI') throw new Fault('it is no MATLAB file of level 5');
  const isLittle = order === 'IM';
  const version = view.getUint16(124, isLittle);
  if (version === 0x200) throw new Fault('it is of MATLAB 7.3 (HDF5): save it with -v7');
  if (version !== 0x100) throw new Fault(`expected a MATLAB file of level 5 but found version ${version}`);
  return isLittle;
}

/** Elements one after the other: a tag of type and bytes, then as many, to the next multiple of 8. */
class Elements {
  readonly #view: DataView;
  readonly #isLittle: boolean;
  #at = 0;

  constructor(view: DataView, isLittle: boolean) {
    this.#view = view;
    this.#isLittle = isLittle;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#view.byteLength;
  }

  next(): Element {
    const left = this.#view.byteLength - this.#at;
    if (left < 8) throw new Fault(`it ends in the middle: ${left} bytes for a tag of 8`);
    const tag = this.#view.getUint32(this.#at, this.#isLittle);
    const short = tag >>> 16; // at most 4 bytes, in the tag
    if (short > 4) throw new Fault(`a short element of ${short} bytes`);
    const size = short || this.#view.getUint32(this.#at + 4, this.#isLittle);
    const start = this.#at + (short ? 4 : 8);
    const type = short ? tag & 0xffff : tag;
    if (start + size > this.#view.byteLength) throw new Fault(`it ends in the middle: ${this.#view.byteLength - start} of ${size} bytes`);
    const end = short ? this.#at + 8 : start + size;
    this.#at = type === kCompressed ? end : Math.ceil(end / 8) * 8;
    return { type, view: new DataView(this.#view.buffer, this.#view.byteOffset + start, size) };
  }
}

function inflate(view: DataView, room: number): DataView {
  try {
    const bytes = inflateSync(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), { maxOutputLength: room + 1 });
    if (bytes.length <= room) return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE') throw new Fault('what is compressed in it is damaged');
  }
  throw new Fault(`what is compressed in it becomes more than ${kMostMatBytes} bytes`);
}

/** A matrix, or nothing where it has another name. */
function namedMatrix(view: DataView, isLittle: boolean, name: string): Matrix | undefined {
  if (view.byteLength === 0) return undefined; // an empty matrix may be left out
  const parts = new Elements(view, isLittle);
  const flags = integers(parts.next(), kUint32, isLittle, 2);
  const sizes = integers(parts.next(), kInt32, isLittle, 32);
  const letters = parts.next();
  const found = String.fromCharCode(...new Uint8Array(letters.view.buffer, letters.view.byteOffset, Math.min(letters.view.byteLength, 64)));
  if (letters.type !== kInt8 || found !== name) return undefined;
  const kind = flags[0]! & 0xff;
  if (kind < kFirstNumeric || kind > kLastNumeric)
    throw new Fault(`${show(name)} is no matrix of numbers but of kind ${kClasses[kind - 1] ?? kind}`);
  if (flags[0]! & kComplex) throw new Fault(`${show(name)} has complex numbers`);
  const [rows, columns] = sizes as [number, number];
  if (sizes.length !== 2 || rows < 0 || columns < 0)
    throw new Fault(`expected a matrix of rows and columns but found sizes ${sizes.join(' x ')}`);
  return { rows, columns, data: numbersIn(parts.next(), rows * columns, isLittle) };
}

/** @param most Numbers. */
function integers({ type, view }: Element, expected: number, isLittle: boolean, most: number): number[] {
  const count = view.byteLength / 4;
  if (type !== expected || !Number.isInteger(count) || count < 2 || count > most) throw new Fault('the head of a variable is damaged');
  const read = numberTypes.get(expected)![1];
  return Array.from({ length: count }, (_, i) => read(view, 4 * i, isLittle));
}

/** Of any type: MATLAB stores whole numbers in as few bytes as they need, whatever the class. */
function numbersIn({ type, view }: Element, count: number, isLittle: boolean): Float64Array {
  const [bytes, read] = numberTypes.get(type) ?? [];
  if (bytes === undefined) throw new Fault(`numbers of an unknown type ${type}`);
  if (view.byteLength !== count * bytes) throw new Fault(`expected ${count} numbers of ${bytes} bytes but found ${view.byteLength} bytes`);
  return Float64Array.from({ length: count }, (_, i) => read!(view, i * bytes, isLittle));
}
