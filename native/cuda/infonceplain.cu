// InfoNCE, ComFace eq. (1), by a running maximum in fp32: rows of any length (logits of any size) and any width.
// rows x width fp32. Roof for R rows: 2 R^2 width FLOP forward, 4 to 6 backward, without tensor cores: for correctness.
// Long sums of equal numbers drift in fp32, so terms meet a few at a time and meet the rest in double.
#include <algorithm>
#include <cmath>

#include "cuda/infonce.h"
#include "cuda/launch.h"

namespace comface::cuda::infonce {
namespace {

constexpr int kThreads = 256, kTile = 64, kDepth = 32;  // a tile: 64 rows x 64 columns, 32 numbers of each at a time
constexpr int kPitch = kTile + 1;                       // odd, so that a column of a tile lies in different banks
constexpr int kOwn = 4;  // a thread has rows 4 (t / 16) to + 3 and columns t % 16, + 16, + 32, + 48
constexpr int kFinish = 128;

struct Logits {
  const float* z;  // rows x width
  int rows, width, perSplit;
  float temperature;
  float* positives;  // rows: each row's logit with its positive
};

/** Columns [first, first + kDepth) of rows [row, row + kTile) of z, transposed; 0 beyond z. */
__device__ void loadTransposed(const Logits& a, int row, int first, float* shared) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    const int r = row + i / kDepth, d = first + i % kDepth;
    shared[i % kDepth * kPitch + i / kDepth] =
        r < a.rows && d < a.width ? a.z[static_cast<size_t>(r) * a.width + d] : 0;
  }
}

/** s = z_row . z_column / temperature for this thread's elements of a tile; -inf for a row with itself and beyond the
 * last column. Adds in the order of d, so that s_jk and s_kj are the same. shared: 2 x kDepth x kPitch. */
__device__ void logits(const Logits& a, int firstRow, int firstColumn, float* shared, float (&s)[kOwn][kOwn]) {
  float* const columns = shared + kDepth * kPitch;
  const int y = threadIdx.x / 16, x = threadIdx.x % 16;
  for (int i = 0; i < kOwn; ++i) {
    for (int j = 0; j < kOwn; ++j) s[i][j] = 0;
  }
  for (int first = 0; first < a.width; first += kDepth) {
    __syncthreads();  // nobody reads what was there before
    loadTransposed(a, firstRow, first, shared);
    loadTransposed(a, firstColumn, first, columns);
    __syncthreads();
    const int depth = min(kDepth, a.width - first);
    for (int d = 0; d < depth; ++d) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < kOwn; ++j)
          s[i][j] = fmaf(shared[d * kPitch + y * kOwn + i], columns[d * kPitch + x + 16 * j], s[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int row = firstRow + y * kOwn + i, column = firstColumn + x + 16 * j;
      s[i][j] = column == row || column >= a.rows ? -INFINITY : s[i][j] / a.temperature;
    }
  }
}

/** Log-sum-exp of some columns: highest + log(total). */
struct LogSum {
  float highest;
  double total;
};

/** Of both together. */
__device__ LogSum merged(const LogSum& a, const LogSum& b) {
  const float top = fmaxf(a.highest, b.highest);
  const auto part = [&](const LogSum& x) { return x.highest == top ? x.total : x.total * expf(x.highest - top); };
  return {top, part(a) + part(b)};
}

