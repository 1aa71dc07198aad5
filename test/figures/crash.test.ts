// Checkpoints on a simulated disk: power losses at every moment, calls that fail, files that were damaged. kills.test.ts does it to a real training.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ComFaceError } from '../../lib/errors.ts';
import { type CheckpointState, latestCheckpoint, loadCheckpoint, saveCheckpoint } from '../../lib/train/checkpoint.ts';
import { errorCode, type FileSystem } from '../../lib/train/files.ts';
import type { Tensor } from '../../lib/weights/safetensors.ts';
import { numbers, temporaryFolder } from '../support.ts';
import { type Damaged, damages, drawer, type Files, parts, saysTheSame } from './damages.ts';
import {
  crashes,
  damage,
  type Entry,
  empty,
  errno,
  type Fault,
  failing,
  flip,
  holding,
  keyOf,
  newest,
  SimulatedDisk,
  stateOf,
  type Tree,
} from './disk.ts';
import { figure } from './figure.ts';
import { Actor, orders, takeTurns } from './overlap.ts';

/** What a tree holds, remembered: many moments leave the same. */
class Survey {
  readonly #seen = new Map<string, number | null | string>();
  readonly bad: string[] = [];

  get states(): number {
    return this.#seen.size;
  }

  /** Each tree that a crash can leave now has to hold one of `allowed`. */
  async visit(trees: Iterable<Tree>, allowed: (found: number | null) => boolean, moment: string): Promise<void> {
    for (const tree of trees) {
      const key = keyOf(tree);
      let found = this.#seen.get(key);
      if (found === undefined) {
        found = await newest(SimulatedDisk.from(tree)).catch((error: Error) => error.message);
        this.#seen.set(key, found);
      }
      if (typeof found === 'string' || !allowed(found)) this.bad.push(`${found} ${moment}`);
    }
  }
}

/** Runs `save` and looks at each tree that a crash can leave on the way; after it only `after` may be found. */
async function everyCrash(made: SimulatedDisk, save: () => Promise<unknown>, during: (number | null)[], after: number) {
  const trees = new Map<string, Tree>();
  const collect = () => {
    for (const tree of crashes(made.root)) trees.set(keyOf(tree), tree);
  };
  collect();
  made.onChange = collect;
  await save();
  made.onChange = () => {};
  const survey = new Survey();
  await survey.visit(trees.values(), (found) => during.includes(found), 'on the way');
  await survey.visit(crashes(made.root), (found) => found === after, 'after the save');
  return { trees, bad: survey.bad };
}

const saving = (files: FileSystem, keep: number, step = 2) => saveCheckpoint('/run', stateOf(step), { keep, files });

const broken = async () => {
  const made = await holding(1, 2);
  damage(made, '/run/checkpoints/step-00000002/weights.safetensors', flip(70));
  return made;
};
const killedBeforeParentSync = async () => {
  const made = await holding(1);
  const files: FileSystem = {
    ...made.files,
    syncDirectory: async (path) => {
      if (path.endsWith('checkpoints')) throw errno('EIO');
      return made.files.syncDirectory(path);
    },
  };
  await expect(saving(files, 1)).rejects.toThrow(ComFaceError);
  return made;
};

/** Each saves step 2: what was there, how many stay, what may be found on the way. */
const saves: [string, () => Promise<SimulatedDisk>, number, (number | null)[]][] = [
  ['the first of a run', async () => empty(), 1, [null, 2]],
  ['the first where even the run folder is missing', async () => SimulatedDisk.from(new Map()), 1, [null, 2]],
  ['beside an older one', () => holding(1), 2, [1, 2]],
  ['in place of an older one', () => holding(1), 1, [1, 2]],
  ['in place of two older ones', () => holding(0, 1), 1, [1, 2]],
  ['over a damaged one of its step', broken, 1, [1, 2]],
  ['there already', () => holding(1, 2), 1, [2]],
  ['repeated after a kill before the last sync', killedBeforeParentSync, 1, [1, 2]],
];

