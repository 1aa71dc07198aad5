// The whole ComFace step of small networks: the CPU backend against the plain loops in double, with itself, and while not training.
// Tolerances are relative L2. A relu whose input lies within rounding of 0 may take the other side; the seeds are ones for which that stays rare.
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type BackboneName, backbone, embeddingWidth } from '../lib/models/backbone.ts';
import { comfaceGraph } from '../lib/models/heads.ts';
import { type NativeEngine, native, type Slot } from '../lib/native.ts';
import { adamAt, distance, type EngineOptions, engineFor, numbers } from './support.ts';

const noAvx512 = 'bf16 needs AVX-512: run this on a processor that has it';
const [pairs, size, width] = [4, 32, 16];
const images = numbers(3 * pairs * 3 * size * size, 51);
const targets = numbers(pairs, 52, 5).map(Math.abs);

function network(name: BackboneName): Pick<EngineOptions, 'layers' | 'batch'> {
  const embedding = embeddingWidth(name, { size, width });
  const heads = { embedding, projection: { hidden: embedding, out: 32 }, temperature: 0.2, interPersonal: 1, intraPersonal: 0.3 };
  return { layers: comfaceGraph(backbone(name, { size, width }), heads), batch: 3 * pairs };
}

async function all(engine: NativeEngine, slot: Slot): Promise<Map<string, Float32Array>> {
  const list = slot === 'statistic' ? engine.statistics : engine.parameters;
  return new Map(await Promise.all(list.map(async ({ name }) => [name, await engine.read(slot, name)] as const)));
}

/** Everything that some steps compute; gradients and statistics are those of the first. */
async function steps(engine: NativeEngine, count = 3) {
  await engine.initialize(5n);
  // Residual branches begin small, as is usual: 50 layers with norms over a dozen values would amplify rounding until relus flip.
  for (const { name, dims } of engine.parameters) {
    if (/^layer.*bn3\.weight$/.test(name)) await engine.write('parameter', name, new Float32Array(dims[0]!).fill(0.2));
  }
  const losses: number[][] = [];
  let gradients = new Map<string, Float32Array>();
  let statistics = new Map<string, Float32Array>();
  for (let step = 1; step <= count; step++) {
    losses.push(await engine.forward(images, targets));
    await engine.backward();
    if (step === 1) [gradients, statistics] = [await all(engine, 'gradient'), await all(engine, 'statistic')];
    await engine.update(adamAt(step));
  }
  return { losses, gradients, statistics, weights: await all(engine, 'parameter') };
}

function flat(tensors: Map<string, Float32Array>): Float32Array {
  return new Float32Array(Buffer.concat([...tensors.values()].map((value) => new Uint8Array(value.buffer))).buffer);
}

/** Of all bits; comparing the numbers one by one takes vitest seconds. */
function digest({ losses, gradients, statistics, weights }: Awaited<ReturnType<typeof steps>>): string {
  const hash = createHash('sha256').update(Float64Array.from(losses.flat()));
  for (const tensors of [gradients, statistics, weights]) for (const tensor of tensors.values()) hash.update(tensor);
  return hash.digest('hex');
}

function expectNear(actual: Map<string, Float32Array>, expected: Map<string, Float32Array>, tolerance: number, what: string): void {
  expect([...actual.keys()]).toEqual([...expected.keys()]);
  for (const [name, value] of expected) expect(distance(actual.get(name)!, value), `${what} ${name}`).toBeLessThanOrEqual(tolerance);
}

