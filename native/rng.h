// Random numbers without state: every draw is a pure function of (seed, purpose, a, b, c).
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011); lib/data/random.ts is its
// twin.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

namespace comface::rng {

/** What a draw is for; a purpose never shares numbers with another. The numbers are part of the format: do not reuse
 * one. */
enum Purpose : uint32_t {
  kInit = 1,
  kAugment = 2,
  kFace = 3,
  kOrder = 4,
  kPair = 5,
  kSpare = 6,
  kTest = 7,
  kEvaluate = 8,
  kTwin = 9,
  kLatent = 10  // lib/generate/ alone
};

using Draw = std::array<uint32_t, 4>;

/** Four independent 32-bit words. */
inline Draw philox(uint64_t seed, uint32_t purpose, uint32_t a, uint32_t b, uint32_t c) {
  Draw x = {a, b, c, purpose};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * x[0], p1 = 0xCD9E8D57ull * x[2];
    x = {static_cast<uint32_t>(p1 >> 32) ^ x[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ x[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return x;
}

/** Uniform in [0, 1), 24 bits: every value is exact in float. */
inline float unit(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

/** Uniform in [low, high). */
inline float between(uint32_t word, float low, float high) { return low + (high - low) * unit(word); }

/** Standard normal from two words (Box-Muller). */
inline float normal(uint32_t u, uint32_t v) {
  const double r = std::sqrt(-2.0 * std::log((u + 1.0) * 0x1p-32));
  return static_cast<float>(r * std::cos(6.283185307179586 * (v * 0x1p-32)));
}

}  // namespace comface::rng
