// The CUDA backend on a GPU that the CPU plays (test/native/emulation): the same sources, kernels as fibers, cuDNN and cuBLASLt as plain loops.
// Its work waits until somebody synchronizes and its threads run in another order each time, so what is only right by luck shows.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { LayerRecord } from '../lib/models/layers.ts';
import { type NativeEngine, type NativeGraphOptions, native } from '../lib/native.ts';
import { testPrograms } from './figures/programs.ts';

process.env.COMFACE_EMULATION_DEFER = '1';
process.env.COMFACE_EMULATION_ORDER = 'shuffled:7';
process.env.COMFACE_EMULATION_MEMORY = String(2 ** 31);

/** The emulated backend, or undefined where the headers of CUDA or cuDNN are missing: then nobody could build it. */
export function emulatedBackend(): string | undefined {
  process.env.COMFACE_CUDA_LIBRARIES = testPrograms(); // the doubles, not the real ones that other tests plan with
  const library = join(testPrograms(), 'libcomface_cuda_emulated.so');
  return existsSync(library) ? library : undefined;
}

export interface EmulatedOptions extends Partial<NativeGraphOptions> {
  layers: readonly LayerRecord[];
  batch: number;
}

/** An engine on the emulated device, disposed of when the test ends. */
export async function emulatedEngine(library: string, options: EmulatedOptions): Promise<NativeEngine> {
  const engine = await native().module.createEngine(library, { training: true, precision: 'fp32', threads: 1, ...options });
  onTestFinished(() => engine.dispose());
  return engine;
}
