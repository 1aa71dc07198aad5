// Vision transformers as layer records (Dosovitskiy et al., 2021): patches, class token, learned positions, blocks with the norm first.
// Names are those of timm's vit_base_patch16_224, so weights load there as they are; the classifier is left out. The last record is the embedding.
import { invalid } from '../errors.js';
import type { LayerRecord } from './layers.js';

/** What tells one vision transformer from another; the defaults are timm's ViT-B/16. */
export interface TransformerDesign {
  /** Edge of a patch in pixels. @default 16 */
  patch?: number;
  /** Channels of a token; a multiple of `heads`. @default 768 */
  width?: number;
  /** Blocks. @default 12 */
  depth?: number;
  /** Heads of an attention. @default 12 */
  heads?: number;
  /** Channels between the two linear layers of a block. @default 4 times `width` */
  hidden?: number;
  /** Of the layer norms. @default 1e-6 */
  eps?: number;
  /** CLIP's variant, by the names of timm's vit_base_patch16_clip: patches without bias, a norm before the blocks, quick GELU. @default false */
  clip?: boolean;
}

/**
 * Layer records from `images` (N x 3 x size x size) to `embedding` (N x width): the class token after the last norm.
 * @throws ComFaceError INVALID_INPUT for a size that is no multiple of `patch`.
 */
export function visionTransformer(size: number, design: TransformerDesign = {}): LayerRecord[] {
  const { patch = 16, width = 768, depth = 12, heads = 12, hidden = 4 * width, eps = 1e-6, clip = false } = design;
  if (size % patch !== 0 || size < patch) {
    const near = Math.max(patch, Math.round(size / patch) * patch);
    throw invalid('size', `a multiple of ${patch} with this backbone`, size, `Choose ${near}, say, or a ResNet.`);
  }
  const layers: LayerRecord[] = [
    { op: 'input', name: 'images', channels: 3, height: size, width: size },
    { op: 'conv', name: 'patch_embed.proj', input: 'images', out: width, kernel: patch, stride: patch, pad: 0, bias: !clip },
    { op: 'tokens', name: 'tokens', input: 'patch_embed.proj', classToken: true, positions: true },
  ];
  if (clip) layers.push({ op: 'layerNorm', name: 'norm_pre', input: 'tokens', eps });
  let input = clip ? 'norm_pre' : 'tokens';
  for (let index = 0; index < depth; index++) {
    const name = `blocks.${index}`;
    layers.push(...block(name, input, { width, heads, hidden, eps, quick: clip }));
    input = `${name}.out`;
  }
  layers.push({ op: 'layerNorm', name: 'norm', input, eps }, { op: 'token', name: 'embedding', input: 'norm', position: 0 });
  return layers;
}

interface BlockSizes {
  width: number;
  heads: number;
  hidden: number;
  eps: number;
  quick: boolean;
}

/** Attention, then two linear layers, each after a norm and each added to what came in. */
const block = (name: string, input: string, { width, heads, hidden, eps, quick }: BlockSizes): LayerRecord[] => [
  { op: 'layerNorm', name: `${name}.norm1`, input, eps },
  { op: 'linear', name: `${name}.attn.qkv`, input: `${name}.norm1`, out: 3 * width, bias: true },
  { op: 'attention', name: `${name}.attn`, input: `${name}.attn.qkv`, heads },
  { op: 'linear', name: `${name}.attn.proj`, input: `${name}.attn`, out: width, bias: true },
  { op: 'add', name: `${name}.middle`, inputs: [input, `${name}.attn.proj`] },
  { op: 'layerNorm', name: `${name}.norm2`, input: `${name}.middle`, eps },
  { op: 'linear', name: `${name}.mlp.fc1`, input: `${name}.norm2`, out: hidden, bias: true },
  { op: 'gelu', name: `${name}.mlp.act`, input: `${name}.mlp.fc1`, quick },
  { op: 'linear', name: `${name}.mlp.fc2`, input: `${name}.mlp.act`, out: width, bias: true },
  { op: 'add', name: `${name}.out`, inputs: [`${name}.middle`, `${name}.mlp.fc2`] },
];
