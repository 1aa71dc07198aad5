// Compares the pictures of one person over time: the change of each against the first, in order of date, as CSV.
//   node timeline.ts --pictures photos/anna --model run   JPEG files, cropped to the face, with their dates in their names:
//                                                         2026-03-09.jpg, IMG_20260309_071500.jpg
//   node timeline.ts                                      draws a person who gains weight over six weeks; --model run is what train.ts made
// Write it to a file with > changes.csv. A picture that cannot be used has the reason in place of a change.
import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ComFaceError, generate, loadModel } from 'comface';

const { values } = parseArgs({
  options: { pictures: { type: 'string' }, model: { type: 'string', default: 'run' } },
});

/** Six pictures of a drawn person, a week apart, heavier each time. */
async function draw(): Promise<string> {
  const { files } = await generate({
    ...{ out: 'person', format: 'files', subjects: 1, firstSubject: 1_000_000 },
    ...{ attributes: ['weight'], alphas: [-4, -2.5, -1, 0.5, 2, 3.5], size: 64 },
  });
  const folder = 'person-by-date';
  await mkdir(folder, { recursive: true });
  for (const [week, file] of files.entries()) {
    const date = new Date(Date.UTC(2026, 0, 5 + 7 * week)).toISOString().slice(0, 10);
    await copyFile(file, join(folder, `${date}.jpg`));
  }
  return folder;
}

/** JPEG files with the dates in their names, earliest first; those of a day are in the order of their names. */
async function byDate(folder: string): Promise<{ date: string; name: string }[]> {
  const dated: { date: string; name: string }[] = [];
  for (const name of (await readdir(folder)).sort()) {
    if (!/\.jpe?g$/i.test(name)) continue;
    const [, year, month, day] = /(?<!\d)((?:19|20)\d\d)[-_.]?([01]\d)[-_.]?([0-3]\d)(?!\d)/.exec(name) ?? [];
    if (day === undefined) console.error(`${name}: there is no date in its name, so it is left out`);
    else dated.push({ date: `${year}-${month}-${day}`, name });
  }
  return dated.sort((a, b) => (a.date < b.date ? -1 : a.date > b.date ? 1 : 0));
}

const quoted = (cell: string) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
const csv = (...cells: string[]) => console.log(cells.map(quoted).join(','));

async function main(): Promise<void> {
  const model = await loadModel(values.model);
  try {
    const folder = values.pictures ?? (await draw());
    if (!model.signed) console.error('This model knows how far a face has changed, not in which direction.');
    csv('date', 'picture', 'change', 'unit', 'direction', 'reason');
    let first: Float32Array | undefined;
    for (const { date, name } of await byDate(folder)) {
      try {
        const h = await model.embed([join(folder, name)]);
        first ??= h;
        const { change, unit, direction } = model.comparisonOf(first, h); // model.compare(a, b) does both, and reads both pictures
        csv(date, name, change.toPrecision(4), unit, direction ?? '', '');
      } catch (error) {
        if (!(error instanceof ComFaceError) || error.code !== 'CORRUPT_FILE') throw error;
        csv(date, name, '', '', '', error.message);
      }
    }
  } finally {
    model.dispose(); // its threads and memory; `await using model = ...` does it by itself, in TypeScript 5.2 and Node 24
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof ComFaceError)) throw error;
  console.error(`${error.code}: ${error.message}${error.hint ? `\n${error.hint}` : ''}`);
  process.exitCode = 1;
}
