// The CUDA backend that tests run on. Normally one that the CPU plays (test/native/emulation): the same sources, kernels as fibers, cuDNN and
// cuBLASLt as plain loops. Its work waits until somebody synchronizes and its threads run in another order each time, so what is only right by
// luck shows. `npm run gpu` sets COMFACE_TEST_CUDA=gpu, and then it is the GPU of this machine, or an error.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { LayerRecord } from '../lib/models/layers.ts';
import { chooseDevice, type NativeEngine, type NativeGraphOptions, native } from '../lib/native.ts';
import { testPrograms } from './figures/programs.ts';

export const isOnGpu = process.env.COMFACE_TEST_CUDA === 'gpu';
/** For the titles of tests and the lines of figures. */
export const cudaName = isOnGpu ? 'CUDA' : 'emulated CUDA';
/** What a skipped test says. */
export const noCuda = 'the emulated CUDA backend was not built: it needs the headers of CUDA and cuDNN (node scripts/headers.mjs)';

const kEmulatedBytes = 2 ** 31;

/** Path of the backend, or undefined where nobody could build the emulated one. */
export function cudaBackend(): string | undefined {
  if (isOnGpu) return chooseDevice('cuda', 'fp32').library;
  process.env.COMFACE_CUDA_LIBRARIES = testPrograms(); // the doubles, not the real ones that other tests plan with
  process.env.COMFACE_EMULATION_DEFER ??= '1';
  process.env.COMFACE_EMULATION_ORDER ??= 'shuffled:7';
  process.env.COMFACE_EMULATION_MEMORY ??= String(kEmulatedBytes);
  const library = join(testPrograms(), 'libcomface_cuda_emulated.so');
  return existsSync(library) ? library : undefined;
}

/** Programs that hold each kernel against plain loops in double (test/native/kernels); on a GPU `node native/build.mjs --gpu` has built them. */
export function kernelPrograms(): string[] {
  const [folder, prefix] = isOnGpu ? [join(native().folder, 'gpu'), 'gpu-'] : [testPrograms(), 'emulation-'];
  return ['images', 'tokens', 'generators', 'losses', 'augment'].map((name) => join(folder, prefix + name));
}

/** Has a mistake for each tool of compute-sanitizer; on a GPU only. */
export const plantedProgram = (): string => join(native().folder, 'gpu/gpu-planted');

/** Of the device. */
export const deviceBytes = (): number => (isOnGpu ? native().module.cuda().devices[0]!.memoryBytes : kEmulatedBytes);

export interface CudaOptions extends Partial<NativeGraphOptions> {
  layers: readonly LayerRecord[];
  batch: number;
}

/** An engine on that backend, disposed of when the test ends. */
export async function cudaEngine(options: CudaOptions): Promise<NativeEngine> {
  const library = cudaBackend();
  if (library === undefined) throw new Error(noCuda);
  const engine = await native().module.createEngine(library, { training: true, precision: 'fp32', threads: 1, ...options });
  onTestFinished(() => engine.dispose());
  return engine;
}
