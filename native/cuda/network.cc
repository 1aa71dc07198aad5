// Lowers a graph to steps and plans one arena for everything, in the order in which it will run.
// Trap: steps write in place, so a kept value must be marked kept.
#include "cuda/network.h"

#include <cmath>

#include "cuda/matmul.h"

namespace comface::cuda {
namespace {

Number numberOf(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return Number::fp32;
    case Precision::bf16:
      return Number::bf16;
    case Precision::fp16:
      return Number::fp16;
    default:
      throw Error(Code::invalidConfig, "The CUDA backend computes in fp32, bf16 or fp16, not fp64.");
  }
}

}  // namespace

std::vector<RowRange> Context::chunkRows() const {
  const size_t part = graph.batch() / graph.parts, share = part / graph.chunks;
  std::vector<RowRange> rows;
  for (size_t p = 0; p < static_cast<size_t>(graph.parts); ++p) {
    rows.push_back({p * share, p * part + chunk * share, static_cast<int>(share)});
  }
  if (graph.chunks == 1) rows = {{0, 0, graph.batch()}};
  return rows;
}

StepNumbers numbersOf(const Adam& a) {
  const double t = static_cast<double>(a.step);
  const auto f = [](double x) { return static_cast<float>(x); };
  return {f(a.learningRate),          f(a.beta1),     f(a.beta2),     f(a.epsilon),
          f(a.weightDecay),           f(1 - a.beta1), f(1 - a.beta2), f(1 - std::pow(a.beta1, t)),
          f(1 - std::pow(a.beta2, t))};
}

Network::Network(const Graph& graph, Planner& planner, bool isFusing)
    : graph_(graph), lowered_(lower(graph_)), context_(graph_, lowered_, planner) {
  const Number number = numberOf(graph_.precision);
  const bool isOfGenerator = std::ranges::any_of(graph_.layers, [](const Layer& l) { return isGenerator(l.op); });
  context_.number = isOfGenerator ? Number::fp32 : number;
  context_.isFusing = isFusing;
  context_.tensors.resize(graph_.layers.size());
  context_.parameters.resize(graph_.parameters.size());
  context_.statistics.resize(graph_.statistics.size());
  for (size_t i = 0; i < graph_.layers.size(); ++i) {
    Tensor& t = context_.tensors[i];
    t.shape = graph_.layers[i].shape, t.image = lowered_.image[i], t.wanted = lowered_.wanted[i];
    if (t.image) t.shape.n /= graph_.chunks;
    t.number = graph_.layers[i].half ? number : context_.number;
  }
  makeSteps();
  placeParameters();
  plan();
}

StepPtr Network::stepOf(int layer) {
  const bool isImage = context_.tensors[layer].image;
  switch (graph_.layers[layer].op) {
    case Op::input:
      return inputStep(context_);
    case Op::conv:
      return convStep(context_, layer);
    case Op::linear:
      return isImage ? imageLinearStep(context_, layer) : denseStep(context_, layer);
    case Op::maxPool:
      return maxPoolStep(context_, layer);
    case Op::avgPool:
      return averageStep(context_, layer);
    case Op::infoNce:
    case Op::squaredError:
      return lossStep(context_, layer);
    case Op::relu:
      if (!isImage) return denseStep(context_, layer);
      if (graph_.layers[layer].slope != 0) return elementwiseStep(context_, layer);
      return std::make_unique<ReluStepOf<Context>>(context_, layer);
    case Op::add:
      return isImage ? std::make_unique<AddStepOf<Context>>(context_, layer) : denseStep(context_, layer);
    case Op::tokens:
      return tokensStep(context_, layer);
    case Op::layerNorm:
      return layerNormStep(context_, layer);
    case Op::gelu:
      return elementwiseStep(context_, layer);
    case Op::attention:
      return attentionStep(context_, layer);
    case Op::efficientAttention:
      return efficientAttentionStep(context_, layer);
    case Op::token:
      return tokenStep(context_, layer);
    case Op::flatten:
      return flattenStep(context_, layer);
    default:
      // But for a norm of vectors, what generators add is of images.
      return isImage && isGenerator(graph_.layers[layer].op) ? generatorStep(context_, layer)
                                                             : denseStep(context_, layer);
  }
}

void Network::makeSteps() {
  Buffers& buffers = context_.buffers;
  for (const int i : lowered_.steps) {
    steps_.push_back(lowered_.groups[i].norm >= 0 ? normStep(context_, lowered_.groups[i]) : stepOf(i));
  }
  if (graph_.training && graph_.losses.empty()) {
    seed_ = buffers.keep(graph_.layers.back().shape.count() * sizeof(float));
    steps_.push_back(seedStep(context_, static_cast<int>(graph_.layers.size()) - 1, seed_));
  }
}

