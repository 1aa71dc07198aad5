// Makes a data folder of drawn faces: subject x attribute x alpha, a JPEG each, the manifest last (a folder without one is not finished).
// Every picture has its own photo number: pose, light, camera and background vary apart from alpha, so that they cannot give it away.
import { createHash } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { checkFunction, checkInteger, checkObject, checkSignal, checkText, numbersOf, textsOf } from '../check.js';
import { ComFaceError, invalid } from '../errors.js';
import { makeFolder } from '../folders.js';
import { type NativeShots, native, threadCount } from '../native.js';
import { attributeIndex } from './attributes.js';
import {
  kManifestName,
  type Manifest,
  type ManifestHeader,
  type ManifestRow,
  manifestText,
  readManifest,
  writeManifest,
} from './manifest.js';

/** Pixels between two looks at the signal: about a second of drawing. */
const kChunkPixels = 256 * 64 * 64;
/** Says what an unfinished folder is to become, so that the same command may finish it. */
const kPlanName = 'generate.json';
const kThreads = 64;
const kMaxAlpha = 5;

/** How far a generation is. */
export interface GenerateProgress {
  /** Pictures written, and in all. */
  done: number;
  total: number;
  secondsLeft: number;
}

/** What to draw. */
export interface GenerateOptions {
  /** Folder of the data set: new, empty, or already made with the same options. */
  out: string;
  /** Number of people, at least 1. */
  subjects: number;
  /** Number of the first. @default 0 */
  firstSubject?: number;
  /** Names of the attributes to change, one at a time. */
  attributes: readonly string[];
  /** Values in [-5, 5], or how many evenly spaced ones (2 or more). */
  alphas: number | readonly number[];
  /** Edge of the pictures in pixels, 32 to 512. */
  size: number;
  /** Integer from 0 to 2^53 - 1. @default 1 */
  seed?: number;
  /** 0 or 1: two families of camera, light and background. @default 0 */
  domain?: number;
  /** Of JPEG, 1 to 100. @default 90 */
  quality?: number;
  /** 1 to 64; 0: one for each core. @default 0 */
  threads?: number;
  signal?: AbortSignal;
  /** Called after each chunk of pictures. */
  onProgress?: (progress: GenerateProgress) => void;
}

/**
 * Draws a data set. A folder that holds it already is read and returned.
 *
 * @throws ComFaceError INVALID_INPUT for an option out of range or a folder with other content, IO. Aborted: rejects with `signal.reason`
 * and leaves the pictures made so far; the same call again finishes the set.
 */
export async function generate(options: GenerateOptions): Promise<Manifest> {
  checkObject('options', options);
  const { out: folder, signal, onProgress } = options;
  const set = plan(options);
  checkText('out', folder);
  checkSignal(signal);
  checkFunction('onProgress', onProgress);
  const out = resolve(folder);
  signal?.throwIfAborted();
  native(); // without it nothing may be left behind
  if (await isMade(out, set)) return readManifest(out);
  await begin(out, set);
  const started = performance.now();
  for (let done = 0; done < set.header.count; ) {
    signal?.throwIfAborted();
    const chunk = Math.max(8, Math.floor(kChunkPixels / set.header.size ** 2));
    const count = Math.min(chunk, set.header.count - done);
    await write(out, set, done, count);
    done += count;
    const secondsLeft = ((performance.now() - started) / 1000 / done) * (set.header.count - done);
    onProgress?.({ done, total: set.header.count, secondsLeft });
  }
  signal?.throwIfAborted();
  await writeManifest(out, set.header, rowsOf(set));
  await rm(join(out, kPlanName), { force: true });
  return readManifest(out);
}

interface Plan {
  header: ManifestHeader & { quality: number };
  seed: bigint;
  firstSubject: number;
  alphas: readonly number[];
  threads: number;
}

function plan(options: GenerateOptions): Plan {
  const { subjects, size, firstSubject = 0, seed = 1, domain = 0, quality = 90, threads = 0 } = options;
  checkInteger('subjects', subjects, 1, 2 ** 32);
  checkInteger('firstSubject', firstSubject, 0, 2 ** 32 - subjects);
  checkInteger('size', size, 32, 512);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('domain', domain, 0, 1);
  checkInteger('quality', quality, 1, 100);
  checkInteger('threads', threads, 0, kThreads);
  const attributes = textsOf('attributes', options.attributes);
  if (attributes.length === 0) throw invalid('attributes', 'at least one name', attributes, 'Choose one or more: weight, age, smile, ...');
  for (const name of attributes) attributeIndex(name);
  if (new Set(attributes).size < attributes.length)
    throw invalid('attributes', 'each name once', attributes, 'Remove what is there twice.');
  const alphas = alphasOf(options.alphas);
  const count = subjects * attributes.length * alphas.length;
  if (count >= 2 ** 32) throw invalid('subjects', 'fewer than 2^32 pictures', count, 'Ask for fewer subjects, attributes or alphas.');
  const header = { size, count, seed: String(seed), domain, attributes, quality };
  return { header, seed: BigInt(seed), firstSubject, alphas, threads };
}

