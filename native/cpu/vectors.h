// GCC's vectors of COMFACE_BLOCK floats, for the files that CMake compiles once per instruction set. Everything is in
// an anonymous namespace: the linker would keep one of a name, for the wrong processor.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/kernels.h"

namespace comface::cpu::COMFACE_ISA {
namespace {

constexpr int B = COMFACE_BLOCK;
typedef float Vec __attribute__((vector_size(B * 4)));
typedef int32_t Int __attribute__((vector_size(B * 4)));
typedef uint32_t Word __attribute__((vector_size(B * 4)));
typedef uint16_t Half __attribute__((vector_size(B * 2)));
typedef double Wide __attribute__((vector_size(B * 8)));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline Vec load(const Bf16* p) {
  Half h;
  std::memcpy(&h, p, sizeof h);
  return reinterpret_cast<Vec>(__builtin_convertvector(h, Word) << 16);
}
inline void store(Bf16* p, Vec v) {  // nearest even; the processor's own NaN keeps its quiet bit
  const Word bits = reinterpret_cast<Word>(v);
  const Half h = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Half);
  std::memcpy(p, &h, sizeof h);
}
inline Vec splat(float x) { return Vec{} + x; }
/** exp by 2^k * polynomial (Cephes' expf coefficients), relative error about 1e-7; below -87 it is 0. */
inline float exponential(float x) {
  const float t = std::max(x, -87.0f), k = std::floor(t * 1.44269504f + 0.5f);
  const float r = (t - k * 0.693359375f) + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  const int32_t bits = (static_cast<int32_t>(k) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return x < -87.0f ? 0.0f : p * power;
}

}  // namespace
}  // namespace comface::cpu::COMFACE_ISA
