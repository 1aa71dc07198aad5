// A cuBLASLt 13 for tests where there is no GPU: matrix products with the real ABI, by plain loops in double that round
// once. Stricter than the real one where that would only be undefined: pointers must be aligned as the preference
// promises (256 bytes unless it says less), and an algorithm serves only the problem that it was found for.
// cublasLtGetStatusString also tells the reason of this thread's last refusal.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "doubles/numbers.h"
#include "emulation.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

struct cublasLtContext {
  int unused = 0;
};

namespace comface::cuda::emulation {
namespace {

struct Failure {
  cublasStatus_t status;
  std::string text;
};

thread_local std::string lastReason;

template <class F>
cublasStatus_t answer(const F& body) {
  try {
    body();
    return CUBLAS_STATUS_SUCCESS;
  } catch (const Failure& failure) {
    lastReason = failure.text;
    return failure.status;
  }
}

void require(bool holds, const std::string& text, cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE) {
  if (!holds) throw Failure{status, text};
}

struct Product {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};

struct Layout {
  cudaDataType_t type;
  uint64_t rows, columns;
  int64_t stride;
};

struct Preference {
  uint64_t workspaceBytes = 0;
  uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D
};

/** What cublasLtMatmulAlgo_t holds. */
struct Algorithm {
  uint64_t mark, problem, workspaceBytes;
  uint32_t alignments[4];
};
constexpr uint64_t kMark = 0xc0face5eed;
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

template <class T, class Opaque>
T& from(Opaque* opaque) {
  require(opaque, "a descriptor is null");
  return *reinterpret_cast<T*>(opaque);
}

template <class T>
void take(T& into, const void* values, size_t size) {
  require(values && size >= sizeof(T), "an attribute's size");
  std::memcpy(&into, values, sizeof(T));
}

Format formatOf(cudaDataType_t type) {
  if (type == CUDA_R_32F) return Format::fp32;
  if (type == CUDA_R_16BF) return Format::bf16;
  require(type == CUDA_R_16F, "the double knows fp32, bf16 and fp16", CUBLAS_STATUS_NOT_SUPPORTED);
  return Format::fp16;
}

/** One product of matrices with everything that decides it. */
struct Problem {
  Product product;
  Layout a, b, c, d;
  uint64_t m, n, k;

