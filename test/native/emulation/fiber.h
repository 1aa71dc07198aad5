// Stacks of their own for a block's threads, and the switch between them: six registers and the stack pointer.
#pragma once
#include <cstddef>
#include <cstdint>

/** Keeps the running stack's registers on it and its top in *from; goes on where the stack `to` was left. */
extern "C" void comfaceSwitchStack(void** from, void* to);

namespace comface::cuda::emulation {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kHasAddressSanitizer = true;
inline constexpr size_t kStackBytes = 512 << 10;
#else
inline constexpr bool kHasAddressSanitizer = false;
inline constexpr size_t kStackBytes = 128 << 10;
#endif

/** A stack and, while it is not running, where it was left. */
struct Fiber {
  char* low = nullptr;  // the stack's lowest address; a page that nobody may touch lies below
  size_t size = 0;
  void* top = nullptr;
  int thread = -1;       // of the block, the one that it runs
  void* fake = nullptr;  // AddressSanitizer's own
};

/** Maps the stack. Throws std::bad_alloc. */
void allocate(Fiber& fiber);
/** Makes `fiber` start with `entry` when it is next switched to, whatever it was doing. `entry` never returns. */
void prepare(Fiber& fiber, int index, void (*entry)());
/** Leaves the running stack, which becomes `from`, for `to`; returns when somebody switches back. */
void switchFibers(Fiber& from, Fiber& to);
/** First thing on a stack that is entered for the first time. */
void entered();

}  // namespace comface::cuda::emulation
