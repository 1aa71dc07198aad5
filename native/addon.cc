// The classes and functions that JavaScript sees. Knows Node, as only making.h, values.h and environment.h
// do besides.
#include <napi.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <vector>

#include "abi.h"
#include "crc.h"
#include "environment.h"
#include "leaving.h"
#include "making.h"
#include "rng.h"
#include "values.h"

namespace comface {
namespace {

/** Mark our objects: an argument may be any object, and so may what an accessor is called on. V8 checks methods only.
 */
constexpr napi_type_tag kSourceTag = {0x9a1c6f0e5b7d4c21, 0x8e43d2f7a6b0c915};
constexpr napi_type_tag kEngineTag = {0x3f5e92c1d8a74b06, 0xb17a60e4c9d2385f};

bool isTagged(const Napi::Value& value, const napi_type_tag& tag) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&tag);
}

// ---- classes ----

class SourceObject : public Napi::ObjectWrap<SourceObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeSource",
        {InstanceAccessor<&SourceObject::count>("count"), InstanceAccessor<&SourceObject::size>("size"),
         InstanceMethod<&SourceObject::fill>("fill"), InstanceMethod<&SourceObject::dispose>("dispose")});
  }
  explicit SourceObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    info.This().As<Napi::Object>().TypeTag(&kSourceTag);
    guarded(info.Env(), [&] {
      std::unique_ptr<Pictures> pictures =
          info.Length() > 3 ? picturesInFiles(stringsOf(info[0], "paths"), integerOf(info[3], "pictureSize", 0, 65535))
                            : picturesInShards(shardSetsOf(info[0]));
      source_ =
          openPictures(std::move(pictures), integerOf(info[1], "size", 8, 4096), integerOf(info[2], "threads", 1, 64));
    });
  }
  void Finalize(Napi::BasicEnv) override { release(); }
  static SourceObject& from(const Napi::Value& value) {
    if (!isTagged(value, kSourceTag)) refuse("source", "a NativeSource");
    return *ObjectWrap::Unwrap(value.As<Napi::Object>());
  }
  /** What node-addon-api takes `this` from. */
  static SourceObject* Unwrap(const Napi::Object& self) {
    if (!isTagged(self, kSourceTag)) throw Napi::TypeError::New(self.Env(), "Illegal invocation");
    return ObjectWrap::Unwrap(self);
  }
  const std::shared_ptr<Source>& get() const {
    if (!source_) throw Error(Code::disposed, "This source is disposed.");
    return source_;
  }

 private:
  Napi::Value count(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), source_ ? source_->sampleCount() : 0);
  }
  Napi::Value size(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), source_ ? source_->size() : 0);
  }
  void dispose(const Napi::CallbackInfo&) { release(); }
  void release() {
    if (source_) reaper_->post([source = std::move(source_)] {});
  }
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

  std::shared_ptr<Worker> reaper_ = Environment::of(Env()).reaper();
  std::shared_ptr<Source> source_;
};

}  // namespace

/** The engine and its thread. Never freed on that thread, for it joins it: its jobs hold no share. */
struct EngineHost {
  explicit EngineHost(std::shared_ptr<Worker> reaper) : reaper(std::move(reaper)) {}
  std::unique_ptr<Engine> engine;
  std::atomic<bool> disposed = false, failed = false;
  std::string description, choices;
  size_t sizeBytes = 0;
  std::shared_ptr<Worker> reaper;
  std::shared_ptr<Worker> worker = std::make_shared<Worker>();  // last: joined before what it works on goes

  /** Frees the engine once its running job is done, and then its thread. The one job with a share passes it on. After
   * this nobody but the reaper touches `worker`. */
  static void retire(const std::shared_ptr<EngineHost>& host) {
    host->worker->post([host, leaving = Leaving::one()]() mutable {
      host->engine.reset();
      leaving.reset();
      const std::shared_ptr<Worker> reaper = host->reaper;
      reaper->post([host = std::move(host)] { host->worker.reset(); });
    });
  }
};

