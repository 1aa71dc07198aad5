// The programs of examples/ as a user has them: compiled under --strict against the built package, which they import by its name, and run in folders
// of their own. The compiled ones lie in build/, from where Node finds this very package as 'comface'.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadModel } from '../lib/model.ts';
import { readTransferResult } from '../lib/transfer/result.ts';
import { sharedFolder } from './faces.ts';
import { temporaryFolder } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const names = ['train', 'resume', 'timeline', 'task', 'progress'];
const shared = sharedFolder();
const run = join(shared, 'run');
let compiled = '';
let trained: ReturnType<typeof example>;

beforeAll(() => {
  mkdirSync(join(root, 'build'), { recursive: true });
  compiled = mkdtempSync(join(root, 'build', 'examples-'));
  for (const name of names) copyFileSync(join(root, 'examples', `${name}.ts`), join(compiled, `${name}.ts`));
  const compilerOptions = { target: 'es2022', module: 'nodenext', strict: true, types: ['node'], erasableSyntaxOnly: true };
  writeFileSync(join(compiled, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['.'] }));
  execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', compiled], { encoding: 'utf8' });
  trained = example(shared, 'train', '--epochs', '2', '--threads', '1');
});

afterAll(() => rmSync(compiled, { recursive: true, force: true }));

function example(cwd: string, name: string, ...args: string[]): { status: number | null; out: string; errors: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(compiled, `${name}.js`), ...args], {
    ...{ encoding: 'utf8', cwd, timeout: 100_000 },
  });
  return { status, out: stdout, errors: stderr };
}

const rowsOf = (text: string) => parse(text, { columns: true }) as Record<string, string>[];
const logOf = (folder: string) =>
  readFileSync(join(folder, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; step: number });

test('there are five, each with what it shows and how to run it, in a few lines that only comface and Node are needed for', () => {
  const programs = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.ts'));
  expect(programs.sort()).toEqual(names.map((name) => `${name}.ts`).sort());
  for (const name of names) {
    const text = readFileSync(join(root, 'examples', `${name}.ts`), 'utf8');
    expect(text).toMatch(new RegExp(`^// .*(\n//.*)*\n//   node ${name}\\.ts`));
    expect(text.split('\n').length).toBeLessThanOrEqual(82);
    for (const [, from] of text.matchAll(/ from '(.+)';/g)) expect(from).toMatch(/^comface$|^node:/);
    expect(readFileSync(join(root, 'examples', 'README.md'), 'utf8')).toContain(`[${name}.ts](${name}.ts)`);
  }
});

describe('train', () => {
  test('draws faces, prints its progress, and leaves a model where it says', async () => {
    expect([trained.status, trained.errors]).toEqual([0, expect.stringContaining('step 20 of ')]);
    expect(trained.errors).toMatch(/540 pictures of 54 people, \d+ steps on /);
    expect(trained.errors.match(/people it has not seen/g)).toHaveLength(2);
    const model = await loadModel(trained.out.trim());
    model.dispose();
    expect(model.width).toBe(128);
  });

  test('says what is wrong, and what to do about it', () => {
    const { status, out, errors } = example(shared, 'train', '--data', 'faces-train', '--epochs', '2');
    expect([status, out]).toEqual([1, '']);
    expect(errors).toMatch(/^INVALID_CONFIG: .*holds one at step \d+\nGo on with it by/);
  });
});

describe('resume', () => {
  const tiny = ['--epochs', '3', '--data', join(shared, 'faces-train')];

  test('ends with the weights of a run that was never stopped', async () => {
    const whole = example(temporaryFolder(), 'resume', ...tiny);
    expect([whole.status, whole.out]).toEqual([0, expect.stringMatching(/^[0-9a-f]{64}\n$/)]);
    const folder = temporaryFolder();
    const stopped = example(folder, 'resume', ...tiny, '--stop-after', '3');
    expect([stopped.status, stopped.out]).toEqual([130, '']);
    expect(stopped.errors).toContain('Stopped (step 3) and saved');
    const program = spawn(process.execPath, [join(compiled, 'resume.js'), ...tiny], { cwd: folder });
    const lines: string[] = [];
    for await (const line of createInterface(program.stderr)) if (lines.push(line) === 3) program.kill('SIGINT');
    const [code] = program.exitCode === null ? await once(program, 'exit') : [program.exitCode];
    expect([code, lines[0], lines.at(-1)]).toEqual([130, 'goes on after step 3', expect.stringContaining('Stopped (Ctrl+C)')]);
    const rest = example(folder, 'resume', ...tiny);
    expect([rest.status, rest.out]).toEqual([0, whole.out]);
    expect(rest.errors).toMatch(/^goes on after step ([4-9]|\d\d)/);
  });
});

