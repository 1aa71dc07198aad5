// Whole small runs: events, log, locks; what a run goes on with, with a warning or without, and what it refuses. Figure R4 stops a run everywhere.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { TrainOptions } from '../lib/config.ts';
import { filesOf } from '../lib/data/dataset.ts';
import { splitSubjects } from '../lib/data/pairs.ts';
import { generate } from '../lib/data/procedural.ts';
import { native } from '../lib/native.ts';
import { latestCheckpoint, loadCheckpoint, saveCheckpoint } from '../lib/train/checkpoint.ts';
import { type TrainEvent, type TrainResult, train } from '../lib/train/train.ts';
import { sharedFolder, smallFaces, smallRun } from './faces.ts';
import { temporaryFolder } from './support.ts';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const kSteps = 12;
const noAvx512 = 'bf16 needs AVX-512: run this on a processor that has it';
const folder = sharedFolder();
let data = '';
beforeAll(async () => {
  data = await smallFaces(folder);
});

const optionsOf = (out: string, more: Partial<TrainOptions> = {}): TrainOptions => ({ ...smallRun, data, out, ...more });

async function digest(checkpoint: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['weights.safetensors', 'optimizer.safetensors']) hash.update(await readFile(join(checkpoint, name)));
  return hash.digest('hex');
}

async function whole(more: Partial<TrainOptions> = {}): Promise<string> {
  const { path, step } = await train(optionsOf(join(temporaryFolder(), 'run'), more));
  expect(step).toBe(smallRun.epochs * 4);
  return digest(path);
}

/** Aborts once step `at` is done; 0: before the first. Resolves with the events. */
async function stopAt(options: TrainOptions, at: number): Promise<TrainEvent[]> {
  const controller = new AbortController();
  const reason = new Error('stopped by the test');
  const events: TrainEvent[] = [];
  const watch = async () => {
    for await (const event of train(options, { signal: controller.signal })) {
      events.push(event);
      if ((event.type === 'start' && at === event.step) || (event.type === 'step' && event.step === at)) controller.abort(reason);
    }
  };
  await expect(watch()).rejects.toBe(reason);
  return events;
}

describe('the same seed gives the same bits', () => {
  let expected = '';
  beforeAll(async () => {
    expected = await digest((await train(optionsOf(join(folder, 'expected')))).path);
  });

  test('again, with 1 and with 2 loader threads, and however often it saves and logs', async () => {
    expect(await whole({ loaderThreads: 1 })).toBe(expected);
    expect(await whole({ loaderThreads: 2, checkpointEverySteps: 5, logEverySteps: 7 })).toBe(expected);
  });

  test('but not for another seed', async () => {
    expect(await whole({ seed: 2 })).not.toBe(expected);
  });

  test('after stops at every single step of one run', async () => {
    const out = join(temporaryFolder(), 'run');
    for (let step = 1; step < kSteps; step += 1) await stopAt(optionsOf(out, { resume: true }), step);
    expect(await digest((await train(optionsOf(out, { resume: true }))).path)).toBe(expected);
  });

  test('after a run was left in the middle, from its last checkpoint', async () => {
    const out = join(temporaryFolder(), 'run');
    for await (const event of train(optionsOf(out, { checkpointEverySteps: 3 }))) if (event.type === 'step' && event.step === 8) break;
    expect((await latestCheckpoint(out))?.step).toBeLessThanOrEqual(6);
    expect(await digest((await train(optionsOf(out, { resume: true }))).path)).toBe(expected);
  });

  test('in bf16 too, stopped or not', async ({ skip }) => {
    skip(!native().module.cpu.avx512, noAvx512);
    const bf16 = { precision: 'bf16' } as const;
    const one = await whole(bf16);
    expect(one).not.toBe(expected);
    for (const step of [2, 7]) {
      const out = join(temporaryFolder(), 'run');
      await stopAt(optionsOf(out, bf16), step);
      expect(await digest((await train(optionsOf(out, { ...bf16, resume: true }))).path)).toBe(one);
    }
  });

  test("with the run's own choice of convolutions, whatever this machine chooses now", async ({ skip }) => {
    skip(!native().module.cpu.avx512, 'Winograd needs AVX-512: run this on a processor that has it');
    const wide = { width: 64, pairs: 8, pairsPerEpoch: 16 } as const;
    const cache = temporaryFolder();
    vi.stubEnv('COMFACE_CACHE', cache);
    onTestFinished(() => void vi.unstubAllEnvs());
    const { path } = await train(optionsOf(join(temporaryFolder(), 'run'), wide));
    const out = join(temporaryFolder(), 'run');
    await stopAt(optionsOf(out, wide), 2);
    const file = join(cache, (await readdir(cache)).find((name) => name.startsWith('plans-'))!);
    const text = await readFile(file, 'utf8');
    expect(text).toMatch(/^winograd\t/m);
    await writeFile(file, text.replace(/^winograd\t/gm, 'direct\t'));
    expect(await digest((await train(optionsOf(out, { ...wide, resume: true }))).path)).toBe(await digest(path));
    const another = await train(optionsOf(join(temporaryFolder(), 'run'), wide));
    expect(await digest(another.path), 'a run that begins now takes the others').not.toBe(await digest(path));
  });
});

