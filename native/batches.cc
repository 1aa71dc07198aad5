// The Source that makes batches of any Pictures. A slot is decoded and its views are made in one job, so that memory is
// two pictures a thread, not two a slot. The trap: a slot's draws are keyed by its slot number and spares are handed
// out in slot order, or the number of threads would show in the pixels.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <limits>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>

#include "core.h"
#include "pictures.h"
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

/** A picture of a batch of pictures. */
struct Entry {
  uint32_t sample;
  int picture;         // its place in PictureBatch::pictures
  std::string reason;  // why it cannot be used
};

class BatchSource final : public Source {
 public:
  BatchSource(std::unique_ptr<const Pictures> pictures, int size, int threads)
      : pictures_(std::move(pictures)),
        size_(size),
        workers_(static_cast<size_t>(std::clamp(threads, 0, 64))),
        pool_(threads) {}

  int size() const override { return size_; }
  uint32_t sampleCount() const override { return pictures_->count(); }
  size_t pictureBytes() const override { return packedBytes(pictures_->edge(), pictures_->edge()); }

  void expect(const Plan& plan) override {
    try {
      checkPlan(plan, pictures_->count());
      announce(plan);
    } catch (const Error&) {
    } catch (const std::bad_alloc&) {
    }
  }

  int threads() const override { return pool_.threads(); }

  void fill(const Plan& plan, Batch& batch) override {
    alone(plan, [&] {
      batch.images.resize(imageCount(plan) * viewCount());
      prepare(plan, batch);
      forEach(plan.pairs, [&](int slot, int thread) { fillSlot(plan, slot, slot, workers_[thread], batch); });
      replaceBroken(plan, batch, [&](int row, int slot) { fillSlot(plan, row, slot, workers_[0], batch); });
    });
  }

  void pictures(const Plan& plan, PictureBatch& batch) override {
    alone(plan, [&] {
      batch.views.resize(imageCount(plan));
      prepare(plan, batch);
      listPictures(plan);
      batch.pictures.assign(entries_.size(), {});
      usedBytes_ = 0;
      forEach(static_cast<int>(entries_.size()),
              [&](int i, int thread) { pack(entries_[i], workers_[thread], batch); });
      forEach(plan.pairs, [&](int slot, int) { drawSlot(plan, slot, slot, batch); });
      replaceBroken(plan, batch, [&](int row, int slot) { packSpare(plan, row, slot, batch); });
      batch.sizeBytes = usedBytes_;
    });
  }

 private:
  [[noreturn]] static void lackMemory(const Plan& plan) {
    throw Error(Code::outOfMemory, "Not enough memory for a batch of " + std::to_string(plan.pairs) + " pairs");
  }

  /** One batch at a time, of a plan that is one. */
  template <class F>
  void alone(const Plan& plan, const F& work) {
    checkPlan(plan, pictures_->count());
    const std::lock_guard lock(mutex_);
    try {
      announce(plan);
      work();
    } catch (const std::bad_alloc&) {
      lackMemory(plan);
    } catch (const std::length_error&) {
      lackMemory(plan);
    }
  }

  template <class F>
  void forEach(int count, const F& job) {
    pool_.run(count, std::ref(job));  // by reference: the lambda itself would cost an allocation
  }

  /** Tells what will be read, so that disks work at all of it and not at one picture a thread. */
  void announce(const Plan& plan) {
    const size_t pairs = plan.pairs;
    pictures_->expect({plan.x.data(), pairs});
    if (viewsOf(plan) > 1) pictures_->expect({plan.y.data(), pairs});
  }

  /** AnyBatch here and below: Batch or PictureBatch. */
  template <class AnyBatch>
  void prepare(const Plan& plan, AnyBatch& batch) {
    const size_t pairs = static_cast<size_t>(plan.pairs);
    batch.targets.assign(pairs, 0);
    batch.broken.clear();
    if (slots_.size() < pairs) slots_.resize(pairs);
  }

  static size_t imageCount(const Plan& plan) { return static_cast<size_t>(plan.pairs) * viewsOf(plan); }

  /** Whether a row has one picture, which is x. */
  static bool isAlone(const Plan& plan, int row) { return viewsOf(plan) == 1 || plan.y[row] == plan.x[row]; }

