// Averages along columns first, then along rows, in double: a pixel's bits depend on its own area alone.
#include "average.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core.h"

namespace comface {
namespace {

/** Calls visit(j, part) for the pixels of an axis of `edge` that pixel i of `size` lies over, in parts of its own
 * length. Lengths are counted in 1 / size of an input's pixel, which makes them whole. */
template <class Visit>
void overArea(int i, int edge, int size, const Visit& visit) {
  const int64_t begin = int64_t{i} * edge, end = begin + edge;
  for (int64_t j = begin / size; j * size < end; ++j) {
    const int64_t low = std::max(begin, j * size), high = std::min(end, (j + 1) * size);
    visit(static_cast<int>(j), static_cast<double>(high - low) / edge);
  }
}

uint8_t pixelOf(double mean, const std::string& name) {
  if (!std::isfinite(mean)) {
    throw Error(Code::invalidInput, "Expected finite numbers for `values` but " + name + " has others.");
  }
  return static_cast<uint8_t>(std::clamp(std::floor(mean * 127.5 + 128), 0.0, 255.0));
}

}  // namespace

Picture averaged(std::span<const float> image, int edge, int size, const std::string& name) {
  Picture picture{size, size, std::vector<uint8_t>(size_t{3} * size * size)};
  std::vector<double> means(edge);
  for (int c = 0; c < 3; ++c) {
    const float* plane = image.data() + static_cast<size_t>(c) * edge * edge;
    for (int i = 0; i < size; ++i) {
      std::fill(means.begin(), means.end(), 0.0);
      overArea(i, edge, size, [&](int y, double part) {
        const float* row = plane + static_cast<size_t>(y) * edge;
        for (int x = 0; x < edge; ++x) means[x] += part * row[x];
      });
      for (int j = 0; j < size; ++j) {
        double mean = 0;
        overArea(j, edge, size, [&](int x, double part) { mean += part * means[x]; });
        picture.rgb[(static_cast<size_t>(i) * size + j) * 3 + c] = pixelOf(mean, name);
      }
    }
  }
  return picture;
}

}  // namespace comface
