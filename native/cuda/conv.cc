// Convolution by cuDNN: each way as one plan, with what follows fused into it where cuDNN has a plan of the device's
// own kernels for that, else alone. In 16 bits the fused plans exist on Hopper only when the convolution's result is a
// virtual fp32 tensor from which the stored one and the sums are both taken. Its kernels add sums in any order, so a
// deterministic network there has none of them: normalizations gather their own.
#include "cuda/conv.h"

namespace comface::cuda {
namespace {

class ConvStep : public Step {
 public:
  ConvStep(Context& context, int layer) : Step(context), layer_(layer), in_(layerAt(layer).inputs[0]) {
    const Layer& l = layerAt(layer);
    weight_ = indexOf(context.graph.parameters, layer, 0);
    if (l.bias) bias_ = indexOf(context.graph.parameters, layer, 1);
    inChannels_ = context.channels(tensor(in_).shape), outChannels_ = context.channels(tensor(layer).shape);
    Stored& stored = context.parameters[weight_];
    stored.stored = static_cast<size_t>(outChannels_) * l.kernel * l.kernel * inChannels_;
    if (bias_ >= 0) context.parameters[bias_].stored = outChannels_;
  }

  int result() const override { return layer_; }

  void planForward(int time) override {
    Tensor& out = tensor(layer_);
    out.buffer = create(context.imageBytes(out.shape), time);
    touch(in_, time);
    if (planStatistics()) {
      out.sums = create(2 * outChannels_ * sizeof(float), time);
      return;
    }
    Operations o;
    const TensorId x = input(o), w = filter(o), y = output(o);
    o.convolve(x, w, y, layerAt(layer_).pad, layerAt(layer_).stride);
    forward_ = {need(context, layer_, std::move(o), "its forward pass"), {{x, nullptr}, {w, nullptr}, {y, nullptr}}};
  }

  void planBackward(int time) override {
    Tensor& out = tensor(layer_);
    sum_.plan(context, out, 1, time);
    grad_ = out.parts[0];
    context.buffers.touch(grad_, time), touch(in_, time);
    if (bias_ >= 0) context.reserveScratch(biasScratch(context.pixels(out.shape), outChannels_) * sizeof(float));
    planFilter(time);
    if (!tensor(in_).wanted) return;
    inGrad_ = create(context.imageBytes(tensor(in_).shape), time);
    tensor(in_).parts.push_back(inGrad_);
    if (planMasked(time)) return;
    Operations o;
    const TensorId dy = output(o), w = filter(o), dx = input(o);
    o.convolveBackwardData(dy, w, dx, layerAt(layer_).pad, layerAt(layer_).stride);
    data_ = {need(context, layer_, std::move(o), "the gradient of its input"),
             {{dy, nullptr}, {w, nullptr}, {dx, nullptr}}};
  }

  void bind() override {
    const Stored& stored = context.parameters[weight_];
    void* weights = context.weights(stored);
    const Tensor& out = tensor(layer_);
    if (out.sums >= 0) {
      forward_.sums = static_cast<float*>(at(out.sums)), forward_.sumCount = 2 * outChannels_;
      forward_.fill({data(in_), weights, data(layer_), forward_.sums, forward_.sums + outChannels_});
    } else {
      forward_.fill({data(in_), weights, data(layer_)});
    }
    if (grad_ < 0) return;
    float* dw = context.gradients.data() + stored.offset;
    filterGradient_.fill({data(in_), at(grad_), narrow_ >= 0 ? at(narrow_) : dw});
    if (inGrad_ < 0) return;
    const Tensor& in = tensor(in_);
    if (in.maskedSums >= 0) {
      data_.sums = static_cast<float*>(at(in.maskedSums)), data_.sumCount = 2 * inChannels_;
      data_.fill({at(grad_), weights, data(in_), data(normalized_), at(inGrad_), data_.sums, data_.sums + inChannels_});
    } else {
      data_.fill({at(grad_), weights, at(inGrad_)});
    }
  }

  void forward() override {
    forward_.run(context);
    if (bias_ >= 0) {
      const float* bias = context.values.data() + context.parameters[bias_].offset;
      addBias(context.number, data(layer_), bias, context.pixels(tensor(layer_).shape), outChannels_, context.stream);
    }
  }

  void backward() override {
    sum_.run(context);
    if (bias_ >= 0) {
      float* gradient = context.gradients.data() + context.parameters[bias_].offset;
      biasGradient(context.number, at(grad_), context.pixels(tensor(layer_).shape), outChannels_, gradient,
                   context.buffers.at<float>(context.scratch), context.stream);
    }
    filterGradient_.run(context);
    if (narrow_ >= 0) {
      const Stored& stored = context.parameters[weight_];
      widen(context.number, at(narrow_), stored.stored, context.gradients.data() + stored.offset, context.stream);
    }
    if (inGrad_ >= 0) data_.run(context);
  }

