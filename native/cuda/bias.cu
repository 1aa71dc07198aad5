// A convolution's bias where no normalization follows, M x C. No network of ours has one: plain, not fast. Memory is
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

/** One block for each slice of channels, so that the sums end in one place. */
template <class E>
__global__ void biasGradientKernel(const E* x, size_t m, int c, float* sums, Tiling tiling) {
  __shared__ __align__(16) char shared[kSumBytes];
  const Place place = placeOf(tiling, blockIdx.x, c);
  Eight total = splat(0);
  forRows<1>(tiling, place, m, [&](auto, size_t row) {
    const Eight values = toFloats(load(x + row * c + place.channel));
    for (int k = 0; k < kChannelStep; ++k) total[k] += values[k];
  });
  const float sum = sumOverRows(tiling, total, reinterpret_cast<float*>(shared));
  const int thread = threadIdx.x, channel = blockIdx.x * tiling.columns * kChannelStep + thread;
  if (thread < tiling.columns * kChannelStep && channel < c) sums[channel] = sum;
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

void biasGradient(Number number, const void* x, size_t m, int c, float* sums, cudaStream_t stream) {
  const Tiling tiling = tilingOf(m, c);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(biasGradientKernel<E>, dim3(tiling.slices), dim3(kThreads), 0, stream, static_cast<const E*>(x), m, c, sums,
           tiling);
  });
}

}  // namespace comface::cuda
