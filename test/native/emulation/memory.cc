// Device and pinned memory. Every allocation lies between pages that nobody may touch; what is left of its first and
// last page holds a pattern that must stay. Freed memory keeps its addresses and can no longer be touched.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "inside.h"

namespace comface::cuda::emulation {
namespace {

constexpr size_t kAlign = 256;  // what cudaMalloc promises
constexpr size_t kGuard = size_t{1} << 20;
constexpr size_t kKeptFreed = 4096;  // so many freed ranges are remembered, or the system's count of mappings ends
constexpr uint8_t kEdge = 0xa5;

struct Allocation {
  Place place;
  size_t size;
  char *mapped, *writable;  // guard, writable part with the data somewhere in it, guard
  size_t mappedSize, writableSize;
};

struct Memory {
  std::map<uintptr_t, Allocation> living;  // by address
  std::map<uintptr_t, Allocation> freed;
  std::deque<uintptr_t> freedOrder;
  size_t deviceBytes = 0;
  int accesses = 0;
};
Memory& memory() {
  static Memory& memory = *new Memory;  // never destroyed: owners may free while the program ends
  return memory;
}

size_t roundUp(size_t size, size_t step) { return (size + step - 1) / step * step; }
char* at(uintptr_t address) { return reinterpret_cast<char*>(address); }
uintptr_t number(const void* data) { return reinterpret_cast<uintptr_t>(data); }

/** The allocation with the greatest address not above `data`, if `data` may have been meant for it. */
const std::pair<const uintptr_t, Allocation>* nearest(const std::map<uintptr_t, Allocation>& map, uintptr_t data) {
  auto after = map.upper_bound(data);
  if (after != map.end() && data >= number(after->second.mapped)) return &*after;
  if (after == map.begin()) return nullptr;
  const auto& found = *std::prev(after);
  return data < number(found.second.mapped) + found.second.mappedSize ? &found : nullptr;
}

bool isEdgeWhole(uintptr_t address, const Allocation& a) {
  const char* const data = at(address);
  return isFilled(a.writable, data, kEdge) && isFilled(data + a.size, a.writable + a.writableSize, kEdge);
}

const char* nameOf(Place place) { return place == Place::device ? "device" : "pinned host"; }

void* allocate(Place place, size_t size) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  Allocation a{place, size, nullptr, nullptr, 0, roundUp(size, page)};
  a.mappedSize = a.writableSize + 2 * kGuard;
  void* const mapped = mmap(nullptr, a.mappedSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  a.mapped = static_cast<char*>(mapped);
  a.writable = a.mapped + kGuard;
  if (mprotect(a.writable, a.writableSize, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapped, a.mappedSize);
    return nullptr;
  }
  // As near to the guard behind it as the alignment lets it be.
  char* const data = a.writable + a.writableSize - roundUp(size, kAlign);
  std::memset(a.writable, kEdge, data - a.writable);
  std::fill_n(reinterpret_cast<uint16_t*>(data), size / 2, kGarbage);
  std::memset(data + size, kEdge, a.writable + a.writableSize - data - size);
  const Access access;  // leaves the new memory as closed as the rest
  memory().living.emplace(number(data), a);
  if (place == Place::device) memory().deviceBytes += size;
  return data;
}

void release(uintptr_t address, Allocation a) {
  Memory& m = memory();
  m.living.erase(address);
  if (a.place == Place::device) m.deviceBytes -= a.size;
  mprotect(a.mapped, a.mappedSize, PROT_NONE);
  madvise(a.writable, a.writableSize, MADV_DONTNEED);
  m.freed.emplace(address, a);
  m.freedOrder.push_back(address);
  if (m.freedOrder.size() <= kKeptFreed) return;
  const auto oldest = m.freed.find(m.freedOrder.front());
  munmap(oldest->second.mapped, oldest->second.mappedSize);
  m.freed.erase(oldest);
  m.freedOrder.pop_front();
}

cudaError_t free(void* data, Place place, const char* name) {
  const Lock lock(deviceLock());
  if (!data) return cudaSuccess;
  if (const cudaError_t status = refuseWhileCapturing(name)) return status;
  runAll();
  edgesAreWhole();
  Memory& m = memory();
  const auto found = m.living.find(number(data));
  if (found == m.living.end() || found->second.place != place) {
    return misuse(cudaErrorInvalidValue, std::string(name) + ": " + describeAddress(data));
  }
  const Access access;
  release(found->first, found->second);
  return lost();
}

cudaError_t allocateFor(void** data, size_t size, Place place, const char* name) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = refuseWhileCapturing(name)) return status;
  if (const cudaError_t status = lost()) return status;
  if (!data) return report(cudaErrorInvalidValue, name);
  *data = nullptr;
  if (size == 0) return cudaSuccess;
  const size_t limit = settings().memoryBytes;
  if (place == Place::device && (size > limit || memory().deviceBytes > limit - size)) {
    return report(cudaErrorMemoryAllocation);
  }
  *data = allocate(place, size);
  return *data ? cudaSuccess : report(cudaErrorMemoryAllocation);
}

