// The CUDA backend without a GPU: its sources run on the CPU (see emulated.ts), against the plain loops. What that cannot show is how a real
// device rounds inside cuDNN, and how fast it is.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ComFaceError } from '../lib/errors.ts';
import { comfaceGraph } from '../lib/models/heads.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { backbone, embeddingWidth } from '../lib/models/resnet.ts';
import { type NativeEngine, native, type Slot } from '../lib/native.ts';
import { opCases } from './cases.ts';
import { type EmulatedOptions, emulatedBackend, emulatedEngine } from './emulated.ts';
import { planOf, sharedFolder, smallFaces } from './faces.ts';
import { distances, inputsOf, outcomeOf, parametersOf, seedOf } from './figures/opruns.ts';
import { twin } from './figures/twin.ts';
import { adamAt, distance, engineFor, numbers } from './support.ts';
import { views } from './views.ts';

const library = emulatedBackend();
const folder = sharedFolder();
const cache = join(folder, 'cache');
let data = '';
beforeAll(async () => {
  process.env.COMFACE_CACHE = cache;
  data = await smallFaces(folder);
});
const engine = (options: EmulatedOptions): Promise<NativeEngine> => emulatedEngine(library!, options);

/** The whole training graph of a narrow network. */
function network(name: 'resnet18' | 'resnet50', pairs: number, size: number, width = 16): EmulatedOptions {
  const embedding = embeddingWidth(name, width);
  const heads = { embedding, projection: { hidden: 32, out: 16 }, temperature: 0.2, interPersonal: 1, intraPersonal: 0.3 };
  return { layers: comfaceGraph(backbone(name, { size, width }), heads), batch: 3 * pairs, parts: 3 };
}

async function all(of: NativeEngine, slot: Slot): Promise<Map<string, Float32Array>> {
  const list = slot === 'statistic' ? of.statistics : of.parameters;
  return new Map(await Promise.all(list.map(async ({ name }) => [name, await of.read(slot, name)] as const)));
}

const flat = (tensors: Map<string, Float32Array>): Float32Array =>
  new Float32Array(Buffer.concat([...tensors.values()].map((value) => new Uint8Array(value.buffer))).buffer);

// NMSE: what is reached, with room for other shapes. 16 bits are rounded where real kernels round.
const limits = { fp32: 1e-10, bf16: 1e-4, fp16: 1e-5 } as const;

