// @ts-check
// What a training run does besides its steps: train() as people call it, beside the same steps on given numbers; and which threads compute how long.
import { strict as assert } from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { train } from '../../dist/train/train.js';
import { adamOf, trainer } from '../engines.mjs';
import { configOf, drawSet, numbers } from '../pictures.mjs';

/**
 * @typedef {object} Rest
 * @property {number} percent Of a step's wall time, that a step of a run takes longer. @property {number} line At most so many.
 * @property {{ name: string, percent: number }[]} threads Shares of the computing time of a run's steps.
 */

/** Steps before the clock starts, and steps that it counts. */
const [kBefore, kSteps] = [10, 40];
const kLine = 5;

const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Nanoseconds on a processor by thread: of JavaScript, of ours by their names, of what else Node.js has. @returns {Map<string, number>} */
function threadTimes() {
  const times = new Map();
  for (const id of readdirSync('/proc/self/task')) {
    const task = join('/proc/self/task', id);
    try {
      const own = readFileSync(join(task, 'comm'), 'utf8').trim();
      const name = id === String(process.pid) ? 'JavaScript' : own.startsWith('comface-') ? own : 'the rest of Node.js';
      const [onCpu = '0'] = readFileSync(join(task, 'schedstat'), 'utf8').split(' ');
      times.set(name, (times.get(name) ?? 0) + Number(onCpu));
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error; // the thread has ended
    }
  }
  return times;
}

/** @param {import('../pictures.mjs').NetworkOptions & { size: number }} network @returns {import('../cases.mjs').Case['prepare']} */
export function rest({ size, ...network }) {
  return async (setting) => {
    const { folder, isQuick, threads } = setting;
    const [before, counted] = isQuick ? [1, 3] : [kBefore, kSteps];
    const steps = before + counted;
    // One epoch: a picture begins one pair of it.
    const manifest = await drawSet(folder, size, Math.ceil((steps * network.pairs) / 11));
    const config = configOf({ ...network, size, data: manifest.folder });
    const { engine, facts } = await trainer(config, 'auto', setting);
    const [input, targets] = [numbers(9 * config.pairs * size * size, 1), numbers(config.pairs, 2).map(Math.abs)];
    /** Milliseconds of a step on given numbers. */
    const alone = async () => {
      const start = performance.now();
      for (let step = 1; step <= counted; step++) {
        await engine.forward(input, targets);
        await engine.backward();
        await engine.update(adamOf(config, step));
      }
      return (performance.now() - start) / counted;
    };
    let runs = 0;
    /** The same in a run that logs and saves, after its first steps. */
    const inRun = async () => {
      const options = {
        ...{ ...network, size, threads, data: manifest.folder, out: join(folder, `run-${runs++}`), device: setting.device, validation: 0 },
        ...{ epochs: 1, pairsPerEpoch: steps * config.pairs, curriculum: { stageEnds: [1] } },
        ...{ logEverySteps: 1, checkpointEverySteps: Math.ceil(counted / 2) },
      };
      let [start, last, saved] = [0, 0, 0];
      let times = new Map();
      for await (const event of train(options)) {
        if (event.type === 'checkpoint' && last === 0 && start > 0) saved++;
        if (event.type !== 'step') continue;
        if (event.step === before) [start, times] = [performance.now(), threadTimes()];
        if (event.step === steps) last = performance.now();
      }
      assert(last > start && start > 0 && saved > 0, `a run of ${steps} steps that saves, but ${saved} were saved`);
      const spent = [...threadTimes()].map(([name, ns]) => /** @type {const} */ ([name, ns - (times.get(name) ?? 0)]));
      return { ms: (last - start) / counted, spent };
    };
    await alone();
    await inRun();
    /** @type {number[]} */
    const ratios = [];
    /** @type {Map<string, number[]>} */
    const shares = new Map();
    const run = async () => {
      const [first, { ms, spent }, second] = [await alone(), await inRun(), await alone()];
      ratios.push((2 * ms) / (first + second));
      const all = spent.reduce((sum, [, ns]) => sum + ns, 0);
      for (const [name, ns] of spent) shares.set(name, [...(shares.get(name) ?? []), ns / all]);
      return { overriddenDuration: ms };
    };
    /** @returns {Rest} */
    const found = () => ({
      percent: 100 * (median(ratios) - 1),
      line: kLine,
      threads: [...shares].map(([name, list]) => ({ name, percent: 100 * median(list) })).sort((a, b) => b.percent - a.percent),
    });
    return {
      run,
      items: 3 * config.pairs,
      checked: `a run of ${steps} steps with ${Math.floor(steps / Math.ceil(counted / 2))} checkpoints and a line of its log a step`,
      facts: () => ({ ...facts(), rest: found() }),
      end: () => engine.dispose(),
    };
  };
}
