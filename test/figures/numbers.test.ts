// What we compute is what the formulas say: ops and whole networks in double, in fp32 and in bf16, finite differences, InfoNCE where its value is known.
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile as readFileAsync } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, expect } from 'vitest';
import { checkTrainOptions } from '../../lib/config.ts';
import { readManifest } from '../../lib/data/manifest.ts';
import { philox } from '../../lib/data/random.ts';
import { backbone, embeddingWidth } from '../../lib/models/backbone.ts';
import { comfaceGraph } from '../../lib/models/heads.ts';
import { type NativeEngine, native } from '../../lib/native.ts';
import { eigenCam, type Grid } from '../../lib/report/saliency.ts';
import { latestCheckpoint } from '../../lib/train/checkpoint.ts';
import { train } from '../../lib/train/train.ts';
import { subjectFolds } from '../../lib/transfer/folds.ts';
import { type OpCase, opCases } from '../cases.ts';
import { planOf, sharedFolder, smallFaces, smallRun } from '../faces.ts';
import { adamAt, engineFor, numbers, temporaryFolder } from '../support.ts';
import { mapBySvd } from '../svd.ts';
import { direction, short, slope, slopeError, values, weightedSum } from './differences.ts';
import { figure } from './figure.ts';
import { copiesLoss, drawRows, engineLoss, flat, infoNceEngine } from './infonce.ts';
import { type Place, places, poison, restorable, stepsUntilRefused, withEngines } from './notfinite.ts';
import { distances, drawnCase, inputsOf, nmse, outcomeOf, parametersOf, seedOf } from './opruns.ts';
import { twin } from './twin.ts';

const folder = sharedFolder();
let data = '';
beforeAll(async () => {
  data = await smallFaces(folder);
});

/** The greatest value seen, and where. */
class Worst {
  value = 0;
  where = 'nowhere';
  /** How many graphs or sets of rows it is of. */
  compared = 0;
  see(value: number, where: string): void {
    if (value > this.value) [this.value, this.where] = [value, where];
  }
}

/** Stricter than was promised (1e-7 in fp32, 1e-3 in bf16): what is reached with room for other shapes. */
const limits = { 'loops in double': 1e-12, 'loops in fp32': 1e-8, 'cpu fp32': 1e-9, 'cpu bf16': 1e-4 };
type Kind = keyof typeof limits;

/** The least share of the graphs without an inner relu: only they are compared in bf16. */
const kLeastInBf16 = 0.75;

/** Nearer to a kink than this, fp32 may take its other side. */
const kMargin = 2e-5;

/** One case against the twin: everything it computes, on every backend. */
async function compareCase(c: OpCase, threads: number, worst: Record<Kind, Worst>): Promise<boolean> {
  const exact = await engineFor({ ...c, device: 'reference', precision: 'fp64' });
  for (let key = 1; key < 40; key++) {
    const inputs = inputsOf(c, 1000 * key);
    const parameters = parametersOf(exact, 1000 * key);
    const expected = twin(c, parameters, inputs.images, inputs.targets, seedOf);
    if (expected.margin < kMargin) continue;
    const run = async (kind: Kind, engine: typeof exact, against: Parameters<typeof distances>[1] = expected) => {
      const outcome = await outcomeOf(engine, c, parameters, inputs, expected.seed);
      for (const { part, value } of distances(outcome, against)) worst[kind].see(value, `${c.name}, ${part}`);
      worst[kind].compared++;
      engine.dispose();
      return outcome;
    };
    await run('loops in double', exact);
    await run('loops in fp32', await engineFor({ ...c, device: 'reference', precision: 'fp32' }));
    await run('cpu fp32', await engineFor({ ...c, threads }));
    // In bf16 an inner relu flips here and there; whole networks have their own test.
    if (!native().module.cpu.avx512 || expected.margin < Number.POSITIVE_INFINITY) return true;
    const rounded = await engineFor({ ...c, device: 'reference', precision: 'bf16' });
    const same = await outcomeOf(rounded, c, parameters, inputs, expected.seed);
    rounded.dispose();
    await run('cpu bf16', await engineFor({ ...c, threads, precision: 'bf16' }), same);
    return true;
  }
  exact.dispose();
  return false;
}

