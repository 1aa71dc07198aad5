// Steps from one blocked image: what vision transformers and PCL's network have beside convolutions, which their linear
// layers are, too (conv.cc). GELU, leaky ReLU and flattening are oneDNN's, the rest transformer.cc's and
// efficient.cc's. Gradients of layerNorm, gelu and relu take the place of those they come from.
#include "cpu/tensor.h"

namespace comface::cpu {
namespace {

using ImageStep = ImageStepOf<Context>;
using ToVectorStep = ToVectorStepOf<Context>;

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

/** gelu, and relu with a slope, whose gradient follows from the result, so that nobody has to keep what it read. */
class ElementwiseStep : public ImageStep {
 public:
  ElementwiseStep(Context& context, int layer) : ImageStep(context, layer) {
    const auto [algorithm, alpha] = algorithmOf(layerAt(layer));
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
    touch(isRelu() ? layer_ : in_, time);
    giveGradientOn();
  }
  void bind() override {
    const Memory::desc image = context.imageDesc(tensor(in_));
    const Memory x = context.memory(image, data(in_)), y = context.memory(image, data(layer_));
    forwardArgs_ = {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}, {DNNL_ARG_SCRATCHPAD, context.scratchMemory(forwardPd_)}};
    if (!hasGradients()) return;
    const Memory gradient = context.memory(image, at(gradient_));
    backwardArgs_ = {isRelu() ? Args::value_type(DNNL_ARG_DST, y) : Args::value_type(DNNL_ARG_SRC, x),
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
  static std::pair<dnnl::algorithm, float> algorithmOf(const Layer& l) {
    if (l.op == Op::relu) return {dnnl::algorithm::eltwise_relu_use_dst_for_bwd, l.slope};
    if (l.quick) return {dnnl::algorithm::eltwise_swish, 1.702f};
    return {dnnl::algorithm::eltwise_gelu_erf, 0.0f};
  }
  bool isRelu() const { return layerAt(layer_).op == Op::relu; }

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

class EfficientAttentionStep : public ImageStep {
 public:
  EfficientAttentionStep(Context& context, int layer) : ImageStep(context, layer) {
    const size_t floats = context.efficientAttention.scratch(headSize());
    context.scratchBytes = std::max(context.scratchBytes, floats * sizeof(float) * context.graph.threads);
  }
  void planForward(int time) override {
    ImageStep::planForward(time);
    const size_t heads = static_cast<size_t>(layerAt(layer_).shape.n) * layerAt(layer_).heads;
    saved_ = create(heads * context.efficientAttention.saved(headSize()) * sizeof(float), time);
  }
  void planBackward(int time) override {
    planGradient(time);
    touch(in_, time), context.buffers.touch(saved_, time);
    planInputGradient(time);
  }
  void bind() override {
    const Layer& l = layerAt(layer_);
    args_ = {context.extent(layerAt(in_).shape),
             l.shape.c,
             l.heads,
             data(in_),
             data(layer_),
             at(gradient_),
             at(inGradient_),
             static_cast<float*>(at(saved_)),
             static_cast<float*>(at(context.scratch))};
  }
  void forward() override { context.efficientAttention.forward[context.type()](args_); }
  void backward() override {
    sum_.run(context);
    if (inGradient_ >= 0) context.efficientAttention.backward[context.type()](args_);
  }

 private:
  int headSize() const { return layerAt(layer_).shape.c / layerAt(layer_).heads; }

  int saved_ = -1;
  EfficientArgs args_{};
};

/** Image -> vector: a copy into plain fp32 N C H W. */
class FlattenStep : public ToVectorStep {
 public:
  using ToVectorStep::ToVectorStep;
  void bind() override {
    const Shape& in = tensor(in_).shape;
    const Memory::desc image = context.imageDesc(tensor(in_)), plain = Context::plainDesc(in);
    forward_ = make(image, data(in_), plain, Step::rows(layer_));
    if (inGradient_ >= 0) backward_ = make(plain, gradientRows(layer_), image, at(inGradient_));
  }
  void forward() override { forward_.first.execute(context.stream, forward_.second); }
  void backward() override {
    if (inGradient_ >= 0) backward_.first.execute(context.stream, backward_.second);
  }

 private:
  using Copy = std::pair<dnnl::reorder, Args>;
  Copy make(const Memory::desc& from, void* source, const Memory::desc& to, void* target) const {
    return {dnnl::reorder(dnnl::reorder::primitive_desc(context.engine, from, context.engine, to)),
            {{DNNL_ARG_FROM, context.memory(from, source)}, {DNNL_ARG_TO, context.memory(to, target)}}};
  }

  Copy forward_, backward_;
};

/** Image -> vector. */
class TokenStep : public ToVectorStep {
 public:
  using ToVectorStep::ToVectorStep;
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
StepPtr elementwiseStep(Context& context, int layer) { return std::make_unique<ElementwiseStep>(context, layer); }
StepPtr attentionStep(Context& context, int layer) { return std::make_unique<AttentionStep>(context, layer); }
StepPtr efficientAttentionStep(Context& context, int layer) {
  return std::make_unique<EfficientAttentionStep>(context, layer);
}
StepPtr tokenStep(Context& context, int layer) { return std::make_unique<TokenStep>(context, layer); }
StepPtr flattenStep(Context& context, int layer) { return std::make_unique<FlattenStep>(context, layer); }

}  // namespace comface::cpu
