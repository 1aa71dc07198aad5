// Batch normalization with what follows it (Ioffe and Szegedy, 2015, algorithm 1 and the gradients of section 3), M x
// C. The roof is memory. Numbers moved for each of x: statistics 1, apply 2 (3 with a residual), gradient 2 + 3 (a
// residual tensor 4 + 3, a second normalization 3 + 5), and one more for each pass with a second gradient. A relu costs
// its gradient no read where its sign can be computed again from inputs that are read anyway. Sums: floats of one
// thread about a pivot, then of its block, then doubles over blocks, each in an order that M and C alone decide.
#include "cuda/rows.h"

namespace comface::cuda {
namespace {

/** 64 bytes of each thread under way with 16-bit numbers, more with fp32, whatever the count of streams read. */
template <class E, int kStreams>
constexpr int kUnroll = sizeof(E) == 2 ? (kStreams == 1 ? 4 : 2) : (kStreams == 1 ? 2 : 1);

constexpr int kMostSums = 3;

// ---- What becomes of the sums: one thread for each channel, in double ----

__device__ inline void setScale(const Norm& norm, int c, float mean, float inverse) {
  norm.mean[c] = mean;
  norm.inverse[c] = inverse;
  norm.scale[c] = norm.gamma[c] * inverse;
  norm.shift[c] = norm.beta[c] - norm.scale[c] * mean;
}

/** shifted, squares: sums of x - pivot and of its square over count numbers. A NaN stays one. */
__device__ inline void finishStatistics(const Norm& norm, int c, double pivot, double shifted, double squares,
                                        double count) {
  const double average = shifted / count, raw = squares / count - average * average;
  const double variance = raw < 0 ? 0 : raw, mean = pivot + average;
  setScale(norm, c, static_cast<float>(mean), static_cast<float>(1 / sqrt(variance + norm.eps)));
  // PyTorch's two variances: the biased one normalizes, the unbiased one enters the running one.
  const double momentum = norm.momentum, unbiased = variance * count / (count - 1);
  norm.runningMean[c] = static_cast<float>((1 - momentum) * norm.runningMean[c] + momentum * mean);
  norm.runningVar[c] = static_cast<float>((1 - momentum) * norm.runningVar[c] + momentum * unbiased);
}

/** dx = scale d + slope x + offset by channel, from sum(d) and product = sum(d (x - mean)). */
struct Line {
  float *slope, *offset;  // C each
};
__device__ inline void finishGradient(const Norm& norm, int c, double sum, double product, double count,
                                      const Line& line) {
  const double inverse = norm.inverse[c], scale = norm.scale[c], dGamma = product * inverse;
  norm.dBeta[c] = static_cast<float>(sum);
  norm.dGamma[c] = static_cast<float>(dGamma);
  line.slope[c] = static_cast<float>(-scale * inverse * dGamma / count);
  // With the slope as it is stored: its rounding would otherwise come back times the mean.
  line.offset[c] = static_cast<float>(-scale * sum / count - static_cast<double>(line.slope[c]) * norm.mean[c]);
}

/** Scratch: the lines of two normalizations, then the sums of each block, kMostSums x rowBlocks x C. */
__host__ __device__ inline Line lineOf(float* scratch, int c, int which) {
  return {scratch + 2 * which * static_cast<size_t>(c), scratch + (2 * which + 1) * static_cast<size_t>(c)};
}
__host__ __device__ inline float* partialsOf(float* scratch, int c) { return scratch + 4 * static_cast<size_t>(c); }

// ---- Statistics ----

template <class E>
__global__ void __launch_bounds__(kThreads, 4)
    statisticsKernel(const E* x, size_t m, int c, Tiling tiling, float* partials) {
  COMFACE_DYNAMIC_SHARED(float, shared);
  const Place place = placeOf(tiling, blockIdx.x, c);
  Eight sum{}, squares{}, pivot{};
  if (place.isActive) pivot = toFloats(load(x + place.channel));
  forRows<kUnroll<E, 1>>(tiling, place, m, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Raw<E> raw[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) raw[u] = load(x + (row + u * tiling.rows) * c + place.channel);
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const Eight value = toFloats(raw[u]);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) {
        const float shifted = value[k] - pivot[k];
        sum[k] += shifted;
        squares[k] = fmaf(shifted, shifted, squares[k]);
      }
    }
  });
  leavePart(tiling, c, sum, 0, shared, partials);
  leavePart(tiling, c, squares, 1, shared, partials);
}

