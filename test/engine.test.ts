// The native surface: what every method answers in every state, hostile arguments, worker threads that are terminated, processes that exit mid-step.
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ComFaceError } from '../lib/errors.ts';
import { backbone } from '../lib/models/backbone.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { chooseDevice, type NativeEngine, type NativeGraphOptions, type NativeSource, native } from '../lib/native.ts';
import { plainAugment, planOf, sharedFolder, writePicture } from './faces.ts';
import { faultyLibrary, testPrograms } from './figures/programs.ts';
import { adamAt, engineFor, numbers } from './support.ts';

const folder = sharedFolder();
const size = 16;
const batch = 12;
const { module } = native();
const { library } = chooseDevice('cpu', 'fp32');

const layers: LayerRecord[] = [
  { op: 'input', name: 'images', channels: 3, height: size, width: size },
  { op: 'conv', name: 'conv', input: 'images', out: 16, kernel: 3, stride: 2, pad: 1 },
  { op: 'batchNorm', name: 'norm', input: 'conv' },
  { op: 'relu', name: 'relu', input: 'norm' },
  { op: 'avgPool', name: 'avgpool', input: 'relu' },
  { op: 'rows', name: 'views', input: 'avgpool', from: 0, to: 2, of: 3 },
  { op: 'l2Normalize', name: 'z', input: 'views' },
  { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.5, weight: 1 },
  { op: 'rows', name: 'x', input: 'avgpool', from: 0, to: 1, of: 3 },
  { op: 'linear', name: 'change', input: 'x', out: 1, bias: true },
  { op: 'squaredError', name: 'intra', input: 'change', weight: 1 },
];
const plan = planOf([0, 1, 0, 1]);
const graph: NativeGraphOptions = { layers, batch, training: true, precision: 'fp32', threads: 1 };
const images = numbers(batch * 3 * size * size, 71);
const targets = numbers(4, 72);
let files: string[] = [];

beforeAll(async () => {
  files = await Promise.all([0, 1].map((i) => writePicture(join(folder, `${i}.jpg`), 32, (x, y) => [x * 8, y * 8, i * 200])));
});

function openSource(): NativeSource {
  const source = module.openFiles(files, size, 1, 0);
  onTestFinished(() => source.dispose());
  return source;
}

/** Every method with arguments that are right. */
const calls = (source: NativeSource): Record<string, (engine: NativeEngine) => Promise<unknown>> => ({
  initialize: (engine) => engine.initialize(1n),
  reserve: (engine) => engine.reserve(source, 4),
  step: (engine) => engine.step(source, plan, null, plainAugment, adamAt(1)),
  embed: (engine) => engine.embed(source, Uint32Array.of(0, 1), 'avgpool', plainAugment),
  forward: (engine) => engine.forward(images, targets),
  backward: (engine) => engine.backward(),
  update: (engine) => engine.update(adamAt(1)),
  read: (engine) => engine.read('parameter', 'conv.weight'),
  write: (engine) => engine.write('parameter', 'norm.weight', new Float32Array(16).fill(1)),
});

// They are built once for all files, which takes minutes where nothing is kept from an earlier build.
beforeAll(() => void testPrograms(), 600_000);

