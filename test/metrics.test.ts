// The three numbers of a comparison, against closed forms and SciPy's values.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quantile } from '../lib/transfer/bootstrap.ts';
import { mae, pearson, signAccuracy } from '../lib/transfer/metrics.ts';

const code = (name: string) => expect.objectContaining({ name: 'ComFaceError', code: name });
const numbers = fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 3, maxLength: 40 }).filter((list) => new Set(list).size > 1);

interface Golden {
  truth: number[];
  estimate: number[];
  mae: number;
  correlation: number;
  accuracy: number;
  quantiles: number[];
}
const golden = JSON.parse(readFileSync(new URL('golden/metrics.json', import.meta.url), 'utf8')) as { cases: Golden[] };

describe('the metrics', () => {
  test.each(golden.cases)('have the values of SciPy and NumPy ($truth.length pairs)', ({ truth, estimate, ...expected }) => {
    const near = (value: number, right: number) =>
      expect(Math.abs(value - right)).toBeLessThanOrEqual(1e-12 * Math.max(1, Math.abs(right)));
    near(mae(estimate, truth), expected.mae);
    near(pearson(estimate, truth), expected.correlation);
    near(signAccuracy(estimate, truth), expected.accuracy);
    const sorted = estimate.toSorted((a, b) => a - b);
    for (const [i, share] of [0, 0.025, 0.5, 0.975, 1].entries()) near(quantile(sorted, share), expected.quantiles[i]!);
  });

  test('the mean absolute error of 1, 2, 3 against 2, 0, 3 is 1', () => {
    expect(mae([1, 2, 3], [2, 0, 3])).toBe(1);
  });

  test('a prediction off by a constant has that constant as its error and a correlation of 1', () => {
    fc.assert(
      fc.property(numbers, fc.integer({ min: -50, max: 50 }), (truth, shift) => {
        const prediction = truth.map((value) => value + shift);
        expect(mae(prediction, truth)).toBeCloseTo(Math.abs(shift), 10);
        expect(pearson(prediction, truth)).toBeCloseTo(1, 10);
      }),
    );
  });

  test('correlation follows the sign of a scale and nothing else of an affine map', () => {
    fc.assert(
      fc.property(numbers, numbers, fc.integer({ min: 1, max: 9 }), (a, b, scale) => {
        const n = Math.min(a.length, b.length);
        const [p, t] = [a.slice(0, n), b.slice(0, n)];
        const plain = pearson(p, t);
        expect(
          pearson(
            p.map((value) => 3 - scale * value),
            t,
          ),
        ).toBeCloseTo(-plain, 8);
        expect(pearson(t, p)).toBeCloseTo(plain, 10);
        expect(Math.abs(plain)).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('correlation equals the textbook value of a small example', () => {
    // Deviations (-1.5, -0.5, 0.5, 1.5) and (-1, 1, -1, 1): 2 / sqrt(5 * 4).
    expect(pearson([1, 2, 3, 4], [0, 2, 0, 2])).toBeCloseTo(2 / Math.sqrt(20), 14);
  });

  test('a constant prediction correlates with 0, also one whose mean is rounded', () => {
    expect(
      pearson(
        new Float32Array(1001).fill(0.1),
        Float32Array.from({ length: 1001 }, (_, i) => i),
      ),
    ).toBe(0);
    expect(pearson([1, 2, 3], [5, 5, 5])).toBe(0);
    expect(pearson([4], [5])).toBe(0);
  });

  test('direction counts only pairs that change, and an answer of zero is wrong', () => {
    expect(signAccuracy([1, -1, 0, 5, -2], [2, 3, 4, 0, -1])).toBe(2 / 4);
    expect(signAccuracy([1, 2], [0, 0])).toBeNaN();
  });

  test('numbers that are not finite, unequal lengths and nothing at all are refused', () => {
    for (const metric of [mae, pearson, signAccuracy]) {
      expect(() => metric([1, Number.NaN], [1, 2])).toThrow(code('NOT_FINITE'));
      expect(() => metric([1, 2], [1, Number.POSITIVE_INFINITY])).toThrow('Expected a finite number for `truth[1]` but received Infinity');
      expect(() => metric([1], [1, 2])).toThrow(code('INVALID_INPUT'));
      expect(() => metric([], [])).toThrow(code('INVALID_INPUT'));
    }
  });
});
