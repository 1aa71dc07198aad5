// Max pooling over windows, where padding never wins, and the global average that ends a ResNet. N x H x W x C, a
// thread for 8 channels. The roof is memory: the stem's pool (112 x 112 x 64 to 56 x 56, bf16) moves 2.2 MB a picture
// each way; windows overlap, so a block covers a patch of pixels and finds most of its neighbors' reads in the L1
// cache.
#include "cuda/rows.h"

namespace comface::cuda {
namespace {

/** A block covers 8 pixels across, `high` down and `columns` columns of 8 channels. */
struct Patches {
  static constexpr int kWide = 8;
  int columns, slices, high, across, down;
};

Patches patchesOf(int c, int h, int w) {
  constexpr int kMostColumns = 8;  // 128 bytes of 16-bit numbers; the rest of the threads make the patch large
  const int columns = c / kChannelStep;
  Patches patches;
  patches.slices = (columns + kMostColumns - 1) / kMostColumns;
  patches.columns = (columns + patches.slices - 1) / patches.slices;
  patches.high = kThreads / (patches.columns * Patches::kWide);
  patches.across = (w + Patches::kWide - 1) / Patches::kWide;
  patches.down = (h + patches.high - 1) / patches.high;
  return patches;
}

dim3 gridOf(const Patches& patches, int n) {
  return dim3(static_cast<unsigned>(size_t{1} * patches.slices * patches.across * patches.down * n));
}

struct Pixel {
  int n, i, j, channel;
  bool isThere;
};

__device__ inline Pixel pixelOf(const Patches& patches, int c, int h, int w) {
  const int thread = threadIdx.x, inside = thread / patches.columns;
  unsigned block = blockIdx.x;
  const int slice = block % patches.slices;
  block /= patches.slices;
  const int left = block % patches.across * Patches::kWide;
  block /= patches.across;
  const int top = block % patches.down * patches.high;
  Pixel pixel;
  pixel.n = block / patches.down;
  pixel.i = top + inside / Patches::kWide;
  pixel.j = left + inside % Patches::kWide;
  pixel.channel = (slice * patches.columns + thread % patches.columns) * kChannelStep;
  pixel.isThere = inside < patches.high * Patches::kWide && pixel.i < h && pixel.j < w && pixel.channel < c;
  return pixel;
}

/** The largest so far of eight channels and its place. PyTorch's order: the first of equals, but the last NaN. */
struct Winner {
  Eight value;
  unsigned place[kChannelStep];

