// StyleGAN and StyleGAN3 as records and tensors: what a file holds is found whatever its container, in the shapes and scales of the reference, and what is
// missing, odd or something else is named.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type GeneratorFile, readGenerator } from '../lib/generate/file.ts';
import { latentOf, shifted, truncated } from '../lib/generate/latents.ts';
import { stylegan1Synthesis, summedKernels } from '../lib/generate/stylegan1.ts';
import { defaultSettings, stylegan3Design, stylegan3Synthesis, stylegan3Table } from '../lib/generate/stylegan3.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { native } from '../lib/native.ts';
import { memoryPlace, rowMajor, StoredTensor, storageIn } from '../lib/weights/stored.ts';
import {
  lernapparatState,
  moved,
  nvidiaFile,
  persistent,
  type StateDict,
  small3,
  stylegan1State,
  stylegan3State,
  tensorFlowFile,
  tensorFlowState,
  text,
  torchFile,
} from './generators.ts';
import { distance, numbers, refusal, temporaryFolder } from './support.ts';

function fileOf(bytes: Uint8Array, name = 'weights'): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, bytes);
  return path;
}
const read = (bytes: Uint8Array): Promise<GeneratorFile> => readGenerator(fileOf(bytes));

/** What a graph wants, as the native code lists it. */
async function wantedBy(layers: readonly LayerRecord[]): Promise<Record<string, number[]>> {
  const engine = await native().module.createEngine('', { layers, batch: 1, training: false, precision: 'fp32', threads: 1 });
  try {
    return Object.fromEntries(engine.parameters.map(({ name, dims }) => [name, dims]));
  } finally {
    engine.dispose();
  }
}
const shapesOf = ({ weights }: GeneratorFile['mapping']): Record<string, number[]> =>
  Object.fromEntries([...weights].map(([name, { shape }]) => [name, shape]));

/** The value of a graph's last layer, by the plain loops. */
async function run({ layers, weights }: GeneratorFile['mapping'], input: Float32Array): Promise<Float32Array> {
  const engine = await native().module.createEngine('', { layers, batch: 1, training: false, precision: 'fp32', threads: 1 });
  try {
    for (const { name } of engine.parameters) await engine.write('parameter', name, weights.get(name)!.data as Float32Array);
    await engine.forward(input, new Float32Array());
    return await engine.read('value', layers.at(-1)!.name);
  } finally {
    engine.dispose();
  }
}

const firstState = stylegan1State();
/** Transposed convolutions begin at 128 pixels in all files but genforce's, which say it themselves. */
const plainState = stylegan1State({ fusedFrom: 1024 });

describe('every container of StyleGAN', () => {
  test.each<[string, () => Uint8Array, StateDict, string]>([
    ['of genforce', () => torchFile(firstState), firstState, 'a StyleGAN of genforce'],
    ['of TensorFlow', () => tensorFlowFile(plainState), plainState, "NVIDIA's StyleGAN"],
    ['of TensorFlow with every layer fused', () => tensorFlowFile(plainState, { fused_scale: '\x88' }), plainState, "NVIDIA's StyleGAN"],
    ['of lernapparat', () => torchFile(lernapparatState(plainState)), plainState, 'a StyleGAN of lernapparat'],
  ])('%s gives the tensors that the graphs want', async (what, make, state, title) => {
    const file = await read(make());
    expect(file).toMatchObject({ family: 'stylegan1', title, resolution: 16, z: 16, w: 16, layers: 6 });
    for (const graph of [file.mapping, file.synthesis]) expect(shapesOf(graph)).toEqual(await wantedBy(graph.layers));
    const { weights } = file.synthesis;
    const scale = Math.sqrt(2) / Math.sqrt(9 * 8);
    const conv1 = state['synthesis.layer1.conv.weight']!.data;
    expect(weights.get('layer1.conv.weight')!.data).toEqual(conv1.map((value) => value * scale));
    const style = state['synthesis.layer3.epilogue.style_mod.dense.linear.weight']!.data;
    expect(weights.get('layer3.style.weight')!.data).toEqual(style.map((value) => value / 4));
    const dense = state['mapping.dense1.linear.weight']!.data;
    expect(
      distance(
        file.mapping.weights.get('dense1.weight')!.data as Float32Array,
        dense.map((value) => (value * Math.SQRT2) / 400),
      ),
    ).toBeLessThan(1e-6);
    expect(
      distance(
        file.mapping.weights.get('dense1.bias')!.data as Float32Array,
        state['mapping.dense1.wscale.bias']!.data.map((v) => v / 100),
      ),
    ).toBeLessThan(1e-6);
    const isFused = what.includes('fused') || what === 'of genforce';
    expect(weights.get('layer4.conv.weight')!.shape).toEqual(isFused ? [8, 4, 4, 4] : [4, 8, 3, 3]);
    if (what === 'of lernapparat') {
      expect([file.average, file.isNoiseDrawn]).toEqual([undefined, true]);
      const noise = weights.get('layer5.noise')!.data as Float32Array;
      expect(Math.sqrt(noise.reduce((sum, value) => sum + value ** 2, 0) / noise.length)).toBeGreaterThan(0.8);
    } else {
      expect([file.average, file.isNoiseDrawn]).toEqual([state['truncation.w_avg']!.data, false]);
      expect(weights.get('layer5.noise')!.data).toEqual(state['synthesis.layer5.epilogue.apply_noise.noise']!.data);
    }
  });

  test('pictures of one network are the same from every container', async () => {
    const ws = numbers(6 * 16, 5);
    const images = [];
    for (const bytes of [torchFile(plainState), tensorFlowFile(plainState)]) images.push(await run((await read(bytes)).synthesis, ws));
    expect(images[0]).toHaveLength(3 * 16 * 16);
    expect(images[1]).toEqual(images[0]);
  });
});

