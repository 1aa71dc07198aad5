// StyleGAN and StyleGAN3 at their full size, each layer and a whole picture, against the public implementations. They take a minute and a gigabyte, so they run
// where `test/golden/generators.py --whole FOLDER` has written what they should give: COMFACE_GENERATORS=FOLDER.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadGenerator } from '../lib/generate/generator.ts';
import { genforceNames } from '../lib/generate/names.ts';
import { stylegan1Synthesis, synthesisRecipes } from '../lib/generate/stylegan1.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import type { NativeEngine } from '../lib/native.ts';
import { decodeSafetensors } from '../lib/weights/safetensors.ts';
import { isOnGpu } from './cuda.ts';
import { kUnit, type LayerTable, latents, releasedTables, summaryOf, tiledOf } from './golden/generators.ts';
import { distance, engineFor } from './support.ts';

const folder = process.env.COMFACE_GENERATORS ?? '';
const file = join(folder, 'layers.safetensors');
const golden = folder === '' || !existsSync(file) ? undefined : decodeSafetensors(readFileSync(file), file).tensors;
const none = new Float32Array();
const kLimit = 1e-4;
/** The emulated CUDA backend would take days. */
const device = isOnGpu ? 'cuda' : 'cpu';

const images = (channels: number, edge: number): LayerRecord => ({ op: 'input', name: 'images', channels, height: edge, width: edge });
/** A style out of its bias alone. */
const styleOf = (name: string, out: number): LayerRecord[] => [
  { op: 'token', name: 'first', input: 'images', position: 0 },
  { op: 'linear', name, input: 'first', out, bias: true },
];

/** Writes what `values` has for a parameter's name, and zeros for the style's weights. */
async function fill(engine: NativeEngine, values: Record<string, Float32Array>): Promise<void> {
  for (const { name, dims } of engine.parameters) {
    const count = dims.reduce((a, b) => a * b, 1);
    const value = values[name] ?? (name.endsWith('style.weight') ? new Float32Array(count) : undefined);
    if (value === undefined) throw new Error(`no numbers for ${name}`);
    await engine.write('parameter', name, value);
  }
}

async function compare(key: string, layers: LayerRecord[], input: Float32Array, values: Record<string, Float32Array>, channels: number) {
  const engine = await engineFor({ layers, batch: 1, device, training: false });
  await fill(engine, values);
  await engine.forward(input, none);
  const found = summaryOf(await engine.read('value', layers.at(-1)!.name), channels);
  engine.dispose();
  for (const [name, numbers] of Object.entries(found)) {
    const expected = golden!.get(`${key}/${name}`)!.data as Float32Array;
    expect(numbers.length).toBe(expected.length);
    expect(distance(numbers, expected), name).toBeLessThan(kLimit);
  }
}

function layer3(row: LayerTable): LayerRecord[] {
  const { into, out, kernel, demodulate, inSize, up, down, upTaps, downTaps, padLow, padHigh, radial, slope, gain, clamp } = row;
  return [
    images(into, inSize),
    ...styleOf('style', into),
    { op: 'modulatedConv', name: 'conv', inputs: ['images', 'style'], out, kernel, pad: kernel - 1, demodulate, eps: 1e-8 },
    { op: 'filteredRelu', name: 'relu', input: 'conv', up, down, upTaps, downTaps, padLow, padHigh, radial, slope, gain, clamp },
  ];
}

/** Channels of the released StyleGAN, two layers for each resolution. */
const kChannels = [512, 512, 512, 512, 512, 512, 512, 512, 256, 256, 128, 128, 64, 64, 32, 32, 16, 16];
const design = {
  ...{ resolution: 1024, z: 512, mapping: [512] },
  ...{ channels: kChannels, fused: kChannels.map((_, l) => l >= 10 && l % 2 === 0) },
};

