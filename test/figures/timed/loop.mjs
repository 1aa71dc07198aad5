// @ts-check
// The measured part of E1 to E4: node --expose-gc loop.mjs PART FOLDER NUMBER; prints JSON. The control of E1 and E3 runs in the same
// process: busy threads alone cost the event loop as much, so the bar is a ratio.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { generate, Model, train } from '../../../dist/index.js';
import { backbone } from '../../../dist/models/backbone.js';
import { comfaceGraph } from '../../../dist/models/heads.js';
import { chooseDevice, native } from '../../../dist/native.js';
import { readState, writeState } from '../../../dist/train/state.js';
import { augment, count, files, folder, part, report } from '../child.mjs';

/** @typedef {import('../../../dist/index.js').TrainOptions} TrainOptions */

const cores = availableParallelism();
const { module } = native();

/** Ends the busy threads. @typedef {() => Promise<unknown>} Stop */

/** Threads that do nothing but keep cores busy, as a user's own code might. @param {number} threads @returns {Promise<Stop>} */
async function busyThreads(threads) {
  const code =
    "const { parentPort } = require('node:worker_threads'); parentPort.postMessage(''); let x = 1; for (;;) x = Math.sqrt(x + 1);";
  const workers = Array.from({ length: threads }, () => new Worker(code, { eval: true }));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
  return () => Promise.all(workers.map((worker) => worker.terminate()));
}

/** @param {string} name @param {Partial<TrainOptions>} more @returns {TrainOptions} */
const optionsOf = (name, more) => ({
  ...{ data: `${folder}/data`, out: `${folder}/${name}`, backbone: 'resnet18', size: 64, pairs: 8, epochs: 1_000_000 },
  ...{ device: 'cpu', precision: 'fp32', keepCheckpoints: 1 },
  ...more,
});

/** A run until `stop` of what it returns is called; resolves with its first step. @param {TrainOptions} options */
async function startRun(options) {
  const controller = new AbortController();
  let [steps, saves] = [0, 0];
  /** @type {(value?: unknown) => void} */
  let begun = () => undefined;
  const first = new Promise((resolve) => {
    begun = resolve;
  });
  const ended = (async () => {
    for await (const event of train(options, controller)) {
      if (event.type === 'step') steps++;
      if (event.type === 'checkpoint') saves++;
      if (steps === 1) begun();
    }
  })().catch((error) => {
    begun();
    if (error !== controller.signal.reason) throw error;
  });
  await first;
  const stop = async () => {
    const done = { steps, saves };
    controller.abort();
    await ended;
    return done;
  };
  return stop;
}

/** p of a list, 0 to 1. @param {number[]} list @param {number} p */
function quantile(list, p) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? Number.NaN;
}

/** Event-loop delay in ms. @param {number} seconds */
async function delayOver(seconds) {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  await sleep(seconds * 1000);
  histogram.disable();
  return { p99: histogram.percentile(99) / 1e6, max: histogram.max / 1e6 };
}

/** E1: `count` seconds of training on all cores, with checkpoints and validation, after a third of that with busy threads. */
async function delay() {
  const stopBusy = await busyThreads(cores);
  const control = await delayOver(count / 3);
  await stopBusy();
  const stop = await startRun(optionsOf('delay', { pairs: 16, checkpointEverySteps: 25 }));
  const training = await delayOver(count);
  return { control, training, ...(await stop()), cores };
}

/** Time of every native call on the JavaScript thread, in ms, by name. @type {Map<string, number[]>} */
const times = new Map();

/** @template {(...list: any[]) => any} F @param {string} name @param {F} call @returns {F} */
function timed(name, call) {
  const list = times.get(name) ?? [];
  times.set(name, list);
  const wrapper = function (/** @type {any} */ ...given) {
    const start = performance.now();
    try {
      // @ts-expect-error: `this` is whatever the caller has
      return call.apply(this, given);
    } finally {
      list.push(performance.now() - start);
    }
  };
  return /** @type {F} */ (wrapper);
}

