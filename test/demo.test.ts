// The demo from end to end at smoke scale: every part runs and says what it measured. Whether it learns is the full demo's to show.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { demo } from '../lib/demo.ts';
import { temporaryFolder } from './support.ts';

test('the demo draws, trains, compares four methods on two tasks, and writes a report and the same figures', async () => {
  const out = join(temporaryFolder(), 'demo');
  const seen = new Set<string>();
  const result = await demo({ out, scale: 'smoke', onEvent: ({ type }) => seen.add(type) });
  expect([...seen].sort()).toEqual(['generate', 'phase', 'step']);
  expect(result.tasks.map(({ name }) => name)).toEqual(['smile', 'weight']);
  for (const { rows } of result.tasks) {
    expect(rows.map(({ method }) => method)).toEqual(['ComFace', 'Untrained backbone', '16x16 gray pixel differences', 'Always zero']);
    for (const { mae, correlation } of rows) expect(Number.isFinite(mae) && Math.abs(correlation) <= 1).toBe(true);
    expect(rows[3]!.correlation).toBe(0);
  }
  expect(JSON.parse(readFileSync(result.files.result, 'utf8'))).toEqual(JSON.parse(JSON.stringify(result)));
  const report = readFileSync(result.files.report, 'utf8');
  for (const { rows } of result.tasks) expect(report).toContain(rows[0]!.correlation.toFixed(3));
  expect(report.match(/data:image\/jpeg/g)).toHaveLength(2 * 2 * 8);
});

test('the demo leaves a folder alone that is not its own', async () => {
  const out = temporaryFolder();
  mkdirSync(join(out, 'faces'));
  writeFileSync(join(out, 'faces', 'mine.jpg'), 'mine');
  await expect(demo({ out, scale: 'smoke' })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  expect(existsSync(join(out, 'faces', 'mine.jpg'))).toBe(true);
});
