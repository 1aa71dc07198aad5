// The one table of op cases: small graphs that exercise every op alone and in the groups that backends fuse.
// Correctness, finite differences and device parity all read it.
import type { GeneratorRecord, LayerRecord } from '../lib/models/layers.ts';

export interface OpCase {
  name: string;
  batch: number;
  layers: LayerRecord[];
}

const image = (channels: number, height: number, width = height): LayerRecord => ({ op: 'input', name: 'images', channels, height, width });
const vector = (channels: number): LayerRecord => image(channels, 1, 1);

function conv(
  batch: number,
  channels: number,
  size: number,
  out: number,
  kernel: number,
  stride: number,
  pad: number,
  bias = false,
): OpCase {
  return {
    name: `conv ${batch}x${channels}x${size} -> ${out}, kernel ${kernel}, stride ${stride}, pad ${pad}${bias ? ', bias' : ''}`,
    batch,
    layers: [image(channels, size), { op: 'conv', name: 'conv', input: 'images', out, kernel, stride, pad, bias }],
  };
}

/** conv -> norm [-> add of a second path] [-> relu]: what the CPU backend runs as one step. */
function norm(batch: number, channels: number, size: number, kind: 'plain' | 'tensor' | 'normalized', relu: boolean): OpCase {
  const layers: LayerRecord[] = [
    image(channels, size),
    { op: 'conv', name: 'conv', input: 'images', out: channels, kernel: 1, stride: 1, pad: 0 },
    { op: 'batchNorm', name: 'norm', input: 'conv' },
  ];
  let last = 'norm';
  if (kind !== 'plain') {
    layers.push({ op: 'conv', name: 'skip.0', input: 'images', out: channels, kernel: 1, stride: 1, pad: 0 });
    if (kind === 'normalized') layers.push({ op: 'batchNorm', name: 'skip.1', input: 'skip.0' });
    layers.push({ op: 'add', name: 'add', inputs: ['norm', kind === 'normalized' ? 'skip.1' : 'skip.0'] });
    last = 'add';
  }
  if (relu) layers.push({ op: 'relu', name: 'relu', input: last });
  return { name: `norm ${batch}x${channels}x${size}, residual ${kind}${relu ? ', relu' : ''}`, batch, layers };
}

function one(name: string, batch: number, input: LayerRecord, ...layers: LayerRecord[]): OpCase {
  return { name, batch, layers: [input, ...layers] };
}

const attention = (batch: number, input: LayerRecord, heads: number): OpCase => {
  const { channels, height, width } = input as LayerRecord & { op: 'input' };
  const name = `attention, ${heads} heads of ${channels / 3 / heads}, ${height} x ${width} tokens`;
  return one(name, batch, input, { op: 'attention', name: 'attention', input: 'images', heads });
};

const tokens = (classToken: boolean, positions: boolean): LayerRecord => ({
  ...{ op: 'tokens', name: 'tokens', input: 'images' },
  classToken,
  positions,
});

