// InfoNCE (paper, equation 1) in double where rows are copies of a few: exact for any number of rows, in time rows x copies.
// And an engine that shows the gradient of every row.
import { philox } from '../../lib/data/random.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import type { NativeEngine } from '../../lib/native.ts';
import { type EngineOptions, engineFor } from '../support.ts';

/** Rows, of which row j is a copy of `copies[of[j]]`. */
export interface Rows {
  width: number;
  copies: readonly Float32Array[];
  of: Uint16Array;
}

export interface Loss {
  loss: number;
  /** rows x width. */
  gradient: Float64Array;
}

/** `count` directions of length 1, rounded to fp32, given to the rows by keyed draws. Row j + pairs is the other view of row j. */
export function drawRows(pairs: number, width: number, count: number, key: number): Rows {
  const copies = Array.from({ length: count }, (_, c) => {
    const raw = Float64Array.from({ length: width }, (_, d) => philox(BigInt(key), 7, c, d, 1)[0] / 2 ** 31 - 1);
    return Float32Array.from(raw, (v) => v / Math.hypot(...raw));
  });
  return { width, copies, of: Uint16Array.from({ length: 2 * pairs }, (_, j) => philox(BigInt(key), 7, j, 0, 2)[0] % count) };
}

export function flat({ width, copies, of }: Rows): Float32Array {
  const out = new Float32Array(of.length * width);
  of.forEach((c, j) => {
    out.set(copies[c]!, j * width);
  });
  return out;
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

/**
 * L = mean over j of ( log sum over k != j of exp(s[j,k]) - s[j,p(j)] ) and dL/dz. With m[c] rows of copy c, all rows of a copy have one
 * denominator Z[a] = sum over c of (m[c] - [c = a]) exp(s[a,c]), and one sum of what pushes them.
 */
export function copiesLoss({ width, copies, of }: Rows, temperature: number): Loss {
  const [rows, half] = [of.length, of.length / 2];
  const many = copies.map(() => 0);
  for (const c of of) many[c]!++;
  const s = copies.map((a) => copies.map((b) => dot(a, b) / temperature));
  const logs = s.map((row, a) => {
    const others = row.map((v, c) => ({ v, m: many[c]! - (c === a ? 1 : 0) })).filter(({ m }) => m > 0);
    const top = Math.max(...others.map(({ v }) => v));
    return top + Math.log(others.reduce((sum, { v, m }) => sum + m * Math.exp(v - top), 0));
  });
  const pushes = s.map((row, a) => {
    const sum = new Float64Array(width);
    row.forEach((v, c) => {
      const weight = (many[c]! - (c === a ? 1 : 0)) * (Math.exp(v - logs[a]!) + Math.exp(v - logs[c]!));
      for (let d = 0; d < width; d++) sum[d]! += weight === 0 ? 0 : weight * copies[c]![d]!;
    });
    return sum;
  });
  let loss = 0;
  const gradient = new Float64Array(rows * width);
  for (let j = 0; j < rows; j++) {
    const [a, p] = [of[j]!, of[(j + half) % rows]!];
    loss += (logs[a]! - s[a]![p]!) / rows;
    for (let d = 0; d < width; d++) gradient[j * width + d] = (pushes[a]![d]! - 2 * copies[p]![d]!) / (rows * temperature);
  }
  return { loss, gradient };
}

/** Rows -> identity -> [normalized ->] InfoNCE; the identity's result keeps its gradient on every backend. */
export async function infoNceEngine(
  { width, of }: Pick<Rows, 'width' | 'of'>,
  temperature: number,
  options: Pick<EngineOptions, 'device' | 'precision'> & { normalized?: boolean } = {},
): Promise<NativeEngine> {
  const layers: LayerRecord[] = [
    { op: 'input', name: 'images', channels: width, height: 1, width: 1 },
    { op: 'linear', name: 'rows', input: 'images', out: width, bias: false },
  ];
  if (options.normalized) layers.push({ op: 'l2Normalize', name: 'z', input: 'rows' });
  layers.push({ op: 'infoNce', name: 'inter', input: options.normalized ? 'z' : 'rows', temperature, weight: 1 });
  const engine = await engineFor({ ...options, layers, batch: of.length });
  const identity = Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
  await engine.write('parameter', 'rows.weight', identity);
  return engine;
}

/** Loss and gradient of each row. */
export async function engineLoss(engine: NativeEngine, rows: Float32Array): Promise<{ loss: number; gradient: Float32Array }> {
  const [loss] = await engine.forward(rows, new Float32Array());
  await engine.backward();
  return { loss: loss!, gradient: await engine.read('valueGradient', 'rows') };
}
