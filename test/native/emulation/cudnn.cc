// A cuDNN 9 for tests where there is no GPU: the backend (graph) API with the real ABI and the real library's refusals,
// computing by plain loops on the CPU (doubles/). COMFACE_EMULATION_REFUSE makes it refuse more: `fused` graphs of
// several operations, `all` graphs, of each graph the plan of the `first` configuration that the heuristics offer, and
// to be recorded in a `capture`; several words with commas between them. A handle plans on one living thread only.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "doubles/descriptor.h"
#include "doubles/engines.h"
#include "doubles/loops.h"
#include "emulation.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

struct cudnnContext {
  cudaStream_t stream = nullptr;
  std::weak_ptr<const char> planner;  // of the thread that finalizes for it, while that thread lives
};

namespace comface::cuda::emulation {
namespace {

thread_local std::string lastError;
/** Ends with its thread: an id of std::thread may come again, or not, in the next one. */
thread_local const auto thisThread = std::make_shared<const char>();

template <class F>
cudnnStatus_t answer(const F& body) {
  try {
    body();
    return CUDNN_STATUS_SUCCESS;
  } catch (const Refusal& refusal) {
    lastError = refusal.text;
    return refusal.status;
  }
}

template <class T>
T& given(T* pointer, const char* what) {
  if (!pointer) throw Refusal{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, std::string(what) + " is null"};
  return *pointer;
}

Body& bodyOf(cudnnBackendDescriptor_t descriptor) {
  return *given(static_cast<Descriptor*>(descriptor), "the descriptor").body;
}

/** Of the current device, times ten. */
int currentCapability() {
  int device = 0, major = 0, minor = 0;
  const bool isFine = cudaGetDevice(&device) == cudaSuccess &&
                      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
                      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess;
  if (!isFine) throw Refusal{CUDNN_STATUS_NOT_INITIALIZED, "there is no device"};
  return major * 10 + minor;
}

int capabilityOf(const Body& device) {
  const std::string& json = device.values.at(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION).bytes;
  const std::string key = "\"deviceVer\":";
  const size_t at = json.find(key);
  if (at == std::string::npos) throw Refusal{CUDNN_STATUS_BAD_PARAM, "the device's JSON has no deviceVer"};
  return std::atoi(json.c_str() + at + key.size()) / 10;
}

void finalizeDevice(Body& body) {
  const auto name = CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION;
  if (body.has(CUDNN_ATTR_DEVICEPROP_HANDLE) || body.has(CUDNN_ATTR_DEVICEPROP_DEVICE_ID)) {
    const std::string json =
        "{\"deviceVer\":" + std::to_string(currentCapability() * 10) + ",\"deviceName\":\"emulated\"}";
    body.put(name, CUDNN_TYPE_CHAR, std::vector<char>(json.begin(), json.end()));
  }
  if (!body.has(name)) throw Refusal{CUDNN_STATUS_BAD_PARAM, "a device without handle, number or JSON"};
  capabilityOf(body);  // or throws
}

/** The device that a heuristic, an engine or a plan is for; handles of this library are all of the current device. */
int capabilityFor(const Body& body, cudnnBackendAttributeName_t device, const Body& graph) {
  if (body.has(device)) return capabilityOf(body.part(device));
  if (graph.has(CUDNN_ATTR_OPERATIONGRAPH_HANDLE)) return currentCapability();
  throw Refusal{CUDNN_STATUS_BAD_PARAM, "neither a handle nor a device is set"};
}

void finalizeEngine(Body& body) {
  const Body& graph = body.part(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  const auto index = body.one<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  const auto found = engine(*graph.graph, capabilityFor(body, CUDNN_ATTR_ENGINE_DEVICEPROP, graph), index);
  if (!found)
    throw Refusal{CUDNN_STATUS_NOT_SUPPORTED, "engine " + std::to_string(index) + " does not take this graph"};
  std::vector<cudnnBackendNumericalNote_t> numerical;
  std::vector<cudnnBackendBehaviorNote_t> behavior;
  if (found->tensorCores) numerical.push_back(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  if (found->compiles) behavior.push_back(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
  body.put(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, numerical);
  body.put(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, behavior);
}

Engine engineOf(const Body& configuration, int capability) {
  const Body& body = configuration.part(CUDNN_ATTR_ENGINECFG_ENGINE);
  const Graph& graph = *body.part(CUDNN_ATTR_ENGINE_OPERATION_GRAPH).graph;
  const auto found = engine(graph, capability, body.one<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
  if (!found) throw Refusal{CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, "the engine is not one for this device"};
  return *found;
}

/** One knob, so that whoever stores an engine and its knobs has something to store. */
constexpr cudnnBackendKnobType_t kKnob = CUDNN_KNOB_TYPE_TILE_SIZE;
constexpr int64_t kMostKnob = 31;

void finalizeConfiguration(Body& body) {
  const Body& engine = body.part(CUDNN_ATTR_ENGINECFG_ENGINE);
  const Body& graph = engine.part(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  const Engine found = engineOf(body, capabilityFor(engine, CUDNN_ATTR_ENGINE_DEVICEPROP, graph));
  if (body.has(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES))
    for (const auto& knob : body.values.at(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES).parts) {
      const auto value = knob->one<int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
      if (knob->one<cudnnBackendKnobType_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) != kKnob || value < 0 ||
          value > kMostKnob)
        throw Refusal{CUDNN_STATUS_BAD_PARAM, "a knob that the engine does not have"};
    }
  body.put(CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
           std::vector<int64_t>{workspaceBytes(*graph.graph, found)});
}

/** A graph that nothing runs is no failure: the heuristics finalize and have no results. */
std::vector<Engine> offered(const Graph& graph, int capability, cudnnBackendHeurMode_t mode) {
  try {
    return engines(graph, capability, mode);
  } catch (const Refusal& refusal) {
    lastError = refusal.text;
    return {};
  }
}

void finalizeHeuristics(Body& body) {
  const auto graph = body.values.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).parts.at(0);
  const int capability = capabilityFor(body, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *graph);
  std::vector<std::shared_ptr<const Body>> results;
  for (const Engine& each :
       offered(*graph->graph, capability, body.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE))) {
    auto engine = std::make_shared<Body>(Body{CUDNN_BACKEND_ENGINE_DESCRIPTOR, true, {}, {}});
    engine->put(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, {graph});
    engine->put(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, std::vector<int64_t>{each.index});
    if (body.has(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP))
      engine->put(CUDNN_ATTR_ENGINE_DEVICEPROP, body.values.at(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP).parts);
    finalizeEngine(*engine);
    auto configuration = std::make_shared<Body>(Body{CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, true, {}, {}});
    configuration->put(CUDNN_ATTR_ENGINECFG_ENGINE, {engine});
    auto knob = std::make_shared<Body>(Body{CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, true, {}, {}});
    knob->put(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, std::vector<cudnnBackendKnobType_t>{kKnob});
    knob->put(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, std::vector<int64_t>{each.index % (kMostKnob + 1)});
    configuration->put(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, {knob});
    finalizeConfiguration(*configuration);
    results.push_back(configuration);
  }
  body.put(CUDNN_ATTR_ENGINEHEUR_RESULTS, std::move(results));
}

const Body& graphOf(const Body& plan) {
  return plan.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
      .part(CUDNN_ATTR_ENGINECFG_ENGINE)
      .part(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
}

int capabilityOfPlan(const Body& plan) {
  if (plan.has(CUDNN_ATTR_EXECUTION_PLAN_HANDLE)) return currentCapability();
  return capabilityFor(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, graphOf(plan));
}

/** As cuDNN 9.24 writes it, without the graph and the device: only what was compiled at run time tells its kernel's
 * name. */
std::string planJson(const Engine& engine, int capability) {
  std::string json = "{\"cudnnVersion\":" + std::to_string(CUDNN_VERSION) +
                     ",\"schemaVersion\":4,\"engine\":{\"engineId\":" + std::to_string(engine.index) +
                     ",\"smVersion\":" + std::to_string(capability * 10) + ",\"knobChoices\":{}";
  if (engine.compiles) json += ",\"payload\":{\"kernels\":[{\"kernelName\":\"" + engine.kernel + "\"}]}";
  return json + "}}";
}

void finalizePlan(Body& body) {
  const Graph& graph = *graphOf(body).graph;
  const int capability = capabilityOfPlan(body);
  const Engine engine = engineOf(body.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), capability);
  if (isToRefuse("first") && engines(graph, capability, CUDNN_HEUR_MODE_A).front().index == engine.index)
    throw Refusal{CUDNN_STATUS_NOT_SUPPORTED, "COMFACE_EMULATION_REFUSE has `first`"};
  const std::string json = planJson(engine, capability);
  body.put(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::vector<char>(json.begin(), json.end()));
  body.put(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
           std::vector<int64_t>{workspaceBytes(graph, engine)});
}

void finalizePack(const Body& body) {
  const auto ids = body.list<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = body.list<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  if (ids.size() != pointers.size()) throw Refusal{CUDNN_STATUS_BAD_PARAM, "ids and pointers differ in number"};
}

/** The real library allows a handle on one thread at a time and does not notice when it is on two. */
void checkThread(const Body& body) {
  for (const auto name : {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_HANDLE}) {
    if (!body.has(name)) continue;
    std::weak_ptr<const char>& planner = given(body.one<cudnnHandle_t>(name), "the handle").planner;
    if (planner.expired()) planner = thisThread;
    if (planner.lock() != thisThread) throw Refusal{CUDNN_STATUS_INTERNAL_ERROR, "two threads plan with one handle"};
  }
}

void finalize(Body& body) {
  if (body.isFinalized) throw Refusal{CUDNN_STATUS_BAD_PARAM, "the descriptor is finalized already"};
  checkComplete(body);
  checkThread(body);
  switch (body.type) {
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
      finalizeDevice(body);
      break;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      finalizeHeuristics(body);
      break;
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
      finalizeEngine(body);
      break;
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
      finalizeConfiguration(body);
      break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      finalizePlan(body);
      break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      finalizePack(body);
      break;
    default:
      finalizeGraphPart(body);
  }
  body.isFinalized = true;
}

/** Every real tensor's pointer. */
std::map<int64_t, void*> pointersOf(const Graph& graph, const Body& pack) {
  const auto ids = pack.list<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.list<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  std::map<int64_t, void*> result;
  for (size_t i = 0; i < ids.size(); ++i) result[ids[i]] = pointers[i];
  for (const auto& [id, tensor] : graph.tensors) {
    if (tensor.isVirtual) continue;
    const auto found = result.find(id);
    if (found == result.end() || !found->second)
      throw Refusal{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "tensor " + std::to_string(id) + " has no pointer"};
    if (reinterpret_cast<uintptr_t>(found->second) % tensor.alignment)
      throw Refusal{CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
                    "tensor " + std::to_string(id) + "'s pointer is not aligned as declared"};
  }
  return result;
}

bool isReadInPlace(const Graph& graph, int64_t id) {
  return std::all_of(graph.operations.begin(), graph.operations.end(), [&](const Operation& operation) {
    return operation.kind == Kind::pointwise ||
           std::find(operation.inputs.begin(), operation.inputs.end(), id) == operation.inputs.end();
  });
}

/** The real library would run these and give what the order of its threads gives. */
void checkOverlaps(const Graph& graph, const std::map<int64_t, void*>& pointers) {
  for (const auto& [to, written] : graph.tensors)
    for (const auto& [id, tensor] : graph.tensors) {
      if (id == to || written.isVirtual || tensor.isVirtual || tensor.isByValue || !graph.producer(to)) continue;
      const auto *a = static_cast<const char*>(pointers.at(to)), *b = static_cast<const char*>(pointers.at(id));
      if (a + written.spanBytes() <= b || b + tensor.spanBytes() <= a) continue;
      const bool isSame =
          a == b && written.dims == tensor.dims && written.strides == tensor.strides && written.type == tensor.type;
      if (isSame && !graph.producer(id) && isReadInPlace(graph, id)) continue;
      throw Refusal{CUDNN_STATUS_BAD_PARAM,
                    "tensors " + std::to_string(to) + " and " + std::to_string(id) + " overlap"};
    }
}

/** Whether the device may touch all that a graph touches; the device is lost otherwise. */
bool isThere(const Graph& graph, const std::map<int64_t, void*>& pointers) {
  return std::all_of(graph.tensors.begin(), graph.tensors.end(), [&](const auto& each) {
    const Tensor& tensor = each.second;
    if (tensor.isVirtual || tensor.isByValue) return true;
    const std::string name = "cuDNN's tensor " + std::to_string(tensor.id);
    return requireDevice(pointers.at(tensor.id), tensor.spanBytes(), name.c_str());
  });
}

/** Numbers by value are read now, everything else when the stream comes to it. */
void execute(const cudnnContext& handle, const Body& plan, const Body& pack) {
  if (plan.type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || pack.type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
    throw Refusal{CUDNN_STATUS_BAD_PARAM, "not an execution plan and a variant pack"};
  if (!plan.isFinalized || !pack.isFinalized)
    throw Refusal{CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "plan or variant pack not finalized"};
  cudaStreamCaptureStatus capturing{};
  cudaStreamIsCapturing(handle.stream, &capturing);
  if (isToRefuse("capture") && capturing != cudaStreamCaptureStatusNone)
    throw Refusal{CUDNN_STATUS_EXECUTION_FAILED, "COMFACE_EMULATION_REFUSE has `capture`"};
  const int capability = capabilityOfPlan(plan);
  if (capability != currentCapability())
    throw Refusal{CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, "the plan is for another device"};
  const Engine engine = engineOf(plan.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), capability);
  const auto graph = graphOf(plan).graph;
  std::map<int64_t, void*> pointers = pointersOf(*graph, pack);
  checkOverlaps(*graph, pointers);
  const auto workspaceSize = plan.one<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  auto* const workspace = pack.one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (!workspace) throw Refusal{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the plan wants a workspace"};
  if (reinterpret_cast<uintptr_t>(workspace) % 16)
    throw Refusal{CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "the workspace is not aligned"};
  std::map<int64_t, std::string> byValue;
  for (const auto& [id, tensor] : graph->tensors)
    if (tensor.isByValue) byValue[id] = std::string(static_cast<const char*>(pointers.at(id)), tensor.spanBytes());
  const cudaError_t status = enqueue(handle.stream, [=]() mutable {
    if (!isThere(*graph, pointers) || !requireDevice(workspace, workspaceSize, "cuDNN's workspace")) return;
    for (auto& [id, bytes] : byValue) pointers[id] = bytes.data();
    std::memset(workspace, 0xff, workspaceSize);  // NaN, before and after: whoever shares it, shows
    evaluate(*graph, engine.tensorCores, engine.addsInAnyOrder(), pointers);
    std::memset(workspace, 0xff, workspaceSize);
  });
  if (status != cudaSuccess) throw Refusal{CUDNN_STATUS_EXECUTION_FAILED, "the stream takes no work"};
}

}  // namespace
}  // namespace comface::cuda::emulation

using namespace comface::cuda::emulation;

EXPORTED size_t cudnnGetVersion() { return CUDNN_VERSION; }

EXPORTED const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
      return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_NOT_SUPPORTED:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    default:
      break;
  }
  if (status / 1000 == CUDNN_STATUS_BAD_PARAM / 1000) return "CUDNN_STATUS_BAD_PARAM_*";
  if (status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000) return "CUDNN_STATUS_NOT_SUPPORTED_*";
  return "CUDNN_STATUS_*";
}

EXPORTED void cudnnGetLastErrorString(char* message, size_t size) {
  if (!message || size == 0) return;
  const size_t length = std::min(size - 1, lastError.size());
  std::memcpy(message, lastError.data(), length);
  message[length] = 0;
}

EXPORTED cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  return answer([&] {
    cudnnHandle_t& into = given(handle, "the handle");
    currentCapability();
    into = new cudnnContext;
  });
}

