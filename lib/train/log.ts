// The event log of a run, `log.jsonl`: one JSON object a line, appended in the order written. It never holds pixels or embeddings.
// Lines wait in memory only while the ones before them are being written, so that the file can be followed as it grows.
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ComFaceError, invalid } from '../errors.js';
import { disk, errorCode, explained, ioError } from './files.js';

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
async function cut(path: string, lastStep: number, onKept: (event: Record<string, unknown>) => void = () => {}): Promise<void> {
  const files = explained(disk);
  let text: string;
  try {
    text = new TextDecoder().decode(await files.readFile(path));
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  const kept = text
    .split('\n')
    .slice(0, -1)
    .filter((line) => {
      const event = parsed(line);
      if (!event || (typeof event.step === 'number' && event.step > lastStep)) return false;
      onKept(event);
      return true;
    })
    .map((line) => `${line}\n`)
    .join('');
  if (kept === text) return;
  const temporary = `${path}.tmp-${process.pid}`;
  await files.writeFile(temporary, new TextEncoder().encode(kept));
  await files.rename(temporary, path);
}

/** Undefined for a line that a crash has torn. */
function parsed(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
