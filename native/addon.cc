// The only file that knows Node: arguments to structs, promises, error translation. No logic of its own.
// Native threads own no Node handles; every result travels back through one thread-safe function per environment.
#include <napi.h>

#include <algorithm>
#include <functional>
#include <set>

#include "engine.h"
#include "faces/face.h"
#include "jpeg.h"
#include "pool.h"
#include "rng.h"

namespace comface {
namespace {

const char* const kCodeNames[] = {"INVALID_CONFIG", "INVALID_INPUT", "CORRUPT_FILE", "DEVICE_UNAVAILABLE", "DEVICE_FAILED",
                                  "OUT_OF_MEMORY",  "NOT_FINITE",    "BUSY",         "DISPOSED",           "IO"};
const char* const kOpNames[kOpCount] = {"input",  "conv", "batchNorm",   "relu",           "add",     "maxPool",     "avgPool",
                                        "linear", "rows", "l2Normalize", "reluDifference", "infoNce", "squaredError"};
const char* const kSlotNames[kSlotCount] = {"parameter", "gradient", "firstMoment", "secondMoment", "statistic", "value", "valueGradient"};

using Convert = std::function<Napi::Value(Napi::Env)>;  // runs on the JavaScript thread

/** One promise under way: made and destroyed on the JavaScript thread, worked on in between. */
struct Call {
  Call(Napi::Env env, Napi::Value owner) : deferred(Napi::Promise::Deferred::New(env)) {
    if (owner.IsObject()) this->owner = Napi::Persistent(owner.As<Napi::Object>());
  }
  Napi::Promise::Deferred deferred;
  Napi::ObjectReference owner;  // keeps an engine alive while it works
  Convert convert;
  std::unique_ptr<Error> error;
};

/** What one environment (main thread or worker thread) owns. */
class Environment {
 public:
  explicit Environment(Napi::Env env) : deliver_(Napi::ThreadSafeFunction::New(env, Napi::Function(), "comface", 0, 1)), utility_(std::make_unique<Worker>()) {
    deliver_.Unref(env);
    // Registered after the thread-safe function, so it runs before that one goes: all threads are joined first.
    env.AddCleanupHook([this] { stop(); });
  }
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  /** Posts `work` to a worker and returns its promise. `work` returns how to make the JavaScript value. */
  Napi::Promise run(Napi::Env env, Worker& worker, Napi::Value owner, std::function<Convert()> work) {
    Call* call = new Call(env, owner);
    if (pending_++ == 0) deliver_.Ref(env);  // a pending promise keeps the process alive
    const Napi::Promise promise = call->deferred.Promise();
    worker.post([this, call, work = std::move(work)] {
      try {
        call->convert = work();
      } catch (const Error& e) {
        call->error = std::make_unique<Error>(e);
      } catch (const std::bad_alloc&) {
        call->error = std::make_unique<Error>(Code::outOfMemory, "Out of memory.");
      } catch (const std::exception& e) {
        call->error = std::make_unique<Error>(Code::deviceFailed, e.what());
      } catch (...) {
        call->error = std::make_unique<Error>(Code::deviceFailed, "An unknown native failure.");
      }
      deliver_.BlockingCall(call, [this](Napi::Env env, Napi::Function, Call* finished) { settle(env, finished); });
    });
    return promise;
  }

  Napi::Value makeError(Napi::Env env, const Error& e) {
    const auto code = Napi::String::New(env, kCodeNames[static_cast<int>(e.code)]);
    const auto message = Napi::String::New(env, e.message);
    if (!errorClass.IsEmpty()) return errorClass.New({code, message});
    Napi::Error plain = Napi::Error::New(env, e.message);
    plain.Set("code", code);
    return plain.Value();
  }

  Worker& utility() { return *utility_; }
  void add(Worker* worker) { workers_.insert(worker); }
  void remove(Worker* worker) { workers_.erase(worker); }

  Napi::FunctionReference errorClass, engineClass, sourceClass;

