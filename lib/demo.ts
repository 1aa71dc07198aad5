// The demo: draw faces, pre-train a ResNet-18 on them, then compare faces of people it has never seen, beside three rivals.
// Every rival gets the same pairs, folds and solver; what is printed is what was measured.
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import type { TrainOptions } from './config.js';
import { type DataSet, isFinished } from './data/dataset.js';
import type { GenerateProgress, SetOptions } from './data/generation.js';
import type { Manifest } from './data/manifest.js';
import { generate } from './data/procedural.js';
import { ComFaceError, invalid } from './errors.js';
import { Model } from './model.js';
import { native } from './native.js';
import { type DemoReport, type DemoTask, demoReport } from './report/report.js';
import { latestCheckpoint, lockRun } from './train/checkpoint.js';
import { type StepEvent, train } from './train/train.js';
import { drawPairs, type Pairs, subjectFolds } from './transfer/folds.js';
import { differenceFeatures, type Evaluation, evaluate, score } from './transfer/linear.js';
import { grayGrids, pixelDifferences } from './transfer/pixels.js';

/** By how much ComFace's correlation has to lead the best rival's. */
const kRequiredMargin = 0.15;
const kSeed = 1;
const kSize = 64;
const kFolds = 4;
const kTasks = ['smile', 'weight'] as const;

/** How much work: `full` is the demo; `smoke` only shows in seconds that every part runs, and learns next to nothing. */
export const demoScales = {
  full: { people: 1200, testPeople: 240, pairsPerEpoch: 2720 },
  smoke: { people: 16, testPeople: 12, pairsPerEpoch: 64 },
} as const;

/** Faces to learn from (camera family 0), and of other people, whose numbers do not meet theirs, to be tested on (camera family 1). */
const pictures = { attributes: [...kTasks], alphas: 11, size: kSize, seed: kSeed, quality: 92 };
const learned = (scale: DemoScale) => ({ ...pictures, subjects: demoScales[scale].people, domain: 0 });
const tested = (scale: DemoScale) => ({ ...pictures, subjects: demoScales[scale].testPeople, firstSubject: 1_000_000, domain: 1 });
type FaceSet = Omit<SetOptions, 'out' | 'alphas'> & { alphas: number };
const kPairsPerSubject = 16;

/**
 * The paper's method at a small scale. What differs from its settings, and why: ResNet-18 at 64 pixels and 32 pairs (2 cores, minutes); softer crops and
 * color than SimCLR's, since a smile is a few pixels here; 6e-4 instead of 4e-4 and a longer first stage, since 1,000 steps are few.
 */
const settings = {
  seed: kSeed,
  backbone: 'resnet18',
  size: kSize,
  pairs: 32,
  epochs: 12,
  learningRate: 6e-4,
  curriculum: { stageEnds: [8, 10, 11, 12] },
  validation: 0,
  augment: {
    cropAreaMin: 0.85,
    cropAspectMax: 1.05,
    jitterProbability: 0.5,
    brightness: 0.2,
    contrast: 0.2,
    saturation: 0.2,
    hue: 0.02,
    grayscaleProbability: 0,
  },
  checkpointEverySteps: 340,
  keepCheckpoints: 2,
} satisfies Partial<TrainOptions>;

/** A name of {@link demoScales}. */
export type DemoScale = keyof typeof demoScales;

/** What the demo says while it works. */
export type DemoEvent =
  | { type: 'phase'; text: string }
  | { type: 'generate'; progress: GenerateProgress }
  | { type: 'step'; step: StepEvent };

/** The figures of a demo; also `result.json`. */
export type DemoResult = Omit<DemoReport, 'curves' | 'tasks'> & {
  tasks: { name: string; unit: string; rows: DemoTask['rows'] }[];
  files: { report: string; result: string; run: string };
};

/** How to run the demo. */
export interface DemoOptions {
  /** Folder for faces, run and report. */
  out: string;
  /** @default 'full' */
  scale?: DemoScale;
  signal?: AbortSignal;
  onEvent?: (event: DemoEvent) => void;
}

/**
 * Runs the demo and writes `report.html` and `result.json` into `out`.
 *
 * Faces already drawn there by an earlier demo are used again; the run is made anew.
 * @throws ComFaceError INVALID_INPUT for a folder with other content, BUSY for one where a demo runs; as `generate` and `train` do; aborting rejects with `signal.reason`.
 */
export async function demo(options: DemoOptions): Promise<DemoResult> {
  const out = resolve(options.out);
  const lock = await lockRun(out);
  try {
    await claim(out);
    return await work(out, options);
  } finally {
    await lock.release();
  }
}

