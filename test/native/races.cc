// What ThreadSanitizer watches: engines, sources and the renderer used at once, as a server would, without Node.
//   races [rounds] [folder for its pictures]
// The plain loops only: libgomp's barriers are not instrumented, so with oneDNN every hand-over would look like a race.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"
#include "faces/face.h"
#include "jpeg.h"
#include "nets.h"
#include "pool.h"

namespace comface {
namespace {

using tests::planOf;

constexpr int kPictures = 12, kSize = 16;

std::vector<std::string> drawPictures(const std::string& folder) {
  std::vector<std::string> paths;
  for (int i = 0; i < kPictures; ++i) paths.push_back(folder + "/" + std::to_string(i) + ".jpg");
  Pool(3).run(kPictures, [&](int i, int) {
    Picture picture{32, 32, std::vector<uint8_t>(32 * 32 * 3)};
    faces::Shot shot{1, static_cast<uint32_t>(i), 0, i % 2};
    shot.changes[0] = {i % faces::kAttributeCount, 2};
    faces::render(shot, 32, picture.rgb.data());
    writeFile(paths[i], encodeJpeg(picture, 90));
  });
  paths.push_back(folder + "/absent.jpg");  // a broken one: its slot is replaced
  return paths;
}

std::atomic<int64_t> done = 0;

/** Steps with the next batch in flight; two engines share `source`. */
void train(const std::shared_ptr<Source>& source, uint64_t seed, int steps) {
  Engine engine("", tests::trainingGraph(kSize));
  engine.initialize(seed);
  for (int step = 1; step <= steps; ++step) {
    const Plan plan = planOf(seed, step, kPictures), next = planOf(seed, step + 1, kPictures);
    engine.step(source, plan, &next, {.step = step});
    ++done;
  }
  // Leaves with a prefetch under way.
}

void embed(const std::shared_ptr<Source>& source, int times) {
  const std::atomic<bool> stopping = false;
  Engine engine("", tests::embeddingGraph(kSize));
  engine.initialize(3);
  for (int i = 0; i < times; ++i) {
    engine.embed(*source, {0, 1, 2, 3, 4}, "embedding", {}, stopping);
    ++done;
  }
}

/** Posts commands from outside and stops in the middle, as dispose() and a worker thread's end do. */
void disposeMidway(const std::shared_ptr<Source>& source, int round) {
  auto engine = std::make_unique<Engine>("", tests::trainingGraph(kSize));
  std::atomic<bool> running = false;
  {
    Worker worker;
    for (int step = 1; step <= 6; ++step) {
      worker.post([&, step] {
        running = true;
        const Plan plan = planOf(9, step, kPictures), next = planOf(9, step + 1, kPictures);
        engine->step(source, plan, &next, {.step = step});
        ++done;
      });
    }
    while (!running) std::this_thread::yield();
    if (round % 2 == 0) worker.post([&] { engine.reset(); });
    std::thread second([&] { worker.stop(); });  // the environment's end and the owner's may both stop it
    second.join();
  }
  engine.reset();
}

void draw(int times) {
  Pool pool(2);
  std::vector<std::vector<uint8_t>> pixels(6, std::vector<uint8_t>(48 * 48 * 3));
  for (int i = 0; i < times; ++i) {
    pool.run(6, [&](int k, int) {
      faces::Shot shot{7, static_cast<uint32_t>(i), static_cast<uint32_t>(k), 0};
      shot.changes[0] = {18, 5};
      faces::render(shot, 48, pixels[k].data());
    });
    ++done;
  }
}

/** A pool whose jobs throw: the lowest index wins, whatever finishes first. */
void failInPool(int times) {
  Pool pool(4);
  for (int i = 0; i < times; ++i) {
    try {
      pool.run(8, [](int k, int) {
        if (k % 3 == 2) throw Error(Code::io, std::to_string(k));
      });
    } catch (const Error& e) {
      if (e.message == "2") ++done;
    }
  }
}

void round(const std::vector<std::string>& paths, int number) {
  const std::shared_ptr<Source> shared = openPictures(picturesInFiles(paths, 0), kSize, 3),
                                other = openPictures(picturesInFiles(paths, 0), kSize, 2);
  std::vector<std::thread> threads;
  threads.emplace_back([&] { train(shared, 1, 6); });
  threads.emplace_back([&] { train(shared, 2, 6); });
  threads.emplace_back([&] { train(other, 3, 6); });
  threads.emplace_back([&] {
    embed(openPictures(picturesInFiles({paths.begin(), paths.begin() + kPictures}, 0), kSize, 2), 4);
  });
  threads.emplace_back([&] { disposeMidway(shared, number); });
  threads.emplace_back([&] { draw(3); });
  threads.emplace_back([&] { failInPool(10); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace comface

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 1;
  const std::vector<std::string> paths = comface::drawPictures(argc > 2 ? argv[2] : ".");
  for (int i = 0; i < rounds; ++i) comface::round(paths, i);
  std::printf("%lld commands\n", static_cast<long long>(comface::done.load()));
}
