// Engines on their way out, of the whole process: what they hold is free only when the call under way is done, on their
// own threads. Whoever disposes of one and asks for another is to have its memory.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>

#include "core.h"

namespace comface {

class Leaving {
 public:
  /** One of them, as long as a copy of what this returns lives. */
  static std::shared_ptr<void> one();
  /** How many have gone so far. */
  static int64_t gone();
  /** Waits until all have gone or until `stopping`. Returns whether any went since gone() was `before`. */
  static bool wait(int64_t before, const std::atomic<bool>& stopping);
};

/** Calls `take`, and where memory is lacking and engines were leaving, once more without them. */
template <class F>
auto withRoom(const std::atomic<bool>& stopping, const F& take) {
  const int64_t before = Leaving::gone();
  try {
    return take();
  } catch (const Error& e) {
    if (e.code != Code::outOfMemory || !Leaving::wait(before, stopping)) throw;
  }
  return take();
}

}  // namespace comface
