// A simulated disk for checkpoints: it lists what a power loss may leave after every single change, and fails the calls it is told to.
// It knows what POSIX promises and no more: bytes are there after fsync, names after an fsync of their folder, renames come whole.
import { basename, dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type CheckpointState, latestCheckpoint, saveCheckpoint } from '../../lib/train/checkpoint.ts';
import { diskOn, type FileCalls } from '../../lib/train/files.ts';

interface File {
  bytes: Uint8Array;
  synced: boolean;
}
/** One change of a folder: names that come and names that go, together. */
type Change = [string, Entry | undefined][];
interface Folder {
  now: Map<string, Entry>;
  /** What the disk holds of it for certain, and what may or may not have arrived since, in order. */
  durable: Map<string, Entry>;
  pending: Change[];
}
export type Entry = File | Folder;
/** What is found after a crash. */
export type Tree = Map<string, Tree | Uint8Array>;

export const isFolder = (entry: Entry | undefined): entry is Folder => entry !== undefined && 'now' in entry;
export const errno = (code: string) => Object.assign(new Error(`${code}: simulated`), { code });

/** Stands for node:fs/promises. After each change calls `onChange`, when a crash may come. */
export class SimulatedDisk implements FileCalls {
  root: Folder = { now: new Map(), durable: new Map(), pending: [] };
  onChange = () => {};
  /** As checkpoints see it: by way of the package's own calls. */
  readonly files = diskOn(this);

  static from(tree: Tree): SimulatedDisk {
    const grow = (branch: Tree): Folder => {
      const now = new Map([...branch].map(([name, leaf]) => [name, leaf instanceof Map ? grow(leaf) : { bytes: leaf, synced: true }]));
      return { now, durable: new Map(now), pending: [] };
    };
    const made = new SimulatedDisk();
    made.root = grow(tree);
    return made;
  }

  find(path: string): Entry | undefined {
    let at: Entry | undefined = this.root;
    for (const name of path.split('/').filter(Boolean)) at = isFolder(at) ? at.now.get(name) : undefined;
    return at;
  }

  folder(path: string): Folder {
    const found = this.find(path);
    if (!isFolder(found)) throw errno(found === undefined ? 'ENOENT' : 'ENOTDIR');
    return found;
  }

  change(folder: Folder, change: Change): void {
    apply(folder.now, change);
    folder.pending.push(change);
    this.onChange();
  }

  async mkdir(path: string): Promise<string | undefined> {
    if (isFolder(this.find(path))) return undefined;
    const above = await this.mkdir(dirname(path));
    this.change(this.folder(dirname(path)), [[basename(path), { now: new Map(), durable: new Map(), pending: [] }]]);
    return above ?? path;
  }

  async open(path: string, flags: 'r' | 'w'): ReturnType<FileCalls['open']> {
    const found = this.find(path);
    if (flags === 'r' && found === undefined) throw errno('ENOENT');
    if (flags === 'w' && isFolder(found)) throw errno('EISDIR');
    const entry = flags === 'w' ? this.create(path) : found!;
    return {
      writeFile: async (bytes) => {
        if (isFolder(entry) || flags === 'r') throw errno('EBADF');
        entry.bytes = bytes.slice();
        entry.synced = false;
        this.onChange();
      },
      sync: async () => this.sync(entry),
      close: async () => {},
    };
  }

  create(path: string): File {
    const file: File = { bytes: new Uint8Array(), synced: false };
    this.change(this.folder(dirname(path)), [[basename(path), file]]);
    return file;
  }

  sync(entry: Entry): void {
    if (isFolder(entry)) {
      entry.durable = new Map(entry.now);
      entry.pending = [];
    } else entry.synced = true;
    this.onChange();
  }

  async rename(from: string, to: string): Promise<void> {
    const entry = this.find(from);
    const target = this.find(to);
    if (entry === undefined) throw errno('ENOENT');
    if (isFolder(target) && target.now.size > 0) throw errno('ENOTEMPTY');
    if (dirname(from) !== dirname(to)) throw errno('EXDEV');
    this.change(this.folder(dirname(from)), [
      [basename(from), undefined],
      [basename(to), entry],
    ]);
  }

  async readdir(path: string): Promise<string[]> {
    return [...this.folder(path).now.keys()];
  }

  async readFile(path: string): Promise<Uint8Array> {
    const found = this.find(path);
    if (found === undefined || isFolder(found)) throw errno(found === undefined ? 'ENOENT' : 'EISDIR');
    return found.bytes;
  }

  async rm(path: string): Promise<void> {
    const found = this.find(path);
    if (found === undefined) return;
    if (isFolder(found)) for (const name of [...found.now.keys()]) await this.rm(join(path, name));
    this.change(this.folder(dirname(path)), [[basename(path), undefined]]);
  }
}

function apply(names: Map<string, Entry>, change: Change): void {
  for (const [name, entry] of change) {
    if (entry === undefined) names.delete(name);
    else names.set(name, entry);
  }
}

/** Every tree that may be found: of each folder any of its pending changes, of each unsynced file all, half, zeros or nothing. */
export function* crashes(folder: Folder): Generator<Tree> {
  for (let arrived = 0; arrived < 1 << folder.pending.length; arrived++) {
    const names = new Map(folder.durable);
    for (const [bit, change] of folder.pending.entries()) if (arrived & (1 << bit)) apply(names, change);
    yield* combine([...names]);
  }
}

