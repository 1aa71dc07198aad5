// Makes a data folder of drawn faces: subject x attribute x alpha, a picture each, in shards or as files; what lists them comes last (a folder
// without it is not finished).
// Every picture has its own photo number: pose, light, camera and background vary apart from alpha, so that they cannot give it away.
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { checkFunction, checkInteger, checkObject, checkOneOf, checkSignal, checkText, numbersOf, textsOf } from '../check.js';
import { ComFaceError, invalid, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';
import { type NativeShots, native, workerCount } from '../native.js';
import { attributeIndex } from './attributes.js';
import { type Cast, type Composition, compositions, groupAt, groupCount, groupTable, kSharedAttributes } from './composition.js';
import { type DataSet, readData } from './dataset.js';
import { checkDisk, type DiskSizes, makeSet, type SetPlan } from './makeset.js';
import {
  kManifestName,
  type Manifest,
  type ManifestHeader,
  type ManifestRow,
  manifestText,
  readManifest,
  writeManifest,
} from './manifest.js';
import { idIn, idOf, kMostShardBytes, kSetName, readShards, writeWhole } from './shards.js';
import { checkOwn, holdsSet, otherSet, planIn, type Target } from './target.js';

/** Pixels between two looks at the signal: about a second of drawing. */
const kChunkPixels = 256 * 64 * 64;
/** Says what an unfinished folder is to become, so that the same command may finish it. */
const kPlanName = 'generate.json';
const kThreads = 64;
/** Of the pictures that native/faces draws: one more whenever any of them changes, so that a set is not finished by another. */
export const kRenderer = 2;
/** A JPEG has hardly more than its pixels. */
const kMostBytesOfPixel = 3;
/** What file systems give to files. */
const kBlockBytes = 4096;
/** JavaScript's sets hold no more. */
const kMostSubjects = 2 ** 24;
const kMaxAlpha = 5;

/** How far a generation is. */
export interface GenerateProgress {
  /** Pictures written. */
  done: number;
  /** Pictures in all. */
  total: number;
  /** Seconds left at the pace so far. */
  secondsLeft: number;
}

/** How pictures lie in a folder. */
export const dataFormats = ['shards', 'files'] as const;
/** How pictures lie in a folder: thousands a file with a `set.json`, or a JPEG each with a `manifest.jsonl` (docs/data.md). */
export type DataFormat = (typeof dataFormats)[number];

/** What to draw. */
export interface GenerateOptions {
  /** Folder of the data set: new, empty, or already made with the same options. */
  out: string;
  /** Number of people, at least 1; those of a seed are always the same. */
  subjects: number;
  /** Number of the first person: sets that share no number share nobody. @default 0 */
  firstSubject?: number;
  /** Names of the attributes to change, one at a time; the exported list `attributes` has all 43. */
  attributes: readonly string[];
  /** How far an attribute is changed: values in [-5, 5], or how many evenly spaced ones (2 to 10,001). */
  alphas: number | readonly number[];
  /** Edge of the pictures in pixels, 32 to 512. */
  size: number;
  /** Decides every picture: an integer from 0 to 2^53 - 1. @default 1 */
  seed?: number;
  /** 0 or 1: two families of camera, light and background. @default 0 */
  domain?: number;
  /** JPEG quality, 1 to 100; 0, in shards only: pixels as they are, which are read fastest. @default 90 */
  quality?: number;
  /**
   * `full`: each subject has each attribute. `paper`: one subject in five has the first three, each other one a single one of the rest, in turn:
   * what the paper's numbers come to (35 million pictures of 250,000 identities, 43 attributes). @default 'full'
   */
  composition?: Composition;
  /** `shards`: thousands of pictures a file, read fastest. `files`: a JPEG each and a manifest.jsonl. @default 'shards' */
  format?: DataFormat;
  /** Bytes of a shard, about: it holds whole groups. A shard that was not finished when the call was killed is drawn anew. @default 2^27 */
  shardBytes?: number;
  /** Threads that draw, 1 to 64; 0: one for each core. @default 0 */
  threads?: number;
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Called once, with the room on the disk, before anything is drawn. */
  onDisk?: (sizes: DiskSizes) => void;
  /** Called after each chunk of pictures. */
  onProgress?: (progress: GenerateProgress) => void;
}

/**
 * Draws a data set: subjects x attributes x alphas pictures of people who do not exist, each with a pose, light, camera and background of its own.
 * The same options make the same bytes, whatever the threads. A folder that holds the set already is read and returned; one that was not finished is
 * gone on with.
 *
 * @returns the set; with `format: 'files'` it also has the {@link Manifest}, and with it the file of each picture.
 * @throws ComFaceError INVALID_INPUT for an option out of range or a folder with other content; IO for a disk that is full or cannot be written.
 * @example
 * ```ts
 * import { generate } from 'comface';
 *
 * const data = await generate({ out: 'faces', subjects: 20, attributes: ['smile', 'weight'], alphas: 5, size: 64 });
 * console.log(data.count); // 20 x 2 x 5 = 200 pictures
 * ```
 */
export async function generate(options: GenerateOptions & { format: 'files' }): Promise<DataSet & Manifest>;
export async function generate(options: GenerateOptions): Promise<DataSet>;
export async function generate(options: GenerateOptions): Promise<DataSet> {
  checkObject('options', options);
  const { out: folder, signal, onDisk, onProgress } = options;
  const set = plan(options);
  checkText('out', folder);
  checkSignal(signal);
  checkFunction('onDisk', onDisk);
  checkFunction('onProgress', onProgress);
  const out = resolve(folder);
  signal?.throwIfAborted();
  native(); // without it nothing may be left behind
  if (await isMade(out, set)) return readData(out);
  await begin(out, set);
  const started = performance.now();
  const total = set.header.count;
  const tell = (done: number, drawn: number) => {
    const secondsLeft = ((performance.now() - started) / 1000 / drawn) * (total - done);
    onProgress?.({ done, total, secondsLeft });
  };
  const draw = (from: number, count: number) => encode(set, from, count);
  if (set.format === 'shards')
    await makeSet(out, setPlan(set), draw, { signal, onDisk, check: () => checkOwn(targetOf(out, set)), onProgress: tell });
  else {
    const sizeOf = async (at: number) => kBlockBytes * Math.ceil((await draw(at, 1)).bytes.length / kBlockBytes);
    await checkDisk(out, total, total, sizeOf, onDisk);
    await writeFiles(out, set, signal, tell);
  }
  await rm(join(out, kPlanName), { force: true });
  return readData(out);
}

const chunkOf = (set: Plan): number => Math.max(8, Math.floor(kChunkPixels / set.header.size ** 2));

async function writeFiles(
  out: string,
  set: Plan,
  signal: AbortSignal | undefined,
  tell: (done: number, drawn: number) => void,
): Promise<void> {
  for (let done = 0; done < set.header.count; ) {
    signal?.throwIfAborted();
    const count = Math.min(chunkOf(set), set.header.count - done);
    await write(out, set, done, count);
    done += count;
    tell(done, done);
  }
  signal?.throwIfAborted();
  await writeManifest(out, set.header, rowsOf(set));
}

function setPlan(set: Plan): SetPlan {
  const { size, attributes, quality, seed, domain } = set.header;
  return {
    header: {
      ...{ size, encoding: quality === 0 ? 'rgb' : 'jpeg', attributes, alphas: set.alphas },
      made: {
        seed,
        domain,
        quality,
        firstSubject: set.cast.firstSubject,
        subjects: set.cast.subjects,
        composition: set.cast.composition,
        shardBytes: set.shardBytes,
        renderer: kRenderer,
      },
    },
    table: groupTable(set.cast),
    picturesOfShard: Math.min(set.shardBytes / (size ** 2 * (quality === 0 ? 3 : 0.5)), kMostShardBytes / (size ** 2 * kMostBytesOfPixel)),
    chunk: chunkOf(set),
  };
}

const encode = (set: Plan, from: number, count: number) =>
  native().module.encodeFaces(shotsOf(set, from, count), set.header.quality, workerCount(set.threads));

interface Plan {
  header: ManifestHeader & { quality: number };
  seed: bigint;
  cast: Cast;
  alphas: readonly number[];
  format: DataFormat;
  shardBytes: number;
  threads: number;
}

function plan(options: GenerateOptions): Plan {
  const { subjects, size, firstSubject = 0, seed = 1, domain = 0, quality = 90, threads = 0 } = options;
  const { composition = 'full', format = 'shards', shardBytes = 2 ** 27 } = options;
  checkInteger('subjects', subjects, 1, options.format === 'files' ? 2 ** 32 : kMostSubjects);
  checkInteger('firstSubject', firstSubject, 0, 2 ** 32 - subjects);
  checkInteger('size', size, 32, 512);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('domain', domain, 0, 1);
  checkOneOf('composition', composition, compositions);
  checkOneOf('format', format, dataFormats);
  checkInteger('shardBytes', shardBytes, 1, 2 ** 31);
  checkInteger('quality', quality, format === 'shards' ? 0 : 1, 100);
  checkInteger('threads', threads, 0, kThreads);
  const attributes = textsOf('attributes', options.attributes);
  if (attributes.length === 0) throw invalid('attributes', 'at least one name', attributes, 'Choose one or more: weight, age, smile, ...');
  for (const name of attributes) attributeIndex(name);
  if (new Set(attributes).size < attributes.length)
    throw invalid('attributes', 'each name once', attributes, 'Remove what is there twice.');
  const given = alphasOf(options.alphas);
  const alphas = format === 'shards' ? [...given].sort((a, b) => a - b) : given;
  if (composition === 'paper' && attributes.length <= kSharedAttributes)
    throw invalid(
      'attributes',
      `more than ${kSharedAttributes} names for composition paper`,
      attributes,
      'Name all 43, or leave `composition` out.',
    );
  const cast = { firstSubject, subjects, attributes: attributes.length, composition };
  const count = groupCount(cast) * alphas.length;
  if (count >= 2 ** 32) throw invalid('subjects', 'fewer than 2^32 pictures', count, 'Ask for fewer subjects, attributes or alphas.');
  const bytesOfGroup = alphas.length * kMostBytesOfPixel * size ** 2;
  if (format === 'shards' && bytesOfGroup > kMostShardBytes)
    throw invalid('alphas', `at most ${Math.floor(kMostShardBytes / kMostBytesOfPixel / size ** 2)} of ${size} pixels`, alphas.length);
  const header = { size, count, seed: String(seed), domain, attributes, quality };
  return { header, seed: BigInt(seed), cast, alphas, format, shardBytes, threads };
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
function pictureAt(set: Plan, index: number): ManifestRow & { photo: number } {
  const { header, alphas } = set;
  const place = index % alphas.length;
  const group = groupAt(set.cast, Math.floor(index / alphas.length));
  const attribute = header.attributes[group.attribute]!;
  const file = `${String(group.subject).padStart(6, '0')}/${attribute}/${String(place).padStart(2, '0')}.jpg`;
  return { file, subject: group.subject, attribute, alpha: alphas[place]!, photo: group.turn * alphas.length + place };
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
    throw new ComFaceError('IO', `Cannot make a folder in ${out}: ${messageOf(cause)}`, {
      hint,
      cause,
    });
  }
  await native().module.writeFaces(shotsOf(set, from, count), paths, set.header.quality, workerCount(set.threads));
}

function shotsOf(set: Plan, from: number, count: number): NativeShots {
  const pictures = Array.from({ length: count }, (_, i) => pictureAt(set, from + i));
  return {
    seed: set.seed,
    subject: Uint32Array.from(pictures, ({ subject }) => subject),
    photo: Uint32Array.from(pictures, ({ photo }) => photo),
    attribute: Int32Array.from(pictures, ({ attribute }) => attributeIndex(attribute)),
    alpha: Float32Array.from(pictures, ({ alpha }) => alpha),
    domain: set.header.domain,
    size: set.header.size,
  };
}

/** Everything that decides the set, as text. */
function planText({ header, cast, alphas, format, shardBytes }: Plan): string {
  return `${JSON.stringify({ ...header, cast, alphas, format, shardBytes, renderer: kRenderer })}\n`;
}

async function begin(out: string, set: Plan): Promise<void> {
  try {
    await makeFolder(out);
    // Never torn: without it what is there could not be gone on with.
    if (planIn(targetOf(out, set)) !== planText(set)) await writeWhole(out, kPlanName, planText(set));
  } catch (cause) {
    const hint = 'Check the free space and the permissions of the folder.';
    throw new ComFaceError('IO', `Cannot write in ${out}: ${messageOf(cause)}`, { hint, cause });
  }
}

/** Whether the folder holds this very set; false for none, an empty one or one to be gone on with, an error for anything else. */
async function isMade(out: string, set: Plan): Promise<boolean> {
  if (!(await holdsSet(targetOf(out, set)))) return false;
  if (set.format === 'shards') {
    // With a shard missing it is drawn again.
    if (idIn(out) === idOf(setPlan(set).header)) {
      return readShards(out).then(
        () => true,
        () => false,
      );
    }
  } else {
    const wanted = createHash('sha256');
    for (const text of manifestText(set.header, rowsOf(set))) wanted.update(text);
    if ((await readManifest(out)).hash === wanted.digest('hex')) return true;
  }
  throw otherSet(out);
}

const targetOf = (out: string, set: Plan): Target => ({
  out,
  planName: kPlanName,
  plan: planText(set),
  listName: set.format === 'shards' ? kSetName : kManifestName,
});
