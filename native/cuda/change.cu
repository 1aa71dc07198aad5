// ComFace's intra-personal loss, section 3.2: the mean squared error of some thousand numbers. Roof: 12 bytes a number,
// which is nothing beside the launch.
#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256;

/** One block: it has nothing to wait for, and the order of the sum is clear. */
__global__ void __launch_bounds__(kThreads)
    squaredErrorKernel(const float* x, const float* targets, int rows, float* errors, double* loss) {
  __shared__ double sums[kThreads / 32];
  double sum = 0;
  for (int i = threadIdx.x; i < rows; i += kThreads) {
    const float error = x[i] - targets[i];
    errors[i] = error;
    sum += static_cast<double>(error) * error;
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < kThreads / 32; ++i) sum += sums[i];
  *loss = sum / rows;
}

__global__ void __launch_bounds__(kThreads)
    squaredErrorBackwardKernel(const float* errors, int rows, const float* factor, float* dx) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i < rows) dx[i] += 2 * *factor / static_cast<float>(rows) * errors[i];
}

}  // namespace

void squaredError(const float* x, const float* targets, int rows, float* errors, double* loss, cudaStream_t stream) {
  launch(squaredErrorKernel, 1, kThreads, 0, stream, x, targets, rows, errors, loss);
}

void squaredErrorBackward(const float* errors, int rows, const float* factor, float* dx, cudaStream_t stream) {
  launch(squaredErrorBackwardKernel, (rows + kThreads - 1) / kThreads, kThreads, 0, stream, errors, rows, factor, dx);
}

}  // namespace comface::cuda
