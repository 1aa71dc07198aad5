// Views through the source that training uses: what each switch does, the moments of the draws, their order, and the same bytes from any threads.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type NativeAugment, type NativePlan, type NativeSource, native } from '../lib/native.ts';
import { plainAugment, planOf, sharedFolder, writePicture } from './faces.ts';
import { distance } from './support.ts';

const folder = sharedFolder();
const size = 16;
const edge = 32;
let files: string[] = [];
/** A ramp to the right in red and down in green; flat gray; colored stripes. */
const pictures = [
  (x: number, y: number) => [x * 8, y * 8, 60],
  () => [100, 100, 100],
  (x: number, y: number) => [(x >> 3) % 2 ? 200 : 40, (y >> 3) % 2 ? 180 : 60, 120],
];

beforeAll(async () => {
  files = await Promise.all(pictures.map((color, i) => writePicture(join(folder, `${i}.jpg`), edge, color)));
});

async function open<T>(threads: number, use: (source: NativeSource) => Promise<T>, viewSize = size): Promise<T> {
  const source = native().module.openFiles(files, viewSize, threads, edge);
  try {
    return await use(source);
  } finally {
    source.dispose();
  }
}

const viewsOf = (plan: NativePlan, augment: Partial<NativeAugment> = {}, threads = 2, viewSize = size) =>
  open(threads, async (source) => (await source.fill(plan, { ...plainAugment, ...augment })).images, viewSize);

/** View v (0: x~1, 1: x~2, 2: y~) of pair i of n, or one channel of it. */
function at(images: Float32Array, n: number, v: number, i: number, channel?: number): Float32Array {
  const plane = images.length / (9 * n);
  const start = (v * n + i) * 3 * plane;
  return channel === undefined
    ? images.subarray(start, start + 3 * plane)
    : images.subarray(start + channel * plane, start + (channel + 1) * plane);
}

const meanOf = (x: Float32Array) => x.reduce((a, b) => a + b, 0) / x.length;
const varianceOf = (x: Float32Array) => meanOf(x.map((v) => (v - meanOf(x)) ** 2));

/** The three planes of a file, in [0, 1]. */
async function decoded(file: number): Promise<Float32Array[]> {
  const { rgb } = await native().module.decodeJpeg(await readFile(files[file]!));
  return [0, 1, 2].map((c) => Float32Array.from({ length: edge * edge }, (_, i) => rgb[i * 3 + c]! / 255));
}

describe('a view', () => {
  test('without any randomness is the picture itself', async () => {
    for (const file of [0, 1, 2]) {
      const images = await viewsOf(planOf([file]), {}, 1, edge);
      for (const v of [0, 1, 2])
        for (const [c, plane] of (await decoded(file)).entries()) expect(distance(at(images, 1, v, 0, c), plane)).toBeLessThan(1e-6);
    }
  });

  test('without any randomness is the picture resized, which keeps a ramp a ramp', async () => {
    const red = at(await viewsOf(planOf([0])), 1, 0, 0, 0);
    // Inside, half as many pixels of twice the slope; the filter is cut at the border.
    for (let x = 2; x < size - 2; x++) expect(red[8 * size + x]! * 255).toBeCloseTo(8 * (2 * x + 0.5), -0.5);
  });

  test('is normalized last: (x - mean) / deviation of each channel', async () => {
    const plain = await viewsOf(planOf([0]));
    const [mean, deviation] = [
      [0.5, 0.25, 0.125],
      [0.5, 2, 0.1],
    ];
    const images = await viewsOf(planOf([0]), { mean, deviation });
    for (const c of [0, 1, 2])
      expect(
        distance(
          at(images, 1, 0, 0, c),
          at(plain, 1, 0, 0, c).map((v) => (v - mean[c]!) / deviation[c]!),
        ),
      ).toBeLessThan(1e-6);
  });

  test('is only mirrored by a flip', async () => {
    const [plain, flipped] = [await viewsOf(planOf([0, 2])), await viewsOf(planOf([0, 2]), { flipProbability: 1 })];
    const mirrored = plain.map((_, i) => plain[i - (i % size) + (size - 1 - (i % size))]!);
    expect(flipped).toEqual(mirrored);
  });

  test('has three equal channels when it is gray, with the luma of the picture', async () => {
    const [plain, gray] = [await viewsOf(planOf([2])), await viewsOf(planOf([2]), { grayscaleProbability: 1 })];
    const [r, g, b] = [0, 1, 2].map((c) => at(plain, 1, 0, 0, c));
    const luma = r!.map((v, i) => 0.2989 * v + 0.587 * g![i]! + 0.114 * b![i]!);
    for (const c of [0, 1, 2]) expect(distance(at(gray, 1, 0, 0, c), luma)).toBeLessThan(1e-6);
  });

  test('stays in [0, 1] before it is normalized', async () => {
    const images = await viewsOf(planOf(new Array(100).fill(2)), {
      jitterProbability: 1,
      brightness: 0.8,
      contrast: 0.8,
      saturation: 0.8,
      hue: 0.5,
    });
    expect(images.every((v) => v >= 0 && v <= 1)).toBe(true);
  });
});

