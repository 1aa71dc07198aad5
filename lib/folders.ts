// Making folders. Node's own recursive mkdir never ends where a folder can be looked at but not made, as in /proc.
import { statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/**
 * Makes a folder and its parents.
 *
 * @returns The topmost one that was missing, or undefined when all were there.
 * @throws The Node error of the first that cannot be made.
 */
export async function makeFolder(folder: string): Promise<string | undefined> {
  const path = resolve(folder);
  const cause = await attempt(path);
  if (cause === undefined) return path;
  if (isFolder(path)) return undefined;
  if (cause.code !== 'ENOENT' || path === dirname(path)) throw cause;
  const topmost = await makeFolder(dirname(path));
  const again = await attempt(path);
  if (again !== undefined && !isFolder(path)) throw again; // else somebody else has just made it
  return topmost ?? path;
}

const attempt = (path: string): Promise<NodeJS.ErrnoException | undefined> =>
  mkdir(path).then(
    () => undefined,
    (cause: NodeJS.ErrnoException) => cause,
  );

/** Not the promise of stat(): Node 20 aborts when a worker thread is terminated in the middle of one. */
const isFolder = (path: string): boolean => {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
};
