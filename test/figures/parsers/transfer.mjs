// @ts-check
// The result of a transfer.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { parseTransferResult } from '../../../dist/transfer/result.js';
import { bytesOf, mutated, nest, numbered, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */

const score = { value: 0.5, low: 0.25, high: null };
const set = { folder: '/data', hash: '0f', pictures: 20, subjects: 4 };
const fold = { mae: 1.5, correlation: null, accuracy: 0.9, pairs: 2, trainSubjects: 2, validationSubjects: 1, testSubjects: 1 };
const result = {
  ...{ version: 1, attribute: 'weight', unit: 'kg', evaluation: 'linear', data: set, test: null },
  model: { folder: null, backbone: 'resnet18', width: 16, size: 32 },
  settings: { seed: 1, __proto__: null, augment: { mean: [0.5] } },
  scores: { mae: score, correlation: score, accuracy: score },
  folds: [
    { ...fold, penalty: 0.1 },
    { ...fold, learningRate: 1e-3, steps: 4, tried: [{ learningRate: 1e-3, validationError: null, steps: 4 }] },
  ],
  pairs: { fold: [0, 0, 1, 1], subject: [1, 1, 2, 2], x: [0, 1, 2, 3], y: [4, 5, 6, 7], truth: [-1, 0, 1.5, 2], estimate: [0, 0, 1, 1e3] },
  ...{ warnings: ['one'], seconds: 4.5, made: '2026-11-22' },
};
const text = (/** @type {object} */ change = {}) => bytesOf(JSON.stringify({ ...result, ...change }));
const seeds = [text(), text({ evaluation: 'patient', test: set })];
const tokens = tokensOf('"version":2', '"fold":[', '"truth":[', '"tried":[', '1e999', '4294967296', '"folds":[]', '"__proto__":');

/** @type {Parser} */
export const transfer = {
  slackMiB: 2, // zod: an object for each thing that is wrong
  input: (random) => mutated(random, seeds, tokens),
  parse: (input) => parseTransferResult(Buffer.from(input).toString('utf8'), 'transfer.json'),
  check({ folds, pairs, scores, version, seconds }) {
    assert.equal(version, 1);
    assert(folds.length > 0 && seconds >= 0);
    for (const list of Object.values(pairs))
      assert(Array.isArray(list) && list.length === pairs.fold.length && list.every(Number.isFinite));
    assert(pairs.fold.every((/** @type {number} */ at) => Number.isInteger(at) && at < folds.length));
    for (const { value, low, high } of Object.values(scores))
      for (const one of [value, low, high]) assert(one === null || Number.isFinite(one));
  },
  bombs: [
    ['settings of 12,000 levels', () => bytesOf(JSON.stringify(result).replace('"seed":1', `"seed":${nest('[', 12_000, ']')}`))],
    ['a list that claims its length', () => text({ pairs: { ...result.pairs, fold: { length: 4294967295 } } })],
  ],
  long: [
    ['pairs', () => text({ pairs: Object.fromEntries(Object.keys(result.pairs).map((key) => [key, new Array(20_000).fill(0)])) })],
    [
      'pairs that are none',
      () => text({ pairs: Object.fromEntries(Object.keys(result.pairs).map((key) => [key, new Array(20_000).fill('')])) }),
    ],
    ['warnings', () => text({ warnings: new Array(20_000).fill('one') })],
    ['100,000 levels', () => bytesOf(nest('[', 100_000, ']'))],
    ['objects', () => bytesOf(`{"version":1,"folds":[${numbered(80_000, () => '{}')}]}`)],
  ],
};
