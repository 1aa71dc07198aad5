// Signals and closed pipes as the command line meets them, with the clock running: child processes of the built package, alone on the machine.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { generate } from '../../../lib/data/procedural.ts';
import { latestCheckpoint } from '../../../lib/train/checkpoint.ts';
import { sharedFolder, smallFaces } from '../../faces.ts';
import { temporaryFolder } from '../../support.ts';
import { drawer } from '../damages.ts';
import { figure } from '../figure.ts';

const cli = fileURLToPath(new URL('../../../dist/cli.js', import.meta.url));
const shared = sharedFolder();
let data = '';
beforeAll(async () => {
  data = await smallFaces(shared);
});

const common =
  '--backbone resnet18 --device cpu --precision fp32 --threads 1 --projection.out 16 --epochs 100000 --log-every-steps 1'.split(' ');
const flags = (text: string): string[] => [...common, ...text.split(' ')];
/** Milliseconds a step and 8 MB a checkpoint; ResNet-18 as it is, 135 MB a checkpoint; a step of seconds. */
const tiny = flags('--width 16 --size 32 --pairs 4 --pairs-per-epoch 40 --checkpoint-every-steps 3');
const full = flags('--width 64 --size 64 --pairs 8 --pairs-per-epoch 80 --checkpoint-every-steps 3');
const slow = flags('--width 64 --size 112 --pairs 54 --pairs-per-epoch 540');

interface Running {
  child: ChildProcess;
  /** What it has printed so far. */
  texts: { out: string; errors: string };
  /** Exit code, or the signal that ended it, and when. */
  end: Promise<{ code: number | string | null; at: number }>;
}

function start(...args: string[]): Running {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = { out: '', errors: '' };
  child.stdout.on('data', (text) => {
    texts.out += text;
  });
  child.stderr.on('data', (text) => {
    texts.errors += text;
  });
  const exit = once(child, 'exit').then(([code, signal]: (number | string | null)[]) => ({ code: signal ?? code!, at: performance.now() }));
  return { child, texts, end: Promise.all([exit, once(child, 'close')]).then(([how]) => how) };
}

/** Starts a training and resolves when its first step is under way. */
async function training(run: string, how: string[], from = data): Promise<Running> {
  const running = start('train', '--data', from, '--out', run, ...how);
  while (!/\d steps\.\n/.test(running.texts.errors)) {
    if (running.child.exitCode !== null) throw new Error(running.texts.errors);
    await sleep(5);
  }
  return running;
}

/** The last step that was done, and how many seconds a step took. */
function lastStep(run: string, pairs: number): { step: number; seconds: number } {
  const lines = readFileSync(join(run, 'log.jsonl'), 'utf8').trim().split('\n');
  const steps = lines.map((line) => JSON.parse(line)).filter(({ type }) => type === 'step');
  return { step: steps.at(-1)?.step ?? 0, seconds: steps.length > 0 ? pairs / steps.at(-1).pairsPerSecond : 0 };
}

figure('R7 SIGTERM saves and ends within one step and 2 s', { ci: 10, long: 200, seconds: 120 }, async ({ count, say }) => {
  const late: number[] = [];
  const wrong: string[] = [];
  for (let number = 0; number < count; number++) {
    const isFull = number % 2 === 1;
    const run = join(temporaryFolder(), 'run');
    const { child, texts, end } = await training(run, isFull ? full : tiny);
    await sleep(drawer(number)(isFull ? 2500 : 500));
    const sent = performance.now();
    child.kill('SIGTERM');
    const { code, at } = await end;
    const { step, seconds } = lastStep(run, isFull ? 8 : 4);
    late.push((at - sent) / 1000 - seconds);
    const found = await latestCheckpoint(run);
    if (code !== 'SIGTERM' || found?.step !== step || !texts.errors.includes('saved')) {
      wrong.push(`${code} after step ${step}, saved ${found?.step}: ${texts.errors}`);
    }
    if (readdirSync(run).includes('run.lock')) wrong.push('the lock is still there');
  }
  late.sort((a, b) => a - b);
  const p99 = late[Math.ceil(0.99 * late.length) - 1]!;
  const times = `p50 ${late[late.length >> 1]!.toFixed(2)} s, p99 ${p99.toFixed(2)} s, worst ${late.at(-1)!.toFixed(2)} s beyond one step`;
  say(`${count} SIGTERMs of ResNet-18s (8 and 135 MB a checkpoint), ${wrong.length} without a checkpoint of the last step; ${times}`);
  expect(wrong).toEqual([]);
  expect(p99).toBeLessThanOrEqual(2);
});

describe('signals', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'a second %s in the middle of a step ends at once, and the folder is free',
    async (signal) => {
      const run = join(temporaryFolder(), 'run');
      const { child, texts, end } = await training(run, slow);
      child.kill(signal);
      await sleep(500);
      expect(child.exitCode).toBe(null);
      const sent = performance.now();
      child.kill(signal);
      const how = await end;
      expect(how.code).toBe(signal);
      expect(how.at - sent).toBeLessThan(500);
      expect(texts.errors).toContain('once more to stop at once');
      const again = await training(run, [...tiny, '--resume']);
      again.child.kill('SIGTERM');
      expect((await again.end).code).toBe('SIGTERM');
    },
  );

  test('one Ctrl+C that npm passes on as well counts once: the run is saved', async () => {
    const run = join(temporaryFolder(), 'run');
    const { child, texts, end } = await training(run, full);
    child.kill('SIGINT');
    await sleep(20);
    child.kill('SIGINT');
    const { code } = await end;
    expect([code, texts.out, texts.errors.includes('saved')]).toEqual(['SIGINT', '', true]);
    expect(await latestCheckpoint(run)).not.toBe(null);
  });

  test('SIGTERM does not wait for a long validation', async () => {
    const folder = temporaryFolder();
    const many = join(folder, 'faces');
    await generate({ out: many, format: 'files', subjects: 60, attributes: ['smile'], alphas: 5, size: 32 });
    const run = join(folder, 'run');
    const how = flags('--width 64 --size 128 --pairs 2 --pairs-per-epoch 2 --validation 0.9 --checkpoint-every-steps 1000');
    const { child, end } = await training(run, how, many);
    await expect.poll(() => lastStep(run, 2).step, { timeout: 30_000 }).toBe(1);
    await sleep(100);
    const sent = performance.now();
    child.kill('SIGTERM');
    const { code, at } = await end;
    expect([code, (await latestCheckpoint(run))?.step]).toEqual(['SIGTERM', lastStep(run, 2).step]);
    expect((at - sent) / 1000).toBeLessThanOrEqual(2 + lastStep(run, 2).seconds);
  });
});

describe('a reader that goes away', () => {
  test('before the help is printed: code 0, nothing to complain of', async () => {
    const { child, texts, end } = start('--help');
    child.stdout!.destroy();
    expect((await end).code).toBe(0);
    expect(texts.errors).toBe('');
  });

  test('in the middle of a training, of results and progress alike: the training goes on to its end', async () => {
    const run = join(temporaryFolder(), 'run');
    const { child, end } = await training(run, [...tiny, '--epochs', '3']);
    child.stdout!.destroy();
    child.stderr!.destroy();
    expect((await end).code).toBe(0);
    expect((await latestCheckpoint(run))?.step).toBe(30);
  });
});
