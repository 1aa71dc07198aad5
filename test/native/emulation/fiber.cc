// Stacks and the switch between them; see fiber.h. x86-64, System V calling convention.
#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

asm(R"(
.text
.globl comfaceSwitchStack
.type comfaceSwitchStack, @function
comfaceSwitchStack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size comfaceSwitchStack, .-comfaceSwitchStack
)");

namespace comface::cuda::emulation {
namespace {

constexpr int kSavedRegisters = 6;
/** Stacks start at different places in their pages, or all their tops would meet in the same lines of the cache. */
constexpr size_t kStagger = 192, kStaggers = 16;

}  // namespace

void allocate(Fiber& fiber) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const mapped = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (mapped == MAP_FAILED || mprotect(mapped, page, PROT_NONE) != 0) throw std::bad_alloc();
  fiber.low = static_cast<char*>(mapped) + page;
  fiber.size = kStackBytes;
}

void prepare(Fiber& fiber, int index, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(fiber.low, kStackBytes);  // what an abandoned thread left
  fiber.fake = nullptr;
#endif
  char* const high = fiber.low + kStackBytes - (static_cast<size_t>(index) % kStaggers + 1) * kStagger;
  // As if `entry` had been called from address 0: its return address lies 8 below a multiple of 16.
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(high) & ~uintptr_t{15});
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  fiber.top = top;
  fiber.thread = -1;
}

#if defined(__SANITIZE_ADDRESS__)
namespace {
Fiber* leaving = nullptr;
void arrived(void* fake) {
  const void* low = nullptr;
  __sanitizer_finish_switch_fiber(fake, &low, &leaving->size);  // how the launching thread's own stack gets its bounds
  leaving->low = static_cast<char*>(const_cast<void*>(low));
}
}  // namespace

void switchFibers(Fiber& from, Fiber& to) {
  leaving = &from;
  __sanitizer_start_switch_fiber(&from.fake, to.low, to.size);
  comfaceSwitchStack(&from.top, to.top);
  arrived(from.fake);
}
void entered() { arrived(nullptr); }
#else
void switchFibers(Fiber& from, Fiber& to) { comfaceSwitchStack(&from.top, to.top); }
void entered() {}
#endif

}  // namespace comface::cuda::emulation
