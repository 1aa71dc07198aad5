// StyleGAN and StyleGAN3 from files to pictures: test/golden/generators.py had each project's own program save the files, and computed in double what their
// networks make of two z. Numbers stand in for the weights; resolutions and channels are few.
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { type GeneratorFile, type GraphWeights, readGenerator } from '../lib/generate/file.ts';
import { loadGenerator } from '../lib/generate/generator.ts';
import { shifted, truncated } from '../lib/generate/latents.ts';
import { defaultSettings, stylegan3Design, stylegan3Synthesis } from '../lib/generate/stylegan3.ts';
import type { NativeEngine } from '../lib/native.ts';
import { cudaBackend, cudaName } from './cuda.ts';
import { sharedFolder } from './faces.ts';
import {
  direction,
  generatorFiles,
  generatorFolder,
  kAlpha,
  type LayerTable,
  latents,
  pictureGolden,
  releasedTables,
  type SynthesisTable,
} from './golden/generators.ts';
import { relative } from './golden/golden.ts';
import { distance, type EngineOptions, engineFor, refusal, temporaryFolder } from './support.ts';

const files = sharedFolder();
const none = new Float32Array();
const kLimit = 1e-4;
const kBatch = 2;
const kPsi = 0.7;
const kWidth = 512;
/** Layers whose w StyleGAN truncates. */
const kTruncated = 8;

type Way = { name: string; device: NonNullable<EngineOptions['device']>; precision?: 'fp32' | 'fp16'; limit?: number };
const ways: Way[] = [
  { name: 'plain loops', device: 'reference' },
  { name: 'cpu', device: 'cpu' },
  ...(cudaBackend() === undefined
    ? []
    : ([
        { name: cudaName, device: 'cuda' },
        // A rounding of 2^-12 on the average, three times in each of 15 layers.
        { name: `${cudaName}, layers of StyleGAN3 in half`, device: 'cuda', precision: 'fp16', limit: 3e-3 },
      ] as const)),
];

beforeAll(async () => {
  for (const name of await readdir(generatorFolder)) {
    if (!name.endsWith('.br')) continue;
    await writeFile(join(files, name.slice(0, -'.br'.length)), brotliDecompressSync(await readFile(join(generatorFolder, name))));
  }
});

const open = (file: string): Promise<GeneratorFile> => readGenerator(join(files, file));

async function engineOf({ layers, weights }: GraphWeights, batch: number, device: Way['device'], precision: Way['precision'] = 'fp32') {
  const engine = await engineFor({ layers, batch, device, precision, training: false });
  for (const { name } of engine.parameters) await engine.write('parameter', name, weights.get(name)!.data as Float32Array);
  return engine;
}

async function run({ layers }: GraphWeights, engine: NativeEngine, input: Float32Array): Promise<Float32Array> {
  await engine.forward(input, none);
  return engine.read('value', layers.at(-1)!.name);
}

/** w+ of each of several w, as the published programs truncate it. */
function broadcast(w: Float32Array, { average, layers, family }: GeneratorFile): Float32Array {
  const truncation = { average: average!, psi: kPsi, layers: family === 'stylegan1' ? kTruncated : layers };
  const rows = Array.from({ length: w.length / kWidth }, (_, i) => w.subarray(i * kWidth, (i + 1) * kWidth));
  return joined(rows.map((row) => truncated(row, layers, truncation)));
}

/** w+ of each of several, moved by alpha in the first layers. */
function moved(wPlus: Float32Array, alpha: number, { layers }: GeneratorFile, to: number): Float32Array {
  const each = layers * kWidth;
  const rows = Array.from({ length: wPlus.length / each }, (_, i) => wPlus.subarray(i * each, (i + 1) * each));
  return joined(rows.map((row) => shifted(row, kWidth, { values: direction(), rows: 1, from: 0, to }, alpha)));
}

const joined = (parts: readonly Float32Array[]): Float32Array => {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  for (let i = 0, at = 0; i < parts.length; at += parts[i++]!.length) out.set(parts[i]!, at);
  return out;
};

/** As the synthesis reads it: batch x 512 x layers. */
const asInput = (wPlus: Float32Array, layers: number): Float32Array =>
  Float32Array.from(wPlus, (_, i) => {
    const [row, c, layer] = [Math.floor(i / (layers * kWidth)), Math.floor(i / layers) % kWidth, i % layers];
    return wPlus[(row * layers + layer) * kWidth + c]!;
  });

/** Layers that the golden edit changes. */
const editedIn = ({ family, layers }: GeneratorFile): number => (family === 'stylegan1' ? kTruncated : layers);