test('summed kernels of 4 x 4 up-sample as the definition of a transposed convolution says', () => {
  const kernel = Float32Array.from({ length: 9 }, (_, i) => i + 1);
  // The zero-padded kernel added to itself, shifted by one pixel right, down, and both.
  expect([...summedKernels(kernel, 1, 1)]).toEqual([1, 3, 5, 3, 5, 12, 16, 9, 11, 24, 28, 15, 7, 15, 17, 9]);
});

test('StyleGAN at 1024 has the layers of the reference: eighteen, transposed convolutions from 128 on, blur after each up-sampling', () => {
  const channels = [512, 512, 512, 512, 512, 512, 512, 512, 256, 256, 128, 128, 64, 64, 32, 32, 16, 16];
  const fused = channels.map((_, l) => l % 2 === 0 && l >= 10);
  const layers = stylegan1Synthesis({ resolution: 1024, z: 512, mapping: Array(8).fill(512), channels, fused });
  const count = (op: string) => layers.filter((layer) => layer.op === op).length;
  expect(['styleEpilogue', 'token', 'upsample', 'convTranspose', 'blur', 'constant'].map(count)).toEqual([18, 18, 4, 4, 8, 1]);
  expect(count('conv')).toBe(18 - 1 - 4 + 1);
  expect(layers[0]).toMatchObject({ channels: 512, height: 18, width: 1 });
  expect(layers.at(-1)).toMatchObject({ op: 'conv', out: 3, kernel: 1, bias: true });
});

/** The published table: edge, rates in and out, factors up and down, cutoff, half-width, padding of T and R. */
const table: [number, number, number, number, number, number, number, [number, number], [number, number]][] = [
  [36, 16, 16, 2, 2, 2.0, 6.0, [9, 8], [11, 10]],
  [36, 16, 16, 2, 2, 3.1748, 4.8252, [9, 8], [11, 10]],
  [52, 16, 32, 4, 2, 5.0397, 10.9603, [-6, -9], [-2, -5]],
  [52, 32, 32, 2, 2, 8.0, 8.0, [9, 8], [11, 10]],
  [84, 32, 64, 4, 2, 12.6992, 19.3008, [-6, -9], [-2, -5]],
  [148, 64, 128, 4, 2, 20.1587, 43.8413, [-6, -9], [-2, -5]],
  [148, 128, 128, 2, 2, 32.0, 32.0, [9, 8], [11, 10]],
  [276, 128, 256, 4, 2, 50.7968, 77.2032, [-6, -9], [-2, -5]],
  [276, 256, 256, 2, 2, 80.6349, 47.3651, [9, 8], [11, 10]],
  [532, 256, 512, 4, 2, 128.0, 128.0, [-6, -9], [-2, -5]],
  [1044, 512, 1024, 4, 2, 203.1873, 308.8127, [-6, -9], [-2, -5]],
  [1044, 1024, 1024, 2, 2, 322.5398, 189.4602, [9, 8], [11, 10]],
  [1044, 1024, 1024, 2, 2, 512, 118.3459, [9, 8], [11, 10]],
  [1024, 1024, 1024, 2, 2, 512, 118.3459, [-11, -12], [-9, -10]],
  [1024, 1024, 1024, 1, 1, 512, 118.3459, [0, 0], [0, 0]],
];
const channelsOf = {
  t: [512, 512, 512, 512, 512, 512, 512, 323, 203, 128, 81, 51, 32, 32, 3],
  r: [1024, 1024, 1024, 1024, 1024, 1024, 1024, 645, 406, 256, 161, 102, 64, 64, 3],
};

