// StyleGAN3's leaky ReLU (Karras et al., 2021, section 3.1): up by a filter, bent, down by a filter, tile by tile, so
// that the image in between, four or sixteen times as large, is in shared memory only. Roof of the usual filters (12
// taps at factor 2): 1 number read and written for each, 190 FLOP separable, 410 radial, of which half a load each from
// shared memory is the price.
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
  __host__ __device__ TileEdges(const FilteredRelu& a, int edge)
      : out(edge), between((edge - 1) * a.down + a.downTaps), in((between + a.upTaps - 2) / a.up + 1) {}
  /** Floats of two memories that the passes go back and forth between, and of the filters. */
  __host__ __device__ size_t first() const { return size_t{kChannelStep} * max(in * in, between * between); }
  __host__ __device__ size_t second() const { return size_t{kChannelStep} * between * max(in, out); }
  __host__ __device__ static int max(int a, int b) { return a > b ? a : b; }
};

size_t sharedBytes(const FilteredRelu& a, int edge) {
  const TileEdges tile(a, edge);
  const size_t taps = a.upTaps + (a.isRadial ? a.downTaps * a.downTaps : a.downTaps);
  return (tile.first() + tile.second() + taps) * sizeof(float);
}

/** The largest edge of the result's tile that fits; 0: none. */
int edgeOf(const FilteredRelu& a) {
  for (int edge = 32; edge > 0; edge -= edge > 8 ? 4 : 1) {
    if (sharedBytes(a, edge) <= kMostShared) return edge;
  }
  return 0;
}

