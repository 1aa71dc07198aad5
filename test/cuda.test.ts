// What the CUDA backend does that is not in the op table (figure N4): whole steps on pictures, repeats, chunks, memory, what is not finite.
// On a device that the CPU plays, or on a real one (cuda.ts).
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readManifest } from '../lib/data/manifest.ts';
import { sparesOf } from '../lib/data/pairs.ts';
import { ComFaceError } from '../lib/errors.ts';
import { backbone, embeddingWidth, mapLayers } from '../lib/models/backbone.ts';
import { comfaceGraph } from '../lib/models/heads.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { visionTransformer } from '../lib/models/vit.ts';
import { type NativeEngine, native, type Slot } from '../lib/native.ts';
import { type CudaOptions, cudaBackend, cudaEngine, cudaName, deviceBytes, isOnGpu, noCuda } from './cuda.ts';
import { planOf, runAugment, sharedFolder, smallFaces } from './faces.ts';
import { adamAt, distance, engineFor, numbers } from './support.ts';

const library = cudaBackend();
const folder = sharedFolder();
const cache = join(folder, 'cache');
let data = '';
beforeAll(async () => {
  process.env.COMFACE_CACHE = cache;
  data = await smallFaces(folder);
});

/** Two narrow blocks of a vision transformer: 48 channels in 3 heads. */
const transformer = (size: number): LayerRecord[] => visionTransformer(size, { patch: 8, width: 48, depth: 2, heads: 3 });

/** The whole training graph of a narrow network. */
function network(name: 'resnet18' | 'resnet50' | 'transformer', pairs: number, size: number, width = 16): CudaOptions {
  const embedding = name === 'transformer' ? 48 : embeddingWidth(name, { size, width });
  const heads = { embedding, projection: { hidden: 32, out: 16 }, temperature: 0.2, interPersonal: 1, intraPersonal: 0.3 };
  const layers = name === 'transformer' ? transformer(size) : backbone(name, { size, width });
  return { layers: comfaceGraph(layers, heads), batch: 3 * pairs, parts: 3 };
}

async function all(of: NativeEngine, slot: Slot): Promise<Map<string, Float32Array>> {
  const list = slot === 'statistic' ? of.statistics : of.parameters;
  return new Map(await Promise.all(list.map(async ({ name }) => [name, await of.read(slot, name)] as const)));
}

const flat = (tensors: Map<string, Float32Array>): Float32Array =>
  new Float32Array(Buffer.concat([...tensors.values()].map((value) => new Uint8Array(value.buffer))).buffer);

