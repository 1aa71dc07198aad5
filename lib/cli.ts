#!/usr/bin/env node
// The command line. It only reads flags, shows progress (standard error) and prints results (standard output); the work is in the library.
// Exit codes: 0 done (or stopped by a signal after saving), 1 an error, 2 a wrong option or input. The second signal ends it at once, as does the
// first before there is anything to save: then it dies by that signal, which shells show as 129, 130 or 143.
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { relative } from 'node:path';
import { Argument, Command, CommanderError, Option } from 'commander';
import { checkTrainOptions, mergeOptions, readConfig, type TrainOptions, trainFlags } from './config.js';
import { attributes } from './data/attributes.js';
import { dataSheet, type Inspection, inspect } from './data/inspect.js';
import type { DiskSizes } from './data/makeset.js';
import { type PackOptions, pack } from './data/pack.js';
import { generate } from './data/procedural.js';
import { contactSheet, type SheetOptions } from './data/sheet.js';
import { type TwinOptions, twin } from './data/twin.js';
import { twinKinds } from './data/twins/parts.js';
import { type DemoResult, type DemoScale, demo, demoScales } from './demo.js';
import { describe, diagnose } from './doctor.js';
import { ComFaceError, invalid, printable, sizeText } from './errors.js';
import { GivenOptions } from './flags.js';
import { type Comparison, loadModel, type Task } from './model.js';
import { duration, Progress } from './progress.js';
import { report } from './report/make.js';
import { saliencyPng } from './report/overlay.js';
import { type StepEvent, train } from './train/train.js';
import { saveEmbeddings } from './use/embeddings.js';
import { comparePairs } from './use/pairs.js';

const progress = new Progress();
// A reader that has seen enough (`| head`) closes the pipe: results stop there, progress goes unseen, work goes on.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => process.exit(code === 'EPIPE' ? 0 : 1));
process.stderr.on('error', () => undefined);
const version = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version as string;

const kSameSignalMs = 300;
/** What `pack` may find. */
const formatNames = {
  ...{ folder: 'a folder of subjects', table: 'a list of pictures' },
  ...{ disfa: 'DISFA', fgnet: 'FG-NET', weight: 'a list of dialysis pictures' },
};
/** Lines of a list that may be long. */
const kShown = 10;

/** Aborted by the first Ctrl+C, SIGTERM or closed terminal (SIGHUP); the second leaves at once, and so does the first while nothing is under way. */
class Stopped extends Error {}

/** Whether there is something to save or to finish. */
let isUnderWay = false;

/** As if nobody had caught it: process.exit() alone waits for file calls, and on a dead network disk they never end. */
function endBy(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  process.exit(128 + constants.signals[signal]); // the first process of a container outlives its own signal
}

function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let firstAt = 0;
  const stop = (signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP') => {
    if (!isUnderWay) {
      progress.note('Stopped before there was anything to save.');
      return endBy(signal);
    }
    if (controller.signal.aborted) {
      // npm passes a Ctrl+C on to us that the terminal has sent us as well: those two are one.
      if (performance.now() - firstAt < kSameSignalMs) return;
      return endBy(signal);
    }
    firstAt = performance.now();
    progress.note('Stopping after this step; once more to stop at once.');
    controller.abort(new Stopped());
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  return controller.signal;
}

/** What is no number stays text, for the library to refuse by name. */
const number = (text: string): number => (text.trim() === '' || Number.isNaN(Number(text)) ? (text as unknown as number) : Number(text));
const list = (text: string): string[] => text.split(',').map((item) => item.trim());
const path = (file: string): string => relative(process.cwd(), file) || '.';
/** Results, line by line; a name in them is shown as in messages. */
const print = (...lines: string[]): void => console.log(lines.map(printable).join('\n'));

const program = new Command('comface')
  .description('Learn to compare two faces of the same person (ComFace, arXiv 2405.16016).')
  .version(version, '-V, --version', 'Show the version')
  .helpOption('-h, --help', 'Show this help')
  .helpCommand('help [command]', 'Show the help of a command')
  // A terminal of 80 columns has 37 left beside the longest flag.
  .configureHelp({ minWidthToWrap: 30, optionDescription })
  .showSuggestionAfterError()
  .showHelpAfterError('(comface --help shows the commands, comface COMMAND --help its options)')
  .configureOutput({ outputError: (text, write) => write(safeError(text)) })
  .exitOverride();

