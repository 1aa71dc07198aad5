// `comface doctor` as a user reads it, on this machine and on some that are not there; and what `device` and `precision` do on them.
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type Diagnosis, describe as describeDiagnosis } from '../lib/doctor.ts';
import { chooseDevice } from '../lib/native.ts';
import { machine } from './native/cuda/machine.ts';
import { temporaryFolder } from './support.ts';

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

/** A machine whose CPU backend does that when it is opened. */
function brokenCpu(statements: string): NodeJS.ProcessEnv {
  const broken = machine({ driver: true });
  const code = `#include <signal.h>\n#include <unistd.h>\n__attribute__((constructor)) static void begin() { ${statements} }`;
  const args = ['-shared', '-fPIC', '-x', 'c++', '-', '-o', join(broken.folder, 'libcomface_cpu.so')];
  execFileSync(process.env.CXX ?? 'c++', args, { input: code });
  return { ...broken.env, DRIVER_INIT: '100' };
}

describe('comface doctor', () => {
  test('says what works here, with paths, and ends with code 0', () => {
    const { status, out, errors } = doctor({});
    expect([status, errors]).toEqual([0, '']);
    expect(out).toMatch(
      /^comface \d+\.\d+\.\d+, node \d+\.\d+\.\d+, linux \w+, glibc 2\.\d+\n.+, \d+ cores?.*, \d+ threads?; \S+ GiB of memory, \S+ GiB free/,
    );
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
    expect(found.places).toMatchObject({ binary: withoutGpu.folder, package: fileURLToPath(new URL('..', import.meta.url)) });
    expect(found.memory.freeBytes).toBeLessThanOrEqual(found.memory.totalBytes);
    expect(found.selfTests).toEqual([]);
  });

  test('says where choices are kept, and which variables are set', () => {
    const env = { COMFACE_CACHE: '/somewhere/cache', LD_LIBRARY_PATH: 'x'.repeat(500) };
    const { places, environment } = JSON.parse(doctor(env, '--json').out) as Diagnosis;
    expect([places.cache, environment]).toEqual(['/somewhere/cache', expect.objectContaining(env)]);
    const { out } = doctor(env);
    expect(out).toContain('\nCOMFACE_CACHE=/somewhere/cache\n');
    expect(out).toMatch(/\nLD_LIBRARY_PATH=x{120}\n/);
    const homeless = { COMFACE_CACHE: '', XDG_CACHE_HOME: '', HOME: '' };
    expect((JSON.parse(doctor(homeless, '--json').out) as Diagnosis).places.cache).toBe(null);
    expect((JSON.parse(doctor({ ...homeless, HOME: '/h' }, '--json').out) as Diagnosis).places.cache).toBe('/h/.cache/comface');
  });

  test('ends with code 1 when nothing works', () => {
    const { status, out, errors } = doctor({ COMFACE_NATIVE: '/nowhere/comface.node' });
    expect([status, errors]).toEqual([1, '']);
    expect(out).toMatch(/NO {2}binary {2}No comface binary works here .*\n +COMFACE_NATIVE is \/nowhere/);
    expect(out).toContain('Nothing works here yet.');
  });
});

describe('the self-test', () => {
  test('trains a ResNet-18 for a few seconds on each device that works, and says how fast', () => {
    const folder = temporaryFolder();
    const { status, out, errors } = doctor({ ...noGpu, TMPDIR: folder }, '--whole', '--json');
    expect([status, errors]).toEqual([0, 'Training on cpu for some seconds ...\n']);
    const diagnosis = JSON.parse(out) as Diagnosis;
    const [found, ...others] = diagnosis.selfTests;
    expect([found, others]).toMatchObject([{ device: 'cpu', backbone: 'resnet18', size: 64, pairs: 8 }, []]);
    const { steps, seconds, viewsPerSecond, firstLoss, lastLoss, precision } = found!;
    expect(precision).toBe(choose(noGpu, 'cpu', 'auto').precision);
    expect(viewsPerSecond).toBeCloseTo((24 * (steps - 1)) / seconds, 6);
    expect([steps >= 5, Number.isFinite(firstLoss), lastLoss < firstLoss]).toEqual([true, true, true]);
    const text = describeDiagnosis(diagnosis).join('\n');
    expect(text).toMatch(
      /\n {2}ok {2}trains {4}\d+ views\/s: ResNet-18, 64 x 64, 8 pairs, (bf16|fp32); the loss falls from [\d.]+ to [\d.e-]+ in \d+ steps\n/,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test('is left out, with the reason, where there is no room for its pictures; the device works all the same', () => {
    const { status, out } = doctor({ ...noGpu, TMPDIR: '/nowhere' }, '--whole');
    expect(status).toBe(0);
    expect(out).toMatch(/\n {2}- {3}trains {4}There is no room for a few pictures \(TMPDIR names another place\): ENOENT.*\n/);
    expect(out).toContain('Ready: device auto takes the CPU.');
  });

  test('outlives a backend that ends its process, and says how it ended', () => {
    const { status, out, errors } = doctor(brokenCpu('raise(SIGILL);'));
    expect([status, errors]).toEqual([1, '']);
    expect(out).toMatch(/\n {2}NO {2}computes {2}The process that tried: it was ended by SIGILL\n +Build again: /);
    expect(out).toContain('Nothing works here yet.');
  });

  test('outlives a backend that hangs', () => {
    const code = `import(${JSON.stringify(join(dist, 'doctor.js'))}).then(({ diagnose }) => diagnose({ quick: true, timeoutMs: 3000 }))
      .then(({ cpu, works }) => console.log(JSON.stringify({ cpu, works })))`;
    const { stdout } = spawnSync(process.execPath, ['-e', code], {
      env: brokenCpu('for (;;) pause();'),
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ works: [], cpu: [{ ok: true }, { ok: false, text: 'The process that tried: it did not end within 3 s' }] },
    });
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
