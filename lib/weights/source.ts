// Where the bytes of a weights file come from: the disk, read as far as somebody asks, or memory. Nothing is ever read past the known size.
import { constants, fstatSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ComFaceError, messageOf, show } from '../errors.js';

/** Bytes that one call of the system reads at most. */
const kMostRead = 2 ** 30;

/** Bytes at places. */
export interface ByteSource {
  /** What messages call it: its path. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Fills `into` with the bytes from `at` on. @throws ComFaceError CORRUPT_FILE past the end, IO. */
  read(at: number, into: Uint8Array): Promise<void>;
  /** Does some work that reads often: a file is opened once for all of it. */
  during<T>(work: () => Promise<T>): Promise<T>;
}

/** The error for a file whose bytes are not what its format asks for. */
export function corrupt(name: string, rule: string, at: number, found: string): ComFaceError {
  return new ComFaceError('CORRUPT_FILE', `${name}: expected ${rule} at byte ${at} but found ${found}`, {
    hint: 'Copy or download the file again: it is incomplete or damaged.',
  });
}

/** The error for a sound file that holds what is not read here. */
export function unread(name: string, rule: string, at: number, found: string, hint: string): ComFaceError {
  return new ComFaceError('INVALID_INPUT', `${name}: expected ${rule} at byte ${at} but found ${found}`, { hint });
}

/** A byte as a message shows it. */
export function byteText(byte: number | undefined): string {
  if (byte === undefined) return 'the end';
  return byte > 0x20 && byte < 0x7f ? `\`${String.fromCharCode(byte)}\`` : `0x${byte.toString(16).padStart(2, '0')}`;
}

/** Fresh bytes of a source; the place is held against its size before they are allocated. */
export async function readBytes(source: ByteSource, at: number, length: number): Promise<Uint8Array> {
  checkRange(source, at, length);
  if (source instanceof MemorySource) return source.bytes.subarray(at, at + length);
  const bytes = allocated(source.name, length, (count) => new Uint8Array(count));
  await source.read(at, bytes);
  return bytes;
}

/** An array of so many numbers. @throws ComFaceError OUT_OF_MEMORY. */
export function allocated<T>(name: string, count: number, make: (count: number) => T): T {
  try {
    return make(count);
  } catch (cause) {
    throw new ComFaceError('OUT_OF_MEMORY', `${name}: there is no memory for ${count} numbers`, { hint: 'Close other programs.', cause });
  }
}

function checkRange({ name, size }: ByteSource, at: number, length: number): void {
  if (!(at >= 0 && length >= 0 && at + length <= size)) throw corrupt(name, `${length} bytes`, at, `${size} bytes in all`);
}

/** Bytes in memory; reading whole ranges of it with {@link readBytes} copies nothing. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array, name: string) {
    this.bytes = bytes;
    this.name = name;
    this.size = bytes.length;
  }

  async read(at: number, into: Uint8Array): Promise<void> {
    checkRange(this, at, into.length);
    into.set(this.bytes.subarray(at, at + into.length));
  }

  during<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }
}

/** What tells one state of a file from another. */
interface Mark {
  size: number;
  ino: number;
  mtimeMs: number;
}

/**
 * A file on the disk. It is open only while somebody reads, all at once through one handle, so there is nothing to close; a file that has changed
 * since the first look is an error.
 */
export class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #mark: Mark;
  #handle: Promise<FileHandle> | undefined;
  #readers = 0;

  /** @throws ComFaceError IO when it cannot be looked at, INVALID_INPUT when it is no file. */
  constructor(path: string) {
    this.name = path;
    this.#mark = explain(path, () => {
      const state = statSync(path); // not its promise: Node 20 aborts when a worker thread is terminated in the middle of one
      if (state.isFile()) return state;
      throw new ComFaceError('INVALID_INPUT', `Expected a weights file but received ${show(path)}, ${whatIs(state)}`, {
        hint: 'Name the file itself, such as resnet50.pth or model.safetensors.',
      });
    });
    this.size = this.#mark.size;
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#readers++;
    try {
      return await work();
    } finally {
      if (--this.#readers === 0) await this.#close();
    }
  }

  async read(at: number, into: Uint8Array): Promise<void> {
    checkRange(this, at, into.length);
    await this.during(async () => {
      const handle = await this.#open();
      for (let done = 0; done < into.length; ) {
        const { bytesRead } = await handle.read(into, done, Math.min(kMostRead, into.length - done), at + done).catch((cause) => {
          throw ioError(this.name, cause);
        });
        if (bytesRead === 0) throw corrupt(this.name, `${into.length} bytes`, at, `the end after ${done}`);
        done += bytesRead;
      }
    });
  }

  #open(): Promise<FileHandle> {
    this.#handle ??= this.#openUnchanged();
    return this.#handle;
  }

  async #openUnchanged(): Promise<FileHandle> {
    const handle = await open(this.name, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause) => {
      throw ioError(this.name, cause);
    });
    const now = fstatSync(handle.fd);
    const { size, ino, mtimeMs } = this.#mark;
    if (now.size === size && now.ino === ino && now.mtimeMs === mtimeMs) return handle;
    await handle.close();
    throw new ComFaceError('IO', `${this.name} has changed since it was first read`, { hint: 'Read it again from the beginning.' });
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.then(
      (opened) => opened.close(),
      () => undefined, // whoever asked for it has the error
    );
  }
}

const whatIs = (state: { isDirectory(): boolean }): string => (state.isDirectory() ? 'a folder' : 'which is neither file nor folder');

function explain<T>(path: string, look: () => T): T {
  try {
    return look();
  } catch (cause) {
    throw cause instanceof ComFaceError ? cause : ioError(path, cause);
  }
}

function ioError(path: string, cause: unknown): ComFaceError {
  const isMissing = (cause as NodeJS.ErrnoException | null)?.code === 'ENOENT';
  return new ComFaceError('IO', `Cannot read ${path}: ${isMissing ? 'there is no such file' : messageOf(cause)}`, {
    hint: isMissing ? 'Check the path.' : 'Check its permissions and the disk.',
    cause,
  });
}
