// From descriptors to graphs: what cudnnBackendFinalize checks of tensors, operations and operation graphs.
#include <algorithm>
#include <set>

#include "doubles/descriptor.h"

namespace comface::cuda::emulation {
namespace {

[[noreturn]] void refuse(cudnnStatus_t status, const std::string& text) { throw Refusal{status, text}; }

void require(bool holds, cudnnStatus_t status, const std::string& text) {
  if (!holds) refuse(status, text);
}

Tensor tensorOf(const Body& body) {
  return {body.one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID),      body.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE),
          body.list<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS),    body.list<int64_t>(CUDNN_ATTR_TENSOR_STRIDES),
          body.one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT), body.one<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL),
          body.one<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE)};
}

void checkTensor(const Tensor& tensor) {
  const int64_t alignment = tensor.alignment;
  require(tensor.dims.size() == tensor.strides.size(), CUDNN_STATUS_BAD_PARAM,
          "dimensions and strides differ in number");
  require(alignment > 0 && (alignment & (alignment - 1)) == 0, CUDNN_STATUS_BAD_PARAM, "alignment is not a power of 2");
  require(alignment % sizeOf(tensor.type) == 0, CUDNN_STATUS_BAD_PARAM,
          "alignment is not a multiple of a number's size");
  for (const int64_t dim : tensor.dims) require(dim > 0, CUDNN_STATUS_BAD_PARAM, "a dimension is not positive");
  require(!(tensor.isVirtual && tensor.isByValue), CUDNN_STATUS_BAD_PARAM, "a tensor both virtual and by value");
  require(tensor.dims.size() == 4, CUDNN_STATUS_NOT_SUPPORTED, "the double knows only four dimensions");
}

void checkConvolution(const Body& body) {
  const auto spatial = static_cast<size_t>(body.one<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS));
  for (const auto name : {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES,
                          CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS}) {
    const bool isPadding = name == CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS || name == CUDNN_ATTR_CONVOLUTION_POST_PADDINGS;
    const auto values = body.list<int64_t>(name);
    require(values.size() == spatial, CUDNN_STATUS_BAD_PARAM,
            "a convolution's lists differ from its spatial dimensions");
    for (const int64_t value : values)
      require(value >= (isPadding ? 0 : 1), CUDNN_STATUS_BAD_PARAM, "a convolution's padding, stride or dilation");
  }
  require(spatial == 2, CUDNN_STATUS_NOT_SUPPORTED, "the double knows only two spatial dimensions");
  require(body.one<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CROSS_CORRELATION,
          CUDNN_STATUS_NOT_SUPPORTED, "the double knows only cross-correlation");
  require(body.one<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_FLOAT, CUDNN_STATUS_NOT_SUPPORTED,
          "the double computes convolutions in fp32");
}

/** A graph of one operation, its tensors taken from the attributes named. */
struct Single {
  Graph graph;
  Operation operation;

  Tensor take(const Body& body, cudnnBackendAttributeName_t name) {
    const Tensor tensor = tensorOf(body.part(name));
    const auto [at, isNew] = graph.tensors.emplace(tensor.id, tensor);
    require(isNew || at->second == tensor, CUDNN_STATUS_BAD_PARAM, "two tensors with one id");
    return tensor;
  }
  Tensor read(const Body& body, cudnnBackendAttributeName_t name) {
    const Tensor tensor = take(body, name);
    operation.inputs.push_back(tensor.id);
    return tensor;
  }
  Tensor write(const Body& body, cudnnBackendAttributeName_t name) {
    const Tensor tensor = take(body, name);
    require(!tensor.isByValue, CUDNN_STATUS_BAD_PARAM, "an output by value");
    operation.outputs.push_back(tensor.id);
    return tensor;
  }
  std::shared_ptr<const Graph> done() {
    graph.operations.push_back(operation);
    return std::make_shared<const Graph>(std::move(graph));
  }
};

double realOf(const Body& body, cudnnBackendAttributeName_t name, double otherwise) {
  const auto found = body.values.find(name);
  if (found == body.values.end()) return otherwise;
  return found->second.type == CUDNN_TYPE_DOUBLE ? body.one<double>(name) : body.one<float>(name);
}

void takeGeometry(Operation& operation, const Body& convolution, const Tensor& x, const Tensor& w, const Tensor& y) {
  const auto pad = convolution.list<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
  const auto post = convolution.list<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
  const auto stride = convolution.list<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
  const auto dilation = convolution.list<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
  require(x.dims[0] == y.dims[0] && w.dims[0] == y.dims[1] && x.dims[1] % w.dims[1] == 0, CUDNN_STATUS_BAD_PARAM,
          "a convolution's batch or channels do not fit");
  require(x.dims[1] == w.dims[1], CUDNN_STATUS_NOT_SUPPORTED, "the double knows no groups");
  for (int i = 0; i < 2; ++i) {
    const int64_t padded = x.dims[2 + i] + pad[i] + post[i], window = dilation[i] * (w.dims[2 + i] - 1) + 1;
    require(padded >= window && y.dims[2 + i] == (padded - window) / stride[i] + 1, CUDNN_STATUS_BAD_PARAM,
            "a convolution's output is of another size");
    operation.pad[i] = pad[i];
    operation.stride[i] = stride[i];
    operation.dilation[i] = dilation[i];
  }
}

