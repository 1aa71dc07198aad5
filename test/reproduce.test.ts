// The paper's tables at the scale that learns nothing: every part runs, ours stand beside the paper's, nothing is made twice.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPictures } from '../lib/data/pictures.ts';
import { type ReproduceOptions, type Reproduction, reproduce } from '../lib/reproduce/reproduce.ts';
import { scales } from '../lib/reproduce/scales.ts';
import { type Cell, kFull, tables } from '../lib/reproduce/tables.ts';
import { type PieceEvent, runOptionsOf, Workshop } from '../lib/reproduce/workshop.ts';
import type { TransferResult } from '../lib/transfer/result.ts';
import { exportModel } from '../lib/use/export.ts';
import { importWeights } from '../lib/use/import.ts';

let out: string;
const options = (more: Partial<ReproduceOptions>): ReproduceOptions => ({
  ...{ table: 'table6', out, scale: 'smoke', device: 'cpu', precision: 'fp32', threads: 1, loaderThreads: 1 },
  ...more,
});
const json = <T>(...path: string[]): T => JSON.parse(readFileSync(join(out, ...path), 'utf8')) as T;
const results = (kind: string): TransferResult[] =>
  readdirSync(join(out, 'transfers'))
    .filter((name) => name.startsWith(kind))
    .map((name) => json<TransferResult>('transfers', name, 'transfer.json'));

beforeAll(() => {
  out = mkdtempSync(join(tmpdir(), 'comface-tables-'));
});
afterAll(() => rmSync(out, { recursive: true, force: true }));

