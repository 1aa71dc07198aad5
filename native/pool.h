// A fixed set of threads for work that splits into independent items: decoding files, drawing faces.
// An item must not call run() of its own pool; results must be keyed by `index`, never by `thread`, to stay the same
// for any number of threads.
#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace comface {

/** For threads that compute: a thread that JavaScript wakes would else take its core from it at once, for milliseconds,
 * in the middle of the native call. */
void workInBackground(const char* name);

class Pool {
 public:
  /** Starts 1..64 threads; throws invalidConfig for another number, outOfMemory when the system gives no more threads.
   */
  explicit Pool(int threads);
  /** Joins. Must not be called while run() is under way. */
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()); }

  /** Calls job(index, thread) for every index in [0, count) and returns when all are done, whatever some of them threw;
   * then throws what the lowest index threw. `thread` in [0, threads()) names the caller's scratch. One run at a time:
   * a second throws busy. */
  void run(int count, const std::function<void(int index, int thread)>& job);

 private:
  void work(int thread);
  void stop();

  std::mutex mutex_;  // guards everything below but workers_
  std::condition_variable wake_, done_;
  const std::function<void(int, int)>* job_ = nullptr;
  int next_ = 0, count_ = 0, pending_ = 0;
  int failedIndex_ = 0;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace comface
