// The launchers of our own kernels, by the file that holds each. They enqueue on `stream` and return; nothing here
// waits for the device. Images are N x H x W x C with C a multiple of kChannelStep, in the number type given by
// `number`; channels that a layer does not have are 0 in every tensor. Vectors, statistics and parameters are fp32.
// Every sum is added up in an order that does not depend on timing: the same input gives the same bits.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace comface::cuda {

/** Number type of an image. */
enum class Number : int32_t { fp32, bf16, fp16 };
inline size_t sizeOf(Number number) { return number == Number::fp32 ? 4 : 2; }

/** Channels come in steps of 16 bytes of 16-bit numbers: what one load takes and what tensor cores ask for. */
inline constexpr int kChannelStep = 8;
inline int paddedChannels(int channels) { return (channels + kChannelStep - 1) / kChannelStep * kChannelStep; }

// ---- layout.cu: between PyTorch's layout and ours ----

/** from: N x C x H x W fp32. to: N x H x W x paddedChannels(C). */
void packImages(Number number, const float* from, int n, int c, int h, int w, void* to, cudaStream_t stream);
/** The way back. */
void unpackImages(Number number, const void* from, int n, int c, int h, int w, float* to, cudaStream_t stream);
/** fp32 to the image's number type, rounded to nearest even. */
void convert(Number number, const float* from, size_t count, void* to, cudaStream_t stream);

/** 16-bit numbers to fp32. */
void widen(Number number, const void* from, size_t count, float* to, cudaStream_t stream);

// ---- bias.cu ----

/** x[m][c] += bias[c]; M x C. */
void addBias(Number number, void* x, const float* bias, size_t m, int c, cudaStream_t stream);
/** Floats of scratch that biasGradient wants. */
size_t biasScratch(size_t m, int c);
/** sums[c] = sum over m of x[m][c]. */
void biasGradient(Number number, const void* x, size_t m, int c, float* sums, float* scratch, cudaStream_t stream);

// ---- elementwise.cu: of images, and of vectors with Number::fp32. `count` in numbers; pointers are aligned to 16
// bytes, counts need not be a multiple of anything. In place is allowed. ----

/** y = max(x, 0), or with a slope x where it is positive and slope x elsewhere. */
void relu(Number number, float slope, const void* x, void* y, size_t count, cudaStream_t stream);
/** dx = y > 0 ? dy : slope dy. */
void reluBackward(Number number, float slope, const void* y, const void* dy, void* dx, size_t count,
                  cudaStream_t stream);
/** sum = a + b, rounded once. */
void add(Number number, const void* a, const void* b, void* sum, size_t count, cudaStream_t stream);
/** y = x times the normal distribution function of x, or, quick, x sigmoid(1.702 x). */
void gelu(Number number, bool quick, const void* x, void* y, size_t count, cudaStream_t stream);
/** dx = dy times the derivative at x. */
void geluBackward(Number number, bool quick, const void* x, const void* dy, void* dx, size_t count,
                  cudaStream_t stream);

// ---- norm.cu: batch normalization (Ioffe and Szegedy, 2015) with what follows it ----

/** One normalization: C = paddedChannels of its layer. All device pointers. */
struct Norm {
  const float *gamma, *beta;
  float *dGamma, *dBeta;            // null in inference
  float *runningMean, *runningVar;  // C
  float *mean, *inverse;            // C: of the batch, 1 / sqrt(variance + eps); of the running ones in inference
  float *scale, *shift;             // C: y = scale x + shift
  float eps, momentum;
};

/** Floats of scratch that normStatistics and normBackward want for M x C. */
size_t normScratch(size_t m, int c);

/** Mean and variance of x (M x C, M = N H W) into norm.mean and norm.inverse, the running ones moved on, scale and
 * shift. Sums about the channel's first number, so that a large mean costs no digits. */
void normStatistics(Number number, const void* x, size_t m, int c, const Norm& norm, float* scratch,
                    cudaStream_t stream);
/** The same from sums that a convolution left: sum of x and of x * x, C each. */
void normFinish(const float* sum, const float* squares, size_t m, int c, const Norm& norm, cudaStream_t stream);
/** Inference: mean, inverse, scale and shift from the running statistics. */
void normInference(int c, const Norm& norm, cudaStream_t stream);

enum class Residual : int32_t { none, tensor, normalized };

/** y = [relu](scale x + shift [+ residual | + scale2 residual + shift2]), M x C each. */
struct NormApply {
  size_t m;
  int c;
  const void *x, *residual;
  void* y;
  const float *scale, *shift, *scale2, *shift2;
  Residual kind;
  bool relu;
};
void normApply(Number number, const NormApply& apply, cudaStream_t stream);

