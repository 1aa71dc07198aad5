// Which pictures form the pairs of a step. No list of pairs is ever made: pictures are in groups of one subject and
// attribute by alpha (groups.ts), x comes from a keyed permutation of the epoch, y from the part of x's group that lies within S.
import { kMaxRange, type TrainConfig } from '../config.js';
import { ComFaceError, invalid } from '../errors.js';
import type { NativePlan } from '../native.js';
import type { DataSet } from './dataset.js';
import { type Groups, kTolerance, partners } from './groups.js';
import { below, keyedPermutation, Purpose, philox } from './random.js';

/** Pairs in a plan beyond the batch, to stand in for those with a broken picture: 8, and four times what a set as broken as allowed would need. */
export function sparesOf({ pairs, brokenShare = 0 }: Pick<PairOptions, 'pairs' | 'brokenShare'>): number {
  return 8 + Math.ceil(4 * brokenShare * pairs);
}

/** Options of the sampler, as in the training configuration. */
export interface PairOptions extends Pick<TrainConfig, 'seed' | 'pairs' | 'pairsPerEpoch' | 'target'> {
  /** As in the training configuration; more broken pictures need more spares. @default 0 */
  brokenShare?: number;
  /** Last epoch; the narrowest range is that of this one. @default all stages are reached */
  epochs?: number;
  /** S of an epoch, never growing: `(epoch) => stageAt(config.curriculum, epoch).range`. */
  rangeAt: (epoch: number) => number;
}

/** Subject numbers of the two parts of a data set, ascending. */
export interface Split {
  training: Uint32Array;
  validation: Uint32Array;
}

/**
 * Splits the subjects, never the pictures of one (paper, section 4.1: 90 % and 10 %). Keyed by `seed`; at least one subject is kept
 * out when `share` > 0 and there are two, and at least one always trains.
 *
 * @param share Part of the subjects to keep out, [0, 1).
 */
export function splitSubjects({ subjects }: Pick<DataSet, 'subjects'>, share: number, seed: number): Split {
  const wanted = share > 0 ? Math.max(1, Math.round(share * subjects.length)) : 0;
  const kept = Math.min(wanted, subjects.length - 1);
  // Epoch 0 of the order is free for this: epochs count from 1.
  const order = keyedPermutation(BigInt(seed), Purpose.order, 0, subjects.length);
  const pick = (from: number, to: number) =>
    Uint32Array.from({ length: Math.max(0, to - from) }, (_, i) => subjects[order(from + i)]!).sort();
  return { validation: pick(0, kept), training: pick(kept, subjects.length) };
}

/** Plans the steps of a run; `plan(step)` is a pure function of the data, the options and `step`. */
export class PairSampler {
  /** Pictures of the given subjects. */
  readonly pictures: number;
  /** Whole batches in an epoch; the last incomplete one is dropped. */
  readonly stepsPerEpoch: number;
  readonly #options: PairOptions;
  readonly #seed: bigint;
  readonly #groups: Groups;
  // What only depends on the epoch or on S, kept from the last plan.
  #order: { epoch: number; at: (index: number) => number } = { epoch: 0, at: (index) => index };
  #usable: { range: number; next: Uint32Array | null } = { range: Number.NaN, next: null };

