// Fuzzes the reader of shards: the bytes are a table and pictures behind a header that fits the set, with sums that are
// right where the first byte says so, for else nothing gets past them. Every byte of every picture is read.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "bytes.h"
#include "crc.h"
#include "pictures.h"

namespace {

comface::fuzz::Tally tally;

/** A file in memory under the name that a set of one shard has for it. */
struct Place {
  std::string folder = "/dev/shm/comface-fuzz-" + std::to_string(getpid());
  int file;
  Place() {
    std::filesystem::create_directories(folder);
    file = open((folder + "/00000.shard").c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    comface::fuzz::require(file >= 0, "a file in memory");
  }
  ~Place() { std::filesystem::remove_all(folder); }
};

template <class T>
void put(std::vector<uint8_t>& bytes, size_t at, T value) {
  if (at + sizeof value <= bytes.size()) std::memcpy(bytes.data() + at, &value, sizeof value);
}

uint32_t wordAt(const std::vector<uint8_t>& bytes, size_t at) {
  uint32_t word = 0;
  if (at + sizeof word <= bytes.size()) std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comface;
  static const Place place;
  if (size == 0) return -1;
  const uint8_t flags = data[0];
  ShardSet set;
  set.folder = place.folder, set.edge = 8, set.isRaw = flags & 1, set.id = 77;
  set.counts = {1u + (flags >> 1 & 3)};
  const uint32_t count = set.counts[0];
  constexpr size_t kHeader = 64;
  const size_t begin = kHeader + 8 * (count + 1);
  std::vector<uint8_t> bytes(kHeader);
  bytes.insert(bytes.end(), data + 1, data + size);
  std::memcpy(bytes.data(), "CFSHARD1", 8);
  put(bytes, 12, uint32_t{set.isRaw}), put(bytes, 16, uint32_t{8}), put(bytes, 20, count), put(bytes, 32, set.id);
  if ((flags & 9) == 9) bytes.resize(begin + 192 * count);
  if (flags & 8) {  // a table that fits: raw pictures as they lie, others all in the first
    const auto end = static_cast<uint32_t>(bytes.size());
    for (uint32_t i = 0; i <= count; ++i)
      put(bytes, kHeader + 8 * i,
          i == 0      ? static_cast<uint32_t>(begin)
          : set.isRaw ? static_cast<uint32_t>(begin + 192 * i)
                      : end);
  }
  if (flags & 16) {
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t from = wordAt(bytes, kHeader + 8 * i), to = wordAt(bytes, kHeader + 8 * (i + 1));
      if (from <= to && to <= bytes.size()) put(bytes, kHeader + 8 * i + 4, crc32c({bytes.data() + from, to - from}));
    }
  }
  if ((flags & 32) == 0 && bytes.size() >= begin) put(bytes, 8, crc32c({bytes.data() + 12, begin - 12}));
  fuzz::require(ftruncate(place.file, 0) == 0 &&
                    pwrite(place.file, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
                "a write");
  const auto pictures = picturesInShards(set);
  Picture picture;
  std::vector<uint8_t> scratch;
  const std::vector<uint32_t> all = {0, count - 1};
  pictures->expect(all);
  for (uint32_t i = 0; i < count; ++i) {
    try {
      pictures->load(i, scratch, picture);
      fuzz::require(picture.width == 8 && picture.height == 8 && picture.rgb.size() == 192, "8 x 8 pixels");
      double sum = 0;
      for (const uint8_t value : picture.rgb) sum += value;
      fuzz::consume(sum);
      ++tally.accepted;
    } catch (const Error& e) {
      fuzz::require(e.code == Code::corruptFile, "corruptFile");
    }
  }
  return 0;
}
