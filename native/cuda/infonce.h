// What the two ways to InfoNCE share: infonce.cu for normalized rows, infonceplain.cu for any.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/kernels.h"

namespace comface::cuda::infonce {

inline int blocksOf(size_t count, int size) { return static_cast<int>((count + size - 1) / size); }

/** Takes a scratch buffer to pieces; without one it counts. */
class Pieces {
 public:
  explicit Pieces(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* next(size_t count) {
    T* const piece = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    used_ += (count * sizeof(T) + 255) / 256 * 256;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  char* memory_;
  size_t used_ = 0;
};

/** Over how many blocks the tiles of one block of rows are split, each getting `perSplit` of them: so that the last
 * wave of blocks is nearly full. */
struct Splits {
  int count, perSplit;
};
Splits splitsOf(int rowBlocks, int tiles);

/** loss = sum of parts / rows. */
void finishLoss(const double* parts, int count, int rows, double* loss, cudaStream_t stream);

/**
 * dz_j += factor scale (sum over k of (p_jk + p_kj) z_k - 2 z_pos(j)), scale = 1 / (rows temperature), the sum being
 * unit times that of `splits` parts, `plane` numbers apart, each with rows of `pitch`. z, dz: rows x width.
 */
struct Gather {
  Gather(const InfoNce& args, const float* factor)
      : z(args.z),
        factor(factor),
        rows(args.rows),
        width(args.width),
        scale(1 / (static_cast<double>(args.rows) * args.temperature)) {}
  const float *z, *factor, *parts = nullptr;
  int rows, width, pitch = 0, splits = 0;
  size_t plane = 0;
  double scale, unit = 1;
};
void gather(const Gather& args, float* dz, cudaStream_t stream);

// infonceplain.cu: by a running maximum, in fp32 without tensor cores. For rows of any length and width.
size_t plainScratch(int rows, int width);
void plain(const InfoNce& args, double* loss, cudaStream_t stream);
void plainBackward(const InfoNce& args, const float* factor, float* dz, cudaStream_t stream);

}  // namespace comface::cuda::infonce