 private:
  void settle(Napi::Env env, Call* finished) {
    const std::unique_ptr<Call> call(finished);
    if (--pending_ == 0) deliver_.Unref(env);
    const Napi::HandleScope scope(env);
    if (call->error) {
      call->deferred.Reject(makeError(env, *call->error));
      return;
    }
    try {
      call->deferred.Resolve(call->convert(env));
    } catch (const Napi::Error& e) {
      call->deferred.Reject(e.Value());
    }
  }
  void stop() {
    for (Worker* worker : workers_) worker->stop();
    utility_->stop();
  }

  Napi::ThreadSafeFunction deliver_;
  std::unique_ptr<Worker> utility_;
  std::set<Worker*> workers_;
  size_t pending_ = 0;
};

// ---- arguments ----

[[noreturn]] void refuse(const std::string& name, const std::string& rule) {
  throw Error(Code::invalidInput, "Expected " + rule + " for `" + name + "`.");
}

/** Runs a method body; a comface::Error becomes a thrown ComFaceError. */
template <class F>
auto guarded(Napi::Env env, const F& body) {
  try {
    return body();
  } catch (const Error& e) {
    throw Napi::Error(env, Environment::of(env).makeError(env, e));
  }
}

Napi::Object objectOf(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject()) refuse(name, "an object");
  return value.As<Napi::Object>();
}
double numberOf(const Napi::Value& value, const std::string& name, double low = -1e300, double high = 1e300) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= low && number <= high)) refuse(name, "a number from " + std::to_string(low) + " to " + std::to_string(high));
  return number;
}
int integerOf(const Napi::Value& value, const std::string& name, int low, int high) {
  const double number = numberOf(value, name, low, high);
  if (number != std::floor(number)) refuse(name, "a whole number");
  return static_cast<int>(number);
}
std::string stringOf(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) refuse(name, "a string");
  return value.As<Napi::String>();
}
uint64_t seedOf(const Napi::Value& value) {
  if (!value.IsBigInt()) refuse("seed", "a bigint");
  bool lossless = false;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}
template <class Array, class T>
std::vector<T> arrayOf(const Napi::Value& value, const std::string& name, napi_typedarray_type type) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) refuse(name, "a typed array of the right kind");
  const Array array = value.As<Array>();
  return std::vector<T>(array.Data(), array.Data() + array.ElementLength());
}
std::vector<float> floatsOf(const Napi::Value& value, const std::string& name) {
  return arrayOf<Napi::Float32Array, float>(value, name, napi_float32_array);
}
std::vector<uint32_t> wordsOf(const Napi::Value& value, const std::string& name) {
  return arrayOf<Napi::Uint32Array, uint32_t>(value, name, napi_uint32_array);
}
template <size_t N>
int nameOf(const Napi::Value& value, const std::string& what, const char* const (&names)[N]) {
  const std::string name = stringOf(value, what);
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<int>(i);
  }
  refuse(what, "a known name, not \"" + name + "\",");
}
std::vector<std::string> stringsOf(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) refuse(name, "an array of strings");
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  strings.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) strings.push_back(stringOf(array.Get(i), name));
  return strings;
}

AugmentSettings settingsOf(const Napi::Value& value) {
  const Napi::Object o = objectOf(value, "augment");
  const auto number = [&](const char* name) { return static_cast<float>(numberOf(o.Get(name), name, 0, 100)); };
  AugmentSettings s;
  s.cropAreaMin = number("cropAreaMin"), s.cropAreaMax = number("cropAreaMax"), s.cropAspectMax = number("cropAspectMax");
  s.flipProbability = number("flipProbability"), s.jitterProbability = number("jitterProbability");
  s.brightness = number("brightness"), s.contrast = number("contrast"), s.saturation = number("saturation"), s.hue = number("hue");
  s.grayscaleProbability = number("grayscaleProbability");
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
  plan.x = wordsOf(o.Get("x"), "x"), plan.y = wordsOf(o.Get("y"), "y"), plan.target = floatsOf(o.Get("target"), "target");
  plan.settings = settings;
  return plan;
}

