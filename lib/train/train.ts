// The training run: events out, checkpoints on disk. A run's whole random and data state is its step, so it may stop and go on anywhere.
// Everything that computes happens on the engine's thread; between two steps this file only plans, logs and saves.
import { readFile, writeFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, platform } from 'node:os';
import { join } from 'node:path';
import { checkObject, checkSignal } from '../check.js';
import { checkTrainOptions, type TrainConfig, type TrainOptions } from '../config.js';
import { type Manifest, readManifest } from '../data/manifest.js';
import { PairSampler, splitSubjects } from '../data/pairs.js';
import { ComFaceError, printable, show } from '../errors.js';
import { comfaceGraph } from '../models/heads.js';
import { backbone, embeddingWidth } from '../models/resnet.js';
import {
  chooseDevice,
  type NativeCollected,
  type NativeEngine,
  type NativePlan,
  type NativeSource,
  type NativeStep,
  native,
  threadCount,
} from '../native.js';
import { type CheckpointState, latestCheckpoint, saveCheckpoint } from './checkpoint.js';
import { stageAt } from './curriculum.js';
import { ioError } from './files.js';
import { lockRun } from './lock.js';
import { type Log, openLog } from './log.js';
import { learningRateAt, positionAt } from './schedule.js';
import { readState, readWeights, writeState } from './state.js';
import { Validator } from './validate.js';

/** What happens in a run, in order; also the lines of `log.jsonl`. */
export type TrainEvent =
  | {
      type: 'start';
      /** Step to begin after: 0, or that of the checkpoint. */
      step: number;
      steps: number;
      stepsPerEpoch: number;
      pictures: number;
      subjects: number;
      device: string;
      precision: string;
      /** Why `device: auto` took the CPU. */
      fallback?: string;
      /** Library, instruction set, threads. */
      engine: string;
      /** Bytes of the network with all its buffers, planned before the first step. */
      memoryBytes: number;
      parameters: number;
    }
  | { type: 'stage'; step: number; epoch: number; stage: number; range: number }
  | StepEvent
  /** After each epoch, on the subjects kept out; `mae` in steps of alpha. */
  | { type: 'validation'; step: number; epoch: number; pairs: number; mae: number; correlation: number }
  | { type: 'broken'; step: number; file: string; line: number; reason: string; count: number }
  | { type: 'checkpoint'; step: number; path: string }
  | { type: 'warning'; message: string }
  | { type: 'end'; step: number; seconds: number; path: string };

/** One update. Losses are unweighted; a head that is left out is NaN. */
export interface StepEvent {
  type: 'step';
  step: number;
  steps: number;
  epoch: number;
  /** Weighted sum of the two. */
  loss: number;
  /** InfoNCE, equation (1). */
  inter: number;
  /** Mean squared error of the change. */
  intra: number;
  learningRate: number;
  /** S, equation (2). */
  range: number;
  pairsPerSecond: number;
  /** Seconds that this step waited for its batch. */
  loadSeconds: number;
  secondsLeft: number;
}

/** How a run ended. */
export interface TrainResult {
  step: number;
  /** The last checkpoint. */
  path: string;
  inter: number;
  intra: number;
  seconds: number;
  /** Pictures that could not be used. */
  broken: number;
}

/** A run: iterate its events, or await its result, or both. It starts with the first of these. */
export interface TrainRun extends AsyncIterable<TrainEvent>, PromiseLike<TrainResult> {}

/**
 * Pre-trains a network as ComFace does (section 3 of the paper): views, InfoNCE, squared error of the change, curriculum, Adam.
 *
 * @param options All but `data` and `out` have defaults; see {@link TrainOptions}.
 * @param control.signal Aborting finishes the step, saves a checkpoint and rejects with `signal.reason`.
 * @throws ComFaceError INVALID_CONFIG, INVALID_INPUT, CORRUPT_FILE (too many broken pictures), NOT_FINITE (the last checkpoint stays),
 * BUSY (another run in the folder), IO, DEVICE_UNAVAILABLE.
 * @example
 * for await (const event of train({ data: 'faces', out: 'run', backbone: 'resnet18', size: 64 })) {
 *   if (event.type === 'step') console.log(event.step, event.inter, event.intra);
 * }
 */
