// What a transfer says while it works.

/** What happens in a transfer, in order. A fold is a part of the subjects, tested by a model of the others. */
export type TransferEvent =
  | {
      /** Everything was checked, and work begins. */
      type: 'start';
      /** What changes. */
      attribute: string;
      /** What a change is counted in. */
      unit: string;
      /** Labeled pictures of subjects with two or more. */
      pictures: number;
      /** Their subjects. */
      subjects: number;
      /** Pairs drawn of them. */
      pairs: number;
      /** Number of folds. */
      folds: number;
    }
  | {
      /** Something to know that does not end the transfer; it is also in the result. */
      type: 'warning';
      /** What it is, in a sentence. */
      message: string;
    }
  | {
      /** An epoch of fine-tuning is done; linear evaluation has none. */
      type: 'step';
      /** Number of the fold, from 1; one more than there are folds: the model of all subjects. */
      fold: number;
      /** The learning rate that is tried. */
      learningRate: number;
      /** The epoch that has ended, from 1. */
      epoch: number;
      /** Mean squared error on the validation subjects, in the squared unit. */
      validationError: number;
    }
  | {
      /** A fold was tested; its scores are those of this fold alone. */
      type: 'fold';
      /** Number of the fold, from 1. */
      fold: number;
      /** Number of folds. */
      folds: number;
      /** Seconds left for the other folds, at the pace so far. */
      secondsLeft: number;
      /** Mean absolute error, in the unit. */
      mae: number;
      /** Pearson correlation of estimated and true changes; NaN where either does not vary. */
      correlation: number;
      /** Share of the changes whose direction is right, 0 to 1; NaN where nothing changes. */
      accuracy: number;
    };
