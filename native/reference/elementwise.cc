// ReLU and the sum that closes a residual block (He et al., 2016, eq. 1). All buffers: N C H W.
#include <algorithm>

#include "ops.h"

namespace comface::reference {

/** y = max(x, 0), in the order of arguments that lets a NaN through. */
template <typename T>
void Relu<T>::forward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) node.y[at] = std::max(node.x[at], T(0));
}

/** The derivative at 0 is 0. */
template <typename T>
void Relu<T>::backward(const Node<T>& node) {
  for (size_t at = 0; at < node.in.count(); ++at) node.dx[at] += node.x[at] > 0 ? node.dy[at] : T(0);
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