  /**
   * @param subjects Subject numbers whose pictures take part.
   * @throws ComFaceError INVALID_INPUT when no subject has two alphas of one attribute within the narrowest range, or a batch is larger
   * than the data.
   */
  constructor(data: Pick<DataSet, 'folder' | 'groupsOf'>, subjects: Iterable<number>, options: PairOptions) {
    this.#options = options;
    this.#seed = BigInt(options.seed);
    this.#groups = data.groupsOf(new Set(subjects));
    this.pictures = this.#groups.length;
    const range = options.rangeAt(options.epochs ?? Number.POSITIVE_INFINITY);
    if (firstWithPartner(this.#groups, range) < 0) throw noPairs(data.folder, this.#groups, range);
    const rule = `at most ${this.pictures}, the number of training pictures,`;
    if (this.pictures < options.pairs) throw invalid('pairs', rule, options.pairs, 'Use smaller batches or more pictures.');
    this.stepsPerEpoch = Math.floor(Math.min(options.pairsPerEpoch ?? this.pictures, this.pictures) / options.pairs);
  }

  /**
   * The pairs of a global step, counted from 1: `pairs` rows and {@link sparesOf} spares.
   *
   * In an epoch each picture is x once (in as many batches as `stepsPerEpoch`). A picture without a partner within S is replaced by the
   * next one, by (subject, attribute, alpha), that has one. y is uniform over the pictures of the same subject and attribute with
   * 0 < |alpha_y - alpha_x| <= S (paper, sections 3.2 and 3.3).
   */
  plan(step: number): NativePlan {
    if (!Number.isInteger(step) || step < 1 || step > 0xffffffff) throw invalid('step', 'an integer from 1 to 4294967295', step);
    const { pairs } = this.#options;
    const epochsBefore = Math.floor((step - 1) / this.stepsPerEpoch);
    const first = (step - 1 - epochsBefore * this.stepsPerEpoch) * pairs;
    const range = this.#options.rangeAt(epochsBefore + 1);
    const spares = sparesOf(this.#options);
    const rows = pairs + spares;
    const plan = { seed: this.#seed, step, pairs, x: new Uint32Array(rows), y: new Uint32Array(rows), target: new Float32Array(rows) };
    const order = this.#orderOf(epochsBefore + 1);
    for (let i = 0; i < pairs; i++) {
      const word = philox(this.#seed, Purpose.pair, step, i, 0)[0];
      this.#pair(plan, i, order(first + i), word, range);
    }
    for (let i = 0; i < spares; i++) {
      const words = philox(this.#seed, Purpose.spare, step, i, 0);
      this.#pair(plan, pairs + i, below(words[0], this.pictures), words[1], range);
    }
    return plan;
  }

  #orderOf(epoch: number): (index: number) => number {
    if (this.#order.epoch !== epoch) this.#order = { epoch, at: keyedPermutation(this.#seed, Purpose.order, epoch, this.pictures) };
    return this.#order.at;
  }

  #pair(plan: NativePlan, row: number, place: number, word: number, range: number): void {
    const groups = this.#groups;
    if (this.#usable.range !== range) this.#usable = { range, next: nextUsable(this.#groups, range) };
    const x = this.#usable.next === null ? place : this.#following(this.#usable.next, place);
    const near = partners(groups, x, range);
    const choice = below(word, near.count);
    const lower = near.middle - near.from;
    const y = choice < lower ? near.from + choice : near.after + choice - lower;
    const change = groups.alphaAt(y) - groups.alphaAt(x);
    plan.x[row] = groups.sampleAt(x);
    plan.y[row] = groups.sampleAt(y);
    plan.target[row] = this.#options.target === 'signed' ? change : Math.abs(change);
  }

  #following(next: Uint32Array, place: number): number {
    const { period, length } = this.#groups;
    const inside = place % period;
    return (place - inside + next[inside]!) % length;
  }
}

/** What is in the way of pairs: alphas that are all the same, or too far apart. */
function noPairs(folder: string, groups: Groups, range: number): ComFaceError {
  const { length, period } = groups;
  const fail = (rule: string, found: string, hint: string) =>
    new ComFaceError('INVALID_INPUT', `Expected two pictures of one subject and attribute ${rule} in ${folder} but found ${found}`, {
      hint,
    });
  const steps: number[] = [];
  let isOne = true;
  for (let place = 1; place < period; place++) {
    const step = groups.alphaAt(place) - groups.alphaAt(place - 1);
    if (step !== 0) isOne = false;
    if (groups.lowOf(place) < place && step >= kTolerance) steps.push(step);
  }
  if (steps.length === 0) {
    const found = isOne && length > 0 ? `that alpha is ${shortly(groups.alphaAt(0))} in all ${length}` : `none among ${length}`;
    return fail('with different alphas', found, 'Give each picture the alpha that it shows, and each subject several of one attribute.');
  }
  const least = shortly(steps.reduce((a, b) => Math.min(a, b)));
  const advice =
    least <= kMaxRange
      ? 'for data with larger steps pass --curriculum none.'
      : `these differ by ${least} or more: choose a larger \`curriculum.maxRange\`, or fewer \`curriculum.stageEnds\`.`;
  const reach = shortly(range);
  const hint = `The last stage of the curriculum compares alphas at most ${reach} apart; ${advice}`;
  return fail(`whose alphas differ by at most ${reach}`, `none among ${length}`, hint);
}

/** A float as it was written: 0.1, not 0.10000000149011612. */
const shortly = (float: number): number => Number(float.toPrecision(6));

/** Places beyond one period are as those in it. */
function firstWithPartner(groups: Groups, range: number): number {
  for (let place = 0; place < groups.period; place++) if (partners(groups, place, range).count > 0) return place;
  return -1;
}

/** For each place of a period the first at or after it, maybe in the next period, that has a partner; null when every place has one. */
function nextUsable(groups: Groups, range: number): Uint32Array | null {
  const next = new Uint32Array(groups.period);
  let lonely = 0;
  let following = groups.period + firstWithPartner(groups, range);
  for (let place = next.length - 1; place >= 0; place--) {
    if (partners(groups, place, range).count > 0) following = place;
    else lonely++;
    next[place] = following;
  }
  return lonely === 0 ? null : next;
}
