// A StyleGAN or StyleGAN3 ready to make pictures: two native graphs, z -> w and w of each layer -> picture, with truncation and edits between them.
import { checkInteger, checkNumber, checkObject, checkOneOf, checkText, floatsOf } from '../check.js';
import { ComFaceError, invalid } from '../errors.js';
import type { LayerRecord } from '../models/layers.js';
import { type ChosenDevice, chooseDevice, type Device, devices, type NativeEngine, native, threadCount, workerCount } from '../native.js';
import { writeState } from '../train/state.js';
import { checkFits, chooseDirections } from './choose.js';
import { checkedDirection, type Direction } from './directions.js';
import { type GeneratorFamily, type GeneratorFile, type GraphWeights, readGenerator } from './file.js';
import { latentOf, mixed, shifted, truncated } from './latents.js';

export const generatorPrecisions = ['auto', 'fp32', 'fp16'] as const;
/**
 * Number type of a generator. `auto`: as its makers run it, fp32, but on CUDA fp16 in those layers of StyleGAN3 of which its file says so (as released, the
 * four highest sampling rates: of 1024 pixels the sixth and on). `fp16`: the same, or an error where that cannot be. `fp32`: everything.
 */
export type GeneratorPrecision = (typeof generatorPrecisions)[number];

/** How to run a generator. */
export interface GeneratorOptions {
  /** Where it runs; {@link Device} says more. @default 'auto' */
  device?: Device | undefined;
  /** Number type; {@link GeneratorPrecision} says more. @default 'auto' */
  precision?: GeneratorPrecision | undefined;
  /** Compute threads, 0 to 1024; 0: one for each core. @default 0 */
  threads?: number | undefined;
  /** Pictures computed at once, 1 to 64: more take more memory. @default 8 on CUDA, else 1 */
  batch?: number | undefined;
}

/** JPEG pictures one after the other. */
export interface EncodedPictures {
  /** All of them. */
  bytes: Uint8Array;
  /** Bytes of each. */
  sizes: readonly number[];
  /** CRC-32C of each. */
  crcs: readonly number[];
}

/** Layers that truncation reaches in StyleGAN (Karras et al., 2019); in StyleGAN3 it reaches all. */
const kTruncatedLayers = 8;
/** z whose w are averaged where a file has no average, and how many at once. */
const kAveraged = 4096;
const kAveragedAtOnce = 64;
const kAverageSeed = 1n;

/**
 * Loads a generator from the file that its makers or converters publish: the official pickles of StyleGAN and StyleGAN3, `stylegan_ffhq.pth` of genforce,
 * lernapparat's `.pt`, a plain state dict of StyleGAN3. Nothing in a file is run.
 *
 * @param file The weights. Their licenses allow no commercial use; docs/data.md says more.
 * @throws ComFaceError INVALID_INPUT for a file of anything else, with what it is; CORRUPT_FILE; NOT_FINITE; IO; DEVICE_UNAVAILABLE; OUT_OF_MEMORY.
 * @example
 * ```ts
 * import { writeFile } from 'node:fs/promises';
 * import { loadGenerator, readDirections } from 'comface';
 *
 * await using generator = await loadGenerator('stylegan_ffhq.pth');
 * const smile = (await readDirections('stylegan_ffhq_smile_w_boundary.npy'))[0]!;
 * const { bytes } = await generator.pictures(await generator.edited(7, smile, 3), { size: 256 });
 * await writeFile('smiling.jpg', bytes);
 * ```
 */
export async function loadGenerator(file: string, options: GeneratorOptions = {}): Promise<Generator> {
  checkText('file', file);
  const checked = checkedOptions(options);
  return makeGenerator(await readGenerator(file), checked);
}

type Checked = { device: Device; precision: GeneratorPrecision; threads: number; batch: number | undefined };

function checkedOptions(options: GeneratorOptions): Checked {
  checkObject('options', options);
  const { device = 'auto', precision = 'auto', threads = 0, batch } = options;
  checkOneOf('device', device, devices);
  checkOneOf('precision', precision, generatorPrecisions);
  checkInteger('threads', threads, 0, 1024);
  if (batch !== undefined) checkInteger('batch', batch, 1, 64);
  return { device, precision, threads, batch };
}