export function train(options: TrainOptions, control: { signal?: AbortSignal } = {}): TrainRun {
  const events = runEvents(options, control);
  let drained: Promise<TrainResult> | undefined;
  const settled: { result?: TrainResult; failure?: unknown } = {};
  const iterator: AsyncIterator<TrainEvent> = {
    async next() {
      const item = await events.next().catch((failure: unknown) => {
        settled.failure ??= failure;
        throw failure;
      });
      if (!item.done) return { done: false, value: item.value };
      settled.result ??= item.value;
      return { done: true, value: undefined };
    },
    async return() {
      await events.return(undefined as never);
      return { done: true, value: undefined };
    },
  };
  const drain = async (): Promise<TrainResult> => {
    while (!(await iterator.next()).done);
    if (settled.failure !== undefined) throw settled.failure;
    if (!settled.result) throw new ComFaceError('DISPOSED', 'This run was left before its end and has no result');
    return settled.result;
  };
  return {
    [Symbol.asyncIterator]: () => iterator,
    // biome-ignore lint/suspicious/noThenProperty: a run is awaited for its result, as documented.
    then(fulfilled, rejected) {
      drained ??= drain();
      return drained.then(fulfilled, rejected);
    },
  };
}

/** Everything a run holds open. */
interface Run {
  config: TrainConfig;
  manifest: Manifest;
  sampler: PairSampler;
  engine: NativeEngine;
  source: NativeSource;
  log: Log;
  steps: number;
  done: number;
  info: Record<string, unknown>;
  broken: Set<number>;
  lastBroken: string;
  validator: Validator | undefined;
  /** Step of the last validation. */
  validated: number;
  saving: Promise<{ step: number; path: string }> | undefined;
  /** Events of steps whose losses are not known yet. */
  untold: Omit<StepEvent, 'loss' | 'inter' | 'intra'>[];
  /** The last step that was told. */
  last: StepEvent | undefined;
}

/** What has to be closed again, whatever happens. */
interface Open {
  engine?: NativeEngine;
  source?: NativeSource;
  validator?: Validator;
  log?: Log;
  saving?: Promise<unknown>;
}

async function* runEvents(options: TrainOptions, control: { signal?: AbortSignal }): AsyncGenerator<TrainEvent, TrainResult> {
  const config = checkTrainOptions(options);
  checkObject('control', control);
  const { signal } = control;
  checkSignal(signal);
  signal?.throwIfAborted();
  const manifest = await readManifest(config.data);
  const lock = await lockRun(config.out);
  const open: Open = {};
  try {
    const { run, events } = await begin(config, manifest, open, signal);
    for (const event of events) yield emit(run, event);
    return yield* loop(run, signal, open);
  } finally {
    await open.saving?.catch(() => undefined);
    open.engine?.dispose();
    open.source?.dispose();
    open.validator?.dispose();
    try {
      await open.log?.close();
    } finally {
      await lock.release();
    }
  }
}

/** Opens everything and loads the checkpoint or starts afresh; returns what to report first. */
async function begin(
  config: TrainConfig,
  manifest: Manifest,
  open: Open,
  signal: AbortSignal | undefined,
): Promise<{ run: Run; events: TrainEvent[] }> {
  const warnings: string[] = [];
  const found = await findCheckpoint(config, warnings);
  const { split, sampler } = plan(config, manifest);
  const { engine, device, precision, fallback, info: environment } = await makeEngine(config, found?.info.choices);
  open.engine = engine;
  open.source = native().module.openFiles(manifest.files, config.size, config.loaderThreads, manifest.size);
  const info = { ...environment, config, dataHash: manifest.hash, seed: config.seed, pictures: sampler.pictures };
  if (found) {
    checkSame(found, info, warnings);
    await writeState(engine, found.weights, found.optimizer, precision === 'fp16');
  } else {
    await engine.initialize(BigInt(config.seed));
    const path = join(config.out, 'config.json');
    await writeFile(path, `${JSON.stringify(config, null, 2)}\n`).catch((cause) => {
      throw ioError('write', path, cause);
    });
  }
  const done = found?.step ?? 0;
  let validated = 0;
  open.log = await openLog(config.out, {
    keepThroughStep: done,
    onKept: ({ type, step }) => {
      if (type === 'validation') validated = step as number;
    },
  });
  const steps = config.epochs * sampler.stepsPerEpoch;
  if (config.threads > availableParallelism()) {
    warnings.push(`${config.threads} threads on ${availableParallelism()} cores get in each other's way: expect it to be slow.`);
  }
  const start: TrainEvent = {
    type: 'start',
    step: done,
    steps,
    stepsPerEpoch: sampler.stepsPerEpoch,
    pictures: sampler.pictures,
    subjects: split.training.length,
    device,
    precision,
    ...(fallback === undefined ? {} : { fallback }),
    engine: engine.description,
    memoryBytes: engine.sizeBytes,
    parameters: engine.parameters.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0),
  };
  const { source, log } = open;
  const validator = await Validator.create(config, manifest, split.validation, await readWeights(engine, done), signal);
  if (validator) open.validator = validator;
  return {
    run: {
      config,
      manifest,
      sampler,
      engine,
      source,
      log,
      info,
      steps,
      done,
      broken: new Set(),
      lastBroken: '',
      validator,
      validated,
      saving: undefined,
      untold: [],
      last: undefined,
    },
    events: [...warnings.map((message): TrainEvent => ({ type: 'warning', message })), start],
  };
}

