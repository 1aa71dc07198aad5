// Checkpoints. The first half is a simulated disk: it lists what a power loss may leave after every single change.
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { ComFaceError } from '../lib/errors.ts';
import { type CheckpointState, latestCheckpoint, loadCheckpoint, saveCheckpoint } from '../lib/train/checkpoint.ts';
import type { FileSystem } from '../lib/train/files.ts';

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
type Entry = File | Folder;
/** What is found after a crash. */
type Tree = Map<string, Tree | Uint8Array>;

const isFolder = (entry: Entry | undefined): entry is Folder => entry !== undefined && 'now' in entry;
const errno = (code: string) => Object.assign(new Error(`${code}: simulated`), { code });

/** After each change calls `onChange`, when a crash may come. */
class SimulatedDisk implements FileSystem {
  root: Folder = { now: new Map(), durable: new Map(), pending: [] };
  onChange = () => {};

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

  async writeFile(path: string, bytes: Uint8Array): Promise<void> {
    const file: File = { bytes: new Uint8Array(), synced: false };
    this.change(this.folder(dirname(path)), [[basename(path), file]]);
    file.bytes = bytes.slice();
    this.onChange();
    this.syncFile(file);
  }

  syncFile(file: File): void {
    file.synced = true;
    this.onChange();
  }

  async syncDirectory(path: string): Promise<void> {
    const folder = this.folder(path);
    folder.durable = new Map(folder.now);
    folder.pending = [];
    this.onChange();
  }

