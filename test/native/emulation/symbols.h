// What a library's symbol table tells about its kernels: their names and their arrays in shared memory.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace comface::cuda::emulation {

struct SharedArray {
  char* data;
  size_t size;
};

struct KernelFacts {
  std::string name;                      // such as "relu<float>"; its address where there are no symbols
  std::vector<SharedArray> own, others;  // declared in the kernel, and elsewhere in its library: device functions too
};
const KernelFacts& factsOf(const void* kernel);

}  // namespace comface::cuda::emulation
