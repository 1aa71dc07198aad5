// @ts-check
// Our side of the cases train/*: training steps on given numbers. For each line on the input it does a round of steps and answers with its times and
// its peak memory. Before, it leaves its weights, input and targets, from which bench/peers begin, too.   node bench/step.mjs DESIGN: JSON, see below
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readWeights } from '../dist/train/state.js';
import { encodeSafetensors } from '../dist/weights/safetensors.js';
import { stepOn, trainer } from './engines.mjs';
import { forgetPeak, peakRss } from './machine.mjs';
import { configOf, numbers } from './pictures.mjs';

/**
 * @typedef {object} Design
 * @property {'resnet18' | 'resnet50' | 'vit_b_16'} backbone @property {number} size @property {number} width @property {number} pairs
 * @property {'fp32' | 'bf16'} precision @property {number} threads @property {number} steps Of a round.
 * @property {string} folder Where weights.safetensors, input.bin (pairs x 3, x~1 first, NCHW) and targets.bin lie.
 * @property {number} temperature @property {number} interPersonal @property {number} intraPersonal @property {number} learningRate
 */

const design = /** @type {Design} */ (JSON.parse(process.argv[2] ?? '{}'));
const { folder, size, pairs, precision, threads, steps } = design;
const config = configOf({ backbone: design.backbone, size, pairs, width: design.width });
const { engine, facts } = await trainer(config, precision, { threads, device: 'cpu' });
// Residual branches begin small, as is usual: 50 layers with norms would amplify the rounding of bf16 until losses say nothing.
const lastNorm = new RegExp(`^layer.*bn${design.backbone === 'resnet50' ? 3 : 2}\\.weight$`);
for (const { name, dims } of engine.parameters)
  if (lastNorm.test(name)) await engine.write('parameter', name, new Float32Array(dims[0] ?? 0).fill(0.2));
const input = numbers(3 * pairs * 3 * size * size, 1);
const targets = numbers(pairs, 2).map(Math.abs);
writeFileSync(join(folder, 'weights.safetensors'), encodeSafetensors(await readWeights(engine, 0)));
writeFileSync(join(folder, 'input.bin'), input);
writeFileSync(join(folder, 'targets.bin'), targets);

const train = stepOn(engine, config, input, targets);

console.log(JSON.stringify({ items: steps * 3 * pairs, losses: await train(), ...facts() }));
for await (const _ of createInterface({ input: process.stdin })) {
  forgetPeak();
  const [start, before] = [performance.now(), process.cpuUsage()];
  for (let i = 0; i < steps; i++) await train();
  const wallMs = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ cpuMs: (user + system) / 1000, wallMs, peakRssBytes: peakRss() }));
}
process.exit(0);