describe('a run', () => {
  test('tells what happens in order, and logs the same', async () => {
    const out = join(temporaryFolder(), 'run');
    const events: TrainEvent[] = [];
    for await (const event of train(optionsOf(out, { checkpointEverySteps: 5 }))) events.push(event);
    const order = events
      .map((event) => `${event.type}${'step' in event ? ` ${event.step}` : ''}`)
      .filter((text) => !text.startsWith('checkpoint'));
    const steps = (from: number) => [...Array.from({ length: 4 }, (_, i) => `step ${from + i}`), `validation ${from + 3}`];
    expect(order).toEqual(['start 0', 'stage 1', ...steps(1), 'stage 5', ...steps(5), 'stage 9', ...steps(9), 'end 12']);
    expect(events.flatMap((event) => (event.type === 'checkpoint' ? [event.step] : []))).toEqual([5, 10, 12]);
    expect(events.flatMap((event) => (event.type === 'stage' ? [[event.epoch, event.stage, event.range]] : []))).toEqual([
      [1, 1, 10],
      [2, 2, 5],
      [3, 3, 10 / 3],
    ]);
    for (const event of events) {
      if (event.type !== 'step') continue;
      expect([event.steps, event.epoch, event.range]).toEqual([kSteps, Math.ceil(event.step / 4), 10 / Math.ceil(event.step / 4)]);
      expect(event.loss).toBeCloseTo(event.inter + event.intra, 6);
      expect(event.inter > 0 && event.intra >= 0 && event.pairsPerSecond > 0 && event.secondsLeft >= 0).toBe(true);
    }
    const log = (await readFile(join(out, 'log.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    expect(log).toEqual(JSON.parse(JSON.stringify(events)));
    expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).toMatchObject({ temperature: 0.1, pairs: 4, out });
    expect((await readdir(out)).sort()).toEqual(['checkpoints', 'config.json', 'log.jsonl']);
  });

  test('validates on the subjects kept out, without touching what is trained and without stopping at a broken picture', async () => {
    const folder = temporaryFolder();
    const data = join(folder, 'faces');
    const made = await generate({ out: data, format: 'files', subjects: 20, attributes: ['smile'], alphas: 5, size: 32 });
    const { validation } = splitSubjects(filesOf(made), 0.1, 1);
    const run = async (name: string): Promise<TrainEvent[]> => {
      const events: TrainEvent[] = [];
      for await (const event of train(optionsOf(join(folder, name), { data, epochs: 1, seed: 1, validation: 0.1 }))) events.push(event);
      return events;
    };
    const whole = await run('whole');
    const broken = made.files[made.subject.indexOf(validation[0]!)]!;
    await writeFile(broken, (await readFile(broken)).subarray(0, 300));
    const torn = await run('torn');
    const figures = [whole, torn].map((events) => events.flatMap((event) => (event.type === 'validation' ? [event] : [])));
    expect(figures[0]![0]).toMatchObject({ epoch: 1, pairs: 10 });
    expect(figures[1]![0]!.pairs).toBeLessThan(10);
    expect(figures.flat().every(({ mae, correlation }) => mae > 0 && Math.abs(correlation) <= 1)).toBe(true);
    const losses = [whole, torn].map((events) => events.flatMap((event) => (event.type === 'step' ? [event.loss] : [])));
    expect(losses[1]).toEqual(losses[0]);
  });

  test('may be awaited without a look at its events, twice, and iterated first', async () => {
    const run = train(optionsOf(join(temporaryFolder(), 'run'), { epochs: 1 }));
    for await (const event of run) expect(event.type).toBeTypeOf('string');
    const result: TrainResult = await run;
    expect(result).toMatchObject({ step: 4, broken: 0 });
    expect(await run).toBe(result);
    expect((await loadCheckpoint(result.path)).step).toBe(4);
  });

  test('that is left early frees its folder and has no result', async () => {
    const out = join(temporaryFolder(), 'run');
    const run = train(optionsOf(out));
    for await (const event of run) if (event.type === 'step') break;
    await expect(run).rejects.toMatchObject({ code: 'DISPOSED' });
    expect((await train(optionsOf(out, { epochs: 1 }))).step).toBe(4);
  });

  test('keeps another out of its folder: BUSY', async () => {
    const out = join(temporaryFolder(), 'run');
    let met = false;
    for await (const event of train(optionsOf(out, { epochs: 1 }))) {
      if (event.type !== 'step' || met) continue;
      met = true;
      await expect(train(optionsOf(out, { resume: true }))).rejects.toMatchObject({ code: 'BUSY' });
    }
    expect(met).toBe(true);
  });

  test('that is aborted before it starts makes nothing', async () => {
    const parent = temporaryFolder();
    const reason = new Error('early');
    await expect(train(optionsOf(join(parent, 'run')), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await readdir(parent)).toEqual([]);
  });

  test('without one of the two heads learns with the other', async () => {
    for (const [left, other] of [
      ['interPersonal', 'intra'],
      ['intraPersonal', 'inter'],
    ] as const) {
      const result = await train(optionsOf(join(temporaryFolder(), 'run'), { [left]: 0, epochs: 1 }));
      expect([Number.isFinite(result[other]), Number.isNaN(other === 'intra' ? result.inter : result.intra)]).toEqual([true, true]);
    }
    await expect(train(optionsOf(join(temporaryFolder(), 'run'), { interPersonal: 0, intraPersonal: 0 }))).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
    });
  });
});

describe('a finished or stopped run', () => {
  test('is not started over, nor gone on with under other options or on other data', async () => {
    const out = join(temporaryFolder(), 'run');
    await stopAt(optionsOf(out), 2);
    const before = await readFile(join(out, 'log.jsonl'));
    await expect(train(optionsOf(out))).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringContaining('step 2'),
      hint: expect.stringContaining('resume'),
    });
    await expect(train(optionsOf(out, { resume: true, temperature: 0.5 }))).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(/0\.1 for `temperature`.*0\.5/),
    });
    const other = temporaryFolder();
    await smallFaces(other);
    const manifest = join(other, 'data', 'manifest.jsonl');
    await writeFile(manifest, (await readFile(manifest, 'utf8')).replace('"alpha":-5', '"alpha":-4.5'));
    await expect(train(optionsOf(out, { resume: true, data: join(other, 'data') }))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/manifest has changed/),
    });
    expect(await readFile(join(out, 'log.jsonl'))).toEqual(before);
  });

  test('goes on in more epochs, and a finished one ends at once', async () => {
    const out = join(temporaryFolder(), 'run');
    await train(optionsOf(out, { epochs: 1 }));
    expect((await train(optionsOf(out, { epochs: 1, resume: true }))).step).toBe(4);
    expect((await train(optionsOf(out, { epochs: 2, resume: true }))).step).toBe(8);
  });

  test('that was stopped at the end of an epoch validates it once, when it goes on', async () => {
    const out = join(temporaryFolder(), 'run');
    const validations = async (epochs: number) => {
      const found: number[] = [];
      for await (const event of train(optionsOf(out, { epochs, resume: true }))) if (event.type === 'validation') found.push(event.step);
      return found;
    };
    expect((await stopAt(optionsOf(out), 4)).filter(({ type }) => type === 'validation')).toEqual([]);
    expect(await validations(1)).toEqual([4]);
    expect(await validations(1)).toEqual([]);
    expect(await validations(2)).toEqual([8]);
  });

  test('passes over a damaged checkpoint with a warning', async () => {
    const out = join(temporaryFolder(), 'run');
    const { path } = await train(optionsOf(out, { epochs: 1, checkpointEverySteps: 2 }));
    await appendFile(join(path, 'weights.safetensors'), 'x');
    const events: TrainEvent[] = [];
    for await (const event of train(optionsOf(out, { epochs: 1, resume: true }))) events.push(event);
    expect(events[0]).toMatchObject({ type: 'warning', message: expect.stringContaining('weights.safetensors') });
    expect(events[1]).toMatchObject({ type: 'start', step: 2 });
  });
});

