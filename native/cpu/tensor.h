// What the CPU backend plans before it runs: tensors, buffers with lifetimes, and the context that all steps share.
#pragma once
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "cpu/algorithms.h"
#include "cpu/generator.h"
#include "cpu/kernels.h"
#include "cpu/transformer.h"
#include "slots.h"

namespace comface::cpu {

using Memory = dnnl::memory;
using Args = std::unordered_map<int, Memory>;

/** Image tensors are blocked, or plain for the network's input. */
struct Tensor : StepTensor {
  bool plain = false;
};

/** Where a parameter, its gradient and moments lie in the flat arrays; convolutions keep oneDNN's layout. */
struct Stored {
  size_t offset = 0, stored = 0;  // floats, padding included
  Memory::desc layout, plain;     // empty unless the layouts differ
};

struct Context {
  Context(const Graph& graph, const Kernels& kernels) : graph(graph), kernels(kernels), algorithms(graph) {}

  const Graph& graph;
  const Kernels& kernels;
  const Transformer& transformer = selectTransformer();
  const EfficientAttention& efficientAttention = selectEfficientAttention();
  const Generator& generator = selectGenerator();
  const Filtered& filtered = selectFiltered();
  Algorithms algorithms;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  Buffers buffers;
  std::vector<Tensor> tensors;  // by layer
  std::vector<Stored> parameters, statistics;
  Flat values, gradients, firstMoments, secondMoments, running;
  std::vector<double> losses;
  size_t scratchBytes = 0;  // oneDNN's largest scratchpad
  int scratch = -1;
  const float *input = nullptr, *targets = nullptr;
  bool weightsChanged = true;

  int type() const { return graph.precision == Precision::bf16 ? 1 : 0; }  // index into Kernels
  size_t elementBytes() const { return type() ? 2 : 4; }
  Memory::data_type dataType() const { return type() ? Memory::data_type::bf16 : Memory::data_type::f32; }

  Extent extent(const Shape& s) const {
    return {s.n, (s.c + kernels.block - 1) / kernels.block, static_cast<size_t>(s.h) * s.w};
  }
  size_t imageCount(const Shape& s) const {  // elements, padding channels included
    const Extent e = extent(s);
    return static_cast<size_t>(e.n) * e.blocks * e.hw * kernels.block;
  }
  size_t imageBytes(const Shape& s) const { return imageCount(s) * elementBytes(); }

  // The loops of steps.h.
  void relu(const void* x, void* y, size_t count) const { kernels.relu[type()](x, y, count); }
  void reluBackward(const void* y, void* gradient, size_t count) const {
    kernels.reluBackward[type()](y, gradient, count);
  }
  void add(const void* a, const void* b, void* sum, size_t count) const { kernels.add[type()](a, b, sum, count); }
  void copy(void* to, const void* from, size_t bytes) const { std::memcpy(to, from, bytes); }

  Memory::desc imageDesc(const Tensor& t) const {
    using Tag = Memory::format_tag;
    const Tag tag = t.plain ? Tag::nchw : kernels.block == 16 ? Tag::nChw16c : Tag::nChw8c;
    return {{t.shape.n, t.shape.c, t.shape.h, t.shape.w}, dataType(), tag};
  }
  static Memory::desc plainDesc(const Shape& s) {
    return {{s.n, s.c, s.h, s.w}, Memory::data_type::f32, Memory::format_tag::nchw};
  }
  Memory memory(const Memory::desc& desc, void* data) const { return {desc, engine, data}; }
  /** Asks for scratch memory in the arena instead of an allocation per call. */
  dnnl::primitive_attr attributes() const {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attr;
  }
  template <class Descriptor>
  void reserveScratch(const Descriptor& pd) {
    scratchBytes = std::max(scratchBytes, pd.scratchpad_desc().get_size());
  }
  template <class Descriptor>
  Memory scratchMemory(const Descriptor& pd) const {
    return memory(pd.scratchpad_desc(), buffers.at(scratch));
  }
};

using Step = StepOf<Context>;
using StepPtr = std::unique_ptr<Step>;
using PartSum = PartSumOf<Context>;

// conv.cc, norm.cc, image.cc, dense.cc, tokens.cc, synthesis.cc
StepPtr convStep(Context& context, int layer);  // linear of images, too
StepPtr normStep(Context& context, const NormGroup& group);
StepPtr inputStep(Context& context);
StepPtr seedStep(Context& context, int layer, int seedBuffer);  // writes the last layer's gradient before backward
StepPtr maxPoolStep(Context& context, int layer);
StepPtr averageStep(Context& context, int layer);
StepPtr denseStep(Context& context,
                  int layer);  // linear, rows, l2Normalize, pixelNorm, reluDifference, relu, add of vectors
StepPtr lossStep(Context& context, int layer);
StepPtr tokensStep(Context& context, int layer);
StepPtr layerNormStep(Context& context, int layer);
StepPtr elementwiseStep(Context& context, int layer);  // gelu, and relu with a slope
StepPtr attentionStep(Context& context, int layer);
StepPtr efficientAttentionStep(Context& context, int layer);
StepPtr tokenStep(Context& context, int layer);
StepPtr flattenStep(Context& context, int layer);
StepPtr generatorStep(Context& context, int layer);  // all of the generators' ops but pixelNorm

}  // namespace comface::cpu
