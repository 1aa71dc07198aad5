// StyleGAN3's generator: Karras et al., 2021, sections 2 and 3, inference only. What a factor at run time can be folded
// into (weights, biases, clamp) has it folded in.
#include <algorithm>
#include <cmath>
#include <vector>

#include "ops.h"

namespace comface::reference {
namespace {

constexpr double kPi = 3.14159265358979323846;

/** The upper two rows of a transform of the plane: (x, y) -> (a x + b y + c, d x + e y + f). */
template <typename T>
struct Transform {
  T a, b, c, d, e, f;
};

/** R(t) T(t) user, with t = (cosine, sine, x, y) divided by the length of its first two. */
template <typename T>
Transform<T> transformOf(const T* t, const T* user) {
  const T length = std::sqrt(t[0] * t[0] + t[1] * t[1]);
  const T cosine = t[0] / length, sine = t[1] / length, x = t[2] / length, y = t[3] / length;
  const T moved[2][3] = {{user[0] - x * user[6], user[1] - x * user[7], user[2] - x * user[8]},
                         {user[3] - y * user[6], user[4] - y * user[7], user[5] - y * user[8]}};
  const auto turned = [&](T s, T r, int column) { return s * moved[0][column] + r * moved[1][column]; };
  return {turned(cosine, -sine, 0), turned(cosine, -sine, 1), turned(cosine, -sine, 2),
          turned(sine, cosine, 0),  turned(sine, cosine, 1),  turned(sine, cosine, 2)};
}

template <typename T>
T squaresOf(const T* values, size_t count) {
  T sum = 0;
  for (size_t i = 0; i < count; ++i) sum += values[i] * values[i];
  return sum;
}

/** One output channel: y[i,j] = scale times the sum over c,k,l of weight[c,k,l] x[c, i + k - pad, j + l - pad]. */
template <typename T>
void convolve(const Node<T>& node, const T* x, const T* weight, T scale, T* y) {
  const Layer& layer = *node.layer;
  const Shape &in = node.in, &out = layer.shape;
  for (int i = 0; i < out.h; ++i) {
    for (int j = 0; j < out.w; ++j) {
      T sum = 0;
      const T* w = weight;
      for (int c = 0; c < in.c; ++c) {
        for (int k = 0; k < layer.kernel; ++k) {
          for (int l = 0; l < layer.kernel; ++l, ++w) {
            const int row = i + k - layer.pad, column = j + l - layer.pad;
            const bool isInside = row >= 0 && row < in.h && column >= 0 && column < in.w;
            if (isInside) sum += *w * x[plane(in, 0, c) + static_cast<size_t>(row) * in.w + column];
          }
        }
      }
      *y++ = scale * sum;
    }
  }
}

/** Numbers by row and column. */
template <typename T>
struct Plane {
  int height, width;
  std::vector<T> values = std::vector<T>(static_cast<size_t>(height) * width);
  T& at(int i, int j) { return values[static_cast<size_t>(i) * width + j]; }
};

}  // namespace

/**
 * y[n,c,i,j] = a[c] sin(2 pi (f[c] . p(i,j) + phase[c])) at the middles p of pixels, 0 the middle of the image and
 * 1 / rate their distance. The transform M of the plane turns freqs and phases to f = freqs M and phase = phases +
 * freqs . M's translation; a fades frequencies out that the rate cannot hold: 1 up to the bandwidth, 0 from rate / 2.
 */
template <typename T>
void FourierFeatures<T>::forward(const Node<T>& node) {
  const Layer& layer = *node.layer;
  const Shape& out = layer.shape;
  const T *freqs = node.tensors[0], *phases = node.tensors[1], *user = node.tensors[2];
  const T rate = layer.rate, bandwidth = layer.bandwidth;
  for (int n = 0; n < out.n; ++n) {
    const Transform<T> m = transformOf(node.x + static_cast<size_t>(n) * 4, user);
    for (int c = 0; c < out.c; ++c) {
      const T u = freqs[2 * c], v = freqs[2 * c + 1];
      const T fx = u * m.a + v * m.d, fy = u * m.b + v * m.e, phase = phases[c] + u * m.c + v * m.f;
      const T fading = 1 - (std::sqrt(fx * fx + fy * fy) - bandwidth) / (rate / 2 - bandwidth);
      const T amplitude = std::clamp(fading, T(0), T(1));
      T* y = node.y + plane(out, n, c);
      for (int i = 0; i < out.h; ++i) {
        for (int j = 0; j < out.w; ++j) {
          const T px = (j + T(0.5) - T(out.w) / 2) / rate, py = (i + T(0.5) - T(out.h) / 2) / rate;
          *y++ = amplitude * std::sin(2 * static_cast<T>(kPi) * (fx * px + fy * py + phase));
        }
      }
    }
  }
}

/**
 * The weights of sample n are w[o,c,k,l] s[n,c] (Karras et al., 2020, section 2.2). Demodulated they are divided by
 * their norm for each o: sqrt(sum over c,k,l of squares + eps). Before that w of each o and s of each sample are
 * brought to a mean square of 1, which keeps eps small beside them. Times gain; stride 1, zero padding.
 */
template <typename T>
void ModulatedConv<T>::forward(const Node<T>& node) {
  const Layer& layer = *node.layer;
  const Shape &in = node.in, &out = layer.shape;
  const size_t window = static_cast<size_t>(layer.kernel) * layer.kernel, count = in.c * window;
  std::vector<T> weight(count);
  for (int n = 0; n < out.n; ++n) {
    const T* style = node.x2 + static_cast<size_t>(n) * in.c;
    for (int o = 0; o < out.c; ++o) {
      const T* own = node.tensors[0] + o * count;
      T scale = 1;
      if (layer.demodulate)
        scale /= std::sqrt(squaresOf(style, in.c) / in.c) * std::sqrt(squaresOf(own, count) / count);
      for (size_t i = 0; i < count; ++i) weight[i] = scale * own[i] * style[i / window];
      const T norm = std::sqrt(squaresOf(weight.data(), count) + static_cast<T>(layer.eps));
      const T gain = node.tensors[1][0];
      convolve(node, node.x + plane(in, n, 0), weight.data(), layer.demodulate ? gain / norm : gain,
               node.y + plane(out, n, o));
    }
  }
}

/**
 * In one dimension, and by rows and columns alike: z is x + bias with up - 1 zeros after each number, padLow zeros in
 * front and padHigh behind (cropped where negative); t[i] = up sum over k of upFilter[k] z[i + taps - 1 - k];
 * u = clamp(gain leaky relu(t)); y[i] = sum over k of downFilter[k] u[i down + taps - 1 - k].
 */
template <typename T>
void FilteredRelu<T>::forward(const Node<T>& node) {
  const Layer& layer = *node.layer;
  const Shape &in = node.in, &out = layer.shape;
  const int up = layer.up, down = layer.down, upTaps = tapsUp(layer), downTaps = tapsDown(layer);
  const T one = 1, slope = layer.slope, gain = layer.gain, limit = layer.clamp;
  const T* upFilter = layer.upTaps > 0 ? node.tensors[1] : &one;
  const T* downFilter = layer.downTaps > 0 ? node.tensors[layer.upTaps > 0 ? 2 : 1] : &one;
  const auto downTap = [&](int k, int l) {
    return layer.radial ? downFilter[k * downTaps + l] : downFilter[k] * downFilter[l];
  };
  Plane<T> between{static_cast<int>(edgeBetween(layer, in.h)), static_cast<int>(edgeBetween(layer, in.w))};
  /** The index in x of number `at` of z, or -1 where z is 0. */
  const auto source = [&](int at, int extent) {
    const int from = at - layer.padLow;
    return from >= 0 && from % up == 0 && from / up < extent ? from / up : -1;
  };
  for (int p = 0; p < in.n * in.c; ++p) {
    const T* x = node.x + plane(in, 0, p);
    const T bias = node.tensors[0][p % in.c];
    for (int i = 0; i < between.height; ++i) {
      for (int j = 0; j < between.width; ++j) {
        T sum = 0;
        for (int k = 0; k < upTaps; ++k) {
          const int row = source(i + upTaps - 1 - k, in.h);
          for (int l = 0; l < upTaps && row >= 0; ++l) {
            const int column = source(j + upTaps - 1 - l, in.w);
            if (column >= 0) sum += upFilter[k] * upFilter[l] * (x[static_cast<size_t>(row) * in.w + column] + bias);
          }
        }
        sum *= up * up;
        between.at(i, j) = std::clamp((sum > 0 ? sum : slope * sum) * gain, -limit, limit);
      }
    }
    T* y = node.y + plane(out, 0, p);
    for (int i = 0; i < out.h; ++i) {
      for (int j = 0; j < out.w; ++j) {
        T sum = 0;
        for (int k = 0; k < downTaps; ++k) {
          for (int l = 0; l < downTaps; ++l) {
            sum += downTap(k, l) * between.at(i * down + downTaps - 1 - k, j * down + downTaps - 1 - l);
          }
        }
        *y++ = sum;
      }
    }
  }
}

template struct FourierFeatures<float>;
template struct FourierFeatures<double>;
template struct ModulatedConv<float>;
template struct ModulatedConv<double>;
template struct FilteredRelu<float>;
template struct FilteredRelu<double>;

}  // namespace comface::reference
