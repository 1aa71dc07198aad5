// A trained network ready to use: embeddings of pictures and the change between two. Inference only, running statistics.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { checkInteger, checkObject, checkOneOf, checkSignal, checkText, textsOf } from './check.js';
import { designOf, type TrainConfig } from './config.js';
import { ComFaceError, invalid, show } from './errors.js';
import { backbone, backboneNames, embeddingWidth, mapLayers } from './models/backbone.js';
import type { LayerRecord } from './models/layers.js';
import {
  chooseDevice,
  type Device,
  devices,
  type NativeAugment,
  type NativeEngine,
  type NativeSource,
  native,
  type PrecisionChoice,
  precisions,
  threadCount,
} from './native.js';
import { eigenCam, type Saliency } from './report/saliency.js';
import { type CheckpointState, latestCheckpoint, loadCheckpoint } from './train/checkpoint.js';
import { writeState } from './train/state.js';
import type { Tensor } from './weights/safetensors.js';

/** How to run a loaded model. */
export interface ModelOptions {
  /** Where it runs; {@link Device} says more. @default 'auto' */
  device?: Device;
  /** Number type of activations; {@link PrecisionChoice} says more. @default 'auto' */
  precision?: PrecisionChoice;
  /** Compute threads, 0 to 1024; 0: one for each core. @default 0 */
  threads?: number;
  /** Pictures computed at once, 1 to 65,536: more take more memory. @default 32 */
  batch?: number;
}

/** What a transferred model estimates. */
export interface Task {
  /** What changes, such as weight. */
  attribute: string;
  /** What the change is counted in, such as kg. */
  unit: string;
}

/** The network of a model, as its training options name it, and what its change head has learned; {@link TrainOptions} has `backbone`, `width`, `size` and `augment`. */
export type ModelDesign = Pick<TrainConfig, 'backbone' | 'width' | 'size' | 'augment'> & {
  /** What the change head was trained on: the size of a change, or with its sign. @default 'absolute' */
  target?: 'absolute' | 'signed' | undefined;
  /** What a transferred model estimates, with its direction. @default null */
  task?: Task | null | undefined;
};

/** Result of comparing two pictures of one person. */
export interface Comparison {
  /**
   * Estimated change from x to y: relu(h_y - h_x) through the linear layer (paper, section 3.2). Near 0: no change. Where `direction` is null it is a size,
   * whatever its sign.
   */
  change: number;
  /** The sign of the change; null where the model knows only sizes: pre-trained on |alpha_y - alpha_x|, not on a task. */
  direction: 'increase' | 'decrease' | 'none' | null;
  /** What the change is counted in: `steps of alpha`, or the task's unit. */
  unit: string;
}

const taskSchema = z.object({ attribute: z.string().min(1).max(200), unit: z.string().min(1).max(200) });
const kModelFolder = 'model';

/**
 * Loads a model from a run folder (its newest good checkpoint), from one checkpoint's folder, or from the folder of a transfer (its `model`).
 *
 * @param folder The folder.
 * @throws ComFaceError INVALID_INPUT when there is none; CORRUPT_FILE when no checkpoint is whole; IO; DEVICE_UNAVAILABLE; OUT_OF_MEMORY.
 * @example
 * ```ts
 * import { loadModel } from 'comface';
 *
 * const model = await loadModel('run');
 * try {
 *   const { change, direction, unit } = await model.compare('before.jpg', 'after.jpg');
 *   console.log(`changed by ${change.toFixed(2)} ${unit} (${direction ?? 'direction not known'})`);
 * } finally {
 *   model.dispose();
 * }
 * ```
 */
export async function loadModel(folder: string, options: ModelOptions = {}): Promise<Model> {
  const { design, weights } = await loadState(folder);
  return Model.from(design, weights, options);
}

/** What a model is made of. */
export interface ModelState {
  design: ModelDesign;
  weights: ReadonlyMap<string, Tensor>;
  /** Of the data set that it learned from, if that is known. */
  dataHash?: string;
  /** Of weights that `importWeights` read: what the file was. */
  imported?: string;
}

/**
 * What {@link loadModel} makes a model of.
 *
 * @throws ComFaceError INVALID_INPUT when there is none, CORRUPT_FILE, IO.
 */
