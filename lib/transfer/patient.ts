// Table 5 of the ComFace paper: a model of one patient, which tells weight from a single picture (Akamatsu et al., JBHI 2023), against one of
// all patients, which compares two. The first is trained on some patients, then goes on with 1 to 3 dialysis days of each other one; both are
// tested on the same pairs of the days after these.
import { readData } from '../data/dataset.js';
import { readPictures } from '../data/pictures.js';
import { Purpose, philox } from '../data/random.js';
import { ComFaceError } from '../errors.js';
import { lockRun } from '../train/checkpoint.js';
import { ResultFolder } from './folder.js';
import { drawPairs, type Pairs, subjectFolds } from './folds.js';
import { fineTuning } from './learners.js';
import { checkTransferOptions, settingsOf, type TransferConfig, type TransferOptions } from './options.js';
import { isNumbers, type TransferResult } from './result.js';
import { pairsOf, type Task, taskOf } from './task.js';
import { addPair, resultOf, type Start, scoresOf, startOf, warningsOf } from './transfer.js';
import { type Examples, Tuner } from './tune.js';

/** Of the paper's 39 patients 24 are learned from and 15 tested. */
const kTestedShare = 15 / 39;
/** Days of a tested patient that may be learned from; the days after them are tested, however many are used. */
const kMostDays = 3;
/** Third key of a draw, beside those of folds.ts and bootstrap.ts. */
const kPatients = 3;

/** Whose model to make, and of which data. */
export interface PatientOptions extends Omit<TransferOptions, 'testData' | 'evaluation' | 'folds' | 'final'> {
  /** Days of each tested patient that the single-picture model goes on with, 1 to 3. Left out: the model of all patients, which compares two pictures. */
  days?: 1 | 2 | 3 | undefined;
}

/** Who is learned from and who is tested, on which pictures. */
interface Cohort {
  task: Task;
  /** Rows of the task, by patient: those to learn from. */
  trained: Map<number, number[]>;
  /** By tested patient: rows of each of the first days, and of all days after them. */
  tested: Map<number, { days: number[][]; rest: number[] }>;
  warnings: string[];
}

/**
 * One line of the paper's table 5: a model of one patient, which tells weight from a single picture and learns from the patient's first days, or a model of
 * all patients, which compares two. Both are tested on the same later days.
 *
 * @throws ComFaceError as {@link transfer}; INVALID_INPUT for data without sessions (days), or too few of them.
 */
export async function patientTransfer(options: PatientOptions): Promise<TransferResult> {
  const config = checkTransferOptions({ ...options, evaluation: 'fineTune', folds: 2, final: false });
  const { days } = options;
  config.signal?.throwIfAborted();
  const start = await startOf(config);
  const cohort = await cohortOf(config);
  const pairs = testPairs(cohort, config);
  const plan = { kind: 'patient', tasks: [cohort.task], design: start.design, start: start.weights };
  const folder = new ResultFolder(config.out, { ...plan, settings: { ...settingsOf(config), days: days ?? null } });
  const done = folder.finished();
  if (done) return done;
  const lock = await lockRun(folder.out);
  try {
    const other = folder.finished(); // by a call that held the lock until now
    if (other) return other;
    await folder.begin();
    for (const message of cohort.warnings) config.onEvent?.({ type: 'warning', message });
    const started = performance.now();
    const estimate =
      days === undefined ? await generic(config, start, cohort, pairs) : await specific(config, start, cohort, pairs, days, folder);
    const list: TransferResult['pairs'] = { fold: [], subject: [], x: [], y: [], truth: [], estimate: [] };
    for (const row of pairs.x.keys()) addPair(list, 0, pairs, row, estimate[row]!);
    const patients = learnedFrom(cohort);
    const validationSubjects = new Set(splitOf(patients, config.train.seed).validation.map((row) => patients[row]!)).size;
    const counts = { trainSubjects: cohort.trained.size - validationSubjects, validationSubjects, testSubjects: cohort.tested.size };
    const fold = { ...scoresOf(estimate, [...pairs.target]), ...counts };
    return await folder.finish(
      resultOf({
        ...{ config, start, task: cohort.task, test: undefined, evaluation: days === undefined ? 'fineTune' : 'patient', folds: [fold] },
        ...{ pairs: list, warnings: cohort.warnings, seconds: (performance.now() - started) / 1000 },
      }),
    );
  } finally {
    await lock.release();
  }
}

