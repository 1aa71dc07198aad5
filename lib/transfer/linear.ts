// Linear evaluation with a frozen backbone (sections 3.4 and 4.2 of the ComFace paper): a linear layer on relu(h_y - h_x) under mean squared error.
// With fixed features that is ridge regression, so it is solved exactly; every method, rival or not, goes through this one solver.
import { ComFaceError, invalid } from '../errors.js';
import type { Fold } from './folds.js';
import { mae, mean, pearson, signAccuracy } from './metrics.js';

/** One feature vector a pair: rows x width, row after row. */
export interface Features {
  rows: number;
  width: number;
  data: Float32Array;
}

/** Scores of one set of predictions; `accuracy` (of direction) is NaN when no pair changes. */
export interface Scores {
  /** Mean absolute error, in the unit. */
  mae: number;
  /** Pearson correlation of estimated and true changes. */
  correlation: number;
  /** Share of the changes whose direction is right, 0 to 1; NaN where nothing changes. */
  accuracy: number;
}

/** Result of a cross-validation. As in the paper, its own scores are means over folds; `pooled` has those over all predictions at once. */
export interface Evaluation extends Scores {
  pooled: Scores;
  /** `penalty` is the one chosen on the validation subjects (per row, of standardized features); `rows` counts the tested pairs. */
  perFold: (Scores & { penalty?: number; rows: number })[];
  /** Estimated change of each row, made by the one fold that tested it; in the unit of the target. */
  predictions: Float32Array;
}

/** Penalties to choose from, per training row; the features have unit variance, so 1 means half shrunk. */
export const penalties: readonly number[] = Array.from({ length: 9 }, (_, i) => 10 ** (i - 3));

/**
 * relu(h_y - h_x) of each pair, the input of the paper's linear layer l (equation 3's features, section 3.2).
 * @param hx Embeddings of the first pictures, pairs x width.
 * @param hy Embeddings of the second pictures, pairs x width.
 * @param width Size of an embedding.
 * @throws INVALID_INPUT for sizes that do not fit.
 */
export function differenceFeatures(hx: Float32Array, hy: Float32Array, width: number): Features {
  if (!(width > 0) || hx.length % width !== 0) throw invalid('hx', `a multiple of ${width} values`, `${hx.length} values`);
  if (hy.length !== hx.length) throw invalid('hy', `${hx.length} values`, `${hy.length} values`);
  return { rows: hx.length / width, width, data: hx.map((value, i) => Math.max(0, hy[i]! - value)) };
}

/**
 * Cross-validated ridge regression from features to signed change. In each fold: standardize by the training rows, solve for every penalty on
 * them, keep the penalty with the smallest squared error on the validation subjects, predict the test subjects.
 * @param features One row a pair.
 * @param target value_y - value_x of each pair.
 * @param subjects Subject of each pair, to refuse folds that leak one.
 * @param folds From `subjectFolds`.
 * @throws INVALID_INPUT for sizes that do not fit or a subject on two sides of a fold, NOT_FINITE for features that are not finite.
 */
export function evaluate(features: Features, target: Float32Array, subjects: ArrayLike<number>, folds: readonly Fold[]): Evaluation {
  const { rows, width, data } = features;
  if (data.length !== rows * width) throw invalid('features.data', `${rows} x ${width} values`, `${data.length} values`);
  if (target.length !== rows) throw invalid('target', `${rows} values`, `${target.length} values`);
  if (subjects.length !== rows) throw invalid('subjects', `${rows} values`, `${subjects.length} values`);
  const bad = data.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new ComFaceError('NOT_FINITE', `Expected a finite number for \`features.data[${bad}]\` but received ${data[bad]}`, {
      hint: 'Check the weights of the backbone that gave these features.',
    });
  }
  const predictions = new Float32Array(rows);
  const chosen = folds.map((fold) => {
    refuseLeak(fold, subjects);
    const { penalty, model } = fitRidge(features, target, fold);
    for (const row of fold.test) predictions[row] = predict(model, features, row);
    return penalty;
  });
  const scored = score(predictions, target, folds);
  return { ...scored, perFold: scored.perFold.map((fold, i) => ({ ...fold, penalty: chosen[i]! })) };
}

