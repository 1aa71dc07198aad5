// InfoNCE (paper, equation 1) where its value is known: equal rows, far clusters, exchanged views, few and many rows.
import { describe, expect, test } from 'vitest';
import type { LayerRecord } from '../lib/models/layers.ts';
import { type EngineOptions, engineFor, numbers } from './support.ts';

function layersOf(channels: number, temperature: number, normalized = false): LayerRecord[] {
  const layers: LayerRecord[] = [{ op: 'input', name: 'images', channels, height: 1, width: 1 }];
  if (normalized) layers.push({ op: 'l2Normalize', name: 'z', input: 'images' });
  layers.push({ op: 'infoNce', name: 'inter', input: normalized ? 'z' : 'images', temperature, weight: 1 });
  return layers;
}

const none = new Float32Array();
const devices: Pick<EngineOptions, 'device' | 'precision'>[] = [
  { device: 'cpu', precision: 'fp32' },
  { device: 'reference', precision: 'fp64' },
];

describe.each(devices)('on $device in $precision', ({ device, precision }) => {
  const make = (batch: number, channels: number, temperature: number, normalized = false) =>
    engineFor({ layers: layersOf(channels, temperature, normalized), batch, device: device!, precision: precision! });
  const lossOf = async (rows: Float32Array, batch: number, temperature: number) =>
    (await (await make(batch, rows.length / batch, temperature)).forward(rows, none))[0]!;

  test.each([4, 6, 64, 130])('%i equal rows give ln(rows - 1) and a finite gradient', async (rows) => {
    for (const normalized of [false, true]) {
      const engine = await make(rows, 8, 0.1, normalized);
      const [loss] = await engine.forward(new Float32Array(rows * 8).fill(0.25), none);
      expect(loss).toBeCloseTo(Math.log(rows - 1), 5);
      await engine.backward();
      const gradient = await engine.read('valueGradient', 'images').catch(() => none);
      expect(gradient.every((g) => Number.isFinite(g) && Math.abs(g) < 1e-5)).toBe(true);
    }
  });

  test('orthogonal pairs give ln(1 + (rows - 2) exp(-1 / temperature))', async () => {
    for (const [pairs, temperature] of [
      [2, 1],
      [5, 0.5],
      [40, 0.3],
    ] as const) {
      const rows = new Float32Array(2 * pairs * pairs);
      for (let i = 0; i < 2 * pairs; i++) rows[i * pairs + (i % pairs)] = 1;
      expect(await lossOf(rows, 2 * pairs, temperature)).toBeCloseTo(Math.log(1 + (2 * pairs - 2) * Math.exp(-1 / temperature)), 5);
    }
  });

  test('two clusters far apart give ln(rows / 2 - 1 + (rows / 2) exp(-2 / temperature))', async () => {
    const [pairs, temperature] = [6, 0.4];
    const rows = new Float32Array(2 * pairs * 3);
    for (let i = 0; i < 2 * pairs; i++) rows[i * 3] = i % 2 === 0 ? 1 : -1;
    const half = pairs;
    expect(await lossOf(rows, 2 * pairs, temperature)).toBeCloseTo(Math.log(half - 1 + half * Math.exp(-2 / temperature)), 5);
  });

  test('a low temperature leaves the nearest other row alone, a high one makes all alike', async () => {
    const rows = Float32Array.of(1, 0, 0, 1, 0.6, 0.8, 0.8, 0.6);
    // Rows 0 and 2 are a pair with 0.6; row 3 is nearer to 0 (0.8), rows 2 and 3 are near (0.96).
    const low = 0.01;
    const excess = (0.8 - 0.6 + (0.8 - 0.6) + (0.96 - 0.6) + (0.96 - 0.6)) / 4;
    expect((await lossOf(rows, 4, low)) * low).toBeCloseTo(excess, 5);
    expect(await lossOf(rows, 4, 1e6)).toBeCloseTo(Math.log(3), 5);
  });

  test('exchanging the two views changes nothing', async () => {
    const rows = numbers(20 * 7, 61, 1);
    const exchanged = Float32Array.of(...rows.subarray(70), ...rows.subarray(0, 70));
    const [a, b] = [await lossOf(rows, 20, 0.2), await lossOf(exchanged, 20, 0.2)];
    expect(Math.abs(a - b)).toBeLessThan(1e-6 * a);
  });

  test('the gradient is orthogonal to each row before it was normalized', async () => {
    const [batch, channels] = [12, 9];
    const layers: LayerRecord[] = [
      { op: 'input', name: 'images', channels, height: 1, width: 1 },
      // The identity, for its parameter's gradient shows the gradient of every row on every device: sum over rows of gradient x row.
      { op: 'linear', name: 'linear', input: 'images', out: channels, bias: false },
      { op: 'l2Normalize', name: 'z', input: 'linear' },
      { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.2, weight: 1 },
    ];
    const engine = await engineFor({ layers, batch, device: device!, precision: precision! });
    await engine.write(
      'parameter',
      'linear.weight',
      Float32Array.from({ length: channels ** 2 }, (_, i) => (i % (channels + 1) === 0 ? 1 : 0)),
    );
    const rows = numbers(batch * channels, 62);
    await engine.forward(rows, none);
    await engine.backward();
    const gradient = await engine.read('gradient', 'linear.weight');
    let trace = 0;
    for (let i = 0; i < channels; i++) trace += gradient[i * (channels + 1)]!;
    expect(Math.abs(trace) / Math.hypot(...gradient)).toBeLessThan(1e-5);
    if (device === 'cpu') return;
    const at = await engine.read('valueGradient', 'images');
    for (let row = 0; row < batch; row++) {
      const [h, g] = [rows.subarray(row * channels, (row + 1) * channels), at.subarray(row * channels, (row + 1) * channels)];
      expect(Math.abs(h.reduce((sum, x, i) => sum + x * g[i]!, 0)) / (Math.hypot(...h) * Math.hypot(...g))).toBeLessThan(1e-6);
    }
  });

  test('fewer than two pairs, an odd number of rows and a temperature of 0 are refused', async () => {
    for (const [batch, temperature] of [
      [2, 0.1],
      [7, 0.1],
      [4, 0],
    ] as const)
      await expect((async () => make(batch, 4, temperature))()).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
  });
});

test('4096 rows need memory for rows x width, not rows x rows', async () => {
  const [rows, channels] = [4096, 32];
  const engine = await engineFor({ layers: layersOf(channels, 0.1, true), batch: rows });
  expect(engine.sizeBytes).toBeGreaterThan(0);
  expect(engine.sizeBytes).toBeLessThan(rows * rows);
  const double = await engineFor({ layers: layersOf(channels, 0.1, true), batch: 2 * rows });
  expect(double.sizeBytes / engine.sizeBytes).toBeLessThan(2.2);
  const [loss] = await engine.forward(numbers(rows * channels, 63), none);
  // Random directions: the mean of exp(cos / temperature) over the sphere, by its second moment, is near exp(1 / (2 channels temperature^2)).
  expect(loss).toBeGreaterThan(Math.log(rows));
  expect(loss).toBeLessThan(Math.log(rows) + 0.5 / (channels * 0.01) + 0.2);
  await engine.backward();
});
