// What a user can get wrong, and that the error says what, where and what to do.
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkTrainOptions } from '../lib/config.ts';
import { type TrainEvent, train } from '../lib/train/train.ts';
import { sharedFolder, smallFaces, smallRun, writePicture } from './faces.ts';
import { temporaryFolder } from './support.ts';

let good = '';
const shared = sharedFolder();
beforeAll(async () => {
  good = await smallFaces(shared);
});

/** A run that ends with an error; resolves with it and the events before. */
async function failure(options: object): Promise<{ error: { code: string; message: string; hint: string }; events: TrainEvent[] }> {
  const events: TrainEvent[] = [];
  try {
    for await (const event of train({ ...smallRun, data: good, out: join(temporaryFolder(), 'run'), ...options } as never))
      events.push(event);
  } catch (error) {
    expect(error).toMatchObject({ name: 'ComFaceError', hint: expect.stringMatching(/\w{3}/) });
    return { error: error as never, events };
  }
  throw new Error('the run went through');
}

describe('an option', () => {
  test.each([
    [{ temprature: 0.2 }, /`temprature`.*`temperature`/],
    [{ augment: { flipProbabilty: 1 } }, /`augment\.flipProbabilty`.*`augment\.flipProbability`/],
    [{ temperature: -1 }, /number from 0\.001 to 100 for `temperature` but received -1/],
    [{ temperature: Number.NaN }, /`temperature` but received NaN/],
    [{ pairs: 1 }, /integer from 2 to 8192 for `pairs` but received 1/],
    [{ pairs: 2.5 }, /`pairs` but received 2.5/],
    [{ width: 20 }, /multiple of 16/],
    [{ backbone: 'resnet19' }, /resnet18.*resnet19/],
    [{ augment: { cropAreaMin: 0.9, cropAreaMax: 0.5 } }, /cropAreaMin/],
    [{ data: undefined }, /`data` but received undefined/],
    [{ out: '' }, /`out` but received ""/],
  ])('%o is refused by name before anything is made', async (options, message) => {
    const { error, events } = await failure(options);
    expect([error.code, events]).toEqual(['INVALID_CONFIG', []]);
    expect(error.message).toMatch(message);
  });

  test('that asks for more pairs than there are pictures is refused with both numbers', async () => {
    const { error } = await failure({ pairs: 500, pairsPerEpoch: undefined });
    expect(error.message).toMatch(/at most 55.*`pairs`.*500/);
  });
});

describe('a data folder', () => {
  test('that is missing, empty, or without a manifest is named', async () => {
    const [folder, empty, other] = [temporaryFolder(), temporaryFolder(), temporaryFolder()];
    await writeFile(join(other, 'face.jpg'), '');
    for (const [data, found] of [
      [join(folder, 'none'), /no such folder/],
      [empty, /empty/],
      [other, /no manifest\.jsonl/],
    ] as const) {
      const { error } = await failure({ data });
      expect([error.code, error.message.includes(data), found.test(error.message)]).toEqual(['IO', true, true]);
    }
  });

  /** A fresh set to damage; `lines` are its pictures' paths in manifest order, of lines 2 and up. */
  async function fresh() {
    const parent = temporaryFolder();
    const data = await smallFaces(parent);
    const lines = (await readFile(join(data, 'manifest.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => join(data, (JSON.parse(line) as { file: string }).file));
    return { data, lines };
  }

  test('with a line that names a missing picture is refused by file and line', async () => {
    const { data, lines } = await fresh();
    await rm(lines[6]!);
    const { error } = await failure({ data });
    expect(error.message).toContain(`${join(data, 'manifest.jsonl')}:8`);
    expect(error.message).toContain(lines[6]!);
  });

  test('with a broken line is refused by line', async () => {
    const { data } = await fresh();
    const path = join(data, 'manifest.jsonl');
    const text = (await readFile(path, 'utf8')).split('\n');
    await writeFile(path, text.with(4, '{"file":').join('\n'));
    const { error } = await failure({ data });
    expect([error.code, error.message.includes(`${path}:5`)]).toEqual(['CORRUPT_FILE', true]);
  });

  test('with a truncated picture, as many as allowed, trains without them and counts each once', async () => {
    const { data, lines } = await fresh();
    for (const i of [7, 31]) await truncate(lines[i]!, 300);
    const events: TrainEvent[] = [];
    const run = train({ ...smallRun, data, out: join(temporaryFolder(), 'run'), pairsPerEpoch: 48, validation: 0, brokenShare: 0.1 });
    for await (const event of run) events.push(event);
    const broken = events.flatMap((event) => (event.type === 'broken' ? [event] : []));
    expect(broken.map(({ line, count }) => [line, count]).sort()).toEqual(
      [
        [9, broken[0]!.line === 9 ? 1 : 2],
        [33, broken[0]!.line === 9 ? 2 : 1],
      ].sort(),
    );
    for (const { file, reason } of broken) expect([lines.includes(file), reason.includes(file)]).toEqual([true, true]);
    expect(await run).toMatchObject({ broken: 2, step: 36 });
  });

  test('with more than 1 % of broken pictures stops with CORRUPT_FILE naming file and line', async () => {
    const { data, lines } = await fresh();
    await truncate(lines[20]!, 300);
    const { error, events } = await failure({ data, pairsPerEpoch: undefined, validation: 0 });
    expect(error.code).toBe('CORRUPT_FILE');
    expect(error.message).toMatch(/1 % .*1 of 60/);
    expect([error.message.includes('manifest.jsonl:22'), error.message.includes(lines[20]!)]).toEqual([true, true]);
    expect(events.slice(-2)).toMatchObject([{ type: 'broken', line: 22, count: 1 }, { type: 'checkpoint' }]);
  });

  test('with a picture of another size says both sizes', async () => {
    const { data, lines } = await fresh();
    await writePicture(lines[20]!, 40, () => [9, 9, 9]);
    expect((await failure({ data, pairsPerEpoch: undefined, validation: 0 })).error.message).toMatch(/32 x 32.*40 x 40/);
  });

  test('with nothing but broken pictures stops with CORRUPT_FILE in the first step', async () => {
    const { data, lines } = await fresh();
    for (const line of lines) await writeFile(line, 'nothing');
    const { error, events } = await failure({ data, brokenShare: 1 });
    expect([error.code, events.some(({ type }) => type === 'step')]).toEqual(['CORRUPT_FILE', false]);
    expect(lines.some((line) => error.message.includes(line))).toBe(true);
  });
});

test('a run folder that is the data folder is refused', () => {
  expect(() => checkTrainOptions({ data: 'faces', out: './faces/' })).toThrow('Expected a folder other than data for `out`');
});

test('a run folder that cannot be made is named', async () => {
  const file = join(temporaryFolder(), 'file');
  await writeFile(file, '');
  const { error } = await failure({ out: join(file, 'run') });
  expect([error.code, error.message.includes(file)]).toEqual(['IO', true]);
});
