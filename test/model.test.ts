// A trained model in use: what it embeds and compares, from where it loads, and when it cannot.
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type Manifest, readManifest } from '../lib/data/manifest.ts';
import { loadModel, Model, type ModelOptions } from '../lib/model.ts';
import { loadCheckpoint, saveCheckpoint } from '../lib/train/checkpoint.ts';
import { train } from '../lib/train/train.ts';
import { sharedFolder, smallFaces, smallRun, writePicture } from './faces.ts';
import { distance, temporaryFolder } from './support.ts';

const shared = sharedFolder();
const run = join(shared, 'run');
let checkpoint = '';
let faces: Manifest;
beforeAll(async () => {
  const data = await smallFaces(shared);
  faces = await readManifest(data);
  checkpoint = (await train({ ...smallRun, data, out: run, epochs: 1 })).path;
});

async function open(folder = run, options: ModelOptions = {}): Promise<Model> {
  const model = await loadModel(folder, { device: 'cpu', precision: 'fp32', threads: 1, batch: 4, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

describe('a model', () => {
  test('loads from a run folder and from its checkpoint, the same', async () => {
    const [a, b] = [await open(run), await open(checkpoint)];
    const files = faces.files.slice(0, 3);
    expect(await a.embed(files)).toEqual(await b.embed(files));
    expect([a.width, a.design.backbone, a.design.size]).toEqual([128, 'resnet18', 32]);
  });

  test('embeds a picture the same wherever it stands and however many come with it', async () => {
    const model = await open();
    const files = faces.files.slice(0, 11);
    const all = await model.embed(files, { threads: 3 });
    expect(all).toHaveLength(11 * 128);
    for (const i of [0, 3, 4, 10]) expect(await model.embed([files[i]!])).toEqual(all.slice(i * 128, (i + 1) * 128));
    const other = await (await open(run, { batch: 7, threads: 2 })).embed(files);
    expect(distance(other, all)).toBeLessThan(1e-5);
    expect(await model.embed([])).toHaveLength(0);
  });

  test('embeds the same on the plain loops', async () => {
    const files = faces.files.slice(0, 4);
    expect(distance(await (await open()).embed(files), await (await open(run, { device: 'reference' })).embed(files))).toBeLessThan(1e-5);
  });

  test('finds no change between a picture and itself but the bias of its head', async () => {
    const model = await open();
    const [x] = faces.files;
    const bias = (await loadCheckpoint(checkpoint)).weights.get('change.bias')!;
    expect(await model.compare(x!, x!)).toEqual({ change: bias.data[0], direction: null, unit: 'steps of alpha' });
  });

  test('compares by relu(h_y - h_x) through its linear layer', async () => {
    const model = await open();
    const [x, y] = [faces.files[0]!, faces.files[4]!];
    const h = await model.embed([x, y]);
    const { weights } = await loadCheckpoint(checkpoint);
    const weight = weights.get('change.weight')!.data as Float32Array;
    let change = (weights.get('change.bias')!.data as Float32Array)[0]!;
    for (let i = 0; i < 128; i++) change += weight[i]! * Math.max(0, h[128 + i]! - h[i]!);
    expect((await model.compare(x, y)).change).toBeCloseTo(change, 5);
  });

  test('takes pictures of any size', async () => {
    const file = await writePicture(join(temporaryFolder(), 'large.jpg'), 100, (x, y) => [x, y, 90]);
    expect((await (await open()).embed([file])).every(Number.isFinite)).toBe(true);
  });

  test('is the same untrained one for the same seed, and has no head then', async () => {
    const design = (await open()).design;
    const make = async (seed: number) => {
      const model = await Model.from(design, { seed }, { device: 'cpu', precision: 'fp32', threads: 1 });
      onTestFinished(() => model.dispose());
      return model;
    };
    const files = faces.files.slice(0, 2);
    const [a, b, c] = [await make(1), await make(1), await make(2)];
    expect(await a.embed(files)).toEqual(await b.embed(files));
    expect(distance(await c.embed(files), await a.embed(files))).toBeGreaterThan(0.01);
    await expect(a.compare(files[0]!, files[1]!)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      hint: expect.stringContaining('intraPersonal'),
    });
  });
});

describe('what cannot be done is said', () => {
  test('a folder without a run gives a hint to train', async () => {
    const empty = join(temporaryFolder(), 'empty');
    for (const folder of [empty, temporaryFolder()])
      await expect(loadModel(folder)).rejects.toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining(folder),
        hint: expect.stringContaining('comface train'),
      });
    await mkdir(empty);
  });

  test('a damaged checkpoint is CORRUPT_FILE, named', async () => {
    const out = join(temporaryFolder(), 'run');
    const { path } = await train({ ...smallRun, data: faces.folder, out, epochs: 1 });
    await appendFile(join(path, 'weights.safetensors'), 'x');
    await expect(loadModel(path)).rejects.toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringContaining('weights.safetensors') });
  });

  test.each([{ backbone: '__proto__' }, { width: 2 ** 40 }, { augment: 5 }, { size: 0 }])(
    'a checkpoint with %o in its options, though whole, is CORRUPT_FILE',
    async (change) => {
      const run = join(temporaryFolder(), 'run');
      const state = await loadCheckpoint(checkpoint);
      const info = { ...state.info, config: { ...(state.info.config as object), ...change } };
      await saveCheckpoint(run, { ...state, info }, { keep: 1 });
      await expect(loadModel(run)).rejects.toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringContaining('which network') });
    },
  );

  test('a picture that is missing or broken is named, and the model goes on', async () => {
    const model = await open();
    const file = join(temporaryFolder(), 'broken.jpg');
    await expect(model.embed([faces.files[0]!, file])).rejects.toMatchObject({
      code: expect.stringMatching(/IO|CORRUPT_FILE/),
      message: expect.stringContaining(file),
      hint: expect.any(String),
    });
    await appendFile(file, (await readFile(faces.files[0]!)).subarray(0, 400));
    await expect(model.compare(faces.files[0]!, file)).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringContaining(file),
    });
    expect(await model.embed([faces.files[0]!])).toHaveLength(128);
  });

  test('after dispose() everything rejects with DISPOSED, and a second one does nothing', async () => {
    const model = await open();
    await model[Symbol.asyncDispose]();
    model.dispose();
    await expect(model.embed([faces.files[0]!])).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect(model.compare(faces.files[0]!, faces.files[0]!)).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});
