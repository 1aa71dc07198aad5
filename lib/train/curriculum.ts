// How far apart the two pictures of a pair may lie, epoch by epoch: from easy (far) to hard (near). Epochs count from 1.
import type { TrainConfig } from '../config.js';
import { kMaxRange } from '../config.js';

/** A part of the curriculum. */
export interface Stage {
  /** From 1. */
  stage: number;
  /** S: the largest |alpha_y - alpha_x| of a pair. */
  range: number;
}

/**
 * The stage of an epoch: S = maxRange / t for the epochs in (e_(t-1), e_t] (paper, eq. 2). After the last end the last stage holds.
 *
 * Without a curriculum S is the whole range of alpha, always.
 */
export function stageAt(curriculum: TrainConfig['curriculum'], epoch: number): Stage {
  if (curriculum === null) return { stage: 1, range: kMaxRange };
  const reached = curriculum.stageEnds.findIndex((end) => epoch <= end);
  const stage = reached < 0 ? curriculum.stageEnds.length : reached + 1;
  return { stage, range: curriculum.maxRange / stage };
}
