// Multi-head self-attention (Vaswani et al., 2017, section 3.2), tile by tile: a row of scores is never whole (Dao,
// 2023, "FlashAttention-2"). Forward keeps the logarithm of each row's sum, backward makes the scores again from it.
// Roof: 4 N T^2 C FLOP forward, 14 backward, whose two kernels both make the scores, so that each sum has one owner and
// none needs atomics. 16-bit numbers go to tensor cores and are added up in fp32; fp32 is exact, without them.
#include <cmath>
#include <type_traits>

#include "cuda/mma.h"
#include "cuda/number.h"

namespace comface::cuda {
namespace {

/** Queries or keys of a tile, 16 to a warp. fp32 takes twice the memory. */
template <class E>
constexpr int kTile = sizeof(E) == 2 ? 64 : 32;
template <class E>
constexpr int kThreads = 2 * kTile<E>;

/** kTile rows of shared memory. They are 16 bytes longer than their numbers, so that the same piece of 8 neighboring
 * rows, which ldmatrix reads at once, lies in 8 different groups of banks. */
template <class E, int kWidth>
struct Tile {
  static constexpr int kPitch = kWidth + 16 / static_cast<int>(sizeof(E));
  static constexpr size_t kBytes = sizeof(E) * kTile<E> * kPitch;
  E* data;
  __device__ E* row(int r) const { return data + r * kPitch; }
  __device__ E* end() const { return data + kTile<E> * kPitch; }
};

/** c[n][i] of a thread, in multiplyAdd's layout, is the number of the tile's row rowOf(i / 2) and column columnOf(n, i
 * % 2). Each warp has 16 rows; the four threads of a quad share two of them. */
__device__ __forceinline__ int rowOf(int half) { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * half; }
__device__ __forceinline__ int columnOf(int n, int side) { return 8 * n + threadIdx.x % 4 * 2 + side; }
__device__ __forceinline__ bool isFirstOfQuad() { return threadIdx.x % 4 == 0; }

__device__ __forceinline__ float quadSum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float quadMost(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/**
 * c (the warp's 16 rows x 8 kCount) += a b. b is across: its rows are those of the tile. Else its columns are the
 * tile's rows, that is c = a (tile)^T.
 */
template <bool kAcross, class E, int kDepth, int kWidth, int kCount>
__device__ __forceinline__ void addProduct(const Tile<E, kDepth>& a, const Tile<E, kWidth>& b, float (&c)[kCount][4]) {
  static_assert(kCount * 8 == (kAcross ? kWidth : kTile<E>)&&kDepth == (kAcross ? kTile<E> : kWidth));
  if constexpr (sizeof(E) == 4) {
#pragma unroll 4
    for (int k = 0; k < kDepth; ++k) {
      const float upper = a.row(rowOf(0))[k], lower = a.row(rowOf(1))[k];
#pragma unroll
      for (int n = 0; n < kCount; ++n) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          const int column = columnOf(n, side);
          const float other = kAcross ? b.row(k)[column] : b.row(column)[k];
          c[n][side] = fmaf(upper, other, c[n][side]);
          c[n][2 + side] = fmaf(lower, other, c[n][2 + side]);
        }
      }
    }
  } else {
    const int lane = threadIdx.x % 32;
    const E* const own = a.row(threadIdx.x / 32 * 16 + lane % 16) + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t x[4];
      loadMatrices(own + k, x);
#pragma unroll
      for (int n = 0; n < kCount; n += 2) {
        uint32_t y[4];
        if constexpr (kAcross) {
          loadTransposed(b.row(k + lane % 16) + 8 * n + lane / 16 * 8, y);
        } else {
          loadMatrices(b.row(8 * n + lane / 16 * 8 + lane % 8) + k + lane / 8 % 2 * 8, y);
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
template <class E, int kWidth>
__device__ __forceinline__ void put(const float (&c)[kWidth / 8][4], const Tile<E, kWidth>& tile,
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
template <class E, int kWidth>
__device__ __forceinline__ void put(const float (&c)[kWidth / 8][4], const Tile<E, kWidth>& tile) {
  const float plain[2] = {1, 1};
  put(c, tile, plain);
}

// ---- what a block works on ----

/** What kernels get: the call and what follows from it. */
struct Call {
  Attention a;
  int inChannels, outChannels;  // of a token in memory
  float slope;                  // of scores as powers of 2: 1 / (sqrt(width) log 2)
  float scale;                  // 1 / sqrt(width)
  const void* dy = nullptr;     // the rest is for backward
  void* dx = nullptr;
  float* slopes = nullptr;  // N x heads x T: each query's sum of p dp, which is dy . y
};

/** One head of one sample in a tensor: token t begins at data + t * pitch. */
template <class E>
struct Slice {
  E* data;
  int pitch;
  int padding;  // numbers after those of this head that are no channel
};

/** A head of a sample, and there the tile of queries or of keys that begins at token `first`. */
template <class E>
struct Work {
  int sample, head, first, channels;
  bool isLastHead;
  size_t row;  // of the head's first query in a list of N x heads x T
  __device__ explicit Work(const Attention& a) {
    const unsigned tiles = (a.tokens + kTile<E> - 1) / kTile<E>, at = blockIdx.x / tiles;
    sample = at / a.heads, head = at % a.heads, first = blockIdx.x % tiles * kTile<E>;
    channels = a.heads * a.width, isLastHead = head + 1 == a.heads;
    row = static_cast<size_t>(at) * a.tokens;
  }
  /** which: 0 queries, 1 keys, 2 values, of x or of its gradient. */
  template <class V>
  __device__ Slice<V> part(const Call& c, V* x, int which) const {
    return {x + static_cast<size_t>(sample) * c.a.tokens * c.inChannels + which * channels + head * c.a.width,
            c.inChannels, isLastHead && which == 2 ? c.inChannels - 3 * channels : 0};
  }
  /** Of y or of its gradient. */
  template <class V>
  __device__ Slice<V> result(const Call& c, V* y) const {
    return {y + static_cast<size_t>(sample) * c.a.tokens * c.outChannels + head * c.a.width, c.outChannels,
            isLastHead ? c.outChannels - channels : 0};
  }
};

/** Tokens [first, first + kTile) of a slice to a tile, 0 after the last token and the last channel. */
template <class E, int kWidth>
__device__ void fetch(const Attention& a, const Slice<const E>& from, int first, const Tile<E, kWidth>& tile) {
  if (a.width % kChannelStep == 0) {  // then all heads begin at a multiple of 16 bytes
    constexpr int kPieces = kWidth / kChannelStep;
    for (int i = threadIdx.x; i < kTile<E> * kPieces; i += kThreads<E>) {
      const int row = i / kPieces, d = i % kPieces * kChannelStep;
      Raw<E> piece{};
      if (first + row < a.tokens && d < a.width)
        piece = load(from.data + static_cast<size_t>(first + row) * from.pitch + d);
      store(tile.row(row) + d, piece);
    }
    return;
  }
  for (int i = threadIdx.x; i < kTile<E> * kWidth; i += kThreads<E>) {
    const int row = i / kWidth, d = i % kWidth;
    const bool isThere = first + row < a.tokens && d < a.width;
    tile.row(row)[d] = isThere ? from.data[static_cast<size_t>(first + row) * from.pitch + d] : static_cast<E>(0.0f);
  }
}

/** The way back, of the tokens and channels that there are; padding becomes 0. */
template <class E, int kWidth>
__device__ void write(const Attention& a, const Tile<E, kWidth>& tile, const Slice<E>& to, int first) {
  const int rows = min(kTile<E>, a.tokens - first);
  if (a.width % kChannelStep == 0) {
    const int pieces = a.width / kChannelStep;
    for (int i = threadIdx.x; i < rows * pieces; i += kThreads<E>) {
      const int row = i / pieces, d = i % pieces * kChannelStep;
      store(to.data + static_cast<size_t>(first + row) * to.pitch + d, load<E>(tile.row(row) + d));
    }
    return;
  }
  const int written = a.width + to.padding;
  for (int i = threadIdx.x; i < rows * written; i += kThreads<E>) {
    const int row = i / written, d = i % written;
    to.data[static_cast<size_t>(first + row) * to.pitch + d] = d < a.width ? tile.row(row)[d] : static_cast<E>(0.0f);
  }
}

// ---- forward ----

/** Softmax of a thread's two rows so far (Milakov and Gimelshein, 2018), scores being powers of 2. */
struct Running {
  float highest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0, 0};  // of this thread's columns, sum of 2^(score - highest)
};

/** s to 2^(slope s - highest); what was added up with a lower `highest` shrinks. */
template <int kCount, int kWide>
__device__ __forceinline__ void advance(float slope, Running& running, float (&s)[kCount][4], float (&y)[kWide][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float most = -INFINITY;
#pragma unroll
    for (int n = 0; n < kCount; ++n) most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    const float highest = fmaxf(running.highest[half], quadMost(most) * slope);
    const float shrink = exponential2(running.highest[half] - highest);
    running.highest[half] = highest, running.total[half] *= shrink;
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        s[n][i] = exponential2(fmaf(s[n][i], slope, -highest));
        running.total[half] += s[n][i];
      }
    }
#pragma unroll
    for (int n = 0; n < kWide; ++n) y[n][2 * half] *= shrink, y[n][2 * half + 1] *= shrink;
  }
}

/** Grid: N x heads x tiles of queries. Shared: queries, keys, values, kTile x kTile probabilities. */
template <class E, int kWidth>
__global__ void __launch_bounds__(kThreads<E>) attentionKernel(Call call) {
  COMFACE_DYNAMIC_SHARED(E, shared);
  const Tile<E, kWidth> q{shared}, k{q.end()}, v{k.end()};
  const Tile<E, kTile<E>> probabilities{v.end()};
  const Attention& a = call.a;
  const Work<E> work(a);
  const E* const x = static_cast<const E*>(a.x);
  fetch(a, work.part(call, x, 0), work.first, q);
  float y[kWidth / 8][4] = {};
  Running running;
  for (int first = 0; first < a.tokens; first += kTile<E>) {
    __syncthreads();  // nobody reads the tiles before any more
    fetch(a, work.part(call, x, 1), first, k);
    fetch(a, work.part(call, x, 2), first, v);
    __syncthreads();
    float s[kTile<E> / 8][4] = {};
    addProduct<false>(q, k, s);
#pragma unroll
    for (int n = 0; n < kTile<E> / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (first + columnOf(n, i % 2) >= a.tokens) s[n][i] = -INFINITY;
      }
    }
    advance(call.slope, running, s, y);
    put(s, probabilities);
    addProduct<true>(probabilities, v, y);
  }
  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = quadSum(running.total[half]);
    const int token = work.first + rowOf(half);
    factors[half] = 1 / total;
    if (a.logSums && isFirstOfQuad() && token < a.tokens)
      a.logSums[work.row + token] = running.highest[half] + log2f(total);
  }
  put(y, q, factors);
  __syncthreads();
  write(a, q, work.result(call, static_cast<E*>(a.y)), work.first);
}

// ---- backward: p again, dp = dy v^T, ds = p (dp - sum of p dp) ----

/** dq = scale ds k, and the sums of p dp for the other kernel. Grid: as forward's. Shared: queries, their dy, keys,
 * values, kTile x kTile slopes. */
template <class E, int kWidth>
__global__ void __launch_bounds__(kThreads<E>) queriesKernel(Call call) {
  COMFACE_DYNAMIC_SHARED(E, shared);
  const Tile<E, kWidth> q{shared}, dy{q.end()}, k{dy.end()}, v{k.end()};
  const Tile<E, kTile<E>> slopes{v.end()};
  const Attention& a = call.a;
  const Work<E> work(a);
  const E* const x = static_cast<const E*>(a.x);
  fetch(a, work.part(call, x, 0), work.first, q);
  fetch(a, work.result(call, static_cast<const E*>(call.dy)), work.first, dy);
  fetch(a, work.result(call, static_cast<const E*>(a.y)), work.first, k);  // y, before there are keys
  __syncthreads();
  float means[2], logSums[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = 0;
    for (int d = threadIdx.x % 4; d < kWidth; d += 4)
      sum += static_cast<float>(dy.row(rowOf(half))[d]) * static_cast<float>(k.row(rowOf(half))[d]);
    means[half] = quadSum(sum);
    const int token = work.first + rowOf(half);
    logSums[half] = token < a.tokens ? a.logSums[work.row + token] : INFINITY;
    if (isFirstOfQuad() && token < a.tokens) call.slopes[work.row + token] = means[half];
  }
  float dq[kWidth / 8][4] = {};
  for (int first = 0; first < a.tokens; first += kTile<E>) {
    __syncthreads();
    fetch(a, work.part(call, x, 1), first, k);
    fetch(a, work.part(call, x, 2), first, v);
    __syncthreads();
    float s[kTile<E> / 8][4] = {}, ds[kTile<E> / 8][4] = {};
    addProduct<false>(q, k, s);
    addProduct<false>(dy, v, ds);
#pragma unroll
    for (int n = 0; n < kTile<E> / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float p = exponential2(fmaf(s[n][i], call.slope, -logSums[i / 2]));
        ds[n][i] = first + columnOf(n, i % 2) < a.tokens ? p * (ds[n][i] - means[i / 2]) : 0;
      }
    }
    put(ds, slopes);
    addProduct<true>(slopes, k, dq);
  }
  const float factors[2] = {call.scale, call.scale};
  put(dq, q, factors);
  __syncthreads();
  write(a, q, work.part(call, static_cast<E*>(call.dx), 0), work.first);
}

