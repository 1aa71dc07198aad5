// The event log of a run, `log.jsonl`: one JSON object a line, appended in the order written. It never holds pixels or embeddings.
// Lines wait in memory only while the ones before them are being written, so that the file can be followed as it grows.
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ComFaceError, invalid } from '../errors.js';
import { LineReader } from '../lines.js';
import { disk, errorCode, explained, ioError } from './files.js';

/** Longer than any event: what a torn file may hold in one line. */
const kLineBytes = 1 << 20;
const lineEnd = Buffer.from('\n');

/** An open event log. */
export interface Log {
  /**
   * Adds one event as one line.
   *
   * @throws ComFaceError IO when an earlier line could not be written, INVALID_INPUT for what is no JSON or holds a typed array, DISPOSED after close().
   */
  write(event: object): void;
  /**
   * Writes what is left, brings it onto the disk and closes the file; further calls return the same promise.
   *
   * @throws ComFaceError IO when any line could not be written.
   */
  close(): Promise<void>;
}

/**
 * Opens `log.jsonl` of a run folder for appending, making both when missing. A line torn by a crash is removed.
 *
 * @param options.keepThroughStep On resume: the step of the checkpoint; lines with a later `step` are removed.
 * @param options.onKept Told of each line that stays.
 * @throws ComFaceError IO when the file cannot be read or written.
 */
export async function openLog(
  runDir: string,
  options: { keepThroughStep?: number; onKept?: (event: Record<string, unknown>) => void } = {},
): Promise<Log> {
  const path = join(runDir, 'log.jsonl');
  await explained(disk).mkdir(runDir);
  await cut(path, options.keepThroughStep ?? Number.POSITIVE_INFINITY, options.onKept);
  try {
    return new LogFile(path, await open(path, 'a'));
  } catch (cause) {
    throw ioError('open', path, cause);
  }
}

class LogFile implements Log {
  private readonly path: string;
  private readonly handle: FileHandle;
  private waiting: string[] = [];
  private writing: Promise<void> | undefined;
  private closing: Promise<void> | undefined;
  private failure: ComFaceError | undefined;

  constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.handle = handle;
  }

  write(event: object): void {
    if (this.closing !== undefined) throw new ComFaceError('DISPOSED', `Expected an open log but ${JSON.stringify(this.path)} is closed`);
    if (this.failure !== undefined) throw this.failure;
    this.waiting.push(toLine(event));
    this.writing ??= this.drain();
  }

  close(): Promise<void> {
    this.closing ??= this.finish();
    return this.closing;
  }

  /** Never rejects: nobody awaits it but finish(). */
  private async drain(): Promise<void> {
    try {
      while (this.waiting.length > 0) {
        const lines = this.waiting;
        this.waiting = [];
        await this.handle.appendFile(lines.join(''));
      }
    } catch (cause) {
      this.failure = ioError('write', this.path, cause);
    }
    this.writing = undefined;
  }

  private async finish(): Promise<void> {
    await this.writing;
    try {
      if (this.failure === undefined) await this.handle.sync();
    } catch (cause) {
      this.failure = ioError('write', this.path, cause);
    }
    try {
      await this.handle.close();
    } catch (cause) {
      this.failure ??= ioError('close', this.path, cause);
    }
    if (this.failure !== undefined) throw this.failure;
  }
}

function toLine(event: object): string {
  if (typeof event !== 'object' || event === null || Array.isArray(event)) throw invalid('event', 'an object', event);
  try {
    return `${JSON.stringify(event, refuseArrays)}\n`;
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    throw new ComFaceError('INVALID_INPUT', 'Expected JSON for `event` but received something else', {
      cause,
      hint: 'Write bigints as text.',
    });
  }
}

/** `this` and not `value`: a Buffer has turned itself into a list by then. */
function refuseArrays(this: Record<string, unknown>, key: string, value: unknown): unknown {
  if (!ArrayBuffer.isView(this[key])) return value;
  throw invalid(
    `event.${key}`,
    'no typed array',
    Object.prototype.toString.call(this[key]),
    'Log numbers about faces, never pixels or embeddings.',
  );
}

/** Rewrites the file without later and torn lines, by way of a second one so that a crash loses nothing. */
async function cut(path: string, lastStep: number, onKept?: (event: Record<string, unknown>) => void): Promise<void> {
  if (await isWhole(path, lastStep, onKept)) return;
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    const file = await open(temporary, 'w');
    try {
      const filter = new LogFilter(lastStep);
      for await (const piece of createReadStream(path, { highWaterMark: kLineBytes }) as AsyncIterable<Buffer>)
        await file.writeFile(filter.push(piece));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw ioError('write', temporary, cause);
  }
}

/** Whether nothing has to go, as on most starts; a log of a long run is only read then. */
async function isWhole(path: string, lastStep: number, onKept?: (event: Record<string, unknown>) => void): Promise<boolean> {
  const filter = new LogFilter(lastStep, onKept);
  try {
    for await (const piece of createReadStream(path, { highWaterMark: kLineBytes }) as AsyncIterable<Buffer>) filter.push(piece);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return true;
    throw ioError('read', path, cause);
  }
  return filter.isWhole;
}

/** Takes a log in pieces and leaves its whole lines up to a step. A log of days is longer than a string may be. */
export class LogFilter {
  readonly #lastStep: number;
  readonly #onKept: (event: Record<string, unknown>) => void;
  readonly #lines = new LineReader(kLineBytes);
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #dropped = false;

  /** @param onKept Told of each event that stays. */
  constructor(lastStep: number, onKept: (event: Record<string, unknown>) => void = () => {}) {
    this.#lastStep = lastStep;
    this.#onKept = onKept;
  }

  /** The lines that end in this piece and stay. */
  push(piece: Buffer): Buffer {
    const kept: Buffer[] = [];
    for (const line of this.#lines.push(piece)) {
      if (this.#isKept(line)) kept.push(line, lineEnd);
      else this.#dropped = true;
    }
    return Buffer.concat(kept);
  }

  /** Whether all that came has stayed. */
  get isWhole(): boolean {
    return !this.#dropped && this.#lines.rest.length === 0;
  }

  #isKept(line: Buffer): boolean {
    // An event is an object; what else a crash may leave is told from it without an exception a line.
    if (line.length > kLineBytes || line[0] !== 0x7b || line.at(-1) !== 0x7d) return false;
    try {
      const event = JSON.parse(this.#decoder.decode(line)) as Record<string, unknown>;
      if (typeof event.step === 'number' && event.step > this.#lastStep) return false;
      this.#onKept(event);
      return true;
    } catch {
      return false;
    }
  }
}
