// The page of a run and of a transfer: whole, readable on a phone and on paper, and without a picture or a name of anybody unless asked.
import { appendFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { pack } from '../lib/data/pack.ts';
import { report } from '../lib/report/make.ts';
import { train } from '../lib/train/train.ts';
import { parseTransferResult, readTransferResult } from '../lib/transfer/result.ts';
import { browser, layoutOf, noBrowser, opened } from './browser.ts';
import { sharedFolder, smallRun } from './faces.ts';
import { temporaryFolder } from './support.ts';
import { makeTransfer } from './transfers.ts';

const shared = sharedFolder();
const photos = join(shared, 'Anna-Album');
const data = join(shared, 'Anna-Set');
const run = join(shared, 'Anna-Run');
const transfer = join(shared, 'Anna-Transfer');
const people = ['Anna-Ask', 'Bert-Bo', 'Cleo-Cy', 'Dora-Du', 'Emil-Ek', 'Finn-Fa'];
const fixture = { out: transfer, run, data, attribute: 'smile', unit: 'points' };

beforeAll(async () => {
  for (const [i, name] of people.entries()) {
    await mkdir(join(photos, name), { recursive: true });
    for (const alpha of [-4, -2, 0, 2, 4])
      await sharp({ create: { width: 40, height: 40, channels: 3, background: { r: 40 * i, g: 128 + 25 * alpha, b: 90 } } })
        .jpeg()
        .toFile(join(photos, name, `${alpha}.jpg`));
  }
  await pack({ from: photos, out: data, size: 32, attribute: 'smile' });
  await train({ ...smallRun, data, out: run, validation: 0.3 });
  await makeTransfer(fixture);
});

/** Makes a page and reads it. */
async function pageOf(folder: string, options: Parameters<typeof report>[1] = {}) {
  const { file, notes } = await report(folder, { out: join(temporaryFolder(), 'page.html'), ...options });
  const html = await readFile(file, 'utf8');
  const text = html
    .replace(/<style>[^<]*<\/style>|<svg[\s\S]*?<\/svg>|<[^>]*>/g, ' ')
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)))
    .replace(/\s+/g, ' ');
  return { html, bare: html.replace(/base64,[^"]*/g, ''), notes, text };
}
const images = (html: string) => [...html.matchAll(/<img src="data:image\/jpeg;base64,[^"]+" alt="([^"]*)">/g)].map(([, alt]) => alt);
const mean = ({ channels }: { channels: { mean: number }[] }) => channels.map((channel) => channel.mean);

describe('the page of a run', () => {
  test('has its curves with the stages, validation, settings and drawn faces under their maps', async () => {
    const { html, bare, text, notes } = await pageOf(run);
    expect(notes).toEqual([]);
    for (const words of [
      'Finished.',
      '12 of 12 steps',
      'best after epoch',
      'curriculum.stageEnds 1, 2, 3',
      'temperature 0.1',
      'oneDNN',
      'drawn person 3 smile +5',
    ])
      expect(text).toContain(words);
    expect(bare.match(/≤ (10|5|3\.3)</g)).toHaveLength(6); // in both charts
    expect((await pageOf(run)).html === html, 'the same each time').toBe(true);
    expect(images(html)).toEqual(Array.from({ length: 9 }, () => ['drawn face', 'the same under its map']).flat());
  });

  test('with faces shows pairs of people kept out, by name, with true and estimated change', async () => {
    const { html, text } = await pageOf(run, { includeFaces: true });
    expect(images(html).filter((alt) => alt === 'first picture')).toHaveLength(8);
    expect(text).toMatch(/true [+−]?\d[\d.]* estimated [+−]?\d[\d.]* (Anna-Ask|Bert-Bo|Cleo-Cy|Dora-Du|Emil-Ek|Finn-Fa)/);
    expect(text).toContain('This page shows people.');
    expect(text).toContain(run);
  });

  test('of a run under way or stopped says so, also before its first checkpoint', async () => {
    const folder = join(temporaryFolder(), 'run');
    await cp(run, folder, { recursive: true });
    const log = (await readFile(join(run, 'log.jsonl'), 'utf8')).split('\n');
    const half = log.slice(
      0,
      log.findIndex((line) => line.includes('"step":5,')),
    );
    await writeFile(join(folder, 'log.jsonl'), `${half.join('\n')}\n{"type":"step","st`);
    expect((await pageOf(folder)).text).toMatch(/Not finished\. It was stopped before its end.* 4 of 12 steps/);
    await writeFile(join(folder, 'run.lock'), JSON.stringify({ pid: process.pid, start: null }));
    await rm(join(folder, 'checkpoints'), { recursive: true });
    const { text, notes } = await pageOf(folder);
    expect(text).toContain('Not finished. It is still running, or was killed');
    expect(text).toContain('The model cannot be shown (INVALID_INPUT)');
    expect(notes).toEqual([expect.stringContaining('The model cannot be shown: Expected a run')]);
  });

  test('counts broken pictures and warnings; which they are, it says with faces only', async () => {
    const folder = join(temporaryFolder(), 'run');
    await cp(run, folder, { recursive: true });
    const events = [
      { type: 'broken', step: 9, file: '/photos/Anna-Ask/1.jpg', reason: '/photos/Anna-Ask/1.jpg: it is cut off', count: 1 },
      { type: 'warning', message: 'the picture "Anna-Ask" is odd' },
      { type: 'warning', message: 'Subjects of set with a single picture are left out (1): Anna' },
    ];
    await appendFile(join(folder, 'log.jsonl'), events.map((event) => `${JSON.stringify(event)}\n`).join(''));
    const { text, bare } = await pageOf(folder);
    expect(text).toContain('Pictures that could not be used: 1');
    expect(text).toContain('2 warnings are left out, as they may name people; they stand in the folder.');
    expect(bare).not.toContain('Anna');
    const open = (await pageOf(folder, { includeFaces: true })).text;
    for (const words of ['it is cut off', 'the picture "Anna-Ask" is odd', 'left out (1): Anna']) expect(open).toContain(words);
  });
});

describe('the page of a transfer', () => {
  test('has scores with intervals, folds, clouds, the search, the training and the settings', async () => {
    const { bare, text, notes } = await pageOf(transfer);
    expect(notes).toEqual([]);
    for (const words of [
      ...[
        'Transfer to smile',
        'Mean error 1.234 (1.184 to 1.274) points',
        'Correlation 0.871 0.821 to 0.911',
        'Fold 4 60 1.264 0.871 0.900',
      ],
      ...[
        'Fold 2 60 1.244 0.871 none',
        'Trained Held out Tested Rate Steps Fold 1 8 1 3 0.001 400',
        'Fold 1: 0.01 diverged 12',
        'Fold 1: 0.001, chosen 1.500 400',
        'Telling people apart',
      ],
      ...['pairsPerSubject 16', 'fine-tuning', '12 min 34 s'],
    ])
      expect(text).toContain(words);
    expect(bare.match(/<svg [^>]*aria-label="Fold \d: estimated against true change"/g)).toHaveLength(4);
    expect(bare.match(/<circle /g)).toHaveLength(240);
  });

  test('without faces holds nothing of a person: no picture, name or path of theirs', async () => {
    const { html, bare, text } = await pageOf(transfer);
    expect(images(html).every((alt) => alt === 'drawn face' || alt === 'the same under its map')).toBe(true);
    for (const word of ['Anna', 'Bert', shared, 'first picture', 'person 0']) expect(bare).not.toContain(word);
    expect(text).toContain('make it again with --include-faces');
  });

  test('with faces shows tested pairs, small and encoded anew, and names from the data', async () => {
    const { html, text } = await pageOf(transfer, { includeFaces: true });
    const pictures = [...html.matchAll(/<img src="data:image\/jpeg;base64,([^"]+)" alt="first picture">/g)].map(([, code]) =>
      Buffer.from(code!, 'base64'),
    );
    expect(pictures).toHaveLength(8);
    expect(await sharp(pictures[0]).metadata()).toMatchObject({ format: 'jpeg', width: 144, height: 144 });
    expect((await sharp(pictures[0]).metadata()).exif).toBeUndefined();
    // It is the picture that the result names, in its colors.
    const result = await readTransferResult(transfer);
    const least = result.pairs.truth.indexOf(result.pairs.truth.toSorted((a, b) => a - b)[15]!);
    const place = (await readFile(join(data, 'pictures.csv'), 'utf8')).split('\n')[1 + result.pairs.x[least]!]!;
    const [, name, , , , path] = place.split(',');
    const due = mean(await sharp(join(photos, path!)).stats());
    const found = mean(await sharp(pictures[0]).stats());
    for (const [c, value] of due.entries()) expect(Math.abs(found[c]! - value)).toBeLessThan(4);
    expect(text).toMatch(new RegExp(`true −\\d\\.\\d estimated [−+]?\\d[.\\d]* ${name} `));
    expect(text).toContain(data);
  });

  test('says when pictures or training are gone, or are no longer what was tested', async () => {
    const folder = join(temporaryFolder(), 'transfer');
    await makeTransfer({ ...fixture, out: folder }, (result) => ({
      ...result,
      model: { ...result.model, folder: '/nowhere/Anna' },
      data: { ...result.data, folder: '/nowhere/Anna' },
    }));
    const { text, notes } = await pageOf(folder);
    expect(text).toContain('The folder of the pre-training is not there any more');
    expect(notes).toEqual([expect.stringContaining('/nowhere/Anna')]);
    expect(text).not.toContain('nowhere');
    const open = await pageOf(folder, { includeFaces: true });
    expect(open.text).toContain('Pictures cannot be shown: Cannot read');
    expect(open.notes).toHaveLength(2);
    const changed = join(temporaryFolder(), 'transfer');
    await makeTransfer({ ...fixture, out: changed }, (result) => ({ ...result, data: { ...result.data, hash: 'other' } }));
    expect((await pageOf(changed, { includeFaces: true })).text).toContain('Expected the pictures that were tested');
  });

  test('is whole for a model from random weights, tested on another set, without a chosen rate', async () => {
    const folder = join(temporaryFolder(), 'transfer');
    await makeTransfer({ ...fixture, out: folder, folds: 1 }, (result) => ({
      ...result,
      ...{ evaluation: 'linear', test: result.data, warnings: [], settings: {} },
      model: { ...result.model, folder: null },
      folds: [{ ...result.folds[0], learningRate: undefined, tried: undefined, steps: undefined, penalty: 0.1, correlation: null }],
      pairs: { fold: [], subject: [], x: [], y: [], truth: [], estimate: [] },
    }));
    const { text, bare } = await pageOf(folder, { includeFaces: true });
    for (const words of ['random weights', 'Tested Penalty Fold 1 8 1 3 0.1', 'There is no tested pair to show.', 'no data'])
      expect(text + bare).toContain(words);
    expect(bare).not.toMatch(/NaN|undefined|Infinity/);
  });
});

describe('every page', () => {
  test('runs nothing and loads nothing, whatever a result says', async () => {
    const hostile = `</title></style></svg><script>alert(1)</script><img src=x onerror='a()'>"&\u202e\u001b[31m`;
    const folder = join(temporaryFolder(), 'transfer');
    await makeTransfer({ ...fixture, out: folder }, (result) => ({
      ...result,
      ...{
        attribute: hostile,
        unit: hostile,
        made: hostile.slice(0, 90),
        warnings: [hostile],
        settings: { [hostile]: hostile, a: { b: [hostile, {}] } },
      },
      model: { ...result.model, backbone: hostile },
    }));
    for (const includeFaces of [false, true]) {
      const { bare } = await pageOf(folder, { includeFaces });
      expect(bare).not.toMatch(/<script|<link|<iframe|<img src=x|javascript:|<[^>]*\son\w+=|\u202e/i);
      expect(bare.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
      expect(bare.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|url\(|@import/);
      expect(bare).toContain(`content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"`);
    }
  });

  test('fits a phone, a sheet of paper and a screen, without a word of complaint from the browser', async ({ skip }) => {
    const program = browser();
    if (!program) return skip(noBrowser);
    const pages = [
      [run, [360]],
      [transfer, [360, 1280]],
    ] as const;
    for (const [folder, widths] of pages) {
      const { html } = await pageOf(folder, { includeFaces: true });
      for (const width of widths)
        expect({ width, ...(await layoutOf(program, html, width)) }).toMatchObject({ width, outside: [], broken: 0 });
      const printed = join(temporaryFolder(), 'page.pdf');
      const { stderr } = await opened(program, html, '--enable-logging=stderr', `--print-to-pdf=${printed}`);
      expect(stderr.split('\n').filter((line) => line.includes('CONSOLE'))).toEqual([]);
      expect((await readFile(printed)).subarray(0, 5).toString()).toBe('%PDF-');
    }
  });
});

describe('what cannot be reported is said', () => {
  const refused = async (folder: string, code: string, message: string | RegExp, hint: string) =>
    expect(report(folder)).rejects.toMatchObject({
      code,
      message: typeof message === 'string' ? expect.stringContaining(message) : expect.stringMatching(message),
      hint: expect.stringContaining(hint),
    });

  test('a folder that is neither, or is not there, and nothing is written', async () => {
    const folder = temporaryFolder();
    for (const one of [folder, join(folder, 'none'), data]) await refused(one, 'INVALID_INPUT', one, 'comface transfer');
    expect(await readdir(folder)).toEqual([]);
  });

  test('a run without steps, and one whose options are damaged', async () => {
    const folder = temporaryFolder();
    await writeFile(join(folder, 'config.json'), await readFile(join(run, 'config.json')));
    await writeFile(join(folder, 'log.jsonl'), '{"type":"start","step":0,"steps":9}\n[1]\n{"type":"step","step":"x"}\n');
    await refused(folder, 'INVALID_INPUT', 'its log has none', '--resume');
    for (const text of ['{"backbone":', '{}', '[]', 'null']) {
      await writeFile(join(folder, 'config.json'), text);
      await refused(folder, 'CORRUPT_FILE', 'config.json', 'bring back a copy');
    }
  });

  test.each([
    ['cut off', (text: string) => text.slice(0, -40), 'CORRUPT_FILE', /transfer\.json: expected JSON/, 'run the transfer again'],
    [
      'of a later version',
      (text: string) => text.replace('"version":1', '"version":2'),
      'INVALID_INPUT',
      /version 1 but found version 2/,
      'update',
    ],
    [
      'with lists of other lengths',
      (text: string) => text.replace('"truth":[', '"truth":[0,'),
      'CORRUPT_FILE',
      /pairs\.truth.*240 values/,
      'again',
    ],
    ['with a fold that is not there', (text: string) => text.replace('"fold":[0', '"fold":[4'), 'CORRUPT_FILE', /folds below 4/, 'again'],
    ['with a number out of range', (text: string) => text.replace('"seconds":754', '"seconds":1e999'), 'CORRUPT_FILE', /seconds/, 'again'],
    ['of nothing', () => 'null', 'CORRUPT_FILE', /result of a transfer/, 'again'],
  ])('a result %s', async (_, change, code, message, hint) => {
    const folder = join(temporaryFolder(), 'transfer');
    await makeTransfer({ ...fixture, out: folder }, (result) => change(JSON.stringify(result)));
    await refused(folder, code, message, hint);
    const text = await readFile(join(folder, 'transfer.json'), 'utf8');
    expect(() => parseTransferResult(text, 'x')).toThrow(expect.objectContaining({ code }));
  });

  test('a page that cannot be written, options that are none, and an abort', async () => {
    const out = join(temporaryFolder(), 'none', 'page.html');
    await expect(report(run, { out })).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(out) });
    await expect(report(run, { includeFaces: 'yes' as never })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(report(run, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
  });
});
