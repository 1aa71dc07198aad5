// @ts-check
// Runs the cases of cases.mjs, each in a process of its own, so that none inherits another's memory or threads.
//   npm run bench -- [NAME ...] [--device cpu|cuda] [--json FILE] [--compare FILE [--tolerance 0.75]] [--threads N] [--quick] [--list]
// A NAME takes a whole group, too: train, or train/resnet50-224. --compare: fails where a ratio to a rival has fallen below tolerance x that of FILE.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { threadCount } from '../dist/native.js';
import { nearest } from '../dist/nearest.js';
import { cases } from './cases.mjs';
import { better, compareResults, kTolerance, readResults, writeResults } from './compare.mjs';
import { root } from './contenders.mjs';
import { isaOf, machine } from './machine.mjs';
import { compareTable, generationLine, growthTable, rateText, rivalTable, table } from './tables.mjs';

/** @typedef {import('./measure.mjs').Result} Result */

const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: '0' },
    device: { type: 'string', default: 'cpu' },
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    compare: { type: 'string' },
    tolerance: { type: 'string', default: String(kTolerance) },
    list: { type: 'boolean', default: false },
  },
});

/** @param {readonly string[]} wanted */
function choose(wanted) {
  const all = Object.keys(cases).filter((name) => (cases[name]?.only ?? options.device) === options.device);
  if (wanted.length === 0) return all;
  const chosen = wanted.flatMap((name) => {
    if (all.includes(name)) return [name];
    const found = all.filter((each) => each.startsWith(name.endsWith('/') ? name : `${name}/`) || each.startsWith(`${name}-`));
    return found.length > 0 ? found : unknown(name, all);
  });
  return [...new Set(chosen)];
}

/** @param {string} name @param {readonly string[]} all @returns {never} */
function unknown(name, all) {
  const near = nearest(name, all);
  console.error(`There is no case '${name}'.${near === undefined ? '' : ` Did you mean ${near}?`} There are:\n  ${all.join('\n  ')}`);
  process.exit(2);
}

/** @param {string} text @returns {never} */
function refuse(text) {
  console.error(text);
  process.exit(2);
}

/** @param {string} name @returns {Result | undefined} */
function runCase(name) {
  const setting = { threads: threadCount(Number(options.threads)), device: options.device, isQuick: options.quick };
  const { status, stdout } = spawnSync(process.execPath, [`${root}bench/measure.mjs`, name, JSON.stringify(setting)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return status === 0 ? JSON.parse(/** @type {string} */ (stdout.trim().split('\n').at(-1))) : undefined;
}

/** @param {readonly string[]} chosen */
function runAll(chosen) {
  const { cpu } = machine();
  /** @type {Result[]} */
  const results = [];
  for (const name of chosen) {
    if (cases[name]?.needs === 'avx512' && !cpu.avx512) {
      console.log(`${name}: skipped, bf16 needs a processor with AVX-512`);
      continue;
    }
    const result = runCase(name);
    if (!result) {
      console.log(`${name}: FAILED`);
      process.exitCode = 1;
      continue;
    }
    console.log(`${name}: ${rateText(result.rate)} ${result.unit}; checked: ${result.checked}`);
    results.push(result);
    if (options.json) writeResults(options.json, results);
  }
  return results;
}

/** Says what changed; a case that seems slower is measured once more, for a busy minute is over by then. @param {string} file @param {Result[]} results @param {readonly string[]} chosen */
function compare(file, results, chosen) {
  const then = readResults(file);
  const how = { tolerance: Number(options.tolerance), asked: names.length > 0 ? chosen : [] };
  const first = compareResults(then, results, how);
  for (const name of first.slower) {
    console.log(`${name} seems slower and is measured again`);
    const again = runCase(name);
    const at = results.findIndex((each) => each.name === name);
    if (again) results[at] = better(/** @type {Result} */ (results[at]), again);
  }
  const { rows, slower, unjudged } = compareResults(then, results, how);
  console.log(
    `\nRatios to rivals, then (${file}) and now; a ratio may fall to ${options.tolerance} of what it was:\n${compareTable(rows)}`,
  );
  if (rows.length === 0) console.log(`Nothing that ran has ratios in ${file}.`);
  for (const name of unjudged) console.log(`${name}: none of its rivals is there now, so nothing is known`);
  if (slower.length > 0) console.log(`SLOWER: ${slower.join(', ')}`);
  if (slower.length > 0 || unjudged.length > 0 || (rows.length === 0 && names.length > 0)) process.exitCode = 1;
}

function main() {
  if (!['cpu', 'cuda'].includes(options.device)) refuse(`Expected cpu or cuda for --device but received '${options.device}'.`);
  const tolerance = Number(options.tolerance);
  if (!(tolerance > 0 && tolerance <= 1))
    refuse(`Expected a number above 0 and at most 1 for --tolerance but received '${options.tolerance}'.`);
  const chosen = choose(names);
  if (options.list) return console.log(chosen.join('\n'));
  console.log(`${chosen.length} of ${Object.keys(cases).length} cases: ${chosen.join(', ')}`);
  const results = runAll(chosen);
  const { cpu, versions, commit, isDirty } = machine();
  console.log(`\n${cpu.model} (${cpu.cores} cores, ${isaOf(cpu)})`);
  console.log(
    `comface ${versions.comface}, node ${versions.node}, commit ${commit?.slice(0, 7) ?? 'unknown'}${isDirty ? ' and changes' : ''}`,
  );
  if (options.quick) console.log('A quick run shows that cases run; its times mean nothing.');
  console.log(`\n${table(results)}`);
  const beside = results.filter(({ rivals = [] }) => rivals.length > 0);
  if (beside.length > 0) console.log(`\nIn turns with rivals; above 1 x ours is faster:\n${beside.map(rivalTable).join('\n')}`);
  const generated = results.filter(({ generation }) => generation);
  if (generated.length > 0) console.log(`\nBeside a product of matrices:\n${generated.map(generationLine).join('\n')}`);
  const grown = results.filter(({ growth }) => growth);
  if (grown.length > 0) console.log(`\nAs work grows:\n${grown.map(growthTable).join('\n')}`);
  if (grown.some(({ growth }) => growth?.laws.some(({ held }) => held === false))) process.exitCode = 1;
  if (options.compare) compare(options.compare, results, chosen);
}

main();
