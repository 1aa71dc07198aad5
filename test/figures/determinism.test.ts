// The same seed gives the same bits: stopped anywhere or not, from any number of loader threads, in this process or in another, on buffers used before.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect } from 'vitest';
import type { TrainOptions } from '../../lib/config.ts';
import { checkTrainOptions } from '../../lib/config.ts';
import { filesOf } from '../../lib/data/dataset.ts';
import { readManifest } from '../../lib/data/manifest.ts';
import { PairSampler } from '../../lib/data/pairs.ts';
import { type BackboneName, backbone } from '../../lib/models/backbone.ts';
import { type LayerRecord, windowsAlong } from '../../lib/models/layers.ts';
import { type NativeEngine, type NativeSource, native } from '../../lib/native.ts';
import { stageAt } from '../../lib/train/curriculum.ts';
import { type TrainEvent, train } from '../../lib/train/train.ts';
import { sharedFolder, smallFaces, smallRun } from '../faces.ts';
import { adamAt, engineFor, numbers, temporaryFolder } from '../support.ts';
import { figure, isLong } from './figure.ts';

const cli = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
const folder = sharedFolder();
let data = '';
beforeAll(async () => {
  data = await smallFaces(folder);
});

const optionsOf = (out: string, more: Partial<TrainOptions> = {}): TrainOptions => ({ ...smallRun, data, out, ...more });

/** SHA-256 of the weights with the statistics, and of the moments. */
async function digest(checkpoint: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['weights.safetensors', 'optimizer.safetensors']) hash.update(await readFile(join(checkpoint, name)));
  return hash.digest('hex');
}

/** The lines of steps and validations: what they say but for the time. */
async function logged(out: string): Promise<string[]> {
  const lines = (await readFile(join(out, 'log.jsonl'), 'utf8')).trim().split('\n');
  const events = lines.map((line) => JSON.parse(line) as TrainEvent).filter(({ type }) => type === 'step' || type === 'validation');
  return events.map((event) => JSON.stringify({ ...event, pairsPerSecond: 0, loadSeconds: 0, secondsLeft: 0 }));
}

/** When to stop: right after the `at`th event, or while what follows it is being made (a step, a validation, a save). */
interface Stop {
  at: number;
  during: boolean;
}

/** Runs until the stop. Rejections other than the stop's own reason are passed on. */
async function runUntil(options: TrainOptions, { at, during }: Stop): Promise<void> {
  const controller = new AbortController();
  const reason = new Error('stopped by the test');
  const events = train(options, { signal: controller.signal })[Symbol.asyncIterator]();
  try {
    for (let seen = 1; seen <= at; seen++) expect((await events.next()).done).toBe(false);
    const next = during ? events.next() : undefined;
    controller.abort(reason);
    await next;
    while (!(await events.next()).done);
  } catch (error) {
    if (error !== reason) throw error;
  }
}

const setups: { name: string; more: Partial<TrainOptions> }[] = [
  { name: 'fp32', more: { checkpointEverySteps: 5 } },
  { name: 'bf16 on 2 threads', more: { precision: 'bf16', threads: 2, checkpointEverySteps: 1 } },
  { name: 'fp32 on 2 threads', more: { threads: 2 } },
  { name: 'plain loops', more: { device: 'reference' } },
];

figure('R4 a run stopped at any step ends in the same bits', { ci: 1, long: setups.length, seconds: 300 }, async ({ count, say }) => {
  const [found, places] = [{ stops: 0, weights: 0, logs: 0 }, new Set<string>()];
  const usable = setups.slice(0, count).filter(({ more }) => more.precision !== 'bf16' || native().module.cpu.avx512);
  for (const { more } of usable) {
    const whole = join(temporaryFolder(), 'run');
    const events: string[] = [];
    for await (const { type } of train(optionsOf(whole, more))) events.push(type);
    const { path } = await train(optionsOf(whole, { ...more, resume: true }));
    const [bits, lines] = [await digest(path), await logged(whole)];
    expect(events.filter((type) => type === 'step')).toHaveLength(12);
    expect(events.filter((type) => type === 'validation' || type === 'stage')).toHaveLength(6);
    const stops = events.slice(0, -1).flatMap((_, i): Stop[] => [false, true].map((during) => ({ at: i + 1, during })));
    for (const [i, stop] of stops.entries()) {
      const out = join(temporaryFolder(), 'run');
      await runUntil(optionsOf(out, { ...more, loaderThreads: [1, 2, 4][i % 3]! }), stop);
      const ended = await train(optionsOf(out, { ...more, resume: true, loaderThreads: [4, 1, 2][i % 3]! }));
      places.add(stop.during ? `during a ${events[stop.at]}` : `after a ${events[stop.at - 1]}`);
      found.stops++;
      if ((await digest(ended.path)) !== bits) found.weights++;
      if ((await logged(out)).join('\n') !== lines.join('\n')) found.logs++;
    }
  }
  say(
    `${found.stops} stops at every event of 3 epochs (${[...places].join(', ')}), loader threads 1, 2, 4 changing: ` +
      `${found.weights} differing ends, ${found.logs} differing logs; ${usable.map(({ name }) => name).join(', ')}`,
  );
  expect(found).toEqual({ stops: found.stops, weights: 0, logs: 0 });
});