export async function loadState(folder: string): Promise<ModelState> {
  checkText('folder', folder);
  const state = await stateIn(folder);
  if (!state) throw invalid('folder', 'a run, checkpoint or transfer folder', folder, 'Train first: comface train --data FOLDER --out RUN');
  const { dataHash, imported } = state.info;
  const { as } = (typeof imported === 'object' && imported !== null ? imported : {}) as { as?: unknown };
  return {
    ...{ design: designIn(state.info, folder), weights: state.weights },
    ...(typeof dataHash === 'string' && { dataHash }),
    ...(typeof as === 'string' && { imported: as }),
  };
}

async function stateIn(folder: string): Promise<CheckpointState | null> {
  const isCheckpoint = (place: string) => existsSync(join(place, 'manifest.json'));
  const inner = join(folder, kModelFolder);
  const place = !isCheckpoint(folder) && existsSync(inner) ? inner : folder;
  return isCheckpoint(place) ? loadCheckpoint(place) : latestCheckpoint(place, { onWarning: warn });
}

/** A manifest may come from anywhere. */
function designIn({ config, task }: Record<string, unknown>, folder: string): ModelDesign {
  const design = designOf(config);
  if (design === undefined) {
    throw new ComFaceError('CORRUPT_FILE', `${folder}: the manifest does not say which network this is`, {
      hint: 'Use a checkpoint written by comface train.',
    });
  }
  if (task === undefined || task === null) return design;
  const { data } = taskSchema.safeParse(task);
  if (data) return { ...design, task: data };
  throw new ComFaceError('CORRUPT_FILE', `${folder}: expected a task with attribute and unit in the manifest but found ${show(task)}`, {
    hint: 'Use a checkpoint written by comface transfer.',
  });
}

const warn = (text: string): void => process.emitWarning(text, { code: 'COMFACE_DAMAGED_CHECKPOINT' });

/** Graphs are compiled for a fixed number of pictures; one or two need not pay for a whole batch. */
const kSmallBatch = 2;

type Weights = ReadonlyMap<string, Tensor> | { seed: number };

function checkedWeights(weights: Weights): Weights {
  if (weights instanceof Map) return weights;
  checkObject('weights', weights);
  const { seed } = weights as { seed?: number };
  checkInteger('weights.seed', seed, 0, Number.MAX_SAFE_INTEGER);
  return { seed };
}

function checkedTask(task: unknown): Task | null {
  if (task === undefined || task === null) return null;
  checkObject('task', task);
  const { attribute, unit } = task as Partial<Task>;
  checkText('task.attribute', attribute);
  checkText('task.unit', unit);
  return { attribute, unit };
}

function checkedOptions(options: ModelOptions): Required<ModelOptions> {
  checkObject('options', options);
  const { device = 'auto', precision = 'auto', threads = 0, batch = 32 } = options;
  checkOneOf('device', device, devices);
  checkOneOf('precision', precision, precisions);
  checkInteger('threads', threads, 0, 1024);
  checkInteger('batch', batch, 1, 2 ** 16);
  return { device, precision, threads, batch };
}

/** Warns once in a process: the memory comes back by itself, but only when the garbage collector gets there. */
const dropped = new FinalizationRegistry<string>((name) => {
  if (hasWarned) return;
  hasWarned = true;
  process.emitWarning(`A model (${name}) was dropped without dispose(); its threads and memory were held until now`, {
    code: 'COMFACE_NOT_DISPOSED',
    detail: 'Call model.dispose(), or hold it with `await using`.',
  });
});
let hasWarned = false;

/** Embeddings, as {@link Model.embed} has them, of pictures of an open source with views of the model's size. */
export let embedSamples: (model: Model, source: NativeSource, samples: readonly number[], signal?: AbortSignal) => Promise<Float32Array>;

/** {@link Model.saliency} of a picture of an open source with views of the model's size. */
export let saliencyOf: (model: Model, source: NativeSource, sample: number) => Promise<Saliency>;

/** Refuses what is no {@link Model}, a proxy of one too. @throws ComFaceError INVALID_INPUT. */
export let checkModel: (model: unknown) => asserts model is Model;

