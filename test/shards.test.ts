// Sets of shards: what is drawn into them is what is read, whatever happens meanwhile, and what is damaged is named.
import { readdirSync, readlinkSync } from 'node:fs';
import { copyFile, cp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { attributes } from '../lib/data/attributes.ts';
import { type DataSet, readData } from '../lib/data/dataset.ts';
import type { SetOptions } from '../lib/data/generation.ts';
import { GridGroups, ListedGroups } from '../lib/data/groups.ts';
import { PairSampler } from '../lib/data/pairs.ts';
import { generate } from '../lib/data/procedural.ts';
import { native } from '../lib/native.ts';
import { train } from '../lib/train/train.ts';
import { planOf, runAugment, sharedFolder, smallRun, smallSet } from './faces.ts';
import { digest, flip, temporaryFolder, withFileLimit } from './support.ts';

const shared = sharedFolder();

/** What a descriptor of this process leads to. */
function target(descriptor: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return ''; // the one that listed them
  }
}
/** 4 people x 2 attributes x 5 alphas of 32 pixels: three groups a shard. */
const options = { ...smallSet, subjects: 4, attributes: ['smile', 'age'], format: 'shards', shardBytes: 15 * 512 } as const;
const folder = join(shared, 'set');
let set: DataSet;
beforeAll(async () => {
  set = await generate({ ...options, out: folder });
  await generate({ ...options, seed: 2, out: join(shared, 'other') });
});

/** A copy that may be damaged. */
async function copy(): Promise<string> {
  const to = join(temporaryFolder(), 'set');
  await cp(folder, to, { recursive: true });
  return to;
}

/** Pairs of these rows; those beyond `pairs` stand in for broken ones. */
async function brokenIn(data: DataSet, x: number[], y: number[], pairs: number) {
  const source = data.open(32, 2);
  const { broken } = await source.fill({ ...planOf(x, y), pairs }, runAugment);
  source.dispose();
  return broken;
}

