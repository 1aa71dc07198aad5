// Vision transformers beside what the op table, finite differences and PyTorch's goldens say of them: what is refused, and how they begin.
import { describe, expect, test } from 'vitest';
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
