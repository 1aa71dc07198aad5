// @ts-check
// The measured part of T1, T2 and T4: node threads.mjs PART FOLDER NUMBER; prints JSON. It is its own worker thread too.
// `begin` puts native code into one of its states and says so; what ends it there is the part's business.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { native } from '../../dist/native.js';
import {
  adamAt,
  augment,
  count,
  files,
  folder,
  layers,
  liveObjects,
  makeEngine,
  openSource,
  part,
  planAt,
  report,
  size,
  stepThrough,
  until,
} from './child.mjs';

const { module } = native();
const forever = 1e9;
/** Only for what needs it: it takes longer to load than the add-on. */
const comface = () => import('../../dist/index.js');
/** Set in a worker thread: the number of its cycle. */
const cycle = /** @type {number} */ (workerData?.cycle ?? 0);

const shots = (/** @type {number} */ number) => ({
  ...{ seed: 1n, subject: new Uint32Array(number), photo: new Uint32Array(number), attribute: new Int32Array(number) },
  ...{ alpha: new Float32Array(number), domain: 0, size: 64 },
});

/** Each starts native work that does not end by itself. @type {Record<string, (out: string) => Promise<unknown>>} */
const states = {
  compiling: async () => {
    for (;;) (await makeEngine({ more: { batch: 48 } })).dispose();
  },
  stepping: async () => stepThrough(await makeEngine(), openSource(), 1, forever),
  'stepping on two threads': async () => stepThrough(await makeEngine({ threads: 2 }), openSource(2), 1, forever),
  'stepping in plain loops': async () => stepThrough(await makeEngine({ device: 'reference' }), openSource(), 1, forever),
  prefetching: async () => {
    const engine = await makeEngine();
    const source = openSource(2);
    // A plan that is read ahead for long and never taken.
    for (let step = 1; ; step++) await engine.step(source, planAt(step), planAt(step, 4096), augment, adamAt(step));
  },
  'many steps waiting': async () => {
    const [engine, source] = [await makeEngine(), openSource()];
    for (;;) await Promise.all(Array.from({ length: 50 }, () => engine.step(source, planAt(1), null, augment, adamAt(1))));
  },
  filling: async () => {
    const source = openSource(2);
    for (;;) await source.fill(planAt(1, 64), augment);
  },
  embedding: async () => {
    const engine = await makeEngine({ more: { layers: layers.slice(0, 5), training: false } });
    return engine.embed(openSource(), new Uint32Array(5_000_000), 'avgpool', augment);
  },
  'drawing faces': async () => module.drawFaces(shots(5_000), 2),
  'writing faces': async (out) =>
    (await comface()).generate({ subjects: 5_000, attributes: ['smile'], alphas: 2, size: 32, threads: 2, out: `${out}/drawn` }),
  'encoding and decoding': async () => {
    const rgb = new Uint8Array(512 * 512 * 3);
    for (;;) await module.decodeJpeg(await module.encodeJpeg(rgb, 512, 512, 90));
  },
  'reading and writing weights': async () => {
    const engine = await makeEngine();
    for (;;) await engine.write('parameter', 'conv.weight', await engine.read('parameter', 'conv.weight'));
  },
  'making and dropping': async () => {
    for (;;) {
      const [engine, source] = [await makeEngine(), openSource()];
      engine.step(source, planAt(1), null, augment, adamAt(1)).catch(() => undefined);
      engine.dispose();
      source.dispose();
    }
  },
  'training and saving': async (out) => {
    /** @type {import('../../dist/index.js').TrainOptions} */
    const options = {
      ...{ data: `${folder}/data`, out: `${out}/run`, device: 'cpu', precision: 'fp32', threads: 1, loaderThreads: 1 },
      ...{ width: 16, size: 16, pairs: 2, pairsPerEpoch: 8, epochs: 1_000_000, checkpointEverySteps: 2, keepCheckpoints: 1 },
      backbone: 'resnet18',
    };
    return (await comface()).train(options);
  },
  'a model': async () => {
    const { Model } = await comface();
    const design = /** @type {any} */ ({ backbone: 'resnet18', width: 16, size, augment });
    for (;;) {
      const model = await Model.from(design, { seed: 1 }, { device: 'cpu', precision: 'fp32', threads: 2, batch: 8 });
      await model.embed(files.slice(0, 8));
      model.dispose();
    }
  },
  'a worker thread that steps': async () => {
    const at = names.indexOf('stepping on two threads');
    const worker = new Worker(new URL(import.meta.url), { argv: ['worker', folder, '1'], workerData: { cycle: at } });
    return new Promise((_, reject) => worker.once('error', reject));
  },
};
const names = Object.keys(states);

/** Seconds of oneDNN on two threads, compiling again and again or stepping: most likely to be hit in the middle of its code. */
async function bigWork(/** @type {boolean} */ isCompiling) {
  const { backbone } = await import('../../dist/models/backbone.js');
  const { comfaceGraph } = await import('../../dist/models/heads.js');
  const heads = { embedding: 512, projection: { hidden: 512, out: 128 }, temperature: 0.1, interPersonal: 1, intraPersonal: 1 };
  const graph = comfaceGraph(backbone('resnet18', { size: 64 }), heads);
  const more = { layers: graph, batch: 48, precision: module.cpu.bf16 ? 'bf16' : 'fp32' };
  while (isCompiling) (await makeEngine({ threads: 2, more })).dispose();
  const engine = await makeEngine({ threads: 2, more });
  const input = Float32Array.from({ length: 48 * 3 * 64 * 64 }, (_, i) => Math.sin(i));
  for (;;) {
    await engine.forward(input, new Float32Array(16));
    await engine.backward();
  }
}

