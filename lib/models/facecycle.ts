// FaceCycle's encoder as layer records (Chang et al., 2021), in the form that PCL trains (Liu et al., 2023): sixteen convolutions with leaky ReLU and
// without norms, two of them followed by efficient attention. Names are those of PCL's weights, but for the three 1x1 convolutions of an attention
// (theirs are g, theta, phi), which are one here, `qkv`. Of its two branches at the end this is the one of expressions; that of poses is left out.
import type { LayerRecord } from './layers.js';

/** Of every leaky ReLU. */
const kSlope = 0.1;

/** Height and width of the last map: four convolutions of stride 2. */
const lastEdge = (size: number): number => Math.ceil(size / 16);

/** Width of the embedding, which is a whole map: 2048 for pictures of 64 pixels, 6272 for 100, with the usual 64 channels. */
export const faceCycleWidth = (size: number, width: number): number => 2 * width * lastEdge(size) ** 2;

/**
 * Layer records from `images` (N x 3 x size x size) to `embedding` (N x its width).
 * @param width Channels of the first stage; every stage scales with it.
 */
export function faceCycle(size: number, width: number): LayerRecord[] {
  const layers: LayerRecord[] = [{ op: 'input', name: 'images', channels: 3, height: size, width: size }];
  const last = () => layers.at(-1)!.name;
  const conv = (name: string, out: number, { kernel = 3, stride = 1 } = {}) =>
    layers.push({ op: 'conv', name, input: last(), out, kernel, stride, pad: kernel >> 1, bias: true });
  const leaky = (name: string) => layers.push({ op: 'relu', name, input: last(), slope: kSlope });
  /** Two convolutions as nn.Sequential numbers them, attention after the first where there is one. */
  const pair = (
    name: string,
    [first, second]: readonly [number, number],
    how: { kernel?: number; stride?: number } = {},
    hasAttention = false,
  ) => {
    conv(`${name}.0`, first, how);
    leaky(`${name}.1`);
    if (hasAttention) attend(`${name}.2`, first);
    const next = hasAttention ? 3 : 2;
    conv(`${name}.${next}`, second);
    leaky(`${name}.${next + 1}`);
  };
  const attend = (name: string, channels: number) => {
    const input = last();
    conv(`${name}.qkv`, 3 * channels, { kernel: 1 });
    layers.push({ op: 'efficientAttention', name: `${name}.attention`, input: `${name}.qkv`, heads: 1 });
    layers.push({ op: 'add', name: `${name}.add`, inputs: [input, `${name}.attention`] });
    leaky(`${name}.act`);
  };
  const residual = (name: string, channels: number) => {
    const input = last();
    conv(`${name}.conv1`, channels);
    leaky(`${name}.relu1`);
    conv(`${name}.conv2`, channels);
    layers.push({ op: 'add', name: `${name}.add`, inputs: [`${name}.conv2`, input] });
    leaky(`${name}.relu2`);
  };
  const [narrow, middle, wide] = [width, 2 * width, 4 * width];
  pair('conv1', [narrow, narrow], { kernel: 7, stride: 2 });
  pair('layer1', [narrow, narrow], {}, true);
  pair('layer2_1', [middle, middle], { stride: 2 }, true);
  residual('resblock1', middle);
  residual('resblock2', middle);
  pair('layer2_2', [middle, middle], { stride: 2 });
  pair('layer3_1', [wide, middle], { stride: 2 });
  pair('layer3_2_exp', [middle, middle]);
  layers.push({ op: 'flatten', name: 'embedding', input: last() });
  return layers;
}
