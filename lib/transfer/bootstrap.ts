// 95 % intervals of cross-validated scores: subjects are drawn again, never pairs, since the pairs of one subject are alike (Efron and
// Tibshirani, 1993, chapter 13: percentiles). The draws are keyed, so the same predictions have the same intervals.
import { below, Purpose, philox } from '../data/random.js';
import { ComFaceError, invalid } from '../errors.js';
import type { Scores } from './linear.js';
import { mean } from './metrics.js';

/** A score with its 95 % interval. */
export interface Interval {
  value: number;
  low: number;
  high: number;
}

/** Scores as they are reported: means over folds. `accuracy` is NaN where no pair changes. */
export type Intervals = Record<keyof Scores, Interval>;

/** Estimates that were made on subjects kept out of training; all lists have a number for each pair. */
export interface Tested {
  fold: ArrayLike<number>;
  subject: ArrayLike<number>;
  truth: ArrayLike<number>;
  estimate: ArrayLike<number>;
}

/** Third key of a draw, beside those of folds.ts. */
const kBootstrap = 2;
const kShare = 0.025;

/** The subjects that a fold tests, ascending, and what each adds. */
interface FoldSums {
  /** First fold with these very subjects: all of them are drawn as it is. */
  drawnAs: number;
  subjects: Sums[];
}

/** What the pairs of one subject in one fold add to every score; p and t are estimates and truths less the fold's means. */
class Sums {
  n = 0;
  p = 0;
  t = 0;
  pp = 0;
  tt = 0;
  pt = 0;
  error = 0;
  right = 0;
  changed = 0;
  readonly rangeP: Range = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  readonly rangeT: Range = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

  add(other: Sums): void {
    this.n += other.n;
    this.p += other.p;
    this.t += other.t;
    this.pp += other.pp;
    this.tt += other.tt;
    this.pt += other.pt;
    this.error += other.error;
    this.right += other.right;
    this.changed += other.changed;
    widen(this.rangeP, other.rangeP);
    widen(this.rangeT, other.rangeT);
  }

  addPair(estimate: number, truth: number, meanP: number, meanT: number): void {
    const [p, t] = [estimate - meanP, truth - meanT];
    this.n++;
    this.p += p;
    this.t += t;
    this.pp += p * p;
    this.tt += t * t;
    this.pt += p * t;
    this.error += Math.abs(estimate - truth);
    widen(this.rangeP, [estimate, estimate]);
    widen(this.rangeT, [truth, truth]);
    if (truth === 0) return;
    this.changed++;
    if (Math.sign(estimate) === Math.sign(truth)) this.right++;
  }

  /** As metrics.ts has them. */
  scores(): Scores {
    const { n, p, t, rangeP, rangeT } = this;
    const isConstant = rangeP[0] === rangeP[1] || rangeT[0] === rangeT[1];
    const scale = Math.sqrt(Math.max(0, this.pp - (p * p) / n)) * Math.sqrt(Math.max(0, this.tt - (t * t) / n));
    const correlation = isConstant || scale === 0 ? 0 : Math.max(-1, Math.min(1, (this.pt - (p * t) / n) / scale));
    return { mae: this.error / n, correlation, accuracy: this.right / this.changed };
  }
}

/** Lowest and highest. */
type Range = [number, number];

function widen(range: Range, [low, high]: Range): void {
  if (low < range[0]) range[0] = low;
  if (high > range[1]) range[1] = high;
}

/**
 * Means over folds of mean absolute error, correlation and accuracy of direction, each with a 95 % interval: in every fold as many subjects are
 * drawn with replacement as it tests, `resamples` times. Folds that test the same subjects, as on other data, have them drawn once for all.
 *
 * @param resamples Number of draws. @default 2000
 * @param seed Key of the draws.
 * @throws INVALID_INPUT for lists of other lengths or none, NOT_FINITE for numbers that are not.
 */
export function bootstrap(tested: Tested, seed: bigint, resamples = 2000): Intervals {
  if (!Number.isInteger(resamples) || resamples < 1) throw invalid('resamples', 'a whole number above 0', resamples);
  const folds = sumsOf(tested);
  const whole = overFolds(folds.map(({ subjects }) => subjects.map((_, i) => i)));
  const drawn: Scores[] = [];
  for (let turn = 0; turn < resamples; turn++) {
    drawn.push(
      overFolds(
        folds.map(({ subjects, drawnAs }) =>
          subjects.map((_, i) => below(philox(seed, Purpose.evaluate, turn, drawnAs * 0x10000 + i, kBootstrap)[0], subjects.length)),
        ),
      ),
    );
  }
  return { mae: interval('mae'), correlation: interval('correlation'), accuracy: interval('accuracy') };

  function overFolds(chosen: number[][]): Scores {
    const each = folds.map(({ subjects }, fold) => {
      const sums = new Sums();
      for (const i of chosen[fold]!) sums.add(subjects[i]!);
      return sums.scores();
    });
    const over = (key: keyof Scores) => mean(each.map((one) => one[key]).filter((value) => !Number.isNaN(value)));
    return { mae: over('mae'), correlation: over('correlation'), accuracy: over('accuracy') };
  }

  function interval(key: keyof Scores): Interval {
    const sorted = drawn
      .map((one) => one[key])
      .filter((value) => !Number.isNaN(value))
      .sort((a, b) => a - b);
    return { value: whole[key], low: quantile(sorted, kShare), high: quantile(sorted, 1 - kShare) };
  }
}

function sumsOf({ fold, subject, truth, estimate }: Tested): FoldSums[] {
  for (const [name, list] of Object.entries({ fold, subject, estimate })) {
    if (list.length !== truth.length) throw invalid(name, `${truth.length} values`, `${list.length} values`);
  }
  if (truth.length === 0) throw invalid('truth', 'at least one value', '0 values');
  const rows = new Map<number, number[]>();
  for (let row = 0; row < truth.length; row++) {
    if (!Number.isFinite(truth[row]) || !Number.isFinite(estimate[row])) {
      const [name, value] = Number.isFinite(truth[row]) ? ['estimate', estimate[row]] : ['truth', truth[row]];
      throw new ComFaceError('NOT_FINITE', `Expected a finite number for \`${name}[${row}]\` but received ${value}`);
    }
    const list = rows.get(fold[row]!);
    if (list) list.push(row);
    else rows.set(fold[row]!, [row]);
  }
  const first = new Map<string, number>();
  return [...rows.keys()]
    .sort((a, b) => a - b)
    .map((key, index) => {
      const sums = sumsOfFold(rows.get(key)!);
      const names = sums.map(([who]) => who).join();
      if (!first.has(names)) first.set(names, index);
      return { drawnAs: first.get(names)!, subjects: sums.map(([, of]) => of) };
    });

  function sumsOfFold(list: number[]): [number, Sums][] {
    const [meanP, meanT] = [mean(list.map((row) => estimate[row]!)), mean(list.map((row) => truth[row]!))];
    const sums = new Map<number, Sums>();
    for (const row of list) {
      const of = sums.get(subject[row]!) ?? new Sums();
      sums.set(subject[row]!, of);
      of.addPair(estimate[row]!, truth[row]!, meanP, meanT);
    }
    return [...sums.entries()].sort(([a], [b]) => a - b);
  }
}

/** Linear between the two neighbors (Hyndman and Fan's type 7, as numpy.percentile); NaN of nothing. */
export function quantile(sorted: readonly number[], share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const next = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return sorted[below]! + (at - below) * (next - sorted[below]!);
}
