// What the commands print: the result alone on standard output, as JSON with --json, and errors on standard error. Child processes of the built package.
import { spawnSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { cp, rm, truncate } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { jsonLine, jsonText } from '../lib/cli/json.ts';
import { sharedFolder } from './faces.ts';
import { temporaryFolder } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const cli = join(root, 'dist/cli.js');
const shared = sharedFolder();

interface Output {
  status: number | string | null;
  out: string;
  errors: string;
}

function comface(words: string, { script = cli, env = {} }: { script?: string; env?: NodeJS.ProcessEnv } = {}): Output {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [script, ...words.split(' ').filter(Boolean)], {
    ...{ encoding: 'utf8', cwd: shared, timeout: 60_000, env: { ...process.env, ...env } },
  });
  return { status: signal ?? status, out: stdout, errors: stderr };
}

const tiny = '--backbone resnet18 --width 16 --size 32';
const place = '--device cpu --precision fp32 --threads 1';
const pictures = ['faces/000000/smile/00.jpg', 'faces/000000/smile/04.jpg'].join(' ');

beforeAll(async () => {
  comface('generate --out faces --format files --subjects 6 --attributes smile,age --alphas 5 --size 32 --threads 1');
  comface(`train --data faces --out run ${tiny} ${place} --pairs 4 --epochs 1 --projection.out 16`);
  const photos = join(shared, 'photos');
  await cp(join(shared, 'faces'), photos, { recursive: true });
  await rm(join(photos, 'manifest.jsonl'));
  await truncate(join(photos, '000003', 'smile', '02.jpg'), 200);
  writeFileSync(join(shared, 'pairs.csv'), `x,y\n${pictures.split(' ').join(',')}\nnone.jpg,none.jpg\n`);
});