describe.skipIf(library === undefined)('the CUDA backend, emulated', () => {
  beforeEach(() => {
    delete process.env.COMFACE_NO_FUSION;
  });

  describe.each(['fp32', 'bf16', 'fp16'] as const)('each op in %s', (precision) => {
    test.each(opCases)('$name', async (c) => {
      const exact = await engineFor({ ...c, device: 'reference', precision: 'fp64' });
      for (let key = 1000; ; key += 1000) {
        const inputs = inputsOf(c, key);
        const parameters = parametersOf(exact, key);
        const expected = twin(c, parameters, inputs.images, inputs.targets, seedOf);
        if (expected.margin < 2e-5 && key < 40_000) continue;
        for (const fusion of precision === 'fp32' ? ['1'] : ['', '1']) {
          process.env.COMFACE_NO_FUSION = fusion;
          const outcome = await outcomeOf(await engine({ ...c, precision }), c, parameters, inputs, expected.seed);
          // An inner relu that rounding turns over makes gradients differ: whole networks have their own test.
          const isSharp = precision === 'fp32' || expected.margin === Number.POSITIVE_INFINITY;
          for (const { part, value } of distances(outcome, expected))
            expect(value, part).toBeLessThanOrEqual(isSharp ? limits[precision] : 1e-2);
        }
        return;
      }
    });
  });

  test.each(['resnet18', 'resnet50'] as const)('a step of a small %s is that of the plain loops', async (name) => {
    const options = network(name, 4, 32);
    const images = numbers(3 * 4 * 3 * 32 * 32, 51);
    const targets = numbers(4, 52, 5).map(Math.abs);
    const step = async (of: NativeEngine) => {
      await of.initialize(5n);
      // Residual branches begin small: 50 layers with norms over a dozen values would amplify rounding until relus flip.
      for (const { name: parameter, dims } of of.parameters)
        if (/^layer.*bn3\.weight$/.test(parameter)) await of.write('parameter', parameter, new Float32Array(dims[0]!).fill(0.2));
      const losses = await of.forward(images, targets);
      await of.backward();
      const [gradients, statistics] = [await all(of, 'gradient'), await all(of, 'statistic')];
      await of.update(adamAt(1));
      return { losses, gradients, statistics, moments: await all(of, 'secondMoment') };
    };
    const expected = await step(await engineFor({ ...options, device: 'reference', precision: 'fp64' }));
    const found = await step(await engine(options));
    expect(distance(found.losses, expected.losses)).toBeLessThan(1e-5);
    for (const part of ['gradients', 'statistics', 'moments'] as const)
      for (const [tensor, value] of expected[part])
        expect(distance(found[part].get(tensor)!, value), `${part} ${tensor}`).toBeLessThan(1e-3);
    // 16 bits: no farther from double than the plain loops with the same rounding are, all tensors together.
    const rounded = await step(await engineFor({ ...options, device: 'reference', precision: 'bf16' }));
    const reach = distance(flat(rounded.gradients), flat(expected.gradients));
    for (const fusion of ['', '1']) {
      process.env.COMFACE_NO_FUSION = fusion;
      const { gradients, losses } = await step(await engine({ ...options, precision: 'bf16' }));
      expect(distance(flat(gradients), flat(expected.gradients))).toBeLessThan(1.5 * reach);
      expect(distance(losses, rounded.losses)).toBeLessThan(0.02);
    }
  });

  test('steps on pictures are forward, backward and update of the same views', async () => {
    const options = network('resnet18', 4, 32);
    const source = native().module.openFiles((await views.files(data)).slice(0, 40), 32, 2, 32);
    const plans = [1, 2, 3, 4, 5].map((step) => planOf([step, 8, 13, 21], [3, 9, step + 11, 22], { step }));
    const whole = await engine(options);
    const parts = await engine(options);
    for (const each of [whole, parts]) await each.initialize(3n);
    const expected: number[] = [];
    for (const [i, plan] of plans.entries()) {
      const { images, targets } = await source.fill(plan, views.augment);
      expected.push(...(await parts.forward(images, targets)));
      await parts.backward();
      await parts.update(adamAt(i + 1));
      const told = await whole.step(source, plan, plans[i + 1] ?? null, views.augment, adamAt(i + 1));
      expect(told.steps).toBe(0);
    }
    const { losses, steps } = await whole.collect();
    expect(steps).toBe(5);
    expect(distance(losses, expected)).toBeLessThan(1e-4);
    expect(distance(flat(await all(whole, 'secondMoment')), flat(await all(parts, 'secondMoment')))).toBeLessThan(1e-2);
    expect((await whole.collect()).steps).toBe(0);
    source.dispose();
  });

  test('the same steps give the same bits, whatever was chosen or captured before', async () => {
    const options = { ...network('resnet18', 4, 32), precision: 'bf16' as const };
    const source = native().module.openFiles((await views.files(data)).slice(0, 40), 32, 2, 32);
    const run = async (choices: string) => {
      const of = await engine({ ...options, choices });
      await of.initialize(3n);
      for (let step = 1; step <= 4; step++)
        await of.step(source, planOf([step, 8, 13, 21], [3, 9, 17, 22], { step }), null, views.augment, adamAt(step));
      return { losses: (await of.collect()).losses, weights: flat(await all(of, 'parameter')), choices: of.choices };
    };
    const first = await run('');
    rmSync(cache, { recursive: true, force: true });
    expect(first.choices).toMatch(/^\d+( \d+=\d+)*\t(native|any) /m);
    expect(await run(first.choices)).toEqual(first);
    expect(await run('not a choice\n\n57 1=\tneither')).toEqual(first);
    source.dispose();
  });

  test('a batch in chunks has the gradient of the whole', async () => {
    // Without batch statistics chunks make no difference.
    const layers: LayerRecord[] = [
      { op: 'input', name: 'images', channels: 3, height: 12, width: 12 },
      { op: 'conv', name: 'a', input: 'images', out: 16, kernel: 3, stride: 2, pad: 1, bias: true },
      { op: 'relu', name: 'b', input: 'a' },
      { op: 'conv', name: 'c', input: 'b', out: 16, kernel: 3, stride: 1, pad: 1 },
      { op: 'avgPool', name: 'avgpool', input: 'c' },
    ];
    const heads = { embedding: 16, projection: { hidden: 16, out: 8 }, temperature: 0.2, interPersonal: 1, intraPersonal: 0.3 };
    const graph = { layers: comfaceGraph(layers, heads), batch: 24 };
    const images = numbers(24 * 3 * 144, 61);
    const targets = numbers(8, 62, 4);
    const gradients: Float32Array[] = [];
    const sizes: number[] = [];
    for (const chunks of [1, 2, 8]) {
      const of = await engine({ ...graph, chunks, parts: 3 });
      await of.initialize(9n);
      const losses = await of.forward(images, targets);
      await of.backward();
      gradients.push(Float32Array.of(...losses, ...flat(await all(of, 'gradient'))));
      sizes.push(of.sizeBytes);
    }
    expect(distance(gradients[1]!, gradients[0]!)).toBeLessThan(1e-5);
    expect(distance(gradients[2]!, gradients[0]!)).toBeLessThan(1e-5);
    expect(sizes[2]).toBeLessThan(sizes[0]!);
    await expect(engine({ ...graph, chunks: 3, parts: 3 })).rejects.toThrow(/divides into 3 parts of 3 chunks/);
  });

  test('batch statistics in chunks move the running ones once a chunk, and not again when images are computed again', async () => {
    const of = await engine({ ...network('resnet18', 4, 32), chunks: 2, parts: 3 });
    await of.initialize(5n);
    await of.forward(numbers(12 * 3 * 1024, 51), numbers(4, 52));
    const before = await all(of, 'statistic');
    await of.backward();
    expect(await all(of, 'statistic')).toEqual(before);
  });

  test('a network that does not fit says how many pairs would', async () => {
    const error = await engine(network('resnet50', 64, 224, 64)).catch((e) => e);
    expect(error).toBeInstanceOf(ComFaceError);
    expect(error.code).toBe('OUT_OF_MEMORY');
    const [, fit] = error.message.match(/needs \d+ MiB of device memory for 64 x 3 images.* about (\d+) x 3 would fit/) ?? [];
    await expect(engine(network('resnet50', Number(fit), 224, 64))).resolves.toBeTruthy();
  });

  test('what is not finite is told, and no later step changes a weight', async () => {
    const of = await engine(network('resnet18', 4, 32));
    const source = native().module.openFiles((await views.files(data)).slice(0, 40), 32, 1, 32);
    const step = (n: number) => of.step(source, planOf([n, 8, 13, 21], [3, 9, 17, 22], { step: n }), null, views.augment, adamAt(n));
    await of.initialize(3n);
    await step(1);
    const bias = await of.read('parameter', 'change.bias');
    await of.write('parameter', 'change.bias', Float32Array.of(Number.NaN));
    await step(2);
    await of.write('parameter', 'change.bias', bias);
    const before = flat(await all(of, 'parameter'));
    await step(3);
    expect(flat(await all(of, 'parameter'))).toEqual(before);
    await expect(of.collect()).rejects.toMatchObject({ code: 'NOT_FINITE', message: expect.stringContaining('at step 2') });
    source.dispose();
  });

  test('fp16 gradients that overflow halve the loss scale, and that step is left out', async () => {
    const of = await engine({ ...network('resnet18', 4, 32), precision: 'fp16' });
    const source = native().module.openFiles((await views.files(data)).slice(0, 40), 32, 1, 32);
    await of.initialize(3n);
    expect([...(await of.read('lossScale', ''))]).toEqual([65536, 0]);
    await of.write('lossScale', '', Float32Array.of(2 ** 24, 7));
    const before = flat(await all(of, 'parameter'));
    let scale = 2 ** 24;
    let steps = 0;
    for (let n = 1; n <= 12; n++) {
      await of.step(source, planOf([n, 8, 13, 21], [3, 9, 17, 22], { step: n }), null, views.augment, adamAt(n));
      const [now, since] = await of.read('lossScale', '');
      if (since === 0) expect(now).toBe(scale / 2);
      else steps++;
      scale = now!;
    }
    expect(scale).toBeLessThan(2 ** 24);
    expect(steps).toBeGreaterThan(2);
    expect(flat(await all(of, 'parameter'))).not.toEqual(before);
    expect((await of.collect()).steps).toBe(12);
    source.dispose();
  });

  test('an engine for inference embeds as the plain loops do', async () => {
    const options = { layers: backbone('resnet18', { size: 32, width: 16 }), batch: 4, training: false };
    const source = native().module.openFiles((await views.files(data)).slice(0, 10), 32, 1, 32);
    const embeddings = await Promise.all(
      [await engine(options), await engineFor({ ...options, device: 'reference', precision: 'fp64' })].map(async (of) => {
        await of.initialize(4n);
        return of.embed(
          source,
          Uint32Array.from({ length: 10 }, (_, i) => i),
          'avgpool',
          views.augment,
        );
      }),
    );
    expect(distance(embeddings[0]!, embeddings[1]!)).toBeLessThan(1e-5);
    source.dispose();
  });
});