/** Every method and accessor of a native object, timed. @param {string} kind @param {any} made */
function timedObject(kind, made) {
  const prototype = Object.getPrototypeOf(made);
  for (const [name, { value, get }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
    if (name === 'constructor') continue;
    const timer = get ? { get: timed(`${kind}.${name}`, get) } : { value: timed(`${kind}.${name}`, value) };
    Object.defineProperty(made, name, timer);
  }
  return made;
}

function timeEverything() {
  const own = /** @type {any} */ (module);
  const { createEngine, openFiles } = module;
  for (const name of ['drawFaces', 'writeFaces', 'decodeJpeg', 'encodeJpeg']) own[name] = timed(name, own[name]);
  const create = timed('createEngine', createEngine);
  const open = timed('openFiles', openFiles);
  own.createEngine = async (/** @type {Parameters<typeof create>} */ ...given) => timedObject('engine', await create(...given));
  own.openFiles = (/** @type {Parameters<typeof open>} */ ...given) => timedObject('source', open(...given));
}

/** A full ResNet-50 of the paper's size: its state out and in, as at a checkpoint, and a batch of pictures. */
async function largeTensors() {
  const { library } = chooseDevice('cpu', 'fp32');
  const heads = { embedding: 2048, projection: { hidden: 2048, out: 128 }, temperature: 0.1, interPersonal: 1, intraPersonal: 1 };
  const layers = comfaceGraph(backbone('resnet50', { size: 224 }), heads);
  const engine = await module.createEngine(library, { layers, batch: 6, training: true, precision: 'fp32', threads: cores });
  await engine.initialize(1n);
  const { weights, optimizer } = await readState(engine, 1);
  await writeState(engine, weights, optimizer);
  await engine.forward(new Float32Array(6 * 3 * 224 * 224), new Float32Array(2));
  await engine.backward();
  engine.dispose();
}

/** E2: `count` steps of a run with validation and checkpoints, a model's comparisons, drawn faces and the tensors of a ResNet-50. */
async function calls() {
  timeEverything();
  const more = /** @type {const} */ ({ width: 16, size: 32, pairs: 4, epochs: count / 10, pairsPerEpoch: 40, checkpointEverySteps: 20 });
  await train(optionsOf('calls', { ...more, projection: { hidden: 32, out: 16 } }));
  await generate({ format: 'files', subjects: 20, attributes: ['smile'], alphas: 5, size: 64, threads: cores, out: `${folder}/drawn` });
  const model = await Model.from(
    /** @type {any} */ ({ backbone: 'resnet18', width: 16, size: 32, augment }),
    { seed: 1 },
    { device: 'cpu' },
  );
  for (let i = 0; i < 50; i++) await model.embed(files.slice(0, 1 + (i % 40)));
  model.dispose();
  await largeTensors();
  const all = [...times.values()].flat();
  const slowest = [...times].map(([name, list]) => ({ name, p99: quantile(list, 0.99), max: Math.max(0, ...list), calls: list.length }));
  slowest.sort((a, b) => b.max - a.max);
  return { calls: all.length, p99: quantile(all, 0.99), max: Math.max(...all), slowest };
}

/** A p99 of fewer would be that of the slowest few. */
const kLeastReads = 1000;

/** Time to read a small file, again and again, `seconds` or as long as the least takes, four times that at most. @param {string} file @param {number} seconds */
async function readsOver(file, seconds) {
  const list = [];
  const begun = performance.now();
  const isDone = (/** @type {number} */ times) => performance.now() - begun > times * seconds * 1000;
  while (!isDone(list.length < kLeastReads ? 4 : 1)) {
    const start = performance.now();
    await readFile(file);
    list.push(performance.now() - start);
    await sleep(1);
  }
  return { reads: list.length, p99: quantile(list, 0.99), median: quantile(list, 0.5) };
}

/** E3: `count` seconds of reading a file of 1 KiB during four trainings, and as long beside four busy threads. */
async function reads() {
  const file = `${folder}/small`;
  await writeFile(file, new Uint8Array(1024));
  const stopBusy = await busyThreads(4);
  const control = await readsOver(file, count);
  await stopBusy();
  const more = { width: 16, threads: 1, loaderThreads: 1, checkpointEverySteps: 1_000_000 };
  const stops = await Promise.all([1, 2, 3, 4].map((i) => startRun(optionsOf(`reads-${i}`, more))));
  const training = await readsOver(file, count);
  const done = await Promise.all(stops.map((stop) => stop()));
  return { control, training, steps: done.map(({ steps }) => steps) };
}

/** When the first moment of Adam is first read after `since`: only a save does, so by then the run has stopped and is saving. */
function watchSave() {
  const watch = { since: Number.POSITIVE_INFINITY, began: 0 };
  const { createEngine } = module;
  module.createEngine = async (library, graph) => {
    const engine = await createEngine(library, graph);
    const { read } = engine;
    /** @type {typeof read} */
    const value = (slot, name) => {
      const now = performance.now();
      if (slot === 'firstMoment' && watch.began === 0 && now > watch.since) watch.began = now;
      return read.call(engine, slot, name);
    };
    return Object.defineProperty(engine, 'read', { value });
  };
  return watch;
}

/** One abort of a run at a moment of its own. @param {TrainOptions} options @param {number} afterMs @param {ReturnType<typeof watchSave>} watch */
async function abortOnce(options, afterMs, watch) {
  const controller = new AbortController();
  let [saved, last, steps] = [0, 0, 0];
  /** @type {number[]} */
  const each = [];
  Object.assign(watch, { since: Number.POSITIVE_INFINITY, began: 0 });
  try {
    for await (const event of train(options, controller)) {
      const now = performance.now();
      if (event.type === 'start') {
        setTimeout(() => {
          watch.since = performance.now();
          controller.abort();
        }, afterMs);
      }
      if (event.type === 'step' && steps++ > 0) each.push(now - last);
      last = now;
      if (event.type === 'checkpoint') saved = now;
    }
  } catch (error) {
    if (error !== controller.signal.reason) throw error;
  }
  const rejected = performance.now();
  const isAborted = watch.began > 0 && saved > watch.began;
  return { total: rejected - watch.since, without: watch.began - watch.since + (rejected - saved), each, isAborted };
}

/** E4: one run, aborted and gone on with `count` times; the same number of aborted embeddings of one model. */
async function aborts() {
  const options = optionsOf('aborts', { width: 16, size: 32, pairs: 4, threads: 1, resume: true, pairsPerEpoch: 40 });
  const watch = watchSave();
  const runs = [];
  for (let i = 0; i < count; i++) runs.push(await abortOnce(options, (i * 0.618 * 60) % 60, watch));
  const step = quantile(
    runs.flatMap(({ each }) => each),
    0.5,
  );
  const model = await Model.from(
    /** @type {any} */ ({ backbone: 'resnet18', width: 16, size: 64, augment }),
    { seed: 1 },
    {
      ...{ device: 'cpu', precision: 'fp32', threads: 1, batch: 8 },
    },
  );
  const many = Array.from({ length: 2000 }, (_, i) => /** @type {string} */ (files[i % files.length]));
  const expected = await model.embed(files.slice(0, 8));
  const embeds = [];
  for (let i = 0; i < count; i++) {
    const controller = new AbortController();
    const { signal } = controller;
    const embedding = model.embed(many, { signal }).then(
      () => new Error('It was not aborted.'),
      (error) => error,
    );
    await sleep((i * 0.618 * 30) % 30);
    const start = performance.now();
    controller.abort();
    if ((await embedding) !== signal.reason) throw new Error('It has to reject with the reason.');
    embeds.push(performance.now() - start);
  }
  const after = await model.embed(files.slice(0, 8));
  if (after.some((value, i) => value !== expected[i])) throw new Error('The model has changed.');
  model.dispose();
  const list = runs.map(({ without }) => without);
  return {
    ...{ runs: runs.length, aborted: runs.filter(({ isAborted }) => isAborted).length, step, max: Math.max(...list) },
    ...{ late: list.filter((ms) => ms > step + 50).length, withSave: Math.max(...runs.map(({ total }) => total)) },
    ...{ embeds: embeds.length, embedMax: Math.max(...embeds), embedLate: embeds.filter((ms) => ms > step + 50).length },
  };
}

const parts = { delay, calls, reads, aborts };
await mkdir(folder, { recursive: true });
report(await parts[/** @type {keyof typeof parts} */ (part)]());
