// Pairs of a user's own pictures for a page that was asked to show faces.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkTrainOptions } from '../config.js';
import { type DataSet, readData } from '../data/dataset.js';
import { splitSubjects } from '../data/pairs.js';
import { kPicturesName, readPictures } from '../data/pictures.js';
import { invalid } from '../errors.js';
import { embedSamples, type Model } from '../model.js';
import { validationPairs } from '../train/validate.js';
import type { TransferResult } from '../transfer/result.js';
import { SampleLooks } from './looks.js';
import type { ShownPair } from './pages.js';
import type { RunFacts } from './run.js';

const kPairs = 8;

/** A pair before its pictures are read. */
interface Chosen {
  x: number;
  y: number;
  subject: number;
  truth: number;
  estimate: number;
}

/**
 * Tested pairs of a transfer.
 *
 * @throws ComFaceError INVALID_INPUT when the data set is not the one that was tested, IO or CORRUPT_FILE when it is gone.
 */
export async function transferPairs(
  { test, data: learned, pairs }: TransferResult,
  model: Model,
  signal?: AbortSignal,
): Promise<ShownPair[]> {
  const set = test ?? learned;
  const data = await readData(set.folder);
  if (data.hash !== set.hash)
    throw invalid('data', 'the pictures that were tested', set.folder, 'They were changed since: run the transfer again.');
  const { subject, x, y, truth, estimate } = pairs;
  const rows = spread(truth).filter((row) => Math.max(x[row]!, y[row]!) < data.count);
  const at = (row: number): Chosen => ({ x: x[row]!, y: y[row]!, subject: subject[row]!, truth: truth[row]!, estimate: estimate[row]! });
  return shown(data, rows.map(at), model, signal);
}

/**
 * Pairs that a run was validated on, compared by the model that it ended with.
 *
 * @throws ComFaceError when its data set is gone, or its options are of another version.
 */
export async function runPairs({ config }: RunFacts, model: Model, signal?: AbortSignal): Promise<ShownPair[]> {
  const options = checkTrainOptions(config);
  const data = await readData(options.data);
  const plan = validationPairs(options, data, splitSubjects(data, options.validation, options.seed).validation);
  if (!plan) return [];
  const { x, y, target } = plan;
  const rows = spread(target.subarray(0, plan.pairs));
  const source = data.open(model.design.size, 1);
  try {
    const h = await embedSamples(
      model,
      source,
      rows.flatMap((row) => [x[row]!, y[row]!]),
      signal,
    );
    const of = (i: number) => h.subarray(i * model.width, (i + 1) * model.width);
    const subjects = subjectsOf(
      data,
      rows.map((row) => x[row]!),
    );
    const chosen = rows.map((row, i) => ({
      ...{ x: x[row]!, y: y[row]!, subject: subjects.get(x[row]!)!, truth: target[row]! },
      estimate: model.changeOf(of(2 * i), of(2 * i + 1)),
    }));
    return await shown(data, chosen, model, signal);
  } finally {
    source.dispose();
  }
}

/** Rows spread over the true changes, one of each eighth, none chosen by its estimate. */
function spread(truth: ArrayLike<number>): number[] {
  const order = Array.from(truth, (_, row) => row).sort((a, b) => truth[a]! - truth[b]! || a - b);
  const count = Math.min(kPairs, order.length);
  return Array.from({ length: count }, (_, i) => order[Math.floor(((i + 0.5) / count) * order.length)]!);
}

/** The subject of each of some samples. */
function subjectsOf(data: DataSet, samples: readonly number[]): Map<number, number> {
  const wanted = new Set(samples);
  const found = new Map<number, number>();
  for (const subject of data.subjects) {
    const groups = data.groupsOf(new Set([subject]));
    for (let place = 0; place < groups.length; place++) if (wanted.has(groups.sampleAt(place))) found.set(groups.sampleAt(place), subject);
    if (found.size === wanted.size) break;
  }
  return found;
}

async function shown(data: DataSet, chosen: readonly Chosen[], model: Model, signal: AbortSignal | undefined): Promise<ShownPair[]> {
  const names = await namesIn(data, new Set(chosen.map(({ x }) => x)));
  const looks = new SampleLooks(model, data);
  try {
    const pairs: ShownPair[] = [];
    for (const { x, y, subject, truth, estimate } of chosen) {
      signal?.throwIfAborted();
      pairs.push({ x: await looks.of(x), y: await looks.of(y), subject: names.get(x) ?? `person ${subject}`, truth, estimate });
    }
    return pairs;
  } finally {
    looks.dispose();
  }
}

/** Names of the subjects of some samples, where the set was packed from pictures with names. */
async function namesIn(data: DataSet, samples: ReadonlySet<number>): Promise<Map<number, string>> {
  const names = new Map<number, string>();
  if (!existsSync(join(data.folder, kPicturesName))) return names;
  const { subject } = await readPictures(data.folder);
  for (const sample of samples) names.set(sample, subject[sample]!);
  return names;
}
