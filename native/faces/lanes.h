// Several pixels, or corners of a mesh, side by side: painters compute kLanes of them at once.
// Every operation here is defined to the last bit by IEEE 754 and works lane by lane, so that pictures are the same on
// every processor and whatever shares a batch; work is skipped only where all lanes would have done nothing.
#pragma once

#include <cmath>
#include <cstdint>

namespace comface::faces::COMFACE_ISA {

inline constexpr int kLanes = 4;
using Lanes = float __attribute__((vector_size(4 * kLanes)));
using Mask = int32_t __attribute__((vector_size(4 * kLanes)));  // -1 where true

inline bool any(const Mask& mask) { return __builtin_ia32_movmskps(reinterpret_cast<Lanes>(mask)) != 0; }

inline Lanes spread(float x) { return Lanes{} + x; }
inline constexpr Lanes kNone{};

// The larger and the smaller of two, for one number or for lanes.
inline float larger(float a, float b) { return a > b ? a : b; }
inline Lanes larger(const Lanes& a, const Lanes& b) { return a > b ? a : b; }
inline Lanes larger(const Lanes& a, float b) { return larger(a, spread(b)); }
inline Lanes larger(float a, const Lanes& b) { return larger(b, spread(a)); }
inline float smaller(float a, float b) { return a < b ? a : b; }
inline Lanes smaller(const Lanes& a, const Lanes& b) { return a < b ? a : b; }
inline Lanes smaller(const Lanes& a, float b) { return smaller(a, spread(b)); }
inline Lanes smaller(float a, const Lanes& b) { return smaller(b, spread(a)); }

inline float magnitude(float x) { return std::fabs(x); }
inline Lanes magnitude(const Lanes& x) { return reinterpret_cast<Lanes>(reinterpret_cast<Mask>(x) & 0x7FFFFFFF); }

inline float root(float x) { return std::sqrt(x); }
inline Lanes root(const Lanes& x) {
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out[i] = std::sqrt(x[i]);
  return out;
}

// 1 where true, 0 where not.
inline Lanes amount(const Mask& mask) { return mask ? spread(1) : kNone; }

// The sine, within 4e-6: the C library's differs from processor to processor in the last bit.
template <class T>
T sine(const T& x) {
  const T turn = x * 0.159154943f, r = x - ((turn + 12582912.0f) - 12582912.0f) * 6.28318531f;
  // Beyond a quarter turn the curve runs back.
  const T a = smaller(larger(r, -3.14159265f - r), 3.14159265f - r), a2 = a * a;
  return a * (1 + a2 * (-0.166666580f + a2 * (0.00833305f + a2 * (-0.000198090f + a2 * 0.0000026019f))));
}
template <class T>
T cosine(const T& x) {
  return sine(T(x + 1.57079633f));
}

}  // namespace comface::faces::COMFACE_ISA
