// The file calls that checkpoints are made of, as an interface so that tests can put a simulated disk or a failing one in their place.
import { open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { ComFaceError, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';

/** A disk, as far as checkpoints need one. Each call rejects with a Node error (`code`, `syscall`). */
export interface FileSystem {
  /** Makes a folder and its parents; resolves with the topmost one that was missing. */
  mkdir(path: string): Promise<string | undefined>;
  /** Creates or replaces a file; its bytes are on the disk when this resolves, its name may not be. */
  writeFile(path: string, bytes: Uint8Array): Promise<void>;
  /** Brings the names in a folder onto the disk. */
  syncDirectory(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  readdir(path: string): Promise<string[]>;
  readFile(path: string): Promise<Uint8Array>;
  /** Removes a file or a folder with all it holds; nothing there is fine. */
  rm(path: string): Promise<void>;
}

/** The calls of node:fs/promises that a disk is made of; the simulated one takes their place, so that its tests see every fsync. */
export interface FileCalls {
  mkdir(path: string, options: { recursive: true }): Promise<string | undefined>;
  open(
    path: string,
    flags: 'r' | 'w',
  ): Promise<{ writeFile(bytes: Uint8Array): Promise<void>; sync(): Promise<void>; close(): Promise<void> }>;
  rename(from: string, to: string): Promise<void>;
  readdir(path: string): Promise<string[]>;
  readFile(path: string): Promise<Uint8Array>;
  rm(path: string, options: { recursive: true; force: true }): Promise<void>;
}

/** A disk on these calls. */
export function diskOn(calls: FileCalls): FileSystem {
  return {
    mkdir: (path) => calls.mkdir(path, { recursive: true }),
    async writeFile(path, bytes) {
      const handle = await calls.open(path, 'w');
      await closing(handle, async () => {
        await handle.writeFile(bytes);
        await handle.sync();
      });
    },
    async syncDirectory(path) {
      const handle = await calls.open(path, 'r');
      await closing(handle, () => handle.sync());
    },
    rename: (from, to) => calls.rename(from, to),
    readdir: (path) => calls.readdir(path),
    readFile: (path) => calls.readFile(path),
    rm: (path) => calls.rm(path, { recursive: true, force: true }),
  };
}

/** Closes what was opened for `work`; of two errors the first is told. */
async function closing(handle: { close(): Promise<void> }, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    await handle.close().catch(() => {});
    throw error;
  }
  await handle.close();
}

/** The disk of this machine. */
export const disk: FileSystem = diskOn({ mkdir: makeFolder, open, rename, readdir, readFile, rm });

/** The same disk, rejecting with ComFaceError IO that names the path, the cause and a thing to do. */
export function explained(files: FileSystem): FileSystem {
  const attempt = async <T>(verb: string, path: string, call: Promise<T>): Promise<T> => {
    try {
      return await call;
    } catch (cause) {
      throw ioError(verb, path, cause);
    }
  };
  return {
    mkdir: (path) => attempt('make the folder', path, files.mkdir(path)),
    writeFile: (path, bytes) => attempt('write', path, files.writeFile(path, bytes)),
    syncDirectory: (path) => attempt('flush the folder', path, files.syncDirectory(path)),
    rename: (from, to) => attempt('rename', from, files.rename(from, to)),
    readdir: (path) => attempt('list', path, files.readdir(path)),
    readFile: (path) => attempt('read', path, files.readFile(path)),
    rm: (path) => attempt('remove', path, files.rm(path)),
  };
}

const hints: Record<string, string> = {
  EEXIST: 'A file is where a folder has to be: move it away, or choose another folder.',
  ENOTDIR: 'A file is where a folder has to be: move it away, or choose another folder.',
  EISDIR: 'A folder is where a file has to be: move it away, or choose another folder.',
  ENOSPC: 'Free some space on that disk, or write to another one.',
  EDQUOT: 'Free some of your disk quota, or write to another disk.',
  EACCES: 'Give yourself permission for that path, or choose another folder.',
  EPERM: 'Give yourself permission for that path, or choose another folder.',
  EROFS: 'Choose a folder on a disk that can be written to.',
  EMFILE: 'Raise the limit of open files (ulimit -n), then run again.',
  ENFILE: 'Close other programs or raise the limit of open files of the machine, then run again.',
  EIO: 'Check the disk (dmesg, smartctl): it reports a fault. Write to another one meanwhile.',
};

/** ComFaceError IO from a Node error. */
export function ioError(verb: string, path: string, cause: unknown): ComFaceError {
  const reason = messageOf(cause);
  const hint = hints[errorCode(cause) ?? ''] ?? 'Check that the path exists and can be read and written.';
  return new ComFaceError('IO', `Could not ${verb} ${JSON.stringify(path)}: ${reason}`, { cause, hint });
}

/** `ENOENT` and the like, of a Node error or of the ComFaceError around it. */
export function errorCode(error: unknown): string | undefined {
  if (error instanceof ComFaceError) return errorCode(error.cause);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : undefined;
}
