// The search for CUDA on machines that lack something: each stage ends with its own reason, in a process that goes on.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { builtBackend, describeLibraries, emptyDriver, librariesFolder, machine, pretendLibraries } from './native/cuda/machine.ts';

const kAbi = Number(/kAbiVersion = (\d+)/.exec(readFileSync(new URL('../native/abi.h', import.meta.url), 'utf8'))?.[1]);
const kNotBuilt = 'the CUDA backend was not built (nvcc and the headers of cuDNN: node scripts/headers.mjs)';

describe('without a driver', () => {
  const here = machine({ driver: false });

  test.for(['main', 'worker'] as const)('the probe says so in under 50 ms (%s thread)', (thread, { skip }) => {
    const { available, stage, reason, milliseconds } = here.probe({}, thread);
    if (stage !== 'driver') skip('this machine has a driver');
    expect([available, reason]).toEqual([false, 'no NVIDIA driver (libcuda.so.1 was not found)']);
    expect(milliseconds).toBeLessThan(50);
  });
});

describe('with a driver', () => {
  const there = machine({ driver: true });

  test.each([
    ['no GPU', { DRIVER_INIT: '100' }, 'initialize', /an NVIDIA driver, but no GPU \(100\)/],
    ['a kernel module of another version', { DRIVER_INIT: '803' }, 'initialize', /kernel module are of different versions \(803\)/],
    ['a failure that has a text', { DRIVER_INIT: '999' }, 'initialize', /does not start: unknown error \(999\)/],
    ['a failure that has none', { DRIVER_INIT: '77' }, 'initialize', /does not start: cuInit failed \(77\)/],
    ['an old version', { DRIVER_VERSION: '12080' }, 'version', /too old: it serves CUDA 12\.8, and CUDA 13\.0 needs driver 580/],
    ['a count of 0', { DRIVER_COUNT: '0' }, 'gpu', /no GPU/],
    ['no backend', {}, 'backend', /is not built: .*libcomface_cuda\.so is not there/],
  ])('and %s the probe ends there', (_, env, stage, reason) => {
    for (const thread of ['main', 'worker'] as const) {
      const answer = there.probe(env, thread);
      expect(answer).toMatchObject({ available: false, stage, driverPath: join(there.folder, 'libcuda.so.1') });
      expect(answer.reason).toMatch(reason);
    }
  });
});

test('a driver with all functions and no device is told from one with a device', ({ skip }) => {
  const folder = emptyDriver() ?? skip('the CUDA toolkit was not found');
  expect(machine({ driver: false }).probe({ LD_LIBRARY_PATH: folder })).toMatchObject({ available: false, stage: 'initialize' });
});

describe('with a driver and a backend', () => {
  const withBackend = (abi: number, capability: number) => {
    const there = machine({ driver: true });
    there.addBackend({ abi, capability });
    return there.probe();
  };

  test('of another interface version the probe ends there', () => {
    const { stage, reason } = withBackend(kAbi + 1, 90);
    expect(stage).toBe('backend');
    expect(reason).toContain(`has interface version ${kAbi + 1} where this add-on needs ${kAbi}`);
  });

  test('an older GPU is named with its capability', () => {
    const { available, stage, reason } = withBackend(kAbi, 75);
    expect([available, stage]).toEqual([false, 'devices']);
    expect(reason).toBe('no GPU of compute capability 8.0 or newer: Imaginary GPU has 7.5');
  });

  test('and a GPU all is there', () => {
    expect(withBackend(kAbi, 90)).toMatchObject({
      ...{ available: true, stage: 'ready', reason: '', driverVersion: 13000, cudnn: 92400, cublasLt: 130101 },
      devices: [{ name: 'Imaginary GPU', capability: 9, memoryBytes: 2 ** 37 }],
    });
  });
});

describe('the CUDA backend', () => {
  test('is linked with the C and C++ libraries alone, and looks nowhere but beside itself', ({ skip }) => {
    const backend = builtBackend() ?? skip(kNotBuilt);
    const text = execFileSync('readelf', ['-d', backend], { encoding: 'utf8' });
    const values = (tag: string) => [...text.matchAll(new RegExp(`\\(${tag}\\).*\\[(.*)\\]`, 'g'))].map(([, value]) => value);
    const system = /^(lib(c|m|stdc\+\+|gcc_s|dl|rt|pthread)|ld-linux-.*)\.so\.\d+$/;
    expect(values('NEEDED').filter((name) => !system.test(name!))).toEqual([]);
    expect([values('RPATH'), values('RUNPATH')]).toEqual([['$ORIGIN'], []]);
  });

  test('names every path it tried when a library is not there', ({ skip }) => {
    const backend = builtBackend() ?? skip(kNotBuilt);
    const { status, reason } = describeLibraries(backend, { COMFACE_CUDA_LIBRARIES: '/nowhere' });
    if (reason === '') return; // this machine's loader finds them by itself
    expect(status).toBe(0);
    const own = join(backend, '..', 'libcublasLt.so.13');
    for (const path of ['/nowhere/libcublasLt.so.13', '/nowhere/cu13/lib/libcublasLt.so.13', own]) expect(reason).toContain(path);
    expect(reason).toMatch(/^cuBLASLt was not found\. Tried .*where the system's loader looks/);
  });

  test.for(['graph', 'heuristic'])('answers with a message, not an abort, when cuDNN lacks its part %s', (part, { skip }) => {
    const backend = builtBackend() ?? skip(kNotBuilt);
    const folder = pretendLibraries(92400, part);
    const { status, reason } = describeLibraries(backend, { COMFACE_CUDA_LIBRARIES: folder });
    expect(status).toBe(0);
    expect(reason).toContain(`cuDNN at ${folder}/libcudnn.so.9 is not whole: ${folder}/libcudnn_${part}.so.9: cannot open`);
  });

  test('takes cuDNN from the folder it is given, and no version that is too old', ({ skip }) => {
    const backend = builtBackend() ?? skip(kNotBuilt);
    const folder = pretendLibraries(92400);
    expect(describeLibraries(backend, { COMFACE_CUDA_LIBRARIES: folder })).toMatchObject({
      ...{ status: 0, reason: '', cudnn: 92400, cudnnPath: `${folder}/libcudnn.so.9`, cublasLtPath: `${folder}/libcublasLt.so.13` },
    });
    const { reason } = describeLibraries(backend, { COMFACE_CUDA_LIBRARIES: pretendLibraries(90500) });
    expect(reason).toMatch(/is version 9\.5\.0; 9\.10\.0 or newer is needed/);
  });

  test('finds every function of its tables in the real libraries', ({ skip }) => {
    const backend = builtBackend() ?? skip(kNotBuilt);
    const folder = librariesFolder ?? skip('COMFACE_CUDA_LIBRARIES names no folder with cuDNN and cuBLASLt');
    const { status, reason, cudnn, cublasLt } = describeLibraries(backend, { COMFACE_CUDA_LIBRARIES: folder });
    expect([status, reason]).toEqual([0, '']);
    expect(cudnn).toBeGreaterThanOrEqual(91000);
    expect(cublasLt).toBeGreaterThanOrEqual(130000);
  });

  test('with a driver and the libraries gets as far as the device', ({ skip }) => {
    if (builtBackend() === undefined) skip(kNotBuilt);
    const there = machine({ driver: true });
    there.addBackend('built');
    const { stage, reason, cudnn } = there.probe({ COMFACE_CUDA_LIBRARIES: pretendLibraries(92400) });
    expect([stage, cudnn]).toEqual(['devices', 92400]);
    expect(reason).toMatch(/^CUDA: cudaGetDeviceCount: /);
  });
});
