// The worker thread and what one command of an engine does. Prefetch: the source's threads fill the batch of step n + 1
// while step n computes or, where its threads have all the cores, as soon as it is done.
#include "engine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "abi.h"
#include "pool.h"
#include "reference/backend.h"
#include "rng.h"

namespace comface {
namespace {

double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/** Loading between steps that takes more than this share of a step, so often in a row, is done beside so many steps. */
constexpr double kMostBetween = 0.05;
constexpr int kSlowLoads = 2, kStepsBeside = 100;

/** Those that this process may use. */
int coreCount() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : INT_MAX;
}

/** Jobs of all workers, waiting or running: between two of a queue it must not read 0. */
std::atomic<int> jobsUnderway = 0;

/** Where a parameter begins: at `center`, or drawn around 0 with this deviation or, if uniform, bound. */
struct Start {
  float center = 0, deviation = 0;
  bool isNormal = true;
};

/** For benches and tests: generators are read from files. Filters average, convolutions keep the size of numbers. */
Start startOfGenerator(const Layer& layer, const Parameter& parameter, const Shape& in) {
  const std::string_view name(parameter.name);
  if (name.ends_with("Filter")) return {1 / static_cast<float>(parameter.count)};
  if (layer.op == Op::modulatedConv && parameter.count == 1) return {1};
  if (layer.op == Op::convTranspose) return {0, static_cast<float>(1 / (std::sqrt(double{1} * in.c) * layer.kernel))};
  return {0, parameter.dims.size() > 1 || name.ends_with(".phases") ? 1.0f : 0.0f};
}

/**
 * As torchvision begins ResNets and timm vision transformers (weight_init ""). timm cuts its normal distributions at
 * +-2, a hundred deviations away: at nothing.
 */
Start startOf(const Graph& graph, const Parameter& parameter) {
  const Layer& layer = graph.layers[parameter.layer];
  const Shape& in = graph.layers[layer.inputs[0]].shape;
  const bool isWeight = parameter.dims.size() > 1;
  if (isNorm(layer.op)) return {parameter.name.ends_with(".weight") ? 1.0f : 0.0f};
  if (layer.op == Op::tokens) return {0, parameter.name.ends_with("cls_token") ? 1e-6f : 0.02f};
  if (isGenerator(layer.op)) return startOfGenerator(layer, parameter, in);
  const auto isReadBy = [&](Op op) {
    return std::ranges::any_of(graph.users[parameter.layer], [&](int user) { return graph.layers[user].op == op; });
  };
  const bool isPatches = layer.op == Op::conv && isReadBy(Op::tokens);
  if (layer.op == Op::conv && !isPatches) {  // He et al., 2015, eq. (14), fan-out as in torchvision
    if (!isWeight) return {};
    // Query, key and value of efficient attention are three convolutions, as in the network that it is of.
    const bool isThree = isReadBy(Op::efficientAttention);
    const double fanOut = static_cast<double>(parameter.dims[0]) * parameter.dims[2] * parameter.dims[3];
    return {0, static_cast<float>(std::sqrt((isThree ? 6.0 : 2.0) / fanOut))};
  }
  if (layer.op == Op::linear && (in.h > 1 || in.w > 1)) return {0, isWeight ? 0.02f : 0.0f};
  // Uniform in +-1/sqrt(fan-in), as in torch.nn.Linear and, which timm leaves as it is for patches, torch.nn.Conv2d.
  const double fanIn = static_cast<double>(in.c) * layer.kernel * layer.kernel;
  return {0, static_cast<float>(1 / std::sqrt(fanIn)), false};
}

}  // namespace

void leaveSafelyAtExit() {
  on_exit(
      [](int status, void*) {
        if (jobsUnderway == 0) return;
        std::fflush(nullptr);
        _exit(status);
      },
      nullptr);
}

Worker::Worker()
    : thread_([this] {
        workInBackground("comface-engine");
        for (;;) {
          std::function<void()> job;
          {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
            if (stopping_) return;
            job = std::move(jobs_.front());
            jobs_.pop_front();
          }
          job();
          job = nullptr;  // what it holds goes now, not when the next one comes
          --jobsUnderway;
        }
      }) {}

