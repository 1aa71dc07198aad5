// The contract of a device: compile a Graph to a Program, then run it. Everything a backend must do stands on this
// page. A backend sees this file, graph.h, lowering.h, augment.h, core.h and rng.h. abi.h carries the same calls across
// a library border in plain C.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "augment.h"
#include "graph.h"

namespace comface {

/** Which of a program's tensors `read` and `write` mean. All are exchanged as fp32 in PyTorch's layout (N C H W, O I kH
 * kW). */
enum class Slot : int32_t {
  parameter,      // by parameter name
  gradient,       // of a parameter
  firstMoment,    // Adam's m of a parameter
  secondMoment,   // Adam's v
  statistic,      // running_mean, running_var
  value,          // a layer's result, by layer name, if the backend keeps it (a fused one may not)
  valueGradient,  // write: the seed for backward() of the last layer when the graph has no loss; read: of the input
  lossScale,      // fp16, name empty: factor of the gradients, steps since it changed
};
inline constexpr int kSlotCount = 8;

/** Kingma and Ba, 2015, algorithm 1; weightDecay is added to the gradient (L2), as in torch.optim.Adam. */
struct Adam {
  double learningRate = 4e-4, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0;
  int64_t step = 1;  // counted from 1
};

/** The input of one step for a backend that makes the views itself. */
struct PictureStep {
  std::span<const PackedPicture> pictures;  // in the memory that reserve() gave
  std::span<const View> views;              // graph.batch() of them
  std::span<const float> targets;
  Normalization normalization;
};

/** Steps that may be under way or done before collect() has to be called. */
inline constexpr int kMostUncollected = 1024;

/** Losses, unweighted, in layer order, of the steps since the last call; a step after another. */
struct CollectedSteps {
  std::vector<double> losses;
  int steps = 0;
  int64_t notFinite = 0;  // the first step (Adam::step) whose losses or gradients were not: neither it nor any later
                          // one changed a weight
};

/** Whole steps that run while the caller goes on: forward, backward and Adam of pictures, views made on the device. */
class PictureSteps {
 public:
  virtual ~PictureSteps() = default;
  /** Memory of at least `sizeBytes` for the pictures of step `slot`, 0 or 1 in turn. Waits until the device has read
   * what the step before last left there. May be called beside step() of the other slot. Where both slots have been
   * given their most, no step allocates anything. */
  virtual std::span<uint8_t> reserve(int slot, size_t sizeBytes) = 0;
  /** Enqueues a step and returns. */
  virtual void step(int slot, const PictureStep& step, const Adam& adam) = 0;
  /** Waits for the steps under way. */
  virtual CollectedSteps collect() = 0;
};

/** A compiled graph with its parameters and every buffer it will ever use. One thread at a time; Engine sees to the
 * order of calls. */
class Program {
 public:
  virtual ~Program() = default;
  /** Copies a tensor out or in. `count` must be its size. Throws invalidInput for an unknown name. */
  virtual void read(Slot slot, const std::string& name, std::span<float> out) = 0;
  virtual void write(Slot slot, const std::string& name, std::span<const float> in) = 0;
  /** input: the input layer's shape, N C H W. targets: graph.targetCount of them. Fills losses
   * (unweighted) in layer order. */
  virtual void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) = 0;
  /** Gradients of the weighted sum of the losses, or of <seed, last layer>. After forward(), training programs only. */
  virtual void backward() = 0;
  /** One Adam step on all parameters. After backward(). */
  virtual void update(const Adam& adam) = 0;
  /** Null where steps take finished views, forward(). */
  virtual PictureSteps* pictureSteps() { return nullptr; }
  /** Bytes of all buffers and parameters, of steps on pictures as far as they are reserved. */
  virtual size_t sizeBytes() const = 0;
  /** One line about how it will run: library, instruction set, threads. */
  virtual std::string describe() const = 0;
  /** What the backend chose among ways that differ in their last bits, as lines of text; empty if nothing. */
  virtual std::string choices() const { return {}; }
};

using Compile = std::unique_ptr<Program> (*)(const Graph& graph);

/** A program for a device that is not here: what it would take and choose. */
struct PlannedProgram {
  size_t sizeBytes = 0;
  std::string choices;  // as Program::choices()
};
using PlanFor = PlannedProgram (*)(const Graph& graph, const std::string& device);

}  // namespace comface
