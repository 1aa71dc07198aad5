// What a run does when its disk or its folder fails it: nothing that was learned is lost, and nobody else's files are touched.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { TrainOptions } from '../lib/config.ts';
import { loadModel } from '../lib/model.ts';
import { latestCheckpoint } from '../lib/train/checkpoint.ts';
import { disk } from '../lib/train/files.ts';
import { lockRun } from '../lib/train/lock.ts';
import { type TrainEvent, train } from '../lib/train/train.ts';
import { sharedFolder, smallFaces, smallRun } from './faces.ts';
import { temporaryFolder } from './support.ts';

const folder = sharedFolder();
let data = '';
beforeAll(async () => {
  data = await smallFaces(folder);
});
afterEach(() => {
  vi.restoreAllMocks();
});

const failure = (code: string) => Object.assign(new Error(`${code}: by the test`), { code });
const savedSteps = (out: string): string[] => readdirSync(join(out, 'checkpoints')).sort();

/** Renames of these steps' checkpoints fail, each once. */
function failSaves(...steps: number[]): void {
  const { rename } = disk;
  const left = new Set(steps);
  vi.spyOn(disk, 'rename').mockImplementation((from, to) => {
    const step = Number(/step-(\d{8})$/.exec(to)?.[1]);
    return left.delete(step) ? Promise.reject(failure('EIO')) : rename(from, to);
  });
}

interface Told {
  events: TrainEvent[];
  error: unknown;
}

/** All events, and what the run rejected with. */
async function told(
  options: Partial<TrainOptions> & { out: string },
  signal?: AbortSignal,
  at?: (event: TrainEvent) => void,
): Promise<Told> {
  const events: TrainEvent[] = [];
  try {
    for await (const event of train({ ...smallRun, data, ...options }, signal ? { signal } : {})) {
      events.push(event);
      at?.(event);
    }
    return { events, error: undefined };
  } catch (error) {
    return { events, error };
  }
}

const warnings = ({ events }: Told) => events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));

test('a save that fails once is told, and made up for', async () => {
  const out = join(temporaryFolder(), 'run');
  failSaves(60);
  const run = await told({ out, epochs: 30, checkpointEverySteps: 60, keepCheckpoints: 9 });
  expect(run.error).toBeUndefined();
  expect(warnings(run)).toEqual([expect.stringMatching(/^Step 60 was not saved, a later one will be: .*step-00000060.*EIO/)]);
  const [first, ...others] = savedSteps(out).map((name) => Number(name.slice(5)));
  expect(first).toBeGreaterThan(60);
  expect(first).toBeLessThan(110);
  expect(others).toEqual([120]);
  expect(readFileSync(join(out, 'log.jsonl'), 'utf8')).toContain('Step 60 was not saved');
});

test('a save that failed is made up for when the run is stopped, and at its end', async () => {
  const stopped = join(temporaryFolder(), 'run');
  failSaves(8);
  const controller = new AbortController();
  const reason = new Error('enough');
  const run = await told({ out: stopped, checkpointEverySteps: 8 }, controller.signal, (event) => {
    if (event.type === 'step' && event.step === 8) controller.abort(reason);
  });
  expect(run.error).toBe(reason);
  expect((await latestCheckpoint(stopped))?.step).toBeGreaterThanOrEqual(8);
  vi.restoreAllMocks();
  const ended = join(temporaryFolder(), 'run');
  failSaves(11);
  expect((await told({ out: ended, checkpointEverySteps: 11 })).error).toBeUndefined();
  expect(savedSteps(ended)).toEqual(['step-00000012']);
});

test('what a failed save could not remove goes with the next', async () => {
  const out = join(temporaryFolder(), 'run');
  const { rm } = disk;
  let isFirst = true;
  vi.spyOn(disk, 'rm').mockImplementation((path) => {
    if (!/step-00000002\.tmp-\d+$/.test(path) || !existsSync(path) || !isFirst) return rm(path);
    isFirst = false;
    return Promise.reject(failure('EIO'));
  });
  const run = await told({ out, checkpointEverySteps: 2, keepCheckpoints: 1 });
  expect([run.error, isFirst]).toEqual([undefined, false]);
  expect(warnings(run)).toHaveLength(1);
  expect(savedSteps(out)).toEqual(['step-00000012']);
});

test('a disk that stays broken ends the run with its error', async () => {
  const out = join(temporaryFolder(), 'run');
  vi.spyOn(disk, 'rename').mockImplementation(async (from, to) => {
    if (/step-\d{8}$/.test(to)) throw failure('ENOSPC');
    const { rename } = await import('node:fs/promises');
    await rename(from, to);
  });
  const run = await told({ out, checkpointEverySteps: 4 });
  expect(run.error).toMatchObject({ code: 'IO', message: expect.stringContaining('ENOSPC') });
  expect(warnings(run)).toHaveLength(1);
  expect(run.events.filter(({ type }) => type === 'step').length).toBeLessThanOrEqual(8);
});

test('a log that cannot be written ends the run, but what was reached is saved', async () => {
  const out = join(temporaryFolder(), 'run');
  const handle = await open(data);
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  const write = prototype.appendFile;
  vi.spyOn(prototype, 'appendFile').mockImplementation(function (this: unknown, ...args: unknown[]) {
    return String(args[0]).includes('"step":6,') ? Promise.reject(failure('ENOSPC')) : write.apply(this, args);
  });
  const run = await told({ out });
  expect(run.error).toMatchObject({ code: 'IO', message: expect.stringMatching(/log\.jsonl.*ENOSPC/) });
  expect((await latestCheckpoint(out))?.step).toBeGreaterThanOrEqual(6);
});

