// Machines that are not there: a folder with a driver that says what the test wants, an add-on, and a backend beside it or not.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type NativeCuda, native } from '../../../lib/native.ts';
import { sharedFolder } from '../../faces.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const sources = fileURLToPath(new URL('../../../native/', import.meta.url));
const compiler = process.env.CXX ?? 'c++';

/** The CUDA backend of this build, or undefined when it was built without. */
export function builtBackend(): string | undefined {
  const file = join(native().folder, 'libcomface_cuda.so');
  return existsSync(file) ? file : undefined;
}

/** The folder with cuDNN and cuBLASLt that COMFACE_CUDA_LIBRARIES names. */
export const librariesFolder = process.env.COMFACE_CUDA_LIBRARIES || undefined;

/** What a machine answered: the probe's result, and how long it took. */
export interface Answer extends NativeCuda {
  milliseconds: number;
}

export interface Machine {
  folder: string;
  /** Environment that makes a process believe it runs there. */
  env: NodeJS.ProcessEnv;
  /** Takes this build's backend or the emulated one in `folder`, or builds one that only pretends. */
  addBackend(kind: 'built' | { emulated: string } | { abi: number; capability: number }): void;
  addCpu(): void;
  /** Probes in a process of its own, on the main thread or in a worker. */
  probe(more?: NodeJS.ProcessEnv, thread?: 'main' | 'worker'): Answer;
}

/** Removed when the tests of the file that imports this have run. */
const workshop = sharedFolder();
const newFolder = (): string => mkdtempSync(join(workshop, 'machine-'));

/** Compiles a source of this folder into a shared library. */
function compile(source: string, out: string, ...flags: string[]): void {
  const common = ['-std=c++20', '-O1', '-fPIC', '-shared', '-Wall', '-Wextra', '-Werror', `-I${sources}`];
  execFileSync(compiler, [...common, ...flags, join(here, source), '-o', out, '-ldl'], { stdio: 'pipe' });
}

/**
 * A driver that opens and has no device, with all functions that the toolkit's cuda.h names: cuDNN wants it for planning without a GPU.
 * Returns its folder, for LD_LIBRARY_PATH; undefined without the toolkit.
 */
