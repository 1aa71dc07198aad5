// The training run: events out, checkpoints on disk. A run's whole random and data state is its step, so it may stop and go on anywhere.
// Everything that computes happens on the engine's thread; between two steps this file only plans, logs and saves.
import { checkObject, checkSignal } from '../check.js';
import { checkTrainOptions, type TrainConfig, type TrainOptions } from '../config.js';
import { complaint, readData } from '../data/dataset.js';
import { ComFaceError, messageOf } from '../errors.js';
import type { NativeCollected, NativePlan, NativeStep } from '../native.js';
import { begin, type Open, type Run } from './begin.js';
import { saveCheckpoint } from './checkpoint.js';
import { stageAt } from './curriculum.js';
import type { StepEvent, TrainEvent, TrainResult } from './events.js';
import { lockRun } from './lock.js';
import { learningRateAt, positionAt } from './schedule.js';
import { readState, readWeights } from './state.js';

export type * from './events.js';

/** A run: iterate its events, or await its result, or first the one and then the other. It starts with the first of these. */
export interface TrainRun extends AsyncIterable<TrainEvent>, PromiseLike<TrainResult> {}

/**
 * Pre-trains a network as ComFace does (paper, section 3): random views, the InfoNCE loss that tells people apart, the squared error of the change, and a
 * curriculum from large changes to small ones, by Adam. Stopped, killed or out of power, it goes on with `resume: true` from its last checkpoint, to
 * the same weights, bit for bit, on the same machine and with as many threads.
 *
 * A save that fails is a `warning` event, and what was reached since is saved at once; the run ends with IO when that fails, too.
 *
 * @param options What to learn from, where to save, and how; all but `data` and `out` have defaults.
 * @param control How to stop it.
 * @param control.signal Aborting finishes the step, saves a checkpoint and rejects with `signal.reason`.
 * @throws ComFaceError INVALID_CONFIG for an option out of range, or one that differs from those that the run began with; INVALID_INPUT for data that cannot
 * be trained on; CORRUPT_FILE for too many broken pictures, or no checkpoint that can be loaded; NOT_FINITE for a loss that is infinite or not a number (the last checkpoint stays);
 * BUSY where another run has the folder; IO (what was reached is saved, if it can be); DEVICE_UNAVAILABLE; DEVICE_FAILED; OUT_OF_MEMORY.
 * @example
 * ```ts
 * import { train } from 'comface';
 *
 * const run = train({ data: 'faces', out: 'run', backbone: 'resnet18', size: 64 });
 * for await (const event of run) {
 *   if (event.type === 'step') console.log(event.step, event.inter, event.intra);
 * }
 * const { path } = await run; // the last checkpoint
 * ```
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

async function* runEvents(options: TrainOptions, control: { signal?: AbortSignal }): AsyncGenerator<TrainEvent, TrainResult> {
  const config = checkTrainOptions(options);
  checkObject('control', control);
  const { signal } = control;
  checkSignal(signal);
  signal?.throwIfAborted();
  const data = await readData(config.data);
  const lock = await lockRun(config.out);
  const open: Open = {};
  try {
    const { run, events } = await begin(config, data, lock, open, signal);
    for (const event of events) yield emit(run, event);
    return yield* loop(run, signal, open);
  } finally {
    await open.saving;
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

/** The steps from `run.done` to the end. */
async function* loop(run: Run, signal: AbortSignal | undefined, open: Open): AsyncGenerator<TrainEvent, TrainResult> {
  const { config, sampler, steps } = run;
  const started = performance.now();
  const first = run.done;
  let next: NativePlan | undefined;
  let stage = 0;
  yield* validate(run, signal);
  while (run.done < steps) {
    run.lock.check();
    if (signal?.aborted) return yield* stop(run, signal.reason);
    if (run.logFailure !== undefined) return yield* stop(run, run.logFailure);
    // Makes up for a save that failed; when this one fails, too, the run ends with its error.
    if (run.saving?.hasFailed) yield* saveNow(run);
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
      if (yield* settled(run)) open.saving = (await beginSave(run)).outcome;
      else yield* saveNow(run);
    }
  }
  const path = yield* saveNow(run);
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
    if (event.step % run.config.logEverySteps === 0 || event.step === run.steps) emit(run, run.last);
    yield run.last;
  }
}

