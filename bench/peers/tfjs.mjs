// @ts-check
// TensorFlow.js's training steps of ResNet-18 on the numbers that bench/step.mjs has left: for each line on the input one round, answered with its times.
// node bench/peers/tfjs.mjs DESIGN (JSON, as bench/step.mjs has it). @tensorflow/tfjs-node, else @tensorflow/tfjs (plain JavaScript), from COMFACE_TFJS or
// the project. fp32; channels last, as its kernels want them. A round is one step: in plain JavaScript it takes long.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { decodeSafetensors } from '../../dist/weights/safetensors.js';
import { forgetPeak, peakRss } from '../machine.mjs';
import { tensorFlowFolder } from './places.mjs';

const require = createRequire(join(tensorFlowFolder(), 'package.json'));

/** @returns {[string, any]} */
function load() {
  for (const name of ['@tensorflow/tfjs-node', '@tensorflow/tfjs']) {
    try {
      return [name, require(name)];
    } catch (error) {
      if (!/Cannot find (module|package)/.test(String(error))) throw error;
    }
  }
  console.error("Cannot find package '@tensorflow/tfjs-node' or '@tensorflow/tfjs' (COMFACE_TFJS names a folder that has it)");
  process.exit(1);
}

// It greets on the output, where answers go.
const log = console.log;
console.log = console.warn = console.error;
const [name, tf] = load();
await tf.ready();

const design = /** @type {import('../step.mjs').Design} */ (JSON.parse(process.argv[2] ?? '{}'));
const { folder, size, pairs } = design;
const floats = (/** @type {string} */ file) => {
  const bytes = readFileSync(join(folder, file));
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
};
const kEpsilon = 1e-5;

/** Parameters as variables, convolutions and linear layers as tf wants them: kernel height, width, in, out; in, out. */
const weights = new Map();
for (const [key, { shape, data }] of decodeSafetensors(readFileSync(join(folder, 'weights.safetensors')), 'weights.safetensors').tensors) {
  if (!(data instanceof Float32Array) || /running_/.test(key)) continue;
  const read = tf.tensor(data, shape);
  weights.set(
    key,
    tf.variable(shape.length === 4 ? read.transpose([2, 3, 1, 0]) : shape.length === 2 ? read.transpose() : read, true, key),
  );
}

/** @param {any} x @param {string} key @param {number} stride */
function conv(x, key, stride) {
  const kernel = weights.get(`${key}.weight`);
  const pad = kernel.shape[0] >> 1;
  return tf.conv2d(x, kernel, stride, pad);
}

/** By the batch's own statistics, as in training. @param {any} x @param {string} key */
function norm(x, key) {
  const { mean, variance } = tf.moments(x, [0, 1, 2]);
  return tf.batchNorm(x, mean, variance, weights.get(`${key}.bias`), weights.get(`${key}.weight`), kEpsilon);
}

/** @param {any} x */
function backbone(x) {
  let y = tf.maxPool(tf.relu(norm(conv(x, 'conv1', 2), 'bn1')), 3, 2, 1);
  for (let stage = 1; stage <= 4; stage++) {
    for (let block = 0; block < 2; block++) {
      const key = `layer${stage}.${block}`;
      const stride = stage > 1 && block === 0 ? 2 : 1;
      const branch = norm(conv(tf.relu(norm(conv(y, `${key}.conv1`, stride), `${key}.bn1`)), `${key}.conv2`, 1), `${key}.bn2`);
      const skip = weights.has(`${key}.downsample.0.weight`) ? norm(conv(y, `${key}.downsample.0`, stride), `${key}.downsample.1`) : y;
      y = tf.relu(tf.add(branch, skip));
    }
  }
  return tf.mean(y, [1, 2]);
}

/** @param {any} x @param {string} key */
const linear = (x, key) => tf.add(tf.matMul(x, weights.get(`${key}.weight`)), weights.get(`${key}.bias`));

const rows = 2 * pairs;
const positives = tf.oneHot(
  Array.from({ length: rows }, (_, i) => (i + pairs) % rows),
  rows,
);
const self = tf.mul(tf.eye(rows), -1e9);

/** @param {any} h @param {any} targets */
function lossesOf(h, targets) {
  const g = linear(tf.relu(linear(h.slice([0, 0], [rows, -1]), 'projection.0')), 'projection.2');
  const z = tf.div(g, tf.norm(g, 2, 1, true));
  const logits = tf.add(tf.div(tf.matMul(z, z, false, true), design.temperature), self);
  const inter = tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), positives), 1)));
  const change = linear(tf.relu(tf.sub(h.slice([rows, 0]), h.slice([0, 0], [pairs, -1]))), 'change');
  return [inter, tf.mean(tf.square(tf.sub(change.squeeze([1]), targets)))];
}

const images = tf.tensor(floats('input.bin'), [3 * pairs, 3, size, size]).transpose([0, 2, 3, 1]);
const targets = tf.tensor1d(floats('targets.bin'));
const optimizer = tf.train.adam(design.learningRate, 0.9, 0.999, 1e-8);

/** @returns {number[]} */
function step() {
  /** @type {number[]} */
  let losses = [];
  const loss = optimizer.minimize(
    () => {
      const [inter, intra] = lossesOf(backbone(images), targets);
      losses = [inter.dataSync()[0], intra.dataSync()[0]];
      return tf.add(tf.mul(inter, design.interPersonal), tf.mul(intra, design.intraPersonal));
    },
    true,
    [...weights.values()],
  );
  loss.dataSync();
  loss.dispose();
  return losses;
}

const losses = step();
log(
  JSON.stringify({
    items: 3 * pairs,
    losses,
    how: `${name} ${tf.version.tfjs ?? tf.version_core}, backend ${tf.getBackend()}`,
  }),
);
for await (const _ of createInterface({ input: process.stdin })) {
  forgetPeak();
  const [start, before] = [performance.now(), process.cpuUsage()];
  step();
  const wallMs = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  log(JSON.stringify({ cpuMs: (user + system) / 1000, wallMs, peakRssBytes: peakRss() }));
}