program
  .command('demo')
  .description('Draw faces, pre-train a small network on them, compare faces of people it has never seen (about 5 minutes).')
  .option('--out <folder>', 'Folder for faces, run and report: new, empty, or of an earlier demo', 'demo')
  .addOption(
    new Option('--scale <name>', 'full, or smoke: only show in seconds that all parts run')
      .choices(Object.keys(demoScales))
      .default('full'),
  )
  .addHelpText('after', '\nExample:\n  $ comface demo --out /tmp/comface-demo')
  .action(async ({ out, scale }: { out: string; scale: DemoScale }) => {
    const result = await demo({
      out,
      scale,
      signal: stopSignal(),
      onEvent: (event) => {
        isUnderWay = true;
        if (event.type === 'phase') progress.note(`${event.text}.`);
        else if (event.type === 'step') showStep(event.step);
        else showCount(event.progress.done, event.progress.total, 'faces', event.progress.secondsLeft);
      },
    });
    print(...demoTable(result));
  });

program
  .command('generate')
  .description('Draw a data set of faces: pictures of each subject, attribute and alpha.')
  .requiredOption('--out <folder>', 'Folder for the data set, new or empty; an unfinished set is finished')
  .option('--subjects <integer>', 'Number of people', number, 100)
  .option('--attributes <list>', 'Attributes to change one at a time, separated by commas', list, ['weight', 'age', 'smile'])
  .option('--alphas <integer>', 'Number of alphas of an attribute, 2 or more, evenly from -5 to 5', number, 11)
  .option('--size <integer>', 'Edge of a picture in pixels, 32 to 512', number, 224)
  .option('--seed <integer>', 'Decides who the people are, and every picture', number, 1)
  .option('--domain <integer>', 'Family of camera, light and backdrop: 0 or 1', number, 0)
  .option('--quality <integer>', 'Quality of the JPEG pictures, 1 to 100; 0, in shards: pixels as they are', number, 90)
  .option(
    '--composition <name>',
    'Who has which attributes: full (each person each) or paper (one in five the first three, the others one of the rest)',
    'full',
  )
  .option('--format <name>', 'How pictures lie there: shards (thousands a file) or files (a JPEG each and a manifest.jsonl)', 'shards')
  .option('--threads <integer>', 'Threads that draw, at most 64; 0: one for each core', number, 0)
  .addHelpText(
    'after',
    `\n${wrapped(`Attributes: ${attributes.join(', ')}`)}\n\nExample:\n  $ comface generate --out faces --subjects 500 --attributes smile,weight --size 128`,
  )
  .action(async (options: Parameters<typeof generate>[0]) => {
    const set = await generate({
      ...options,
      signal: stopSignal(),
      onDisk: showDisk,
      onProgress: ({ done, total, secondsLeft }) => {
        isUnderWay = true;
        showCount(done, total, 'faces', secondsLeft);
      },
    });
    print(`${set.count} pictures in ${path(set.folder)}`);
  });

program
  .command('twin')
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
    const { pictures, subjects, folder } = await twin({
      ...options,
      kind,
      signal: stopSignal(),
      onDisk: showDisk,
      onProgress: ({ done, total, secondsLeft }) => {
        isUnderWay = true;
        showCount(done, total, 'faces', secondsLeft);
      },
    });
    print(`${counted(pictures, 'picture')} of ${counted(subjects, 'subject')} in ${path(folder)}`);
  });

program
  .command('pack')
  .description('Pack your own pictures into a data set: upright, square, thousands a file. What cannot be used is listed with its reason.')
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
    const { data, rejected, rejectedFile, notes } = await pack({
      ...options,
      from,
      signal: stopSignal(),
      onListing: (event) => {
        if (event.type === 'frames') {
          isUnderWay = true;
          progress.note(`Taking frames out of the video of ${event.name} (${event.done + 1} of ${event.total}).`);
        } else if (!event.isGiven) progress.note(`Read as ${formatNames[event.format]} (--format ${event.format}).`);
      },
      onDisk: showDisk,
      onProgress: ({ done, total, secondsLeft }) => {
        isUnderWay = true;
        showCount(done, total, 'pictures', secondsLeft);
      },
    });
    if (notes.length > 0) progress.note(...notes);
    if (rejected.length > 0) {
      const some = rejected.slice(0, kShown).map(({ path: picture, reason }) => `  ${picture}: ${reason}`);
      progress.note(`Not packed: ${rejected.length} of ${data.count + rejected.length}, all in ${path(rejectedFile)}; the first:`, ...some);
    }
    print(`${counted(data.count, 'picture')} of ${counted(data.subjects.length, 'subject')} in ${path(data.folder)}`);
  });

