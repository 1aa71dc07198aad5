// The directory of a zip archive whose entries are stored, as torch writes them: where each lies, zip64 too. Nothing is ever inflated.
// The directory alone says what there is; local headers are read for where the bytes begin (PKWARE APPNOTE.TXT, 4.3).
import { show } from '../errors.js';
import { type ByteSource, corrupt, readBytes, unread } from './source.js';

export interface ZipEntry {
  name: string;
  /** Of its bytes. */
  size: number;
  /** CRC-32 of them; 0 also where the writer was told to leave it out. */
  crc: number;
  /** Byte of the file where its local header is. */
  header: number;
  /** What was done to its bytes, in words; undefined when they are stored as they are. */
  packing: string | undefined;
}

const kEndBytes = 22;
const kMostComment = 0xffff;
const kLocatorBytes = 20;
const kEnd64Bytes = 56;
const kHeaderBytes = 30;
const kRecordBytes = 46;
const kMostEntries = 200_000;
/** A field of 32 bits that says: see the 64 bits elsewhere. */
const kElsewhere = 0xffffffff;
const kZip64 = 1;

/** The entries by their names. @throws ComFaceError CORRUPT_FILE with the byte offset; IO. */
export async function readZipDirectory(source: ByteSource): Promise<Map<string, ZipEntry>> {
  const { count, size, at } = await findDirectory(source);
  const bytes = await readBytes(source, at, size);
  const view = viewOf(bytes);
  const entries = new Map<string, ZipEntry>();
  let place = 0;
  for (let i = 0; i < count; i++) {
    const { entry, next } = readRecord(source, view, place, at);
    if (entries.has(entry.name)) throw corrupt(source.name, 'each name once in the archive', at + place, `${show(entry.name)} again`);
    entries.set(entry.name, entry);
    place = next;
  }
  if (place !== size) throw corrupt(source.name, "the end of the archive's directory", at + place, `${size - place} bytes more`);
  return entries;
}

/** Byte of the file where an entry's bytes begin; all of them are there. @throws ComFaceError CORRUPT_FILE; INVALID_INPUT when they are packed; IO. */
export async function beginOf(source: ByteSource, { header, size, name, packing }: ZipEntry): Promise<number> {
  if (packing) {
    const hint = 'Load the file in PyTorch and save it again with torch.save().';
    throw unread(source.name, 'entries that are stored as they are', header, `${show(name)}, ${packing}`, hint);
  }
  const view = viewOf(await readBytes(source, header, kHeaderBytes));
  need(source, view, 0, 'PK\x03\x04', `the header of ${show(name)}`, header);
  const begin = header + kHeaderBytes + view.getUint16(26, true) + view.getUint16(28, true);
  if (begin + size > source.size) throw corrupt(source.name, `${size} bytes of ${show(name)}`, begin, `${source.size} bytes in all`);
  return begin;
}

interface Directory {
  count: number;
  size: number;
  at: number;
}

/** By the record at the very end, or the one of 64 bits that lies before it. */
async function findDirectory(source: ByteSource): Promise<Directory> {
  const tail = Math.min(source.size, kEndBytes + kMostComment);
  const base = source.size - tail;
  const bytes = await readBytes(source, base, tail);
  const view = viewOf(bytes);
  const end = endOf(view);
  if (end === undefined) throw corrupt(source.name, "the archive's directory at the end", source.size, 'none: it may be cut off');
  let found: Directory = {
    count: view.getUint16(end + 10, true),
    size: view.getUint32(end + 12, true),
    at: view.getUint32(end + 16, true),
  };
  let limit = base + end;
  if (end >= kLocatorBytes && textAt(view, end - kLocatorBytes, 4) === 'PK\x06\x07') {
    limit = Number(view.getBigUint64(end - kLocatorBytes + 8, true));
    const wide = viewOf(await readBytes(source, limit, kEnd64Bytes));
    need(source, wide, 0, 'PK\x06\x06', 'the 64-bit end of the directory', limit);
    const [count, size, at] = [32, 40, 48].map((field) => Number(wide.getBigUint64(field, true))) as [number, number, number];
    found = { count, size, at };
  }
  if (found.at + found.size > limit)
    throw corrupt(source.name, 'a directory that ends before its end record', limit, `one of ${found.size} bytes at ${found.at}`);
  if (found.count > kMostEntries || found.count * kRecordBytes > found.size)
    throw corrupt(source.name, `at most ${kMostEntries} entries that fit the directory`, limit, `${found.count} in ${found.size} bytes`);
  return found;
}

/** The last place where an end record with its comment reaches the end of the file. */
function endOf(view: DataView): number | undefined {
  for (let at = view.byteLength - kEndBytes; at >= 0; at--) {
    if (view.getUint32(at, true) === 0x06054b50 && at + kEndBytes + view.getUint16(at + 20, true) === view.byteLength) return at;
  }
  return undefined;
}

function readRecord(source: ByteSource, view: DataView, at: number, base: number): { entry: ZipEntry; next: number } {
  const cut = () => corrupt(source.name, 'an entry of the archive', base + at, 'the end of its directory');
  if (at + kRecordBytes > view.byteLength) throw cut();
  need(source, view, at, 'PK\x01\x02', 'an entry of the archive', base);
  const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [number, number, number];
  const extra = at + kRecordBytes + nameBytes;
  const next = extra + extraBytes + commentBytes;
  if (next > view.byteLength) throw cut();
  const name = Buffer.from(view.buffer, view.byteOffset + at + kRecordBytes, nameBytes).toString('utf8');
  const sizes = widened(
    view,
    [24, 20, 42].map((field) => view.getUint32(at + field, true)),
    extra,
    extraBytes,
  );
  const [size, packed, header] = sizes as [number, number, number];
  if (sizes.includes(Number.NaN)) throw corrupt(source.name, `the 64-bit sizes of ${show(name)}`, base + at, 'none');
  const isEncrypted = (view.getUint16(at + 8, true) & 1) !== 0;
  const method = view.getUint16(at + 10, true);
  const packing = isEncrypted ? 'encrypted' : method !== 0 ? `compressed (method ${method})` : undefined;
  if (!packing && size !== packed) throw corrupt(source.name, `${size} bytes of ${show(name)}`, base + at, `${packed}`);
  return { entry: { name, size, crc: view.getUint32(at + 16, true), header, packing }, next };
}

/** Of the fields that are too small for their values the values, in order; NaN where they are missing. */
function widened(view: DataView, fields: readonly number[], extra: number, extraBytes: number): number[] {
  let [at, left] = [0, 0];
  for (let field = extra; field + 4 <= extra + extraBytes; field += 4 + view.getUint16(field + 2, true)) {
    if (view.getUint16(field, true) !== kZip64) continue;
    at = field + 4;
    left = Math.min(view.getUint16(field + 2, true), extra + extraBytes - at);
    break;
  }
  return fields.map((value) => {
    if (value !== kElsewhere) return value;
    if (left < 8) return Number.NaN;
    left -= 8;
    at += 8;
    return Number(view.getBigUint64(at - 8, true));
  });
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const textAt = (view: DataView, at: number, length: number): string =>
  String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, length));

function need(source: ByteSource, view: DataView, at: number, signature: string, what: string, base: number): void {
  const found = textAt(view, at, 4);
  if (found !== signature) throw corrupt(source.name, what, base + at, show(found));
}
