// One optimizer step over all parameters end to end: a norm in two stages, then Adam. 23 to 44 million fp32 numbers.
// Roof: 28 bytes a number of the update (30 with a 16-bit copy) and 4 of the norm; no FLOP to speak of.
// Step numbers and flags are in device memory, so that a captured graph serves every step.
#include <algorithm>
#include <cmath>

#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "formulas.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256, kVector = 4;
constexpr int kNormBlocks = 1024;  // at most; each leaves one double
constexpr int kNormShare = 8;      // vectors that a thread of the norm has at least

int normBlocks(size_t count) {
  const size_t share = static_cast<size_t>(kThreads) * kVector * kNormShare;
  return static_cast<int>(std::clamp<size_t>((count + share - 1) / share, 1, kNormBlocks));
}

/** Sum over the block, in thread 0. */
__device__ double blockSum(double value) {
  __shared__ double sums[kThreads / 32];
  for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  for (int i = 1; threadIdx.x == 0 && i < kThreads / 32; ++i) value += sums[i];
  return value;
}

__device__ double square(float x) { return static_cast<double>(x) * x; }

/** parts[block] = sum of squares. In double, where no sum of finite squares overflows: it is finite if all are. */
__global__ void __launch_bounds__(kThreads) squaresKernel(const float4* gradients, size_t vectors, double* parts) {
  double sum = 0;
  const size_t step = static_cast<size_t>(gridDim.x) * kThreads;
  for (size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x; i < vectors; i += step) {
    const float4 g = gradients[i];
    sum += (square(g.x) + square(g.y)) + (square(g.z) + square(g.w));
  }
  sum = blockSum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

/** What a step's outcome makes of the scale. Returns whether the run is lost. */
__device__ bool adapt(LossScale& scale, bool areLossesFinite, bool areGradientsFinite) {
  if (!areLossesFinite) return true;
  if (areGradientsFinite) {
    if (++scale.steps < kScaleSteps) return false;
    scale = {fminf(2 * scale.scale, kLargestScale), 0};
    return false;
  }
  if (scale.scale <= 1) return true;
  scale = {scale.scale / 2, 0};
  return false;
}

/** One block. */
__global__ void __launch_bounds__(kThreads) flagsKernel(const double* parts, int count, bool isScaled, AdamArgs a) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kThreads) sum += parts[i];
  sum = blockSum(sum);
  if (threadIdx.x > 0) return;
  StepFlags& flags = *a.flags;
  const bool areGradientsFinite = std::isfinite(sum);
  bool areLossesFinite = true;
  for (int i = 0; i < a.lossCount; ++i) areLossesFinite = areLossesFinite && std::isfinite(a.losses[i]);
  flags.scale = a.scale->scale;
  flags.norm = sqrt(sum) / flags.scale;
  const bool isLost =
      isScaled ? adapt(*a.scale, areLossesFinite, areGradientsFinite) : !areLossesFinite || !areGradientsFinite;
  flags.isLost = flags.isLost || isLost;
  flags.isFinite = areGradientsFinite && !flags.isLost;
  for (int i = 0; isScaled && i < a.lossCount; ++i) a.factors[i] = a.weights[i] * a.scale->scale;
}

struct Nothing {};

/** Four numbers of the 16-bit copy. */
struct alignas(8) Bf16x4 {
  __nv_bfloat162 front, back;
};
struct alignas(8) Fp16x4 {
  __half2 front, back;
};
__device__ void store(const float4& v, size_t at, Bf16x4* copy) {
  copy[at] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
}
__device__ void store(const float4& v, size_t at, Fp16x4* copy) {
  copy[at] = {__floats2half2_rn(v.x, v.y), __floats2half2_rn(v.z, v.w)};
}
__device__ void store(const float4&, size_t, Nothing*) {}

/** A thread updates four numbers, or none if a gradient or a loss is not finite. */
template <class Copy>
__global__ void __launch_bounds__(kThreads) updateKernel(AdamArgs a, Copy* copy) {
  const size_t at = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= a.count / kVector || !a.flags->isFinite) return;
  const StepNumbers& n = *a.numbers;
  const formulas::AdamStep<float> step = {
      n.learningRate / n.correction1, sqrtf(n.correction2), n.fresh1, n.beta2, n.fresh2, n.epsilon, n.weightDecay};
  const float scale = 1 / a.flags->scale;
  const float4 g = reinterpret_cast<const float4*>(a.gradients)[at];
  float4 value = reinterpret_cast<float4*>(a.values)[at];
  float4 m = reinterpret_cast<float4*>(a.firstMoments)[at], v = reinterpret_cast<float4*>(a.secondMoments)[at];
  step.update(g.x * scale, value.x, m.x, v.x);
  step.update(g.y * scale, value.y, m.y, v.y);
  step.update(g.z * scale, value.z, m.z, v.z);
  step.update(g.w * scale, value.w, m.w, v.w);
  reinterpret_cast<float4*>(a.values)[at] = value;
  reinterpret_cast<float4*>(a.firstMoments)[at] = m, reinterpret_cast<float4*>(a.secondMoments)[at] = v;
  store(value, at, copy);
}

template <class Copy>
void update(const AdamArgs& args, cudaStream_t stream) {
  const size_t vectors = args.count / kVector;
  const int blocks = static_cast<int>((vectors + kThreads - 1) / kThreads);
  if (blocks > 0) launch(updateKernel<Copy>, blocks, kThreads, 0, stream, args, static_cast<Copy*>(args.copy));
}

}  // namespace

size_t adamScratch(size_t count) { return normBlocks(count) * sizeof(double); }

void adam(Number number, const AdamArgs& args, void* scratch, cudaStream_t stream) {
  double* const parts = static_cast<double*>(scratch);
  const int blocks = normBlocks(args.count);
  launch(squaresKernel, blocks, kThreads, 0, stream, reinterpret_cast<const float4*>(args.gradients),
         args.count / kVector, parts);
  launch(flagsKernel, 1, kThreads, 0, stream, parts, blocks, number == Number::fp16, args);
  if (!args.copy) return update<Nothing>(args, stream);
  number == Number::bf16 ? update<Bf16x4>(args, stream) : update<Fp16x4>(args, stream);
}

}  // namespace comface::cuda