figure('N1 each op and its gradients are those of a float64 twin', { ci: 200, long: 2_000, seconds: 240 }, async ({ count, say }) => {
  const worst = { 'loops in double': new Worst(), 'loops in fp32': new Worst(), 'cpu fp32': new Worst(), 'cpu bf16': new Worst() };
  let left = 0;
  const cases = [...opCases, ...Array.from({ length: count }, (_, key) => drawnCase(key))];
  // The table on two threads, drawn shapes on one: teams of threads wait for each other longer than such small work takes.
  for (const [i, c] of cases.entries()) if (!(await compareCase(c, i < opCases.length ? 2 : 1, worst))) left++;
  const all = Object.entries(worst) as [Kind, Worst][];
  const isMeasured = (kind: Kind) => kind !== 'cpu bf16' || native().module.cpu.avx512;
  const figures = all.map(([kind, { value, where, compared }]) =>
    isMeasured(kind) ? `${kind} ${value.toExponential(1)} of ${compared} graphs (${where})` : 'cpu bf16 skipped: needs AVX-512',
  );
  say(`${cases.length} graphs, worst NMSE: ${figures.join('; ')}; in bf16 without those of an inner relu; ${left} left out`);
  expect(left).toBe(0);
  for (const [kind, { compared }] of all) {
    const least = kind === 'cpu bf16' ? kLeastInBf16 * cases.length : cases.length;
    if (isMeasured(kind)) expect(compared, kind).toBeGreaterThanOrEqual(least);
  }
  for (const [kind, { value, where }] of all) expect(value, where).toBeLessThanOrEqual(limits[kind]);
});

figure('N2 finite differences of the whole network agree with its gradients', { ci: 1, long: 4 }, async ({ count, say }) => {
  const [pairs, size, width] = [2, 16, 16];
  const embedding = embeddingWidth('resnet18', { size, width });
  const heads = { embedding, projection: { hidden: 32, out: 16 }, temperature: 0.5, interPersonal: 1, intraPersonal: 0.5 };
  const layers = comfaceGraph(backbone('resnet18', { size, width }), heads);
  const engine = await engineFor({ layers, batch: 3 * pairs, device: 'reference', precision: 'fp64' });
  const total = weightedSum(layers);
  const worst = new Worst();
  let kinks = 0;
  for (let round = 0; round < count; round++) {
    await engine.initialize(BigInt(3 + round));
    const images = values(3 * pairs * 3 * size * size, 31 + 10 * round);
    const targets = values(pairs, 32 + 10 * round, 4);
    for (const { name } of engine.parameters) {
      const value = short(await engine.read('parameter', name));
      const at = async (x: Float32Array) => {
        await engine.write('parameter', name, x);
        return total(await engine.forward(images, targets));
      };
      await at(value);
      await engine.backward();
      const gradient = await engine.read('gradient', name);
      // A relu that changes sides within the steps has no derivative: then two step sizes disagree, and another direction is taken.
      for (let turn = 0; ; turn++) {
        const d = direction(value.length, 33 + 10 * round + 1000 * turn);
        const found = await slope(at, value, d);
        const error = slopeError(found, gradient, d);
        if (error > 1e-4 && turn < 4 && Math.abs((await slope(at, value, d, 2)) - found) > 1e-4 * Math.abs(found)) {
          kinks++;
          continue;
        }
        worst.see(error, name);
        break;
      }
      worst.see(gradient.some((g) => g !== 0) ? 0 : 1, `no gradient of ${name}`);
      await at(value);
    }
  }
  say(
    `${count * engine.parameters.length} tensors, worst relative error ${worst.value.toExponential(1)} (${worst.where}), ${kinks} directions over a kink`,
  );
  expect(engine.parameters.length).toBe(66);
  expect(kinks).toBeLessThanOrEqual(10 * count);
  expect(worst.value, worst.where).toBeLessThanOrEqual(1e-3);
});

