// Efficient attention (Shen et al., 2021, section 3): a head's context, size x size, is a sum over its positions, and
// each result a product with it. Positions are cut into pieces, whose sums are added up in their order, so that none
// needs atomics. Roof: 4 N T C size FLOP forward, 8 backward, by tensor cores in 16 bits; below some hundred channels
// to a head it is memory: x is read twice and y written once; backward reads x twice, dy three times and y once.
#include <cmath>

#include "cuda/heads.h"

namespace comface::cuda {
namespace {

constexpr int kEdge = 64;  // of every tile: positions or channels
constexpr int kThreads = 2 * kEdge;
constexpr int kPiece = 1024;  // positions
constexpr int kRowThreads = 256, kColumns = 32, kSlices = 32;
constexpr float kPerBit = 1.44269504f;  // 1 / log 2

template <class E>
using Square = Tile<E, kEdge, kEdge>;

/** What kernels get: the call, and where its numbers lie; all but `pieces` one head after the other. */
struct Call {
  EfficientAttention a;
  HeadShape shape;
  float *logSums, *highest, *inverse, *contexts;  // saved: T; size; size; size x size
  float* pieces;                                  // N x heads x pieces x size x size; the first of each gets their sum
  float *alongs, *dots;                           // backward: size; T
  int pieceCount, tileCount;                      // of positions; of the channels of a head
  const void* dy = nullptr;
  void* dx = nullptr;

