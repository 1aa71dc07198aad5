// InfoNCE, ComFace eq. (1): rows x width fp32 (2,048 to 65,536 x 128) to one number and its gradient, tile by tile.
// Tensor cores see each number as two halves with 22 bits together; fp32 comes back from three of the four products.
// Roof for R rows: forward 3 x R^2 x width FLOP (half of the matrix), backward 12 x, 8 R width bytes: compute bound.
// Tiles are added up in a fixed order: the same rows give the same bits on every device of one architecture.
#include <algorithm>
#include <cmath>

#include "cuda/infonce.h"
#include "cuda/launch.h"
#include "cuda/mma.h"

namespace comface::cuda {
namespace infonce {
namespace {

constexpr int kThreads = 256, kRows = 128, kColumns = 64;  // of a tile; each of 8 warps has 16 rows and all columns
constexpr int kWidest = 128;                               // wider rows are left to the plain kernels
constexpr float kSmallestTemperature = 0.023f;             // exp(-2 / temperature) is a normal float down to here
// Halves of z * 2^12 keep small numbers' low bits above fp16's smallest; weights, at most 2, go up to 2^14.
constexpr float kScale = 4096, kWeightScale = 8192;
constexpr int kMostSplits = 16;    // bounds the scratch
constexpr int kWorthIt = 32;       // a gain of less than one part in so many is not worth memory
constexpr int kLongestStrip = 16;  // tiles of a forward block: sums of that many floats stay exact enough
constexpr int kShortestFlush = 8;  // tiles that a backward block adds up in registers
constexpr int kFinishRows = 32;

// ---- the ends of both ways ----

/** Sum over the warp's lanes, in lane 0. */
__device__ double warpSum(double value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
  return value;
}

/** loss = sum of parts / rows. One block. */
__global__ void __launch_bounds__(kThreads) lossKernel(const double* parts, int count, int rows, double* loss) {
  __shared__ double sums[kThreads / 32];
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kThreads) sum += parts[i];
  sum = warpSum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < kThreads / 32; ++i) sum += sums[i];
  *loss = sum / rows;
}

__global__ void __launch_bounds__(kThreads) gatherKernel(Gather a, float* dz) {
  const size_t at = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= static_cast<size_t>(a.rows) * a.width) return;
  const int row = static_cast<int>(at / a.width), d = static_cast<int>(at % a.width);
  const int positive = row < a.rows / 2 ? row + a.rows / 2 : row - a.rows / 2;
  double sum = 0;
  for (int s = 0; s < a.splits; ++s) sum += a.parts[s * a.plane + static_cast<size_t>(row) * a.pitch + d];
  const double pull = 2.0 * a.z[static_cast<size_t>(positive) * a.width + d];
  dz[at] += static_cast<float>(*a.factor * a.scale * (a.unit * sum - pull));
}

// ---- normalized rows ----

/** z * kScale as the sum of two halves: planes high and low, padded x kWidth each, 0 where z has nothing. */
struct Halves {
  __half* high;
  size_t plane;  // halves from high to low
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads) splitKernel(const float* z, int rows, int width, Halves halves) {
  const size_t at = 2 * (static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x);
  const int row = static_cast<int>(at / kWidth), d = static_cast<int>(at % kWidth);
  const float* from = z + static_cast<size_t>(row) * width + d;
  const float x = row < rows && d < width ? from[0] * kScale : 0;
  const float y = row < rows && d + 1 < width ? from[1] * kScale : 0;
  uint32_t high, low;
  splitHalves(x, y, high, low);
  uint32_t* const words = reinterpret_cast<uint32_t*>(halves.high);
  words[at / 2] = high, words[(halves.plane + at) / 2] = low;
}

/** Where 8 halves lie in a tile. Rows have no padding; their pieces of 16 bytes are exchanged instead, so that the
 * same piece of 8 neighboring rows, which ldmatrix reads at once, lies in 8 different groups of banks. */
template <int kWidth>
__device__ __forceinline__ int place(int row, int piece) {
  return row * kWidth + (piece ^ (row & 7)) * 8;
}

