// The command line as a user meets it: child processes of the built package. Results go to standard output, everything else to standard error.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { copyFile, cp, mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { latestCheckpoint } from '../lib/train/checkpoint.ts';
import { sharedFolder } from './faces.ts';
import { temporaryFolder } from './support.ts';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const shared = sharedFolder();
const data = join(shared, 'faces');

function comface(...args: string[]): { status: number | null; out: string; errors: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: shared, timeout: 30_000 });
  return { status, out: stdout, errors: stderr };
}

const small = '--backbone resnet18 --width 16 --size 32 --pairs 4 --device cpu --precision fp32 --threads 1 --projection.out 16'.split(' ');
const training = (run: string, ...more: string[]) => ['train', '--data', data, '--out', run, ...small, ...more];

const transferring = (out: string, ...more: string[]) => [
  ...['transfer', '--data', 'faces', '--out', out, '--attribute', 'smile', '--evaluation', 'linear', '--folds', '2', '--no-final'],
  ...['--pairs-per-subject', '6', ...(more.includes('--model') ? [] : small.slice(0, 6)), ...small.slice(8, 14), ...more],
];

/** Whether a process has a handler of its own for a signal; see proc(5). */
function catches(pid: number, signal: NodeJS.Signals): boolean {
  const caught = /^SigCgt:\t(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1];
  return ((BigInt(`0x${caught}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}

let made: ReturnType<typeof comface>;
beforeAll(() => {
  made = comface(
    'generate',
    '--out',
    data,
    '--format',
    'files',
    '--subjects',
    '6',
    '--attributes',
    'smile,age',
    '--alphas',
    '5',
    '--size',
    '32',
    '--threads',
    '1',
  );
});

describe('help', () => {
  const commands = [
    ...['demo', 'generate', 'directions', 'twin', 'pack', 'join', 'inspect', 'sheet', 'train', 'transfer'],
    ...['compare', 'embed', 'saliency', 'report', 'import', 'export', 'reproduce', 'doctor', 'build', 'completion'],
  ];

  test('lists the commands and goes to standard output', () => {
    const { status, out, errors } = comface('--help');
    expect([status, errors]).toEqual([0, '']);
    for (const command of commands) expect(out).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
  });

  test('has groups in the order of use, first steps, the exit codes and where the documents are', () => {
    const { out } = comface('--help');
    const headings = [
      'To begin:',
      'Data sets:',
      'Training:',
      'With a trained model:',
      'Weights:',
      'Installation and help:',
      'First steps:',
      'Exit codes:',
    ];
    expect(out.split('\n').filter((line) => /^[A-Z].*:$/.test(line))).toEqual(['Options:', ...headings]);
    expect(out).toContain('docs/cli.md');
    expect(
      comface('train', '--help')
        .out.split('\n')
        .filter((line) => /^[A-Z].*:$/.test(line)),
    ).toEqual([
      ...['Options:', 'Network:', 'Training:', 'Curriculum:', 'Views:', 'Machine:', 'Log, checkpoints, broken pictures:', 'Examples:'],
    ]);
  });

  test.each(commands)('of %s ends with an example', (command) => {
    const { status, out } = comface(command, '--help');
    expect([status, /Examples?[^\n]*:\n {2}\$ .*\bcomface /.test(out)]).toEqual([0, true]);
  });

  test('of train shows every option with its default', () => {
    const { out } = comface('train', '--help');
    for (const text of ['--temperature <number>', '(default: 0.1)', '--augment.crop-area-min', '--resume', '--curriculum.stage-ends'])
      expect(out).toContain(text);
  });

  test.each([...commands, ''])('of %s says all on lines of 80 columns, and defaults as they are typed', (command) => {
    const { out } = comface(...[command, '--help'].filter(Boolean));
    const lines = out.split('\n').filter((line) => !line.startsWith('  $ '));
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    expect(out).not.toMatch(/default:\s+["[]/);
    for (const [, text] of out.matchAll(/^ {2}-\S+(?: \S+)? {2,}(\S.*)/gm))
      expect(text).toMatch(/^(?:[A-Z]|[bcsh] of|none:|full,|fineTune |smoke )/);
  });

  test('says which options a command cannot do without', () => {
    for (const [command, flags] of [
      ['generate', ['--out <folder>']],
      ['twin', ['--out <folder>']],
      ['sheet', ['--out <file>']],
      ['embed', ['--out <file>']],
      ['saliency', ['--out <file>']],
      ['train', ['--data <path>', '--out <path>']],
      ['transfer', ['--data <folder>', '--out <folder>']],
      ['import', ['--out <folder>']],
      ['export', ['--out <folder>']],
      ['reproduce', ['--out <folder>']],
    ] as const) {
      const options = comface(command, '--help').out.split(/\n {2}(?=-)/);
      expect(options.filter((text) => /\(required/.test(text)).map((text) => text.split(/ {2,}/)[0])).toEqual(flags);
    }
  });

  test('is short of nothing: the version is that of the package', () => {
    expect(comface('--version').out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('a wrong command line ends with code 2, nothing on standard output, and', () => {
  test.each([
    [['generat'], 'generate'],
    [['twin', 'fg-net', '--out', 'never'], 'disfa, fgnet, weight'],
    [['twin', '--out', 'never'], "'kind'"],
    [['train', '--temprature', '1'], '--temperature'],
    [['generate'], '--out'],
    [['compare', 'one.jpg'], "'y'"],
    [['train', '--augment.crop-area-mim', '1'], 'Did you mean --augment.crop-area-min?'],
    [['demo', '--scale', 'smok'], 'Did you mean smoke?'],
    [['twin', 'fgnett', '--out', 'never'], 'Did you mean fgnet?'],
    [['reproduce', 'tabel2', '--out', 'never'], 'Did you mean table2?'],
    [['generate', '--out', 'never', '--attributes', 'smle'], 'Did you mean smile?'],
    [['generate', '--out', 'never', '--format', 'file'], 'Did you mean files?'],
    [['train', '--data', 'a', '--out', 'b', '--backbone', 'resnet8'], 'Did you mean resnet18?'],
    [['doctor', '--jsn'], 'comface doctor --help shows what it takes'],
  ])('%o is answered with %s', (args, text) => {
    const { status, out, errors } = comface(...args);
    expect([status, out]).toEqual([2, '']);
    expect(errors).toContain(text);
  });

  test('a value out of range is answered with the rule', () => {
    const { status, out, errors } = comface(...training('never', '--temperature', '-1'));
    expect([status, out]).toEqual([2, '']);
    expect(errors).toMatch(/number from 0\.001 to 100 for --temperature but received -1\n {2}Choose a number from 0\.001 to 100; /);
    expect(errors).not.toContain('    at ');
  });

  test('a wrong line of a file is answered with path and line', async () => {
    const file = join(shared, 'wrong.yaml');
    await writeFile(file, 'pairs: 4\ntempreature: 1\n');
    const { status, errors } = comface('train', '--config', file, '--data', data, '--out', 'never');
    expect([status, errors.includes(`${file}:2`), errors.includes('temperature')]).toEqual([2, true, true]);
  });

  test.each([
    ['for --seed but received 9007199254740993\n', training('never', '--seed', '9007199254740993')],
    ['for --temperature but received 1e999\n', training('never', '--temperature', '1e999')],
    ['Expected at least --pairs (4) for --pairs-per-epoch but received 2\n', training('never', '--pairs-per-epoch', '2')],
    ['for number 3 of --augment.mean but received 7.50\n', training('never', '--augment.mean', '0,0,7.50')],
    ['at most --augment.crop-area-max (0.01) for --augment.crop-area-min', training('never', '--augment.crop-area-max', '0.01')],
    ['training pictures, for --pairs but received 500\n', training('never', '--pairs', '500')],
    ['for --gradient-cache', training('never', '--gradient-cache', '2')],
    ['Expected a path for --data but received undefined\n', ['train', '--out', 'never']],
    ['for --seed but received 9007199254740993\n', ['generate', '--out', 'never', '--seed', '9007199254740993']],
    ['for --size but received 1e3\n  Choose an integer from 32 to 512.\n', ['generate', '--out', 'never', '--size', '1e3']],
    ['for --attributes but received "smil"\n', ['generate', '--out', 'never', '--attributes', 'smil']],
    ['for --frames but received 5\n  Leave it out.\n', ['twin', 'fgnet', '--out', 'never', '--frames', '5']],
    ['for --first-subject but received -1\n', ['sheet', '--out', 'never.jpg', '--first-subject', '-1']],
    ['for number 2 of --alphas but received ""\n', ['sheet', '--out', 'never.jpg', '--alphas', '0,,x']],
    ['for --model but received "no-run"\n', ['compare', 'x.jpg', 'y.jpg', '--model', 'no-run']],
  ])('%s, in the words of the command line', (text, args) => {
    const { status, out, errors } = comface(...args);
    expect([status, out]).toEqual([2, '']);
    expect(errors).toContain(text);
    expect(errors).not.toContain('`');
  });

  test('a value of a file that breaks a rule between options is named with its line, one that a flag replaces by the flag', async () => {
    const file = join(shared, 'both.yaml');
    await writeFile(file, 'seed: 1\npairsPerEpoch: 2\n');
    const found = comface(...training('never', '--config', file)).errors;
    expect(found).toContain(`Expected at least --pairs (4) for \`pairsPerEpoch\` (${file}:2) but received 2\n`);
    const replaced = comface(...training('never', '--config', file, '--pairs-per-epoch', '3')).errors;
    expect(replaced).toContain('Expected at least --pairs (4) for --pairs-per-epoch but received 3\n');
  });

  test('a manifest that is wrong keeps its words: its size is not --size', async () => {
    const folder = temporaryFolder();
    await writeFile(join(folder, 'manifest.jsonl'), '{"format":"comface-faces","version":1,"size":0}\n');
    const { errors } = comface('train', '--data', folder, '--out', join(folder, 'run'), ...small);
    expect(errors).toContain('for `size` but found 0');
  });
});

