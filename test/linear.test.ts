// The solver that every method shares, against the normal equations, and the pixel baseline's features.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { philox } from '../lib/data/random.ts';
import { subjectFolds } from '../lib/transfer/folds.ts';
import { differenceFeatures, evaluate, type Features, ridge, score } from '../lib/transfer/linear.ts';
import { grayGrids, pixelDifferences } from '../lib/transfer/pixels.ts';

const code = (name: string) => expect.objectContaining({ name: 'ComFaceError', code: name });

/** Standard normal, by key. */
function noise(key: number, i: number): number {
  const [u, v] = philox(11n, 7, key, i, 0);
  return Math.sqrt(-2 * Math.log((u + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * v) / 2 ** 32);
}

/** Data of 24 subjects with 20 pairs each whose target is a fixed combination of the features, plus noise. */
function planted(width: number, noiseSize: number): { features: Features; target: Float32Array; subjects: number[] } {
  const rows = 480;
  const data = Float32Array.from({ length: rows * width }, (_, i) => 5 + 3 * noise(1, i));
  const target = Float32Array.from({ length: rows }, (_, r) => {
    let sum = 2;
    for (let j = 0; j < width; j++) sum += (data[r * width + j]! - 5) * noise(2, j);
    return sum + noiseSize * noise(3, r);
  });
  return { features: { rows, width, data }, target, subjects: Array.from({ length: rows }, (_, r) => Math.floor(r / 20)) };
}

describe('ridge', () => {
  const problem = fc.record({
    rows: fc.integer({ min: 1, max: 12 }),
    width: fc.integer({ min: 1, max: 12 }),
    key: fc.nat(1e6),
    penalty: fc.double({ min: 0.01, max: 100, noNaN: true }),
  });
  const make = ({ rows, width, key }: { rows: number; width: number; key: number }) => ({
    design: { rows, width, matrix: Float64Array.from({ length: rows * width }, (_, i) => noise(key, i)) },
    t: Float64Array.from({ length: rows }, (_, i) => noise(key, 1000 + i)),
  });

  test("solves the normal equations (Z'Z + p) w = Z't of random small problems", () => {
    fc.assert(
      fc.property(problem, (one) => {
        const { design, t } = make(one);
        const { rows, width, matrix } = design;
        const [w] = ridge(design, t, [one.penalty]);
        const residual = Array.from(t, (value, r) => value - w!.reduce((sum, weight, j) => sum + weight * matrix[r * width + j]!, 0));
        for (let j = 0; j < width; j++) {
          let gradient = -one.penalty * w![j]!;
          for (let r = 0; r < rows; r++) gradient += matrix[r * width + j]! * residual[r]!;
          expect(gradient).toBeCloseTo(0, 9);
        }
      }),
    );
  });

  test('gives the same weights in its primal and its dual form', () => {
    fc.assert(
      fc.property(problem, (one) => {
        const { design, t } = make(one);
        const [primal] = ridge(design, t, [one.penalty], 'primal');
        const [dual] = ridge(design, t, [one.penalty], 'dual');
        primal!.forEach((weight, j) => {
          expect(dual![j]).toBeCloseTo(weight, 9);
        });
      }),
    );
  });

  test('equals least squares shrunk by 1 / (1 + p) on an orthonormal design', () => {
    const [w] = ridge({ rows: 3, width: 3, matrix: Float64Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1) }, Float64Array.of(4, -8, 12), [3]);
    expect([...w!]).toEqual([1, -2, 3]);
  });

  test('says so when a system has no unique answer', () => {
    expect(() => ridge({ rows: 2, width: 1, matrix: new Float64Array(2) }, new Float64Array(2), [0])).toThrow(code('NOT_FINITE'));
  });
});

