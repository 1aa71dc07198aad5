// Every backbone by its name: ResNets (resnet.ts) and ViT-B/16 (vit.ts), with what one option, `width`, means to each.
import { checkInteger, checkOneOf } from '../check.js';
import type { LayerRecord } from './layers.js';
import { type ResNetName, resnet, resnetNames, resnetWidth } from './resnet.js';
import { visionTransformer } from './vit.js';

/** Name of a backbone: a residual network (He et al., 2016) of 18, 34, 50 or 101 layers, or a vision transformer (Dosovitskiy et al., 2021) of 12 blocks. */
export type BackboneName = ResNetName | 'vit_b_16';

/** Every backbone name, ResNets first, smallest first. */
export const backboneNames: readonly BackboneName[] = [...resnetNames, 'vit_b_16'];

/** What a backbone needs to know of its input. */
export interface BackboneOptions {
  /** Height and width of the pictures in pixels; of vit_b_16 a multiple of 16. */
  size: number;
  /**
   * Channels of a ResNet's first stage, a multiple of 16, or of one of the 12 attention heads of vit_b_16; everything scales with it.
   * @default 64
   */
  width?: number;
}

/** Of ViT-B/16, whatever its width. */
const kHeads = 12;

/**
 * Width D of the embedding: 512 for resnet18 and resnet34, 2048 for the other ResNets, 768 for vit_b_16, at the default width.
 *
 * @param name Name of the backbone.
 * @param width Channels of a ResNet's first stage, or of one of the 12 heads of vit_b_16. Default 64.
 * @throws ComFaceError INVALID_INPUT for another name or a width that is not a whole number.
 */
export function embeddingWidth(name: BackboneName, width = 64): number {
  checkOneOf('name', name, backboneNames);
  checkInteger('width', width, 1, 2 ** 16);
  return name === 'vit_b_16' ? kHeads * width : resnetWidth(name, width);
}

/**
 * Layer records from `images` (N x 3 x size x size) to the embedding (N x its width), the last one.
 * @throws ComFaceError INVALID_INPUT for a size that vit_b_16 cannot cut into patches.
 */
export function backbone(name: BackboneName, { size, width = 64 }: BackboneOptions): LayerRecord[] {
  if (name !== 'vit_b_16') return resnet(name, size, width);
  return visionTransformer(size, { width: kHeads * width, heads: kHeads });
}

/** The part of a backbone that ends in a map of the picture. */
export interface MapLayers {
  layers: LayerRecord[];
  /** Positions before those of the picture, row by row: 1 for a class token. */
  before: number;
}

/** What Eigen-CAM reads: a ResNet's last block, or the tokens after the first norm of the last block, as pytorch-grad-cam does. */
export function mapLayers(layers: readonly LayerRecord[]): MapLayers {
  const norm = layers.findLastIndex(({ name }) => name.endsWith('.norm1'));
  return norm < 0 ? { layers: layers.slice(0, -1), before: 0 } : { layers: layers.slice(0, norm + 1), before: 1 };
}
