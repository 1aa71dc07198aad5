// A set of pictures in shards, as docs/data.md has it: set.json says what the set is, groups.bin which groups of pictures (one subject and
// attribute) there are, and each NNNNN.shard holds the pictures of some groups, one after the other. set.json comes last: a folder without
// one is not finished.
import { createHash } from 'node:crypto';
import { fstatSync, readFileSync, type Stats, statSync } from 'node:fs';
import { type FileHandle, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ComFaceError, messageOf, show } from '../errors.js';
import { native } from '../native.js';
import type { DataSet } from './dataset.js';
import { firstAtLeast, GridGroups, type Groups, ListedGroups } from './groups.js';
import { isWritten, partOf } from './target.js';

export const kSetName = 'set.json';
const kGroupsName = 'groups.bin';
const kFormat = 'comface-shards';
const kVersion = 1;
const kMagic = 'CFSHARD1';
const kHeaderBytes = 64;
const kMostPictures = 2 ** 32 - 1;
const kMostSetBytes = 16 * 2 ** 20;
export const kMostShards = 2 ** 20;
/** Offsets in a shard have 32 bits. */
export const kMostShardBytes = 2 ** 32 - 2 ** 24;

/** What a set is. */
export interface SetHeader {
  /** Edge of the square pictures in pixels. */
  size: number;
  /** jpeg, or rgb: pixels as they are. */
  encoding: 'jpeg' | 'rgb';
  attributes: readonly string[];
  /** Alphas of every group, ascending; null where each picture has its own. */
  alphas: readonly number[] | null;
  /** Pictures of each shard. */
  shards: readonly number[];
  /** How it came about: seed, domain, quality and whatever else. Decides the id. */
  made: Readonly<Record<string, unknown>>;
}

/** Groups in the order of their pictures, by subject, then attribute. */
export interface GroupTable {
  subject: Uint32Array;
  /** Index into `attributes`. */
  attribute: Uint32Array;
  /** Where each picture has its own alpha: that, ascending in each group. */
  alpha?: Float32Array;
  /** With `alpha`: first picture of each group, then the number of pictures. */
  first?: Uint32Array;
}

/** 16 hexadecimal digits that all shards of a set have, and no other's. */
export function idOf({ size, encoding, attributes, alphas, made }: Omit<SetHeader, 'shards'>): string {
  return createHash('sha256').update(JSON.stringify({ size, encoding, attributes, alphas, made })).digest('hex').slice(0, 16);
}

export const shardName = (index: number): string => `${String(index).padStart(5, '0')}.shard`;

/** Bytes of a shard before its first picture. */
export const tableEnd = (count: number): number => kHeaderBytes + 8 * (count + 1);

// ---- writing ----

/** Writes one shard; what is not finished leaves only a file *.part. */
export class ShardWriter {
  readonly #path: string;
  readonly #part: string;
  readonly #file: FileHandle;
  readonly #head: Buffer;
  readonly #count: number;
  #written = 0;
  #offset: number;

  private constructor(path: string, part: string, file: FileHandle, head: Buffer, count: number) {
    this.#path = path;
    this.#part = part;
    this.#file = file;
    this.#head = head;
    this.#count = count;
    this.#offset = head.length;
  }

  /** @param first Number of its first picture in the set. @param count Pictures that it will hold. */
  static async create(folder: string, index: number, set: Omit<SetHeader, 'shards'>, first: number, count: number): Promise<ShardWriter> {
    const path = join(folder, shardName(index));
    const part = partOf(path); // another process may be at the same shard: whoever is last replaces it by the same bytes
    return new ShardWriter(path, part, await open(part, 'wx'), headOf(set, first, count), count);
  }

  /** Pictures as encodeFaces() gives them. */
  async add({ bytes, sizes, crcs }: { bytes: Uint8Array; sizes: readonly number[]; crcs: readonly number[] }): Promise<void> {
    let offset = this.#offset;
    for (const [i, size] of sizes.entries()) {
      this.#place(this.#written + i, offset, crcs[i]!);
      offset += size;
    }
    if (offset > kMostPictures) throw new RangeError(`a shard of ${offset} bytes is too large`);
    await writeAll(this.#file, bytes, this.#offset);
    this.#written += sizes.length;
    this.#offset = offset;
  }

  #place(picture: number, offset: number, crc: number): void {
    this.#head.writeUInt32LE(offset, kHeaderBytes + 8 * picture);
    this.#head.writeUInt32LE(crc, kHeaderBytes + 8 * picture + 4);
  }

