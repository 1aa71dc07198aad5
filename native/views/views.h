// The loops over the pixels of a view, compiled once for each instruction set. They give the same bits in each: every
// number of a view is made by the same operations in the same order, only beside more or fewer others.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../augment.h"

namespace comface::views {

/** The triangle filter along one axis of the view. */
struct Axis {
  const int* spans;      // of each output pixel: first input pixel, number of them
  const float* weights;  // of each output pixel: `capacity` numbers
  int capacity;
  int most;  // input pixels that an output pixel sees
};

/** The view to make. */
struct Task {
  const uint8_t* corner;  // the crop's first pixel
  size_t pitch;           // bytes from row to row of the picture
  const View* view;
  int size;  // pixels of the view each way
  Axis columns, rows;
  Normalization normalization;
  float *red, *green, *blue;  // planes of size x size
  float* memory;              // memoryCount()
  int* places;                // placeCount()
};

/** Most lanes of a vector of any instruction set. */
constexpr size_t kMostLanes = 8;

/** Floats of a row of one color; zeros behind the pixels, for vectors are loaded whole. */
constexpr size_t rowPitch(int width) {
  return (static_cast<size_t>(width) + 2 * kMostLanes - 1) / kMostLanes * kMostLanes;
}
constexpr size_t groupCount(int size, size_t lanes) { return (static_cast<size_t>(size) + lanes - 1) / lanes; }
/** Two rows of three colors and their mixture; two weights for each lane of each group of output pixels. */
constexpr size_t memoryCount(int width, int size) {
  return 9 * rowPitch(width) + 2 * (static_cast<size_t>(size) + kMostLanes);
}
/** A place for each lane, and one for each group. */
constexpr size_t placeCount(int size) { return 2 * (static_cast<size_t>(size) + kMostLanes); }

namespace baseline {
void make(const Task& task);
}
namespace avx2 {
void make(const Task& task);
}

}  // namespace comface::views