/** What vision transformers add: heads that share vectors, more queries than a block or a tile of them, one token, a whole block. */
const tokenCases: OpCase[] = [
  one('linear at each pixel', 3, image(13, 4), { op: 'linear', name: 'linear', input: 'images', out: 9, bias: true }),
  one('linear at each token', 2, image(16, 11, 1), { op: 'linear', name: 'linear', input: 'images', out: 48, bias: false }),
  one('tokens with class token and positions', 3, image(19, 3), tokens(true, true)),
  one('tokens with a class token', 2, image(16, 2, 3), tokens(true, false)),
  one('tokens with positions', 2, image(16, 2), tokens(false, true)),
  one('tokens alone', 2, image(5, 2), tokens(false, false)),
  one('layer norm of pixels', 3, image(21, 4), { op: 'layerNorm', name: 'norm', input: 'images' }),
  one('layer norm of tokens', 2, image(32, 7, 1), { op: 'layerNorm', name: 'norm', input: 'images', eps: 1e-6 }),
  one('layer norm of one token', 4, image(3, 1), { op: 'layerNorm', name: 'norm', input: 'images' }),
  one('gelu', 2, image(19, 5), { op: 'gelu', name: 'gelu', input: 'images' }),
  one('quick gelu', 2, image(16, 5), { op: 'gelu', name: 'gelu', input: 'images', quick: true }),
  attention(2, image(96, 3), 2),
  attention(2, image(48, 7), 1),
  attention(1, image(3 * 64, 67, 1), 1),
  attention(1, image(30, 6), 2),
  attention(3, image(3 * 24, 1), 3),
  attention(2, image(3 * 7, 5, 1), 7),
  one(
    'attention where other numbers lay, then a layer norm over channels that fill no vector',
    2,
    image(6, 3),
    { op: 'linear', name: 'a', input: 'images', out: 30, bias: true },
    { op: 'linear', name: 'b', input: 'images', out: 30, bias: true },
    { op: 'add', name: 'sum', inputs: ['a', 'b'] },
    { op: 'attention', name: 'attention', input: 'sum', heads: 2 },
    { op: 'layerNorm', name: 'norm', input: 'attention' },
  ),
  one('a token', 3, image(21, 4), { op: 'token', name: 'token', input: 'images', position: 5 }),
  one(
    'a transformer block',
    2,
    image(16, 3),
    tokens(true, true),
    { op: 'layerNorm', name: 'norm1', input: 'tokens' },
    { op: 'linear', name: 'qkv', input: 'norm1', out: 48, bias: true },
    { op: 'attention', name: 'attention', input: 'qkv', heads: 2 },
    { op: 'linear', name: 'proj', input: 'attention', out: 16, bias: true },
    { op: 'add', name: 'middle', inputs: ['tokens', 'proj'] },
    { op: 'layerNorm', name: 'norm2', input: 'middle' },
    { op: 'linear', name: 'fc1', input: 'norm2', out: 40, bias: true },
    { op: 'gelu', name: 'gelu', input: 'fc1' },
    { op: 'linear', name: 'fc2', input: 'gelu', out: 16, bias: true },
    { op: 'add', name: 'end', inputs: ['middle', 'fc2'] },
    { op: 'token', name: 'class', input: 'end', position: 0 },
  ),
];

const efficient = (batch: number, input: LayerRecord, heads: number): OpCase => {
  const { channels, height, width } = input as LayerRecord & { op: 'input' };
  const name = `efficient attention, ${heads} heads of ${channels / 3 / heads}, ${height} x ${width} positions`;
  return one(name, batch, input, { op: 'efficientAttention', name: 'attention', input: 'images', heads });
};

/** What PCL's network adds: heads that share vectors, more positions than a block of them, one position, a whole block. */
const faceCycleCases: OpCase[] = [
  one('leaky relu of an image', 2, image(19, 5), { op: 'relu', name: 'relu', input: 'images', slope: 0.1 }),
  one('leaky relu of a vector', 6, vector(11), { op: 'relu', name: 'relu', input: 'images', slope: 0.25 }),
  one(
    'leaky relu after a norm, which is no step with it',
    3,
    image(16, 4),
    { op: 'conv', name: 'conv', input: 'images', out: 16, kernel: 1, stride: 1, pad: 0 },
    { op: 'batchNorm', name: 'norm', input: 'conv' },
    { op: 'relu', name: 'relu', input: 'norm', slope: 0.1 },
  ),
  one('flatten', 3, image(19, 3, 5), { op: 'flatten', name: 'flat', input: 'images' }),
  one('flatten of one pixel', 2, image(16, 1), { op: 'flatten', name: 'flat', input: 'images' }),
  efficient(2, image(48, 5), 1),
  efficient(1, image(96, 12, 13), 2),
  efficient(2, image(30, 4), 2),
  efficient(2, image(3 * 7, 5, 1), 7),
  efficient(3, image(3 * 24, 1), 3),
  one(
    'an attention block and a residual block, flattened',
    2,
    image(5, 5),
    { op: 'conv', name: 'first', input: 'images', out: 12, kernel: 3, stride: 1, pad: 1, bias: true },
    { op: 'relu', name: 'bent', input: 'first', slope: 0.1 },
    { op: 'conv', name: 'qkv', input: 'bent', out: 36, kernel: 1, stride: 1, pad: 0, bias: true },
    { op: 'efficientAttention', name: 'attention', input: 'qkv', heads: 1 },
    { op: 'add', name: 'sum', inputs: ['bent', 'attention'] },
    { op: 'relu', name: 'act', input: 'sum', slope: 0.1 },
    { op: 'conv', name: 'branch', input: 'act', out: 12, kernel: 3, stride: 1, pad: 1, bias: true },
    { op: 'add', name: 'again', inputs: ['branch', 'act'] },
    { op: 'relu', name: 'end', input: 'again', slope: 0.1 },
    { op: 'flatten', name: 'flat', input: 'end' },
  ),
];

