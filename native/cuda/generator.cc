// The steps of generators (StyleGAN, StyleGAN3): inference in fp32, or fp16 in StyleGAN3's layers in half. Convolutions
// are cuDNN's, a transposed one being the gradient of another's input; the rest are kernels of our own.
#include "cuda/generator.h"

#include "cuda/conv.h"

namespace comface::cuda {
namespace {

/** An image, or a vector for what begins one, to an image. */
class GeneratorStep : public ImageStepOf<Context> {
 public:
  GeneratorStep(Context& context, int layer)
      : ImageStepOf(context, layer),
        channels_(context.channels(tensor(layer).shape)),
        inChannels_(context.channels(tensor(in_).shape)) {}
  void planForward(int time) override {
    tensor(layer_).buffer = create(context.imageBytes(tensor(layer_)), time);
    touch(in_, time);
  }

 protected:
  Number number() const { return context.tensors[layer_].number; }
  const Shape& in() const { return tensor(in_).shape; }
  const Shape& out() const { return tensor(layer_).shape; }
  float* image(int layer) const { return static_cast<float*>(data(layer)); }
  int parameter(int which) const { return indexOf(context.graph.parameters, layer_, which); }
  const float* tensorOf(int which) const { return value(parameter(which)); }
  /** Kept as PyTorch has it, and `count` floats of it where padding is read. */
  void keepPlain(int which, size_t count = 0) {
    Stored& stored = context.parameters[parameter(which)];
    stored.isPlain = true;
    stored.stored = std::max(count, context.graph.parameters[parameter(which)].count);
  }

  int channels_, inChannels_;  // padded
};

class ConstantStep : public GeneratorStep {
 public:
  ConstantStep(Context& context, int layer) : GeneratorStep(context, layer) {
    context.parameters[parameter(0)].stored = count();
  }
  void forward() override { constant(tensorOf(0), count(), out().n, image(layer_), context.stream); }

 private:
  /** Of one image. */
  size_t count() const { return context.imageCount(out()) / out().n; }
};

class UpsampleStep : public GeneratorStep {
 public:
  using GeneratorStep::GeneratorStep;
  void forward() override {
    upsample(image(in_), in().n, in().h, in().w, channels_, layerAt(layer_).up, image(layer_), context.stream);
  }
};

class BlurStep : public GeneratorStep {
 public:
  using GeneratorStep::GeneratorStep;
  void forward() override { blur(image(in_), in().n, in().h, in().w, channels_, image(layer_), context.stream); }
};

class StyleEpilogueStep : public GeneratorStep {
 public:
  StyleEpilogueStep(Context& context, int layer) : GeneratorStep(context, layer) {
    keepPlain(0), keepPlain(1, channels_), keepPlain(2, channels_);
    args_.n = in().n, args_.channels = in().c, args_.area = static_cast<size_t>(in().h) * in().w;
    args_.slope = layerAt(layer).slope, args_.eps = layerAt(layer).eps;
    context.reserveScratch(styleEpilogueScratch(args_) * sizeof(float));
  }
  void bind() override {
    args_.x = image(in_), args_.y = image(layer_), args_.style = rows(layerAt(layer_).inputs[1]);
    args_.noise = tensorOf(0), args_.noiseWeight = tensorOf(1), args_.bias = tensorOf(2);
  }
  void forward() override { styleEpilogue(args_, context.buffers.at<float>(context.scratch), context.stream); }

 private:
  StyleEpilogue args_{};
};

class FourierStep : public GeneratorStep {
 public:
  FourierStep(Context& context, int layer) : GeneratorStep(context, layer) {
    for (int which = 0; which < 3; ++which) keepPlain(which);
  }
  void forward() override {
    const Layer& l = layerAt(layer_);
    fourierFeatures({out().n, out().c, out().h, out().w, rows(in_), tensorOf(0), tensorOf(1), tensorOf(2), l.rate,
                     l.bandwidth, image(layer_)},
                    context.stream);
  }
};

/** The gradient of the input of a convolution from the result's channels to the input's. */
class ConvTransposeStep : public GeneratorStep {
 public:
  ConvTransposeStep(Context& context, int layer) : GeneratorStep(context, layer) {
    const int kernel = layerAt(layer).kernel;
    context.parameters[parameter(0)].stored = size_t{1} * inChannels_ * kernel * kernel * channels_;
  }
  void planForward(int time) override {
    GeneratorStep::planForward(time);
    const Layer& l = layerAt(layer_);
    Operations o;
    const TensorId x = o.image(context.number, in().n, inChannels_, in().h, in().w);
    const TensorId w = o.filter(context.number, inChannels_, channels_, l.kernel);
    const TensorId y = o.image(context.number, out().n, channels_, out().h, out().w);
    o.convolveBackwardData(x, w, y, l.pad, l.stride);
    plan_ = {need(context, layer_, std::move(o), "a transposed convolution"),
             {{x, nullptr}, {w, nullptr}, {y, nullptr}}};
  }
  void bind() override { plan_.fill({data(in_), context.weights(context.parameters[parameter(0)]), data(layer_)}); }
  void forward() override { plan_.run(context); }

