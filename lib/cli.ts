#!/usr/bin/env node
// The command line. It only reads flags, shows progress (standard error) and prints results (standard output); the work is in the library.
// Exit codes: 0 done (or stopped by Ctrl+C after saving), 1 an error, 2 a wrong option or input, 130 or 143 stopped at once by a second signal.
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { relative } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import { checkTrainOptions, mergeOptions, readConfigFile, type TrainOptions, trainFlags } from './config.js';
import { attributes } from './data/attributes.js';
import { generate } from './data/procedural.js';
import { contactSheet, type SheetOptions } from './data/sheet.js';
import { type DemoResult, type DemoScale, demo, demoScales } from './demo.js';
import { describe, diagnose } from './doctor.js';
import { ComFaceError, printable } from './errors.js';
import { loadModel } from './model.js';
import { duration, Progress } from './progress.js';
import { type StepEvent, train } from './train/train.js';

const progress = new Progress();
// A reader that has seen enough (`| head`) closes the pipe: results stop there, progress goes unseen, work goes on.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => process.exit(code === 'EPIPE' ? 0 : 1));
process.stderr.on('error', () => undefined);
const version = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version as string;

const kSameSignalMs = 300;

/** Aborted by the first Ctrl+C or SIGTERM; the second leaves at once. */
class Stopped extends Error {}

function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let firstAt = 0;
  const stop = (signal: 'SIGINT' | 'SIGTERM') => {
    if (controller.signal.aborted) {
      // npm passes a Ctrl+C on to us that the terminal has sent us as well: those two are one.
      if (performance.now() - firstAt < kSameSignalMs) return;
      process.exit(128 + constants.signals[signal]);
    }
    firstAt = performance.now();
    progress.note('Stopping after this step; once more to stop at once.');
    controller.abort(new Stopped());
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller.signal;
}

/** What is no number stays text, for the library to refuse by name. */
const integer = (text: string): number => (text.trim() === '' || Number.isNaN(Number(text)) ? (text as unknown as number) : Number(text));
const list = (text: string): string[] => text.split(',').map((item) => item.trim());
const path = (file: string): string => relative(process.cwd(), file) || '.';
/** Results, line by line; a name in them is shown as in messages. */
const print = (...lines: string[]): void => console.log(lines.map(printable).join('\n'));

const program = new Command('comface')
  .description('Learn to compare two faces of the same person (ComFace, arXiv 2405.16016)')
  .version(version)
  .showSuggestionAfterError()
  .showHelpAfterError('(comface --help shows the commands, comface COMMAND --help its options)')
  .configureOutput({ outputError: (text, write) => write(safeError(text)) })
  .exitOverride();

program
  .command('demo')
  .description('draw faces, pre-train a small network on them, compare faces of people it has never seen (about 5 minutes)')
  .option('--out <folder>', 'where faces, run and report go: new, empty, or of an earlier demo', 'demo')
  .addOption(
    new Option('--scale <name>', 'smoke: only show in seconds that all parts run').choices(Object.keys(demoScales)).default('full'),
  )
  .addHelpText('after', '\nExample:\n  $ comface demo --out /tmp/comface-demo')
  .action(async ({ out, scale }: { out: string; scale: DemoScale }) => {
    const result = await demo({
      out,
      scale,
      signal: stopSignal(),
      onEvent: (event) => {
        if (event.type === 'phase') progress.note(`${event.text}.`);
        else if (event.type === 'step') showStep(event.step);
        else showCount(event.progress.done, event.progress.total, 'faces', event.progress.secondsLeft);
      },
    });
    print(...demoTable(result));
  });

program
  .command('generate')
  .description('draw a data set of faces: JPEG files and a manifest.jsonl with subject, attribute and alpha of each')
  .requiredOption('--out <folder>', 'a new or empty folder')
  .option('--subjects <number>', 'people', integer, 100)
  .option('--attributes <list>', 'attributes to change one at a time, separated by commas', list, ['weight', 'age', 'smile'])
  .option('--alphas <number>', 'values of alpha from -5 to 5', integer, 11)
  .option('--size <pixels>', 'edge of a picture, 32 to 512', integer, 224)
  .option('--seed <number>', 'decides everything', integer, 1)
  .option('--domain <number>', 'family of camera, light and backdrop: 0 or 1', integer, 0)
  .option('--quality <number>', 'of JPEG, 1 to 100', integer, 90)
  .option('--threads <number>', '0: one for each core', integer, 0)
  .addHelpText(
    'after',
    `\nAttributes: ${attributes.join(', ')}\n\nExample:\n  $ comface generate --out faces --subjects 500 --attributes smile,weight --size 128`,
  )
  .action(async (options: Parameters<typeof generate>[0]) => {
    const set = await generate({
      ...options,
      signal: stopSignal(),
      onProgress: ({ done, total, secondsLeft }) => showCount(done, total, 'faces', secondsLeft),
    });
    print(`${set.files.length} pictures in ${path(set.folder)}`);
  });

