// cuDNN's backend descriptors: many attributes, all checked. An operation graph is rebuilt for each plan; plans keep
// what they need themselves.
#include "cuda/fusion.h"

#include <cstring>

#include "cuda/runtime.h"

namespace comface::cuda {
void expect(cudnnStatus_t status, const std::string& what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char reason[512] = "";
  libraries().cudnnGetLastErrorString(reason, sizeof reason);
  const Code code = status == CUDNN_STATUS_ALLOC_FAILED ? Code::outOfMemory : Code::deviceFailed;
  throw Error(code, "cuDNN: " + what + ": " + libraries().cudnnGetErrorString(status) + " " + reason);
}

namespace {

cudnnDataType_t dataType(Number number) {
  return number == Number::fp32 ? CUDNN_DATA_FLOAT : number == Number::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
}

const char* nameOf(Number number) { return number == Number::fp32 ? "fp32" : number == Number::bf16 ? "bf16" : "fp16"; }

/** The value of a number in JSON text: all that is read of a device's description. */
int64_t numberIn(const std::string& json, const char* name) {
  const size_t at = json.find("\"" + std::string(name) + "\":");
  return at == std::string::npos ? 0 : std::atoll(json.c_str() + at + std::strlen(name) + 3);
}

std::string nameIn(const std::string& json) {
  const size_t at = json.find("\"deviceName\":\"");
  if (at == std::string::npos) return "a device of version " + std::to_string(numberIn(json, "deviceVer"));
  const size_t start = at + std::strlen("\"deviceName\":\"");
  return json.substr(start, json.find('"', start) - start);
}

std::string withVersion(const std::string& device) {
  return device + ", cuDNN " + std::to_string(libraries().cudnnGetVersion());
}

}  // namespace

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  expect(libraries().cudnnBackendCreateDescriptor(type, &handle_), "a descriptor of kind " + std::to_string(type));
}
Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}
Descriptor::~Descriptor() {
  if (handle_) libraries().cudnnBackendDestroyDescriptor(handle_);
}
void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                     const void* values) {
  expect(libraries().cudnnBackendSetAttribute(handle_, name, type, count, values), "attribute " + std::to_string(name));
}
void Descriptor::set(cudnnBackendAttributeName_t name, const Descriptor& other) {
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other.handle_);
}
void Descriptor::set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
void Descriptor::setFloat(cudnnBackendAttributeName_t name, float value) { set(name, CUDNN_TYPE_FLOAT, 1, &value); }
void Descriptor::finalize(const char* what) { expect(libraries().cudnnBackendFinalize(handle_), what); }

Target::Target() : properties_(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) {
  expect(libraries().cudnnCreate(&handle_), "a handle");
  try {
    properties_.set(CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle_);
    properties_.finalize("the device's properties");
    int device = 0;
    cudaDeviceProp known{};
    check(cudaGetDevice(&device), "the current device");
    check(cudaGetDeviceProperties(&known, device), "the device's properties");
    capability_ = 10 * known.major + known.minor;
    name_ = withVersion(known.name);
  } catch (...) {
    libraries().cudnnDestroy(handle_);
    throw;
  }
}

Target::Target(const std::string& deviceJson) : properties_(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) {
  properties_.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<int64_t>(deviceJson.size()),
                  deviceJson.data());
  properties_.finalize("the described device");
  capability_ = static_cast<int>(numberIn(deviceJson, "deviceVer") / 10);
  name_ = withVersion(nameIn(deviceJson));
}

Target::~Target() {
  if (handle_) libraries().cudnnDestroy(handle_);
}

Descriptor& Operations::keep(Descriptor descriptor) { return parts_.emplace_back(std::move(descriptor)); }

TensorId Operations::tensor(Number number, std::array<int64_t, 4> dims, std::array<int64_t, 4> strides,
                            bool isVirtual) {
  Descriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const cudnnDataType_t type = dataType(number);
  t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
  t.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
  t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, static_cast<int64_t>(tensors_.size()) + 1);
  t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16});
  if (isVirtual) t.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &isVirtual);
  t.finalize("a tensor");
  tensors_.push_back(std::move(t));
  isExact_ = isExact_ && number == Number::fp32;
  key_ += isVirtual ? " v" : " t";
  for (const int64_t d : dims) key_ += std::to_string(d) + 'x';
  key_ += nameOf(number);
  return static_cast<TensorId>(tensors_.size());
}

TensorId Operations::image(Number number, int n, int c, int h, int w, bool isVirtual) {
  const int64_t row = int64_t{w} * c;
  return tensor(number, {n, c, h, w}, {h * row, 1, row, c}, isVirtual);
}
TensorId Operations::filter(Number number, int k, int c, int size, bool isVirtual) {
  return image(number, k, c, size, size, isVirtual);  // K x R x S x C is laid out as N x H x W x C
}
TensorId Operations::channels(int c) { return image(Number::fp32, 1, c, 1, 1); }

