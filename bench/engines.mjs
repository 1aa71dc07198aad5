// @ts-check
// Engines of whole ComFace networks, and how near the numbers of two have to be.
import { strict as assert } from 'node:assert';
import { backbone, embeddingWidth } from '../dist/models/backbone.js';
import { comfaceGraph } from '../dist/models/heads.js';
import { chooseDevice, native } from '../dist/native.js';

/** @typedef {'auto' | 'fp32' | 'fp16' | 'bf16'} Wanted */

/** @param {import('../dist/config.js').TrainConfig} config */
export const adamOf = ({ learningRate, beta1, beta2, epsilon, weightDecay }, /** @type {number} */ step) => ({
  learningRate,
  beta1,
  beta2,
  epsilon,
  weightDecay,
  step,
});

/**
 * @param {import('../dist/config.js').TrainConfig} config @param {Wanted} wanted
 * @param {Pick<import('./cases.mjs').Setting, 'threads' | 'device'>} setting @param {{ chunks?: number, deterministic?: boolean }} [more]
 */
export async function trainer(config, wanted, { threads, device }, { chunks = 1, deterministic = true } = {}) {
  const { library, precision } = chooseDevice(device, wanted);
  const embedding = embeddingWidth(config.backbone, config);
  const projection = { hidden: embedding, out: config.projection.out };
  const layers = comfaceGraph(backbone(config.backbone, config), { ...config, embedding, projection });
  const graph = { layers, batch: 3 * config.pairs, parts: 3, chunks, deterministic, training: true, precision, threads };
  const engine = await native().module.createEngine(library, graph);
  await engine.initialize(1n);
  // Asked at the end: only steps show how they run.
  const facts = () => ({ precision, engine: engine.description, sizeBytes: engine.sizeBytes });
  return { engine, precision, facts };
}

/**
 * A training step on given numbers, which answers with its losses.
 * @param {import('../dist/native.js').NativeEngine} engine @param {import('../dist/config.js').TrainConfig} config @param {Float32Array} input @param {Float32Array} targets
 */
export function stepOn(engine, config, input, targets) {
  let step = 0;
  return async () => {
    const losses = await engine.forward(input, targets);
    await engine.backward();
    await engine.update(adamOf(config, ++step));
    return losses;
  };
}

/** @param {readonly number[]} actual @param {readonly number[]} expected @param {number} tolerance relative @param {string} [whose] */
export function assertClose(actual, expected, tolerance, whose = '') {
  for (const [i, value] of expected.entries()) {
    const difference = Math.abs(/** @type {number} */ (actual[i]) - value) / Math.max(1e-9, Math.abs(value));
    assert(
      difference <= tolerance,
      `${whose}expected ${value} but received ${actual[i]} (relative difference ${difference.toExponential(1)})`,
    );
  }
}

export const nearness = (/** @type {number} */ tolerance) => (tolerance === 0 ? 'equal to those of' : `within ${tolerance * 100} % of`);

/** The relative L2 distance. @param {Float32Array} actual @param {Float32Array} expected */
export function distance(actual, expected) {
  let [difference, size] = [0, 0];
  for (const [i, value] of expected.entries()) {
    difference += ((actual[i] ?? Number.NaN) - value) ** 2;
    size += value ** 2;
  }
  return Math.sqrt(difference / Math.max(size, 1e-30));
}
