// How the command line shows work under way: one line that is rewritten on a terminal, now and then a plain line elsewhere.
// Every text goes through `printable` here, at the last door: names in it may come from anywhere.
import type { WriteStream } from 'node:tty';
import { printable } from './errors.js';

const kPlainSeconds = 10;
const kColumns = 80;
/** A terminal shows a Ctrl+C as `^C` where the cursor is; in the last column it may have wrapped already. */
const kRoom = 3;

/** Seconds as a person says them: 42 s, 3 min 05 s, 2 h 10 min. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
}

/** So many of something in a second: 812 faces/s, 3.4 steps/s. */
export function rate(perSecond: number, what: string): string {
  return `${perSecond >= 10 ? perSecond.toFixed(0) : Number(perSecond.toPrecision(2))} ${what}/s`;
}

/** Writes progress to standard error, so that standard output holds results alone. */
export class Progress {
  readonly #stream: WriteStream;
  readonly #terminal: string | undefined;
  #shown = false;
  #lastPlain = Number.NEGATIVE_INFINITY;

  /** @param terminal What kind it is, as TERM says: a `dumb` one cannot rewrite a line. */
  constructor(stream: WriteStream = process.stderr as WriteStream, terminal: string | undefined = process.env.TERM) {
    this.#stream = stream;
    this.#terminal = terminal;
  }

  /** Replaces the progress line; elsewhere than on a terminal prints one every 10 seconds, and the last (`done`). */
  update(text: string, done = false): void {
    if (this.#isLive()) {
      // Cut, not wrapped: only one line can be rewritten.
      const line = printable(text).slice(0, Math.max(1, (this.#stream.columns || kColumns) - kRoom));
      this.#stream.write(`\r\x1b[2K${line}${done ? '\n' : ''}`);
      this.#shown = !done;
      return;
    }
    const now = performance.now() / 1000;
    if (!done && now - this.#lastPlain < kPlainSeconds) return;
    this.#lastPlain = now;
    this.#stream.write(`${printable(text)}\n`);
  }

  #isLive(): boolean {
    return this.#stream.isTTY && this.#terminal !== 'dumb';
  }

  /** Takes away what is on the line of a terminal: the `^C` of a Ctrl+C, too. */
  clear(): void {
    if (this.#isLive()) this.#stream.write('\r\x1b[2K');
    this.#shown = false;
  }

  /** Takes the progress line away and prints lines that stay; none: the next text, whoever prints it, begins at the left. */
  note(...lines: string[]): void {
    if (this.#shown) this.clear();
    for (const line of lines) this.#stream.write(`${printable(line)}\n`);
  }
}
