// Fine-tuning (section 3.4 of the ComFace paper): all layers, squared error of the signed change, Adam. Early stopping and the learning rate go by
// the error on validation subjects, as the paper's supplement is not public. One engine serves every fold and rate: compiling takes longer than
// many a training.
import type { TrainConfig } from '../config.js';
import type { DataSet } from '../data/dataset.js';
import { keyedPermutation, Purpose } from '../data/random.js';
import { ComFaceError } from '../errors.js';
import { embedSamples, Model, type ModelDesign } from '../model.js';
import { backbone } from '../models/backbone.js';
import { changeGraph, valueGraph } from '../models/heads.js';
import { chooseDevice, type NativeAugment, type NativeEngine, type NativePlan, type NativeSource, native, threadCount } from '../native.js';
import { readWeights, writeState } from '../train/state.js';
import type { Tensor } from '../weights/safetensors.js';

export type Weights = ReadonlyMap<string, Tensor>;

/** What is learned from or told: the signed change of a pair, or the value of x alone. Sample numbers of a data set. */
export interface Examples {
  x: Uint32Array;
  /** Without it each picture stands by itself. */
  y?: Uint32Array;
  target: Float32Array;
}

/** How a training is made. */
export interface TuneSettings extends Pick<TrainConfig, 'seed' | 'pairs' | 'epochs' | 'beta1' | 'beta2' | 'epsilon' | 'weightDecay'> {
  /** Each is tried; the one with the least error on validation subjects is kept. */
  learningRates: readonly number[];
  /** Epochs without a smaller validation error, before a training ends. */
  patience: number;
  augment: NativeAugment;
}

/** Where a training runs. */
export type Place = Pick<TrainConfig, 'device' | 'precision' | 'threads' | 'loaderThreads'>;

/** One learning rate that was tried. `validationError`: least mean squared error, in the squared unit; null where nothing stayed finite. */
export interface Tried {
  learningRate: number;
  validationError: number | null;
  /** Steps until that error was reached. */
  steps: number;
}

/** The best of them, whose head answers in the unit of the target. */
export interface Tuned extends Tried {
  weights: Weights;
  tried: Tried[];
}

/** What a training says. */
export interface TuneStep {
  /** The learning rate that is tried. */
  learningRate: number;
  /** The epoch that has ended, from 1. */
  epoch: number;
  /** Mean squared error on the validation examples, in the squared unit. */
  validationError: number;
}

/** Pictures beside the pairs of a step, for broken ones. */
const kSpares = 4;
/** Pictures embedded in one call. */
const kAtOnce = 256;

/** The engines of one network, and the pictures they learn from. */
export class Tuner {
  readonly #engine: NativeEngine;
  readonly #model: Model;
  readonly #source: NativeSource;
  readonly #settings: TuneSettings;
  readonly #head: Head;
  #noMoments: Weights | undefined;
  /** Why each picture was replaced by another that could not be used in a training. */
  readonly broken = new Map<number, string>();

  private constructor(engine: NativeEngine, model: Model, source: NativeSource, settings: TuneSettings, head: Head) {
    this.#engine = engine;
    this.#model = model;
    this.#source = source;
    this.#settings = settings;
    this.#head = head;
  }

  /**
   * @param kind `change` of a pair of pictures, or `value` of one.
   * @throws ComFaceError DEVICE_UNAVAILABLE, OUT_OF_MEMORY, INVALID_CONFIG.
   */
  static async create(data: DataSet, design: ModelDesign, kind: keyof typeof heads, settings: TuneSettings, place: Place): Promise<Tuner> {
    const head = heads[kind];
    const { library, precision } = chooseDevice(place.device, place.precision);
    const engine = await native().module.createEngine(library, {
      layers: head.graph(backbone(design.backbone, design)),
      batch: head.views * settings.pairs,
      training: true,
      precision,
      threads: threadCount(place.threads),
      parts: head.views,
    });
    let source: NativeSource | undefined;
    try {
      source = data.open(design.size, place.loaderThreads);
      await engine.reserve(source, settings.pairs + kSpares);
      await engine.initialize(BigInt(settings.seed));
      const model = await Model.from(design, await readWeights(engine, 0), place);
      return new Tuner(engine, model, source, settings, head);
    } catch (error) {
      engine.dispose();
      source?.dispose();
      throw error;
    }
  }

