// @ts-check
// The table of cases. `prepare` makes one ready and checks that it computes the right thing; only then `run` is timed, again and again.
import { strict as assert } from 'node:assert';
import { sparesOf } from '../dist/data/pairs.js';
import { Model } from '../dist/model.js';
import { comfaceGraph } from '../dist/models/heads.js';
import { backbone, embeddingWidth } from '../dist/models/resnet.js';
import { chooseDevice, native } from '../dist/native.js';
import { readState } from '../dist/train/state.js';
import { openIndex, samplePairs } from './data.mjs';
import { load, makeViews, readJpeg, readRaw } from './loading.mjs';
import { drawSet, numbers, planner, shots } from './pictures.mjs';

/**
 * @typedef {{ threads: number, folder: string, device: 'cpu' | 'cuda' }} Setting threads: to compute with; folder: a temporary one.
 * @typedef {object} Ready
 * @property {() => Promise<unknown>} run What is timed, unless it answers with an `overriddenDuration` in ms.
 * @property {number} items How many of the unit one run makes.
 * @property {string} checked What was checked, in words.
 * @property {() => Record<string, unknown>} [facts] Asked at the end; goes into the result as it is.
 * @property {number} [threads] Where it is not the setting's.
 * @property {() => void} [end] Ends what it has started.
 * @typedef {object} Case
 * @property {string} unit
 * @property {(setting: Setting) => Promise<Ready>} prepare
 * @property {number} [line] The rate to reach, on 2 cores with AVX-512 and bf16.
 * @property {number} [ratioLine] The ratio to reach to the best of the rivals that it is timed beside.
 * @property {number} [iterations] At least, 10 if not given; more while timeMs lasts.
 * @property {number} [timeMs] 3000 if not given.
 * @property {'cpu' | 'cuda'} [only] The device that it is for, if not for all.
 */

const kSettleSteps = 10;
/** A GPU goes on while nobody asks for losses. In a training run somebody does about as often. */
const kStepsBetweenLosses = 10;

/** @param {import('../dist/config.js').TrainConfig} config */
const adamOf = ({ learningRate, beta1, beta2, epsilon, weightDecay }, /** @type {number} */ step) => ({
  learningRate,
  beta1,
  beta2,
  epsilon,
  weightDecay,
  step,
});

/** @typedef {'auto' | 'fp32' | 'fp16'} Wanted */

/** @param {import('../dist/config.js').TrainConfig} config @param {Wanted} wanted @param {Setting} setting @param {{ chunks?: number, deterministic?: boolean }} [more] */
async function trainer(config, wanted, { threads, device }, { chunks = 1, deterministic = true } = {}) {
  const { library, precision } = chooseDevice(device, wanted);
  const embedding = embeddingWidth(config.backbone, config.width);
  const projection = { hidden: embedding, out: config.projection.out };
  const layers = comfaceGraph(backbone(config.backbone, config), { ...config, embedding, projection });
  const graph = { layers, batch: 3 * config.pairs, parts: 3, chunks, deterministic, training: true, precision, threads };
  const engine = await native().module.createEngine(library, graph);
  await engine.initialize(1n);
  // Asked at the end: only steps show how they run.
  const facts = () => ({ precision, engine: engine.description, sizeBytes: engine.sizeBytes });
  return { engine, precision, facts };
}

/** @param {readonly number[]} actual @param {readonly number[]} expected @param {number} tolerance relative */
function assertClose(actual, expected, tolerance) {
  for (const [i, value] of expected.entries()) {
    const difference = Math.abs(/** @type {number} */ (actual[i]) - value) / Math.max(1e-9, Math.abs(value));
    assert(difference <= tolerance, `expected ${value} but received ${actual[i]} (relative difference ${difference.toExponential(1)})`);
  }
}

const nearness = (/** @type {number} */ tolerance) => (tolerance === 0 ? 'equal to those of' : `within ${tolerance * 100} % of`);

/**
 * Whole steps as in training: files are read, decoded and augmented while the step before computes.
 * @param {'resnet18' | 'resnet50'} name @param {number} size @param {number} pairs @param {Wanted} wanted
 * @param {{ width?: number, chunks?: number, deterministic?: boolean }} [more] chunks: of a gradient cache.
 * @returns {Case['prepare']}
 */
