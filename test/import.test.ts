// Weights of the paper's rivals, as each of them saves its own: test/golden/rivals.py made the files with PyTorch, and says what it makes of two pictures.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadState, Model } from '../lib/model.ts';
import { backbone } from '../lib/models/backbone.ts';
import { writeState } from '../lib/train/state.ts';
import { transfer } from '../lib/transfer/transfer.ts';
import { exportModel } from '../lib/use/export.ts';
import { importNames, importWeights } from '../lib/use/import.ts';
import { type ComparatorName, comparatorNames, partsOf } from '../lib/weights/comparators.ts';
import { decodeSafetensors, encodeSafetensors, type Tensor } from '../lib/weights/safetensors.ts';
import { sharedFolder, smallFaces } from './faces.ts';
import { keyed } from './golden/keyed.ts';
import { distance, engineFor, refusal, temporaryFolder } from './support.ts';

const golden = process.env.COMFACE_RIVALS ?? fileURLToPath(new URL('golden/rivals', import.meta.url));
const files = sharedFolder();
const sharedFaces = sharedFolder();
interface Rival {
  as: ComparatorName;
  file: string;
  /** Of the embedding. */
  width: number;
  /** Edge of its pictures. */
  size: number;
}
const rivals = JSON.parse(await readFile(join(golden, 'rivals.json'), 'utf8')) as Rival[];
const embeddings = decodeSafetensors(await readFile(join(golden, 'embeddings.safetensors')), 'embeddings').tensors;
const kBatch = 2;
const kSize = 224;
/** Of one color. */
const kPatch = 32;

beforeAll(async () => {
  for (const name of await readdir(golden)) {
    const bytes = await readFile(join(golden, name));
    if (name.endsWith('.br')) await writeFile(join(files, name.slice(0, -'.br'.length)), brotliDecompressSync(bytes));
    else await writeFile(join(files, name), bytes);
  }
});

let made = 0;
const anew = (): string => join(temporaryFolder(), `model-${made++}`);

/** The embeddings of the keyed pictures, or of their corner where a rival's are smaller, row after row. */
async function embed(folder: string): Promise<Float32Array> {
  const { design, weights } = await loadState(folder);
  const layers = backbone(design.backbone, design);
  const engine = await engineFor({ layers, batch: kBatch, training: false });
  await writeState(engine, weights);
  const { size, augment } = design;
  const { mean, deviation } = augment;
  const edge = kSize / kPatch;
  const patches = keyed('rivals/pictures', kBatch * 3 * edge * edge, 0.5, 0.5);
  const images = Float32Array.from({ length: kBatch * 3 * size * size }, (_, i) => {
    const [plane, y, x] = [Math.floor(i / size ** 2), Math.floor(i / size) % size, i % size];
    const value = patches[(plane * edge + Math.floor(y / kPatch)) * edge + Math.floor(x / kPatch)]!;
    return (value - mean[plane % 3]!) / deviation[plane % 3]!;
  });
  await engine.forward(images, new Float32Array());
  return engine.read('value', layers.at(-1)!.name);
}

describe.each(rivals)('$file of $as', ({ as, file, width, size }) => {
  test.each([as, 'auto'] as const)('imports as %s and gives the embeddings of PyTorch', async (asked) => {
    const imported = await importWeights({ file: join(files, file), as: asked, out: anew() });
    expect([imported.as, imported.embedding, imported.size]).toEqual([as, width, size]);
    const expected = embeddings.get(file)!.data as Float32Array;
    const h = await embed(imported.folder);
    for (let i = 0; i < kBatch; i++)
      expect(distance(h.subarray(i * width, (i + 1) * width), expected.subarray(i * width, (i + 1) * width))).toBeLessThan(1e-4);
    expect(imported.left.length > 0).toBe(as !== 'barlowtwins');
  });
});