/** Marks a folder as the demo's, since the demo removes what an earlier one left in it; anybody else's folder is refused. */
async function claim(out: string): Promise<void> {
  const marker = join(out, '.comface-demo');
  const entries = (await readdir(out)).filter((name) => name !== 'run.lock');
  if (entries.length > 0 && !entries.includes('.comface-demo')) {
    throw invalid('out', 'a folder that is new, empty or of an earlier demo', out, 'Name another folder: comface demo --out FOLDER');
  }
  await writeFile(marker, 'Made by comface demo, which may remove what is here.\n');
}

async function work(out: string, { onEvent = () => undefined, signal, scale = 'full' }: DemoOptions): Promise<DemoResult> {
  const [training, testing] = [learned(scale), tested(scale)];
  const started = performance.now();
  const clock = { generate: 0, train: 0, evaluate: 0, total: 0 };
  const timed = async <T>(phase: keyof typeof clock, text: string, work: () => Promise<T>): Promise<T> => {
    onEvent({ type: 'phase', text });
    const begun = performance.now();
    const result = await work();
    clock[phase] += (performance.now() - begun) / 1000;
    return result;
  };
  const tellDrawn = (progress: GenerateProgress) => onEvent({ type: 'generate', progress });
  const count = (set: FaceSet) => set.subjects * set.attributes.length * set.alphas;
  const data = await timed('generate', `Drawing ${count(training)} faces of ${training.subjects} people to learn from`, () =>
    faces(join(out, 'faces'), training, signal, tellDrawn),
  );
  const test = await timed(
    'generate',
    `Drawing ${count(testing)} faces of ${testing.subjects} other people, another camera, other light`,
    () => faces(join(out, 'test'), { ...testing, format: 'files' }, signal, tellDrawn),
  );
  const run = join(out, 'run');
  await rm(run, { recursive: true, force: true });
  const curves = await timed('train', 'Pre-training a ResNet-18 on them', () =>
    pretrain({ data: data.folder, out: run, pairsPerEpoch: demoScales[scale].pairsPerEpoch }, signal, (step) =>
      onEvent({ type: 'step', step }),
    ),
  );
  const tasks = await timed('evaluate', 'Comparing faces of people it has never seen (linear evaluation, 4 folds by subject)', () =>
    compareAll(test, run),
  );
  clock.total = (performance.now() - started) / 1000;
  const margins = tasks.map(
    ({ name, rows }) => [name, rows[0]!.correlation - Math.max(...rows.slice(1).map((row) => row.correlation))] as const,
  );
  const report: DemoReport = {
    title: 'ComFace demo',
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: native().module.cpu.cores, node: process.version },
    settings: describeSettings(curves, training, testing),
    seconds: clock,
    curves,
    tasks,
    target: { required: kRequiredMargin, margins },
  };
  const files = { report: join(out, 'report.html'), result: join(out, 'result.json'), run };
  const { curves: _, tasks: all, ...rest } = report;
  const result: DemoResult = { ...rest, tasks: all.map(({ name, unit, rows }) => ({ name, unit, rows })), files };
  await writeFile(files.report, demoReport(report));
  await writeFile(files.result, `${JSON.stringify(result, null, 2)}\n`);
  return result;
}

type Signal = AbortSignal | undefined;
type OnProgress = (progress: GenerateProgress) => void;

/** Draws a set, or takes the one that is there; what an interrupted demo left unfinished is drawn anew. */
async function faces(
  folder: string,
  set: FaceSet & { format: 'files' },
  signal: Signal,
  onProgress: OnProgress,
): Promise<DataSet & Manifest>;
async function faces(folder: string, set: FaceSet, signal: Signal, onProgress: OnProgress): Promise<DataSet>;
async function faces(folder: string, set: FaceSet, signal: Signal, onProgress: OnProgress): Promise<DataSet> {
  const draw = () => generate({ ...set, out: folder, onProgress, ...(signal && { signal }) });
  if (isFinished(folder)) {
    try {
      return await draw(); // the same set is only read
    } catch (error) {
      if (!(error instanceof ComFaceError) || error.code !== 'INVALID_INPUT') throw error; // another scale's or version's
    }
  }
  await rm(folder, { recursive: true, force: true });
  return draw();
}

type Curves = DemoReport['curves'] & { engine: string };

async function pretrain(
  own: Pick<TrainOptions, 'data' | 'out' | 'pairsPerEpoch'>,
  signal: AbortSignal | undefined,
  onStep: (step: StepEvent) => void,
): Promise<Curves> {
  const steps: StepEvent[] = [];
  const stages: { fromStep: number; range: number }[] = [];
  let engine = '';
  for await (const event of train({ ...settings, ...own }, signal ? { signal } : {})) {
    if (event.type === 'start') engine = event.engine;
    if (event.type === 'stage') stages.push({ fromStep: event.step, range: event.range });
    if (event.type !== 'step') continue;
    steps.push(event);
    onStep(event);
  }
  return {
    step: steps.map(({ step }) => step),
    inter: steps.map(({ inter }) => inter),
    intra: steps.map(({ intra }) => intra),
    stages,
    chanceInter: Math.log(2 * settings.pairs - 1),
    engine,
  };
}

