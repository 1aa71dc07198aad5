// Tests of the doubles of cuDNN and cuBLASLt: their numbers against loops written another way, their refusals against
// those of the real libraries. `emulation-doubles --planning` does only what the real cuDNN does without a GPU; with
// LD_PRELOAD=libcudnn.so.9 it then tests the expectations themselves.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>

#include "checks/expect.h"
#include "checks/graphs.h"
#include "checks/refusals.h"
#include "emulation.h"

namespace comface::cuda::emulation {

namespace {
int failures = 0, checked = 0;
}  // namespace

void expect(bool holds, const std::string& what) {
  ++checked;
  if (holds) return;
  ++failures;
  std::printf("failed: %s\n", what.c_str());
}

void expectStatus(int status, int expected, const std::string& what) {
  std::string text = what;
  text.append(": ").append(std::to_string(status)).append(", expected ").append(std::to_string(expected));
  expect(status == expected, text);
}

namespace {

// ---- planning ----

void testRefusals(bool isReal) {
  for (const RefusalCase& each : refusalCases())
    if (!isReal || !each.isStricter) expectStatus(each.act(), each.expected, each.name);
}

void testGraphs(bool isReal) {
  constexpr std::pair<cudnnDataType_t, int> columns[] = {
      {CUDNN_DATA_BFLOAT16, 90}, {CUDNN_DATA_HALF, 90}, {CUDNN_DATA_FLOAT, 90}, {CUDNN_DATA_BFLOAT16, 80}};
  for (const GraphCase& each : graphCases()) {
    for (int i = 0; i < 4 && !(isReal && each.isOwn); ++i) {
      Builder g;
      each.build(g, columns[i].first);
      const std::string got = summary(g.plan(columns[i].second, 2));
      expect(got == each.expected[i],
             std::string(each.name) + ", column " + std::to_string(i) + ": " + got + ", expected " + each.expected[i]);
    }
  }
}

// ---- numbers ----

std::mt19937 random(7);

float draw() { return std::uniform_real_distribution<float>(-1, 1)(random); }

/** Relative size of half a step between a type's numbers. */
double halfStep(cudnnDataType_t type) {
  return type == CUDNN_DATA_FLOAT  ? std::ldexp(1, -24)
         : type == CUDNN_DATA_HALF ? std::ldexp(1, -11)
                                   : std::ldexp(1, -8);
}

/** Device memory seen as numbers of a type; index and set() round, at() reads. */
class Numbers {
 public:
  Numbers(cudnnDataType_t type, size_t count) : type_(type), count_(count) {
    cudaMalloc(&data_, bytes());
    host_.resize(bytes());
  }
  ~Numbers() { cudaFree(data_); }
  Numbers(const Numbers&) = delete;
  void* data() const { return data_; }
  size_t count() const { return count_; }
  void fill() {
    for (size_t i = 0; i < count_; ++i) set(i, draw());
    upload();
  }
  void set(size_t i, float value) {
    if (type_ == CUDNN_DATA_FLOAT) as<float>()[i] = value;
    if (type_ == CUDNN_DATA_HALF) as<__half>()[i] = __float2half_rn(value);
    if (type_ == CUDNN_DATA_BFLOAT16) as<__nv_bfloat16>()[i] = __float2bfloat16_rn(value);
  }
  double at(size_t i) const {
    const char* from = host_.data();
    if (type_ == CUDNN_DATA_FLOAT) return reinterpret_cast<const float*>(from)[i];
    if (type_ == CUDNN_DATA_HALF) return __half2float(reinterpret_cast<const __half*>(from)[i]);
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(from)[i]);
  }
  void upload() { cudaMemcpy(data_, host_.data(), bytes(), cudaMemcpyHostToDevice); }
  void download() { cudaMemcpy(host_.data(), data_, bytes(), cudaMemcpyDeviceToHost); }

