// What `comface doctor` finds: whether each backend works on this machine, where its libraries are, and what to do about what is missing.
// It believes nothing that it has not run: each backend computes and trains, in a process of its own, which may end as it likes.
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, freemem, platform, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ComFaceError, counted, messageOf } from './errors.js';
import { againHint, buildCommand, type CudaStage, cudaStages, type NativeCuda, native, threadCount } from './native.js';
import { damagesOf } from './published.js';
import type { Answer, SelfTest } from './selftest.js';

/** One thing that was looked at. */
export interface Check {
  name: string;
  /** null: not tried, as one before it failed. */
  ok: boolean | null;
  /** What was found, or why not; empty when not tried. */
  text: string;
  /** What to do about it. */
  advice?: string;
}

/** What `comface doctor --json` prints. */
export interface Diagnosis {
  version: string;
  node: string;
  /** As in `linux x64, glibc 2.36`. */
  platform: string;
  /** Instructions that are used, and threads where an option leaves them open. */
  processor: { model: string; cores: number; instructions: string[]; threads: number };
  /** limitBytes: of the container or group that this process is in, if that is less; else null. */
  memory: { totalBytes: number; freeBytes: number; limitBytes: number | null };
  /** Folders: of the package, of the binary (null: none loads), of the choices of convolutions that are kept (null: none can be). */
  places: { package: string; binary: string | null; cache: string | null };
  /** Environment variables that are set and change what comface does; docs/cli.md. */
  environment: Record<string, string>;
  /** The binary and the CPU backend. */
  cpu: Check[];
  /** Stages of the search for CUDA, in order; none when the binary does not load. */
  cuda: Check[];
  /** The search itself, with paths, versions and devices. */
  found: NativeCuda | null;
  /** Release of the NVIDIA driver, as in `580.95.05`; null: none is loaded. */
  driverRelease: string | null;
  /** Libraries that the tried devices have loaded, by path. */
  libraries: string[];
  /** Of each device that could be tried; none with `quick`. */
  selfTests: SelfTest[];
  /** Devices that passed every check just now. */
  works: ('cpu' | 'cuda')[];
}

/** How to look. */
export interface DiagnoseOptions {
  /** Leaves out the training steps, of {@link kTestSeconds} seconds in all. @default false */
  quick?: boolean;
  /** How long a device may take in all; CUDA times its plans in its first training. @default 180000 */
  timeoutMs?: number;
  /** Called before a device is tried. */
  onDevice?: (device: 'cpu' | 'cuda') => void;
}

/** Of training steps, on all devices. */
export const kTestSeconds = 5;

/** What changes what this package does: docs/cli.md has a sentence of each. */
export const environmentNames = [
  ...['COMFACE_NATIVE', 'COMFACE_CUDA_LIBRARIES', 'COMFACE_CACHE', 'COMFACE_NO_FUSION', 'COMFACE_PLAN_THREADS'],
  ...[
    'ONEDNN_MAX_CPU_ISA',
    'DNNL_MAX_CPU_ISA',
    'CUDA_VISIBLE_DEVICES',
    'LD_LIBRARY_PATH',
    'XDG_CACHE_HOME',
    'PREBUILDS_ONLY',
    'COMFACE_PREBUILD',
  ],
] as const;

const root = fileURLToPath(new URL('..', import.meta.url));
const kShownLetters = 120;

/** Looks at everything. Never throws for what it finds. */
export async function diagnose({
  quick = false,
  timeoutMs = 180_000,
  onDevice = () => undefined,
}: DiagnoseOptions = {}): Promise<Diagnosis> {
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
  const { binary, folder, ...processor } = examineBinary();
  const found = folder === null ? null : native().module.cuda();
  const devices = folder === null ? [] : found?.available ? (['cpu', 'cuda'] as const) : (['cpu'] as const);
  const tried = { cpu: nothing, cuda: nothing };
  for (const device of devices) {
    onDevice(device);
    tried[device] = await tryDevice(device, quick ? 0 : kTestSeconds / devices.length, timeoutMs);
  }
  const cpu = [binary, ...tried.cpu.checks];
  const cuda = [...(found ? stagesOf(found) : []), ...tried.cuda.checks];
  const both = [tried.cpu, tried.cuda];
  return {
    version,
    node: process.versions.node,
    platform: [`${platform()} ${arch()}`, libc()].filter(Boolean).join(', '),
    processor,
    memory: { totalBytes: totalmem(), freeBytes: freemem(), limitBytes: memoryLimit() },
    places: { package: root, binary: folder, cache: cacheFolder() },
    environment: Object.fromEntries(environmentNames.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : []))),
    cpu,
    cuda,
    found,
    driverRelease: driverRelease(),
    libraries: [...new Set(both.flatMap(({ libraries }) => libraries))],
    selfTests: both.flatMap(({ test }) => (test ? [test] : [])),
    works: [...(worked(cpu) ? ['cpu' as const] : []), ...(worked(cuda) ? ['cuda' as const] : [])],
  };
}

