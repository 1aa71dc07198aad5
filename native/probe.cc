// The stages of probe.h. The driver's functions have plain C types and never change, so they need no header.
#include "probe.h"

#include <dlfcn.h>
#include <link.h>

#include <utility>

#include "abi.h"

namespace comface {
namespace {

// CUresult of cuda.h, as far as there is something to say about it.
constexpr int kNoDevice = 100, kDriverMismatch = 803, kNotSupportedOnDevice = 804;

/** Ends the probe at its stage. Not an Error: nothing failed that anybody asked for. */
struct Ended {
  std::string reason;
};

std::string loaderReason() {
  const char* const reason = dlerror();
  return reason ? reason : "no reason given";
}

/** The file that a loaded library came from. */
std::string pathOf(void* library) {
  link_map* map = nullptr;
  return dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 ? map->l_name : "";
}

template <class F>
F* functionOf(void* library, const char* name) {
  return reinterpret_cast<F*>(dlsym(library, name));
}

template <class F>
F* driverFunction(void* library, const char* name) {
  F* const function = functionOf<F>(library, name);
  if (!function) throw Ended{std::string("the NVIDIA driver has no ") + name + " and cannot be used"};
  return function;
}

/** "13.0" for 13000. */
std::string cudaVersion(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

void* openDriver() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver) return driver;
  const std::string reason = loaderReason();
  if (reason.find("No such file") != std::string::npos) throw Ended{"no NVIDIA driver (libcuda.so.1 was not found)"};
  throw Ended{"no NVIDIA driver that works: " + reason};
}

void initializeDriver(void* driver) {
  const int status = driverFunction<int(unsigned)>(driver, "cuInit")(0);
  if (status == 0) return;
  const std::string number = " (" + std::to_string(status) + ")";
  if (status == kNoDevice) throw Ended{"an NVIDIA driver, but no GPU" + number};
  if (status == kDriverMismatch)
    throw Ended{"the NVIDIA driver's library and its kernel module are of different versions" + number};
  if (status == kNotSupportedOnDevice)
    throw Ended{"this GPU does not take the driver's compatibility library" + number};
  const char* text = nullptr;
  const auto describe = functionOf<int(int, const char**)>(driver, "cuGetErrorString");
  if (!describe || describe(status, &text) != 0 || !text) text = "cuInit failed";
  throw Ended{"the NVIDIA driver does not start: " + std::string(text) + number};
}

int driverVersionOf(void* driver) {
  int version = 0;
  driverFunction<int(int*)>(driver, "cuDriverGetVersion")(&version);
  return version;
}

void countDevices(void* driver) {
  int count = 0;
  const int status = driverFunction<int(int*)>(driver, "cuDeviceGetCount")(&count);
  if (status != 0 || count < 1) throw Ended{"an NVIDIA driver, but no GPU"};
}

/** Beside this add-on, wherever that was loaded from. */
std::string backendPath() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&backendPath), &info) == 0) return "libcomface_cuda.so";
  const std::string file = info.dli_fname;
  return file.substr(0, file.rfind('/') + 1) + "libcomface_cuda.so";
}

ComfaceCudaDescribe openBackend(const std::string& path) {
  // Never closed, as compileWith() does not.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const std::string reason = loaderReason();
    const bool isMissing = reason.find(path + ": cannot open shared object file: No such file") != std::string::npos;
    throw Ended{isMissing ? "the CUDA backend is not built: " + path + " is not there"
                          : "the CUDA backend does not load: " + reason};
  }
  const auto entry = functionOf<const ComfaceBackend*()>(library, "comfaceBackend");
  if (!entry) throw Ended{path + " is not a comface backend"};
  if (const int abi = entry()->abi; abi != kAbiVersion) {
    throw Ended{path + " has interface version " + std::to_string(abi) + " where this add-on needs " +
                std::to_string(kAbiVersion)};
  }
  const auto describe = reinterpret_cast<ComfaceCudaDescribe>(dlsym(library, "comfaceCudaDescribe"));
  if (!describe) throw Ended{path + " is not a CUDA backend"};
  return describe;
}

void checkDevices(const CudaProbe& probe, const ComfaceCudaDescription& description) {
  if (description.devicesReason[0] != '\0') throw Ended{description.devicesReason};
  std::string old;
  for (const CudaDevice& device : probe.devices) {
    if (device.capability >= kOldestCapability) return;
    old += (old.empty() ? "" : ", ") + device.name + " has " + std::to_string(device.capability / 10) + "." +
           std::to_string(device.capability % 10);
  }
  throw Ended{"no GPU of compute capability 8.0 or newer" + (old.empty() ? "" : ": " + old)};
}

void runStages(CudaProbe& probe) {
  void* const driver = openDriver();
  probe.driverPath = pathOf(driver);
  probe.stage = CudaStage::initialize;
  probe.driverVersion = driverVersionOf(driver);  // it also answers before cuInit
  initializeDriver(driver);
  probe.stage = CudaStage::version;
  if (probe.driverVersion < kOldestDriver) {
    throw Ended{"the NVIDIA driver is too old: it serves CUDA " + cudaVersion(probe.driverVersion) + ", and CUDA " +
                cudaVersion(kOldestDriver) + " needs driver 580 or newer"};
  }
  probe.stage = CudaStage::gpu;
  countDevices(driver);
  probe.stage = CudaStage::backend;
  const std::string path = backendPath();
  const ComfaceCudaDescribe describe = openBackend(path);
  probe.backendPath = path;
  probe.stage = CudaStage::libraries;
  ComfaceCudaDescription found{};
  describe(&found);
  probe.cudnnPath = found.cudnnPath, probe.cublasLtPath = found.cublasLtPath;
  probe.cudnn = found.cudnn, probe.cublasLt = found.cublasLt;
  if (found.librariesReason[0] != '\0') throw Ended{found.librariesReason};
  probe.stage = CudaStage::devices;
  for (int i = 0; i < found.deviceCount && i < kCudaDevices; ++i) {
    const ComfaceCudaDevice& device = found.devices[i];
    probe.devices.push_back({device.name, device.capability, device.memoryBytes});
  }
  checkDevices(probe, found);
  probe.stage = CudaStage::ready;
}

CudaProbe probeOnce() noexcept {
  CudaProbe probe;
  try {
    runStages(probe);
  } catch (Ended& ended) {
    probe.reason = std::move(ended.reason);
  } catch (...) {
    probe.reason = currentError().message;
  }
  return probe;
}

}  // namespace

const CudaProbe& probeCuda() noexcept {
  static const CudaProbe probe = probeOnce();
  return probe;
}

}  // namespace comface
