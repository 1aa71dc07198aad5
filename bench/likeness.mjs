// @ts-check
// What two drawn faces have in common: how far apart, where they differ, in which direction. Draws nothing; for faces.mjs and the tests.

export const kSize = 64;
/** The number of the photograph straight into the lens, nothing moved (native/faces/face.h). */
export const kPlainPhoto = 2 ** 32 - 1;
/** For directions: pictures are pooled to this edge, so that a shift by a pixel does not hide what is the same. */
const kPooled = 16;

/** @typedef {{ subject: number, photo?: number, attribute?: number, alpha?: number }} Row A picture: of photo kPlainPhoto, without a change, unless it says more. */

/** @param {readonly Row[]} rows @param {number} domain */
export const shotsOf = (rows, domain) => ({
  seed: 1n,
  subject: Uint32Array.from(rows, ({ subject }) => subject),
  photo: Uint32Array.from(rows, ({ photo = kPlainPhoto }) => photo),
  attribute: Int32Array.from(rows, ({ attribute = -1 }) => attribute),
  alpha: Float32Array.from(rows, ({ alpha = 0 }) => alpha),
  domain,
  size: kSize,
});

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function distance(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(Number(a[i]) - Number(b[i]));
  return sum / a.length;
}

/** @param {readonly number[]} values */
export const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;

/** Parts of the plain photograph, by head units (10 cm; the eyes at 0, 0); a pixel is of the first that holds it. */
/** @type {[string, (x: number, y: number) => boolean][]} */
export const regions = [
  ['chest', (_, y) => y < -1.15],
  ['hair', (x, y) => y > 0.36 || x > 0.7],
  ['eyes', (_, y) => y > -0.14],
  ['nose', (x, y) => x < 0.22 && y > -0.53],
  ['mouth', (x, y) => x < 0.4 && y > -0.92 && y < -0.53],
  ['cheeks', (_, y) => y > -0.6],
  ['jaw', () => true],
];

/** The region of each pixel. */
const regionOf = Uint8Array.from({ length: kSize * kSize }, (_, i) => {
  const x = Math.abs(((i % kSize) + 0.5) / kSize - 0.5) * 2.34;
  const y = (0.452 - (Math.floor(i / kSize) + 0.5) / kSize) * 2.34;
  return regions.findIndex(([, holds]) => holds(x, y));
});

/** Share of the change in each region. @param {Uint8Array} a @param {Uint8Array} b */
export function whereOf(a, b) {
  const sums = new Float64Array(regions.length);
  for (let i = 0; i < a.length; i++) {
    const region = Number(regionOf[Math.floor(i / 3)]);
    sums[region] = Number(sums[region]) + Math.abs(Number(a[i]) - Number(b[i]));
  }
  const total = sums.reduce((s, v) => s + v, 0);
  return Array.from(sums, (v) => (total > 0 ? v / total : 0));
}

/** The change as a unit vector of pooled colors. @param {Uint8Array} a @param {Uint8Array} b */
export function directionOf(a, b) {
  const out = new Float32Array(kPooled * kPooled * 3);
  const cell = kSize / kPooled;
  for (let i = 0; i < a.length; i++) {
    const pixel = Math.floor(i / 3);
    const at = 3 * (Math.floor(Math.floor(pixel / kSize) / cell) * kPooled + Math.floor((pixel % kSize) / cell)) + (i % 3);
    out[at] = Number(out[at]) + Number(a[i]) - Number(b[i]);
  }
  const norm = Math.sqrt(out.reduce((sum, v) => sum + v * v, 0));
  return out.map((v) => v / Math.max(norm, 1e-9));
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Number(a[i]) * Number(b[i]);
  return sum;
}

/** How often a picture of the same person is nearer than one of another, and how far apart the two lie. @param {readonly number[]} within @param {readonly number[]} between */
export function separation(within, between) {
  const sorted = [...between].sort((a, b) => a - b);
  let wins = 0;
  for (const w of within) {
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (Number(sorted[middle]) <= w) low = middle + 1;
      else high = middle;
    }
    wins += sorted.length - low;
  }
  const variance = (/** @type {readonly number[]} */ v) => mean(v.map((x) => (x - mean(v)) ** 2));
  const spread = Math.sqrt((variance(within) + variance(between)) / 2);
  return { auc: wins / (within.length * between.length), dPrime: (mean(between) - mean(within)) / spread };
}