/** Of all numbers at once. */
const relative = (a: ArrayLike<number>, b: ArrayLike<number>): number => Math.sqrt(nmse(a, b));

/** Lengths of pieces: Math.hypot takes so many numbers and no more. */
const blocks = (x: Float64Array): number[] =>
  Array.from({ length: Math.ceil(x.length / 1024) }, (_, i) => Math.hypot(...x.subarray(1024 * i, 1024 * (i + 1))));

/** Peak of this process's memory since it was last asked to forget it. */
function peakBytes(): number {
  return 1024 * Number(readFileSync('/proc/self/status', 'utf8').match(/^VmHWM:\s+(\d+)/m)![1]);
}

/** Of different rows that a closed form takes: its time grows as their square. */
const kMostCopies = 200;

const pairCounts = [...Array.from({ length: 12 }, (_, i) => 2 ** (i + 1)), 3, 5, 17, 129, 1000, 4095];

/** Rows of a few copies, all equal, in equal pairs or all different: loss and gradient against their values in double. */
async function compareInfoNce(pairs: number, temperature: number, key: number, worst: Worst): Promise<void> {
  for (const kind of ['equal', 'seven', 'pairs', 'different'] as const) {
    const width = 16;
    const copies = { equal: 1, seven: 7, pairs, different: 2 * pairs }[kind];
    if (kind === 'pairs' && pairs > kMostCopies) continue;
    const rows = drawRows(pairs, width, copies, key);
    if (copies >= pairs)
      rows.of.forEach((_, j) => {
        rows.of[j] = j % copies;
      });
    const where = `${kind}, ${pairs} pairs at ${temperature}`;
    const plain = async () => {
      const engine = await infoNceEngine(rows, temperature, { device: 'reference', precision: 'fp64' });
      return engineLoss(engine, flat(rows)).finally(() => engine.dispose());
    };
    const expected = kind === 'different' ? await plain() : copiesLoss(rows, Math.fround(temperature));
    const engine = await infoNceEngine(rows, temperature);
    const { loss, gradient } = await engineLoss(engine, flat(rows));
    engine.dispose();
    // The loss is a difference of numbers of up to 1 / temperature, a gradient that of the pull of the other view and the push of all: where little
    // is left, as with equal rows, the error is one of these.
    worst.see(Math.abs(loss - expected.loss) / Math.max(1, expected.loss), `loss, ${where}`);
    if (kind === 'equal') worst.see(Math.abs(expected.loss - Math.log(2 * pairs - 1)), `ln(${2 * pairs - 1})`);
    const pull = 2 / (temperature * Math.sqrt(2 * pairs));
    worst.see(Math.hypot(...blocks(Float64Array.from(gradient, (g, i) => g - expected.gradient[i]!))) / pull, `gradient, ${where}`);
    worst.compared++;
  }
}

