// What the cuDNN double computes: a graph of operations on tensors with four dimensions (N C H W, or K C R S), free of
// descriptors.
#pragma once
#include <cudnn.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace comface::cuda::emulation {

/** A status other than success, and what cudnnGetLastErrorString says of it. */
struct Refusal {
  cudnnStatus_t status;
  std::string text;
};

struct Tensor {
  int64_t id = 0;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::vector<int64_t> dims, strides;
  int64_t alignment = 0;
  bool isVirtual = false, isByValue = false;

  bool operator==(const Tensor&) const = default;
  int64_t count() const;
  /** From its first number to the end of its last. */
  int64_t spanBytes() const;
};

int64_t sizeOf(cudnnDataType_t type);
inline bool isHalf(cudnnDataType_t type) { return type == CUDNN_DATA_HALF || type == CUDNN_DATA_BFLOAT16; }

enum class Kind { forward, backwardData, backwardFilter, pointwise, reduction, statistics };

struct Operation {
  Kind kind = Kind::pointwise;
  cudnnPointwiseMode_t mode = CUDNN_POINTWISE_IDENTITY;
  /**
   * Ids. forward: x, w -> y; backwardData: dy, w -> dx; backwardFilter: x, dy -> dw; pointwise: x[, b] -> y, and
   * dy, x -> dx for RELU_BWD; reduction: x -> y; statistics: x -> sum, sum of squares.
   */
  std::vector<int64_t> inputs, outputs;
  std::array<int64_t, 2> pad{}, stride{}, dilation{};
  /** Convolutions: y = alpha conv + beta y. Pointwise: of x and of b. */
  double alpha = 1, beta = 0;
  bool isOrdered = false;  // a reduction that has to be the same each time

  bool isConvolution() const {
    return kind == Kind::forward || kind == Kind::backwardData || kind == Kind::backwardFilter;
  }
};

/** Operations in an order in which every tensor is written before it is read. */
struct Graph {
  std::map<int64_t, Tensor> tensors;
  std::vector<Operation> operations;

  const Tensor& at(int64_t id) const { return tensors.at(id); }
  /** The operation that writes a tensor, or null. */
  const Operation* producer(int64_t id) const;
  /** The one convolution, or null. */
  const Operation* convolution() const;
};

}  // namespace comface::cuda::emulation