describe('a set of shards', () => {
  test('has the pictures, in the order, of the same set in files', async () => {
    expect((await readdir(folder)).sort()).toEqual(['00000.shard', '00001.shard', '00002.shard', 'groups.bin', 'set.json']);
    expect([set.count, [...set.subjects], set.size, set.attributes]).toEqual([40, [0, 1, 2, 3], 32, ['smile', 'age']]);
    const files = await generate({ ...options, format: 'files', out: join(shared, 'files') });
    const plan = planOf([3, 39, 17, 20], [5, 38, 16, 21]);
    const filled = await Promise.all(
      [set, files].map(async (data) => {
        const source = data.open(32, 2);
        const batch = await source.fill(plan, runAugment);
        source.dispose();
        return batch;
      }),
    );
    expect(filled[0]!.broken).toEqual([]);
    expect(filled[0]).toEqual(filled[1]);
  });

  test('of raw pixels has what was drawn', async () => {
    const raw = await generate({ ...options, quality: 0, out: join(shared, 'raw') });
    const shots = { seed: 1n, subject: Uint32Array.of(0), photo: Uint32Array.of(2), attribute: Int32Array.of(attributes.indexOf('smile')) };
    const drawn = await native().module.drawFaces({ ...shots, alpha: Float32Array.of(0), domain: 0, size: 32 }, 1);
    const bytes = await readFile(join(raw.folder, '00000.shard'));
    const at = bytes.readUInt32LE(64 + 8 * 2);
    expect(bytes.subarray(at, at + drawn.length)).toEqual(Buffer.from(drawn));
  });

  test('trains to the same losses as the same set in files', async () => {
    const losses = async (data: string) => {
      const all: number[] = [];
      for await (const event of train({ ...smallRun, data, out: join(temporaryFolder(), 'run'), validation: 0.3 }))
        if (event.type === 'step' || event.type === 'validation') all.push(event.type === 'step' ? event.loss : event.mae);
      return all;
    };
    const many = { ...options, subjects: 8 };
    const [shards, files] = [join(shared, 'many'), join(shared, 'many-files')];
    await generate({ ...many, out: shards });
    await generate({ ...many, format: 'files', out: files });
    const found = await losses(shards);
    expect(found.length).toBe(15);
    expect(found).toEqual(await losses(files));
  });

  test('is drawn to the same bytes by any number of threads, at once or in parts', async () => {
    const expected = await digest(folder);
    const whole = join(temporaryFolder(), 'set');
    await generate({ ...options, threads: 3, out: whole });
    expect(await digest(whole)).toBe(expected);
    for (const missing of ['00001.shard', 'set.json']) {
      const part = await copy();
      const plan = join(temporaryFolder(), 'set');
      const stop = new AbortController();
      await expect(generate({ ...options, out: plan, signal: stop.signal, onProgress: () => stop.abort('enough') })).rejects.toBe('enough');
      await copyFile(join(plan, 'generate.json'), join(part, 'generate.json'));
      for (const name of [missing, 'set.json']) await rm(join(part, name), { force: true });
      await writeFile(join(part, '00002.shard'), 'torn');
      await writeFile(join(part, '00000.shard.part'), 'left by a kill');
      await generate({ ...options, out: part });
      await rm(join(part, '00000.shard.part'), { force: true });
      expect(await digest(part)).toBe(expected);
    }
  });

  test('onto a disk that fills up leaves nothing torn, and goes on when there is room', async () => {
    const many = { ...options, subjects: 60, size: 64, shardBytes: 200 * 2048 };
    const [whole, out] = [join(temporaryFolder(), 'set'), join(temporaryFolder(), 'set')];
    await generate({ ...many, out: whole });
    const said = await withFileLimit(256, `({ generate }) => generate(${JSON.stringify({ ...many, out })})`);
    expect(said).toMatch(/^IO: Cannot write in .*: EFBIG/);
    expect(await readdir(out)).toEqual(['generate.json']);
    await generate({ ...many, out });
    expect(await digest(out)).toBe(await digest(whole));
  });

  test('of more shards than may be open is read all the same', async () => {
    const many = await generate({
      ...options,
      subjects: 300,
      attributes: ['smile'],
      alphas: 2,
      shardBytes: 1,
      out: join(temporaryFolder(), 'set'),
    });
    const samples = Array.from({ length: 600 }, (_, i) => (i * 7) % 600);
    const source = many.open(32, 2);
    const openShards = () => readdirSync('/proc/self/fd').filter((fd) => target(fd).startsWith(many.folder)).length;
    for (let from = 0; from < 600; from += 100) {
      const x = samples.slice(from, from + 100);
      const { broken } = await source.fill({ ...planOf(x, x), pairs: 100 }, runAugment);
      expect(broken).toEqual([]);
    }
    expect(openShards()).toBe(256);
    source.dispose();
    await expect.poll(openShards).toBe(0);
  });

  test('that is there is only read, and one of other options refused', async () => {
    const before = await digest(folder);
    expect((await generate({ ...options, out: folder, onProgress: () => expect.unreachable() })).hash).toBe(set.hash);
    await expect(generate({ ...options, seed: 2, out: folder })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    expect(await digest(folder)).toBe(before);
  });

  test('with a shard missing is drawn again, to the same bytes', async () => {
    const path = await copy();
    await rm(join(path, '00001.shard'));
    await truncate(join(path, '00002.shard'), 200);
    await generate({ ...options, out: path });
    expect(await digest(path)).toBe(await digest(folder));
  });

  test('that two draw at once ends as if one had', async () => {
    const out = join(temporaryFolder(), 'set');
    await Promise.all([generate({ ...options, out }), generate({ ...options, out })]);
    expect(await digest(out)).toBe(await digest(folder));
  });

  test('has its alphas in order, however they are named', async () => {
    const out = join(temporaryFolder(), 'set');
    const { groupsOf } = await generate({ ...options, alphas: [2, -1, 0.5], out });
    const groups = groupsOf(new Set([0]));
    expect([0, 1, 2].map((place) => groups.alphaAt(place))).toEqual([-1, 0.5, 2]);
  });

  test('that is not finished, or that the format cannot hold, is refused by name', async () => {
    const path = await copy();
    await rm(join(path, 'set.json'));
    await expect(readData(path)).rejects.toMatchObject({ code: 'IO', message: `Cannot read the data folder ${path}: it is not finished` });
    const out = join(temporaryFolder(), 'set');
    await expect(generate({ ...options, alphas: 10_001, size: 512, out })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected at most 5440 of 512 pixels for `alphas` but received 10001',
    });
    await expect(generate({ ...options, subjects: 2_000_000, shardBytes: 1, out })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Expected at most 1048576 shards for `shardBytes` but received 4000000',
    });
    // A folder in which nothing has been drawn may be used for another set.
    expect(await readdir(out)).toEqual(['generate.json']);
    await generate({ ...options, out });
    expect(await digest(out)).toBe(await digest(folder));
  });

  test('that the disk cannot hold is refused before anything is drawn', async () => {
    const out = join(temporaryFolder(), 'set');
    const huge: SetOptions = { out, subjects: 400_000, attributes: ['smile'], alphas: 101, size: 512, quality: 0 };
    await expect(generate(huge)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^The 40400000 pictures need about 31\.8 TB in .*, and \d+(\.\d+)? [MGT]B are free there$/),
    });
    expect((await readdir(out)).filter((name) => name.endsWith('.shard'))).toEqual([]);
  });
});