/** Starts copying rows [first, first + kCount) of both planes to a tile: kCount x kWidth high, then as many low. */
template <int kWidth, int kCount>
__device__ __forceinline__ void fetchTile(const Halves& halves, int first, __half* tile) {
  constexpr int kPieces = kWidth / 8;
#pragma unroll
  for (int i = 0; i < 2 * kCount * kPieces / kThreads; ++i) {
    const int at = i * kThreads + threadIdx.x, piece = at % kPieces, row = at / kPieces % kCount;
    const int part = at / (kPieces * kCount);
    copyAsync(tile + part * kCount * kWidth + place<kWidth>(row, piece),
              halves.high + part * halves.plane + static_cast<size_t>(first + row) * kWidth + piece * 8);
  }
}

/**
 * s = kScale^2 z_row . z_column of the warp's 16 rows and the tile's columns: s[n] in multiplyAdd's layout for columns
 * 8n to 8n + 7. Tensor cores cut off what they add, so the small products have a sum of their own: with it, the error
 * is that of high * high alone.
 */
template <int kWidth>
__device__ __forceinline__ void similarities(const __half* rows, const __half* columns, float (&s)[kColumns / 8][4]) {
  float small[kColumns / 8][4] = {};
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane % 16;
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    uint32_t high[4], low[4];
    const int own = place<kWidth>(row, 2 * k + lane / 16);
    loadMatrices(rows + own, high);
    loadMatrices(rows + kRows * kWidth + own, low);
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      uint32_t otherHigh[4], otherLow[4];
      const int other = place<kWidth>(n * 8 + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2);
      loadMatrices(columns + other, otherHigh);
      loadMatrices(columns + kColumns * kWidth + other, otherLow);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiplyAdd(high, otherHigh[2 * i], otherHigh[2 * i + 1], s[n + i]);
        multiplyAdd(low, otherHigh[2 * i], otherHigh[2 * i + 1], small[n + i]);
        multiplyAdd(high, otherLow[2 * i], otherLow[2 * i + 1], small[n + i]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
    for (int i = 0; i < 4; ++i) s[n][i] += small[n][i];
  }
}

/** Which of a matrix's elements a thread holds: s[n][i] is that of row(i) and column(n, i). */
struct Position {
  int firstRow, firstColumn;
  __device__ Position(int block, int tile)
      : firstRow(block * kRows + static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4),
        firstColumn(tile * kColumns + static_cast<int>(threadIdx.x) % 4 * 2) {}
  __device__ int row(int i) const { return firstRow + i / 2 * 8; }
  __device__ int column(int n, int i) const { return firstColumn + n * 8 + i % 2; }
};

/** E = exp((similarity - 1) / temperature) = 2^(slope s - offset): at most 1, as no similarity of rows of length 1 is
 * larger, so nothing has to know a row's maximum. */
struct Exponent {
  float slope, offset;
};

/** s to E, 0 for a row with itself and beyond the last column. */
__device__ __forceinline__ void exponentials(const Exponent& e, const Position& at, int block, int tile, int rows,
                                             float (&s)[kColumns / 8][4]) {
  const bool hasSelf = tile / (kRows / kColumns) == block, isLast = (tile + 1) * kColumns > rows;
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = exponential2(fmaf(s[n][i], e.slope, -e.offset));
  }
  if (!hasSelf && !isLast) return;
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (at.column(n, i) == at.row(i) || at.column(n, i) >= rows) s[n][i] = 0;
    }
  }
}

/** Sums of E by row and by column, in parts: only tiles on and above the diagonal, which give the others by symmetry.
 */
struct Sums {
  Halves halves;
  int rows, padded, tiles, strip;  // a block has `strip` tiles of its rows, counted from the diagonal on
  Exponent exponent;
  float *rowSums, *columnSums;  // strips x padded; columnPart()
  float* positives;             // similarity of row j < rows / 2 to its positive
};

