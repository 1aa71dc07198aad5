// Steps from one image beside convolutions and norms: what vision transformers and PCL's network have. N x T x C,
// positions as rows. Linear layers are cuBLASLt's in the image's number type, the rest our own kernels. Gradients of
// layerNorm, gelu and relu take the place of those they come from.
#include "cuda/matmul.h"

namespace comface::cuda {
namespace {

using ImageStep = ImageStepOf<Context>;

class TokensStep : public ImageStep {
 public:
  TokensStep(Context& context, int layer) : ImageStep(context, layer) {
    const Layer& l = layerAt(layer);
    const auto& list = context.graph.parameters;
    const size_t channels = context.channels(l.shape);
    int which = 0;
    if (l.classToken) classToken_ = indexOf(list, layer, which++);
    if (l.positions) positions_ = indexOf(list, layer, which);
    if (classToken_ >= 0) context.parameters[classToken_].stored = channels;
    if (positions_ >= 0) context.parameters[positions_].stored = l.shape.h * channels;
  }
  void planBackward(int time) override {
    planGradient(time);
    planInputGradient(time);
  }
  void bind() override {
    const Shape& in = tensor(in_).shape;
    args_ = {in.n, context.channels(in), classToken_ >= 0 ? 1 : 0, static_cast<size_t>(in.h) * in.w};
    if (classToken_ >= 0) args_.classToken = value(classToken_), args_.dClassToken = gradientOf(classToken_);
    if (positions_ >= 0) args_.positions = value(positions_), args_.dPositions = gradientOf(positions_);
  }
  void forward() override { tokens(context.number, args_, data(in_), data(layer_), context.stream); }
  void backward() override {
    sum_.run(context);
    tokensBackward(context.number, args_, at(gradient_), at(inGradient_), context.stream);
  }

 private:
  int classToken_ = -1, positions_ = -1;
  Tokens args_{};
};

class LayerNormStep : public ImageStep {
 public:
  LayerNormStep(Context& context, int layer)
      : ImageStep(context, layer), gamma_(indexOf(context.graph.parameters, layer, 0)) {
    for (const int parameter : {gamma_, gamma_ + 1})
      context.parameters[parameter].stored = context.channels(tensor(layer).shape);
  }
  void planForward(int time) override {
    ImageStep::planForward(time);
    if (context.graph.training) moments_ = create(2 * rowCount() * sizeof(float), time);
  }
  void planBackward(int time) override {
    planGradient(time);
    touch(in_, time), context.buffers.touch(moments_, time);
    context.reserveScratch(layerNormScratch(rowCount(), tensor(in_).shape.c) * sizeof(float));
    giveGradientOn();
  }
  void bind() override {
    auto* means = static_cast<float*>(at(moments_));
    args_ = {rowCount(),
             tensor(in_).shape.c,
             data(in_),
             data(layer_),
             value(gamma_),
             value(gamma_ + 1),
             gradientOf(gamma_),
             gradientOf(gamma_ + 1),
             means,
             means ? means + rowCount() : nullptr,
             layerAt(layer_).eps};
  }
  void forward() override { layerNorm(context.number, args_, context.stream); }
  void backward() override {
    sum_.run(context);
    layerNormBackward(context.number, args_, at(gradient_), context.buffers.at<float>(context.scratch), context.stream);
  }

 private:
  size_t rowCount() const { return context.pixels(tensor(in_).shape); }

  int gamma_, moments_ = -1;
  LayerNorm args_{};
};

/** gelu, not as an epilogue of the linear layer before: cuBLASLt's is the approximation by tanh. And relu with a slope,
 * whose gradient follows from the result, so that nobody has to keep what it read. */
class ElementwiseStep : public ImageStep {
 public:
  using ImageStep::ImageStep;
  void planBackward(int time) override {
    planGradient(time);
    touch(isRelu() ? layer_ : in_, time);
    giveGradientOn();
  }
  void forward() override {
    const Layer& l = layerAt(layer_);
    isRelu() ? relu(context.number, l.slope, data(in_), data(layer_), count(), context.stream)
             : gelu(context.number, l.quick, data(in_), data(layer_), count(), context.stream);
  }
  void backward() override {
    sum_.run(context);
    const Layer& l = layerAt(layer_);
    void* const gradient = at(gradient_);
    isRelu() ? reluBackward(context.number, l.slope, data(layer_), gradient, gradient, count(), context.stream)
             : geluBackward(context.number, l.quick, data(in_), gradient, gradient, count(), context.stream);
  }

 private:
  bool isRelu() const { return layerAt(layer_).op == Op::relu; }
  size_t count() const { return context.imageCount(tensor(layer_).shape); }
};

class AttentionStep : public ImageStep {
 public:
  AttentionStep(Context& context, int layer) : ImageStep(context, layer) {
    const Layer& l = layerAt(layer);
    if (l.shape.c / l.heads <= kWidestHead) return;
    throw Error(Code::invalidConfig, "Layer `" + l.name + "`: the CUDA backend has heads of at most " +
                                         std::to_string(kWidestHead) + " channels, not of " +
                                         std::to_string(l.shape.c / l.heads) + ".");
  }
  void planForward(int time) override {
    ImageStep::planForward(time);
    if (context.graph.training) logSums_ = create(queries() * sizeof(float), time);
  }
  void planBackward(int time) override {
    planGradient(time);
    planInputGradient(time);
    if (inGradient_ < 0) return;
    touch(in_, time), touch(layer_, time), context.buffers.touch(logSums_, time);
    context.reserveScratch(queries() * sizeof(float));
  }
  void bind() override {
    const Layer& l = layerAt(layer_);
    const Shape& out = tensor(layer_).shape;
    args_ = {
        out.n, out.h * out.w, l.heads, out.c / l.heads, data(in_), data(layer_), static_cast<float*>(at(logSums_))};
  }
  void forward() override { attention(context.number, args_, context.stream); }
  void backward() override {
    if (inGradient_ < 0) return;
    sum_.run(context);
    attentionBackward(context.number, args_, at(gradient_), at(inGradient_), context.buffers.at<float>(context.scratch),
                      context.stream);
  }

