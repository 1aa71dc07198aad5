// The records a network is made of. native/graph.h holds the same list and checks it; a model is an array of these.

/** Names of the layer to read and of this layer; names become parameter names (`conv1` -> `conv1.weight`). */
interface Base {
  name: string;
}
interface OneInput extends Base {
  input: string;
}
interface TwoInputs extends Base {
  /** For `reluDifference`: relu(first - second). For an op with a style: the image, then the style. */
  inputs: readonly [string, string];
}

export type LayerRecord =
  | (Base & { op: 'input'; channels: number; height: number; width: number })
  | (OneInput & { op: 'conv'; out: number; kernel: number; stride: number; pad: number; bias?: boolean })
  | (OneInput & { op: 'batchNorm'; eps?: number; momentum?: number })
  /** `flatten`: an image's numbers as a vector, channel after channel, each row by row. */
  | (OneInput & { op: 'avgPool' | 'l2Normalize' | 'flatten' })
  /** With a `slope` leaky: slope x where x is negative. */
  | (OneInput & { op: 'relu'; slope?: number })
  | (TwoInputs & { op: 'add' | 'reluDifference' })
  /** `ceil`: the last window may reach beyond the padding, as Caffe's do. */
  | (OneInput & { op: 'maxPool'; kernel: number; stride: number; pad: number; ceil?: boolean })
  /** Of an image: at each of its positions. */
  | (OneInput & { op: 'linear'; out: number; bias: boolean })
  /**
   * C x H x W -> C x T x 1, a sequence of tokens: the positions row by row, the class token before them, learned positions added to all.
   * Its parameters are named by the module it is in, as timm's: `cls_token` and `pos_embed` for a layer without a dot in its name.
   */
  | (OneInput & { op: 'tokens'; classToken: boolean; positions: boolean })
  /** Over the channels at each position of an image. */
  | (OneInput & { op: 'layerNorm'; eps?: number })
  /** `quick`: x sigmoid(1.702 x), as CLIP has it. */
  | (OneInput & { op: 'gelu'; quick?: boolean })
  /** 3C channels (query, key, value, each head after head) -> C, among the positions of an image. */
  | (OneInput & { op: 'attention'; heads: number })
  /** As `attention`, without scores: softmax(query over channels) times (softmax(key over positions) times value) (Shen et al., 2021). */
  | (OneInput & { op: 'efficientAttention'; heads: number })
  /** One position of an image -> a vector per sample. */
  | (OneInput & { op: 'token'; position: number })
  /** Samples [batch * from / of, batch * to / of). */
  | (OneInput & { op: 'rows'; from: number; to: number; of: number })
  | (OneInput & { op: 'infoNce'; temperature: number; weight: number })
  | (OneInput & { op: 'squaredError'; weight: number })
  | GeneratorRecord;

/** What generators add to the records: for inference in fp32. native/graph.h says which tensors each has. */
export type GeneratorRecord =
  /** A vector over the root of the mean of its squares. */
  | (OneInput & { op: 'pixelNorm'; eps?: number })
  /** A learned image, the same for each sample of its input. */
  | (OneInput & { op: 'constant'; out: number; height: number; width: number })
  /** Each pixel `up` x `up` times. */
  | (OneInput & { op: 'upsample'; up: number })
  /** As ConvTranspose2d, without a bias. */
  | (OneInput & { op: 'convTranspose'; out: number; kernel: number; stride: number; pad: number })
  /** Each channel by [1 2 1] x [1 2 1] / 16. */
  | (OneInput & { op: 'blur' })
  /** StyleGAN1's end of a layer: noise, bias, leaky ReLU, instance norm, style. `inputs`: C x H x W and a vector of 2C, scales before shifts. */
  | (TwoInputs & { op: 'styleEpilogue'; slope?: number; eps?: number })
  /** StyleGAN3's input: sines of `out` frequencies, turned and shifted by a vector of 4 (cosine, sine, x, y). */
  | (OneInput & { op: 'fourierFeatures'; out: number; height: number; width: number; rate: number; bandwidth: number })
  /**
   * A convolution whose weights a vector of C numbers scales by input channel. `demodulate`: to a norm of 1 for each output channel. `half`: in fp16 where
   * that is the precision of the graph, in which a generator's other layers are fp32.
   */
  | (TwoInputs & { op: 'modulatedConv'; out: number; kernel: number; pad: number; demodulate?: boolean; half?: boolean; eps?: number })
  /**
   * StyleGAN3's leaky ReLU between an upsampling and a downsampling filter; 0 taps: no filter. `padLow` (left, top) and `padHigh` count pixels of
   * the upsampled image and crop where they are negative. `radial`: the second filter has `downTaps` x `downTaps` taps. `half`: as its input.
   */
  | (OneInput & {
      op: 'filteredRelu';
      up: number;
      down: number;
      upTaps: number;
      downTaps: number;
      padLow: number;
      padHigh: number;
      radial?: boolean;
      half?: boolean;
      slope: number;
      gain: number;
      clamp: number;
    });

/** How many windows of a convolution or pool lie along an edge of so many pixels. */
export function windowsAlong(edge: number, layer: { kernel: number; stride: number; pad: number; ceil?: boolean }): number {
  const { kernel, stride, pad, ceil = false } = layer;
  const room = edge + 2 * pad - kernel;
  const whole = Math.floor(room / stride) + 1;
  // A window that would begin in the padding at the end is left out, as in PyTorch.
  return ceil && room % stride !== 0 && whole * stride < edge + pad ? whole + 1 : whole;
}
