// The bench: which cases there are, what it says of rivals that are not there, whether a slower result is seen, and the page that is made of results.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { exponentOf, judge } from '../bench/cases/grow.mjs';
import { better, compareResults, kTolerance, readResults, writeResults } from '../bench/compare.mjs';
import { among, Contender } from '../bench/contenders.mjs';
import type { Result } from '../bench/measure.mjs';
import { charts, losses, page } from '../bench/page.mjs';
import { rivalTable } from '../bench/tables.mjs';
import { temporaryFolder } from './support.ts';

const script = fileURLToPath(new URL('../bench/run.mjs', import.meta.url));
const run = (env: NodeJS.ProcessEnv, ...args: string[]) =>
  spawnSync(process.execPath, [script, ...args], { env: { ...process.env, ...env }, encoding: 'utf8' });

const cpu = { model: 'a processor', cores: 2, memoryBytes: 2 ** 34, avx2: true, avx512: true, bf16: true };
function resultOf(name: string, ratios: Record<string, number | undefined>, change: Partial<Result> = {}): Result {
  const rivals = Object.entries(ratios).map(([rival, ratio]) =>
    ratio === undefined ? { name: rival, missing: 'not installed (ENOENT)' } : { name: rival, rate: 100 / ratio, ratio, spreadPercent: 1 },
  );
  return {
    ...{
      name,
      unit: 'items/s',
      rate: 100,
      medianMs: 10,
      p75Ms: 11,
      madPercent: 1,
      samples: 10,
      items: 1,
      peakRssBytes: 2 ** 27,
      threads: 1,
    },
    ...{ checked: 'something', rivals, isQuick: false, date: '2026-01-02T03:04:05Z', commit: '0123456789abcdef', isDirty: false, cpu },
    versions: { comface: '0.1.0', node: '20.20.2' },
    ...change,
  };
}

describe('ratios of an earlier run', () => {
  const before = [resultOf('data/jpeg', { turbojpeg: 1 }), resultOf('start/package', { sharp: 0.5, tfjs: 2 })];
  const verdicts = (now: Result[], options = {}) => {
    const { rows, slower, unjudged } = compareResults(before, now, options);
    return { rows: rows.map(({ name, rival, verdict }) => [name, rival, verdict]), slower, unjudged };
  };

  test('work that takes 1.5 times as long is slower, noise of a tenth is not', () => {
    expect(verdicts([resultOf('data/jpeg', { turbojpeg: 1 / 1.5 })]).slower).toEqual(['data/jpeg']);
    expect(verdicts([resultOf('data/jpeg', { turbojpeg: 0.9 })])).toEqual({
      rows: [['data/jpeg', 'turbojpeg', 'as before']],
      slower: [],
      unjudged: [],
    });
    expect(verdicts([resultOf('data/jpeg', { turbojpeg: kTolerance - 0.001 })]).slower).toEqual(['data/jpeg']);
    expect(verdicts([resultOf('data/jpeg', { turbojpeg: 1.4 })]).rows).toEqual([['data/jpeg', 'turbojpeg', 'faster']]);
  });

  test('one rival to whom it fell is enough, and the tolerance can be given', () => {
    const now = [resultOf('start/package', { sharp: 0.5, tfjs: 1.2 })];
    expect(verdicts(now).slower).toEqual(['start/package']);
    expect(verdicts(now, { tolerance: 0.5 }).slower).toEqual([]);
  });

  test('times of a slower machine say nothing: only ratios count', () => {
    expect(verdicts([resultOf('data/jpeg', { turbojpeg: 1 }, { rate: 1, medianMs: 1000 })]).slower).toEqual([]);
  });

  test('a rival that is gone is said, and fails only a case that was asked for and has no other', () => {
    const one = [resultOf('start/package', { sharp: 0.5, tfjs: undefined })];
    expect(verdicts(one, { asked: ['start/package'] })).toEqual({
      rows: [
        ['start/package', 'sharp', 'as before'],
        ['start/package', 'tfjs', 'not there now'],
      ],
      slower: [],
      unjudged: [],
    });
    const none = [resultOf('start/package', { sharp: undefined, tfjs: undefined })];
    expect(verdicts(none).unjudged).toEqual([]);
    expect(verdicts(none, { asked: ['start/package'] }).unjudged).toEqual(['start/package']);
  });

  test('a ratio that hangs on the instructions is judged on such processors only', () => {
    const then = [resultOf('infonce', { products: 1 }, { isaBound: true })];
    const now = (change: Partial<typeof cpu>) => [resultOf('infonce', { products: 0.5 }, { cpu: { ...cpu, ...change } })];
    expect(compareResults(then, now({ model: 'its sister' })).slower).toEqual(['infonce']);
    const other = compareResults(then, now({ avx512: false, bf16: false }));
    expect([other.slower, other.rows[0]?.verdict]).toEqual([[], 'another processor']);
  });

  test('measured again, the better of two ratios counts', () => {
    const again = better(resultOf('a', { x: 0.6, y: 1 }), resultOf('a', { x: 0.95, y: 0.7 }));
    expect(again.rivals?.map(({ ratio }) => ratio)).toEqual([0.95, 1]);
  });

  test.each(['results.json', 'results.jsonl'])('%s is read as it was written', (name) => {
    const file = join(temporaryFolder(), name);
    writeResults(file, before);
    expect(readResults(file)).toEqual(before);
    expect(readFileSync(file, 'utf8').startsWith('[')).toBe(name.endsWith('.json'));
  });
});

