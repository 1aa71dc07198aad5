// Commands that make data sets: drawn or by a generator, the directions of generators, and several sets as one.
import { Argument, type Command, Option } from 'commander';
import { attributes } from '../data/attributes.js';
import { type JoinOptions, joinSets } from '../data/joined.js';
import { counted, invalid } from '../errors.js';
import { type Direction, type DirectionSpace, projectDirection, readDirections, spaces } from '../generate/directions.js';
import { type GenerateOptions, generate, previewSet, sources } from '../generate/generate.js';
import { generatorPrecisions } from '../generate/generator.js';
import { saveDirection } from '../generate/save.js';
import { devices } from '../native.js';
import { fieldsOf } from './data.js';
import { beginWork, list, number, path, printResult, progress, showCount, showDisk, stopSignal, wrapped, writeResult } from './terminal.js';

/** As in the paper: StyleGAN changes the first three, StyleGAN3 those of CelebA. */
const kOfStyleGan = 3;

/** comface generate */
export function addGenerate(program: Command): void {
  const command = program
    .command('generate')
    .summary('Make a data set of faces to train on')
    .description(
      'Make a data set of faces, drawn or by a generator: subjects with attributes, each at each alpha, which is how strong it is: 0 leaves the face as it is.',
    )
    .requiredOption('--out <folder>', 'Folder for the data set, new or empty; an unfinished set is finished')
    .option('--subjects <integer>', 'Number of people', number, 100)
    .option('--first-subject <integer>', 'Number of the first of them: sets that share no number share nobody', number, 0)
    .option(
      '--attributes <list>',
      `Attributes to change one at a time, separated by commas (left out: weight,age,smile; of stylegan3 the other ${attributes.length - kOfStyleGan})`,
      list,
    )
    .option('--alphas <integer>', 'Number of alphas of an attribute, 2 or more, evenly from -5 to 5', number, 11)
    .option('--size <integer>', 'Edge of a picture in pixels, 32 to 512', number, 224)
    .option('--seed <integer>', 'Decides who the people are, and every picture', number, 1)
    .option('--domain <integer>', 'Of drawn faces: family of camera, light and backdrop, 0 or 1 (left out: 0)', number)
    .option('--quality <integer>', 'Quality of the JPEG pictures, 1 to 100; 0, in shards: pixels as they are', number, 90)
    .option(
      '--composition <name>',
      'Who has which attributes: full (each person each), single (each person one, in turn) or paper (one in five the first three, the others one of the rest) (left out: full; of stylegan3 single)',
    )
    .option('--format <name>', 'How pictures lie there: shards (thousands a file) or files (a JPEG each and a manifest.jsonl)', 'shards')
    .option('--threads <integer>', 'Threads that draw or compress pictures, at most 64; 0: one for each core', number, 0);
  addSource(command);
  command
    .addHelpText(
      'after',
      `\n${wrapped(`Attributes: ${attributes.join(', ')}`)}\n\n${wrapped("The weights of StyleGAN and StyleGAN3 are their makers': docs/data.md says where they are and what their licenses allow.")}\n\nExamples:\n  $ comface generate --out faces\n  $ comface generate --out faces --subjects 500 --attributes smile,weight --size 128\n  $ comface generate --source stylegan1 --weights stylegan_ffhq.pth --directions directions --out faces --preview sheet.jpg`,
    )
    .action(async ({ preview, ...options }: GenerateOptions & { preview?: string }) => {
      const given: GenerateOptions = {
        ...options,
        attributes:
          options.attributes ?? (options.source === 'stylegan3' ? attributes.slice(kOfStyleGan) : attributes.slice(0, kOfStyleGan)),
        signal: stopSignal(),
        onDisk: showDisk,
        onProgress: ({ done, total, secondsLeft }) => {
          beginWork();
          showCount(done, total, 'faces', secondsLeft);
        },
      };
      if (preview !== undefined) await showPreview(preview, given);
      else {
        const set = await generate(given);
        printResult(fieldsOf(set), `${set.count} pictures in ${path(set.folder)}`);
      }
    });
}

/** Options of a generator. */
function addSource(command: Command): void {
  command
    .addOption(new Option('--source <name>', 'What makes the pictures').choices(sources).default('procedural'))
    .option('--weights <file>', 'Of a generator: its weights')
    .option('--directions <list>', 'Of a generator: files and folders with the direction of each attribute, separated by commas', list)
    .addOption(
      new Option('--space <name>', 'Of a generator: the space of directions of which nothing says what they belong to').choices(spaces),
    )
    .option('--psi <number>', 'Of a generator: how much of the distance of a face to the mean is left, 0 to 1 (left out: 0.7)', number)
    .addOption(new Option('--device <name>', 'Of a generator: where it runs (left out: auto)').choices(devices))
    .addOption(
      new Option(
        '--precision <name>',
        'Of a generator: its number type; auto is fp16 for the larger layers of StyleGAN3 on CUDA, else fp32 (left out: auto)',
      ).choices(generatorPrecisions),
    )
    .option('--batch <integer>', 'Of a generator: pictures computed at once, 1 to 64 (left out: 8 on CUDA, else 1)', number)
    .option('--preview <file>', 'Of a generator: make a few pictures on one sheet (JPEG) in place of the set, to look at first');
}

