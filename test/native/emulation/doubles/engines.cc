// cuDNN 9.24's answers as measured for a described H200 and A100, as rules. It plans more than this; what our graphs do
// not ask for is refused.
#include "doubles/engines.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <sstream>

#include "emulation.h"

namespace comface::cuda::emulation {
namespace {

[[noreturn]] void refuse(cudnnStatus_t status, const std::string& text) { throw Refusal{status, text}; }

bool contains(const std::vector<int64_t>& list, int64_t id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

/** A fused graph: what comes before its convolution and what after. */
struct Pattern {
  const Graph& graph;
  const Operation& convolution;
  std::vector<const Operation*> before, after;

  const Tensor& output() const { return graph.at(convolution.outputs[0]); }
  bool isStrided() const { return convolution.stride[0] > 1 || convolution.stride[1] > 1; }
};

Pattern patternOf(const Graph& graph) {
  Pattern pattern{graph, *graph.convolution(), {}, {}};
  std::set<int64_t> leadsThere(pattern.convolution.inputs.begin(), pattern.convolution.inputs.end());
  for (auto each = graph.operations.rbegin(); each != graph.operations.rend(); ++each) {
    if (&*each == &pattern.convolution) continue;
    const bool isBefore =
        std::any_of(each->outputs.begin(), each->outputs.end(), [&](int64_t id) { return leadsThere.count(id); });
    if (isBefore) leadsThere.insert(each->inputs.begin(), each->inputs.end());
    (isBefore ? pattern.before : pattern.after).push_back(&*each);
  }
  return pattern;
}

/** Channels side by side in memory, nothing between the numbers. */
bool isPackedChannelsLast(const Tensor& tensor) {
  const auto& d = tensor.dims;
  const int64_t steps[4] = {d[1] * d[2] * d[3], 1, d[1] * d[3], d[1]};
  for (int i = 0; i < 4; ++i)
    if (d[i] != 1 && tensor.strides[i] != steps[i]) return false;
  return true;
}

void checkTensors(const Graph& graph) {
  for (const auto& [id, tensor] : graph.tensors) {
    if (!isPackedChannelsLast(tensor))
      refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "tensor " + std::to_string(id) + " is not packed N H W C");
    if (tensor.type == CUDNN_DATA_BOOLEAN && !tensor.isVirtual)
      refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "the double has no packed bit masks");
  }
}

void checkConnected(const Graph& graph) {
  std::set<int64_t> reached(graph.operations[0].inputs.begin(), graph.operations[0].inputs.end());
  const auto touches = [&](const std::vector<int64_t>& ids) {
    return std::any_of(ids.begin(), ids.end(), [&](int64_t id) { return reached.count(id); });
  };
  for (size_t round = 0; round < graph.operations.size(); ++round)
    for (const Operation& operation : graph.operations)
      if (touches(operation.inputs) || touches(operation.outputs)) {
        reached.insert(operation.inputs.begin(), operation.inputs.end());
        reached.insert(operation.outputs.begin(), operation.outputs.end());
      }
  if (reached.size() != graph.tensors.size())
    refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "the graph is in several pieces");
}

/** 16 bytes at a time: what a fused graph's kernels load. */
void checkVectors(const Graph& graph) {
  for (const auto& [id, tensor] : graph.tensors) {
    if (tensor.isByValue || tensor.isVirtual) continue;
    if (tensor.alignment < 16 || tensor.dims[1] * sizeOf(tensor.type) % 16)
      refuse(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "tensor " + std::to_string(id) + " cannot be read 16 bytes at a time");
  }
}

/** Pointwise operations of a fused graph take their broadcast operand second and scale nothing. */
void checkPointwise(const Graph& graph) {
  for (const Operation& operation : graph.operations) {
    if (operation.kind != Kind::pointwise) continue;
    if (operation.alpha != 1 || operation.beta != 1) refuse(CUDNN_STATUS_NOT_SUPPORTED, "alpha1 and alpha2 must be 1");
    if (graph.at(operation.inputs[0]).dims != graph.at(operation.outputs[0]).dims)
      refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "a broadcast operand comes second");
  }
}

