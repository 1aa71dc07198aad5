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

/** A narrow network of the kind against the plain loops. @param {Which} which @param {string} library @param {number} threads */
async function check(which, library, threads) {
  const made = await Promise.all([library, ''].map((each) => generatorEngine({ which, ...kChecked }, 2, each, threads)));
  const [actual, expected] = /** @type {[Float32Array, Float32Array]} */ (await Promise.all(made.map(({ picture }) => picture())));
  for (const { engine } of made) engine.dispose();
  const away = distance(actual, expected);
  assert(away < 1e-4, `pictures are ${away.toExponential(1)} from the plain loops'`);
}

/** @param {Which} which @param {'cpu' | 'cuda'} device @param {string} design @param {number} threads */
function rivals(which, device, design, threads) {
  const ways = device === 'cuda' && which !== 'stylegan1' ? ['fp32', 'fp16'] : ['fp32'];
  const env = { OMP_NUM_THREADS: String(threads) };
  return ways.map((way) => new Contender(`PyTorch ${way}`, kPython, [peer('generators.py'), way, design], env));
}

/** @param {Which} which @returns {import('../cases.mjs').Case['prepare']} */
export const pictures =
  (which) =>
  async ({ device, threads, isQuick }) => {
    await check(which, chooseDevice(device, 'fp32').library, threads);
    const shape = isQuick ? kQuick : kWhole;
    /** @type {import('../generator.mjs').Design} */
    const plan = { which, ...shape, batch: device === 'cuda' ? 8 : 1, rounds: device === 'cuda' && !isQuick ? 4 : 1, threads, device };
    const design = JSON.stringify(plan);
    const ours = new Contender('comface', process.execPath, [`${root}bench/generator.mjs`, design], {});
    const isSame = (/** @type {Contender} */ { name, ready }) => {
      for (const fact of /** @type {const} */ (['shape', 'pairs'])) assert.deepEqual(ready[fact], ours.ready[fact], `${name}: ${fact}`);
    };
    const { run, rivals: lines, end } = await among(ours, rivals(which, device, design, threads), isSame, 'wallMs');
    const facts = () => {
      const { flop = Number.NaN, gemm = Number.NaN, items, sizeBytes, engine } = ours.ready;
      /** @type {Generation} */
      const generation = { flop, gemm, share: (ours.rate('wallMs') * flop) / 1e9 / gemm };
      return {
        ...{ precision: 'fp32', engine, sizeBytes, stepsPerRun: items, clock: 'wall', generation },
        ...(ours.peakRssBytes !== undefined && { peakRssBytes: ours.peakRssBytes }),
        rivals: lines(),
      };
    };
    const checked = 'finite; a narrow network of its kind within 1e-4 of the plain loops; rivals have as many convolutions';
    return { run, items: ours.ready.items, checked, facts, end };
  };
