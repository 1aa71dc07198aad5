// @ts-check
// The table of cases. `prepare` makes one ready and checks that it computes the right thing; only then `run` is timed, again and again.
import { openIndex, samplePairs } from './cases/data.mjs';
import { pictures } from './cases/generate.mjs';
import { growCases } from './cases/grow.mjs';
import { infoNce, infoNceBesideProducts } from './cases/infonce.mjs';
import { load, makeViews, readJpeg, readRaw } from './cases/loading.mjs';
import { opCases } from './cases/ops.mjs';
import { rest } from './cases/rest.mjs';
import { startUp } from './cases/start.mjs';
import { fromFiles, steps } from './cases/train.mjs';
import { augmentation, compare, embed, faces } from './cases/use.mjs';

/**
 * @typedef {{ threads: number, folder: string, device: 'cpu' | 'cuda', isQuick: boolean }} Setting threads: to compute with; folder: a temporary one.
 * @typedef {object} Ready
 * @property {() => Promise<unknown>} run What is timed, unless it answers with an `overriddenDuration` in ms.
 * @property {number} items How many of the unit one run makes.
 * @property {string} checked What was checked, in words.
 * @property {() => Record<string, unknown>} [facts] Asked at the end; goes into the result as it is.
 * @property {() => Promise<import('./cases/grow.mjs').Growth>} [grow] Measures points in place of `run`.
 * @property {number} [threads] Where it is not the setting's.
 * @property {() => void} [end] Ends what it has started.
 * @typedef {object} Case
 * @property {string} unit
 * @property {(setting: Setting) => Promise<Ready>} prepare
 * @property {number} [line] The rate to reach, on 2 cores with AVX-512 and bf16.
 * @property {Record<string, number>} [ratioLines] The ratio to reach to the rival of that name that it is timed beside; `best`: to the fastest of them.
 * @property {boolean} [isLean] Its memory has to stay below every rival's.
 * @property {number} [iterations] At least, 10 if not given; more while timeMs lasts.
 * @property {number} [timeMs] 3000 if not given.
 * @property {'cpu' | 'cuda'} [only] The device that it is for, if not for all.
 * @property {'avx512'} [needs] Left out where the processor has it not.
 */

/** A run is ten steps, so a few runs are many steps. */
const onGpu = { unit: 'views/s', only: /** @type {const} */ ('cuda'), iterations: 3, timeMs: 1000 };

/** Rounds of several programs, one after the other. */
const inTurns = { iterations: 11, timeMs: 0 };
/** Rounds of a tenth of a second, whose ratio CI holds. */
const inShortTurns = { iterations: 31, timeMs: 0 };

/** Steps beside PyTorch's. @param {number} toDefault @param {number} [toBest] */
const besideTorch = (toDefault, toBest) => ({
  ...{ unit: 'views/s', only: /** @type {const} */ ('cpu'), ...inTurns, isLean: true },
  ratioLines: { 'PyTorch default': toDefault, ...(toBest !== undefined && { best: toBest }) },
});
const onCpu = { unit: 'views/s', only: /** @type {const} */ ('cpu') };
const inBf16 = { needs: /** @type {const} */ ('avx512') };

// 33 views, as near to 32 as whole pairs come; 12 views; 96 views.
const resnet50 = { backbone: /** @type {const} */ ('resnet50'), size: 224, pairs: 11, steps: 1 };
const vit = { backbone: /** @type {const} */ ('vit_b_16'), size: 224, pairs: 4, steps: 1 };
const resnet18 = { backbone: /** @type {const} */ ('resnet18'), size: 64, pairs: 32, steps: 5 };
const narrow = { backbone: /** @type {const} */ ('resnet18'), size: 32, pairs: 8, width: 16, steps: 20 };

const generated = { unit: 'images/s', iterations: 5, timeMs: 0 };

/** The same name on both devices; a GPU's rivals are in bench/gpu.mjs. @type {Case['prepare']} */
const narrowSteps = (setting) =>
  setting.device === 'cuda'
    ? fromFiles('resnet18', 32, 8, 'fp32', { width: 16 })(setting)
    : steps({ ...narrow, precision: 'fp32', withTensorFlow: true })(setting);