  bool hasBias() const { return product.epilogue != CUBLASLT_EPILOGUE_DEFAULT; }
  uint64_t hash() const {
    uint64_t result = 1469598103934665603u;
    for (const uint64_t value :
         {uint64_t(product.compute), uint64_t(product.a), uint64_t(product.b), uint64_t(product.epilogue), m, n, k,
          uint64_t(a.type), uint64_t(d.type), uint64_t(a.stride), uint64_t(b.stride), uint64_t(d.stride)})
      result = (result ^ value) * 1099511628211u;
    return result;
  }
};

void checkTypes(const Problem& problem) {
  const auto& p = problem.product;
  const cublasStatus_t unsupported = CUBLAS_STATUS_NOT_SUPPORTED;
  const Format in = formatOf(problem.a.type), out = formatOf(problem.d.type);
  require(problem.a.type == problem.b.type && problem.c.type == problem.d.type,
          "types of A and B, or of C and D, differ", unsupported);
  require(out == in || out == Format::fp32, "a result of this type from factors of that", unsupported);
  require(p.scale == CUDA_R_32F, "a scale that is not fp32", unsupported);
  require(p.compute == CUBLAS_COMPUTE_32F || (p.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && in == Format::fp32),
          "a compute type that the double does not know for these matrices", unsupported);
  require(p.a != CUBLAS_OP_C && p.b != CUBLAS_OP_C, "conjugates", unsupported);
  constexpr cublasLtEpilogue_t known[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BGRADA,
                                          CUBLASLT_EPILOGUE_BGRADB};
  require(std::find(std::begin(known), std::end(known), p.epilogue) != std::end(known),
          "an epilogue that the double does not know", unsupported);
}

Problem problemOf(const Product& product, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const bool turnA = product.a == CUBLAS_OP_T, turnB = product.b == CUBLAS_OP_T;
  const Problem problem{
      product, a, b, c, d, turnA ? a.columns : a.rows, turnB ? b.rows : b.columns, turnA ? a.rows : a.columns};
  checkTypes(problem);
  for (const Layout& layout : {a, b, c, d})
    require(layout.rows > 0 && layout.columns > 0 && layout.stride >= static_cast<int64_t>(layout.rows),
            "a leading dimension");
  require((turnB ? b.columns : b.rows) == problem.k && d.rows == problem.m && d.columns == problem.n &&
              c.rows == d.rows && c.columns == d.columns,
          "sizes of matrices that do not fit");
  return problem;
}

uint64_t wantedWorkspace(const Problem& problem) { return 4096 + (problem.m * problem.n * 4 + 255) / 256 * 256; }

std::vector<double> load(const Layout& layout, const void* values, bool isTf32) {
  const Format format = formatOf(layout.type);
  const size_t size = format == Format::fp32 ? 4 : 2;
  std::vector<double> result;
  result.reserve(layout.rows * layout.columns);
  for (uint64_t j = 0; j < layout.columns; ++j)
    for (uint64_t i = 0; i < layout.rows; ++i) {
      const double value = read(format, static_cast<const char*>(values) + (j * layout.stride + i) * size);
      result.push_back(isTf32 ? tf32(value) : value);
    }
  return result;
}

void store(Format format, size_t at, double value, void* to) {
  write(format, value, static_cast<char*>(to) + at * (format == Format::fp32 ? 4 : 2));
}

/** To rows x columns, column after column, of what is columns x rows if `isTurned`. */
std::vector<double> straighten(std::vector<double> values, bool isTurned, uint64_t rows, uint64_t columns) {
  if (!isTurned) return values;
  std::vector<double> result(values.size());
  for (uint64_t j = 0; j < columns; ++j)
    for (uint64_t i = 0; i < rows; ++i) result[j * rows + i] = values[i * columns + j];
  return result;
}

struct Pointers {
  const void *a, *b, *c;
  void* d;
};

/** alpha op(A) op(B) + beta C, and the sums over k that are a bias's gradient. */
void multiply(const Problem& problem, float alpha, float beta, const Pointers& pointers) {
  const auto [m, n, k] = std::tuple{problem.m, problem.n, problem.k};
  const Product& product = problem.product;
  const bool isTf32 = product.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const auto a = straighten(load(problem.a, pointers.a, isTf32), product.a == CUBLAS_OP_T, m, k);
  const auto b = straighten(load(problem.b, pointers.b, isTf32), product.b == CUBLAS_OP_T, k, n);
  const Format format = formatOf(problem.d.type);
  auto* const bias = const_cast<void*>(product.bias);
  std::vector<double> before, biases(m), column(m), sumsA(m), sumsB(n);
  if (beta != 0) before = load(problem.c, pointers.c, false);
  if (product.epilogue == CUBLASLT_EPILOGUE_BIAS)
    biases = load({problem.d.type, m, 1, static_cast<int64_t>(m)}, bias, false);
  for (uint64_t j = 0; j < n; ++j) {
    std::fill(column.begin(), column.end(), 0);
    for (uint64_t l = 0; l < k; ++l) {
      const double value = b[j * k + l];
      sumsB[j] += value;
      for (uint64_t i = 0; i < m; ++i) column[i] += a[l * m + i] * value;
    }
    for (uint64_t i = 0; i < m; ++i) {
      const double sum = alpha * column[i] + (beta != 0 ? beta * before[j * m + i] : 0) + biases[i];
      store(format, j * problem.d.stride + i, sum, pointers.d);
    }
  }
  for (uint64_t l = 0; l < k; ++l)
    for (uint64_t i = 0; i < m; ++i) sumsA[i] += a[l * m + i];
  if (product.epilogue == CUBLASLT_EPILOGUE_BGRADA)
    for (uint64_t i = 0; i < m; ++i) store(format, i, sumsA[i], bias);
  if (product.epilogue == CUBLASLT_EPILOGUE_BGRADB)
    for (uint64_t j = 0; j < n; ++j) store(format, j, sumsB[j], bias);
}

int64_t spanBytes(const Layout& layout) {
  const auto rows = static_cast<int64_t>(layout.rows), columns = static_cast<int64_t>(layout.columns);
  return ((columns - 1) * layout.stride + rows) * (formatOf(layout.type) == Format::fp32 ? 4 : 2);
}

/** Whether the device may touch all of a product's matrices; the device is lost otherwise. */
bool isThere(const Problem& problem, const Pointers& pointers, bool readsC) {
  const auto biases =
      static_cast<int64_t>(problem.product.epilogue == CUBLASLT_EPILOGUE_BGRADB ? problem.n : problem.m);
  const int64_t biasBytes = spanBytes({problem.d.type, static_cast<uint64_t>(biases), 1, biases});
  return requireDevice(pointers.a, spanBytes(problem.a), "cuBLASLt's A") &&
         requireDevice(pointers.b, spanBytes(problem.b), "cuBLASLt's B") &&
         requireDevice(pointers.d, spanBytes(problem.d), "cuBLASLt's D") &&
         (!readsC || requireDevice(pointers.c, spanBytes(problem.c), "cuBLASLt's C")) &&
         (!problem.hasBias() || requireDevice(problem.product.bias, biasBytes, "cuBLASLt's bias"));
}

Algorithm find(const Problem& problem, const Preference& preference) {
  Algorithm algorithm{kMark, problem.hash(), wantedWorkspace(problem), {}};
  if (algorithm.workspaceBytes > preference.workspaceBytes) algorithm.workspaceBytes = 0;
  std::copy(std::begin(preference.alignments), std::end(preference.alignments), algorithm.alignments);
  return algorithm;
}

void checkAlgorithm(const Algorithm& algorithm, const Problem& problem, const Pointers& pointers) {
  require(algorithm.mark == kMark, "an algorithm that no heuristic gave");
  require(algorithm.problem == problem.hash(), "an algorithm for another problem", CUBLAS_STATUS_NOT_SUPPORTED);
  const void* all[] = {pointers.a, pointers.b, pointers.c, pointers.d};
  for (int i = 0; i < 4; ++i)
    require(reinterpret_cast<uintptr_t>(all[i]) % algorithm.alignments[i] == 0,
            std::string(1, "ABCD"[i]) + " is not aligned to " + std::to_string(algorithm.alignments[i]) +
                " bytes as the preference promised");
}

}  // namespace
}  // namespace comface::cuda::emulation

