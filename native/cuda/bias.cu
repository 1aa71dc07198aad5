// The bias of a convolution that no normalization follows, and the gradient of any bias of an image, M x C. Memory is
// the roof: adding moves 2 numbers for each of x, the gradient 1.
#include "cuda/rows.h"

namespace comface::cuda {
namespace {

template <class E>
__global__ void addBiasKernel(E* x, const float* bias, size_t m, int c, Tiling tiling) {
  const Place place = placeOf(tiling, blockIdx.x, c);
  const Eight shift = place.isActive ? loadFloats(bias + place.channel) : splat(0);
  forRows<1>(tiling, place, m, [&](auto, size_t row) {
    E* at = x + row * c + place.channel;
    Eight values = toFloats(load(at));
    for (int k = 0; k < kChannelStep; ++k) values[k] += shift[k];
    store(at, Rounding<E>::of(values));
  });
}

template <class E>
__global__ void __launch_bounds__(kThreads)
    biasGradientKernel(const E* x, size_t m, int c, Tiling tiling, float* partials) {
  COMFACE_DYNAMIC_SHARED(float, shared);
  const Place place = placeOf(tiling, blockIdx.x, c);
  Eight total = splat(0);
  forRows<4>(tiling, place, m, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Raw<E> raw[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) raw[u] = load(x + (row + u * tiling.rows) * c + place.channel);
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const Eight values = toFloats(raw[u]);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) total[k] += values[k];
    }
  });
  leavePart(tiling, c, total, 0, shared, partials);
}

__global__ void __launch_bounds__(kThreads) finishBiasKernel(const float* partials, int rowBlocks, int c, float* sums) {
  COMFACE_DYNAMIC_SHARED(double, shared);
  const double sum = sumOfParts(partials, rowBlocks, c, 0, shared);
  if (threadIdx.x < kChannelStep) sums[blockIdx.x * kChannelStep + threadIdx.x] = static_cast<float>(sum);
}

}  // namespace

void addBias(Number number, void* x, const float* bias, size_t m, int c, cudaStream_t stream) {
  const Tiling tiling = tilingOf(m, c);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(addBiasKernel<E>, dim3(tiling.slices, tiling.rowBlocks), dim3(kThreads), 0, stream, static_cast<E*>(x), bias,
           m, c, tiling);
  });
}

size_t biasScratch(size_t m, int c) { return static_cast<size_t>(tilingOf(m, c).rowBlocks) * c; }

void biasGradient(Number number, const void* x, size_t m, int c, float* sums, float* scratch, cudaStream_t stream) {
  const Tiling tiling = tilingOf(m, c);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(biasGradientKernel<E>, dim3(tiling.slices, tiling.rowBlocks), dim3(kThreads), kSumBytes, stream,
           static_cast<const E*>(x), m, c, tiling, scratch);
  });
  launch(finishBiasKernel, dim3(c / kChannelStep), dim3(kThreads), kPartBytes, stream, scratch, tiling.rowBlocks, c,
         sums);
}

}  // namespace comface::cuda
