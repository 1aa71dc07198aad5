// ResNet-18, 34, 50 and 101 as layer records (He et al., 2016; stride on the 3x3 convolution as torchvision has it, "v1.5"; resnet50_caffe has it where
// the paper and Caffe have it, on the first 1x1 convolution, and pools without padding: the network of VGGFace2's weights, Cao et al., 2018).
// Names are torchvision's, so weights load there; the fully connected layer is left out. The last record is the embedding, `avgpool`.
import type { LayerRecord } from './layers.js';

interface Design {
  blocks: readonly [number, number, number, number];
  bottleneck: boolean;
  caffe?: boolean;
}

const designs = {
  resnet18: { blocks: [2, 2, 2, 2], bottleneck: false },
  resnet34: { blocks: [3, 4, 6, 3], bottleneck: false },
  resnet50: { blocks: [3, 4, 6, 3], bottleneck: true },
  resnet101: { blocks: [3, 4, 23, 3], bottleneck: true },
  resnet50_caffe: { blocks: [3, 4, 6, 3], bottleneck: true, caffe: true },
} as const satisfies Record<string, Design>;

/** Name of a ResNet: a residual network (He et al., 2016) of 18, 34, 50 or 101 layers, or Caffe's of 50. */
export type ResNetName = keyof typeof designs;

/** Every ResNet's name, smallest first, the variant after them. */
export const resnetNames = Object.keys(designs) as ResNetName[];

/** Width of the embedding: 512 or 2048 with the usual 64 channels in the first stage. */
export const resnetWidth = (name: ResNetName, width: number): number => width * 8 * (designs[name].bottleneck ? 4 : 1);

/**
 * Layer records from `images` (N x 3 x size x size) to `avgpool` (N x embedding width).
 * @param width Channels of the first stage; every stage scales with it.
 */
export function resnet(name: ResNetName, size: number, width: number): LayerRecord[] {
  const { blocks, bottleneck, caffe = false }: Design = designs[name];
  const layers: LayerRecord[] = [
    { op: 'input', name: 'images', channels: 3, height: size, width: size },
    { op: 'conv', name: 'conv1', input: 'images', out: width, kernel: 7, stride: 2, pad: 3 },
    { op: 'batchNorm', name: 'bn1', input: 'conv1' },
    { op: 'relu', name: 'relu', input: 'bn1' },
    { op: 'maxPool', name: 'maxpool', input: 'relu', kernel: 3, stride: 2, ...(caffe ? { pad: 0, ceil: true } : { pad: 1 }) },
  ];
  let input = 'maxpool';
  let channels = width;
  for (const [stage, count] of blocks.entries()) {
    for (let index = 0; index < count; index++) {
      const inner = width * 2 ** stage;
      const out = inner * (bottleneck ? 4 : 1);
      const stride = stage > 0 && index === 0 ? 2 : 1;
      const name = `layer${stage + 1}.${index}`;
      layers.push(...block(name, { input, channels, inner, out, stride, bottleneck, caffe }));
      input = `${name}.out`;
      channels = out;
    }
  }
  layers.push({ op: 'avgPool', name: 'avgpool', input });
  return layers;
}

interface BlockSizes {
  input: string;
  channels: number;
  inner: number;
  out: number;
  stride: number;
  bottleneck: boolean;
  caffe: boolean;
}

/** One residual block: the branch of two or three convolutions, the skip path, their sum. */
function block(name: string, { input, channels, inner, out, stride, bottleneck, caffe }: BlockSizes): LayerRecord[] {
  const branch = bottleneck
    ? [
        { out: inner, kernel: 1, stride: caffe ? stride : 1 },
        { out: inner, kernel: 3, stride: caffe ? 1 : stride },
        { out, kernel: 1, stride: 1 },
      ]
    : [
        { out, kernel: 3, stride },
        { out, kernel: 3, stride: 1 },
      ];
  const layers: LayerRecord[] = [];
  let from = input;
  for (const [index, conv] of branch.entries()) {
    const number = index + 1;
    layers.push({ op: 'conv', name: `${name}.conv${number}`, input: from, ...conv, pad: conv.kernel >> 1 });
    layers.push({ op: 'batchNorm', name: `${name}.bn${number}`, input: `${name}.conv${number}` });
    from = `${name}.bn${number}`;
    if (number === branch.length) break;
    layers.push({ op: 'relu', name: `${name}.relu${number}`, input: from });
    from = `${name}.relu${number}`;
  }
  let skip = input;
  if (stride !== 1 || channels !== out) {
    layers.push({ op: 'conv', name: `${name}.downsample.0`, input, out, kernel: 1, stride, pad: 0 });
    layers.push({ op: 'batchNorm', name: `${name}.downsample.1`, input: `${name}.downsample.0` });
    skip = `${name}.downsample.1`;
  }
  layers.push({ op: 'add', name: `${name}.add`, inputs: [from, skip] });
  layers.push({ op: 'relu', name: `${name}.out`, input: `${name}.add` });
  return layers;
}