using namespace comface::cuda::emulation;

EXPORTED size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

EXPORTED const char* cublasLtGetStatusString(cublasStatus_t status) {
  thread_local std::string text;
  text = status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
         : status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                                 : "CUBLAS_STATUS " + std::to_string(status);
  if (status != CUBLAS_STATUS_SUCCESS && !lastReason.empty()) text += ": " + lastReason;
  return text.c_str();
}

EXPORTED cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return answer([&] {
    require(handle, "the handle is null");
    *handle = new cublasLtContext;
  });
}

EXPORTED cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORTED cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                                 cudaDataType_t scale) {
  return answer([&] {
    require(product, "the descriptor is null");
    *product = reinterpret_cast<cublasLtMatmulDesc_t>(new Product{compute, scale});
  });
}

EXPORTED cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
  delete reinterpret_cast<Product*>(product);
  return CUBLAS_STATUS_SUCCESS;
}

EXPORTED cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t opaque, cublasLtMatmulDescAttributes_t name,
                                                       const void* values, size_t size) {
  return answer([&] {
    auto& product = from<Product>(opaque);
    switch (name) {
      case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(product.a, values, size);
      case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(product.b, values, size);
      case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(product.epilogue, values, size);
      case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(product.bias, values, size);
      default:
        require(false, "the double does not know attribute " + std::to_string(name), CUBLAS_STATUS_NOT_SUPPORTED);
    }
  });
}