async function cohortOf({ data, attribute, unit, train }: TransferConfig): Promise<Cohort> {
  const task = taskOf(await readData(data), attribute, unit);
  const { session } = await readPictures(data);
  const patients = [...new Set(task.subject)];
  const rowsOf = new Map(patients.map((patient) => [patient, [] as number[]]));
  for (const [row, patient] of task.subject.entries()) rowsOf.get(patient)!.push(row);
  const order = patients
    .map((patient) => ({ patient, key: philox(BigInt(train.seed), Purpose.evaluate, patient, 0, kPatients)[0] }))
    .sort((a, b) => a.key - b.key || a.patient - b.patient)
    .map(({ patient }) => patient);
  const count = Math.round(kTestedShare * patients.length);
  const warnings = warningsOf(task);
  const tested: Cohort['tested'] = new Map();
  for (const patient of order.slice(0, count)) {
    const byDay = new Map<string, number[]>();
    for (const row of rowsOf.get(patient)!) {
      const day = session[task.sample[row]!]!;
      byDay.set(day, [...(byDay.get(day) ?? []), row]);
    }
    const days = [...byDay].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true })).map(([, rows]) => rows);
    const rest = days.slice(kMostDays).flat();
    const isTold = days.slice(0, kMostDays).every((rows) => differ(task, rows)) && differ(task, rest);
    if (isTold) tested.set(patient, { days: days.slice(0, kMostDays), rest });
    else
      warnings.push(
        `Patient ${patient} has ${days.length} days, of which some of the first ${kMostDays} or all later ones show no change, and is left out`,
      );
  }
  if (tested.size === 0) {
    throw new ComFaceError(
      'INVALID_INPUT',
      `Expected patients with ${kMostDays + 1} or more days before and after dialysis in ${data} but found none`,
      {
        hint: 'Pack them with the column session_id: comface pack weight.csv --format weight.',
      },
    );
  }
  return { task, trained: new Map(order.slice(count).map((patient) => [patient, rowsOf.get(patient)!])), tested, warnings };
}

const differ = ({ label }: Task, rows: readonly number[]): boolean => rows.some((row) => label[row] !== label[rows[0]!]);

/** Pairs of the days after the first three, as sample numbers. */
function testPairs({ task, tested }: Cohort, { pairsPerSubject, train }: TransferConfig): Pairs {
  const rows = [...tested.values()].flatMap(({ rest }) => rest);
  const of = (list: ArrayLike<number>) => rows.map((row) => list[row]!);
  const pairs = drawPairs({ subject: of(task.subject), value: of(task.label) }, pairsPerSubject, BigInt(train.seed));
  const toSample = (places: Uint32Array) => places.map((place) => task.sample[rows[place]!]!);
  return { ...pairs, x: toSample(pairs.x), y: toSample(pairs.y) };
}

/** Fine-tuned on pairs of the other patients, a tenth of them for validation. */
async function generic(config: TransferConfig, start: Start, { task, trained }: Cohort, tested: Pairs): Promise<Float32Array> {
  const { train, learningRates, patience, pairsPerSubject, signal } = config;
  const known = new Set(trained.keys());
  const of = <T extends Uint32Array | Float32Array>(list: T): T => list.filter((_, row) => known.has(task.subject[row]!)) as T;
  const pairs = pairsOf(
    { ...task, sample: of(task.sample), subject: of(task.subject), label: of(task.label) },
    pairsPerSubject,
    train.seed,
  );
  const rows = splitOf(pairs.subject, train.seed);
  const { design, weights } = start;
  const settings = { ...train, learningRates, patience, augment: design.augment };
  const learner = await fineTuning({ data: task.data, design, start: weights, pairs, settings, place: train, signal });
  try {
    const learned = await learner.learn(rows, (step) => config.onEvent?.({ type: 'step', fold: 1, ...step }));
    return await learner.estimate(learned.weights, tested, Uint32Array.from(tested.x.keys()));
  } finally {
    learner.dispose();
  }
}

