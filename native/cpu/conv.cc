// Convolution: oneDNN's kernels on blocked layouts, direct or (fp32, 3 x 3) Winograd's. The fp32 master weights live in
// the layout that backward-weights writes, so Adam needs no reorder; forward and backward-data read copies that are
// refreshed when the weights change.
#include "cpu/tensor.h"

namespace comface::cpu {
namespace {

/** Operations of a convolution below which a few microseconds are all there is to win. */
constexpr double kWorthTiming = 5e7;
/** A trial has at least so many samples, more of few pixels: what Winograd's does once for the weights has to pay. */
constexpr int kTrialSamples = 16, kTrialPixels = 4096;

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
    Tensor& out = tensor(layer_);
    out.buffer = context.buffers.create(forward_.dst_desc().get_size());
    touch(in_, time), touch(layer_, time);
    if (forwardCopy_) forwardWeights_ = context.buffers.keep(forward_.weights_desc().get_size());
    if (dataCopy_) dataWeights_ = context.buffers.keep(data_.weights_desc().get_size());
  }

  void planBackward(int time) override {
    Tensor& out = tensor(layer_);
    sum_.plan(context, out, 1, time);
    grad_ = out.parts[0];
    context.buffers.touch(grad_, time);
    touch(in_, time);
    if (!tensor(in_).wanted) return;
    inGrad_ = context.buffers.create(data_.diff_src_desc().get_size());
    context.buffers.touch(inGrad_, time);
    tensor(in_).parts.push_back(inGrad_);
  }

  void bind() override {
    const Stored& w = context.parameters[weight_];
    Memory master = context.memory(w.layout, context.values.data() + w.offset);
    Memory forwardWeights = master, dataWeights = master;
    if (forwardCopy_) {
      forwardWeights = context.memory(forward_.weights_desc(), context.buffers.at(forwardWeights_));
      copies_.push_back({forwardReorder_, {{DNNL_ARG_FROM, master}, {DNNL_ARG_TO, forwardWeights}}});
    }
    if (dataCopy_) {
      dataWeights = context.memory(data_.weights_desc(), context.buffers.at(dataWeights_));
      copies_.push_back({dataReorder_, {{DNNL_ARG_FROM, master}, {DNNL_ARG_TO, dataWeights}}});
    }
    const Memory source = context.memory(forward_.src_desc(), data(in_));
    forwardArgs_ = {{DNNL_ARG_SRC, source},
                    {DNNL_ARG_WEIGHTS, forwardWeights},
                    {DNNL_ARG_DST, context.memory(forward_.dst_desc(), data(layer_))},
                    {DNNL_ARG_SCRATCHPAD, context.scratchMemory(forward_)}};
    if (bias_ >= 0) forwardArgs_.insert({DNNL_ARG_BIAS, biasMemory(context.values)});
    if (grad_ < 0) return;
    const Memory gradient = context.memory(forward_.dst_desc(), context.buffers.at(grad_));
    weightArgs_ = {{DNNL_ARG_SRC, source},
                   {DNNL_ARG_DIFF_DST, gradient},
                   {DNNL_ARG_DIFF_WEIGHTS, context.memory(w.layout, context.gradients.data() + w.offset)},
                   {DNNL_ARG_SCRATCHPAD, context.scratchMemory(weights_)}};
    if (bias_ >= 0) weightArgs_.insert({DNNL_ARG_DIFF_BIAS, biasMemory(context.gradients)});
    if (inGrad_ < 0) return;
    dataArgs_ = {{DNNL_ARG_DIFF_DST, gradient},
                 {DNNL_ARG_WEIGHTS, dataWeights},
                 {DNNL_ARG_DIFF_SRC, context.memory(data_.diff_src_desc(), context.buffers.at(inGrad_))},
                 {DNNL_ARG_SCRATCHPAD, context.scratchMemory(data_)}};
  }

  void forward() override {
    if (context.weightsChanged) {
      for (auto& [reorder, args] : copies_) reorder.execute(context.stream, args);
    }
    forwardPrimitive_.execute(context.stream, forwardArgs_);
  }

  void backward() override {
    sum_.run(context);
    weightPrimitive_.execute(context.stream, weightArgs_);
    if (inGrad_ >= 0) dataPrimitive_.execute(context.stream, dataArgs_);
  }

 private:
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

  using Forward = dnnl::convolution_forward;
  using BackwardData = dnnl::convolution_backward_data;
  using BackwardWeights = dnnl::convolution_backward_weights;

  /** The convolution as oneDNN describes it, at so many samples. */
  struct Description {
    Memory::desc source, result, bias, anyWeights, anyGradient;
    Memory::dims stride, pad;
  };

