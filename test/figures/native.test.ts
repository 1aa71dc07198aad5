// What the native code promises without Node: its readers under a fuzzer, its threads under ThreadSanitizer, its allocations failing one by
// one. The programs are in test/native.
import { join } from 'node:path';
import { expect } from 'vitest';
import { temporaryFolder } from '../support.ts';
import { figure, isLong } from './figure.ts';
import { type FuzzTarget, fuzz } from './fuzzing.ts';
import { outcomeOf, testPrograms } from './programs.ts';

/** `seconds`: what `npm test` has for each, with two cores shared by two files; it says how far it got. */
const targets: (FuzzTarget & { what: string; share: number; seconds: number; least: number })[] = [
  { name: 'graph', what: 'graph decoder', length: 64, share: 1, seconds: 36, least: 200_000 },
  { name: 'plan', what: 'plan decoder', length: 64, share: 1, seconds: 32, least: 200_000 },
  { name: 'header', what: 'JPEG header', length: 1024, share: 1, seconds: 32, seeded: true, least: 200_000 },
  { name: 'picture', what: 'JPEG picture', length: 1024, share: 0.2, seconds: 20, seeded: true, least: 100_000 },
  { name: 'run', what: 'tiny accepted graphs trained', length: 192, share: 0.01, seconds: 12, least: 10_000 },
];

const millions = (count: number): string => (count >= 1e6 ? `${(count / 1e6).toFixed(1)} million` : count.toLocaleString('en'));

figure('F1 no bytes crash a native reader', { ci: 10_000_000, long: 500_000_000, seconds: 400 }, async ({ count, say, skip }) => {
  let folder = '';
  try {
    folder = testPrograms('fuzzer,address,undefined');
  } catch (error) {
    if (String(error).includes('libFuzzer was not found')) skip('clang++ with libFuzzer was not found (apt-get install clang)');
    throw error;
  }
  const parts: string[] = [];
  const reports: string[] = [];
  for (const target of targets) {
    const inputs = Math.ceil(count * target.share);
    const done = await fuzz(folder, target, { inputs, seconds: isLong ? 0 : target.seconds });
    const goal = done.inputs < inputs && target.share === 1 ? ` of ${millions(inputs)}` : '';
    parts.push(`${target.what} ${millions(done.inputs)}${goal} (${millions(done.accepted)} accepted, ${millions(done.perSecond)}/s)`);
    if (done.report) reports.push(`${target.what}: ${done.report}`);
    else if (done.inputs < target.least) reports.push(`${target.what}: only ${done.inputs} inputs`);
    else if (done.accepted === 0) reports.push(`${target.what}: no input was accepted`);
  }
  const crashes = reports.length === 0 ? '0 crashes, 0 hangs over 1 s' : reports.join('; ');
  say(`${crashes} under ASan and UBSan: ${parts.join(', ')}; libjpeg-turbo itself is not instrumented; there is no shard reader yet`);
  expect(reports).toEqual([]);
});

figure('T3 engines, loaders and the renderer race for nothing', { ci: 20, long: 2_000, seconds: 180 }, async ({ count, say }) => {
  const program = join(testPrograms('thread'), 'races');
  const run = [program, String(count), temporaryFolder()];
  const options = { ...process.env, TSAN_OPTIONS: 'halt_on_error=0:history_size=4' };
  let { text, status } = await outcomeOf(run[0]!, run.slice(1), options);
  // Where the kernel spreads addresses wider than the sanitizer's map allows, it says so at once and wants them fixed.
  if (text.includes('unexpected memory mapping')) ({ text, status } = await outcomeOf('setarch', ['-R', ...run], options));
  const reports = text.split('WARNING: ThreadSanitizer').length - 1;
  const commands = text.match(/^(\d+) commands$/m)?.[1] ?? 'not all';
  const first = text.match(/SUMMARY: .*/)?.[0] ?? (status === 0 ? '' : `ended with ${status}: ${text.slice(-300)}`);
  say(
    `${reports} reports of ThreadSanitizer in ${count} rounds of 7 threads (${commands} commands; plain loops: libgomp is not instrumented)${first && `; ${first}`}`,
  );
  expect(status).toBe(0);
  expect(reports).toBe(0);
});
