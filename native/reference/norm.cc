// Batch normalization: Ioffe and Szegedy, 2015, algorithm 1; gradients as in their section 3, gathered per channel.
// PyTorch's two variances: the biased one normalizes, the unbiased one enters running_var.
#include <cmath>

#include "ops.h"

namespace comface::reference {
namespace {

/** Calls visit(at) for every element of channel c. */
template <typename Visit>
void forEachInChannel(const Shape& shape, int c, Visit visit) {
  for (int n = 0; n < shape.n; ++n) {
    const size_t start = plane(shape, n, c);
    for (int p = 0; p < shape.h * shape.w; ++p) visit(start + p);
  }
}

}  // namespace

/** y = weight (x - mean) / sqrt(variance + eps) + bias, moments of the batch or, in inference, running ones. */
template <typename T>
void BatchNorm<T>::forward(const Node<T>& node) {
  const Shape& shape = node.in;
  const T count = static_cast<T>(shape.n) * shape.h * shape.w;
  for (int c = 0; c < shape.c; ++c) {
    T mean = node.runningMean[c], variance = node.runningVar[c];
    if (node.training) {
      T sum = 0, squares = 0;
      forEachInChannel(shape, c, [&](size_t at) { sum += node.x[at]; });
      mean = sum / count;
      forEachInChannel(shape, c, [&](size_t at) { squares += (node.x[at] - mean) * (node.x[at] - mean); });
      variance = squares / count;
      const T momentum = node.layer->momentum;
      node.runningMean[c] = (1 - momentum) * node.runningMean[c] + momentum * mean;
      node.runningVar[c] = (1 - momentum) * node.runningVar[c] + momentum * squares / (count - 1);
    }
    const T scale = 1 / std::sqrt(variance + static_cast<T>(node.layer->eps));
    node.saved[c] = mean;
    node.saved[shape.c + c] = scale;
    forEachInChannel(shape, c,
                     [&](size_t at) { node.y[at] = node.weight[c] * ((node.x[at] - mean) * scale) + node.bias[c]; });
  }
}

/**
 * With h = (x - mean) scale and sums and means over N, H, W:
 * dx = weight scale ( dy - mean(dy) - h mean(dy h) ), dWeight = sum(dy h), dBias = sum(dy).
 */
template <typename T>
void BatchNorm<T>::backward(const Node<T>& node) {
  const Shape& shape = node.in;
  const T count = static_cast<T>(shape.n) * shape.h * shape.w;
  for (int c = 0; c < shape.c; ++c) {
    const T mean = node.saved[c], scale = node.saved[shape.c + c];
    const auto normalized = [&](size_t at) { return (node.x[at] - mean) * scale; };
    T sum = 0, product = 0;
    forEachInChannel(shape, c, [&](size_t at) {
      sum += node.dy[at];
      product += node.dy[at] * normalized(at);
    });
    node.dBias[c] += sum;
    node.dWeight[c] += product;
    forEachInChannel(shape, c, [&](size_t at) {
      node.dx[at] += node.weight[c] * scale * (node.dy[at] - sum / count - normalized(at) * product / count);
    });
  }
}

template struct BatchNorm<float>;
template struct BatchNorm<double>;

}  // namespace comface::reference
