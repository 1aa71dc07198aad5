// Looking through a data folder: what is counted is what is there, and every damaged picture is found and named.
import { readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import type { SetOptions } from '../lib/data/generation.ts';
import { dataSheet, inspect } from '../lib/data/inspect.ts';
import { generate } from '../lib/data/procedural.ts';
import { sharedFolder, smallSet } from './faces.ts';
import { flip, temporaryFolder } from './support.ts';

const shared = sharedFolder();
const folder = join(shared, 'shards');
const files = join(shared, 'files');
const options: SetOptions = { ...smallSet, subjects: 6, attributes: ['smile', 'age'], format: 'shards', out: folder };
beforeAll(async () => {
  await generate(options);
  await generate({ ...options, format: 'files', out: files });
});

test('counts pictures, subjects, alphas and bytes, the same in shards and in files', async () => {
  const histogram = { edges: [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5], counts: [6, 0, 6, 0, 0, 6, 0, 6, 0, 6] };
  const expected = {
    pictures: 60,
    subjects: 6,
    size: 32,
    attributes: ['smile', 'age'].map((name) => ({ name, pictures: 30, subjects: 6, histogram })),
    checked: 60,
    damaged: [],
  };
  const [shards, list] = [await inspect(folder, { verify: 'all' }), await inspect(files)];
  expect(shards).toMatchObject(expected);
  expect(list).toMatchObject(expected);
  const sizes = await Promise.all(
    ['00000.shard', 'groups.bin', 'set.json'].map(async (name) => (await readFile(join(folder, name))).length),
  );
  expect(shards.diskBytes).toBe(sizes.reduce((a, b) => a + b));
});

test('has one bin for alphas that are all the same', async () => {
  const out = join(temporaryFolder(), 'set');
  await generate({ ...options, attributes: ['smile'], alphas: [1.5], out });
  expect((await inspect(out)).attributes[0]!.histogram).toEqual({ edges: [1.5, 1.5], counts: [6] });
});

describe('damage', () => {
  test('is found in any picture of a shard, and in the first', async () => {
    const out = join(temporaryFolder(), 'set');
    await generate({ ...options, out });
    const file = join(out, '00000.shard');
    const bytes = await readFile(file);
    const wrong = [0, 1, 17, 59];
    for (const picture of wrong) await flip(file, bytes.readUInt32LE(64 + 8 * picture) + 100);
    const { damaged } = await inspect(out, { verify: 'all' });
    expect(damaged).toEqual(wrong.map((picture) => ({ picture, reason: `${file}, picture ${picture}: its bytes are damaged` })));
  });

  test('of a table is that of all pictures of the shard', async () => {
    const out = join(temporaryFolder(), 'set');
    await generate({ ...options, out });
    await flip(join(out, '00000.shard'), 70);
    const { damaged, checked } = await inspect(out);
    expect([damaged.length, checked]).toEqual([60, 60]);
    expect(damaged[59]).toEqual({ picture: 59, reason: `${join(out, '00000.shard')}: its header or table is damaged` });
  });

  test('of a file is named', async () => {
    const out = join(temporaryFolder(), 'set');
    await generate({ ...options, format: 'files', out });
    const file = join(out, '000002', 'age', '03.jpg');
    await truncate(file, 300);
    const { damaged } = await inspect(out);
    expect(damaged).toEqual([{ picture: 2 * 10 + 5 + 3, reason: expect.stringMatching(`^${file}: `) }]);
  });

  test('is looked for in about a thousand pictures, or in all', async () => {
    const out = join(temporaryFolder(), 'set');
    await generate({ ...options, subjects: 500, attributes: ['smile'], out });
    const done: number[] = [];
    const some = await inspect(out, { onProgress: (progress) => done.push(progress.done) });
    expect([some.checked, done.at(-1)]).toEqual([1250, 1250]);
    expect((await inspect(out, { verify: 'all' })).checked).toBe(2500);
    const stop = new AbortController();
    await expect(inspect(out, { signal: stop.signal, onProgress: () => stop.abort('enough') })).rejects.toBe('enough');
  });

  test('where a folder is none, or an option is wrong, is an error', async () => {
    await expect(inspect(temporaryFolder())).rejects.toMatchObject({ code: 'IO' });
    await expect(inspect(folder, { verify: 'most' as 'all' })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected one of some, all for `verify` but received "most"',
    });
  });
});

describe('a sheet', () => {
  test('shows pictures of the set in rows of one subject and attribute, by alpha', async () => {
    const sheet = sharp(await dataSheet(folder));
    expect(await sheet.metadata()).toMatchObject({ format: 'png', width: 5 * 32, height: 8 * 32, channels: 3 });
    // The last row is the last group: its middle is what the reader gives for that picture, to what sharp's decoder rounds otherwise.
    const cell = await sheet
      .extract({ left: 2 * 32, top: 7 * 32, width: 32, height: 32 })
      .raw()
      .toBuffer();
    const picture = await sharp(join(files, '000005', 'age', '02.jpg'))
      .raw()
      .toBuffer();
    const distance = cell.reduce((sum, value, i) => sum + Math.abs(value - picture[i]!), 0) / cell.length;
    expect(distance).toBeLessThan(3);
  });

  test('leaves gray what cannot be read', async () => {
    const out = join(temporaryFolder(), 'set');
    await generate({ ...options, out });
    await flip(join(out, '00000.shard'), 70);
    const { data } = await sharp(await dataSheet(out))
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect(new Set(data)).toEqual(new Set([128]));
  });
});
