// Transfer to a task (sections 3.4 and 4 of the ComFace paper): cross-validation by subject, and a model of all subjects to use.
import { resolve } from 'node:path';
import { complaint, type DataSet, readData } from '../data/dataset.js';
import { ComFaceError, invalid } from '../errors.js';
import { loadState, type ModelDesign } from '../model.js';
import { lockRun, saveCheckpoint } from '../train/checkpoint.js';
import { bootstrap } from './bootstrap.js';
import type { TransferEvent } from './events.js';
import { ResultFolder } from './folder.js';
import { type Fold, type Pairs, subjectFolds } from './folds.js';
import { fineTuning, type Learner, linearEvaluation } from './learners.js';
import type { Scores } from './linear.js';
import { mae, pearson, signAccuracy } from './metrics.js';
import { checkTransferOptions, settingsOf, type TransferConfig, type TransferOptions } from './options.js';
import { type DataMention, type FoldResult, isFoldResult, isNumbers, type TransferResult } from './result.js';
import { pairsOf, type Task, taskOf } from './task.js';
import type { Weights } from './tune.js';

/** Of names in a warning. */
const kShown = 5;

const learners = { fineTune: fineTuning, linear: linearEvaluation };

/**
 * Transfers a pre-trained network to a change that people label, and says how well it tells it on subjects it has not seen.
 *
 * Subjects are split into folds; each fold is tested by a model that learned from the others (paper, section 4). At the end a model of all subjects is
 * left in `out`, for {@link loadModel}. A folder that holds the same transfer is read and returned; one that was stopped is gone on with.
 *
 * @throws ComFaceError INVALID_CONFIG or INVALID_INPUT for an option out of range, data without changes or with too few subjects, a folder with
 * other content; CORRUPT_FILE or IO naming a picture that cannot be read; NOT_FINITE where no learning rate led anywhere; BUSY where another call has the
 * folder; DEVICE_UNAVAILABLE; OUT_OF_MEMORY.
 * @example
 * ```ts
 * import { transfer } from 'comface';
 *
 * const { scores, unit } = await transfer({ data: 'disfa', attribute: 'AU12', model: 'run', out: 'smiles' });
 * const { value, low, high } = scores.mae;
 * console.log(`off by ${value} ${unit} on average; 95 % interval over subjects: ${low} to ${high}`);
 * ```
 */
export async function transfer(options: TransferOptions): Promise<TransferResult> {
  const config = checkTransferOptions(options);
  config.signal?.throwIfAborted();
  const job = await Job.open(config);
  const done = job.folder.finished();
  if (done) return done;
  const lock = await lockRun(job.folder.out);
  try {
    const other = job.folder.finished(); // by a call that held the lock until now
    if (other) return other;
    await job.folder.begin();
    return await job.run();
  } finally {
    await lock.release();
  }
}

/** What is written of a fold. */
interface FoldPart {
  fold: FoldResult;
  estimate: number[];
}

/** Where a transfer begins: the pre-trained weights and their network, or the one that the options name, untrained. */
export interface Start {
  design: ModelDesign;
  weights: Weights | undefined;
  /** Of the data set that the weights learned from, if that is known. */
  dataHash: string | undefined;
  /** Whose weights they were, where they were imported. */
  imported: string | undefined;
}

/** @throws ComFaceError as `loadModel`. */
export async function startOf({ model, train }: TransferConfig): Promise<Start> {
  const state = model === undefined ? undefined : await loadState(model);
  const { backbone, width, size } = state?.design ?? train;
  const augment = { ...train.augment, ...(state && { mean: state.design.augment.mean, deviation: state.design.augment.deviation }) };
  return { design: { backbone, width, size, augment }, weights: state?.weights, dataHash: state?.dataHash, imported: state?.imported };
}

/** One transfer, after everything that can be checked has been. */
class Job {
  readonly folder: ResultFolder;
  readonly #config: TransferConfig;
  readonly #task: Task;
  readonly #test: Task | undefined;
  readonly #pairs: Pairs;
  readonly #tested: Pairs;
  readonly #folds: Fold[];
  readonly #start: Start;
  readonly #warnings: string[];
  readonly #broken = new Set<number>();

  private constructor(config: TransferConfig, task: Task, test: Task | undefined, start: Start) {
    const { folds, pairsPerSubject, train } = config;
    this.#config = config;
    this.#task = task;
    this.#test = test;
    this.#start = start;
    this.#pairs = pairsOf(task, pairsPerSubject, train.seed);
    this.#tested = test ? pairsOf(test, pairsPerSubject, train.seed) : this.#pairs;
    this.#folds = subjectFolds(this.#pairs.subject, folds, BigInt(train.seed));
    this.#checkChanges();
    const { design, weights, dataHash } = start;
    this.#warnings = [task, test].flatMap((one) => (one ? warningsOf(one, dataHash) : []));
    this.folder = new ResultFolder(config.out, {
      kind: 'transfer',
      tasks: [task, test],
      design,
      start: weights,
      settings: settingsOf(config),
    });
  }

