// The twin of native/cuda/launch.h that runs kernels on the CPU; see emulation.h. The include path puts it first.
#pragma once
#include <memory>
#include <tuple>
#include <utility>

#include "cuda/device.h"
#include "cuda/runtime.h"

namespace comface::cuda {
namespace emulation {

/** A kernel's arguments, kept until it runs. */
class Arguments {
 public:
  virtual ~Arguments() = default;
  /** The kernel for the thread that threadIdx and the rest name. */
  virtual void call() const = 0;
  /** Fails for an argument that a device could not read through; `kernel` for the message. */
  virtual bool areReadable(const char* kernel) const = 0;
};

struct Launch {
  const void* kernel;
  dim3 grid, block;
  size_t sharedBytes;
};

cudaError_t launchKernel(const Launch& launch, cudaStream_t stream, std::shared_ptr<const Arguments> arguments);
/** A pointer given to a kernel. */
bool isReadable(const void* pointer, const char* kernel);
/** Words within a struct given to a kernel. With the guard, those that are the host's or freed addresses do not pass.
 */
bool areReadable(const void* words, size_t bytes, const char* kernel);
/** The running block's. */
char* dynamicShared();

template <class... Parameters>
class KernelArguments final : public Arguments {
 public:
  static_assert(((std::is_trivially_copyable_v<Parameters> && !std::is_reference_v<Parameters>)&&...),
                "a kernel's parameters are copied to the device bit by bit");
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "a kernel's parameters take 4 KiB at most");

  KernelArguments(void (*kernel)(Parameters...), Parameters... values) : kernel_(kernel), values_(values...) {}
  void call() const override { std::apply(kernel_, values_); }
  bool areReadable(const char* kernel) const override {
    return std::apply([&](const Parameters&... values) { return (isOneReadable(values, kernel) && ...); }, values_);
  }

 private:
  template <class T>
  static bool isOneReadable(const T& value, const char* kernel) {
    if constexpr (std::is_pointer_v<T>)
      return isReadable(const_cast<const void*>(static_cast<const volatile void*>(value)), kernel);
    if constexpr (std::is_class_v<T>) return emulation::areReadable(&value, sizeof value, kernel);
    return true;
  }

  void (*kernel_)(Parameters...);
  std::tuple<Parameters...> values_;
};

}  // namespace emulation

/** kernel<<<grid, block, sharedBytes, stream>>>(args...); throws deviceFailed if the launch is refused. */
template <class... Parameters, class... Args>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t sharedBytes, cudaStream_t stream,
            Args&&... args) {
  auto arguments =
      std::make_shared<emulation::KernelArguments<Parameters...>>(kernel, static_cast<Parameters>(args)...);
  emulation::launchKernel({reinterpret_cast<const void*>(kernel), grid, block, sharedBytes}, stream,
                          std::move(arguments));
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
#define COMFACE_DYNAMIC_SHARED(type, name) \
  type* const name = reinterpret_cast<type*>(::comface::cuda::emulation::dynamicShared())

}  // namespace comface::cuda
