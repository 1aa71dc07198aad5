// Proves the emulation: what works on a device works here, and every mistake that a device punishes is noticed.
// Prints a line for each property; the exit status counts the failures.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "emulation.h"

namespace comface::cuda {
namespace {

using emulation::Order;

// ---- kernels ----

/** out[i] = i: one thread a number, no barrier. */
__global__ void countKernel(int* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = i;
}

__device__ float warpSum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

/** out[block] = sum of x; x: gridDim.x rows of n. */
__global__ void __launch_bounds__(256) sumKernel(const float* x, int n, float* out) {
  __shared__ float parts[32];
  float sum = 0;
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(n); i += blockDim.x) sum += x[size_t{blockIdx.x} * n + i];
  sum = warpSum(sum);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane == 0) parts[warp] = sum;
  __syncthreads();
  if (warp != 0) return;
  sum = warpSum(lane < blockDim.x / 32 ? parts[lane] : 0.0f);
  if (lane == 0) out[blockIdx.x] = sum;
}

/** Through a tile, 2-d blocks of 16 x 16: out = x transposed. */
template <class T>
__global__ void transposeKernel(const T* x, T* out, int size) {
  __shared__ T tile[16][17];
  tile[threadIdx.y][threadIdx.x] = x[(blockIdx.y * 16 + threadIdx.y) * size + blockIdx.x * 16 + threadIdx.x];
  __syncthreads();
  out[(blockIdx.x * 16 + threadIdx.y) * size + blockIdx.y * 16 + threadIdx.x] = tile[threadIdx.x][threadIdx.y];
}

/** The neighbor's number through shared memory. */
template <bool hasBarrier>
__global__ void neighborKernel(float* out) {
  COMFACE_DYNAMIC_SHARED(float, slots);
  slots[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (hasBarrier) __syncthreads();
  out[threadIdx.x] = slots[(threadIdx.x + 1) % blockDim.x];
}

/** The same within warps. */
template <bool hasBarrier>
__global__ void neighborLaneKernel(float* out) {
  __shared__ float slots[32];
  slots[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (hasBarrier) __syncwarp();
  out[threadIdx.x] = slots[threadIdx.x ^ 1];
}

/** Threads take different ways before one barrier, and half of them leave before the next. */
__global__ void divergeKernel(int* out) {
  __shared__ int slots[64];
  if (threadIdx.x % 3 == 0) {
    slots[threadIdx.x] = 1;
  } else {
    for (unsigned i = 0; i <= threadIdx.x; ++i) slots[threadIdx.x] = static_cast<int>(i);
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const int mine = slots[threadIdx.x + 32];
  __syncthreads();
  out[threadIdx.x] = mine;
}

__global__ void voteKernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  const unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
  const int any = __any_sync(0xffffffffu, lane == 7), all = __all_sync(0xffffffffu, lane < 31);
  unsigned down = __shfl_down_sync(0xffffffffu, lane, 3), up = __shfl_up_sync(0xffffffffu, lane, 3, 8);
  const double first = __shfl_sync(0xffffffffu, lane + 0.5, 5);
  const unsigned sum = __reduce_add_sync(0xffffffffu, lane);
  unsigned half = 0;
  if (lane < 16) half = __shfl_sync(0xffffu, lane, 15);
  out[lane] = odd == 0xaaaaaaaau && any && !all && down == (lane < 29 ? lane + 3 : lane) &&
              up == (lane % 8 < 3 ? lane : lane - 3) && first == 5.5 && sum == 496 && half == (lane < 16 ? 15u : 0u);
  out[lane] += 2 * static_cast<unsigned>(__syncthreads_count(lane < 5));
}

/** y = x + *step, so that a second run shows. */
__global__ void addKernel(float* x, int n, float step) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] += step;
}

__global__ void copyFreshKernel(uint32_t* out) {
  __shared__ uint32_t fixed[4];
  COMFACE_DYNAMIC_SHARED(uint32_t, dynamic);
  out[0] = fixed[3];
  out[1] = dynamic[1];
  fixed[3] = dynamic[1] = 5;
}