describe.skipIf(library === undefined)(library ? cudaName : `CUDA: ${noCuda}`, () => {
  beforeEach(() => {
    delete process.env.COMFACE_NO_FUSION;
    delete process.env.COMFACE_EMULATION_REFUSE;
  });

  test('filters that do not fit into the memory of a block are refused by the layer', async () => {
    const layers: LayerRecord[] = [
      { op: 'input', name: 'images', channels: 3, height: 64, width: 64 },
      {
        ...{ op: 'filteredRelu', name: 'wide', input: 'images', up: 1, down: 1, upTaps: 128, downTaps: 128, padLow: 127, padHigh: 127 },
        ...{ slope: 0.2, gain: 1, clamp: 256 },
      },
    ];
    await expect(cudaEngine({ layers, batch: 1, training: false })).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: 'Layer `wide`: filters of 128 and 128 taps do not fit into the memory of a block of the CUDA backend; use device cpu.',
    });
  });

  test('heads of attention that are wider than its kernels know are refused by the layer', async () => {
    const layers: LayerRecord[] = [
      { op: 'input', name: 'images', channels: 3 * 129, height: 2, width: 1 },
      { op: 'attention', name: 'wide', input: 'images', heads: 1 },
    ];
    await expect(cudaEngine({ layers, batch: 1 })).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: 'Layer `wide`: the CUDA backend has heads of at most 128 channels, not of 129.',
    });
  });

  test('steps on pictures are forward, backward and update of the same views', async () => {
    const options = network('resnet18', 4, 32);
    const source = native().module.openFiles((await readManifest(data)).files.slice(0, 40), 32, 2, 32);
    // Views of which none brings a relu within rounding of 0: past that gradients take another way (two in ten others do).
    const plans = [1, 2, 3, 4, 5].map((step) => planOf([step, 8, 13, 21], [3, 9, step + 11, 22], { step: step + 100 }));
    const whole = await cudaEngine(options);
    const parts = await cudaEngine(options);
    for (const each of [whole, parts]) await each.initialize(3n);
    const expected: number[] = [];
    for (const [i, plan] of plans.entries()) {
      const { images, targets } = await source.fill(plan, runAugment);
      expected.push(...(await parts.forward(images, targets)));
      await parts.backward();
      await parts.update(adamAt(i + 1));
      const told = await whole.step(source, plan, plans[i + 1] ?? null, runAugment, adamAt(i + 1));
      expect(told.steps).toBe(0);
    }
    const { losses, steps } = await whole.collect();
    expect(steps).toBe(5);
    expect(distance(losses, expected)).toBeLessThan(1e-5);
    expect(distance(flat(await all(whole, 'secondMoment')), flat(await all(parts, 'secondMoment')))).toBeLessThan(1e-4);
    expect((await whole.collect()).steps).toBe(0);
    source.dispose();
  });

  test.each(['resnet18', 'transformer'] as const)(
    'the same steps of a %s give the same bits, whatever was chosen or captured before',
    async (name) => {
      const options = { ...network(name, 4, 32), precision: 'bf16' as const };
      const source = native().module.openFiles((await readManifest(data)).files.slice(0, 40), 32, 2, 32);
      const run = async (choices: string) => {
        const of = await cudaEngine({ ...options, choices });
        await of.initialize(3n);
        for (let step = 1; step <= 4; step++)
          await of.step(source, planOf([step, 8, 13, 21], [3, 9, 17, 22], { step }), null, runAugment, adamAt(step));
        const { losses } = await of.collect();
        expect(of.description).not.toContain('not captured');
        return { losses, weights: flat(await all(of, 'parameter')), choices: of.choices };
      };
      const first = await run('');
      rmSync(cache, { recursive: true, force: true });
      expect(first.choices).toMatch(/^\d+( \d+=\d+)*\t(native|any) /m);
      expect(await run(first.choices)).toEqual(first);
      expect(await run('not a choice\n\n57 1=\tneither')).toEqual(first);
      source.dispose();
    },
  );

  test('sums in any order are asked for by name, are fused, and come near to those in order', async () => {
    const images = numbers(12 * 3 * 1024, 51);
    const run = async (deterministic: boolean) => {
      const of = await cudaEngine({ ...network('resnet18', 4, 32), precision: 'bf16', deterministic });
      await of.initialize(3n);
      const losses = await of.forward(images, numbers(4, 52));
      return {
        losses,
        statistics: flat(await all(of, 'statistic')),
        sums: of.choices.match(/(sum|statistics)\*?(?=,)/g) ?? [],
        all: of.choices,
      };
    };
    const [ordered, again, free, other] = [await run(true), await run(true), await run(false), await run(false)];
    expect(again).toEqual(ordered);
    expect(ordered.sums.some((name) => name.endsWith('*'))).toBe(false);
    expect(free.sums.length > 0 && free.sums.every((name) => name.endsWith('*'))).toBe(true);
    expect(distance(free.losses, ordered.losses)).toBeLessThan(0.02);
    expect(free.all).toMatch(/^\d[^\t]*\tnative .* (sum|statistics)\*,/m);
    if (isOnGpu) return;
    // What cuDNN's kernels do to these sums the CPU does, too: it would show if they were taken for what is in order.
    expect(other.statistics).not.toEqual(free.statistics);
    expect(ordered.all).toMatch(/^-\tnative .* statistics,/m);
    expect(free.all).not.toMatch(/^-\t/m);
  });

  test.skipIf(isOnGpu)('a step that cannot be captured is enqueued kernel by kernel, with the same bits', async () => {
    const options = { ...network('resnet18', 4, 32), precision: 'bf16' as const };
    const source = native().module.openFiles((await readManifest(data)).files.slice(0, 40), 32, 2, 32);
    const run = async (refused: string) => {
      process.env.COMFACE_EMULATION_REFUSE = refused;
      const of = await cudaEngine(options);
      await of.initialize(3n);
      for (let step = 1; step <= 4; step++)
        await of.step(source, planOf([step, 8, 13, 21], [3, 9, 17, 22], { step }), null, runAugment, adamAt(step));
      const { losses } = await of.collect();
      return { losses, weights: flat(await all(of, 'parameter')), description: of.description };
    };
    const [captured, plain] = [await run(''), await run('capture')];
    expect(plain).toEqual({ ...captured, description: `${captured.description}, steps not captured` });
    source.dispose();
  });

  test('memory of whole steps is planned before the first, pictures included', async () => {
    const source = native().module.openFiles((await readManifest(data)).files.slice(0, 40), 32, 2, 32);
    const of = await cudaEngine(network('resnet18', 4, 32));
    await of.initialize(3n);
    const before = of.sizeBytes;
    // Spares stand in for broken pictures.
    const rows = 4 + sparesOf({ pairs: 4 });
    await of.reserve(source, rows);
    const planned = of.sizeBytes;
    expect(planned - before).toBeGreaterThanOrEqual(2 * (4 + rows) * 32 * 32 * 3);
    const draw = (n: number) => Array.from({ length: rows }, (_, i) => (7 * n + 3 * i) % 40);
    for (let step = 1; step <= 3; step++)
      await of.step(source, planOf(draw(step), draw(step + 1), { step, pairs: 4 }), null, runAugment, adamAt(step));
    await of.collect();
    await of.reserve(source, 1);
    expect(of.sizeBytes).toBe(planned);
    source.dispose();
  });

  test.skipIf(isOnGpu)('that there is no plan is asked again by the next engine of this machine, not by a run that goes on', async () => {
    const options = { ...network('resnet18', 2, 32), precision: 'bf16' as const, deterministic: false };
    process.env.COMFACE_EMULATION_REFUSE = 'fused';
    rmSync(cache, { recursive: true, force: true });
    const { choices } = await cudaEngine(options);
    expect(choices).toMatch(/^-\tnative /m);
    delete process.env.COMFACE_EMULATION_REFUSE;
    const [file, ...others] = readdirSync(cache).filter((name) => name !== 'lock');
    expect(others).toEqual([]);
    expect(readFileSync(join(cache, file!), 'utf8')).not.toMatch(/^-\t/m);
    expect((await cudaEngine(options)).choices).not.toMatch(/^-\tnative /m);
    expect((await cudaEngine({ ...options, choices })).choices).toBe(choices);
  });

  // Without batch statistics chunks make no difference.
  const convolutions: LayerRecord[] = [
    { op: 'input', name: 'images', channels: 3, height: 16, width: 16 },
    { op: 'conv', name: 'a', input: 'images', out: 48, kernel: 3, stride: 2, pad: 1, bias: true },
    { op: 'relu', name: 'b', input: 'a' },
    { op: 'conv', name: 'c', input: 'b', out: 48, kernel: 3, stride: 1, pad: 1 },
    { op: 'avgPool', name: 'avgpool', input: 'c' },
  ];
  test.each([
    ['convolutions', convolutions, 48],
    ['a transformer', transformer(16), 48],
    ["PCL's network", backbone('pcl', { size: 16, width: 16 }), embeddingWidth('pcl', { size: 16, width: 16 })],
  ])('a batch in chunks has the gradient of the whole, of %s', async (_, layers, embedding) => {
    const heads = { embedding, projection: { hidden: 16, out: 8 }, temperature: 0.2, interPersonal: 1, intraPersonal: 0.3 };
    const graph = { layers: comfaceGraph(layers, heads), batch: 24 };
    const images = numbers(24 * 3 * 256, 61);
    const targets = numbers(8, 62, 4);
    const gradients: Float32Array[] = [];
    const sizes: number[] = [];
    for (const chunks of [1, 2, 8]) {
      const of = await cudaEngine({ ...graph, chunks, parts: 3 });
      await of.initialize(9n);
      const losses = await of.forward(images, targets);
      await of.backward();
      gradients.push(Float32Array.from([...losses, ...flat(await all(of, 'gradient'))]));
      sizes.push(of.sizeBytes);
    }
    expect(distance(gradients[1]!, gradients[0]!)).toBeLessThan(1e-5);
    expect(distance(gradients[2]!, gradients[0]!)).toBeLessThan(1e-5);
    expect(sizes[2]).toBeLessThan(sizes[0]!);
    await expect(cudaEngine({ ...graph, chunks: 3, parts: 3 })).rejects.toThrow(/divides into 3 parts of 3 chunks/);
  });

  test('batch statistics in chunks move the running ones once a chunk, and not again when images are computed again', async () => {
    const of = await cudaEngine({ ...network('resnet18', 4, 32), chunks: 2, parts: 3 });
    await of.initialize(5n);
    await of.forward(numbers(12 * 3 * 1024, 51), numbers(4, 52));
    const before = await all(of, 'statistic');
    await of.backward();
    expect(await all(of, 'statistic')).toEqual(before);
  });

  test('a network that does not fit says how many pairs would', async () => {
    // As much as wants twice the memory, but no tensor of more numbers than cuDNN counts.
    const pairs = Math.min(850, Math.ceil(deviceBytes() / 2 ** 25));
    const error = await cudaEngine(network('resnet50', pairs, 224, 64)).catch((e) => e);
    expect(error).toBeInstanceOf(ComFaceError);
    expect(error.code).toBe('OUT_OF_MEMORY');
    const [, tried, fit] = error.message.match(/needs \d+ MiB of device memory for (\d+) x 3 images.* about (\d+) x 3 would fit/) ?? [];
    expect(Number(tried)).toBe(pairs);
    // A little less: what is free may lie in several pieces.
    await expect(cudaEngine(network('resnet50', Math.floor(0.95 * Number(fit)), 224, 64))).resolves.toBeTruthy();
  });

  test('what is not finite is told, and no later step changes a weight', async () => {
    const of = await cudaEngine(network('resnet18', 4, 32));
    const source = native().module.openFiles((await readManifest(data)).files.slice(0, 40), 32, 1, 32);
    const step = (n: number) => of.step(source, planOf([n, 8, 13, 21], [3, 9, 17, 22], { step: n }), null, runAugment, adamAt(n));
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
    const of = await cudaEngine({ ...network('resnet18', 4, 32), precision: 'fp16' });
    const source = native().module.openFiles((await readManifest(data)).files.slice(0, 40), 32, 1, 32);
    await of.initialize(3n);
    expect([...(await of.read('lossScale', ''))]).toEqual([65536, 0]);
    await of.write('lossScale', '', Float32Array.of(2 ** 24, 7));
    const before = flat(await all(of, 'parameter'));
    let scale = 2 ** 24;
    let steps = 0;
    for (let n = 1; n <= 16; n++) {
      await of.step(source, planOf([n, 8, 13, 21], [3, 9, 17, 22], { step: n }), null, runAugment, adamAt(n));
      const [now, since] = await of.read('lossScale', '');
      if (since === 0) expect(now).toBe(scale / 2);
      else steps++;
      scale = now!;
    }
    expect(scale).toBeLessThan(2 ** 24);
    expect(steps).toBeGreaterThan(2);
    expect(flat(await all(of, 'parameter'))).not.toEqual(before);
    expect((await of.collect()).steps).toBe(16);
    source.dispose();
  });

  test.each([
    ['a ResNet', backbone('resnet18', { size: 32, width: 16 })],
    ['a transformer', transformer(32)],
    ["a transformer's map", mapLayers(transformer(32)).layers],
    ["PCL's network", backbone('pcl', { size: 32, width: 16 })],
  ])('an engine for inference embeds as the plain loops do, by %s', async (_, layers) => {
    const options = { layers, batch: 4, training: false };
    const source = native().module.openFiles((await readManifest(data)).files.slice(0, 10), 32, 1, 32);
    const embeddings = await Promise.all(
      [await cudaEngine(options), await engineFor({ ...options, device: 'reference', precision: 'fp64' })].map(async (of) => {
        await of.initialize(4n);
        return of.embed(
          source,
          Uint32Array.from({ length: 10 }, (_, i) => i),
          layers.at(-1)!.name,
          runAugment,
        );
      }),
    );
    expect(distance(embeddings[0]!, embeddings[1]!)).toBeLessThan(1e-5);
    source.dispose();
  });
});
