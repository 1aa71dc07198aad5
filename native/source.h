// Where a batch comes from. A plan (who, which views, which draws) goes in, normalized float images come out, or the
// decoded pictures and what to do with them. The same plan gives the same bytes whatever the number of threads and
// whatever ran before.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "augment.h"
#include "core.h"
#include "pictures.h"

namespace comface {

struct Plan {
  uint64_t seed = 0;
  uint32_t step = 0;
  int pairs = 0;               // N; rows [pairs, x.size()) of the lists below are spares
  bool augment = true;         // false: one plain view of each x, y unused (embedding)
  int views = 3;               // of a pair; augment: 3 (x~_i, x~_N+i, y~_i), 2 (x~_i, y~_i) or 1 (x~_i)
  std::vector<uint32_t> x, y;  // sample numbers of each pair
  std::vector<float> target;   // of each pair, |alpha_y - alpha_x| say
  AugmentSettings settings;

  bool operator==(const Plan&) const = default;
};

/** A picture that could not be used. */
struct Broken {
  uint32_t sample;
  std::string reason;
};

struct Batch {
  std::vector<float>
      images;  // viewsOf(plan) N x 3 x size x size, in the order x~_1..N, x~_N+1..2N, y~_1..N of those that there are
  std::vector<float> targets;  // N
  std::vector<Broken> broken;  // in slot order; each was replaced by the next usable spare
};

/** The same batch for a device that makes the views itself. */
struct PictureBatch {
  std::span<uint8_t> memory;  // the caller's (pinned, say): takes the pictures
  size_t sizeBytes = 0;       // of all pictures; more than memory has: they did not fit, and nothing below is valid
  std::vector<PackedPicture> pictures;  // each of the batch once; a broken one has no pixels
  std::vector<View> views;              // one for each image of Batch::images, in their order
  std::vector<float> targets;           // as in Batch
  std::vector<Broken> broken;           // as in Batch
};

/** Most pictures that a batch of this plan can have. A broken pair leaves at most one good picture behind. */
inline size_t mostPictures(int pairs, size_t rows) { return pairs + rows; }
inline size_t mostPictures(const Plan& plan) {
  return plan.augment ? mostPictures(plan.pairs, plan.x.size()) : plan.pairs;
}

/** Images of each pair. */
inline int viewsOf(const Plan& plan) { return plan.augment ? plan.views : 1; }
/** Which view the `index`th image of a pair is: 0: x~_i, 1: x~_N+i, 2: y~_i. */
inline uint32_t viewAt(const Plan& plan, int index) { return viewsOf(plan) == 2 ? 2 * index : index; }

/** The draws of view `view` of the pair in `slot`. */
inline ViewKey keyOf(const Plan& plan, int slot, uint32_t view) {
  return {plan.seed, plan.step, static_cast<uint32_t>(slot), view};
}

/** Throws invalidInput where a plan does not fit itself or a source of so many samples; every fill() and pictures()
 * begins with it. */
void checkPlan(const Plan& plan, size_t sampleCount);

class Source : public Counted<Source> {
 public:
  virtual ~Source() = default;
  /** Fills `batch`, reusing its memory. A pair with a broken picture is replaced by the next usable spare of the plan,
   * in slot order; without spares left (or when not augmenting) throws corruptFile naming the first broken picture. */
  virtual void fill(const Plan& plan, Batch& batch) = 0;
  /** Decodes only: batch.views of batch.pictures are the images that fill() would make, with the same targets, broken
   * pictures and errors. The pictures lie in any order. Call again with more memory when they did not fit. */
  virtual void pictures(const Plan& plan, PictureBatch& batch) = 0;
  /** Tells the system what a plan will read, where it can be told, so that disks begin. What is wrong with the plan is
   * said by fill() and pictures(). */
  virtual void expect(const Plan& plan) = 0;
  /** That decode and make views. */
  virtual int threads() const = 0;
  /** Edge of the images in pixels. */
  virtual int size() const = 0;
  virtual uint32_t sampleCount() const = 0;
  /** Bytes of each picture of a PictureBatch; 0 where they may be of any size. */
  virtual size_t pictureBytes() const = 0;
};

/** Decodes by `threads` threads of its own. Pictures of another edge than theirs are broken ones. Calls from several
 * threads take turns. */
std::unique_ptr<Source> openPictures(std::unique_ptr<const Pictures> pictures, int size, int threads);

}  // namespace comface
