// Owners of what the CUDA runtime hands out.
#include "cuda/runtime.h"

#include <string>

namespace comface::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next call would report it again
  const Code code = status == cudaErrorMemoryAllocation ? Code::outOfMemory : Code::deviceFailed;
  throw Error(code,
              std::string("CUDA: ") + what + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

DeviceMemory::DeviceMemory(size_t sizeBytes) : sizeBytes_(sizeBytes > 0 ? sizeBytes : 1) {
  check(cudaMalloc(reinterpret_cast<void**>(&data_), sizeBytes_), "device memory");
  try {  // on a stream of its own: waiting for the whole device would break what another engine is capturing
    const Stream stream;
    check(cudaMemsetAsync(data_, 0, sizeBytes_, stream), "clearing device memory");
    stream.synchronize();
  } catch (...) {
    cudaFree(data_);
    throw;
  }
}
DeviceMemory::~DeviceMemory() { cudaFree(data_); }

PinnedMemory::PinnedMemory(size_t sizeBytes) : sizeBytes_(sizeBytes > 0 ? sizeBytes : 1) {
  check(cudaMallocHost(reinterpret_cast<void**>(&data_), sizeBytes_), "pinned host memory");
}
PinnedMemory::~PinnedMemory() { cudaFreeHost(data_); }

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream"); }
Stream::~Stream() { cudaStreamDestroy(stream_); }
void Stream::synchronize() const { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

Event::Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "an event"); }
Event::~Event() { cudaEventDestroy(event_); }
void Event::record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "recording an event"); }
void Event::holdBack(cudaStream_t stream) const {
  check(cudaStreamWaitEvent(stream, event_, 0), "waiting for an event");
}
void Event::synchronize() const { check(cudaEventSynchronize(event_), "waiting for an event"); }

CapturedGraph::~CapturedGraph() { reset(); }
void CapturedGraph::reset() noexcept {
  if (graph_) cudaGraphExecDestroy(std::exchange(graph_, nullptr));
}
void CapturedGraph::begin(cudaStream_t stream) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a graph");
}
void CapturedGraph::abandon(cudaStream_t stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}
void CapturedGraph::end(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "capturing a graph");
  const cudaError_t status = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "instantiating a graph");
}
void CapturedGraph::launch(cudaStream_t stream) const { check(cudaGraphLaunch(graph_, stream), "launching a graph"); }

}  // namespace comface::cuda