  __device__ void take(const Eight& x, unsigned at) {
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) {
      const bool wins = x[k] > value[k] || x[k] != x[k];
      value[k] = wins ? x[k] : value[k];
      place[k] = wins ? at : place[k];
    }
  }
};

__device__ inline uint2 packBytes(const unsigned (&bytes)[kChannelStep]) {
  return make_uint2(bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24,
                    bytes[4] | bytes[5] << 8 | bytes[6] << 16 | bytes[7] << 24);
}
__device__ inline unsigned byteOf(const uint2& bytes, int k) {
  return (k < 4 ? bytes.x : bytes.y) >> (k % 4 * 8) & 255u;
}

/** kWindow: the window's size where all its loads shall be under way together, else 0. */
template <class E, int kWindow>
__global__ void maxPoolKernel(Pool pool, Patches patches, const E* x, E* y, uint8_t* index) {
  const Pixel to = pixelOf(patches, pool.c, pool.outH, pool.outW);
  if (!to.isThere) return;
  const int top = to.i * pool.stride - pool.pad, left = to.j * pool.stride - pool.pad;
  const int firstRow = max(0, -top), firstColumn = max(0, -left);
  const E* const image = x + static_cast<size_t>(to.n) * pool.h * pool.w * pool.c + to.channel;
  const auto addressOf = [&](int row, int column) {
    return image + (static_cast<size_t>(top + row) * pool.w + left + column) * pool.c;
  };
  // Nothing exceeds minus infinity but a number, so it stands for padding, and a window of nothing else takes its
  // first.
  Winner winner{splat(-INFINITY), {}};
#pragma unroll
  for (int k = 0; k < kChannelStep; ++k) winner.place[k] = firstRow * pool.kernel + firstColumn;
  if constexpr (kWindow > 0) {
    Raw<E> raw[kWindow][kWindow];
#pragma unroll
    for (int row = 0; row < kWindow; ++row) {
#pragma unroll
      for (int column = 0; column < kWindow; ++column) {
        const int h = top + row, w = left + column;
        const bool isInside = h >= 0 && h < pool.h && w >= 0 && w < pool.w;
        raw[row][column] = isInside ? load(addressOf(row, column)) : Rounding<E>::of(splat(-INFINITY));
      }
    }
#pragma unroll
    for (int row = 0; row < kWindow; ++row) {
#pragma unroll
      for (int column = 0; column < kWindow; ++column) winner.take(toFloats(raw[row][column]), row * kWindow + column);
    }
  } else {
    const int rows = min(pool.kernel, pool.h - top), columns = min(pool.kernel, pool.w - left);
    for (int row = firstRow; row < rows; ++row) {
      for (int column = firstColumn; column < columns; ++column) {
        winner.take(toFloats(load(addressOf(row, column))), row * pool.kernel + column);
      }
    }
  }
  const size_t at = ((static_cast<size_t>(to.n) * pool.outH + to.i) * pool.outW + to.j) * pool.c + to.channel;
  store(y + at, Rounding<E>::of(winner.value));
  if (index) *reinterpret_cast<uint2*>(index + at) = packBytes(winner.place);
}

/** Windows along one axis that see position `at`: [first, last]. */
struct Range {
  int first, last;
};
__device__ inline Range windowsOver(int at, int kernel, int stride, int pad, int count) {
  const int before = at + pad - kernel + 1;
  return {before <= 0 ? 0 : (before + stride - 1) / stride, min(count - 1, (at + pad) / stride)};
}

/** kSpan: how many windows can see a pixel along an axis where all loads shall be under way together, else 0. */
template <class E, int kSpan>
__global__ void maxPoolBackwardKernel(Pool pool, Patches patches, const E* dy, const uint8_t* index, E* dx) {
  const Pixel to = pixelOf(patches, pool.c, pool.h, pool.w);
  if (!to.isThere) return;
  const Range rows = windowsOver(to.i, pool.kernel, pool.stride, pool.pad, pool.outH);
  const Range columns = windowsOver(to.j, pool.kernel, pool.stride, pool.pad, pool.outW);
  const auto addressOf = [&](int i, int j) {
    return ((static_cast<size_t>(to.n) * pool.outH + i) * pool.outW + j) * pool.c + to.channel;
  };
  const auto placeIn = [&](int i, int j) {
    const int row = to.i + pool.pad - i * pool.stride, column = to.j + pool.pad - j * pool.stride;
    return static_cast<unsigned>(row * pool.kernel + column);
  };
  Eight sum{};
  const auto take = [&](const Raw<E>& raw, const uint2& winners, unsigned place) {
    const Eight d = toFloats(raw);
#pragma unroll
    for (int k = 0; k < kChannelStep; ++k) sum[k] += byteOf(winners, k) == place ? d[k] : 0;
  };
  if constexpr (kSpan > 0) {
    Raw<E> raw[kSpan][kSpan];
    uint2 winners[kSpan][kSpan];
#pragma unroll
    for (int u = 0; u < kSpan; ++u) {
#pragma unroll
      for (int v = 0; v < kSpan; ++v) {
        const int i = rows.first + u, j = columns.first + v;
        if (i > rows.last || j > columns.last) continue;
        raw[u][v] = load(dy + addressOf(i, j));
        winners[u][v] = *reinterpret_cast<const uint2*>(index + addressOf(i, j));
      }
    }
#pragma unroll
    for (int u = 0; u < kSpan; ++u) {
#pragma unroll
      for (int v = 0; v < kSpan; ++v) {
        const int i = rows.first + u, j = columns.first + v;
        if (i <= rows.last && j <= columns.last) take(raw[u][v], winners[u][v], placeIn(i, j));
      }
    }
  } else {
    for (int i = rows.first; i <= rows.last; ++i) {
      for (int j = columns.first; j <= columns.last; ++j) {
        const size_t at = addressOf(i, j);
        take(load(dy + at), *reinterpret_cast<const uint2*>(index + at), placeIn(i, j));
      }
    }
  }
  store(dx + ((static_cast<size_t>(to.n) * pool.h + to.i) * pool.w + to.j) * pool.c + to.channel, Rounding<E>::of(sum));
}

/** x: N x HW x padded, y: N x C fp32. A block takes one picture's slice of columns. */
template <class E>
__global__ void averageKernel(const E* x, int c, int hw, int padded, Tiling tiling, float* y) {
  COMFACE_DYNAMIC_SHARED(float, shared);
  const int n = blockIdx.x / tiling.slices, slice = blockIdx.x % tiling.slices;
  const Place place = placeOf(tiling, slice, padded);
  const E* const image = x + static_cast<size_t>(n) * hw * padded;
  Eight sum{};
  forRows<4>(tiling, place, hw, [&](auto count, size_t row) {
    constexpr int kRows = decltype(count)::value;
    Raw<E> raw[kRows];
#pragma unroll
    for (int u = 0; u < kRows; ++u) raw[u] = load(image + (row + u * tiling.rows) * padded + place.channel);
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const Eight value = toFloats(raw[u]);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) sum[k] += value[k];
    }
  });
  const float total = sumOverRows(tiling, sum, shared);
  const int thread = threadIdx.x, channel = slice * tiling.columns * kChannelStep + thread;
  if (thread < tiling.columns * kChannelStep && channel < c) {
    y[static_cast<size_t>(n) * c + channel] = total / static_cast<float>(hw);
  }
}

