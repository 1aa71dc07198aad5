// DISFA (Mavadati et al., IEEE T-AFFC 2013): frames of 27 people, the intensity of action units in each, and landmarks. Frames, labels and landmarks are
// numbered in ways of their own; here each numbering is held against the others, and what does not fit is named instead of guessed.
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ComFaceError, invalid, show } from '../errors.js';
import { Collector, type Listing } from './collector.js';
import { folderIn, isFolder, namesIn, readSmall, stemOf, suffixFault } from './files.js';
import { type FramesProgress, kSourceName, takeFrames, type Video } from './frames.js';
import { eyesOf, type Five, faultOf, fiveOfIbug } from './landmarks.js';
import { kMostMatBytes, readMatrix } from './mat.js';

/** Cheek raiser and lip corner puller: what the paper estimates. */
const kUnits = [6, 12] as const;
const kMostIntensity = 5;
const kPoints = 66;
/** Of a label file: a day of video is less. */
const kMostLabelBytes = 1 << 24;
/** Frames of a video and lines of its labels: sources say 4844 and 4845. */
const kSlack = 1;
const kSubject = /^SN\d{3}$/i;
/** The numbers of the 27 subjects. */
const kNumbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32];
/** Fewer frames have no usual place of the face. */
const kLeastForMedian = 10;
/** From where a person's eyes usually are, in distances of the eyes: about a face. */
const kMostAway = 4;
const kMostGrowth = 2;

/** What to list. */
export interface DisfaJob {
  /** With ActionUnit_Labels, Landmark_Points and Frames_LeftCamera or Videos_LeftCamera. */
  root: string;
  out: string;
  /** For the frames of videos, where there are no frames. */
  frames: string;
  signal?: AbortSignal | undefined;
  onFrames?: ((progress: FramesProgress) => void) | undefined;
}

const labelsIn = (root: string) => folderIn(root, /^action_?units?_labels?$/i);
const landmarksIn = (root: string) => folderIn(root, /^landmarks?_points?$/i);
const framesIn = (root: string) => folderIn(root, /^frames?_left_?camera$/i);
const videosIn = (root: string) => folderIn(root, /^videos?_left_?camera$/i);

export const isDisfa = (root: string): boolean => labelsIn(root) !== undefined;

/**
 * Lists the frames whose AU6 or AU12 has an intensity from 1 to 5; those of 0 are left out.
 *
 * @throws ComFaceError INVALID_INPUT where a folder is missing, and what `takeFrames` throws.
 */
export async function listDisfa({ root, out, frames, signal, onFrames }: DisfaJob): Promise<Listing> {
  const [labels, landmarks] = [labelsIn(root), landmarksIn(root)];
  if (!labels || !landmarks) throw missing(root, labels ? 'Landmark_Points' : 'ActionUnit_Labels');
  const folder = framesIn(root) ?? (await framesOf(root, labels, { folder: frames, signal, onFrames }));
  const collector = new Collector(folder, out);
  const names = new Set([labels, landmarks, folder].flatMap((each) => subjectsIn(each)));
  for (const name of [...names].sort()) {
    signal?.throwIfAborted();
    await nextTurn();
    new Subject(name, { labels, landmarks, frames: folder }, collector).list();
  }
  collector.note(`${collector.leftOut} labels of intensity 0 are left out.`);
  const absent = kNumbers.map((number) => `SN${String(number).padStart(3, '0')}`).filter((name) => !names.has(name));
  if (absent.length > 0) collector.note(`Of the ${kNumbers.length} subjects of DISFA ${absent.length} are not here: ${absent.join(', ')}.`);
  return collector.finish(root);
}

function missing(root: string, wanted: string): ComFaceError {
  const found = namesIn(root).slice(0, 10).join(', ');
  return new ComFaceError('INVALID_INPUT', `Expected a folder ${wanted} in ${root} but found ${found || 'nothing'}`, {
    hint: 'Unpack it there; docs/tasks.md shows what lies in the folder of DISFA.',
  });
}

/** Subjects have folders, whose names may be in any case. */
const subjectsIn = (folder: string): string[] => namesIn(folder).flatMap((name) => (kSubject.test(name) ? [name.toUpperCase()] : []));