template <class E>
__global__ void finishStatisticsKernel(const E* x, size_t m, int c, Norm norm, const float* partials, int rowBlocks) {
  COMFACE_DYNAMIC_SHARED(double, shared);
  const double sum = sumOfParts(partials, rowBlocks, c, 0, shared);
  const double squares = sumOfParts(partials, rowBlocks, c, 1, shared);
  if (threadIdx.x >= kChannelStep) return;
  const int channel = blockIdx.x * kChannelStep + threadIdx.x;
  finishStatistics(norm, channel, static_cast<float>(x[channel]), sum, squares, static_cast<double>(m));
}

__global__ void finishKernel(const float* sum, const float* squares, size_t m, int c, Norm norm) {
  const int channel = blockIdx.x * kThreads + threadIdx.x;
  if (channel < c) finishStatistics(norm, channel, 0, sum[channel], squares[channel], static_cast<double>(m));
}

__global__ void inferenceKernel(int c, Norm norm) {
  const int channel = blockIdx.x * kThreads + threadIdx.x;
  if (channel >= c) return;
  const double variance = norm.runningVar[channel];
  setScale(norm, channel, norm.runningMean[channel], static_cast<float>(1 / sqrt(variance + norm.eps)));
}

// ---- Apply ----

/** What eight channels become before the relu: the same operations forward and where backward asks for the sign. */
template <Residual kKind>
struct Transform {
  Eight scale, shift, scale2;
  __device__ Transform(const float* s, const float* b, const float* s2, const float* b2, int channel)
      : scale(loadFloats(s + channel)), shift(loadFloats(b + channel)), scale2{} {
    if constexpr (kKind == Residual::normalized) {
      scale2 = loadFloats(s2 + channel);
      const Eight other = loadFloats(b2 + channel);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) shift[k] += other[k];
    }
  }
  __device__ float operator()(int k, float x, float residual) const {
    const float value = fmaf(scale[k], x, shift[k]);
    if constexpr (kKind == Residual::tensor) return value + residual;
    if constexpr (kKind == Residual::normalized) return fmaf(scale2[k], residual, value);
    return value;
  }
};

template <class E, Residual kKind, bool kRelu>
__global__ void __launch_bounds__(kThreads, 4) applyKernel(NormApply a, Tiling tiling) {
  constexpr bool kTwo = kKind != Residual::none;
  const Place place = placeOf(tiling, blockIdx.x, a.c);
  if (!place.isActive) return;
  const Transform<kKind> transform(a.scale, a.shift, a.scale2, a.shift2, place.channel);
  forRows<kUnroll<E, kTwo ? 2 : 1>>(tiling, place, a.m, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Raw<E> x[kRows];
    [[maybe_unused]] Raw<E> residual[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const size_t at = (row + u * tiling.rows) * a.c + place.channel;
      x[u] = load(static_cast<const E*>(a.x) + at);
      if constexpr (kTwo) residual[u] = load(static_cast<const E*>(a.residual) + at);
    }
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      Eight value = toFloats(x[u]), other{};
      if constexpr (kTwo) other = toFloats(residual[u]);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) {
        value[k] = transform(k, value[k], other[k]);
        if (kRelu) value[k] = rectified(value[k]);
      }
      store(static_cast<E*>(a.y) + (row + u * tiling.rows) * a.c + place.channel, Rounding<E>::of(value));
    }
  });
}

// ---- Gradient ----

/** The eight numbers of each tensor that d and the gradient through the normalizations need at one place. */
template <class E, Residual kKind, bool kRelu, bool kSecond>
struct Inputs {
  static constexpr bool kReadsY =
      kRelu && kKind == Residual::tensor;  // else its sign follows from x (and the residual)
  Raw<E> gradient, gradient2, x, residual, y;