__global__ void deadlockKernel() {
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void twoBarriersKernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void outsideKernel(unsigned* data, int at, unsigned value) { data[at] = value; }
__global__ void outsideSharedKernel(int at) {
  COMFACE_DYNAMIC_SHARED(int, slots);
  slots[at] = 1;
}
__global__ void divideKernel(int* data) { data[0] = data[0] / data[1]; }
__global__ void recurseKernel(volatile char* data, int depth) {
  volatile char large[4096];
  large[0] = data[0];
  if (depth > 0) recurseKernel(large, depth - 1);
  data[0] = large[0];
}
struct Holder {
  float number;
  const float* data;
};
__global__ void holderKernel(Holder holder, float* out) { out[0] = *holder.data; }
__global__ void lastBlockKernel(unsigned* counter, unsigned* out) {
  if (atomicAdd(counter, 1u) == gridDim.x - 1) *out = blockIdx.x + 1;
}

// ---- what the tests share ----

int failures = 0;
void expect(bool isTrue, const std::string& property) {
  std::printf("%s %s\n", isTrue ? "ok  " : "FAIL", property.c_str());
  if (!isTrue) ++failures;
}

/** Other settings for a while. */
class With {
 public:
  explicit With(const std::function<void(emulation::Settings&)>& change) : before_(emulation::settings()) {
    emulation::Settings settings = before_;
    change(settings);
    emulation::configure(settings);
  }
  ~With() { emulation::configure(before_); }

 private:
  emulation::Settings before_;
};
With deferred() {
  return With([](auto& s) { s.defer = true; });
}

/** An event with its handle in the open. */
struct Mark {
  Mark() { check(cudaEventCreate(&handle), "an event"); }
  ~Mark() { cudaEventDestroy(handle); }
  Mark(const Mark&) = delete;
  void record(cudaStream_t stream) { check(cudaEventRecord(handle, stream), "recording"); }
  void holdBack(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, handle, 0), "waiting"); }
  cudaEvent_t handle = nullptr;
};

template <class T>
std::vector<T> download(const DeviceMemory& memory, size_t count) {
  std::vector<T> values(count);
  check(cudaMemcpy(values.data(), memory.data(), count * sizeof(T), cudaMemcpyDeviceToHost), "download");
  return values;
}
template <class T>
T* as(const DeviceMemory& memory) {
  return reinterpret_cast<T*>(memory.data());
}

/** Runs `body`, which must fail with `words` in the message; gets the device back. */
void expectFailure(const std::string& property, const std::vector<std::string>& words,
                   const std::function<void()>& body) {
  std::string message = "(nothing was thrown)";
  try {
    body();
    check(cudaDeviceSynchronize(), "synchronizing");
  } catch (const Error& error) {
    message = error.message;
  }
  emulation::reset();
  bool isTrue = true;
  for (const std::string& word : words) isTrue = isTrue && message.find(word) != std::string::npos;
  expect(isTrue, property + (isTrue ? "" : ": " + message));
}

// ---- kernels run as on a device ----

bool sumsAreRight(const DeviceMemory& x, const DeviceMemory& out, int rows, int n, cudaStream_t stream) {
  launch(sumKernel, rows, 256, 0, stream, as<float>(x), n, as<float>(out));
  check(cudaStreamSynchronize(stream), "sums");
  const std::vector<float> sums = download<float>(out, static_cast<size_t>(rows));
  for (int row = 0; row < rows; ++row) {
    if (sums[row] != static_cast<float>(n * (n - 1) / 2 + row * n)) return false;
  }
  return true;
}

bool runsEverything(cudaStream_t stream) {
  constexpr int kRows = 5, kWidth = 700, kSize = 48;
  DeviceMemory x(kRows * kWidth * 4), out(64 * 64 * 4);
  std::vector<float> numbers(kRows * kWidth);
  for (int i = 0; i < kRows * kWidth; ++i) numbers[i] = static_cast<float>(i % kWidth + i / kWidth);
  check(cudaMemcpy(x.data(), numbers.data(), numbers.size() * 4, cudaMemcpyHostToDevice), "upload");
  check(cudaDeviceSynchronize(), "upload");
  bool isRight = sumsAreRight(x, out, kRows, kWidth, stream);

  launch(transposeKernel<float>, dim3(3, 3), dim3(16, 16), 0, stream, as<float>(x), as<float>(out), kSize);
  check(cudaStreamSynchronize(stream), "transpose");
  const auto transposed = download<float>(out, kSize * kSize);
  for (int i = 0; i < kSize * kSize; ++i) isRight = isRight && transposed[i] == numbers[i % kSize * kSize + i / kSize];

  launch(divergeKernel, 1, 64, 0, stream, as<int>(out));
  check(cudaStreamSynchronize(stream), "diverge");
  const auto diverged = download<int>(out, 32);
  for (int i = 0; i < 32; ++i) isRight = isRight && diverged[i] == ((i + 32) % 3 == 0 ? 1 : i + 32);

  launch(voteKernel, 1, 32, 0, stream, as<unsigned>(out));
  check(cudaStreamSynchronize(stream), "votes");
  for (const unsigned vote : download<unsigned>(out, 32)) isRight = isRight && vote == 11;
  return isRight;
}

