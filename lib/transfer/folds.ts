// Who is trained on, chosen with and tested on, and which pairs are compared (section 4.2 of the ComFace paper).
// Subjects are split, never pictures; everything is a pure function of (seed, subject numbers), so every method sees the same folds and pairs.
import { below, Purpose, philox } from '../data/random.js';
import { invalid } from '../errors.js';

/** Row indices of one split, ascending; no subject is in two of the three. */
export interface Fold {
  train: Uint32Array;
  validation: Uint32Array;
  test: Uint32Array;
}

/** Ordered pairs of rows and the signed change between them. */
export interface Pairs {
  /** Row of the first picture. */
  x: Uint32Array;
  /** Row of the second picture. */
  y: Uint32Array;
  /** value[y] - value[x], in the unit of the value. */
  target: Float32Array;
  /** Subject of both. */
  subject: Uint32Array;
}

/** Third key of a draw: what it decides. */
const kSplit = 0;
const kPairs = 1;

/**
 * Splits subjects into `folds` test sets of nearly equal size, each subject in exactly one. In each fold a tenth of the other subjects (at least
 * one) is for validation and the rest for training. The order of the rows does not matter.
 * @param subjects Subject of each row.
 * @param folds Number of folds, 2 or more; the paper has 4.
 * @param seed Key of the shuffle.
 * @throws INVALID_INPUT for too few subjects to fill all three sets.
 */
export function subjectFolds(subjects: ArrayLike<number>, folds: number, seed: bigint): Fold[] {
  if (!Number.isInteger(folds) || folds < 2) throw invalid('folds', 'a whole number of at least 2', folds);
  const order = shuffled(
    [...new Set(Array.from(subjects))].sort((a, b) => a - b),
    seed,
  );
  const count = order.length;
  // Beside the tested subjects there must be one to train on and one to choose with; with two folds that takes four.
  const least = folds === 2 ? 4 : folds;
  if (count < least) {
    throw invalid(
      'subjects',
      `at least ${least} different subjects for ${folds} folds`,
      count,
      'Use fewer folds or data with more subjects.',
    );
  }
  return Array.from({ length: folds }, (_, fold) => {
    const from = Math.floor((fold * count) / folds);
    const size = Math.floor(((fold + 1) * count) / folds) - from;
    const validation = Math.max(1, Math.round((count - size) / 10));
    // Around the circle of subjects: the tested ones, then those to choose with, then those to train on.
    const place = new Map(order.map((subject, i) => [subject, (i - from + count) % count]));
    const rows = { train: [] as number[], validation: [] as number[], test: [] as number[] };
    for (let row = 0; row < subjects.length; row++) {
      const at = place.get(subjects[row]!)!;
      (at < size ? rows.test : at < size + validation ? rows.validation : rows.train).push(row);
    }
    return { train: Uint32Array.from(rows.train), validation: Uint32Array.from(rows.validation), test: Uint32Array.from(rows.test) };
  });
}

/**
 * Draws ordered pairs of different rows of one subject, with replacement: every ordered pair is equally likely, so increases and decreases are
 * about equally many. Draw once and give the same pairs to every method. The draws of a subject do not depend on the other subjects.
 * @param set Subject and value (say, alpha) of each row.
 * @param pairsPerSubject Pairs of each subject.
 * @param seed Key of the draws.
 * @throws INVALID_INPUT for a subject with a single row.
 */
export function drawPairs(set: { subject: ArrayLike<number>; value: ArrayLike<number> }, pairsPerSubject: number, seed: bigint): Pairs {
  const { subject, value } = set;
  if (value.length !== subject.length) throw invalid('value', `${subject.length} values`, `${value.length} values`);
  if (!Number.isInteger(pairsPerSubject) || pairsPerSubject < 1)
    throw invalid('pairsPerSubject', 'a whole number above 0', pairsPerSubject);
  const rowsOf = new Map<number, number[]>();
  for (let row = 0; row < subject.length; row++) {
    const rows = rowsOf.get(subject[row]!);
    if (rows) rows.push(row);
    else rowsOf.set(subject[row]!, [row]);
  }
  const count = rowsOf.size * pairsPerSubject;
  const pairs: Pairs = {
    x: new Uint32Array(count),
    y: new Uint32Array(count),
    target: new Float32Array(count),
    subject: new Uint32Array(count),
  };
  let at = 0;
  for (const [who, rows] of [...rowsOf].sort(([a], [b]) => a - b)) {
    if (rows.length < 2)
      throw invalid('subject', 'at least two rows of each subject', `one row of subject ${who}`, `Leave out subject ${who}.`);
    for (let i = 0; i < pairsPerSubject; i++, at++) {
      const [first, second] = philox(seed, Purpose.evaluate, who, i, kPairs);
      const x = below(first, rows.length);
      const y = (x + 1 + below(second, rows.length - 1)) % rows.length;
      pairs.x[at] = rows[x]!;
      pairs.y[at] = rows[y]!;
      pairs.target[at] = value[rows[y]!]! - value[rows[x]!]!;
      pairs.subject[at] = who;
    }
  }
  return pairs;
}

/** Fisher-Yates with keyed draws. */
function shuffled(list: number[], seed: bigint): number[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = below(philox(seed, Purpose.evaluate, i, 0, kSplit)[0], i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}
