// Many pairs compared: a CSV file of two pictures a row becomes the same file with the change of each. A picture is read once, in however many pairs
// it stands; one that cannot be read costs its rows only, and they say why.
import { createReadStream } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { checkFunction, checkInteger, checkObject, checkSignal, checkText } from '../check.js';
import { Columns, type Row as CsvRow, corruptCsv, csvLine, openCsv } from '../data/csv.js';
import { ComFaceError, invalid } from '../errors.js';
import { checkModel, embedUsable, type Model } from '../model.js';
import { type NativeSource, native } from '../native.js';
import { replaceFile } from './files.js';

/** What to compare. */
export interface ComparePairsOptions {
  /** CSV file with the columns `x` and `y`: JPEG files, their paths from the file's folder. Other columns are kept. */
  pairs: string;
  /** CSV file of the results: the columns of `pairs`, then `change`, `direction` and, where there is none, the `reason`. It is replaced when there. */
  out: string;
  /** Threads that read pictures, 1 to 64. @default 2 */
  threads?: number;
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
  /** Called after each few pictures with how many were read, of how many, and the seconds left. */
  onProgress?: (progress: { done: number; total: number; secondsLeft: number }) => void;
}

/** What came of it. */
export interface ComparedPairs {
  /** The CSV file that was written. */
  out: string;
  /** Number of rows. */
  pairs: number;
  /** Number of different pictures in them. */
  pictures: number;
  /** Rows that have a reason in place of a change. */
  failed: {
    /** Line of the row in `pairs`, from 1; the names of the columns are line 1. */
    line: number;
    /** Why there is no change. */
    reason: string;
  }[];
}

const kHint = 'The first line names the columns: x and y, the two pictures of a person, and any others.';
const kResults = ['change', 'direction', 'reason'];
/** Pictures embedded in one call: a batch of the model. */
const kAtOnce = 32;
/** JavaScript's maps hold no more. */
const kMostRows = 2 ** 24;

/**
 * Compares the pairs of a CSV file. Each picture is read once; one that cannot be read costs its rows only, and they say why. Stopped, it writes nothing.
 * Embeddings stay in memory: 8 kB for each picture with a ResNet-50.
 *
 * @param model A model with a change head.
 * @throws ComFaceError INVALID_INPUT for `out` that is `pairs` and for a model without a change head; CORRUPT_FILE with the line where `pairs` is no table; IO.
 * @example
 * ```ts
 * import { comparePairs, loadModel } from 'comface';
 *
 * const model = await loadModel('run');
 * const { pairs, failed } = await comparePairs(model, { pairs: 'pairs.csv', out: 'changes.csv' });
 * console.log(`${pairs - failed.length} of ${pairs} pairs in changes.csv`);
 * model.dispose();
 * ```
 */
export async function comparePairs(model: Model, options: ComparePairsOptions): Promise<ComparedPairs> {
  checkModel(model);
  const { pairs, out, threads, signal, onProgress } = checked(options);
  signal?.throwIfAborted();
  const zeros = new Float32Array(model.width);
  model.changeOf(zeros, zeros); // without a head there is no need to read anything
  const { names, rows, files } = await readPairs(pairs);
  const embeddings = await embedAll(model, [...files.keys()], { threads, signal, onProgress });
  const failed: ComparedPairs['failed'] = [];
  const lines = rows.map(({ cells, line, x, y, fault }) => {
    const [hx, hy] = [x, y].map((file) => (file === undefined ? undefined : embeddings[files.get(file)!]));
    const result = fault ?? resultOf(model, hx, hy);
    const kept = names.map((_, i) => cells[i] ?? '');
    if (Array.isArray(result)) return csvLine([...kept, ...result, '']);
    failed.push({ line, reason: result });
    return csvLine([...kept, '', '', result]);
  });
  signal?.throwIfAborted();
  await replaceFile(out, Buffer.from(csvLine([...names, ...kResults]) + lines.join('')));
  return { out, pairs: rows.length, pictures: files.size, failed };
}

function checked(options: ComparePairsOptions) {
  checkObject('options', options);
  const { pairs, out, threads = 2, signal, onProgress } = options;
  checkText('pairs', pairs);
  checkText('out', out);
  checkInteger('threads', threads, 1, 64);
  checkSignal(signal);
  checkFunction('onProgress', onProgress);
  if (resolve(out) === resolve(pairs)) throw invalid('out', 'another file than that of the pairs', out, 'Name another CSV file.');
  return { pairs, out, threads, signal, onProgress };
}

interface Row extends CsvRow {
  /** Absolute. */
  x?: string;
  y?: string;
  fault?: string | undefined;
}

/** files: the place of each different picture. */
async function readPairs(file: string): Promise<{ names: readonly string[]; rows: Row[]; files: Map<string, number> }> {
  const folder = dirname(resolve(file));
  const files = new Map<string, number>();
  const rows: Row[] = [];
  const place = (cell: string): string => {
    const path = resolve(folder, cell);
    if (!files.has(path)) files.set(path, files.size);
    return path;
  };
  const csv = await openCsv(file, createReadStream(file), kHint);
  const columns = new Columns(csv, ['x', 'y'], false);
  const taken = kResults.find((name) => columns.has(name));
  if (taken !== undefined)
    throw corruptCsv({ file, hint: 'Rename that column.' }, 1, `expected no column \`${taken}\`, which the result will have`);
  for await (const { cells, line } of csv.rows) {
    if (rows.length >= kMostRows) throw corruptCsv({ file, hint: 'Compare them in parts.' }, line, `expected at most ${kMostRows} pairs`);
    const fault = columns.faultOf(cells, 'x') ?? columns.faultOf(cells, 'y');
    const [x, y] = [columns.cell(cells, 'x'), columns.cell(cells, 'y')];
    rows.push(fault === undefined ? { cells, line, x: place(x), y: place(y) } : { cells, line, fault });
  }
  return { names: csv.names, rows, files };
}

type Embedding = Float32Array | ComFaceError;

async function embedAll(
  model: Model,
  files: readonly string[],
  { threads, signal, onProgress }: Pick<ReturnType<typeof checked>, 'threads' | 'signal' | 'onProgress'>,
): Promise<Embedding[]> {
  if (files.length === 0) return [];
  const source: NativeSource = native().module.openFiles(files, model.design.size, threads, 0);
  const all: Embedding[] = [];
  const started = performance.now();
  try {
    while (all.length < files.length) {
      const some = Array.from({ length: Math.min(kAtOnce, files.length - all.length) }, (_, i) => all.length + i);
      all.push(...(await embedUsable(model, source, some, signal)));
      const secondsLeft = ((performance.now() - started) / 1000 / all.length) * (files.length - all.length);
      onProgress?.({ done: all.length, total: files.length, secondsLeft });
    }
    return all;
  } finally {
    source.dispose();
  }
}

/** Change and direction, or why there is none. */
function resultOf(model: Model, hx: Embedding | undefined, hy: Embedding | undefined): string[] | string {
  for (const h of [hx, hy]) if (h instanceof ComFaceError) return h.message;
  const { change, direction } = model.comparisonOf(hx as Float32Array, hy as Float32Array);
  if (!Number.isFinite(change)) return 'the estimate is not finite';
  return [String(Number(change.toPrecision(6))), direction ?? ''];
}
