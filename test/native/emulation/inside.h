// What the parts of the emulation share: errors, memory, streams. Everything here expects deviceLock() to be held.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "emulation.h"

namespace comface::cuda::emulation {

using Work = std::function<void()>;

std::recursive_mutex& deviceLock();
/** At the head of every call of the runtime. */
using Lock = std::lock_guard<std::recursive_mutex>;

// ---- errors.cc ----

/** Keeps `status` for cudaGetLastError and `words` for cudaGetErrorString; returns `status`. */
cudaError_t report(cudaError_t status, const std::string& words = "");
/** The status of a device that is lost, else cudaSuccess. */
cudaError_t lost();
/** A mistake that costs a real device its sanity though no call says so, such as freeing twice: loses the device. */
cudaError_t misuse(cudaError_t status, const std::string& words);
void forgetErrors();

// ---- memory.cc ----

enum class Place : int32_t { host, pinned, device, freed };
/** Where [data, data + bytes) lies. `words`: what is wrong with it, for a range that leaves its allocation. */
Place placeOf(const void* data, size_t bytes, std::string* words = nullptr);
/** "256 bytes into a device allocation of 1024", or "not an address that the device knows". */
std::string describeAddress(const void* data);
/** Whether every byte is `value`. */
bool isFilled(const char* from, const char* to, uint8_t value);
/** Whether nobody wrote over the edge of an allocation; loses the device if so. */
bool edgesAreWhole();
/** With the guard: device memory can be touched only while this lives. Nests. */
class Access {
 public:
  Access();
  ~Access();
  Access(const Access&) = delete;
};
size_t livingBytes();
size_t livingAllocations();

// ---- streams.cc ----

struct Capture;

/** A queue of work. `done` counts what has run, so that (stream, count) is a moment. */
struct Stream {
  bool isBlocking = false;  // waits for the default stream and is waited for by it
  std::deque<Work> queue;
  uint64_t enqueued = 0, done = 0;
  std::shared_ptr<Capture> capture;
};
struct Moment {
  std::shared_ptr<Stream> stream;
  uint64_t count = 0;
};
void runUntil(const Moment& moment);
/** Everything that was ever enqueued anywhere. */
void runAll();
void dropAll();
/** Calls that would break a capture of this thread; `name` for the message. cudaSuccess if there is none. */
cudaError_t refuseWhileCapturing(const char* name);
/** Runs the stream's work. Refuses while it captures. */
cudaError_t synchronize(cudaStream_t stream, const char* name);
bool isCapturing(cudaStream_t stream);

// ---- kernel.cc ----

/** From the first call on, a fault in a kernel becomes an error of CUDA's, others go where they went before. */
void watchSignals();

// ---- cudart.cc ----

/** Bytes of dynamic shared memory that this kernel may ask for. */
size_t sharedLimit(const void* kernel);

}  // namespace comface::cuda::emulation
