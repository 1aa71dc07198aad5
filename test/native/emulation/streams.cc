// Streams, events and captured graphs. A stream is a queue of closures; an event is a moment of a stream; waiting for
// one runs the stream up to it. Eagerly, a queue is emptied as soon as something enters it.
#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "inside.h"

namespace comface::cuda::emulation {

/** Work recorded instead of run. One list: the order of recording is an order that all dependencies allow. */
struct Capture {
  struct Branch {
    uint64_t recorded = 0, joined = 0;  // pieces of work, and how many of them the origin has waited for
  };
  std::vector<Work> works;
  Stream* origin = nullptr;
  std::thread::id thread;
  bool isInvalid = false, isThreadBound = true;
  std::map<std::shared_ptr<Stream>, Branch> branches;
};

}  // namespace comface::cuda::emulation

using namespace comface::cuda::emulation;

/** The handles' own types, which CUDA leaves open. */
struct CUstream_st {
  std::shared_ptr<Stream> stream = std::make_shared<Stream>();
};
struct CUevent_st {
  Moment moment;  // no stream: never recorded
  std::shared_ptr<Capture> capture;
  uint64_t branchRecorded = 0;
  bool hasTiming = true;
  std::shared_ptr<std::chrono::steady_clock::time_point> time;
};
struct CUgraph_st {
  std::shared_ptr<std::vector<Work>> works;
};
struct CUgraphExec_st {
  std::shared_ptr<std::vector<Work>> works;
};

namespace comface::cuda::emulation {
namespace {

/** Handles that are valid now, so that others are refused and not followed. */
template <class T>
class Handles {
 public:
  T* create() {
    auto made = std::make_unique<T>();
    T* const handle = made.get();
    living_.emplace(handle, std::move(made));
    return handle;
  }
  T* find(T* handle) const { return living_.count(handle) ? handle : nullptr; }
  bool destroy(T* handle) { return living_.erase(handle) > 0; }
  size_t size() const { return living_.size(); }

 private:
  std::unordered_map<T*, std::unique_ptr<T>> living_;
};

struct Everything {
  Handles<CUstream_st> streams;
  Handles<CUevent_st> events;
  Handles<CUgraph_st> graphs;
  Handles<CUgraphExec_st> executables;
  std::shared_ptr<Stream> defaultStream = std::make_shared<Stream>();
  std::vector<std::shared_ptr<Stream>> all;  // destroyed ones too, until their work is done
  std::vector<std::weak_ptr<Capture>> captures;
};
Everything& everything() {
  static Everything& everything = *new Everything;  // never destroyed, as memory() is not
  return everything;
}

std::shared_ptr<Stream> streamOf(cudaStream_t handle) {
  if (!handle || handle == cudaStreamLegacy) return everything().defaultStream;
  CUstream_st* const found = everything().streams.find(handle);
  return found ? found->stream : nullptr;
}

cudaError_t badHandle(const char* name) { return report(cudaErrorInvalidResourceHandle, name); }

void push(const std::shared_ptr<Stream>& stream, Work work) {
  stream->queue.push_back(std::move(work));
  ++stream->enqueued;
}

/** The default stream and the blocking ones wait for each other at every piece of work. */
void orderWithDefaultStream(const std::shared_ptr<Stream>& stream) {
  Everything& e = everything();
  const auto waitFor = [&](const std::shared_ptr<Stream>& other) {
    if (other->done < other->enqueued) push(stream, [moment = Moment{other, other->enqueued}] { runUntil(moment); });
  };
  if (stream == e.defaultStream) {
    for (const auto& other : e.all) {
      if (other->isBlocking) waitFor(other);
    }
  } else if (stream->isBlocking) {
    waitFor(e.defaultStream);
  }
}

bool blockingStreamCaptures() {
  const auto& all = everything().all;
  return std::any_of(all.begin(), all.end(), [](const auto& s) { return s->isBlocking && s->capture; });
}

cudaError_t record(const std::shared_ptr<Stream>& stream, Work work) {
  Capture& capture = *stream->capture;
  if (capture.isInvalid) return report(cudaErrorStreamCaptureInvalidated);
  capture.works.push_back(std::move(work));
  ++capture.branches[stream].recorded;
  return cudaSuccess;
}

cudaError_t enqueueOn(const std::shared_ptr<Stream>& stream, Work work) {
  if (const cudaError_t status = lost()) return status;
  if (stream->capture) return record(stream, std::move(work));
  if (stream == everything().defaultStream && blockingStreamCaptures()) {
    return report(cudaErrorStreamCaptureImplicit);
  }
  orderWithDefaultStream(stream);
  push(stream, std::move(work));
  if (settings().defer) return cudaSuccess;
  runUntil({stream, stream->enqueued});
  return lost();
}

cudaError_t invalidate(Capture& capture, cudaError_t status, const std::string& words) {
  capture.isInvalid = true;
  return report(status, words);
}

cudaError_t createStream(cudaStream_t* handle, unsigned flags) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = lost()) return status;
  *handle = everything().streams.create();
  (*handle)->stream->isBlocking = !(flags & cudaStreamNonBlocking);
  everything().all.push_back((*handle)->stream);
  return cudaSuccess;
}