  __device__ void read(const NormBackward& b, size_t at) {
    gradient = load(static_cast<const E*>(b.gradient) + at);
    x = load(static_cast<const E*>(b.x) + at);
    if constexpr (kSecond) gradient2 = load(static_cast<const E*>(b.gradient2) + at);
    if constexpr (kKind == Residual::normalized) residual = load(static_cast<const E*>(b.residual) + at);
    if constexpr (kReadsY) y = load(static_cast<const E*>(b.y) + at);
  }

  /** d, given x and the residual as floats. */
  __device__ Eight masked(const Transform<kKind>& transform, const Eight& xs, const Eight& residuals) const {
    Eight d = toFloats(gradient), other{}, ys{};
    if constexpr (kSecond) other = toFloats(gradient2);
    if constexpr (kReadsY) ys = toFloats(y);
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) {
      if (kSecond) d[k] += other[k];
      if constexpr (kReadsY) {
        d[k] = ys[k] > 0 ? d[k] : 0;
      } else if constexpr (kRelu) {
        d[k] = transform(k, xs[k], residuals[k]) > kVanishes<E> ? d[k] : 0;
      }
    }
    return d;
  }
};

/** Blocks on a multiprocessor: 80 registers a thread, or 128 where the parameters of so much would not stay in those.
 */
template <Residual kKind, bool kRelu, bool kSecond>
constexpr int kResident = kKind == Residual::normalized || (kKind == Residual::none && kRelu && kSecond) ? 2 : 3;

/** Sums of d, d (x - mean) and, with a second normalization, d (residual - its mean), by block; d itself if `isKept`.
 */
template <class E, Residual kKind, bool kRelu, bool kSecond>
__global__ void __launch_bounds__(kThreads, kResident<kKind, kRelu, kSecond>)
    gradientSumsKernel(NormBackward b, Tiling tiling, float* partials) {
  constexpr bool kTwo = kKind == Residual::normalized;
  COMFACE_DYNAMIC_SHARED(float, shared);
  const Place place = placeOf(tiling, blockIdx.x, b.c);
  Eight sum{}, product{}, product2{};
  if (place.isActive) {
    const Transform<kKind> transform(b.norm.scale, b.norm.shift, b.norm2.scale, b.norm2.shift, place.channel);
    const Eight mean = loadFloats(b.norm.mean + place.channel);
    Eight mean2{};
    if constexpr (kTwo) mean2 = loadFloats(b.norm2.mean + place.channel);
    forRows<kUnroll<E, 2>>(tiling, place, b.m, [&](auto count, size_t row) {
      constexpr int kRows = decltype(count)::value;
      Inputs<E, kKind, kRelu, kSecond> inputs[kRows];
#pragma unroll
      for (int u = 0; u < kRows; ++u) inputs[u].read(b, (row + u * tiling.rows) * b.c + place.channel);
#pragma unroll
      for (int u = 0; u < kRows; ++u) {
        const Eight x = toFloats(inputs[u].x);
        Eight residual{};
        if constexpr (kTwo) residual = toFloats(inputs[u].residual);
        Eight d = inputs[u].masked(transform, x, residual);
        if constexpr (kKind == Residual::tensor) {
          const Raw<E> kept = Rounding<E>::of(d);
          store(static_cast<E*>(b.gradient) + (row + u * tiling.rows) * b.c + place.channel, kept);
          d = toFloats(kept);  // what the residual's layer and the second pass will read
        }
#pragma unroll
        for (int k = 0; k < kChannelStep; ++k) {
          sum[k] += d[k];
          product[k] = fmaf(d[k], x[k] - mean[k], product[k]);
          if constexpr (kTwo) product2[k] = fmaf(d[k], residual[k] - mean2[k], product2[k]);
        }
      }
    });
  }
  leavePart(tiling, b.c, sum, 0, shared, partials);
  leavePart(tiling, b.c, product, 1, shared, partials);
  if constexpr (kTwo) leavePart(tiling, b.c, product2, 2, shared, partials);
}