 private:
  Bound plan_;
};

/** The input's channels are scaled in place where nobody else reads it. */
class ModulatedConvStep : public GeneratorStep {
 public:
  ModulatedConvStep(Context& context, int layer) : GeneratorStep(context, layer) {
    const Layer& l = layerAt(layer);
    const int window = l.kernel * l.kernel;
    context.parameters[parameter(0)].stored = size_t{1} * channels_ * window * inChannels_;
    keepPlain(1);
    args_.n = in().n, args_.in = in().c, args_.out = out().c, args_.window = window;
    args_.isDemodulated = l.demodulate, args_.eps = l.eps;
    const size_t numbers = scaleCount() + factorCount() + modulationScratch(args_);
    roundedAt_ = (numbers * sizeof(float) + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
    const size_t rounded = isHalf() ? context.parameters[parameter(0)].stored * sizeOf(number()) : 0;
    context.reserveScratch(roundedAt_ + rounded);
  }
  void planForward(int time) override {
    GeneratorStep::planForward(time);
    if (context.graph.users[in_].size() > 1 || tensor(in_).number != number())
      scaled_ = create(context.imageCount(in()) * sizeOf(number()), time);
    const Layer& l = layerAt(layer_);
    Operations o;
    const TensorId x = o.image(number(), in().n, inChannels_, in().h, in().w);
    const TensorId w = o.filter(number(), channels_, inChannels_, l.kernel);
    const TensorId y = o.image(number(), out().n, channels_, out().h, out().w);
    o.convolve(x, w, y, l.pad, 1);
    plan_ = {need(context, layer_, std::move(o), "its forward pass"), {{x, nullptr}, {w, nullptr}, {y, nullptr}}};
  }
  void bind() override {
    args_.style = rows(layerAt(layer_).inputs[1]), args_.weight = tensorOf(0), args_.gain = tensorOf(1);
    args_.scales = context.buffers.at<float>(context.scratch), args_.factors = args_.scales + scaleCount();
    if (isHalf()) args_.rounded = context.buffers.at<char>(context.scratch) + roundedAt_;
    void* const weights = isHalf() ? args_.rounded : context.weights(context.parameters[parameter(0)]);
    plan_.fill({scaled().data, weights, data(layer_)});
  }
  void forward() override {
    modulation(args_, args_.factors + factorCount(), context.stream);
    scaleChannels(pixels(in_), args_.scales, in().n, areaOf(in()), inChannels_, scaled(), context.stream);
    plan_.run(context);
    scaleChannels(pixels(layer_), args_.factors, in().n, areaOf(out()), channels_, pixels(layer_), context.stream);
  }

 private:
  bool isHalf() const { return number() != Number::fp32; }
  Pixels pixels(int layer) const { return {tensor(layer).number, data(layer)}; }
  Pixels scaled() const { return scaled_ >= 0 ? Pixels{number(), at(scaled_)} : pixels(in_); }
  static size_t areaOf(const Shape& s) { return static_cast<size_t>(s.h) * s.w; }
  size_t scaleCount() const { return static_cast<size_t>(in().n) * inChannels_; }
  size_t factorCount() const { return static_cast<size_t>(in().n) * channels_; }

  int scaled_ = -1;
  size_t roundedAt_ = 0;  // in the scratch
  Modulation args_{};
  Bound plan_;
};

class FilteredReluStep : public GeneratorStep {
 public:
  FilteredReluStep(Context& context, int layer) : GeneratorStep(context, layer) {
    const Layer& l = layerAt(layer);
    keepPlain(0, channels_);
    if (l.upTaps > 0) keepPlain(1);
    if (l.downTaps > 0) keepPlain(l.upTaps > 0 ? 2 : 1);
    args_ = {in().n,  channels_, in().h,      in().w,   out().h,  out().w, l.up,
             l.down,  tapsUp(l), tapsDown(l), l.padLow, l.radial, l.slope, l.gain,
             l.clamp, number(),  nullptr,     nullptr,  nullptr,  nullptr, nullptr};
    if (fitsFilteredRelu(args_)) return;
    throw Error(Code::invalidConfig, "Layer `" + l.name + "`: filters of " + std::to_string(l.upTaps) + " and " +
                                         std::to_string(l.downTaps) +
                                         " taps do not fit into the memory of a block of the CUDA backend; use device "
                                         "cpu.");
  }
  void bind() override {
    const Layer& l = layerAt(layer_);
    args_.x = data(in_), args_.y = data(layer_), args_.bias = tensorOf(0);
    if (l.upTaps > 0) args_.upFilter = tensorOf(1);
    if (l.downTaps > 0) args_.downFilter = tensorOf(l.upTaps > 0 ? 2 : 1);
  }
  void forward() override { filteredRelu(args_, context.stream); }

 private:
  FilteredRelu args_{};
};

}  // namespace

StepPtr generatorStep(Context& context, int layer) {
  switch (context.graph.layers[layer].op) {
    case Op::constant:
      return std::make_unique<ConstantStep>(context, layer);
    case Op::upsample:
      return std::make_unique<UpsampleStep>(context, layer);
    case Op::convTranspose:
      return std::make_unique<ConvTransposeStep>(context, layer);
    case Op::blur:
      return std::make_unique<BlurStep>(context, layer);
    case Op::styleEpilogue:
      return std::make_unique<StyleEpilogueStep>(context, layer);
    case Op::fourierFeatures:
      return std::make_unique<FourierStep>(context, layer);
    case Op::modulatedConv:
      return std::make_unique<ModulatedConvStep>(context, layer);
    default:
      return std::make_unique<FilteredReluStep>(context, layer);
  }
}

}  // namespace comface::cuda
