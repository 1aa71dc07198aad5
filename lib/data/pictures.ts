// pictures.csv of a packed set: what each picture was, by its number. Patient-specific models and reports read it.
import { createReadStream, existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { checkText } from '../check.js';
import { ComFaceError } from '../errors.js';
import type { Listed } from './collector.js';
import { Columns, csvLine, openCsv } from './csv.js';
import { floatText } from './described.js';
import { readShards } from './shards.js';

export const kPicturesName = 'pictures.csv';
const kColumns = ['picture', 'subject', 'number', 'attribute', 'alpha', 'path', 'session', 'phase'];

/** What is known of the pictures of a packed set: lists with an entry for each, in the order of their numbers. */
export interface PictureNames {
  /** Name of the subject, as given. */
  subject: string[];
  /** When it was taken, such as a day of dialysis; empty where nothing is known. */
  session: string[];
  /** Part of the session, such as pre or post; empty where nothing is known. */
  phase: string[];
  /** The picture's path as it was listed, from the folder of pictures or of the CSV file. */
  path: string[];
}

/** The text of pictures.csv. @param subjects Their numbers. */
export function picturesText(pictures: readonly Listed[], subjects: ReadonlyMap<string, number>): string {
  const rows = pictures.map(({ subject, attribute, alpha, path, session = '', phase = '' }, index) =>
    csvLine([index, subject, subjects.get(subject)!, attribute, floatText(alpha), path, session, phase]),
  );
  return csvLine(kColumns) + rows.join('');
}

/**
 * Reads who, when and which file each picture of a packed set was.
 *
 * @param folder Folder of the set.
 * @throws ComFaceError CORRUPT_FILE where the list is not of this set; IO where it is missing, as in sets that `generate` makes.
 */
export async function readPictures(folder: string): Promise<PictureNames> {
  checkText('folder', folder);
  const data = await readShards(folder);
  const file = join(resolve(folder), kPicturesName);
  const hint = 'Pack the pictures again, into a new folder.';
  if (!existsSync(file))
    throw new ComFaceError('IO', `Cannot read ${file}: there is no such file`, { hint: 'Only `comface pack` writes one.' });
  const corrupt = (text: string) => new ComFaceError('CORRUPT_FILE', `${file}: ${text}`, { hint });
  const csv = await openCsv(file, createReadStream(file));
  const names: PictureNames = { subject: [], session: [], phase: [], path: [] };
  try {
    const columns = new Columns(csv, kColumns);
    for await (const { cells, line } of csv.rows) {
      const index = names.path.length;
      const [picture, attribute] = ['picture', 'attribute'].map((name) => columns.cell(cells, name));
      if (index >= data.count) throw corrupt(`expected ${data.count} pictures, as the set has, but found more`);
      if (picture !== String(index)) throw corrupt(`line ${line}: expected picture ${index} but found ${picture}`);
      const own = data.attributes[data.attributeOf(index)];
      if (attribute !== own) throw corrupt(`line ${line}: expected ${own}, as the set has, but found ${attribute}`);
      for (const name of ['subject', 'session', 'phase', 'path'] as const) names[name].push(columns.cell(cells, name));
    }
  } finally {
    await csv.rows.return(); // closes the file
  }
  if (names.path.length !== data.count) throw corrupt(`expected ${data.count} pictures, as the set has, but found ${names.path.length}`);
  return names;
}
