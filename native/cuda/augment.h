// The views of a batch of pictures, made on the device: the same draws and formulas as augment.cc.
#pragma once
#include "../augment.h"
#include "cuda/kernels.h"

namespace comface::cuda {

/** Largest edge of a view: its filters stay in shared memory. */
inline constexpr int kLargestView = 1024;

/** All pointers into device memory. */
struct AugmentArgs {
  const uint8_t* pixels;          // packed pictures, aligned to 16 bytes
  const PackedPicture* pictures;  // where each lies
  const View* views;              // viewCount
  void* images;                   // viewCount x size x size x paddedChannels(3)
  int viewCount, size;            // views of size x size pixels
  Normalization normalization;
};

/** augmentView() or plainView() of every view. Against the CPU's: fp32 within 1e-4, the others within their rounding.
 * copies divides viewCount: 3 when views i, i + viewCount / 3 and i + 2 viewCount / 3 are of one pair, else 1. It makes
 * no difference but to the speed. */
void augment(Number number, const AugmentArgs& args, int copies, cudaStream_t stream);

}  // namespace comface::cuda
