// F5: what every method of every object answers in every state. The tables below are the documentation's promise, cell by cell.
// States that last come from the backend that fails on demand (test/native/faulty.cc).
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { beforeAll, expect } from 'vitest';
import { ComFaceError } from '../../lib/errors.ts';
import { type Generator, loadGenerator } from '../../lib/generate/generator.ts';
import { Model } from '../../lib/model.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import { type NativeEngine, type NativeSource, native } from '../../lib/native.ts';
import { latestCheckpoint } from '../../lib/train/checkpoint.ts';
import { train } from '../../lib/train/train.ts';
import { plainAugment, planOf, sharedFolder, smallFaces, smallRun, writePicture } from '../faces.ts';
import { stylegan1State, torchFile } from '../generators.ts';
import { adamAt } from '../support.ts';
import { figure } from './figure.ts';
import { faultyLibrary } from './programs.ts';

const shared = sharedFolder();
const { module } = native();
const [size, batch] = [8, 6];
let library = '';
let files: string[] = [];
let checkpoint: NonNullable<Awaited<ReturnType<typeof latestCheckpoint>>>;

beforeAll(async () => {
  library = faultyLibrary();
  files = await Promise.all([0, 1].map((i) => writePicture(join(shared, `${i}.jpg`), 16, (x, y) => [x * 16, y * 16, i * 200])));
  const run = join(shared, 'run');
  await train({ ...smallRun, data: await smallFaces(shared), out: run, epochs: 1 });
  checkpoint = (await latestCheckpoint(run))!;
}, 120_000);

const body: LayerRecord[] = [
  { op: 'input', name: 'images', channels: 3, height: size, width: size },
  { op: 'conv', name: 'conv', input: 'images', out: 4, kernel: 3, stride: 2, pad: 1 },
  { op: 'batchNorm', name: 'norm', input: 'conv' },
  { op: 'avgPool', name: 'pool', input: 'norm' },
];
const heads: LayerRecord[] = [
  { op: 'rows', name: 'x', input: 'pool', from: 0, to: 1, of: 3 },
  { op: 'linear', name: 'change', input: 'x', out: 1, bias: true },
  { op: 'squaredError', name: 'intra', input: 'change', weight: 1 },
];
const plan = planOf([0, 1]);
const images = new Float32Array(batch * 3 * size * size).fill(0.5);
/** Faults as layers that read what is there and change nothing. */
const faultLayers = (faults: readonly string[]): LayerRecord[] =>
  faults.map((fault) => ({ op: 'relu', name: `fault ${fault}`, input: 'pool' }));

/** What came of a call: 'works', the code of our error, or what else it was. */
async function answer(call: () => unknown): Promise<string> {
  try {
    await call();
    return 'works';
  } catch (error) {
    return error instanceof ComFaceError ? error.code : String(error);
  }
}

/** Answers beside what was promised; the figure is how many agree. */
class Cells {
  count = 0;
  readonly wrong: string[] = [];
  check(cell: string, promised: unknown, found: unknown): void {
    this.count++;
    if (found !== promised) this.wrong.push(`${cell}: ${promised} was promised, ${found} came`);
  }
}

// ---- the engine ----

type Method = 'initialize' | 'reserve' | 'step' | 'collect' | 'embed' | 'forward' | 'backward' | 'update' | 'read' | 'write' | 'dispose';
type Accessor = 'parameters' | 'statistics' | 'sizeBytes' | 'description' | 'choices' | 'state';
const states = ['ready', 'busy', 'failing', 'failed', 'disposed', 'failed and disposed'] as const;
type State = (typeof states)[number];
type Row = Record<State, string>;

const command: Row = {
  ready: 'works',
  busy: 'works', // after the one that runs
  failing: 'DEVICE_FAILED', // the one that runs is about to
  failed: 'DEVICE_FAILED',
  disposed: 'DISPOSED',
  'failed and disposed': 'DISPOSED',
};
const always: Row = { ready: 'works', busy: 'works', failing: 'works', failed: 'works', disposed: 'works', 'failed and disposed': 'works' };
const untilDisposed: Row = { ...always, disposed: 'DISPOSED', 'failed and disposed': 'DISPOSED' };
const engineTable: Record<Method | Accessor, Row> = {
  ...{ initialize: command, step: command, embed: command, forward: command, backward: command, update: command, read: command },
  ...{ reserve: command, collect: command, choices: always },
  ...{ write: command, dispose: always, parameters: untilDisposed, statistics: untilDisposed, sizeBytes: always, description: always },
  state: always,
};
/** What `state` says. */
const stateNames: Row = {
  ...{ ready: 'ready', busy: 'busy', failing: 'busy', failed: 'failed', disposed: 'disposed' },
  'failed and disposed': 'disposed',
};

