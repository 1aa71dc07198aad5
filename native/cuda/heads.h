// What both attentions do to the heads of a sequence: tiles of rows in shared memory, products of tiles with a warp for
// each 16 rows, and the way between tiles and memory, where a head may begin anywhere. 16-bit numbers go to tensor
// cores and are added up in fp32; fp32 is exact, without them. Only .cu files include this.
#pragma once
#include <type_traits>

#include "cuda/mma.h"
#include "cuda/number.h"

namespace comface::cuda {

/** kRows rows of shared memory. They are 16 bytes longer than their numbers, so that the same piece of 8 neighboring
 * rows, which ldmatrix reads at once, lies in 8 different groups of banks. */
template <class E, int kRows, int kWidth>
struct Tile {
  static constexpr int kPitch = kWidth + 16 / static_cast<int>(sizeof(E));
  static constexpr size_t kBytes = sizeof(E) * kRows * kPitch;
  E* data;
  __device__ E* row(int r) const { return data + r * kPitch; }
  __device__ E* end() const { return data + kRows * kPitch; }
};

/** c[n][i] of a thread, in multiplyAdd's layout, is the number of the product's row rowOf(i / 2) and column columnOf(n,
 * i % 2). Each warp has 16 rows; the four threads of a quad share two of them. */
__device__ __forceinline__ int rowOf(int half) { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * half; }
__device__ __forceinline__ int columnOf(int n, int side) { return 8 * n + threadIdx.x % 4 * 2 + side; }

/** Products of tiles: a b, a b^T and a^T b, the last a sum over the rows of both. */
enum class Product { across, turned, overRows };

/** c (the warp's 16 rows x 8 kCount) += the product of a and b. */
template <Product kProduct, class E, int kTall, int kDeep, int kRows, int kWidth, int kCount>
__device__ __forceinline__ void addProduct(const Tile<E, kTall, kDeep>& a, const Tile<E, kRows, kWidth>& b,
                                           float (&c)[kCount][4]) {
  constexpr bool kOverRows = kProduct == Product::overRows, kTurned = kProduct == Product::turned;
  constexpr int kDepth = kOverRows ? kTall : kDeep;
  static_assert(kCount * 8 == (kTurned ? kRows : kWidth) && kDepth == (kTurned ? kWidth : kRows));
  if constexpr (sizeof(E) == 4) {
    const auto left = [&](int half, int k) { return kOverRows ? a.row(k)[rowOf(half)] : a.row(rowOf(half))[k]; };
#pragma unroll 4
    for (int k = 0; k < kDepth; ++k) {
      const float upper = left(0, k), lower = left(1, k);
#pragma unroll
      for (int n = 0; n < kCount; ++n) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          const int column = columnOf(n, side);
          const float other = kTurned ? b.row(column)[k] : b.row(k)[column];
          c[n][side] = fmaf(upper, other, c[n][side]);
          c[n][2 + side] = fmaf(lower, other, c[n][2 + side]);
        }
      }
    }
  } else {
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16;
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t x[4];
      if constexpr (kOverRows) {
        loadTransposed(a.row(k + lane / 16 * 8 + lane % 8) + first + lane / 8 % 2 * 8, x);
      } else {
        loadMatrices(a.row(first + lane % 16) + lane / 16 * 8 + k, x);
      }
#pragma unroll
      for (int n = 0; n < kCount; n += 2) {
        uint32_t y[4];
        if constexpr (kTurned) {
          loadMatrices(b.row(8 * n + lane / 16 * 8 + lane % 8) + k + lane / 8 % 2 * 8, y);
        } else {
          loadTransposed(b.row(k + lane % 16) + 8 * n + lane / 16 * 8, y);
        }
        multiplyAddOf<std::is_same_v<E, __nv_bfloat16>>(x, y[0], y[1], c[n]);
        multiplyAddOf<std::is_same_v<E, __nv_bfloat16>>(x, y[2], y[3], c[n + 1]);
      }
    }
  }
}

__device__ __forceinline__ void storePair(float* to, float x, float y) {
  *reinterpret_cast<float2*>(to) = make_float2(x, y);
}
template <class E>
__device__ __forceinline__ void storePair(E* to, float x, float y) {
  typename PairOf<E>::Type pair;
  narrow(make_float2(x, y), pair);
  *reinterpret_cast<typename PairOf<E>::Type*>(to) = pair;
}

/** c, times factors[row], to the warp's rows of a tile, which only the warp reads. */
template <class E, int kRows, int kWidth>
__device__ __forceinline__ void put(const float (&c)[kWidth / 8][4], const Tile<E, kRows, kWidth>& tile,
                                    const float (&factors)[2]) {
  __syncwarp();  // nobody reads what was there before
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      storePair(tile.row(rowOf(half)) + columnOf(n, 0), c[n][2 * half] * factors[half],
                c[n][2 * half + 1] * factors[half]);
    }
  }
  __syncwarp();
}
template <class E, int kRows, int kWidth>
__device__ __forceinline__ void put(const float (&c)[kWidth / 8][4], const Tile<E, kRows, kWidth>& tile) {
  const float plain[2] = {1, 1};
  put(c, tile, plain);
}

