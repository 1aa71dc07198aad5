// How the command line shows work under way: one line that is rewritten on a terminal, now and then a plain line elsewhere.
// Every text goes through `printable` here, at the last door: names in it may come from anywhere.
import type { WriteStream } from 'node:tty';
import { printable } from './errors.js';

const kPlainSeconds = 10;

/** Seconds as a person says them: 42 s, 3 min 05 s, 2 h 10 min. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
}

/** Writes progress to standard error, so that standard output holds results alone. */
export class Progress {
  readonly #stream: WriteStream;
  #shown = false;
  #lastPlain = Number.NEGATIVE_INFINITY;

  constructor(stream: WriteStream = process.stderr as WriteStream) {
    this.#stream = stream;
  }

  /** Replaces the progress line; elsewhere than on a terminal prints one every 10 seconds, and the last (`done`). */
  update(text: string, done = false): void {
    if (this.#stream.isTTY) {
      const line = printable(text).slice(0, Math.max(10, (this.#stream.columns || 80) - 1));
      this.#stream.write(`\r\x1b[2K${line}${done ? '\n' : ''}`);
      this.#shown = !done;
      return;
    }
    const now = performance.now() / 1000;
    if (!done && now - this.#lastPlain < kPlainSeconds) return;
    this.#lastPlain = now;
    this.#stream.write(`${printable(text)}\n`);
  }

  /** Prints lines that stay. */
  note(...lines: string[]): void {
    if (this.#shown) this.#stream.write('\r\x1b[2K');
    this.#shown = false;
    for (const line of lines) this.#stream.write(`${printable(line)}\n`);
  }
}