/** @param {number} at @param {string} out */
const begin = (at, out) => /** @type {(out: string) => Promise<unknown>} */ (states[/** @type {string} */ (names[at % names.length])])(out);

/** How long the work has been going on when it is ended: another moment each time, early ones more often. @param {number} at */
const moment = (at) => ((at * 0.618) % 1) ** 2 * 60;

/** T1: terminates `count` worker threads in the middle of their work. */
async function terminate() {
  let slowest = 0;
  let failed = '';
  for (let i = 0; i < count; i++) {
    const worker = new Worker(new URL(import.meta.url), { argv: ['worker', folder, String(count)], workerData: { cycle: i } });
    worker.on('error', (error) => {
      failed ||= `${names[i % names.length]}: ${error}`;
    });
    await new Promise((resolve) => worker.once('message', resolve).once('exit', resolve));
    await sleep(moment(i));
    const before = performance.now();
    await worker.terminate();
    slowest = Math.max(slowest, performance.now() - before);
  }
  await until(() => liveObjects().workers === 2);
  // The process has to be sound after all that: one more training that ends.
  const [engine, source] = [await makeEngine(), openSource()];
  await stepThrough(engine, source, 1, 20);
  engine.dispose();
  source.dispose();
  await until(() => liveObjects().workers === 2 && liveObjects().sources === 0);
  report({ states: names.length, live: liveObjects(), slowest, failed });
}

/** The worker thread of a cycle. */
async function work() {
  const out = `${folder}/cycle-${cycle}`;
  const work = begin(cycle, out);
  parentPort?.postMessage('begun');
  await work;
}

/** T2: ends this process in the middle of its work, in the `count`th way. Every other is in big work. */
async function end() {
  const at = Math.floor(count / 2);
  const failed = (/** @type {unknown} */ error) => {
    console.error(error);
    process.exit(99);
  };
  if (count % 2 === 1) {
    bigWork(at % 2 === 0).catch(failed);
    await sleep(60 + 5 * moment(at));
  } else {
    begin(at, `${folder}/end-${count}`).catch(failed);
    await sleep(15 + moment(at)); // the first engine takes some 10 ms
  }
  const ends = {
    exit: () => process.exit(7),
    'uncaught exception': () => setImmediate(() => Promise.resolve().then(() => queueMicrotask(() => thrown()))),
    'unhandled rejection': () => void Promise.reject(new Error('on purpose')),
    'exit in a promise': () => void Promise.resolve().then(() => process.exit(0)),
  };
  Object.values(ends)[endOf(at)]?.();
}
/** Which of the four it is: each state meets all of them. @param {number} at */
const endOf = (at) => (at + Math.floor(at / names.length)) % 4;
const thrown = () => {
  throw new Error('on purpose');
};

/** The weights after some steps, as a hash, from an add-on of its own. @param {string} addon @param {number} threads */
async function trained(addon, threads) {
  /** @type {import('../../dist/native.js').NativeModule} */
  const own = createRequire(import.meta.url)(`${addon}/comface.node`);
  const graph = /** @type {const} */ ({ layers, batch: 12, training: true, precision: 'fp32', threads });
  const engine = await own.createEngine(`${addon}/libcomface_cpu.so`, graph);
  const source = own.openFiles(files, size, 2, 0);
  await engine.initialize(1n);
  await stepThrough(engine, source, 1, count);
  const hash = createHash('sha256')
    .update(await engine.read('parameter', 'conv.weight'))
    .digest('hex');
  engine.dispose();
  source.dispose();
  return hash;
}

/** T4: two copies of the add-on, an engine of each in this thread and in two workers, all at once, against one alone. */
async function copies() {
  const { folder: addon } = native();
  const folders = [addon, `${folder}/copy`];
  const alone = [await trained(addon, 1), await trained(addon, 2)];
  const worker = (/** @type {string} */ at, /** @type {number} */ threads) =>
    new Promise((resolve, reject) => {
      const made = new Worker(new URL(import.meta.url), { argv: ['copy', folder, String(count)], workerData: { addon: at, threads } });
      made.once('message', resolve).once('error', reject);
    });
  const together = await Promise.all([1, 2].flatMap((threads) => folders.flatMap((at) => [trained(at, threads), worker(at, threads)])));
  const differing = together.filter((hash, i) => hash !== alone[Math.floor(i / 4)]).length;
  const loaded = new Set((await readFile('/proc/self/maps', 'utf8')).match(/\/.*(comface\.node|libcomface_cpu\.so)$/gm));
  report({ engines: together.length, differing, loaded: loaded.size });
}

if (!isMainThread) {
  if (part === 'copy') parentPort?.postMessage(await trained(workerData.addon, workerData.threads));
  else await work();
} else {
  const parts = { terminate, end, copies };
  await parts[/** @type {keyof typeof parts} */ (part)]();
}
