// What there is to pack: a folder per subject, or a CSV file. Every picture that cannot be used gets a reason here or when it is read; none is
// dropped in silence.
import { createHash } from 'node:crypto';
import { createReadStream, lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve, sep } from 'node:path';
import type { Readable } from 'node:stream';
import { parse } from 'csv-parse';
import { ComFaceError, invalid, messageOf, show } from '../errors.js';
import { type Point, pointCounts } from './align.js';

/** What is known of a picture. */
export interface Described {
  subject: string;
  attribute: string;
  alpha: number;
  landmarks?: readonly Point[];
}

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
const kSuffixes = new Set(['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif', '.heic', '.heif']);
const kLineBytes = 1 << 20;

/**
 * Lists what lies in `from`.
 *
 * @param attribute Of pictures that name none.
 * @throws ComFaceError IO for what cannot be read, CORRUPT_FILE naming the line of a CSV file that is none, INVALID_INPUT where nothing is to be packed.
 */
export async function listPictures(from: string, attribute: string): Promise<Listing> {
  const root = resolve(from);
  let isFolder: boolean;
  try {
    isFolder = statSync(root).isDirectory();
  } catch (cause) {
    const hint = 'Name a folder with a folder for each subject, or a CSV file.';
    throw new ComFaceError('IO', `Cannot read ${root}: ${messageOf(cause)}`, { hint, cause });
  }
  const collector = new Collector(isFolder ? root : dirname(root));
  if (isFolder) listFolder(root, attribute, collector);
  else await listTable(root, attribute, collector);
  return collector.finish(from);
}

class Collector {
  readonly root: string;
  readonly #real: string;
  readonly #pictures: Listed[] = [];
  readonly #rejected: Rejected[] = [];
  readonly #subjectOf = new Map<string, string>();
  readonly #seen = new Set<string>();

  constructor(root: string) {
    this.root = root;
    this.#real = realpathSync(root);
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
      return state.size === 0 ? 'the file is empty' : { file, sizeBytes: state.size };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return code === 'ENOENT' || code === 'ENOTDIR' ? 'there is no such file' : messageOf(error);
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
    const hash = createHash('sha256');
    for (const { path, subject, attribute, alpha, landmarks, sizeBytes } of pictures)
      hash.update(JSON.stringify([path, subject, attribute, alpha, landmarks, sizeBytes]));
    return { pictures, rejected, subjects, attributes, hash: hash.digest('hex') };
  }
}

function numberedSubjects(names: ReadonlySet<string>): Map<string, number> {
  const sorted = [...names].sort();
  const areNumbers = sorted.every((name) => /^(0|[1-9]\d{0,9})$/.test(name) && Number(name) <= kMostSubject);
  return new Map(sorted.map((name, index) => [name, areNumbers ? Number(name) : index]));
}

const kPlace = 'it does not lie at SUBJECT/PICTURE or SUBJECT/ATTRIBUTE/PICTURE';

/** What a path says: SUBJECT/ALPHA.jpg, or SUBJECT/ATTRIBUTE/ALPHA.jpg; what follows "_" after alpha is free. */
function describedBy(path: string, attribute: string): Described | string {
  const parts = path.split('/');
  const suffix = extname(path);
  if (parts.length < 2 || parts.length > 3) return kPlace;
  if (!kSuffixes.has(suffix.toLowerCase())) return `its name does not end like that of a picture (${[...kSuffixes].join(' ')})`;
  const [text] = basename(path, suffix).split('_');
  const alpha = numberOf(text!);
  if (alpha === undefined)
    return 'its name does not begin with its alpha, as -2.jpg or 1.5_tuesday.jpg do; or list the pictures in a CSV file';
  return { subject: parts[0]!, attribute: parts.length === 3 ? parts[1]! : attribute, alpha };
}

function listFolder(root: string, attribute: string, collector: Collector): void {
  const visit = (folder: string, depth: number): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (entry.name.startsWith('.')) continue; // what systems leave
      const path = join(folder, entry.name);
      if (entry.isDirectory() && depth < kMostDepth) visit(path, depth + 1);
      else {
        const inside = relative(root, path).split(sep).join('/');
        collector.offer(inside, entry.isDirectory() ? kPlace : describedBy(inside, attribute));
      }
    }
  };
  try {
    visit(root, 0);
  } catch (cause) {
    throw new ComFaceError('IO', `Cannot read ${root}: ${messageOf(cause)}`, { hint: 'Check its permissions.', cause });
  }
}