  Description describe(int samples) const {
    const Layer& l = layerAt(layer_);
    Tensor in = tensor(in_), out = tensor(layer_);
    in.shape.n = out.shape.n = samples;
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

  Forward::primitive_desc forwardOf(const Description& d, dnnl::algorithm algorithm) const {
    const auto kind = context.graph.training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    return {{kind, algorithm, d.source, d.anyWeights, d.bias, d.result, d.stride, d.pad, d.pad},
            context.attributes(),
            context.engine};
  }
  BackwardData::primitive_desc dataOf(const Description& d, dnnl::algorithm algorithm) const {
    return {{algorithm, d.source, d.anyWeights, d.result, d.stride, d.pad, d.pad},
            context.attributes(),
            context.engine,
            forwardOf(d, algorithm)};
  }
  BackwardWeights::primitive_desc weightsOf(const Description& d, dnnl::algorithm algorithm) const {
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

  /** Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, 2016, section 4.3), which oneDNN has in fp32 with AVX-512; not where
   * there is little to win, and not in inference, where a picture's result must not depend on how many are with it. */
  bool mayBeWinograd() const {
    const Layer& l = layerAt(layer_);
    const Shape& in = layerAt(in_).shape;
    return context.graph.training && context.type() == 0 && context.kernels.block == 16 && l.kernel == 3 &&
           l.stride == 1 && l.pad == 1 && bias_ < 0 && in.c % 16 == 0 && l.out % 16 == 0 && work() > kWorthTiming;
  }

  /** One pass on memory of its own, to be timed. */
  template <class Primitive>
  Algorithms::Run trial(const typename Primitive::primitive_desc& pd,
                        std::initializer_list<std::pair<int, Memory::desc>> tensors) const {
    auto args = std::make_shared<Args>();
    const auto add = [&](int which, const Memory::desc& desc) {
      Memory memory(desc, context.engine);
      std::memset(memory.get_data_handle(), 0, desc.get_size());
      args->insert({which, memory});
    };
    for (const auto& [which, desc] : tensors) add(which, desc);
    add(DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc());
    return [args, primitive = Primitive(pd), &stream = context.stream]() mutable {
      primitive.execute(stream, *args);
      stream.wait();
    };
  }

  /** @param prepare a trial of the pass, of fewer samples where there are many. */
  template <class F>
  dnnl::algorithm algorithmOf(const char* pass, const F& prepare) {
    if (!mayBeWinograd()) return dnnl::algorithm::convolution_direct;
    const Shape& in = layerAt(in_).shape;
    const Description trialled = describe(std::min(in.n, std::max(kTrialSamples, kTrialPixels / (in.h * in.w))));
    const auto text = [](int number) { return std::to_string(number); };
    const std::string key = std::string(pass) + " " + text(in.n) + "x" + text(in.c) + "x" + text(in.h) + "x" +
                            text(in.w) + " to " + text(layerAt(layer_).out);
    return context.algorithms.choose(key, [&](dnnl::algorithm algorithm) { return prepare(trialled, algorithm); });
  }

  void createPrimitives() {
    const Layer& l = layerAt(layer_);
    const Description whole = describe(layerAt(in_).shape.n);
    const bool training = context.graph.training;
    forward_ = forwardOf(
        whole, algorithmOf("forward", [this](const Description& d, dnnl::algorithm algorithm) {
          const auto pd = forwardOf(d, algorithm);
          return trial<Forward>(
              pd, {{DNNL_ARG_SRC, d.source}, {DNNL_ARG_WEIGHTS, pd.weights_desc()}, {DNNL_ARG_DST, d.result}});
        }));
    context.reserveScratch(forward_);
    Stored& stored = context.parameters[weight_];
    stored.layout = stored.plain = {
        {l.out, layerAt(in_).shape.c, l.kernel, l.kernel}, Memory::data_type::f32, Memory::format_tag::oihw};
    if (training) {
      weights_ = weightsOf(whole, algorithmOf("gradient", [this](const Description& d, dnnl::algorithm algorithm) {
                             const auto pd = weightsOf(d, algorithm);
                             return trial<BackwardWeights>(pd, {{DNNL_ARG_SRC, d.source},
                                                                {DNNL_ARG_DIFF_DST, d.result},
                                                                {DNNL_ARG_DIFF_WEIGHTS, pd.diff_weights_desc()}});
                           }));
      data_ = dataOf(whole, algorithmOf("backward", [this](const Description& d, dnnl::algorithm algorithm) {
                       const auto pd = dataOf(d, algorithm);
                       return trial<BackwardData>(pd, {{DNNL_ARG_DIFF_DST, d.result},
                                                       {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                                                       {DNNL_ARG_DIFF_SRC, d.source}});
                     }));
      context.reserveScratch(weights_), context.reserveScratch(data_);
      stored.layout = weights_.diff_weights_desc();
      weightPrimitive_ = BackwardWeights(weights_);
      dataPrimitive_ = BackwardData(data_);
      dataCopy_ = tensor(in_).wanted && data_.weights_desc() != stored.layout;
      if (dataCopy_) dataReorder_ = reorderTo(stored.layout, data_.weights_desc());
    }
    stored.stored = stored.layout.get_size() / sizeof(float);
    forwardPrimitive_ = Forward(forward_);
    forwardCopy_ = forward_.weights_desc() != stored.layout;
    if (forwardCopy_) forwardReorder_ = reorderTo(stored.layout, forward_.weights_desc());
  }

  dnnl::reorder reorderTo(const Memory::desc& from, const Memory::desc& to) {
    const dnnl::reorder::primitive_desc pd(context.engine, from, context.engine, to);
    return dnnl::reorder(pd);
  }
  Memory biasMemory(const Flat& flat) {
    return context.memory({{layerAt(layer_).out}, Memory::data_type::f32, Memory::format_tag::x},
                          flat.data() + context.parameters[bias_].offset);
  }

  int layer_, in_, weight_ = -1, bias_ = -1;
  Forward::primitive_desc forward_;
  BackwardWeights::primitive_desc weights_;
  BackwardData::primitive_desc data_;
  Forward forwardPrimitive_;
  BackwardWeights weightPrimitive_;
  BackwardData dataPrimitive_;
  dnnl::reorder forwardReorder_, dataReorder_;
  bool forwardCopy_ = false, dataCopy_ = false;
  int forwardWeights_ = -1, dataWeights_ = -1, grad_ = -1, inGrad_ = -1;
  PartSum sum_;
  Args forwardArgs_, weightArgs_, dataArgs_;
  std::vector<std::pair<dnnl::reorder, Args>> copies_;
};

}  // namespace

StepPtr convStep(Context& context, int layer) { return std::make_unique<ConvStep>(context, layer); }

}  // namespace comface::cpu
