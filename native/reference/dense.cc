// Ops on one vector per sample, the stuff of the heads; linear layers also take images. Buffers are N x C unless a line
// says otherwise.
#include <algorithm>
#include <cmath>

#include "ops.h"

namespace comface::reference {

/** y[n,o,p] = bias[o] + sum over c of weight[o,c] x[n,c,p], at each position p of an image. weight: O x C. */
template <typename T>
void Linear<T>::forward(const Node<T>& node) {
  const int in = node.in.c, out = node.layer->out, area = node.in.h * node.in.w;
  for (int n = 0; n < node.in.n; ++n) {
    for (int o = 0; o < out; ++o) {
      T* y = node.y + plane(node.layer->shape, n, o);
      std::fill_n(y, area, node.bias ? node.bias[o] : T(0));
      for (int c = 0; c < in; ++c) {
        const T weight = node.weight[static_cast<size_t>(o) * in + c], *x = node.x + plane(node.in, n, c);
        for (int p = 0; p < area; ++p) y[p] += weight * x[p];
      }
    }
  }
}

/** dx = W^T dy, dW = sum over n of dy x^T, dBias = sums of dy. */
template <typename T>
void Linear<T>::backward(const Node<T>& node) {
  const int in = node.in.c, out = node.layer->out, area = node.in.h * node.in.w;
  for (int n = 0; n < node.in.n; ++n) {
    for (int o = 0; o < out; ++o) {
      const T* dy = node.dy + plane(node.layer->shape, n, o);
      for (int c = 0; c < in; ++c) {
        const size_t at = static_cast<size_t>(o) * in + c;
        const T weight = node.weight[at], *x = node.x + plane(node.in, n, c);
        T *dx = node.dx + plane(node.in, n, c), sum = 0;
        for (int p = 0; p < area; ++p) {
          dx[p] += dy[p] * weight;
          sum += dy[p] * x[p];
        }
        node.dWeight[at] += sum;
      }
      for (int p = 0; p < area && node.dBias; ++p) node.dBias[o] += dy[p];
    }
  }
}

/** y = rows [first, last) of x; see rowRange() in graph.h. */
template <typename T>
void Rows<T>::forward(const Node<T>& node) {
  const size_t start = plane(node.in, rowRange(*node.layer, node.in.n).first, 0);
  std::copy_n(node.x + start, node.layer->shape.count(), node.y);
}

template <typename T>
void Rows<T>::backward(const Node<T>& node) {
  T* dx = node.dx + plane(node.in, rowRange(*node.layer, node.in.n).first, 0);
  for (size_t at = 0; at < node.layer->shape.count(); ++at) dx[at] += node.dy[at];
}

namespace {

constexpr double kSmallestNorm = 1e-12;  // torch.nn.functional.normalize

/** |x| of a vector of `size` values. */
template <typename T>
T length(const T* x, int size) {
  T squares = 0;
  for (int c = 0; c < size; ++c) squares += x[c] * x[c];
  return std::sqrt(squares);
}

}  // namespace

/** y[n] = x[n] / max(|x[n]|, 1e-12). */
template <typename T>
void L2Normalize<T>::forward(const Node<T>& node) {
  for (int n = 0; n < node.in.n; ++n) {
    const size_t row = plane(node.in, n, 0);
    const T divisor = std::max(length(node.x + row, node.in.c), T(kSmallestNorm));
    for (int c = 0; c < node.in.c; ++c) node.y[row + c] = node.x[row + c] / divisor;
  }
}

/** dx = (dy - y (y . dy)) / |x|; where the divisor is the constant 1e-12, the second term is absent. */
template <typename T>
void L2Normalize<T>::backward(const Node<T>& node) {
  for (int n = 0; n < node.in.n; ++n) {
    const size_t row = plane(node.in, n, 0);
    const T norm = length(node.x + row, node.in.c), divisor = std::max(norm, T(kSmallestNorm));
    T along = 0;
    for (int c = 0; c < node.in.c && norm > T(kSmallestNorm); ++c) along += node.y[row + c] * node.dy[row + c];
    for (int c = 0; c < node.in.c; ++c) node.dx[row + c] += (node.dy[row + c] - node.y[row + c] * along) / divisor;
  }
}

/** y = relu(x - x2): what ComFace section 3.2 feeds to l(.), with x = h_y and x2 = h_x. */
template <typename T>
void ReluDifference<T>::forward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) node.y[at] = std::max(node.x[at] - node.x2[at], T(0));
}

template <typename T>
void ReluDifference<T>::backward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) {
    const T gradient = node.y[at] > 0 ? node.dy[at] : T(0);
    node.dx[at] += gradient;
    node.dx2[at] -= gradient;
  }
}

template struct Linear<float>;
template struct Linear<double>;
template struct Rows<float>;
template struct Rows<double>;
template struct L2Normalize<float>;
template struct L2Normalize<double>;
template struct ReluDifference<float>;
template struct ReluDifference<double>;

}  // namespace comface::reference
