// Runs the threads of one block after another, each on a fiber of its own once it has to wait for others.
#pragma once
#include <string>

#include "cuda/launch.h"
#include "emulation.h"

namespace comface::cuda::emulation {

/** What a launch came to. */
struct Outcome {
  cudaError_t status = cudaSuccess;
  std::string words;  // what and where, without the kernel's name
};

/** Runs the block blockIdx of a kernel. `shuffle`: a number that decides this block's random orders. */
Outcome runBlock(const Arguments& arguments, Order order, uint64_t shuffle);

/** "(3, 0, 0)". */
std::string text(const uint3& index);

/** Whether a kernel's thread runs now, on this thread of the host. */
bool isInKernel();
/** Leaves the running kernel's thread for good: runBlock returns. For a signal's handler, on whatever stack. */
void leaveBlock();
/** "thread (3, 0, 0) of block (1, 0, 0)": the one that runs. */
std::string runningThread();
/** Whether the running thread's stack would reach there if it grew. */
bool isNearStackEnd(const void* address);

}  // namespace comface::cuda::emulation