function alphasOf(given: number | readonly number[]): readonly number[] {
  if (typeof given === 'number') {
    const alphas = given;
    checkInteger('alphas', alphas, 2, 10_001);
    // Rounded, so that the manifest says -4.9 and not -4.8999999999999995.
    return Array.from({ length: alphas }, (_, i) => Math.round((-kMaxAlpha + (2 * kMaxAlpha * i) / (alphas - 1)) * 1e6) / 1e6);
  }
  const alphas = numbersOf('alphas', given, -kMaxAlpha, kMaxAlpha);
  if (alphas.length === 0 || new Set(alphas).size < alphas.length)
    throw invalid('alphas', 'different numbers from -5 to 5', alphas, 'Name each alpha once, and at least one.');
  return alphas;
}

/** Picture `index` of the set: alpha changes fastest, then the attribute, then the subject. */
function pictureAt({ header, firstSubject, alphas }: Plan, index: number): ManifestRow & { photo: number } {
  const ofSubject = header.attributes.length * alphas.length;
  const photo = index % ofSubject;
  const subject = firstSubject + Math.floor(index / ofSubject);
  const place = photo % alphas.length;
  const attribute = header.attributes[Math.floor(photo / alphas.length)]!;
  const file = `${String(subject).padStart(6, '0')}/${attribute}/${String(place).padStart(2, '0')}.jpg`;
  return { file, subject, attribute, alpha: alphas[place]!, photo };
}

function* rowsOf(set: Plan): Generator<ManifestRow> {
  for (let index = 0; index < set.header.count; index++) yield pictureAt(set, index);
}

async function write(out: string, set: Plan, from: number, count: number): Promise<void> {
  const pictures = Array.from({ length: count }, (_, i) => pictureAt(set, from + i));
  const paths = pictures.map(({ file }) => join(out, file));
  try {
    for (const folder of new Set(paths.map(dirname))) await makeFolder(folder);
  } catch (cause) {
    const hint = 'Check the free space and the permissions of the folder.';
    throw new ComFaceError('IO', `Cannot make a folder in ${out}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      hint,
      cause,
    });
  }
  const shots: NativeShots = {
    seed: set.seed,
    subject: Uint32Array.from(pictures, ({ subject }) => subject),
    photo: Uint32Array.from(pictures, ({ photo }) => photo),
    attribute: Int32Array.from(pictures, ({ attribute }) => attributeIndex(attribute)),
    alpha: Float32Array.from(pictures, ({ alpha }) => alpha),
    domain: set.header.domain,
    size: set.header.size,
  };
  await native().module.writeFaces(shots, paths, set.header.quality, Math.min(kThreads, threadCount(set.threads)));
}

/** Everything that decides the set, as text. */
function planText({ header, seed, firstSubject, alphas }: Plan): string {
  return `${JSON.stringify({ ...header, seed: String(seed), firstSubject, alphas })}\n`;
}

async function begin(out: string, set: Plan): Promise<void> {
  try {
    await makeFolder(out);
    await writeFile(join(out, kPlanName), planText(set));
  } catch (cause) {
    const hint = 'Check the free space and the permissions of the folder.';
    throw new ComFaceError('IO', `Cannot write in ${out}: ${cause instanceof Error ? cause.message : String(cause)}`, { hint, cause });
  }
}

/** Whether the folder holds this very set; false for none or an empty one, an error for anything else. */
async function isMade(out: string, set: Plan): Promise<boolean> {
  const entries = await readdir(out).catch((cause: NodeJS.ErrnoException): string[] => {
    if (cause.code === 'ENOENT') return [];
    throw new ComFaceError('IO', `Cannot use ${out}: ${cause.message}`, { hint: 'Name a folder that is new or empty.', cause });
  });
  if (entries.length === 0) return false;
  const unfinished = await readFile(join(out, kPlanName), 'utf8').catch(() => undefined);
  if (unfinished === planText(set)) return false; // drawn again, to the same bytes
  const hint = 'Name a folder that is new or empty, or remove this one.';
  if (!entries.includes(kManifestName)) {
    throw new ComFaceError(
      'INVALID_INPUT',
      `Expected a new or empty folder for \`out\` but ${out} holds ${entries.length} entries and no ${kManifestName}`,
      { hint },
    );
  }
  const wanted = createHash('sha256');
  for (const text of manifestText(set.header, rowsOf(set))) wanted.update(text);
  if ((await readManifest(out)).hash === wanted.digest('hex')) return true;
  throw new ComFaceError('INVALID_INPUT', `Expected a new or empty folder for \`out\` but ${out} holds a data set of other options`, {
    hint,
  });
}
