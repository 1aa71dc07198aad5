// A contact sheet to look at before a data set is made: one row a person, their pictures of each attribute and alpha side by side.
import { checkInteger, checkObject, numbersOf, textsOf } from '../check.js';
import { invalid } from '../errors.js';
import { native, workerCount } from '../native.js';
import { attributeIndex } from './attributes.js';

/** What to draw on a sheet. */
export interface SheetOptions {
  /** Number of rows, one a person. */
  subjects: number;
  /** Number of the first person. @default 0 */
  firstSubject?: number;
  /** Names of attributes: a group of columns each, in this order. */
  attributes: readonly string[];
  /** How far the attribute is changed in each column of a group, in [-5, 5]. */
  alphas: readonly number[];
  /** Edge of one picture in pixels, 32 to 512. @default 96 */
  size?: number;
  /** Decides every picture: an integer from 0 to 2^53 - 1. @default 1 */
  seed?: number;
  /** 0 or 1: two families of camera, light and background. @default 0 */
  domain?: number;
  /** One pose and light for the whole row, so that only the attribute changes. @default false */
  samePhoto?: boolean;
}

const kGap = 4;
/** A JPEG has at most 65,500; the gaps need some of them. */
const kMaxEdge = 60_000;

/**
 * Draws people who do not exist as one JPEG, to look at before a set is made: a row for each subject, a column for each attribute and alpha.
 *
 * @returns the bytes of the JPEG.
 * @throws ComFaceError INVALID_INPUT for an unknown attribute or a number out of range.
 */
export async function contactSheet(options: SheetOptions): Promise<Uint8Array> {
  checkObject('options', options);
  const { subjects, firstSubject = 0, size = 96, seed = 1, domain = 0, samePhoto = false } = options;
  const attributes = textsOf('attributes', options.attributes);
  const alphas = numbersOf('alphas', options.alphas, -5, 5);
  const columns = attributes.length * alphas.length;
  checkInteger('size', size, 32, 512);
  checkInteger('subjects', subjects, 1, Math.floor(kMaxEdge / size));
  if (columns < 1 || columns > kMaxEdge / size)
    throw invalid(
      'alphas',
      `1 to ${Math.floor(kMaxEdge / size)} columns of ${size} pixels`,
      columns,
      'Change the number of attributes or alphas.',
    );
  checkInteger('firstSubject', firstSubject, 0, 2 ** 32 - subjects);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('domain', domain, 0, 1);
  const cells = Array.from({ length: subjects * columns }, (_, i) => ({ row: Math.floor(i / columns), column: i % columns }));
  const { module } = native();
  const pixels = await module.drawFaces(
    {
      seed: BigInt(seed),
      subject: Uint32Array.from(cells, ({ row }) => firstSubject + row),
      photo: Uint32Array.from(cells, ({ column }) => (samePhoto ? 0 : column)),
      attribute: Int32Array.from(cells, ({ column }) => attributeIndex(attributes[Math.floor(column / alphas.length)]!)),
      alpha: Float32Array.from(cells, ({ column }) => alphas[column % alphas.length]!),
      domain,
      size,
    },
    workerCount(0),
  );
  return sheetOf(pixels, { rows: subjects, columns, size, group: alphas.length });
}

/** How pictures lie on a sheet. */
export interface Arrangement {
  rows: number;
  columns: number;
  /** Edge of a picture in pixels. */
  size: number;
  /** Columns that belong together. */
  group: number;
}

/** Puts packed RGB pictures, row after row, on one JPEG: a white gap between rows and between groups of columns, none inside. */
export function sheetOf(pixels: Uint8Array, { rows, columns, size, group }: Arrangement): Promise<Uint8Array> {
  const left = (column: number) => column * size + Math.floor(column / group) * kGap;
  const width = left(columns - 1) + size;
  const height = rows * size + (rows - 1) * kGap;
  const sheet = new Uint8Array(width * height * 3).fill(255);
  for (let i = 0; i < rows * columns; i++) {
    const [row, column] = [Math.floor(i / columns), i % columns];
    for (let y = 0; y < size; y++) {
      const from = (i * size + y) * size * 3;
      sheet.set(pixels.subarray(from, from + size * 3), ((row * (size + kGap) + y) * width + left(column)) * 3);
    }
  }
  return native().module.encodeJpeg(sheet, width, height, 88);
}
