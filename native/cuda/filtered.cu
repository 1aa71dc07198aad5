// StyleGAN3's leaky ReLU (Karras et al., 2021, section 3.1): up by a filter, bent, down by a filter, tile by tile, so
// that the image in between, four or sixteen times as large, is in shared memory only. Sums of the usual filters (taps
// in registers, windows shared by neighbors) load half a number for each product. Roof of those, 12 taps at factor 2: 1
// number read and written for each, 230 FLOP separable and 430 radial, halos included.
#include "cuda/generator.h"
#include "cuda/number.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256;
/** Of a block, so that a GPU of compute capability 8.6 has them; two blocks of an A100 or H200. */
constexpr size_t kMostShared = 96 << 10;

/** Edges of the squares that a block works on, of eight channels each: `out` of the result, `between` of what is
 * between the filters, `in` of what that is made of. */
struct TileEdges {
  int out, between, in;
  __host__ __device__ constexpr TileEdges(int edge, int up, int upTaps, int down, int downTaps)
      : out(edge), between((edge - 1) * down + downTaps), in((between + upTaps - 2) / up + 1) {}
  /** Floats of two memories that the passes go back and forth between. */
  __host__ __device__ constexpr int first() const { return kChannelStep * most(in * in, between * between); }
  __host__ __device__ constexpr int second() const { return kChannelStep * between * most(in, out); }

 private:
  __host__ __device__ static constexpr int most(int a, int b) { return a > b ? a : b; }
};

/** Filters that the compiler knows. Neighbors that a thread adds up together share what they read. */
template <int kUp, int kUpTaps, int kDown, int kDownTaps>
struct Known {
  static constexpr int kTapsUp = kUpTaps, kWindow = kUpTaps / kUp, kTapsDown = kDownTaps, kStrip = 8;
  static_assert(kUpTaps % kUp == 0);
  static __device__ constexpr int up(const FilteredRelu&) { return kUp; }
  static __device__ constexpr int upTaps(const FilteredRelu&) { return kUpTaps; }
  static __device__ constexpr int down(const FilteredRelu&) { return kDown; }
  static __device__ constexpr int downTaps(const FilteredRelu&) { return kDownTaps; }
  static __host__ __device__ constexpr TileEdges tile(const FilteredRelu&, int) {
    return {2 * kStrip, kUp, kUpTaps, kDown, kDownTaps};
  }
};
/** Any others. 0: known when it runs. */
struct Others {
  static constexpr int kTapsUp = 0, kWindow = 0, kTapsDown = 0, kStrip = 1;
  static __device__ int up(const FilteredRelu& a) { return a.up; }
  static __device__ int upTaps(const FilteredRelu& a) { return a.upTaps; }
  static __device__ int down(const FilteredRelu& a) { return a.down; }
  static __device__ int downTaps(const FilteredRelu& a) { return a.downTaps; }
  static __host__ __device__ TileEdges tile(const FilteredRelu& a, int edge) {
    return {edge, a.up, a.upTaps, a.down, a.downTaps};
  }
};

size_t sharedBytes(const FilteredRelu& a, const TileEdges& tile) {
  const size_t taps = a.upTaps + (a.isRadial ? a.downTaps * a.downTaps : a.downTaps);
  return (static_cast<size_t>(tile.first()) + tile.second() + taps) * sizeof(float);
}

/** The largest edge of the result's tile that fits; 0: none. */
int edgeOf(const FilteredRelu& a) {
  for (int edge = 32; edge > 0; edge -= edge > 8 ? 4 : 1) {
    if (sharedBytes(a, Others::tile(a, edge)) <= kMostShared) return edge;
  }
  return 0;
}

/** Numbers that are `stride` apart in shared memory: in registers, if the compiler knows how many, else there. */
template <int kCount>
struct Held {
  float own[kCount];
  __device__ Held(const float* from, int stride) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) own[k] = from[k * stride];
  }
  __device__ float operator[](int k) const { return own[k]; }
};
template <>
struct Held<0> {
  const float* from;
  int stride;
  __device__ Held(const float* from, int stride) : from(from), stride(stride) {}
  __device__ float operator[](int k) const { return from[k * stride]; }
};

