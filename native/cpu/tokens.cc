// The steps of vision transformers on blocked images. Linear layers are convolutions (conv.cc); GELU is oneDNN's, the
// rest transformer.cc's. Gradients of layerNorm and gelu take the place of those they come from.
#include "cpu/tensor.h"

namespace comface::cpu {
namespace {

using ImageStep = ImageStepOf<Context>;

class TokensStep : public ImageStep {
 public:
  using ImageStep::ImageStep;
  void planBackward(int time) override {
    planGradient(time);
    planInputGradient(time);
  }
  void bind() override {
    const Layer& l = layerAt(layer_);
    const Shape& in = layerAt(in_).shape;
    forward_ = {context.extent(in), in.c, data(in_), data(layer_), nullptr, nullptr, nullptr, nullptr};
    int which = 0;
    if (l.classToken) {
      const int p = indexOf(context.graph.parameters, layer_, which++);
      forward_.classToken = value(p), forward_.gradClassToken = gradientOf(p);
    }
    if (l.positions) {
      const int p = indexOf(context.graph.parameters, layer_, which);
      forward_.positions = value(p), forward_.gradPositions = gradientOf(p);
    }
    backward_ = forward_;
    backward_.x = at(inGradient_), backward_.y = at(gradient_);
  }
  void forward() override { context.transformer.tokensForward[context.type()](forward_); }
  void backward() override {
    sum_.run(context);
    context.transformer.tokensBackward[context.type()](backward_);
  }

 private:
  TokensArgs forward_{}, backward_{};
};

class LayerNormStep : public ImageStep {
 public:
  using ImageStep::ImageStep;
  void planForward(int time) override {
    ImageStep::planForward(time);
    if (context.graph.training) moments_ = create(2 * positions() * sizeof(float), time);
  }
  void planBackward(int time) override {
    planGradient(time);
    touch(in_, time), context.buffers.touch(moments_, time);
    giveGradientOn();
  }
  void bind() override {
    const int gamma = indexOf(context.graph.parameters, layer_, 0), beta = gamma + 1;
    const Shape& in = layerAt(in_).shape;
    float* moments = static_cast<float*>(at(moments_));
    args_ = {context.extent(in),
             in.c,
             data(in_),
             data(layer_),
             at(gradient_),
             value(gamma),
             value(beta),
             gradientOf(gamma),
             gradientOf(beta),
             moments,
             moments ? moments + positions() : nullptr,
             layerAt(layer_).eps};
  }
  void forward() override { context.transformer.layerNormForward[context.type()](args_); }
  void backward() override {
    sum_.run(context);
    context.transformer.layerNormBackward[context.type()](args_);
  }

 private:
  size_t positions() const {
    const Shape& in = layerAt(in_).shape;
    return static_cast<size_t>(in.n) * in.h * in.w;
  }

  int moments_ = -1;
  LayerNormArgs args_{};
};

class GeluStep : public ImageStep {
 public:
  GeluStep(Context& context, int layer) : ImageStep(context, layer) {
    const bool isQuick = layerAt(layer).quick;
    const auto algorithm = isQuick ? dnnl::algorithm::eltwise_swish : dnnl::algorithm::eltwise_gelu_erf;
    const float alpha = isQuick ? 1.702f : 0;
    const Memory::desc image = context.imageDesc(tensor(in_));
    const auto kind = context.graph.training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    forwardPd_ = {{kind, algorithm, image, alpha, 0}, context.attributes(), context.engine};
    context.reserveScratch(forwardPd_);
    forwardPrimitive_ = dnnl::eltwise_forward(forwardPd_);
    if (!context.graph.training) return;
    backwardPd_ = {{algorithm, image, image, alpha, 0}, context.attributes(), context.engine, forwardPd_};
    context.reserveScratch(backwardPd_);
    backwardPrimitive_ = dnnl::eltwise_backward(backwardPd_);
  }
  void planBackward(int time) override {
    planGradient(time);
    touch(in_, time);
    giveGradientOn();
  }
  void bind() override {
    const Memory::desc image = context.imageDesc(tensor(in_));
    const Memory x = context.memory(image, data(in_));
    forwardArgs_ = {{DNNL_ARG_SRC, x},
                    {DNNL_ARG_DST, context.memory(image, data(layer_))},
                    {DNNL_ARG_SCRATCHPAD, context.scratchMemory(forwardPd_)}};
    if (!hasGradients()) return;
    const Memory gradient = context.memory(image, at(gradient_));
    backwardArgs_ = {{DNNL_ARG_SRC, x},
                     {DNNL_ARG_DIFF_DST, gradient},
                     {DNNL_ARG_DIFF_SRC, gradient},
                     {DNNL_ARG_SCRATCHPAD, context.scratchMemory(backwardPd_)}};
  }
  void forward() override { forwardPrimitive_.execute(context.stream, forwardArgs_); }
  void backward() override {
    sum_.run(context);
    backwardPrimitive_.execute(context.stream, backwardArgs_);
  }

