// Both sides of the border that abi.h describes: the table a backend library exports, and the Program that calls
// through one.
#include "abi.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace comface {
namespace {

void report(ComfaceStatus* status, int32_t code, const char* message) {
  status->code = code;
  std::strncpy(status->message, message, sizeof status->message - 1);
  status->message[sizeof status->message - 1] = '\0';
}

/** Runs `body` and turns whatever it throws into a status: nothing may cross the border. */
template <class F>
void guarded(ComfaceStatus* status, const F& body) {
  report(status, -1, "");
  try {
    body();
  } catch (const Error& e) {
    report(status, static_cast<int32_t>(e.code), e.what());
  } catch (const std::bad_alloc&) {
    report(status, static_cast<int32_t>(Code::outOfMemory), "Out of memory.");
  } catch (const std::exception& e) {
    report(status, static_cast<int32_t>(Code::deviceFailed), e.what());
  } catch (...) {
    report(status, static_cast<int32_t>(Code::deviceFailed), "An unknown failure in the backend.");
  }
}

Program& self(void* program) { return *static_cast<Program*>(program); }

Graph fromRecords(const ComfaceGraph& records) {
  Graph graph;
  graph.training = records.training != 0;
  if (records.precision < 0 || records.precision > static_cast<int32_t>(Precision::fp16)) {
    throw Error(Code::invalidConfig,
                "Expected a known precision but received " + std::to_string(records.precision) + ".");
  }
  graph.precision = static_cast<Precision>(records.precision);
  graph.threads = records.threads, graph.chunks = records.chunks, graph.parts = records.parts;
  graph.deterministic = records.deterministic != 0;
  if (records.choices) graph.choices = records.choices;
  for (int i = 0; i < records.layerCount; ++i) {
    const ComfaceLayer& r = records.layers[i];
    Layer layer;
    layer.op = static_cast<Op>(r.op), layer.name = r.name, layer.inputs = {r.inputs[0], r.inputs[1]};
    layer.shape = {r.shape[0], r.shape[1], r.shape[2], r.shape[3]};
    layer.out = r.out, layer.kernel = r.kernel, layer.stride = r.stride, layer.pad = r.pad;
    layer.from = r.from, layer.to = r.to, layer.of = r.of, layer.heads = r.heads, layer.position = r.position;
    layer.bias = r.bias != 0, layer.classToken = r.classToken != 0, layer.positions = r.positions != 0;
    layer.quick = r.quick != 0, layer.ceil = r.ceil != 0;
    layer.height = r.height, layer.width = r.width, layer.up = r.up, layer.down = r.down;
    layer.upTaps = r.upTaps, layer.downTaps = r.downTaps, layer.padLow = r.padLow, layer.padHigh = r.padHigh;
    layer.demodulate = r.demodulate != 0, layer.radial = r.radial != 0, layer.half = r.half != 0;
    layer.slope = r.slope, layer.gain = r.gain, layer.clamp = r.clamp;
    layer.rate = r.rate, layer.bandwidth = r.bandwidth;
    layer.eps = r.eps, layer.momentum = r.momentum, layer.temperature = r.temperature, layer.weight = r.weight;
    graph.layers.push_back(std::move(layer));
  }
  graph.finish();
  return graph;
}

std::vector<ComfaceLayer> toRecords(const Graph& graph) {
  std::vector<ComfaceLayer> records;
  for (const Layer& l : graph.layers) {
    records.push_back({static_cast<int32_t>(l.op),
                       l.name.c_str(),
                       {l.inputs[0], l.inputs[1]},
                       {l.shape.n, l.shape.c, l.shape.h, l.shape.w},
                       l.out,
                       l.kernel,
                       l.stride,
                       l.pad,
                       l.from,
                       l.to,
                       l.of,
                       l.heads,
                       l.position,
                       l.bias,
                       l.ceil,
                       l.classToken,
                       l.positions,
                       l.quick,
                       l.height,
                       l.width,
                       l.up,
                       l.down,
                       l.upTaps,
                       l.downTaps,
                       l.padLow,
                       l.padHigh,
                       l.demodulate,
                       l.radial,
                       l.half,
                       l.slope,
                       l.eps,
                       l.momentum,
                       l.temperature,
                       l.weight,
                       l.gain,
                       l.clamp,
                       l.rate,
                       l.bandwidth});
  }
  return records;
}

/** A program behind the border. */
class RemoteProgram : public Program, public PictureSteps {
 public:
  RemoteProgram(const ComfaceBackend& table, size_t lossCount) : table_(table), lossCount_(lossCount) {}
  ~RemoteProgram() override {
    if (program_) table_.destroy(program_);
  }
  void adopt(void* program) { program_ = program; }
  void read(Slot slot, const std::string& name, std::span<float> out) override {
    call([&](ComfaceStatus* s) {
      table_.read(program_, static_cast<int32_t>(slot), name.c_str(), out.data(), out.size(), s);
    });
  }
  void write(Slot slot, const std::string& name, std::span<const float> in) override {
    call([&](ComfaceStatus* s) {
      table_.write(program_, static_cast<int32_t>(slot), name.c_str(), in.data(), in.size(), s);
    });
  }
  void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) override {
    call([&](ComfaceStatus* s) {
      table_.forward(program_, input.data(), input.size(), targets.data(), targets.size(), losses.data(), losses.size(),
                     s);
    });
  }
  void backward() override {
    call([&](ComfaceStatus* s) { table_.backward(program_, s); });
  }
  void update(const Adam& a) override {
    const ComfaceAdam adam = toRecord(a);
    call([&](ComfaceStatus* s) { table_.update(program_, &adam, s); });
  }
  PictureSteps* pictureSteps() override { return table_.makesViews(program_) ? this : nullptr; }
  std::span<uint8_t> reserve(int slot, size_t sizeBytes) override {
    uint8_t* memory = nullptr;
    uint64_t reserved = 0;
    call([&](ComfaceStatus* s) { memory = table_.reserve(program_, slot, sizeBytes, &reserved, s); });
    return {memory, reserved};
  }
  void step(int slot, const PictureStep& p, const Adam& a) override {
    const ComfacePictureStep step = {p.pictures.data(), p.pictures.size(), p.views.data(), p.views.size(),
                                     p.targets.data(),  p.targets.size(),  p.normalization};
    const ComfaceAdam adam = toRecord(a);
    call([&](ComfaceStatus* s) { table_.step(program_, slot, &step, &adam, s); });
  }
  CollectedSteps collect() override {
    CollectedSteps all;
    all.losses.resize(lossCount_ * kMostUncollected);
    uint64_t count = 0;
    call([&](ComfaceStatus* s) {
      count = table_.collect(program_, all.losses.data(), all.losses.size(), &all.steps, &all.notFinite, s);
    });
    all.losses.resize(count);
    return all;
  }
  size_t sizeBytes() const override { return table_.sizeBytes(program_); }
  std::string describe() const override {
    char text[512];
    table_.describe(program_, text, sizeof text);
    return text;
  }
  std::string choices() const override {
    std::string text(table_.choices(program_, nullptr, 0), '\0');
    table_.choices(program_, text.data(), text.size() + 1);
    return text;
  }
  template <class F>
  static void call(const F& function) {
    ComfaceStatus status;
    function(&status);
    if (status.code >= 0) throw Error(static_cast<Code>(status.code), status.message);
  }

