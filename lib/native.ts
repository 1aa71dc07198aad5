// Finds, loads and types the binary. This is the whole surface between TypeScript and C++: plain numbers, strings and typed arrays.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ComFaceError, type ErrorCode, messageOf } from './errors.js';
import type { LayerRecord } from './models/layers.js';

/** Crop, color and normalization of a view; native/augment.h states each. */
export interface NativeAugment {
  cropAreaMin: number;
  cropAreaMax: number;
  cropAspectMax: number;
  flipProbability: number;
  jitterProbability: number;
  brightness: number;
  contrast: number;
  saturation: number;
  hue: number;
  grayscaleProbability: number;
  mean: readonly number[];
  deviation: readonly number[];
}

/** What one step reads: rows [0, pairs) are used, the rest are spares for broken pictures. */
export interface NativePlan {
  seed: bigint;
  step: number;
  pairs: number;
  /** Images of a pair: 3 (two views of x, one of y), 2 (one each) or 1 (x alone). @default 3 */
  views?: 1 | 2 | 3;
  x: Uint32Array;
  y: Uint32Array;
  target: Float32Array;
}

export interface NativeAdam {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  step: number;
}

/** Steps that a backend has done since they were last asked for. */
export interface NativeCollected {
  /** In the order of the graph's loss layers, one step after the other. */
  losses: number[];
  steps: number;
}

/** `steps` is 0 where the backend still computes: `collect()` tells. */
export interface NativeStep extends NativeCollected {
  broken: { sample: number; reason: string }[];
  loadSeconds: number;
  computeSeconds: number;
}

export type Slot = 'parameter' | 'gradient' | 'firstMoment' | 'secondMoment' | 'statistic' | 'value' | 'valueGradient' | 'lossScale';

export interface NativeTensorInfo {
  name: string;
  dims: number[];
}

/** An open set of pictures with its decoding threads. Disposed of, it counts 0 pictures, refuses calls with DISPOSED, and lives on until those under way are done. */
export interface NativeSource {
  readonly count: number;
  readonly size: number;
  /** One batch of training views, for tests and pictures: views * pairs x 3 x size x size. */
  fill(plan: NativePlan, augment: NativeAugment): Promise<{ images: Float32Array; targets: Float32Array; broken: NativeStep['broken'] }>;
  dispose(): void;
}

/**
 * One compiled graph on its own thread. Calls run in the order made; dispose() lets the running one finish and rejects the others with DISPOSED.
 * After DEVICE_FAILED an engine is failed: each call is answered with that, until dispose(). Any other error leaves it ready. A disposed engine
 * still knows its size and description. test/figures/states.test.ts has the whole table.
 */
export interface NativeEngine {
  readonly parameters: NativeTensorInfo[];
  readonly statistics: NativeTensorInfo[];
  /** Of all buffers and parameters; grows with `reserve`. */
  readonly sizeBytes: number;
  /** How it runs; what only a step can show is in it after `collect`. */
  readonly description: string;
  /** What the backend chose among ways that differ in their last bits, to be given to a later engine; empty where it has no choice. */
  readonly choices: string;
  readonly state: 'ready' | 'busy' | 'failed' | 'disposed';
  initialize(seed: bigint): Promise<void>;
  /** Plans the memory of whole steps on the source's pictures, where the device makes the views, for plans of so many rows. Without it the first steps do.
   * Rejects with OUT_OF_MEMORY. */
  reserve(source: NativeSource, rows: number): Promise<void>;
  step(source: NativeSource, plan: NativePlan, next: NativePlan | null, augment: NativeAugment, adam: NativeAdam): Promise<NativeStep>;
  /**
   * Waits for the steps whose losses step() did not tell, if any: at most 1,024, then step() waits itself.
   * Rejects with NOT_FINITE for the first of them that was not.
   */
  collect(): Promise<NativeCollected>;
  /** Value of a vector layer, or of the last one where that is an image, for each sample: samples x channels (x height x width). For graphs that are not
   * for training. */
  embed(source: NativeSource, samples: Uint32Array, layer: string, augment: NativeAugment): Promise<Float32Array>;
  /** The parts of a step, on given numbers: tests and feature heads. */
  forward(input: Float32Array, targets: Float32Array): Promise<number[]>;
  backward(): Promise<void>;
  update(adam: NativeAdam): Promise<void>;
  read(slot: Slot, name: string): Promise<Float32Array>;
  /** With `offset`, in numbers, `value` is a part: parts come in order from 0, and the tensor is written with the last. */
  write(slot: Slot, name: string, value: Float32Array, offset?: number): Promise<void>;
  dispose(): void;
}

