// How each argument is read and each result is made; see values.h.
#include "values.h"

#include <algorithm>
#include <cmath>

namespace comface {
namespace {

Napi::Object objectOf(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject()) refuse(name, "an object");
  return value.As<Napi::Object>();
}
template <class Array, class T>
std::vector<T> arrayOf(const Napi::Value& value, const std::string& name, napi_typedarray_type type) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type)
    refuse(name, "a typed array of the right kind");
  const Array array = value.As<Array>();
  // Another thread could change it while it is copied.
  if (!Napi::Value(array.ArrayBuffer()).IsArrayBuffer()) refuse(name, "memory that is not shared");
  return std::vector<T>(array.Data(), array.Data() + array.ElementLength());
}
double plainNumber(const Napi::Value& value) { return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN; }

/** An object's fields. */
class Fields final : public Record {
 public:
  Fields(const Napi::Value& value, const std::string& name) : object_(objectOf(value, name)) {}
  bool has(const char* name) const override { return object_.Has(name); }
  double number(const char* name) const override { return plainNumber(object_.Get(name)); }
  double number(const char* name, uint32_t index) const override { return plainNumber(listOf(name).Get(index)); }
  std::string string(const char* name) const override { return stringOf(object_.Get(name), name); }
  std::string string(const char* name, uint32_t index) const override {
    return stringOf(listOf(name).Get(index), name);
  }
  bool truth(const char* name) const override { return object_.Get(name).ToBoolean(); }
  uint64_t seed() const override { return seedOf(object_.Get("seed")); }
  std::vector<uint32_t> words(const char* name) const override { return wordsOf(object_.Get(name), name); }
  std::vector<int32_t> integers(const char* name) const override {
    return arrayOf<Napi::Int32Array, int32_t>(object_.Get(name), name, napi_int32_array);
  }
  std::vector<float> floats(const char* name) const override { return floatsOf(object_.Get(name), name); }
  Napi::Value value(const char* name) const { return object_.Get(name); }

 private:
  Napi::Object listOf(const char* name) const { return objectOf(object_.Get(name), name); }

  Napi::Object object_;
};

}  // namespace

double numberOf(const Napi::Value& value, const std::string& name, double low, double high) {
  return checkNumber(plainNumber(value), name, low, high);
}
int integerOf(const Napi::Value& value, const std::string& name, int low, int high) {
  return checkInteger(plainNumber(value), name, low, high);
}
std::string stringOf(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) refuse(name, "a string");
  std::string text = value.As<Napi::String>();
  // A path or name would end there in the calls that it is handed to.
  if (text.find('\0') != std::string::npos) refuse(name, "a string without NUL");
  return text;
}
uint64_t seedOf(const Napi::Value& value) {
  if (!value.IsBigInt()) refuse("seed", "a bigint");
  bool lossless = false;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}
std::vector<float> floatsOf(const Napi::Value& value, const std::string& name) {
  return arrayOf<Napi::Float32Array, float>(value, name, napi_float32_array);
}
std::vector<uint32_t> wordsOf(const Napi::Value& value, const std::string& name) {
  return arrayOf<Napi::Uint32Array, uint32_t>(value, name, napi_uint32_array);
}
std::vector<uint8_t> bytesOf(const Napi::Value& value, const std::string& name) {
  return arrayOf<Napi::Uint8Array, uint8_t>(value, name, napi_uint8_array);
}
std::vector<std::string> stringsOf(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) refuse(name, "an array of strings");
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> strings;       // not reserved: a sparse array claims any length
  const uint32_t count = array.Length();  // once: reading an element may make it longer
  for (uint32_t i = 0; i < count; ++i) strings.push_back(stringOf(array.Get(i), name));
  return strings;
}

