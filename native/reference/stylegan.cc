// StyleGAN's generator beside convolutions and linear layers: Karras et al., 2019, section 2 and appendix B, inference
// only. Learning rates and gains that the paper applies at run time are part of the weights here.
#include <algorithm>
#include <cmath>

#include "ops.h"

namespace comface::reference {

/** y[n,c] = x[n,c] / sqrt(mean over d of x[n,d]^2 + eps) (Karras et al., 2018, section 4.2). */
template <typename T>
void PixelNorm<T>::forward(const Node<T>& node) {
  const int channels = node.in.c;
  for (int n = 0; n < node.in.n; ++n) {
    const T* x = node.x + static_cast<size_t>(n) * channels;
    T squares = 0;
    for (int c = 0; c < channels; ++c) squares += x[c] * x[c];
    const T scale = 1 / std::sqrt(squares / channels + static_cast<T>(node.layer->eps));
    for (int c = 0; c < channels; ++c) node.y[static_cast<size_t>(n) * channels + c] = x[c] * scale;
  }
}

/** y[n] = weight. */
template <typename T>
void Constant<T>::forward(const Node<T>& node) {
  const Shape& out = node.layer->shape;
  const T* weight = node.tensors[0];
  for (int n = 0; n < out.n; ++n) std::copy_n(weight, plane(out, 1, 0), node.y + plane(out, n, 0));
}

/** y[n,c,i,j] = x[n, c, i / up, j / up]. */
template <typename T>
void Upsample<T>::forward(const Node<T>& node) {
  const Shape& out = node.layer->shape;
  const int up = node.layer->up;
  for (int p = 0; p < out.n * out.c; ++p) {
    const T* x = node.x + plane(node.in, 0, p);
    T* y = node.y + plane(out, 0, p);
    for (int i = 0; i < out.h; ++i) {
      for (int j = 0; j < out.w; ++j) *y++ = x[static_cast<size_t>(i / up) * node.in.w + j / up];
    }
  }
}

/** y[n, o, i stride + k - pad, j stride + l - pad] += weight[c,o,k,l] x[n,c,i,j], as ConvTranspose2d. */
template <typename T>
void ConvTranspose<T>::forward(const Node<T>& node) {
  const Layer& layer = *node.layer;
  const Shape &in = node.in, &out = layer.shape;
  const auto visit = [&](const T* x, const T* weight, T* y) {
    for (int i = 0; i < in.h; ++i) {
      for (int k = 0; k < layer.kernel; ++k) {
        const int row = i * layer.stride + k - layer.pad;
        if (row < 0 || row >= out.h) continue;
        for (int j = 0; j < in.w; ++j) {
          for (int l = 0; l < layer.kernel; ++l) {
            const int column = j * layer.stride + l - layer.pad;
            if (column < 0 || column >= out.w) continue;
            y[static_cast<size_t>(row) * out.w + column] +=
                weight[k * layer.kernel + l] * x[static_cast<size_t>(i) * in.w + j];
          }
        }
      }
    }
  };
  std::fill_n(node.y, out.count(), T(0));
  const size_t window = static_cast<size_t>(layer.kernel) * layer.kernel;
  for (int n = 0; n < out.n; ++n) {
    for (int o = 0; o < out.c; ++o) {
      for (int c = 0; c < in.c; ++c) {
        const T* weight = node.tensors[0] + (static_cast<size_t>(c) * out.c + o) * window;
        visit(node.x + plane(in, n, c), weight, node.y + plane(out, n, o));
      }
    }
  }
}

/** Each channel by [1 2 1] x [1 2 1] / 16; beyond the edge is 0. */
template <typename T>
void Blur<T>::forward(const Node<T>& node) {
  const Shape& shape = node.in;
  constexpr T kTaps[3] = {T(1) / 4, T(2) / 4, T(1) / 4};
  for (int p = 0; p < shape.n * shape.c; ++p) {
    const T* x = node.x + plane(shape, 0, p);
    T* y = node.y + plane(shape, 0, p);
    for (int i = 0; i < shape.h; ++i) {
      for (int j = 0; j < shape.w; ++j) {
        T sum = 0;
        for (int k = std::max(0, i - 1); k <= std::min(shape.h - 1, i + 1); ++k) {
          for (int l = std::max(0, j - 1); l <= std::min(shape.w - 1, j + 1); ++l) {
            sum += kTaps[k - i + 1] * kTaps[l - j + 1] * x[static_cast<size_t>(k) * shape.w + l];
          }
        }
        *y++ = sum;
      }
    }
  }
}

/**
 * u = leaky relu(x + noise[i,j] noiseWeight[c] + bias[c]); AdaIN (eq. 1) of u by the style's scale y_s = style[c] + 1
 * and shift y_b = style[C + c].
 */
template <typename T>
void StyleEpilogue<T>::forward(const Node<T>& node) {
  const Shape& shape = node.in;
  const T slope = node.layer->slope, eps = node.layer->eps;
  const T *noise = node.tensors[0], *noiseWeight = node.tensors[1], *bias = node.tensors[2];
  const size_t area = plane(shape, 0, 1);
  for (int n = 0; n < shape.n; ++n) {
    const T* style = node.x2 + static_cast<size_t>(n) * 2 * shape.c;
    for (int c = 0; c < shape.c; ++c) {
      const T* x = node.x + plane(shape, n, c);
      T* y = node.y + plane(shape, n, c);
      T sum = 0, squares = 0;
      for (size_t p = 0; p < area; ++p) {
        const T moved = x[p] + noise[p] * noiseWeight[c] + bias[c];
        y[p] = moved > 0 ? moved : slope * moved;
        sum += y[p];
      }
      const T mean = sum / area;
      for (size_t p = 0; p < area; ++p) squares += (y[p] - mean) * (y[p] - mean);
      const T scale = 1 / std::sqrt(squares / area + eps);
      for (size_t p = 0; p < area; ++p) y[p] = (y[p] - mean) * scale * (style[c] + 1) + style[shape.c + c];
    }
  }
}

template struct PixelNorm<float>;
template struct PixelNorm<double>;
template struct Constant<float>;
template struct Constant<double>;
template struct Upsample<float>;
template struct Upsample<double>;
template struct ConvTranspose<float>;
template struct ConvTranspose<double>;
template struct Blur<float>;
template struct Blur<double>;
template struct StyleEpilogue<float>;
template struct StyleEpilogue<double>;

}  // namespace comface::reference
