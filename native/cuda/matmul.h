// cuBLASLt for the heads: row-major fp32 matrices as it is used here, y = x W^T + b and its two gradients.
#pragma once
#include "cuda/tensor.h"

namespace comface::cuda {

/** c (rows x columns) = a b [+ c] [+ bias in every row], all row-major fp32; `depth` is the sum's length. */
struct MatmulShape {
  int rows, columns, depth;
  bool transposeA = false;  // a is stored depth x rows
  bool transposeB = false;  // b is stored columns x depth
  bool accumulate = false, bias = false;
};

class Matmul {
 public:
  /** `exact`: products of full fp32, else of TF32. Reserves nothing: workspaceBytes of the context are shared. */
  Matmul(const MatmulShape& shape, bool exact, size_t workspaceBytes);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  void run(const Context& context, const float* a, const float* b, const float* bias, float* c) const;

 private:
  void choose(cublasLtHandle_t blas) const;

  bool accumulate_;
  size_t workspaceBytes_;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr;
  mutable cublasLtMatmulHeuristicResult_t chosen_{};
  mutable bool isChosen_ = false;
};

/** Throws deviceFailed with cuBLASLt's own words. */
void expect(cublasStatus_t status, const char* what);

/** What the heads may use of the shared workspace. */
inline constexpr size_t kMatmulWorkspaceBytes = size_t{32} << 20;

}  // namespace comface::cuda