__device__ inline int floorDivided(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

/** What lies along rows, or along columns, of a block's tile. */
struct Axis {
  int between;  // the first number between the filters
  int in;       // the first of x, which may lie outside
  int last;     // the last of x that the first between the filters reads, from `in` on
  int phase;    // of the `up` numbers that read the same of x, those before the first
  template <class F>
  __device__ static Axis of(const FilteredRelu& a, int out) {
    const int up = F::up(a), between = out * F::down(a);
    const int end = between + F::upTaps(a) - 1 - a.padLow, x = floorDivided(end, up);
    const int in = -floorDivided(a.padLow - between, up);
    return {between, in, x - in, end - x * up};
  }
  /** Groups of numbers that read the same of x. */
  template <class F>
  __device__ int groups(const FilteredRelu& a, int count) const {
    return (count - 1 + phase) / F::up(a) + 1;
  }
};

/** The part of the result that a block makes, and eight channels. Squares in shared memory are rows x columns x 8. */
struct Block {
  int n, channel, row, column;
  __device__ Block(const FilteredRelu& a, int edge) {
    const unsigned groups = a.c / kChannelStep;
    const unsigned across = (a.outWidth + edge - 1) / edge, along = (a.outHeight + edge - 1) / edge;
    unsigned i = blockIdx.x;
    channel = static_cast<int>(i % groups) * kChannelStep, i /= groups;
    column = static_cast<int>(i % across) * edge, i /= across;
    row = static_cast<int>(i % along) * edge, n = static_cast<int>(i / along);
  }
};

__device__ inline int at(int row, int column, int columns, int channel) {
  return (row * columns + column) * kChannelStep + channel;
}
/** Calls body(outer, inner, channel): inner ones and channels are neighbors in a warp. */
template <class F>
__device__ inline void forEach(int outers, int inners, const F& body) {
  for (int i = threadIdx.x; i < outers * inners * kChannelStep; i += kThreads) {
    const int pixel = i / kChannelStep;
    body(pixel / inners, pixel % inners, i % kChannelStep);
  }
}

/** x + bias, 0 outside. */
template <class E>
__device__ inline void fetch(const FilteredRelu& a, const Block& block, int firstRow, int firstColumn, int edge,
                             float* to) {
  for (int i = threadIdx.x; i < edge * edge; i += kThreads) {
    const int row = firstRow + i / edge, column = firstColumn + i % edge;
    Eight x = splat(0);
    if (row >= 0 && row < a.inHeight && column >= 0 && column < a.inWidth) {
      const size_t pixel = (static_cast<size_t>(block.n) * a.inHeight + row) * a.inWidth + column;
      x = toFloats(load(static_cast<const E*>(a.x) + pixel * a.c + block.channel));
      const Eight bias = loadFloats(a.bias + block.channel);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) x[k] += bias[k];
    }
    store(to + i * kChannelStep, Rounding<float>::of(x));
  }
}

/**
 * Number i between the filters is the sum over k of taps[k] z[i + upTaps - 1 - k], where z is x at each up-th place
 * from padLow on. Calls put(i, sum) for the numbers of a group that are in [0, count). last: the last of x that it
 * reads.
 */
template <class F, class Put>
__device__ inline void filterUp(const FilteredRelu& a, const Axis& axis, const Held<F::kTapsUp>& taps,
                                const float* last, int stride, int group, int count, const Put& put) {
  const int up = F::up(a), upTaps = F::upTaps(a);
  const Held<F::kWindow> x(last, -stride);
#pragma unroll
  for (int phase = 0; phase < up; ++phase) {
    const int i = group * up + phase - axis.phase;
    if (i < 0 || i >= count) continue;
    float sum = 0;
#pragma unroll
    for (int k = 0; phase + k * up < upTaps; ++k) sum += taps[phase + k * up] * x[k];
    put(i, sum);
  }
}

/** sums[s] += the sum over k of taps[k] from[s down + downTaps - 1 - k], for a strip's numbers. */
template <class F>
__device__ inline void filterDown(const FilteredRelu& a, const Held<F::kTapsDown>& taps, const float* from, int stride,
                                  float (&sums)[F::kStrip]) {
  const int down = F::down(a), downTaps = F::downTaps(a);
#pragma unroll
  for (int i = 0; i < (F::kStrip - 1) * down + downTaps; ++i) {
    const float value = from[i * stride];
#pragma unroll
    for (int s = 0; s < F::kStrip; ++s) {
      const int k = s * down + downTaps - 1 - i;
      if (k >= 0 && k < downTaps) sums[s] += taps[k] * value;
    }
  }
}

__device__ inline float bent(const FilteredRelu& a, float x) {
  const float y = (x > 0 ? x : a.slope * x) * a.gain;
  return y < -a.clamp ? -a.clamp : y > a.clamp ? a.clamp : y;  // what is no number stays so
}

