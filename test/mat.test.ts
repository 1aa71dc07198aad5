// MATLAB files of level 5 and .pts files: what landmarks come in, read bounds first; whatever is wrong with one is said in words.
import { deflateSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { readMatrix } from '../lib/data/mat.ts';
import { parsePoints } from '../lib/data/pts.ts';
import { type MatStyle, matElement, matFile, matHead, ptsText, xm2vts } from './tasks.ts';

const numbers = [1, -2, 3, 40, 500, -6000];

describe('a MATLAB file', () => {
  test.each<[string, MatStyle]>([
    ['of doubles', {}],
    ['of singles', { type: 7, kind: 7 }],
    ['of doubles that MATLAB stored in 16 bits', { type: 3 }],
    ['from a big endian machine', { isBig: true }],
    ['that is compressed', { isCompressed: true }],
    ['that is compressed, of singles, from a big endian machine', { isCompressed: true, isBig: true, type: 7 }],
  ])('%s is read, column by column', (_, style) => {
    expect(readMatrix(matFile('pts', 3, 2, numbers, style), 'pts')).toEqual({ rows: 3, columns: 2, data: Float64Array.from(numbers) });
  });

  test('may hold other things before and behind, in a larger buffer, with any length of name', () => {
    const other = matElement('another', 1, 1, [7]);
    const text = matElement('s', 1, 3, [65, 66, 67], { kind: 4, type: 3 });
    const bytes = Buffer.concat([Buffer.alloc(3), matHead(), other, text, matElement('landmark_points', 3, 2, numbers), other]);
    expect(readMatrix(bytes.subarray(3), 'landmark_points')).toMatchObject({ rows: 3, columns: 2 });
    expect(readMatrix(bytes.subarray(3), 'pts')).toBe('it has no variable "pts"');
    expect(readMatrix(bytes.subarray(3), 's')).toBe('"s" is no matrix of numbers but of kind char');
  });

  test('may hold several that are compressed, one right behind the other', () => {
    const style = { isCompressed: true };
    const variables = ['a', 'bcd', 'pts'].map((name, i) =>
      matFile(
        name,
        3,
        2,
        numbers.map((n) => n * 7 ** i),
        style,
      ).subarray(128),
    );
    expect(variables.some(({ length }) => length % 8 !== 0)).toBe(true);
    expect(readMatrix(Buffer.concat([matHead(), ...variables]), 'pts')).toMatchObject({ data: Float64Array.from(numbers, (n) => n * 49) });
  });

  const good = matFile('pts', 3, 2, numbers);
  const patched = (at: number, value: number) => {
    const bytes = Buffer.from(good);
    bytes.writeUInt32LE(value, at);
    return bytes;
  };
  const hdf = Buffer.alloc(600);
  hdf.write('MATLAB 7.3 MAT-file, Platform: GLNXA64');
  const bomb = deflateSync(Buffer.alloc(2 ** 22));
  const packed = (bytes: Buffer) => {
    const tag = Buffer.alloc(8);
    tag.writeUInt32LE(15, 0);
    tag.writeUInt32LE(bytes.length, 4);
    return Buffer.concat([matHead(), tag, bytes]);
  };

  test.each<[string, Buffer, string]>([
    ['nothing', Buffer.alloc(0), 'expected a MATLAB file of level 5 but found 0 bytes'],
    ['text', Buffer.alloc(300, 0x61), 'it is no MATLAB file of level 5'],
    ['one of 7.3', hdf, 'it is of MATLAB 7.3 (HDF5): save it with -v7'],
    ['plain HDF5', Buffer.from('\x89HDF\r\n\x1a\n', 'latin1'), 'it is of MATLAB 7.3 (HDF5): save it with -v7'],
    ['one whose head says 7.3', matHead({}, 0x200), 'it is of MATLAB 7.3 (HDF5): save it with -v7'],
    ['one of another level', matHead({ isBig: true }, 0x300), 'expected a MATLAB file of level 5 but found version 768'],
    ['an empty one', matHead(), 'it has no variable "pts"'],
    ['half of one', good.subarray(0, good.length - 9), 'it ends in the middle: 87 of 96 bytes'],
    ['one that ends in a tag', good.subarray(0, 132), 'it ends in the middle: 4 bytes for a tag of 8'],
    ['a matrix of 4 GiB', patched(132, 0xffffffff), 'it ends in the middle: 96 of 4294967295 bytes'],
    ['a matrix of more rows than numbers', patched(160, 1000), 'expected 2000 numbers of 8 bytes but found 48 bytes'],
    ['one of 2^31 rows', patched(160, 0x7fffffff), 'expected 4294967294 numbers of 8 bytes but found 48 bytes'],
    ['one of less than no rows', patched(160, 0xffffffff), 'expected a matrix of rows and columns but found sizes -1 x 2'],
    ['complex numbers', patched(144, 0x806), '"pts" has complex numbers'],
    ['a sparse matrix', patched(144, 5), '"pts" is no matrix of numbers but of kind sparse'],
    ['numbers of an unknown type', patched(176, 8), 'numbers of an unknown type 8'],
    ['a head without sizes', patched(152, 9), 'the head of a variable is damaged'],
    ['a short element that is long', patched(136, 0x50006), 'a short element of 5 bytes'],
    ['damaged compression', packed(Buffer.from('no zlib here')), 'what is compressed in it is damaged'],
    ['a bomb', packed(bomb), 'what is compressed in it becomes more than 262144 bytes'],
    ['a large file', Buffer.alloc(2 ** 18 + 1), 'expected at most 262144 bytes but found 262145'],
    [
      'many variables',
      Buffer.concat([matHead(), ...Array.from({ length: 65 }, () => matElement('x', 1, 1, [1]))]),
      'it has more than 64 variables',
    ],
  ])('that is %s is refused in words', (_, bytes, reason) => {
    expect(readMatrix(bytes, 'pts')).toBe(reason);
  });
});

describe('a .pts file', () => {
  test.each(['\n', '\r\n', '\r'])('is read whatever its lines end in: %j', (end) => {
    expect(parsePoints(ptsText(xm2vts(), end))).toEqual(xm2vts());
  });

  test.each([
    ['', 'expected "version: 1", "n_points: N" and "{" at its beginning'],
    ['n_points: 1\n{\n1 2\n}', 'expected "version: 1", "n_points: N" and "{" at its beginning'],
    ['version: 1\nn_points: 2\n{\n1 2\n', 'expected "}" at its end: it is incomplete'],
    ['version: 1\nn_points: 2\n{\n1 2\n}\n', 'expected 2 points of two numbers but found 2 numbers'],
    ['version: 1\nn_points: 2\n{\n}\n', 'expected 2 points of two numbers but found 0 numbers'],
    ['version: 1\nn_points: 2\n{\n1 2\n3 0x4\n}\n', 'point 1: expected a number but found "0x4"'],
    ['version: 1\nn_points: 2\n{\n1 2\n3 1e999\n}\n', 'point 1: expected a number but found "1e999"'],
    ['version: 1\nn_points: 2\n{\n1 2\n3 4\n}\n5 6', 'there is more behind its "}"'],
    ['version: 1\nn_points: 0\n{\n}\n', 'expected 1 to 1000 points but found n_points: 0'],
    ['version: 1\nn_points: 100000000\n{\n}\n', 'expected 1 to 1000 points but found n_points: 100000000'],
  ])('that is %j is refused in words', (text, reason) => {
    expect(parsePoints(text)).toBe(reason);
  });
});