/** The steps from `run.done` to the end. */
async function* loop(run: Run, signal: AbortSignal | undefined, open: Open): AsyncGenerator<TrainEvent, TrainResult> {
  const { config, sampler, steps } = run;
  const started = performance.now();
  const first = run.done;
  let next: NativePlan | undefined;
  let stage = 0;
  yield* validate(run, signal);
  while (run.done < steps) {
    if (signal?.aborted) return yield* stop(run, signal);
    const step = run.done + 1;
    const { epoch } = positionAt(step, sampler.stepsPerEpoch);
    const now = stageAt(config.curriculum, epoch);
    if (now.stage !== stage) {
      yield* told(run);
      stage = now.stage;
      yield emit(run, { type: 'stage', step, epoch, ...now });
    }
    const plan = next ?? sampler.plan(step);
    next = step < steps ? sampler.plan(step + 1) : undefined;
    const learningRate = learningRateAt(config, epoch);
    const { beta1, beta2, epsilon, weightDecay } = config;
    const adam = { learningRate, beta1, beta2, epsilon, weightDecay, step };
    const result = await run.engine.step(run.source, plan, next ?? null, config.augment, adam).catch((error) => refuse(run, error));
    run.done = step;
    for (const event of noteBroken(run, result)) yield event;
    if (run.broken.size > config.brokenShare * sampler.pictures) yield* refuseBroken(run);
    const seconds = (performance.now() - started) / 1000;
    run.untold.push({
      type: 'step',
      step,
      steps,
      epoch,
      learningRate,
      range: now.range,
      pairsPerSecond: ((step - first) * config.pairs) / seconds,
      loadSeconds: result.loadSeconds,
      secondsLeft: (seconds / (step - first)) * (steps - step),
    });
    yield* tell(run, result);
    const isCheckpoint = step % config.checkpointEverySteps === 0;
    if (step % config.logEverySteps === 0 || isCheckpoint || step % sampler.stepsPerEpoch === 0) yield* told(run);
    yield* validate(run, signal);
    if (isCheckpoint && step < steps) {
      yield* saved(run);
      await beginSave(run);
      open.saving = run.saving!;
    }
  }
  yield* told(run);
  yield* saved(run);
  const path = await saveNow(run);
  yield emit(run, { type: 'checkpoint', step: run.done, path });
  const seconds = (performance.now() - started) / 1000;
  yield emit(run, { type: 'end', step: run.done, seconds, path });
  const { inter = Number.NaN, intra = Number.NaN } = run.last ?? {};
  return { step: run.done, path, inter, intra, seconds, broken: run.broken.size };
}

/** Completes the events of steps whose losses are known now. */
function* tell(run: Run, { losses, steps }: NativeCollected): Generator<TrainEvent> {
  const each = losses.length / Math.max(1, steps);
  for (const [i, event] of run.untold.splice(0, steps).entries()) {
    run.last = { ...event, ...lossesOf(run.config, losses.slice(i * each, (i + 1) * each)) };
    if (event.step % run.config.logEverySteps === 0 || event.step === run.steps) run.log.write(run.last);
    yield run.last;
  }
}

/** Waits for the losses of the steps that a device still computes: what comes next in the log comes after them. */
async function* told(run: Run): AsyncGenerator<TrainEvent> {
  if (run.untold.length > 0) yield* tell(run, await run.engine.collect());
}

