// Batch normalization with what follows it (residual add, a second normalization on the skip path, relu) as one step
// each way, by our own kernels (norm.cu): cuDNN's are no fewer passes over memory and want a bitmask for the relu.
#include "cuda/tensor.h"

namespace comface::cuda {
namespace {

class NormStep : public Step {
 public:
  NormStep(Context& context, const NormGroup& group)
      : Step(context), group_(group), in_(layerAt(group.norm).inputs[0]) {
    kind_ = group.norm2 >= 0 ? Residual::normalized : group.add >= 0 ? Residual::tensor : Residual::none;
    channels_ = context.channels(tensor(in_).shape), pixels_ = context.pixels(tensor(in_).shape);
    for (const int norm : {group.norm, group.norm2}) {
      if (norm < 0) continue;
      for (const int which : {0, 1}) {
        context.parameters[indexOf(context.graph.parameters, norm, which)].stored = channels_;
        context.statistics[indexOf(context.graph.statistics, norm, which)].stored = channels_;
      }
    }
  }

  int result() const override { return group_.result(); }

  void planForward(int time) override {
    Tensor& out = tensor(result());
    out.buffer = create(context.imageBytes(out.shape), time);
    touch(in_, time);
    if (group_.residual >= 0) touch(group_.residual, time);
    own_ = context.buffers.keep((kind_ == Residual::normalized ? 8 : 4) * channels_ * sizeof(float));
    for (const int read : {in_, kind_ == Residual::normalized ? group_.residual : -1}) {
      if (read >= 0 && tensor(read).sums >= 0) context.buffers.touch(tensor(read).sums, time);
    }
    if (context.graph.training) context.reserveScratch(normScratch(pixels_, channels_) * sizeof(float));
  }

  void planBackward(int time) override {
    Tensor& out = tensor(result());
    sum_.plan(context, out, 2, time);
    gradA_ = out.parts[0];
    gradB_ = out.parts.size() > 1 ? out.parts[1] : -1;
    for (const int part : out.parts) context.buffers.touch(part, time);
    touch(in_, time);
    // Only there is the result read for the relu's sign; elsewhere it is computed again from what is read anyway.
    if (group_.relu >= 0 && kind_ == Residual::tensor) touch(result(), time);
    if (out.maskedSums >= 0) context.buffers.touch(out.maskedSums, time);
    const size_t bytes = context.imageBytes(out.shape);
    if (kind_ == Residual::none) {
      dx_ = gradA_;  // in place
    } else {
      dx_ = create(bytes, time);
      int skip = gradA_;  // the masked gradient itself
      if (kind_ == Residual::normalized) {
        skip = dx2_ = create(bytes, time);
        touch(group_.residual, time);
      }
      if (tensor(group_.residual).wanted) tensor(group_.residual).parts.push_back(skip);
    }
    if (tensor(in_).wanted) tensor(in_).parts.push_back(dx_);
  }

  void bind() override {
    norm_ = normOf(group_.norm, 0);
    if (kind_ == Residual::normalized) norm2_ = normOf(group_.norm2, 1);
    apply_ = {pixels_,        channels_,   data(in_),       group_.residual >= 0 ? data(group_.residual) : nullptr,
              data(result()), norm_.scale, norm_.shift,     norm2_.scale,
              norm2_.shift,   kind_,       group_.relu >= 0};
    if (gradA_ < 0) return;
    const auto* masked = static_cast<const float*>(at(tensor(result()).maskedSums));
    backward_ = {pixels_,
                 channels_,
                 data(in_),
                 kind_ == Residual::normalized ? data(group_.residual) : nullptr,
                 data(result()),
                 at(gradA_),
                 at(gradB_),
                 at(dx_),
                 at(dx2_),
                 norm_,
                 norm2_,
                 kind_,
                 group_.relu >= 0 && !masked,
                 masked,
                 masked ? masked + channels_ : nullptr};
  }

  void forward() override {
    statistics(in_, norm_);
    if (kind_ == Residual::normalized) statistics(group_.residual, norm2_);
    normApply(context.number, apply_, context.stream);
  }

  void backward() override {
    sum_.run(context);
    normBackward(context.number, backward_, context.buffers.at<float>(context.scratch), context.stream);
  }

 private:
  void statistics(int layer, Norm norm) const {
    const Tensor& x = tensor(layer);
    if (context.isRecomputing) norm.momentum = 0;  // the running statistics have moved on already
    if (!context.graph.training) {
      normInference(channels_, norm, context.stream);
    } else if (x.sums >= 0) {
      const auto* sums = static_cast<const float*>(at(x.sums));
      normFinish(sums, sums + channels_, pixels_, channels_, norm, context.stream);
    } else {
      normStatistics(context.number, data(layer), pixels_, channels_, norm, context.buffers.at<float>(context.scratch),
                     context.stream);
    }
  }

  Norm normOf(int layer, int which) const {
    const auto& graph = context.graph;
    const auto offset = [&](const std::vector<Parameter>& list, const std::vector<Stored>& stored, int i) {
      return stored[indexOf(list, layer, i)].offset;
    };
    const size_t gamma = offset(graph.parameters, context.parameters, 0),
                 beta = offset(graph.parameters, context.parameters, 1);
    float *v = context.values.data(), *g = context.gradients.data(), *r = context.running.data();
    float* own = context.buffers.at<float>(own_) + 4 * channels_ * which;
    return {v + gamma,
            v + beta,
            g ? g + gamma : nullptr,
            g ? g + beta : nullptr,
            r + offset(graph.statistics, context.statistics, 0),
            r + offset(graph.statistics, context.statistics, 1),
            own,
            own + channels_,
            own + 2 * channels_,
            own + 3 * channels_,
            layerAt(layer).eps,
            layerAt(layer).momentum};
  }

  NormGroup group_;
  int in_, own_ = -1, gradA_ = -1, gradB_ = -1, dx_ = -1, dx2_ = -1;
  int channels_;
  size_t pixels_;
  Residual kind_;
  PartSum sum_;
  Norm norm_{}, norm2_{};
  NormApply apply_{};
  NormBackward backward_{};
};

}  // namespace

StepPtr normStep(Context& context, const NormGroup& group) { return std::make_unique<NormStep>(context, group); }

}  // namespace comface::cuda
