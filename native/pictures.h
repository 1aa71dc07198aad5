// Where pictures come from: files of their own, or shards that hold thousands. A sample number is an index.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "augment.h"

namespace comface {

/** Read by several threads at once. */
class Pictures {
 public:
  virtual ~Pictures() = default;
  virtual uint32_t count() const = 0;
  /** Pixels of every picture each way; 0: any. */
  virtual int edge() const = 0;
  /** Fills `picture`, reusing its memory and that of `bytes`. Throws io or corruptFile naming the picture. */
  virtual void load(uint32_t sample, std::vector<uint8_t>& bytes, Picture& picture) const = 0;
  /** For messages. */
  virtual std::string name(uint32_t sample) const = 0;
  /** These will be loaded soon. */
  virtual void expect(std::span<const uint32_t> samples) const { static_cast<void>(samples); }
};

/** JPEG files, one a sample. */
std::unique_ptr<Pictures> picturesInFiles(std::vector<std::string> paths, int edge);

/** What a set of shards has in common; docs/data.md has the format. */
struct ShardSet {
  std::string folder;
  std::vector<uint32_t> counts;  // pictures of each shard
  int edge = 0;                  // pixels of each picture, each way
  bool isRaw = false;            // RGB as it is, else JPEG
  uint64_t id = 0;               // that each of its shards has
};
std::unique_ptr<Pictures> picturesInShards(ShardSet set);
/** Those of several sets, one after the other; their pictures are of one size. */
std::unique_ptr<Pictures> picturesInShards(std::vector<ShardSet> sets);

}  // namespace comface
