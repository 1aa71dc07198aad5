// What tests of image kernels share: tensors on the device of any number type, comparison with numbers in double, and
// every test's run in several orders of threads and blocks.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kernels.h"
#include "cuda/runtime.h"
#include "emulation.h"

namespace comface::cuda {

using Numbers = std::vector<double>;

inline const char* nameOf(Number number) {
  return number == Number::fp32 ? "fp32" : number == Number::bf16 ? "bf16" : "fp16";
}
/** Half the distance of neighbors, relative: what one rounding costs at most. */
inline double unitOf(Number number) {
  return std::ldexp(1, number == Number::fp32 ? -24 : number == Number::bf16 ? -8 : -11);
}
/** The same near 0. */
inline double leastOf(Number number) { return number == Number::fp16 ? std::ldexp(1, -25) : 1e-38; }

inline void encode(Number number, double value, char* to) {
  const float x = static_cast<float>(value);
  const __nv_bfloat16 b(x);
  const __half h(x);
  const void* from = number == Number::fp32   ? static_cast<const void*>(&x)
                     : number == Number::bf16 ? static_cast<const void*>(&b)
                                              : &h;
  std::memcpy(to, from, sizeOf(number));
}
inline double decode(Number number, const char* from) {
  float x;
  __nv_bfloat16 b;
  __half h;
  if (number == Number::fp32) return std::memcpy(&x, from, 4), x;
  if (number == Number::bf16) return std::memcpy(static_cast<void*>(&b), from, 2), static_cast<float>(b);
  return std::memcpy(static_cast<void*>(&h), from, 2), static_cast<float>(h);
}

/** A tensor on the device. */
class Tensor {
 public:
  Tensor(Number number, size_t count) : number_(number), count_(count) {
    check(cudaMalloc(&data_, std::max<size_t>(1, count) * sizeOf(number)), "cudaMalloc");
  }
  Tensor(Number number, const Numbers& values) : Tensor(number, values.size()) { write(values); }
  ~Tensor() { cudaFree(data_); }
  Tensor(const Tensor&) = delete;
  void write(const Numbers& values) {
    std::vector<char> bytes(count_ * sizeOf(number_));
    for (size_t i = 0; i < count_; ++i) encode(number_, values[i], &bytes[i * sizeOf(number_)]);
    check(cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  std::vector<char> bytes() const {
    std::vector<char> bytes(count_ * sizeOf(number_));
    check(cudaMemcpy(bytes.data(), data_, bytes.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return bytes;
  }
  Numbers read() const {
    const std::vector<char> raw = bytes();
    Numbers values(count_);
    for (size_t i = 0; i < count_; ++i) values[i] = decode(number_, &raw[i * sizeOf(number_)]);
    return values;
  }
  template <class T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }
  operator void*() const { return data_; }

 private:
  Number number_;
  size_t count_;
  void* data_ = nullptr;
};

/** fp32 on the device. */
struct Floats : Tensor {
  explicit Floats(size_t count) : Tensor(Number::fp32, count) {}
  explicit Floats(const Numbers& values) : Tensor(Number::fp32, values) {}
  operator float*() const { return data<float>(); }
};

// ---- What a part has found ----

inline int failures = 0;
inline double worst = 0;  // error in units of its tolerance
inline size_t compared = 0;

inline void near(const std::string& what, size_t at, double got, double want, double tolerance) {
  ++compared;
  const bool isSame = got == want || (std::isnan(got) && std::isnan(want));
  const double error = isSame ? 0 : std::abs(got - want) / tolerance;
  if (!(error <= 1) && ++failures <= 20) {
    printf("%s [%zu]: %.9g, expected %.9g within %.3g\n", what.c_str(), at, got, want, tolerance);
  }
  if (error > worst) worst = error;
}
/** tolerances: what is allowed beside one rounding of the result, repeated over the numbers (C of them: by channel). */
inline void near(const std::string& what, const Numbers& got, const Numbers& want, Number number,
                 const Numbers& tolerances) {
  for (size_t i = 0; i < want.size(); ++i) {
    const double room =
        std::abs(want[i]) * unitOf(number) * 1.001 + leastOf(number) + tolerances[i % tolerances.size()];
    near(what, i, got[i], want[i], room);
  }
}
inline void near(const std::string& what, const Numbers& got, const Numbers& want, Number number, double tolerance) {
  near(what, got, want, number, Numbers{tolerance});
}

inline std::mt19937_64 random64(1);
inline double normal() {
  static std::normal_distribution<double> distribution;
  return distribution(random64);
}
inline double round(Number number, double value) {
  char raw[4];
  return encode(number, value, raw), decode(number, raw);
}
/** Normal numbers that the number type has; 0 in the channels from `present` on. */
inline Numbers image(Number number, size_t m, int c, int present, double mean = 0, double deviation = 1) {
  Numbers values(m * c);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<int>(i % c) < present ? round(number, mean + deviation * normal()) : 0;
  }
  return values;
}

/** Runs `body`, which returns the bytes it made, in several orders: the first must be right, the rest the same. */
template <class F>
void inAllOrders(const std::string& what, const F& body) {
  using emulation::Order;
  const std::vector<char> first = body(true);
  for (const auto& [order, seed] : {std::pair{Order::backward, 1}, {Order::shuffled, 2}}) {
    emulation::Settings settings = emulation::settings();
    settings.order = order, settings.seed = seed;
    emulation::configure(settings);
    if (body(false) != first) ++failures, printf("%s: other bits in another order\n", what.c_str());
    settings.order = Order::forward;
    emulation::configure(settings);
  }
}

inline void append(std::vector<char>& all, const Tensor& tensor) {
  const std::vector<char> bytes = tensor.bytes();
  all.insert(all.end(), bytes.begin(), bytes.end());
}

/** What tests the kernels of one op, or some that go together. */
using Part = std::pair<const char*, void (*)(Number)>;

/** Runs the part that `only` names, or all, in each of the number types, with a line for each; 0 if nothing failed. */
inline int runParts(const std::string& only, const std::vector<Part>& parts,
                    const std::vector<Number>& numbers = {Number::fp32, Number::bf16, Number::fp16}) {
  int failedParts = 0;
  for (const auto& [name, part] : parts) {
    if (!only.empty() && only != name) continue;
    for (const Number number : numbers) {
      failures = 0, worst = 0, compared = 0;
      part(number);
      if (emulation::living().allocations > 0) ++failures, printf("memory is left over\n");
      printf("%s %s: %zu numbers, %d failures, worst error %.2f of its tolerance\n", name, nameOf(number), compared,
             failures, worst);
      failedParts += failures > 0;
    }
  }
  return failedParts > 0;
}

/** The main() of such a program: runs the part that the first argument names, or all. */
template <class Run>
int runPart(int argc, char** argv, const Run& run) {
  try {
    return run(argc > 1 ? argv[1] : "");
  } catch (const std::exception& error) {
    printf("%s\n", error.what());
    return 1;
  }
}

void testNorm(Number number);       // norm.cc
void testAttention(Number number);  // attention.cc
void testEfficient(Number number);  // efficient.cc

}  // namespace comface::cuda
