// @ts-check
// The log of a run and its lock.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { parseOwner } from '../../../dist/train/lock.js';
import { LogFilter } from '../../../dist/train/log.js';
import { bytesOf, mutated, nest, numbered, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */

const logSeeds = [
  '{"type":"start","step":0}\n{"type":"step","step":1,"loss":2.5}\n{"type":"step","step":2,"loss":1e-3}\n{"type":"step","step":3}\n',
  '{"step":9}\n\0\0\0\n{"step":1,"late":true}\n{"ste',
  '{"type":"broken","file":"a\\nb"}\n[1]\nnull\n5\n"x"\n{}\n',
].map(bytesOf);
const kLastStep = 2;
const filtered = (/** @type {Buffer} */ bytes) => {
  const filter = new LogFilter(kLastStep);
  return { kept: filter.push(bytes), isWhole: filter.isWhole };
};

const logTokens = tokensOf('{"step":', '"step":2', '"step":3', '\n', '}\n');

/** @type {Parser} */
export const log = {
  input: (random) => mutated(random, logSeeds, logTokens),
  parse(input, random) {
    const filter = new LogFilter(kLastStep);
    const cut = random.below(input.length + 1);
    return { kept: Buffer.concat([filter.push(input.subarray(0, cut)), filter.push(input.subarray(cut))]), isWhole: filter.isWhole };
  },
  isTaken: ({ isWhole }) => isWhole,
  check({ kept, isWhole }, input) {
    assert(kept.equals(filtered(input).kept), 'the same in one piece');
    assert.equal(isWhole, kept.equals(input));
    for (const line of kept.toString().split('\n').slice(0, -1)) {
      const { step } = JSON.parse(line);
      assert(typeof step !== 'number' || step <= kLastStep, 'no later step stays');
    }
    assert(filtered(kept).isWhole, 'what stays stays');
  },
  bombs: [],
  long: [
    ['a step of a million digits', () => bytesOf(`{"step":${'1'.repeat(1_000_000)}}\n`)],
    ['a megabyte of zeros', () => Buffer.alloc(1_000_000)],
    ['a line of 100,000 levels', () => bytesOf(`${nest('[', 100_000, ']')}\n`)],
    ['a line without an end', () => Buffer.alloc(1_100_000, 0x61)],
    ['empty lines', () => Buffer.alloc(250_000, 0x0a)],
    ['steps', () => bytesOf('{"step":1}\n'.repeat(20_000))],
  ],
};

const lockSeeds = ['{"pid":12,"start":"345","id":"6"}', '{"pid":-1}', '{"pid":1,"start":null}', '{}'].map(bytesOf);
const lockTokens = tokensOf('"pid":', '"start":');

/** @type {Parser} */
export const lock = {
  input: (random) => mutated(random, lockSeeds, lockTokens),
  parse: (input) => parseOwner(input.toString()),
  check({ pid, start }) {
    assert(Number.isSafeInteger(pid) && pid > 0 && (start === null || typeof start === 'string'));
  },
  bombs: [],
  long: [
    ['a pid of a million digits', () => bytesOf(`{"pid":${'1'.repeat(1_000_000)}}`)],
    ['100,000 levels', () => bytesOf(nest('[', 100_000, ']'))],
    ['objects', () => bytesOf(`[${numbered(80_000, () => '{}')}]`)],
  ],
};
