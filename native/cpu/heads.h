// What both attentions are made of: parts of an image as matrices in fp32, and products of matrices that lie in a
// core's cache, tile by tile in registers. For the files that CMake compiles once per instruction set; in an anonymous
// namespace as vectors.h.
#pragma once
#include <limits>

#include "cpu/vectors.h"

namespace comface::cpu::COMFACE_ISA {
namespace {

inline float sumOf(Vec v) {
  float sum = 0;
  for (int j = 0; j < B; ++j) sum += v[j];
  return sum;
}
/** Of whole vectors; a NaN is passed over and shows in the exponentials. */
inline float mostOf(const float* p, int count) {
  Vec most = Vec{} - std::numeric_limits<float>::infinity();
  for (int i = 0; i < count; i += B) {
    const Vec v = load(p + i);
    most = v > most ? v : most;
  }
  float highest = most[0];
  for (int j = 1; j < B; ++j) highest = std::max(highest, most[j]);
  return highest;
}

template <class E>
E* blockOf(void* x, const Extent& e, int n, int block) {
  return static_cast<E*>(x) + (static_cast<size_t>(n) * e.blocks + block) * e.hw * B;
}
template <class E>
const E* blockOf(const void* x, const Extent& e, int n, int block) {
  return static_cast<const E*>(x) + (static_cast<size_t>(n) * e.blocks + block) * e.hw * B;
}

// ---- products ----

/** Rows and vectors of a tile of a product that is kept in registers. */
constexpr int kRows = 4, kVectors = B == 16 ? 4 : 2;

/** A matrix in fp32 by the steps from a row, and from a column, to the next. */
struct Matrix {
  const float* data;
  int row, column;
};

template <int R, int V>
inline void tile(const Matrix& a, const float* b, int bRow, float* c, int cRow, int inner, bool isAdded) {
  Vec sum[R][V] = {};
  for (int k = 0; k < inner; ++k) {
    Vec v[V];
    for (int j = 0; j < V; ++j) v[j] = load(b + static_cast<size_t>(k) * bRow + j * B);
    for (int i = 0; i < R; ++i) {
      const Vec x = splat(a.data[static_cast<size_t>(i) * a.row + static_cast<size_t>(k) * a.column]);
      for (int j = 0; j < V; ++j) sum[i][j] += x * v[j];
    }
  }
  for (int i = 0; i < R; ++i) {
    for (int j = 0; j < V; ++j) {
      float* to = c + static_cast<size_t>(i) * cRow + j * B;
      store(to, isAdded ? load(to) + sum[i][j] : sum[i][j]);
    }
  }
}

template <int V>
inline void strip(int rows, const Matrix& a, const float* b, int bRow, float* c, int cRow, int inner, bool isAdded) {
  int i = 0;
  const auto from = [&](int row) { return Matrix{a.data + static_cast<size_t>(row) * a.row, a.row, a.column}; };
  for (; i + kRows <= rows; i += kRows) {
    tile<kRows, V>(from(i), b, bRow, c + static_cast<size_t>(i) * cRow, cRow, inner, isAdded);
  }
  for (; i < rows; ++i) tile<1, V>(from(i), b, bRow, c + static_cast<size_t>(i) * cRow, cRow, inner, isAdded);
}

/** c = a b, or c += a b. a: rows x inner, b: inner x columns, row-major as c; columns: a multiple of B. */
inline void multiply(int rows, int columns, int inner, const Matrix& a, const float* b, int bRow, float* c, int cRow,
                     bool isAdded = false) {
  int j = 0;
  for (; j + kVectors * B <= columns; j += kVectors * B)
    strip<kVectors>(rows, a, b + j, bRow, c + j, cRow, inner, isAdded);
  for (; j < columns; j += B) strip<1>(rows, a, b + j, bRow, c + j, cRow, inner, isAdded);
}

inline int roundUp(int count) { return (count + B - 1) / B * B; }

// ---- parts of an image ----

inline float numberAt(const float* p) { return *p; }
inline float numberAt(const Bf16* p) {
  const uint32_t bits = static_cast<uint32_t>(*p) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline void putNumber(float* p, float value) { *p = value; }
inline void putNumber(Bf16* p, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *p = static_cast<Bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/** Some positions of a head: tokens [token, token + count) of sample n's channels [first, first + size). */
struct Part {
  int n, first, size, token, count;
};

/** Of an attention's result. */
template <class Args>
Extent resultExtent(const Args& a) {
  return {a.in.n, (a.channels + B - 1) / B, a.in.hw};
}

/** A part as count x size, in rows of whole vectors with zeros at the end. */
template <class E>
void gather(const void* image, const Extent& e, const Part& part, float* to) {
  const int wide = roundUp(part.size);
  for (int j = 0; j < wide; j += B) {
    const int channel = part.first + j, lanes = std::min(B, part.size - j);
    for (int t = 0; t < part.count; ++t) {
      const size_t at = static_cast<size_t>(part.token + t) * B;
      float* out = to + static_cast<size_t>(t) * wide + j;
      if (channel % B == 0 && lanes == B) {
        store(out, load(blockOf<E>(image, e, part.n, channel / B) + at));
        continue;
      }
      std::fill_n(out, B, 0.0f);
      for (int l = 0; l < lanes; ++l) {
        const int c = channel + l;
        out[l] = numberAt(blockOf<E>(image, e, part.n, c / B) + at + c % B);
      }
    }
  }
}

/** The way back, into an image of so many channels. Padding after the last of them becomes 0. */
template <class E>
void scatter(const float* from, void* image, const Extent& e, const Part& part, int channels) {
  const int wide = roundUp(part.size);
  for (int j = 0; j < wide; j += B) {
    const int channel = part.first + j, lanes = std::min(B, part.size - j);
    for (int t = 0; t < part.count; ++t) {
      const float* in = from + static_cast<size_t>(t) * wide + j;
      const size_t at = static_cast<size_t>(part.token + t) * B;
      if (channel % B == 0 && lanes == B) {
        store(blockOf<E>(image, e, part.n, channel / B) + at, load(in));
        continue;
      }
      for (int l = 0; l < lanes; ++l) {
        const int c = channel + l;
        putNumber(blockOf<E>(image, e, part.n, c / B) + at + c % B, in[l]);
      }
      for (int c = channel + lanes; channel + lanes == channels && c % B != 0; ++c) {
        putNumber(blockOf<E>(image, e, part.n, c / B) + at + c % B, 0);
      }
    }
  }
}

}  // namespace
}  // namespace comface::cpu::COMFACE_ISA