 private:
  static ComfaceAdam toRecord(const Adam& a) {
    return {a.learningRate, a.beta1, a.beta2, a.epsilon, a.weightDecay, a.step};
  }

  const ComfaceBackend& table_;
  const size_t lossCount_;
  void* program_ = nullptr;
};

/** The entries that PictureSteps behind the border answer. */
void addPictureSteps(ComfaceBackend& table) {
  table.makesViews = [](void* p) -> int32_t { return self(p).pictureSteps() != nullptr; };
  table.reserve = [](void* p, int32_t slot, uint64_t sizeBytes, uint64_t* reserved, ComfaceStatus* status) {
    std::span<uint8_t> memory;
    guarded(status, [&] { memory = self(p).pictureSteps()->reserve(slot, sizeBytes); });
    *reserved = memory.size();
    return memory.data();
  };
  table.step = [](void* p, int32_t slot, const ComfacePictureStep* s, const ComfaceAdam* a, ComfaceStatus* status) {
    guarded(status, [&] {
      const PictureStep step = {
          {s->pictures, s->pictureCount}, {s->views, s->viewCount}, {s->targets, s->targetCount}, s->normalization};
      self(p).pictureSteps()->step(slot, step,
                                   {a->learningRate, a->beta1, a->beta2, a->epsilon, a->weightDecay, a->step});
    });
  };
  table.collect = [](void* p, double* losses, uint64_t capacity, int32_t* steps, int64_t* notFinite,
                     ComfaceStatus* status) -> uint64_t {
    uint64_t count = 0;
    guarded(status, [&] {
      const CollectedSteps all = self(p).pictureSteps()->collect();
      count = std::min<uint64_t>(all.losses.size(), capacity);
      std::copy_n(all.losses.begin(), count, losses);
      *steps = all.steps, *notFinite = all.notFinite;
    });
    return count;
  };
}

}  // namespace

Compile exportedCompile = nullptr;
PlanFor exportedPlanFor = nullptr;

