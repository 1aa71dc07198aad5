// One table says which attributes each descriptor has. What cuDNN has and our graphs do not use is refused as not
// supported.
#include "doubles/descriptor.h"

#include <algorithm>

namespace comface::cuda::emulation {
namespace {

enum class Presence { needed, optional, readOnly };

struct Rule {
  cudnnBackendDescriptorType_t descriptor;
  cudnnBackendAttributeName_t name;
  const char* text;
  cudnnBackendAttributeType_t type;
  int64_t most;
  Presence presence;
  cudnnBackendDescriptorType_t operand;  // where the value is a descriptor; operations are of many types
};

constexpr int64_t kAny = 1 << 20;
constexpr Presence needed = Presence::needed, optional = Presence::optional, readOnly = Presence::readOnly;

#define RULE(descriptor, name, type, most, presence)                                                          \
  {                                                                                                           \
    CUDNN_BACKEND_##descriptor##_DESCRIPTOR, CUDNN_ATTR_##name, "CUDNN_ATTR_" #name, CUDNN_TYPE_##type, most, \
        presence, CUDNN_BACKEND_TENSOR_DESCRIPTOR                                                             \
  }
#define DESCRIPTORS(descriptor, name, operand, most, presence)                                                      \
  {                                                                                                                 \
    CUDNN_BACKEND_##descriptor##_DESCRIPTOR, CUDNN_ATTR_##name, "CUDNN_ATTR_" #name, CUDNN_TYPE_BACKEND_DESCRIPTOR, \
        most, presence, CUDNN_BACKEND_##operand##_DESCRIPTOR                                                        \
  }
#define PART(descriptor, name, operand, presence) DESCRIPTORS(descriptor, name, operand, 1, presence)
#define PARTS(descriptor, name, operand, presence) DESCRIPTORS(descriptor, name, operand, kAny, presence)

constexpr Rule kRules[] = {
    RULE(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, needed),
    RULE(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, needed),
    RULE(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, needed),
    RULE(TENSOR, TENSOR_DIMENSIONS, INT64, 8, needed),
    RULE(TENSOR, TENSOR_STRIDES, INT64, 8, needed),
    RULE(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, optional),
    RULE(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN, 1, optional),

    RULE(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, needed),
    RULE(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, needed),
    RULE(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 8, needed),
    RULE(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 8, needed),
    RULE(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 8, needed),
    RULE(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 8, needed),
    RULE(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, needed),

    PART(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_X, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_W, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_Y, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CONVOLUTION, needed),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_ALPHA, FLOAT, 1, needed),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_BETA, FLOAT, 1, needed),

    PART(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_DY, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_W, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_DX, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CONVOLUTION, needed),
    RULE(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_ALPHA, FLOAT, 1, needed),
    RULE(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_BETA, FLOAT, 1, needed),

    PART(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_X, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_DY, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_DW, TENSOR, needed),
    PART(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CONVOLUTION, needed),
    RULE(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, FLOAT, 1, needed),
    RULE(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_BETA, FLOAT, 1, needed),

    RULE(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, needed),
    RULE(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, needed),

