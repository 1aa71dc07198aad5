// @ts-check
// Our side of the cases generate/*: pictures out of w, read back to JavaScript. For each line on the input it makes a round of them and answers with its
// times and its peak memory.   node bench/generator.mjs DESIGN: JSON, see below
import { createInterface } from 'node:readline';
import { chooseDevice } from '../dist/native.js';
import { gemmRate, generatorEngine, workOf } from './generators.mjs';
import { forgetPeak, peakRss } from './machine.mjs';

/**
 * @typedef {object} Design
 * @property {import('./generators.mjs').Which} which @property {number} size @property {number} most Channels of a layer at most, as in bench/generators.mjs.
 * @property {number} batch Pictures made at once. @property {number} rounds Batches of a round. @property {number} threads @property {'cpu' | 'cuda'} device
 * @property {'fp32' | 'fp16'} precision
 */

const design = /** @type {Design} */ (JSON.parse(process.argv[2] ?? '{}'));
const { which, size, most, batch, rounds, threads, device, precision } = design;
const chosen = chooseDevice(device, precision);
const gemm = await gemmRate(chosen, threads, size < 1024 ? 64 : undefined);
const { engine, picture } = await generatorEngine({ which, size, most }, batch, chosen, threads);
const first = await picture();
if (first.length !== batch * 3 * size * size || !first.every(Number.isFinite))
  throw new Error(`expected ${batch} pictures of finite numbers`);
const { flop, pairs } = workOf({ which, size, most });
console.log(
  JSON.stringify({
    items: rounds * batch,
    gemm,
    flop,
    pairs,
    shape: [batch, 3, size, size],
    sizeBytes: engine.sizeBytes,
    engine: engine.description,
  }),
);
for await (const _ of createInterface({ input: process.stdin })) {
  forgetPeak();
  const [start, before] = [performance.now(), process.cpuUsage()];
  for (let i = 0; i < rounds; i++) await picture();
  const wallMs = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ cpuMs: (user + system) / 1000, wallMs, peakRssBytes: peakRss() }));
}
process.exit(0);
