// What we compute is what the formulas say: ops and whole networks in double, in fp32 and in bf16, finite differences, InfoNCE where its value is known.
import { expect } from 'vitest';
import { comfaceGraph } from '../../lib/models/heads.ts';
import { backbone, embeddingWidth } from '../../lib/models/resnet.ts';
import { native } from '../../lib/native.ts';
import { type OpCase, opCases } from '../cases.ts';
import { engineFor } from '../support.ts';
import { direction, short, slope, slopeError, values, weightedSum } from './differences.ts';
import { figure } from './figure.ts';
import { distances, drawnCase, inputsOf, outcomeOf, parametersOf, seedOf } from './opruns.ts';
import { twin } from './twin.ts';

/** The greatest value seen, and where. */
class Worst {
  value = 0;
  where = 'nowhere';
  see(value: number, where: string): void {
    if (value > this.value) [this.value, this.where] = [value, where];
  }
}

const limits = { 'loops in double': 1e-12, 'loops in fp32': 1e-7, 'cpu fp32': 1e-7, 'cpu bf16': 1e-3 };
type Kind = keyof typeof limits;

/** Nearer to a kink than this, fp32 may take its other side. */
const kMargin = 2e-5;

/** One case against the twin: everything it computes, on every backend. */
async function compareCase(c: OpCase, worst: Record<Kind, Worst>): Promise<boolean> {
  const exact = await engineFor({ ...c, device: 'reference', precision: 'fp64' });
  for (let key = 1; key < 40; key++) {
    const inputs = inputsOf(c, 1000 * key);
    const parameters = parametersOf(exact, 1000 * key);
    const expected = twin(c, parameters, inputs.images, inputs.targets, seedOf);
    if (expected.margin < kMargin) continue;
    const run = async (kind: Kind, engine: typeof exact, against: Parameters<typeof distances>[1] = expected) => {
      const outcome = await outcomeOf(engine, c, parameters, inputs, expected.seed);
      for (const { part, value } of distances(outcome, against)) worst[kind].see(value, `${c.name}, ${part}`);
      engine.dispose();
      return outcome;
    };
    await run('loops in double', exact);
    await run('loops in fp32', await engineFor({ ...c, device: 'reference', precision: 'fp32' }));
    await run('cpu fp32', await engineFor(c));
    // In bf16 an inner relu flips here and there; whole networks have their own test.
    if (!native().module.cpu.avx512 || expected.margin < Number.POSITIVE_INFINITY) return true;
    const rounded = await engineFor({ ...c, device: 'reference', precision: 'bf16' });
    const same = await outcomeOf(rounded, c, parameters, inputs, expected.seed);
    rounded.dispose();
    await run('cpu bf16', await engineFor({ ...c, precision: 'bf16' }), same);
    return true;
  }
  exact.dispose();
  return false;
}

figure('N1 each op and its gradients are those of a float64 twin', { ci: 200, long: 10_000 }, async ({ count, say }) => {
  const worst = { 'loops in double': new Worst(), 'loops in fp32': new Worst(), 'cpu fp32': new Worst(), 'cpu bf16': new Worst() };
  let left = 0;
  const cases = [...opCases, ...Array.from({ length: count }, (_, key) => drawnCase(key))];
  for (const c of cases) if (!(await compareCase(c, worst))) left++;
  const all = Object.entries(worst) as [Kind, Worst][];
  const figures = all.map(([kind, { value, where }]) => `${kind} ${value.toExponential(1)} (${where})`);
  say(`${cases.length} graphs, worst NMSE: ${figures.join('; ')}; ${left} left out`);
  expect(left).toBe(0);
  for (const [kind, { value, where }] of all) expect(value, where).toBeLessThanOrEqual(limits[kind]);
});

figure('N2 finite differences of the whole network agree with its gradients', { ci: 1, long: 20 }, async ({ count, say }) => {
  const [pairs, size, width] = [2, 16, 16];
  const embedding = embeddingWidth('resnet18', width);
  const heads = { embedding, projection: { hidden: 32, out: 16 }, temperature: 0.5, interPersonal: 1, intraPersonal: 0.5 };
  const layers = comfaceGraph(backbone('resnet18', { size, width }), heads);
  const engine = await engineFor({ layers, batch: 3 * pairs, device: 'reference', precision: 'fp64' });
  const total = weightedSum(layers);
  const worst = new Worst();
  let kinks = 0;
  for (let round = 0; round < count; round++) {
    await engine.initialize(BigInt(3 + round));
    const images = values(3 * pairs * 3 * size * size, 31 + 10 * round);
    const targets = values(pairs, 32 + 10 * round, 4);
    for (const { name } of engine.parameters) {
      const value = short(await engine.read('parameter', name));
      const at = async (x: Float32Array) => {
        await engine.write('parameter', name, x);
        return total(await engine.forward(images, targets));
      };
      await at(value);
      await engine.backward();
      const gradient = await engine.read('gradient', name);
      // A relu that changes sides within the steps has no derivative: then two step sizes disagree, and another direction is taken.
      for (let turn = 0; ; turn++) {
        const d = direction(value.length, 33 + 10 * round + 1000 * turn);
        const found = await slope(at, value, d);
        const error = slopeError(found, gradient, d);
        if (error > 1e-4 && turn < 4 && Math.abs((await slope(at, value, d, 2)) - found) > 1e-4 * Math.abs(found)) {
          kinks++;
          continue;
        }
        worst.see(error, name);
        break;
      }
      worst.see(gradient.some((g) => g !== 0) ? 0 : 1, `no gradient of ${name}`);
      await at(value);
    }
  }
  say(
    `${count * engine.parameters.length} tensors, worst relative error ${worst.value.toExponential(1)} (${worst.where}), ${kinks} directions over a kink`,
  );
  expect(engine.parameters.length).toBe(66);
  expect(kinks).toBeLessThanOrEqual(10 * count);
  expect(worst.value, worst.where).toBeLessThanOrEqual(1e-3);
});
