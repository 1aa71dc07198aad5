// The Program of plain loops: one buffer per tensor, layers in order forward and in reverse backward, then Adam.
// Every buffer comes from allocate() at compile; no two tensors share memory, so all of them can be read afterwards.
#include "backend.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <type_traits>

#include "../formulas.h"
#include "ops.h"

namespace comface {
namespace reference {
namespace {

constexpr const char* kSlotNames[kSlotCount] = {"parameter", "gradient", "firstMoment",   "secondMoment",
                                                "statistic", "value",    "valueGradient", "lossScale"};

/** The two functions of an op; the input has none, and the generators' ops have no backward. */
template <typename T>
struct Loops {
  void (*forward)(const Node<T>&) = nullptr;
  void (*backward)(const Node<T>&) = nullptr;
};

template <typename T>
Loops<T> loopsOf(Op op) {
  switch (op) {
    case Op::input:
      return {};
    case Op::conv:
      return {Conv<T>::forward, Conv<T>::backward};
    case Op::batchNorm:
      return {BatchNorm<T>::forward, BatchNorm<T>::backward};
    case Op::relu:
      return {Relu<T>::forward, Relu<T>::backward};
    case Op::add:
      return {Add<T>::forward, Add<T>::backward};
    case Op::maxPool:
      return {MaxPool<T>::forward, MaxPool<T>::backward};
    case Op::avgPool:
      return {AvgPool<T>::forward, AvgPool<T>::backward};
    case Op::linear:
      return {Linear<T>::forward, Linear<T>::backward};
    case Op::rows:
      return {Rows<T>::forward, Rows<T>::backward};
    case Op::l2Normalize:
      return {L2Normalize<T>::forward, L2Normalize<T>::backward};
    case Op::reluDifference:
      return {ReluDifference<T>::forward, ReluDifference<T>::backward};
    case Op::infoNce:
      return {InfoNce<T>::forward, InfoNce<T>::backward};
    case Op::squaredError:
      return {SquaredError<T>::forward, SquaredError<T>::backward};
    case Op::tokens:
      return {Tokens<T>::forward, Tokens<T>::backward};
    case Op::layerNorm:
      return {LayerNorm<T>::forward, LayerNorm<T>::backward};
    case Op::gelu:
      return {Gelu<T>::forward, Gelu<T>::backward};
    case Op::attention:
      return {Attention<T>::forward, Attention<T>::backward};
    case Op::token:
      return {Token<T>::forward, Token<T>::backward};
    case Op::flatten:
      return {Flatten<T>::forward, Flatten<T>::backward};
    case Op::efficientAttention:
      return {EfficientAttention<T>::forward, EfficientAttention<T>::backward};
    case Op::pixelNorm:
      return {PixelNorm<T>::forward};
    case Op::constant:
      return {Constant<T>::forward};
    case Op::upsample:
      return {Upsample<T>::forward};
    case Op::convTranspose:
      return {ConvTranspose<T>::forward};
    case Op::blur:
      return {Blur<T>::forward};
    case Op::styleEpilogue:
      return {StyleEpilogue<T>::forward};
    case Op::fourierFeatures:
      return {FourierFeatures<T>::forward};
    case Op::modulatedConv:
      return {ModulatedConv<T>::forward};
    case Op::filteredRelu:
      return {FilteredRelu<T>::forward};
  }
  throw Error(Code::invalidConfig, "Expected a known op but received " + std::to_string(static_cast<int>(op)) + ".");
}

/** To the nearest bf16, ties to even: the upper half of a float. */
float roundToBf16(float value) {
  if (std::isnan(value)) return value;  // adding to the bits could make it infinite
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u);
}

template <typename T>
void roundToBf16(std::span<const T> from, T* to) {
  std::transform(from.begin(), from.end(), to, [](T value) { return roundToBf16(static_cast<float>(value)); });
}

/** With Precision::bf16, the layers whose results are bf16: images and what is made of them, up to the heads. */
std::vector<bool> bf16Layers(const Graph& graph) {
  std::vector<bool> result(graph.layers.size(), false);
  for (size_t i = 0; i < graph.layers.size() && graph.precision == Precision::bf16; ++i) {
    const Layer& layer = graph.layers[i];
    const auto bf16 = [&](int input) { return input < 0 || result[input]; };
    const Op op = layer.op;
    const bool follows =
        op == Op::batchNorm || op == Op::relu || op == Op::add || op == Op::maxPool || op == Op::linear;
    const bool isImage = op == Op::conv || op == Op::tokens || op == Op::layerNorm || op == Op::gelu || isAttention(op);
    result[i] = isImage || (op == Op::input && layer.shape.h * layer.shape.w > 1) ||
                (follows && bf16(layer.inputs[0]) && bf16(layer.inputs[1]));
  }
  return result;
}

void checkCount(const std::string& name, size_t expected, size_t received) {
  if (expected == received) return;
  throw Error(Code::invalidInput, "Expected " + std::to_string(expected) + " values for `" + name + "` but received " +
                                      std::to_string(received) + ".");
}

template <typename T>
class PlainLoops final : public Program {
 public:
  explicit PlainLoops(const Graph& graph);
  void read(Slot slot, const std::string& name, std::span<float> out) override;
  void write(Slot slot, const std::string& name, std::span<const float> in) override;
  void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) override;
  void backward() override;
  void update(const Adam& adam) override;
  size_t sizeBytes() const override { return sizeBytes_; }
  std::string describe() const override;

