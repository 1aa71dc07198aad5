// The CPU backend: lowers a graph to fused steps, plans one arena for everything, then only runs.
// Traps: OpenMP's thread count belongs to the calling thread, so it is set on every entry; steps write in place, so a
// kept value must be marked kept.
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <shared_mutex>

#include "abi.h"
#include "cpu/tensor.h"

namespace comface::cpu {
namespace {

[[noreturn]] void translate(const dnnl::error& e) {
  if (e.status == dnnl_out_of_memory) throw Error(Code::outOfMemory, "oneDNN ran out of memory.");
  throw Error(Code::deviceFailed, std::string("oneDNN: ") + e.what());
}

/** Runs what calls oneDNN. */
template <class F>
auto translated(const F& body) {
  try {
    return body();
  } catch (const dnnl::error& e) {
    translate(e);
  }
}

/**
 * Engines of several threads take turns. Two teams on the same cores wait for each other inside oneDNN's barriers,
 * which spin: measured, two trainings at once took eight times as long as one after the other. Engines of one thread
 * have no barriers and run side by side.
 */
class Turn {
 public:
  /** givesTeamBack: after this call those of others are likely to come. */
  explicit Turn(int threads, bool givesTeamBack = false) : isShared_(threads == 1), givesTeamBack_(givesTeamBack) {
    omp_set_num_threads(threads);
    isShared_ ? cores().lock_shared() : cores().lock();
  }
  ~Turn() {
    // Threads of an idle team count, too: with more of them than cores libgomp lets barriers sleep where they would
    // spin, which made the steps of a ResNet-18 5 % longer while a second engine was there. A new team takes 3 ms.
    if (!isShared_ && givesTeamBack_ && teams() > 1) omp_pause_resource_all(omp_pause_soft);
    isShared_ ? cores().unlock_shared() : cores().unlock();
  }
  Turn(const Turn&) = delete;

  /** Programs of several threads in this process. */
  static std::atomic<int>& teams() {
    static std::atomic<int> count = 0;
    return count;
  }

 private:
  static std::shared_mutex& cores() {
    static std::shared_mutex mutex;
    return mutex;
  }
  bool isShared_;
  bool givesTeamBack_;
};

/** Counts a program among those that have a team. */
class Team {
 public:
  explicit Team(int threads) : count_(threads > 1) { Turn::teams() += count_; }
  ~Team() { Turn::teams() -= count_; }
  Team(const Team&) = delete;

 private:
  int count_;
};

/** One mapping, huge pages where the kernel gives them: first touch is what makes allocation slow. */
class Arena {
 public:
  explicit Arena(size_t sizeBytes) : sizeBytes_(std::max<size_t>(sizeBytes, 1)) {
    data_ = mmap(nullptr, sizeBytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) {
      throw Error(Code::outOfMemory,
                  "Cannot reserve " + std::to_string(sizeBytes_ >> 20) + " MiB for the network's buffers.");
    }
    madvise(data_, sizeBytes_, MADV_HUGEPAGE);
  }
  ~Arena() { munmap(data_, sizeBytes_); }
  Arena(const Arena&) = delete;
  char* data() const { return static_cast<char*>(data_); }
  size_t sizeBytes() const { return sizeBytes_; }

