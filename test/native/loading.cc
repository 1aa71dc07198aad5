// What the loader promises of itself, without Node:
//   loading views        every instruction set makes the same bits of a view
//   loading faces        every instruction set draws the same pixels
//   loading crc          the sums with and without the processor's instruction are the same
//   loading allocations FOLDER EDGE jpeg|rgb ID COUNTS
//                        batches of a set of shards ask for no memory once they have had it; decoding asks for as much
//                        as libjpeg-turbo does by itself
// Says what it found; ends with 1 where that is something else.
#include <turbojpeg.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>

#include "crc.h"
#include "faces/face.h"
#include "file.h"
#include "formulas.h"
#include "source.h"
#include "views/views.h"

namespace {

std::atomic<int64_t> asked = 0;

bool refuses(const void*) { return ++asked, false; }

}  // namespace

#include "mallocs.h"

namespace comface {
namespace {

using Make = void (*)(const views::Task&);

/** One view by these loops, from memory that holds what another left. */
std::vector<float> viewBy(Make make, const Picture& picture, const View& view, int size, std::mt19937& random) {
  const size_t edge = size, pitch = size_t{3} * picture.width;
  const auto axisOf = [&](int from, double gain, std::vector<int>& spans, std::vector<float>& weights) {
    const double scale = static_cast<double>(from) / size;
    views::Axis axis{nullptr, nullptr, 2 * static_cast<int>(std::max(1.0, scale) + 1) + 1, 0};
    spans.resize(2 * edge), weights.resize(edge * axis.capacity);
    for (int i = 0; i < size; ++i) {
      const formulas::Triangle filter(i, from, scale);
      spans[2 * i] = filter.first, spans[2 * i + 1] = filter.count;
      for (int k = 0; k < filter.count; ++k)
        weights[i * axis.capacity + k] = static_cast<float>(gain * filter.at(k) / filter.total());
      axis.most = std::max(axis.most, filter.count);
    }
    axis.spans = spans.data(), axis.weights = weights.data();
    return axis;
  };
  std::vector<int> spansX, spansY, places(views::placeCount(size));
  std::vector<float> weightsX, weightsY, out(3 * edge * edge), memory(views::memoryCount(view.width, size));
  for (float& value : memory) value = static_cast<float>(random());
  views::Task task{};
  task.corner = picture.rgb.data() + view.top * pitch + size_t{3} * view.left;
  task.pitch = pitch, task.view = &view, task.size = size;
  task.rows = axisOf(view.height, 1.0 / 255, spansY, weightsY), task.columns = axisOf(view.width, 1, spansX, weightsX);
  task.normalization = normalizationOf({});
  task.red = out.data(), task.green = task.red + edge * edge, task.blue = task.green + edge * edge;
  task.memory = memory.data(), task.places = places.data();
  make(task);
  return out;
}

bool checkViews() {
  if (!__builtin_cpu_supports("avx2")) return std::printf("only one instruction set here\n"), true;
  std::mt19937 random(1);
  int same = 0, count = 0;
  for (const int size : {1, 7, 8, 9, 16, 33, 64, 100, 224}) {
    for (int i = 0; i < 60; ++i, ++count) {
      const int width = 8 + static_cast<int>(random() % (i % 2 ? 300 : 60)),
                height = 8 + static_cast<int>(random() % 300);
      Picture picture{width, height, std::vector<uint8_t>(size_t{3} * width * height)};
      for (uint8_t& byte : picture.rgb) byte = static_cast<uint8_t>(random());
      AugmentSettings settings;
      settings.jitterProbability = i % 3 ? 1 : 0;
      const View view = drawView(width, height, settings, {2, static_cast<uint32_t>(i), 3, 1});
      const auto plain = viewBy(views::baseline::make, picture, view, size, random);
      const auto wide = viewBy(views::avx2::make, picture, view, size, random);
      same += std::memcmp(plain.data(), wide.data(), plain.size() * sizeof(float)) == 0;
    }
  }
  std::printf("%d of %d views have the same bits\n", same, count);
  return same == count;
}

bool checkCrc() {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(20000);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  int same = 0;
  constexpr int kCount = 20000;
  for (int i = 0; i < kCount; ++i) {
    const size_t from = random() % 64, length = random() % (i % 2 ? 100 : bytes.size() - 64),
                 cut = length ? random() % length : 0;
    const std::span<const uint8_t> part(bytes.data() + from, length);
    const uint32_t before = i % 3 ? 0 : static_cast<uint32_t>(random()), whole = crc32cByTable(part, before);
    same += crc32c(part, before) == whole && crc32c(part.subspan(cut), crc32c(part.first(cut), before)) == whole;
  }
  // RFC 3720, B.4: 32 zeros, and 0 to 31.
  uint8_t numbers[32], zeros[32] = {};
  for (uint8_t i = 0; i < 32; ++i) numbers[i] = i;
  const bool isRight = crc32c(zeros) == 0x8a9136aa && crc32c(numbers) == 0x46dd794e;
  std::printf("%d of %d sums agree, %s\n", same, kCount,
              isRight ? "and those of RFC 3720" : "but not those of RFC 3720");
  return same == kCount && isRight;
}

ShardSet setOf(char** words) {
  ShardSet set{words[0], {}, std::atoi(words[1]), std::string(words[2]) == "rgb", std::strtoull(words[3], nullptr, 16)};
  std::istringstream counts(words[4]);
  for (std::string count; std::getline(counts, count, ',');)
    set.counts.push_back(static_cast<uint32_t>(std::atoi(count.c_str())));
  return set;
}

/** What libjpeg-turbo asks for to decode one picture of this size, with a decoder of its own. */
int64_t askedToDecode(int edge) {
  Picture picture{edge, edge, std::vector<uint8_t>(size_t{3} * edge * edge)};
  std::vector<uint8_t> file(tjBufSize(edge, edge, TJSAMP_420));
  unsigned char* data = file.data();
  unsigned long length = file.size();
  const tjhandle encoder = tjInitCompress();
  tjCompress2(encoder, picture.rgb.data(), edge, 0, edge, TJPF_RGB, &data, &length, TJSAMP_420, 90, TJFLAG_NOREALLOC);
  tjDestroy(encoder);
  const int64_t before = asked;
  const tjhandle decoder = tjInitDecompress();
  int width, height, subsampling, colors;
  tjDecompressHeader3(decoder, data, length, &width, &height, &subsampling, &colors);
  tjDecompress2(decoder, data, length, picture.rgb.data(), edge, 0, edge, TJPF_RGB, TJFLAG_LIMITSCANS);
  tjDestroy(decoder);
  return asked - before;
}

bool checkAllocations(char** words) {
  const ShardSet set = setOf(words);
  constexpr int kPairs = 8, kBatches = 20;
  // One thread: of several, one may get its largest picture late.
  const auto source = openPictures(picturesInShards(set), set.edge, 1);
  const uint32_t count = source->sampleCount();
  Batch batch;
  std::vector<Plan> plans(kBatches);
  for (int i = 0; i < kBatches; ++i) {
    Plan& plan = plans[i];
    plan.seed = 1, plan.step = static_cast<uint32_t>(i), plan.pairs = kPairs, plan.target.resize(kPairs);
    for (int k = 0; k < kPairs; ++k)
      plan.x.push_back((i * 31 + k * 2) % count), plan.y.push_back((i * 31 + k * 2 + 1) % count);
  }
  for (const Plan& plan : plans) source->fill(plan, batch);  // it has then had the largest of everything
  const int64_t before = asked;
  for (const Plan& plan : plans) source->fill(plan, batch);
  const int64_t loader = asked - before, pictures = int64_t{2} * kPairs * kBatches;
  const int64_t library = set.isRaw ? 0 : pictures * askedToDecode(set.edge);
  std::printf("%lld allocations for %lld pictures, %lld of them libjpeg-turbo's\n", static_cast<long long>(loader),
              static_cast<long long>(pictures), static_cast<long long>(library));
  return loader == library && batch.broken.empty();
}

/** Each attribute of somebody else, far to both sides. */
bool checkFaces() {
  if (!__builtin_cpu_supports("avx2")) return std::printf("only one instruction set here\n"), true;
  int differing = 0, faces = 0;
  for (const int size : {32, 64, 131}) {
    std::vector<uint8_t> plain(size_t{3} * size * size), wide(plain.size());
    for (int attribute = -1; attribute < faces::kAttributeCount; ++attribute, ++faces) {
      const auto who = static_cast<uint32_t>(7 * attribute + size);
      faces::Shot shot{3, who, who % 5, attribute & 1};
      shot.changes[0] = {attribute, attribute % 2 == 0 ? 5.0f : -5.0f};
      if (attribute % 3 == 0) shot.changes[1] = {2, 3.0f}, shot.frame = 7 * (attribute + 1);
      faces::baseline::render(shot, size, plain.data());
      faces::avx2::render(shot, size, wide.data());
      std::array<float, size_t{2} * faces::kLandmarkCount> here, there;
      faces::baseline::locate(shot, size, here.data());
      faces::avx2::locate(shot, size, there.data());
      differing += plain != wide || here != there;
    }
  }
  std::printf("%d of %d faces differ\n", differing, faces);
  return differing == 0;
}

}  // namespace
}  // namespace comface

int main(int count, char** words) {
  const std::string what = count > 1 ? words[1] : "";
  try {
    if (what == "views") return comface::checkViews() ? 0 : 1;
    if (what == "faces") return comface::checkFaces() ? 0 : 1;
    if (what == "crc") return comface::checkCrc() ? 0 : 1;
    if (what == "allocations" && count == 7) return comface::checkAllocations(words + 2) ? 0 : 1;
    std::fprintf(stderr, "expected views, faces, crc or allocations SET\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 2;
}
