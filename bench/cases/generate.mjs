// @ts-check
// Pictures of 1024 pixels out of StyleGAN and StyleGAN3, in turns with the public PyTorch implementations where their folders are given: COMFACE_STYLEGAN3
// (NVlabs/stylegan3) and COMFACE_INTERFACEGAN (genforce/interfacegan). Numbers stand in for weights, which are under licenses of their own.
import { strict as assert } from 'node:assert';
import { chooseDevice } from '../../dist/native.js';
import { among, Contender, kPython, peer, root } from '../contenders.mjs';
import { distance } from '../engines.mjs';
import { generatorEngine } from '../generators.mjs';

/** @typedef {import('../generators.mjs').Which} Which */
/**
 * @typedef {object} Generation
 * @property {number} flop Of a picture: convolutions and linear layers. @property {number} gemm GFLOP/s of a product of square matrices in the same process.
 * @property {number} share Of that rate.
 */

const kChecked = { size: 64, most: 8 };
const kQuick = { size: 128, most: 16 };
const kWhole = { size: 1024, most: 512 };

/** Of a picture's numbers, from those of the plain loops. */
const limits = { fp32: 1e-4, fp16: 3e-3 };

/**
 * A narrow network of the kind against the plain loops.
 * @param {Which} which @param {'cpu' | 'cuda'} device @param {'fp32' | 'fp16'} precision @param {number} threads
 */
async function check(which, device, precision, threads) {
  const chosen = [chooseDevice(device, precision), chooseDevice('reference', 'fp32')];
  const made = await Promise.all(chosen.map((each) => generatorEngine({ which, ...kChecked }, 2, each, threads)));
  const [actual, expected] = /** @type {[Float32Array, Float32Array]} */ (await Promise.all(made.map(({ picture }) => picture())));
  for (const { engine } of made) engine.dispose();
  const away = distance(actual, expected);
  assert(away < limits[precision], `pictures are ${away.toExponential(1)} from the plain loops'`);
}

/** @param {Which} which @param {'fp32' | 'fp16'} precision @returns {import('../cases.mjs').Case['prepare']} */
export const pictures =
  (which, precision = 'fp32') =>
  async ({ device, threads, isQuick }) => {
    await check(which, device, precision, threads);
    const shape = isQuick ? kQuick : kWhole;
    /** @type {import('../generator.mjs').Design} */
    const plan = {
      which,
      ...shape,
      batch: device === 'cuda' ? 8 : 1,
      rounds: device === 'cuda' && !isQuick ? 4 : 1,
      threads,
      device,
      precision,
    };
    const design = JSON.stringify(plan);
    const ours = new Contender('comface', process.execPath, [`${root}bench/generator.mjs`, design], {});
    const env = { OMP_NUM_THREADS: String(threads) };
    const rival = new Contender(`PyTorch ${precision}`, kPython, [peer('generators.py'), precision, design], env);
    const isSame = (/** @type {Contender} */ { name, ready }) => {
      for (const fact of /** @type {const} */ (['shape', 'pairs'])) assert.deepEqual(ready[fact], ours.ready[fact], `${name}: ${fact}`);
    };
    const { run, rivals: lines, end } = await among(ours, [rival], isSame, 'wallMs');
    const facts = () => {
      const { flop = Number.NaN, gemm = Number.NaN, items, sizeBytes, engine } = ours.ready;
      /** @type {Generation} */
      const generation = { flop, gemm, share: (ours.rate('wallMs') * flop) / 1e9 / gemm };
      return {
        ...{ precision, engine, sizeBytes, stepsPerRun: items, clock: 'wall', generation },
        ...(ours.peakRssBytes !== undefined && { peakRssBytes: ours.peakRssBytes }),
        rivals: lines(),
      };
    };
    const checked = `finite; a narrow network of its kind within ${limits[precision]} of the plain loops; rivals have as many convolutions`;
    return { run, items: ours.ready.items, checked, facts, end };
  };
