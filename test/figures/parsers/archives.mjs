// @ts-check
// Makes weights files around any bytes, right or wrong on purpose: zip archives as torch writes them, its older streams, pickles in letters.
import { Buffer } from 'node:buffer';
import { crc32 } from 'node:zlib';

/** Bytes by their Latin-1 characters. */
export const latin1 = (/** @type {string} */ text) => Buffer.from(text, 'latin1');

/** @param {number} value @param {number} bytes */
export function little(value, bytes) {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out.subarray(0, bytes);
}

/**
 * @typedef {object} ZipOptions
 * @property {boolean} [is64] With records of 64 bits throughout.
 * @property {number} [method] 0: stored.
 * @property {number} [flags]
 * @property {(name: string, bytes: Uint8Array) => number} [sum] The checksum that stands in the archive.
 * @property {string} [comment]
 */

/** An archive of stored entries. @param {readonly (readonly [name: string, bytes: Uint8Array])[]} entries @param {ZipOptions} [options] */
export function storedZip(entries, { is64 = false, method = 0, flags = 0, sum = (_, bytes) => crc32(bytes), comment = '' } = {}) {
  const parts = [];
  const records = [];
  let at = 0;
  for (const [name, bytes] of entries) {
    const word = Buffer.from(name);
    const crc = little(sum(name, bytes), 4);
    const same = [little(flags, 2), little(method, 2), little(0, 4), crc];
    const size = little(bytes.length, 4);
    const header = [
      latin1('PK\x03\x04'),
      little(20, 2),
      ...same,
      size,
      size,
      little(word.length, 2),
      little(3, 2),
      word,
      latin1('pad'),
      bytes,
    ];
    const wide = Buffer.concat([little(1, 2), little(24, 2), little(bytes.length, 8), little(bytes.length, 8), little(at, 8)]);
    const narrow = is64 ? [little(0xffffffff, 4), little(0xffffffff, 4)] : [size, size];
    records.push(
      ...[latin1('PK\x01\x02'), little(20, 2), little(20, 2), ...same, ...narrow, little(word.length, 2), little(is64 ? 28 : 0, 2)],
      ...[little(0, 10 - 2), little(0, 2), is64 ? little(0xffffffff, 4) : little(at, 4), word, ...(is64 ? [wide] : [])],
    );
    parts.push(...header);
    at += Buffer.concat(header).length;
  }
  const directory = Buffer.concat(records);
  const counts = (/** @type {number} */ bytes) => [little(entries.length, bytes), little(entries.length, bytes)];
  const end64 = [
    ...[latin1('PK\x06\x06'), little(44, 8), little(45, 2), little(45, 2), little(0, 8), ...counts(8)],
    ...[little(directory.length, 8), little(at, 8), latin1('PK\x06\x07'), little(0, 4), little(at + directory.length, 8), little(1, 4)],
  ];
  const end = [
    ...[latin1('PK\x05\x06'), little(0, 4), ...counts(2), little(directory.length, 4), little(is64 ? 0xffffffff : at, 4)],
    ...[little(comment.length, 2), latin1(comment)],
  ];
  return Buffer.concat([...parts, directory, ...(is64 ? end64 : []), ...end]);
}

/** An archive of torch. @param {Uint8Array} pickle @param {Record<string, Uint8Array>} [storages] @param {ZipOptions & { order?: string }} [options] */
export function torchZip(pickle, storages = {}, { order = 'little', ...options } = {}) {
  return storedZip(
    [
      ['archive/data.pkl', pickle],
      ['archive/byteorder', latin1(order)],
      ...Object.entries(storages).map(([key, bytes]) => /** @type {const} */ ([`archive/data/${key}`, bytes])),
      ['archive/version', latin1('3\n')],
    ],
    options,
  );
}

export const streamMagic = latin1('\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.');

/** A stream of torch. @param {Uint8Array} pickle @param {readonly [key: string, count: number, bytes: Uint8Array][]} [storages] @param {boolean} [isLittle] */
export function torchStream(pickle, storages = [], isLittle = true) {
  const keys = storages.map(([key]) => `X${little(key.length, 4).toString('latin1')}${key}`).join('');
  return Buffer.concat([
    ...[streamMagic, latin1(`\x80\x02}X\x0d\0\0\0little_endian${isLittle ? '\x88' : '\x89'}s.`), pickle, latin1(`\x80\x02](${keys}e.`)],
    ...storages.flatMap(([, count, bytes]) => [little(count, 8), bytes]),
  ]);
}

/** The opcodes of an integer. @param {number} value */
const integer = (value) => (value < 256 ? `K${String.fromCharCode(value)}` : `\x8a\x08${little(value, 8).toString('latin1')}`);
const tuple = (/** @type {readonly number[]} */ values) => `(${values.map(integer).join('')}t`;

/**
 * The opcodes of a tensor over storage `key`.
 * @param {{ key?: string, type?: string, count: number, offset?: number, shape: readonly number[], strides: readonly number[], part?: string }} tensor
 */
export function tensorOpcodes({ key = '0', type = 'FloatStorage', count, offset = 0, shape, strides, part = '' }) {
  const id = `(X\x07\0\0\0storagectorch\n${type}\nX${little(key.length, 4).toString('latin1')}${key}X\x03\0\0\0cpu${integer(count)}${part}tQ`;
  return `ctorch._utils\n_rebuild_tensor_v2\n(${id}${integer(offset)}${tuple(shape)}${tuple(strides)}\x89ccollections\nOrderedDict\n)RtR`;
}

/** A pickle of protocol 2: a dict with these opcodes under the name `a`. @param {string} opcodes */
export const dictPickle = (opcodes) => latin1(`\x80\x02}(X\x01\0\0\0a${opcodes}u.`);