/**
 * d = (gradient + gradient2), where y > 0 if relu; d's gradient through the normalization(s):
 * dx = gamma inverse (d - mean(d) - h mean(d h)), h = (x - mean) inverse, and dGamma = sum(d h), dBeta = sum(d).
 * y is read for a residual tensor only; elsewhere its sign follows from x (and the residual), as forward computed it.
 */
struct NormBackward {
  size_t m;
  int c;
  const void *x, *residual, *y;  // residual: the second normalization's input, null unless normalized
  void* gradient;                // M x C; with a residual tensor d is written over it, being that one's gradient
  const void* gradient2;         // or null
  void *dx, *dx2;                // may be `gradient` itself where d is not kept; dx2: of `residual`, or null
  Norm norm, norm2;
  Residual kind;
  bool relu;
  // sum(d) and sum(d x), C each, if a convolution left them: then gradient is d. Not with two normalizations.
  const float *sum = nullptr, *product = nullptr;
};
void normBackward(Number number, const NormBackward& backward, float* scratch, cudaStream_t stream);

// ---- pool.cu ----

struct Pool {
  int n, c, h, w, outH, outW, kernel, stride, pad;
};
/** y: N x outH x outW x C; index: the same count of bytes, place of the largest number in its window (row * kernel +
 * column), the first of equals as in PyTorch. index may be null. kernel <= 16. */
void maxPool(Number number, const Pool& pool, const void* x, void* y, uint8_t* index, cudaStream_t stream);
/** dx gathers from the windows that see it, in their order: no atomics. */
void maxPoolBackward(Number number, const Pool& pool, const void* dy, const uint8_t* index, void* dx,
                     cudaStream_t stream);
/** Global mean: N x HW x paddedChannels(C) -> N x C fp32. */
void averagePool(Number number, const void* x, int n, int c, int hw, float* y, cudaStream_t stream);
void averagePoolBackward(Number number, const float* dy, int n, int c, int hw, void* dx, cudaStream_t stream);

// ---- tokens.cu ----

/**
 * y[n][t] = (t < first ? classToken : x[n][t - first]) + positions[t], C = paddedChannels of its layer numbers each:
 * first is 1 with a class token, else 0. Parameters may be null where there are none.
 */
struct Tokens {
  int n, c, first;
  size_t area;                                              // positions of x; tokens of y: first + area
  const float *classToken = nullptr, *positions = nullptr;  // C, (first + area) x C
  float *dClassToken = nullptr, *dPositions = nullptr;      // null in inference
};
void tokens(Number number, const Tokens& args, const void* x, void* y, cudaStream_t stream);
/** dx: null where nobody wants it. */
void tokensBackward(Number number, const Tokens& args, const void* dy, void* dx, cudaStream_t stream);
/** One position of each image: N x area x paddedChannels(C) -> N x C fp32. */
void token(Number number, const void* x, int n, int c, size_t area, size_t position, float* y, cudaStream_t stream);
/** All of dx is written, 0 at the other positions. */
void tokenBackward(Number number, const float* dy, int n, int c, size_t area, size_t position, void* dx,
                   cudaStream_t stream);

// ---- layernorm.cu: Ba, Kiros and Hinton, 2016 ----

/** y = gamma (x - mean) / sqrt(variance + eps) + beta, mean and variance of each row's `channels` numbers. */
struct LayerNorm {
  size_t m;
  int channels;  // of rows of C = paddedChannels(channels)
  const void* x;
  void* y;
  const float *gamma, *beta;  // C
  float *dGamma, *dBeta;      // C; null in inference
  float *means, *inverses;    // M each, left for backward; null in inference
  float eps;
};
/** Floats of scratch that layerNormBackward wants. */
size_t layerNormScratch(size_t m, int channels);
void layerNorm(Number number, const LayerNorm& norm, cudaStream_t stream);
/** gradient: of y, M x C, replaced by that of x. */
void layerNormBackward(Number number, const LayerNorm& norm, void* gradient, float* scratch, cudaStream_t stream);

// ---- attention.cu: Vaswani et al., 2017, section 3.2, the matrix of scores never in memory ----

inline constexpr int kWidestHead = 128;
struct Attention {
  int n, tokens, heads, width;  // width: of a head, at most kWidestHead
  const void* x;                // N x T x paddedChannels(3 heads width): queries, keys, values, each head after head
  void* y;                      // N x T x paddedChannels(heads width)
  float* logSums;               // N x heads x T: log2 of the sum of 2^score, left for backward; null in inference
};
void attention(Number number, const Attention& args, cudaStream_t stream);
/** dy: like y, dx: like x, slopes: N x heads x T floats of scratch. */
void attentionBackward(Number number, const Attention& args, const void* dy, void* dx, float* slopes,
                       cudaStream_t stream);

// ---- efficient.cu: Shen et al., 2021, section 3 ----