    PART(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, POINTWISE, needed),
    PART(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, TENSOR, optional),
    PART(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, TENSOR, optional),
    PART(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, TENSOR, optional),
    PART(OPERATION_POINTWISE, OPERATION_POINTWISE_DXDESC, TENSOR, optional),
    PART(OPERATION_POINTWISE, OPERATION_POINTWISE_DYDESC, TENSOR, optional),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA1, FLOAT, 1, optional),
    RULE(OPERATION_POINTWISE, OPERATION_POINTWISE_ALPHA2, FLOAT, 1, optional),

    RULE(REDUCTION, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, 1, needed),
    RULE(REDUCTION, REDUCTION_COMP_TYPE, DATA_TYPE, 1, needed),
    RULE(REDUCTION, REDUCTION_IS_DETERMINISTIC, BOOLEAN, 1, optional),

    PART(OPERATION_REDUCTION, OPERATION_REDUCTION_DESC, REDUCTION, needed),
    PART(OPERATION_REDUCTION, OPERATION_REDUCTION_XDESC, TENSOR, needed),
    PART(OPERATION_REDUCTION, OPERATION_REDUCTION_YDESC, TENSOR, needed),

    RULE(OPERATION_GEN_STATS, OPERATION_GENSTATS_MODE, GENSTATS_MODE, 1, needed),
    RULE(OPERATION_GEN_STATS, OPERATION_GENSTATS_MATH_PREC, DATA_TYPE, 1, needed),
    PART(OPERATION_GEN_STATS, OPERATION_GENSTATS_XDESC, TENSOR, needed),
    PART(OPERATION_GEN_STATS, OPERATION_GENSTATS_SUMDESC, TENSOR, needed),
    PART(OPERATION_GEN_STATS, OPERATION_GENSTATS_SQSUMDESC, TENSOR, needed),

    RULE(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, kAny, needed),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, optional),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, INT64, 1, readOnly),

    RULE(DEVICEPROP, DEVICEPROP_DEVICE_ID, INT64, 1, optional),
    RULE(DEVICEPROP, DEVICEPROP_HANDLE, HANDLE, 1, optional),
    RULE(DEVICEPROP, DEVICEPROP_JSON_REPRESENTATION, CHAR, kAny, optional),

    PART(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, OPERATIONGRAPH, needed),
    RULE(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, needed),
    PART(ENGINEHEUR, ENGINEHEUR_DEVICEPROP, DEVICEPROP, optional),
    RULE(ENGINEHEUR, ENGINEHEUR_SM_COUNT_TARGET, INT32, 1, optional),
    RULE(ENGINEHEUR, ENGINEHEUR_RESULTS, BACKEND_DESCRIPTOR, kAny, readOnly),

    PART(ENGINE, ENGINE_OPERATION_GRAPH, OPERATIONGRAPH, needed),
    RULE(ENGINE, ENGINE_GLOBAL_INDEX, INT64, 1, needed),
    PART(ENGINE, ENGINE_DEVICEPROP, DEVICEPROP, optional),
    RULE(ENGINE, ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE, kAny, readOnly),
    RULE(ENGINE, ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE, kAny, readOnly),

    PART(ENGINECFG, ENGINECFG_ENGINE, ENGINE, needed),
    PARTS(ENGINECFG, ENGINECFG_KNOB_CHOICES, KNOB_CHOICE, optional),
    RULE(ENGINECFG, ENGINECFG_WORKSPACE_SIZE, INT64, 1, readOnly),

    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE, 1, needed),
    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64, 1, needed),

    RULE(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, optional),
    PART(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, ENGINECFG, needed),
    PART(EXECUTION_PLAN, EXECUTION_PLAN_DEVICEPROP, DEVICEPROP, optional),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, INT64, 1, readOnly),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_JSON_REPRESENTATION, CHAR, kAny, readOnly),

    RULE(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, kAny, needed),
    RULE(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, kAny, needed),
    RULE(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, optional),
};
#undef PARTS
#undef PART
#undef DESCRIPTORS
#undef RULE

size_t sizeOfOne(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    case CUDNN_TYPE_CHAR:
    case CUDNN_TYPE_BOOLEAN:
      return 1;
    default:
      return 4;  // enumerations, float, int32
  }
}

const Rule& ruleOf(const Body& body, cudnnBackendAttributeName_t name) {
  for (const Rule& rule : kRules)
    if (rule.descriptor == body.type && rule.name == name) return rule;
  throw Refusal{CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " is not one of descriptor " +
                                            std::to_string(body.type) + ", or not one that the double knows"};
}

