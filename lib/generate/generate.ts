// Makes a data set of faces: drawn (lib/data/procedural.ts), or by a StyleGAN or StyleGAN3 whose weights the caller has. Of a generator each subject is
// mapped once and its groups are batches of one edit at all alphas.
import { resolve } from 'node:path';
import { checkInteger, checkNumber, checkObject, checkOneOf, checkText, textsOf } from '../check.js';
import { groupTable } from '../data/composition.js';
import { type DataSet, readData } from '../data/dataset.js';
import {
  begin,
  type CheckedSet,
  checkCall,
  checkSet,
  end,
  isMadeOfShards,
  makeShards,
  picturesOfShard,
  type SetOptions,
  targetOf,
} from '../data/generation.js';
import type { SetPlan } from '../data/makeset.js';
import type { Manifest } from '../data/manifest.js';
import { generate as generateDrawn } from '../data/procedural.js';
import { sheetOf } from '../data/sheet.js';
import { planIn } from '../data/target.js';
import { ComFaceError, invalid } from '../errors.js';
import { type Device, devices } from '../native.js';
import { type ChosenDirection, chooseDirections } from './choose.js';
import { type DirectionSpace, readDirections, spaces } from './directions.js';
import { PictureMaker } from './draw.js';
import { type GeneratorFile, readGenerator } from './file.js';
import { batchOn, chooseFor, type GeneratorPrecision, generatorPrecisions, makeGenerator } from './generator.js';

/** What may make the pictures of a set. */
export const sources = ['procedural', 'stylegan1', 'stylegan3'] as const;
/** What makes the pictures of a set: the renderer of comface, or a generator. */
export type SetSource = (typeof sources)[number];

/** What to make. */
export interface GenerateOptions extends SetOptions {
  /** What makes the pictures; a generator needs `weights` and `directions`, and makes shards alone. @default 'procedural' */
  source?: SetSource;
  /** Of a generator: the file of its weights. */
  weights?: string;
  /** Of a generator: files and folders with a direction for each attribute. */
  directions?: string | readonly string[];
  /** Of a generator: the space of directions of which nothing says what they belong to; they are then taken to be of this generator. */
  space?: DirectionSpace;
  /** Of a generator: how much of the distance of w to its mean is left, 0 to 1. @default 0.7 */
  psi?: number;
  /** Of a generator: where it runs. @default 'auto' */
  device?: Device;
  /** Of a generator: its number type. @default 'auto' */
  precision?: GeneratorPrecision;
  /** Of a generator: pictures computed at once, 1 to 64. @default 8 on CUDA, else 1 */
  batch?: number;
}

/** Pictures of a group on a preview. */
const previewAlphas = [-5, -2.5, 0, 2.5, 5];
const kPreviewSize = 160;
const kPreviewSubjects = 4;
const kPreviewRows = 60;
/** Batches between two looks at the signal; pictures are compressed while the next ones are computed. */
const kBatches = 4;
/** To see how large pictures are: a generator takes seconds for one on a CPU. */
const kSamples = 4;

/**
 * Makes a data set: subjects x attributes x alphas pictures of people who do not exist. Drawn, each has a pose, light, camera and background of its own;
 * a generator moves each subject along the direction of the attribute and changes nothing else on purpose. The same options make the same bytes, whatever
 * the threads (of a generator: on the same device). A folder that holds the set already is read and returned; one that was not finished is gone on with.
 *
 * @returns the set; with `format: 'files'` it also has the {@link Manifest}, and with it the file of each picture.
 * @throws ComFaceError INVALID_INPUT for an option out of range, a folder with other content, weights of another network, an attribute without a direction;
 * IO for a disk that is full or cannot be written; of a generator as {@link loadGenerator} and {@link readDirections}.
 * @example
 * ```ts
 * import { generate } from 'comface';
 *
 * const data = await generate({ out: 'faces', subjects: 20, attributes: ['smile', 'weight'], alphas: 5, size: 64 });
 * console.log(data.count); // 20 x 2 x 5 = 200 pictures
 * ```
 */
