// `npm run gpu` as far as it goes without a GPU: every stage once, on a machine whose driver and GPU the CPU plays. Its times mean nothing, and it says so.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Report } from '../bench/gpu.mjs';
import { cudaBackend, isOnGpu, noCuda } from './cuda.ts';
import { machine } from './native/cuda/machine.ts';
import { temporaryFolder } from './support.ts';

const library = cudaBackend();
const script = fileURLToPath(new URL('../bench/gpu.mjs', import.meta.url));
const run = (env: NodeJS.ProcessEnv, ...args: string[]) => spawnSync(process.execPath, [script, ...args], { env, encoding: 'utf8' });

describe.skipIf(library === undefined || isOnGpu)(library ? 'npm run gpu' : `npm run gpu: ${noCuda}`, () => {
  test('without a GPU it says why and what to do', () => {
    const { status, stderr } = run(machine({ driver: true }).env);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^No usable GPU \(stage `backend`\): .*\n {2}node dist\/cli.js doctor shows every stage/);
  });

  test('a wrong stage is named', () => {
    const { status, stderr } = run(process.env, '--only', 'tests,benches');
    expect([status, stderr]).toEqual([2, expect.stringMatching(/^Expected stages of build, tests, .* but received tests,benches/)]);
  });

  test('each stage runs and the report says what it is', { timeout: 400_000 }, () => {
    const there = machine({ driver: true });
    there.addCpu();
    there.addBackend({ emulated: dirname(library!) });
    const out = temporaryFolder();
    const env = {
      ...there.env,
      COMFACE_CUDA_LIBRARIES: dirname(library!),
      COMFACE_GPU_PROGRAMS: join(dirname(library!), 'emulation-'),
      COMFACE_TEST_CUDA: 'emulated',
      COMFACE_CACHE: out,
    };
    const { status, stdout, stderr } = run(env, '--quick', '--only', 'tests,bench,kernels,peers,sanitizer', '--out', out);
    expect(status, stdout + stderr).toBe(0);
    const report = JSON.parse(readFileSync(join(out, 'emulated-h200.json'), 'utf8')) as Report;
    expect(report).toMatchObject({ isEmulated: true, isQuick: true, device: { name: 'emulated H200', capability: 9 } });
    expect(report.stages.map(({ name, outcome }) => [name, outcome.replace(/^left out: .*/, 'done')])).toEqual(
      ['tests', 'bench', 'kernels', 'peers', 'sanitizer'].map((name) => [name, 'done']),
    );
    expect(report.tests).toMatchObject({ passed: 1, failed: [] });
    expect(report.figures.map(({ id, state }) => [id, state])).toEqual([
      ['N4', 'passed'],
      ['N5', 'skipped'],
    ]);
    expect(report.bench).toMatchObject([{ name: 'train/resnet18-32-narrow', items: 240 }]);
    expect(report.kernels.map((kernel) => kernel.case)).toEqual(['infonce', 'augment', 'copy']);
    const text = readFileSync(join(out, 'emulated-h200.md'), 'utf8');
    expect(text).toMatch(/^# emulated H200\n/);
    expect(text).toContain('The CPU plays this GPU: no time here means anything.');
    expect(text).toContain('| `train/resnet18-32-narrow` |');
    expect(text).toContain('| infonce 256 bf16 |');
  });
});
