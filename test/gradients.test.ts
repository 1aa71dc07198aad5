// The gradients of the plain loops against 4-point finite differences of their losses, in double: op by op, then a whole network.
// Everything crosses the border as fp32, so a tensor and its steps are short binary fractions: x + 2 h d is exact. The steps are tiny, for a relu or
// a maximum that changes sides between two of them has no derivative there; the seeds are ones for which this does not happen.
import { describe, expect, test } from 'vitest';
import { comfaceGraph } from '../lib/models/heads.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { backbone, embeddingWidth } from '../lib/models/resnet.ts';
import type { NativeEngine } from '../lib/native.ts';
import { type OpCase, opCases } from './cases.ts';
import { engineFor, numbers } from './support.ts';

/** Power of 2 above every size in the tensor, not for one of zeros. */
const scaleOf = (x: Float32Array): number => 2 ** Math.ceil(Math.log2(x.reduce((most, v) => Math.max(most, Math.abs(v)), 2 ** -4)));

/** Rounded to 18 bits: neighbors lie 16 steps apart. */
function short(x: Float32Array): Float32Array {
  const grid = scaleOf(x) * 2 ** -18;
  return x.map((v) => Math.round(v / grid) * grid);
}

/** Keyed numbers with a distance from 0, where relu has its kink. */
const values = (count: number, seed: number, spread = 1.5): Float32Array =>
  short(numbers(count, seed, spread).map((v) => v + Math.sign(v) * 0.03));

/** -1, 0 and 1. */
const direction = (count: number, seed: number): Float32Array => numbers(count, seed, 1.5).map(Math.round);

interface Extent {
  rows: number;
  channels: number;
  size: number;
}

/** Shape of a case's last layer; pictures are square. */
function extentOf({ layers, batch }: OpCase): Extent {
  const shapes = new Map<string, Extent>();
  let last: Extent = { rows: batch, channels: 0, size: 1 };
  for (const layer of layers) {
    const from = 'input' in layer ? layer.input : 'inputs' in layer ? layer.inputs[0] : '';
    last = { ...(shapes.get(from) ?? last) };
    if (layer.op === 'input') last = { rows: batch, channels: layer.channels, size: layer.height };
    if (layer.op === 'conv' || layer.op === 'linear') last.channels = layer.out;
    if (layer.op === 'conv' || layer.op === 'maxPool')
      last.size = Math.floor((last.size + 2 * layer.pad - layer.kernel) / layer.stride) + 1;
    if (layer.op === 'avgPool') last.size = 1;
    if (layer.op === 'rows') last.rows = (last.rows * (layer.to - layer.from)) / layer.of;
    shapes.set(layer.name, last);
  }
  return last;
}

/** Ends a case in a loss that weighs every number of its result differently: a convolution over the whole picture, then the squared error. */
function withLoss(c: OpCase): { layers: LayerRecord[]; targets: number } {
  const last = c.layers.at(-1)!;
  const { rows, size } = extentOf(c);
  if (last.op === 'infoNce') return { layers: c.layers, targets: 0 };
  if (last.op === 'squaredError') return { layers: c.layers, targets: c.batch };
  const layers: LayerRecord[] = [
    ...c.layers,
    { op: 'conv', name: 'weighing', input: last.name, out: 1, kernel: size, stride: 1, pad: 0 },
    { op: 'squaredError', name: 'loss', input: 'weighing', weight: 1 },
  ];
  return { layers, targets: rows };
}

/** Weighted sum of the losses, as backward() takes it. */
const weightedSum = (layers: readonly LayerRecord[]) => {
  const weights = layers.flatMap((layer) => ('weight' in layer ? [layer.weight] : []));
  return (losses: readonly number[]): number => losses.reduce((sum, loss, i) => sum + loss * weights[i]!, 0);
};

/** Derivative of `f` at x along `d` by f(-2h), f(-h), f(h), f(2h): error O(h^4). */
async function slope(f: (x: Float32Array) => Promise<number>, x: Float32Array, d: Float32Array): Promise<number> {
  const h = scaleOf(x) * 2 ** -22;
  const at = (k: number) => f(x.map((v, i) => v + k * h * d[i]!));
  return (8 * ((await at(1)) - (await at(-1))) - ((await at(2)) - (await at(-2)))) / (12 * h);
}

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

