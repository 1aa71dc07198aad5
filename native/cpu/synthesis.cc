// Steps of generators, inference only: convolutions by oneDNN, the rest by generator.cc and filtered.cc. Trap: an image
// is of one sample (program.cc), so weights may be those of the sample.
#include <cmath>
#include <string_view>

#include "cpu/passes.h"

namespace comface::cpu {
namespace {

/** A step from an image, or a vector, to an image. */
class GeneratorStep : public ImageStepOf<Context> {
 public:
  using ImageStepOf<Context>::ImageStepOf;

 protected:
  /** The which-th tensor of the layer. */
  float* own(int which) const { return value(indexOf(context.graph.parameters, layer_, which)); }
  float* image(int layer) const { return static_cast<float*>(data(layer)); }
  Size sizeOf(int layer) const {
    const Shape& s = layerAt(layer).shape;
    return {s.n, context.extent(s).blocks, s.h, s.w};
  }
  /** So many floats for each thread in the memory that steps share. */
  void reserve(size_t floats) const {
    context.scratchBytes = std::max(context.scratchBytes, floats * sizeof(float) * context.graph.threads);
  }
  float* shared() const { return context.buffers.at<float>(context.scratch); }
  const float* style() const { return rows(layerAt(layer_).inputs[1]); }
};

class ConstantStep : public GeneratorStep {
 public:
  using GeneratorStep::GeneratorStep;
  void bind() override {
    const Memory from = context.memory(Context::plainDesc(layerAt(layer_).shape), own(0));
    const Memory to = context.memory(context.imageDesc(tensor(layer_)), data(layer_));
    copy_ = dnnl::reorder(from, to);
    args_ = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  }
  void forward() override { copy_.execute(context.stream, args_); }

 private:
  dnnl::reorder copy_;
  Args args_;
};

class UpsampleStep : public GeneratorStep {
 public:
  using GeneratorStep::GeneratorStep;
  void forward() override { context.generator.upsample(image(in_), sizeOf(in_), layerAt(layer_).up, image(layer_)); }
};

class BlurStep : public GeneratorStep {
 public:
  using GeneratorStep::GeneratorStep;
  void forward() override { context.generator.blur(image(in_), sizeOf(in_), image(layer_)); }
};

class EpilogueStep : public GeneratorStep {
 public:
  EpilogueStep(Context& context, int layer) : GeneratorStep(context, layer) {
    const size_t bytes = context.generator.epilogueScratch(sizeOf(layer)) * sizeof(float);
    context.scratchBytes = std::max(context.scratchBytes, bytes);
  }
  void forward() override {
    const Layer& l = layerAt(layer_);
    context.generator.epilogue({sizeOf(layer_), l.shape.c, image(in_), image(layer_), own(0), own(1), own(2), style(),
                                l.slope, l.eps, shared()});
  }
};

class FourierStep : public GeneratorStep {
 public:
  FourierStep(Context& context, int layer) : GeneratorStep(context, layer) {
    reserve(context.generator.fourierScratch(sizeOf(layer)));
  }
  void forward() override {
    const Layer& l = layerAt(layer_);
    context.generator.fourier(
        {sizeOf(layer_), l.shape.c, rows(in_), own(0), own(1), own(2), l.rate, l.bandwidth, image(layer_), shared()});
  }
};

class FilteredStep : public GeneratorStep {
 public:
  FilteredStep(Context& context, int layer) : GeneratorStep(context, layer) {
    const Layer& l = layerAt(layer);
    args_.in = sizeOf(in_), args_.out = sizeOf(layer);
    args_.up = l.up, args_.down = l.down, args_.upTaps = tapsUp(l), args_.downTaps = tapsDown(l);
    args_.padLow = l.padLow, args_.isRadial = l.radial;
    args_.slope = l.slope, args_.gain = l.gain, args_.clamp = l.clamp;
    upFilter_.assign(args_.upTaps, 1.0f);
    downFilter_.assign(static_cast<size_t>(args_.downTaps) * (l.radial ? args_.downTaps : 1), 1.0f);
    reserve(context.filtered.scratch(args_));
  }
  void bind() override {
    args_.upFilter = upFilter_.data(), args_.downFilter = downFilter_.data();
    args_.bias = own(0), args_.x = image(in_), args_.y = image(layer_), args_.scratch = shared();
  }
  void forward() override {
    if (context.weightsChanged) turnFilters();
    context.filtered.run(args_);
  }