program
  .command('inspect')
  .description('Say what a data set holds: counts, alphas, room on the disk, damaged pictures. Code 1 when some are damaged.')
  .argument('<folder>', 'Folder of the data set')
  .option('--verify', 'Read every picture, not just a thousand')
  .option('--sheet <file>', 'Draw some of its pictures on a contact sheet (PNG)')
  .option('--json', 'Print everything that was found, as JSON')
  .addHelpText('after', '\nExample:\n  $ comface inspect set --verify --sheet sheet.png')
  .action(async (folder: string, { verify, sheet, json }: { verify?: boolean; sheet?: string; json?: boolean }) => {
    if (sheet !== undefined) checkName('sheet', sheet, '.png');
    const found = await inspect(folder, {
      verify: verify ? 'all' : 'some',
      signal: stopSignal(),
      onProgress: ({ done, total, secondsLeft }) => showCount(done, total, 'pictures', secondsLeft),
    });
    if (json) console.log(JSON.stringify(found, null, 2));
    else print(...inspectionLines(found));
    if (sheet !== undefined) await writeResult(sheet, await dataSheet(folder), !json);
    if (found.damaged.length > 0) process.exitCode = 1;
  });

program
  .command('sheet')
  .description('Draw a contact sheet (one JPEG) of people and attributes, to look at before making a data set.')
  .requiredOption('--out <file>', 'Where the picture goes')
  .option('--subjects <integer>', 'Number of people, one a row', number, 8)
  .option('--first-subject <integer>', 'Number of the first of them', number, 0)
  .option('--attributes <list>', 'Attributes, a group of columns each, separated by commas', list, ['weight', 'age', 'smile', 'Eyeglasses'])
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
    const sheet = await contactSheet(options);
    await writeResult(options.out, sheet);
  });

const training = program
  .command('train')
  .description('Pre-train a network on a data set. Ctrl+C saves and stops, --resume goes on.')
  .option('--config <file>', 'YAML file of options (`pairsPerEpoch: 64` is --pairs-per-epoch 64); flags win over it')
  .addHelpText(
    'after',
    '\nExamples:\n  $ comface train --data faces --out run --backbone resnet18 --size 64\n  $ comface train --config run.yaml --resume',
  );
for (const { flag, description, parse } of trainFlags()) training.addOption(new Option(flag, description).argParser(parse));
training.action(async (flags: Record<string, unknown>) => {
  const file = typeof flags.config === 'string' ? await readConfig(flags.config) : undefined;
  if (file) given.get(training)!.addFile(flags.config as string, file);
  const options = mergeOptions(file?.options ?? {}, flags);
  checkTrainOptions(options);
  for await (const event of train(options as TrainOptions, { signal: stopSignal() })) {
    if (event.type === 'start') {
      isUnderWay = true;
      const { steps, pictures, subjects, engine, memoryBytes, parameters } = event;
      progress.note(
        `${pictures} pictures of ${subjects} subjects; ${(parameters / 1e6).toFixed(1)} M parameters, ${Math.round(memoryBytes / 2 ** 20)} MiB; ${engine}.`,
      );
      progress.note(event.step > 0 ? `Going on after step ${event.step} of ${steps}.` : `${steps} steps.`);
    } else if (event.type === 'stage')
      progress.note(`Epoch ${event.epoch}: changes up to ${event.range.toFixed(2)} (stage ${event.stage}).`);
    else if (event.type === 'step') showStep(event);
    else if (event.type === 'validation')
      progress.note(
        `Epoch ${event.epoch}, subjects kept out: mean error ${event.mae.toFixed(3)}, correlation ${event.correlation.toFixed(3)}.`,
      );
    else if (event.type === 'broken')
      progress.note(
        `Skipped a broken picture (${event.count} so far)${event.line === undefined ? '' : `, manifest line ${event.line}`}: ${event.reason}`,
      );
    else if (event.type === 'warning') progress.note(`Warning: ${event.message}`);
    else if (event.type === 'end') print(path(event.path));
  }
});

const modelOption = () =>
  new Option('--model <folder>', 'Folder of a run (its newest checkpoint), of a checkpoint or of a transfer').default('run');
