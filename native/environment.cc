// How promises are made, worked on, settled, and dropped when their environment ends.
#include "environment.h"

namespace comface {
namespace {

const char* const kCodeNames[] = {
    "INVALID_CONFIG", "INVALID_INPUT", "CORRUPT_FILE", "DEVICE_UNAVAILABLE", "DEVICE_FAILED",
    "OUT_OF_MEMORY",  "NOT_FINITE",    "BUSY",         "DISPOSED",           "IO"};

constexpr size_t kMessageBytes = 16384;  // a name in it may be as long as a string can get

}  // namespace

Call::Call(Napi::Env env, Napi::Value owner) : deferred(Napi::Promise::Deferred::New(env)) {
  if (owner.IsObject()) this->owner = Napi::Persistent(owner.As<Napi::Object>());
}

Environment::Environment(Napi::Env env)
    : deliver_(Delivery::New(env, "comface", 0, 1, this)),
      utility_(std::make_unique<Worker>()),
      reaper_(std::make_shared<Worker>()) {
  deliver_.Unref(env);
  // Registered after the thread-safe function, so it runs before that one goes: all threads are joined first.
  env.AddCleanupHook([this] { stop(); });
}

Napi::Promise Environment::run(Napi::Env env, Worker& worker, Napi::Value owner, std::function<Convert()> work,
                               std::shared_ptr<EngineHost> host, std::shared_ptr<int> underway) {
  auto owned = std::make_unique<Call>(env, owner);
  Call* const call = owned.get();
  call->host = std::move(host), call->underway = std::move(underway);
  const Napi::Promise promise = call->deferred.Promise();
  const auto place = calls_.emplace(call, std::move(owned)).first;
  try {
    worker.post([this, call, work = std::move(work)] {
      try {
        call->convert = work();
      } catch (...) {
        call->error.emplace(currentError());
      }
      deliver_.BlockingCall(call);
    });
  } catch (...) {
    calls_.erase(place);
    throw;
  }
  // Only now, when nothing can fail any more; the answer cannot come before this function has returned.
  if (calls_.size() == 1) deliver_.Ref(env);  // a pending promise keeps the process alive
  if (call->underway) ++*call->underway;
  return promise;
}

Napi::Value Environment::makeError(Napi::Env env, const Error& e) {
  const auto code = Napi::String::New(env, kCodeNames[static_cast<int>(e.code)]);
  const auto message = Napi::String::New(env, e.message.substr(0, kMessageBytes));
  if (!errorClass.IsEmpty()) return errorClass.New({code, message});
  Napi::Error plain = Napi::Error::New(env, message.Utf8Value());
  plain.Set("code", code);
  return plain.Value();
}

Napi::Promise Environment::reject(Napi::Env env, const Error& e) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(makeError(env, e));
  return deferred.Promise();
}

void Environment::add(const std::shared_ptr<Worker>& worker) {
  std::erase_if(workers_, [](const auto& other) { return other.expired(); });
  workers_.push_back(worker);
}

void Environment::settle(Napi::Env env, Call* finished) {
  const auto node = calls_.extract(finished);
  if (node.empty()) return;
  const std::unique_ptr<Call>& call = node.mapped();
  if (calls_.empty()) deliver_.Unref(env);
  if (call->underway) --*call->underway;
  const Napi::HandleScope scope(env);
  try {
    if (call->error)
      call->deferred.Reject(makeError(env, *call->error));
    else
      call->deferred.Resolve(call->convert(env));
  } catch (const Napi::Error& e) {
    call->deferred.Reject(e.Value());
  } catch (...) {
    call->deferred.Reject(makeError(env, currentError()));
  }
}

/** No promise can be settled from here on, so what is still under way is dropped. */
void Environment::stop() {
  std::vector<std::shared_ptr<Worker>> alive;  // held to the end, or a worker's last job could free its own thread
  for (const auto& worker : workers_) alive.push_back(worker.lock());
  reaper_->stop();
  for (const auto& worker : alive) {
    if (worker) worker->stop();
  }
  utility_->stop();
  calls_.clear();
}

/** An environment that has ended delivers what is left without a Napi::Env; stop() has freed that. */
void deliver(Napi::Env env, Napi::Function, Environment* environment, Call* finished) {
  if (env != nullptr) environment->settle(env, finished);
}

}  // namespace comface
