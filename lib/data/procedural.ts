// Makes a data folder of drawn faces: subject x attribute x alpha, a picture each, in shards or as files; what lists them comes last (a folder
// without it is not finished).
// Every picture has its own photo number: pose, light, camera and background vary apart from alpha, so that they cannot give it away.
import { createHash } from 'node:crypto';
import { dirname, join, resolve } from 'node:path';
import { checkInteger, checkObject } from '../check.js';
import { ComFaceError, messageOf } from '../errors.js';
import { makeFolder } from '../folders.js';
import { type NativeShots, native, workerCount } from '../native.js';
import { attributeIndex } from './attributes.js';
import { groupAt, groupTable } from './composition.js';
import { type DataSet, readData } from './dataset.js';
import {
  begin,
  type CheckedSet,
  checkCall,
  checkSet,
  end,
  type Generation,
  isMadeOfShards,
  makeShards,
  picturesOfShard,
  type SetOptions,
  secondsLeft,
  targetOf,
} from './generation.js';
import { checkDisk, type SetPlan } from './makeset.js';
import { type Manifest, type ManifestHeader, type ManifestRow, manifestText, readManifest, writeManifest } from './manifest.js';
import { holdsSet, otherSet } from './target.js';

/** Pixels between two looks at the signal: about a second of drawing. */
const kChunkPixels = 256 * 64 * 64;
/** Of the pictures that native/faces draws: one more whenever any of them changes, so that a set is not finished by another. */
export const kRenderer = 2;
/** What file systems give to files. */
const kBlockBytes = 4096;

/** {@link generate} of the package for drawn faces. */
export async function generate(options: SetOptions & { format: 'files' }): Promise<DataSet & Manifest>;
export async function generate(options: SetOptions): Promise<DataSet>;
export async function generate(given: SetOptions): Promise<DataSet> {
  checkObject('options', given);
  const options = { ...given }; // read once: what was checked is what is used
  const { signal, onDisk } = options;
  const set = plan(options);
  checkCall(options);
  const out = resolve(options.out);
  const generation = { out, format: set.format, planText: planText(set) };
  signal?.throwIfAborted();
  native(); // without it nothing may be left behind
  if (await isMade(generation, set)) return readData(out);
  await begin(generation);
  const draw = (from: number, count: number) => encode(set, from, count);
  if (set.format === 'shards') await makeShards(generation, setPlan(set), draw, options);
  else {
    const sizeOf = async (at: number) => kBlockBytes * Math.ceil((await draw(at, 1)).bytes.length / kBlockBytes);
    await checkDisk(out, set.count, set.count, sizeOf, onDisk);
    await writeFiles(out, set, options);
  }
  await end(generation);
  return readData(out);
}

const chunkOf = (set: Plan): number => Math.max(8, Math.floor(kChunkPixels / set.size ** 2));

async function writeFiles(out: string, set: Plan, { signal, onProgress }: SetOptions): Promise<void> {
  const started = performance.now();
  const total = set.count;
  for (let done = 0; done < total; ) {
    signal?.throwIfAborted();
    const count = Math.min(chunkOf(set), total - done);
    await write(out, set, done, count);
    done += count;
    onProgress?.({ done, total, secondsLeft: secondsLeft(started, done, total - done) });
  }
  signal?.throwIfAborted();
  await writeManifest(out, headerOf(set), rowsOf(set));
}

function setPlan(set: Plan): SetPlan {
  const { size, attributes, quality, seed, domain } = headerOf(set);
  return {
    header: {
      ...{ size, encoding: quality === 0 ? 'rgb' : 'jpeg', attributes, alphas: set.alphas },
      made: {
        seed,
        domain,
        quality,
        firstSubject: set.cast.firstSubject,
        subjects: set.cast.subjects,
        composition: set.cast.composition,
        shardBytes: set.shardBytes,
        renderer: kRenderer,
      },
    },
    table: groupTable(set.cast),
    picturesOfShard: picturesOfShard(set),
    chunk: chunkOf(set),
  };
}

const encode = (set: Plan, from: number, count: number) =>
  native().module.encodeFaces(shotsOf(set, from, count), set.quality, workerCount(set.threads));

interface Plan extends CheckedSet {
  domain: number;
}

function plan(options: SetOptions): Plan {
  const { domain = 0 } = options;
  const set = checkSet(options, attributeIndex);
  checkInteger('domain', domain, 0, 1);
  return { ...set, domain };
}

const headerOf = ({ size, count, seed, domain, attributes, quality }: Plan): ManifestHeader & { quality: number } => ({
  ...{ size, count, seed: String(seed), domain, attributes, quality },
});

/** Picture `index` of the set: alpha changes fastest, then the attribute, then the subject. */
function pictureAt(set: Plan, index: number): ManifestRow & { photo: number } {
  const { attributes, alphas } = set;
  const place = index % alphas.length;
  const group = groupAt(set.cast, Math.floor(index / alphas.length));
  const attribute = attributes[group.attribute]!;
  const file = `${String(group.subject).padStart(6, '0')}/${attribute}/${String(place).padStart(2, '0')}.jpg`;
  return { file, subject: group.subject, attribute, alpha: alphas[place]!, photo: group.turn * alphas.length + place };
}

function* rowsOf(set: Plan): Generator<ManifestRow> {
  for (let index = 0; index < set.count; index++) yield pictureAt(set, index);
}

async function write(out: string, set: Plan, from: number, count: number): Promise<void> {
  const pictures = Array.from({ length: count }, (_, i) => pictureAt(set, from + i));
  const paths = pictures.map(({ file }) => join(out, file));
  try {
    for (const folder of new Set(paths.map(dirname))) await makeFolder(folder);
  } catch (cause) {
    const hint = 'Check the free space and the permissions of the folder.';
    throw new ComFaceError('IO', `Cannot make a folder in ${out}: ${messageOf(cause)}`, {
      hint,
      cause,
    });
  }
  await native().module.writeFaces(shotsOf(set, from, count), paths, set.quality, workerCount(set.threads));
}

function shotsOf(set: Plan, from: number, count: number): NativeShots {
  const pictures = Array.from({ length: count }, (_, i) => pictureAt(set, from + i));
  return {
    seed: BigInt(set.seed),
    subject: Uint32Array.from(pictures, ({ subject }) => subject),
    photo: Uint32Array.from(pictures, ({ photo }) => photo),
    attribute: Int32Array.from(pictures, ({ attribute }) => attributeIndex(attribute)),
    alpha: Float32Array.from(pictures, ({ alpha }) => alpha),
    domain: set.domain,
    size: set.size,
  };
}

/** Everything that decides the set, as text. */
function planText(set: Plan): string {
  const { cast, alphas, format, shardBytes } = set;
  return `${JSON.stringify({ ...headerOf(set), cast, alphas, format, shardBytes, renderer: kRenderer })}\n`;
}

/** Whether the folder holds this very set; false for none, an empty one or one to be gone on with, an error for anything else. */
async function isMade(generation: Generation, set: Plan): Promise<boolean> {
  if (set.format === 'shards') return isMadeOfShards(generation, setPlan(set));
  if (!(await holdsSet(targetOf(generation)))) return false;
  const wanted = createHash('sha256');
  for (const text of manifestText(headerOf(set), rowsOf(set))) wanted.update(text);
  if ((await readManifest(generation.out)).hash === wanted.digest('hex')) return true;
  throw otherSet(generation.out);
}