/** A copy of the package with a script of ours where the native code is built. */
function packageWith(build: string): string {
  const folder = temporaryFolder();
  cpSync(join(root, 'dist'), join(folder, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  mkdirSync(join(folder, 'native'));
  writeFileSync(join(folder, 'native', 'build.mjs'), build);
  return join(folder, 'dist', 'cli.js');
}

describe('with --json', () => {
  test.each([
    [
      'generate --out more --subjects 2 --attributes smile --alphas 3 --size 32',
      0,
      { count: 6, size: 32, subjects: [0, 1], isDrawn: true },
    ],
    ['twin fgnet --out fgnet --subjects 2 --size 32', 0, { kind: 'fgnet', subjects: 2 }],
    ['pack photos --out packed --size 32', 0, { data: { count: 59 }, format: 'folder', rejected: [{ path: '000003/smile/02.jpg' }] }],
    ['inspect faces --sheet all.png', 0, { pictures: 60, checked: 60, damaged: [], sheet: 'all.png' }],
    ['sheet --out sheet.jpg --subjects 1 --alphas 0 --size 32', 0, { file: 'sheet.jpg' }],
    [`train --data faces --out again ${tiny} ${place} --pairs 4 --epochs 1 --inter-personal 0`, 0, { step: 12, inter: null, broken: 0 }],
    [`compare ${pictures} --model run`, 0, { change: expect.any(Number), direction: null, unit: 'steps of alpha', attribute: null }],
    ['compare --pairs pairs.csv --out changes.csv --model run', 1, { pairs: 2, pictures: 3, failed: [{ line: 3 }] }],
    [`embed ${pictures} --model run --out h.npy`, 0, { npy: 'h.npy', csv: 'h.csv', pictures: 2, width: 128 }],
    ['saliency faces/000000/smile/00.jpg --model run --out look.png', 0, { file: 'look.png' }],
    ['report run --out run.html', 0, { file: 'run.html', of: 'run' }],
    [
      `transfer --data faces --attribute smile --out moved --evaluation linear --folds 2 --no-final --pairs-per-subject 6 ${tiny} ${place}`,
      0,
      { attribute: 'smile', evaluation: 'linear', scores: { mae: { value: expect.any(Number) } } },
    ],
    ['doctor --quick', 0, { node: process.versions.node, works: expect.arrayContaining(['cpu']), selfTests: [] }],
    ['completion bash', 0, { shell: 'bash', script: expect.stringContaining('complete ') }],
  ])('%s prints one object', (words, code, result) => {
    const { status, out, errors } = comface(`${words} --json`);
    expect([status, errors.includes('"error"')]).toEqual([code, false]);
    expect(JSON.parse(out)).toMatchObject(result);
    expect(out.startsWith('{\n  "')).toBe(true);
  });

  test('demo and reproduce, which take long, print what a stand-in of them gives, and their progress elsewhere', () => {
    const script = packageWith('');
    const modules = fileURLToPath(new URL('.', pathToFileURL(script)));
    writeFileSync(
      join(modules, 'demo.js'),
      `export const demoScales = { full: 1, smoke: 1 };
      export const demo = async ({ onEvent, scale }) => (onEvent({ type: 'phase', text: 'Drawing' }), { scale, tasks: [], none: NaN,
        target: { margins: [] }, files: { report: 'r', result: 'f', run: 'm' }, seconds: { total: 1 } });`,
    );
    writeFileSync(
      join(modules, 'reproduce', 'reproduce.js'),
      `export const reproduce = async ({ onEvent, table, seeds }) => (onEvent({ type: 'piece', text: 'Drawing' }), { table, seeds,
        text: 'a\\nb', files: { text: 't' } });`,
    );
    const demo = comface('demo --scale smoke --json', { script });
    expect([JSON.parse(demo.out), demo.errors]).toEqual([expect.objectContaining({ scale: 'smoke', none: null }), 'Drawing.\n']);
    const table = comface('reproduce table7 --out tables --json', { script });
    expect([JSON.parse(table.out), table.errors]).toEqual([expect.objectContaining({ table: 'table7', seeds: [1] }), 'Drawing.\n']);
    expect(comface('reproduce table7 --out tables', { script }).out).toBe('a\nb\nt\n');
  });

  test.each([
    ['generat', 'INVALID_INPUT', /unknown command 'generat'/, /generate/],
    ['train --temprature 1', 'INVALID_INPUT', /--temprature/, /--temperature\? comface train --help shows/],
    ['demo --scale smok', 'INVALID_INPUT', /smok/, /Did you mean smoke\?/],
    ['generate', 'INVALID_INPUT', /--out/, /comface generate --help shows/],
    ['generate --out never --attributes smle', 'INVALID_INPUT', /for --attributes but received "smle"/, /smile/],
    ['train --data a --out b --temperature -1', 'INVALID_CONFIG', /for --temperature but received -1/, /Choose a number/],
    ['inspect nowhere', 'IO', /nowhere/, /\S/],
  ])('%s prints an error as one line of JSON, the last one, and no result', (words, code, message, hint) => {
    const { status, out, errors } = comface(`${words} --json`);
    expect([status, out]).toEqual([code === 'IO' ? 1 : 2, '']);
    const { error } = JSON.parse(errors.trim().split('\n').at(-1)!);
    expect(error).toEqual({ code, message: expect.stringMatching(message), hint: expect.stringMatching(hint) });
    expect(errors).not.toContain('error:');
  });

  test('what ends a command in other ways is a line of JSON, too: a mistake of ours, a signal', () => {
    const script = packageWith('');
    const make = (body: string) =>
      writeFileSync(
        join(dirname(script), 'demo.js'),
        `export const demoScales = { full: 1 }; export const demo = async ({ signal, onEvent }) => {${body}};`,
      );
    make(`throw new TypeError('x is not a function');`);
    const mistake = comface('demo --json', { script });
    expect([mistake.status, JSON.parse(mistake.errors)]).toEqual([
      1,
      { error: { code: 'INTERNAL', message: 'x is not a function', hint: expect.stringContaining('report it') } },
    ]);
    expect(comface('demo', { script }).errors).toMatch(/^comface: TypeError: x is not a function\n +at /);
    make(`onEvent({ type: 'phase', text: 'Drawing' }); process.kill(process.pid, 'SIGTERM');
      return new Promise((_, reject) => { setTimeout(() => 0, 9e3); signal.addEventListener('abort', () => reject(signal.reason)); });`);
    const stopped = comface('demo --json', { script });
    expect([stopped.status, stopped.out]).toEqual(['SIGTERM', '']);
    expect(JSON.parse(stopped.errors.trim().split('\n').at(-1)!)).toEqual({
      error: { code: 'STOPPED', message: 'Stopped by SIGTERM.', hint: expect.stringContaining('saved') },
    });
  });

  test('a word after -- is no option', () => {
    expect(comface('inspect -- --json').errors).not.toContain('{"error"');
  });
});

test('a package that is not whole is said without a stack', () => {
  const script = packageWith('');
  appendFileSync(join(dirname(script), 'errors.js'), `\nthrow new Error('Could not load the "sharp" module');`);
  expect(comface('doctor', { script })).toEqual({
    ...{ status: 1, out: '' },
    errors: expect.stringMatching(
      /^comface: Could not load the "sharp" module\n {2}Install comface again, .*npm install --include=optional comface\n$/,
    ),
  });
});

describe('JSON', () => {
  test('has bigints, typed arrays and what is not finite as numbers, lists and null', () => {
    const value = {
      big: 3n,
      huge: 2n ** 60n,
      floats: Float32Array.of(0.5, -2e-9),
      bigs: BigInt64Array.of(1n),
      not: [Number.NaN, 1 / 0],
      none: undefined,
    };
    const text = jsonText(value);
    expect(JSON.parse(text)).toEqual({ big: 3, huge: String(2n ** 60n), floats: [0.5, Math.fround(-2e-9)], bigs: [1], not: [null, null] });
    expect(text).toContain('"not": [null, null]');
  });

  test('gives any text back, and shows a terminal nothing that it obeys', () => {
    const value = {
      text: '\x1b[31m\u009b2J\u202e\u2028[\n  1,\n  2\n]\r\n',
      list: ['a', '[\n  3\n]'],
      numbers: [1, 2.5, -3e-7],
      nested: [[1], []],
    };
    for (const text of [jsonText(value), jsonLine(value)]) {
      expect(JSON.parse(text)).toEqual(value);
      expect(text).not.toMatch(/(?!\n)\p{Cc}|[\u2028\u202e]/u);
    }
    expect(jsonText(value)).toContain('"numbers": [1, 2.5, -3e-7]');
    expect(jsonLine(value)).not.toContain('\n');
  });
});

describe('standard output', () => {
  test('is written at one place alone', () => {
    const wrong = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' }).filter((file) => {
      if (!file.endsWith('.ts') || file === 'cli/terminal.ts') return false;
      const text = readFileSync(join(root, 'lib', file), 'utf8').replace(/^\s*(?:\/\/|\*).*$/gm, '');
      return /\bconsole\.(?!error)|stdout\.write/.test(text);
    });
    expect(wrong).toEqual([]);
  });

  test('may be closed early: no error, no stack', () => {
    for (const words of ['inspect faces --json', 'train --help', 'doctor --quick']) {
      const command = `${JSON.stringify(process.execPath)} ${JSON.stringify(cli)} ${words} | head -c 1; echo " \${PIPESTATUS[0]}"`;
      const { stdout, stderr } = spawnSync('bash', ['-c', command], { cwd: shared, encoding: 'utf8' });
      expect([stdout, stderr.includes('EPIPE'), stderr.includes('    at ')]).toEqual([expect.stringMatching(/^\S 0\n$/), false, false]);
    }
  });

  test('comes last: what a command writes is there when its result is printed', () => {
    const { out } = comface('inspect faces --sheet late.png');
    expect(out).toMatch(/none is damaged\.\nlate\.png\n$/);
  });
});