test('what is used and what is left is named as the file has it', async () => {
  const {
    used,
    left,
    backbone: name,
    width,
    mean,
    container,
  } = await importWeights({
    file: join(files, 'moco_v2_800ep_pretrain.pth.tar'),
    out: anew(),
  });
  expect(used).toContain('state_dict.module.encoder_q.layer4.2.bn3.num_batches_tracked');
  expect(used.length).toBe(318);
  expect(left).toContain('state_dict.module.encoder_q.fc.0.weight');
  expect(left.filter((each) => each.includes('encoder_k')).length).toBe(13);
  expect([name, width, mean, container]).toEqual(['resnet50', 16, [0.485, 0.456, 0.406], 'torch-legacy']);
});

test('every comparator has its file here, and is a name of importNames', () => {
  expect(new Set(rivals.map(({ as }) => as))).toEqual(new Set(comparatorNames));
  expect(importNames).toEqual([...comparatorNames, 'comface', 'auto']);
});

test('a model of imported weights embeds pictures, and says that it has no change head', async () => {
  const { folder } = await importWeights({ file: join(files, 'resnet18-5c106cde.pth'), out: anew(), size: 64 });
  const { design, weights } = await loadState(folder);
  expect([design.backbone, design.size]).toEqual(['resnet18', 64]);
  await using model = await Model.from(design, weights, { device: 'cpu', threads: 1, batch: 1 });
  const picture = fileURLToPath(new URL('golden/picture.jpg', import.meta.url));
  const h = await model.embed([picture]);
  expect(h.length).toBe(128);
  expect(() => model.changeOf(h, h)).toThrow(expect.objectContaining({ hint: expect.stringContaining('transfer') }));
});

test('a transfer begins with imported weights, and its model says whose they were', async () => {
  const { folder } = await importWeights({ file: join(files, 'resnet18-5c106cde.pth'), out: anew(), size: 32 });
  const data = await smallFaces(sharedFaces);
  const out = anew();
  const place = { device: 'cpu', precision: 'fp32', threads: 1 } as const;
  await transfer({ ...place, data, attribute: 'smile', model: folder, out, evaluation: 'linear', folds: 2, pairsPerSubject: 6 });
  expect((await loadState(out)).imported).toBe('imagenet');
  const card = await exportModel({ model: out, out: anew() }).then(({ folder: published }) =>
    readFile(join(published, 'README.md'), 'utf8'),
  );
  expect(card).toContain('with the weights of ImageNet');
  expect(card).toContain('Transferred to changes of smile');
});

