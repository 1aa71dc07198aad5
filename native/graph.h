// The network as data: layer records, checked, with shapes and parameter names. A backend compiles a Graph.
// Names follow torchvision (conv1.weight, bn1.running_mean); lib/models/ writes the records.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "core.h"

namespace comface {

enum class Op : int32_t {
  input,           // N x C x H x W images or N x C features
  conv,            // out channels, kernel, stride, pad, optional bias
  batchNorm,       // eps, momentum (PyTorch's meaning: running = (1-m)*running + m*batch, variance unbiased)
  relu,            // max(x, 0), or with a slope x where it is positive and slope x elsewhere
  add,             // two inputs of one shape
  maxPool,         // kernel, stride, pad, flag ceil: windows may end beyond the padding
  avgPool,         // global: N x C x H x W -> N x C
  linear,          // out, optional bias; N x C -> N x out, of an image at each of its positions
  rows,            // samples [batch*from/of, batch*to/of) of a vector layer
  l2Normalize,     // each row divided by max(|row|, 1e-12)
  reluDifference,  // relu(first - second), ComFace section 3.2 with first = h_y, second = h_x
  infoNce,         // loss, ComFace eq. (1): rows i and i + N/2 are the positive pair; temperature
  squaredError,    // loss, mean over samples of (row - target)^2 against the targets of the step
  // Vision transformers (Dosovitskiy et al., 2021). A sequence of T tokens is an image of height T and width 1; all but
  // `tokens` take any image, whose positions are its tokens in row-major order.
  tokens,     // N x C x H x W -> N x C x T x 1; flags: class token in front, learned positions added
  layerNorm,  // over the channels at each position; eps
  gelu,       // x times the normal distribution function of x, or flag quick: x sigmoid(1.702 x)
  attention,  // heads; 3C channels (query, key, value, each with its heads in order) -> C
  token,      // one position -> N x C
  // PCL's network (Liu et al., 2023), which also has relu with a slope.
  flatten,             // N x C x H x W -> N x CHW, channel after channel as in PyTorch
  efficientAttention,  // as attention, but without scores among positions: Shen et al., 2021, section 3
  // StyleGAN's generator (Karras et al., 2019): inference in fp32 only, as the first of StyleGAN3 below.
  pixelNorm,      // vector: x / sqrt(mean over channels of x^2 + eps)
  constant,       // out, height, width: a learned image, the same for each sample; of its input only N is read
  upsample,       // up: each pixel up x up times
  convTranspose,  // out, kernel, stride, pad; no bias
  blur,           // each channel by itself by [1 2 1] x [1 2 1] / 16, zero padding of 1
  // Image x and vector style N x 2C; slope, eps. u = leaky relu(x + noise * noiseWeight + bias), then
  // (u - mean) / sqrt(variance + eps) over positions, biased, then times style[c] + 1 plus style[C + c].
  styleEpilogue,
  // StyleGAN3 (Karras et al., 2021).
  fourierFeatures,  // vector N x 4 (rotation, translation) -> out, height, width; rate, bandwidth: native/reference/
  // Image x and vector style N x C: a convolution, stride 1, whose weights are scaled by channel for each sample; out,
  // kernel, pad, flags demodulate and half, eps.
  modulatedConv,
  // Bias, up by `up`, leaky relu times gain, clamp to +-clamp, down by `down`; upTaps and downTaps of the filters (0:
  // none), padLow left and top, padHigh right and bottom, both at the upsampled rate and negative to crop; flags half,
  // as its input, and radial: the filter of the way down is two-dimensional.
  filteredRelu,
};
inline constexpr int kOpCount = 29;

struct Layer {
  Op op = Op::input;
  std::string name;
  std::array<int, 2> inputs = {-1, -1};  // indices of earlier layers
  int out = 0, kernel = 0, stride = 1, pad = 0;
  int height = 0, width = 0;                                                // constant, fourierFeatures
  int up = 1, down = 1, upTaps = 0, downTaps = 0, padLow = 0, padHigh = 0;  // filteredRelu; up: upsample, too
  int from = 0, to = 0, of = 1;                                             // rows
  int heads = 1;                                                            // attention, efficientAttention
  int position = 0;                                                         // token
  bool bias = false;
  bool ceil = false;                           // maxPool
  bool classToken = false, positions = false;  // tokens
  bool quick = false;                          // gelu
  bool demodulate = false;                     // modulatedConv
  bool radial = false;                         // filteredRelu
  bool half = false;                           // modulatedConv, filteredRelu: in fp16 where Graph::precision is
  float slope = 0;                             // relu, styleEpilogue, filteredRelu
  float gain = 1, clamp = 256;                 // filteredRelu
  float rate = 0, bandwidth = 0;               // fourierFeatures
  float eps = 1e-5f, momentum = 0.1f, temperature = 0.1f;
  float weight = 1;  // factor of a loss in the total
  Shape shape;       // of the result: given for input, else computed. A loss has {1, 1}.
};

/**
 * A trained tensor, stored outside as fp32 in PyTorch's layout (O I kH kW; out x in). Its name is the layer's and its
 * own (conv1.weight); those of `tokens` belong to the module that the layer is in, as in timm (cls_token, pos_embed).
 */
struct Parameter {
  std::string name;
  int layer;
  std::vector<int> dims;
  size_t count;
};

struct Graph {
  std::vector<Layer> layers;  // layer 0 is the input, in topological order
  bool training = false;      // batch statistics, gradients and Adam; else running statistics and forward only
  /** Of images; vectors are fp32. A generator's are fp32 in fp16, too, but in the layers marked `half`. */
  Precision precision = Precision::fp32;
  int threads = 1;
  /**
   * Gradient cache (Gao et al., 2021, arXiv 2101.06983): images run in `chunks`, one after the other, vectors all at
   * once, so that a loss sees the whole batch and memory holds the images of one chunk. A batch is `parts` equal lists
   * (x~1, x~2, y~), and a chunk takes the same share of each. Batch statistics are of a chunk.
   */
  int chunks = 1, parts = 1;
  /** The same bits each time; else a device may add up in any order where that is faster. */
  bool deterministic = true;
  /** Program::choices() of an earlier run, to be taken again; empty: choose. */
  std::string choices;

