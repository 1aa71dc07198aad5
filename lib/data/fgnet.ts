// FG-NET (Panis et al., IET Biometrics 2016): 1002 pictures of 82 people from 0 to 69 years, the age in the name of each file, and 68 landmarks in the order of
// XM2VTS, which is not that of iBUG: every picture's points are held against it.
import { basename, join } from 'node:path';
import { Collector, type Listing } from './collector.js';
import { folderIn, namesIn, readSmall, stemOf, suffixFault } from './files.js';
import { type Five, faultOf, fiveOfXm2vts } from './landmarks.js';
import { parsePoints } from './pts.js';

const kPoints = 68;
const kMostBytes = 1 << 16;
/** Subject, age, and a letter where there are several of one age: 001A43a. */
const kName = /^(\d{3})a(\d{2})[a-z]?$/i;

interface Folders {
  root: string;
  images: string;
  points: string;
}

function foldersIn(root: string): Folders | undefined {
  for (const place of [root, folderIn(root, /^fg-?net$/i)]) {
    const [images, points] = place === undefined ? [] : [folderIn(place, /^images$/i), folderIn(place, /^points$/i)];
    if (images && points && namesIn(points).some((name) => /\.pts$/i.test(name))) return { root: place!, images, points };
  }
  return undefined;
}

export const isFgnet = (root: string): boolean => foldersIn(root) !== undefined;

/**
 * Lists FG-NET, which lies in the folder, or in FGNET in it. The attribute is `age`, in years.
 *
 * @throws ComFaceError INVALID_INPUT where nothing is to be packed, IO.
 */
export function listFgnet(from: string, out: string): Listing {
  const { root, images, points } = foldersIn(from)!;
  const collector = new Collector(root, out);
  const byStem = new Map<string, string[]>();
  for (const name of namesIn(points)) {
    if (!/\.pts$/i.test(name)) continue;
    const stem = stemOf(name).toLowerCase();
    byStem.set(stem, [...(byStem.get(stem) ?? []), name]);
  }
  const seen = new Map<string, string>();
  for (const name of namesIn(images)) {
    const path = `${basename(images)}/${name}`;
    const stem = stemOf(name).toLowerCase();
    const [, subject, age] = kName.exec(stem) ?? [];
    const fault = suffixFault(name) ?? (age === undefined ? 'its name is not subject, A and age, as 001A02.JPG' : undefined);
    const twin = seen.get(stem);
    if (fault !== undefined || twin !== undefined) {
      collector.offer(path, fault ?? `it has the name of ${twin} but for its case or end`);
      continue;
    }
    seen.set(stem, name);
    const landmarks = fiveIn(points, byStem.get(stem) ?? []);
    collector.offer(
      path,
      typeof landmarks === 'string' ? landmarks : { subject: subject!, attribute: 'age', alpha: Number(age), landmarks },
    );
  }
  for (const [stem, [name]] of byStem)
    if (!seen.has(stem)) collector.offer(`${basename(points)}/${name}`, 'there is no picture to these points');
  return collector.finish(from);
}

/** @param names Of the files of points that go by the name of the picture. */
function fiveIn(folder: string, [name, ...others]: readonly string[]): Five | string {
  if (name === undefined) return 'it has no points: there is no .pts file of its name';
  if (others.length > 0) return `it has two files of points: ${name} and ${others[0]}`;
  const bytes = readSmall(join(folder, name), kMostBytes);
  const points = typeof bytes === 'string' ? bytes : parsePoints(bytes.toString('latin1'));
  if (typeof points === 'string') return `${name}: ${points}`;
  if (points.length !== kPoints) return `${name}: expected ${kPoints} points but found ${points.length}`;
  const five = fiveOfXm2vts(points);
  return typeof five === 'string' ? five : (faultOf(five) ?? five);
}
