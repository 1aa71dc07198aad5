// @ts-check
// What people's data sets of faces bring beside pictures: landmarks in MATLAB and .pts files, and labels of action units.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { deflateSync } from 'node:zlib';
import { parseLabels } from '../../../dist/data/disfa.js';
import { readMatrix } from '../../../dist/data/mat.js';
import { parsePoints } from '../../../dist/data/pts.js';
import { bytesOf, mutated, nest, numbered, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */

const words = (/** @type {number[]} */ ...values) => Buffer.from(Uint32Array.from(values).buffer);
const doubles = (/** @type {number} */ count) => Buffer.from(Float64Array.from({ length: count }, (_, i) => i).buffer);
const matHead = Buffer.concat([Buffer.alloc(124, 0x20), Buffer.from([0, 1]), Buffer.from('IM')]);
/** A matrix `pts` whose head is right. @param {number} rows @param {number} columns @param {Buffer} numbers */
function matrixOf(rows, columns, numbers) {
  const parts = Buffer.concat([
    words(6, 8, 6, 0, 5, 8, rows, columns, 1 | (3 << 16)),
    Buffer.from('pts\0'),
    words(9, numbers.length),
    numbers,
  ]);
  return Buffer.concat([words(14, parts.length), parts]);
}
const compressed = (/** @type {Buffer} */ bytes) => {
  const packed = deflateSync(bytes);
  return Buffer.concat([words(15, packed.length), packed]);
};
const pts = matrixOf(6, 2, doubles(12));
const text = Buffer.concat([
  words(14, 48, 6, 8, 4, 0, 5, 8, 1, 2, 1 | (1 << 16)),
  Buffer.from('s\0\0\0'),
  words(4 | (4 << 16)),
  Buffer.from('a\0b\0'),
]);
const matSeeds = [
  Buffer.concat([matHead, pts]),
  Buffer.concat([matHead, text, pts]),
  Buffer.concat([matHead, compressed(pts)]),
  Buffer.concat([matHead, compressed(text), compressed(pts)]),
];
const matTokens = [
  ...tokensOf('pts', 'IM', 'MI'),
  words(14, 48),
  words(15, 40),
  words(9, 96),
  words(6, 8),
  words(0x7fffffff),
  words(0xffffffff),
];

/** @type {Parser} */
export const mat = {
  input(random) {
    const bytes = mutated(random, matSeeds, matTokens);
    if (!random.oneIn(3)) return bytes;
    // What is wrong lies behind the compression.
    return Buffer.concat([matHead, compressed(Buffer.from(bytes.subarray(128)))]);
  },
  parse(input) {
    const found = readMatrix(input, 'pts');
    assert(typeof found !== 'string' || (found.length > 0 && found.length < 300));
    return typeof found === 'string' ? undefined : found;
  },
  check({ rows, columns, data }) {
    assert(Number.isInteger(rows) && rows >= 0 && Number.isInteger(columns) && columns >= 0);
    assert(data instanceof Float64Array && data.length === rows * columns);
  },
  bombs: [
    ['a matrix of 2^62 numbers', () => Buffer.concat([matHead, matrixOf(0x7fffffff, 0x7fffffff, doubles(2))])],
    ['a bomb', () => Buffer.concat([matHead, compressed(Buffer.alloc(2 ** 24))])],
    ['bombs', () => Buffer.concat([matHead, ...Array.from({ length: 63 }, () => compressed(Buffer.alloc(2 ** 17)))])],
    ['variables without end', () => Buffer.concat([matHead, Buffer.alloc(2 ** 17)])],
  ],
  long: [['a large matrix', () => Buffer.concat([matHead, matrixOf(16_000, 2, doubles(32_000))])]],
};

const ptsSeeds = [
  bytesOf(`version: 1\nn_points: 4\n{\n${numbered(4, (i) => `${i}.5 ${i * 7}`, '\n')}\n}\n`),
  bytesOf(`version: 1\r\nn_points:  3\r\n{\r${numbered(3, (i) => `-${i}e1 .${i}`, '\r')}\r}`),
];
const ptsTokens = tokensOf('version: 1', 'n_points: ', '{', '}', '\r', '\n', ' ', '1e999', '0x1');

/** @type {Parser} */
export const points = {
  input: (random) => mutated(random, ptsSeeds, ptsTokens),
  parse(input) {
    const found = parsePoints(Buffer.from(input).toString('latin1'));
    return typeof found === 'string' ? undefined : found;
  },
  check(found) {
    assert(found.length > 0 && found.length <= 1000 && found.every((/** @type {number[]} */ point) => point.length === 2));
    assert(found.flat().every(Number.isFinite));
  },
  bombs: [
    ['a billion points', () => bytesOf('version: 1 n_points: 999999999 {}')],
    ['braces', () => bytesOf(`version: 1 n_points: 4 ${nest('{', 30_000)}`)],
    ['blanks before its head', () => bytesOf(`${' '.repeat(60_000)}version : 1`)],
    ['blanks in its head', () => bytesOf(`version : 1${' '.repeat(60_000)}n_points`)],
  ],
  long: [['numbers', () => bytesOf(`version: 1\nn_points: 900\n{\n${numbered(900, (i) => `${i} ${i}`, '\n')}\n}`)]],
};

const labelSeeds = [
  bytesOf(numbered(9, (i) => `${i + 1},${i % 6}`, '\n')),
  bytesOf(`${numbered(5, (i) => ` ${i + 1} , 0`, '\r\n')}\r\n\r\n`),
];

/** @type {Parser} */
export const labels = {
  input: (random) => mutated(random, labelSeeds, tokensOf(',', '\r', '\n', '\r\n', '1,0', '2,5', ' ')),
  parse(input) {
    const found = parseLabels(Buffer.from(input).toString('latin1'));
    return typeof found === 'string' ? undefined : found;
  },
  check(found) {
    assert(found.length > 0 && found.every((/** @type {number} */ intensity) => intensity >= 0 && intensity <= 5));
  },
  bombs: [['a line of blanks', () => bytesOf(`1,0\n${' '.repeat(60_000)}x`)]],
  long: [
    ['lines', () => bytesOf(numbered(20_000, (i) => `${i + 1},3`, '\n'))],
    ['line ends', () => bytesOf(`1,0${'\n'.repeat(200_000)}x`)],
  ],
};
