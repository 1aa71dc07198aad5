// What lies in a folder or file that is to be packed: recognizes it by what is there, and has it listed.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ComFaceError, invalid, messageOf, show } from '../errors.js';
import { Collector, type Listing } from './collector.js';
import { type Csv, openCsv } from './csv.js';
import { isDisfa, listDisfa } from './disfa.js';
import { isFgnet, listFgnet } from './fgnet.js';
import { listFolder } from './folder.js';
import type { FramesProgress } from './frames.js';
import { kSetsName } from './joined.js';
import { kManifestName } from './manifest.js';
import { kSetName } from './shards.js';
import { picturesOf } from './table.js';
import { isWeight, listWeight } from './weight.js';

/** How pictures may lie there; `auto` is whichever it looks like. */
export const packFormats = ['auto', 'folder', 'table', 'disfa', 'fgnet', 'weight'] as const;
/** How the pictures lie that are to be packed; `auto` is whichever it looks like. */
export type PackFormat = (typeof packFormats)[number];
/** How pictures lay that were packed. */
export type FoundFormat = Exclude<PackFormat, 'auto'>;

/** What happens before the first picture is packed. */
export type ListingEvent =
  | {
      /** How the pictures lie there. */
      type: 'format';
      /** The format that is taken. */
      format: FoundFormat;
      /** Whether the options named it; else it was recognized. */
      isGiven: boolean;
    }
  | {
      /** Frames of another video are about to be taken out. */
      type: 'frames';
      /** Name of the video. */
      name: string;
      /** Videos that are done. */
      done: number;
      /** Videos in all. */
      total: number;
    };

/** What to list. */
export interface ListJob {
  from: string;
  /** Folder of the set, which is not looked into. Absolute. */
  out: string;
  format: PackFormat;
  /** Of pictures that name none. */
  attribute: string;
  /** Of several in a list of dialysis pictures. */
  site: string | undefined;
  dataset: string | undefined;
  /** Folder for frames of videos. */
  frames: string | undefined;
  signal: AbortSignal | undefined;
  onListing: ((event: ListingEvent) => void) | undefined;
}

/**
 * Lists what lies in `from`.
 *
 * @throws ComFaceError IO for what cannot be read, CORRUPT_FILE naming the line of a CSV file that is none, INVALID_INPUT where nothing is to be packed or
 * it does not lie there as `format` says, DEVICE_UNAVAILABLE where frames of videos are needed and ffmpeg is not there.
 */
export async function listPictures(job: ListJob): Promise<Listing & { format: FoundFormat }> {
  const root = resolve(job.from);
  let isFolder: boolean;
  try {
    isFolder = statSync(root).isDirectory();
  } catch (cause) {
    const hint = 'Name a folder with a folder for each subject, or a CSV file.';
    throw new ComFaceError('IO', `Cannot read ${root}: ${messageOf(cause)}`, { hint, cause });
  }
  const list = [kSetName, kManifestName, kSetsName].find((name) => isFolder && existsSync(join(root, name)));
  if (list !== undefined) {
    const hint = 'Train on it as it is; pack takes the pictures that a person has.';
    throw new ComFaceError('INVALID_INPUT', `Expected pictures in ${root} but found a data set, by its ${list}`, { hint });
  }
  return isFolder ? listIn(root, job) : listFile(root, job);
}

async function listIn(root: string, job: ListJob): Promise<Listing & { format: FoundFormat }> {
  const { from, out, attribute, signal, onListing } = job;
  const looks = isDisfa(root) ? 'disfa' : isFgnet(root) ? 'fgnet' : 'folder';
  const format = chosen(job, looks, ['folder', 'disfa', 'fgnet']);
  if (format !== 'folder' && format !== looks) throw notThere(root, format);
  if (format === 'disfa') {
    const frames = resolve(job.frames ?? join(dirname(out), 'frames'));
    const onFrames = onListing && ((progress: FramesProgress) => onListing({ type: 'frames', ...progress }));
    return { ...(await listDisfa({ root, out, frames, signal, onFrames })), format };
  }
  if (format === 'fgnet') return { ...listFgnet(root, out), format };
  const collector = new Collector(root, out);
  listFolder(root, attribute, collector);
  return { ...collector.finish(from), format };
}

async function listFile(file: string, job: ListJob): Promise<Listing & { format: FoundFormat }> {
  const collector = new Collector(dirname(file), job.out);
  const csv = await openCsv(file, createReadStream(file));
  try {
    const format = chosen(job, isWeight(csv.names) ? 'weight' : 'table', ['table', 'weight']);
    if (format === 'weight') await listWeight(csv, job, collector);
    else await listTable(csv, job.attribute, collector);
    return { ...collector.finish(job.from), format };
  } finally {
    await csv.rows.return(); // closes the file
  }
}

async function listTable(csv: Csv, attribute: string, collector: Collector): Promise<void> {
  for await (const [path, picture] of picturesOf(csv, attribute)) collector.offer(path, picture);
}

/** The format to take, told to who asked, with no option of another one. @param looks What is there looks like it. @param possible Of folders, or of files. */
function chosen(job: ListJob, looks: FoundFormat, possible: readonly FoundFormat[]): FoundFormat {
  const format = job.format === 'auto' ? looks : job.format;
  if (!possible.includes(format)) {
    const isFile = possible.includes('table');
    const found = isFile ? `the file ${job.from}` : `the folder ${job.from}`;
    throw invalid(
      'format',
      `${possible.join(', ')} or auto for ${found}`,
      format,
      `Name a ${isFile ? 'folder' : 'CSV file'}, or leave it out.`,
    );
  }
  const own = { site: 'weight', dataset: 'weight', frames: 'disfa' } as const;
  for (const name of ['site', 'dataset', 'frames'] as const)
    if (job[name] !== undefined && own[name] !== format)
      throw invalid(name, `none where \`format\` is ${format}`, job[name], `Leave it out: it is for ${own[name]} alone.`);
  job.onListing?.({ type: 'format', format, isGiven: job.format !== 'auto' });
  return format;
}

function notThere(root: string, format: FoundFormat): ComFaceError {
  const rule = format === 'disfa' ? 'a folder ActionUnit_Labels' : 'folders images and points, with .pts files in points,';
  return new ComFaceError('INVALID_INPUT', `Expected ${rule} in ${root}, as ${show(format)} has, but found none`, {
    hint: 'Name the folder that the data set was unpacked to; docs/tasks.md shows what lies in it.',
  });
}