export async function generate(options: GenerateOptions & { format: 'files' }): Promise<DataSet & Manifest>;
export async function generate(options: GenerateOptions): Promise<DataSet>;
export async function generate(given: GenerateOptions): Promise<DataSet> {
  checkObject('options', given);
  const options = { ...given }; // read once: what was checked is what is used
  if (sourceOf(options) === 'procedural') return generateDrawn(options);
  const set = checkedSet(options);
  checkCall(options);
  const out = resolve(options.out);
  options.signal?.throwIfAborted();
  const { file, directions } = await opened(set);
  const planned = { header: headerOf(set, file, directions), table: groupTable(set.cast) };
  const generation = { out, format: set.format, planText: `${JSON.stringify({ ...planned.header, cast: set.cast })}\n` };
  const plan: SetPlan = { ...planned, picturesOfShard: picturesOfShard(set), chunk: 1, samples: kSamples };
  if (await isMadeOfShards(generation, plan)) return readData(out);
  const kept = choicesIn(planIn(targetOf(generation)), generation.planText);
  await using generator = await makeGenerator(file, set, kept);
  if (kept !== '' && kept !== generator.choices) warn(out);
  await begin(generation, `${JSON.stringify({ choices: generator.choices })}\n`);
  const maker = new PictureMaker(generator, { ...set, directions }, options.signal);
  const draw = (from: number, count: number) => maker.draw(from, count);
  await makeShards(generation, { ...plan, chunk: kBatches * generator.batch }, draw, options);
  await end(generation);
  return readData(out);
}

function sourceOf(options: GenerateOptions): SetSource {
  const { source = 'procedural' } = options;
  checkOneOf('source', source, sources);
  const names =
    source === 'procedural' ? (['weights', 'directions', 'space', 'psi', 'device', 'precision', 'batch'] as const) : (['domain'] as const);
  for (const name of names)
    if (options[name] !== undefined)
      throw invalid(name, `nothing with source ${source}`, options[name], `Leave it out, or choose another \`source\`.`);
  return source;
}

interface LatentSet extends CheckedSet {
  source: SetSource;
  weights: string;
  paths: readonly string[];
  space: DirectionSpace | undefined;
  psi: number;
  device: Device;
  precision: GeneratorPrecision;
  batch: number | undefined;
}

function checkedSet(options: GenerateOptions): LatentSet {
  const { source = 'procedural', weights, directions, space, psi = 0.7, format = 'shards', batch } = options;
  const { device = 'auto', precision = 'auto' } = options;
  const { composition = source === 'stylegan3' ? 'single' : 'full' } = options;
  if (format !== 'shards') throw invalid('format', 'shards, as a generator makes nothing else', format, 'Leave `format` out.');
  const set = checkSet({ ...options, composition, format }, () => undefined);
  const hint = 'A generator needs both: docs/data.md says where to get them.';
  if (weights === undefined) throw invalid('weights', `the file of a ${source} generator`, weights, hint);
  if (directions === undefined) throw invalid('directions', 'files or folders of directions', directions, hint);
  checkText('weights', weights);
  const paths = typeof directions === 'string' ? [directions] : textsOf('directions', directions);
  if (space !== undefined) checkOneOf('space', space, spaces);
  checkNumber('psi', psi, 0, 1);
  checkOneOf('device', device, devices);
  checkOneOf('precision', precision, generatorPrecisions);
  if (batch !== undefined) checkInteger('batch', batch, 1, 64);
  return { ...set, source, weights, paths, space, psi, device, precision, batch };
}

/** The weights and the direction of each attribute. */
async function opened({
  source,
  weights,
  paths,
  space,
  attributes,
  size,
}: LatentSet): Promise<{ file: GeneratorFile; directions: ChosenDirection[] }> {
  const file = await readGenerator(weights);
  if (!file.family.startsWith(source))
    throw new ComFaceError('INVALID_INPUT', `${file.path}: expected the weights of a ${source} generator but found a ${file.family}`, {
      hint: `Choose source ${file.family.slice(0, source.length)}, or other weights.`,
    });
  if (size > file.resolution)
    throw invalid('size', `at most ${file.resolution}, the resolution of the generator,`, size, 'Choose a smaller size.');
  const known = space === undefined ? {} : { generator: file.family, space };
  return { file, directions: chooseDirections(await readDirections(paths, known), attributes, file, paths) };
}

