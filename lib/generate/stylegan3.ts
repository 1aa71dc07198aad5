// StyleGAN3's generator (Karras et al., 2021, arXiv 2106.12423) as two lists of layer records, and how its tensors come from a file. The table of its
// layers follows from the resolution and their number (section 3.2 and appendix C); filters and input magnitudes come from the file.
import type { LayerRecord } from '../models/layers.js';
import type { PlainValue } from '../weights/read.js';
import { type GeneratorTensors, kAgain, type Recipe, refuseFile, scaledBy, shapeOf } from './recipe.js';

/** Numbers that a training may choose; the defaults are those of both published configurations. */
export interface StyleGan3Settings {
  /** Layers that are sampled critically, before the last. */
  critical: number;
  /** Pixels beyond the picture on each side, before the last layers cut them off. */
  margin: number;
  /** Sampling rates, down from that of the picture, whose layers may be in fp16. */
  halfRates: number;
}
export const defaultSettings: StyleGan3Settings = { critical: 2, margin: 10, halfRates: 4 };

/** One layer of the table. */
export interface StyleGan3Layer {
  /** Edge of its result in pixels, with the margin. */
  size: number;
  /** Samples in the width of the picture, before and after. */
  rateIn: number;
  rateOut: number;
  /** Cutoff frequency and half-width of the transition band of its result. */
  cutoff: number;
  halfWidth: number;
  up: number;
  down: number;
  /** May be in fp16. */
  isHalf: boolean;
}

const kFirstCutoff = 2;
const kFirstStopband = 2 ** 2.1;
const kLastStopband = 2 ** 0.3;
/** Rate of the leaky ReLU beside that of the layer. */
const kOversampling = 2;
const kClamp = 256;
const kOutputScale = 0.25;
const kMappingRate = 0.01;

/** The table of the layers, the last of which gives the picture. @param count Layers before the last. */
export function stylegan3Table(resolution: number, count: number, { critical, margin, halfRates }: StyleGan3Settings): StyleGan3Layer[] {
  const lastCutoff = resolution / 2;
  const lastStopband = lastCutoff * kLastStopband;
  const rows = Array.from({ length: count + 1 }, (_, i) => {
    const part = Math.min(i / (count - critical), 1);
    const cutoff = kFirstCutoff * (lastCutoff / kFirstCutoff) ** part;
    const stopband = kFirstStopband * (lastStopband / kFirstStopband) ** part;
    const rate = 2 ** Math.ceil(Math.log2(Math.min(stopband * 2, resolution)));
    const size = i >= count - 1 ? resolution : rate + 2 * margin;
    return { size, rate, cutoff, halfWidth: Math.max(stopband, rate / 2) - cutoff };
  });
  return rows.map(({ size, rate, cutoff, halfWidth }, i) => {
    const rateIn = rows[Math.max(0, i - 1)]!.rate;
    const between = Math.max(rateIn, rate) * (i === count ? 1 : kOversampling);
    const isHalf = rate * 2 ** halfRates > resolution;
    return { size, rateIn, rateOut: rate, cutoff, halfWidth, up: between / rateIn, down: between / rate, isHalf };
  });
}

/** What a StyleGAN3 is, beyond its numbers. */
export interface StyleGan3Design {
  resolution: number;
  z: number;
  mapping: readonly number[];
  /** Channels and edge of the Fourier features. */
  input: { channels: number; size: number; rate: number; bandwidth: number };
  layers: readonly (StyleGan3Layer & {
    /** As the file calls it: `L0_36_1024`. */
    name: string;
    inputs: number;
    out: number;
    kernel: number;
    upTaps: number;
    downTaps: number;
    isRadial: boolean;
    padLow: number;
    padHigh: number;
  })[];
}

const kLayer = /^synthesis\.L(\d+)_(\d+)_(\d+)\.weight$/;
const kMostLayers = 64;
const kMostDense = 32;

/**
 * What a file holds, by its names and the shapes of its tensors.
 *
 * @throws ComFaceError INVALID_INPUT naming the tensor that does not fit.
 */
