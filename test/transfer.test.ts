// Transfer on a task that a network learns in seconds: how bright a picture is. Folds, pairs, resume, the model that is left.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readData } from '../lib/data/dataset.ts';
import { pack } from '../lib/data/pack.ts';
import { philox, unit } from '../lib/data/random.ts';
import { embedSamples, loadModel, Model } from '../lib/model.ts';
import { subjectFolds } from '../lib/transfer/folds.ts';
import { differenceFeatures, evaluate } from '../lib/transfer/linear.ts';
import { checkTransferOptions, type TransferOptions } from '../lib/transfer/options.ts';
import type { TransferResult } from '../lib/transfer/result.ts';
import { pairsOf, taskOf } from '../lib/transfer/task.ts';
import { transfer } from '../lib/transfer/transfer.ts';
import { Tuner } from '../lib/transfer/tune.ts';

const kSubjects = 12;
const kPictures = 6;
const kEdge = 32;
/** A seed whose folds validate with none of the last subject's pictures. */
const kDamagedIsLearnedFrom = 1;
const plain = {
  ...{ cropAreaMin: 1, cropAspectMax: 1, flipProbability: 0, jitterProbability: 0, brightness: 0, contrast: 0, saturation: 0, hue: 0 },
  grayscaleProbability: 0,
};

let root: string;
let bright: string;
let other: string;

/** Pictures of noise whose brightness is their label, of each subject in a light of its own. */
async function brightnessSet(name: string, tint: number): Promise<string> {
  const from = join(root, `${name}-pictures`);
  const lines = ['path,subject,attribute,label'];
  for (let subject = 0; subject < kSubjects; subject++) {
    mkdirSync(join(from, `s${subject}`), { recursive: true });
    for (let picture = 0; picture < kPictures; picture++) {
      const word = (i: number) => philox(9n, 7, subject * 100 + picture, i, tint)[0];
      const label = Math.round(20 * unit(word(0))) / 10;
      const base = 60 + 40 * unit(philox(9n, 7, subject, 0, 50)[0]) + 45 * label;
      const rgb = Uint8Array.from({ length: kEdge * kEdge * 3 }, (_, i) => base + tint * (i % 3) + 20 * (unit(word(1 + i)) - 0.5));
      const path = `s${subject}/${picture}.png`;
      await sharp(rgb, { raw: { width: kEdge, height: kEdge, channels: 3 } })
        .png()
        .toFile(join(from, path));
      lines.push(`${path},s${subject},light,${label}`);
    }
  }
  writeFileSync(join(from, 'list.csv'), `${lines.join('\n')}\n`);
  const out = join(root, name);
  await pack({ from: join(from, 'list.csv'), out, size: kEdge, quality: 0 });
  return out;
}

const small = {
  backbone: 'resnet18',
  width: 16,
  size: kEdge,
  pairs: 16,
  device: 'cpu',
  precision: 'fp32',
  threads: 1,
  loaderThreads: 1,
} as const;
const options = (name: string, more: Partial<TransferOptions> = {}): TransferOptions => ({
  ...{
    ...small,
    data: bright,
    out: join(root, name),
    augment: plain,
    folds: 3,
    pairsPerSubject: 12,
    epochs: 10,
    learningRates: [1e-3, 3e-3],
  },
  ...more,
});

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'comface-transfer-'));
  bright = await brightnessSet('bright', 0);
  other = await brightnessSet('other', 5);
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Without what differs from call to call. */
const figures = ({ scores, folds, pairs }: TransferResult) => ({ scores, folds, pairs });

