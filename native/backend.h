// The contract of a device: compile a Graph to a Program, then run it. Everything a backend must do stands on this
// page. A backend sees this file, graph.h, core.h and rng.h. abi.h carries the same calls across a library border in
// plain C.
#pragma once
#include <memory>
#include <span>
#include <string>

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
};
inline constexpr int kSlotCount = 7;

/** Kingma and Ba, 2015, algorithm 1; weightDecay is added to the gradient (L2), as in torch.optim.Adam. */
struct Adam {
  double learningRate = 4e-4, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0;
  int64_t step = 1;  // counted from 1
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
  /** Bytes of all buffers and parameters. */
  virtual size_t sizeBytes() const = 0;
  /** One line about how it will run: library, instruction set, threads. */
  virtual std::string describe() const = 0;
};

using Compile = std::unique_ptr<Program> (*)(const Graph& graph);

}  // namespace comface