describe.each(ways)('on $name', ({ device, precision, limit = kLimit }) => {
  const own = generatorFiles.filter(({ key }) => precision !== 'fp16' || key.startsWith('stylegan3'));
  test.each(own)('$key gives w, w+ and pictures of its public implementation', async ({ key, files: [file] }) => {
    const found = await open(file!);
    const mapping = await engineOf(found.mapping, kBatch, device);
    const w = await run(found.mapping, mapping, latents());
    const wPlus = broadcast(w, found);
    const synthesis = await engineOf(found.synthesis, kBatch, device, precision);
    const pictureOf = (each: Float32Array) => run(found.synthesis, synthesis, asInput(each, found.layers));
    const edited = moved(wPlus, kAlpha, found, editedIn(found));
    const results = { w, wPlus, picture: await pictureOf(wPlus), edited: await pictureOf(edited) };
    for (const [name, value] of Object.entries(results))
      expect(relative(pictureGolden.squares(`${key}/${name}`, value)), name).toBeLessThan(limit);
  });
});

test.each(generatorFiles)('$key: a loaded generator gives the same w and pictures', async ({ key, files: [file] }) => {
  await using generator = await loadGenerator(join(files, file!), { device: 'cpu', threads: 2, batch: 1 });
  const w = await generator.map(latents());
  const wPlus = joined([0, 1].map((i) => generator.truncate(w.subarray(i * kWidth, (i + 1) * kWidth))));
  const results = { w, wPlus, picture: await generator.images(wPlus) };
  for (const [name, value] of Object.entries(results))
    expect(relative(pictureGolden.squares(`${key}/${name}`, value)), name).toBeLessThan(kLimit);
});

test.each(generatorFiles)('$key says what it is', async ({ key, size, layers, files: names }) => {
  for (const file of names) {
    const { family, resolution, z, w, layers: count, isNoiseDrawn } = await open(file);
    expect({ family, resolution, z, w, count, isNoiseDrawn }, file).toEqual({
      ...{ family: key.replace(/-\d+$/, ''), resolution: size, z: kWidth, w: kWidth },
      ...{ count: layers, isNoiseDrawn: file.includes('lernapparat') },
    });
  }
});

const manyFiles = generatorFiles.filter((each) => each.files.length > 1);

test.each(manyFiles)('$key has the same numbers in every container', async ({ files: [first, ...others] }) => {
  const expected = await open(first!);
  for (const file of others) {
    const found = await open(file);
    const isWhole = !found.isNoiseDrawn;
    expect(found.average, file).toEqual(isWhole ? expected.average : undefined);
    for (const part of ['mapping', 'synthesis'] as const) {
      expect([...found[part].weights.keys()].sort(), file).toEqual([...expected[part].weights.keys()].sort());
      for (const [name, { shape, data }] of expected[part].weights) {
        const own = found[part].weights.get(name)!;
        expect(own.shape, `${file} ${name}`).toEqual(shape);
        const isEqual = Buffer.from(own.data.buffer).equals(Buffer.from(data.buffer));
        expect(isEqual, `${file} ${name}`).toBe(isWhole || !name.endsWith('.noise'));
      }
    }
  }
});

test('every container of the generators has a file here', () => {
  const all = generatorFiles.flatMap((each) => each.files);
  for (const end of ['.genforce.pth', '.tensorflow.pkl', '.lernapparat.pt', 't-64.pkl', 'r-32.pkl', 'r-32.pt'])
    expect(all.some((file) => file.endsWith(end))).toBe(true);
});

describe('the layers of StyleGAN3 are those of its public implementation', () => {
  /** Shapes as a file of that network has them. */
  function shapesOf(table: SynthesisTable): Map<string, { shape: number[] }> {
    const [input, ...rows] = table;
    const shapes: [string, number[]][] = [
      ['mapping.fc0.weight', [kWidth, kWidth]],
      ['mapping.fc1.weight', [kWidth, kWidth]],
      ['synthesis.input.freqs', [input.channels, 2]],
    ];
    for (const { name, into, out, kernel, upTaps, downTaps, radial } of rows as LayerTable[]) {
      shapes.push([`synthesis.${name}.weight`, [out, into, kernel, kernel]]);
      if (upTaps > 0) shapes.push([`synthesis.${name}.up_filter`, [upTaps]]);
      if (downTaps > 0) shapes.push([`synthesis.${name}.down_filter`, radial ? [downTaps, downTaps] : [downTaps]]);
    }
    return new Map(shapes.map(([name, shape]) => [name, { shape }]));
  }

  const tables: [string, SynthesisTable][] = [
    ['T of 1024 pixels', releasedTables.t],
    ['R of 1024 pixels', releasedTables.r],
    ...generatorFiles.flatMap(({ key, table }): [string, SynthesisTable][] => (table ? [[key, table]] : [])),
  ];

  test.each(tables)('%s', (_, table) => {
    const tensors = shapesOf(table);
    const records = stylegan3Synthesis(stylegan3Design({ path: 'a.pkl', tensors } as never, defaultSettings));
    const [input, ...rows] = table;
    expect(records.find(({ op }) => op === 'fourierFeatures')).toMatchObject({
      ...{ out: input.channels, height: input.size, width: input.size, rate: input.rate, bandwidth: input.bandwidth },
    });
    const [convs, relus] = (['modulatedConv', 'filteredRelu'] as const).map((op) => records.filter((each) => each.op === op));
    expect(convs).toMatchObject(
      (rows as LayerTable[]).map(({ out, kernel, demodulate }) => ({ out, kernel, pad: kernel - 1, demodulate })),
    );
    expect(relus).toMatchObject(
      (rows as LayerTable[]).map(({ up, down, upTaps, downTaps, padLow, padHigh, radial, slope, gain, clamp }, i) => ({
        ...{ up, down, upTaps, downTaps, padLow, padHigh, radial, slope },
        gain: expect.closeTo(gain, 12),
        // The factor of a quarter after the last layer is part of it.
        clamp: i === rows.length - 1 ? clamp / 4 : clamp,
      })),
    );
  });
});

