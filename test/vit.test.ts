// Vision transformers beside what the op table, finite differences and PyTorch's goldens say of them: what is refused, and how they begin.
import { describe, expect, test } from 'vitest';
import { backbone, embeddingWidth } from '../lib/models/backbone.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { visionTransformer } from '../lib/models/vit.ts';
import { chooseDevice, type NativeTensorInfo, native } from '../lib/native.ts';
import { timmNames } from './golden/golden.ts';
import { engineFor } from './support.ts';

const images = (channels: number, height: number, width = height): LayerRecord => ({
  op: 'input',
  name: 'images',
  channels,
  height,
  width,
});

describe('layers of tokens are refused by name, with what they expect', () => {
  const classToken = (name: string, input: string): LayerRecord => ({ op: 'tokens', name, input, classToken: true, positions: false });
  const refused: [string, LayerRecord[], RegExp][] = [
    [
      'heads that do not divide the channels',
      [images(12, 2), { op: 'attention', name: 'a', input: 'images', heads: 3 }],
      /`a`: expected heads >= 1 and an input of 3 x heads x any number of channels, not 12 for 3 heads/,
    ],
    ['no heads', [images(12, 2), { op: 'attention', name: 'a', input: 'images', heads: 0 }], /`a`: expected heads >= 1/],
    ['channels that are no three parts', [images(16, 2), { op: 'attention', name: 'a', input: 'images', heads: 1 }], /not 16 for 1 heads/],
    [
      'a position outside',
      [images(12, 2, 3), { op: 'token', name: 't', input: 'images', position: 6 }],
      /`t`: expected a position from 0 to 5/,
    ],
    [
      'two class tokens in one module',
      [images(12, 2), classToken('a', 'images'), classToken('b', 'a')],
      /`b`: its module has a class token or positions already/,
    ],
    ['too many tokens', [images(1, 2 ** 12), classToken('a', 'images')], /`a`: expected fewer than 2\^24 positions/],
    [
      'a vector',
      [images(12, 2), { op: 'avgPool', name: 'v', input: 'images' }, { op: 'layerNorm', name: 'n', input: 'v' }],
      /`n`: expected an image here/,
    ],
  ];
  test.each(refused)('%s', async (_, layers, message) => {
    const { library } = chooseDevice('cpu', 'fp32');
    const make = async () => native().module.createEngine(library, { layers, batch: 2, training: true, precision: 'fp32', threads: 1 });
    await expect(make()).rejects.toMatchObject({ code: 'INVALID_CONFIG', message: expect.stringMatching(message) });
  });
});

test('tokens of two modules have parameters of their own', async () => {
  const layers: LayerRecord[] = [
    images(4, 2),
    { op: 'tokens', name: 'a.tokens', input: 'images', classToken: true, positions: true },
    { op: 'tokens', name: 'b.tokens', input: 'a.tokens', classToken: true, positions: false },
  ];
  const { parameters } = await engineFor({ layers, batch: 2 });
  expect(parameters).toEqual([
    { name: 'a.cls_token', dims: [1, 1, 4] },
    { name: 'a.pos_embed', dims: [1, 5, 4] },
    { name: 'b.cls_token', dims: [1, 1, 4] },
  ]);
});

const countOf = ({ dims }: NativeTensorInfo): number => dims.reduce((a, b) => a * b, 1);

test('vit_b_16 has the 85,798,656 parameters of timm without its classifier, by the names of golden/vit.json', async () => {
  const layers = backbone('vit_b_16', { size: 224 });
  const { parameters } = await engineFor({ layers, batch: 1, training: false });
  expect(parameters.reduce((sum, p) => sum + countOf(p), 0)).toBe(85_798_656);
  expect(Object.fromEntries(parameters.map(({ name, dims }) => [name, dims]))).toEqual(timmNames());
  expect(embeddingWidth('vit_b_16', { size: 224 })).toBe(768);
});

test('a size that cannot be cut into patches is refused with one that can', () => {
  for (const [size, near] of [
    [100, 96],
    [7, 16],
  ] as const)
    expect(() => backbone('vit_b_16', { size })).toThrow(
      expect.objectContaining({
        code: 'INVALID_INPUT',
        message: expect.stringContaining('`size`'),
        hint: expect.stringContaining(`${near}`),
      }),
    );
});

test('parameters begin as timm begins them', async () => {
  const layers = visionTransformer(64, { width: 48, depth: 2, heads: 3 });
  const engine = await engineFor({ layers, batch: 1 });
  await engine.initialize(9n);
  const momentsOf = async (name: string): Promise<{ deviation: number; most: number }> => {
    const values = await engine.read('parameter', name);
    const most = values.reduce((high, v) => Math.max(high, Math.abs(v)), 0);
    return { deviation: Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length), most };
  };
  for (const { name } of engine.parameters) {
    const { deviation, most } = await momentsOf(name);
    const isNorm = /norm\d?\.weight$/.test(name);
    // Uniform in +-1 / sqrt(fan-in), PyTorch's default, which timm leaves for patches.
    const bound = 1 / Math.sqrt(3 * 16 * 16);
    const expected = isNorm ? 1 : name.startsWith('patch_embed') ? bound / Math.sqrt(3) : name === 'cls_token' ? 1e-6 : 0.02;
    if (name.endsWith('bias') && !name.startsWith('patch_embed')) expect(most, name).toBe(0);
    else expect(Math.abs(deviation / expected - 1), name).toBeLessThan(isNorm ? 1e-6 : 0.3);
    if (name.startsWith('patch_embed')) expect(most, name).toBeLessThanOrEqual(bound);
    if (/qkv.weight|pos_embed/.test(name)) expect(most, name).toBeGreaterThan(0.05);
  }
});