 private:
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(host_.data());
  }
  size_t bytes() const { return count_ * (type_ == CUDNN_DATA_FLOAT ? 4 : 2); }
  cudnnDataType_t type_;
  size_t count_;
  void* data_ = nullptr;
  std::vector<char> host_;
};

/** A finalized plan and what it runs with. */
class Plan {
 public:
  /** `wantsExact`: the first without tensor cores. */
  Plan(Builder& g, bool wantsExact, cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A)
      : device_(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) {
    cudnnCreate(&handle_);
    cudnnBackendSetAttribute(device_, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle_);
    cudnnBackendFinalize(device_);
    const Handle* const graph = g.finish();
    if (!graph) return;
    const Handle heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    cudnnBackendDescriptor_t graphDescriptor = *graph, deviceDescriptor = device_;
    cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                             &graphDescriptor);
    cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                             &deviceDescriptor);
    cudnnBackendFinalize(heuristics);
    for (int i = 0; i < 8; ++i) configurations_.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    std::vector<cudnnBackendDescriptor_t> descriptors(configurations_.begin(), configurations_.end());
    int64_t count = 0;
    cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 8, &count,
                             descriptors.data());
    for (int64_t i = 0; i < count && !plan_; ++i)
      if (!wantsExact || !usesTensorCores(descriptors[i])) tryConfiguration(descriptors[i]);
  }
  ~Plan() { cudnnDestroy(handle_); }
  explicit operator bool() const { return plan_ != nullptr; }
  cudnnHandle_t handle() const { return handle_; }
  int64_t workspaceBytes() const { return workspaceBytes_; }

  cudnnStatus_t run(const std::vector<std::pair<Builder::Id, void*>>& bindings, void* workspace) {
    const Handle pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    std::vector<int64_t> ids;
    std::vector<void*> pointers;
    for (const auto& [id, pointer] : bindings) ids.push_back(id), pointers.push_back(pointer);
    const auto count = static_cast<int64_t>(ids.size());
    cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data());
    cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers.data());
    cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    cudnnBackendFinalize(pack);
    return cudnnBackendExecute(handle_, *plan_, pack);
  }

 private:
  static bool usesTensorCores(cudnnBackendDescriptor_t configuration) {
    const Handle engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t descriptor = engine;
    int64_t count = 0;
    cudnnBackendNumericalNote_t notes[8];
    cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                             &descriptor);
    cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 8, &count, notes);
    for (int64_t i = 0; i < count; ++i)
      if (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE) return true;
    return false;
  }

  void tryConfiguration(cudnnBackendDescriptor_t configuration) {
    auto plan = std::make_unique<Handle>(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle_);
    cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                             &configuration);
    if (cudnnBackendFinalize(*plan) != CUDNN_STATUS_SUCCESS) return;
    int64_t count = 0;
    cudnnBackendGetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                             &workspaceBytes_);
    plan_ = std::move(plan);
  }

  cudnnHandle_t handle_ = nullptr;
  Handle device_;
  std::deque<Handle> configurations_;
  std::unique_ptr<Handle> plan_;
  int64_t workspaceBytes_ = 0;
};

using Dims = Builder::Dims;
using Id = Builder::Id;

/** Tensors of a graph with memory behind them. */
class Bench {
 public:
  Builder g;

