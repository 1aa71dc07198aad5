// A kernel with one mistake for each tool of compute-sanitizer, so that a test sees the tool find it: planted TOOL.
#include <cstdio>
#include <string>

#include "cuda/launch.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 64;

/** memcheck: writes behind its memory. */
__global__ void beyond(int* data) { data[kThreads + threadIdx.x] = 1; }

/** racecheck: reads what another warp may not have written yet. */
__global__ void race(int* data) {
  __shared__ int values[kThreads];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  data[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
}

/** initcheck: reads what nobody wrote. */
__global__ void unwritten(const int* data, int* sums) { sums[threadIdx.x] = data[threadIdx.x] + 1; }

/** synccheck: some threads of a warp come to a barrier of the block, the others never. */
__global__ void divergent(int* data) {
  if (threadIdx.x >= kThreads / 2 + 3) return;
  data[threadIdx.x] = 1;
  __syncthreads();
}

int run(const std::string& tool) {
  int *data = nullptr, *more = nullptr;  // not DeviceMemory: that is cleared
  check(cudaMalloc(reinterpret_cast<void**>(&data), kThreads * sizeof(int)), "memory");
  check(cudaMalloc(reinterpret_cast<void**>(&more), kThreads * sizeof(int)), "memory");
  const cudaStream_t stream = nullptr;
  if (tool == "memcheck") launch(beyond, 1, kThreads, 0, stream, data);
  if (tool == "racecheck") launch(race, 1, kThreads, 0, stream, data);
  if (tool == "initcheck") launch(unwritten, 1, kThreads, 0, stream, data, more);
  if (tool == "synccheck") launch(divergent, 1, kThreads, 0, stream, data);
  cudaDeviceSynchronize();
  cudaFree(data), cudaFree(more);
  return 0;
}

}  // namespace
}  // namespace comface::cuda

int main(int argc, char** argv) {
  if (argc == 2) return comface::cuda::run(argv[1]);
  fprintf(stderr, "planted memcheck|racecheck|initcheck|synccheck\n");
  return 2;
}
