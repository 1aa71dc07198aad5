// ReLU, leaky or not (Maas et al., 2013), GELU (Hendrycks and Gimpel, 2016) and the sum that closes a residual block
// (He et al., 2016, eq. 1), for images and vectors of any count. The roof is memory: relu and gelu 2 numbers moved for
// each, their gradients and a sum 3.
#include "cuda/number.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256;

struct MaxWithZero {
  static __device__ float of(float x, float) { return rectified(x); }
};
struct WherePositive {
  static __device__ float of(float y, float dy) { return y > 0 ? dy : 0; }
};
/** With a slope; apart, for 0 times what is infinite is no number. */
struct Leaky {
  float slope;
  __device__ float of(float x, float) const { return x > 0 ? x : slope * x; }
};
struct LeakySlope {
  float slope;
  __device__ float of(float y, float dy) const { return y > 0 ? dy : slope * dy; }
};
struct Sum {
  static __device__ float of(float a, float b) { return a + b; }
};

constexpr float kQuick = 1.702f;

/** P(X <= x) of the standard normal distribution. */
__device__ inline float normalShare(float x) { return erfcf(x * -0.70710678f) / 2; }
__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

struct Gelu {
  static __device__ float of(float x, float) { return x * normalShare(x); }
};
struct QuickGelu {
  static __device__ float of(float x, float) { return x * sigmoid(kQuick * x); }
};
/** (x P)' = P + x density(x). */
struct GeluSlope {
  static __device__ float of(float x, float dy) {
    const float density = expf(-x * x / 2) * 0.39894228f;
    return dy * (normalShare(x) + x * density);
  }
};
/** (x s)' = s + 1.702 x s (1 - s). */
struct QuickGeluSlope {
  static __device__ float of(float x, float dy) {
    const float share = sigmoid(kQuick * x);
    return dy * (share + kQuick * x * share * (1 - share));
  }
};

/** kUnroll vectors for each thread, a block's side by side, so that 64 bytes of each thread are under way. */
template <class E, bool kTwo>
constexpr int kUnroll = 64 / (8 * sizeof(E)) / (kTwo ? 2 : 1);

/** result = f(a, b), count each, or f(a) with one input. In place works: a thread writes only what it has read. */
template <class E, class F, bool kTwo>
__global__ void elementwiseKernel(F f, const E* a, const E* b, E* result, size_t count) {
  constexpr int kVectors = kUnroll<E, kTwo>;
  const size_t vectors = count / kChannelStep;
  const size_t first = static_cast<size_t>(blockIdx.x) * kThreads * kVectors + threadIdx.x;
  Raw<E> left[kVectors], right[kVectors];
#pragma unroll
  for (int u = 0; u < kVectors; ++u) {
    const size_t i = first + u * kThreads;
    if (i >= vectors) break;
    left[u] = load(a + i * kChannelStep);
    if constexpr (kTwo) right[u] = load(b + i * kChannelStep);
  }
#pragma unroll
  for (int u = 0; u < kVectors; ++u) {
    const size_t i = first + u * kThreads;
    if (i >= vectors) break;
    Eight x = toFloats(left[u]);
    Eight other{};
    if constexpr (kTwo) other = toFloats(right[u]);
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) x[k] = f.of(x[k], other[k]);
    store(result + i * kChannelStep, Rounding<E>::of(x));
  }
  const size_t rest = vectors * kChannelStep + threadIdx.x;
  if (blockIdx.x == 0 && rest < count) {
    result[rest] = static_cast<E>(f.of(static_cast<float>(a[rest]), kTwo ? static_cast<float>(b[rest]) : 0));
  }
}

template <bool kTwo, class F>
void elementwise(Number number, const F& f, const void* a, const void* b, void* result, size_t count,
                 cudaStream_t stream) {
  if (count == 0) return;
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    constexpr size_t kOfBlock = size_t{kThreads} * kUnroll<E, kTwo> * kChannelStep;
    const dim3 grid(static_cast<unsigned>((count + kOfBlock - 1) / kOfBlock));
    launch(elementwiseKernel<E, F, kTwo>, grid, dim3(kThreads), 0, stream, f, static_cast<const E*>(a),
           static_cast<const E*>(b), static_cast<E*>(result), count);
  });
}

}  // namespace

void relu(Number number, float slope, const void* x, void* y, size_t count, cudaStream_t stream) {
  slope == 0 ? elementwise<false>(number, MaxWithZero{}, x, nullptr, y, count, stream)
             : elementwise<false>(number, Leaky{slope}, x, nullptr, y, count, stream);
}

void reluBackward(Number number, float slope, const void* y, const void* dy, void* dx, size_t count,
                  cudaStream_t stream) {
  slope == 0 ? elementwise<true>(number, WherePositive{}, y, dy, dx, count, stream)
             : elementwise<true>(number, LeakySlope{slope}, y, dy, dx, count, stream);
}

void add(Number number, const void* a, const void* b, void* sum, size_t count, cudaStream_t stream) {
  elementwise<true>(number, Sum{}, a, b, sum, count, stream);
}

void gelu(Number number, bool quick, const void* x, void* y, size_t count, cudaStream_t stream) {
  quick ? elementwise<false>(number, QuickGelu{}, x, nullptr, y, count, stream)
        : elementwise<false>(number, Gelu{}, x, nullptr, y, count, stream);
}

void geluBackward(Number number, bool quick, const void* x, const void* dy, void* dx, size_t count,
                  cudaStream_t stream) {
  quick ? elementwise<true>(number, QuickGeluSlope{}, x, dy, dx, count, stream)
        : elementwise<true>(number, GeluSlope{}, x, dy, dx, count, stream);
}

}  // namespace comface::cuda
