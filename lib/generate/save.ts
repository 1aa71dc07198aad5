// Writes a direction as an array of NumPy, and into the manifest.json beside it what it belongs to: without that nobody could use it.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { checkText } from '../check.js';
import { writeWhole } from '../data/shards.js';
import { ComFaceError, invalid, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';
import { encodeNpy } from '../use/npy.js';
import { checkedDirection, type Direction, entryOf } from './directions.js';

/**
 * Writes a direction, and what it is into a `manifest.json` beside it.
 *
 * @param given The direction, of which generator and space are known.
 * @param file Where it goes: a .npy file, replaced when it is there.
 * @returns it as it is there.
 * @throws ComFaceError INVALID_INPUT for one of which generator or space are not known, CORRUPT_FILE for a manifest that is none, IO.
 */
export async function saveDirection(given: Direction, file: string): Promise<Direction> {
  const direction = checkedDirection('direction', given);
  checkText('out', file);
  if (!file.endsWith('.npy')) throw invalid('out', 'a name that ends in .npy', file, 'Name a .npy file.');
  const { generator, space, values, rows, width } = direction;
  if (generator === null || space === null)
    throw invalid('direction', 'one with generator and space', basename(direction.file), 'Give them: --generator and --space.');
  const path = resolve(file);
  const bytes = Buffer.from(encodeNpy(values, rows, width));
  const saved: Direction = { ...direction, file: path, sha256: createHash('sha256').update(bytes).digest('hex') };
  const folder = dirname(path);
  const manifest = withEntry(join(folder, 'manifest.json'), saved);
  try {
    await makeFolder(folder);
    await writeWhole(folder, basename(path), bytes);
    await writeWhole(folder, 'manifest.json', manifest);
  } catch (cause) {
    throw new ComFaceError('IO', `Cannot write ${path}: ${messageOf(cause)}`, { hint: 'Check the folder and its permissions.', cause });
  }
  return saved;
}

/** The text of the manifest with this direction in it, in place of one of that name. */
function withEntry(path: string, direction: Direction): string {
  const entry = entryOf(direction);
  let known: { files?: unknown } = {};
  try {
    if (existsSync(path)) known = JSON.parse(readFileSync(path, 'utf8')) as typeof known;
  } catch (cause) {
    throw new ComFaceError('CORRUPT_FILE', `${path}: it is not JSON (${messageOf(cause)})`, { hint: 'Write into another folder.', cause });
  }
  const files = known?.files ?? [];
  if (!Array.isArray(files))
    throw new ComFaceError('CORRUPT_FILE', `${path}: it is no list of directions`, { hint: 'Write into another folder.' });
  const others = files.filter((each: { file?: unknown } | null) => each?.file !== entry.file);
  return `${JSON.stringify({ ...known, files: [...others, entry] }, null, 1)}\n`;
}
