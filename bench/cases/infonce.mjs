// @ts-check
// InfoNCE alone: against the plain loops, and in turns with the matrix products that a loss which keeps rows x rows numbers cannot do without.
import { strict as assert } from 'node:assert';
import { chooseDevice, native } from '../../dist/native.js';
import { among, Contender, root } from '../contenders.mjs';
import { assertClose, distance } from '../engines.mjs';
import { numbers } from '../pictures.mjs';

export const kWidth = 128;
/** Buffers may be so many arrays of rows x width. */
export const kMostArrays = 8;

/** The end of the projection head with the loss: the linear layer is there for its gradient, which can be read. Buffers grow with the rows, not with their
 * square. @returns {import('../../dist/models/layers.js').LayerRecord[]} */
const lossLayers = () => [
  { op: 'input', name: 'images', channels: kWidth, height: 1, width: 1 },
  { op: 'linear', name: 'projection', input: 'images', out: kWidth, bias: false },
  { op: 'l2Normalize', name: 'z', input: 'projection' },
  { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.1, weight: 1 },
];

/** @param {number} rows @param {string} library @param {number} threads */
export const lossEngine = (rows, library, threads) =>
  native().module.createEngine(library, { layers: lossLayers(), batch: rows, training: true, precision: 'fp32', threads });

/** Checks the loss and its gradient against the plain loops. @param {number} rows @param {import('../cases.mjs').Setting} setting */
export async function checkedLoss(rows, { threads, device }) {
  const input = numbers(rows * kWidth, 1);
  const make = (/** @type {string} */ library) => lossEngine(rows, library, threads);
  const [engine, plain] = await Promise.all([make(chooseDevice(device, 'fp32').library), make('')]);
  const results = [];
  for (const each of [engine, plain]) {
    await each.initialize(1n);
    const losses = await each.forward(input, new Float32Array());
    await each.backward();
    results.push({ losses, gradient: await each.read('gradient', 'projection.weight') });
  }
  plain.dispose();
  const [actual, expected] = /** @type {[typeof results[0], typeof results[0]]} */ (results);
  assertClose(actual.losses, expected.losses, 1e-5);
  const difference = distance(actual.gradient, expected.gradient);
  assert(difference < 1e-5, `gradient differs by ${difference}`);
  return { engine, input };
}

/** @param {number} rows @returns {import('../cases.mjs').Case['prepare']} */
export const infoNce = (rows) => async (setting) => {
  const { engine, input } = await checkedLoss(rows, setting);
  // The matrix of rows x rows would be 4, 16 and 64 MiB.
  assert(engine.sizeBytes < kMostArrays * 4 * rows * kWidth, `${engine.sizeBytes} bytes are more than 8 arrays of rows x width`);
  const run = async () => {
    await engine.forward(input, new Float32Array());
    await engine.backward();
  };
  return {
    run,
    items: rows,
    checked: 'loss and gradient within 1e-5 of the plain loops, buffers of at most 8 arrays of rows x width',
    facts: () => ({ precision: 'fp32', sizeBytes: engine.sizeBytes }),
  };
};

/**
 * On one thread, beside a linear layer of rows x rows by oneDNN: its three products, forward and both gradients, are what a loss that keeps all similarities
 * has to multiply, without a single exponential. @param {number} rows @returns {import('../cases.mjs').Case['prepare']}
 */
export const infoNceBesideProducts = (rows) => async (setting) => {
  const { engine } = await checkedLoss(rows, { ...setting, threads: 1 });
  engine.dispose();
  const program = `${root}bench/loss.mjs`;
  const contender = (/** @type {string} */ name, /** @type {string} */ way) =>
    new Contender(name, process.execPath, [program, way, String(rows)]);
  const ours = contender('InfoNCE', 'loss');
  const { run, rivals, end } = await among(ours, [contender('three matrix products', 'products')], () => {});
  const facts = () => ({ precision: 'fp32', sizeBytes: ours.ready.sizeBytes, isaBound: true, rivals: rivals() });
  return { run, items: ours.ready.items, checked: 'loss and gradient within 1e-5 of the plain loops', threads: 1, facts, end };
};