  async rename(from: string, to: string): Promise<void> {
    const entry = this.find(from);
    const target = this.find(to);
    if (entry === undefined) throw errno('ENOENT');
    if (isFolder(target) && target.now.size > 0) throw errno('ENOTEMPTY');
    expect(dirname(from)).toBe(dirname(to));
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
function* crashes(folder: Folder): Generator<Tree> {
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

function* tears({ bytes, synced }: File): Generator<Uint8Array> {
  yield bytes;
  if (synced) return;
  yield bytes.slice(0, bytes.length / 2);
  yield new Uint8Array(bytes.length);
  yield new Uint8Array();
}

const keyOf = (tree: Tree): string =>
  JSON.stringify(
    [...tree].sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, v instanceof Map ? keyOf(v) : Buffer.from(v).toString('latin1')]),
  );

function stateOf(step: number, salt = 0): CheckpointState {
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

/** Which step the newest good checkpoint holds, bit for bit; null for none. */
async function newest(files: FileSystem): Promise<number | null> {
  const found = await latestCheckpoint('/run', { files });
  if (found === null) return null;
  const { path, ...state } = found;
  expect(path).toBe(`/run/checkpoints/step-0000000${state.step}`);
  expect(state).toEqual(stateOf(state.step));
  return state.step;
}

/** Runs `save` on a disk and looks at each distinct tree a crash can leave on the way; after it, only `after` may be found. */
async function everyCrash(made: SimulatedDisk, save: () => Promise<unknown>, during: (number | null)[], after: number) {
  const trees = new Map<string, Tree>();
  const collect = () => {
    for (const tree of crashes(made.root)) trees.set(keyOf(tree), tree);
  };
  collect();
  made.onChange = collect;
  await save();
  made.onChange = () => {};
  const bad: string[] = [];
  for (const tree of trees.values()) {
    const found = await newest(SimulatedDisk.from(tree));
    if (!during.includes(found)) bad.push(`${found} on the way`);
  }
  for (const tree of crashes(made.root)) {
    const found = await newest(SimulatedDisk.from(tree));
    if (found !== after) bad.push(`${found} after the save`);
  }
  return { trees, bad };
}

const empty = () => SimulatedDisk.from(new Map([['run', new Map()]]));

/** A disk at rest that holds the checkpoints of these steps. */
async function holding(...steps: number[]): Promise<SimulatedDisk> {
  const made = empty();
  for (const step of steps) await saveCheckpoint('/run', stateOf(step), { keep: 9, files: made });
  return settled(made);
}

/** As after a clean unmount. */
function settled(made: SimulatedDisk): SimulatedDisk {
  const tree = (folder: Folder): Tree =>
    new Map([...folder.now].map(([name, entry]) => [name, isFolder(entry) ? tree(entry) : entry.bytes]));
  return SimulatedDisk.from(tree(made.root));
}

function damage(made: SimulatedDisk, path: string, edit: (bytes: Uint8Array) => Uint8Array): void {
  const file = made.find(path);
  if (file === undefined || isFolder(file)) throw errno('ENOENT');
  file.bytes = edit(file.bytes.slice());
}

const flip = (bit: number) => (bytes: Uint8Array) => {
  bytes.set([(bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))], bit >> 3);
  return bytes;
};

const parts = ['weights.safetensors', 'optimizer.safetensors', 'manifest.json'];
let crashStates = 0;

describe('a power loss at any moment leaves the old or the new checkpoint', () => {
  const at = (made: SimulatedDisk, keep: number) => () => saveCheckpoint('/run', stateOf(2), { keep, files: made });
  const broken = async () => {
    const made = await holding(1, 2);
    damage(made, '/run/checkpoints/step-00000002/weights.safetensors', flip(70));
    return made;
  };
  const killedBeforeParentSync = async () => {
    const made = await holding(1);
    made.syncDirectory = async (path) =>
      path.endsWith('checkpoints') ? Promise.reject(errno('EIO')) : SimulatedDisk.prototype.syncDirectory.call(made, path);
    await expect(at(made, 1)()).rejects.toThrow(ComFaceError);
    made.syncDirectory = SimulatedDisk.prototype.syncDirectory;
    return made;
  };
  const cases: [string, () => Promise<SimulatedDisk>, number, (number | null)[]][] = [
    ['the first save of a run', async () => empty(), 1, [null, 2]],
    ['the first save where even the run folder is missing', async () => SimulatedDisk.from(new Map()), 1, [null, 2]],
    ['a save beside an older one', () => holding(1), 2, [1, 2]],
    ['a save in place of an older one', () => holding(1), 1, [1, 2]],
    ['a save in place of two older ones', () => holding(0, 1), 1, [1, 2]],
    ['a save over a damaged one of its step', broken, 1, [1, 2]],
    ['a save that is there already', () => holding(1, 2), 1, [2]],
    ['a save repeated after a kill before the last sync', killedBeforeParentSync, 1, [1, 2]],
  ];
  test.each(cases)('%s', async (_, make, keep, during) => {
    const made = await make();
    const { trees, bad } = await everyCrash(made, at(made, keep), during, 2);
    crashStates += trees.size;
    expect(bad).toEqual([]);
  });

  test('and saving again on what was left works', async () => {
    const made = await holding(1);
    const { trees } = await everyCrash(made, at(made, 1), [1, 2], 2);
    for (const tree of trees.values()) {
      const again = SimulatedDisk.from(tree);
      await at(again, 1)();
      expect(await newest(again)).toBe(2);
    }
  });

  test('the simulated disk finds fault with a protocol that syncs less', async () => {
    const withoutFiles = await holding(1);
    withoutFiles.syncFile = () => {};
    expect((await everyCrash(withoutFiles, at(withoutFiles, 1), [1, 2], 2)).bad).not.toEqual([]);
    const withoutFolders = await holding(1);
    withoutFolders.syncDirectory = async () => {};
    expect((await everyCrash(withoutFolders, at(withoutFolders, 1), [1, 2], 2)).bad).not.toEqual([]);
  });

  test('hundreds of states were visited', () => {
    expect(crashStates).toBeGreaterThan(700);
  });
});

/** Fails the `at`-th call, or all from there on; a write then leaves half a file. */
function failing(made: SimulatedDisk, at: number, code: string, forGood: boolean) {
  const counter = { calls: 0 };
  const files = new Proxy<FileSystem>(made, {
    get:
      (_, name: keyof FileSystem) =>
      async (...given: [string, never]) => {
        counter.calls++;
        if (counter.calls === at || (forGood && counter.calls > at)) {
          const [path, bytes]: [string, Uint8Array] = given;
          if (name === 'writeFile') await made.writeFile(path, bytes.slice(0, bytes.length / 2)).catch(() => {});
          throw errno(code);
        }
        return made[name](...given);
      },
  });
  return { files, counter };
}

describe('when the file call number k fails, for every k,', () => {
  const faults = ['ENOSPC', 'EIO', 'EACCES', 'EMFILE'].flatMap((code) => [true, false].map((forGood) => [code, forGood] as const));

  test.each(faults)(
    'with %s (for good: %s), no save succeeds in silence and none harms the checkpoint before it',
    async (code, forGood) => {
      for (const damaged of [false, true]) {
        for (let k = 1; ; k++) {
          const made = await holding(...(damaged ? [1, 2] : [1]));
          if (damaged) damage(made, '/run/checkpoints/step-00000002/manifest.json', flip(70));
          const { files, counter } = failing(made, k, code, forGood);
          const error = await saveCheckpoint('/run', stateOf(2), { keep: 1, files }).catch((caught) => caught);
          if (counter.calls < k) {
            expect(error).toBe('/run/checkpoints/step-00000002');
            expect(k).toBeGreaterThan(12);
            break;
          }
          expect(error).toMatchObject({ name: 'ComFaceError', code: 'IO', hint: expect.any(String), cause: { code } });
          expect(error.message).toMatch(/"\/run/);
          expect([1, 2]).toContain(await newest(made));
          await saveCheckpoint('/run', stateOf(2), { keep: 1, files: made });
          expect(await newest(made)).toBe(2);
        }
      }
    },
  );

  test.each(faults)(
    'with %s (for good: %s), loading never finds nothing and never passes over a checkpoint in silence',
    async (code, forGood) => {
      for (let k = 1; ; k++) {
        const { files, counter } = failing(await holding(1, 2), k, code, forGood);
        const warnings: string[] = [];
        const found = await latestCheckpoint('/run', { files, onWarning: (text) => warnings.push(text) }).catch((caught) => caught);
        if (counter.calls < k) {
          expect(found.step).toBe(2);
          break;
        }
        if (found instanceof Error) expect(found).toMatchObject({ name: 'ComFaceError', code: 'IO', cause: { code } });
        else expect([code, found.step, warnings.length]).toEqual(['EIO', 1, 1]);
      }
    },
  );
});

describe('damage is found', () => {
  test('500 flipped bits anywhere, each passed over with a warning that names the file', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...parts), fc.nat(), async (part, at) => {
        const made = await holding(1, 2);
        const path = `/run/checkpoints/step-00000002/${part}`;
        let unchanged = false;
        damage(made, path, (bytes) => {
          const before = part === 'manifest.json' ? new TextDecoder().decode(bytes) : '';
          const flipped = flip(at % (bytes.length * 8))(bytes);
          unchanged = before !== '' && sameJson(before, new TextDecoder().decode(flipped));
          return flipped;
        });
        const warnings: string[] = [];
        const found = await latestCheckpoint('/run', { files: made, onWarning: (text) => warnings.push(text) });
        if (unchanged) return;
        expect(found?.step).toBe(1);
        expect(warnings).toEqual([expect.stringContaining(path)]);
      }),
      { numRuns: 500 },
    );
  });

  const sameJson = (a: string, b: string) => {
    try {
      return JSON.stringify(JSON.parse(a)) === JSON.stringify(JSON.parse(b));
    } catch {
      return false;
    }
  };

  test.each(parts)('a missing, empty or truncated %s, and one of another step', async (part) => {
    const path = `/run/checkpoints/step-00000002/${part}`;
    const edits: ((made: SimulatedDisk) => unknown)[] = [
      (made) => made.rm(path),
      (made) => damage(made, path, () => new Uint8Array()),
      (made) => damage(made, path, (bytes) => bytes.slice(0, -2)),
      async (made) => made.writeFile(path, await made.readFile(`/run/checkpoints/step-00000001/${part}`)),
      (made) => made.rm(path).then(() => made.mkdir(path)),
    ];
    for (const edit of edits) {
      const made = await holding(1, 2);
      await edit(made);
      expect(await newest(made)).toBe(1);
    }
  });

  test.each(['null', '[]', '"text"', '{}', '{"sha256":1}'])('a manifest that is %s', async (text) => {
    const made = await holding(1, 2);
    damage(made, '/run/checkpoints/step-00000002/manifest.json', () => Buffer.from(text));
    expect(await newest(made)).toBe(1);
  });

  test('a whole folder under the name of another step', async () => {
    const made = await holding(1);
    await made.rename('/run/checkpoints/step-00000001', '/run/checkpoints/step-00000005');
    expect(await newest(made)).toBe(null);
  });

  test('a manifest of a later version, with its own right hash', async () => {
    const made = await holding(1);
    const { createHash } = await import('node:crypto');
    damage(made, '/run/checkpoints/step-00000001/manifest.json', (bytes) => {
      const { sha256: _, ...body } = JSON.parse(new TextDecoder().decode(bytes));
      const next = { ...body, version: 2 };
      return Buffer.from(JSON.stringify({ ...next, sha256: createHash('sha256').update(JSON.stringify(next)).digest('hex') }));
    });
    const warnings: string[] = [];
    expect(await latestCheckpoint('/run', { files: made, onWarning: (text) => warnings.push(text) })).toBe(null);
    expect(warnings).toEqual([expect.stringContaining('version 1')]);
  });
});

