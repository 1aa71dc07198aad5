// Puts a NaN into a tensor of a training and counts the steps until it stops.
import { philox } from '../../lib/data/random.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import { type NativeEngine, native, type Slot } from '../../lib/native.ts';
import { engineFor } from '../support.ts';

export interface Place {
  slot: Slot;
  name: string;
}

/** Everything that a step reads and keeps. */
export function places(engine: Pick<NativeEngine, 'parameters' | 'statistics'>): Place[] {
  const slots = ['parameter', 'firstMoment', 'secondMoment'] as const;
  return [
    ...engine.parameters.flatMap(({ name }) => slots.map((slot) => ({ slot, name }))),
    ...engine.statistics.map(({ name }) => ({ slot: 'statistic', name }) as const),
  ];
}

/** One number of the tensor, by `key`. */
export async function poison(engine: NativeEngine, { slot, name }: Place, key: number): Promise<void> {
  const values = await engine.read(slot, name);
  values[philox(5n, 7, key, 0, 0)[0] % values.length] = Number.NaN;
  await engine.write(slot, name, values);
}

/** Steps that are done before one is refused with NOT_FINITE; Infinity for more than `most`. Another rejection is passed on. */
export async function stepsUntilRefused(step: (turn: number) => Promise<unknown>, most = 3): Promise<number> {
  for (let turn = 0; turn <= most; turn++) {
    try {
      await step(turn);
    } catch (error) {
      if ((error as { code?: string }).code === 'NOT_FINITE') return turn;
      throw error;
    }
  }
  return Number.POSITIVE_INFINITY;
}

/** An engine with a way back to where it was. */
export async function restorable(
  layers: readonly LayerRecord[],
  batch: number,
): Promise<{ engine: NativeEngine; restore: () => Promise<void> }> {
  const engine = await engineFor({ layers, batch, threads: 1 });
  await engine.initialize(1n);
  const all = places(engine);
  const kept = await Promise.all(all.map(({ slot, name }) => engine.read(slot, name)));
  const restore = async () => {
    for (const [i, { slot, name }] of all.entries()) await engine.write(slot, name, kept[i]!);
  };
  return { engine, restore };
}

/** Runs `body` while `caught` is told of every engine that is made for training. */
export async function withEngines<T>(caught: (engine: NativeEngine) => void, body: () => Promise<T>): Promise<T> {
  const { module } = native();
  const create = module.createEngine;
  module.createEngine = async (library, graph) => {
    const engine = await create.call(module, library, graph);
    if (graph.training) caught(engine);
    return engine;
  };
  try {
    return await body();
  } finally {
    module.createEngine = create;
  }
}
