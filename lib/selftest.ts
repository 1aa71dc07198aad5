// One device at work, in a process of its own that doctor.ts forks: whatever a driver does here, `comface doctor` lives to tell.
//   selftest.js DEVICE SECONDS
// First a network of one convolution, then, with SECONDS above 0, training steps. Each answer is sent as soon as it is known.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkTrainOptions } from './config.js';
import { generate } from './data/procedural.js';
import { ComFaceError, messageOf } from './errors.js';
import { backbone, embeddingWidth } from './models/backbone.js';
import { comfaceGraph } from './models/heads.js';
import type { LayerRecord } from './models/layers.js';
import { chooseDevice, type NativeAugment, type NativePlan, type NativeSource, native, threadCount } from './native.js';

/** Training steps on a few drawn faces, always the same, so that the loss has to fall. */
export interface SelfTest {
  device: 'cpu' | 'cuda';
  backbone: 'resnet18';
  /** Edge of a view in pixels. */
  size: number;
  /** In a step, three views each. */
  pairs: number;
  precision: 'fp32' | 'bf16' | 'fp16';
  steps: number;
  /** Of the steps after the first, which compiles. */
  seconds: number;
  viewsPerSecond: number;
  firstLoss: number;
  lastLoss: number;
}

/** What is sent: an answer to each part, or why there is none; at the end which libraries were loaded. */
export type Answer =
  | { part: 'computes'; description: string }
  | { part: 'trains'; test: SelfTest }
  | { part: 'untried'; reason: string }
  | { part: 'failed'; message: string; hint?: string | undefined }
  | { part: 'libraries'; files: string[] };

type TestedDevice = SelfTest['device'];

const tiny: readonly LayerRecord[] = [
  { op: 'input', name: 'input', channels: 3, height: 8, width: 8 },
  { op: 'conv', name: 'conv', input: 'input', out: 16, kernel: 3, stride: 1, pad: 1 },
  { op: 'relu', name: 'relu', input: 'conv' },
];

const kSize = 64;
const kWidth = 64;
/** Enough for a rate that training has, too. */
const kPairs = { cpu: 8, cuda: 64 } as const;
const kFewestSteps = 5;
/** Losses that a device has not told yet are at most 1,024. */
const kMostSteps = 1000;

/** Compiles and runs a network of one convolution; how it runs. */
async function compute(device: TestedDevice): Promise<string> {
  const { library, precision } = chooseDevice(device, 'auto');
  const graph = { layers: tiny, batch: 1, training: false, precision, threads: threadCount(0) };
  const engine = await native().module.createEngine(library, graph);
  try {
    await engine.initialize(1n);
    await engine.forward(new Float32Array(3 * 8 * 8), new Float32Array());
    return engine.description;
  } finally {
    engine.dispose();
  }
}

/** @param seconds In all. */
async function train(device: TestedDevice, seconds: number): Promise<Answer> {
  const endMs = performance.now() + 1000 * seconds;
  let folder: string;
  try {
    folder = mkdtempSync(join(tmpdir(), 'comface-doctor-'));
  } catch (error) {
    return { part: 'untried', reason: `There is no room for a few pictures (TMPDIR names another place): ${messageOf(error)}` };
  }
  // Also when the parent has gone.
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const pairs = kPairs[device];
  const faces = { subjects: pairs, attributes: ['smile'], alphas: [-2, 2], size: kSize, threads: 2 };
  const { files } = await generate({ ...faces, out: join(folder, 'faces'), format: 'files' });
  const source = native().module.openFiles(files, kSize, 2, kSize);
  try {
    return { part: 'trains', test: await trainOn(source, device, endMs) };
  } finally {
    source.dispose();
  }
}

async function trainOn(source: NativeSource, device: TestedDevice, endMs: number): Promise<SelfTest> {
  const pairs = kPairs[device];
  const { library, precision } = chooseDevice(device, 'auto');
  const embedding = embeddingWidth('resnet18', { size: kSize, width: kWidth });
  const heads = { embedding, projection: { hidden: embedding, out: 128 }, temperature: 0.1, interPersonal: 1, intraPersonal: 1 };
  const layers = comfaceGraph(backbone('resnet18', { size: kSize, width: kWidth }), heads);
  const engine = await native().module.createEngine(library, {
    layers,
    batch: 3 * pairs,
    training: true,
    precision,
    threads: threadCount(0),
  });
  try {
    await engine.initialize(1n);
    const augment = checkTrainOptions({ data: 'data', out: 'out' }).augment as NativeAugment;
    // Always of step 1: the same crops of the same faces.
    const plan: NativePlan = {
      ...{ seed: 1n, step: 1, pairs },
      x: Uint32Array.from({ length: pairs }, (_, i) => 2 * i),
      y: Uint32Array.from({ length: pairs }, (_, i) => 2 * i + 1),
      target: new Float32Array(pairs).fill(4),
    };
    const losses: number[] = [];
    const adam = { learningRate: 4e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
    const one = async (step: number) => losses.push(...(await engine.step(source, plan, plan, augment, { ...adam, step })).losses);
    const told = async () => losses.push(...(await engine.collect()).losses);
    await one(1);
    await told();
    const each = losses.length;
    const started = performance.now();
    let steps = 1;
    while (steps < kFewestSteps || (performance.now() < endMs && steps < kMostSteps)) await one(++steps);
    await told();
    const taken = (performance.now() - started) / 1000;
    const sum = (from: number) => losses.slice(from, from + each).reduce((a, b) => a + b, 0);
    const [firstLoss, lastLoss] = [sum(0), sum(losses.length - each)];
    if (!(lastLoss < firstLoss)) {
      const message = `Expected a loss that falls but found ${firstLoss} at step 1 and ${lastLoss} at step ${steps}`;
      throw new ComFaceError('DEVICE_FAILED', message, { hint: 'It computes wrong numbers: use another device, and look for bad memory.' });
    }
    const viewsPerSecond = (3 * pairs * (steps - 1)) / taken;
    return { device, backbone: 'resnet18', size: kSize, pairs, precision, steps, seconds: taken, viewsPerSecond, firstLoss, lastLoss };
  } finally {
    engine.dispose();
  }
}

/** Of comface and what it needs, by path. */
function loadedLibraries(): string[] {
  let maps = '';
  try {
    maps = readFileSync('/proc/self/maps', 'utf8');
  } catch {} // not on Linux
  const files = maps.split('\n').map((line) => line.slice(line.indexOf('/')));
  return [...new Set(files.filter((file) => /\/(comface\.node|lib(comface_|dnnl|gomp|turbojpeg|cuda\.|cudnn|cublasLt)[^/]*)$/.test(file)))];
}

const send = (answer: Answer) => new Promise<void>((resolve) => process.send!(answer, () => resolve()));
process.on('disconnect', () => process.exit()); // nobody listens any more
const [device, seconds] = process.argv.slice(2) as [TestedDevice, string];
try {
  await send({ part: 'computes', description: await compute(device) });
  if (Number(seconds) > 0) await send(await train(device, Number(seconds)));
} catch (error) {
  await send({ part: 'failed', message: messageOf(error), hint: error instanceof ComFaceError ? error.hint : undefined });
}
await send({ part: 'libraries', files: loadedLibraries() });
process.exit();
