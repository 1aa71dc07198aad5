// Real trainings that are killed at random moments, and with failing file calls on top; what the next start finds and cleans up.
import { expect } from 'vitest';
import { type Campaign, campaign } from './campaign.ts';
import { figure } from './figure.ts';

/** One campaign serves R1 and R6. */
let shared: Promise<Campaign> | undefined;

figure('R1 a kill at any moment of a training loses nothing', { ci: 100, long: 2000, seconds: 400 }, async ({ count, say }) => {
  shared ??= campaign(count);
  const { kills, runs, lost, differing, badLogs, early, inSave, inPrune } = await shared;
  say(
    `${kills} kills of ${runs} runs, ${lost.length} lost, ${differing.length} differing, ${badLogs.length} bad logs ` +
      `(${early} kills before the first step, ${inSave} while saving, ${inPrune} while pruning)`,
  );
  expect(lost).toEqual([]);
  expect(differing).toEqual([]);
  expect(badLogs).toEqual([]);
  expect(Math.min(kills - count, early, inSave - count / 20)).toBeGreaterThanOrEqual(0);
});

figure('R6 the next start removes what a killed process left', { ci: 100, long: 2000, seconds: 400 }, async ({ count, say }) => {
  shared ??= campaign(count);
  const { starts, planted, inSave, inPrune, leftovers } = await shared;
  say(`${leftovers.length} temporary files left after ${starts} starts (${inSave + inPrune} left by kills, ${planted} planted)`);
  expect(leftovers).toEqual([]);
  expect(Math.min(planted, inSave + inPrune)).toBeGreaterThan(0);
});

figure('R3 in a real training, with kills on top', { ci: 20, long: 500, seconds: 200 }, async ({ count, say }) => {
  const { kills, faults, runs, lost, differing, badLogs, leftovers } = await campaign(count, { withFaults: true });
  const silent = [...lost, ...badLogs, ...leftovers];
  say(`${faults} faults and ${kills} kills in ${runs} real runs, ${silent.length} silent, ${differing.length} damaged`);
  expect(silent).toEqual([]);
  expect(differing).toEqual([]);
  expect(faults).toBeGreaterThan(0);
});
