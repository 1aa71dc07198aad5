// Random numbers without state, the twin of native/rng.h: every draw is a pure function of (seed, purpose, a, b, c).
// 32-bit words only; a product of two words is put together from 16-bit halves, because a double holds 53 bits.

/** What a draw is for; the numbers are part of the format and those of native/rng.h. */
export const Purpose = { init: 1, augment: 2, face: 3, order: 4, pair: 5, spare: 6, test: 7, evaluate: 8, twin: 9, latent: 10 } as const;

/** Four words, each an integer in [0, 2^32). */
export type Draw = [number, number, number, number];

const kRounds = 10;
// Of the Feistel network. Four give a good shuffle of large sets (Luby and Rackoff, 1988), small ones need more.
const kOrderRounds = 8;

/** Philox4x32-10 (Salmon et al., SC 2011): four independent words for the counter (a, b, c, purpose) under the 64-bit key `seed`. */
export function philox(seed: bigint, purpose: number, a: number, b: number, c: number): Draw {
  const [low, high] = split(seed);
  philoxOfWords(low, high, purpose, a, b, c);
  return [words[0]!, words[1]!, words[2]!, words[3]!];
}

/** Uniform in [0, 1), 24 bits: every value is exact in float. */
export function unit(word: number): number {
  return (word >>> 8) * 2 ** -24;
}

/** Standard normals (Box and Muller, 1958), four of each draw (a, b, 0), (a, b, 1), ... */
export function normals(seed: bigint, purpose: number, a: number, b: number, count: number): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 4) {
    const draw = philox(seed, purpose, a, b, i / 4);
    for (const k of [0, 2] as const) {
      const radius = Math.sqrt(-2 * Math.log((draw[k] + 1) * 2 ** -32));
      const angle = 2 * Math.PI * draw[(k + 1) as 1 | 3] * 2 ** -32;
      // Beyond the end of a typed array nothing is written.
      out[i + k] = radius * Math.cos(angle);
      out[i + k + 1] = radius * Math.sin(angle);
    }
  }
  return out;
}

/** Uniform integer in [0, n) from one word, n at most 2^32. */
export function below(word: number, n: number): number {
  // word * n may pass 2^53; the rounding could then reach n itself.
  return Math.min(Math.floor((word / 2 ** 32) * n), n - 1);
}

/**
 * A random order of 0 .. n - 1 of which no list is ever held: position to number, one to one, n at most 2^32.
 *
 * A Feistel network over a x b >= n (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, method 3); the few
 * values that land outside walk on until they are inside.
 */
export function keyedPermutation(seed: bigint, purpose: number, epoch: number, n: number): (index: number) => number {
  const [low, high] = split(seed);
  const a = Math.max(1, Math.ceil(Math.sqrt(n)));
  const b = Math.max(1, Math.ceil(n / a));
  const walk = (value: number): number => {
    let left = Math.floor(value / b);
    let right = value % b;
    for (let round = 0; round < kOrderRounds; round++) {
      philoxOfWords(low, high, purpose, epoch, round % 2 === 0 ? right : left, round);
      const word = words[0]!;
      if (round % 2 === 0) left = (left + word) % a;
      else right = (right + word) % b;
    }
    return left * b + right;
  };
  return (index) => {
    let value = walk(index);
    while (value >= n) value = walk(value);
    return value;
  };
}

/** Of the seed split last: a run has one. */
let halves: readonly [seed: bigint, low: number, high: number] = [0n, 0, 0];

function split(seed: bigint): [number, number] {
  if (seed !== halves[0]) halves = [seed, Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)];
  return [halves[1], halves[2]];
}

/** What philoxOfWords() found last: millions of draws a second would be millions of arrays. */
const words = new Uint32Array(4);

function philoxOfWords(low: number, high: number, purpose: number, a: number, b: number, c: number): void {
  let x0 = a | 0;
  let x1 = b | 0;
  let x2 = c | 0;
  let x3 = purpose | 0;
  let k0 = low | 0;
  let k1 = high | 0;
  for (let round = 0; round < kRounds; round++) {
    const high0 = multiplyHigh(0xd2511f53, x0);
    const high1 = multiplyHigh(0xcd9e8d57, x2);
    const low0 = Math.imul(0xd2511f53, x0);
    const low1 = Math.imul(0xcd9e8d57, x2);
    x0 = high1 ^ x1 ^ k0;
    x1 = low1;
    x2 = high0 ^ x3 ^ k1;
    x3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  words[0] = x0;
  words[1] = x1;
  words[2] = x2;
  words[3] = x3;
}

/** The upper 32 bits of the product of two unsigned words. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  // middle < 2^32, so both shifts below see all of it.
  const carry = aLow * bHigh + (middle & 0xffff);
  return aHigh * bHigh + (middle >>> 16) + Math.floor(carry / 0x10000);
}