export function emptyDriver(): string | undefined {
  const roots = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda'];
  const header = roots.map((root) => join(root ?? '', 'include/cuda.h')).find((file) => existsSync(file));
  if (header === undefined) return undefined;
  // Declarations, and the versioned names that macros turn some of them into.
  const all = readFileSync(header, 'utf8').matchAll(/\bCUDAAPI\s+(cu[A-Z]\w+)\s*\(|#\s*define\s+cu[A-Z]\w+\s+(cu[A-Z]\w+)/g);
  const own = [...readFileSync(join(here, 'driver.cc'), 'utf8').matchAll(/^int (cu\w+)\(/gm)].map(([, name]) => name);
  const names = new Set([...all].map(([, declared, versioned]) => declared ?? versioned!));
  const folder = newFolder();
  writeFileSync(
    join(folder, 'names.h'),
    [...names]
      .filter((name) => !own.includes(name))
      .map((name) => `X(${name})\n`)
      .join(''),
  );
  compile('driver.cc', join(folder, 'libcuda.so.1'), `-DDRIVER_NAMES="${join(folder, 'names.h')}"`);
  return folder;
}

const code = `
const { performance } = require('node:perf_hooks');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');
const show = (text) => process.stdout.write(text);
const probe = () => {
  const addon = require(process.env.ADDON);
  const start = performance.now();
  const cuda = addon.cuda();
  return JSON.stringify({ ...cuda, milliseconds: performance.now() - start });
};
if (!isMainThread) parentPort.postMessage(probe());
else if (process.env.THREAD === 'main') show(probe());
else new Worker(process.env.CODE, { eval: true }).on('message', show);
`;

/** Without `driver` the machine is this one. */
export function machine({ driver }: { driver: boolean }): Machine {
  const folder = newFolder();
  for (const file of ['comface.node', 'libturbojpeg.so.0']) {
    const built = join(native().folder, file);
    if (existsSync(built)) copyFileSync(built, join(folder, file));
  }
  if (driver) compile('driver.cc', join(folder, 'libcuda.so.1'));
  const env = { ...process.env, LD_LIBRARY_PATH: folder, COMFACE_NATIVE: join(folder, 'comface.node') };
  return {
    folder,
    env,
    addBackend(kind) {
      const out = join(folder, 'libcomface_cuda.so');
      if (kind === 'built') copyFileSync(join(native().folder, 'libcomface_cuda.so'), out);
      else if ('emulated' in kind) {
        symlinkSync(join(kind.emulated, 'libcomface_cuda_emulated.so'), out);
        symlinkSync(join(kind.emulated, 'libcomface_cudart_emulated.so'), join(folder, 'libcomface_cudart_emulated.so'));
      } else compile('backend.cc', out, `-DABI=${kind.abi}`, `-DCAPABILITY=${kind.capability}`);
    },
    addCpu() {
      for (const file of readdirSync(native().folder).filter((name) => /^lib(comface_cpu|dnnl|gomp|OpenCL)\.so/.test(name)))
        symlinkSync(join(native().folder, file), join(folder, file));
    },
    probe(more = {}, thread = 'main') {
      const all = { ...env, ...more, ADDON: env.COMFACE_NATIVE, THREAD: thread, CODE: code };
      const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', code], { env: all, encoding: 'utf8' });
      if (status !== 0 || stderr !== '') throw new Error(`the probe ended with ${status ?? signal}: ${stdout}${stderr}`);
      return JSON.parse(stdout);
    },
  };
}

const namesIn = (text: string): string[] => [...text.matchAll(/\bX\((\w+)\)/g)].map(([, name]) => name!);

/** cuDNN of the version given and cuBLASLt, in name only; `without`: a part to leave out, as in `heuristic`. */
export function pretendLibraries(version: number, without?: string): string {
  const folder = newFolder();
  const table = readFileSync(join(sources, 'cuda/libraries.h'), 'utf8');
  const write = (file: string, names: readonly string[]) => {
    writeFileSync(join(folder, file), names.map((name) => `X(${name})\n`).join(''));
    return `-DNAMES="${join(folder, file)}"`;
  };
  const all = namesIn(table);
  const cudnn = all.filter((name) => name.startsWith('cudnn') && name !== 'cudnnGetVersion');
  const named = (soname: string) => [join(folder, soname), `-Wl,-soname,${soname}`] as const;
  compile('part.cc', ...named('libcudnn.so.9'), write('cudnn.h', cudnn), `-DIS_CUDNN=${version}`);
  compile(
    'part.cc',
    ...named('libcublasLt.so.13'),
    write(
      'cublas.h',
      all.filter((name) => name.startsWith('cublasLt')),
    ),
  );
  for (const part of ['graph', 'ops', 'engines_precompiled', 'engines_runtime_compiled', 'heuristic']) {
    if (part !== without) compile('part.cc', ...named(`libcudnn_${part}.so.9`), write('part.h', [`part_${part}`]));
  }
  return folder;
}

/** What the backend says of its libraries where no driver is asked. */
export function describeLibraries(backend: string, env: NodeJS.ProcessEnv) {
  const folder = newFolder();
  const program = join(folder, 'describe');
  execFileSync(compiler, ['-std=c++20', `-I${sources}`, join(here, 'describe.cc'), '-o', program, '-ldl'], { stdio: 'pipe' });
  const { status, signal, stdout } = spawnSync(program, [backend], { env: { ...process.env, ...env }, encoding: 'utf8' });
  const [reason, cudnn, cudnnPath, cublasLt, cublasLtPath, devices] = stdout.split('\n');
  return { status: status ?? signal, reason, cudnn: Number(cudnn), cudnnPath, cublasLt: Number(cublasLt), cublasLtPath, devices };
}
