// The package as a stranger gets it: the tarball is made and checked, installed by three package managers where there is node and nothing else, and used.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Diagnosis } from '../../lib/doctor.ts';
import { BareRoot, hasProc, type Ran } from './bareroot.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const kMostSeconds = 30;

const place = mkdtempSync(join(tmpdir(), 'comface-package-'));
const tarball = join(place, 'comface.tgz');
let checked: Ran;
let root: BareRoot;

function npm(...args: string[]): Ran {
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', ...args], {
    cwd: repository,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return { status, out: stdout, errors: stderr, seconds: (performance.now() - start) / 1000 };
}

beforeAll(() => {
  const built = npm('prebuildify');
  if (built.status !== 0) throw new Error(built.errors.slice(-4000));
  checked = npm('check:package', '--', '--tarball', tarball);
  root = new BareRoot();
  root.copy(tarball, '/home/comface.tgz');
}, 600_000);

afterAll(() => {
  rmSync(place, { recursive: true });
  root.remove();
});

/** A folder of the root whose package.json is that of a new project. */
function project(name: string, fields: object = {}): string {
  root.write(`/home/${name}/package.json`, JSON.stringify({ name, version: '1.0.0', private: true, ...fields }));
  return `/home/${name}`;
}

const files = (folder: string): string[] => readdirSync(join(root.folder, folder));

/** Installs with no compiler there, so that whatever would compile fails; and that a script ran would show. */
function expectInstalled(cwd: string, { status, out, errors, seconds }: Ran): void {
  expect([status, status === 0 ? '' : out + errors]).toEqual([0, '']);
  expect(seconds).toBeLessThan(kMostSeconds);
  expect(out + errors).not.toMatch(/node-gyp (rebuild|configure|build)|^> .*install|ignored build scripts|allowScripts/im);
  expect(files(`${cwd}/node_modules/comface`)).toEqual(expect.arrayContaining(['dist', 'prebuilds', 'package.json']));
  expect(files(`${cwd}/node_modules/comface`)).not.toContain('build');
}

function expectDoctor(cwd: string): void {
  const { status, out, errors } = root.run(cwd, 'node_modules/.bin/comface', ['doctor', '--json', '--quick']);
  expect([status, errors]).toEqual([0, '']);
  const { works, libraries } = JSON.parse(out) as Diagnosis;
  expect(works).toContain('cpu');
  expect(libraries.length > 0).toBe(hasProc);
  expect(libraries.every((file) => file.includes('/prebuilds/linux-x64/'))).toBe(true);
}

describe('the tarball', () => {
  test('is as it should be: files, sizes, hashes, licenses, no script, old enough libraries', () => {
    expect([checked.status, checked.status === 0 ? '' : checked.out + checked.errors]).toEqual([0, '']);
    expect(checked.out).toMatch(/\d+ files, [\d.]+ MB; the tarball has [\d.]+ MB\./);
    expect(checked.out).toContain('The package is as it should be.');
    expect(existsSync(tarball)).toBe(true);
  });
});