cudaError_t createEvent(cudaEvent_t* handle, unsigned flags) {
  const Lock lock(deviceLock());
  if (const cudaError_t status = lost()) return status;
  *handle = everything().events.create();
  (*handle)->hasTiming = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}

/** Ends the stream's capture and hands it over with what is wrong with it. */
cudaError_t endCapture(const std::shared_ptr<Stream>& stream, std::shared_ptr<Capture>* result) {
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!capture) return report(cudaErrorIllegalState, "cudaStreamEndCapture on a stream that does not capture");
  if (capture->origin != stream.get()) return invalidate(*capture, cudaErrorStreamCaptureUnmatched, "");
  if (capture->isThreadBound && capture->thread != std::this_thread::get_id()) {
    return invalidate(*capture, cudaErrorStreamCaptureWrongThread, "");
  }
  bool isJoined = true;
  for (const auto& [branch, counts] : capture->branches) {
    branch->capture = nullptr;
    isJoined = isJoined && (branch == stream || counts.joined == counts.recorded);
  }
  stream->capture = nullptr;
  if (capture->isInvalid) return report(cudaErrorStreamCaptureInvalidated);
  if (!isJoined) return report(cudaErrorStreamCaptureUnjoined);
  *result = capture;
  return cudaSuccess;
}

/** The stream joins the event's capture, or its origin takes a branch back. */
cudaError_t waitInCapture(const std::shared_ptr<Stream>& stream, const CUevent_st& event) {
  if (stream->capture && stream->capture != event.capture) {
    return invalidate(*stream->capture, event.capture ? cudaErrorStreamCaptureMerge : cudaErrorStreamCaptureIsolation,
                      "cudaStreamWaitEvent while capturing, for an event from outside");
  }
  if (event.capture->isInvalid) return report(cudaErrorStreamCaptureInvalidated);
  if (event.capture->origin->capture != event.capture) {
    return report(cudaErrorCapturedEvent, "cudaStreamWaitEvent for an event of a capture that has ended");
  }
  stream->capture = event.capture;
  Capture::Branch& from = event.capture->branches[event.moment.stream];
  from.joined = std::max(from.joined, event.branchRecorded);
  // Waiting makes a point of its own, which somebody has to wait for in turn.
  if (stream != event.moment.stream) ++event.capture->branches[stream].recorded;
  return cudaSuccess;
}

}  // namespace

void runUntil(const Moment& moment) {
  if (!moment.stream) return;
  const Access access;
  Stream& stream = *moment.stream;
  while (stream.done < moment.count && !stream.queue.empty()) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.done;
    if (lost() == cudaSuccess) work();
  }
}

void runAll() {
  auto& all = everything().all;
  runUntil({everything().defaultStream, everything().defaultStream->enqueued});
  for (size_t i = 0; i < all.size(); ++i) runUntil({all[i], all[i]->enqueued});
  // Those that only this list still holds were destroyed, and now they have nothing left to do.
  std::erase_if(all, [](const auto& stream) { return stream.use_count() == 1; });
}

void dropAll() {
  const auto drop = [](Stream& stream) {
    stream.done = stream.enqueued;
    stream.queue.clear();
    stream.capture = nullptr;
  };
  drop(*everything().defaultStream);
  for (const auto& stream : everything().all) drop(*stream);
}