/** Names of one convolution's attributes; x, w and y are what they are in the forward pass. */
struct ConvolutionNames {
  Kind kind;
  cudnnBackendAttributeName_t x, w, y, geometry, alpha, beta;
};

std::shared_ptr<const Graph> convolution(const Body& body, const ConvolutionNames& names) {
  Single single;
  single.operation.kind = names.kind;
  Tensor x, w, y;
  if (names.kind == Kind::forward)
    x = single.read(body, names.x), w = single.read(body, names.w), y = single.write(body, names.y);
  if (names.kind == Kind::backwardData)
    y = single.read(body, names.y), w = single.read(body, names.w), x = single.write(body, names.x);
  if (names.kind == Kind::backwardFilter)
    x = single.read(body, names.x), y = single.read(body, names.y), w = single.write(body, names.w);
  takeGeometry(single.operation, body.part(names.geometry), x, w, y);
  single.operation.alpha = realOf(body, names.alpha, 1);
  single.operation.beta = realOf(body, names.beta, 0);
  return single.done();
}

void checkBroadcast(const Tensor& from, const Tensor& to) {
  for (size_t i = 0; i < 4; ++i)
    require(from.dims[i] == to.dims[i] || from.dims[i] == 1, CUDNN_STATUS_BAD_PARAM,
            "a pointwise operand does not fit the output");
}

void checkPointwiseMode(const Body& body) {
  constexpr cudnnPointwiseMode_t known[] = {
      CUDNN_POINTWISE_IDENTITY, CUDNN_POINTWISE_MUL,      CUDNN_POINTWISE_ADD,   CUDNN_POINTWISE_SUB,
      CUDNN_POINTWISE_RELU_FWD, CUDNN_POINTWISE_RELU_BWD, CUDNN_POINTWISE_CMP_GT};
  const auto mode = body.one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  require(std::find(std::begin(known), std::end(known), mode) != std::end(known), CUDNN_STATUS_NOT_SUPPORTED,
          "the double does not know pointwise mode " + std::to_string(mode));
  require(body.one<cudnnDataType_t>(CUDNN_ATTR_POINTWISE_MATH_PREC) == CUDNN_DATA_FLOAT, CUDNN_STATUS_NOT_SUPPORTED,
          "the double computes pointwise operations in fp32");
}