__global__ void finishGradientKernel(NormBackward b, int rowBlocks, float* scratch) {
  COMFACE_DYNAMIC_SHARED(double, shared);
  const float* partials = partialsOf(scratch, b.c);
  const double sum = sumOfParts(partials, rowBlocks, b.c, 0, shared);
  const double product = sumOfParts(partials, rowBlocks, b.c, 1, shared);
  const bool isTwo = b.kind == Residual::normalized;
  const double product2 = isTwo ? sumOfParts(partials, rowBlocks, b.c, 2, shared) : 0;
  if (threadIdx.x >= kChannelStep) return;
  const int channel = blockIdx.x * kChannelStep + threadIdx.x;
  const double count = static_cast<double>(b.m);
  finishGradient(b.norm, channel, sum, product, count, lineOf(scratch, b.c, 0));
  if (isTwo) finishGradient(b.norm2, channel, sum, product2, count, lineOf(scratch, b.c, 1));
}

/** From a convolution's sum(d) and sum(d x): the difference is taken in double, so only their own rounding remains. */
__global__ void finishGivenKernel(NormBackward b, float* scratch) {
  const int channel = blockIdx.x * kThreads + threadIdx.x;
  if (channel >= b.c) return;
  const double sum = b.sum[channel], product = b.product[channel] - sum * b.norm.mean[channel];
  finishGradient(b.norm, channel, sum, product, static_cast<double>(b.m), lineOf(scratch, b.c, 0));
}

/** dx = scale d + slope x + offset, and the same for the second normalization. */
template <class E, Residual kKind, bool kRelu, bool kSecond>
__global__ void __launch_bounds__(kThreads, kResident<kKind, kRelu, kSecond>)
    gradientKernel(NormBackward b, Tiling tiling, Line line, Line line2) {
  constexpr bool kTwo = kKind == Residual::normalized;
  const Place place = placeOf(tiling, blockIdx.x, b.c);
  if (!place.isActive) return;
  const Transform<kKind> transform(b.norm.scale, b.norm.shift, b.norm2.scale, b.norm2.shift, place.channel);
  const Eight slope = loadFloats(line.slope + place.channel), offset = loadFloats(line.offset + place.channel);
  Eight slope2{}, offset2{};
  if constexpr (kTwo)
    slope2 = loadFloats(line2.slope + place.channel), offset2 = loadFloats(line2.offset + place.channel);
  forRows<kUnroll<E, 2>>(tiling, place, b.m, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Inputs<E, kKind, kRelu, kSecond> inputs[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) inputs[u].read(b, (row + u * tiling.rows) * b.c + place.channel);
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const size_t at = (row + u * tiling.rows) * b.c + place.channel;
      Eight x = toFloats(inputs[u].x), residual{};
      if constexpr (kTwo) residual = toFloats(inputs[u].residual);
      const Eight d = inputs[u].masked(transform, x, residual);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) {
        x[k] = fmaf(transform.scale[k], d[k], fmaf(slope[k], x[k], offset[k]));
        if constexpr (kTwo) residual[k] = fmaf(transform.scale2[k], d[k], fmaf(slope2[k], residual[k], offset2[k]));
      }
      store(static_cast<E*>(b.dx) + at, Rounding<E>::of(x));
      if constexpr (kTwo) store(static_cast<E*>(b.dx2) + at, Rounding<E>::of(residual));
    }
  });
}

// ---- Choosing a kernel ----

dim3 gridOf(const Tiling& tiling) { return dim3(tiling.slices, tiling.rowBlocks); }
dim3 gridOfChannels(int c) { return dim3((c + kThreads - 1) / kThreads); }

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};
template <class F>
void withFlag(bool flag, const F& body) {
  flag ? body(Flag<true>{}) : body(Flag<false>{});
}

template <Residual kValue>
struct Kind {
  static constexpr Residual value = kValue;
};
template <class F>
void withKind(Residual kind, const F& body) {
  if (kind == Residual::none) {
    body(Kind<Residual::none>{});
  } else if (kind == Residual::tensor) {
    body(Kind<Residual::tensor>{});
  } else {
    body(Kind<Residual::normalized>{});
  }
}