export interface NativeGraphOptions {
  layers: readonly LayerRecord[];
  /** Samples in one run (3 x pairs for training). */
  batch: number;
  training: boolean;
  /** fp16 on CUDA only, fp64 with the plain loops only. */
  precision: 'fp32' | 'bf16' | 'fp16' | 'fp64';
  threads: number;
  /** Images run in so many chunks, one after the other, each with the same share of `parts` equal lists; native/graph.h. CUDA only, beyond 1. */
  chunks?: number;
  /** The same bits each time, as without it; false: CUDA may add up in any order where that is faster. */
  deterministic?: boolean;
  parts?: number;
  /** `choices` of an earlier engine. */
  choices?: string;
}

/** Pictures to draw; native/faces/face.h states each field. */
export interface NativeShots {
  seed: bigint;
  subject: Uint32Array;
  photo: Uint32Array;
  /** One to 8 of each picture, made one after the other, the same number of all: picture by picture. -1: none. */
  attribute: Int32Array;
  /** As many. */
  alpha: Float32Array;
  /** Of a video, from 0; -1, or without the list: a photograph. */
  frame?: Int32Array;
  domain: number;
  size: number;
}

/** Pictures one after the other, with the bytes and the CRC-32C of each. */
export interface NativeEncoded {
  bytes: Uint8Array;
  sizes: number[];
  crcs: number[];
}

/** Images of a generator to be made pictures of. */
export interface NativeImageSet {
  count: number;
  /** Of the images in pixels. */
  edge: number;
  /** Edge of the pictures, at most `edge`. */
  size: number;
  /** Of JPEG, 1 to 100; 0: RGB as it is. */
  quality: number;
}

/** What a set of shards has in common; docs/data.md. */
export interface NativeShardSet {
  folder: string;
  /** Pictures of each shard. */
  counts: Uint32Array;
  /** Edge of the pictures in pixels. */
  size: number;
  /** Whether they are RGB as it is; else JPEG. */
  raw: boolean;
  /** 16 hexadecimal digits that each shard of the set has. */
  id: string;
}

/** Stages of the search for CUDA, in order; each needs the ones before. native/probe.h states each. */
export const cudaStages = ['driver', 'initialize', 'version', 'gpu', 'backend', 'libraries', 'devices', 'ready'] as const;
export type CudaStage = (typeof cudaStages)[number];

/** What this machine has of CUDA. What was not reached is empty or 0. */
export interface NativeCuda {
  available: boolean;
  /** Where the search ended: `ready`, or the stage that failed. */
  stage: CudaStage;
  /** Why it ended there; empty when ready. */
  reason: string;
  /** The newest CUDA that the driver serves: 13000 for 13.0. */
  driverVersion: number;
  /** Versions as the libraries count them: 92400 for cuDNN 9.24.0, 130101 for cuBLASLt 13.1.1. */
  cudnn: number;
  cublasLt: number;
  driverPath: string;
  backendPath: string;
  cudnnPath: string;
  cublasLtPath: string;
  devices: { name: string; capability: number; memoryBytes: number }[];
}

