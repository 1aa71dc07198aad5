// What an op is here: two functions on a Node, one forward, one backward, each the formula of its paper as loops.
// Backward functions add to dx, dWeight and dBias, which the Program clears first: a result may have several readers.
#pragma once
#include "../graph.h"

namespace comface::reference {

/**
 * One layer with its buffers, in T = float or double. Results are N x C x H x W, row-major; a vector has H = W = 1.
 * A name starting with d is the gradient of the total loss by the buffer that the rest names, in its shape.
 */
template <typename T>
struct Node {
  const Layer *layer = nullptr;
  Shape in;               // shape of x (and x2)
  bool training = false;  // batch statistics; only then are there gradients
  bool bf16 = false;      // y and dy are rounded to bf16 once they are complete, as backends that store bf16 do
  const T *x = nullptr, *x2 = nullptr;                  // results of the one or two inputs
  T *dx = nullptr, *dx2 = nullptr;                      // may be one buffer, as in add(x, x)
  T *y = nullptr, *dy = nullptr;                        // layer->shape; dy is complete when backward is called
  const T *weight = nullptr, *bias = nullptr;           // conv O C K K and O, linear O C and O, norms C and C
  T *dWeight = nullptr, *dBias = nullptr;               // dBias is null where there is no bias
  const T *classToken = nullptr, *positions = nullptr;  // tokens: C, T x C; null where there are none
  T *dClassToken = nullptr, *dPositions = nullptr;
  T *runningMean = nullptr, *runningVar = nullptr;  // batchNorm: C
  const T *targets = nullptr;                       // squaredError: N
  std::array<const T *, 3> tensors = {};            // of the generators' ops, in the graph's order
  T *saved = nullptr;                               // savedCount() values that forward leaves for backward
};

/**
 * batchNorm: mean and 1 / standard deviation, C each. infoNce: log-sum-exp and one row of similarities, N each.
 * layerNorm: mean and 1 / standard deviation of each position. attention: two numbers for each head and query.
 */
inline size_t savedCount(const Layer &layer, const Shape &in) {
  if (layer.op == Op::batchNorm) return size_t{2} * in.c;
  if (layer.op == Op::infoNce) return size_t{2} * in.n;
  if (layer.op == Op::layerNorm) return size_t{2} * in.n * in.h * in.w;
  if (layer.op == Op::attention) return size_t{2} * in.n * layer.heads * in.h * in.w;
  return 0;
}

/** Where plane (n, c) of a tensor starts: element (i, j) is `i * w + j` further. */
inline size_t plane(const Shape &shape, int n, int c) {
  return (static_cast<size_t>(n) * shape.c + c) * shape.h * shape.w;
}

// conv.cc
template <typename T>
struct Conv {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
// norm.cc
template <typename T>
struct BatchNorm {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
// pool.cc
template <typename T>
struct MaxPool {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct AvgPool {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct Flatten {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
// elementwise.cc
template <typename T>
struct Relu {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct Add {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
// dense.cc
template <typename T>
struct Linear {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct Rows {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct L2Normalize {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct ReluDifference {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
// losses.cc
template <typename T>
struct InfoNce {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct SquaredError {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
// tokens.cc
template <typename T>
struct Tokens {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct Token {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct LayerNorm {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct Gelu {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
// stylegan.cc, stylegan3.cc: inference only
template <typename T>
struct PixelNorm {
  static void forward(const Node<T> &);
};
template <typename T>
struct Constant {
  static void forward(const Node<T> &);
};
template <typename T>
struct Upsample {
  static void forward(const Node<T> &);
};
template <typename T>
struct ConvTranspose {
  static void forward(const Node<T> &);
};
template <typename T>
struct Blur {
  static void forward(const Node<T> &);
};
template <typename T>
struct StyleEpilogue {
  static void forward(const Node<T> &);
};
template <typename T>
struct FourierFeatures {
  static void forward(const Node<T> &);
};
template <typename T>
struct ModulatedConv {
  static void forward(const Node<T> &);
};
template <typename T>
struct FilteredRelu {
  static void forward(const Node<T> &);
};
// attention.cc
template <typename T>
struct Attention {
  static void forward(const Node<T> &), backward(const Node<T> &);
};
template <typename T>
struct EfficientAttention {
  static void forward(const Node<T> &), backward(const Node<T> &);
};

}  // namespace comface::reference