const calls = (source: NativeSource): Record<Method | Accessor, (engine: NativeEngine) => unknown> => ({
  initialize: (engine) => engine.initialize(1n),
  reserve: (engine) => engine.reserve(source, 4),
  step: (engine) => engine.step(source, plan, null, plainAugment, adamAt(1)),
  collect: (engine) => engine.collect(),
  embed: (engine) => engine.embed(source, Uint32Array.of(0, 1), 'pool', plainAugment),
  forward: (engine) => engine.forward(images, new Float32Array(2)),
  backward: (engine) => engine.backward(),
  update: (engine) => engine.update(adamAt(1)),
  read: (engine) => engine.read('parameter', 'conv.weight'),
  write: (engine) => engine.write('parameter', 'norm.weight', new Float32Array(4)),
  dispose: (engine) => engine.dispose(),
  parameters: (engine) => engine.parameters,
  statistics: (engine) => engine.statistics,
  sizeBytes: (engine) => engine.sizeBytes,
  description: (engine) => engine.description,
  choices: (engine) => engine.choices,
  state: (engine) => engine.state,
});

/** An engine that can do `method`: initialized, and forward or backward done where that comes first. */
async function engineFor(method: string, faults: readonly string[] = []): Promise<NativeEngine> {
  const training = method !== 'embed';
  const layers = [...body, ...faultLayers(faults), ...(training ? heads : [])];
  const engine = await module.createEngine(library, { layers, batch, training, precision: 'fp32', threads: 1 });
  await engine.initialize(1n);
  if (method === 'backward' || method === 'update') await engine.forward(images, new Float32Array(2));
  if (method === 'update') await engine.backward();
  return engine;
}

/** Brings an engine into a state. Reading the statistics is what the faults wait for; a call of that kind may be left under way. */
async function bring(method: string, state: State): Promise<{ engine: NativeEngine; left: Promise<string> | undefined }> {
  const faults: Partial<Record<State, string[]>> = {
    busy: ['read 1 sleep60'],
    failing: ['read 1 sleep60', 'read 1 deviceFailed'],
    failed: ['read 1 deviceFailed'],
    'failed and disposed': ['read 1 deviceFailed'],
  };
  const engine = await engineFor(method, faults[state]);
  const read = faults[state] && answer(() => engine.read('statistic', 'norm.running_mean'));
  const left = state === 'busy' || state === 'failing' ? read : undefined;
  if (!left) await read;
  // dispose() also drops a call that has not begun.
  else if (method === 'dispose') await new Promise((resolve) => setTimeout(resolve, 20));
  if (state.endsWith('disposed')) engine.dispose();
  return { engine, left };
}

async function checkEngine(cells: Cells): Promise<void> {
  const source = module.openFiles(files, size, 1, 0);
  for (const [method, row] of Object.entries(engineTable) as [Method | Accessor, Row][]) {
    for (const state of states) {
      const { engine, left } = await bring(method, state);
      cells.check(`engine ${state} before ${method}`, stateNames[state], engine.state);
      const disposes = method === 'dispose';
      cells.check(`engine ${method} when ${state}`, row[state], await answer(() => calls(source)[method](engine)));
      if (left)
        cells.check(`engine ${state}, the call that ran before ${method}`, state === 'busy' ? 'works' : 'DEVICE_FAILED', await left);
      const after = disposes ? 'disposed' : { ...stateNames, busy: 'ready', failing: 'failed' }[state];
      cells.check(`engine ${state} after ${method}`, after, engine.state);
      engine.dispose();
    }
  }
  source.dispose();
}