describe('over 3000 views', () => {
  const many = planOf(new Array(1000).fill(0));
  const flat = planOf(new Array(1000).fill(1));
  const each = <T>(images: Float32Array, of: (view: Float32Array[]) => T): T[] =>
    [0, 1, 2].flatMap((v) => Array.from({ length: 1000 }, (_, i) => of([0, 1, 2].map((c) => at(images, 1000, v, i, c)))));
  const moments = (x: number[]) => {
    const array = Float32Array.from(x);
    return { mean: meanOf(array), deviation: Math.sqrt(varianceOf(array)), low: Math.min(...x), high: Math.max(...x) };
  };

  test('half are flipped', async () => {
    const flips = each(await viewsOf(many, { flipProbability: 0.5 }), ([r]) => (r![0]! > r![size - 1]! ? 1 : 0));
    expect(Math.abs(moments(flips).mean - 0.5)).toBeLessThan(0.04);
  });

  test('a fifth are gray and the switch is its own draw', async () => {
    const views = each(await viewsOf(many, { flipProbability: 0.5, grayscaleProbability: 0.2 }), ([r, g]) => ({
      flip: r![0]! > r![size - 1]!,
      gray: distance(r!, g!) < 1e-6,
    }));
    const share = (list: typeof views) => list.filter(({ gray }) => gray).length / list.length;
    // A gray ramp still rises to the right, or falls when flipped.
    expect(Math.abs(share(views) - 0.2)).toBeLessThan(0.03);
    expect(Math.abs(share(views.filter(({ flip }) => flip)) - 0.2)).toBeLessThan(0.05);
  });

  test('brightness is uniform in [0.2, 1.8]', async () => {
    const factors = each(await viewsOf(flat, { jitterProbability: 1, brightness: 0.8 }), ([r]) => (meanOf(r!) * 255) / 100);
    const { mean, deviation, low, high } = moments(factors);
    expect(Math.abs(mean - 1)).toBeLessThan(0.03);
    expect(Math.abs(deviation - 1.6 / Math.sqrt(12))).toBeLessThan(0.02);
    expect([low >= 0.199, low < 0.21, high > 1.79, high <= 1.801]).toEqual([true, true, true, true]);
  });

  test('jitter happens as often as asked', async () => {
    const changed = each(await viewsOf(flat, { jitterProbability: 0.8, brightness: 0.8 }), ([r]) =>
      Math.abs(r![0]! * 255 - 100) > 0.01 ? 1 : 0,
    );
    expect(Math.abs(moments(changed).mean - 0.8)).toBeLessThan(0.03);
  });

  test('contrast, saturation and hue leave a flat gray picture as it is', async () => {
    const images = await viewsOf(flat, { jitterProbability: 1, contrast: 0.8, saturation: 0.8, hue: 0.2 });
    // torchvision's luma weights sum to 0.9999.
    expect(images.every((v) => Math.abs(v * 255 - 100) < 0.05)).toBe(true);
  });

  test('the area of a crop is uniform in its range and its aspect log-uniform', async () => {
    // The slopes of the two ramps give width and height of the crop, in parts of the picture: red 8 a pixel to the right, green 8 down.
    const images = await viewsOf(many, { cropAreaMin: 0.2, cropAreaMax: 0.6, cropAspectMax: 4 / 3 });
    const crops = each(images, ([r, g]) => {
      const middle = 8 * size;
      const width = ((r![middle + 12]! - r![middle + 4]!) * 255) / 8 / 8 / 2;
      const height = ((g![12 * size + 8]! - g![4 * size + 8]!) * 255) / 8 / 8 / 2;
      return { area: width * height, aspect: Math.log(width / height) };
    });
    const area = moments(crops.map((crop) => crop.area));
    expect(Math.abs(area.mean - 0.4)).toBeLessThan(0.02);
    expect(Math.abs(area.deviation - 0.4 / Math.sqrt(12))).toBeLessThan(0.015);
    const aspect = moments(crops.map((crop) => crop.aspect));
    expect(Math.abs(aspect.mean)).toBeLessThan(0.02);
    // Crops are whole pixels, which widens the distribution a little.
    expect(Math.abs(aspect.deviation - (2 * Math.log(4 / 3)) / Math.sqrt(12))).toBeLessThan(0.02);
  });
});

