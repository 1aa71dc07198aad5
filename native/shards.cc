// Pictures in shards (docs/data.md). A shard is opened, and its table read and checked, when its first picture is asked
// for. Nothing in a shard is believed before it is checked: sizes against the file, bytes against their CRC.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>
#include <mutex>

#include "core.h"
#include "crc.h"
#include "file.h"
#include "jpeg.h"
#include "pictures.h"

namespace comface {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little endian");

constexpr char kMagic[8] = {'C', 'F', 'S', 'H', 'A', 'R', 'D', '1'};

struct Header {
  char magic[8];
  uint32_t crc;  // of what follows in the header, and of the table
  uint32_t isRaw, edge, count;
  uint64_t first, id;  // the set's number of the first picture; the set
  uint8_t reserved[24];
};
static_assert(sizeof(Header) == 64);

/** Of a picture; a last one tells where the file ends. */
struct Place {
  uint32_t offset, crc;
};

std::string pathOf(const ShardSet& set, size_t shard) {
  std::string digits = std::to_string(shard);
  if (digits.size() < 5) digits.insert(0, 5 - digits.size(), '0');
  return set.folder + "/" + digits + ".shard";
}

class Shard {
 public:
  Shard(const ShardSet& set, size_t index, uint64_t first) : file_(pathOf(set, index)) {
    const uint32_t count = set.counts[index];
    const uint64_t tableBytes = (uint64_t{count} + 1) * sizeof(Place);
    if (file_.sizeBytes() < sizeof(Header) + tableBytes)
      refuse("expected a table of " + std::to_string(count) + " pictures but the file has " +
             std::to_string(file_.sizeBytes()) + " bytes");
    Header header;
    file_.read(0, {reinterpret_cast<uint8_t*>(&header), sizeof header});
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) refuse("it does not begin like a shard of version 1");
    places_.resize(uint64_t{count} + 1);
    const std::span<uint8_t> table(reinterpret_cast<uint8_t*>(places_.data()), tableBytes);
    file_.read(sizeof header, table);
    constexpr size_t kUnchecked = offsetof(Header, isRaw);
    const std::span<const uint8_t> rest(reinterpret_cast<const uint8_t*>(&header) + kUnchecked,
                                        sizeof header - kUnchecked);
    if (crc32c(table, crc32c(rest)) != header.crc) refuse("its header or table is damaged");
    if (header.id != set.id) refuse("it belongs to another set");
    if (header.count != count || header.first != first || header.isRaw != (set.isRaw ? 1 : 0) ||
        header.edge != static_cast<uint32_t>(set.edge))
      refuse("it is not what the set says of it");
    checkPlaces(set, sizeof header + tableBytes);
  }

  const File& file() const { return file_; }
  uint64_t offset(uint32_t index) const { return places_[index].offset; }
  size_t sizeBytes(uint32_t index) const { return places_[index + 1].offset - places_[index].offset; }
  uint32_t crc(uint32_t index) const { return places_[index].crc; }

 private:
  [[noreturn]] void refuse(const std::string& why) const { throw Error(Code::corruptFile, file_.path() + ": " + why); }

  void checkPlaces(const ShardSet& set, uint64_t begin) const {
    const uint64_t rawBytes = uint64_t{3} * set.edge * set.edge;
    uint64_t last = begin;
    for (const auto& [offset, crc] : places_) {
      const bool isFirst = &offset == &places_[0].offset;
      if (offset < last || (isFirst && offset != begin) || (!isFirst && set.isRaw && offset - last != rawBytes))
        refuse("its table has a picture at byte " + std::to_string(offset) + " after one at " + std::to_string(last));
      last = offset;
    }
    if (last != file_.sizeBytes())
      refuse("expected " + std::to_string(last) + " bytes but the file has " + std::to_string(file_.sizeBytes()));
  }

  File file_;
  std::vector<Place> places_;
};

class ShardPictures final : public Pictures {
 public:
  explicit ShardPictures(ShardSet set) : set_(std::move(set)), shards_(set_.counts.size()) {
    firsts_.push_back(0);
    for (const uint32_t count : set_.counts) firsts_.push_back(firsts_.back() + count);
  }
  uint32_t count() const override { return static_cast<uint32_t>(firsts_.back()); }
  int edge() const override { return set_.edge; }
  std::string name(uint32_t sample) const override {
    const auto [shard, index] = placeOf(sample);
    return pathOf(set_, shard) + ", picture " + std::to_string(index);
  }

  void load(uint32_t sample, std::vector<uint8_t>& bytes, Picture& picture) const override {
    const auto [place, index] = placeOf(sample);
    const std::shared_ptr<const Shard> shard = open(place);
    std::vector<uint8_t>& to = set_.isRaw ? picture.rgb : bytes;
    to.resize(shard->sizeBytes(index));
    shard->file().read(shard->offset(index), to);
    if (crc32c(to) != shard->crc(index)) throw Error(Code::corruptFile, name(sample) + ": its bytes are damaged");
    if (!set_.isRaw) return decodeJpeg(bytes, name(sample), picture, set_.edge);
    picture.width = picture.height = set_.edge;
  }

  void expect(std::span<const uint32_t> samples) const override {
    for (const uint32_t sample : samples) {
      const auto [place, index] = placeOf(sample);
      try {
        const std::shared_ptr<const Shard> shard = open(place);
        shard->file().expect(shard->offset(index), shard->sizeBytes(index));
      } catch (const Error&) {  // whoever loads it is told
      }
    }
  }

 private:
  struct At {
    size_t shard;
    uint32_t index;
  };
  At placeOf(uint32_t sample) const {
    const auto after = std::upper_bound(firsts_.begin(), firsts_.end(), uint64_t{sample});
    const size_t shard = static_cast<size_t>(after - firsts_.begin()) - 1;
    return {shard, static_cast<uint32_t>(sample - firsts_[shard])};
  }

  std::shared_ptr<const Shard> open(size_t index) const {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<const Shard>& shard = shards_[index];
    if (!shard) shard = std::make_shared<const Shard>(set_, index, firsts_[index]);
    return shard;
  }

  const ShardSet set_;
  std::vector<uint64_t> firsts_;  // of each shard, then the number of all
  mutable std::mutex mutex_;      // guards the next
  mutable std::vector<std::shared_ptr<const Shard>> shards_;
};

}  // namespace

std::unique_ptr<Pictures> picturesInShards(ShardSet set) {
  const auto invalid = [](const std::string& rule, const char* name, uint64_t received) {
    throw Error(Code::invalidInput,
                "Expected " + rule + " for `" + name + "` but received " + std::to_string(received));
  };
  if (set.edge < 8 || set.edge > 65535) invalid("8 to 65535", "edge", static_cast<uint64_t>(std::max(set.edge, 0)));
  uint64_t count = 0;
  for (const uint32_t each : set.counts) count += each;
  if (count == 0 || count > std::numeric_limits<uint32_t>::max()) invalid("1 to 4294967295 pictures", "counts", count);
  return std::make_unique<ShardPictures>(std::move(set));
}

}  // namespace comface