/** Where a block of rows keeps its sum of a column. It has only those to its right, so the planes get shorter. */
__host__ __device__ inline size_t columnPart(int block, int padded, int column) {
  const size_t b = block;
  return b * padded - kRows * b * (b + 1) / 2 + column - (b + 1) * kRows;
}

/** Keeps the similarities of positive pairs that lie in the tile. */
__device__ __forceinline__ void keepPositives(const Sums& a, const Position& at, int block, int tile,
                                              const float (&s)[kColumns / 8][4]) {
  const int nearest = block * kRows + a.rows / 2, first = tile * kColumns;
  if (first + kColumns <= nearest || first >= nearest + kRows) return;
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = at.column(n, i);
      if (column == at.row(i) + a.rows / 2 && column < a.rows) a.positives[at.row(i)] = s[n][i] / (kScale * kScale);
    }
  }
}

/** Sums of the tile's columns over the warp's 16 rows: 8 lanes share a column, and at each of three steps a lane gives
 * away half of its columns. Lane l ends with columns 2 l and 2 l + 1. */
__device__ __forceinline__ float2 columnSumsOf(const float (&e)[kColumns / 8][4]) {
  float c[kColumns / 4];
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) c[2 * n] = e[n][0] + e[n][2], c[2 * n + 1] = e[n][1] + e[n][3];
#pragma unroll
  for (int stage = 0; stage < 3; ++stage) {
    const int step = 16 >> stage, half = 8 >> stage;
    const bool isUpper = threadIdx.x & step;
#pragma unroll
    for (int i = 0; i < kColumns / 8; ++i) {
      if (i >= half) continue;
      const float front = c[i], back = c[i + half];
      c[i] = (isUpper ? back : front) + __shfl_xor_sync(0xffffffffu, isUpper ? front : back, step);
    }
  }
  return {c[0], c[1]};
}

/** Sum of this thread's 16 elements of one of its two rows. */
__device__ __forceinline__ float rowSumOf(const float (&e)[kColumns / 8][4], int half) {
  float pairs[kColumns / 8];
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) pairs[n] = e[n][2 * half] + e[n][2 * half + 1];
#pragma unroll
  for (int stage = 0; stage < 3; ++stage) {
#pragma unroll
    for (int n = 0; n < 4 >> stage; ++n) pairs[n] += pairs[n + (4 >> stage)];
  }
  return pairs[0];
}

/** Grid: strips x blocks of rows. Shared: the rows' tile, two tiles of columns, kColumns sums of each warp. */
template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1) sumsKernel(Sums a) {
  COMFACE_DYNAMIC_SHARED(__half, rows);
  const int block = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first = block * (kRows / kColumns) + blockIdx.x * a.strip, end = min(first + a.strip, a.tiles);
  if (first >= end) return;
  __half* const columns = rows + 2 * kRows * kWidth;
  constexpr int kTile = 2 * kColumns * kWidth;
  float* const warpSums = reinterpret_cast<float*>(columns + 2 * kTile);
  fetchTile<kWidth, kRows>(a.halves, block * kRows, rows);
  fetchTile<kWidth, kColumns>(a.halves, first * kColumns, columns);
  float upper = 0, lower = 0;
  for (int tile = first; tile < end; ++tile) {
    __half* const current = columns + (tile - first) % 2 * kTile;
    waitForCopies();
    __syncthreads();  // the tile is there, and nobody reads the other one any more
    if (tile + 1 < end)
      fetchTile<kWidth, kColumns>(a.halves, (tile + 1) * kColumns, columns + (tile + 1 - first) % 2 * kTile);
    float s[kColumns / 8][4];
    const Position at(block, tile);
    similarities<kWidth>(rows, current, s);
    keepPositives(a, at, block, tile, s);
    exponentials(a.exponent, at, block, tile, a.rows, s);
    upper += rowSumOf(s, 0), lower += rowSumOf(s, 1);
    if (tile / (kRows / kColumns) == block) continue;  // holds both an element and its mirror image
    reinterpret_cast<float2*>(warpSums)[warp * (kColumns / 2) + lane] = columnSumsOf(s);
    __syncthreads();
    if (threadIdx.x >= kColumns) continue;
    float sum = 0;
    for (int w = 0; w < kThreads / 32; ++w) sum += warpSums[w * kColumns + threadIdx.x];
    a.columnSums[columnPart(block, a.padded, tile * kColumns + threadIdx.x)] = sum;
  }
  for (int step = 1; step < 4; step *= 2) {
    upper += __shfl_xor_sync(0xffffffffu, upper, step);
    lower += __shfl_xor_sync(0xffffffffu, lower, step);
  }
  if (lane % 4 > 0) return;
  const size_t row = static_cast<size_t>(blockIdx.x) * a.padded + Position(block, first).firstRow;
  a.rowSums[row] = upper, a.rowSums[row + 8] = lower;
}

