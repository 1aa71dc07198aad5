// T1, T2 and T4: threads and processes that end in the middle of native work, and two copies of the add-on. What is measured is in threads.mjs,
// in child processes: a crash must be counted, not end the test.
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect } from 'vitest';
import { native } from '../../lib/native.ts';
import { sharedFolder, smallFaces } from '../faces.ts';
import { measured, runChild } from './children.ts';
import { figure } from './figure.ts';

const folder = sharedFolder();
beforeAll(async () => {
  await smallFaces(folder);
});

/** In threads.mjs. */
const kStates = 16;

/** Two at a time: what waits for the disk leaves a core to the other. */
const kAtOnce = 2;

interface Terminated {
  states: number;
  live: { engines: number; sources: number; workers: number; calls: number };
  slowest: number;
  failed: string;
}

figure(
  'T1 a worker thread may be terminated in the middle of native work',
  { ci: 200, long: 2000, seconds: 180 },
  async ({ count, say }) => {
    const shares = Array.from({ length: kAtOnce }, (_, i) => Math.floor((count + i) / kAtOnce));
    const ends = await Promise.all(
      shares.map((share, i) => {
        // Each has a copy of the pictures, for its runs and drawings lie beside them.
        const own = join(folder, `terminate-${i}`);
        cpSync(join(folder, 'data'), join(own, 'data'), { recursive: true });
        return runChild('threads.mjs', ['terminate', own, share]);
      }),
    );
    const aborted = ends.filter(({ code }) => code !== 0);
    const done = ends.flatMap(({ code, stdout }) => (code === 0 ? [JSON.parse(stdout) as Terminated] : []));
    const left = done.reduce((sum, { live: { engines, sources, calls } }) => sum + engines + sources + calls, 0);
    const slowest = Math.max(0, ...done.map((each) => each.slowest));
    say(
      `${count} cycles over ${kStates} states, ${aborted.length} aborts, ${left} native objects left, the slowest took ${slowest.toFixed(0)} ms`,
    );
    expect(aborted.map(({ code, signal, stderr }) => [code, signal, stderr.slice(-500)])).toEqual([]);
    for (const { live, failed, states } of done) {
      expect([failed, states]).toEqual(['', kStates]);
      expect(live).toEqual({ engines: 0, sources: 0, workers: 2, calls: 0 }); // two workers are the main thread's
    }
    expect(slowest).toBeLessThan(10_000); // it waits for a step, not for a whole data set
  },
);

/** In the order of threads.mjs. */
const codes = [7, 1, 1, 0];

figure(
  'T2 a process ends in the middle of native work with its own code',
  { ci: 200, long: 2000, seconds: 180 },
  async ({ count, say }) => {
    const wrong: unknown[] = [];
    let next = 0;
    // Freed memory is overwritten, so that what is freed too early by an exit handler is noticed.
    const runSome = async () => {
      while (next < count) {
        const i = next++;
        const { code, signal, stderr } = await runChild('threads.mjs', ['end', folder, i], { env: { MALLOC_PERTURB_: '165' } });
        const expected = codes[(Math.floor(i / 2) + Math.floor(i / 2 / kStates)) % codes.length];
        if (code !== expected || signal !== null) wrong.push({ i, expected, code, signal, stderr: stderr.slice(-500) });
        rmSync(join(folder, `end-${i}`), { recursive: true, force: true });
      }
    };
    await Promise.all(Array.from({ length: kAtOnce }, runSome));
    say(
      `${count - wrong.length} of ${count} ended with the right code and no signal (exit, exit in a promise, uncaught exception, unhandled rejection)`,
    );
    expect(wrong).toEqual([]);
  },
);

figure('T4 two copies of the add-on compute as one alone', { ci: 200, long: 2000, seconds: 60 }, async ({ count, say }) => {
  // The libraries beside it too: each copy has its own statics, and they share one OpenMP.
  const copy = join(folder, 'copy');
  mkdirSync(copy, { recursive: true });
  cpSync(native().folder, copy, { recursive: true, dereference: true });
  const { engines, differing, loaded } = await measured<{ engines: number; differing: number; loaded: number }>('threads.mjs', [
    'copies',
    folder,
    count,
  ]);
  say(`${engines} engines of 2 copies in 2 threads and the main one, ${count} steps each: ${differing} differ from one alone`);
  expect(loaded).toBe(4); // comface.node and libcomface_cpu.so, twice
  expect(differing).toBe(0);
});