  Id real(cudnnDataType_t type, Dims dims, bool isInput) {
    const Id id = g.tensor(type, dims);
    auto& numbers = memory_[id] = std::make_unique<Numbers>(type, dims[0] * dims[1] * dims[2] * dims[3]);
    if (isInput) numbers->fill();
    return id;
  }
  Numbers& at(Id id) { return *memory_.at(id); }
  /** For sums, which are added to it. */
  Id startingAt(float value, int64_t channels) {
    const Id id = real(CUDNN_DATA_FLOAT, {1, channels, 1, 1}, false);
    for (int64_t i = 0; i < channels; ++i) at(id).set(i, value);
    at(id).upload();
    return id;
  }
  /** N C H W of a tensor whose channels lie side by side. */
  double at(Id id, Dims dims, int64_t n, int64_t c, int64_t h, int64_t w) {
    return at(id).at(((n * dims[2] + h) * dims[3] + w) * dims[1] + c);
  }
  std::vector<std::pair<Id, void*>> bindings() {
    std::vector<std::pair<Id, void*>> result;
    for (const auto& [id, numbers] : memory_) result.emplace_back(id, numbers->data());
    return result;
  }
  bool run(const std::string& name, bool isExact) {
    Plan plan(g, isExact);
    expect(static_cast<bool>(plan), name + " has a plan");
    if (!plan) return false;
    expect(plan.workspaceBytes() > 0, name + " wants a workspace");
    const Numbers workspace(CUDNN_DATA_FLOAT, plan.workspaceBytes() / 4 + 1);
    expectStatus(plan.run(bindings(), workspace.data()), 0, name + " runs");
    expectStatus(cudaDeviceSynchronize(), 0, name + " ends");
    for (const auto& [id, numbers] : memory_) numbers->download();
    return true;
  }

 private:
  std::map<Id, std::unique_ptr<Numbers>> memory_;
};

/** Sizes with nothing in common: a swap of any two shows. */
struct Odd {
  Dims x, w, y;
  int64_t pad, stride, dilation;
};
constexpr Odd kOdds[] = {{{2, 3, 7, 6}, {5, 3, 3, 2}, {2, 5, 4, 4}, 1, 2, 1},
                         {{1, 8, 5, 9}, {16, 8, 3, 3}, {1, 16, 5, 9}, 1, 1, 1},
                         {{3, 16, 9, 8}, {8, 16, 2, 3}, {3, 8, 7, 4}, 0, 1, 2},
                         {{2, 24, 4, 4}, {8, 24, 1, 1}, {2, 8, 2, 2}, 0, 2, 1}};

/** sum over the filter of x w, for one number of y; `visit` gets every pair of places instead. */
template <class F>
void eachPair(const Odd& o, const F& visit) {
  for (int64_t n = 0; n < o.y[0]; ++n)
    for (int64_t k = 0; k < o.w[0]; ++k)
      for (int64_t c = 0; c < o.w[1]; ++c)
        for (int64_t i = 0; i < o.y[2] * o.y[3] * o.w[2] * o.w[3]; ++i) {
          const int64_t s = i % o.w[3], r = i / o.w[3] % o.w[2], q = i / (o.w[3] * o.w[2]) % o.y[3],
                        p = i / (o.w[3] * o.w[2] * o.y[3]);
          const int64_t h = p * o.stride + r * o.dilation - o.pad, w = q * o.stride + s * o.dilation - o.pad;
          if (h >= 0 && h < o.x[2] && w >= 0 && w < o.x[3]) visit(n, k, c, p, q, r, s, h, w);
        }
}

size_t place(Dims dims, int64_t n, int64_t c, int64_t h, int64_t w) {
  return ((n * dims[2] + h) * dims[3] + w) * dims[1] + c;
}
size_t countOf(Dims dims) { return static_cast<size_t>(dims[0] * dims[1] * dims[2] * dims[3]); }

/** In double: `kind` 0 forward, 1 data, 2 filter. a and b are its operands in the order that Builder takes them. */
std::vector<double> convolve(int kind, const Odd& o, const Numbers& a, const Numbers& b) {
  std::vector<double> result(countOf(kind == 0 ? o.y : kind == 1 ? o.x : o.w));
  eachPair(o, [&](int64_t n, int64_t k, int64_t c, int64_t p, int64_t q, int64_t r, int64_t s, int64_t h, int64_t w) {
    const size_t x = place(o.x, n, c, h, w), f = place(o.w, k, c, r, s), y = place(o.y, n, k, p, q);
    if (kind == 0) result[y] += a.at(x) * b.at(f);
    if (kind == 1) result[x] += a.at(y) * b.at(f);
    if (kind == 2) result[f] += a.at(x) * b.at(y);
  });
  return result;
}