 private:
  size_t sizeBytes_;
  void* data_;
};

void makeTensors(Context& c, const Lowered& lowered) {
  const Graph& g = c.graph;
  c.tensors.resize(g.layers.size());
  for (size_t i = 0; i < g.layers.size(); ++i) {
    c.tensors[i].shape = g.layers[i].shape;
    c.tensors[i].image = lowered.image[i], c.tensors[i].wanted = lowered.wanted[i];
  }
  // oneDNN's first-layer kernels read plain N C H W.
  const bool isForOneConv = g.users[0].size() == 1 && g.layers[g.users[0][0]].op == Op::conv;
  c.tensors[0].plain = lowered.image[0] && isForOneConv && g.layers[0].shape.c <= 4;
}

/** Offsets of parameters in the flat arrays; convolutions have set their own size. */
void placeParameters(Context& c) {
  const auto place = [&](const std::vector<Parameter>& list, std::vector<Stored>& stored) {
    size_t total = 0;
    for (size_t p = 0; p < list.size(); ++p) {
      if (stored[p].stored == 0) {
        const size_t block = c.kernels.block;
        stored[p].stored = (list[p].count + block - 1) / block * block;
      }
      stored[p].offset = total;
      total += (stored[p].stored + 15) / 16 * 16;
    }
    return total;
  };
  const size_t total = place(c.graph.parameters, c.parameters);
  c.values.plan(c.buffers, total);
  if (c.graph.training) {
    for (Flat* flat : {&c.gradients, &c.firstMoments, &c.secondMoments}) flat->plan(c.buffers, total);
  }
  c.running.plan(c.buffers, place(c.graph.statistics, c.statistics));
}

class CpuProgram : public Program {
 public:
  explicit CpuProgram(const Graph& graph) : graph_(graph), team_(graph.threads), context_(graph_, select()) {
    omp_set_num_threads(graph_.threads);
    context_.parameters.resize(graph_.parameters.size());
    context_.statistics.resize(graph_.statistics.size());
    context_.losses.assign(graph_.losses.size(), 0.0);
    const Lowered lowered = lower(graph_);
    makeTensors(context_, lowered);
    makeSteps(lowered);
    placeParameters(context_);
    plan();
    for (size_t p = 0; p < graph_.parameters.size(); ++p) {  // PyTorch's start for what nobody writes
      const Parameter& parameter = graph_.parameters[p];
      const bool gamma = isNorm(graph_.layers[parameter.layer].op) && parameter.name.ends_with(".weight");
      if (gamma) std::fill_n(context_.values.data() + context_.parameters[p].offset, parameter.count, 1.0f);
    }
    for (size_t p = 1; p < graph_.statistics.size(); p += 2) {
      std::fill_n(context_.running.data() + context_.statistics[p].offset, graph_.statistics[p].count, 1.0f);
    }
  }

  void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) override {
    checkInput(graph_, input, targets, losses);
    const Turn turn(graph_.threads, !graph_.training);
    context_.input = input.data(), context_.targets = targets.data();
    translated([&] {
      for (auto& step : steps_) step->forward();
      context_.stream.wait();
    });
    context_.weightsChanged = false;
    std::copy(context_.losses.begin(), context_.losses.end(), losses.begin());
  }

  void backward() override {
    const Turn turn(graph_.threads);
    for (const Tensor& t : context_.tensors) {
      if (t.gradient >= 0) std::fill_n(context_.buffers.at<float>(t.gradient), t.shape.count(), 0.0f);
    }
    translated([&] {
      for (Step* step : backwardSteps_) step->backward();
      inputSum_.run(context_);
      context_.stream.wait();
    });
  }

  void update(const Adam& a) override {
    const Turn turn(graph_.threads);
    const double t = static_cast<double>(a.step);
    context_.kernels.adam({context_.values.data(), context_.gradients.data(), context_.firstMoments.data(),
                           context_.secondMoments.data(), context_.values.size(), static_cast<float>(a.learningRate),
                           static_cast<float>(a.beta1), static_cast<float>(a.beta2), static_cast<float>(a.epsilon),
                           static_cast<float>(a.weightDecay), static_cast<float>(1 - a.beta1),
                           static_cast<float>(1 - a.beta2), static_cast<float>(1 - std::pow(a.beta1, t)),
                           static_cast<float>(1 - std::pow(a.beta2, t))});
    context_.weightsChanged = true;
  }

  void read(Slot slot, const std::string& name, std::span<float> out) override {
    refuseLossScale(slot);
    omp_set_num_threads(graph_.threads);
    if (slot == Slot::value || slot == Slot::valueGradient) return readValue(slot, name, out);
    const auto [data, stored, parameter] = held(context_, slot, name, out.size());
    if (stored.layout == stored.plain) {
      std::copy_n(data, out.size(), out.begin());
    } else {
      reorder(stored.layout, data, stored.plain, out.data());
    }
  }