const aboutPictures =
  'Pictures are JPEG files of one face each, cropped to it and to a square, and upright: they are resized to the size that the model was trained at, as they are, without a look at EXIF. Crop, turn and convert others first.';

const comparing = program
  .command('compare')
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
  print(inWords(await model.compare(x!, y!), model.task));
});

program
  .command('embed')
  .description(
    'Write the embeddings of JPEG pictures into an .npy file (float32, pictures x width), and their names into a .csv file beside it.',
  )
  .argument('<files...>', 'Pictures')
  .addOption(modelOption())
  .requiredOption('--out <file>', 'Name of the .npy file')
  .addHelpText('after', `\n${wrapped(aboutPictures)}\n\nExample:\n  $ comface embed photos/*.jpg --model run --out h.npy`)
  .action(async (files: string[], { model: folder, out }: { model: string; out: string }) => {
    await using model = await loadModel(folder);
    const { npy, csv, pictures, width } = await saveEmbeddings(model, files, out, { signal: stopSignal() });
    print(`${counted(pictures, 'picture')} x ${width} in ${path(npy)}, names in ${path(csv)}`);
  });

program
  .command('saliency')
  .description('Draw where the network looks in a JPEG picture (Eigen-CAM of its last block): blue for the least, red for the most.')
  .argument('<picture>', 'The picture')
  .addOption(modelOption())
  .requiredOption('--out <file>', 'Name of the PNG file')
  .addHelpText('after', `\n${wrapped(aboutPictures)}\n\nExample:\n  $ comface saliency monday.jpg --model run --out monday.png`)
  .action(async (file: string, { model: folder, out }: { model: string; out: string }) => {
    checkName('out', out, '.png');
    await using model = await loadModel(folder);
    await writeResult(out, await saliencyPng(model, file));
  });

program
  .command('report')
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
    print(path(made.file));
  });

program
  .command('doctor')
  .description('Say what works here, CPU and GPU, and what to do about what does not. Code 0 when at least one works.')
  .option('--json', 'Print everything that was found, as JSON')
  .addHelpText('after', '\nExample:\n  $ comface doctor')
  .action(async ({ json }: { json?: boolean }) => {
    const diagnosis = await diagnose();
    if (json) console.log(JSON.stringify(diagnosis, null, 2));
    else print(...describe(diagnosis));
    if (diagnosis.works.length === 0) process.exitCode = 1;
  });

/** Defaults as they are typed; those of `train` stand in its texts. */
function optionDescription({ description, defaultValue, mandatory }: Option): string {
  if (mandatory) return `${description} (required)`;
  return defaultValue === undefined ? description : `${description} (default: ${[defaultValue].flat().join(',')})`;
}

function wrapped(text: string): string {
  return text.replace(/(.{1,78})(?: |$)/g, '$1\n').trimEnd();
}

/** Commander quotes words of the command line as they are; its own line ends stay. */
function safeError(text: string): string {
  const words = process.argv.slice(2).flatMap((word) => [word, ...word.split('=')]);
  const shown = words.filter((word) => /[\r\n]/.test(word)).reduce((all, word) => all.replaceAll(word, printable(word)), text);
  return shown.split('\n').map(printable).join('\n');
}

/** The name of a file to write. */
function checkName(option: string, file: string, ending: '.png' | '.html'): void {
  const kind = ending.slice(1).toUpperCase();
  if (!file.toLowerCase().endsWith(ending)) throw invalid(option, `a name that ends in ${ending}`, file, `Name a file of ${kind}.`);
}

async function compareMany(folder: string, pairs: string, out: string): Promise<void> {
  const signal = stopSignal();
  await using model = await loadModel(folder);
  const {
    pairs: count,
    pictures,
    failed,
  } = await comparePairs(model, {
    ...{ pairs, out, signal },
    onProgress: ({ done, total, secondsLeft }) => {
      isUnderWay = true;
      showCount(done, total, 'pictures', secondsLeft);
    },
  });
  if (failed.length > 0) {
    const some = failed.slice(0, kShown).map(({ line, reason }) => `  line ${line}: ${reason}`);
    progress.note(`Not compared: ${failed.length} of ${counted(count, 'pair')}, each with its reason in ${path(out)}; the first:`, ...some);
    process.exitCode = 1;
  }
  print(`${counted(count - failed.length, 'pair')} of ${counted(pictures, 'picture')} in ${path(out)}`);
}

