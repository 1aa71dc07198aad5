// Convolutions add up in double and round once, to the type of their output; pointwise operations compute in fp32; sums
// add up in double. Tensors are dense N H W C (K R S C) while they are computed with, so that innermost loops run over
// channels.
#include "doubles/loops.h"

#include <random>

#include "doubles/numbers.h"

namespace comface::cuda::emulation {
namespace {

using Dense = std::vector<double>;

/** A boolean lives only inside a graph, where any format holds it. */
Format formatOf(cudnnDataType_t type) {
  if (type == CUDNN_DATA_HALF) return Format::fp16;
  return type == CUDNN_DATA_BFLOAT16 ? Format::bf16 : Format::fp32;
}

/** visit(i, offset): i counts N H W C, offset is where the tensor's strides put it, in numbers. */
template <class F>
void forEach(const Tensor& tensor, const F& visit) {
  const auto &d = tensor.dims, &s = tensor.strides;
  size_t i = 0;
  for (int64_t n = 0; n < d[0]; ++n)
    for (int64_t h = 0; h < d[2]; ++h)
      for (int64_t w = 0; w < d[3]; ++w)
        for (int64_t c = 0; c < d[1]; ++c) visit(i++, n * s[0] + c * s[1] + h * s[2] + w * s[3]);
}

Dense load(const Tensor& tensor, const void* from) {
  Dense values(tensor.count());
  const int64_t size = sizeOf(tensor.type);
  const Format format = formatOf(tensor.type);
  forEach(tensor,
          [&](size_t i, int64_t offset) { values[i] = read(format, static_cast<const char*>(from) + offset * size); });
  return values;
}

void store(const Tensor& tensor, const Dense& values, void* to) {
  const int64_t size = sizeOf(tensor.type);
  const Format format = formatOf(tensor.type);
  forEach(tensor, [&](size_t i, int64_t offset) { write(format, values[i], static_cast<char*>(to) + offset * size); });
}

/** Sizes of a convolution, named for its forward pass. */
struct Geometry {
  int64_t n, c, h, w, k, r, s, p, q;
  const Operation& operation;

