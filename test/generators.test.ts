// The generators' ops on the CPU: against the plain loops in double, the same bits for any threads and batch, what is refused; and the averages of
// images. Against the public implementations they are held in the goldens (test/golden).
import { describe, expect, test } from 'vitest';
import type { LayerRecord } from '../lib/models/layers.ts';
import { type NativeEngine, native } from '../lib/native.ts';
import { generatorCases, type OpCase } from './cases.ts';
import { inputsOf, nmse, parametersOf } from './figures/opruns.ts';
import { type EngineOptions, engineFor, numbers } from './support.ts';

const inference = (c: OpCase, options: Partial<EngineOptions> = {}) =>
  engineFor({ layers: c.layers, batch: c.batch, training: false, ...options });

async function fill(engine: NativeEngine, parameters: ReadonlyMap<string, Float32Array>): Promise<void> {
  for (const [name, value] of parameters) await engine.write('parameter', name, value);
}

/** What a case gives for these images, after a run on nothing but NaN: no number may stay from that. */
async function resultOf(engine: NativeEngine, c: OpCase, images: Float32Array): Promise<Float32Array> {
  await engine.forward(new Float32Array(images.length).fill(Number.NaN), new Float32Array());
  await engine.forward(images, new Float32Array());
  return engine.read('value', c.layers.at(-1)!.name);
}

/** A narrow mapping network, and a synthesis network of each kind: every op behind another, as they are used. */
const networks: OpCase[] = [
  {
    name: 'a mapping network',
    batch: 7,
    layers: [
      { op: 'input', name: 'z', channels: 37, height: 1, width: 1 },
      { op: 'pixelNorm', name: 'normalized', input: 'z' },
      { op: 'linear', name: 'fc0', input: 'normalized', out: 23, bias: true },
      { op: 'relu', name: 'relu0', input: 'fc0', slope: 0.2 },
      { op: 'linear', name: 'fc1', input: 'relu0', out: 9, bias: true },
    ],
  },
  {
    name: 'the layers of StyleGAN',
    batch: 3,
    layers: [
      { op: 'input', name: 'ws', channels: 21, height: 3, width: 1 },
      ...[0, 1, 2].flatMap((l): LayerRecord[] => [
        { op: 'token', name: `w${l}`, input: 'ws', position: l },
        { op: 'linear', name: `style${l}`, input: `w${l}`, out: l === 2 ? 32 : 38, bias: true },
      ]),
      { op: 'constant', name: 'constant', input: 'ws', out: 19, height: 4, width: 4 },
      { op: 'styleEpilogue', name: 'end0', inputs: ['constant', 'style0'] },
      { op: 'upsample', name: 'up', input: 'end0', up: 2 },
      { op: 'conv', name: 'conv1', input: 'up', out: 19, kernel: 3, stride: 1, pad: 1 },
      { op: 'blur', name: 'blur1', input: 'conv1' },
      { op: 'styleEpilogue', name: 'end1', inputs: ['blur1', 'style1'] },
      { op: 'convTranspose', name: 'conv2', input: 'end1', out: 16, kernel: 4, stride: 2, pad: 1 },
      { op: 'blur', name: 'blur2', input: 'conv2' },
      { op: 'styleEpilogue', name: 'end2', inputs: ['blur2', 'style2'] },
      { op: 'conv', name: 'rgb', input: 'end2', out: 3, kernel: 1, stride: 1, pad: 0, bias: true },
    ],
  },
  {
    name: 'the layers of StyleGAN3',
    batch: 3,
    layers: [
      { op: 'input', name: 'ws', channels: 21, height: 3, width: 1 },
      { op: 'token', name: 'w0', input: 'ws', position: 0 },
      { op: 'linear', name: 't', input: 'w0', out: 4, bias: true },
      { op: 'fourierFeatures', name: 'features', input: 't', out: 19, height: 9, width: 9, rate: 4, bandwidth: 0.5 },
      { op: 'linear', name: 'mixed', input: 'features', out: 19, bias: false },
      ...[1, 2].flatMap((l): LayerRecord[] => [
        { op: 'token', name: `w${l}`, input: 'ws', position: l },
        { op: 'linear', name: `style${l}`, input: `w${l}`, out: 19, bias: true },
      ]),
      { op: 'modulatedConv', name: 'conv1', inputs: ['mixed', 'style1'], out: 19, kernel: 3, pad: 2, demodulate: true },
      {
        ...{ op: 'filteredRelu', name: 'relu1', input: 'conv1', up: 4, down: 2, upTaps: 24, downTaps: 12, padLow: -2, padHigh: -5 },
        ...{ radial: true, slope: 0.2, gain: Math.SQRT2, clamp: 256 },
      },
      { op: 'modulatedConv', name: 'conv2', inputs: ['relu1', 'style2'], out: 3, kernel: 1, pad: 0 },
      {
        ...{ op: 'filteredRelu', name: 'rgb', input: 'conv2', up: 1, down: 1, upTaps: 0, downTaps: 0, padLow: 0, padHigh: 0 },
        ...{ slope: 1, gain: 1, clamp: 64 },
      },
    ],
  },
];
const cases = [...generatorCases, ...networks];

