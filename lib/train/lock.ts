// One run at a time in a run folder: `run.lock` names the process that holds it, and dies with it.
// A lock appears by link(), whole with its contents: created empty and filled later it would look like a dead one to whoever reads in between.
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { link, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { ComFaceError } from '../errors.js';
import { disk, errorCode, ioError } from './files.js';

interface Owner {
  pid: number;
  /** Start time in clock ticks since boot, to tell a process from a later one of the same pid; null where there is no /proc. */
  start: string | null;
  /** Where that pid means this process: machine, boot, pid namespace. Null in a lock of an earlier version. */
  place: string | null;
}

/** How often a lock is touched: processes of other machines and containers cannot be asked, but a live one's lock keeps getting newer. */
const kHeartbeatMs = 2000;
/** How long such a lock is watched before it counts as dead. */
const kWatchMs = 5 * kHeartbeatMs;

/** A locked run folder. */
export interface RunLock {
  /** @throws ComFaceError BUSY when the lock has been taken away or replaced: two runs in one folder would mix their checkpoints. */
  check(): void;
  release(): Promise<void>;
}

/**
 * Locks a run folder, making it when missing, and removes what dead processes left in it. A lock of another machine or container is watched
 * for 10 seconds first.
 *
 * @throws ComFaceError BUSY naming the folder and the pid when a live process holds it, IO when the folder cannot be written.
 */
export async function lockRun(runDir: string): Promise<RunLock> {
  try {
    await disk.mkdir(runDir);
    const path = join(runDir, 'run.lock');
    const { mine, release } = await acquire(runDir, path);
    try {
      await clearTakeover(runDir, `${path}.takeover`);
      await tidy(runDir, /^(?:log\.jsonl|config\.json|run\.lock[\w.-]*)\.tmp-([1-9]\d*)$/, isRunning);
      // Only the holder of the lock saves, so an earlier process that had our own pid is dead.
      await tidy(join(runDir, 'checkpoints'), /^step-\d{8,}\.tmp-([1-9]\d*)$/, (pid) => pid !== process.pid && isRunning(pid));
    } catch (cause) {
      await release();
      throw cause;
    }
    return held(runDir, path, mine, release);
  } catch (cause) {
    throw cause instanceof ComFaceError ? cause : ioError('lock', runDir, cause);
  }
}

/** Keeps the lock alive, and notices when it is gone. */
function held(runDir: string, path: string, mine: string, release: () => Promise<void>): RunLock {
  let isLost = false;
  const beat = async () => {
    const text = await readIfThere(path).catch(() => mine); // not to be read just now is not gone
    isLost ||= text !== mine;
    if (isLost) return clearInterval(timer);
    const now = new Date();
    await utimes(path, now, now).catch(() => {});
  };
  const timer = setInterval(beat, kHeartbeatMs).unref();
  return {
    check() {
      if (!isLost) return;
      throw new ComFaceError('BUSY', `Expected to hold ${JSON.stringify(path)} but it was removed, or another run has taken it`, {
        hint: 'Leave the folder of a run alone while it trains. Go on from its last checkpoint with --resume.',
      });
    },
    release() {
      clearInterval(timer);
      return release().catch((cause: unknown) => {
        throw ioError('unlock', runDir, cause);
      });
    },
  };
}

/** Takes the lock at `path`. To remove a dead one takes a lock of its own, or two that find it would remove each other's new one. */
async function acquire(runDir: string, path: string): Promise<{ mine: string; release(): Promise<void> }> {
  const id = randomUUID();
  const mine = JSON.stringify({ pid: process.pid, start: inspect(process.pid)?.start ?? null, place: place(), id });
  const draft = `${path}.${id}.tmp-${process.pid}`;
  await writeFile(draft, mine, { flag: 'wx' });
  try {
    while (!(await linked(draft, path))) {
      const seen = await readIfThere(path);
      await refuseLive(runDir, path, seen);
      const { release } = await acquire(runDir, `${path}.takeover`);
      try {
        const dead = await readIfThere(path);
        if (dead !== seen) await refuseLive(runDir, path, dead);
        if (dead !== undefined) await rm(path);
      } finally {
        await release();
      }
    }
  } finally {
    await rm(draft, { force: true });
  }
  const release = async () => {
    if ((await readIfThere(path)) === mine) await rm(path, { force: true });
  };
  return { mine, release };
}

/** A process killed while it removed a dead lock leaves the lock that it took for it; only its next owner may remove that. */
async function clearTakeover(runDir: string, path: string): Promise<void> {
  if ((await readIfThere(path)) === undefined) return;
  try {
    const { release } = await acquire(runDir, path);
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

async function refuseLive(runDir: string, path: string, text: string | undefined): Promise<void> {
  const owner = text === undefined ? null : parseOwner(text);
  if (owner === null) return;
  const isElsewhere = isOfOtherPlace(owner);
  if (isElsewhere ? !(await isTouched(path, text!)) : !isHeld(owner)) return;
  const where = isElsewhere ? ' of another machine or container' : '';
  throw new ComFaceError('BUSY', `Expected no other run in ${JSON.stringify(runDir)} but process ${owner.pid}${where} holds its run.lock`, {
    hint: `Wait for process ${owner.pid} or stop it, or choose another folder.`,
  });
}

/** Whether a lock that stays the same gets newer while it is watched. */
async function isTouched(path: string, text: string): Promise<boolean> {
  const touched = async () => (await stat(path)).mtimeMs;
  try {
    const before = await touched();
    for (let waited = 0; waited < kWatchMs; waited += kHeartbeatMs / 2) {
      await wait(kHeartbeatMs / 2);
      if ((await touched()) !== before) return (await readIfThere(path)) === text;
    }
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
  return false;
}

/** Null for contents a power loss tore: a live process never shows such. */
export function parseOwner(text: string): Owner | null {
  try {
    const { pid, start, place } = JSON.parse(text);
    const textOr = (value: unknown) => (typeof value === 'string' ? value : null);
    return Number.isSafeInteger(pid) && pid > 0 ? { pid, start: textOr(start), place: textOr(place) } : null;
  } catch {
    return null;
  }
}

let here: string | undefined;

/** Machine, boot and pid namespace of this process: two in the same place see each other's pids. */
function place(): string {
  const told = (read: () => string) => {
    try {
      return read().trim();
    } catch {
      return '';
    }
  };
  here ??= [
    hostname(),
    told(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')),
    told(() => readlinkSync('/proc/self/ns/pid')),
  ].join(' ');
  return here;
}

/** Another boot of this machine is no other place: what ran then is dead. */
function isOfOtherPlace(owner: Owner): boolean {
  if (owner.place === null || owner.place === place()) return false;
  const [[host, boot], [ourHost, ourBoot]] = [owner.place.split(' '), place().split(' ')] as [string[], string[]];
  return host !== ourHost || boot === ourBoot;
}

function isHeld({ pid, start, place: its }: Owner): boolean {
  if (its !== null && its !== place()) return false;
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

/** Removes what `ours` names with the pid of a process that no longer runs. Nothing else: people keep files in run folders. */
async function tidy(folder: string, ours: RegExp, inUse: (pid: number) => boolean): Promise<void> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  for (const name of names) {
    const pid = ours.exec(name)?.[1];
    if (pid !== undefined && !inUse(Number(pid))) await rm(join(folder, name), { recursive: true, force: true });
  }
}
