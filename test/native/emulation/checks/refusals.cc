// See refusals.h. The statuses are those of cuDNN 9.24.
#include "checks/refusals.h"

namespace comface::cuda::emulation {
namespace {

constexpr auto kFp32 = CUDNN_DATA_FLOAT, kBf16 = CUDNN_DATA_BFLOAT16;
/** cuDNN takes these without a word, or crashes. */
constexpr bool kStricter = true;
constexpr int64_t kDims[] = {2, 8, 4, 4}, kStrides[] = {128, 1, 32, 8};

template <class T>
cudnnStatus_t set(const Handle& handle, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T value) {
  return cudnnBackendSetAttribute(handle, name, type, 1, &value);
}

cudnnStatus_t setPart(const Handle& handle, cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t part) {
  return cudnnBackendSetAttribute(handle, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

/** A tensor with everything set but what `except` names, not yet finalized. */
void fill(const Handle& tensor, int64_t alignment = 16, int except = -1) {
  if (except != CUDNN_ATTR_TENSOR_UNIQUE_ID) set(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t{1});
  if (except != CUDNN_ATTR_TENSOR_DATA_TYPE) set(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, kFp32);
  if (except != CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)
    set(tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, alignment);
  if (except != CUDNN_ATTR_TENSOR_DIMENSIONS)
    cudnnBackendSetAttribute(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, kDims);
  if (except != CUDNN_ATTR_TENSOR_STRIDES)
    cudnnBackendSetAttribute(tensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, kStrides);
}

auto tensorWithout(cudnnBackendAttributeName_t name) {
  return [=] {
    const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    fill(tensor, 16, name);
    return cudnnBackendFinalize(tensor);
  };
}

auto tensorAligned(int64_t alignment) {
  return [=] {
    const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    fill(tensor, alignment);
    return cudnnBackendFinalize(tensor);
  };
}

template <class F>
auto onTensor(const F& act) {
  return [=] {
    const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    return act(tensor);
  };
}

template <class F>
auto onFinalTensor(const F& act) {
  return [=] {
    const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    fill(tensor);
    cudnnBackendFinalize(tensor);
    return act(tensor);
  };
}

/** The status of a graph that `build` describes, up to its operation graph. */
template <class F>
auto graph(const F& build) {
  return [=] {
    Builder g;
    build(g);
    g.finish();
    return g.status();
  };
}

cudnnStatus_t shortStrides() {
  const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  fill(tensor, 16, CUDNN_ATTR_TENSOR_STRIDES);
  cudnnBackendSetAttribute(tensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 3, kStrides);
  return cudnnBackendFinalize(tensor);
}

cudnnStatus_t zeroDimension() {
  const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const int64_t dims[] = {2, 8, 0, 4};
  fill(tensor, 16, CUDNN_ATTR_TENSOR_DIMENSIONS);
  cudnnBackendSetAttribute(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
  return cudnnBackendFinalize(tensor);
}

cudnnStatus_t operandNotFinal() {
  const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR),
      operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  fill(tensor);
  return setPart(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, tensor);
}

cudnnStatus_t operandOfOtherType() {
  const Handle how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
      operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_ADD);
  set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, kFp32);
  cudnnBackendFinalize(how);
  return setPart(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, how);
}

cudnnStatus_t emptyOf(cudnnBackendDescriptorType_t type) {
  const Handle handle(type);
  return cudnnBackendFinalize(handle);
}

auto convolution(Builder::Dims x, Builder::Dims w, Builder::Dims y, int64_t pad, int64_t stride) {
  return graph([=](Builder& g) {
    const auto a = g.tensor(kBf16, x), b = g.tensor(kBf16, w), c = g.tensor(kBf16, y);
    g.forward(a, b, c, pad, stride);
  });
}

auto pointwise(cudnnPointwiseMode_t mode, Builder::Dims x, Builder::Dims b, Builder::Dims y, bool hasB) {
  return graph([=](Builder& g) {
    const auto first = g.tensor(kBf16, x), second = g.tensor(kBf16, b), output = g.tensor(kBf16, y);
    g.pointwise(mode, first, hasB ? second : 0, output);
  });
}

void writtenTwice(Builder& g) {
  const auto a = g.tensor(kBf16, {2, 8, 4, 4}), b = g.tensor(kBf16, {2, 8, 4, 4}), y = g.tensor(kBf16, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_IDENTITY, a, 0, y);
  g.pointwise(CUDNN_POINTWISE_RELU_FWD, b, 0, y);
}

void virtualUnwritten(Builder& g) {
  const auto a = g.virtualTensor(kBf16, {2, 8, 4, 4}), y = g.tensor(kBf16, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_IDENTITY, a, 0, y);
}

void virtualUnread(Builder& g) {
  const auto a = g.tensor(kBf16, {2, 8, 4, 4}), y = g.virtualTensor(kBf16, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_IDENTITY, a, 0, y);
}

void circle(Builder& g) {
  const auto a = g.virtualTensor(kBf16, {2, 8, 4, 4}), b = g.virtualTensor(kBf16, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_IDENTITY, a, 0, b);
  g.pointwise(CUDNN_POINTWISE_IDENTITY, b, 0, a);
}

void sameId(Builder& g) {
  const auto a = g.tensor(kBf16, {2, 8, 4, 4}), b = g.virtualTensor(kBf16, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_IDENTITY, a, 0, b);
  g.nextId = 1;
  const auto c = g.tensor(kFp32, {2, 8, 4, 4});
  g.nextId = 3;
  const auto d = g.tensor(kFp32, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_ADD, b, c, d);
}

void anyOrder(Builder& g) {
  const auto a = g.tensor(kBf16, {2, 8, 4, 4}), b = g.virtualTensor(kBf16, {2, 8, 4, 4}),
             c = g.tensor(kBf16, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_RELU_FWD, b, 0, c);
  g.pointwise(CUDNN_POINTWISE_IDENTITY, a, 0, b);
}

cudnnStatus_t graphOfTensor() {
  const Handle tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR), operations(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  fill(tensor);
  cudnnBackendFinalize(tensor);
  return setPart(operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, tensor);
}

cudnnStatus_t heuristicsWithoutDevice() {
  Builder g;
  const auto a = g.tensor(kBf16, {2, 8, 4, 4}), y = g.tensor(kBf16, {2, 8, 4, 4});
  g.pointwise(CUDNN_POINTWISE_RELU_FWD, a, 0, y);
  const Handle heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  setPart(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, *g.finish());
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  return cudnnBackendFinalize(heuristics);
}

cudnnStatus_t packOfTwoLengths() {
  const Handle pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  const int64_t ids[] = {1, 2};
  void* const pointer = const_cast<int64_t*>(ids);
  cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 2, ids);
  cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1, &pointer);
  return cudnnBackendFinalize(pack);
}

