// F4: hostile calls to everything that comface exports, on an add-on with sanitizers. children/ holds the values, the functions and the loop.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { readManifest } from '../../lib/data/manifest.ts';
import { train } from '../../lib/train/train.ts';
import { sharedFolder, smallFaces, smallRun } from '../faces.ts';
import { stylegan1State, torchFile } from '../generators.ts';
import type { Outcome } from './children/arguments.ts';
import { figure } from './figure.ts';
import { runSanitized } from './sanitized.ts';

const shared = sharedFolder();
const kSeed = 1;
/** Calls of one process. */
const kProcess = 100_000;

figure(
  'F4 whatever a function is called with, it answers or refuses with a ComFaceError',
  { ci: 100_000, long: 1_000_000, seconds: 400 },
  async ({ count, say }) => {
    const data = await smallFaces(shared);
    const run = join(shared, 'run');
    await train({ ...smallRun, data, out: run, epochs: 1 });
    const weights = join(shared, 'weights.pth');
    await writeFile(weights, torchFile(stylegan1State({ channels: [4, 4, 4, 4], width: 4 })));
    const fixtures = { data, run, files: (await readManifest(data)).files.slice(0, 2), weights };
    const total = {
      calls: 0,
      untyped: 0,
      crashes: [] as string[],
      reports: [] as string[],
      examples: [] as string[],
      missing: [] as string[],
    };
    for (let from = 0; from < count; from += kProcess) {
      const progress = join(shared, 'progress');
      const order = { ...fixtures, from, count: Math.min(kProcess, count - from), seed: kSeed, progress };
      const { status, text, output, reports } = await runSanitized('arguments', [JSON.stringify(order)], { flags: ['--expose-gc'] });
      total.reports.push(...reports);
      if (status !== 0) {
        const last = (await readFile(progress, 'utf8')).trim();
        total.crashes.push(`at or shortly before call ${last}\n${output.slice(-6000)}`);
        total.calls += Number(last.split(' ')[0]) - from;
        continue;
      }
      const outcome = JSON.parse(text) as Outcome;
      total.calls += outcome.calls;
      total.untyped += outcome.untyped + outcome.stray.length;
      total.examples.push(...outcome.examples, ...outcome.stray);
      total.missing = outcome.missing;
    }
    const { calls, crashes, untyped, reports, examples, missing } = total;
    const number = calls.toLocaleString('en-US');
    say(`${number} calls, ${crashes.length} crashes, ${untyped} untyped errors, ${reports.length} sanitizer reports`);
    expect(missing, 'exported, and never called here').toEqual([]);
    expect(crashes).toEqual([]);
    expect(reports).toEqual([]);
    expect(examples).toEqual([]);
    expect(untyped).toBe(0);
    expect(calls).toBe(count);
  },
);
