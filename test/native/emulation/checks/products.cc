// cuBLASLt's double: every transposition, type and epilogue on sizes with nothing in common, and what it refuses.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "checks/expect.h"
#include "emulation.h"

namespace comface::cuda::emulation {
namespace {

std::mt19937 random(11);

/** A matrix in device memory and its numbers as they are there, column by column. */
struct Matrix {
  Matrix(cudaDataType_t type, int rows, int columns, int stride)
      : type(type), rows(rows), columns(columns), stride(stride), values(stride * columns) {
    for (double& value : values) value = round(std::uniform_real_distribution<float>(-1, 1)(random));
    cudaMalloc(&data, bytes());
    cublasLtMatrixLayoutCreate(&layout, type, rows, columns, stride);
    upload();
  }
  ~Matrix() {
    cublasLtMatrixLayoutDestroy(layout);
    cudaFree(data);
  }
  Matrix(const Matrix&) = delete;
  double at(int i, int j, bool isTurned = false) const {
    return isTurned ? values[i * stride + j] : values[j * stride + i];
  }
  size_t bytes() const { return values.size() * (type == CUDA_R_32F ? 4 : 2); }
  double round(double value) const {
    if (type == CUDA_R_16F) return __half2float(__float2half_rn(static_cast<float>(value)));
    if (type == CUDA_R_16BF) return __bfloat162float(__float2bfloat16_rn(static_cast<float>(value)));
    return static_cast<float>(value);
  }
  void upload() {
    std::vector<char> raw(bytes());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto value = static_cast<float>(values[i]);
      if (type == CUDA_R_32F) reinterpret_cast<float*>(raw.data())[i] = value;
      if (type == CUDA_R_16F) reinterpret_cast<__half*>(raw.data())[i] = __float2half_rn(value);
      if (type == CUDA_R_16BF) reinterpret_cast<__nv_bfloat16*>(raw.data())[i] = __float2bfloat16_rn(value);
    }
    cudaMemcpy(data, raw.data(), bytes(), cudaMemcpyHostToDevice);
  }
  std::vector<double> download() const {
    std::vector<char> raw(bytes());
    cudaMemcpy(raw.data(), data, bytes(), cudaMemcpyDeviceToHost);
    std::vector<double> result;
    for (size_t i = 0; i < values.size(); ++i)
      result.push_back(type == CUDA_R_32F   ? reinterpret_cast<const float*>(raw.data())[i]
                       : type == CUDA_R_16F ? __half2float(reinterpret_cast<const __half*>(raw.data())[i])
                                            : __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(raw.data())[i]));
    return result;
  }

  cudaDataType_t type;
  int rows, columns, stride;
  std::vector<double> values;
  void* data = nullptr;
  cublasLtMatrixLayout_t layout = nullptr;
};

constexpr size_t kWorkspace = 1 << 16;

/** cuBLASLt's descriptors of one product. */
struct Call {
  explicit Call(cublasComputeType_t compute = CUBLAS_COMPUTE_32F) {
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&product, compute, CUDA_R_32F);
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspaceBytes,
                                         sizeof workspaceBytes);
    cudaMalloc(&workspace, kWorkspace);
  }
  ~Call() {
    cudaFree(workspace);
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatmulDescDestroy(product);
    cublasLtDestroy(handle);
  }
  Call(const Call&) = delete;
  template <class T>
  void set(cublasLtMatmulDescAttributes_t name, T value) {
    expectStatus(cublasLtMatmulDescSetAttribute(product, name, &value, sizeof value), 0, "an attribute of a product");
  }
  cublasStatus_t find(const Matrix& a, const Matrix& b, const Matrix& d) {
    int found = 0;
    const auto status = cublasLtMatmulAlgoGetHeuristic(handle, product, a.layout, b.layout, d.layout, d.layout,
                                                       preference, 1, &result, &found);
    expect((status == CUBLAS_STATUS_SUCCESS) == (found == 1), "a heuristic's count");
    return status;
  }
  cublasStatus_t run(const Matrix& a, const Matrix& b, const Matrix& d, float alpha, float beta,
                     size_t room = kWorkspace) {
    return cublasLtMatmul(handle, product, &alpha, a.data, a.layout, b.data, b.layout, &beta, d.data, d.layout, d.data,
                          d.layout, &result.algo, workspace, room, nullptr);
  }

  const size_t workspaceBytes = kWorkspace;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t result{};
  void* workspace = nullptr;
};

