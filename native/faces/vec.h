// Three-component vectors and the handful of scalar shapes every part of the face is drawn with.
// Head space: x to the right of the picture, y up, z towards the camera; 1 unit is 10 cm and the eyes sit at y = 0.
#pragma once

#include <algorithm>
#include <cmath>

namespace comface::faces {

struct Vec3 {
  float x = 0, y = 0, z = 0;
};
static_assert(sizeof(Vec3) == 3 * sizeof(float));  // pictures are filtered as plain floats

inline Vec3 operator+(const Vec3& a, const Vec3& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec3 operator-(const Vec3& a, const Vec3& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vec3 operator*(const Vec3& a, float s) { return {a.x * s, a.y * s, a.z * s}; }
inline Vec3 operator*(const Vec3& a, const Vec3& b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline float dot(const Vec3& a, const Vec3& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Vec3 cross(const Vec3& a, const Vec3& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
inline Vec3 unit(const Vec3& a) { return a * (1.0f / std::sqrt(std::max(dot(a, a), 1e-12f))); }

inline float clamp01(float x) { return x < 0 ? 0.0f : x > 1 ? 1.0f : x; }
inline float mix(float a, float b, float t) { return a + (b - a) * t; }
inline Vec3 mix(const Vec3& a, const Vec3& b, float t) { return a + (b - a) * t; }
inline float sq(float x) { return x * x; }

// 0 below a, 1 above b, smooth between; a > b gives the falling edge.
inline float smooth(float a, float b, float x) {
  const float t = clamp01((x - a) / (b - a));
  return t * t * (3 - 2 * t);
}

// Round hill of height 1 with compact support: no exp, and zero work outside.
inline float hill(float r2) { return r2 >= 1 ? 0.0f : (1 - r2) * (1 - r2); }
inline float hill(float dx, float dy, float rx, float ry) { return hill(sq(dx / rx) + sq(dy / ry)); }

// sRGB-like colors are written as the eye sees them and squared into linear light.
inline Vec3 linear(float r, float g, float b) { return {r * r, g * g, b * b}; }

// Where a parameter must stay in (0, 1) yet keep moving: identity near the middle, flattening at the ends.
inline float softUnit(float x) {
  if (x < 0.1f) return 0.1f * 0.1f / (0.2f - std::max(x, -1e3f));
  if (x > 0.9f) return 1 - 0.1f * 0.1f / (x - 0.8f);
  return x;
}

}  // namespace comface::faces
