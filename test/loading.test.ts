// What the loader promises of itself; test/native/loading.cc looks from inside.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { generate } from '../lib/data/procedural.ts';
import { native } from '../lib/native.ts';
import { smallSet } from './faces.ts';
import { outcomeOf, testPrograms } from './figures/programs.ts';
import { temporaryFolder } from './support.ts';

const loading = (...words: string[]) => outcomeOf(join(testPrograms(), 'loading'), words);

/** A small set of shards, in the words that the programs take. */
async function shardSet(encoding: string): Promise<string[]> {
  const out = join(temporaryFolder(), 'set');
  await generate({ ...smallSet, format: 'shards', quality: encoding === 'rgb' ? 0 : 90, shardBytes: 20 * 512, out });
  const { id, shards } = JSON.parse(await readFile(join(out, 'set.json'), 'utf8'));
  return [out, String(smallSet.size), encoding, id, shards.join(',')];
}

/** Takes the segments with this marker out of a JPEG file. */
function without(file: Buffer, marker: number): Buffer {
  const kept = [file.subarray(0, 2)];
  let at = 2;
  while (file[at + 1] !== 0xda) {
    const end = at + 2 + file.readUInt16BE(at + 2);
    if (file[at + 1] !== marker) kept.push(file.subarray(at, end));
    at = end;
  }
  return Buffer.concat([...kept, file.subarray(at)]);
}

// They are built once for all files, which takes minutes where nothing is kept from an earlier build.
beforeAll(() => void testPrograms(), 600_000);

describe('the loader', () => {
  test.each(['views', 'faces'])('makes the same bits of %s with every instruction set', async (what) => {
    const { text, status } = await loading(what);
    expect(status, text).toBe(0);
  });

  test('finds the same sum of any bytes with and without the instruction for it', async () => {
    const { text, status } = await loading('crc');
    expect(status, text).toBe(0);
  });

  test.each(['rgb', 'jpeg'])('asks for no memory in a running batch of %s pictures, but for what libjpeg-turbo takes', async (encoding) => {
    const { text, status } = await loading('allocations', ...(await shardSet(encoding)));
    expect(status, text).toBe(0);
    expect(text).toMatch(encoding === 'rgb' ? /^0 allocations for 320 pictures/ : /^\d+ allocations for 320 pictures/);
  });

  test('is timed at the work that it is said to do', async () => {
    const set = await shardSet('jpeg');
    const checked = async (what: string, ...more: string[]) => {
      const { text, status } = await outcomeOf(join(testPrograms(), 'loader'), [what, ...set, ...more]);
      expect(status, text).toBe(0);
      return JSON.parse(text);
    };
    const reader = await checked('reader');
    expect(reader).toEqual({ items: 60, checked: expect.stringMatching(/^\d+$/) });
    expect(await checked('turbojpeg')).toEqual(reader);
    const batches = await checked('fill', '2', 'simclr');
    expect(batches.items).toBe(2 * 3 * 32);
    expect(await checked('augment', '2', 'simclr')).toEqual(batches);
    expect((await checked('fill', '2', 'crops')).checked).not.toBe(batches.checked);
  });
});

describe('a JPEG file without its own tables', () => {
  const { module } = native();
  const edge = 32;
  const picture = (seed: number, quality: number) =>
    module.encodeJpeg(
      Uint8Array.from({ length: 3 * edge * edge }, (_, i) => (i * seed) % 251),
      edge,
      edge,
      quality,
    );
  const answer = (file: Uint8Array) => module.decodeJpeg(file).then(({ rgb }) => Buffer.from(rgb).toString('base64'), String);

  test.each([
    ['quantization', 0xdb],
    ['Huffman', 0xc4],
  ])('(%s) is never decoded with those of the file before', async (_, marker) => {
    const [good, other] = await Promise.all([picture(7, 90), picture(11, 20)]);
    const bare = without(Buffer.from(good), marker);
    expect(bare.length).toBeLessThan(good.length);
    // Half of the values of its Huffman tables swapped: what they decode is another picture, or none.
    const strange = Buffer.from(other);
    const table = strange.indexOf(Buffer.from([0xff, 0xc4])) + 5 + 16;
    strange.subarray(table, table + 6).reverse();
    const [alone, whole] = [await answer(bare), await answer(good)];
    if (marker === 0xdb) expect(alone).toContain('Quantization table 0x00 was not defined');
    for (const before of [good, other, strange, bare]) {
      for (let round = 0; round < 8; round++) {
        await answer(before);
        expect(await answer(bare)).toBe(alone);
        expect(await answer(good)).toBe(whole);
      }
    }
  });
});
