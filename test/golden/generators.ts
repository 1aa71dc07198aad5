// What generators.py wrote of StyleGAN and StyleGAN3: op cases as graphs, tables of layers, files and their pictures.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { LayerRecord } from '../../lib/models/layers.ts';
import type { NativeEngine } from '../../lib/native.ts';
import { Golden } from './golden.ts';
import { keyed, tiled } from './keyed.ts';

export const generatorFolder = fileURLToPath(new URL('generators', import.meta.url));
const read = (name: string) => JSON.parse(readFileSync(`${generatorFolder}/${name}`, 'utf8'));

/** One op on a keyed input. */
export interface GeneratorOp {
  key: string;
  batch: number;
  input: [channels: number, height: number, width: number];
  /** Without its name and inputs. */
  record: object;
  /** Numbers of the vector that the op reads beside the image: a linear layer of the image's first position. */
  style?: number;
  /** null: stored. */
  parameters: Record<string, { spread: number; center: number } | null>;
  shape: number[];
}

/** A layer of StyleGAN3's synthesis: convolution and filtered leaky ReLU. */
export interface LayerTable {
  name: string;
  into: number;
  out: number;
  kernel: number;
  demodulate: boolean;
  up: number;
  down: number;
  upTaps: number;
  downTaps: number;
  padLow: number;
  padHigh: number;
  radial: boolean;
  slope: number;
  gain: number;
  clamp: number;
  inSize: number;
  outSize: number;
}

/** The input, then the layers. */
export type SynthesisTable = [{ channels: number; size: number; rate: number; bandwidth: number }, ...LayerTable[]];

export interface GeneratorFiles {
  key: string;
  generator: 'stylegan1' | 'stylegan3';
  size: number;
  layers: number;
  /** Names, all of the same network. */
  files: string[];
  /** Of StyleGAN3. */
  table?: SynthesisTable;
}

export const generatorOps = read('ops.json') as GeneratorOp[];
export const generatorFiles = read('pictures.json') as GeneratorFiles[];
/** Of the released StyleGAN3-T and -R of 1024 pixels. */
export const releasedTables = read('tables.json') as Record<'t' | 'r', SynthesisTable>;
export const opGolden = new Golden('generators/ops');
export const pictureGolden = new Golden('generators/pictures');

/** Deviation of 1, uniform. */
export const kUnit = Math.sqrt(3);
/** How far the golden pictures `edited` are moved along the direction. */
export const kAlpha = 3;
export const latents = (): Float32Array => keyed('generators/z', 2 * 512, kUnit);
/** Of length 1. */
export function direction(): Float32Array {
  const n = keyed('generators/direction', 512);
  const norm = Math.sqrt(n.reduce((sum, v) => sum + v * v, 0));
  return n.map((v) => v / norm);
}

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** The op with an input of its own and, where it reads a style, the layers that make that. */
export function layersOf({ input, style, record }: GeneratorOp): LayerRecord[] {
  const [channels, height, width] = input;
  const images: LayerRecord = { op: 'input', name: 'images', channels, height, width };
  if (style === undefined) return [images, { ...record, name: 'op', input: 'images' } as LayerRecord];
  return [
    images,
    { op: 'token', name: 'first', input: 'images', position: 0 },
    { op: 'linear', name: 'style', input: 'first', out: style, bias: true },
    { ...record, name: 'op', inputs: ['images', 'style'] } as unknown as LayerRecord,
  ];
}

export const inputOf = ({ key, batch, input }: GeneratorOp): Float32Array =>
  keyed(`generators/${key}/input`, batch * product(input), 2, 0.5);

/** Gives the engine the case's parameters. */
export async function setParameters(engine: NativeEngine, { key, parameters }: GeneratorOp): Promise<void> {
  const named = new Set(Object.keys(parameters));
  for (const { name, dims } of engine.parameters) {
    const leaf = name.replace(/^op\./, '');
    const how = parameters[leaf];
    if (how === undefined || !named.delete(leaf)) throw new Error(`no golden for the parameter ${name} of ${key}`);
    const value = how === null ? opGolden.get(`${key}/${leaf}`) : keyed(`generators/${key}/${leaf}`, product(dims), how.spread, how.center);
    await engine.write('parameter', name, value);
  }
  if (named.size > 0) throw new Error(`${key} has no parameter ${[...named].join(', ')}`);
}

const kSamples = 2048;
const kStep = 1_000_003;

/** Of C x H x W numbers, as generators.py sums up pictures too large to keep: numbers here and there, and the sums along each axis. */
export function summaryOf(y: Float32Array, channels: number): Record<'samples' | 'channels' | 'rows' | 'columns', Float32Array> {
  const edge = Math.sqrt(y.length / channels);
  const sums = { channels: new Float64Array(channels), rows: new Float64Array(edge), columns: new Float64Array(edge) };
  for (let c = 0, i = 0; c < channels; c++)
    for (let row = 0; row < edge; row++)
      for (let column = 0; column < edge; column++, i++) {
        const value = y[i]!;
        sums.channels[c]! += value;
        sums.rows[row]! += value;
        sums.columns[column]! += value;
      }
  return {
    samples: Float32Array.from({ length: kSamples }, (_, i) => y[(i * kStep) % y.length]!),
    channels: Float32Array.from(sums.channels),
    rows: Float32Array.from(sums.rows),
    columns: Float32Array.from(sums.columns),
  };
}

/** Numbers of a layer at full size. */
export const tiledOf = (key: string, sizes: readonly number[], spread = 1, center = 0): Float32Array =>
  tiled(`generators/${key}`, product(sizes), spread, center);
