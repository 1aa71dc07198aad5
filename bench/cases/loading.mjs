// @ts-check
// Cases of the loader alone, on one thread and from the page cache, each beside those that could do the same work. Rates are for each second of a processor.
import { strict as assert } from 'node:assert';
import { mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from '../../dist/data/procedural.js';
import { shardName } from '../../dist/data/shards.js';
import { among, Contender, kPython, loaderProgram, peer } from '../contenders.mjs';

const kEdge = 224;
const kPlans = 4;
const kSubjects = 24;
/** Mean difference of normalized numbers, of which a byte's step is 0.0175. All resize with a triangle filter, antialiased where it makes smaller; Pillow and
 * torchvision round to bytes after it (0.005 here), and libvips enlarges on a grid that is half a pixel of the view aside (0.043). */
const mostDifference = (/** @type {string} */ name) => (name.startsWith('sharp') ? 0.06 : 0.01);

/** A set of shards, as words that bench/loader.cc takes. @param {string} folder @param {'jpeg' | 'rgb'} encoding */
async function shardSet(folder, encoding) {
  const out = join(folder, encoding);
  const quality = encoding === 'rgb' ? { quality: 0 } : {};
  await generate({
    out,
    format: 'shards',
    subjects: kSubjects,
    attributes: ['smile'],
    alphas: 11,
    size: kEdge,
    shardBytes: 2 ** 20,
    ...quality,
  });
  const { id, shards } = JSON.parse(readFileSync(join(out, 'set.json'), 'utf8'));
  return [out, String(kEdge), encoding, String(id), shards.join(',')];
}

/** The pictures of a set as files. @param {readonly string[]} set @returns {Buffer[]} */
function picturesOf([folder = '', , , , counts = '']) {
  return counts.split(',').flatMap((count, shard) => {
    const bytes = readFileSync(join(folder, shardName(shard)));
    const offsets = Array.from({ length: Number(count) + 1 }, (_, i) => bytes.readUInt32LE(64 + 8 * i));
    return offsets.slice(1).map((end, i) => bytes.subarray(offsets[i], end));
  });
}

/** A file of a tar. @param {string} name @param {Buffer} bytes */
function tarEntry(name, bytes) {
  const head = Buffer.alloc(512);
  head.write(name, 0);
  head.write('0000644\0', 100);
  head.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124);
  head.write('        0', 148);
  head.write('ustar\x0000', 257);
  head.write(
    `${head
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  );
  return Buffer.concat([head, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

/** Leaves the pictures for the rivals, as files and as a tar of pairs, beside the crops that ours has left. @param {readonly string[]} set @param {string} out */
function giveToRivals(set, out) {
  const pictures = picturesOf(set);
  for (const [i, bytes] of pictures.entries()) writeFileSync(join(out, `${i}.jpg`), bytes);
  const tar = openSync(join(out, 'pairs.tar'), 'w');
  for (const [i, [x, y, ...crops]] of JSON.parse(readFileSync(join(out, 'crops.json'), 'utf8')).entries()) {
    const key = String(i).padStart(6, '0');
    writeSync(tar, tarEntry(`${key}.x.jpg`, pictures[x] ?? Buffer.alloc(0)));
    writeSync(tar, tarEntry(`${key}.y.jpg`, pictures[y] ?? Buffer.alloc(0)));
    writeSync(tar, tarEntry(`${key}.crops`, Buffer.from(JSON.stringify(crops))));
  }
  writeSync(tar, Buffer.alloc(1024));
}

/** @param {Contender} ours @param {readonly Contender[]} rivals @param {(rival: Contender) => void} check @param {string} checked */
async function ready(ours, rivals, check, checked) {
  const { run, rivals: lines, end } = await among(ours, rivals, check);
  return { run, items: ours.ready.items, checked, threads: 1, facts: () => ({ rivals: lines() }), end };
}

/** @type {import('../cases.mjs').Case['prepare']} */
export async function readJpeg({ folder }) {
  const [program, set] = [loaderProgram(), await shardSet(folder, 'jpeg')];
  const ours = new Contender('reader', program, ['reader', ...set]);
  const same = (/** @type {Contender} */ rival) => assert.equal(rival.ready.checked, ours.ready.checked, 'other pixels');
  return ready(ours, [new Contender('bare libjpeg-turbo', program, ['turbojpeg', ...set])], same, 'the same pixels as tjDecompress2');
}

/** @type {import('../cases.mjs').Case['prepare']} */
export async function readRaw({ folder }) {
  const [program, set] = [loaderProgram(), await shardSet(folder, 'rgb')];
  const ours = new Contender('reader', program, ['reader', ...set]);
  const made = await ready(ours, [], () => {}, "all bytes, each picture's against its CRC-32C");
  assert.equal(made.items, kSubjects * 11 * 3 * kEdge ** 2);
  return { ...made, items: made.items / 1e9 };
}

/** @type {import('../cases.mjs').Case['prepare']} */
export async function makeViews({ folder }) {
  const [program, set] = [loaderProgram(), await shardSet(folder, 'jpeg')];
  const ours = new Contender('views', program, ['augment', ...set, String(kPlans), 'simclr']);
  const filled = await new Contender('batches', program, ['fill', ...set, String(kPlans), 'simclr']).begin();
  filled.end();
  const made = await ready(ours, [], () => {}, 'the same bytes as in batches');
  assert.equal(ours.ready.checked, filled.ready.checked, 'other views than in batches');
  return made;
}

/** @param {'crops' | 'simclr'} what simclr: with color, by torchvision's own draws; sharp has no such thing. @returns {import('../cases.mjs').Case['prepare']} */
export const load =
  (what) =>
  async ({ folder }) => {
    const [program, set] = [loaderProgram(), await shardSet(folder, 'jpeg')];
    const out = join(folder, 'out');
    mkdirSync(out);
    // The crops are those of the same seed, with or without color.
    (await new Contender('crops', program, ['fill', ...set, String(kPlans), 'crops', out]).begin()).end();
    giveToRivals(set, out);
    const python = (/** @type {string} */ name, /** @type {string} */ way) =>
      new Contender(name, kPython, [peer('loading.py'), way, out, what]);
    const sharp = (/** @type {string} */ way) => new Contender(`sharp, ${way}`, process.execPath, [peer('sharp.mjs'), way, out]);
    const rivals = [
      python('DataLoader, Pillow', 'pillow'),
      python('DataLoader, Pillow, torchvision on tensors', 'tensor'),
      python('WebDataset, Pillow', 'webdataset'),
      ...(what === 'crops' ? [sharp('files'), sharp('pixels')] : []),
    ];
    const near = (/** @type {Contender} */ { name, ready: { difference = Number.NaN } }) =>
      assert(difference < mostDifference(name), `${name} makes other views: ${difference}`);
    const ours = new Contender('loader', program, ['fill', ...set, String(kPlans), what]);
    return ready(ours, rivals, near, "each rival's crops within 0.01 of ours, sharp's within 0.06");
  };