namespace {

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    using E = EngineObject;
    return DefineClass(
        env, "NativeEngine",
        {InstanceAccessor<&E::parameters>("parameters"), InstanceAccessor<&E::statistics>("statistics"),
         InstanceAccessor<&E::sizeBytes>("sizeBytes"), InstanceAccessor<&E::description>("description"),
         InstanceAccessor<&E::choices>("choices"), InstanceAccessor<&E::state>("state"),
         InstanceMethod<&E::initialize>("initialize"), InstanceMethod<&E::reserve>("reserve"),
         InstanceMethod<&E::step>("step"), InstanceMethod<&E::collect>("collect"), InstanceMethod<&E::embed>("embed"),
         InstanceMethod<&E::forward>("forward"), InstanceMethod<&E::backward>("backward"),
         InstanceMethod<&E::update>("update"), InstanceMethod<&E::read>("read"), InstanceMethod<&E::write>("write"),
         InstanceMethod<&E::dispose>("dispose")});
  }
  /** Compiles on the engine's own thread; resolves with the object. */
  static Napi::Value create(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      const std::string library = stringOf(info[0], "library");
      const Graph graph = graphOf(info[1]);
      Environment& environment = Environment::of(env);
      auto host = std::make_shared<EngineHost>(environment.reaper());
      environment.add(host->worker);
      const auto make = [at = std::weak_ptr(host), raw = host.get(), library, graph]() -> Convert {
        raw->engine = withRoom(raw->worker->stopping(), [&] { return std::make_unique<Engine>(library, graph); });
        raw->description = raw->engine->program().describe();
        raw->choices = raw->engine->program().choices();
        raw->sizeBytes = raw->engine->program().sizeBytes();
        return [at](Napi::Env env) -> Napi::Value {
          Environment::of(env).making = at.lock();
          return Environment::of(env).engineClass.New({});
        };
      };
      return environment.run(env, *host->worker, env.Undefined(), make, host);
    });
  }
  explicit EngineObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    host_ = std::move(Environment::of(info.Env()).making);
    guarded(info.Env(), [&] {
      if (!host_) throw Error(Code::invalidInput, "Engines are made by createEngine().");
    });
    info.This().As<Napi::Object>().TypeTag(&kEngineTag);
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(host_->sizeBytes));
  }
  static EngineObject* Unwrap(const Napi::Object& self) {
    if (!isTagged(self, kEngineTag)) throw Napi::TypeError::New(self.Env(), "Illegal invocation");
    return ObjectWrap::Unwrap(self);
  }
  void Finalize(Napi::BasicEnv env) override {
    if (host_) release(env);
  }

 private:
  Napi::Value parameters(const Napi::CallbackInfo& info) { return tensors(info, false); }
  Napi::Value statistics(const Napi::CallbackInfo& info) { return tensors(info, true); }
  Napi::Value tensors(const Napi::CallbackInfo& info, bool statistics) {
    return guarded(info.Env(), [&] {
      if (host_->disposed) throw disposedError();
      const Graph& graph = host_->engine->graph();
      return toTensors(info.Env(), statistics ? graph.statistics : graph.parameters);
    });
  }
  Napi::Value sizeBytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(host_->sizeBytes));
  }
  Napi::Value choices(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), host_->choices); }
  Napi::Value description(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), host_->description); }
  Napi::Value state(const Napi::CallbackInfo& info) {
    const char* name = host_->disposed ? "disposed" : host_->failed ? "failed" : *underway_ > 0 ? "busy" : "ready";
    return Napi::String::New(info.Env(), name);
  }

  /** Enqueues one command. A disposed or failed engine answers every command with that. */
  template <class Work>
  Napi::Value enqueue(const Napi::CallbackInfo& info, Work work) {
    if (host_->disposed) return Environment::of(info.Env()).reject(info.Env(), disposedError());
    auto answer = [host = host_.get(), work = std::move(work)]() mutable -> Convert {
      if (host->disposed) throw disposedError();
      if (host->failed) throw Error(Code::deviceFailed, "This engine failed earlier; make a new one.");
      try {
        return work(*host->engine);
      } catch (const Error& e) {
        if (e.code == Code::deviceFailed) host->failed = true;
        throw;
      }
    };
    return Environment::of(info.Env())
        .run(info.Env(), *host_->worker, info.This(), std::move(answer), nullptr, underway_);
  }
  static Error disposedError() { return Error(Code::disposed, "This engine is disposed."); }
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

  Napi::Value reserve(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      auto source = SourceObject::from(info[0]).get();
      const int rows = integerOf(info[1], "rows", 1, 1 << 24);
      return enqueue(info, [source, rows, host = std::weak_ptr(host_), raw = host_.get()](Engine& engine) {
        const size_t bytes = withRoom(raw->worker->stopping(), [&] { return engine.reserve(*source, rows); });
        return [host, bytes](Napi::Env env) -> Napi::Value {
          if (const auto at = host.lock(); at && !at->disposed) {
            const auto more = static_cast<int64_t>(bytes) - static_cast<int64_t>(at->sizeBytes);
            Napi::MemoryManagement::AdjustExternalMemory(env, more);
            at->sizeBytes = bytes;
          }
          return env.Undefined();
        };
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
          auto o = toCollected(env, result->collected);
          o.Set("broken", toBroken(env, result->broken));
          o.Set("loadSeconds", result->loadSeconds), o.Set("computeSeconds", result->computeSeconds);
          return o;
        };
      });
    });
  }

  Napi::Value collect(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return enqueue(info, [host = std::weak_ptr(host_)](Engine& engine) {
        auto all = engine.collect();  // after a step it is known how steps run
        return [host, all = std::move(all), text = engine.program().describe()](Napi::Env env) -> Napi::Value {
          if (const auto at = host.lock()) at->description = text;
          return toCollected(env, all);
        };
      });
    });
  }

  Napi::Value embed(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      auto source = SourceObject::from(info[0]).get();
      return enqueue(info, [source, samples = wordsOf(info[1], "samples"), layer = stringOf(info[2], "layer"),
                            settings = settingsOf(info[3]), host = host_.get()](Engine& engine) {
        // Asked here, on the worker itself: a disposed engine has none any more.
        const std::atomic<bool>& stopping = host->worker->stopping();
        auto values = std::make_shared<std::vector<float>>(engine.embed(*source, samples, layer, settings, stopping));
        return [values](Napi::Env env) -> Napi::Value { return toArray(env, *values); };
      });
    });
  }

  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return enqueue(info,
                     [input = floatsOf(info[0], "input"), targets = floatsOf(info[1], "targets")](Engine& engine) {
                       auto losses = std::make_shared<std::vector<double>>(engine.graph().losses.size());
                       engine.forward(input, targets, *losses);
                       return [losses](Napi::Env env) -> Napi::Value { return toNumbers(env, *losses); };
                     });
    });
  }
  Napi::Value backward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return enqueue(info, [](Engine& engine) {
        engine.backward();
        return nothing();
      });
    });
  }
  Napi::Value update(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return enqueue(info, [adam = adamOf(info[0])](Engine& engine) {
        engine.update(adam);
        return nothing();
      });
    });
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Slot slot = slotOf(info[0]);
      return enqueue(info, [slot, name = stringOf(info[1], "name")](Engine& engine) {
        auto values = std::make_shared<std::vector<float>>(sizeOf(engine.graph(), slot, name));
        engine.program().read(slot, name, *values);
        return [values](Napi::Env env) -> Napi::Value { return handOver(env, values, Environment::of(env).reaper()); };
      });
    });
  }
  Napi::Value write(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Slot slot = slotOf(info[0]);
      const double offset = info[3].IsUndefined() ? -1 : numberOf(info[3], "offset", 0, 9e15);
      return enqueue(
          info, [slot, name = stringOf(info[1], "name"), values = floatsOf(info[2], "value"), offset](Engine& engine) {
            if (offset < 0) {
              engine.program().write(slot, name, values);
            } else {
              engine.writePart(slot, name, values, static_cast<size_t>(offset), sizeOf(engine.graph(), slot, name));
            }
            return nothing();
          });
    });
  }
  static size_t sizeOf(const Graph& graph, Slot slot, const std::string& name) {
    if (slot == Slot::lossScale) return 2;
    if (slot == Slot::value || slot == Slot::valueGradient) {
      const int layer = graph.find(name);
      return layer < 0 ? 0 : graph.layers[layer].shape.count();
    }
    for (const auto& p : slot == Slot::statistic ? graph.statistics : graph.parameters) {
      if (p.name == name) return p.count;
    }
    return 0;
  }

  void dispose(const Napi::CallbackInfo& info) { release(info.Env()); }
  void release(Napi::BasicEnv env) {
    if (host_->disposed.exchange(true)) return;
    Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(host_->sizeBytes));
    try {
      EngineHost::retire(host_);
    } catch (const std::bad_alloc&) {  // no memory for the job: then the engine goes with this object
    }
  }

  std::shared_ptr<EngineHost> host_;
  std::shared_ptr<int> underway_ = std::make_shared<int>(0);
};