describe('contenders', () => {
  const program = (roundMs: number, items = 1) => `
    console.log(JSON.stringify({ items: ${items} }));
    process.stdin.on('data', () => console.log(JSON.stringify({ cpuMs: ${roundMs}, wallMs: ${2 * roundMs}, peakRssBytes: 1000 })));`;
  const contender = (name: string, code: string) => new Contender(name, process.execPath, ['-e', code]);

  test('ratios are of the time of an item, and rivals that cannot begin or end too early are named with the reason', async () => {
    const ours = contender('ours', program(10, 5));
    const rivals = [
      contender('slow', program(30, 5)),
      contender('few', program(10, 1)),
      contender('absent', "require('no-such-package')"),
      contender('short', "console.log(JSON.stringify({ items: 1 })); process.stdin.on('data', () => process.exit(3));"),
      new Contender('nowhere', '/no/such/program', []),
    ];
    const { run, rivals: lines, end } = await among(ours, rivals, () => {}, 'wallMs');
    for (let i = 0; i < 4; i++) expect(await run()).toEqual({ overriddenDuration: 20 });
    end();
    expect(lines()).toMatchObject([
      { name: 'slow', ratio: 3, cpuRatio: 3, rate: 5000 / 60, spreadPercent: 0, peakRssBytes: 1000 },
      { name: 'few', ratio: 5 },
      { name: 'absent', missing: expect.stringMatching(/^not installed \(.*no-such-package/) },
      { name: 'short', missing: 'ended: it ended' },
      { name: 'nowhere', missing: expect.stringMatching(/^not installed \(spawn .*ENOENT/) },
    ]);
  });

  test('the table says who was skipped and which line was not reached', () => {
    const result = resultOf('train/x', { default: 1.2, tuned: undefined });
    const text = rivalTable({
      ...result,
      ratioLines: [
        { to: 'default', line: 1.35, ratio: 1.2, reached: false },
        { to: 'tuned', line: 1.1 },
      ],
      isLean: true,
    });
    expect(text).toContain('tuned: skipped, not installed (ENOENT)');
    expect(text).toContain('line 1.35 x default: 1.20 x, NOT reached');
    expect(text).toContain('line 1.1 x tuned: no such rival here');
    expect(text).toContain('less memory than each of them: reached');
  });
});

describe('growth', () => {
  const points = [1, 2, 4, 8].map((x) => ({ x, ms: 3 * x ** 2, rate: x / (3 * x ** 2), bytes: 7 * x }));

  test('the exponent is the slope of logarithms', () => {
    expect(exponentOf(points.map(({ x, ms }) => [x, ms]))).toBeCloseTo(2, 10);
  });

  test('a power outside of its band is not held; a quick run judges nothing', () => {
    const law = { words: '', expected: 1, band: [0.9, 1.1] as [number, number] };
    expect(judge(points, { ...law, of: 'bytes' }, true)).toMatchObject({ measured: expect.closeTo(1, 9), held: true });
    expect(judge(points, { ...law, of: 'time' }, true)).toMatchObject({ measured: expect.closeTo(2, 9), held: false });
    expect(judge(points, { ...law, of: 'time' }, false)).not.toHaveProperty('held');
    expect(judge(points.slice(0, 1), { ...law, of: 'time' }, true)).not.toHaveProperty('measured');
  });
});

describe('the page', () => {
  const grown: Result = resultOf(
    'grow/infonce',
    {},
    {
      growth: {
        x: 'rows',
        points: [10, 100].map((x) => ({ x, ms: x ** 3, rate: 1, bytes: 2 ** 20 * x })),
        laws: [{ of: 'time', words: 'every row meets every other', expected: 2, band: [1.7, 2.15], measured: 3, held: false }],
      },
    },
  );
  const results = [
    resultOf(
      'train/x-fp32',
      { 'PyTorch default': 1.4, 'PyTorch <best>': 0.9, absent: undefined },
      {
        stepsPerRun: 5,
        ratioLines: [
          { to: 'PyTorch default', line: 1.35, ratio: 1.4, reached: true },
          { to: 'best', line: 1.1, ratio: 0.9, reached: false },
        ],
        isLean: true,
      },
    ),
    resultOf('train/x-fp32-files', {}, { rate: 95, line: 100, reached: false }),
    resultOf('faces/64', {}, { line: 50, reached: true }),
    grown,
  ];
  const text = page(results, 'Before all.\n\n## train\n\nOf training.\n\n## Known limits\n\n- One.\n');

  test('has the machine, tables by group, both ratios, who was missing, and the notes in their places', () => {
    expect(text).toMatch(
      /^# Performance\n\nBefore all\.\n\n- 2026-01-02: a processor, 2 cores, avx512 bf16, 16 GiB; comface 0\.1\.0, node 20\.20\.2; commit 0123456789ab\n/,
    );
    expect(text).toContain(
      '| `train/x-fp32` | 100 items/s | 2.00 ms | ±1.0 % | 128 MiB | 1 | 1.35 x PyTorch default: 1.40 x, reached; 1.1 x the best rival: 0.90 x, **missed**; less memory than each rival: reached |',
    );
    expect(text).toContain('| `train/x-fp32` | PyTorch default | 71.4 items/s | 1.40 x ±1.0 % |');
    expect(text).toContain('- `train/x-fp32`: absent was not there: not installed (ENOENT)');
    expect(text).toContain('accepted 1.7 to 2.15');
    const order = ['## Training steps', 'Of training.', '## Drawing faces', '## Cost as work grows', '## Where we lose', '## Known limits'];
    expect(order.map((part) => text.indexOf(part))).toEqual([...order.map((part) => text.indexOf(part))].sort((a, b) => a - b));
    expect(text).not.toMatch(/undefined|NaN|quick run/);
  });

  test('pictures of generators are beside the rate of a matrix product', () => {
    const generation = { flop: 1.5e12, gemm: 220, share: 0.42 };
    const drawn = page([resultOf('generate/stylegan3-t', { 'PyTorch fp32': 1.8 }, { generation })], '## generate\n\nOf pictures.\n');
    expect(drawn).toContain('## Pictures of StyleGAN and StyleGAN3');
    expect(drawn).toContain('| `generate/stylegan3-t` | 1500 GFLOP | 220 GFLOP/s | 42 % |');
    expect(drawn).toContain('Of pictures.');
  });

  test('says where we lose: ratios below 1 or their line, lines missed, laws not held, and nothing else', () => {
    expect(losses(results)).toEqual([
      '- `train/x-fp32`: 0.90 x the best rival, where 1.1 x is the line; slower than PyTorch <best>: 0.90 x.',
      '- `train/x-fp32-files`: 95.0 items/s of 100.',
      '- `grow/infonce`: time grows with exponent 3.00, not 1.7 to 2.15.',
    ]);
    expect(losses([resultOf('a', { x: 1.2 })])).toEqual([]);
  });

  test('a quick run says that it is one', () => {
    expect(page([resultOf('a', {}, { isQuick: true })], '')).toContain('no figure here means anything');
  });

  test('charts stand alone: their own paper in light and dark, escaped names, one for each case with rivals and each growth', () => {
    const made = charts(results);
    expect([...made.keys()]).toEqual(['performance-train-x-fp32.svg', 'performance-grow-infonce.svg']);
    for (const [file, svg] of made) {
      expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="0 0 400 /);
      expect(svg).toContain('prefers-color-scheme:dark');
      expect(svg).not.toMatch(/<best>|NaN|undefined/);
      expect(text).toContain(`<img src="${file}" width="400"`);
    }
  });
});

describe('npm run bench', () => {
  test('an unknown name is answered with the nearest and the list', () => {
    const { status, stderr } = run({}, 'train/resnet18-46-fp32');
    expect(status).toBe(2);
    expect(stderr).toMatch(/^There is no case 'train\/resnet18-46-fp32'\. Did you mean train\/resnet18-64-fp32\? There are:/);
  });

  test('a name takes its group, and what begins with it', () => {
    const listed = (...names: string[]) =>
      run({}, '--list', ...names)
        .stdout.trim()
        .split('\n');
    expect(listed('train/resnet50-224')).toEqual([
      'train/resnet50-224-bf16',
      'train/resnet50-224-fp32',
      'train/resnet50-224-fp32-avx2',
      'train/resnet50-224-bf16-files',
    ]);
    expect(listed('op/conv3x3', 'op/conv3x3-fp32', 'start')).toEqual(['op/conv3x3-fp32', 'op/conv3x3-bf16', 'start/package']);
  });

  test('one case runs beside a missing PyTorch, writes its result, and is compared with an earlier one', () => {
    const folder = temporaryFolder();
    const [json, earlier] = [join(folder, 'now.json'), join(folder, 'then.jsonl')];
    writeResults(earlier, [resultOf('train/resnet18-32-narrow', { 'PyTorch default': 1.5 })]);
    const env = { PYTHON: join(folder, 'no-python'), COMFACE_TFJS: folder };
    const { status, stdout } = run(env, 'train/resnet18-32-narrow', '--quick', '--json', json, '--compare', earlier);
    expect(stdout).toMatch(/PyTorch default: skipped, not installed \(spawn .*ENOENT\)/);
    expect(stdout).toMatch(/TensorFlow\.js: skipped, not installed \(Cannot find package '@tensorflow\/tfjs-node'/);
    expect(stdout).toContain('none of its rivals is there now, so nothing is known');
    expect(status).toBe(1);
    const [result] = readResults(json);
    expect(result).toMatchObject({ name: 'train/resnet18-32-narrow', items: 480, isQuick: true, rivals: [{}, {}, {}] });
    expect(result!.peakRssBytes).toBeGreaterThan(2 ** 25);
  }, 60_000);
});
