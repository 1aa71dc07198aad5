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

constexpr uint32_t kMostPictureBytes = 256'000'000;  // as of a picture in a file of its own

/** Of a picture; a last one tells where the file ends. */
struct Place {
  uint32_t offset, crc;
};

std::string pathOf(const ShardSet& set, size_t shard) {
  std::string digits = std::to_string(shard);
  if (digits.size() < 5) digits.insert(0, 5 - digits.size(), '0');
  return set.folder + "/" + digits + ".shard";
}

/** Where the pictures of a shard lie, checked. */
class Table {
 public:
  Table(const File& file, const ShardSet& set, size_t index, uint64_t first) : fileBytes_(file.sizeBytes()) {
    const auto refuse = [&](const std::string& why) { throw Error(Code::corruptFile, file.path() + ": " + why); };
    const uint32_t count = set.counts[index];
    const uint64_t tableBytes = (uint64_t{count} + 1) * sizeof(Place);
    if (file.sizeBytes() > std::numeric_limits<uint32_t>::max())
      refuse("expected less than 4 GiB but the file has " + std::to_string(file.sizeBytes()) + " bytes");
    if (file.sizeBytes() < sizeof(Header) + tableBytes)
      refuse("expected a table of " + std::to_string(count) + " pictures but the file has " +
             std::to_string(file.sizeBytes()) + " bytes");
    Header header;
    file.read(0, {reinterpret_cast<uint8_t*>(&header), sizeof header});
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) refuse("it does not begin like a shard of version 1");
    places_.resize(uint64_t{count} + 1);
    const std::span<uint8_t> table(reinterpret_cast<uint8_t*>(places_.data()), tableBytes);
    file.read(sizeof header, table);
    constexpr size_t kUnchecked = offsetof(Header, isRaw);
    const std::span<const uint8_t> rest(reinterpret_cast<const uint8_t*>(&header) + kUnchecked,
                                        sizeof header - kUnchecked);
    if (crc32c(table, crc32c(rest)) != header.crc) refuse("its header or table is damaged");
    if (header.id != set.id) refuse("it belongs to another set");
    if (header.count != count || header.first != first || header.isRaw != (set.isRaw ? 1 : 0) ||
        header.edge != static_cast<uint32_t>(set.edge))
      refuse("it is not what the set says of it");
    if (const std::string why = wrongPlace(set, sizeof header + tableBytes); !why.empty()) refuse(why);
  }

  /** Of the file that it was read from. */
  uint64_t fileBytes() const { return fileBytes_; }
  uint64_t offset(uint32_t index) const { return places_[index].offset; }
  size_t sizeBytes(uint32_t index) const { return places_[index + 1].offset - places_[index].offset; }
  uint32_t crc(uint32_t index) const { return places_[index].crc; }

 private:
  /** What is wrong with the places; empty if nothing is. */
  std::string wrongPlace(const ShardSet& set, uint64_t begin) const {
    const uint64_t rawBytes = uint64_t{3} * set.edge * set.edge;
    uint64_t last = begin;
    for (const Place& place : places_) {
      const bool isFirst = &place == &places_[0];
      if (place.offset < last || (isFirst && place.offset != begin) ||
          (!isFirst && set.isRaw && place.offset - last != rawBytes))
        return "its table has a picture at byte " + std::to_string(place.offset) + " after one at " +
               std::to_string(last);
      if (!isFirst && place.offset - last > kMostPictureBytes)
        return "its table has a picture of " + std::to_string(place.offset - last) + " bytes";
      last = place.offset;
    }
    if (last == fileBytes_) return "";
    return "expected " + std::to_string(last) + " bytes but the file has " + std::to_string(fileBytes_);
  }

  uint64_t fileBytes_;
  std::vector<Place> places_;
};

