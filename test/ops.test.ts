// Every op against its plain loops in double, and the plain loops against finite differences.
// Buffers are poisoned: each case runs first on NaN, so a value that is read before it is written shows.
import { describe, expect, test } from 'vitest';
import type { NativeEngine } from '../lib/native.ts';
import { native } from '../lib/native.ts';
import { type OpCase, opCases } from './cases.ts';
import { distance, engineFor, numbers } from './support.ts';

interface Sizes {
  input: number;
  targets: number;
  /** Of the last layer; 0 when it is a loss. */
  output: number;
}

function sizesOf(c: OpCase): Sizes {
  const input = c.layers[0]!;
  if (input.op !== 'input') throw new Error('the first record is the input');
  const last = c.layers.at(-1)!;
  return {
    input: c.batch * input.channels * input.height * input.width,
    targets: last.op === 'squaredError' ? c.batch : 0,
    output: last.op === 'squaredError' || last.op === 'infoNce' ? 0 : -1,
  };
}

/** Keyed, generic values for every parameter; a norm's scale stays away from 0. */
async function setParameters(engine: NativeEngine): Promise<void> {
  for (const [index, { name, dims }] of engine.parameters.entries()) {
    const values = numbers(
      dims.reduce((a, b) => a * b, 1),
      100 + index,
      0.8,
    );
    await engine.write('parameter', name, dims.length === 1 && !name.includes('bias') ? values.map((v) => v + 1.2) : values);
  }
}

interface Outcome {
  losses: number[];
  output: Float32Array | undefined;
  gradients: Map<string, Float32Array>;
  statistics: Map<string, Float32Array>;
}

async function outcome(engine: NativeEngine, c: OpCase, input: Float32Array, targets: Float32Array): Promise<Outcome> {
  const last = c.layers.at(-1)!;
  const isLoss = sizesOf(c).output === 0;
  const losses = await engine.forward(input, targets);
  const output = isLoss ? undefined : await engine.read('value', last.name);
  if (output) await engine.write('valueGradient', last.name, numbers(output.length, 77));
  await engine.backward();
  const gradients = new Map<string, Float32Array>();
  if (!isLoss || c.layers[1]!.op === last.op)
    gradients.set('images', await engine.read('valueGradient', 'images').catch(() => new Float32Array()));
  for (const { name } of engine.parameters) gradients.set(name, await engine.read('gradient', name));
  const statistics = new Map<string, Float32Array>();
  for (const { name } of engine.statistics) statistics.set(name, await engine.read('statistic', name));
  return { losses, output, gradients, statistics };
}

async function resetStatistics(engine: NativeEngine): Promise<void> {
  for (const { name, dims } of engine.statistics) {
    await engine.write('statistic', name, new Float32Array(dims[0]!).fill(name.endsWith('var') ? 1 : 0));
  }
}

function compare(actual: Outcome, expected: Outcome, tolerance: number): void {
  for (const [i, loss] of expected.losses.entries())
    expect(Math.abs(actual.losses[i]! - loss) / Math.max(1e-6, Math.abs(loss))).toBeLessThan(tolerance);
  if (expected.output) expect(distance(actual.output!, expected.output), 'output').toBeLessThan(tolerance);
  for (const [name, gradient] of expected.gradients) {
    if (actual.gradients.get(name)!.length > 0)
      expect(distance(actual.gradients.get(name)!, gradient), `gradient of ${name}`).toBeLessThan(tolerance * 4);
  }
  for (const [name, value] of expected.statistics) expect(distance(actual.statistics.get(name)!, value), name).toBeLessThan(tolerance);
}

const devices = [
  { device: 'cpu', precision: 'fp32', tolerance: 3e-6 },
  ...(native().module.cpu.avx512 ? ([{ device: 'cpu', precision: 'bf16', tolerance: 2e-2 }] as const) : []),
  { device: 'reference', precision: 'fp32', tolerance: 3e-6 },
] as const;

describe.each(devices)('$device $precision gives what the plain loops give in double', ({ device, precision, tolerance }) => {
  test.each(opCases)('$name', async (c) => {
    const sizes = sizesOf(c);
    const input = numbers(sizes.input, 1);
    const targets = numbers(sizes.targets, 2);
    // bf16 keeps the sign of what it rounds, so kinks stay where they are only if the inputs are exact in bf16.
    if (precision === 'bf16') for (let i = 0; i < input.length; i++) input[i] = Math.round(input[i]! * 32) / 32;
    const plain = await engineFor({ ...c, device: 'reference', precision: precision === 'bf16' ? 'bf16' : 'fp64' });
    await setParameters(plain);
    const expected = await outcome(plain, c, input, targets);
    const engine = await engineFor({ ...c, device, precision });
    await setParameters(engine);
    await outcome(engine, c, new Float32Array(sizes.input).fill(Number.NaN), new Float32Array(sizes.targets).fill(Number.NaN));
    await resetStatistics(engine);
    compare(await outcome(engine, c, input, targets), expected, tolerance);
  });
});
