// Streams of random parameters on top of rng.h, and smooth lattice noise for textures.
// Nothing here keeps state between calls; changing a stream number changes every picture.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "../rng.h"
#include "vec.h"

namespace comface::faces::COMFACE_ISA {

// What a stream of draws is for. Streams of one person or photograph never share numbers.
enum Stream : uint32_t {
  kIdentity = 1,
  kPose = 2,
  kExpression = 3,
  kLighting = 4,
  kCamera = 5,
  kBackdrop = 6,
  kMotion = 7
};

// Draws that depend only on the key and on how many were taken before.
class Random {
 public:
  // `part`: streams that have parts, up to 2^20 of them, take at most 64 draws in each.
  Random(uint64_t seed, uint32_t subject, uint32_t photo, Stream stream, uint32_t part = 0)
      : seed_(seed), subject_(subject), photo_(photo), next_((static_cast<uint32_t>(stream) << 24) + (part << 4)) {}

  uint32_t bits() {
    if (left_ == 0) draw_ = rng::philox(seed_, rng::kFace, subject_, photo_, next_++), left_ = 4;
    return draw_[--left_];
  }
  float uniform() { return rng::unit(bits()); }
  float range(float a, float b) { return a + (b - a) * uniform(); }
  bool chance(float p) { return uniform() < p; }
  // Sum of three uniforms: variance 1, never beyond 3, so no parameter can leave its plausible range.
  float normal() {
    const float a = uniform(), b = uniform();
    return (a + b + uniform() - 1.5f) * 2.0f;
  }

 private:
  uint64_t seed_;
  uint32_t subject_, photo_, next_;
  int left_ = 0;
  rng::Draw draw_{};
};

inline constexpr int kTile = 128;  // lattice period; a power of two

// Values in [-1, 1] on a lattice, built at compile time so that there is nothing to initialize.
inline constexpr auto kLattice = [] {
  std::array<float, kTile * kTile> a{};
  uint32_t h = 0x12345u;
  for (auto& v : a) {
    h = h * 747796405u + 2891336453u;
    uint32_t w = ((h >> ((h >> 28) + 4)) ^ h) * 277803737u;
    w ^= w >> 22;
    v = static_cast<float>(w >> 8) * 0x1p-23f - 1.0f;
  }
  return a;
}();

// Smooth noise in [-1, 1], period kTile.
inline float noise(float x, float y) {
  // Not std::floor: without SSE4.1 that is a library call, and this is the innermost function of all.
  const int ix = static_cast<int>(x) - (x < 0), iy = static_cast<int>(y) - (y < 0);
  const int x0 = ix & (kTile - 1), x1 = (x0 + 1) & (kTile - 1);
  const int y0 = (iy & (kTile - 1)) * kTile, y1 = (y0 + kTile) & (kTile * kTile - 1);
  float tx = x - static_cast<float>(ix), ty = y - static_cast<float>(iy);
  tx = tx * tx * (3 - 2 * tx);
  ty = ty * ty * (3 - 2 * ty);
  const float a = kLattice[y0 + x0] + (kLattice[y0 + x1] - kLattice[y0 + x0]) * tx;
  const float b = kLattice[y1 + x0] + (kLattice[y1 + x1] - kLattice[y1 + x0]) * tx;
  return a + (b - a) * ty;
}

inline Lanes noise(const Lanes& x, const Lanes& y) {
  const Mask ix = __builtin_convertvector(x, Mask) + (x < 0), iy = __builtin_convertvector(y, Mask) + (y < 0);
  const Mask x0 = ix & (kTile - 1), x1 = (x0 + 1) & (kTile - 1);
  const Mask y0 = (iy & (kTile - 1)) * kTile, y1 = (y0 + kTile) & (kTile * kTile - 1);
  Lanes tx = x - __builtin_convertvector(ix, Lanes), ty = y - __builtin_convertvector(iy, Lanes);
  tx = tx * tx * (3 - 2 * tx);
  ty = ty * ty * (3 - 2 * ty);
  const auto look = [](const Mask& at) {
    return Lanes{kLattice[at[0]], kLattice[at[1]], kLattice[at[2]], kLattice[at[3]]};
  };
  const Lanes a = mix(look(y0 + x0), look(y0 + x1), tx), b = mix(look(y1 + x0), look(y1 + x1), tx);
  return a + (b - a) * ty;
}
inline Lanes noise(const Lanes& x, float y) { return noise(x, spread(y)); }
inline Lanes noise(float x, const Lanes& y) { return noise(spread(x), y); }

// Cheap per-pixel sensor noise.
inline uint32_t mix32(uint32_t h) {
  h = (h ^ (h >> 16)) * 0x7feb352du;
  h = (h ^ (h >> 15)) * 0x846ca68bu;
  return h ^ (h >> 16);
}

}  // namespace comface::faces::COMFACE_ISA
