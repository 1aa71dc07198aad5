// Weights that a style scales (Karras et al., 2020, section 2.2), without making them: scales of the input's channels
// before a convolution by the weights as they are, factors of the result's channels after it. What makes factors is
// small beside the convolution; scaling reads and writes each number once.
#include "cuda/generator.h"
#include "cuda/number.h"

namespace comface::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

/** Sum over the block's threads, in all of them. */
__device__ float blockSum(float value) {
  __shared__ float parts[kWarps];
  value = warpSum(value);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += parts[warp];
  __syncthreads();  // the next may use `parts`
  return sum;
}

/** scales = style, demodulated with a mean square of 1. A block for each sample. */
__global__ void __launch_bounds__(kThreads) scalesKernel(Modulation a, int padded) {
  const float* const style = a.style + static_cast<size_t>(blockIdx.x) * a.in;
  float scale = 1;
  if (a.isDemodulated) {
    float squares = 0;
    for (int c = threadIdx.x; c < a.in; c += kThreads) squares += style[c] * style[c];
    scale = 1 / sqrtf(blockSum(squares) / a.in);
  }
  for (int c = threadIdx.x; c < padded; c += kThreads)
    a.scales[static_cast<size_t>(blockIdx.x) * padded + c] = c < a.in ? style[c] * scale : 0;
}

/** squares[o][c]: of the weights of a window, o brought to a mean square of 1. A block for each o. */
__global__ void __launch_bounds__(kThreads) squaresKernel(Modulation a, int padded, float* squares, float* norms) {
  const float* const weight = a.weight + static_cast<size_t>(blockIdx.x) * a.window * padded;
  float* const own = squares + static_cast<size_t>(blockIdx.x) * padded;
  float total = 0;
  for (int c = threadIdx.x; c < padded; c += kThreads) {
    float sum = 0;
    for (int k = 0; k < a.window; ++k)
      sum += weight[static_cast<size_t>(k) * padded + c] * weight[static_cast<size_t>(k) * padded + c];
    own[c] = sum, total += sum;
  }
  total = blockSum(total);
  const float inverse = static_cast<float>(a.in) * a.window / total;
  for (int c = threadIdx.x; c < padded; c += kThreads) own[c] *= inverse;
  if (threadIdx.x == 0) norms[blockIdx.x] = sqrtf(inverse);
}

/** Weights of one o for each x of the grid, eight for each thread; demodulated, with a mean square of 1 / (in window),
 * else as they are. */
__global__ void __launch_bounds__(kThreads) roundedKernel(Modulation a, int padded, const float* norms) {
  const size_t count = static_cast<size_t>(a.window) * padded, at = size_t{blockIdx.y} * kThreads + threadIdx.x;
  if (at * kChannelStep >= count) return;
  const int o = static_cast<int>(blockIdx.x);
  const size_t first = o * count + at * kChannelStep;
  const float scale = !a.isDemodulated ? 1 : o < a.out ? norms[o] / sqrtf(static_cast<float>(a.in) * a.window) : 0;
  Eight values = loadFloats(a.weight + first);
#pragma unroll
  for (int k = 0; k < kChannelStep; ++k) values[k] *= scale;
  store(static_cast<__half*>(a.rounded) + first, Rounding<__half>::of(values));
}

/** A warp for each result's channel of each sample. */
__global__ void __launch_bounds__(kThreads)
    factorsKernel(Modulation a, int in, int out, const float* squares, const float* norms) {
  const size_t at = static_cast<size_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (at >= static_cast<size_t>(a.n) * out) return;
  const size_t n = at / out, o = at % out;
  const int lane = threadIdx.x % 32;
  const bool isThere = o < static_cast<size_t>(a.out);
  float factor = isThere ? *a.gain : 0;
  if (isThere && a.isDemodulated) {
    float sum = 0;
    for (int c = lane; c < a.in; c += 32) sum += a.scales[n * in + c] * a.scales[n * in + c] * squares[o * in + c];
    const float norm = a.rounded ? sqrtf(static_cast<float>(a.in) * a.window) : norms[o];
    factor *= norm / sqrtf(warpSum(sum) + a.eps);
  }
  if (lane == 0) a.factors[at] = factor;
}

/** A thread for each eight numbers; `columns` of them to a pixel. */
template <class From, class To>
__global__ void __launch_bounds__(kThreads)
    scaleKernel(const From* x, const float* factors, size_t count, size_t ofSample, unsigned columns, To* y) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const Eight by = loadFloats(factors + (i / ofSample * columns + i % columns) * kChannelStep);
  Eight values = toFloats(load(x + i * kChannelStep));
#pragma unroll
  for (int k = 0; k < kChannelStep; ++k) values[k] *= by[k];
  store(y + i * kChannelStep, Rounding<To>::of(values));
}

}  // namespace

size_t modulationScratch(const Modulation& args) {
  return args.isDemodulated ? static_cast<size_t>(args.out) * (paddedChannels(args.in) + 1) : 0;
}

void modulation(const Modulation& args, float* scratch, cudaStream_t stream) {
  const int in = paddedChannels(args.in), out = paddedChannels(args.out);
  float* const squares = args.isDemodulated ? scratch : nullptr;
  float* const norms = squares ? squares + static_cast<size_t>(args.out) * in : nullptr;
  launch(scalesKernel, dim3(args.n), dim3(kThreads), 0, stream, args, in);
  if (squares) launch(squaresKernel, dim3(args.out), dim3(kThreads), 0, stream, args, in, squares, norms);
  if (args.rounded) {
    constexpr int kEach = kThreads * kChannelStep;
    const dim3 grid(out, (args.window * in + kEach - 1) / kEach);
    launch(roundedKernel, grid, dim3(kThreads), 0, stream, args, in, norms);
  }
  const size_t rows = static_cast<size_t>(args.n) * out;
  launch(factorsKernel, dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)), dim3(kThreads), 0, stream, args, in,
         out, squares, norms);
}

void scaleChannels(const Pixels& x, const float* factors, int n, size_t area, int c, const Pixels& y,
                   cudaStream_t stream) {
  const size_t ofSample = area * (c / kChannelStep), count = n * ofSample;
  const auto start = [&](auto from, auto to) {
    using From = decltype(from);
    using To = decltype(to);
    launch(scaleKernel<From, To>, dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)), dim3(kThreads), 0,
           stream, static_cast<const From*>(x.data), factors, count, ofSample, c / kChannelStep,
           static_cast<To*>(y.data));
  };
  if (y.number == Number::fp32) return start(float{}, float{});
  if (x.number == Number::fp32) return start(float{}, __half{});
  start(__half{}, __half{});
}

}  // namespace comface::cuda
