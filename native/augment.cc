// The views of a picture: torchvision's RandomResizedCrop, flip, ColorJitter, RandomGrayscale and Normalize on float
// tensors, over planes. Draws: word c of the counter is view << 4 | block, one block a decision (Block below); views of
// old runs change if a block is renumbered. Plain loops that GCC vectorizes at -O3: selects between finished values, no
// early exits, no calls; look at -fopt-info-vec after a change.
#include "augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core.h"
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

struct Crop {
  int top, left, height, width;
};

/** The three planes of the view being made, `count` floats each. */
struct Planes {
  float *r, *g, *b;
  size_t count;
};

float clampUnit(float x) {
  const float low = x > 0 ? x : 0;
  return low < 1 ? low : 1;
}

/** ITU-R 601-2 luma with torchvision's digits (rgb_to_grayscale). */
float luma(float r, float g, float b) { return 0.2989f * r + 0.587f * g + 0.114f * b; }

/** torchvision RandomResizedCrop.get_params: ten attempts, then the largest central crop within the aspect range. */
Crop drawCrop(const Picture& picture, const AugmentSettings& settings, const ViewKey& key) {
  const int width = picture.width, height = picture.height;
  const double area = static_cast<double>(width) * height, aspectMax = settings.cropAspectMax;
  const float logAspect = std::log(settings.cropAspectMax);
  for (uint32_t attempt = 0; attempt < kCropAttempts; ++attempt) {
    const rng::Draw words = draw(key, attempt);
    const double target = area * rng::between(words[0], settings.cropAreaMin, settings.cropAreaMax);
    const double aspect = std::exp(static_cast<double>(rng::between(words[1], -logAspect, logAspect)));
    const long w = std::lrint(std::sqrt(target * aspect)), h = std::lrint(std::sqrt(target / aspect));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const int cropWidth = static_cast<int>(w), cropHeight = static_cast<int>(h);
    return {below(words[2], height - cropHeight + 1), below(words[3], width - cropWidth + 1), cropHeight, cropWidth};
  }
  const double aspect = static_cast<double>(width) / height;
  int w = width, h = height;
  if (aspect < 1 / aspectMax) h = std::clamp(static_cast<int>(std::lrint(w * aspectMax)), 1, height);
  if (aspect > aspectMax) w = std::clamp(static_cast<int>(std::lrint(h * aspectMax)), 1, width);
  return {(height - h) / 2, (width - w) / 2, h, w};
}

/** Most input pixels that one output pixel can see. */
int tapCapacity(int from, int to) {
  return 2 * static_cast<int>(std::ceil(std::max(1.0, static_cast<double>(from) / to))) + 1;
}

/** Weights of the antialiased triangle filter, half-pixel centers (ATen upsample_antialias, Pillow precompute_coeffs);
 * each row of weights sums to `gain`. spans: to x 2 (first input pixel, number of them); weights: to x capacity. */
void triangle(int from, int to, double gain, int capacity, int* spans, float* weights) {
  const double scale = static_cast<double>(from) / to, support = std::max(1.0, scale);
  for (int i = 0; i < to; ++i) {
    const double center = scale * (i + 0.5);
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int count = std::min(static_cast<int>(center + support + 0.5), from) - first;
    const auto at = [&](int k) { return std::max(0.0, 1 - std::abs(first + k - center + 0.5) / support); };
    double total = 0;
    for (int k = 0; k < count; ++k) total += at(k);
    for (int k = 0; k < count; ++k)
      weights[static_cast<size_t>(i) * capacity + k] = static_cast<float>(gain * at(k) / total);
    spans[2 * i] = first;
    spans[2 * i + 1] = count;
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
void resizeCrop(const Picture& picture, const Crop& crop, int size, bool flip, AugmentScratch& scratch,
                const Planes& out) {
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
    sumColumns(row, spansX, weightsX, tapsX, size, flip ? -1 : 1, out.r + at, out.g + at, out.b + at);
  }
}

/** torchvision adjust_brightness: clamp(factor x). */
void brightness(const Planes& p, float factor) {
  for (float* __restrict plane : {p.r, p.g, p.b}) {
    for (size_t i = 0; i < p.count; ++i) plane[i] = clampUnit(factor * plane[i]);
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
      for (size_t k = 0; k < kWidth; ++k) sums[k] += luma(p.r[i + k], p.g[i + k], p.b[i + k]);
    }
    for (size_t i = whole; i < end; ++i) total += luma(p.r[i], p.g[i], p.b[i]);
    for (const float sum : sums) total += sum;
  }
  return static_cast<float>(total / static_cast<double>(p.count));
}

/** torchvision adjust_contrast: clamp(factor x + (1 - factor) mean(gray)). */
void contrast(const Planes& p, float factor) {
  const float base = (1 - factor) * grayMean(p);
  for (float* __restrict plane : {p.r, p.g, p.b}) {
    for (size_t i = 0; i < p.count; ++i) plane[i] = clampUnit(factor * plane[i] + base);
  }
}

/** torchvision adjust_saturation: clamp(factor x + (1 - factor) gray). Planes of `count` floats; as arguments, for GCC
 * ignores __restrict on locals. */
void saturation(float* __restrict red, float* __restrict green, float* __restrict blue, size_t count, float factor) {
  for (size_t i = 0; i < count; ++i) {
    const float r = red[i], g = green[i], b = blue[i], base = (1 - factor) * luma(r, g, b);
    red[i] = clampUnit(factor * r + base);
    green[i] = clampUnit(factor * g + base);
    blue[i] = clampUnit(factor * b + base);
  }
}