async function showPreview(file: string, options: GenerateOptions): Promise<void> {
  const { jpeg, rows, alphas } = await previewSet(options);
  await writeResult(file, jpeg);
  progress.note(
    `Columns: alpha ${alphas.join(', ')}. Rows: ${rows.map(({ subject, attribute }) => `${attribute} of ${subject}`).join(', ')}.`,
  );
  printResult({ file, rows, alphas }, path(file));
}

/** comface directions */
export function addDirections(program: Command): void {
  program
    .command('directions')
    .summary('List, show or project directions of generators')
    .description('List directions in which attributes of generated faces change, show one, or take others out of one.')
    .addArgument(
      new Argument('<action>', 'list: those of files and folders; show: all of one; project: take others out of one').choices([
        'list',
        'show',
        'project',
      ]),
    )
    .argument('<path...>', 'Files (.npy) and folders; of project the one to change')
    .option('--without <list>', 'Of project: files of the directions to take out, separated by commas', list)
    .option('--out <file>', 'Of project: where the new direction goes (.npy); manifest.json beside it says what it is')
    .option('--attribute <name>', 'Of project: what the new direction changes (left out: what the old one does)')
    .option('--generator <name>', 'Generator of files of which nothing says it: stylegan1, stylegan3-t or stylegan3-r')
    .addOption(new Option('--space <name>', 'Space of these files').choices(spaces))
    .addHelpText(
      'after',
      '\nExamples:\n  $ comface directions list directions\n  $ comface directions project boundary_Chubby.npy --without boundary_Smiling.npy,boundary_Young.npy --attribute weight --out own/weight.npy',
    )
    .action(async (action: string, paths: string[], options: DirectionFlags) => {
      if (action === 'project') return project(paths, options);
      const found = await readDirections(paths, options);
      if (action === 'show' && found.length !== 1) throw invalid('path', 'the file of one direction', found.length, 'Name one .npy file.');
      const shown = found.map(({ values, ...facts }) => (action === 'show' ? { ...facts, values } : facts));
      printResult(action === 'show' ? shown[0]! : { directions: shown }, ...(action === 'show' ? factsOf(found[0]!) : linesOf(found)));
    });
}

interface DirectionFlags {
  without?: string[];
  out?: string;
  attribute?: string;
  generator?: string;
  space?: DirectionSpace;
}

async function project(paths: string[], { without, out, attribute, ...known }: DirectionFlags): Promise<void> {
  const hint = 'comface directions project FILE --without OTHER.npy --out NEW.npy';
  if (without === undefined) throw invalid('without', 'the directions to take out', without, hint);
  if (out === undefined) throw invalid('out', 'a file for the new direction', out, hint);
  const [direction, ...more] = await readDirections(paths, known);
  if (more.length > 0) throw invalid('path', 'the file of one direction', more.length + 1, 'Name one .npy file.');
  const projected = projectDirection(direction!, await readDirections(without, known));
  const saved = await saveDirection({ ...projected, attribute: attribute ?? projected.attribute }, out);
  const { values: _, ...facts } = saved;
  printResult(facts, path(saved.file));
}

/** A line each, in columns. */
function linesOf(found: readonly Direction[]): string[] {
  const rows = found.map(({ attribute, generator, space, rows: count, width, file }) => [
    ...[attribute, generator ?? 'generator not known', space ?? 'space not known', `${count} x ${width}`, path(file)],
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return [...rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')), `${counted(found.length, 'direction')}.`];
}

function factsOf({ file, attribute, generator, space, rows, width, norm, sha256 }: Direction): string[] {
  return [
    `${path(file)}: ${attribute} of ${generator ?? 'a generator that nothing says'}, ${space ?? 'of a space that nothing says'}`,
    `${rows} x ${width} numbers, the first row ${norm.toPrecision(4)} long, SHA-256 ${sha256}`,
  ];
}

/** comface join */
export function addJoin(program: Command): void {
  program
    .command('join')
    .summary('Join data sets, to train on all of them')
    .description('Join data sets into one that names their folders: nothing is copied, and they stay where they are.')
    .argument('<folder...>', 'Folders of sets in shards, with pictures of one size')
    .requiredOption('--out <folder>', 'Folder for the joined set, new or empty')
    .option('--renumber', 'Subjects with the same number in different sets are different people')
    .addHelpText('after', '\nExample:\n  $ comface join stylegan1 stylegan3 --renumber --out paper')
    .action(async (sets: string[], options: Omit<JoinOptions, 'sets'>) => {
      const joined = await joinSets({ ...options, sets });
      const said = `${counted(joined.count, 'picture')} of ${counted(joined.subjects.length, 'subject')} in ${path(joined.folder)}`;
      printResult(fieldsOf(joined), said);
    });
}
