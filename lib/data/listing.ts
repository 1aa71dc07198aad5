// What there is to pack: a folder per subject, or a CSV file. Every picture that cannot be used gets a reason here or when it is read; none is
// dropped in silence.
import { createHash } from 'node:crypto';
import { accessSync, constants, createReadStream, type Dirent, existsSync, lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve, sep } from 'node:path';
import { ComFaceError, invalid, messageOf, show } from '../errors.js';
import { type Described, described, numberOf } from './described.js';
import { kManifestName } from './manifest.js';
import { kSetName } from './shards.js';
import { readTable } from './table.js';

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
  path: string;
  reason: string;
}

export interface Listing {
  /** By subject, attribute, alpha and path. */
  pictures: Listed[];
  rejected: Rejected[];
  /** Subjects have these numbers: their own where each name is one, else their place in the order of the names. */
  subjects: Map<string, number>;
  attributes: string[];
  /** SHA-256 of all that is listed, hexadecimal. */
  hash: string;
}

/** JavaScript's sets and maps hold no more. */
const kMostPictures = 2 ** 24;
const kMostDepth = 8;
const kMostSubject = 2 ** 32 - 1;
const kMostAttributes = 65_535;
/** More than a sane picture of 64 megapixels. */
const kMostBytes = 512_000_000;
const kSuffixes = new Set(['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif', '.heic', '.heif']);

/**
 * Lists what lies in `from`.
 *
 * @param attribute Of pictures that name none.
 * @param out Folder of the set, which is not looked into.
 * @throws ComFaceError IO for what cannot be read, CORRUPT_FILE naming the line of a CSV file that is none, INVALID_INPUT where nothing is to be packed.
 */
export async function listPictures(from: string, attribute: string, out: string): Promise<Listing> {
  const root = resolve(from);
  let isFolder: boolean;
  try {
    isFolder = statSync(root).isDirectory();
  } catch (cause) {
    const hint = 'Name a folder with a folder for each subject, or a CSV file.';
    throw new ComFaceError('IO', `Cannot read ${root}: ${messageOf(cause)}`, { hint, cause });
  }
  const list = [kSetName, kManifestName].find((name) => isFolder && existsSync(join(root, name)));
  if (list !== undefined) {
    const hint = 'Train on it as it is; pack takes the pictures that a person has.';
    throw new ComFaceError('INVALID_INPUT', `Expected pictures in ${root} but found a data set, by its ${list}`, { hint });
  }
  const collector = new Collector(isFolder ? root : dirname(root), out);
  if (isFolder) listFolder(root, attribute, collector);
  else await listTable(root, attribute, collector);
  return collector.finish(from);
}

class Collector {
  readonly root: string;
  readonly #real: string;
  readonly #out: string;
  readonly #pictures: Listed[] = [];
  readonly #rejected: Rejected[] = [];
  readonly #subjectOf = new Map<string, string>();
  readonly #seen = new Set<string>();

  /** @param out Folder of the set, which may lie among the pictures. */
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

  finish(from: string): Listing {
    const rejected = this.#rejected;
    if (this.#pictures.length === 0) {
      const why = rejected[0] ? `; the first of ${rejected.length} that cannot be used is ${rejected[0].path}: ${rejected[0].reason}` : '';
      const hint = 'A folder for each subject with pictures named by alpha (anna/-2.jpg), or a CSV file; docs/data.md shows both.';
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
    for (const { path, subject, attribute, alpha, landmarks, sizeBytes } of pictures)
      hash.update(JSON.stringify([path, subject, attribute, alpha, landmarks, sizeBytes]));
    return { pictures, rejected, subjects, attributes, hash: hash.digest('hex') };
  }
}

function numberedSubjects(names: ReadonlySet<string>): Map<string, number> {
  const sorted = [...names].sort();
  const areNumbers = sorted.every((name) => /^\d{1,10}$/.test(name) && Number(name) <= kMostSubject);
  const isOwn = areNumbers && new Set(sorted.map(Number)).size === sorted.length;
  return new Map(sorted.map((name, index) => [name, isOwn ? Number(name) : index]));
}

const kPlace = 'it does not lie at SUBJECT/PICTURE or SUBJECT/ATTRIBUTE/PICTURE';

/** What a path says: SUBJECT/ALPHA.jpg, or SUBJECT/ATTRIBUTE/ALPHA.jpg; what follows "_" after alpha is free. */
function describedBy(path: string, attribute: string): Described | string {
  const parts = path.split('/');
  const suffix = extname(path);
  if (parts.length < 2 || parts.length > 3) return kPlace;
  if (!kSuffixes.has(suffix.toLowerCase())) return `its name does not end like that of a picture (${[...kSuffixes].join(' ')})`;
  const alpha = alphaIn(basename(path));
  if (alpha === undefined)
    return 'its name does not begin with its alpha, as -2.jpg or 1.5_tuesday.jpg do; or list the pictures in a CSV file';
  return described(parts[0]!, parts.length === 3 ? parts[1]! : attribute, alpha);
}

/** The number that a file's name begins with. */
const alphaIn = (name: string): number | undefined => numberOf(basename(name, extname(name)).split('_')[0]!);

function listFolder(root: string, attribute: string, collector: Collector): void {
  const visit = (folder: string, depth: number): void => {
    const inside = (name: string) => relative(root, join(folder, name)).split(sep).join('/');
    let entries: Dirent[];
    try {
      entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
    } catch (error) {
      collector.offer(inside('') || '.', `the folder cannot be read: ${messageOf(error)}`);
      return;
    }
    for (const entry of entries) {
      const path = join(folder, entry.name);
      if (collector.isLeftOut(path) || isHidden(entry.name)) continue;
      if (entry.isDirectory() && depth < kMostDepth) visit(path, depth + 1);
      else collector.offer(inside(entry.name), wrongKind(path, entry) ?? describedBy(inside(entry.name), attribute));
    }
  };
  visit(root, 0);
}

/** What systems leave, as .DS_Store; .5.jpg is a picture. */
const isHidden = (name: string): boolean => name.startsWith('.') && alphaIn(name) === undefined;

function wrongKind(path: string, entry: Dirent): string | undefined {
  if (entry.isDirectory()) return kPlace;
  if (!entry.isSymbolicLink()) return undefined;
  try {
    return statSync(path).isDirectory() ? 'it is a link to a folder, which is not followed' : undefined;
  } catch {
    return undefined; // said when the file is looked for
  }
}

async function listTable(file: string, attribute: string, collector: Collector): Promise<void> {
  for await (const [path, picture] of readTable(file, createReadStream(file), attribute)) collector.offer(path, picture);
}