/** dv = p^T dy and dk = scale ds^T q. Grid: N x heads x tiles of keys. Shared: keys, values, queries, their dy, kTile x
 * kTile numbers of p^T, then of ds^T, and two numbers for each query. */
template <class E, int kWidth>
__global__ void __launch_bounds__(kThreads<E>) keysKernel(Call call) {
  COMFACE_DYNAMIC_SHARED(E, shared);
  const Tile<E, kWidth> k{shared}, v{k.end()}, q{v.end()}, dy{q.end()};
  const Tile<E, kTile<E>> turned{dy.end()};
  float *const logSums = reinterpret_cast<float*>(turned.end()), *const means = logSums + kTile<E>;
  const Attention& a = call.a;
  const Work<E> work(a);
  const E* const x = static_cast<const E*>(a.x);
  fetch(a, work.part(call, x, 1), work.first, k);
  fetch(a, work.part(call, x, 2), work.first, v);
  float dk[kWidth / 8][4] = {}, dv[kWidth / 8][4] = {};
  for (int first = 0; first < a.tokens; first += kTile<E>) {
    __syncthreads();
    fetch(a, work.part(call, x, 0), first, q);
    fetch(a, work.result(call, static_cast<const E*>(call.dy)), first, dy);
    if (threadIdx.x < kTile<E>) {  // no query after the last has a share: 2^-infinity
      const int token = first + threadIdx.x;
      logSums[threadIdx.x] = token < a.tokens ? a.logSums[work.row + token] : INFINITY;
      means[threadIdx.x] = token < a.tokens ? call.slopes[work.row + token] : 0;
    }
    __syncthreads();
    float p[kTile<E> / 8][4] = {}, ds[kTile<E> / 8][4] = {};
    addProduct<false>(k, q, p);
    addProduct<false>(v, dy, ds);
#pragma unroll
    for (int n = 0; n < kTile<E> / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int query = columnOf(n, i % 2);
        p[n][i] = exponential2(fmaf(p[n][i], call.slope, -logSums[query]));
        ds[n][i] = p[n][i] * (ds[n][i] - means[query]);
      }
    }
    put(p, turned);
    addProduct<true>(turned, dy, dv);
    put(ds, turned);
    addProduct<true>(turned, q, dk);
  }
  const float factors[2] = {call.scale, call.scale};
  put(dk, k, factors);
  put(dv, v);
  __syncthreads();
  write(a, k, work.part(call, static_cast<E*>(call.dx), 1), work.first);
  write(a, v, work.part(call, static_cast<E*>(call.dx), 2), work.first);
}

