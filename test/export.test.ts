// What comface export writes: safetensors that torchvision and timm take, ONNX that onnxruntime computes the same from, and the files beside them.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadState, type ModelDesign } from '../lib/model.ts';
import { type BackboneName, backbone, backboneNames } from '../lib/models/backbone.ts';
import { changeGraph } from '../lib/models/heads.ts';
import type { NativeEngine } from '../lib/native.ts';
import { saveCheckpoint } from '../lib/train/checkpoint.ts';
import { readWeights } from '../lib/train/state.ts';
import { train } from '../lib/train/train.ts';
import { exportModel } from '../lib/use/export.ts';
import { importWeights } from '../lib/use/import.ts';
import { encodeOnnx } from '../lib/weights/onnx.ts';
import { decodeSafetensors, type Tensor } from '../lib/weights/safetensors.ts';
import { runAugment, sharedFolder, smallFaces, smallRun } from './faces.ts';
import { timmNames, torchvisionNames } from './golden/golden.ts';
import { keyed, weightOf } from './golden/keyed.ts';
import { distance, engineFor, refusal, temporaryFolder } from './support.ts';

const shared = sharedFolder();
const kBatch = 3;
const kSize = 48;
const width = 16;
const python = process.env.PYTHON ?? 'python3';
const script = fileURLToPath(new URL('golden/runtime.py', import.meta.url));
const hasRuntime = spawnSync(python, ['-c', 'import onnx, onnxruntime']).status === 0;
/** The beginning of the SHA-256 of files that onnxruntime has computed the same from, by test with PYTHON. */
const checked = JSON.parse(await readFile(new URL('golden/onnx.json', import.meta.url), 'utf8')) as Record<string, string>;

const designOf = (name: BackboneName, size = kSize): ModelDesign => ({
  backbone: name,
  width,
  size,
  augment: runAugment as ModelDesign['augment'],
});

async function setKeyed(engine: NativeEngine): Promise<void> {
  for (const { name, dims } of engine.parameters) await engine.write('parameter', name, weightOf('export', name, dims, 0.5));
  for (const { name, dims } of engine.statistics) await engine.write('statistic', name, weightOf('export', name, dims));
}

/** Keyed weights with a change head. */
async function weightsOf(name: BackboneName): Promise<Map<string, Tensor>> {
  const engine = await engineFor({ layers: changeGraph(backbone(name, { size: kSize, width })), batch: 4 });
  await setKeyed(engine);
  return readWeights(engine, 5);
}

/** Of keyed images. */
async function embeddingsOf(name: BackboneName, weights: ReadonlyMap<string, Tensor>, images: Float32Array): Promise<Float32Array> {
  const layers = backbone(name, { size: kSize, width });
  const engine = await engineFor({ layers, batch: kBatch, training: false });
  for (const { name: each } of engine.parameters) await engine.write('parameter', each, weights.get(each)!.data as Float32Array);
  for (const { name: each } of engine.statistics) await engine.write('statistic', each, weights.get(each)!.data as Float32Array);
  await engine.forward(images, new Float32Array());
  return engine.read('value', layers.at(-1)!.name);
}

describe.each(backboneNames)('%s as ONNX', (name) => {
  test('is the file that onnxruntime has computed the same from', async () => {
    const weights = await weightsOf(name);
    const bytes = encodeOnnx(backbone(name, { size: kSize, width }), weights, {
      version: '0',
      description: 'a test',
      metadata: { size: '48' },
    });
    const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 32);
    if (!hasRuntime) return expect(hash).toBe(checked[name]);
    const folder = temporaryFolder();
    const images = keyed('export/images', kBatch * 3 * kSize * kSize, 1.7);
    await writeFile(join(folder, `${name}.onnx`), bytes);
    await writeFile(join(folder, 'images.bin'), images);
    const args = [script, join(folder, `${name}.onnx`), join(folder, 'images.bin'), String(kSize), String(kBatch)];
    const { status, stdout, stderr } = spawnSync(python, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
    expect([status, status === 0 ? '' : stderr]).toEqual([0, '']);
    const { opset, shapes, embedding, change } = JSON.parse(stdout);
    const expected = await embeddingsOf(name, weights, images);
    const d = expected.length / kBatch;
    expect([opset, shapes]).toEqual([17, { images: ['batch', 3, kSize, kSize], embedding: ['batch', d], change: ['batch'] }]);
    expect(distance(embedding, expected)).toBeLessThan(1e-5);
    const head = weights.get('change.weight')!.data as Float32Array;
    const changes = Array.from({ length: kBatch }, (_, i) =>
      head.reduce(
        (sum, w, k) => sum + w * Math.max(0, expected[i * d + k]! - expected[k]!),
        (weights.get('change.bias')!.data as Float32Array)[0]!,
      ),
    );
    expect(distance(change, changes)).toBeLessThan(1e-4);
    expect(hash).toBe(checked[name]);
  });
});