figure('N3 InfoNCE has its known values, an exact gradient and no matrix', { ci: 1, long: 4 }, async ({ count, say }) => {
  const [values, swap, angle] = [new Worst(), new Worst(), new Worst()];
  for (let key = 1; key <= count; key++) {
    for (const pairs of pairCounts) await compareInfoNce(pairs, pairs % 3 === 0 ? 0.5 : 0.1, key, values);
    for (const pairs of [2, 5, 64, 129, 1000]) {
      const [width, rows] = [24, 2 * pairs];
      const h = numbers(rows * width, 60 + key);
      const exchanged = Float32Array.of(...h.subarray(pairs * width), ...h.subarray(0, pairs * width));
      const engine = await infoNceEngine({ width, of: new Uint16Array(rows) }, 0.2, { normalized: true });
      const [a, b] = [await engineLoss(engine, h), await engineLoss(engine, exchanged)];
      engine.dispose();
      swap.see(Math.abs(a.loss - b.loss) / a.loss, `loss of ${pairs} pairs`);
      swap.see(
        relative(Float32Array.of(...b.gradient.subarray(pairs * width), ...b.gradient.subarray(0, pairs * width)), a.gradient),
        `${pairs} pairs`,
      );
      for (let row = 0; row < rows; row++) {
        const [x, g] = [h, a.gradient].map((all) => all.subarray(row * width, (row + 1) * width)) as [Float32Array, Float32Array];
        angle.see(Math.abs(x.reduce((sum, v, i) => sum + v * g[i]!, 0)) / (Math.hypot(...x) * Math.hypot(...g)), `row ${row} of ${rows}`);
      }
    }
  }
  const width = 128;
  const bytes: number[] = [];
  let growth = 0;
  for (const rows of [1024, 2048, 4096, 8192]) {
    const engine = await infoNceEngine({ width, of: new Uint16Array(rows) }, 0.1, { normalized: true });
    bytes.push(engine.sizeBytes);
    const h = numbers(rows * width, 63);
    writeFileSync('/proc/self/clear_refs', '5');
    const before = process.memoryUsage().rss;
    await engine.forward(h, new Float32Array());
    await engine.backward();
    growth = peakBytes() - before - engine.sizeBytes;
    engine.dispose();
  }
  const perNumber = (bytes[3]! - bytes[2]!) / (4096 * width);
  say(
    `${values.compared} sets of rows (${pairCounts.length} sizes of 2 to 4096 pairs, all equal, of seven copies or all different; in equal pairs up to ${kMostCopies} pairs): worst error ${values.value.toExponential(1)} (${values.where}); ` +
      `views exchanged ${swap.value.toExponential(1)}; cosine with the row ${angle.value.toExponential(1)}; ` +
      `memory ${perNumber.toFixed(1)} bytes a number of 8192 rows x ${width} (${(bytes[3]! / 2 ** 20).toFixed(1)} MiB), beyond that ${Math.max(0, growth / 2 ** 20).toFixed(1)} MiB`,
  );
  expect(values.value, values.where).toBeLessThanOrEqual(1e-6);
  expect(swap.value, swap.where).toBeLessThanOrEqual(1e-6);
  expect(angle.value, angle.where).toBeLessThanOrEqual(1e-6);
  // Four arrays of rows x width with their gradients; the matrix would be 256 MiB.
  for (const [i, size] of bytes.entries()) expect(size).toBeLessThan(8 * 4 * (1024 * 2 ** i) * width + 2 ** 20);
  expect(growth).toBeLessThan(32 * 2 ** 20);
});

/** Poisons a run of train() after step 4 and returns how many steps it still did; checks what is left on the disk. */
async function poisonedRun(place: Place, whole: string, key: number): Promise<number> {
  const out = join(temporaryFolder(), 'run');
  const options = { ...smallRun, data, out, checkpointEverySteps: 3 };
  let [engine, done]: [NativeEngine | undefined, number] = [undefined, 0];
  const steps = withEngines(
    (made) => {
      engine = made;
    },
    async () => {
      for await (const event of train(options)) {
        if (event.type !== 'step') continue;
        done = event.step;
        if (done === 4) await poison(engine!, place, key);
      }
    },
  );
  await expect(steps, place.name).rejects.toMatchObject({ code: 'NOT_FINITE' });
  const kept = await latestCheckpoint(out);
  expect(kept?.step).toBe(3);
  for (const { dtype, data } of [...kept!.weights.values(), ...kept!.optimizer.values()])
    expect(dtype === 'I64' || data.every(Number.isFinite)).toBe(true);
  const again = await train({ ...options, resume: true });
  for (const file of ['weights.safetensors', 'optimizer.safetensors'])
    expect((await readFileAsync(join(again.path, file))).equals(await readFileAsync(join(whole, file)))).toBe(true);
  return done - 4;
}

