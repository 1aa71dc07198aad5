// Reads what torch.save() writes: the zip archive of today (data.pkl, data/<key>) and the stream of before 1.6 (five pickles, then the storages).
// Only the pickles are read here; the numbers of a tensor stay in the file until somebody asks for them.
import { crc32 } from 'node:zlib';
import { show } from '../errors.js';
import { joined, plainGlobals, TensorValue } from './globals.js';
import { numpyGlobals } from './numpy.js';
import { persistenceGlobals } from './persistence.js';
import { PickleEnd, type PickleOptions, readPickle } from './pickle.js';
import { type ByteSource, corrupt, MemorySource, readBytes, unread } from './source.js';
import {
  bytesOfType,
  type DType,
  elementsOf,
  type Layout,
  layoutFault,
  type Place,
  type Storage,
  StoredTensor,
  storageIn,
  wrongSum,
} from './stored.js';
import {
  kindOf,
  type PickleCall,
  PickleDict,
  PickleGlobal,
  PickleObject,
  type PickleSite,
  PickleTuple,
  type PickleValue,
} from './values.js';
import { beginOf, readZipDirectory, type ZipEntry } from './zip.js';

/** What a pickle holds, and how many opcodes it has: a measure of how many values there can be. */
export interface PickleRoot {
  root: PickleValue;
  ops: number;
}

/** The first pickle of a stream. */
const kMagic = 0x1950a86a20f9469cfc6cn;
/** In protocols 2 and later, behind the protocol or behind that and a frame. */
const kMagicBytes = Buffer.from('8a0a6cfc9c46f9206aa85019', 'hex');
const kStreamVersion = 1001;
/** Bytes in which the pickles of a stream are looked for first, and at most. */
const kFirstBytes = 2 ** 18;
const kMostBytes = 2 ** 26;

/** Numbers that lie elsewhere in the file. */
class StorageValue extends PickleObject {
  readonly kind = 'a storage';
  readonly storage: Storage;

  constructor(storage: Storage) {
    super();
    this.storage = storage;
  }
}

const storageTypes: ReadonlyMap<string, DType> = new Map<string, DType>(
  (
    [
      ['DoubleStorage', 'F64'],
      ['FloatStorage', 'F32'],
      ['HalfStorage', 'F16'],
      ['BFloat16Storage', 'BF16'],
      ['LongStorage', 'I64'],
      ['IntStorage', 'I32'],
      ['ShortStorage', 'I16'],
      ['CharStorage', 'I8'],
      ['ByteStorage', 'U8'],
      ['BoolStorage', 'BOOL'],
      ['UntypedStorage', 'U8'],
    ] as const
  ).flatMap(([name, dtype]) => ['torch', 'torch.cuda', 'torch.storage'].map((module): [string, DType] => [`${module}.${name}`, dtype])),
);

const dtypes: ReadonlyMap<string, DType> = new Map<string, DType>([
  ['torch.float64', 'F64'],
  ['torch.float32', 'F32'],
  ['torch.float16', 'F16'],
  ['torch.bfloat16', 'BF16'],
  ['torch.int64', 'I64'],
  ['torch.int32', 'I32'],
  ['torch.int16', 'I16'],
  ['torch.int8', 'I8'],
  ['torch.uint64', 'U64'],
  ['torch.uint32', 'U32'],
  ['torch.uint16', 'U16'],
  ['torch.uint8', 'U8'],
  ['torch.bool', 'BOOL'],
]);

function tensorOf(storage: Storage, args: readonly PickleValue[], metadata: PickleValue | undefined, site: PickleSite): TensorValue {
  const [, offset, shape, strides] = args;
  if (!(shape instanceof PickleTuple) || !(strides instanceof PickleTuple)) {
    throw site.fault('tuples for the shape and strides of a tensor', `${kindOf(shape)} and ${kindOf(strides)}`);
  }
  // Whether they are whole numbers is the first thing that is looked at.
  const layout = { shape: shape.items, strides: strides.items, offset } as Layout;
  const fault = layoutFault(storage.count, layout);
  if (fault) throw site.fault(...fault);
  const elements = elementsOf(layout.shape);
  if (elements > storage.count) {
    const rule = `a tensor of at most the ${storage.count} elements that are stored`;
    throw site.refuse(rule, `${elements}: it repeats numbers`, 'Save tensor.contiguous() in place of an expanded tensor.');
  }
  // Such as a negative bit, by which what is stored is not what the tensor is.
  if (metadata instanceof PickleDict && metadata.size > 0)
    throw site.refuse('a tensor as it is stored', 'a view of one', 'Save tensor.clone() in its place.');
  return new TensorValue(new StoredTensor(storage, layout));
}

