// What the native code promises without Node: its readers under a fuzzer, its threads under ThreadSanitizer, its allocations failing one by
// one. The programs are in test/native.
import { expect } from 'vitest';
import { figure, isLong } from './figure.ts';
import { type FuzzTarget, fuzz } from './fuzzing.ts';
import { testPrograms } from './programs.ts';

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
