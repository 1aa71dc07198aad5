// ReLU, leaky or not (Maas et al., 2013), and the sum that closes a residual block (He et al., 2016, eq. 1). All
// buffers: N C H W.
#include <algorithm>

#include "ops.h"

namespace comface::reference {

/** y = max(x, 0), in the order of arguments that lets a NaN through; with a slope y = x > 0 ? x : slope x. */
template <typename T>
void Relu<T>::forward(const Node<T>& node) {
  const T slope = node.layer->slope;
  for (size_t at = 0; at < node.in.count(); ++at) {
    const T x = node.x[at];
    node.y[at] = slope == 0 ? std::max(x, T(0)) : x > 0 ? x : slope * x;
  }
}

/** The derivative at 0 is the slope. */
template <typename T>
void Relu<T>::backward(const Node<T>& node) {
  const T slope = node.layer->slope;
  for (size_t at = 0; at < node.in.count(); ++at) {
    const T dy = node.dy[at];
    node.dx[at] += node.x[at] > 0 ? dy : slope == 0 ? T(0) : slope * dy;
  }
}

template <typename T>
void Add<T>::forward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) node.y[at] = node.x[at] + node.x2[at];
}

template <typename T>
void Add<T>::backward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) {
    node.dx[at] += node.dy[at];
    node.dx2[at] += node.dy[at];
  }
}

template struct Relu<float>;
template struct Relu<double>;
template struct Add<float>;
template struct Add<double>;

}  // namespace comface::reference
