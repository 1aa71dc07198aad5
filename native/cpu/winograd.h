// Winograd's convolution in bf16, F(2 x 2, 3 x 3) (Lavin and Gray, 2016, section 4.1), which oneDNN does not have:
// stride 1, padding 1, 2.25 times fewer multiplications than the direct way. For processors with avx512_bf16.
#pragma once
#include <cstddef>

#include "cpu/kernels.h"

namespace comface::cpu {

/** Images are N x C/16 x H x W x 16; in and out are multiples of 32. */
struct WinogradShape {
  int n, in, out, h, w;
};

struct Winograd {
  /** Of the transformed weights. */
  size_t (*weightsBytes)(const WinogradShape& shape);
  size_t (*scratchBytes)(const WinogradShape& shape, int threads);
  /** weights: fp32, out/16 x in/16 x 3 x 3 x 16 in x 16 out. */
  void (*forwardWeights)(const WinogradShape& shape, const float* weights, void* transformed);
  /** `shape` is that of the backward pass, whose `in` are the convolution's `out`; weights as above. */
  void (*backwardWeights)(const WinogradShape& shape, const float* weights, void* transformed);
  void (*run)(const WinogradShape& shape, const void* x, const void* transformed, void* y, void* scratch);
  /** Of the next, that can go on side by side. */
  int (*gradientTasks)(const WinogradShape& shape, int threads);
  size_t (*gradientScratchBytes)(const WinogradShape& shape, int threads);
  /** Of the weights, which lie as above, from the input and the gradient of the result. */
  void (*weightsGradient)(const WinogradShape& shape, const void* x, const void* dy, float* weights, void* scratch);
};

/** Null where the processor, or oneDNN's cap on it, has no avx512_bf16. */
const Winograd* selectWinograd();

}  // namespace comface::cpu