describe('the CPU backend agrees with the plain loops in double', () => {
  test.each(cases)('$name', async (c) => {
    const { images } = inputsOf(c, 31);
    const [cpu, plain] = [await inference(c), await inference(c, { device: 'reference', precision: 'fp64' })];
    const parameters = parametersOf(plain, 5);
    for (const engine of [cpu, plain]) await fill(engine, parameters);
    const expected = await resultOf(plain, c, images);
    expect(expected.every(Number.isFinite)).toBe(true);
    expect(expected.some((v) => v !== 0)).toBe(true);
    expect(nmse(await resultOf(cpu, c, images), expected)).toBeLessThan(1e-11);
    const single = await inference(c, { device: 'reference' });
    await fill(single, parameters);
    expect(nmse(await resultOf(single, c, images), expected)).toBeLessThan(1e-11);
  });
});

/** Each row of a square filter below the middle as its mirror image above it. */
function mirrored(filter: Float32Array, taps: number): Float32Array {
  return filter.map((v, i) => {
    const [row, column] = [Math.floor(i / taps), i % taps];
    return row < taps / 2 ? v : filter[(taps - 1 - row) * taps + column]!;
  });
}

const radial = generatorCases.filter(({ layers }) => layers.some((layer) => layer.op === 'filteredRelu' && layer.radial));
test.each(radial)('so do radial filters that are the same from below: $name', async (c) => {
  const { images } = inputsOf(c, 33);
  const [cpu, plain] = [await inference(c), await inference(c, { device: 'reference', precision: 'fp64' })];
  const parameters = parametersOf(plain, 8);
  const { name, dims } = plain.parameters.find((each) => each.name.endsWith('.downFilter'))!;
  parameters.set(name, mirrored(parameters.get(name)!, dims[0]!));
  for (const engine of [cpu, plain]) await fill(engine, parameters);
  const expected = await resultOf(plain, c, images);
  expect(nmse(await resultOf(cpu, c, images), expected)).toBeLessThan(1e-11);
  // One tap away from that, which must not be overlooked.
  parameters.get(name)![dims[0]! + 1]! += 0.5;
  for (const engine of [cpu, plain]) await engine.write('parameter', name, parameters.get(name)!);
  const other = await resultOf(plain, c, images);
  expect(nmse(other, expected)).toBeGreaterThan(1e-6);
  expect(nmse(await resultOf(cpu, c, images), other)).toBeLessThan(1e-11);
});

test.each(cases)('other filters and weights are taken over, the same bits for any number of threads and samples: $name', async (c) => {
  const { images } = inputsOf(c, 32);
  const engine = await inference(c, { threads: 1 });
  await fill(engine, parametersOf(engine, 6));
  await resultOf(engine, c, images);
  const parameters = parametersOf(engine, 7);
  await fill(engine, parameters);
  const expected = Buffer.from((await resultOf(engine, c, images)).buffer);
  for (const threads of [2, 5]) {
    const other = await inference(c, { threads });
    await fill(other, parameters);
    expect(Buffer.from((await resultOf(other, c, images)).buffer).equals(expected), `${threads} threads`).toBe(true);
  }
  const one = { ...c, batch: 1 };
  const alone = await inference(one);
  await fill(alone, parameters);
  const [width, bytes] = [images.length / c.batch, expected.length / c.batch];
  for (let n = 0; n < c.batch; n++) {
    const result = await resultOf(alone, one, images.slice(n * width, (n + 1) * width));
    expect(Buffer.from(result.buffer).equals(expected.subarray(n * bytes, (n + 1) * bytes)), `sample ${n}`).toBe(true);
  }
});

