// Convolution: oneDNN's kernels on blocked layouts, direct or (3 x 3) Winograd's, in bf16 our own. The fp32 master
// weights live in the layout that backward-weights writes, so Adam needs no reorder; forward and backward-data read
// copies that are refreshed when the weights change. Trap: for a layout that oneDNN has no kernel for it takes its
// reference loops, a thousand times slower; there the tensors are copied to plain N C H W, for which it always has one.
#include <algorithm>
#include <string_view>

#include "cpu/passes.h"

namespace comface::cpu {
namespace {

/** Operations of a convolution below which a few microseconds are all there is to win. */
constexpr double kWorthTiming = 5e7;
/** A trial has at least so many samples, more of few pixels: what Winograd's does once for the weights has to pay. */
constexpr int kTrialSamples = 16, kTrialPixels = 4096;

/** Of oneDNN's Winograd, which can want many times what the images take. */
constexpr size_t kMostScratchBytes = size_t{1} << 30;

template <class Descriptor>
bool isReference(const Descriptor& pd) {
  return std::string_view(pd.impl_info_str()).starts_with("ref");
}

class ConvStep : public Step {
 public:
  ConvStep(Context& context, int layer) : Step(context), layer_(layer), in_(layerAt(layer).inputs[0]) {
    weight_ = indexOf(context.graph.parameters, layer, 0);
    if (layerAt(layer).bias) bias_ = indexOf(context.graph.parameters, layer, 1);
    refuseWrongGradient();
    createPrimitives();
  }

  int result() const override { return layer_; }

  void planForward(int time) override {
    tensor(layer_).buffer = context.buffers.create(resultDesc().get_size());
    touch(in_, time), touch(layer_, time);
    if (forwardWinograd_) return forwardWinograd_.plan(context);
    forwardPass_.plan(context, DNNL_ARG_SRC, sourceDesc(), forward_.src_desc(), false, time);
    forwardPass_.plan(context, DNNL_ARG_DST, resultDesc(), forward_.dst_desc(), true, time);
    if (isCopied(forward_)) forwardWeights_ = context.buffers.keep(forward_.weights_desc().get_size());
  }

  void planBackward(int time) override {
    Tensor& out = tensor(layer_);
    sum_.plan(context, out, 1, time);
    grad_ = out.parts[0];
    context.buffers.touch(grad_, time);
    touch(in_, time);
    if (weightWinograd_) {
      weightWinograd_.plan(context);
    } else {
      weightPass_.plan(context, DNNL_ARG_SRC, sourceDesc(), weights_.src_desc(), false, time);
      weightPass_.plan(context, DNNL_ARG_DIFF_DST, resultDesc(), weights_.diff_dst_desc(), false, time);
    }
    if (!tensor(in_).wanted) return;
    inGrad_ = context.buffers.create(sourceDesc().get_size());
    context.buffers.touch(inGrad_, time);
    tensor(in_).parts.push_back(inGrad_);
    if (dataWinograd_) return dataWinograd_.plan(context);
    dataPass_.plan(context, DNNL_ARG_DIFF_DST, resultDesc(), data_.diff_dst_desc(), false, time);
    dataPass_.plan(context, DNNL_ARG_DIFF_SRC, sourceDesc(), data_.diff_src_desc(), true, time);
    if (isCopied(data_)) dataWeights_ = context.buffers.keep(data_.weights_desc().get_size());
  }

  void bind() override {
    const Stored& w = context.parameters[weight_];
    const Memory master = context.memory(w.layout, context.values.data() + w.offset);
    if (!forwardWinograd_) {
      forwardPass_.bind(context, {data(in_), data(layer_)});
      forwardPass_.bind(DNNL_ARG_WEIGHTS, copyOf(master, forward_, forwardWeights_));
      if (bias_ >= 0) forwardPass_.bind(DNNL_ARG_BIAS, biasMemory(context.values));
    }
    if (grad_ < 0) return;
    if (!weightWinograd_) {
      weightPass_.bind(context, {data(in_), at(grad_)});
      weightPass_.bind(DNNL_ARG_DIFF_WEIGHTS, context.memory(w.layout, context.gradients.data() + w.offset));
      if (bias_ >= 0) weightPass_.bind(DNNL_ARG_DIFF_BIAS, biasMemory(context.gradients));
    }
    if (inGrad_ < 0 || dataWinograd_) return;
    dataPass_.bind(context, {at(grad_), at(inGrad_)});
    dataPass_.bind(DNNL_ARG_WEIGHTS, copyOf(master, data_, dataWeights_));
  }

