// What no kernel here does yet: the generators.
#pragma once
#include "graph.h"

namespace comface::cuda {

/** The same graph. Throws invalidConfig naming a layer that no kernel computes. */
inline const Graph& checked(const Graph& graph) {
  for (const Layer& layer : graph.layers) {
    if (isGenerator(layer.op))
      throw Error(Code::invalidConfig,
                  "Layer `" + layer.name + "`: the generators' ops do not run on CUDA yet; use device cpu.");
  }
  return graph;
}

}  // namespace comface::cuda