 private:
  /** A parameter with its gradient and Adam's moments. Where a result is bf16, weights also have what the layer reads.
   */
  struct Trained {
    std::span<T> value, gradient, firstMoment, secondMoment, rounded;
  };

  std::span<T> allocate(size_t count, T initial = 0);
  std::span<T> allocate(Slot slot, const std::string& name, size_t count, T initial = 0);
  std::span<T> find(Slot slot, const std::string& name) const;
  void allocateParameters(const std::vector<bool>& bf16);
  void connect(int layer, bool bf16);

  Graph graph_;
  std::vector<std::vector<T>> memory_;
  size_t sizeBytes_ = 0;
  std::map<std::pair<Slot, std::string>, std::span<T>> tensors_;
  std::vector<Trained> trained_;  // like graph_.parameters
  std::vector<Node<T>> nodes_;    // like graph_.layers
  std::span<T> targets_, seed_;
};

template <typename T>
PlainLoops<T>::PlainLoops(const Graph& graph) : graph_(graph), nodes_(graph.layers.size()) {
  targets_ = allocate(graph_.targetCount);
  if (graph_.training && graph_.losses.empty()) seed_ = allocate(graph_.layers.back().shape.count());
  const std::vector<bool> bf16 = bf16Layers(graph_);
  allocateParameters(bf16);
  for (size_t i = 0; i < nodes_.size(); ++i) connect(static_cast<int>(i), bf16[i]);
}

template <typename T>
std::span<T> PlainLoops<T>::allocate(size_t count, T initial) {
  sizeBytes_ += count * sizeof(T);
  return memory_.emplace_back(count, initial);
}

template <typename T>
std::span<T> PlainLoops<T>::allocate(Slot slot, const std::string& name, size_t count, T initial) {
  return tensors_[{slot, name}] = allocate(count, initial);
}

template <typename T>
std::span<T> PlainLoops<T>::find(Slot slot, const std::string& name) const {
  const auto found = tensors_.find({slot, name});
  if (found != tensors_.end()) return found->second;
  throw Error(Code::invalidInput, std::string("Expected the name of a tensor of this ") +
                                      (graph_.training ? "training" : "inference") + " program for `" +
                                      kSlotNames[static_cast<int>(slot)] + "` but received `" + name + "`.");
}

/** Parameters 0 but the weights of norms 1; statistics of a standard normal distribution, as in PyTorch. */
template <typename T>
void PlainLoops<T>::allocateParameters(const std::vector<bool>& bf16) {
  for (const Parameter& p : graph_.parameters) {
    const Layer& layer = graph_.layers[p.layer];
    const bool one = p.name == layer.name + ".weight" && isNorm(layer.op);
    Trained& trained = trained_.emplace_back();
    trained.value = allocate(Slot::parameter, p.name, p.count, one ? 1 : 0);
    if (bf16[p.layer] && hasWeights(layer.op) && p.dims.size() > 1) {
      trained.rounded = allocate(p.count);
    }
    if (!graph_.training) continue;
    trained.gradient = allocate(Slot::gradient, p.name, p.count);
    trained.firstMoment = allocate(Slot::firstMoment, p.name, p.count);
    trained.secondMoment = allocate(Slot::secondMoment, p.name, p.count);
  }
  for (const Parameter& s : graph_.statistics) {
    const bool variance = s.name == graph_.layers[s.layer].name + ".running_var";
    allocate(Slot::statistic, s.name, s.count, variance ? 1 : 0);
  }
}

/** Gives a layer its buffers and points its node at them and at those of its inputs. */
template <typename T>
void PlainLoops<T>::connect(int index, bool bf16) {
  const Layer& layer = graph_.layers[index];
  Node<T>& node = nodes_[index];
  node.layer = &layer;
  node.training = graph_.training;
  node.bf16 = bf16;
  node.y = allocate(Slot::value, layer.name, layer.shape.count()).data();
  if (graph_.training) node.dy = allocate(Slot::valueGradient, layer.name, layer.shape.count()).data();
  if (layer.op == Op::input) return;
  const Node<T>& first = nodes_[layer.inputs[0]];
  node.in = first.layer->shape;
  node.x = first.y, node.dx = first.dy;
  if (layer.inputs[1] >= 0) node.x2 = nodes_[layer.inputs[1]].y, node.dx2 = nodes_[layer.inputs[1]].dy;
  node.targets = targets_.data();
  node.saved = allocate(savedCount(layer, node.in)).data();
  for (size_t i = 0; i < trained_.size(); ++i) {
    if (graph_.parameters[i].layer != index) continue;
    const Trained& p = trained_[i];
    const std::string& name = graph_.parameters[i].name;
    const bool weight = name == layer.name + ".weight", classToken = name.ends_with("cls_token");
    const T* value = p.rounded.empty() ? p.value.data() : p.rounded.data();
    if (isGenerator(layer.op)) {
      node.tensors[i - indexOf(graph_.parameters, index, 0)] = value;
      continue;
    }
    if (layer.op == Op::tokens) {
      (classToken ? node.classToken : node.positions) = value;
      (classToken ? node.dClassToken : node.dPositions) = p.gradient.data();
      continue;
    }
    (weight ? node.weight : node.bias) = value;
    (weight ? node.dWeight : node.dBias) = p.gradient.data();
  }
  if (layer.op == Op::batchNorm) {
    node.runningMean = find(Slot::statistic, layer.name + ".running_mean").data();
    node.runningVar = find(Slot::statistic, layer.name + ".running_var").data();
  }
}

template <typename T>
void PlainLoops<T>::read(Slot slot, const std::string& name, std::span<float> out) {
  const std::span<T> tensor = find(slot, name);
  checkCount(std::string(kSlotNames[static_cast<int>(slot)]) + " " + name, tensor.size(), out.size());
  std::transform(tensor.begin(), tensor.end(), out.begin(), [](T value) { return static_cast<float>(value); });
}

template <typename T>
void PlainLoops<T>::write(Slot slot, const std::string& name, std::span<const float> in) {
  std::span<T> tensor = find(slot, name);
  const std::string label = std::string(kSlotNames[static_cast<int>(slot)]) + " " + name;
  if (slot == Slot::value) {
    throw Error(Code::invalidInput, "Expected a tensor that can be written but received `" + label + "`.");
  }
  if (slot == Slot::valueGradient) {
    if (seed_.empty() || name != graph_.layers.back().name) {
      throw Error(Code::invalidInput, "Expected the last layer of a graph with no loss but received `" + label + "`.");
    }
    tensor = seed_;
  }
  checkCount(label, tensor.size(), in.size());
  std::copy(in.begin(), in.end(), tensor.begin());
}

template <typename T>
void PlainLoops<T>::forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) {
  checkCount("input", graph_.layers[0].shape.count(), input.size());
  checkCount("targets", targets_.size(), targets.size());
  checkCount("losses", graph_.losses.size(), losses.size());
  std::copy(input.begin(), input.end(), nodes_[0].y);
  std::copy(targets.begin(), targets.end(), targets_.begin());
  for (const Trained& p : trained_) {
    if (!p.rounded.empty()) roundToBf16<T>(p.value, p.rounded.data());
  }
  for (const Node<T>& node : nodes_) {
    if (node.layer->op != Op::input) loopsOf<T>(node.layer->op).forward(node);
    if (node.bf16) roundToBf16<T>({node.y, node.layer->shape.count()}, node.y);
  }
  for (size_t i = 0; i < losses.size(); ++i) losses[i] = nodes_[graph_.losses[i]].y[0];
}