  /** Floats of one view. */
  size_t viewCount() const { return static_cast<size_t>(size_) * size_ * 3; }

  std::span<float> view(Batch& batch, size_t index) const {
    return {batch.images.data() + index * viewCount(), viewCount()};
  }

  /** Decodes row `row` of the plan and, when both pictures are usable, writes the images and the target of `slot`. */
  void fillSlot(const Plan& plan, int row, int slot, ThreadState& worker, Batch& batch) {
    const bool same = isAlone(plan, row);
    Slot& state = slots_[slot];
    load(plan.x[row], worker, worker.x, state.x);
    state.y.clear();
    if (!same) load(plan.y[row], worker, worker.y, state.y);
    if (!state.usable()) return;
    if (!plan.augment) return plainView(worker.x, size_, plan.settings, worker.scratch, view(batch, slot));
    const Picture* const pictures[3] = {&worker.x, &worker.x, same ? &worker.x : &worker.y};
    for (int i = 0; i < viewsOf(plan); ++i) {
      const uint32_t v = viewAt(plan, i);
      const size_t index = static_cast<size_t>(i) * plan.pairs + slot;
      augmentView(*pictures[v], size_, plan.settings, keyOf(plan, slot, v), worker.scratch, view(batch, index));
    }
    batch.targets[slot] = plan.target[row];
  }

