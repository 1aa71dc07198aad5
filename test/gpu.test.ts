// `npm run gpu` as far as it goes without a GPU: every stage once, on a machine whose driver and GPU the CPU plays. Its times mean nothing, and it says so.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Report } from '../bench/gpu.mjs';
import { dropStage, keepEarlier, markdown, put } from '../bench/gpureport.mjs';
import { cudaBackend, isOnGpu, noCuda } from './cuda.ts';
import { machine } from './native/cuda/machine.ts';
import { temporaryFolder } from './support.ts';

const library = cudaBackend();
const script = fileURLToPath(new URL('../bench/gpu.mjs', import.meta.url));
const device = {
  ...{ name: 'NVIDIA H200', capability: 9, memoryBytes: 150e9, driver: '580.1', clocks: '' },
  ...{ cudnn: 92400, cublasLt: 130101, torch: '2.11.0' },
};
const reportOf = (change: Partial<Report>): Report => ({
  ...{ date: '2026-01-02T00:00:00Z', commit: '0123456789ab', isEmulated: false, isQuick: false, device },
  ...{ stages: [], tests: [], figures: [], bench: [], kernels: [], peers: [] },
  ...change,
});
const done = (name: string) => ({ name, seconds: 1, outcome: 'done' });
const run = (env: NodeJS.ProcessEnv, ...args: string[]) => spawnSync(process.execPath, [script, ...args], { env, encoding: 'utf8' });

describe('the report', () => {
  const kernel = { precision: 'fp32', bytes: 1e9, flop: 0, memoryBytes: 2 ** 28 };
  const earlier = reportOf({
    stages: [done('tests'), done('kernels'), done('peers')],
    tests: [{ stage: 'tests', passed: 7, failed: [] }],
    kernels: [
      { ...kernel, case: 'copy', size: 1e9, medianMs: 0.25 },
      { ...kernel, case: 'infonce', size: 2048, medianMs: 1 },
      { ...kernel, case: 'infonce', size: 8192, medianMs: 1 },
      { ...kernel, case: 'augment', size: 256, medianMs: 1 },
    ],
    peers: [
      { case: 'infonce', batch: 2048, precision: 'bf16', way: 'eager', seconds: 0.02 },
      { case: 'infonce', batch: 2048, precision: 'bf16', way: 'graph', seconds: 0.011 },
      { case: 'infonce', batch: 8192, precision: 'bf16', way: 'graph', seconds: 0.002 },
      { case: 'augment', batch: 64, precision: 'bf16', way: 'eager', seconds: 1, per_second: 1000 },
    ],
  });

  test('has floors and aims beside the fastest way of PyTorch', () => {
    const text = markdown(earlier);
    expect(text).toMatch(/\| infonce 2,048 fp32 .* 11.000 ms, graph, 0.00 GiB: 11.0x, aim 10 reached \|/);
    expect(text).toMatch(/\| infonce 8,192 fp32 .*: 2.00x, \*\*floor 3 missed\*\* \|/);
    expect(text).toMatch(/\| augment 256 fp32 .* 25 % of the copy, aim 50 missed .* 1,000 views\/s: 768.0x, floor 10 reached \|/);
  });

  test('pictures of generators stand by themselves, beside the public implementations where these were there', () => {
    const result = {
      unit: 'images/s',
      rate: 20,
      sizeBytes: 2 ** 31,
      precision: 'fp32',
      generation: { flop: 1e12, gemm: 50_000, share: 0.4 },
    };
    const rivals = [
      { name: 'PyTorch fp32', ratio: 1.6 },
      { name: 'PyTorch fp16', ratio: 0.9 },
    ];
    const alone = { ...result, name: 'generate/stylegan1', rivals: [{ name: 'PyTorch fp32', missing: 'cannot begin' }] };
    const text = markdown(reportOf({ bench: [{ ...result, name: 'generate/stylegan3-t', rivals }, alone] as never }));
    expect(text).toContain(
      '| `generate/stylegan3-t` | 20.0 images/s | 50.00 ms | 2.00 GiB | 40 % | PyTorch fp32: 1.60x, aim 1.5 reached; PyTorch fp16: 0.90x, **floor 1 missed** |',
    );
    expect(text).toMatch(/\| `generate\/stylegan1` .*\| not run \|/);
    expect(text).not.toContain('Whole training steps');
  });

  test('keeps what earlier calls of the same code on the same device measured, and of no other', () => {
    const again = reportOf({});
    keepEarlier(again, earlier);
    expect(again).toEqual(earlier);
    for (const change of [{ commit: '9876543210ab' }, { device: { ...device, driver: '590.2' } }, { isQuick: true }]) {
      const other = reportOf(change);
      keepEarlier(other, earlier);
      expect(other).toEqual(reportOf(change));
    }
    const changed = reportOf({ commit: '0123456789ab and changes' });
    keepEarlier(changed, { ...earlier, commit: changed.commit });
    expect(changed.tests).toEqual([]);
  });

  test('a stage that begins again forgets its outcome and tests, and its times one by one', () => {
    const again = reportOf({});
    keepEarlier(again, structuredClone(earlier));
    dropStage(again, 'tests');
    dropStage(again, 'kernels');
    expect([again.stages, again.tests]).toEqual([[done('peers')], []]);
    const faster = { ...kernel, case: 'infonce', size: 2048, medianMs: 0.5 };
    put(again.kernels, [faster, { ...faster, size: 65536 }], (row) => `${row.case} ${row.size}`);
    expect(again.kernels.map(({ size, medianMs }) => [size, medianMs])).toEqual([
      [1e9, 0.25],
      [2048, 0.5],
      [8192, 1],
      [256, 1],
      [65536, 0.5],
    ]);
  });
});

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
    expect(report.tests).toEqual([
      { stage: 'tests', passed: 1, failed: [] },
      { stage: 'sanitizer', passed: 0, failed: [] },
    ]);
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
    expect(text).toContain('| infonce 256 fp32 |');
  });
});
