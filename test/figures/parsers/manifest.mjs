// @ts-check
// The list of pictures.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { ManifestParser, manifestText } from '../../../dist/data/manifest.js';
import { bytesOf, longWords, mutated, nest, numbered, sha256, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */

const listHeader = { size: 64, count: 3, seed: '1', domain: 0, attributes: ['smile', 'Big_Nose', '__proto__'] };
const listRows = [
  { file: '000012/smile/03.jpg', subject: 12, attribute: 'smile', alpha: 2.5 },
  { file: '000012/Big_Nose/03.jpg', subject: 12, attribute: 'Big_Nose', alpha: -5 },
  { file: 'käse.jpg', subject: 4294967295, attribute: '__proto__', alpha: 0 },
];
const listText = (/** @type {Partial<typeof listHeader>} */ header, /** @type {typeof listRows} */ rows) =>
  bytesOf([...manifestText({ ...listHeader, count: rows.length, ...header }, rows)].join(''));
const row = (/** @type {number} */ i) => ({ file: `${i}.jpg`, subject: i, attribute: 'smile', alpha: 1 });
const rows = (/** @type {number} */ count) => Array.from({ length: count }, (_, i) => row(i));
const listSeeds = [listText({}, listRows), listText({}, rows(1)), listText({}, rows(12))];
const listTokens = tokensOf(
  '"file":"',
  '"subject":',
  '"attribute":"smile"',
  '"alpha":',
  '"count":',
  '"attributes":[',
  '"format":"comface-faces"',
  '"size":',
  '../',
  'a\\\\b',
  '"attribute":{"toString":1,"valueOf":1}',
);
/** Names that fall on one slot of a table with FNV-1a and no key: they differ above its low bits only. */
const flood = (/** @type {number} */ count) =>
  Array.from({ length: count }, (_, i) => ({
    ...row(i),
    file: `${numbered(14, (bit) => String.fromCharCode(0x61 + 0x4000 * ((i >> bit) & 1)), '')}.jpg`,
  }));
/** One row whose attribute is this JSON. @param {string} attribute */
const listWith = (attribute) =>
  bytesOf(`${listText({ count: 1 }, [])}{"file":"a","subject":1,"alpha":1,"attribute":${attribute}}${' '.repeat(64)}`);

/** @type {Parser} */
export const manifest = {
  input: (random) => mutated(random, listSeeds, listTokens),
  parse(input, random) {
    const parser = new ManifestParser('/data', input.length);
    const cut = random.oneIn(2) ? random.below(input.length + 1) : 0;
    if (cut > 0) parser.push(input.subarray(0, cut));
    parser.push(input.subarray(cut));
    return parser.finish();
  },
  check({ files, lines, subject, attribute, alpha, attributes, size, hash }, input) {
    assert(files.length > 0 && [lines, subject, attribute, alpha].every(({ length }) => length === files.length), 'lists of one length');
    assert.equal(new Set(files).size, files.length);
    for (const file of files)
      assert(file.startsWith('/data/') && !/\/\.{0,2}(\/|$)|[\\\0]/.test(file.slice(5)), `outside the folder: ${file}`);
    assert(alpha.every(Number.isFinite) && attribute.every((/** @type {number} */ index) => index < attributes.length));
    assert(size >= 8 && size <= 65535);
    assert.equal(hash, sha256(input));
  },
  bombs: [
    ['a count of 2^32 - 1', () => listText({ count: 4294967295 }, rows(3))],
    ['an attribute of 12,000 levels', () => listWith(nest('[', 12_000, ']'))],
    ['a count that the bytes just allow', () => listText({ count: 7 }, rows(3))],
    ['an attribute that is no text', () => listWith('{"toString":1,"valueOf":1}')],
  ],
  long: [
    ['a million empty lines', () => Buffer.alloc(1_000_000, 0x0a)],
    ['a line without an end', () => Buffer.alloc(1_100_000, 0x61)],
    ['10,000 names for one slot', () => listText({}, flood(10_000))],
    ['a wrong attribute among 20,000', () => listText({ attributes: longWords(20_000, 40) }, [{ ...row(1), attribute: 'y'.repeat(40) }])],
    [
      'a wrong attribute of a megabyte',
      () => listText({ attributes: longWords(10, 50_000) }, [{ ...row(1), attribute: 'y'.repeat(500_000) }]),
    ],
    ['an attribute of 100,000 levels', () => listWith(nest('[', 100_000, ']'))],
    ['100,000 levels', () => Buffer.concat([listText({}, []), bytesOf(nest('[', 100_000, ']'))])],
    ['rows', () => listText({}, rows(4000))],
    ['objects', () => bytesOf(`{"x":[${numbered(80_000, () => '{}')}]}`)],
  ],
};
