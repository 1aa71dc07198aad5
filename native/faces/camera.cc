// From linear light to bytes: lens blur, white balance, vignette, tone curve, sensor grain.
// The sRGB curve is a sum of square roots (within half a byte), so that no pow is called per pixel.
#include "noise.h"
#include "scene.h"

namespace comface::faces::COMFACE_ISA {
namespace {

inline float encode(float x) {
  x = std::max(x, 0.0f);
  const float a = std::sqrt(x), b = std::sqrt(a), c = std::sqrt(b);
  return std::max(0.0f, 0.585122381f * a + 0.783140355f * b - 0.368262736f * c);
}

// Filmic shoulder: linear in the shadows, never quite white.
inline float shoulder(float x) { return x * (1 + 0.18f * x) / (1 + 0.62f * x) * 1.30f; }

// From square roots of light, where the curve is nearly straight, to byte values.
class ToneCurve {
 public:
  explicit ToneCurve(float contrast) {
    for (int i = 0; i <= kSteps; ++i) {
      const float root = static_cast<float>(i) * (kTop / kSteps), e = encode(shoulder(root * root));
      value_[i] = 255 * (e + contrast * e * (1 - e) * (e - 0.45f));  // a gentle S around the skin tones
    }
  }
  static int stepOf(float light) {
    return static_cast<int>(std::min(std::sqrt(std::max(light, 0.0f)), kTop) * (kSteps / kTop) + 0.5f);
  }
  float operator[](int step) const { return value_[step]; }

 private:
  static constexpr int kSteps = 1024;  // a third of a level apart
  static constexpr float kTop = 2;
  float value_[kSteps + 1];
};

// exp(-x^2 / 2) within a percent; the C library's differs from processor to processor.
float bell(float x) {
  float power = std::max(0.0f, 1 - x * x * (0.5f / 1024));
  for (int i = 0; i < 10; ++i) power *= power;
  return power;
}

// out = kernel[0] * middle + kernel[1] * (both neighbors) + ...; at(k) points at the values k steps away.
// Whole lines of plain floats, so that the compiler makes vector code of it.
template <class At>
void weigh(float* out, int count, const float* kernel, int radius, At at) {
  const float* middle = at(0);
  for (int i = 0; i < count; ++i) out[i] = middle[i] * kernel[0];
  for (int k = 1; k <= radius; ++k) {
    const float *before = at(-k), *after = at(k), weight = kernel[k];
    for (int i = 0; i < count; ++i) out[i] += (before[i] + after[i]) * weight;
  }
}

// Gaussian with edges repeated: along rows into a copy, then across rows back into the picture.
void blurPicture(Raster& raster, float sigma, float sharpen) {
  constexpr int kMost = 32;
  const int size = raster.size(), radius = std::clamp(static_cast<int>(std::ceil(2.5f * sigma)), 1, kMost);
  float kernel[kMost + 1], sum = 0;
  for (int k = 0; k <= radius; ++k) {
    kernel[k] = bell(static_cast<float>(k) / std::max(sigma, 0.2f));
    sum += k == 0 ? kernel[k] : 2 * kernel[k];
  }
  for (int k = 0; k <= radius; ++k) kernel[k] /= sum;
  // A little negative light at one pixel is a phone's sharpening.
  kernel[0] += 2 * sharpen, kernel[1] -= sharpen;
  const int stride = 3 * size;
  Vec3* const line = raster.scratch(0, static_cast<size_t>(size + 2 * radius));
  Vec3* const copy = raster.scratch(1, static_cast<size_t>(size) * size);
  for (int y = 0; y < size; ++y) {
    std::copy_n(&raster.pixel(0, y), size, line + radius);
    std::fill_n(line, radius, raster.pixel(0, y));
    std::fill_n(line + radius + size, radius, raster.pixel(size - 1, y));
    weigh(&copy[static_cast<size_t>(y) * size].x, stride, kernel, radius,
          [&](int k) { return &line[static_cast<size_t>(radius + k)].x; });
  }
  for (int y = 0; y < size; ++y) {
    weigh(&raster.pixel(0, y).x, stride, kernel, radius,
          [&](int k) { return &copy[static_cast<size_t>(std::clamp(y + k, 0, size - 1)) * size].x; });
  }
}

}  // namespace

void develop(const Scene& scene, float extraBlur, Raster& raster, uint8_t* rgb) {
  const Camera& c = scene.camera;
  const int size = raster.size();
  const float sigma = static_cast<float>(size) * (c.blur + 0.022f * std::max(0.0f, extraBlur));
  blurPicture(raster, sigma, c.sharpen * (1 - clamp01(4 * extraBlur)) + 0.16f * std::max(0.0f, -extraBlur));
  const Vec3 gain = c.balance * c.exposure;
  const ToneCurve tone(c.contrast);
  const float step = 2.0f / static_cast<float>(size);
  constexpr size_t kMost = 512;
  const size_t width = static_cast<size_t>(size);
  Vec3 line[kMost];
  uint32_t grain[kMost];
  int steps[3 * kMost];
  for (int y = 0; y < size; ++y) {
    const float fy = (static_cast<float>(y) + 0.5f) * step - 1;
    for (int x = 0; x < size; ++x) {
      const float fx = (static_cast<float>(x) + 0.5f) * step - 1;
      line[x] = raster.pixel(x, y) * gain * (1 - c.vignette * 0.5f * (fx * fx + fy * fy));
      grain[x] = mix32(c.grainKey ^ mix32(static_cast<uint32_t>(y * size + x)));
    }
    const float* light = &line[0].x;
    for (int i = 0; i < 3 * size; ++i) steps[i] = ToneCurve::stepOf(light[i]);
    uint8_t* bytes = rgb + 3 * width * y;
    for (int x = 0; x < size; ++x) {
      const uint32_t h = grain[x];
      for (int k = 0; k < 3; ++k) {
        // Two bytes of the hash: a triangular distribution, grain shared partly between channels.
        const int roll = static_cast<int>((h >> (8 * k)) & 255) + static_cast<int>(h >> 24) - 255;
        const float byte = tone[steps[3 * x + k]] + c.grain * 0.0096f * static_cast<float>(roll);
        bytes[3 * x + k] = static_cast<uint8_t>(smaller(larger(byte + 0.5f, 0.0f), 255.0f));
      }
    }
  }
}

}  // namespace comface::faces::COMFACE_ISA