  static async open(config: TransferConfig): Promise<Job> {
    const { data, testData, attribute, unit } = config;
    const task = taskOf(await readData(data), attribute, unit);
    const test = testData === undefined ? undefined : taskOf(await readData(testData), task.attribute, unit);
    if (test?.data.hash === task.data.hash) {
      const hint = 'Leave it out: each fold tests the subjects that it did not learn from.';
      throw invalid('testData', 'a data set other than `data`', testData, hint);
    }
    return new Job(config, task, test, await startOf(config));
  }

  /** A part of a fold in which nothing changes teaches or tests nothing. */
  #checkChanges(): void {
    for (const [index, fold] of this.#folds.entries()) {
      for (const part of ['train', 'validation', 'test'] as const) {
        if (fold[part].some((row) => this.#pairs.target[row] !== 0)) continue;
        const count = subjectsIn(this.#pairs, fold[part]);
        throw new ComFaceError(
          'INVALID_INPUT',
          `Expected a change of ${this.#task.attribute} within the subjects (${count}) for ${part} of fold ${index + 1} but found none`,
          { hint: 'Use fewer folds, another seed, or leave out subjects whose labels are all the same.' },
        );
      }
    }
  }

  async run(): Promise<TransferResult> {
    const { evaluation, folds, train, signal, final, learningRates, patience } = this.#config;
    const { design, weights } = this.#start;
    const started = performance.now();
    const elapsed = () => (performance.now() - started) / 1000;
    const { attribute, unit, sample, subject } = this.#task;
    this.#tell({
      ...{ type: 'start', attribute, unit, pictures: sample.length, subjects: new Set(subject).size, pairs: this.#pairs.x.length, folds },
    });
    for (const message of this.#warnings) this.#tell({ type: 'warning', message });
    const learner = await learners[evaluation]({
      ...{ data: this.#task.data, design, start: weights, pairs: this.#pairs, place: train, signal },
      settings: { ...train, learningRates, patience, augment: design.augment },
    });
    const source = this.#test?.data.open(design.size, train.loaderThreads);
    try {
      const parts: FoldPart[] = [];
      let made = 0;
      for (const [index, fold] of this.#folds.entries()) {
        const { length } = this.#rowsOf(fold);
        const isRight = (value: unknown): value is FoldPart => isFoldPart(value, length);
        const { value, isNew } = await this.folder.part(`fold-${index + 1}`, isRight, () => this.#learnFold(learner, index, fold, source));
        parts.push(value);
        if (isNew) made++;
        this.#noteBroken(learner);
        const secondsLeft = (elapsed() / Math.max(1, made)) * (folds - index - 1);
        this.#tell({ type: 'fold', fold: index + 1, folds, secondsLeft, ...knownScores(value.fold) });
      }
      if (final) await this.#saveFinal(learner);
      return await this.folder.finish(this.#result(parts, elapsed()));
    } finally {
      learner.dispose();
      source?.dispose();
    }
  }

  /** Once for each picture. */
  #noteBroken({ broken }: Learner): void {
    for (const [sample, reason] of broken) {
      if (this.#broken.has(sample)) continue;
      this.#broken.add(sample);
      const message = `A broken picture was replaced by another in training: ${complaint(this.#task.data, sample, reason)}`;
      this.#warnings.push(message);
      this.#tell({ type: 'warning', message });
    }
  }

  #tell(event: TransferEvent): void {
    this.#config.onEvent?.(event);
  }

  /** Rows that a fold tests: its own, or all pairs of the other data. */
  #rowsOf(fold: Fold): Uint32Array {
    return this.#test ? Uint32Array.from(this.#tested.x.keys()) : fold.test;
  }

  async #learnFold(learner: Learner, index: number, fold: Fold, source: ReturnType<DataSet['open']> | undefined): Promise<FoldPart> {
    const { weights, ...chosen } = await learner.learn(fold, (step) => this.#tell({ type: 'step', fold: index + 1, ...step }));
    const rows = this.#rowsOf(fold);
    const estimate = await learner.estimate(weights, this.#tested, rows, source);
    const truth = Array.from(rows, (row) => this.#tested.target[row]!);
    const counts = {
      trainSubjects: subjectsIn(this.#pairs, fold.train),
      validationSubjects: subjectsIn(this.#pairs, fold.validation),
      testSubjects: subjectsIn(this.#tested, rows),
    };
    return { fold: { ...scoresOf(estimate, truth), ...counts, ...chosen }, estimate: [...estimate] };
  }

  /** A model of all subjects but a tenth, which its training is stopped by. */
  async #saveFinal(learner: Learner): Promise<void> {
    const [first] = this.#folds;
    const rows = { train: Uint32Array.from([...first!.train, ...first!.test]).sort(), validation: first!.validation };
    const { weights, steps = 0 } = await learner.learn(rows, (step) => this.#tell({ type: 'step', fold: this.#folds.length + 1, ...step }));
    const { attribute, unit, data } = this.#task;
    const { design, imported } = this.#start;
    const origin = imported === undefined ? {} : { imported: { as: imported } };
    const info = { config: design, task: { attribute, unit }, evaluation: this.#config.evaluation, dataHash: data.hash, ...origin };
    const state = { step: steps, weights: new Map(weights), optimizer: new Map(), info };
    await saveCheckpoint(resolve(this.folder.out, 'model'), state, { keep: 1 });
  }

  #result(parts: FoldPart[], seconds: number): TransferResult {
    const pairs: TransferResult['pairs'] = { fold: [], subject: [], x: [], y: [], truth: [], estimate: [] };
    for (const [index, fold] of this.#folds.entries()) {
      for (const [i, row] of this.#rowsOf(fold).entries()) addPair(pairs, index, this.#tested, row, parts[index]!.estimate[i]!);
    }
    return resultOf({
      config: this.#config,
      start: this.#start,
      task: this.#task,
      test: this.#test,
      folds: parts.map(({ fold }) => fold),
      ...{ pairs, seconds, warnings: this.#warnings, evaluation: this.#config.evaluation },
    });
  }
}

function isFoldPart(value: unknown, pairs: number): value is FoldPart {
  const { fold, estimate } = (typeof value === 'object' && value !== null ? value : {}) as Partial<FoldPart>;
  return isFoldResult(fold) && fold.pairs === pairs && isNumbers(estimate, pairs);
}

/** NaN for what is not known. */
const knownScores = ({ mae: error, correlation, accuracy }: FoldResult): Scores => {
  const [a, b, c] = [error, correlation, accuracy].map((value) => value ?? Number.NaN) as [number, number, number];
  return { mae: a, correlation: b, accuracy: c };
};

/** Scores of one fold. */
export function scoresOf(estimate: Float32Array, truth: readonly number[]): Pick<FoldResult, 'mae' | 'correlation' | 'accuracy' | 'pairs'> {
  const accuracy = signAccuracy(estimate, truth);
  return {
    ...{ mae: mae(estimate, truth), correlation: pearson(estimate, truth), pairs: truth.length },
    accuracy: Number.isNaN(accuracy) ? null : accuracy,
  };
}

export function addPair(
  pairs: TransferResult['pairs'],
  fold: number,
  { x, y, subject, target }: Pairs,
  row: number,
  estimate: number,
): void {
  pairs.fold.push(fold);
  pairs.subject.push(subject[row]!);
  pairs.x.push(x[row]!);
  pairs.y.push(y[row]!);
  pairs.truth.push(target[row]!);
  pairs.estimate.push(estimate);
}

/** Everything that is told of a transfer. */
export function resultOf(made: {
  config: TransferConfig;
  start: Start;
  task: Task;
  test: Task | undefined;
  evaluation: TransferResult['evaluation'];
  folds: FoldResult[];
  pairs: TransferResult['pairs'];
  warnings: string[];
  seconds: number;
}): TransferResult {
  const { config, task, test, evaluation, folds, pairs, warnings, seconds } = made;
  const { backbone, width, size } = made.start.design;
  const scores = bootstrap(pairs, BigInt(config.train.seed));
  const known = (value: number) => (Number.isNaN(value) ? null : value);
  const { value, low, high } = scores.accuracy;
  return {
    version: 1,
    ...{ attribute: task.attribute, unit: task.unit, evaluation },
    data: mentionOf(task),
    test: test ? mentionOf(test) : null,
    model: { folder: config.model === undefined ? null : resolve(config.model), backbone, width, size },
    settings: { ...settingsOf(config), augment: made.start.design.augment },
    scores: { ...scores, accuracy: { value: known(value), low: known(low), high: known(high) } },
    ...{ folds, pairs, warnings, seconds, made: new Date().toISOString() },
  };
}

/** @param learned Hash of the data set that the weights learned from. */
export function warningsOf({ alone, data, attribute }: Task, learned?: string): string[] {
  const seen = learned === data.hash ? [`The model learned from ${data.folder} before: it is tested on people that it has seen`] : [];
  if (alone.length === 0) return seen;
  const names = alone.slice(0, kShown).join(', ') + (alone.length > kShown ? ', ...' : '');
  return [...seen, `Subjects of ${data.folder} with a single picture of ${attribute} are left out (${alone.length}): ${names}`];
}

const mentionOf = ({ data, sample, subject }: Task): DataMention => ({
  folder: data.folder,
  hash: data.hash,
  pictures: sample.length,
  subjects: new Set(subject).size,
});

export const subjectsIn = ({ subject }: Pairs, rows: Uint32Array): number => new Set(Array.from(rows, (row) => subject[row]!)).size;
