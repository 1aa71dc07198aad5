// InfoNCE (paper, equation 1) where its value is known: orthogonal pairs, far clusters, temperatures at the ends. Figure N3 has the rest.
import { describe, expect, test } from 'vitest';
import type { LayerRecord } from '../lib/models/layers.ts';
import { type EngineOptions, engineFor } from './support.ts';

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

  test('fewer than two pairs, an odd number of rows and a temperature of 0 are refused', async () => {
    for (const [batch, temperature] of [
      [2, 0.1],
      [7, 0.1],
      [4, 0],
    ] as const)
      await expect((async () => make(batch, 4, temperature))()).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
  });
});
