// What all commands have in common: progress and notes on standard error, results on standard output, signals.
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { relative } from 'node:path';
import type { DiskSizes } from '../data/makeset.js';
import { ComFaceError, invalid, printable, sizeText } from '../errors.js';
import { duration, Progress } from '../progress.js';

export const progress = new Progress();

const kSameSignalMs = 300;
/** Lines of a list that may be long. */
export const kShown = 10;

/** Aborted by the first Ctrl+C, SIGTERM or closed terminal (SIGHUP); the second leaves at once, and so does the first while nothing is under way. */
export class Stopped extends Error {}

/** Whether there is something to save or to finish. */
let isUnderWay = false;
export const beginWork = (): void => {
  isUnderWay = true;
};

/** As if nobody had caught it: process.exit() alone waits for file calls, and on a dead network disk they never end. */
function endBy(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  process.exit(128 + constants.signals[signal]); // the first process of a container outlives its own signal
}

export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let firstAt = 0;
  const stop = (signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP') => {
    if (!isUnderWay) {
      progress.note('Stopped before there was anything to save.');
      return endBy(signal);
    }
    if (controller.signal.aborted) {
      // npm passes a Ctrl+C on to us that the terminal has sent us as well: those two are one.
      if (performance.now() - firstAt < kSameSignalMs) return;
      return endBy(signal);
    }
    firstAt = performance.now();
    progress.note('Stopping after this step; once more to stop at once.');
    controller.abort(new Stopped());
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  return controller.signal;
}

/** What is no number stays text, for the library to refuse by name. */
export const number = (text: string): number =>
  text.trim() === '' || Number.isNaN(Number(text)) ? (text as unknown as number) : Number(text);
export const list = (text: string): string[] => text.split(',').map((item) => item.trim());
export const path = (file: string): string => relative(process.cwd(), file) || '.';
/** Results, line by line; a name in them is shown as in messages. */
export const print = (...lines: string[]): void => console.log(lines.map(printable).join('\n'));

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

export function showCount(done: number, total: number, what: string, secondsLeft: number): void {
  progress.update(`  ${done} of ${total} ${what}, ${duration(secondsLeft)} left`, done === total);
}

export async function writeResult(file: string, bytes: Uint8Array, isSaid = true): Promise<void> {
  await writeFile(file, bytes).catch((cause) => {
    throw new ComFaceError('IO', `Cannot write ${file}: ${cause.message}`, { hint: 'Check the folder and its permissions.', cause });
  });
  if (isSaid) print(path(file));
}

export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
