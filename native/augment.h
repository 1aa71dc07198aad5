// One view of a picture: random resized crop, flip, color jitter in random order, grayscale, normalization.
// Ranges and order follow SimCLR (Chen et al., 2020, appendix A) in torchvision's formulas; every draw is keyed, so a
// view is a pure function of its key.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace comface {

/** An 8-bit RGB picture, rows of interleaved pixels. */
struct Picture {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

struct AugmentSettings {
  float cropAreaMin = 0.08f, cropAreaMax = 1;  // share of the picture's area
  float cropAspectMax = 4.0f / 3;              // aspect is log-uniform in [1/max, max]
  float flipProbability = 0.5f;
  float jitterProbability = 0.8f, brightness = 0.8f, contrast = 0.8f, saturation = 0.8f, hue = 0.2f;
  float grayscaleProbability = 0.2f;
  float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};  // of [0, 1] values, R G B

  bool operator==(const AugmentSettings&) const = default;
};

/** The draws of one view are keyed by all four. */
struct ViewKey {
  uint64_t seed;
  uint32_t step, sample, view;
};

/** Scratch that a thread reuses, so that a view costs no allocation once it has grown. */
struct AugmentScratch {
  std::vector<float> rows, weights;
  std::vector<int> starts;
};

/** Writes one augmented view, 3 x size x size floats (planes R, G, B), normalized. */
void augmentView(const Picture& picture, int size, const AugmentSettings& settings, const ViewKey& key,
                 AugmentScratch& scratch, std::span<float> out);

/** The same without any randomness: the whole picture, resized (antialiased bilinear) and normalized. */
void plainView(const Picture& picture, int size, const AugmentSettings& settings, AugmentScratch& scratch,
               std::span<float> out);

}  // namespace comface