cudnnStatus_t badDevice() {
  const Handle device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  const std::string json = "{}";
  cudnnBackendSetAttribute(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 2, json.data());
  return cudnnBackendFinalize(device);
}

cudnnStatus_t getCount(const Handle& tensor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       int64_t requested) {
  int64_t values[8], count = 0;
  return cudnnBackendGetAttribute(tensor, name, type, requested, &count, values);
}

std::vector<RefusalCase> descriptorCases() {
  return {
      {"a null descriptor", [] { return cudnnBackendFinalize(nullptr); }, CUDNN_STATUS_BAD_PARAM_NULL_POINTER},
      {"a descriptor's pointer is null",
       [] { return cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, nullptr); },
       CUDNN_STATUS_BAD_PARAM_NULL_POINTER, kStricter},
      {"an attribute of another descriptor", onTensor([](const Handle& t) {
         return set(t, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_ADD);
       }),
       CUDNN_STATUS_BAD_PARAM},
      {"an attribute of another type",
       onTensor([](const Handle& t) { return set(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_DOUBLE, 1.0); }),
       CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE},
      {"no values", onTensor([](const Handle& t) {
         return cudnnBackendSetAttribute(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 0, kDims);
       }),
       CUDNN_STATUS_BAD_PARAM},
      {"two values of one", onTensor([](const Handle& t) {
         return cudnnBackendSetAttribute(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 2, kDims);
       }),
       CUDNN_STATUS_BAD_PARAM},
      {"values null", onTensor([](const Handle& t) {
         return cudnnBackendSetAttribute(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, nullptr);
       }),
       CUDNN_STATUS_BAD_PARAM},
      {"an attribute set after finalizing",
       onFinalTensor([](const Handle& t) { return set(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t{2}); }),
       CUDNN_STATUS_BAD_PARAM},
      {"finalized twice", onFinalTensor([](const Handle& t) { return cudnnBackendFinalize(t); }),
       CUDNN_STATUS_BAD_PARAM},
      {"read before finalizing",
       onTensor([](const Handle& t) { return getCount(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1); }),
       CUDNN_STATUS_NOT_INITIALIZED},
      {"read as another type",
       onFinalTensor([](const Handle& t) { return getCount(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_DOUBLE, 1); }),
       CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE},
      {"an unknown attribute read", onFinalTensor([](const Handle& t) {
         return getCount(t, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1);
       }),
       CUDNN_STATUS_BAD_PARAM},
      {"fewer read than there are",
       onFinalTensor([](const Handle& t) { return getCount(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 2); }),
       CUDNN_STATUS_SUCCESS},
      {"an operand not finalized", operandNotFinal, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, kStricter},
      {"an operand of another type", operandOfOtherType, CUDNN_STATUS_BAD_PARAM, kStricter},
      {"a tensor without id", tensorWithout(CUDNN_ATTR_TENSOR_UNIQUE_ID), CUDNN_STATUS_BAD_PARAM, kStricter},
      {"a tensor without type", tensorWithout(CUDNN_ATTR_TENSOR_DATA_TYPE), CUDNN_STATUS_BAD_PARAM, kStricter},
      {"a tensor without alignment", tensorWithout(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT), CUDNN_STATUS_BAD_PARAM},
      {"a tensor without dimensions", tensorWithout(CUDNN_ATTR_TENSOR_DIMENSIONS), CUDNN_STATUS_BAD_PARAM},
      {"a tensor without strides", tensorWithout(CUDNN_ATTR_TENSOR_STRIDES), CUDNN_STATUS_BAD_PARAM},
      {"alignment 0", tensorAligned(0), CUDNN_STATUS_BAD_PARAM},
      {"alignment 3", tensorAligned(3), CUDNN_STATUS_BAD_PARAM},
      {"alignment 2 of fp32", tensorAligned(2), CUDNN_STATUS_BAD_PARAM},
      {"alignment 12", tensorAligned(12), CUDNN_STATUS_BAD_PARAM, kStricter},
      {"three strides of four", shortStrides, CUDNN_STATUS_BAD_PARAM},
      {"a dimension of 0", zeroDimension, CUDNN_STATUS_BAD_PARAM, kStricter},
  };
}