  /** visit(pixel of y, pixel of x, place in the filter), in each of which channels lie side by side. */
  template <class F>
  void forEachPair(const F& visit) const {
    const auto &pad = operation.pad, &stride = operation.stride, &dilation = operation.dilation;
    for (int64_t b = 0; b < n; ++b)
      for (int64_t yRow = 0; yRow < p; ++yRow)
        for (int64_t yColumn = 0; yColumn < q; ++yColumn)
          for (int64_t i = 0; i < r; ++i) {
            const int64_t row = yRow * stride[0] - pad[0] + i * dilation[0];
            if (row < 0 || row >= h) continue;
            for (int64_t j = 0; j < s; ++j) {
              const int64_t column = yColumn * stride[1] - pad[1] + j * dilation[1];
              if (column >= 0 && column < w) visit((b * p + yRow) * q + yColumn, (b * h + row) * w + column, i * s + j);
            }
          }
  }
};

Geometry geometryOf(const Operation& operation, const Tensor& x, const Tensor& filter, const Tensor& y) {
  return {x.dims[0],      x.dims[1],      x.dims[2], x.dims[3], filter.dims[0],
          filter.dims[2], filter.dims[3], y.dims[2], y.dims[3], operation};
}

/** K x RS x C to RS x C x K, or back. */
Dense turn(const Dense& from, int64_t rows, int64_t columns) {
  Dense to(from.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
  return to;
}

Dense forward(const Geometry& g, const Dense& x, const Dense& filter) {
  const Dense turned = turn(filter, g.k, g.r * g.s * g.c);
  Dense y(g.n * g.p * g.q * g.k);
  g.forEachPair([&](int64_t to, int64_t from, int64_t place) {
    double* sums = &y[to * g.k];
    for (int64_t c = 0; c < g.c; ++c) {
      const double value = x[from * g.c + c];
      const double* weights = &turned[(place * g.c + c) * g.k];
      for (int64_t k = 0; k < g.k; ++k) sums[k] += value * weights[k];
    }
  });
  return y;
}

Dense backwardData(const Geometry& g, const Dense& dy, const Dense& filter) {
  Dense dx(g.n * g.h * g.w * g.c);
  g.forEachPair([&](int64_t from, int64_t to, int64_t place) {
    double* sums = &dx[to * g.c];
    for (int64_t k = 0; k < g.k; ++k) {
      const double value = dy[from * g.k + k];
      const double* weights = &filter[(k * g.r * g.s + place) * g.c];
      for (int64_t c = 0; c < g.c; ++c) sums[c] += value * weights[c];
    }
  });
  return dx;
}

Dense backwardFilter(const Geometry& g, const Dense& x, const Dense& dy) {
  Dense turned(g.k * g.r * g.s * g.c);
  g.forEachPair([&](int64_t yPixel, int64_t xPixel, int64_t place) {
    const double* gradients = &dy[yPixel * g.k];
    for (int64_t c = 0; c < g.c; ++c) {
      const double value = x[xPixel * g.c + c];
      double* sums = &turned[(place * g.c + c) * g.k];
      for (int64_t k = 0; k < g.k; ++k) sums[k] += value * gradients[k];
    }
  });
  return turn(turned, g.r * g.s * g.c, g.k);
}

float compute(cudnnPointwiseMode_t mode, float a, float b) {
  switch (mode) {
    case CUDNN_POINTWISE_MUL:
      return a * b;
    case CUDNN_POINTWISE_ADD:
      return a + b;
    case CUDNN_POINTWISE_SUB:
      return a - b;
    case CUDNN_POINTWISE_RELU_FWD:
      return a < 0 ? 0 : a;
    case CUDNN_POINTWISE_RELU_BWD:
      return b > 0 ? a : 0;
    case CUDNN_POINTWISE_CMP_GT:
      return a > b ? 1 : 0;
    default:
      return a;
  }
}

/** Steps through a dense tensor as if it had the dimensions of a larger one. */
std::array<int64_t, 4> broadcastSteps(const Tensor& tensor) {
  const auto& d = tensor.dims;
  const int64_t c = d[1], w = c * d[3], h = w * d[2];
  return {d[0] == 1 ? 0 : h, d[1] == 1 ? 0 : 1, d[2] == 1 ? 0 : w, d[3] == 1 ? 0 : c};
}

class Evaluation {
 public:
  Evaluation(const Graph& graph, bool isTf32, bool isUnordered, const std::map<int64_t, void*>& pointers)
      : graph_(graph), isTf32_(isTf32), isUnordered_(isUnordered), pointers_(pointers) {}

  void run(const Operation& operation) {
    const Tensor &a = graph_.at(operation.inputs[0]), &y = graph_.at(operation.outputs[0]);
    if (operation.isConvolution()) return convolve(operation, a, graph_.at(operation.inputs[1]), y);
    if (operation.kind == Kind::pointwise) return pointwise(operation, a, y);
    commit(y, sums(a, y, [](double value) { return value; }));
    if (operation.kind != Kind::statistics) return;
    const Tensor& squares = graph_.at(operation.outputs[1]);
    commit(squares, sums(a, squares, [](double value) { return value * value; }));
  }

 private:
  const Dense& values(const Tensor& tensor) {
    const auto found = dense_.find(tensor.id);
    if (found != dense_.end()) return found->second;
    return dense_[tensor.id] = load(tensor, pointers_.at(tensor.id));
  }

  /** Rounds, and what reads the tensor later sees it rounded. */
  void commit(const Tensor& tensor, Dense result) {
    for (double& value : result) value = nearest(formatOf(tensor.type), value);
    if (!tensor.isVirtual) store(tensor, result, pointers_.at(tensor.id));
    dense_[tensor.id] = std::move(result);
  }

  Dense operand(const Tensor& tensor) {
    Dense result = values(tensor);
    if (isTf32_ && tensor.type == CUDNN_DATA_FLOAT)
      for (double& value : result) value = tf32(value);
    return result;
  }

  void convolve(const Operation& operation, const Tensor& first, const Tensor& second, const Tensor& output) {
    const Dense a = operand(first), b = operand(second);
    Dense result;
    if (operation.kind == Kind::forward) result = forward(geometryOf(operation, first, second, output), a, b);
    if (operation.kind == Kind::backwardData) result = backwardData(geometryOf(operation, output, second, first), a, b);
    if (operation.kind == Kind::backwardFilter)
      result = backwardFilter(geometryOf(operation, first, output, second), a, b);
    if (operation.alpha != 1)
      for (double& value : result) value *= operation.alpha;
    if (operation.beta != 0) {
      const Dense before = values(output);
      for (size_t i = 0; i < result.size(); ++i) result[i] += operation.beta * before[i];
    }
    commit(output, std::move(result));
  }

  void pointwise(const Operation& operation, const Tensor& a, const Tensor& y) {
    const Tensor& b = graph_.at(operation.inputs.back());
    const Dense &left = values(a), &right = values(b);
    const auto aSteps = broadcastSteps(a), bSteps = broadcastSteps(b);
    const auto alpha = static_cast<float>(operation.alpha), beta = static_cast<float>(operation.beta);
    Dense result;
    result.reserve(y.count());
    for (int64_t n = 0; n < y.dims[0]; ++n)
      for (int64_t h = 0; h < y.dims[2]; ++h)
        for (int64_t w = 0; w < y.dims[3]; ++w)
          for (int64_t c = 0; c < y.dims[1]; ++c) {
            const int64_t i = n * aSteps[0] + c * aSteps[1] + h * aSteps[2] + w * aSteps[3];
            const int64_t j = n * bSteps[0] + c * bSteps[1] + h * bSteps[2] + w * bSteps[3];
            result.push_back(
                compute(operation.mode, alpha * static_cast<float>(left[i]), beta * static_cast<float>(right[j])));
          }
    commit(y, std::move(result));
  }

  template <class F>
  Dense sums(const Tensor& x, const Tensor& y, const F& of) {
    const Dense& from = values(x);
    const auto steps = broadcastSteps(y);
    Dense result(y.count());
    size_t i = 0;
    for (int64_t n = 0; n < x.dims[0]; ++n)
      for (int64_t h = 0; h < x.dims[2]; ++h)
        for (int64_t w = 0; w < x.dims[3]; ++w)
          for (int64_t c = 0; c < x.dims[1]; ++c)
            result[n * steps[0] + c * steps[1] + h * steps[2] + w * steps[3]] += of(from[i++]);
    if (!isUnordered_) return result;
    static std::minstd_rand random(1);
    const Dense before = load(y, pointers_.at(y.id));
    constexpr double kLastBit = 0x1p-23;
    for (size_t k = 0; k < result.size(); ++k)
      result[k] = before[k] + result[k] * (1 + kLastBit * static_cast<double>(random() % 3));
    return result;
  }

  const Graph& graph_;
  const bool isTf32_, isUnordered_;
  const std::map<int64_t, void*>& pointers_;
  std::map<int64_t, Dense> dense_;  // nodes stay where they are: references to them outlive insertions
};

}  // namespace

void evaluate(const Graph& graph, bool isTf32, bool isUnordered, const std::map<int64_t, void*>& pointers) {
  Evaluation evaluation(graph, isTf32, isUnordered, pointers);
  for (const Operation& operation : graph.operations) evaluation.run(operation);
}

}  // namespace comface::cuda::emulation