/** Every op, with sizes that do not divide a vector, one pixel, one channel, and the shapes ResNets use. */
export const opCases: OpCase[] = [
  conv(2, 3, 17, 16, 7, 2, 3),
  conv(2, 3, 9, 5, 3, 1, 1, true),
  conv(3, 16, 8, 32, 3, 1, 1),
  conv(3, 32, 8, 16, 3, 2, 1),
  conv(2, 16, 7, 64, 1, 1, 0),
  conv(2, 64, 8, 32, 1, 2, 0),
  conv(2, 5, 6, 7, 3, 2, 1, true),
  conv(1, 1, 3, 1, 1, 1, 0),
  conv(2, 32, 2, 32, 4, 3, 2), // a strided window that stands once
  ...[true, false].flatMap((relu) => (['plain', 'tensor', 'normalized'] as const).map((kind) => norm(3, 16, 6, kind, relu))),
  norm(4, 37, 5, 'plain', true),
  norm(5, 20, 3, 'normalized', true),
  norm(64, 16, 1, 'tensor', true),
  one('norm straight on the input', 3, image(16, 6), { op: 'batchNorm', name: 'norm', input: 'images' }),
  one('relu of an image', 2, image(19, 5), { op: 'relu', name: 'relu', input: 'images' }),
  one('relu of a vector', 6, vector(11), { op: 'relu', name: 'relu', input: 'images' }),
  one(
    'add of images',
    2,
    image(16, 5),
    { op: 'relu', name: 'relu', input: 'images' },
    { op: 'add', name: 'add', inputs: ['images', 'relu'] },
  ),
  one(
    'add of vectors',
    3,
    vector(7),
    { op: 'relu', name: 'relu', input: 'images' },
    { op: 'add', name: 'add', inputs: ['relu', 'images'] },
  ),
  one(
    'an image read three times',
    2,
    image(16, 4),
    { op: 'conv', name: 'a', input: 'images', out: 16, kernel: 1, stride: 1, pad: 0 },
    { op: 'conv', name: 'b', input: 'a', out: 16, kernel: 3, stride: 1, pad: 1 },
    { op: 'add', name: 'c', inputs: ['a', 'b'] },
    { op: 'add', name: 'd', inputs: ['c', 'a'] },
  ),
  one(
    'pictures read by two convolutions',
    4,
    image(3, 16),
    { op: 'conv', name: 'a', input: 'images', out: 16, kernel: 3, stride: 1, pad: 1 },
    { op: 'conv', name: 'b', input: 'images', out: 16, kernel: 1, stride: 1, pad: 0 },
    { op: 'add', name: 'c', inputs: ['a', 'b'] },
  ),
  one('max pool 3/2/1', 2, image(16, 9), { op: 'maxPool', name: 'pool', input: 'images', kernel: 3, stride: 2, pad: 1 }),
  one('max pool 3/2/0 as Caffe has it', 2, image(16, 12), {
    op: 'maxPool',
    name: 'pool',
    input: 'images',
    kernel: 3,
    stride: 2,
    pad: 0,
    ceil: true,
  }),
  one('max pool 2/2/0, odd size', 2, image(21, 7), { op: 'maxPool', name: 'pool', input: 'images', kernel: 2, stride: 2, pad: 0 }),
  one('average pool', 3, image(37, 5), { op: 'avgPool', name: 'pool', input: 'images' }),
  one('average pool of one pixel', 3, image(16, 1), { op: 'avgPool', name: 'pool', input: 'images' }),
  one('linear with bias', 7, vector(13), { op: 'linear', name: 'linear', input: 'images', out: 9, bias: true }),
  one('linear without bias', 64, vector(64), { op: 'linear', name: 'linear', input: 'images', out: 33, bias: false }),
  one('rows', 9, vector(5), { op: 'rows', name: 'rows', input: 'images', from: 1, to: 3, of: 3 }),
  one('normalize', 6, vector(17), { op: 'l2Normalize', name: 'z', input: 'images' }),
  one(
    'relu of a difference',
    6,
    vector(10),
    { op: 'rows', name: 'x', input: 'images', from: 0, to: 1, of: 2 },
    { op: 'rows', name: 'y', input: 'images', from: 1, to: 2, of: 2 },
    { op: 'reluDifference', name: 'difference', inputs: ['y', 'x'] },
  ),
  ...tokenCases,
  ...faceCycleCases,
  ...[4, 10, 64, 130, 200].map((rows) =>
    one(`InfoNCE of ${rows} rows`, rows, vector(rows === 10 ? 1 : 24), {
      op: 'infoNce',
      name: 'inter',
      input: 'images',
      temperature: 0.5,
      weight: 0.7,
    }),
  ),
  one(
    'InfoNCE of normalized rows',
    32,
    vector(16),
    { op: 'l2Normalize', name: 'z', input: 'images' },
    { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.1, weight: 1 },
  ),
  one('squared error', 12, vector(1), { op: 'squaredError', name: 'intra', input: 'images', weight: 1.5 }),
];