/** x and y as for Attention, heads of any width. Backward reads y, too. */
struct EfficientAttention {
  int n, tokens, heads, width;
  const void* x;
  void* y;
  float *saved, *scratch;  // efficientSaved() floats, which forward leaves for backward, and efficientScratch()
};
size_t efficientSaved(const EfficientAttention& args);
size_t efficientScratch(const EfficientAttention& args);
void efficientAttention(Number number, const EfficientAttention& args, cudaStream_t stream);
/** dy: like y, dx: like x. */
void efficientAttentionBackward(Number number, const EfficientAttention& args, const void* dy, void* dx,
                                cudaStream_t stream);

// ---- vectors.cu: rows x width, fp32. Gradients are added to. ----

/** y = column sums of x (rows x width): a bias's gradient. */
void columnSums(const float* x, int rows, int width, float* y, cudaStream_t stream);
void addTo(const float* x, size_t count, float* y, cudaStream_t stream);  // y += x
/** dx += y > 0 ? dy : slope dy, times sign. */
void reluBackwardTo(const float* y, const float* dy, size_t count, float slope, float sign, float* dx,
                    cudaStream_t stream);
/** ComFace section 3.2: y = max(a - b, 0). */
void reluDifference(const float* a, const float* b, size_t count, float* y, cudaStream_t stream);
/** y = x / max(|x|, 1e-12) by row; lengths: rows. */
void l2Normalize(const float* x, int rows, int width, float* y, float* lengths, cudaStream_t stream);
/** dx += (dy - y (dy . y)) / length. */
void l2NormalizeBackward(const float* y, const float* dy, const float* lengths, int rows, int width, float* dx,
                         cudaStream_t stream);
/** y = x / sqrt(mean of the row's squares + eps). */
void pixelNorm(const float* x, int rows, int width, float eps, float* y, cudaStream_t stream);

// ---- change.cu: ComFace's intra-personal loss ----

/** loss = mean over rows of (x - target)^2; errors: rows, x - target. */
void squaredError(const float* x, const float* targets, int rows, float* errors, double* loss, cudaStream_t stream);
/** dx += 2 factor / rows * errors. factor: one device number (the loss's weight times the loss scale). */
void squaredErrorBackward(const float* errors, int rows, const float* factor, float* dx, cudaStream_t stream);

// ---- infonce.cu: ComFace eq. (1), the matrix of similarities never in memory ----

struct InfoNce {
  const float* z;  // rows x width
  int rows, width;
  float temperature;
  bool isNormalized;  // rows of length 1: then no similarity exceeds 1 and plain sums do
  float* saved;       // 2 x rows, forward leaves them for backward
  void* scratch;      // infoNceScratch bytes
};
size_t infoNceScratch(int rows, int width);
void infoNce(const InfoNce& args, double* loss, cudaStream_t stream);
/** dz += *factor dL/dz. */
void infoNceBackward(const InfoNce& args, const float* factor, float* dz, cudaStream_t stream);

// ---- adam.cu: all tensors in one launch ----

/** What changes from step to step, in device memory, so that a captured graph can be launched again. */
struct StepNumbers {
  float learningRate, beta1, beta2, epsilon, weightDecay;
  float fresh1, fresh2;            // 1 - beta, computed in double
  float correction1, correction2;  // 1 - beta^t
};

/** Loss scaling (Micikevicius et al., 2018, section 3.2): fp16 gradients are made `scale` times too large, lest they
 * vanish. Halved when they overflow, doubled after kScaleSteps steps that did not; 1 and unused in other types. */
struct LossScale {
  float scale;
  int32_t steps;  // since it changed
};
inline constexpr float kFirstScale = 65536, kLargestScale = 16777216;
inline constexpr int kScaleSteps = 2000;

/** What the device found out. */
struct StepFlags {
  double norm;       // of all gradients, unscaled
  float scale;       // that the gradients have
  int32_t isFinite;  // gradients and losses; 0: the update left everything as it was
  int32_t isLost;    // a loss was not, or the gradients at any scale; stays, and no later step updates anything
  int32_t reserved;
};

struct AdamArgs {
  float *values, *firstMoments, *secondMoments;
  const float* gradients;
  size_t count;  // a multiple of 4
  void* copy;    // of the values in the image's number type, count numbers; null for fp32
  const StepNumbers* numbers;
  StepFlags* flags;
  LossScale* scale;
  // By loss: its value, its weight, and weight x scale, where its gradient begins; written for the next step.
  int lossCount;
  const double* losses;
  const float* weights;
  float* factors;
};
size_t adamScratch(size_t count);
/** Norm of the gradients and whether they and the losses are finite, into flags; then, if so, Kingma and Ba, 2015,
 * algorithm 1, as torch.optim.Adam with L2 weight decay. */
void adam(Number number, const AdamArgs& args, void* scratch, cudaStream_t stream);

}  // namespace comface::cuda