Adam adamOf(const Napi::Value& value) {
  const Napi::Object o = objectOf(value, "adam");
  Adam a;
  a.learningRate = numberOf(o.Get("learningRate"), "learningRate", 0), a.beta1 = numberOf(o.Get("beta1"), "beta1", 0, 1);
  a.beta2 = numberOf(o.Get("beta2"), "beta2", 0, 1), a.epsilon = numberOf(o.Get("epsilon"), "epsilon", 0);
  a.weightDecay = numberOf(o.Get("weightDecay"), "weightDecay", 0), a.step = static_cast<int64_t>(numberOf(o.Get("step"), "step", 1, 9e15));
  return a;
}

Layer layerOf(const Napi::Object& o, const Graph& before, int batch) {
  Layer l;
  l.name = stringOf(o.Get("name"), "name");
  l.op = static_cast<Op>(nameOf(o.Get("op"), "op", kOpNames));
  const auto earlier = [&](const Napi::Value& name) {
    const int at = before.find(stringOf(name, "input"));
    if (at < 0) throw Error(Code::invalidConfig, "Layer `" + l.name + "` reads `" + stringOf(name, "input") + "`, which is not an earlier layer.");
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

Graph graphOf(const Napi::Value& value) {
  const Napi::Object o = objectOf(value, "graph");
  static const char* const kPrecisions[] = {"fp32", "bf16", "fp64"};
  Graph graph;
  const int batch = integerOf(o.Get("batch"), "batch", 1, 1 << 20);
  graph.training = o.Get("training").ToBoolean();
  graph.precision = static_cast<Precision>(nameOf(o.Get("precision"), "precision", kPrecisions));
  graph.threads = integerOf(o.Get("threads"), "threads", 1, 1024);
  if (!o.Get("layers").IsArray()) refuse("layers", "an array of layer records");
  const auto layers = o.Get("layers").As<Napi::Array>();
  for (uint32_t i = 0; i < layers.Length(); ++i) graph.layers.push_back(layerOf(objectOf(layers.Get(i), "layers"), graph, batch));
  graph.finish();
  return graph;
}

// ---- results ----

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
template <class T>
Napi::Array toNumbers(Napi::Env env, const T& values) {
  auto array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, Napi::Number::New(env, static_cast<double>(values[i])));
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

// ---- classes ----

class SourceObject : public Napi::ObjectWrap<SourceObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeSource",
                       {InstanceAccessor<&SourceObject::count>("count"), InstanceAccessor<&SourceObject::size>("size"),
                        InstanceMethod<&SourceObject::fill>("fill"), InstanceMethod<&SourceObject::dispose>("dispose")});
  }
  explicit SourceObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    guarded(info.Env(), [&] {
      source_ = openFiles(stringsOf(info[0], "paths"), integerOf(info[1], "size", 8, 4096), integerOf(info[2], "threads", 1, 64),
                          integerOf(info[3], "pictureSize", 0, 65535));
    });
  }
  static SourceObject& from(const Napi::Value& value) {
    const Napi::Env env = value.Env();
    if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(Environment::of(env).sourceClass.Value())) refuse("source", "a NativeSource");
    return *Unwrap(value.As<Napi::Object>());
  }
  const std::shared_ptr<Source>& get() const {
    if (!source_) throw Error(Code::disposed, "This source is disposed.");
    return source_;
  }

 private:
  Napi::Value count(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), source_ ? source_->sampleCount() : 0); }
  Napi::Value size(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), source_ ? source_->size() : 0); }
  void dispose(const Napi::CallbackInfo&) { source_.reset(); }
  Napi::Value fill(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      Plan plan = planOf(info[0], settingsOf(info[1]));
      Environment& environment = Environment::of(info.Env());
      return environment.run(info.Env(), environment.utility(), info.This(), [source = get(), plan = std::move(plan)] {
        auto batch = std::make_shared<Batch>();
        source->fill(plan, *batch);
        return [batch](Napi::Env env) -> Napi::Value {
          auto result = Napi::Object::New(env);
          result.Set("images", toArray(env, batch->images)), result.Set("targets", toArray(env, batch->targets));
          result.Set("broken", toBroken(env, batch->broken));
          return result;
        };
      });
    });
  }

  std::shared_ptr<Source> source_;
};