/** highest, totals: splits x rows. Grid: splits x blocks of rows. */
__global__ void __launch_bounds__(kThreads) logSumKernel(Logits a, float* highest, double* totals) {
  __shared__ float shared[2 * kDepth * kPitch];
  const int firstRow = blockIdx.y * kTile, y = threadIdx.x / 16, x = threadIdx.x % 16;
  const int end = min((blockIdx.x + 1) * a.perSplit, gridDim.y);  // as many tiles in a row as in a column
  LogSum sums[kOwn];
  for (LogSum& sum : sums) sum = {-INFINITY, 0};
  for (int tile = blockIdx.x * a.perSplit; tile < end; ++tile) {
    float s[kOwn][kOwn];
    logits(a, firstRow, tile * kTile, shared, s);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int row = firstRow + y * kOwn + i;
      const int positive = row < a.rows / 2 ? row + a.rows / 2 : row - a.rows / 2;
      for (int j = 0; j < kOwn; ++j) {
        if (row < a.rows && tile * kTile + x + 16 * j == positive) a.positives[row] = s[i][j];
      }
      const float top = fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]));
      if (top == -INFINITY) continue;  // nothing but the row itself and the end
      const float total = (expf(s[i][0] - top) + expf(s[i][1] - top)) + (expf(s[i][2] - top) + expf(s[i][3] - top));
      sums[i] = merged(sums[i], {top, total});
    }
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    for (int step = 8; step > 0; step /= 2) {  // the 16 threads of a row
      const LogSum other = {__shfl_xor_sync(0xffffffffu, sums[i].highest, step),
                            __shfl_xor_sync(0xffffffffu, sums[i].total, step)};
      sums[i] = merged(sums[i], other);
    }
    const int row = firstRow + y * kOwn + i;
    if (x > 0 || row >= a.rows) continue;
    highest[static_cast<size_t>(blockIdx.x) * a.rows + row] = sums[i].highest;
    totals[static_cast<size_t>(blockIdx.x) * a.rows + row] = sums[i].total;
  }
}

/** saved: highest logit, then 1 / sum of exp(logit - highest), rows each; parts: the blocks' sums of the loss. */
__global__ void __launch_bounds__(kFinish)
    finishKernel(Logits a, int splits, const float* highest, const double* totals, float* saved, double* parts) {
  __shared__ double terms[kFinish];
  const int row = blockIdx.x * kFinish + threadIdx.x;
  terms[threadIdx.x] = 0;
  if (row < a.rows) {
    LogSum sum = {highest[row], totals[row]};
    for (int s = 1; s < splits; ++s) {
      const size_t at = static_cast<size_t>(s) * a.rows + row;
      sum = merged(sum, {highest[at], totals[at]});
    }
    terms[threadIdx.x] = sum.highest + log(sum.total) - a.positives[row];
    saved[row] = sum.highest;
    saved[a.rows + row] = static_cast<float>(1 / sum.total);
  }
  for (int step = kFinish / 2; step > 0; step /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < step) terms[threadIdx.x] += terms[threadIdx.x + step];
  }
  if (threadIdx.x == 0) parts[blockIdx.x] = terms[0];
}

/** This thread's logits to p_jk + p_kj, p_jk = exp(s_jk - highest_j) inverse_j, into weights (kTile x kPitch). */
__device__ void weigh(const Logits& a, const float* saved, int firstRow, int firstColumn, const float (&s)[kOwn][kOwn],
                      float* weights) {
  const int y = threadIdx.x / 16, x = threadIdx.x % 16;
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    const int column = firstColumn + x + 16 * j, c = min(column, a.rows - 1);
    const float columnHighest = saved[c], columnInverse = saved[a.rows + c];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int row = min(firstRow + y * kOwn + i, a.rows - 1);
      weights[(y * kOwn + i) * kPitch + x + 16 * j] =
          expf(s[i][j] - saved[row]) * saved[a.rows + row] + expf(s[i][j] - columnHighest) * columnInverse;
    }
  }
}

/** parts: splits x rows x width, sum over the split's k of (p_jk + p_kj) z_k. Grid: splits x blocks of rows x groups of
 * kTile numbers of a row, each computing the logits again. */