std::string kernelName(const char* family, const Operation& operation) {
  const char* what = operation.kind == Kind::forward        ? "convFwd"
                     : operation.kind == Kind::backwardData ? "convDgrad"
                                                            : "convWgrad";
  return std::string("cudnn_generated_") + family + "_" + what;
}

/** Tensor cores take 16 bytes of channels at a time; cuDNN has kernels of their own for pictures' few channels. */
bool suitsTensorCores(const Graph& graph) {
  return std::all_of(graph.tensors.begin(), graph.tensors.end(), [](const auto& each) {
    const int64_t channels = each.second.dims[1];
    return (channels <= 4 && isHalf(each.second.type)) || channels * sizeOf(each.second.type) % 16 == 0;
  });
}

/** Precompiled; only a filter's gradient has results in fp32 from operands of 16 bits, by a kernel compiled at run
 * time. */
std::vector<Engine> single(const Graph& graph, int capability, cudnnBackendHeurMode_t mode) {
  const Operation& operation = graph.operations[0];
  const Tensor &a = graph.at(operation.inputs[0]), &b = graph.at(operation.inputs[1]),
               &y = graph.at(operation.outputs[0]);
  const bool isFallback = mode == CUDNN_HEUR_MODE_FALLBACK;
  if (a.type != b.type) refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "operands of two types");
  if (a.type != y.type) {
    const bool isThere =
        capability >= 90 && isHalf(a.type) && operation.kind == Kind::backwardFilter && y.type == CUDNN_DATA_FLOAT;
    if (isThere && isFallback) return {{2, kernelName("sm90", operation), true, true}};
    refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "an output of another type than the operands");
  }
  const Engine plain{0, "", false, false};
  if (isFallback) return {plain};
  for (const auto& [id, tensor] : graph.tensors)
    if (isHalf(tensor.type) && tensor.alignment < 16)
      refuse(CUDNN_STATUS_NOT_SUPPORTED, "tensor " + std::to_string(id) + " cannot be read 16 bytes at a time");
  if (!suitsTensorCores(graph)) return {plain};
  return {{22, "", true, false}, {1, "", true, false}, plain};
}

/** Where nothing of the device's own generation is, and what cuDNN refuses altogether. */
bool isOwnGeneration(const Pattern& pattern) {
  const Operation& convolution = pattern.convolution;
  const auto isInside = [](const Tensor& tensor) { return tensor.isVirtual && tensor.type == CUDNN_DATA_FLOAT; };
  for (const Operation* each : pattern.after)
    if (each->kind == Kind::statistics && !isInside(pattern.graph.at(each->inputs[0]))) return false;
  if (convolution.kind == Kind::backwardData && pattern.isStrided()) return false;
  return pattern.before.empty() || isInside(pattern.output());
}

void checkPrologue(const Pattern& pattern) {
  if (pattern.before.empty()) return;
  const cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
  if (pattern.convolution.kind != Kind::forward)
    refuse(status, "only a forward convolution takes operations before it");
  for (const Operation* each : pattern.before) {
    const Tensor& output = pattern.graph.at(each->outputs[0]);
    if (each->kind != Kind::pointwise) refuse(status, "only pointwise operations come before a convolution");
    if (!output.isVirtual) refuse(status, "what is computed before a convolution is virtual");
    const bool isInput = contains(pattern.convolution.inputs, output.id);
    if (isInput && output.type != pattern.graph.at(pattern.convolution.inputs[1]).type)
      refuse(status, "a convolution's operands are of one type");
  }
}

void checkEpilogue(const Pattern& pattern) {
  const cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
  std::set<int64_t> sums;
  for (const Operation* each : pattern.after) {
    if (each->kind == Kind::pointwise) continue;
    for (const int64_t id : each->outputs) {
      const Tensor& sum = pattern.graph.at(id);
      if (sum.dims != std::vector<int64_t>{1, pattern.output().dims[1], 1, 1})
        refuse(status, "only sums over all but the channels");
      if (sum.type != CUDNN_DATA_FLOAT || sum.isVirtual) refuse(status, "sums are real and fp32");
      sums.insert(id);
    }
  }
  if (sums.size() > 2) refuse(status, "more than two sums");
  if (!sums.empty() && pattern.convolution.kind == Kind::backwardData && pattern.isStrided())
    refuse(status, "sums after a strided dgrad");
}

