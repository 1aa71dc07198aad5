// The command line on a terminal: child processes on a pseudo-terminal that script(1) makes, and the screen that is left.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Progress, rate } from '../lib/progress.ts';
import { sharedFolder, smallFaces } from './faces.ts';
import { temporaryFolder } from './support.ts';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const shared = sharedFolder();
let data = '';
beforeAll(async () => {
  data = await smallFaces(shared);
});

const small = '--backbone resnet18 --width 16 --size 32 --pairs 4 --device cpu --precision fp32 --threads 1 --projection.out 16'.split(' ');
const training = (run: string, ...more: string[]) => ['train', '--data', data, '--out', run, ...small, ...more];

interface Shown {
  /** As the terminal got it. */
  text: string;
  /** What is on the screen at the end, row by row. */
  rows: string[];
  /** The exit code, 128 and more for a signal. */
  code: number;
}

interface Looks {
  columns?: number;
  env?: NodeJS.ProcessEnv;
  /** Called when more was printed. */
  keys?: (text: string, type: (signs: string) => void) => void;
}

/** Runs a command on a terminal. */
async function onTerminal(args: readonly string[], { columns = 80, env = {}, keys = () => undefined }: Looks = {}): Promise<Shown> {
  const command = [process.execPath, cli, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qec', `stty cols ${columns}; exec ${command}`, '/dev/null'], {
    ...{ cwd: shared, env: { ...process.env, TERM: 'xterm', ...env }, stdio: ['pipe', 'pipe', 'ignore'], timeout: 60_000 },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part) => {
    text += part;
    keys(text, (signs) => child.stdin.write(signs));
  });
  const [code] = await once(child, 'close');
  return { text, rows: screenOf(text, columns), code };
}

const kErase = '\x7f';

/** A terminal that knows line ends, the two signs that progress uses, and where a line wraps. */
function screenOf(text: string, columns: number): string[] {
  const rows = [''];
  let column = 0;
  for (const sign of text.replaceAll('\x1b[2K', kErase)) {
    if (sign === kErase) rows[rows.length - 1] = '';
    else if (sign === '\r') column = 0;
    else if (sign === '\n') rows.push(' '.repeat(column));
    else {
      if (column === columns) {
        rows.push('');
        column = 0;
      }
      const row = rows.at(-1)!;
      rows[rows.length - 1] = row.slice(0, column).padEnd(column) + sign + row.slice(column + 1);
      column++;
    }
  }
  return rows;
}

/** Every text of a line that is rewritten. */
const updates = (text: string): string[] =>
  text
    .split('\r\x1b[2K')
    .slice(1)
    .map((part) => part.split(/[\r\n]/)[0]!);

