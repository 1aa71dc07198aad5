// @ts-check
// What a training run does besides its steps: train() as people call it, beside the same steps on given numbers; and which threads compute how long.
import { strict as assert } from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { train } from '../../dist/train/train.js';
import { median } from '../contenders.mjs';
import { stepOn, trainer } from '../engines.mjs';
import { configOf, drawSet, numbers } from '../pictures.mjs';

/**
 * @typedef {object} Rest
 * @property {number} percent Of a step's wall time, that the median step of a run takes longer, with its share of a checkpoint. @property {number} line At most so many.
 * @property {number} checkpointMs What one adds to the steps beside which it is written. @property {number} checkpointEverySteps As train() has it by itself.
 * @property {{ name: string, percent: number }[]} threads Shares of the computing time of a run's steps.
 */

/** Steps before the clock starts, steps that it counts, and as many again with a checkpoint. */
const [kBefore, kSteps] = [10, 30];
const kLine = 5;

/** Nanoseconds on a processor of each thread: JavaScript's, ours by their names, what else Node.js has. @returns {Map<string, { name: string, ns: number }>} */
function threadTimes() {
  const times = new Map();
  for (const id of readdirSync('/proc/self/task')) {
    const task = join('/proc/self/task', id);
    try {
      const own = readFileSync(join(task, 'comm'), 'utf8').trim();
      const name = id === String(process.pid) ? 'JavaScript' : own.startsWith('comface-') ? own : 'the rest of Node.js';
      const [onCpu = '0'] = readFileSync(join(task, 'schedstat'), 'utf8').split(' ');
      times.set(id, { name, ns: Number(onCpu) });
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error; // the thread has ended
    }
  }
  return times;
}

/** Of steps that ended at these times, but the first: a machine that others use, too, halts for some of them. @param {readonly number[]} seen */
const medianStep = (seen) => median(seen.slice(1).map((time, i) => time - (seen[i] ?? 0)));

/** @param {import('../pictures.mjs').NetworkOptions & { size: number }} network @returns {import('../cases.mjs').Case['prepare']} */
export function rest({ size, ...network }) {
  return async (setting) => {
    const { folder, isQuick, threads } = setting;
    const [before, counted] = isQuick ? [1, 3] : [kBefore, kSteps];
    const steps = before + 2 * counted;
    // One epoch: a picture begins one pair of it.
    const manifest = await drawSet(folder, size, Math.ceil((steps * network.pairs) / 11));
    const config = configOf({ ...network, size, data: manifest.folder });
    const [input, targets] = [numbers(9 * config.pairs * size * size, 1), numbers(config.pairs, 2).map(Math.abs)];
    /** @type {Record<string, unknown>} */
    let facts = {};
    /**
     * Milliseconds of the median step on given numbers. Each time of an engine of its own, as a run has one: where in memory an engine lies is luck, and was
     * found to be worth up to 4 %.
     */
    const alone = async () => {
      const { engine, facts: factsOf } = await trainer(config, 'auto', setting);
      const step = stepOn(engine, config, input, targets);
      for (let i = 0; i < before; i++) await step();
      const seen = [performance.now()];
      for (let i = 0; i < counted; i++) {
        await step();
        seen.push(performance.now());
      }
      facts = factsOf();
      engine.dispose();
      return medianStep(seen);
    };
    let runs = 0;
    /** The same in a run, after its first steps, and then with a checkpoint. */
    const inRun = async () => {
      let times = threadTimes();
      const options = {
        ...{ ...network, size, threads, data: manifest.folder, out: join(folder, `run-${runs++}`), device: setting.device, validation: 0 },
        ...{ epochs: 1, pairsPerEpoch: steps * config.pairs, curriculum: { stageEnds: [1] } },
        checkpointEverySteps: before + counted + 1,
      };
      /** @type {number[]} */
      const seen = [];
      /** @type {{ name: string, ns: number }[]} */
      let spent = [];
      for await (const event of train(options)) {
        if (event.type !== 'step') continue;
        seen.push(performance.now());
        if (event.step === before) times = threadTimes();
        if (event.step === before + counted) {
          const began = times;
          spent = [...threadTimes()].map(([id, { name, ns }]) => ({ name, ns: ns - (began.get(id)?.ns ?? 0) }));
        }
      }
      assert.equal(seen.length, steps);
      const [first = 0, middle = 0, end = 0] = [before, before + counted, steps].map((step) => seen[step - 1]);
      return { ms: medianStep(seen.slice(before - 1, before + counted)), checkpointMs: end - middle - (middle - first), spent };
    };
    await alone();
    await inRun();
    /** @type {number[]} */
    const ratios = [];
    /** @type {Map<string, number[]>} */
    const shares = new Map();
    /** @type {number[]} */
    const checkpoints = [];
    const run = async () => {
      const [first, { ms, checkpointMs, spent }, second] = [await alone(), await inRun(), await alone()];
      const bare = (first + second) / 2;
      checkpoints.push(checkpointMs);
      ratios.push((ms + Math.max(0, checkpointMs) / config.checkpointEverySteps) / bare);
      const all = spent.reduce((sum, { ns }) => sum + ns, 0);
      for (const name of new Set(spent.map((each) => each.name))) {
        const own = spent.reduce((sum, each) => sum + (each.name === name ? each.ns : 0), 0);
        shares.set(name, [...(shares.get(name) ?? []), own / all]);
      }
      return { overriddenDuration: ms };
    };
    /** @returns {Rest} */
    const found = () => ({
      percent: 100 * (median(ratios) - 1),
      line: kLine,
      checkpointMs: median(checkpoints),
      checkpointEverySteps: config.checkpointEverySteps,
      threads: [...shares].map(([name, list]) => ({ name, percent: 100 * median(list) })).sort((a, b) => b.percent - a.percent),
    });
    return {
      run,
      items: 3 * config.pairs,
      checked: `a run of ${steps} steps tells of each`,
      facts: () => ({ ...facts, rest: found() }),
    };
  };
}
