// Where a batch comes from. A plan (who, which views, which draws) goes in, normalized float images come out.
// The same plan gives the same bytes whatever the number of threads and whatever ran before.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "augment.h"
#include "core.h"

namespace comface {

struct Plan {
  uint64_t seed = 0;
  uint32_t step = 0;
  int pairs = 0;               // N; rows [pairs, x.size()) of the lists below are spares
  bool augment = true;         // false: one plain view of each x, y unused (embedding)
  std::vector<uint32_t> x, y;  // sample numbers of each pair
  std::vector<float> target;   // |alpha_y - alpha_x| of each pair
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
      images;  // augment: 3N x 3 x size x size in the order x~_1..N, x~_N+1..2N, y~_1..N; else N x 3 x size x size
  std::vector<float> targets;  // N
  std::vector<Broken> broken;  // in slot order; each was replaced by the next usable spare
};

/** Throws invalidInput where a plan does not fit itself or a source of so many samples; every fill() begins with it. */
void checkPlan(const Plan& plan, size_t sampleCount);

class Source : public Counted<Source> {
 public:
  virtual ~Source() = default;
  /** Fills `batch`, reusing its memory. A pair with a broken picture is replaced by the next usable spare of the plan,
   * in slot order; without spares left (or when not augmenting) throws corruptFile naming the first broken picture. */
  virtual void fill(const Plan& plan, Batch& batch) = 0;
  /** Edge of the images in pixels. */
  virtual int size() const = 0;
  virtual uint32_t sampleCount() const = 0;
};

/** JPEG files, one a sample, decoded by `threads` threads of its own. Every picture must be pictureSize x pictureSize
 * (0: any size); another is a broken one. Calls from several threads take turns. */
std::unique_ptr<Source> openFiles(std::vector<std::string> paths, int size, int threads, int pictureSize);

}  // namespace comface