function* combine([first, ...rest]: [string, Entry][]): Generator<Tree> {
  if (first === undefined) {
    yield new Map();
    return;
  }
  const [name, entry] = first;
  for (const leaf of isFolder(entry) ? crashes(entry) : tears(entry)) {
    for (const tree of combine(rest)) yield new Map([[name, leaf], ...tree]);
  }
}

/** The same arrays each time: keyOf() knows them again. */
const torn = new WeakMap<Uint8Array, Uint8Array[]>();

function tears({ bytes, synced }: File): Uint8Array[] {
  if (synced) return [bytes];
  const all = torn.get(bytes) ?? [bytes, bytes.slice(0, bytes.length / 2), new Uint8Array(bytes.length), new Uint8Array()];
  torn.set(bytes, all);
  return all;
}

const contents = new Map<string, number>();
const contentOf = new WeakMap<Uint8Array, number>();

/** A number for the contents of a file. */
function numberOf(bytes: Uint8Array): number {
  let id = contentOf.get(bytes);
  if (id === undefined) {
    const text = Buffer.from(bytes).toString('latin1');
    id = contents.get(text) ?? contents.size;
    contents.set(text, id);
    contentOf.set(bytes, id);
  }
  return id;
}

/** The same text for trees that hold the same. */
export const keyOf = (tree: Tree): string =>
  [...tree]
    .map(([name, leaf]) => (leaf instanceof Map ? `${name}{${keyOf(leaf)}}` : `${name}=${numberOf(leaf)}`))
    .sort()
    .join(' ');

export function stateOf(step: number, salt = 0): CheckpointState {
  const data = new Float32Array([step, salt, -0, 1e-45, 0.1]);
  return {
    step,
    weights: new Map([
      ['conv1.weight', { dtype: 'F32', shape: [5], data }],
      ['bn1.num_batches_tracked', { dtype: 'I64', shape: [], data: BigInt64Array.of(BigInt(step)) }],
    ]),
    optimizer: new Map([['conv1.weight.exp_avg', { dtype: 'F32', shape: [5, 1], data: data.map((value) => value / 3) }]]),
    info: { seed: '1', config: { size: 64, note: 'ä' } },
  };
}

/** Which step the newest good checkpoint holds; null for none. Throws when it is not what was saved, bit for bit. */
export async function newest(made: SimulatedDisk): Promise<number | null> {
  const found = await latestCheckpoint('/run', { files: made.files });
  if (found === null) return null;
  const { path, ...state } = found;
  if (path !== `/run/checkpoints/step-0000000${state.step}` || !isDeepStrictEqual(state, stateOf(state.step))) {
    throw new Error(`${path} holds something else than was saved`);
  }
  return state.step;
}

export const empty = () => SimulatedDisk.from(new Map([['run', new Map()]]));

/** A disk at rest that holds the checkpoints of these steps. */
export async function holding(...steps: number[]): Promise<SimulatedDisk> {
  const made = empty();
  for (const step of steps) await saveCheckpoint('/run', stateOf(step), { keep: 9, files: made.files });
  return settled(made);
}

/** As after a clean unmount. */
function settled(made: SimulatedDisk): SimulatedDisk {
  const tree = (folder: Folder): Tree =>
    new Map([...folder.now].map(([name, entry]) => [name, isFolder(entry) ? tree(entry) : entry.bytes]));
  return SimulatedDisk.from(tree(made.root));
}

export function damage(made: SimulatedDisk, path: string, edit: (bytes: Uint8Array) => Uint8Array): void {
  const file = made.find(path);
  if (file === undefined || isFolder(file)) throw errno('ENOENT');
  file.bytes = edit(file.bytes.slice());
}

export const flip = (bit: number) => (bytes: Uint8Array) => {
  bytes.set([(bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))], bit >> 3);
  return bytes;
};

export interface Fault {
  /** Which file call fails, counted from 1. */
  at: number;
  code: string;
  /** All calls from there on. */
  forGood: boolean;
}

/** Fails the calls it is told to, those on open files counted like the others; a write then leaves half its bytes. */
export function failing(made: SimulatedDisk, ...faults: readonly Fault[]) {
  const counter = { calls: 0 };
  const mayFail = () => {
    const call = ++counter.calls;
    const fault = faults.find(({ at, forGood }) => call === at || (forGood && call > at));
    if (fault !== undefined) throw errno(fault.code);
  };
  const unlessFailing = async <T>(call: () => Promise<T>): Promise<T> => {
    mayFail();
    return call();
  };
  const calls: FileCalls = {
    async open(path, flags) {
      mayFail();
      const handle = await made.open(path, flags);
      return {
        async writeFile(bytes) {
          try {
            mayFail();
          } catch (error) {
            await handle.writeFile(bytes.slice(0, bytes.length / 2));
            throw error;
          }
          await handle.writeFile(bytes);
        },
        sync: () => unlessFailing(() => handle.sync()),
        close: () => unlessFailing(() => handle.close()),
      };
    },
    mkdir: (path) => unlessFailing(() => made.mkdir(path)),
    rename: (from, to) => unlessFailing(() => made.rename(from, to)),
    readdir: (path) => unlessFailing(() => made.readdir(path)),
    readFile: (path) => unlessFailing(() => made.readFile(path)),
    rm: (path) => unlessFailing(() => made.rm(path)),
  };
  return { files: diskOn(calls), counter };
}