describe('saving', () => {
  const names = async (made: SimulatedDisk) => (await made.readdir('/run/checkpoints')).sort();

  test('keeps the newest `keep` and leaves nothing temporary', async () => {
    const made = empty();
    for (const step of [1, 2, 3, 4, 5]) await saveCheckpoint('/run', stateOf(step), { keep: 2, files: made });
    expect(await names(made)).toEqual(['step-00000004', 'step-00000005']);
  });

  test('never prunes the one just saved, nor those of later steps', async () => {
    const made = await holding(1, 2, 8, 9);
    await saveCheckpoint('/run', stateOf(3), { keep: 1, files: made });
    expect(await names(made)).toEqual(['step-00000003', 'step-00000008', 'step-00000009']);
  });

  test('refuses to pass over another good checkpoint of the same step', async () => {
    const made = await holding(2);
    const other = saveCheckpoint('/run', stateOf(2, 7), { keep: 1, files: made });
    await expect(other).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining('step 2') });
    expect(await newest(made)).toBe(2);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %s in weights or optimizer and names the tensor', async (value) => {
    for (const [group, name] of [
      ['weights', 'conv1.weight'],
      ['optimizer', 'conv1.weight.exp_avg'],
    ] as const) {
      const made = empty();
      const state = stateOf(1);
      state[group].get(name)?.data.set([value] as never, 3);
      const saved = saveCheckpoint('/run', state, { keep: 1, files: made });
      await expect(saved).rejects.toMatchObject({
        code: 'NOT_FINITE',
        message: `Expected finite numbers for \`${name}\` but received ${value} at index 3`,
      });
      expect(await made.readdir('/run')).toEqual([]);
    }
  });

  test('refuses steps and keeps that are no counts, and info that is no JSON', async () => {
    const files = empty();
    await expect(saveCheckpoint('/run', { ...stateOf(1), step: 1.5 }, { keep: 1, files })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(saveCheckpoint('/run', stateOf(1), { keep: 0, files })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(saveCheckpoint('/run', { ...stateOf(1), info: { seed: 1n } }, { keep: 1, files })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
  });
});

const folders: string[] = [];
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'comface-'));
  folders.push(path);
  return path;
}
afterAll(() => Promise.all(folders.map((path) => rm(path, { recursive: true }))));

