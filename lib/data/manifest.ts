// manifest.jsonl, the list of pictures of a data folder: line 1 is the header, each further line one picture.
// A manifest comes from anywhere: every line is checked, and no picture outside the folder is ever named to the loader.
import { createHash, randomInt, randomUUID } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { lstat, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { checkText } from '../check.js';
import { ComFaceError, messageOf, show } from '../errors.js';
import { LineReader } from '../lines.js';
import { nearest } from '../nearest.js';

/** Name of the list in its folder. */
export const kManifestName = 'manifest.jsonl';

const kFormat = 'comface-faces';
const kVersion = 1;
const kLineBytes = 1 << 20;
const kPieceChars = 1 << 16;
// The shortest row that can be right has more bytes; keeps a false count from claiming memory.
const kRowBytes = 32;
const kStatsAtOnce = 64;
/** The largest that a float holds, rounded down to what a message can say. */
const kMaxAlpha = 3.4e38;

/** The list of a data folder with a file for each picture. All lists have an entry for each; a sample number is an index into them. */
export interface Manifest {
  /** Folder of the set, as an absolute path. */
  folder: string;
  /** Edge of the square pictures in pixels. */
  size: number;
  /** File of each picture, as an absolute path. */
  files: string[];
  /** Line of each picture in the manifest, from 1. */
  lines: Uint32Array;
  /** Number of the subject of each picture. */
  subject: Uint32Array;
  /** Index into `attributes` of what changes in each picture. */
  attribute: Uint16Array;
  /** Names of what changes. */
  attributes: string[];
  /** How far each picture is changed. */
  alpha: Float32Array;
  /** SHA-256 of the manifest, hexadecimal. */
  hash: string;
}

/** The first line without `format` and `version`. */
export interface ManifestHeader {
  size: number;
  /** Number of pictures. */
  count: number;
  seed: string;
  domain: number;
  attributes: readonly string[];
  /** JPEG quality of generated pictures. */
  quality?: number;
}

/** One picture. */
export interface ManifestRow {
  /** Relative to the folder, with "/". */
  file: string;
  subject: number;
  attribute: string;
  alpha: number;
}

/**
 * Reads and checks the `manifest.jsonl` of a folder; every picture must be there.
 *
 * @param folder Folder of the set.
 * @throws ComFaceError CORRUPT_FILE with `path:line` for a line that is wrong, IO for a folder, manifest or picture that is missing.
 */
export async function readManifest(folder: string): Promise<Manifest> {
  checkText('folder', folder);
  const root = resolve(folder);
  const path = join(root, kManifestName);
  const parser = new ManifestParser(root, await sizeOf(root, path));
  for await (const chunk of chunksOf(path)) parser.push(chunk);
  const manifest = parser.finish();
  await checkFiles(manifest, path);
  return manifest;
}

/** Reads the text of a manifest in pieces of any size; looks at no file. */
export class ManifestParser {
  readonly #root: string;
  readonly #path: string;
  readonly #sizeBytes: number;
  readonly #hash = createHash('sha256');
  readonly #decoder = new TextDecoder('utf-8', { fatal: true });
  readonly #lines = new LineReader(kLineBytes);
  #line = 0;
  #builder: Builder | undefined;

  /** @param sizeBytes Size of the whole text. */
  constructor(root: string, sizeBytes: number) {
    this.#root = root;
    this.#path = join(root, kManifestName);
    this.#sizeBytes = sizeBytes;
  }

  /** @throws ComFaceError CORRUPT_FILE with `path:line`. */
  push(bytes: Buffer): void {
    this.#hash.update(bytes);
    for (const line of this.#lines.push(bytes)) this.#add(line);
    this.#checkLength(this.#lines.rest);
  }

  /** @throws ComFaceError CORRUPT_FILE with `path:line`. */
  finish(): Manifest {
    if (this.#lines.rest.length > 0) this.#add(this.#lines.rest);
    const hint = 'Run `comface generate --out DIR` for a new data folder.';
    if (this.#builder === undefined) throw corrupt(this.#path, 1, 'a header', 'nothing', hint);
    return this.#builder.finish(this.#hash.digest('hex'));
  }

  #add(bytes: Buffer): void {
    this.#checkLength(bytes);
    this.#line++;
    const text = this.#decode(bytes);
    if (this.#builder) this.#builder.add(text, this.#line);
    else this.#builder = new Builder(this.#root, this.#path, parseHeader(text, this.#path, this.#sizeBytes));
  }

  #checkLength({ length }: Buffer): void {
    if (length > kLineBytes) throw corrupt(this.#path, this.#line + 1, `lines under ${kLineBytes} bytes`, `one of ${length} or more`);
  }

  #decode(bytes: Buffer): string {
    try {
      return this.#decoder.decode(bytes);
    } catch {
      throw corrupt(this.#path, this.#line, 'UTF-8 text', `the bytes ${bytes.subarray(0, 16).toString('hex')}`);
    }
  }
}

/**
 * Writes the manifest of a folder whole or not at all: temporary file, fsync, rename.
 *
 * @throws ComFaceError IO.
 */
export async function writeManifest(folder: string, header: ManifestHeader, rows: Iterable<ManifestRow>): Promise<void> {
  const path = join(resolve(folder), kManifestName);
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = await open(temporary, 'wx');
    try {
      for (const text of manifestText(header, rows)) await file.write(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const directory = await open(resolve(folder));
    await directory.sync().finally(() => directory.close());
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    const hint = 'Check the free space and the permissions of the folder.';
    throw new ComFaceError('IO', `Cannot write ${path}: ${messageOf(cause)}`, { hint, cause });
  }
}

/** The text of a manifest, in pieces. */
export function* manifestText(header: ManifestHeader, rows: Iterable<ManifestRow>): Generator<string> {
  let text = `${JSON.stringify({ format: kFormat, version: kVersion, ...header })}\n`;
  for (const { file, subject, attribute, alpha } of rows) {
    text += `${JSON.stringify({ file, subject, attribute, alpha })}\n`;
    if (text.length < kPieceChars) continue;
    yield text;
    text = '';
  }
  yield text;
}

/** Collects the rows; each add() either takes one or throws. */
class Builder {
  readonly #root: string;
  readonly #path: string;
  readonly #header: ManifestHeader;
  readonly #known: Map<string, number>;
  readonly #manifest: Manifest;
  readonly #names: NameTable;

  constructor(root: string, path: string, header: ManifestHeader) {
    const { count, size, attributes } = header;
    this.#root = root.endsWith(sep) ? root : root + sep;
    this.#path = path;
    this.#header = header;
    this.#known = new Map(attributes.map((name, index) => [name, index]));
    this.#manifest = {
      folder: root,
      size,
      files: [],
      lines: new Uint32Array(count),
      subject: new Uint32Array(count),
      attribute: new Uint16Array(count),
      attributes: [...attributes],
      alpha: new Float32Array(count),
      hash: '',
    };
    this.#names = new NameTable(this.#manifest.files, count);
  }

  add(text: string, line: number): void {
    const { files, lines, subject, attribute, alpha } = this.#manifest;
    const at = files.length;
    const wrong = (rule: string, found: unknown, hint?: string) => corrupt(this.#path, line, rule, show(found), hint);
    if (at === this.#header.count) throw wrong(`no line after the ${at} pictures of the header`, text, 'Correct `count` in line 1.');
    const row = parseObject(text, this.#path, line);
    if (!isWhole(row.subject, 0xffffffff)) throw wrong('an integer from 0 to 4294967295 for `subject`', row.subject);
    if (!(typeof row.alpha === 'number' && Math.abs(row.alpha) <= kMaxAlpha))
      throw wrong(`a number from ${-kMaxAlpha} to ${kMaxAlpha} for \`alpha\``, row.alpha);
    const index = typeof row.attribute === 'string' ? this.#known.get(row.attribute) : undefined;
    if (index === undefined) {
      const near = typeof row.attribute === 'string' ? nearest(row.attribute, this.#header.attributes) : undefined;
      throw wrong('an attribute of the header for `attribute`', row.attribute, near && `Did you mean ${near}?`);
    }
    const hint = 'Pictures lie inside the folder; write the path from there with "/".';
    if (!isInside(row.file)) throw wrong('a path inside the folder for `file`', row.file, hint);
    const before = this.#names.add(this.#root + row.file);
    if (before !== undefined) throw wrong('each picture once', row.file, `Line ${lines[before]} names it already; remove one.`);
    lines[at] = line;
    subject[at] = row.subject;
    attribute[at] = index;
    alpha[at] = row.alpha;
  }

  finish(hash: string): Manifest {
    const { count } = this.#header;
    const found = this.#manifest.files.length;
    const hint = 'The file is cut short: copy or generate it again.';
    if (found < count) throw corrupt(this.#path, found + 2, `the ${count} pictures of the header`, `the end after ${found}`, hint);
    return { ...this.#manifest, hash };
  }
}

/** Finds repeated names among `names`, which it fills; a Set ends at 2^24 entries. Open addressing over FNV-1a with a key and a last
 * stir, so that nobody can write names that all fall on one slot. */
class NameTable {
  readonly #names: string[];
  readonly #slots: Uint32Array;
  readonly #key = randomInt(2 ** 32);

  constructor(names: string[], count: number) {
    this.#names = names;
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(2 * count + 2)));
  }

  /** Adds a name, or returns the place of the same one. */
  add(name: string): number | undefined {
    let hash = this.#key;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    hash ^= hash >>> 13;
    for (let slot = hash >>> 0; ; slot++) {
      const place = slot % this.#slots.length;
      const taken = this.#slots[place]!;
      if (taken === 0) {
        this.#slots[place] = this.#names.push(name);
        return undefined;
      }
      if (this.#names[taken - 1] === name) return taken - 1;
    }
  }
}

function parseHeader(text: string, path: string, sizeBytes: number): ManifestHeader {
  const header = parseObject(text, path, 1);
  const { format, version, size, count, seed, domain, attributes } = header;
  const wrong = (rule: string, found: unknown, hint?: string) => corrupt(path, 1, rule, show(found), hint);
  if (format !== kFormat) throw wrong(`"${kFormat}" for \`format\``, format, 'Name a folder made by `comface generate`.');
  if (version !== kVersion) throw wrong(`${kVersion} for \`version\``, version, 'Use the version of comface that wrote it.');
  if (!isWhole(size, 65535) || size < 8) throw wrong('an integer from 8 to 65535 for `size`', size);
  if (!isWhole(count, 0xffffffff) || count < 1) throw wrong('an integer from 1 to 4294967295 for `count`', count);
  if (count > sizeBytes / kRowBytes)
    throw wrong(`a \`count\` that fits into the file of ${sizeBytes} bytes`, count, 'The file is cut short.');
  if (typeof seed !== 'string') throw wrong('a text for `seed`', seed);
  if (!isWhole(domain, 0xffff)) throw wrong('an integer from 0 to 65535 for `domain`', domain);
  const isList = Array.isArray(attributes) && attributes.length >= 1 && attributes.length <= 65535;
  const areNames =
    isList && attributes.every((name) => typeof name === 'string' && name !== '') && new Set(attributes).size === attributes.length;
  if (!areNames) throw wrong('a list of different names for `attributes`', attributes);
  return { size, count, seed, domain, attributes: attributes as string[] };
}

function parseObject(text: string, path: string, line: number): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw corrupt(path, line, 'a JSON object', text.trim() === '' ? 'an empty line' : show(text));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw corrupt(path, line, 'a JSON object', show(value));
  return value as Record<string, unknown>;
}

function isWhole(value: unknown, high: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= high;
}

/** A relative path in its only form: no ".", "..", empty part, backslash or NUL. */
function isInside(file: unknown): file is string {
  return typeof file === 'string' && !/[\\\0]/.test(file) && file.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

async function* chunksOf(path: string): AsyncGenerator<Buffer> {
  try {
    yield* createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>;
  } catch (cause) {
    throw new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint: 'Check its permissions and the disk.', cause });
  }
}

async function sizeOf(root: string, path: string): Promise<number> {
  const hint = 'Make one with `comface generate --out DIR` or `comface pack PICTURES --out DIR`, and name DIR.';
  const entries = await readdir(root).catch((cause: NodeJS.ErrnoException) => {
    const found = cause.code === 'ENOENT' ? 'there is no such folder' : cause.code === 'ENOTDIR' ? 'it is a file' : cause.message;
    throw new ComFaceError('IO', `Cannot read the data folder ${root}: ${found}`, { hint, cause });
  });
  if (entries.length === 0) throw new ComFaceError('IO', `Cannot read the data folder ${root}: it is empty`, { hint });
  if (!entries.includes(kManifestName))
    throw new ComFaceError('IO', `Cannot read the data folder ${root}: it has no ${kManifestName}`, { hint });
  const found = await stat(path).catch((cause: unknown) => {
    throw new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint: 'Check its permissions.', cause });
  });
  if (!found.isFile()) throw new ComFaceError('IO', `Cannot read ${path}: it is not a file`, { hint });
  return found.size;
}

async function checkFiles(manifest: Manifest, path: string): Promise<void> {
  const { files, lines, folder } = manifest;
  const root = await realpath(folder);
  for (let from = 0; from < files.length; from += kStatsAtOnce) {
    const found = await Promise.all(
      files.slice(from, from + kStatsAtOnce).map((file) => lstat(file).catch((cause: NodeJS.ErrnoException) => cause)),
    );
    for (const [i, state] of found.entries()) await checkFile(files[from + i]!, state, root, `${path}:${lines[from + i]}`);
  }
}

async function checkFile(file: string, state: Stats | NodeJS.ErrnoException, root: string, where: string): Promise<void> {
  const fail = (found: string, hint: string) =>
    new ComFaceError('IO', `${where}: Expected the picture ${file} but found ${found}`, { hint });
  if (state instanceof Error) {
    const found = state.code === 'ENOENT' || state.code === 'ENOTDIR' ? 'no such file' : state.message;
    throw fail(found, 'Copy the whole folder again, or generate it anew.');
  }
  if (state.isFile()) return;
  if (!state.isSymbolicLink()) throw fail('something that is not a file', 'Remove the line, or put the picture there.');
  const target = await realpath(file).catch(() => undefined);
  if (target === undefined) throw fail('a link to nothing', 'Replace the link by the picture.');
  const hint = 'Copy the picture into the folder.';
  if (!target.startsWith(root.endsWith(sep) ? root : root + sep)) throw fail(`a link out of the folder to ${target}`, hint);
  if (!(await stat(target)).isFile()) throw fail('a link to something that is not a file', hint);
}

function corrupt(
  path: string,
  line: number,
  rule: string,
  found: string,
  hint = 'Correct the line, or generate the data anew.',
): ComFaceError {
  return new ComFaceError('CORRUPT_FILE', `${path}:${line}: Expected ${rule} but found ${found}`, { hint });
}
