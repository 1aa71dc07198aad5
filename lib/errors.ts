// The one error class of the package. Codes are part of the API; their order is shared with native/core.h.

/**
 * What went wrong, as a stable word to branch on.
 *
 * @remarks
 * | code | what it means | what helps |
 * | --- | --- | --- |
 * | `INVALID_CONFIG` | an option of a training run, or a line of a YAML file, is not as it should be | the hint |
 * | `INVALID_INPUT` | another argument is not as it should be, or data cannot be used for what is asked | the hint |
 * | `CORRUPT_FILE` | a file is damaged, or not what its name says | make or fetch it again; the message names it |
 * | `DEVICE_UNAVAILABLE` | what is asked for does not run on this machine | `comface doctor`, another `device` |
 * | `DEVICE_FAILED` | the device failed while it computed | go on from the last checkpoint |
 * | `OUT_OF_MEMORY` | the network does not fit | fewer `pairs`, a smaller `size`, `gradientCache` |
 * | `NOT_FINITE` | a loss or a weight is infinite or not a number | a lower `learningRate`, `precision: 'fp32'` |
 * | `BUSY` | another process, or another call, uses the folder or the engine | wait, or choose another folder |
 * | `DISPOSED` | what is called was disposed of | load it again |
 * | `IO` | a file cannot be read or written, or the disk is full | look at `cause`, free space, permissions |
 */
export type ErrorCode =
  | 'INVALID_CONFIG'
  | 'INVALID_INPUT'
  | 'CORRUPT_FILE'
  | 'DEVICE_UNAVAILABLE'
  | 'DEVICE_FAILED'
  | 'OUT_OF_MEMORY'
  | 'NOT_FINITE'
  | 'BUSY'
  | 'DISPOSED'
  | 'IO';

/**
 * Every error that comface throws or rejects with; an aborted call rejects with `signal.reason` instead. Its texts are safe to print: control characters
 * in names are shown as JavaScript writes them.
 *
 * @example
 * ```ts
 * import { ComFaceError, loadModel } from 'comface';
 *
 * try {
 *   await loadModel('run');
 * } catch (error) {
 *   if (!(error instanceof ComFaceError)) throw error;
 *   console.error(`${error.code}: ${error.message}\n${error.hint ?? ''}`);
 * }
 * ```
 */
export class ComFaceError extends Error {
  override readonly name = 'ComFaceError';
  /** What went wrong, as a stable word. */
  readonly code: ErrorCode;
  /** A thing to do about it; undefined where there is none to name. */
  readonly hint: string | undefined;

  /**
   * Makes an error, as the package does; for tests of programs that handle them.
   *
   * @param code What went wrong.
   * @param message A sentence about it.
   * @param options.hint A thing to do about it.
   * @param options.cause What it came from.
   */
  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    const { hint, cause } = options ?? {};
    super(printable(typeof message === 'string' ? message : show(message)), cause === undefined ? undefined : { cause });
    this.code = code;
    this.hint = typeof hint === 'string' ? printable(hint) : undefined;
  }
}

/** Control characters, line ends, and marks that turn the direction of what follows: a name that holds them could move the cursor or look like another. */
const unprintable = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
const escapes: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A text as it may stand on a terminal or in a page, on one line: what would act there is shown as JavaScript writes it. */
export function printable(text: string): string {
  return text.replace(unprintable, (c) => escapes[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** What an error says, whatever was thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Expected <rule> for `<name>` but received <value>. */
export function invalid(name: string, rule: string, value: unknown, hint?: string): ComFaceError {
  return new ComFaceError(
    'INVALID_INPUT',
    `Expected ${rule} for \`${name}\` but received ${show(value)}`,
    hint === undefined ? {} : { hint },
  );
}

/** A value as it may stand in a message: short, on one line. Never throws, whatever the value's own code does. */
export function show(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : isObject(value) ? describe(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function isObject(value: unknown): value is object {
  return typeof value === 'function' || (typeof value === 'object' && value !== null);
}

/** Without trust: even to turn it into a text may throw. */
function describe(value: object): string {
  if (typeof value === 'function') return 'a function';
  try {
    // A list may claim any length and a buffer may be large: their beginning is enough.
    if (ArrayBuffer.isView(value)) return Object.prototype.toString.call(value);
    return JSON.stringify(Array.isArray(value) ? value.slice(0, 40) : value) ?? Object.prototype.toString.call(value);
  } catch {
    return 'an object'; // its own code threw, and might again
  }
}

/** Bytes as people say them: 54.5 kB, 3.18 GB. */
export function sizeText(bytes: number): string {
  const thousands = Math.min(4, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${Number((bytes / 1000 ** thousands).toPrecision(3))} ${['bytes', 'kB', 'MB', 'GB', 'TB'][thousands]}`;
}

/** As in `1 picture`, `2 pictures`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** The first names of a list, and how many more there are; `none` for none. */
export const someOf = (names: readonly string[], most: number): string =>
  names.slice(0, most).join(', ') + (names.length > most ? ` and ${names.length - most} more` : '') || 'none';
