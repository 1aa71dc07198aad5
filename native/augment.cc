// The views of a picture: torchvision's RandomResizedCrop, flip, ColorJitter, RandomGrayscale and Normalize on float
// tensors, over planes. Draws: word c of the counter is view << 4 | block, one block a decision (Block below); views of
// old runs change if a block is renumbered. Plain loops that GCC vectorizes at -O3: selects between finished values, no
// early exits, no calls; look at -fopt-info-vec after a change. cuda/augment.cu makes the same views.
#include "augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core.h"
#include "formulas.h"
#include "rng.h"

namespace comface {
namespace {

/** Low four bits of the counter word; blocks 0..9 are the attempts of the crop. */
enum Block : uint32_t { kCropAttempts = 10, kSwitches = 10, kFactors = 11, kOperationOrder = 12 };

rng::Draw draw(const ViewKey& key, uint32_t block) {
  return rng::philox(key.seed, rng::kAugment, key.step, key.sample, key.view << 4 | block);
}

/** Uniform in 0 .. n - 1. */
int below(uint32_t word, int n) {
  return static_cast<int>(static_cast<uint64_t>(word) * static_cast<uint32_t>(n) >> 32);
}

/** The three planes of the view being made, `count` floats each. */
struct Planes {
  float *r, *g, *b;
  size_t count;
};

/** torchvision RandomResizedCrop.get_params: ten attempts, then the largest central crop within the aspect range. */
void drawCrop(int width, int height, const AugmentSettings& settings, const ViewKey& key, View& view) {
  const double area = static_cast<double>(width) * height, aspectMax = settings.cropAspectMax;
  const float logAspect = std::log(settings.cropAspectMax);
  for (uint32_t attempt = 0; attempt < kCropAttempts; ++attempt) {
    const rng::Draw words = draw(key, attempt);
    const double target = area * rng::between(words[0], settings.cropAreaMin, settings.cropAreaMax);
    const double aspect = std::exp(static_cast<double>(rng::between(words[1], -logAspect, logAspect)));
    const long w = std::lrint(std::sqrt(target * aspect)), h = std::lrint(std::sqrt(target / aspect));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    view.width = static_cast<int>(w), view.height = static_cast<int>(h);
    view.top = below(words[2], height - view.height + 1), view.left = below(words[3], width - view.width + 1);
    return;
  }
  const double aspect = static_cast<double>(width) / height;
  int w = width, h = height;
  if (aspect < 1 / aspectMax) h = std::clamp(static_cast<int>(std::lrint(w * aspectMax)), 1, height);
  if (aspect > aspectMax) w = std::clamp(static_cast<int>(std::lrint(h * aspectMax)), 1, width);
  view.left = (width - w) / 2, view.top = (height - h) / 2, view.width = w, view.height = h;
}

/** torchvision ColorJitter: the four adjustments in a random order; a strength of 0 leaves its adjustment out. */
void drawJitter(const AugmentSettings& settings, const ViewKey& key, View& view) {
  const rng::Draw factors = draw(key, kFactors), swaps = draw(key, kOperationOrder);
  const float strengths[kAdjustmentCount] = {settings.brightness, settings.contrast, settings.saturation, settings.hue};
  int order[kAdjustmentCount] = {0, 1, 2, 3};
  for (int i = 3; i > 0; --i) std::swap(order[i], order[below(swaps[i], i + 1)]);  // Fisher-Yates
  for (const int i : order) {
    const float strength = strengths[i];
    if (!(strength > 0)) continue;
    const auto adjustment = static_cast<Adjustment>(i);
    const bool isHue = adjustment == Adjustment::hue;
    view.adjustments[view.adjustmentCount] = adjustment;
    view.factors[view.adjustmentCount++] =
        rng::between(factors[i], isHue ? -strength : std::max(0.0f, 1 - strength), isHue ? strength : 1 + strength);
  }
}

/** Most input pixels that one output pixel can see. */
int tapCapacity(int from, int to) {
  return 2 * static_cast<int>(std::ceil(std::max(1.0, static_cast<double>(from) / to))) + 1;
}

/** Weights of the triangle filter; each row of weights sums to `gain`. spans: to x 2 (first input pixel, number of
 * them); weights: to x capacity. */
void triangle(int from, int to, double gain, int capacity, int* spans, float* weights) {
  const double scale = static_cast<double>(from) / to;
  for (int i = 0; i < to; ++i) {
    const formulas::Triangle filter(i, from, scale);
    const double total = filter.total();
    for (int k = 0; k < filter.count; ++k)
      weights[static_cast<size_t>(i) * capacity + k] = static_cast<float>(gain * filter.at(k) / total);
    spans[2 * i] = filter.first;
    spans[2 * i + 1] = filter.count;
  }
}

/** row[i] = sum_k weights[k] * input[k * pitch + i]. row: n floats; input: `count` rows of n bytes. */
void sumRows(const uint8_t* __restrict input, size_t pitch, const float* weights, int count, int n,
             float* __restrict row) {
  const uint8_t* __restrict second = count > 1 ? input + pitch : input;
  const float w0 = weights[0], w1 = count > 1 ? weights[1] : 0;
  for (int i = 0; i < n; ++i) row[i] = w0 * input[i] + w1 * second[i];
  for (int k = 2; k < count; ++k) {
    const uint8_t* __restrict next = input + k * pitch;
    const float w = weights[k];
    for (int i = 0; i < n; ++i) row[i] += w * next[i];
  }
}

using Lanes = float __attribute__((vector_size(16)));

/** Resamples one row to `size` pixels. row: pixels of 3 floats and one float of padding (a load takes four); r, g, b:
 * size floats. `step` is -1 to flip. */
void sumColumns(const float* row, const int* spans, const float* weights, int capacity, int size, int step, float* r,
                float* g, float* b) {
  ptrdiff_t to = step > 0 ? 0 : size - 1;
  for (int x = 0; x < size; ++x, to += step) {
    const float* pixel = row + 3 * static_cast<size_t>(spans[2 * x]);
    const float* weight = weights + static_cast<size_t>(x) * capacity;
    Lanes sum = {};
    for (int k = 0; k < spans[2 * x + 1]; ++k) {
      Lanes lanes;
      std::memcpy(&lanes, pixel + 3 * k, sizeof lanes);
      sum += weight[k] * lanes;
    }
    r[to] = sum[0];
    g[to] = sum[1];
    b[to] = sum[2];
  }
}

template <typename T>
T* grown(std::vector<T>& memory, size_t count) {
  if (memory.size() < count) memory.resize(count);
  return memory.data();
}

/** Crop and antialiased resize to [0, 1] values; as torchvision, pixels outside the crop have no influence. Rows first:
 * they are contiguous bytes. */
void resizeCrop(const Picture& picture, const View& crop, int size, AugmentScratch& scratch, const Planes& out) {
  const int tapsY = tapCapacity(crop.height, size), tapsX = tapCapacity(crop.width, size), n = 3 * crop.width;
  int* spansY = grown(scratch.starts, 4 * static_cast<size_t>(size));
  int* spansX = spansY + 2 * static_cast<size_t>(size);
  float* weightsY = grown(scratch.weights, static_cast<size_t>(size) * (tapsY + tapsX));
  float* weightsX = weightsY + static_cast<size_t>(size) * tapsY;
  float* row = grown(scratch.rows, static_cast<size_t>(n) + 1);
  row[n] = 0;  // the padding's lane is thrown away, but a stale NaN or denormal would slow the sums
  triangle(crop.height, size, 1.0 / 255, tapsY, spansY, weightsY);
  triangle(crop.width, size, 1, tapsX, spansX, weightsX);
  const size_t pitch = static_cast<size_t>(picture.width) * 3;
  const uint8_t* corner = picture.rgb.data() + crop.top * pitch + static_cast<size_t>(crop.left) * 3;
  for (int y = 0; y < size; ++y) {
    const size_t at = static_cast<size_t>(y) * size;
    sumRows(corner + spansY[2 * y] * pitch, pitch, weightsY + static_cast<size_t>(y) * tapsY, spansY[2 * y + 1], n,
            row);
    sumColumns(row, spansX, weightsX, tapsX, size, crop.isFlipped ? -1 : 1, out.r + at, out.g + at, out.b + at);
  }
}

void brightness(const Planes& p, float factor) {
  for (float* __restrict plane : {p.r, p.g, p.b}) {
    for (size_t i = 0; i < p.count; ++i) plane[i] = formulas::brightened(plane[i], factor);
  }
}

/** Mean of the grayscale picture, in an order that does not depend on the vector width; doubles every 4096 pixels keep
 * the error near 1e-7. */
float grayMean(const Planes& p) {
  constexpr size_t kWidth = 16, kRun = 4096;
  double total = 0;
  for (size_t start = 0; start < p.count; start += kRun) {
    const size_t end = std::min(p.count, start + kRun), whole = start + (end - start) / kWidth * kWidth;
    float sums[kWidth] = {};
    for (size_t i = start; i < whole; i += kWidth) {
      for (size_t k = 0; k < kWidth; ++k) sums[k] += formulas::luma(p.r[i + k], p.g[i + k], p.b[i + k]);
    }
    for (size_t i = whole; i < end; ++i) total += formulas::luma(p.r[i], p.g[i], p.b[i]);
    for (const float sum : sums) total += sum;
  }
  return static_cast<float>(total / static_cast<double>(p.count));
}

void contrast(const Planes& p, float factor) {
  const float base = (1 - factor) * grayMean(p);
  for (float* __restrict plane : {p.r, p.g, p.b}) {
    for (size_t i = 0; i < p.count; ++i) plane[i] = formulas::blended(plane[i], factor, base);
  }
}

/** Planes of `count` floats; as arguments, for GCC ignores __restrict on locals. */
void saturation(float* __restrict red, float* __restrict green, float* __restrict blue, size_t count, float factor) {
  for (size_t i = 0; i < count; ++i) {
    const float r = red[i], g = green[i], b = blue[i], base = (1 - factor) * formulas::luma(r, g, b);
    red[i] = formulas::blended(r, factor, base);
    green[i] = formulas::blended(g, factor, base);
    blue[i] = formulas::blended(b, factor, base);
  }
}

/** Four pixels at a time in explicit lanes, for GCC turns the selects of the formula into branches and then gives up.
 * shift: turns in [-0.5, 0.5]. */
void shiftHue(const Planes& p, float shift) {
  const auto four = [&](size_t i, size_t bytes) {
    Lanes r = {}, g = {}, b = {};
    std::memcpy(&r, p.r + i, bytes);
    std::memcpy(&g, p.g + i, bytes);
    std::memcpy(&b, p.b + i, bytes);
    formulas::shiftHue(r, g, b, 6 * shift);
    std::memcpy(p.r + i, &r, bytes);
    std::memcpy(p.g + i, &g, bytes);
    std::memcpy(p.b + i, &b, bytes);
  };
  const size_t whole = p.count / 4 * 4;
  for (size_t i = 0; i < whole; i += 4) four(i, sizeof(Lanes));
  if (whole < p.count) four(whole, (p.count - whole) * sizeof(float));
}

void adjust(const Planes& p, Adjustment adjustment, float factor) {
  switch (adjustment) {
    case Adjustment::brightness:
      return brightness(p, factor);
    case Adjustment::contrast:
      return contrast(p, factor);
    case Adjustment::saturation:
      return saturation(p.r, p.g, p.b, p.count, factor);
    case Adjustment::hue:
      return shiftHue(p, factor);
  }
}

void normalize(const Planes& p, const Normalization& normalization) {
  float* const planes[3] = {p.r, p.g, p.b};
  for (int c = 0; c < 3; ++c) {
    float* __restrict plane = planes[c];
    const float scale = normalization.scale[c], offset = normalization.offset[c];
    for (size_t i = 0; i < p.count; ++i) plane[i] = formulas::normalized(plane[i], scale, offset);
  }
}

/** torchvision rgb_to_grayscale with three output channels. */
void grayscale(float* __restrict red, float* __restrict green, float* __restrict blue, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float gray = formulas::luma(red[i], green[i], blue[i]);
    red[i] = green[i] = blue[i] = gray;
  }
}

void expect(bool holds, const char* rule, const char* name, float received) {
  if (holds) return;
  throw Error(Code::invalidInput,
              std::string("Expected ") + rule + " for `" + name + "` but received " + std::to_string(received));
}

/** Written so that NaN fails too. */
void check(const AugmentSettings& s) {
  expect(s.cropAreaMin > 0 && s.cropAreaMin <= s.cropAreaMax, "a number above 0, at most cropAreaMax,", "cropAreaMin",
         s.cropAreaMin);
  expect(s.cropAreaMax <= 1, "at most 1", "cropAreaMax", s.cropAreaMax);
  expect(s.cropAspectMax >= 1 && s.cropAspectMax <= 100, "1 to 100", "cropAspectMax", s.cropAspectMax);
  expect(s.flipProbability >= 0 && s.flipProbability <= 1, "0 to 1", "flipProbability", s.flipProbability);
  expect(s.jitterProbability >= 0 && s.jitterProbability <= 1, "0 to 1", "jitterProbability", s.jitterProbability);
  expect(s.grayscaleProbability >= 0 && s.grayscaleProbability <= 1, "0 to 1", "grayscaleProbability",
         s.grayscaleProbability);
  expect(s.brightness >= 0 && s.brightness <= 100, "0 to 100", "brightness", s.brightness);
  expect(s.contrast >= 0 && s.contrast <= 100, "0 to 100", "contrast", s.contrast);
  expect(s.saturation >= 0 && s.saturation <= 100, "0 to 100", "saturation", s.saturation);
  expect(s.hue >= 0 && s.hue <= 0.5f, "0 to 0.5", "hue", s.hue);
  for (int c = 0; c < 3; ++c) {
    expect(std::isfinite(s.mean[c]), "a finite number", "mean", s.mean[c]);
    expect(s.deviation[c] > 0 && std::isfinite(s.deviation[c]), "a number above 0", "deviation", s.deviation[c]);
  }
}

/** Checks what the loops rely on and splits `out` into its planes. */
Planes planesOf(const Picture& picture, int size, std::span<float> out) {
  if (picture.width < 1 || picture.height < 1 ||
      picture.rgb.size() != static_cast<size_t>(picture.width) * picture.height * 3) {
    throw Error(Code::invalidInput,
                "Expected width x height x 3 bytes for `picture` but received " + std::to_string(picture.rgb.size()));
  }
  const size_t count = static_cast<size_t>(std::max(size, 0)) * std::max(size, 0);
  if (size < 1 || out.size() != 3 * count) {
    throw Error(Code::invalidInput,
                "Expected 3 x size x size floats for `out` but received " + std::to_string(out.size()));
  }
  return {out.data(), out.data() + count, out.data() + 2 * count, count};
}

void makeView(const Picture& picture, const View& view, int size, const AugmentSettings& settings,
              AugmentScratch& scratch, const Planes& planes) {
  const Normalization normalization = normalizationOf(settings);
  resizeCrop(picture, view, size, scratch, planes);
  for (int i = 0; i < view.adjustmentCount; ++i) adjust(planes, view.adjustments[i], view.factors[i]);
  if (view.isGray) grayscale(planes.r, planes.g, planes.b, planes.count);
  normalize(planes, normalization);
}

}  // namespace

