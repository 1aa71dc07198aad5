// Commands that use a model.
import { type Command, Option } from 'commander';
import { counted, invalid } from '../errors.js';
import { type Comparison, loadModel, type Task } from '../model.js';
import { report } from '../report/make.js';
import { saliencyPng } from '../report/overlay.js';
import { saveEmbeddings } from '../use/embeddings.js';
import { comparePairs } from '../use/pairs.js';
import { beginWork, checkName, kShown, path, printResult, progress, showCount, stopSignal, wrapped, writeResult } from './terminal.js';

const modelOption = () =>
  new Option('--model <folder>', 'Folder of a run (its newest checkpoint), of a checkpoint or of a transfer').default('run');
const aboutPictures =
  'Pictures are JPEG files of one face each, cropped to it and to a square, and upright: they are resized to the size that the model was trained at, as they are, without a look at EXIF. Crop, turn and convert others first.';

/** comface compare */
export function addCompare(program: Command): void {
  const comparing = program
    .command('compare')
    .summary('Estimate how much a face changed between two pictures')
    .description('Estimate how much a face changed between two JPEG pictures of one person, or in many pairs.')
    .argument('[x]', 'First picture')
    .argument('[y]', 'Second picture')
    .addOption(modelOption())
    .option('--pairs <file>', 'CSV file with columns x and y, paths from its folder: compare them all; code 1 when some cannot be read')
    .option('--out <file>', 'CSV file for what --pairs gives: its columns, then change, direction and reason')
    .addHelpText(
      'after',
      `\n${wrapped(aboutPictures)}\n\nExamples:\n  $ comface compare monday.jpg friday.jpg --model demo/run\n  $ comface compare --pairs pairs.csv --out changes.csv --model run`,
    );
  comparing.action(async (x: string | undefined, y: string | undefined, options: { model: string; pairs?: string; out?: string }) => {
    const { model: folder, pairs, out } = options;
    if (pairs !== undefined) {
      if (x !== undefined) throw invalid('pairs', 'no pictures beside it', x, 'Name pictures, or a file of pairs.');
      if (out === undefined) throw invalid('out', 'a CSV file for the results', out, 'Name it: --out changes.csv');
      return compareMany(folder, pairs, out);
    }
    for (const [name, value] of Object.entries({ x, y }))
      if (value === undefined) comparing.error(`error: missing required argument '${name}'`);
    await using model = await loadModel(folder);
    const comparison = await model.compare(x!, y!);
    printResult({ ...comparison, attribute: model.task?.attribute ?? null }, inWords(comparison, model.task));
  });
}

/** comface embed */
export function addEmbed(program: Command): void {
  program
    .command('embed')
    .summary('Write the embeddings of pictures into an .npy file')
    .description(
      'Write the embeddings of JPEG pictures into an .npy file (float32, pictures x width), and their names into a .csv file beside it.',
    )
    .argument('<files...>', 'Pictures')
    .addOption(modelOption())
    .requiredOption('--out <file>', 'Name of the .npy file')
    .addHelpText('after', `\n${wrapped(aboutPictures)}\n\nExample:\n  $ comface embed photos/*.jpg --model run --out h.npy`)
    .action(async (files: string[], { model: folder, out }: { model: string; out: string }) => {
      await using model = await loadModel(folder);
      const saved = await saveEmbeddings(model, files, out, { signal: stopSignal() });
      const { npy, csv, pictures, width } = saved;
      printResult(saved, `${counted(pictures, 'picture')} x ${width} in ${path(npy)}, names in ${path(csv)}`);
    });
}

/** comface saliency */
export function addSaliency(program: Command): void {
  program
    .command('saliency')
    .summary('Draw where the network looks in a picture')
    .description('Draw where the network looks in a JPEG picture (Eigen-CAM of its last block): blue for the least, red for the most.')
    .argument('<picture>', 'The picture')
    .addOption(modelOption())
    .requiredOption('--out <file>', 'Name of the PNG file')
    .addHelpText('after', `\n${wrapped(aboutPictures)}\n\nExample:\n  $ comface saliency monday.jpg --model run --out monday.png`)
    .action(async (file: string, { model: folder, out }: { model: string; out: string }) => {
      checkName('out', out, '.png');
      await using model = await loadModel(folder);
      await writeResult(out, await saliencyPng(model, file));
      printResult({ file: out }, path(out));
    });
}

/** comface report */
export function addReport(program: Command): void {
  program
    .command('report')
    .summary('Make a page (HTML) of a run or of a transfer')
    .description('Make one HTML page of a pre-training run or of a transfer: scores, curves, settings, where the network looks.')
    .argument('<folder>', 'Folder of the run or of the transfer')
    .option('--out <file>', 'Name of the page (left out: report.html in that folder)')
    .option('--include-faces', 'Put some of the pictures that it was tested on into the page, and names from the data')
    .addHelpText(
      'after',
      `\n${wrapped('The page needs no network and runs no script. Without --include-faces it holds no picture and no name of a person: the faces in it are drawn.')}\n\nExample:\n  $ comface report run --out report.html`,
    )
    .action(async (folder: string, { out, includeFaces }: { out?: string; includeFaces?: boolean }) => {
      if (out !== undefined) checkName('out', out, '.html');
      const made = await report(folder, { ...(out !== undefined && { out }), includeFaces: includeFaces === true, signal: stopSignal() });
      for (const note of made.notes) progress.note(note);
      printResult(made, path(made.file));
    });
}

async function compareMany(folder: string, pairs: string, out: string): Promise<void> {
  const signal = stopSignal();
  await using model = await loadModel(folder);
  const compared = await comparePairs(model, {
    ...{ pairs, out, signal },
    onProgress: ({ done, total, secondsLeft }) => {
      beginWork();
      showCount(done, total, 'pictures', secondsLeft);
    },
  });
  const { pairs: count, pictures, failed } = compared;
  if (failed.length > 0) {
    const some = failed.slice(0, kShown).map(({ line, reason }) => `  line ${line}: ${reason}`);
    progress.note(`Not compared: ${failed.length} of ${counted(count, 'pair')}, each with its reason in ${path(out)}; the first:`, ...some);
    process.exitCode = 1;
  }
  printResult(compared, `${counted(count - failed.length, 'pair')} of ${counted(pictures, 'picture')} in ${path(out)}`);
}

function inWords({ change, direction, unit }: Comparison, task: Task | null): string {
  const size = Math.abs(change).toFixed(2);
  const what = task ? `${task.attribute} ` : '';
  if (direction === null)
    return `${what}changed by ${change.toFixed(2)} ${unit} (near 0 is no change; this model knows sizes, not directions)`;
  if (Number(size) === 0) return `${what}did not change (0.00 ${unit})`;
  return `${what}${direction === 'increase' ? 'increased' : 'decreased'} by ${size} ${unit}`;
}
