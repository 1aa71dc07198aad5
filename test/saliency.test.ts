// Eigen-CAM against a whole singular value decomposition written another way, the rules for its sign, and the map that a model gives.
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkTrainOptions } from '../lib/config.ts';
import { Model } from '../lib/model.ts';
import { backbone } from '../lib/models/backbone.ts';
import { native } from '../lib/native.ts';
import { saliencyPng } from '../lib/report/overlay.ts';
import { eigenCam, jet, overlay } from '../lib/report/saliency.ts';
import { plainAugment, planOf, runAugment, writePicture } from './faces.ts';
import { distance, engineFor, numbers, temporaryFolder } from './support.ts';
import { mapBySvd } from './svd.ts';

const grid = { channels: 24, height: 5, width: 4 };
const size = 40;
const activations = (seed: number) => numbers(grid.channels * grid.height * grid.width, seed, 3);
const mirrored = (values: Float32Array, width: number) => values.map((_, i) => values[i - (i % width) + (width - 1 - (i % width))]!);
const worst = (a: ArrayLike<number>, b: ArrayLike<number>) => Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]!)));

describe('Eigen-CAM', () => {
  test('is that of a whole singular value decomposition in double', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const values = activations(seed);
      expect(worst(eigenCam(values, grid, size).map, mapBySvd(values, grid, size))).toBeLessThan(1e-6);
    }
  });

  test('is known where one channel alone varies: it is that channel, from its mean up', () => {
    const values = new Float32Array(2 * 6).fill(0.5);
    values.set([0, 1, 2, 3, 4, 14], 6); // mean 4: only the last is above
    const { map } = eigenCam(values, { channels: 2, height: 1, width: 6 }, 6);
    const above = [0, 0, 0, 0, 0, 1];
    for (let y = 0; y < 6; y++) expect(worst(map.subarray(6 * y, 6 * y + 6), above)).toBeLessThan(1e-6);
  });

  test('keeps the end that is farther from zero, whichever sign the activations have', () => {
    const values = activations(3);
    const map = eigenCam(values, grid, size).map;
    expect(
      eigenCam(
        values.map((value) => -value),
        grid,
        size,
      ).map,
    ).toEqual(map);
    // A single dark spot counts as much as a single bright one.
    const spot = new Float32Array(16).fill(1);
    spot[5] = -9;
    const found = eigenCam(spot, { channels: 1, height: 4, width: 4 }, 4).map;
    expect(found.indexOf(Math.max(...found))).toBe(5);
  });

  test('of mirrored activations is the mirrored map', () => {
    const values = activations(4);
    const map = eigenCam(values, grid, size).map;
    expect(worst(eigenCam(mirrored(values, grid.width), grid, size).map, mirrored(map, size))).toBeLessThan(1e-6);
  });

  test('goes from 0 to 1, and is 0 where nothing varies or nothing is a number', () => {
    const { map } = eigenCam(activations(5), grid, size);
    expect(Math.min(...map)).toBe(0);
    expect(Math.max(...map)).toBeCloseTo(1, 6);
    for (const value of [0, 7, Number.NaN, Number.POSITIVE_INFINITY])
      expect(eigenCam(activations(1).fill(value), grid, size).map.every((v) => v === 0)).toBe(true);
  });

  test('takes what is not a number for 0', () => {
    const [broken, zero] = [activations(6), activations(6)];
    broken[17] = Number.NaN;
    zero[17] = 0;
    expect(eigenCam(broken, grid, size).map).toEqual(eigenCam(zero, grid, size).map);
  });

  test('is scaled bilinearly with pixels as areas', () => {
    const { map } = eigenCam(Float32Array.of(0, 0, 0, 9), { channels: 1, height: 1, width: 4 }, 8);
    // The grid is 0 0 0 1; eighths lie at -0.25, 0.25, ... of it, the last beyond its middle.
    expect(worst(map.subarray(0, 8), [0, 0, 0, 0, 0, 0.25, 0.75, 1])).toBeLessThan(1e-6);
  });

  test('finds the first vector where the second is nearly as long', () => {
    // Two channels of equal shape and 1 + 1e-6 of the length, orthogonal.
    const values = Float32Array.of(3, -3, 0, 0, 0, 0, 3 * (1 - 1e-6), -3 * (1 - 1e-6));
    const { map } = eigenCam(values, { channels: 2, height: 2, width: 2 }, 2);
    const [a, , c] = map as unknown as [number, number, number];
    expect(Math.max(a, map[1]!)).toBeCloseTo(1, 4);
    expect(c).toBeCloseTo(0, 3);
  });
});

