// Patches to tokens and back, and one token to a vector (Dosovitskiy et al., 2021, section 3.1), N x T x C. The roof is
// memory: tokens move 2 numbers for each, and as many backward, once a step; a token's gradient writes 1.
#include "cuda/number.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256;

/** Where a thread has eight channels, in a list of `rows` rows of C. */
struct Piece {
  size_t row;
  int channel;
};
__device__ inline Piece pieceOf(int c) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const unsigned columns = c / kChannelStep;
  return {i / columns, static_cast<int>(i % columns) * kChannelStep};
}
dim3 gridOf(size_t rows, int c) {
  return dim3(static_cast<unsigned>((rows * (c / kChannelStep) + kThreads - 1) / kThreads));
}

__device__ inline void addTo(Eight& sum, const Eight& values) {
#pragma unroll
  for (int k = 0; k < kChannelStep; ++k) sum[k] += values[k];
}

template <class E>
__global__ void __launch_bounds__(kThreads) tokensKernel(Tokens a, const E* x, E* y) {
  const size_t count = a.area + a.first;
  const auto [row, channel] = pieceOf(a.c);
  if (row >= a.n * count) return;
  const size_t n = row / count, t = row % count;
  Eight values;
  if (t < static_cast<size_t>(a.first)) {
    values = loadFloats(a.classToken + channel);
  } else {
    values = toFloats(load(x + (n * a.area + t - a.first) * a.c + channel));
  }
  if (a.positions) addTo(values, loadFloats(a.positions + t * a.c + channel));
  store(y + row * a.c + channel, Rounding<E>::of(values));
}

/** A thread has eight channels of one token in all images, so that their sum ends in one place. */
template <class E>
__global__ void __launch_bounds__(kThreads) tokensBackwardKernel(Tokens a, const E* dy, E* dx) {
  const size_t count = a.area + a.first;
  const auto [t, channel] = pieceOf(a.c);
  if (t >= count) return;
  const bool isClass = t < static_cast<size_t>(a.first);
  Eight sum = splat(0);
#pragma unroll 4
  for (int n = 0; n < a.n; ++n) {
    const Raw<E> raw = load(dy + (n * count + t) * a.c + channel);
    if (dx && !isClass) store(dx + (n * a.area + t - a.first) * a.c + channel, raw);
    addTo(sum, toFloats(raw));
  }
  if (isClass) store(a.dClassToken + channel, Rounding<float>::of(sum));
  if (a.positions) store(a.dPositions + t * a.c + channel, Rounding<float>::of(sum));
}

/** c: as it is in y. */
template <class E>
__global__ void __launch_bounds__(kThreads)
    tokenKernel(const E* x, int n, int c, int padded, size_t area, size_t position, float* y) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<size_t>(n) * c) return;
  y[i] = static_cast<float>(x[(i / c * area + position) * padded + i % c]);
}

template <class E>
__global__ void __launch_bounds__(kThreads)
    tokenBackwardKernel(const float* dy, int n, int c, int padded, size_t area, size_t position, E* dx) {
  const auto [row, channel] = pieceOf(padded);
  if (row >= n * area) return;
  Eight values = splat(0);
  if (row % area == position) {
    for (int k = 0; k < min(kChannelStep, c - channel); ++k) values[k] = dy[row / area * c + channel + k];
  }
  store(dx + row * padded + channel, Rounding<E>::of(values));
}

}  // namespace

void tokens(Number number, const Tokens& args, const void* x, void* y, cudaStream_t stream) {
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(tokensKernel<E>, gridOf(args.n * (args.area + args.first), args.c), dim3(kThreads), 0, stream, args,
           static_cast<const E*>(x), static_cast<E*>(y));
  });
}

void tokensBackward(Number number, const Tokens& args, const void* dy, void* dx, cudaStream_t stream) {
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(tokensBackwardKernel<E>, gridOf(args.area + args.first, args.c), dim3(kThreads), 0, stream, args,
           static_cast<const E*>(dy), static_cast<E*>(dx));
  });
}

void token(Number number, const void* x, int n, int c, size_t area, size_t position, float* y, cudaStream_t stream) {
  const size_t blocks = (static_cast<size_t>(n) * c + kThreads - 1) / kThreads;
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(tokenKernel<E>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, static_cast<const E*>(x), n,
           c, paddedChannels(c), area, position, y);
  });
}

void tokenBackward(Number number, const float* dy, int n, int c, size_t area, size_t position, void* dx,
                   cudaStream_t stream) {
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(tokenBackwardKernel<E>, gridOf(n * area, paddedChannels(c)), dim3(kThreads), 0, stream, dy, n, c,
           paddedChannels(c), area, position, static_cast<E*>(dx));
  });
}

}  // namespace comface::cuda