/** inverse_j = 1 / sum over k != j of E_jk, and the parts of the loss: log(sum) + (1 - s_pos) / temperature. Block: 32
 * rows x 8 threads that share the rows' parts. */
__global__ void __launch_bounds__(kThreads) finishKernel(Sums a, float temperature, float* inverses, double* parts) {
  __shared__ double sums[8][kFinishRows];
  const int row = blockIdx.x * kFinishRows + threadIdx.x, block = row / kRows;
  double sum = 0;
  if (row < a.rows) {
    const int strips = (a.tiles - block * (kRows / kColumns) + a.strip - 1) / a.strip;
    for (int i = threadIdx.y; i < strips; i += 8) sum += a.rowSums[static_cast<size_t>(i) * a.padded + row];
    for (int i = threadIdx.y; i < block; i += 8) sum += a.columnSums[columnPart(i, a.padded, row)];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0) return;
  for (int i = 1; i < 8; ++i) sum += sums[i][threadIdx.x];
  double part = 0;
  if (row < a.rows) {
    inverses[row] = static_cast<float>(1 / sum);
    const double positive = a.positives[row % (a.rows / 2)];
    part = log(sum) + (1 - positive) / temperature;
  }
  part = warpSum(part);
  if (threadIdx.x == 0) parts[blockIdx.x] = part;
}

/** What backward computes of one block of rows and `perSplit` tiles of columns. */
struct Weighted {
  Halves halves;
  int rows, tiles, perSplit;
  int flush;  // after so many tiles registers are added to `parts`: two short sums instead of one long one
  Exponent exponent;
  const float* inverses;
  float* parts;  // splits x padded x kWidth: kScale kWeightScale sum over k of (p_jk + p_kj) z_k
};

/** E to kWeightScale (p_jk + p_kj) as halves in multiplyAdd's layout of a: both matrices' elements lie in the same
 * lanes, two neighboring s[n] make one a. */
__device__ __forceinline__ void weights(const float (&e)[kColumns / 8][4], const float* columnInverses, float upper,
                                        float lower, uint32_t (&high)[kColumns / 16][4],
                                        uint32_t (&low)[kColumns / 16][4]) {
  const int q = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
    const float x = columnInverses[n * 8 + 2 * q], y = columnInverses[n * 8 + 2 * q + 1];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float own = half == 0 ? upper : lower;
      const int at = n % 2 * 2 + half;
      splitHalves(kWeightScale * e[n][2 * half] * (own + x), kWeightScale * e[n][2 * half + 1] * (own + y),
                  high[n / 2][at], low[n / 2][at]);
    }
  }
}

/** sums (16 x kWidth) += weights (16 x kColumns) times the tile's rows. Each tile starts from 0 and is added in fp32:
 * tensor cores cut off at every step, and with thousands of steps that would be seen. */