cudaError_t refuseWhileCapturing(const char* name) {
  auto& captures = everything().captures;
  std::erase_if(captures, [](const auto& capture) { return capture.expired(); });
  for (const auto& weak : captures) {
    const std::shared_ptr<Capture> capture = weak.lock();
    const bool isMine = capture && capture->isThreadBound && capture->thread == std::this_thread::get_id();
    if (isMine && capture->origin->capture == capture) {
      return invalidate(*capture, cudaErrorStreamCaptureUnsupported, std::string(name) + " while capturing");
    }
  }
  return cudaSuccess;
}

cudaError_t synchronize(cudaStream_t handle, const char* name) {
  const std::shared_ptr<Stream> stream = streamOf(handle);
  if (!stream) return badHandle(name);
  if (stream->capture) {
    return invalidate(*stream->capture, cudaErrorStreamCaptureUnsupported, std::string(name) + " while capturing");
  }
  orderWithDefaultStream(stream);
  runUntil({stream, stream->enqueued});
  edgesAreWhole();
  return lost();
}

bool isCapturing(cudaStream_t handle) {
  const std::shared_ptr<Stream> stream = streamOf(handle);
  return stream && stream->capture;
}

cudaError_t enqueue(cudaStream_t handle, Work work) {
  const Lock lock(deviceLock());
  const std::shared_ptr<Stream> stream = streamOf(handle);
  return stream ? enqueueOn(stream, std::move(work)) : badHandle("work for a stream");
}

void reset() {
  const Lock lock(deviceLock());
  dropAll();
  forgetErrors();
}

Living living() {
  const Lock lock(deviceLock());
  const Everything& e = everything();
  return {livingAllocations(), e.streams.size(), e.events.size(), e.graphs.size() + e.executables.size(),
          livingBytes()};
}

}  // namespace comface::cuda::emulation

// ---- streams ----