figure('N7 a NaN in any tensor stops the run within a step', { ci: 1, long: 4 }, async ({ count, say }) => {
  // 48 pixels: the last convolution still reads its whole kernel.
  const [pairs, size] = [2, 48];
  const heads = { embedding: 128, projection: { hidden: 32, out: 16 }, temperature: 0.2, interPersonal: 1, intraPersonal: 1 };
  const layers = comfaceGraph(backbone('resnet18', { size, width: 16 }), heads);
  const { engine, restore } = await restorable(layers, 3 * pairs);
  const manifest = await readManifest(data);
  const source = native().module.openFiles(manifest.files, size, 1, manifest.size);
  const plan = (target = 1) => ({ ...planOf([0, 10, 20], [1, 12, 23], { pairs }), target: new Float32Array(3).fill(target) });
  const { augment } = checkTrainOptions({ ...smallRun, data, out: folder });
  const step = (turn: number, target?: number) => engine.step(source, plan(target), null, augment, adamAt(turn + 1));
  const worst: Record<string, number> = { parameter: 0, firstMoment: 0, secondMoment: 0, statistic: 0, target: 0, view: 0 };
  const late: string[] = [];
  const note = (slot: string, name: string, steps: number) => {
    worst[slot] = Math.max(worst[slot]!, steps);
    if (steps > 1) late.push(`${slot} ${name}`);
  };
  const all = places(engine);
  expect(await stepsUntilRefused(step, 2)).toBe(Number.POSITIVE_INFINITY);
  for (let key = 0; key < count; key++) {
    for (const [i, place] of all.entries()) {
      await restore();
      await poison(engine, place, key * all.length + i);
      note(place.slot, place.name, await stepsUntilRefused(step));
    }
    await restore();
    note('target', 'targets', await stepsUntilRefused((turn) => step(turn, Number.NaN)));
    await restore();
    const views = numbers(3 * pairs * 3 * size * size, 8);
    views[(key * 7919) % views.length] = Number.NaN;
    const losses = await engine.forward(views, new Float32Array(pairs));
    note('view', 'pixels', losses.every(Number.isFinite) ? Number.POSITIVE_INFINITY : 0);
  }
  source.dispose();
  const whole = await train({ ...smallRun, data, out: join(temporaryFolder(), 'run') });
  const inRuns = all.filter(({ name }) =>
    ['conv1.weight', 'layer3.0.bn1.bias', 'change.bias', 'bn1.running_mean', 'layer4.1.bn2.running_var'].includes(name),
  );
  let runs = 0;
  for (const [i, place] of inRuns.entries()) runs = Math.max(runs, await poisonedRun(place, whole.path, i));
  const figures = Object.entries(worst).map(([slot, steps]) => `${slot} ${steps}`);
  say(
    `a NaN in each of ${all.length} tensors, targets and views, ${count} a tensor: steps done before NOT_FINITE at most ${figures.join(', ')}; ` +
      `${inRuns.length} whole runs: at most ${runs}, the checkpoint before kept, and its continuation ends in the same bits`,
  );
  expect(late).toEqual([]);
  expect(runs).toBeLessThanOrEqual(1);
});

