// Batch normalization with what follows it (residual add, a second normalization on the skip path, relu) as one step
// each way.
#include "cpu/tensor.h"

namespace comface::cpu {
namespace {

class NormStep : public Step {
 public:
  NormStep(Context& context, const NormGroup& group)
      : Step(context), group_(group), in_(layerAt(group.norm).inputs[0]) {
    kind_ = group.norm2 >= 0 ? Residual::normalized : group.add >= 0 ? Residual::tensor : Residual::none;
    const size_t channels = static_cast<size_t>(context.extent(layerAt(in_).shape).blocks) * context.kernels.block;
    const int norms = kind_ == Residual::normalized ? 2 : 1;
    batch_.assign(channels * 4 * norms, 0.0f);  // mean, inverse deviation, scale, shift
  }

  int result() const override { return group_.result(); }

  void planForward(int time) override {
    Tensor& out = tensor(result());
    out.buffer = context.buffers.create(context.imageCount(out.shape) * context.elementBytes());
    touch(in_, time), touch(result(), time);
    if (group_.residual >= 0) touch(group_.residual, time);
  }

  void planBackward(int time) override {
    Tensor& out = tensor(result());
    sum_.plan(context, out, 2, time);
    gradA_ = out.parts[0];
    gradB_ = out.parts.size() > 1 ? out.parts[1] : -1;
    for (const int part : out.parts) context.buffers.touch(part, time);
    touch(in_, time);
    if (kind_ != Residual::none) touch(result(), time), touch(group_.residual, time);
    const size_t bytes = context.imageCount(out.shape) * context.elementBytes();
    if (kind_ == Residual::none) {
      dx_ = gradA_;  // in place
    } else {
      dx_ = context.buffers.create(bytes);
      context.buffers.touch(dx_, time);
      int skip = gradA_;  // the masked gradient itself
      if (kind_ == Residual::normalized) {
        skip = dx2_ = context.buffers.create(bytes);
        context.buffers.touch(dx2_, time);
      }
      if (tensor(group_.residual).wanted) tensor(group_.residual).parts.push_back(skip);
    }
    if (tensor(in_).wanted) tensor(in_).parts.push_back(dx_);
  }

  void bind() override {
    const Extent extent = context.extent(layerAt(in_).shape);
    const void* residual = group_.residual >= 0 ? data(group_.residual) : nullptr;
    forward_ = {extent, data(in_), residual,         data(result()),        state(group_.norm, 0),
                {},     kind_,     group_.relu >= 0, context.graph.training};
    if (kind_ == Residual::normalized) forward_.norm2 = state(group_.norm2, 1);
    if (gradA_ < 0) return;
    const auto at = [&](int id) { return id >= 0 ? context.buffers.at(id) : nullptr; };
    backward_ = {extent,  data(in_), residual,      data(result()), at(gradA_), at(gradB_),
                 at(dx_), at(dx2_),  forward_.norm, forward_.norm2, kind_,      group_.relu >= 0};
  }

  void forward() override { context.kernels.normForward[context.type()](forward_); }
  void backward() override {
    sum_.run(context);
    context.kernels.normBackward[context.type()](backward_);
  }

 private:
  NormState state(int layer, int which) {
    const size_t channels = batch_.size() / (kind_ == Residual::normalized ? 8 : 4);
    float* own = batch_.data() + channels * 4 * which;
    const Graph& graph = context.graph;
    const Stored &gamma = context.parameters[indexOf(graph.parameters, layer, 0)],
                 &beta = context.parameters[indexOf(graph.parameters, layer, 1)];
    const Stored &mean = context.statistics[indexOf(graph.statistics, layer, 0)],
                 &var = context.statistics[indexOf(graph.statistics, layer, 1)];
    float *v = context.values.data(), *g = context.gradients.data(), *r = context.running.data();
    const bool training = graph.training;
    return {v + gamma.offset,
            v + beta.offset,
            training ? g + gamma.offset : nullptr,
            training ? g + beta.offset : nullptr,
            r + mean.offset,
            r + var.offset,
            own,
            own + channels,
            own + 2 * channels,
            own + 3 * channels,
            layerAt(layer).eps,
            layerAt(layer).momentum};
  }

  NormGroup group_;
  int in_, gradA_ = -1, gradB_ = -1, dx_ = -1, dx2_ = -1;
  Residual kind_;
  std::vector<float> batch_;
  PartSum sum_;
  NormForward forward_{};
  NormBackward backward_{};
};

}  // namespace

StepPtr normStep(Context& context, const NormGroup& group) { return std::make_unique<NormStep>(context, group); }

}  // namespace comface::cpu