Worker::~Worker() { stop(); }

void Worker::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    jobs_.push_back(std::move(job));
    ++jobsUnderway;
  }
  wake_.notify_one();
}

void Worker::stop() {
  std::list<std::function<void()>> dropped;  // freed without the lock: what a job holds may post here again
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(jobs_);
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  jobsUnderway -= static_cast<int>(dropped.size());
}

Engine::Engine(const std::string& library, const Graph& graph) : graph_(graph) {
  graph_.finish();
  program_ = library.empty() ? compileReference(graph_) : compileWith(library, graph_);
}

Engine::~Engine() { discardPrefetch(); }

void Engine::initialize(uint64_t seed) {
  std::vector<float> values;
  for (size_t p = 0; p < graph_.parameters.size(); ++p) {
    const Parameter& parameter = graph_.parameters[p];
    const Start start = startOf(graph_, parameter);
    values.assign(parameter.count, start.center);
    for (size_t i = 0; start.deviation > 0 && i < parameter.count; ++i) {
      const rng::Draw d = rng::philox(seed, rng::kInit, static_cast<uint32_t>(i), static_cast<uint32_t>(p), 0);
      values[i] = start.isNormal ? start.deviation * rng::normal(d[0], d[1])
                                 : rng::between(d[0], -start.deviation, start.deviation);
    }
    program_->write(Slot::parameter, parameter.name, values);
    if (!graph_.training) continue;
    std::fill(values.begin(), values.end(), 0.0f);
    program_->write(Slot::firstMoment, parameter.name, values);
    program_->write(Slot::secondMoment, parameter.name, values);
  }
  for (const Parameter& statistic : graph_.statistics) {
    values.assign(statistic.count, statistic.name.ends_with(".running_var") ? 1.0f : 0.0f);
    program_->write(Slot::statistic, statistic.name, values);
  }
}

void Engine::forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) {
  phase_ = Phase::idle;
  program_->forward(input, targets, losses);
  phase_ = Phase::forwarded;
}

void Engine::backward() {
  if (!graph_.training) throw Error(Code::invalidInput, "This engine is for inference and has no gradients.");
  if (phase_ == Phase::idle)
    throw Error(Code::invalidInput, "Expected forward() of a training program before backward().");
  program_->backward();
  phase_ = Phase::differentiated;
}

void Engine::update(const Adam& adam) {
  if (!graph_.training) throw Error(Code::invalidInput, "This engine is for inference and cannot be updated.");
  if (phase_ != Phase::differentiated) throw Error(Code::invalidInput, "Expected backward() before update().");
  program_->update(adam);
  phase_ = Phase::idle;
}

void Engine::writePart(Slot slot, const std::string& name, std::span<const float> part, size_t offset, size_t count) {
  std::vector<float>& values = parts_.values;
  if (offset == 0) {
    parts_ = {slot, name, {}};
    values.reserve(count);
  }
  if (parts_.slot != slot || parts_.name != name || offset != values.size() || part.size() > count - offset) {
    throw Error(Code::invalidInput, "Expected the parts of `" + name + "` in order from offset 0, " +
                                        std::to_string(count) + " numbers in all.");
  }
  values.insert(values.end(), part.begin(), part.end());
  if (values.size() < count) return;
  program_->write(slot, name, values);
  parts_ = {};
}