 private:
  dnnl::eltwise_forward::primitive_desc forwardPd_;
  dnnl::eltwise_backward::primitive_desc backwardPd_;
  dnnl::eltwise_forward forwardPrimitive_;
  dnnl::eltwise_backward backwardPrimitive_;
  Args forwardArgs_, backwardArgs_;
};

class AttentionStep : public ImageStep {
 public:
  AttentionStep(Context& context, int layer) : ImageStep(context, layer) {
    const Layer& l = layerAt(layer);
    const size_t floats = context.transformer.attentionScratch(l.shape.h * l.shape.w, l.shape.c / l.heads);
    context.scratchBytes = std::max(context.scratchBytes, floats * sizeof(float) * context.graph.threads);
  }
  void planForward(int time) override {
    ImageStep::planForward(time);
    sums_ = create(2 * rows() * sizeof(float), time);
  }
  void planBackward(int time) override {
    planGradient(time);
    touch(in_, time), context.buffers.touch(sums_, time);
    planInputGradient(time);
  }
  void bind() override {
    const Layer& l = layerAt(layer_);
    float* sums = static_cast<float*>(at(sums_));
    args_ = {context.extent(layerAt(in_).shape),
             l.shape.c,
             l.heads,
             data(in_),
             data(layer_),
             at(gradient_),
             at(inGradient_),
             sums,
             sums + rows(),
             static_cast<float*>(at(context.scratch))};
  }
  void forward() override { context.transformer.attentionForward[context.type()](args_); }
  void backward() override {
    sum_.run(context);
    if (inGradient_ >= 0) context.transformer.attentionBackward[context.type()](args_);
  }

 private:
  /** Queries of all heads. */
  size_t rows() const {
    const Shape& in = layerAt(in_).shape;
    return static_cast<size_t>(in.n) * layerAt(layer_).heads * in.h * in.w;
  }

  int sums_ = -1;
  AttentionArgs args_{};
};

/** Image -> vector. */
class TokenStep : public ImageStep {
 public:
  using ImageStep::ImageStep;
  void planForward(int time) override { touch(in_, time); }
  void planBackward(int time) override { planInputGradient(time); }
  void forward() override {
    const Shape& in = tensor(in_).shape;
    context.transformer.tokenForward[context.type()](data(in_), context.extent(in), in.c, layerAt(layer_).position,
                                                     Step::rows(layer_));
  }
  void backward() override {
    if (inGradient_ < 0) return;
    const Shape& in = tensor(in_).shape;
    context.transformer.tokenBackward[context.type()](gradientRows(layer_), context.extent(in), in.c,
                                                      layerAt(layer_).position, at(inGradient_));
  }
};

}  // namespace

StepPtr tokensStep(Context& context, int layer) { return std::make_unique<TokensStep>(context, layer); }
StepPtr layerNormStep(Context& context, int layer) { return std::make_unique<LayerNormStep>(context, layer); }
StepPtr geluStep(Context& context, int layer) { return std::make_unique<GeluStep>(context, layer); }
StepPtr attentionStep(Context& context, int layer) { return std::make_unique<AttentionStep>(context, layer); }
StepPtr tokenStep(Context& context, int layer) { return std::make_unique<TokenStep>(context, layer); }

}  // namespace comface::cpu
