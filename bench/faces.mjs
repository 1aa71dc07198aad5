// @ts-check
// Measures the drawn faces: what each attribute changes, where and how evenly, what else looks like it, and how far people are from each other.
// Prints the tables of docs/faces.md.   npm run faces -- [--people N] [--run FOLDER: a demo's `run`, for a network's distances] [--sheet FILE.jpg: the attributes to look at]
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { attributes } from '../dist/data/attributes.js';
import { Model } from '../dist/model.js';
import { native } from '../dist/native.js';
import { latestCheckpoint } from '../dist/train/checkpoint.js';
import { directionOf, distance, dot, kSize, mean, regions, separation, shotsOf, whereOf } from './likeness.mjs';

const kAlphas = Array.from({ length: 11 }, (_, i) => i - 5);
/** The demo learns from people 0 to 1199 and is tested with those from 1,000,000: neither meets these. */
const kStrangers = 2_000_000;
const kPhotos = 6;

/** @typedef {import('./likeness.mjs').Row} Row */

/** @param {readonly Row[]} rows @param {number} [domain] @returns {Promise<Uint8Array[]>} */
async function draw(rows, domain = 0) {
  const pixels = await native().module.drawFaces(shotsOf(rows, domain), 2);
  const bytes = kSize * kSize * 3;
  return rows.map((_, i) => pixels.subarray(i * bytes, (i + 1) * bytes));
}

/** @param {number} attribute @param {number} people */
async function measureAttribute(attribute, people) {
  const rows = Array.from({ length: people }, (_, subject) => kAlphas.map((alpha) => ({ subject, attribute, alpha }))).flat();
  const all = await draw(rows);
  const [below, above, grows] = /** @type {[number[], number[], number[]]} */ ([[], [], []]);
  /** @type {number[][]} */
  const where = [];
  /** @type {Float32Array[]} */
  const directions = [];
  for (let s = 0; s < people; s++) {
    const x = all.slice(s * kAlphas.length, (s + 1) * kAlphas.length);
    const [least, middle, most] = /** @type {[Uint8Array, Uint8Array, Uint8Array]} */ ([x[0], x[5], x[10]]);
    below.push(distance(middle, least) / 5);
    above.push(distance(middle, most) / 5);
    const away = x.map((picture) => distance(picture, least));
    for (let k = 1; k < away.length; k++) grows.push(Number(away[k]) > Number(away[k - 1]) ? 1 : 0);
    where.push(whereOf(most, least));
    directions.push(directionOf(most, least));
  }
  const places = regions.map((_, r) => mean(where.map((shares) => Number(shares[r]))));
  return { below: mean(below), above: mean(above), grows: mean(grows), where: places, directions };
}

/** @param {number} people */
async function measureAttributes(people) {
  /** @type {({ name: string } & Awaited<ReturnType<typeof measureAttribute>>)[]} */
  const found = [];
  for (const [a, name] of attributes.entries()) found.push({ name, ...(await measureAttribute(a, people)) });
  return found.map(({ directions, ...measured }) => {
    // The mean over people of the cosine of two changes.
    const others = found.map((other) => ({
      name: other.name,
      cosine: other.name === measured.name ? 0 : mean(directions.map((d, s) => dot(d, other.directions[s] ?? []))),
    }));
    others.sort((p, q) => Math.abs(q.cosine) - Math.abs(p.cosine));
    return { ...measured, others: others.slice(0, 2) };
  });
}

const percent = (/** @type {number} */ v) => String(Math.round(100 * v));

/** @param {Awaited<ReturnType<typeof measureAttributes>>} found */
function attributeTable(found) {
  const lines = [
    `| attribute | below 0 | above 0 | grows | ${regions.map(([name]) => name).join(' | ')} | most alike |`,
    `| --- | --- | --- | --- | ${regions.map(() => '---').join(' | ')} | --- |`,
  ];
  for (const { name, below, above, grows, where, others } of found) {
    const alike = others.map((other) => `${other.name} ${other.cosine.toFixed(2)}`).join(', ');
    lines.push(
      `| ${name} | ${below.toFixed(2)} | ${above.toFixed(2)} | ${percent(grows)} % | ${where.map(percent).join(' | ')} | ${alike} |`,
    );
  }
  return lines.join('\n');
}

/**
 * Every picture of a person against the person's others, and against as many of others.
 * @param {ArrayLike<number>[][]} one person x photo @param {ArrayLike<number>[][]} other the same people, another domain or the same
 * @param {(a: ArrayLike<number>, b: ArrayLike<number>) => number} far
 */
