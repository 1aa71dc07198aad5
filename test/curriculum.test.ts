import { describe, expect, it } from 'vitest';
import { checkTrainOptions } from '../lib/config.ts';
import { stageAt } from '../lib/train/curriculum.ts';
import { learningRateAt, positionAt } from '../lib/train/schedule.ts';

const paper = checkTrainOptions({ data: 'faces', out: 'run' });

describe('the curriculum', () => {
  it('narrows S as in eq. 2 of the paper: 10, 5, 10/3 and 2.5', () => {
    const ranges = [1, 3, 4, 6, 7, 9, 10, 12].map((epoch) => stageAt(paper.curriculum, epoch).range);
    expect(ranges).toEqual([10, 10, 5, 5, 10 / 3, 10 / 3, 2.5, 2.5]);
  });

  it('stays in the last stage after its end', () => {
    expect(stageAt(paper.curriculum, 13)).toEqual({ stage: 4, range: 2.5 });
    expect(stageAt(paper.curriculum, Number.POSITIVE_INFINITY)).toEqual({ stage: 4, range: 2.5 });
  });

  it('follows other stages', () => {
    const curriculum = { maxRange: 6, stageEnds: [1, 5] };
    expect([1, 2, 5, 6].map((epoch) => stageAt(curriculum, epoch))).toEqual([
      { stage: 1, range: 6 },
      { stage: 2, range: 3 },
      { stage: 2, range: 3 },
      { stage: 2, range: 3 },
    ]);
  });

  it('without a curriculum S is the whole range in every epoch', () => {
    expect([1, 12, 100].map((epoch) => stageAt(null, epoch).range)).toEqual([10, 10, 10]);
  });
});

describe('the schedule', () => {
  it('halves the learning rate after epoch 10', () => {
    expect([1, 10, 11, 12].map((epoch) => learningRateAt(paper, epoch))).toEqual([4e-4, 4e-4, 2e-4, 2e-4]);
  });

  it('counts epochs and their steps from 1', () => {
    expect([1, 5, 6, 10, 11].map((step) => positionAt(step, 5))).toEqual([
      { epoch: 1, stepInEpoch: 1 },
      { epoch: 1, stepInEpoch: 5 },
      { epoch: 2, stepInEpoch: 1 },
      { epoch: 2, stepInEpoch: 5 },
      { epoch: 3, stepInEpoch: 1 },
    ]);
  });
});