function storageOf(value: PickleValue | undefined, site: PickleSite): Storage {
  if (!(value instanceof StorageValue)) throw site.fault('the storage of a tensor', kindOf(value));
  return value.storage;
}

const rebuildTensor: PickleCall = (args, site) => tensorOf(storageOf(args[0], site), args, args[6], site);

/** For types that have no storage of their own. */
const rebuildTyped: PickleCall = (args, site) => {
  const storage = storageOf(args[0], site);
  const named = args[6] instanceof PickleGlobal ? args[6].name : kindOf(args[6]);
  const dtype = dtypes.get(named);
  if (!dtype) throw site.fault('the type of a tensor', named);
  const bytes = storage.count * bytesOfType(storage.dtype);
  return tensorOf({ ...storage, dtype, count: Math.floor(bytes / bytesOfType(dtype)) }, args, args[7], site);
};

/** A parameter is its tensor. */
const rebuildParameter: PickleCall = ([data], site) => {
  if (!(data instanceof TensorValue)) throw site.fault('the tensor of a parameter', kindOf(data));
  return data;
};

/** A tensor with a class or attributes: what it is made with does it alone. Not this again, or tuples could nest until the stack runs out. */
const rebuildFromType: PickleCall = ([make, , args], site) => {
  if (!(make instanceof PickleGlobal) || !make.call || make.call === rebuildFromType || !(args instanceof PickleTuple)) {
    throw site.fault('a name and its arguments', `${kindOf(make)} and ${kindOf(args)}`);
  }
  return make.call(args.items, site);
};

const size: PickleCall = ([items], site) => {
  if (!(items instanceof PickleTuple)) throw site.fault('a tuple of sizes', kindOf(items));
  return items;
};

const device: PickleCall = ([kind, index], site) => {
  if (typeof kind !== 'string') throw site.fault('the name of a device', kindOf(kind));
  site.spend(kind.length);
  return index === undefined ? kind : `${kind}:${kindOf(index)}`;
};

/** A storage that a plain pickle brings along: a stream of its own. */
const loadFromBytes: PickleCall = ([bytes], site) => {
  if (!(bytes instanceof Uint8Array)) throw site.fault('the bytes of a storage', kindOf(bytes));
  site.spend(bytes.length);
  const source = new MemorySource(bytes, `${site.name} (a storage within)`);
  const stream = readStream(bytes, source, streamGlobals);
  const places = placeStorages(stream, source);
  for (let next = places.next(); !next.done; next = places.next(bytes.subarray(next.value, next.value + 8)));
  return stream.root;
};

const storageGlobals: ReadonlyMap<string, null> = new Map([...storageTypes.keys(), ...dtypes.keys()].map((name) => [name, null]));

const tensorGlobals: ReadonlyMap<string, PickleCall | null> = new Map<string, PickleCall | null>([
  ['torch._utils._rebuild_tensor', rebuildTensor],
  ['torch._utils._rebuild_tensor_v2', rebuildTensor],
  ['torch._utils._rebuild_tensor_v3', rebuildTyped],
  ['torch._utils._rebuild_parameter', rebuildParameter],
  ['torch._utils._rebuild_parameter_with_state', rebuildParameter],
  ['torch._tensor._rebuild_from_type_v2', rebuildFromType],
  ['torch.Size', size],
  ['torch.device', device],
  ['torch.Tensor', null],
  ['torch.nn.parameter.Parameter', null],
]);

/** Names in a stream within a pickle, which may not hold another one in turn. */
const streamGlobals = joined(plainGlobals, numpyGlobals, storageGlobals, tensorGlobals);
/** Names in all other pickles. */
export const torchGlobals = joined(streamGlobals, persistenceGlobals, new Map([['torch.storage._load_from_bytes', loadFromBytes]]));

/** What stands for a storage in a pickle: ('storage', its type, key, device, count, and in streams perhaps which part of it). */
function storageId(id: PickleValue, site: PickleSite): { dtype: DType; key: string; count: number; part: PickleValue } {
  const items = id instanceof PickleTuple ? id.items : [];
  const [word, type, key, , count, part = null] = items;
  const dtype = type instanceof PickleGlobal ? storageTypes.get(type.name) : undefined;
  if (word !== 'storage' || !dtype || typeof key !== 'string') throw site.fault('a storage with type and key', kindOf(id));
  if (typeof count !== 'number' || !Number.isSafeInteger(count) || count < 0) throw site.fault('the size of a storage', kindOf(count));
  return { dtype, key, count, part };
}

