// Between PyTorch's N x C x H x W in fp32 and our N x H x W x C in the image's number type. A tile turns around in
// shared memory, so that planes are read and pixels written (or the other way) in whole sectors. The roof is memory: a
// 3 x 224 x 224 picture into 8 channels of bf16 moves 0.6 MB in and 0.8 MB out. Convert moves 6 bytes for each number.
#include "cuda/number.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256;

/** kPixels of one picture by kChannels, in shared memory as kChannels rows: one more float a row keeps banks apart. */
template <int kChannels>
struct Tile {
  static constexpr int kPixels = 2048 / kChannels, kPitch = kPixels + 1;
  static constexpr size_t kBytes = sizeof(float) * kChannels * kPitch;
  int n, pixel, channel;  // the first
};

/** Blocks run over channels first, then pixels, then pictures: neighbors share what they write. */
template <int kChannels>
__device__ inline Tile<kChannels> tileOf(int padded, int hw) {
  const unsigned across = (padded + kChannels - 1) / kChannels;
  const unsigned along = (static_cast<unsigned>(hw) + Tile<kChannels>::kPixels - 1) / Tile<kChannels>::kPixels;
  const unsigned at = blockIdx.x / across;
  return {static_cast<int>(at / along), static_cast<int>(at % along) * Tile<kChannels>::kPixels,
          static_cast<int>(blockIdx.x % across) * kChannels};
}

template <int kChannels>
dim3 gridOf(int n, int padded, int hw) {
  const size_t across = (padded + kChannels - 1) / kChannels;
  const size_t along = (static_cast<size_t>(hw) + Tile<kChannels>::kPixels - 1) / Tile<kChannels>::kPixels;
  return dim3(static_cast<unsigned>(across * along * n));
}

/** from: N C HW, to: N HW padded. */
template <class E, int kChannels>
__global__ void packKernel(const float* from, int c, int hw, int padded, E* to) {
  using T = Tile<kChannels>;
  COMFACE_DYNAMIC_SHARED(float, shared);
  const T tile = tileOf<kChannels>(padded, hw);
  for (int i = threadIdx.x; i < kChannels * T::kPixels; i += kThreads) {
    const int channel = tile.channel + i / T::kPixels, pixel = tile.pixel + i % T::kPixels;
    const bool isThere = channel < c && pixel < hw;
    shared[i / T::kPixels * T::kPitch + i % T::kPixels] =
        isThere ? from[(static_cast<size_t>(tile.n) * c + channel) * hw + pixel] : 0;
  }
  __syncthreads();
  constexpr int kColumns = kChannels / kChannelStep;
  for (int i = threadIdx.x; i < kColumns * T::kPixels; i += kThreads) {
    const int column = i % kColumns * kChannelStep, pixel = i / kColumns;
    if (tile.channel + column >= padded || tile.pixel + pixel >= hw) continue;
    Eight x;
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) x[k] = shared[(column + k) * T::kPitch + pixel];
    store(to + (static_cast<size_t>(tile.n) * hw + tile.pixel + pixel) * padded + tile.channel + column,
          Rounding<E>::of(x));
  }
}

/** from: N HW padded, to: N C HW. */
template <class E, int kChannels>
__global__ void unpackKernel(const E* from, int c, int hw, int padded, float* to) {
  using T = Tile<kChannels>;
  COMFACE_DYNAMIC_SHARED(float, shared);
  const T tile = tileOf<kChannels>(padded, hw);
  constexpr int kColumns = kChannels / kChannelStep;
  for (int i = threadIdx.x; i < kColumns * T::kPixels; i += kThreads) {
    const int column = i % kColumns * kChannelStep, pixel = i / kColumns;
    if (tile.channel + column >= padded || tile.pixel + pixel >= hw) continue;
    const Eight x =
        toFloats(load(from + (static_cast<size_t>(tile.n) * hw + tile.pixel + pixel) * padded + tile.channel + column));
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) shared[(column + k) * T::kPitch + pixel] = x[k];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kChannels * T::kPixels; i += kThreads) {
    const int channel = tile.channel + i / T::kPixels, pixel = tile.pixel + i % T::kPixels;
    if (channel >= c || pixel >= hw) continue;
    to[(static_cast<size_t>(tile.n) * c + channel) * hw + pixel] = shared[i / T::kPixels * T::kPitch + i % T::kPixels];
  }
}

/** Two vectors for each thread: 64 bytes under way. */
template <class From, class To>
__global__ void convertKernel(const From* from, size_t count, To* to) {
  constexpr int kUnroll = 2;
  const size_t vectors = count / kChannelStep;
  const size_t first = static_cast<size_t>(blockIdx.x) * kThreads * kUnroll + threadIdx.x;
  Raw<From> raw[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    if (first + u * kThreads < vectors) raw[u] = load(from + (first + u * kThreads) * kChannelStep);
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    if (first + u * kThreads >= vectors) break;
    store(to + (first + u * kThreads) * kChannelStep, Rounding<To>::of(toFloats(raw[u])));
  }
  const size_t rest = vectors * kChannelStep + threadIdx.x;
  if (blockIdx.x == 0 && rest < count) to[rest] = static_cast<To>(static_cast<float>(from[rest]));
}

template <class E, int kChannels>
void pack(const float* from, int n, int c, int hw, E* to, cudaStream_t stream) {
  const int padded = paddedChannels(c);
  launch(packKernel<E, kChannels>, gridOf<kChannels>(n, padded, hw), dim3(kThreads), Tile<kChannels>::kBytes, stream,
         from, c, hw, padded, to);
}

template <class E, int kChannels>
void unpack(const E* from, int n, int c, int hw, float* to, cudaStream_t stream) {
  const int padded = paddedChannels(c);
  launch(unpackKernel<E, kChannels>, gridOf<kChannels>(n, padded, hw), dim3(kThreads), Tile<kChannels>::kBytes, stream,
         from, c, hw, padded, to);
}

}  // namespace

void packImages(Number number, const float* from, int n, int c, int h, int w, void* to, cudaStream_t stream) {
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    c <= 8 ? pack<E, 8>(from, n, c, h * w, static_cast<E*>(to), stream)
           : pack<E, 64>(from, n, c, h * w, static_cast<E*>(to), stream);
  });
}

void unpackImages(Number number, const void* from, int n, int c, int h, int w, float* to, cudaStream_t stream) {
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    c <= 8 ? unpack<E, 8>(static_cast<const E*>(from), n, c, h * w, to, stream)
           : unpack<E, 64>(static_cast<const E*>(from), n, c, h * w, to, stream);
  });
}

namespace {

template <class From, class To>
void convertTo(const From* from, size_t count, To* to, cudaStream_t stream) {
  constexpr size_t kOfBlock = size_t{2} * kThreads * kChannelStep;
  if (count == 0) return;
  launch(convertKernel<From, To>, dim3(static_cast<unsigned>((count + kOfBlock - 1) / kOfBlock)), dim3(kThreads), 0,
         stream, from, count, to);
}

}  // namespace

void convert(Number number, const float* from, size_t count, void* to, cudaStream_t stream) {
  withNumber(number, [&](auto zero) { convertTo(from, count, static_cast<decltype(zero)*>(to), stream); });
}

void widen(Number number, const void* from, size_t count, float* to, cudaStream_t stream) {
  withNumber(number, [&](auto zero) { convertTo(static_cast<const decltype(zero)*>(from), count, to, stream); });
}

}  // namespace comface::cuda
