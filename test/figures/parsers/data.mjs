// @ts-check
// What lies in a data folder beside the pictures: set.json, groups.bin, and the CSV file that a set is packed from.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { Readable } from 'node:stream';
import { parseSets } from '../../../dist/data/joined.js';
import { idOf, parseGroups, parseSet } from '../../../dist/data/shards.js';
import { readTable } from '../../../dist/data/table.js';
import { native } from '../../../dist/native.js';
import { bytesOf, longWords, mutated, nest, numbered, sha256, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */

const made = { seed: '1', quality: 90 };
const grid = { size: 64, encoding: 'jpeg', attributes: ['smile', '__proto__'], alphas: [-5, 0, 5], shards: [3, 6], made };
const listed = { ...grid, encoding: 'rgb', alphas: null };
const groups = { count: 3, bytes: 24, crc32c: 7 };

/** The text of a set, its id as it must be where that can be told. @param {any} value */
function setText(value) {
  try {
    return bytesOf(JSON.stringify({ format: 'comface-shards', version: 1, ...value, id: idOf(value) }));
  } catch {
    return bytesOf(JSON.stringify(value) ?? '');
  }
}

const setSeeds = [setText({ ...grid, groups }), setText({ ...listed, groups })];
const setTokens = tokensOf(
  '"alphas":null',
  '"alphas":[',
  '"shards":[',
  '"groups":{"count":',
  '"made":{',
  '"encoding":"rgb"',
  '"size":',
  '1e308',
);

/** @type {Parser} */
export const set = {
  input(random) {
    const bytes = mutated(random, setSeeds, setTokens);
    if (random.oneIn(4)) return bytes;
    try {
      return setText(JSON.parse(Buffer.from(bytes).toString('utf8')));
    } catch {
      return bytes;
    }
  },
  parse: (input) => parseSet('set.json', Buffer.from(input).toString('utf8')),
  check({ header, groups: found }) {
    const { size, encoding, attributes, alphas, shards } = header;
    const count = shards.reduce((/** @type {number} */ sum, /** @type {number} */ each) => sum + each, 0);
    assert(Number.isInteger(size) && size >= 8 && size <= 65535 && ['jpeg', 'rgb'].includes(encoding));
    assert(attributes.length > 0 && new Set(attributes).size === attributes.length);
    assert(count > 0 && count < 2 ** 32 && found.count >= 1 && found.count <= count);
    if (!alphas) return;
    assert.equal(found.count * alphas.length, count);
    assert(alphas.every((/** @type {number} */ alpha, /** @type {number} */ i) => Number.isFinite(alpha) && !(alpha <= alphas[i - 1])));
  },
  bombs: [
    ['2^32 pictures', () => setText({ ...grid, shards: [4294967295, 1], groups })],
    ['shards of 12,000 levels', () => bytesOf(`{"format":"comface-shards","version":1,"shards":${nest('[', 12_000, ']')}}`)],
    ['an object for its alphas', () => setText({ ...grid, alphas: { length: 4294967295 }, groups })],
  ],
  long: [
    ['a million blanks', () => Buffer.alloc(1_000_000, 0x20)],
    ['100,000 levels', () => bytesOf(nest('[', 100_000, ']'))],
    ['20,000 attributes', () => setText({ ...grid, attributes: longWords(20_000, 40), groups })],
    ['100,000 shards', () => setText({ ...listed, shards: Array.from({ length: 100_000 }, () => 3), groups })],
  ],
};

const words = (/** @type {number[]} */ ...values) => Uint8Array.from(Buffer.from(Uint32Array.from(values).buffer));
const floats = (/** @type {number[]} */ ...values) => Uint8Array.from(Buffer.from(Float32Array.from(values).buffer));
const gridSeed = words(1, 0, 1, 1, 4294967295, 0);
const listedSeed = Buffer.concat([words(1, 0, 1, 1, 4294967295, 0, 0, 2, 5, 9), floats(-5, 5, 0, 1, 2, -1, -0.5, 3, 3)]);
const groupSeeds = [gridSeed, listedSeed];

/** @type {Parser} */
export const table = {
  input: (random) => mutated(random, groupSeeds, tokensOf()),
  parse(input, random) {
    const isSum = !random.oneIn(8);
    const bytes = Buffer.from(input);
    const header = bytes.length === gridSeed.length ? grid : listed;
    const found = { ...groups, bytes: bytes.length, crc32c: isSum ? native().module.crc32c(bytes) : 7 };
    return parseGroups('groups.bin', bytes, /** @type {any} */ (header), found);
  },
  check({ subject, attribute, alpha, first }) {
    assert(subject.length === 3 && attribute.length === 3);
    for (let g = 0; g < 3; g++) {
      assert(attribute[g] < 2);
      if (g > 0) assert(subject[g] > subject[g - 1] || (subject[g] === subject[g - 1] && attribute[g] > attribute[g - 1]));
      if (!alpha) continue;
      assert(first[g] < first[g + 1]);
      for (let i = first[g]; i < first[g + 1]; i++) assert(Number.isFinite(alpha[i]) && !(i > first[g] && alpha[i] < alpha[i - 1]));
    }
    if (alpha) assert(first[0] === 0 && first[3] === 9 && alpha.length === 9);
  },
  bombs: [
    [
      'a group of all pictures there can be',
      () => Buffer.concat([words(1, 0, 1, 1, 4294967295, 0, 0, 4294967295, 5, 9), Buffer.alloc(36)]),
    ],
  ],
  long: [['a million bytes', () => Buffer.alloc(1_000_000)]],
};

const csvSeeds = [
  bytesOf('path,subject,alpha\na.jpg,anna,-2\n"b, c.jpg",bert,1.5\n'),
  bytesOf('\ufeffsubject,path,label,attribute\r\n7,"x ""y"".png",71.25,weight\r\n\r\n8,z.png,1e3,\r\n'),
  bytesOf(`path,subject,alpha,${numbered(5, (i) => `x${i + 1},y${i + 1}`)}\na.jpg,1,2,${numbered(10, String)}\n`),
];
const csvTokens = tokensOf(
  '"',
  '""',
  ',',
  '\n',
  '\r\n',
  'path',
  'subject',
  'alpha',
  'label',
  'attribute',
  'x1,y1',
  '1e39',
  '\ufeff',
  '__proto__',
);

/** @type {Parser} */
export const csv = {
  slackMiB: 8, // csv-parse: some objects a column, and its buffers
  input: (random) => mutated(random, csvSeeds, csvTokens),
  async parse(input) {
    const rows = [];
    for await (const row of readTable('list.csv', Readable.from([Buffer.from(input)]), 'change')) rows.push(row);
    return rows;
  },
  check(rows) {
    for (const [path, described] of rows) {
      assert(typeof path === 'string' && path !== '');
      if (typeof described === 'string') assert.match(described, /^line \d+: /);
      else {
        const { subject, attribute, alpha, landmarks = [] } = described;
        assert(subject !== '' && attribute !== '' && Number.isFinite(alpha) && !path.includes('\0'));
        assert([0, 5, 66, 68].includes(landmarks.length) && landmarks.flat().every(Number.isFinite));
      }
    }
  },
  bombs: [
    ['a quote without an end', () => bytesOf(`path,subject,alpha\n"${'a'.repeat(60_000)}`)],
    ['20,000 columns', () => bytesOf(`path,subject,alpha,${numbered(20_000, (i) => `c${i}`)}\na,b,1\n`)],
    ['4,000 landmarks', () => bytesOf(`path,subject,alpha,${numbered(4000, (i) => `x${i + 1},y${i + 1}`)}\na,b,1\n`)],
  ],
  long: [
    ['a line of a megabyte', () => bytesOf(`path,subject,alpha\n${'a'.repeat(1_100_000)}`)],
    ['rows', () => bytesOf(`path,subject,alpha\n${numbered(4000, (i) => `${i}.jpg,${i},1`, '\n')}\n`)],
    ['empty lines', () => bytesOf(`path,subject,alpha${'\n'.repeat(500_000)}`)],
  ],
};

const joined = (/** @type {number[]} */ ...offsets) => ({
  format: 'comface-sets',
  version: 1,
  sets: offsets.map((offset, i) => ({ folder: `../${i}`, hash: sha256(String(i)), offset })),
});
const joinedSeeds = [joined(0, 0), joined(0, 50_000, -3)].map((value) => bytesOf(JSON.stringify(value, null, 1)));

/** @type {Parser} */
export const sets = {
  input: (random) => mutated(random, joinedSeeds, tokensOf('"offset":', '"folder":"', '"hash":"', '"sets":[', '1e308', '-1', '0.5')),
  parse: (input) => parseSets('sets.json', Buffer.from(input).toString('utf8')),
  check(parts) {
    assert(parts.length >= 2);
    for (const { folder, hash, offset } of parts) {
      assert(folder !== '' && !folder.includes('\0') && /^[\da-f]{64}$/.test(hash));
      assert(Number.isInteger(offset) && Math.abs(offset) < 2 ** 32);
    }
  },
  bombs: [
    ['sets of 12,000 levels', () => bytesOf(`{"format":"comface-sets","version":1,"sets":${nest('[', 12_000, ']')}}`)],
    ['an object for its sets', () => bytesOf(JSON.stringify({ ...joined(), sets: { length: 4294967295 } }))],
  ],
  long: [
    ['a million blanks', () => Buffer.alloc(1_000_000, 0x20)],
    ['2,000 sets', () => bytesOf(JSON.stringify(joined(...Array.from({ length: 2000 }, (_, i) => i))))],
  ],
};
