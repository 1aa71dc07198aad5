// What the heads do to vectors, and the norm that a generator begins with, rows x width fp32: some thousand rows of 1
// to 2,048 numbers. Roof: each number read and written once, 8 to 16 bytes; all of them together take less time than
// one convolution.
#include <cstdint>
#include <initializer_list>

#include "cuda/number.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256, kVector = 4;
constexpr int kColumns = 32, kSlices = 32;  // columnSums: a block's columns, and threads that share one
constexpr float kSmallestLength = 1e-12f;   // torch.nn.functional.normalize

// ---- number by number ----

struct AddTo {
  const float* x;
  float* y;
  __device__ void at(size_t i) const { y[i] += x[i]; }
  __device__ void fourAt(size_t i) const {
    const float4 a = reinterpret_cast<const float4*>(x)[i], b = reinterpret_cast<float4*>(y)[i];
    reinterpret_cast<float4*>(y)[i] = {b.x + a.x, b.y + a.y, b.z + a.z, b.w + a.w};
  }
};

struct ReluBackwardTo {
  const float *y, *dy;
  float slope, sign;
  float* dx;
  /** 0 of what is infinite, too, where there is no slope. */
  __device__ float of(float y, float dy) const { return y > 0 ? sign * dy : slope == 0 ? 0 : sign * slope * dy; }
  __device__ void at(size_t i) const { dx[i] += of(y[i], dy[i]); }
  __device__ void fourAt(size_t i) const {
    const float4 a = reinterpret_cast<const float4*>(y)[i], g = reinterpret_cast<const float4*>(dy)[i];
    const float4 d = reinterpret_cast<float4*>(dx)[i];
    reinterpret_cast<float4*>(dx)[i] = {d.x + of(a.x, g.x), d.y + of(a.y, g.y), d.z + of(a.z, g.z), d.w + of(a.w, g.w)};
  }
};

struct ReluDifference {
  const float *a, *b;
  float* y;
  /** Not fmaxf, which would make a number of NaN. */
  __device__ static float of(float a, float b) { return a - b < 0 ? 0 : a - b; }
  __device__ void at(size_t i) const { y[i] = of(a[i], b[i]); }
  __device__ void fourAt(size_t i) const {
    const float4 p = reinterpret_cast<const float4*>(a)[i], q = reinterpret_cast<const float4*>(b)[i];
    reinterpret_cast<float4*>(y)[i] = {of(p.x, q.x), of(p.y, q.y), of(p.z, q.z), of(p.w, q.w)};
  }
};

/** `vectors` times four numbers, then the rest one by one. */
template <class Operation>
__global__ void __launch_bounds__(kThreads) eachKernel(Operation operation, size_t vectors, size_t count) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < vectors) return operation.fourAt(i);
  const size_t rest = kVector * vectors + (i - vectors);
  if (rest < count) operation.at(rest);
}

/** A part of a tensor's rows may begin anywhere: then nothing is taken by four. */
template <class Operation>
void each(const Operation& operation, std::initializer_list<const float*> pointers, size_t count, cudaStream_t stream) {
  size_t vectors = count / kVector;
  for (const float* pointer : pointers) {
    if (reinterpret_cast<uintptr_t>(pointer) % sizeof(float4) != 0) vectors = 0;
  }
  const size_t threads = vectors + (count - kVector * vectors);
  if (threads == 0) return;
  launch(eachKernel<Operation>, static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0, stream,
         operation, vectors, count);
}

// ---- by column ----

/** Block: kColumns columns x kSlices threads, each adding up every kSlices-th row. */
__global__ void __launch_bounds__(kColumns* kSlices) columnSumsKernel(const float* x, int rows, int width, float* y) {
  __shared__ float sums[kSlices][kColumns + 1];
  const int column = blockIdx.x * kColumns + threadIdx.x;
  float sum = 0;
  if (column < width) {
#pragma unroll 4
    for (int row = threadIdx.y; row < rows; row += kSlices) sum += x[static_cast<size_t>(row) * width + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  for (int half = kSlices / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) < half) sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
  }
  if (threadIdx.y == 0 && column < width) y[column] = sums[0][threadIdx.x];
}

// ---- by row, a warp to each ----

__global__ void __launch_bounds__(kThreads)
    l2NormalizeKernel(const float* x, int rows, int width, float* y, float* lengths) {
  const int row = blockIdx.x * (kThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float* const from = x + static_cast<size_t>(row) * width;
  float* const to = y + static_cast<size_t>(row) * width;
  float squares = 0;
  for (int d = lane; d < width; d += 32) squares += from[d] * from[d];
  const float root = sqrtf(warpSum(squares)), length = root < kSmallestLength ? kSmallestLength : root;
  for (int d = lane; d < width; d += 32) to[d] = from[d] / length;
  if (lane == 0) lengths[row] = length;
}

/** Where the divisor was the constant, the second term is absent. */
__global__ void __launch_bounds__(kThreads)
    l2NormalizeBackwardKernel(const float* y, const float* dy, const float* lengths, int rows, int width, float* dx) {
  const int row = blockIdx.x * (kThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const size_t first = static_cast<size_t>(row) * width;
  const float length = lengths[row];
  float product = 0;
  for (int d = lane; d < width; d += 32) product += y[first + d] * dy[first + d];
  const float along = length > kSmallestLength ? warpSum(product) : 0;
  for (int d = lane; d < width; d += 32) dx[first + d] += (dy[first + d] - y[first + d] * along) / length;
}

__global__ void __launch_bounds__(kThreads) pixelNormKernel(const float* x, int rows, int width, float eps, float* y) {
  const int row = blockIdx.x * (kThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const size_t first = static_cast<size_t>(row) * width;
  float squares = 0;
  for (int d = lane; d < width; d += 32) squares += x[first + d] * x[first + d];
  const float length = sqrtf(warpSum(squares) / width + eps);
  for (int d = lane; d < width; d += 32) y[first + d] = x[first + d] / length;
}

int rowBlocks(int rows) { return (rows + kThreads / 32 - 1) / (kThreads / 32); }

}  // namespace

void columnSums(const float* x, int rows, int width, float* y, cudaStream_t stream) {
  launch(columnSumsKernel, (width + kColumns - 1) / kColumns, dim3(kColumns, kSlices), 0, stream, x, rows, width, y);
}

void addTo(const float* x, size_t count, float* y, cudaStream_t stream) { each(AddTo{x, y}, {x, y}, count, stream); }

void reluBackwardTo(const float* y, const float* dy, size_t count, float slope, float sign, float* dx,
                    cudaStream_t stream) {
  each(ReluBackwardTo{y, dy, slope, sign, dx}, {y, dy, dx}, count, stream);
}

void reluDifference(const float* a, const float* b, size_t count, float* y, cudaStream_t stream) {
  each(ReluDifference{a, b, y}, {a, b, y}, count, stream);
}

void pixelNorm(const float* x, int rows, int width, float eps, float* y, cudaStream_t stream) {
  launch(pixelNormKernel, rowBlocks(rows), kThreads, 0, stream, x, rows, width, eps, y);
}

void l2Normalize(const float* x, int rows, int width, float* y, float* lengths, cudaStream_t stream) {
  launch(l2NormalizeKernel, rowBlocks(rows), kThreads, 0, stream, x, rows, width, y, lengths);
}

void l2NormalizeBackward(const float* y, const float* dy, const float* lengths, int rows, int width, float* dx,
                         cudaStream_t stream) {
  launch(l2NormalizeBackwardKernel, rowBlocks(rows), kThreads, 0, stream, y, dy, lengths, rows, width, dx);
}

}  // namespace comface::cuda
