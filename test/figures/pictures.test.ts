// F3: whatever is in a file, the reader of pictures decodes it or reports it by its number, at once, and goes on.
// pictures.child.mjs makes the files and judges them in processes of the built package, so that a crash is a figure and not the end.
import { expect } from 'vitest';
import { runChild } from './child.ts';
import { figure } from './figure.ts';
import type { Outcome } from './pictures.child.mjs';

const kProcesses = 2;
figure('F3 a damaged picture is decoded or reported, never a crash', { ci: 5_000, long: 100_000, seconds: 120 }, async ({ count, say }) => {
  const shares = Array.from({ length: kProcesses }, (_, first) => [first, kProcesses, count].map(String));
  const parts = await Promise.all(shares.map((share) => runChild<Outcome>('./pictures.child.mjs', share)));
  const crashes = parts.flatMap(({ crash }) => (crash === '' ? [] : [crash]));
  const outcomes = parts.flatMap(({ outcome }) => outcome ?? []);
  const sum = (of: (outcome: Outcome) => number) => outcomes.reduce((total, outcome) => total + of(outcome), 0);
  const failures = outcomes.flatMap((outcome) => outcome.failures);
  const [files, decoded, reported] = [sum((one) => one.files), sum((one) => one.decoded), sum((one) => one.reported)];
  const worstMs = Math.max(...outcomes.map((one) => one.worstMs));
  const kinds = new Set(outcomes.flatMap((one) => one.kinds)).size;
  say(
    `${files.toLocaleString('en')} pictures: ${crashes.length} crashes, ${failures.length} neither decoded nor reported; ${decoded} decoded, ` +
      `${reported} reported for ${kinds} reasons; slowest ${worstMs.toFixed(0)} ms; ${sum((one) => one.trained)} trainings reported the same`,
  );
  expect([...crashes, ...failures]).toEqual([]);
  expect(files).toBeGreaterThanOrEqual(count);
  // Files that are all whole, or all refused at their first byte, test nothing.
  expect(decoded).toBeGreaterThan(count / 20);
  expect(reported).toBeGreaterThan(count / 4);
  expect(kinds).toBeGreaterThan(20);
});