/** Folder of the frames of the videos, which are taken out where they are not. */
async function framesOf(
  root: string,
  labels: string,
  { folder, ...more }: Pick<DisfaJob, 'signal' | 'onFrames'> & { folder: string },
): Promise<string> {
  const from = videosIn(root);
  if (!from && isFolder(folder) && subjectsIn(folder).length > 0) return folder;
  if (!from) throw missing(root, 'Frames_LeftCamera or Videos_LeftCamera');
  const labeled = new Set(subjectsIn(labels));
  const videos: Video[] = [];
  for (const file of namesIn(from)) {
    const name = /^LeftVideo(SN\d{3})(?:_comp)?\.avi$/i.exec(file)?.[1]?.toUpperCase();
    if (name === undefined || !labeled.has(name)) continue;
    const twin = videos.find((video) => video.name === name);
    if (twin)
      throw invalid('from', `one video of ${name} in ${from}`, `${basename(twin.file)} and ${file}`, 'Move the other one elsewhere.');
    videos.push({ name, file: join(from, file) });
  }
  if (videos.length === 0) throw missing(from, 'with frames, or videos LeftVideoSN001_comp.avi,');
  await takeFrames(videos, folder, more);
  return folder;
}

/** A person's frames, labels and landmarks. */
class Subject {
  readonly #name: string;
  readonly #folders: { labels: string; landmarks: string; frames: string };
  readonly #collector: Collector;

  constructor(name: string, folders: { labels: string; landmarks: string; frames: string }, collector: Collector) {
    this.#name = name;
    this.#folders = folders;
    this.#collector = collector;
  }

  list(): void {
    const parts = this.#parts();
    if (typeof parts !== 'string') this.#offer(parts);
    else {
      this.#collector.offer(this.#name, parts);
      this.#collector.note(`${this.#name} is not packed: ${parts}.`);
    }
  }

  /** All that is there of a person, or why nothing can be packed. */
  #parts(): Parts | string {
    const [labels, landmarks, frames] = (['labels', 'landmarks', 'frames'] as const).map((kind) => this.#folderIn(this.#folders[kind]));
    const lacking = Object.entries({ labels, landmarks, frames }).flatMap(([kind, folder]) => (folder === undefined ? [kind] : []));
    if (!labels || !landmarks || !frames) return `it has no ${lacking.join(' and no ')}`;
    const units = kUnits.flatMap((unit) => {
      const intensities = labelsOf(labels, this.#name, unit);
      if (typeof intensities === 'string') this.#collector.offer(`${this.#name}/AU${unit}`, intensities);
      return typeof intensities === 'string' ? [] : [{ unit, intensities }];
    });
    if (units.length === 0) return 'it has no labels that can be read';
    const lines = units[0]!.intensities.length;
    const pictures = this.#numbered(frames);
    const fault = unevenFault(units) ?? countFault(pictures, lines);
    if (fault !== undefined) return fault;
    const points = landmarkFiles(landmarks, this.#name, lines);
    return typeof points === 'string' ? points : { units, frames, pictures, points };
  }

  #folderIn(folder: string): string | undefined {
    const found = namesIn(folder).find((name) => name.toUpperCase() === this.#name && isFolder(join(folder, name)));
    return found === undefined ? undefined : join(folder, found);
  }

  /** Names of frames by their numbers. */
  #numbered(folder: string): Map<number, string> {
    const names = new Map<number, string>();
    for (const name of namesIn(folder)) {
      const path = `${basename(folder)}/${name}`;
      const number = /^\d{1,9}$/.test(stemOf(name)) ? Number(stemOf(name)) : undefined;
      if (name === kSourceName) continue;
      if (number === undefined) this.#collector.offer(path, suffixFault(name) ?? 'its name is not the number of a frame, as 00001.jpg');
      else if (names.has(number)) this.#collector.offer(path, `it is frame ${number}, and so is ${names.get(number)}`);
      else names.set(number, name);
    }
    return names;
  }

  #offer({ units, frames: folder, pictures, points }: Parts): void {
    const lines = units[0]!.intensities.length;
    const found = new Map<number, Five | string>();
    for (let frame = 1; frame <= lines; frame++) {
      const asked = intensitiesAt(units, frame).length;
      this.#collector.leaveOut(units.length - asked);
      if (asked > 0) found.set(frame, fiveIn(points.get(frame), frame));
    }
    markLost(found);
    let unusable = 0;
    for (const [frame, five] of found) {
      const name = pictures.get(frame);
      const path = `${basename(folder)}/${name ?? `${String(frame).padStart(5, '0')}.jpg`}`;
      const fault = name === undefined ? 'there is no such frame' : (suffixFault(name) ?? (typeof five === 'string' ? five : undefined));
      if (typeof five === 'string') unusable++;
      if (fault !== undefined) this.#collector.offer(path, fault);
      else
        for (const { attribute, alpha } of intensitiesAt(units, frame))
          this.#collector.offer(path, { subject: this.#name, attribute, alpha, landmarks: five as Five });
    }
    if (unusable > 0)
      this.#collector.note(`${this.#name}: ${unusable} of its ${found.size} frames of intensity 1 to 5 have no usable landmarks.`);
    const { most: last } = spanOf(pictures.keys());
    if (last !== lines && Math.abs(last - lines) <= kSlack) this.#collector.note(`${this.#name} has ${last} frames and ${lines} labels.`);
  }
}

