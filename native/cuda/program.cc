// A network on the device: its arena, its stream, and the border between the caller's fp32 tensors in PyTorch's layout
// and the device's.
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "abi.h"
#include "cuda/training.h"

namespace comface::cuda {
namespace {

/** One library handle and cuDNN target for each program: they belong to one thread at a time, as a program does. */
struct Handles {
  Handles() { checkBlas(libraries().cublasLtCreate(&blas)); }
  ~Handles() { libraries().cublasLtDestroy(blas); }
  Handles(const Handles&) = delete;
  static void checkBlas(cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS)
      throw Error(Code::deviceFailed, std::string("cuBLASLt: ") + libraries().cublasLtGetStatusString(status));
  }
  Target target;
  cublasLtHandle_t blas = nullptr;
};

bool isFusingWanted() {
  const char* off = std::getenv("COMFACE_NO_FUSION");
  return !off || !*off;
}

/** COMFACE_PLAN_THREADS, else as many as there are cores, at most 8: each has a handle, which takes device memory. */
int planningThreads() {
  const char* wanted = std::getenv("COMFACE_PLAN_THREADS");
  const int threads = wanted ? std::atoi(wanted) : static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(threads, 1, 8);
}

/** The planner with every plan that a network of this graph asks for. */
Planner& prepared(Planner& planner, const Graph& graph) {
  planner.prepare(planningThreads(), [&] { Network(graph, planner, isFusingWanted()); });
  return planner;
}

class CudaProgram : public Program {
 public:
  explicit CudaProgram(const Graph& graph)
      : graph_(graph),
        planner_(handles_.target, knownChoices(graph.choices, handles_.target.name())),
        network_(graph_, prepared(planner_, graph_), isFusingWanted()) {
    saveChoices(handles_.target.name(), planner_.lasting());
    reserve();
    planner_.setStream(stream_);
    network_.bind(arena_->data(), stream_, handles_.blas);
    start();
    const bool hasViews = network_.context().tensors[0].image && graph_.layers[0].shape.c == 3 &&
                          graph_.layers[0].shape.h == graph_.layers[0].shape.w;
    if (graph_.training && !graph_.losses.empty() && hasViews) {
      training_ = std::make_unique<Training>(network_, graph_, stream_);
    } else {
      stage();
    }
  }
  ~CudaProgram() override { cudaStreamSynchronize(stream_); }

  void forward(std::span<const float> input, std::span<const float> targets, std::span<double> losses) override {
    checkInput(graph_, input, targets, losses);
    Context& c = network_.context();
    upload(stage(), input.data(), input.size_bytes());
    if (!targets.empty()) upload(c.buffers.at(c.targets), targets.data(), targets.size_bytes());
    network_.forward();
    if (!losses.empty()) download(losses.data(), c.buffers.at(c.losses), losses.size_bytes());
    stream_.synchronize();
  }

  void backward() override {
    network_.backward();
    stream_.synchronize();
  }

  void update(const Adam& a) override {
    const StepNumbers numbers = numbersOf(a);
    upload(network_.context().buffers.at(network_.context().numbers), &numbers, sizeof numbers);
    network_.update();
    stream_.synchronize();
  }

  PictureSteps* pictureSteps() override { return training_.get(); }

  void read(Slot slot, const std::string& name, std::span<float> out) override {
    if (slot == Slot::value || slot == Slot::valueGradient) return readValue(slot, name, out);
    if (slot == Slot::lossScale) {
      checkCount(name, 2, out.size());
      const LossScale now = scale();
      out[0] = now.scale, out[1] = static_cast<float>(now.steps);
      return;
    }
    const auto [data, stored, parameter] = held(network_.context(), slot, name, out.size());
    host_.resize(stored.stored);
    download(host_.data(), data, stored.stored * sizeof(float));
    stream_.synchronize();
    const float factor = slot == Slot::gradient ? 1 / scale().scale : 1;
    forEach(stored, parameter, [&](size_t plain, size_t ours) { out[plain] = host_[ours] * factor; });
  }

