// The thread pool. Items are claimed under the mutex: they last 0.1 ms and more, so a lock-free queue would buy nothing
// but traps.
#include "pool.h"

#include <pthread.h>

#include <string>
#include <system_error>
#include <utility>

#include "core.h"

namespace comface {

void workInBackground(const char* name) {
  pthread_setname_np(pthread_self(), name);  // as a profiler shows it; inherited like the rest
  const sched_param none{};
  pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);  // inherited by the threads it starts: OpenMP's
}

Pool::Pool(int threads) {
  if (threads < 1 || threads > 64) {
    throw Error(Code::invalidConfig, "Expected 1 to 64 for `threads` but received " + std::to_string(threads));
  }
  workers_.reserve(threads);
  try {
    for (int i = 0; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& e) {  // the destructor does not run for a half-built object: join what has started
    stop();
    throw Error(Code::outOfMemory, std::string("Cannot start a thread: ") + e.what());
  } catch (...) {  // no memory for a thread's state
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void Pool::run(int count, const std::function<void(int index, int thread)>& job) {
  if (count <= 0) return;
  std::unique_lock lock(mutex_);
  if (pending_ > 0) throw Error(Code::busy, "The thread pool is already running a job");
  job_ = &job;
  next_ = 0;
  count_ = pending_ = count;
  wake_.notify_all();
  done_.wait(lock, [this] { return pending_ == 0; });
  job_ = nullptr;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Pool::work(int thread) {
  workInBackground("comface-pool");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || next_ < count_; });
    if (stopping_) return;
    const int index = next_++;
    const auto& job = *job_;  // stays valid: run() cannot return before this item counts as done
    lock.unlock();
    std::exception_ptr failure;
    try {
      job(index, thread);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure && (!failure_ || index < failedIndex_)) {
      failure_ = std::move(failure);
      failedIndex_ = index;
    }
    failure = nullptr;
    if (--pending_ == 0) done_.notify_all();
  }
}

}  // namespace comface
