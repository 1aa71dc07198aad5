// @ts-check
// Runs the cases of cases.mjs, each in a process of its own, so that none inherits another's memory or threads.
//   npm run bench -- [NAME ...] [--threads N] [--device cpu|cuda] [--quick] [--json FILE] [--list]      a NAME takes a whole group, too
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Bench } from 'tinybench';
import { nearest } from '../dist/config.js';
import { native, threadCount } from '../dist/native.js';
import { cases } from './cases.mjs';

/**
 * @typedef {object} Result One line of the JSON file.
 * @property {string} name @property {string} unit @property {number} rate At the median.
 * @property {number} medianMs @property {number} p75Ms @property {number} madPercent Median absolute deviation.
 * @property {number} samples @property {number} items @property {number} peakRssBytes @property {number} threads
 * @property {string} checked @property {number} [sizeBytes] Buffers of the engine. @property {number} [line] @property {boolean} [reached] @property {number | null} [rssGrowthBytes]
 * @property {import('./contenders.mjs').Rival[]} [rivals] @property {number} [ratioLine] @property {number} [ratio] To the best of them.
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    case: { type: 'string' },
    threads: { type: 'string', default: '0' },
    device: { type: 'string', default: 'cpu' },
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});

/** @param {readonly string[]} wanted */
function choose(wanted) {
  const all = Object.keys(cases).filter((name) => (cases[name]?.only ?? options.device) === options.device);
  if (wanted.length === 0) return all;
  return wanted.flatMap((name) => {
    const found = all.filter((each) => each === name || each.startsWith(name.endsWith('/') ? name : `${name}/`));
    if (found.length > 0) return found;
    return unknown(name, all);
  });
}

/** @param {string} name @param {readonly string[]} all @returns {never} */
function unknown(name, all) {
  const near = nearest(name, all);
  console.error(`There is no case '${name}'.${near === undefined ? '' : ` Did you mean ${near}?`} There are:\n  ${all.join('\n  ')}`);
  process.exit(2);
}

/** @param {string[]} args */
const git = (...args) => spawnSync('git', ['-C', root, ...args], { encoding: 'utf8' }).stdout?.trim() || undefined;