void Engine::prefetch(const std::shared_ptr<Source>& source, const Plan& plan) {
  pendingPlan_ = plan, pendingSource_ = source;
  filled_ = false, mayLoad_ = !waitsForStep_;
  loader_.post([this] {
    std::exception_ptr failure;
    try {
      if (waitsForStep_) {
        pendingSource_->expect(pendingPlan_);
        std::unique_lock lock(mutex_);
        loadBegins_.wait(lock, [this] { return mayLoad_; });
      }
      load(*pendingSource_, pendingPlan_, 1 - current_);
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    filled_ = true, failure_ = std::move(failure);
    fillDone_.notify_one();
  });
  pending_ = true;
}

/** A prefetch that waits for the step to end goes on. */
void Engine::letPrefetchLoad() {
  const std::lock_guard lock(mutex_);
  mayLoad_ = true;
  loadBegins_.notify_one();
}

/** Waits for the prefetch under way; returns what it threw. */
std::exception_ptr Engine::awaitPrefetch() {
  letPrefetchLoad();
  std::unique_lock lock(mutex_);
  fillDone_.wait(lock, [this] { return filled_; });
  pending_ = false;
  pendingSource_.reset();
  return std::exchange(failure_, nullptr);
}

void Engine::discardPrefetch() {
  if (pending_) awaitPrefetch();
  pendingSource_.reset();  // a prefetch that could not be posted left it
}

size_t Engine::reserve(const Source& source, size_t rows) {
  discardPrefetch();
  PictureSteps* steps = program_->pictureSteps();
  if (!steps) return program_->sizeBytes();
  const int pairs = graph_.batch() / graph_.parts;
  const size_t bytes = mostPictures(pairs, rows) * source.pictureBytes();
  const size_t before = program_->sizeBytes();
  try {
    for (int slot = 0; slot < 2; ++slot) pictures_[slot].memory = steps->reserve(slot, bytes);
  } catch (const Error& e) {
    if (e.code != Code::outOfMemory) throw;
    const auto mebibytes = [](size_t count) { return std::to_string(count >> 20) + " MiB"; };
    throw Error(e.code, "The pictures of two steps of " + std::to_string(pairs) + " pairs need " +
                            mebibytes(2 * bytes) + " of device memory beside the network's " + mebibytes(before) +
                            ", and as much pinned memory; there is less (" + e.what() +
                            "): ask for fewer pairs or smaller pictures.");
  }
  return program_->sizeBytes();
}

void Engine::load(Source& source, const Plan& plan, int slot) {
  PictureSteps* steps = program_->pictureSteps();
  if (!steps) return source.fill(plan, batches_[slot]);
  PictureBatch& batch = pictures_[slot];
  batch.memory = steps->reserve(slot, std::max(batch.sizeBytes, mostPictures(plan) * source.pictureBytes()));
  source.pictures(plan, batch);
  if (batch.sizeBytes <= batch.memory.size()) return;
  batch.memory = steps->reserve(slot, batch.sizeBytes + batch.sizeBytes / 8);
  source.pictures(plan, batch);
}

bool Engine::take(const std::shared_ptr<Source>& source, const Plan& plan) {
  if (pending_ && pendingSource_ == source && pendingPlan_ == plan) {
    const std::exception_ptr failure = awaitPrefetch();
    current_ = 1 - current_;
    if (failure) std::rethrow_exception(failure);
    return true;
  }
  discardPrefetch();
  if (program_->pictureSteps()) current_ = 1 - current_;  // slots in turn: the device may still read this one
  load(*source, plan, current_);
  return false;
}

/** Beside threads that have all the cores and wait for each other, each millisecond of the loader costs a step one.
 * Between two steps it can have all the cores itself. What waits for a disk, or takes long anyway, is better beside. */
bool Engine::loadsBetweenSteps(const Source& source) {
  static const int cores = coreCount();
  if (program_->pictureSteps() || graph_.threads < cores || source.threads() < cores) return false;
  if (slowLoads_ == kSlowLoads) slowLoads_ = 0, stepsBeside_ = kStepsBeside;
  return stepsBeside_ == 0 || --stepsBeside_ == 0;
}

StepResult Engine::step(const std::shared_ptr<Source>& source, const Plan& plan, const Plan* next, const Adam& adam) {
  StepResult result;
  PictureSteps* steps = program_->pictureSteps();
  const auto start = std::chrono::steady_clock::now();
  const bool wasBetween = take(source, plan) && waitsForStep_;
  result.loadSeconds = secondsSince(start);
  result.broken = steps ? pictures_[current_].broken : batches_[current_].broken;
  if (wasBetween) slowLoads_ = result.loadSeconds > kMostBetween * computeSeconds_ ? slowLoads_ + 1 : 0;
  waitsForStep_ = next && loadsBetweenSteps(*source);
  if (next) prefetch(source, *next);
  const auto loaded = std::chrono::steady_clock::now();
  if (steps) {
    enqueue(*steps, plan, adam, result);
  } else {
    compute(plan, adam, result);
  }
  result.computeSeconds = computeSeconds_ = secondsSince(loaded);
  if (waitsForStep_) letPrefetchLoad();
  return result;
}

void Engine::compute(const Plan& plan, const Adam& adam, StepResult& result) {
  const Batch& batch = batches_[current_];
  std::vector<double>& losses = result.collected.losses;
  losses.resize(graph_.losses.size());
  result.collected.steps = 1;
  forward(batch.images, {batch.targets.data(), graph_.targetCount > 0 ? batch.targets.size() : 0}, losses);
  for (size_t i = 0; i < losses.size(); ++i) {
    if (std::isfinite(losses[i])) continue;
    throw Error(Code::notFinite, "The loss `" + graph_.layers[graph_.losses[i]].name + "` is not finite at step " +
                                     std::to_string(plan.step) + ".");
  }
  checkStatistics(plan.step);
  backward();
  update(adam);
}

void Engine::enqueue(PictureSteps& steps, const Plan& plan, const Adam& adam, StepResult& result) {
  const PictureBatch& batch = pictures_[current_];
  phase_ = Phase::idle;
  const std::span<const float> targets(batch.targets.data(), graph_.targetCount > 0 ? batch.targets.size() : 0);
  steps.step(current_, {batch.pictures, batch.views, targets, normalizationOf(plan.settings)}, adam);
  lastStep_ = adam.step;
  if (++uncollected_ == kMostUncollected) result.collected = collect();
}

CollectedSteps Engine::collect() {
  PictureSteps* steps = program_->pictureSteps();
  if (!steps || uncollected_ == 0) return {};
  uncollected_ = 0;
  CollectedSteps all = steps->collect();
  if (all.notFinite > 0) {
    throw Error(Code::notFinite,
                "The losses or gradients are not finite at step " + std::to_string(all.notFinite) + ".");
  }
  checkStatistics(lastStep_);
  return all;
}

/** No loss of a training step reads the running statistics, so a NaN in one would stay unseen until the run is used. */
void Engine::checkStatistics(int64_t step) {
  for (const Parameter& statistic : graph_.statistics) {
    statistic_.resize(statistic.count);
    program_->read(Slot::statistic, statistic.name, statistic_);
    if (std::all_of(statistic_.begin(), statistic_.end(), [](float v) { return std::isfinite(v); })) continue;
    throw Error(Code::notFinite,
                "The statistic `" + statistic.name + "` is not finite at step " + std::to_string(step) + ".");
  }
}

std::vector<float> Engine::embed(Source& source, std::vector<uint32_t> samples, const std::string& layer,
                                 const AugmentSettings& settings, const std::atomic<bool>& stopping) {
  const int at = graph_.find(layer);
  if (at < 0) throw Error(Code::invalidInput, "There is no layer `" + layer + "`.");
  if (graph_.training) throw Error(Code::invalidInput, "Expected a graph that is not for training for `embed`.");
  const Shape& shape = graph_.layers[at].shape;
  const size_t batchSize = graph_.batch(), count = samples.size();
  const size_t width = static_cast<size_t>(shape.c) * shape.h * shape.w;
  discardPrefetch();
  Plan plan;
  plan.augment = false, plan.settings = settings, plan.pairs = static_cast<int>(batchSize);
  std::vector<float> result(count * width), chunk(batchSize * width);
  for (size_t first = 0; first < count; first += batchSize) {
    if (stopping) throw Error(Code::disposed, "This thread is ending.");
    const size_t used = std::min(batchSize, count - first);
    plan.x.assign(samples.begin() + first, samples.begin() + first + used);
    plan.x.resize(batchSize, plan.x[0]);  // the last chunk is filled up with copies that are dropped again
    source.fill(plan, batches_[current_]);
    forward(batches_[current_].images, {}, {});
    program_->read(Slot::value, layer, chunk);
    std::copy_n(chunk.begin(), used * width, result.begin() + first * width);
  }
  return result;
}

}  // namespace comface