/** Shapes without numbers: those of 1024 pixels would be a hundred megabytes. */
const shapesOnly = (state: Record<string, number[]>) => ({
  path: 'x',
  tensors: new Map(
    Object.entries(state).map(([name, shape]) => {
      const layout = { shape, strides: rowMajor(shape), offset: 0 };
      return [name, new StoredTensor(storageIn(memoryPlace(new Uint8Array(), 'x'), 'F32'), layout)];
    }),
  ),
});

describe('StyleGAN3 at 1024', () => {
  test('has the published layer table by its formulas', () => {
    const rows = stylegan3Table(1024, 14, defaultSettings);
    expect(rows).toHaveLength(15);
    for (const [i, row] of rows.entries()) {
      const [size, rateIn, rateOut, up, down, cutoff, halfWidth] = table[i]!;
      expect({ i, ...row, cutoff: row.cutoff.toFixed(3), halfWidth: row.halfWidth.toFixed(3) }).toEqual({
        ...{ i, size, rateIn, rateOut, up, down },
        ...{ cutoff: cutoff.toFixed(3), halfWidth: halfWidth.toFixed(3) },
        isHalf: i >= 5, // in its public implementation, on CUDA
      });
    }
  });

  test.each(['t', 'r'] as const)('configuration %s has the published padding, channels and filters', (which) => {
    const isRadial = which === 'r';
    const channels = channelsOf[which];
    const shapes: Record<string, number[]> = { 'mapping.fc0.weight': [512, 512], 'mapping.fc1.weight': [512, 512] };
    shapes['synthesis.input.freqs'] = [channels[0]!, 2];
    for (const [i, [size, , , up]] of table.entries()) {
      const name = `synthesis.L${i}_${size}_${channels[i]}`;
      const kernel = isRadial || i === 14 ? 1 : 3;
      shapes[`${name}.weight`] = [channels[i]!, channels[Math.max(0, i - 1)]!, kernel, kernel];
      if (i === 14) continue;
      shapes[`${name}.up_filter`] = [6 * up];
      shapes[`${name}.down_filter`] = isRadial && i < 12 ? [12, 12] : [12];
    }
    const design = stylegan3Design(shapesOnly(shapes), defaultSettings);
    expect(design.layers.map(({ padLow, padHigh }) => [padLow, padHigh])).toEqual(table.map((row) => row[isRadial ? 8 : 7]));
    expect(design.layers.map(({ out }) => out)).toEqual(channels);
    expect(design.layers.map((layer) => layer.isRadial)).toEqual(table.map((_, i) => isRadial && i < 12));
    expect(design.input).toEqual({ channels: channels[0], size: 36, rate: 16, bandwidth: 2 });
    const layers = stylegan3Synthesis(design);
    expect(layers[0]).toMatchObject({ height: 16 });
    expect(layers.filter(({ op }) => op === 'filteredRelu').at(-1)).toMatchObject({ upTaps: 0, downTaps: 0, slope: 1, gain: 1, clamp: 64 });
    expect(layers.filter(({ op }) => op === 'modulatedConv').map((layer) => (layer as { demodulate?: boolean }).demodulate)).toEqual([
      ...Array(14).fill(true),
      false,
    ]);
  });
});