function inWords({ change, direction, unit }: Comparison, task: Task | null): string {
  const size = Math.abs(change).toFixed(2);
  const what = task ? `${task.attribute} ` : '';
  if (direction === null)
    return `${what}changed by ${change.toFixed(2)} ${unit} (near 0 is no change; this model knows sizes, not directions)`;
  if (Number(size) === 0) return `${what}did not change (0.00 ${unit})`;
  return `${what}${direction === 'increase' ? 'increased' : 'decreased'} by ${size} ${unit}`;
}

function showDisk({ neededBytes, freeBytes }: DiskSizes): void {
  progress.note(`About ${sizeText(neededBytes)} to write; ${sizeText(freeBytes)} are free there.`);
}

function showCount(done: number, total: number, what: string, secondsLeft: number): void {
  progress.update(`  ${done} of ${total} ${what}, ${duration(secondsLeft)} left`, done === total);
}

function showStep({ step, steps, epoch, inter, intra, pairsPerSecond, secondsLeft }: StepEvent): void {
  const losses = `inter ${inter.toFixed(3)}  intra ${intra.toFixed(3)}`;
  progress.update(
    `  step ${step}/${steps}  epoch ${epoch}  ${losses}  ${pairsPerSecond.toFixed(0)} pairs/s  ${duration(secondsLeft)} left`,
    step === steps,
  );
}

async function writeResult(file: string, bytes: Uint8Array, isSaid = true): Promise<void> {
  await writeFile(file, bytes).catch((cause) => {
    throw new ComFaceError('IO', `Cannot write ${file}: ${cause.message}`, { hint: 'Check the folder and its permissions.', cause });
  });
  if (isSaid) print(path(file));
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

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

const shortly = (value: number): number => Number(value.toPrecision(4));

/** A histogram in a line of text. */
function bars(counts: readonly number[]): string {
  const most = Math.max(...counts);
  return counts.map((count) => (count === 0 ? ' ' : '▁▂▃▄▅▆▇█'[Math.ceil((8 * count) / most) - 1])).join('');
}

function demoTable({ tasks, target, files, seconds }: DemoResult): string[] {
  const width = Math.max(...tasks.flatMap(({ rows }) => rows.map(({ method }) => method.length)));
  const lines = ['', 'Estimating the change between two pictures of people never seen before:', ''];
  for (const { name, rows } of tasks) {
    lines.push(`${name.padEnd(width + 2)}     MAE   correlation`);
    for (const { method, mae, correlation } of rows)
      lines.push(`  ${method.padEnd(width)}  ${mae.toFixed(3).padStart(6)}   ${correlation.toFixed(3).padStart(8)}`);
    lines.push('');
  }
  for (const [task, margin] of target.margins) {
    const reached = margin >= target.required ? 'reached' : 'not reached';
    lines.push(
      `${task}: ComFace's correlation is ${margin.toFixed(3)} above the best of the others (target ${target.required}: ${reached}).`,
    );
  }
  lines.push(
    '',
    `Took ${duration(seconds.total)}. Report: ${path(files.report)}  Figures: ${path(files.result)}  Model: ${path(files.run)}`,
  );
  return lines;
}

/** What the library calls an option where that is another name. */
const aliases: Record<string, Record<string, string>> = {
  generate: { attribute: 'attributes' },
  sheet: { attribute: 'attributes' },
  train: { path: 'config' },
  compare: { folder: 'model' },
  embed: { folder: 'model' },
  saliency: { folder: 'model' },
};
const given = new Map(program.commands.map((command) => [command, new GivenOptions(command, aliases[command.name()])]));
let running: Command | undefined;
program.hook('preAction', (_, command) => {
  running = command;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof Stopped && running?.name() === 'twin') progress.note('Stopped. The same command begins again.');
  else if (error instanceof Stopped)
    progress.note('Stopped. Checkpoints, files and whole shards are saved: the same command (train: with --resume) goes on with them.');
  else {
    const isOurs = error instanceof ComFaceError;
    if (isOurs) {
      const { message, hint } = given.get(running!)!.explain(error);
      progress.note(`comface: ${message}`, ...(hint === undefined ? [] : [`  ${hint}`]));
    } else progress.note(...`comface: ${(error as Error)?.stack}`.split('\n'));
    process.exitCode = isOurs && (error.code === 'INVALID_CONFIG' || error.code === 'INVALID_INPUT') ? 2 : 1;
  }
}
