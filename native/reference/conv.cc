// Convolution as networks mean it: cross-correlation with zero padding, square kernel, one stride.
// The result and both gradients run over the same pairs (weight, output), so one walk serves all three.
#include <algorithm>

#include "ops.h"

namespace comface::reference {
namespace {

/** Output positions [first, last) at which tap `k` of the kernel is on the input, not the padding. */
std::pair<int, int> inside(const Layer& layer, int k, int extent, int outExtent) {
  const auto reach = [&](int at) { return (at + layer.pad - k + layer.stride - 1) / layer.stride; };
  return {std::max(0, reach(0)), std::min(outExtent, reach(extent))};
}

/**
 * For each weight [o, c, k, l] and each output row that it takes part in, calls visit(weightAt, yAt, xAt, width):
 * the outputs y[yAt + j] meet this weight with the inputs x[xAt + j * stride], 0 <= j < width.
 */
template <typename Visit>
void forEachRow(const Layer& layer, const Shape& in, Visit visit) {
  const Shape& out = layer.shape;
  const int kernel = layer.kernel, stride = layer.stride, pad = layer.pad;
  for (int n = 0; n < out.n; ++n) {
    size_t weightAt = 0;
    for (int o = 0; o < out.c; ++o) {
      for (int c = 0; c < in.c; ++c) {
        for (int k = 0; k < kernel; ++k) {
          const auto [top, bottom] = inside(layer, k, in.h, out.h);
          for (int l = 0; l < kernel; ++l, ++weightAt) {
            const auto [left, right] = inside(layer, l, in.w, out.w);
            for (int i = top; i < bottom && left < right; ++i) {
              const size_t yAt = plane(out, n, o) + i * out.w + left;
              const size_t xAt = plane(in, n, c) + (i * stride + k - pad) * in.w + (left * stride + l - pad);
              visit(weightAt, yAt, xAt, right - left);
            }
          }
        }
      }
    }
  }
}

}  // namespace

/** y[n,o,i,j] = bias[o] + sum over c,k,l of weight[o,c,k,l] x[n, c, i stride + k - pad, j stride + l - pad]. */
template <typename T>
void Conv<T>::forward(const Node<T>& node) {
  const Shape& out = node.layer->shape;
  for (int n = 0; n < out.n; ++n) {
    for (int o = 0; o < out.c; ++o) {
      std::fill_n(node.y + plane(out, n, o), out.h * out.w, node.bias ? node.bias[o] : T(0));
    }
  }
  const int stride = node.layer->stride;
  forEachRow(*node.layer, node.in, [&](size_t weightAt, size_t yAt, size_t xAt, int width) {
    const T weight = node.weight[weightAt];
    for (int j = 0; j < width; ++j) node.y[yAt + j] += weight * node.x[xAt + j * stride];
  });
}

/** Each product weight * x of forward gives dWeight += dy x and dx += dy weight; dBias[o] = sum over n,i,j of dy. */
template <typename T>
void Conv<T>::backward(const Node<T>& node) {
  const Shape& out = node.layer->shape;
  for (int n = 0; n < out.n && node.dBias; ++n) {
    for (int o = 0; o < out.c; ++o) {
      const T* dy = node.dy + plane(out, n, o);
      for (int p = 0; p < out.h * out.w; ++p) node.dBias[o] += dy[p];
    }
  }
  const int stride = node.layer->stride;
  forEachRow(*node.layer, node.in, [&](size_t weightAt, size_t yAt, size_t xAt, int width) {
    const T weight = node.weight[weightAt];
    T sum = 0;
    for (int j = 0; j < width; ++j) {
      const T dy = node.dy[yAt + j];
      sum += dy * node.x[xAt + j * stride];
      node.dx[xAt + j * stride] += dy * weight;
    }
    node.dWeight[weightAt] += sum;
  });
}

template struct Conv<float>;
template struct Conv<double>;

}  // namespace comface::reference
