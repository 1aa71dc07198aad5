// What is left of the CUDA runtime: the device, what it is able to do, and the emulation's settings.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "inside.h"

namespace comface::cuda::emulation {
namespace {

const char* variable(const char* name) {
  const char* const value = std::getenv(name);
  return value && *value ? value : nullptr;
}

Settings fromEnvironment() {
  Settings s;
  if (const char* order = variable("COMFACE_EMULATION_ORDER")) {
    const std::string text = order;
    s.order = text == "backward" ? Order::backward : text.rfind("shuffled", 0) == 0 ? Order::shuffled : Order::forward;
    if (const size_t colon = text.find(':'); colon != std::string::npos) {
      s.seed = std::strtoull(text.c_str() + colon + 1, nullptr, 10);
    }
  }
  const auto isOn = [](const char* value) { return value && *value != '0'; };
  s.defer = isOn(variable("COMFACE_EMULATION_DEFER"));
  s.guard = isOn(variable("COMFACE_EMULATION_GUARD"));
  if (const char* devices = variable("COMFACE_EMULATION_DEVICES")) s.devices = std::atoi(devices);
  if (const char* capability = variable("COMFACE_EMULATION_CAPABILITY")) s.capability = std::atoi(capability);
  if (const char* bytes = variable("COMFACE_EMULATION_MEMORY")) s.memoryBytes = std::strtoull(bytes, nullptr, 10);
  return s;
}

Settings& current() {
  static Settings settings = fromEnvironment();
  return settings;
}

constexpr int kCudaVersion = CUDART_VERSION;
constexpr size_t kStaticShared = 48 << 10;
/** What a block may ask for: CUDA C++ programming guide, table of compute capabilities. */
int sharedOptIn() { return (current().capability >= 90 ? 227 : 163) << 10; }
int sharedPerMultiprocessor() { return (current().capability >= 90 ? 228 : 164) << 10; }
int multiprocessors() { return current().capability >= 90 ? 132 : 108; }
int l2Bytes() { return (current().capability >= 90 ? 60 : 40) << 20; }

cudaError_t findDevice(int device) {
  if (current().devices == 0) return report(cudaErrorNoDevice);
  return device == 0 ? lost() : report(cudaErrorInvalidDevice);
}

void describe(cudaDeviceProp* p) {
  *p = {};
  std::snprintf(p->name, sizeof p->name, "emulated %s", current().capability >= 90 ? "H200" : "A100");
  p->totalGlobalMem = current().memoryBytes;
  p->sharedMemPerBlock = kStaticShared;
  p->sharedMemPerBlockOptin = sharedOptIn();
  p->sharedMemPerMultiprocessor = sharedPerMultiprocessor();
  p->reservedSharedMemPerBlock = 1024;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxBlocksPerMultiProcessor = 32;
  const int threads[] = {1024, 1024, 64}, blocks[] = {2147483647, 65535, 65535};
  std::copy_n(threads, 3, p->maxThreadsDim);
  std::copy_n(blocks, 3, p->maxGridSize);
  p->totalConstMem = 65536;
  p->major = current().capability / 10;
  p->minor = current().capability % 10;
  p->multiProcessorCount = multiprocessors();
  p->l2CacheSize = l2Bytes();
  p->textureAlignment = 512;
  p->canMapHostMemory = p->unifiedAddressing = p->concurrentKernels = 1;
  p->asyncEngineCount = 3;
  p->cooperativeLaunch = 1;
  p->streamPrioritiesSupported = 1;
}

int attributeOf(cudaDeviceAttr attribute, const cudaDeviceProp& p, bool* isKnown) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return p.maxThreadsPerBlock;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return static_cast<int>(p.sharedMemPerBlock);
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return static_cast<int>(p.sharedMemPerBlockOptin);
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return static_cast<int>(p.sharedMemPerMultiprocessor);
    case cudaDevAttrWarpSize:
      return p.warpSize;
    case cudaDevAttrMaxRegistersPerBlock:
      return p.regsPerBlock;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return p.maxThreadsPerMultiProcessor;
    case cudaDevAttrMultiProcessorCount:
      return p.multiProcessorCount;
    case cudaDevAttrL2CacheSize:
      return p.l2CacheSize;
    case cudaDevAttrComputeCapabilityMajor:
      return p.major;
    case cudaDevAttrComputeCapabilityMinor:
      return p.minor;
    case cudaDevAttrMaxGridDimX:
      return p.maxGridSize[0];
    case cudaDevAttrMaxGridDimY:
      return p.maxGridSize[1];
    case cudaDevAttrMaxGridDimZ:
      return p.maxGridSize[2];
    case cudaDevAttrUnifiedAddressing:
      return p.unifiedAddressing;
    default:
      *isKnown = false;
      return 0;
  }
}

std::map<const void*, int>& dynamicShared() {
  static auto& map = *new std::map<const void*, int>;
  return map;
}

}  // namespace

Settings settings() { return current(); }

void configure(const Settings& settings) {
  const Lock lock(deviceLock());
  const Access access;  // opened under the old guard, closed under the new one
  current() = settings;
}

size_t sharedLimit(const void* kernel) {
  const auto found = dynamicShared().find(kernel);
  return std::max(kStaticShared, found == dynamicShared().end() ? 0 : static_cast<size_t>(found->second));
}

}  // namespace comface::cuda::emulation

using namespace comface::cuda::emulation;

cudaError_t cudaGetDeviceCount(int* count) {
  const Lock lock(deviceLock());
  *count = settings().devices;
  return *count > 0 ? lost() : report(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* device) {
  const Lock lock(deviceLock());
  *device = 0;
  return findDevice(0);
}
cudaError_t cudaSetDevice(int device) {
  const Lock lock(deviceLock());
  return findDevice(device);
}
cudaError_t cudaDeviceReset() {
  reset();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = findDevice(device)) return status;
  describe(properties);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = findDevice(device)) return status;
  cudaDeviceProp properties;
  describe(&properties);
  bool isKnown = true;
  *value = attributeOf(attribute, properties, &isKnown);
  return isKnown ? cudaSuccess : report(cudaErrorInvalidValue, "an attribute that the emulation does not know");
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = settings().devices > 0 ? kCudaVersion : 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kCudaVersion;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = lost()) return status;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;  // others are hints
  if (value < 0 || value > sharedOptIn()) {
    return report(cudaErrorInvalidValue, std::to_string(value) + " bytes of shared memory");
  }
  dynamicShared()[kernel] = value;
  return cudaSuccess;
}
