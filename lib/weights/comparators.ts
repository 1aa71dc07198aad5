// The networks that the paper compares with (table 1, and StableRep): how their files name what, what pictures they were trained on. The facts are those
// of the repositories named beside each; nothing here opens a file.
import type { BackboneName } from '../models/backbone.js';

/** A network that ComFace is compared with. */
export interface Comparator {
  /** As the paper calls it. */
  title: string;
  /** Where its weights come from. */
  source: string;
  /** Its network; a ResNet of torchvision's layout may have any of its depths. */
  network: 'resnet' | 'caffe' | 'timm' | 'clip' | 'pcl';
  /** What may stand before the names of the backbone's tensors, the usual one first. */
  prefixes: readonly string[];
  /** Edge of its pictures in pixels. */
  size: number;
  /** Subtracted from red, green, blue from 0 to 1, and what they are then divided by. */
  mean: readonly [number, number, number];
  deviation: readonly [number, number, number];
  /** The first convolution takes blue, green, red. */
  isBgr?: boolean;
  /** Whether a file that has the backbone under one of the prefixes is its own, by what else is in it. */
  isOwn(file: { names: ReadonlySet<string>; prefix: string; container: string }): boolean;
}

const imageNet = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] } as const;
/** The constants of SwAV's repository, which Bulat et al. took over. */
const swav = { mean: [0.485, 0.456, 0.406], deviation: [0.228, 0.224, 0.225] } as const;
const none = { mean: [0, 0, 0], deviation: [1, 1, 1] } as const;
const inBytes = (value: number): number => value / 255;

/** Whether some name ends in this. */
const has = (names: ReadonlySet<string>, pattern: RegExp): boolean => [...names].some((name) => pattern.test(name));

const table = {
  imagenet: {
    title: 'ImageNet',
    source: 'torchvision: resnet18, 34, 50 and 101',
    network: 'resnet',
    prefixes: [''],
    size: 224,
    ...imageNet,
    isOwn: ({ names, container }) => container !== 'pickle' && names.has('fc.weight'),
  },
  vggface2: {
    title: 'VGGFace2',
    source: 'cydonia999/VGGFace2-pytorch: resnet50_ft_weight.pkl, resnet50_scratch_weight.pkl',
    network: 'caffe',
    prefixes: [''],
    size: 224,
    mean: [inBytes(131.0912), inBytes(103.8827), inBytes(91.4953)],
    deviation: [inBytes(1), inBytes(1), inBytes(1)],
    isBgr: true,
    isOwn: ({ container }) => container === 'pickle',
  },
  simclr: {
    title: 'SimCLR',
    source: 'google-research/simclr by way of tonylins/simclr-converter: resnet50-1x.pth',
    network: 'resnet',
    prefixes: ['state_dict.'],
    size: 224,
    ...none,
    isOwn: () => true,
  },
  mocov2: {
    title: 'MoCo v2',
    source: 'facebookresearch/moco: moco_v2_800ep_pretrain.pth.tar',
    network: 'resnet',
    prefixes: ['state_dict.module.encoder_q.', 'module.encoder_q.'],
    size: 224,
    ...imageNet,
    isOwn: () => true,
  },
  swav: {
    title: 'SwAV',
    source: 'facebookresearch/swav: swav_800ep_pretrain.pth.tar',
    network: 'resnet',
    prefixes: ['module.', 'state_dict.module.'],
    size: 224,
    ...swav,
    isOwn: ({ names, prefix }) => has(names, new RegExp(`^${prefix.replaceAll('.', '\\.')}(prototypes|projection_head)\\.`)),
  },
  barlowtwins: {
    title: 'Barlow Twins',
    source: 'facebookresearch/barlowtwins: resnet50.pth, or the backbone in checkpoint.pth',
    network: 'resnet',
    prefixes: ['', 'model.module.backbone.', 'module.backbone.'],
    size: 224,
    ...imageNet,
    isOwn: ({ names, prefix, container }) => prefix !== '' || (container !== 'pickle' && !names.has('fc.weight')),
  },
  bulat: {
    title: 'Bulat et al.',
    source: '1adrianb/unsupervised-face-representation: flr_r50_vgg_face.pth',
    network: 'resnet',
    prefixes: ['state_dict.module.base_net.', 'module.base_net.'],
    size: 224,
    ...swav,
    isOwn: () => true,
  },
  farl: {
    title: 'FaRL',
    source: 'FacePerceiver/FaRL: FaRL-Base-Patch16-LAIONFace20M-ep16.pth',
    network: 'clip',
    prefixes: ['state_dict.visual.', 'visual.'],
    size: 224,
    mean: [0.48145466, 0.4578275, 0.40821073],
    deviation: [0.26862954, 0.26130258, 0.27577711],
    isOwn: () => true,
  },
  pcl: {
    title: 'PCL',
    source: 'DreamMr/PCL: best.pth',
    network: 'pcl',
    prefixes: ['state_dict.module.encoder.', 'module.encoder.'],
    size: 100,
    ...none,
    isOwn: () => true,
  },
  stablerep: {
    title: 'StableRep',
    source: 'google-research/syn-rep-learn: ViT-B/16',
    network: 'timm',
    prefixes: ['model.visual.', 'model.module.visual.', 'visual.'],
    size: 224,
    ...imageNet,
    isOwn: () => true,
  },
} as const satisfies Record<string, Comparator>;

