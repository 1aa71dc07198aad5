// Transfer to a task (sections 3.4 and 4 of the ComFace paper): cross-validation by subject, and a model of all subjects to use. Each fold is
// written when it is done, so that a transfer that was stopped goes on behind it; transfer.json is written last.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type DataSet, readData } from '../data/dataset.js';
import { writeWhole } from '../data/shards.js';
import { writing } from '../data/target.js';
import { ComFaceError } from '../errors.js';
import { makeFolder } from '../folders.js';
import type { ModelDesign } from '../model.js';
import { loadState } from '../model.js';
import { lockRun, saveCheckpoint } from '../train/checkpoint.js';
import type { Tensor } from '../weights/safetensors.js';
import { bootstrap } from './bootstrap.js';
import type { TransferEvent } from './events.js';
import { type Fold, type Pairs, subjectFolds } from './folds.js';
import { type Learned, type Learner, fineTuning, linearEvaluation } from './learners.js';
import { mae, pearson, signAccuracy } from './metrics.js';
import { checkTransferOptions, type TransferConfig, type TransferOptions } from './options.js';
import type { DataMention, FoldResult, TransferResult } from './result.js';
import { pairsOf, type Task, taskOf } from './task.js';
import type { Weights } from './tune.js';

const kPlanName = 'transfer.plan.json';
export const kResultName = 'transfer.json';
/** Of names in a warning. */
const kShown = 5;

const learners = { fineTune: fineTuning, linear: linearEvaluation };

/**
 * Transfers a pre-trained network to a change that people label, and says how well it tells it on subjects it has not seen.
 *
 * A folder that holds the same transfer is read and returned; one that was stopped is gone on with.
 *
 * @example
 * const { scores } = await transfer({ data: 'disfa', attribute: 'AU12', model: 'run', out: 'smiles' });
 * console.log(scores.correlation.value, [scores.correlation.low, scores.correlation.high]);
 *
 * @throws ComFaceError INVALID_CONFIG or INVALID_INPUT for an option out of range, data without changes or with too few subjects, a folder with
 * other content; CORRUPT_FILE or IO naming a picture that cannot be read; NOT_FINITE; BUSY; DEVICE_UNAVAILABLE. Aborted: rejects with
 * `signal.reason`.
 */
export async function transfer(options: TransferOptions): Promise<TransferResult> {
  const config = checkTransferOptions(options);
  config.signal?.throwIfAborted();
  const job = await Job.open(config);
  const done = job.finished();
  if (done) return done;
  const lock = await lockRun(job.out);
  try {
    await job.begin();
    return await job.run();
  } finally {
    await lock.release();
  }
}

type Config = ReturnType<typeof checkTransferOptions>;

/** What is written of a fold. */
interface FoldFile {
  fold: FoldResult;
  estimate: number[];
}

/** One transfer, after everything that can be checked has been. */
class Job {
  readonly out: string;
  readonly #config: Config;
  readonly #task: Task;
  readonly #test: Task | undefined;
  readonly #pairs: Pairs;
  readonly #tested: Pairs;
  readonly #folds: Fold[];
  readonly #design: ModelDesign;
  readonly #start: Weights | undefined;
  readonly #warnings: string[];
  readonly #plan: string;

  private constructor(config: Config, task: Task, test: Task | undefined, design: ModelDesign, start: Weights | undefined) {
    const { folds, pairsPerSubject, train } = config;
    this.#config = config;
    this.out = resolve(config.out);
    this.#task = task;
    this.#test = test;
    this.#design = design;
    this.#start = start;
    this.#pairs = pairsOf(task, pairsPerSubject, train.seed);
    this.#tested = test ? pairsOf(test, pairsPerSubject, train.seed) : this.#pairs;
    this.#folds = subjectFolds(this.#pairs.subject, folds, BigInt(train.seed));
    this.#checkChanges();
    this.#warnings = [task, test].flatMap((one) => (one ? warningsOf(one) : []));
    this.#plan = this.#planText();
  }

  static async open(config: Config): Promise<Job> {
    const { data, testData, attribute, unit, model, train } = config;
    const task = taskOf(await readData(data), attribute, unit);
    const test = testData === undefined ? undefined : taskOf(await readData(testData), task.attribute, unit);
    const state = model === undefined ? undefined : await loadState(model);
    const augment = { ...train.augment, ...(state && { mean: state.design.augment.mean, deviation: state.design.augment.deviation }) };
    const { backbone, width, size } = state?.design ?? train;
    return new Job(config, task, test, { backbone, width, size, augment }, state?.weights);
  }

