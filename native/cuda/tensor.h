// What the CUDA backend plans before it runs: tensors, parameters, buffers with lifetimes, cuDNN plans, and the context
// that all steps share. Planning touches no device; only bind() knows addresses.
#pragma once
#include <memory>
#include <vector>

#include "cuda/augment.h"
#include "cuda/kernels.h"
#include "cuda/planner.h"
#include "cuda/runtime.h"
#include "lowering.h"

namespace comface::cuda {

/** Alignment of every buffer and parameter: what cuBLASLt's heuristics take for granted. */
inline constexpr size_t kAlignBytes = 256;

/** One layer's result. */
struct Tensor {
  Shape shape;
  bool image = false, wanted = false;
  int buffer = -1;
  std::vector<int> parts;  // image: buffers whose sum is the gradient
  int gradient = -1;       // vector: one buffer, zeroed, then added to
  // Left by the convolution that wrote the result: sums of it and of its squares, for the normalization that reads it.
  int sum = -1, squares = -1;
  // Left by the convolution that wrote the gradient: it is masked by result > 0 already, and these are sum(d), sum(d x)
  // with x what the normalization read.
  int maskedSum = -1, maskedProduct = -1;
};

/** Where a parameter, its gradient and moments lie in the flat arrays. A convolution's weights are K x R x S x C with K
 * and C padded. */
struct Stored {
  size_t offset = 0, stored = 0;  // floats, padding included
};

/** All parameters (or gradients, or moments) end to end. */
class Flat {
 public:
  void plan(Buffers& buffers, size_t count) { count_ = count, buffer_ = buffers.keep(count * sizeof(float)); }
  void bind(const Buffers& buffers) { data_ = buffer_ >= 0 ? buffers.at<float>(buffer_) : nullptr; }
  float* data() const { return data_; }
  size_t size() const { return count_; }

 private:
  size_t count_ = 0;
  int buffer_ = -1;
  float* data_ = nullptr;
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
  int copy = -1;     // of the values in the image's number type, by the same offsets
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
  // The input: fp32 images as the caller gave them, or pictures whose views are made here.
  bool isOnPictures = false;
  AugmentArgs pictures{};

  std::vector<RowRange> chunkRows() const;
  int channels(const Shape& s) const { return paddedChannels(s.c); }
  size_t pixels(const Shape& s) const { return static_cast<size_t>(s.n) * s.h * s.w; }
  size_t imageCount(const Shape& s) const { return pixels(s) * channels(s); }
  size_t imageBytes(const Shape& s) const { return imageCount(s) * sizeOf(number); }
  void reserveScratch(size_t bytes) { scratchBytes = std::max(scratchBytes, bytes); }
  /** What convolutions read of a parameter. */
  void* weights(const Stored& stored) const {
    if (number == Number::fp32) return values.data() + stored.offset;
    return buffers.at<char>(copy) + stored.offset * sizeOf(number);
  }
  /** The `which`-th parameter (or statistic) of a layer. */
  static int find(const std::vector<Parameter>& list, int layer, int which);
};

/** One or several fused layers. Planned in order, then run in order and in reverse. Times count forward steps, then
 * backward steps. */
class Step {
 public:
  explicit Step(Context& context) : context(context) {}
  virtual ~Step() = default;
  virtual void planForward(int time) = 0;
  /** Called in reverse order for the steps whose result has a gradient; adds parts to its inputs. */
  virtual void planBackward(int time) { (void)time; }
  /** After the arena has addresses. */
  virtual void bind() {}
  virtual void forward() = 0;
  virtual void backward() {}
  /** The layer whose result this step writes. */
  virtual int result() const = 0;

 protected:
  Tensor& tensor(int layer) const { return context.tensors[layer]; }
  const Layer& layerAt(int layer) const { return context.graph.layers[layer]; }
  void* data(int layer) const { return context.buffers.at(tensor(layer).buffer); }
  void* at(int buffer) const { return buffer >= 0 ? context.buffers.at(buffer) : nullptr; }
  void touch(int layer, int time) const { context.buffers.touch(tensor(layer).buffer, time); }
  float* rows(int layer) const { return context.buffers.at<float>(tensor(layer).buffer); }
  float* gradientRows(int layer) const { return context.buffers.at<float>(tensor(layer).gradient); }
  /** A new buffer that is alive at `time`. */
  int create(size_t bytes, int time) const {
    const int id = context.buffers.create(bytes);
    context.buffers.touch(id, time);
    return id;
  }

  Context& context;
};

using StepPtr = std::unique_ptr<Step>;

// conv.cc, normalization.cc, image.cc, dense.cc, loss.cc
StepPtr convStep(Context& context, int layer);
StepPtr normStep(Context& context, const NormGroup& group);
StepPtr inputStep(Context& context, int staged);                // staged: the input as the caller gave it, fp32 N C H W
StepPtr seedStep(Context& context, int layer, int seedBuffer);  // writes the last layer's gradient before backward
StepPtr imageReluStep(Context& context, int layer);
StepPtr imageAddStep(Context& context, int layer);
StepPtr maxPoolStep(Context& context, int layer);
StepPtr averageStep(Context& context, int layer);
StepPtr denseStep(Context& context, int layer);  // linear, rows, l2Normalize, reluDifference, relu and add of vectors
StepPtr lossStep(Context& context, int layer);

/** Sums a tensor's gradient parts into the first while its producer's step is planned or run. */
class PartSum {
 public:
  /** Keeps one part (one = true) or at most two. Returns the buffers that remain. */
  void plan(Context& context, Tensor& tensor, int most, int time);
  void run(Context& context) const;

 private:
  std::vector<std::pair<int, int>> sums_;  // first += second
  size_t count_ = 0;
};

}  // namespace comface::cuda