  void write(Slot slot, const std::string& name, std::span<const float> in) override {
    if (slot == Slot::value || slot == Slot::valueGradient) return writeSeed(slot, name, in);
    if (slot == Slot::lossScale) {
      checkCount(name, 2, in.size());
      return setScale({in[0], static_cast<int32_t>(in[1])});
    }
    const auto [data, stored, parameter] = held(network_.context(), slot, name, in.size());
    host_.assign(stored.stored, 0.0f);
    forEach(stored, parameter, [&](size_t plain, size_t ours) { host_[ours] = in[plain]; });
    upload(data, host_.data(), stored.stored * sizeof(float));
    if (slot == Slot::parameter) refreshCopy(stored);
    stream_.synchronize();
  }

  size_t sizeBytes() const override {
    return arena_->sizeBytes() + (input_ ? input_->sizeBytes() : 0) + (training_ ? training_->sizeBytes() : 0);
  }

  std::string choices() const override { return textOf(planner_.choices()); }

  std::string describe() const override {
    const char* const names[] = {"fp32", "bf16", "fp16"};
    Number number = network_.context().number;
    for (const Tensor& t : network_.context().tensors) number = t.image ? std::max(number, t.number) : number;
    return handles_.target.name() + ", cuBLASLt " + std::to_string(libraries().cublasLtGetVersion()) + ", " +
           names[static_cast<int>(number)] + (training_ && !training_->isCapturing() ? ", steps not captured" : "");
  }

 private:
  void reserve() {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "the device's memory");
    const size_t wanted = network_.arenaBytes();
    const auto mebibytes = [](size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
    if (wanted > free) {
      // All but the parameters and the workspace grows with the batch.
      const size_t fixed = network_.fixedBytes();
      const double share = free > fixed ? static_cast<double>(free - fixed) / static_cast<double>(wanted - fixed) : 0;
      const int groups = static_cast<int>(share * (graph_.batch() / graph_.parts));
      throw Error(Code::outOfMemory, "The network needs " + mebibytes(wanted) + " of device memory for " +
                                         std::to_string(graph_.batch() / graph_.parts) + " x " +
                                         std::to_string(graph_.parts) + " images, and " + mebibytes(free) + " of " +
                                         mebibytes(total) + " are free: about " + std::to_string(groups) + " x " +
                                         std::to_string(graph_.parts) + " would fit.");
    }
    arena_ = std::make_unique<DeviceMemory>(wanted);
  }

  /** Memory for the caller's input; who trains on pictures gives none. */
  char* stage() {
    if (!input_) {
      input_ = std::make_unique<DeviceMemory>(graph_.layers[0].shape.count() * sizeof(float));
      network_.context().input = reinterpret_cast<const float*>(input_->data());
    }
    return input_->data();
  }

  /** PyTorch's start for what nobody writes, and the factors of the losses. */
  void start() {
    Context& c = network_.context();
    std::vector<float> ones;
    const auto fill = [&](const Parameter& parameter, const Stored& stored, const Flat& flat) {
      ones.assign(stored.stored, 0.0f);
      std::fill_n(ones.begin(), parameter.count, 1.0f);
      upload(flat.data() + stored.offset, ones.data(), ones.size() * sizeof(float));
      stream_.synchronize();
    };
    for (size_t p = 0; p < graph_.parameters.size(); ++p) {
      const Parameter& parameter = graph_.parameters[p];
      const bool gamma = isNorm(graph_.layers[parameter.layer].op) && parameter.name.ends_with(".weight");
      if (gamma) fill(parameter, c.parameters[p], c.values);
    }
    for (size_t p = 1; p < graph_.statistics.size(); p += 2) fill(graph_.statistics[p], c.statistics[p], c.running);
    setScale({c.number == Number::fp16 && !graph_.losses.empty() ? kFirstScale : 1, 0});
  }

