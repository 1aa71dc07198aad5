// `comface doctor` as a user reads it, on this machine and on some that are not there; and what `device` and `precision` do on them.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Diagnosis } from '../lib/doctor.ts';
import { chooseDevice } from '../lib/native.ts';
import { machine } from './native/cuda/machine.ts';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const kAbi = Number(/kAbiVersion = (\d+)/.exec(readFileSync(new URL('../native/abi.h', import.meta.url), 'utf8'))?.[1]);

/** Without the training steps, but for the tests of these. */
function doctor(env: NodeJS.ProcessEnv, ...args: string[]) {
  const words = args.includes('--whole') ? args.filter((word) => word !== '--whole') : ['--quick', ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(dist, 'cli.js'), 'doctor', ...words], {
    ...{ encoding: 'utf8', env: { ...process.env, ...env }, timeout: 30_000 },
  });
  return { status, out: stdout, errors: stderr };
}

/** What `chooseDevice` answers in a process of that machine. */
function choose(env: NodeJS.ProcessEnv, device: string, precision: string) {
  const code = `import(${JSON.stringify(join(dist, 'native.js'))}).then(({ chooseDevice }) => {
    try { console.log(JSON.stringify(chooseDevice('${device}', '${precision}'))); }
    catch ({ code, message, hint }) { console.log(JSON.stringify({ code, message, hint })); }
  })`;
  const { stdout } = spawnSync(process.execPath, ['-e', code], { env, encoding: 'utf8' });
  return JSON.parse(stdout);
}

const withoutGpu = machine({ driver: true });
withoutGpu.addCpu();
const noGpu = { ...withoutGpu.env, DRIVER_INIT: '100' };
const withGpu = machine({ driver: true });
withGpu.addCpu();
withGpu.addBackend({ abi: kAbi, capability: 90 });

describe('comface doctor', () => {
  test('says what works here, with paths, and ends with code 0', () => {
    const { status, out, errors } = doctor({});
    expect([status, errors]).toEqual([0, '']);
    expect(out).toMatch(/^comface \d+\.\d+\.\d+, node \d+\.\d+\.\d+, linux \w+, glibc 2\.\d+\n.+, \d+ cores?.*; .* GiB of memory/);
    expect(out).toMatch(/\nCPU\n {2}ok {2}binary {4}\/.*\n {2}ok {2}computes {2}oneDNN/);
    expect(out).toMatch(/\nReady: device auto takes (CUDA|the CPU)\.\n$/);
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThan(240);
  });

  test('says that a processor without AVX2 is slow', () => {
    const { status, out } = doctor({ ONEDNN_MAX_CPU_ISA: 'SSE41' });
    expect(status).toBe(0);
    expect(out).toMatch(/ok {2}computes {2}oneDNN .*baseline.*\n +Without AVX2 a training step takes at least twice as long/);
    expect(doctor({ ONEDNN_MAX_CPU_ISA: 'AVX2' }).out).not.toContain('Without AVX2');
  });

  test('shows where the search for CUDA ended, why, and what to do', () => {
    const { status, out: aligned } = doctor({ ...noGpu, CUDA_VISIBLE_DEVICES: '7' });
    const out = aligned.replace(/ {2,}/g, ' ');
    expect(status).toBe(0);
    expect(out).toContain(`ok NVIDIA driver ${withoutGpu.folder}/libcuda.so.1\n`);
    expect(out).toContain('NO driver starts an NVIDIA driver, but no GPU (100)\n');
    expect(out).toContain('CUDA_VISIBLE_DEVICES is "7": correct it, or unset it.\n');
    expect(out).toContain('- CUDA backend\n');
  });

  test('believes no backend that does not compute', () => {
    const { status, out } = doctor(withGpu.env);
    expect(status).toBe(0);
    expect(out).toContain('Imaginary GPU, compute capability 9.0, 128.0 GiB\n');
    expect(out).toMatch(/NO {2}computes +This backend is not a real one\.\n/);
    expect(out).toContain('Only the CPU is ready: say device cpu, as auto takes CUDA.');
  });

  test('gives everything as JSON', () => {
    const found = JSON.parse(doctor(noGpu, '--json').out) as Diagnosis;
    expect(found).toMatchObject({ works: ['cpu'], found: { available: false, stage: 'initialize' } });
    expect(found.cuda.map(({ ok }) => ok)).toEqual([true, false, null, null, null, null, null]);
    expect(found.libraries.some((file) => file.endsWith('/libcomface_cpu.so'))).toBe(true);
  });

  test('ends with code 1 when nothing works', () => {
    const { status, out, errors } = doctor({ COMFACE_NATIVE: '/nowhere/comface.node' });
    expect([status, errors]).toEqual([1, '']);
    expect(out).toMatch(/NO {2}binary {2}No comface binary works here .*\n +COMFACE_NATIVE is \/nowhere/);
    expect(out).toContain('Nothing works here yet.');
  });
});

describe('device', () => {
  test('auto takes CUDA, in bf16, where it works', () => {
    const library = join(withGpu.folder, 'libcomface_cuda.so');
    expect(choose(withGpu.env, 'auto', 'auto')).toEqual({ library, device: 'cuda', precision: 'bf16' });
    expect(choose(withGpu.env, 'cuda', 'fp16')).toEqual({ library, device: 'cuda', precision: 'fp16' });
  });

  test('auto falls back to the CPU and says why', () => {
    expect(choose(noGpu, 'auto', 'fp32')).toEqual({
      ...{ library: join(withoutGpu.folder, 'libcomface_cpu.so'), device: 'cpu', precision: 'fp32' },
      reason: 'an NVIDIA driver, but no GPU (100)',
    });
  });

  test('cuda never falls back', () => {
    expect(choose(noGpu, 'cuda', 'auto')).toEqual({
      code: 'DEVICE_UNAVAILABLE',
      message: 'CUDA is not available (stage `initialize`): an NVIDIA driver, but no GPU (100)',
      hint: 'comface doctor shows every stage and what to do; `device: auto` takes the CPU.',
    });
  });

  test('cpu takes the CPU without a look at CUDA', () => {
    expect(choose(withGpu.env, 'cpu', 'fp32')).toEqual({
      library: join(withGpu.folder, 'libcomface_cpu.so'),
      device: 'cpu',
      precision: 'fp32',
    });
  });

  test.each(['cpu', 'reference'] as const)('%s refuses fp16', (device) => {
    expect(() => chooseDevice(device, 'fp16')).toThrow(`Expected device cuda for \`precision\` fp16 but received device ${device}`);
  });

  test('auto without CUDA refuses fp16 with the reason', () => {
    expect(choose(noGpu, 'auto', 'fp16').message).toMatch(/fp16 but received no CUDA: an NVIDIA driver, but no GPU/);
  });
});
