// Pictures in groups of one subject and attribute, by ascending alpha. A "place" is an index in that order; no list of pairs is ever made.

/** Alphas are floats: two that differ by less are the same, and a range may be passed by as much. */
export const kTolerance = 1e-6;

/**
 * Pictures in groups of one subject and attribute, alpha ascending within a group. Pictures are found by their place in that order: a pair is two places
 * of one group.
 */
export interface Groups {
  /** Number of places. */
  readonly length: number;
  /** Of each `period` places in turn alphas and groups are those of the first: one group of a grid, or all places. */
  readonly period: number;
  /**
   * Number of the picture at a place.
   * @param place From 0; the places of a group follow each other, alpha ascending.
   */
  sampleAt(place: number): number;
  /**
   * alpha of the picture at a place: how far it is changed, or its label.
   * @param place From 0.
   */
  alphaAt(place: number): number;
  /**
   * First place of the group that a place is in.
   * @param place From 0.
   */
  lowOf(place: number): number;
  /**
   * The place behind the last of that group.
   * @param place From 0.
   */
  highOf(place: number): number;
  /**
   * The first place with an alpha of at least `value`; `to` if there is none.
   * @param from First of the places looked at, all of one group.
   * @param to The place behind the last.
   * @param value An alpha.
   */
  firstAtLeast(from: number, to: number, value: number): number;
}

/** A picture of each sample number, in lists. */
export interface Columns {
  subject: ArrayLike<number>;
  attribute: ArrayLike<number>;
  alpha: ArrayLike<number>;
}

/** Groups of pictures listed one by one. */
export class ListedGroups implements Groups {
  readonly length: number;
  readonly period: number;
  readonly #samples: Uint32Array;
  readonly #alphas: Float32Array;
  /** First place of each group, then the number of places. */
  readonly #starts: Uint32Array;

  /** @param subjects Whose pictures take part. */
  constructor({ subject, attribute, alpha }: Columns, subjects: ReadonlySet<number>) {
    const samples = new Uint32Array(subject.length);
    let count = 0;
    for (let row = 0; row < subject.length; row++) if (subjects.has(subject[row]!)) samples[count++] = row;
    const chosen = samples.slice(0, count);
    const compare = (a: number, b: number) => subject[a]! - subject[b]! || attribute[a]! - attribute[b]! || alpha[a]! - alpha[b]! || a - b;
    // Generated sets come sorted; with a comparator, sorting millions takes seconds.
    if (!chosen.every((sample, i) => i === 0 || compare(chosen[i - 1]!, sample) < 0)) chosen.sort(compare);
    const starts = [0];
    for (let place = 1; place < count; place++) {
      const [before, here] = [chosen[place - 1]!, chosen[place]!];
      if (subject[before] !== subject[here] || attribute[before] !== attribute[here]) starts.push(place);
    }
    this.#samples = chosen;
    this.#alphas = Float32Array.from(chosen, (sample) => alpha[sample]!);
    this.#starts = Uint32Array.from([...starts, count]);
    this.length = count;
    this.period = count;
  }

  sampleAt(place: number): number {
    return this.#samples[place]!;
  }
  alphaAt(place: number): number {
    return this.#alphas[place]!;
  }
  lowOf(place: number): number {
    return this.#starts[this.#groupAfter(place) - 1]!;
  }
  highOf(place: number): number {
    return this.#starts[this.#groupAfter(place)]!;
  }
  firstAtLeast(from: number, to: number, value: number): number {
    return firstAtLeast(this.#alphas, from, to, value);
  }
  #groupAfter(place: number): number {
    return firstAtLeast(this.#starts, 0, this.#starts.length, place + 1);
  }
}

/** Groups that all have the same alphas, a picture of each, in the order of the sample numbers: nothing is listed but the groups. */
export class GridGroups implements Groups {
  readonly length: number;
  readonly period: number;
  readonly #groups: Uint32Array;
  readonly #alphas: Float32Array;

  /** @param groups Numbers of those that take part. @param alphas Of each, ascending. */
  constructor(groups: Uint32Array, alphas: Float32Array) {
    this.#groups = groups;
    this.#alphas = alphas;
    this.length = groups.length * alphas.length;
    this.period = Math.min(this.length, alphas.length);
  }

  sampleAt(place: number): number {
    const { length } = this.#alphas;
    return this.#groups[Math.floor(place / length)]! * length + (place % length);
  }
  alphaAt(place: number): number {
    return this.#alphas[place % this.#alphas.length]!;
  }
  lowOf(place: number): number {
    return place - (place % this.#alphas.length);
  }
  highOf(place: number): number {
    return this.lowOf(place) + this.#alphas.length;
  }
  firstAtLeast(from: number, to: number, value: number): number {
    const low = this.lowOf(from);
    return low + firstAtLeast(this.#alphas, from - low, to - low, value);
  }
}

/** The first index in [from, to) of ascending values with at least `value`; `to` if there is none. */
export function firstAtLeast(values: Float32Array | Uint32Array, from: number, to: number, value: number): number {
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (values[middle]! < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Places of x's group with 0 < |alpha - alpha_x| <= range: [from, middle) below x and [after, to) above it. */
export function partners(groups: Groups, x: number, range: number) {
  const [low, high, alpha] = [groups.lowOf(x), groups.highOf(x), groups.alphaAt(x)];
  const from = groups.firstAtLeast(low, x, alpha - range - kTolerance);
  const middle = groups.firstAtLeast(from, x, alpha - kTolerance);
  const after = groups.firstAtLeast(x, high, alpha + kTolerance);
  const to = groups.firstAtLeast(after, high, alpha + range + kTolerance);
  return { from, middle, after, to, count: middle - from + to - after };
}
