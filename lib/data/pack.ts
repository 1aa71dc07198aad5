// Packs a person's own pictures into shards. Which of them can be used is only known once they have been decoded, so a journal says of each
// finished shard what came of its pictures: a call that was killed goes on behind it, and the set ends in the same bytes.
import { constants, createReadStream, existsSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parse } from 'csv-parse';
import { checkFunction, checkInteger, checkObject, checkOneOf, checkSignal, checkText } from '../check.js';
import { ComFaceError, invalid, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';
import { native, workerCount } from '../native.js';
import type { Listed, Listing, Rejected } from './collector.js';
import { csvLine } from './csv.js';
import type { DataSet } from './dataset.js';
import { kTolerance } from './groups.js';
import { type FoundFormat, type ListingEvent, type ListJob, listPictures, type PackFormat, packFormats } from './listing.js';
import { checkDisk, type DiskSizes, type Encoded } from './makeset.js';
import { preparePicture, UnusablePicture } from './picture.js';
import { kPicturesName, picturesText } from './pictures.js';
import {
  type GroupTable,
  idIn,
  idOf,
  isShardThere,
  kMostShardBytes,
  kSetName,
  readShards,
  type SetHeader,
  ShardWriter,
  writeSet,
  writeWhole,
} from './shards.js';
import { checkOwn, holdsSet, otherSet, planIn, writing } from './target.js';

const kJournalName = 'pack.jsonl';
const kRejectedName = 'rejected.csv';
const kThreads = 64;
/** Pictures under way before a shard may end. */
const kChunk = 64;
const kMostBytesAtOnce = 2 ** 31;

/** How far packing is. */
export interface PackProgress {
  /** Pictures read, packed or not. */
  done: number;
  /** Pictures in all. */
  total: number;
  /** Pictures that cannot be used, so far. */
  rejected: number;
  /** Seconds left at the pace so far. */
  secondsLeft: number;
}

/** What to pack. */
export interface PackOptions {
  /**
   * A folder SUBJECT/ALPHA.jpg or SUBJECT/ATTRIBUTE/ALPHA.jpg; or a CSV file with the columns `path` (from its folder), `subject`, `alpha` or `label`, and
   * maybe `attribute`, `session` and landmarks `x1,y1,...` (5, 66 or 68 points in the upright picture, by which faces are aligned as in FFHQ); or the folder
   * of DISFA or FG-NET; or a list of dialysis pictures (docs/data.md, docs/tasks.md).
   */
  from: string;
  /** How pictures lie there; `auto`: whichever it looks like. @default 'auto' */
  format?: PackFormat;
  /** The site (hospital) to pack, of a list of dialysis pictures with several. */
  site?: string;
  /** The data set to pack, of a list of dialysis pictures with several. */
  dataset?: string;
  /** Folder for the frames that ffmpeg takes out of the videos of DISFA, where there are none yet. @default 'frames' beside `out` */
  frames?: string;
  /** Folder of the data set: new, empty, or already made with the same options. */
  out: string;
  /** Edge of the packed pictures in pixels, 8 to 2048. @default 224 */
  size?: number;
  /** JPEG quality, 1 to 100; 0: pixels as they are, which are read fastest. @default 90 */
  quality?: number;
  /** Name of what changes in pictures that name no attribute. @default 'change' */
  attribute?: string;
  /**
   * Bytes of a shard, about: it holds whole groups, and is in memory before it is written. A shard that was not finished when the call was killed is made
   * anew. @default 2^25
   */
  shardBytes?: number;
  /** Pictures prepared at once, 1 to 64; 0: one for each core. @default 0 */
  threads?: number;
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Called once with the format that was found, and before each video that frames are taken out of. */
  onListing?: (event: ListingEvent) => void;
  /** Called once, with the room on the disk, before anything is packed. */
  onDisk?: (sizes: DiskSizes) => void;
  /** Called after each few pictures. */
  onProgress?: (progress: PackProgress) => void;
}

/** A set of packed pictures. */
export interface PackResult {
  /** The set, read back. */
  data: DataSet;
  /** How the pictures lay there. */
  format: FoundFormat;
  /** Pictures that are there and were not asked for: frames of DISFA with intensity 0, of each action unit; lines of other sites. */
  leftOut: number;
  /** What there is to know beside: whose pictures are not as they should be, who is missing. */
  notes: readonly string[];
  /** Pictures and lines that are not in it, each with its reason: what `rejectedFile` lists. */
  rejected: Rejected[];
  /** CSV file of what is not in it: path and reason. */
  rejectedFile: string;
  /** CSV file of the pictures in the order of their numbers: subject (as given), its number, attribute, alpha, path, session, phase. */
  picturesFile: string;
}

/**
 * Packs pictures of any common format (JPEG, PNG, WebP, GIF, TIFF, AVIF) into a set of shards, upright, square and in sRGB. A folder that holds the
 * set already is read and returned; one that was not finished is gone on with. A picture that cannot be used is left out and named in `rejected`.
 *
 * @throws ComFaceError INVALID_INPUT for an option out of range, a folder with other content, pictures of which no two can be compared; CORRUPT_FILE for a
 * CSV file that is none; IO for what cannot be read or written; DEVICE_UNAVAILABLE where sharp does not work, or ffmpeg is needed and not there.
 * @example
 * ```ts
 * import { pack } from 'comface';
 *
 * const { data, rejected } = await pack({ from: 'photos', out: 'set', size: 128 });
 * console.log(`${data.count} pictures of ${data.subjects.length} people`);
 * for (const { path, reason } of rejected) console.warn(`${path}: ${reason}`);
 * ```
 */
export async function pack(options: PackOptions): Promise<PackResult> {
  checkObject('options', options);
  const job = check(options);
  job.signal?.throwIfAborted();
  native(); // without it nothing may be left behind
  const listing = await listPictures(job);
  const { format, leftOut, notes } = listing;
  checkPairs(listing.pictures, job.from);
  const packer = new Packer(job, listing);
  if (await packer.isMade()) await packer.listRejected();
  else await packer.run();
  return {
    data: await readShards(job.out),
    ...{ format, leftOut, notes },
    rejected: await readRejected(join(job.out, kRejectedName)),
    rejectedFile: join(job.out, kRejectedName),
    picturesFile: join(job.out, kPicturesName),
  };
}

interface Job extends ListJob {
  size: number;
  quality: number;
  shardBytes: number;
  threads: number;
  onDisk: ((sizes: DiskSizes) => void) | undefined;
  onProgress: ((progress: PackProgress) => void) | undefined;
}

function check({ from, out, ...options }: PackOptions): Job {
  const { size = 224, quality = 90, attribute = 'change', shardBytes = 2 ** 25, threads = 0, signal } = options;
  const { format = 'auto', site, dataset, frames, onListing, onDisk, onProgress } = options;
  checkText('from', from);
  checkText('out', out);
  checkOneOf('format', format, packFormats);
  for (const [name, text] of Object.entries({ site, dataset, frames })) if (text !== undefined) checkText(name, text);
  checkInteger('size', size, 8, 2048);
  checkInteger('quality', quality, 0, 100);
  checkText('attribute', attribute);
  checkInteger('shardBytes', shardBytes, 1, kMostBytesAtOnce);
  checkInteger('threads', threads, 0, kThreads);
  checkSignal(signal);
  for (const [name, call] of Object.entries({ onListing, onDisk, onProgress })) checkFunction(name, call);
  const listed = { from, out: resolve(out), format, attribute, site, dataset, frames, signal, onListing };
  return { ...listed, size, quality, shardBytes, threads, onDisk, onProgress };
}

/** A line of the journal: what a finished shard has of the pictures `from` to `to` of the listing. */
interface Entry {
  from: number;
  to: number;
  rejected: [index: number, reason: string][];
}

class Packer {
  readonly #job: Job;
  readonly #listing: Listing;
  readonly #header: Omit<SetHeader, 'shards'>;
  readonly #plan: string;
  readonly #entries: Entry[] = [];
  readonly #reasons = new Map<number, string>();
  readonly #started = performance.now();
  #resumedAt = 0;
  #done = 0;
  #packed = 0;

  constructor(job: Job, listing: Listing) {
    const { size, quality, shardBytes } = job;
    this.#job = job;
    this.#listing = listing;
    this.#header = {
      ...{ size, encoding: quality === 0 ? 'rgb' : 'jpeg', attributes: listing.attributes, alphas: null },
      made: { from: 'pack', pictures: listing.hash, quality, shardBytes },
    };
    this.#plan = `${JSON.stringify({ pack: idOf(this.#header) })}\n`;
  }

  get #target() {
    return { out: this.#job.out, planName: kJournalName, plan: this.#plan, listName: kSetName };
  }

  /** Whether the folder holds the whole set. */
  async isMade(): Promise<boolean> {
    if (!(await holdsSet(this.#target))) return false;
    const { out } = this.#job;
    if (idIn(out) !== idOf(this.#header)) throw otherSet(out);
    const isWhole = () => [kPicturesName, kRejectedName].every((name) => existsSync(join(out, name)));
    return readShards(out).then(isWhole, () => false);
  }

  async run(): Promise<void> {
    const { out } = this.#job;
    const { pictures } = this.#listing;
    await writing(out, async () => {
      await makeFolder(out);
      await this.#resume();
      const left = pictures.length - this.#done;
      await checkDisk(out, left, pictures.length, async (at) => (await this.#encode(pictures[at]!)).bytes?.length ?? 0, this.#job.onDisk);
      const journal = await open(join(out, kJournalName), 'a');
      try {
        while (this.#done < pictures.length) await this.#packShard(journal);
      } finally {
        await journal.close();
      }
      await this.#finish();
    });
  }

  /** Takes over the shards that a call before has finished. */
  async #resume(): Promise<void> {
    const { out } = this.#job;
    const [, ...lines] = planIn(this.#target).split('\n');
    for (const line of lines) {
      const entry = parseEntry(line, this.#listing.pictures.length);
      if (entry?.from !== this.#done) continue; // torn, or written by another call at the same time
      const count = countOf(entry);
      if (count > 0 && !(await isShardThere(out, this.#shards.length, this.#header, this.#packed, count))) break;
      this.#take(entry);
    }
    this.#resumedAt = this.#done;
    // Written anew, without what was torn.
    await writeWhole(out, kJournalName, this.#plan + this.#entries.map(lineOf).join(''));
  }

  get #shards(): number[] {
    return this.#entries.map(countOf).filter((count) => count > 0);
  }

  #take(entry: Entry): void {
    this.#entries.push(entry);
    for (const [index, reason] of entry.rejected) this.#reasons.set(index, reason);
    this.#packed += countOf(entry);
    this.#done = entry.to;
  }

  async #packShard(journal: FileHandle): Promise<void> {
    const { shardBytes, signal } = this.#job;
    const { pictures } = this.#listing;
    const entry: Entry = { from: this.#done, to: this.#done, rejected: [] };
    const kept: Uint8Array[] = [];
    let bytes = 0;
    const isFull = () => bytes >= shardBytes && !isSameGroup(pictures[entry.to - 1]!, pictures[entry.to]);
    while (entry.to < pictures.length && !isFull()) {
      const to = bytes >= shardBytes ? this.#groupEnd(entry.to) : Math.min(entry.to + kChunk, pictures.length);
      for (const { index, bytes: picture, reason } of await this.#encodeAll(entry.to, to)) {
        if (picture === undefined) entry.rejected.push([index, reason!]);
        else kept.push(picture);
        bytes += picture?.length ?? 0;
      }
      entry.to = to;
      this.#tell(to, this.#reasons.size + entry.rejected.length);
      if (bytes > kMostShardBytes) throw tooLarge(pictures[to - 1]!);
    }
    signal?.throwIfAborted();
    if (kept.length > 0) await this.#writeShard(kept);
    this.#take(entry);
    await journal.appendFile(lineOf(entry));
    await journal.sync();
  }

  /** The end of the group of the picture before, or of a chunk: a shard ends with a group. */
  #groupEnd(from: number): number {
    const { pictures } = this.#listing;
    let to = from;
    while (to < from + kChunk && isSameGroup(pictures[from - 1]!, pictures[to])) to++;
    return to;
  }

  async #writeShard(pictures: readonly Uint8Array[]): Promise<void> {
    const writer = await ShardWriter.create(this.#job.out, this.#shards.length, this.#header, this.#packed, pictures.length);
    try {
      for (let at = 0; at < pictures.length; at += kChunk) await writer.add(encodedOf(pictures.slice(at, at + kChunk)));
      checkOwn(this.#target);
      await writer.finish();
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  }

  async #encodeAll(from: number, to: number): Promise<{ index: number; bytes?: Uint8Array; reason?: string }[]> {
    const { threads, signal } = this.#job;
    const results: { index: number; bytes?: Uint8Array; reason?: string }[] = new Array(to - from);
    let next = from;
    const work = async () => {
      while (next < to) {
        signal?.throwIfAborted();
        const index = next++;
        results[index - from] = { index, ...(await this.#encode(this.#listing.pictures[index]!)) };
      }
    };
    await Promise.all(Array.from({ length: workerCount(threads) }, work));
    return results;
  }

  async #encode(picture: Listed): Promise<{ bytes?: Uint8Array; reason?: string }> {
    const { size, quality } = this.#job;
    const bytes = await readPicture(picture); // its errors are no property of the picture
    try {
      return { bytes: await preparePicture(bytes, { size, quality, landmarks: picture.landmarks }) };
    } catch (error) {
      if (error instanceof UnusablePicture) return { reason: error.message };
      throw error;
    }
  }

  #tell(done: number, rejected: number): void {
    const total = this.#listing.pictures.length;
    const seconds = (performance.now() - this.#started) / 1000;
    this.#job.onProgress?.({ done, total, rejected, secondsLeft: (seconds / (done - this.#resumedAt)) * (total - done) });
  }

  /** Reasons that were found now, of files that are not in the set, with those that were found when it was made. */
  async listRejected(): Promise<void> {
    const paths = new Set(this.#listing.pictures.map(({ path }) => path));
    const known = (await readRejected(join(this.#job.out, kRejectedName))).filter(({ path }) => paths.has(path));
    await this.#writeRejected([...this.#listing.rejected, ...known]);
  }

  #writeRejected(list: readonly Rejected[]): Promise<void> {
    const lines = list.map(({ path, reason }) => csvLine([path, reason]));
    return writeWhole(this.#job.out, kRejectedName, csvLine(['path', 'reason']) + lines.join(''));
  }

  async #finish(): Promise<void> {
    const { out } = this.#job;
    const { pictures, subjects, attributes, rejected } = this.#listing;
    const unusable = [...this.#reasons].map(([index, reason]) => ({ path: pictures[index]!.path, reason }));
    const kept = pictures.filter((_, index) => !this.#reasons.has(index));
    checkPairs(kept, this.#job.from, unusable[0]);
    checkOwn(this.#target);
    await writeWhole(out, kPicturesName, picturesText(kept, subjects));
    await this.#writeRejected([...rejected, ...unusable]);
    await writeSet(out, { ...this.#header, shards: this.#shards }, tableOf(kept, subjects, attributes));
    await rm(join(out, kJournalName), { force: true });
  }
}

/** The bytes of a picture that was listed. @throws ComFaceError IO when it has changed since, or the disk fails: then the call can go on later. */
async function readPicture({ file, path, sizeBytes }: Listed): Promise<Uint8Array> {
  const fail = (found: string, cause?: unknown) =>
    new ComFaceError('IO', `Cannot read the picture ${path}: ${found}`, {
      hint: 'Run the same call again: it lists the pictures anew.',
      cause,
    });
  let handle: FileHandle;
  try {
    // Not through a link and without waiting: it may be something else than it was.
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw fail(messageOf(cause), cause);
  }
  try {
    const bytes = Buffer.allocUnsafe(sizeBytes + 1);
    let count = 0;
    for (let read = -1; read !== 0 && count < bytes.length; count += read)
      read = (await handle.read(bytes, count, bytes.length - count, count)).bytesRead;
    if (count !== sizeBytes) throw fail(`it had ${sizeBytes} bytes when it was listed and has others now`);
    return bytes.subarray(0, count);
  } catch (cause) {
    throw cause instanceof ComFaceError ? cause : fail(messageOf(cause), cause);
  } finally {
    await handle.close();
  }
}

const countOf = ({ from, to, rejected }: Entry): number => to - from - rejected.length;
const lineOf = (entry: Entry): string => `${JSON.stringify(entry)}\n`;
const isSameGroup = (a: Listed, b: Listed | undefined): boolean => a.subject === b?.subject && a.attribute === b.attribute;

const tooLarge = ({ subject, attribute }: Listed) =>
  invalid(
    'size',
    'less than 4 GiB for all pictures of a subject and attribute',
    `more for ${subject}, ${attribute}`,
    'Choose a smaller size.',
  );

/** A line as it was written whole; nothing for the torn end of a journal. */
function parseEntry(line: string, pictures: number): Entry | undefined {
  try {
    const { from, to, rejected } = JSON.parse(line) as Entry;
    const isWhole = Number.isInteger(from) && Number.isInteger(to) && to > from && to <= pictures && Array.isArray(rejected);
    return isWhole && rejected.every(([index]) => index >= from && index < to) ? { from, to, rejected } : undefined;
  } catch {
    return undefined;
  }
}

function encodedOf(pictures: readonly Uint8Array[]): Encoded {
  const { module } = native();
  return {
    bytes: Buffer.concat(pictures),
    sizes: pictures.map(({ length }) => length),
    crcs: pictures.map((picture) => module.crc32c(picture)),
  };
}

function tableOf(pictures: readonly Listed[], subjects: ReadonlyMap<string, number>, attributes: readonly string[]): GroupTable {
  const firsts = pictures.flatMap((picture, i) => (i === 0 || !isSameGroup(pictures[i - 1]!, picture) ? [i] : []));
  const indexes = new Map(attributes.map((name, index) => [name, index]));
  return {
    subject: Uint32Array.from(firsts, (first) => subjects.get(pictures[first]!.subject)!),
    attribute: Uint32Array.from(firsts, (first) => indexes.get(pictures[first]!.attribute)!),
    alpha: Float32Array.from(pictures, ({ alpha }) => alpha),
    first: Uint32Array.from([...firsts, pictures.length]),
  };
}

/** Somebody has two pictures to compare. @param because The first that was not usable. */
function checkPairs(pictures: readonly Listed[], folder: string, because?: Rejected): void {
  const isPair = (picture: Listed, i: number) =>
    i > 0 && isSameGroup(pictures[i - 1]!, picture) && picture.alpha - pictures[i - 1]!.alpha >= kTolerance;
  if (pictures.some(isPair)) return;
  const subjects = new Set(pictures.map(({ subject }) => subject)).size;
  const why = because ? `; ${because.path}: ${because.reason}` : '';
  throw new ComFaceError(
    'INVALID_INPUT',
    `Expected two pictures of one subject and attribute with different alphas in ${folder} but found none among ${pictures.length} of ${subjects} subjects${why}`,
    { hint: 'Comparing needs several pictures of a person: give each person two or more, each with the alpha that it shows.' },
  );
}

async function readRejected(file: string): Promise<Rejected[]> {
  const list: Rejected[] = [];
  for await (const row of createReadStream(file).pipe(parse({ columns: true }))) list.push(row as Rejected);
  return list;
}
