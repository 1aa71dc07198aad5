// What a data folder holds: counts, alphas, room on the disk, damage, a sheet to look at. It sees pictures through the same reader as training does.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { checkFunction, checkObject, checkOneOf, checkSignal } from '../check.js';
import { type NativeSource, workerCount } from '../native.js';
import { type DataSet, readData } from './dataset.js';
import type { Groups } from './groups.js';
import { loadSharp } from './picture.js';
import { kPlain, plainView, planOf } from './views.js';

/** Pictures looked at without `verify: 'all'`. */
const kSome = 1000;
const kBatch = 256;
const kBins = 10;
const kLeastView = 8;
const kSheetRows = 8;
const kSheetColumns = 8;
const kSheetEdge = 112;

/** What to look at. */
export interface InspectOptions {
  /** Which pictures to read and decode. `some`: about a thousand, evenly spaced. `all`: each of them. @default 'some' */
  verify?: 'some' | 'all';
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Called after each few pictures with how many were read, of how many, and the seconds left. */
  onProgress?: (progress: { done: number; total: number; secondsLeft: number }) => void;
}

/** Pictures of one attribute. */
export interface AttributeInspection {
  /** Name of the attribute. */
  name: string;
  /** Number of pictures. */
  pictures: number;
  /** Number of subjects. */
  subjects: number;
  /** Of alpha: `counts[i]` pictures from `edges[i]` to `edges[i + 1]`, the last edge included. */
  histogram: {
    /** Values of alpha, one more than there are counts. */
    edges: number[];
    /** Number of pictures between one edge and the next. */
    counts: number[];
  };
}

/** What a data folder holds. */
export interface Inspection {
  /** Folder of the set, as an absolute path. */
  folder: string;
  /** Number of pictures. */
  pictures: number;
  /** Number of subjects. */
  subjects: number;
  /** Edge of a picture in pixels. */
  size: number;
  /** Those of each attribute. */
  attributes: AttributeInspection[];
  /** Size of all files in the folder that may be looked at. */
  diskBytes: number;
  /** Number of pictures that were read and decoded. */
  checked: number;
  /** Those of them that cannot be used, each with its reason, which begins with its place. */
  damaged: {
    /** Number of the picture. */
    picture: number;
    /** What is wrong with it, and where it is. */
    reason: string;
  }[];
}

/**
 * Looks through a data folder: counts, how alpha is spread, and which pictures are damaged.
 *
 * @param folder Folder of the set.
 * @throws ComFaceError as {@link readData} for a folder that is none. A damaged picture is no error.
 * @example
 * ```ts
 * import { inspect } from 'comface';
 *
 * const { pictures, subjects, damaged } = await inspect('faces', { verify: 'all' });
 * console.log(`${pictures} pictures of ${subjects} people, ${damaged.length} damaged`);
 * ```
 */
export async function inspect(folder: string, options: InspectOptions = {}): Promise<Inspection> {
  checkObject('options', options);
  const { verify = 'some', signal, onProgress } = options;
  checkOneOf('verify', verify, ['some', 'all']);
  checkSignal(signal);
  checkFunction('onProgress', onProgress);
  signal?.throwIfAborted();
  const data = await readData(folder);
  const every = verify === 'all' ? 1 : Math.max(1, Math.floor(data.count / kSome));
  const samples = Uint32Array.from({ length: Math.ceil(data.count / every) }, (_, i) => i * every);
  return {
    folder: data.folder,
    pictures: data.count,
    subjects: data.subjects.length,
    size: data.size,
    attributes: attributesOf(data, data.groupsOf(new Set(data.subjects))),
    // Joined sets lie elsewhere.
    diskBytes: [...new Set([data.folder, ...data.shardSets.map((set) => set.folder)])].reduce((sum, each) => sum + bytesIn(each), 0),
    checked: samples.length,
    damaged: await damagedOf(data, samples, { signal, onProgress }),
  };
}

/** Pictures of one subject and attribute: places from `low` to `high`. */
interface Group {
  attribute: number;
  low: number;
  high: number;
}

function* groupsOf(data: DataSet, groups: Groups): Generator<Group> {
  for (let low = 0; low < groups.length; ) {
    const high = groups.highOf(low);
    yield { attribute: data.attributeOf(groups.sampleAt(low)), low, high };
    low = high;
  }
}

