// Layer normalization (Ba, Kiros and Hinton, 2016, equation 4), M x C. The roof is memory. Numbers moved for each of x:
// forward 2, backward 5, of which 2 are for the parameters' gradients. A warp has a row: it comes from memory once and
// from the cache after that. Channels that are padding count in no sum and stay 0.
#include "cuda/rows.h"

namespace comface::cuda {
namespace {

constexpr int kWarps = kThreads / 32;

/** A warp's row. */
__device__ inline size_t rowOf() { return static_cast<size_t>(blockIdx.x) * kWarps + threadIdx.x / 32; }
dim3 gridOf(size_t rows) { return dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)); }

/** Calls body(first of eight channels, how many of them are no padding) for those of this lane. */
template <class F>
__device__ inline void forChannels(int channels, const F& body) {
  for (int d = threadIdx.x % 32 * kChannelStep; d < channels; d += 32 * kChannelStep)
    body(d, min(kChannelStep, channels - d));
}

template <class E>
__global__ void __launch_bounds__(kThreads) layerNormKernel(LayerNorm a, int c) {
  const size_t row = rowOf();
  if (row >= a.m) return;
  const E* const x = static_cast<const E*>(a.x) + row * c;
  E* const y = static_cast<E*>(a.y) + row * c;
  const float count = static_cast<float>(a.channels);
  float sum = 0, squares = 0;
  forChannels(a.channels, [&](int d, int) {
    const Eight values = toFloats(load(x + d));
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) sum += values[k];
  });
  const float mean = warpSum(sum) / count;
  forChannels(a.channels, [&](int d, int present) {
    const Eight values = toFloats(load(x + d));
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) {
      if (k < present) squares = fmaf(values[k] - mean, values[k] - mean, squares);
    }
  });
  const float inverse = 1 / sqrtf(warpSum(squares) / count + a.eps);
  forChannels(a.channels, [&](int d, int) {
    Eight values = toFloats(load(x + d));
    const Eight gamma = loadFloats(a.gamma + d), beta = loadFloats(a.beta + d);
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) values[k] = fmaf(gamma[k], (values[k] - mean) * inverse, beta[k]);
    store(y + d, Rounding<E>::of(values));
  });
  if (a.means && threadIdx.x % 32 == 0) a.means[row] = mean, a.inverses[row] = inverse;
}

/** With h = (x - mean) inverse, g = gamma dy and means over the row: dx = inverse (g - mean(g) - h mean(g h)). */
template <class E>
__global__ void __launch_bounds__(kThreads) gradientKernel(LayerNorm a, E* gradient, int c) {
  const size_t row = rowOf();
  if (row >= a.m) return;
  const E* const x = static_cast<const E*>(a.x) + row * c;
  E* const dy = gradient + row * c;
  const float mean = a.means[row], inverse = a.inverses[row], count = static_cast<float>(a.channels);
  float sum = 0, product = 0;
  forChannels(a.channels, [&](int d, int) {
    const Eight values = toFloats(load(x + d)), slopes = toFloats(load(dy + d)), gamma = loadFloats(a.gamma + d);
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) {
      const float slope = gamma[k] * slopes[k];
      sum += slope, product = fmaf(slope, (values[k] - mean) * inverse, product);
    }
  });
  const float meanSlope = warpSum(sum) / count, meanProduct = warpSum(product) / count;
  forChannels(a.channels, [&](int d, int present) {
    const Eight values = toFloats(load(x + d)), slopes = toFloats(load(dy + d)), gamma = loadFloats(a.gamma + d);
    Eight dx;
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) {
      const float normalized = (values[k] - mean) * inverse;
      dx[k] = k < present ? inverse * (gamma[k] * slopes[k] - meanSlope - normalized * meanProduct) : 0;
    }
    store(dy + d, Rounding<E>::of(dx));
  });
}

/** Sums of dy and of dy h by channel, in parts. */
template <class E>
__global__ void __launch_bounds__(kThreads)
    parametersKernel(LayerNorm a, const E* gradient, int c, Tiling tiling, float* partials) {
  COMFACE_DYNAMIC_SHARED(float, shared);
  const Place place = placeOf(tiling, blockIdx.x, c);
  Eight sum{}, product{};
  forRows<2>(tiling, place, a.m, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Raw<E> x[kRows], dy[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const size_t at = (row + u * tiling.rows) * c + place.channel;
      x[u] = load(static_cast<const E*>(a.x) + at), dy[u] = load(gradient + at);
    }
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const float mean = a.means[row + u * tiling.rows], inverse = a.inverses[row + u * tiling.rows];
      const Eight values = toFloats(x[u]), slopes = toFloats(dy[u]);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) {
        sum[k] += slopes[k];
        product[k] = fmaf(slopes[k], (values[k] - mean) * inverse, product[k]);
      }
    }
  });
  leavePart(tiling, c, sum, 0, shared, partials);
  leavePart(tiling, c, product, 1, shared, partials);
}

__global__ void __launch_bounds__(kThreads)
    finishParametersKernel(LayerNorm a, int c, const float* partials, int rowBlocks) {
  COMFACE_DYNAMIC_SHARED(double, shared);
  const double sum = sumOfParts(partials, rowBlocks, c, 0, shared);
  const double product = sumOfParts(partials, rowBlocks, c, 1, shared);
  if (threadIdx.x >= kChannelStep) return;
  const int channel = blockIdx.x * kChannelStep + threadIdx.x;
  a.dBeta[channel] = static_cast<float>(sum), a.dGamma[channel] = static_cast<float>(product);
}

}  // namespace

size_t layerNormScratch(size_t m, int channels) {
  const int c = paddedChannels(channels);
  return size_t{2} * tilingOf(m, c).rowBlocks * c;
}

void layerNorm(Number number, const LayerNorm& norm, cudaStream_t stream) {
  withNumber(number, [&](auto zero) {
    launch(layerNormKernel<decltype(zero)>, gridOf(norm.m), dim3(kThreads), 0, stream, norm,
           paddedChannels(norm.channels));
  });
}

void layerNormBackward(Number number, const LayerNorm& norm, void* gradient, float* scratch, cudaStream_t stream) {
  const int c = paddedChannels(norm.channels);
  const Tiling tiling = tilingOf(norm.m, c);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    // The parameters' first: dx takes the place of dy.
    launch(parametersKernel<E>, dim3(tiling.slices, tiling.rowBlocks), dim3(kThreads), kSumBytes, stream, norm,
           static_cast<const E*>(gradient), c, tiling, scratch);
    launch(finishParametersKernel, dim3(c / kChannelStep), dim3(kThreads), kPartBytes, stream, norm, c, scratch,
           tiling.rowBlocks);
    launch(gradientKernel<E>, gridOf(norm.m), dim3(kThreads), 0, stream, norm, static_cast<E*>(gradient), c);
  });
}

}  // namespace comface::cuda