__device__ inline int floorDivided(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

/** The factors and taps of a filter pair, known to the compiler or (0) not. */
template <int kUp, int kUpTaps, int kDown, int kDownTaps>
struct Filters {
  static __device__ int up(const FilteredRelu& a) { return kUp > 0 ? kUp : a.up; }
  static __device__ int upTaps(const FilteredRelu& a) { return kUp > 0 ? kUpTaps : a.upTaps; }
  static __device__ int down(const FilteredRelu& a) { return kUp > 0 ? kDown : a.down; }
  static __device__ int downTaps(const FilteredRelu& a) { return kUp > 0 ? kDownTaps : a.downTaps; }
};

/** What a block works on. Squares in shared memory are rows x columns x 8 channels. */
struct Block {
  int n, channel;         // the first of eight
  int outRow, outColumn;  // the result's first pixel
  int row, column;        // the first pixel between the filters
  int inRow, inColumn;    // the first pixel of x, which may lie outside
  __device__ Block(const FilteredRelu& a, const TileEdges& tile) {
    const unsigned groups = a.c / kChannelStep;
    const unsigned across = (a.outWidth + tile.out - 1) / tile.out, along = (a.outHeight + tile.out - 1) / tile.out;
    unsigned at = blockIdx.x;
    channel = static_cast<int>(at % groups) * kChannelStep, at /= groups;
    outColumn = static_cast<int>(at % across) * tile.out, at /= across;
    outRow = static_cast<int>(at % along) * tile.out, n = static_cast<int>(at / along);
    row = outRow * a.down, column = outColumn * a.down;
    // Number i between the filters reads those of z, x with zeros in between, from i on.
    inRow = -floorDivided(a.padLow - row, a.up), inColumn = -floorDivided(a.padLow - column, a.up);
  }
};

/** Calls body(row, column, channel) for a rows x columns square. */
template <class F>
__device__ inline void forSquare(int rows, int columns, const F& body) {
  for (int i = threadIdx.x; i < rows * columns * kChannelStep; i += kThreads) {
    const int pixel = i / kChannelStep;
    body(pixel / columns, pixel % columns, i % kChannelStep);
  }
}

__device__ inline int at(int row, int column, int columns, int channel) {
  return (row * columns + column) * kChannelStep + channel;
}

/** x + bias, 0 outside. */
__device__ void fetch(const FilteredRelu& a, const Block& block, const TileEdges& tile, float* to) {
  for (int i = threadIdx.x; i < tile.in * tile.in; i += kThreads) {
    const int row = block.inRow + i / tile.in, column = block.inColumn + i % tile.in;
    Eight x = splat(0);
    if (row >= 0 && row < a.inHeight && column >= 0 && column < a.inWidth) {
      const size_t pixel = (static_cast<size_t>(block.n) * a.inHeight + row) * a.inWidth + column;
      x = loadFloats(a.x + pixel * a.c + block.channel);
      const Eight bias = loadFloats(a.bias + block.channel);
#pragma unroll
      for (int k = 0; k < kChannelStep; ++k) x[k] += bias[k];
    }
    store(to + i * kChannelStep, Rounding<float>::of(x));
  }
}

/**
 * One number between the filters: the sum over k of taps[k] z[i + upTaps - 1 - k], where z is x at each up-th place
 * from padLow on. `from` holds x from `first` on, numbers `stride` apart; i: in the whole image.
 */
template <class F>
__device__ inline float filteredUp(const FilteredRelu& a, const float* taps, const float* from, int first, int stride,
                                   int i) {
  const int up = F::up(a), upTaps = F::upTaps(a);
  const int last = i + upTaps - 1 - a.padLow, x = floorDivided(last, up);
  const float* value = from + (x - first) * stride;
  float sum = 0;
  const int phase = last - x * up;
  const float* tap = taps + phase;
#pragma unroll
  for (int k = 0; k < (upTaps + up - 1) / up; ++k) {
    if (phase + k * up < upTaps) sum += tap[k * up] * value[-k * stride];
  }
  return sum;
}

/** The sum over k of taps[k] from[i down + downTaps - 1 - k], numbers `stride` apart. */
template <class F>
__device__ inline float filteredDown(const FilteredRelu& a, const float* taps, const float* from, int stride, int i) {
  const int downTaps = F::downTaps(a);
  const float* const last = from + (i * F::down(a) + downTaps - 1) * stride;
  float sum = 0;
#pragma unroll
  for (int k = 0; k < downTaps; ++k) sum += taps[k] * last[-k * stride];
  return sum;
}

__device__ inline float bent(const FilteredRelu& a, float x) {
  const float y = (x > 0 ? x : a.slope * x) * a.gain;
  return y < -a.clamp ? -a.clamp : y > a.clamp ? a.clamp : y;  // what is no number stays so
}

/** Grid: N x tiles of the result x eights of channels. Shared: two memories (TileEdges) and the filters. */
template <class F, bool kRadial>
__global__ void __launch_bounds__(kThreads) filteredKernel(FilteredRelu a, TileEdges tile) {
  COMFACE_DYNAMIC_SHARED(float, first);
  float *const second = first + tile.first(), *const upTaps = second + tile.second();
  float* const downTaps = upTaps + F::upTaps(a);
  const Block block(a, tile);
  // A filter up has a gain of `up` along each axis, for the zeros.
  for (int k = threadIdx.x; k < F::upTaps(a); k += kThreads)
    upTaps[k] = a.upFilter ? a.upFilter[k] * static_cast<float>(F::up(a)) : 1;
  const int downCount = kRadial ? F::downTaps(a) * F::downTaps(a) : F::downTaps(a);
  for (int k = threadIdx.x; k < downCount; k += kThreads) downTaps[k] = a.downFilter ? a.downFilter[k] : 1;
  fetch(a, block, tile, first);
  __syncthreads();
  forSquare(tile.in, tile.between, [&](int row, int column, int c) {
    const float* const from = first + at(row, 0, tile.in, c);
    second[at(row, column, tile.between, c)] =
        filteredUp<F>(a, upTaps, from, block.inColumn, kChannelStep, block.column + column);
  });
  __syncthreads();
  const int pitch = tile.between * kChannelStep;
  forSquare(tile.between, tile.between, [&](int row, int column, int c) {
    const float* const from = second + at(0, column, tile.between, c);
    first[at(row, column, tile.between, c)] =
        bent(a, filteredUp<F>(a, upTaps, from, block.inRow, pitch, block.row + row));
  });
  __syncthreads();
  if constexpr (!kRadial) {
    forSquare(tile.between, tile.out, [&](int row, int column, int c) {
      const float* const from = first + at(row, 0, tile.between, c);
      second[at(row, column, tile.out, c)] = filteredDown<F>(a, downTaps, from, kChannelStep, column);
    });
    __syncthreads();
  }
  forSquare(tile.out, tile.out, [&](int row, int column, int c) {
    if (block.outRow + row >= a.outHeight || block.outColumn + column >= a.outWidth) return;
    float sum = 0;
    if constexpr (kRadial) {
      const int taps = F::downTaps(a), last = row * F::down(a) + taps - 1;
      for (int k = 0; k < taps; ++k) {
        const float* const from = first + at(last - k, 0, tile.between, c);
        sum += filteredDown<F>(a, downTaps + k * taps, from, kChannelStep, column);
      }
    } else {
      sum = filteredDown<F>(a, downTaps, second + at(0, column, tile.out, c), tile.out * kChannelStep, row);
    }
    const size_t pixel =
        (static_cast<size_t>(block.n) * a.outHeight + block.outRow + row) * a.outWidth + block.outColumn + column;
    a.y[pixel * a.c + block.channel + c] = sum;
  });
}

template <class F>
void start(const FilteredRelu& args, cudaStream_t stream) {
  const int edge = edgeOf(args);
  const size_t across = (args.outWidth + edge - 1) / edge, along = (args.outHeight + edge - 1) / edge;
  const size_t blocks = args.n * across * along * (args.c / kChannelStep);
  const auto kernel = args.isRadial ? filteredKernel<F, true> : filteredKernel<F, false>;
  allowShared(kernel, sharedBytes(args, edge));
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), sharedBytes(args, edge), stream, args,
         TileEdges(args, edge));
}

}  // namespace

bool fitsFilteredRelu(const FilteredRelu& args) { return edgeOf(args) > 0; }

void filteredRelu(const FilteredRelu& args, cudaStream_t stream) {
  const auto are = [&](int up, int upTaps, int down, int downTaps) {
    return args.up == up && args.upTaps == upTaps && args.down == down && args.downTaps == downTaps;
  };
  if (are(2, 12, 2, 12)) return start<Filters<2, 12, 2, 12>>(args, stream);
  if (are(4, 24, 2, 12)) return start<Filters<4, 24, 2, 12>>(args, stream);
  start<Filters<0, 0, 0, 0>>(args, stream);
}

}  // namespace comface::cuda
