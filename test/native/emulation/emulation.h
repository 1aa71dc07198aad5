// A GPU played by the CPU, for tests: what programs and the doubles of NVIDIA's libraries may ask of it. The CUDA
// runtime's calls are in streams.cc, memory.cc and cudart.cc, kernels in kernel.cc; cuda/launch.h starts them.
// One device, one lock: whatever runs, runs alone, so that its order is the test's choice and not the machine's.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace comface::cuda::emulation {

/** In which order threads of a block and blocks of a grid run: a missing barrier gives other results in another. */
enum class Order : int32_t { forward, backward, shuffled };

/** Read from the environment once (the names in brackets), changed by configure(). */
struct Settings {
  Order order = Order::forward;  // [COMFACE_EMULATION_ORDER] forward, backward, shuffled or shuffled:<seed>
  uint64_t seed = 1;
  /** [COMFACE_EMULATION_DEFER=1] Work waits in its stream until somebody waits for it: what should wait and does not,
   * sees old numbers. Otherwise it runs at once. */
  bool defer = false;
  /** [COMFACE_EMULATION_GUARD=1] The host's reading or writing device memory ends the program, and structs given to
   * kernels are searched for the host's addresses. Slower. */
  bool guard = false;
  int devices = 1;                       // [COMFACE_EMULATION_DEVICES] 0 or 1
  int capability = 90;                   // [COMFACE_EMULATION_CAPABILITY] 80 or 90
  size_t memoryBytes = size_t{4} << 30;  // [COMFACE_EMULATION_MEMORY] what cudaMalloc has to give
};
Settings settings();
void configure(const Settings& settings);

/** Runs, defers or records `work` as the stream's state demands. The status is what a library's call would pass on. */
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);

/** For work: loses the device, as an illegal address does: every call fails from now on, with these words. */
void fail(cudaError_t status, const std::string& words);
/** For work: fails unless the device may touch all of [data, data + bytes). `what` names it. */
bool requireDevice(const void* data, size_t bytes, const char* what);

/** Gets a lost device back: drops all waiting work and forgets all errors. Memory, streams and events stay. */
void reset();

/** What lives: a test for leaks compares before and after. */
struct Living {
  size_t allocations, streams, events, graphs, bytes;
};
Living living();

/** The pattern that fresh memory holds, in 16-bit units: not a number in fp64, fp32, bf16 and fp16. */
inline constexpr uint16_t kGarbage = 0x7fff;

}  // namespace comface::cuda::emulation
