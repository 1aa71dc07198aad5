// From operations to an execution plan: the heuristics' list in its order, the first that finalizes and keeps our
// rules. A choice (engine and knobs) is one line of text, so that it can be cached, stored in a manifest and taken
// again.
#include <algorithm>
#include <charconv>

#include "cuda/fusion.h"
#include "cuda/runtime.h"

namespace comface::cuda {
namespace {

template <class T>
std::vector<T> attributes(const Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) {
  int64_t count = 0;
  if (libraries().cudnnBackendGetAttribute(d.get(), name, type, 0, &count, nullptr) != CUDNN_STATUS_SUCCESS) return {};
  std::vector<T> values(count);
  if (count > 0 &&
      libraries().cudnnBackendGetAttribute(d.get(), name, type, count, &count, values.data()) != CUDNN_STATUS_SUCCESS)
    return {};
  values.resize(count);
  return values;
}

int64_t numberOf(const Descriptor& d, cudnnBackendAttributeName_t name) {
  const auto values = attributes<int64_t>(d, name, CUDNN_TYPE_INT64);
  return values.empty() ? -1 : values[0];
}

bool finalized(const Descriptor& d) { return libraries().cudnnBackendFinalize(d.get()) == CUDNN_STATUS_SUCCESS; }

/** Attributes that hold descriptors are read into descriptors that the caller has made. */
std::vector<Descriptor> parts(const Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                              int64_t most) {
  std::vector<Descriptor> made;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < most; ++i) raw.push_back(made.emplace_back(type).get());
  int64_t count = 0;
  const cudnnStatus_t status =
      libraries().cudnnBackendGetAttribute(d.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &count, raw.data());
  made.erase(made.begin() + (status == CUDNN_STATUS_SUCCESS ? std::min(count, most) : 0), made.end());
  return made;
}

Descriptor graphOf(const Target& target, const Operations& operations) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor& o : operations.operations()) raw.push_back(o.get());
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()), raw.data());
  const cudnnHandle_t handle = target.handle();
  if (handle) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  graph.finalize("an operation graph");
  return graph;
}

std::vector<Descriptor> configurations(const Target& target, const Descriptor& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (!target.handle()) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target.properties());
  if (!finalized(heuristics)) return {};
  int64_t count = 0;
  if (libraries().cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                           CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr) != CUDNN_STATUS_SUCCESS)
    return {};
  return parts(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, count);
}

/** Never an engine whose sums depend on timing; where fp32 means fp32, none that rounds its inputs. */
bool isAllowed(const Descriptor& engine, bool isExact) {
  for (const auto note :
       attributes<cudnnBackendNumericalNote_t>(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE)) {
    if (note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
      return false;
    const bool rounds = note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    const bool transforms = note == CUDNN_NUMERICAL_NOTE_WINOGRAD || note == CUDNN_NUMERICAL_NOTE_FFT;
    if (isExact && (rounds || transforms)) return false;
  }
  return true;
}

std::string choiceOf(const Descriptor& configuration, const Descriptor& engine) {
  std::string text = std::to_string(numberOf(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
  constexpr int64_t kMostKnobs = 64;
  for (const Descriptor& knob :
       parts(configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, kMostKnobs)) {
    const auto type = attributes<cudnnBackendKnobType_t>(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE);
    if (type.empty()) continue;
    text += " " + std::to_string(type[0]) + "=" + std::to_string(numberOf(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
  }
  return text;
}

/** The numbers of a choice: engine, then type and value of each knob. Empty if the text is not one. */
std::vector<int64_t> parsed(const std::string& choice) {
  std::vector<int64_t> numbers;
  const char *at = choice.data(), *end = at + choice.size();
  while (at < end) {
    int64_t number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc() || (next < end && *next != ' ' && *next != '=')) return {};
    numbers.push_back(number);
    at = next < end ? next + 1 : end;
  }
  return numbers.size() % 2 == 1 ? numbers : std::vector<int64_t>();
}

/** The engine configuration that a choice names. Throws if cuDNN does not know it (any more). */
Descriptor configurationOf(const Target& target, const Descriptor& graph, const std::vector<int64_t>& choice) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
  engine.set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, choice[0]);
  if (!target.handle()) engine.set(CUDNN_ATTR_ENGINE_DEVICEPROP, target.properties());
  engine.finalize("an engine");
  std::vector<Descriptor> knobs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (size_t i = 1; i + 1 < choice.size(); i += 2) {
    Descriptor& knob = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    const auto type = static_cast<cudnnBackendKnobType_t>(choice[i]);
    knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
    knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, choice[i + 1]);
    knob.finalize("a knob");
    raw.push_back(knob.get());
  }
  Descriptor configuration(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  configuration.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  if (!raw.empty()) {
    configuration.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      static_cast<int64_t>(raw.size()), raw.data());
  }
  configuration.finalize("an engine's configuration");
  return configuration;
}

/** Plans that are made and cannot be used before a graph is given up: each may cost a second. The ways to add up in
 * order come first where there are any. */
constexpr int kMostUseless = 3, kMostUnordered = 1;

/** The plan of a configuration, or null where cuDNN has none after all. */
std::unique_ptr<Plan> finish(const Target& target, const Descriptor& configuration, std::string choice) {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
  const cudnnHandle_t handle = target.handle();
  if (handle) {
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  } else {
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target.properties());
  }
  if (!finalized(plan)) return nullptr;
  return std::make_unique<Plan>(std::move(plan), std::move(choice), handle);
}

