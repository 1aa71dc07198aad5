// What a transfer says while it works.
import type { Scores } from './linear.js';
import type { TuneStep } from './tune.js';

/** `fold` counts from 1; `folds + 1` is the model made of all subjects. */
export type TransferEvent =
  | { type: 'start'; attribute: string; unit: string; pictures: number; subjects: number; pairs: number; folds: number }
  | { type: 'warning'; message: string }
  | ({ type: 'step'; fold: number } & TuneStep)
  | ({ type: 'fold'; fold: number; folds: number; secondsLeft: number } & Scores);
