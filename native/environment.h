// What one JavaScript environment (main thread or worker thread) owns: its promises under way, its threads, and the one
// way by which results travel back. Promises are made and settled on the JavaScript thread; native threads hold no Node
// handles.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine.h"

namespace comface {

using Convert = std::function<Napi::Value(Napi::Env)>;  // runs on the JavaScript thread

struct EngineHost;

/** One promise under way: made and destroyed on the JavaScript thread, worked on in between. */
struct Call : Counted<Call> {
  Call(Napi::Env env, Napi::Value owner);
  Napi::Promise::Deferred deferred;
  Napi::ObjectReference owner;       // keeps an engine alive while it works
  std::shared_ptr<EngineHost> host;  // the same for one being made: its worker must not be what frees it
  std::shared_ptr<int> underway;     // calls of an engine that are not answered yet
  Convert convert;
  std::optional<Error> error;
};

class Environment;
void deliver(Napi::Env env, Napi::Function, Environment* environment, Call* finished);

class Environment {
 public:
  explicit Environment(Napi::Env env);
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  /** Posts `work` to a worker and returns its promise. `work` returns how to make the JavaScript value. */
  Napi::Promise run(Napi::Env env, Worker& worker, Napi::Value owner, std::function<Convert()> work,
                    std::shared_ptr<EngineHost> host = nullptr, std::shared_ptr<int> underway = nullptr);
  /** Answers a call on the JavaScript thread, if stop() has not dropped it. */
  void settle(Napi::Env env, Call* finished);
  /** A ComFaceError, once JavaScript has given its class. */
  Napi::Value makeError(Napi::Env env, const Error& e);
  Napi::Promise reject(Napi::Env env, const Error& e);

  /** The thread for calls that belong to no engine. */
  Worker& utility() { return *utility_; }
  /** The thread that frees what joins threads or gives back much memory: neither may hold up JavaScript. */
  const std::shared_ptr<Worker>& reaper() { return reaper_; }
  /** A worker to stop before the environment goes. */
  void add(const std::shared_ptr<Worker>& worker);

  Napi::FunctionReference errorClass, engineClass, sourceClass;
  std::shared_ptr<EngineHost> making;  // what the next engine object is to hold; only set while one is being made

 private:
  using Delivery = Napi::TypedThreadSafeFunction<Environment, Call, deliver>;
  void stop();

  Delivery deliver_;
  std::unique_ptr<Worker> utility_;
  std::shared_ptr<Worker> reaper_;
  std::vector<std::weak_ptr<Worker>> workers_;
  std::unordered_map<Call*, std::unique_ptr<Call>> calls_;  // under way or answered and not yet delivered
};

/** Runs a method body; what it throws becomes a thrown ComFaceError, but Node's own exceptions go through as they are.
 */
template <class F>
auto guarded(Napi::Env env, const F& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Napi::Error(env, Environment::of(env).makeError(env, currentError()));
  }
}

}  // namespace comface