  void forward() override {
    if (context.weightsChanged) refreshWeights();
    if (forwardWinograd_) return forwardWinograd_.run(context, data(in_), data(layer_));
    forwardPass_.run(context.stream);
  }

  void backward() override {
    sum_.run(context);
    if (weightWinograd_) {
      weightWinograd_.run(context, data(in_), at(grad_), context.gradients.data() + context.parameters[weight_].offset);
    } else {
      if (readsStaleScratch()) {
        char* const scratch = context.buffers.at<char>(context.scratch);
        std::fill_n(scratch, weights_.scratchpad_desc().get_size(), char{});
      }
      weightPass_.run(context.stream);
    }
    if (inGrad_ < 0) return;
    if (dataWinograd_) return dataWinograd_.run(context, at(grad_), at(inGrad_));
    dataPass_.run(context.stream);
  }

 private:
  using Forward = dnnl::convolution_forward;
  using BackwardData = dnnl::convolution_backward_data;
  using BackwardWeights = dnnl::convolution_backward_weights;
  using Algorithm = dnnl::algorithm;

  /**
   * oneDNN 2.6.3: where a strided window stands once in a row, the bf16 gradient of the weights multiplies what is left
   * in the scratch memory by zeros, which does no harm unless that is infinite or no number.
   */
  bool readsStaleScratch() const {
    return context.type() == 1 && layerAt(layer_).stride > 1 && layerAt(layer_).shape.w == 1;
  }

  /**
   * oneDNN 2.6.3: where a strided window stands once in a row and reaches beyond the right edge, and the channels fill
   * no vector, the bf16 gradient of the weights takes in numbers that are not there. No ResNet has such a layer.
   */
  void refuseWrongGradient() const {
    const Layer& l = layerAt(layer_);
    const bool isBeyondEdge = l.kernel - l.pad > layerAt(in_).shape.w;
    if (!context.graph.training || context.type() == 0 || l.out % context.kernels.block == 0 || l.stride == 1 ||
        l.shape.w > 1 || !isBeyondEdge)
      return;
    throw Error(Code::invalidConfig, "Layer `" + l.name +
                                         "`: oneDNN's bf16 gradient of such a convolution is wrong; use precision fp32 "
                                         "or a multiple of 16 for `out`.");
  }

  Memory::desc sourceDesc() const { return context.imageDesc(tensor(in_)); }
  Memory::desc resultDesc() const { return context.imageDesc(tensor(layer_)); }

  /** The convolution as oneDNN describes it. */
  struct Description {
    Memory::desc source, result, bias, anyWeights, anyGradient;
    Memory::dims stride, pad;
  };

  /** At so many samples; with images in plain N C H W or as they lie. */
  Description describe(int samples, bool isPlain = false) const {
    const Layer& l = layerAt(layer_);
    Tensor in = tensor(in_), out = tensor(layer_);
    in.shape.n = out.shape.n = samples;
    if (isPlain) in.plain = out.plain = true;
    const Memory::dims weights = {l.out, in.shape.c, l.kernel, l.kernel};
    const auto f32 = Memory::data_type::f32;
    const auto any = Memory::format_tag::any;
    return {context.imageDesc(in),
            context.imageDesc(out),
            bias_ >= 0 ? Memory::desc({l.out}, f32, Memory::format_tag::x) : Memory::desc(),
            {weights, context.dataType(), any},
            {weights, f32, any},
            {l.stride, l.stride},
            {l.pad, l.pad}};
  }

  Forward::primitive_desc forwardOf(const Description& d, Algorithm algorithm) const {
    const auto kind = context.graph.training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    return {{kind, algorithm, d.source, d.anyWeights, d.bias, d.result, d.stride, d.pad, d.pad},
            context.attributes(),
            context.engine};
  }
  BackwardData::primitive_desc dataOf(const Description& d, Algorithm algorithm) const {
    return {{algorithm, d.source, d.anyWeights, d.result, d.stride, d.pad, d.pad},
            context.attributes(),
            context.engine,
            forwardOf(d, algorithm)};
  }
  BackwardWeights::primitive_desc weightsOf(const Description& d, Algorithm algorithm) const {
    return {{algorithm, d.source, d.anyGradient, d.bias, d.result, d.stride, d.pad, d.pad},
            context.attributes(),
            context.engine,
            forwardOf(d, algorithm)};
  }

