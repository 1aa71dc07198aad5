// What a training run tells: its events, which are also the lines of its log, and its result.

/** What happens in a run, in order; also the lines of `log.jsonl` in its folder, where NaN is null. */
export type TrainEvent =
  | {
      /** The first event but for warnings: what is about to be computed, and on what. */
      type: 'start';
      /** Step to begin after: 0, or that of the checkpoint. */
      step: number;
      /** Steps of the run in all. */
      steps: number;
      /** Steps of an epoch. */
      stepsPerEpoch: number;
      /** Pictures to learn from. */
      pictures: number;
      /** Subjects to learn from; those kept out for validation are not among them. */
      subjects: number;
      /** Where it runs: cpu, cuda or reference. */
      device: string;
      /** Number type of activations: fp32, bf16 or fp16. */
      precision: string;
      /** Why `device: auto` took the CPU. */
      fallback?: string;
      /** Library, instruction set, threads. */
      engine: string;
      /** Bytes of the network with all its buffers, planned before the first step. */
      memoryBytes: number;
      /** Trainable numbers of the network and its heads. */
      parameters: number;
    }
  | {
      /** A part of the curriculum begins (paper, section 3.3). */
      type: 'stage';
      /** Its first step. */
      step: number;
      /** Its first epoch, from 1. */
      epoch: number;
      /** Number of the stage, from 1. */
      stage: number;
      /** S, the largest change of alpha in a pair, equation (2). */
      range: number;
    }
  | StepEvent
  | {
      /** After each epoch: how well the change is told on the subjects kept out. */
      type: 'validation';
      /** Last step of the epoch. */
      step: number;
      /** The epoch, from 1. */
      epoch: number;
      /** Pairs that were estimated. */
      pairs: number;
      /** Mean absolute error of the change, in steps of alpha. */
      mae: number;
      /** Pearson correlation of estimated and true change; NaN where either does not vary. */
      correlation: number;
    }
  | {
      /** A picture cannot be used, and another pair takes the place of its own. */
      type: 'broken';
      /** Step that was to use it. */
      step: number;
      /** The file it is in. */
      file: string;
      /** Line of the manifest that names it, from 1. */
      line?: number;
      /** What is wrong with it. */
      reason: string;
      /** Broken pictures so far. */
      count: number;
    }
  | {
      /** A checkpoint is on the disk. */
      type: 'checkpoint';
      /** Step that it was made after. */
      step: number;
      /** Its folder, for {@link loadModel}. */
      path: string;
    }
  | {
      /** Something to know that does not end the run. */
      type: 'warning';
      /** What it is, in a sentence. */
      message: string;
    }
  | {
      /** The last event of a run that was not stopped. */
      type: 'end';
      /** Steps of the run in all. */
      step: number;
      /** Seconds that this call took for its steps. */
      seconds: number;
      /** Folder of the last checkpoint. */
      path: string;
    };

/** One update of the weights. Losses are unweighted; that of a head that is left out is NaN. */
export interface StepEvent {
  /** An update of the weights is done. */
  type: 'step';
  /** Its number, from 1. */
  step: number;
  /** Steps of the run in all. */
  steps: number;
  /** The epoch it is in, from 1. */
  epoch: number;
  /** Sum of `inter` and `intra`, by the weights `interPersonal` and `intraPersonal`. */
  loss: number;
  /** InfoNCE loss, equation (1) of the paper. */
  inter: number;
  /** Mean squared error of the change, in squared steps of alpha. */
  intra: number;
  /** Learning rate of Adam in this step. */
  learningRate: number;
  /** S, the largest change of alpha in a pair, equation (2) of the paper. */
  range: number;
  /** Pairs a second since the call began. */
  pairsPerSecond: number;
  /** Seconds that this step waited for its batch. */
  loadSeconds: number;
  /** Seconds left at the pace so far. */
  secondsLeft: number;
}

/** How a run ended. */
export interface TrainResult {
  /** Steps of the run in all. */
  step: number;
  /** Folder of the last checkpoint, for {@link loadModel}. */
  path: string;
  /** InfoNCE loss of the last step; NaN where this call made none, or the head is left out. */
  inter: number;
  /** Mean squared error of the change in the last step; NaN likewise. */
  intra: number;
  /** Seconds that this call took for its steps. */
  seconds: number;
  /** Pictures that could not be used. */
  broken: number;
}
