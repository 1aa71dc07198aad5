// Runs what a table of the paper takes and puts our figures beside the paper's.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { checkFunction, checkInteger, checkObject, checkOneOf, checkSignal, checkText, textsOf } from '../check.js';
import { checkTrainOptions } from '../config.js';
import { writeWhole } from '../data/shards.js';
import { writing } from '../data/target.js';
import { invalid } from '../errors.js';
import { lockRun } from '../train/checkpoint.js';
import { mean } from '../transfer/metrics.js';
import type { TransferResult } from '../transfer/result.js';
import type { Place } from '../transfer/tune.js';
import { comparatorNames } from '../weights/comparators.js';
import { looks } from './looks.js';
import { type Scale, type ScaleName, scaleNames, scales } from './scales.js';
import { type Cell, type Column, type Row, type Score, type Table, type TableName, tableNames, tables } from './tables.js';
import { type PieceEvent, type RealData, type Rivals, Workshop, type WorkshopOptions } from './workshop.js';

/** What to reproduce. */
export interface ReproduceOptions extends Partial<Place>, RealData {
  /** The table or figure. */
  table: TableName;
  /** Folder for data, runs and results. What is there already is used again, by any table. */
  out: string;
  /** How large it is. @default 'small' */
  scale?: ScaleName;
  /** Seeds of pre-training, folds, pairs and transfer, 1 to 100 different ones; with several, means are given. @default [1] */
  seeds?: readonly number[];
  /** Weights of others for their rows, by name: folders that {@link importWeights} made. @default none, these rows have the paper's figures alone */
  rivals?: Rivals | undefined;
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
  /** Called with what happens. */
  onEvent?: ((event: PieceEvent) => void) | undefined;
}

/** A table with our figures. */
export interface Reproduction {
  /** The table or figure. */
  table: TableName;
  /** Its title. */
  title: string;
  /** How large it was. */
  scale: ScaleName;
  /** The seeds that it is of. */
  seeds: number[];
  /** Titles of the columns. */
  columns: string[];
  /** The rows. */
  rows: {
    /** What was trained, or whose figures they are. */
    name: string;
    /** A figure for each column. */
    cells: Cell[];
  }[];
  /** All of it in Markdown. */
  text: string;
  /** What was written. */
  files: {
    /** The text. */
    text: string;
    /** The same as JSON. */
    json: string;
    /** What figure 4 shows, as PNG. */
    picture?: string;
  };
}

/**
 * Reproduces a table of the paper: draws or reads the data, pre-trains, transfers. What was made before is not made again, and a call that was
 * stopped goes on.
 *
 * @throws ComFaceError INVALID_INPUT or INVALID_CONFIG for an option out of range; else as {@link generate}, {@link twin}, {@link pack}, {@link train} and
 * {@link transfer}.
 * @example
 * ```ts
 * import { reproduce } from 'comface';
 *
 * const { text, files } = await reproduce({ table: 'table7', out: 'tables', scale: 'smoke' });
 * console.log(text, files.json);
 * ```
 */
export async function reproduce(options: ReproduceOptions): Promise<Reproduction> {
  const { table, out, scale, seeds, ...how } = checked(options);
  how.signal?.throwIfAborted();
  const lock = await lockRun(out);
  try {
    const workshop = new Workshop({ out, scale: scales[scale], ...how });
    const { sheet, ...filled } =
      table === 'figure4' ? await lookedAt(workshop, scales[scale], how, seeds[0]!) : await filledIn(workshop, tables[table], seeds);
    const made = { table, scale, seeds, ...filled };
    const text = markdown(made);
    const file = (ending: string) => `${table}.${ending}`;
    await writing(out, async () => {
      await writeWhole(out, file('json'), `${JSON.stringify(made, null, 2)}\n`);
      if (sheet) await writeWhole(out, file('png'), Buffer.from(sheet));
      await writeWhole(out, file('md'), text);
    });
    const path = (ending: string) => join(out, file(ending));
    return { ...made, text, files: { text: path('md'), json: path('json'), ...(sheet && { picture: path('png') }) } };
  } finally {
    await lock.release();
  }
}

function checked(options: ReproduceOptions) {
  checkObject('options', options);
  const { table, out, scale = 'small', seeds, rivals, disfa, fgnet, weight, sites, signal, onEvent = () => undefined } = options;
  const { device, precision, threads, loaderThreads } = options;
  checkOneOf('table', table, tableNames);
  checkText('out', out);
  checkOneOf('scale', scale, scaleNames);
  const numbers = seedsOf(seeds ?? [1]);
  for (const [name, path] of Object.entries({ disfa, fgnet, weight })) if (path !== undefined) checkThere(name, path);
  const names = sites === undefined ? undefined : textsOf('sites', sites);
  if (names !== undefined && (names.length !== 2 || names[0] === names[1])) throw invalid('sites', 'two different names', names);
  checkSignal(signal);
  checkFunction('onEvent', onEvent);
  const given = Object.entries({ device, precision, threads, loaderThreads }).filter(([, value]) => value !== undefined);
  const whole = checkTrainOptions({ ...Object.fromEntries(given), data: 'data', out: 'out' });
  const place = { device: whole.device, precision: whole.precision, threads: whole.threads, loaderThreads: whole.loaderThreads };
  const real = { disfa, fgnet, weight, sites: names };
  return { table, out: resolve(out), scale, seeds: numbers, real, rivals: rivalsOf(rivals), place, signal, onEvent };
}