  void setScale(const LossScale& scale) {
    Context& c = network_.context();
    if (c.scale < 0) return;
    std::vector<float> weights, factors;
    for (const int loss : graph_.losses) {
      weights.push_back(graph_.layers[loss].weight);
      factors.push_back(weights.back() * scale.scale);
    }
    upload(c.buffers.at(c.scale), &scale, sizeof scale);
    if (!weights.empty()) {
      upload(c.buffers.at(c.lossWeights), weights.data(), weights.size() * sizeof(float));
      upload(c.buffers.at(c.factors), factors.data(), factors.size() * sizeof(float));
    }
    stream_.synchronize();
  }
  LossScale scale() {
    LossScale scale{1, 0};
    if (network_.context().scale < 0) return scale;
    download(&scale, network_.context().buffers.at(network_.context().scale), sizeof scale);
    stream_.synchronize();
    return scale;
  }

  void upload(void* to, const void* from, size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying to the device");
  }
  void download(void* to, const void* from, size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the device");
  }

  void refreshCopy(const Stored& stored) {
    Context& c = network_.context();
    if (c.rounded < 0) return;
    convert(c.number, c.values.data() + stored.offset, stored.stored, c.weights(stored), stream_);
  }

  /** Visits every number of a parameter: where it is in PyTorch's order and where in ours. */
  template <class F>
  void forEach(const Stored& stored, const Parameter& parameter, const F& visit) const {
    const auto& d = parameter.dims;
    if (stored.isPlain) {
      for (size_t i = 0; i < parameter.count; ++i) visit(i, i);
      return;
    }
    if (d.size() < 4) {  // of an image: rows of padded channels
      const size_t width = d.back();
      const size_t pitch = network_.context().tensors[parameter.layer].image ? paddedChannels(d.back()) : width;
      for (size_t i = 0; i < parameter.count; ++i) visit(i, i / width * pitch + i % width);
      return;
    }
    const size_t channels = paddedChannels(d[1]);
    size_t plain = 0;
    for (int k = 0; k < d[0]; ++k) {
      for (int c = 0; c < d[1]; ++c) {
        for (int r = 0; r < d[2]; ++r) {
          for (int s = 0; s < d[3]; ++s, ++plain) {
            visit(plain, ((static_cast<size_t>(k) * d[2] + r) * d[3] + s) * channels + c);
          }
        }
      }
    }
  }

  void readValue(Slot slot, const std::string& name, std::span<float> out) {
    Context& c = network_.context();
    const auto [layer, buffer] = heldLayer(c, slot, name, out.size(), "CUDA");
    const Tensor& t = c.tensors[layer];
    if (!t.image) {
      download(out.data(), c.buffers.at(buffer), out.size_bytes());
    } else {
      const DeviceMemory plain(out.size_bytes());
      const Shape& s = t.shape;
      unpackImages(t.number, c.buffers.at(buffer), s.n, s.c, s.h, s.w, reinterpret_cast<float*>(plain.data()), stream_);
      download(out.data(), plain.data(), out.size_bytes());
      stream_.synchronize();  // before the memory goes
    }
    stream_.synchronize();
  }

  void writeSeed(Slot slot, const std::string& name, std::span<const float> in) {
    if (slot == Slot::value || network_.seed() < 0 || name != graph_.layers.back().name) refuseWrite(name);
    checkCount(name, graph_.layers.back().shape.count(), in.size());
    upload(network_.context().buffers.at(network_.seed()), in.data(), in.size_bytes());
    stream_.synchronize();
  }

  const Graph graph_;
  Handles handles_;
  Stream stream_;
  Planner planner_;
  Network network_;
  std::unique_ptr<DeviceMemory> arena_, input_;
  std::unique_ptr<Training> training_;  // of a network of images with losses
  std::vector<float> host_;
};

std::unique_ptr<Program> compile(const Graph& graph) { return std::make_unique<CudaProgram>(graph); }

/** device: the JSON that cuDNN describes one in (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION). */
PlannedProgram planFor(const Graph& graph, const std::string& device) {
  const Target target(device);
  Planner planner(target, knownChoices(graph.choices, target.name()));
  const Network network(graph, prepared(planner, graph), isFusingWanted());
  saveChoices(target.name(), planner.lasting());
  return {network.arenaBytes(), textOf(planner.choices())};
}

}  // namespace
}  // namespace comface::cuda

COMFACE_EXPORT_BACKEND(comface::cuda::compile, comface::cuda::planFor)
