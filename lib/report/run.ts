// What the folder of a training run says about it: config.json and log.jsonl, both of which may come from anywhere.
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { designOf } from '../config.js';
import { ComFaceError, messageOf } from '../errors.js';
import { LogFilter } from '../train/log.js';
import type { Curves } from './parts.js';

/** A training run. */
export interface RunFacts {
  config: Record<string, unknown>;
  curves: Curves;
  /** Steps it was to take; NaN when not told. */
  steps: number;
  validations: { epoch: number; mae: number; correlation: number; pairs: number }[];
  /** Pictures that could not be used. */
  broken: { file: string; reason: string }[];
  warnings: string[];
  /** Pictures, subjects, device and the like, of the last start. */
  start: Record<string, unknown>;
  /** Seconds of the part that ended the run; undefined when it has not ended. */
  seconds: number | undefined;
  /** A process holds its lock, or was killed with it. */
  isLocked: boolean;
}

const kConfigName = 'config.json';
const kLogName = 'log.jsonl';
const kMostConfigBytes = 2 ** 20;
/** Texts that are kept of each kind. */
const kMostTexts = 1000;

/** The run folder that a model was taken from: it, or that of one of its checkpoints. */
export function runFolderOf(folder: string): string | undefined {
  const parent = dirname(folder);
  const places = basename(parent) === 'checkpoints' ? [folder, dirname(parent)] : [folder];
  return places.find((place) => existsSync(join(place, kConfigName)) && existsSync(join(place, kLogName)));
}

/**
 * Reads a run, also one that is under way.
 *
 * @throws ComFaceError INVALID_INPUT for a run that has not logged a step, CORRUPT_FILE for a config.json that is none, IO.
 */
export async function readRun(folder: string): Promise<RunFacts> {
  const config = readConfig(join(folder, kConfigName));
  const events = new Events();
  const filter = new LogFilter(Number.POSITIVE_INFINITY, (event) => events.take(event));
  const path = join(folder, kLogName);
  try {
    for await (const piece of createReadStream(path) as AsyncIterable<Buffer>) filter.push(piece);
  } catch (cause) {
    throw new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint: 'Name the folder of a run.', cause });
  }
  if (events.step.length === 0) {
    throw new ComFaceError('INVALID_INPUT', `Expected a run with steps in ${folder} but its log has none`, {
      hint: 'Wait until it has done one, or go on with it: comface train --resume',
    });
  }
  const { step, inter, intra, stages, total, ...rest } = events;
  const pairs = numberIn(config, 'pairs');
  const curves: Curves = { step, inter, intra, stages, chanceInter: Math.log(2 * pairs - 1) };
  return { ...rest, config, curves, steps: total, isLocked: existsSync(join(folder, 'run.lock')) };
}

function readConfig(path: string): Record<string, unknown> {
  let config: unknown;
  try {
    if (statSync(path).size <= kMostConfigBytes) config = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall !== undefined)
      throw new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint: 'Name the folder of a run.', cause });
  }
  if (designOf(config) !== undefined) return config as Record<string, unknown>;
  throw new ComFaceError('CORRUPT_FILE', `${path}: expected the options of a training run`, {
    hint: 'It was damaged after the run wrote it: bring back a copy.',
  });
}

/** The number of a field; NaN where there is none, as JSON writes null for NaN. */
function numberIn(event: Record<string, unknown>, key: string): number {
  const value = event[key];
  return typeof value === 'number' ? value : Number.NaN;
}

const textIn = (event: Record<string, unknown>, key: string): string => (typeof event[key] === 'string' ? event[key] : '');

/** Collects what a page shows. */
class Events {
  readonly step: number[] = [];
  readonly inter: number[] = [];
  readonly intra: number[] = [];
  readonly stages: { fromStep: number; range: number }[] = [];
  readonly validations: RunFacts['validations'] = [];
  readonly broken: RunFacts['broken'] = [];
  readonly warnings: string[] = [];
  start: Record<string, unknown> = {};
  seconds: number | undefined;
  total = Number.NaN;

  take(event: Record<string, unknown>): void {
    const number = (key: string) => numberIn(event, key);
    if (event.type === 'start') {
      this.start = event;
      this.total = number('steps');
      this.seconds = undefined; // it went on after an end
    } else if (event.type === 'step' && number('step') > (this.step.at(-1) ?? 0)) {
      this.step.push(number('step'));
      this.inter.push(number('inter'));
      this.intra.push(number('intra'));
    } else if (event.type === 'stage') {
      const stage = { fromStep: number('step'), range: number('range') };
      if (this.stages.at(-1)?.range !== stage.range) this.stages.push(stage); // told again when a run goes on
    } else if (event.type === 'validation') {
      const [epoch, mae, correlation, pairs] = ['epoch', 'mae', 'correlation', 'pairs'].map(number) as [number, number, number, number];
      this.validations.push({ epoch, mae, correlation, pairs });
    } else if (event.type === 'broken' && this.broken.length < kMostTexts) {
      this.broken.push({ file: textIn(event, 'file'), reason: textIn(event, 'reason') });
    } else if (event.type === 'warning' && this.warnings.length < kMostTexts) this.warnings.push(textIn(event, 'message'));
    else if (event.type === 'end') this.seconds = number('seconds');
  }
}