describe('states', () => {
  test('a new engine is ready, one with a call under way busy, then ready again', async () => {
    const engine = await engineFor({ layers, batch });
    expect(engine.state).toBe('ready');
    const call = engine.initialize(1n);
    expect(engine.state).toBe('busy');
    await call;
    expect(engine.state).toBe('ready');
  });

  test.each(Object.keys(calls(undefined as never)))(
    '%s works when ready and when busy, and rejects with DISPOSED after dispose()',
    async (name) => {
      const source = openSource();
      // Embedding is for graphs that are not for training.
      const training = name !== 'embed';
      const engine = await engineFor({ layers: training ? layers : layers.slice(0, 5), batch, training });
      await engine.initialize(1n);
      const before = () => (training ? [engine.forward(images, targets), engine.backward()] : [engine.forward(images, new Float32Array())]);
      await Promise.all(before());
      const call = calls(source)[name]!;
      await call(engine);
      await Promise.all([...before(), call(engine)]);
      engine.dispose();
      await expect(call(engine)).rejects.toMatchObject({ name: 'ComFaceError', code: 'DISPOSED' });
    },
  );

  test('dispose() rejects what waits with DISPOSED, may be called twice, and leaves an engine that says so', async () => {
    const source = openSource();
    const engine = await engineFor({ layers, batch });
    await engine.initialize(1n);
    const { sizeBytes } = engine;
    const waiting = Array.from({ length: 20 }, () => engine.step(source, plan, null, plainAugment, adamAt(1)));
    engine.dispose();
    engine.dispose();
    expect(engine.state).toBe('disposed');
    const results = await Promise.allSettled(waiting);
    // The first may have been running.
    for (const result of results.slice(1)) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'DISPOSED' } });
    expect(() => engine.parameters).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
    expect([engine.sizeBytes, engine.description.length > 0]).toEqual([sizeBytes, true]);
  });

  test('a new engine waits for the memory of one that is disposed of and still computes', async () => {
    const named = (fault: string): LayerRecord[] => [...layers, { op: 'relu', name: `fault ${fault}`, input: 'avgpool' }];
    const make = (fault: string) => module.createEngine(faultyLibrary(), { ...graph, layers: named(fault) });
    const first = await make('read 1 sleep300');
    await expect(make('compile 1 crowded')).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
    const reading = first.read('parameter', 'conv.weight');
    await setTimeout(100); // it reads now
    first.dispose();
    await make('compile 1 crowded');
    await reading;
  });

  test('an error of a call leaves the engine usable', async () => {
    const engine = await engineFor({ layers, batch });
    await expect(engine.read('parameter', 'nothing')).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(engine.forward(new Float32Array(3), targets)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await engine.initialize(1n);
    expect((await engine.forward(images, targets)).every(Number.isFinite)).toBe(true);
    expect(engine.state).toBe('ready');
  });

  // An engine and a loader with all the cores: batches are loaded between steps, until that is found to take long; with fewer, beside them.
  const cores = availableParallelism();
  test.each([
    ['between steps', cores, cores],
    ['beside steps', cores, 1],
  ])('a step takes the batch that was loaded %s, and goes on after one that failed', async (_, threads, loaders) => {
    const first = await engineFor({ layers, batch, threads });
    const second = await engineFor({ layers, batch, threads });
    const source = module.openFiles(files, size, loaders, 0);
    onTestFinished(() => source.dispose());
    for (const engine of [first, second]) await engine.initialize(1n);
    const planAt = (step: number) => ({ ...plan, step });
    for (let step = 1; step <= 110; step++) {
      const { losses, broken } = await first.step(source, planAt(step), planAt(step + 1), plainAugment, adamAt(step));
      expect(broken).toEqual([]);
      expect(losses).toEqual((await second.step(source, planAt(step), null, plainAugment, adamAt(step))).losses);
    }
    const weights = await first.read('parameter', 'conv.weight');
    expect(weights).toEqual(await second.read('parameter', 'conv.weight'));
    await first.write('parameter', 'conv.weight', new Float32Array(weights.length).fill(Number.NaN));
    const failing = first.step(source, planAt(111), planAt(112), plainAugment, adamAt(111));
    await expect(failing).rejects.toMatchObject({ code: 'NOT_FINITE' });
    await first.initialize(1n);
    await first.step(source, planAt(112), planAt(113), plainAugment, adamAt(111));
    await first.step(source, planAt(1), planAt(2), plainAugment, adamAt(112)); // another than was prefetched
  });

  test('a loss that is not finite rejects with NOT_FINITE and leaves the weights as they were', async () => {
    const source = openSource();
    const engine = await engineFor({ layers, batch });
    await engine.initialize(1n);
    await engine.write('parameter', 'change.bias', Float32Array.of(Number.NaN));
    const before = await engine.read('parameter', 'conv.weight');
    await expect(engine.step(source, plan, null, plainAugment, adamAt(1))).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringContaining('`intra`'),
    });
    expect(await engine.read('parameter', 'conv.weight')).toEqual(before);
  });

  test('a source that is disposed is refused, and one in use lives until the step is done', async () => {
    const engine = await engineFor({ layers, batch });
    await engine.initialize(1n);
    const source = module.openFiles(files, size, 1, 0);
    const step = engine.step(source, plan, null, plainAugment, adamAt(1));
    source.dispose();
    source.dispose();
    expect((await step).losses).toHaveLength(2);
    await expect((async () => engine.step(source, plan, null, plainAugment, adamAt(1)))()).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect((async () => source.fill(plan, plainAugment))()).rejects.toMatchObject({ code: 'DISPOSED' });
  });

  test('engines that fail to be made, are disposed of or just dropped leave the process alive and its memory as it was', async () => {
    for (let i = 0; i < 20; i++)
      await expect(module.createEngine('/nonexistent.so', graph)).rejects.toMatchObject({ code: 'DEVICE_UNAVAILABLE' });
    const { status, signal, stdout } = runChild(
      `const one = async (i) => {
        if (i % 3 === 0) return module.createEngine('/nonexistent.so', graph).catch(() => {});
        const engine = await module.createEngine(library, graph);
        await engine.initialize(1n);
        if (i % 3 === 1) engine.dispose();
      };
      (async () => {
        let before = 0;
        for (let i = 0; i < 300; i++) {
          await one(i);
          if (i % 10 === 0) gc();
          if (i === 90) before = process.memoryUsage().rss;
        }
        console.log(process.memoryUsage().rss - before);
      })();`,
      '--expose-gc',
    );
    expect([status, signal]).toEqual([0, null]);
    expect(Number(stdout)).toBeLessThanOrEqual(16 * 2 ** 20);
  });
});

