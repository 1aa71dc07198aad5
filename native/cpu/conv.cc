// Convolution: oneDNN's direct kernels on blocked layouts. The fp32 master weights live in the layout that
// backward-weights writes, so Adam needs no reorder; forward and backward-data read copies that are refreshed when the
// weights change.
#include "cpu/tensor.h"

namespace comface::cpu {
namespace {

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

  void createPrimitives() {
    const Layer& l = layerAt(layer_);
    const Shape& in = layerAt(in_).shape;
    using Kind = dnnl::prop_kind;
    const auto direct = dnnl::algorithm::convolution_direct;
    const auto f32 = Memory::data_type::f32;
    const Memory::dims shape = {l.out, in.c, l.kernel, l.kernel}, stride = {l.stride, l.stride}, pad = {l.pad, l.pad};
    const Memory::desc source = context.imageDesc(tensor(in_)), result = context.imageDesc(tensor(layer_));
    const Memory::desc any(shape, context.dataType(), Memory::format_tag::any);
    const Memory::desc plain(shape, f32, Memory::format_tag::oihw);
    const Memory::desc bias = bias_ >= 0 ? Memory::desc({l.out}, f32, Memory::format_tag::x) : Memory::desc();
    const auto attr = context.attributes();
    const bool training = context.graph.training;
    forward_ = {{training ? Kind::forward_training : Kind::forward_inference, direct, source, any, bias, result, stride,
                 pad, pad},
                attr,
                context.engine};
    context.reserveScratch(forward_);
    Stored& stored = context.parameters[weight_];
    stored.layout = stored.plain = plain;
    if (training) {
      const Memory::desc anyGradient(shape, f32, Memory::format_tag::any);
      weights_ = {{direct, source, anyGradient, bias, result, stride, pad, pad}, attr, context.engine, forward_};
      data_ = {{direct, source, any, result, stride, pad, pad}, attr, context.engine, forward_};
      context.reserveScratch(weights_), context.reserveScratch(data_);
      stored.layout = weights_.diff_weights_desc();
      weightPrimitive_ = dnnl::convolution_backward_weights(weights_);
      dataPrimitive_ = dnnl::convolution_backward_data(data_);
      dataCopy_ = tensor(in_).wanted && data_.weights_desc() != stored.layout;
      if (dataCopy_) dataReorder_ = reorderTo(stored.layout, data_.weights_desc());
    }
    stored.stored = stored.layout.get_size() / sizeof(float);
    forwardPrimitive_ = dnnl::convolution_forward(forward_);
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
  dnnl::convolution_forward::primitive_desc forward_;
  dnnl::convolution_backward_weights::primitive_desc weights_;
  dnnl::convolution_backward_data::primitive_desc data_;
  dnnl::convolution_forward forwardPrimitive_;
  dnnl::convolution_backward_weights weightPrimitive_;
  dnnl::convolution_backward_data dataPrimitive_;
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
