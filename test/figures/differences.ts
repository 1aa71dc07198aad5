// 4-point finite differences of a loss that an engine computes in double.
// Everything crosses the border as fp32, so a tensor and its steps are short binary fractions: x + 2 h d is exact. The steps are tiny, for a relu or
// a maximum that changes sides between two of them has no derivative there; the seeds are ones for which this does not happen.
import type { LayerRecord } from '../../lib/models/layers.ts';
import { numbers } from '../support.ts';

/** Power of 2 above every size in the tensor, not for one of zeros. */
const scaleOf = (x: Float32Array): number => 2 ** Math.ceil(Math.log2(x.reduce((most, v) => Math.max(most, Math.abs(v)), 2 ** -4)));

/** Rounded to 18 bits: neighbors lie 16 steps apart. */
export function short(x: Float32Array): Float32Array {
  const grid = scaleOf(x) * 2 ** -18;
  return x.map((v) => Math.round(v / grid) * grid);
}

/** Keyed numbers with a distance from 0, where relu has its kink. */
export const values = (count: number, seed: number, spread = 1.5): Float32Array =>
  short(numbers(count, seed, spread).map((v) => v + Math.sign(v) * 0.03));

/** -1, 0 and 1. */
export const direction = (count: number, seed: number): Float32Array => numbers(count, seed, 1.5).map(Math.round);

/** Weighted sum of the losses, as backward() takes it. */
export const weightedSum = (layers: readonly LayerRecord[]) => {
  const weights = layers.flatMap((layer) => ('weight' in layer ? [layer.weight] : []));
  return (losses: readonly number[]): number => losses.reduce((sum, loss, i) => sum + loss * weights[i]!, 0);
};

/** Derivative of `f` at x along `d` by f(-2h), f(-h), f(h), f(2h), of h = `step` of the smallest steps: error O(h^4). */
export async function slope(f: (x: Float32Array) => Promise<number>, x: Float32Array, d: Float32Array, step = 1): Promise<number> {
  const h = scaleOf(x) * step * 2 ** -22;
  const at = (k: number) => f(x.map((v, i) => v + k * h * d[i]!));
  return (8 * ((await at(1)) - (await at(-1))) - ((await at(2)) - (await at(-2)))) / (12 * h);
}

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

/** How far a derivative lies from the gradient's: relative to it, and to the largest that this direction could give. */
export function slopeError(found: number, gradient: Float32Array, d: Float32Array): number {
  const expected = dot(gradient, d);
  const scale = Math.max(Math.abs(expected), 0.01 * Math.sqrt(dot(gradient, gradient) * dot(d, d)), 1e-7);
  return Math.abs(found - expected) / scale;
}
