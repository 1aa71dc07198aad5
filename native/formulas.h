// The arithmetic that CPU and GPU code share, one number or pixel at a time, so that they can differ by rounding only.
// Each formula stands here once; what loops over it lives with its op. COMFACE_DEVICE functions compile under both
// compilers.
#pragma once
#include <cmath>

#ifdef __CUDACC__
#define COMFACE_DEVICE __host__ __device__
#else
#define COMFACE_DEVICE
#endif

namespace comface::formulas {
// A file that is compiled for several instruction sets has formulas of its own: the linker keeps one of a name.
#ifdef COMFACE_ISA
inline namespace COMFACE_ISA {
#endif

// ---- augmentation: torchvision's functions on pixels in [0, 1]. T: float, or a vector of floats on the CPU. ----

// What a GPU has one instruction for. They differ for NaN only, which no pixel is, and the quotient in its last place.
#ifdef __CUDA_ARCH__
__device__ inline float clampUnit(float x) { return __saturatef(x); }
__device__ inline float lesser(float a, float b) { return fminf(a, b); }
__device__ inline float greater(float a, float b) { return fmaxf(a, b); }
__device__ inline float quotient(float a, float b) { return __fdividef(a, b); }
#else
template <class T>
inline T clampUnit(T x) {
  const T zero = {}, one = zero + 1, low = x > 0 ? x : zero;
  return low < 1 ? low : one;
}
template <class T>
inline T lesser(T a, T b) {
  return a < b ? a : b;
}
template <class T>
inline T greater(T a, T b) {
  return a > b ? a : b;
}
template <class T>
inline T quotient(T a, T b) {
  return a / b;
}
#endif

/** ITU-R 601-2 luma with torchvision's digits (rgb_to_grayscale). */
COMFACE_DEVICE inline float luma(float r, float g, float b) { return 0.2989f * r + 0.587f * g + 0.114f * b; }

/** torchvision adjust_brightness. */
COMFACE_DEVICE inline float brightened(float x, float factor) { return clampUnit(factor * x); }

/** torchvision's _blend: adjust_contrast with base = (1 - factor) mean(gray of the view), adjust_saturation with base =
 * (1 - factor) gray of the pixel. */
COMFACE_DEVICE inline float blended(float x, float factor, float base) { return clampUnit(factor * x + base); }

/** torchvision normalize: (x - mean) / deviation, with scale = 1 / deviation and offset = -mean scale. */
COMFACE_DEVICE inline float normalized(float x, float scale, float offset) { return x * scale + offset; }

/** One channel of HSV to RGB without the six cases: V - C clamp(min(k, 4 - k)), k = (n + 6 H) mod 6, n = 5, 3, 1 for R,
 * G, B. Like shiftHue only selects between finished values: a branch for each pixel would cost both processors more. */
template <class T>
COMFACE_DEVICE inline T fromHue(float n, T hue, T high, T chroma) {
  const T zero = {}, turned = hue + n, k = turned - (turned >= 6 ? zero + 6 : zero), rest = 4 - k;
  return high - chroma * clampUnit(lesser(k, rest));
}

/** torchvision adjust_hue (_rgb2hsv, H + shift, _hsv2rgb) in closed form: saturation and value stay, so the chroma is
 * max - min on both sides. turn: 6 x shift, in [-3, 3]. */
template <class T>
COMFACE_DEVICE inline void shiftHue(T& r, T& g, T& b, float turn) {
  const T zero = {}, one = zero + 1, six = zero + 6;
  const T high = greater(r, greater(g, b)), low = lesser(r, lesser(g, b)), chroma = high - low;
  const T ifRed = g - b, ifGreen = b - r, ifBlue = r - g;
  const T difference = high == r ? ifRed : (high == g ? ifGreen : ifBlue);
  const T base = high == r ? zero : (high == g ? zero + 2 : zero + 4);
  const T sum = base + quotient(difference, chroma > 0 ? chroma : one) + turn;  // in [-4, 8]
  const T raised = sum + (sum < 0 ? six : zero);
  const T hue = raised - (raised >= 6 ? six : zero);
  r = fromHue(5, hue, high, chroma);
  g = fromHue(3, hue, high, chroma);
  b = fromHue(1, hue, high, chroma);
}

/** What one output pixel sees along one axis through the antialiased triangle filter, half-pixel centers (ATen
 * upsample_antialias, Pillow precompute_coeffs): `count` input pixels from `first`. */
struct Triangle {
  double center, support;
  int first, count;

  /** Output pixel i of an axis of `from` input pixels; scale = from / (output pixels). */
  COMFACE_DEVICE Triangle(int i, int from, double scale)
      : center(scale * (i + 0.5)), support(scale > 1 ? scale : 1), first(0), count(0) {
    const int low = static_cast<int>(center - support + 0.5), high = static_cast<int>(center + support + 0.5);
    first = low > 0 ? low : 0;
    count = (high < from ? high : from) - first;
  }
  /** Distance of input pixel first + k from the center. */
  COMFACE_DEVICE double distance(int k) const { return first + k - center + 0.5; }
  /** Its weight before the weights are divided by their total. */
  COMFACE_DEVICE double at(int k) const {
    const double weight = 1 - std::fabs(distance(k)) / support;
    return weight > 0 ? weight : 0;
  }
  COMFACE_DEVICE double total() const {
    double sum = 0;
    for (int k = 0; k < count; ++k) sum += at(k);
    return sum;
  }
};

// ---- optimizer ----

/** Kingma and Ba, 2015, algorithm 1, at one step, with epsilon where torch.optim.Adam adds it: to the root of the
 * corrected second moment. Weight decay is L2: part of the gradient. */
template <class T>
struct AdamStep {
  T rate;        // learning rate / (1 - beta1^t)
  T correction;  // sqrt(1 - beta2^t)
  T fresh1;      // 1 - beta1
  T beta2, fresh2, epsilon, decay;

  COMFACE_DEVICE void update(T gradient, T& value, T& first, T& second) const {
    const T slope = gradient + decay * value;
    first += fresh1 * (slope - first);
    second = beta2 * second + fresh2 * slope * slope;
    value -= rate * first / (std::sqrt(second) / correction + epsilon);
  }
};

#ifdef COMFACE_ISA
}
#endif
}  // namespace comface::formulas
