// Broken pictures in a batch: which are found, what is said of them, what takes their place; none of it depends on the threads.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type NativePlan, native } from '../lib/native.ts';
import { plainAugment, planOf, sharedFolder, writePicture } from './faces.ts';

const folder = sharedFolder();
const [size, edge, good] = [16, 32, 12];
let files: string[] = [];
/** Sample numbers of the broken ones. */
const broken = { truncated: 12, empty: 13, text: 14, missing: 15, folder: 16, wrongSize: 17, tiny: 18 };

beforeAll(async () => {
  files = Array.from({ length: good + Object.keys(broken).length }, (_, i) => join(folder, `${i}.jpg`));
  for (let i = 0; i < good; i++) await writePicture(files[i]!, edge, (x, y) => [x * 8, y * 8, i * 20]);
  const whole = await readFile(files[0]!);
  await writeFile(files[broken.truncated]!, whole.subarray(0, whole.length >> 1));
  await writeFile(files[broken.empty]!, '');
  await writeFile(files[broken.text]!, 'no picture at all');
  await mkdir(files[broken.folder]!);
  await writePicture(files[broken.wrongSize]!, 48, () => [1, 2, 3]);
  await writePicture(files[broken.tiny]!, 4, () => [1, 2, 3]);
});

async function fill(plan: NativePlan, threads = 2, pictureSize = edge) {
  const source = native().module.openFiles(files, size, threads, pictureSize);
  try {
    return await source.fill(plan, plainAugment);
  } finally {
    source.dispose();
  }
}

/** Four pairs and their spares. */
const plan = (x: number[], y: number[]) => planOf(x, y, { pairs: 4 });

describe('a broken picture', () => {
  test.each(Object.entries(broken).filter(([name]) => name !== 'tiny'))(
    '(%s) is reported once, named with its file, and its pair replaced by the first spare',
    async (_, sample) => {
      for (const [x, y] of [
        [sample, 1],
        [1, sample],
        [sample, sample],
      ] as const) {
        const result = await fill(plan([0, x, 2, 3, 4, 5], [6, y, 7, 8, 9, 10]));
        expect(result.broken).toEqual([{ sample, reason: expect.stringContaining(files[sample]!) }]);
        const expected = await fill(plan([0, 4, 2, 3], [6, 9, 7, 8]));
        expect(result.images).toEqual(expected.images);
        // Targets are the row numbers: the spare is row 4.
        expect([...result.targets]).toEqual([0, 4, 2, 3]);
      }
    },
  );

  test('says what is wrong: both sizes, and what the decoder found', async () => {
    const reasonOf = async (sample: number, pictureSize = edge) =>
      (await fill(plan([sample, 0, 1, 2, 3], [sample, 0, 1, 2, 3]), 1, pictureSize)).broken[0]!.reason;
    expect(await reasonOf(broken.wrongSize)).toMatch(/32 x 32.*48 x 48/);
    expect(await reasonOf(broken.tiny, 0)).toMatch(/8 x 8.*4 x 4/);
    expect(await reasonOf(broken.missing)).toMatch(/no such file/i);
    for (const sample of [broken.truncated, broken.empty, broken.text, broken.folder])
      expect((await reasonOf(sample)).length).toBeGreaterThan(files[sample]!.length + 5);
    // Without a size to be of, any picture of 8 x 8 and more is good.
    expect((await fill(plan([broken.wrongSize, 0, 1, 2], [0, 0, 1, 2]), 1, 0)).broken).toEqual([]);
  });

  test('among the spares is passed over, and all are replaced in the order of their pairs, from any number of threads', async () => {
    const { truncated, empty, text, missing } = broken;
    const hard = plan([truncated, 1, empty, 3, text, 4, missing, 5, 6], [7, 8, 9, 10, 0, 1, 2, 3, 4]);
    const expected = await fill(plan([4, 1, 5, 3], [1, 8, 3, 10]));
    for (const threads of [1, 2, 4, 8]) {
      const result = await fill(hard, threads);
      expect(result.images).toEqual(expected.images);
      expect([...result.targets]).toEqual([5, 1, 7, 3]);
      expect(result.broken.map(({ sample }) => sample)).toEqual([truncated, text, empty, missing]);
    }
  });

  test('without a spare left rejects with CORRUPT_FILE naming the first', async () => {
    const { text, empty } = broken;
    const failure = fill(plan([0, text, 2, empty, empty], [0, text, 2, empty, empty]));
    await expect(failure).rejects.toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringContaining(files[text]!) });
    const all = Object.values(broken).filter((sample) => sample !== broken.tiny);
    await expect(fill(planOf(all, all, { pairs: 4 }))).rejects.toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringContaining(files[all[0]!]!),
    });
  });
});

test('a source that never was: no files, sizes and threads out of range', () => {
  const { module } = native();
  for (const [paths, viewSize, threads, pictureSize] of [
    [[], 16, 1, 0],
    [files, 7, 1, 0],
    [files, 4097, 1, 0],
    [files, 16, 0, 0],
    [files, 16, 65, 0],
    [files, 16, 1, -1],
    [files, 16.5, 1, 0],
  ] as const) {
    expect(() => module.openFiles(paths, viewSize, threads, pictureSize)).toThrow(expect.objectContaining({ name: 'ComFaceError' }));
  }
});

test('plans with sample numbers that are not there or lists of different lengths are refused', async () => {
  const wrong = [
    plan([0, 1, 2, 99], [0, 1, 2, 3]),
    plan([0, 1, 2, 3], [0, 1, 2]),
    plan([0, 1], [0, 1]),
    { ...plan([0, 1, 2, 3], [0, 1, 2, 3]), target: new Float32Array(2) },
  ];
  for (const one of wrong) await expect(fill(one)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
});
