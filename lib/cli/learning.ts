// Commands that train: the demo, pre-training, transfer, the paper's tables.
import { Argument, type Command, Option } from 'commander';
import { checkTrainOptions, type Flag, mergeOptions, readConfig, type TrainOptions, trainFlags } from '../config.js';
import { type DemoResult, type DemoScale, demo, demoScales } from '../demo.js';
import type { GivenOptions } from '../flags.js';
import { duration, rate } from '../progress.js';
import { type ReproduceOptions, reproduce } from '../reproduce/reproduce.js';
import { scaleNames } from '../reproduce/scales.js';
import { type TableName, tableNames } from '../reproduce/tables.js';
import type { PieceEvent, Rivals } from '../reproduce/workshop.js';
import { type StepEvent, train } from '../train/train.js';
import type { TransferEvent } from '../transfer/events.js';
import { type TransferOptions, transferAugment } from '../transfer/options.js';
import type { TransferResult, TransferScore } from '../transfer/result.js';
import { transfer } from '../transfer/transfer.js';
import { beginWork, list, number, path, printResult, progress, showCount, stopSignal, wrapped } from './terminal.js';
import { rivalOf } from './weights.js';

/** comface demo */
export function addDemo(program: Command): void {
  program
    .command('demo')
    .summary('See it learn: draw faces, train, compare (about 6 minutes)')
    .description('Draw faces, pre-train a small network on them, compare faces of people it has never seen (about 6 minutes).')
    .option('--out <folder>', 'Folder for faces, run and report: new, empty, or of an earlier demo', 'demo')
    .addOption(
      new Option('--scale <name>', 'full, or smoke: only show in seconds that all parts run')
        .choices(Object.keys(demoScales))
        .default('full'),
    )
    .addHelpText('after', '\nExamples:\n  $ comface demo\n  $ comface demo --out /tmp/comface-demo --scale smoke')
    .action(async ({ out, scale }: { out: string; scale: DemoScale }) => {
      const result = await demo({
        out,
        scale,
        signal: stopSignal(),
        onEvent: (event) => {
          beginWork();
          if (event.type === 'phase') progress.note(`${event.text}.`);
          else if (event.type === 'step') showStep(event.step);
          else showCount(event.progress.done, event.progress.total, 'faces', event.progress.secondsLeft);
        },
      });
      printResult(result, ...demoTable(result));
    });
}

