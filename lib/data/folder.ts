// A folder of pictures for each subject, named by their alphas.
import { type Dirent, readdirSync, statSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { messageOf } from '../errors.js';
import type { Collector } from './collector.js';
import { type Described, described, numberOf } from './described.js';
import { stemOf, suffixFault } from './files.js';

const kMostDepth = 8;
const kPlace = 'it does not lie at SUBJECT/PICTURE or SUBJECT/ATTRIBUTE/PICTURE';

/** What a path says: SUBJECT/ALPHA.jpg, or SUBJECT/ATTRIBUTE/ALPHA.jpg; what follows "_" after alpha is free. */
function describedBy(path: string, attribute: string): Described | string {
  const parts = path.split('/');
  if (parts.length < 2 || parts.length > 3) return kPlace;
  const fault = suffixFault(path);
  if (fault !== undefined) return fault;
  const alpha = alphaIn(basename(path));
  if (alpha === undefined)
    return 'its name does not begin with its alpha, as -2.jpg or 1.5_tuesday.jpg do; or list the pictures in a CSV file';
  return described(parts[0]!, parts.length === 3 ? parts[1]! : attribute, alpha);
}

/** The number that a file's name begins with. */
const alphaIn = (name: string): number | undefined => numberOf(stemOf(name).split('_')[0]!);

/** Lists SUBJECT/ALPHA.jpg and SUBJECT/ATTRIBUTE/ALPHA.jpg. @param attribute Of pictures that name none. */
export function listFolder(root: string, attribute: string, collector: Collector): void {
  const visit = (folder: string, depth: number): void => {
    const inside = (name: string) => relative(root, join(folder, name)).split(sep).join('/');
    let entries: Dirent[];
    try {
      entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
    } catch (error) {
      collector.offer(inside('') || '.', `the folder cannot be read: ${messageOf(error)}`);
      return;
    }
    for (const entry of entries) {
      const path = join(folder, entry.name);
      if (collector.isLeftOut(path) || isHidden(entry.name)) continue;
      if (entry.isDirectory() && depth < kMostDepth) visit(path, depth + 1);
      else collector.offer(inside(entry.name), wrongKind(path, entry) ?? describedBy(inside(entry.name), attribute));
    }
  };
  visit(root, 0);
}

/** What systems leave, as .DS_Store; .5.jpg is a picture. */
const isHidden = (name: string): boolean => name.startsWith('.') && alphaIn(name) === undefined;

function wrongKind(path: string, entry: Dirent): string | undefined {
  if (entry.isDirectory()) return kPlace;
  if (!entry.isSymbolicLink()) return undefined;
  try {
    return statSync(path).isDirectory() ? 'it is a link to a folder, which is not followed' : undefined;
  } catch {
    return undefined; // said when the file is looked for
  }
}
