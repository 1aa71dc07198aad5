import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { filesOf } from '../lib/data/dataset.ts';
import type { Manifest } from '../lib/data/manifest.ts';
import { type PairOptions, PairSampler, sparesOf, splitSubjects } from '../lib/data/pairs.ts';
import { ComFaceError } from '../lib/errors.ts';
import { stageAt } from '../lib/train/curriculum.ts';

type Row = [subject: number, attribute: number, alpha: number];

const curriculum = { maxRange: 10, stageEnds: [1, 2, 3, 4] };
const common: PairOptions = {
  seed: 1,
  pairs: 4,
  pairsPerEpoch: undefined,
  target: 'absolute',
  rangeAt: (epoch) => stageAt(curriculum, epoch).range,
};

/** 6 subjects x 2 attributes x 21 alphas from -5 to 5. */
const grid = manifestOf(Array.from({ length: 252 }, (_, i) => [Math.floor(i / 42), Math.floor(i / 21) % 2, ((i % 21) - 10) / 2]));
const everyone = [0, 1, 2, 3, 4, 5];

describe('the pairs of a step', () => {
  it('are of one subject and attribute, never alike in alpha and never farther apart than S', () => {
    const row = fc.tuple(
      fc.nat(4),
      fc.nat(2),
      fc.integer({ min: -50, max: 50 }).map((tenth) => tenth / 10),
    );
    const rows = fc
      .array(row, { minLength: 1, maxLength: 200 })
      .map((list): Row[] => [...list, [9, 0, 0], [9, 0, 1], [9, 0, 2], [9, 0, 3]]);
    fc.assert(
      fc.property(rows, fc.nat(1000), fc.integer({ min: 1, max: 300 }), (list, seed, step) => {
        const data = manifestOf(list);
        const sampler = new PairSampler(filesOf(data), [0, 1, 2, 3, 4, 9], { ...common, seed });
        const plan = sampler.plan(step);
        const range = common.rangeAt(Math.ceil(step / sampler.stepsPerEpoch));
        for (let i = 0; i < 4 + sparesOf({ pairs: 4 }); i++) checkPair(data, plan.x[i]!, plan.y[i]!, plan.target[i]!, range);
      }),
    );
  });

  it('have every training picture as x once an epoch', () => {
    const sampler = new PairSampler(filesOf(grid), everyone, common);
    expect([sampler.pictures, sampler.stepsPerEpoch]).toEqual([252, 63]);
    for (const epoch of [1, 4]) expect(epochOf(sampler, epoch).sort((a, b) => a - b)).toEqual(Array.from({ length: 252 }, (_, i) => i));
    expect(epochOf(sampler, 1)).not.toEqual(epochOf(sampler, 2));
  });

  it('leave out the last incomplete batch', () => {
    const sampler = new PairSampler(filesOf(grid), everyone, { ...common, pairs: 100 });
    expect(sampler.stepsPerEpoch).toBe(2);
    expect(new Set(epochOf(sampler, 1)).size).toBe(200);
  });

  it('are fewer in an epoch of pairsPerEpoch, and different ones in the next', () => {
    const sampler = new PairSampler(filesOf(grid), everyone, { ...common, pairsPerEpoch: 43 });
    expect(sampler.stepsPerEpoch).toBe(10);
    expect(epochOf(sampler, 1)).not.toEqual(epochOf(sampler, 2));
    expect(new PairSampler(filesOf(grid), everyone, { ...common, pairsPerEpoch: 9999 }).stepsPerEpoch).toBe(63);
  });

  it('are the same whatever was asked before', () => {
    const one = new PairSampler(filesOf(grid), everyone, common);
    const other = new PairSampler(filesOf(grid), everyone, common);
    for (const step of [1, 64, 200, 2, 130, 1000]) other.plan(step);
    for (const step of [200, 1, 64]) expect(other.plan(step)).toEqual(one.plan(step));
  });

  it('are the same pictures whatever the order of the manifest', () => {
    const rows = Array.from(grid.files, (_, i): Row => [grid.subject[i]!, grid.attribute[i]!, grid.alpha[i]!]);
    const turned = manifestOf(rows.reverse());
    const [a, b] = [new PairSampler(filesOf(grid), everyone, common).plan(5), new PairSampler(filesOf(turned), everyone, common).plan(5)];
    expect(Array.from(b.x, (sample) => 251 - sample)).toEqual([...a.x]);
    expect(b.target).toEqual(a.target);
  });

  it('depend on seed and step, and carry both', () => {
    const plan = new PairSampler(filesOf(grid), everyone, common).plan(3);
    expect([plan.seed, plan.step, plan.pairs, plan.x.length]).toEqual([1n, 3, 4, 4 + sparesOf({ pairs: 4 })]);
    expect(new PairSampler(filesOf(grid), everyone, { ...common, seed: 2 }).plan(3).x).not.toEqual(plan.x);
    expect(new PairSampler(filesOf(grid), everyone, common).plan(4).x).not.toEqual(plan.x);
  });

  it('draw y evenly over all partners of x', () => {
    const data = manifestOf([-5, -2.5, 0, 2.5, 5].map((alpha): Row => [0, 0, alpha]));
    const sampler = new PairSampler(filesOf(data), [0], { ...common, pairs: 5, rangeAt: () => 5 });
    const counts = [0, 0, 0, 0, 0];
    for (let step = 1; step <= 4000; step++) {
      const { x, y } = sampler.plan(step);
      for (let i = 0; i < 5; i++) if (x[i] === 2) counts[y[i]!]!++;
    }
    expect(counts[2]).toBe(0);
    for (const place of [0, 1, 3, 4]) expect(Math.abs(counts[place]! - 1000)).toBeLessThan(150);
  });

  it('have signed targets on request', () => {
    const plan = new PairSampler(filesOf(grid), everyone, { ...common, target: 'signed' }).plan(1);
    for (let i = 0; i < plan.x.length; i++) expect(plan.target[i]).toBeCloseTo(grid.alpha[plan.y[i]!]! - grid.alpha[plan.x[i]!]!, 6);
    expect(plan.target.some((target) => target < 0) && plan.target.some((target) => target > 0)).toBe(true);
  });

  it('take the next picture for one without a partner', () => {
    const data = manifestOf([
      [0, 0, -5],
      [0, 0, 0],
      [0, 0, 1],
      [1, 0, 3],
    ]);
    const sampler = new PairSampler(filesOf(data), [0, 1], { ...common, rangeAt: () => 2 });
    expect(epochOf(sampler, 1).sort((a, b) => a - b)).toEqual([1, 1, 1, 2]);
  });

  it('never touch pictures of other subjects', () => {
    const sampler = new PairSampler(filesOf(grid), [1, 4], { ...common, pairs: 84 });
    const { x, y } = sampler.plan(1);
    expect(new Set([...x, ...y].map((sample) => grid.subject[sample]))).toEqual(new Set([1, 4]));
  });
});