/** Files that are open at once: a process may have few, and a set has thousands. */
constexpr size_t kMostOpen = 256;

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
    const auto [file, table] = open(place);
    std::vector<uint8_t>& to = set_.isRaw ? picture.rgb : bytes;
    to.resize(table->sizeBytes(index));
    file->read(table->offset(index), to);
    if (crc32c(to) != table->crc(index)) throw Error(Code::corruptFile, name(sample) + ": its bytes are damaged");
    if (!set_.isRaw)
      return decodeJpeg(
          bytes, [this, sample] { return name(sample); }, picture, set_.edge);
    picture.width = picture.height = set_.edge;
  }

  void expect(std::span<const uint32_t> samples) const override {
    for (const uint32_t sample : samples) {
      const auto [place, index] = placeOf(sample);
      try {
        const auto [file, table] = open(place);
        file->expect(table->offset(index), table->sizeBytes(index));
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

  struct Shard {
    std::shared_ptr<const File> file;    // while it is open
    std::shared_ptr<const Table> table;  // once it has been
  };

  Shard open(size_t index) const {
    const std::lock_guard lock(mutex_);
    Shard& shard = shards_[index];
    if (shard.file) return shard;
    if (openCount_ == kMostOpen) closeOne();
    auto file = std::make_shared<const File>(pathOf(set_, index));
    if (!shard.table) shard.table = std::make_shared<const Table>(*file, set_, index, firsts_[index]);
    if (file->sizeBytes() != shard.table->fileBytes())
      throw Error(Code::corruptFile, file->path() + ": it has changed since it was opened first");
    shard.file = std::move(file);
    ++openCount_;
    return shard;
  }

  /** In turn; who is reading it keeps it until that is done. */
  void closeOne() const {
    while (!shards_[next_].file) next_ = (next_ + 1) % shards_.size();
    shards_[next_].file.reset();
    next_ = (next_ + 1) % shards_.size();
    --openCount_;
  }

  const ShardSet set_;
  std::vector<uint64_t> firsts_;  // of each shard, then the number of all
  mutable std::mutex mutex_;      // guards the rest
  mutable std::vector<Shard> shards_;
  mutable size_t openCount_ = 0, next_ = 0;
};

/** Pictures of several sets, numbered through. */
class JoinedPictures final : public Pictures {
 public:
  explicit JoinedPictures(std::vector<std::unique_ptr<Pictures>> parts) : parts_(std::move(parts)) {
    firsts_.push_back(0);
    for (const auto& part : parts_) firsts_.push_back(firsts_.back() + part->count());
  }
  uint32_t count() const override { return static_cast<uint32_t>(firsts_.back()); }
  int edge() const override { return parts_[0]->edge(); }
  std::string name(uint32_t sample) const override {
    const auto [part, index] = placeOf(sample);
    return parts_[part]->name(index);
  }
  void load(uint32_t sample, std::vector<uint8_t>& bytes, Picture& picture) const override {
    const auto [part, index] = placeOf(sample);
    parts_[part]->load(index, bytes, picture);
  }
  void expect(std::span<const uint32_t> samples) const override {
    for (const uint32_t sample : samples) {
      const auto [part, index] = placeOf(sample);
      parts_[part]->expect({&index, 1});
    }
  }

 private:
  struct At {
    size_t part;
    uint32_t index;
  };
  At placeOf(uint32_t sample) const {
    const auto after = std::upper_bound(firsts_.begin(), firsts_.end(), uint64_t{sample});
    const size_t part = static_cast<size_t>(after - firsts_.begin()) - 1;
    return {part, static_cast<uint32_t>(sample - firsts_[part])};
  }

  const std::vector<std::unique_ptr<Pictures>> parts_;
  std::vector<uint64_t> firsts_;  // of each part, then the number of all
};

void invalid(const std::string& rule, const char* name, uint64_t received) {
  throw Error(Code::invalidInput, "Expected " + rule + " for `" + name + "` but received " + std::to_string(received));
}

}  // namespace

std::unique_ptr<Pictures> picturesInShards(ShardSet set) {
  if (set.edge < 8 || set.edge > 65535) invalid("8 to 65535", "edge", static_cast<uint64_t>(std::max(set.edge, 0)));
  uint64_t count = 0;
  for (const uint32_t each : set.counts) count += each;
  if (count == 0 || count > std::numeric_limits<uint32_t>::max()) invalid("1 to 4294967295 pictures", "counts", count);
  return std::make_unique<ShardPictures>(std::move(set));
}

std::unique_ptr<Pictures> picturesInShards(std::vector<ShardSet> sets) {
  if (sets.empty()) invalid("at least one set", "sets", 0);
  std::vector<std::unique_ptr<Pictures>> parts;
  uint64_t count = 0;
  for (ShardSet& set : sets) {
    parts.push_back(picturesInShards(std::move(set)));
    count += parts.back()->count();
    if (parts.back()->edge() != parts[0]->edge())
      invalid(std::to_string(parts[0]->edge()) + ", as in the first set,", "size",
              static_cast<uint64_t>(parts.back()->edge()));
  }
  if (count > std::numeric_limits<uint32_t>::max()) invalid("1 to 4294967295 pictures", "counts", count);
  if (parts.size() == 1) return std::move(parts[0]);
  return std::make_unique<JoinedPictures>(std::move(parts));
}

}  // namespace comface
