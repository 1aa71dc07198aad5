// What is drawn for a view, by torchvision's RandomResizedCrop, flip, ColorJitter and RandomGrayscale, and what its
// loops (views/views.cc) need to make it. Draws: word c of the counter is view << 4 | block, one block a decision
// (Block below); views of old runs change if a block is renumbered. cuda/augment.cu makes the same views.
#include "augment.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core.h"
#include "formulas.h"
#include "rng.h"
#include "views/views.h"

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

/** The triangle filter; each row of weights sums to `gain`. spans: to x 2; weights: to x capacity. */
views::Axis triangle(int from, int to, double gain, int capacity, int* spans, float* weights) {
  const double scale = static_cast<double>(from) / to;
  int most = 0;
  for (int i = 0; i < to; ++i) {
    const formulas::Triangle filter(i, from, scale);
    const double total = filter.total();
    for (int k = 0; k < filter.count; ++k)
      weights[static_cast<size_t>(i) * capacity + k] = static_cast<float>(gain * filter.at(k) / total);
    spans[2 * i] = filter.first;
    spans[2 * i + 1] = filter.count;
    most = std::max(most, filter.count);
  }
  return {spans, weights, capacity, most};
}

template <typename T>
T* grown(std::vector<T>& memory, size_t count) {
  if (memory.size() < count) memory.resize(count);
  return memory.data();
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

/** Checks what the loops rely on. */
void check(const Picture& picture, int size, std::span<float> out) {
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
}

/** The loops for this processor. */
auto loops() {
  static const auto make = __builtin_cpu_supports("avx2") ? views::avx2::make : views::baseline::make;
  return make;
}

void makeView(const Picture& picture, const View& view, int size, const AugmentSettings& settings,
              AugmentScratch& scratch, std::span<float> out) {
  const int tapsY = tapCapacity(view.height, size), tapsX = tapCapacity(view.width, size);
  const size_t pitch = static_cast<size_t>(picture.width) * 3, edge = size, count = edge * edge;
  int* const spans = grown(scratch.places, 4 * edge + views::placeCount(size));
  float* const weights = grown(scratch.weights, edge * (tapsY + tapsX));
  views::Task task{};
  task.corner = picture.rgb.data() + view.top * pitch + static_cast<size_t>(view.left) * 3;
  task.pitch = pitch, task.view = &view, task.size = size;
  task.rows = triangle(view.height, size, 1.0 / 255, tapsY, spans, weights);
  task.columns = triangle(view.width, size, 1, tapsX, spans + 2 * edge, weights + edge * tapsY);
  task.normalization = normalizationOf(settings);
  task.red = out.data(), task.green = out.data() + count, task.blue = out.data() + 2 * count;
  task.memory = grown(scratch.rows, views::memoryCount(view.width, size));
  task.places = spans + 4 * edge;
  loops()(task);
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
  check(picture, size, out);
  makeView(picture, drawView(picture.width, picture.height, settings, key), size, settings, scratch, out);
}

void plainView(const Picture& picture, int size, const AugmentSettings& settings, AugmentScratch& scratch,
               std::span<float> out) {
  check(picture, size, out);
  makeView(picture, wholeView(picture.width, picture.height), size, settings, scratch, out);
}

}  // namespace comface
