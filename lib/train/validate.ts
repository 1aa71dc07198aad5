// How well the change is told on the subjects kept out of training (the paper's 10 %, section 4.1), after each epoch.
// The pairs are drawn once over the whole range of alpha, so that the figures of different stages can be compared. Training is not touched by it.
import type { TrainConfig } from '../config.js';
import type { DataSet } from '../data/dataset.js';
import { PairSampler } from '../data/pairs.js';
import { ComFaceError } from '../errors.js';
import { embedUsable, Model } from '../model.js';
import type { NativePlan, NativeSource } from '../native.js';
import { mae, pearson } from '../transfer/metrics.js';
import type { Tensor } from '../weights/safetensors.js';
import { stageAt } from './curriculum.js';

const kPairs = 256;
/** Pictures embedded in one call: a batch of the model. */
const kAtOnce = 32;

/** Result on the held-out pairs; `mae` in steps of alpha. */
export interface Validation {
  pairs: number;
  mae: number;
  correlation: number;
}

/** The pairs of these subjects that a run is validated on; undefined when there are none. */
export function validationPairs(config: TrainConfig, data: DataSet, subjects: Uint32Array): NativePlan | undefined {
  const pictures = data.groupsOf(new Set(subjects)).length;
  if (config.intraPersonal === 0 || pictures < 2) return undefined;
  const { range } = stageAt(config.curriculum, 1);
  const { seed, target } = config;
  try {
    return new PairSampler(data, subjects, { seed, target, pairs: Math.min(kPairs, pictures), rangeAt: () => range }).plan(1);
  } catch (error) {
    if (error instanceof ComFaceError && error.code === 'INVALID_INPUT') return undefined;
    throw error;
  }
}

/** Holds one inference network for the whole run, compiled and run once before the first step, so that memory stays flat afterwards. */
export class Validator {
  readonly #source: NativeSource;
  readonly #plan: NativePlan;
  readonly #model: Model;

  private constructor(source: NativeSource, plan: NativePlan, model: Model) {
    this.#source = source;
    this.#plan = plan;
    this.#model = model;
  }

  /** Undefined when there is nothing to validate on: no change head, or no two pictures to compare among these subjects. Aborted, it has not run yet. */
  static async create(
    config: TrainConfig,
    data: DataSet,
    subjects: Uint32Array,
    weights: ReadonlyMap<string, Tensor>,
    signal?: AbortSignal,
  ): Promise<Validator | undefined> {
    const plan = validationPairs(config, data, subjects);
    if (!plan) return undefined;
    const validator = new Validator(data.open(config.size, 2), plan, await Model.from(config, weights, config));
    await validator.run(weights, signal);
    return validator;
  }

  /** Estimates the change of each pair (running statistics, no augmentation). Pairs with a broken picture are left out;
   * undefined when none remains, when the estimates are not finite (the next step's loss says so), or when aborted. */
  async run(weights: ReadonlyMap<string, Tensor>, signal?: AbortSignal): Promise<Validation | undefined> {
    const { x, y, target, pairs } = this.#plan;
    await this.#model.load(weights);
    const samples = [...x.subarray(0, pairs), ...y.subarray(0, pairs)];
    const embeddings: (Float32Array | ComFaceError)[] = [];
    // Some at a time: who stops a run does not wait for all of them.
    for (let from = 0; from < samples.length; from += kAtOnce) {
      if (signal?.aborted) return undefined;
      embeddings.push(...(await embedUsable(this.#model, this.#source, samples.slice(from, from + kAtOnce))));
    }
    const estimate: number[] = [];
    const truth: number[] = [];
    for (let i = 0; i < pairs; i++) {
      const [hx, hy] = [embeddings[i], embeddings[pairs + i]];
      if (!(hx instanceof Float32Array && hy instanceof Float32Array)) continue;
      estimate.push(this.#model.changeOf(hx, hy));
      truth.push(target[i]!);
    }
    if (truth.length === 0 || !estimate.every(Number.isFinite)) return undefined;
    return { pairs: truth.length, mae: mae(estimate, truth), correlation: pearson(estimate, truth) };
  }

  dispose(): void {
    this.#model.dispose();
    this.#source.dispose();
  }
}