describe('where there is node and nothing else', () => {
  test('npm install brings it in seconds and runs no script', () => {
    const cwd = project('npm');
    expectInstalled(cwd, root.run(cwd, 'npm', ['install', '--foreground-scripts', root.at('/home/comface.tgz')]));
    expectDoctor(cwd);
  });

  test('npm ci does, from the lock of that', () => {
    const cwd = project('ci', { dependencies: { comface: 'file:../comface.tgz' } });
    root.copy(join(root.folder, '/home/npm/package-lock.json'), '/home/ci/package-lock.json');
    expectInstalled(cwd, root.run(cwd, 'npm', ['ci', '--foreground-scripts']));
    expectDoctor(cwd);
  });

  test('pnpm does', () => {
    const cwd = project('pnpm');
    expectInstalled(cwd, root.run(cwd, 'pnpm', ['add', root.at('/home/comface.tgz')], { CI: 'true' }));
    expectDoctor(cwd);
  });

  test('yarn 1 does', () => {
    const cwd = project('yarn');
    expectInstalled(cwd, root.run(cwd, 'yarn', ['add', root.at('/home/comface.tgz'), '--non-interactive']));
    expectDoctor(cwd);
  });

  test('a program trains and compares: as a module, by require, and in a worker thread', () => {
    root.write('/home/npm/body.cjs', body);
    root.write('/home/npm/module.mjs', "import * as comface from 'comface';\nimport run from './body.cjs';\nawait run(comface);\n");
    root.write('/home/npm/required.cjs', "require('./body.cjs')(require('comface'));\n");
    root.write('/home/npm/worker.mjs', "import { Worker } from 'node:worker_threads';\nnew Worker('./module.mjs');\n");
    const results = ['module.mjs', 'required.cjs', 'worker.mjs'].map((file) => root.run('/home/npm', 'node', [file]));
    for (const { status, errors } of results) expect([status, errors]).toEqual([0, '']);
    const [first, ...others] = results.map(({ out }) => out);
    expect(first).toMatch(/^2 steps, -?\d\.\d+ steps of alpha, 512 numbers\n$/);
    expect(others).toEqual([first, first]);
  });

  test('a damaged library is named, and installing again advised', () => {
    const library = '/home/ci/node_modules/comface/prebuilds/linux-x64/libgomp.so.1';
    root.write(library, 'not a library');
    const { status, out } = root.run('/home/ci', 'node_modules/.bin/comface', ['doctor', '--quick']);
    expect(status).toBe(1);
    expect(out).toContain(`${root.at(library)} is not as it was published`);
    expect(out).toContain('Install comface again');
  });

  test('without a binary for the machine it says what to do, and a build says what is missing', () => {
    const doctor = root.run('/home/npm', 'node_modules/.bin/comface', ['doctor', '--quick'], { LIBC: 'musl' });
    expect(doctor.status).toBe(1);
    expect(doctor.out).toContain('npx comface build');
    const build = root.run('/home/npm', 'node_modules/.bin/comface', ['build']);
    expect(build.status).toBe(1);
    expect(build.errors).toContain('apt-get install build-essential cmake ninja-build libdnnl-dev libturbojpeg0-dev');
    expect(build.errors).toMatch(/npm install --save-dev cmake-js@\S+ node-addon-api@\S+/);
  });

  test('its types hold under --strict, beside those of Node.js, as a module and by require', () => {
    for (const name of ['typed.mts', 'typed.cts']) writeFileSync(join(root.folder, 'home/npm', name), typed(name.endsWith('.cts')));
    const tsc = join(repository, 'node_modules/.bin/tsc');
    const args = [
      '--strict',
      '--noEmit',
      '--module',
      'nodenext',
      '--target',
      'es2022',
      '--lib',
      'es2023,esnext.disposable',
      '--typeRoots',
      join(repository, 'node_modules/@types'),
      '--types',
      'node',
      'typed.mts',
      'typed.cts',
    ];
    const { stdout, status } = spawnSync(tsc, args, { cwd: join(root.folder, 'home/npm'), encoding: 'utf8' });
    expect([status, stdout]).toEqual([0, '']);
  });
});

/** Draws, trains two steps, compares, embeds. */
const body = `
const { mkdtempSync, rmSync } = require('node:fs');
module.exports = async ({ generate, train, loadModel }) => {
  const folder = mkdtempSync('/tmp/comface-');
  const set = { out: folder + '/faces', subjects: 8, attributes: ['smile'], alphas: 3, size: 32, format: 'files', threads: 1 };
  const data = await generate(set);
  const network = { backbone: 'resnet18', size: 32, pairs: 4, pairsPerEpoch: 4, epochs: 2, curriculum: 'none' };
  const run = train({ ...network, data: data.folder, out: folder + '/run', device: 'cpu', precision: 'fp32', threads: 1 });
  let steps = 0;
  for await (const event of run) if (event.type === 'step') steps++;
  const model = await loadModel((await run).path, { device: 'cpu', threads: 1 });
  const [x, y] = [0, 2].map((sample) => data.placeOf(sample).file);
  const { change, unit } = await model.compare(x, y);
  const embedding = await model.embed([x]);
  model.dispose();
  rmSync(folder, { recursive: true });
  console.log(steps + ' steps, ' + change.toFixed(4) + ' ' + unit + ', ' + embedding.length + ' numbers');
};
`;

/** The types of the main calls; what is wrong has to be an error. */
const typed = (isRequired: boolean): string => `
${isRequired ? "import comface = require('comface');\nconst { ComFaceError, loadModel, train } = comface;" : "import { ComFaceError, loadModel, train } from 'comface';"}
async function program(): Promise<string> {
  const run = train({ data: 'faces', out: 'run', backbone: 'resnet18', size: 64 });
  for await (const event of run) if (event.type === 'step') { const loss: number = event.inter + event.intra; void loss; }
  await using model = await loadModel((await run).path);
  const { change, direction, unit } = await model.compare('x.jpg', 'y.jpg');
  const embedding: Float32Array = await model.embed(['x.jpg']);
  // @ts-expect-error no such backbone
  train({ data: 'faces', out: 'run', backbone: 'resnet19' });
  // @ts-expect-error compare wants two pictures
  await model.compare('x.jpg');
  return change.toFixed(1) + unit + direction + embedding.length;
}
program().catch((error: unknown) => { if (error instanceof ComFaceError) { const code: string = error.code; void code; } });
`;