describe('comface build', () => {
  const making = `import { mkdirSync, writeFileSync } from 'node:fs';
    console.log('building', ...process.argv.slice(2), process.cwd());
    mkdirSync('build/Release', { recursive: true });
    for (const name of ['comface.node', 'libcomface_cpu.so', 'notes.txt']) writeFileSync('build/Release/' + name, 'abc');
    if (process.argv[3] === 'on') writeFileSync('build/Release/libcomface_cuda.so', '');`;

  test('runs the build beside package.json, its output on standard error, and says what was built', () => {
    const script = packageWith(making);
    const { status, out, errors } = comface('build', { script });
    expect([status, errors]).toEqual([0, expect.stringMatching(/^building --cuda auto \S*comface-\w+\n$/)]);
    expect(out).toMatch(/build\/Release\/comface\.node {2}3 bytes\n.*libcomface_cpu\.so {2}3 bytes\nBuilt without .*: comface doctor\n$/);
    const found = JSON.parse(comface('build --cuda on --json', { script }).out);
    expect([found.cuda, found.files.map(({ name }: { name: string }) => name)]).toEqual([
      true,
      ['comface.node', 'libcomface_cpu.so', 'libcomface_cuda.so'],
    ]);
  });

  test('ends with code 1 and no result when the build fails', () => {
    const { status, out, errors } = comface('build', { script: packageWith(`console.error('cmake was not found'); process.exit(1);`) });
    expect([status, out]).toEqual([1, '']);
    expect(errors).toMatch(/^cmake was not found\ncomface: The build ended with code 1\n {2}The reason is above\./);
  });

  test('dies by the signal that the build died by', () => {
    expect(comface('build', { script: packageWith(`process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 9e3);`) })).toMatchObject({
      ...{ status: 'SIGTERM', out: '' },
    });
  });

  test('refuses another system at once', () => {
    const script = packageWith(`console.log('never');`);
    for (const [name, value] of [
      ['platform', 'darwin'],
      ['arch', 'arm64'],
    ]) {
      const fake = join(dirname(script), 'fake.mjs');
      writeFileSync(fake, `import 'sharp'; Object.defineProperty(process, '${name}', { value: '${value}' });`);
      const { status, out, errors } = comface('build', { script, env: { NODE_OPTIONS: `--import=${fake}` } });
      expect([status, out]).toEqual([1, '']);
      expect(errors).toMatch(/^comface: ComFace runs on linux-x64 but this is \S+\n {2}Use a Linux machine/);
      expect(errors).toContain(value);
    }
  });

  test('is what the error says where no binary is', () => {
    const { status, errors } = comface('sheet --out never.jpg', { script: packageWith('') });
    expect(status).toBe(1);
    expect(errors).toMatch(
      /^comface: No comface binary works here .*\n {2}Install comface again if .* Prebuilt binaries need glibc 2\.34 .*npm install --save-dev cmake-js@8 node-addon-api@8 && npx comface build\n$/,
    );
  });
});

