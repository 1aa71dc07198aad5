// See builder.h.
#include "checks/builder.h"

#include <algorithm>

namespace comface::cuda::emulation {

std::string deviceJson(int capability) {
  const bool isHopper = capability >= 90;
  const auto pick = [&](const char* hopper, const char* ampere) { return std::string(isHopper ? hopper : ampere); };
  return R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":)" +
         pick("132", "108") +
         R"(,"smCountOrigin":0,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":)" +
         pick("232448", "166912") +
         R"(,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,)"
         R"("pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"totalGlobalMem":)" +
         pick("150000000000", "85000000000") + R"(,"smClockRateKHz":)" + pick("1980000", "1410000") +
         R"(,"memClockRateKHz":)" + pick("3201000", "1593000") + R"(,"l2CacheSize":)" + pick("62914560", "41943040") +
         R"(,"cudaDeviceId":0,"deviceVer":)" + pick("900", "800") + R"(,"driverVer":13000,"deviceName":")" +
         pick("NVIDIA H200", "NVIDIA A100-SXM4-80GB") + "\"}";
}

void Builder::check(cudnnStatus_t status, const std::string& where) {
  if (status == CUDNN_STATUS_SUCCESS || answer_.status != CUDNN_STATUS_SUCCESS) return;
  char text[512] = "";
  cudnnGetLastErrorString(text, sizeof text);
  answer_.status = status;
  answer_.where = where;
  answer_.text = text;
}

void Builder::set(const Handle& handle, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  int64_t count, const void* values) {
  if (answer_.status == CUDNN_STATUS_SUCCESS)
    check(cudnnBackendSetAttribute(handle, name, type, count, values), "attribute " + std::to_string(name));
}

