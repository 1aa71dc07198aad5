// @ts-check
// One contender of infonce/*-products: for each line on the input it does a round and answers with its times.   node bench/loss.mjs loss|products ROWS
import { createInterface } from 'node:readline';
import { chooseDevice, native } from '../dist/native.js';
import { kWidth, lossEngine } from './cases/infonce.mjs';
import { numbers } from './pictures.mjs';

const kRuns = 20; // of a round
const [way, count] = process.argv.slice(2);
const rows = Number(count);
const { library } = chooseDevice('cpu', 'fp32');
const input = numbers(rows * kWidth, 1);

/** rows x rows numbers are made, and gradients of both factors. */
async function products() {
  /** @type {import('../dist/models/layers.js').LayerRecord[]} */
  const layers = [
    { op: 'input', name: 'images', channels: kWidth, height: 1, width: 1 },
    { op: 'linear', name: 'similarities', input: 'images', out: rows, bias: false },
  ];
  const engine = await native().module.createEngine(library, { layers, batch: rows, training: true, precision: 'fp32', threads: 1 });
  await engine.initialize(1n);
  await engine.forward(input, new Float32Array());
  await engine.write('valueGradient', 'similarities', numbers(rows * rows, 2));
  return engine;
}

const engine = way === 'loss' ? await lossEngine(rows, library, 1) : await products();
if (way === 'loss') await engine.initialize(1n);
console.log(JSON.stringify({ items: kRuns * rows, sizeBytes: engine.sizeBytes }));
for await (const _ of createInterface({ input: process.stdin })) {
  const [start, before] = [performance.now(), process.cpuUsage()];
  for (let i = 0; i < kRuns; i++) {
    await engine.forward(input, new Float32Array());
    await engine.backward();
  }
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ cpuMs: (user + system) / 1000, wallMs: performance.now() - start }));
}
process.exit(0);