template <typename T>
void PlainLoops<T>::backward() {
  for (const Trained& p : trained_) std::fill(p.gradient.begin(), p.gradient.end(), T(0));
  for (const Node<T>& node : nodes_) std::fill_n(node.dy, node.layer->shape.count(), T(0));
  std::copy(seed_.begin(), seed_.end(), nodes_.back().dy);
  for (const int loss : graph_.losses) nodes_[loss].dy[0] = graph_.layers[loss].weight;
  for (size_t i = nodes_.size(); i-- > 0;) {
    const Node<T>& node = nodes_[i];  // its readers came before it, so dy is complete
    if (node.bf16) roundToBf16<T>({node.dy, node.layer->shape.count()}, node.dy);
    if (node.layer->op != Op::input) loopsOf<T>(node.layer->op).backward(node);
  }
}

template <typename T>
void PlainLoops<T>::update(const Adam& adam) {
  if (adam.step < 1) {
    throw Error(Code::invalidInput, "Expected >= 1 for `step` but received " + std::to_string(adam.step) + ".");
  }
  const double count = static_cast<double>(adam.step);
  const T rate = adam.learningRate / (1 - std::pow(adam.beta1, count));
  const T correction = std::sqrt(1 - std::pow(adam.beta2, count));
  const T fresh1 = 1 - adam.beta1, beta2 = adam.beta2, fresh2 = 1 - adam.beta2;
  const T epsilon = adam.epsilon, decay = adam.weightDecay;
  const formulas::AdamStep<T> step = {rate, correction, fresh1, beta2, fresh2, epsilon, decay};
  for (const Trained& p : trained_) {
    for (size_t i = 0; i < p.value.size(); ++i) {
      step.update(p.gradient[i], p.value[i], p.firstMoment[i], p.secondMoment[i]);
    }
  }
}

template <typename T>
std::string PlainLoops<T>::describe() const {
  if constexpr (std::is_same_v<T, double>) return "plain loops, fp64";
  return graph_.precision == Precision::bf16 ? "plain loops, fp32 rounded to bf16" : "plain loops, fp32";
}

}  // namespace
}  // namespace reference

std::unique_ptr<Program> compileReference(const Graph& graph) {
  if (graph.precision == Precision::fp16)
    throw Error(Code::invalidConfig, "The plain loops compute in fp32, bf16 or fp64, not fp16.");
  if (graph.precision == Precision::fp64) return std::make_unique<reference::PlainLoops<double>>(graph);
  return std::make_unique<reference::PlainLoops<float>>(graph);
}

}  // namespace comface