template <int kWidth>
__device__ __forceinline__ void addWeighted(const __half* columns, const uint32_t (&high)[kColumns / 16][4],
                                            const uint32_t (&low)[kColumns / 16][4], float (&sums)[kWidth / 8][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int group = 0; group < kWidth / 8; group += 4) {
    float big[4][4] = {}, small[4][4] = {};
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) {
#pragma unroll
      for (int n = 0; n < 4; n += 2) {
        uint32_t otherHigh[4], otherLow[4];
        const int other = place<kWidth>(k * 16 + lane % 16, group + n + lane / 16);
        loadTransposed(columns + other, otherHigh);
        loadTransposed(columns + kColumns * kWidth + other, otherLow);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          multiplyAdd(high[k], otherHigh[2 * i], otherHigh[2 * i + 1], big[n + i]);
          multiplyAdd(low[k], otherHigh[2 * i], otherHigh[2 * i + 1], small[n + i]);
          multiplyAdd(high[k], otherLow[2 * i], otherLow[2 * i + 1], small[n + i]);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[group + n][i] += big[n][i] + small[n][i];
    }
  }
}

/** Starts copying 1 / L of the tile's columns, 0 beyond the last. */
__device__ __forceinline__ void fetchInverses(const Weighted& a, int tile, float* shared) {
  if (threadIdx.x >= kColumns) return;
  const int column = tile * kColumns + threadIdx.x;
  if (column < a.rows) {
    copyAsync(shared + threadIdx.x, a.inverses + column);
  } else {
    shared[threadIdx.x] = 0;
  }
}

/** Moves the sums to `parts`, where the block's first ones have to start it. */
template <int kWidth>
__device__ __forceinline__ void flush(float* part, bool isFirst, float (&sums)[kWidth / 8][4]) {
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      float2* const to = reinterpret_cast<float2*>(part + i / 2 * 8 * kWidth + n * 8);
      float2 sum = {sums[n][i], sums[n][i + 1]};
      if (!isFirst) sum.x += to->x, sum.y += to->y;
      *to = sum;
      sums[n][i] = sums[n][i + 1] = 0;
    }
  }
}

/** Grid: splits x blocks of rows. Shared: the rows' tile, two tiles of columns with their 1 / L. */
template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1) weightedKernel(Weighted a) {
  COMFACE_DYNAMIC_SHARED(__half, rows);
  constexpr int kTile = 2 * kColumns * kWidth;
  __half* const columns = rows + 2 * kRows * kWidth;
  float* const columnInverses = reinterpret_cast<float*>(columns + 2 * kTile);
  const int block = blockIdx.y, first = blockIdx.x * a.perSplit, end = min(first + a.perSplit, a.tiles);
  fetchTile<kWidth, kRows>(a.halves, block * kRows, rows);
  fetchTile<kWidth, kColumns>(a.halves, first * kColumns, columns);
  fetchInverses(a, first, columnInverses);
  const int row = Position(block, first).firstRow;
  const float upper = row < a.rows ? a.inverses[row] : 0, lower = row + 8 < a.rows ? a.inverses[row + 8] : 0;
  float* const part =
      a.parts + (static_cast<size_t>(blockIdx.x) * gridDim.y * kRows + row) * kWidth + threadIdx.x % 4 * 2;
  float sums[kWidth / 8][4] = {};
  for (int tile = first; tile < end; ++tile) {
    const int now = (tile - first) % 2, next = 1 - now;
    waitForCopies();
    __syncthreads();  // the tile is there, and nobody reads the other one any more
    if (tile + 1 < end) {
      fetchTile<kWidth, kColumns>(a.halves, (tile + 1) * kColumns, columns + next * kTile);
      fetchInverses(a, tile + 1, columnInverses + next * kColumns);
    }
    uint32_t high[kColumns / 16][4], low[kColumns / 16][4];
    {
      float s[kColumns / 8][4];
      similarities<kWidth>(rows, columns + now * kTile, s);
      exponentials(a.exponent, Position(block, tile), block, tile, a.rows, s);
      weights(s, columnInverses + now * kColumns, upper, lower, high, low);
    }
    addWeighted<kWidth>(columns + now * kTile, high, low, sums);
    const int done = tile + 1 - first;
    if (done % a.flush == 0 || tile + 1 == end) flush<kWidth>(part, done <= a.flush, sums);
  }
}

