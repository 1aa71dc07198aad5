// What all commands have in common: progress, notes and errors on standard error, results on standard output, signals.
// With --json the result and the error are JSON; commands give both here and need not know.
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { relative } from 'node:path';
import type { DiskSizes } from '../data/makeset.js';
import { ComFaceError, invalid, printable, sizeText } from '../errors.js';
import { duration, Progress, rate } from '../progress.js';
import { jsonLine, jsonText } from './json.js';

export const progress = new Progress();
// Whatever ends the process, the prompt that follows begins at the left.
process.once('exit', () => progress.note());

/** From the words themselves: a command line that cannot be read is answered in JSON, too. */
export const isJson = process.argv.slice(2, process.argv.includes('--') ? process.argv.indexOf('--') : undefined).includes('--json');

/** Prints the result of a command, once and last. @param lines The same for people. */
export function printResult(value: object, ...lines: string[]): void {
  progress.note();
  console.log(isJson ? jsonText(value) : lines.map(printable).join('\n'));
}

/** Says why a command ends. @param lines For people, where that is more than the message. */
export function showError(error: { code: string; message: string; hint?: string | undefined }, ...lines: string[]): void {
  const { code, message, hint } = error;
  if (isJson) progress.note(jsonLine({ error: { code, message, hint: hint ?? null } }));
  else progress.note(...(lines.length > 0 ? lines : [message, ...(hint === undefined ? [] : [`  ${hint}`])]));
}

const kSameSignalMs = 300;
/** Lines of a list that may be long. */
export const kShown = 10;

type StopSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

/** Aborted by the first Ctrl+C, SIGTERM or closed terminal (SIGHUP); the second leaves at once, and so does the first while nothing is under way. */
export class Stopped extends Error {
  readonly signal: StopSignal;

  constructor(signal: StopSignal) {
    super(`Stopped by ${signal}`);
    this.signal = signal;
  }
}

/** Whether there is something to save or to finish. */
let isUnderWay = false;
export const beginWork = (): void => {
  isUnderWay = true;
};

/**
 * As if nobody had caught it: a shell stops a script whose command died of Ctrl+C, and goes on after any exit code. process.exit() alone waits for
 * file calls, too, and on a dead network disk they never end.
 */
export function endBy(signal: NodeJS.Signals): void {
  progress.note();
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  process.exit(128 + constants.signals[signal]); // the first process of a container outlives its own signal
}

export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let firstAt = 0;
  const stop = (signal: StopSignal) => {
    progress.clear();
    if (!isUnderWay) {
      showStopped('Stopped before there was anything to save.');
      return endBy(signal);
    }
    if (controller.signal.aborted) {
      // npm passes a Ctrl+C on to us that the terminal has sent us as well: those two are one.
      if (performance.now() - firstAt < kSameSignalMs) return;
      return endBy(signal);
    }
    firstAt = performance.now();
    progress.note('Stopping after this step; once more to stop at once.');
    controller.abort(new Stopped(signal));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  return controller.signal;
}

export const showStopped = (message: string, hint?: string): void =>
  showError({ code: 'STOPPED', message, hint }, [message, hint].filter(Boolean).join(' '));

/** What is no number stays text, for the library to refuse by name. */
export const number = (text: string): number =>
  text.trim() === '' || Number.isNaN(Number(text)) ? (text as unknown as number) : Number(text);
export const list = (text: string): string[] => text.split(',').map((item) => item.trim());
export const path = (file: string): string => relative(process.cwd(), file) || '.';

export function wrapped(text: string): string {
  return text.replace(/(.{1,78})(?: |$)/g, '$1\n').trimEnd();
}

/** The name of a file to write. */
export function checkName(option: string, file: string, ending: '.png' | '.html'): void {
  const kind = ending.slice(1).toUpperCase();
  if (!file.toLowerCase().endsWith(ending)) throw invalid(option, `a name that ends in ${ending}`, file, `Name a file of ${kind}.`);
}

export function showDisk({ neededBytes, freeBytes }: DiskSizes): void {
  progress.note(`About ${sizeText(neededBytes)} to write; ${sizeText(freeBytes)} are free there.`);
}

let counting = { total: 0, what: '', speed: '' };

export function showCount(done: number, total: number, what: string, secondsLeft: number): void {
  if (counting.total !== total || counting.what !== what) counting = { total, what, speed: '' };
  const perSecond = (total - done) / secondsLeft;
  if (Number.isFinite(perSecond) && perSecond > 0) counting.speed = `, ${rate(perSecond, what)}`;
  const left = done < total ? `, ${duration(secondsLeft)} left` : '';
  progress.update(`  ${done} of ${total} ${what}${left}${counting.speed}`, done === total);
}

export async function writeResult(file: string, bytes: Uint8Array): Promise<void> {
  await writeFile(file, bytes).catch((cause) => {
    throw new ComFaceError('IO', `Cannot write ${file}: ${cause.message}`, { hint: 'Check the folder and its permissions.', cause });
  });
}
