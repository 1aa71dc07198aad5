// Steps on vectors (fp32 rows x width): linear by oneDNN's matmul, and the small ones as loops. Gradients are added to,
// since an embedding is read by several heads; the program zeroes them first.
#include <cmath>

#include "cpu/tensor.h"

namespace comface::cpu {
namespace {

using Tag = Memory::format_tag;
const auto kF32 = Memory::data_type::f32;

/** y = x W^T + b. */
class LinearStep : public Step {
 public:
  LinearStep(Context& context, int layer)
      : Step(context),
        layer_(layer),
        in_(layerAt(layer).inputs[0]),
        n_(layerAt(in_).shape.n),
        c_(layerAt(in_).shape.c),
        out_(layerAt(layer).out) {
    weight_ = indexOf(context.graph.parameters, layer, 0);
    if (layerAt(layer).bias) bias_ = indexOf(context.graph.parameters, layer, 1);
    const Memory::desc x({n_, c_}, kF32, Tag::ab), w({c_, out_}, kF32, Tag::ba), y({n_, out_}, kF32, Tag::ab);
    const Memory::desc b = bias_ >= 0 ? Memory::desc({1, out_}, kF32, Tag::ab) : Memory::desc();
    forward_ = make(x, w, b, y, false);
    forwardPrimitive_ = dnnl::matmul(forward_);
    if (!context.graph.training) return;
    data_ = make(y, {{out_, c_}, kF32, Tag::ab}, {}, x, true);
    weights_ = make({{out_, n_}, kF32, Tag::ba}, x, {}, {{out_, c_}, kF32, Tag::ab}, false);
    dataPrimitive_ = dnnl::matmul(data_), weightPrimitive_ = dnnl::matmul(weights_);
  }
  int result() const override { return layer_; }
  void planForward(int) override {}
  void bind() override {
    float* w = context.values.data() + context.parameters[weight_].offset;
    forwardArgs_ = args(forward_, rows(in_), w, rows(layer_));
    if (bias_ >= 0) {
      float* b = context.values.data() + context.parameters[bias_].offset;
      forwardArgs_.insert({DNNL_ARG_BIAS, context.memory(forward_.bias_desc(), b)});
    }
    if (tensor(layer_).gradient < 0) return;
    float* dw = context.gradients.data() + context.parameters[weight_].offset;
    weightArgs_ = args(weights_, gradientRows(layer_), rows(in_), dw);
    if (tensor(in_).wanted) dataArgs_ = args(data_, gradientRows(layer_), w, gradientRows(in_));
  }
  void forward() override { forwardPrimitive_.execute(context.stream, forwardArgs_); }
  void backward() override {
    weightPrimitive_.execute(context.stream, weightArgs_);
    if (!dataArgs_.empty()) dataPrimitive_.execute(context.stream, dataArgs_);
    if (bias_ < 0) return;
    float* db = context.gradients.data() + context.parameters[bias_].offset;
    const float* dy = gradientRows(layer_);
    std::fill_n(db, out_, 0.0f);
    for (int n = 0; n < n_; ++n) {
      for (int o = 0; o < out_; ++o) db[o] += dy[static_cast<size_t>(n) * out_ + o];
    }
  }

 private:
  dnnl::matmul::primitive_desc make(const Memory::desc& a, const Memory::desc& b, const Memory::desc& bias,
                                    const Memory::desc& c, bool sum) {
    dnnl::primitive_attr attr = context.attributes();
    if (sum) {
      dnnl::post_ops ops;
      ops.append_sum(1.0f);
      attr.set_post_ops(ops);
    }
    const auto desc = bias.is_zero() ? dnnl::matmul::desc(a, b, c) : dnnl::matmul::desc(a, b, bias, c);
    const dnnl::matmul::primitive_desc pd(desc, attr, context.engine);
    context.reserveScratch(pd);
    return pd;
  }
  Args args(const dnnl::matmul::primitive_desc& pd, const float* a, const float* b, float* c) {
    return {{DNNL_ARG_SRC, context.memory(pd.src_desc(), const_cast<float*>(a))},
            {DNNL_ARG_WEIGHTS, context.memory(pd.weights_desc(), const_cast<float*>(b))},
            {DNNL_ARG_DST, context.memory(pd.dst_desc(), c)},
            {DNNL_ARG_SCRATCHPAD, context.scratchMemory(pd)}};
  }

  int layer_, in_, n_, c_, out_, weight_ = -1, bias_ = -1;
  dnnl::matmul::primitive_desc forward_, data_, weights_;
  dnnl::matmul forwardPrimitive_, dataPrimitive_, weightPrimitive_;
  Args forwardArgs_, dataArgs_, weightArgs_;
};

/** The ops that are one loop each. */
class LoopStep : public Step {
 public:
  LoopStep(Context& context, int layer)
      : Step(context), layer_(layer), a_(layerAt(layer).inputs[0]), b_(layerAt(layer).inputs[1]) {
    count_ = layerAt(layer).shape.count();
    width_ = layerAt(layer).shape.c;
  }
  int result() const override { return layer_; }
  void planForward(int) override {}

