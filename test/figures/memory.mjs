// @ts-check
// The measured part of M1 to M3, in a process of its own: node --expose-gc memory.mjs PART FOLDER COUNT; prints JSON.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Model, train } from '../../dist/index.js';
import { count, folder, layers, liveObjects, makeEngine, openSource, part, report, settled, stepThrough, until } from './child.mjs';

/** Samples between the 1,000th step (the 100th of a hundred times fewer) and the last. */
const kSamples = 30;

/** @typedef {{ step: number, rss: number, heapUsed: number }} Sample */

/** Least squares: bytes a step. @param {Sample[]} samples @param {'rss' | 'heapUsed'} of */
function slope(samples, of) {
  const mean = (/** @type {number[]} */ list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const x = mean(samples.map(({ step }) => step));
  const y = mean(samples.map((sample) => sample[of]));
  const covariance = mean(samples.map((sample) => (sample.step - x) * (sample[of] - y)));
  return covariance / mean(samples.map(({ step }) => (step - x) ** 2));
}

/** @param {Sample[]} samples */
const growth = (samples) => {
  const [first, last] = /** @type {[Sample, Sample]} */ ([samples[0], samples.at(-1)]);
  return {
    steps: last.step,
    rss: last.rss - first.rss,
    heap: last.heapUsed - first.heapUsed,
    slope: { rss: slope(samples, 'rss'), heap: slope(samples, 'heapUsed') },
  };
};

/** Steps of a bare engine. */
async function steps() {
  const [engine, source] = [await makeEngine(), openSource()];
  /** @type {Sample[]} */
  const samples = [];
  const first = count / 10;
  await stepThrough(engine, source, 1, first);
  samples.push({ step: first, ...(await settled()) });
  for (let i = 1; i <= kSamples; i++) {
    const to = first + Math.round(((count - first) * i) / kSamples);
    await stepThrough(engine, source, samples.at(-1)?.step ?? 0, to);
    samples.push({ step: to, ...(await settled()) });
  }
  return growth(samples);
}

/** A whole run with log, validation and twenty checkpoints, the first before the first sample: saving takes memory that is used again. */
async function run() {
  const kPerEpoch = 25; // steps; validation comes after each epoch
  const saves = count / 20;
  /** @type {Sample[]} */
  const samples = [];
  /** @type {import('../../dist/index.js').TrainOptions} */
  const options = {
    ...{ data: `${folder}/data`, out: `${folder}/run`, device: 'cpu', precision: 'fp32', threads: 1, loaderThreads: 1 },
    ...{ width: 16, size: 16, pairs: 2, pairsPerEpoch: 2 * kPerEpoch, epochs: Math.ceil(count / kPerEpoch) },
    ...{ checkpointEverySteps: saves, logEverySteps: 10 },
    backbone: 'resnet18',
    projection: { hidden: 16, out: 16 },
  };
  const first = count / 10;
  const every = Math.round((count - first) / kSamples);
  for await (const event of train(options)) {
    if (event.type !== 'step' || event.step < first || (event.step - first) % every !== 0) continue;
    // A save under way holds what it writes: it ends while the run waits here.
    const saved = Math.floor((event.step - 1) / saves) * saves;
    const name = `step-${String(saved).padStart(8, '0')}`;
    if (!(await until(() => existsSync(`${options.out}/checkpoints/${name}`)))) throw new Error(`There is no ${name}.`);
    await sleep(20);
    samples.push({ step: event.step, ...(await settled()) });
  }
  return growth(samples);
}

/** Engines that are made, stepped and disposed of. */
async function disposed() {
  let rss = 0;
  let workers = 0;
  for (let i = 1; i <= count; i++) {
    const engine = await makeEngine({ device: i % 5 === 0 ? 'reference' : 'cpu' });
    const source = openSource();
    await stepThrough(engine, source, 1, 1);
    engine.dispose();
    source.dispose();
    workers = Math.max(workers, liveObjects().workers);
    if (i === 50) rss = (await settled()).rss;
  }
  await until(isFree);
  return { growth: (await settled()).rss - rss, live: liveObjects(), workers };
}

const isFree = () => {
  const { engines, sources, workers, calls } = liveObjects();
  return engines + sources + calls === 0 && workers === 2; // those of the environment
};

/** Engines, sources and models that nobody disposes of. */
async function dropped() {
  /** @type {string[]} */
  const warnings = [];
  process.on('warning', ({ message }) => warnings.push(message));
  let most = 0;
  for (let i = 1; i <= count; i++) {
    await stepThrough(await makeEngine(), openSource(), 1, i % 2);
    most = Math.max(most, liveObjects().engines);
    if (i % 100 === 0) await settled();
  }
  const design = { backbone: /** @type {const} */ ('resnet18'), width: 16, size: 16, augment: /** @type {any} */ (undefined) };
  for (let i = 0; i < 3; i++) await Model.from(design, { seed: 1 }, { device: 'cpu', precision: 'fp32', threads: 1, batch: 2 });
  await settled();
  await until(isFree);
  return { live: liveObjects(), most, warnings, hurried: await hurried() };
}

/** How many large engines are alive at once when nobody asks for a collection: native memory has to press for one. */
async function hurried() {
  let most = 0;
  const large = { layers: layers.slice(0, 5), batch: 4096, training: false };
  for (let i = 0; i < 100; i++) {
    await makeEngine({ more: large });
    most = Math.max(most, liveObjects().engines);
    await sleep(1);
  }
  return most;
}

const parts = { steps, run, disposed, dropped };
report(await parts[/** @type {keyof typeof parts} */ (part)]());