/** dy: N x C fp32, dx: N x HW x padded. */
template <class E>
__global__ void averageBackwardKernel(const float* dy, int c, int hw, int padded, Tiling tiling, E* dx) {
  const int n = blockIdx.x / tiling.slices, slice = blockIdx.x % tiling.slices;
  const Place place = placeOf(tiling, slice, padded);
  if (!place.isActive) return;
  Eight share;
#pragma unroll
  for (int k = 0; k < kChannelStep; ++k) {
    const int channel = place.channel + k;  // a row of dy need not begin at a multiple of 16 bytes
    share[k] = channel < c ? dy[static_cast<size_t>(n) * c + channel] / static_cast<float>(hw) : 0;
  }
  const Raw<E> raw = Rounding<E>::of(share);
  for (int row = place.row; row < hw; row += tiling.rows) {
    store(dx + (static_cast<size_t>(n) * hw + row) * padded + place.channel, raw);
  }
}

}  // namespace

void maxPool(Number number, const Pool& pool, const void* x, void* y, uint8_t* index, cudaStream_t stream) {
  const Patches patches = patchesOf(pool.c, pool.outH, pool.outW);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(pool.kernel == 3 ? maxPoolKernel<E, 3> : maxPoolKernel<E, 0>, gridOf(patches, pool.n), dim3(kThreads), 0,
           stream, pool, patches, static_cast<const E*>(x), static_cast<E*>(y), index);
  });
}

void maxPoolBackward(Number number, const Pool& pool, const void* dy, const uint8_t* index, void* dx,
                     cudaStream_t stream) {
  const Patches patches = patchesOf(pool.c, pool.h, pool.w);
  const bool isFew = pool.kernel <= 2 * pool.stride;
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(isFew ? maxPoolBackwardKernel<E, 2> : maxPoolBackwardKernel<E, 0>, gridOf(patches, pool.n), dim3(kThreads),
           0, stream, pool, patches, static_cast<const E*>(dy), index, static_cast<E*>(dx));
  });
}

void averagePool(Number number, const void* x, int n, int c, int hw, float* y, cudaStream_t stream) {
  const int padded = paddedChannels(c);
  const Tiling tiling = tilingOf(hw, padded);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(averageKernel<E>, dim3(static_cast<unsigned>(n) * tiling.slices), dim3(kThreads), kSumBytes, stream,
           static_cast<const E*>(x), c, hw, padded, tiling, y);
  });
}

void averagePoolBackward(Number number, const float* dy, int n, int c, int hw, void* dx, cudaStream_t stream) {
  const int padded = paddedChannels(c);
  const Tiling tiling = tilingOf(hw, padded);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    launch(averageBackwardKernel<E>, dim3(static_cast<unsigned>(n) * tiling.slices), dim3(kThreads), 0, stream, dy, c,
           hw, padded, tiling, static_cast<E*>(dx));
  });
}

}  // namespace comface::cuda
