// What this machine has of CUDA, found out stage by stage without CUDA's headers and without a backend in the way: a
// reason for each stage that can fail. Also the plain C in which the CUDA library answers the last stages.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace comface {

inline constexpr int kCudaDevices = 16;

extern "C" {
struct ComfaceCudaDevice {
  char name[256];
  int32_t capability;  // ten times the compute capability: 90 for an H200
  uint64_t memoryBytes;
};
/** Filled as far as it goes. A reason that is not empty says why it went no further. */
struct ComfaceCudaDescription {
  int32_t cudnn, cublasLt;  // versions as these libraries count them; 0: not open
  int32_t deviceCount;      // at most kCudaDevices
  char cudnnPath[1024], cublasLtPath[1024];
  char librariesReason[4096], devicesReason[1024];
  ComfaceCudaDevice devices[kCudaDevices];
};
}

/** The CUDA library exports it beside comfaceBackend(), as "comfaceCudaDescribe". Never throws, prints nothing. */
using ComfaceCudaDescribe = void (*)(ComfaceCudaDescription* description);

/** The least that our kernels are compiled for (A100), and the oldest CUDA that a driver has to serve. */
inline constexpr int kOldestCapability = 80;
inline constexpr int kOldestDriver = 13000;

/** Where a probe ends. Each stage needs the ones before. */
enum class CudaStage : int32_t {
  driver,      // the driver's library opens
  initialize,  // and initializes
  version,     // it is new enough for our CUDA
  gpu,         // it has a device
  backend,     // libcomface_cuda.so opens and speaks this ABI
  libraries,   // it finds cuDNN and cuBLASLt
  devices,     // CUDA runs, and a device is new enough for our kernels
  ready,
};
inline constexpr const char* kCudaStageNames[] = {"driver",  "initialize", "version", "gpu",
                                                  "backend", "libraries",  "devices", "ready"};

struct CudaDevice {
  std::string name;
  int capability = 0;
  uint64_t memoryBytes = 0;
};

struct CudaProbe {
  CudaStage stage = CudaStage::driver;
  /** Why it ended there; empty when ready. */
  std::string reason;
  std::string driverPath, backendPath, cudnnPath, cublasLtPath;
  /** The newest CUDA that the driver serves, 13000 for 13.0; then the libraries' own versions. 0: not known. */
  int driverVersion = 0, cudnn = 0, cublasLt = 0;
  std::vector<CudaDevice> devices;
};

/** Probes once in a process and keeps the answer. Never throws, prints nothing; under 5 ms where there is no driver. */
const CudaProbe& probeCuda() noexcept;

}  // namespace comface