describe('the commands', () => {
  test('twin says what it made, and the same again', () => {
    const words = ['twin', 'disfa', '--out', 'disfa', '--subjects', '2', '--frames', '3', '--size', '32', '--threads', '1'] as const;
    const first = comface(...words);
    expect([first.status, first.out]).toEqual([0, '6 pictures of 2 subjects in disfa\n']);
    expect(first.errors).toContain('6 of 6 faces');
    expect(comface(...words)).toMatchObject({ status: 0, out: first.out, errors: '' });
    expect(comface(...words.with(5, '1'))).toMatchObject({ status: 2, out: '' });
  });

  test('generate says what it made, and the same again', () => {
    expect([made.status, made.out]).toEqual([0, '60 pictures in faces\n']);
    const shards = comface('generate', '--out', 'shards', '--subjects', '6', '--alphas', '5', '--size', '32', '--attributes', 'smile');
    expect([shards.status, shards.out]).toEqual([0, '30 pictures in shards\n']);
    for (const { errors } of [made, shards]) expect(errors).toMatch(/^About \d+(\.\d+)? kB to write; \d+(\.\d+)? [GT]B are free there\.\n/);
    const trained = comface('train', '--data', 'shards', '--out', 'shards-run', ...small, '--epochs', '1');
    expect([trained.status, trained.out]).toEqual([0, 'shards-run/checkpoints/step-00000006\n']);
  });

  test('pack says what it packed and what not, and inspect what is there, with code 1 for damage', async () => {
    const photos = join(shared, 'photos');
    await cp(data, photos, { recursive: true }); // SUBJECT/ATTRIBUTE/NUMBER.jpg
    await rm(join(photos, 'manifest.jsonl'));
    await truncate(join(photos, '000003', 'smile', '02.jpg'), 200);
    const packed = comface('pack', 'photos', '--out', 'packed', '--size', '32');
    expect([packed.status, packed.out]).toEqual([0, '59 pictures of 6 subjects in packed\n']);
    expect(packed.errors).toMatch(
      /^Read as a folder of subjects \(--format folder\)\.\n(.*\n)*Not packed: 1 of 60, all in packed\/rejected\.csv; the first:\n {2}000003\/smile\/02\.jpg: it is damaged, /,
    );
    const sound = comface('inspect', 'packed', '--verify', '--sheet', 'sheet.png');
    expect([sound.status, sound.out.split('\n')]).toEqual([
      0,
      [
        expect.stringMatching(/^packed: 59 pictures of 6 subjects, 32 x 32 pixels, \d+(\.\d)? kB on the disk$/),
        expect.stringMatching(/^ {2}age {4}30 pictures of 6 subjects, alpha 0 to 4 {2}█.*█$/),
        expect.stringMatching(/^ {2}smile {2}29 pictures of 6 subjects, alpha 0 to 4 {2}█.*█$/),
        '59 pictures read; none is damaged.',
        'sheet.png',
        '',
      ],
    ]);
    await truncate(join(shared, 'packed', '00000.shard'), 5000);
    const damaged = comface('inspect', 'packed');
    expect([damaged.status, damaged.out]).toEqual([
      1,
      expect.stringMatching(/59 pictures read; 59 are damaged\.\n {2}picture 0: .*\n(.*\n){9} {2}and 49 more/),
    ]);
    expect(JSON.parse(comface('inspect', 'packed', '--json', '--sheet', 'again.png').out).damaged).toHaveLength(59);
    const jpeg = comface('inspect', 'packed', '--sheet', 'sheet.jpg');
    expect([jpeg.status, jpeg.errors]).toEqual([
      2,
      expect.stringContaining('Expected a name that ends in .png for --sheet but received "sheet.jpg"'),
    ]);
  });

  test('train prints the checkpoint alone, from flags over a file, and compare takes the run', async () => {
    const file = join(shared, 'run.yaml');
    await writeFile(file, 'epochs: 7\npairsPerEpoch: 8\nbackbone: resnet18\n');
    const { status, out, errors } = comface(...training('run', '--config', file, '--epochs', '1'));
    expect([status, out, errors.match(/step 2\/2/) !== null]).toEqual([0, 'run/checkpoints/step-00000002\n', true]);
    const picture = join(data, '000000', 'smile', '00.jpg');
    const compared = comface('compare', picture, join(data, '000000', 'smile', '04.jpg'), '--model', 'run');
    expect([compared.status, compared.errors]).toEqual([0, '']);
    expect(compared.out).toMatch(/^changed by -?\d+\.\d\d steps of alpha /);
    const broken = join(temporaryFolder(), 'broken.jpg');
    await copyFile(picture, broken);
    await truncate(broken, 300);
    const refused = comface('compare', picture, broken, '--model', 'run');
    expect([refused.status, refused.out, refused.errors.includes('Replace the picture')]).toEqual([1, '', true]);
    const again = comface(...training('run'));
    expect([again.status, again.errors.includes('--resume')]).toEqual([2, true]);
  }, 20_000);

  test('transfer prints its scores and its own folder, whatever it begins with', () => {
    const run = join(shared, 'begun');
    comface(...training(run, '--epochs', '1'));
    const { status, out, errors } = comface(...transferring('moved', '--model', run));
    expect([status, out]).toEqual([0, expect.stringMatching(/^smile: means over folds.*\n {2}mean error.*\n.*\n.*\nmoved\n$/)]);
    expect(errors).toMatch(/Warning: The model learned from .*faces before: it is tested on people that it has seen/);
  });

  test.each([
    ['--model nowhere', /folder for --model but received "nowhere"/, /Train first/],
    ['--epochs 0', /for --epochs but received 0/, /^ {2}Choose an integer from 1 to 1000000\.$/m],
    ['--pairs 1', /for --pairs but received 1/, /^ {2}Choose an integer from 2 to 8192\.$/m],
    ['--test-data faces', /other than --data for --test-data but received "faces"/, /Leave it out/],
  ])('transfer answers %s with the flag and the rule, and says nothing of train', (wrong, message, hint) => {
    const { status, out, errors } = comface(...transferring('refused', ...wrong.split(' ')));
    expect([status, out, errors]).toEqual([2, '', expect.stringMatching(message)]);
    expect(errors).toMatch(hint);
  });

  test('what goes wrong ends with its code, a message and what to do, and no stack', () => {
    for (const [args, text, code] of [
      [['compare', 'none.jpg', 'none.jpg', '--model', 'no-run'], 'comface train', 2],
      [['train', '--data', 'nowhere', '--out', 'never'], 'comface generate', 1],
      [['generate', '--out', 'never', '--subjects', 'many'], 'received "many"', 2],
      [['sheet', '--out', '/nowhere/sheet.jpg', '--subjects', '1'], 'permissions', 1],
      [['generate', '--out', '/proc/x', '--subjects', '1'], '/proc/x', 1],
    ] as const) {
      const { status, out, errors } = comface(...args);
      expect([status, out, errors.includes(text), errors.includes('    at ')]).toEqual([code, '', true, false]);
    }
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'train stopped by %s before its first step dies by it: nothing is to be saved',
    async (signal) => {
      const run = join(temporaryFolder(), 'run');
      await mkdir(run);
      execFileSync('mkfifo', [join(run, 'run.lock')]); // whoever reads it waits for a writer
      const child = spawn(process.execPath, [cli, ...training(run)], { stdio: ['ignore', 'pipe', 'pipe'] });
      onTestFinished(() => void child.kill('SIGKILL'));
      let errors = '';
      child.stderr.on('data', (text) => (errors += text));
      await expect.poll(() => catches(child.pid!, 'SIGHUP'), { timeout: 10_000 }).toBe(true);
      child.kill(signal);
      expect(await once(child, 'close')).toEqual([null, signal]);
      expect(errors).toBe('Stopped before there was anything to save.\n');
    },
  );

  test('a second SIGHUP in the middle of a step ends train at once', async () => {
    const slow = training(join(temporaryFolder(), 'run'), ...'--width 64 --size 192 --pairs 50'.split(' '));
    const child = spawn(process.execPath, [cli, ...slow], { stdio: ['ignore', 'pipe', 'pipe'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    let errors = '';
    child.stderr.on('data', (text) => {
      errors += text;
      if (!/\d steps\.\n/.test(errors) || child.killed) return;
      child.kill('SIGHUP');
      setTimeout(() => child.kill('SIGHUP'), 500);
    });
    expect(await once(child, 'close')).toEqual([null, 'SIGHUP']);
    expect(errors).toContain('once more to stop at once');
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'train stopped by %s saves, dies by it, and --resume goes on',
    async (signal) => {
      const run = join(temporaryFolder(), 'run');
      const args = training(run, '--epochs', '100000', '--log-every-steps', '1');
      const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
      let [out, errors] = ['', ''];
      child.stdout.on('data', (text) => (out += text));
      child.stderr.on('data', (text) => {
        errors += text;
        if (/step \d+\//.test(errors) && !child.killed) child.kill(signal);
      });
      expect(await once(child, 'close')).toEqual([null, signal]);
      expect(out).toBe('');
      expect(errors).toContain('saved');
      const { step } = (await latestCheckpoint(run))!;
      expect(step).toBeGreaterThan(0);
      const perEpoch = Number(/step \d+\/(\d+)/.exec(errors)![1]) / 100_000;
      const epochs = Math.ceil((step + 1) / perEpoch);
      const again = comface(...training(run, '--epochs', String(epochs), '--resume'));
      expect([
        again.status,
        again.errors.includes(`after step ${step}`),
        again.out.includes(`step-${String(epochs * perEpoch).padStart(8, '0')}`),
      ]).toEqual([0, true, true]);
    },
    20_000,
  );
});