std::vector<RefusalCase> graphOnes() {
  using Dims = Builder::Dims;
  const Dims x{2, 8, 5, 5}, w{16, 8, 3, 3}, y{2, 16, 5, 5}, one{1, 8, 1, 1};
  return {
      {"an empty convolution", [] { return emptyOf(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR); }, CUDNN_STATUS_BAD_PARAM},
      {"an empty convolution operation", [] { return emptyOf(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR); },
       CUDNN_STATUS_BAD_PARAM},
      {"an empty pointwise operation", [] { return emptyOf(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR); },
       CUDNN_STATUS_BAD_PARAM, kStricter},
      {"an empty reduction", [] { return emptyOf(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR); },
       CUDNN_STATUS_BAD_PARAM, kStricter},
      {"empty statistics", [] { return emptyOf(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR); }, CUDNN_STATUS_BAD_PARAM,
       kStricter},
      {"an empty operation graph", [] { return emptyOf(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR); },
       CUDNN_STATUS_BAD_PARAM},
      {"empty heuristics", [] { return emptyOf(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR); }, CUDNN_STATUS_BAD_PARAM},
      {"an empty engine", [] { return emptyOf(CUDNN_BACKEND_ENGINE_DESCRIPTOR); }, CUDNN_STATUS_BAD_PARAM_NULL_POINTER},
      {"an empty configuration", [] { return emptyOf(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR); }, CUDNN_STATUS_BAD_PARAM,
       kStricter},
      {"a pack of two lengths", packOfTwoLengths, CUDNN_STATUS_BAD_PARAM},
      {"a device of nothing", badDevice, CUDNN_STATUS_BAD_PARAM},
      {"a convolution that fits", convolution(x, w, y, 1, 1), CUDNN_STATUS_SUCCESS},
      {"a convolution's batch", convolution(x, w, {3, 16, 5, 5}, 1, 1), CUDNN_STATUS_BAD_PARAM},
      {"a convolution's input channels", convolution(x, {16, 6, 3, 3}, y, 1, 1), CUDNN_STATUS_BAD_PARAM},
      {"a convolution's output channels", convolution(x, w, {2, 8, 5, 5}, 1, 1), CUDNN_STATUS_BAD_PARAM},
      {"a convolution's output size", convolution(x, w, {2, 16, 4, 5}, 1, 1), CUDNN_STATUS_BAD_PARAM},
      {"a convolution's stride 0", convolution(x, w, y, 1, 0), CUDNN_STATUS_BAD_PARAM},
      {"a convolution's padding -1", convolution(x, w, {2, 16, 1, 1}, -1, 1), CUDNN_STATUS_BAD_PARAM},
      {"a broadcast operand", pointwise(CUDNN_POINTWISE_ADD, x, one, x, true), CUDNN_STATUS_SUCCESS},
      {"an operand that does not fit", pointwise(CUDNN_POINTWISE_ADD, x, {1, 4, 1, 1}, x, true), CUDNN_STATUS_BAD_PARAM,
       kStricter},
      {"an output that does not fit", pointwise(CUDNN_POINTWISE_ADD, x, x, y, true), CUDNN_STATUS_BAD_PARAM, kStricter},
      {"an output larger than its operands", pointwise(CUDNN_POINTWISE_ADD, one, one, x, true), CUDNN_STATUS_BAD_PARAM,
       kStricter},
      {"a sum of one", pointwise(CUDNN_POINTWISE_ADD, x, x, x, false), CUDNN_STATUS_BAD_PARAM},
      {"an identity of two", pointwise(CUDNN_POINTWISE_IDENTITY, x, x, x, true), CUDNN_STATUS_BAD_PARAM, kStricter},
      {"a reduction that does not fit", graph([=](Builder& g) {
         const auto a = g.tensor(kBf16, x);
         g.sum(a, g.channels(4));
       }),
       CUDNN_STATUS_BAD_PARAM, kStricter},
      {"statistics that do not fit", graph([=](Builder& g) {
         const auto a = g.tensor(kBf16, x), s = g.channels(8);
         g.statistics(a, s, g.channels(4));
       }),
       CUDNN_STATUS_BAD_PARAM, kStricter},
      {"a graph of a tensor", graphOfTensor, CUDNN_STATUS_BAD_PARAM, kStricter},
      {"a tensor written twice", graph(writtenTwice), CUDNN_STATUS_BAD_PARAM},
      {"a virtual tensor that nothing writes", graph(virtualUnwritten), CUDNN_STATUS_BAD_PARAM, kStricter},
      {"a virtual tensor that nothing reads", graph(virtualUnread), CUDNN_STATUS_SUCCESS},
      {"a circle", graph(circle), CUDNN_STATUS_BAD_PARAM},
      {"two tensors with one id", graph(sameId), CUDNN_STATUS_BAD_PARAM, kStricter},
      {"operations in any order", graph(anyOrder), CUDNN_STATUS_SUCCESS},
      {"heuristics without device", heuristicsWithoutDevice, CUDNN_STATUS_BAD_PARAM, kStricter},
  };
}

}  // namespace

const std::vector<RefusalCase>& refusalCases() {
  static const std::vector<RefusalCase> cases = [] {
    std::vector<RefusalCase> all = descriptorCases();
    for (const RefusalCase& each : graphOnes()) all.push_back(each);
    return all;
  }();
  return cases;
}

}  // namespace comface::cuda::emulation
