// Whole runs on CUDA through the command line: the search for the GPU, the loop that tells losses late, checkpoints, resume. On a machine whose
// driver and GPU the CPU plays, or on a real one (cuda.ts).
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import type { TrainOptions } from '../lib/config.ts';
import { latestCheckpoint } from '../lib/train/checkpoint.ts';
import { cudaBackend, cudaName, isOnGpu, noCuda } from './cuda.ts';
import { sharedFolder, smallFaces, smallRun } from './faces.ts';
import { machine } from './native/cuda/machine.ts';
import { temporaryFolder } from './support.ts';

const library = cudaBackend();
const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const folder = sharedFolder();
/** Of a run. A real GPU would be through 12 before anybody could kill it. */
const kSteps = isOnGpu ? 300 : 12;

describe.skipIf(library === undefined)(library ? `runs on ${cudaName}` : `runs on CUDA: ${noCuda}`, () => {
  let data = '';
  const env: NodeJS.ProcessEnv = { ...process.env, COMFACE_CACHE: join(folder, 'cache') };
  beforeAll(async () => {
    data = await smallFaces(folder);
    if (isOnGpu) return;
    const there = machine({ driver: true });
    there.addCpu();
    there.addBackend({ emulated: dirname(library!) });
    Object.assign(env, { LD_LIBRARY_PATH: there.env.LD_LIBRARY_PATH, COMFACE_NATIVE: there.env.COMFACE_NATIVE });
  });

  interface Ended {
    status: number | null;
    text: string;
  }

  /** Runs `comface train`; `until` is asked now and then, and a process that it says yes to is killed. */
  async function run(out: string, more: Partial<TrainOptions> = {}, until?: () => boolean): Promise<Ended> {
    const config = join(out, '..', 'config.json');
    writeFileSync(
      config,
      JSON.stringify({ ...smallRun, data, out, pairsPerEpoch: (kSteps * smallRun.pairs) / smallRun.epochs, ...more, device: 'cuda' }),
    );
    const child = spawn(process.execPath, [cli, 'train', '--config', config], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        text += chunk;
      });
    }
    const timer = until && setInterval(() => until() && child.kill('SIGKILL'), 5);
    const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
    clearInterval(timer);
    return { status, text };
  }

  const hasSaved = (out: string) => (): boolean => {
    const saved = join(out, 'checkpoints');
    return existsSync(saved) && readdirSync(saved).some((name) => /^step-\d+$/.test(name));
  };

  const log = (out: string): { type: string; step?: number; inter?: number; intra?: number }[] =>
    readFileSync(join(out, 'log.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));

  /** What a run ended in: hash of its weights and moments, its losses, its manifest. */
  async function end(out: string) {
    const checkpoint = await latestCheckpoint(out);
    const at = join(out, 'checkpoints', `step-${String(checkpoint!.step).padStart(8, '0')}`);
    const hash = createHash('sha256');
    for (const file of ['weights.safetensors', 'optimizer.safetensors']) hash.update(readFileSync(join(at, file)));
    const losses = log(out)
      .filter(({ type }) => type === 'step')
      .map(({ step, inter, intra }) => [step, inter, intra]);
    return { step: checkpoint!.step, hash: hash.digest('hex'), losses, info: checkpoint!.info as Record<string, unknown> };
  }

  test('two runs are the same, bit for bit, and one that is killed goes on to the same end', async () => {
    const first = join(temporaryFolder(), 'run');
    const more = { precision: 'bf16', checkpointEverySteps: 2 } as const;
    const { status, text } = await run(first, more);
    expect(status, text).toBe(0);
    const expected = await end(first);
    expect(expected.step).toBe(kSteps);
    expect(expected.losses).toHaveLength(kSteps);
    expect(JSON.stringify(expected.info)).toMatch(isOnGpu ? /cuDNN/ : /emulated H200/);
    expect(JSON.stringify(expected.info)).toMatch(/choices/);
    const again = join(temporaryFolder(), 'run');
    expect((await run(again, more)).status).toBe(0);
    expect((await end(again)).hash).toBe(expected.hash);
    const killed = join(temporaryFolder(), 'run');
    expect((await run(killed, more, hasSaved(killed))).status).toBe(null);
    const resumed = await run(killed, { ...more, resume: true });
    expect(resumed.status, resumed.text).toBe(0);
    const { hash, losses } = await end(killed);
    expect(losses).toEqual(expected.losses);
    expect(hash).toBe(expected.hash);
  });

  test('losses that are told every 5 steps are those that are told every step', async () => {
    const [often, rarely] = [join(temporaryFolder(), 'run'), join(temporaryFolder(), 'run')];
    expect((await run(often, { precision: 'fp32' })).status).toBe(0);
    expect((await run(rarely, { precision: 'fp32', logEverySteps: 5 })).status).toBe(0);
    const [a, b] = [await end(often), await end(rarely)];
    expect(b.hash).toBe(a.hash);
    expect(b.losses.length).toBeLessThan(a.losses.length);
    expect(b.losses.length).toBeGreaterThan(1);
  });

  test('fp16 keeps its loss scale over a resume', async () => {
    const whole = join(temporaryFolder(), 'run');
    const more = { precision: 'fp16', checkpointEverySteps: 3 } as const;
    expect((await run(whole, more)).status).toBe(0);
    const killed = join(temporaryFolder(), 'run');
    expect((await run(killed, more, hasSaved(killed))).status).toBe(null);
    expect((await run(killed, { ...more, resume: true })).status).toBe(0);
    expect((await end(killed)).hash).toBe((await end(whole)).hash);
  });

  test('a batch in chunks trains', async () => {
    const out = join(temporaryFolder(), 'run');
    const { status, text } = await run(out, { precision: 'bf16', gradientCache: 2, deterministic: false });
    expect(status, text).toBe(0);
    const { losses, info } = await end(out);
    expect(info.repeatable).toMatch(/`deterministic` is off/);
    expect(losses.flat().every((x) => Number.isFinite(x))).toBe(true);
  });
});