void protectDevice(int protection) {
  for (const auto& [address, a] : memory().living) {
    if (a.place == Place::device) mprotect(a.writable, a.writableSize, protection);
  }
}

// ---- copies ----

bool isHost(Place place) { return place == Place::host || place == Place::pinned; }

/** What `kind` says of one end must be so. */
cudaError_t checkEnd(const char* end, const void* data, size_t bytes, std::optional<bool> wantsDevice, Place* place) {
  std::string words;
  *place = placeOf(data, bytes, &words);
  if (!words.empty()) return report(cudaErrorInvalidValue, std::string(end) + ": " + words);
  if (wantsDevice && *wantsDevice != (*place == Place::device)) {
    return report(cudaErrorInvalidValue, std::string(end) + ": the direction says " +
                                             (*wantsDevice ? "device" : "host") + ", the address is " +
                                             describeAddress(data));
  }
  return cudaSuccess;
}

cudaError_t checkCopy(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind, Place* toPlace,
                      Place* fromPlace) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return report(cudaErrorInvalidMemcpyDirection);
  std::optional<bool> toDevice, fromDevice;
  if (kind != cudaMemcpyDefault) {
    toDevice = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    fromDevice = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  }
  if (const cudaError_t status = checkEnd("a copy's target", to, bytes, toDevice, toPlace)) return status;
  if (const cudaError_t status = checkEnd("a copy's source", from, bytes, fromDevice, fromPlace)) return status;
  const uintptr_t a = number(to), b = number(from);
  if (bytes > 0 && a < b + bytes && b < a + bytes) return report(cudaErrorInvalidValue, "a copy overlaps itself");
  return cudaSuccess;
}

/** The copy itself; its ends may have been freed since it was enqueued. */
void copyNow(void* to, const void* from, size_t bytes, bool checksTo, bool checksFrom) {
  if (checksTo && !requireDevice(to, bytes, "a copy's target")) return;
  if (checksFrom && !requireDevice(from, bytes, "a copy's source")) return;
  std::memcpy(to, from, bytes);
}

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream, const char* name) {
  Place toPlace, fromPlace;
  if (const cudaError_t status = checkCopy(to, from, bytes, kind, &toPlace, &fromPlace)) return status;
  if (bytes == 0) return cudaSuccess;
  const bool isPageable = toPlace == Place::host || fromPlace == Place::host;
  if (isPageable && isCapturing(stream)) {
    // CUDA would have to stage such a copy or to wait for it.
    return report(cudaErrorStreamCaptureUnsupported, std::string(name) + " with memory that is not pinned");
  }
  if (fromPlace == Place::host && !isHost(toPlace)) {  // CUDA has staged the source when the call returns
    const auto staged =
        std::make_shared<std::vector<char>>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    return enqueue(stream, [=] { copyNow(to, staged->data(), bytes, true, false); });
  }
  const cudaError_t status =
      enqueue(stream, [=] { copyNow(to, from, bytes, toPlace != Place::host, fromPlace != Place::host); });
  return status != cudaSuccess || !isPageable ? status : synchronize(stream, name);
}

cudaError_t set(void* data, int value, size_t bytes, cudaStream_t stream) {
  std::string words;
  const Place place = placeOf(data, bytes, &words);
  if (!words.empty()) return report(cudaErrorInvalidValue, "cudaMemset: " + words);
  if (place == Place::host) return report(cudaErrorInvalidValue, "cudaMemset: " + describeAddress(data));
  if (bytes == 0) return cudaSuccess;
  return enqueue(stream, [=] {
    if (requireDevice(data, bytes, "cudaMemset")) std::memset(data, value, bytes);
  });
}

}  // namespace

bool isFilled(const char* from, const char* to, uint8_t value) {
  return from == to ||
         (static_cast<uint8_t>(*from) == value && std::memcmp(from, from + 1, static_cast<size_t>(to - from) - 1) == 0);
}

