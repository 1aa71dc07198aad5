// A data folder, however its pictures lie in it: files with a manifest.jsonl, or shards with a set.json.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { checkText } from '../check.js';
import { ComFaceError, printable } from '../errors.js';
import { type NativeShardSet, type NativeSource, native } from '../native.js';
import { type Groups, ListedGroups } from './groups.js';
import { kSetsName, readJoined } from './joined.js';
import { kManifestName, type Manifest, readManifest } from './manifest.js';
import { kSetName, readShards, shardName } from './shards.js';

/** A data folder that was read: pictures with what is known of each. A sample number is a picture's place in the set, from 0. */
export interface DataSet {
  /** Folder of the set, as an absolute path. */
  readonly folder: string;
  /** Edge of the square pictures in pixels. */
  readonly size: number;
  /** Number of pictures. */
  readonly count: number;
  /** Names of what changes in pictures. */
  readonly attributes: readonly string[];
  /** SHA-256 of the list of pictures, hexadecimal. */
  readonly hash: string;
  /** Numbers of the subjects, ascending. */
  readonly subjects: Uint32Array;
  /** Whether it was drawn, so that labels are alphas; else pictures were packed, with labels of their own. */
  readonly isDrawn: boolean;
  /**
   * The pictures of some subjects, in groups of one subject and attribute each.
   * @param subjects Numbers of the subjects.
   */
  groupsOf(subjects: ReadonlySet<number>): Groups;
  /**
   * Index into `attributes` of what changes in a picture.
   * @param sample Number of the picture.
   */
  attributeOf(sample: number): number;
  /**
   * Where a picture is: its file, and the line of a manifest that names it.
   * @param sample Number of the picture.
   */
  placeOf(sample: number): { file: string; line?: number };
  /** The sample that a message of the native reader begins with, or -1. @internal */
  sampleOf(message: string): number;
  /** The sets of shards that it is made of, in the order of the sample numbers; none of pictures in files of their own. @internal */
  readonly shardSets: readonly NativeShardSet[];
  /** @internal @param size Edge of the views in pixels. */
  open(size: number, threads: number): NativeSource;
}

/**
 * Opens a data folder, however it was made: by {@link generate}, {@link pack} or by hand.
 *
 * @param folder Folder of the set.
 * @throws ComFaceError CORRUPT_FILE naming the file and what is wrong in it, IO for what is missing.
 */
export async function readData(folder: string): Promise<DataSet> {
  checkText('folder', folder);
  const root = resolve(folder);
  const has = (name: string) => existsSync(join(root, name));
  if (has(kSetsName)) return readJoined(root);
  if (!has(kSetName) && !has(kManifestName) && (has('generate.json') || has('pack.jsonl') || has(shardName(0)))) {
    const hint = 'Run the same `comface generate` or `comface pack` again: it goes on with what is there.';
    throw new ComFaceError('IO', `Cannot read the data folder ${root}: it is not finished`, { hint });
  }
  return has(kSetName) ? readShards(folder) : filesOf(await readManifest(folder));
}

/** Whether a folder has the list that is written last. */
export const isFinished = (folder: string): boolean => [kSetName, kManifestName].some((name) => existsSync(join(folder, name)));

/** The pictures of a manifest as a data set. */
export function filesOf(manifest: Manifest): DataSet & Manifest {
  const { size, files, lines } = manifest;
  return {
    ...manifest,
    count: files.length,
    subjects: Uint32Array.from(new Set(manifest.subject)).sort(),
    isDrawn: true,
    groupsOf: (subjects) => new ListedGroups(manifest, subjects),
    attributeOf: (sample) => manifest.attribute[sample]!,
    placeOf: (sample) => ({ file: files[sample]!, line: lines[sample]! }),
    sampleOf: (message) => files.findIndex((file) => message.startsWith(`${printable(file)}:`)),
    shardSets: [],
    open: (edge, threads) => native().module.openFiles(files, edge, threads, size),
  };
}

/** What is wrong with a picture, with the line that lists it if one does. */
export function complaint(data: DataSet, sample: number, reason: string): string {
  const { line } = data.placeOf(sample);
  return line === undefined ? reason : `${data.folder}/${kManifestName}:${line}: ${reason}`;
}
