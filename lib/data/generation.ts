// What every set that is made by comface has, whatever draws its pictures: the options, the plan that says what an unfinished folder is to become, and
// going on with it.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { checkFunction, checkInteger, checkOneOf, checkSignal, checkText, numbersOf, textsOf } from '../check.js';
import { ComFaceError, invalid, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';
import { type Cast, type Composition, compositions, groupCount, kSharedAttributes } from './composition.js';
import { type DiskSizes, type Draw, makeSet, type SetPlan } from './makeset.js';
import { kManifestName } from './manifest.js';
import { idIn, idOf, kMostShardBytes, kSetName, readShards, writeWhole } from './shards.js';
import { checkOwn, holdsSet, otherSet, planIn, type Target } from './target.js';

/** Says what an unfinished folder is to become, so that the same command may finish it. */
export const kPlanName = 'generate.json';
const kThreads = 64;
/** A JPEG has hardly more than its pixels. */
const kMostBytesOfPixel = 3;
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

/** What sets have in common, whatever draws their pictures. */
export interface SetOptions {
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
  /** Edge of the pictures in pixels, 32 to 512; what a generator makes is brought to it. */
  size: number;
  /** Decides every picture: an integer from 0 to 2^53 - 1. @default 1 */
  seed?: number;
  /** Of drawn faces, 0 or 1: two families of camera, light and background. @default 0 */
  domain?: number;
  /** JPEG quality, 1 to 100; 0, in shards only: pixels as they are, which are read fastest. @default 90 */
  quality?: number;
  /**
   * `full`: each subject has each attribute. `paper`: one subject in five has the first three, each other one a single one of the rest, in turn:
   * what the paper's numbers come to (35 million pictures of 250,000 identities, 43 attributes). `single`: each subject has one attribute, in turn.
   * @default 'full', with StyleGAN3 'single'
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

/** Options of a set, checked. */
export interface CheckedSet {
  size: number;
  /** Pictures in all. */
  count: number;
  attributes: readonly string[];
  alphas: readonly number[];
  seed: number;
  quality: number;
  cast: Cast;
  format: DataFormat;
  shardBytes: number;
  threads: number;
}

/**
 * Looks at the options of a set.
 *
 * @param checkAttribute Throws for a name that no picture can have.
 * @throws ComFaceError INVALID_INPUT for an option out of range.
 */
export function checkSet(options: SetOptions, checkAttribute: (name: string) => void): CheckedSet {
  const { subjects, size, firstSubject = 0, seed = 1, quality = 90, threads = 0 } = options;
  const { composition = 'full', format = 'shards', shardBytes = 2 ** 27 } = options;
  checkInteger('subjects', subjects, 1, options.format === 'files' ? 2 ** 32 : kMostSubjects);
  checkInteger('firstSubject', firstSubject, 0, 2 ** 32 - subjects);
  checkInteger('size', size, 32, 512);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkOneOf('composition', composition, compositions);
  checkOneOf('format', format, dataFormats);
  checkInteger('shardBytes', shardBytes, 1, 2 ** 31);
  checkInteger('quality', quality, format === 'shards' ? 0 : 1, 100);
  checkInteger('threads', threads, 0, kThreads);
  const attributes = checkedAttributes(options.attributes, composition, checkAttribute);
  const given = alphasOf(options.alphas);
  const alphas = format === 'shards' ? [...given].sort((a, b) => a - b) : given;
  const cast = { firstSubject, subjects, attributes: attributes.length, composition };
  const count = groupCount(cast) * alphas.length;
  if (count >= 2 ** 32) throw invalid('subjects', 'fewer than 2^32 pictures', count, 'Ask for fewer subjects, attributes or alphas.');
  const bytesOfGroup = alphas.length * kMostBytesOfPixel * size ** 2;
  if (format === 'shards' && bytesOfGroup > kMostShardBytes)
    throw invalid('alphas', `at most ${Math.floor(kMostShardBytes / kMostBytesOfPixel / size ** 2)} of ${size} pixels`, alphas.length);
  return { size, count, attributes, alphas, seed, quality, cast, format, shardBytes, threads };
}

function checkedAttributes(given: unknown, composition: Composition, check: (name: string) => void): string[] {
  const attributes = textsOf('attributes', given);
  if (attributes.length === 0) throw invalid('attributes', 'at least one name', attributes, 'Choose one or more: weight, age, smile, ...');
  for (const name of attributes) check(name);
  if (new Set(attributes).size < attributes.length)
    throw invalid('attributes', 'each name once', attributes, 'Remove what is there twice.');
  if (composition === 'paper' && attributes.length <= kSharedAttributes)
    throw invalid(
      'attributes',
      `more than ${kSharedAttributes} names for composition paper`,
      attributes,
      'Name all 43, or leave `composition` out.',
    );
  return attributes;
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

/** What is looked at before a call makes a set. */
export function checkCall({ out, signal, onDisk, onProgress }: SetOptions): void {
  checkText('out', out);
  checkSignal(signal);
  checkFunction('onDisk', onDisk);
  checkFunction('onProgress', onProgress);
}

/** Pictures of a shard at most, but for a group that has more. */
export const picturesOfShard = ({ size, quality, shardBytes }: CheckedSet): number =>
  Math.min(shardBytes / (size ** 2 * (quality === 0 ? 3 : 0.5)), kMostShardBytes / (size ** 2 * kMostBytesOfPixel));

/** A set and the folder that it is made in. */
export interface Generation {
  out: string;
  format: DataFormat;
  /** Everything that decides the set, as text: one line. */
  planText: string;
}

export const targetOf = ({ out, format, planText }: Generation): Target => ({
  out,
  planName: kPlanName,
  plan: planText,
  listName: format === 'shards' ? kSetName : kManifestName,
});

/** Makes the folder and says in it what it is to become. @param more Goes behind the plan, and is no part of it. */
export async function begin(generation: Generation, more = ''): Promise<void> {
  const { out, planText } = generation;
  try {
    await makeFolder(out);
    // Never torn: without it what is there could not be gone on with.
    if (planIn(targetOf(generation)) !== planText + more) await writeWhole(out, kPlanName, planText + more);
  } catch (cause) {
    const hint = 'Check the free space and the permissions of the folder.';
    throw new ComFaceError('IO', `Cannot write in ${out}: ${messageOf(cause)}`, { hint, cause });
  }
}

/** Nothing is left to do. */
export const end = ({ out }: Generation): Promise<void> => rm(join(out, kPlanName), { force: true });

/** Whether the folder holds this very set in shards; false for none, an empty one or one to be gone on with, an error for anything else. */
export async function isMadeOfShards(generation: Generation, set: SetPlan): Promise<boolean> {
  const { out } = generation;
  if (!(await holdsSet(targetOf(generation)))) return false;
  if (idIn(out) !== idOf(set.header)) throw otherSet(out);
  // With a shard missing it is made again.
  return readShards(out).then(
    () => true,
    () => false,
  );
}

/** Makes the shards that are not there. */
export function makeShards(generation: Generation, set: SetPlan, draw: Draw, { signal, onDisk, onProgress }: SetOptions): Promise<void> {
  const started = performance.now();
  const total = set.table.subject.length * set.header.alphas.length;
  return makeSet(generation.out, set, draw, {
    signal,
    onDisk,
    check: () => checkOwn(targetOf(generation)),
    onProgress: (done, drawn) => onProgress?.({ done, total, secondsLeft: secondsLeft(started, drawn, total - done) }),
  });
}

/** At the pace so far. */
export const secondsLeft = (started: number, drawn: number, left: number): number => ((performance.now() - started) / 1000 / drawn) * left;