describe('a picture moves smoothly as w moves along a direction', () => {
  test.each(generatorFiles)('$key', async ({ files: [file] }) => {
    const found = await open(file!);
    const alphas = [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5];
    const mapping = await engineOf(found.mapping, kBatch, 'cpu');
    const w = (await run(found.mapping, mapping, latents())).subarray(0, kWidth);
    const wPlus = broadcast(w, found);
    const synthesis = await engineOf(found.synthesis, alphas.length, 'cpu');
    const all = joined(alphas.map((alpha) => moved(wPlus, alpha, found, found.layers)));
    const pictures = await run(found.synthesis, synthesis, asInput(all, found.layers));
    const each = pictures.length / alphas.length;
    const at = (i: number) => pictures.subarray(i * each, (i + 1) * each);
    const away = alphas.map((_, i) => distance(at(i), at(5)));
    for (const i of [5, 6, 7, 8, 9]) expect(away[i + 1], `alpha ${i - 4}`).toBeGreaterThan(away[i]!);
    for (const i of [5, 4, 3, 2, 1]) expect(away[i - 1], `alpha ${i - 6}`).toBeGreaterThan(away[i]!);
    // The two sides lead apart.
    expect(distance(at(0), at(10))).toBeGreaterThan(Math.max(away[0]!, away[10]!));
    // No step is a leap: none is larger than the whole way on its side.
    for (let i = 0; i < 10; i++) expect(distance(at(i), at(i + 1))).toBeLessThan(Math.max(away[0]!, away[10]!));
  });
});

describe('is refused', () => {
  test.each([
    ['stylegan2-16.pkl', 'StyleGAN2'],
    ['rosinality.model', 'rosinality'],
  ])('%s, by what it is', async (file, kind) => {
    const { code, message, hint } = await refusal(() => open(file));
    expect([code, message]).toEqual(['INVALID_INPUT', expect.stringContaining(kind)]);
    expect(hint).toBeTruthy();
  });

  test.each(generatorFiles.flatMap((each) => each.files))('%s cut off anywhere', async (file) => {
    const bytes = await readFile(join(files, file));
    const path = join(temporaryFolder(), file);
    for (const part of [0.001, 0.3, 0.6, 0.999]) {
      await writeFile(path, bytes.subarray(0, Math.floor(part * bytes.length)));
      const { code, message } = await refusal(() => readGenerator(path));
      expect([code, message]).toEqual(['CORRUPT_FILE', expect.stringContaining(path)]);
    }
  });

  test('a snapshot that runs a program when Python reads it, which makes nothing happen here', async () => {
    const folder = temporaryFolder();
    const made = join(folder, 'made');
    const snapshot = (await readFile(join(files, 'stylegan3-r-32.pkl'))).toString('latin1');
    // The first module is made by a call; a call of another function stands in its place.
    const name = '\x8c\x17torch_utils.persistence\x94\x8c\x1b_reconstruct_persistent_obj\x94\x93';
    expect(snapshot).toContain(name);
    const hostile = snapshot.replace(
      name,
      `\x8c\x02os\x94\x8c\x06system\x94\x93\x8c${String.fromCharCode(made.length + 6)}touch ${made}\x85R0\x8c\x02os\x8c\x06system\x93`,
    );
    const path = join(folder, 'hostile.pkl');
    await writeFile(path, Buffer.from(hostile, 'latin1'));
    const { code, message } = await refusal(() => readGenerator(path));
    expect([code, message]).toEqual(['INVALID_INPUT', expect.stringContaining('os.system')]);
    expect(existsSync(made)).toBe(false);
  });
});
