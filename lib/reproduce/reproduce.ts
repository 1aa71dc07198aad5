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
import { type ScaleName, scaleNames, scales } from './scales.js';
import { type Column, type Row, type Score, type TableName, tableNames, tables } from './tables.js';
import { type PieceEvent, type RealData, Workshop, type WorkshopOptions } from './workshop.js';

/** What to reproduce. */
export interface ReproduceOptions extends Partial<WorkshopOptions['place']>, RealData {
  /** table2, table3, table5, table6, table7, table8 or figure3. */
  table: TableName;
  /** Folder for data, runs and results. What is there already is used again, by any table. */
  out: string;
  /** smoke, small or paper. @default 'small' */
  scale?: ScaleName;
  /** Seeds of pre-training, folds, pairs and transfer; with several, means are given. @default [1] */
  seeds?: readonly number[];
  signal?: AbortSignal | undefined;
  onEvent?: ((event: PieceEvent) => void) | undefined;
}

/** A figure of ours beside the paper's. Accuracy in percent. */
export interface Cell {
  /** Mean over the seeds; null where we have none. */
  value: number | null;
  /** 95 % interval of a single seed, or the lowest and highest of several. */
  low: number | null;
  high: number | null;
  /** By seed. */
  values: number[];
  paper: number | null;
}

/** A table with our figures. */
export interface Reproduction {
  table: TableName;
  title: string;
  scale: ScaleName;
  seeds: number[];
  columns: string[];
  rows: { name: string; cells: Cell[] }[];
  /** In Markdown. */
  text: string;
  /** Of that text, and of the same as JSON. */
  files: { text: string; json: string };
}

/**
 * Reproduces a table of the paper: draws or reads the data, pre-trains, transfers. What was made before is not made again, and a call that was
 * stopped goes on.
 *
 * @throws ComFaceError INVALID_INPUT or INVALID_CONFIG for an option out of range; as `generate`, `twin`, `pack`, `train` and `transfer`.
 * Aborted: rejects with `signal.reason`.
 */
export async function reproduce(options: ReproduceOptions): Promise<Reproduction> {
  checkObject('options', options);
  const { table, out, scale = 'small', seeds: list = [1], disfa, fgnet, weight, sites, signal, onEvent } = options;
  const { device = 'auto', precision = 'auto', threads = 0, loaderThreads = 2 } = options;
  checkOneOf('table', table, tableNames);
  checkText('out', out);
  checkOneOf('scale', scale, scaleNames);
  const seeds = seedsOf(list);
  for (const [name, path] of Object.entries({ disfa, fgnet, weight })) if (path !== undefined) checkThere(name, path);
  const names = sites === undefined ? undefined : textsOf('sites', sites);
  if (names !== undefined && (names.length !== 2 || names[0] === names[1])) throw invalid('sites', 'two different names', names);
  checkSignal(signal);
  checkFunction('onEvent', onEvent);
  const place = { device, precision, threads, loaderThreads };
  checkTrainOptions({ ...place, data: 'data', out: 'out' });
  signal?.throwIfAborted();
  const folder = resolve(out);
  const lock = await lockRun(folder);
  try {
    const real = { disfa, fgnet, weight, sites: names };
    const workshop = new Workshop({ out: folder, scale: scales[scale], real, place, signal, onEvent: onEvent ?? (() => undefined) });
    const { title, columns, rows } = tables[table];
    const filled: Reproduction['rows'] = [];
    for (const row of rows) filled.push({ name: row.name, cells: await cellsOf(workshop, row, columns, seeds) });
    const made = { table, title, scale, seeds, columns: columns.map((column) => column.title), rows: filled };
    const text = markdown(made);
    const files = { text: join(folder, `${table}.md`), json: join(folder, `${table}.json`) };
    await writing(folder, async () => {
      await writeWhole(folder, `${table}.json`, `${JSON.stringify(made, null, 2)}\n`);
      await writeWhole(folder, `${table}.md`, text);
    });
    return { ...made, text, files };
  } finally {
    await lock.release();
  }
}

/** Its turn may come after hours: what is not there is refused before. */
function checkThere(name: string, path: unknown): void {
  checkText(name, path);
  if (existsSync(path as string)) return;
  const what = name === 'weight' ? 'a CSV file' : 'a folder';
  throw invalid(name, `${what} that is there`, path, `Name ${what}, or leave it out for a stand-in.`);
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
    const isOurs =
      (row.variant !== undefined || row.days !== undefined) && !(row.variant?.learning === 'scratch' && column.evaluation === 'linear');
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
  const isAccuracy = columns.map((name) => name.endsWith('Acc.'));
  const cell = ({ value, low, high, paper }: Cell, column: number): string => {
    const number = (x: number | null) => (x === null ? '–' : x.toFixed(isAccuracy[column] ? 1 : 3));
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