describe('is refused', () => {
  const vit = () => join(files, 'stablerep_base.pth');
  const resnet = () => join(files, 'resnet50.pth');

  async function own(tensors: [string, number[]][]): Promise<string> {
    const folder = anew();
    await mkdir(folder);
    const map = new Map(
      tensors.map(([name, shape]): [string, Tensor] => [
        name,
        { dtype: 'F32', shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) },
      ]),
    );
    await writeFile(join(folder, 'own.safetensors'), encodeSafetensors(map));
    return join(folder, 'own.safetensors');
  }

  test('a file of another network, with what it has', async () => {
    const error = await refusal(() => importWeights({ file: vit(), as: 'imagenet', out: anew() }));
    expect([error.code, error.message]).toEqual([
      'INVALID_INPUT',
      expect.stringMatching(/expected a backbone of ImageNet .* but found .* tensors/),
    ]);
    expect(error.hint).toContain('--as');
  });

  test('what has no names that are known', async () => {
    const error = await refusal(async () => importWeights({ file: await own([['layer.weight', [2, 2]]]), out: anew() }));
    expect(error.message).toContain('expected the names of a network of imagenet, vggface2');
    expect(error.message).toContain('1 tensor: layer.weight');
  });

  test('a network that lacks tensors, or has them in another shape, by name', async () => {
    const blocks = [0, 1].map((i): [string, number[]] => [`layer3.${i}.conv1.weight`, [64, 64, 3, 3]]);
    const some: [string, number[]][] = [
      ['conv1.weight', [16, 3, 7, 7]],
      ['fc.weight', [2, 2]],
      ['layer1.0.conv1.weight', [16, 16, 3, 3]],
      ...blocks,
    ];
    const lacking = await refusal(async () => importWeights({ file: await own(some), out: anew() }));
    expect(lacking.message).toMatch(
      /expected the 100 tensors of resnet18 of width 16 \(ImageNet\) but found 4 of them, without bn1\.weight, bn1\.bias/,
    );
  });

  test('a part of what is one tensor here, under the name that the file would have it by', async () => {
    const shapes = new Map<string, number[]>();
    const engine = await engineFor({ layers: backbone('pcl', { size: 32, width: 16 }), batch: 1, training: false });
    for (const { name, dims } of engine.parameters) {
      const [first = 0, ...rest] = dims;
      const parts = partsOf('pcl', name);
      for (const part of parts) shapes.set(`state_dict.module.encoder.${part}`, [first / parts.length, ...rest]);
    }
    const kept = [...shapes].filter(([name]) => !name.endsWith('layer1.2.theta.bias'));
    const lacking = await refusal(async () => importWeights({ file: await own(kept), out: anew() }));
    expect(lacking.message).toMatch(
      /expected the 44 tensors of pcl of width 16 \(PCL\) but found 43 of them, without layer1\.2\.theta\.bias/,
    );
    const uneven = [...shapes].map(([name, shape]): [string, number[]] => [name, name.endsWith('2.phi.bias') ? [shape[0]! + 1] : shape]);
    const mismatched = await refusal(async () => importWeights({ file: await own(uneven), out: anew() }));
    expect(mismatched.message).toContain('[16] for state_dict.module.encoder.layer1.2.phi.bias but found [17] (and 1 more)');
    await importWeights({ file: await own([...shapes]), out: anew() });
  });

  test('a size that the positions of a transformer are not of', async () => {
    const error = await refusal(() => importWeights({ file: vit(), as: 'stablerep', out: anew(), size: 64 }));
    expect([error.code, error.message]).toEqual([
      'INVALID_INPUT',
      'Expected 224 for `size`, the pictures of its positions, but received 64',
    ]);
  });

  test('a folder with another model', async () => {
    const out = anew();
    await importWeights({ file: resnet(), out });
    await importWeights({ file: resnet(), out }); // the same again
    const error = await refusal(() => importWeights({ file: join(files, 'resnet18-5c106cde.pth'), out }));
    expect(error.code).toBe('INVALID_INPUT');
  });

  test.each([
    [{ as: 'resnet' }, '`as`'],
    [{ size: 8 }, '`size`'],
    [{ file: '' }, '`file`'],
    [{ out: 7 }, '`out`'],
  ])('a wrong option %o', async (options, name) => {
    const error = await refusal(() => importWeights({ file: resnet(), out: anew(), ...options } as never));
    expect([error.code, error.message.includes(name)]).toEqual(['INVALID_INPUT', true]);
  });
});

test('an import has a folder of its own', async () => {
  const file = join(files, 'resnet18-5c106cde.pth');
  const folder = temporaryFolder();
  await writeFile(join(folder, 'config.json'), '{}');
  expect((await refusal(() => importWeights({ file, out: folder }))).message).toMatch(/holds config\.json/);
  const run = anew();
  await mkdir(join(run, 'checkpoints', 'step-00000007'), { recursive: true });
  expect((await refusal(() => importWeights({ file, out: run }))).message).toMatch(/holds checkpoints\/step-00000007/);
  const out = anew();
  await importWeights({ file, out });
  expect((await importWeights({ file, out })).as).toBe('imagenet');
  expect((await refusal(() => importWeights({ file: join(files, 'resnet50-1x.pth'), out }))).code).toBe('INVALID_INPUT');
});
