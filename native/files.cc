// The Source that reads JPEG files. A slot is decoded and its views are made in one job, so that memory is two pictures
// a thread, not two a slot. The trap: a slot's draws are keyed by its slot number and spares are handed out in slot
// order, or the number of threads would show in the pixels.
#include <algorithm>
#include <functional>
#include <limits>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>

#include "core.h"
#include "jpeg.h"
#include "pool.h"
#include "source.h"

namespace comface {
namespace {

constexpr int kMinEdge = 8;

/** Memory of one thread. */
struct ThreadState {
  std::vector<uint8_t> bytes;
  Picture x, y;
  AugmentScratch scratch;
};

/** Why the pictures of a slot cannot be used; empty when they can. */
struct Slot {
  std::string x, y;
  bool usable() const { return x.empty() && y.empty(); }
};

class FileSource final : public Source {
 public:
  FileSource(std::vector<std::string> paths, int size, int threads, int pictureSize)
      : paths_(std::move(paths)),
        size_(size),
        pictureSize_(pictureSize),
        workers_(static_cast<size_t>(std::clamp(threads, 0, 64))),
        pool_(threads) {}

  int size() const override { return size_; }
  uint32_t sampleCount() const override { return static_cast<uint32_t>(paths_.size()); }

  void fill(const Plan& plan, Batch& batch) override {
    checkPlan(plan, paths_.size());
    const std::lock_guard lock(mutex_);
    try {
      prepare(plan, batch);
      auto job = [&](int slot, int thread) { fillSlot(plan, slot, slot, workers_[thread], batch); };
      pool_.run(plan.pairs, std::ref(job));  // by reference: the lambda itself would cost an allocation
      for (int slot = 0, spare = plan.pairs; slot < plan.pairs; ++slot) {
        if (!slots_[slot].usable()) replace(plan, slot, spare, batch);
      }
    } catch (const std::bad_alloc&) {
      lackMemory(plan);
    } catch (const std::length_error&) {
      lackMemory(plan);
    }
  }

 private:
  [[noreturn]] static void lackMemory(const Plan& plan) {
    throw Error(Code::outOfMemory, "Not enough memory for a batch of " + std::to_string(plan.pairs) + " pairs");
  }

  void prepare(const Plan& plan, Batch& batch) {
    const size_t pairs = static_cast<size_t>(plan.pairs);
    batch.images.resize(pairs * (plan.augment ? 3 : 1) * viewCount());
    batch.targets.assign(pairs, 0);
    batch.broken.clear();
    if (slots_.size() < pairs) slots_.resize(pairs);
  }

  /** Floats of one view. */
  size_t viewCount() const { return static_cast<size_t>(size_) * size_ * 3; }

  std::span<float> view(Batch& batch, size_t index) const {
    return {batch.images.data() + index * viewCount(), viewCount()};
  }

  /** Decodes row `row` of the plan and, when both pictures are usable, writes the images and the target of `slot`. */
  void fillSlot(const Plan& plan, int row, int slot, ThreadState& worker, Batch& batch) {
    const bool same = !plan.augment || plan.y[row] == plan.x[row];
    Slot& state = slots_[slot];
    load(plan.x[row], worker, worker.x, state.x);
    state.y.clear();
    if (!same) load(plan.y[row], worker, worker.y, state.y);
    if (!state.usable()) return;
    if (!plan.augment) return plainView(worker.x, size_, plan.settings, worker.scratch, view(batch, slot));
    const Picture* const pictures[3] = {&worker.x, &worker.x, same ? &worker.x : &worker.y};
    for (uint32_t v = 0; v < 3; ++v) {
      const ViewKey key = {plan.seed, plan.step, static_cast<uint32_t>(slot), v};
      const size_t index = static_cast<size_t>(v) * plan.pairs + slot;
      augmentView(*pictures[v], size_, plan.settings, key, worker.scratch, view(batch, index));
    }
    batch.targets[slot] = plan.target[row];
  }

  /** Sets `reason` when the picture cannot be used; lack of memory is no property of the picture and goes on. */
  void load(uint32_t sample, ThreadState& worker, Picture& picture, std::string& reason) const {
    reason.clear();
    try {
      readJpeg(paths_[sample], worker.bytes, picture, pictureSize_);
    } catch (const Error& error) {
      if (error.code != Code::io && error.code != Code::corruptFile) throw;
      reason = error.message;
      return;
    }
    if (std::min(picture.width, picture.height) < kMinEdge) {
      reason = paths_[sample] + ": expected at least 8 x 8 pixels but found " + std::to_string(picture.width) + " x " +
               std::to_string(picture.height);
    }
  }

  /** Fills a broken slot with the next usable spare; `spare` is the first row not yet tried. On the caller's thread:
   * broken pictures are rare. */
  void replace(const Plan& plan, int slot, int& spare, Batch& batch) {
    note(plan, slot, slot, batch);
    const int rows =
        plan.augment ? static_cast<int>(std::min<size_t>(plan.x.size(), std::numeric_limits<int>::max())) : 0;
    while (spare < rows) {
      const int row = spare++;
      fillSlot(plan, row, slot, workers_[0], batch);
      if (slots_[slot].usable()) return;
      note(plan, row, slot, batch);
    }
    const std::string& first = batch.broken.front().reason;
    if (!plan.augment) throw Error(Code::corruptFile, first);
    throw Error(Code::corruptFile,
                first + " (no spare pair is left after " + std::to_string(batch.broken.size()) + " broken pictures)");
  }

  /** Lists the broken pictures of a row, each sample once. */
  void note(const Plan& plan, int row, int slot, Batch& batch) const {
    const auto add = [&](uint32_t sample, const std::string& reason) {
      const auto known = [&](const Broken& broken) { return broken.sample == sample; };
      if (reason.empty() || std::any_of(batch.broken.begin(), batch.broken.end(), known)) return;
      batch.broken.push_back({sample, reason});
    };
    add(plan.x[row], slots_[slot].x);
    if (plan.augment) add(plan.y[row], slots_[slot].y);
  }

  const std::vector<std::string> paths_;
  const int size_, pictureSize_;
  std::mutex mutex_;                  // one fill at a time: it uses the memory below
  std::vector<ThreadState> workers_;  // one a thread of the pool
  std::vector<Slot> slots_;
  Pool pool_;  // last: its threads end before what they use
};

}  // namespace

std::unique_ptr<Source> openFiles(std::vector<std::string> paths, int size, int threads, int pictureSize) {
  if (size < 1 || size > 4096)
    throw Error(Code::invalidConfig, "Expected 1 to 4096 for `size` but received " + std::to_string(size));
  if (paths.empty()) throw Error(Code::invalidInput, "Expected at least one path for `paths` but received none");
  if (paths.size() > std::numeric_limits<uint32_t>::max()) {
    throw Error(Code::invalidInput,
                "Expected fewer than 2^32 paths for `paths` but received " + std::to_string(paths.size()));
  }
  return std::make_unique<FileSource>(std::move(paths), size, threads, pictureSize);
}

}  // namespace comface
