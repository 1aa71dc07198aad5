// @ts-check
// Whole training steps: on given numbers, in turns with those of PyTorch and TensorFlow.js; and from files, as in training, to show what the rest costs.
import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { sparesOf } from '../../dist/data/pairs.js';
import { native } from '../../dist/native.js';
import { among, Contender, kPython, peer, root } from '../contenders.mjs';
import { adamOf, assertClose, nearness, trainer } from '../engines.mjs';
import { configOf, drawSet, planner } from '../pictures.mjs';

const kSettleSteps = 10;
/** A GPU goes on while nobody asks for losses. In a training run somebody does about as often. */
const kStepsBetweenLosses = 10;

/** How far losses of the first step may differ, relative: fp32 adds up in another order, bf16 rounds in other places. */
const kNear = { fp32: 1e-3, bf16: 0.05 };

/** What makes PyTorch's memory faster where it is installed, as its tuning guide has it. */
const kAllocators = ['libtcmalloc_minimal.so.4', 'libtcmalloc.so.4', 'libjemalloc.so.2'];

export function allocator() {
  const { stdout } = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' });
  return kAllocators
    .flatMap((name) => (stdout ?? '').split('\n').filter((line) => line.trim().startsWith(`${name} `)))
    .map((line) => line.split('=> ')[1] ?? '')
    .find((path) => existsSync(path));
}

/** What holds oneDNN and PyTorch to AVX2. */
const kAvx2 = { ONEDNN_MAX_CPU_ISA: 'AVX2', ATEN_CPU_CAPABILITY: 'avx2' };

/** @param {string} design @param {number} threads @param {readonly string[]} ways @param {NodeJS.ProcessEnv} more */
function torch(design, threads, ways, more) {
  const preloaded = allocator();
  const tuned = preloaded === undefined ? {} : { LD_PRELOAD: preloaded };
  return ways.map((name) => {
    const env = { OMP_NUM_THREADS: String(threads), ...(name === 'default' ? {} : tuned), ...more };
    return new Contender(`PyTorch ${name}`, kPython, [peer('steps.py'), name, design], env);
  });
}

/**
 * Steps on given numbers: forward of 3 x pairs views, both heads and losses, backward, Adam.
 * @param {import('../pictures.mjs').NetworkOptions & { size: number, precision: 'fp32' | 'bf16', steps: number, withTensorFlow?: boolean, isAvx2?: boolean }} options steps: of a round; isAvx2: all are held to AVX2.
 *   Beside PyTorch's default alone then.
 * @returns {import('../cases.mjs').Case['prepare']}
 */
export function steps({ precision, steps: stepsOfRound, withTensorFlow = false, isAvx2 = false, ...network }) {
  return async ({ folder, threads, isQuick }) => {
    const { backbone, size, width, pairs, temperature, interPersonal, intraPersonal, learningRate } = configOf(network);
    const loss = { temperature, interPersonal, intraPersonal, learningRate };
    /** @type {import('../step.mjs').Design} */
    const plan = {
      backbone: /** @type {'resnet18'} */ (backbone),
      size,
      width,
      pairs,
      ...loss,
      precision,
      threads,
      steps: stepsOfRound,
      folder,
    };
    const design = JSON.stringify(plan);
    const env = isAvx2 ? kAvx2 : {};
    // Compiling takes minutes, which a quick run does not have.
    const ways = isAvx2 ? ['default'] : isQuick ? ['default', 'tuned'] : ['default', 'tuned', 'compile'];
    const ours = new Contender('comface', process.execPath, [`${root}bench/step.mjs`, design], env);
    const tensorFlow = new Contender('TensorFlow.js', process.execPath, [peer('tfjs.mjs'), design], {});
    const rivals = [...torch(design, threads, ways, env), ...(withTensorFlow ? [tensorFlow] : [])];
    const near = (/** @type {Contender} */ { name, ready }) =>
      assertClose(ready.losses ?? [], ours.ready.losses ?? [], kNear[precision], `${name}: `);
    const { run, rivals: lines, end } = await among(ours, rivals, near, 'wallMs');
    const { losses = [], items, engine, sizeBytes } = ours.ready;
    assert(losses.length === 2 && losses.every(Number.isFinite), `finite losses: ${losses}`);
    const facts = () => ({
      ...{ precision, engine, sizeBytes, stepsPerRun: stepsOfRound, clock: 'wall' },
      ...(ours.peakRssBytes !== undefined && { peakRssBytes: ours.peakRssBytes }),
      rivals: lines(),
    });
    return {
      run,
      items,
      checked: `finite losses; each rival's within ${100 * kNear[precision]} % of ours from the same weights`,
      facts,
      end,
    };
  };
}

/**
 * Whole steps as in training: files are read, decoded and augmented, too.
 * @param {'resnet18' | 'resnet50' | 'vit_b_16'} name @param {number} size @param {number} pairs @param {import('../engines.mjs').Wanted} wanted
 * @param {{ width?: number, chunks?: number, deterministic?: boolean }} [more] chunks: of a gradient cache.
 * @returns {import('../cases.mjs').Case['prepare']}
 */
export function fromFiles(name, size, pairs, wanted, { width = 64, ...how } = {}) {
  return async (setting) => {
    const { folder, device, threads } = setting;
    const manifest = await drawSet(folder, size, Math.ceil(Math.max(88, pairs) / 11));
    // With a GPU the processor has nothing else to do.
    const { config, planAt } = planner(manifest, { backbone: name, width, pairs, ...(device === 'cuda' && { loaderThreads: threads }) });
    const source = native().module.openFiles(manifest.files, size, config.loaderThreads, size);
    /** @param {import('../../dist/native.js').NativeEngine} engine */
    const lossesOf = async (engine) => {
      await engine.reserve(source, config.pairs + sparesOf(config));
      const { losses, broken } = await engine.step(source, planAt(1), null, config.augment, adamOf(config, 1));
      losses.push(...(await engine.collect()).losses);
      assert(broken.length === 0 && losses.length === 2 && losses.every(Number.isFinite), `finite losses, no broken picture: ${losses}`);
      return losses;
    };
    const other = await trainer(config, 'fp32', setting, how);
    const expected = await lossesOf(other.engine);
    other.engine.dispose();
    const { engine, precision, facts } = await trainer(config, wanted, setting, how);
    const tolerance = precision === 'fp32' ? 0 : 0.05;
    assertClose(await lossesOf(engine), expected, tolerance);
    let [step, settled] = [1, 0];
    const steps = device === 'cuda' ? kStepsBetweenLosses : 1;
    const run = async () => {
      for (let i = 0; i < steps; i++) {
        step++;
        await engine.step(source, planAt(step), planAt(step + 1), config.augment, adamOf(config, step));
        if (step === kSettleSteps) settled = process.memoryUsage().rss;
      }
      await engine.collect();
    };
    // Memory is planned before the first step, so the process must not grow while it trains.
    const growth = () => (settled > 0 && step > 2 * kSettleSteps ? process.memoryUsage().rss - settled : null);
    const more = () => ({ ...facts(), loaderThreads: config.loaderThreads, rssGrowthBytes: growth(), stepsPerRun: steps });
    return { run, items: steps * 3 * pairs, checked: `losses of step 1 ${nearness(tolerance)} a second engine in fp32`, facts: more };
  };
}
