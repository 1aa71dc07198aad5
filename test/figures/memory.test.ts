// M1 to M3: training, making and dropping engines leave the memory as it was. Measured in child processes (memory.mjs): vitest's own grows.
import { beforeAll, expect } from 'vitest';
import { sharedFolder, smallFaces } from '../faces.ts';
import { measured } from './children.ts';
import { figure } from './figure.ts';

const folder = sharedFolder();
beforeAll(async () => {
  await smallFaces(folder);
});

const kMiB = 2 ** 20;
const mib = (bytes: number) => `${(bytes / kMiB).toFixed(2)} MiB`;

interface Growth {
  steps: number;
  rss: number;
  heap: number;
  slope: { rss: number; heap: number };
}

figure('M1 memory is flat while training', { ci: 10_000, long: 100_000, seconds: 240 }, async ({ count, say }) => {
  const engine = await measured<Growth>('memory.mjs', ['steps', folder, count], { isSteady: true });
  const run = await measured<Growth>('memory.mjs', ['run', folder, count], { isSteady: true });
  const words = ({ steps, rss, heap, slope }: Growth) =>
    `${steps} steps: RSS ${mib(rss)} (${slope.rss.toFixed(0)} B a step), JS heap ${mib(heap)} (${slope.heap.toFixed(0)} B a step)`;
  say(`engine, ${words(engine)}; train(), ${words(run)}; device: not measured, CPU only`);
  for (const { steps, rss, heap, slope } of [engine, run]) {
    expect(rss).toBeLessThanOrEqual(8 * kMiB);
    expect(slope.rss * steps).toBeLessThanOrEqual(8 * kMiB); // the first sample may stand too high
    expect(heap).toBeLessThanOrEqual(kMiB);
  }
});

type Live = Record<'engines' | 'sources' | 'workers' | 'calls', number>;

/** The workers that stay are the two of an environment. */
const none: Live = { engines: 0, sources: 0, workers: 2, calls: 0 };
const wordsOf = ({ engines, sources, workers, calls }: Live) =>
  `${engines} engines, ${sources} sources, ${calls} calls and ${workers - none.workers} threads of theirs left`;

figure('M2 engines that are disposed of leave nothing', { ci: 1000, long: 10_000, seconds: 120 }, async ({ count, say }) => {
  const { growth, live, workers } = await measured<{ growth: number; live: Live; workers: number }>('memory.mjs', [
    'disposed',
    folder,
    count,
  ]);
  say(`${count} engines: ${wordsOf(live)}; RSS ${mib(growth)} after the first 50; at most ${workers} threads at once`);
  expect(live).toEqual(none);
  expect(growth).toBeLessThanOrEqual(16 * kMiB);
  // Two of the environment, two of the engine in use, and some that are just being joined.
  expect(workers).toBeLessThanOrEqual(100);
});

figure('M3 engines that are dropped are freed', { ci: 1000, long: 1000, seconds: 120 }, async ({ count, say }) => {
  const { live, warnings, most, hurried } = await measured<{ live: Live; warnings: string[]; most: number; hurried: number }>(
    'memory.mjs',
    ['dropped', folder, count],
  );
  say(
    `${count} engines and sources: ${wordsOf(live)}; ${warnings.length} warning for 3 models; of 100 large engines at most ${hurried} at once`,
  );
  expect(live).toEqual(none);
  expect(most).toBeGreaterThan(50); // they were really dropped, not disposed of
  expect(warnings).toEqual([expect.stringContaining('dispose')]);
  expect(hurried).toBeLessThan(60);
});