/** dispose() in the middle: the running call is answered, those that wait are not begun. */
async function checkQueue(cells: Cells): Promise<void> {
  const source = module.openFiles(files, size, 1, 0);
  for (const method of Object.keys(engineTable) as Method[]) {
    if (engineTable[method] !== command) continue;
    const engine = await engineFor(method, ['read 2 sleep80']);
    const before = engine.read('statistic', 'norm.running_mean');
    const running = answer(() => engine.read('statistic', 'norm.running_mean'));
    await before;
    await new Promise((resolve) => setTimeout(resolve, 20)); // by now it has begun
    const waiting = answer(() => calls(source)[method](engine));
    engine.dispose();
    cells.check(`engine: what runs when ${method} waits and dispose() comes`, 'works', await running);
    cells.check(`engine: ${method} that waits when dispose() comes`, 'DISPOSED', await waiting);
  }
  source.dispose();
}

/** While an engine is being made there is nothing to call it by; others go on, and its thread may end under it. */
async function checkMaking(cells: Cells): Promise<void> {
  const slow = engineFor('read', ['compile 1 sleep60']);
  const other = await engineFor('read');
  cells.check('another engine while one is being made', 'works', await answer(() => other.read('parameter', 'conv.weight')));
  const refused = module.createEngine('/nonexistent.so', { layers: body, batch, training: false, precision: 'fp32', threads: 1 });
  cells.check('an engine that cannot be made while one is being made', 'DEVICE_UNAVAILABLE', await answer(() => refused));
  const made = await slow;
  cells.check('an engine once it is made', 'ready', made.state);
  const layers = [...body, ...faultLayers(['compile 1 sleep60'])];
  const script = `const { parentPort, workerData } = require('node:worker_threads');
    require(workerData.addon).createEngine(workerData.library, workerData.graph);
    parentPort.postMessage('making');`;
  const graph = { layers, batch, training: false, precision: 'fp32', threads: 1 };
  const addon = join(native().folder, 'comface.node');
  const worker = new Worker(script, { eval: true, workerData: { addon, library, graph } });
  const said = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  cells.check('a thread that is making an engine', 'making', said);
  cells.check('a thread that is ended while it is making an engine', 1, await worker.terminate());
  for (const engine of [made, other]) engine.dispose();
}

// ---- what a backend may throw ----

const kinds: Record<string, string> = {
  ...{
    invalidConfig: 'INVALID_CONFIG',
    invalidInput: 'INVALID_INPUT',
    corruptFile: 'CORRUPT_FILE',
    deviceUnavailable: 'DEVICE_UNAVAILABLE',
  },
  ...{ deviceFailed: 'DEVICE_FAILED', outOfMemory: 'OUT_OF_MEMORY', notFinite: 'NOT_FINITE', io: 'IO' },
  ...{ exception: 'DEVICE_FAILED', badAlloc: 'OUT_OF_MEMORY', int: 'DEVICE_FAILED' },
};

async function checkThrown(cells: Cells): Promise<void> {
  const source = module.openFiles(files, size, 1, 0);
  // Which call of the backend each method comes to; initialize has done some writes before.
  const reached: [Method, string][] = [
    ['read', 'read'],
    ['forward', 'forward'],
    ['backward', 'backward'],
    ['update', 'update'],
    ['step', 'forward'],
    ['step', 'backward'],
    ['step', 'update'],
    ['embed', 'forward'],
    ['embed', 'read'],
  ];
  for (const [kind, code] of Object.entries(kinds)) {
    for (const [method, fault] of reached) {
      const engine = await engineFor(method, [`${fault} 1 ${kind}`]);
      cells.check(`${kind} in ${fault} of ${method}`, code, await answer(() => calls(source)[method](engine)));
      const isLost = code === 'DEVICE_FAILED';
      cells.check(`the engine after ${kind} in ${fault} of ${method}`, isLost ? 'failed' : 'ready', engine.state);
      cells.check(`a call after ${kind} in ${fault} of ${method}`, isLost ? code : 'works', await answer(() => engine.initialize(2n)));
      engine.dispose();
    }
    for (const fault of ['compile', 'describe', 'sizeBytes', 'write']) {
      const made = await answer(() => engineFor('read', [`${fault} 1 ${kind}`]));
      // A description is a line for people: an engine without one works.
      cells.check(`${kind} in ${fault} of a new engine`, fault === 'describe' ? 'works' : code, made);
    }
  }
  source.dispose();
}

