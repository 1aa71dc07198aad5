// Every backbone by its name: ResNets (resnet.ts), ViT-B/16 (vit.ts) and PCL's network (facecycle.ts), with what one option, `width`, means to each.
import { checkInteger, checkObject, checkOneOf } from '../check.js';
import { faceCycle, faceCycleWidth } from './facecycle.js';
import type { LayerRecord } from './layers.js';
import { type ResNetName, resnet, resnetNames, resnetWidth } from './resnet.js';
import { type TransformerDesign, visionTransformer } from './vit.js';

const transformers = {
  vit_b_16: {},
  vit_b_16_clip: { clip: true, eps: 1e-5 },
} as const satisfies Record<string, TransformerDesign>;
type TransformerName = keyof typeof transformers;

/**
 * Name of a backbone: a residual network (He et al., 2016) of 18, 34, 50 or 101 layers, or a vision transformer (Dosovitskiy et al., 2021) of 12 blocks.
 * Three are as the weights of others need them: resnet50_caffe, whose stride is on the first convolution of a block (VGGFace2), vit_b_16_clip (CLIP) and pcl,
 * sixteen convolutions with attention (PCL; Liu et al., 2023).
 */
export type BackboneName = ResNetName | TransformerName | 'pcl';

/** Every backbone name, ResNets first, smallest first. */
export const backboneNames: readonly BackboneName[] = [...resnetNames, ...(Object.keys(transformers) as TransformerName[]), 'pcl'];

/** Whether a backbone is a vision transformer, whose pictures have an edge of a multiple of 16 pixels. */
export const isTransformer = (name: BackboneName): name is TransformerName => Object.hasOwn(transformers, name);

/** What a backbone needs to know of its input. */
export interface BackboneOptions {
  /** Height and width of the pictures in pixels; of a vision transformer a multiple of 16. */
  size: number;
  /**
   * Channels of the first stage of a ResNet or of pcl, a multiple of 16, or of one of the 12 attention heads of a vision transformer; everything scales with
   * it.
   * @default 64
   */
  width?: number;
}

/** Of ViT-B/16, whatever its width. */
const kHeads = 12;

/**
 * Width D of the embedding: 512 for resnet18 and resnet34, 2048 for the other ResNets, 768 for a vision transformer, at the default width. That of pcl is a
 * whole map of the picture, so it grows with the size: 2048 numbers of 64 x 64 pixels, 6272 of 100 x 100.
 *
 * @param name Name of the backbone.
 * @param options Size of the pictures, and the width of the network.
 * @throws ComFaceError INVALID_INPUT for another name, or a size or width that is not a whole number.
 */
export function embeddingWidth(name: BackboneName, options: BackboneOptions): number {
  checkOneOf('name', name, backboneNames);
  checkObject('options', options);
  const { size, width = 64 } = options;
  for (const [key, value] of Object.entries({ size, width })) checkInteger(key, value, 1, 2 ** 16);
  if (name === 'pcl') return faceCycleWidth(size, width);
  return isTransformer(name) ? kHeads * width : resnetWidth(name, width);
}

/**
 * Layer records from `images` (N x 3 x size x size) to the embedding (N x its width), the last one.
 * @throws ComFaceError INVALID_INPUT for a size that a vision transformer cannot cut into patches.
 */
export function backbone(name: BackboneName, { size, width = 64 }: BackboneOptions): LayerRecord[] {
  if (name === 'pcl') return faceCycle(size, width);
  if (!isTransformer(name)) return resnet(name, size, width);
  return visionTransformer(size, { width: kHeads * width, heads: kHeads, ...transformers[name] });
}

/** The part of a backbone that ends in a map of the picture. */
export interface MapLayers {
  layers: LayerRecord[];
  /** Of the map, at each position. */
  channels: number;
  /** Positions before those of the picture, row by row: 1 for a class token. */
  before: number;
}

/** What Eigen-CAM reads: the last block of a ResNet or of pcl, or the tokens after the first norm of the last block, as pytorch-grad-cam does. */
export function mapLayers(all: readonly LayerRecord[]): MapLayers {
  const norm = all.findLastIndex(({ name }) => name.endsWith('.norm1'));
  const layers = norm < 0 ? all.slice(0, -1) : all.slice(0, norm + 1);
  const widths = layers.flatMap((layer) => (layer.op === 'conv' || layer.op === 'linear' ? [layer.out] : []));
  return { layers, channels: widths.at(-1)!, before: norm < 0 ? 0 : 1 };
}
