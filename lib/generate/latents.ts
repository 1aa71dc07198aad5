// The arithmetic between the two graphs of a generator: who a subject is (z), truncation, and the edit w + alpha n (ComFace, section 3.1; InterFaceGAN,
// Shen et al., arXiv 2005.09635). An edit is relative: it never moves a face to a distance of its own from a boundary.
import { normals, Purpose } from '../data/random.js';

/** z of a subject: normals scaled to the length of the root of their number, as directions of Z were learned. */
export function latentOf(subject: number, seed: bigint, width: number): Float32Array {
  const z = normals(seed, Purpose.latent, subject, 0, width);
  const factor = Math.sqrt(width / z.reduce((sum, value) => sum + value * value, 0));
  return z.map((value) => value * factor);
}

/** How w is drawn towards its mean, and in how many layers from the first. */
export interface Truncation {
  average: Float32Array;
  psi: number;
  layers: number;
}

/** w of every layer, layers x width: average + psi (w - average) in the first, w in the others (Karras et al., 2019, appendix B). */
export function truncated(w: Float32Array, layers: number, { average, psi, layers: first }: Truncation): Float32Array {
  const ws = new Float32Array(layers * w.length);
  const drawn = w.map((value, i) => average[i]! + psi * (value - average[i]!));
  for (let l = 0; l < layers; l++) ws.set(l < first ? drawn : w, l * w.length);
  return ws;
}

/** A direction as the arithmetic sees it. */
export interface Shift {
  /** One row for all layers, or one for each. */
  values: Float32Array;
  rows: number;
  /** Layers that it changes: from the first up to, and without, the last. */
  from: number;
  to: number;
}

/** ws + alpha n in the layers of the direction. */
export function shifted(ws: Float32Array, width: number, { values, rows, from, to }: Shift, alpha: number): Float32Array {
  const out = ws.slice();
  const last = Math.min(to, ws.length / width);
  for (let l = from; l < last; l++) {
    const row = rows === 1 ? 0 : l * width;
    for (let i = 0; i < width; i++) out[l * width + i] = ws[l * width + i]! + alpha * values[row + i]!;
  }
  return out;
}

/** `changed` in the layers of a direction, `ws` in the others. */
export function mixed(ws: Float32Array, changed: Float32Array, width: number, { from, to }: Pick<Shift, 'from' | 'to'>): Float32Array {
  const out = ws.slice();
  out.set(changed.subarray(from * width, Math.min(to * width, ws.length)), from * width);
  return out;
}