/** Rounded once from `wanted`, up to `slack` of it before. */
void expectNear(const std::string& name, const Numbers& got, const std::vector<double>& wanted, double relative,
                double absolute) {
  size_t wrong = 0;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (!(std::fabs(got.at(i) - wanted[i]) <= relative * std::fabs(wanted[i]) + absolute)) ++wrong;
  expect(wrong == 0, name + ": " + std::to_string(wrong) + " of " + std::to_string(wanted.size()) + " numbers");
}

void testConvolutions() {
  for (const cudnnDataType_t type : {CUDNN_DATA_FLOAT, CUDNN_DATA_HALF, CUDNN_DATA_BFLOAT16})
    for (const Odd& o : kOdds)
      for (int kind = 0; kind < 3; ++kind) {
        const std::string name = "convolution " + std::to_string(kind) + ", type " + std::to_string(type) + ", shape " +
                                 std::to_string(&o - kOdds);
        Bench bench;
        const Id a = bench.real(type, kind == 1 ? o.y : o.x, true), b = bench.real(type, kind == 2 ? o.y : o.w, true);
        const Id c = bench.real(type, kind == 0 ? o.y : kind == 1 ? o.x : o.w, false);
        if (kind == 0) bench.g.forward(a, b, c, o.pad, o.stride, o.dilation);
        if (kind == 1) bench.g.backwardData(a, b, c, o.pad, o.stride, o.dilation);
        if (kind == 2) bench.g.backwardFilter(a, b, c, o.pad, o.stride, o.dilation);
        if (bench.run(name, true))
          expectNear(name, bench.at(c), convolve(kind, o, bench.at(a), bench.at(b)), halfStep(type), 1e-12);
      }
}

constexpr Odd kFused{{2, 16, 5, 7}, {24, 16, 3, 3}, {2, 24, 5, 7}, 1, 1, 1};

/** conv -> fp32 inside -> 16-bit output, sums and sums of squares of what was inside. */
void testStatistics() {
  for (const cudnnDataType_t type : {CUDNN_DATA_HALF, CUDNN_DATA_BFLOAT16}) {
    Bench bench;
    const Id x = bench.real(type, kFused.x, true), w = bench.real(type, kFused.w, true),
             inside = bench.g.virtualTensor(CUDNN_DATA_FLOAT, kFused.y);
    const Id y = bench.real(type, kFused.y, false), sum = bench.startingAt(0, 24), squares = bench.startingAt(3, 24);
    bench.g.statistics(inside, sum, squares);
    bench.g.pointwise(CUDNN_POINTWISE_IDENTITY, inside, 0, y);
    bench.g.forward(x, w, inside, 1, 1);
    if (!bench.run("statistics", false)) return;
    const auto wanted = convolve(0, kFused, bench.at(x), bench.at(w));
    std::vector<double> sums(24), squared(24, 3);
    for (size_t i = 0; i < wanted.size(); ++i) sums[i % 24] += wanted[i], squared[i % 24] += wanted[i] * wanted[i];
    expectNear("statistics' output", bench.at(y), wanted, halfStep(type) * 1.001, 1e-12);
    expectNear("sums", bench.at(sum), sums, 1e-6, 2e-5);
    expectNear("sums of squares", bench.at(squares), squared, 1e-6, 2e-5);
  }
}