  void forward() override {
    const float *a = rows(a_), *b = b_ >= 0 ? rows(b_) : nullptr;
    float* y = rows(layer_);
    switch (layerAt(layer_).op) {
      case Op::relu:
        for (size_t i = 0; i < count_; ++i) y[i] = a[i] < 0 ? sloped(a[i]) : a[i];
        break;
      case Op::add:
        for (size_t i = 0; i < count_; ++i) y[i] = a[i] + b[i];
        break;
      case Op::reluDifference:
        for (size_t i = 0; i < count_; ++i) y[i] = a[i] - b[i] < 0 ? 0 : a[i] - b[i];
        break;
      case Op::rows:
        std::copy_n(a + firstElement(), count_, y);
        break;
      case Op::pixelNorm:
        for (size_t i = 0; i < count_; i += width_) {
          const double norm = length(a + i);
          const double scale = 1 / std::sqrt(norm * norm / static_cast<double>(width_) + layerAt(layer_).eps);
          for (size_t d = i; d < i + width_; ++d) y[d] = static_cast<float>(a[d] * scale);
        }
        break;
      default:  // l2Normalize
        for (size_t i = 0; i < count_; i += width_) {
          const float inverse = 1 / length(a + i);
          for (size_t d = i; d < i + width_; ++d) y[d] = a[d] * inverse;
        }
    }
  }

  void backward() override {
    const float *g = gradientRows(layer_), *y = rows(layer_);
    float *da = tensor(a_).wanted ? gradientRows(a_) : nullptr,
          *db = b_ >= 0 && tensor(b_).wanted ? gradientRows(b_) : nullptr;
    switch (layerAt(layer_).op) {
      case Op::relu:
        for (size_t i = 0; da && i < count_; ++i) da[i] += y[i] > 0 ? g[i] : sloped(g[i]);
        break;
      case Op::add:
        for (size_t i = 0; da && i < count_; ++i) da[i] += g[i];
        for (size_t i = 0; db && i < count_; ++i) db[i] += g[i];
        break;
      case Op::reluDifference:
        for (size_t i = 0; da && i < count_; ++i) da[i] += y[i] > 0 ? g[i] : 0;
        for (size_t i = 0; db && i < count_; ++i) db[i] -= y[i] > 0 ? g[i] : 0;
        break;
      case Op::rows:
        for (size_t i = 0; da && i < count_; ++i) da[firstElement() + i] += g[i];
        break;
      default:  // l2Normalize: dx = (g - y (g . y)) / |x|
        for (size_t i = 0; da && i < count_; i += width_) {
          double dot = 0;
          for (size_t d = i; d < i + width_; ++d) dot += static_cast<double>(g[d]) * y[d];
          const float inverse = 1 / length(rows(a_) + i);
          for (size_t d = i; d < i + width_; ++d) da[d] += (g[d] - y[d] * static_cast<float>(dot)) * inverse;
        }
    }
  }

 private:
  size_t firstElement() const {
    return static_cast<size_t>(rowRange(layerAt(layer_), layerAt(a_).shape.n).first) * width_;
  }
  /** Times the slope of a relu; 0 of what is infinite, too, where there is none. */
  float sloped(float value) const {
    const float slope = layerAt(layer_).slope;
    return slope == 0 ? 0 : slope * value;
  }
  float length(const float* x) const {
    double sum = 0;
    for (size_t d = 0; d < width_; ++d) sum += static_cast<double>(x[d]) * x[d];
    return std::max(static_cast<float>(std::sqrt(sum)), 1e-12f);
  }

  int layer_, a_, b_;
  size_t count_, width_;
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
    if (layerAt(layer_).op == Op::squaredError) {
      errors_ = context.buffers.keep(in.n * sizeof(float));  // the caller's targets may be gone by backward
      return;
    }
    sums_ = context.buffers.keep(2 * in.n * sizeof(float));
    tiles_ = context.buffers.keep(context.kernels.infoNceScratch(in.c, context.graph.threads) * sizeof(float));
  }
  void bind() override {
    if (sums_ < 0) return;
    const Layer& l = layerAt(layer_);
    const Shape& in = layerAt(in_).shape;
    float* dz = tensor(in_).gradient >= 0 ? gradientRows(in_) : nullptr;
    args_ = {rows(in_),
             in.n,
             in.c,
             l.temperature,
             context.buffers.at<float>(sums_),
             context.buffers.at<float>(sums_) + in.n,
             dz,
             l.weight,
             context.buffers.at<float>(tiles_)};
  }
  void forward() override {
    double& loss = context.losses[index_];
    if (sums_ >= 0) {
      loss = context.kernels.infoNceForward(args_);
      return;
    }
    const int n = layerAt(in_).shape.n;
    float* errors = context.buffers.at<float>(errors_);
    loss = 0;
    for (int i = 0; i < n; ++i) {
      errors[i] = rows(in_)[i] - context.targets[i];
      loss += static_cast<double>(errors[i]) * errors[i] / n;
    }
  }
  void backward() override {
    if (!tensor(in_).wanted) return;
    if (sums_ >= 0) {
      context.kernels.infoNceBackward(args_);
      return;
    }
    const int n = layerAt(in_).shape.n;
    const float factor = 2 * layerAt(layer_).weight / static_cast<float>(n);
    for (int i = 0; i < n; ++i) gradientRows(in_)[i] += factor * context.buffers.at<float>(errors_)[i];
  }

 private:
  int layer_, in_, sums_ = -1, tiles_ = -1, errors_ = -1;
  size_t index_;
  InfoNceArgs args_{};
};

}  // namespace

StepPtr denseStep(Context& context, int layer) {
  if (context.graph.layers[layer].op == Op::linear) return std::make_unique<LinearStep>(context, layer);
  return std::make_unique<LoopStep>(context, layer);
}
StepPtr lossStep(Context& context, int layer) { return std::make_unique<LossStep>(context, layer); }

}  // namespace comface::cpu
