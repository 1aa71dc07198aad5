// @ts-check
// Cases of what the package does besides training: views and faces for JavaScript, embeddings, a comparison.
import { strict as assert } from 'node:assert';
import { Model } from '../../dist/model.js';
import { chooseDevice, native } from '../../dist/native.js';
import { readState } from '../../dist/train/state.js';
import { assertClose, trainer } from '../engines.mjs';
import { drawSet, planner, shots } from '../pictures.mjs';

/** Reads, decodes and augments with one thread. @param {number} size @returns {import('../cases.mjs').Case['prepare']} */
export function augmentation(size) {
  return async ({ folder }) => {
    const manifest = await drawSet(folder, size);
    const pairs = size > 100 ? 8 : 32;
    const { config, planAt } = planner(manifest, { backbone: 'resnet18', pairs });
    const open = (/** @type {number} */ threads) => native().module.openFiles(manifest.files, size, threads, size);
    const source = open(1);
    const two = open(2);
    const [a, b] = [await source.fill(planAt(1), config.augment), await two.fill(planAt(1), config.augment)];
    two.dispose();
    assert.equal(a.images.length, 3 * pairs * 3 * size * size);
    assert(a.broken.length === 0 && a.images.every(Number.isFinite));
    assert(Buffer.from(a.images.buffer).equals(Buffer.from(b.images.buffer)), 'one and two threads differ');
    let step = 1;
    const run = () => source.fill(planAt(++step), config.augment);
    return { run, items: 3 * pairs, checked: 'size, finite, the same bytes with two threads', threads: 1 };
  };
}

/** @param {number} size @returns {import('../cases.mjs').Case['prepare']} */
export function faces(size) {
  return async () => {
    const list = shots(size > 100 ? 4 : 16, size);
    const count = list.subject.length;
    const [a, b] = [await native().module.drawFaces(list, 1), await native().module.drawFaces(list, 2)];
    assert.equal(a.length, count * size * size * 3);
    assert(new Set(a).size > 50, 'a picture of few colors');
    assert(Buffer.from(a.buffer).equals(Buffer.from(b.buffer)), 'one and two threads differ');
    return {
      run: () => native().module.drawFaces(list, 1),
      items: count,
      checked: 'size, colors, the same bytes with two threads',
      threads: 1,
    };
  };
}

/** @type {import('../cases.mjs').Case['prepare']} */
export async function embed({ threads, folder, device }) {
  const manifest = await drawSet(folder, 64);
  const { config } = planner(manifest, { backbone: 'resnet18', pairs: 32 });
  const model = await Model.from(config, { seed: 1 }, { threads, device });
  const files = manifest.files.slice(0, 64);
  const [all, one] = [await model.embed(files), await model.embed(files.slice(5, 6))];
  assert.equal(all.length, 64 * model.width);
  assertClose([...one], [...all.subarray(5 * model.width, 6 * model.width)], 0.02);
  return {
    run: () => model.embed(files),
    items: 64,
    checked: 'a picture alone gives what it gives among 64',
    facts: () => ({ precision: chooseDevice(device, 'auto').precision }),
  };
}

/** @type {import('../cases.mjs').Case['prepare']} */
export async function compare(setting) {
  const { threads, folder, device } = setting;
  const manifest = await drawSet(folder, 224);
  const { config } = planner(manifest, { backbone: 'resnet50', pairs: 2 });
  const { engine } = await trainer(config, 'auto', setting);
  const { weights } = await readState(engine, 0);
  engine.dispose();
  const model = await Model.from(config, weights, { threads, device, batch: 2 });
  const [x, y] = /** @type {[string, string]} */ ([manifest.files[0], manifest.files[10]]);
  const [same, other] = [await model.compare(x, x), await model.compare(x, y)];
  assertClose([same.change], [Number(weights.get('change.bias')?.data[0])], 1e-6);
  const full = await Model.from(config, weights, { threads, device, precision: 'fp32', batch: 2 });
  const [h, expected] = [await model.embed([x, y]), await full.embed([x, y])];
  full.dispose();
  const norm = (/** @type {Float32Array} */ v) => Math.hypot(...v);
  const distance = norm(h.map((value, i) => value - /** @type {number} */ (expected[i]))) / norm(expected);
  assert(distance < 0.02, `embeddings ${distance} from those in fp32`);
  const head = /** @type {Float32Array} */ (weights.get('change.weight')?.data);
  const sum = head.reduce((all, w, i) => all + w * Math.max(0, Number(h[model.width + i]) - Number(h[i])), same.change);
  assertClose([other.change], [sum], 1e-4);
  return {
    run: () => model.compare(x, y),
    items: 1,
    checked: 'embeddings within 2 % of those in fp32, their change by the formula, a picture against itself gives the bias',
    facts: () => ({ precision: chooseDevice(device, 'auto').precision }),
  };
}