/** dgrad + add, ReLU backward, the 16-bit gradient, sum(d) and sum(d x). */
void testBackwardSums() {
  const auto type = CUDNN_DATA_BFLOAT16;
  Bench bench;
  Builder& g = bench.g;
  const Id dy = bench.real(type, kFused.y, true), w = bench.real(type, kFused.w, true),
           other = bench.real(type, kFused.x, true);
  const Id y = bench.real(type, kFused.x, true), x = bench.real(type, kFused.x, true),
           out = bench.real(type, kFused.x, false);
  const Id sum = bench.startingAt(5, 16), product = bench.startingAt(0, 16);
  const auto inside = [&] { return g.virtualTensor(CUDNN_DATA_FLOAT, kFused.x); };
  const Id dx = inside(), added = inside(), d = inside(), multiplied = inside();
  g.backwardData(dy, w, dx, 1, 1);
  g.pointwise(CUDNN_POINTWISE_ADD, dx, other, added);
  g.pointwise(CUDNN_POINTWISE_RELU_BWD, added, y, d);
  g.pointwise(CUDNN_POINTWISE_IDENTITY, d, 0, out);
  g.sum(d, sum);
  g.pointwise(CUDNN_POINTWISE_MUL, d, x, multiplied);
  g.sum(multiplied, product);
  if (!bench.run("backward sums", false)) return;
  auto wanted = convolve(1, kFused, bench.at(dy), bench.at(w));
  std::vector<double> sums(16, 5), products(16);
  for (size_t i = 0; i < wanted.size(); ++i) {
    wanted[i] = bench.at(y).at(i) > 0 ? wanted[i] + bench.at(other).at(i) : 0;
    sums[i % 16] += wanted[i];
    products[i % 16] += wanted[i] * bench.at(x).at(i);
  }
  expectNear("backward sums' output", bench.at(out), wanted, halfStep(type) * 1.001, 1e-6);
  expectNear("sum of d", bench.at(sum), sums, 1e-6, 2e-5);
  expectNear("sum of d x", bench.at(product), products, 1e-6, 2e-5);
}

/** scale, bias and ReLU before a convolution: its input is rounded to 16 bits, as declared. */
void testPrologue() {
  const auto type = CUDNN_DATA_BFLOAT16;
  Bench bench;
  Builder& g = bench.g;
  const Id x = bench.real(type, kFused.x, true), scale = bench.real(CUDNN_DATA_FLOAT, {1, 16, 1, 1}, true),
           shift = bench.real(CUDNN_DATA_FLOAT, {1, 16, 1, 1}, true);
  const Id w = bench.real(type, kFused.w, true), y = bench.real(type, kFused.y, false);
  const Id scaled = g.virtualTensor(CUDNN_DATA_FLOAT, kFused.x), shifted = g.virtualTensor(CUDNN_DATA_FLOAT, kFused.x),
           input = g.virtualTensor(type, kFused.x);
  g.pointwise(CUDNN_POINTWISE_MUL, x, scale, scaled);
  g.pointwise(CUDNN_POINTWISE_ADD, scaled, shift, shifted);
  g.pointwise(CUDNN_POINTWISE_RELU_FWD, shifted, 0, input);
  g.forward(input, w, y, 1, 1);
  if (!bench.run("prologue", false)) return;
  Numbers rounded(type, countOf(kFused.x));
  for (size_t i = 0; i < rounded.count(); ++i) {
    const auto product = static_cast<float>(bench.at(x).at(i)) * static_cast<float>(bench.at(scale).at(i % 16));
    rounded.set(i, std::max(product + static_cast<float>(bench.at(shift).at(i % 16)), 0.0f));
  }
  expectNear("prologue", bench.at(y), convolve(0, kFused, rounded, bench.at(w)), halfStep(type), 1e-12);
}

