// A CSV file that lists pictures by subject and alpha. A row that is no picture gets a reason; a file that is no table is refused with its line.
import type { Readable } from 'node:stream';
import { show } from '../errors.js';
import { Columns, type Csv, corruptCsv, openCsv } from './csv.js';
import { type Described, described, numberOf } from './described.js';

/**
 * Reads a CSV file: of each line its path, or its number, with what is known of the picture, or why it cannot be used.
 *
 * @param bytes Of the file: UTF-8, or UTF-16 with a mark at its beginning.
 * @param attribute Of pictures that name none.
 * @throws ComFaceError CORRUPT_FILE with the line where the text is no table of pictures, IO.
 */
export async function* readTable(file: string, bytes: Readable, attribute: string): AsyncGenerator<[string, Described | string]> {
  yield* picturesOf(await openCsv(file, bytes), attribute);
}

/** The same of a file whose first line was read. */
export async function* picturesOf(csv: Csv, attribute: string): AsyncGenerator<[string, Described | string]> {
  try {
    const columns = new Columns(csv, ['path', 'subject']);
    const [measure, ...others] = ['alpha', 'label'].filter((name) => columns.has(name));
    if (measure === undefined || others.length > 0)
      throw corruptCsv(csv, 1, `expected a column \`alpha\` or \`label\` but found ${show(csv.names.join(','))}`);
    for await (const { cells, line } of csv.rows) {
      const found = describe(columns, cells, measure, attribute);
      yield [columns.cell(cells, 'path') || `line ${line}`, typeof found === 'string' ? `line ${line}: ${found}` : found];
    }
  } finally {
    await csv.rows.return(); // closes the file
  }
}

function describe(columns: Columns, cells: readonly string[], measure: string, attribute: string): Described | string {
  const fault = columns.faultOf(cells, 'path');
  if (fault !== undefined) return fault;
  const text = columns.cell(cells, measure);
  const alpha = numberOf(text);
  if (alpha === undefined) return `expected a number for ${measure} but found ${show(text)}`;
  const landmarks = columns.landmarks(cells);
  if (typeof landmarks === 'string') return landmarks;
  const [subject, session] = [columns.cell(cells, 'subject'), columns.cell(cells, 'session')];
  return described(subject, columns.cell(cells, 'attribute') || attribute, alpha, { landmarks, session });
}