/**
 * The scores of predictions made elsewhere, fold by fold as in `evaluate`; all zeros are the method "always no change".
 * @throws INVALID_INPUT or NOT_FINITE as the metrics do.
 */
export function score(predictions: Float32Array, target: Float32Array, folds: readonly Fold[]): Evaluation {
  const of = (p: ArrayLike<number>, t: ArrayLike<number>): Scores => ({
    mae: mae(p, t),
    correlation: pearson(p, t),
    accuracy: signAccuracy(p, t),
  });
  const perFold = folds.map(({ test }) => {
    const at = (values: Float32Array): number[] => Array.from(test, (row) => values[row]!);
    return { ...of(at(predictions), at(target)), rows: test.length };
  });
  const over = (key: keyof Scores): number => mean(perFold.map((fold) => fold[key]).filter((value) => !Number.isNaN(value)));
  return {
    mae: over('mae'),
    correlation: over('correlation'),
    accuracy: over('accuracy'),
    pooled: of(predictions, target),
    perFold,
    predictions,
  };
}

/** Folds made for other rows, or by hand, could show a subject on both sides and flatter every method. */
function refuseLeak(fold: Fold, subjects: ArrayLike<number>): void {
  const side = new Map<number, string>();
  for (const name of ['train', 'validation', 'test'] as const) {
    if (fold[name].length === 0) throw invalid(`fold.${name}`, 'at least one row', '0 rows');
    for (const row of fold[name]) {
      if (row >= subjects.length) throw invalid(`fold.${name}`, `rows below ${subjects.length}`, row);
      const before = side.get(subjects[row]!);
      if (before !== undefined && before !== name)
        throw invalid(
          'folds',
          'every subject in one part of a fold',
          `subject ${subjects[row]} in ${before} and ${name}`,
          'Make the folds with subjectFolds.',
        );
      side.set(subjects[row]!, name);
    }
  }
}

/** An affine map: bias + weights . features. */
export interface Affine {
  weights: Float64Array;
  bias: number;
}

/**
 * Ridge regression on the training rows, with the penalty that has the smallest squared error on the validation rows.
 * @returns `error` is that mean squared error.
 */
export function fitRidge(
  features: Features,
  target: Float32Array,
  fold: Pick<Fold, 'train' | 'validation'>,
): { penalty: number; model: Affine; error: number } {
  const { rows, width } = { rows: fold.train.length, width: features.width };
  const { center, scale } = moments(features, fold.train);
  const matrix = new Float64Array(rows * width);
  for (let r = 0; r < rows; r++) {
    const from = fold.train[r]! * width;
    for (let j = 0; j < width; j++) matrix[r * width + j] = (features.data[from + j]! - center[j]!) * scale[j]!;
  }
  const values = Float64Array.from(fold.train, (row) => target[row]!);
  const offset = mean(values);
  const solved = ridge(
    { rows, width, matrix },
    values.map((value) => value - offset),
    penalties.map((penalty) => penalty * rows),
  );
  let best: { penalty: number; model: Affine; error: number } | undefined;
  // Strongest first: where the error is the same (say, features that are all zero) the simplest answer stays.
  for (let i = penalties.length - 1; i >= 0; i--) {
    const weights = solved[i]!.map((weight, j) => weight * scale[j]!);
    const model = { weights, bias: offset - dot(weights, 0, center, 0, width) };
    const error = mean(Array.from(fold.validation, (row) => (predict(model, features, row) - target[row]!) ** 2));
    if (!best || error < best.error) best = { penalty: penalties[i]!, model, error };
  }
  return best!;
}

function predict({ weights, bias }: Affine, features: Features, row: number): number {
  let sum = bias;
  for (let j = 0, at = row * features.width; j < features.width; j++, at++) sum += weights[j]! * features.data[at]!;
  return sum;
}

/** Mean and 1 / standard deviation of each feature over some rows; 0 for a feature that is constant there, which leaves it out. */
function moments({ width, data }: Features, rows: Uint32Array): { center: Float64Array; scale: Float64Array } {
  const center = new Float64Array(width);
  const scale = new Float64Array(width);
  for (const row of rows) for (let j = 0; j < width; j++) center[j]! += data[row * width + j]! / rows.length;
  for (const row of rows) for (let j = 0; j < width; j++) scale[j]! += (data[row * width + j]! - center[j]!) ** 2 / rows.length;
  for (let j = 0; j < width; j++) {
    const deviation = Math.sqrt(scale[j]!);
    // Below this a deviation is the rounding of the mean: features are floats, 2^-24 apart in relation to their size.
    scale[j] = deviation > 1e-10 * Math.abs(center[j]!) ? 1 / deviation : 0;
  }
  return { center, scale };
}

