// Intervals over subjects: their middle is the score itself, they cover, and they count subjects, not pairs.
import { describe, expect, test } from 'vitest';
import { philox, unit } from '../lib/data/random.ts';
import { bootstrap, quantile, type Tested } from '../lib/transfer/bootstrap.ts';
import { drawPairs, subjectFolds } from '../lib/transfer/folds.ts';
import { score } from '../lib/transfer/linear.ts';

const code = (name: string) => expect.objectContaining({ name: 'ComFaceError', code: name });

/** Standard normal, by key. */
function noise(key: number, i: number): number {
  const [u, v] = philox(3n, 7, key, i, 0);
  return Math.sqrt(-2 * Math.log((u + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * v) / 2 ** 32);
}

/** Pairs of subjects whose errors have a part of their own: what makes pairs of one subject alike. */
function tested(subjects: number, pairs: number, key: number): Tested & { truth: number[]; estimate: number[] } {
  const rows = Array.from({ length: subjects * pairs }, (_, i) => i);
  const subject = rows.map((row) => Math.floor(row / pairs));
  const truth = rows.map((row) => 2 * noise(key, row));
  const estimate = rows.map((row) => truth[row]! + noise(key, 100_000 + subject[row]!) + 0.3 * noise(key, 200_000 + row));
  return { fold: subject.map((s) => s % 2), subject, truth, estimate };
}

describe('the bootstrap over subjects', () => {
  test('has the scores of a cross-validation in its middle', () => {
    const subject = Array.from({ length: 300 }, (_, i) => i % 20);
    const value = subject.map((_, i) => 5 * unit(philox(1n, 7, i, 0, 0)[0]));
    const pairs = drawPairs({ subject, value }, 12, 4n);
    const folds = subjectFolds(pairs.subject, 4, 4n);
    const estimate = pairs.target.map((truth, i) => 0.4 * truth + noise(5, i));
    const fold = new Uint32Array(pairs.target.length);
    for (const [k, { test: rows }] of folds.entries()) for (const row of rows) fold[row] = k;
    const expected = score(estimate, pairs.target, folds);
    const found = bootstrap({ fold, subject: pairs.subject, truth: pairs.target, estimate }, 1n, 50);
    for (const key of ['mae', 'correlation', 'accuracy'] as const) {
      expect(found[key].value).toBeCloseTo(expected[key], 10);
      expect(found[key].low).toBeLessThan(expected[key]);
      expect(found[key].high).toBeGreaterThan(expected[key]);
    }
  });

  test('its intervals hold the mean error of the population 88 to 99 times in 100', () => {
    // |noise of a subject + noise of a pair| has this mean: the half-normal of variance 1 + 0.09.
    const truth = Math.sqrt((2 * 1.09) / Math.PI);
    let held = 0;
    for (let key = 0; key < 100; key++) {
      const { low, high } = bootstrap(tested(40, 5, key), BigInt(key), 200).mae;
      if (low <= truth && truth <= high) held++;
    }
    expect(held).toBeGreaterThanOrEqual(88);
    expect(held).toBeLessThanOrEqual(99);
  });

  test('folds that test the same subjects say no more than one of them', () => {
    const once = { ...tested(19, 6, 1), fold: new Uint32Array(19 * 6) };
    const repeat = (list: ArrayLike<number>) => Array.from({ length: 4 }, () => Array.from(list)).flat();
    const fold = repeat(once.truth).map((_, i) => Math.floor(i / once.truth.length));
    const four = { fold, subject: repeat(once.subject), truth: repeat(once.truth), estimate: repeat(once.estimate) };
    const [a, b] = [bootstrap(once, 1n, 300), bootstrap(four, 1n, 300)];
    for (const key of ['mae', 'correlation', 'accuracy'] as const)
      for (const end of ['value', 'low', 'high'] as const) expect(b[key][end]).toBeCloseTo(a[key][end], 10);
  });

  test('a pair that is there ten times says no more than once', () => {
    const once = tested(12, 6, 1);
    const repeat = (list: ArrayLike<number>) => Array.from(list).flatMap((value) => Array.from({ length: 10 }, () => value));
    const often = { fold: repeat(once.fold), subject: repeat(once.subject), truth: repeat(once.truth), estimate: repeat(once.estimate) };
    const [a, b] = [bootstrap(once, 1n, 300), bootstrap(often, 1n, 300)];
    for (const key of ['mae', 'correlation', 'accuracy'] as const)
      for (const end of ['value', 'low', 'high'] as const) expect(b[key][end]).toBeCloseTo(a[key][end], 10);
  });

  test('one subject has no interval, constants correlate with 0, and what never changes has no direction', () => {
    const one = { fold: [0, 0, 0], subject: [7, 7, 7], truth: [1, 2, 3], estimate: [1, 2, 2] };
    const { mae, correlation } = bootstrap(one, 1n, 20);
    expect([mae.low, mae.high]).toEqual([mae.value, mae.value]);
    expect(correlation.value).toBeCloseTo(Math.sqrt(3) / 2, 10);
    const still = bootstrap({ fold: [0, 0], subject: [1, 2], truth: [0, 0], estimate: [0.1, 0.1] }, 1n, 20);
    expect(still.correlation).toEqual({ value: 0, low: 0, high: 0 });
    expect(still.accuracy).toEqual({ value: Number.NaN, low: Number.NaN, high: Number.NaN });
  });

  test('is the same for the same seed and another for another', () => {
    const of = (seed: bigint) => bootstrap(tested(12, 6, 1), seed, 100);
    expect(of(1n)).toEqual(of(1n));
    expect(of(1n).mae.low).not.toBe(of(2n).mae.low);
  });

  test('refuses lists that do not fit and numbers that are none', () => {
    const good = tested(4, 3, 1);
    expect(() => bootstrap({ ...good, fold: [1] }, 1n)).toThrow(code('INVALID_INPUT'));
    expect(() => bootstrap({ fold: [], subject: [], truth: [], estimate: [] }, 1n)).toThrow(code('INVALID_INPUT'));
    expect(() => bootstrap({ ...good, estimate: good.estimate.with(2, Number.NaN) }, 1n)).toThrow(/finite number for `estimate\[2\]`/);
    expect(() => bootstrap({ ...good, truth: good.truth.with(1, Number.POSITIVE_INFINITY) }, 1n)).toThrow(/finite number for `truth\[1\]`/);
    expect(() => bootstrap(good, 1n, 0)).toThrow(/`resamples`/);
  });

  test('a quantile of nothing is none', () => {
    expect(quantile([], 0.5)).toBeNaN();
    expect(quantile([4], 0.3)).toBe(4);
  });
});