void requireType(const Rule& rule, cudnnBackendAttributeType_t type) {
  const bool isReal = rule.type == CUDNN_TYPE_FLOAT && type == CUDNN_TYPE_DOUBLE;
  if (type != rule.type && !isReal)
    throw Refusal{CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
                  std::string(rule.text) + " is not of type " + std::to_string(type)};
}

std::vector<std::shared_ptr<const Body>> operandsOf(const Rule& rule, int64_t count, const void* values) {
  std::vector<std::shared_ptr<const Body>> parts;
  for (int64_t i = 0; i < count; ++i) {
    const auto* part = static_cast<Descriptor* const*>(values)[i];
    if (!part) throw Refusal{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, std::string(rule.text) + " is null"};
    if (!part->body->isFinalized)
      throw Refusal{CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, std::string(rule.text) + " is not finalized"};
    const bool isOperation = part->body->graph && part->body->type != CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR;
    if (rule.name == CUDNN_ATTR_OPERATIONGRAPH_OPS ? !isOperation : part->body->type != rule.operand)
      throw Refusal{CUDNN_STATUS_BAD_PARAM, std::string(rule.text) + " is a descriptor of another type"};
    parts.push_back(part->body);
  }
  return parts;
}

}  // namespace

bool isKnown(cudnnBackendDescriptorType_t type) {
  return std::any_of(std::begin(kRules), std::end(kRules), [&](const Rule& rule) { return rule.descriptor == type; });
}

void setAttribute(Body& body, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                  const void* values) {
  if (body.isFinalized) throw Refusal{CUDNN_STATUS_BAD_PARAM, "the descriptor is finalized already"};
  const Rule& rule = ruleOf(body, name);
  if (rule.presence == readOnly) throw Refusal{CUDNN_STATUS_BAD_PARAM, std::string(rule.text) + " cannot be set"};
  requireType(rule, type);
  if (!values) throw Refusal{CUDNN_STATUS_BAD_PARAM, std::string(rule.text) + " without values"};
  if (count < 1 || count > rule.most)
    throw Refusal{CUDNN_STATUS_BAD_PARAM, std::string(rule.text) + " cannot have " + std::to_string(count) + " values"};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    body.put(name, operandsOf(rule, count, values));
    return;
  }
  body.values[name] = {type, count, std::string(static_cast<const char*>(values), count * sizeOfOne(type)), {}};
}

void getAttribute(const Body& body, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  int64_t requested, int64_t* count, void* values) {
  if (!body.isFinalized) throw Refusal{CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is not finalized"};
  const Rule& rule = ruleOf(body, name);
  requireType(rule, type);
  const auto found = body.values.find(name);
  const Value none{rule.type, 0, {}, {}};
  const Value& value = found == body.values.end() ? none : found->second;
  if (count) *count = value.count;
  if (requested <= 0 || !values) return;
  const int64_t given = std::min(requested, value.count);
  if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    std::memcpy(values, value.bytes.data(), given * sizeOfOne(type));
    return;
  }
  for (int64_t i = 0; i < given; ++i) {
    auto* into = static_cast<Descriptor* const*>(values)[i];
    if (!into) throw Refusal{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, std::string(rule.text) + ": a descriptor is null"};
    if (into->body->type != value.parts[i]->type)
      throw Refusal{CUDNN_STATUS_BAD_PARAM, std::string(rule.text) + ": a descriptor of another type"};
    *into->body = *value.parts[i];
  }
  if (count) *count = given;
}

void checkComplete(const Body& body) {
  const bool isEngine = body.type == CUDNN_BACKEND_ENGINE_DESCRIPTOR;
  for (const Rule& rule : kRules)
    if (rule.descriptor == body.type && rule.presence == needed && !body.has(rule.name))
      throw Refusal{isEngine ? CUDNN_STATUS_BAD_PARAM_NULL_POINTER : CUDNN_STATUS_BAD_PARAM,
                    std::string(rule.text) + " is not set"};
}

}  // namespace comface::cuda::emulation
