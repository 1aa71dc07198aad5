// CSV files that people bring and that we leave: rows as they are, each with its line. A file that is no text is refused with its line.
import { Readable } from 'node:stream';
import { parse } from 'csv-parse';
import { ComFaceError, messageOf, show } from '../errors.js';

const kLineBytes = 1 << 20;

/** A row of a CSV file. */
export interface CsvRow {
  cells: string[];
  /** Of the file, from 1. */
  line: number;
}

/**
 * Reads the rows of a CSV file, the first with the names of its columns; empty lines are left out.
 *
 * @param bytes Of the file: UTF-8, or UTF-16 with a mark at its beginning.
 * @param hint What a right file is like.
 * @throws ComFaceError CORRUPT_FILE with the line where the text is no table, IO.
 */
export async function* readCsv(file: string, bytes: Readable, hint: string): AsyncGenerator<CsvRow> {
  const parser = parse({ trim: true, skip_empty_lines: true, relax_column_count: true, info: true, max_record_size: kLineBytes });
  const text = Readable.from(decoded(file, bytes));
  text.on('error', (cause) => parser.destroy(cause)); // pipe() does not pass it on
  let isEmpty = true;
  try {
    for await (const { record, info } of text.pipe(parser) as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
      isEmpty = false;
      yield { cells: record, line: info.lines };
    }
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    const { lines } = cause as { lines?: number };
    if (lines === undefined) throw new ComFaceError('IO', `Cannot read ${file}: ${messageOf(cause)}`, { hint: 'Check the file.', cause });
    throw csvError(file, lines, messageOf(cause), hint);
  } finally {
    bytes.destroy();
  }
  if (isEmpty) throw csvError(file, 1, 'expected the names of the columns but the file is empty', hint);
}

/** CORRUPT_FILE with the line. */
export const csvError = (file: string, line: number, text: string, hint: string): ComFaceError =>
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

/**
 * The place of each column that has a name.
 *
 * @param needed Columns that have to be there.
 * @param fail Makes the error of a text.
 */
export function columnsOf(names: readonly string[], needed: readonly string[], fail: (text: string) => ComFaceError): Map<string, number> {
  const shown = show(names.join(','));
  const separator = /[;\t|]/.exec(names.join(''))?.[0];
  if (separator !== undefined && !names.includes(needed[0]!))
    throw fail(`expected commas between the columns but found ${show(separator)}`);
  const named = names.flatMap((name, place) => (name === '' ? [] : [[name, place] as const]));
  const places = new Map(named);
  for (const name of needed) if (!places.has(name)) throw fail(`expected a column \`${name}\` but found ${shown}`);
  if (places.size < named.length) throw fail(`expected each column once but found ${shown}`);
  return places;
}

/** What is wrong with a row of more cells than there are columns, or undefined. */
export function surplusOf(cells: readonly string[], columns: number): string | undefined {
  const isSurplus = cells.slice(columns).some((cell) => cell !== '');
  return isSurplus ? `it has ${cells.length} cells in ${columns} columns; quote what holds a comma` : undefined;
}

/** Cells as a line of a CSV file. */
export function csvLine(cells: readonly (string | number)[]): string {
  const quoted = (text: string) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return `${cells.map((cell) => quoted(String(cell))).join(',')}\n`;
}
