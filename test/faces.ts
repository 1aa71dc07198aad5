// Small drawn data sets and crafted pictures that several tests use.
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { checkTrainOptions, type TrainOptions } from '../lib/config.ts';
import { generate } from '../lib/data/procedural.ts';
import { type NativeAugment, type NativePlan, native } from '../lib/native.ts';

/** A folder for all tests of a file, removed after them. */
export function sharedFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'comface-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** 12 subjects x smile x 5 alphas, 32 pixels: 60 pictures. */
export const smallSet = { subjects: 12, attributes: ['smile'], alphas: 5, size: 32, threads: 1, format: 'files' as const };

/** Draws the small set into `data` of the folder. */
export async function smallFaces(folder: string): Promise<string> {
  const out = join(folder, 'data');
  await generate({ ...smallSet, out });
  return out;
}

/** A run that takes milliseconds a step: 3 epochs of 4 steps, a stage each. */
export const smallRun = {
  backbone: 'resnet18',
  width: 16,
  size: 32,
  pairs: 4,
  epochs: 3,
  pairsPerEpoch: 16,
  curriculum: { stageEnds: [1, 2, 3] },
  projection: { hidden: 32, out: 16 },
  device: 'cpu',
  precision: 'fp32',
  threads: 1,
  logEverySteps: 1,
  checkpointEverySteps: 1000,
} as const satisfies Partial<TrainOptions>;

/** The changes of a view as a training run makes them. */
export const runAugment: NativeAugment = checkTrainOptions({ data: 'data', out: 'out' }).augment;

/** No randomness at all, and values in [0, 1]. */
export const plainAugment: NativeAugment = {
  cropAreaMin: 1,
  cropAreaMax: 1,
  cropAspectMax: 1,
  flipProbability: 0,
  jitterProbability: 0,
  brightness: 0,
  contrast: 0,
  saturation: 0,
  hue: 0,
  grayscaleProbability: 0,
  mean: [0, 0, 0],
  deviation: [1, 1, 1],
};

/** Writes a JPEG of quality 100 whose pixel (x, y) is `color(x, y)`. */
export async function writePicture(path: string, size: number, color: (x: number, y: number) => readonly number[]): Promise<string> {
  const rgb = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) rgb.set(color(x, y), (y * size + x) * 3);
  await writeFile(path, await native().module.encodeJpeg(rgb, size, size, 100));
  return path;
}

/** Pairs (x_i, y_i) without spares; targets 0, 1, 2, ... */
export function planOf(x: readonly number[], y: readonly number[] = x, options: Partial<NativePlan> = {}): NativePlan {
  return {
    seed: 1n,
    step: 1,
    pairs: x.length,
    x: Uint32Array.from(x),
    y: Uint32Array.from(y),
    target: Float32Array.from(x, (_, i) => i),
    ...options,
  };
}