function verify(one, other, far) {
  const [within, between] = /** @type {[number[], number[]]} */ ([[], []]);
  for (let s = 0; s < one.length; s++) {
    for (let p = 0; p < kPhotos; p++) {
      for (let q = 0; q < kPhotos; q++) {
        if (p === q) continue;
        const a = /** @type {ArrayLike<number>} */ (one[s]?.[p]);
        within.push(far(a, /** @type {ArrayLike<number>} */ (other[s]?.[q])));
        const stranger = (s + 1 + ((p * kPhotos + q) % (one.length - 1))) % one.length;
        between.push(far(a, /** @type {ArrayLike<number>} */ (other[stranger]?.[q])));
      }
    }
  }
  return { within: mean(within), between: mean(between), ...separation(within, between) };
}

/** @typedef {ArrayLike<number>[][]} Album Person x photo: pixels or embeddings. */

/** Photographs of strangers in a domain. @param {number} people @param {number} domain @param {(rows: Row[], domain: number) => Promise<ArrayLike<number>[]>} look @returns {Promise<Album>} */
async function album(people, domain, look) {
  const rows = Array.from({ length: people * kPhotos }, (_, i) => ({ subject: kStrangers + Math.floor(i / kPhotos), photo: i % kPhotos }));
  const seen = await look(rows, domain);
  return Array.from({ length: people }, (_, s) => seen.slice(s * kPhotos, (s + 1) * kPhotos));
}

/** The cosine distance. @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
const angle = (a, b) => 1 - dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

/** Embeddings of faces by a network, from JPEG files as in training. @param {Model} model @param {string} folder */
const embedder = (model, folder) => async (/** @type {Row[]} */ rows, /** @type {number} */ domain) => {
  const paths = rows.map((_, i) => join(folder, `${i}.jpg`));
  await native().module.writeFaces(shotsOf(rows, domain), paths, 92, 2);
  const h = await model.embed(paths);
  return rows.map((_, i) => h.subarray(i * model.width, (i + 1) * model.width));
};

/** @param {string} name @param {number} people @param {Parameters<typeof album>[2]} look @param {Parameters<typeof verify>[2]} far */
async function peopleRows(name, people, look, far) {
  const [zero, one] = [await album(people, 0, look), await album(people, 1, look)];
  const rows = [];
  for (const [where, a, b] of /** @type {[string, Album, Album][]} */ ([
    ['domain 0', zero, zero],
    ['domain 1', one, one],
    ['across', zero, one],
  ])) {
    const { within, between, auc, dPrime } = verify(a, b, far);
    rows.push(`| ${name} | ${where} | ${within.toPrecision(3)} | ${between.toPrecision(3)} | ${dPrime.toFixed(2)} | ${auc.toFixed(3)} |`);
  }
  return rows;
}

/** @param {number} people @param {string | undefined} run */
async function peopleTable(people, run) {
  const lines = ["| distance | photographs | same person | others | d' | AUC |", '| --- | --- | --- | --- | --- | --- |'];
  lines.push(...(await peopleRows('pixels (levels)', people, draw, distance)));
  const checkpoint = run === undefined ? null : await latestCheckpoint(run);
  if (!checkpoint) return lines.join('\n');
  const folder = mkdtempSync(join(tmpdir(), 'comface-faces-'));
  try {
    for (const [name, weights] of /** @type {const} */ ([
      ['untrained network', { seed: 2 }],
      ["the demo's network", checkpoint.weights],
    ])) {
      const model = await Model.from(/** @type {Model['design']} */ (checkpoint.info.config), weights);
      lines.push(...(await peopleRows(name, people, embedder(model, folder), angle)));
      await model[Symbol.asyncDispose]();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return lines.join('\n');
}

/** One JPEG of all attributes, each of two people at alpha -5, 0 and 5: fifteen rows, three attributes side by side, in the order of the list. @param {string} file */
async function writeSheet(file) {
  const [cell, across, down] = [64, 18, 15];
  const rows = attributes.flatMap((_, attribute) =>
    [12, 1].flatMap((subject) => [-5, 0, 5].map((alpha) => ({ subject, attribute, alpha }))),
  );
  const faces = await draw(rows);
  const width = across * cell;
  const rgb = new Uint8Array(width * down * cell * 3).fill(255);
  for (const [i, face] of faces.entries()) {
    const [x, y] = [(i % across) * cell, Math.floor(i / across) * cell];
    for (let line = 0; line < cell; line++) rgb.set(face.subarray(line * cell * 3, (line + 1) * cell * 3), ((y + line) * width + x) * 3);
  }
  writeFileSync(file, await native().module.encodeJpeg(rgb, width, down * cell, 84));
}

const options = /** @type {const} */ ({ people: { type: 'string', default: '64' }, run: { type: 'string' }, sheet: { type: 'string' } });
const { values } = parseArgs({ options });
if (values.sheet !== undefined) await writeSheet(values.sheet);
else {
  console.log(`${attributeTable(await measureAttributes(Number(values.people)))}\n`);
  console.log(await peopleTable(2 * Number(values.people), values.run));
}