// ---- starting them ----

Call callOf(const Attention& args) {
  const double root = std::sqrt(static_cast<double>(args.width));
  return {args, paddedChannels(3 * args.heads * args.width), paddedChannels(args.heads * args.width),
          static_cast<float>(1 / (root * std::log(2.0))), static_cast<float>(1 / root)};
}

template <class E>
void start(void (*kernel)(Call), size_t sharedBytes, const Call& call, cudaStream_t stream) {
  const size_t tiles = (call.a.tokens + kTile<E> - 1) / kTile<E>;
  const size_t blocks = static_cast<size_t>(call.a.n) * call.a.heads * tiles;
  allowShared(kernel, sharedBytes);
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads<E>), sharedBytes, stream, call);
}

template <int N>
struct Width {
  static constexpr int value = N;
};

/** Calls body with a zero of the number type and the width of tiles that a head fits in. */
template <class F>
void withTile(Number number, int width, const F& body) {
  withNumber(number, [&](auto zero) {
    if (width <= 32) {
      body(zero, Width<32>{});
    } else if (width <= 64) {
      body(zero, Width<64>{});
    } else {
      body(zero, Width<kWidestHead>{});
    }
  });
}

}  // namespace

void attention(Number number, const Attention& args, cudaStream_t stream) {
  withTile(number, args.width, [&](auto zero, auto width) {
    using E = decltype(zero);
    constexpr int kWidth = decltype(width)::value;
    constexpr size_t kBytes = 3 * Tile<E, kWidth>::kBytes + Tile<E, kTile<E>>::kBytes;
    start<E>(attentionKernel<E, kWidth>, kBytes, callOf(args), stream);
  });
}

void attentionBackward(Number number, const Attention& args, const void* dy, void* dx, float* slopes,
                       cudaStream_t stream) {
  Call call = callOf(args);
  call.dy = dy, call.dx = dx, call.slopes = slopes;
  withTile(number, args.width, [&](auto zero, auto width) {
    using E = decltype(zero);
    constexpr int kWidth = decltype(width)::value;
    constexpr size_t kBytes = 4 * Tile<E, kWidth>::kBytes + Tile<E, kTile<E>>::kBytes;
    start<E>(queriesKernel<E, kWidth>, kBytes, call, stream);
    start<E>(keysKernel<E, kWidth>, kBytes + 2 * kTile<E> * sizeof(float), call, stream);
  });
}

}  // namespace comface::cuda