describe('damage', () => {
  /** A message for each thing that may be wrong; `at` from the end where negative. */
  const headers: [string, string, (path: string) => Promise<void>, RegExp][] = [
    ['set.json cut short', 'set.json', (path) => truncate(path, 40), /set\.json: it is not JSON/],
    [
      'another version',
      'set.json',
      async (path) => writeFile(path, (await readFile(path, 'utf8')).replace('"version": 1', '"version": 2')),
      /expected 1 for `version`/,
    ],
    [
      'a changed seed',
      'set.json',
      async (path) => writeFile(path, (await readFile(path, 'utf8')).replace('"seed": "1"', '"seed": "2"')),
      /for `id`/,
    ],
    ['groups.bin cut short', 'groups.bin', (path) => truncate(path, 8), /groups\.bin: expected 64 bytes but found 8/],
    ['a flipped bit in groups.bin', 'groups.bin', (path) => flip(path, 9), /groups\.bin: its bytes are damaged/],
    [
      'a shard too short for its table',
      '00001.shard',
      (path) => truncate(path, 100),
      /00001\.shard: expected 15 pictures but the file has 100 bytes/,
    ],
  ];
  test.each(headers)('of %s is named when the set is opened', async (_, file, damage, message) => {
    const path = await copy();
    await damage(join(path, file));
    await expect(readData(path)).rejects.toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringMatching(message) });
  });

  test('of a missing shard is named when the set is opened', async () => {
    const path = await copy();
    await rm(join(path, '00001.shard'));
    await expect(readData(path)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/Cannot read .*00001\.shard: ENOENT/),
    });
  });

  const shards: [string, (path: string) => Promise<void>, RegExp][] = [
    ['its beginning', (path) => flip(path, 3), /00001\.shard: it does not begin like a shard of version 1$/],
    ['its header', (path) => flip(path, 20), /00001\.shard: its header or table is damaged$/],
    ['its table', (path) => flip(path, 70), /00001\.shard: its header or table is damaged$/],
    [
      'its end',
      async (path) => truncate(path, (await readFile(path)).length - 1),
      /00001\.shard: expected \d+ bytes but the file has \d+$/,
    ],
    [
      'which set it is of',
      async (path) => copyFile(join(shared, 'other', '00001.shard'), path),
      /00001\.shard: it belongs to another set$/,
    ],
    ['which shard it is', (path) => copyFile(join(folder, '00000.shard'), path), /00001\.shard: it is not what the set says of it$/],
  ];
  test.each(shards)('of a shard (%s) makes its pictures broken ones, and no others', async (_, damage, message) => {
    const path = await copy();
    await damage(join(path, '00001.shard'));
    const data = await readData(path);
    const broken = await brokenIn(data, [14, 15, 29, 30, 2, 3], [13, 16, 28, 31, 1, 4], 4);
    expect(broken.map(({ sample }) => sample)).toEqual([15, 16, 29, 28]);
    for (const { reason } of broken) expect(reason).toMatch(message);
  });

  /** Writes a number into a shard's table, with the sum that it has then. */
  async function forge(file: string, picture: number, offset: number): Promise<void> {
    const bytes = await readFile(file);
    bytes.writeUInt32LE(offset, 64 + 8 * picture);
    const end = 64 + 8 * (bytes.readUInt32LE(20) + 1);
    bytes.writeUInt32LE(native().module.crc32c(bytes.subarray(12, end)), 8);
    await writeFile(file, bytes);
  }

  test.each([
    ['far beyond the file', 4, 4_000_000_000, /its table has a picture of \d+ bytes$/],
    ['beyond the file', 15, 100_000_000, /expected 100000000 bytes but the file has \d+$/],
    ['before the one in front', 4, 70, /its table has a picture at byte 70 after one at \d+$/],
    ['in the table', 0, 64, /its table has a picture at byte 64 after one at 192$/],
  ])('of an index with sound sums, that puts a picture %s, is found', async (_, picture, offset, message) => {
    const path = await copy();
    await forge(join(path, '00001.shard'), picture, offset);
    const broken = await brokenIn(await readData(path), [15, 2], [16, 3], 1);
    expect(broken.map(({ sample }) => sample)).toEqual([15, 16]);
    for (const { reason } of broken) expect(reason).toMatch(message);
  });

  test('is none where a number is asked for that the set does not have', async () => {
    const source = set.open(32, 1);
    await expect(source.fill(planOf([40], [0]), runAugment)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    source.dispose();
  });

  test('of a picture makes that one broken', async () => {
    const path = await copy();
    const file = join(path, '00001.shard');
    const bytes = await readFile(file);
    await flip(file, bytes.readUInt32LE(64 + 8 * 4) + 30);
    const data = await readData(path);
    expect(data.placeOf(19)).toEqual({ file: `${file}, picture 4` });
    expect(await brokenIn(data, [19, 20], [18, 21], 1)).toEqual([{ sample: 19, reason: `${file}, picture 4: its bytes are damaged` }]);
  });
});

