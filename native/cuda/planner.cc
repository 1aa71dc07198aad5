// Planning on several threads: every descriptor belongs to one thread, the handle is only read.
#include "cuda/planner.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace comface::cuda {

std::shared_ptr<const Plan> Planner::plan(Operations operations, bool native) {
  const std::string key = (native ? "native" : "any") + operations.key();
  if (const auto known = plans_.find(key); known != plans_.end()) return known->second;
  if (isRehearsing_) {
    wanted_.try_emplace(key, Wanted{std::move(operations), native});
    static const auto standIn = std::make_shared<const Plan>();
    return standIn;
  }
  const PlanPointer plan = make(operations, native, key);
  remember(key, plan);
  return plan;
}

Planner::PlanPointer Planner::make(const Operations& operations, bool native, const std::string& key) const {
  if (const auto chosen = earlier_.find(key); chosen != earlier_.end()) {
    if (chosen->second == kNoPlan) return nullptr;
    if (PlanPointer plan = planOf(target_, operations, chosen->second)) return plan;
  }
  return makePlan(target_, operations, exactness_, native);
}

void Planner::remember(const std::string& key, const PlanPointer& plan) {
  if (plan) workspaceBytes_ = std::max(workspaceBytes_, plan->workspaceBytes());
  plans_[key] = plan;
}

Choices Planner::choices() const {
  Choices choices;
  for (const auto& [key, plan] : plans_) choices[key] = plan ? plan->choice() : kNoPlan;
  return choices;
}

void Planner::makeWanted(int threads) {
  std::vector<std::pair<const std::string, Wanted>*> wanted;
  for (auto& entry : wanted_) wanted.push_back(&entry);
  std::vector<PlanPointer> made(wanted.size());
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    for (size_t i = next++; i < wanted.size(); i = next++) {
      const auto& [key, want] = *wanted[i];
      try {
        made[i] = make(want.operations, want.native, key);
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
        next = wanted.size();
      }
    }
  };
  std::vector<std::thread> team;
  for (int t = 1; t < std::min<int>(threads, static_cast<int>(wanted.size())); ++t) team.emplace_back(work);
  work();
  for (std::thread& member : team) member.join();
  if (failure) std::rethrow_exception(failure);
  for (size_t i = 0; i < wanted.size(); ++i) remember(wanted[i]->first, made[i]);
  wanted_.clear();
}

}  // namespace comface::cuda
