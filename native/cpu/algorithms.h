// Direct or Winograd's convolution, whichever was faster here when the two were timed. Their results differ in the last
// bits, so a choice is kept: by the run (Graph::choices) and on this machine (choices.h).
#pragma once
#include <functional>
#include <oneapi/dnnl/dnnl.hpp>

#include "choices.h"
#include "graph.h"

namespace comface::cpu {

class Algorithms {
 public:
  explicit Algorithms(const Graph& graph);

  /** Runs one pass of a convolution once. */
  using Run = std::function<void()>;
  /**
   * The algorithm for what `key` names. `prepare` makes a pass ready to be timed on one thread, for either, only where
   * nothing was chosen before. A choice is stored at once, and one that another process stored meanwhile is taken, so
   * that trainings on one machine compute the same.
   */
  dnnl::algorithm choose(const std::string& key, const std::function<Run(dnnl::algorithm)>& prepare);
  /** What choose() has answered. */
  const Choices& choices() const { return choices_; }

 private:
  bool isWinogradFaster(const std::function<Run(dnnl::algorithm)>& prepare) const;

  std::string target_;
  int threads_;
  Choices known_, choices_;
};

}  // namespace comface::cpu