  async finish(): Promise<void> {
    if (this.#written !== this.#count) throw new RangeError(`${this.#written} of ${this.#count} pictures`);
    this.#place(this.#count, this.#offset, 0);
    this.#head.writeUInt32LE(native().module.crc32c(this.#head.subarray(12)), 8);
    await writeAll(this.#file, this.#head, 0);
    await this.#file.sync();
    await this.#file.close();
    await rename(this.#part, this.#path);
  }

  /** Removes what was written. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    await rm(this.#part, { force: true }).catch(() => undefined);
  }
}

function headOf(set: Omit<SetHeader, 'shards'>, first: number, count: number): Buffer {
  const head = Buffer.alloc(tableEnd(count));
  head.write(kMagic, 0, 'latin1');
  head.writeUInt32LE(set.encoding === 'rgb' ? 1 : 0, 12);
  head.writeUInt32LE(set.size, 16);
  head.writeUInt32LE(count, 20);
  head.writeBigUInt64LE(BigInt(first), 24);
  head.writeBigUInt64LE(BigInt(`0x${idOf(set)}`), 32);
  return head;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Whether a finished shard is there, its header and table whole: then it need not be written again. */
export async function isShardThere(folder: string, index: number, set: Omit<SetHeader, 'shards'>, first: number, count: number) {
  const wanted = headOf(set, first, count);
  const file = await open(join(folder, shardName(index))).catch(() => undefined);
  if (!file) return false;
  try {
    const head = Buffer.alloc(wanted.length);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    const isWhole = bytesRead === head.length && native().module.crc32c(head.subarray(12)) === head.readUInt32LE(8);
    const isSame =
      head.subarray(0, 8).equals(wanted.subarray(0, 8)) && head.subarray(12, kHeaderBytes).equals(wanted.subarray(12, kHeaderBytes));
    return isWhole && isSame && fstatSync(file.fd).size === head.readUInt32LE(head.length - 8);
  } finally {
    await file.close();
  }
}

/** Writes groups.bin and then set.json: the set is finished. All shards must be there. */
export async function writeSet(folder: string, header: SetHeader, table: GroupTable): Promise<void> {
  const groups = new Uint32Array(2 * table.subject.length);
  for (let g = 0; g < table.subject.length; g++) {
    groups[2 * g] = table.subject[g]!;
    groups[2 * g + 1] = table.attribute[g]!;
  }
  const bytes = Buffer.concat([groups, table.first, table.alpha].flatMap((list) => (list ? [bytesOf(list)] : [])));
  const text = {
    format: kFormat,
    version: kVersion,
    id: idOf(header),
    ...header,
    groups: { count: table.subject.length, bytes: bytes.length, crc32c: native().module.crc32c(bytes) },
  };
  await syncFolder(folder); // the shards' names
  await writeWhole(folder, kGroupsName, bytes);
  await writeWhole(folder, kSetName, `${JSON.stringify(text, null, 1)}\n`);
  // What processes left that were killed.
  for (const name of await readdir(folder)) if (name.endsWith('.part') && !isWritten(name)) await rm(join(folder, name), { force: true });
}

async function syncFolder(folder: string): Promise<void> {
  const directory = await open(folder);
  await directory.sync().finally(() => directory.close());
}

const bytesOf = (list: Uint32Array | Float32Array): Buffer => Buffer.from(list.buffer, list.byteOffset, list.byteLength);

/** Whole or not at all, and there after a power cut. */
export async function writeWhole(folder: string, name: string, content: Buffer | string): Promise<void> {
  const part = partOf(join(folder, name));
  await writeFile(part, content, { flush: true });
  await rename(part, join(folder, name));
  await syncFolder(folder);
}

// ---- reading ----

/**
 * Opens a set.
 * @throws ComFaceError CORRUPT_FILE naming the file and what is wrong in it, IO for what is missing.
 */
export async function readShards(folder: string): Promise<DataSet> {
  const root = resolve(folder);
  const { header, text, groups } = readHeader(join(root, kSetName));
  const path = join(root, kGroupsName);
  const table = parseGroups(path, readBytes(path, groupsBytes(header, groups)), header, groups);
  checkShards(root, header);
  const firsts = [0];
  for (const count of header.shards) firsts.push(firsts.at(-1)! + count);
  const counts = Uint32Array.from(header.shards);
  const shardSet = { folder: root, counts, size: header.size, raw: header.encoding === 'rgb', id: idOf(header) };
  const placeOf = (sample: number) => {
    const shard = firsts.findIndex((first) => first > sample) - 1;
    return { file: `${root}/${shardName(shard)}, picture ${sample - firsts[shard]!}` };
  };
  return {
    folder: root,
    size: header.size,
    count: firsts.at(-1)!,
    attributes: header.attributes,
    hash: createHash('sha256').update(text).digest('hex'),
    subjects: table.subject.filter((subject, g) => g === 0 || subject !== table.subject[g - 1]), // they ascend
    isDrawn: header.made.from !== 'pack',
    groupsOf: (subjects) => groupsIn(header, table, subjects),
    attributeOf: (sample) => table.attribute[groupOf(header, table, sample)]!,
    placeOf,
    sampleOf: () => -1, // its messages name the picture already
    shardSets: [shardSet],
    open: (size, threads) => native().module.openShards([shardSet], size, threads),
  };
}

function groupOf({ alphas }: SetHeader, { first }: GroupTable, sample: number): number {
  if (alphas) return Math.floor(sample / alphas.length);
  return firstAtLeast(first!, 0, first!.length, sample + 1) - 1;
}

function groupsIn({ alphas }: SetHeader, { subject, attribute, alpha, first }: GroupTable, subjects: ReadonlySet<number>): Groups {
  if (alphas) {
    const chosen = new Uint32Array(subject.length);
    let count = 0;
    for (let g = 0; g < subject.length; g++) if (subjects.has(subject[g]!)) chosen[count++] = g;
    return new GridGroups(chosen.slice(0, count), Float32Array.from(alphas));
  }
  const of = (list: Uint32Array) => {
    const spread = new Uint32Array(alpha!.length);
    for (let g = 0; g < list.length; g++) spread.fill(list[g]!, first![g]!, first![g + 1]!);
    return spread;
  };
  return new ListedGroups({ subject: of(subject), attribute: of(attribute), alpha: alpha! }, subjects);
}

/** What set.json says. */
export interface SetText {
  header: SetHeader;
  text: string;
  groups: { count: number; bytes: number; crc32c: number };
}

/** The id of the set of a folder; nothing else is looked at. */
export const idIn = (folder: string): string => idOf(readHeader(join(resolve(folder), kSetName)).header);

const readHeader = (path: string): SetText => parseSet(path, readBytes(path, kMostSetBytes).toString('utf8'));

/** Reads the text of a set.json. @throws ComFaceError CORRUPT_FILE. */
export function parseSet(path: string, text: string): SetText {
  const wrong = (rule: string, found: unknown, hint?: string) => corrupt(path, `expected ${rule} but found ${show(found)}`, hint);
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw corrupt(path, `it is not JSON (${messageOf(error)})`);
  }
  if (typeof value !== 'object' || value === null || value.format !== kFormat) throw wrong(`"${kFormat}" for \`format\``, value?.format);
  const { version, size, encoding, attributes, alphas, shards, made, groups, id } = value as Record<string, unknown> &
    SetText['header'] & {
      groups: SetText['groups'];
    };
  if (version !== kVersion) throw wrong(`${kVersion} for \`version\``, version, 'Use the version of comface that wrote it.');
  if (!isCount(size, 8, 65535)) throw wrong('an integer from 8 to 65535 for `size`', size);
  if (encoding !== 'jpeg' && encoding !== 'rgb') throw wrong('jpeg or rgb for `encoding`', encoding);
  const areNames = isList(attributes, 65535) && attributes.every((name) => typeof name === 'string' && name !== '');
  if (!areNames || new Set(attributes).size < attributes.length) throw wrong('a list of different names for `attributes`', attributes);
  const isAlpha = (x: unknown, i: number, list: unknown[]) => Number.isFinite(x) && (i === 0 || (x as number) > (list[i - 1] as number));
  if (alphas !== null && !(isList(alphas, 1 << 20) && alphas.every(isAlpha))) throw wrong('ascending numbers or null for `alphas`', alphas);
  if (!isList(shards, kMostShards) || !shards.every((count) => isCount(count, 1, kMostPictures)))
    throw wrong('numbers of pictures for `shards`', shards);
  const count = shards.reduce((sum, each) => sum + each, 0);
  if (count > kMostPictures) throw wrong('fewer than 2^32 pictures in `shards`', count);
  const isFlat = typeof made === 'object' && made !== null && Object.values(made).every((one) => typeof one !== 'object' || one === null);
  if (!isFlat) throw wrong('an object of texts and numbers for `made`', made);
  if (!isCount(groups?.count, 1, count)) throw wrong('the number of groups for `groups.count`', groups?.count);
  if (alphas && groups.count * alphas.length !== count)
    throw wrong(`${groups.count} groups of ${alphas.length} pictures in \`shards\``, count);
  const header: SetHeader = { size, encoding, attributes, alphas, shards, made };
  if (id !== idOf(header)) throw wrong(`${idOf(header)} for \`id\``, id, 'It was changed by hand: copy or make the set again.');
  return { header, text, groups };
}

const picturesIn = ({ shards }: SetHeader): number => shards.reduce((sum, each) => sum + each, 0);

const groupsBytes = (header: SetHeader, { count }: SetText['groups']): number =>
  8 * count + (header.alphas ? 0 : 4 * (count + 1) + 4 * picturesIn(header));

/** Reads the bytes of a groups.bin. @throws ComFaceError CORRUPT_FILE. */
export function parseGroups(path: string, bytes: Buffer, header: SetHeader, groups: SetText['groups']): GroupTable {
  const { alphas, attributes } = header;
  const count = picturesIn(header);
  const wanted = groupsBytes(header, groups);
  if (bytes.length !== wanted) throw corrupt(path, `expected ${wanted} bytes but found ${bytes.length}`);
  if (native().module.crc32c(bytes) !== groups.crc32c) throw corrupt(path, 'its bytes are damaged');
  const words = new Uint32Array(Uint8Array.from(bytes).buffer);
  const subject = new Uint32Array(groups.count);
  const attribute = new Uint32Array(groups.count);
  for (let g = 0; g < groups.count; g++) {
    subject[g] = words[2 * g]!;
    attribute[g] = words[2 * g + 1]!;
    const isAfter = g === 0 || subject[g]! > subject[g - 1]! || (subject[g] === subject[g - 1] && attribute[g]! > attribute[g - 1]!);
    if (!isAfter || attribute[g]! >= attributes.length) throw corrupt(path, `group ${g} is out of order or has an unknown attribute`);
  }
  if (alphas) return { subject, attribute };
  const first = words.slice(2 * groups.count, 3 * groups.count + 1);
  const alpha = new Float32Array(words.slice(3 * groups.count + 1).buffer);
  for (let g = 0; g < groups.count; g++) {
    const [from, to] = [first[g]!, first[g + 1]!];
    if (to <= from || to > count || (g === 0 && from !== 0)) throw corrupt(path, `group ${g} has pictures ${from} to ${to} of ${count}`);
    for (let i = from; i < to; i++)
      if (!Number.isFinite(alpha[i]) || (i > from && alpha[i]! < alpha[i - 1]!)) throw corrupt(path, `alphas of group ${g} do not ascend`);
  }
  if (first[groups.count] !== count) throw corrupt(path, `its groups have ${first[groups.count]} pictures, the shards ${count}`);
  return { subject, attribute, alpha, first };
}

/** Each shard is there and long enough for its table; what is in it is looked at when its pictures are read. */
function checkShards(root: string, { shards }: SetHeader): void {
  for (const [index, count] of shards.entries()) {
    const path = join(root, shardName(index));
    const bytes = sizeOf(path);
    if (bytes < tableEnd(count)) throw corrupt(path, `expected ${count} pictures but the file has ${bytes} bytes`);
  }
}

const kHint = 'Copy or generate the set again.';
const corrupt = (path: string, text: string, hint = kHint) => new ComFaceError('CORRUPT_FILE', `${path}: ${text}`, { hint });
const isCount = (value: unknown, low: number, high: number): value is number =>
  Number.isInteger(value) && (value as number) >= low && (value as number) <= high;
const isList = (value: unknown, most: number): value is unknown[] => Array.isArray(value) && value.length >= 1 && value.length <= most;

/** Not the promise of stat(): Node 20 aborts when a worker thread is terminated in the middle of one. So does that of readFile(), which asks for it. */
function sizeOf(path: string): number {
  let found: Stats;
  try {
    found = statSync(path);
  } catch (cause) {
    throw unreadable(path, cause);
  }
  if (!found.isFile()) throw unreadable(path, 'not a regular file');
  return found.size;
}

const unreadable = (path: string, cause: unknown) =>
  new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint: kHint, cause });

/** A file of at most `most` bytes. */
function readBytes(path: string, most: number): Buffer {
  const size = sizeOf(path);
  if (size > most) throw corrupt(path, `expected at most ${most} bytes but found ${size}`);
  try {
    return readFileSync(path);
  } catch (cause) {
    throw unreadable(path, cause);
  }
}
