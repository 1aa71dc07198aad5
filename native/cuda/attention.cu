// Multi-head self-attention (Vaswani et al., 2017, section 3.2), tile by tile: a row of scores is never whole (Dao,
// 2023, "FlashAttention-2"). Forward keeps the logarithm of each row's sum, backward makes the scores again from it.
// Roof: 4 N T^2 C FLOP forward, 14 backward, whose two kernels both make the scores, so that each sum has one owner and
// none needs atomics. 16-bit numbers go to tensor cores and are added up in fp32; fp32 is exact, without them.
#include <cmath>

#include "cuda/heads.h"

namespace comface::cuda {
namespace {

/** Queries or keys of a tile, 16 to a warp. fp32 takes twice the memory. */
template <class E>
constexpr int kTile = sizeof(E) == 2 ? 64 : 32;
template <class E>
constexpr int kThreads = 2 * kTile<E>;

template <class E, int kWidth>
using TileOf = Tile<E, kTile<E>, kWidth>;

__device__ __forceinline__ bool isFirstOfQuad() { return threadIdx.x % 4 == 0; }

__device__ __forceinline__ float quadSum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float quadMost(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// ---- what a block works on ----

/** What kernels get: the call and what follows from it. */
struct Call {
  Attention a;
  HeadShape shape;
  float slope;               // of scores as powers of 2: 1 / (sqrt(width) log 2)
  float scale;               // 1 / sqrt(width)
  const void* dy = nullptr;  // the rest is for backward
  void* dx = nullptr;
  float* slopes = nullptr;  // N x heads x T: each query's sum of p dp, which is dy . y
};

/** A head of a sample, and there the tile of queries or of keys that begins at token `first`. */
template <class E>
struct Work {
  const HeadShape& shape;
  Head head;
  int first;
  size_t row;  // of the head's first query in a list of N x heads x T
  __device__ explicit Work(const Call& c) : Work(c, (c.a.tokens + kTile<E> - 1) / kTile<E>) {}
  template <class V>
  __device__ Slice<V> part(V* x, int which, int token) const {
    return head.part(shape, x, which).from(token);
  }
  template <class V>
  __device__ Slice<V> result(V* y, int token) const {
    return head.result(shape, y).from(token);
  }

 private:
  __device__ Work(const Call& c, unsigned tiles)
      : shape(c.shape),
        head(c.shape, blockIdx.x / tiles),
        first(blockIdx.x % tiles * kTile<E>),
        row(static_cast<size_t>(blockIdx.x / tiles) * c.a.tokens) {}
};

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
  const TileOf<E, kWidth> q{shared}, k{q.end()}, v{k.end()};
  const TileOf<E, kTile<E>> probabilities{v.end()};
  const Attention& a = call.a;
  const Work<E> work(call);
  const E* const x = static_cast<const E*>(a.x);
  fetch(work.part(x, 0, work.first), q);
  float y[kWidth / 8][4] = {};
  Running running;
  for (int first = 0; first < a.tokens; first += kTile<E>) {
    __syncthreads();  // nobody reads the tiles before any more
    fetch(work.part(x, 1, first), k);
    fetch(work.part(x, 2, first), v);
    __syncthreads();
    float s[kTile<E> / 8][4] = {};
    addProduct<Product::turned>(q, k, s);
#pragma unroll
    for (int n = 0; n < kTile<E> / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (first + columnOf(n, i % 2) >= a.tokens) s[n][i] = -INFINITY;
      }
    }
    advance(call.slope, running, s, y);
    put(s, probabilities);
    addProduct<Product::across>(probabilities, v, y);
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
  write(q, work.result(static_cast<E*>(a.y), work.first));
}

// ---- backward: p again, dp = dy v^T, ds = p (dp - sum of p dp) ----

/** dq = scale ds k, and the sums of p dp for the other kernel. Grid: as forward's. Shared: queries, their dy, keys,
 * values, kTile x kTile slopes. */
template <class E, int kWidth>
__global__ void __launch_bounds__(kThreads<E>) queriesKernel(Call call) {
  COMFACE_DYNAMIC_SHARED(E, shared);
  const TileOf<E, kWidth> q{shared}, dy{q.end()}, k{dy.end()}, v{k.end()};
  const TileOf<E, kTile<E>> slopes{v.end()};
  const Attention& a = call.a;
  const Work<E> work(call);
  const E* const x = static_cast<const E*>(a.x);
  fetch(work.part(x, 0, work.first), q);
  fetch(work.result(static_cast<const E*>(call.dy), work.first), dy);
  fetch(work.result(static_cast<const E*>(a.y), work.first), k);  // y, before there are keys
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
    fetch(work.part(x, 1, first), k);
    fetch(work.part(x, 2, first), v);
    __syncthreads();
    float s[kTile<E> / 8][4] = {}, ds[kTile<E> / 8][4] = {};
    addProduct<Product::turned>(q, k, s);
    addProduct<Product::turned>(dy, v, ds);
#pragma unroll
    for (int n = 0; n < kTile<E> / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float p = exponential2(fmaf(s[n][i], call.slope, -logSums[i / 2]));
        ds[n][i] = first + columnOf(n, i % 2) < a.tokens ? p * (ds[n][i] - means[i / 2]) : 0;
      }
    }
    put(ds, slopes);
    addProduct<Product::across>(slopes, k, dq);
  }
  const float factors[2] = {call.scale, call.scale};
  put(dq, q, factors);
  __syncthreads();
  write(q, work.part(static_cast<E*>(call.dx), 0, work.first));
}

