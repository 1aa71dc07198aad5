// Max pooling over windows, where padding never wins, and what makes a vector of an image: the global average that ends
// a ResNet, and flattening.
#include <algorithm>
#include <cmath>

#include "ops.h"

namespace comface::reference {
namespace {

/** Where in an H x W plane the first maximum, in row-major order, of the window of output (i, j) lies. A NaN wins. */
template <typename T>
int winner(const Layer& layer, const Shape& in, const T* x, int i, int j) {
  const int top = i * layer.stride - layer.pad, left = j * layer.stride - layer.pad;
  int best = -1;
  for (int row = std::max(0, top); row < std::min(in.h, top + layer.kernel); ++row) {
    for (int column = std::max(0, left); column < std::min(in.w, left + layer.kernel); ++column) {
      const int at = row * in.w + column;
      if (best < 0 || x[at] > x[best] || std::isnan(x[at])) best = at;
    }
  }
  return best;
}

/** Calls visit(xAt, yAt) for every output and the one input that it takes. */
template <typename T, typename Visit>
void forEachWinner(const Node<T>& node, Visit visit) {
  const Shape& out = node.layer->shape;
  for (int n = 0; n < out.n; ++n) {
    for (int c = 0; c < out.c; ++c) {
      const size_t xPlane = plane(node.in, n, c), yPlane = plane(out, n, c);
      for (int i = 0; i < out.h; ++i) {
        for (int j = 0; j < out.w; ++j) {
          visit(xPlane + winner(*node.layer, node.in, node.x + xPlane, i, j), yPlane + i * out.w + j);
        }
      }
    }
  }
}

}  // namespace

/** y[n,c,i,j] = max over k,l of x[n, c, i stride + k - pad, j stride + l - pad]. x: N C H W, y: N C H' W'. */
template <typename T>
void MaxPool<T>::forward(const Node<T>& node) {
  forEachWinner(node, [&](size_t xAt, size_t yAt) { node.y[yAt] = node.x[xAt]; });
}

template <typename T>
void MaxPool<T>::backward(const Node<T>& node) {
  forEachWinner(node, [&](size_t xAt, size_t yAt) { node.dx[xAt] += node.dy[yAt]; });
}

/** y[n,c] = mean over i,j of x[n,c,i,j]. x: N C H W, y: N C. */
template <typename T>
void AvgPool<T>::forward(const Node<T>& node) {
  const int area = node.in.h * node.in.w;
  for (int nc = 0; nc < node.in.n * node.in.c; ++nc) {
    const T* x = node.x + static_cast<size_t>(nc) * area;
    T sum = 0;
    for (int p = 0; p < area; ++p) sum += x[p];
    node.y[nc] = sum / area;
  }
}

template <typename T>
void AvgPool<T>::backward(const Node<T>& node) {
  const int area = node.in.h * node.in.w;
  for (int nc = 0; nc < node.in.n * node.in.c; ++nc) {
    T* dx = node.dx + static_cast<size_t>(nc) * area;
    for (int p = 0; p < area; ++p) dx[p] += node.dy[nc] / area;
  }
}

/** y[n, (c H + i) W + j] = x[n,c,i,j], as torch.flatten does it: the same numbers in the same order. */
template <typename T>
void Flatten<T>::forward(const Node<T>& node) {
  std::copy_n(node.x, node.in.count(), node.y);
}

template <typename T>
void Flatten<T>::backward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) node.dx[at] += node.dy[at];
}

template struct MaxPool<float>;
template struct MaxPool<double>;
template struct AvgPool<float>;
template struct AvgPool<double>;
template struct Flatten<float>;
template struct Flatten<double>;

}  // namespace comface::reference
