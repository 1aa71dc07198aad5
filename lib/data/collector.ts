// What there is to pack, whatever way it lies there: pictures with what is known of each, and the others with their reasons. Every picture that
// cannot be used gets a reason here or when it is read; none is dropped in silence.
import { createHash } from 'node:crypto';
import { accessSync, constants, lstatSync, realpathSync, statSync } from 'node:fs';
import { resolve, sep } from 'node:path';
import { ComFaceError, invalid, messageOf, show } from '../errors.js';
import type { Described } from './described.js';

/** A picture to pack. */
export interface Listed extends Described {
  /** Absolute. */
  file: string;
  /** As the user knows it: relative to the folder of pictures. */
  path: string;
  sizeBytes: number;
}

/** A picture, or a line of a list, that is not packed. */
export interface Rejected {
  /** The picture as the user knows it, from the folder of pictures, or the line of a list. */
  path: string;
  /** Why it cannot be used. */
  reason: string;
}

export interface Listing {
  /** By subject, attribute, alpha and path. */
  pictures: Listed[];
  rejected: Rejected[];
  /** Pictures that were not asked for, such as those of intensity 0. */
  leftOut: number;
  /** What there is to know of the whole: what was left out, and whose pictures are not as they should be. */
  notes: string[];
  /** Subjects have these numbers: their own where each name is one, else their place in the order of the names. */
  subjects: Map<string, number>;
  attributes: string[];
  /** SHA-256 of all that is listed, hexadecimal. */
  hash: string;
}

/** JavaScript's sets and maps hold no more. */
const kMostPictures = 2 ** 24;
const kMostSubject = 2 ** 32 - 1;
const kMostAttributes = 65_535;
/** More than a sane picture of 64 megapixels. */
const kMostBytes = 512_000_000;

/** Takes what a loader finds. */
export class Collector {
  readonly root: string;
  readonly #real: string;
  readonly #out: string;
  readonly #pictures: Listed[] = [];
  readonly #rejected: Rejected[] = [];
  readonly #notes: string[] = [];
  #leftOut = 0;
  readonly #subjectOf = new Map<string, string>();
  readonly #seen = new Set<string>();

  /** @param root Folder that paths are relative to. @param out Folder of the set, which may lie among the pictures. */
  constructor(root: string, out: string) {
    this.root = root;
    this.#real = realpathSync(root);
    this.#out = out;
  }

  isLeftOut(path: string): boolean {
    return path === this.#out;
  }

  /** Takes a picture, unless something is wrong with it. @param described What is known of it, or why it cannot be used. */
  offer(path: string, described: Described | string): void {
    const reason = typeof described === 'string' ? described : this.#add(path, described);
    if (reason !== undefined) this.#rejected.push({ path, reason });
  }

  get leftOut(): number {
    return this.#leftOut;
  }

  /** Pictures that were not asked for. */
  leaveOut(count: number): void {
    this.#leftOut += count;
  }

  note(text: string): void {
    this.#notes.push(text);
  }

  #add(path: string, described: Described): string | undefined {
    const found = this.#find(path);
    if (typeof found === 'string') return found;
    const { subject, attribute } = described;
    const other = this.#subjectOf.get(found.file);
    if (other !== undefined && other !== subject) return `it is listed as of ${show(other)} and of ${show(subject)}`;
    const key = JSON.stringify([found.file, attribute]);
    if (this.#seen.has(key)) return `it is listed twice for ${show(attribute)}`;
    if (this.#seen.size >= kMostPictures) throw invalid('from', `at most ${kMostPictures} pictures`, 'more', 'Pack it in parts.');
    this.#subjectOf.set(found.file, subject);
    this.#seen.add(key);
    this.#pictures.push({ ...described, ...found, path });
    return undefined;
  }

  /** The file behind a path, or why there is none. No promises: Node 20 aborts when a worker thread is terminated while one looks at a file. */
  #find(path: string): { file: string; sizeBytes: number } | string {
    try {
      const file = realpathSync(resolve(this.root, path));
      if (!file.startsWith(this.#real.endsWith(sep) ? this.#real : this.#real + sep)) {
        const isLink = lstatSync(resolve(this.root, path)).isSymbolicLink();
        return isLink ? `it is a link out of the folder, to ${file}` : `it lies outside of ${this.root}`;
      }
      const state = statSync(file);
      if (!state.isFile()) return 'it is not a file';
      if (state.size > kMostBytes) return `expected at most ${kMostBytes} bytes but the file has ${state.size}`;
      accessSync(file, constants.R_OK);
      return state.size === 0 ? 'the file is empty' : { file, sizeBytes: state.size };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return 'there is no such file';
      return code === 'EACCES' ? 'its permissions do not let it be read' : messageOf(error);
    }
  }

  /** @throws ComFaceError INVALID_INPUT where nothing is to be packed. */
  finish(from: string): Listing {
    const rejected = this.#rejected;
    if (this.#pictures.length === 0) {
      const why = rejected[0] ? `; the first of ${rejected.length} that cannot be used is ${rejected[0].path}: ${rejected[0].reason}` : '';
      const hint =
        'A folder for each subject with pictures named by alpha (anna/-2.jpg), or a CSV file; docs/data.md shows both, docs/tasks.md other data sets.';
      throw new ComFaceError('INVALID_INPUT', `Expected pictures in ${resolve(from)} but found none${why}`, { hint });
    }
    const byName = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
    const subjects = numberedSubjects(new Set(this.#subjectOf.values()));
    const pictures = this.#pictures.sort(
      (a, b) =>
        subjects.get(a.subject)! - subjects.get(b.subject)! ||
        byName(a.attribute, b.attribute) ||
        a.alpha - b.alpha ||
        byName(a.path, b.path),
    );
    const attributes = [...new Set(pictures.map(({ attribute }) => attribute))].sort(byName);
    if (attributes.length > kMostAttributes)
      throw invalid('from', `at most ${kMostAttributes} attributes`, attributes.length, 'An attribute is what changes, such as smile.');
    const hash = createHash('sha256');
    for (const { path, subject, attribute, alpha, landmarks, sizeBytes, session, phase } of pictures) {
      const more = session === undefined && phase === undefined ? [] : [session, phase];
      hash.update(JSON.stringify([path, subject, attribute, alpha, landmarks, sizeBytes, ...more]));
    }
    return { pictures, rejected, leftOut: this.#leftOut, notes: this.#notes, subjects, attributes, hash: hash.digest('hex') };
  }
}

function numberedSubjects(names: ReadonlySet<string>): Map<string, number> {
  const sorted = [...names].sort();
  const areNumbers = sorted.every((name) => /^\d{1,10}$/.test(name) && Number(name) <= kMostSubject);
  const isOwn = areNumbers && new Set(sorted.map(Number)).size === sorted.length;
  return new Map(sorted.map((name, index) => [name, isOwn ? Number(name) : index]));
}
