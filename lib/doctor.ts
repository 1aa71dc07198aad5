// What `comface doctor` finds: whether each backend works on this machine, where its libraries are, and what to do about what is missing.
// It believes nothing that it has not run: each backend compiles and runs a small network.
import { readFileSync } from 'node:fs';
import { arch, cpus, freemem, platform, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { ComFaceError, messageOf } from './errors.js';
import type { LayerRecord } from './models/layers.js';
import { type CudaStage, chooseDevice, cudaStages, type NativeCuda, native, threadCount } from './native.js';

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
  processor: { model: string; cores: number; instructions: string[] };
  memory: { totalBytes: number; freeBytes: number };
  /** The binary and the CPU backend. */
  cpu: Check[];
  /** Stages of the search for CUDA, in order; none when the binary does not load. */
  cuda: Check[];
  /** The search itself, with paths, versions and devices. */
  found: NativeCuda | null;
  /** Libraries that the process has loaded, by path. */
  libraries: string[];
  /** Devices that computed something just now. */
  works: ('cpu' | 'cuda')[];
}

const root = fileURLToPath(new URL('..', import.meta.url));

/** Looks at everything. Never throws for what it finds. */
export async function diagnose(): Promise<Diagnosis> {
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
  const { cpu, cores, instructions } = await examineCpu();
  const found = cpu[0]?.ok ? native().module.cuda() : null;
  const cuda = found ? stagesOf(found) : [];
  if (found?.available) cuda.push(await tryBackend('cuda'));
  return {
    version,
    node: process.versions.node,
    platform: [`${platform()} ${arch()}`, libc()].filter(Boolean).join(', '),
    processor: { model: cpus()[0]?.model.trim() ?? 'unknown processor', cores, instructions },
    memory: { totalBytes: totalmem(), freeBytes: freemem() },
    cpu,
    cuda,
    found,
    libraries: loadedLibraries(),
    works: [...(worked(cpu) ? ['cpu' as const] : []), ...(worked(cuda) ? ['cuda' as const] : [])],
  };
}

/** A diagnosis in words, line by line. */
export function describe(diagnosis: Diagnosis): string[] {
  const { version, node, processor, memory, cpu, cuda } = diagnosis;
  const parts = [processor.model, `${processor.cores} cores`, ...processor.instructions];
  return [
    `comface ${version}, node ${node}, ${diagnosis.platform}`,
    `${parts.join(', ')}; ${gibibytes(memory.totalBytes)} of memory, ${gibibytes(memory.freeBytes)} free`,
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

const worked = (checks: readonly Check[]): boolean => checks.length > 0 && checks.every(({ ok }) => ok);
const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

async function examineCpu() {
  try {
    const { module, folder } = native();
    const { avx2, avx512, bf16, cores } = module.cpu;
    const instructions = [avx512 ? 'AVX-512' : avx2 ? 'AVX2' : '', bf16 ? 'bf16' : ''].filter(Boolean);
    return { cpu: [{ name: 'binary', ok: true, text: folder }, await tryBackend('cpu')] satisfies Check[], cores, instructions };
  } catch (error) {
    return { cpu: [failed('binary', error)], cores: cpus().length, instructions: [] };
  }
}

const smallNetwork: readonly LayerRecord[] = [
  { op: 'input', name: 'input', channels: 3, height: 8, width: 8 },
  { op: 'conv', name: 'conv', input: 'input', out: 16, kernel: 3, stride: 1, pad: 1 },
  { op: 'relu', name: 'relu', input: 'conv' },
];

const kSlow = 'Without AVX2 a training step takes at least twice as long: most processors since 2015 have it.';

/** Compiles and runs a network of one convolution. */
async function tryBackend(device: 'cpu' | 'cuda'): Promise<Check> {
  const name = 'computes';
  try {
    const { library, precision } = chooseDevice(device, 'auto');
    const engine = await native().module.createEngine(library, {
      layers: smallNetwork,
      batch: 1,
      training: false,
      precision,
      threads: threadCount(0),
    });
    try {
      await engine.initialize(1n);
      await engine.forward(new Float32Array(3 * 8 * 8), new Float32Array());
      const advice = engine.description.includes(', baseline,') ? kSlow : undefined;
      return { name, ok: true, text: engine.description, ...(advice && { advice }) };
    } finally {
      engine.dispose();
    }
  } catch (error) {
    return failed(name, error);
  }
}

function failed(name: string, error: unknown): Check {
  const text = messageOf(error);
  const advice = error instanceof ComFaceError ? error.hint : undefined;
  return { name, ok: false, text, ...(advice === undefined ? {} : { advice }) };
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
  if (stage === 'driver') return found.driverPath;
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
    return `Install CUDA 13 (nvcc), then: pip install nvidia-cudnn-cu13 nvidia-cublas && node ${root}native/build.mjs --cuda on`;
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

function loadedLibraries(): string[] {
  let maps = '';
  try {
    maps = readFileSync('/proc/self/maps', 'utf8');
  } catch {} // not on Linux
  const files = maps.split('\n').map((line) => line.slice(line.indexOf('/')));
  return [...new Set(files.filter((file) => /\/(comface\.node|lib(comface_|dnnl|gomp|turbojpeg|cuda\.|cudnn|cublasLt)[^/]*)$/.test(file)))];
}