/** A style of so many numbers for each sample, made from one pixel of the images. */
const style = (width: number): LayerRecord[] => [
  { op: 'token', name: 'code', input: 'images', position: 0 },
  { op: 'linear', name: 'style', input: 'code', out: width, bias: true },
];

const epilogue = (batch: number, channels: number, height: number, width: number, slope?: number): OpCase => ({
  name: `style epilogue ${batch}x${channels}x${height}x${width}`,
  batch,
  layers: [
    image(channels, height, width),
    ...style(2 * channels),
    { op: 'styleEpilogue', name: 'epilogue', inputs: ['images', 'style'], ...(slope === undefined ? {} : { slope }) },
  ],
});

function modulated(
  batch: number,
  channels: number,
  edge: [number, number],
  out: number,
  kernel: number,
  pad: number,
  demodulate = true,
): OpCase {
  return {
    name: `modulated conv ${batch}x${channels}x${edge.join('x')} -> ${out}, kernel ${kernel}, pad ${pad}${demodulate ? '' : ', not demodulated'}`,
    batch,
    layers: [
      image(channels, ...edge),
      ...style(channels),
      { op: 'modulatedConv', name: 'conv', inputs: ['images', 'style'], out, kernel, pad, demodulate },
    ],
  };
}

function transposed(
  batch: number,
  channels: number,
  edge: [number, number],
  out: number,
  kernel: number,
  stride: number,
  pad: number,
): OpCase {
  const layer: LayerRecord = { op: 'convTranspose', name: 'conv', input: 'images', out, kernel, stride, pad };
  return one(
    `transposed conv ${batch}x${channels}x${edge.join('x')} -> ${out}, ${kernel}/${stride}/${pad}`,
    batch,
    image(channels, ...edge),
    layer,
  );
}

type FilteredRelu = GeneratorRecord & { op: 'filteredRelu' };

/** @param factors up, down, taps of each filter, padLow, padHigh. */
function filtered(batch: number, channels: number, edge: [number, number], factors: number[], more: Partial<FilteredRelu> = {}): OpCase {
  const [up = 1, down = 1, upTaps = 0, downTaps = 0, padLow = 0, padHigh = 0] = factors;
  const sizes = { up, down, upTaps, downTaps, padLow, padHigh };
  return one(
    `filtered relu ${batch}x${channels}x${edge.join('x')}, ${factors.join(' ')}${more.radial ? ', radial' : ''}`,
    batch,
    image(channels, ...edge),
    { op: 'filteredRelu', name: 'filtered', input: 'images', slope: 0.2, gain: Math.SQRT2, clamp: 256, ...sizes, ...more },
  );
}

const fourier = (batch: number, out: number, height: number, width: number, rate: number, bandwidth: number): OpCase =>
  one(`Fourier features ${out}x${height}x${width} of ${batch}`, batch, vector(4), {
    op: 'fourierFeatures',
    name: 'features',
    input: 'images',
    out,
    height,
    width,
    rate,
    bandwidth,
  });

