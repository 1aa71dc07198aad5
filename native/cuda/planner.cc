// Planning on several threads: every descriptor and every handle belongs to one of them.
#include "cuda/planner.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "cuda/runtime.h"

namespace comface::cuda {

std::shared_ptr<const Plan> Planner::plan(Operations operations, bool native) {
  const std::string key = (native ? "native" : "any") + operations.key();
  if (const auto known = plans_.find(key); known != plans_.end()) return known->second.plan;
  if (isRehearsing_) {
    wanted_.try_emplace(key, Wanted{std::move(operations), native});
    static const auto standIn = std::make_shared<const Plan>();
    return standIn;
  }
  const Made made = make(target_, {std::move(operations), native}, key);
  remember(key, made);
  return made.plan;
}

Planner::Made Planner::make(const Target& target, const Wanted& wanted, const std::string& key) const {
  if (const auto chosen = earlier_.find(key); chosen != earlier_.end()) {
    if (chosen->second == kNoPlan) return {nullptr, false};  // who says so has kept it, if it is to last
    if (std::shared_ptr<const Plan> plan = planOf(target, wanted, chosen->second)) return {plan};
  }
  Made made;
  made.plan = makePlan(target, wanted, &made.isDefinite);
  return made;
}

void Planner::remember(const std::string& key, const Made& made) {
  if (made.plan) workspaceBytes_ = std::max(workspaceBytes_, made.plan->workspaceBytes());
  plans_[key] = made;
}

Choices Planner::choices() const {
  Choices choices;
  for (const auto& [key, made] : plans_) choices[key] = made.plan ? made.plan->choice() : kNoPlan;
  return choices;
}

Choices Planner::lasting() const {
  Choices choices;
  for (const auto& [key, made] : plans_) {
    if (made.plan || made.isDefinite) choices[key] = made.plan ? made.plan->choice() : kNoPlan;
  }
  return choices;
}

void Planner::setStream(cudaStream_t stream) const {
  expect(libraries().cudnnSetStream(target_.handle(), stream), "the stream");
  for (const auto& helper : helpers_) expect(libraries().cudnnSetStream(helper->handle(), stream), "the stream");
}

/** Returns whether anything was wanted. */
bool Planner::makeWanted(int threads) {
  std::vector<std::pair<const std::string, Wanted>*> wanted;
  for (auto& entry : wanted_) wanted.push_back(&entry);
  std::vector<Made> made(wanted.size());
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&](const Target& target) {
    for (size_t i = next++; i < wanted.size(); i = next++) {
      try {
        made[i] = make(target, wanted[i]->second, wanted[i]->first);
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
        next = wanted.size();
      }
    }
  };
  const size_t others = std::min<size_t>(threads, wanted.size()) - (wanted.empty() ? 0 : 1);
  // A described device has no handle that could not be shared.
  while (target_.handle() && helpers_.size() < others) helpers_.push_back(std::make_unique<const Target>());
  int device = 0;
  if (target_.handle()) check(cudaGetDevice(&device), "the current device");
  std::vector<std::thread> team;
  for (size_t t = 0; t < others; ++t) {
    team.emplace_back([&, t] {
      if (!target_.handle()) return work(target_);
      if (cudaSetDevice(device) == cudaSuccess) work(*helpers_[t]);  // which makes its context the thread's
    });
  }
  work(target_);
  for (std::thread& member : team) member.join();
  if (failure) std::rethrow_exception(failure);
  for (size_t i = 0; i < wanted.size(); ++i) remember(wanted[i]->first, made[i]);
  wanted_.clear();
  return !wanted.empty();
}

}  // namespace comface::cuda