describe('what sets the last bits', () => {
  const warningsOf = async (options: TrainOptions): Promise<string[]> => {
    const warnings: string[] = [];
    for await (const event of train(options)) if (event.type === 'warning') warnings.push(event.message);
    return warnings;
  };

  test('is stated in the manifest of a checkpoint', async () => {
    const { path } = await train(optionsOf(join(temporaryFolder(), 'run'), { epochs: 1 }));
    const { info } = JSON.parse(await readFile(join(path, 'manifest.json'), 'utf8'));
    expect(info).toMatchObject({
      engine: expect.stringMatching(/^oneDNN [\d.]+ \w+, \w+, fp32, 1 threads$/),
      cpu: expect.stringMatching(/./),
      repeatable: expect.stringMatching(/same bits.* where version, engine .*, cpu and choices are the same.* warning/),
    });
  });

  test('is warned of where it changes: compute threads, but not loader threads', async () => {
    const out = join(temporaryFolder(), 'run');
    await train(optionsOf(out, { epochs: 1, loaderThreads: 1 }));
    expect(await warningsOf(optionsOf(out, { epochs: 1, resume: true, loaderThreads: 2 }))).toEqual([]);
    const [warning, ...more] = await warningsOf(optionsOf(out, { epochs: 2, resume: true, threads: 2 }));
    expect(warning).toMatch(/engine .*1 threads.* goes on with .*2 threads.*last bits may differ/);
    expect(more).toEqual([]);
  });

  test('is warned of where convolutions were chosen otherwise', async () => {
    const out = join(temporaryFolder(), 'run');
    const good = await loadCheckpoint((await train(optionsOf(out, { epochs: 1 }))).path);
    await saveCheckpoint(
      out,
      { ...good, info: { ...good.info, choices: 'winograd\tforward of another layer\n' }, step: good.step + 1 },
      { keep: 3 },
    );
    expect(await warningsOf(optionsOf(out, { epochs: 2, resume: true }))).toEqual([expect.stringMatching(/other choices of convolutions/)]);
  });

  test('is warned of where oneDNN may use fewer instructions, and precision auto then is fp32', async ({ skip }) => {
    skip(!native().module.cpu.avx512, noAvx512);
    const out = join(temporaryFolder(), 'run');
    const config = join(out, '..', 'config.json');
    const capped = { ...process.env, ONEDNN_MAX_CPU_ISA: 'AVX2' };
    const command = [cli, 'train', '--config', config];
    await train(optionsOf(out, { epochs: 1 }));
    await writeFile(config, JSON.stringify(optionsOf(out, { epochs: 1, resume: true })));
    const { stdout, stderr, status } = spawnSync(process.execPath, command, { env: capped, encoding: 'utf8' });
    expect([status, stdout + stderr]).toEqual([0, expect.stringMatching(/avx512.* goes on with .*avx2.*last bits may differ/)]);

    const other = join(temporaryFolder(), 'run');
    await writeFile(config, JSON.stringify(optionsOf(other, { epochs: 1, precision: 'auto' })));
    execFileSync(process.execPath, command, { env: capped, stdio: 'ignore' });
    expect((await latestCheckpoint(other))?.info).toMatchObject({ precision: 'fp32', engine: expect.stringMatching(/avx2, avx2, fp32/) });
  });
});

test.each(['conv1.weight', 'projection.2.weight', 'change.weight'])(
  'a run whose %s explodes ends with NOT_FINITE in the next step, and the checkpoint before loads',
  async (name) => {
    const out = join(temporaryFolder(), 'run');
    const { path } = await train(optionsOf(out, { epochs: 1 }));
    const good = await loadCheckpoint(path);
    const weights = new Map(good.weights);
    const tensor = weights.get(name)!;
    if (tensor.dtype !== 'F32') throw new Error('weights are F32');
    weights.set(name, { ...tensor, data: tensor.data.map((_, i) => (i % 2 === 0 ? 3e38 : -3e38)) });
    await saveCheckpoint(out, { ...good, weights, step: good.step + 1 }, { keep: 3 });
    await expect(train(optionsOf(out, { resume: true }))).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringContaining(`step ${good.step + 2}`),
    });
    expect(await digest(path)).toBe(await digest((await train(optionsOf(join(temporaryFolder(), 'run'), { epochs: 1 }))).path));
    expect((await loadCheckpoint(path)).step).toBe(good.step);
    expect((await latestCheckpoint(out))?.step).toBe(good.step + 1);
  },
);