/** Name of a network that ComFace is compared with. */
export type ComparatorName = keyof typeof table;
export const comparators: Readonly<Record<ComparatorName, Comparator>> = table;
/** Every one of them. */
export const comparatorNames = Object.keys(table) as readonly ComparatorName[];

/** A tensor that only networks of a kind have, without prefix. */
const landmarks: Record<Comparator['network'], string> = {
  resnet: 'layer1.0.conv1.weight',
  caffe: 'layer1.0.conv1.weight',
  timm: 'blocks.0.attn.qkv.weight',
  clip: 'transformer.resblocks.0.attn.in_proj_weight',
  pcl: 'layer3_2_exp.0.weight',
};

/** The usual prefix under which a file has a comparator's backbone, if it has it. */
const usualPrefixIn = ({ network, prefixes }: Comparator, names: ReadonlySet<string>): string | undefined =>
  prefixes.find((prefix) => names.has(prefix + landmarks[network]));

/** {@link usualPrefixIn}, or the only other one that a file has such a backbone under. */
export function prefixIn(comparator: Comparator, names: ReadonlySet<string>): string | undefined {
  const usual = usualPrefixIn(comparator, names);
  if (usual !== undefined) return usual;
  const landmark = landmarks[comparator.network];
  const [found, ...others] = [...names].filter((name) => name === landmark || name.endsWith(`.${landmark}`));
  return found === undefined || others.length > 0 ? undefined : found.slice(0, -landmark.length);
}

/** Those whose file this may be, by its names. */
export function comparatorsOf(names: ReadonlySet<string>, container: string): ComparatorName[] {
  return comparatorNames.filter((name) => {
    const prefix = usualPrefixIn(comparators[name], names);
    return prefix !== undefined && comparators[name].isOwn({ names, prefix, container });
  });
}

/** Of CLIP's names those that timm's model has otherwise; the rest only begin otherwise. */
const clipNames: readonly (readonly [RegExp, string])[] = [
  [/^class_embedding$/, 'cls_token'],
  [/^positional_embedding$/, 'pos_embed'],
  [/^conv1\./, 'patch_embed.proj.'],
  [/^ln_pre\./, 'norm_pre.'],
  [/^ln_post\./, 'norm.'],
  [/^transformer\.resblocks\.(\d+)\.ln_([12])\./, 'blocks.$1.norm$2.'],
  [/^transformer\.resblocks\.(\d+)\.attn\.in_proj_/, 'blocks.$1.attn.qkv.'],
  [/^transformer\.resblocks\.(\d+)\.attn\.out_proj\./, 'blocks.$1.attn.proj.'],
  [/^transformer\.resblocks\.(\d+)\.mlp\.c_fc\./, 'blocks.$1.mlp.fc1.'],
  [/^transformer\.resblocks\.(\d+)\.mlp\.c_proj\./, 'blocks.$1.mlp.fc2.'],
];

/** What a tensor is called here that a comparator calls `name`, without the prefix. */
export function nameHere(network: Comparator['network'], name: string): string {
  const known = network === 'clip' ? clipNames.find(([from]) => from.test(name)) : undefined;
  return known ? name.replace(...(known as [RegExp, string])) : name;
}

/** The tensors of a comparator that are one here, one after the other along the first dimension: PCL's query, key and value are three convolutions. */
export function partsOf(network: Comparator['network'], name: string): string[] {
  const [module, kind] = name.split('.qkv.');
  return network === 'pcl' && kind !== undefined ? ['g', 'theta', 'phi'].map((part) => `${module}.${part}.${kind}`) : [name];
}

/** The backbone whose tensors have these names; undefined for none of ours. */
export function backboneOf(network: Comparator['network'], names: ReadonlySet<string>): BackboneName | undefined {
  if (network === 'timm') return 'vit_b_16';
  if (network === 'clip') return 'vit_b_16_clip';
  if (network === 'pcl') return 'pcl';
  const isBottleneck = names.has('layer1.0.conv3.weight');
  let blocks = 0;
  while (names.has(`layer3.${blocks}.conv1.weight`)) blocks++;
  if (network === 'caffe') return isBottleneck && blocks === 6 ? 'resnet50_caffe' : undefined;
  const depths = isBottleneck ? { 6: 'resnet50', 23: 'resnet101' } : { 2: 'resnet18', 6: 'resnet34' };
  return (depths as Record<number, BackboneName>)[blocks];
}
