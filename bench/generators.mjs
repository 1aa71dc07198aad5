// @ts-check
// Generators without their files: the published shapes, any number of pixels, numbers of our own. What they compute is counted from their records.
import { stylegan1Synthesis } from '../dist/generate/stylegan1.js';
import { defaultSettings, stylegan3Design, stylegan3Synthesis, stylegan3Table } from '../dist/generate/stylegan3.js';
import { native } from '../dist/native.js';
import { numbers } from './pictures.mjs';

/** @typedef {import('../dist/models/layers.js').LayerRecord} LayerRecord */
/** @typedef {'stylegan1' | 'stylegan3-t' | 'stylegan3-r'} Which */
/** @typedef {{ which: Which, size: number, most: number }} Shape most: channels of a layer at most; the published ones have 512, R twice as many. */

const kWidth = 512; // of w
const kMapping = [kWidth, kWidth];
const kLayers = 14; // of StyleGAN3 before the last
const kTapsPerFactor = 6;

/** @param {number} size @param {number} most @returns {import('../dist/generate/stylegan1.js').StyleGan1Design} */
function stylegan1(size, most) {
  const count = 2 * Math.log2(size) - 2;
  const layers = Array.from({ length: count }, (_, l) => 4 * 2 ** Math.floor(l / 2));
  return {
    resolution: size,
    z: kWidth,
    mapping: kMapping,
    channels: layers.map((edge) => Math.min(most, 2 ** 14 / edge)),
    fused: layers.map((edge, l) => l >= 2 && l % 2 === 0 && edge >= 128),
  };
}

/** The shapes that a file would have. @param {Shape} shape */
function stylegan3Shapes({ which, size, most }) {
  const isR = which === 'stylegan3-r';
  const [base, wide, kernel] = isR ? [2 ** 16, 2 * most, 1] : [2 ** 15, most, 3];
  const table = stylegan3Table(size, kLayers, defaultSettings);
  const channels = table.map(({ cutoff }) => Math.round(Math.min(base / 2 / cutoff, wide)));
  channels[kLayers] = 3;
  /** @type {[string, number[]][]} */
  const shapes = [
    ...kMapping.map((out, i) => /** @type {[string, number[]]} */ ([`mapping.fc${i}.weight`, [out, kWidth]])),
    ['synthesis.input.freqs', [Number(channels[0]), 2]],
  ];
  for (const [i, { size: edge, up, down }] of table.entries()) {
    const name = `synthesis.L${i}_${edge}_${channels[i]}`;
    const isLast = i === kLayers;
    shapes.push([`${name}.weight`, [Number(channels[i]), Number(channels[Math.max(0, i - 1)]), ...(isLast ? [1, 1] : [kernel, kernel])]]);
    if (isLast) continue;
    const taps = kTapsPerFactor * down;
    shapes.push([`${name}.up_filter`, [kTapsPerFactor * up]]);
    shapes.push([`${name}.down_filter`, isR && i < kLayers - defaultSettings.critical ? [taps, taps] : [taps]]);
  }
  return shapes;
}

/** w of each layer -> picture. @param {Shape} shape @returns {LayerRecord[]} */
export function synthesisOf(shape) {
  if (shape.which === 'stylegan1') return stylegan1Synthesis(stylegan1(shape.size, shape.most));
  const tensors = /** @type {any} */ (new Map(stylegan3Shapes(shape).map(([name, sizes]) => [name, { shape: sizes }])));
  return stylegan3Synthesis(stylegan3Design({ path: shape.which, tensors }, defaultSettings));
}

/** The same numbers for the same name; filters keep the mean, the transformation is none. @param {string} name @param {readonly number[]} dims @param {number} seed */
function valuesFor(name, dims, seed) {
  const count = dims.reduce((a, b) => a * b, 1);
  if (name.endsWith('Filter')) return new Float32Array(count).fill(1 / count);
  if (name.endsWith('.transform')) return Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1);
  if (name.endsWith('.gain') || name.endsWith('affine.bias')) return new Float32Array(count).fill(1);
  // Of a matrix or convolution: a mean square of 1 stays one. A transposed convolution has its inputs first, and two of its four rows and columns meet a pixel.
  const fan = dims.length === 1 ? 1 : name.endsWith('conv.weight') && dims[3] === 4 ? Number(dims[0]) * 4 : count / Number(dims[0]);
  return numbers(count, seed).map((value) => value * Math.sqrt(3 / fan));
}

/**
 * An engine with numbers in place of weights.
 * @param {Shape} shape @param {number} batch @param {Pick<import('../dist/native.js').ChosenDevice, 'library' | 'precision'>} chosen @param {number} threads
 */