test('however long a chain of layers, it takes the memory of the few images that are needed at once, and of one sample', async () => {
  const chain = (count: number): LayerRecord[] => [
    { op: 'input', name: 'z', channels: 1, height: 1, width: 1 },
    { op: 'constant', name: 'blur0', input: 'z', out: 16, height: 256, width: 256 },
    ...Array.from({ length: count }, (_, i): LayerRecord => ({ op: 'blur', name: `blur${i + 1}`, input: `blur${i}` })),
  ];
  const imageBytes = 4 * 16 * 256 * 256;
  for (const count of [1, 12]) {
    for (const batch of [1, 5]) {
      const { sizeBytes } = await engineFor({ layers: chain(count), batch, training: false });
      // Beside the constant itself and the results.
      expect((sizeBytes - imageBytes * (1 + batch)) / imageBytes, `${count} layers, ${batch} samples`).toBeCloseTo(2, 2);
    }
  }
});

describe('layers of generators are refused by name, with what they expect', () => {
  const input = (channels: number, height: number, width = height): LayerRecord => ({ op: 'input', name: 'x', channels, height, width });
  const relu = { op: 'filteredRelu', name: 'f', input: 'x', up: 2, down: 2, upTaps: 4, downTaps: 4, padLow: 3, padHigh: 3 } as const;
  const filtered = (more: object): LayerRecord[] => [input(4, 5), { ...relu, slope: 0.2, gain: 1, clamp: 1, ...more } as LayerRecord];
  const styled = (out: number, layer: object): LayerRecord[] => [
    input(4, 5),
    { op: 'avgPool', name: 'mean', input: 'x' },
    { op: 'linear', name: 's', input: 'mean', out, bias: false },
    { name: 'c', inputs: ['x', 's'], ...layer } as unknown as LayerRecord,
  ];
  const conv = { op: 'modulatedConv', out: 2, kernel: 3, pad: 1 };
  const fourier = { op: 'fourierFeatures', name: 'w', input: 'x', out: 8, height: 4, width: 4, rate: 8, bandwidth: 1 } as const;
  const refused: [string, LayerRecord[], RegExp][] = [
    ['a norm of pixels', [input(4, 5), { op: 'pixelNorm', name: 'p', input: 'x' }], /`p`: expected a vector per sample as input/],
    [
      'a constant of no pixel',
      [input(4, 1), { op: 'constant', name: 'k', input: 'x', out: 4, height: 0, width: 2 }],
      /`k`: expected out, height and/,
    ],
    [
      'an image that is enlarged too far',
      [input(4, 5), { op: 'upsample', name: 'u', input: 'x', up: 2 ** 23 }],
      /`u`: expected sizes from 1 to 2\^24/,
    ],
    ['an image that is enlarged by 0', [input(4, 5), { op: 'upsample', name: 'u', input: 'x', up: 0 }], /`u`: expected up >= 1/],
    [
      'a transposed convolution that leaves nothing',
      [input(4, 1, 2), { op: 'convTranspose', name: 't', input: 'x', out: 2, kernel: 3, stride: 1, pad: 2 }],
      /`t`: a result of -1 pixels along an edge/,
    ],
    ['a style of the wrong width', styled(4, { op: 'styleEpilogue' }), /`c`: expected a style of 8 numbers for each of 2 samples/],
    [
      'an image as a style',
      [input(4, 5), { op: 'modulatedConv', out: 2, kernel: 3, pad: 1, name: 'c', inputs: ['x', 'x'] }],
      /`c`: expected a style of 4 numbers/,
    ],
    [
      'a style that is an image of one pixel',
      [
        ...styled(4, conv).slice(0, 1),
        { op: 'conv', name: 's', input: 'x', out: 4, kernel: 5, stride: 1, pad: 0 },
        { ...conv, name: 'c', inputs: ['x', 's'] } as LayerRecord,
      ],
      /`c`: expected a vector as style here/,
    ],
    ['padding as wide as the kernel', styled(4, { ...conv, pad: 3 }), /`c`: expected kernel >= 1, stride >= 1 and 0 <= pad < kernel/],
    ['Fourier features of anything but four numbers', [input(5, 1), fourier], /`w`: expected a vector of 4 numbers per sample as input/],
    [
      'a bandwidth beyond what the rate holds',
      [input(4, 1), { ...fourier, bandwidth: 4 }],
      /`w`: expected a bandwidth of at least 0 and a rate above/,
    ],
    ['a new rate without a filter', filtered({ upTaps: 0 }), /`f`: expected a filter where it changes the rate/],
    ['a radial filter of no taps', filtered({ down: 1, downTaps: 0, radial: true }), /`f`: expected downTaps of a radial filter/],
    ['filters wider than the image between them', filtered({ padLow: -5, padHigh: -5 }), /`f`: its filters do not fit an input of 5/],
    ['more taps than there is memory for', filtered({ upTaps: 129 }), /`f`: expected filters of 0 to 128 taps/],
    ['a rate times 17', filtered({ up: 17 }), /`f`: expected up and down from 1 to 16/],
    ['a clamp of 0', filtered({ clamp: 0 }), /`f`: expected gain and clamp above 0/],
    ['a slope below 0', filtered({ slope: -1 }), /`f`: expected a slope of at least 0/],
    [
      'half of what has no half',
      [input(4, 5), { op: 'blur', name: 'b', input: 'x', half: true } as LayerRecord],
      /`b`: only modulatedConv and filteredRelu may be half/,
    ],
    ['an input in half', [{ ...input(4, 5), half: true } as LayerRecord], /`x`: an input is not half/],
    ['a filter in half of an image that is not', filtered({ half: true }), /`f`: is half, but its input is not/],
    [
      'what reads half and is not',
      [...styled(4, { ...conv, half: true }), { ...relu, input: 'c', slope: 0.2, gain: 1, clamp: 1 }],
      /`f`: its input `c` is half, which only modulatedConv and filteredRelu in half read/,
    ],
    [
      'a part of the samples',
      [input(4, 1), { op: 'pixelNorm', name: 'p', input: 'x' }, { op: 'rows', name: 'half', input: 'p', from: 0, to: 1, of: 2 }],
      /`half`: cannot be in a graph with layers of a generator/,
    ],
  ];
  test.each(refused)('%s', async (_, layers, message) => {
    for (const device of ['cpu', 'reference'] as const) {
      // The plain loops take an image of one pixel for a vector.
      if (device === 'reference' && message.source.endsWith('here')) continue;
      const expected = { code: 'INVALID_CONFIG', message: expect.stringMatching(message) };
      await expect(engineFor({ layers, batch: 2, training: false, device })).rejects.toMatchObject(expected);
    }
  });

  test('training', async () => {
    for (const { layers, batch } of generatorCases.slice(0, 14)) {
      const at = layers.find(({ op }) => !['input', 'token', 'linear'].includes(op))!.name;
      const message = `Layer \`${at}\`: is for inference only.`;
      await expect(engineFor({ layers, batch })).rejects.toMatchObject({ code: 'INVALID_CONFIG', message });
    }
  });

  test('a precision of 16 bits, of which CUDA has one', async () => {
    const { layers, batch } = generatorCases[0]!;
    const expected = { code: 'INVALID_CONFIG', message: 'Layer `norm`: expected precision fp32 or fp16.' };
    await expect(engineFor({ layers, batch, training: false, precision: 'bf16' })).rejects.toMatchObject(expected);
    for (const device of ['cpu', 'reference'] as const)
      await expect(engineFor({ layers, batch, training: false, device, precision: 'fp16' })).rejects.toMatchObject({
        code: 'INVALID_CONFIG',
      });
  });
});

