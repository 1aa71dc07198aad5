// Runs an op case on an engine, and draws cases of random shapes.
// Buffers are poisoned: each case runs first on NaN, so a value that is read before it is written shows.
import { philox } from '../../lib/data/random.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import type { NativeEngine } from '../../lib/native.ts';
import type { OpCase } from '../cases.ts';
import { numbers } from '../support.ts';

/** What goes into a case. */
export interface Inputs {
  images: Float32Array;
  targets: Float32Array;
}

export interface Outcome {
  losses: number[];
  output: Float32Array;
  gradients: Map<string, Float32Array>;
  statistics: Map<string, Float32Array>;
}

const isLoss = (layer: LayerRecord): boolean => layer.op === 'squaredError' || layer.op === 'infoNce';

/** bf16 keeps the sign of what it rounds, so kinks stay where they are only if the inputs are exact in bf16. */
const toBf16 = (x: Float32Array): Float32Array => {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  for (let i = 0; i < words.length; i++) words[i] = ((words[i]! + 0x8000) & 0xffff0000) >>> 0;
  return x;
};

export function inputsOf(c: OpCase, key: number): Inputs {
  const input = c.layers[0] as LayerRecord & { op: 'input' };
  const images = toBf16(numbers(c.batch * input.channels * input.height * input.width, key));
  return { images, targets: numbers(c.layers.at(-1)!.op === 'squaredError' ? c.batch : 0, key + 1) };
}

/**
 * Keyed, generic values for every parameter; a norm's scale stays away from 0. Weights of wide linear layers are small, so that results keep the
 * size of their inputs: scores of attention that leave all but one share nothing would make much of every rounding. So are those of filters.
 */
export function parametersOf(engine: NativeEngine, key: number): Map<string, Float32Array> {
  return new Map(
    engine.parameters.map(({ name, dims }, index) => {
      const count = dims.reduce((a, b) => a * b, 1);
      if (name.endsWith('Filter')) return [name, numbers(count, key + 100 + index, 2.4 / dims[0]!)];
      const values = numbers(count, key + 100 + index, dims.length === 2 ? Math.min(0.8, 1.2 / Math.sqrt(dims[1]!)) : 0.8);
      return [name, toBf16(dims.length === 1 && !name.includes('bias') ? values.map((v) => v + 1.2) : values)];
    }),
  );
}

/** The gradient that enters at the end of a case without a loss. */
export const seedOf = (count: number): Float32Array => toBf16(numbers(count, 77));

async function once(engine: NativeEngine, c: OpCase, { images, targets }: Inputs, seed: Float32Array): Promise<Outcome> {
  const last = c.layers.at(-1)!;
  const losses = await engine.forward(images, targets);
  const output = isLoss(last) ? new Float32Array() : await engine.read('value', last.name);
  if (!isLoss(last)) await engine.write('valueGradient', last.name, seed);
  await engine.backward();
  // A backend that trains drops the gradient of the pictures.
  const ofImages = await engine.read('valueGradient', 'images').catch(() => new Float32Array());
  const gradients = new Map([['images', ofImages]]);
  for (const { name } of engine.parameters) gradients.set(name, await engine.read('gradient', name));
  const statistics = new Map<string, Float32Array>();
  for (const { name } of engine.statistics) statistics.set(name, await engine.read('statistic', name));
  return { losses, output, gradients, statistics };
}

/** What a case gives, after a run on nothing but NaN. */
export async function outcomeOf(
  engine: NativeEngine,
  c: OpCase,
  parameters: ReadonlyMap<string, Float32Array>,
  { images, targets }: Inputs,
  seed: Float32Array,
): Promise<Outcome> {
  for (const [name, value] of parameters) await engine.write('parameter', name, value);
  const poison = { images: new Float32Array(images.length).fill(Number.NaN), targets: new Float32Array(targets.length).fill(Number.NaN) };
  await once(engine, c, poison, new Float32Array(seed.length).fill(Number.NaN));
  for (const { name, dims } of engine.statistics)
    await engine.write('statistic', name, new Float32Array(dims[0]!).fill(name.endsWith('var') ? 1 : 0));
  return once(engine, c, { images, targets }, seed);
}

/** |a - b|^2 / |b|^2, as ggml's tests measure; 0 for two zeros. */
export function nmse(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return difference === 0 ? 0 : difference / Math.max(size, 1e-12);
}

