// Makes the k-th allocation of a call fail, for every k: once, and that one with all that follow. The call must answer
// with a comface::Error outOfMemory or succeed; afterwards the engine must give the same bits as one that never failed.
//   allocation <open|create|step|state|embed> <backend library, '' for the plain loops> <folder for its pictures>
//   <once|always> <first k> [oneDNN]
// Counted are malloc, calloc, realloc, the aligned ones and with them operator new, mmap and pthread_create, in every
// thread, whoever calls. Not counted: the calls of libgomp and of the loader, which end the process when they fail,
// whatever we do. It writes "k" before each try: when the process dies, the last one says where.
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "abi.h"
#include "engine.h"
#include "jpeg.h"
#include "nets.h"

namespace {

std::atomic<bool> armed = false;
std::atomic<int64_t> seen = 0, refused = 0, spared = 0, sparedInOneDnn = 0;
int64_t failing = 0;
bool failsOn = false;

/** Code whose allocations are left alone. */
struct Range {
  uintptr_t first, last;
  bool isOneDnn;
};
Range ranges[16];
int rangeCount = 0;
bool failsInOneDnn = false;

int addRanges(dl_phdr_info* info, size_t, void*) {
  const bool isOneDnn = strstr(info->dlpi_name, "libdnnl");
  const bool isSpared = isOneDnn || strstr(info->dlpi_name, "libgomp") || strstr(info->dlpi_name, "ld-linux");
  for (int i = 0; isSpared && i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD || !(header.p_flags & PF_X) || rangeCount == 16) continue;
    const uintptr_t first = info->dlpi_addr + header.p_vaddr;
    ranges[rangeCount++] = {first, first + header.p_memsz, isOneDnn};
  }
  return 0;
}

bool isSpared(const void* caller) {
  const auto at = reinterpret_cast<uintptr_t>(caller);
  for (int i = 0; i < rangeCount; ++i) {
    if (at < ranges[i].first || at >= ranges[i].last) continue;
    if (ranges[i].isOneDnn && failsInOneDnn) return false;
    ++(ranges[i].isOneDnn ? sparedInOneDnn : spared);
    return true;
  }
  return false;
}

/** Whether the allocation that `caller` asks for is the one to fail; mallocs.h asks. */
bool refuses(const void* caller) {
  if (!armed || isSpared(caller)) return false;
  const int64_t number = ++seen;
  if (number != failing && !(failsOn && number > failing)) return false;
  ++refused;
  errno = ENOMEM;
  return true;
}

}  // namespace

#include "mallocs.h"

extern "C" {
EXPORTED void* mmap(void* address, size_t size, int protection, int flags, int file, off_t offset) {
  if (REFUSED) return MAP_FAILED;
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, file, offset));
}
EXPORTED int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                            void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return REFUSED ? EAGAIN : real(thread, attributes, start, argument);
}
}

