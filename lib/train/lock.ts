// One run at a time in a run folder: `run.lock` names the process that holds it, and dies with it.
// A lock appears by link(), whole with its contents: created empty and filled later it would look like a dead one to whoever reads in between.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ComFaceError } from '../errors.js';
import { errorCode, ioError } from './files.js';

interface Owner {
  pid: number;
  /** Start time in clock ticks since boot, to tell a process from a later one of the same pid; null where there is no /proc. */
  start: string | null;
}

/**
 * Locks a run folder, making it when missing, and removes what dead processes left in it. Processes of other machines are not seen.
 *
 * @throws ComFaceError BUSY naming the folder and the pid when a live process holds it, IO when the folder cannot be written.
 */
export async function lockRun(runDir: string): Promise<{ release(): Promise<void> }> {
  try {
    await mkdir(runDir, { recursive: true });
    const path = join(runDir, 'run.lock');
    const release = await acquire(runDir, path);
    try {
      await clearTakeover(runDir, `${path}.takeover`);
      await tidy(runDir, isRunning);
      // Only the holder of the lock saves, so an earlier process that had our own pid is dead.
      await tidy(join(runDir, 'checkpoints'), (pid) => pid !== process.pid && isRunning(pid));
    } catch (cause) {
      await release();
      throw cause;
    }
    const explain = (cause: unknown) => {
      throw ioError('unlock', runDir, cause);
    };
    return { release: () => release().catch(explain) };
  } catch (cause) {
    throw cause instanceof ComFaceError ? cause : ioError('lock', runDir, cause);
  }
}

/** Takes the lock at `path`. To remove a dead one takes a lock of its own, or two that find it would remove each other's new one. */
async function acquire(runDir: string, path: string): Promise<() => Promise<void>> {
  const id = randomUUID();
  const mine = JSON.stringify({ pid: process.pid, start: inspect(process.pid)?.start ?? null, id });
  const draft = `${path}.${id}.tmp-${process.pid}`;
  await writeFile(draft, mine, { flag: 'wx' });
  try {
    while (!(await linked(draft, path))) {
      refuseLive(runDir, await readIfThere(path));
      const release = await acquire(runDir, `${path}.takeover`);
      try {
        const dead = await readIfThere(path);
        refuseLive(runDir, dead);
        if (dead !== undefined) await rm(path);
      } finally {
        await release();
      }
    }
  } finally {
    await rm(draft, { force: true });
  }
  return async () => {
    if ((await readIfThere(path)) === mine) await rm(path, { force: true });
  };
}

/** A process killed while it removed a dead lock leaves the lock that it took for it; only its next owner may remove that. */
async function clearTakeover(runDir: string, path: string): Promise<void> {
  if ((await readIfThere(path)) === undefined) return;
  try {
    const release = await acquire(runDir, path);
    await clearTakeover(runDir, `${path}.takeover`).finally(release);
  } catch (error) {
    // A live process is about to find that the lock is ours, and removes it itself.
    if (!(error instanceof ComFaceError && error.code === 'BUSY')) throw error;
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function refuseLive(runDir: string, text: string | undefined): void {
  const owner = text === undefined ? null : parseOwner(text);
  if (owner === null || !isHeld(owner)) return;
  throw new ComFaceError('BUSY', `Expected no other run in ${JSON.stringify(runDir)} but process ${owner.pid} holds its run.lock`, {
    hint: `Wait for process ${owner.pid} or stop it, or choose another folder.`,
  });
}

/** Null for contents a power loss tore: a live process never shows such. */
export function parseOwner(text: string): Owner | null {
  try {
    const { pid, start } = JSON.parse(text);
    return Number.isSafeInteger(pid) && pid > 0 ? { pid, start: typeof start === 'string' ? start : null } : null;
  } catch {
    return null;
  }
}

function isHeld({ pid, start }: Owner): boolean {
  if (!isRunning(pid)) return false;
  const now = inspect(pid)?.start;
  return start === null || now === undefined || now === start;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, and is somebody else's.
    return errorCode(error) === 'EPERM';
  }
  return inspect(pid)?.state !== 'Z';
}

/** Fields 3 and 22 of /proc/<pid>/stat, see proc(5); field 2 is a name that may hold spaces and brackets. */
function inspect(pid: number): { state: string | undefined; start: string | undefined } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0], start: fields[19] };
  } catch {
    return undefined;
  }
}

/** Removes `*.tmp-<pid>` of processes that no longer run. */
async function tidy(folder: string, inUse: (pid: number) => boolean): Promise<void> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  for (const name of names) {
    const pid = /\.tmp-([1-9]\d*)$/.exec(name)?.[1];
    if (pid !== undefined && !inUse(Number(pid))) await rm(join(folder, name), { recursive: true, force: true });
  }
}
