// Trap: nothing here is ever freed, for engines may go after static objects.
#include "leaving.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace comface {
namespace {

struct State {
  std::mutex mutex;
  std::condition_variable less;
  int count = 0;
  int64_t gone = 0;
};

State& state() {
  static State& all = *new State;
  return all;
}

void add(int count) {
  const std::lock_guard lock(state().mutex);
  state().count += count;
  if (count < 0) ++state().gone;
  state().less.notify_all();
}

}  // namespace

std::shared_ptr<void> Leaving::one() {
  add(1);
  return {nullptr, [](void*) { add(-1); }};
}

int64_t Leaving::gone() {
  const std::lock_guard lock(state().mutex);
  return state().gone;
}

bool Leaving::wait(int64_t before, const std::atomic<bool>& stopping) {
  std::unique_lock lock(state().mutex);
  while (state().count > 0 && !stopping) state().less.wait_for(lock, std::chrono::milliseconds(50));
  return state().gone > before;
}

}  // namespace comface