export function stylegan3Design(file: GeneratorTensors, settings: StyleGan3Settings): StyleGan3Design {
  const mapping: number[] = [];
  while (mapping.length < kMostDense && file.tensors.has(`mapping.fc${mapping.length}.weight`))
    mapping.push(shapeOf(file, `mapping.fc${mapping.length}.weight`, 2)[0]!);
  const named = [...file.tensors.keys()].flatMap((name) => {
    const found = kLayer.exec(name);
    return found ? [{ name: name.slice('synthesis.'.length, -'.weight'.length), index: Number(found[1]), size: Number(found[2]) }] : [];
  });
  named.sort((a, b) => a.index - b.index);
  const count = named.length - 1;
  const resolution = named.at(-1)?.size ?? 0;
  const isOrdered = named.every(({ index }, i) => index === i);
  if (mapping.length === 0 || !isOrdered || count <= settings.critical || count > kMostLayers || resolution < 8)
    throw refuseFile(
      file.path,
      'the mapping and the layers L0, L1, ... of a StyleGAN3',
      named.map(({ name }) => name).join(', ') || 'none',
      kAgain,
    );
  const table = stylegan3Table(resolution, count, settings);
  const different = table.findIndex(({ size }, i) => size !== named[i]!.size);
  if (different >= 0)
    throw refuseFile(
      file.path,
      `pictures of ${table[different]!.size} x ${table[different]!.size} from layer ${different} of ${count} for ${resolution} pixels`,
      `the layer ${named[different]!.name}`,
      'It was trained with other cutoffs or margins than the published ones, which are not read here.',
    );
  const channels = shapeOf(file, 'synthesis.input.freqs', 2)[0]!;
  const input = { channels, size: table[0]!.size, rate: table[0]!.rateOut, bandwidth: table[0]!.cutoff };
  const layers = table.map((row, i) => {
    const { name } = named[i]!;
    const sizeIn = table[Math.max(0, i - 1)]!.size;
    return layerIn(file, row, { name, sizeIn });
  });
  return { resolution, z: shapeOf(file, 'mapping.fc0.weight', 2)[1]!, mapping, input, layers };
}

/** A layer with what only the file says, and its padding: by as much as makes the result `size` pixels wide. */
function layerIn(
  file: GeneratorTensors,
  row: StyleGan3Layer,
  { name, sizeIn }: { name: string; sizeIn: number },
): StyleGan3Design['layers'][number] {
  const { size, up, down } = row;
  const [out, inputs, kernel] = shapeOf(file, `synthesis.${name}.weight`, 4) as [number, number, number];
  const tapsOf = (which: string): number[] => [...(file.tensors.get(`synthesis.${name}.${which}`)?.shape ?? [])];
  const [upTaps = 1] = tapsOf('up_filter');
  const [downTaps = 1, ...more] = tapsOf('down_filter');
  const total = (size - 1) * down + 1 - (sizeIn + kernel - 1) * up + upTaps + downTaps - 2;
  const padLow = Math.floor((total + up) / 2);
  return { ...row, name, inputs, out, kernel, upTaps, downTaps, isRadial: more.length > 0, padLow, padHigh: total - padLow };
}

/** Whether it has the radial filters of configuration R; else it is a T. */
export const isRadial = ({ layers }: StyleGan3Design): boolean => layers.some((layer) => layer.isRadial);

/** z -> w. */
export function stylegan3Mapping({ z, mapping }: Pick<StyleGan3Design, 'z' | 'mapping'>): LayerRecord[] {
  const layers: LayerRecord[] = [
    { op: 'input', name: 'z', channels: z, height: 1, width: 1 },
    { op: 'pixelNorm', name: 'normalized', input: 'z', eps: 1e-8 },
  ];
  for (const [i, out] of mapping.entries()) {
    layers.push({ op: 'linear', name: `fc${i}`, input: layers.at(-1)!.name, out, bias: true });
    layers.push({ op: 'relu', name: `fc${i}.relu`, input: `fc${i}`, slope: 0.2 });
  }
  return layers;
}

/** w of each layer -> picture; the first is that of the Fourier features. */
export function stylegan3Synthesis({ mapping, input, layers: table }: StyleGan3Design): LayerRecord[] {
  const { channels, size, rate, bandwidth } = input;
  const layers: LayerRecord[] = [
    { op: 'input', name: 'ws', channels: mapping.at(-1)!, height: table.length + 1, width: 1 },
    { op: 'token', name: 'input.w', input: 'ws', position: 0 },
    { op: 'linear', name: 'input.affine', input: 'input.w', out: 4, bias: true },
    { op: 'fourierFeatures', name: 'input.features', input: 'input.affine', out: channels, height: size, width: size, rate, bandwidth },
    { op: 'linear', name: 'input', input: 'input.features', out: channels, bias: false },
  ];
  let last = 'input';
  for (const [i, layer] of table.entries()) {
    const { name, inputs, out, kernel, up, down, upTaps, downTaps, padLow, padHigh, isHalf: half } = layer;
    const isLast = i === table.length - 1;
    layers.push({ op: 'token', name: `${name}.w`, input: 'ws', position: i + 1 });
    layers.push({ op: 'linear', name: `${name}.affine`, input: `${name}.w`, out: inputs, bias: true });
    const styled = [last, `${name}.affine`] as const;
    layers.push({
      op: 'modulatedConv',
      name: `${name}.conv`,
      inputs: styled,
      out,
      kernel,
      pad: kernel - 1,
      demodulate: !isLast,
      half,
      eps: 1e-8,
    });
    layers.push({
      ...{ op: 'filteredRelu', name, input: `${name}.conv`, up, down, padLow, padHigh, radial: layer.isRadial, half },
      ...{ upTaps: upTaps > 1 ? upTaps : 0, downTaps: downTaps > 1 ? downTaps : 0 },
      ...(isLast ? { slope: 1, gain: 1, clamp: kClamp * kOutputScale } : { slope: 0.2, gain: Math.SQRT2, clamp: kClamp }),
    });
    last = name;
  }
  return layers;
}