/** Hopper has kernels of its own for fp16 with statistics of the output, compiled beforehand. */
bool isConvolutionWithStatistics(const Pattern& pattern) {
  return pattern.before.empty() && pattern.after.size() == 1 && pattern.after[0]->kind == Kind::statistics &&
         pattern.convolution.kind == Kind::forward && pattern.output().type == CUDNN_DATA_HALF;
}

std::vector<Engine> fused(const Graph& graph, int capability) {
  const Pattern pattern = patternOf(graph);
  if (pattern.convolution.alpha != 1 || pattern.convolution.beta != 0)
    refuse(CUDNN_STATUS_NOT_SUPPORTED, "alpha must be 1 and beta 0");
  checkVectors(graph);
  checkPointwise(graph);
  checkPrologue(pattern);
  checkEpilogue(pattern);
  if (capability >= 90 && isConvolutionWithStatistics(pattern)) return {{22, "", true, false}};
  const Engine own{4, kernelName("fort_native_sm90", pattern.convolution), true, true},
      older{7, kernelName("fort_native_sm80", pattern.convolution), true, true},
      oldest{1, kernelName("cutlass_sm80", pattern.convolution), true, true};
  const auto isOrdered = [](const Operation* each) { return each->kind == Kind::reduction && each->isOrdered; };
  if (std::any_of(pattern.after.begin(), pattern.after.end(), isOrdered)) return {oldest};
  if (capability < 90 || !isOwnGeneration(pattern)) return {older, oldest};
  const bool isSmall = pattern.convolution.kind == Kind::forward && pattern.output().dims[1] <= 16;
  return isSmall ? std::vector{older, own} : std::vector{own, older};
}

std::vector<Engine> withoutConvolution(const Graph& graph) {
  for (const Operation& operation : graph.operations)
    if (operation.kind == Kind::statistics)
      refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "genstats without a convolution");
  return {{7, "cudnn_generated_sm80_pointwise", true, true}, {8, "cudnn_generated_sm80_pointwise_scalar", true, true}};
}

}  // namespace

bool isToRefuse(const std::string& word) {
  const char* const list = std::getenv("COMFACE_EMULATION_REFUSE");
  std::istringstream words(list ? list : "");
  for (std::string each; std::getline(words, each, ',');)
    if (each == word) return true;
  return false;
}

std::vector<Engine> engines(const Graph& graph, int capability, cudnnBackendHeurMode_t mode) {
  if (isToRefuse("all")) refuse(CUDNN_STATUS_NOT_SUPPORTED, "COMFACE_EMULATION_REFUSE has `all`");
  if (isToRefuse("fused") && graph.operations.size() > 1)
    refuse(CUDNN_STATUS_NOT_SUPPORTED, "COMFACE_EMULATION_REFUSE has `fused`");
  if (capability < 80)
    refuse(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, "the double knows compute capability 8.0 and 9.0");
  checkTensors(graph);
  checkConnected(graph);
  const auto convolutions = std::count_if(graph.operations.begin(), graph.operations.end(),
                                          [](const Operation& o) { return o.isConvolution(); });
  if (convolutions > 1) refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "several convolutions");
  if (convolutions == 0) return withoutConvolution(graph);
  return graph.operations.size() == 1 ? single(graph, capability, mode) : fused(graph, capability);
}

std::optional<Engine> engine(const Graph& graph, int capability, int64_t index) {
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    try {
      for (const Engine& each : engines(graph, capability, mode))
        if (each.index == index) return each;
    } catch (const Refusal&) {  // the other mode may know it
    }
  }
  return std::nullopt;
}

int64_t workspaceBytes(const Graph& graph, const Engine& engine) {
  const Operation* const convolution = graph.convolution();
  const bool isSplit = convolution && convolution->kind == Kind::backwardFilter;
  return 4096 + engine.index * 256 + (isSplit ? graph.at(convolution->outputs[0]).count() * 8 : 0);
}

}  // namespace comface::cuda::emulation
