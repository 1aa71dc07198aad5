// What the native code promises without Node: its readers under a fuzzer, its threads under ThreadSanitizer, its allocations failing one by
// one. The programs are in test/native.
import { join } from 'node:path';
import { expect } from 'vitest';
import { chooseDevice } from '../../lib/native.ts';
import { temporaryFolder } from '../support.ts';
import { figure, isLong } from './figure.ts';
import { type FuzzTarget, fuzz } from './fuzzing.ts';
import { outcomeOf, testPrograms } from './programs.ts';

/** `seconds`: what `npm test` has for each, with two cores shared by two files; a long run has 20 times as much. It says how far it got. */
const targets: (FuzzTarget & { what: string; share: number; seconds: number; least: number })[] = [
  { name: 'graph', what: 'graph decoder', length: 64, share: 1, seconds: 32, least: 200_000 },
  { name: 'plan', what: 'plan decoder', length: 64, share: 1, seconds: 28, least: 200_000 },
  { name: 'header', what: 'JPEG header', length: 1024, share: 1, seconds: 28, seeded: true, least: 200_000 },
  { name: 'picture', what: 'JPEG picture', length: 1024, share: 0.2, seconds: 16, seeded: true, least: 100_000 },
  { name: 'shard', what: 'shard', length: 1024, share: 0.2, seconds: 14, least: 50_000 },
  { name: 'choices', what: "cuDNN's choices of a manifest", length: 256, share: 0.1, seconds: 6, least: 30_000 },
  { name: 'run', what: 'tiny accepted graphs trained', length: 192, share: 0.01, seconds: 8, least: 10_000 },
];

const millions = (count: number): string => (count >= 1e6 ? `${(count / 1e6).toFixed(1)} million` : count.toLocaleString('en'));

figure('F1 no bytes crash a native reader', { ci: 10_000_000, long: 500_000_000, seconds: 400 }, async ({ count, say, skip }) => {
  let folder = '';
  try {
    folder = testPrograms('fuzzer,address,undefined');
  } catch (error) {
    if (String(error).includes('libFuzzer was not found'))
      skip('clang++ with libFuzzer was not found (apt-get install clang libclang-rt-dev)');
    throw error;
  }
  const parts: string[] = [];
  const reports: string[] = [];
  for (const target of targets) {
    const inputs = Math.ceil(count * target.share);
    const done = await fuzz(folder, target, { inputs, seconds: target.seconds * (isLong ? 20 : 1) });
    const goal = done.inputs < inputs && target.share === 1 ? ` of ${millions(inputs)}` : '';
    parts.push(`${target.what} ${millions(done.inputs)}${goal} (${millions(done.accepted)} accepted, ${millions(done.perSecond)}/s)`);
    if (done.report) reports.push(`${target.what}: ${done.report}`);
    else if (done.inputs < target.least) reports.push(`${target.what}: only ${done.inputs} inputs`);
    else if (done.accepted === 0) reports.push(`${target.what}: no input was accepted`);
    if (reports.length > 0) break; // the rest can wait until this is mended
  }
  const crashes = reports.length === 0 ? '0 crashes, 0 hangs over 1 s' : reports.join('; ');
  say(`${crashes} under ASan and UBSan: ${parts.join(', ')}; libjpeg-turbo itself is not instrumented`);
  expect(reports).toEqual([]);
});

figure('T3 engines, loaders and the renderer race for nothing', { ci: 10, long: 100, seconds: 240 }, async ({ count, say }) => {
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

interface Failures {
  tries: number;
  code: number;
  bits: number;
  spared: number;
  oneDnn: number;
  /** 'create with oneDNN, always, at 12: SIGSEGV'. */
  crashes: string[];
  /** Errors of another code than OUT_OF_MEMORY. */
  others: string[];
}

/** Fails every allocation of one kind of call. A crash ends the process: the next one goes on behind it. */
async function failAllocations(phase: string, library: string, mode: string, total: Failures): Promise<void> {
  const folder = temporaryFolder();
  const where = `${phase} ${library ? 'with oneDNN' : 'in plain loops'}, ${mode}`;
  for (let first = 1; total.crashes.length < 20; ) {
    const { text, status } = await outcomeOf(join(testPrograms(), 'allocation'), [phase, library, folder, mode, String(first)]);
    const done = text.match(/done tries (\d+) answered \d+ unharmed \d+ code (\d+) bits (\d+) spared (\d+) oneDNN (\d+)/);
    const last = Number(text.match(/^k (\d+)$(?![\s\S]*^k \d+$)/m)?.[1] ?? first);
    total.others.push(...Array.from(text.matchAll(/^other error (.*)$/gm), (match) => `${where}: error ${match[1]}`));
    if (done) {
      const [tries, code, bits, spared, oneDnn] = done.slice(1).map(Number) as [number, number, number, number, number];
      total.tries += tries;
      total.code += code;
      total.bits += bits;
      total.spared += spared;
      total.oneDnn += oneDnn;
      return;
    }
    total.tries += last - first + 1;
    total.crashes.push(`${where}, at ${last}: ${status}`);
    first = last + 1;
  }
}

figure('M5 no failed allocation ends the process', { ci: 1, long: 5, seconds: 240 }, async ({ count, say }) => {
  const total: Failures = { tries: 0, code: 0, bits: 0, spared: 0, oneDnn: 0, crashes: [], others: [] };
  const calls = ['open', 'create', 'step', 'state', 'embed'];
  for (let round = 0; round < count; round++) {
    for (const library of ['', chooseDevice('cpu', 'fp32').library]) {
      for (const phase of calls.slice(library ? 1 : 0)) {
        for (const mode of ['once', 'always']) await failAllocations(phase, library, mode, total);
      }
    }
  }
  const { tries, crashes, bits, code, oneDnn, spared } = total;
  const left = `left out: ${oneDnn / count / 2} that oneDNN makes and does not check (each crashes it), ${spared / count / 2} of libgomp and the loader`;
  const worst = [...crashes, ...total.others].slice(0, 3).join('; ');
  say(
    `${tries} allocations failed one by one (${calls.join(', ')}; once and for good), ${crashes.length} crashes, ${bits} engines not disposable or not the same afterwards, ${code} errors other than OUT_OF_MEMORY; ${left}${worst && `; ${worst}`}`,
  );
  expect(total).toMatchObject({ crashes: [], bits: 0, code: 0 });
  expect(tries).toBeGreaterThan(1000);
});
