// Where a step lies in its epoch, and the learning rate there. Steps and epochs count from 1.
import type { TrainConfig } from '../config.js';

/** The learning rate of an epoch: as configured through `halveAtEpoch`, half of it after (paper, section 4.1: "halved in 10 epochs"). */
export function learningRateAt(config: Pick<TrainConfig, 'learningRate' | 'halveAtEpoch'>, epoch: number): number {
  return epoch <= config.halveAtEpoch ? config.learningRate : config.learningRate / 2;
}

/** Epoch of a global step and the step's number in it, all from 1. */
export function positionAt(step: number, stepsPerEpoch: number): { epoch: number; stepInEpoch: number } {
  const before = Math.floor((step - 1) / stepsPerEpoch);
  return { epoch: before + 1, stepInEpoch: step - before * stepsPerEpoch };
}