cudaError_t cudaStreamCreate(cudaStream_t* handle) { return createStream(handle, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) { return createStream(handle, flags); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned flags, int) {
  return createStream(handle, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const Lock lock(deviceLock());
  // Its work goes on: `all` keeps the queue.
  return everything().streams.destroy(handle) ? lost() : badHandle("cudaStreamDestroy");
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const Lock lock(deviceLock());
  return synchronize(handle, "cudaStreamSynchronize");
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const Lock lock(deviceLock());
  const std::shared_ptr<Stream> stream = streamOf(handle);
  if (!stream) return badHandle("cudaStreamQuery");
  if (stream->capture) {
    return invalidate(*stream->capture, cudaErrorStreamCaptureUnsupported, "cudaStreamQuery while capturing");
  }
  if (stream->done == stream->enqueued) return lost();
  runUntil({stream, stream->done + 1});  // or who asks in a loop would ask for ever
  return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(deviceLock());
  if (const cudaError_t status = refuseWhileCapturing("cudaDeviceSynchronize")) return status;
  runAll();
  edgesAreWhole();
  return lost();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return enqueue(handle, [=] { function(data); });
}

// ---- events ----

cudaError_t cudaEventCreate(cudaEvent_t* handle) { return createEvent(handle, 0); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) { return createEvent(handle, flags); }

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  const Lock lock(deviceLock());
  return everything().events.destroy(handle) ? lost() : badHandle("cudaEventDestroy");
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t streamHandle) {
  const Lock lock(deviceLock());
  CUevent_st* const event = everything().events.find(handle);
  const std::shared_ptr<Stream> stream = streamOf(streamHandle);
  if (!event || !stream) return badHandle("cudaEventRecord");
  event->capture = stream->capture;
  if (stream->capture) {
    if (stream->capture->isInvalid) return report(cudaErrorStreamCaptureInvalidated);
    event->moment = {stream, 0};
    event->branchRecorded = stream->capture->branches[stream].recorded;
    return lost();
  }
  const auto time = std::make_shared<std::chrono::steady_clock::time_point>();
  event->time = time;
  const cudaError_t status = enqueueOn(stream, [time] { *time = std::chrono::steady_clock::now(); });
  event->moment = {stream, stream->enqueued};
  return status;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream, unsigned) {
  return cudaEventRecord(handle, stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t streamHandle, cudaEvent_t handle, unsigned) {
  const Lock lock(deviceLock());
  CUevent_st* const event = everything().events.find(handle);
  const std::shared_ptr<Stream> stream = streamOf(streamHandle);
  if (!event || !stream) return badHandle("cudaStreamWaitEvent");
  if (!event->moment.stream) return lost();  // never recorded: nothing to wait for
  if (stream->capture || event->capture) return waitInCapture(stream, *event);
  if (event->moment.stream == stream) return lost();
  return enqueueOn(stream, [moment = event->moment] { runUntil(moment); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  const Lock lock(deviceLock());
  CUevent_st* const event = everything().events.find(handle);
  if (!event) return badHandle("cudaEventSynchronize");
  if (event->capture) return report(cudaErrorCapturedEvent, "cudaEventSynchronize");
  runUntil(event->moment);
  edgesAreWhole();
  return lost();
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  const Lock lock(deviceLock());
  CUevent_st* const event = everything().events.find(handle);
  if (!event) return badHandle("cudaEventQuery");
  if (event->capture) return report(cudaErrorCapturedEvent, "cudaEventQuery");
  const Moment& moment = event->moment;
  if (!moment.stream || moment.stream->done >= moment.count) return lost();
  runUntil({moment.stream, moment.stream->done + 1});
  return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const Lock lock(deviceLock());
  CUevent_st *const a = everything().events.find(from), *const b = everything().events.find(to);
  if (!a || !b || !a->hasTiming || !b->hasTiming || !a->time || !b->time) return badHandle("cudaEventElapsedTime");
  for (const CUevent_st* event : {a, b}) {
    if (event->moment.stream->done < event->moment.count) return cudaErrorNotReady;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(*b->time - *a->time).count();
  return lost();
}

// ---- captured graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const Lock lock(deviceLock());
  const std::shared_ptr<Stream> stream = streamOf(handle);
  if (!stream) return badHandle("cudaStreamBeginCapture");
  if (const cudaError_t status = lost()) return status;
  if (stream == everything().defaultStream) return report(cudaErrorStreamCaptureUnsupported, "the default stream");
  if (stream->capture) return report(cudaErrorIllegalState, "the stream captures already");
  const auto capture = std::make_shared<Capture>();
  capture->origin = stream.get();
  capture->thread = std::this_thread::get_id();
  capture->isThreadBound = mode != cudaStreamCaptureModeRelaxed;
  capture->branches[stream];
  stream->capture = capture;
  everything().captures.push_back(capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const Lock lock(deviceLock());
  *graph = nullptr;
  const std::shared_ptr<Stream> stream = streamOf(handle);
  if (!stream) return badHandle("cudaStreamEndCapture");
  std::shared_ptr<Capture> capture;
  if (const cudaError_t status = endCapture(stream, &capture)) return status;
  *graph = everything().graphs.create();
  (*graph)->works = std::make_shared<std::vector<Work>>(std::move(capture->works));
  return lost();
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const Lock lock(deviceLock());
  const std::shared_ptr<Stream> stream = streamOf(handle);
  if (!stream) return badHandle("cudaStreamIsCapturing");
  *status = !stream->capture             ? cudaStreamCaptureStatusNone
            : stream->capture->isInvalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
  return lost();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const Lock lock(deviceLock());
  if (!everything().graphs.find(graph)) return badHandle("cudaGraphInstantiate");
  if (const cudaError_t status = lost()) return status;
  *executable = everything().executables.create();
  (*executable)->works = graph->works;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Lock lock(deviceLock());
  if (!everything().executables.find(executable)) return badHandle("cudaGraphLaunch");
  return enqueue(stream, [works = executable->works] {
    for (const Work& work : *works) {
      if (lost() == cudaSuccess) work();
    }
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  const Lock lock(deviceLock());
  return everything().executables.find(executable) ? lost() : badHandle("cudaGraphUpload");
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Lock lock(deviceLock());
  return everything().graphs.destroy(graph) ? lost() : badHandle("cudaGraphDestroy");
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Lock lock(deviceLock());
  return everything().executables.destroy(executable) ? lost() : badHandle("cudaGraphExecDestroy");
}