describe('every container of StyleGAN3', () => {
  const states = { t: small3(), r: small3(true) };
  test.each<[string, StateDict, () => Uint8Array, string]>([
    ['a state dict of a T', states.t, () => torchFile(states.t), 'stylegan3-t'],
    ['a state dict of an R', states.r, () => torchFile(states.r), 'stylegan3-r'],
    ["NVIDIA's pickle", states.r, () => nvidiaFile(states.r), 'stylegan3-r'],
  ])('%s gives the tensors that the graphs want', async (_, state, make, family) => {
    const file = await read(make());
    expect(file).toMatchObject({ family, resolution: 16, z: 16, w: 16, layers: 6, average: state['mapping.w_avg']!.data });
    for (const graph of [file.mapping, file.synthesis]) expect(shapesOf(graph)).toEqual(await wantedBy(graph.layers));
    const { weights } = file.synthesis;
    expect((weights.get('L1_36_8.conv.gain')!.data as Float32Array)[0]).toBeCloseTo(1 / Math.sqrt(0.7), 6);
    const last = state['synthesis.L4_16_3.weight']!.data;
    expect(weights.get('L4_16_3.conv.weight')!.data).toEqual(last.map((value) => value * 0.25));
    const affine = state['synthesis.L4_16_3.affine.weight']!.data;
    expect(
      distance(
        weights.get('L4_16_3.affine.weight')!.data as Float32Array,
        affine.map((value) => value / 4 / Math.sqrt(4)),
      ),
    ).toBeLessThan(1e-6);
    const fc = state['mapping.fc0.weight']!.data;
    expect(
      distance(
        file.mapping.weights.get('fc0.weight')!.data as Float32Array,
        fc.map((value) => (value * 0.01 * Math.SQRT2) / 4),
      ),
    ).toBeLessThan(1e-6);
  });

  test('the transformation of the input is the identity where a file has none', async () => {
    const { synthesis } = await read(torchFile(small3(false, false)));
    expect([...(synthesis.weights.get('input.features.transform')!.data as Float32Array)]).toEqual([1, 0, 0, 0, 1, 0, 0, 0, 1]);
  });

  test('pictures of one network are the same from a state dict and a pickle', async () => {
    const ws = numbers(6 * 16, 5);
    const images = [];
    for (const bytes of [torchFile(states.r), nvidiaFile(states.r)]) images.push(await run((await read(bytes)).synthesis, ws));
    expect(images[0]).toHaveLength(3 * 16 * 16);
    expect(images[1]).toEqual(images[0]);
    expect(images[0]!.some((value) => Math.abs(value) > 1e-3)).toBe(true);
  });
});

describe('a file that is not as it should be is refused by name', () => {
  const without = (name: string): StateDict => Object.fromEntries(Object.entries(firstState).filter(([key]) => key !== name));
  const noise = 'synthesis.layer2.epilogue.apply_noise.noise';
  test.each<[string, () => Uint8Array, RegExp, string]>([
    [
      'a tensor that is missing',
      () => torchFile(without(noise)),
      /none called synthesis\.layer2\.epilogue\.apply_noise\.noise/,
      'INVALID_INPUT',
    ],
    [
      'one of another shape',
      () => torchFile({ ...firstState, [noise]: { shape: [1, 1, 4, 4], data: new Float32Array(16) } }),
      /\[1, 1, 8, 8\] for synthesis\.layer2\.\S+ of .* found \[1, 1, 4, 4\]/,
      'INVALID_INPUT',
    ],
    [
      'one that no layer has',
      () => torchFile({ ...firstState, 'mapping.extra.weight': moved(firstState[noise]!, [0, 1, 2, 3]) }),
      /mapping\.extra\.weight besides/,
      'INVALID_INPUT',
    ],
    [
      'a number that is none',
      () => torchFile({ ...firstState, 'truncation.w_avg': { shape: [16], data: new Float32Array(16).fill(Number.NaN) } }),
      /truncation\.w_avg/,
      'NOT_FINITE',
    ],
    ['half a file', () => torchFile(firstState).subarray(0, 9000), /expected/, 'CORRUPT_FILE'],
    [
      "rosinality's StyleGAN",
      () => torchFile({ 'generator.progression.0.conv1.weight': firstState[noise]! }),
      /rosinality/,
      'INVALID_INPUT',
    ],
    ['a StyleGAN2', () => torchFile({ 'synthesis.b4.const': firstState[noise]! }), /a StyleGAN2/, 'INVALID_INPUT'],
    [
      'a network of comface',
      () => torchFile({ 'conv1.weight': firstState[noise]!, 'change.weight': firstState[noise]! }),
      /comface trained/,
      'INVALID_INPUT',
    ],
    ['a ResNet', () => torchFile({ 'layer1.0.conv1.weight': firstState[noise]! }), /embeds pictures/, 'INVALID_INPUT'],
    ['anything else', () => torchFile({ a: firstState[noise]! }), /1 tensor: a/, 'INVALID_INPUT'],
    [
      'a StyleGAN3 of other margins',
      () => torchFile(stylegan3State({ sizes: [32, 32, 32, 16, 16], channels: [8, 8, 6, 4, 3], ups: [2, 2, 2, 2] })),
      /36 x 36 from layer 0/,
      'INVALID_INPUT',
    ],
    [
      'one that wants labels',
      () => torchFile({ ...small3(), 'mapping.embed.weight': firstState[noise]! }),
      /one that wants them/,
      'INVALID_INPUT',
    ],
  ])('%s', async (_, make, message, code) => {
    const error = await refusal(() => read(make()));
    expect({ code: error.code, message: error.message }).toEqual({ code, message: expect.stringMatching(message) });
    expect(error.hint).toBeTruthy();
  });

  test.each<[string, string, RegExp]>([
    ['code in place of a module', `${'}('}${text('G_ema')}cos\nsystem\n(${text('id')}tRu`, /`os\.system`/],
    ['code in the state of a module', `}(${text('G_ema')}${persistent('Generator', 'cbuiltins\neval\n')}u`, /`builtins\.eval`/],
    ['a state that is a number', persistent('Generator', 'K\x05'), /the class and the state of an object/],
    ['tensors that are a list', persistent('Generator', `}(${text('_buffers')}]u`), /a dict for _buffers/],
    ['arguments of a network', 'cdnnlib.tflib.network\nNetwork\n(K\x01tR', /no arguments/],
    ['a state of a network that is none', 'cdnnlib.tflib.network\nNetwork\n)\x81K\x01b', /a dict of attributes/],
  ])('a hostile pickle: %s', async (_, opcodes, message) => {
    const error = await refusal(() => read(Buffer.from(`\x80\x02${opcodes}.`, 'latin1')));
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/ at byte \d+ /);
  });

  test('a module that holds itself is read to its end', async () => {
    const loop = `}q\x00(${text('_modules')}h\x00u0${persistent('Generator', 'h\x00')}`;
    const error = await refusal(() => read(Buffer.from(`\x80\x02${loop}.`, 'latin1')));
    expect(error.code).toBe('INVALID_INPUT');
  });
});