test('a run folder keeps what is not of a run', async () => {
  const out = join(temporaryFolder(), 'run');
  mkdirSync(join(out, 'keep.tmp-123456789'), { recursive: true });
  writeFileSync(join(out, 'keep.tmp-123456789', 'data'), 'precious');
  writeFileSync(join(out, 'thesis.tmp-7654321'), 'precious');
  await train({ ...smallRun, data, out, epochs: 1, curriculum: 'none' });
  expect(readFileSync(join(out, 'keep.tmp-123456789', 'data'), 'utf8')).toBe('precious');
  expect(readFileSync(join(out, 'thesis.tmp-7654321'), 'utf8')).toBe('precious');
});

test.each([
  ['config.json', '{"my":"project"}'],
  ['config.json', '// a comment'],
  ['log.jsonl', '{"level":"info"}\n'],
])('%s of another program is not written over (%s)', async (name, text) => {
  const out = temporaryFolder();
  writeFileSync(join(out, name), text);
  const { error } = await told({ out });
  expect(error).toMatchObject({ code: 'INVALID_CONFIG', message: expect.stringContaining(name) });
  expect(readFileSync(join(out, name), 'utf8')).toBe(text);
});

/** A short run, whose three checkpoints then suffer. */
async function harmed(harm: (manifest: string) => void): Promise<string> {
  const out = join(temporaryFolder(), 'run');
  await train({ ...smallRun, data, out, checkpointEverySteps: 4, keepCheckpoints: 3 });
  for (const step of savedSteps(out)) harm(join(out, 'checkpoints', step, 'manifest.json'));
  return out;
}

test.each([true, false])('checkpoints that are all damaged are refused and stay (resume: %s)', async (resume) => {
  const out = await harmed((manifest) => writeFileSync(manifest, readFileSync(manifest, 'utf8').replace('"step": ', '"step": 1')));
  const { error } = await told({ out, resume });
  expect(error).toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringMatching(/all are damaged; the newest: .*step-00000012/) });
  expect(savedSteps(out)).toHaveLength(3);
  await expect(loadModel(out)).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
});

test('checkpoints of a later version are refused and stay', async () => {
  const { createHash } = await import('node:crypto');
  const out = await harmed((manifest) => {
    const { sha256: _, ...body } = { ...JSON.parse(readFileSync(manifest, 'utf8')), version: 2 };
    writeFileSync(manifest, JSON.stringify({ ...body, sha256: createHash('sha256').update(JSON.stringify(body)).digest('hex') }));
  });
  const { error } = await told({ out, resume: true });
  expect(error).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(/version 1 but found version 2/) });
  expect(savedSteps(out)).toHaveLength(3);
});

test('a model that comes from an older checkpoint says so', async () => {
  const out = await harmed((manifest) => manifest.includes('12') && writeFileSync(manifest, '{}'));
  const said: string[] = [];
  vi.spyOn(process, 'emitWarning').mockImplementation((text) => void said.push(String(text)));
  (await loadModel(out)).dispose();
  expect(said).toEqual([expect.stringMatching(/Passed over a damaged checkpoint: .*step-00000012/)]);
});

test('a run that is further than it is to go is refused', async () => {
  const out = join(temporaryFolder(), 'run');
  await train({ ...smallRun, data, out });
  const { error } = await told({ out, resume: true, epochs: 2 });
  expect(error).toMatchObject({
    code: 'INVALID_CONFIG',
    message: expect.stringMatching(/at least 3 for `epochs`, for the run is at step 12/),
  });
});

test('a run whose lock is gone stops', async () => {
  const out = join(temporaryFolder(), 'run');
  const { error } = await told({ out, epochs: 3000, curriculum: 'none', validation: 0 }, undefined, (event) => {
    if (event.type === 'step' && event.step === 3) rmSync(join(out, 'run.lock'));
  });
  expect(error).toMatchObject({ code: 'BUSY', message: expect.stringContaining('run.lock') });
});

const otherPlace = (out: string) => {
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'run.lock'), JSON.stringify({ pid: process.pid, start: null, place: 'elsewhere 1-2 pid:[3]', id: 'x' }));
};

test("another machine's lock counts while it gets newer", async () => {
  const out = join(temporaryFolder(), 'run');
  otherPlace(out);
  const beat = setInterval(() => utimesSync(join(out, 'run.lock'), new Date(), new Date()), 500);
  await expect(lockRun(out)).rejects.toMatchObject({ code: 'BUSY', message: expect.stringContaining('of another machine or container') });
  clearInterval(beat);
});

test("another machine's lock is dead when nobody touches it", async () => {
  const out = join(temporaryFolder(), 'run');
  otherPlace(out);
  await (await lockRun(out)).release();
  expect(existsSync(join(out, 'run.lock'))).toBe(false);
}, 60_000);

test.each(['/proc/comface/run', '/dev/null/run'])('a folder that cannot be made is an error at once: %s', async (out) => {
  const { error } = await told({ out });
  expect(error).toMatchObject({ code: 'IO', message: expect.stringContaining(out) });
});