function machine() {
  const { version, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return {
    date: new Date().toISOString(),
    commit: git('rev-parse', 'HEAD'),
    isDirty: Boolean(git('status', '--porcelain')),
    cpu: { model: cpus()[0]?.model.trim(), memoryBytes: totalmem(), ...native().module.cpu },
    versions: { comface: version, node: process.versions.node, v8: process.versions.v8, tinybench: devDependencies.tinybench },
  };
}

/** Bytes at the highest since the peak was last forgotten; resourceUsage() cannot forget. */
const peakRss = () => Number(/VmHWM:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;

/** @param {unknown} answer @returns {answer is { overriddenDuration: number }} */
const isTimed = (answer) => typeof answer === 'object' && answer !== null && 'overriddenDuration' in answer;

/** In the case's own process: prepare, check, time. @param {string} name @returns {Promise<Result>} */
async function measure(name) {
  const found = cases[name];
  if (!found) throw new Error(`There is no case '${name}'`);
  const threads = threadCount(Number(options.threads));
  const folder = mkdtempSync(join(tmpdir(), 'comface-bench-'));
  try {
    const ready = await found.prepare({ threads, folder, device: /** @type {'cpu' | 'cuda'} */ (options.device) });
    // Forget the peak: the check may have held a second engine, which is freed on its own thread.
    await setTimeout(300);
    writeFileSync('/proc/self/clear_refs', '5');
    const { unit, line } = found;
    // A quick run only shows that the case runs.
    const { iterations = 10, timeMs = 3000 } = options.quick ? { iterations: 2, timeMs: 0 } : found;
    const bench = new Bench({ iterations, time: timeMs, warmupIterations: timeMs > 0 ? 2 : 1, warmupTime: 0, throws: true });
    bench.add(name, async () => {
      const answer = await ready.run();
      return isTimed(answer) ? answer : undefined;
    });
    const result = (await bench.run())[0]?.result;
    if (result?.state !== 'completed') throw new Error(`not completed: ${result?.state}`);
    const { p50, p75, mad, samplesCount } = result.latency;
    const rate = (ready.items / p50) * 1000;
    const facts = /** @type {{ rivals?: import('./contenders.mjs').Rival[] }} */ (ready.facts?.() ?? {});
    ready.end?.();
    const ratios = (facts.rivals ?? []).flatMap(({ ratio }) => (ratio === undefined ? [] : [ratio]));
    const { ratioLine } = found;
    return {
      name,
      unit,
      rate,
      ...(line === undefined ? {} : { line, reached: rate >= line }),
      medianMs: p50,
      p75Ms: p75,
      madPercent: (100 * mad) / p50,
      samples: samplesCount,
      items: ready.items,
      peakRssBytes: peakRss(),
      threads: ready.threads ?? threads,
      checked: ready.checked,
      ...facts,
      ...(ratioLine !== undefined && { ratioLine }),
      ...(ratios.length > 0 && { ratio: Math.min(...ratios) }),
      ...machine(),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} name @returns {Result | undefined} */
function runCase(name) {
  const args = [
    fileURLToPath(import.meta.url),
    '--case',
    name,
    '--threads',
    options.threads,
    '--device',
    options.device,
    ...(options.quick ? ['--quick'] : []),
  ];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  return status === 0 ? JSON.parse(/** @type {string} */ (stdout.trim().split('\n').at(-1))) : undefined;
}

/** What it had to reach, and whether it did. @param {Result} r */
function linesOf({ line, reached, ratioLine, ratio }) {
  const said = (/** @type {boolean} */ is) => (is ? 'reached' : 'NOT reached');
  const lines = [];
  if (line !== undefined) lines.push(`line ${line}: ${said(reached === true)}`);
  if (ratioLine !== undefined)
    lines.push(
      `line ${ratioLine} x the best rival: ${ratio === undefined ? 'no rival' : `${ratio.toFixed(2)} x, ${said(ratio >= ratioLine)}`}`,
    );
  return lines.join('; ');
}

/** Those that were timed in turns with our cases. @param {readonly Result[]} results */
function rivalLines(results) {
  return results.flatMap(({ name, unit, rivals = [] }) =>
    rivals.map((rival) => {
      if (rival.rate === undefined) return `${name}: ${rival.name}: ${rival.missing}`;
      const views = rival.difference === undefined ? '' : `; its views differ by ${rival.difference.toFixed(4)}`;
      return `${name}: ${rival.name}: ${rival.rate.toFixed(0)} ${unit}, ours is ${rival.ratio?.toFixed(2)} x${views}`;
    }),
  );
}

/** @param {readonly Result[]} results */
function table(results) {
  const header = ['case', 'rate', 'unit', 'median ms', 'p75 ms', 'MAD', 'runs', 'buffers MiB', 'peak MiB', 'threads', ''];
  const rows = results.map((r) => [
    r.name,
    r.rate.toFixed(r.rate < 100 ? 1 : 0),
    r.unit,
    r.medianMs.toFixed(2),
    r.p75Ms.toFixed(2),
    `${r.madPercent.toFixed(1)} %`,
    String(r.samples),
    r.sizeBytes === undefined ? '' : (r.sizeBytes / 2 ** 20).toFixed(1),
    String(Math.round(r.peakRssBytes / 2 ** 20)),
    String(r.threads),
    linesOf(r),
  ]);
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => /** @type {string} */ (row[i]).length)));
  const isText = new Set([0, 2, 10]);
  const pad = (/** @type {string} */ cell, /** @type {number} */ i) =>
    isText.has(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0);
  return [header, ...rows].map((row) => row.map(pad).join('  ').trimEnd()).join('\n');
}

function main() {
  if (!['cpu', 'cuda'].includes(options.device)) {
    console.error(`Expected cpu or cuda for --device but received '${options.device}'.`);
    process.exit(2);
  }
  const chosen = choose(names);
  if (options.list) return console.log(chosen.join('\n'));
  console.log(`${chosen.length} of ${Object.keys(cases).length} cases: ${chosen.join(', ')}`);
  if (options.json) writeFileSync(options.json, '');
  /** @type {Result[]} */
  const results = [];
  for (const name of chosen) {
    const result = runCase(name);
    if (!result) {
      console.log(`${name}: FAILED`);
      process.exitCode = 1;
      continue;
    }
    console.log(`${name}: ${result.rate.toFixed(1)} ${result.unit}; checked: ${result.checked}`);
    if (options.json) appendFileSync(options.json, `${JSON.stringify(result)}\n`);
    results.push(result);
  }
  const { cpu, versions, commit } = machine();
  console.log(`\n${cpu.model} (${cpu.cores} cores, ${cpu.bf16 ? 'avx512 bf16' : cpu.avx512 ? 'avx512' : cpu.avx2 ? 'avx2' : 'baseline'})`);
  console.log(`comface ${versions.comface}, node ${versions.node}, commit ${commit?.slice(0, 7) ?? 'unknown'}\n\n${table(results)}`);
  const lines = rivalLines(results);
  if (lines.length > 0) console.log(`\nFor each second of a processor, in turns:\n${lines.join('\n')}`);
}

if (options.case === undefined) main();
else console.log(JSON.stringify(await measure(options.case)));