/** The engine and its thread; shared by the JavaScript object and the calls under way. */
struct EngineHost {
  std::unique_ptr<Engine> engine;
  std::atomic<bool> disposed = false, failed = false;
  std::string description;
  size_t sizeBytes = 0;
  Worker worker;
};

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    using E = EngineObject;
    return DefineClass(env, "NativeEngine",
                       {InstanceAccessor<&E::parameters>("parameters"), InstanceAccessor<&E::statistics>("statistics"),
                        InstanceAccessor<&E::sizeBytes>("sizeBytes"), InstanceAccessor<&E::description>("description"),
                        InstanceAccessor<&E::state>("state"), InstanceMethod<&E::initialize>("initialize"), InstanceMethod<&E::step>("step"),
                        InstanceMethod<&E::embed>("embed"), InstanceMethod<&E::forward>("forward"), InstanceMethod<&E::backward>("backward"),
                        InstanceMethod<&E::update>("update"), InstanceMethod<&E::read>("read"), InstanceMethod<&E::write>("write"),
                        InstanceMethod<&E::dispose>("dispose")});
  }
  /** Compiles on the engine's own thread; resolves with the object. */
  static Napi::Value create(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const std::string library = stringOf(info[0], "library");
      const Graph graph = graphOf(info[1]);
      auto host = std::make_shared<EngineHost>();
      Environment& environment = Environment::of(env);
      environment.add(&host->worker);
      return environment.run(env, host->worker, env.Undefined(), [host, library, graph] {
        host->engine = std::make_unique<Engine>(library, graph);
        host->description = host->engine->program().describe();
        host->sizeBytes = host->engine->program().sizeBytes();
        return [host](Napi::Env env) -> Napi::Value {
          return Environment::of(env).engineClass.New({Napi::External<std::shared_ptr<EngineHost>>::New(env, new std::shared_ptr(host))});
        };
      });
    });
  }
  explicit EngineObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "Engines are made by createEngine().");
    const std::unique_ptr<std::shared_ptr<EngineHost>> handle(info[0].As<Napi::External<std::shared_ptr<EngineHost>>>().Data());
    host_ = *handle;
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(host_->sizeBytes));
  }
  void Finalize(Napi::BasicEnv env) override {
    Environment* environment = nullptr;
    if (napi_get_instance_data(env, reinterpret_cast<void**>(&environment)) == napi_ok && environment) environment->remove(&host_->worker);
    if (!host_->disposed) Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(host_->sizeBytes));
  }

 private:
  Napi::Value parameters(const Napi::CallbackInfo& info) { return tensors(info, false); }
  Napi::Value statistics(const Napi::CallbackInfo& info) { return tensors(info, true); }
  Napi::Value tensors(const Napi::CallbackInfo& info, bool statistics) {
    return guarded(info.Env(), [&] {
      if (host_->disposed) throw Error(Code::disposed, "This engine is disposed.");
      const Graph& graph = host_->engine->graph();
      return toTensors(info.Env(), statistics ? graph.statistics : graph.parameters);
    });
  }
  Napi::Value sizeBytes(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(host_->sizeBytes)); }
  Napi::Value description(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), host_->description); }
  Napi::Value state(const Napi::CallbackInfo& info) {
    const char* name = host_->disposed ? "disposed" : host_->failed ? "failed" : calls_ > 0 ? "busy" : "ready";
    return Napi::String::New(info.Env(), name);
  }

  /** Enqueues one command. A disposed or failed engine answers every command with that. */
  template <class Work>
  Napi::Value enqueue(const Napi::CallbackInfo& info, Work work) {
    ++calls_;
    return Environment::of(info.Env()).run(info.Env(), host_->worker, info.This(), [this, host = host_, work]() -> Convert {
      struct Finished {
        std::atomic<int>& calls;
        ~Finished() { --calls; }
      } finished{calls_};
      if (host->disposed) throw Error(Code::disposed, "This engine is disposed.");
      if (host->failed) throw Error(Code::deviceFailed, "This engine failed earlier; make a new one.");
      try {
        return work(*host->engine);
      } catch (const Error& e) {
        if (e.code == Code::deviceFailed) host->failed = true;
        throw;
      }
    });
  }
  static Convert nothing() {
    return [](Napi::Env env) { return env.Undefined(); };
  }

  Napi::Value initialize(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return enqueue(info, [seed = seedOf(info[0])](Engine& engine) {
        engine.initialize(seed);
        return nothing();
      });
    });
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const AugmentSettings settings = settingsOf(info[3]);
      auto source = SourceObject::from(info[0]).get();
      auto plan = std::make_shared<Plan>(planOf(info[1], settings));
      auto next = info[2].IsObject() ? std::make_shared<Plan>(planOf(info[2], settings)) : nullptr;
      return enqueue(info, [source, plan, next, adam = adamOf(info[4])](Engine& engine) {
        auto result = std::make_shared<StepResult>(engine.step(source, *plan, next.get(), adam));
        return [result](Napi::Env env) -> Napi::Value {
          auto o = Napi::Object::New(env);
          o.Set("losses", toNumbers(env, result->losses)), o.Set("broken", toBroken(env, result->broken));
          o.Set("loadSeconds", result->loadSeconds), o.Set("computeSeconds", result->computeSeconds);
          return o;
        };
      });
    });
  }

  Napi::Value embed(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      auto source = SourceObject::from(info[0]).get();
      return enqueue(info, [source, samples = wordsOf(info[1], "samples"), layer = stringOf(info[2], "layer"), settings = settingsOf(info[3])](Engine& engine) {
        auto values = std::make_shared<std::vector<float>>(engine.embed(*source, samples, layer, settings));
        return [values](Napi::Env env) -> Napi::Value { return toArray(env, *values); };
      });
    });
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return enqueue(info, [input = floatsOf(info[0], "input"), targets = floatsOf(info[1], "targets")](Engine& engine) {
        auto losses = std::make_shared<std::vector<double>>(engine.graph().losses.size());
        engine.program().forward(input, targets, *losses);
        return [losses](Napi::Env env) -> Napi::Value { return toNumbers(env, *losses); };
      });
    });
  }
  Napi::Value backward(const Napi::CallbackInfo& info) {
    return enqueue(info, [](Engine& engine) {
      engine.program().backward();
      return nothing();
    });
  }
  Napi::Value update(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return enqueue(info, [adam = adamOf(info[0])](Engine& engine) {
        engine.program().update(adam);
        return nothing();
      });
    });
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Slot slot = static_cast<Slot>(nameOf(info[0], "slot", kSlotNames));
      return enqueue(info, [slot, name = stringOf(info[1], "name")](Engine& engine) {
        auto values = std::make_shared<std::vector<float>>(sizeOf(engine.graph(), slot, name));
        engine.program().read(slot, name, *values);
        return [values](Napi::Env env) -> Napi::Value { return toArray(env, *values); };
      });
    });
  }
  Napi::Value write(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Slot slot = static_cast<Slot>(nameOf(info[0], "slot", kSlotNames));
      return enqueue(info, [slot, name = stringOf(info[1], "name"), values = floatsOf(info[2], "value")](Engine& engine) {
        engine.program().write(slot, name, values);
        return nothing();
      });
    });
  }
  static size_t sizeOf(const Graph& graph, Slot slot, const std::string& name) {
    if (slot == Slot::value || slot == Slot::valueGradient) {
      const int layer = graph.find(name);
      return layer < 0 ? 0 : graph.layers[layer].shape.count();
    }
    for (const auto& p : slot == Slot::statistic ? graph.statistics : graph.parameters) {
      if (p.name == name) return p.count;
    }
    return 0;
  }

  void dispose(const Napi::CallbackInfo& info) {
    if (host_->disposed.exchange(true)) return;
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -static_cast<int64_t>(host_->sizeBytes));
    host_->worker.post([host = host_.get()] { host->engine.reset(); });  // the host outlives its worker's jobs
  }

  std::shared_ptr<EngineHost> host_;
  std::atomic<int> calls_ = 0;
};