EXPORTED cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                                   uint64_t columns, int64_t stride) {
  return answer([&] {
    require(layout, "the layout is null");
    *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, stride});
  });
}

EXPORTED cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete reinterpret_cast<Layout*>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

EXPORTED cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return answer([&] {
    require(preference, "the preference is null");
    *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  });
}

EXPORTED cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete reinterpret_cast<Preference*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}

EXPORTED cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t opaque,
                                                             cublasLtMatmulPreferenceAttributes_t name,
                                                             const void* values, size_t size) {
  return answer([&] {
    auto& preference = from<Preference>(opaque);
    switch (name) {
      case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(preference.workspaceBytes, values, size);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(preference.alignments[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], values, size);
      default:
        require(false, "the double does not know preference " + std::to_string(name), CUBLAS_STATUS_NOT_SUPPORTED);
    }
  });
}

EXPORTED cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                       cublasLtMatmulPreference_t preference, int wanted,
                                                       cublasLtMatmulHeuristicResult_t* results, int* found) {
  if (found) *found = 0;
  return answer([&] {
    require(handle && results && found && wanted > 0, "a heuristic's arguments");
    const Problem problem =
        problemOf(from<Product>(product), from<Layout>(a), from<Layout>(b), from<Layout>(c), from<Layout>(d));
    const Algorithm algorithm = find(problem, from<Preference>(preference));
    results[0] = {};
    std::memcpy(&results[0].algo, &algorithm, sizeof algorithm);
    results[0].workspaceSize = algorithm.workspaceBytes;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1;
    *found = 1;
  });
}

EXPORTED cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void* alpha,
                                       const void* a, cublasLtMatrixLayout_t aLayout, const void* b,
                                       cublasLtMatrixLayout_t bLayout, const void* beta, const void* c,
                                       cublasLtMatrixLayout_t cLayout, void* d, cublasLtMatrixLayout_t dLayout,
                                       const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspaceSize,
                                       cudaStream_t stream) {
  return answer([&] {
    require(handle && alpha && beta && a && b && c && d, "a matrix, a scale or the handle is null");
    const Problem problem = problemOf(from<Product>(product), from<Layout>(aLayout), from<Layout>(bLayout),
                                      from<Layout>(cLayout), from<Layout>(dLayout));
    require(!problem.hasBias() || problem.product.bias, "an epilogue of a bias without its pointer");
    Algorithm algorithm = find(problem, Preference{workspaceSize});
    if (algo) std::memcpy(&algorithm, algo, sizeof algorithm);
    const Pointers pointers{a, b, c, d};
    checkAlgorithm(algorithm, problem, pointers);
    require(workspaceSize >= algorithm.workspaceBytes && (workspace || algorithm.workspaceBytes == 0),
            "a workspace smaller than the algorithm's");
    require(reinterpret_cast<uintptr_t>(workspace) % 16 == 0, "a workspace that is not aligned");
    const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
    const cudaError_t status = enqueue(stream, [=] {
      if (!isThere(problem, pointers, keep != 0)) return;
      if (algorithm.workspaceBytes && !requireDevice(workspace, algorithm.workspaceBytes, "cuBLASLt's workspace"))
        return;
      if (algorithm.workspaceBytes)
        std::memset(workspace, 0xff, algorithm.workspaceBytes);  // NaN, before and after: whoever shares it, shows
      multiply(problem, scale, keep, pointers);
      if (algorithm.workspaceBytes) std::memset(workspace, 0xff, algorithm.workspaceBytes);
    });
    require(status == cudaSuccess, "the stream takes no work", CUBLAS_STATUS_EXECUTION_FAILED);
  });
}
