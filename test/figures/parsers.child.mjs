// @ts-check
// A process of figure F2: feeds one parser its inputs and weighs each call. The input under way stands in a file, for the one that ends it:
//   node parsers.child.mjs PARSER FIRST STRIDE COUNT FILE
import { Buffer } from 'node:buffer';
import { openSync, readFileSync, writeSync } from 'node:fs';
import { getHeapStatistics } from 'node:v8';
import { ComFaceError } from '../../dist/errors.js';
import { Random } from './mutate.mjs';
import { parsers } from './parsers/index.mjs';

/**
 * @typedef {object} Outcome
 * @property {number} inputs
 * @property {number} accepted
 * @property {string[]} failures
 * @property {number} worstMs
 * @property {number} worstBytes Most that a call allocated, garbage included, over what is allowed.
 * @property {number} density Most bytes allocated for a byte of a long input.
 * @property {number} slackMiB What is allowed beyond twice the input.
 */

const kMs = 100;
const kSeed = 20_260;
const [name, ...numbers] = /** @type {[string, ...string[]]} */ (process.argv.slice(2));
const [first, stride, count] = /** @type {[number, number, number]} */ (numbers.map(Number));
const place = openSync(/** @type {string} */ (process.argv[6]), 'w');
const parser = /** @type {import('./parsers/common.mjs').Parser} */ (parsers[name]);
const kBytes = (parser.slackMiB ?? 1) * 2 ** 20;
const random = new Random();
/** @type {Outcome} */
const outcome = {
  inputs: 0,
  accepted: 0,
  failures: [],
  worstMs: 0,
  worstBytes: Number.NEGATIVE_INFINITY,
  density: 0,
  slackMiB: parser.slackMiB ?? 1,
};
// A stack takes longer to write down than most inputs to refuse; an error that is not ours is made again with one.
const kStack = Error.stackTraceLimit;
Error.stackTraceLimit = 0;
process.on('warning', ({ message }) => fail('a process warning', message));

/** @param {string} what @param {string} why */
function fail(what, why) {
  if (outcome.failures.length < 5) outcome.failures.push(`${name} ${what}: ${why}`);
}

/** Bytes the isolate has asked for; with a young generation that large it hardly ever collects in between. */
function allocated() {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

/** Milliseconds that this thread has computed; NaN where Linux does not say. */
function computed() {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[0]) / 1e6;
  } catch {
    return Number.NaN;
  }
}

/** @param {unknown} input */
function sizeOf(input) {
  if (Buffer.isBuffer(input)) return input.length;
  try {
    return JSON.stringify(input)?.length ?? 0;
  } catch {
    return 0;
  }
}

/**
 * One call. @param {unknown} input
 * @returns {Promise<{ ms: number, bytes: number, result?: unknown, error?: unknown }>}
 */
async function weigh(input) {
  const before = allocated();
  const start = performance.now();
  let [result, error] = /** @type {unknown[]} */ ([]);
  try {
    result = parser.parse(input, random);
    if (result instanceof Promise) result = await result;
  } catch (thrown) {
    error = thrown ?? new Error('nothing was thrown');
  }
  return { ms: performance.now() - start, bytes: allocated() - before, result, error };
}

/** Judges one input. @param {string} what @param {() => unknown} make The same input each time. @param {boolean} isLong Weighed, not judged by weight. */
async function judge(what, make, isLong = false) {
  const input = make();
  let { ms, bytes, result, error } = await weigh(input);
  const size = Buffer.isBuffer(input) ? input.length : 0;
  // Again when it was slow or heavy: what a busy machine or the compiler took is not the parser's.
  for (let i = 0; i < 3 && (ms > kMs / 4 || bytes > 2 * size + kBytes || isLong); i++) {
    const again = make();
    const before = computed();
    const { ms: wall, bytes: heavy } = await weigh(again);
    const busy = computed() - before;
    ms = Math.min(ms, wall, Number.isNaN(busy) ? wall : busy);
    bytes = bytes < 0 ? heavy : Math.min(bytes, heavy < 0 ? bytes : heavy);
  }
  outcome.inputs++;
  outcome.worstMs = Math.max(outcome.worstMs, ms);
  if (ms > kMs) fail(what, `took ${ms.toFixed(0)} ms`);
  const inputBytes = size || (isLong || bytes > kBytes ? sizeOf(input) : 0);
  if (isLong && inputBytes > 0) outcome.density = Math.max(outcome.density, bytes / inputBytes);
  if (!isLong) {
    if (bytes > 2 * inputBytes + kBytes) fail(what, `allocated ${bytes} bytes for ${inputBytes}`);
    outcome.worstBytes = Math.max(outcome.worstBytes, bytes - 2 * inputBytes);
  }
  if (error !== undefined && !(error instanceof ComFaceError)) {
    Error.stackTraceLimit = kStack;
    error = (await weigh(make())).error ?? error;
    Error.stackTraceLimit = 0;
  }
  if (error !== undefined) return refuse(what, error);
  if (result === undefined || result === null) return;
  if (parser.isTaken?.(result) ?? true) outcome.accepted++;
  try {
    parser.check(result, input);
  } catch (wrong) {
    fail(what, `accepted, but ${wrong instanceof Error ? wrong.stack : wrong}`);
  }
}

/** @param {string} what @param {unknown} error */
function refuse(what, error) {
  if (!(error instanceof ComFaceError)) return fail(what, `not our error: ${error instanceof Error ? error.stack : String(error)}`);
}

/** Says what comes now. @param {string} what */
function announce(what) {
  writeSync(place, what.padEnd(60), 0);
}

process.send?.(0);
if (first === 0) {
  for (const [isLong, list] of /** @type {const} */ ([
    [false, parser.bombs],
    [true, parser.long],
  ])) {
    for (const [what, make] of list) {
      announce(what);
      await judge(what, make, isLong);
    }
  }
}
let told = performance.now();
for (let index = first; index < count && outcome.failures.length < 5; index += stride) {
  const what = `input ${index} of seed ${kSeed}`;
  announce(what);
  const make = () => {
    random.reset(kSeed, index);
    return parser.input(random);
  };
  await judge(what, make);
  if (performance.now() - told < 500) continue;
  told = performance.now();
  process.send?.(index);
  await new Promise(setImmediate); // or nothing would be sent
}
process.send?.(outcome);
process.disconnect?.();