__global__ void __launch_bounds__(kThreads) weightedKernel(Logits a, const float* saved, float* parts) {
  __shared__ float shared[2 * kDepth * kPitch], weights[kTile * kPitch];
  const int firstRow = blockIdx.y * kTile, firstD = blockIdx.z * kTile;
  const int y = threadIdx.x / 16, x = threadIdx.x % 16;
  const int end = min((blockIdx.x + 1) * a.perSplit, gridDim.y);  // as many tiles in a row as in a column
  double sums[kOwn][kOwn] = {};
  for (int tile = blockIdx.x * a.perSplit; tile < end; ++tile) {
    float s[kOwn][kOwn];
    logits(a, firstRow, tile * kTile, shared, s);
    weigh(a, saved, firstRow, tile * kTile, s, weights);
    __syncthreads();  // weights are there, and nobody reads `shared` any more
    for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
      const int row = tile * kTile + i / kTile, d = firstD + i % kTile;
      shared[i / kTile * kPitch + i % kTile] =
          row < a.rows && d < a.width ? a.z[static_cast<size_t>(row) * a.width + d] : 0;
    }
    __syncthreads();
    for (int first = 0; first < kTile; first += 8) {
      float part[kOwn][kOwn] = {};
#pragma unroll
      for (int c = first; c < first + 8; ++c) {
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
#pragma unroll
          for (int j = 0; j < kOwn; ++j)
            part[i][j] = fmaf(weights[(y * kOwn + i) * kPitch + c], shared[c * kPitch + x + 16 * j], part[i][j]);
        }
      }
      for (int i = 0; i < kOwn; ++i) {
        for (int j = 0; j < kOwn; ++j) sums[i][j] += part[i][j];
      }
    }
  }
  for (int i = 0; i < kOwn; ++i) {
    for (int j = 0; j < kOwn; ++j) {
      const int row = firstRow + y * kOwn + i, d = firstD + x + 16 * j;
      if (row >= a.rows || d >= a.width) continue;
      parts[(static_cast<size_t>(blockIdx.x) * a.rows + row) * a.width + d] = static_cast<float>(sums[i][j]);
    }
  }
}

struct ForwardPieces {
  Splits splits;
  float *positives, *highest;
  double *totals, *parts;
  ForwardPieces(int rows, Pieces& pieces) : splits(splitsOf(blocksOf(rows, kTile), blocksOf(rows, kTile))) {
    positives = pieces.next<float>(rows);
    highest = pieces.next<float>(static_cast<size_t>(splits.count) * rows);
    totals = pieces.next<double>(static_cast<size_t>(splits.count) * rows);
    parts = pieces.next<double>(blocksOf(rows, kFinish));
  }
};

Splits backwardSplits(int rows, int width) {
  return splitsOf(blocksOf(rows, kTile) * blocksOf(width, kTile), blocksOf(rows, kTile));
}

Logits logitsOf(const InfoNce& args, const Splits& splits, float* positives) {
  return {args.z, args.rows, args.width, splits.perSplit, args.temperature, positives};
}

}  // namespace

size_t plainScratch(int rows, int width) {
  Pieces forward(nullptr);
  const ForwardPieces pieces(rows, forward);
  const size_t numbers = static_cast<size_t>(backwardSplits(rows, width).count) * rows * width;
  return std::max(forward.used(), numbers * sizeof(float));
}

void plain(const InfoNce& args, double* loss, cudaStream_t stream) {
  Pieces pieces(args.scratch);
  const ForwardPieces p(args.rows, pieces);
  const Logits logits = logitsOf(args, p.splits, p.positives);
  const int blocks = blocksOf(args.rows, kFinish);
  launch(logSumKernel, dim3(p.splits.count, blocksOf(args.rows, kTile)), kThreads, 0, stream, logits, p.highest,
         p.totals);
  launch(finishKernel, blocks, kFinish, 0, stream, logits, p.splits.count, p.highest, p.totals, args.saved, p.parts);
  finishLoss(p.parts, blocks, args.rows, loss, stream);
}

void plainBackward(const InfoNce& args, const float* factor, float* dz, cudaStream_t stream) {
  const Splits splits = backwardSplits(args.rows, args.width);
  const Logits logits = logitsOf(args, splits, nullptr);
  float* const parts = static_cast<float*>(args.scratch);
  const dim3 grid(splits.count, blocksOf(args.rows, kTile), blocksOf(args.width, kTile));
  launch(weightedKernel, grid, kThreads, 0, stream, logits, args.saved, parts);
  Gather sums(args, factor);
  sums.parts = parts, sums.splits = splits.count;
  sums.pitch = args.width, sums.plane = static_cast<size_t>(args.rows) * args.width;
  gather(sums, dz, stream);
}

}  // namespace comface::cuda::infonce
