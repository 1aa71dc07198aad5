// R10: a data set in the making survives kills. Every folder ends in the bytes of one that was made at once.
import { readdir, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { generate } from '../../lib/data/procedural.ts';
import { digest, temporaryFolder, wasKilled } from '../support.ts';
import { figure } from './figure.ts';

/** Files of a folder, none where a kill came before it was made. */
const list = (folder: string) => readdir(folder).catch(() => []);
const newFolder = () => join(temporaryFolder(), 'set');

/** Makes sets, each killed at random moments until it is done, until so many were killed. */
async function survive(name: string, call: (out: string) => string, count: number) {
  const whole = newFolder();
  const started = performance.now();
  await wasKilled(call(whole));
  let ms = performance.now() - started;
  const expected = await digest(whole);
  let [kills, folders, differing, parts, kept] = [0, 0, 0, 0, 0];
  for (; kills < count; folders++) {
    const out = newFolder();
    while (kills < count && (await wasKilled(call(out), ms * (0.2 + 0.8 * Math.random())))) kills++;
    ms = Math.max(150, 0.9 * ms); // it was through before: the machine has become faster, or this was the rest of one
    kept += (await list(out)).filter((file) => file.endsWith('.shard')).length;
    await wasKilled(call(out));
    if ((await digest(out)) !== expected) differing++;
    parts += (await list(out)).filter((file) => /part|jsonl|generate/.test(file)).length;
  }
  return {
    line: `${kills} kills of ${folders} ${name}, ${differing} differing, ${parts} files left over, ${kept} shards kept`,
    bad: differing + parts,
    kept,
  };
}

figure(
  'R10 a kill at any moment of making a data set costs a shard at most',
  { ci: 50, long: 2000, seconds: 300 },
  async ({ count, say }) => {
    const drawn = { subjects: 60, attributes: ['smile'], alphas: 5, size: 64, shardBytes: 20 * 2048 };
    const photos = newFolder();
    const { files } = await generate({ ...drawn, attributes: ['smile', 'age'], subjects: 20, alphas: 7, out: photos, format: 'files' });
    await rm(join(photos, 'manifest.jsonl')); // with it they are a data set, which is not packed
    for (let i = 0; i < files.length; i += 20) await truncate(files[i]!, 300);
    const packed = { from: photos, size: 48, shardBytes: 1 };
    const made = await survive('drawings', (out) => `({ generate }) => generate(${JSON.stringify({ ...drawn, out })})`, count);
    const own = await survive('packings', (out) => `({ pack }) => pack(${JSON.stringify({ ...packed, out })})`, count);
    say(`${made.line}; ${own.line}`);
    expect(made.bad + own.bad).toBe(0);
    // Kills that all come before the first shard would show nothing.
    expect(Math.min(made.kept, own.kept)).toBeGreaterThan(0);
  },
);
