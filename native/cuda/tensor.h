// What the CUDA backend plans before it runs: tensors, parameters, buffers with lifetimes, cuDNN plans, and the context
// that all steps share. Planning touches no device; only bind() knows addresses.
#pragma once
#include <memory>
#include <vector>

#include "cuda/augment.h"
#include "cuda/kernels.h"
#include "cuda/planner.h"
#include "cuda/runtime.h"
#include "slots.h"

namespace comface::cuda {

/** Alignment of every buffer and parameter: what cuBLASLt's heuristics take for granted. */
inline constexpr size_t kAlignBytes = 256;

struct Tensor : StepTensor {
  Number number = Number::fp32;  // Context::number but in a generator's layers in half
  // Left by the convolution that wrote the result, for the normalization that reads it: the sum of each channel, then
  // that of its squares.
  int sums = -1;
  // Left by the convolution that wrote the gradient: it is masked by result > 0 already, and these are sum(d) of each
  // channel, then sum(d x) with x what the normalization read.
  int maskedSums = -1;
};

/** Where a parameter, its gradient and moments lie in the flat arrays. A convolution's weights are K x R x S x C with K
 * and C padded. */
struct Stored {
  size_t offset = 0, stored = 0;  // floats, padding included
  bool isPlain = false;           // as PyTorch has it, whatever its dimensions
};

/** Rows of a chunk: `count` of them, from row `chunk` of its images, are rows from `whole` of the batch. */
struct RowRange {
  size_t chunk, whole;
  int count;
};

struct Context {
  Context(const Graph& graph, const Lowered& lowered, Planner& planner)
      : graph(graph), lowered(lowered), planner(planner) {}

  const Graph& graph;
  const Lowered& lowered;
  Planner& planner;
  Number number = Number::fp32;
  bool isFusing = true;  // off: every layer by itself, the fallback of every fusion
  Buffers buffers;
  std::vector<Tensor> tensors;  // by layer
  std::vector<Stored> parameters, statistics;
  Flat values, gradients, firstMoments, secondMoments, running;
  int rounded = -1;  // the values in the image's number type, by the same offsets
  int losses = -1;   // doubles
  int factors = -1;  // floats: what the gradient of each loss begins with, its weight x the loss scale
  int targets = -1;  // of the squared errors
  int numbers = -1, flags = -1, scale = -1;  // StepNumbers, StepFlags, LossScale
  int lossWeights = -1;                      // floats
  size_t scratchBytes = 0;
  int scratch = -1, workspace = -1;
  cudaStream_t stream = nullptr;
  cublasLtHandle_t blas = nullptr;

  // Of a batch in several chunks (Graph::chunks): images are computed one chunk after the other.
  int chunk = 0;
  bool isRecomputing = false;
  // The input: fp32 N C H W as the caller gave it, or pictures whose views are made here.
  const float* input = nullptr;
  bool isOnPictures = false;
  AugmentArgs pictures{};

  std::vector<RowRange> chunkRows() const;
  int channels(const Shape& s) const { return paddedChannels(s.c); }
  size_t pixels(const Shape& s) const { return static_cast<size_t>(s.n) * s.h * s.w; }
  size_t imageCount(const Shape& s) const { return pixels(s) * channels(s); }
  /** Of a tensor in Context::number, which those of layers in half are not. */
  size_t imageBytes(const Shape& s) const { return imageCount(s) * sizeOf(number); }
  size_t imageBytes(const Tensor& t) const { return imageCount(t.shape) * sizeOf(t.number); }

  // The loops of steps.h, enqueued.
  void relu(const void* x, void* y, size_t count) const { cuda::relu(number, 0, x, y, count, stream); }
  void reluBackward(const void* y, void* gradient, size_t count) const {
    cuda::reluBackward(number, 0, y, gradient, gradient, count, stream);
  }
  void add(const void* a, const void* b, void* sum, size_t count) const { cuda::add(number, a, b, sum, count, stream); }
  void copy(void* to, const void* from, size_t bytes) const {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "a copy on the device");
  }

  void reserveScratch(size_t bytes) { scratchBytes = std::max(scratchBytes, bytes); }
  /** What convolutions and linear layers of images read of a parameter. */
  void* weights(const Stored& stored) const {
    if (number == Number::fp32) return values.data() + stored.offset;
    return buffers.at<char>(rounded) + stored.offset * sizeOf(number);
  }
};

using Step = StepOf<Context>;
using StepPtr = std::unique_ptr<Step>;
using PartSum = PartSumOf<Context>;

// conv.cc, normalization.cc, image.cc, dense.cc, transformer.cc, generator.cc
StepPtr convStep(Context& context, int layer);
StepPtr normStep(Context& context, const NormGroup& group);
StepPtr inputStep(Context& context);
StepPtr seedStep(Context& context, int layer, int seedBuffer);  // writes the last layer's gradient before backward
StepPtr maxPoolStep(Context& context, int layer);
StepPtr averageStep(Context& context, int layer);
// linear, rows, l2Normalize, reluDifference, pixelNorm, relu and add of vectors
StepPtr denseStep(Context& context, int layer);
StepPtr lossStep(Context& context, int layer);
StepPtr tokensStep(Context& context, int layer);
StepPtr layerNormStep(Context& context, int layer);
StepPtr elementwiseStep(Context& context, int layer);  // gelu, and relu with a slope
StepPtr attentionStep(Context& context, int layer);
StepPtr efficientAttentionStep(Context& context, int layer);
StepPtr tokenStep(Context& context, int layer);
StepPtr flattenStep(Context& context, int layer);
StepPtr imageLinearStep(Context& context, int layer);  // linear at each position of an image
StepPtr generatorStep(Context& context, int layer);    // what StyleGAN and StyleGAN3 add, but pixelNorm

}  // namespace comface::cuda