// ---- starting them ----

Exponent exponentOf(float temperature) {
  const double slope = 1 / (std::log(2.0) * temperature);
  return {static_cast<float>(slope / (static_cast<double>(kScale) * kScale)), static_cast<float>(slope)};
}

/** Of the triangle of tiles: the length of strip for which waves of blocks, with a tile's time to begin, take least. */
int stripOf(int rowBlocks, int tiles) {
  int best = 1;
  int64_t least = INT64_MAX;
  for (int strip = 1; strip <= kLongestStrip; ++strip) {
    int blocks = 0;
    for (int b = 0; b < rowBlocks; ++b) blocks += blocksOf(tiles - b * (kRows / kColumns), strip);
    const int64_t cost = static_cast<int64_t>(blocksOf(blocks, kProcessors)) * (strip + 1);
    if (cost < least) least = cost, best = strip;
  }
  return best;
}

/** How a loss of so many rows is laid out. */
struct Layout {
  int width, rowBlocks, padded, tiles;
  Layout(int rows, int width)
      : width(width <= kWidest / 2 ? kWidest / 2 : kWidest),
        rowBlocks(blocksOf(rows, kRows)),
        padded(rowBlocks * kRows),
        tiles(blocksOf(rows, kColumns)) {}
  Halves halves(Pieces& pieces) const {
    const size_t plane = static_cast<size_t>(padded) * width;
    return {pieces.next<__half>(2 * plane), plane};
  }
  /** Bytes of the rows' tile and two tiles of columns. */
  size_t tileBytes() const { return 2 * (kRows + 2 * kColumns) * width * sizeof(__half); }
};

struct ForwardPieces {
  int strip;
  Halves halves;
  float *rowSums, *columnSums;
  double* parts;
  ForwardPieces(const Layout& layout, int rows, Pieces& pieces)
      : strip(stripOf(layout.rowBlocks, layout.tiles)), halves(layout.halves(pieces)) {
    rowSums = pieces.next<float>(static_cast<size_t>(blocksOf(layout.tiles, strip)) * layout.padded);
    columnSums = pieces.next<float>(columnPart(layout.rowBlocks - 1, layout.padded, layout.padded));
    parts = pieces.next<double>(blocksOf(rows, kFinishRows));
  }
};

struct BackwardPieces {
  Splits splits;
  Halves halves;
  float* parts;
  BackwardPieces(const Layout& layout, Pieces& pieces)
      : splits(splitsOf(layout.rowBlocks, layout.tiles)), halves(layout.halves(pieces)) {
    parts = pieces.next<float>(static_cast<size_t>(splits.count) * layout.padded * layout.width);
  }
};

bool usesTensorCores(const InfoNce& args) {
  return args.isNormalized && args.temperature >= kSmallestTemperature && args.width <= kWidest;
}

template <int kWidth>
void split(const InfoNce& args, const Layout& layout, const Halves& halves, cudaStream_t stream) {
  const size_t pairs = static_cast<size_t>(layout.padded) * kWidth / 2;
  launch(splitKernel<kWidth>, blocksOf(pairs, kThreads), kThreads, 0, stream, args.z, args.rows, args.width, halves);
}

template <int kWidth>
void forward(const InfoNce& args, double* loss, cudaStream_t stream) {
  const Layout layout(args.rows, args.width);
  Pieces pieces(args.scratch);
  const ForwardPieces p(layout, args.rows, pieces);
  split<kWidth>(args, layout, p.halves, stream);
  const Sums sums = {p.halves,     args.rows,    layout.padded,
                     layout.tiles, p.strip,      exponentOf(args.temperature),
                     p.rowSums,    p.columnSums, args.saved + args.rows};
  const size_t shared = layout.tileBytes() + kThreads / 32 * kColumns * sizeof(float);
  allowShared(sumsKernel<kWidth>, shared);
  launch(sumsKernel<kWidth>, dim3(blocksOf(layout.tiles, p.strip), layout.rowBlocks), kThreads, shared, stream, sums);
  const int blocks = blocksOf(args.rows, kFinishRows);
  launch(finishKernel, blocks, dim3(kFinishRows, kThreads / kFinishRows), 0, stream, sums, args.temperature, args.saved,
         p.parts);
  finishLoss(p.parts, blocks, args.rows, loss, stream);
}

