// Several sets of shards as one: a sets.json that names their folders. Nothing is copied. Sets that were made apart, on several machines or by several
// generators, so go to one training.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { checkObject, checkText, textsOf } from '../check.js';
import { ComFaceError, messageOf, show } from '../errors.js';
import { makeFolder } from '../folders.js';
import { native } from '../native.js';
import type { DataSet } from './dataset.js';
import type { Groups } from './groups.js';
import { kSetName, readShards, writeWhole } from './shards.js';

/** Names the sets of a folder that has none of its own. */
export const kSetsName = 'sets.json';
const kFormat = 'comface-sets';
const kVersion = 1;
const kMostSets = 1000;
const kMostBytes = 2 ** 20;
const kMostSubject = 2 ** 32 - 1;

/** A set that is part of another. */
interface Part {
  /** From the folder of the list. */
  folder: string;
  /** Of the set, as it was when it was joined. */
  hash: string;
  /** Added to the numbers of its subjects. */
  offset: number;
}

/** Which sets to join. */
export interface JoinOptions {
  /** Folders of sets in shards, of one size of picture. They stay where they are, and are needed there. */
  sets: readonly string[];
  /** Folder for the list: new or empty, or one of the same sets. */
  out: string;
  /** Whether subjects of different sets that have the same number are different people; else such sets are refused. @default false */
  renumber?: boolean;
}

/**
 * Joins data sets: writes a folder that stands for all of them, for {@link train} and whatever else reads a set. Made so: the paper's data, of which StyleGAN made
 * one part and StyleGAN3 the other.
 *
 * @returns the joined set.
 * @throws ComFaceError INVALID_INPUT for sets of several sizes, of pictures in files of their own, or that share subjects; CORRUPT_FILE; IO.
 * @example
 * ```ts
 * import { joinSets, train } from 'comface';
 *
 * await joinSets({ sets: ['stylegan1', 'stylegan3'], out: 'paper', renumber: true });
 * const { path } = await train({ data: 'paper', out: 'run' });
 * console.log(path);
 * ```
 */
export async function joinSets(options: JoinOptions): Promise<DataSet> {
  checkObject('options', options);
  const { out, renumber = false } = options;
  const folders = textsOf('sets', options.sets).map((folder) => resolve(folder));
  checkText('out', out);
  if (typeof renumber !== 'boolean')
    throw new ComFaceError('INVALID_INPUT', `Expected true or false for \`renumber\` but received ${show(renumber)}`);
  const root = resolve(out);
  if (folders.length < 2 || folders.length > kMostSets || new Set(folders).size < folders.length)
    throw refuse(`2 to ${kMostSets} different folders for \`sets\``, show(folders), 'Name each set once.');
  const sets: DataSet[] = [];
  for (const folder of folders) sets.push(await readPart(folder));
  const parts = sets.map((set, i) => ({ folder: relative(root, folders[i]!), hash: set.hash, offset: 0 }));
  if (renumber) number(parts, sets);
  const joined = joinedOf(root, parts, sets);
  const text = `${JSON.stringify({ format: kFormat, version: kVersion, sets: parts }, null, 1)}\n`;
  await place(root, text);
  return joined;
}

const refuse = (rule: string, found: string, hint: string) =>
  new ComFaceError('INVALID_INPUT', `Expected ${rule} but received ${found}`, { hint });

async function readPart(folder: string): Promise<DataSet> {
  if (existsSync(join(folder, kSetName))) return readShards(folder);
  const isList = existsSync(join(folder, kSetsName));
  const found = isList ? `${folder}, which joins sets itself` : folder;
  throw refuse(`folders of sets in shards for \`sets\``, found, isList ? 'Name those sets.' : `Name folders that have a ${kSetName}.`);
}

/** Numbers the subjects of each set behind those of the sets before it. */
function number(parts: Part[], sets: readonly DataSet[]): void {
  let next = 0;
  for (const [i, { subjects }] of sets.entries()) {
    parts[i]!.offset = next - subjects[0]!;
    next += subjects.at(-1)! - subjects[0]! + 1;
  }
  if (next > kMostSubject) throw refuse('fewer than 2^32 subjects for `sets`', String(next), 'Join fewer sets.');
}