/** Each method's embeddings or pixels, computed once for all test pictures. */
async function compareAll(test: Manifest, run: string): Promise<DemoTask[]> {
  const checkpoint = (await latestCheckpoint(run))!;
  const design = checkpoint.info.config as Model['design'];
  const embed = async (weights: Parameters<typeof Model.from>[1]): Promise<{ h: Float32Array; width: number }> => {
    await using model = await Model.from(design, weights);
    return { h: await model.embed(test.files), width: model.width };
  };
  const comface = await embed(checkpoint.weights);
  const untrained = await embed({ seed: kSeed + 1 });
  const grids = await grayGridsOf(test.files);
  const tasks: DemoTask[] = [];
  for (const name of kTasks) {
    const pairs = pairsOf(test, name);
    const folds = subjectFolds(pairs.subject, kFolds, BigInt(kSeed));
    const linear = ({ h, width }: typeof comface) =>
      evaluate(differenceFeatures(pick(h, pairs.x, width), pick(h, pairs.y, width), width), pairs.target, pairs.subject, folds);
    const methods: [string, Evaluation][] = [
      ['ComFace', linear(comface)],
      ['Untrained backbone', linear(untrained)],
      ['16x16 gray pixel differences', evaluate(pixelDifferences(grids, pairs), pairs.target, pairs.subject, folds)],
      ['Always zero', score(new Float32Array(pairs.target.length), pairs.target, folds)],
    ];
    const rows = methods.map(([method, { mae, correlation }]) => ({ method, mae, correlation }));
    const estimate = methods[0]![1].predictions;
    tasks.push({
      name,
      unit: 'steps of alpha',
      rows,
      scatter: { truth: pairs.target, estimate },
      pairs: await samplePairs(test, pairs, estimate),
    });
  }
  return tasks;
}

/** The pairs of one attribute; x and y are rows of the manifest. */
function pairsOf(test: Manifest, attribute: string): Pairs {
  const wanted = test.attributes.indexOf(attribute);
  const rows = Uint32Array.from(test.files.keys()).filter((row) => test.attribute[row] === wanted);
  const of = (list: ArrayLike<number>) => Array.from(rows, (row) => list[row]!);
  const pairs = drawPairs({ subject: of(test.subject), value: of(test.alpha) }, kPairsPerSubject, BigInt(kSeed));
  return { ...pairs, x: pairs.x.map((i) => rows[i]!), y: pairs.y.map((i) => rows[i]!) };
}

/** Rows of a matrix, copied. */
function pick(values: Float32Array, rows: Uint32Array, width: number): Float32Array {
  const out = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) out.set(values.subarray(row * width, (row + 1) * width), i * width);
  return out;
}

async function grayGridsOf(files: readonly string[]): Promise<Float32Array> {
  const area = kSize * kSize;
  const planes = new Float32Array(files.length * 3 * area);
  for (const [i, file] of files.entries()) {
    const { rgb } = await native().module.decodeJpeg(await readFile(file));
    for (let p = 0; p < area; p++) for (let c = 0; c < 3; c++) planes[(i * 3 + c) * area + p] = rgb[p * 3 + c]! / 255;
  }
  return grayGrids(planes, kSize, { mean: [0, 0, 0], deviation: [1, 1, 1] });
}

/** Eight test pairs spread over the true changes, one of each eighth, none chosen by its estimate. */
async function samplePairs(test: Manifest, pairs: Pairs, estimate: Float32Array): Promise<DemoTask['pairs']> {
  const order = Array.from(pairs.target.keys()).sort((a, b) => pairs.target[a]! - pairs.target[b]! || a - b);
  const chosen = Array.from({ length: 8 }, (_, i) => order[Math.floor(((i + 0.5) / 8) * order.length)]!);
  return Promise.all(
    chosen.map(async (row) => ({
      x: await readFile(test.files[pairs.x[row]!]!),
      y: await readFile(test.files[pairs.y[row]!]!),
      truth: pairs.target[row]!,
      estimate: estimate[row]!,
    })),
  );
}

function describeSettings({ step, engine }: Curves, training: FaceSet, testing: FaceSet): [string, string][] {
  return [
    ['Network', `${settings.backbone} at ${kSize} x ${kSize}, from random weights (seed ${kSeed})`],
    ['Engine', engine],
    ['Learned from', `${training.subjects} people, attributes ${training.attributes.join(', ')}, ${training.alphas} values of alpha each`],
    [
      'Training',
      `${step.length} steps of ${settings.pairs} pairs (${3 * settings.pairs} views) in ${settings.epochs} epochs, Adam ${settings.learningRate}, curriculum of 4 stages`,
    ],
    ['Tested on', `${testing.subjects} other people, ${kPairsPerSubject} pairs each and task, another camera family`],
  ];
}