struct Case {
  cudaDataType_t in, out;
  bool turnA, turnB;
  cublasLtEpilogue_t epilogue;
  float beta;
};

void testCase(const Case& each) {
  constexpr int m = 13, n = 7, k = 21;
  const std::string name = "product " + std::to_string(each.in) + " " + std::to_string(each.out) + " " +
                           std::to_string(each.turnA) + std::to_string(each.turnB) + ", epilogue " +
                           std::to_string(each.epilogue);
  const Matrix a(each.in, each.turnA ? k : m, each.turnA ? m : k, 24),
      b(each.in, each.turnB ? n : k, each.turnB ? k : n, 23), d(each.out, m, n, 16);
  const bool isOfN = each.epilogue == CUBLASLT_EPILOGUE_BGRADB;
  const Matrix bias(each.out, isOfN ? n : m, 1, isOfN ? n : m);
  Call call;
  call.set(CUBLASLT_MATMUL_DESC_TRANSA, each.turnA ? CUBLAS_OP_T : CUBLAS_OP_N);
  call.set(CUBLASLT_MATMUL_DESC_TRANSB, each.turnB ? CUBLAS_OP_T : CUBLAS_OP_N);
  call.set(CUBLASLT_MATMUL_DESC_EPILOGUE, each.epilogue);
  if (each.epilogue != CUBLASLT_EPILOGUE_DEFAULT) call.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data);
  expectStatus(call.find(a, b, d), 0, name + " has an algorithm");
  expect(call.result.workspaceSize > 0 && call.result.workspaceSize <= kWorkspace, name + " wants a workspace");
  expectStatus(call.run(a, b, d, 0.5f, each.beta), 0, name + " runs");
  expectStatus(cudaDeviceSynchronize(), 0, name + " ends");
  const auto got = d.download(), gotBias = bias.download();
  const double step = each.out == CUDA_R_32F   ? std::ldexp(1, -24)
                      : each.out == CUDA_R_16F ? std::ldexp(1, -11)
                                               : std::ldexp(1, -8);
  int wrong = 0;
  std::vector<double> sums(isOfN ? n : m);
  for (int j = 0; j < d.columns; ++j)
    for (int i = 0; i < d.stride; ++i) {
      double wanted = d.at(i, j);
      if (i < m) {
        double sum = 0;
        for (int l = 0; l < k; ++l) sum += a.at(i, l, each.turnA) * b.at(l, j, each.turnB);
        wanted = 0.5 * sum + each.beta * wanted + (each.epilogue == CUBLASLT_EPILOGUE_BIAS ? bias.at(i, 0) : 0);
      }
      if (std::fabs(got[j * d.stride + i] - wanted) > step * std::fabs(wanted) + 1e-12) ++wrong;
    }
  for (size_t i = 0; i < sums.size(); ++i) {
    for (int l = 0; l < k; ++l)
      sums[i] += isOfN ? b.at(l, static_cast<int>(i), each.turnB) : a.at(static_cast<int>(i), l, each.turnA);
    const bool isGradient = each.epilogue == CUBLASLT_EPILOGUE_BGRADA || isOfN;
    const double wanted = isGradient ? sums[i] : bias.at(static_cast<int>(i), 0);
    if (std::fabs(gotBias[i] - wanted) > step * std::fabs(wanted) + 1e-12) ++wrong;
  }
  expect(wrong == 0, name + ": " + std::to_string(wrong) + " numbers");
}