void Builder::set(const Handle& handle, cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t part) {
  set(handle, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

void Builder::finalize(const Handle& handle, const char* what) {
  if (answer_.status == CUDNN_STATUS_SUCCESS) check(cudnnBackendFinalize(handle), what);
}

Builder::Id Builder::tensor(cudnnDataType_t type, Dims dims, bool isVirtual) {
  const auto [n, c, h, w] = dims;
  const Dims last{c * h * w, 1, c * w, c}, first{c * h * w, h * w, w, 1};
  const Id id = nextId++;
  Handle& handle = keep(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  set(handle, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
  set(handle, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  set(handle, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
  set(handle, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, (isChannelsLast ? last : first).data());
  set(handle, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
  set(handle, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &isVirtual);
  finalize(handle, "tensor");
  tensors_[id] = &handle;
  return id;
}

Handle& Builder::geometry(int64_t pad, int64_t stride, int64_t dilation) {
  Handle& handle = keep(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnDataType_t fp32 = CUDNN_DATA_FLOAT;
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  const int64_t two = 2, pads[] = {pad, pad}, strides[] = {stride, stride}, dilations[] = {dilation, dilation};
  set(handle, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &fp32);
  set(handle, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  set(handle, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
  set(handle, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  set(handle, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  set(handle, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
  set(handle, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
  finalize(handle, "convolution");
  return handle;
}

void Builder::convolve(cudnnBackendDescriptorType_t type, const std::array<cudnnBackendAttributeName_t, 6>& names,
                       std::array<Id, 3> ids, const Handle& geometry) {
  Handle& handle = keep(type);
  for (int i = 0; i < 3; ++i) set(handle, names[i], at(ids[i]));
  set(handle, names[3], geometry);
  set(handle, names[4], CUDNN_TYPE_FLOAT, 1, &alpha);
  set(handle, names[5], CUDNN_TYPE_FLOAT, 1, &beta);
  finalize(handle, "convolution operation");
  operations_.push_back(handle);
}

void Builder::forward(Id x, Id w, Id y, int64_t pad, int64_t stride, int64_t dilation) {
  convolve(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
           {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
           {x, w, y}, geometry(pad, stride, dilation));
}

void Builder::backwardData(Id dy, Id w, Id dx, int64_t pad, int64_t stride, int64_t dilation) {
  convolve(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
           {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
           {dy, w, dx}, geometry(pad, stride, dilation));
}

void Builder::backwardFilter(Id x, Id dy, Id dw, int64_t pad, int64_t stride, int64_t dilation) {
  convolve(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
           {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
           {x, dy, dw}, geometry(pad, stride, dilation));
}

void Builder::pointwise(cudnnPointwiseMode_t mode, Id x, Id b, Id y) {
  const cudnnDataType_t fp32 = CUDNN_DATA_FLOAT;
  const bool isBackward = mode == CUDNN_POINTWISE_RELU_BWD;
  Handle& how = keep(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &fp32);
  finalize(how, "pointwise");
  Handle& handle = keep(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  set(handle, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  set(handle, isBackward ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC : CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(x));
  if (b) set(handle, isBackward ? CUDNN_ATTR_OPERATION_POINTWISE_XDESC : CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(b));
  set(handle, isBackward ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(y));
  finalize(handle, "pointwise operation");
  operations_.push_back(handle);
}

void Builder::sum(Id x, Id y) {
  const cudnnDataType_t fp32 = CUDNN_DATA_FLOAT;
  const cudnnReduceTensorOp_t add = CUDNN_REDUCE_TENSOR_ADD;
  Handle& how = keep(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  set(how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &add);
  set(how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &fp32);
  finalize(how, "reduction");
  Handle& handle = keep(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  set(handle, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
  set(handle, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, at(x));
  set(handle, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, at(y));
  finalize(handle, "reduction operation");
  operations_.push_back(handle);
}

void Builder::statistics(Id x, Id sum, Id squares) {
  const cudnnDataType_t fp32 = CUDNN_DATA_FLOAT;
  const cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
  Handle& handle = keep(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
  set(handle, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode);
  set(handle, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &fp32);
  set(handle, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, at(x));
  set(handle, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, at(sum));
  set(handle, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, at(squares));
  finalize(handle, "statistics operation");
  operations_.push_back(handle);
}

Handle* Builder::finish() {
  Handle& graph = keep(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(operations_.size()),
      operations_.data());
  if (handle) set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  finalize(graph, "operation graph");
  return answer_.status == CUDNN_STATUS_SUCCESS ? &graph : nullptr;
}

namespace {

/** "90", "80" or "?", and 'T' for tensor cores; empty if the plan does not finalize. */
std::string familyOf(cudnnBackendDescriptor_t configuration, cudnnBackendDescriptor_t device) {
  const Handle plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t engineDescriptor = engine;
  cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                           &configuration);
  cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &device);
  if (cudnnBackendFinalize(plan) != CUDNN_STATUS_SUCCESS) return "";
  int64_t count = 0;
  cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &count, nullptr);
  std::string json(static_cast<size_t>(count), ' ');
  cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, count, &count,
                           json.data());
  cudnnBackendNumericalNote_t notes[16] = {};
  int64_t noted = 0;
  cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                           &engineDescriptor);
  cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 16, &noted, notes);
  std::string family = json.find("sm90") != std::string::npos   ? "90"
                       : json.find("sm80") != std::string::npos ? "80"
                                                                : "?";
  for (int64_t i = 0; i < noted; ++i)
    if (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE) family += "T";
  return family;
}

/** Neither empty nor a refusal's number. */
bool hasPlan(const std::string& families) { return !families.empty() && families[0] != '!'; }

}  // namespace

std::string Builder::planMode(const Handle& graph, const Handle& device, cudnnBackendHeurMode_t mode, int most) {
  const Handle heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  const cudnnStatus_t status = cudnnBackendFinalize(heuristics);
  if (status != CUDNN_STATUS_SUCCESS) std::string("!").append(std::to_string(status));
  int64_t count = 0;
  cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                           nullptr);
  count = std::min<int64_t>(count, most);
  std::deque<Handle> results;
  std::vector<cudnnBackendDescriptor_t> descriptors;
  for (int64_t i = 0; i < count; ++i) descriptors.push_back(results.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
  cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                           descriptors.data());
  descriptors.resize(count);  // cuDNN may answer with fewer than it announces
  std::string families;
  for (const cudnnBackendDescriptor_t each : descriptors) {
    const std::string family = familyOf(each, device);
    if (!family.empty()) families += (families.empty() ? "" : " ") + family;
  }
  return families;
}

Answer Builder::plan(int capability, int most) {
  const Handle device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  const std::string json = deviceJson(capability);
  set(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<int64_t>(json.size()),
      json.data());
  finalize(device, "device");
  const Handle* const graph = finish();
  if (!graph) return answer_;
  answer_.best = planMode(*graph, device, CUDNN_HEUR_MODE_A, most);
  if (!hasPlan(answer_.best)) answer_.fallback = planMode(*graph, device, CUDNN_HEUR_MODE_FALLBACK, most);
  return answer_;
}

}  // namespace comface::cuda::emulation