/** The parts of an outcome that another also has, each with its distance. A NaN is infinitely far. */
export function distances(
  actual: Outcome,
  expected: {
    losses: readonly number[];
    output: ArrayLike<number>;
    gradients: ReadonlyMap<string, ArrayLike<number>>;
    statistics: ReadonlyMap<string, ArrayLike<number>>;
  },
): { part: string; value: number }[] {
  const found = [
    { part: 'losses', value: nmse(actual.losses, expected.losses) },
    { part: 'output', value: nmse(actual.output, expected.output) },
  ];
  for (const [name, value] of actual.gradients)
    if (value.length > 0) found.push({ part: `gradient of ${name}`, value: nmse(value, expected.gradients.get(name) ?? []) });
  for (const [name, value] of actual.statistics) found.push({ part: name, value: nmse(value, expected.statistics.get(name) ?? []) });
  return found.map(({ part, value }) => ({ part, value: Number.isNaN(value) ? Number.POSITIVE_INFINITY : value }));
}

/** Whole numbers from keyed draws. */
function dice(key: number): (low: number, high: number) => number {
  let at = 0;
  return (low, high) => low + (philox(11n, 7, key, at++, 0)[0] % (high - low + 1));
}

/** A graph of a kind that goes with `key`, of a random shape: rectangles, one pixel, one channel, what does not divide a vector. */
export function drawnCase(key: number): OpCase {
  const roll = dice(key);
  const kinds = [
    convCase,
    convCase,
    normCase,
    normCase,
    poolCase,
    denseCase,
    rowsCase,
    lossCase,
    blockCase,
    plainCase,
    leakyCase,
    efficientCase,
  ];
  const c = kinds[key % kinds.length]!(roll);
  const ops = c.layers.slice(1).map(({ op }) => op);
  return { ...c, name: `drawn ${key}: ${ops.length > 6 ? 'residual block' : ops.join(', ')}` };
}

type Roll = ReturnType<typeof dice>;

const image = (channels: number, height: number, width: number): LayerRecord => ({ op: 'input', name: 'images', channels, height, width });

function convCase(roll: Roll): OpCase {
  const kernel = roll(1, 5);
  const [pad, stride] = [roll(0, kernel >> 1), roll(1, 3)];
  const edge = () => roll(Math.max(1, kernel - pad), 13);
  const conv: LayerRecord = { op: 'conv', name: 'conv', input: 'images', out: roll(1, 37), kernel, stride, pad, bias: roll(0, 1) === 1 };
  return { name: '', batch: roll(1, 4), layers: [image(roll(1, 37), edge(), edge()), conv] };
}

/** A norm takes away what scales a kernel: of a kernel of one number no gradient is left but rounding, so kernels have a few. */
function normCase(roll: Roll): OpCase {
  const [channels, batch, residual, relu] = [roll(4, 37), roll(3, 5), roll(0, 2), roll(0, 1)];
  const layers: LayerRecord[] = [
    image(channels, roll(2, 7), roll(2, 7)),
    { op: 'conv', name: 'conv', input: 'images', out: channels, kernel: 1, stride: 1, pad: 0 },
    { op: 'batchNorm', name: 'norm', input: 'conv' },
  ];
  if (residual === 1) layers.push({ op: 'add', name: 'add', inputs: ['norm', 'images'] });
  if (residual === 2)
    layers.push(
      { op: 'conv', name: 'skip.0', input: 'images', out: channels, kernel: 1, stride: 1, pad: 0 },
      { op: 'batchNorm', name: 'skip.1', input: 'skip.0' },
      { op: 'add', name: 'add', inputs: ['norm', 'skip.1'] },
    );
  if (relu === 1) layers.push({ op: 'relu', name: 'relu', input: residual === 0 ? 'norm' : 'add' });
  return { name: '', batch, layers };
}

function poolCase(roll: Roll): OpCase {
  const kernel = roll(2, 4);
  const pad = roll(0, kernel >> 1);
  const shape = image(roll(1, 37), roll(kernel, 12), roll(kernel, 12));
  const pool: LayerRecord =
    roll(0, 2) === 0
      ? { op: 'avgPool', name: 'pool', input: 'images' }
      : { op: 'maxPool', name: 'pool', input: 'images', kernel, stride: roll(1, 3), pad, ceil: roll(0, 1) === 1 };
  return { name: '', batch: roll(1, 4), layers: [shape, pool] };
}

function denseCase(roll: Roll): OpCase {
  const linear: LayerRecord = { op: 'linear', name: 'linear', input: 'images', out: roll(1, 70), bias: roll(0, 1) === 1 };
  return { name: '', batch: roll(1, 70), layers: [image(roll(1, 70), 1, 1), linear] };
}