describe('a table of the paper', () => {
  let table6: Reproduction;
  beforeAll(async () => {
    table6 = await reproduce(options({}));
  });

  test("has our figures with intervals beside the paper's, in Markdown and JSON", () => {
    expect(table6.columns).toEqual(['Age MAE', 'Age Corr.']);
    expect(table6.rows.map(({ name }) => name)).toEqual(['Scratch', 'ImageNet', 'SwAV', 'FaRL', 'ComFace']);
    const [mae, correlation] = table6.rows.at(-1)!.cells;
    expect([mae!.paper, correlation!.paper]).toEqual([4.914, 0.87]);
    expect(mae!.low! <= mae!.value! && mae!.value! <= mae!.high!).toBe(true);
    expect(table6.rows[1]!.cells.map(({ value, paper }) => [value, paper])).toEqual([
      [null, 7.863],
      [null, 0.614],
    ]);
    const cell = `${mae!.value!.toFixed(3)} [${mae!.low!.toFixed(3)}, ${mae!.high!.toFixed(3)}] (4.914)`;
    expect(table6.text).toContain(`| ComFace | ${cell} |`);
    expect(readFileSync(table6.files.text, 'utf8')).toBe(table6.text);
    expect(json<Reproduction>('table6.json').rows).toEqual(table6.rows);
  });

  test('is made of pieces that are made once, also by the next call and for the next table', async () => {
    const said: string[] = [];
    const again = await reproduce(options({ onEvent: (event) => said.push(event.type) }));
    expect([again.text, said]).toEqual([table6.text, []]);
  });

  test('with several seeds has their mean, and the lowest and highest', async () => {
    const both = await reproduce(options({ seeds: [1, 2] }));
    const { value, low, high, values } = both.rows[0]!.cells[0]!;
    expect(values[0]).toBe(table6.rows[0]!.cells[0]!.value);
    expect(values[1]).not.toBe(values[0]);
    expect([value, low, high]).toEqual([(values[0]! + values[1]!) / 2, Math.min(...values), Math.max(...values)]);
    expect(both.text).toContain('mean of seeds 1, 2');
  });

  test('table 5 tests both kinds of models on the same pairs, of the days after the third', async () => {
    const { rows } = await reproduce(options({ table: 'table5' }));
    expect(rows.map(({ cells }) => cells.every(({ value }) => value !== null))).toEqual([true, true, true, true]);
    const found = results('weightA-patient');
    expect(found.map(({ evaluation }) => evaluation).sort()).toEqual(['fineTune', 'patient', 'patient', 'patient']);
    const own = ({ pairs: { estimate: _, ...rest } }: TransferResult) => rest;
    for (const result of found) expect(own(result)).toEqual(own(found[0]!));
    expect(new Set(found.map(({ pairs }) => JSON.stringify(pairs.estimate))).size).toBe(4);
    const { session } = await readPictures(found[0]!.data.folder);
    const { x, y } = found[0]!.pairs;
    for (const sample of [...x, ...y]) expect(Number(session[sample]!.slice(-2))).toBeGreaterThan(3);
  });

  test('a row that names the backbone of its scale is the row that names none', async () => {
    const place = { device: 'cpu', precision: 'fp32', threads: 1, loaderThreads: 1 } as const;
    const onEvent = () => expect.unreachable();
    const workshop = new Workshop({ out, scale: scales.smoke, real: {}, place, onEvent });
    const [column] = tables.table6.columns;
    const named = { name: 'named', variant: { ...kFull, backbone: scales.smoke.train.backbone as 'resnet18' }, paper: [] };
    const { scores } = await workshop.cell(named, column!, 1);
    expect(scores.mae.value).toBe(table6.rows.at(-1)!.cells[0]!.value);
  });

  test('a row of a rival is of its weights, where they are given', async () => {
    const published = join(out, 'published');
    await exportModel({ model: join(out, 'runs', readdirSync(join(out, 'runs'))[0]!), out: published });
    const file = join(published, 'model.safetensors');
    const { folder } = await importWeights({ file, as: 'imagenet', size: 32, out: join(out, 'imagenet') });
    const { rows } = await reproduce(options({ rivals: { imagenet: folder } }));
    const of = (name: string) => rows.find((row) => row.name === name)!.cells[0]!;
    expect(of('ImageNet').values.length).toBe(1);
    expect(of('ImageNet').value).not.toBe(of('ComFace').value);
    expect(of('SwAV').value).toBeNull();
    await expect(reproduce(options({ rivals: { imagenet: join(out, 'nowhere') } }))).rejects.toThrow('`rivals.imagenet`');
    await expect(reproduce(options({ rivals: { resnet: folder } as never }))).rejects.toThrow('`rivals`');
  });

  test('that was stopped goes on to the same figures', async () => {
    const folder = join(out, 'stopped');
    const controller = new AbortController();
    const stop = (event: PieceEvent) => event.type === 'piece' && event.text.startsWith('ComFace') && controller.abort(new Error('enough'));
    await expect(reproduce(options({ out: folder, signal: controller.signal, onEvent: stop }))).rejects.toThrow('enough');
    const said: string[] = [];
    const { rows } = await reproduce(options({ out: folder, onEvent: (event) => event.type === 'piece' && said.push(event.text) }));
    expect(rows).toEqual(table6.rows);
    expect(said).toEqual(['ComFace: age, seed 1']); // what came before is there
  });

  test('table 7 pre-trains five times, and each row changes what it is named after', () => {
    const [inter, intra, both, signed, none, scratch] = tables.table7.rows.map(({ variant }) => variant!);
    const of = (variant: typeof both) => runOptionsOf(variant!, scales.small, 3);
    const base = { ...of(both), seed: 3 };
    expect([base.interPersonal, base.intraPersonal, base.target, base.curriculum]).toEqual([
      1,
      1,
      'absolute',
      scales.small.train.curriculum,
    ]);
    expect(of(inter)).toEqual({ ...base, intraPersonal: 0 });
    expect(of(intra)).toEqual({ ...base, interPersonal: 0 });
    expect(of(signed)).toEqual({ ...base, target: 'signed' });
    expect(of(none)).toEqual({ ...base, curriculum: 'none' });
    expect(scratch!.learning).toBe('scratch');
  });

  test('every table has a figure of the paper, or none, for each column', () => {
    for (const [name, { rows, columns }] of Object.entries(tables))
      for (const row of rows) expect([name, row.name, row.paper.length]).toEqual([name, row.name, columns.length]);
  });

  test('figure 4 shows where each backbone looks, and how much of that is between brows and mouth', async () => {
    const { rows, files, text } = await reproduce(options({ table: 'figure4' }));
    expect(rows.map(({ name }) => name)).toEqual(['Scratch', 'Inter only', 'Intra only', 'ComFace']);
    for (const { cells } of rows) {
      const [{ value, low, high }] = cells as [Cell];
      expect(0 < low! && low! < value! && value! < high! && high! < 100).toBe(true);
    }
    expect(text).toContain('Between brows and mouth, %');
    expect(await sharp(files.picture!).metadata()).toMatchObject({ format: 'png', width: 5 * 224, height: 4 * 224 });
  });
});

test('what cannot be reproduced is refused by name, before anything is made', async () => {
  const wrong: [Partial<ReproduceOptions>, RegExp][] = [
    [{ table: 'table4' as never }, /`table`/],
    [{ scale: 'huge' as never }, /`scale`/],
    [{ seeds: [] }, /`seeds`/],
    [{ seeds: [1, 1] }, /`seeds`/],
    [{ seeds: [-1] }, /`seeds\[0\]`/],
    [{ seeds: 3 as never }, /`seeds`/],
    [{ sites: ['A'] }, /`sites`/],
    [{ disfa: '' }, /`disfa`/],
    [{ fgnet: join(out, 'nowhere') }, /a folder that is there for `fgnet`/],
    [{ weight: join(out, 'nowhere.csv') }, /a CSV file that is there for `weight`/],
    [{ threads: -1 }, /`threads`/],
    [{ device: 'gpu' as never }, /`device`/],
    [{ onEvent: 3 as never }, /`onEvent`/],
  ];
  for (const [more, message] of wrong) {
    const error = await reproduce(options({ out: join(out, 'refused'), ...more })).catch((e) => e);
    expect([['INVALID_INPUT', 'INVALID_CONFIG'].includes(error.code), error.message]).toEqual([true, expect.stringMatching(message)]);
  }
  expect(existsSync(join(out, 'refused'))).toBe(false);
});