/** One channel of HSV to RGB without the six cases: V - C clamp(min(k, 4 - k)), k = (n + 6 H) mod 6, n = 5, 3, 1 for R,
 * G, B. */
Lanes fromHue(float offset, Lanes hue, Lanes high, Lanes chroma) {
  const Lanes zero = {}, one = zero + 1, turned = hue + offset;
  const Lanes k = turned - (turned >= 6 ? zero + 6 : zero), other = 4 - k;
  const Lanes nearest = k < other ? k : other, low = nearest > 0 ? nearest : zero;
  return high - chroma * (low < 1 ? low : one);
}

/** The loop of shiftHue for four pixels; explicit lanes because GCC turns its selects into branches and then gives up.
 * turn: 6 x shift. */
void shiftHueOf(Lanes& r, Lanes& g, Lanes& b, float turn) {
  const Lanes zero = {}, one = zero + 1, six = zero + 6;
  const Lanes highGb = g > b ? g : b, lowGb = g < b ? g : b;
  const Lanes high = r > highGb ? r : highGb, low = r < lowGb ? r : lowGb, chroma = high - low;
  const Lanes difference = high == r ? g - b : (high == g ? b - r : r - g);
  const Lanes base = high == r ? zero : (high == g ? zero + 2 : zero + 4);
  const Lanes sum = base + difference / (chroma > 0 ? chroma : one) + turn;  // in [-4, 8]
  const Lanes raised = sum + (sum < 0 ? six : zero);
  const Lanes hue = raised - (raised >= 6 ? six : zero);
  r = fromHue(5, hue, high, chroma);
  g = fromHue(3, hue, high, chroma);
  b = fromHue(1, hue, high, chroma);
}

/** torchvision adjust_hue (_rgb2hsv, H + shift, _hsv2rgb) in closed form: saturation and value stay, so the chroma is
 * max - min on both sides. shift: turns in [-0.5, 0.5]. */
void shiftHue(const Planes& p, float shift) {
  const auto four = [&](size_t i, size_t bytes) {
    Lanes r = {}, g = {}, b = {};
    std::memcpy(&r, p.r + i, bytes);
    std::memcpy(&g, p.g + i, bytes);
    std::memcpy(&b, p.b + i, bytes);
    shiftHueOf(r, g, b, 6 * shift);
    std::memcpy(p.r + i, &r, bytes);
    std::memcpy(p.g + i, &g, bytes);
    std::memcpy(p.b + i, &b, bytes);
  };
  const size_t whole = p.count / 4 * 4;
  for (size_t i = 0; i < whole; i += 4) four(i, sizeof(Lanes));
  if (whole < p.count) four(whole, (p.count - whole) * sizeof(float));
}

/** torchvision ColorJitter: the four operations in a random order; a strength of 0 leaves its operation out. */
void jitter(const Planes& p, const AugmentSettings& settings, const ViewKey& key) {
  const rng::Draw factors = draw(key, kFactors), swaps = draw(key, kOperationOrder);
  const auto factor = [&](int i, float strength) {
    return rng::between(factors[i], std::max(0.0f, 1 - strength), 1 + strength);
  };
  int order[4] = {0, 1, 2, 3};
  for (int i = 3; i > 0; --i) std::swap(order[i], order[below(swaps[i], i + 1)]);  // Fisher-Yates
  for (const int operation : order) {
    if (operation == 0 && settings.brightness > 0) brightness(p, factor(0, settings.brightness));
    if (operation == 1 && settings.contrast > 0) contrast(p, factor(1, settings.contrast));
    if (operation == 2 && settings.saturation > 0) saturation(p.r, p.g, p.b, p.count, factor(2, settings.saturation));
    if (operation == 3 && settings.hue > 0) shiftHue(p, rng::between(factors[3], -settings.hue, settings.hue));
  }
}

/** (x - mean) / deviation as one multiply and add. */
void normalize(const Planes& p, const AugmentSettings& settings) {
  float* const planes[3] = {p.r, p.g, p.b};
  for (int c = 0; c < 3; ++c) {
    float* __restrict plane = planes[c];
    const float scale = 1 / settings.deviation[c], offset = -settings.mean[c] * scale;
    for (size_t i = 0; i < p.count; ++i) plane[i] = plane[i] * scale + offset;
  }
}

/** torchvision rgb_to_grayscale with three output channels. */
void grayscale(float* __restrict red, float* __restrict green, float* __restrict blue, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float gray = luma(red[i], green[i], blue[i]);
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
Planes planesOf(const Picture& picture, int size, const AugmentSettings& settings, std::span<float> out) {
  check(settings);
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

}  // namespace

void augmentView(const Picture& picture, int size, const AugmentSettings& settings, const ViewKey& key,
                 AugmentScratch& scratch, std::span<float> out) {
  const Planes planes = planesOf(picture, size, settings, out);
  const rng::Draw switches = draw(key, kSwitches);
  const bool flip = rng::unit(switches[0]) < settings.flipProbability;
  resizeCrop(picture, drawCrop(picture, settings, key), size, flip, scratch, planes);
  if (rng::unit(switches[1]) < settings.jitterProbability) jitter(planes, settings, key);
  if (rng::unit(switches[2]) < settings.grayscaleProbability) grayscale(planes.r, planes.g, planes.b, planes.count);
  normalize(planes, settings);
}

void plainView(const Picture& picture, int size, const AugmentSettings& settings, AugmentScratch& scratch,
               std::span<float> out) {
  const Planes planes = planesOf(picture, size, settings, out);
  resizeCrop(picture, {0, 0, picture.height, picture.width}, size, false, scratch, planes);
  normalize(planes, settings);
}

}  // namespace comface