// ---- functions ----

struct Shots {
  std::vector<faces::Shot> list;
  int size;
};
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

Napi::Value drawFaces(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    const int threads = integerOf(info[1], "threads", 1, 64);
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), [shots = shotsOf(info[0]), threads] {
      const size_t bytes = static_cast<size_t>(shots.size) * shots.size * 3;
      auto pixels = std::make_shared<std::vector<uint8_t>>(bytes * shots.list.size());
      Pool(threads).run(static_cast<int>(shots.list.size()), [&](int i, int) { faces::render(shots.list[i], shots.size, pixels->data() + bytes * i); });
      return [pixels](Napi::Env env) -> Napi::Value { return toBytes(env, *pixels); };
    });
  });
}

Napi::Value writeFaces(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    Shots shots = shotsOf(info[0]);
    std::vector<std::string> paths = stringsOf(info[1], "paths");
    if (paths.size() != shots.list.size()) refuse("paths", "one path per shot");
    const int quality = integerOf(info[2], "quality", 1, 100), threads = integerOf(info[3], "threads", 1, 64);
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), [shots, paths, quality, threads]() -> Convert {
      Pool(threads).run(static_cast<int>(paths.size()), [&](int i, int) {
        Picture picture{shots.size, shots.size, std::vector<uint8_t>(static_cast<size_t>(shots.size) * shots.size * 3)};
        faces::render(shots.list[i], shots.size, picture.rgb.data());
        writeFile(paths[i], encodeJpeg(picture, quality));
      });
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

Napi::Value decode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    auto file = arrayOf<Napi::Uint8Array, uint8_t>(info[0], "file", napi_uint8_array);
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), [file = std::move(file)] {
      auto picture = std::make_shared<Picture>();
      decodeJpeg(file, "picture", *picture);
      return [picture](Napi::Env env) -> Napi::Value {
        auto o = Napi::Object::New(env);
        o.Set("width", picture->width), o.Set("height", picture->height), o.Set("rgb", toBytes(env, picture->rgb));
        return o;
      };
    });
  });
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Environment& environment = Environment::of(info.Env());
    Picture picture{integerOf(info[1], "width", 1, 65500), integerOf(info[2], "height", 1, 65500), arrayOf<Napi::Uint8Array, uint8_t>(info[0], "rgb", napi_uint8_array)};
    const int quality = integerOf(info[3], "quality", 1, 100);
    if (picture.rgb.size() != static_cast<size_t>(picture.width) * picture.height * 3) refuse("rgb", "width x height x 3 bytes");
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), [picture = std::move(picture), quality] {
      auto bytes = std::make_shared<std::vector<uint8_t>>(encodeJpeg(picture, quality));
      return [bytes](Napi::Env env) -> Napi::Value { return toBytes(env, *bytes); };
    });
  });
}