program
  .command('sheet')
  .description('draw a contact sheet (one JPEG) of people and attributes, to look at before making a data set')
  .requiredOption('--out <file>', 'where the picture goes')
  .option('--subjects <number>', 'people, one a row', integer, 8)
  .option('--first-subject <number>', 'number of the first', integer, 0)
  .option('--attributes <list>', 'groups of columns, separated by commas', list, ['weight', 'age', 'smile', 'Eyeglasses'])
  .option('--alphas <list>', 'columns of a group', (text) => list(text).map(Number), [-5, 0, 5])
  .option('--size <pixels>', 'edge of one picture', integer, 96)
  .option('--seed <number>', 'decides who they are', integer, 1)
  .option('--domain <number>', 'family of camera, light and backdrop: 0 or 1', integer, 0)
  .option('--same-photo', 'one pose and light for each person')
  .addHelpText('after', '\nExample:\n  $ comface sheet --out sheet.jpg --attributes smile,weight --alphas -5,-2.5,0,2.5,5')
  .action(async (options: SheetOptions & { out: string }) => {
    const sheet = await contactSheet(options);
    await writeFile(options.out, sheet).catch((cause) => {
      throw new ComFaceError('IO', `Cannot write ${options.out}: ${cause.message}`, {
        hint: 'Check the folder and its permissions.',
        cause,
      });
    });
    print(path(options.out));
  });

const training = program
  .command('train')
  .description('pre-train a network on a data set; Ctrl+C saves and stops, --resume goes on')
  .option('--config <file>', 'YAML file of options; flags win over it')
  .addHelpText(
    'after',
    '\nExamples:\n  $ comface train --data faces --out run --backbone resnet18 --size 64\n  $ comface train --config run.yaml --resume',
  );
for (const { flag, description, parse } of trainFlags()) training.addOption(new Option(flag, description).argParser(parse));
training.action(async (flags: Record<string, unknown>) => {
  const file = typeof flags.config === 'string' ? await readConfigFile(flags.config) : {};
  const options = mergeOptions(file, flags);
  checkTrainOptions(options);
  for await (const event of train(options as TrainOptions, { signal: stopSignal() })) {
    if (event.type === 'start') {
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
      progress.note(`Skipped a broken picture (${event.count} so far), manifest line ${event.line}: ${event.reason}`);
    else if (event.type === 'warning') progress.note(`Warning: ${event.message}`);
    else if (event.type === 'end') print(path(event.path));
  }
});

program
  .command('compare')
  .description('estimate how much a face changed between two JPEG pictures of one person')
  .argument('<x>', 'first picture')
  .argument('<y>', 'second picture')
  .option('--model <folder>', 'a run or checkpoint folder', 'run')
  .addHelpText('after', '\nExample:\n  $ comface compare monday.jpg friday.jpg --model demo/run')
  .action(async (x: string, y: string, { model: folder }: { model: string }) => {
    await using model = await loadModel(folder);
    const { change } = await model.compare(x, y);
    print(`change ${change.toFixed(2)} (in steps of alpha; near 0 is no change)`);
  });

program
  .command('doctor')
  .description('say what works here, CPU and GPU, and what to do about what does not; code 0 when at least one works')
  .option('--json', 'everything that was found, as JSON')
  .addHelpText('after', '\nExample:\n  $ comface doctor')
  .action(async ({ json }: { json?: boolean }) => {
    const diagnosis = await diagnose();
    if (json) console.log(JSON.stringify(diagnosis, null, 2));
    else print(...describe(diagnosis));
    if (diagnosis.works.length === 0) process.exitCode = 1;
  });

/** Commander quotes words of the command line as they are; its own line ends stay. */
function safeError(text: string): string {
  const words = process.argv.slice(2).flatMap((word) => [word, ...word.split('=')]);
  const shown = words.filter((word) => /[\r\n]/.test(word)).reduce((all, word) => all.replaceAll(word, printable(word)), text);
  return shown.split('\n').map(printable).join('\n');
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

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof Stopped) progress.note('Stopped; what was reached is saved: the same command (train: with --resume) goes on.');
  else {
    const isOurs = error instanceof ComFaceError;
    if (isOurs) progress.note(`comface: ${error.message}`, ...(error.hint === undefined ? [] : [`  ${error.hint}`]));
    else progress.note(...`comface: ${(error as Error)?.stack}`.split('\n'));
    process.exitCode = isOurs && (error.code === 'INVALID_CONFIG' || error.code === 'INVALID_INPUT') ? 2 : 1;
  }
}
