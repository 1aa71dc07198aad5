// StyleGAN3's input (Karras et al., 2021, section 3.2): sines of frequencies that each sample turns and shifts. A
// thread keeps eight of them and goes over pixels. The roof is memory, which is written once; a sine costs some twenty
// FLOP.
#include "cuda/generator.h"
#include "cuda/rows.h"

namespace comface::cuda {
namespace {

/** The upper two rows of a transform of the plane: (x, y) -> (a x + b y + c, d x + e y + f). */
struct Transform {
  float a, b, c, d, e, f;
  /** R(t) T(t) user, with t = (cosine, sine, x, y) divided by the length of its first two. */
  __device__ Transform(const float* t, const float* user) {
    const float length = sqrtf(t[0] * t[0] + t[1] * t[1]);
    const float cosine = t[0] / length, sine = t[1] / length, x = t[2] / length, y = t[3] / length;
    float turned[2][3];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      const float upper = user[k] - x * user[6 + k], lower = user[3 + k] - y * user[6 + k];
      turned[0][k] = cosine * upper - sine * lower, turned[1][k] = sine * upper + cosine * lower;
    }
    a = turned[0][0], b = turned[0][1], c = turned[0][2], d = turned[1][0], e = turned[1][1], f = turned[1][2];
  }
};

/** Grid: slices of channels x row blocks x N. */
__global__ void __launch_bounds__(kThreads) fourierKernel(FourierFeatures a, int c, Tiling tiling) {
  const Place place = placeOf(tiling, blockIdx.x, c);
  if (!place.isActive) return;
  const Transform m(a.t + size_t{blockIdx.z} * 4, a.transform);
  Eight fx = splat(0), fy = splat(0), phase = splat(0), amplitude = splat(0);
  for (int k = 0; k < min(kChannelStep, a.channels - place.channel); ++k) {
    const int channel = place.channel + k;
    const float u = a.freqs[2 * channel], v = a.freqs[2 * channel + 1];
    fx[k] = u * m.a + v * m.d, fy[k] = u * m.b + v * m.e;
    phase[k] = a.phases[channel] + u * m.c + v * m.f;
    const float fading = 1 - (sqrtf(fx[k] * fx[k] + fy[k] * fy[k]) - a.bandwidth) / (a.rate / 2 - a.bandwidth);
    amplitude[k] = fading < 0 ? 0 : fading > 1 ? 1 : fading;
  }
  const size_t area = static_cast<size_t>(a.height) * a.width;
  float* const y = a.y + blockIdx.z * area * c + place.channel;
  forRows<1>(tiling, place, area, [&](auto, size_t pixel) {
    const int row = static_cast<int>(pixel / a.width), column = static_cast<int>(pixel % a.width);
    const float px = (column + 0.5f - a.width / 2.0f) / a.rate, py = (row + 0.5f - a.height / 2.0f) / a.rate;
    Eight values;
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) {
      const float turns = fx[k] * px + fy[k] * py + phase[k];
      values[k] = amplitude[k] * sinf(6.28318531f * (turns - rintf(turns)));  // of a small angle, which costs no digits
    }
    store(y + pixel * c, Rounding<float>::of(values));
  });
}

}  // namespace

void fourierFeatures(const FourierFeatures& args, cudaStream_t stream) {
  const int c = paddedChannels(args.channels);
  const Tiling tiling = tilingOf(static_cast<size_t>(args.height) * args.width, c);
  launch(fourierKernel, dim3(tiling.slices, tiling.rowBlocks, args.n), dim3(kThreads), 0, stream, args, c, tiling);
}

}  // namespace comface::cuda