  __device__ size_t square() const { return static_cast<size_t>(shape.width) * shape.width; }
};

/** A query's share of a channel: softmax over the channels of its head. */
struct QueryShare {
  const float* logSums;  // of the tile's rows
  __device__ float operator()(float x, int row, int) const { return exponential2((x - logSums[row]) * kPerBit); }
};
/** A key's share of a position, times what its channel's shares add up to. */
struct KeyShare {
  const float* highest;  // of the tile's columns
  __device__ float operator()(float x, int, int column) const { return exponential2((x - highest[column]) * kPerBit); }
};

__device__ QueryShare queryShare(const Call& c, size_t head, int position) {
  return {c.logSums + head * c.shape.tokens + position};
}
__device__ KeyShare keyShare(const Call& c, size_t head, int channel) {
  return {c.highest + head * c.shape.width + channel};
}

// ---- softmaxes ----

/** A warp for each query of each head. */
struct Query {
  int token;
  size_t head;  // of N x heads
  bool isThere;
  __device__ explicit Query(const Call& c) {
    const size_t at = static_cast<size_t>(blockIdx.x) * (kRowThreads / 32) + threadIdx.x / 32;
    const size_t row = at / c.shape.heads, sample = row / c.shape.tokens;  // neighbors in memory, neighbors here
    token = static_cast<int>(row % c.shape.tokens);
    head = sample * c.shape.heads + at % c.shape.heads;
    isThere = sample < static_cast<size_t>(c.a.n);
  }
};

__device__ inline float warpMost(float value) {
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

template <class E>
__global__ void __launch_bounds__(kRowThreads) queriesKernel(Call c) {
  const Query query(c);
  if (!query.isThere) return;
  const int lane = threadIdx.x % 32;
  const E* const x = Head(c.shape, query.head).part(c.shape, static_cast<const E*>(c.a.x), 0).from(query.token).data;
  float most = -INFINITY, sum = 0;
  for (int j = lane; j < c.shape.width; j += 32) most = fmaxf(most, static_cast<float>(x[j]));
  most = warpMost(most);
  for (int j = lane; j < c.shape.width; j += 32) sum += exponential2((static_cast<float>(x[j]) - most) * kPerBit);
  sum = warpSum(sum);
  if (lane == 0) c.logSums[query.head * c.shape.tokens + query.token] = most + logf(sum);
}

/** dots: dy . y, which is the sum of each share of the query times its gradient. */
template <class E>
__global__ void __launch_bounds__(kRowThreads) dotsKernel(Call c) {
  const Query query(c);
  if (!query.isThere) return;
  const int lane = threadIdx.x % 32;
  const Head head(c.shape, query.head);
  const E* const y = head.result(c.shape, static_cast<const E*>(c.a.y)).from(query.token).data;
  const E* const dy = head.result(c.shape, static_cast<const E*>(c.dy)).from(query.token).data;
  float sum = 0;
  for (int j = lane; j < c.shape.width; j += 32) sum += static_cast<float>(y[j]) * static_cast<float>(dy[j]);
  sum = warpSum(sum);
  if (lane == 0) c.dots[query.head * c.shape.tokens + query.token] = sum;
}

/** Folds what the threads of a column have, in a fixed order; all of them get it. */
template <class Fold>
__device__ float overSlices(float value, float (&shared)[kSlices][kColumns + 1], const Fold& fold) {
  shared[threadIdx.y][threadIdx.x] = value;
  for (unsigned half = kSlices / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half)
      shared[threadIdx.y][threadIdx.x] =
          fold(shared[threadIdx.y][threadIdx.x], shared[threadIdx.y + half][threadIdx.x]);
  }
  __syncthreads();
  const float result = shared[0][threadIdx.x];
  __syncthreads();  // the next may use `shared`
  return result;
}

/** Grid: N x heads x columns of channels; a thread has every kSlices-th key of one channel. */
template <class E>
__global__ void __launch_bounds__(kColumns* kSlices) keysKernel(Call c) {
  __shared__ float shared[kSlices][kColumns + 1];
  const int columns = (c.shape.width + kColumns - 1) / kColumns;
  const size_t head = blockIdx.x / columns;
  const int channel = blockIdx.x % columns * kColumns + threadIdx.x;
  const bool isThere = channel < c.shape.width;
  const Slice<const E> keys = Head(c.shape, head).part(c.shape, static_cast<const E*>(c.a.x), 1);
  const auto keyAt = [&](int token) {
    return static_cast<float>(keys.data[static_cast<size_t>(token) * keys.pitch + channel]);
  };
  float most = -INFINITY, sum = 0;
  if (isThere) {
#pragma unroll 4
    for (int t = threadIdx.y; t < c.shape.tokens; t += kSlices) most = fmaxf(most, keyAt(t));
  }
  most = overSlices(most, shared, [](float a, float b) { return fmaxf(a, b); });
  if (isThere) {
#pragma unroll 4
    for (int t = threadIdx.y; t < c.shape.tokens; t += kSlices) sum += exponential2((keyAt(t) - most) * kPerBit);
  }
  sum = overSlices(sum, shared, [](float a, float b) { return a + b; });
  if (!isThere || threadIdx.y > 0) return;
  c.highest[head * c.shape.width + channel] = most;
  c.inverse[head * c.shape.width + channel] = 1 / sum;
}

// ---- the context, and its gradient: sums over positions ----

/**
 * One piece's sum over t of a[t,j] b[t,c]: of the keys' shares and the values, or, backward, of the queries' shares and
 * dy. Grid: N x heads x pieces x tiles of j x tiles of c. Shared: two tiles.
 */
template <class E, bool kBackward>
__global__ void __launch_bounds__(kThreads) sumsKernel(Call c) {
  COMFACE_DYNAMIC_SHARED(E, shared);
  const Square<E> left{shared}, right{left.end()};
  unsigned at = blockIdx.x;
  const int column = at % c.tileCount * kEdge;
  const int row = (at /= c.tileCount) % c.tileCount * kEdge;
  const int piece = (at /= c.tileCount) % c.pieceCount;
  const size_t index = at / c.pieceCount;
  const Head head(c.shape, index);
  const E* const x = static_cast<const E*>(c.a.x);
  const int end = min(c.shape.tokens, (piece + 1) * kPiece);
  float sums[kEdge / 8][4] = {};
  for (int first = piece * kPiece; first < end; first += kEdge) {
    __syncthreads();  // nobody reads the tiles before any more
    if constexpr (kBackward) {
      fetch(head.part(c.shape, x, 0).from(first, row), left, queryShare(c, index, first));
      fetch(head.result(c.shape, static_cast<const E*>(c.dy)).from(first, column), right);
    } else {
      fetch(head.part(c.shape, x, 1).from(first, row), left, keyShare(c, index, row));
      fetch(head.part(c.shape, x, 2).from(first, column), right);
    }
    __syncthreads();
    addProduct<Product::overRows>(left, right, sums);
  }
  float* const to = c.pieces + (index * c.pieceCount + piece) * c.square();
#pragma unroll
  for (int n = 0; n < kEdge / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int j = row + rowOf(i / 2), k = column + columnOf(n, i % 2);
      if (j < c.shape.width && k < c.shape.width) to[static_cast<size_t>(j) * c.shape.width + k] = sums[n][i];
    }
  }
}

/**
 * Adds up the pieces, a warp for each row of a head's square. Forward that, by the keys' sums, is the context. Backward
 * it is the context's gradient, which takes the place of the first piece, by the keys' sums too, since their shares
 * come without; and alongs are the sum over positions of each share times its gradient, which is that of a row of both.
 */
template <bool kBackward>
__global__ void __launch_bounds__(kRowThreads) finishKernel(Call c) {
  const size_t at = static_cast<size_t>(blockIdx.x) * (kRowThreads / 32) + threadIdx.x / 32;
  const size_t head = at / c.shape.width, row = at % c.shape.width;
  if (head >= static_cast<size_t>(c.a.n) * c.shape.heads) return;
  const int lane = threadIdx.x % 32;
  const float inverse = c.inverse[at];
  float* const pieces = c.pieces + head * c.pieceCount * c.square() + row * c.shape.width;
  float* const context = c.contexts + head * c.square() + row * c.shape.width;
  float along = 0;
  for (int k = lane; k < c.shape.width; k += 32) {
    float sum = 0;
#pragma unroll 4
    for (int piece = 0; piece < c.pieceCount; ++piece) sum += pieces[piece * c.square() + k];
    if constexpr (kBackward) {
      along += sum * context[k];
      pieces[k] = sum * inverse;
    } else {
      context[k] = sum * inverse;
    }
  }
  if constexpr (kBackward) {
    along = warpSum(along);
    if (lane == 0) c.alongs[at] = along * inverse;
  }
}

// ---- products with them, at each position ----

enum class Result { y, dQuery, dKey, dValue };

/** Tile (row, column) of a head's square. */
template <class E>
__device__ void fetchSquare(const Call& c, const float* square, int row, int column, const Square<E>& tile) {
  for (int i = threadIdx.x; i < kEdge * kEdge; i += kThreads) {
    const int j = row + i / kEdge, k = column + i % kEdge;
    const bool isThere = j < c.shape.width && k < c.shape.width;
    const float x = isThere ? square[static_cast<size_t>(j) * c.shape.width + k] : 0;
    tile.row(i / kEdge)[i % kEdge] = static_cast<E>(x);
  }
}

/** The positions that a product is of: of what, from position `first` and channel `channel` on. */
template <Result kResult, class E>
__device__ void fetchFactor(const Call& c, const Head& head, size_t index, int first, int channel,
                            const Square<E>& tile) {
  const E* const x = static_cast<const E*>(c.a.x);
  if constexpr (kResult == Result::y) {
    fetch(head.part(c.shape, x, 0).from(first, channel), tile, queryShare(c, index, first));
  } else if constexpr (kResult == Result::dQuery) {
    fetch(head.result(c.shape, static_cast<const E*>(c.dy)).from(first, channel), tile);
  } else if constexpr (kResult == Result::dKey) {
    fetch(head.part(c.shape, x, 2).from(first, channel), tile);
  } else {
    fetch(head.part(c.shape, x, 1).from(first, channel), tile, keyShare(c, index, channel));
  }
}

/** The gradient of a softmax: sums = share (sums - along), `tile` holding what the shares are of. */
template <Result kResult, class E>
__device__ void throughSoftmax(const Call& c, size_t index, int first, int channel, const Square<E>& tile,
                               float (&sums)[kEdge / 8][4]) {
#pragma unroll
  for (int n = 0; n < kEdge / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = rowOf(i / 2), column = columnOf(n, i % 2);
      if (first + row >= c.shape.tokens || channel + column >= c.shape.width) continue;
      const float x = static_cast<float>(tile.row(row)[column]);
      if constexpr (kResult == Result::dQuery) {
        sums[n][i] =
            queryShare(c, index, first)(x, row, column) * (sums[n][i] - c.dots[index * c.shape.tokens + first + row]);
      } else {
        sums[n][i] = keyShare(c, index, channel)(x, row, column) *
                     (sums[n][i] - c.alongs[index * c.shape.width + channel + column]);
      }
    }
  }
}

