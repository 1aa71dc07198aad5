// cuBLASLt counts columns first: a row-major product c = a b is its c^T = b^T a^T, so operands change places and every
// stored matrix is taken as its own transpose.
#include "cuda/matmul.h"

namespace comface::cuda {

void expect(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const Code code = status == CUBLAS_STATUS_ALLOC_FAILED ? Code::outOfMemory : Code::deviceFailed;
  throw Error(code, std::string("cuBLASLt: ") + what + ": " + libraries().cublasLtGetStatusString(status));
}

namespace {

cublasLtMatrixLayout_t layout(Number number, int64_t stored, int64_t across) {  // row-major stored x across
  const cudaDataType type = number == Number::fp32 ? CUDA_R_32F : number == Number::bf16 ? CUDA_R_16BF : CUDA_R_16F;
  cublasLtMatrixLayout_t made = nullptr;
  expect(libraries().cublasLtMatrixLayoutCreate(&made, type, across, stored, across), "a layout");
  return made;
}

}  // namespace

Matmul::Matmul(const MatmulShape& s, bool exact, size_t workspaceBytes)
    : accumulate_(s.accumulate), workspaceBytes_(workspaceBytes) {
  const bool isTf32 = s.in == Number::fp32 && !exact;
  const auto compute = isTf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  expect(libraries().cublasLtMatmulDescCreate(&operation_, compute, CUDA_R_32F), "an operation");
  const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
    expect(libraries().cublasLtMatmulDescSetAttribute(operation_, name, &value, sizeof value), "an attribute");
  };
  const cublasOperation_t first = s.transposeB ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = s.transposeA ? CUBLAS_OP_T : CUBLAS_OP_N;
  set(CUBLASLT_MATMUL_DESC_TRANSA, first), set(CUBLASLT_MATMUL_DESC_TRANSB, second);
  if (s.bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  }
  a_ = s.transposeB ? layout(s.in, s.columns, s.depth) : layout(s.in, s.depth, s.columns);
  b_ = s.transposeA ? layout(s.in, s.depth, s.rows) : layout(s.in, s.rows, s.depth);
  c_ = layout(s.out, s.rows, s.columns);
}

Matmul::~Matmul() {
  for (const cublasLtMatrixLayout_t made : {a_, b_, c_}) {
    if (made) libraries().cublasLtMatrixLayoutDestroy(made);
  }
  if (operation_) libraries().cublasLtMatmulDescDestroy(operation_);
}

void Matmul::choose(cublasLtHandle_t blas) const {
  cublasLtMatmulPreference_t preference = nullptr;
  expect(libraries().cublasLtMatmulPreferenceCreate(&preference), "a preference");
  int found = 0;
  cublasStatus_t status = libraries().cublasLtMatmulPreferenceSetAttribute(
      preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspaceBytes_, sizeof workspaceBytes_);
  if (status == CUBLAS_STATUS_SUCCESS) {
    status =
        libraries().cublasLtMatmulAlgoGetHeuristic(blas, operation_, a_, b_, c_, c_, preference, 1, &chosen_, &found);
  }
  libraries().cublasLtMatmulPreferenceDestroy(preference);
  expect(found > 0 || status != CUBLAS_STATUS_SUCCESS ? status : CUBLAS_STATUS_NOT_SUPPORTED, "choosing an algorithm");
  isChosen_ = true;
}

void Matmul::run(const Context& context, const void* a, const void* b, const void* bias, void* c) const {
  if (!isChosen_) choose(context.blas);
  if (bias) {
    expect(
        libraries().cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
        "the bias");
  }
  const float one = 1, keep = accumulate_ ? 1 : 0;
  expect(libraries().cublasLtMatmul(context.blas, operation_, &one, b, a_, a, b_, &keep, c, c_, c, c_, &chosen_.algo,
                                    context.buffers.at(context.workspace), workspaceBytes_, context.stream),
         "a product");
}

}  // namespace comface::cuda
