// The gradients of the plain loops against 4-point finite differences of their losses, in double, op by op. Figure N2 does it for a whole network.
import { describe, expect, test } from 'vitest';
import { type LayerRecord, windowsAlong } from '../lib/models/layers.ts';
import type { NativeEngine } from '../lib/native.ts';
import { type OpCase, opCases } from './cases.ts';
import { direction, short, slope, slopeError, values, weightedSum } from './figures/differences.ts';
import { engineFor } from './support.ts';

interface Extent {
  rows: number;
  channels: number;
  height: number;
  width: number;
}

/** Shape of a case's last layer. */
function extentOf({ layers, batch }: OpCase): Extent {
  const shapes = new Map<string, Extent>();
  let last: Extent = { rows: batch, channels: 0, height: 1, width: 1 };
  for (const layer of layers) {
    const from = 'input' in layer ? layer.input : 'inputs' in layer ? layer.inputs[0] : '';
    last = { ...(shapes.get(from) ?? last) };
    if (layer.op === 'input') last = { rows: batch, channels: layer.channels, height: layer.height, width: layer.width };
    if (layer.op === 'conv' || layer.op === 'linear') last.channels = layer.out;
    if (layer.op === 'attention' || layer.op === 'efficientAttention') last.channels /= 3;
    if (layer.op === 'conv' || layer.op === 'maxPool') {
      last = { ...last, height: windowsAlong(last.height, layer), width: windowsAlong(last.width, layer) };
    }
    if (layer.op === 'tokens') last = { ...last, height: last.height * last.width + Number(layer.classToken), width: 1 };
    if (layer.op === 'flatten') last.channels *= last.height * last.width;
    if (layer.op === 'avgPool' || layer.op === 'token' || layer.op === 'flatten') last = { ...last, height: 1, width: 1 };
    if (layer.op === 'rows') last.rows = (last.rows * (layer.to - layer.from)) / layer.of;
    shapes.set(layer.name, last);
  }
  return last;
}

/**
 * Ends a case in a loss that weighs every number of its result differently: a convolution over the whole picture, then the squared error. A sequence
 * is no square: there each number is shifted by one of its own and bent, so that what the average passes back differs.
 */
function withLoss(c: OpCase): { layers: LayerRecord[]; targets: number } {
  const last = c.layers.at(-1)!;
  const { rows, height, width } = extentOf(c);
  if (last.op === 'infoNce') return { layers: c.layers, targets: 0 };
  if (last.op === 'squaredError') return { layers: c.layers, targets: c.batch };
  const weighing: LayerRecord[] =
    height === width
      ? [{ op: 'conv', name: 'weighing', input: last.name, out: 1, kernel: height, stride: 1, pad: 0 }]
      : [
          { op: 'tokens', name: 'end.shifted', input: last.name, classToken: false, positions: true },
          { op: 'gelu', name: 'bent', input: 'end.shifted' },
          { op: 'avgPool', name: 'average', input: 'bent' },
          { op: 'linear', name: 'weighing', input: 'average', out: 1, bias: false },
        ];
  const layers: LayerRecord[] = [...c.layers, ...weighing, { op: 'squaredError', name: 'loss', input: 'weighing', weight: 1 }];
  return { layers, targets: rows };
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
    expect(slopeError(await slope(loss, images, d), gradients.get('images')!, d), 'images').toBeLessThan(1e-4);
    for (const [name, value] of parameters) {
      const along = direction(value.length, 24);
      const at = async (x: Float32Array) => {
        await engine.write('parameter', name, x);
        return loss(images);
      };
      expect(slopeError(await slope(at, value, along), gradients.get(name)!, along), name).toBeLessThan(1e-4);
      await engine.write('parameter', name, value);
    }
  });
});