describe('the batch', () => {
  const random: Partial<NativeAugment> = {
    cropAreaMin: 0.08,
    cropAspectMax: 4 / 3,
    flipProbability: 0.5,
    jitterProbability: 0.8,
    brightness: 0.8,
    contrast: 0.8,
    saturation: 0.8,
    hue: 0.2,
    grayscaleProbability: 0.2,
  };
  const plan = planOf([0, 1, 2, 0, 2, 1, 0], [2, 0, 1, 0, 0, 2, 1]);

  test('lies as x~1 of all pairs, x~2 of all pairs, y~ of all pairs', async () => {
    const [x, y] = [
      [0, 1, 2],
      [2, 0, 1],
    ];
    const images = await viewsOf(planOf(x, y));
    for (const i of [0, 1, 2]) {
      for (const [v, file] of [
        [0, x[i]!],
        [1, x[i]!],
        [2, y[i]!],
      ] as const)
        expect(at(images, 3, v, i)).toEqual(at(await viewsOf(planOf([file])), 1, 0, 0));
    }
  });

  test('has the same bytes from 1, 2, 4 and 8 threads, again and again', async () => {
    const expected = Buffer.from((await viewsOf(plan, random, 1)).buffer);
    for (const threads of [2, 4, 8]) {
      await open(threads, async (source) => {
        for (let round = 0; round < 3; round++) {
          await source.fill({ ...plan, step: 9 }, { ...plainAugment, ...random });
          expect(Buffer.from((await source.fill(plan, { ...plainAugment, ...random })).images.buffer).equals(expected)).toBe(true);
        }
      });
    }
  });

  test('differs for another step or seed, from pair to pair and from view to view', async () => {
    const same = planOf([0, 0]);
    const images = await viewsOf(same, random);
    const views = [0, 1, 2].flatMap((v) => [0, 1].map((i) => at(images, 2, v, i)));
    for (const [i, a] of views.entries()) for (const b of views.slice(i + 1)) expect(distance(a, b)).toBeGreaterThan(0.01);
    for (const change of [{ step: 2 }, { seed: 2n }])
      expect(distance(await viewsOf({ ...same, ...change }, random), images)).toBeGreaterThan(0.01);
  });

  test('carries the targets of its pairs', async () => {
    expect(await open(1, async (source) => (await source.fill(plan, plainAugment)).targets)).toEqual(plan.target);
  });

  test('is refused for settings that are no settings', async () => {
    const wrong: [keyof NativeAugment, number][] = [
      ['cropAreaMin', 0],
      ['cropAreaMin', 1.5],
      ['cropAreaMax', 2],
      ['cropAspectMax', 0.5],
      ['flipProbability', 1.1],
      ['hue', 0.6],
      ['brightness', Number.NaN],
    ];
    for (const [name, value] of wrong)
      await expect((async () => viewsOf(plan, { [name]: value }))(), name).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});