async function filledIn(workshop: Workshop, { title, columns, rows }: Table, seeds: readonly number[]): Promise<Filled> {
  const filled: Filled['rows'] = [];
  for (const row of rows) filled.push({ name: row.name, cells: await cellsOf(workshop, row, columns, seeds) });
  return { title, columns: columns.map((column) => column.title), rows: filled };
}

async function lookedAt(workshop: Workshop, scale: Scale, how: Pick<WorkshopOptions, 'place' | 'signal'>, seed: number): Promise<Filled> {
  const { rows, sheet } = await looks(workshop, { scale, ...how }, seed);
  return {
    title: 'Figure 4: where pre-trained backbones look (Eigen-CAM), in the first seed',
    columns: ['Between brows and mouth, %'],
    rows,
    sheet,
  };
}

interface Filled extends Pick<Reproduction, 'title' | 'columns' | 'rows'> {
  sheet?: Uint8Array;
}

/** Its turn may come after hours: what is not there is refused before. */
function checkThere(name: string, path: unknown): void {
  checkText(name, path);
  if (existsSync(path as string)) return;
  const what = name === 'weight' ? 'a CSV file' : 'a folder';
  throw invalid(name, `${what} that is there`, path, `Name ${what}, or leave it out for a stand-in.`);
}

function rivalsOf(rivals: unknown): Rivals {
  if (rivals === undefined) return {};
  checkObject('rivals', rivals);
  const copy: Record<string, string> = {};
  for (const [name, folder] of Object.entries(rivals)) {
    checkOneOf('rivals', name, comparatorNames);
    checkText(`rivals.${name}`, folder);
    if (!existsSync(folder)) throw invalid(`rivals.${name}`, 'a folder that is there', folder, 'Make it: comface import FILE --out FOLDER');
    copy[name] = folder;
  }
  return copy;
}

function seedsOf(list: unknown): number[] {
  if (!Array.isArray(list)) throw invalid('seeds', 'a list of integers', list, 'Pass an array.');
  const seeds = [...list] as unknown[];
  for (const [i, seed] of seeds.entries()) checkInteger(`seeds[${i}]`, seed, 0, Number.MAX_SAFE_INTEGER);
  if (seeds.length === 0 || seeds.length > 100 || new Set(seeds).size < seeds.length)
    throw invalid('seeds', '1 to 100 different integers', seeds, 'Name each seed once.');
  return seeds as number[];
}

async function cellsOf(workshop: Workshop, row: Row, columns: readonly Column[], seeds: readonly number[]): Promise<Cell[]> {
  const cells: Cell[] = [];
  for (const [i, column] of columns.entries()) {
    const paper = row.paper[i] ?? null;
    // A random backbone that stays as it is learns nothing: the paper leaves these out.
    const isRun = row.variant !== undefined || row.days !== undefined || workshop.rivalOf(row) !== undefined;
    const isOurs = isRun && !(row.variant?.learning === 'scratch' && column.evaluation === 'linear');
    const results: TransferResult[] = [];
    for (const seed of isOurs ? seeds : []) results.push(await workshop.cell(row, column, seed));
    cells.push(cellOf(results, column.score, paper));
  }
  return cells;
}

function cellOf(results: readonly TransferResult[], score: Score, paper: number | null): Cell {
  const scale = score === 'accuracy' ? 100 : 1;
  const values = results.flatMap(({ scores }) => scores[score].value ?? []).map((value) => value * scale);
  if (values.length === 0) return { value: null, low: null, high: null, values, paper };
  const { low, high } = results[0]!.scores[score];
  const range =
    values.length > 1
      ? [Math.min(...values), Math.max(...values)]
      : [low === null ? null : low * scale, high === null ? null : high * scale];
  return { value: mean(values), low: range[0]!, high: range[1]!, values, paper };
}

/** Ours with its interval, the paper's in parentheses. */
function markdown({ title, scale, seeds, columns, rows }: Omit<Reproduction, 'text' | 'files'>): string {
  const isPercent = columns.map((name) => /Acc\.$|%/.test(name));
  const cell = ({ value, low, high, paper }: Cell, column: number): string => {
    const number = (x: number | null) => (x === null ? '–' : x.toFixed(isPercent[column] ? 1 : 3));
    const ours = value === null ? '–' : `${number(value)} [${number(low)}, ${number(high)}]`;
    return `${ours} (${number(paper)})`;
  };
  const lines = [
    `# ${title}`,
    '',
    `Scale ${scale}, ${seeds.length === 1 ? `seed ${seeds[0]}: ours [95 % interval over subjects]` : `mean of seeds ${seeds.join(', ')} [lowest, highest]`} (the paper's). Acc. in percent.`,
    '',
    `| | ${columns.join(' | ')} |`,
    `| --- |${columns.map(() => ' --- |').join('')}`,
    ...rows.map(({ name, cells }) => `| ${name} | ${cells.map(cell).join(' | ')} |`),
  ];
  return `${lines.join('\n')}\n`;
}
