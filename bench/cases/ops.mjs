// @ts-check
// Classes of ops that multiply, forward and backward, at shapes of a ResNet-50. Each graph begins with a relu, which gives the op an input whose gradient is asked
// for; the median of what the relu alone takes, with the copying of the numbers from JavaScript, is taken off. What takes less than
// the relu (normalization, pools) cannot be timed so.
import { strict as assert } from 'node:assert';
import { chooseDevice, native } from '../../dist/native.js';
import { distance } from '../engines.mjs';
import { numbers } from '../pictures.mjs';

/** @typedef {import('../../dist/models/layers.js').LayerRecord} LayerRecord */
/** @typedef {'fp32' | 'bf16'} Precision */
/**
 * @typedef {object} Shape
 * @property {number} batch @property {number} channels @property {number} edge
 * @typedef {object} OpClass
 * @property {Shape} shape What is timed. @property {Shape} small What is checked.
 * @property {(input: string, shape: Shape) => LayerRecord[]} layers
 * @property {(shape: Shape) => number} flop Of both ways: products of a forward, of the weights' and of the input's gradient.
 * @property {boolean} [isPictures] The input has no gradient, and no relu before it.
 */

/** @param {string} name @param {string} input @param {number} out @param {number} kernel @returns {LayerRecord} */
const conv = (name, input, out, kernel, stride = 1) => ({ op: 'conv', name, input, out, kernel, stride, pad: kernel >> 1 });
const size = (/** @type {Shape} */ { batch, channels, edge }) => batch * channels * edge * edge;

/** @type {Record<string, OpClass>} */
const classes = {
  conv3x3: {
    shape: { batch: 16, channels: 128, edge: 28 },
    small: { batch: 2, channels: 32, edge: 9 },
    layers: (input, { channels }) => [conv('a', input, channels, 3), conv('b', 'a', channels, 3)],
    flop: (shape) => 2 * 3 * 2 * 9 * shape.channels * size(shape),
  },
  conv1x1: {
    shape: { batch: 16, channels: 256, edge: 56 },
    small: { batch: 2, channels: 64, edge: 6 },
    layers: (input, { channels }) => [conv('a', input, channels / 4, 1), conv('b', 'a', channels, 1)],
    flop: (shape) => 2 * 3 * 2 * (shape.channels / 4) * size(shape),
  },
  'conv-stem': {
    shape: { batch: 16, channels: 3, edge: 224 },
    small: { batch: 4, channels: 3, edge: 17 },
    // Without a loss, backward would make the pictures' gradient, which no training asks for.
    layers: (input) => [
      conv('a', input, 64, 7, 2),
      { op: 'avgPool', name: 'pool', input: 'a' },
      { op: 'infoNce', name: 'loss', input: 'pool', temperature: 1, weight: 1 },
    ],
    flop: ({ batch, edge }) => 2 * 2 * 49 * 3 * 64 * batch * Math.ceil(edge / 2) ** 2,
    isPictures: true,
  },
  linear: {
    shape: { batch: 64, channels: 2048, edge: 1 },
    small: { batch: 7, channels: 48, edge: 1 },
    layers: (input, { channels }) => [{ op: 'linear', name: 'linear', input, out: channels, bias: true }],
    flop: (shape) => 2 * 3 * shape.channels * size(shape),
  },
};

/** Of the relu alone. */
const kFirstRuns = 15;

/** An engine that can go both ways, and how. @param {readonly LayerRecord[]} layers @param {Shape} shape @param {string} library @param {Precision} precision @param {number} threads */
async function bothWays(layers, shape, library, precision, threads) {
  const engine = await native().module.createEngine(library, { layers, batch: shape.batch, training: true, precision, threads });
  await engine.initialize(1n);
  const input = numbers(size(shape), 1);
  const last = /** @type {LayerRecord} */ (layers.at(-1)).name;
  const losses = await engine.forward(input, new Float32Array());
  const seed = losses.length > 0 ? undefined : numbers((await engine.read('value', last)).length, 2);
  const run = async () => {
    if (seed) await engine.write('valueGradient', last, seed);
    const start = performance.now();
    await engine.forward(input, new Float32Array());
    await engine.backward();
    return performance.now() - start;
  };
  const value = async () => (losses.length > 0 ? Float32Array.from(losses) : engine.read('value', last));
  return { engine, run, value };
}

/** @param {OpClass} which @param {Shape} shape @returns {LayerRecord[]} */
function graphOf({ layers, isPictures }, shape) {
  /** @type {LayerRecord} */
  const input = { op: 'input', name: 'images', channels: shape.channels, height: shape.edge, width: shape.edge };
  if (isPictures) return [input, ...layers('images', shape)];
  return [input, { op: 'relu', name: 'first', input: 'images' }, ...layers('first', shape)];
}

/** Values and gradients against the plain loops with the same rounding. @param {OpClass} which @param {Precision} precision @param {string} library @param {number} threads */
async function check(which, precision, library, threads) {
  const shape = which.small;
  const layers = graphOf(which, shape);
  const made = await Promise.all([library, ''].map((each) => bothWays(layers, shape, each, precision, threads)));
  /** @type {Float32Array[][]} */
  const results = [];
  for (const { engine, run, value } of made) {
    await run();
    const found = [await value()];
    for (const { name } of engine.parameters) found.push(await engine.read('gradient', name));
    if (!which.isPictures) found.push(await engine.read('valueGradient', 'images'));
    results.push(found);
    engine.dispose();
  }
  const [actual = [], expected = []] = results;
  const most = precision === 'fp32' ? 1e-4 : 0.02;
  for (const [i, value] of expected.entries()) {
    const away = distance(/** @type {Float32Array} */ (actual[i]), value);
    assert(away <= most, `result ${i} of ${expected.length} is ${away.toExponential(1)} from the plain loops'`);
  }
  return `value and gradients within ${most} of the plain loops, at a small shape`;
}

/** @param {string} name @param {Precision} precision @returns {import('../cases.mjs').Case} */
function caseOf(name, precision) {
  const which = /** @type {OpClass} */ (classes[name]);
  return {
    unit: 'GFLOP/s',
    // Not by time: what is taken off makes a run look shorter than it is.
    iterations: 25,
    timeMs: 0,
    ...(precision === 'bf16' && { needs: 'avx512' }),
    async prepare({ threads, device, isQuick }) {
      const { library } = chooseDevice(device, 'fp32');
      const checked = await check(which, precision, library, threads);
      const shape = isQuick ? which.small : which.shape;
      const layers = graphOf(which, shape);
      const whole = await bothWays(layers, shape, library, precision, threads);
      const first = which.isPictures ? undefined : await bothWays(layers.slice(0, 2), shape, library, precision, threads);
      const times = [];
      for (let i = 0; first && i < kFirstRuns; i++) times.push(await first.run());
      const off = times.sort((a, b) => a - b)[times.length >> 1] ?? 0;
      first?.engine.dispose();
      return {
        run: async () => ({ overriddenDuration: (await whole.run()) - off }),
        items: which.flop(shape) / 1e9,
        checked,
        facts: () => ({ precision, shape: `${shape.batch} x ${shape.channels} x ${shape.edge} x ${shape.edge}` }),
      };
    },
  };
}

/** op/conv3x3-fp32 and so on. @type {Record<string, import('../cases.mjs').Case>} */
export const opCases = Object.fromEntries(
  Object.keys(classes).flatMap((name) =>
    /** @type {const} */ (['fp32', 'bf16']).map((precision) => [`op/${name}-${precision}`, caseOf(name, precision)]),
  ),
);
