// Checkpoints: what is saved, kept and refused, and which damage is found. What a crash or a failing disk may leave: figures/crash.test.ts.
import { createHash } from 'node:crypto';
import { readdir, rename, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { latestCheckpoint, loadCheckpoint, saveCheckpoint } from '../lib/train/checkpoint.ts';
import { damage, empty, holding, newest, type SimulatedDisk, stateOf } from './figures/disk.ts';
import { temporaryFolder } from './support.ts';

const parts = ['weights.safetensors', 'optimizer.safetensors', 'manifest.json'];
describe('damage is found', () => {
  test.each(parts)('a missing, empty or truncated %s, and one of another step', async (part) => {
    const path = `/run/checkpoints/step-00000002/${part}`;
    const edits: ((made: SimulatedDisk) => unknown)[] = [
      (made) => made.rm(path),
      (made) => damage(made, path, () => new Uint8Array()),
      (made) => damage(made, path, (bytes) => bytes.slice(0, -2)),
      async (made) => made.files.writeFile(path, await made.readFile(`/run/checkpoints/step-00000001/${part}`)),
      (made) => made.rm(path).then(() => made.mkdir(path)),
    ];
    for (const edit of edits) {
      const made = await holding(1, 2);
      await edit(made);
      expect(await newest(made)).toBe(1);
    }
  });

  test.each(['null', '[]', '"text"', '{}', '{"sha256":1}'])('a manifest that is %s', async (text) => {
    const made = await holding(1, 2);
    damage(made, '/run/checkpoints/step-00000002/manifest.json', () => Buffer.from(text));
    expect(await newest(made)).toBe(1);
  });

  test('a whole folder under the name of another step', async () => {
    const made = await holding(1);
    await made.rename('/run/checkpoints/step-00000001', '/run/checkpoints/step-00000005');
    const message = expect.stringMatching(/all are damaged; the newest: .*expected step 5 but found step 1/);
    await expect(newest(made)).rejects.toMatchObject({ code: 'CORRUPT_FILE', message });
  });

  test('but what a later version wrote is no damage to be passed over', async () => {
    const made = await holding(1, 2);
    damage(made, '/run/checkpoints/step-00000002/manifest.json', (bytes) => {
      const { sha256: _, ...body } = JSON.parse(new TextDecoder().decode(bytes));
      const next = { ...body, version: 2 };
      return Buffer.from(JSON.stringify({ ...next, sha256: createHash('sha256').update(JSON.stringify(next)).digest('hex') }));
    });
    const message = expect.stringContaining('expected a checkpoint of version 1 but found version 2');
    await expect(newest(made)).rejects.toMatchObject({ code: 'INVALID_INPUT', message });
    await expect(saveCheckpoint('/run', stateOf(2), { keep: 1, files: made.files })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});

describe('saving', () => {
  const names = async (made: SimulatedDisk) => (await made.readdir('/run/checkpoints')).sort();

  test('keeps the newest `keep` and leaves nothing temporary', async () => {
    const made = empty();
    for (const step of [1, 2, 3, 4, 5]) await saveCheckpoint('/run', stateOf(step), { keep: 2, files: made.files });
    expect(await names(made)).toEqual(['step-00000004', 'step-00000005']);
  });

  test('never prunes the one just saved, nor those of later steps', async () => {
    const made = await holding(1, 2, 8, 9);
    await saveCheckpoint('/run', stateOf(3), { keep: 1, files: made.files });
    expect(await names(made)).toEqual(['step-00000003', 'step-00000008', 'step-00000009']);
  });

  test('refuses to pass over another good checkpoint of the same step', async () => {
    const made = await holding(2);
    const other = saveCheckpoint('/run', stateOf(2, 7), { keep: 1, files: made.files });
    await expect(other).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining('step 2') });
    expect(await newest(made)).toBe(2);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %s in weights or optimizer and names the tensor', async (value) => {
    for (const [group, name] of [
      ['weights', 'conv1.weight'],
      ['optimizer', 'conv1.weight.exp_avg'],
    ] as const) {
      const made = empty();
      const state = stateOf(1);
      state[group].get(name)?.data.set([value] as never, 3);
      const saved = saveCheckpoint('/run', state, { keep: 1, files: made.files });
      await expect(saved).rejects.toMatchObject({
        code: 'NOT_FINITE',
        message: `Expected finite numbers for \`${name}\` but received ${value} at index 3`,
      });
      expect(await made.readdir('/run')).toEqual([]);
    }
  });

  test('refuses steps and keeps that are no counts, and info that is no JSON', async () => {
    const { files } = empty();
    await expect(saveCheckpoint('/run', { ...stateOf(1), step: 1.5 }, { keep: 1, files })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(saveCheckpoint('/run', stateOf(1), { keep: 0, files })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(saveCheckpoint('/run', { ...stateOf(1), info: { seed: 1n } }, { keep: 1, files })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
  });
});

describe('on the disk of this machine', () => {
  test('a checkpoint comes back bit for bit, by its path and as the latest', async () => {
    const run = join(temporaryFolder(), 'a', 'b');
    expect(await latestCheckpoint(run)).toBe(null);
    await saveCheckpoint(run, stateOf(1199), { keep: 3 });
    const path = await saveCheckpoint(run, stateOf(1200), { keep: 3 });
    expect(path).toBe(join(run, 'checkpoints', 'step-00001200'));
    expect(await loadCheckpoint(path)).toEqual(stateOf(1200));
    expect(await latestCheckpoint(run)).toEqual({ ...stateOf(1200), path });
    expect((await readdir(path)).sort()).toEqual([...parts].sort());
    expect(await saveCheckpoint(run, stateOf(1200), { keep: 3 })).toBe(path);
  });

  test('an explicit path to a damaged checkpoint is an error and not another checkpoint', async () => {
    const run = temporaryFolder();
    await saveCheckpoint(run, stateOf(1), { keep: 3 });
    const path = await saveCheckpoint(run, stateOf(2), { keep: 3 });
    await truncate(join(path, 'weights.safetensors'), 100);
    await expect(loadCheckpoint(path)).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
    expect((await latestCheckpoint(run))?.step).toBe(1);
  });

  test('a checkpoint may be moved, but not to the name of another step', async () => {
    const run = temporaryFolder();
    const path = await saveCheckpoint(run, stateOf(1), { keep: 3 });
    await rename(path, join(run, 'best'));
    expect(await loadCheckpoint(join(run, 'best'))).toEqual(stateOf(1));
    await rename(join(run, 'best'), join(run, 'step-00000002'));
    await expect(loadCheckpoint(join(run, 'step-00000002'))).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
  });

  test('a file where the folder should be is an IO error that names it', async () => {
    const run = temporaryFolder();
    await writeFile(join(run, 'checkpoints'), '');
    const saved = saveCheckpoint(run, stateOf(1), { keep: 1 });
    await expect(saved).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(join(run, 'checkpoints')) });
  });
});
