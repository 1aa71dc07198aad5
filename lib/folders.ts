// Making folders. Node's own recursive mkdir never ends where a folder can be looked at but not made, as in /proc.
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/**
 * Makes a folder and its parents.
 *
 * @returns The topmost one that was missing, or undefined when all were there.
 * @throws The Node error of the first that cannot be made.
 */
export async function makeFolder(folder: string): Promise<string | undefined> {
  const path = resolve(folder);
  if (await isFolder(path)) return undefined;
  const topmost = path === dirname(path) ? undefined : await makeFolder(dirname(path));
  try {
    await mkdir(path);
  } catch (cause) {
    if (!(await isFolder(path))) throw cause; // else somebody else has just made it
  }
  return topmost ?? path;
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