/** Offsets in the flat arrays; every step has said how much it stores. */
void Network::placeParameters() {
  const size_t kStep = kAlignBytes / sizeOf(context_.number);  // the rounded copy has the same offsets
  const auto place = [&](std::vector<Stored>& list) {
    size_t total = 0;
    for (Stored& stored : list) {
      stored.offset = total;
      total += (stored.stored + kStep - 1) / kStep * kStep;
    }
    return total;
  };
  Context& c = context_;
  const size_t total = place(c.parameters);
  c.values.plan(c.buffers, total);
  if (c.number != Number::fp32) c.rounded = c.buffers.keep(total * sizeOf(c.number));
  if (graph_.training) {
    for (Flat* flat : {&c.gradients, &c.firstMoments, &c.secondMoments}) flat->plan(c.buffers, total);
    c.reserveScratch(adamScratch(total));
    c.numbers = c.buffers.keep(sizeof(StepNumbers)), c.flags = c.buffers.keep(sizeof(StepFlags));
    c.scale = c.buffers.keep(sizeof(LossScale));
  }
  c.running.plan(c.buffers, place(c.statistics));
  if (graph_.training && graph_.chunks > 1) {
    for (size_t p = 0; p < c.parameters.size(); ++p) {
      if (c.tensors[graph_.parameters[p].layer].image)
        imageGradients_ = c.parameters[p].offset + c.parameters[p].stored;
    }
    chunkSums_ = c.buffers.keep(imageGradients_ * sizeof(float));
  }
  if (graph_.losses.empty()) return;
  c.losses = c.buffers.keep(graph_.losses.size() * sizeof(double));
  c.factors = c.buffers.keep(graph_.losses.size() * sizeof(float));
  c.lossWeights = c.buffers.keep(graph_.losses.size() * sizeof(float));
  if (graph_.targetCount > 0) c.targets = c.buffers.keep(graph_.targetCount * sizeof(float));
}

void Network::plan() {
  Context& c = context_;
  // Images first: several chunks of them run apart from the vectors, which no image of a network that trains depends
  // on.
  if (graph_.chunks > 1)
    std::stable_partition(steps_.begin(), steps_.end(), [&](const StepPtr& step) { return isOfImages(*step); });
  backwardSteps_ = planSteps(c, steps_, inputSum_);
  c.scratch = c.buffers.keep(c.scratchBytes);
  c.workspace = c.buffers.keep(std::max(c.planner.workspaceBytes(), kMatmulWorkspaceBytes));
  arenaBytes_ = c.buffers.plan(kAlignBytes);
}

size_t Network::fixedBytes() const {
  const Context& c = context_;
  size_t bytes = c.buffers.sizeBytes(c.workspace) + c.running.size() * sizeof(float);
  for (const Flat* flat : {&c.values, &c.gradients, &c.firstMoments, &c.secondMoments})
    bytes += flat->size() * sizeof(float);
  for (const int kept : {c.rounded, chunkSums_}) bytes += kept >= 0 ? c.buffers.sizeBytes(kept) : 0;
  return bytes;
}

void Network::bind(char* arena, cudaStream_t stream, cublasLtHandle_t blas) {
  Context& c = context_;
  c.stream = stream, c.blas = blas;
  c.buffers.bind(arena);
  for (Flat* flat : {&c.values, &c.gradients, &c.firstMoments, &c.secondMoments, &c.running}) flat->bind(c.buffers);
  for (auto& step : steps_) step->bind();
}

/** Whether it runs once for each chunk. */
bool Network::isOfImages(const Step& step) const {
  const int result = step.result();
  if (result < 0) return false;
  return context_.tensors[result].image || endsImages(graph_.layers[result].op);
}

void Network::forwardImages(int chunk) {
  context_.chunk = chunk;
  for (auto& step : steps_) {
    if (isOfImages(*step)) step->forward();
  }
}

void Network::forward() {
  context_.isRecomputing = false;
  if (graph_.chunks == 1) {
    context_.chunk = 0;
    for (auto& step : steps_) step->forward();  // in the graph's order: a generator's images depend on vectors
    return;
  }
  for (int chunk = 0; chunk < graph_.chunks; ++chunk) forwardImages(chunk);
  for (auto& step : steps_) {
    if (!isOfImages(*step)) step->forward();
  }
}

void Network::backward() {
  for (const Tensor& t : context_.tensors) {
    if (t.gradient < 0) continue;
    check(cudaMemsetAsync(context_.buffers.at(t.gradient), 0, t.shape.count() * sizeof(float), context_.stream),
          "clearing a gradient");
  }
  for (Step* step : backwardSteps_) {
    if (!isOfImages(*step)) step->backward();
  }
  // The last chunk's images are still there; those of the others are computed again.
  context_.isRecomputing = true;
  for (int chunk = graph_.chunks - 1; chunk >= 0; --chunk) {
    if (chunk < graph_.chunks - 1) forwardImages(chunk);
    for (Step* step : backwardSteps_) {
      if (isOfImages(*step)) step->backward();
    }
    if (graph_.chunks > 1) addGradients(chunk);
  }
  inputSum_.run(context_);
}

void Network::update() {
  Context& c = context_;
  const AdamArgs args = {c.values.data(),
                         c.firstMoments.data(),
                         c.secondMoments.data(),
                         c.gradients.data(),
                         c.values.size(),
                         c.rounded >= 0 ? c.buffers.at(c.rounded) : nullptr,
                         c.buffers.at<StepNumbers>(c.numbers),
                         c.buffers.at<StepFlags>(c.flags),
                         c.buffers.at<LossScale>(c.scale),
                         static_cast<int>(graph_.losses.size()),
                         c.losses >= 0 ? c.buffers.at<double>(c.losses) : nullptr,
                         c.lossWeights >= 0 ? c.buffers.at<float>(c.lossWeights) : nullptr,
                         c.factors >= 0 ? c.buffers.at<float>(c.factors) : nullptr};
  adam(c.number, args, c.buffers.at(c.scratch), c.stream);
}

/** Gradients of the convolutions and normalizations are those of one chunk: their sum is kept beside them. */
void Network::addGradients(int chunk) {
  float *sums = context_.buffers.at<float>(chunkSums_), *own = context_.gradients.data();
  const auto copy = [&](float* to, const float* from) { context_.copy(to, from, imageGradients_ * sizeof(float)); };
  if (chunk == graph_.chunks - 1) {
    copy(sums, own);
  } else {
    addTo(own, imageGradients_, sums, context_.stream);
  }
  if (chunk == 0) copy(own, sums);
}

}  // namespace comface::cuda