describe('a transfer', () => {
  let tuned: TransferResult;
  beforeAll(async () => {
    tuned = await transfer(options('tuned'));
  });

  test('learns a change from random weights, and tells its direction', () => {
    expect(tuned).toMatchObject({
      attribute: 'light',
      unit: 'units of the label',
      evaluation: 'fineTune',
      test: null,
      model: { folder: null },
    });
    expect(tuned.scores.correlation.value).toBeGreaterThan(0.8);
    expect(tuned.scores.accuracy.value).toBeGreaterThan(0.85);
    const { low, value, high } = tuned.scores.mae;
    expect(low! <= value! && value! <= high! && high! < 0.5).toBe(true);
  });

  test('tests each pair once, by a fold that trains and chooses with other subjects', () => {
    const { fold, subject, x, y, truth } = tuned.pairs;
    expect(fold).toHaveLength(kSubjects * 12);
    expect(new Set(subject.map((who, i) => `${who} ${fold[i]}`)).size).toBe(kSubjects);
    expect(tuned.folds.map((one) => [one.trainSubjects, one.validationSubjects, one.testSubjects])).toEqual([
      [7, 1, 4],
      [7, 1, 4],
      [7, 1, 4],
    ]);
    expect(x.every((sample, i) => sample !== y[i])).toBe(true);
    expect(truth.some((change) => change > 0) && truth.some((change) => change < 0)).toBe(true);
  });

  test('tries every learning rate and keeps the one with the least validation error', () => {
    for (const { tried, learningRate, steps } of tuned.folds) {
      expect(tried!.map((one) => one.learningRate)).toEqual([1e-3, 3e-3]);
      const best = tried!.reduce((a, b) => (b.validationError! < a.validationError! ? b : a));
      expect([learningRate, steps]).toEqual([best.learningRate, best.steps]);
    }
  });

  test('gives every method the same pairs and folds', async () => {
    const linear = await transfer(options('linear', { evaluation: 'linear', final: false }));
    const own = ({ pairs: { estimate: _, ...rest } }: TransferResult) => rest;
    expect(own(linear)).toEqual(own(tuned));
  });

  test('leaves a model of all subjects that compares pictures in the unit of the label', async () => {
    const folder = join(root, 'tuned', 'model');
    await using model = await loadModel(folder, { threads: 1 });
    expect(model.task).toEqual({ attribute: 'light', unit: 'units of the label' });
    const jpeg = async (level: number) => {
      const file = join(root, `${level}.jpg`);
      const create = { width: kEdge, height: kEdge, channels: 3 as const, background: { r: level, g: level, b: level } };
      await sharp({ create }).jpeg().toFile(file);
      return file;
    };
    const [dark, light] = [await jpeg(90), await jpeg(135)];
    const { change, direction, unit: of } = await model.compare(dark, light);
    expect(change).toBeGreaterThan(0.5);
    expect([direction, of]).toEqual(['increase', 'units of the label']);
    expect((await model.compare(light, dark)).direction).toBe('decrease');
  });

  test('goes on where it was stopped, to the same figures, and is read when it is done', async () => {
    const controller = new AbortController();
    const stopped = transfer(
      options('stopped', {
        signal: controller.signal,
        onEvent: (event) => {
          if (event.type === 'fold' && event.fold === 1) controller.abort(new Error('enough'));
        },
      }),
    );
    await expect(stopped).rejects.toThrow('enough');
    expect(existsSync(join(root, 'stopped', 'transfer.json'))).toBe(false);
    const steps = new Set<number>();
    const resumed = await transfer(options('stopped', { onEvent: (event) => event.type === 'step' && steps.add(event.fold) }));
    expect([...steps].sort()).toEqual([2, 3, 4]); // and the model of all
    expect(figures(resumed)).toEqual(figures(tuned));
    const again = await transfer(options('stopped', { onEvent: () => expect.unreachable() }));
    expect(again).toEqual(resumed);
  });

  test('may be tested on other data than it learns from', async () => {
    const result = await transfer(options('across', { testData: other, learningRates: [3e-3], final: false }));
    expect(result.test!.folder).toBe(other);
    expect(result.folds.map(({ pairs, testSubjects }) => [pairs, testSubjects])).toEqual(Array(3).fill([kSubjects * 12, kSubjects]));
    expect(result.scores.correlation.value).toBeGreaterThan(0.6);
  });

  test('with a frozen backbone is the ridge regression that every method shares', async () => {
    const linear = JSON.parse(readFileSync(join(root, 'linear', 'transfer.json'), 'utf8')) as TransferResult;
    const data = await readData(bright);
    const pairs = pairsOf(taskOf(data), 12, 1);
    const { augment } = checkTransferOptions(options('any')).train;
    await using model = await Model.from(
      { backbone: 'resnet18', width: 16, size: kEdge, augment },
      { seed: 1 },
      { precision: 'fp32', threads: 1 },
    );
    const source = data.open(kEdge, 1);
    const h = async (list: Uint32Array) => {
      const out = new Float32Array(list.length * model.width);
      for (const [i, sample] of list.entries()) out.set(await embedSamples(model, source, [sample]), i * model.width);
      return out;
    };
    const features = differenceFeatures(await h(pairs.x), await h(pairs.y), model.width);
    source.dispose();
    const expected = evaluate(features, pairs.target, pairs.subject, subjectFolds(pairs.subject, 3, 1n));
    expect(linear.scores.mae.value).toBeCloseTo(expected.mae, 3);
    expect(linear.scores.correlation.value).toBeCloseTo(expected.correlation, 3);
    expect(linear.folds.map(({ penalty }) => penalty)).toEqual(expected.perFold.map(({ penalty }) => penalty));
  });
});