/** Pictures at once on a device where nobody says how many: a CPU is busy with one. */
export const batchOn = (device: ChosenDevice['device'], asked: number | undefined): number => asked ?? (device === 'cuda' ? 8 : 1);

/** The device of a generator, and its number type there. */
export function chooseFor({ family, synthesis }: GeneratorFile, device: Device, precision: GeneratorPrecision): ChosenDevice {
  const mayBeHalf = synthesis.layers.some((layer) => 'half' in layer && layer.half);
  if (precision === 'fp16' && !mayBeHalf)
    throw invalid('precision', `fp32 for this ${family}, which has no layers in 16 bits,`, precision, 'Leave it out.');
  const chosen = chooseDevice(device, 'fp32');
  if (precision === 'fp16' && chosen.device !== 'cuda')
    throw invalid(
      'precision',
      `fp32 on ${chosen.device === 'cpu' ? 'the CPU' : 'the plain loops'}`,
      precision,
      'Leave it out, or run it on CUDA.',
    );
  return mayBeHalf && precision !== 'fp32' && chosen.device === 'cuda' ? { ...chosen, precision: 'fp16' } : chosen;
}

/** {@link loadGenerator} of a file that was read. @param choices Of an earlier generator of the same file and options. */
export let makeGenerator: (file: GeneratorFile, options: Checked, choices?: string) => Promise<Generator>;

async function engineOf(
  { layers, weights }: GraphWeights,
  { library, precision }: ChosenDevice,
  options: { batch: number; threads: number; choices?: string },
): Promise<NativeEngine> {
  const { batch, threads, choices = '' } = options;
  const graph = { layers, batch, training: false, precision, threads: threadCount(threads), choices };
  const engine = await native().module.createEngine(library, graph);
  try {
    await writeState(engine, weights);
    return engine;
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

/** An engine whose runs take turns: each writes its input and reads its result before the next. */
class Graph {
  readonly engine: NativeEngine;
  readonly #last: string;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(engine: NativeEngine, layers: readonly LayerRecord[]) {
    this.engine = engine;
    this.#last = layers.at(-1)!.name;
  }

  run(input: Float32Array): Promise<Float32Array> {
    const result = this.#turn.then(async () => {
      await this.engine.forward(input, new Float32Array());
      return this.engine.read('value', this.#last);
    });
    this.#turn = result.catch(() => undefined); // its caller has the error
    return result;
  }
}

/** A generator of faces, for inference. It holds threads and memory: call {@link Generator.dispose}, or hold it with `await using`. Calls may overlap. */
export class Generator {
  static {
    makeGenerator = (file, options, choices) => Generator.#make(file, options, choices);
  }

  /** What it is: StyleGAN, or a configuration of StyleGAN3. */
  readonly family: GeneratorFamily;
  /** Edge of its pictures in pixels. */
  readonly resolution: number;
  /** Width of z. */
  readonly z: number;
  /** Width of w. */
  readonly w: number;
  /** Number of layers that take a w. */
  readonly layers: number;
  /** SHA-256 of the file, hexadecimal. */
  readonly sha256: string;
  /** Where it runs. */
  readonly device: 'cpu' | 'cuda' | 'reference';
  /** fp16 where some of its layers are; {@link GeneratorPrecision} says which. */
  readonly precision: 'fp32' | 'fp16';
  /** Pictures computed at once. */
  readonly batch: number;
  /** The mean of w, towards which truncation draws. */
  readonly average: Float32Array;
  readonly #mapping: Graph;
  readonly #synthesis: Graph;
  #isDisposed = false;

