// A CSV file that lists pictures. A row that is no picture gets a reason; a file that is no table is refused with its line.
import { Readable } from 'node:stream';
import { parse } from 'csv-parse';
import { ComFaceError, messageOf, show } from '../errors.js';
import { type Point, pointCounts } from './align.js';
import { type Described, described, numberOf } from './described.js';

const kLineBytes = 1 << 20;

/**
 * Reads a CSV file: of each line its path, or its number, with what is known of the picture, or why it cannot be used.
 *
 * @param bytes Of the file: UTF-8, or UTF-16 with a mark at its beginning.
 * @param attribute Of pictures that name none.
 * @throws ComFaceError CORRUPT_FILE with the line where the text is no table of pictures, IO.
 */
export async function* readTable(file: string, bytes: Readable, attribute: string): AsyncGenerator<[string, Described | string]> {
  const parser = parse({ trim: true, skip_empty_lines: true, relax_column_count: true, info: true, max_record_size: kLineBytes });
  const text = Readable.from(decoded(file, bytes));
  text.on('error', (cause) => parser.destroy(cause)); // pipe() does not pass it on
  let columns: Columns | undefined;
  try {
    for await (const { record, info } of text.pipe(parser) as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
      if (columns) yield columns.read(record, info.lines, attribute);
      else columns = new Columns(record, (why) => corrupt(file, 1, why));
    }
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    const { lines } = cause as { lines?: number };
    if (lines === undefined) throw new ComFaceError('IO', `Cannot read ${file}: ${messageOf(cause)}`, { hint: 'Check the file.', cause });
    throw corrupt(file, lines, messageOf(cause));
  } finally {
    bytes.destroy();
  }
  if (!columns) throw corrupt(file, 1, 'expected the names of the columns but the file is empty');
}

const corrupt = (file: string, line: number, text: string) =>
  new ComFaceError('CORRUPT_FILE', `${file}:${line}: ${text}`, {
    hint: 'The first line names the columns: path, subject, alpha (or label) and, if there is more than one, attribute.',
  });

/** Text that is in no known encoding would give people other names, and the same one to several. */
async function* decoded(file: string, bytes: Readable): AsyncGenerator<string> {
  let decoder: InstanceType<typeof TextDecoder> | undefined;
  let line = 1;
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) {
      decoder ??= new TextDecoder(chunk[0] === 0xff && chunk[1] === 0xfe ? 'utf-16le' : 'utf-8', { fatal: true });
      const text = decoder.decode(chunk, { stream: true });
      yield text;
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) line++;
    }
    yield decoder?.decode() ?? '';
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new ComFaceError('CORRUPT_FILE', `${file}: expected UTF-8 text but found other bytes at line ${line} or later`, {
      hint: 'Save the list as "CSV UTF-8".',
      cause,
    });
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
    const separator = /[;\t|]/.exec(names.join(''))?.[0];
    if (separator !== undefined && !names.includes('path'))
      throw corrupt(`expected commas between the columns but found ${show(separator)}`);
    const named = names.flatMap((name, place) => (name === '' ? [] : [[name, place] as const]));
    this.#places = new Map(named);
    this.#count = names.length;
    for (const name of ['path', 'subject']) if (!this.#places.has(name)) throw corrupt(`expected a column \`${name}\` but found ${shown}`);
    if (this.#places.size < named.length) throw corrupt(`expected each column once but found ${shown}`);
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
    if (row.slice(this.#count).some((cell) => cell !== ''))
      return `it has ${row.length} cells in ${this.#count} columns; quote what holds a comma`;
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
