// A CSV file that lists pictures. A row that is no picture gets a reason; a file that is no table is refused with its line.
import type { Readable } from 'node:stream';
import { type ComFaceError, show } from '../errors.js';
import { type Point, pointCounts } from './align.js';
import { columnsOf, csvError, readCsv, surplusOf } from './csv.js';
import { type Described, described, numberOf } from './described.js';

const kHint = 'The first line names the columns: path, subject, alpha (or label) and, if there is more than one, attribute.';

/**
 * Reads a CSV file: of each line its path, or its number, with what is known of the picture, or why it cannot be used.
 *
 * @param bytes Of the file: UTF-8, or UTF-16 with a mark at its beginning.
 * @param attribute Of pictures that name none.
 * @throws ComFaceError CORRUPT_FILE with the line where the text is no table of pictures, IO.
 */
export async function* readTable(file: string, bytes: Readable, attribute: string): AsyncGenerator<[string, Described | string]> {
  let columns: Columns | undefined;
  for await (const { cells, line } of readCsv(file, bytes, kHint)) {
    if (columns) yield columns.read(cells, line, attribute);
    else columns = new Columns(cells, (why) => csvError(file, 1, why, kHint));
  }
}

/** The columns that a table has. */
class Columns {
  readonly #count: number;
  readonly #places: ReadonlyMap<string, number>;
  readonly #measure: string;
  readonly #coordinates: readonly string[];

  constructor(names: readonly string[], corrupt: (text: string) => ComFaceError) {
    const shown = show(names.join(','));
    this.#places = columnsOf(names, ['path', 'subject'], corrupt);
    this.#count = names.length;
    const [measure, ...others] = ['alpha', 'label'].filter((name) => this.#places.has(name));
    if (measure === undefined || others.length > 0) throw corrupt(`expected a column \`alpha\` or \`label\` but found ${shown}`);
    this.#measure = measure;
    const points = names.filter((name) => /^[xy]\d+$/.test(name)).length / 2;
    const isScheme = points === 0 || pointCounts.includes(points);
    this.#coordinates = isScheme ? Array.from({ length: points }, (_, i) => [`x${i + 1}`, `y${i + 1}`]).flat() : [];
    if (!isScheme || !this.#coordinates.every((name) => this.#places.has(name)))
      throw corrupt(`expected landmarks x1,y1 to xN,yN with N = ${pointCounts.join(', ')} but found ${points} points`);
  }

  read(row: readonly string[], line: number, attribute: string): [path: string, described: Described | string] {
    const path = this.#cell(row, 'path');
    const found = this.#describe(row, attribute);
    return [path || `line ${line}`, typeof found === 'string' ? `line ${line}: ${found}` : found];
  }

  #cell(row: readonly string[], name: string): string {
    return row[this.#places.get(name) ?? this.#count] ?? '';
  }

  #describe(row: readonly string[], attribute: string): Described | string {
    const path = this.#cell(row, 'path');
    if (path === '') return 'it has no path';
    if (path.includes('\0')) return 'its path holds a NUL';
    const surplus = surplusOf(row, this.#count);
    if (surplus !== undefined) return surplus;
    const text = this.#cell(row, this.#measure);
    const alpha = numberOf(text);
    if (alpha === undefined) return `expected a number for ${this.#measure} but found ${show(text)}`;
    const picture = described(this.#cell(row, 'subject'), this.#cell(row, 'attribute') || attribute, alpha);
    if (typeof picture === 'string' || this.#coordinates.length === 0) return picture;
    const numbers = this.#coordinates.map((name) => numberOf(this.#cell(row, name)));
    const wrong = numbers.indexOf(undefined);
    if (wrong >= 0) return `landmark ${(wrong >> 1) + 1} is not two numbers`;
    const landmarks = Array.from({ length: numbers.length / 2 }, (_, i) => [numbers[2 * i], numbers[2 * i + 1]]);
    return { ...picture, landmarks: landmarks as unknown as Point[] };
  }
}