test('a training that goes on with what another gave begins with its head, whatever the spread of the new targets', async () => {
  const data = await readData(bright);
  const { train } = checkTransferOptions(options('any', { pairs: 8 }));
  const settings = { ...train, epochs: 1, patience: 1, learningRates: [1e-3] };
  const design = { backbone: 'resnet18', width: 16, size: kEdge, augment: train.augment } as const;
  const tuner = await Tuner.create(data, design, 'value', settings, train);
  onTestFinished(() => tuner.dispose());
  const x = Uint32Array.from({ length: 40 }, (_, i) => i);
  const wide = { x, target: Float32Array.from(x, (i) => 100 * (i % 5)) };
  const first = await tuner.tune(await tuner.fresh(), wide, wide);
  const narrow = { x, target: Float32Array.from(x, (i) => 0.01 * (i % 5)) };
  const next = await tuner.tune(first.weights, narrow, narrow, undefined, undefined, { learningRate: 1e-9 });
  const head = (weights: typeof first.weights) => [...(weights.get('value.weight')!.data as Float32Array)];
  for (const [i, weight] of head(next.weights).entries()) expect(weight / head(first.weights)[i]!).toBeCloseTo(1, 3);
});

describe('the folder of a transfer', () => {
  const quick = (name: string, more: Partial<TransferOptions> = {}) =>
    options(name, { evaluation: 'linear', final: false, pairsPerSubject: 6, ...more });
  let whole: TransferResult;
  beforeAll(async () => {
    whole = await transfer(quick('quick'));
  });
  const part = () => join(root, 'quick', 'parts', 'fold-2.json');
  const result = () => join(root, 'quick', 'transfer.json');

  test('with a part that was cut off or edited names it; without it that part is made anew', async () => {
    const text = readFileSync(part(), 'utf8');
    const edited = (change: (part: { fold: Record<string, unknown>; estimate: unknown[] }) => void) => {
      const read = JSON.parse(text);
      change(read);
      return JSON.stringify(read);
    };
    const damages = [
      text.slice(0, 50),
      'null',
      '{}',
      '{"fold":{},"estimate":[1]}',
      edited(({ estimate }) => estimate.pop()),
      edited(({ estimate }) => estimate.splice(3, 1, '1')),
      edited(({ fold }) => {
        fold.mae = 'low';
      }),
    ];
    for (const damage of damages) {
      rmSync(result(), { force: true });
      writeFileSync(part(), damage);
      expect(await transfer(quick('quick')).catch((e) => e)).toMatchObject({
        code: 'CORRUPT_FILE',
        message: expect.stringContaining(part()),
        hint: expect.stringContaining('Remove that file'),
      });
    }
    rmSync(part());
    expect(figures(await transfer(quick('quick')))).toEqual(figures(whole));
  });

  test('with a damaged result says what to do, and that helps', async () => {
    writeFileSync(result(), readFileSync(result(), 'utf8').slice(0, 300));
    expect(await transfer(quick('quick')).catch((e) => e)).toMatchObject({
      code: 'CORRUPT_FILE',
      hint: expect.stringContaining('Remove that file'),
    });
    rmSync(result());
    expect(figures(await transfer(quick('quick')))).toEqual(figures(whole));
  });

  test('in which nothing was learned yet is begun anew, with other options too', async () => {
    const out = join(root, 'killed');
    mkdirSync(join(out, 'parts'), { recursive: true }); // killed before the plan
    writeFileSync(join(out, 'transfer.plan.json.1-a.part'), '{');
    expect(figures(await transfer(quick('killed')))).toEqual(figures(whole));
    const controller = new AbortController();
    const stop = { signal: controller.signal, onEvent: () => controller.abort(new Error('enough')) };
    await expect(transfer(quick('regretted', { ...stop, pairsPerSubject: 5 }))).rejects.toThrow('enough');
    expect(figures(await transfer(quick('regretted')))).toEqual(figures(whole));
  });

  test('keeps nothing that a killed process had under way', async () => {
    rmSync(result());
    const left = join(root, 'quick', 'parts', 'fold-2.json.99999999-a.part');
    writeFileSync(left, '{');
    await transfer(quick('quick'));
    expect(existsSync(left)).toBe(false);
  });
});

