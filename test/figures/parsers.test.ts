// F2: whatever bytes a TypeScript parser is given, it accepts something sound or throws our error, at once and without claiming memory.
// parsers/ holds the parsers and their inputs, parsers.child.mjs judges them in processes of the built package.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { temporaryFolder } from '../support.ts';
import { runChild } from './child.ts';
import { figure } from './figure.ts';
import type { Outcome } from './parsers.child.mjs';

const kProcesses = 2;
/** Hardly ever collects in between, so that what a call allocates shows. */
const kFlags = ['--max-semi-space-size=128', '--max-old-space-size=1024'];

/** One process over its share of the inputs. */
async function feed(parser: string, first: number, count: number): Promise<Outcome> {
  const place = join(temporaryFolder(), 'place');
  const { outcome, crash } = await runChild<Outcome>(
    './parsers.child.mjs',
    [parser, ...[first, kProcesses, count].map(String), place],
    kFlags,
  );
  if (outcome && crash === '') return outcome;
  const failures = [`${readFileSync(place, 'utf8').trim()}: ${crash}`];
  return { inputs: 0, accepted: 0, worstMs: 0, worstBytes: 0, density: 0, slackMiB: 0, failures };
}

const thousands = (count: number): string => count.toLocaleString('en');

// The options have a million between them. YAML takes half a millisecond each: as many as there is time for.
const parsers: [name: string, what: string, ci: number, long: number][] = [
  ['safetensors', 'safetensors', 1_000_000, 40_000_000],
  ['checkpoint', 'manifest of a checkpoint', 1_000_000, 10_000_000],
  ['manifest', 'list of pictures', 1_000_000, 10_000_000],
  ['set', 'set.json of a data set', 300_000, 10_000_000],
  ['sets', 'sets.json of joined sets', 300_000, 10_000_000],
  ['table', 'groups.bin of a data set', 1_000_000, 10_000_000],
  ['csv', 'CSV file of pictures to pack', 60_000, 1_000_000],
  ['mat', 'landmarks in a MATLAB file', 30_000, 3_000_000],
  ['points', 'landmarks in a .pts file', 30_000, 10_000_000],
  ['labels', 'labels of action units', 30_000, 10_000_000],
  ['options', 'options by value', 500_000, 5_000_000],
  ['words', 'options by flags', 500_000, 5_000_000],
  ['yaml', 'options in YAML', 50_000, 1_000_000],
  ['log', 'log of a run', 1_000_000, 10_000_000],
  ['lock', 'lock of a run', 1_000_000, 10_000_000],
  ['transfer', 'result of a transfer', 20_000, 500_000],
  ['pickle', 'pickle of weights', 100_000, 1_000_000],
  ['torch', 'torch archive', 50_000, 1_000_000],
  ['stream', 'torch stream', 50_000, 1_000_000],
  ['npy', '.npy', 100_000, 1_000_000],
  ['allTypes', 'safetensors of all types', 100_000, 4_000_000],
];

for (const [parser, what, ci, long] of parsers) {
  figure(`F2 ${what}: hostile inputs are accepted whole or refused by name`, { ci, long, seconds: 400 }, async ({ count, say }) => {
    const parts = await Promise.all(Array.from({ length: kProcesses }, (_, first) => feed(parser, first, count)));
    const sum = (of: (part: Outcome) => number) => parts.reduce((total, part) => total + of(part), 0);
    const most = (of: (part: Outcome) => number) => Math.max(...parts.map(of));
    const failures = parts.flatMap((part) => part.failures);
    const [inputs, accepted] = [sum((part) => part.inputs), sum((part) => part.accepted)];
    const worst = (most((part) => part.worstBytes) / 2 ** 20).toFixed(2);
    say(
      `${what}: ${thousands(inputs)} inputs, ${failures.length} failures; ${thousands(accepted)} accepted; slowest ${most((part) => part.worstMs).toFixed(0)} ms; ` +
        `allocates twice the input and ${worst} of ${parts[0]!.slackMiB} MiB at most, long inputs ${most((part) => part.density).toFixed(0)} bytes a byte`,
    );
    expect(failures).toEqual([]);
    expect(inputs).toBeGreaterThanOrEqual(count);
    // Inputs that are all refused at the door, or all let through, test nothing.
    expect(accepted).toBeGreaterThan(count / 200);
    expect(inputs - accepted).toBeGreaterThan(count / 200);
  });
}