/**
 * y[t,c] = sum over j of query[t,j] context[j,c] and its like: the value's gradient is that of key and the context's
 * gradient; those of query and key are of dy and the context, of value and its gradient, summed over c. Grid: N x heads
 * x pieces x tiles of channels. Shared: two tiles.
 */
template <class E, Result kResult>
__global__ void __launch_bounds__(kThreads) positionsKernel(Call c) {
  COMFACE_DYNAMIC_SHARED(E, shared);
  constexpr bool kIsSoftmax = kResult == Result::dQuery || kResult == Result::dKey;
  constexpr int kPart = kResult == Result::dQuery ? 0 : kResult == Result::dKey ? 1 : 2;
  const Square<E> factor{shared}, square{factor.end()};
  unsigned at = blockIdx.x;
  const int channel = at % c.tileCount * kEdge;
  const int piece = (at /= c.tileCount) % c.pieceCount;
  const size_t index = at / c.pieceCount;
  const Head head(c.shape, index);
  const bool isOfContext = kResult == Result::y || kResult == Result::dQuery;
  const float* const from =
      isOfContext ? c.contexts + index * c.square() : c.pieces + index * c.pieceCount * c.square();
  const int end = min(c.shape.tokens, (piece + 1) * kPiece);
  for (int first = piece * kPiece; first < end; first += kEdge) {
    float sums[kEdge / 8][4] = {};
    for (int depth = 0; depth < c.shape.width; depth += kEdge) {
      __syncthreads();  // nobody reads the tiles before any more
      fetchFactor<kResult>(c, head, index, first, depth, factor);
      if (c.tileCount > 1 || first == piece * kPiece)
        fetchSquare(c, from, kIsSoftmax ? channel : depth, kIsSoftmax ? depth : channel, square);
      __syncthreads();
      addProduct<kIsSoftmax ? Product::turned : Product::across>(factor, square, sums);
    }
    if constexpr (kIsSoftmax) {
      __syncthreads();
      fetch(head.part(c.shape, static_cast<const E*>(c.a.x), kPart).from(first, channel), factor);
      __syncthreads();
      throughSoftmax<kResult>(c, index, first, channel, factor, sums);
    }
    put(sums, factor);
    __syncthreads();
    if constexpr (kResult == Result::y) {
      write(factor, head.result(c.shape, static_cast<E*>(c.a.y)).from(first, channel));
    } else {
      write(factor, head.part(c.shape, static_cast<E*>(c.dx), kPart).from(first, channel));
    }
  }
}