describe('what cannot be transferred to', () => {
  const refusal = (more: Partial<TransferOptions>) =>
    transfer(options('refused', more)).then(
      () => undefined,
      (error) => error,
    );

  test('options out of range are refused by name, before anything is written', async () => {
    const wrong: [Partial<TransferOptions>, RegExp][] = [
      [{ folds: 1 }, /`folds`/],
      [{ pairsPerSubject: 0 }, /`pairsPerSubject`/],
      [{ learningRates: [] }, /`learningRates`/],
      [{ learningRates: [1, 1] }, /`learningRates`/],
      [{ learningRates: [-1] }, /`learningRates\[0\]`/],
      [{ evaluation: 'fine' as never }, /`evaluation`/],
      [{ patience: 0.5 }, /`patience`/],
      [{ epochs: 0 }, /`epochs`/],
      [{ augment: { hue: 3 } }, /`augment.hue`/],
      [{ attribute: 'smile' }, /one of light for `attribute` but received "smile"/],
      [{ out: bright }, /`out`/],
      [{ model: other }, /nothing beside `model`, whose network it is for `backbone`/],
      [{ final: 'yes' as never }, /`final`/],
      [{ folds: 13 }, /at least 13 different subjects/],
    ];
    for (const [more, message] of wrong) {
      const error = await refusal(more);
      expect([error?.code === 'INVALID_CONFIG' || error?.code === 'INVALID_INPUT', error?.message]).toEqual([
        true,
        expect.stringMatching(message),
      ]);
    }
    expect(existsSync(join(root, 'refused'))).toBe(false);
  });

  /** A set of so many pictures of each subject, with these labels. */
  async function setOf(name: string, labels: number[][]): Promise<string> {
    const from = join(root, `${name}-pictures`);
    for (const [subject, list] of labels.entries()) {
      mkdirSync(join(from, `${subject}`), { recursive: true });
      for (const [i, label] of list.entries())
        await sharp({ create: { width: 16, height: 16, channels: 3, background: { r: 10 * i, g: 90, b: 90 } } })
          .png()
          .toFile(join(from, `${subject}`, `${label}_${i}.png`));
    }
    const out = join(root, name);
    await pack({ from, out, size: 16 });
    return out;
  }

  test('subjects with one picture are left out and named; a fold without change says which', async () => {
    const labels = Array.from({ length: 6 }, (_, i) => (i === 4 ? [1] : [0, 1, 2]));
    const data = await setOf('alone', labels);
    const warnings: string[] = [];
    const result = await transfer(
      options('alone-out', {
        data,
        final: false,
        epochs: 1,
        learningRates: [1e-3],
        onEvent: (e) => e.type === 'warning' && warnings.push(e.message),
      }),
    );
    expect(warnings).toEqual([expect.stringMatching(/single picture of change are left out \(1\): 4$/)]);
    expect(result.warnings).toEqual(warnings);
    expect(result.pairs.subject).not.toContain(4);
    const still = await setOf('still', [...Array.from({ length: 5 }, () => [1, 1]), [0, 1]]);
    expect(await refusal({ data: still })).toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/a change of change .* of fold \d but found none/),
    });
  });

  test('labels so far apart that no float holds their difference are refused', async () => {
    const data = await setOf(
      'far',
      Array.from({ length: 6 }, () => [-3e38, 3e38]),
    );
    expect(await refusal({ data })).toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/below 3\.4e38 .* from -?3\.000e\+38 to/),
    });
  });

  test("a folder with another transfer, or anybody's files, is left alone", async () => {
    const taken = await transfer(options('tuned', { pairsPerSubject: 11 })).catch((e) => e);
    expect(taken).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(/holds something else/) });
    mkdirSync(join(root, 'mine'));
    writeFileSync(join(root, 'mine', 'notes.txt'), 'mine');
    expect(await transfer(options('mine')).catch((e) => e)).toMatchObject({ code: 'INVALID_INPUT' });
    expect(readFileSync(join(root, 'mine', 'notes.txt'), 'utf8')).toBe('mine');
  });

  test('a damaged picture is named', async () => {
    const damaged = await setOf(
      'damaged',
      Array.from({ length: 6 }, () => [0, 1, 2]),
    );
    const shard = join(damaged, '00000.shard');
    const bytes = readFileSync(shard);
    bytes.fill(0, bytes.length - 300);
    writeFileSync(shard, bytes);
    const error = await refusal({ data: damaged, epochs: 1, final: false });
    expect([error.code, error.message]).toEqual(['CORRUPT_FILE', expect.stringContaining('00000.shard')]);
    rmSync(join(root, 'refused'), { recursive: true, force: true });
    // Where it is only learned from, another stands in for it, and that is said.
    const testData = await setOf(
      'sound',
      Array.from({ length: 4 }, () => [0, 2]),
    );
    const more = { data: damaged, testData, folds: 2, seed: kDamagedIsLearnedFrom, epochs: 1, learningRates: [1e-3], final: false };
    const { warnings } = await transfer(options('replaced', more));
    expect(warnings).toEqual([expect.stringMatching(/^A broken picture was replaced by another in training: .*00000\.shard, picture 17/)]);
  });
});
