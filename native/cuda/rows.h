// How blocks of threads walk over a matrix of M rows and C channels (M x C, C a multiple of 8): each thread keeps to
// one column of eight channels, so that what belongs to a channel stays in registers, and sums end in one place per
// column.
#pragma once
#include <algorithm>

#include "cuda/number.h"

namespace comface::cuda {

inline constexpr int kThreads = 256;

/**
 * A block covers `columns` columns, 8 channels each, of `rows` rows at a time; blocks side by side cover all C
 * (grid.x), blocks under each other share the rows (grid.y).
 */
struct Tiling {
  int columns, slices, rows, rowBlocks;
};

/**
 * The same for all devices, since the order of sums follows from it. At most 1,584 blocks: 132 multiprocessors (H100
 * and H200) times 12, so that 2, 3, 4 or 6 resident blocks all come out in whole waves.
 */
inline Tiling tilingOf(size_t m, int c) {
  constexpr int kMostColumns = 32;  // 512 bytes of 16-bit numbers; more leaves fewer rows to add up inside a block
  constexpr size_t kMostBlocks = 1584, kLeastRowsOfThread = 8;
  const int columns = c / kChannelStep;
  Tiling tiling;
  tiling.slices = (columns + kMostColumns - 1) / kMostColumns;
  tiling.columns = (columns + tiling.slices - 1) / tiling.slices;
  tiling.rows = kThreads / tiling.columns;
  const size_t rowsOfBlock = tiling.rows * kLeastRowsOfThread;
  const size_t most = std::max<size_t>(1, kMostBlocks / tiling.slices);
  tiling.rowBlocks = static_cast<int>(std::clamp<size_t>((m + rowsOfBlock - 1) / rowsOfBlock, 1, most));
  return tiling;
}

/** Where a thread stands in its block and which channels are its own. */
struct Place {
  int row, channel;  // channel: the first of eight
  bool isActive;
};

__device__ inline Place placeOf(const Tiling& tiling, int slice, int c) {
  const int thread = threadIdx.x, row = thread / tiling.columns;
  const int column = slice * tiling.columns + thread % tiling.columns;
  return {row, column * kChannelStep, row < tiling.rows && column * kChannelStep < c};
}

template <int N>
struct Count {
  static constexpr int value = N;
};

/**
 * Calls body(Count<kUnroll>, row) for kUnroll rows at a time, `row` and every tiling.rows-th after it, so that their
 * loads are under way together, and body(Count<1>, row) for what is left over.
 */
template <int kUnroll, class F>
__device__ inline void forRows(const Tiling& tiling, const Place& place, size_t m, const F& body) {
  if (!place.isActive) return;
  const size_t chunk = static_cast<size_t>(tiling.rows) * kUnroll, step = chunk * gridDim.y;
  size_t row = blockIdx.y * chunk + place.row;
  for (; row + chunk - tiling.rows < m; row += step) body(Count<kUnroll>{}, row);
  if constexpr (kUnroll > 1) {
    for (int u = 0; u < kUnroll - 1 && row < m; ++u, row += tiling.rows) body(Count<1>{}, row);
  }
}

/** What sumOverRows needs of shared memory. */
inline constexpr size_t kSumBytes = kThreads * sizeof(Eight);

/**
 * Adds up the rows of a block. All threads take part; thread t < columns * 8 gets the sum of the slice's channel t.
 * The order depends on the tiling alone.
 */
__device__ inline float sumOverRows(const Tiling& tiling, const Eight& values, float* shared) {
  const int thread = threadIdx.x, channels = tiling.columns * kChannelStep;
  if (thread < tiling.rows * tiling.columns) store(shared + thread * kChannelStep, Rounding<float>::of(values));
  __syncthreads();
  // Few channels leave threads over: `parts` threads share a channel.
  const int parts = kThreads / channels, part = thread / channels, channel = thread % channels;
  float sum = 0;
  if (part < parts) {
    for (int row = part; row < tiling.rows; row += parts) sum += shared[row * channels + channel];
  }
  if (part < parts) shared[thread] = sum;  // a place that only this thread has read
  __syncthreads();
  if (part == 0) {
    for (int other = 1; other < parts; ++other) sum += shared[other * channels + channel];
  }
  __syncthreads();  // the next sum may use `shared`
  return sum;
}

// ---- sums over all blocks: each leaves its part, and a second kernel adds them up ----

/** Writes the block's part of sum number `which`: sums x rowBlocks x C. */
__device__ inline void leavePart(const Tiling& tiling, int c, const Eight& values, int which, float* shared,
                                 float* partials) {
  const float sum = sumOverRows(tiling, values, shared);
  const int thread = threadIdx.x, channel = blockIdx.x * tiling.columns * kChannelStep + thread;
  if (thread < tiling.columns * kChannelStep && channel < c) {
    partials[(static_cast<size_t>(which) * gridDim.y + blockIdx.y) * c + channel] = sum;
  }
}

/** Blocks that add up parts: a grid of C / 8, 8 channels (one sector of floats) by kSlots threads. */
inline constexpr int kSlots = kThreads / kChannelStep;
inline constexpr size_t kPartBytes = kThreads * sizeof(double);

/** Sum number `which` of channel c over the row blocks; every thread of the channel's column gets it. */
__device__ inline double sumOfParts(const float* partials, int rowBlocks, int c, int which, double* shared) {
  const int thread = threadIdx.x, slot = thread / kChannelStep;
  const int channel = blockIdx.x * kChannelStep + thread % kChannelStep;
  const float* part = partials + static_cast<size_t>(which) * rowBlocks * c + channel;
  double sum = 0;
#pragma unroll 4
  for (int block = slot; block < rowBlocks; block += kSlots) sum += part[static_cast<size_t>(block) * c];
  shared[thread] = sum;
  for (int half = kThreads / 2; half >= kChannelStep; half /= 2) {
    __syncthreads();
    if (thread < half) shared[thread] += shared[thread + half];
  }
  __syncthreads();
  sum = shared[thread % kChannelStep];
  __syncthreads();
  return sum;
}

}  // namespace comface::cuda
