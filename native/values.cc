// How each argument is read and each result is made; see values.h. No logic beyond the checks.
#include "values.h"

#include <algorithm>
#include <cmath>

namespace comface {
namespace {

const char* const kOpNames[kOpCount] = {"input",          "conv",    "batchNorm",   "relu", "add",
                                        "maxPool",        "avgPool", "linear",      "rows", "l2Normalize",
                                        "reluDifference", "infoNce", "squaredError"};
const char* const kSlotNames[kSlotCount] = {"parameter", "gradient", "firstMoment",  "secondMoment",
                                            "statistic", "value",    "valueGradient"};

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
template <size_t N>
int nameOf(const Napi::Value& value, const std::string& what, const char* const (&names)[N]) {
  const std::string name = stringOf(value, what);
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<int>(i);
  }
  refuse(what, "a known name, not \"" + name.substr(0, 80) + "\",");
}

}  // namespace

void refuse(const std::string& name, const std::string& rule) {
  throw Error(Code::invalidInput, "Expected " + rule + " for `" + name + "`.");
}

double numberOf(const Napi::Value& value, const std::string& name, double low, double high) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= low && number <= high))
    refuse(name, "a number from " + std::to_string(low) + " to " + std::to_string(high));
  return number;
}
int integerOf(const Napi::Value& value, const std::string& name, int low, int high) {
  const double number = numberOf(value, name, low, high);
  if (number != std::floor(number)) refuse(name, "a whole number");
  return static_cast<int>(number);
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

AugmentSettings settingsOf(const Napi::Value& value) {
  const Napi::Object o = objectOf(value, "augment");
  const auto number = [&](const char* name) { return static_cast<float>(numberOf(o.Get(name), name, 0, 100)); };
  AugmentSettings s;
  s.cropAreaMin = number("cropAreaMin"), s.cropAreaMax = number("cropAreaMax");
  s.cropAspectMax = number("cropAspectMax"), s.flipProbability = number("flipProbability");
  s.jitterProbability = number("jitterProbability"), s.grayscaleProbability = number("grayscaleProbability");
  s.brightness = number("brightness"), s.contrast = number("contrast");
  s.saturation = number("saturation"), s.hue = number("hue");
  const Napi::Object mean = objectOf(o.Get("mean"), "mean"), deviation = objectOf(o.Get("deviation"), "deviation");
  for (uint32_t c = 0; c < 3; ++c) {
    s.mean[c] = static_cast<float>(numberOf(mean.Get(c), "mean", -10, 10));
    s.deviation[c] = static_cast<float>(numberOf(deviation.Get(c), "deviation", 1e-3, 1e3));
  }
  return s;
}

Plan planOf(const Napi::Value& value, const AugmentSettings& settings) {
  const Napi::Object o = objectOf(value, "plan");
  Plan plan;
  plan.seed = seedOf(o.Get("seed"));
  plan.step = static_cast<uint32_t>(numberOf(o.Get("step"), "step", 0, 4294967295.0));
  plan.pairs = integerOf(o.Get("pairs"), "pairs", 1, 1 << 20);
  plan.x = wordsOf(o.Get("x"), "x"), plan.y = wordsOf(o.Get("y"), "y");
  plan.target = floatsOf(o.Get("target"), "target");
  plan.settings = settings;
  return plan;
}

Adam adamOf(const Napi::Value& value) {
  const Napi::Object o = objectOf(value, "adam");
  Adam a;
  a.learningRate = numberOf(o.Get("learningRate"), "learningRate", 0);
  a.beta1 = numberOf(o.Get("beta1"), "beta1", 0, 1), a.beta2 = numberOf(o.Get("beta2"), "beta2", 0, 1);
  a.epsilon = numberOf(o.Get("epsilon"), "epsilon", 0);
  a.weightDecay = numberOf(o.Get("weightDecay"), "weightDecay", 0);
  a.step = static_cast<int64_t>(numberOf(o.Get("step"), "step", 1, 9e15));
  return a;
}

namespace {

Layer layerOf(const Napi::Object& o, const Graph& before, int batch) {
  Layer l;
  l.name = stringOf(o.Get("name"), "name");
  l.op = static_cast<Op>(nameOf(o.Get("op"), "op", kOpNames));
  const auto earlier = [&](const Napi::Value& name) {
    const int at = before.find(stringOf(name, "input"));
    if (at < 0)
      throw Error(Code::invalidConfig,
                  "Layer `" + l.name + "` reads `" + stringOf(name, "input") + "`, which is not an earlier layer.");
    return at;
  };
  const auto whole = [&](const char* name, int& field) {
    if (o.Has(name)) field = integerOf(o.Get(name), l.name + "." + name, 0, 1 << 24);
  };
  const auto real = [&](const char* name, float& field) {
    if (o.Has(name)) field = static_cast<float>(numberOf(o.Get(name), l.name + "." + name));
  };
  if (o.Has("input")) l.inputs[0] = earlier(o.Get("input"));
  if (o.Has("inputs")) {
    const Napi::Object pair = objectOf(o.Get("inputs"), "inputs");
    l.inputs = {earlier(pair.Get(0u)), earlier(pair.Get(1u))};
  }
  if (l.op == Op::input) {
    l.shape = {batch, 0, 0, 0};
    whole("channels", l.shape.c), whole("height", l.shape.h), whole("width", l.shape.w);
  }
  whole("out", l.out), whole("kernel", l.kernel), whole("stride", l.stride), whole("pad", l.pad);
  whole("from", l.from), whole("to", l.to), whole("of", l.of);
  real("eps", l.eps), real("momentum", l.momentum), real("temperature", l.temperature), real("weight", l.weight);
  l.bias = o.Has("bias") && o.Get("bias").ToBoolean();
  return l;
}

}  // namespace

Slot slotOf(const Napi::Value& value) { return static_cast<Slot>(nameOf(value, "slot", kSlotNames)); }

Graph graphOf(const Napi::Value& value) {
  const Napi::Object o = objectOf(value, "graph");
  static const char* const kPrecisions[] = {"fp32", "bf16", "fp64"};
  Graph graph;
  const int batch = integerOf(o.Get("batch"), "batch", 1, 1 << 20);
  graph.training = o.Get("training").ToBoolean();
  graph.precision = static_cast<Precision>(nameOf(o.Get("precision"), "precision", kPrecisions));
  graph.threads = integerOf(o.Get("threads"), "threads", 1, 1024);
  const Napi::Value records = o.Get("layers");
  if (!records.IsArray()) refuse("layers", "an array of layer records");
  const auto layers = records.As<Napi::Array>();
  const uint32_t count = layers.Length();
  for (uint32_t i = 0; i < count; ++i) graph.layers.push_back(layerOf(objectOf(layers.Get(i), "layers"), graph, batch));
  graph.finish();
  return graph;
}

Shots shotsOf(const Napi::Value& value) {
  const Napi::Object o = objectOf(value, "shots");
  const auto subject = wordsOf(o.Get("subject"), "subject"), photo = wordsOf(o.Get("photo"), "photo");
  const auto attribute = arrayOf<Napi::Int32Array, int32_t>(o.Get("attribute"), "attribute", napi_int32_array);
  const auto alpha = floatsOf(o.Get("alpha"), "alpha");
  if (photo.size() != subject.size() || attribute.size() != subject.size() || alpha.size() != subject.size()) {
    refuse("shots", "lists of one length");
  }
  Shots shots{{}, integerOf(o.Get("size"), "size", 32, 512)};
  const uint64_t seed = seedOf(o.Get("seed"));
  const int domain = integerOf(o.Get("domain"), "domain", 0, 1);
  for (size_t i = 0; i < subject.size(); ++i) {
    if (attribute[i] < -1 || attribute[i] >= faces::kAttributeCount) refuse("attribute", "an index from -1 to 42");
    if (!(alpha[i] >= -5 && alpha[i] <= 5)) refuse("alpha", "a number from -5 to 5");
    shots.list.push_back({seed, subject[i], photo[i], attribute[i], alpha[i], domain});
  }
  return shots;
}

Napi::Float32Array toArray(Napi::Env env, const std::vector<float>& values) {
  auto array = Napi::Float32Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}
Napi::Uint8Array toBytes(Napi::Env env, const std::vector<uint8_t>& values) {
  auto array = Napi::Uint8Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
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

}  // namespace comface
