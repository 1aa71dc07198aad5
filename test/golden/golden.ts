// Reads the goldens of make.py and vit.py and measures how far a tensor is from one; what is stored as a sketch is measured by its projections.
import { readFileSync } from 'node:fs';
import type { BackboneName } from '../../lib/models/backbone.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import type { TransformerDesign } from '../../lib/models/vit.ts';
import { decodeSafetensors } from '../../lib/weights/safetensors.ts';
import { kProjections, sketch } from './keyed.ts';

interface NetCase {
  net: BackboneName;
  size: number;
  /** Scale of the norms that end a residual branch. */
  residual: number;
}

/** Of one op on pictures. */
export type TokenOpCase = { key: string; channels: number; height: number; width: number; batch: number } & (
  | { op: 'tokens' }
  | { op: 'linear'; out: number }
  | { op: 'layerNorm'; eps: number }
  | { op: 'gelu'; quick: boolean }
  | { op: 'attention'; heads: number }
);

export interface HeadCase {
  pairs: number;
  temperature: number;
  interPersonal: number;
  intraPersonal: number;
}

export interface Cases {
  blocks: (Omit<NetCase, 'residual'> & { block: string; channels: number; batch: number })[];
  nets: (NetCase & { width: number; batch: number })[];
  tokenOps: TokenOpCase[];
  transformers: (Required<TransformerDesign> & { key: string; size: number; batch: number })[];
  infoNce: { pairs: number; channels: number; temperature: number }[];
  heads: (HeadCase & { embedding: number; hidden: number; out: number })[];
  adam: { weightDecay: number; learningRate: number; halveAtEpoch: number; steps: number }[];
  steps: (NetCase &
    HeadCase & {
      key: string;
      width: number;
      projection: { hidden: number; out: number };
      learningRate: number;
      halveAtEpoch: number;
      epsilon: number;
      /** How the plain loops run it. Not the ResNet-50: one after the other in float, their sums of 12,288 values are 1.2e-5 off in a loss. */
      plainLoops?: 'fp32' | 'fp64';
      steps: number;
    })[];
  augment: ({ name: string; size: number } & Record<string, number>)[];
}

const read = (name: string) => readFileSync(new URL(name, import.meta.url));

export const cases = JSON.parse(read('cases.json').toString()) as Cases;

/** torchvision's ResNet-50: type and shape by name. */
export const torchvisionNames = (): Map<string, [string, number[]]> =>
  new Map(Object.entries(JSON.parse(read('resnet50.json').toString())));

/** timm's ViT-B/16 without its classifier: shape by name. */
export const timmNames = (): Record<string, number[]> => JSON.parse(read('vit.json').toString());

export const picture = new URL('picture.jpg', import.meta.url).pathname;

export type NetDesign = Pick<NetCase, 'net' | 'residual'>;

/** The scale of a norm: that of the case if it ends a residual branch; make.py (residual_norms) states the same. */
export function normScale({ net, residual }: NetDesign, name: string): number {
  const last = net === 'resnet18' || net === 'resnet34' ? 'bn2.weight' : 'bn3.weight';
  return name.startsWith('layer') && name.endsWith(last) ? residual : 1;
}

/** The records of one block, with an input of its own. */
export function blockOf(layers: readonly LayerRecord[], block: string, channels: number, size: number): LayerRecord[] {
  const own = layers.filter(({ name }) => name.startsWith(`${block}.`));
  const [first] = own;
  if (first?.op !== 'conv') throw new Error(`${block} begins with no convolution`);
  return [{ op: 'input', name: first.input, channels, height: size, width: size }, ...own];
}

/** The records of an op case, with an input of its own. */
export function tokenOpOf({ op, channels, height, width, ...settings }: TokenOpCase): LayerRecord[] {
  const input: LayerRecord = { op: 'input', name: 'images', channels, height, width };
  const base = { name: 'op', input: 'images' } as const;
  const more = op === 'tokens' ? { classToken: true, positions: true } : op === 'linear' ? { bias: true } : {};
  return [input, { op, ...base, ...more, ...settings } as LayerRecord];
}

/** Squares of a difference and of what it is relative to. */
export interface Squares {
  difference: number;
  size: number;
}

export function squaresOf(actual: Float32Array, expected: Float32Array): Squares {
  let [difference, size] = [0, 0];
  for (const [i, x] of expected.entries()) {
    difference += (actual[i]! - x) ** 2;
    size += x * x;
  }
  return { difference, size };
}

export const relative = ({ difference, size }: Squares): number => (difference === 0 ? 0 : Math.sqrt(difference / Math.max(size, 1e-12)));

/** The worst relative distance and, for all tensors together, the squares; by kind (output, gradient, statistic, ...). */
export class Errors {
  readonly worst = new Map<string, number>();
  readonly squares = new Map<string, Squares>();
  /** Names of the tensors with the worst distance. */
  readonly where = new Map<string, string>();

  add(kind: string, name: string, squares: Squares): void {
    const error = relative(squares);
    // Not `>`: a NaN has to stay.
    if (!(error <= (this.worst.get(kind) ?? -1))) {
      this.worst.set(kind, error);
      this.where.set(kind, name);
    }
    const sum = this.squares.get(kind) ?? { difference: 0, size: 0 };
    this.squares.set(kind, { difference: sum.difference + squares.difference, size: sum.size + squares.size });
  }

  /** `outputs 3.1e-7, gradients 2e-6`. */
  toString(kinds: readonly string[] = [...this.worst.keys()]): string {
    return kinds.map((kind) => `${kind}s ${short(this.worst.get(kind) ?? Number.NaN)}`).join(', ');
  }
}

/** Two digits: 3.1e-7. */
export const short = (x: number): string => x.toExponential(1).replace('.0e', 'e');

/** One file of goldens. */
export class Golden {
  readonly #tensors: ReadonlyMap<string, { shape: number[]; data: Float32Array }>;
  /** Versions, and what PyTorch itself loses in float32, case by case. */
  readonly made: string;

  constructor(name: string) {
    const { tensors, metadata } = decodeSafetensors(read(`${name}.safetensors`), name);
    this.#tensors = tensors as Map<string, { shape: number[]; data: Float32Array }>;
    this.made = metadata.made ?? '';
  }

  get(name: string): Float32Array {
    const found = this.#tensors.get(name);
    if (!found) throw new Error(`no golden ${name}`);
    return found.data;
  }

  /** What follows `prefix` in the names of all tensors that have it; a sketch's mark is left out. */
  under(prefix: string): string[] {
    return [...this.#tensors.keys()].filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length).replace(/#$/, ''));
  }

  /** Of the difference between a tensor and its golden. From a sketch it is estimated: the mean square of the projections' differences. */
  squares(name: string, actual: Float32Array): Squares {
    const whole = this.#tensors.get(name)?.data;
    if (whole) {
      if (whole.length !== actual.length) throw new Error(`${name} has ${actual.length} numbers and not ${whole.length}`);
      return squaresOf(actual, whole);
    }
    const expected = this.get(`${name}#`);
    let difference = 0;
    for (const [k, x] of sketch(name, actual).entries()) if (k > 0) difference += (x - expected[k]!) ** 2 / kProjections;
    return { difference, size: expected[0]! ** 2 };
  }
}
