// @ts-check
// Cost as work grows: each case measures points, fits a power of x (least squares on logarithms) and holds its exponent to what the arithmetic says.
import { strict as assert } from 'node:assert';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readData } from '../../dist/data/dataset.js';
import { chooseDevice } from '../../dist/native.js';
import { median } from '../contenders.mjs';
import { stepOn, trainer } from '../engines.mjs';
import { configOf, numbers } from '../pictures.mjs';
import { paperSet, samplerOf } from './data.mjs';
import { checkedLoss, kWidth, lossEngine } from './infonce.mjs';

/**
 * @typedef {{ x: number, ms: number, rate: number, bytes?: number }} Point rate: of the case's unit.
 * @typedef {object} Law
 * @property {'time' | 'bytes' | 'time of an item'} of @property {string} words What it should be. @property {number} expected Power of x. @property {[number, number]} band What is accepted.
 * @property {number} [measured] @property {boolean} [held]
 * @typedef {{ x: string, points: Point[], laws: Law[] }} Growth
 * @typedef {object} Plan
 * @property {string} x What grows. @property {readonly number[]} points @property {readonly number[]} quick @property {readonly Law[]} laws
 * @property {string} checked
 * @property {(x: number, setting: import('../cases.mjs').Setting) => Promise<{ ms: number, items: number, bytes?: number }>} at
 */

/** Slope of log y over log x. @param {readonly (readonly [number, number])[]} points */
export function exponentOf(points) {
  const logs = points.map(([x, y]) => /** @type {const} */ ([Math.log(x), Math.log(y)]));
  const mean = (/** @type {0 | 1} */ of) => logs.reduce((sum, each) => sum + each[of], 0) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  const [up, down] = logs.reduce(([a, b], [x, y]) => [a + (x - mx) * (y - my), b + (x - mx) ** 2], [0, 0]);
  return up / down;
}

/** @param {readonly Point[]} points @param {Law} law @param {boolean} isJudged */
export function judge(points, law, isJudged) {
  const value = (/** @type {Point} */ { ms, rate, bytes }) => (law.of === 'bytes' ? bytes : law.of === 'time' ? ms : 1 / rate);
  const pairs = points.flatMap((point) => {
    const y = value(point);
    return y === undefined ? [] : [/** @type {const} */ ([point.x, y])];
  });
  if (pairs.length < 2) return law;
  const measured = exponentOf(pairs);
  const [low, high] = law.band;
  return { ...law, measured, ...(isJudged && { held: measured >= low && measured <= high }) };
}

/** The median of as many runs as half a second has, but 9 at most. @param {() => Promise<unknown>} run */
async function timeOf(run) {
  const begin = performance.now();
  await run();
  const first = performance.now() - begin;
  // A run so long has warmed up within itself.
  if (first > 4000) return first;
  const times = [];
  while (times.length < 3 || (times.length < 9 && performance.now() - begin < 500 + first)) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return median(times);
}

/** Steps of a ResNet-18 on given numbers. @param {number} pairs @param {number} edge @param {number} threads */
async function stepTime(pairs, edge, threads) {
  const config = configOf({ backbone: 'resnet18', pairs, size: edge });
  const { engine } = await trainer(config, 'fp32', { threads, device: 'cpu' });
  const input = numbers(3 * pairs * 3 * edge * edge, 1);
  const targets = numbers(pairs, 2).map(Math.abs);
  const train = stepOn(engine, config, input, targets);
  const ms = await timeOf(async () => {
    const losses = await train();
    assert(losses.every(Number.isFinite), `finite losses: ${losses}`);
  });
  const { sizeBytes } = engine;
  engine.dispose();
  return { ms, items: 3 * pairs, bytes: sizeBytes };
}