/** Two processes in one folder, the lock having failed: what was there, the steps that they save, how many stay. */
const overlaps: [string, () => Promise<SimulatedDisk>, [number, number], number][] = [
  ['the same step', () => holding(1), [2, 2], 1],
  ['one is ahead', () => holding(1), [3, 2], 1],
  ['one is ahead, and two stay', () => holding(1), [2, 3], 2],
  ['both have just begun', async () => empty(), [2, 3], 1],
  ['one saves again what is there', () => holding(1, 2), [3, 2], 1],
];

/** Both saves in this order; at each moment a crash has to leave at least what a finished one promised. */
async function overlapped(make: () => Promise<SimulatedDisk>, steps: [number, number], keep: number, order: number[], survey: Survey) {
  const made = await make();
  const before = (await newest(made)) ?? -1;
  const moments: { trees: Map<string, Tree>; least: number }[] = [];
  const actors: [Actor, Actor] = [
    new Actor(made.files, 11, (files) => saving(files, keep, steps[0])),
    new Actor(made.files, 12, (files) => saving(files, keep, steps[1])),
  ];
  const collect = () => {
    const least = Math.max(before, ...actors.map(({ outcome }, i) => (outcome?.saved ? steps[i]! : -1)));
    if (moments.at(-1)?.least !== least) moments.push({ trees: new Map(), least });
    for (const tree of crashes(made.root)) moments.at(-1)!.trees.set(keyOf(tree), tree);
  };
  made.onChange = collect;
  await takeTurns(actors, order);
  made.onChange = () => {};
  collect();
  const moment = `of ${steps} in the order ${order}`;
  for (const { trees, least } of moments) await survey.visit(trees.values(), (found) => (found ?? -1) >= least, moment);
  for (const { outcome } of actors) {
    if (!outcome?.saved && !(outcome?.error instanceof ComFaceError)) survey.bad.push(`${outcome?.error} ${moment}`);
  }
  if (!actors.some(({ outcome }) => outcome?.saved)) survey.bad.push(`both failed ${moment}`);
}

figure('R2 a power loss at any moment leaves the old or the new checkpoint', { ci: 60, long: 2600 }, async ({ count, say }) => {
  const bad: string[] = [];
  let states = 0;
  for (const [name, make, keep, during] of saves) {
    const made = await make();
    const visited = await everyCrash(made, () => saving(made.files, keep), during, 2);
    states += visited.trees.size;
    bad.push(...visited.bad.map((text) => `${name}: ${text}`));
  }
  const survey = new Survey();
  const all = overlaps.flatMap((overlap) => [...orders(2, 22)].map((order) => ({ overlap, order })));
  const every = Math.max(1, all.length / count);
  let done = 0;
  for (; done < count && done * every < all.length && bad.length + survey.bad.length === 0; done++) {
    const { overlap, order } = all[Math.floor(done * every)]!;
    const [, make, steps, keep] = overlap;
    await overlapped(make, steps, keep, order, survey);
  }
  say(
    `${states} crash states, ${bad.length} bad; two runs at once in ${done} orders: ${survey.states} crash states, ${survey.bad.length} bad`,
  );
  expect([...bad, ...survey.bad].slice(0, 10)).toEqual([]);
  expect(states).toBeGreaterThan(700);
});

const codes = ['ENOSPC', 'EIO', 'EACCES', 'EMFILE'];

/** What calls fail in: a save, by what was there before. */
const failingSaves: [string, () => Promise<SimulatedDisk>, number | null][] = [
  ['in place of an older one', () => holding(1), 1],
  ['over a damaged one of its step', broken, 1],
  ['the first of a run', async () => SimulatedDisk.from(new Map()), null],
];

/** Counts what failing calls did. */
class Faults {
  fired = 0;
  readonly silent: string[] = [];
  readonly damaged: string[] = [];
  readonly #survey = new Survey();