// ---- functions ----

Napi::Value crc(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), crc32c(bytesOf(info[0], "bytes"))); });
}

Napi::Value philox(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto word = [&](int i) { return static_cast<uint32_t>(numberOf(info[i], "word", 0, 4294967295.0)); };
    return toNumbers(info.Env(), rng::philox(seedOf(info[0]), word(1), word(2), word(3), word(4)));
  });
}

/** Native objects of this process that are alive, for tests: a leak shows here before it shows in the memory. */
Napi::Value liveObjects(const Napi::CallbackInfo& info) {
  auto o = Napi::Object::New(info.Env());
  o.Set("engines", Counted<Engine>::alive()), o.Set("sources", Counted<Source>::alive());
  o.Set("workers", Counted<Worker>::alive()), o.Set("calls", Counted<Call>::alive());
  return o;
}

/** What a graph would take on a device that is described, not here. */
Napi::Value planFor(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Graph graph = graphOf(info[1]);
    graph.finish();
    auto work = [library = stringOf(info[0], "library"), graph = std::move(graph),
                 device = stringOf(info[2], "device")]() -> Convert {
      return [planned = planWith(library, graph, device)](Napi::Env env) -> Napi::Value {
        auto o = Napi::Object::New(env);
        o.Set("sizeBytes", static_cast<double>(planned.sizeBytes)), o.Set("choices", planned.choices);
        return o;
      };
    };
    Environment& environment = Environment::of(info.Env());
    return environment.run(info.Env(), environment.utility(), info.Env().Undefined(), std::move(work), nullptr);
  });
}

