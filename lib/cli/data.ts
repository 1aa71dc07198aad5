// Commands that make and look at data sets.
import { Argument, type Command } from 'commander';
import type { DataSet } from '../data/dataset.js';
import { dataSheet, type Inspection, inspect } from '../data/inspect.js';
import { type PackOptions, pack } from '../data/pack.js';
import { contactSheet, type SheetOptions } from '../data/sheet.js';
import { type TwinOptions, twin } from '../data/twin.js';
import { twinKinds } from '../data/twins/parts.js';
import { counted, sizeText } from '../errors.js';
import {
  beginWork,
  checkName,
  kShown,
  list,
  number,
  path,
  printResult,
  progress,
  showCount,
  showDisk,
  stopSignal,
  wrapped,
  writeResult,
} from './terminal.js';

/** What `pack` may find. */
const formatNames = {
  ...{ folder: 'a folder of subjects', table: 'a list of pictures' },
  ...{ disfa: 'DISFA', fgnet: 'FG-NET', weight: 'a list of dialysis pictures' },
};

/** comface twin */
export function addTwin(program: Command): void {
  program
    .command('twin')
    .summary('Draw a stand-in of DISFA, FG-NET or the dialysis pictures')
    .description('Draw a stand-in of a data set that the paper evaluates on, in the folders, formats and counts of the real one.')
    .addArgument(
      new Argument(
        '<kind>',
        'disfa: 27 people filmed while they smile; fgnet: 82 people, 0 to 69 years; weight: 57 dialysis patients',
      ).choices(twinKinds),
    )
    .requiredOption('--out <folder>', 'Folder for the data set, new or empty; an unfinished set is begun again')
    .option('--seed <integer>', 'Decides who the people are, and every picture', number, 1)
    .option('--size <integer>', 'Edge of a drawn picture in pixels, 32 to 512; those of fgnet vary around it', number, 256)
    .option(
      '--frames <integer>',
      'Frames of a video of disfa, 1 to 4845, or of a data point of weight, 1 to 1000 (default: 4845, 100)',
      number,
    )
    .option('--subjects <integer>', 'Only the first people, of 27, 82 or 57 (default: all)', number)
    .option(
      '--video',
      'Write the videos of disfa as AVI files, as the real set has them, with the program ffmpeg; else a JPEG for each frame',
    )
    .option('--threads <integer>', 'Threads that draw, at most 64; 0: one for each core', number, 0)
    .addHelpText(
      'after',
      `\n${wrapped('What is drawn is no real person and no real data set: README.txt in the folder says so. Its people are others than those that generate draws.')}\n\nExamples:\n  $ comface twin fgnet --out fgnet\n  $ comface twin disfa --out disfa --size 128 --frames 485 --subjects 12`,
    )
    .action(async (kind: TwinOptions['kind'], options: Omit<TwinOptions, 'kind'>) => {
      const made = await twin({
        ...options,
        kind,
        signal: stopSignal(),
        onDisk: showDisk,
        onProgress: ({ done, total, secondsLeft }) => {
          beginWork();
          showCount(done, total, 'faces', secondsLeft);
        },
      });
      printResult(made, `${counted(made.pictures, 'picture')} of ${counted(made.subjects, 'subject')} in ${path(made.folder)}`);
    });
}

/** comface pack */
export function addPack(program: Command): void {
  program
    .command('pack')
    .summary('Pack your own pictures into a data set')
    .description(
      'Pack your own pictures into a data set: upright, square, thousands a file. What cannot be used is listed with its reason.',
    )
    .argument('<from>', 'Folder SUBJECT/ALPHA.jpg or SUBJECT/ATTRIBUTE/ALPHA.jpg, a CSV file, or the folder of DISFA or FG-NET')
    .requiredOption('--out <folder>', 'Folder for the data set, new or empty; an unfinished set is finished')
    .option('--format <name>', 'How pictures lie there: folder, table, disfa, fgnet, weight; auto: whichever it looks like', 'auto')
    .option('--size <integer>', 'Edge of a packed picture in pixels, 8 to 2048', number, 224)
    .option('--attribute <name>', 'What changes in pictures that name no attribute', 'change')
    .option('--quality <integer>', 'Quality of the JPEG pictures, 1 to 100; 0: pixels as they are', number, 90)
    .option('--threads <integer>', 'Pictures prepared at once, at most 64; 0: one for each core', number, 0)
    .option('--site <name>', 'Of a list of dialysis pictures with several sites: the one to pack')
    .option('--dataset <name>', 'Of one with several data sets: the one to pack')
    .option('--frames <folder>', 'Of DISFA: folder for frames that ffmpeg takes out of the videos (default: frames, beside --out)')
    .addHelpText(
      'after',
      `\n${wrapped('A CSV file names its columns in the first line: path (from its folder), subject, alpha or label and, as needed, attribute and landmarks x1,y1,... (5, 66 or 68 points, by which faces are aligned). DISFA, FG-NET and lists of dialysis pictures are in docs/tasks.md.')}\n\nExamples:\n  $ comface pack photos --out set\n  $ comface pack photos/list.csv --out set --size 128\n  $ comface pack DISFA --out disfa`,
    )
    .action(async (from: string, options: Omit<PackOptions, 'from'>) => {
      const packed = await pack({
        ...options,
        from,
        signal: stopSignal(),
        onListing: (event) => {
          if (event.type === 'frames') {
            beginWork();
            progress.note(`Taking frames out of the video of ${event.name} (${event.done + 1} of ${event.total}).`);
          } else if (!event.isGiven) progress.note(`Read as ${formatNames[event.format]} (--format ${event.format}).`);
        },
        onDisk: showDisk,
        onProgress: ({ done, total, secondsLeft }) => {
          beginWork();
          showCount(done, total, 'pictures', secondsLeft);
        },
      });
      const { data, rejected, rejectedFile, notes } = packed;
      if (notes.length > 0) progress.note(...notes);
      if (rejected.length > 0) {
        const some = rejected.slice(0, kShown).map(({ path: picture, reason }) => `  ${picture}: ${reason}`);
        progress.note(
          `Not packed: ${rejected.length} of ${data.count + rejected.length}, all in ${path(rejectedFile)}; the first:`,
          ...some,
        );
      }
      const said = `${counted(data.count, 'picture')} of ${counted(data.subjects.length, 'subject')} in ${path(data.folder)}`;
      printResult({ ...packed, data: fieldsOf(data) }, said);
    });
}

