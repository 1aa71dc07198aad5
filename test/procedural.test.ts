// Drawn data sets: the same options give the same bytes, every attribute shows, and a folder is never mixed up.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { attributes } from '../lib/data/attributes.ts';
import type { SetOptions } from '../lib/data/generation.ts';
import type { Manifest } from '../lib/data/manifest.ts';
import { generate } from '../lib/data/procedural.ts';
import { native } from '../lib/native.ts';
import { sharedFolder, smallSet } from './faces.ts';
import { temporaryFolder } from './support.ts';

const shared = sharedFolder();
const options: Omit<SetOptions, 'out'> & { format: 'files' } = { ...smallSet, subjects: 3, attributes: ['smile', 'age'] };
let set: Manifest;
beforeAll(async () => {
  set = await generate({ ...options, out: join(shared, 'set') });
});

async function digest({ files, folder }: Manifest): Promise<string> {
  const hash = createHash('sha256').update(await readFile(join(folder, 'manifest.jsonl')));
  for (const file of files) hash.update(await readFile(file));
  return hash.digest('hex');
}

/** Draws one picture for each row of changes. */
async function draw(
  rows: { subject?: number; photo?: number; attribute?: number; alpha?: number }[],
  size = 64,
  domain = 0,
): Promise<Uint8Array[]> {
  const pixels = await native().module.drawFaces(
    {
      seed: 1n,
      subject: Uint32Array.from(rows, ({ subject = 0 }) => subject),
      photo: Uint32Array.from(rows, ({ photo = 0 }) => photo),
      attribute: Int32Array.from(rows, ({ attribute = -1 }) => attribute),
      alpha: Float32Array.from(rows, ({ alpha = 0 }) => alpha),
      domain,
      size,
    },
    2,
  );
  const bytes = size * size * 3;
  return rows.map((_, i) => pixels.subarray(i * bytes, (i + 1) * bytes));
}

const difference = (a: Uint8Array, b: Uint8Array): number => a.reduce((sum, v, i) => sum + Math.abs(v - b[i]!), 0) / a.length;