/** A decimal number that a float holds. */
function numberOf(text: string): number | undefined {
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text.trim())) return undefined;
  const value = Math.fround(Number(text));
  return Number.isFinite(value) ? value + 0 : undefined; // -0 and 0 are one alpha
}

type Row = Record<string, string>;

async function listTable(file: string, attribute: string, collector: Collector): Promise<void> {
  for await (const [path, described] of readTable(file, createReadStream(file), attribute)) collector.offer(path, described);
}

/**
 * Reads a CSV file: of each line its path, or its number, with what is known of the picture, or why it cannot be used.
 * @param bytes Of the file.
 * @throws ComFaceError CORRUPT_FILE with the line where the text is no table of pictures, IO.
 */
export async function* readTable(file: string, bytes: Readable, attribute: string): AsyncGenerator<[string, Described | string]> {
  const corrupt = (line: number, text: string) =>
    new ComFaceError('CORRUPT_FILE', `${file}:${line}: ${text}`, {
      hint: 'The first line names the columns: path, subject, alpha (or label) and, if there is more than one, attribute.',
    });
  let columns: Columns | undefined;
  const options = { bom: true, trim: true, skip_empty_lines: true, relax_column_count: true, info: true, max_record_size: kLineBytes };
  const parser = parse({
    ...options,
    columns: (names: string[]) => {
      columns = columnsOf(names, (text) => corrupt(1, text));
      return names;
    },
  });
  bytes.on('error', (cause) => parser.destroy(cause)); // pipe() does not pass it on
  try {
    for await (const { record, info } of bytes.pipe(parser) as AsyncIterable<{ record: Row; info: { lines: number } }>) {
      const found = columns!.read(record, attribute);
      yield [record.path || `line ${info.lines}`, typeof found === 'string' ? `line ${info.lines}: ${found}` : found];
    }
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    const { lines } = cause as { lines?: number };
    if (lines === undefined) throw new ComFaceError('IO', `Cannot read ${file}: ${messageOf(cause)}`, { hint: 'Check the file.', cause });
    throw corrupt(lines, messageOf(cause));
  }
  if (!columns) throw corrupt(1, 'expected the names of the columns but the file is empty');
}

interface Columns {
  /** A row's picture, or what is wrong with it. */
  read(row: Row, attribute: string): Described | string;
}

function columnsOf(names: readonly string[], corrupt: (text: string) => ComFaceError): Columns {
  const shown = show(names.join(','));
  for (const name of ['path', 'subject']) if (!names.includes(name)) throw corrupt(`expected a column \`${name}\` but found ${shown}`);
  if (new Set(names).size < names.length) throw corrupt(`expected each column once but found ${shown}`);
  const measures = ['alpha', 'label'].filter((name) => names.includes(name));
  if (measures.length !== 1) throw corrupt(`expected a column \`alpha\` or \`label\` but found ${shown}`);
  const points = names.filter((name) => /^[xy]\d+$/.test(name)).length / 2;
  const isScheme = points === 0 || pointCounts.includes(points);
  const coordinates = isScheme ? Array.from({ length: points }, (_, i) => [`x${i + 1}`, `y${i + 1}`]).flat() : [];
  if (!isScheme || !coordinates.every((name) => names.includes(name)))
    throw corrupt(`expected landmarks x1,y1 to xN,yN with N = ${pointCounts.join(', ')} but found ${points} points`);
  const [measure] = measures as [string];
  return {
    read: (row, attribute) => {
      if (!row.path) return 'it has no path';
      if (row.path.includes('\0')) return 'its path holds a NUL';
      if (!row.subject) return 'it has no subject';
      const alpha = numberOf(row[measure] ?? '');
      if (alpha === undefined) return `expected a number for ${measure} but found ${show(row[measure] ?? '')}`;
      const picture = { subject: row.subject, attribute: row.attribute || attribute, alpha };
      if (points === 0) return picture;
      const landmarks = Array.from({ length: points }, (_, i) => [numberOf(row[`x${i + 1}`] ?? ''), numberOf(row[`y${i + 1}`] ?? '')]);
      const wrong = landmarks.findIndex(([x, y]) => x === undefined || y === undefined);
      if (wrong >= 0) return `landmark ${wrong + 1} is not two numbers`;
      return { ...picture, landmarks: landmarks as unknown as Point[] };
    },
  };
}
