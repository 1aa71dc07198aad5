// Steps on vectors (fp32 rows x width). Gradients are added to, since an embedding is read by several heads; the
// program zeroes them first.
#include "cuda/matmul.h"

namespace comface::cuda {
namespace {

/** y = x W^T + b. */
class LinearStep : public Step {
 public:
  LinearStep(Context& context, int layer)
      : Step(context),
        layer_(layer),
        in_(layerAt(layer).inputs[0]),
        n_(layerAt(in_).shape.n),
        c_(layerAt(in_).shape.c),
        out_(layerAt(layer).out),
        isExact_(context.number == Number::fp32),
        forward_({n_, out_, c_, false, true, false, layerAt(layer).bias}, isExact_, kMatmulWorkspaceBytes),
        data_({n_, c_, out_, false, false, true}, isExact_, kMatmulWorkspaceBytes),
        weights_({out_, c_, n_, true, false}, isExact_, kMatmulWorkspaceBytes) {
    const auto& list = context.graph.parameters;
    weight_ = indexOf(list, layer, 0);
    context.parameters[weight_].stored = list[weight_].count;
    if (!layerAt(layer).bias) return;
    bias_ = indexOf(list, layer, 1);
    context.parameters[bias_].stored = list[bias_].count;
  }
  int result() const override { return layer_; }
  void planForward(int) override {}
  void forward() override {
    const float* bias = bias_ >= 0 ? context.values.data() + context.parameters[bias_].offset : nullptr;
    forward_.run(context, rows(in_), context.values.data() + context.parameters[weight_].offset, bias, rows(layer_));
  }
  void backward() override {
    const size_t offset = context.parameters[weight_].offset;
    const float* dy = gradientRows(layer_);
    weights_.run(context, dy, rows(in_), nullptr, context.gradients.data() + offset);
    if (tensor(in_).wanted) data_.run(context, dy, context.values.data() + offset, nullptr, gradientRows(in_));
    if (bias_ < 0) return;
    columnSums(dy, n_, out_, context.gradients.data() + context.parameters[bias_].offset, context.stream);
  }

 private:
  int layer_, in_, n_, c_, out_, weight_ = -1, bias_ = -1;
  bool isExact_;
  Matmul forward_, data_, weights_;
};

/** The ops that are one launch each. */
class VectorStep : public Step {
 public:
  VectorStep(Context& context, int layer)
      : Step(context), layer_(layer), a_(layerAt(layer).inputs[0]), b_(layerAt(layer).inputs[1]) {
    count_ = layerAt(layer).shape.count();
    width_ = layerAt(layer).shape.c;
  }
  int result() const override { return layer_; }
  void planForward(int) override {
    if (layerAt(layer_).op == Op::l2Normalize) lengths_ = context.buffers.keep(height() * sizeof(float));
  }

  void forward() override {
    const float *a = rows(a_), *b = b_ >= 0 ? rows(b_) : nullptr;
    float* y = rows(layer_);
    switch (layerAt(layer_).op) {
      case Op::relu:
        return relu(Number::fp32, layerAt(layer_).slope, a, y, count_, context.stream);
      case Op::add:
        return add(Number::fp32, a, b, y, count_, context.stream);
      case Op::reluDifference:
        return reluDifference(a, b, count_, y, context.stream);
      case Op::pixelNorm:
        return pixelNorm(a, height(), width_, layerAt(layer_).eps, y, context.stream);
      case Op::rows:
        return check(
            cudaMemcpyAsync(y, a + firstElement(), count_ * sizeof(float), cudaMemcpyDeviceToDevice, context.stream),
            "copying rows");
      default:
        return l2Normalize(a, height(), width_, y, context.buffers.at<float>(lengths_), context.stream);
    }
  }

  void backward() override {
    const float *g = gradientRows(layer_), *y = rows(layer_);
    float *da = tensor(a_).wanted ? gradientRows(a_) : nullptr,
          *db = b_ >= 0 && tensor(b_).wanted ? gradientRows(b_) : nullptr;
    switch (layerAt(layer_).op) {
      case Op::relu:
        if (da) reluBackwardTo(y, g, count_, layerAt(layer_).slope, 1, da, context.stream);
        return;
      case Op::reluDifference:
        if (da) reluBackwardTo(y, g, count_, 0, 1, da, context.stream);
        if (db) reluBackwardTo(y, g, count_, 0, -1, db, context.stream);
        return;
      case Op::add:
        if (da) addTo(g, count_, da, context.stream);
        if (db) addTo(g, count_, db, context.stream);
        return;
      case Op::rows:
        if (da) addTo(g, count_, da + firstElement(), context.stream);
        return;
      default:
        if (da) l2NormalizeBackward(y, g, context.buffers.at<float>(lengths_), height(), width_, da, context.stream);
    }
  }

 private:
  int height() const { return layerAt(layer_).shape.n; }
  size_t firstElement() const {
    return static_cast<size_t>(rowRange(layerAt(layer_), layerAt(a_).shape.n).first) * width_;
  }

  int layer_, a_, b_, lengths_ = -1;
  size_t count_;
  int width_;
};

class LossStep : public Step {
 public:
  LossStep(Context& context, int layer) : Step(context), layer_(layer), in_(layerAt(layer).inputs[0]) {
    const auto& losses = context.graph.losses;
    index_ = std::find(losses.begin(), losses.end(), layer) - losses.begin();
  }
  int result() const override { return layer_; }
  void planForward(int) override {
    const Shape& in = layerAt(in_).shape;
    const bool isInfoNce = layerAt(layer_).op == Op::infoNce;
    saved_ = context.buffers.keep((isInfoNce ? 2 : 1) * in.n * sizeof(float));
    if (isInfoNce) context.reserveScratch(infoNceScratch(in.n, in.c));
  }
  void forward() override {
    double* loss = context.buffers.at<double>(context.losses) + index_;
    const int n = layerAt(in_).shape.n;
    if (layerAt(layer_).op == Op::infoNce) return infoNce(args(), loss, context.stream);
    squaredError(rows(in_), context.buffers.at<float>(context.targets), n, context.buffers.at<float>(saved_), loss,
                 context.stream);
  }
  void backward() override {
    if (!tensor(in_).wanted) return;
    const float* factor = context.buffers.at<float>(context.factors) + index_;
    if (layerAt(layer_).op == Op::infoNce) return infoNceBackward(args(), factor, gradientRows(in_), context.stream);
    squaredErrorBackward(context.buffers.at<float>(saved_), layerAt(in_).shape.n, factor, gradientRows(in_),
                         context.stream);
  }

 private:
  InfoNce args() const {
    const Shape& in = layerAt(in_).shape;
    return {rows(in_),
            in.n,
            in.c,
            layerAt(layer_).temperature,
            layerAt(in_).op == Op::l2Normalize,
            context.buffers.at<float>(saved_),
            at(context.scratch)};
  }

  int layer_, in_, saved_ = -1;
  size_t index_;
};

}  // namespace

StepPtr denseStep(Context& context, int layer) {
  if (context.graph.layers[layer].op == Op::linear) return std::make_unique<LinearStep>(context, layer);
  return std::make_unique<VectorStep>(context, layer);
}
StepPtr lossStep(Context& context, int layer) { return std::make_unique<LossStep>(context, layer); }

}  // namespace comface::cuda
