// Opens a weights file of any container and gives its tensors by dotted names, such as `state_dict.layer1.0.conv1.weight`. Nothing in a file is run,
// and numbers are read when somebody asks for a tensor's.
import { ComFaceError, show } from '../errors.js';
import { PickleRecord, TensorValue } from './globals.js';
import { type Container, containerOf } from './kinds.js';
import { readNpy } from './numpy.js';
import { ModuleValue } from './persistence.js';
import { readPickle } from './pickle.js';
import { readSafetensors } from './safetensors.js';
import { type ByteSource, corrupt, FileSource, readBytes } from './source.js';
import type { StoredTensor } from './stored.js';
import { type PickleRoot, readTorchArchive, readTorchStream, torchGlobals } from './torchfile.js';
import { kindOf, PickleDict, PickleGlobal, PickleObject, PickleSet, PickleTuple, type PickleValue } from './values.js';

/** What stands in a file beside its tensors; lists and what else is no single value are described in words. */
export type PlainValue = null | boolean | number | bigint | string;

export interface WeightsFile {
  path: string;
  container: Container;
  /** By their dotted names, in the order of the file; a file that is one tensor calls it `tensor`. */
  tensors: Map<string, StoredTensor>;
  /** All else, such as `epoch` and `arch`, by dotted names too. */
  others: Map<string, PlainValue>;
}

/** Pickles with their arrays in them are read whole. */
const kMostPickleBytes = 2 ** 32;
const kMostDepth = 64;

/**
 * Reads a weights file: safetensors, torch (archive or the older stream), a plain pickle of arrays, .npy; told by its bytes and not by its name.
 *
 * @throws ComFaceError IO; CORRUPT_FILE with the byte offset; INVALID_INPUT for files of another kind, and for pickles that name code.
 */
export async function readWeightsFile(path: string): Promise<WeightsFile> {
  const source = new FileSource(path);
  return source.during(() => readWeights(source));
}

/** {@link readWeightsFile} of bytes that are elsewhere. */
export async function readWeights(source: ByteSource): Promise<WeightsFile> {
  const container = await containerOf(source);
  const file: WeightsFile = { path: source.name, container, tensors: new Map(), others: new Map() };
  if (container === 'safetensors') {
    const { tensors, metadata } = await readSafetensors(source);
    file.tensors = tensors;
    for (const [name, text] of Object.entries(metadata)) file.others.set(name, text);
  } else if (container === 'npy') file.tensors.set('tensor', await readNpy(source));
  else {
    const read = { torch: readTorchArchive, 'torch-legacy': readTorchStream, pickle: readPlainPickle }[container];
    new Flattening(file, await read(source)).run();
  }
  return file;
}

async function readPlainPickle(source: ByteSource): Promise<PickleRoot> {
  if (source.size > kMostPickleBytes) {
    throw new ComFaceError(
      'INVALID_INPUT',
      `${source.name}: expected a pickle of at most ${kMostPickleBytes} bytes but found ${source.size}`,
      {
        hint: 'Save the weights as safetensors.',
      },
    );
  }
  const bytes = await readBytes(source, 0, source.size);
  const { value, end, ops } = readPickle(bytes, { name: source.name, globals: torchGlobals });
  if (end !== bytes.length) throw corrupt(source.name, 'the end of the file', end, `${bytes.length - end} bytes more`);
  return { root: value, ops };
}

/** Names what a tree holds. The tree may hold itself or one part many times over: what a name costs is counted. */
class Flattening {
  readonly #file: WeightsFile;
  readonly #root: PickleValue;
  /** Containers on the way to where we are. */
  readonly #open = new Set<PickleValue>();
  /** Values that may still be looked at, and letters of names made. */
  #visits: number;
  #letters: number;

  constructor(file: WeightsFile, { root, ops }: PickleRoot) {
    this.#file = file;
    this.#root = root;
    this.#visits = 64 + 4 * ops;
    this.#letters = 2 ** 18 + 64 * ops;
  }

  run(): void {
    this.#visit(this.#root, '', 0);
  }

  #visit(value: PickleValue, name: string, depth: number): void {
    this.#spend(1, name.length);
    if (value instanceof TensorValue && value.tensor) {
      this.#put(name || 'tensor', value.tensor);
      return;
    }
    const children = this.#open.has(value) ? undefined : this.#childrenOf(value);
    if (!children) {
      this.#file.others.set(name || 'value', this.#open.has(value) ? 'itself' : plainOf(value));
      return;
    }
    if (depth === kMostDepth) throw this.#refusal(`values at most ${kMostDepth} deep`, 'deeper ones');
    this.#open.add(value);
    for (const [key, child] of children) this.#visit(child, name === '' ? key : `${name}.${key}`, depth + 1);
    this.#open.delete(value);
  }

  /** What is named one by one: entries, attributes, and the items of lists in which there is more than single values. */
  #childrenOf(value: PickleValue): Iterable<[string, PickleValue]> | undefined {
    if (value instanceof PickleRecord) return this.#childrenOf(value.attributes);
    if (value instanceof ModuleValue) return named(value.entries());
    if (value instanceof PickleDict) return value.size > 0 ? named(value) : undefined;
    const items = value instanceof PickleTuple || value instanceof PickleSet ? value.items : value;
    if (!Array.isArray(items)) return undefined;
    this.#spend(items.length, 0);
    return items.some(isMany) ? items.map((item, i): [string, PickleValue] => [String(i), item]) : undefined;
  }

  #put(name: string, tensor: StoredTensor): void {
    const { tensors } = this.#file;
    if (tensors.has(name)) throw this.#refusal('each tensor under a name of its own', `two called ${show(name)}`);
    tensors.set(name, tensor);
  }

  #spend(visits: number, letters: number): void {
    this.#visits -= visits;
    this.#letters -= letters;
    if (this.#visits < 0 || this.#letters < 0) throw this.#refusal('a tree of values', 'one whose parts stand in too many places');
  }

  #refusal(rule: string, found: string): ComFaceError {
    return new ComFaceError('INVALID_INPUT', `${this.#file.path}: expected ${rule} but found ${found}`, {
      hint: 'Save the weights alone in Python: torch.save(model.state_dict(), file).',
    });
  }
}

const isMany = (value: PickleValue): boolean =>
  typeof value === 'object' && value !== null && !(value instanceof Uint8Array) && !(value instanceof PickleGlobal);

function* named(entries: Iterable<[PickleValue, PickleValue]>): Generator<[string, PickleValue]> {
  for (const [key, value] of entries) yield [keyText(key), value];
}

function keyText(key: PickleValue): string {
  if (typeof key === 'string') return key;
  return key instanceof Uint8Array ? Buffer.from(key.subarray(0, 200)).toString('latin1') : kindOf(key);
}

function plainOf(value: PickleValue): PlainValue {
  if (value === null || typeof value !== 'object') return value;
  if (value instanceof PickleGlobal) return value.name;
  if (value instanceof PickleObject || value instanceof PickleDict || value instanceof Uint8Array) return kindOf(value);
  const items = Array.isArray(value) ? value : value.items;
  const most = 8;
  const shown = items.slice(0, most).map((item) => kindOf(item));
  return `[${shown.join(', ')}${items.length > most ? `, ... ${items.length} in all` : ''}]`;
}