void testProductRefusals() {
  const Matrix a(CUDA_R_32F, 8, 4, 8), b(CUDA_R_32F, 4, 5, 4), d(CUDA_R_32F, 8, 5, 8), half(CUDA_R_16F, 4, 5, 4),
      wrong(CUDA_R_32F, 7, 5, 8);
  Call call;
  expectStatus(call.find(a, b, wrong), CUBLAS_STATUS_INVALID_VALUE, "sizes that do not fit");
  expectStatus(call.find(a, half, d), CUBLAS_STATUS_NOT_SUPPORTED, "factors of two types");
  expectStatus(call.find(a, b, d), 0, "an algorithm");
  expectStatus(call.run(a, b, d, 1, 0, call.result.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE,
               "a workspace that is too small");
  const Matrix other(CUDA_R_32F, 4, 6, 4), otherD(CUDA_R_32F, 8, 6, 8);
  expectStatus(call.run(a, other, otherD, 1, 0), CUBLAS_STATUS_NOT_SUPPORTED, "an algorithm for another problem");
  call.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  expectStatus(call.find(a, b, d), 0, "an algorithm with bias");
  expectStatus(call.run(a, b, d, 1, 0), CUBLAS_STATUS_INVALID_VALUE, "a bias without pointer");
  Call shifted;
  shifted.find(a, b, d);
  const float one = 1, zero = 0;
  const auto runShifted = [&] {
    return cublasLtMatmul(shifted.handle, shifted.product, &one, static_cast<float*>(a.data) + 4, b.layout, b.data,
                          b.layout, &zero, d.data, d.layout, d.data, d.layout, &shifted.result.algo, shifted.workspace,
                          kWorkspace, nullptr);
  };
  expectStatus(runShifted(), CUBLAS_STATUS_INVALID_VALUE, "a matrix less aligned than the preference says");
}

/** Ten bits of fp32 are what tensor cores take. */
void testFast() {
  const Matrix a(CUDA_R_32F, 8, 64, 8), b(CUDA_R_32F, 64, 5, 64), d(CUDA_R_32F, 8, 5, 8);
  Call call(CUBLAS_COMPUTE_32F_FAST_TF32);
  call.find(a, b, d);
  expectStatus(call.run(a, b, d, 1, 0), 0, "TF32");
  cudaDeviceSynchronize();
  const auto got = d.download();
  double error = 0;
  for (int j = 0; j < 5; ++j)
    for (int i = 0; i < 8; ++i) {
      double sum = 0;
      for (int l = 0; l < 64; ++l) sum += a.at(i, l) * b.at(l, j);
      error = std::max(error, std::fabs(got[j * 8 + i] - sum));
    }
  expect(error > 1e-5 && error < 2e-2, "TF32 loses digits");
}

}  // namespace

void testProducts() {
  constexpr std::array<std::pair<cudaDataType_t, cudaDataType_t>, 5> types{{{CUDA_R_32F, CUDA_R_32F},
                                                                            {CUDA_R_16BF, CUDA_R_16BF},
                                                                            {CUDA_R_16F, CUDA_R_16F},
                                                                            {CUDA_R_16BF, CUDA_R_32F},
                                                                            {CUDA_R_16F, CUDA_R_32F}}};
  for (const auto& [in, out] : types)
    for (const bool turnA : {false, true})
      for (const bool turnB : {false, true}) {
        testCase({in, out, turnA, turnB, CUBLASLT_EPILOGUE_DEFAULT, 0});
        testCase({in, out, turnA, turnB, CUBLASLT_EPILOGUE_DEFAULT, 2});
        testCase({in, out, turnA, turnB, CUBLASLT_EPILOGUE_BIAS, 0});
        testCase({in, out, turnA, turnB, CUBLASLT_EPILOGUE_BGRADA, 0});
        testCase({in, out, turnA, turnB, CUBLASLT_EPILOGUE_BGRADB, 0});
      }
  testProductRefusals();
  testFast();
}

}  // namespace comface::cuda::emulation