// The archive.

/** Reads the pickle of a torch archive; of the storages it names each is looked up. @throws ComFaceError CORRUPT_FILE, INVALID_INPUT, IO. */
export async function readTorchArchive(source: ByteSource): Promise<PickleRoot> {
  const entries = await readZipDirectory(source);
  const folder = folderOf(source, entries);
  await checkByteOrder(source, entries.get(`${folder}/byteorder`));
  const data = entries.get(`${folder}/data.pkl`)!;
  const base = await beginOf(source, data);
  const bytes = await readBytes(source, base, data.size);
  const sum = crc32(bytes);
  if (data.crc !== 0 && sum !== data.crc) throw wrongSum(source.name, base, data.crc, sum);
  const named = new Map<ZipEntry, Place>();
  const persistent: PickleOptions['persistent'] = (id, site) => {
    const { dtype, key, count } = storageId(id, site);
    const entry = entries.get(`${folder}/data/${key}`);
    if (!entry) throw site.fault(`an entry ${show(`${folder}/data/${key}`)} in the archive`, 'none');
    const place = named.get(entry) ?? { source, at: undefined, bytes: entry.size, ...(entry.crc !== 0 && { crc: entry.crc }) };
    named.set(entry, place);
    const storage = storageIn(place, dtype);
    if (storage.count !== count)
      throw site.fault(
        `a storage of the ${entry.size} bytes of ${show(entry.name)}`,
        `one of ${count} numbers of ${bytesOfType(dtype)} bytes`,
      );
    return new StorageValue(storage);
  };
  const { value, ops } = readPickle(bytes, { name: source.name, globals: torchGlobals, persistent, base });
  for (const [entry, place] of named) place.at = await beginOf(source, entry);
  return { root: value, ops };
}

/** The one folder that everything lies in; what is another kind of archive is named. */
function folderOf(source: ByteSource, entries: ReadonlyMap<string, ZipEntry>): string {
  const names = [...entries.keys()];
  const [first, ...more] = names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const refuse = (kind: string, hint: string) => unread(source.name, 'an archive of torch.save()', 0, kind, hint);
  if (first === undefined) {
    if (names.length > 0 && names.every((name) => name.endsWith('.npy')))
      throw refuse("NumPy's .npz", 'Save the arrays as safetensors or one by one as .npy.');
    const kind = names.some((name) => name.endsWith('.weights.h5')) ? 'a Keras model' : `a zip archive of ${names.length} other files`;
    throw refuse(kind, 'Name the weights file itself; unzip the archive if they are in it.');
  }
  if (more.length > 0) throw corrupt(source.name, 'one data.pkl in the archive', 0, `${more.length + 1}`);
  const folder = first.slice(0, first.indexOf('/'));
  if (entries.has(`${folder}/constants.pkl`) || names.some((name) => name.startsWith(`${folder}/code/`))) {
    throw refuse('a TorchScript program', 'Save its weights alone in Python: torch.save(torch.jit.load(file).state_dict(), other).');
  }
  return folder;
}

async function checkByteOrder(source: ByteSource, entry: ZipEntry | undefined): Promise<void> {
  if (!entry) return; // before torch 2.1
  const at = await beginOf(source, entry);
  const order = Buffer.from(await readBytes(source, at, Math.min(entry.size, 16))).toString('latin1');
  if (order === 'big') throw bigEndian(source, at);
  if (order !== 'little') throw corrupt(source.name, '"little" or "big"', at, show(order));
}

const bigEndian = ({ name }: ByteSource, at: number) =>
  unread(
    name,
    'numbers in little-endian order',
    at,
    'big-endian ones',
    'Load and save it again on a machine with an x86 or Arm processor.',
  );

// The stream.

interface Stream extends PickleRoot {
  /** In the order in which they lie in the file. */
  storages: Storage[];
  /** Byte of the source behind the pickles, where the storages begin. */
  end: number;
}

/** Whether bytes begin with a stream's magic number, in any protocol. */
export function isTorchStream(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64));
  const at = head.indexOf(kMagicBytes);
  return (head[0] === 0x80 && (at === 2 || at === 11)) || head.toString('latin1').startsWith(`L${kMagic}L\n`);
}