 private:
  /** Backwards, as a convolution reads them; the first with its gain. */
  void turnFilters() {
    const Layer& l = layerAt(layer_);
    if (l.upTaps > 0) {
      std::reverse_copy(own(1), own(1) + upFilter_.size(), upFilter_.begin());
      for (float& tap : upFilter_) tap *= static_cast<float>(l.up);
    }
    if (l.downTaps == 0) return;
    const float* filter = own(l.upTaps > 0 ? 2 : 1);
    std::reverse_copy(filter, filter + downFilter_.size(), downFilter_.begin());
    args_.isMirrored = l.radial;
    for (int k = 0; k < l.downTaps && l.radial; ++k) {
      const float *row = filter + static_cast<size_t>(k) * l.downTaps,
                  *other = filter + static_cast<size_t>(l.downTaps - 1 - k) * l.downTaps;
      args_.isMirrored = args_.isMirrored && std::equal(row, row + l.downTaps, other);
    }
  }

  FilteredArgs args_{};
  std::vector<float> upFilter_, downFilter_;
};

/** A convolution with weights in a layout that oneDNN asks for, copied there from PyTorch's. */
class WeighedStep : public GeneratorStep {
 public:
  using GeneratorStep::GeneratorStep;
  void planForward(int time) override {
    GeneratorStep::planForward(time);
    pass_.plan(context, DNNL_ARG_SRC, context.imageDesc(tensor(in_)), source_, false, time);
    pass_.plan(context, DNNL_ARG_DST, context.imageDesc(tensor(layer_)), result_, true, time);
  }

 protected:
  /** @param describe gives the descriptor of the primitive from those of the image and the result. */
  template <class Primitive, class Describe>
  void make(const Describe& describe) {
    Tensor in = tensor(in_), out = tensor(layer_);
    auto pd = describe(context.imageDesc(in), context.imageDesc(out));
    if (std::string_view(pd.impl_info_str()).starts_with("ref")) {  // as in conv.cc: for plain images there is a kernel
      in.plain = out.plain = true;
      pd = describe(context.imageDesc(in), context.imageDesc(out));
    }
    source_ = pd.src_desc(), result_ = pd.dst_desc(), weights_ = pd.weights_desc();
    pass_.make<Primitive>(context, pd);
  }
  size_t weightBytes() const { return weights_.get_size(); }
  void bindPass(const Memory::desc& layout, float* weights, void* copied) {
    const Memory from = context.memory(layout, weights), to = context.memory(weights_, copied);
    copy_ = dnnl::reorder(from, to);
    copyArgs_ = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    pass_.bind(context, {data(in_), data(layer_)});
    pass_.bind(DNNL_ARG_WEIGHTS, to);
  }
  void copyWeights() { copy_.execute(context.stream, copyArgs_); }
  void run() { pass_.run(context.stream); }

 private:
  PrimitivePass pass_;
  Memory::desc source_, result_, weights_;
  dnnl::reorder copy_;
  Args copyArgs_;
};

constexpr auto kFloat = Memory::data_type::f32;

class TransposedStep : public WeighedStep {
 public:
  TransposedStep(Context& context, int layer) : WeighedStep(context, layer) {
    make<dnnl::deconvolution_forward>([&](const Memory::desc& source, const Memory::desc& result) {
      const Layer& l = layerAt(layer_);
      const Memory::dims stride = {l.stride, l.stride}, pad = {l.pad, l.pad};
      return dnnl::deconvolution_forward::primitive_desc(
          {dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, source,
           Memory::desc(dims(), kFloat, Memory::format_tag::any), result, stride, pad, pad},
          context.attributes(), context.engine);
    });
  }
  void planForward(int time) override {
    WeighedStep::planForward(time);
    copied_ = context.buffers.keep(weightBytes());
  }
  void bind() override { bindPass({dims(), kFloat, Memory::format_tag::iohw}, own(0), at(copied_)); }
  void forward() override {
    if (context.weightsChanged) copyWeights();
    run();
  }

 private:
  Memory::dims dims() const {
    const Layer& l = layerAt(layer_);
    return {l.out, layerAt(in_).shape.c, l.kernel, l.kernel};
  }