/** The records of one layer of StyleGAN, on an input and a style of its own. */
function layer1(l: number): LayerRecord[] {
  const edge = 4 << (l >> 1);
  const own = stylegan1Synthesis(design).filter(({ name }) => name === `layer${l}` || name.startsWith(`layer${l}.`));
  const style = `layer${l}.style`;
  const rest = own.filter(({ name }) => name !== style && name !== `layer${l}.w`);
  const [begin, ...more] = rest;
  return [
    images(kChannels[l - 1]!, l % 2 === 0 ? edge / 2 : edge),
    ...styleOf(style, 2 * kChannels[l]!),
    { ...begin, input: 'images' } as LayerRecord,
    ...more,
  ];
}

describe.skipIf(golden === undefined)(
  golden ? 'layers at full size' : 'layers at full size: COMFACE_GENERATORS names no folder with them',
  () => {
    describe.each(['t', 'r'] as const)('StyleGAN3-%s', (config) => {
      const rows = releasedTables[config].slice(1) as LayerTable[];
      test.each(rows)('$name', async (row) => {
        const { name, into, out, kernel, inSize } = row;
        const key = `${config}/${name}`;
        const filters = Object.fromEntries(
          ['upFilter', 'downFilter'].flatMap((leaf) => {
            const tensor = golden!.get(`${key}/${leaf}`);
            return tensor ? [[`relu.${leaf}`, tensor.data as Float32Array]] : [];
          }),
        );
        const values = {
          'conv.weight': tiledOf(`${key}/weight`, [out, into, kernel, kernel]),
          'conv.gain': Float32Array.of(2),
          'relu.bias': tiledOf(`${key}/bias`, [out], 0.1),
          'style.bias': tiledOf(`${key}/style`, [into], 0.5, 1),
          ...filters,
        };
        await compare(key, layer3(row), tiledOf(`${key}/input`, [into, inSize, inSize], 0.1), values, out);
      });
    });

    test.each(['stylegan1-1024.pth', 'stylegan3-t-1024.pkl', 'stylegan3-r-1024.pkl'])('a picture of %s', async (name) => {
      const path = join(folder, 'pictures.safetensors');
      const { tensors } = decodeSafetensors(readFileSync(path), path);
      await using generator = await loadGenerator(join(folder, name), { device, precision: 'fp32', batch: 1 });
      const w = await generator.map(latents().slice(0, generator.z));
      const found = { w, ...summaryOf(await generator.images(generator.truncate(w)), 3) };
      for (const [leaf, numbers] of Object.entries(found))
        expect(distance(numbers, tensors.get(`${name}/${leaf}`)!.data as Float32Array), leaf).toBeLessThan(kLimit);
    });

    test.each(Array.from({ length: 17 }, (_, i) => i + 1))('StyleGAN, layer %i', async (l) => {
      const key = `stylegan1/${l}`;
      const [into, out, edge] = [kChannels[l - 1]!, kChannels[l]!, 4 << (l >> 1)];
      const names = genforceNames((name) => /^synthesis\.layer1[0246]\.weight$/.test(name));
      const recipe = synthesisRecipes(design, names).find(({ name }) => name === `layer${l}.conv.weight`)!;
      const values = {
        [`layer${l}.conv.weight`]: recipe.convert!(tiledOf(`${key}/weight`, [9, into, out], kUnit)),
        [`layer${l}.noise`]: tiledOf(`${key}/noise`, [edge, edge], kUnit),
        [`layer${l}.noiseWeight`]: tiledOf(`${key}/noiseWeight`, [out], 0.5),
        [`layer${l}.bias`]: tiledOf(`${key}/bias`, [out], 0.5),
        [`layer${l}.style.bias`]: tiledOf(`${key}/style`, [2 * out], 0.5),
      };
      const inputEdge = l % 2 === 0 ? edge / 2 : edge;
      await compare(key, layer1(l), tiledOf(`${key}/input`, [into, inputEdge, inputEdge]), values, out);
    });
  },
);
