// @ts-check
// What the cases work on: generated faces as JPEG files in a temporary folder, plans over them, keyed numbers.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkTrainOptions } from '../dist/config.js';
import { filesOf } from '../dist/data/dataset.js';
import { PairSampler } from '../dist/data/pairs.js';
import { generate } from '../dist/data/procedural.js';

/** Draws people x 1 attribute x 11 alphas, size x size. @param {string} folder @param {number} size @param {number} [subjects] */
export function drawSet(folder, size, subjects = 8) {
  const out = join(folder, `faces-${size}`);
  if (existsSync(out)) throw new Error(`${out} exists`);
  return generate({ out, format: 'files', subjects, attributes: ['smile'], alphas: 11, size });
}

/** @typedef {{ backbone: 'resnet18' | 'resnet50' | 'vit_b_16', pairs: number, width?: number, loaderThreads?: number }} NetworkOptions */

/** The options of a training run with the paper's defaults. @param {NetworkOptions & { size: number, data?: string }} options */
export const configOf = (options) => checkTrainOptions({ data: 'data', out: '-', validation: 0, ...options });

/** These, and the run's plans: `planAt(step)`, steps from 1. @param {import('../dist/data/manifest.js').Manifest} manifest @param {NetworkOptions} options */
export function planner(manifest, options) {
  const config = configOf({ data: manifest.folder, size: manifest.size, ...options });
  const sampler = new PairSampler(filesOf(manifest), Uint32Array.from(new Set(manifest.subject)), { ...config, rangeAt: () => 10 });
  return { config, planAt: (/** @type {number} */ step) => sampler.plan(step) };
}

/** Numbers uniform in [-1, 1), the same for the same seed: xorshift32 (Marsaglia, 2003), for cases want tens of millions. @param {number} count @param {number} seed */
export function numbers(count, seed) {
  const out = new Float32Array(count);
  let word = Math.imul(seed + 1, 0x9e3779b9) | 1;
  for (let i = 0; i < count; i++) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    out[i] = (word >> 8) / 2 ** 23;
  }
  return out;
}

/** Shots of `count` people, smiling from -5 to 5. @param {number} count @param {number} size */
export function shots(count, size) {
  return {
    seed: 1n,
    subject: Uint32Array.from({ length: count }, (_, i) => i),
    photo: new Uint32Array(count),
    attribute: new Int32Array(count),
    alpha: Float32Array.from({ length: count }, (_, i) => (10 * i) / (count - 1) - 5),
    domain: 0,
    size,
  };
}