describe('evaluate', () => {
  test('recovers a planted linear signal on subjects it has not seen', () => {
    const { features, target, subjects } = planted(12, 0);
    const result = evaluate(features, target, subjects, subjectFolds(subjects, 4, 1n));
    expect(result.correlation).toBeGreaterThan(0.9999);
    expect(result.perFold).toHaveLength(4);
    expect(result.perFold.every(({ penalty }) => penalty === 1e-3)).toBe(true);
    expect(result.pooled.correlation).toBeGreaterThan(0.9999);
  });

  test('recovers it with more features than training rows, where the dual form is solved', () => {
    const { features, target, subjects } = planted(12, 0.5);
    const wide = 400;
    const data = Float32Array.from({ length: features.rows * wide }, (_, i) => {
      const [row, j] = [Math.floor(i / wide), i % wide];
      return j < 12 ? features.data[row * 12 + j]! : 0.2 * noise(5, i);
    });
    const result = evaluate({ rows: features.rows, width: wide, data }, target, subjects, subjectFolds(subjects, 4, 1n));
    expect(result.correlation).toBeGreaterThan(0.7);
  });

  test('finds nothing in noise, and shrinks it harder than a signal', () => {
    const { features, subjects } = planted(12, 0);
    const target = Float32Array.from({ length: features.rows }, (_, i) => noise(4, i));
    const result = evaluate(features, target, subjects, subjectFolds(subjects, 4, 1n));
    expect(Math.abs(result.correlation)).toBeLessThan(0.25);
    expect(Math.max(...result.perFold.map(({ penalty }) => penalty ?? 0))).toBeGreaterThanOrEqual(1);
  });

  test('does not care about the unit or the offset of a feature, nor about one that is constant', () => {
    const { features, target, subjects } = planted(6, 1);
    const folds = subjectFolds(subjects, 4, 1n);
    const other = { ...features, data: features.data.map((value, i) => (i % 6 === 0 ? 1000 + 64 * value : value)) };
    const more = {
      rows: features.rows,
      width: 7,
      data: Float32Array.from({ length: features.rows * 7 }, (_, i) =>
        i % 7 === 6 ? 0.1 : features.data[Math.floor(i / 7) * 6 + (i % 7)]!,
      ),
    };
    const plain = evaluate(features, target, subjects, folds);
    for (const changed of [evaluate(other, target, subjects, folds), evaluate(more, target, subjects, folds)]) {
      expect(changed.correlation).toBeCloseTo(plain.correlation, 5);
      expect(changed.mae).toBeCloseTo(plain.mae, 4);
    }
  });

  test('answers the mean change when all features are zero, with the strongest penalty', () => {
    const { target, subjects } = planted(2, 1);
    const result = evaluate({ rows: 480, width: 3, data: new Float32Array(480 * 3) }, target, subjects, subjectFolds(subjects, 4, 1n));
    expect(result.correlation).toBe(0);
    expect(result.perFold.every(({ penalty }) => penalty === 1e5)).toBe(true);
  });

  test('scores "always no change" with correlation 0 and the mean size of a change', () => {
    const { target, subjects } = planted(2, 1);
    const result = score(new Float32Array(480), target, subjectFolds(subjects, 4, 1n));
    expect([result.correlation, result.accuracy]).toEqual([0, 0]);
    expect(result.pooled.mae).toBeCloseTo(target.reduce((sum, value) => sum + Math.abs(value), 0) / 480, 4);
  });

  test('refuses a fold that leaks a subject, features that are not finite, and sizes that do not fit', () => {
    const { features, target, subjects } = planted(2, 1);
    const folds = subjectFolds(subjects, 4, 1n);
    const leak = [{ ...folds[0]!, validation: folds[0]!.test.slice(0, 1) }];
    expect(() => evaluate(features, target, subjects, leak)).toThrow(/Expected every subject in one part of a fold/);
    const data = features.data.slice();
    data[9] = Number.NaN;
    expect(() => evaluate({ ...features, data }, target, subjects, folds)).toThrow(
      'Expected a finite number for `features.data[9]` but received NaN',
    );
    expect(() => evaluate({ ...features, width: 3 }, target, subjects, folds)).toThrow(code('INVALID_INPUT'));
    expect(() => evaluate(features, target.slice(1), subjects, folds)).toThrow(code('INVALID_INPUT'));
  });
});

describe('features of a pair', () => {
  test('are relu(h_y - h_x) for embeddings', () => {
    const { rows, width, data } = differenceFeatures(Float32Array.of(1, 5, 0, 0), Float32Array.of(3, 2, -1, 4), 2);
    expect([rows, width, ...data]).toEqual([2, 2, 2, 0, 0, 4]);
    expect(() => differenceFeatures(new Float32Array(4), new Float32Array(6), 2)).toThrow(code('INVALID_INPUT'));
    expect(() => differenceFeatures(new Float32Array(5), new Float32Array(5), 2)).toThrow(code('INVALID_INPUT'));
  });

  const normalization = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
  /** A picture of one color's value at each pixel, as the network sees it. */
  const picture = (size: number, value: (row: number, column: number, color: number) => number) =>
    Float32Array.from({ length: 3 * size * size }, (_, i) => {
      const color = Math.floor(i / (size * size));
      const raw = value(Math.floor(i / size) % size, i % size, color);
      return (raw - normalization.mean[color]!) / normalization.deviation[color]!;
    });

  test.each([16, 20, 64])('are gray area averages for pictures of %i pixels, whatever the normalization', (size) => {
    // The area average of a ramp over a cell is its value at the middle of the cell.
    const grids = grayGrids(
      picture(size, (row, column) => (row + 0.5) / size / 2 + (column + 0.5) / size / 4),
      size,
      normalization,
    );
    grids.forEach((gray, i) => {
      const [row, column] = [Math.floor(i / 16), i % 16];
      // Inside a pixel a ramp is flat, so where cells cut pixels the average can be off by part of a step.
      const slack = size % 16 === 0 ? 1e-6 : 0.5 / size;
      expect(Math.abs(gray - ((row + 0.5) / 32 + (column + 0.5) / 64))).toBeLessThan(slack);
    });
    expect(grids.reduce((sum, gray) => sum + gray, 0) / 256).toBeCloseTo(0.375, 5);
  });

  test('weigh red, green and blue as BT.601 does, and pairs are second minus first', () => {
    const size = 16;
    const images = new Float32Array(4 * 3 * size * size);
    [3, 0, 1, 2].forEach((lit, n) => {
      images.set(
        picture(size, (_row, _column, color) => (color === lit ? 1 : 0)),
        n * 3 * size * size,
      );
    });
    const { rows, width, data } = pixelDifferences(grayGrids(images, size, normalization), { x: [0, 0, 3], y: [1, 2, 0] });
    expect([rows, width]).toEqual([3, 256]);
    [0.299, 0.587, -0.114].forEach((gray, i) => {
      expect(data[i * 256 + 77]).toBeCloseTo(gray, 6);
    });
  });

  test('refuse pictures that are too small and pairs beyond the last picture', () => {
    expect(() => grayGrids(new Float32Array(3 * 64), 8, normalization)).toThrow(code('INVALID_INPUT'));
    expect(() => grayGrids(new Float32Array(100), 16, normalization)).toThrow(code('INVALID_INPUT'));
    expect(() => pixelDifferences(new Float32Array(256), { x: [0], y: [1] })).toThrow(code('INVALID_INPUT'));
  });
});