function attributesOf(data: DataSet, groups: Groups): AttributeInspection[] {
  const found = data.attributes.map(() => ({ pictures: 0, subjects: 0, low: Number.POSITIVE_INFINITY, high: Number.NEGATIVE_INFINITY }));
  for (const { attribute, low, high } of groupsOf(data, groups)) {
    const one = found[attribute]!;
    one.pictures += high - low;
    one.subjects++;
    one.low = Math.min(one.low, groups.alphaAt(low));
    one.high = Math.max(one.high, groups.alphaAt(high - 1));
  }
  const histograms = found.map(({ low, high }) => ({ low, width: (high - low) / kBins, counts: new Array<number>(kBins).fill(0) }));
  for (const { attribute, low, high } of groupsOf(data, groups)) {
    const { low: least, width, counts } = histograms[attribute]!;
    for (let place = low; place < high; place++) {
      const bin = width > 0 ? Math.floor((groups.alphaAt(place) - least) / width) : 0;
      counts[Math.min(kBins - 1, bin)]!++;
    }
  }
  return data.attributes.flatMap((name, i) => {
    const { pictures, subjects, low, high } = found[i]!;
    if (pictures === 0) return [];
    const { width, counts } = histograms[i]!;
    if (width === 0) return [{ name, pictures, subjects, histogram: { edges: [low, high], counts: [pictures] } }];
    return [
      {
        name,
        pictures,
        subjects,
        histogram: { edges: counts.map((_, k) => Number((low + k * width).toPrecision(12))).concat(high), counts },
      },
    ];
  });
}

/** Of the files that may be looked at. */
function bytesIn(folder: string): number {
  let bytes = 0;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) bytes += bytesIn(path);
      else if (entry.isFile()) bytes += statSync(path).size;
    }
  } catch {
    // somebody else's folder, or a file that is no more
  }
  return bytes;
}

/** The pictures among `samples` that the reader refuses. */
async function damagedOf(
  data: DataSet,
  samples: Uint32Array,
  { signal, onProgress }: { [Key in 'signal' | 'onProgress']: InspectOptions[Key] | undefined },
): Promise<Inspection['damaged']> {
  const source = data.open(kLeastView, workerCount(0));
  const damaged = new Map<number, string>();
  const started = performance.now();
  try {
    let sound: number | undefined; // stands in for those that are not
    for (let done = 0; done < samples.length; ) {
      signal?.throwIfAborted();
      const some = samples.subarray(done, done + kBatch);
      if (sound === undefined) sound = await firstSound(source, some, damaged);
      if (sound !== undefined)
        for (const { sample, reason } of (await source.fill(planOf(some, sound), kPlain)).broken) damaged.set(sample, reason);
      done += some.length;
      const secondsLeft = ((performance.now() - started) / 1000 / done) * (samples.length - done);
      onProgress?.({ done, total: samples.length, secondsLeft });
    }
  } finally {
    source.dispose();
  }
  return [...damaged].map(([picture, reason]) => ({ picture, reason })).sort((a, b) => a.picture - b.picture);
}

/** The first picture that can be read; those before it are noted. */
async function firstSound(source: NativeSource, samples: Uint32Array, damaged: Map<number, string>): Promise<number | undefined> {
  for (const sample of samples) {
    try {
      await source.fill(planOf(Uint32Array.of(sample)), kPlain);
      return sample;
    } catch (error) {
      if ((error as { code?: string }).code !== 'CORRUPT_FILE') throw error;
      damaged.set(sample, (error as Error).message.replace(/ \(no spare pair is left .*\)$/, ''));
    }
  }
  return undefined;
}

/**
 * Draws a contact sheet of a data folder as one PNG: up to 8 rows, evenly spaced through the set, of one subject and attribute each, alpha growing to
 * the right. A picture that cannot be read is left gray.
 *
 * @param folder Folder of the set.
 * @returns the bytes of the PNG.
 * @throws ComFaceError as {@link readData}; DEVICE_UNAVAILABLE where sharp does not work.
 */
export async function dataSheet(folder: string): Promise<Uint8Array> {
  const data = await readData(folder);
  const open = await loadSharp();
  const rows = sheetRows(data);
  const columns = Math.max(...rows.map(({ length }) => length));
  const edge = Math.min(kSheetEdge, data.size);
  const [width, height] = [columns * edge, rows.length * edge];
  const sheet = new Uint8Array(width * height * 3).fill(128);
  const source = data.open(edge, workerCount(0));
  try {
    for (const [row, samples] of rows.entries()) {
      for (const [column, sample] of samples.entries()) {
        const rgb = await plainView(source, edge, sample).catch(() => undefined);
        if (rgb) place(rgb, edge, sheet, width, row, column);
      }
    }
  } finally {
    source.dispose();
  }
  return open(sheet, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

/** Sample numbers of the rows of a sheet. */
function sheetRows(data: DataSet): number[][] {
  const groups = data.groupsOf(new Set(data.subjects));
  const all = [...groupsOf(data, groups)];
  return spread(all.length, kSheetRows).map((index) => {
    const { low, high } = all[index]!;
    return spread(high - low, kSheetColumns).map((at) => groups.sampleAt(low + at));
  });
}

/** At most `most` of the numbers below `count`, evenly spaced, with the first and the last. */
function spread(count: number, most: number): number[] {
  const some = Math.min(most, count);
  return Array.from({ length: some }, (_, i) => (some === 1 ? 0 : Math.round((i * (count - 1)) / (some - 1))));
}

function place(rgb: Uint8Array, edge: number, sheet: Uint8Array, width: number, row: number, column: number): void {
  for (let y = 0; y < edge; y++) sheet.set(rgb.subarray(3 * y * edge, 3 * (y + 1) * edge), 3 * ((row * edge + y) * width + column * edge));
}
