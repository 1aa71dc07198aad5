// Pictures of a data set as they are, through the reader that training uses.
import type { NativeAugment, NativePlan, NativeSource } from '../native.js';

/** No change but that to the size of the view; values in [0, 1]. */
export const kPlain: NativeAugment = {
  ...{ cropAreaMin: 1, cropAreaMax: 1, cropAspectMax: 100, flipProbability: 0, jitterProbability: 0, grayscaleProbability: 0 },
  ...{ brightness: 0, contrast: 0, saturation: 0, hue: 0, mean: [0, 0, 0], deviation: [1, 1, 1] },
};

/** Each picture as a pair of its own; `spare` stands in for any that is broken. */
export function planOf(samples: Uint32Array, spare?: number): NativePlan {
  const pairs = samples.length;
  const x = new Uint32Array(spare === undefined ? pairs : 2 * pairs).fill(spare ?? 0);
  x.set(samples);
  return { seed: 0n, step: 1, pairs, x, y: x, target: new Float32Array(x.length) };
}

/**
 * A picture as RGB bytes.
 * @param edge Of the source's views.
 * @throws ComFaceError CORRUPT_FILE or IO for one that cannot be read.
 */
export async function plainView(source: NativeSource, edge: number, sample: number): Promise<Uint8Array> {
  const { images } = await source.fill(planOf(Uint32Array.of(sample)), kPlain);
  const area = edge * edge;
  const rgb = new Uint8Array(3 * area);
  for (let p = 0; p < area; p++) for (let c = 0; c < 3; c++) rgb[3 * p + c] = Math.round(255 * images[c * area + p]!);
  return rgb;
}
