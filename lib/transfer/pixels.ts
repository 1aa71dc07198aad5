// The baseline that knows nothing: differences of small gray pictures, for the same linear evaluation as every embedding.
// Pictures arrive as the network sees them (planes R, G, B, normalized); gray is made of the values before that.
import { invalid } from '../errors.js';
import type { Features } from './linear.js';

/** Edge of the gray picture. */
export const grayEdge = 16;

/**
 * Gray 16 x 16 pictures in [0, 1], by area averaging: pictures x 256.
 * @param images Pictures x 3 x size x size, normalized as (value - mean) / deviation.
 * @param size Edge of a picture in pixels, at least 16.
 * @param normalization Mean and deviation of the three colors, to undo.
 * @throws INVALID_INPUT for sizes that do not fit.
 */
export function grayGrids(
  images: Float32Array,
  size: number,
  normalization: { mean: readonly number[]; deviation: readonly number[] },
): Float32Array {
  if (!Number.isInteger(size) || size < grayEdge) throw invalid('size', `a whole number of at least ${grayEdge}`, size);
  const plane = size * size;
  if (images.length % (3 * plane) !== 0) throw invalid('images', `a multiple of 3 x ${size} x ${size} values`, `${images.length} values`);
  const count = images.length / (3 * plane);
  const shares = areaShares(size);
  // Gray is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), folded with the normalization into one factor a color and one sum.
  const luma = [0.299, 0.587, 0.114];
  const factors = luma.map((share, c) => share * normalization.deviation[c]!);
  const base = luma.reduce((sum, share, c) => sum + share * normalization.mean[c]!, 0);
  const out = new Float32Array(count * grayEdge * grayEdge).fill(base);
  for (let n = 0; n < count; n++) {
    for (let c = 0; c < 3; c++) {
      const from = (3 * n + c) * plane;
      for (const vertical of shares) {
        for (const horizontal of shares) {
          const at = (n * grayEdge + vertical.cell) * grayEdge + horizontal.cell;
          out[at]! += factors[c]! * vertical.share * horizontal.share * images[from + vertical.pixel * size + horizontal.pixel]!;
        }
      }
    }
  }
  return out;
}

/**
 * gray_y - gray_x of each pair: 256 signed features.
 * @param grids From `grayGrids`.
 * @param pairs Numbers of the pictures compared.
 */
export function pixelDifferences(grids: Float32Array, pairs: { x: ArrayLike<number>; y: ArrayLike<number> }): Features {
  const width = grayEdge * grayEdge;
  const rows = pairs.x.length;
  const data = new Float32Array(rows * width);
  for (let i = 0; i < rows; i++) {
    const x = pairs.x[i]! * width;
    const y = pairs.y[i]! * width;
    if (Math.max(x, y) + width > grids.length) throw invalid('pairs', `pictures below ${grids.length / width}`, Math.max(x, y) / width);
    for (let j = 0; j < width; j++) data[i * width + j] = grids[y + j]! - grids[x + j]!;
  }
  return { rows, width, data };
}

/** How much of each pixel along an edge belongs to each of the 16 cells; the shares of a cell sum to 1. */
function areaShares(size: number): { cell: number; pixel: number; share: number }[] {
  const step = size / grayEdge;
  const shares: { cell: number; pixel: number; share: number }[] = [];
  for (let cell = 0; cell < grayEdge; cell++) {
    for (let pixel = Math.floor(cell * step); pixel < Math.min(size, (cell + 1) * step); pixel++) {
      const overlap = Math.min(pixel + 1, (cell + 1) * step) - Math.max(pixel, cell * step);
      if (overlap > 0) shares.push({ cell, pixel, share: overlap / step });
    }
  }
  return shares;
}