void testOrders() {
  const Stream stream;
  for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
    for (const uint64_t seed : {1, 2, 3}) {
      const With settings([&](auto& s) { s.order = order, s.seed = seed; });
      expect(runsEverything(stream), "reductions, tiles, divergence and votes, order " +
                                         std::to_string(static_cast<int>(order)) + ", seed " + std::to_string(seed));
    }
  }
}

template <class Kernel>
std::vector<float> neighbors(Kernel* kernel, Order order, int threads) {
  const With settings([&](auto& s) { s.order = order; });
  const Stream stream;
  DeviceMemory out(1024 * 4);
  launch(kernel, 1, static_cast<unsigned>(threads), static_cast<size_t>(threads) * 4, stream, as<float>(out));
  stream.synchronize();
  return download<float>(out, static_cast<size_t>(threads));
}

void testMissingBarriers() {
  const auto right = neighbors(neighborKernel<true>, Order::forward, 96);
  expect(right == neighbors(neighborKernel<true>, Order::backward, 96) &&
             right == neighbors(neighborKernel<true>, Order::shuffled, 96) && right[0] == 1,
         "with __syncthreads the order does not matter");
  const auto wrong = neighbors(neighborKernel<false>, Order::forward, 96);
  expect(wrong != right && wrong[0] != wrong[0], "a missing __syncthreads shows as numbers that are none");
  expect(neighbors(neighborLaneKernel<true>, Order::forward, 32) ==
             neighbors(neighborLaneKernel<true>, Order::backward, 32),
         "with __syncwarp the order does not matter");
  expect(neighbors(neighborLaneKernel<false>, Order::forward, 32)[0] != 1, "a missing __syncwarp shows");

  DeviceMemory counter(8);
  const auto last = [&](Order order) {
    const With settings([&](auto& s) { s.order = order; });
    check(cudaMemset(counter.data(), 0, 8), "clearing");
    launch(lastBlockKernel, 9, 1, 0, nullptr, as<unsigned>(counter), as<unsigned>(counter) + 1);
    check(cudaDeviceSynchronize(), "blocks");
    return download<unsigned>(counter, 2)[1];
  };
  expect(last(Order::forward) == 9 && last(Order::backward) == 1, "blocks follow the order too");
}

void testGarbage() {
  void* fresh = nullptr;
  check(cudaMalloc(&fresh, 64), "memory");
  float numbers[16];
  check(cudaMemcpy(numbers, fresh, 64, cudaMemcpyDeviceToHost), "download");
  expect(numbers[3] != numbers[3], "fresh device memory holds no numbers");
  check(cudaFree(fresh), "freeing");
  DeviceMemory out(8);
  for (int round = 0; round < 2; ++round) {
    launch(copyFreshKernel, 1, 1, 64, nullptr, as<uint32_t>(out));
    const auto words = download<uint32_t>(out, 2);
    expect(words[0] == 0x7fff7fff && words[1] == 0x7fff7fff, "shared memory holds no numbers before any block");
  }
}

// ---- streams, events, graphs ----

