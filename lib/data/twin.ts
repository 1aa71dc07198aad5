// Stand-ins of the data sets that the paper evaluates on, drawn by the renderer in the formats of the real ones, so that the whole evaluation
// runs anywhere. twin.json says what a folder holds and comes last: a folder without it is not finished.
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { checkFunction, checkInteger, checkObject, checkOneOf, checkSignal, checkText } from '../check.js';
import { invalid } from '../errors.js';
import { makeFolder } from '../folders.js';
import { native, workerCount } from '../native.js';
import type { GenerateProgress } from './generation.js';
import { checkDisk, type DiskSizes } from './makeset.js';
import { kRenderer } from './procedural.js';
import { writeWhole } from './shards.js';
import { holdsSet, otherSet, planIn, type Target, writing } from './target.js';
import { disfaTwin, kDisfaFrames, kDisfaSubjects } from './twins/disfa.js';
import { fgnetTwin, kFgnetSubjects } from './twins/fgnet.js';
import { type Easel, type Twin, type TwinKind, twinKinds } from './twins/parts.js';
import { checkFfmpeg } from './twins/video.js';
import { kWeightFrames, kWeightSubjects, weightTwin } from './twins/weight.js';

/** What a finished folder is known by, and what an unfinished one is to become. */
const kListName = 'twin.json';
const kPlanName = 'unfinished.json';
const kReadme = 'README.txt';
/** Of what a twin is made of: one more whenever its numbers change for another reason than the renderer. */
export const kTwinVersion = 2;
const kThreads = 64;
const kSubjects: Readonly<Record<TwinKind, number>> = { disfa: kDisfaSubjects, fgnet: kFgnetSubjects, weight: kWeightSubjects };
const kLeastSubjects: Readonly<Record<TwinKind, number>> = { disfa: 1, fgnet: 1, weight: 2 };
const kMostFrames: Readonly<Record<TwinKind, number>> = { disfa: kDisfaFrames, fgnet: 0, weight: 1000 };
const kReal: Readonly<Record<TwinKind, string>> = {
  disfa: 'DISFA',
  fgnet: 'FG-NET',
  weight: 'the private sets Edema-A and Edema-B',
};

/** What to draw. */
export interface TwinOptions {
  /**
   * `disfa`: 27 people filmed while they smile, 4845 frames each. `fgnet`: 1002 photographs of 82 people from 0 to 69 years. `weight`: 57 dialysis
   * patients of two hospitals, 712 times before or after dialysis, 100 frames each.
   */
  kind: TwinKind;
  /** Folder of the data set: new, empty, or already made with the same options. */
  out: string;
  /** Decides who the people are, and every picture: an integer from 0 to 2^53 - 1. @default 1 */
  seed?: number;
  /** Edge of the drawn pictures in pixels, 32 to 512; those of fgnet vary around it. @default 256 */
  size?: number;
  /**
   * Of `disfa`: frames of a video, 1 to 4845; fewer are of the same four minutes, in larger steps. Of `weight`: frames of a data point, 1 to 1000.
   * @default 4845 and 100
   */
  frames?: number;
  /** How many people, the first of all: of `disfa` 1 to 27, of `fgnet` 1 to 82, of `weight` 2 to 57, of whom two thirds are of Edema-A. @default all */
  subjects?: number;
  /** Of `disfa` only: AVI files, as the real set has them, written by the program ffmpeg, in place of a JPEG for each frame. @default false */
  video?: boolean;
  /** Threads that draw, 1 to 64; 0: one for each core. @default 0 */
  threads?: number;
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Called once, with the room on the disk, before anything is drawn. */
  onDisk?: (sizes: DiskSizes) => void;
  /** Called after each chunk of pictures. */
  onProgress?: (progress: GenerateProgress) => void;
}

/** A twin on the disk. */
export interface TwinResult {
  /** Which data set it stands in for. */
  kind: TwinKind;
  /** Folder of the twin, as an absolute path. */
  folder: string;
  /** Number of pictures. */
  pictures: number;
  /** Number of people. */
  subjects: number;
}

interface Checked {
  kind: TwinKind;
  seed: number;
  size: number;
  frames: number | undefined;
  subjects: number;
  video: boolean;
  threads: number;
}

/**
 * Draws a stand-in of a data set of the paper's evaluation, in the real one's folders and formats: DISFA (intensities as text, landmarks as
 * MATLAB files, frames), FG-NET (pictures and .pts files), or the dialysis sets (pictures and one CSV file). Its people are none of those that
 * {@link generate} begins with: their numbers start at 4,000,000,000. The same options make the same bytes, whatever the threads. A call that was stopped
 * begins again.
 *
 * @throws ComFaceError INVALID_INPUT for an option out of range, a folder with other content, or `video` without ffmpeg; IO for a disk that is full or cannot
 * be written.
 * @example
 * ```ts
 * import { pack, twin } from 'comface';
 *
 * await twin({ kind: 'fgnet', out: 'fgnet', subjects: 4, size: 64 });
 * await pack({ from: 'fgnet', out: 'ages', size: 64 });
 * ```
 */
