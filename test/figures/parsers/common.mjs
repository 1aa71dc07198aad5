// @ts-check
// What the parsers of figure F2 have in common. A parser here is: inputs by index, a call, and what has to hold when it accepts.
// `bombs` are small inputs that ask for more than they bring. `long` ones hold as many parts as a few hundred kilobytes can; how much memory
// these take is said and not judged: a value of V8 takes several times the bytes that it is written with.
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { commonTokens, Draft } from '../mutate.mjs';

/** @typedef {import('../mutate.mjs').Random} Random */
/** @typedef {import('../../../dist/weights/safetensors.js').Tensor} Tensor */
/**
 * @typedef {object} Parser
 * @property {(random: Random) => unknown} input
 * @property {(input: any, random: Random) => unknown} parse Returns what `check` has to see; undefined and null: refused without an error.
 * @property {(result: any, input: any) => void} check Throws when what was accepted is not sound.
 * @property {[name: string, make: () => unknown][]} bombs
 * @property {[name: string, make: () => unknown][]} long
 * @property {(result: any) => boolean} [isTaken] Whether a result is more than a polite no.
 * @property {number} [slackMiB] What a call may allocate beyond twice the input; 1 when left out.
 */

export const bytesOf = (/** @type {string} */ text) => Buffer.from(text);
export const tokensOf = (/** @type {string[]} */ ...texts) => [...commonTokens, ...commonTokens, ...texts.map(bytesOf)];
export const nest = (/** @type {string} */ open, /** @type {number} */ count, close = '') => open.repeat(count) + close.repeat(count);
export const numbered = (/** @type {number} */ count, /** @type {(i: number) => string} */ text, separator = ',') =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);
export const draft = new Draft();

/** A seed with a few changes; one in 64 as it is. @param {Random} random @param {Uint8Array[]} seeds @param {Uint8Array[]} tokens */
export function mutated(random, seeds, tokens) {
  draft.start(random.pick(seeds));
  if (!random.oneIn(64)) draft.mutate(random, seeds, tokens);
  return draft.bytes;
}

export const sha256 = (/** @type {string | Uint8Array} */ bytes) => createHash('sha256').update(bytes).digest('hex');

/** @param {number[]} values @param {number[]} [shape] @returns {Tensor} */
export const f32 = (values, shape = [values.length]) => ({ dtype: 'F32', shape, data: Float32Array.from(values) });

export const longWords = (/** @type {number} */ count, /** @type {number} */ length) =>
  Array.from({ length: count }, (_, i) => `${i}`.padEnd(length, 'x'));