// ---- the source ----

async function checkSource(cells: Cells): Promise<void> {
  const table = {
    fill: { open: 'works', filling: 'works', disposed: 'DISPOSED' },
    reserve: { open: 'works', filling: 'works', disposed: 'DISPOSED' },
    step: { open: 'works', filling: 'works', disposed: 'DISPOSED' },
    embed: { open: 'works', filling: 'works', disposed: 'DISPOSED' },
    dispose: { open: 'works', filling: 'works', disposed: 'works' },
    count: { open: '2', filling: '2', disposed: '0' },
    size: { open: String(size), filling: String(size), disposed: '0' },
  };
  for (const [method, row] of Object.entries(table)) {
    for (const [state, promised] of Object.entries(row)) {
      const source = module.openFiles(files, size, 1, 0);
      const engine = await engineFor(method);
      const filling = state === 'filling' ? answer(() => source.fill(plan, plainAugment)) : undefined;
      if (state === 'disposed') source.dispose();
      const found =
        method === 'count' || method === 'size'
          ? String(source[method])
          : await answer(() =>
              method === 'fill'
                ? source.fill(plan, plainAugment)
                : method === 'dispose'
                  ? source.dispose()
                  : calls(source)[method as Method](engine),
            );
      cells.check(`source ${method} when ${state}`, promised, found);
      if (filling) cells.check(`source: what fills when ${method} comes`, 'works', await filling);
      source.dispose();
      engine.dispose();
    }
  }
  // Disposed while an engine still reads from it, for this step and the next.
  for (const method of ['step', 'embed'] as const) {
    const source = module.openFiles(files, size, 1, 0);
    const engine = await engineFor(method, [method === 'step' ? 'backward 1 sleep30' : 'forward 1 sleep30']);
    const running = answer(() =>
      method === 'step' ? engine.step(source, plan, { ...plan, step: 2 }, plainAugment, adamAt(1)) : calls(source)[method](engine),
    );
    source.dispose();
    cells.check(`${method} under way when its source is disposed`, 'works', await running);
    cells.check(`${method} after its source is disposed`, 'DISPOSED', await answer(() => calls(source)[method](engine)));
    cells.check(`the engine after its source is disposed in ${method}`, 'works', await answer(() => engine.initialize(1n)));
    engine.dispose();
  }
}

// ---- the model ----

async function checkModel(cells: Cells): Promise<void> {
  const table = {
    embed: { open: 'works', embedding: 'works', disposed: 'DISPOSED' },
    compare: { open: 'works', embedding: 'works', disposed: 'DISPOSED' },
    load: { open: 'works', embedding: 'works', disposed: 'DISPOSED' },
    saliency: { open: 'works', embedding: 'works', disposed: 'DISPOSED' },
    changeOf: { open: 'works', embedding: 'works', disposed: 'works' }, // needs no engine
    comparisonOf: { open: 'works', embedding: 'works', disposed: 'works' },
    task: { open: 'works', embedding: 'works', disposed: 'works' },
    signed: { open: 'works', embedding: 'works', disposed: 'works' },
    width: { open: 'works', embedding: 'works', disposed: 'works' },
    design: { open: 'works', embedding: 'works', disposed: 'works' },
    dispose: { open: 'works', embedding: 'works', disposed: 'works' },
    asyncDispose: { open: 'works', embedding: 'works', disposed: 'works' },
  };
  const of: Record<string, (model: Model) => unknown> = {
    embed: (model) => model.embed(files),
    compare: (model) => model.compare(files[0]!, files[1]!),
    load: (model) => model.load(checkpoint.weights),
    changeOf: (model) => model.changeOf(new Float32Array(model.width), new Float32Array(model.width)),
    saliency: (model) => model.saliency(files[0]!),
    comparisonOf: (model) => model.comparisonOf(new Float32Array(model.width), new Float32Array(model.width)),
    task: (model) => expect(model.task).toBe(null),
    signed: (model) => expect(model.signed).toBe(false),
    width: (model) => expect(model.width).toBe(128),
    design: (model) => expect(model.design.backbone).toBe('resnet18'),
    dispose: (model) => model.dispose(),
    asyncDispose: (model) => model[Symbol.asyncDispose](),
  };
  const design = checkpoint.info.config as Model['design'];
  for (const [method, row] of Object.entries(table)) {
    for (const [state, promised] of Object.entries(row)) {
      const model = await Model.from(design, checkpoint.weights, { device: 'cpu', precision: 'fp32', threads: 1, batch: 2 });
      const embedding = state === 'embedding' ? answer(() => model.embed(files)) : undefined;
      if (state === 'disposed') model.dispose();
      cells.check(`model ${method} when ${state}`, promised, await answer(() => of[method]!(model)));
      const ends = method === 'dispose' || method === 'asyncDispose';
      // Disposing answers what is under way, one way or the other.
      const left = await embedding;
      if (left) cells.check(`model: what embeds when ${method} comes`, 'works', ends && left === 'DISPOSED' ? 'works' : left);
      if (ends) cells.check(`model embed after ${method}`, 'DISPOSED', await answer(() => model.embed(files)));
      model.dispose();
    }
  }
}