/** A diagnosis in words, line by line. */
export function describe(diagnosis: Diagnosis): string[] {
  const { version, node, processor, memory, cpu, cuda, environment } = diagnosis;
  const parts = [processor.model, counted(processor.cores, 'core'), ...processor.instructions, counted(processor.threads, 'thread')];
  const limit = memory.limitBytes === null ? '' : `, ${gibibytes(memory.limitBytes)} at most for this process`;
  const set = Object.entries(environment).map(([name, value]) => `${name}=${value.slice(0, kShownLetters)}`);
  return [
    `comface ${version}, node ${node}, ${diagnosis.platform}`,
    `${parts.join(', ')}; ${gibibytes(memory.totalBytes)} of memory, ${gibibytes(memory.freeBytes)} free${limit}`,
    ...set,
    '',
    ...chapter('CPU', cpu),
    '',
    ...(cuda.length > 0 ? [...chapter('CUDA', cuda), ''] : []),
    verdict(diagnosis),
  ];
}

function verdict({ works, found }: Diagnosis): string {
  if (works.includes('cuda')) return 'Ready: device auto takes CUDA.';
  if (works.length === 0) return 'Nothing works here yet.';
  return found?.available ? 'Only the CPU is ready: say device cpu, as auto takes CUDA.' : 'Ready: device auto takes the CPU.';
}

function chapter(title: string, checks: readonly Check[]): string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return [
    title,
    ...checks.flatMap(({ name, ok, text, advice }) => {
      const mark = ok === null ? '-' : ok ? 'ok' : 'NO';
      const line = `  ${mark.padEnd(2)}  ${name.padEnd(width)}  ${text}`.trimEnd();
      return advice === undefined ? [line] : [line, `      ${' '.repeat(width)}  ${advice}`];
    }),
  ];
}

const worked = (checks: readonly Check[]): boolean => checks.length > 1 && checks.every(({ ok }) => ok !== false);
const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

function examineBinary() {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  try {
    const { module, folder } = native();
    const { avx2, avx512, bf16, cores } = module.cpu;
    const instructions = [avx512 ? 'AVX-512' : avx2 ? 'AVX2' : '', bf16 ? 'bf16' : ''].filter(Boolean);
    const damages = damagesOf(folder);
    const binary: Check =
      damages.length === 0
        ? { name: 'binary', ok: true, text: folder }
        : { name: 'binary', ok: false, text: damages.join('; '), advice: againHint };
    return { binary, folder, model, cores, instructions, threads: threadCount(0) };
  } catch (error) {
    const cores = cpus().length;
    const advice = error instanceof ComFaceError ? error.hint : undefined;
    const binary: Check = { name: 'binary', ok: false, text: messageOf(error), ...(advice !== undefined && { advice }) };
    return { binary, folder: null, model, cores, instructions: [], threads: cores };
  }
}

const kSlow = 'Without AVX2 a training step takes at least twice as long: most processors since 2015 have it.';

interface Tried {
  checks: Check[];
  libraries: string[];
  test?: SelfTest;
}
const nothing: Tried = { checks: [], libraries: [] };

