// The pictures of a set by their numbers: alpha changes fastest, then the attribute, then the subject. A subject is mapped once; pictures are computed in
// batches that begin where the caller's do, so that each is computed in the same company whenever it is made again.
import type { Cast } from '../data/composition.js';
import { groupAt } from '../data/composition.js';
import type { Encoded } from '../data/makeset.js';
import { native, workerCount } from '../native.js';
import type { ChosenDirection } from './choose.js';
import type { Generator } from './generator.js';
import { mixed, shifted } from './latents.js';

/** What the pictures are of. */
export interface PictureOptions {
  cast: Cast;
  alphas: readonly number[];
  seed: number;
  psi: number;
  /** Of each attribute. */
  directions: readonly ChosenDirection[];
  /** Edge in pixels. */
  size: number;
  /** JPEG quality; 0: pixels as they are. */
  quality: number;
  threads: number;
}

interface Subject {
  number: number;
  z: Float32Array;
  /** w of every layer, not moved. */
  ws: Float32Array;
}

export class PictureMaker {
  readonly #generator: Generator;
  readonly #options: PictureOptions;
  readonly #signal: AbortSignal | undefined;
  /** The last one: its groups follow each other. */
  #subject: Subject | undefined;

  constructor(generator: Generator, options: PictureOptions, signal?: AbortSignal) {
    this.#generator = generator;
    this.#options = options;
    this.#signal = signal;
  }

  /** Pictures `from` to `from + count`. While a batch is computed the one before is compressed. */
  async draw(from: number, count: number): Promise<Encoded> {
    const { batch } = this.#generator;
    const done: Encoded[] = [];
    let under: Promise<Encoded> | undefined;
    for (let first = 0; first < count; first += batch) {
      this.#signal?.throwIfAborted();
      const some = Math.min(batch, count - first);
      const values = await this.#generator.images(await this.#latents(from + first, some));
      if (under) done.push(await under);
      under = this.#encode(values, some);
      under.catch(() => undefined); // whoever awaits it has the error
    }
    if (under) done.push(await under);
    return {
      bytes: Buffer.concat(done.map(({ bytes }) => bytes)),
      sizes: done.flatMap(({ sizes }) => sizes),
      crcs: done.flatMap(({ crcs }) => crcs),
    };
  }

  #encode(values: Float32Array, count: number): Promise<Encoded> {
    const { size, quality, threads } = this.#options;
    return native().module.encodeImages(values, { count, edge: this.#generator.resolution, size, quality }, workerCount(threads));
  }

  /** w of every layer of some pictures. */
  async #latents(from: number, count: number): Promise<Float32Array> {
    const { cast, alphas, directions } = this.#options;
    const { layers, w } = this.#generator;
    const all = new Float32Array(count * layers * w);
    for (let i = 0; i < count; i++) {
      const group = groupAt(cast, Math.floor((from + i) / alphas.length));
      const alpha = alphas[(from + i) % alphas.length]!;
      all.set(await this.#moved(await this.#subjectOf(group.subject), directions[group.attribute]!, alpha), i * layers * w);
    }
    return all;
  }

  async #moved({ z, ws }: Subject, direction: ChosenDirection, alpha: number): Promise<Float32Array> {
    const { w, z: width } = this.#generator;
    if (direction.space === 'W') return shifted(ws, w, direction, alpha);
    return mixed(ws, await this.#mapped(shifted(z, width, { ...direction, from: 0, to: 1 }, alpha)), w, direction);
  }

  async #mapped(z: Float32Array): Promise<Float32Array> {
    return this.#generator.truncate(await this.#generator.map(z), this.#options.psi);
  }

  async #subjectOf(number: number): Promise<Subject> {
    if (this.#subject?.number === number) return this.#subject;
    const z = this.#generator.latent(number, { seed: this.#options.seed });
    this.#subject = { number, z, ws: await this.#mapped(z) };
    return this.#subject;
  }
}