/** comface train. @param givenTo What was typed for a command. */
export function addTrain(program: Command, givenTo: (command: Command) => GivenOptions): void {
  const training = program
    .command('train')
    .summary('Pre-train a network on a data set')
    .description('Pre-train a network on a data set. Ctrl+C saves and stops, --resume goes on.')
    .option('--config <file>', 'YAML file of options (`pairsPerEpoch: 64` is --pairs-per-epoch 64); flags win over it')
    .addHelpText(
      'after',
      `\n${wrapped("Most defaults are the paper's: a ResNet-50 at 224 pixels, which wants a GPU. On a few cores begin with --backbone resnet18 --size 64.")}\n\nExamples:\n  $ comface train --data faces --out run --backbone resnet18 --size 64\n  $ comface train --config run.yaml --resume`,
    );
  for (const flag of trainFlags()) training.addOption(optionOf(flag));
  training.action(async (flags: Record<string, unknown>) => {
    const file = typeof flags.config === 'string' ? await readConfig(flags.config) : undefined;
    if (file) givenTo(training).addFile(flags.config as string, file);
    const options = mergeOptions(file?.options ?? {}, flags);
    checkTrainOptions(options);
    const run = train(options as TrainOptions, { signal: stopSignal() });
    for await (const event of run) {
      if (event.type === 'start') {
        beginWork();
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
    }
    const result = await run;
    printResult(result, path(result.path));
  });
}

/** Parts of a help of 40 options, by name; the others are how it trains. */
const optionGroups: readonly [RegExp, string][] = [
  [/^(data|out|seed|resume)$/, 'Options:'],
  [/^(backbone|width|size|projection\..*)$/, 'Network:'],
  [/^curriculum/, 'Curriculum:'],
  [/^augment\./, 'Views:'],
  [/^(device|precision|threads|loaderThreads|deterministic|gradientCache)$/, 'Machine:'],
  [/^(checkpointEverySteps|keepCheckpoints|logEverySteps|brokenShare)$/, 'Log, checkpoints, broken pictures:'],
];

/** The library refuses what is no choice: it says the same for a file of options. */
function optionOf({ flag, description, parse, choices, path: names }: Flag): Option {
  const group = optionGroups.find(([known]) => known.test(names.join('.')))?.[1] ?? 'Training:';
  const option = new Option(flag, description).argParser(parse).helpGroup(group);
  if (choices) option.argChoices = [...choices];
  return option;
}

function showStep({ step, steps, epoch, inter, intra, pairsPerSecond, secondsLeft }: StepEvent): void {
  // What matters most first: a narrow terminal cuts the rest.
  const left = step < steps ? [`${duration(secondsLeft)} left`] : [];
  const parts = [`step ${step}/${steps}`, ...left, rate(pairsPerSecond, 'pairs'), `epoch ${epoch}`];
  progress.update(`  ${parts.join('  ')}  inter ${inter.toFixed(3)}  intra ${intra.toFixed(3)}`, step === steps);
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
/** Of pre-training's flags those that transfer has, too; its defaults are its own. */
const kShared = /^(seed|backbone|width|size|device|precision|threads|loaderThreads|weightDecay|augment\..*)$/;

/** comface transfer */
export function addTransfer(program: Command): void {
  const command = program
    .command('transfer')
    .summary('Teach a trained network a change that people label')
    .description('Transfer a pre-trained network to a change that people label, and test it on subjects it has not seen.')
    .requiredOption('--data <folder>', 'Data set with the label of each picture, as comface pack makes')
    .requiredOption('--out <folder>', 'Folder for the results, new or empty; a transfer that was stopped goes on')
    .option('--model <folder>', 'Run or checkpoint to begin with (left out: random weights, with --backbone, --width, --size)')
    .option('--attribute <name>', 'What changes, where the data set has several: AU12, say')
    .option('--unit <text>', 'What a change is counted in (left out: known for AU6, AU12, weight and age)')
    .option('--test-data <folder>', "Data set to test on in place of the subjects kept out: another hospital's, say")
    .option('--evaluation <name>', 'What is learned: fineTune (all layers) or linear (a layer on the backbone as it is)', 'fineTune')
    .option('--folds <integer>', 'Test sets of subjects, 2 to 100', number, 4)
    .option('--pairs-per-subject <integer>', 'Pairs drawn of each subject', number, 100)
    .option(
      '--learning-rates <list>',
      'Tried one after the other; the validation subjects decide',
      (text) => list(text).map(number),
      [1e-4, 4e-4],
    )
    .option('--epochs <integer>', 'Most times through the training pairs', number, 30)
    .option('--patience <integer>', 'Epochs without a smaller validation error, before a training ends', number, 3)
    .option('--pairs <integer>', 'Pairs in a step', number, 32)
    .option('--no-final', 'Do not train a model of all subjects at the end');
  for (const flag of trainFlags()) {
    const name = flag.path.join('.');
    if (!kShared.test(name)) continue;
    const own = transferAugment[name.replace('augment.', '') as keyof typeof transferAugment];
    const isOwn = own !== undefined && name.startsWith('augment.');
    const description = isOwn ? flag.description.replace(/\(default: .*\)$/, `(default: ${own})`) : flag.description;
    command.addOption(optionOf({ ...flag, description }));
  }
  command
    .addHelpText(
      'after',
      '\nExamples:\n  $ comface transfer --data disfa --attribute AU12 --model run --out smiles\n  $ comface transfer --data edema-a --test-data edema-b --model run --out weight',
    )
    .action(async (flags: Record<string, unknown>) => {
      const own = [
        'model',
        'attribute',
        'unit',
        'testData',
        'evaluation',
        'folds',
        'pairsPerSubject',
        'learningRates',
        'patience',
        'final',
      ];
      const options = { ...mergeOptions({}, flags), ...Object.fromEntries(own.map((name) => [name, flags[name]])) };
      const result = await transfer({ ...(options as unknown as TransferOptions), signal: stopSignal(), onEvent: showTransfer });
      printResult(result, ...resultLines(result), path(flags.out as string));
    });
}

/** When the folds will be done, as the last one told it, and how many there are. */
const foldsOf = { endMs: 0, count: 0 };

function showTransfer(event: TransferEvent): void {
  beginWork();
  if (event.type === 'start') {
    const { attribute, unit, pictures, subjects, pairs, folds } = event;
    Object.assign(foldsOf, { endMs: 0, count: folds });
    progress.note(`${attribute} in ${unit}: ${pairs} pairs of ${pictures} pictures of ${subjects} subjects, ${folds} folds.`);
  } else if (event.type === 'warning') progress.note(`Warning: ${event.message}`);
  else if (event.type === 'step') {
    const { fold, learningRate, epoch, validationError } = event;
    const secondsLeft = (foldsOf.endMs - performance.now()) / 1000;
    const left = secondsLeft > 0 ? `  ${duration(secondsLeft)} left` : '';
    const where = fold > foldsOf.count ? 'final model' : `fold ${fold} of ${foldsOf.count}`;
    progress.update(`  ${where}  epoch ${epoch}${left}  learning rate ${learningRate}  validation error ${validationError.toPrecision(4)}`);
  } else {
    foldsOf.endMs = performance.now() + 1000 * event.secondsLeft;
    progress.note(
      `Fold ${event.fold} of ${event.folds}: mean error ${event.mae.toFixed(3)}, correlation ${event.correlation.toFixed(3)}; ${duration(event.secondsLeft)} left.`,
    );
  }
}

/** Scores with their intervals. */
function resultLines({ scores: { mae, correlation, accuracy }, unit, attribute }: TransferResult): string[] {
  const text = ({ value, low, high }: TransferScore, scale: number, digits: number): string =>
    value === null || low === null || high === null
      ? 'none'
      : `${(scale * value).toFixed(digits)} [${(scale * low).toFixed(digits)}, ${(scale * high).toFixed(digits)}]`;
  return [
    `${attribute}: means over folds [95 % interval over subjects]`,
    `  mean error   ${text(mae, 1, 3)} ${unit}`,
    `  correlation  ${text(correlation, 1, 3)}`,
    `  direction    ${text(accuracy, 100, 1)} %`,
  ];
}

/** comface reproduce */
export function addReproduce(program: Command): void {
  program
    .command('reproduce')
    .summary('Make a table of the paper again, with its figures beside ours')
    .description(
      'Make a table of the paper, with its figures beside ours: data, pre-trainings and transfers. What is there is not made again.',
    )
    .addArgument(new Argument('<table>', `What to make: ${tableNames.join(', ')}`).choices(tableNames))
    .requiredOption('--out <folder>', 'Folder for data, runs and results of all tables')
    .addOption(
      new Option('--scale <name>', 'How large: smoke (minutes, learns next to nothing), small (hours on two cores) or paper (its sizes)')
        .choices(scaleNames)
        .default('small'),
    )
    .option('--seeds <list>', 'Seeds; with several, means are given', (text) => list(text).map(number), [1])
    .option('--disfa <folder>', 'Your DISFA (left out: a stand-in is drawn)')
    .option('--fgnet <folder>', 'Your FG-NET (left out: a stand-in is drawn)')
    .option('--weight <file>', 'Your CSV file of dialysis pictures of two sites (left out: a stand-in is drawn)')
    .option('--rival <name=folder>', 'Weights of others for their row, from comface import; once for each', rivalOf)
    .option('--sites <list>', 'Its two sites: learned from in A→B, then tested (left out: A,B)', list)
    .option('--device <name>', 'Where it runs: auto, cpu, cuda or reference, as of train', 'auto')
    .option('--precision <name>', 'Number type: auto, fp32, bf16 or fp16, as of train', 'auto')
    .option('--threads <integer>', 'Compute threads; 0: one for each core', number, 0)
    .option('--loader-threads <integer>', 'Threads that read pictures and make views', number, 2)
    .addHelpText(
      'after',
      '\nExamples:\n  $ comface reproduce table7 --out tables --scale smoke\n  $ comface reproduce table2 --out tables --disfa /data/DISFA --scale paper',
    )
    .action(async (table: TableName, { rival, ...options }: Omit<ReproduceOptions, 'table' | 'rivals'> & { rival?: Rivals }) => {
      const made = await reproduce({ ...options, table, rivals: rival, signal: stopSignal(), onEvent: showPiece });
      const { text, files } = made;
      printResult(made, ...text.split('\n'), ...[files.text, files.picture].flatMap((file) => (file === undefined ? [] : [path(file)])));
    });
}

function showPiece(event: PieceEvent): void {
  beginWork();
  if (event.type === 'piece') progress.note(`${event.text}.`);
  else if (event.type === 'warning') progress.note(`Warning: ${event.message}`);
  else showCount(event.done, event.total, event.unit, event.secondsLeft);
}
