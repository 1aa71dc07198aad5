// Helpers that several tests use: engines, keyed numbers, distances.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';
import { philox, unit } from '../lib/data/random.ts';
import { ComFaceError } from '../lib/errors.ts';
import type { LayerRecord } from '../lib/models/layers.ts';
import { chooseDevice, type NativeAdam, type NativeEngine, native } from '../lib/native.ts';
import { cudaBackend, noCuda } from './cuda.ts';

/** Numbers uniform in [-spread, spread), the same for the same seed. */
export function numbers(count: number, seed: number, spread = 1.7): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = (2 * unit(philox(BigInt(seed), 7, i, 0, 0)[0]) - 1) * spread;
  return out;
}

export interface EngineOptions {
  layers: readonly LayerRecord[];
  batch: number;
  device?: 'cpu' | 'reference' | 'cuda';
  precision?: 'fp32' | 'bf16' | 'fp16' | 'fp64';
  training?: boolean;
  threads?: number;
  choices?: string;
}

/** An engine that is disposed when the test ends. */
export async function engineFor({
  layers,
  batch,
  device = 'cpu',
  precision = 'fp32',
  training = true,
  threads = 2,
  choices = '',
}: EngineOptions): Promise<NativeEngine> {
  const library = device === 'cuda' ? cudaBackend() : device === 'reference' ? '' : chooseDevice('cpu', 'fp32').library;
  if (library === undefined) throw new Error(noCuda);
  const engine = await native().module.createEngine(library, { layers, batch, training, precision, threads, choices });
  onTestFinished(() => engine.dispose());
  return engine;
}

/** Relative L2 distance of two tensors, 0 for two zeros. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / Math.max(size, 1e-12));
}

export const adamAt = (step: number): NativeAdam => ({ learningRate: 4e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, step });

/** A folder that is removed when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'comface-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** SHA-256 of the names and bytes of a folder's files. */
export async function digest(folder: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of (await readdir(folder)).sort()) hash.update(name).update(await readFile(join(folder, name)));
  return hash.digest('hex');
}

/** A module of its own process that calls the built package. @param call A function of its names. */
const program = (call: string): string =>
  `import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}).then(${call}).catch((e) => { console.log(e.code + ': ' + e.message); })`;

/** Makes a call in a new process. @param killMs When that is killed, if it still runs then. @returns Whether it was. */
export async function wasKilled(call: string, killMs?: number): Promise<boolean> {
  const child = spawn(process.execPath, ['-e', program(call)], { stdio: 'ignore' });
  const ended = new Promise<string | null>((resolve) => child.on('close', (_, signal) => resolve(signal)));
  const timer = killMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killMs);
  const signal = await ended;
  clearTimeout(timer);
  return signal !== null;
}

/** Makes a call in a process that may write no file beyond so many KiB. @returns What it failed with. */
export async function withFileLimit(kibibytes: number, call: string): Promise<string> {
  const { stdout } = await promisify(execFile)('bash', [
    '-c',
    `ulimit -f ${kibibytes}; exec "$0" -e "$1"`,
    process.execPath,
    program(call),
  ]);
  return stdout;
}

/** Flips a bit of a file. */
export async function flip(file: string, at: number): Promise<void> {
  const handle = await open(file, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, at);
  byte[0]! ^= 1;
  await handle.write(byte, 0, 1, at);
  await handle.close();
}

/** The ComFaceError that a call rejects with; anything else that happens is thrown. */
export async function refusal(call: () => Promise<unknown>): Promise<ComFaceError> {
  const error = await call().then(
    () => new Error('it was not refused'),
    (thrown) => thrown,
  );
  if (error instanceof ComFaceError) return error;
  throw error;
}
