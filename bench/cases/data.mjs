// @ts-check
// Cases of the data path at the paper's scale: 350,000 groups of 101 alphas, 35,350,000 pictures, without their pixels.
import { strict as assert } from 'node:assert';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { groupTable } from '../../dist/data/composition.js';
import { readData } from '../../dist/data/dataset.js';
import { PairSampler } from '../../dist/data/pairs.js';
import { shardName, tableEnd, writeSet } from '../../dist/data/shards.js';

const kGroups = 350_000;
const kAlphas = Array.from({ length: 101 }, (_, i) => Math.round(-50 + i) / 10);
const kGroupsOfShard = 53;

/** The set as `comface generate --composition paper` lists it, or fewer groups in the same shares; its shards are holes. @param {string} folder @param {number} [groups] */
export async function paperSet(folder, groups = kGroups) {
  const shards = Array.from(
    { length: Math.ceil(groups / kGroupsOfShard) },
    (_, i) => Math.min(kGroupsOfShard, groups - i * kGroupsOfShard) * kAlphas.length,
  );
  for (const [i, count] of shards.entries()) {
    const file = await open(join(folder, shardName(i)), 'w');
    await file.truncate(tableEnd(count));
    await file.close();
  }
  const attributes = Array.from({ length: 43 }, (_, i) => `attribute ${i}`);
  await writeSet(
    folder,
    { size: 224, encoding: 'jpeg', attributes, alphas: kAlphas, shards, made: { bench: true } },
    groupTable({ firstSubject: 0, subjects: Math.round((groups * 5) / 7), attributes: attributes.length, composition: 'paper' }),
  );
}

/** Plans of pairs that are at most 2.5 apart. @param {Awaited<ReturnType<typeof readData>>} data @param {number} pairs */
export function samplerOf(data, pairs) {
  const options = { seed: 1, pairs, pairsPerEpoch: undefined, target: /** @type {const} */ ('absolute'), rangeAt: () => 2.5 };
  return new PairSampler(data, data.subjects, options);
}

/** @type {import('../cases.mjs').Case['prepare']} */
export async function openIndex({ folder }) {
  await paperSet(folder);
  const data = await readData(folder);
  assert.equal(data.count, 35_350_000);
  assert.equal(data.subjects.length, 250_000);
  return { run: () => readData(folder), items: 1, checked: '35,350,000 pictures of 250,000 subjects', threads: 1 };
}

/** @type {import('../cases.mjs').Case['prepare']} */
export async function samplePairs({ folder }) {
  await paperSet(folder);
  const data = await readData(folder);
  const pairs = 1024;
  const sampler = samplerOf(data, pairs);
  let step = 0;
  const plan = sampler.plan(1);
  for (let i = 0; i < pairs; i++) {
    const [x, y] = [/** @type {number} */ (plan.x[i]), /** @type {number} */ (plan.y[i])];
    assert.equal(Math.floor(x / 101), Math.floor(y / 101));
    assert(Math.abs(Math.abs(x - y) / 10 - /** @type {number} */ (plan.target[i])) < 1e-5 && Math.abs(x - y) <= 25 && x !== y);
  }
  const runs = 20;
  const run = async () => {
    for (let i = 0; i < runs; i++) sampler.plan(++step);
  };
  return { run, items: runs * pairs, checked: 'one group, a change of at most 2.5, as the target says', threads: 1 };
}
