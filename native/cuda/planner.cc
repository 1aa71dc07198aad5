// Planning on several threads: every descriptor and every handle belongs to one of them.
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
  const PlanPointer plan = make(target_, {std::move(operations), native}, key);
  remember(key, plan);
  return plan;
}

Planner::PlanPointer Planner::make(const Target& target, const Wanted& wanted, const std::string& key) const {
  if (const auto chosen = earlier_.find(key); chosen != earlier_.end()) {
    if (chosen->second == kNoPlan) return nullptr;
    if (PlanPointer plan = planOf(target, wanted.operations, chosen->second)) return plan;
  }
  return makePlan(target, wanted.operations, exactness_, wanted.native);
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

void Planner::setStream(cudaStream_t stream) const {
  expect(libraries().cudnnSetStream(target_.handle(), stream), "the stream");
  for (const auto& helper : helpers_) expect(libraries().cudnnSetStream(helper->handle(), stream), "the stream");
}

void Planner::makeWanted(int threads) {
  std::vector<std::pair<const std::string, Wanted>*> wanted;
  for (auto& entry : wanted_) wanted.push_back(&entry);
  std::vector<PlanPointer> made(wanted.size());
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
  std::vector<std::thread> team;
  for (size_t t = 0; t < others; ++t) {
    team.emplace_back([&, t] { work(target_.handle() ? *helpers_[t] : target_); });
  }
  work(target_);
  for (std::thread& member : team) member.join();
  if (failure) std::rethrow_exception(failure);
  for (size_t i = 0; i < wanted.size(); ++i) remember(wanted[i]->first, made[i]);
  wanted_.clear();
}

}  // namespace comface::cuda