describe('groups', () => {
  test('of a grid are those of the same pictures in a list', () => {
    const alphas = fc
      .uniqueArray(fc.integer({ min: -50, max: 50 }), { minLength: 2, maxLength: 9 })
      .map((list) => list.map((x) => x / 10).sort((a, b) => a - b));
    fc.assert(
      fc.property(
        alphas,
        fc.integer({ min: 1, max: 6 }),
        fc.subarray([0, 1, 2, 3, 4, 5], { minLength: 1 }),
        fc.nat(99),
        (list, range, chosen, seed) => {
          const alpha = Float32Array.from(list);
          const rows = Array.from({ length: 12 * alpha.length }, (_, i) => i);
          const groupOf = (i: number) => Math.floor(i / alpha.length);
          const columns = {
            subject: rows.map((i) => groupOf(i) >> 1),
            attribute: rows.map((i) => groupOf(i) & 1),
            alpha: Float32Array.from(rows, (i) => alpha[i % alpha.length]!),
          };
          const subjects = new Set(chosen);
          const numbers = Uint32Array.from([...Array(12).keys()].filter((g) => subjects.has(g >> 1)));
          const [grid, listed] = [new GridGroups(numbers, alpha), new ListedGroups(columns, subjects)];
          const plan = (groups: typeof grid | typeof listed) => {
            const data = { folder: '', groupsOf: () => groups };
            const config = { seed, pairs: 2, pairsPerEpoch: undefined, target: 'signed' as const, rangeAt: () => range };
            try {
              return [1, 2, 7].map((step) => new PairSampler(data, subjects, config).plan(step));
            } catch (error) {
              return String(error);
            }
          };
          expect(plan(grid)).toEqual(plan(listed));
        },
      ),
    );
  });

  test('of the paper: one subject in five has the first three attributes, each other one of the rest, in turn', async () => {
    const out = join(temporaryFolder(), 'set');
    const of = await generate({ ...options, subjects: 55, attributes, alphas: 2, composition: 'paper', out });
    expect(of.count).toBe(2 * (55 + 2 * 11));
    const bytes = await readFile(join(out, 'groups.bin'));
    const groups = Array.from({ length: 77 }, (_, g) => [bytes.readUInt32LE(8 * g), bytes.readUInt32LE(8 * g + 4)]);
    expect(groups.slice(0, 8)).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
      [1, 3],
      [2, 4],
      [3, 5],
      [4, 6],
      [5, 0],
    ]);
    expect(groups.at(-1)).toEqual([54, 3 + (43 % 40)]);
  });
});
