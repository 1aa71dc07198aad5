// What a vision transformer does to tokens besides attention and linear layers: makes them, normalizes, bends and picks
// one (Dosovitskiy et al., 2021, section 3.1). A position p of an H x W image is its pixel p in row-major order.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops.h"

namespace comface::reference {

/**
 * y[n,c,0] = classToken[c], y[n,c,1+p] = x[n,c,p]; then y[n,c,t] += positions[t,c]. Without a class token x begins at
 * 0. x: N C H W, y: N C T 1, classToken: C, positions: T x C.
 */
template <typename T>
void Tokens<T>::forward(const Node<T>& node) {
  const Shape& out = node.layer->shape;
  const int area = node.in.h * node.in.w, first = out.h - area;
  for (int n = 0; n < out.n; ++n) {
    for (int c = 0; c < out.c; ++c) {
      T* y = node.y + plane(out, n, c);
      if (first > 0) y[0] = node.classToken[c];
      std::copy_n(node.x + plane(node.in, n, c), area, y + first);
      for (int t = 0; t < out.h && node.positions; ++t) y[t] += node.positions[static_cast<size_t>(t) * out.c + c];
    }
  }
}

template <typename T>
void Tokens<T>::backward(const Node<T>& node) {
  const Shape& out = node.layer->shape;
  const int area = node.in.h * node.in.w, first = out.h - area;
  for (int n = 0; n < out.n; ++n) {
    for (int c = 0; c < out.c; ++c) {
      const T* dy = node.dy + plane(out, n, c);
      T* dx = node.dx + plane(node.in, n, c);
      if (first > 0) node.dClassToken[c] += dy[0];
      for (int p = 0; p < area; ++p) dx[p] += dy[first + p];
      for (int t = 0; t < out.h && node.positions; ++t) node.dPositions[static_cast<size_t>(t) * out.c + c] += dy[t];
    }
  }
}

/** y[n,c] = x[n,c,position]. x: N C H W, y: N C. */
template <typename T>
void Token<T>::forward(const Node<T>& node) {
  const int area = node.in.h * node.in.w;
  for (int nc = 0; nc < node.in.n * node.in.c; ++nc) {
    node.y[nc] = node.x[static_cast<size_t>(nc) * area + node.layer->position];
  }
}

template <typename T>
void Token<T>::backward(const Node<T>& node) {
  const int area = node.in.h * node.in.w;
  for (int nc = 0; nc < node.in.n * node.in.c; ++nc) {
    node.dx[static_cast<size_t>(nc) * area + node.layer->position] += node.dy[nc];
  }
}

/**
 * Ba, Kiros and Hinton, 2016, equation (4), at each position, with the biased variance over its channels as in PyTorch:
 * y[c] = weight[c] (x[c] - mean) / sqrt(variance + eps) + bias[c].
 * x, y: N C H W. saved: mean (N x H W), then 1 / sqrt(variance + eps) (N x H W).
 */
template <typename T>
void LayerNorm<T>::forward(const Node<T>& node) {
  const int channels = node.in.c, area = node.in.h * node.in.w;
  T *means = node.saved, *scales = node.saved + static_cast<size_t>(node.in.n) * area;
  for (int n = 0; n < node.in.n; ++n) {
    for (int p = 0; p < area; ++p) {
      const auto at = [&](int c) { return plane(node.in, n, c) + p; };
      T sum = 0, squares = 0;
      for (int c = 0; c < channels; ++c) sum += node.x[at(c)];
      const T mean = sum / channels;
      for (int c = 0; c < channels; ++c) squares += (node.x[at(c)] - mean) * (node.x[at(c)] - mean);
      const T scale = 1 / std::sqrt(squares / channels + static_cast<T>(node.layer->eps));
      for (int c = 0; c < channels; ++c)
        node.y[at(c)] = node.weight[c] * ((node.x[at(c)] - mean) * scale) + node.bias[c];
      means[static_cast<size_t>(n) * area + p] = mean, scales[static_cast<size_t>(n) * area + p] = scale;
    }
  }
}

/**
 * With h = (x - mean) scale, g = weight dy and means over the channels of a position:
 * dx = scale ( g - mean(g) - h mean(g h) ), dWeight = sum over n, p of dy h, dBias = sum over n, p of dy.
 */
template <typename T>
void LayerNorm<T>::backward(const Node<T>& node) {
  const int channels = node.in.c, area = node.in.h * node.in.w;
  const T *means = node.saved, *scales = node.saved + static_cast<size_t>(node.in.n) * area;
  for (int n = 0; n < node.in.n; ++n) {
    for (int p = 0; p < area; ++p) {
      const T mean = means[static_cast<size_t>(n) * area + p], scale = scales[static_cast<size_t>(n) * area + p];
      const auto at = [&](int c) { return plane(node.in, n, c) + p; };
      const auto normalized = [&](int c) { return (node.x[at(c)] - mean) * scale; };
      T sum = 0, product = 0;
      for (int c = 0; c < channels; ++c) {
        const T dy = node.dy[at(c)];
        node.dBias[c] += dy;
        node.dWeight[c] += dy * normalized(c);
        sum += node.weight[c] * dy;
        product += node.weight[c] * dy * normalized(c);
      }
      for (int c = 0; c < channels; ++c) {
        node.dx[at(c)] +=
            scale * (node.weight[c] * node.dy[at(c)] - sum / channels - normalized(c) * product / channels);
      }
    }
  }
}

namespace {

constexpr double kQuick = 1.702;

/** P(X <= x) of the standard normal distribution. */
template <typename T>
T normalShare(T x) {
  return std::erfc(-x / std::numbers::sqrt2_v<T>) / 2;
}

template <typename T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

/** Hendrycks and Gimpel, 2016: y = x P(X <= x); or their section 2's approximation y = x sigmoid(1.702 x). */
template <typename T>
void Gelu<T>::forward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) {
    const T x = node.x[at];
    node.y[at] = x * (node.layer->quick ? sigmoid(T(kQuick) * x) : normalShare(x));
  }
}

/** (x P)' = P + x density(x); (x s)' = s + 1.702 x s (1 - s). */
template <typename T>
void Gelu<T>::backward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) {
    const T x = node.x[at];
    T slope;
    if (node.layer->quick) {
      const T share = sigmoid(T(kQuick) * x);
      slope = share + T(kQuick) * x * share * (1 - share);
    } else {
      const T density = std::exp(-x * x / 2) * std::numbers::inv_sqrtpi_v<T> / std::numbers::sqrt2_v<T>;
      slope = normalShare(x) + x * density;
    }
    node.dx[at] += node.dy[at] * slope;
  }
}

template struct Tokens<float>;
template struct Tokens<double>;
template struct Token<float>;
template struct Token<double>;
template struct LayerNorm<float>;
template struct LayerNorm<double>;
template struct Gelu<float>;
template struct Gelu<double>;

}  // namespace comface::reference
