// Where a planned program keeps what read() and write() name, and what they say of a name or a size that is wrong: the
// part that the CPU and the CUDA backend share. A Context is that of steps.h, with parameters and statistics (Stored,
// with an offset, by the graph's lists) and five flat arrays.
#pragma once
#include <span>
#include <string>

#include "backend.h"
#include "steps.h"

namespace comface {

/** All parameters (or gradients, or moments, or statistics) end to end, so that Adam is one loop. Floats. */
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

inline void checkCount(const std::string& name, size_t expected, size_t received) {
  if (expected == received) return;
  throw Error(Code::invalidInput, "Expected " + std::to_string(expected) + " numbers for `" + name + "` but received " +
                                      std::to_string(received));
}

/** Of Program::forward(). */
inline void checkInput(const Graph& graph, std::span<const float> input, std::span<const float> targets,
                       std::span<double> losses) {
  checkCount("input", graph.layers[0].shape.count(), input.size());
  checkCount("targets", graph.targetCount, targets.size());
  if (losses.size() != graph.losses.size()) throw Error(Code::invalidInput, "The number of losses is wrong.");
}

/** A parameter (its value, gradient or a moment) or a statistic. */
template <class Stored>
struct Held {
  float* data;
  const Stored& stored;
  const Parameter& parameter;
};

/** Throws invalidInput for an unknown name, a wrong size and what a program for inference does not keep. */
template <class Context>
auto held(const Context& c, Slot slot, const std::string& name, size_t count) {
  const bool isStatistic = slot == Slot::statistic;
  const auto& list = isStatistic ? c.graph.statistics : c.graph.parameters;
  const auto& stored = isStatistic ? c.statistics : c.parameters;
  const Flat& flat = slot == Slot::parameter     ? c.values
                     : slot == Slot::gradient    ? c.gradients
                     : slot == Slot::firstMoment ? c.firstMoments
                     : isStatistic               ? c.running
                                                 : c.secondMoments;
  for (size_t p = 0; p < list.size(); ++p) {
    if (list[p].name != name) continue;
    checkCount(name, list[p].count, count);
    if (flat.size() == 0)
      throw Error(Code::invalidInput, "This program was compiled for inference and keeps no gradients or moments.");
    return Held<typename std::decay_t<decltype(stored)>::value_type>{flat.data() + stored[p].offset, stored[p],
                                                                     list[p]};
  }
  throw Error(Code::invalidInput, "There is no parameter or statistic `" + name + "`.");
}

/** The layer whose value, or the gradient of it, is read, and the buffer that holds it. */
struct HeldLayer {
  int layer, buffer;
};

/** Throws invalidInput for an unknown name, a wrong size and what fused steps do not keep. device: for the message. */
template <class Context>
HeldLayer heldLayer(const Context& c, Slot slot, const std::string& name, size_t count, const char* device) {
  const int layer = c.graph.find(name);
  if (layer < 0) throw Error(Code::invalidInput, "There is no layer `" + name + "`.");
  const StepTensor& t = c.tensors[layer];
  checkCount(name, t.shape.count(), count);
  if (slot == Slot::value && isLoss(c.graph.layers[layer].op)) {
    throw Error(Code::invalidInput, "The value of the loss `" + name + "` is what forward() returns.");
  }
  const bool isLast = layer + 1 == static_cast<int>(c.graph.layers.size());
  int buffer = -1;
  if (!t.image) {
    buffer = slot == Slot::value ? t.buffer : t.gradient;
  } else if (slot == Slot::value) {
    if (isLast) buffer = t.buffer;
  } else if (layer == 0 && !t.parts.empty()) {
    buffer = t.parts[0];
  }
  if (buffer >= 0) return {layer, buffer};
  throw Error(Code::invalidInput,
              std::string("The ") + device + " backend does not keep this tensor of `" + name + "`.");
}

/** write() to anything but the gradient of the last layer of a graph without losses. */
[[noreturn]] inline void refuseWrite(const std::string& name) {
  throw Error(Code::invalidInput,
              "`" + name + "` cannot be written: only the gradient of the last layer of a graph without losses can.");
}

}  // namespace comface
