// What the steps of cuDNN's convolutions share: a plan with the tensors it reads and writes.
#pragma once
#include "cuda/tensor.h"

namespace comface::cuda {

struct Bound {
  std::shared_ptr<const Plan> plan;
  std::vector<Plan::Binding> bindings;
  float* sums = nullptr;  // that it adds to
  size_t sumCount = 0;

  /** One address for each binding, in their order. */
  void fill(std::initializer_list<void*> pointers) {
    auto to = bindings.begin();
    for (void* p : pointers) (to++)->second = p;
  }
  void run(const Context& context) const {
    if (sums) check(cudaMemsetAsync(sums, 0, sumCount * sizeof(float), context.stream), "clearing sums");
    plan->run(bindings, context.buffers.at(context.workspace));
  }
};

/** Throws deviceFailed naming the layer and `what` it wanted where cuDNN has no plan. */
inline std::shared_ptr<const Plan> need(const Context& context, int layer, Operations operations, const char* what) {
  if (auto plan = context.planner.plan(std::move(operations), false)) return plan;
  throw Error(Code::deviceFailed, "Layer `" + context.graph.layers[layer].name + "`: cuDNN has no plan for " + what +
                                      " on " + context.planner.target().name() + ".");
}

}  // namespace comface::cuda