Place placeOf(const void* data, size_t bytes, std::string* words) {
  const uintptr_t address = number(data);
  if (const auto* found = nearest(memory().living, address)) {
    const auto& [start, a] = *found;
    if (address >= start && address - start <= a.size && bytes <= a.size - (address - start)) return a.place;
    if (words) *words = std::to_string(bytes) + " bytes, " + describeAddress(data);
    return a.place;
  }
  if (nearest(memory().freed, address)) {
    if (words) *words = describeAddress(data);
    return Place::freed;
  }
  return Place::host;
}

std::string describeAddress(const void* data) {
  const uintptr_t address = number(data);
  const auto distance = [&](uintptr_t start, const Allocation& a) {
    const std::string of = std::string(nameOf(a.place)) + " allocation of " + std::to_string(a.size) + " bytes";
    if (address < start) return std::to_string(start - address) + " bytes before a " + of;
    return std::to_string(address - start) + " bytes into a " + of;
  };
  if (const auto* found = nearest(memory().living, address)) return distance(found->first, found->second);
  if (const auto* found = nearest(memory().freed, address)) {
    return distance(found->first, found->second) + " that has been freed";
  }
  return "not an address that CUDA gave out";
}

bool requireDevice(const void* data, size_t bytes, const char* what) {
  const Lock lock(deviceLock());
  std::string words;
  const Place place = placeOf(data, bytes, &words);
  if (words.empty() && place == Place::host) words = describeAddress(data);
  if (words.empty()) return true;
  fail(cudaErrorIllegalAddress, std::string(what) + ": " + words);
  return false;
}

bool edgesAreWhole() {
  const Access access;
  for (const auto& [address, a] : memory().living) {
    if (isEdgeWhole(address, a)) continue;
    fail(cudaErrorIllegalAddress, std::string("something wrote over the edge of a ") + nameOf(a.place) +
                                      " allocation of " + std::to_string(a.size) + " bytes");
    return false;
  }
  return true;
}

Access::Access() {
  if (memory().accesses++ == 0 && settings().guard) protectDevice(PROT_READ | PROT_WRITE);
}
Access::~Access() {
  if (--memory().accesses > 0 || !settings().guard) return;
  watchSignals();
  protectDevice(PROT_NONE);
}

size_t livingBytes() { return memory().deviceBytes; }
size_t livingAllocations() { return memory().living.size(); }

}  // namespace comface::cuda::emulation

using namespace comface::cuda::emulation;

cudaError_t cudaMalloc(void** data, size_t size) { return allocateFor(data, size, Place::device, "cudaMalloc"); }
cudaError_t cudaMallocHost(void** data, size_t size) {
  return allocateFor(data, size, Place::pinned, "cudaMallocHost");
}
cudaError_t cudaHostAlloc(void** data, size_t size, unsigned) {
  return allocateFor(data, size, Place::pinned, "cudaHostAlloc");
}
cudaError_t cudaFree(void* data) { return comface::cuda::emulation::free(data, Place::device, "cudaFree"); }
cudaError_t cudaFreeHost(void* data) { return comface::cuda::emulation::free(data, Place::pinned, "cudaFreeHost"); }

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  const Lock lock(deviceLock());
  *total = settings().memoryBytes;
  *available = *total - std::min(*total, livingBytes());
  return lost();
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  const Lock lock(deviceLock());
  const Place place = placeOf(data, 0);
  *attributes = {};
  attributes->type = place == Place::device   ? cudaMemoryTypeDevice
                     : place == Place::pinned ? cudaMemoryTypeHost
                                              : cudaMemoryTypeUnregistered;
  if (place == Place::device || place == Place::pinned) attributes->devicePointer = const_cast<void*>(data);
  if (place == Place::pinned) attributes->hostPointer = const_cast<void*>(data);
  return lost();
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Lock lock(deviceLock());
  return copy(to, from, bytes, kind, stream, "cudaMemcpyAsync");
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = refuseWhileCapturing("cudaMemcpy")) return status;
  if (const cudaError_t status = synchronize(nullptr, "cudaMemcpy")) return status;
  const cudaError_t status = copy(to, from, bytes, kind, nullptr, "cudaMemcpy");
  // As documented, neither a copy within the device nor one from pageable memory, once that is staged, is waited for.
  const Place toPlace = placeOf(to, 0), fromPlace = placeOf(from, 0);
  const bool waits = toPlace != Place::device || fromPlace == Place::pinned;
  return status != cudaSuccess || !waits ? status : synchronize(nullptr, "cudaMemcpy");
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  const Lock lock(deviceLock());
  return set(data, value, bytes, stream);
}

cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = refuseWhileCapturing("cudaMemset")) return status;
  return set(data, value, bytes, nullptr);  // does not wait, as on a device
}
