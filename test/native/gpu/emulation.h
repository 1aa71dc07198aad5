// In place of test/native/emulation/emulation.h where the same tests run on a real GPU: it has one order, its own.
#pragma once
#include <cstddef>
#include <cstdint>

namespace comface::cuda::emulation {

enum class Order : int32_t { forward, backward, shuffled };
struct Settings {
  Order order = Order::forward;
  uint64_t seed = 1;
};
inline Settings settings() { return {}; }
inline void configure(const Settings&) {}

/** compute-sanitizer looks for leaks here. */
struct Living {
  size_t allocations = 0;
};
inline Living living() { return {}; }

}  // namespace comface::cuda::emulation
