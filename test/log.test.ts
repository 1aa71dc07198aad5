// The event log: every line arrives, in order, or an error does.
import { mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { openLog } from '../lib/train/log.ts';

const folders: string[] = [];
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'comface-log-'));
  folders.push(path);
  return path;
}
afterEach(() => vi.restoreAllMocks());
afterAll(() => Promise.all(folders.map((path) => rm(path, { recursive: true }))));

const textOf = (run: string) => readFile(join(run, 'log.jsonl'), 'utf8');

/** What all open files have in common, to make their calls fail. */
async function handles() {
  const handle = await open(tmpdir());
  await handle.close();
  return Object.getPrototypeOf(handle);
}
function thrown(call: () => void): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return undefined;
}
const full = () => Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });

describe('the event log', () => {
  test('holds 5,000 lines in the order written, after close and across openings', async () => {
    const run = join(await folder(), 'new');
    for (const part of [0, 1]) {
      const log = await openLog(run);
      for (let index = 0; index < 2500; index++) {
        log.write({ event: 'step', step: part * 2500 + index, text: 'ä\n' });
        if (index % 500 === 0) await new Promise(setImmediate);
      }
      await log.close();
    }
    const lines = (await textOf(run)).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).step)).toEqual([...Array(5000).keys()]);
  });

  test('can be followed while it is open', async () => {
    const run = await folder();
    const log = await openLog(run);
    log.write({ event: 'start' });
    await vi.waitFor(async () => expect(await textOf(run)).toBe('{"event":"start"}\n'));
    await log.close();
  });

  test('on resume loses the lines of later steps and torn ones, and goes on behind the rest', async () => {
    const run = await folder();
    await writeFile(
      join(run, 'log.jsonl'),
      '{"event":"start"}\n{"step":2}\n{"step":3}\n{"event":"stop"}\n\0\0\0\n{"step":1,"late":true}\n{"ste',
    );
    const log = await openLog(run, { keepThroughStep: 2 });
    log.write({ step: 3, again: true });
    await log.close();
    expect(await textOf(run)).toBe('{"event":"start"}\n{"step":2}\n{"event":"stop"}\n{"step":1,"late":true}\n{"step":3,"again":true}\n');
    expect(await readdir(run)).toEqual(['log.jsonl']);
  });

  test('opened without a step keeps all whole lines and drops a torn one', async () => {
    const run = await folder();
    await writeFile(join(run, 'log.jsonl'), '{"step":9}\n{"step":10');
    await (await openLog(run)).close();
    expect(await textOf(run)).toBe('{"step":9}\n');
  });

  test('longer than a string may be is cut all the same', async () => {
    const run = await folder();
    await writeFile(join(run, 'log.jsonl'), '{"step":1}\n{"step":2}\n');
    await truncate(join(run, 'log.jsonl'), 520 * 2 ** 20);
    await (await openLog(run, { keepThroughStep: 1 })).close();
    expect(await textOf(run)).toBe('{"step":1}\n');
  });

  test('a failed write surfaces on the next write and on close', async () => {
    const run = await folder();
    const log = await openLog(run);
    const append = vi.spyOn(await handles(), 'appendFile').mockRejectedValueOnce(full());
    log.write({ step: 1 });
    await vi.waitFor(() => expect(append).toHaveBeenCalled());
    await new Promise(setImmediate);
    const failure = {
      code: 'IO',
      message: expect.stringContaining(join(run, 'log.jsonl')),
      hint: expect.any(String),
      cause: { code: 'ENOSPC' },
    };
    expect(thrown(() => log.write({ step: 2 }))).toMatchObject(failure);
    await expect(log.close()).rejects.toMatchObject(failure);
    await expect(log.close()).rejects.toMatchObject(failure);
  });

  test('a failed flush surfaces on close', async () => {
    const log = await openLog(await folder());
    vi.spyOn(await handles(), 'sync').mockRejectedValueOnce(full());
    log.write({ step: 1 });
    await expect(log.close()).rejects.toMatchObject({ code: 'IO' });
  });

  test('takes no pixels, no lists and nothing that is no JSON, and stays usable', async () => {
    const run = await folder();
    const log = await openLog(run);
    for (const event of [
      { image: new Uint8Array(3) },
      { a: { image: Buffer.from('abc') } },
      { a: [new Float32Array(1)] },
      [1],
      { seed: 1n },
    ]) {
      expect(() => log.write(event)).toThrow(expect.objectContaining({ name: 'ComFaceError', code: 'INVALID_INPUT' }));
    }
    log.write({ step: 1 });
    await log.close();
    expect(await textOf(run)).toBe('{"step":1}\n');
  });

  test('refuses a write after close', async () => {
    const log = await openLog(await folder());
    await log.close();
    await log.close();
    expect(() => log.write({ step: 1 })).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
  });

  test('where it cannot be opened is an IO error that names the path', async () => {
    const run = join(await folder(), 'file');
    await writeFile(run, '');
    await expect(openLog(run)).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(run) });
  });
});