describe('safetensors', () => {
  test.each(['resnet50', 'vit_b_16'] as const)('of %s have the names and shapes that PyTorch wants, and no others', async (name) => {
    const engine = await engineFor({ layers: changeGraph(backbone(name, { size: 224 })), batch: 2 });
    await engine.initialize(3n);
    const folder = temporaryFolder();
    const info = { config: { ...designOf(name, 224), width: 64 } };
    await saveCheckpoint(folder, { step: 2, weights: await readWeights(engine, 2), optimizer: new Map(), info }, { keep: 1 });
    const out = join(folder, 'published');
    const { files, timm } = await exportModel({ model: folder, out });
    expect(files).toEqual(['model.safetensors', 'heads.safetensors', 'config.json', 'preprocessor_config.json', 'README.md']);
    expect(timm).toBe(name === 'resnet50' ? 'resnet50' : 'vit_base_patch16_224');
    const { tensors, metadata } = decodeSafetensors(await readFile(join(out, 'model.safetensors')), 'model');
    const shapes = Object.fromEntries([...tensors].map(([key, { shape }]) => [key, shape]));
    const theirs =
      name === 'resnet50' ? [...torchvisionNames()].map(([key, [, shape]]) => [key, shape] as const) : Object.entries(timmNames());
    expect(shapes).toEqual(Object.fromEntries(theirs.filter(([key]) => !key.startsWith('fc.'))));
    expect(metadata.format).toBe('pt');
    const heads = decodeSafetensors(await readFile(join(out, 'heads.safetensors')), 'heads').tensors;
    expect([...heads.keys()]).toEqual(['change.weight', 'change.bias']);
  });

  test.each(backboneNames)('of %s come back bit for bit', async (name) => {
    const folder = temporaryFolder();
    const task = { attribute: 'weight', unit: 'kg' };
    const weights = await weightsOf(name);
    await saveCheckpoint(
      folder,
      { step: 3, weights, optimizer: new Map(), info: { config: designOf(name), task, dataHash: 'ab' } },
      { keep: 1 },
    );
    const out = join(folder, 'published');
    await exportModel({ model: folder, out });
    const imported = await importWeights({ file: join(out, 'model.safetensors'), out: join(folder, 'again') });
    expect([imported.as, imported.left]).toEqual(['comface', []]);
    const [before, after] = [await loadState(folder), await loadState(imported.folder)];
    expect(after.design).toEqual(before.design);
    expect(after.dataHash).toBe('ab');
    expect([...after.weights.keys()].sort()).toEqual([...before.weights.keys()].sort());
    for (const [key, { dtype, shape, data }] of before.weights) {
      const again = after.weights.get(key)!;
      expect([
        key,
        again.dtype,
        again.shape,
        Buffer.from(again.data.buffer, again.data.byteOffset, again.data.byteLength).equals(
          Buffer.from(data.buffer, data.byteOffset, data.byteLength),
        ),
      ]).toEqual([key, dtype, shape, true]);
    }
  });
});

describe('of a run', () => {
  let run = '';
  beforeAll(async () => {
    const data = await smallFaces(shared);
    run = join(shared, 'run');
    await train({ ...smallRun, data, out: run, validation: 0.2 } as never);
  });

  test('an export replaces an earlier one, and no file that none wrote', async () => {
    const folder = temporaryFolder();
    const model = run;
    const refused = async (out: string) => (await refusal(() => exportModel({ model, out }))).message;
    const project = join(folder, 'project');
    await mkdir(project);
    await writeFile(join(project, 'README.md'), '# Mine');
    expect(await refused(project)).toMatch(/without README\.md/);
    expect(await readdir(project)).toEqual(['README.md']);
    const out = join(folder, 'published');
    const { files } = await exportModel({ model, out });
    await writeFile(join(out, 'model.safetensors'), '');
    expect((await exportModel({ model, out })).files).toEqual(files);
    expect((await readFile(join(out, 'model.safetensors'))).length).toBeGreaterThan(0);
  });

  test('the card says what it is, how it was trained and how to use it, and holds no path', async () => {
    const out = join(temporaryFolder(), 'published');
    const { files } = await exportModel({ model: run, out, formats: ['safetensors', 'onnx'] });
    expect((await readdir(out)).sort()).toEqual([...files].sort());
    const card = await readFile(join(out, 'README.md'), 'utf8');
    for (const text of [
      'library_name:',
      '# ResNet-18 of ComFace',
      'arXiv 2405.16016',
      '`model.onnx`',
      'onnxruntime',
      '| temperature |',
      '## Scores',
      'license',
    ])
      expect(card).toContain(text);
    expect(card).not.toContain(run);
    expect(card).not.toContain('undefined');
    const prepared = JSON.parse(await readFile(join(out, 'preprocessor_config.json'), 'utf8'));
    expect([prepared.size, prepared.image_mean]).toEqual([{ height: smallRun.size, width: smallRun.size }, [0.485, 0.456, 0.406]]);
  });

  test('a folder that is no model, a format that is none and a place that cannot be written are refused by name', async () => {
    const nothing = temporaryFolder();
    const file = join(nothing, 'file');
    await writeFile(file, '');
    expect((await refusal(() => exportModel({ model: nothing, out: join(nothing, 'x') }))).code).toBe('INVALID_INPUT');
    expect((await refusal(() => exportModel({ model: run, out: join(nothing, 'x'), formats: ['keras' as never] }))).message).toContain(
      '`formats[0]`',
    );
    expect((await refusal(() => exportModel({ model: run, out: join(nothing, 'x'), formats: [] }))).message).toContain('`formats`');
    expect((await refusal(() => exportModel({ model: run, out: join(file, 'x') }))).code).toBe('IO');
    await mkdir(join(nothing, 'taken', 'README.md'), { recursive: true });
    expect((await refusal(() => exportModel({ model: run, out: join(nothing, 'taken') }))).code).toBe('INVALID_INPUT');
  });
});