/** Grid: N x tiles of the result x eights of channels. Shared: two memories (TileEdges) and the filters. */
template <class F, bool kRadial, class E>
__global__ void __launch_bounds__(kThreads) filteredKernel(FilteredRelu a, int edge) {
  COMFACE_DYNAMIC_SHARED(float, first);
  const TileEdges tile = F::tile(a, edge);
  float *const second = first + tile.first(), *const up = second + tile.second(), *const down = up + F::upTaps(a);
  const Block block(a, tile.out);
  const Axis rows = Axis::of<F>(a, block.row), columns = Axis::of<F>(a, block.column);
  const int downTaps = F::downTaps(a), pitch = tile.between * kChannelStep;
  // A filter up has a gain of `up` along each axis, for the zeros.
  for (int k = threadIdx.x; k < F::upTaps(a); k += kThreads)
    up[k] = a.upFilter ? a.upFilter[k] * static_cast<float>(F::up(a)) : 1;
  for (int k = threadIdx.x; k < (kRadial ? downTaps * downTaps : downTaps); k += kThreads)
    down[k] = a.downFilter ? a.downFilter[k] : 1;
  fetch<E>(a, block, rows.in, columns.in, tile.in, first);
  __syncthreads();
  const Held<F::kTapsUp> upTaps(up, 1);
  forEach(tile.in, columns.groups<F>(a, tile.between), [&](int row, int group, int c) {
    const float* const last = first + at(row, columns.last + group, tile.in, c);
    filterUp<F>(a, columns, upTaps, last, kChannelStep, group, tile.between,
                [&](int column, float sum) { second[at(row, column, tile.between, c)] = sum; });
  });
  __syncthreads();
  forEach(rows.groups<F>(a, tile.between), tile.between, [&](int group, int column, int c) {
    const float* const last = second + at(rows.last + group, column, tile.between, c);
    filterUp<F>(a, rows, upTaps, last, pitch, group, tile.between,
                [&](int row, float sum) { first[at(row, column, tile.between, c)] = bent(a, sum); });
  });
  __syncthreads();
  if constexpr (!kRadial) {
    const Held<F::kTapsDown> taps(down, 1);
    forEach(tile.out / F::kStrip, tile.between, [&](int strip, int row, int c) {
      float sums[F::kStrip] = {};
      filterDown<F>(a, taps, first + at(row, strip * F::kStrip * F::down(a), tile.between, c), kChannelStep, sums);
#pragma unroll
      for (int s = 0; s < F::kStrip; ++s) second[at(row, strip * F::kStrip + s, tile.out, c)] = sums[s];
    });
    __syncthreads();
  }
  forEach(tile.out / F::kStrip, tile.out, [&](int strip, int column, int c) {
    const int row = strip * F::kStrip;
    float sums[F::kStrip] = {};
    if constexpr (kRadial) {
      for (int l = 0; l < downTaps; ++l) {
        const Held<F::kTapsDown> taps(down + l, downTaps);
        const int from = column * F::down(a) + downTaps - 1 - l;
        filterDown<F>(a, taps, first + at(row * F::down(a), from, tile.between, c), pitch, sums);
      }
    } else {
      const Held<F::kTapsDown> taps(down, 1);
      filterDown<F>(a, taps, second + at(row * F::down(a), column, tile.out, c), tile.out * kChannelStep, sums);
    }
#pragma unroll
    for (int s = 0; s < F::kStrip; ++s) {
      const int y = block.row + row + s, x = block.column + column;
      if (y >= a.outHeight || x >= a.outWidth) continue;
      const size_t pixel = (static_cast<size_t>(block.n) * a.outHeight + y) * a.outWidth + x;
      static_cast<E*>(a.y)[pixel * a.c + block.channel + c] = static_cast<E>(sums[s]);
    }
  });
}

template <class F, class E>
void start(const FilteredRelu& args, cudaStream_t stream) {
  const TileEdges tile = F::tile(args, edgeOf(args));
  const size_t across = (args.outWidth + tile.out - 1) / tile.out, along = (args.outHeight + tile.out - 1) / tile.out;
  const size_t blocks = args.n * across * along * (args.c / kChannelStep), bytes = sharedBytes(args, tile);
  const auto kernel = args.isRadial ? filteredKernel<F, true, E> : filteredKernel<F, false, E>;
  allowShared(kernel, bytes);
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), bytes, stream, args, tile.out);
}

template <class F>
void start(const FilteredRelu& args, cudaStream_t stream) {
  args.number == Number::fp32 ? start<F, float>(args, stream) : start<F, __half>(args, stream);
}

}  // namespace

bool fitsFilteredRelu(const FilteredRelu& args) { return edgeOf(args) > 0; }

void filteredRelu(const FilteredRelu& args, cudaStream_t stream) {
  const auto are = [&](int up, int upTaps, int down, int downTaps) {
    return args.up == up && args.upTaps == upTaps && args.down == down && args.downTaps == downTaps;
  };
  if (are(2, 12, 2, 12)) return start<Known<2, 12, 2, 12>>(args, stream);
  if (are(4, 24, 2, 12)) return start<Known<4, 24, 2, 12>>(args, stream);
  start<Others>(args, stream);
}

}  // namespace comface::cuda