 private:
  /** Of all heads. */
  size_t queries() const { return context.pixels(tensor(layer_).shape) * layerAt(layer_).heads; }

  int logSums_ = -1;
  Attention args_{};
};

class EfficientAttentionStep : public ImageStep {
 public:
  EfficientAttentionStep(Context& context, int layer) : ImageStep(context, layer) {
    const Shape& out = tensor(layer).shape;
    const int heads = layerAt(layer).heads;
    args_ = {out.n, out.h * out.w, heads, out.c / heads, nullptr, nullptr, nullptr, nullptr};
    context.reserveScratch(efficientScratch(args_) * sizeof(float));
  }
  void planForward(int time) override {
    ImageStep::planForward(time);
    saved_ = create(efficientSaved(args_) * sizeof(float), time);
  }
  void planBackward(int time) override {
    planGradient(time);
    planInputGradient(time);
    if (inGradient_ < 0) return;
    touch(in_, time), touch(layer_, time), context.buffers.touch(saved_, time);
  }
  void bind() override {
    args_.x = data(in_), args_.y = data(layer_);
    args_.saved = static_cast<float*>(at(saved_)), args_.scratch = context.buffers.at<float>(context.scratch);
  }
  void forward() override { efficientAttention(context.number, args_, context.stream); }
  void backward() override {
    if (inGradient_ < 0) return;
    sum_.run(context);
    efficientAttentionBackward(context.number, args_, at(gradient_), at(inGradient_), context.stream);
  }

 private:
  int saved_ = -1;
  EfficientAttention args_{};
};

/** y = x W^T + b at each position: rows of a product. W is out x in, both padded. */
class ImageLinearStep : public ImageStep {
 public:
  ImageLinearStep(Context& context, int layer)
      : ImageStep(context, layer),
        m_(static_cast<int64_t>(context.pixels(tensor(in_).shape))),
        c_(context.channels(tensor(in_).shape)),
        out_(context.channels(tensor(layer).shape)),
        isExact_(context.number == Number::fp32),
        forward_({m_, out_, c_, false, true, false, layerAt(layer).bias, context.number, context.number}, isExact_,
                 kMatmulWorkspaceBytes),
        data_({m_, c_, out_, false, false, false, false, context.number, context.number}, isExact_,
              kMatmulWorkspaceBytes),
        weights_({out_, c_, m_, true, false, false, false, context.number, Number::fp32}, isExact_,
                 kMatmulWorkspaceBytes) {
    weight_ = indexOf(context.graph.parameters, layer, 0);
    context.parameters[weight_].stored = static_cast<size_t>(out_) * c_;
    if (!layerAt(layer).bias) return;
    bias_ = indexOf(context.graph.parameters, layer, 1);
    context.parameters[bias_].stored = out_;
  }
  void planBackward(int time) override {
    planGradient(time);
    touch(in_, time);
    if (bias_ >= 0) context.reserveScratch(biasScratch(m_, out_) * sizeof(float));
    planInputGradient(time);
  }
  void forward() override {
    const void* bias = bias_ >= 0 ? context.weights(context.parameters[bias_]) : nullptr;
    forward_.run(context, data(in_), context.weights(context.parameters[weight_]), bias, data(layer_));
  }
  void backward() override {
    sum_.run(context);
    const void* dy = at(gradient_);
    weights_.run(context, dy, data(in_), nullptr, gradientOf(weight_));
    if (bias_ >= 0) {
      biasGradient(context.number, dy, m_, out_, gradientOf(bias_), context.buffers.at<float>(context.scratch),
                   context.stream);
    }
    if (inGradient_ >= 0) {
      data_.run(context, dy, context.weights(context.parameters[weight_]), nullptr, at(inGradient_));
    }
  }

 private:
  int64_t m_;
  int c_, out_, weight_ = -1, bias_ = -1;
  bool isExact_;
  Matmul forward_, data_, weights_;
};

}  // namespace

StepPtr tokensStep(Context& context, int layer) { return std::make_unique<TokensStep>(context, layer); }
StepPtr layerNormStep(Context& context, int layer) { return std::make_unique<LayerNormStep>(context, layer); }
StepPtr elementwiseStep(Context& context, int layer) { return std::make_unique<ElementwiseStep>(context, layer); }
StepPtr attentionStep(Context& context, int layer) { return std::make_unique<AttentionStep>(context, layer); }
StepPtr efficientAttentionStep(Context& context, int layer) {
  return std::make_unique<EfficientAttentionStep>(context, layer);
}
StepPtr imageLinearStep(Context& context, int layer) { return std::make_unique<ImageLinearStep>(context, layer); }

}  // namespace comface::cuda