describe('generate', () => {
  test('writes every picture as a baseline JPEG of its size, and a manifest of subject x attribute x alpha', async () => {
    expect(set.files).toHaveLength(3 * 2 * 5);
    expect([...new Set(set.alpha)]).toEqual([-5, -2.5, 0, 2.5, 5]);
    expect([set.size, set.attributes, [...new Set(set.subject)]]).toEqual([32, ['smile', 'age'], [0, 1, 2]]);
    for (const file of set.files) {
      const bytes = await readFile(file);
      // SOI at the start; a frame header of baseline DCT (C0), none of progressive (C2).
      expect([bytes.readUInt16BE(0), bytes.includes(Buffer.of(0xff, 0xc0)), bytes.includes(Buffer.of(0xff, 0xc2, 0, 17))]).toEqual([
        0xffd8,
        true,
        false,
      ]);
      expect(await native().module.decodeJpeg(bytes)).toMatchObject({ width: 32, height: 32 });
    }
  });

  test('gives the same bytes for the same options, from any number of threads, and others for another seed or domain', async () => {
    const expected = await digest(set);
    expect(await digest(await generate({ ...options, threads: 3, out: join(temporaryFolder(), 'a') }))).toBe(expected);
    for (const change of [{ seed: 2 }, { domain: 1 }, { firstSubject: 5 }])
      expect(await digest(await generate({ ...options, ...change, out: join(temporaryFolder(), 'a') }))).not.toBe(expected);
  });

  test('takes a folder that holds the set already as it is', async () => {
    let chunks = 0;
    const again = await generate({ ...options, out: set.folder, onProgress: () => chunks++ });
    expect([chunks, again.hash]).toEqual([0, set.hash]);
  });

  test('refuses a folder that holds another set or anything else, and leaves it alone', async () => {
    for (const change of [{ seed: 2 }, { subjects: 4 }, { size: 40 }, { alphas: 3 }]) {
      await expect(generate({ ...options, ...change, out: set.folder })).rejects.toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining('a data set of other pictures or options'),
      });
    }
    const other = join(temporaryFolder(), 'photos');
    await mkdir(other);
    await writeFile(join(other, 'mine.txt'), '');
    await expect(generate({ ...options, out: other })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      hint: expect.stringContaining('new or empty'),
    });
    expect(await readdir(other)).toEqual(['mine.txt']);
  });

  test('stops when aborted, without a manifest', async () => {
    const out = join(temporaryFolder(), 'a');
    const controller = new AbortController();
    const reason = new Error('enough');
    const more = { ...options, subjects: 60, signal: controller.signal, onProgress: () => controller.abort(reason) };
    await expect(generate({ ...more, out })).rejects.toBe(reason);
    expect(await readdir(out)).not.toContain('manifest.jsonl');
    await expect(generate({ ...options, out: join(out, 'b'), signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  test('finishes what the same call left unfinished, to the same bytes', async () => {
    const [whole, torn] = [join(temporaryFolder(), 'a'), join(temporaryFolder(), 'b')];
    await generate({ ...options, size: 256, subjects: 4, alphas: 5, out: whole });
    const controller = new AbortController();
    const stopped = generate({
      ...options,
      size: 256,
      subjects: 4,
      alphas: 5,
      out: torn,
      signal: controller.signal,
      onProgress: () => controller.abort('stop'),
    });
    await expect(stopped).rejects.toBe('stop');
    await expect(generate({ ...options, size: 256, subjects: 5, alphas: 5, out: torn })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    const made = await generate({ ...options, size: 256, subjects: 4, alphas: 5, out: torn });
    expect(await readdir(torn)).toEqual(await readdir(whole));
    for (const file of made.files) expect(await readFile(file)).toEqual(await readFile(file.replace(torn, whole)));
  });

  test('reports progress up to the end', async () => {
    const seen: number[][] = [];
    await generate({
      ...options,
      subjects: 30,
      alphas: 5,
      out: join(temporaryFolder(), 'a'),
      onProgress: ({ done, total, secondsLeft }) => seen.push([done, total, secondsLeft]),
    });
    expect(seen.map(([done]) => done)).toEqual([300]);
    expect(seen.at(-1)).toEqual([300, 300, 0]);
  });

  test('suggests the attribute that was meant', async () => {
    await expect(generate({ ...options, attributes: ['smlie'], out: join(temporaryFolder(), 'a') })).rejects.toMatchObject({
      hint: expect.stringContaining('smile'),
    });
  });

  test.each([
    [{ subjects: 0 }, 'subjects'],
    [{ size: 31 }, 'size'],
    [{ size: 513 }, 'size'],
    [{ quality: 0 }, 'quality'],
    [{ domain: 2 }, 'domain'],
    [{ seed: -1 }, 'seed'],
    [{ attributes: [] }, 'attributes'],
    [{ attributes: ['smile', 'smile'] }, 'attributes'],
    [{ attributes: ['smlie'] }, 'smlie'],
    [{ alphas: 1 }, 'alphas'],
    [{ alphas: [0, 6] }, 'alphas'],
  ])('refuses %o by name', async (change, name) => {
    await expect(generate({ ...options, ...change, out: join(temporaryFolder(), 'a') })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining(name),
    });
  });
});

describe('a drawn face', () => {
  test('is another photo for another photo number, and another person for another subject', async () => {
    const [face, again, photo, subject] = (await draw([{}, {}, { photo: 1 }, { subject: 1 }])) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    expect(difference(face, again)).toBe(0);
    expect(difference(face, photo)).toBeGreaterThan(2);
    expect(difference(face, subject)).toBeGreaterThan(2);
  });

  test('looks different in the other domain', async () => {
    const [[a], [b]] = [await draw([{}]), await draw([{}], 64, 1)];
    expect(difference(a!, b!)).toBeGreaterThan(2);
  });

  test('there are 43 attributes, as many as in the paper', () => {
    expect([attributes.length, new Set(attributes).size]).toEqual([43, 43]);
  });
});
