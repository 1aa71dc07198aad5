// Which graphs the cuDNN double plans, and by which engines: what cuDNN 9.24 answered for a described H200 and A100.
#pragma once
#include <optional>

#include "doubles/graph.h"

namespace comface::cuda::emulation {

struct Engine {
  int64_t index = 0;
  std::string kernel;
  bool tensorCores = true;  // fp32 operands then lose 13 bits (TF32)
  bool compiles = false;    // at run time
  /** Adds sums to what is in memory, in any order: what the names of cuDNN 9.24's kernels tell. */
  bool addsInAnyOrder() const { return kernel.find("cutlass_sm") == std::string::npos; }
};

/** The heuristics' answer, best first. `capability`: compute capability times ten. Throws a Refusal where cuDNN has
 * none. */
std::vector<Engine> engines(const Graph& graph, int capability, cudnnBackendHeurMode_t mode);
/** By number, whatever the heuristics think of it. */
std::optional<Engine> engine(const Graph& graph, int capability, int64_t index);
int64_t workspaceBytes(const Graph& graph, const Engine& engine);

/** Whether COMFACE_EMULATION_REFUSE, words with commas between them, has this one. */
bool isToRefuse(const std::string& word);

}  // namespace comface::cuda::emulation