/** What a device does in a process of its own, and how that ends. */
async function tryDevice(device: 'cpu' | 'cuda', seconds: number, timeoutMs: number): Promise<Tried> {
  const child = fork(fileURLToPath(new URL('./selftest.js', import.meta.url)), [device, String(seconds)], {
    ...{ stdio: 'ignore', execArgv: [] },
  });
  const tried: Tried = { checks: [], libraries: [] };
  let isTold = false;
  child.on('message', (answer: Answer) => {
    if (answer.part === 'libraries') tried.libraries = answer.files;
    else tried.checks.push(checkOf(answer, tried.checks.length));
    if (answer.part === 'trains') tried.test = answer.test;
    isTold = answer.part === 'libraries';
  });
  const how = await new Promise<string>((resolve) => {
    // A process that hangs in its driver may outlive even SIGKILL: it is left to itself.
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      if (child.connected) child.disconnect();
      child.unref();
      resolve(`it did not end within ${timeoutMs / 1000} s`);
    }, timeoutMs);
    const end = (text: string) => {
      clearTimeout(timer);
      resolve(text);
    };
    child.on('error', (error) => end(error.message));
    child.on('close', (code, signal) => end(signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`));
  });
  if (!isTold)
    tried.checks.push({ name: partName(tried.checks.length), ok: false, text: `The process that tried: ${how}`, advice: adviceOf(device) });
  return tried;
}

const partName = (part: number): string => (part === 0 ? 'computes' : 'trains');
const adviceOf = (device: 'cpu' | 'cuda'): string =>
  device === 'cpu' ? againHint : 'See what nvidia-smi says; device cpu does without the GPU.';

/** @param part 0 for what comes first. */
function checkOf(answer: Exclude<Answer, { part: 'libraries' }>, part: number): Check {
  const name = partName(part);
  if (answer.part === 'failed') {
    const { message, hint } = answer;
    return { name, ok: false, text: message, ...(hint !== undefined && { advice: hint }) };
  }
  if (answer.part === 'untried') return { name, ok: null, text: answer.reason };
  if (answer.part === 'computes') {
    const { description } = answer;
    return { name, ok: true, text: description, ...(description.includes(', baseline,') && { advice: kSlow }) };
  }
  const { size, pairs, precision, steps, viewsPerSecond, firstLoss, lastLoss } = answer.test;
  const losses = `the loss falls from ${firstLoss.toPrecision(3)} to ${lastLoss.toPrecision(3)} in ${steps} steps`;
  return {
    name,
    ok: true,
    text: `${viewsPerSecond.toFixed(0)} views/s: ResNet-18, ${size} x ${size}, ${pairs} pairs, ${precision}; ${losses}`,
  };
}

const names: Record<Exclude<CudaStage, 'ready'>, string> = {
  driver: 'NVIDIA driver',
  initialize: 'driver starts',
  version: 'driver version',
  gpu: 'GPU',
  backend: 'CUDA backend',
  libraries: 'libraries',
  devices: 'usable GPU',
};

function stagesOf(found: NativeCuda): Check[] {
  const end = cudaStages.indexOf(found.stage);
  return cudaStages.slice(0, -1).map((stage, i): Check => {
    const name = names[stage as keyof typeof names];
    if (i > end) return { name, ok: null, text: '' };
    if (i < end) return { name, ok: true, text: textOf(stage, found) };
    return { name, ok: false, text: found.reason, advice: adviceFor(stage, found.reason) };
  });
}

function textOf(stage: CudaStage, found: NativeCuda): string {
  if (stage === 'driver') {
    const release = driverRelease();
    return release === null ? found.driverPath : `${release}, ${found.driverPath}`;
  }
  if (stage === 'version') return `serves CUDA ${Math.floor(found.driverVersion / 1000)}.${Math.floor((found.driverVersion % 1000) / 10)}`;
  if (stage === 'backend') return found.backendPath;
  if (stage === 'libraries') {
    const cudnn = [found.cudnn / 10_000, (found.cudnn % 10_000) / 100, found.cudnn % 100].map(Math.floor).join('.');
    const cublasLt = [found.cublasLt / 10_000, (found.cublasLt % 10_000) / 100, found.cublasLt % 100].map(Math.floor).join('.');
    return `cuDNN ${cudnn} (${found.cudnnPath}), cuBLASLt ${cublasLt} (${found.cublasLtPath})`;
  }
  if (stage !== 'devices') return '';
  const each = found.devices.map(
    ({ name, capability, memoryBytes }) => `${name}, compute capability ${capability.toFixed(1)}, ${gibibytes(memoryBytes)}`,
  );
  return each.join('; ');
}

function adviceFor(stage: CudaStage, reason: string): string {
  const driver = 'Install NVIDIA driver 580 or newer.';
  if (stage === 'driver') return `${driver} On a machine without an NVIDIA GPU nothing is missing.`;
  if (stage === 'version') return driver;
  if (reason.includes('no GPU') && stage !== 'devices') {
    const visible = process.env.CUDA_VISIBLE_DEVICES;
    if (visible !== undefined) return `CUDA_VISIBLE_DEVICES is "${visible}": correct it, or unset it.`;
    return 'See what nvidia-smi lists. A container gets a GPU by: docker run --gpus all';
  }
  if (stage === 'initialize' || stage === 'gpu') return 'Restart the machine; after that see what nvidia-smi says.';
  if (stage === 'backend') {
    return `Install CUDA 13 (nvcc), then: pip install nvidia-cudnn-cu13 nvidia-cublas && ${buildCommand} ${buildCommand.startsWith('npm run') ? '-- ' : ''}--cuda on`;
  }
  if (stage === 'libraries') {
    return 'Install them: pip install nvidia-cudnn-cu13 nvidia-cublas. Then set COMFACE_CUDA_LIBRARIES to the folder site-packages/nvidia.';
  }
  return reason.startsWith('no GPU') ? 'ComFace needs an A100, an RTX 30 or a newer GPU.' : 'See what nvidia-smi says.';
}

function libc(): string {
  const { header } = (process.report?.getReport() ?? {}) as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime === undefined ? '' : `glibc ${header.glibcVersionRuntime}`;
}

/** In a container or a group with a limit of its own. */
function memoryLimit(): number | null {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : null;
}

/** As native/choices.cc has it. */
function cacheFolder(): string | null {
  const { COMFACE_CACHE, XDG_CACHE_HOME, HOME } = process.env;
  if (COMFACE_CACHE) return COMFACE_CACHE;
  if (XDG_CACHE_HOME) return join(XDG_CACHE_HOME, 'comface');
  return HOME ? join(HOME, '.cache/comface') : null;
}

function driverRelease(): string | null {
  try {
    return /\s(\d+\.\d+(?:\.\d+)?)\s/.exec(readFileSync('/proc/driver/nvidia/version', 'utf8'))?.[1] ?? null;
  } catch {
    return null; // no driver is loaded
  }
}
