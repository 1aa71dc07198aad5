// @ts-check
// A process of figure F3: damages pictures, sends them through the readers and checks that each is decoded or reported. A crash ends it,
// and only it. test/figures/pictures holds the good ones: 32 x 32, made with TurboJPEG and Pillow, one for each kind of JPEG.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from '../../dist/data/procedural.js';
import { ComFaceError } from '../../dist/errors.js';
import { native } from '../../dist/native.js';
import { train } from '../../dist/train/train.js';
import { Draft, Random } from './mutate.mjs';

/** @typedef {{ files: number, decoded: number, reported: number, kinds: string[], failures: string[], worstMs: number, trained: number }} Outcome */

const [first, stride, count] = /** @type {[number, number, number]} */ (process.argv.slice(2).map(Number));
const kSeed = 31;
const kBatch = 64;
const kEdge = 32;
const kMs = 1000;
const { module } = native();
const folder = mkdtempSync(join(tmpdir(), 'comface-f3-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
/** @type {Outcome} */
const outcome = { files: 0, decoded: 0, reported: 0, kinds: [], failures: [], worstMs: 0, trained: 0 };
const kinds = new Set();

/** @param {string} what @param {string} why */
function fail(what, why) {
  if (outcome.failures.length < 5) outcome.failures.push(`${what}: ${why}`);
}

// -- damage

const corpus = join(import.meta.dirname, 'pictures');
const pictures = readdirSync(corpus)
  .sort()
  .map((name) => readFileSync(join(corpus, name)));
const good = join(folder, 'good.jpg');
writeFileSync(good, readFileSync(join(corpus, '420.jpg')));
const markers = [
  0xd8, 0xd9, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc9, 0xca, 0xcc, 0xd0, 0xd7, 0xda, 0xdb, 0xdc, 0xdd, 0xe0, 0xe1, 0xee, 0xfe, 0x00, 0x01, 0xff,
];
const tokens = [
  ...markers.map((marker) => Buffer.of(0xff, marker)),
  ...[
    '0000',
    '0001',
    '0002',
    'ffff',
    '00',
    'ff',
    '11',
    '14',
    '41',
    '44',
    '0c',
    '01',
    '03',
    '04',
    '3f',
    '7fffffff',
    'ffdd00040001',
    'ffda0008010100003f00',
  ].map((hex) => Buffer.from(hex, 'hex')),
  Buffer.concat([Buffer.from('ffe1ffff', 'hex'), Buffer.from('Exif\0\0MM\0*\0\0\0\x08\xff\xff', 'latin1')]),
  Buffer.concat([Buffer.from('ffee000e', 'hex'), Buffer.from('Adobe\0d\0\0\0\0\x02', 'latin1')]),
];
const draft = new Draft();
const random = new Random();

/** A picture with damage, the same for the same index. @param {number} index */
function damaged(index) {
  random.reset(kSeed, index);
  draft.start(random.pick(pictures));
  const kind = random.below(8);
  if (kind < 3) damageFrame(draft.bytes);
  if (kind === 3 || kind === 4) damageEnd(draft.bytes);
  else if (kind > 1) draft.mutate(random, pictures, tokens);
  if (kind === 7) draft.replace(random.below(draft.bytes.length), draft.bytes.length, Buffer.alloc(0)); // cut short
  return Buffer.from(draft.bytes);
}

/** Flips a few bits behind the headers, which no decoder need see. @param {Buffer} bytes */
function damageEnd(bytes) {
  const from = Math.floor(bytes.length * 0.7);
  for (let i = random.below(3); i >= 0; i--) {
    const at = from + random.below(bytes.length - from);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random.below(8)), at);
  }
}

