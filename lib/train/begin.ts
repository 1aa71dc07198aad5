// How a run begins: the checkpoint to go on from or fresh weights, the data, the engine, and whether all of it fits together.

import { open } from 'node:fs/promises';
import { arch, availableParallelism, cpus, platform } from 'node:os';
import { join } from 'node:path';
import { designOf, type TrainConfig } from '../config.js';
import type { DataSet } from '../data/dataset.js';
import { PairSampler, sparesOf, splitSubjects } from '../data/pairs.js';
import { ComFaceError, show } from '../errors.js';
import { backbone, embeddingWidth } from '../models/backbone.js';
import { comfaceGraph } from '../models/heads.js';
import { chooseDevice, type NativeEngine, type NativeSource, native, threadCount } from '../native.js';
import { version } from '../version.js';
import { type CheckpointState, latestCheckpoint } from './checkpoint.js';
import { stageAt } from './curriculum.js';
import type { StepEvent, TrainEvent } from './events.js';
import { disk, errorCode, explained, ioError } from './files.js';
import type { RunLock } from './lock.js';
import { type Log, openLog } from './log.js';
import { readWeights, writeState } from './state.js';
import { Validator } from './validate.js';

/** Everything a run holds open. */
export interface Run {
  config: TrainConfig;
  data: DataSet;
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
  lock: RunLock;
  /** The save under way, or the last one until it is told of. Its outcome never rejects. */
  saving: { step: number; hasFailed: boolean; outcome: Promise<{ path: string } | { error: unknown }> } | undefined;
  /** Why the log cannot be written any more. */
  logFailure: unknown;
  /** Events of steps whose losses are not known yet. */
  untold: Omit<StepEvent, 'loss' | 'inter' | 'intra'>[];
  /** The engine's description that was told last. */
  described: string;
  /** The last step that was told. */
  last: StepEvent | undefined;
}

/** What has to be closed again, whatever happens. */
export interface Open {
  engine?: NativeEngine;
  source?: NativeSource;
  validator?: Validator;
  log?: Log;
  saving?: Promise<unknown>;
}

/** Opens everything and loads the checkpoint or starts afresh; returns what to report first. */
export async function begin(
  config: TrainConfig,
  data: DataSet,
  lock: RunLock,
  open: Open,
  signal: AbortSignal | undefined,
): Promise<{ run: Run; events: TrainEvent[] }> {
  const warnings: string[] = [];
  const found = await findCheckpoint(config, warnings);
  const { split, sampler } = plan(config, data);
  const done = found?.step ?? 0;
  const steps = config.epochs * sampler.stepsPerEpoch;
  if (done > steps) {
    const epochs = Math.ceil(done / sampler.stepsPerEpoch);
    throw new ComFaceError(
      'INVALID_CONFIG',
      `Expected at least ${epochs} for \`epochs\`, for the run is at step ${done}, but received ${config.epochs}`,
      {
        hint: 'Ask for as many epochs as the run is to have in all, or choose another folder.',
      },
    );
  }
  const { engine, device, precision, fallback, info: environment } = await makeEngine(config, found?.info.choices);
  open.engine = engine;
  open.source = data.open(config.size, config.loaderThreads);
  await engine.reserve(open.source, config.pairs + sparesOf(config));
  const info = { ...environment, config, dataHash: data.hash, seed: config.seed, pictures: sampler.pictures };
  if (found) {
    // What was not repeatable once is not by going on otherwise.
    if (found.info.repeatable === kInAnyOrder) info.repeatable = kInAnyOrder;
    checkSame(found, info, warnings);
    await writeState(engine, found.weights, found.optimizer, precision === 'fp16');
  } else {
    await engine.initialize(BigInt(config.seed));
    await writeConfig(config);
  }
  let validated = 0;
  open.log = await openLog(config.out, {
    keepThroughStep: done,
    onKept: ({ type, step }) => {
      if (type === 'validation') validated = step as number;
    },
  });
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
  const validator = await Validator.create(config, data, split.validation, await readWeights(engine, done), signal);
  if (validator) open.validator = validator;
  return {
    run: {
      config,
      data,
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
      lock,
      saving: undefined,
      logFailure: undefined,
      untold: [],
      described: engine.description,
      last: undefined,
    },
    events: [...warnings.map((message): TrainEvent => ({ type: 'warning', message })), start],
  };
}