export interface NativeModule {
  /** library: path of a backend library; '' for the plain reference loops. */
  createEngine(library: string, graph: NativeGraphOptions): Promise<NativeEngine>;
  /** What a graph would take and choose on a GPU that is not here, by cuDNN's description of it; native/cuda/fusion.h. CUDA only. */
  planFor(library: string, graph: NativeGraphOptions, device: string): Promise<{ sizeBytes: number; choices: string }>;
  /** pictureSize: edge that every picture must have, 0 for any. */
  openFiles(paths: readonly string[], size: number, threads: number, pictureSize: number): NativeSource;
  /** Pictures of sets of one size, one set after the other. */
  openShards(sets: readonly NativeShardSet[], size: number, threads: number): NativeSource;
  attributeNames: readonly string[];
  /** Draws faces with `threads` threads: packed RGB, count x size x size x 3. */
  drawFaces(shots: NativeShots, threads: number): Promise<Uint8Array>;
  /**
   * Where features lie in the pictures: count x 70 x 2 pixels, x to the right, y down, (0, 0) the corner. The 68 points of iBUG in their order
   * (36 to 41 are the eye on the left), then the pupils of the left and of the right eye.
   */
  faceLandmarks(shots: NativeShots): Promise<Float32Array>;
  /** Pictures one after the other as they lie in a shard: JPEG, or with quality 0 their pixels. */
  encodeFaces(shots: NativeShots, quality: number, threads: number): Promise<NativeEncoded>;
  /**
   * Images of a generator as pictures, each pixel the mean over its area: floor(127.5 mean + 128) from 0 to 255. As encodeFaces() gives them.
   * @param values count x 3 x edge x edge, -1 black and 1 white.
   */
  encodeImages(values: Float32Array, set: NativeImageSet, threads: number): Promise<NativeEncoded>;
  /** CRC-32C. */
  crc32c(bytes: Uint8Array): number;
  /** Draws faces and writes each as a baseline JPEG (4:2:0). Rejects with IO naming the file. */
  writeFaces(shots: NativeShots, paths: readonly string[], quality: number, threads: number): Promise<void>;
  decodeJpeg(file: Uint8Array): Promise<{ width: number; height: number; rgb: Uint8Array }>;
  encodeJpeg(rgb: Uint8Array, width: number, height: number, quality: number): Promise<Uint8Array>;
  setErrorClass(errorClass: new (code: ErrorCode, message: string) => Error): void;
  /** Philox words, to check the TypeScript twin. */
  philox(seed: bigint, purpose: number, a: number, b: number, c: number): number[];
  /** Native objects of this process that are alive, for tests; `workers`: threads with a queue, two of them for each environment. */
  liveObjects(): { engines: number; sources: number; workers: number; calls: number };
  /** Searches once in a process, in under 5 ms without a driver, and never throws. */
  cuda(): NativeCuda;
  cpu: { avx2: boolean; avx512: boolean; bf16: boolean; cores: number };
}

/** What to do about an error of native code, which has no words for that. */
const hints: Partial<Record<ErrorCode, string>> = {
  CORRUPT_FILE: 'Replace the picture by a sound JPEG; one that comface drew comes back when its data set is made again.',
  IO: 'Check the path, its permissions and the free space.',
  NOT_FINITE: 'Go on from the last checkpoint with a lower learning rate.',
  OUT_OF_MEMORY: 'Ask for less at once: fewer pairs or pictures, smaller pictures, a narrower network.',
};

const require = createRequire(import.meta.url);
/** The package's folder: one above lib/ (tests run the sources) and one above dist/ (installed). */
const root = fileURLToPath(new URL('..', import.meta.url));

const isClone = existsSync(join(root, 'scripts', 'bootstrap.mjs'));
/** What builds the binary: a clone has scripts of its own. */
export const buildCommand = isClone ? 'npm run build:native' : 'npm install --save-dev cmake-js@8 node-addon-api@8 && npx comface build';
/** What to do where files of the package are missing or damaged. */
export const againHint = isClone
  ? `Build again: ${buildCommand}`
  : `Install comface again; where its binaries do not fit the system, build: ${buildCommand}`;

class NativeError extends ComFaceError {
  constructor(code: ErrorCode, message: string) {
    const hint = code === 'DEVICE_UNAVAILABLE' ? againHint : hints[code];
    super(code, message, hint === undefined ? {} : { hint });
  }
}

/** What to do where no binary loads. */
function missingHint(chosen: string | undefined): string {
  if (chosen) return `COMFACE_NATIVE is ${chosen}: correct it, or unset it.`;
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return 'ComFace runs on Linux x86-64 alone: use such a machine, a container or WSL 2.';
  return `Install comface again if its files are not whole or not readable. Prebuilt binaries need glibc 2.34 or newer (Debian 12, Ubuntu 22.04, RHEL 9). Build one for this system: ${buildCommand}`;
}

let loaded: { module: NativeModule; folder: string } | undefined;

/**
 * Loads the add-on once: COMFACE_NATIVE (a file), else build/Release, build/Debug, prebuilds/<platform>-<arch>/.
 * @throws ComFaceError DEVICE_UNAVAILABLE with what to do when no binary works here.
 */