namespace comface {
namespace {

constexpr int kPictures = 6, kSize = 16;
using Bits = std::vector<float>;

/** One kind of call: after every prepare() the same bits, from itself and then from after(). */
struct Phase {
  std::function<void()> prepare;
  std::function<Bits()> act, after;
};

std::vector<std::string> drawPictures(const std::string& folder) {
  std::vector<std::string> paths;
  for (int i = 0; i < kPictures; ++i) {
    Picture picture{24, 24, std::vector<uint8_t>(24 * 24 * 3)};
    for (size_t k = 0; k < picture.rgb.size(); ++k) picture.rgb[k] = static_cast<uint8_t>(k * (i + 3) / 7);
    paths.push_back(folder + "/" + std::to_string(i) + ".jpg");
    writeFile(paths[i], encodeJpeg(picture, 90));
  }
  return paths;
}

struct State {
  std::vector<Bits> tensors;
};

template <class Visit>
void forEachTensor(Engine& engine, Visit visit) {
  for (const Parameter& p : engine.graph().parameters) {
    for (const Slot slot : {Slot::parameter, Slot::firstMoment, Slot::secondMoment}) visit(slot, p);
  }
  for (const Parameter& s : engine.graph().statistics) visit(Slot::statistic, s);
}

State save(Engine& engine) {
  State state;
  forEachTensor(engine, [&](Slot slot, const Parameter& p) {
    engine.program().read(slot, p.name, state.tensors.emplace_back(p.count));
  });
  return state;
}

void load(Engine& engine, const State& state) {
  size_t at = 0;
  forEachTensor(engine,
                [&](Slot slot, const Parameter& p) { engine.program().write(slot, p.name, state.tensors[at++]); });
}

Plan planAt(int step) {
  Plan plan = tests::planOf(5, step, kPictures);
  for (uint32_t& sample : plan.x) sample %= kPictures;
  return plan;
}

/** A step with the next batch in flight, then one that takes it. */
Bits twoSteps(Engine& engine, const std::shared_ptr<Source>& source) {
  Bits bits;
  const Plan first = planAt(1), second = planAt(2);
  for (const Plan* plan : {&first, &second}) {
    const StepResult result = engine.step(source, *plan, plan == &first ? &second : nullptr, {.step = plan->step});
    for (const double loss : result.collected.losses) bits.push_back(static_cast<float>(loss));
    bits.push_back(static_cast<float>(result.broken.size()));
  }
  return bits;
}

Bits flat(const State& state) {
  Bits bits;
  for (const Bits& tensor : state.tensors) bits.insert(bits.end(), tensor.begin(), tensor.end());
  return bits;
}

Bits imagesOf(Source& source) {
  Batch batch;
  source.fill(planAt(1), batch);
  batch.images.push_back(static_cast<float>(batch.broken.size()));
  return std::move(batch.images);
}

Phase phaseOf(const std::string& name, const std::string& library, const std::vector<std::string>& paths) {
  const std::shared_ptr<Source> source = openPictures(picturesInFiles(paths, 0), kSize, 2);
  const auto nothing = [] {};
  const auto noBits = [] { return Bits(); };
  if (name == "open")
    return {nothing, [paths] { return imagesOf(*openPictures(picturesInFiles(paths, 0), kSize, 2)); }, noBits};
  if (name == "create") {
    const auto create = [=] {
      Engine engine(library, tests::trainingGraph(kSize));
      engine.initialize(1);
      if (engine.program().sizeBytes() == 0) throw Error(Code::deviceFailed, "An engine of no size.");
      engine.program().describe();
      Bits bits(engine.graph().parameters[0].count);
      engine.program().read(Slot::parameter, engine.graph().parameters[0].name, bits);
      return bits;
    };
    return {nothing, create, noBits};
  }
  const bool isEmbedding = name == "embed";
  const auto engine =
      std::make_shared<Engine>(library, isEmbedding ? tests::embeddingGraph(kSize) : tests::trainingGraph(kSize));
  engine->initialize(1);
  if (isEmbedding) {
    static const std::atomic<bool> stopping = false;
    return {nothing, [=] { return engine->embed(*source, {0, 1, 2, 3, 4}, "embedding", {}, stopping); }, noBits};
  }
  // Every try starts from the same state, as a run that resumes: a failed step may have moved the running statistics.
  const State state = save(*engine);
  const auto restore = [=] { load(*engine, state); };
  const auto both = [=] {
    load(*engine, state);
    return flat(save(*engine));
  };
  if (name == "state") return {restore, both, both};
  return {restore, [=] { return twoSteps(*engine, source); }, [=] { return flat(save(*engine)); }};
}

struct Counts {
  int64_t tries = 0, answered = 0, unharmed = 0, wrongCode = 0, wrongBits = 0;
};

void say(const char* format, auto... values) {
  char line[200];
  const int length = std::snprintf(line, sizeof line, format, values...);
  if (write(STDOUT_FILENO, line, static_cast<size_t>(length)) < 0) _exit(3);
}

/** Tries k from `first` on until a call asks for fewer allocations. */
Counts failEach(const Phase& phase, int64_t first) {
  phase.prepare();
  const Bits expected = phase.act(), expectedAfter = phase.after();
  Counts counts;
  for (int64_t k = first;; ++k) {
    say("k %ld\n", k);
    failing = k, seen = 0, refused = 0, spared = 0, sparedInOneDnn = 0;
    Code code = Code::invalidConfig;
    bool threw = false;
    Bits bits;
    phase.prepare();
    armed = true;
    try {
      bits = phase.act();
    } catch (...) {
      const Error error = currentError();  // as the add-on does, and where it does: still without memory
      armed = false;
      threw = true, code = error.code;
      if (code != Code::outOfMemory && counts.wrongCode < 5)
        say("other error %d at %ld: %s\n", static_cast<int>(code), k, error.what());
    }
    armed = false;
    if (refused == 0 && !threw) break;
    ++counts.tries;
    ++(threw ? counts.answered : counts.unharmed);
    if (threw && code != Code::outOfMemory) ++counts.wrongCode;
    const bool isRight = threw || (bits == expected && phase.after() == expectedAfter);
    phase.prepare();
    if (!isRight || phase.act() != expected || phase.after() != expectedAfter) ++counts.wrongBits;
  }
  return counts;
}

}  // namespace
}  // namespace comface

int main(int argc, char** argv) {
  using namespace comface;
  if (argc < 6) return 2;
  const std::string library = argv[2];
  const std::vector<std::string> paths = drawPictures(argv[3]);
  failsOn = std::strcmp(argv[4], "always") == 0;
  failsInOneDnn = argc > 6;
  if (!library.empty())
    compileWith(library, tests::embeddingGraph(kSize));  // loads it: the loader's allocations are not ours
  dl_iterate_phdr(addRanges, nullptr);
  const Counts c = failEach(phaseOf(argv[1], library, paths), std::atoll(argv[5]));
  say("done tries %ld answered %ld unharmed %ld code %ld bits %ld spared %ld oneDNN %ld\n", c.tries, c.answered,
      c.unharmed, c.wrongCode, c.wrongBits, spared.load(), sparedInOneDnn.load());
  return 0;
}