AugmentSettings settingsOf(const Napi::Value& value) { return settingsFrom(Fields(value, "augment")); }
Plan planOf(const Napi::Value& value, const AugmentSettings& settings) {
  return planFrom(Fields(value, "plan"), settings);
}
Adam adamOf(const Napi::Value& value) { return adamFrom(Fields(value, "adam")); }
Slot slotOf(const Napi::Value& value) { return slotFrom(stringOf(value, "slot")); }
Shots shotsOf(const Napi::Value& value) { return shotsFrom(Fields(value, "shots")); }
std::vector<ShardSet> shardSetsOf(const Napi::Value& value) {
  if (!value.IsArray()) refuse("sets", "an array of sets");
  const auto array = value.As<Napi::Array>();
  std::vector<ShardSet> sets;  // as in stringsOf
  const uint32_t count = array.Length();
  for (uint32_t i = 0; i < count; ++i) sets.push_back(shardSetFrom(Fields(array.Get(i), "sets")));
  return sets;
}
ImageSet imageSetOf(const Napi::Value& value) { return imageSetFrom(Fields(value, "set")); }

Graph graphOf(const Napi::Value& value) {
  const Fields record(value, "graph");
  int batch = 0;
  Graph graph = graphFrom(record, batch);
  const Napi::Value list = record.value("layers");  // once: the next reading may give something else
  if (!list.IsArray()) refuse("layers", "an array of layer records");
  const auto layers = list.As<Napi::Array>();
  const uint32_t count = layers.Length();
  for (uint32_t i = 0; i < count; ++i) addLayer(graph, Fields(layers.Get(i), "layers"), batch);
  graph.finish();
  return graph;
}

Napi::Float32Array toArray(Napi::Env env, const std::vector<float>& values) {
  auto array = Napi::Float32Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}
Napi::Float32Array handOver(Napi::Env env, std::shared_ptr<std::vector<float>> values, std::shared_ptr<Worker> reaper) {
  constexpr size_t kFewBytes = 1 << 16;
  const size_t bytes = values->size() * sizeof(float);
  if (bytes <= kFewBytes) return toArray(env, *values);
  float* data = values->data();
  auto free = [values = std::move(values), reaper = std::move(reaper)](Napi::BasicEnv, void*) mutable {
    reaper->post([values = std::move(values)] {});
  };
  const auto buffer = Napi::ArrayBuffer::New(env, data, bytes, std::move(free));
  return Napi::Float32Array::New(env, bytes / sizeof(float), buffer, 0);
}
Napi::Uint8Array toBytes(Napi::Env env, const std::vector<uint8_t>& values) {
  auto array = Napi::Uint8Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}
Napi::Object toCollected(Napi::Env env, const CollectedSteps& all) {
  auto o = Napi::Object::New(env);
  o.Set("losses", toNumbers(env, all.losses)), o.Set("steps", all.steps);
  return o;
}

Napi::Array toBroken(Napi::Env env, const std::vector<Broken>& broken) {
  auto array = Napi::Array::New(env, broken.size());
  for (uint32_t i = 0; i < broken.size(); ++i) {
    auto entry = Napi::Object::New(env);
    entry.Set("sample", broken[i].sample), entry.Set("reason", broken[i].reason);
    array.Set(i, entry);
  }
  return array;
}
Napi::Array toTensors(Napi::Env env, const std::vector<Parameter>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) {
    auto entry = Napi::Object::New(env);
    entry.Set("name", list[i].name), entry.Set("dims", toNumbers(env, list[i].dims));
    array.Set(i, entry);
  }
  return array;
}
Napi::Object toProbe(Napi::Env env, const CudaProbe& probe) {
  auto o = Napi::Object::New(env);
  o.Set("available", probe.stage == CudaStage::ready);
  o.Set("stage", kCudaStageNames[static_cast<int>(probe.stage)]), o.Set("reason", probe.reason);
  o.Set("driverVersion", probe.driverVersion), o.Set("cudnn", probe.cudnn), o.Set("cublasLt", probe.cublasLt);
  o.Set("driverPath", probe.driverPath), o.Set("backendPath", probe.backendPath);
  o.Set("cudnnPath", probe.cudnnPath), o.Set("cublasLtPath", probe.cublasLtPath);
  auto devices = Napi::Array::New(env, probe.devices.size());
  for (uint32_t i = 0; i < probe.devices.size(); ++i) {
    auto device = Napi::Object::New(env);
    device.Set("name", probe.devices[i].name), device.Set("capability", probe.devices[i].capability / 10.0);
    device.Set("memoryBytes", static_cast<double>(probe.devices[i].memoryBytes));
    devices.Set(i, device);
  }
  o.Set("devices", devices);
  return o;
}

}  // namespace comface