void testDeferral() {
  const With settings = deferred();
  const Stream producer, consumer;
  Mark made;
  PinnedMemory host(4);
  DeviceMemory x(4), y(4);
  const auto pass = [&](bool waits) {
    check(cudaMemsetAsync(x.data(), 0, 4, producer), "clearing");
    launch(addKernel, 1, 1, 0, producer, as<float>(x), 1, 3.0f);
    made.record(producer);
    if (waits) made.holdBack(consumer);
    check(cudaMemcpyAsync(host.data(), x.data(), 4, cudaMemcpyDeviceToHost, consumer), "download");
    consumer.synchronize();
    float result;
    std::memcpy(&result, host.data(), 4);
    producer.synchronize();
    return result;
  };
  check(cudaMemset(x.data(), 0, 4), "clearing");
  check(cudaDeviceSynchronize(), "clearing");
  expect(pass(false) == 0, "deferred, a missing event shows as an old number");
  expect(pass(true) == 3, "deferred, an event makes it right");

  const float before = 1, after = 2;
  std::memcpy(host.data(), &before, 4);
  check(cudaMemcpyAsync(y.data(), host.data(), 4, cudaMemcpyHostToDevice, producer), "upload");
  std::memcpy(host.data(), &after, 4);
  producer.synchronize();
  expect(download<float>(y, 1)[0] == 2, "deferred, overwriting pinned memory under a copy shows");
  float pageable = 1;
  check(cudaMemcpyAsync(y.data(), &pageable, 4, cudaMemcpyHostToDevice, producer), "upload");
  pageable = 2;
  producer.synchronize();
  expect(download<float>(y, 1)[0] == 1, "pageable memory is staged when the call returns");

  check(cudaMemset(y.data(), 0, 4), "clearing");
  launch(addKernel, 1, 1, 0, producer, as<float>(y), 1, 5.0f);
  producer.synchronize();
  check(cudaDeviceSynchronize(), "everything");
  expect(download<float>(y, 1)[0] == 0, "deferred, the default stream is not waited for by our streams");
  made.record(producer);
  expect(cudaEventQuery(made.handle) == cudaErrorNotReady && cudaEventQuery(made.handle) == cudaSuccess,
         "asking an event makes progress");
}

void testCapture(bool defers) {
  const With settings([&](auto& s) { s.defer = defers; });
  const std::string suffix = defers ? ", deferred" : ", at once";
  const Stream stream, side;
  Event forked, joined;
  DeviceMemory x(8);
  CapturedGraph graph;
  graph.capture(stream, [&] {
    launch(addKernel, 1, 1, 0, stream, as<float>(x), 1, 2.0f);
    forked.record(stream);
    forked.holdBack(side);
    launch(addKernel, 1, 1, 0, side, as<float>(x) + 1, 1, 1.0f);
    joined.record(side);
    joined.holdBack(stream);
    check(cudaMemcpyAsync(x.data(), x.data() + 4, 4, cudaMemcpyDeviceToDevice, stream), "copy");
  });
  check(cudaDeviceSynchronize(), "capturing");
  expect(download<float>(x, 1)[0] == 0, "what is captured does not run" + suffix);
  for (int i = 0; i < 3; ++i) graph.launch(stream);
  if (defers) expect(download<float>(x, 1)[0] == 0, "a launched graph waits in its stream" + suffix);
  stream.synchronize();
  expect(download<float>(x, 2) == std::vector<float>({3, 3}),
         "a graph replays with its arguments, branches too" + suffix);
}