/** After an epoch's last step, once: a run that was stopped there does it when it goes on. */
async function* validate(run: Run, signal: AbortSignal | undefined): AsyncGenerator<TrainEvent> {
  const { validator, sampler, done: step } = run;
  if (signal?.aborted || !validator || step === 0 || step % sampler.stepsPerEpoch !== 0 || run.validated === step) return;
  run.validated = step;
  const figures = await validator.run(await readWeights(run.engine, step), signal);
  if (figures) yield emit(run, { type: 'validation', step, epoch: step / sampler.stepsPerEpoch, ...figures });
}

function emit<T extends TrainEvent>(run: Run, event: T): T {
  run.log.write(event);
  return event;
}

function lossesOf(config: TrainConfig, losses: readonly number[]): Pick<StepEvent, 'loss' | 'inter' | 'intra'> {
  const left = [...losses];
  const inter = config.interPersonal > 0 ? left.shift()! : Number.NaN;
  const intra = config.intraPersonal > 0 ? left.shift()! : Number.NaN;
  const weighted = (weight: number, loss: number) => (weight > 0 ? weight * loss : 0);
  return { loss: weighted(config.interPersonal, inter) + weighted(config.intraPersonal, intra), inter, intra };
}

/** The engine knows a picture by its path; the reader also wants its line in the manifest. */
function refuse({ manifest }: Run, error: unknown): never {
  if (!(error instanceof ComFaceError) || error.code !== 'CORRUPT_FILE') throw error;
  const sample = manifest.files.findIndex((file) => error.message.startsWith(`${printable(file)}:`));
  if (sample < 0) throw error;
  const hint = error.hint ?? 'Make the data set again.';
  throw new ComFaceError('CORRUPT_FILE', `${manifest.folder}/manifest.jsonl:${manifest.lines[sample]}: ${error.message}`, {
    hint,
    cause: error,
  });
}

/** Reports new broken pictures. */
function* noteBroken(run: Run, { broken }: NativeStep): Generator<TrainEvent> {
  for (const { sample, reason } of broken) {
    if (run.broken.has(sample)) continue;
    run.broken.add(sample);
    const line = run.manifest.lines[sample]!;
    yield emit(run, { type: 'broken', step: run.done, file: run.manifest.files[sample]!, line, reason, count: run.broken.size });
    run.lastBroken = `${run.manifest.folder}/manifest.jsonl:${line}: ${reason}`;
  }
}

/** Too many broken pictures: what was learned is kept, the run ends. */
async function* refuseBroken(run: Run): AsyncGenerator<TrainEvent, never> {
  yield* told(run);
  yield* saved(run);
  yield emit(run, { type: 'checkpoint', step: run.done, path: await saveNow(run) });
  const { broken, sampler, config, lastBroken } = run;
  const share = `${broken.size} of ${sampler.pictures}`;
  throw new ComFaceError(
    'CORRUPT_FILE',
    `More than ${config.brokenShare * 100} % of the pictures are broken (${share}); the last is ${lastBroken}`,
    {
      hint: 'Make the data set again, or allow more with `brokenShare` (--broken-share) and go on with --resume.',
    },
  );
}

/** Copies the state out; the disk is written while the next steps run. */
async function beginSave(run: Run): Promise<void> {
  const step = run.done;
  const state: CheckpointState = { step, ...(await readState(run.engine, step, run.info.precision === 'fp16')), info: run.info };
  run.saving = saveCheckpoint(run.config.out, state, { keep: run.config.keepCheckpoints }).then((path) => ({ step, path }));
  run.saving.catch(() => undefined); // handled where it is awaited
}

/** Waits for the save under way, if any, and reports it. */
async function* saved(run: Run): AsyncGenerator<TrainEvent> {
  const done = await run.saving;
  run.saving = undefined;
  if (done) yield emit(run, { type: 'checkpoint', ...done });
}

async function saveNow(run: Run): Promise<string> {
  await beginSave(run);
  const { path } = (await run.saving)!;
  run.saving = undefined;
  return path;
}

/** Aborted: save what was reached, then reject with the reason. */
async function* stop(run: Run, signal: AbortSignal): AsyncGenerator<TrainEvent, never> {
  yield* told(run);
  yield* saved(run);
  yield emit(run, { type: 'checkpoint', step: run.done, path: await saveNow(run) });
  throw signal.reason;
}