/** Everything that decides the pictures. The device does, too: two of them differ in the last bits. */
function headerOf(set: LatentSet, file: GeneratorFile, directions: readonly ChosenDirection[]): SetPlan['header'] {
  const { size, quality, attributes, alphas, seed, cast, shardBytes, source, psi, batch } = set;
  const { device, precision } = chooseFor(file, set.device, set.precision);
  const { firstSubject, subjects, composition } = cast;
  const moves = directions.map(({ attribute, space, from, to, sha256 }) => `${attribute} ${space} ${from}-${to - 1} ${sha256}`);
  return {
    ...{ size, encoding: quality === 0 ? 'rgb' : 'jpeg', attributes, alphas },
    made: {
      ...{ source, seed: String(seed), quality, firstSubject, subjects, composition, shardBytes },
      ...{
        generator: file.family,
        weights: file.sha256,
        psi,
        directions: moves.join(', '),
        device,
        precision,
        batch: batchOn(device, batch),
      },
    },
  };
}

const warn = (out: string): void =>
  process.emitWarning(`The set in ${out} began with other choices of convolutions than it goes on with: the last bits may differ`, {
    code: 'COMFACE_OTHER_CHOICES',
    detail: 'It was begun on another processor, or by another version. Make it anew where every picture has to be the same.',
  });

/** What an earlier call chose, behind its plan. */
function choicesIn(text: string, planText: string): string {
  try {
    const { choices } = JSON.parse(text.startsWith(planText) ? text.slice(planText.length) : '{}') as { choices?: unknown };
    return typeof choices === 'string' ? choices : '';
  } catch {
    return '';
  }
}

/** A row of a preview. */
export interface PreviewRow {
  /** Number of the subject. */
  subject: number;
  /** What changes. */
  attribute: string;
  /** File of the direction that it changes along. */
  direction: string;
}

/** What a preview shows. */
export interface Preview {
  /** The sheet as a JPEG. */
  jpeg: Uint8Array;
  /** Of each row who it shows, and what changes. */
  rows: PreviewRow[];
  /** Of each column how far it is changed. */
  alphas: number[];
}

/**
 * Makes a few pictures of the set that {@link generate} would make with the same options of a generator, on one sheet to look at first: a row for each of
 * the first subjects and their attributes, at five alphas.
 *
 * @throws ComFaceError as {@link generate}.
 */
export async function previewSet(given: GenerateOptions): Promise<Preview> {
  checkObject('options', given);
  const options = { ...given };
  if (sourceOf(options) === 'procedural')
    throw invalid('source', 'stylegan1 or stylegan3', 'procedural', 'Use contactSheet() for drawn faces.');
  const set = checkedSet(options);
  checkCall({ ...options, out: options.out ?? '.' });
  options.signal?.throwIfAborted();
  const { file, directions } = await opened(set);
  const { cast } = set;
  const subjects = Math.min(
    cast.subjects,
    cast.composition === 'full' ? kPreviewSubjects : Math.min(kPreviewRows, cast.attributes + kPreviewSubjects),
  );
  const shown = { ...set, alphas: previewAlphas, size: Math.min(kPreviewSize, file.resolution), quality: 0, cast: { ...cast, subjects } };
  const table = groupTable(shown.cast);
  const rows = Math.min(kPreviewRows, table.subject.length);
  await using generator = await makeGenerator(file, set);
  const maker = new PictureMaker(generator, { ...shown, directions }, options.signal);
  const pixels: Uint8Array[] = [];
  const [started, total] = [performance.now(), rows * previewAlphas.length];
  for (let row = 0; row < rows; row++) {
    pixels.push((await maker.draw(row * previewAlphas.length, previewAlphas.length)).bytes);
    const done = (row + 1) * previewAlphas.length;
    options.onProgress?.({ done, total, secondsLeft: ((performance.now() - started) / 1000 / done) * (total - done) });
  }
  const jpeg = await sheetOf(Buffer.concat(pixels), { rows, columns: previewAlphas.length, size: shown.size, group: previewAlphas.length });
  const names = Array.from({ length: rows }, (_, row) => ({
    subject: table.subject[row]!,
    attribute: set.attributes[table.attribute[row]!]!,
    direction: directions[table.attribute[row]!]!.file,
  }));
  return { jpeg, rows: names, alphas: [...previewAlphas] };
}