/** comface inspect */
export function addInspect(program: Command): void {
  program
    .command('inspect')
    .summary('Say what a data set holds, and which pictures are damaged')
    .description('Say what a data set holds: counts, alphas, room on the disk, damaged pictures. Code 1 when some are damaged.')
    .argument('<folder>', 'Folder of the data set')
    .option('--verify', 'Read every picture, not just a thousand')
    .option('--sheet <file>', 'Draw some of its pictures on a contact sheet (PNG)')
    .addHelpText('after', '\nExamples:\n  $ comface inspect set\n  $ comface inspect set --verify --sheet sheet.png')
    .action(async (folder: string, { verify, sheet }: { verify?: boolean; sheet?: string }) => {
      if (sheet !== undefined) checkName('sheet', sheet, '.png');
      const found = await inspect(folder, {
        verify: verify ? 'all' : 'some',
        signal: stopSignal(),
        onProgress: ({ done, total, secondsLeft }) => showCount(done, total, 'pictures', secondsLeft),
      });
      if (sheet !== undefined) await writeResult(sheet, await dataSheet(folder));
      const drawn = sheet === undefined ? [] : [path(sheet)];
      printResult({ ...found, ...(sheet !== undefined && { sheet }) }, ...inspectionLines(found), ...drawn);
      if (found.damaged.length > 0) process.exitCode = 1;
    });
}

/** comface sheet */
export function addSheet(program: Command): void {
  program
    .command('sheet')
    .summary('Draw a sheet of people and attributes to look at')
    .description('Draw a contact sheet (one JPEG) of people and attributes, to look at before making a data set.')
    .requiredOption('--out <file>', 'Where the picture goes')
    .option('--subjects <integer>', 'Number of people, one a row', number, 8)
    .option('--first-subject <integer>', 'Number of the first of them', number, 0)
    .option('--attributes <list>', 'Attributes, a group of columns each, separated by commas', list, [
      'weight',
      'age',
      'smile',
      'Eyeglasses',
    ])
    .option(
      '--alphas <list>',
      'Alphas, a column of each group, from -5 to 5, separated by commas',
      (text) => list(text).map(number),
      [-5, 0, 5],
    )
    .option('--size <integer>', 'Edge of one picture in pixels, 32 to 512', number, 96)
    .option('--seed <integer>', 'Decides who the people are', number, 1)
    .option('--domain <integer>', 'Family of camera, light and backdrop: 0 or 1', number, 0)
    .option('--same-photo', 'One pose and light for each person, so that only the attribute changes')
    .addHelpText('after', '\nExample:\n  $ comface sheet --out sheet.jpg --attributes smile,weight --alphas -5,-2.5,0,2.5,5')
    .action(async (options: SheetOptions & { out: string }) => {
      await writeResult(options.out, await contactSheet(options));
      printResult({ file: options.out }, path(options.out));
    });
}

/** What a data set says of itself. */
export function fieldsOf({ folder, size, count, attributes: names, hash, subjects, isDrawn }: DataSet) {
  return { folder, size, count, attributes: names, hash, subjects, isDrawn };
}

function inspectionLines({ folder, pictures, subjects, size, diskBytes, attributes: found, checked, damaged }: Inspection): string[] {
  const width = Math.max(...found.map(({ name }) => name.length));
  const lines = [
    `${path(folder)}: ${counted(pictures, 'picture')} of ${counted(subjects, 'subject')}, ${size} x ${size} pixels, ${sizeText(diskBytes)} on the disk`,
  ];
  for (const { name, pictures: count, subjects: people, histogram } of found) {
    const alphas = `${shortly(histogram.edges[0]!)} to ${shortly(histogram.edges.at(-1)!)}`;
    lines.push(
      `  ${name.padEnd(width)}  ${counted(count, 'picture')} of ${counted(people, 'subject')}, alpha ${alphas}  ${bars(histogram.counts)}`,
    );
  }
  lines.push(
    `${counted(checked, 'picture')} read; ${damaged.length === 0 ? 'none is' : damaged.length === 1 ? '1 is' : `${damaged.length} are`} damaged.`,
  );
  for (const { picture, reason } of damaged.slice(0, kShown)) lines.push(`  picture ${picture}: ${reason}`);
  if (damaged.length > kShown) lines.push(`  and ${damaged.length - kShown} more (--json lists them)`);
  return lines;
}

const shortly = (value: number): number => Number(value.toPrecision(4));

/** A histogram in a line of text. */
function bars(counts: readonly number[]): string {
  const most = Math.max(...counts);
  return counts.map((count) => (count === 0 ? ' ' : '▁▂▃▄▅▆▇█'[Math.ceil((8 * count) / most) - 1])).join('');
}