const equal = (a: Float32Array, b: Float32Array): boolean =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

figure('R8 a batch has the same bytes from any number of threads', { ci: 1000, long: 100_000 }, async ({ count, say }) => {
  const manifest = await readManifest(data);
  const config = checkTrainOptions(optionsOf(folder, { pairs: 4 }));
  const sampler = () =>
    new PairSampler(filesOf(manifest), manifest.subject, { ...config, rangeAt: (epoch) => stageAt(config.curriculum, epoch).range });
  const open = (threads: number): NativeSource => native().module.openFiles(manifest.files, config.size, threads, manifest.size);
  const sources = [1, 2, 4, 8].map(open);
  // What an engine gets through its prefetch: the plain loops keep the pictures they read.
  const layers: LayerRecord[] = [
    { op: 'input', name: 'images', channels: 3, height: config.size, width: config.size },
    { op: 'avgPool', name: 'pool', input: 'images' },
    { op: 'rows', name: 'x', input: 'pool', from: 0, to: 1, of: 3 },
    { op: 'linear', name: 'change', input: 'x', out: 1, bias: true },
    { op: 'squaredError', name: 'intra', input: 'change', weight: 1 },
  ];
  const engine = await engineFor({ layers, batch: 3 * config.pairs, device: 'reference' });
  const differing = { threads: 0, prefetched: 0, resumed: 0 };
  const plans = sampler();
  for (let step = 1; step <= count; step++) {
    const plan = plans.plan(step);
    const [first, ...others] = await Promise.all(sources.map((source) => source.fill(plan, config.augment)));
    for (const other of others) if (!equal(first!.images, other.images) || !equal(first!.targets, other.targets)) differing.threads++;
    // Each step's batch was filled while the one before was computed, but for every tenth, whose plan is another than announced.
    const next = plans.plan(step % 10 === 0 ? step + 7 : step + 1);
    await engine.step(sources[step % 4]!, plan, next, config.augment, adamAt(step));
    if (!equal(await engine.read('value', 'images'), first!.images)) differing.prefetched++;
    if (step % 50 !== 0) continue;
    // As after a resume: nothing but the step is known.
    const fresh = open(1 + (step % 8));
    const again = await fresh.fill(sampler().plan(step), config.augment);
    fresh.dispose();
    if (!equal(first!.images, again.images) || !equal(first!.targets, again.targets)) differing.resumed++;
  }
  for (const source of sources) source.dispose();
  const { threads, prefetched, resumed } = differing;
  say(
    `${count} batches x 1, 2, 4, 8 loader threads: ${threads} differing; prefetched ${prefetched}; in a fresh source ${resumed} of ${count / 50}`,
  );
  expect(differing).toEqual({ threads: 0, prefetched: 0, resumed: 0 });
});

figure('R9 the same seed gives the same bits after 200 steps', { ci: 5, long: 20, seconds: 300 }, async ({ count, say }) => {
  const more = { epochs: 20, pairsPerEpoch: 40, validation: 0, logEverySteps: 100, seed: 9 } as const;
  const hashOf = async (threads: number, ownProcess: boolean): Promise<string> => {
    const out = join(temporaryFolder(), 'run');
    const options = optionsOf(out, { ...more, threads });
    if (!ownProcess) return digest((await train(options)).path);
    const config = join(out, '..', 'config.json');
    await writeFile(config, JSON.stringify(options));
    execFileSync(process.execPath, [cli, 'train', '--config', config], { stdio: 'ignore' });
    return digest(join(out, 'checkpoints', 'step-00000200'));
  };
  const [same, processes] = [[] as boolean[], { own: 0 }];
  // Four of five on one thread, the fifth on two; every other one in a process of its own.
  for (const [threads, runs] of [
    [1, (count * 4) / 5],
    [2, count / 5],
  ] as const) {
    const first = await hashOf(threads, false);
    for (let run = 0; run < runs; run++) {
      const ownProcess = (run + threads) % 2 === 0;
      if (ownProcess) processes.own++;
      same.push((await hashOf(threads, ownProcess)) === first);
    }
  }
  const good = same.filter(Boolean).length;
  say(
    `CPU ${good} of ${same.length} second runs of 200 steps have the hash of the first, ${processes.own} of them in a process of their own`,
  );
  expect([good, same.length]).toEqual([count, count]);
});