Napi::Value philox(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto word = [&](int i) { return static_cast<uint32_t>(numberOf(info[i], "word", 0, 4294967295.0)); };
    return toNumbers(info.Env(), rng::philox(seedOf(info[0]), word(1), word(2), word(3), word(4)));
  });
}

Napi::Value openSource(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).sourceClass.New({info[0], info[1], info[2], info[3]});
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  environment->engineClass = Napi::Persistent(EngineObject::define(env));
  environment->sourceClass = Napi::Persistent(SourceObject::define(env));
  const auto method = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  method("createEngine", EngineObject::create), method("openFiles", openSource);
  method("drawFaces", drawFaces), method("writeFaces", writeFaces), method("decodeJpeg", decode), method("encodeJpeg", encode);
  method("philox", philox);
  exports.Set("setErrorClass", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
                Environment::of(info.Env()).errorClass = Napi::Persistent(info[0].As<Napi::Function>());
              }));
  auto names = Napi::Array::New(env, faces::kAttributeCount);
  for (uint32_t i = 0; i < faces::kAttributeCount; ++i) names.Set(i, faces::kAttributeNames[i]);
  exports.Set("attributeNames", names);
  auto cpu = Napi::Object::New(env);
  __builtin_cpu_init();
  cpu.Set("avx2", __builtin_cpu_supports("avx2") != 0), cpu.Set("avx512", __builtin_cpu_supports("avx512bw") != 0);
  cpu.Set("bf16", __builtin_cpu_supports("avx512bf16") != 0), cpu.Set("cores", std::thread::hardware_concurrency());
  exports.Set("cpu", cpu);
  return exports;
}

NODE_API_MODULE(comface, initialize)

}  // namespace
}  // namespace comface