/**
 * Weights w that minimize |Z w - t|^2 + penalty |w|^2, one vector for each penalty. Primal: (Z'Z + p) w = Z't. Dual, the smaller system when there
 * are fewer rows than features: w = Z'a with (ZZ' + p) a = t.
 * @param design Z, rows x width, row after row.
 * @param t One value a row.
 * @param form Which system to solve. @default the smaller
 * @throws NOT_FINITE when the system is not positive definite.
 */
export function ridge(
  design: { rows: number; width: number; matrix: Float64Array },
  t: Float64Array,
  penalties: readonly number[],
  form: 'primal' | 'dual' = design.rows < design.width ? 'dual' : 'primal',
): Float64Array[] {
  const { rows, width, matrix } = design;
  const primal = form === 'primal';
  // Both forms need products of contiguous rows: of Z' in the primal, of Z in the dual.
  const transposed = new Float64Array(rows * width);
  for (let r = 0; r < rows; r++) for (let j = 0; j < width; j++) transposed[j * rows + r] = matrix[r * width + j]!;
  const [size, length, m] = primal ? [width, rows, transposed] : [rows, width, matrix];
  const products = gram(m, size, length);
  const right = primal ? times(transposed, width, rows, t) : t;
  return penalties.map((penalty) => {
    const solution = cholesky(products.slice(), size, penalty, right);
    return primal ? solution : times(transposed, width, rows, solution);
  });
}

/** Lower triangle of m m' for m of size x length. */
function gram(m: Float64Array, size: number, length: number): Float64Array {
  const out = new Float64Array(size * size);
  // In chunks that keep a strip of every row in the cache.
  for (let k = 0; k < length; k += 256) {
    const n = Math.min(256, length - k);
    for (let i = 0; i < size; i++) for (let j = 0; j <= i; j++) out[i * size + j]! += dot(m, i * length + k, m, j * length + k, n);
  }
  return out;
}

/** Solves (a + penalty) x = b by L L' = a + penalty; a's lower triangle is overwritten by L. */
function cholesky(a: Float64Array, size: number, penalty: number, b: Float64Array): Float64Array {
  const x = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const row = i * size;
    for (let j = 0; j < i; j++) a[row + j] = (a[row + j]! - dot(a, row, a, j * size, j)) / a[j * size + j]!;
    const pivot = a[row + i]! + penalty - dot(a, row, a, row, i);
    if (!(pivot > 0))
      throw new ComFaceError('NOT_FINITE', `Expected a positive pivot for \`ridge[${i}]\` but received ${pivot}`, {
        hint: 'Use a larger penalty.',
      });
    a[row + i] = Math.sqrt(pivot);
    x[i] = (b[i]! - dot(a, row, x, 0, i)) / a[row + i]!;
  }
  for (let i = size - 1; i >= 0; i--) {
    const value = x[i]! / a[i * size + i]!;
    x[i] = value;
    for (let j = 0; j < i; j++) x[j]! -= a[i * size + j]! * value;
  }
  return x;
}

/** m v for m of size x length. */
function times(m: Float64Array, size: number, length: number, v: Float64Array): Float64Array {
  return Float64Array.from({ length: size }, (_, i) => dot(m, i * length, v, 0, length));
}

/** Four sums at once: one would wait for its own last addition. */
function dot(a: Float64Array, i: number, b: Float64Array, j: number, n: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let k = 0;
  for (; k + 3 < n; k += 4) {
    s0 += a[i + k]! * b[j + k]!;
    s1 += a[i + k + 1]! * b[j + k + 1]!;
    s2 += a[i + k + 2]! * b[j + k + 2]!;
    s3 += a[i + k + 3]! * b[j + k + 3]!;
  }
  for (; k < n; k++) s0 += a[i + k]! * b[j + k]!;
  return s0 + s1 + (s2 + s3);
}