describe('a set without pairs', () => {
  it('is refused when no subject has two alphas', () => {
    const data = manifestOf(
      [0, 1, 2, 3].flatMap((subject): Row[] => [
        [subject, 0, 1],
        [subject, 0, 1],
        [subject, 1, 2],
      ]),
    );
    expect(errorOf(() => new PairSampler(filesOf(data), [0, 1, 2, 3], common))).toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected two pictures of one subject and attribute with different alphas in /faces but found none among 12',
      hint: 'Give each picture the alpha that it shows, and each subject several of one attribute.',
    });
  });

  it('is refused with the one alpha that all have', () => {
    const data = manifestOf(Array.from({ length: 55 }, (_, i): Row => [i % 5, 0, 2.1]));
    expect(errorOf(() => new PairSampler(filesOf(data), [0, 1, 2, 3, 4], common)).message).toBe(
      'Expected two pictures of one subject and attribute with different alphas in /faces but found that alpha is 2.1 in all 55',
    );
  });

  const twoAlphas = (low: number, high: number) =>
    manifestOf(
      [0, 1, 2].flatMap((subject): Row[] => [
        [subject, 0, low],
        [subject, 0, high],
      ]),
    );

  it('is refused at the start when only its last stage has none', () => {
    expect(errorOf(() => new PairSampler(filesOf(twoAlphas(-2, 2)), [0, 1, 2], common))).toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected two pictures of one subject and attribute whose alphas differ by at most 2.5 in /faces but found none among 6',
      hint: expect.stringMatching(/at most 2\.5 apart.*--curriculum none/),
    });
  });

  it('is not sent to a curriculum of none when its steps are too large for that as well', () => {
    const { hint } = errorOf(() => new PairSampler(filesOf(twoAlphas(-30, 30)), [0, 1, 2], { ...common, rangeAt: () => 10 }));
    expect(hint).toMatch(/at most 10 apart; these differ by 60 or more.*`curriculum\.maxRange`/);
    expect(hint).not.toContain('none');
  });

  it('is refused when a batch is larger than it', () => {
    expect(errorOf(() => new PairSampler(filesOf(grid), [0], { ...common, pairs: 43 })).message).toBe(
      'Expected at most 42, the number of training pictures, for `pairs` but received 43',
    );
  });

  it('has no step 0', () => {
    expect(errorOf(() => new PairSampler(filesOf(grid), everyone, common).plan(0)).message).toContain('`step`');
  });
});

