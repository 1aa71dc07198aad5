// One view of a picture: random resized crop, flip, color jitter in random order, grayscale, normalization.
// Ranges and order follow SimCLR (Chen et al., 2020, appendix A) in torchvision's formulas; every draw is keyed, so a
// view is a pure function of its key.
#pragma once
#include <cstddef>
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

enum class Adjustment : int32_t { brightness, contrast, saturation, hue };
inline constexpr int kAdjustmentCount = 4;

/** What was drawn for one view: all that it takes, beside the picture, to make it. Plain numbers, for a device reads
 * them too. */
struct View {
  int32_t left = 0, top = 0, width = 0, height = 0;  // of the crop, in pixels; never empty, inside the picture
  int32_t isFlipped = 0, isGray = 0;                 // 1 or 0
  int32_t picture = 0;                               // its place where there are several
  int32_t adjustmentCount = 0;
  Adjustment adjustments[kAdjustmentCount] = {};  // in the order in which they are made, each at most once
  float factors[kAdjustmentCount] = {};           // of each; of a hue its shift in turns

  bool operator==(const View&) const = default;
};

/** (x - mean) / deviation = scale x + offset, by channel. */
struct Normalization {
  float scale[3], offset[3];
};

/** Where an RGB picture lies among others in one memory. */
struct PackedPicture {
  uint64_t offset;        // in bytes, a multiple of 16
  int32_t width, height;  // in pixels
  int32_t pitchBytes;     // from row to row, packedPitch()
};

/** A GPU loads eight bytes at once: rows begin where it can. */
constexpr int packedPitch(int width) { return (3 * width + 7) / 8 * 8; }
constexpr size_t packedBytes(int width, int height) { return (size_t{1} * packedPitch(width) * height + 15) / 16 * 16; }

/** Scratch that a thread reuses, so that a view costs no allocation once it has grown. */
struct AugmentScratch {
  std::vector<float> rows, weights;
  std::vector<int> places;
};

/** The view of a picture of this size that the key stands for. Throws invalidInput for settings that are none. */
View drawView(int pictureWidth, int pictureHeight, const AugmentSettings& settings, const ViewKey& key);

/** The view without any randomness: the whole picture. */
View wholeView(int pictureWidth, int pictureHeight);

/** Throws invalidInput for settings that are none. */
Normalization normalizationOf(const AugmentSettings& settings);

/** Writes one augmented view, 3 x size x size floats (planes R, G, B), normalized: what drawView() says, done. */
void augmentView(const Picture& picture, int size, const AugmentSettings& settings, const ViewKey& key,
                 AugmentScratch& scratch, std::span<float> out);

/** The same without any randomness: the whole picture, resized (antialiased bilinear) and normalized. */
void plainView(const Picture& picture, int size, const AugmentSettings& settings, AugmentScratch& scratch,
               std::span<float> out);

}  // namespace comface
