// The twin of native/cuda/mma.h: tensor cores played on the registers of a warp's 32 fibers.
#pragma once
#include <cuda_fp16.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda/device.h"

namespace comface::cuda {
namespace emulation {

struct Product {
  const uint32_t* a;
  uint32_t b[2];
  float* c;
};

struct Load {
  const uint16_t* row;
  uint32_t* out;
};

/** Half `side` of a word: fp16, or bf16. */
template <bool kBf16>
double halfOf(uint32_t word, int side) {
  if constexpr (kBf16) return std::bit_cast<float>((word >> 16 * side & 0xffff) << 16);
  static const std::vector<float> values = [] {
    std::vector<float> all(1 << 16);
    for (uint32_t i = 0; i < all.size(); ++i) {
      const float size = static_cast<float>(i & 1023);
      const int exponent = static_cast<int>(i >> 10 & 31);
      const float magnitude = exponent == 0    ? std::ldexp(size, -24)
                              : exponent == 31 ? (size > 0 ? NAN : INFINITY)
                                               : std::ldexp(1024 + size, exponent - 25);
      all[i] = i >> 15 ? -magnitude : magnitude;
    }
    return all;
  }();
  return values[word >> 16 * side & 0xffff];
}

/**
 * c + eight products as an A100 adds them up, which keeps the least of the devices we know: all are moved to the
 * largest exponent and cut off one bit behind fp32's last (Fasi et al., 2021, "Numerical behavior of NVIDIA tensor
 * cores"), and so is the sum at fp32's last.
 */
inline float addCutOff(float c, const double (&products)[8]) {
  double largest = std::fabs(c), plain = c;
  for (const double p : products) largest = std::max(largest, std::fabs(p)), plain += p;
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  const int exponent = static_cast<int>(std::bit_cast<uint64_t>(largest) >> 52);
  if (exponent == 0) return 0;
  const double unit = std::bit_cast<double>(static_cast<uint64_t>(exponent - 24) << 52), perUnit = 1 / unit;
  int64_t sum = static_cast<int64_t>(c * perUnit);
  for (const double p : products) sum += static_cast<int64_t>(p * perUnit);
  const int extra = static_cast<int>(std::bit_width(static_cast<uint64_t>(std::abs(sum)))) - 24;
  if (extra > 0) sum = sum / (int64_t{1} << extra) * (int64_t{1} << extra);
  return static_cast<float>(static_cast<double>(sum) * unit);
}

template <bool kBf16>
void multiplyAddTogether(void* const* lanes) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* product = static_cast<const Product*>(lanes[lane]);
    const int g = lane / 4, q = lane % 4;
    for (int side = 0; side < 2; ++side) {
      for (int word = 0; word < 4; ++word)
        a[g + word % 2 * 8][2 * q + side + word / 2 * 8] = halfOf<kBf16>(product->a[word], side);
      for (int word = 0; word < 2; ++word) b[2 * q + side + word * 8][g] = halfOf<kBf16>(product->b[word], side);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* const c = static_cast<const Product*>(lanes[lane])->c;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 16; k += 8) {
        double products[8];
        for (int d = 0; d < 8; ++d) products[d] = a[row][k + d] * b[k + d][column];
        c[i] = addCutOff(c[i], products);
      }
    }
  }
}

/** out[m] of each lane: two neighbors of a row of matrix m, or of a column. */
template <bool kTransposed>
void loadTogether(void* const* lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    uint32_t* const out = static_cast<const Load*>(lanes[lane])->out;
    for (int m = 0; m < 4; ++m) {
      uint16_t two[2];
      for (int i = 0; i < 2; ++i) {
        const int row = kTransposed ? lane % 4 * 2 + i : lane / 4, column = kTransposed ? lane / 4 : lane % 4 * 2 + i;
        two[i] = static_cast<const Load*>(lanes[8 * m + row])->row[column];
      }
      std::memcpy(out + m, two, sizeof two);
    }
  }
}

inline void loadAligned(Together load, const void* row, uint32_t* out, Where where) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) stop("a row of a matrix must begin at a multiple of 16 bytes", where);
  Load data = {static_cast<const uint16_t*>(row), out};
  exchangeTogether(load, &data, where);
}

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

/** Of the thread that runs now. Blocks run one after the other and wait for all of their copies. */
inline std::vector<Copy>& underWay() {
  static std::vector<Copy> copies[1024];
  return copies[threadIdx.x];
}

}  // namespace emulation

/** So few that already a few hundred rows make long loops of every block. */
inline constexpr int kProcessors = 7;

template <bool kBf16>
void multiplyAddOf(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]) {
  emulation::Product data = {a, {b0, b1}, c};
  emulation::exchangeTogether(emulation::multiplyAddTogether<kBf16>, &data, {__FILE__, __LINE__});
}
inline void multiplyAdd(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4]) {
  multiplyAddOf<false>(a, b0, b1, c);
}

inline void loadMatrices(const void* row, uint32_t (&out)[4]) {
  emulation::loadAligned(emulation::loadTogether<false>, row, out, {__FILE__, __LINE__});
}
inline void loadTransposed(const void* row, uint32_t (&out)[4]) {
  emulation::loadAligned(emulation::loadTogether<true>, row, out, {__FILE__, __LINE__});
}

/** Nothing arrives before the thread has waited for it. */
inline void copyAsync(__half* shared, const __half* global) { emulation::underWay().push_back({shared, global, 16}); }
inline void copyAsync(float* shared, const float* global) { emulation::underWay().push_back({shared, global, 4}); }
inline void waitForCopies() {
  for (const emulation::Copy& copy : emulation::underWay()) std::memcpy(copy.to, copy.from, copy.bytes);
  emulation::underWay().clear();
}

inline float exponential2(float x) { return x < -126 ? 0 : std::exp2(x); }

inline void splitHalves(float x, float y, uint32_t& high, uint32_t& low) {
  const __half2 rounded = __floats2half2_rn(x, y);
  const float2 back = __half22float2(rounded);
  const __half2 rest = __floats2half2_rn(x - back.x, y - back.y);
  std::memcpy(&high, &rounded, sizeof high);
  std::memcpy(&low, &rest, sizeof low);
}

}  // namespace comface::cuda