export async function generatorEngine(shape, batch, { library, precision }, threads) {
  const layers = synthesisOf(shape);
  const engine = await native().module.createEngine(library, { layers, batch, training: false, precision, threads });
  for (const [i, { name, dims }] of engine.parameters.entries()) await engine.write('parameter', name, valuesFor(name, dims, i + 1));
  const [input] = layers;
  const ws = numbers(batch * kWidth * (input?.op === 'input' ? input.height : 0), 1).map((value) => value * Math.sqrt(3));
  const last = /** @type {LayerRecord} */ (layers.at(-1)).name;
  const picture = async () => {
    await engine.forward(ws, new Float32Array());
    return engine.read('value', last);
  };
  return { engine, layers, picture };
}

/** Of a picture: operations of convolutions and linear layers, two for each product, as their plain formula has it, and how many input-output pairs of channels
 * the convolutions have. @param {Shape} shape */
export function workOf(shape) {
  /** @type {Map<string, { channels: number, height: number, width: number }>} */
  const shapes = new Map();
  let [flop, pairs] = [0, 0];
  for (const layer of synthesisOf(shape)) {
    const from = 'inputs' in layer ? layer.inputs[0] : 'input' in layer ? layer.input : '';
    const input = shapes.get(from) ?? { channels: 0, height: 0, width: 0 };
    const result = resultOf(layer, input);
    shapes.set(layer.name, result);
    const area = result.height * result.width;
    if (layer.op === 'linear') flop += 2 * input.channels * layer.out * area;
    if (layer.op !== 'conv' && layer.op !== 'convTranspose' && layer.op !== 'modulatedConv') continue;
    pairs += input.channels * layer.out;
    // Each number that a transposed convolution reads meets the whole kernel.
    const met = layer.op === 'convTranspose' ? input.height * input.width : area;
    flop += 2 * input.channels * layer.out * layer.kernel ** 2 * met;
  }
  return { flop, pairs };
}

/** @param {LayerRecord} layer @param {{ channels: number, height: number, width: number }} input */
function resultOf(layer, { channels, height, width }) {
  switch (layer.op) {
    case 'input':
      return layer;
    case 'token':
      return { channels, height: 1, width: 1 };
    case 'constant':
    case 'fourierFeatures':
      return { channels: layer.out, height: layer.height, width: layer.width };
    case 'linear':
      return { channels: layer.out, height, width };
    case 'upsample':
      return { channels, height: height * layer.up, width: width * layer.up };
    case 'conv':
    case 'modulatedConv': {
      const more = 2 * layer.pad - layer.kernel + 1;
      return { channels: layer.out, height: height + more, width: width + more };
    }
    case 'convTranspose': {
      const along = (/** @type {number} */ edge) => (edge - 1) * layer.stride - 2 * layer.pad + layer.kernel;
      return { channels: layer.out, height: along(height), width: along(width) };
    }
    case 'filteredRelu': {
      const taps = Math.max(1, layer.upTaps) + Math.max(1, layer.downTaps) - 2;
      const along = (/** @type {number} */ edge) =>
        Math.floor((edge * layer.up + layer.padLow + layer.padHigh - taps - 1) / layer.down) + 1;
      return { channels, height: along(height), width: along(width) };
    }
    default:
      return { channels, height, width };
  }
}

const kGemm = { runs: 5, edge: 4096 };

/**
 * GFLOP/s of a product of two square matrices, the best of a few.
 * @param {Pick<import('../dist/native.js').ChosenDevice, 'library' | 'precision'>} chosen @param {number} threads @param {number} [edge]
 */
export async function gemmRate({ library, precision }, threads, edge = kGemm.edge) {
  // Vectors are fp32: in 16 bits the rows are an image's positions. Of the product a few numbers, so that reading them back costs nothing.
  const isExact = precision === 'fp32';
  /** @type {LayerRecord[]} */
  const layers = [
    { op: 'input', name: 'rows', channels: edge, height: isExact ? 1 : edge, width: 1 },
    { op: 'linear', name: 'product', input: 'rows', out: edge, bias: false },
    isExact
      ? { op: 'rows', name: 'end', input: 'product', from: 0, to: 1, of: edge }
      : { op: 'token', name: 'end', input: 'product', position: 0 },
  ];
  const engine = await native().module.createEngine(library, { layers, batch: isExact ? edge : 1, training: false, precision, threads });
  await engine.write('parameter', 'product.weight', numbers(edge * edge, 1));
  const input = numbers(edge * edge, 2);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < kGemm.runs; i++) {
    const start = performance.now();
    await engine.forward(input, new Float32Array());
    await engine.read('value', 'end');
    best = Math.min(best, performance.now() - start);
  }
  engine.dispose();
  return (2 * edge ** 3) / best / 1e6;
}
