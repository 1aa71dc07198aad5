// The end of StyleGAN's layers (Karras et al., 2019, section 2): noise, bias, leaky ReLU and AdaIN, whose statistics
// are of one sample's channel. Blocks leave sums of their pixels, which are added up in their order: no atomics. The
// roof is memory: x is read twice and y written once.
#include "cuda/generator.h"
#include "cuda/rows.h"

namespace comface::cuda {
namespace {

/** A sample's statistics: of C each, its mean and what its numbers are multiplied by. */
struct Statistics {
  float *means, *scales;
};
__device__ __host__ inline Statistics statisticsOf(float* scratch, int n, int c) {
  return {scratch, scratch + static_cast<size_t>(n) * c};
}

/** What does not change along a thread's pixels. */
struct Channels {
  Eight noiseWeight, bias;
  __device__ Channels(const StyleEpilogue& a, const Place& place)
      : noiseWeight(place.isActive ? loadFloats(a.noiseWeight + place.channel) : splat(0)),
        bias(place.isActive ? loadFloats(a.bias + place.channel) : splat(0)) {}
  __device__ Eight activated(const Raw<float>& x, float noise, float slope) const {
    Eight u = toFloats(x);
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) {
      u[k] += noise * noiseWeight[k] + bias[k];
      u[k] = u[k] > 0 ? u[k] : slope * u[k];
    }
    return u;
  }
};

/** Sums of u and of its squares about the sample's first pixel, so that a large mean costs no digits. Grid: slices of
 * channels x row blocks x N. partials: N x 2 x row blocks x C. */
__global__ void __launch_bounds__(kThreads) sumsKernel(StyleEpilogue a, int c, Tiling tiling, float* partials) {
  COMFACE_DYNAMIC_SHARED(float, shared);
  const Place place = placeOf(tiling, blockIdx.x, c);
  const Channels channels(a, place);
  const float* const x = a.x + blockIdx.z * a.area * c + place.channel;
  const Eight first = place.isActive ? channels.activated(load(x), a.noise[0], a.slope) : splat(0);
  Eight sum = splat(0), squares = splat(0);
  forRows<4>(tiling, place, a.area, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Raw<float> raw[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) raw[u] = load(x + (row + u * tiling.rows) * c);
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const Eight values = channels.activated(raw[u], a.noise[row + u * tiling.rows], a.slope);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) {
        const float away = values[k] - first[k];
        sum[k] += away, squares[k] += away * away;
      }
    }
  });
  float* const own = partials + static_cast<size_t>(blockIdx.z) * 2 * gridDim.y * c;
  leavePart(tiling, c, sum, 0, shared, own);
  leavePart(tiling, c, squares, 1, shared, own);
}

/** Grid: C / 8 x N. */
__global__ void __launch_bounds__(kThreads)
    finishKernel(StyleEpilogue a, int c, int rowBlocks, const float* partials, Statistics statistics) {
  COMFACE_DYNAMIC_SHARED(double, shared);
  const size_t n = blockIdx.y;
  const float* const own = partials + n * 2 * rowBlocks * c;
  const double sum = sumOfParts(own, rowBlocks, c, 0, shared), squares = sumOfParts(own, rowBlocks, c, 1, shared);
  if (threadIdx.x >= kChannelStep) return;
  const int channel = blockIdx.x * kChannelStep + threadIdx.x;
  float mean = 0, scale = 0;
  if (channel < a.channels) {
    const float moved = a.x[n * a.area * c + channel] + (a.noise[0] * a.noiseWeight[channel] + a.bias[channel]);
    const double away = sum / a.area, variance = squares / a.area - away * away;
    mean = static_cast<float>((moved > 0 ? moved : a.slope * moved) + away);
    // Squares may round to a little less than none; what is no number stays so.
    const double spread = variance < 0 ? 0 : variance;
    scale = static_cast<float>((a.style[n * 2 * a.channels + channel] + 1.0) / sqrt(spread + a.eps));
  }
  statistics.means[n * c + channel] = mean;
  statistics.scales[n * c + channel] = scale;
}

/** Grid: as sumsKernel's. */
__global__ void __launch_bounds__(kThreads) applyKernel(StyleEpilogue a, int c, Tiling tiling, Statistics statistics) {
  const Place place = placeOf(tiling, blockIdx.x, c);
  if (!place.isActive) return;
  const Channels channels(a, place);
  const size_t n = blockIdx.z, first = n * a.area * c + place.channel;
  const Eight means = loadFloats(statistics.means + n * c + place.channel);
  const Eight scales = loadFloats(statistics.scales + n * c + place.channel);
  Eight shifts = splat(0);
  for (int k = 0; k < min(kChannelStep, a.channels - place.channel); ++k)
    shifts[k] = a.style[(n * 2 + 1) * a.channels + place.channel + k];
  forRows<2>(tiling, place, a.area, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Raw<float> raw[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) raw[u] = load(a.x + first + (row + u * tiling.rows) * c);
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      Eight values = channels.activated(raw[u], a.noise[row + u * tiling.rows], a.slope);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) values[k] = (values[k] - means[k]) * scales[k] + shifts[k];
      store(a.y + first + (row + u * tiling.rows) * c, Rounding<float>::of(values));
    }
  });
}

}  // namespace

size_t styleEpilogueScratch(const StyleEpilogue& args) {
  const int c = paddedChannels(args.channels);
  return static_cast<size_t>(args.n) * c * 2 * (1 + tilingOf(args.area, c).rowBlocks);
}

void styleEpilogue(const StyleEpilogue& args, float* scratch, cudaStream_t stream) {
  const int c = paddedChannels(args.channels);
  const Tiling tiling = tilingOf(args.area, c);
  const dim3 grid(tiling.slices, tiling.rowBlocks, args.n);
  const Statistics statistics = statisticsOf(scratch, args.n, c);
  float* const partials = scratch + size_t{2} * args.n * c;
  launch(sumsKernel, grid, dim3(kThreads), kSumBytes, stream, args, c, tiling, partials);
  launch(finishKernel, dim3(c / kChannelStep, args.n), dim3(kThreads), kPartBytes, stream, args, c, tiling.rowBlocks,
         partials, statistics);
  launch(applyKernel, grid, dim3(kThreads), 0, stream, args, c, tiling, statistics);
}

}  // namespace comface::cuda