/** Everything that is not what a native argument should be. */
function hostile(): unknown[] {
  const detached = new Float32Array(4);
  structuredClone(detached, { transfer: [detached.buffer] });
  const trap = new Proxy(
    {},
    {
      get: () => {
        throw new TypeError('trap');
      },
    },
  );
  return [
    undefined,
    null,
    true,
    '',
    'x'.repeat(1e6),
    '\0',
    0,
    -0,
    -1,
    0.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    1e300,
    2 ** 53,
    -1n,
    2n ** 64n,
    2n ** 200n,
    Symbol('s'),
    () => 1,
    {},
    [],
    [1, 2],
    new Array(10),
    new Date(),
    trap,
    Object.create(null),
    new ArrayBuffer(8),
    new DataView(new ArrayBuffer(8)),
    detached,
    new Float32Array(new SharedArrayBuffer(16)),
    new Float32Array(0),
    new Float64Array(3),
    new Uint32Array(new (ArrayBuffer as new (length: number, options: object) => ArrayBuffer)(8, { maxByteLength: 64 })),
    new Uint8Array(5),
    new Uint32Array([2 ** 32 - 1]),
    Buffer.from('abc'),
  ];
}

/** A typed rejection or error, or success; anything else fails the test, and a crash ends it. */
async function answers(what: string, call: () => unknown): Promise<void> {
  try {
    await call();
  } catch (error) {
    const isTyped = error instanceof ComFaceError || error instanceof TypeError;
    expect(isTyped, `${what}: ${String(error)}`).toBe(true);
  }
}