/** A filter's gradient in fp32 from 16 bits, and what tensor cores make of fp32. */
void testFilterAndTf32() {
  Bench bench;
  const Id x = bench.real(CUDNN_DATA_BFLOAT16, kFused.x, true), dy = bench.real(CUDNN_DATA_BFLOAT16, kFused.y, true);
  const Id inside = bench.g.virtualTensor(CUDNN_DATA_FLOAT, kFused.w),
           dw = bench.real(CUDNN_DATA_FLOAT, kFused.w, false);
  bench.g.backwardFilter(x, dy, inside, 1, 1);
  bench.g.pointwise(CUDNN_POINTWISE_IDENTITY, inside, 0, dw);
  if (bench.run("wgrad", false))
    expectNear("wgrad", bench.at(dw), convolve(2, kFused, bench.at(x), bench.at(dy)), halfStep(CUDNN_DATA_FLOAT),
               1e-12);
  for (const bool isExact : {true, false}) {
    Bench single;
    const Id a = single.real(CUDNN_DATA_FLOAT, kFused.x, true), w = single.real(CUDNN_DATA_FLOAT, kFused.w, true),
             y = single.real(CUDNN_DATA_FLOAT, kFused.y, false);
    single.g.forward(a, w, y, 1, 1);
    if (!single.run("fp32", isExact)) return;
    const auto wanted = convolve(0, kFused, single.at(a), single.at(w));
    double error = 0;
    for (size_t i = 0; i < wanted.size(); ++i) error = std::max(error, std::fabs(single.at(y).at(i) - wanted[i]));
    expect(isExact ? error < 1e-6 : error > 1e-4 && error < 2e-2,
           isExact ? "fp32 without tensor cores is exact" : "fp32 on tensor cores is not");
  }
}

// ---- running ----