  int copied_ = -1;
};

/** The weights are scaled for the sample: a hundredth of the work that it takes to scale its images. */
class ModulatedStep : public WeighedStep {
 public:
  ModulatedStep(Context& context, int layer)
      : WeighedStep(context, layer), channels_(layerAt(in_).shape.c), window_(windowOf(layerAt(layer))) {
    make<dnnl::convolution_forward>([&](const Memory::desc& source, const Memory::desc& result) {
      const Layer& l = layerAt(layer_);
      const Memory::dims stride = {1, 1}, pad = {l.pad, l.pad};
      return dnnl::convolution_forward::primitive_desc(
          {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source,
           Memory::desc(dims(), kFloat, Memory::format_tag::any), result, stride, pad, pad},
          context.attributes(), context.engine);
    });
  }
  void planForward(int time) override {
    WeighedStep::planForward(time);
    const Layer& l = layerAt(layer_);
    scaled_ = create(static_cast<size_t>(l.out) * channels_ * window_ * sizeof(float), time);
    copied_ = create(weightBytes(), time);
    if (l.demodulate) squares_ = context.buffers.keep(static_cast<size_t>(l.out) * channels_ * sizeof(float));
    factors_.assign(l.out, 1.0), scales_.assign(channels_, 1.0f);
  }
  void bind() override {
    bindPass({dims(), kFloat, Memory::format_tag::oihw}, context.buffers.at<float>(scaled_), at(copied_));
  }
  void forward() override {
    if (context.weightsChanged && layerAt(layer_).demodulate) sumSquares();
    scaleWeights(style());
    copyWeights();
    run();
  }

 private:
  static int windowOf(const Layer& l) { return l.kernel * l.kernel; }
  Memory::dims dims() const {
    const Layer& l = layerAt(layer_);
    return {l.out, channels_, l.kernel, l.kernel};
  }

  /** Of each pair of channels, of weights brought to a mean square of 1 for each output channel. */
  void sumSquares() {
    const float* weight = own(0);
    const int out = layerAt(layer_).out;
    float* squares = context.buffers.at<float>(squares_);
#pragma omp parallel for schedule(static)
    for (int o = 0; o < out; ++o) {
      const float* w = weight + static_cast<size_t>(o) * channels_ * window_;
      double total = 0;
      for (int i = 0; i < channels_ * window_; ++i) total += static_cast<double>(w[i]) * w[i];
      const double factor = static_cast<double>(channels_) * window_ / total;
      for (int c = 0; c < channels_; ++c) {
        double sum = 0;
        for (int k = 0; k < window_; ++k) sum += static_cast<double>(w[c * window_ + k]) * w[c * window_ + k];
        squares[static_cast<size_t>(o) * channels_ + c] = static_cast<float>(sum * factor);
      }
      factors_[o] = std::sqrt(factor);
    }
  }

  /** Weights times style, demodulated, times the gain. */
  void scaleWeights(const float* style) {
    const Layer& l = layerAt(layer_);
    double mean = 0;
    for (int c = 0; c < channels_; ++c) mean += static_cast<double>(style[c]) * style[c] / channels_;
    const double normalized = l.demodulate ? 1 / std::sqrt(mean) : 1;
    for (int c = 0; c < channels_; ++c) scales_[c] = static_cast<float>(style[c] * normalized);
    const float *weight = own(0), *squares = static_cast<const float*>(at(squares_));
    float* scaled = context.buffers.at<float>(scaled_);
    const double gain = own(1)[0];
    const int out = l.out;
#pragma omp parallel for schedule(static)
    for (int o = 0; o < out; ++o) {
      double sum = l.eps;
      for (int c = 0; squares && c < channels_; ++c) {
        sum += static_cast<double>(squares[static_cast<size_t>(o) * channels_ + c]) * scales_[c] * scales_[c];
      }
      const double norm = squares ? std::sqrt(sum) : 1;
      const float factor = static_cast<float>(gain * factors_[o] / norm);
      const size_t first = static_cast<size_t>(o) * channels_ * window_;
      for (int c = 0; c < channels_; ++c) {
        const float scale = factor * scales_[c];
        for (int k = 0; k < window_; ++k) {
          const size_t at = first + static_cast<size_t>(c) * window_ + k;
          scaled[at] = weight[at] * scale;
        }
      }
    }
  }

  int channels_, window_, scaled_ = -1, copied_ = -1, squares_ = -1;
  std::vector<double> factors_;  // of output channels, before demodulation
  std::vector<float> scales_;    // of input channels
};

}  // namespace

StepPtr generatorStep(Context& context, int layer) {
  switch (context.graph.layers[layer].op) {
    case Op::constant:
      return std::make_unique<ConstantStep>(context, layer);
    case Op::upsample:
      return std::make_unique<UpsampleStep>(context, layer);
    case Op::convTranspose:
      return std::make_unique<TransposedStep>(context, layer);
    case Op::blur:
      return std::make_unique<BlurStep>(context, layer);
    case Op::styleEpilogue:
      return std::make_unique<EpilogueStep>(context, layer);
    case Op::fourierFeatures:
      return std::make_unique<FourierStep>(context, layer);
    case Op::modulatedConv:
      return std::make_unique<ModulatedStep>(context, layer);
    default:
      return std::make_unique<FilteredStep>(context, layer);
  }
}

}  // namespace comface::cpu
