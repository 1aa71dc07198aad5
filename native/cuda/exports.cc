// What this library tells about itself and the machine; probe.h has the form. comfaceBackend() is in program.cc.
#include <algorithm>
#include <cstring>

#include "abi.h"
#include "cuda/libraries.h"
#include "cuda/runtime.h"
#include "probe.h"

namespace comface::cuda {
namespace {

template <size_t kSize>
void copy(const std::string& text, char (&out)[kSize]) {
  const size_t count = std::min(text.size(), kSize - 1);
  std::memcpy(out, text.data(), count);
  out[count] = '\0';
}

/** Runs `body` and writes what it throws. */
template <size_t kSize, class F>
void explained(char (&reason)[kSize], const F& body) {
  try {
    body();
  } catch (...) {
    copy(currentError().message, reason);
  }
}

void describeLibraries(ComfaceCudaDescription& out) {
  const Libraries& all = libraries();
  copy(all.cudnnPath, out.cudnnPath), copy(all.cublasLtPath, out.cublasLtPath);
  out.cudnn = static_cast<int32_t>(all.cudnnGetVersion());
  out.cublasLt = static_cast<int32_t>(all.cublasLtGetVersion());
}

void describeDevices(ComfaceCudaDescription& out) {
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  for (int i = 0; i < std::min(count, kCudaDevices); ++i) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties");
    ComfaceCudaDevice& device = out.devices[i];
    copy(properties.name, device.name);
    device.capability = 10 * properties.major + properties.minor;
    device.memoryBytes = properties.totalGlobalMem;
    out.deviceCount = i + 1;
  }
}

}  // namespace
}  // namespace comface::cuda

extern "C" __attribute__((visibility("default"))) void comfaceCudaDescribe(comface::ComfaceCudaDescription* out) {
  using namespace comface::cuda;
  *out = {};
  explained(out->librariesReason, [&] { describeLibraries(*out); });
  explained(out->devicesReason, [&] { describeDevices(*out); });
}