  private constructor(file: GeneratorFile, parts: { chosen: ChosenDevice; batch: number; average: Float32Array; graphs: [Graph, Graph] }) {
    const { family, resolution, z, w, layers, sha256 } = file;
    this.family = family;
    this.resolution = resolution;
    this.z = z;
    this.w = w;
    this.layers = layers;
    this.sha256 = sha256;
    this.device = parts.chosen.device;
    this.precision = parts.chosen.precision === 'fp16' ? 'fp16' : 'fp32';
    this.batch = parts.batch;
    this.average = parts.average;
    [this.#mapping, this.#synthesis] = parts.graphs;
  }

  static async #make(file: GeneratorFile, { device: wanted, precision, threads, batch: asked }: Checked, choices = ''): Promise<Generator> {
    const chosen = chooseFor(file, wanted, precision);
    const exact: ChosenDevice = { ...chosen, precision: 'fp32' };
    const batch = batchOn(chosen.device, asked);
    const made: NativeEngine[] = [];
    const engine = async (graph: GraphWeights, on: ChosenDevice, options: Parameters<typeof engineOf>[2]): Promise<NativeEngine> => {
      made.push(await engineOf(graph, on, options));
      return made.at(-1)!;
    };
    try {
      // One z at a time: w must not depend on which others are mapped with it. It has little to do for more than one thread.
      const mapping = new Graph(await engine(file.mapping, exact, { batch: 1, threads: 1 }), file.mapping.layers);
      const synthesis = new Graph(await engine(file.synthesis, chosen, { batch, threads, choices }), file.synthesis.layers);
      const average = file.average ?? (await averageOf(file, exact));
      return new Generator(file, { chosen, batch, average, graphs: [mapping, synthesis] });
    } catch (error) {
      for (const one of made) one.dispose();
      throw error;
    }
  }

  /** What the device chose among ways to compute that differ in their last bits. @internal */
  get choices(): string {
    return this.#synthesis.engine.choices;
  }

  /**
   * z of a subject: the same for the same number and seed.
   *
   * @param subject Its number, an integer from 0 to 2^32 - 1.
   * @param options.seed An integer from 0 to 2^53 - 1. Default 1.
   */
  latent(subject: number, options: { seed?: number } = {}): Float32Array {
    checkInteger('subject', subject, 0, 2 ** 32 - 1);
    checkObject('options', options);
    const { seed = 1 } = options;
    checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
    return latentOf(subject, BigInt(seed), this.z);
  }