  /** Random weights, the same for the same seed. */
  async fresh(): Promise<Weights> {
    await this.#engine.initialize(BigInt(this.#settings.seed));
    return readWeights(this.#engine, 0);
  }

  /** A backbone of other weights; the head, too, if they have it and `isWhole`. What they lack is random. */
  async startFrom(weights: Weights, isWhole: boolean): Promise<Weights> {
    const start = new Map(await this.fresh());
    for (const name of start.keys()) {
      const tensor = weights.get(name);
      if (tensor !== undefined && (isWhole || !name.startsWith(`${this.#head.name}.`))) start.set(name, tensor);
    }
    return start;
  }

  /**
   * Trains from `start` with each learning rate.
   *
   * @param signal Aborting rejects with `signal.reason` after the step.
   * @param goOn Where `start` answers in the unit of the target already, as what `tune` gave: with this rate alone.
   * @throws ComFaceError NOT_FINITE when no learning rate gave finite numbers.
   */
  async tune(
    start: Weights,
    training: Examples,
    validation: Examples,
    onStep: (step: TuneStep) => void = () => undefined,
    signal?: AbortSignal,
    goOn?: Pick<Tried, 'learningRate'>,
  ): Promise<Tuned> {
    const learningRates = goOn ? [goOn.learningRate] : this.#settings.learningRates;
    // Kilograms, years and levels alike: in units of their own spread one learning rate fits all, and the answers are scaled back.
    const scale = rootMeanSquare(training.target);
    const from = goOn ? this.#times(new Map(start), 1 / scale) : start;
    const tried: Tried[] = [];
    let best: (Tried & { weights: Weights }) | undefined;
    for (const learningRate of learningRates) {
      const one = await this.#train(from, training, validation, learningRate, scale, onStep, signal);
      tried.push({ learningRate, validationError: one.validationError, steps: one.steps });
      if (one.weights !== undefined && (best === undefined || one.validationError! < best.validationError!))
        best = { ...one, weights: one.weights };
    }
    if (best === undefined) {
      throw new ComFaceError('NOT_FINITE', `No training stayed finite with the learning rates ${learningRates.join(', ')}`, {
        hint: 'Choose lower ones with `learningRates` (--learning-rates).',
      });
    }
    return { ...best, tried };
  }

  async #train(
    start: Weights,
    training: Examples,
    validation: Examples,
    learningRate: number,
    scale: number,
    onStep: (step: TuneStep) => void,
    signal?: AbortSignal,
  ): Promise<Tried & { weights?: Weights }> {
    const { epochs, patience, pairs, augment, beta1, beta2, epsilon, weightDecay } = this.#settings;
    await this.#restart(start);
    const perEpoch = Math.max(1, Math.floor(training.x.length / pairs));
    const scaled = { ...training, target: training.target.map((value) => value / scale) };
    let best: { error: number; steps: number; weights: Weights } | undefined;
    let lean = 0; // epochs since the last improvement
    let plan = this.#planOf(scaled, 1, perEpoch);
    for (let step = 1; step <= epochs * perEpoch && lean < patience; step++) {
      signal?.throwIfAborted();
      const next = step < epochs * perEpoch ? this.#planOf(scaled, step + 1, perEpoch) : null;
      const adam = { learningRate, beta1, beta2, epsilon, weightDecay, step };
      const stayedFinite = await this.#step(plan, next, augment, adam, step % perEpoch === 0);
      if (!stayedFinite) break; // what was reached before may still be good
      if (next) plan = next;
      if (step % perEpoch !== 0) continue;
      const weights = this.#times(await readWeights(this.#engine, step), scale);
      const error = await this.#errorOf(weights, validation, signal);
      if (!Number.isFinite(error)) break;
      onStep({ learningRate, epoch: step / perEpoch, validationError: error });
      lean = best === undefined || error < best.error ? 0 : lean + 1;
      if (lean === 0) best = { error, steps: step, weights };
    }
    return { learningRate, validationError: best?.error ?? null, steps: best?.steps ?? 0, ...(best && { weights: best.weights }) };
  }

