// Eigen-CAM (Muhammad and Yeasin, arXiv 2008.00299): where in a picture the features of a layer vary most. No gradient, no class.
// Centering, scaling and the rule for the sign are those of pytorch-grad-cam; without that rule the map and its negative are equally right.

/** Where a network looks, on a picture resized to the model's size. */
export interface Saliency {
  /** Edge of the map in pixels. */
  size: number;
  /** size x size, row after row: 0 for the least of the picture, 1 for the most. */
  map: Float32Array;
}

/** Of a spatial layer. */
export interface Grid {
  channels: number;
  height: number;
  width: number;
}

const kTiny = 1e-7;
/** Each squaring doubles the logarithm of the gap between the two largest eigenvalues: these end one of 1e-12. */
const kSquarings = 46;
const kConverged = 1e-14;

/**
 * Eigen-CAM of one picture.
 *
 * @param activations Of the last block, channels x height x width; what is not finite counts as 0.
 * @param size Edge of the map. It is scaled between the grid's points bilinearly, with pixels as areas.
 */
export function eigenCam(activations: Float32Array, grid: Grid, size: number): Saliency {
  const { height, width } = grid;
  const positions = height * width;
  const products = gramMatrix(centered(activations, grid), positions, grid.channels);
  const projection = topProjection(products, positions);
  const positive = minMax(projection.map((value) => Math.max(0, value)));
  return { size, map: Float32Array.from(minMax(resized(positive, { width, height }, { width: size, height: size }))) };
}

/** positions x channels, each channel less its mean over the positions. */
function centered(activations: Float32Array, { channels, height, width }: Grid): Float64Array {
  const positions = height * width;
  const matrix = new Float64Array(positions * channels);
  for (let c = 0; c < channels; c++) {
    let sum = 0;
    for (let p = 0; p < positions; p++) {
      const value = activations[c * positions + p]!;
      matrix[p * channels + c] = Number.isFinite(value) ? value : 0;
      sum += matrix[p * channels + c]!;
    }
    for (let p = 0; p < positions; p++) matrix[p * channels + c]! -= sum / positions;
  }
  return matrix;
}

/** M M', which has the left singular vectors of M, and is small. */
function gramMatrix(matrix: Float64Array, rows: number, columns: number): Float64Array {
  const products = new Float64Array(rows * rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += matrix[i * columns + c]! * matrix[j * columns + c]!;
      products[i * rows + j] = sum;
      products[j * rows + i] = sum;
    }
  }
  return products;
}

/** M v for the first right singular vector v of M, from G = M M': sigma u, and G u = sigma^2 u. Zeros where nothing varies. */
function topProjection(products: Float64Array, rows: number): Float64Array {
  const vector = topEigenvector(products, rows);
  if (!vector) return new Float64Array(rows);
  let eigenvalue = 0;
  for (let i = 0; i < rows; i++) for (let j = 0; j < rows; j++) eigenvalue += vector[i]! * products[i * rows + j]! * vector[j]!;
  const [least, most] = extremes(vector);
  const sign = Math.abs(least) > Math.abs(most) ? -1 : 1;
  return vector.map((value) => sign * Math.sqrt(Math.max(0, eigenvalue)) * value);
}

/**
 * The eigenvector of the largest eigenvalue of a symmetric matrix without negative ones, of length 1; undefined for zeros.
 * The matrix is squared until only that is left: no start to choose, and a small gap takes a few squarings more, not a thousand steps.
 */
function topEigenvector(matrix: Float64Array, n: number): Float64Array | undefined {
  const first = normalized(matrix);
  if (!first) return undefined;
  let power = first;
  for (let i = 0, change = 1; i < kSquarings && change > kConverged; i++) {
    const next: Float64Array = normalized(gramMatrix(power, n, n)) ?? power;
    change = next.reduce((most, value, at) => Math.max(most, Math.abs(value - power[at]!)), 0);
    power = next;
  }
  // It is u u' now; its longest column is the least rounded.
  let column = 0;
  for (let i = 1; i < n; i++) if (power[i * n + i]! > power[column * n + column]!) column = i;
  return normalized(power.subarray(column * n, (column + 1) * n));
}

/** Divided by its length; undefined for zeros, and for what is as good as zero. */
function normalized(values: Float64Array): Float64Array | undefined {
  const most = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  if (!(most > 1e-300)) return undefined;
  const length = most * Math.sqrt(values.reduce((sum, value) => sum + (value / most) ** 2, 0));
  return values.map((value) => value / length);
}

const extremes = (values: Float64Array): [least: number, most: number] => [
  values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
  values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
];

function minMax(values: Float64Array): Float64Array {
  const [least, most] = extremes(values);
  return values.map((value) => (value - least) / (most - least + kTiny));
}

interface Size {
  width: number;
  height: number;
}

/** Bilinear, a pixel's value in its middle; beyond the outer middles it stays. */
function resized(values: ArrayLike<number>, from: Size, to: Size): Float64Array {
  const [across, down] = [between(from.width, to.width), between(from.height, to.height)];
  const out = new Float64Array(to.width * to.height);
  for (const [y, { low: top, high: bottom, share: lower }] of down.entries()) {
    for (const [x, { low: left, high: right, share: righter }] of across.entries()) {
      const at = (row: number) => {
        const [a, b] = [values[row * from.width + left]!, values[row * from.width + right]!];
        return a + (b - a) * righter;
      };
      const upper = at(top);
      out[y * to.width + x] = upper + (at(bottom) - upper) * lower;
    }
  }
  return out;
}

function between(from: number, to: number): { low: number; high: number; share: number }[] {
  return Array.from({ length: to }, (_, i) => {
    const at = Math.min(from - 1, Math.max(0, ((i + 0.5) * from) / to - 0.5));
    const low = Math.floor(at);
    return { low, high: Math.min(from - 1, low + 1), share: at - low };
  });
}

/** Blue for 0 by way of green to red for 1 ("jet"). @returns Red, green, blue in [0, 1]. */
export function jet(value: number): [number, number, number] {
  const ramp = (middle: number) => Math.min(1, Math.max(0, 1.5 - Math.abs(4 * value - middle)));
  return [ramp(3), ramp(2), ramp(1)];
}

/**
 * A picture under its map: half the colors of the map, half the picture, as bright as can be.
 *
 * @param rgb Of the picture, height x width x 3.
 * @param size Of the picture; the map is stretched over it.
 * @returns RGB of the same size.
 */
export function overlay(rgb: Uint8Array, size: Size, { size: edge, map }: Saliency): Uint8Array {
  const stretched = resized(map, { width: edge, height: edge }, size);
  const mixed = new Float32Array(rgb.length);
  for (let p = 0; p < stretched.length; p++) {
    for (const [c, color] of jet(stretched[p]!).entries()) mixed[3 * p + c] = (color + rgb[3 * p + c]! / 255) / 2;
  }
  const most = mixed.reduce((a, b) => Math.max(a, b), 0);
  return Uint8Array.from(mixed, (value) => Math.round((255 * value) / most));
}