describe('the split of subjects', () => {
  const hundred = { subjects: Uint32Array.from({ length: 100 }, (_, i) => i * 3) };

  it('keeps a tenth of them out, and no subject on both sides', () => {
    const { training, validation } = splitSubjects(hundred, 0.1, 1);
    expect([training.length, validation.length]).toEqual([90, 10]);
    expect(new Set([...training, ...validation]).size).toBe(100);
  });

  it('depends on the seed alone', () => {
    expect(splitSubjects(hundred, 0.1, 1)).toEqual(splitSubjects(hundred, 0.1, 1));
    expect(splitSubjects(hundred, 0.1, 1)).not.toEqual(splitSubjects(hundred, 0.1, 2));
  });

  it('leaves one to train and takes one to validate', () => {
    const sizes = (subjects: number[], share: number) => {
      const { training, validation } = splitSubjects({ subjects: Uint32Array.from(subjects) }, share, 1);
      return [training.length, validation.length];
    };
    expect([sizes([4], 0.1), sizes([4, 5], 0.1), sizes([1, 2, 3], 0), sizes([1, 2, 3], 0.99)]).toEqual([
      [1, 0],
      [1, 1],
      [3, 0],
      [1, 2],
    ]);
  });
});

function manifestOf(rows: Row[]): Manifest {
  return {
    folder: '/faces',
    size: 64,
    files: rows.map((_, i) => `/faces/${i}.jpg`),
    lines: Uint32Array.from(rows, (_, i) => i + 2),
    subject: Uint32Array.from(rows, ([subject]) => subject),
    attribute: Uint16Array.from(rows, ([, attribute]) => attribute),
    attributes: ['weight', 'age', 'smile'],
    alpha: Float32Array.from(rows, ([, , alpha]) => alpha),
    hash: '',
  };
}

function checkPair(data: Manifest, x: number, y: number, target: number, range: number): void {
  expect(data.subject[y]).toBe(data.subject[x]);
  expect(data.attribute[y]).toBe(data.attribute[x]);
  const change = Math.abs(data.alpha[y]! - data.alpha[x]!);
  expect(change).toBeGreaterThan(0.05);
  expect(change).toBeLessThanOrEqual(range + 1e-6);
  expect(target).toBeCloseTo(change, 6);
}

function epochOf(sampler: PairSampler, epoch: number): number[] {
  return Array.from({ length: sampler.stepsPerEpoch }, (_, i) => sampler.plan((epoch - 1) * sampler.stepsPerEpoch + i + 1)).flatMap(
    (plan) => [...plan.x.subarray(0, plan.pairs)],
  );
}

function errorOf(call: () => unknown): ComFaceError {
  try {
    call();
  } catch (error) {
    if (error instanceof ComFaceError) return error;
    throw error;
  }
  throw new Error('no error');
}

it('has spares in a batch enough for a set that is as broken as allowed', () => {
  expect([32, 512, 1024].map((pairs) => sparesOf({ pairs, brokenShare: 0.01 }))).toEqual([10, 29, 49]);
});