describe('images become pictures', () => {
  /** The mean over each pixel's area, from the definition: the image drawn so large that pixels of both sizes are whole. */
  function averages(values: Float32Array, edge: number, size: number): number[] {
    const pixels: number[] = [];
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++)
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let k = 0; k < edge; k++)
            for (let l = 0; l < edge; l++)
              sum += values[(c * edge + Math.floor((i * edge + k) / size)) * edge + Math.floor((j * edge + l) / size)]!;
          pixels.push(Math.max(0, Math.min(255, Math.floor((sum / edge ** 2) * 127.5 + 128))));
        }
    return pixels;
  }

  test.each([
    [8, 4],
    [12, 4],
    [7, 7],
    [10, 4],
    [11, 7],
    [5, 3],
    [9, 1],
  ])('of %i pixels along an edge become %i by area', async (edge, size) => {
    const values = numbers(2 * 3 * edge * edge, edge, 1.2);
    const { bytes, sizes, crcs } = await native().module.encodeImages(values, { count: 2, edge, size, quality: 0 }, 2);
    const each = values.length / 2;
    const expected = [0, 1].map((n) => averages(values.slice(n * each, (n + 1) * each), edge, size));
    expect([...bytes]).toEqual(expected.flat());
    expect(sizes).toEqual([3 * size * size, 3 * size * size]);
    expect(crcs).toEqual(expected.map((pixels) => native().module.crc32c(Uint8Array.from(pixels))));
  });

  test('-1 is black, 0 is 128, 1 and all above are white', async () => {
    const values = Float32Array.from([-1.5, -1, -0.999, -1e-9, 0, 0.999, 1, 7, 1e30].flatMap((v) => [v, v, v]));
    const { bytes } = await native().module.encodeImages(values, { count: 9, edge: 1, size: 1, quality: 0 }, 1);
    expect([...bytes].filter((_, i) => i % 3 === 0)).toEqual([0, 0, 0, 127, 128, 255, 255, 255, 255]);
  });

  test('JPEG is that of the pixels, in order, for any number of threads', async () => {
    const { module } = native();
    const [edge, size, count] = [24, 16, 5];
    const values = numbers(count * 3 * edge * edge, 3, 1.1);
    const raw = await module.encodeImages(values, { count, edge, size, quality: 0 }, 1);
    const [one, many] = [
      await module.encodeImages(values, { count, edge, size, quality: 88 }, 1),
      await module.encodeImages(values, { count, edge, size, quality: 88 }, 4),
    ];
    expect(many).toEqual(one);
    let at = 0;
    for (const [n, length] of one.sizes.entries()) {
      const jpeg = await module.encodeJpeg(raw.bytes.slice(n * 3 * size ** 2, (n + 1) * 3 * size ** 2), size, size, 88);
      expect(one.bytes.subarray(at, at + length)).toEqual(jpeg);
      expect(one.crcs[n]).toBe(module.crc32c(jpeg));
      at += length;
    }
    expect(at).toBe(one.bytes.length);
  });

  test('what is no image is refused', async () => {
    const values = new Float32Array(2 * 3 * 25);
    const set = { count: 2, edge: 5, size: 3, quality: 90 };
    const encode = async (given: unknown, of: object, threads: unknown = 1) =>
      native().module.encodeImages(given as Float32Array, { ...set, ...of }, threads as number);
    const refused: [Promise<unknown>, RegExp][] = [
      [encode(values.subarray(1), {}), /`values`/],
      [encode([...values], {}), /`values`/],
      [encode(values, { size: 6 }), /`size`/],
      [encode(values, { count: 3 }), /`values`/],
      [encode(values, { count: 0 }), /`count`/],
      [encode(values, { edge: 2.5 }), /`edge`/],
      [encode(values, { quality: 101 }), /`quality`/],
      [encode(values, {}, 0), /`threads`/],
      [
        encode(
          values.map((v, i) => (i === 90 ? Number.NaN : v)),
          {},
        ),
        /Expected finite numbers for `values` but picture 1 has others\./,
      ],
    ];
    for (const [call, message] of refused)
      await expect(call).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(message) });
    const shared = new Float32Array(new SharedArrayBuffer(values.byteLength));
    await expect(encode(shared, {})).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});