 private:
  TensorId image(Operations& o, const Shape& s, int channels, Number number, bool isVirtual = false) const {
    return o.image(number, s.n, channels, s.h, s.w, isVirtual);
  }
  TensorId input(Operations& o) const { return image(o, tensor(in_).shape, inChannels_, context.number); }
  TensorId output(Operations& o) const { return image(o, tensor(layer_).shape, outChannels_, context.number); }
  TensorId filter(Operations& o) const {
    return o.filter(context.number, outChannels_, inChannels_, layerAt(layer_).kernel);
  }

  /** With the sums of its result, which the normalization that alone reads it would have to gather. */
  bool planStatistics() {
    const auto& users = context.graph.users[layer_];
    const bool isNormalized = users.size() == 1 && context.graph.layers[users[0]].op == Op::batchNorm;
    if (!isNormalized || !context.graph.training || !context.isFusing || bias_ >= 0 || context.number == Number::fp32)
      return false;
    Operations o(context.graph.deterministic);
    const TensorId x = input(o), w = filter(o), y = output(o);
    const TensorId exact = image(o, tensor(layer_).shape, outChannels_, Number::fp32, true);
    const TensorId sum = o.channels(outChannels_), squares = o.channels(outChannels_);
    o.convolve(x, w, exact, layerAt(layer_).pad, layerAt(layer_).stride);
    o.identity(exact, y);
    o.sumAndSquares(exact, sum, squares);
    forward_ = {context.planner.plan(std::move(o), true),
                {{x, nullptr}, {w, nullptr}, {y, nullptr}, {sum, nullptr}, {squares, nullptr}}};
    return forward_.plan != nullptr;
  }

  /** The gradient through the relu before it, with the sums that the normalization before that begins with. */
  bool planMasked(int time) {
    const NormGroup& group = context.lowered.groups[in_];
    if (group.norm < 0 || group.relu < 0 || group.add >= 0 || context.graph.users[in_].size() != 1 ||
        layerAt(layer_).stride != 1 || !context.isFusing || context.number == Number::fp32)
      return false;
    normalized_ = layerAt(group.norm).inputs[0];
    const Shape& shape = tensor(in_).shape;
    const auto exact = [&](Operations& o) { return image(o, shape, inChannels_, Number::fp32, true); };
    Operations o(context.graph.deterministic);
    const TensorId dy = output(o), w = filter(o), x = input(o), before = input(o), d = input(o);
    const TensorId sum = o.channels(inChannels_), product = o.channels(inChannels_);
    const TensorId dx = exact(o), masked = exact(o), products = exact(o);
    o.convolveBackwardData(dy, w, dx, layerAt(layer_).pad, 1);
    o.reluBackward(dx, x, masked);
    o.identity(masked, d);
    o.sum(masked, sum);
    o.multiply(masked, before, products);
    o.sum(products, product);
    data_ = {context.planner.plan(std::move(o), true), {}};
    if (!data_.plan) return false;
    for (const TensorId id : {dy, w, x, before, d, sum, product}) data_.bindings.push_back({id, nullptr});
    Tensor& in = tensor(in_);
    in.maskedSums = create(2 * inChannels_ * sizeof(float), time);
    touch(normalized_, time);
    return true;
  }

  /** Weights' gradient in fp32: through a virtual tensor, directly, or widened afterwards, whichever cuDNN can. */
  void planFilter(int time) {
    const auto gradient = [&](Operations& o, Number number, bool isVirtual) {
      return o.filter(number, outChannels_, inChannels_, layerAt(layer_).kernel, isVirtual);
    };
    const auto attempt = [&](bool throughVirtual, Number number, bool native) {
      Operations o;
      const TensorId x = input(o), dy = output(o), dw = gradient(o, number, false);
      const TensorId target = throughVirtual ? gradient(o, Number::fp32, true) : dw;
      o.convolveBackwardFilter(x, dy, target, layerAt(layer_).pad, layerAt(layer_).stride);
      if (throughVirtual) o.identity(target, dw);
      filterGradient_ = {context.planner.plan(std::move(o), native), {{x, nullptr}, {dy, nullptr}, {dw, nullptr}}};
      return filterGradient_.plan != nullptr;
    };
    if (context.number == Number::fp32) {
      if (attempt(false, Number::fp32, false)) return;
    } else {
      if (context.isFusing && attempt(true, Number::fp32, true)) return;
      if (attempt(false, context.number, false)) {
        narrow_ = create(context.parameters[weight_].stored * sizeOf(context.number), time);
        return;
      }
    }
    throw Error(Code::deviceFailed, "Layer `" + layerAt(layer_).name +
                                        "`: cuDNN has no plan for the gradient of its "
                                        "weights on " +
                                        context.planner.target().name() + ".");
  }

  int layer_, in_, weight_, bias_ = -1, normalized_ = -1;
  int inChannels_, outChannels_;
  int grad_ = -1, inGrad_ = -1, narrow_ = -1;
  Bound forward_, data_, filterGradient_;
  PartSum sum_;
};

}  // namespace

StepPtr convStep(Context& context, int layer) { return std::make_unique<ConvStep>(context, layer); }

}  // namespace comface::cuda