  /** A part of a fold in which nothing changes teaches or tests nothing. */
  #checkChanges(): void {
    for (const [index, fold] of this.#folds.entries()) {
      for (const part of ['train', 'validation', 'test'] as const) {
        if (fold[part].some((row) => this.#pairs.target[row] !== 0)) continue;
        const subjects = new Set(Array.from(fold[part], (row) => this.#pairs.subject[row]!));
        throw new ComFaceError(
          'INVALID_INPUT',
          `Expected a change of ${this.#task.attribute} within the ${subjects.size} subjects for ${part} of fold ${index + 1} but found none`,
          { hint: 'Use fewer folds, another seed, or leave out subjects whose labels are all the same.' },
        );
      }
    }
  }

  /** Everything that decides the result, as text. */
  #planText(): string {
    const { evaluation, folds, pairsPerSubject, learningRates, patience, final, train } = this.#config;
    const { seed, pairs, epochs, weightDecay, beta1, beta2, epsilon, precision } = train;
    const settings = { evaluation, folds, pairsPerSubject, learningRates, patience, final, seed, pairs, epochs, weightDecay, beta1, beta2, epsilon, precision };
    const data = [this.#task, this.#test].map((task) => (task ? [task.data.hash, task.attribute, task.unit] : null));
    return `${JSON.stringify({ comface: 'transfer', version: 1, data, design: this.#design, start: hashOf(this.#start), settings })}\n`;
  }

  /** The result, if the folder holds it. @throws ComFaceError INVALID_INPUT for a folder with other content. */
  finished(): TransferResult | undefined {
    const entries = existsSync(this.out) ? readdirSync(this.out).filter((name) => name !== 'run.lock') : [];
    if (entries.length === 0) return undefined;
    if (textIn(join(this.out, kPlanName)) !== this.#plan) {
      const hint = 'Name a folder that is new or empty, or remove this one.';
      throw new ComFaceError('INVALID_INPUT', `Expected a new or empty folder for \`out\` but ${this.out} holds something else`, { hint });
    }
    const text = textIn(join(this.out, kResultName));
    return text === '' ? undefined : (JSON.parse(text) as TransferResult);
  }

  async begin(): Promise<void> {
    await writing(this.out, async () => {
      await makeFolder(join(this.out, 'folds'));
      await writeWhole(this.out, kPlanName, this.#plan);
    });
  }

  async run(): Promise<TransferResult> {
    const { evaluation, folds, train, signal, final } = this.#config;
    const { learningRates, patience } = this.#config;
    const { augment } = this.#design;
    const started = performance.now();
    this.#tell({
      ...{ type: 'start', attribute: this.#task.attribute, unit: this.#task.unit, folds },
      ...{ pictures: this.#task.sample.length, subjects: new Set(this.#task.subject).size, pairs: this.#pairs.x.length },
    });
    for (const message of this.#warnings) this.#tell({ type: 'warning', message });
    const learner = await learners[evaluation]({
      ...{ data: this.#task.data, design: this.#design, start: this.#start, pairs: this.#pairs, place: train, signal },
      settings: { ...train, learningRates, patience, augment },
    });
    const source = this.#test?.data.open(this.#design.size, train.loaderThreads);
    try {
      const files: FoldFile[] = [];
      let computed = 0;
      for (const [index, fold] of this.#folds.entries()) {
        const known = this.#readFold(index);
        const file = known ?? (await this.#learnFold(learner, index, fold, source));
        if (!known) computed++;
        files.push(file);
        const secondsLeft = computed === 0 ? 0 : ((performance.now() - started) / 1000 / computed) * (folds - index - 1);
        const { mae: error, correlation, accuracy } = file.fold;
        this.#tell({ type: 'fold', fold: index + 1, folds, secondsLeft, mae: error, correlation, accuracy: accuracy ?? Number.NaN });
      }
      if (final) await this.#saveFinal(learner);
      return await this.#finish(files, (performance.now() - started) / 1000);
    } finally {
      learner.dispose();
      source?.dispose();
    }
  }

  #tell(event: TransferEvent): void {
    this.#config.onEvent?.(event);
  }

  #foldName(index: number): string {
    return `fold-${index + 1}.json`;
  }

  #readFold(index: number): FoldFile | undefined {
    const text = textIn(join(this.out, 'folds', this.#foldName(index)));
    return text === '' ? undefined : (JSON.parse(text) as FoldFile);
  }

  /** Rows that a fold tests: its own, or all pairs of the other data. */
  #rowsOf(fold: Fold): Uint32Array {
    return this.#test ? Uint32Array.from(this.#tested.x.keys()) : fold.test;
  }

  async #learnFold(learner: Learner, index: number, fold: Fold, source: ReturnType<DataSet['open']> | undefined): Promise<FoldFile> {
    const { weights, ...chosen } = await learner.learn(fold, (step) => this.#tell({ type: 'step', fold: index + 1, ...step }));
    const rows = this.#rowsOf(fold);
    const estimate = await learner.estimate(weights, this.#tested, rows, source);
    const truth = Array.from(rows, (row) => this.#tested.target[row]!);
    const accuracy = signAccuracy(estimate, truth);
    const subjects = (of: Pairs, list: Uint32Array) => new Set(Array.from(list, (row) => of.subject[row]!)).size;
    const result: FoldFile = {
      fold: {
        mae: mae(estimate, truth),
        correlation: pearson(estimate, truth),
        accuracy: Number.isNaN(accuracy) ? null : accuracy,
        pairs: rows.length,
        trainSubjects: subjects(this.#pairs, fold.train),
        validationSubjects: subjects(this.#pairs, fold.validation),
        testSubjects: subjects(this.#tested, rows),
        ...chosen,
      },
      estimate: [...estimate],
    };
    await writing(this.out, () => writeWhole(join(this.out, 'folds'), this.#foldName(index), JSON.stringify(result)));
    return result;
  }

  /** A model of all subjects but a tenth, which its training is stopped by. */
  async #saveFinal(learner: Learner): Promise<void> {
    const [first] = this.#folds;
    const rows = { train: Uint32Array.from([...first!.train, ...first!.test]).sort(), validation: first!.validation };
    const { weights, steps = 0 } = await learner.learn(rows, (step) => this.#tell({ type: 'step', fold: this.#folds.length + 1, ...step }));
    const { attribute, unit } = this.#task;
    const info = { config: { ...this.#design }, task: { attribute, unit }, evaluation: this.#config.evaluation, dataHash: this.#task.data.hash };
    await saveCheckpoint(join(this.out, 'model'), { step: steps, weights: new Map(weights), optimizer: new Map(), info }, { keep: 1 });
  }

  async #finish(files: FoldFile[], seconds: number): Promise<TransferResult> {
    const pairs: TransferResult['pairs'] = { fold: [], subject: [], x: [], y: [], truth: [], estimate: [] };
    for (const [index, fold] of this.#folds.entries()) {
      for (const [i, row] of this.#rowsOf(fold).entries()) {
        pairs.fold.push(index + 1);
        pairs.subject.push(this.#tested.subject[row]!);
        pairs.x.push(this.#tested.x[row]!);
        pairs.y.push(this.#tested.y[row]!);
        pairs.truth.push(this.#tested.target[row]!);
        pairs.estimate.push(files[index]!.estimate[i]!);
      }
    }
    const { model, evaluation, train } = this.#config;
    const { backbone, width, size } = this.#design;
    const { mae: error, correlation, accuracy } = bootstrap(pairs, BigInt(train.seed));
    const known = (value: number) => (Number.isNaN(value) ? null : value);
    const result: TransferResult = {
      version: 1,
      attribute: this.#task.attribute,
      unit: this.#task.unit,
      evaluation,
      data: mentionOf(this.#task),
      test: this.#test ? mentionOf(this.#test) : null,
      model: { folder: model === undefined ? null : resolve(model), backbone, width, size },
      settings: (JSON.parse(this.#plan) as { settings: Record<string, unknown> }).settings,
      scores: {
        mae: error,
        correlation,
        accuracy: { value: known(accuracy.value), low: known(accuracy.low), high: known(accuracy.high) },
      },
      folds: files.map(({ fold }) => fold),
      pairs,
      warnings: this.#warnings,
      seconds,
      made: new Date().toISOString(),
    };
    await writing(this.out, () => writeWhole(this.out, kResultName, `${JSON.stringify(result)}\n`));
    return result;
  }
}

function warningsOf({ alone, data, attribute }: Task): string[] {
  if (alone.length === 0) return [];
  const names = alone.slice(0, kShown).join(', ') + (alone.length > kShown ? ', ...' : '');
  return [`${alone.length} subjects of ${data.folder} have a single picture of ${attribute} and are left out: ${names}`];
}

const mentionOf = ({ data, sample, subject }: Task): DataMention => ({
  folder: data.folder,
  hash: data.hash,
  pictures: sample.length,
  subjects: new Set(subject).size,
});

/** SHA-256 of weights by name; null of none. */
function hashOf(weights: Weights | undefined): string | null {
  if (weights === undefined) return null;
  const hash = createHash('sha256');
  for (const [name, { data }] of [...weights].sort(([a], [b]) => (a < b ? -1 : 1)) as [string, Tensor][])
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}

/** A file's text, or nothing. */
function textIn(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