/** The patient of each picture that is learned from. */
const learnedFrom = ({ trained }: Cohort): Uint32Array =>
  Uint32Array.from([...trained].flatMap(([patient, rows]) => rows.map(() => patient)));

/** A tenth of them for validation; nobody is kept for a test, which is made on others. */
function splitOf(subject: Uint32Array, seed: number): { train: Uint32Array; validation: Uint32Array } {
  const folds = Math.min(10, new Set(subject).size);
  const [first] = subjectFolds(subject, folds, BigInt(seed));
  return { train: Uint32Array.from([...first!.train, ...first!.validation]).sort(), validation: first!.test };
}

/** Trained on single pictures of the other patients, then on the first days of each tested one; a change is the difference of two answers. */
async function specific(
  config: TransferConfig,
  start: Start,
  cohort: Cohort,
  pairs: Pairs,
  days: number,
  folder: ResultFolder,
): Promise<Float32Array> {
  const { task, trained, tested } = cohort;
  const { train, learningRates, patience, signal } = config;
  const { design } = start;
  const settings = { ...train, learningRates, patience, augment: design.augment };
  const rows = [...trained.values()].flat();
  const split = splitOf(learnedFrom(cohort), train.seed);
  const some = (places: Uint32Array) =>
    examplesOf(
      task,
      [...places].map((place) => rows[place]!),
    );
  const tell = (fold: number) => (step: Parameters<NonNullable<Parameters<Tuner['tune']>[3]>>[0]) =>
    config.onEvent?.({ type: 'step', fold, ...step });
  const tuner = await Tuner.create(task.data, design, 'value', settings, train);
  try {
    const from = start.weights ? await tuner.startFrom(start.weights, false) : await tuner.fresh();
    const others = await tuner.tune(from, some(split.train), some(split.validation), tell(1), signal);
    const estimate = new Float32Array(pairs.x.length);
    for (const [index, [patient, own]] of [...tested].entries()) {
      const at = [...pairs.x.keys()].filter((row) => pairs.subject[row] === patient);
      const isRight = (read: unknown): read is number[] => isNumbers(read, at.length);
      const { value } = await folder.part(`patient-${patient}`, isRight, async () => {
        const examples = examplesOf(task, own.days.slice(0, days).flat());
        // There is nobody to choose by but the patient: the rate is the one that was best for the others.
        const learned = await tuner.tune(others.weights, examples, examples, tell(index + 2), signal, others);
        const of = async (list: Uint32Array) =>
          tuner.estimate(
            learned.weights,
            undefined,
            { x: Uint32Array.from(at, (row) => list[row]!), target: new Float32Array(at.length) },
            signal,
          );
        const [x, y] = [await of(pairs.x), await of(pairs.y)];
        return at.map((_, i) => y[i]! - x[i]!);
      });
      for (const [i, row] of at.entries()) estimate[row] = value[i]!;
    }
    return estimate;
  } finally {
    tuner.dispose();
  }
}

/** Single pictures, each labeled by how far its weight is from the mean of its patient's in them: between patients it says more of who they are. */
function examplesOf({ sample, subject, label }: Task, rows: readonly number[]): Examples {
  const sums = new Map<number, { sum: number; count: number }>();
  for (const row of rows) {
    const { sum, count } = sums.get(subject[row]!) ?? { sum: 0, count: 0 };
    sums.set(subject[row]!, { sum: sum + label[row]!, count: count + 1 });
  }
  const mean = (row: number) => sums.get(subject[row]!)!.sum / sums.get(subject[row]!)!.count;
  return { x: Uint32Array.from(rows, (row) => sample[row]!), target: Float32Array.from(rows, (row) => label[row]! - mean(row)) };
}