  void write(Slot slot, const std::string& name, std::span<const float> in) override {
    refuseLossScale(slot);
    omp_set_num_threads(graph_.threads);
    if (slot == Slot::value || slot == Slot::valueGradient) {
      if (slot == Slot::value || seed_ < 0 || name != graph_.layers.back().name) refuseWrite(name);
      checkCount(name, graph_.layers.back().shape.count(), in.size());
      std::copy(in.begin(), in.end(), context_.buffers.at<float>(seed_));
      return;
    }
    const auto [data, stored, parameter] = held(context_, slot, name, in.size());
    if (stored.layout == stored.plain) {
      std::copy(in.begin(), in.end(), data);
    } else {
      reorder(stored.plain, const_cast<float*>(in.data()), stored.layout, data);
    }
    context_.weightsChanged = true;
  }

  size_t sizeBytes() const override { return arena_->sizeBytes(); }

  std::string describe() const override {
    const dnnl_version_t* v = dnnl_version();
    return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch) +
           " " + isaName() + ", " + context_.kernels.name + ", " + (context_.type() ? "bf16" : "fp32") + ", " +
           std::to_string(graph_.threads) + " threads";
  }

  std::string choices() const override { return textOf(context_.algorithms.choices()); }

 private:
  void makeSteps(const Lowered& lowered) {
    for (const int i : lowered.steps) {
      steps_.push_back(lowered.groups[i].norm >= 0 ? normStep(context_, lowered.groups[i]) : stepOf(i));
    }
    if (graph_.training && graph_.losses.empty()) {
      seed_ = context_.buffers.keep(graph_.layers.back().shape.count() * sizeof(float));
      steps_.push_back(seedStep(context_, static_cast<int>(graph_.layers.size()) - 1, seed_));
    }
  }

  /** Of a layer that is in no normalization group. */
  StepPtr stepOf(int i) {
    const bool isImage = context_.tensors[i].image;
    switch (graph_.layers[i].op) {
      case Op::input:
        return inputStep(context_);
      case Op::conv:
        return convStep(context_, i);
      case Op::linear:
        return isImage ? convStep(context_, i) : denseStep(context_, i);
      case Op::maxPool:
        return maxPoolStep(context_, i);
      case Op::avgPool:
        return averageStep(context_, i);
      case Op::infoNce:
      case Op::squaredError:
        return lossStep(context_, i);
      case Op::relu:
        if (!isImage) return denseStep(context_, i);
        if (graph_.layers[i].slope != 0) return elementwiseStep(context_, i);
        return std::make_unique<ReluStepOf<Context>>(context_, i);
      case Op::add:
        return isImage ? std::make_unique<AddStepOf<Context>>(context_, i) : denseStep(context_, i);
      case Op::tokens:
        return tokensStep(context_, i);
      case Op::layerNorm:
        return layerNormStep(context_, i);
      case Op::gelu:
        return elementwiseStep(context_, i);
      case Op::attention:
        return attentionStep(context_, i);
      case Op::efficientAttention:
        return efficientAttentionStep(context_, i);
      case Op::token:
        return tokenStep(context_, i);
      case Op::flatten:
        return flattenStep(context_, i);
      case Op::constant:
      case Op::upsample:
      case Op::convTranspose:
      case Op::blur:
      case Op::styleEpilogue:
      case Op::fourierFeatures:
      case Op::modulatedConv:
      case Op::filteredRelu:
        return generatorStep(context_, i);
      default:
        return denseStep(context_, i);
    }
  }

  void plan() {
    backwardSteps_ = planSteps(context_, steps_, inputSum_);
    context_.scratch = context_.buffers.keep(context_.scratchBytes);
    arena_ = std::make_unique<Arena>(context_.buffers.plan());
    context_.buffers.bind(arena_->data());
    Context& c = context_;
    for (Flat* flat : {&c.values, &c.gradients, &c.firstMoments, &c.secondMoments, &c.running}) flat->bind(c.buffers);
    for (auto& step : steps_) step->bind();
  }

  void reorder(const Memory::desc& from, void* source, const Memory::desc& to, void* target) {
    translated([&] {
      Memory a = context_.memory(from, source), b = context_.memory(to, target);
      dnnl::reorder(a, b).execute(context_.stream, a, b);
      context_.stream.wait();
    });
  }