cudaError_t duringCapture(const std::function<cudaError_t(cudaStream_t)>& body, cudaError_t* atEnd) {
  const Stream stream;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
  const cudaError_t status = body(stream);
  cudaGraph_t graph = nullptr;
  *atEnd = cudaStreamEndCapture(stream, &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
  return status;
}

void testCaptureMistakes() {
  cudaError_t end;
  DeviceMemory x(64);
  char* data = x.data();
  void* fresh;
  expect(duringCapture([](cudaStream_t s) { return cudaStreamSynchronize(s); }, &end) ==
                 cudaErrorStreamCaptureUnsupported &&
             end == cudaErrorStreamCaptureInvalidated,
         "synchronizing breaks a capture");
  expect(
      duringCapture([&](cudaStream_t) { return cudaMalloc(&fresh, 4); }, &end) == cudaErrorStreamCaptureUnsupported &&
          end == cudaErrorStreamCaptureInvalidated,
      "allocating breaks a capture");
  expect(
      duringCapture([&](cudaStream_t) { return cudaDeviceSynchronize(); }, &end) == cudaErrorStreamCaptureUnsupported,
      "synchronizing the device breaks a capture");
  char pageable[4];
  expect(duringCapture([&](cudaStream_t s) { return cudaMemcpyAsync(pageable, data, 4, cudaMemcpyDeviceToHost, s); },
                       &end) == cudaErrorStreamCaptureUnsupported,
         "memory that is not pinned cannot be captured");
  const Stream other;
  Mark event;
  event.record(other);
  expect(duringCapture([&](cudaStream_t s) { return cudaStreamWaitEvent(s, event.handle, 0); }, &end) ==
             cudaErrorStreamCaptureIsolation,
         "waiting for work outside breaks a capture");
  const auto forkOnly = [&](cudaStream_t s) {
    cudaEventRecord(event.handle, s);
    cudaStreamWaitEvent(other, event.handle, 0);
    return cudaMemsetAsync(data, 0, 4, other);
  };
  expect(duringCapture(forkOnly, &end) == cudaSuccess && end == cudaErrorStreamCaptureUnjoined,
         "a branch that does not come back breaks a capture");
  cudaGraph_t graph;
  expect(cudaStreamEndCapture(other, &graph) == cudaErrorIllegalState, "ending what did not begin is refused");
  cudaGetLastError();
}

// ---- mistakes ----

void testKernelMistakes() {
  DeviceMemory x(1024);
  int* const data = as<int>(x);
  expectFailure("a deadlock is told", {"deadlockKernel", "deadlock", "selftest.cc:", "waits for its warp"},
                [] { launch(deadlockKernel, 1, 64, 0, nullptr); });
  expectFailure("two different barriers are told", {"twoBarriersKernel", "different barriers"},
                [] { launch(twoBarriersKernel, 1, 64, 0, nullptr); });
  expectFailure("far outside an allocation is told", {"outsideKernel", "4096 bytes into a device allocation of 1024"},
                [&] { launch(outsideKernel, 1, 1, 0, nullptr, as<unsigned>(x), 1024, 1u); });
  expectFailure("just outside an allocation is told", {"outsideKernel", "1024 bytes into"},
                [&] { launch(outsideKernel, 1, 1, 0, nullptr, as<unsigned>(x), 256, 1u); });
  DeviceMemory odd(1000);
  expectFailure("over an allocation's edge is told", {"over the edge of a device allocation of 1000"},
                [&] { launch(outsideKernel, 1, 1, 0, nullptr, as<unsigned>(odd), 251, 1u); });
  launch(outsideKernel, 1, 1, 0, nullptr, as<unsigned>(odd), 251, 0xa5a5a5a5u);  // as it was
  expectFailure("outside shared memory is told", {"outsideSharedKernel", "dynamic shared memory"},
                [] { launch(outsideSharedKernel, 1, 1, 64, nullptr, 16); });
  expectFailure("before shared memory is told", {"outsideSharedKernel", "outside its 64 bytes"},
                [] { launch(outsideSharedKernel, 1, 1, 64, nullptr, -1); });
  expectFailure("a division by zero is told", {"divideKernel", "zero"},
                [&] { launch(divideKernel, 1, 1, 0, nullptr, data); });
  expectFailure("an endless recursion is told", {"recurseKernel", "stack"},
                [&] { launch(recurseKernel, 1, 1, 0, nullptr, x.data(), 1000); });
  expectFailure("too many threads are refused", {"cudaErrorInvalidConfiguration", "countKernel"},
                [&] { launch(countKernel, 1, 2048, 0, nullptr, data, 1); });
  expectFailure("an empty grid is refused", {"cudaErrorInvalidConfiguration"},
                [&] { launch(countKernel, 0, 32, 0, nullptr, data, 1); });
  expectFailure("much shared memory wants leave", {"cudaErrorInvalidValue", "65536"},
                [] { launch(outsideSharedKernel, 1, 1, 65536, nullptr, 1); });
  allowShared(outsideSharedKernel, 65536);
  launch(outsideSharedKernel, 1, 1, 65536, nullptr, 16383);
  expect(cudaDeviceSynchronize() == cudaSuccess, "with leave there is much shared memory");
  expectFailure("too much shared memory is refused", {"cudaErrorInvalidValue"},
                [] { allowShared(outsideSharedKernel, 228 << 10); });
  const With settings([](auto& s) { s.capability = 80; });
  expectFailure("an A100 has less of it", {"cudaErrorInvalidValue"},
                [] { allowShared(outsideSharedKernel, 200 << 10); });
}

void testPointers() {
  DeviceMemory x(64);
  float onStack[4] = {};
  expectFailure("a kernel gets no host memory", {"addKernel", "not an address that CUDA gave out"},
                [&] { launch(addKernel, 1, 1, 0, nullptr, onStack, 1, 1.0f); });
  expectFailure("nor, guarded, in a struct", {"holderKernel", "byte 8", "host"}, [&] {
    const With settings([](auto& s) { s.guard = true; });
    launch(holderKernel, 1, 1, 0, nullptr, Holder{1, onStack}, as<float>(x));
    check(cudaDeviceSynchronize(), "synchronizing");
  });
  float* gone = nullptr;
  check(cudaMalloc(reinterpret_cast<void**>(&gone), 64), "memory");
  cudaFree(gone);
  expectFailure("nor freed memory", {"addKernel", "has been freed"},
                [&] { launch(addKernel, 1, 1, 0, nullptr, gone, 1, 1.0f); });
  expectFailure("a copy takes no freed memory", {"cudaErrorInvalidValue", "freed"},
                [&] { check(cudaMemcpy(x.data(), gone, 4, cudaMemcpyDeviceToDevice), "copy"); });
  expectFailure("a copy's direction must fit", {"cudaErrorInvalidValue", "source", "direction"},
                [&] { check(cudaMemcpy(x.data(), onStack, 4, cudaMemcpyDeviceToDevice), "copy"); });
  expectFailure("a copy's other end too", {"target", "direction"},
                [&] { check(cudaMemcpy(x.data(), onStack, 4, cudaMemcpyDeviceToHost), "copy"); });
  expectFailure("a copy stays within", {"100 bytes", "allocation of 64"},
                [&] { check(cudaMemsetAsync(x.data(), 0, 100, nullptr), "set"); });
  expectFailure("freeing twice is told", {"cudaErrorInvalidValue", "cudaFree", "freed"}, [&] { cudaFree(gone); });
  expectFailure("freeing what was not allocated is told", {"cudaFree"}, [&] { cudaFree(onStack); });
  const With settings = deferred();
  check(cudaMalloc(reinterpret_cast<void**>(&gone), 64), "memory");
  launch(addKernel, 1, 1, 0, nullptr, gone, 1, 1.0f);
  expect(cudaFree(gone) == cudaSuccess, "freeing waits for what is under way");
}

void testGuard() {
  constexpr int kTouched = 77;
  std::fflush(stdout);
  DeviceMemory x(64);
  const pid_t child = fork();
  if (child == 0) {
    emulation::Settings settings = emulation::settings();
    settings.guard = true;
    emulation::configure(settings);
    launch(addKernel, 1, 1, 0, nullptr, as<float>(x), 1, 1.0f);
    const bool isRight = download<float>(x, 1)[0] == 1;
    if (isRight) static_cast<void>(as<volatile float>(x)[0]);  // does not come back
    _exit(kTouched);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const bool isOver = WIFSIGNALED(status) || WEXITSTATUS(status) != kTouched;  // AddressSanitizer exits
  expect(child > 0 && isOver, "guarded, the host touches no device memory");
}

void testDevice() {
  const With settings([](auto& s) { s.capability = 80, s.memoryBytes = 1 << 20; });
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "properties");
  expect(properties.major == 8 && properties.minor == 0 && properties.totalGlobalMem == 1 << 20, "another device");
  void* data = nullptr;
  expect(cudaMalloc(&data, 2 << 20) == cudaErrorMemoryAllocation && !data, "memory ends");
  cudaGetLastError();
  expect(cudaMalloc(&data, 1 << 10) == cudaSuccess && cudaFree(data) == cudaSuccess, "which is not the end");
  expect(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(0x1234)) == cudaErrorInvalidResourceHandle,
         "a handle that is none is refused");
  cudaGetLastError();
  const With none([](auto& s) { s.devices = 0; });
  int count = -1;
  expect(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0, "no device at all");
  cudaGetLastError();
}

void testSpeed() {
  DeviceMemory out(4000000);
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    launch(countKernel, 4000, 250, 0, nullptr, as<int>(out), 1000000);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("     a million threads: %.1f ms\n", seconds * 1e3);
  }
  DeviceMemory x(1000 * 1024 * 4), sums(4000);
  const auto start = std::chrono::steady_clock::now();
  launch(sumKernel, 1000, 256, 0, nullptr, as<float>(x), 1024, as<float>(sums));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("     a thousand reductions by 256 threads: %.1f ms\n", seconds * 1e3);
}

}  // namespace
}  // namespace comface::cuda

int main() {
  using namespace comface::cuda;
  const auto before = emulation::living();
  testOrders();
  testMissingBarriers();
  testGarbage();
  testDeferral();
  testCapture(false);
  testCapture(true);
  testCaptureMistakes();
  testKernelMistakes();
  testPointers();
  testGuard();
  testDevice();
  testSpeed();
  const auto after = emulation::living();
  expect(after.allocations == before.allocations && after.streams == before.streams && after.events == before.events &&
             after.graphs == before.graphs && after.bytes == before.bytes,
         "nothing is left behind");
  std::printf("%d failures\n", failures);
  return failures > 0;
}
