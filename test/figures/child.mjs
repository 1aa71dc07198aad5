// @ts-check
// What the child processes of the figures share: a tiny network that steps in a fraction of a millisecond, and plain waits.
// They run dist/, as a user's program does; the parent draws the pictures and passes their folder.
import { setTimeout as sleep } from 'node:timers/promises';
import { readManifest } from '../../dist/data/manifest.js';
import { chooseDevice, native } from '../../dist/native.js';

const { module } = native();
export const liveObjects = () => module.liveObjects();

/** The folder of pictures, the part to run and its number, as the parent gave them. */
export const [, , part = '', folder = '', number = '1'] = process.argv;
export const count = Number(number);
export const { files } = await readManifest(`${folder}/data`);

export const size = 16;
export const pairs = 4;

/** @type {import('../../dist/models/layers.js').LayerRecord[]} */
export const layers = [
  { op: 'input', name: 'images', channels: 3, height: size, width: size },
  { op: 'conv', name: 'conv', input: 'images', out: 16, kernel: 3, stride: 2, pad: 1 },
  { op: 'batchNorm', name: 'norm', input: 'conv' },
  { op: 'relu', name: 'relu', input: 'norm' },
  { op: 'avgPool', name: 'avgpool', input: 'relu' },
  { op: 'rows', name: 'views', input: 'avgpool', from: 0, to: 2, of: 3 },
  { op: 'l2Normalize', name: 'z', input: 'views' },
  { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.5, weight: 1 },
];

/** No randomness, values in [0, 1]. */
export const augment = {
  ...{ cropAreaMin: 1, cropAreaMax: 1, cropAspectMax: 1, flipProbability: 0, jitterProbability: 0, grayscaleProbability: 0 },
  ...{ brightness: 0, contrast: 0, saturation: 0, hue: 0, mean: [0, 0, 0], deviation: [1, 1, 1] },
};

export const adamAt = (/** @type {number} */ step) => ({
  ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 },
  step,
});

/** @param {number} step @param {number} [of] pairs */
export const planAt = (step, of = pairs) => ({
  seed: 1n,
  step,
  pairs: of,
  x: Uint32Array.from({ length: of }, (_, i) => (step + i) % files.length),
  y: Uint32Array.from({ length: of }, (_, i) => (step + 2 * i) % files.length),
  target: new Float32Array(of),
});

/** @param {{ threads?: number, device?: 'cpu' | 'reference', more?: object }} [options] */
export async function makeEngine({ threads = 1, device = 'cpu', more = {} } = {}) {
  const library = device === 'cpu' ? chooseDevice('cpu', 'fp32').library : '';
  const graph = /** @type {const} */ ({ layers, batch: 3 * pairs, training: true, precision: 'fp32', threads, ...more });
  const engine = await module.createEngine(library, graph);
  await engine.initialize(1n);
  return engine;
}

export const openSource = (threads = 1) => module.openFiles(files, size, threads, 0);

/**
 * Steps `from` to `to` with the batch of the next step read ahead.
 * @param {import('../../dist/native.js').NativeEngine} engine @param {import('../../dist/native.js').NativeSource} source
 * @param {number} from @param {number} to
 */
export async function stepThrough(engine, source, from, to) {
  for (let step = from; step <= to; step++) {
    const { losses } = await engine.step(source, planAt(step), planAt(step + 1), augment, adamAt(step));
    if (!losses.every(Number.isFinite)) throw new Error(`step ${step}: ${losses}`);
  }
}

/** Memory after everything that can be freed is. */
export async function settled() {
  const { gc } = globalThis;
  if (!gc) throw new Error('Run with --expose-gc.');
  for (let i = 0; i < 3; i++) {
    gc();
    await sleep(5); // finalizers run in turns of their own
  }
  const { rss, heapUsed } = process.memoryUsage();
  return { rss, heapUsed };
}

/** Waits until `holds`, at most 20 s, and says whether it came. @param {() => boolean} holds */
export async function until(holds) {
  for (let i = 0; i < 4000 && !holds(); i++) await sleep(5);
  return holds();
}

export const report = (/** @type {unknown} */ result) => process.stdout.write(`${JSON.stringify(result)}\n`);
