// The launchers of the kernels that generators add (StyleGAN, StyleGAN3), by the file that holds each; see kernels.h.
// For inference, in fp32, those of modulate.cu and filtered.cu in fp16, too: images are N x H x W x C with C =
// paddedChannels of the layer, and 0 in what it does not have.
#pragma once
#include "cuda/kernels.h"

namespace comface::cuda {

// ---- resample.cu ----

/** y[n] = weight: H x W x C for each of n samples; count: of one. */
void constant(const float* weight, size_t count, int n, float* y, cudaStream_t stream);
/** N x H x W x C to N x up H x up W x C. */
void upsample(const float* x, int n, int h, int w, int c, int up, float* y, cudaStream_t stream);
/** Each channel by [1 2 1] x [1 2 1] / 16; beyond the edge is 0. */
void blur(const float* x, int n, int h, int w, int c, float* y, cudaStream_t stream);

// ---- epilogue.cu: the end of StyleGAN's layers (Karras et al., 2019, figure 1b) ----

/** u = leaky relu(x + noise noiseWeight + bias), normalized by sample and channel, times style + 1, plus style. */
struct StyleEpilogue {
  int n, channels;  // of rows of C = paddedChannels(channels)
  size_t area;
  const float* x;
  float* y;
  const float *noise, *noiseWeight, *bias;  // area, C, C
  const float* style;                       // N x 2 channels: scales, then shifts
  float slope, eps;
};
/** Floats of scratch. */
size_t styleEpilogueScratch(const StyleEpilogue& args);
void styleEpilogue(const StyleEpilogue& args, float* scratch, cudaStream_t stream);

// ---- fourier.cu: StyleGAN3's input (Karras et al., 2021, section 3.2) ----

struct FourierFeatures {
  int n, channels, height, width;
  const float* t;                           // N x 4: cosine and sine of any length, x, y
  const float *freqs, *phases, *transform;  // channels x 2, channels, 3 x 3
  float rate, bandwidth;
  float* y;  // N x height x width x paddedChannels(channels)
};
void fourierFeatures(const FourierFeatures& args, cudaStream_t stream);

// ---- modulate.cu: a convolution whose weights a style scales, as scales before and after it ----

/** conv(x, weight s) is conv(x s, weight); demodulation and gain are a factor of each result's channel. */
struct Modulation {
  int n, in, out, window;  // window: kernel x kernel
  bool isDemodulated;
  float eps;
  const float* style;       // N x in
  const float* weight;      // paddedChannels(out) x window x paddedChannels(in)
  const float* gain;        // one number
  float *scales, *factors;  // N x paddedChannels(in), N x paddedChannels(out): results
  // Null, or a result in fp16, as `weight` is laid out: the weights that go with the factors then. Those that are
  // demodulated keep their products with numbers about 1 at that size.
  void* rounded;
};
/** Floats of scratch. */
size_t modulationScratch(const Modulation& args);
void modulation(const Modulation& args, float* scratch, cudaStream_t stream);
/** An image's numbers, fp32 or fp16. */
struct Pixels {
  Number number;
  void* data;
};
/** y[n][p][c] = x[n][p][c] factors[n][c]; N x area x C. In place is allowed; y is not fp32 where x is fp16. */
void scaleChannels(const Pixels& x, const float* factors, int n, size_t area, int c, const Pixels& y,
                   cudaStream_t stream);

// ---- filtered.cu: StyleGAN3's leaky ReLU between two filters (Karras et al., 2021, section 3.1) ----

/** See FilteredRelu in native/reference/stylegan3.cc. A filter of one tap may be null: it is 1. */
struct FilteredRelu {
  int n, c, inHeight, inWidth, outHeight, outWidth;
  int up, down, upTaps, downTaps, padLow;
  bool isRadial;  // downFilter: downTaps x downTaps
  float slope, gain, clamp;
  Number number;  // of x and y: fp32 or fp16
  const void* x;
  const float *bias, *upFilter, *downFilter;  // bias: C
  void* y;
};
/** Whether its filters fit into the memory of a block. */
bool fitsFilteredRelu(const FilteredRelu& args);
void filteredRelu(const FilteredRelu& args, cudaStream_t stream);

}  // namespace comface::cuda