interface Labels {
  unit: number;
  intensities: Uint8Array;
}

interface Parts {
  units: readonly Labels[];
  /** Folder of the frames. */
  frames: string;
  /** Their names by number, from 1. */
  pictures: ReadonlyMap<number, string>;
  /** Files of landmarks by number of the frame. */
  points: ReadonlyMap<number, string>;
}

/** What is asked for of a frame. */
const intensitiesAt = (units: readonly Labels[], frame: number): { attribute: string; alpha: number }[] =>
  units.map(({ unit, intensities }) => ({ attribute: `AU${unit}`, alpha: intensities[frame - 1]! })).filter(({ alpha }) => alpha > 0);

function unevenFault(units: readonly Labels[]): string | undefined {
  const [first, ...others] = units;
  const other = others.find(({ intensities }) => intensities.length !== first!.intensities.length);
  if (!other) return undefined;
  return `AU${first!.unit} has ${first!.intensities.length} labels and AU${other.unit} ${other.intensities.length}`;
}

function spanOf(numbers: Iterable<number>): { least: number; most: number } {
  let [least, most] = [Number.POSITIVE_INFINITY, 0];
  for (const number of numbers) [least, most] = [Math.min(least, number), Math.max(most, number)];
  return { least, most };
}

/** Frames that are numbered from 0, or taken at another rate, would be given the labels of others. */
function countFault(pictures: ReadonlyMap<number, string>, lines: number): string | undefined {
  if (pictures.size === 0) return 'there is no frame in its folder';
  const { least, most } = spanOf(pictures.keys());
  if (least === 0) return 'its frames are numbered from 0: expected them from 00001, as its labels';
  const isWhole = most === pictures.size;
  if (most <= lines + kSlack && !(isWhole && most < lines - kSlack)) return undefined;
  return `its frames go to ${most} but its labels to ${lines}: expected each frame of the video`;
}

function labelsOf(folder: string, subject: string, unit: number): Uint8Array | string {
  const pattern = new RegExp(`^${subject}_au0?${unit}\\.txt$`, 'i');
  const [name, ...others] = namesIn(folder).filter((each) => pattern.test(each));
  if (name === undefined) return `there is no ${subject}_au${unit}.txt`;
  if (others.length > 0) return `there are two files of labels: ${name} and ${others[0]}`;
  const bytes = readSmall(join(folder, name), kMostLabelBytes);
  if (typeof bytes === 'string') return `${name}: ${bytes}`;
  const labels = parseLabels(bytes.toString('latin1'));
  return typeof labels === 'string' ? `${name}: ${labels}` : labels;
}

/**
 * The intensities of an action unit, frame by frame: lines `frame,intensity`.
 *
 * @param text Lines end in LF, CR LF or CR.
 * @returns Numbers from 0 to 5, or what is wrong and in which line.
 */
export function parseLabels(text: string): Uint8Array | string {
  const lines = text
    .replace(/^\u00ef\u00bb\u00bf/, '')
    .trimEnd()
    .split(/\r\n|\n|\r/);
  if (lines.length === 1 && lines[0] === '') return 'it is empty';
  const intensities = new Uint8Array(lines.length);
  for (const [i, line] of lines.entries()) {
    const [, frame, intensity] = /^\s*(\d{1,9})\s*,\s*(\d{1,9})\s*$/.exec(line) ?? [];
    if (frame === undefined) return `line ${i + 1}: expected "frame,intensity" but found ${show(line)}`;
    // The order of lines is that of frames; the number is there to be checked.
    if (Number(frame) !== i + 1) return `line ${i + 1}: expected frame ${i + 1} but found ${Number(frame)}`;
    if (Number(intensity) > kMostIntensity)
      return `line ${i + 1}: expected an intensity from 0 to ${kMostIntensity} but found ${Number(intensity)}`;
    intensities[i] = Number(intensity);
  }
  return intensities;
}