template <int kWidth>
void backward(const InfoNce& args, const float* factor, float* dz, cudaStream_t stream) {
  const Layout layout(args.rows, args.width);
  Pieces pieces(args.scratch);
  const BackwardPieces p(layout, pieces);
  split<kWidth>(args, layout, p.halves, stream);
  const int balanced = static_cast<int>(std::sqrt(static_cast<double>(p.splits.perSplit)));
  const Weighted weighted = {p.halves,
                             args.rows,
                             layout.tiles,
                             p.splits.perSplit,
                             std::max(balanced, kShortestFlush),
                             exponentOf(args.temperature),
                             args.saved,
                             p.parts};
  const size_t shared = layout.tileBytes() + 2 * kColumns * sizeof(float);
  allowShared(weightedKernel<kWidth>, shared);
  launch(weightedKernel<kWidth>, dim3(p.splits.count, layout.rowBlocks), kThreads, shared, stream, weighted);
  Gather parts(args, factor);
  parts.parts = p.parts, parts.splits = p.splits.count;
  parts.pitch = kWidth, parts.plane = static_cast<size_t>(layout.padded) * kWidth;
  parts.unit = 1.0 / (static_cast<double>(kScale) * kWeightScale);
  gather(parts, dz, stream);
}

}  // namespace

Splits splitsOf(int rowBlocks, int tiles) {
  const int most = std::min(tiles, kMostSplits);
  const auto splits = [&](int count) {
    const int perSplit = blocksOf(tiles, count);
    return Splits{blocksOf(tiles, perSplit), perSplit};
  };
  const auto cost = [&](const Splits& s) {  // in tiles' times, with one to begin and to end
    return static_cast<int64_t>(blocksOf(static_cast<size_t>(rowBlocks) * s.count, kProcessors)) * (s.perSplit + 1);
  };
  int64_t least = INT64_MAX;
  for (int count = 1; count <= most; ++count) least = std::min(least, cost(splits(count)));
  // Each split wants a plane of memory: no more of them than gain something.
  int count = 1;
  while (kWorthIt * cost(splits(count)) > (kWorthIt + 1) * least) ++count;
  return splits(count);
}

void finishLoss(const double* parts, int count, int rows, double* loss, cudaStream_t stream) {
  launch(lossKernel, 1, kThreads, 0, stream, parts, count, rows, loss);
}

void gather(const Gather& args, float* dz, cudaStream_t stream) {
  launch(gatherKernel, blocksOf(static_cast<size_t>(args.rows) * args.width, kThreads), kThreads, 0, stream, args, dz);
}

}  // namespace infonce

using namespace infonce;

size_t infoNceScratch(int rows, int width) {
  size_t most = plainScratch(rows, width);
  if (width > kWidest) return most;
  const Layout layout(rows, width);
  Pieces forward(nullptr), backward(nullptr);
  const ForwardPieces forwardPieces(layout, rows, forward);
  const BackwardPieces backwardPieces(layout, backward);
  return std::max({most, forward.used(), backward.used()});
}

void infoNce(const InfoNce& args, double* loss, cudaStream_t stream) {
  if (!usesTensorCores(args)) return plain(args, loss, stream);
  args.width <= kWidest / 2 ? forward<kWidest / 2>(args, loss, stream) : forward<kWidest>(args, loss, stream);
}

void infoNceBackward(const InfoNce& args, const float* factor, float* dz, cudaStream_t stream) {
  if (!usesTensorCores(args)) return plainBackward(args, factor, dz, stream);
  args.width <= kWidest / 2 ? backward<kWidest / 2>(args, factor, dz, stream)
                            : backward<kWidest>(args, factor, dz, stream);
}

}  // namespace comface::cuda
