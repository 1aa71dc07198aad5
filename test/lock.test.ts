// The lock of a run folder: one live process at a time, and dead ones never in the way.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { lockRun } from '../lib/train/lock.ts';

const folders: string[] = [];
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'comface-lock-'));
  folders.push(path);
  return path;
}
afterAll(() => Promise.all(folders.map((path) => rm(path, { recursive: true }))));

describe('the lock of a run folder', () => {
  /** Above the largest pid that Linux gives out. */
  const deadPid = 2 ** 22 + 1;
  const startOf = async (pid: number) =>
    (await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')).split(') ').pop()?.split(' ')[19] ?? null;
  const busy = (run: string, pid: number) => ({
    code: 'BUSY',
    message: expect.stringMatching(`"${run}".*process ${pid} `),
    hint: expect.any(String),
  });

  test('refuses while a live process holds it, naming folder and pid, and is free after release', async () => {
    const run = join(await folder(), 'new');
    const lock = await lockRun(run);
    await expect(lockRun(run)).rejects.toMatchObject(busy(run, process.pid));
    await writeFile(join(run, 'other'), '');
    await lock.release();
    await lock.release();
    expect(await readdir(run)).toEqual(['other']);
    await (await lockRun(run)).release();
  });

  test('refuses a lock of another live process', async () => {
    const run = await folder();
    await writeFile(join(run, 'run.lock'), JSON.stringify({ pid: process.ppid, start: await startOf(process.ppid) }));
    await expect(lockRun(run)).rejects.toMatchObject(busy(run, process.ppid));
  });

  const stale: [string, string][] = [
    ['a dead process', JSON.stringify({ pid: deadPid, start: '1' })],
    ['a dead process of a machine without /proc', JSON.stringify({ pid: deadPid, start: null })],
    ['an earlier process of the same pid', JSON.stringify({ pid: process.pid, start: '1' })],
    ['nobody, torn by a power loss', ''],
    ['nobody, overwritten', '{"pid":-1}'],
  ];
  test.each(stale)('takes over from %s', async (_, text) => {
    const run = await folder();
    await writeFile(join(run, 'run.lock'), text);
    await writeFile(join(run, 'run.lock.takeover'), text);
    const lock = await lockRun(run);
    expect(await readdir(run)).toEqual(['run.lock']);
    await expect(lockRun(run)).rejects.toMatchObject({ code: 'BUSY' });
    await lock.release();
  });

  test('clears away what a process killed in a takeover left, and leaves a live one to its work', async () => {
    const run = await folder();
    for (const name of ['run.lock.takeover', 'run.lock.takeover.takeover']) await writeFile(join(run, name), stale[0]![1]);
    const lock = await lockRun(run);
    expect(await readdir(run)).toEqual(['run.lock']);
    await lock.release();
    await writeFile(join(run, 'run.lock.takeover'), JSON.stringify({ pid: process.ppid, start: await startOf(process.ppid) }));
    await (await lockRun(run)).release();
    expect(await readdir(run)).toEqual(['run.lock.takeover']);
  });

  test('that cannot be released is an IO error that names the folder', async () => {
    const run = await folder();
    const lock = await lockRun(run);
    await rm(join(run, 'run.lock'));
    await mkdir(join(run, 'run.lock'));
    await expect(lock.release()).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(run), hint: expect.any(String) });
  });

  test('does not release what another has taken over', async () => {
    const run = await folder();
    const lock = await lockRun(run);
    await writeFile(join(run, 'run.lock'), '{"pid":1}');
    await lock.release();
    expect(await readdir(run)).toEqual(['run.lock']);
  });

  test('of any number in a race exactly one wins, with a stale lock or none', async () => {
    for (let round = 0; round < 60; round++) {
      const run = await folder();
      if (round % 3 > 0) await writeFile(join(run, 'run.lock'), stale[0]?.[1] ?? '');
      if (round % 3 > 1) await writeFile(join(run, 'run.lock.takeover'), stale[0]?.[1] ?? '');
      const results = await Promise.allSettled(Array.from({ length: 2 + (round % 5) }, () => lockRun(run)));
      const won = results.filter((result) => result.status === 'fulfilled');
      expect(won.length).toBe(1);
      for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject(busy(run, process.pid));
      expect(await readdir(run)).toEqual(['run.lock']);
    }
  });

  test('removes what dead processes left and nothing of live ones', async () => {
    const run = await folder();
    const checkpoints = join(run, 'checkpoints');
    const left = [deadPid, process.pid, process.ppid].map((pid) => `step-00000003.tmp-${pid}`);
    for (const name of [...left, 'step-00000002']) await mkdir(join(checkpoints, name), { recursive: true });
    await writeFile(join(checkpoints, left[0] ?? '', 'weights.safetensors'), 'x');
    await writeFile(join(run, `log.jsonl.tmp-${deadPid}`), 'x');
    const lock = await lockRun(run);
    expect((await readdir(checkpoints)).sort()).toEqual(['step-00000002', left[2]]);
    expect((await readdir(run)).sort()).toEqual(['checkpoints', 'run.lock']);
    await lock.release();
  });

  test('a folder that cannot be made is an IO error that names it', async () => {
    const run = join(await folder(), 'file');
    await writeFile(run, '');
    await expect(lockRun(run)).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(run) });
  });
});