/** dx + other -> y: the smallest fused graph, and everything that can be wrong with running it. */
void testRunning() {
  const auto type = CUDNN_DATA_BFLOAT16;
  Bench bench;
  const Id dy = bench.real(type, kFused.y, true), w = bench.real(type, kFused.w, true),
           other = bench.real(type, kFused.x, true), y = bench.real(type, kFused.x, false);
  const Id inside = bench.g.virtualTensor(CUDNN_DATA_FLOAT, kFused.x);
  bench.g.backwardData(dy, w, inside, 1, 1);
  bench.g.pointwise(CUDNN_POINTWISE_ADD, inside, other, y);
  if (!bench.run("dgrad and add", false)) return;
  Plan plan(bench.g, false);
  const Numbers workspace(CUDNN_DATA_FLOAT, plan.workspaceBytes() / 4 + 1);
  const auto with = [&](Id id, void* pointer) {
    auto bindings = bench.bindings();
    for (auto& binding : bindings)
      if (binding.first == id) binding.second = pointer;
    return plan.run(bindings, workspace.data());
  };
  auto bindings = bench.bindings();
  bindings.pop_back();
  expectStatus(plan.run(bindings, workspace.data()), CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a tensor without pointer");
  expectStatus(with(other, nullptr), CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a null pointer");
  expectStatus(with(w, static_cast<char*>(bench.at(w).data()) + 2), CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
               "a pointer that is not aligned");
  expectStatus(plan.run(bench.bindings(), nullptr), CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace");
  expectStatus(with(y, bench.at(dy).data()), CUDNN_STATUS_BAD_PARAM, "an output over the convolution's input");
  expectStatus(with(y, bench.at(other).data()), 0, "an output over a pointwise operand");
  expectStatus(cudaDeviceSynchronize(), 0, "in place");
  expectStatus(with(other, workspace.data()), 0, "an operand in the workspace");
  expectStatus(cudaDeviceSynchronize(), 0, "an operand in the workspace, ended");
  bench.at(y).download();
  expect(std::isnan(bench.at(y).at(0)), "an operand in the workspace shows");
  const Numbers small(CUDNN_DATA_FLOAT, 16);
  const cudnnStatus_t status = plan.run(bench.bindings(), small.data());
  expect(status != CUDNN_STATUS_SUCCESS || cudaDeviceSynchronize() != cudaSuccess,
         "a workspace that is too small shows");
  reset();
}

void testStreams() {
  Settings deferred = settings();
  const Settings before = deferred;
  deferred.defer = true;
  configure(deferred);
  Bench bench;
  const Id x = bench.real(CUDNN_DATA_FLOAT, {1, 8, 1, 1}, true), y = bench.real(CUDNN_DATA_FLOAT, {1, 8, 1, 1}, false);
  bench.g.pointwise(CUDNN_POINTWISE_RELU_FWD, x, 0, y);
  {
    Plan plan(bench.g, false);
    const Numbers workspace(CUDNN_DATA_FLOAT, plan.workspaceBytes() / 4 + 1);
    cudaStream_t stream = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaDeviceSynchronize();
    expectStatus(cudnnSetStream(plan.handle(), stream), 0, "a stream is set");
    expectStatus(plan.run(bench.bindings(), workspace.data()), 0, "a deferred run");
    // Read past the runtime, which would wait.
    const auto* const input = static_cast<const float*>(bench.at(x).data());
    const volatile float* const output = static_cast<const float*>(bench.at(y).data());
    expect(std::isnan(output[0]), "a deferred plan has not run");
    cudaStreamSynchronize(stream);
    expect(output[0] == std::max(input[0], 0.0f), "a plan runs when its stream comes to it");
    cudaStreamDestroy(stream);
  }
  configure(before);
}

/** What COMFACE_EMULATION_REFUSE refuses. */
void testOnDemand() {
  const auto plans = [](const char* words, bool isFused) {
    setenv("COMFACE_EMULATION_REFUSE", words, 1);
    Builder g;
    graphCases()[isFused ? 22 : 0].build(g, CUDNN_DATA_BFLOAT16);
    const std::string result = g.plan(90).best;
    unsetenv("COMFACE_EMULATION_REFUSE");
    return result;
  };
  expect(plans("", false) == "?T ?T ?" && plans("", true) == "90T 80T", "everything is planned");
  expect(plans("fused", false) == "?T ?T ?" && plans("fused", true).empty(), "fused graphs are refused");
  expect(plans("all", false).empty() && plans("all", true).empty(), "all graphs are refused");
  expect(plans("first", false) == "?T ?" && plans("first", true) == "80T", "first configurations are refused");
  expect(plans("first,fused", true).empty(), "two words");
}

/** An engine by its number with a knob, for the current device: as a stored choice is taken again. */
cudnnStatus_t planByNumber(int64_t index, cudnnBackendKnobType_t type) {
  Builder g;
  cudnnCreate(&g.handle);
  graphCases()[0].build(g, CUDNN_DATA_BFLOAT16);
  const Handle engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
  const Handle configuration(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  const cudnnBackendDescriptor_t graph = *g.finish(), parts[] = {engine, knob, configuration};
  const int64_t value = 3;
  cudnnBackendSetAttribute(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
  cudnnBackendSetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
  cudnnBackendSetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
  cudnnBackendSetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
  cudnnStatus_t status = cudnnBackendFinalize(engine);
  if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendFinalize(knob);
  cudnnBackendSetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, parts);
  cudnnBackendSetAttribute(configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                           parts + 1);
  if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendFinalize(configuration);
  cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g.handle);
  cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, parts + 2);
  if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendFinalize(plan);
  cudnnDestroy(g.handle);
  return status;
}

void testChoices() {
  expectStatus(planByNumber(22, CUDNN_KNOB_TYPE_TILE_SIZE), CUDNN_STATUS_SUCCESS, "an engine by its number");
  expectStatus(planByNumber(4, CUDNN_KNOB_TYPE_TILE_SIZE), CUDNN_STATUS_NOT_SUPPORTED, "an engine of other graphs");
  expectStatus(planByNumber(22, CUDNN_KNOB_TYPE_SPLIT_K), CUDNN_STATUS_BAD_PARAM, "a knob that is not there");
}

int test(bool isReal) {
  testRefusals(isReal);
  testGraphs(isReal);
  if (!isReal) {
    testConvolutions();
    testStatistics();
    testBackwardSums();
    testPrologue();
    testFilterAndTf32();
    testOnDemand();
    testChoices();
    testStreams();
    testProducts();
    testRunning();
  }
  std::printf("%d checks, %d failed\n", checked, failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace comface::cuda::emulation

int main(int argc, char** argv) {
  return comface::cuda::emulation::test(argc > 1 && std::strcmp(argv[1], "--planning") == 0);
}