/** Changes what the frame header says: precision, size, components, their sampling and tables, kind of coding. @param {Buffer} bytes */
function damageFrame(bytes) {
  const at = bytes.findIndex((byte, i) => byte === 0xff && [0xc0, 0xc1, 0xc2, 0xc9, 0xca].includes(bytes[i + 1] ?? 0)) + 1;
  if (at < 1 || at + 18 > bytes.length) return;
  const size = random.pick([0, 1, 7, 8, 31, 33, 64, 4095, 8000, 65500, 65535]);
  switch (random.below(6)) {
    case 0:
      return void bytes.writeUInt8(random.pick([0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc9, 0xca, 0xcb]), at);
    case 1:
      return void bytes.writeUInt8(random.pick([0, 2, 12, 16, 255]), at + 3);
    case 2:
      return void bytes.writeUInt16BE(size, at + 4 + 2 * random.below(2));
    case 3:
      bytes.writeUInt16BE(size, at + 4);
      return void bytes.writeUInt16BE(random.oneIn(2) ? size : random.below(65536), at + 6);
    case 4:
      return void bytes.writeUInt8(random.pick([0, 1, 2, 3, 4, 10, 255]), at + 8);
    default:
      return void bytes.writeUInt8(
        random.pick([0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x44, 0x31, 0x00, 0xff]),
        at + 10 + 3 * random.below(3),
      );
  }
}

// -- the reader of a batch, against the decoder alone

const plain = {
  ...{ cropAreaMin: 1, cropAreaMax: 1, cropAspectMax: 1, flipProbability: 0, jitterProbability: 0 },
  ...{ brightness: 0, contrast: 0, saturation: 0, hue: 0, grayscaleProbability: 0, mean: [0, 0, 0], deviation: [1, 1, 1] },
};

/**
 * What the reader makes of these files: the pixels of each, or its reason.
 * @param {readonly string[]} paths
 * @returns {Promise<(Float32Array | string)[]>}
 */
async function read(paths) {
  const source = module.openFiles([...paths, good], kEdge, 2, kEdge);
  try {
    const pairs = paths.length;
    const x = Uint32Array.from({ length: 2 * pairs }, (_, i) => Math.min(i, pairs));
    const { images, broken } = await source.fill({ seed: 1n, step: 1, pairs, x, y: x, target: new Float32Array(2 * pairs) }, plain);
    const reasons = new Map(broken.map(({ sample, reason }) => [sample, reason]));
    assert.equal(reasons.size, broken.length, 'each broken sample once');
    const area = 3 * kEdge * kEdge;
    return paths.map((_, i) => reasons.get(i) ?? images.subarray(i * area, (i + 1) * area));
  } finally {
    source.dispose();
  }
}

/** @param {Uint8Array} bytes */
async function decode(bytes) {
  const start = performance.now();
  try {
    return { picture: await module.decodeJpeg(bytes), ms: performance.now() - start };
  } catch (error) {
    return { error, ms: performance.now() - start };
  }
}

/** @param {string} what @param {string} path @param {Uint8Array} bytes @param {Float32Array | string} read What the reader said. */
async function judge(what, path, bytes, read) {
  let { picture, error, ms } = await decode(bytes);
  for (let i = 0; i < 3 && ms > kMs; i++) ms = Math.min(ms, (await decode(bytes)).ms);
  outcome.files++;
  outcome.worstMs = Math.max(outcome.worstMs, ms);
  if (ms > kMs) fail(what, `took ${ms.toFixed(0)} ms`);
  if (error !== undefined && !(error instanceof ComFaceError && error.code === 'CORRUPT_FILE')) fail(what, `not our error: ${error}`);
  const isGood = picture !== undefined && picture.width === kEdge && picture.height === kEdge;
  if (typeof read === 'string') {
    outcome.reported++;
    kinds.add(read.replace(path, '').replace(/\d+|0x\w+/g, '0'));
    if (!read.includes(path)) fail(what, `a reason without its file: ${read}`);
    if (isGood) fail(what, `reported and sound: ${read}`);
    return;
  }
  outcome.decoded++;
  if (picture === undefined || !isGood)
    return fail(what, `neither decoded nor reported: ${error ?? `${picture?.width} x ${picture?.height}`}`);
  const area = kEdge * kEdge;
  const differs = read.some(
    (value, i) => Math.abs(value - /** @type {number} */ (picture.rgb[(i % area) * 3 + Math.floor(i / area)]) / 255) > 1e-3,
  );
  if (differs) fail(what, 'decoded to other pixels');
}

// -- what is no picture at all

