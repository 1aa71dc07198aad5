// StyleGAN's generator (Karras et al., 2019, arXiv 1812.04948) as two lists of layer records, for any resolution and channels, and how its tensors
// come from a file. The scales by which the reference multiplies weights as it runs are part of the weights here.
import type { LayerRecord } from '../models/layers.js';
import { type GeneratorTensors, kAgain, outFirst, type Recipe, refuseFile, scaledBy, shapeOf, transposed } from './recipe.js';

/** What a StyleGAN is, beyond its numbers. */
export interface StyleGan1Design {
  /** Edge of its pictures in pixels, 8 or more. */
  resolution: number;
  /** Width of z. */
  z: number;
  /** Outputs of each dense layer of the mapping; the last is the width of w. */
  mapping: readonly number[];
  /** Channels of each synthesis layer, two for each resolution. */
  channels: readonly number[];
  /** Of each synthesis layer whether it up-samples by a transposed convolution; else, where a resolution begins, by nearest neighbors. */
  fused: readonly boolean[];
}

/** How a container calls the tensors, and whether it has TensorFlow's order of dimensions. */
export interface StyleGan1Names {
  /** For messages. */
  title: string;
  /** Dense weights are in x out, convolutions k x k x in x out; else out x in, out x in x k x k. */
  isTensorFlow: boolean;
  average: string | undefined;
  dense(i: number): { weight: string; bias: string };
  constant: string;
  layer(l: number): {
    conv: string;
    /** k x k x in x out even where nothing else is. */
    isConvTensorFlow: boolean;
    noise: string | undefined;
    noiseWeight: string;
    bias: string;
    style: { weight: string; bias: string };
  };
  rgb: { weight: string; bias: string };
  /** Whether a layer that begins a resolution up-samples by a transposed convolution. */
  isFused(l: number): boolean;
  /** Whether a tensor may be there that no layer has. */
  isSpare(name: string): boolean;
}

/** Of leaky ReLU, throughout. */
const kSlope = 0.2;
const kMappingRate = 0.01;
const kMostDense = 32;
const kMostLayers = 20;
/** From this resolution on the reference up-samples by transposed convolutions. */
export const kFusedFrom = 128;

/** Edge of the pictures of a layer. */
export const edgeOf = (layer: number): number => 4 * 2 ** Math.floor(layer / 2);

/** What a file holds, by the shapes of its tensors. @throws ComFaceError INVALID_INPUT naming the tensor that does not fit. */
export function stylegan1Design(file: GeneratorTensors, names: StyleGan1Names): StyleGan1Design {
  const widthOf = (name: string, isOut: boolean) => shapeOf(file, name, 2)[isOut !== names.isTensorFlow ? 0 : 1]!;
  const mapping: number[] = [];
  while (mapping.length < kMostDense && file.tensors.has(names.dense(mapping.length).weight))
    mapping.push(widthOf(names.dense(mapping.length).weight, true));
  const channels: number[] = [];
  while (channels.length < kMostLayers && file.tensors.has(names.layer(channels.length).style.weight))
    channels.push(widthOf(names.layer(channels.length).style.weight, true) / 2);
  if (mapping.length === 0) throw refuseFile(file.path, `a mapping of ${names.title}, ${names.dense(0).weight}`, 'none', kAgain);
  if (channels.length < 4 || channels.length % 2 !== 0 || !channels.every(Number.isInteger)) {
    const found = `layers of ${channels.join(', ') || 'no'} channels`;
    throw refuseFile(file.path, `two layers of ${names.title} for each resolution from 4 on`, found, kAgain);
  }
  const fused = channels.map((_, l) => l >= 2 && l % 2 === 0 && names.isFused(l));
  return { resolution: edgeOf(channels.length - 1), z: widthOf(names.dense(0).weight, false), mapping, channels, fused };
}

/** z -> w. */
export function stylegan1Mapping({ z, mapping }: Pick<StyleGan1Design, 'z' | 'mapping'>): LayerRecord[] {
  const layers: LayerRecord[] = [
    { op: 'input', name: 'z', channels: z, height: 1, width: 1 },
    { op: 'pixelNorm', name: 'normalized', input: 'z', eps: 1e-8 },
  ];
  for (const [i, out] of mapping.entries()) {
    layers.push({ op: 'linear', name: `dense${i}`, input: layers.at(-1)!.name, out, bias: true });
    layers.push({ op: 'relu', name: `dense${i}.relu`, input: `dense${i}`, slope: kSlope });
  }
  return layers;
}

/** w of each layer -> picture. */
export function stylegan1Synthesis({ channels, mapping, fused }: StyleGan1Design): LayerRecord[] {
  const layers: LayerRecord[] = [{ op: 'input', name: 'ws', channels: mapping.at(-1)!, height: channels.length, width: 1 }];
  let last = 'ws';
  const add = (record: LayerRecord) => {
    layers.push(record);
    last = record.name;
  };
  for (const [l, out] of channels.entries()) {
    const name = `layer${l}`;
    const edge = edgeOf(l);
    if (l === 0) add({ op: 'constant', name: 'constant', input: 'ws', out, height: edge, width: edge });
    else if (l % 2 === 1) add({ op: 'conv', name: `${name}.conv`, input: last, out, kernel: 3, stride: 1, pad: 1 });
    else {
      if (fused[l]) add({ op: 'convTranspose', name: `${name}.conv`, input: last, out, kernel: 4, stride: 2, pad: 1 });
      else {
        add({ op: 'upsample', name: `${name}.upsample`, input: last, up: 2 });
        add({ op: 'conv', name: `${name}.conv`, input: last, out, kernel: 3, stride: 1, pad: 1 });
      }
      add({ op: 'blur', name: `${name}.blur`, input: last });
    }
    layers.push({ op: 'token', name: `${name}.w`, input: 'ws', position: l });
    layers.push({ op: 'linear', name: `${name}.style`, input: `${name}.w`, out: 2 * out, bias: true });
    add({ op: 'styleEpilogue', name, inputs: [last, `${name}.style`], slope: kSlope, eps: 1e-8 });
  }
  add({ op: 'conv', name: 'rgb', input: last, out: 3, kernel: 1, stride: 1, pad: 0, bias: true });
  return layers;
}