  /**
   * Maps z to w.
   *
   * @param z One after the other.
   * @throws ComFaceError INVALID_INPUT for another number of numbers; DISPOSED; DEVICE_FAILED.
   */
  async map(z: Float32Array): Promise<Float32Array> {
    this.#checkOpen();
    const all = checkedRows('z', z, this.z);
    const count = all.length / this.z;
    const out = new Float32Array(count * this.w);
    for (let i = 0; i < count; i++) out.set(await this.#mapping.run(all.slice(i * this.z, (i + 1) * this.z)), i * this.w);
    return out;
  }

  /**
   * w of every layer, drawn towards the average: in StyleGAN in the first 8 layers, in StyleGAN3 in all.
   *
   * @param w One w.
   * @param psi How much of the distance to the average is left, 0 to 1. @default 0.7
   * @returns `layers` x `w` numbers.
   */
  truncate(w: Float32Array, psi = 0.7): Float32Array {
    const one = checkedRows('w', w, this.w);
    if (one.length !== this.w) throw invalid('w', `${this.w} numbers`, one.length);
    checkNumber('psi', psi, 0, 1);
    const layers = this.family === 'stylegan1' ? kTruncatedLayers : this.layers;
    return truncated(one, this.layers, { average: this.average, psi, layers });
  }

  /**
   * w of every layer of a subject that was moved along a direction: w + alpha n in the layers that the direction changes, after truncation. One of Z moves z
   * before it is mapped.
   *
   * @param subject Its number.
   * @param direction As {@link readDirections} gives it, of this generator.
   * @param alpha How far: 0 leaves the face as it is.
   * @param options.seed As in {@link Generator.latent}.
   * @param options.psi As in {@link Generator.truncate}.
   * @throws ComFaceError INVALID_INPUT for a direction of another generator; DISPOSED; DEVICE_FAILED.
   */
  async edited(subject: number, direction: Direction, alpha: number, options: { seed?: number; psi?: number } = {}): Promise<Float32Array> {
    const own = checkedDirection('direction', direction);
    checkNumber('alpha', alpha, -1000, 1000);
    const z = this.latent(subject, options);
    checkFits(own, this);
    const [shift] = chooseDirections([own], [own.attribute], this, []);
    const base = this.truncate(await this.map(z), options.psi);
    if (shift!.space === 'W') return shifted(base, this.w, shift!, alpha);
    const moved = await this.map(shifted(z, this.z, { ...shift!, from: 0, to: 1 }, alpha));
    return mixed(base, this.truncate(moved, options.psi), this.w, shift!);
  }

  /**
   * Makes pictures as numbers.
   *
   * @param ws w of every layer of each picture, one picture after the other.
   * @returns N x 3 x resolution x resolution, about -1 to 1: red, green, blue.
   * @throws ComFaceError INVALID_INPUT for another number of numbers; DISPOSED; DEVICE_FAILED.
   */
  async images(ws: Float32Array): Promise<Float32Array> {
    this.#checkOpen();
    const each = this.layers * this.w;
    const all = checkedRows('ws', ws, each);
    const count = all.length / each;
    const numbers = 3 * this.resolution ** 2;
    const input = new Float32Array(this.batch * each);
    const out = count === this.batch ? undefined : new Float32Array(count * numbers);
    for (let first = 0; first < count; first += this.batch) {
      const some = all.subarray(first * each, (first + this.batch) * each);
      input.fill(0);
      for (let at = 0; at < some.length; at += each)
        columnsOf(some.subarray(at, at + each), this.layers, this.w, input.subarray(at, at + each));
      const images = await this.#synthesis.run(input);
      if (!out) return images;
      out.set(images.subarray(0, (some.length / each) * numbers), first * numbers);
    }
    return out!;
  }

  /**
   * Makes pictures as JPEG files, brought to their size by the average of the area of each pixel.
   *
   * @param ws As in {@link Generator.images}.
   * @param options.size Edge in pixels, 8 to the resolution. Default: the resolution.
   * @param options.quality JPEG quality, 1 to 100; 0: pixels as they are. Default 90.
   * @throws ComFaceError as {@link Generator.images}.
   */
  async pictures(ws: Float32Array, options: { size?: number; quality?: number } = {}): Promise<EncodedPictures> {
    checkObject('options', options);
    const { size = this.resolution, quality = 90 } = options;
    checkInteger('size', size, 8, this.resolution);
    checkInteger('quality', quality, 0, 100);
    const values = await this.images(ws);
    const count = values.length / (3 * this.resolution ** 2);
    return native().module.encodeImages(values, { count, edge: this.resolution, size, quality }, workerCount(0));
  }

  #checkOpen(): void {
    if (this.#isDisposed) throw new ComFaceError('DISPOSED', 'This generator is disposed', { hint: 'Load it again.' });
  }

  /** Gives its threads and memory back. What is being computed is finished; all other calls reject with `DISPOSED`. Calling it again does nothing. */
  dispose(): void {
    this.#isDisposed = true;
    for (const { engine } of [this.#mapping, this.#synthesis]) engine.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }
}

function checkedRows(name: string, given: unknown, each: number): Float32Array {
  const values = floatsOf(given);
  if (values.length === 0 || values.length % each !== 0)
    throw invalid(name, `a Float32Array of ${each} numbers, or several times as many,`, given);
  return values;
}

/** layers x width -> width x layers: the graph reads an image whose positions are the layers. */
function columnsOf(ws: Float32Array, layers: number, width: number, into: Float32Array): void {
  for (let l = 0; l < layers; l++) for (let i = 0; i < width; i++) into[i * layers + l] = ws[l * width + i]!;
}

/** The mean of w over subjects of a seed of its own. */
async function averageOf(file: GeneratorFile, chosen: ChosenDevice): Promise<Float32Array> {
  const graph = new Graph(await engineOf(file.mapping, chosen, { batch: kAveragedAtOnce, threads: 1 }), file.mapping.layers);
  const sums = new Float64Array(file.w);
  try {
    for (let first = 0; first < kAveraged; first += kAveragedAtOnce) {
      const z = new Float32Array(kAveragedAtOnce * file.z);
      for (let i = 0; i < kAveragedAtOnce; i++) z.set(latentOf(first + i, kAverageSeed, file.z), i * file.z);
      const w = await graph.run(z);
      for (const [i, value] of w.entries()) sums[i % file.w]! += value;
    }
  } finally {
    graph.engine.dispose();
  }
  return Float32Array.from(sums, (sum) => sum / kAveraged);
}