function training(name, size, pairs, wanted, { width = 64, ...how } = {}) {
  return async (setting) => {
    const { folder, device, threads } = setting;
    const manifest = await drawSet(folder, size, Math.ceil(Math.max(88, pairs) / 11));
    // With a GPU the processor has nothing else to do.
    const { config, planAt } = planner(manifest, { backbone: name, width, pairs, ...(device === 'cuda' && { loaderThreads: threads }) });
    const source = native().module.openFiles(manifest.files, size, config.loaderThreads, size);
    /** @param {import('../dist/native.js').NativeEngine} engine */
    const lossesOf = async (engine) => {
      await engine.reserve(source, config.pairs + sparesOf(config));
      const { losses, broken } = await engine.step(source, planAt(1), null, config.augment, adamOf(config, 1));
      losses.push(...(await engine.collect()).losses);
      assert(broken.length === 0 && losses.length === 2 && losses.every(Number.isFinite), `finite losses, no broken picture: ${losses}`);
      return losses;
    };
    const other = await trainer(config, 'fp32', setting, how);
    const expected = await lossesOf(other.engine);
    other.engine.dispose();
    const { engine, precision, facts } = await trainer(config, wanted, setting, how);
    const tolerance = precision === 'fp32' ? 0 : 0.05;
    assertClose(await lossesOf(engine), expected, tolerance);
    let step = 1;
    let settled = 0;
    const steps = device === 'cuda' ? kStepsBetweenLosses : 1;
    const run = async () => {
      for (let i = 0; i < steps; i++) {
        step++;
        await engine.step(source, planAt(step), planAt(step + 1), config.augment, adamOf(config, step));
        if (step === kSettleSteps) settled = process.memoryUsage().rss;
      }
      await engine.collect();
    };
    // Memory is planned before the first step, so the process must not grow while it trains.
    const growth = () => (settled > 0 && step > 2 * kSettleSteps ? process.memoryUsage().rss - settled : null);
    const more = () => ({ ...facts(), loaderThreads: config.loaderThreads, rssGrowthBytes: growth(), stepsPerRun: steps });
    return { run, items: steps * 3 * pairs, checked: `losses of step 1 ${nearness(tolerance)} a second engine in fp32`, facts: more };
  };
}

/** The parts of a step on given numbers: no file, no augmentation. @type {Case['prepare']} */
async function engineStep(setting) {
  const { folder } = setting;
  const manifest = await drawSet(folder, 64);
  const { config } = planner(manifest, { backbone: 'resnet18', pairs: 32 });
  const { engine, precision, facts } = await trainer(config, 'auto', setting);
  const input = numbers(96 * 3 * 64 * 64, 1);
  const targets = numbers(32, 2).map(Math.abs);
  const other = await trainer(config, 'fp32', setting);
  const losses = await engine.forward(input, targets);
  const tolerance = precision === 'fp32' ? 0 : 0.05;
  assertClose(losses, await other.engine.forward(input, targets), tolerance);
  other.engine.dispose();
  let step = 0;
  const run = async () => {
    step++;
    await engine.forward(input, targets);
    await engine.backward();
    await engine.update(adamOf(config, step));
  };
  return { run, items: 96, checked: `losses ${nearness(tolerance)} a second engine in fp32`, facts };
}

/** The end of the projection head with the loss: the linear layer is there for its gradient, which can be read. Buffers grow with the rows, not
 * with their square. @param {number} rows @returns {Case['prepare']} */
