// The CPU backend's own kernels: what oneDNN has no fused form for. kernels.cc is compiled once per instruction set;
// select() picks the table. Image tensors are blocked N x C/B x H x W x B (B = 16 with AVX-512, else 8); padding
// channels hold zeros and stay zero.
#pragma once
#include <cstddef>
#include <cstdint>

namespace comface::cpu {

using Bf16 = uint16_t;

/** Extent of a blocked image tensor. */
struct Extent {
  int n;       // samples
  int blocks;  // ceil(C / B)
  size_t hw;   // H * W
};

/** One batch normalization's per-channel arrays, each padded with zeros to blocks * B. */
struct NormState {
  const float *gamma, *beta;
  float *gradGamma, *gradBeta;      // training
  float *runningMean, *runningVar;  // updated in training, read in inference
  float *mean, *inverseDeviation;   // of the batch, saved for backward
  float *scale, *shift;             // y = scale * x + shift
  float eps, momentum;
};

enum class Residual { none, tensor, normalized };

/** y = [relu](norm(x) [+ residual | + norm2(residual)]); one pass per channel block, so the second read of x is in
 * cache. */
struct NormForward {
  Extent extent;
  const void *x, *residual;
  void* y;
  NormState norm, norm2;
  Residual kind;
  bool relu, training;
};

/** g = (gradA [+ gradB]) masked by relu; dx = norm'(g); residual: g itself is written over gradA for the skip path, or
 * dx2 = norm2'(g). dx may be gradA without a residual. */
struct NormBackward {
  Extent extent;
  const void *x, *residual, *y;
  void* gradA;
  const void* gradB;  // or null
  void *dx, *dx2;
  NormState norm, norm2;
  Residual kind;
  bool relu;
};

struct AdamArgs {
  float *value, *grad, *first, *second;
  size_t count;
  float learningRate, beta1, beta2, epsilon, weightDecay;
  float fresh1, fresh2;            // 1 - beta, from doubles: a float beta2 near 1 has few digits left
  float correction1, correction2;  // 1 - beta1^t, 1 - beta2^t
};

/** InfoNCE over rows x width, row-major; scratch holds infoNceScratch() floats. */
struct InfoNceArgs {
  const float* z;
  int rows, width;
  float temperature;
  float *highest, *inverse;  // rows each, written by forward, read by backward
  float* dz;                 // backward adds weight * gradient
  float weight;
  float* scratch;
};

struct Kernels {
  const char* name;
  int block;
  // Indexed by number type: [0] float, [1] bf16.
  void (*normForward[2])(const NormForward&);
  void (*normBackward[2])(const NormBackward&);
  void (*relu[2])(const void* x, void* y, size_t count);
  void (*reluBackward[2])(const void* y, void* grad, size_t count);                 // in place
  void (*add[2])(const void* a, const void* b, void* y, size_t count);              // y may be a or b
  void (*averageForward[2])(const void* x, Extent extent, int channels, float* y);  // y: N x channels
  void (*averageBackward[2])(const float* dy, Extent extent, int channels, void* dx);
  void (*adam)(const AdamArgs&);
  double (*infoNceForward)(const InfoNceArgs&);
  void (*infoNceBackward)(const InfoNceArgs&);
  size_t (*infoNceScratch)(int width, int threads);
};

/** The table for this machine, following oneDNN's effective instruction set (ONEDNN_MAX_CPU_ISA caps both). */
const Kernels& select();

/** Name of oneDNN's effective instruction set: finer than ours, and it decides the bits of a convolution. */
const char* isaName();

}  // namespace comface::cpu
