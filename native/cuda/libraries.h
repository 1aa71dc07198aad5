// cuDNN and cuBLASLt, found at run time: tables of their functions with the types of the real headers.
// cuDNN's shim aborts the process when a part of it is missing, so every part is looked for before its first call.
#pragma once
#include <cublasLt.h>
#include <cudnn.h>

#include <string>
#include <vector>

#include "core.h"

namespace comface::cuda {

#define COMFACE_CUDNN_FUNCTIONS(X) \
  X(cudnnGetVersion)               \
  X(cudnnGetErrorString)           \
  X(cudnnGetLastErrorString)       \
  X(cudnnCreate)                   \
  X(cudnnDestroy)                  \
  X(cudnnSetStream)                \
  X(cudnnBackendCreateDescriptor)  \
  X(cudnnBackendDestroyDescriptor) \
  X(cudnnBackendSetAttribute)      \
  X(cudnnBackendGetAttribute)      \
  X(cudnnBackendFinalize)          \
  X(cudnnBackendExecute)

#define COMFACE_CUBLASLT_FUNCTIONS(X)     \
  X(cublasLtGetVersion)                   \
  X(cublasLtGetStatusString)              \
  X(cublasLtCreate)                       \
  X(cublasLtDestroy)                      \
  X(cublasLtMatmul)                       \
  X(cublasLtMatmulDescCreate)             \
  X(cublasLtMatmulDescDestroy)            \
  X(cublasLtMatmulDescSetAttribute)       \
  X(cublasLtMatrixLayoutCreate)           \
  X(cublasLtMatrixLayoutDestroy)          \
  X(cublasLtMatmulPreferenceCreate)       \
  X(cublasLtMatmulPreferenceDestroy)      \
  X(cublasLtMatmulPreferenceSetAttribute) \
  X(cublasLtMatmulAlgoGetHeuristic)

/** The functions of both libraries, and where they were found. */
struct Libraries {
#define COMFACE_POINTER(name) decltype(&::name) name = nullptr;
  COMFACE_CUDNN_FUNCTIONS(COMFACE_POINTER)
  COMFACE_CUBLASLT_FUNCTIONS(COMFACE_POINTER)
#undef COMFACE_POINTER
  std::string cudnnPath, cublasLtPath;
};

/** The oldest cuDNN whose graph API has all that is used here. */
inline constexpr int kOldestCudnn = 91000;

/**
 * Opens both libraries once for the process and keeps them. Looks in COMFACE_CUDA_LIBRARIES (a folder, or a
 * site-packages/nvidia), in this library's own folder, then where the system's loader looks. Throws deviceUnavailable
 * with every path that was tried, or with what is too old.
 */
const Libraries& libraries();

}  // namespace comface::cuda