describe('on the disk of this machine', () => {
  test('a checkpoint comes back bit for bit, by its path and as the latest', async () => {
    const run = join(await folder(), 'a', 'b');
    expect(await latestCheckpoint(run)).toBe(null);
    await saveCheckpoint(run, stateOf(1199), { keep: 3 });
    const path = await saveCheckpoint(run, stateOf(1200), { keep: 3 });
    expect(path).toBe(join(run, 'checkpoints', 'step-00001200'));
    expect(await loadCheckpoint(path)).toEqual(stateOf(1200));
    expect(await latestCheckpoint(run)).toEqual({ ...stateOf(1200), path });
    expect((await readdir(path)).sort()).toEqual([...parts].sort());
    expect(await saveCheckpoint(run, stateOf(1200), { keep: 3 })).toBe(path);
  });

  test('an explicit path to a damaged checkpoint is an error and not another checkpoint', async () => {
    const run = await folder();
    await saveCheckpoint(run, stateOf(1), { keep: 3 });
    const path = await saveCheckpoint(run, stateOf(2), { keep: 3 });
    await truncate(join(path, 'weights.safetensors'), 100);
    await expect(loadCheckpoint(path)).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
    expect((await latestCheckpoint(run))?.step).toBe(1);
  });

  test('a file where the folder should be is an IO error that names it', async () => {
    const run = await folder();
    await writeFile(join(run, 'checkpoints'), '');
    const saved = saveCheckpoint(run, stateOf(1), { keep: 1 });
    await expect(saved).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(join(run, 'checkpoints')) });
  });
});
