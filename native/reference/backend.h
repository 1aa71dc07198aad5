// The backend of plain loops, on the CPU and with no library: the definition that oneDNN and CUDA have to match.
#pragma once
#include <memory>

#include "../backend.h"

namespace comface {

/**
 * Compiles a finished graph. fp64 computes in double, fp32 in float; bf16 computes in float and rounds as ops.h says.
 * Besides the contract it keeps every layer's value and, after backward(), every layer's valueGradient for read().
 */
std::unique_ptr<Program> compileReference(const Graph& graph);

}  // namespace comface