/** The embedding of each sample, or what is wrong with its picture; all at once if none is broken, else one by one. */
export async function embedUsable(
  model: Model,
  source: NativeSource,
  samples: readonly number[],
  signal?: AbortSignal,
): Promise<(Float32Array | ComFaceError)[]> {
  const embed = async (some: readonly number[]): Promise<Float32Array | ComFaceError> => {
    try {
      return await embedSamples(model, source, some, signal);
    } catch (error) {
      if (error instanceof ComFaceError && (error.code === 'CORRUPT_FILE' || error.code === 'IO')) return error;
      throw error;
    }
  };
  const all = await embed(samples);
  if (all instanceof Float32Array) return samples.map((_, i) => all.subarray(i * model.width, (i + 1) * model.width));
  const each: (Float32Array | ComFaceError)[] = [];
  for (const sample of samples) each.push(await embed([sample]));
  return each;
}

/**
 * A trained network, for inference. It holds threads and memory: call {@link Model.dispose}, or hold it with `await using` (TypeScript 5.2 or newer).
 * Calls may overlap.
 */
export class Model {
  static {
    embedSamples = (model, source, samples, signal) => model.#embedSamples(source, samples, signal);
    saliencyOf = (model, source, sample) => model.#saliencyOf(source, sample);
    checkModel = (model) => {
      if (typeof model !== 'object' || model === null || !(#engines in model))
        throw invalid('model', 'a Model', model, 'Pass what loadModel() gives.');
    };
  }

  /** Width D of an embedding: 512 for a ResNet-18 and 2048 for a ResNet-50 of the default width. */
  readonly width: number;
  /** Its network. */
  readonly design: ModelDesign;
  /** What it was transferred to; null for one that only knows what it was pre-trained on. */
  readonly task: Task | null;
  /** Whether it tells an increase from a decrease. */
  readonly signed: boolean;
  readonly #options: Required<ModelOptions>;
  readonly #engines = new Map<string, Promise<NativeEngine>>();
  #weights: Weights;
  #isDisposed = false;

  private constructor(design: ModelDesign, weights: Weights, options: ModelOptions) {
    checkObject('design', design);
    const { backbone, width, size, augment, target = 'absolute', task } = design;
    checkOneOf('backbone', backbone, backboneNames);
    checkInteger('width', width, 16, 128);
    checkInteger('size', size, 16, 512);
    checkOneOf('target', target, ['absolute', 'signed']);
    this.task = checkedTask(task);
    this.signed = this.task !== null || target === 'signed';
    this.design = { backbone, width, size, augment, target, task: this.task };
    this.width = embeddingWidth(backbone, { size, width });
    this.#weights = checkedWeights(weights);
    this.#options = checkedOptions(options);
  }

  /**
   * Makes a model from weights, or an untrained one from a seed.
   *
   * @param design The network.
   * @param weights Tensors by torchvision's names, with `change.weight` and `change.bias` for the change head; or a seed for random weights.
   * @throws ComFaceError INVALID_INPUT for weights of another network; DEVICE_UNAVAILABLE; OUT_OF_MEMORY.
   */
  static async from(design: ModelDesign, weights: Weights, options: ModelOptions = {}): Promise<Model> {
    const model = new Model(design, weights, options);
    dropped.register(model, design.backbone, model);
    try {
      await model.#engineFor(model.#options.batch);
      return model;
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  /**
   * Takes other weights of the same network, without compiling again.
   *
   * @param weights Tensors as in {@link Model.from}.
   * @throws ComFaceError INVALID_INPUT for weights of another network; DISPOSED.
   */
  async load(weights: ReadonlyMap<string, Tensor>): Promise<void> {
    this.#checkOpen();
    if (!(weights instanceof Map)) throw invalid('weights', 'a Map of tensors', weights);
    for (const engine of this.#engines.values()) await writeState(await engine, weights);
    this.#weights = weights;
  }

  #checkOpen(): void {
    if (this.#isDisposed) throw new ComFaceError('DISPOSED', 'This model is disposed', { hint: 'Load it again.' });
  }

  /** @param layers Of the backbone, to what is read. */
  #engineFor(batch: number, layers: readonly LayerRecord[] = this.#layers()): Promise<NativeEngine> {
    this.#checkOpen();
    const key = `${batch} ${layers.length}`;
    const known = this.#engines.get(key);
    if (known) return known;
    const made = this.#compile(batch, layers);
    this.#engines.set(key, made);
    made.catch(() => this.#engines.delete(key)); // the next call tries again
    return made;
  }

  #layers(): LayerRecord[] {
    return backbone(this.design.backbone, this.design);
  }

  async #compile(batch: number, layers: readonly LayerRecord[]): Promise<NativeEngine> {
    const { device, precision: wanted, threads } = this.#options;
    const { library, precision } = chooseDevice(device, wanted);
    const engine = await native().module.createEngine(library, {
      layers,
      batch,
      training: false,
      precision,
      threads: threadCount(threads),
    });
    try {
      if ('seed' in this.#weights) await engine.initialize(BigInt(this.#weights.seed));
      else await writeState(engine, this.#weights);
      return engine;
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  /**
   * Embeddings h of JPEG pictures. Each picture is resized to the model's size: crop it to the face and to a square first, and turn it upright (EXIF is
   * not read).
   *
   * @param files JPEG files.
   * @param options.threads Threads that read the pictures, 1 to 64. Default 2.
   * @param options.signal Aborting finishes the batch under way and rejects with `signal.reason`.
   * @returns N x D numbers, row after row, N being the number of pictures and D the `width`.
   * @throws ComFaceError CORRUPT_FILE or IO naming the first picture that cannot be read; DISPOSED.
   * @example
   * ```ts
   * import { loadModel } from 'comface';
   *
   * const model = await loadModel('run');
   * const files = ['monday.jpg', 'tuesday.jpg', 'friday.jpg'];
   * const h = await model.embed(files);
   * const row = (i: number) => h.subarray(i * model.width, (i + 1) * model.width);
   * for (const i of files.keys()) console.log(files[i], model.comparisonOf(row(0), row(i)).change);
   * model.dispose();
   * ```
   */
  async embed(files: readonly string[], options: { threads?: number; signal?: AbortSignal | undefined } = {}): Promise<Float32Array> {
    this.#checkOpen();
    const paths = textsOf('files', files);
    checkObject('options', options);
    const { threads = 2, signal } = options;
    checkInteger('threads', threads, 1, 64);
    checkSignal(signal);
    signal?.throwIfAborted();
    if (paths.length === 0) {
      await this.#engineFor(kSmallBatch);
      return new Float32Array();
    }
    const source = native().module.openFiles(paths, this.design.size, threads, 0);
    try {
      return await this.#embedSamples(source, [...paths.keys()], signal);
    } finally {
      source.dispose();
    }
  }

  async #embedSamples(source: NativeSource, samples: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const batch = samples.length <= kSmallBatch ? kSmallBatch : this.#options.batch;
    const engine = await this.#engineFor(batch);
    const last = this.#layers().at(-1)!.name;
    const embeddings = new Float32Array(samples.length * this.width);
    // A batch at a time: so an abort has not long to wait, and no large copy holds up the event loop.
    for (let first = 0; first < samples.length; first += batch) {
      signal?.throwIfAborted();
      const some = Uint32Array.from(samples.slice(first, first + batch));
      embeddings.set(await engine.embed(source, some, last, this.design.augment as NativeAugment), first * this.width);
    }
    signal?.throwIfAborted();
    return embeddings;
  }

  /**
   * How much the face changed from picture x to picture y of the same person.
   *
   * @param x JPEG file, cropped to the face as for {@link Model.embed}.
   * @param y JPEG file of the same person.
   * @param options.signal Aborting rejects with `signal.reason` when the pictures are done.
   * @throws ComFaceError as {@link Model.embed}; INVALID_INPUT when the model was trained without the change head.
   * @example
   * ```ts
   * import { loadModel } from 'comface';
   *
   * const model = await loadModel('transfer'); // it knows a task, and so the direction
   * const { change, direction, unit } = await model.compare('before.jpg', 'after.jpg');
   * if (direction === 'increase') console.log(`+${change.toFixed(1)} ${unit}`);
   * model.dispose();
   * ```
   */
  async compare(x: string, y: string, options: { signal?: AbortSignal | undefined } = {}): Promise<Comparison> {
    checkObject('options', options);
    const h = await this.embed([x, y], { signal: options.signal });
    return this.comparisonOf(h, h.subarray(this.width));
  }

  /**
   * {@link Model.compare} of embeddings: each picture is embedded once, in however many pairs it stands. Works on a disposed model, too.
   *
   * @param hx Embedding of picture x; its first `width` numbers are read.
   * @param hy Embedding of picture y.
   * @throws ComFaceError as {@link Model.changeOf}.
   */
  comparisonOf(hx: Float32Array, hy: Float32Array): Comparison {
    const change = this.changeOf(hx, hy);
    const direction = change > 0 ? 'increase' : change < 0 ? 'decrease' : 'none';
    return { change, direction: this.signed ? direction : null, unit: this.task?.unit ?? 'steps of alpha' };
  }

  /**
   * Where in a JPEG picture the network looks: Eigen-CAM (Muhammad and Yeasin, arXiv 2008.00299) of the backbone's last block, of a vision transformer of its tokens but the class token.
   *
   * @param file JPEG file, as for {@link Model.embed}.
   * @param options.signal Aborting rejects with `signal.reason` when the picture under way is done.
   * @throws ComFaceError as {@link Model.embed}.
   */
  async saliency(file: string, options: { signal?: AbortSignal | undefined } = {}): Promise<Saliency> {
    this.#checkOpen();
    checkText('file', file);
    checkObject('options', options);
    const { signal } = options;
    checkSignal(signal);
    signal?.throwIfAborted();
    const source = native().module.openFiles([file], this.design.size, 1, 0);
    try {
      const found = await this.#saliencyOf(source, 0);
      signal?.throwIfAborted();
      return found;
    } finally {
      source.dispose();
    }
  }

  async #saliencyOf(source: NativeSource, sample: number): Promise<Saliency> {
    const { size, augment } = this.design;
    // A backend keeps the value of an image only where that is the last layer.
    const { layers, channels, before } = mapLayers(this.#layers());
    const engine = await this.#engineFor(1, layers);
    const activations = await engine.embed(source, Uint32Array.of(sample), layers.at(-1)!.name, augment as NativeAugment);
    const count = activations.length / channels;
    const map = before === 0 ? activations : activations.filter((_, i) => i % count >= before);
    const edge = Math.sqrt(map.length / channels);
    return eigenCam(map, { channels, height: edge, width: edge }, size);
  }

  /**
   * The change alone, from embeddings: l(relu(h_y - h_x)), l being the linear layer of the change head (paper, section 3.2). Needs no engine, so it also
   * works on a disposed model.
   *
   * @param hx Embedding of picture x; its first `width` numbers are read.
   * @param hy Embedding of picture y.
   * @throws ComFaceError INVALID_INPUT for embeddings that are too short, and when the model was trained without the change head.
   */
  changeOf(hx: Float32Array, hy: Float32Array): number {
    for (const [name, h] of Object.entries({ hx, hy })) {
      if (!ArrayBuffer.isView(h) || !(h instanceof Float32Array) || h.length < this.width)
        throw invalid(name, `a Float32Array of ${this.width} numbers`, h);
    }
    const weights = this.#weights;
    const [weight, bias] = 'seed' in weights ? [] : [weights.get('change.weight'), weights.get('change.bias')];
    const fits = weight?.dtype === 'F32' && weight.data?.length === this.width && bias?.dtype === 'F32' && bias.data?.length === 1;
    if (!fits) {
      throw invalid(
        'model',
        'a model with a change head',
        'weights without one',
        'Train with `intraPersonal` above 0, or transfer it to a task.',
      );
    }
    let change = bias.data[0]!;
    for (let i = 0; i < this.width; i++) change += weight.data[i]! * Math.max(0, hy[i]! - hx[i]!);
    return change;
  }

  /** Gives its threads and memory back. What is being computed is finished; all other calls reject with `DISPOSED`. Calling it again does nothing. */
  dispose(): void {
    this.#isDisposed = true;
    dropped.unregister(this);
    for (const engine of this.#engines.values()) {
      engine.then(
        (made) => made.dispose(),
        () => undefined, // it was never made
      );
    }
    this.#engines.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }
}
