// The procedural face renderer: subject, photograph and attribute numbers in, an RGB picture out.
// render() is a pure function of its arguments (no state, no library), so any thread may call it for any picture.
#pragma once

#include <cstdint>

namespace comface::faces {

inline constexpr int kAttributeCount = 43;

// weight, age, smile, then the 40 CelebA names in CelebA order.
extern const char* const kAttributeNames[kAttributeCount];

// The photograph of a person for measuring faces: straight into the lens, nothing moved; light and camera as in any
// other.
inline constexpr uint32_t kPlainPhoto = 0xFFFFFFFFu;

// One photograph.
struct Shot {
  uint64_t seed;     // data set seed
  uint32_t subject;  // identity number; the identity is a function of (seed, subject) only
  uint32_t photo;    // photograph number (or kPlainPhoto): pose, expression, light, camera and backdrop
  int attribute;     // index into kAttributeNames, or -1 for none
  float alpha;       // intensity of that attribute, [-5, 5]
  int domain;        // capture domain, 0 or 1: two families of camera, light and backdrop
};

// Writes size x size x 3 interleaved sRGB bytes, row-major; size in [32, 512].
using Render = void(const Shot& shot, int size, uint8_t* rgb);
Render render;

// The same for each instruction set; render() takes the best that the processor has.
namespace baseline {
Render render;
}
namespace avx2 {
Render render;
}

}  // namespace comface::faces