  /** Whether losses and gradients are finite, as far as they are known yet. */
  async #step(
    plan: NativePlan,
    next: NativePlan | null,
    augment: NativeAugment,
    adam: Parameters<NativeEngine['step']>[4],
    isLast: boolean,
  ): Promise<boolean> {
    try {
      const { broken } = await this.#engine.step(this.#source, plan, next, augment, adam);
      for (const { sample, reason } of broken) this.broken.set(sample, reason);
      if (isLast) await this.#engine.collect();
      return true;
    } catch (error) {
      if (error instanceof ComFaceError && error.code === 'NOT_FINITE') return false;
      throw error;
    }
  }

  async #restart(weights: Weights): Promise<void> {
    this.#noMoments ??= new Map(
      this.#engine.parameters.flatMap(({ name, dims }) => {
        const zeros: Tensor = { dtype: 'F32', shape: dims, data: new Float32Array(dims.reduce((a, b) => a * b, 1)) };
        return [`${name}.exp_avg`, `${name}.exp_avg_sq`].map((key) => [key, zeros] as const);
      }),
    );
    await writeState(this.#engine, weights, this.#noMoments);
  }

  /** Examples in another order each epoch; where there are fewer than a step takes, some come twice. */
  #planOf({ x, y = x, target }: Examples, step: number, perEpoch: number): NativePlan {
    const { seed, pairs } = this.#settings;
    const epoch = Math.floor((step - 1) / perEpoch);
    const order = keyedPermutation(BigInt(seed), Purpose.order, epoch + 1, x.length);
    const first = (step - 1 - epoch * perEpoch) * pairs;
    const rows = Array.from({ length: pairs + kSpares }, (_, i) => order((first + i) % x.length));
    const of = (list: Uint32Array) => Uint32Array.from(rows, (row) => list[row]!);
    const views = this.#head.views;
    return { seed: BigInt(seed), step, pairs, views, x: of(x), y: of(y), target: Float32Array.from(rows, (row) => target[row]!) };
  }

  /** The head's answers times `scale`. */
  #times(weights: Map<string, Tensor>, scale: number): Weights {
    for (const name of ['weight', 'bias'].map((part) => `${this.#head.name}.${part}`)) {
      const tensor = weights.get(name)!;
      weights.set(name, { ...tensor, data: (tensor.data as Float32Array).map((value) => value * scale) } as Tensor);
    }
    return weights;
  }

  async #errorOf(weights: Weights, examples: Examples, signal?: AbortSignal): Promise<number> {
    const estimates = await this.estimate(weights, this.#source, examples, signal);
    return estimates.reduce((sum, value, i) => sum + (value - examples.target[i]!) ** 2, 0) / estimates.length;
  }

  /**
   * What a network says of examples: running statistics, whole pictures.
   *
   * @param source Of the examples' sample numbers; without it the data that is learned from.
   * @throws ComFaceError CORRUPT_FILE or IO naming a picture that cannot be read.
   */
  async estimate(weights: Weights, source: NativeSource | undefined, examples: Examples, signal?: AbortSignal): Promise<Float32Array> {
    await this.#model.load(weights);
    const { x, y } = examples;
    const embedded = await embedAll(this.#model, source ?? this.#source, y ? [x, y] : [x], signal);
    return this.#head.answer(embedded, weights, examples);
  }

  dispose(): void {
    this.#engine.dispose();
    this.#model.dispose();
    this.#source.dispose();
  }
}

/** Embeddings of the pictures of some lists, each computed once. */
export interface Embedded {
  width: number;
  of(sample: number): Float32Array;
}

/** @throws ComFaceError CORRUPT_FILE or IO naming a picture that cannot be read. */
export async function embedAll(model: Model, source: NativeSource, lists: readonly Uint32Array[], signal?: AbortSignal): Promise<Embedded> {
  const samples = [...new Set(lists.flatMap((list) => [...list]))].sort((a, b) => a - b);
  const place = new Map(samples.map((sample, i) => [sample, i]));
  const { width } = model;
  const h = new Float32Array(samples.length * width);
  for (let from = 0; from < samples.length; from += kAtOnce) {
    signal?.throwIfAborted();
    h.set(await embedSamples(model, source, samples.slice(from, from + kAtOnce), signal), from * width);
  }
  return {
    width,
    of: (sample) => {
      const at = place.get(sample)! * width;
      return h.subarray(at, at + width);
    },
  };
}

/** l(relu(h_y - h_x)) of pairs of embedded pictures. */
export const changesOf = (h: Embedded, weights: Weights, { x, y }: Required<Pick<Examples, 'x' | 'y'>>): Float32Array =>
  Float32Array.from(x, (sample, i) => linear(weights, 'change', h.of(y[i]!), h.of(sample)));

interface Head {
  /** Of its parameters. */
  name: string;
  views: 1 | 2;
  graph: typeof changeGraph;
  answer(h: Embedded, weights: Weights, examples: Examples): Float32Array;
}

const heads = {
  change: {
    name: 'change',
    views: 2,
    graph: changeGraph,
    answer: (h, weights, { x, y = x }) => changesOf(h, weights, { x, y }),
  },
  value: {
    name: 'value',
    views: 1,
    graph: valueGraph,
    answer: (h, weights, { x }) => Float32Array.from(x, (sample) => linear(weights, 'value', h.of(sample))),
  },
} as const satisfies Record<string, Head>;

/** l(h), or l(relu(h - before)). */
function linear(weights: Weights, name: string, h: Float32Array, before?: Float32Array): number {
  const weight = weights.get(`${name}.weight`)!.data as Float32Array;
  let sum = (weights.get(`${name}.bias`)!.data as Float32Array)[0]!;
  for (let i = 0; i < weight.length; i++) sum += weight[i]! * (before === undefined ? h[i]! : Math.max(0, h[i]! - before[i]!));
  return sum;
}

/** 1 where nothing changes. */
function rootMeanSquare(values: Float32Array): number {
  const square = values.reduce((sum, value) => sum + value * value, 0) / Math.max(1, values.length);
  return square > 0 ? Math.sqrt(square) : 1;
}