/** A precompiled plan names no kernels: it is cuDNN's own for the device. One that cuDNN does not describe is none. */
bool isNative(const Plan& plan, const Target& target) {
  constexpr int kHopper = 90;
  const int generation = plan.generation();
  return generation == 0 || generation >= std::min(target.capability(), kHopper);
}

bool isGood(const Plan& plan, const Wanted& wanted, const Target& target) {
  return (!wanted.native || isNative(plan, target)) && (!wanted.operations.wantsOrderedSums() || plan.addsInOrder());
}

}  // namespace

Plan::Plan(Descriptor plan, std::string choice, cudnnHandle_t handle)
    : plan_(std::move(plan)), handle_(handle), choice_(std::move(choice)) {
  workspaceBytes_ =
      static_cast<size_t>(std::max<int64_t>(numberOf(plan_, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE), 0));
}

std::string Plan::description() const {
  const auto text = attributes<char>(plan_, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR);
  return {text.begin(), text.end()};
}

int Plan::generation() const {
  const std::string text = description();
  if (text.empty()) return -1;
  int generation = 0;
  for (size_t at = text.find("sm"); at != std::string::npos; at = text.find("sm", at + 2)) {
    const size_t digits = at + 2 + (text[at + 2] == '_' ? 1 : 0);
    int found = 0;
    const auto [next, error] = std::from_chars(text.data() + digits, text.data() + text.size(), found);
    if (error == std::errc() && *next == '_' && found >= 50 && found <= 150) generation = std::max(generation, found);
  }
  return generation;
}

/** In cuDNN 9.24's machine code, kernels named fort_native add fp32 sums to memory by atomic operations (RED.ADD.F32),
 * in the order in which blocks happen to end; those named cutlass count blocks (integer RED) and add them up in order.
 * Of kernels that were compiled beforehand nothing is known. */
bool Plan::addsInOrder() const { return description().find("cutlass_sm") != std::string::npos; }

void Plan::run(const std::vector<Binding>& bindings, void* workspace) const {
  std::vector<int64_t> ids;
  std::vector<void*> pointers;
  for (const auto& [id, pointer] : bindings) ids.push_back(id), pointers.push_back(pointer);
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, static_cast<int64_t>(ids.size()), ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, static_cast<int64_t>(pointers.size()),
           pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize("a plan's pointers");
  expect(libraries().cudnnBackendExecute(handle_, plan_.get(), pack.get()), "running a plan");
}

std::unique_ptr<Plan> planOf(const Target& target, const Wanted& wanted, const std::string& choice) {
  const std::vector<int64_t> numbers = parsed(choice);
  if (numbers.empty()) return nullptr;
  try {
    const Descriptor graph = graphOf(target, wanted.operations);
    auto plan = finish(target, configurationOf(target, graph, numbers), choice);
    return plan && isGood(*plan, wanted, target) ? std::move(plan) : nullptr;
  } catch (const Error& e) {
    if (e.code == Code::outOfMemory) throw;
    return nullptr;
  }
}

std::unique_ptr<Plan> makePlan(const Target& target, const Wanted& wanted, bool* isDefinite) {
  const Descriptor graph = graphOf(target, wanted.operations);
  int left = wanted.operations.wantsOrderedSums() ? kMostUnordered : kMostUseless;
  *isDefinite = false;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const Descriptor& configuration : configurations(target, graph, mode)) {
      auto engines = parts(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
      if (engines.empty() || !isAllowed(engines[0], wanted.operations.isExact())) continue;
      auto plan = finish(target, configuration, choiceOf(configuration, engines[0]));
      if (!plan) continue;
      if (isGood(*plan, wanted, target)) return plan;
      *isDefinite = true;
      if (--left == 0) return nullptr;
    }
  }
  return nullptr;
}

}  // namespace comface::cuda