  /** Fills entries_ with the samples of all pairs, each once, in their order. */
  void listPictures(const Plan& plan) {
    entries_.clear();
    for (int row = 0; row < plan.pairs; ++row) {
      entries_.push_back({plan.x[row], 0, {}});
      if (!isAlone(plan, row)) entries_.push_back({plan.y[row], 0, {}});
    }
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.sample < b.sample; });
    const auto equal = [](const Entry& a, const Entry& b) { return a.sample == b.sample; };
    entries_.erase(std::unique(entries_.begin(), entries_.end(), equal), entries_.end());
    for (size_t i = 0; i < entries_.size(); ++i) entries_[i].picture = static_cast<int>(i);
  }

  /** Place of a sample among entries_, or where it would be. */
  std::vector<Entry>::iterator find(uint32_t sample) {
    return std::lower_bound(entries_.begin(), entries_.end(), sample,
                            [](const Entry& entry, uint32_t wanted) { return entry.sample < wanted; });
  }

  /** Decodes a picture into the batch's memory, if it still fits. Its size is not known before, so it lies behind those
   * that were ready earlier. */
  void pack(Entry& entry, ThreadState& worker, PictureBatch& batch) {
    load(entry.sample, worker, worker.x, entry.reason);
    if (!entry.reason.empty()) return;
    const int width = worker.x.width, height = worker.x.height;
    const size_t sizeBytes = packedBytes(width, height), offset = usedBytes_.fetch_add(sizeBytes);
    const int pitch = packedPitch(width), rowBytes = 3 * width;
    batch.pictures[entry.picture] = {offset, width, height, pitch};
    if (offset + sizeBytes > batch.memory.size()) return;
    uint8_t* to = batch.memory.data() + offset;
    for (int y = 0; y < height; ++y, to += pitch) {
      std::memcpy(to, worker.x.rgb.data() + static_cast<size_t>(y) * rowBytes, rowBytes);
      std::memset(to + rowBytes, 0, pitch - rowBytes);
    }
  }

  /** Like fillSlot, with pictures that are decoded. */
  void drawSlot(const Plan& plan, int row, int slot, PictureBatch& batch) {
    const bool same = isAlone(plan, row);
    const Entry &x = *find(plan.x[row]), &y = same ? x : *find(plan.y[row]);
    slots_[slot] = {x.reason, same ? std::string() : y.reason};
    if (!slots_[slot].usable()) return;
    const Entry* const shown[3] = {&x, &x, &y};
    for (int i = 0; i < viewsOf(plan); ++i) {
      const uint32_t v = viewAt(plan, i);
      const int picture = shown[v]->picture;
      const auto& [offset, width, height, pitch] = batch.pictures[picture];
      View& view = batch.views[static_cast<size_t>(i) * plan.pairs + slot];
      view = plan.augment ? drawView(width, height, plan.settings, keyOf(plan, slot, v)) : wholeView(width, height);
      view.picture = picture;
    }
    if (plan.augment) batch.targets[slot] = plan.target[row];
  }

  /** drawSlot of a row whose pictures may not be there yet. On the caller's thread: broken pictures are rare. */
  void packSpare(const Plan& plan, int row, int slot, PictureBatch& batch) {
    for (const uint32_t sample : {plan.x[row], isAlone(plan, row) ? plan.x[row] : plan.y[row]}) {
      const auto place = find(sample);
      if (place != entries_.end() && place->sample == sample) continue;
      const auto entry = entries_.insert(place, {sample, static_cast<int>(batch.pictures.size()), {}});
      batch.pictures.emplace_back();
      pack(*entry, workers_[0], batch);
    }
    drawSlot(plan, row, slot, batch);
  }

  /** Sets `reason` when the picture cannot be used; lack of memory is no property of the picture and goes on. */
  void load(uint32_t sample, ThreadState& worker, Picture& picture, std::string& reason) const {
    reason.clear();
    try {
      pictures_->load(sample, worker.bytes, picture);
    } catch (const Error& error) {
      if (error.code != Code::io && error.code != Code::corruptFile) throw;
      reason = error.message;
      return;
    }
    if (std::min(picture.width, picture.height) < kMinEdge) {
      reason = pictures_->name(sample) + ": expected at least 8 x 8 pixels but found " + std::to_string(picture.width) +
               " x " + std::to_string(picture.height);
    }
  }

  /** Makes every broken slot again from the next usable spare, with make(row, slot): on the caller's thread, for broken
   * pictures are rare. */
  template <class AnyBatch, class Make>
  void replaceBroken(const Plan& plan, AnyBatch& batch, const Make& make) {
    const int rows =
        plan.augment ? static_cast<int>(std::min<size_t>(plan.x.size(), std::numeric_limits<int>::max())) : 0;
    int spare = plan.pairs;  // the first row not yet tried
    for (int slot = 0; slot < plan.pairs; ++slot) {
      int row = slot;
      while (!slots_[slot].usable()) {
        note(plan, row, slot, batch.broken);
        if (spare >= rows) refuse(plan, batch.broken);
        row = spare++;
        make(row, slot);
      }
    }
  }

  /** No spare is left. */
  [[noreturn]] static void refuse(const Plan& plan, const std::vector<Broken>& broken) {
    const std::string& first = broken.front().reason;
    if (!plan.augment) throw Error(Code::corruptFile, first);
    throw Error(Code::corruptFile,
                first + " (no spare pair is left after " + std::to_string(broken.size()) + " broken pictures)");
  }

  /** Lists the broken pictures of a row, each sample once. */
  void note(const Plan& plan, int row, int slot, std::vector<Broken>& list) const {
    const auto add = [&](uint32_t sample, const std::string& reason) {
      const auto known = [&](const Broken& broken) { return broken.sample == sample; };
      if (reason.empty() || std::any_of(list.begin(), list.end(), known)) return;
      list.push_back({sample, reason});
    };
    add(plan.x[row], slots_[slot].x);
    if (!isAlone(plan, row)) add(plan.y[row], slots_[slot].y);
  }

  const std::unique_ptr<const Pictures> pictures_;
  const int size_;
  std::mutex mutex_;                  // one batch at a time: it uses the memory below
  std::vector<ThreadState> workers_;  // one a thread of the pool
  std::vector<Slot> slots_;
  std::vector<Entry> entries_;  // of the pictures of a batch, by sample
  std::atomic<size_t> usedBytes_ = 0;
  Pool pool_;  // last: its threads end before what they use
};

}  // namespace

std::unique_ptr<Source> openPictures(std::unique_ptr<const Pictures> pictures, int size, int threads) {
  if (size < 1 || size > 4096)
    throw Error(Code::invalidConfig, "Expected 1 to 4096 for `size` but received " + std::to_string(size));
  return std::make_unique<BatchSource>(std::move(pictures), size, threads);
}

}  // namespace comface