test('the source text that a pickle brings along stays text', async () => {
  // persistent() and networkInPickle() write `raise SystemExit` there.
  expect((await read(nvidiaFile(small3()))).family).toBe('stylegan3-t');
});

describe('between the graphs', () => {
  test('a subject has the same z each time, another has another, and all are of the length that directions of Z were learned at', () => {
    const z = latentOf(7, 1n, 512);
    expect(latentOf(7, 1n, 512)).toEqual(z);
    expect(distance(latentOf(8, 1n, 512), z)).toBeGreaterThan(0.5);
    expect(distance(latentOf(7, 2n, 512), z)).toBeGreaterThan(0.5);
    expect(Math.sqrt(z.reduce((sum, value) => sum + value ** 2, 0))).toBeCloseTo(Math.sqrt(512), 4);
    const all = Array.from({ length: 50 }, (_, subject) => [...latentOf(subject, 1n, 512)]).flat();
    expect(all.reduce((sum, value) => sum + value, 0) / all.length).toBeCloseTo(0, 1);
    // Of normals 68.3 % lie within one deviation, and 0.27 % beyond three.
    expect(all.filter((value) => Math.abs(value) < 1).length / all.length).toBeCloseTo(0.683, 2);
    const beyond = all.filter((value) => Math.abs(value) > 3).length / all.length;
    expect([beyond > 0.0015, beyond < 0.004]).toEqual([true, true]);
  });

  test('truncation reaches the first layers alone, and an edit the layers of its direction', () => {
    const average = Float32Array.of(1, 2);
    const ws = truncated(Float32Array.of(3, -2), 3, { average, psi: 0.5, layers: 2 });
    expect([...ws]).toEqual([2, 0, 2, 0, 3, -2]);
    const flat = { values: Float32Array.of(1, -1), rows: 1, from: 0, to: 2 };
    expect([...shifted(ws, 2, flat, 2)]).toEqual([4, -2, 4, -2, 3, -2]);
    const each = { values: Float32Array.of(1, 0, 0, 1, 5, 5), rows: 3, from: 1, to: 3 };
    expect([...shifted(ws, 2, each, -1)]).toEqual([2, 0, 2, -1, -2, -7]);
    expect([...ws]).toEqual([2, 0, 2, 0, 3, -2]);
  });

  test('names of TensorFlow and of genforce are those of one network', () => {
    const { synthesis, mapping } = tensorFlowState(plainState);
    expect(synthesis['8x8/Conv0_up/weight']!.shape).toEqual([3, 3, 8, 8]);
    expect(mapping['Dense0/weight']!.shape).toEqual([16, 16]);
  });
});
