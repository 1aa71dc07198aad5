// All plans of a program: equal operations share one, choices of earlier runs are taken again, and what a network will
// ask for is planned on several threads, since cuDNN compiles many a fused plan for a second.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "choices.h"
#include "cuda/fusion.h"

namespace comface::cuda {

/** The choice where cuDNN has no plan; else it is engine and knobs. */
inline constexpr const char* kNoPlan = "-";

class Planner {
 public:
  Planner(const Target& target, Choices earlier) : target_(target), earlier_(std::move(earlier)) {}

  /** Null where cuDNN has no plan; `native`: none of the device's own generation. */
  std::shared_ptr<const Plan> plan(Operations operations, bool native);

  /** Runs `rehearsal`, which asks for plans and gets stand-ins, then makes what it asked for on `threads` threads, each
   * with a handle of its own: cuDNN allows no handle on two threads at once. Again for what is asked for instead of
   * plans that there are not. */
  template <class F>
  void prepare(int threads, const F& rehearsal) {
    do {
      isRehearsing_ = true;
      rehearsal();
      isRehearsing_ = false;
    } while (makeWanted(threads));
  }

  const Target& target() const { return target_; }
  /** Plans run there from now on. */
  void setStream(cudaStream_t stream) const;
  /** What was chosen for every plan asked for. */
  Choices choices() const;
  /** Of these, what will be chosen again: that there is no plan may have been a moment's trouble. */
  Choices lasting() const;
  /** The most that any plan wants. */
  size_t workspaceBytes() const { return workspaceBytes_; }

 private:
  /** Null: there is none, now or (`isDefinite`) ever. */
  struct Made {
    std::shared_ptr<const Plan> plan;
    bool isDefinite = true;
  };

  bool makeWanted(int threads);
  Made make(const Target& target, const Wanted& wanted, const std::string& key) const;
  void remember(const std::string& key, const Made& made);

  const Target& target_;
  const Choices earlier_;
  bool isRehearsing_ = false;
  std::map<std::string, Wanted> wanted_;
  std::vector<std::unique_ptr<const Target>> helpers_;  // what some of the plans were made for and run on
  std::map<std::string, Made> plans_;
  size_t workspaceBytes_ = 0;
};

}  // namespace comface::cuda