std::shared_ptr<const Graph> pointwise(const Body& body) {
  const Body& how = body.part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  Single single;
  single.operation.mode = how.one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  const bool isBackward = single.operation.mode == CUDNN_POINTWISE_RELU_BWD;
  const bool isUnary =
      single.operation.mode == CUDNN_POINTWISE_IDENTITY || single.operation.mode == CUDNN_POINTWISE_RELU_FWD;
  std::vector<cudnnBackendAttributeName_t> inputs{CUDNN_ATTR_OPERATION_POINTWISE_XDESC};
  if (isBackward) inputs.insert(inputs.begin(), CUDNN_ATTR_OPERATION_POINTWISE_DYDESC);
  if (!isBackward && !isUnary) inputs.push_back(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
  const auto output = isBackward ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC;
  auto used = inputs;
  used.push_back(output);
  for (const auto name : {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                          CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC,
                          CUDNN_ATTR_OPERATION_POINTWISE_DYDESC}) {
    const bool isUsed = std::find(used.begin(), used.end(), name) != used.end();
    require(isUsed == body.has(name), CUDNN_STATUS_BAD_PARAM,
            "a pointwise operation's tensors are not those of its mode");
  }
  std::vector<Tensor> from;
  for (const auto name : inputs) from.push_back(single.read(body, name));
  const Tensor to = single.write(body, output);
  for (const Tensor& tensor : from) checkBroadcast(tensor, to);
  for (size_t i = 0; i < 4; ++i)
    require(std::any_of(from.begin(), from.end(), [&](const Tensor& t) { return t.dims[i] == to.dims[i]; }),
            CUDNN_STATUS_BAD_PARAM, "a pointwise output is larger than its operands");
  single.operation.alpha = realOf(body, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, 1);
  single.operation.beta = realOf(body, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, 1);
  return single.done();
}

std::shared_ptr<const Graph> reduction(const Body& body) {
  Single single;
  single.operation.kind = Kind::reduction;
  const Tensor x = single.read(body, CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
  const Tensor y = single.write(body, CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
  for (size_t i = 0; i < 4; ++i)
    require(y.dims[i] == x.dims[i] || y.dims[i] == 1, CUDNN_STATUS_BAD_PARAM, "a reduction's output does not fit");
  const Body& how = body.part(CUDNN_ATTR_OPERATION_REDUCTION_DESC);
  single.operation.isOrdered =
      how.has(CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC) && how.one<bool>(CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC);
  return single.done();
}

std::shared_ptr<const Graph> statistics(const Body& body) {
  require(body.one<cudnnGenStatsMode_t>(CUDNN_ATTR_OPERATION_GENSTATS_MODE) == CUDNN_GENSTATS_SUM_SQSUM &&
              body.one<cudnnDataType_t>(CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC) == CUDNN_DATA_FLOAT,
          CUDNN_STATUS_NOT_SUPPORTED, "genstats: sum and sum of squares in fp32 are all there is");
  Single single;
  single.operation.kind = Kind::statistics;
  const Tensor x = single.read(body, CUDNN_ATTR_OPERATION_GENSTATS_XDESC);
  for (const auto name : {CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC}) {
    const Tensor y = single.write(body, name);
    require(y.dims == std::vector<int64_t>{1, x.dims[1], 1, 1}, CUDNN_STATUS_BAD_PARAM,
            "genstats' outputs are 1 x C x 1 x 1");
    require(y.type == CUDNN_DATA_FLOAT, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "genstats' outputs are fp32");
  }
  return single.done();
}

/** Operations in an order in which each finds its inputs written. */
void sortOperations(Graph& graph) {
  std::set<int64_t> pending;
  for (const Operation& operation : graph.operations)
    for (const int64_t id : operation.outputs)
      require(pending.insert(id).second, CUDNN_STATUS_BAD_PARAM, "two operations write tensor " + std::to_string(id));
  for (const auto& [id, tensor] : graph.tensors)
    require(!tensor.isVirtual || pending.count(id), CUDNN_STATUS_BAD_PARAM,
            "nothing writes virtual tensor " + std::to_string(id));
  std::vector<Operation> left = std::move(graph.operations), sorted;
  while (!left.empty()) {
    const auto ready = std::find_if(left.begin(), left.end(), [&](const Operation& operation) {
      return std::none_of(operation.inputs.begin(), operation.inputs.end(),
                          [&](int64_t id) { return pending.count(id); });
    });
    require(ready != left.end(), CUDNN_STATUS_BAD_PARAM, "the operations form a circle");
    for (const int64_t id : ready->outputs) pending.erase(id);
    sorted.push_back(*ready);
    left.erase(ready);
  }
  graph.operations = std::move(sorted);
}

std::shared_ptr<const Graph> merge(const Body& body) {
  Graph graph;
  for (const auto& part : body.values.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).parts) {
    for (const auto& [id, tensor] : part->graph->tensors) {
      const auto [at, isNew] = graph.tensors.emplace(id, tensor);
      require(isNew || at->second == tensor, CUDNN_STATUS_BAD_PARAM, "two tensors with id " + std::to_string(id));
    }
    graph.operations.push_back(part->graph->operations[0]);
  }
  sortOperations(graph);
  return std::make_shared<const Graph>(std::move(graph));
}

constexpr ConvolutionNames kForward{Kind::forward,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
constexpr ConvolutionNames kBackwardData{Kind::backwardData,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                                         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
constexpr ConvolutionNames kBackwardFilter{Kind::backwardFilter,
                                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};

}  // namespace

int64_t sizeOf(cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_FLOAT:
      return 4;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16:
      return 2;
    case CUDNN_DATA_BOOLEAN:
      return 1;
    default:
      throw Refusal{CUDNN_STATUS_NOT_SUPPORTED, "the double does not know data type " + std::to_string(type)};
  }
}

int64_t Tensor::count() const {
  int64_t product = 1;
  for (const int64_t dim : dims) product *= dim;
  return product;
}

int64_t Tensor::spanBytes() const {
  int64_t last = 0;
  for (size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides[i];
  return (last + 1) * sizeOf(type);
}

const Operation* Graph::producer(int64_t id) const {
  for (const Operation& operation : operations)
    if (std::find(operation.outputs.begin(), operation.outputs.end(), id) != operation.outputs.end()) return &operation;
  return nullptr;
}

const Operation* Graph::convolution() const {
  for (const Operation& operation : operations)
    if (operation.isConvolution()) return &operation;
  return nullptr;
}

void finalizeGraphPart(Body& body) {
  switch (body.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return checkTensor(tensorOf(body));
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
      return checkConvolution(body);
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR:
      return checkPointwiseMode(body);
    case CUDNN_BACKEND_REDUCTION_DESCRIPTOR:
      return require(body.one<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_ADD &&
                         body.one<cudnnDataType_t>(CUDNN_ATTR_REDUCTION_COMP_TYPE) == CUDNN_DATA_FLOAT,
                     CUDNN_STATUS_NOT_SUPPORTED, "the double knows only sums in fp32");
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      body.graph = convolution(body, kForward);
      return;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      body.graph = convolution(body, kBackwardData);
      return;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      body.graph = convolution(body, kBackwardFilter);
      return;
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      body.graph = pointwise(body);
      return;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      body.graph = reduction(body);
      return;
    case CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR:
      body.graph = statistics(body);
      return;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      body.graph = merge(body);
      return;
    default:
      return;
  }
}

}  // namespace comface::cuda::emulation
