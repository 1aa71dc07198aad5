// The kernels of vision transformers: what oneDNN has no form for on blocked images. transformer.cc is compiled once
// per instruction set, as kernels.cc is. A position p of an image is pixel p of each of its blocks.
#pragma once
#include "cpu/kernels.h"

namespace comface::cpu {

/** Class token and positions; either may be absent. Parameters are plain: C, and T x C. */
struct TokensArgs {
  Extent in;     // of the patches
  int channels;  //
  void *x, *y;   // patches, and tokens (one more where there is a class token); backward: gradients
  const float *classToken, *positions;  // or null
  float *gradClassToken, *gradPositions;
};

struct LayerNormArgs {
  Extent extent;
  int channels;
  const void* x;
  void *y, *gradient;  // gradient: of y, replaced by that of x
  const float *gamma, *beta;
  float *gradGamma, *gradBeta;
  float *mean, *inverseDeviation;  // N x H W each, saved for backward
  float eps;
};

struct AttentionArgs {
  Extent in;                 // 3 x channels: query, key, value
  int channels, heads;       // of the result; channels is a multiple of heads
  const void* x;             // in
  void* y;                   // result
  const void* dy;            // in backward, of the result
  void* dx;                  // in backward, of `in`
  float *highest, *inverse;  // N x heads x H W each, saved for backward
  float* scratch;            // attentionScratch() floats for each thread
};

struct Transformer {
  // Indexed by number type: [0] float, [1] bf16.
  void (*tokensForward[2])(const TokensArgs&);
  void (*tokensBackward[2])(const TokensArgs&);
  void (*tokenForward[2])(const void* x, Extent extent, int channels, int position, float* y);  // y: N x channels
  void (*tokenBackward[2])(const float* dy, Extent extent, int channels, int position, void* dx);
  void (*layerNormForward[2])(const LayerNormArgs&);
  void (*layerNormBackward[2])(const LayerNormArgs&);
  void (*attentionForward[2])(const AttentionArgs&);
  void (*attentionBackward[2])(const AttentionArgs&);
  size_t (*attentionScratch)(int tokens, int headSize);
};

/** The table for this machine, beside that of select(). */
const Transformer& selectTransformer();

struct EfficientArgs {
  Extent in;            // 3 x channels: query, key, value
  int channels, heads;  // of the result; channels is a multiple of heads
  const void* x;        // in
  void* y;              // result
  const void* dy;       // in backward, of the result
  void* dx;             // in backward, of `in`
  float* saved;         // saved() floats for each sample and head: forward leaves them for backward
  float* scratch;       // scratch() floats for each thread
};

/** efficient.cc, compiled as transformer.cc is. */
struct EfficientAttention {
  void (*forward[2])(const EfficientArgs&);
  void (*backward[2])(const EfficientArgs&);
  size_t (*saved)(int headSize);
  size_t (*scratch)(int headSize);
};

const EfficientAttention& selectEfficientAttention();

}  // namespace comface::cpu
