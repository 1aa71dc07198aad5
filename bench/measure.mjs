// @ts-check
// One case in a process of its own: prepare, check, time. bench/run.mjs starts it and reads the last line.   node bench/measure.mjs NAME SETTING: JSON
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Bench } from 'tinybench';
import { cases } from './cases.mjs';
import { forgetPeak, machine, peakRss } from './machine.mjs';

/**
 * @typedef {{ to: string, line: number, ratio?: number, reached?: boolean }} RatioLine to: a rival, or the best of them. Without a ratio no such rival was there.
 * @typedef {object} Result One line of the JSON file.
 * @property {string} name @property {string} unit @property {number} rate At the median.
 * @property {number} medianMs @property {number} p75Ms @property {number} madPercent Median absolute deviation.
 * @property {number} samples @property {number} items @property {number} peakRssBytes @property {number} threads
 * @property {string} checked @property {number} [sizeBytes] Buffers of the engine. @property {number} [line] @property {boolean} [reached] @property {number | null} [rssGrowthBytes]
 * @property {import('./contenders.mjs').Rival[]} [rivals] @property {RatioLine[]} [ratioLines] @property {boolean} [isLean] Took less memory than every rival that said.
 * @property {import('./cases/grow.mjs').Growth} [growth] @property {boolean} [isaBound] Its ratios are those of processors with the same instructions.
 * @property {import('./cases/generate.mjs').Generation} [generation]
 * @property {import('./cases/rest.mjs').Rest} [rest] @property {number} [stepsPerRun] Tables show the median of one.
 * @property {boolean} isQuick @property {string} [date] @property {string | undefined} [commit] @property {boolean} [isDirty]
 * @property {{ model?: string | undefined, cores: number, memoryBytes: number, avx2: boolean, avx512: boolean, bf16: boolean }} cpu
 * @property {Record<string, string>} versions
 */

/** @param {string} name @param {import('./cases.mjs').Ready} ready @param {import('./cases.mjs').Case} found @param {boolean} isQuick */
async function sample(name, ready, found, isQuick) {
  // A quick run only shows that the case runs; three rounds are two warm ones and one that counts.
  const { iterations = 10, timeMs = 3000 } = isQuick ? { iterations: 2, timeMs: 0 } : found;
  const bench = new Bench({ iterations, time: timeMs, warmupIterations: timeMs > 0 ? 2 : 1, warmupTime: 0, throws: true });
  bench.add(name, async () => {
    const answer = await ready.run();
    return isTimed(answer) ? answer : undefined;
  });
  const result = (await bench.run())[0]?.result;
  if (result?.state !== 'completed') throw new Error(`not completed: ${result?.state}`);
  const { p50, p75, mad, samplesCount } = result.latency;
  if (p50 <= 0) throw new Error('nothing is left of the time after what is taken off: the machine is too busy');
  return { rate: (ready.items / p50) * 1000, medianMs: p50, p75Ms: p75, madPercent: (100 * mad) / p50, samples: samplesCount };
}

/** @param {unknown} answer @returns {answer is { overriddenDuration: number }} */
const isTimed = (answer) => typeof answer === 'object' && answer !== null && 'overriddenDuration' in answer;

/** The largest work stands for the case. @param {import('./cases/grow.mjs').Growth} growth */
function largest({ points }) {
  const { ms, rate } = /** @type {import('./cases/grow.mjs').Point} */ (points.at(-1));
  return { rate, medianMs: ms, p75Ms: ms, madPercent: 0, samples: points.length };
}

/** @param {import('./cases.mjs').Case} found @param {readonly import('./contenders.mjs').Rival[]} rivals @param {number} peakRssBytes */
function judged({ ratioLines, isLean }, rivals, peakRssBytes) {
  const ratios = rivals.flatMap(({ ratio }) => ratio ?? []);
  const peaks = rivals.flatMap((rival) => rival.peakRssBytes ?? []);
  const lines = Object.entries(ratioLines ?? {}).map(([to, line]) => {
    const ratio = to === 'best' ? Math.min(...ratios) : rivals.find(({ name }) => name === to)?.ratio;
    return ratio === undefined || !Number.isFinite(ratio) ? { to, line } : { to, line, ratio, reached: ratio >= line };
  });
  return {
    ...(lines.length > 0 && { ratioLines: lines }),
    ...(isLean && peaks.length > 0 && { isLean: peaks.every((peak) => peakRssBytes < peak) }),
  };
}

/** @param {string} name @param {Omit<import('./cases.mjs').Setting, 'folder'>} setting @returns {Promise<Result>} */
async function measure(name, setting) {
  const found = cases[name];
  if (!found) throw new Error(`There is no case '${name}'`);
  const folder = mkdtempSync(join(tmpdir(), 'comface-bench-'));
  try {
    const ready = await found.prepare({ ...setting, folder });
    // Forget the peak: the check may have held a second engine, which is freed on its own thread.
    await setTimeout(300);
    forgetPeak();
    const growth = await ready.grow?.();
    const times = growth === undefined ? await sample(name, ready, found, setting.isQuick) : largest(growth);
    const facts = /** @type {Partial<Result>} */ (ready.facts?.() ?? {});
    ready.end?.();
    const { unit, line } = found;
    const peakRssBytes = facts.peakRssBytes ?? peakRss();
    return {
      name,
      unit,
      ...times,
      ...(line === undefined ? {} : { line, reached: times.rate >= line }),
      items: ready.items,
      threads: ready.threads ?? setting.threads,
      checked: ready.checked,
      ...facts,
      peakRssBytes,
      ...(growth !== undefined && { growth }),
      ...judged(found, facts.rivals ?? [], peakRssBytes),
      isQuick: setting.isQuick,
      ...machine(),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const [name = '', setting = '{}'] = process.argv.slice(2);
console.log(JSON.stringify(await measure(name, JSON.parse(setting))));
