// NumPy's arrays: .npy files of versions 1 to 3 (numpy.lib.format), and the names by which pickles make arrays, of Python 2 and 3.
// Arrays of anything but plain numbers are refused in a .npy and only named in a pickle, where weights may lie beside them.
import { show } from '../errors.js';
import { TensorValue } from './globals.js';
import { type ByteSource, corrupt, readBytes, unread } from './source.js';
import {
  bytesOfType,
  columnMajor,
  type DType,
  elementsOf,
  type Fault,
  type Layout,
  layoutFault,
  memoryPlace,
  type Place,
  rowMajor,
  StoredTensor,
  scalarOf,
  shapeFault,
  storageIn,
} from './stored.js';
import { kindOf, type PickleCall, PickleObject, type PickleSite, PickleTuple, type PickleValue } from './values.js';

interface NumberType {
  dtype: DType;
  isLittle: boolean;
}

const letters: ReadonlyMap<string, DType> = new Map<string, DType>([
  ['f8', 'F64'],
  ['f4', 'F32'],
  ['f2', 'F16'],
  ['i8', 'I64'],
  ['i4', 'I32'],
  ['i2', 'I16'],
  ['i1', 'I8'],
  ['u8', 'U64'],
  ['u4', 'U32'],
  ['u2', 'U16'],
  ['u1', 'U8'],
  ['b1', 'BOOL'],
]);

/** NumPy's name of a type, such as `<f4`; undefined for all that are no plain numbers. */
function numberType(descr: string): NumberType | undefined {
  const dtype = letters.get(descr.replace(/^[<>|=]/, ''));
  return dtype && { dtype, isLittle: !descr.startsWith('>') };
}

// Files.

const kMagic = '\x93NUMPY';
const kMostHeader = 2 ** 16;

/** Reads the header of a .npy file. @throws ComFaceError CORRUPT_FILE with the byte offset; INVALID_INPUT for arrays of other things than numbers. */
export async function readNpy(source: ByteSource): Promise<StoredTensor> {
  const { name } = source;
  const start = await readBytes(source, 0, 8);
  if (Buffer.from(start).toString('latin1', 0, 6) !== kMagic) throw corrupt(name, 'the beginning of a .npy file', 0, 'another');
  const version = start[6]!;
  if (version < 1 || version > 3)
    throw unread(name, 'a .npy file of version 1 to 3', 6, `version ${version}`, 'Save the array as safetensors.');
  const wide = version > 1;
  const field = await readBytes(source, 8, wide ? 4 : 2);
  const length =
    new DataView(field.buffer, field.byteOffset).getUint16(0, true) +
    (wide ? new DataView(field.buffer, field.byteOffset).getUint16(2, true) * 0x10000 : 0);
  const at = 8 + field.length;
  if (length > kMostHeader)
    throw unread(name, `a header of at most ${kMostHeader} bytes`, 8, `${length} bytes`, 'Save an array of plain numbers.');
  const { descr, isFortran, shape } = headerOf(Buffer.from(await readBytes(source, at, length)).toString('utf8'), name, at);
  const type = numberType(descr);
  if (!type) {
    const hint = 'Save an array of numbers, such as array.astype("float32"); bfloat16 has no name in this format.';
    throw unread(name, 'an array of numbers', at, `the type ${show(descr)}`, hint);
  }
  const place = { source, at: at + length, bytes: source.size - at - length };
  const tensor = arrayOf(place, type, shape, isFortran ? inColumns : inRows);
  if (tensor instanceof StoredTensor) return tensor;
  throw corrupt(name, tensor[0], at, tensor[1]);
}

/** How the numbers of an array lie: its shape and strides by the shape that the file gives. */
type Arrange = (shape: readonly number[]) => Pick<Layout, 'shape' | 'strides'>;

const inRows: Arrange = (shape) => ({ shape, strides: rowMajor(shape) });
const inColumns: Arrange = (shape) => ({ shape, strides: columnMajor(shape) });

/** An array that fills its place, or why it does not. @param shape Not looked at yet. */
function arrayOf(place: Place, { dtype, isLittle }: NumberType, shape: readonly unknown[], arrange: Arrange): StoredTensor | Fault {
  const storage = storageIn(place, dtype, isLittle);
  const sizes = shape as readonly number[];
  const wrong = shapeFault(sizes);
  if (wrong) return wrong;
  const layout: Layout = { ...arrange(sizes), offset: 0 };
  const fault = layoutFault(storage.count, layout);
  if (fault) return fault;
  const bytes = elementsOf(sizes) * bytesOfType(dtype);
  if (bytes !== place.bytes) return [`${bytes} bytes of numbers`, `${place.bytes}`];
  return new StoredTensor(storage, layout);
}

interface NpyHeader {
  descr: string;
  isFortran: boolean;
  shape: number[];
}