describe('hostile arguments', () => {
  test('of every method in every place are answered with an error of ours or taken, and the engine still works', async () => {
    const source = openSource();
    const engine = await engineFor({ layers, batch });
    await engine.initialize(1n);
    const right: Record<string, unknown[]> = {
      initialize: [1n],
      step: [source, plan, null, plainAugment, adamAt(1)],
      embed: [source, Uint32Array.of(0), 'avgpool', plainAugment],
      forward: [images, targets],
      update: [adamAt(1)],
      read: ['parameter', 'conv.weight'],
      write: ['parameter', 'conv.weight', new Float32Array(432)],
    };
    for (const [name, given] of Object.entries(right)) {
      for (const place of given.keys()) {
        for (const [i, value] of hostile().entries()) {
          const list = given.with(place, value);
          await answers(`${name} ${place} ${i}`, () => (engine[name as 'read'] as (...list: unknown[]) => unknown)(...list));
        }
      }
      await answers(name, () => (engine[name as 'read'] as () => unknown)());
    }
    await engine.initialize(1n);
    expect((await engine.forward(images, targets)).every(Number.isFinite)).toBe(true);
  }, 30_000);

  const shots = {
    ...{ seed: 1n, subject: Uint32Array.of(1), photo: Uint32Array.of(1), attribute: Int32Array.of(0), alpha: Float32Array.of(1) },
    ...{ domain: 0, size: 32 },
  };
  const functions: Record<string, unknown[]> = {
    createEngine: [library, graph],
    openFiles: [['a.jpg'], 32, 1, 0],
    drawFaces: [shots, 1],
    faceLandmarks: [shots],
    encodeImages: [new Float32Array(3 * 25), { count: 1, edge: 5, size: 3, quality: 90 }, 1],
    writeFaces: [{}, [], 90, 1],
    decodeJpeg: [new Uint8Array(3)],
    encodeJpeg: [new Uint8Array(12), 2, 2, 90],
    philox: [1n, 1, 2, 3, 4],
  };
  test.each(Object.entries(functions))('of %s are answered with an error of ours or taken', async (name, given) => {
    const call = module[name as 'philox'] as (...list: unknown[]) => unknown;
    for (const place of given.keys()) {
      for (const [i, value] of hostile().entries()) await answers(`${name} ${place} ${i}`, () => call(...given.with(place, value)));
    }
  });

  test.each(['seed', 'step', 'pairs', 'x', 'y', 'target'])(
    'in `%s` of a plan are answered with an error of ours or taken',
    async (field) => {
      const source = openSource();
      const engine = await engineFor({ layers, batch });
      await engine.initialize(1n);
      for (const [i, value] of hostile().entries()) {
        await answers(`${field} ${i}`, () => engine.step(source, { ...plan, [field]: value } as never, null, plainAugment, adamAt(1)));
      }
    },
  );

  test('in the records of a graph are refused by name', async () => {
    const conv = layers[1] as LayerRecord & { op: 'conv' };
    const changed: [string, object][] = [
      ['huge input', { layers: [{ op: 'input', name: 'images', channels: 2 ** 24, height: 2 ** 24, width: 2 ** 24 }], batch: 2 ** 20 }],
      [
        'wrapping input',
        {
          layers: [
            { op: 'input', name: 'images', channels: 2 ** 22, height: 2 ** 22, width: 1 },
            { op: 'avgPool', name: 'p', input: 'images' },
          ],
          batch: 2 ** 20,
        },
      ],
      [
        'wrapping weight',
        {
          layers: [
            { op: 'input', name: 'images', channels: 2 ** 16, height: 1, width: 1 },
            { ...conv, out: 2 ** 16, kernel: 2 ** 16, pad: 2 ** 16 - 1 },
          ],
        },
      ],
      ['no layers', { layers: [] }],
      ['no input', { layers: [conv] }],
      ['later layer', { layers: [layers[0], { ...conv, input: 'relu' }] }],
      ['same name', { layers: [layers[0], { ...conv, name: 'images' }] }],
      ['kernel 0', { layers: [layers[0], { ...conv, kernel: 0 }] }],
      ['stride 0', { layers: [layers[0], { ...conv, stride: 0 }] }],
      ['too large a kernel', { layers: [layers[0], { ...conv, kernel: 99, pad: 0 }] }],
      ['no rows', { layers: [...layers.slice(0, 5), { op: 'rows', name: 'r', input: 'avgpool', from: 0, to: 1, of: 3 }], batch: 2 }],
      ['a loss that is read', { layers: [...layers, { op: 'relu', name: 'r', input: 'inter' }] }],
      [
        'targets of two sizes',
        {
          layers: [
            ...layers,
            { op: 'linear', name: 'l', input: 'avgpool', out: 1, bias: true },
            { op: 'squaredError', name: 'e', input: 'l', weight: 1 },
          ],
        },
      ],
      [
        'statistics of one value',
        {
          layers: [
            { op: 'input', name: 'images', channels: 4, height: 1, width: 1 },
            { op: 'batchNorm', name: 'n', input: 'images' },
          ],
          batch: 1,
        },
      ],
      ['momentum 2', { layers: [layers[0], conv, { op: 'batchNorm', name: 'n', input: 'conv', momentum: 2 }] }],
      [
        'a negative weight',
        { layers: [...layers.slice(0, 7), { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.5, weight: -1 }] },
      ],
      ['unknown op', { layers: [layers[0], { op: 'dropout', name: 'd', input: 'images' }] }],
      ['precision', { precision: 'fp8' }],
      ['threads', { threads: 0 }],
      ['batch', { batch: 2.5 }],
    ];
    for (const [name, change] of changed) {
      await expect((async () => module.createEngine('', { ...graph, ...change } as never))(), name).rejects.toMatchObject({
        code: expect.stringMatching(/INVALID_|OUT_OF_MEMORY/),
      });
    }
  });

  test('as `this` are refused', async () => {
    const [engine, source] = [await engineFor({ layers, batch }), openSource()];
    const { read } = engine;
    for (const self of [undefined, {}, source, Object.create(Object.getPrototypeOf(engine)), Object.setPrototypeOf({ ...source }, engine)])
      await answers('this', () => read.call(self as never, 'parameter', 'conv.weight'));
    const { fill } = source;
    for (const self of [engine, {}]) await answers('this', () => fill.call(self as never, plan, plainAugment));
    const disguised = Object.setPrototypeOf(await module.createEngine(library, graph), Object.getPrototypeOf(source));
    for (const other of [disguised, Object.create(source)]) {
      await expect((async () => engine.step(other, plan, null, plainAugment, adamAt(1)))()).rejects.toMatchObject({
        code: 'INVALID_INPUT',
      });
    }
    await expect((async () => new (engine.constructor as new () => unknown)())()).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  test('methods out of order answer with an error of ours or do nothing harmful', async () => {
    const training = await engineFor({ layers, batch });
    await answers('backward first', () => training.backward());
    await answers('update first', () => training.update(adamAt(1)));
    const inference = await engineFor({ layers: layers.slice(0, 5), batch, training: false });
    for (const call of [
      () => inference.backward(),
      () => inference.update(adamAt(1)),
      () => inference.read('gradient', 'conv.weight'),
      () => inference.read('firstMoment', 'conv.weight'),
    ]) {
      await expect(call()).rejects.toBeInstanceOf(ComFaceError);
    }
  });

  test('in an embedding and a step that do not fit the graph are refused', async () => {
    const source = openSource();
    const engine = await engineFor({ layers: layers.slice(0, 5), batch, training: false });
    await engine.initialize(1n);
    expect(await engine.embed(source, new Uint32Array(), 'avgpool', plainAugment)).toHaveLength(0);
    expect(
      await engine.embed(
        source,
        Uint32Array.from({ length: 30 }, (_, i) => i % 2),
        'avgpool',
        plainAugment,
      ),
    ).toHaveLength(30 * 16);
    for (const [samples, layer] of [
      [[2], 'avgpool'],
      [[0], 'conv'],
      [[0], 'images'],
      [[0], 'nothing'],
    ] as const) {
      await expect(engine.embed(source, Uint32Array.from(samples), layer, plainAugment), layer).rejects.toMatchObject({
        code: 'INVALID_INPUT',
      });
    }
    const training = await engineFor({ layers, batch });
    for (const wrong of [planOf([0, 1]), planOf([0, 1, 0, 1, 0]), planOf([0, 1, 0, 7])]) {
      await expect(training.step(source, wrong, null, plainAugment, adamAt(1))).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    }
    const other = module.openFiles(files, 32, 1, 0);
    await expect(training.step(other, plan, null, plainAugment, adamAt(1))).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    other.dispose();
  });
});

/** The beginning of a script for processes and threads without vitest. */
const addon = join(native().folder, 'comface.node');
const childHead = `
  const module = require(${JSON.stringify(addon)});
  const library = ${JSON.stringify(library)};
  const graph = ${JSON.stringify({ ...graph, batch: 96 })};
  const plan = { seed: 1n, step: 1, pairs: 32, x: new Uint32Array(32), y: new Uint32Array(32), target: new Float32Array(32) };
  const adam = ${JSON.stringify(adamAt(1))};
  const train = async (files, count) => {
    const source = module.openFiles(files, ${size}, 1, 0);
    const engine = await module.createEngine(library, graph);
    await engine.initialize(1n);
    for (let i = 0; i < count; i++) await engine.step(source, plan, plan, ${JSON.stringify(plainAugment)}, adam);
  };
`;

/** Runs a script in a process of its own. */
function runChild(script: string, ...flags: string[]) {
  return spawnSync(process.execPath, [...flags, '-e', `${childHead}; ${script}`], { encoding: 'utf8', timeout: 20_000 });
}

test('a worker thread that trains may be terminated in the middle, ten times', async () => {
  for (let round = 0; round < 10; round++) {
    const worker = new Worker(
      `${childHead}
      const { parentPort } = require('node:worker_threads');
      const forever = train(${JSON.stringify(files)}, 1e9);
      forever.catch((error) => parentPort.postMessage(String(error)));
      setTimeout(() => parentPort.postMessage('training'), ${20 + round * 7});`,
      { eval: true },
    );
    expect(await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))).toBe('training');
    await worker.terminate();
  }
  const engine = await engineFor({ layers, batch });
  await engine.initialize(1n);
}, 20_000);