/** What there is of CUDA. The first call probes, which with a driver takes some tenths of a second. */
Napi::Value cuda(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return toProbe(info.Env(), probeCuda()); });
}

Napi::Value openFiles(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).sourceClass.New({info[0], info[1], info[2], info[3]});
}
Napi::Value openShards(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).sourceClass.New({info[0], info[1], info[2]});
}

/** Node says so when it is about to end, however that came about. */
void watchExit(Napi::Env env) {
  const Napi::Value process = env.Global().Get("process");
  const auto leave = [](const Napi::CallbackInfo&) { leaveSafelyAtExit(); };
  const Napi::Value once = process.IsObject() ? process.As<Napi::Object>().Get("once") : env.Undefined();
  if (once.IsFunction())
    once.As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), Napi::Function::New(env, leave)});
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  // libgomp reads this when the CPU backend loads it. Its threads otherwise spin for milliseconds at every barrier, and
  // where another program wants the cores too a step then takes ten times as long.
  setenv("GOMP_SPINCOUNT", "10000", 0);
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  watchExit(env);
  environment->engineClass = Napi::Persistent(EngineObject::define(env));
  environment->sourceClass = Napi::Persistent(SourceObject::define(env));
  const auto method = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  method("createEngine", EngineObject::create), method("openFiles", openFiles), method("openShards", openShards);
  exportPictures(env, exports);
  method("crc32c", crc), method("philox", philox), method("liveObjects", liveObjects), method("cuda", cuda),
      method("planFor", planFor);
  exports.Set("setErrorClass", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
                guarded(info.Env(), [&] {
                  if (!info[0].IsFunction()) refuse("errorClass", "a class");
                  Environment::of(info.Env()).errorClass = Napi::Persistent(info[0].As<Napi::Function>());
                });
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
