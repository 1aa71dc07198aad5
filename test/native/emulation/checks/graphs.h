// The graphs that our backend may ask cuDNN for, and what cuDNN 9.24 answered for each.
#pragma once
#include <functional>

#include "checks/builder.h"
#include "doubles/graph.h"

namespace comface::cuda::emulation {

struct GraphCase {
  const char* name;
  std::function<void(Builder&, cudnnDataType_t)> build;
  /**
   * Of the plans that finalized, the newest kernels and by which heuristic: "90", "80" for the kernels' generation
   * ("?": the plan does not say), then F if only the fallback heuristic had it; "-": no plan. bf16 on 9.0, fp16 on 9.0,
   * fp32 on 9.0, bf16 on 8.0.
   */
  std::array<const char*, 4> expected;
  bool isOwn = false;  // cuDNN 9.24 took more, against its documentation, or from another engine
};

const std::vector<GraphCase>& graphCases();
/** In the form of GraphCase::expected. */
std::string summary(const Answer& answer);

}  // namespace comface::cuda::emulation
