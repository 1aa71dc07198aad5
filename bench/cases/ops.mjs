// @ts-check
// Classes of ops, forward and backward, at shapes of a ResNet-50. Each graph begins with a relu, which gives the op an input whose gradient is asked
// for; the median of what the relu alone takes, with the copying of the numbers from JavaScript, is taken off. What takes no longer than that
// is in the graph eight times.
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
 * @property {(input: string, shape: Shape, times: number) => LayerRecord[]} layers Checked once, as errors of a chain grow.
 * @property {(shape: Shape) => number} [flop] Of both ways: products of a forward, of the weights' and of the input's gradient.
 * @property {(shape: Shape) => number} [numbers] That have to be read or written both ways, each array as often as its formula needs it.
 * @property {boolean} [isPictures] The input has no gradient, and no relu before it.
 */

/** @param {string} name @param {string} input @param {number} out @param {number} kernel @returns {LayerRecord} */
const conv = (name, input, out, kernel, stride = 1) => ({ op: 'conv', name, input, out, kernel, stride, pad: kernel >> 1 });
const size = (/** @type {Shape} */ { batch, channels, edge }) => batch * channels * edge * edge;

/** How often what is short is in a graph that is timed. */
const kTimes = 8;
/** Gradients of so many users of one input: the first is written, the others are added to it. */
const kAdded = (2 * kTimes - 1) / kTimes;

/** @param {number} times @param {(i: number) => LayerRecord[]} layers */
const repeated = (times, layers) => Array.from({ length: times }, (_, i) => layers(i)).flat();
/** Sums vectors, which costs next to nothing. @param {string} of @param {number} times */
const sumOf = (of, times) =>
  repeated(times - 1, (i) => [{ op: 'add', name: `sum${i}`, inputs: [i === 0 ? `${of}0` : `sum${i - 1}`, `${of}${i + 1}`] }]);

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
  norm: {
    shape: { batch: 8, channels: 256, edge: 56 },
    small: { batch: 4, channels: 32, edge: 7 },
    layers: (input, _, times) =>
      repeated(times, (i) => {
        const from = i === 0 ? input : `relu${i - 1}`;
        return [
          { op: 'batchNorm', name: `norm${i}`, input: from },
          { op: 'add', name: `add${i}`, inputs: [`norm${i}`, from] },
          { op: 'relu', name: `relu${i}`, input: `add${i}` },
        ];
      }),
    // Forward: the input for its statistics, the input and the other path, the result. Backward: the gradient, the result's sign and the input for the sums
    // and again for the gradients of both inputs.
    numbers: (shape) => kTimes * (4 + 8) * size(shape),
  },
  maxpool: {
    shape: { batch: 16, channels: 64, edge: 112 },
    small: { batch: 2, channels: 16, edge: 9 },
    // With an average of each result, whose gradient is as large as the result.
    layers: (input, _, times) => [
      ...repeated(times, (i) => [
        { op: 'maxPool', name: `most${i}`, input, kernel: 3, stride: 2, pad: 1 },
        { op: 'avgPool', name: `pool${i}`, input: `most${i}` },
      ]),
      ...sumOf('pool', times),
    ],
    numbers: (shape) => kTimes * (1 + 4 * 0.25 + kAdded) * size(shape),
  },
  avgpool: {
    shape: { batch: 64, channels: 2048, edge: 7 },
    small: { batch: 3, channels: 37, edge: 5 },
    layers: (input, _, times) => [...repeated(times, (i) => [{ op: 'avgPool', name: `pool${i}`, input }]), ...sumOf('pool', times)],
    numbers: (shape) => kTimes * (1 + kAdded) * size(shape),
  },
  l2: {
    shape: { batch: 32768, channels: 128, edge: 1 },
    small: { batch: 9, channels: 24, edge: 1 },
    layers: (input, _, times) => repeated(times, (i) => [{ op: 'l2Normalize', name: `z${i}`, input: i === 0 ? input : `z${i - 1}` }]),
    // Forward: the input, twice, and the result. Backward: the result and its gradient, twice, and the input's.
    numbers: (shape) => kTimes * 8 * size(shape),
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

/** @param {OpClass} which @param {Shape} shape @param {number} times @returns {LayerRecord[]} */
function graphOf({ layers, isPictures }, shape, times) {
  /** @type {LayerRecord} */
  const input = { op: 'input', name: 'images', channels: shape.channels, height: shape.edge, width: shape.edge };
  if (isPictures) return [input, ...layers('images', shape, times)];
  return [input, { op: 'relu', name: 'first', input: 'images' }, ...layers('first', shape, times)];
}

/** Values and gradients against the plain loops with the same rounding. @param {OpClass} which @param {Precision} precision @param {string} library @param {number} threads */
async function check(which, precision, library, threads) {
  const shape = which.small;
  const layers = graphOf(which, shape, 1);
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
    unit: which.flop ? 'GFLOP/s' : 'GB/s',
    // Not by time: what is taken off makes a run look shorter than it is.
    iterations: 25,
    timeMs: 0,
    ...(precision === 'bf16' && { needs: 'avx512' }),
    async prepare({ threads, device, isQuick }) {
      const { library } = chooseDevice(device, 'fp32');
      const checked = await check(which, precision, library, threads);
      const shape = isQuick ? which.small : which.shape;
      const layers = graphOf(which, shape, kTimes);
      const whole = await bothWays(layers, shape, library, precision, threads);
      const first = which.isPictures ? undefined : await bothWays(layers.slice(0, 2), shape, library, precision, threads);
      const times = [];
      for (let i = 0; first && i < kFirstRuns; i++) times.push(await first.run());
      const off = times.sort((a, b) => a - b)[times.length >> 1] ?? 0;
      first?.engine.dispose();
      const bytes = precision === 'fp32' ? 4 : 2;
      return {
        run: async () => ({ overriddenDuration: (await whole.run()) - off }),
        items: (which.flop?.(shape) ?? bytes * /** @type {NonNullable<OpClass['numbers']>} */ (which.numbers)(shape)) / 1e9,
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
