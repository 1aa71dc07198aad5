// What the three twins are made with: numbers drawn for them, pictures to draw, and a JPEG or a text for each.
// Everything is a function of the seed and of numbers of people and frames, so that fewer people or frames are a part of the whole.
import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type NativeShots, native } from '../../native.js';
import { type Attribute, attributeIndex } from '../attributes.js';
import { type Draw, Purpose, philox, unit } from '../random.js';

/** The data sets that have a twin. */
export const twinKinds = ['disfa', 'fgnet', 'weight'] as const;
/** The name of a data set of the paper that has a drawn stand-in. */
export type TwinKind = (typeof twinKinds)[number];

/**
 * Identity number of each twin's first person: far beyond those that `generate` begins with (0) and that the demo tests on (1,000,000), so that
 * a network trained on drawn faces has seen none of them.
 */
export const twinFirstSubject: Readonly<Record<TwinKind, number>> = { disfa: 4_000_000_000, fgnet: 4_100_000_000, weight: 4_200_000_000 };

/** Of JPEG. */
export const kTwinQuality = 90;
/** What file systems give to files. */
export const kBlockBytes = 4096;
/** Numbers of a picture's landmarks: x and y of 68 iBUG points and 2 pupils. */
export const kLandmarkNumbers = 140;
/** native/faces/face.h */
const kMostChanges = 8;
/** Pixels between two looks at the signal: about two seconds of drawing. */
const kChunkPixels = 256 * 64 * 64;

/** With what, and where to, a twin is drawn. */
export interface Easel {
  /** Folder of the twin. */
  out: string;
  seed: bigint;
  /** Edge of the pictures in pixels. */
  size: number;
  threads: number;
}

/** One picture to draw. */
export interface TwinPicture {
  /** Identity number. */
  subject: number;
  photo: number;
  /** Of a video, from 0; -1: a photograph. */
  frame: number;
  /** Up to 8. */
  changes: readonly (readonly [Attribute, number])[];
}

/** A twin that is known to its last number, and not yet drawn. */
export interface Twin {
  readonly pictures: number;
  readonly subjects: number;
  /** Folders to be made, from the twin's own. */
  readonly folders: readonly string[];
  /** Bytes on the disk of picture `at` and what lies beside it. */
  sizeOf(easel: Easel, at: number): Promise<number>;
  /** Draws and writes everything; yields the number of pictures written since it last did. */
  write(easel: Easel): AsyncGenerator<number>;
}

/** Numbers drawn one after the other for one purpose of one person. */
export class Draws {
  readonly #seed: bigint;
  readonly #subject: number;
  readonly #stream: number;
  #words: Draw = [0, 0, 0, 0];
  #drawn = 0;

  constructor(seed: bigint, subject: number, stream: number) {
    this.#seed = seed;
    this.#subject = subject;
    this.#stream = stream;
  }
  /** Uniform in [0, 1). */
  uniform(): number {
    if (this.#drawn % 4 === 0) this.#words = philox(this.#seed, Purpose.twin, this.#subject, this.#stream, this.#drawn / 4);
    return unit(this.#words[this.#drawn++ % 4]!);
  }
  range(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }
  /** An integer from 0 to n - 1. */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }
  /** Mean 0, deviation 1, never beyond 3. */
  normal(): number {
    return 2 * (this.uniform() + this.uniform() + this.uniform() - 1.5);
  }
}

/** `total` given out to `people`, each from `least` to `most` of it. */
export function sharesOf(draws: Draws, total: number, people: number, least: number, most: number): number[] {
  const shares = Array.from({ length: people }, () => least);
  for (let left = total - least * people; left > 0; ) {
    const lucky = draws.below(people);
    if (shares[lucky]! >= most) continue;
    shares[lucky]!++;
    left--;
  }
  return shares;
}

/** The piecewise linear curve through (x, y) points with growing x, level beyond its ends. */
export function curve(points: readonly (readonly [number, number])[], x: number): number {
  const next = points.findIndex(([px]) => px >= x);
  if (next <= 0) return points.at(next)![1];
  const [[x0, y0], [x1, y1]] = [points[next - 1]!, points[next]!];
  return y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
}

/** 0 to 1, flat at both ends; `t` may lie beyond them. */
export function smooth(t: number): number {
  const inside = Math.min(1, Math.max(0, t));
  return inside * inside * (3 - 2 * inside);
}

/** Pictures of one size drawn at once. */
export const chunkOf = ({ size }: Easel): number => Math.max(8, Math.floor(kChunkPixels / size ** 2));

/** What native/ is told to draw: pictures of one domain and size. */
export function shotsOf({ seed, size }: Easel, pictures: readonly TwinPicture[], domain: number): NativeShots {
  const most = Math.max(1, ...pictures.map(({ changes }) => changes.length));
  const places = Array.from({ length: Math.min(most, kMostChanges) }, (_, k) => k);
  return {
    seed,
    subject: Uint32Array.from(pictures, ({ subject }) => subject),
    photo: Uint32Array.from(pictures, ({ photo }) => photo),
    frame: Int32Array.from(pictures, ({ frame }) => frame),
    attribute: Int32Array.from(pictures.flatMap(({ changes }) => places.map((k) => numberOf(changes[k]?.[0])))),
    alpha: Float32Array.from(pictures.flatMap(({ changes }) => places.map((k) => alphaOf(changes[k]?.[1])))),
    domain,
    size,
  };
}

const numberOf = (name: Attribute | undefined): number => (name === undefined ? -1 : attributeIndex(name));
const alphaOf = (alpha = 0): number => Math.min(5, Math.max(-5, alpha));

/** Bytes of one picture as a JPEG. */
export async function jpegBytes(easel: Easel, picture: TwinPicture, domain: number): Promise<number> {
  return (await native().module.encodeFaces(shotsOf(easel, [picture], domain), kTwinQuality, 1)).bytes.length;
}

/** What a file of so many bytes takes on the disk. */
export const blocks = (bytes: number): number => kBlockBytes * Math.ceil(bytes / kBlockBytes);

export const writeTo = ({ out }: Easel, file: string, content: Uint8Array | string): Promise<void> => writeFile(join(out, file), content);
export const appendTo = ({ out }: Easel, file: string, content: string): Promise<void> => appendFile(join(out, file), content);