/** How far a derivative may lie from the gradient's: relative to it, and to the largest that this direction could give. */
function expectSlope(found: number, gradient: Float32Array, d: Float32Array, tolerance: number, name: string): void {
  const expected = dot(gradient, d);
  const scale = Math.max(Math.abs(expected), 0.01 * Math.sqrt(dot(gradient, gradient) * dot(d, d)), 1e-7);
  expect(Math.abs(found - expected) / scale, `${name}: differences ${found}, gradient ${expected}`).toBeLessThan(tolerance);
}

async function setParameters(engine: NativeEngine): Promise<Map<string, Float32Array>> {
  const parameters = new Map<string, Float32Array>();
  for (const [index, { name, dims }] of engine.parameters.entries()) {
    const count = dims.reduce((a, b) => a * b, 1);
    // A norm's scale stays away from 0.
    const drawn = values(count, 300 + index, 0.8);
    parameters.set(name, dims.length === 1 && !name.includes('bias') ? short(drawn.map((v) => v + 1.25)) : drawn);
    await engine.write('parameter', name, parameters.get(name)!);
  }
  return parameters;
}

describe('finite differences of the plain loops agree with their gradients to 1e-4', () => {
  test.each(opCases)('$name', async (c) => {
    const { layers, targets: count } = withLoss(c);
    const engine = await engineFor({ layers, batch: c.batch, device: 'reference', precision: 'fp64' });
    const parameters = await setParameters(engine);
    const input = c.layers[0] as LayerRecord & { op: 'input' };
    const images = values(c.batch * input.channels * input.height * input.width, 21);
    const targets = values(count, 22);
    const total = weightedSum(layers);
    const loss = async (pictures: Float32Array) => total(await engine.forward(pictures, targets));
    await loss(images);
    await engine.backward();
    const gradients = new Map([['images', await engine.read('valueGradient', 'images')]]);
    for (const name of parameters.keys()) gradients.set(name, await engine.read('gradient', name));

    const d = direction(images.length, 23);
    expectSlope(await slope(loss, images, d), gradients.get('images')!, d, 1e-4, 'images');
    for (const [name, value] of parameters) {
      const along = direction(value.length, 24);
      const at = async (x: Float32Array) => {
        await engine.write('parameter', name, x);
        return loss(images);
      };
      expectSlope(await slope(at, value, along), gradients.get(name)!, along, 1e-4, name);
      await engine.write('parameter', name, value);
    }
  });
});

test('finite differences of a whole ComFace network agree with its gradients to 1e-3', async () => {
  const [pairs, size, width] = [2, 32, 16];
  const embedding = embeddingWidth('resnet18', width);
  const heads = { embedding, projection: { hidden: 32, out: 16 }, temperature: 0.5, interPersonal: 1, intraPersonal: 0.5 };
  const layers = comfaceGraph(backbone('resnet18', { size, width }), heads);
  const engine = await engineFor({ layers, batch: 3 * pairs, device: 'reference', precision: 'fp64' });
  await engine.initialize(3n);
  const images = values(3 * pairs * 3 * size * size, 31);
  const targets = values(pairs, 32, 4);
  const total = weightedSum(layers);
  const names = [
    'conv1.weight',
    'bn1.bias',
    'layer2.0.bn1.weight',
    'layer2.0.downsample.0.weight',
    'layer4.1.conv2.weight',
    'projection.0.weight',
    'change.weight',
  ];
  for (const name of names) {
    const value = short(await engine.read('parameter', name));
    const at = async (x: Float32Array) => {
      await engine.write('parameter', name, x);
      return total(await engine.forward(images, targets));
    };
    await at(value);
    await engine.backward();
    const gradient = await engine.read('gradient', name);
    const d = direction(value.length, 33);
    expectSlope(await slope(at, value, d), gradient, d, 1e-3, name);
    expect(
      gradient.some((g) => g !== 0),
      name,
    ).toBe(true);
    await at(value);
  }
}, 30_000);