/** Paths that a reader has to refuse without waiting for anything. @returns {string[]} */
function oddPaths() {
  const at = (/** @type {string} */ name) => join(folder, name);
  writeFileSync(at('empty.jpg'), '');
  mkdirSync(at('folder.jpg'));
  execFileSync('mkfifo', [at('pipe.jpg')]);
  symlinkSync('loop.jpg', at('loop.jpg'));
  symlinkSync('/dev/zero', at('endless.jpg'));
  symlinkSync('/dev/null', at('nothing.jpg'));
  symlinkSync('nowhere', at('dangling.jpg'));
  writeFileSync(at('sparse.jpg'), '');
  truncateSync(at('sparse.jpg'), 300_000_000);
  writeFileSync(at('face.png.jpg'), readFileSync(join(corpus, 'face.png')));
  const unreadable = process.getuid?.() === 0 ? [] : [at('unreadable.jpg')];
  for (const path of unreadable) writeFileSync(path, readFileSync(good), { mode: 0 });
  const names = ['empty', 'folder', 'pipe', 'loop', 'endless', 'nothing', 'dangling', 'sparse', 'face.png', 'missing'].map((name) =>
    at(`${name}.jpg`),
  );
  return [...names, ...unreadable, join(good, 'x.jpg'), at(`${'x'.repeat(300)}.jpg`)];
}

async function judgeOdd() {
  const paths = oddPaths();
  for (const [i, found] of (await read(paths)).entries()) {
    outcome.files++;
    if (typeof found === 'string' && found.includes(/** @type {string} */ (paths[i]))) outcome.reported++;
    else fail(/** @type {string} */ (paths[i]), `neither decoded nor reported: ${found}`);
  }
}

// -- a whole training over a few damaged pictures

/** @param {number} round */
async function judgeTraining(round) {
  const data = join(folder, 'data');
  rmSync(data, { recursive: true, force: true });
  const { files } = await generate({ out: data, format: 'files', subjects: 12, attributes: ['smile'], alphas: 5, size: kEdge, threads: 1 });
  const broken = new Set();
  for (let i = 0; i < 6; i++) {
    const [path, bytes] = [/** @type {string} */ (files[(7 * i + round) % files.length]), damaged(1_000_000_000 + 6 * round + i)];
    writeFileSync(path, bytes);
    if (typeof (await read([path]))[0] === 'string') broken.add(path);
  }
  const reported = new Set();
  const out = join(folder, 'run');
  rmSync(out, { recursive: true, force: true });
  const small = { backbone: 'resnet18', width: 16, size: 32, pairs: 4, epochs: 1, projection: { hidden: 16, out: 16 }, threads: 1 };
  const options = { ...small, data, out, device: 'cpu', precision: 'fp32', validation: 0, brokenShare: 1 };
  for await (const event of train(/** @type {any} */ (options))) if (event.type === 'broken') reported.add(event.file);
  outcome.trained++;
  if ([...broken].some((path) => !reported.has(path)) || reported.size !== broken.size)
    fail(`training ${round}`, `${broken.size} broken pictures, ${reported.size} reported`);
}

// -- the round

process.send?.(0);
if (first === 0) await judgeOdd();
/** @type {number[]} */
let indices = [];
for (let index = first, batch = first; index < count && outcome.failures.length < 5; index += stride) {
  indices.push(index);
  if (indices.length < kBatch && index + stride < count) continue;
  const files = indices.map((i) => ({
    what: `file ${i} of seed ${kSeed}`,
    path: join(folder, `${i % (kBatch * stride)}.jpg`),
    bytes: damaged(i),
  }));
  for (const { path, bytes } of files) writeFileSync(path, bytes);
  const found = await read(files.map(({ path }) => path));
  for (const [i, { what, path, bytes }] of files.entries()) await judge(what, path, bytes, /** @type {Float32Array | string} */ (found[i]));
  indices = [];
  process.send?.(index + stride);
  if (++batch % 20 === 0) await judgeTraining(batch);
}
if (outcome.trained === 0) await judgeTraining(first);
outcome.kinds = [...kinds];
process.send?.(outcome);
process.disconnect?.();