const infoNce =
  (rows) =>
  async ({ threads, device }) => {
    const width = 128;
    /** @type {import('../dist/models/layers.js').LayerRecord[]} */
    const layers = [
      { op: 'input', name: 'images', channels: width, height: 1, width: 1 },
      { op: 'linear', name: 'projection', input: 'images', out: width, bias: false },
      { op: 'l2Normalize', name: 'z', input: 'projection' },
      { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.1, weight: 1 },
    ];
    const input = numbers(rows * width, 1);
    const make = (/** @type {string} */ library) =>
      native().module.createEngine(library, { layers, batch: rows, training: true, precision: 'fp32', threads });
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
    const norm = (/** @type {Float32Array} */ v) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
    const difference = norm(actual.gradient.map((v, i) => v - /** @type {number} */ (expected.gradient[i]))) / norm(expected.gradient);
    assert(difference < 1e-5, `gradient differs by ${difference}`);
    // The matrix of rows x rows would be 4, 16 and 64 MiB.
    assert(engine.sizeBytes < 8 * 4 * rows * width, `${engine.sizeBytes} bytes are more than 8 arrays of rows x width`);
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

/** Reads, decodes and augments with one thread. @param {number} size @returns {Case['prepare']} */
function augmentation(size) {
  return async ({ folder }) => {
    const manifest = await drawSet(folder, size);
    const pairs = size > 100 ? 8 : 32;
    const { config, planAt } = planner(manifest, { backbone: 'resnet18', pairs });
    const open = (/** @type {number} */ threads) => native().module.openFiles(manifest.files, size, threads, size);
    const source = open(1);
    const two = open(2);
    const [a, b] = [await source.fill(planAt(1), config.augment), await two.fill(planAt(1), config.augment)];
    two.dispose();
    assert.equal(a.images.length, 3 * pairs * 3 * size * size);
    assert(a.broken.length === 0 && a.images.every(Number.isFinite));
    assert(Buffer.from(a.images.buffer).equals(Buffer.from(b.images.buffer)), 'one and two threads differ');
    let step = 1;
    const run = () => source.fill(planAt(++step), config.augment);
    return { run, items: 3 * pairs, checked: 'size, finite, the same bytes with two threads', threads: 1 };
  };
}

/** @param {number} size @returns {Case['prepare']} */
function faces(size) {
  return async () => {
    const list = shots(size > 100 ? 4 : 16, size);
    const count = list.subject.length;
    const [a, b] = [await native().module.drawFaces(list, 1), await native().module.drawFaces(list, 2)];
    assert.equal(a.length, count * size * size * 3);
    assert(new Set(a).size > 50, 'a picture of few colors');
    assert(Buffer.from(a.buffer).equals(Buffer.from(b.buffer)), 'one and two threads differ');
    return {
      run: () => native().module.drawFaces(list, 1),
      items: count,
      checked: 'size, colors, the same bytes with two threads',
      threads: 1,
    };
  };
}

/** @type {Case['prepare']} */
async function embed({ threads, folder, device }) {
  const manifest = await drawSet(folder, 64);
  const { config } = planner(manifest, { backbone: 'resnet18', pairs: 32 });
  const model = await Model.from(config, { seed: 1 }, { threads, device });
  const files = manifest.files.slice(0, 64);
  const [all, one] = [await model.embed(files), await model.embed(files.slice(5, 6))];
  assert.equal(all.length, 64 * model.width);
  assertClose([...one], [...all.subarray(5 * model.width, 6 * model.width)], 0.02);
  return {
    run: () => model.embed(files),
    items: 64,
    checked: 'a picture alone gives what it gives among 64',
    facts: () => ({ precision: chooseDevice(device, 'auto').precision }),
  };
}

/** @type {Case['prepare']} */
async function compare(setting) {
  const { threads, folder, device } = setting;
  const manifest = await drawSet(folder, 224);
  const { config } = planner(manifest, { backbone: 'resnet50', pairs: 2 });
  const { engine } = await trainer(config, 'auto', setting);
  const { weights } = await readState(engine, 0);
  engine.dispose();
  const model = await Model.from(config, weights, { threads, device, batch: 2 });
  const [x, y] = /** @type {[string, string]} */ ([manifest.files[0], manifest.files[10]]);
  const [same, other] = [await model.compare(x, x), await model.compare(x, y)];
  assertClose([same.change], [Number(weights.get('change.bias')?.data[0])], 1e-6);
  const full = await Model.from(config, weights, { threads, device, precision: 'fp32', batch: 2 });
  const [h, expected] = [await model.embed([x, y]), await full.embed([x, y])];
  full.dispose();
  const norm = (/** @type {Float32Array} */ v) => Math.hypot(...v);
  const distance = norm(h.map((value, i) => value - /** @type {number} */ (expected[i]))) / norm(expected);
  assert(distance < 0.02, `embeddings ${distance} from those in fp32`);
  const head = /** @type {Float32Array} */ (weights.get('change.weight')?.data);
  const sum = head.reduce((all, w, i) => all + w * Math.max(0, Number(h[model.width + i]) - Number(h[i])), same.change);
  assertClose([other.change], [sum], 1e-4);
  return {
    run: () => model.compare(x, y),
    items: 1,
    checked: 'embeddings within 2 % of those in fp32, their change by the formula, a picture against itself gives the bias',
    facts: () => ({ precision: chooseDevice(device, 'auto').precision }),
  };
}

/** A run is ten steps, so a few runs are many steps. */
const onGpu = { unit: 'views/s', only: /** @type {const} */ ('cuda'), iterations: 3, timeMs: 1000 };

/** Rounds of several programs, one after the other. */
const inTurns = { iterations: 11, timeMs: 0 };

/** @type {Record<string, Case>} */
export const cases = {
  'train/resnet18-32-narrow': { unit: 'views/s', prepare: training('resnet18', 32, 8, 'fp32', { width: 16 }) },
  'train/resnet18-64': { unit: 'views/s', line: 250, iterations: 25, timeMs: 8000, prepare: training('resnet18', 64, 32, 'auto') },
  'train/resnet18-64-fp32': { unit: 'views/s', iterations: 12, prepare: training('resnet18', 64, 32, 'fp32') },
  'train/resnet50-224': { unit: 'views/s', iterations: 3, timeMs: 0, prepare: training('resnet50', 224, 8, 'auto') },
  // Nearly 256, 1,024 and 3,072 views, which PyTorch is given in bench/peers. The last has the batch of the paper and of SimCLR's scale; in bf16
  // its images alone want more memory than an H200 has, so they are computed in chunks.
  'train/resnet50-224-85': { ...onGpu, prepare: training('resnet50', 224, 85, 'auto') },
  'train/resnet50-224-85-fp16': { ...onGpu, prepare: training('resnet50', 224, 85, 'fp16') },
  'train/resnet50-224-341': { ...onGpu, prepare: training('resnet50', 224, 341, 'auto') },
  'train/resnet50-224-341-fp16': { ...onGpu, prepare: training('resnet50', 224, 341, 'fp16') },
  'train/resnet50-224-1024': { ...onGpu, prepare: training('resnet50', 224, 1024, 'auto', { chunks: 4 }) },
  // Batch statistics are summed inside the convolutions, in any order.
  'train/resnet50-224-85-unordered': { ...onGpu, prepare: training('resnet50', 224, 85, 'auto', { deterministic: false }) },
  'train/resnet50-224-341-unordered': { ...onGpu, prepare: training('resnet50', 224, 341, 'auto', { deterministic: false }) },
  'step/resnet18-64': { unit: 'views/s', prepare: engineStep },
  'infonce/1024': { unit: 'rows/s', prepare: infoNce(1024) },
  'infonce/2048': { unit: 'rows/s', prepare: infoNce(2048) },
  'infonce/4096': { unit: 'rows/s', prepare: infoNce(4096) },
  'augment/64': { unit: 'views/s', prepare: augmentation(64) },
  'augment/224': { unit: 'views/s', prepare: augmentation(224) },
  'data/index': { unit: 'opens/s', line: 1, prepare: openIndex },
  'data/pairs': { unit: 'pairs/s', line: 1_000_000, prepare: samplePairs },
  'data/jpeg': { unit: 'pictures/s', ratioLine: 0.9, ...inTurns, prepare: readJpeg },
  'data/raw': { unit: 'GB/s', line: 3, ...inTurns, prepare: readRaw },
  'data/augment': { unit: 'views/s', line: 1500, ...inTurns, prepare: makeViews },
  'data/loader': { unit: 'views/s', ratioLine: 5, ...inTurns, prepare: load('crops') },
  'data/loader-simclr': { unit: 'views/s', line: 1500, ratioLine: 5, ...inTurns, prepare: load('simclr') },
  'faces/64': { unit: 'images/s', prepare: faces(64) },
  'faces/224': { unit: 'images/s', prepare: faces(224) },
  'embed/resnet18-64': { unit: 'images/s', prepare: embed },
  // 150 ms, both JPEG files read and decoded.
  'compare/resnet50-224': { unit: 'compares/s', line: 6.7, prepare: compare },
};