const root2 = Math.SQRT2;

/** How the tensors of the mapping come from a file. */
export function mappingRecipes({ z, mapping }: StyleGan1Design, names: StyleGan1Names): Recipe[] {
  return mapping.flatMap((out, i) => {
    const inputs = i === 0 ? z : mapping[i - 1]!;
    const { weight, bias } = names.dense(i);
    return [
      denseRecipe(`dense${i}.weight`, weight, inputs, out, (root2 / Math.sqrt(inputs)) * kMappingRate, names.isTensorFlow),
      { name: `dense${i}.bias`, shape: [out], from: bias, dims: [out], convert: scaledBy(kMappingRate) },
    ];
  });
}

function denseRecipe(name: string, from: string, inputs: number, out: number, scale: number, isTensorFlow: boolean): Recipe {
  const convert = (values: Float32Array) => scaledBy(scale)(isTensorFlow ? transposed(values, inputs, out) : values);
  return { name, shape: [out, inputs], from, dims: isTensorFlow ? [inputs, out] : [out, inputs], convert };
}

/** How those of the synthesis do. */
export function synthesisRecipes(design: StyleGan1Design, names: StyleGan1Names): Recipe[] {
  const { channels, mapping } = design;
  const width = mapping.at(-1)!;
  const recipes: Recipe[] = [{ ...same('constant.weight', names.constant, [1, channels[0]!, 4, 4]) }];
  for (const [l, out] of channels.entries()) {
    const { noise, noiseWeight, bias, style } = names.layer(l);
    if (l > 0) recipes.push(convRecipe(design, names, l));
    const edge = edgeOf(l);
    recipes.push(
      ...(noise === undefined ? [] : [same(`layer${l}.noise`, noise, [1, 1, edge, edge])]),
      same(`layer${l}.noiseWeight`, noiseWeight, [out]),
      same(`layer${l}.bias`, bias, [out]),
      denseRecipe(`layer${l}.style.weight`, style.weight, width, 2 * out, 1 / Math.sqrt(width), names.isTensorFlow),
      same(`layer${l}.style.bias`, style.bias, [2 * out]),
    );
  }
  const last = channels.at(-1)!;
  const isTensorFlow = names.isTensorFlow;
  recipes.push({
    ...{ name: 'rgb.weight', shape: [3, last, 1, 1], from: names.rgb.weight, dims: isTensorFlow ? [1, 1, last, 3] : [3, last, 1, 1] },
    convert: (values) => scaledBy(1 / Math.sqrt(last))(isTensorFlow ? outFirst(values, 1, last, 3) : values),
  });
  recipes.push(same('rgb.bias', names.rgb.bias, [3]));
  return recipes;
}

const same = (name: string, from: string, shape: readonly number[]): Recipe => ({ name, shape, from, dims: shape });

function convRecipe({ channels, fused }: StyleGan1Design, names: StyleGan1Names, l: number): Recipe {
  const [inputs, out] = [channels[l - 1]!, channels[l]!];
  const { conv, isConvTensorFlow } = names.layer(l);
  const scale = root2 / Math.sqrt(9 * inputs);
  const kernels = (values: Float32Array) => scaledBy(scale)(isConvTensorFlow ? outFirst(values, 9, inputs, out) : values);
  return {
    name: `layer${l}.conv.weight`,
    shape: fused[l] ? [inputs, out, 4, 4] : [out, inputs, 3, 3],
    from: conv,
    dims: isConvTensorFlow ? [3, 3, inputs, out] : [out, inputs, 3, 3],
    convert: (values) => (fused[l] ? summedKernels(kernels(values), inputs, out) : kernels(values)),
  };
}

/**
 * out x in x 3 x 3 -> in x out x 4 x 4: the kernel added to itself one pixel to the right, one down, and both. A transposed convolution of stride 2 with
 * it is nearest-neighbor up-sampling and the convolution in one, but for the division by 4 that the reference leaves out.
 */
export function summedKernels(values: Float32Array, inputs: number, outputs: number): Float32Array {
  const sums = new Float32Array(inputs * outputs * 16);
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++)
      for (let y = 0; y < 4; y++)
        for (let x = 0; x < 4; x++) {
          let sum = 0;
          for (const [dy, dx] of [
            [0, 0],
            [1, 0],
            [0, 1],
            [1, 1],
          ] as const) {
            const [ky, kx] = [y - dy, x - dx];
            if (ky >= 0 && ky < 3 && kx >= 0 && kx < 3) sum += values[((o * inputs + i) * 3 + ky) * 3 + kx]!;
          }
          sums[((i * outputs + o) * 4 + y) * 4 + x] = sum;
        }
  return sums;
}
