// Options of a transfer: what a training run has in common with it is checked there, the rest here.
import { resolve } from 'node:path';
import { checkFunction, checkInteger, checkObject, checkOneOf, checkSignal, checkText, numbersOf } from '../check.js';
import { checkTrainOptions, type TrainConfig, type TrainOptions } from '../config.js';
import { invalid } from '../errors.js';
import type { TransferEvent } from './events.js';

export const evaluations = ['fineTune', 'linear'] as const;
/** How a network is transferred. `linear`: the backbone stays as it is and a linear layer is computed. `fineTune`: all layers are trained. */
export type EvaluationName = (typeof evaluations)[number];

const shared = ['seed', 'backbone', 'width', 'size', 'device', 'precision', 'threads', 'loaderThreads', 'weightDecay'] as const;

/**
 * What to transfer, to which data. What it shares with a training run has the same rules; by default a transfer has 30 `epochs`, and views that change
 * a face less than those of pre-training.
 */
export interface TransferOptions extends Partial<Pick<TrainOptions, (typeof shared)[number] | 'pairs' | 'epochs' | 'augment'>> {
  /** Folder of a data set with a label for each picture, as {@link pack} makes it. */
  data: string;
  /** Folder of the results: new, or of the same transfer, which is gone on with. */
  out: string;
  /** What changes, such as AU12; may be left out where the set has one attribute. */
  attribute?: string | undefined;
  /** What a change is counted in, for words and tables. @default levels of AU6 and AU12, kg of weight, years of age, steps of alpha of drawn faces */
  unit?: string | undefined;
  /** Folder of the pre-trained model: a run or a checkpoint. Left out: random weights, with `backbone`, `width` and `size`. */
  model?: string | undefined;
  /** Folder of other data to test on, instead of the part of `data` kept out: another hospital's, say. */
  testData?: string | undefined;
  /** How it is transferred. @default 'fineTune' */
  evaluation?: EvaluationName | undefined;
  /** Parts that the subjects are split into, each tested by a model of the others: 2 to 100 (paper: 4). @default 4 */
  folds?: number | undefined;
  /** Pairs drawn of each subject, 1 to 100,000. @default 100 */
  pairsPerSubject?: number | undefined;
  /** Learning rates that are tried one after the other; the validation subjects decide. Only of `fineTune`. @default [1e-4, 4e-4] */
  learningRates?: readonly number[] | undefined;
  /** Epochs without a smaller validation error, before a training ends. @default 3 */
  patience?: number | undefined;
  /** Whether to train on all subjects at the end, a tenth for validation, and leave that model in `out`. @default true */
  final?: boolean | undefined;
  /** Stops the call, which then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
  /** Called with what happens. */
  onEvent?: ((event: TransferEvent) => void) | undefined;
}

/** Views of transfer: milder than pre-training's, for a small change is what is to be seen. */
export const transferAugment = {
  cropAreaMin: 0.8,
  cropAspectMax: 1.1,
  brightness: 0.2,
  contrast: 0.2,
  saturation: 0.2,
  hue: 0.02,
  jitterProbability: 0.5,
  grayscaleProbability: 0,
};
const kEpochs = 30;

/** Options after the check. */
export interface TransferConfig {
  data: string;
  out: string;
  attribute: string | undefined;
  unit: string | undefined;
  model: string | undefined;
  testData: string | undefined;
  evaluation: EvaluationName;
  folds: number;
  pairsPerSubject: number;
  learningRates: readonly number[];
  patience: number;
  final: boolean;
  /** What a training run names the same; `data` and `out` there mean nothing. */
  train: TrainConfig;
  signal: AbortSignal | undefined;
  onEvent: ((event: TransferEvent) => void) | undefined;
}

/** What decides a result, beside data and weights. */
export function settingsOf(config: TransferConfig): Record<string, unknown> {
  const { evaluation, folds, pairsPerSubject, learningRates, patience, final, train } = config;
  const { seed, pairs, epochs, weightDecay, beta1, beta2, epsilon, precision } = train;
  const adam = { beta1, beta2, epsilon, weightDecay };
  return { evaluation, folds, pairsPerSubject, learningRates, patience, final, seed, pairs, epochs, ...adam, precision };
}

/** @throws ComFaceError INVALID_CONFIG or INVALID_INPUT naming the option. */
export function checkTransferOptions(options: TransferOptions): TransferConfig {
  checkObject('options', options);
  const { data, out, attribute, unit, model, testData, evaluation = 'fineTune', folds = 4, pairsPerSubject = 100 } = options;
  const { learningRates = [1e-4, 4e-4], patience = 3, final = true, signal, onEvent, pairs, epochs = kEpochs, augment } = options;
  for (const [name, value] of Object.entries({ data, out })) checkText(name, value);
  for (const [name, value] of Object.entries({ attribute, unit, model, testData })) if (value !== undefined) checkText(name, value);
  checkOneOf('evaluation', evaluation, evaluations);
  checkInteger('folds', folds, 2, 100);
  checkInteger('pairsPerSubject', pairsPerSubject, 1, 100_000);
  const rates = numbersOf('learningRates', learningRates, 1e-9, 10);
  if (rates.length === 0 || new Set(rates).size < rates.length)
    throw invalid('learningRates', 'different numbers, at least one', rates, 'Name each once.');
  checkInteger('patience', patience, 1, 1_000_000);
  checkInteger('epochs', epochs, 1, 1_000_000);
  if (pairs !== undefined) checkInteger('pairs', pairs, 2, 8192);
  if (typeof final !== 'boolean') throw invalid('final', 'true or false', final);
  checkSignal(signal);
  checkFunction('onEvent', onEvent);
  for (const [name, value] of Object.entries({ data, testData, model }))
    if (value !== undefined && resolve(value) === resolve(out))
      throw invalid('out', `a folder other than ${name}`, out, 'Name a new folder.');
  const given: Record<string, unknown> = {
    epochs,
    augment: typeof augment === 'object' && augment !== null ? { ...transferAugment, ...augment } : (augment ?? transferAugment),
  };
  for (const [name, value] of [...shared.map((key) => [key, options[key]] as const), ['pairs', pairs] as const])
    if (value !== undefined) given[name] = value;
  for (const name of ['backbone', 'width', 'size'])
    if (model !== undefined && given[name] !== undefined)
      throw invalid(
        name,
        'nothing beside `model`, whose network it is',
        given[name],
        `Leave out \`${name}\`, or \`model\` for random weights.`,
      );
  const train = checkTrainOptions({ ...given, data: 'data', out: 'out' });
  return {
    data,
    out,
    attribute,
    unit,
    model,
    testData,
    evaluation,
    folds,
    pairsPerSubject,
    learningRates: rates,
    patience,
    final,
    train,
    signal,
    onEvent,
  };
}