void Operations::convolution(int direction, TensorId x, TensorId filter, TensorId y, int pad, int stride) {
  struct Names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, filter, y, convolution, alpha, beta;
  };
  static constexpr Names kNames[3] = {
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
  };
  const int64_t pads[2] = {pad, pad}, strides[2] = {stride, stride}, dilations[2] = {1, 1};
  const cudnnDataType_t type = CUDNN_DATA_FLOAT;
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  Descriptor c(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  c.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  c.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  c.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
  c.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  c.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  c.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
  c.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
  c.finalize("a convolution");
  const Names& names = kNames[direction];
  Descriptor o(names.type);
  o.set(names.x, at(x)), o.set(names.filter, at(filter)), o.set(names.y, at(y));
  o.set(names.convolution, keep(std::move(c)));
  o.setFloat(names.alpha, 1), o.setFloat(names.beta, 0);
  o.finalize("a convolution's operation");
  operations_.push_back(std::move(o));
  note("conv" + std::to_string(direction), {x, filter, y});
  key_ += "/p" + std::to_string(pad) + "s" + std::to_string(stride);
}

void Operations::convolve(TensorId x, TensorId filter, TensorId y, int pad, int stride) {
  convolution(0, x, filter, y, pad, stride);
}
void Operations::convolveBackwardData(TensorId dy, TensorId filter, TensorId dx, int pad, int stride) {
  convolution(1, dx, filter, dy, pad, stride);
}
void Operations::convolveBackwardFilter(TensorId x, TensorId dy, TensorId dFilter, int pad, int stride) {
  convolution(2, x, dFilter, dy, pad, stride);
}

void Operations::note(const std::string& operation, std::initializer_list<TensorId> tensors) {
  key_ += " " + operation;
  for (const TensorId id : tensors) key_ += "," + std::to_string(id);
}

void Operations::pointwise(cudnnPointwiseMode_t mode, TensorId x, TensorId b, TensorId y) {
  const cudnnDataType_t type = CUDNN_DATA_FLOAT;
  Descriptor p(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  p.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  p.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
  p.finalize("a pointwise mode");
  Descriptor o(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  o.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, keep(std::move(p)));
  if (mode == CUDNN_POINTWISE_RELU_BWD) {
    o.set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, at(x)), o.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(b));
    o.set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, at(y));
  } else {
    o.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(x));
    if (b > 0) o.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(b));
    o.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(y));
  }
  o.finalize("a pointwise operation");
  operations_.push_back(std::move(o));
  note("pointwise" + std::to_string(mode), {x, b, y});
}

void Operations::identity(TensorId x, TensorId y) { pointwise(CUDNN_POINTWISE_IDENTITY, x, 0, y); }
void Operations::multiply(TensorId a, TensorId b, TensorId y) { pointwise(CUDNN_POINTWISE_MUL, a, b, y); }
void Operations::add(TensorId a, TensorId b, TensorId y) { pointwise(CUDNN_POINTWISE_ADD, a, b, y); }
void Operations::reluBackward(TensorId dy, TensorId y, TensorId dx) { pointwise(CUDNN_POINTWISE_RELU_BWD, dy, y, dx); }

void Operations::sum(TensorId x, TensorId sums) {
  const cudnnDataType_t type = CUDNN_DATA_FLOAT;
  const cudnnReduceTensorOp_t op = CUDNN_REDUCE_TENSOR_ADD;
  Descriptor r(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  r.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &op);
  r.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
#if CUDNN_VERSION >= 91100
  if (isRepeatable_ && libraries().cudnnGetVersion() >= 91100)
    r.set(CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC, CUDNN_TYPE_BOOLEAN, 1, &isRepeatable_);
#endif
  r.finalize("a reduction");
  Descriptor o(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  o.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, keep(std::move(r)));
  o.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, at(x)), o.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, at(sums));
  o.finalize("a reduction's operation");
  operations_.push_back(std::move(o));
  hasSums_ = true;
  note(isRepeatable_ ? "sum" : "sum*", {x, sums});
}

void Operations::sumAndSquares(TensorId x, TensorId sums, TensorId squares) {
  const cudnnDataType_t type = CUDNN_DATA_FLOAT;
  const cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
  Descriptor o(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
  o.set(CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode);
  o.set(CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
  o.set(CUDNN_ATTR_OPERATION_GENSTATS_XDESC, at(x));
  o.set(CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, at(sums)), o.set(CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, at(squares));
  o.finalize("statistics");
  operations_.push_back(std::move(o));
  hasSums_ = true;
  note(isRepeatable_ ? "statistics" : "statistics*", {x, sums, squares});
}

}  // namespace comface::cuda
