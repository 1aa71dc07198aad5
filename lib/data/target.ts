// The folder that a set is made in. A file says what it is to become, so that the same call may go on after a kill; the list of the pictures is
// written last.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ComFaceError, messageOf } from '../errors.js';

/** How a set is made. */
export interface Target {
  out: string;
  /** File that says what an unfinished folder is to become, and how that begins. */
  planName: string;
  plan: string;
  /** File that a finished one has. */
  listName: string;
}

/**
 * Whether a folder holds a finished set, this one or another of its kind; false for nothing yet, and for a part of what is to be made.
 *
 * @throws ComFaceError INVALID_INPUT for a folder with anything else, IO for one that cannot be read.
 */
export async function holdsSet(target: Target): Promise<boolean> {
  const { out, planName, plan, listName } = target;
  const entries = await readdir(out).catch((cause: NodeJS.ErrnoException): string[] => {
    if (cause.code === 'ENOENT') return [];
    throw new ComFaceError('IO', `Cannot use ${out}: ${cause.message}`, { hint: 'Name a folder that is new or empty.', cause });
  });
  if (entries.length === 0) return false;
  if (planIn(target).startsWith(plan)) return false; // made again, to the same bytes
  if (entries.some(isWritten)) throw taken(out);
  if (entries.every((name) => name === planName || name.endsWith('.part'))) return false;
  if (entries.includes(listName)) return true;
  if (entries.includes(planName))
    throw new ComFaceError('INVALID_INPUT', `Expected a new or empty folder for \`out\` but ${out} holds a part of ${kOther}`, {
      hint: kHint,
    });
  throw new ComFaceError(
    'INVALID_INPUT',
    `Expected a new or empty folder for \`out\` but ${out} holds ${entries.length} entries and no ${listName}`,
    { hint: kHint },
  );
}

const kHint = 'Name a folder that is new or empty, or remove this one.';
const kOther = 'a data set of other pictures or options';

const taken = (out: string) =>
  new ComFaceError('INVALID_INPUT', `Expected a folder of its own for \`out\` but another call makes ${kOther} in ${out}`, {
    hint: 'Name another folder.',
  });

/** Nobody else has begun another set in the folder: what two of them write would be mixed. @throws ComFaceError INVALID_INPUT. */
export function checkOwn(target: Target): void {
  const found = planIn(target);
  if (found !== '' && !found.startsWith(target.plan)) throw taken(target.out); // none: a call like this one was through first
}

/** What is under way, named after its process. */
export const partOf = (path: string): string => `${path}.${process.pid}-${randomUUID()}.part`;

/** Whether a file is a part whose process is still there. */
export function isWritten(part: string): boolean {
  const pid = Number(/\.(\d+)-[^.]*\.part$/.exec(part)?.[1]);
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** For a finished set that is not the one to be made. */
export const otherSet = (out: string): ComFaceError =>
  new ComFaceError('INVALID_INPUT', `Expected a new or empty folder for \`out\` but ${out} holds ${kOther}`, {
    hint: kHint,
  });

/** The plan of an unfinished set, or nothing. Not a promise: Node 20 aborts when a worker thread is terminated while one looks at a file. */
export function planIn({ out, planName }: Pick<Target, 'out' | 'planName'>): string {
  try {
    return readFileSync(join(out, planName), 'utf8');
  } catch {
    return '';
  }
}

/** Work on the folder; what goes wrong on the disk gets the folder's name and what to do. */
export async function writing<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const isDisk = cause instanceof Error && 'syscall' in cause;
    if (!isDisk) throw cause;
    const hint = 'Check the free space and the permissions of the folder; the same call goes on with what is there.';
    throw new ComFaceError('IO', `Cannot write in ${folder}: ${messageOf(cause)}`, { hint, cause });
  }
}