export function native(): { module: NativeModule; folder: string } {
  if (loaded) return loaded;
  const chosen = process.env.COMFACE_NATIVE;
  try {
    const file = chosen ? resolve(chosen) : (require('node-gyp-build') as { resolve(folder: string): string }).resolve(root);
    const module = require(file) as NativeModule;
    if (typeof module.setErrorClass !== 'function') throw new Error(`${file} is not a comface add-on`);
    module.setErrorClass(NativeError);
    loaded = { module, folder: dirname(file) };
    return loaded;
  } catch (cause) {
    const reason = messageOf(cause).trim().split('\n')[0];
    throw new ComFaceError(
      'DEVICE_UNAVAILABLE',
      `No comface binary works here (${process.platform}-${process.arch}, node ${process.versions.node}): ${reason}`,
      {
        hint: missingHint(chosen),
        cause,
      },
    );
  }
}

/** Where it may run. */
export const devices = ['auto', 'cpu', 'cuda', 'reference'] as const;
/** What the user asks for; `auto` takes the best that works. */
export type Device = (typeof devices)[number];
export const precisions = ['auto', 'fp32', 'bf16', 'fp16'] as const;
/** Number type of activations. `auto`: bf16 where the device multiplies it natively, else fp32. fp16 is for CUDA only. */
export type PrecisionChoice = (typeof precisions)[number];

/** What a graph is compiled for. */
export interface ChosenDevice {
  /** Path of the backend library; '' for the plain loops. */
  library: string;
  device: 'cpu' | 'cuda' | 'reference';
  precision: 'fp32' | 'bf16' | 'fp16';
  /** Why `auto` fell back to the CPU. */
  reason?: string;
}

/** Whether oneDNN is held to instructions that multiply no bf16; it takes a cap that it does not know for none. */
function isBf16Capped(): boolean {
  const cap = process.env.ONEDNN_MAX_CPU_ISA ?? process.env.DNNL_MAX_CPU_ISA ?? 'ALL';
  return /^(SSE41|AVX|AVX2(_VNNI)?|AVX512_MIC(_4OPS)?|AVX512_CORE(_VNNI)?)$/i.test(cap);
}

/**
 * The backend library of a device and the number type it will use. `auto` falls back to the CPU and says why; `cuda` never does.
 *
 * @throws ComFaceError DEVICE_UNAVAILABLE with the stage that failed, INVALID_CONFIG for fp16 without CUDA.
 */
export function chooseDevice(device: Device, precision: PrecisionChoice): ChosenDevice {
  const { module } = native();
  if (device === 'auto' || device === 'cuda') {
    const cuda = module.cuda();
    if (cuda.available) return { library: cuda.backendPath, device: 'cuda', precision: precision === 'auto' ? 'bf16' : precision };
    if (device === 'cuda') {
      throw new ComFaceError('DEVICE_UNAVAILABLE', `CUDA is not available (stage \`${cuda.stage}\`): ${cuda.reason}`, {
        hint: 'comface doctor shows every stage and what to do; `device: auto` takes the CPU.',
      });
    }
    return { ...chooseHost('cpu', precision, cuda.reason), reason: cuda.reason };
  }
  return chooseHost(device, precision);
}

/** @param whyNoCuda For the message when only CUDA could do it. */
function chooseHost(device: 'cpu' | 'reference', precision: PrecisionChoice, whyNoCuda?: string): ChosenDevice {
  const { module, folder } = native();
  if (precision === 'fp16') {
    const received = whyNoCuda === undefined ? `device ${device}` : `no CUDA: ${whyNoCuda}`;
    throw new ComFaceError('INVALID_CONFIG', `Expected device cuda for \`precision\` fp16 but received ${received}`, {
      hint: 'Use precision auto, bf16 or fp32 here; comface doctor shows what CUDA lacks.',
    });
  }
  if (device === 'reference') return { library: '', device, precision: precision === 'bf16' ? 'bf16' : 'fp32' };
  const library = join(folder, 'libcomface_cpu.so');
  if (!existsSync(library)) {
    throw new ComFaceError('DEVICE_UNAVAILABLE', `The CPU backend is missing: ${library}`, { hint: againHint });
  }
  const best = module.cpu.bf16 && !isBf16Capped() ? 'bf16' : 'fp32';
  return { library, device, precision: precision === 'auto' ? best : precision };
}

/** The loader and the renderer start no more. */
const kMostWorkers = 64;

/** Threads that load or draw: the option, or one per core when that is 0. */
export const workerCount = (option: number): number => Math.min(kMostWorkers, threadCount(option));

/** Threads to compute with when the option is 0: one per core. */
export function threadCount(option: number): number {
  return option > 0 ? option : Math.max(1, native().module.cpu.cores);
}