/** The literal of a dict, in the form that NumPy writes and no other. */
function headerOf(text: string, name: string, at: number): NpyHeader {
  const fields = new Map<string, string>();
  const field = /\s*'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([\d,\sL]*\)|\[[^\]]*\])\s*(,|(?=\}))/y;
  let rest = text.startsWith('{') ? 1 : 0;
  for (field.lastIndex = rest; rest > 0; rest = field.lastIndex) {
    const found = field.exec(text);
    if (!found) break;
    if (fields.has(found[1]!)) throw corrupt(name, "each of NumPy's fields once", at + rest, `${found[1]} again`);
    fields.set(found[1]!, found[2]!);
  }
  if (!/^\s*\}\s*$/.test(text.slice(rest)))
    throw corrupt(name, "the header of NumPy's format", at + rest, show(text.slice(rest, rest + 40)));
  const [descr, order, shape] = ['descr', 'fortran_order', 'shape'].map((key) => fields.get(key));
  if (!descr || !/^['[]/.test(descr) || !order || !/^[TF]/.test(order) || !shape?.startsWith('('))
    throw corrupt(name, 'a descr, a fortran_order and a shape', at, show(text.slice(0, 80)));
  const sizes = shape.slice(1, -1).split(',');
  if (sizes.at(-1)?.trim() === '') sizes.pop();
  const numbers = sizes.map((size) => (/^\s*\d+L?\s*$/.test(size) ? Number.parseInt(size, 10) : Number.NaN));
  return { descr: descr.replace(/^'|'$/g, ''), isFortran: order === 'True', shape: numbers };
}

// Pickles.

/** A dtype; its byte order comes with its state. */
class NumpyType extends PickleObject {
  readonly kind = 'a dtype';
  descr: string;

  constructor(descr: string) {
    super();
    this.descr = descr;
  }

  /** (version, byte order, ...) */
  override build(state: PickleValue, site: PickleSite): void {
    const order = state instanceof PickleTuple ? state.items[1] : undefined;
    if (typeof order !== 'string' || !/^[<>|=]$/.test(order)) throw site.fault('the byte order of a dtype', kindOf(order));
    this.descr = order + this.descr.replace(/^[<>|=]/, '');
  }
}

/** An array; its numbers come with its state. One of other things than numbers stays without a tensor. */
class ArrayValue extends TensorValue {
  override kind = 'an array without numbers';

  /** (version, shape, dtype, whether the first index runs fastest, numbers) */
  override build(state: PickleValue, site: PickleSite): void {
    const [, shape, type, isFortran, data] = state instanceof PickleTuple ? state.items : [];
    this.fill({ shape, type, data, arrange: isFortran === true || isFortran === 1 ? inColumns : inRows }, site);
  }

  fill(
    { shape, type, data, arrange }: Record<'shape' | 'type' | 'data', PickleValue | undefined> & { arrange: Arrange },
    site: PickleSite,
  ): void {
    if (!(shape instanceof PickleTuple) || !(type instanceof NumpyType)) {
      throw site.fault('the shape and the dtype of an array', `${kindOf(shape)} and ${kindOf(type)}`);
    }
    const numbers = numberType(type.descr);
    this.kind = `an array of ${show(type.descr)}`;
    if (!numbers) return;
    const made = arrayOf(memoryPlace(bytesOf(data, site), site.name), numbers, shape.items, arrange);
    if (!(made instanceof StoredTensor)) throw site.fault(...made);
    this.tensor = made;
  }
}

/** Python 2's str is a text when it is short. */
function bytesOf(data: PickleValue | undefined, site: PickleSite): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if (typeof data !== 'string') throw site.fault('the bytes of an array', kindOf(data));
  site.spend(data.length);
  return Buffer.from(data, 'latin1');
}

const reconstruct: PickleCall = () => new ArrayValue();

const fromBuffer: PickleCall = ([data, type, shape, order, axes], site) => {
  const arrange = order === 'F' ? inColumns : order === 'K' ? transposed(axes, site) : inRows;
  const array = new ArrayValue();
  array.fill({ shape, type, data, arrange }, site);
  return array;
};

/** In rows, and seen with its axes in another order. */
function transposed(axes: PickleValue | undefined, site: PickleSite): Arrange {
  const order = axes instanceof PickleTuple ? axes.items : [];
  return (shape) => {
    const isOrder = order.length === shape.length && shape.every((_, axis) => order.includes(axis));
    if (!isOrder) throw site.fault(`an order of ${shape.length} axes`, kindOf(axes));
    const strides = rowMajor(shape);
    return { shape: order.map((axis) => shape[axis as number]!), strides: order.map((axis) => strides[axis as number]!) };
  };
}

const dtype: PickleCall = ([descr], site) => {
  if (typeof descr !== 'string') throw site.fault('the name of a dtype', kindOf(descr));
  return new NumpyType(descr);
};

/** One number by itself. */
const scalar: PickleCall = ([type, data], site) => {
  if (!(type instanceof NumpyType)) throw site.fault('a dtype', kindOf(type));
  const numbers = numberType(type.descr);
  if (!numbers) return type.descr.replace(/^[<>|=]/, '');
  const bytes = bytesOf(data, site);
  if (bytes.length !== bytesOfType(numbers.dtype)) throw site.fault(`${bytesOfType(numbers.dtype)} bytes of a number`, `${bytes.length}`);
  return scalarOf(numbers.dtype, bytes, numbers.isLittle);
};

/** NumPy 2 moved numpy.core to numpy._core. */
export const numpyGlobals: ReadonlyMap<string, PickleCall | null> = new Map<string, PickleCall | null>([
  ...['core', '_core'].flatMap((core): [string, PickleCall][] => [
    [`numpy.${core}.multiarray._reconstruct`, reconstruct],
    [`numpy.${core}.multiarray.scalar`, scalar],
    [`numpy.${core}.numeric._frombuffer`, fromBuffer],
  ]),
  ['numpy.dtype', dtype],
  ['numpy.ndarray', null],
  ...['float64', 'float32', 'float16', 'int64', 'int32', 'uint8', 'bool_'].map((name): [string, null] => [`numpy.${name}`, null]),
]);