  /** Operations of one pass. */
  double work() const {
    const Layer& l = layerAt(layer_);
    return 2.0 * l.shape.count() * layerAt(in_).shape.c * l.kernel * l.kernel;
  }

  /** In fp32 oneDNN has F(4 x 4, 3 x 3) with AVX-512 (Lavin and Gray, 2016, section 4.3), in bf16 it is our own
   * F(2 x 2, 3 x 3), whose errors stay near bf16's. Not where there is little to win, and not in inference, where a
   * picture's result must not depend on how many are with it. */
  bool mayBeWinograd() const {
    const Layer& l = layerAt(layer_);
    const int in = layerAt(in_).shape.c, multiple = context.type() ? 32 : 16;
    const bool has = context.type() ? selectWinograd() != nullptr : context.kernels.block == 16;
    return has && context.graph.training && l.kernel == 3 && l.stride == 1 && l.pad == 1 && bias_ < 0 &&
           in % multiple == 0 && l.out % multiple == 0 && work() > kWorthTiming;
  }

  /** Our kernels for a pass in bf16. */
  WinogradPass winograd(WinogradPass::Kind kind) const {
    const Shape& in = layerAt(in_).shape;
    return {selectWinograd(), {in.n, in.c, layerAt(layer_).out, in.h, in.w}, kind};
  }

  /** What describes a pass, and its tensors by argument. */
  template <class Primitive>
  struct Way {
    const char* name;
    typename Primitive::primitive_desc (ConvStep::*describe)(const Description&, Algorithm) const;
    int source, weights, result;
  };

  /** The best of oneDNN's for the layouts that the images lie in, else for plain ones. */
  template <class Primitive>
  typename Primitive::primitive_desc best(const Way<Primitive>& way, Algorithm algorithm) {
    const int samples = layerAt(in_).shape.n;
    const auto pd = (this->*way.describe)(describe(samples), algorithm);
    return isReference(pd) ? (this->*way.describe)(describe(samples, true), Algorithm::convolution_direct) : pd;
  }

  /** @param own our kernels, for a pass in bf16 that has some. */
  template <class Primitive>
  Algorithm algorithmFor(const Way<Primitive>& way, const WinogradPass& own = {}) {
    if (!mayBeWinograd()) return Algorithm::convolution_direct;
    if (context.type() ? !own || !own.occupies(context.graph.threads) : !isWinogradLean(way))
      return Algorithm::convolution_direct;
    const Shape& in = layerAt(in_).shape;
    const int samples = std::min(in.n, std::max(kTrialSamples, kTrialPixels / (in.h * in.w)));
    const auto text = [](int number) { return std::to_string(number); };
    const std::string key = std::string(way.name) + (context.type() ? " bf16 " : " fp32 ") + text(in.n) + "x" +
                            text(in.c) + "x" + text(in.h) + "x" + text(in.w) + " to " + text(layerAt(layer_).out);
    return context.algorithms.choose(key, [&](Algorithm algorithm) {
      if (own && algorithm == Algorithm::convolution_winograd) return own.trial(samples);
      const Description d = describe(samples);
      return trial(way, d, (this->*way.describe)(d, algorithm));
    });
  }

  /** Whether what oneDNN's Winograd works on stays within bounds: it grows with the batch and the threads. */
  template <class Primitive>
  bool isWinogradLean(const Way<Primitive>& way) const {
    try {
      const auto pd = (this->*way.describe)(describe(layerAt(in_).shape.n), Algorithm::convolution_winograd);
      return pd.scratchpad_desc().get_size() <= kMostScratchBytes;
    } catch (const dnnl::error&) {  // there is none
      return false;
    }
  }

  /** A pass on memory of its own, to be timed. */
  template <class Primitive>
  Algorithms::Run trial(const Way<Primitive>& way, const Description& d,
                        const typename Primitive::primitive_desc& pd) const {
    const bool isGradient = way.weights == DNNL_ARG_DIFF_WEIGHTS;
    Args args;
    for (const auto& [which, desc] :
         {std::pair{way.source, d.source},
          {way.result, d.result},
          {way.weights, pd.query_md(isGradient ? dnnl::query::diff_weights_md : dnnl::query::weights_md)},
          {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc()}}) {
      Memory memory(desc, context.engine);
      std::memset(memory.get_data_handle(), 0, desc.get_size());
      args.insert({which, memory});
    }
    return [args, primitive = Primitive(pd), &stream = context.stream] {
      primitive.execute(stream, args);
      const_cast<dnnl::stream&>(stream).wait();
    };
  }