// ---- starting them ----

int tilesOf(int count, int size) { return (count + size - 1) / size; }

Call callOf(const EfficientAttention& args) {
  Call c{};
  c.a = args;
  c.shape = headShapeOf(args.tokens, args.heads, args.width);
  c.pieceCount = tilesOf(args.tokens, kPiece), c.tileCount = tilesOf(args.width, kEdge);
  const size_t heads = static_cast<size_t>(args.n) * args.heads, channels = heads * args.width;
  c.logSums = args.saved, c.highest = c.logSums + heads * args.tokens, c.inverse = c.highest + channels;
  c.contexts = c.inverse + channels;
  c.pieces = args.scratch, c.alongs = c.pieces + channels * args.width * c.pieceCount;
  c.dots = c.alongs + channels;
  return c;
}

size_t headsOf(const Call& c) { return static_cast<size_t>(c.a.n) * c.shape.heads; }

void start(void (*kernel)(Call), size_t blocks, int threads, size_t sharedBytes, const Call& c, cudaStream_t stream) {
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(threads), sharedBytes, stream, c);
}
/** A warp for each of `rows`. */
void startRows(void (*kernel)(Call), size_t rows, const Call& c, cudaStream_t stream) {
  start(kernel, (rows + kRowThreads / 32 - 1) / (kRowThreads / 32), kRowThreads, 0, c, stream);
}
/** Kernels on tiles; `tiles` of each piece. */
template <class E>
void startTiles(void (*kernel)(Call), size_t tiles, const Call& c, cudaStream_t stream) {
  start(kernel, headsOf(c) * c.pieceCount * tiles, kThreads, 2 * Square<E>::kBytes, c, stream);
}

}  // namespace

size_t efficientSaved(const EfficientAttention& args) {
  const size_t heads = static_cast<size_t>(args.n) * args.heads;
  return heads * (args.tokens + (size_t{2} + args.width) * args.width);
}
size_t efficientScratch(const EfficientAttention& args) {
  const size_t heads = static_cast<size_t>(args.n) * args.heads, square = static_cast<size_t>(args.width) * args.width;
  return heads * (tilesOf(args.tokens, kPiece) * square + args.width + args.tokens);
}

void efficientAttention(Number number, const EfficientAttention& args, cudaStream_t stream) {
  const Call c = callOf(args);
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    startRows(queriesKernel<E>, headsOf(c) * args.tokens, c, stream);
    launch(keysKernel<E>, dim3(static_cast<unsigned>(headsOf(c) * tilesOf(args.width, kColumns))),
           dim3(kColumns, kSlices), 0, stream, c);
    startTiles<E>(sumsKernel<E, false>, static_cast<size_t>(c.tileCount) * c.tileCount, c, stream);
    startRows(finishKernel<false>, headsOf(c) * args.width, c, stream);
    startTiles<E>(positionsKernel<E, Result::y>, c.tileCount, c, stream);
  });
}

void efficientAttentionBackward(Number number, const EfficientAttention& args, const void* dy, void* dx,
                                cudaStream_t stream) {
  Call c = callOf(args);
  c.dy = dy, c.dx = dx;
  withNumber(number, [&](auto zero) {
    using E = decltype(zero);
    startRows(dotsKernel<E>, headsOf(c) * args.tokens, c, stream);
    startTiles<E>(positionsKernel<E, Result::dQuery>, c.tileCount, c, stream);
    startTiles<E>(sumsKernel<E, true>, static_cast<size_t>(c.tileCount) * c.tileCount, c, stream);
    startRows(finishKernel<true>, headsOf(c) * args.width, c, stream);
    startTiles<E>(positionsKernel<E, Result::dKey>, c.tileCount, c, stream);
    startTiles<E>(positionsKernel<E, Result::dValue>, c.tileCount, c, stream);
  });
}

}  // namespace comface::cuda
