// The walk over fused steps that every backend plans and runs, and the steps that are the same on all. Times count
// forward steps, then backward steps. A backend's Context has graph, buffers, tensors (StepTensor or more, by layer),
// imageBytes() and imageCount() of a shape, and four loops over images: relu, reluBackward, add, copy.
#pragma once
#include <memory>

#include "lowering.h"

namespace comface {

/** One layer's result. Images have the backend's layout and number types; vectors are fp32 rows x width. */
struct StepTensor {
  Shape shape;
  bool image = false;
  bool wanted = false;  // some parameter (or a test) needs its gradient
  int buffer = -1;
  std::vector<int> parts;  // image: buffers whose sum is the gradient
  int gradient = -1;       // vector: one buffer, zeroed, then added to
};

/** One or several fused layers. Planned in order, then run in order and in reverse. */
template <class Context>
class StepOf {
 public:
  explicit StepOf(Context& context) : context(context) {}
  virtual ~StepOf() = default;
  virtual void planForward(int time) = 0;
  /** Called in reverse order for the steps whose result has a gradient; adds parts to its inputs. */
  virtual void planBackward(int time) { (void)time; }
  /** After the arena has addresses, so that running allocates nothing. */
  virtual void bind() {}
  virtual void forward() = 0;
  virtual void backward() {}
  /** The layer whose result this step writes, or -1. */
  virtual int result() const = 0;

 protected:
  auto& tensor(int layer) const { return context.tensors[layer]; }
  const Layer& layerAt(int layer) const { return context.graph.layers[layer]; }
  void* at(int buffer) const { return buffer >= 0 ? context.buffers.at(buffer) : nullptr; }
  void* data(int layer) const { return context.buffers.at(tensor(layer).buffer); }
  float* rows(int layer) const { return context.buffers.template at<float>(tensor(layer).buffer); }
  float* gradientRows(int layer) const { return context.buffers.template at<float>(tensor(layer).gradient); }
  void touch(int layer, int time) const { context.buffers.touch(tensor(layer).buffer, time); }
  /** A new buffer that is alive at `time`. */
  int create(size_t bytes, int time) const {
    const int id = context.buffers.create(bytes);
    context.buffers.touch(id, time);
    return id;
  }

  Context& context;
};

/** Sums a tensor's gradient parts into the first while its producer's step is planned or run. */
template <class Context>
class PartSumOf {
 public:
  /** Leaves at most `most` parts. */
  void plan(Context& context, StepTensor& tensor, int most, int time) {
    while (static_cast<int>(tensor.parts.size()) > most) {
      const int last = tensor.parts.back();
      tensor.parts.pop_back();
      context.buffers.touch(last, time), context.buffers.touch(tensor.parts[0], time);
      sums_.push_back({tensor.parts[0], last});
    }
    count_ = context.imageCount(tensor.shape);
  }
  void run(Context& context) const {
    for (const auto& [first, second] : sums_) {
      void* to = context.buffers.at(first);
      context.add(to, context.buffers.at(second), to, count_);
    }
  }

 private:
  std::vector<std::pair<int, int>> sums_;  // first += second
  size_t count_ = 0;
};

/** Of images; a vector's is the backend's own. */
template <class Context>
class ReluStepOf : public StepOf<Context> {
 public:
  ReluStepOf(Context& context, int layer)
      : StepOf<Context>(context), layer_(layer), in_(this->layerAt(layer).inputs[0]) {}
  int result() const override { return layer_; }
  void planForward(int time) override {
    this->tensor(layer_).buffer = this->create(this->context.imageBytes(this->tensor(layer_).shape), time);
    this->touch(in_, time);
  }
  void planBackward(int time) override {
    auto& out = this->tensor(layer_);
    sum_.plan(this->context, out, 1, time);
    grad_ = out.parts[0];
    this->context.buffers.touch(grad_, time), this->touch(layer_, time);
    if (this->tensor(in_).wanted) this->tensor(in_).parts.push_back(grad_);
  }
  void forward() override { this->context.relu(this->data(in_), this->data(layer_), count()); }
  void backward() override {
    sum_.run(this->context);
    this->context.reluBackward(this->data(layer_), this->at(grad_), count());
  }

 private:
  size_t count() const { return this->context.imageCount(this->tensor(layer_).shape); }

