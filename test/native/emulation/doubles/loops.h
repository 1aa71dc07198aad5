// The arithmetic of the cuDNN double.
#pragma once
#include <map>

#include "doubles/graph.h"

namespace comface::cuda::emulation {

/**
 * Runs a graph over memory: by id, device pointers, and host pointers of tensors by value. `isTf32`: convolutions of
 * fp32 take ten bits of each number. `isUnordered`: sums are added to what is there, and their last bits differ each
 * time.
 */
void evaluate(const Graph& graph, bool isTf32, bool isUnordered, const std::map<int64_t, void*>& pointers);

}  // namespace comface::cuda::emulation