figure('N8 folds keep subjects apart', { ci: 1000, long: 100_000 }, async ({ count, say }) => {
  const seeds = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const rows = fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 12, maxLength: 80 });
  const wrong = { twoFolds: 0, twoSides: 0, sums: 0, sizes: 0 };
  let sets = 0;
  fc.assert(
    fc.property(rows, fc.integer({ min: 2, max: 6 }), seeds, (subjects, folds, seed) => {
      const all = new Set(subjects);
      fc.pre(all.size >= Math.max(folds, 4));
      sets++;
      const splits = subjectFolds(subjects, folds, seed);
      const tested = splits.map(({ test }) => new Set(Array.from(test, (row) => subjects[row]!)));
      for (const subject of all) if (tested.filter((set) => set.has(subject)).length !== 1) wrong.twoFolds++;
      if (splits.length !== folds || splits.reduce((sum, { test }) => sum + test.length, 0) !== subjects.length) wrong.sums++;
      for (const split of splits) {
        const sides = [split.train, split.validation, split.test];
        const who = sides.map((side) => new Set(Array.from(side, (row) => subjects[row]!)));
        // Disjoint and complete: the sizes add up to the size of the union, which is everyone.
        const union = new Set(who.flatMap((set) => [...set]));
        if (who.reduce((sum, set) => sum + set.size, 0) !== union.size || union.size !== all.size) wrong.twoSides++;
        if (
          new Set(sides.flatMap((side) => [...side])).size !== subjects.length ||
          sides.reduce((sum, side) => sum + side.length, 0) !== subjects.length
        )
          wrong.sums++;
        const [train, validation, test] = who.map((set) => set.size) as [number, number, number];
        const isEven = Math.abs(test - all.size / folds) < 1;
        if (train === 0 || !isEven || validation !== Math.max(1, Math.round((all.size - test) / 10))) wrong.sizes++;
      }
    }),
    { numRuns: count },
  );
  say(
    `${sets} random data sets: ${wrong.twoFolds} subjects in two folds or none, ${wrong.twoSides} on two sides of one, ${wrong.sums} sums of sizes wrong, ` +
      `${wrong.sizes} folds of uneven size`,
  );
  expect(sets).toBe(count);
  expect(wrong).toEqual({ twoFolds: 0, twoSides: 0, sums: 0, sizes: 0 });
});

/** Activations of a last block: keyed noise, with a bright or a dark spot in half of the channels where `i` is odd. */
function drawnMap(i: number): { activations: Float32Array; grid: Grid } {
  const pick = (purpose: number, low: number, high: number) => low + (philox(9n, purpose, i, 0, 0)[0] % (high - low + 1));
  const grid = { channels: pick(1, 1, 64), height: pick(2, 2, 7), width: pick(3, 2, 7) };
  const positions = grid.height * grid.width;
  const activations = numbers(grid.channels * positions, 100 + i, 2);
  if (i % 2 === 1)
    for (let c = 0; c < grid.channels; c += 2) activations[c * positions + pick(4, 0, positions - 1)]! += i % 4 === 1 ? 9 : -9;
  return { activations, grid };
}

figure('N9 Eigen-CAM is that of a whole decomposition, whatever the sign', { ci: 200, long: 5_000 }, async ({ count, say }) => {
  const size = 16;
  const worst = { svd: new Worst(), mirrored: new Worst() };
  const differing = { sign: 0, again: 0 };
  for (let i = 0; i < count; i++) {
    const { activations, grid } = drawnMap(i);
    const map = (values: Float32Array) => eigenCam(values, grid, size).map;
    const found = map(activations);
    const apart = (values: ArrayLike<number>) => found.reduce((most, value, at) => Math.max(most, Math.abs(value - values[at]!)), 0);
    const mirror = (values: Float32Array, edge: number) => values.map((_, at) => values[at + edge - 1 - 2 * (at % edge)]!);
    worst.svd.see(apart(mapBySvd(activations, grid, size)), `map ${i}`);
    worst.mirrored.see(apart(mirror(map(mirror(activations, grid.width)), size)), `map ${i}`);
    if (apart(map(activations.map((value) => -value))) !== 0) differing.sign++;
    if (apart(map(activations.slice())) !== 0) differing.again++;
  }
  const { svd, mirrored } = worst;
  say(
    `${count} maps of 1 to 64 channels on grids up to 7 x 7: ${svd.value.toExponential(1)} at most from a whole decomposition in double (${svd.where}); ` +
      `of mirrored activations ${mirrored.value.toExponential(1)} from the mirrored map; ${differing.sign} differ with the sign, ${differing.again} from run to run`,
  );
  expect(svd.value).toBeLessThan(1e-6);
  expect(mirrored.value).toBeLessThan(1e-6);
  expect(differing).toEqual({ sign: 0, again: 0 });
});
