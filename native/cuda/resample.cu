// What only moves pixels in StyleGAN's generator (Karras et al., 2019, appendix C): the constant that it begins with,
// nearest-neighbor upsampling and the blur behind it. The roof is memory: a constant writes 1 number for each,
// upsampling reads a fourth of one beside, a blur reads 1, the other eight from the cache.
#include "cuda/generator.h"
#include "cuda/number.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256;

/** A pixel of an image of `n` and eight of its channels, by a thread's number. */
struct Place {
  size_t n;
  int row, column, channel;
  bool isThere;
  __device__ Place(int count, int h, int w, int c) {
    size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
    const unsigned columns = c / kChannelStep;
    channel = static_cast<int>(i % columns) * kChannelStep, i /= columns;
    column = static_cast<int>(i % w), i /= w;
    row = static_cast<int>(i % h), n = i / h;
    isThere = n < static_cast<size_t>(count);
  }
};
/** A thread for each eight of `count` numbers. */
dim3 gridOf(size_t count) {
  constexpr size_t kOfBlock = size_t{kThreads} * kChannelStep;
  return dim3(static_cast<unsigned>((count + kOfBlock - 1) / kOfBlock));
}

__global__ void __launch_bounds__(kThreads) constantKernel(const float* weight, size_t count, int n, float* y) {
  const size_t i = (static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x) * kChannelStep;
  if (i >= count) return;
  const Raw<float> values = load(weight + i);
  for (int sample = 0; sample < n; ++sample) store(y + sample * count + i, values);
}

/** h, w: of y. */
__global__ void __launch_bounds__(kThreads)
    upsampleKernel(const float* x, int n, int h, int w, int c, int up, float* y) {
  const Place at(n, h, w, c);
  if (!at.isThere) return;
  const size_t from = (at.n * (h / up) + at.row / up) * (w / up) + at.column / up;
  store(y + ((at.n * h + at.row) * w + at.column) * c + at.channel, load(x + from * c + at.channel));
}

__global__ void __launch_bounds__(kThreads) blurKernel(const float* x, int n, int h, int w, int c, float* y) {
  const Place at(n, h, w, c);
  if (!at.isThere) return;
  Eight sum = splat(0);
#pragma unroll
  for (int i = -1; i <= 1; ++i) {
#pragma unroll
    for (int j = -1; j <= 1; ++j) {
      const int row = at.row + i, column = at.column + j;
      if (row < 0 || row >= h || column < 0 || column >= w) continue;
      const float tap = (i == 0 ? 0.5f : 0.25f) * (j == 0 ? 0.5f : 0.25f);
      const Eight values = loadFloats(x + ((at.n * h + row) * w + column) * c + at.channel);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) sum[k] += tap * values[k];
    }
  }
  store(y + ((at.n * h + at.row) * w + at.column) * c + at.channel, Rounding<float>::of(sum));
}

}  // namespace

void constant(const float* weight, size_t count, int n, float* y, cudaStream_t stream) {
  launch(constantKernel, gridOf(count), dim3(kThreads), 0, stream, weight, count, n, y);
}

void upsample(const float* x, int n, int h, int w, int c, int up, float* y, cudaStream_t stream) {
  const size_t count = static_cast<size_t>(n) * h * up * w * up * c;
  launch(upsampleKernel, gridOf(count), dim3(kThreads), 0, stream, x, n, h * up, w * up, c, up, y);
}

void blur(const float* x, int n, int h, int w, int c, float* y, cudaStream_t stream) {
  launch(blurKernel, gridOf(static_cast<size_t>(n) * h * w * c), dim3(kThreads), 0, stream, x, n, h, w, c, y);
}

}  // namespace comface::cuda