ComfaceBackend exportBackend(Compile compile, PlanFor planFor) {
  exportedCompile = compile, exportedPlanFor = planFor;
  ComfaceBackend table{};
  table.abi = kAbiVersion;
  table.compile = [](const ComfaceGraph* graph, ComfaceStatus* status) {
    void* program = nullptr;
    guarded(status, [&] { program = exportedCompile(fromRecords(*graph)).release(); });
    return program;
  };
  table.destroy = [](void* program) { delete static_cast<Program*>(program); };
  table.read = [](void* p, int32_t slot, const char* name, float* out, uint64_t count, ComfaceStatus* status) {
    guarded(status, [&] { self(p).read(static_cast<Slot>(slot), name, {out, count}); });
  };
  table.write = [](void* p, int32_t slot, const char* name, const float* in, uint64_t count, ComfaceStatus* status) {
    guarded(status, [&] { self(p).write(static_cast<Slot>(slot), name, {in, count}); });
  };
  table.forward = [](void* p, const float* input, uint64_t inputCount, const float* targets, uint64_t targetCount,
                     double* losses, uint64_t lossCount, ComfaceStatus* status) {
    guarded(status, [&] { self(p).forward({input, inputCount}, {targets, targetCount}, {losses, lossCount}); });
  };
  table.backward = [](void* p, ComfaceStatus* status) { guarded(status, [&] { self(p).backward(); }); };
  table.update = [](void* p, const ComfaceAdam* a, ComfaceStatus* status) {
    guarded(status, [&] {
      self(p).update({a->learningRate, a->beta1, a->beta2, a->epsilon, a->weightDecay, a->step});
    });
  };
  addPictureSteps(table);
  if (planFor) {
    table.planFor = [](const ComfaceGraph* graph, const char* device, void (*say)(void*, const char*), void* context,
                       ComfaceStatus* status) -> uint64_t {
      PlannedProgram planned;
      guarded(status, [&] {
        planned = exportedPlanFor(fromRecords(*graph), device);
        say(context, planned.choices.c_str());
      });
      return planned.sizeBytes;
    };
  }
  table.sizeBytes = [](void* p) -> uint64_t { return self(p).sizeBytes(); };
  table.describe = [](void* p, char* text, uint64_t capacity) {
    size_t count = 0;
    try {
      const std::string line = self(p).describe();
      count = std::min<size_t>(line.size(), capacity - 1);
      std::memcpy(text, line.data(), count);
    } catch (...) {  // it has no status: without memory there is no description
    }
    text[count] = '\0';
  };
  table.choices = [](void* p, char* text, uint64_t capacity) -> uint64_t {
    try {
      const std::string lines = self(p).choices();
      if (capacity > lines.size()) std::memcpy(text, lines.c_str(), lines.size() + 1);
      return lines.size();
    } catch (...) {
      return 0;
    }
  };
  return table;
}

namespace {

/** The table of a backend library, opened once for good: oneDNN and OpenMP keep threads and thread-local data that must
 * not outlive their code. */
const ComfaceBackend& tableOf(const std::string& libraryPath) {
  void* library = dlopen(libraryPath.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw Error(Code::deviceUnavailable, std::string("Cannot load the backend: ") + dlerror());
  const auto entry = reinterpret_cast<const ComfaceBackend* (*)()>(dlsym(library, "comfaceBackend"));
  if (!entry) throw Error(Code::deviceUnavailable, libraryPath + " is not a comface backend.");
  const ComfaceBackend* table = entry();
  if (table->abi != kAbiVersion) {
    throw Error(Code::deviceUnavailable, libraryPath + " has interface version " + std::to_string(table->abi) +
                                             " where this add-on needs " + std::to_string(kAbiVersion) +
                                             ": rebuild both.");
  }
  return *table;
}

/** A graph as records; they point into it. */
struct GraphRecords {
  explicit GraphRecords(const Graph& graph)
      : layers(toRecords(graph)), graph{layers.data(),        static_cast<int32_t>(layers.size()),
                                        graph.training,       static_cast<int32_t>(graph.precision),
                                        graph.threads,        graph.chunks,
                                        graph.parts,          graph.deterministic,
                                        graph.choices.c_str()} {}
  const std::vector<ComfaceLayer> layers;
  const ComfaceGraph graph;
};

}  // namespace

std::unique_ptr<Program> compileWith(const std::string& libraryPath, const Graph& graph) {
  const ComfaceBackend& table = tableOf(libraryPath);
  const GraphRecords records(graph);
  // First, for afterwards a lack of memory would lose the other.
  auto program = std::make_unique<RemoteProgram>(table, graph.losses.size());
  RemoteProgram::call([&](ComfaceStatus* s) { program->adopt(table.compile(&records.graph, s)); });
  return program;
}

PlannedProgram planWith(const std::string& libraryPath, const Graph& graph, const std::string& device) {
  const ComfaceBackend& table = tableOf(libraryPath);
  if (!table.planFor) throw Error(Code::invalidInput, libraryPath + " plans for no device but the one that is here.");
  const GraphRecords records(graph);
  PlannedProgram planned;
  const auto say = [](void* context, const char* choices) { static_cast<PlannedProgram*>(context)->choices = choices; };
  RemoteProgram::call(
      [&](ComfaceStatus* s) { planned.sizeBytes = table.planFor(&records.graph, device.c_str(), say, &planned, s); });
  return planned;
}

}  // namespace comface