/** Calls body with the number type, the kind and whether there are a relu and a second gradient. */
template <class F>
void withVariant(Number number, const NormBackward& b, const F& body) {
  withNumber(number, [&](auto zero) {
    withKind(b.kind, [&](auto kind) {
      withFlag(b.relu, [&](auto relu) {
        withFlag(b.gradient2 != nullptr, [&](auto second) { body(zero, kind, relu, second); });
      });
    });
  });
}

/** The first pass and what follows from its sums. */
void gradientSums(Number number, const NormBackward& b, float* scratch, cudaStream_t stream) {
  const Tiling tiling = tilingOf(b.m, b.c);
  withVariant(number, b, [&](auto zero, auto kind, auto relu, auto second) {
    launch(gradientSumsKernel<decltype(zero), decltype(kind)::value, decltype(relu)::value, decltype(second)::value>,
           gridOf(tiling), dim3(kThreads), kSumBytes, stream, b, tiling, partialsOf(scratch, b.c));
  });
  launch(finishGradientKernel, dim3(b.c / kChannelStep), dim3(kThreads), kPartBytes, stream, b, tiling.rowBlocks,
         scratch);
}

}  // namespace

size_t normScratch(size_t m, int c) {
  return (4 + size_t{kMostSums} * tilingOf(m, c).rowBlocks) * static_cast<size_t>(c);
}

void normStatistics(Number number, const void* x, size_t m, int c, const Norm& norm, float* scratch,
                    cudaStream_t stream) {
  const Tiling tiling = tilingOf(m, c);
  float* const partials = partialsOf(scratch, c);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    const E* const from = static_cast<const E*>(x);
    launch(statisticsKernel<E>, gridOf(tiling), dim3(kThreads), kSumBytes, stream, from, m, c, tiling, partials);
    launch(finishStatisticsKernel<E>, dim3(c / kChannelStep), dim3(kThreads), kPartBytes, stream, from, m, c, norm,
           partials, tiling.rowBlocks);
  });
}

void normFinish(const float* sum, const float* squares, size_t m, int c, const Norm& norm, cudaStream_t stream) {
  launch(finishKernel, gridOfChannels(c), dim3(kThreads), 0, stream, sum, squares, m, c, norm);
}

void normInference(int c, const Norm& norm, cudaStream_t stream) {
  launch(inferenceKernel, gridOfChannels(c), dim3(kThreads), 0, stream, c, norm);
}

void normApply(Number number, const NormApply& apply, cudaStream_t stream) {
  const Tiling tiling = tilingOf(apply.m, apply.c);
  withNumber(number, [&](auto zero) {
    withKind(apply.kind, [&](auto kind) {
      withFlag(apply.relu, [&](auto relu) {
        launch(applyKernel<decltype(zero), decltype(kind)::value, decltype(relu)::value>, gridOf(tiling),
               dim3(kThreads), 0, stream, apply, tiling);
      });
    });
  });
}

void normBackward(Number number, const NormBackward& backward, float* scratch, cudaStream_t stream) {
  NormBackward b = backward;
  if (b.sum) {
    launch(finishGivenKernel, gridOfChannels(b.c), dim3(kThreads), 0, stream, b, scratch);
  } else {
    gradientSums(number, b, scratch, stream);
  }
  if (b.sum || b.kind == Residual::tensor) b.relu = false, b.gradient2 = nullptr;  // the gradient is d by now
  if (b.kind == Residual::tensor) b.kind = Residual::none;                         // only d depended on it
  const Tiling tiling = tilingOf(b.m, b.c);
  withVariant(number, b, [&](auto zero, auto kind, auto relu, auto second) {
    constexpr Residual kKind = decltype(kind)::value;
    if constexpr (kKind != Residual::tensor) {
      launch(gradientKernel<decltype(zero), kKind, decltype(relu)::value, decltype(second)::value>, gridOf(tiling),
             dim3(kThreads), 0, stream, b, tiling, lineOf(scratch, b.c, 0), lineOf(scratch, b.c, 1));
    }
  });
}

}  // namespace comface::cuda