// ---- heads in memory ----

/** Rows of `columns` numbers each, `pitch` apart in memory; tiles are filled from its first row and column. */
template <class E>
struct Slice {
  E* data;
  int pitch, rows, columns;
  int padding;  // numbers after the last column that are no channel
  __device__ Slice from(int row, int column = 0) const {
    return {data + static_cast<size_t>(row) * pitch + column, pitch, rows - row, columns - column, padding};
  }
};

/** Queries, keys and values, each head after head, as channels of N x T x inChannels, and results, N x T x outChannels.
 */
struct HeadShape {
  int tokens, heads, width, inChannels, outChannels;
};
inline HeadShape headShapeOf(int tokens, int heads, int width) {
  return {tokens, heads, width, paddedChannels(3 * heads * width), paddedChannels(heads * width)};
}

/** One head of one sample: number `at` of N x heads. */
struct Head {
  int sample, head;
  __device__ Head(const HeadShape& shape, unsigned at) : sample(at / shape.heads), head(at % shape.heads) {}
  /** which: 0 queries, 1 keys, 2 values, of x or of its gradient. */
  template <class E>
  __device__ Slice<E> part(const HeadShape& s, E* x, int which) const {
    const int channels = s.heads * s.width, first = which * channels + head * s.width;
    const int padding = which == 2 && head + 1 == s.heads ? s.inChannels - 3 * channels : 0;
    return {x + static_cast<size_t>(sample) * s.tokens * s.inChannels + first, s.inChannels, s.tokens, s.width,
            padding};
  }
  /** Of y or of its gradient. */
  template <class E>
  __device__ Slice<E> result(const HeadShape& s, E* y) const {
    const int padding = head + 1 == s.heads ? s.outChannels - s.heads * s.width : 0;
    return {y + static_cast<size_t>(sample) * s.tokens * s.outChannels + head * s.width, s.outChannels, s.tokens,
            s.width, padding};
  }
};

/** What fetch does to numbers: nothing. */
struct AsTheyAre {
  __device__ float operator()(float x, int, int) const { return x; }
};

/** A slice's first rows and columns to a tile, each number x as map(x, row, column); 0 after the last row and column.
 * A block has two threads for each row. */
template <class E, int kRows, int kWidth, class Map = AsTheyAre>
__device__ void fetch(const Slice<const E>& from, const Tile<E, kRows, kWidth>& tile, const Map& map = {}) {
  constexpr int kThreads = 2 * kRows;
  if (from.columns % kChannelStep == 0) {  // then all heads begin at a multiple of 16 bytes
    constexpr int kPieces = kWidth / kChannelStep;
    for (int i = threadIdx.x; i < kRows * kPieces; i += kThreads) {
      const int row = i / kPieces, d = i % kPieces * kChannelStep;
      Raw<E> piece{};
      if (row < from.rows && d < from.columns) {
        piece = load(from.data + static_cast<size_t>(row) * from.pitch + d);
        if constexpr (!std::is_same_v<Map, AsTheyAre>) {
          Eight x = toFloats(piece);
#pragma unroll
          for (int k = 0; k < kChannelStep; ++k) x[k] = map(x[k], row, d + k);
          piece = Rounding<E>::of(x);
        }
      }
      store(tile.row(row) + d, piece);
    }
    return;
  }
  for (int i = threadIdx.x; i < kRows * kWidth; i += kThreads) {
    const int row = i / kWidth, d = i % kWidth;
    float x = 0;
    if (row < from.rows && d < from.columns)
      x = map(static_cast<float>(from.data[static_cast<size_t>(row) * from.pitch + d]), row, d);
    tile.row(row)[d] = static_cast<E>(x);
  }
}

/** The way back, of the rows and columns that there are; padding becomes 0. */
template <class E, int kRows, int kWidth>
__device__ void write(const Tile<E, kRows, kWidth>& tile, const Slice<E>& to) {
  constexpr int kThreads = 2 * kRows;
  const int rows = min(kRows, to.rows);
  if (to.columns % kChannelStep == 0) {
    const int pieces = min(kWidth, to.columns) / kChannelStep;
    for (int i = threadIdx.x; i < rows * pieces; i += kThreads) {
      const int row = i / pieces, d = i % pieces * kChannelStep;
      store(to.data + static_cast<size_t>(row) * to.pitch + d, load<E>(tile.row(row) + d));
    }
    return;
  }
  const int written = to.columns <= kWidth ? to.columns + to.padding : kWidth;
  for (int i = threadIdx.x; i < rows * written; i += kThreads) {
    const int row = i / written, d = i % written;
    to.data[static_cast<size_t>(row) * to.pitch + d] = d < to.columns ? tile.row(row)[d] : static_cast<E>(0.0f);
  }
}

}  // namespace comface::cuda