describe.each(['resnet18', 'resnet50', 'vit_b_16', 'pcl'] as const)('one and three steps of a small %s', (name) => {
  let exact: ReturnType<typeof steps> | undefined;
  const inDouble = () => {
    exact ??= engineFor({ ...network(name), device: 'reference', precision: 'fp64' }).then((engine) => steps(engine));
    return exact;
  };

  test('are in fp32 what the plain loops compute in double', async () => {
    const expected = await inDouble();
    const actual = await steps(await engineFor({ ...network(name), threads: 1 }));
    expect(distance(actual.losses[0]!, expected.losses[0]!), 'losses').toBeLessThanOrEqual(1e-4);
    expectNear(actual.gradients, expected.gradients, 1e-4, 'gradient of');
    expectNear(actual.statistics, expected.statistics, 1e-4, 'statistic');
    // All at once: Adam's first steps go by the sign of a gradient, so a bias near 0 may differ by a whole step where the gradient is near 0.
    expect(distance(flat(actual.weights), flat(expected.weights)), 'weights after three steps').toBeLessThanOrEqual(1e-4);
    expect(distance(actual.losses.flat(), expected.losses.flat()), 'losses of three steps').toBeLessThanOrEqual(1e-4);
  }, 30_000);

  test('are in bf16 as near to double as the plain loops with the same rounding', async ({ skip }) => {
    skip(!native().module.cpu.avx512, noAvx512);
    const expected = await inDouble();
    const plain = await steps(await engineFor({ ...network(name), device: 'reference', precision: 'bf16' }), 1);
    const actual = await steps(await engineFor({ ...network(name), precision: 'bf16', threads: 1 }), 1);
    for (const part of ['gradients', 'statistics'] as const) {
      const error = (of: typeof plain) => distance(flat(of[part]), flat(expected[part]));
      expect(error(actual), part).toBeLessThanOrEqual(1.5 * error(plain));
    }
    expect(distance(actual.losses[0]!, expected.losses[0]!)).toBeLessThanOrEqual(5e-2);
  }, 30_000);
});

test.each((['resnet18', 'vit_b_16', 'pcl'] as const).flatMap((name) => [1, 2, 3].map((threads) => [name, threads] as const)))(
  'the same steps of %s with %i threads give the same bits',
  async (name, threads) => {
    const [first, second] = [await engineFor({ ...network(name), threads }), await engineFor({ ...network(name), threads })];
    const expected = digest(await steps(first, 1));
    expect(digest(await steps(second, 1))).toBe(expected);
    // And again on buffers that the steps before have used.
    expect(digest(await steps(first, 1))).toBe(expected);
  },
  30_000,
);

test('while not training, running statistics are used and the embedding is that of the plain loops', async () => {
  const trained = await steps(await engineFor({ ...network('resnet18'), threads: 1 }));
  const layers = backbone('resnet18', { size, width });
  const embeddings: Float32Array[] = [];
  for (const [device, precision] of [
    ['cpu', 'fp32'],
    ['reference', 'fp64'],
  ] as const) {
    const engine = await engineFor({ layers, batch: 3 * pairs, training: false, device, precision, threads: 1 });
    for (const { name } of engine.parameters) await engine.write('parameter', name, trained.weights.get(name)!);
    for (const { name } of engine.statistics) await engine.write('statistic', name, trained.statistics.get(name)!);
    await engine.forward(images, new Float32Array());
    embeddings.push(await engine.read('value', 'avgpool'));
    for (const { name } of engine.statistics) expect(await engine.read('statistic', name)).toEqual(trained.statistics.get(name)!);
  }
  expect(distance(embeddings[0]!, embeddings[1]!)).toBeLessThanOrEqual(1e-5);
});

test('a convolution whose bf16 gradient oneDNN gets wrong is refused by name, and not beside it', async ({ skip }) => {
  skip(!native().module.cpu.avx512, noAvx512);
  const make = (out: number, edge: number, precision: 'fp32' | 'bf16') =>
    engineFor({
      layers: [
        { op: 'input', name: 'images', channels: 16, height: edge, width: edge },
        { op: 'conv', name: 'conv', input: 'images', out, kernel: 3, stride: 2, pad: 1 },
      ],
      batch: 2,
      precision,
    });
  await expect(make(7, 1, 'bf16')).rejects.toMatchObject({
    code: 'INVALID_CONFIG',
    message: expect.stringMatching(/`conv`.*bf16.*fp32/),
  });
  for (const [out, edge, precision] of [
    [16, 1, 'bf16'],
    [7, 2, 'bf16'],
    [7, 1, 'fp32'],
  ] as const)
    expect((await make(out, edge, precision)).state).toBe('ready');
});
