// The folder of a transfer without a transfer: a run's model with a task, and a result made of keyed numbers.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readData } from '../lib/data/dataset.ts';
import { latestCheckpoint, saveCheckpoint } from '../lib/train/checkpoint.ts';
import type { TransferResult } from '../lib/transfer/result.ts';
import { numbers } from './support.ts';

export interface TransferFixture {
  /** Folder to make. */
  out: string;
  /** Of a run that has a checkpoint. */
  run: string;
  /** Its data set, which the pairs are of. */
  data: string;
  attribute?: string;
  unit?: string;
  folds?: number;
  pairs?: number;
}

/** A result whose estimates are the truth, shrunk, with keyed noise. */
export async function transferResult({
  run,
  data,
  attribute = 'smile',
  unit = 'points',
  folds = 4,
  pairs = 240,
}: TransferFixture): Promise<TransferResult> {
  const { folder, hash, count, subjects } = await readData(data);
  const truth = [...numbers(pairs, 1, 10)];
  const noise = numbers(pairs, 2, 2.5);
  const all = Array.from({ length: pairs }, (_, i) => i);
  const measures = { mae: 1.234, correlation: 0.871, accuracy: 0.9 };
  const interval = (value: number) => ({ value, low: value - 0.05, high: value + 0.04 });
  return {
    ...{ version: 1, attribute, unit, evaluation: 'fineTune' },
    data: { folder, hash, pictures: count, subjects: subjects.length },
    test: null,
    model: { folder: run, backbone: 'resnet18', width: 16, size: 32 },
    settings: { seed: 1, folds, pairsPerSubject: 16, augment: { cropAreaMin: 0.85, mean: [0.5, 0.5, 0.5] }, data: folder },
    scores: { mae: interval(measures.mae), correlation: interval(measures.correlation), accuracy: interval(measures.accuracy) },
    folds: Array.from({ length: folds }, (_, i) => ({
      ...{ mae: measures.mae + 0.01 * i, correlation: measures.correlation, accuracy: i === 1 ? null : measures.accuracy },
      ...{ pairs: pairs / folds, trainSubjects: 8, validationSubjects: 1, testSubjects: 3, learningRate: 1e-3, steps: 400 },
      tried: [
        { learningRate: 1e-2, validationError: null, steps: 12 },
        { learningRate: 1e-3, validationError: 1.5, steps: 400 },
      ],
    })),
    pairs: {
      fold: all.map((i) => i % folds),
      subject: all.map((i) => subjects[i % subjects.length]!),
      x: all.map((i) => i % count),
      y: all.map((i) => (i * 7 + 1) % count),
      truth,
      estimate: truth.map((value, i) => 0.8 * value + noise[i]!),
    },
    warnings: ['2 subjects have a single picture and are left out'],
    seconds: 754,
    made: '2026-11-22T02:00:00.000Z',
  };
}

/** Writes it with its model. */
export async function makeTransfer(
  fixture: TransferFixture,
  change: (result: TransferResult) => unknown = (result) => result,
): Promise<string> {
  const { out, run } = fixture;
  const result = await transferResult(fixture);
  await mkdir(out, { recursive: true });
  const { attribute, unit } = result;
  const { path: _, info, ...state } = (await latestCheckpoint(run))!;
  await saveCheckpoint(join(out, 'model'), { ...state, info: { ...info, task: { attribute, unit } } }, { keep: 1 });
  const changed = change(result);
  await writeFile(join(out, 'transfer.json'), typeof changed === 'string' ? changed : JSON.stringify(changed));
  return out;
}