async function place(root: string, text: string): Promise<void> {
  try {
    await makeFolder(root);
    const names = await readdir(root);
    const isSame = names.includes(kSetsName) && readFileSync(join(root, kSetsName), 'utf8') === text;
    if (isSame) return;
    if (names.length > 0)
      throw refuse('a new or empty folder for `out`', `${root}, which holds ${names.length} entries`, 'Name another folder.');
    await writeWhole(root, kSetsName, text);
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    const hint = 'Check the free space and the permissions of the folder.';
    throw new ComFaceError('IO', `Cannot write in ${root}: ${messageOf(cause)}`, { hint, cause });
  }
}

/** Opens joined sets. @throws ComFaceError CORRUPT_FILE naming what is wrong, IO for what is missing. */
export async function readJoined(root: string): Promise<DataSet> {
  const path = join(root, kSetsName);
  let text: string;
  try {
    if (statSync(path).size > kMostBytes) throw corrupt(path, `expected at most ${kMostBytes} bytes`);
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    throw new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint: 'Join the sets again.', cause });
  }
  const parts = parseSets(path, text);
  const sets: DataSet[] = [];
  for (const { folder, hash } of parts) {
    const set = await readShards(isAbsolute(folder) ? folder : join(dirname(path), folder));
    if (set.hash !== hash) throw corrupt(path, `the set ${set.folder} is another than when it was joined`);
    sets.push(set);
  }
  return joinedOf(root, parts, sets);
}

const corrupt = (path: string, text: string) =>
  new ComFaceError('CORRUPT_FILE', `${path}: ${text}`, { hint: 'Join the sets again: comface join.' });

/** Reads the text of a sets.json. @throws ComFaceError CORRUPT_FILE. */
export function parseSets(path: string, text: string): Part[] {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw corrupt(path, `it is not JSON (${messageOf(error)})`);
  }
  const wrong = (rule: string, found: unknown) => corrupt(path, `expected ${rule} but found ${show(found)}`);
  if (typeof value !== 'object' || value === null || value.format !== kFormat) throw wrong(`"${kFormat}" for \`format\``, value?.format);
  if (value.version !== kVersion) throw wrong(`${kVersion} for \`version\``, value.version);
  const { sets } = value;
  if (!Array.isArray(sets) || sets.length < 2 || sets.length > kMostSets) throw wrong(`2 to ${kMostSets} sets`, sets);
  return sets.map((set: unknown) => {
    const { folder, hash, offset } = (typeof set === 'object' && set !== null ? set : {}) as Partial<Part>;
    if (typeof folder !== 'string' || folder === '' || folder.includes('\0')) throw wrong('a path for `folder`', folder);
    if (typeof hash !== 'string' || !/^[\da-f]{64}$/.test(hash)) throw wrong('a SHA-256 for `hash`', hash);
    if (!Number.isInteger(offset) || Math.abs(offset!) > kMostSubject) throw wrong('a whole number for `offset`', offset);
    return { folder, hash, offset: offset! };
  });
}

/** @throws ComFaceError INVALID_INPUT for sets that do not go together. */
function joinedOf(root: string, parts: readonly Part[], sets: readonly DataSet[]): DataSet {
  const { size } = sets[0]!;
  const other = sets.find((set) => set.size !== size);
  if (other)
    throw refuse(
      `pictures of ${size} x ${size} in all of \`sets\``,
      `${other.size} x ${other.size} in ${other.folder}`,
      'Make them in one size.',
    );
  const subjects = subjectsOf(parts, sets);
  const attributes = [...new Set(sets.flatMap((set) => set.attributes))];
  const firsts = [0];
  for (const { count } of sets) firsts.push(firsts.at(-1)! + count);
  const count = firsts.at(-1)!;
  if (count >= 2 ** 32) throw refuse('fewer than 2^32 pictures in `sets`', String(count), 'Join fewer sets.');
  const shardSets = sets.flatMap((set) => set.shardSets);
  const partOf = (sample: number) => firsts.findIndex((first) => first > sample) - 1;
  return {
    ...{ folder: root, size, count, attributes, subjects, shardSets },
    hash: createHash('sha256')
      .update(JSON.stringify(parts.map(({ hash, offset }) => [hash, offset])))
      .digest('hex'),
    isDrawn: sets.every((set) => set.isDrawn),
    groupsOf: (wanted) => {
      const groups = sets.map((set, i) => set.groupsOf(new Set(set.subjects.filter((subject) => wanted.has(subject + parts[i]!.offset)))));
      return new JoinedGroups(groups, firsts);
    },
    attributeOf: (sample) => {
      const part = partOf(sample);
      return attributes.indexOf(sets[part]!.attributes[sets[part]!.attributeOf(sample - firsts[part]!)]!);
    },
    placeOf: (sample) => sets[partOf(sample)]!.placeOf(sample - firsts[partOf(sample)]!),
    sampleOf: () => -1, // its messages name the picture already
    open: (edge, threads) => native().module.openShards(shardSets, edge, threads),
  };
}

