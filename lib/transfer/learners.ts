// The two evaluations of section 4.2: fine-tuning trains all layers, linear evaluation computes a linear layer on a frozen backbone.
import type { DataSet } from '../data/dataset.js';
import { Model, type ModelDesign } from '../model.js';
import { backbone } from '../models/backbone.js';
import { chooseDevice, type NativeSource, native, threadCount } from '../native.js';
import { readWeights } from '../train/state.js';
import type { Tensor } from '../weights/safetensors.js';
import type { Fold, Pairs } from './folds.js';
import { differenceFeatures, type Features, fitRidge } from './linear.js';
import {
  changesOf,
  type Embedded,
  type Examples,
  embedAll,
  type Place,
  type Tried,
  Tuner,
  type TuneSettings,
  type TuneStep,
  type Weights,
} from './tune.js';

/** A network that was learned, and how it was chosen. */
export interface Learned {
  weights: Weights;
  learningRate?: number;
  penalty?: number;
  steps?: number;
  tried?: Tried[];
}

/** Learns from some of the pairs, and answers for others. */
export interface Learner {
  /** Why each picture was replaced by another that could not be used. */
  readonly broken: ReadonlyMap<number, string>;
  learn(rows: Pick<Fold, 'train' | 'validation'>, onStep: (step: TuneStep) => void): Promise<Learned>;
  /** @param tested Of the pairs that are tested, if they are of other data. */
  estimate(weights: Weights, pairs: Pairs, rows: Uint32Array, tested?: NativeSource): Promise<Float32Array>;
  dispose(): void;
}

interface LearnerOptions {
  data: DataSet;
  design: ModelDesign;
  /** Pre-trained; undefined: random. */
  start: Weights | undefined;
  pairs: Pairs;
  settings: TuneSettings;
  place: Place;
  signal: AbortSignal | undefined;
}

const some = (pairs: Pairs, rows: Uint32Array): Required<Examples> => ({
  x: rows.map((row) => pairs.x[row]!),
  y: rows.map((row) => pairs.y[row]!),
  target: Float32Array.from(rows, (row) => pairs.target[row]!),
});

/** Trains backbone and change layer, both carried over (section 3.4). */
export async function fineTuning({ data, design, start, pairs, settings, place, signal }: LearnerOptions): Promise<Learner> {
  const tuner = await Tuner.create(data, design, 'change', settings, place);
  return {
    broken: tuner.broken,
    learn: async ({ train, validation }, onStep) => {
      const from = start ? await tuner.startFrom(start, true) : await tuner.fresh();
      const { weights, learningRate, steps, tried } = await tuner.tune(from, some(pairs, train), some(pairs, validation), onStep, signal);
      return { weights, learningRate, steps, tried };
    },
    estimate: (weights, of, rows, tested) => tuner.estimate(weights, tested, some(of, rows), signal),
    dispose: () => tuner.dispose(),
  };
}

/** Computes the change layer anew by ridge regression: with a frozen backbone its best weights need no search. */
export async function linearEvaluation({ data, design, start, pairs, settings, place, signal }: LearnerOptions): Promise<Learner> {
  const frozen = start ?? (await randomWeights(design, settings.seed, place));
  const model = await Model.from(design, frozen, place);
  const source = data.open(design.size, place.loaderThreads);
  const known = new Map<NativeSource, { pairs: Pairs; h: Promise<Embedded> }>();
  const embedded = (of: Pairs, from: NativeSource): Promise<Embedded> => {
    const before = known.get(from);
    if (before?.pairs === of) return before.h;
    const h = embedAll(model, from, [of.x, of.y], signal);
    known.set(from, { pairs: of, h });
    return h;
  };
  let features: Features | undefined;
  return {
    broken: new Map(), // one ends it
    learn: async (rows) => {
      const h = await embedded(pairs, source);
      features ??= featuresOf(h, pairs);
      const { penalty, model: affine } = fitRidge(features, pairs.target, rows);
      const head: [string, Tensor][] = [
        ['change.weight', { dtype: 'F32', shape: [1, h.width], data: Float32Array.from(affine.weights) }],
        ['change.bias', { dtype: 'F32', shape: [1], data: Float32Array.of(affine.bias) }],
      ];
      return { weights: new Map([...frozen, ...head]), penalty };
    },
    estimate: async (weights, of, rows, tested) => changesOf(await embedded(of, tested ?? source), weights, some(of, rows)),
    dispose: () => {
      model.dispose();
      source.dispose();
    },
  };
}

/** A backbone before any training. */
async function randomWeights(design: ModelDesign, seed: number, place: Place): Promise<Weights> {
  const { library, precision } = chooseDevice(place.device, place.precision);
  const layers = backbone(design.backbone, design);
  const options = { layers, batch: 1, training: false, precision, threads: threadCount(place.threads) };
  const engine = await native().module.createEngine(library, options);
  try {
    await engine.initialize(BigInt(seed));
    return await readWeights(engine, 0);
  } finally {
    engine.dispose();
  }
}

function featuresOf(h: Embedded, { x, y }: Pairs): Features {
  const rowsOf = (samples: Uint32Array): Float32Array => {
    const rows = new Float32Array(samples.length * h.width);
    for (const [row, sample] of samples.entries()) rows.set(h.of(sample), row * h.width);
    return rows;
  };
  return differenceFeatures(rowsOf(x), rowsOf(y), h.width);
}