  int layer_, in_, grad_ = -1;
  PartSumOf<Context> sum_;
};

template <class Context>
class AddStepOf : public StepOf<Context> {
 public:
  AddStepOf(Context& context, int layer)
      : StepOf<Context>(context),
        layer_(layer),
        a_(this->layerAt(layer).inputs[0]),
        b_(this->layerAt(layer).inputs[1]) {}
  int result() const override { return layer_; }
  void planForward(int time) override {
    this->tensor(layer_).buffer = this->create(bytes(), time);
    this->touch(a_, time), this->touch(b_, time);
  }
  void planBackward(int time) override {
    auto& out = this->tensor(layer_);
    sum_.plan(this->context, out, 1, time);
    grad_ = out.parts[0];
    this->context.buffers.touch(grad_, time);
    if (this->tensor(a_).wanted) this->tensor(a_).parts.push_back(grad_);
    if (!this->tensor(b_).wanted) return;
    copy_ = this->create(bytes(), time);  // the consumers write in place, so each needs its own
    this->tensor(b_).parts.push_back(copy_);
  }
  void forward() override {
    const size_t count = this->context.imageCount(this->tensor(layer_).shape);
    this->context.add(this->data(a_), this->data(b_), this->data(layer_), count);
  }
  void backward() override {
    sum_.run(this->context);
    if (copy_ >= 0) this->context.copy(this->at(copy_), this->at(grad_), bytes());
  }

 private:
  size_t bytes() const { return this->context.imageBytes(this->tensor(layer_).shape); }

  int layer_, a_, b_, grad_ = -1, copy_ = -1;
  PartSumOf<Context> sum_;
};

/** A step from one image, and the plan of its gradients. */
template <class Context>
class ImageStepOf : public StepOf<Context> {
 public:
  ImageStepOf(Context& context, int layer)
      : StepOf<Context>(context), layer_(layer), in_(this->layerAt(layer).inputs[0]) {}
  int result() const override { return layer_; }
  void planForward(int time) override {
    this->tensor(layer_).buffer = this->create(this->context.imageBytes(this->tensor(layer_).shape), time);
    this->touch(in_, time);
  }

 protected:
  /** Leaves one buffer with the gradient of the result, alive at `time`. */
  void planGradient(int time) {
    sum_.plan(this->context, this->tensor(layer_), 1, time);
    gradient_ = this->tensor(layer_).parts[0];
    this->context.buffers.touch(gradient_, time);
  }
  /** A buffer for the gradient of the input, if anyone wants it. */
  void planInputGradient(int time) {
    if (!this->tensor(in_).wanted) return;
    inGradient_ = this->create(this->context.imageBytes(this->tensor(in_).shape), time);
    this->tensor(in_).parts.push_back(inGradient_);
  }
  /** For steps that write the gradient of the input over that of the result. */
  void giveGradientOn() {
    if (this->tensor(in_).wanted) this->tensor(in_).parts.push_back(gradient_);
  }
  bool hasGradients() const { return gradient_ >= 0; }
  float* value(int parameter) const { return this->context.values.data() + this->context.parameters[parameter].offset; }
  float* gradientOf(int parameter) const {
    return hasGradients() ? this->context.gradients.data() + this->context.parameters[parameter].offset : nullptr;
  }

  int layer_, in_, gradient_ = -1, inGradient_ = -1;
  PartSumOf<Context> sum_;
};

/** From an image to a vector, which planSteps keeps. */
template <class Context>
class ToVectorStepOf : public ImageStepOf<Context> {
 public:
  using ImageStepOf<Context>::ImageStepOf;
  void planForward(int time) override { this->touch(this->in_, time); }
  void planBackward(int time) override { this->planInputGradient(time); }
};

/** Gives every tensor its lifetime, by walking the steps forward and, in training, back. Returns the steps to run
 * backward, in that order. */
template <class Context>
std::vector<StepOf<Context>*> planSteps(Context& c, const std::vector<std::unique_ptr<StepOf<Context>>>& steps,
                                        PartSumOf<Context>& inputSum) {
  for (size_t i = 0; i < c.tensors.size(); ++i) {
    auto& t = c.tensors[i];
    if (t.image || isLoss(c.graph.layers[i].op)) continue;
    t.buffer = c.buffers.keep(t.shape.count() * sizeof(float));
    if (t.wanted) t.gradient = c.buffers.keep(t.shape.count() * sizeof(float));
  }
  std::vector<StepOf<Context>*> backward;
  int time = 0;
  for (auto& step : steps) step->planForward(time++);
  for (auto step = steps.rbegin(); c.graph.training && step != steps.rend(); ++step, ++time) {
    const int result = (*step)->result();
    const bool reached = result < 0 || isLoss(c.graph.layers[result].op) || c.tensors[result].gradient >= 0 ||
                         !c.tensors[result].parts.empty();
    if (result == 0 || !reached) continue;
    (*step)->planBackward(time);
    backward.push_back(step->get());
  }
  if (const int last = c.tensors.back().buffer; last >= 0) c.buffers.touch(last, Buffers::kForever);
  inputSum.plan(c, c.tensors[0], 1, time);
  for (const int part : c.tensors[0].parts) c.buffers.touch(part, Buffers::kForever);
  return backward;
}

}  // namespace comface
