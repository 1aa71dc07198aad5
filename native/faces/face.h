// The procedural face renderer: subject, photograph and attribute numbers in, an RGB picture out.
// render() is a pure function of its arguments (no state, no library), so any thread may call it for any picture.
#pragma once

#include <array>
#include <cstdint>

namespace comface::faces {

inline constexpr int kAttributeCount = 43;

// weight, age, smile, then the 40 CelebA names in CelebA order.
extern const char* const kAttributeNames[kAttributeCount];

// The photograph of a person for measuring faces: straight into the lens, nothing moved; light and camera as in any
// other.
inline constexpr uint32_t kPlainPhoto = 0xFFFFFFFFu;

inline constexpr int kMostChanges = 8;

struct Change {
  int attribute = -1;  // index into kAttributeNames, or -1 for none
  float alpha = 0;     // intensity of that attribute, [-5, 5]
};

// One photograph, or one frame of a video.
struct Shot {
  uint64_t seed;     // data set seed
  uint32_t subject;  // identity number; the identity is a function of (seed, subject) only
  uint32_t photo;    // photograph number (or kPlainPhoto): pose, expression, light, camera and backdrop
  int domain;        // capture domain, 0 or 1: two families of camera, light and backdrop
  std::array<Change, kMostChanges> changes{};  // made one after the other
  int frame = -1;  // of a video, from 0: the head drifts slowly from frame to frame, all else stays; -1: a photograph
};

// Writes size x size x 3 interleaved sRGB bytes, row-major; size in [32, 512].
using Render = void(const Shot& shot, int size, uint8_t* rgb);
Render render;

// The 68 points of iBUG in their order (36 to 41 are the eye on the left of the picture), then the pupils of the left
// and the right eye of the picture.
inline constexpr int kLandmarkCount = 70;

// Writes where they lie in the picture that render() draws: kLandmarkCount x 2 pixels, x to the right, y down, (0, 0)
// its corner. What is turned away or covered has a place, too, and places may lie outside the picture.
using Locate = void(const Shot& shot, int size, float* points);
Locate locate;

// The same for each instruction set; render() and locate() take the best that the processor has.
namespace baseline {
Render render;
Locate locate;
}  // namespace baseline
namespace avx2 {
Render render;
Locate locate;
}  // namespace avx2

}  // namespace comface::faces