/** What generators add, for inference alone: in one table for the CPU and for CUDA. The end of each is an image, but of the first. */
export const generatorCases: OpCase[] = [
  one('pixel norm', 5, vector(37), { op: 'pixelNorm', name: 'norm', input: 'images' }),
  one('a constant of a vector', 3, vector(8), { op: 'constant', name: 'constant', input: 'images', out: 19, height: 4, width: 5 }),
  one('a constant of an image', 2, image(3, 2), { op: 'constant', name: 'constant', input: 'images', out: 16, height: 4, width: 4 }),
  one('upsample by 2', 2, image(19, 5, 7), { op: 'upsample', name: 'up', input: 'images', up: 2 }),
  one('upsample by 3', 1, image(16, 4, 1), { op: 'upsample', name: 'up', input: 'images', up: 3 }),
  one('upsample by 1', 1, image(5, 3), { op: 'upsample', name: 'up', input: 'images', up: 1 }),
  transposed(2, 32, [6, 7], 16, 4, 2, 1),
  transposed(3, 19, [5, 5], 37, 4, 2, 1),
  transposed(1, 3, [1, 4], 5, 3, 1, 0),
  transposed(2, 16, [3, 3], 16, 3, 3, 2),
  one('blur', 2, image(19, 7, 5), { op: 'blur', name: 'blur', input: 'images' }),
  one('blur of one row', 1, image(16, 1, 9), { op: 'blur', name: 'blur', input: 'images' }),
  one(
    'blur of one pixel',
    3,
    image(5, 1),
    { op: 'upsample', name: 'same', input: 'images', up: 1 },
    { op: 'blur', name: 'blur', input: 'same' },
  ),
  epilogue(2, 16, 5, 7),
  epilogue(3, 37, 4, 4, 0.25),
  epilogue(1, 5, 67, 33),
  fourier(2, 37, 6, 5, 16, 2),
  fourier(3, 16, 9, 9, 4, 0.25),
  modulated(2, 16, [6, 6], 32, 3, 2),
  modulated(3, 37, [5, 7], 19, 3, 1),
  modulated(2, 64, [9, 9], 48, 1, 0),
  modulated(1, 5, [4, 4], 3, 1, 0, false),
  modulated(2, 19, [6, 5], 3, 3, 2, false),
  one(
    'a modulated conv of an image that nobody else reads',
    2,
    image(16, 5),
    ...style(16),
    { op: 'blur', name: 'blur', input: 'images' },
    { op: 'modulatedConv', name: 'conv', inputs: ['blur', 'style'], out: 8, kernel: 3, pad: 2, demodulate: true },
  ),
  filtered(2, 16, [6, 7], [2, 2, 12, 12, 9, 8]),
  filtered(3, 19, [9, 8], [2, 2, 12, 12, 11, 10], { radial: true }),
  filtered(2, 16, [14, 13], [4, 2, 24, 12, -6, -9]),
  filtered(1, 8, [21, 14], [4, 2, 24, 12, -6, -9]),
  filtered(1, 21, [12, 11], [4, 2, 24, 12, -2, -5], { radial: true }),
  filtered(1, 16, [37, 150], [2, 2, 12, 12, -11, -12], { slope: 0.3, clamp: 0.7 }),
  filtered(1, 3, [140, 80], [2, 2, 12, 12, -9, -10], { radial: true, clamp: 0.5 }),
  filtered(2, 3, [7, 5], [1, 1, 0, 0, 0, 0], { slope: 1, gain: 1, clamp: 0.8 }),
  filtered(2, 19, [7, 5], [1, 1, 0, 0, 2, -1], { gain: 0.5 }),
  filtered(1, 16, [9, 10], [1, 2, 0, 12, 6, 5]),
  filtered(1, 16, [9, 10], [2, 1, 12, 0, 6, 5]),
  filtered(2, 5, [6, 5], [1, 4, 3, 7, 5, 9]),
  filtered(1, 5, [6, 5], [4, 1, 9, 3, 5, 2], { radial: true }),
  filtered(1, 8, [5, 4], [3, 2, 7, 5, -3, 4]),
  filtered(1, 8, [5, 4], [4, 4, 5, 3, 4, -2], { radial: true }),
];