View drawView(int pictureWidth, int pictureHeight, const AugmentSettings& settings, const ViewKey& key) {
  check(settings);
  View view;
  const rng::Draw switches = draw(key, kSwitches);
  view.isFlipped = rng::unit(switches[0]) < settings.flipProbability;
  drawCrop(pictureWidth, pictureHeight, settings, key, view);
  if (rng::unit(switches[1]) < settings.jitterProbability) drawJitter(settings, key, view);
  view.isGray = rng::unit(switches[2]) < settings.grayscaleProbability;
  return view;
}

View wholeView(int pictureWidth, int pictureHeight) {
  View view;
  view.width = pictureWidth, view.height = pictureHeight;
  return view;
}

Normalization normalizationOf(const AugmentSettings& settings) {
  check(settings);
  Normalization normalization;
  for (int c = 0; c < 3; ++c) {
    normalization.scale[c] = 1 / settings.deviation[c];
    normalization.offset[c] = -settings.mean[c] * normalization.scale[c];
  }
  return normalization;
}

void augmentView(const Picture& picture, int size, const AugmentSettings& settings, const ViewKey& key,
                 AugmentScratch& scratch, std::span<float> out) {
  const Planes planes = planesOf(picture, size, out);
  const View view = drawView(picture.width, picture.height, settings, key);
  makeView(picture, view, size, settings, scratch, planes);
}

void plainView(const Picture& picture, int size, const AugmentSettings& settings, AugmentScratch& scratch,
               std::span<float> out) {
  const Planes planes = planesOf(picture, size, out);
  makeView(picture, wholeView(picture.width, picture.height), size, settings, scratch, planes);
}

}  // namespace comface