function rowsCase(roll: Roll): OpCase {
  const [of, each] = [roll(2, 4), roll(1, 6)];
  const from = roll(0, of - 2);
  const layers: LayerRecord[] = [
    image(roll(1, 40), 1, 1),
    { op: 'rows', name: 'x', input: 'images', from, to: from + 1, of },
    { op: 'rows', name: 'y', input: 'images', from: of - 1, to: of, of },
    { op: 'reluDifference', name: 'difference', inputs: ['y', 'x'] },
  ];
  return { name: '', batch: of * each, layers: roll(0, 3) === 0 ? layers.slice(0, 2) : layers };
}

function lossCase(roll: Roll): OpCase {
  const kind = roll(0, 3);
  const weight = roll(1, 20) / 8;
  if (kind === 0)
    return { name: '', batch: roll(1, 60), layers: [image(1, 1, 1), { op: 'squaredError', name: 'intra', input: 'images', weight }] };
  const layers: LayerRecord[] = [
    image(roll(2, 40), 1, 1),
    { op: 'linear', name: 'linear', input: 'images', out: roll(2, 24), bias: true },
    { op: 'l2Normalize', name: 'z', input: 'linear' },
  ];
  if (kind > 1) layers.push({ op: 'infoNce', name: 'inter', input: 'z', temperature: roll(1, 16) / 16, weight });
  return { name: '', batch: 2 * roll(2, 80), layers };
}

/** As in a ResNet: stem, residual block with a new width, head with both losses' parts. */
function blockCase(roll: Roll): OpCase {
  const [channels, out, stride, edge] = [roll(4, 16), roll(4, 20), roll(1, 2), roll(6, 9)];
  const layers: LayerRecord[] = [
    image(roll(1, 3), edge, edge),
    { op: 'conv', name: 'stem', input: 'images', out: channels, kernel: 3, stride: 1, pad: 1 },
    { op: 'batchNorm', name: 'stem.norm', input: 'stem' },
    { op: 'relu', name: 'stem.relu', input: 'stem.norm' },
    { op: 'conv', name: 'a', input: 'stem.relu', out, kernel: 3, stride, pad: 1 },
    { op: 'batchNorm', name: 'a.norm', input: 'a' },
    { op: 'conv', name: 'b', input: 'stem.relu', out, kernel: 1, stride, pad: 0 },
    { op: 'batchNorm', name: 'b.norm', input: 'b' },
    { op: 'add', name: 'sum', inputs: ['a.norm', 'b.norm'] },
    { op: 'relu', name: 'sum.relu', input: 'sum' },
    { op: 'avgPool', name: 'pool', input: 'sum.relu' },
    { op: 'linear', name: 'change', input: 'pool', out: 1, bias: true },
    { op: 'squaredError', name: 'intra', input: 'change', weight: 1 },
  ];
  return { name: '', batch: roll(3, 5), layers };
}

/** A leaky relu of an image or a vector, or an image flattened. */
function leakyCase(roll: Roll): OpCase {
  const kind = roll(0, 2);
  const shape = kind === 0 ? image(roll(1, 70), 1, 1) : image(roll(1, 37), roll(2, 9), roll(2, 9));
  const layers: LayerRecord[] = [shape, { op: 'relu', name: 'relu', input: 'images', slope: roll(1, 32) / 32 }];
  if (kind === 2) layers[1] = { op: 'flatten', name: 'flat', input: 'images' };
  return { name: '', batch: roll(2, 6), layers };
}

function efficientCase(roll: Roll): OpCase {
  const heads = roll(1, 3);
  const shape = image(3 * heads * roll(1, 20), roll(1, 13), roll(1, 13));
  return { name: '', batch: roll(1, 3), layers: [shape, { op: 'efficientAttention', name: 'attention', input: 'images', heads }] };
}

/** The ops of one input or two that have no sizes of their own. */
function plainCase(roll: Roll): OpCase {
  const [isVector, kind] = [roll(0, 1) === 1, roll(0, 2)];
  const shape = isVector ? image(roll(1, 70), 1, 1) : image(roll(1, 37), roll(2, 9), roll(2, 9));
  const layers: LayerRecord[] = [shape, { op: 'relu', name: 'relu', input: 'images' }];
  if (kind === 1) layers.push({ op: 'add', name: 'add', inputs: ['images', 'relu'] });
  if (kind === 2 && !isVector) layers[1] = { op: 'batchNorm', name: 'norm', input: 'images' };
  return { name: '', batch: roll(2, 6), layers };
}