  /** A save with these faults, then a look at all that a power loss would leave, then a save without. False when the save makes fewer calls. */
  async save([name, make, before]: (typeof failingSaves)[number], ...faults: readonly Fault[]): Promise<boolean> {
    const made = await make();
    const { files, counter } = failing(made, ...faults);
    const error = await saving(files, 1).catch((caught: unknown) => caught);
    if (counter.calls < faults[0]!.at) return false;
    this.fired++;
    const words = `${name}: ${JSON.stringify(faults)}`;
    const isTold = error instanceof ComFaceError && error.code === 'IO' && error.hint && errorCode(error) === faults[0]!.code;
    if (!isTold || !error.message.includes('"/')) this.silent.push(`${error} from ${words}`);
    const bad = this.#survey.bad.length;
    await this.#survey.visit(crashes(made.root), (found) => found === before || found === 2, `left by ${words}`);
    this.damaged.push(...this.#survey.bad.slice(bad));
    await saving(made.files, 1);
    if ((await newest(made)) !== 2) this.damaged.push(`not to be saved to after ${words}`);
    return true;
  }

  /** A load may fail or, where a file cannot be read for a fault of the disk, pass over its checkpoint with a warning; nothing else. */
  async load(fault: Fault): Promise<boolean> {
    const { files, counter } = failing(await holding(1, 2), fault);
    const warnings: string[] = [];
    const found = await latestCheckpoint('/run', { files, onWarning: (text) => warnings.push(text) }).catch((caught: unknown) => caught);
    if (counter.calls < fault.at) return false;
    this.fired++;
    const isTold = found instanceof ComFaceError && found.code === 'IO' && errorCode(found) === fault.code;
    const isWarned = fault.code === 'EIO' && warnings.length === 1 && (found as { step?: number } | null)?.step === 1;
    if (!isTold && !isWarned) this.silent.push(`${found} from loading with ${JSON.stringify(fault)}`);
    return true;
  }
}

/** All pairs of failing calls, the second once or for good. */
function* stackedFaults(): Generator<{ save: (typeof failingSaves)[number]; faults: [Fault, Fault] }> {
  for (const save of failingSaves)
    for (let second = 2; second <= 50; second++)
      for (let first = 1; first < second; first++)
        for (const [i, code] of codes.entries())
          for (const other of codes.slice(i))
            for (const forGood of [false, true])
              yield {
                save,
                faults: [
                  { at: first, code, forGood: false },
                  { at: second, code: other, forGood },
                ],
              };
}

figure('R3 a file call that fails is told of and harms nothing', { ci: 1000, long: 40_000 }, async ({ count, say }) => {
  const faults = new Faults();
  for (const code of codes) {
    for (const forGood of [false, true]) {
      for (const save of failingSaves) for (let at = 1; await faults.save(save, { at, code, forGood }); at++);
      for (let at = 1; await faults.load({ at, code, forGood }); at++);
    }
  }
  const single = faults.fired;
  const all = [...stackedFaults()];
  const every = Math.max(1, all.length / count);
  for (let i = 0; i < count && i * every < all.length; i++) {
    const { save, faults: pair } = all[Math.floor(i * every)]!;
    await faults.save(save, ...pair);
  }
  say(`${single} faults and ${faults.fired - single} pairs of them, ${faults.silent.length} silent, ${faults.damaged.length} damaged`);
  expect(faults.silent).toEqual([]);
  expect(faults.damaged).toEqual([]);
  expect(single).toBeGreaterThanOrEqual(400);
});

/** A checkpoint of some size, of one run or another. */
function shelved(step: number, run: number): CheckpointState {
  const tensors = (salt: number) =>
    new Map(
      Array.from({ length: 6 }, (_, i): [string, Tensor] => {
        const data = numbers(300 * (i + 1), 100 * run + 10 * step + salt + i);
        return [`layer${i}.weight`, { dtype: 'F32', shape: [data.length], data }];
      }),
    );
  const config = { size: 64, weightDecay: 1e-7, note: 'ä', stageEnds: Array.from({ length: 40 }, (_, i) => i * 1.5) };
  return { step, weights: tensors(1), optimizer: tensors(2), info: { seed: run, config } };
}

async function filesOf(state: CheckpointState): Promise<Files> {
  const made = empty();
  const path = await saveCheckpoint('/run', state, { keep: 1, files: made.files });
  const read = await Promise.all(parts.map(async (part) => [part, await made.readFile(join(path, part))]));
  return Object.fromEntries(read) as Files;
}

const treeOf = (files: Damaged): Tree => new Map(parts.flatMap((part) => (files[part] === null ? [] : [[part, files[part]]])));

figure('R5 a damaged checkpoint is found and the one before it taken', { ci: 2000, long: 20_000 }, async ({ count, say }) => {
  const [earlier, good, other] = [await filesOf(shelved(1, 1)), await filesOf(shelved(2, 1)), await filesOf(shelved(2, 2))];
  const kinds = Object.entries(damages);
  const shelf = join(temporaryFolder(), 'step-00000002');
  await mkdir(shelf);
  const missed: string[] = [];
  let [done, detected, harmless, onDisk] = [0, 0, 0, 0];
  for (let number = 0; done < count; number++) {
    const [kind, damage] = kinds[number % kinds.length]!;
    const draw = drawer(number);
    const part = parts[draw(parts.length)]!;
    const files = damage(good, part, draw, { earlier, other });
    const bytes = files[part];
    if (bytes !== null && Buffer.compare(bytes, good[part]) === 0) continue;
    const isHarmless = bytes !== null && part === 'manifest.json' && saysTheSame(bytes, good[part]);
    const steps = new Map([['step-00000001', treeOf(earlier)] as const, ['step-00000002', treeOf(files)] as const]);
    const warnings: string[] = [];
    const found = await latestCheckpoint('/run', {
      files: SimulatedDisk.from(new Map([['run', new Map([['checkpoints', steps]])]])).files,
      onWarning: (text) => warnings.push(text),
    }).catch((error: unknown) => error);
    const step = (found as { step?: number } | null)?.step;
    const isNamed = warnings.length === 1 && warnings[0]!.includes('/run/checkpoints/step-00000002');
    const isRight = isHarmless ? step === 2 : step === 1 && isNamed;
    if (!isRight) missed.push(`${kind} of ${part}, draw ${number}: ${found}`);
    if (isHarmless) harmless++;
    else done++;
    if (!isHarmless && isRight) detected++;
    if (isHarmless || done % 10 !== 0) continue;
    onDisk++;
    for (const name of parts) {
      if (files[name] === null) await rm(join(shelf, name), { force: true });
      else await writeFile(join(shelf, name), files[name]);
    }
    const isRefused = (error: unknown) => error instanceof ComFaceError && error.code === 'CORRUPT_FILE';
    if (!isRefused(await loadCheckpoint(shelf).catch((caught: unknown) => caught)))
      missed.push(`${kind} of ${part} on the disk, draw ${number}`);
    // With none before it: not to begin anew over it.
    const alone = SimulatedDisk.from(new Map([['run', new Map([['checkpoints', new Map([['step-00000002', treeOf(files)]])]])]]));
    if (!isRefused(await latestCheckpoint('/run', { files: alone.files }).catch((caught: unknown) => caught)))
      missed.push(`${kind} of ${part} alone, draw ${number}`);
  }
  say(
    `${detected} of ${done} found (${kinds.length} kinds; ${onDisk} also on the real disk); ${harmless} left the manifest saying the same`,
  );
  expect(missed).toEqual([]);
});

test('saving again on what a power loss left works', async () => {
  const made = await holding(1);
  const { trees } = await everyCrash(made, () => saving(made.files, 1), [1, 2], 2);
  for (const tree of trees.values()) {
    const again = SimulatedDisk.from(tree);
    await saving(again.files, 1);
    expect(await newest(again)).toBe(2);
  }
});

test('the simulated disk finds fault with a protocol that syncs less', async () => {
  for (const isSpared of [(entry: Entry) => 'now' in entry, (entry: Entry) => !('now' in entry)]) {
    const made = await holding(1);
    made.sync = (entry) => isSpared(entry) || SimulatedDisk.prototype.sync.call(made, entry);
    expect((await everyCrash(made, () => saving(made.files, 1), [1, 2], 2)).bad).not.toEqual([]);
  }
});