describe('timeline', () => {
  test('draws a person, and its table has the changes that compare() gives, in the order of the dates', async () => {
    const { status, out } = example(shared, 'timeline');
    const rows = rowsOf(out);
    expect([status, rows.length]).toEqual([0, 6]);
    const dates = rows.map(({ date }) => date);
    expect(dates).toEqual(['2026-01-05', '2026-01-12', '2026-01-19', '2026-01-26', '2026-02-02', '2026-02-09']);
    const model = await loadModel(run);
    try {
      const fileOf = (name = '') => join(shared, 'person-by-date', name);
      for (const { picture, change, unit } of rows) {
        const expected = await model.compare(fileOf(rows[0]!.picture), fileOf(picture));
        expect([Number(change), unit]).toEqual([Number(expected.change.toPrecision(4)), expected.unit]);
      }
    } finally {
      model.dispose();
    }
  });

  test('goes by the dates in the names, and names what it leaves out and what it cannot read', async () => {
    const folder = temporaryFolder();
    const picture = (gray: number) =>
      sharp({ create: { width: 40, height: 40, channels: 3, background: { r: gray, g: 99, b: 99 } } }).jpeg();
    await picture(10).toFile(join(folder, 'IMG_20250301_071500.jpg'));
    await picture(90).toFile(join(folder, 'z, 2024-12-24.JPG'));
    await picture(20).toFile(join(folder, 'holiday.jpg'));
    writeFileSync(join(folder, '2025-02-01.jpg'), 'no picture');
    const { status, out, errors } = example(shared, 'timeline', '--pictures', folder);
    expect([status, errors]).toEqual([0, expect.stringContaining('holiday.jpg: there is no date')]);
    const rows = rowsOf(out);
    expect(rows.map(({ date, picture }) => [date, picture])).toEqual([
      ['2024-12-24', 'z, 2024-12-24.JPG'],
      ['2025-02-01', '2025-02-01.jpg'],
      ['2025-03-01', 'IMG_20250301_071500.jpg'],
    ]);
    expect(rows.map(({ change, reason }) => [change !== '', reason !== ''])).toEqual([
      [true, false],
      [false, true],
      [true, false],
    ]);
  });
});

describe('task', () => {
  test('packs a CSV file, scores on people it has not learned from, and compares two pictures in the unit of the labels', async () => {
    const folder = temporaryFolder();
    const { status, out, errors } = example(folder, 'task', '--threads', '1', '--model', run);
    expect([status, errors]).toEqual([0, expect.stringContaining('144 pictures of 24 people')]);
    const { scores, unit, model } = await readTransferResult(join(folder, 'task', 'transfer'));
    expect([unit, model.folder]).toEqual(['points', run]);
    const text = (value: number | null) => value!.toFixed(3);
    expect(rowsOf(out)).toEqual(
      (['mae', 'correlation', 'accuracy'] as const).map((score) => {
        const { value, low, high } = scores[score];
        return { score, value: text(value), low: text(low), high: text(high) };
      }),
    );
    expect(errors).toMatch(/rated\/2000000\/smile\/00\.jpg to rated\/2000000\/smile\/05\.jpg: (in|de)crease by \d+\.\d\d points\n$/);
  });
});

describe('progress', () => {
  test('has a point for every step of the log, of both losses, and for every validation', async () => {
    const { status, out } = example(shared, 'progress');
    expect([status, out]).toEqual([0, 'run/progress.svg\n']);
    const svg = readFileSync(join(run, 'progress.svg'), 'utf8');
    const events = logOf(run);
    const count = (type: string) => events.filter((event) => event.type === type).length;
    expect(count('step')).toBeGreaterThan(100);
    const panels = svg.split('<g><text').slice(1);
    expect(panels.map((panel) => panel.match(/<circle /g)?.length)).toEqual([count('step'), count('step'), count('validation')]);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    expect(await sharp(Buffer.from(svg)).metadata()).toMatchObject({ format: 'svg', width: 860 });
  });

  test('reads the log of a run that trains, to the last whole line, and leaves out a loss that is not there', () => {
    const folder = temporaryFolder();
    const steps = [1, 2, 3].map((step) => ({ type: 'step', step, steps: 9, inter: null, intra: step }));
    writeFileSync(join(folder, 'log.jsonl'), `${steps.map((step) => JSON.stringify(step)).join('\n')}\n{"type":"st`);
    expect(example(folder, 'progress', '--run', '.', '--out', 'p.svg')).toMatchObject({ status: 0, out: 'p.svg\n' });
    const svg = readFileSync(join(folder, 'p.svg'), 'utf8');
    expect([svg.match(/<circle /g)?.length, svg.includes('InfoNCE')]).toEqual([3, false]);
  });

  test('says where there is no run', () => {
    const { status, errors } = example(temporaryFolder(), 'progress');
    expect([status, errors]).toEqual([1, expect.stringContaining('Train first')]);
  });
});
