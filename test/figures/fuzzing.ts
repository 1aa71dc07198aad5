// Runs one libFuzzer target of test/native/fuzz and reads its figures.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isLong } from './figure.ts';
import { outcomeOf } from './programs.ts';

const corpora = fileURLToPath(new URL('../../build/fuzz', import.meta.url));
const seeds = fileURLToPath(new URL('../native/fuzz/seeds', import.meta.url));

export interface FuzzTarget {
  /** build/tests-sanitize-.../fuzz-<name>. */
  name: string;
  /** Longest input in bytes. */
  length: number;
  /** Whether it starts from the pictures in test/native/fuzz/seeds; else from nothing. */
  seeded?: boolean;
}

export interface FuzzResult {
  inputs: number;
  /** Inputs that the reader took; the others it refused with an error of ours. */
  accepted: number;
  perSecond: number;
  /** '' or what a sanitizer, libFuzzer or a requirement of the target reported. */
  report: string;
}

/**
 * @param folder Where the built targets are.
 * @param seconds Stop after so many even if there are inputs left; 0: never.
 */
export async function fuzz(
  folder: string,
  { name, length, seeded = false }: FuzzTarget,
  { inputs, seconds }: { inputs: number; seconds: number },
): Promise<FuzzResult> {
  const corpus = join(corpora, name);
  if (!isLong) rmSync(corpus, { recursive: true, force: true }); // long runs go on from what they found before
  mkdirSync(corpus, { recursive: true });
  const limits = ['-timeout=1', '-rss_limit_mb=1024', '-malloc_limit_mb=256', `-max_len=${length}`];
  const amount = [`-runs=${inputs}`, ...(seconds > 0 ? [`-max_total_time=${seconds}`] : [])];
  const args = ['-seed=1', ...limits, ...amount, '-print_final_stats=1', '-verbosity=1', `-artifact_prefix=${corpus}-`];
  // Inside libjpeg-turbo nothing counts coverage, so the corpus stays what it is: mutations have to stay near it.
  const folders = seeded ? ['-mutate_depth=2', corpus, seeds] : [corpus];
  const env = { ...process.env, ASAN_OPTIONS: 'malloc_context_size=2:quarantine_size_mb=8:detect_leaks=0' };
  const started = performance.now();
  const { text, status } = await outcomeOf(join(folder, `fuzz-${name}`), [...args, ...folders], env);
  const stat = (label: string): number => Number(text.match(new RegExp(`stat::${label}:\\s+(\\d+)`))?.[1] ?? 0);
  const done = stat('number_of_executed_units');
  return {
    inputs: done,
    accepted: stat('accepted'),
    perSecond: Math.round((1000 * done) / (performance.now() - started)),
    report: status === 0 ? '' : reportOf(text),
  };
}

/** What went wrong and the input that did it. */
function reportOf(text: string): string {
  const lines = text.split('\n').filter((line) => /REQUIREMENT FAILED|runtime error:|ERROR: |SUMMARY: |^Base64: /.test(line));
  return lines.slice(0, 4).join('; ') || text.slice(-300);
}