  void readValue(Slot slot, const std::string& name, std::span<float> out) {
    const auto [layer, buffer] = heldLayer(context_, slot, name, out.size(), "CPU");
    const Tensor& t = context_.tensors[layer];
    if (t.image) {
      reorder(context_.imageDesc(t), context_.buffers.at(buffer), Context::plainDesc(t.shape), out.data());
    } else {
      std::copy_n(context_.buffers.at<float>(buffer), out.size(), out.begin());
    }
  }

  static void refuseLossScale(Slot slot) {
    if (slot == Slot::lossScale) throw Error(Code::invalidInput, "Only fp16 has a loss scale, on CUDA.");
  }

  const Graph graph_;
  const Team team_;
  Context context_;
  std::vector<StepPtr> steps_;
  std::vector<Step*> backwardSteps_;
  PartSum inputSum_;
  std::unique_ptr<Arena> arena_;
  int seed_ = -1;
};

/**
 * A generator of images, a sample at a time: its memory is that of one image, over a GiB for some of 1024 x 1024
 * pixels, and no image depends on those beside it. Of a batch the result of the last layer is kept.
 */
class SampleProgram : public Program {
 public:
  explicit SampleProgram(const Graph& graph)
      : graph_(graph),
        samples_(graph.batch()),
        program_(ofOne(graph)),
        results_(std::make_unique<Arena>(graph.layers.back().shape.count() * sizeof(float))) {}

  void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) override {
    checkInput(graph_, input, targets, losses);
    const size_t count = input.size() / samples_, resultCount = results().size() / samples_;
    for (size_t n = 0; n < samples_; ++n) {
      program_.forward(input.subspan(n * count, count), targets, losses);
      program_.read(Slot::value, graph_.layers.back().name, results().subspan(n * resultCount, resultCount));
    }
  }
  void backward() override { program_.backward(); }
  void update(const Adam& adam) override { program_.update(adam); }
  void read(Slot slot, const std::string& name, std::span<float> out) override {
    if (slot != Slot::value) return program_.read(slot, name, out);
    const int layer = graph_.find(name);
    if (layer < 0) throw Error(Code::invalidInput, "There is no layer `" + name + "`.");
    checkCount(name, graph_.layers[layer].shape.count(), out.size());
    if (layer + 1 != static_cast<int>(graph_.layers.size()))
      throw Error(Code::invalidInput, "The CPU backend does not keep this tensor of `" + name + "`.");
    std::copy(results().begin(), results().end(), out.begin());
  }
  void write(Slot slot, const std::string& name, std::span<const float> in) override { program_.write(slot, name, in); }
  size_t sizeBytes() const override { return program_.sizeBytes() + results_->sizeBytes(); }
  std::string describe() const override { return program_.describe(); }

 private:
  static Graph ofOne(Graph graph) {
    graph.layers[0].shape.n = 1;
    graph.finish();
    return graph;
  }
  std::span<float> results() const {
    return {reinterpret_cast<float*>(results_->data()), graph_.layers.back().shape.count()};
  }

  const Graph graph_;
  const size_t samples_;
  CpuProgram program_;
  std::unique_ptr<Arena> results_;
};

bool isOfGenerator(const Graph& graph) {
  return std::ranges::any_of(graph.layers, [](const Layer& l) { return isGenerator(l.op); });
}

std::unique_ptr<Program> compile(const Graph& graph) {
  if (graph.precision == Precision::fp64 || graph.precision == Precision::fp16)
    throw Error(Code::invalidConfig, "The CPU backend computes in fp32 or bf16, not fp64 or fp16.");
  if (graph.precision == Precision::bf16 && select().block != 16) {
    throw Error(Code::invalidConfig, "bf16 needs a processor with AVX-512; use precision fp32 here.");
  }
  return translated([&]() -> std::unique_ptr<Program> {
    if (isOfGenerator(graph)) return std::make_unique<SampleProgram>(graph);
    return std::make_unique<CpuProgram>(graph);
  });
}

}  // namespace
}  // namespace comface::cpu

COMFACE_EXPORT_BACKEND(comface::cpu::compile)
