// The CUDA runtime with owners and exceptions: memory, pinned memory, streams, events, captured graphs.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#include "core.h"

namespace comface::cuda {

/** Throws outOfMemory or deviceFailed with the runtime's own words. */
void check(cudaError_t status, const char* what);

/** Device memory, zeroed. */
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t sizeBytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  char* data() const { return data_; }
  size_t sizeBytes() const { return sizeBytes_; }

 private:
  size_t sizeBytes_;
  char* data_ = nullptr;
};

/** Host memory that the device copies from and to without a detour. */
class PinnedMemory {
 public:
  explicit PinnedMemory(size_t sizeBytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  char* data() const { return data_; }
  size_t sizeBytes() const { return sizeBytes_; }

 private:
  size_t sizeBytes_;
  char* data_ = nullptr;
};

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void synchronize() const;

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  void record(cudaStream_t stream);
  /** Work enqueued on `stream` from now on comes after what was recorded. */
  void holdBack(cudaStream_t stream) const;
  void synchronize() const;

 private:
  cudaEvent_t event_ = nullptr;
};

/** Work recorded once and launched as a whole. */
class CapturedGraph {
 public:
  CapturedGraph() = default;
  ~CapturedGraph();
  CapturedGraph(const CapturedGraph&) = delete;
  /** Records what `body` enqueues on `stream`. */
  template <class F>
  void capture(cudaStream_t stream, const F& body) {
    begin(stream);
    try {
      body();
    } catch (...) {
      abandon(stream);
      throw;
    }
    end(stream);
  }
  void launch(cudaStream_t stream) const;
  void reset() noexcept;
  explicit operator bool() const { return graph_ != nullptr; }

 private:
  static void begin(cudaStream_t stream);
  static void abandon(cudaStream_t stream) noexcept;
  void end(cudaStream_t stream);

  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace comface::cuda
