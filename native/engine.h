// One compiled network on its own thread. Commands queue up; each runs alone and answers once. JavaScript only
// enqueues. States: ready, busy (a command is queued or running), failed (the device is lost), disposed.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "backend.h"
#include "source.h"

namespace comface {

/** A thread with a queue of jobs; the destructor runs none of the waiting jobs and joins. */
class Worker : public Counted<Worker> {
 public:
  Worker();
  ~Worker();
  void post(std::function<void()> job);
  /** Drops waiting jobs, finishes the running one, joins. Safe to call twice, from one thread at a time. */
  void stop();
  /** For long jobs, to end early: whoever called stop() waits for them. */
  const std::atomic<bool>& stopping() const { return stopping_; }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<std::function<void()>> jobs_;  // not a deque: an empty one has to be made without memory
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

/**
 * process.exit() runs no environment cleanup on Node's main thread, only the destructors of libraries. With a job under
 * way those would pull oneDNN's data from under its threads, so then the process leaves without them. To be called when
 * the process begins to end: what is registered last runs first, and oneDNN registers more with every new kind of work.
 */
void leaveSafelyAtExit();

struct StepResult {
  CollectedSteps collected;  // this step the last; none where the backend still computes
  std::vector<Broken> broken;
  double loadSeconds = 0, computeSeconds = 0;
};

class Engine : public Counted<Engine> {
 public:
  /** device: path of a backend library, or empty for the plain reference loops. */
  Engine(const std::string& library, const Graph& graph);
  ~Engine();

  /** He initialization (fan-out, as torchvision's ResNet) of convolutions, PyTorch's default for linear layers and for
   * convolutions into patches, ones and zeros for normalization; of tokens as timm: linear layers and positions normal
   * with deviation 0.02, class token 1e-6. Keyed by (seed, parameter's place), so it is the same on every device. */
  void initialize(uint64_t seed);
  /** Fill (or take the prefetched batch), forward, backward, Adam. Throws notFinite, weights unchanged, if a loss or a
   * running statistic is not finite. Where the backend need not be waited for, the losses and that error are left to
   * collect(). */
  StepResult step(const std::shared_ptr<Source>& source, const Plan& plan, const Plan* next, const Adam& adam);
  /** Makes room for the pictures of any plan of so many rows, spares included, where the backend makes the views
   * itself, so that no step has to; returns the bytes of everything then. Throws outOfMemory. */
  size_t reserve(const Source& source, size_t rows);
  /** Waits for the steps whose losses step() did not tell, if any. */
  CollectedSteps collect();
  /** Value of `layer`, a vector or the last one, for each sample, in chunks of the graph's batch: c x h x w numbers
   * each. Throws disposed between two when `stopping`. */
  std::vector<float> embed(Source& source, std::vector<uint32_t> samples, const std::string& layer,
                           const AugmentSettings& settings, const std::atomic<bool>& stopping);
  /** The parts of a step, in this order; another order throws invalidInput, on every device. */
  void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses);
  void backward();
  void update(const Adam& adam);
  /** A tensor of `count` numbers in parts, in order from offset 0; it is written when the last has come. */
  void writePart(Slot slot, const std::string& name, std::span<const float> part, size_t offset, size_t count);
  Program& program() { return *program_; }
  const Graph& graph() const { return graph_; }

 private:
  /** Whether the batch was prefetched. */
  bool take(const std::shared_ptr<Source>& source, const Plan& plan);
  void load(Source& source, const Plan& plan, int slot);
  void compute(const Plan& plan, const Adam& adam, StepResult& result);
  void enqueue(PictureSteps& steps, const Plan& plan, const Adam& adam, StepResult& result);
  bool loadsBetweenSteps(const Source& source);
  void prefetch(const std::shared_ptr<Source>& source, const Plan& plan);
  void letPrefetchLoad();
  void discardPrefetch();
  std::exception_ptr awaitPrefetch();
  void checkStatistics(int64_t step);

  enum class Phase { idle, forwarded, differentiated };

  Graph graph_;
  Phase phase_ = Phase::idle;
  std::unique_ptr<Program> program_;
  struct {
    Slot slot{};
    std::string name;
    std::vector<float> values;
  } parts_;  // of a tensor that is being written
  Batch batches_[2];
  PictureBatch pictures_[2];  // where the backend makes the views
  int current_ = 0;
  int uncollected_ = 0;
  int64_t lastStep_ = 0;
  double computeSeconds_ = 0;     // of the last step
  int slowLoads_ = 0;             // between steps, one after the other
  int stepsBeside_ = 0;           // before loading between steps is tried again
  std::vector<float> statistic_;  // one at a time, to look at
  // The prefetch: loads slot 1 - current_ from pendingSource_ for pendingPlan_. Not a std::promise: breaking one
  // needs memory, and without it ends the process.
  Plan pendingPlan_;
  std::shared_ptr<Source> pendingSource_;
  bool pending_ = false, waitsForStep_ = false;
  std::mutex mutex_;  // guards the next three
  bool mayLoad_ = false, filled_ = false;
  std::exception_ptr failure_;
  std::condition_variable loadBegins_, fillDone_;
  Worker loader_;
};

}  // namespace comface