/** How the tensors of the mapping come from a file. Its leaky ReLU multiplies by the root of 2, which a positive factor may do before it. */
export function mapping3Recipes({ z, mapping }: StyleGan3Design): Recipe[] {
  return mapping.flatMap((out, i) => {
    const inputs = i === 0 ? z : mapping[i - 1]!;
    const weight = scaledBy((kMappingRate / Math.sqrt(inputs)) * Math.SQRT2);
    return [
      { name: `fc${i}.weight`, shape: [out, inputs], from: `mapping.fc${i}.weight`, dims: [out, inputs], convert: weight },
      { name: `fc${i}.bias`, shape: [out], from: `mapping.fc${i}.bias`, dims: [out], convert: scaledBy(kMappingRate * Math.SQRT2) },
    ];
  });
}

/** How those of the synthesis do; the transformation is the identity where the file has none. */
export function synthesis3Recipes({ mapping, input, layers }: StyleGan3Design, hasTransform: boolean): Recipe[] {
  const { channels } = input;
  const width = mapping.at(-1)!;
  const same = (name: string, from: string, shape: readonly number[]): Recipe => ({ name, shape, from: `synthesis.${from}`, dims: shape });
  const scaled = (recipe: Recipe, factor: number): Recipe => ({ ...recipe, convert: scaledBy(factor) });
  const affine = (name: string, out: number, factor = 1): Recipe[] => [
    scaled(same(`${name}.affine.weight`, `${name}.affine.weight`, [out, width]), factor / Math.sqrt(width)),
    scaled(same(`${name}.affine.bias`, `${name}.affine.bias`, [out]), factor),
  ];
  const recipes = [
    ...affine('input', 4),
    same('input.features.freqs', 'input.freqs', [channels, 2]),
    same('input.features.phases', 'input.phases', [channels]),
    ...(hasTransform ? [same('input.features.transform', 'input.transform', [3, 3])] : []),
    scaled(same('input.weight', 'input.weight', [channels, channels]), 1 / Math.sqrt(channels)),
  ];
  for (const [i, { name, inputs, out, kernel, upTaps, downTaps, isRadial: isSquare }] of layers.entries()) {
    const isLast = i === layers.length - 1;
    const outScale = isLast ? kOutputScale : 1;
    const gain = (values: Float32Array) => values.map((magnitude) => 1 / Math.sqrt(magnitude));
    recipes.push(
      ...affine(name, inputs, isLast ? 1 / Math.sqrt(inputs * kernel ** 2) : 1),
      scaled(same(`${name}.conv.weight`, `${name}.weight`, [out, inputs, kernel, kernel]), outScale),
      { ...same(`${name}.conv.gain`, `${name}.magnitude_ema`, [1]), dims: [], convert: gain },
      scaled(same(`${name}.bias`, `${name}.bias`, [out]), outScale),
      ...(upTaps > 1 ? [same(`${name}.upFilter`, `${name}.up_filter`, [upTaps])] : []),
      ...(downTaps > 1 ? [same(`${name}.downFilter`, `${name}.down_filter`, isSquare ? [downTaps, downTaps] : [downTaps])] : []),
    );
  }
  return recipes;
}

/** What a pickle says of the settings; a plain state dict says nothing. @param prefix Of the generator in the file. */
export function settingsIn(others: ReadonlyMap<string, PlainValue>, prefix: string): StyleGan3Settings {
  const said = (name: string, otherwise: number): number => {
    const value = others.get(`${prefix}synthesis.${name}`);
    return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : otherwise;
  };
  return {
    critical: said('num_critical', defaultSettings.critical),
    margin: said('margin_size', defaultSettings.margin),
    halfRates: said('num_fp16_res', defaultSettings.halfRates),
  };
}