describe('completion in bash', () => {
  /** What Tab offers after these words, the last of which is unfinished. */
  function offered(line: string): string[] {
    const words = line.split(' ');
    const list = words.map((word) => JSON.stringify(word)).join(' ');
    const script = `source <("$0" "$1" completion bash)
      COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; COMP_LINE=${JSON.stringify(line)}; COMP_POINT=\${#COMP_LINE}
      $(complete -p comface | sed 's/.*-F \\([^ ]*\\).*/\\1/') comface; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', script, process.execPath, cli], { encoding: 'utf8' });
    expect(stderr).toBe('');
    return stdout.split('\n').filter(Boolean);
  }

  test.each([
    ['comface d', ['demo', 'doctor', 'directions']],
    ['comface help sal', ['saliency']],
    ['comface --v', ['--version']],
    ['comface train --augment.crop-area', ['--augment.crop-area-min', '--augment.crop-area-max']],
    ['comface demo --scale s', ['smoke']],
    ['comface train --backbone ', ['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet50_caffe', 'vit_b_16', 'vit_b_16_clip', 'pcl']],
    ['comface twin f', ['fgnet']],
    ['comface reproduce --out tables table7', ['table7']],
    ['comface generate --out fa', []],
    ['comface twin --out f', []],
    ['comface inspect set --j', ['--json']],
    ['comface nothing --j', []],
  ])('%s', (line, words) => {
    expect(offered(line)).toEqual(words);
  });

  test('zsh gets the same with its own loader before', () => {
    const [bash, zsh] = [comface('completion bash').out.split('\n'), comface('completion zsh').out.split('\n')];
    expect(zsh[1]).toBe('autoload -U +X bashcompinit && bashcompinit');
    expect(zsh.slice(2)).toEqual(bash.slice(1));
  });
});