function plan(config: TrainConfig, data: DataSet) {
  const split = splitSubjects(data, config.validation, config.seed);
  const sampler = new PairSampler(data, split.training, { ...config, rangeAt: (epoch) => stageAt(config.curriculum, epoch).range });
  return { split, sampler };
}

/** What sets the last bits of a sum, as the manifest of a checkpoint states it. Libraries choose their blocks by instruction set, caches and threads. */
const setsBits = ['version', 'engine', 'cpu'] as const;
const kRepeatable =
  'The same seed gives the same bits, stopped or not and with any number of loader threads, where version, engine (library, instruction sets, ' +
  'precision, compute threads), cpu and choices are the same. Elsewhere the run goes on with a warning, and the last bits may differ.';

const kInAnyOrder = '`deterministic` is off: the last bits may differ each time, stopped or not.';

/** @param choices Of the run that is gone on with. */
async function makeEngine(config: TrainConfig, choices: unknown) {
  const { library, device, precision, reason: fallback } = chooseDevice(config.device, config.precision);
  if (config.gradientCache > 1 && device !== 'cuda') {
    throw new ComFaceError('INVALID_CONFIG', `Expected device cuda for \`gradientCache\` ${config.gradientCache} but received ${device}`, {
      hint: 'Leave it out, or ask for fewer pairs.',
    });
  }
  const embedding = embeddingWidth(config.backbone, config);
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
    deterministic: config.deterministic,
    parts: 3,
    choices: typeof choices === 'string' ? choices : '',
  });
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
      repeatable: config.deterministic || device !== 'cuda' ? kRepeatable : kInAnyOrder,
    },
  };
}

async function findCheckpoint(config: TrainConfig, warnings: string[]): Promise<CheckpointState | null> {
  const found = await latestCheckpoint(config.out, { onWarning: (text) => warnings.push(text) });
  if (!found) await refuseForeign(config.out);
  if (!found || config.resume) return found;
  throw new ComFaceError(
    'INVALID_CONFIG',
    `Expected a folder without a run for \`out\` but ${show(config.out)} holds one at step ${found.step}`,
    {
      hint: 'Go on with it by `resume: true` (--resume), or choose another folder.',
    },
  );
}

/** How the files begin that a new run writes over: an earlier run that saved nothing may have left them, torn at worst. */
const ownFiles: Record<string, (text: string) => boolean> = {
  'config.json': (text) => {
    try {
      return designOf(JSON.parse(text)) !== undefined;
    } catch {
      return false;
    }
  },
  'log.jsonl': (text) => /^(?:\{"type":"|\0|$)/.test(text),
};
const kOwnBytes = 1 << 16;

/** Keeps away from files of other programs that have our names. */
async function refuseForeign(out: string): Promise<void> {
  for (const [name, isOwn] of Object.entries(ownFiles)) {
    const path = join(out, name);
    const handle = await open(path).catch((cause) => {
      if (errorCode(cause) === 'ENOENT') return undefined;
      throw ioError('open', path, cause);
    });
    if (handle === undefined) continue;
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(kOwnBytes));
      if (isOwn(buffer.toString('utf8', 0, bytesRead))) continue;
    } catch (cause) {
      throw ioError('read', path, cause);
    } finally {
      await handle.close();
    }
    throw new ComFaceError('INVALID_CONFIG', `Expected a folder of its own for \`out\` but ${show(path)} is of something else`, {
      hint: 'Choose another folder; this run would write over that file.',
    });
  }
}

/** Whole or not at all. */
async function writeConfig(config: TrainConfig): Promise<void> {
  const files = explained(disk);
  const path = join(config.out, 'config.json');
  const temporary = `${path}.tmp-${process.pid}`;
  await files.writeFile(temporary, Buffer.from(`${JSON.stringify(config, null, 2)}\n`));
  await files.rename(temporary, path);
}

/** Options that may change between a run and its continuation without changing what is computed. */
const free = new Set([
  'out',
  'data',
  'resume',
  'epochs',
  'deterministic',
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
  if (before.device === info.device && before.choices !== info.choices) {
    warnings.push('The run began with other choices of convolutions than it goes on with: the last bits may differ.');
  }
  for (const name of setsBits) {
    if (before[name] === info[name]) continue;
    warnings.push(`The run began with ${name} ${show(before[name])} and goes on with ${show(info[name])}: the last bits may differ.`);
  }
}