function plan(config: TrainConfig, manifest: Manifest) {
  const split = splitSubjects(manifest, config.validation, config.seed);
  const sampler = new PairSampler(manifest, split.training, { ...config, rangeAt: (epoch) => stageAt(config.curriculum, epoch).range });
  return { split, sampler };
}

/** What sets the last bits of a sum, as the manifest of a checkpoint states it. Libraries choose their blocks by instruction set, caches and threads. */
const setsBits = ['version', 'engine', 'cpu'] as const;
const kRepeatable =
  'The same seed gives the same bits, stopped or not and with any number of loader threads, where version, engine (library, instruction sets, ' +
  'precision, compute threads) and cpu are the same. Elsewhere the run goes on with a warning, and the last bits may differ.';

/** @param choices Of the run that is gone on with. */
async function makeEngine(config: TrainConfig, choices: unknown) {
  const { library, device, precision, reason: fallback } = chooseDevice(config.device, config.precision);
  if (config.gradientCache > 1 && device !== 'cuda') {
    throw new ComFaceError('INVALID_CONFIG', `Expected device cuda for \`gradientCache\` ${config.gradientCache} but received ${device}`, {
      hint: 'Leave it out, or ask for fewer pairs.',
    });
  }
  const embedding = embeddingWidth(config.backbone, config.width);
  if (config.interPersonal === 0 && config.intraPersonal === 0) {
    throw new ComFaceError('INVALID_CONFIG', 'Expected a positive `interPersonal` or `intraPersonal` but received 0 for both', {
      hint: 'Without a loss there is nothing to learn.',
    });
  }
  const layers = comfaceGraph(backbone(config.backbone, config), {
    ...config,
    embedding,
    projection: { hidden: config.projection.hidden ?? embedding, out: config.projection.out },
  });
  const threads = threadCount(config.threads);
  const engine = await native().module.createEngine(library, {
    layers,
    batch: 3 * config.pairs,
    training: true,
    precision,
    threads,
    chunks: config.gradientCache,
    parts: 3,
    choices: typeof choices === 'string' ? choices : '',
  });
  const version = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')).version as string;
  const cpu = cpus()[0]?.model.trim() ?? 'unknown';
  const machine = { platform: platform(), arch: arch(), node: process.version };
  return {
    engine,
    device,
    precision,
    fallback,
    info: {
      version,
      device,
      precision,
      threads,
      engine: engine.description,
      choices: engine.choices,
      cpu,
      machine,
      repeatable: kRepeatable,
    },
  };
}

async function findCheckpoint(config: TrainConfig, warnings: string[]): Promise<CheckpointState | null> {
  const found = await latestCheckpoint(config.out, { onWarning: (text) => warnings.push(text) });
  if (!found || config.resume) return found;
  throw new ComFaceError(
    'INVALID_CONFIG',
    `Expected a folder without a run for \`out\` but ${show(config.out)} holds one at step ${found.step}`,
    {
      hint: 'Go on with it by `resume: true` (--resume), or choose another folder.',
    },
  );
}

/** Options that may change between a run and its continuation without changing what is computed. */
const free = new Set([
  'out',
  'data',
  'resume',
  'epochs',
  'threads',
  'loaderThreads',
  'checkpointEverySteps',
  'keepCheckpoints',
  'logEverySteps',
  'brokenShare',
  'device',
]);

function checkSame({ info: before }: CheckpointState, info: Record<string, unknown>, warnings: string[]): void {
  const old = (before.config ?? {}) as Record<string, unknown>;
  const now = info.config as Record<string, unknown>;
  for (const name of Object.keys(now)) {
    if (free.has(name) || JSON.stringify(old[name]) === JSON.stringify(now[name])) continue;
    throw new ComFaceError(
      'INVALID_CONFIG',
      `Expected ${show(old[name])} for \`${name}\`, as the run began, but received ${show(now[name])}`,
      {
        hint: 'A run goes on with the options it began with; start another in a new folder.',
      },
    );
  }
  if (before.dataHash !== info.dataHash) {
    throw new ComFaceError('INVALID_INPUT', 'Expected the data that the run began with, but the manifest has changed', {
      hint: 'Bring back the data set, or start another run in a new folder.',
    });
  }
  for (const name of setsBits) {
    if (before[name] === info[name]) continue;
    warnings.push(`The run began with ${name} ${show(before[name])} and goes on with ${show(info[name])}: the last bits may differ.`);
  }
}
