// cuBLASLt for linear layers: row-major matrices as it is used here, y = x W^T + b and its two gradients. Vectors are
// fp32, tokens in the image's number type.
#pragma once
#include "cuda/tensor.h"

namespace comface::cuda {

/** c (rows x columns) = a b [+ c] [+ bias in every row], all row-major; `depth` is the sum's length. */
struct MatmulShape {
  int64_t rows, columns, depth;
  bool transposeA = false;  // a is stored depth x rows
  bool transposeB = false;  // b is stored columns x depth
  bool accumulate = false, bias = false;
  Number in = Number::fp32, out = Number::fp32;  // of a and b; of c and the bias: `in` or fp32
};

class Matmul {
 public:
  /** `exact`: products of fp32 numbers are of full fp32, else of TF32. Sums are fp32 always. Reserves nothing:
   * workspaceBytes of the context are shared. */
  Matmul(const MatmulShape& shape, bool exact, size_t workspaceBytes);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  void run(const Context& context, const void* a, const void* b, const void* bias, void* c) const;

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

/** What products may use of the shared workspace. */
inline constexpr size_t kMatmulWorkspaceBytes = size_t{32} << 20;

}  // namespace comface::cuda
