// Looking into folders that people bring. No promises: Node 20 aborts when a worker thread is terminated while one looks at a file.
import { closeSync, constants, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { ComFaceError, invalid, messageOf } from '../errors.js';

/** How names of pictures end that can be read. */
export const pictureSuffixes: ReadonlySet<string> = new Set(
  ['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif', '.heic', '.heif'], //
);

/** What is wrong with the name of a picture by its end. */
export function suffixFault(name: string): string | undefined {
  if (pictureSuffixes.has(extname(name).toLowerCase())) return undefined;
  return `its name does not end like that of a picture (${[...pictureSuffixes].join(' ')})`;
}

/** A name without what it ends in. */
export const stemOf = (name: string): string => basename(name, extname(name));

/** Whether there is a folder; false where that cannot be told. */
export function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** The names in a folder, in their order, but for hidden ones. @throws ComFaceError IO. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => !name.startsWith('.'))
      .sort();
  } catch (cause) {
    throw new ComFaceError('IO', `Cannot read the folder ${folder}: ${messageOf(cause)}`, { hint: 'Check its permissions.', cause });
  }
}

/** The one folder in another whose name matches, if there is one. @throws ComFaceError INVALID_INPUT for several, IO. */
export function folderIn(folder: string, pattern: RegExp): string | undefined {
  const found = namesIn(folder).filter((name) => pattern.test(name) && isFolder(join(folder, name)));
  if (found.length > 1)
    throw invalid('from', `one folder like ${found[0]} in ${folder}`, found.join(' and '), 'Move the other one elsewhere.');
  return found[0] === undefined ? undefined : join(folder, found[0]);
}

/** The bytes of a small file, or why there are none. @param most Bytes. */
export function readSmall(file: string, most: number): Buffer | string {
  let handle: number | undefined;
  try {
    const state = statSync(file);
    if (!state.isFile()) return 'it is not a file';
    if (state.size > most) return `expected at most ${most} bytes but the file has ${state.size}`;
    handle = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK); // it may be a pipe by now
    const bytes = Buffer.alloc(state.size);
    let count = 0;
    for (let read = -1; read !== 0 && count < bytes.length; count += read)
      read = readSync(handle, bytes, count, bytes.length - count, null);
    return bytes.subarray(0, count);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? 'there is no such file' : messageOf(error);
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}