describe('an overlay', () => {
  test('is half the colors of the map, half the picture, as bright as can be', () => {
    expect([0, 0.125, 0.375, 0.5, 0.625, 0.875, 1].map(jet)).toEqual([
      ...[
        [0, 0, 0.5],
        [0, 0, 1],
        [0, 1, 1],
        [0.5, 1, 0.5],
        [1, 1, 0],
        [1, 0, 0],
        [0.5, 0, 0],
      ],
    ]);
    const mixed = overlay(Uint8Array.of(0, 0, 0, 255, 0, 51), { width: 2, height: 1 }, { size: 2, map: Float32Array.of(0, 1, 0, 1) });
    // (0, 0, 0.25) and (0.75, 0, 0.1), over 0.75.
    expect([...mixed]).toEqual([0, 0, 85, 255, 0, 34]);
  });
});

describe('a model', () => {
  const design = { backbone: 'resnet18', width: 16, size: 64, augment: checkTrainOptions({ data: 'a', out: 'b' }).augment } as const;
  const options = { device: 'cpu', precision: 'fp32', threads: 1 } as const;
  const make = async (device: 'cpu' | 'reference' = 'cpu') => {
    const model = await Model.from(design, { seed: 3 }, { ...options, device });
    onTestFinished(() => model.dispose());
    return model;
  };
  const picture = (folder: string, name = 'a.jpg', edge = 64) =>
    writePicture(join(folder, name), edge, (x, y) => [
      (x * 200) / edge,
      (y * 250) / edge,
      Math.hypot(x - edge / 3, y - edge / 2) < edge / 6 ? 250 : 20,
    ]);

  test('maps the last block of its backbone', async () => {
    const file = await picture(temporaryFolder());
    const layers = backbone('resnet18', design).slice(0, -1);
    const engine = await engineFor({ layers, batch: 1, training: false, threads: 1 });
    await engine.initialize(3n);
    const source = native().module.openFiles([file], 64, 1, 0);
    const { mean, deviation } = runAugment;
    const { images } = await source.fill(planOf([0]), { ...plainAugment, mean, deviation });
    source.dispose();
    await engine.forward(images.slice(0, 3 * 64 * 64), new Float32Array());
    const values = await engine.read('value', 'layer4.1.out');
    expect(values).toHaveLength(128 * 2 * 2);
    const { size: edge, map } = await (await make()).saliency(file);
    expect([edge, map.length]).toEqual([64, 64 * 64]);
    expect(worst(map, mapBySvd(values, { channels: 128, height: 2, width: 2 }, 64))).toBeLessThan(1e-4);
  });

  test('that is a vision transformer maps the patches after the first norm of its last block, without the class token', async () => {
    const file = await picture(temporaryFolder());
    const tokens = { ...design, backbone: 'vit_b_16' } as const;
    const layers = backbone('vit_b_16', design);
    const until = layers.slice(0, layers.findIndex(({ name }) => name === 'blocks.11.norm1') + 1);
    const engine = await engineFor({ layers: until, batch: 1, training: false, threads: 1 });
    await engine.initialize(3n);
    const source = native().module.openFiles([file], 64, 1, 0);
    const values = await engine.embed(source, Uint32Array.of(0), 'blocks.11.norm1', runAugment);
    source.dispose();
    expect(values).toHaveLength(192 * 17);
    const patches = Float32Array.from({ length: 192 * 16 }, (_, i) => values[Math.floor(i / 16) * 17 + 1 + (i % 16)]!);
    const model = await Model.from(tokens, { seed: 3 }, options);
    onTestFinished(() => model.dispose());
    const { size: edge, map } = await model.saliency(file);
    expect(edge).toBe(64);
    expect(worst(map, mapBySvd(patches, { channels: 192, height: 4, width: 4 }, 64))).toBeLessThan(1e-4);
  });

  test('that is of PCL maps the last of its convolutions, which have fewer channels than an embedding has numbers', async () => {
    const file = await picture(temporaryFolder());
    const until = backbone('pcl', design).slice(0, -1);
    const engine = await engineFor({ layers: until, batch: 1, training: false, threads: 1 });
    await engine.initialize(3n);
    const source = native().module.openFiles([file], 64, 1, 0);
    const values = await engine.embed(source, Uint32Array.of(0), 'layer3_2_exp.3', runAugment);
    source.dispose();
    expect(values).toHaveLength(32 * 4 * 4);
    const model = await Model.from({ ...design, backbone: 'pcl' }, { seed: 3 }, options);
    onTestFinished(() => model.dispose());
    expect(model.width).toBe(32 * 4 * 4);
    expect(worst((await model.saliency(file)).map, mapBySvd(values, { channels: 32, height: 4, width: 4 }, 64))).toBeLessThan(1e-4);
  });

  test('reads only a last block from an engine, whole; another image is refused, and a batch may be larger than what is asked for', async () => {
    const file = await picture(temporaryFolder());
    const layers = backbone('resnet18', design).slice(0, -1);
    const source = native().module.openFiles([file, file], 64, 1, 0);
    onTestFinished(() => source.dispose());
    const found = [];
    for (const batch of [1, 4]) {
      const engine = await engineFor({ layers, batch, training: false, threads: 1 });
      await engine.initialize(3n);
      found.push(await engine.embed(source, Uint32Array.of(0, 1), 'layer4.1.out', runAugment));
      await expect(engine.embed(source, Uint32Array.of(0), 'layer1.0.out', runAugment)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    }
    expect(found[0]).toHaveLength(2 * 128 * 2 * 2);
    expect(distance(found[1]!, found[0]!)).toBeLessThan(1e-5);
    expect(found[0]!.subarray(512)).toEqual(found[0]!.subarray(0, 512));
  });

  test('gives the same map each time, after other weights and back, and on the plain loops', async () => {
    const file = await picture(temporaryFolder());
    const model = await make();
    const first = await model.saliency(file);
    expect(await model.saliency(file)).toEqual(first);
    expect(await (await make()).saliency(file)).toEqual(first);
    expect(distance((await (await make('reference')).saliency(file)).map, first.map)).toBeLessThan(1e-3);
  });

  test('follows load(), which its other networks do, too', async () => {
    const file = await picture(temporaryFolder());
    const [a, b] = [await make(), await Model.from(design, { seed: 4 }, options)];
    onTestFinished(() => b.dispose());
    const [own, other] = [await a.saliency(file), await b.saliency(file)];
    expect(distance(own.map, other.map)).toBeGreaterThan(0.01);
    const { readWeights } = await import('../lib/train/state.ts');
    const engine = await engineFor({ layers: backbone('resnet18', design), batch: 1, training: false, threads: 1 });
    await engine.initialize(4n);
    await a.load(await readWeights(engine, 0));
    expect(await a.saliency(file)).toEqual(other);
  });

  test('draws it over the picture, whose size and shape stay up to 1024 pixels', async () => {
    const folder = temporaryFolder();
    const model = await make();
    const png = await saliencyPng(model, await picture(folder));
    expect(await sharp(png).metadata()).toMatchObject({ format: 'png', width: 64, height: 64 });
    const wide = join(folder, 'wide.jpg');
    await sharp({ create: { width: 2000, height: 500, channels: 3, background: '#804020' } })
      .jpeg()
      .toFile(wide);
    expect(await sharp(await saliencyPng(model, wide)).metadata()).toMatchObject({ width: 1024, height: 256 });
  });

  test('names a picture that is missing or none, and what is no model', async () => {
    const folder = temporaryFolder();
    const model = await make();
    const file = join(folder, 'none.jpg');
    for (const call of [() => model.saliency(file), () => saliencyPng(model, file)])
      await expect(call()).rejects.toMatchObject({
        code: expect.stringMatching(/IO|CORRUPT_FILE/),
        message: expect.stringContaining(file),
      });
    await expect(saliencyPng({} as Model, file)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      hint: expect.stringContaining('loadModel'),
    });
    model.dispose();
    await expect(model.saliency(file)).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect((await make()).saliency(file, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
  });
});
