// How a .cu file starts a kernel. Only .cu files include this. test/native/emulation has a twin of this file that runs
// blocks on the CPU, so that kernels have tests where there is no GPU.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "cuda/runtime.h"

namespace comface::cuda {

/** kernel<<<grid, block, sharedBytes, stream>>>(args...); throws deviceFailed if the launch is refused. */
template <class... Parameters, class... Args>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t sharedBytes, cudaStream_t stream,
            Args&&... args) {
  kernel<<<grid, block, sharedBytes, stream>>>(static_cast<Parameters>(args)...);
  check(cudaGetLastError(), "a kernel launch");
}

/** Lets a kernel use more than 48 KiB of shared memory. Once for each kernel before its first launch. */
template <class... Parameters>
void allowShared(void (*kernel)(Parameters...), size_t bytes) {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
}

/** The dynamic shared memory of the running block. */
#define COMFACE_DYNAMIC_SHARED(type, name)          \
  extern __shared__ __align__(16) char name##Raw[]; \
  type* const name = reinterpret_cast<type*>(name##Raw)

}  // namespace comface::cuda