/** Of all sets, ascending; a person must not be in two of them, or one could be trained and validated on. */
function subjectsOf(parts: readonly Part[], sets: readonly DataSet[]): Uint32Array {
  const numbers = new Float64Array(sets.reduce((sum, { subjects }) => sum + subjects.length, 0));
  let at = 0;
  for (const [i, { subjects }] of sets.entries()) for (const subject of subjects) numbers[at++] = subject + parts[i]!.offset;
  numbers.sort();
  const same = numbers.find((subject, i) => i > 0 && subject === numbers[i - 1]);
  if (same !== undefined)
    throw refuse(
      '`sets` that share no subject',
      `number ${same} in two of them`,
      'Join with --renumber where they are different people, or make each set with a --first-subject of its own.',
    );
  if (numbers[0]! < 0 || numbers.at(-1)! > kMostSubject)
    throw refuse('subjects from 0 to 2^32 - 1', String(numbers[0]), 'Join the sets again.');
  return Uint32Array.from(numbers);
}

/** Groups of several sets one after the other. */
class JoinedGroups implements Groups {
  readonly length: number;
  readonly period: number;
  readonly #parts: readonly Groups[];
  /** First place of each part, then the number of places. */
  readonly #starts: readonly number[];
  /** First sample of each part. */
  readonly #samples: readonly number[];

  constructor(parts: readonly Groups[], samples: readonly number[]) {
    const starts = [0];
    for (const { length } of parts) starts.push(starts.at(-1)! + length);
    this.#parts = parts;
    this.#starts = starts;
    this.#samples = samples;
    this.length = starts.at(-1)!;
    this.period = periodOf(parts.filter(({ length }) => length > 0)) ?? this.length;
  }

  #at<T>(place: number, read: (groups: Groups, place: number, part: number) => T): T {
    let part = 0;
    while (part < this.#parts.length - 1 && place >= this.#starts[part + 1]!) part++;
    return read(this.#parts[part]!, place - this.#starts[part]!, part);
  }

  sampleAt(place: number): number {
    return this.#at(place, (groups, at, part) => groups.sampleAt(at) + this.#samples[part]!);
  }
  alphaAt(place: number): number {
    return this.#at(place, (groups, at) => groups.alphaAt(at));
  }
  lowOf(place: number): number {
    return this.#at(place, (groups, at) => groups.lowOf(at) - at) + place;
  }
  highOf(place: number): number {
    return this.#at(place, (groups, at) => groups.highOf(at) - at) + place;
  }
  firstAtLeast(from: number, to: number, value: number): number {
    return this.#at(from, (groups, at) => groups.firstAtLeast(at, to - from + at, value) - at) + from;
  }
}

/** The period of all, where it is the same with the same alphas and groups in it. */
function periodOf([first, ...others]: readonly Groups[]): number | undefined {
  if (!first) return undefined;
  const isSame = (other: Groups): boolean => {
    if (other.period !== first.period) return false;
    for (let place = 0; place < first.period; place++)
      if (
        other.alphaAt(place) !== first.alphaAt(place) ||
        other.lowOf(place) !== first.lowOf(place) ||
        other.highOf(place) !== first.highOf(place)
      )
        return false;
    return true;
  };
  return others.every(isSame) ? first.period : undefined;
}