EXPORTED cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}

EXPORTED cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  return answer([&] { given(handle, "the handle").stream = stream; });
}

EXPORTED cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                                    cudnnBackendDescriptor_t* descriptor) {
  return answer([&] {
    cudnnBackendDescriptor_t& into = given(descriptor, "the descriptor");
    if (!isKnown(type))
      throw Refusal{CUDNN_STATUS_NOT_SUPPORTED, "the double does not know descriptor " + std::to_string(type)};
    into = new Descriptor{std::make_shared<Body>(Body{type, false, {}, {}})};
  });
}

EXPORTED cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete static_cast<Descriptor*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}

EXPORTED cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                                cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  return answer([&] { setAttribute(bodyOf(descriptor), name, type, count, values); });
}

EXPORTED cudnnStatus_t cudnnBackendGetAttribute(const cudnnBackendDescriptor_t descriptor,
                                                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                                int64_t requested, int64_t* count, void* values) {
  return answer([&] { getAttribute(bodyOf(descriptor), name, type, requested, count, values); });
}

EXPORTED cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return answer([&] { finalize(bodyOf(descriptor)); });
}

EXPORTED cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                           cudnnBackendDescriptor_t pack) {
  return answer([&] { execute(given(handle, "the handle"), bodyOf(plan), bodyOf(pack)); });
}