/** Waits for the losses of the steps that a device still computes: what comes next in the log comes after them. */
async function* told(run: Run): AsyncGenerator<TrainEvent> {
  if (run.untold.length === 0) return;
  yield* tell(run, await run.engine.collect());
  const { description } = run.engine;
  if (description === run.described) return;
  run.described = description;
  yield emit(run, { type: 'warning', message: `The engine runs otherwise than it began, with the same results: ${description}` });
}

/** After an epoch's last step, once: a run that was stopped there does it when it goes on. */
async function* validate(run: Run, signal: AbortSignal | undefined): AsyncGenerator<TrainEvent> {
  const { validator, sampler, done: step } = run;
  if (signal?.aborted || !validator || step === 0 || step % sampler.stepsPerEpoch !== 0 || run.validated === step) return;
  run.validated = step;
  const figures = await validator.run(await readWeights(run.engine, step), signal);
  if (figures) yield emit(run, { type: 'validation', step, epoch: step / sampler.stepsPerEpoch, ...figures });
}

/** Into the log, too. One that cannot be written ends the run, but not before its state is saved. */
function emit<T extends TrainEvent>(run: Run, event: T): T {
  try {
    run.log.write(event);
  } catch (error) {
    run.logFailure ??= error;
  }
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
function refuse({ data }: Run, error: unknown): never {
  if (!(error instanceof ComFaceError) || error.code !== 'CORRUPT_FILE') throw error;
  const sample = data.sampleOf(error.message);
  if (sample < 0) throw error;
  const hint = error.hint ?? 'Make the data set again.';
  throw new ComFaceError('CORRUPT_FILE', complaint(data, sample, error.message), {
    hint,
    cause: error,
  });
}

/** Reports new broken pictures. */
function* noteBroken(run: Run, { broken }: NativeStep): Generator<TrainEvent> {
  for (const { sample, reason } of broken) {
    if (run.broken.has(sample)) continue;
    run.broken.add(sample);
    yield emit(run, { type: 'broken', step: run.done, ...run.data.placeOf(sample), reason, count: run.broken.size });
    run.lastBroken = complaint(run.data, sample, reason);
  }
}

/** Too many broken pictures: what was learned is kept, the run ends. */
async function* refuseBroken(run: Run): AsyncGenerator<TrainEvent, never> {
  const { broken, sampler, config, lastBroken } = run;
  const share = `${broken.size} of ${sampler.pictures}`;
  const text = `More than ${config.brokenShare * 100} % of the pictures are broken (${share}); the last is ${lastBroken}`;
  const hint = 'Make the data set again, or allow more with `brokenShare` (--broken-share) and go on with --resume.';
  return yield* stop(run, new ComFaceError('CORRUPT_FILE', text, { hint }));
}

/** Copies the state out; the disk is written while the next steps run. */
async function beginSave(run: Run): Promise<NonNullable<Run['saving']>> {
  const { done: step, config, info } = run;
  const state = { step, ...(await readState(run.engine, step, info.precision === 'fp16')), info };
  const saving: NonNullable<Run['saving']> = {
    step,
    hasFailed: false,
    outcome: saveCheckpoint(config.out, state, { keep: config.keepCheckpoints }).then(
      (path) => ({ path }),
      (error: unknown) => {
        saving.hasFailed = true;
        return { error };
      },
    ),
  };
  run.saving = saving;
  return saving;
}

/**
 * Waits for the save under way, if any, and tells of it. A failure is a warning: what has been reached since is there to be saved.
 * @returns Whether none failed.
 */
async function* settled(run: Run): AsyncGenerator<TrainEvent, boolean> {
  if (!run.saving) return true;
  const { step, outcome } = run.saving;
  const ended = await outcome;
  run.saving = undefined;
  if ('path' in ended) yield emit(run, { type: 'checkpoint', step, path: ended.path });
  else yield emit(run, { type: 'warning', message: `Step ${step} was not saved, a later one will be: ${messageOf(ended.error)}` });
  return 'path' in ended;
}

/** Saves the step that was reached and waits for the disk. @returns The checkpoint's folder. */
async function* saveNow(run: Run): AsyncGenerator<TrainEvent, string> {
  yield* told(run);
  yield* settled(run);
  const { step, outcome } = await beginSave(run);
  const ended = await outcome;
  run.saving = undefined;
  if ('error' in ended) throw ended.error;
  yield emit(run, { type: 'checkpoint', step, path: ended.path });
  return ended.path;
}

/** Saves what was reached, then rejects with the reason. */
async function* stop(run: Run, reason: unknown): AsyncGenerator<TrainEvent, never> {
  yield* saveNow(run);
  throw reason;
}
