// The kernels of generators (StyleGAN, StyleGAN3), in fp32 and inference only. generator.cc and filtered.cc are
// compiled once per instruction set, as kernels.cc is. No result depends on the threads or on the samples beside one.
#pragma once
#include "cpu/kernels.h"

namespace comface::cpu {

/** Blocked images. */
struct Size {
  int n, blocks, height, width;
};

struct EpilogueArgs {
  Size size;
  int channels;
  const float* x;
  float* y;
  const float *noise, *noiseWeight, *bias;  // H x W; C, padded with zeros to whole blocks
  const float* style;                       // N x 2C
  float slope, eps;
  float* sums;  // epilogueScratch() floats
};

struct FourierArgs {
  Size size;
  int channels;
  const float* t;                           // N x 4
  const float *freqs, *phases, *transform;  // C x 2, C, 3 x 3
  float rate, bandwidth;
  float* y;
  float* scratch;  // fourierScratch() floats for each thread
};

struct FilteredArgs {
  Size in, out;
  int up, down, upTaps, downTaps, padLow;
  bool isRadial, isMirrored;           // mirrored: the rows of a radial filter are the same from below
  const float *upFilter, *downFilter;  // flipped, the first times `up`; upTaps, downTaps or downTaps x downTaps
  const float* bias;                   // padded with zeros to whole blocks
  const float* x;
  float* y;
  float slope, gain, clamp;
  float* scratch;  // filteredScratch() floats for each thread
};

struct Generator {
  void (*upsample)(const float* x, Size in, int up, float* y);
  void (*blur)(const float* x, Size size, float* y);
  void (*epilogue)(const EpilogueArgs&);
  size_t (*epilogueScratch)(Size size);
  void (*fourier)(const FourierArgs&);
  size_t (*fourierScratch)(Size size);
};

/** filtered.cc. */
struct Filtered {
  void (*run)(const FilteredArgs&);
  size_t (*scratch)(const FilteredArgs&);
};

/** The tables for this machine, beside that of select(). */
const Generator& selectGenerator();
const Filtered& selectFiltered();

}  // namespace comface::cpu