export async function twin(options: TwinOptions): Promise<TwinResult> {
  checkObject('options', options);
  const { out: folder, signal, onDisk, onProgress } = options;
  const checked = checkOptions(options);
  checkText('out', folder);
  checkSignal(signal);
  checkFunction('onDisk', onDisk);
  checkFunction('onProgress', onProgress);
  const { kind, size, threads } = checked;
  const out = resolve(folder);
  signal?.throwIfAborted();
  native(); // without it nothing may be left behind
  const seed = BigInt(checked.seed);
  const set = planOf(checked, seed);
  const result = { kind, folder: out, pictures: set.pictures, subjects: set.subjects };
  const text = planText(checked);
  const target = { out, planName: kPlanName, plan: text, listName: kListName };
  if (await isMade(target)) return result;
  if (checked.video) checkFfmpeg();
  const easel: Easel = { out, seed, size, threads: workerCount(threads) };
  await writing(out, async () => {
    await begin(target, readme(checked));
    await checkDisk(out, set.pictures, set.pictures, (at) => set.sizeOf(easel, at), onDisk);
    for (const name of set.folders) await makeFolder(join(out, name));
    const started = performance.now();
    let done = 0;
    for await (const count of set.write(easel)) {
      signal?.throwIfAborted();
      done += count;
      const secondsLeft = ((performance.now() - started) / 1000 / done) * (set.pictures - done);
      onProgress?.({ done, total: set.pictures, secondsLeft });
    }
    signal?.throwIfAborted();
    await finish(target);
  });
  return result;
}

function checkOptions(options: TwinOptions): Checked {
  const { kind, seed = 1, size = 256, frames, subjects, video = false, threads = 0 } = options;
  checkOneOf('kind', kind, twinKinds);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('size', size, 32, 512);
  if (subjects !== undefined) checkInteger('subjects', subjects, kLeastSubjects[kind], kSubjects[kind]);
  if (frames !== undefined && kMostFrames[kind] === 0)
    throw invalid('frames', `nothing for ${kind}, which has photographs and no videos`, frames, 'Leave it out.');
  if (frames !== undefined) checkInteger('frames', frames, 1, kMostFrames[kind]);
  if (typeof video !== 'boolean') throw invalid('video', 'true or false', video, 'Pass true or false.');
  if (video && kind !== 'disfa') throw invalid('video', `false for ${kind}, which has no videos`, video, 'Leave it out.');
  checkInteger('threads', threads, 0, kThreads);
  const usual = kind === 'disfa' ? kDisfaFrames : kind === 'weight' ? kWeightFrames : undefined;
  return { kind, seed, size, frames: frames ?? usual, subjects: subjects ?? kSubjects[kind], video, threads };
}

function planOf({ kind, frames, subjects, video }: Checked, seed: bigint): Twin {
  if (kind === 'disfa') return disfaTwin(seed, subjects, frames!, video);
  if (kind === 'fgnet') return fgnetTwin(seed, subjects);
  return weightTwin(seed, subjects, frames!);
}

/** Everything that decides the bytes. */
function planText({ kind, seed, size, frames, subjects, video }: Checked): string {
  return `${JSON.stringify({ twin: kind, seed, size, frames, subjects, video, version: kTwinVersion, renderer: kRenderer })}\n`;
}

function readme({ kind, seed, size, frames, subjects, video }: Checked): string {
  const flags = [`--seed ${seed}`, `--size ${size}`, ...(frames === undefined ? [] : [`--frames ${frames}`]), `--subjects ${subjects}`];
  if (video) flags.push('--video');
  return [
    `A synthetic stand-in of ${kReal[kind]}, drawn by comface. It is not the real data set: nobody in it exists, and what a method`,
    'scores on it says nothing about how it does on real people. It has the folders, formats and counts of the real one, so that',
    'programs can be tried that read it.',
    '',
    `  comface twin ${kind} --out DIR ${flags.join(' ')}`,
    '',
  ].join('\n');
}

async function begin({ out, plan }: Target, text: string): Promise<void> {
  await makeFolder(out);
  await writeWhole(out, kPlanName, plan);
  await writeWhole(out, kReadme, text);
}

/** The plan gets the name that a finished folder is known by. */
async function finish({ out, plan }: Target): Promise<void> {
  await writeWhole(out, kListName, plan);
  await rm(join(out, kPlanName), { force: true });
}

/** Whether the folder holds this very twin; false for none, an empty one or one that was not finished, an error for anything else. */
async function isMade(target: Target): Promise<boolean> {
  if (!(await holdsSet(target))) return false;
  if (planIn({ out: target.out, planName: kListName }) === target.plan) return true;
  throw otherSet(target.out);
}
