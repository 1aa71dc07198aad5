// A model in use: the change with its direction, many pairs of a CSV file, embeddings as a file that NumPy reads, and the same on the command line.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type Manifest, readManifest } from '../lib/data/manifest.ts';
import { loadModel, Model, type ModelOptions } from '../lib/model.ts';
import { latestCheckpoint, saveCheckpoint } from '../lib/train/checkpoint.ts';
import { train } from '../lib/train/train.ts';
import { saveEmbeddings } from '../lib/use/embeddings.ts';
import { comparePairs } from '../lib/use/pairs.ts';
import { sharedFolder, smallFaces, smallRun } from './faces.ts';
import { temporaryFolder } from './support.ts';
import { makeTransfer } from './transfers.ts';

const shared = sharedFolder();
const run = join(shared, 'run');
const signedRun = join(shared, 'signed');
const transfer = join(shared, 'transfer');
let faces: Manifest;
let state: NonNullable<Awaited<ReturnType<typeof latestCheckpoint>>>;
beforeAll(async () => {
  const data = await smallFaces(shared);
  faces = await readManifest(data);
  await train({ ...smallRun, data, out: run, epochs: 1 });
  state = (await latestCheckpoint(run))!;
  await saveCheckpoint(
    signedRun,
    { ...state, info: { ...state.info, config: { ...(state.info.config as object), target: 'signed' } } },
    { keep: 1 },
  );
  await makeTransfer({ out: transfer, run, data, attribute: 'weight', unit: 'kg' });
});

