// Three-component vectors, of numbers or of lanes, and the handful of scalar shapes every part of the face is drawn
// with. Head space: x to the right of the picture, y up, z towards the camera; 1 unit is 10 cm and the eyes sit at y =
// 0.
#pragma once

#include <algorithm>
#include <cmath>

#include "lanes.h"

namespace comface::faces::COMFACE_ISA {

template <class T>
struct Triple {
  T x{}, y{}, z{};
};
using Vec3 = Triple<float>;
using Vec3s = Triple<Lanes>;
static_assert(sizeof(Vec3) == 3 * sizeof(float));  // pictures are filtered as plain floats

template <class A, class B>
auto operator+(const Triple<A>& a, const Triple<B>& b) {
  return Triple<decltype(a.x + b.x)>{a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class A, class B>
auto operator-(const Triple<A>& a, const Triple<B>& b) {
  return Triple<decltype(a.x - b.x)>{a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class A, class B>
auto operator*(const Triple<A>& a, const Triple<B>& b) {
  return Triple<decltype(a.x * b.x)>{a.x * b.x, a.y * b.y, a.z * b.z};
}
template <class A>
Triple<A> operator*(const Triple<A>& a, float s) {
  return {a.x * s, a.y * s, a.z * s};
}
template <class A>
Vec3s operator*(const Triple<A>& a, const Lanes& s) {
  return {a.x * s, a.y * s, a.z * s};
}
template <class A, class B>
auto dot(const Triple<A>& a, const Triple<B>& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class A>
Triple<A> cross(const Triple<A>& a, const Triple<A>& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <class A>
Triple<A> unit(const Triple<A>& a) {
  return a * A(1 / root(larger(dot(a, a), 1e-12f)));
}

template <class T>
T clamp01(const T& x) {
  return smaller(larger(x, 0.0f), 1.0f);
}
template <class A, class B, class T>
auto mix(const A& a, const B& b, const T& t) {
  return a + (b - a) * t;
}
template <class T>
T sq(const T& x) {
  return x * x;
}

// 0 below a, 1 above b, smooth between; a > b gives the falling edge.
template <class A, class B, class X>
auto smooth(const A& a, const B& b, const X& x) {
  const auto scale = 1 / (b - a);
  const auto t = clamp01((x - a) * scale);
  return t * t * (3 - 2 * t);
}

// Round hill of height 1 with compact support: no exp, and zero outside.
template <class T>
T hill(const T& r2) {
  return sq(larger(1 - r2, 0.0f));
}
template <class X, class Y, class A, class B>
auto hill(const X& dx, const Y& dy, const A& rx, const B& ry) {
  const auto kx = 1 / rx;
  const auto ky = 1 / ry;
  return hill(sq(dx * kx) + sq(dy * ky));
}
// The same along one axis.
template <class X>
X ridge(const X& dx, float rx) {
  return hill(sq(X(dx * (1 / rx))));
}

// sRGB-like colors are written as the eye sees them and squared into linear light.
inline Vec3 linear(float r, float g, float b) { return {r * r, g * g, b * b}; }

// Where a parameter must stay in (0, 1) yet keep moving: identity near the middle, flattening at the ends.
inline float softUnit(float x) {
  if (x < 0.1f) return 0.1f * 0.1f / (0.2f - std::max(x, -1e3f));
  if (x > 0.9f) return 1 - 0.1f * 0.1f / (x - 0.8f);
  return x;
}

}  // namespace comface::faces::COMFACE_ISA
