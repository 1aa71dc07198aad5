// @ts-check
// The manifest of a checkpoint.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { latestCheckpoint, saveCheckpoint } from '../../../dist/train/checkpoint.js';
import { bytesOf, f32, mutated, nest, sha256, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */

const kStep = 'step-00000003';
/** @type {Map<string, Uint8Array>} Files of a good checkpoint. */
const checkpointFiles = new Map();
/** @type {import('../../../dist/train/files.js').FileSystem} */
const memoryDisk = {
  mkdir: async () => undefined,
  writeFile: async (path, bytes) => void checkpointFiles.set(nameOf(path), bytes),
  syncDirectory: async () => undefined,
  rename: async () => undefined,
  readdir: async () => (checkpointFiles.size < 3 ? [] : [kStep]),
  async readFile(path) {
    const bytes = checkpointFiles.get(nameOf(path));
    if (!bytes) throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
    return bytes;
  },
  rm: async () => undefined,
};
const nameOf = (/** @type {string} */ path) => path.slice(path.lastIndexOf('/') + 1);
await saveCheckpoint(
  '/run',
  {
    step: 3,
    weights: new Map([['w', f32([1, 2])]]),
    optimizer: new Map(),
    info: { config: { backbone: 'resnet18', augment: { mean: [0, 0, 0] } }, seed: 1, dataHash: sha256('') },
  },
  { keep: 1, files: memoryDisk },
);
const goodManifest = Buffer.from(/** @type {Uint8Array} */ (checkpointFiles.get('manifest.json')));
/** With the hash that belongs to it, when it is a JSON object at all. @param {Buffer} bytes */
function rehashed(bytes) {
  try {
    const { sha256: _, ...body } = JSON.parse(bytes.toString());
    return bytesOf(JSON.stringify({ ...body, sha256: sha256(JSON.stringify(body)) }));
  } catch {
    return bytes;
  }
}
const { sha256: _, ...goodBody } = JSON.parse(goodManifest.toString());
const manifestSeeds = [goodManifest, bytesOf(JSON.stringify(goodBody))];
const manifestTokens = tokensOf(
  '"format":',
  '"comface-checkpoint"',
  '"version":1',
  '"step":',
  '"info":{',
  '"files":{',
  '"sha256":"',
  '"bytes":',
  'weights.safetensors',
);
/** @param {object} change */
const changedManifest = (change) => () => rehashed(bytesOf(JSON.stringify({ ...goodBody, ...change })));
const deepInfo = (/** @type {number} */ levels) => () => bytesOf(`{"info":${nest('[', levels)}${nest(']', levels)},"sha256":""}`);

/** @type {Parser} */
export const checkpoint = {
  input(random) {
    const bytes = mutated(random, manifestSeeds, manifestTokens);
    return random.oneIn(4) ? bytes : rehashed(bytes);
  },
  async parse(input) {
    checkpointFiles.set('manifest.json', input);
    let warnings = 0;
    const state = await latestCheckpoint('/run', { files: memoryDisk, onWarning: () => warnings++ });
    assert.equal(warnings, state === null ? 1 : 0, 'a checkpoint is taken, or passed over with a warning');
    return state;
  },
  check({ step, weights, info }) {
    assert.equal(step, 3);
    assert.deepEqual([...weights.keys()], ['w']);
    assert.equal(typeof info, 'object');
  },
  bombs: [
    ['12,000 levels', deepInfo(12_000)],
    ['5,000 levels', deepInfo(5_000)],
    [
      '2^53 - 1 bytes',
      changedManifest({ files: { ...goodBody.files, 'weights.safetensors': { bytes: 2 ** 53 - 1, sha256: sha256('') } } }),
    ],
    ['a step of 1e308', changedManifest({ step: 1e308 })],
  ],
  long: [
    ['100,000 levels', deepInfo(100_000)],
    ['a hash of a megabyte', () => bytesOf(`{"sha256":"${'0'.repeat(1_000_000)}"}`)],
    ['a megabyte and more of spaces', () => Buffer.alloc(1_100_000, 0x20)],
    ['objects', () => rehashed(bytesOf(JSON.stringify({ ...goodBody, info: { list: Array.from({ length: 64_000 }, () => ({})) } })))],
  ],
};