/** Each different convolution of a network, with the norm and relu after it; `edge` of its pictures. */
function layersOf(name: BackboneName, edge: number): { name: string; layers: LayerRecord[] }[] {
  const sizes = new Map<string, { channels: number; edge: number }>();
  const found = new Map<string, { name: string; layers: LayerRecord[] }>();
  for (const layer of backbone(name, { size: edge, width: 64 })) {
    const from = 'input' in layer ? sizes.get(layer.input) : 'inputs' in layer ? sizes.get(layer.inputs[0]) : undefined;
    if (layer.op === 'input') sizes.set(layer.name, { channels: layer.channels, edge: layer.height });
    if (!from) continue;
    const smaller = layer.op === 'conv' || layer.op === 'maxPool' ? windowsAlong(from.edge, layer) : from.edge;
    sizes.set(layer.name, { channels: layer.op === 'conv' ? layer.out : from.channels, edge: smaller });
    if (layer.op !== 'conv') continue;
    const shape = `${from.channels} x ${from.edge} -> ${layer.out}, kernel ${layer.kernel}, stride ${layer.stride}`;
    found.set(shape, {
      name: shape,
      layers: [
        { op: 'input', name: 'images', channels: from.channels, height: from.edge, width: from.edge },
        { ...layer, name: 'conv', input: 'images' },
        { op: 'batchNorm', name: 'norm', input: 'conv' },
        { op: 'relu', name: 'relu', input: 'norm' },
      ],
    });
  }
  return [...found.values()];
}

/** So many numbers, of a few thousand: drawing millions would take longer than what is tested. */
const seeds = numbers(8191, 91);
const many = (count: number): Float32Array => {
  const out = new Float32Array(count);
  for (let at = 0; at < count; at += seeds.length) out.set(seeds.subarray(0, Math.min(seeds.length, count - at)), at);
  return out;
};

/** Everything a layer computes, in bits. */
async function bitsOf(engine: NativeEngine, images: Float32Array, seed: Float32Array): Promise<string> {
  const hash = createHash('sha256');
  await engine.forward(images, new Float32Array());
  hash.update(await engine.read('value', 'relu'));
  await engine.write('valueGradient', 'relu', seed);
  await engine.backward();
  hash.update(await engine.read('valueGradient', 'images'));
  for (const { name } of engine.parameters) hash.update(await engine.read('gradient', name));
  return hash.digest('hex');
}

figure('R9 oneDNN repeats itself on the layers of ResNet-18 and -50', { ci: 2, long: 8, seconds: 300 }, async ({ count, say }) => {
  const batch = 2;
  const nets = [['resnet18', 64], ['resnet50', 64], ...(isLong ? ([['resnet50', 224]] as const) : [])] as const;
  const shapes = new Map(nets.flatMap(([name, edge]) => layersOf(name, edge).map((one) => [one.name, one])));
  const precisions = native().module.cpu.avx512 ? (['fp32', 'bf16'] as const) : (['fp32'] as const);
  const differing: string[] = [];
  let runs = 0;
  for (const { name, layers } of shapes.values())
    for (const precision of precisions)
      for (const threads of [1, 2]) {
        const engine = await engineFor({ layers, batch, precision, threads });
        for (const { name: parameter, dims } of engine.parameters)
          await engine.write('parameter', parameter, many(dims.reduce((a, b) => a * b, 1)));
        const input = layers[0] as LayerRecord & { op: 'input' };
        const images = many(batch * input.channels * input.height * input.width);
        await engine.forward(images, new Float32Array());
        const seed = many((await engine.read('value', 'relu')).length);
        const expected = await bitsOf(engine, images, seed);
        for (let turn = 0; turn < count; turn++) {
          // Other numbers in between, every third time NaN: what was left in a buffer must not count.
          await bitsOf(engine, turn % 3 === 0 ? images.map(() => Number.NaN) : images.map((v) => 1 - v), seed);
          runs++;
          if ((await bitsOf(engine, images, seed)) !== expected) differing.push(`${name}, ${precision}, ${threads} threads`);
        }
        engine.dispose();
      }
  say(`${shapes.size} layers in ${precisions.join(' and ')} on 1 and 2 threads: ${differing.length} of ${runs} repetitions differ`);
  expect(differing).toEqual([]);
});
