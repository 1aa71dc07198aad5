// The command line as a user meets it: child processes of the built package. Results go to standard output, everything else to standard error.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
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

let made: ReturnType<typeof comface>;
beforeAll(() => {
  made = comface(
    'generate',
    '--out',
    data,
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
  const commands = ['demo', 'generate', 'train', 'compare'];

  test('lists the commands and goes to standard output', () => {
    const { status, out, errors } = comface('--help');
    expect([status, errors]).toEqual([0, '']);
    for (const command of commands) expect(out).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
  });

  test.each(commands)('of %s ends with an example', (command) => {
    const { status, out } = comface(command, '--help');
    expect([status, /Examples?:\n {2}\$ comface /.test(out)]).toEqual([0, true]);
  });

  test('of train shows every option with its default', () => {
    const { out } = comface('train', '--help');
    for (const text of ['--temperature <number>', '(default: 0.1)', '--augment.crop-area-min', '--resume', '--curriculum.stage-ends'])
      expect(out).toContain(text);
  });

  test('is short of nothing: the version is that of the package', () => {
    expect(comface('--version').out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('a wrong command line ends with code 2, nothing on standard output, and', () => {
  test.each([
    [['generat'], 'generate'],
    [['train', '--temprature', '1'], '--temperature'],
    [['generate'], '--out'],
    [['compare', 'one.jpg'], "'y'"],
  ])('%o is answered with %s', (args, text) => {
    const { status, out, errors } = comface(...args);
    expect([status, out]).toEqual([2, '']);
    expect(errors).toContain(text);
  });

  test('a value out of range is answered with the rule', () => {
    const { status, out, errors } = comface(...training('never', '--temperature', '-1'));
    expect([status, out]).toEqual([2, '']);
    expect(errors).toMatch(/number from 0\.001 to 100 for `temperature` but received -1/);
    expect(errors).not.toContain('    at ');
  });

  test('a wrong line of a file is answered with path and line', async () => {
    const file = join(shared, 'wrong.yaml');
    await writeFile(file, 'pairs: 4\ntempreature: 1\n');
    const { status, errors } = comface('train', '--config', file, '--data', data, '--out', 'never');
    expect([status, errors.includes(`${file}:2`), errors.includes('temperature')]).toEqual([2, true, true]);
  });
});

describe('the commands', () => {
  test('generate says what it made, and the same again', () => {
    expect([made.status, made.out]).toEqual([0, '60 pictures in faces\n']);
  });

  test('train prints the checkpoint alone, from flags over a file, and compare takes the run', async () => {
    const file = join(shared, 'run.yaml');
    await writeFile(file, 'epochs: 7\npairsPerEpoch: 8\nbackbone: resnet18\n');
    const { status, out, errors } = comface(...training('run', '--config', file, '--epochs', '1'));
    expect([status, out, errors.match(/step 2\/2/) !== null]).toEqual([0, 'run/checkpoints/step-00000002\n', true]);
    const picture = join(data, '000000', 'smile', '00.jpg');
    const compared = comface('compare', picture, join(data, '000000', 'smile', '04.jpg'), '--model', 'run');
    expect([compared.status, compared.errors]).toEqual([0, '']);
    expect(compared.out).toMatch(/^change -?\d+\.\d\d /);
    const again = comface(...training('run'));
    expect([again.status, again.errors.includes('--resume')]).toEqual([2, true]);
  }, 20_000);

  test('what goes wrong ends with its code, a message and what to do, and no stack', () => {
    for (const [args, text, code] of [
      [['compare', 'none.jpg', 'none.jpg', '--model', 'no-run'], 'comface train', 2],
      [['train', '--data', 'nowhere', '--out', 'never'], 'comface generate', 1],
      [['generate', '--out', 'never', '--subjects', 'many'], 'received "many"', 2],
      [['sheet', '--out', '/nowhere/sheet.jpg', '--subjects', '1'], 'permissions', 1],
    ] as const) {
      const { status, out, errors } = comface(...args);
      expect([status, out, errors.includes(text), errors.includes('    at ')]).toEqual([code, '', true, false]);
    }
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    'train stopped by %s saves, ends with code 0, and --resume goes on',
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
      const [code] = await once(child, 'close');
      expect([code, out]).toEqual([0, '']);
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