async function open(folder = run, options: ModelOptions = {}): Promise<Model> {
  const model = await loadModel(folder, { device: 'cpu', precision: 'fp32', threads: 1, batch: 8, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

describe('a change', () => {
  test('has a direction from a model that was trained on signed ones or transferred, and the unit of what it learned', async () => {
    const [x, y] = [faces.files[0]!, faces.files[4]!];
    const { change } = await (await open()).compare(x, y);
    const direction = change > 0 ? 'increase' : 'decrease';
    expect(await (await open()).compare(x, y)).toEqual({ change, direction: null, unit: 'steps of alpha' });
    expect(await (await open(signedRun)).compare(x, y)).toEqual({ change, direction, unit: 'steps of alpha' });
    const transferred = await open(transfer);
    expect(await transferred.compare(x, y)).toEqual({ change, direction, unit: 'kg' });
    expect([transferred.signed, transferred.task]).toEqual([true, { attribute: 'weight', unit: 'kg' }]);
    const plain = await open();
    expect([plain.signed, plain.task]).toEqual([false, null]);
  });

  test('goes the way of its sign', async () => {
    const model = await open(signedRun);
    const head = (bias: number, weight = 0) =>
      model.load(
        new Map([
          ...state.weights,
          ['change.weight', { dtype: 'F32', shape: [1, model.width], data: new Float32Array(model.width).fill(weight) }],
          ['change.bias', { dtype: 'F32', shape: [1], data: Float32Array.of(bias) }],
        ]),
      );
    const h = new Float32Array(model.width);
    for (const [bias, direction] of [
      [2, 'increase'],
      [-2, 'decrease'],
      [0, 'none'],
    ] as const) {
      await head(bias);
      expect(model.comparisonOf(h, h)).toEqual({ change: bias, direction, unit: 'steps of alpha' });
    }
    await head(0, -1);
    expect(
      model.comparisonOf(
        h,
        h.map(() => 1),
      ).direction,
    ).toBe('decrease');
  });

  test('is that of the folder of a transfer, of its model, and of the checkpoint in it', async () => {
    const { path } = (await latestCheckpoint(join(transfer, 'model')))!;
    for (const folder of [join(transfer, 'model'), path]) expect((await open(folder)).task).toEqual({ attribute: 'weight', unit: 'kg' });
  });

  test.each([
    ['text', 5],
    ['a list', []],
    ['no unit', { attribute: 'weight' }],
    ['an empty name', { attribute: '', unit: 'kg' }],
    ['a long name', { attribute: 'a'.repeat(201), unit: 'kg' }],
  ])('of a model whose manifest has %s for its task is refused as CORRUPT_FILE', async (_, task) => {
    const folder = join(temporaryFolder(), 'run');
    await saveCheckpoint(folder, { ...state, info: { ...state.info, task } }, { keep: 1 });
    await expect(loadModel(folder)).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringContaining('task'),
      hint: expect.any(String),
    });
  });

  test('keeps its direction when a model is made from the design of another', async () => {
    const { design } = await open(transfer);
    const model = await Model.from(design, state.weights, { device: 'cpu', precision: 'fp32', threads: 1 });
    onTestFinished(() => model.dispose());
    expect(model.task).toEqual({ attribute: 'weight', unit: 'kg' });
    for (const wrong of [{ target: 'other' }, { task: 5 }, { task: { attribute: 'a' } }])
      await expect(Model.from({ ...design, ...(wrong as object) }, state.weights)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});

describe('pairs of a CSV file', () => {
  /** A folder with some faces and a file of pairs. */
  async function album(text: string): Promise<{ folder: string; pairs: string; out: string }> {
    const folder = temporaryFolder();
    await mkdir(join(folder, 'a b'));
    for (let i = 0; i < 5; i++) await copyFile(faces.files[i]!, join(folder, 'a b', `${i}.jpg`));
    const pairs = join(folder, 'pairs.csv');
    await writeFile(pairs, text);
    return { folder, pairs, out: join(folder, 'changes.csv') };
  }
  const lines = async (file: string) => (await readFile(file, 'utf8')).trimEnd().split('\n');

  test('get the change that compare() tells, in their order, with their other columns', async () => {
    const { folder, pairs, out } = await album(
      '\ufeffname,y,"weight, kg",x\r\nBert,a b/1.jpg,"1,5",a b/0.jpg\r\n\r\n"C ""x""",a b/0.jpg,,./a b/4.jpg\r\n',
    );
    const model = await open(transfer);
    expect(await comparePairs(model, { pairs, out })).toEqual({ out, pairs: 2, pictures: 3, failed: [] });
    const at = (i: number) => join(folder, 'a b', `${i}.jpg`);
    const words = async (x: number, y: number) => {
      const { change, direction } = await model.compare(at(x), at(y));
      return `${Number(change.toPrecision(6))},${direction},`;
    };
    expect(await lines(out)).toEqual([
      'name,y,"weight, kg",x,change,direction,reason',
      `Bert,a b/1.jpg,"1,5",a b/0.jpg,${await words(0, 1)}`,
      `"C ""x""",a b/0.jpg,,./a b/4.jpg,${await words(4, 0)}`,
    ]);
  });

  test('have no direction from a model that knows sizes only', async () => {
    const { pairs, out } = await album('x,y\na b/0.jpg,a b/1.jpg\n');
    await comparePairs(await open(), { pairs, out });
    expect((await lines(out))[1]).toMatch(/^a b\/0\.jpg,a b\/1\.jpg,-?[\d.e-]+,,$/);
  });

  test('read a picture once, in however many pairs it stands', async () => {
    const some = Array.from({ length: 120 }, (_, i) => `a b/${i % 5}.jpg,a b/${(i + 1) % 5}.jpg`);
    const { pairs, out } = await album(`x,y\n${some.join('\n')}\n`);
    const told: number[] = [];
    const done = await comparePairs(await open(), { pairs, out, onProgress: ({ done, total }) => told.push(done, total) });
    expect([done.pairs, done.pictures, told]).toEqual([120, 5, [5, 5]]);
    const [, ...rows] = await lines(out);
    expect(rows[0]).toBe(rows[5]);
  });

  test('that cannot be read say why in their row, and cost no other', async () => {
    const { folder, pairs, out } = await album(
      'x,y\na b/0.jpg,none.jpg\na b/0.jpg,broken.jpg\n,a b/1.jpg\na b/1.jpg\na b/0.jpg,a b/1.jpg,more\na b/0.jpg,a\0b\na b/2.jpg,a b/3.jpg\na b,a b/3.jpg\n',
    );
    await writeFile(join(folder, 'broken.jpg'), (await readFile(faces.files[0]!)).subarray(0, 300));
    const { failed, pictures } = await comparePairs(await open(), { pairs, out });
    expect(pictures).toBe(6);
    expect(failed.map(({ line }) => line)).toEqual([2, 3, 4, 5, 6, 7, 9]);
    const reasons = [
      join(folder, 'none.jpg'),
      join(folder, 'broken.jpg'),
      'it has no x',
      'it has no y',
      '3 cells in 2 columns',
      'its y holds a NUL',
      join(folder, 'a b'),
    ];
    for (const [i, reason] of reasons.entries()) expect(failed[i]!.reason).toContain(reason);
    const rows = await lines(out);
    expect(rows).toHaveLength(9);
    expect(rows[7]).toMatch(/^a b\/2\.jpg,a b\/3\.jpg,-?[\d.]+,,$/);
  });

  test.each([
    ['nothing', '', /:1: expected the names of the columns/],
    ['no column y', 'x,z\na,b\n', /:1: expected a column `y` but found "x,z"/],
    ['semicolons', 'x;y\na;b\n', /:1: expected commas between the columns but found ";"/],
    ['a column twice', 'x,y,x\n', /:1: expected each column once/],
    ['a column of the results', 'x,y,change\n', /:1: expected no column `change`/],
    ['a quote without an end', 'x,y\n"a,b\n', /:\d: /],
    ['other bytes', Buffer.from([0x78, 0x2c, 0x79, 0x0a, 0xff, 0xfe, 0x0a]).toString('latin1'), /expected UTF-8/],
  ])('in a file with %s are refused with the line', async (what, text, message) => {
    const { pairs, out, folder } = await album(text);
    if (what === 'other bytes') await writeFile(pairs, Buffer.from(text, 'latin1'));
    await expect(comparePairs(await open(), { pairs, out })).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringMatching(message),
      hint: expect.any(String),
    });
    expect(await readdir(folder)).not.toContain('changes.csv');
  });

  test('of nobody make a file of columns; a missing file, one name for both, a model without a head, an abort make none', async () => {
    const { folder, pairs, out } = await album('x,y\n');
    const model = await open();
    expect(await comparePairs(model, { pairs, out })).toMatchObject({ pairs: 0, pictures: 0 });
    expect(await lines(out)).toEqual(['x,y,change,direction,reason']);
    await expect(comparePairs(model, { pairs: join(folder, 'no.csv'), out })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('no.csv'),
    });
    await expect(comparePairs(model, { pairs, out: join(folder, '.', 'pairs.csv') })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(comparePairs(model, { pairs, out, signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
    await expect(comparePairs(model, { pairs, out: join(folder, 'none', 'x.csv') })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining(join('none', 'x.csv')),
    });
    const bare = await Model.from(model.design, { seed: 1 }, { device: 'cpu', precision: 'fp32', threads: 1 });
    onTestFinished(() => bare.dispose());
    await expect(comparePairs(bare, { pairs, out })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      hint: expect.stringContaining('intraPersonal'),
    });
    await expect(comparePairs({} as Model, { pairs, out })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      hint: expect.stringContaining('loadModel'),
    });
  });
});

describe('embeddings', () => {
  test('are an .npy file of floats, 64 bytes aligned, with their names beside it', async () => {
    const folder = temporaryFolder();
    const model = await open();
    const files = faces.files.slice(0, 3);
    const out = join(folder, 'h.npy');
    expect(await saveEmbeddings(model, files, out)).toEqual({ npy: out, csv: join(folder, 'h.csv'), pictures: 3, width: 128 });
    const bytes = await readFile(out);
    expect(bytes.subarray(0, 8).toString('latin1')).toBe('\x93NUMPY\x01\x00');
    const length = bytes.readUInt16LE(8);
    expect([(10 + length) % 64, bytes.length]).toEqual([0, 10 + length + 4 * 3 * 128]);
    expect(bytes.subarray(10, 10 + length).toString('latin1')).toMatch(
      /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(3, 128\), \} *\n$/,
    );
    const values = new Float32Array(new Uint8Array(bytes.subarray(10 + length)).buffer);
    expect(values).toEqual(await model.embed(files));
    expect(await readFile(join(folder, 'h.csv'), 'utf8')).toBe(`row,path\n${files.map((file, i) => `${i},${file}\n`).join('')}`);
  });

  test('are read by NumPy', async ({ skip }) => {
    const out = join(temporaryFolder(), 'h.npy');
    if (spawnSync('python3', ['-c', 'import numpy']).status !== 0) return skip('no NumPy here');
    const model = await open();
    await saveEmbeddings(model, faces.files.slice(0, 2), out);
    const said = execFileSync('python3', ['-c', 'import numpy, sys; h = numpy.load(sys.argv[1]); print(h.shape, h.dtype, h[1, 5])', out], {
      encoding: 'utf8',
    });
    const h = await model.embed(faces.files.slice(0, 2));
    expect(said).toMatch(/^\(2, 128\) float32 /);
    expect(Number(said.split(' ').at(-1))).toBeCloseTo(h[133]!, 5);
  });

  test('need a name that ends in .npy, a model and pictures that can be read; nothing is left behind', async () => {
    const folder = temporaryFolder();
    const model = await open();
    await expect(saveEmbeddings(model, [], join(folder, 'h.csv'))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('.npy'),
    });
    await expect(saveEmbeddings(5 as never, [], join(folder, 'h.npy'))).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    const missing = join(folder, 'none.jpg');
    await expect(saveEmbeddings(model, [missing], join(folder, 'h.npy'))).rejects.toMatchObject({
      message: expect.stringContaining(missing),
    });
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('on the command line', () => {
  const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
  const comface = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: shared, timeout: 60_000 });
    return { status, out: stdout, errors: stderr };
  };

  test('compare says the change in words', () => {
    const [x, y] = [faces.files[0]!, faces.files[4]!];
    expect(comface('compare', x, y, '--model', transfer).out).toMatch(/^weight (increased|decreased) by \d\.\d\d kg\n$/);
    expect(comface('compare', x, y, '--model', run).out).toMatch(
      /^changed by -?\d\.\d\d steps of alpha \(near 0 is no change; this model knows sizes, not directions\)\n$/,
    );
  });

  test('compare --pairs writes a file and ends with code 1 when a picture cannot be read', async () => {
    await writeFile(join(shared, 'pairs.csv'), `x,y\n${faces.files[0]},${faces.files[1]}\nnone.jpg,${faces.files[1]}\n`);
    const { status, out, errors } = comface('compare', '--pairs', 'pairs.csv', '--out', 'changes.csv', '--model', run);
    expect([status, out]).toEqual([1, '1 pair of 3 pictures in changes.csv\n']);
    expect(errors).toContain('Not compared: 1 of 2 pairs');
    expect(errors).toMatch(/line 3: .*none\.jpg/);
    for (const [args, words] of [
      [['--pairs', 'pairs.csv'], '--out'],
      [['a.jpg', 'b.jpg', '--pairs', 'pairs.csv', '--out', 'o.csv'], '--pairs'],
      [[], "'x'"],
    ] as const) {
      const wrong = comface('compare', ...args);
      expect([wrong.status, wrong.errors]).toEqual([2, expect.stringContaining(words)]);
    }
  });

  test('embed, saliency and report write what they say', async () => {
    const [x, y] = [faces.files[0]!, faces.files[4]!];
    expect(comface('embed', x, y, '--model', run, '--out', 'h.npy')).toMatchObject({
      status: 0,
      out: '2 pictures x 128 in h.npy, names in h.csv\n',
    });
    expect(comface('saliency', x, '--model', run, '--out', 'x.png')).toMatchObject({ status: 0, out: 'x.png\n' });
    expect(await sharp(join(shared, 'x.png')).metadata()).toMatchObject({ format: 'png', width: 32, height: 32 });
    expect(comface('report', transfer)).toMatchObject({ status: 0, out: 'transfer/report.html\n' });
    expect((await readFile(join(transfer, 'report.html'), 'utf8')).startsWith('<!DOCTYPE html>')).toBe(true);
    for (const args of [
      ['saliency', x, '--out', 'x.jpg'],
      ['report', run, '--out', 'x.pdf'],
      ['embed', x, '--out', 'h.txt', '--model', run],
      ['report', shared],
    ])
      expect(comface(...args)).toMatchObject({ status: 2, out: '' });
  });
});
