// @ts-check
// What sharp does with the pictures and crops of bench/cases/loading.mjs, called from JavaScript: for each line on the input one round, answered with its
// times. node bench/peers/sharp.mjs files|pixels FOLDER
// files: each view from its file, cut and resized in one pipeline; pixels: each picture decoded once, views cut from its pixels. One thread of libvips.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { kPairs, kShown } from '../contenders.mjs';

// Optional: it is no dependency of the package.
const name = 'sharp';
const { default: sharp } = await import(name);
sharp.concurrency(1);
sharp.cache(false); // a training run does not see a picture again soon

const kMean = [0.485, 0.456, 0.406];
const kDeviation = [0.229, 0.224, 0.225];
const [way, folder = ''] = process.argv.slice(2);
/** @typedef {[number, number, number, number, number]} Crop left, top, width, height, isFlipped */
/** @type {[number, number, Crop, Crop, Crop][]} */
const pairs = JSON.parse(readFileSync(`${folder}/crops.json`, 'utf8'));
const bytes = readFileSync(`${folder}/views.bin`);
const expected = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const viewCount = expected.length / (3 * kShown);
const edge = Math.round(Math.sqrt(viewCount / 3));
const images = new Float32Array(3 * kPairs * viewCount);

/** @param {number} sample @returns {Promise<() => any>} What makes pipelines of the picture. */
async function open(sample) {
  const path = `${folder}/${sample}.jpg`;
  if (way === 'files') return () => sharp(path);
  const { data, info } = await sharp(path).raw().toBuffer({ resolveWithObject: true });
  return () => sharp(data, { raw: { width: info.width, height: info.height, channels: info.channels } });
}

/** @param {() => any} picture @param {Crop} crop @param {number} at */
async function view(picture, [left, top, width, height, isFlipped], at) {
  const pipeline = picture().extract({ left, top, width, height }).resize(edge, edge, { fit: 'fill', kernel: 'linear' });
  /** @type {Buffer} */
  const rgb = await (isFlipped ? pipeline.flop() : pipeline).raw().toBuffer();
  const plane = edge * edge;
  for (let c = 0; c < 3; c++) {
    const scale = 1 / (255 * Number(kDeviation[c]));
    const offset = -Number(kMean[c]) / Number(kDeviation[c]);
    const to = at + c * plane;
    for (let i = 0, from = c; i < plane; i++, from += 3) images[to + i] = /** @type {number} */ (rgb[from]) * scale + offset;
  }
}

/** The views of so many pairs, one pair's after the other's. @param {number} first @param {number} count */
async function batch(first, count) {
  for (let i = 0; i < count; i++) {
    const [x, y, ...crops] = /** @type {typeof pairs[0]} */ (pairs[first + i]);
    const [one, other] = [await open(x), await open(y)];
    for (const [v, crop] of crops.entries()) await view(v < 2 ? one : other, crop, (3 * i + v) * viewCount);
  }
}

await batch(0, kShown);
const difference = expected.reduce((sum, value, i) => sum + Math.abs(value - /** @type {number} */ (images[i])), 0) / expected.length;
console.log(JSON.stringify({ items: 3 * pairs.length, difference }));
for await (const _ of createInterface({ input: process.stdin })) {
  const [start, before] = [performance.now(), process.cpuUsage()];
  for (let first = 0; first < pairs.length; first += kPairs) await batch(first, kPairs);
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ cpuMs: (user + system) / 1000, wallMs: performance.now() - start }));
}