describe('on a terminal', () => {
  test('progress is one line with rate and time left, the last stays, and the result begins at the left', async () => {
    const run = join(temporaryFolder(), 'run');
    const { text, rows, code } = await onTerminal(training(run, '--epochs', '2', '--validation', '0'));
    expect(code).toBe(0);
    expect(updates(text).length).toBeGreaterThan(20);
    expect(updates(text)[3]).toMatch(/^ {2}step 4\/\d+ {2}\d+ s left {2}\d+ pairs\/s {2}epoch 1 {2}inter \d\.\d{3} {2}intra \d+\.\d{3}$/);
    expect(rows.filter((row) => row.startsWith('  step '))).toHaveLength(1);
    expect(rows.slice(-3)).toEqual([
      expect.stringMatching(/^ {2}step 30\/30 {2}\d+ pairs\/s /),
      expect.stringMatching(/step-00000030$/),
      '',
    ]);
  });

  test('a narrow terminal cuts the line after step and time left, and nothing wraps', async () => {
    const { text } = await onTerminal(training(join(temporaryFolder(), 'run'), '--epochs', '1', '--validation', '0'), { columns: 24 });
    const shown = updates(text);
    expect(shown[3]).toMatch(/^ {2}step 4\/15 {2}\d+ s left/);
    expect(Math.max(...shown.map((line) => line.length))).toBe(21);
  });

  test('one Ctrl+C saves and leaves whole lines, the last of them what to do', async () => {
    let isSent = false;
    const { rows, code } = await onTerminal(training(join(temporaryFolder(), 'run'), '--epochs', '100000'), {
      keys: (text, type) => {
        if (isSent || !/step \d+\//.test(text)) return;
        isSent = true;
        type('\x03');
      },
    });
    expect(code).toBe(130);
    expect(rows.slice(-3).join('')).toContain('the same command (train: with --resume) goes on with them.');
    expect(rows.at(-1)).toBe('');
    expect(rows.filter((row) => row.includes('step ') && !row.includes('after this step'))).toEqual([]);
    expect(rows).toContain('Stopping after this step; once more to stop at once.');
  });

  test('a second Ctrl+C leaves no half line', async () => {
    let sent = 0;
    const slow = [...'--width 64 --size 192 --pairs 50'.split(' '), '--epochs', '1000'];
    const { rows, code } = await onTerminal(training(join(temporaryFolder(), 'run'), ...slow), {
      keys: (text, type) => {
        if (sent === 0 && /Epoch 1: .*\r\n/.test(text)) {
          sent = 1;
          type('\x03');
        } else if (sent === 1 && text.includes('once more')) {
          sent = 2;
          setTimeout(() => type('\x03'), 500); // sooner, the two are taken for one
        }
      },
    });
    expect([sent, code]).toEqual([2, 130]);
    expect(rows.at(-1)).toBe('');
    expect(rows.join('')).not.toContain('^C');
  });

  test('an error comes on a line of its own', async () => {
    const folder = temporaryFolder();
    const own = await smallFaces(folder);
    await truncate(join(own, '000007', 'smile', '02.jpg'), 200);
    const run = ['train', '--data', own, '--out', join(folder, 'run'), ...small, '--epochs', '50', '--validation', '0'];
    const { rows, code } = await onTerminal([...run, '--broken-share', '0'], { columns: 400 });
    expect(code).toBe(1);
    expect(rows.slice(-3)).toEqual([expect.stringMatching(/^comface: /), expect.stringMatching(/^ {2}\S/), '']);
    await rm(own, { recursive: true });
  });

  test('the result of a transfer begins at the left, whatever was on the line', async () => {
    const out = join(temporaryFolder(), 'moved');
    const how = '--attribute smile --folds 2 --pairs-per-subject 6 --epochs 1 --learning-rates 0.0004 --pairs 4'.split(' ');
    const own = small.slice(0, small.indexOf('--pairs'));
    const place = '--device cpu --precision fp32 --threads 1'.split(' ');
    const { text, rows } = await onTerminal(['transfer', '--data', data, '--out', out, ...how, ...own, ...place], { columns: 200 });
    expect(updates(text).some((line) => line.startsWith('  final model  epoch 1'))).toBe(true);
    expect(rows).toContain('smile: means over folds [95 % interval over subjects]');
  });

  test('nothing is colored, whatever the environment asks for', async () => {
    for (const args of [['--help'], ['doctor', '--quick'], ['generat']]) {
      const { text } = await onTerminal(args, { env: { FORCE_COLOR: '1', COLORTERM: 'truecolor' } });
      expect(text.length).toBeGreaterThan(20);
      expect(text).not.toContain('\x1b[');
    }
  });

  test('a dumb one gets plain lines', async () => {
    const { text } = await onTerminal(training(join(temporaryFolder(), 'run'), '--epochs', '1'), { env: { TERM: 'dumb' } });
    expect(text).not.toContain('\x1b');
    expect(text.replaceAll('\r\n', '')).not.toContain('\r');
    expect(text).toMatch(/ {2}step 1\/\d+ .*\r\n/);
  });
});

describe('progress', () => {
  const stream = (isTTY: boolean, columns: number) => {
    let text = '';
    return { isTTY, columns, write: (part: string) => (text += part), text: () => text };
  };

  test('in a pipe is a first line, a last one, and nothing in between within ten seconds', () => {
    const pipe = stream(false, 80);
    const progress = new Progress(pipe as never, 'xterm');
    for (let i = 1; i <= 5; i++) progress.update(`${i} of 5`, i === 5);
    expect(pipe.text()).toBe('1 of 5\n5 of 5\n');
  });

  test('is taken away by a note, also by an empty one, and only once', () => {
    const terminal = stream(true, 10);
    const progress = new Progress(terminal as never, 'xterm');
    progress.update('a line that is too long');
    progress.note();
    progress.note('said');
    expect(terminal.text()).toBe('\r\x1b[2Ka line \r\x1b[2Ksaid\n');
  });

  test('rates have two digits at least', () => {
    expect([812.4, 31.2, 3.1234, 0.0312].map((value) => rate(value, 'steps'))).toEqual([
      ...['812 steps/s', '31 steps/s', '3.1 steps/s', '0.031 steps/s'],
    ]);
  });
});