  // Derived by finish().
  std::vector<Parameter> parameters;
  std::vector<Parameter> statistics;    // running_mean and running_var of each batchNorm
  int targetCount = 0;                  // rows of the squared errors, 0 without one
  std::vector<int> losses;              // layer indices
  std::vector<std::vector<int>> users;  // layers that read a layer's result

  /** Checks the records, computes shapes and the lists above. Throws invalidConfig naming the layer. */
  void finish();
  int batch() const { return layers[0].shape.n; }
  /** Index of a layer by name, or -1. */
  int find(const std::string& name) const;
};

/** Index of a layer's `which`-th parameter (weight, bias) or statistic (mean, variance) in the graph's list of them. */
inline int indexOf(const std::vector<Parameter>& list, int layer, int which) {
  int first = 0;
  while (list[first].layer != layer) ++first;
  return first + which;
}

/** A convolution or, with a kernel of 1, a linear layer. */
inline bool hasWeights(Op op) { return op == Op::conv || op == Op::linear; }
/** Of the generators: for inference in fp32 or fp16 (fp64 with the plain loops). */
inline bool isGenerator(Op op) { return op >= Op::pixelNorm && op <= Op::filteredRelu; }
/** An image and a vector per sample that styles it. */
inline bool isStyled(Op op) { return op == Op::styleEpilogue || op == Op::modulatedConv; }
/** May be in fp16 in a graph that is else of fp32. */
inline bool mayBeHalf(Op op) { return op == Op::modulatedConv || op == Op::filteredRelu; }
inline bool readsTwo(Op op) { return op == Op::add || op == Op::reluDifference || isStyled(op); }
/** Of 3C channels: query, key, value. */
inline bool isAttention(Op op) { return op == Op::attention || op == Op::efficientAttention; }
/** Begins with weights of 1 and biases of 0. */
inline bool isNorm(Op op) { return op == Op::batchNorm || op == Op::layerNorm; }
inline bool isLoss(Op op) { return op == Op::infoNce || op == Op::squaredError; }
/** Makes a vector of an image. */
inline bool endsImages(Op op) { return op == Op::avgPool || op == Op::token || op == Op::flatten; }

/** Taps of filteredRelu's two filters; one where there is none. */
inline int tapsUp(const Layer& layer) { return layer.upTaps > 0 ? layer.upTaps : 1; }
inline int tapsDown(const Layer& layer) { return layer.downTaps > 0 ? layer.downTaps : 1; }
/** Edge of filteredRelu's image between its filters, for an input of so many pixels. */
inline int64_t edgeBetween(const Layer& layer, int extent) {
  return int64_t{extent} * layer.up + layer.padLow + layer.padHigh - (tapsUp(layer) - 1);
}

/** Rows [first, last) that a rows layer takes from its input. */
inline std::pair<int, int> rowRange(const Layer& layer, int inputRows) {
  return {static_cast<int>(static_cast<int64_t>(inputRows) * layer.from / layer.of),
          static_cast<int>(static_cast<int64_t>(inputRows) * layer.to / layer.of)};
}

/** One planned buffer: alive from step `first` to step `last` (inclusive) of a program. */
struct Lifetime {
  size_t sizeBytes = 0;
  int first = 0, last = 0;
  size_t offset = 0;  // result
};

/** Places buffers in one arena so that no two alive at once overlap; returns the arena's size. Offsets are multiples of
 * `alignment`. */
size_t planArena(std::vector<Lifetime>& buffers, size_t alignment = 64);

}  // namespace comface