  void createPrimitives() {
    const Layer& l = layerAt(layer_);
    const auto f32 = Memory::data_type::f32;
    const Memory::dims dims = {l.out, layerAt(in_).shape.c, l.kernel, l.kernel};
    const Memory::desc blocked(dims, f32, Memory::format_tag::OIhw16i16o);
    using Kind = WinogradPass::Kind;
    Stored& stored = context.parameters[weight_];
    stored.layout = stored.plain = {dims, f32, Memory::format_tag::oihw};
    if (context.graph.training) {
      create<BackwardWeights>(
          {"gradient", &ConvStep::weightsOf, DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}, Kind::gradient,
          weights_, weightPass_, weightWinograd_);
      stored.layout = weightWinograd_ ? blocked : weights_.diff_weights_desc();
    }
    stored.stored = stored.layout.get_size() / sizeof(float);
    const bool isBlocked = stored.layout == blocked;
    create<Forward>({"forward", &ConvStep::forwardOf, DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST}, Kind::forward,
                    forward_, forwardPass_, forwardWinograd_, isBlocked);
    if (!context.graph.training) return;
    create<BackwardData>({"backward", &ConvStep::dataOf, DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
                         Kind::data, data_, dataPass_, dataWinograd_, isBlocked);
  }

  /** Makes the pass by one of the two. @param isBlocked the weights lie as our kernels want them. */
  template <class Primitive>
  void create(const Way<Primitive>& way, WinogradPass::Kind kind, typename Primitive::primitive_desc& descriptor,
              PrimitivePass& pass, WinogradPass& winogradPass, bool isBlocked = true) {
    const WinogradPass own = context.type() && isBlocked ? winograd(kind) : WinogradPass();
    const Algorithm algorithm = algorithmFor(way, own);
    if (own && algorithm == Algorithm::convolution_winograd) {
      winogradPass = own;
      return;
    }
    descriptor = best(way, algorithm);
    pass.make<Primitive>(context, descriptor);
  }

  void refreshWeights() {
    for (auto& [reorder, args] : copies_) reorder.execute(context.stream, args);
    const float* master = context.values.data() + context.parameters[weight_].offset;
    if (forwardWinograd_) forwardWinograd_.transformWeights(context, master);
    if (dataWinograd_ && inGrad_ >= 0) dataWinograd_.transformWeights(context, master);
  }

  template <class Descriptor>
  bool isCopied(const Descriptor& pd) const {
    return pd.weights_desc() != context.parameters[weight_].layout;
  }
  /** The weights as a pass reads them. */
  template <class Descriptor>
  Memory copyOf(const Memory& master, const Descriptor& pd, int buffer) {
    if (buffer < 0) return master;
    const Memory copy = context.memory(pd.weights_desc(), at(buffer));
    copies_.push_back({dnnl::reorder(master, copy), {{DNNL_ARG_FROM, master}, {DNNL_ARG_TO, copy}}});
    return copy;
  }
  Memory biasMemory(const Flat& flat) {
    return context.memory({{layerAt(layer_).out}, Memory::data_type::f32, Memory::format_tag::x},
                          flat.data() + context.parameters[bias_].offset);
  }

  int layer_, in_, weight_ = -1, bias_ = -1;
  Forward::primitive_desc forward_;
  BackwardWeights::primitive_desc weights_;
  BackwardData::primitive_desc data_;
  PrimitivePass forwardPass_, weightPass_, dataPass_;
  WinogradPass forwardWinograd_, weightWinograd_, dataWinograd_;  // where they are taken instead
  int forwardWeights_ = -1, dataWeights_ = -1, grad_ = -1, inGrad_ = -1;
  PartSum sum_;
  std::vector<std::pair<dnnl::reorder, Args>> copies_;
};

}  // namespace

StepPtr convStep(Context& context, int layer) { return std::make_unique<ConvStep>(context, layer); }

}  // namespace comface::cpu
