// The passes of a convolution as they are planned and run: oneDNN's primitives, or our Winograd's kernels.
#pragma once
#include "cpu/tensor.h"
#include "cpu/winograd.h"

namespace comface::cpu {

/** A primitive with its tensors. What it wants in another layout than it lies in is copied before or after. */
class PrimitivePass {
 public:
  template <class Primitive>
  void make(Context& context, const typename Primitive::primitive_desc& pd) {
    primitive_ = Primitive(pd);
    context.reserveScratch(pd);
    scratch_ = pd.scratchpad_desc();
  }

  /** An image that lies as `mine`; `isResult`: the primitive writes it. Alive at `time`, where it is copied. */
  void plan(Context& context, int which, const Memory::desc& mine, const Memory::desc& wanted, bool isResult,
            int time) {
    images_.push_back({which, mine, wanted, isResult, -1});
    if (mine == wanted) return;
    images_.back().copy = context.buffers.create(wanted.get_size());
    context.buffers.touch(images_.back().copy, time);
  }

  /** data: of the images, in the order that they were planned in. */
  void bind(Context& context, std::initializer_list<void*> data) {
    args_.insert({DNNL_ARG_SCRATCHPAD, context.memory(scratch_, context.buffers.at(context.scratch))});
    auto at = data.begin();
    for (const Image& image : images_) {
      const Memory mine = context.memory(image.mine, *at++);
      if (image.copy < 0) {
        args_.insert({image.which, mine});
        continue;
      }
      const Memory copy = context.memory(image.wanted, context.buffers.at(image.copy));
      args_.insert({image.which, copy});
      const Memory &from = image.isResult ? copy : mine, &to = image.isResult ? mine : copy;
      (image.isResult ? after_ : before_)
          .push_back({dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}});
    }
  }
  void bind(int which, const Memory& memory) { args_.insert({which, memory}); }

  void run(const dnnl::stream& stream) {
    for (auto& [reorder, args] : before_) reorder.execute(stream, args);
    primitive_.execute(stream, args_);
    for (auto& [reorder, args] : after_) reorder.execute(stream, args);
  }

 private:
  struct Image {
    int which;
    Memory::desc mine, wanted;
    bool isResult;
    int copy;
  };

  dnnl::primitive primitive_;
  Memory::desc scratch_;
  std::vector<Image> images_;
  Args args_;
  std::vector<std::pair<dnnl::reorder, Args>> before_, after_;
};

/** A pass by our own kernels, which share the layout of the master weights, OIhw16i16o, with oneDNN's. */
class WinogradPass {
 public:
  enum class Kind { forward, data, gradient };

  WinogradPass() = default;
  /** shape: of the convolution, whichever the pass. */
  WinogradPass(const Winograd* kernels, WinogradShape shape, Kind kind)
      : kernels_(kernels), shape_(shape), kind_(kind) {
    if (kind == Kind::data) std::swap(shape_.in, shape_.out);
  }

  explicit operator bool() const { return kernels_ != nullptr; }

  /** Whether few of so many threads would have nothing to do. */
  bool occupies(int threads) const {
    if (kind_ != Kind::gradient) return true;
    const int tasks = kernels_->gradientTasks(shape_, threads), rounds = (tasks + threads - 1) / threads;
    return 4 * rounds * threads <= 5 * tasks;
  }

  void plan(Context& context) {
    if (kind_ != Kind::gradient) weights_ = context.buffers.keep(kernels_->weightsBytes(shape_));
    context.scratchBytes = std::max(context.scratchBytes, scratchBytes(shape_, context.graph.threads));
  }
  /** Not of a gradient. */
  void transformWeights(const Context& context, const float* master) const {
    const auto transform = kind_ == Kind::data ? kernels_->backwardWeights : kernels_->forwardWeights;
    transform(shape_, master, context.buffers.at(weights_));
  }
  /** x to y, forward or backward. */
  void run(const Context& context, const void* x, void* y) const {
    kernels_->run(shape_, x, context.buffers.at(weights_), y, context.buffers.at(context.scratch));
  }
  void run(const Context& context, const void* x, const void* dy, float* weights) const {
    kernels_->weightsGradient(shape_, x, dy, weights, context.buffers.at(context.scratch));
  }

  /** Of so many samples on memory of its own and one thread, to be timed. */
  Algorithms::Run trial(int samples) const {
    WinogradShape shape = shape_;
    shape.n = samples;
    const auto zeros = [](size_t bytes) { return std::make_shared<std::vector<char>>(bytes); };
    const size_t pixelBytes = static_cast<size_t>(samples) * shape.h * shape.w * sizeof(Bf16);
    const auto x = zeros(pixelBytes * shape.in), y = zeros(pixelBytes * shape.out);
    const auto scratch = zeros(scratchBytes(shape, 1));
    if (kind_ == Kind::gradient) {
      const auto weights = zeros(sizeof(float) * 9 * shape.in * shape.out);
      return [=, gradient = kernels_->weightsGradient] {
        gradient(shape, x->data(), y->data(), reinterpret_cast<float*>(weights->data()), scratch->data());
      };
    }
    const auto weights = zeros(kernels_->weightsBytes(shape));
    return [=, run = kernels_->run] { run(shape, x->data(), weights->data(), y->data(), scratch->data()); };
  }

 private:
  size_t scratchBytes(const WinogradShape& shape, int threads) const {
    return (kind_ == Kind::gradient ? kernels_->gradientScratchBytes : kernels_->scratchBytes)(shape, threads);
  }

  const Winograd* kernels_ = nullptr;  // null: not taken
  WinogradShape shape_{};
  Kind kind_ = Kind::forward;
  int weights_ = -1;
};

}  // namespace comface::cpu
