// One contender of the cases data/*, in a process of its own: for each line on its input it does one round over the
// whole set and answers with the time that the process computed. bench/loading.mjs starts it.
//   loader reader|turbojpeg|augment|fill SET... [PLANS [crops|simclr [OUT]]]
// SET: folder, edge, jpeg|rgb, id, pictures of each shard with commas between. reader: each picture by Pictures::load,
// as fill() does. turbojpeg: the same files, in memory, by tjDecompress2 alone. augment: the views of PLANS batches of
// pictures that are decoded. fill: the batches. crops: without color. OUT: where fill leaves views and their crops.
#include <sys/resource.h>
#include <turbojpeg.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include "crc.h"
#include "file.h"
#include "rng.h"
#include "source.h"

namespace comface {
namespace {

constexpr int kPairs = 32, kShown = 4;  // of a batch; of which OUT gets the views

/** What one round does, and how much of it. */
struct Work {
  std::function<void()> run;
  double items = 0;
  std::string checked;  // a number that contenders of the same work share
};

struct Options {
  std::string what;
  ShardSet set;
  int plans = 0;
  bool isPlain = false;  // crops and flips only
  std::string out;
};

Options optionsOf(const std::vector<std::string>& args) {
  if (args.size() < 6) throw std::runtime_error("expected what to do and a set");
  Options options;
  options.what = args[0];
  options.set.folder = args[1], options.set.edge = std::stoi(args[2]), options.set.isRaw = args[3] == "rgb";
  options.set.id = std::stoull(args[4], nullptr, 16);
  std::istringstream counts(args[5]);
  for (std::string count; std::getline(counts, count, ',');)
    options.set.counts.push_back(static_cast<uint32_t>(std::stoul(count)));
  if (args.size() > 6) options.plans = std::stoi(args[6]);
  options.isPlain = args.size() > 7 && args[7] == "crops";
  if (args.size() > 8) options.out = args[8];
  return options;
}

/** Samples in an order that no read-ahead of a file foresees, the same for every contender. */
std::vector<uint32_t> shuffled(uint32_t count) {
  std::vector<uint32_t> order(count);
  for (uint32_t i = 0; i < count; ++i) order[i] = i;
  for (uint32_t i = count - 1; i > 0; --i) std::swap(order[i], order[rng::philox(1, rng::kTest, i, 0, 0)[0] % (i + 1)]);
  return order;
}

Work reader(const Options& options) {
  const std::shared_ptr<const Pictures> pictures = picturesInShards(options.set);
  struct Memory {
    std::vector<uint8_t> bytes;
    Picture picture;
  };
  const auto memory = std::make_shared<Memory>();
  const auto order = shuffled(pictures->count());
  Work work;
  uint32_t crc = 0;
  for (const uint32_t sample : order) {
    pictures->load(sample, memory->bytes, memory->picture);
    crc = crc32c(memory->picture.rgb, crc);
    work.items += options.set.isRaw ? static_cast<double>(memory->picture.rgb.size()) : 1;
  }
  work.checked = std::to_string(crc);
  work.run = [=] {
    pictures->expect(order);
    for (const uint32_t sample : order) pictures->load(sample, memory->bytes, memory->picture);
  };
  return work;
}

/** The files of the set's pictures. */
std::vector<std::vector<uint8_t>> filesOf(const ShardSet& set) {
  std::vector<std::vector<uint8_t>> files;
  for (size_t shard = 0; shard < set.counts.size(); ++shard) {
    char name[32];
    std::snprintf(name, sizeof name, "/%05zu.shard", shard);
    const File file(set.folder + name);
    std::vector<uint32_t> table(2 * (size_t{set.counts[shard]} + 1));
    file.read(64, {reinterpret_cast<uint8_t*>(table.data()), table.size() * sizeof(uint32_t)});
    for (uint32_t i = 0; i < set.counts[shard]; ++i) {
      files.emplace_back(table[2 * i + 2] - table[2 * i]);
      file.read(table[2 * i], files.back());
    }
  }
  return files;
}

Work turbojpeg(const Options& options) {
  const auto files = std::make_shared<const std::vector<std::vector<uint8_t>>>(filesOf(options.set));
  const auto order = shuffled(static_cast<uint32_t>(files->size()));
  const int edge = options.set.edge;
  const auto pixels = std::make_shared<std::vector<uint8_t>>(size_t{3} * edge * edge);
  const std::shared_ptr<void> handle(tjInitDecompress(), tjDestroy);
  const auto decode = [=](uint32_t sample) {
    const auto& file = (*files)[sample];
    if (tjDecompress2(handle.get(), file.data(), file.size(), pixels->data(), edge, 0, edge, TJPF_RGB, 0) != 0)
      throw std::runtime_error(tjGetErrorStr2(handle.get()));
  };
  Work work;
  uint32_t crc = 0;
  for (const uint32_t sample : order) {
    decode(sample);
    crc = crc32c(*pixels, crc), work.items += 1;
  }
  work.checked = std::to_string(crc);
  work.run = [=] {
    for (const uint32_t sample : order) decode(sample);
  };
  return work;
}

AugmentSettings settingsOf(const Options& options) {
  AugmentSettings settings;
  if (options.isPlain) settings.jitterProbability = settings.grayscaleProbability = 0;
  return settings;
}

/** Neighbors in the set are pairs: one subject and attribute. */
std::vector<Plan> plansOf(const Options& options, uint32_t count) {
  std::vector<Plan> plans(options.plans);
  const auto order = shuffled(count / 2);
  size_t next = 0;
  for (size_t i = 0; i < plans.size(); ++i) {
    Plan& plan = plans[i];
    plan.seed = 1, plan.step = static_cast<uint32_t>(i + 1), plan.pairs = kPairs;
    plan.settings = settingsOf(options);
    for (int slot = 0; slot < kPairs; ++slot, next = (next + 1) % order.size()) {
      plan.x.push_back(2 * order[next]), plan.y.push_back(2 * order[next] + 1);
      plan.target.push_back(1);
    }
  }
  return plans;
}

Work augment(const Options& options) {
  const auto pictures = picturesInShards(options.set);
  const auto plans = std::make_shared<const std::vector<Plan>>(plansOf(options, pictures->count()));
  struct Memory {
    std::vector<Picture> pictures;
    AugmentScratch scratch;
    std::vector<float> views;
  };
  const auto memory = std::make_shared<Memory>();
  memory->pictures.resize(pictures->count());
  std::vector<uint8_t> bytes;
  for (uint32_t i = 0; i < pictures->count(); ++i) pictures->load(i, bytes, memory->pictures[i]);
  const size_t viewCount = size_t{3} * options.set.edge * options.set.edge;
  memory->views.resize(3 * kPairs * viewCount);
  Work work;
  work.items = 3.0 * kPairs * options.plans;
  const auto views = [=, edge = options.set.edge](const Plan& plan) {
    for (int slot = 0; slot < kPairs; ++slot) {
      for (uint32_t v = 0; v < 3; ++v) {
        augmentView(memory->pictures[v < 2 ? plan.x[slot] : plan.y[slot]], edge, plan.settings, keyOf(plan, slot, v),
                    memory->scratch, {memory->views.data() + (size_t{v} * kPairs + slot) * viewCount, viewCount});
      }
    }
  };
  uint32_t crc = 0;
  for (const Plan& plan : *plans) {
    views(plan);
    crc = crc32c({reinterpret_cast<const uint8_t*>(memory->views.data()), memory->views.size() * sizeof(float)}, crc);
  }
  work.checked = std::to_string(crc);
  work.run = [=] {
    for (const Plan& plan : *plans) views(plan);
  };
  return work;
}

/** crops.json: for each pair its samples x and y and three crops [left, top, width, height, isFlipped]; views.bin: the
 * three views of the first kShown pairs, floats. */
void show(const Options& options, const std::vector<Plan>& plans, const Batch& first) {
  std::ofstream crops(options.out + "/crops.json"), views(options.out + "/views.bin", std::ios::binary);
  const int edge = options.set.edge;
  crops << "[";
  for (const Plan& plan : plans) {
    for (int slot = 0; slot < plan.pairs; ++slot) {
      crops << (&plan == &plans[0] && slot == 0 ? "\n" : ",\n") << "[" << plan.x[slot] << "," << plan.y[slot];
      for (uint32_t v = 0; v < 3; ++v) {
        const View view = drawView(edge, edge, plan.settings, keyOf(plan, slot, v));
        crops << ",[" << view.left << "," << view.top << "," << view.width << "," << view.height << ","
              << view.isFlipped << "]";
      }
      crops << "]";
    }
  }
  crops << "\n]\n";
  const size_t viewCount = size_t{3} * edge * edge;
  for (int slot = 0; slot < kShown; ++slot) {
    for (size_t v = 0; v < 3; ++v)
      views.write(reinterpret_cast<const char*>(first.images.data() + (v * kPairs + slot) * viewCount),
                  static_cast<std::streamsize>(viewCount * sizeof(float)));
  }
  if (!crops.flush() || !views.flush()) throw std::runtime_error("cannot write to " + options.out);
}

Work fill(const Options& options) {
  const std::shared_ptr<Source> source = openPictures(picturesInShards(options.set), options.set.edge, 1);
  const auto plans = std::make_shared<const std::vector<Plan>>(plansOf(options, source->sampleCount()));
  const auto batch = std::make_shared<Batch>();
  source->fill((*plans)[0], *batch);
  if (!batch->broken.empty()) throw std::runtime_error(batch->broken[0].reason);
  if (!options.out.empty()) show(options, *plans, *batch);
  Work work;
  work.items = 3.0 * kPairs * options.plans;
  uint32_t crc = 0;
  for (const Plan& plan : *plans) {
    source->fill(plan, *batch);
    crc = crc32c({reinterpret_cast<const uint8_t*>(batch->images.data()), batch->images.size() * sizeof(float)}, crc);
  }
  work.checked = std::to_string(crc);
  work.run = [=] {
    for (const Plan& plan : *plans) source->fill(plan, *batch);
  };
  return work;
}

double processMs() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto ms = [](const timeval& time) {
    return 1e3 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_usec);
  };
  return ms(usage.ru_utime) + ms(usage.ru_stime);
}

void serve(const Work& work) {
  std::printf("{\"items\":%.0f,\"checked\":\"%s\"}\n", work.items, work.checked.c_str());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const auto start = std::chrono::steady_clock::now();
    const double before = processMs();
    work.run();
    const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start;
    std::printf("{\"cpuMs\":%.4f,\"wallMs\":%.4f}\n", processMs() - before, wall.count());
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace comface

int main(int count, char** arguments) {
  using namespace comface;
  try {
    const Options options = optionsOf({arguments + 1, arguments + count});
    const std::pair<const char*, Work (*)(const Options&)> all[] = {
        {"reader", reader}, {"turbojpeg", turbojpeg}, {"augment", augment}, {"fill", fill}};
    for (const auto& [name, make] : all) {
      if (options.what != name) continue;
      serve(make(options));
      return 0;
    }
    throw std::runtime_error("there is no " + options.what);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 1;
}
