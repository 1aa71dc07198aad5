// @ts-check
// Is it slower than it was? Only ratios to rivals that were timed in turns are compared: they are the same on a slower machine, absolute times are not.
import { readFileSync, writeFileSync } from 'node:fs';
import { isaOf } from './machine.mjs';

/** @typedef {import('./measure.mjs').Result} Result */
/** @typedef {{ name: string, rival: string, was: number, now?: number, verdict: 'as before' | 'faster' | 'SLOWER' | 'not there now' | 'another processor' }} Row */

/**
 * A ratio may fall to this share of what it was. Ratios of the cases that CI compares differed by up to 8 % between runs while four times as much other work as
 * there are cores was under way; work that takes 1.5 times as long brings one to 0.67.
 */
export const kTolerance = 0.75;

/** Results of a file: JSON lines, or a list. @param {string} file @returns {Result[]} */
export function readResults(file) {
  const text = readFileSync(file, 'utf8').trim();
  if (text.startsWith('[')) return JSON.parse(text);
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
}

/** A list where the file's name ends in .json, else JSON lines. @param {string} file @param {readonly Result[]} results */
export function writeResults(file, results) {
  const lines = results.map((result) => JSON.stringify(result));
  writeFileSync(file, file.endsWith('.json') ? `[\n${lines.join(',\n')}\n]\n` : lines.map((line) => `${line}\n`).join(''));
}

/** @param {Result} then @param {Result} now @param {number} tolerance @returns {Row[]} */
function rowsOf(then, now, tolerance) {
  const isOther = Boolean(then.isaBound) && isaOf(then.cpu) !== isaOf(now.cpu);
  return (then.rivals ?? []).flatMap(
    /** @returns {Row[]} */ ({ name: rival, ratio: was }) => {
      if (was === undefined || was === null) return [];
      const ratio = now.rivals?.find(({ name }) => name === rival)?.ratio;
      const row = { name: then.name, rival, was };
      if (ratio === undefined || ratio === null) return [{ ...row, verdict: 'not there now' }];
      const share = ratio / was;
      /** @type {Row['verdict']} */
      const verdict = isOther ? 'another processor' : share < tolerance ? 'SLOWER' : share > 1 / tolerance ? 'faster' : 'as before';
      return [{ ...row, now: ratio, verdict }];
    },
  );
}

/**
 * Of every case that both have with ratios.
 * @param {readonly Result[]} then @param {readonly Result[]} now @param {{ tolerance?: number, asked?: readonly string[] }} [options] asked: cases that somebody named.
 * @returns {{ rows: Row[], slower: string[], unjudged: string[] }} slower: cases; unjudged: asked for, and no rival is there any more.
 */
export function compareResults(then, now, { tolerance = kTolerance, asked = [] } = {}) {
  const rows = then.flatMap((was) => {
    const is = now.find(({ name }) => name === was.name);
    return is === undefined ? [] : rowsOf(was, is, tolerance);
  });
  const named = (/** @type {Row[]} */ some) => [...new Set(some.map(({ name }) => name))];
  const isGone = (/** @type {string} */ name) => rows.every((row) => row.name !== name || row.verdict === 'not there now');
  return {
    rows,
    slower: named(rows.filter(({ verdict }) => verdict === 'SLOWER')),
    unjudged: named(rows).filter((name) => isGone(name) && asked.includes(name)),
  };
}

/** The higher ratio of two measurements of a case, rival by rival. @param {Result} one @param {Result} other @returns {Result} */
export function better(one, other) {
  const rivals = (one.rivals ?? []).map((rival) => {
    const again = other.rivals?.find(({ name }) => name === rival.name);
    return again?.ratio !== undefined && again.ratio > (rival.ratio ?? 0) ? again : rival;
  });
  return { ...one, rivals };
}
