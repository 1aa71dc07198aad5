// What a training run tells: its events, which are also the lines of its log, and its result.

/** What happens in a run, in order; also the lines of `log.jsonl`. */
export type TrainEvent =
  | {
      type: 'start';
      /** Step to begin after: 0, or that of the checkpoint. */
      step: number;
      steps: number;
      stepsPerEpoch: number;
      pictures: number;
      subjects: number;
      device: string;
      precision: string;
      /** Why `device: auto` took the CPU. */
      fallback?: string;
      /** Library, instruction set, threads. */
      engine: string;
      /** Bytes of the network with all its buffers, planned before the first step. */
      memoryBytes: number;
      parameters: number;
    }
  | { type: 'stage'; step: number; epoch: number; stage: number; range: number }
  | StepEvent
  /** After each epoch, on the subjects kept out; `mae` in steps of alpha. */
  | { type: 'validation'; step: number; epoch: number; pairs: number; mae: number; correlation: number }
  | { type: 'broken'; step: number; file: string; line?: number; reason: string; count: number }
  | { type: 'checkpoint'; step: number; path: string }
  | { type: 'warning'; message: string }
  | { type: 'end'; step: number; seconds: number; path: string };

/** One update. Losses are unweighted; a head that is left out is NaN. */
export interface StepEvent {
  type: 'step';
  step: number;
  steps: number;
  epoch: number;
  /** Weighted sum of the two. */
  loss: number;
  /** InfoNCE, equation (1). */
  inter: number;
  /** Mean squared error of the change. */
  intra: number;
  learningRate: number;
  /** S, equation (2). */
  range: number;
  pairsPerSecond: number;
  /** Seconds that this step waited for its batch. */
  loadSeconds: number;
  secondsLeft: number;
}

/** How a run ended. */
export interface TrainResult {
  step: number;
  /** The last checkpoint. */
  path: string;
  inter: number;
  intra: number;
  seconds: number;
  /** Pictures that could not be used. */
  broken: number;
}
