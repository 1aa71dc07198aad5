// Several sets as one: pictures, groups and subjects are those of all, nothing is copied, and sets that do not go together are refused.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { readData } from '../lib/data/dataset.ts';
import type { SetOptions } from '../lib/data/generation.ts';
import { inspect } from '../lib/data/inspect.ts';
import { joinSets } from '../lib/data/joined.ts';
import { PairSampler } from '../lib/data/pairs.ts';
import { generate } from '../lib/data/procedural.ts';
import { train } from '../lib/train/train.ts';
import { plainAugment, planOf, sharedFolder, smallRun } from './faces.ts';
import { refusal, temporaryFolder } from './support.ts';

const shared = sharedFolder();
const options: Omit<SetOptions, 'out'> = { subjects: 3, attributes: ['smile', 'age'], alphas: 5, size: 32, threads: 1 };
const [a, b, c] = ['a', 'b', 'c'].map((name) => join(shared, name)) as [string, string, string];

beforeAll(async () => {
  await generate({ ...options, out: a });
  await generate({ ...options, out: b, firstSubject: 10, attributes: ['age', 'weight'], composition: 'single' });
  await generate({ ...options, out: c, alphas: [-1, 0, 1], quality: 0 });
});

test('a joined set has the pictures of all, numbered through, each with its attribute and file', async () => {
  const out = join(temporaryFolder(), 'all');
  const joined = await joinSets({ sets: [a, b], out });
  expect(readdirSync(out)).toEqual(['sets.json']);
  expect(joined).toMatchObject({ count: 45, size: 32, attributes: ['smile', 'age', 'weight'], isDrawn: true });
  expect([...joined.subjects]).toEqual([0, 1, 2, 10, 11, 12]);
  expect([0, 5, 29, 30, 35, 40].map((sample) => joined.attributes[joined.attributeOf(sample)])).toEqual([
    'smile',
    'age',
    'age',
    'age',
    'weight',
    'age',
  ]);
  expect(joined.placeOf(30).file).toBe(`${b}/00000.shard, picture 0`);
  expect((await readData(out)).hash).toBe(joined.hash);
  const source = joined.open(32, 1);
  const part = (await readData(b)).open(32, 1);
  try {
    const at = async (of: typeof source, sample: number) => (await of.fill({ ...planOf([sample]), views: 1 }, plainAugment)).images;
    expect(source.count).toBe(45);
    expect(await at(source, 33)).toEqual(await at(part, 3));
  } finally {
    source.dispose();
    part.dispose();
  }
});

test('groups are those of the sets, also where these have other alphas, and no pair is of two', async () => {
  const joined = await joinSets({ sets: [a, c], out: join(temporaryFolder(), 'all'), renumber: true });
  expect([...joined.subjects]).toEqual([0, 1, 2, 3, 4, 5]);
  const groups = joined.groupsOf(new Set([1, 4]));
  expect([groups.length, groups.period]).toEqual([16, 16]);
  const seen = Array.from({ length: 16 }, (_, place) => [
    groups.sampleAt(place),
    groups.lowOf(place),
    groups.highOf(place),
    groups.alphaAt(place),
  ]);
  expect(seen[0]).toEqual([10, 0, 5, -5]);
  expect(seen[9]).toEqual([19, 5, 10, 5]);
  expect(seen[10]).toEqual([30 + 6, 10, 13, -1]);
  expect(seen[15]).toEqual([30 + 11, 13, 16, 1]);
  expect(groups.firstAtLeast(10, 13, 0)).toBe(11);
  const sampler = new PairSampler(joined, joined.subjects, {
    seed: 1,
    pairs: 8,
    target: 'absolute',
    rangeAt: () => 10,
  });
  for (let step = 1; step <= 6; step++) {
    const { x, y } = sampler.plan(step);
    for (const [i, sample] of x.entries()) expect(sample < 30).toBe(y[i]! < 30);
  }
});

test('groups of one list of alphas keep its period, so that no list of all pictures is made', async () => {
  const joined = await joinSets({ sets: [a, b], out: join(temporaryFolder(), 'all') });
  expect(joined.groupsOf(new Set(joined.subjects)).period).toBe(5);
});

test('a training runs on a joined set, and it is inspected like another', async () => {
  const folder = temporaryFolder();
  const out = join(folder, 'all');
  await joinSets({ sets: [a, c], out, renumber: true });
  const found = await inspect(out);
  expect(found).toMatchObject({ pictures: 48, subjects: 6, damaged: [] });
  expect(found.diskBytes).toBeGreaterThan((await inspect(a)).diskBytes);
  const { step } = await train({ ...smallRun, data: out, out: join(folder, 'run'), epochs: 1 });
  expect(step).toBeGreaterThan(0);
});

describe('what does not go together is refused', () => {
  test('sets that share a subject, with what to do', async () => {
    const error = await refusal(() => joinSets({ sets: [a, c], out: join(temporaryFolder(), 'all') }));
    expect(error).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining('number 0 in two of them') });
    expect(error.hint).toContain('--renumber');
  });

  test('pictures of two sizes, one set twice, a folder that is none, a folder that is taken', async () => {
    const folder = temporaryFolder();
    const large = join(folder, 'large');
    await generate({ ...options, out: large, size: 48, firstSubject: 20 });
    const cases: [readonly string[], string, RegExp][] = [
      [[a, large], join(folder, 'x'), /32 x 32 in all of `sets` but received 48 x 48/],
      [[a, a], join(folder, 'x'), /different folders/],
      [[a], join(folder, 'x'), /2 to 1000/],
      [[a, folder], join(folder, 'x'), /sets in shards/],
      [[a, b], large, /a new or empty folder/],
    ];
    for (const [sets, out, message] of cases)
      expect(await refusal(() => joinSets({ sets, out }))).toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringMatching(message),
      });
  });

  test('a set that has changed since, and a list that was changed by hand', async () => {
    const folder = temporaryFolder();
    const [first, second, out] = ['1', '2', 'all'].map((name) => join(folder, name)) as [string, string, string];
    await generate({ ...options, out: first });
    await generate({ ...options, out: second, firstSubject: 5 });
    await joinSets({ sets: [first, second], out });
    await rename(first, join(folder, '3'));
    await generate({ ...options, out: first, seed: 2 });
    expect(await refusal(() => readData(out))).toMatchObject({
      code: 'CORRUPT_FILE',
      message: expect.stringContaining('another than when it was joined'),
    });
    const list = join(out, 'sets.json');
    const text = readFileSync(list, 'utf8');
    for (const [from, to, message] of [
      ['comface-sets', 'x', /`format`/],
      ['"version": 1', '"version": 2', /`version`/],
      ['"offset": 0', '"offset": 0.5', /`offset`/],
      [/"folder": "[^"]*"/, '"folder": ""', /`folder`/],
      [/"hash": "[^"]*"/, '"hash": "a"', /`hash`/],
      ['{', '', /JSON/],
    ] as const) {
      writeFileSync(list, text.replace(from, to));
      expect(await refusal(() => readData(out))).toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringMatching(message) });
    }
  });
});
