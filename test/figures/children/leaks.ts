// Everything that engines and sources go through, for LeakSanitizer: node leaks.js '{"files": [...], "rounds": 10}'.
// Memory of ours shows as lost when an environment ends, so most of it happens in worker threads that end by themselves or are terminated.
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { chooseDevice, type NativeGraphOptions, type NativePlan, native } from '../../../lib/native.ts';

interface Order {
  files: readonly string[];
  rounds: number;
}

const [size, batch] = [8, 6];
const layers: NativeGraphOptions['layers'] = [
  { op: 'input', name: 'images', channels: 3, height: size, width: size },
  { op: 'conv', name: 'conv', input: 'images', out: 16, kernel: 3, stride: 1, pad: 1 },
  { op: 'batchNorm', name: 'norm', input: 'conv' },
  { op: 'avgPool', name: 'pool', input: 'norm' },
  { op: 'rows', name: 'x', input: 'pool', from: 0, to: 1, of: 3 },
  { op: 'linear', name: 'change', input: 'x', out: 1, bias: true },
  { op: 'squaredError', name: 'intra', input: 'change', weight: 1 },
];
const plan = (step: number, x = [0, 1, 0]): NativePlan => ({
  ...{ seed: 1n, step, pairs: 2, x: Uint32Array.from(x), y: Uint32Array.from(x) },
  target: new Float32Array(x.length),
});
const augment = {
  ...{ cropAreaMin: 0.5, cropAreaMax: 1, cropAspectMax: 1.3, flipProbability: 0.5, jitterProbability: 1, grayscaleProbability: 0.2 },
  ...{ brightness: 0.5, contrast: 0.5, saturation: 0.5, hue: 0.1, mean: [0, 0, 0], deviation: [1, 1, 1] },
};
const adam = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, step: 1 };

const create = (library: string, training: boolean) =>
  native().module.createEngine(library, {
    layers: training ? layers : layers.slice(0, 4),
    ...{ batch, training, precision: 'fp32', threads: 1 },
  });

/** Every method once, right and wrong. */
async function useAll(files: readonly string[], library: string): Promise<void> {
  const { module } = native();
  const source = module.openFiles(files, size, 2, 0);
  const engine = await create(library, true);
  await engine.initialize(1n);
  for (let step = 1; step <= 3; step++) await engine.step(source, plan(step), plan(step + 1), augment, adam);
  await engine.forward(new Float32Array(batch * 3 * size * size), new Float32Array(2));
  await engine.backward();
  await engine.update(adam);
  await engine.write('parameter', 'norm.weight', await engine.read('parameter', 'norm.weight'));
  await source.fill(plan(9), augment);
  const inference = await create(library, false);
  await inference.embed(source, Uint32Array.of(0, 1, 0, 1, 0, 1, 0, 1), 'pool', augment);
  const shots = { seed: 1n, subject: Uint32Array.of(1), photo: Uint32Array.of(1), attribute: Int32Array.of(0), alpha: Float32Array.of(1) };
  const rgb = await module.drawFaces({ ...shots, domain: 0, size: 32 }, 2);
  await module.decodeJpeg(await module.encodeJpeg(rgb, 32, 32, 90));
  const missing = module.openFiles(['/nonexistent.jpg'], size, 1, 0);
  const wrong: (() => unknown)[] = [
    () => engine.read('parameter', 'nothing'),
    () => engine.write('parameter', 'conv.weight', new Float32Array(1)),
    () => engine.forward(new Float32Array(1), new Float32Array(2)),
    () => inference.backward(),
    () => engine.step(source, plan(1, [0, 7]), null, augment, adam),
    () => engine.step(source, { ...plan(1), x: new Float32Array(2) as never }, null, augment, adam),
    () => engine.step(missing, plan(1, [0, 0]), plan(2, [0, 0]), augment, adam),
    () => inference.embed(missing, Uint32Array.of(0), 'pool', augment),
    () => create('/nonexistent.so', true),
    () => create('x\0y', true),
    () => module.createEngine('', { layers: layers.slice(1), batch, training: true, precision: 'fp32', threads: 1 }),
    () => module.decodeJpeg(new Uint8Array([255, 216, 255])),
    () => module.openFiles([], size, 1, 0),
    () => new (engine.constructor as new () => unknown)(),
    () => new (source.constructor as new () => unknown)(),
    () => (source.fill as () => unknown).call({}),
  ];
  for (const call of wrong) {
    try {
      await call();
    } catch {
      continue;
    }
    throw new Error(`${call} went through`);
  }
  engine.dispose();
  await engine.read('parameter', 'conv.weight').catch(() => undefined);
  source.dispose();
  // `inference` and `missing` are dropped.
}

/** Fills the queues and stays: calls that run, that wait, that are answered and not delivered, an engine in the making. */
async function leaveBusy(files: readonly string[], library: string): Promise<void> {
  const { module } = native();
  const source = module.openFiles(files, size, 2, 0);
  const [engine, other] = [await create(library, true), await create(library, true)];
  await Promise.all([engine.initialize(1n), other.initialize(1n)]);
  for (let step = 1; step <= 200; step++) {
    for (const one of [engine, other]) one.step(source, plan(step), plan(step + 1), augment, adam).catch(() => undefined);
    source.fill(plan(step), augment).catch(() => undefined);
    if (step % 20 === 0) create(library, false).catch(() => undefined);
  }
  other.dispose();
  parentPort!.postMessage('busy');
}

async function inThread(kind: 'ends' | 'terminated', order: Order, library: string, waitMs: number): Promise<void> {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { ...order, kind, library } });
  const ended = new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
  if (kind === 'terminated') {
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    await worker.terminate();
  }
  await ended;
}

if (isMainThread) {
  const order = JSON.parse(process.argv[2]!) as Order;
  const cpu = chooseDevice('cpu', 'fp32').library;
  for (let round = 0; round < order.rounds; round++) {
    const library = round % 2 === 0 ? cpu : '';
    await useAll(order.files, library);
    await inThread('ends', order, library, 0);
    await inThread('terminated', order, library, round * 3);
    globalThis.gc?.();
  }
  console.log(JSON.stringify({ rounds: order.rounds }));
} else {
  const { kind, files, library } = workerData as Order & { kind: string; library: string };
  if (kind === 'ends') await useAll(files, library);
  else await leaveBusy(files, library);
}
