// What the CPU computes and no kernel here does yet: PCL's network, and the generators.
#pragma once
#include "graph.h"

namespace comface::cuda {

/** The same graph. Throws invalidConfig naming a layer that no kernel computes. */
inline const Graph& checked(const Graph& graph) {
  for (const Layer& layer : graph.layers) {
    if (isGenerator(layer.op)) {
      throw Error(Code::invalidConfig,
                  "Layer `" + layer.name + "`: the generators' ops do not run on CUDA yet; use device cpu.");
    }
    if (layer.op != Op::efficientAttention && layer.op != Op::flatten && !(layer.op == Op::relu && layer.slope != 0))
      continue;
    throw Error(Code::invalidConfig,
                "Layer `" + layer.name +
                    "`: efficient attention, flattening and leaky ReLU, as PCL's network has them, "
                    "do not run on CUDA yet; use device cpu, or another backbone.");
  }
  return graph;
}

}  // namespace comface::cuda
