// Where a network looks, on faces that are drawn for a page, and on pictures of a data set.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attributeIndex, attributes } from '../data/attributes.js';
import type { DataSet } from '../data/dataset.js';
import { plainView } from '../data/views.js';
import { type Model, saliencyOf } from '../model.js';
import { type NativeSource, native, workerCount } from '../native.js';
import { overlay, type Saliency } from './saliency.js';

/** A picture and what the network looks at in it, as JPEG files. */
export interface Look {
  picture: Uint8Array;
  overlay: Uint8Array;
}

/** A drawn one. */
export interface DrawnLook extends Look {
  /** From 1. */
  person: number;
  attribute: string;
  alpha: number;
}

const kPeople = 3;
const kAlphas = [-5, 0, 5];
const kEdge = 144;
const kQuality = 85;
/** People whom no data set made with usual numbers has. */
const kFirstPerson = 2_000_000;

/**
 * Faces of three people at three alphas each, with one pose and light for a person, so that only the attribute changes between their pictures.
 *
 * @param attribute What changes; the smile for one that is not drawn.
 */
export async function drawnLooks(model: Model, attribute: string, signal?: AbortSignal): Promise<DrawnLook[]> {
  const drawn = (attributes as readonly string[]).includes(attribute) ? attribute : 'smile';
  const shown = Array.from({ length: kPeople }, (_, person) =>
    kAlphas.map((alpha) => ({ person: person + 1, attribute: drawn, alpha })),
  ).flat();
  const shots = {
    seed: 1n,
    subject: Uint32Array.from(shown, ({ person }) => kFirstPerson + person),
    photo: new Uint32Array(shown.length),
    attribute: new Int32Array(shown.length).fill(attributeIndex(drawn)),
    alpha: Float32Array.from(shown, ({ alpha }) => alpha),
    ...{ domain: 0, size: kEdge },
  };
  const { module } = native();
  const pixels = await module.drawFaces(shots, workerCount(0));
  const folder = await mkdtemp(join(tmpdir(), 'comface-report-'));
  try {
    const files = shown.map((_, i) => join(folder, `${i}.jpg`));
    await module.writeFaces(shots, files, 95, workerCount(0));
    const looks: DrawnLook[] = [];
    for (const [i, one] of shown.entries()) {
      const saliency = await model.saliency(files[i]!, { signal });
      looks.push({ ...one, ...(await lookOf(pixels.subarray(i * kEdge * kEdge * 3, (i + 1) * kEdge * kEdge * 3), saliency)) });
    }
    return looks;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param rgb kEdge x kEdge x 3. */
async function lookOf(rgb: Uint8Array, saliency: Saliency): Promise<Look> {
  const { encodeJpeg } = native().module;
  return {
    picture: await encodeJpeg(rgb, kEdge, kEdge, kQuality),
    overlay: await encodeJpeg(overlay(rgb, { width: kEdge, height: kEdge }, saliency), kEdge, kEdge, kQuality),
  };
}

/** Pictures of a data set, made small and encoded anew: what a file says beside its pixels stays out of the page. */
export class SampleLooks {
  readonly #model: Model;
  readonly #views: NativeSource;
  readonly #inputs: NativeSource;

  constructor(model: Model, data: DataSet) {
    this.#model = model;
    this.#views = data.open(kEdge, 1);
    this.#inputs = data.open(model.design.size, 1);
  }

  /** @throws ComFaceError CORRUPT_FILE or IO for a picture that cannot be read. */
  async of(sample: number): Promise<Look> {
    const rgb = await plainView(this.#views, kEdge, sample);
    return lookOf(rgb, await saliencyOf(this.#model, this.#inputs, sample));
  }

  dispose(): void {
    this.#views.dispose();
    this.#inputs.dispose();
  }
}
