// PCL's network beside what the op table, finite differences and PyTorch's numbers (import.test.ts) say of it: its shape, how it begins, what is refused.
import { describe, expect, test } from 'vitest';
import { type BackboneName, backbone, backboneNames, embeddingWidth } from '../lib/models/backbone.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { chooseDevice, native } from '../lib/native.ts';
import { engineFor } from './support.ts';

const images = (channels: number, height: number, width = height): LayerRecord => ({
  op: 'input',
  name: 'images',
  channels,
  height,
  width,
});

test('pcl has sixteen convolutions and two attentions, by the names of its weights, on any size of pictures', async () => {
  const layers = backbone('pcl', { size: 100 });
  const { parameters } = await engineFor({ layers, batch: 1, training: false });
  const weights = parameters
    .filter(({ name }) => name.endsWith('.weight'))
    .map(({ name, dims }) => [name.replace(/\.weight$/, ''), dims.join(' ')]);
  const attentions = weights.filter(([name]) => name!.endsWith('.qkv'));
  expect(attentions).toEqual([
    ['layer1.2.qkv', '192 64 1 1'],
    ['layer2_1.2.qkv', '384 128 1 1'],
  ]);
  expect(weights.filter((each) => !attentions.includes(each))).toEqual([
    ['conv1.0', '64 3 7 7'],
    ['conv1.2', '64 64 3 3'],
    ['layer1.0', '64 64 3 3'],
    ['layer1.3', '64 64 3 3'],
    ['layer2_1.0', '128 64 3 3'],
    ['layer2_1.3', '128 128 3 3'],
    ...['resblock1.conv1', 'resblock1.conv2', 'resblock2.conv1', 'resblock2.conv2'].map((name) => [name, '128 128 3 3']),
    ['layer2_2.0', '128 128 3 3'],
    ['layer2_2.2', '128 128 3 3'],
    ['layer3_1.0', '256 128 3 3'],
    ['layer3_1.2', '128 256 3 3'],
    ['layer3_2_exp.0', '128 128 3 3'],
    ['layer3_2_exp.2', '128 128 3 3'],
  ]);
  // Each with a bias.
  expect(parameters.length).toBe(2 * weights.length);
});

test.each(backboneNames)('the embedding of %s is as wide as embeddingWidth() says', async (name: BackboneName) => {
  for (const size of name === 'pcl' ? [64, 100, 17, 16] : [48]) {
    const layers = backbone(name, { size, width: 16 });
    const engine = await engineFor({ layers, batch: 1, training: false });
    await engine.initialize(1n);
    await engine.forward(new Float32Array(3 * size * size), new Float32Array());
    expect((await engine.read('value', layers.at(-1)!.name)).length, `${size}`).toBe(embeddingWidth(name, { size, width: 16 }));
    engine.dispose();
  }
});

test('the embedding of pcl is that of the paper at 64 and 100 pixels; a width alone is refused', () => {
  expect(embeddingWidth('pcl', { size: 64 })).toBe(2048);
  expect(embeddingWidth('pcl', { size: 100 })).toBe(6272);
  expect(() => embeddingWidth('pcl', 64 as never)).toThrow(
    expect.objectContaining({ code: 'INVALID_INPUT', message: expect.stringContaining('`options`') }),
  );
  expect(() => embeddingWidth('pcl', {} as never)).toThrow(
    expect.objectContaining({ code: 'INVALID_INPUT', message: expect.stringContaining('`size`') }),
  );
});

test('parameters begin as PCL begins them: by the fan-out of each of its convolutions, biases at 0', async () => {
  const { parameters, ...engine } = { ...(await begun()) };
  for (const { name, dims } of parameters) {
    const values = await engine.read(name);
    const deviation = Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
    const out = dims[0]! / (name.includes('.qkv.') ? 3 : 1);
    if (name.endsWith('bias')) expect(deviation, name).toBe(0);
    else expect(Math.abs(deviation / Math.sqrt(2 / (out * dims[2]! * dims[3]!)) - 1), name).toBeLessThan(0.1);
  }
});

async function begun() {
  const engine = await engineFor({ layers: backbone('pcl', { size: 32, width: 16 }), batch: 1 });
  await engine.initialize(9n);
  return { parameters: engine.parameters, read: (name: string) => engine.read('parameter', name) };
}

describe('layers are refused by name, with what they expect', () => {
  const refused: [string, LayerRecord[], RegExp][] = [
    ['a slope below 0', [images(4, 2), { op: 'relu', name: 'r', input: 'images', slope: -0.1 }], /`r`: expected a slope of at least 0/],
    ['a slope without end', [images(4, 2), { op: 'relu', name: 'r', input: 'images', slope: 1e39 }], /`r`: expected a slope of at least 0/],
    [
      'efficient attention of two parts',
      [images(8, 2), { op: 'efficientAttention', name: 'e', input: 'images', heads: 1 }],
      /`e`: expected heads >= 1 and an input of 3 x heads x any number of channels, not 8 for 1 heads/,
    ],
    [
      'flattening beyond every size',
      [images(2 ** 12, 2 ** 6, 2 ** 7), { op: 'flatten', name: 'f', input: 'images' }],
      /`f`: expected sizes from 1 to 2\^24/,
    ],
    [
      'efficient attention among more channels than a machine holds products of',
      [images(3 * 2 ** 21, 1), { op: 'efficientAttention', name: 'e', input: 'images', heads: 1 }],
      /`e`: more than 2\^40 numbers/,
    ],
    [
      'flattening a vector',
      [images(12, 2), { op: 'avgPool', name: 'v', input: 'images' }, { op: 'flatten', name: 'f', input: 'v' }],
      /`f`: expected an image here/,
    ],
    [
      'rows of an image',
      [
        images(4, 1),
        { op: 'conv', name: 'c', input: 'images', out: 4, kernel: 1, stride: 1, pad: 0 },
        { op: 'l2Normalize', name: 'z', input: 'c' },
      ],
      /`z`: expected a vector \(after avgPool, token or flatten\)/,
    ],
  ];
  test.each(refused)('%s', async (_, layers, message) => {
    const { library } = chooseDevice('cpu', 'fp32');
    const make = async () => native().module.createEngine(library, { layers, batch: 2, training: true, precision: 'fp32', threads: 1 });
    await expect(make()).rejects.toMatchObject({ code: 'INVALID_CONFIG', message: expect.stringMatching(message) });
  });
});