/** dv = p^T dy and dk = scale ds^T q. Grid: N x heads x tiles of keys. Shared: keys, values, queries, their dy, kTile x
 * kTile numbers of p^T, then of ds^T, and two numbers for each query. */
template <class E, int kWidth>
__global__ void __launch_bounds__(kThreads<E>) keysKernel(Call call) {
  COMFACE_DYNAMIC_SHARED(E, shared);
  const TileOf<E, kWidth> k{shared}, v{k.end()}, q{v.end()}, dy{q.end()};
  const TileOf<E, kTile<E>> turned{dy.end()};
  float *const logSums = reinterpret_cast<float*>(turned.end()), *const means = logSums + kTile<E>;
  const Attention& a = call.a;
  const Work<E> work(call);
  const E* const x = static_cast<const E*>(a.x);
  fetch(work.part(x, 1, work.first), k);
  fetch(work.part(x, 2, work.first), v);
  float dk[kWidth / 8][4] = {}, dv[kWidth / 8][4] = {};
  for (int first = 0; first < a.tokens; first += kTile<E>) {
    __syncthreads();
    fetch(work.part(x, 0, first), q);
    fetch(work.result(static_cast<const E*>(call.dy), first), dy);
    if (threadIdx.x < kTile<E>) {  // no query after the last has a share: 2^-infinity
      const int token = first + threadIdx.x;
      logSums[threadIdx.x] = token < a.tokens ? a.logSums[work.row + token] : INFINITY;
      means[threadIdx.x] = token < a.tokens ? call.slopes[work.row + token] : 0;
    }
    __syncthreads();
    float p[kTile<E> / 8][4] = {}, ds[kTile<E> / 8][4] = {};
    addProduct<Product::turned>(k, q, p);
    addProduct<Product::turned>(v, dy, ds);
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
    addProduct<Product::across>(turned, dy, dv);
    put(ds, turned);
    addProduct<Product::across>(turned, q, dk);
  }
  const float factors[2] = {call.scale, call.scale};
  put(dk, k, factors);
  put(dv, v);
  __syncthreads();
  write(k, work.part(static_cast<E*>(call.dx), 1, work.first));
  write(v, work.part(static_cast<E*>(call.dx), 2, work.first));
}

// ---- starting them ----

Call callOf(const Attention& args) {
  const double root = std::sqrt(static_cast<double>(args.width));
  return {args, headShapeOf(args.tokens, args.heads, args.width), static_cast<float>(1 / (root * std::log(2.0))),
          static_cast<float>(1 / root)};
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
    constexpr size_t kBytes = 3 * TileOf<E, kWidth>::kBytes + TileOf<E, kTile<E>>::kBytes;
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
    constexpr size_t kBytes = 4 * TileOf<E, kWidth>::kBytes + TileOf<E, kTile<E>>::kBytes;
    start<E>(queriesKernel<E, kWidth>, kBytes, call, stream);
    start<E>(keysKernel<E, kWidth>, kBytes + 2 * kTile<E> * sizeof(float), call, stream);
  });
}

}  // namespace comface::cuda