/** @type {Record<string, Plan & { unit: string }>} */
const plans = {
  batch: {
    unit: 'views/s',
    x: 'views of a batch',
    // 3 views a pair: 9 to 255.
    points: [9, 15, 33, 63, 129, 255],
    quick: [6, 12],
    laws: [{ of: 'time', words: 'a step is as long as its batch', expected: 1, band: [0.75, 1.1] }],
    checked: 'finite losses',
    at: (views, { threads }) => stepTime(views / 3, 64, threads),
  },
  size: {
    unit: 'views/s',
    x: 'edge of the pictures',
    points: [64, 96, 128, 192, 256],
    quick: [32, 64],
    laws: [{ of: 'time', words: 'a step is as long as its pictures have pixels', expected: 2, band: [1.6, 2.2] }],
    checked: 'finite losses',
    at: (edge, { threads, isQuick }) => stepTime(isQuick ? 2 : 16, edge, threads),
  },
  threads: {
    unit: 'views/s',
    x: 'threads',
    points: [1, 2],
    quick: [1],
    laws: [{ of: 'time', words: 'two threads take half the time', expected: -1, band: [-1.1, -0.7] }],
    checked: 'finite losses',
    at: (threads, { isQuick }) => stepTime(isQuick ? 2 : 32, 64, threads),
  },
  infonce: {
    unit: 'rows/s',
    x: 'rows',
    points: [256, 1024, 4096, 16384, 65536],
    quick: [64, 256, 1024],
    laws: [
      { of: 'time', words: 'every row meets every other', expected: 2, band: [1.7, 2.15] },
      { of: 'bytes', words: 'no rows x rows numbers are kept', expected: 1, band: [0.7, 1.1] },
    ],
    checked: 'loss and gradient of 256 rows within 1e-5 of the plain loops',
    async at(rows, setting) {
      if (rows === 256) (await checkedLoss(rows, setting)).engine.dispose();
      const engine = await lossEngine(rows, chooseDevice(setting.device, 'fp32').library, setting.threads);
      await engine.initialize(1n);
      const input = numbers(rows * kWidth, 1);
      const ms = await timeOf(async () => {
        await engine.forward(input, new Float32Array());
        await engine.backward();
      });
      const { sizeBytes } = engine;
      engine.dispose();
      return { ms, items: rows, bytes: sizeBytes };
    },
  },
  'records-open': {
    unit: 'records/s',
    x: 'records',
    points: [1414, 14_140, 141_400, 1_414_000, 14_140_000, 35_350_000],
    quick: [1414, 14_140],
    laws: [{ of: 'time', words: 'opening reads a list of the groups, after what every opening takes', expected: 1, band: [0, 1.1] }],
    checked: 'as many records as were written',
    at: (records, { folder }) => inSet(folder, records, async (out) => ({ ms: await timeOf(() => readData(out)), items: records })),
  },
  'records-pairs': {
    unit: 'pairs/s',
    x: 'records',
    points: [1414, 14_140, 141_400, 1_414_000, 14_140_000, 35_350_000],
    quick: [1414, 14_140],
    laws: [{ of: 'time of an item', words: 'a pair takes as long among many as among few', expected: 0, band: [-0.08, 0.08] }],
    checked: 'as many records as were written',
    at: (records, { folder }) =>
      inSet(folder, records, async (out) => {
        const [pairs, runs] = [1024, 20];
        const sampler = samplerOf(await readData(out), pairs);
        let step = 0;
        const ms = await timeOf(async () => {
          for (let i = 0; i < runs; i++) sampler.plan(++step);
        });
        return { ms, items: runs * pairs };
      }),
  },
};

/** In a set of so many records that is there only meanwhile. @template T @param {string} folder @param {number} records @param {(out: string) => Promise<T>} use */
async function inSet(folder, records, use) {
  const out = join(folder, String(records));
  mkdirSync(out);
  await paperSet(out, records / 101);
  assert.equal((await readData(out)).count, records);
  const result = await use(out);
  rmSync(out, { recursive: true });
  return result;
}

/** @param {Plan} plan @param {import('../cases.mjs').Setting} setting @returns {Promise<Growth>} */
async function grow(plan, setting) {
  /** @type {Point[]} */
  const points = [];
  for (const x of setting.isQuick ? plan.quick : plan.points) {
    const { ms, items, bytes } = await plan.at(x, setting);
    points.push({ x, ms, rate: (1000 * items) / ms, ...(bytes !== undefined && { bytes }) });
  }
  // The few small points of a quick run show that it runs.
  return { x: plan.x, points, laws: plan.laws.map((law) => judge(points, law, !setting.isQuick)) };
}

/** @type {Record<string, import('../cases.mjs').Case>} */
export const growCases = Object.fromEntries(
  Object.entries(plans).map(([name, { unit, ...plan }]) => [
    `grow/${name}`,
    {
      unit,
      only: /** @type {const} */ ('cpu'),
      prepare: async (setting) => ({
        run: async () => {},
        items: 0,
        checked: plan.checked,
        grow: () => grow(plan, setting),
        ...(name.startsWith('records') && { threads: 1 }),
      }),
    },
  ]),
);
