// What a transfer leaves behind, `transfer.json`: its scores, how it came to them, and every tested pair. Read back, it may come from anywhere.
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { checkText } from '../check.js';
import { ComFaceError, messageOf, show } from '../errors.js';

/** Name of the file in the folder of a transfer. */
export const kResultName = 'transfer.json';
const kVersion = 1;
/** Some millions of pairs. */
const kMostBytes = 2 ** 29;
const kMostFolds = 1000;

const text = z.string().max(4000);
const name = z.string().min(1).max(200);
const count = z.int().min(0);
/** NaN is null in JSON: a correlation of constants, an accuracy where nothing changes. */
const measure = z.number().nullable();
const score = z.object({ value: measure, low: measure, high: measure });
const set = z.object({ folder: text, hash: text, pictures: count, subjects: count });
/** Numbers by the ten thousand: not one by one through the schema, which would copy them and list each that is wrong. */
const listOf = (isRight: (value: unknown) => boolean, what: string) =>
  z.custom<number[]>((list) => Array.isArray(list) && list.every(isRight), `expected a list of ${what}`);
const samples = listOf((value) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32, 'sample numbers');
const changes = listOf(Number.isFinite, 'finite numbers');

const foldSchema = z.object({
  mae: measure,
  correlation: measure,
  accuracy: measure,
  pairs: count,
  trainSubjects: count,
  validationSubjects: count,
  testSubjects: count,
  learningRate: z.number().optional(),
  penalty: z.number().optional(),
  steps: count.optional(),
  /** The learning rates that were tried; `validationError` is null for one that led nowhere. */
  tried: z
    .array(z.object({ learningRate: z.number(), validationError: measure, steps: count }))
    .max(kMostFolds)
    .optional(),
});

const schema = z
  .object({
    version: z.literal(kVersion),
    attribute: name,
    unit: name,
    evaluation: z.enum(['linear', 'fineTune', 'patient']),
    /** Learned from, and, if there is no `test`, tested on in folds. */
    data: set,
    /** Another data set that it was tested on; then the pairs are of this one. */
    test: set.nullable(),
    /** folder: null for a backbone with random weights. */
    model: z.object({ folder: text.nullable(), backbone: name, width: count, size: count }),
    settings: z.record(z.string(), z.unknown()),
    /** Means over the folds; `low` to `high` holds 95 % of a bootstrap over subjects. `mae` in the unit, `accuracy` of the direction from 0 to 1. */
    scores: z.object({ mae: score, correlation: score, accuracy: score }),
    folds: z.array(foldSchema).min(1).max(kMostFolds),
    /** The tested pairs: x and y are sample numbers, `truth` and `estimate` changes in the unit. All equally long. */
    pairs: z.object({
      ...{ fold: samples, subject: samples, x: samples, y: samples },
      ...{ truth: changes, estimate: changes },
    }),
    warnings: z.array(text).max(10_000),
    seconds: z.number().min(0),
    /** When, as text. */
    made: z.string().max(100),
  })
  .superRefine(({ pairs, folds }, context) => {
    const { length } = pairs.fold;
    for (const [key, list] of Object.entries(pairs))
      if (list.length !== length) context.addIssue({ code: 'custom', path: ['pairs', key], message: `expected ${length} values` });
    if (pairs.fold.some((fold) => fold >= folds.length))
      context.addIssue({ code: 'custom', path: ['pairs', 'fold'], message: `expected folds below ${folds.length}` });
  });

/** The content of `transfer.json`. */
export type TransferResult = z.infer<typeof schema>;

export type FoldResult = TransferResult['folds'][number];
export type DataMention = TransferResult['data'];

/** Whether a value that was read is what a fold was scored as. */
export const isFoldResult = (value: unknown): value is FoldResult => foldSchema.safeParse(value).success;

/** Whether a value that was read is a list of so many finite numbers. */
export const isNumbers = (value: unknown, length: number): value is number[] =>
  changes.safeParse(value).success && (value as unknown[]).length === length;

/** One number with its 95 % interval. */
export type TransferScore = z.infer<typeof score>;

/**
 * Reads the result in the folder of a transfer.
 *
 * @throws ComFaceError CORRUPT_FILE naming what is wrong in it, INVALID_INPUT for one of a later version, IO.
 */
export async function readTransferResult(folder: string): Promise<TransferResult> {
  checkText('folder', folder);
  const file = join(folder, kResultName);
  try {
    if (statSync(file).size <= kMostBytes) return parseTransferResult(await readFile(file, 'utf8'), file);
  } catch (cause) {
    if (cause instanceof ComFaceError) throw cause;
    throw new ComFaceError('IO', `Cannot read ${file}: ${messageOf(cause)}`, { hint: 'Name the folder of a transfer.', cause });
  }
  throw corrupt(file, `expected at most ${kMostBytes} bytes`);
}

/**
 * {@link readTransferResult} from a text.
 *
 * @param file What to call it in messages.
 */
export function parseTransferResult(text: string, file: string): TransferResult {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw corrupt(file, `expected JSON but found something else, or a part of it (${messageOf(cause)})`, cause);
  }
  const { version, folds } = (typeof value === 'object' && value !== null ? value : {}) as { version?: unknown; folds?: unknown };
  if (Number.isSafeInteger(version) && (version as number) > kVersion) {
    throw new ComFaceError('INVALID_INPUT', `${file}: expected a result of version ${kVersion} but found version ${version}`, {
      hint: 'A later comface wrote it: update this one.',
    });
  }
  if (Array.isArray(folds) && folds.length > kMostFolds)
    throw corrupt(file, `expected at most ${kMostFolds} folds but found ${folds.length}`);
  const { data, error } = schema.safeParse(value);
  if (data) return data;
  const [issue] = error.issues;
  throw corrupt(file, `expected the result of a transfer but found \`${show(issue?.path.join('.'))}\`: ${issue?.message}`);
}

const corrupt = (file: string, text: string, cause?: unknown) =>
  new ComFaceError('CORRUPT_FILE', `${file}: ${text}`, {
    hint: 'It was damaged or never finished: run the transfer again.',
    ...(cause !== undefined && { cause }),
  });