/** Reads the pickles of a stream and where its storages lie. @throws ComFaceError CORRUPT_FILE, INVALID_INPUT, IO. */
export async function readTorchStream(source: ByteSource): Promise<PickleRoot> {
  let stream: Stream | undefined;
  for (let length = Math.min(kFirstBytes, source.size); !stream; length = Math.min(4 * length, source.size)) {
    const bytes = await readBytes(source, 0, length);
    try {
      stream = readStream(bytes, source, torchGlobals);
    } catch (error) {
      if (!(error instanceof PickleEnd) || length === source.size || length >= kMostBytes) throw error;
    }
  }
  const places = placeStorages(stream, source);
  for (let next = places.next(); !next.done; ) next = places.next(await readBytes(source, next.value, 8));
  return stream;
}

/** Reads the five pickles that a stream begins with. */
function readStream(bytes: Uint8Array, source: ByteSource, globals: ReadonlyMap<string, PickleCall | null>): Stream {
  const { name } = source;
  let at = 0;
  let ops = 0;
  const next = (more: Partial<PickleOptions> = {}): PickleValue => {
    const read = readPickle(bytes, { name, globals: new Map(), ...more, at });
    at = read.end;
    ops += read.ops;
    return read.value;
  };
  const magic = next();
  if (magic !== kMagic) throw corrupt(name, "the number that torch's streams begin with", 0, kindOf(magic));
  const version = next();
  if (version !== kStreamVersion) throw corrupt(name, `version ${kStreamVersion} of torch's streams`, 0, kindOf(version));
  const system = next();
  if (system instanceof PickleDict && system.get('little_endian') === false) throw bigEndian(source, 0);
  const found = new StreamStorages(source);
  const root = next({ globals, persistent: (id, site) => found.get(id, site) });
  const keysAt = at;
  const keys = next();
  if (!Array.isArray(keys)) throw corrupt(name, 'a list of storages', keysAt, kindOf(keys));
  const storages = keys.map((key) => {
    const storage = found.byKey.get(key);
    if (!storage) throw corrupt(name, 'a list of the storages that were named', keysAt, kindOf(key));
    found.byKey.delete(key);
    return storage;
  });
  for (const [key] of found.byKey) throw corrupt(name, `storage ${kindOf(key)} in the list of storages`, keysAt, 'none');
  return { root, ops, storages, end: at };
}

/** The storages that a stream's object names, before it is known where they are. */
class StreamStorages {
  readonly byKey = new Map<PickleValue, Storage>();
  readonly #source: ByteSource;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  get(id: PickleValue, site: PickleSite): StorageValue {
    const { dtype, key, count, part } = storageId(id, site);
    const known = this.byKey.get(key);
    if (known && (known.dtype !== dtype || known.count !== count))
      throw site.fault(`storage ${show(key)} as before`, `${count} numbers of ${dtype}`);
    const storage = known ?? storageIn({ source: this.#source, at: undefined, bytes: count * bytesOfType(dtype) }, dtype);
    this.byKey.set(key, storage);
    return new StorageValue(part === null ? storage : partOf(storage, part, site));
  }
}

/** Old streams name parts of storages: (key, offset, count). */
function partOf(storage: Storage, part: PickleValue, site: PickleSite): Storage {
  const [, offset, count] = part instanceof PickleTuple ? part.items : [];
  const fault = layoutFault(storage.count, { shape: [count as number], strides: [1], offset: offset as number });
  if (fault) throw site.fault(...fault);
  return { ...storage, count: count as number, skip: (offset as number) * bytesOfType(storage.dtype) };
}

/** Walks over the storages behind the pickles: a count of 8 bytes and the numbers, each. Yields where it needs 8 bytes and is given them. */
function* placeStorages({ storages, end }: Stream, { name, size: fileBytes }: ByteSource): Generator<number, void, Uint8Array> {
  let at = end;
  for (const { count, place } of storages) {
    if (at + 8 + place.bytes > fileBytes) throw corrupt(name, `a storage of ${place.bytes} bytes`, at, `${fileBytes} bytes in all`);
    const head = yield at;
    const stored = new DataView(head.buffer, head.byteOffset, 8).getBigInt64(0, true);
    if (stored !== BigInt(count)) throw corrupt(name, `a storage of ${count} numbers`, at, `one of ${stored}`);
    place.at = at + 8;
    at += 8 + place.bytes;
  }
}
