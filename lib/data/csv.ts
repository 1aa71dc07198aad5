// CSV files that people bring: their text in a known encoding, the names of their columns, their cells. A file that is no table is refused with its
// line; what the cells mean is for who asked.
import { Readable } from 'node:stream';
import { parse } from 'csv-parse';
import { ComFaceError, messageOf, show } from '../errors.js';
import { type Point, pointCounts } from './align.js';
import { numberOf } from './described.js';

/** Of a line; one with 68 landmarks has a thousand. */
const kLineBytes = 1 << 16;
const kHint =
  'The first line names the columns: path, subject, alpha (or label) and, if there is more than one, attribute; docs/tasks.md shows those of dialysis.';

/** The cells of a line, and which it is. */
export interface Row {
  cells: readonly string[];
  line: number;
}

/** A CSV file whose first line was read. */
export interface Csv {
  file: string;
  names: readonly string[];
  /** What a right file is like, for messages. */
  hint: string;
  /** All but the first, once. */
  rows: AsyncGenerator<Row, void>;
}

/**
 * Begins to read a CSV file.
 *
 * @param bytes Of the file: UTF-8, or UTF-16 with a mark at its beginning.
 * @param hint What a right file is like. @default that of a list of pictures
 * @throws ComFaceError CORRUPT_FILE with the line where the text is no table, as the rows do later on; IO.
 */
export async function openCsv(file: string, bytes: Readable, hint = kHint): Promise<Csv> {
  const rows = rowsOf(file, bytes, hint);
  const first = await rows.next();
  if (first.done) throw corruptCsv({ file, hint }, 1, 'expected the names of the columns but the file is empty');
  return { file, names: first.value.cells, hint, rows };
}

async function* rowsOf(file: string, bytes: Readable, hint: string): AsyncGenerator<Row, void> {
  const parser = parse({ trim: true, skip_empty_lines: true, relax_column_count: true, info: true, max_record_size: kLineBytes });
  const text = Readable.from(decoded(file, bytes));
  text.on('error', (cause) => parser.destroy(cause)); // pipe() does not pass it on
  try {
    for await (const { record, info } of text.pipe(parser) as AsyncIterable<{ record: string[]; info: { lines: number } }>)
      yield { cells: record, line: info.lines };
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    const { lines } = cause as { lines?: number };
    if (lines === undefined) throw new ComFaceError('IO', `Cannot read ${file}: ${messageOf(cause)}`, { hint: 'Check the file.', cause });
    throw corruptCsv({ file, hint }, lines, messageOf(cause));
  } finally {
    bytes.destroy();
  }
}

/** For a file that is not such a table. */
export const corruptCsv = ({ file, hint }: Pick<Csv, 'file' | 'hint'>, line: number, text: string): ComFaceError =>
  new ComFaceError('CORRUPT_FILE', `${file}:${line}: ${text}`, { hint });

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

/** The columns that a file has, by name. */
export class Columns {
  readonly #count: number;
  readonly #places: ReadonlyMap<string, number>;
  readonly #coordinates: readonly string[];

  /**
   * @param needed Names that have to be there.
   * @param hasLandmarks Whether columns x1,y1,... are landmarks.
   * @throws ComFaceError CORRUPT_FILE.
   */
  constructor(csv: Pick<Csv, 'file' | 'names' | 'hint'>, needed: readonly string[], hasLandmarks = true) {
    const { names } = csv;
    const shown = show(names.join(','));
    const separator = /[;\t|]/.exec(names.join(''))?.[0];
    if (separator !== undefined && !needed.every((name) => names.includes(name)))
      throw corruptCsv(csv, 1, `expected commas between the columns but found ${show(separator)}`);
    const named = names.flatMap((name, place) => (name === '' ? [] : [[name, place] as const]));
    this.#places = new Map(named);
    this.#count = names.length;
    for (const name of needed) if (!this.has(name)) throw corruptCsv(csv, 1, `expected a column \`${name}\` but found ${shown}`);
    if (this.#places.size < named.length) throw corruptCsv(csv, 1, `expected each column once but found ${shown}`);
    const points = hasLandmarks ? names.filter((name) => /^[xy]\d+$/.test(name)).length / 2 : 0;
    const isScheme = points === 0 || pointCounts.includes(points);
    this.#coordinates = isScheme ? Array.from({ length: points }, (_, i) => [`x${i + 1}`, `y${i + 1}`]).flat() : [];
    if (!isScheme || !this.#coordinates.every((name) => this.has(name)))
      throw corruptCsv(csv, 1, `expected landmarks x1,y1 to xN,yN with N = ${pointCounts.join(', ')} but found ${points} points`);
  }

  has(name: string): boolean {
    return this.#places.has(name);
  }

  /** Empty where there is no such column. */
  cell(cells: readonly string[], name: string): string {
    return cells[this.#places.get(name) ?? this.#count] ?? '';
  }

  /** What is wrong with a line whatever it says. @param name Of the column that has the path. */
  faultOf(cells: readonly string[], name: string): string | undefined {
    const path = this.cell(cells, name);
    const word = name === 'image_path' ? 'path' : name;
    if (path === '') return `it has no ${word}`;
    if (path.includes('\0')) return `its ${word} holds a NUL`;
    if (cells.slice(this.#count).some((cell) => cell !== ''))
      return `it has ${cells.length} cells in ${this.#count} columns; quote what holds a comma`;
    return undefined;
  }

  /** The landmarks of a line, nothing where the file has none, or what is wrong with them. */
  landmarks(cells: readonly string[]): readonly Point[] | undefined | string {
    if (this.#coordinates.length === 0) return undefined;
    const numbers = this.#coordinates.map((name) => numberOf(this.cell(cells, name)));
    const wrong = numbers.indexOf(undefined);
    if (wrong >= 0) return `landmark ${(wrong >> 1) + 1} is not two numbers`;
    return Array.from({ length: numbers.length / 2 }, (_, i) => [numbers[2 * i]!, numbers[2 * i + 1]!]);
  }
}

/** A line of a CSV file, quoted where it has to be. */
export function csvLine(cells: readonly (string | number)[]): string {
  const quoted = (text: string) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return `${cells.map((cell) => quoted(String(cell))).join(',')}\n`;
}