// ---- the generator ----

async function checkGenerator(cells: Cells): Promise<void> {
  const works = { open: 'works', making: 'works', disposed: 'works' };
  const untilEnd = { ...works, disposed: 'DISPOSED' };
  const table: Record<string, typeof works> = {
    ...{ map: untilEnd, images: untilEnd, pictures: untilEnd, edited: untilEnd },
    ...{ latent: works, truncate: works, choices: works, fields: works, dispose: works, asyncDispose: works }, // need no engine
  };
  const direction = { file: 'a.npy', attribute: 'age', generator: 'stylegan1', space: 'W', rows: 1, norm: 1, sha256: 'a' } as const;
  const wsOf = ({ layers, w }: Generator) => new Float32Array(layers * w);
  const of: Record<string, (generator: Generator) => unknown> = {
    map: (generator) => generator.map(generator.latent(1)),
    images: (generator) => generator.images(wsOf(generator)),
    pictures: (generator) => generator.pictures(wsOf(generator)),
    edited: (generator) => generator.edited(1, { ...direction, width: generator.w, values: new Float32Array(generator.w).fill(1) }, 1),
    latent: (generator) => generator.latent(1),
    truncate: (generator) => generator.truncate(new Float32Array(generator.w)),
    choices: (generator) => generator.choices,
    fields: ({ family, device, precision }) => expect([family, device, precision]).toEqual(['stylegan1', 'cpu', 'fp32']),
    dispose: (generator) => generator.dispose(),
    asyncDispose: (generator) => generator[Symbol.asyncDispose](),
  };
  const weights = join(shared, 'generator.pth');
  writeFileSync(weights, torchFile(stylegan1State()));
  for (const [method, row] of Object.entries(table)) {
    for (const [state, promised] of Object.entries(row)) {
      const generator = await loadGenerator(weights, { device: 'cpu', threads: 1 });
      const making = state === 'making' ? answer(() => generator.images(wsOf(generator))) : undefined;
      if (state === 'disposed') generator.dispose();
      cells.check(`generator ${method} when ${state}`, promised, await answer(() => of[method]!(generator)));
      const ends = method === 'dispose' || method === 'asyncDispose';
      const left = await making;
      if (left) cells.check(`generator: what is made when ${method} comes`, 'works', ends && left === 'DISPOSED' ? 'works' : left);
      if (ends) cells.check(`generator images after ${method}`, 'DISPOSED', await answer(() => generator.images(wsOf(generator))));
      generator.dispose();
    }
  }
}

figure('F5 every method answers in every state as promised', { ci: 1, long: 5, seconds: 120 }, async ({ count, say }) => {
  const cells = new Cells();
  for (let round = 0; round < count; round++) {
    for (const check of [checkEngine, checkQueue, checkMaking, checkThrown, checkSource, checkModel, checkGenerator]) await check(cells);
  }
  say(`${cells.count - cells.wrong.length} of ${cells.count} cells answered as promised`);
  expect(cells.wrong).toEqual([]);
  expect(cells.count).toBeGreaterThan(700 * count);
});
