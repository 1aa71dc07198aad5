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
const score = z.object({
  /** The score; null where it cannot be told, as the correlation of constants. */
  value: measure,
  /** Lower end of its 95 % interval. */
  low: measure,
  /** Upper end of its 95 % interval. */
  high: measure,
});
const set = z.object({
  /** Folder of the set, as an absolute path. */
  folder: text,
  /** SHA-256 of its list of pictures, hexadecimal. */
  hash: text,
  /** Labeled pictures of subjects with two or more. */
  pictures: count,
  /** Their subjects. */
  subjects: count,
});
/** Numbers by the ten thousand: not one by one through the schema, which would copy them and list each that is wrong. */
const listOf = (isRight: (value: unknown) => boolean, what: string) =>
  z.custom<number[]>((list) => Array.isArray(list) && list.every(isRight), `expected a list of ${what}`);
const samples = listOf((value) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32, 'sample numbers');
const changes = listOf(Number.isFinite, 'finite numbers');

const foldSchema = z.object({
  /** Mean absolute error in the unit. */
  mae: measure,
  /** Pearson correlation of estimated and true changes; null where either does not vary. */
  correlation: measure,
  /** Share of the changes whose direction is right, 0 to 1; null where nothing changes. */
  accuracy: measure,
  /** Pairs that were tested. */
  pairs: count,
  /** Subjects that it learned from. */
  trainSubjects: count,
  /** Subjects that decided when to stop, and by which rate. */
  validationSubjects: count,
  /** Subjects that it was tested on. */
  testSubjects: count,
  /** Learning rate that was best; of fine-tuning. */
  learningRate: z.number().optional(),
  /** Penalty of the squared weights that was best; of linear evaluation. */
  penalty: z.number().optional(),
  /** Steps of the training that was best; of fine-tuning. */
  steps: count.optional(),
  /** The learning rates that were tried. */
  tried: z
    .array(
      z.object({
        /** The rate. */
        learningRate: z.number(),
        /** Its least mean squared error on the validation subjects, in the squared unit; null for a rate that led nowhere. */
        validationError: measure,
        /** Steps to that. */
        steps: count,
      }),
    )
    .max(kMostFolds)
    .optional(),
});

const schema = z
  .object({
    /** Of the file's form. */
    version: z.literal(kVersion),
    /** What changes. */
    attribute: name,
    /** What a change is counted in. */
    unit: name,
    /** How it was transferred; `patient`: a single-picture model of {@link patientTransfer}. */
    evaluation: z.enum(['linear', 'fineTune', 'patient']),
    /** Learned from, and, if there is no `test`, tested on in folds. */
    data: set,
    /** Another data set that it was tested on; then the pairs are of this one. */
    test: set.nullable(),
    /** The network that it began with. */
    model: z.object({
      /** Folder of the pre-trained model; null for random weights. */
      folder: text.nullable(),
      /** Name of the backbone. */
      backbone: name,
      /** Channels of its first stage. */
      width: count,
      /** Edge of a view in pixels. */
      size: count,
    }),
    /** The options that decide the result, by name. */
    settings: z.record(z.string(), z.unknown()),
    /** Means over the folds, each with a 95 % interval by bootstrap over subjects. */
    scores: z.object({
      /** Mean absolute error in the unit. */
      mae: score,
      /** Pearson correlation of estimated and true changes. */
      correlation: score,
      /** Share of the changes whose direction is right, 0 to 1. */
      accuracy: score,
    }),
    /** What each fold scored, and how it learned. */
    folds: z.array(foldSchema).min(1).max(kMostFolds),
    /** The tested pairs, in lists that are equally long. */
    pairs: z.object({
      /** The fold that tested it, from 0. */
      fold: samples,
      /** Number of the subject. */
      subject: samples,
      /** Number of picture x in the tested set. */
      x: samples,
      /** Number of picture y in the tested set. */
      y: samples,
      /** True change from x to y in the unit. */
      truth: changes,
      /** Estimated change from x to y in the unit. */
      estimate: changes,
    }),
    /** What there is to know beside: subjects left out, pictures that were broken. */
    warnings: z.array(text).max(10_000),
    /** Seconds that the last call took. */
    seconds: z.number().min(0),
    /** When it was made, in ISO 8601. */
    made: z.string().max(100),
  })
  .superRefine(({ pairs, folds }, context) => {
    const { length } = pairs.fold;
    for (const [key, list] of Object.entries(pairs))
      if (list.length !== length) context.addIssue({ code: 'custom', path: ['pairs', key], message: `expected ${length} values` });
    if (pairs.fold.some((fold) => fold >= folds.length))
      context.addIssue({ code: 'custom', path: ['pairs', 'fold'], message: `expected folds below ${folds.length}` });
  });

/** What came of a transfer: the content of `transfer.json` in its folder. */
export interface TransferResult extends z.infer<typeof schema> {}

export type FoldResult = TransferResult['folds'][number];
export type DataMention = TransferResult['data'];

/** Whether a value that was read is what a fold was scored as. */
export const isFoldResult = (value: unknown): value is FoldResult => foldSchema.safeParse(value).success;

/** Whether a value that was read is a list of so many finite numbers. */
export const isNumbers = (value: unknown, length: number): value is number[] =>
  changes.safeParse(value).success && (value as unknown[]).length === length;

/** A score with its 95 % interval. */
export interface TransferScore extends z.infer<typeof score> {}

/**
 * Reads the result in the folder of a transfer.
 *
 * @param folder The `out` of the transfer.
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