test.each([
  ['process.exit(7)', 7],
  ['setImmediate(() => { throw new Error("thrown on purpose"); })', 1],
  ['process.kill(process.pid, 0); process.exit()', 0],
])('a process that ends by %s in the middle of a step ends with code %i', (code, status) => {
  const child = runChild(`train(${JSON.stringify(files)}, 1e9); setTimeout(() => { ${code} }, 60);`);
  expect([child.status, child.signal]).toEqual([status, null]);
});

test('a process that ends in the middle of a big step on two threads ends with its code, at any moment', () => {
  // oneDNN's own exit handlers free the code that its threads are running: only leaving before them is safe.
  for (let moment = 0; moment < 8; moment++) {
    const child = runChild(`
      const layers = ${JSON.stringify(backbone('resnet18', { size: 64 }))};
      const precision = module.cpu.bf16 ? 'bf16' : 'fp32';
      module.createEngine(library, { layers, batch: 64, training: true, precision, threads: 2 }).then(async (engine) => {
        await engine.initialize(1n);
        setTimeout(() => process.exit(7), ${40 + moment * 23});
        for (;;) { await engine.forward(new Float32Array(64 * 3 * 64 * 64), new Float32Array()); await engine.write('valueGradient', 'avgpool', new Float32Array(64 * 512)); await engine.backward(); }
      });`);
    expect([child.status, child.signal]).toEqual([7, null]);
  }
}, 60_000);

test('a process ends by itself when its last call is answered', () => {
  const child = runChild(`train(${JSON.stringify(files)}, 2).then(() => console.log('done'));`);
  expect([child.status, child.stdout]).toEqual([0, 'done\n']);
});

test('a tensor may be written in parts, in order, and takes effect with the last', async () => {
  const engine = await engineFor({ layers, batch });
  await engine.initialize(1n);
  const before = await engine.read('parameter', 'conv.weight');
  const value = numbers(before.length, 73);
  const write = (from: number, to: number) => engine.write('parameter', 'conv.weight', value.slice(from, to), from);
  await write(0, 100);
  for (const [name, part, offset] of [
    ['conv.weight', value.slice(101, 200), 101],
    ['conv.weight', value, 100],
    ['norm.weight', new Float32Array(6), 10],
    ['nothing', new Float32Array(6), 0],
  ] as const) {
    await expect(engine.write('parameter', name, part, offset)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  }
  expect(await engine.read('parameter', 'conv.weight')).toEqual(before);
  await Promise.all([write(0, 100), write(100, 101), write(101, before.length)]);
  expect(await engine.read('parameter', 'conv.weight')).toEqual(value);
  await expect(write(before.length, before.length)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
});