/** Landmark files by frame, from 1, or why they cannot be told apart: SN001_0000_lm.mat is of the first frame, and so is l00001_lm.mat. */
function landmarkFiles(folder: string, subject: string, lines: number): Map<number, string> | string {
  const inner = join(folder, 'tmp_frame_lm');
  const place = existsSync(inner) ? inner : folder;
  const fromZero: [number, string][] = [];
  const fromOne: [number, string][] = [];
  for (const name of namesIn(place)) {
    const [, owner, zero, one] = /^(?:(SN\d{3})_(\d{1,9})|l(\d{1,9}))_lm\.mat$/i.exec(name) ?? [];
    if (owner !== undefined && owner.toUpperCase() !== subject) return `${name} among its landmarks is of another subject`;
    if (zero !== undefined) fromZero.push([Number(zero), name]);
    else if (one !== undefined) fromOne.push([Number(one), name]);
  }
  if (fromZero.length > 0 && fromOne.length > 0) return `its landmarks are named in two ways: ${fromZero[0]![1]} and ${fromOne[0]![1]}`;
  const [files, base] = fromZero.length > 0 ? [fromZero, 0] : [fromOne, 1];
  const byFrame = new Map<number, string>();
  for (const [number, name] of files) {
    const frame = number - base + 1;
    const other = byFrame.get(frame);
    if (other !== undefined) return `two landmark files are of one frame: ${basename(other)} and ${name}`;
    byFrame.set(frame, join(place, name));
  }
  const { least, most } = spanOf(files.map(([number]) => number));
  if (files.length === 0) return 'there is no landmark file in its folder';
  if (least < base || (least > base && most - base + 1 > lines))
    return `its landmarks are numbered from ${least}: expected them from ${base}, by the name ${files[0]![1]}`;
  return byFrame;
}

/** The five points of a frame, or why there are none. */
function fiveIn(file: string | undefined, frame: number): Five | string {
  if (file === undefined) return `it has no landmarks: there is no file of frame ${frame}`;
  const bytes = readSmall(file, kMostMatBytes);
  const matrix = typeof bytes === 'string' ? bytes : readMatrix(bytes, 'pts');
  if (typeof matrix === 'string') return `its landmarks in ${basename(file)}: ${matrix}`;
  const { rows, columns, data } = matrix;
  if (rows !== kPoints || columns !== 2)
    return `its landmarks in ${basename(file)}: expected ${kPoints} x 2 numbers but found ${rows} x ${columns}`;
  const five = fiveOfIbug(Array.from({ length: kPoints }, (_, i) => [data[i]!, data[kPoints + i]!]));
  return faultOf(five) ?? five;
}

/** A tracker that has lost a face draws a face elsewhere: far from where this person's usually is, or of another size. */
function markLost(frames: Map<number, Five | string>): void {
  const sound = [...frames].flatMap(([frame, five]) => (typeof five === 'string' ? [] : [{ frame, ...eyesOf(five) }]));
  if (sound.length < kLeastForMedian) return;
  const median = (of: (eyes: (typeof sound)[number]) => number) => sound.map(of).sort((a, b) => a - b)[sound.length >> 1]!;
  const usual = {
    x: median(({ middle }) => middle[0]),
    y: median(({ middle }) => middle[1]),
    distance: median(({ distance }) => distance),
  };
  for (const { frame, middle, distance } of sound) {
    const away = Math.hypot(middle[0] - usual.x, middle[1] - usual.y) / usual.distance;
    const growth = distance / usual.distance;
    if (away > kMostAway) frames.set(frame, `its landmarks lie ${away.toFixed(1)} distances of the eyes from where the face usually is`);
    else if (growth > kMostGrowth || growth < 1 / kMostGrowth)
      frames.set(frame, `its landmarks make a face ${growth.toFixed(2)} times as large as it usually is`);
  }
}