/** @type {Record<string, Case>} */
export const cases = {
  'train/resnet18-32-narrow': { unit: 'views/s', ...inTurns, prepare: narrowSteps },
  'train/resnet50-224-bf16': { ...besideTorch(1.35, 1.1), ...inBf16, prepare: steps({ ...resnet50, precision: 'bf16' }) },
  'train/resnet50-224-fp32': { ...besideTorch(1.75, 1.28), prepare: steps({ ...resnet50, precision: 'fp32' }) },
  'train/vit_b_16-224-bf16': { ...besideTorch(1, 1), ...inBf16, prepare: steps({ ...vit, precision: 'bf16' }) },
  'train/vit_b_16-224-fp32': { ...besideTorch(1, 1), prepare: steps({ ...vit, precision: 'fp32' }) },
  'train/resnet18-64-bf16': { ...besideTorch(1.3, 1.3), ...inBf16, prepare: steps({ ...resnet18, precision: 'bf16' }) },
  'train/resnet18-64-fp32': { ...besideTorch(1.3, 1.3), prepare: steps({ ...resnet18, precision: 'fp32' }) },
  'train/resnet50-224-fp32-avx2': { ...besideTorch(1.2), prepare: steps({ ...resnet50, precision: 'fp32', isAvx2: true }) },
  'train/resnet18-64-fp32-avx2': { ...besideTorch(1.2), prepare: steps({ ...resnet18, precision: 'fp32', isAvx2: true }) },
  'train/resnet50-224-bf16-files': { ...onCpu, ...inBf16, iterations: 5, timeMs: 0, prepare: fromFiles('resnet50', 224, 11, 'bf16') },
  'train/resnet18-64-bf16-files': {
    ...{ ...onCpu, ...inBf16, line: 250, iterations: 25, timeMs: 8000 },
    prepare: fromFiles('resnet18', 64, 32, 'bf16'),
  },
  'train/resnet18-64-fp32-files': { ...onCpu, iterations: 12, prepare: fromFiles('resnet18', 64, 32, 'fp32') },
  'rest/resnet18-64': { ...onCpu, iterations: 7, timeMs: 0, prepare: rest({ backbone: 'resnet18', size: 64, pairs: 32 }) },
  // Nearly 256, 1,024 and 3,072 views, which PyTorch is given in bench/peers. The last has the batch of the paper and of SimCLR's scale; in bf16
  // its images alone want more memory than an H200 has, so they are computed in chunks.
  'train/resnet50-224-85': { ...onGpu, prepare: fromFiles('resnet50', 224, 85, 'auto') },
  'train/resnet50-224-85-fp16': { ...onGpu, prepare: fromFiles('resnet50', 224, 85, 'fp16') },
  'train/resnet50-224-341': { ...onGpu, prepare: fromFiles('resnet50', 224, 341, 'auto') },
  'train/resnet50-224-341-fp16': { ...onGpu, prepare: fromFiles('resnet50', 224, 341, 'fp16') },
  'train/resnet50-224-1024': { ...onGpu, prepare: fromFiles('resnet50', 224, 1024, 'auto', { chunks: 4 }) },
  'train/vit_b_16-224-85': { ...onGpu, prepare: fromFiles('vit_b_16', 224, 85, 'auto') },
  // Batch statistics are summed inside the convolutions, in any order.
  'train/resnet50-224-85-unordered': { ...onGpu, prepare: fromFiles('resnet50', 224, 85, 'auto', { deterministic: false }) },
  'train/resnet50-224-341-unordered': { ...onGpu, prepare: fromFiles('resnet50', 224, 341, 'auto', { deterministic: false }) },
  ...opCases,
  'infonce/1024': { unit: 'rows/s', prepare: infoNce(1024) },
  'infonce/2048': { unit: 'rows/s', prepare: infoNce(2048) },
  'infonce/4096': { unit: 'rows/s', prepare: infoNce(4096) },
  'infonce/512-products': { unit: 'rows/s', only: 'cpu', ...inShortTurns, prepare: infoNceBesideProducts(512) },
  'augment/64': { unit: 'views/s', prepare: augmentation(64) },
  'augment/224': { unit: 'views/s', prepare: augmentation(224) },
  'data/index': { unit: 'opens/s', line: 1, prepare: openIndex },
  'data/pairs': { unit: 'pairs/s', line: 1_000_000, prepare: samplePairs },
  'data/jpeg': { unit: 'pictures/s', ratioLines: { best: 0.9 }, ...inShortTurns, prepare: readJpeg },
  'data/raw': { unit: 'GB/s', line: 3, ...inTurns, prepare: readRaw },
  'data/augment': { unit: 'views/s', line: 1500, ...inTurns, prepare: makeViews },
  'data/loader': { unit: 'views/s', ratioLines: { best: 5 }, ...inTurns, prepare: load('crops') },
  'data/loader-simclr': { unit: 'views/s', line: 1500, ratioLines: { best: 5 }, ...inTurns, prepare: load('simclr') },
  'faces/64': { unit: 'images/s', prepare: faces(64) },
  'faces/224': { unit: 'images/s', prepare: faces(224) },
  'embed/resnet18-64': { unit: 'images/s', prepare: embed },
  // 150 ms, both JPEG files read and decoded.
  'compare/resnet50-224': { unit: 'compares/s', line: 6.7, prepare: compare },
  'generate/stylegan1': { ...generated, prepare: pictures('stylegan1') },
  'generate/stylegan3-t': { ...generated, prepare: pictures('stylegan3-t') },
  'generate/stylegan3-t-fp16': { ...generated, only: 'cuda', prepare: pictures('stylegan3-t', 'fp16') },
  'generate/stylegan3-r': { ...generated, prepare: pictures('stylegan3-r') },
  'generate/stylegan3-r-fp16': { ...generated, only: 'cuda', prepare: pictures('stylegan3-r', 'fp16') },
  'start/package': { unit: 'starts/s', only: 'cpu', ...inTurns, prepare: startUp },
  ...growCases,
};
