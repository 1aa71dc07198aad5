// Steps on image tensors that are neither convolution nor normalization nor in steps.h: input, gradient seed, pooling.
#include "cpu/tensor.h"

namespace comface::cpu {

namespace {

/** fp32 N C H W from the caller into the precision and layout that the first layer reads. */
class InputStep : public Step {
 public:
  using Step::Step;
  int result() const override { return 0; }
  void planForward(int time) override {
    Tensor& t = tensor(0);
    if (t.image) t.buffer = create(context.imageDesc(t).get_size(), time);
  }
  void bind() override {
    if (!tensor(0).image) return;
    const Memory::desc from = Context::plainDesc(tensor(0).shape), to = context.imageDesc(tensor(0));
    reorder_ = dnnl::reorder(dnnl::reorder::primitive_desc(context.engine, from, context.engine, to));
    from_ = context.memory(from, nullptr);
    args_ = {{DNNL_ARG_FROM, from_}, {DNNL_ARG_TO, context.memory(to, data(0))}};
  }
  void forward() override {
    if (!tensor(0).image) {
      std::copy_n(context.input, tensor(0).shape.count(), rows(0));
      return;
    }
    from_.set_data_handle(const_cast<float*>(context.input));  // shared with the copy in args_
    reorder_.execute(context.stream, args_);
  }

 private:
  dnnl::reorder reorder_;
  Memory from_;
  Args args_;
};

/** Without a loss the caller gives the gradient of the last layer. */
class SeedStep : public Step {
 public:
  SeedStep(Context& context, int layer, int seed) : Step(context), layer_(layer), seed_(seed) {}
  int result() const override { return -1; }
  void planForward(int) override {}
  void planBackward(int time) override {
    if (!tensor(layer_).image) return;
    part_ = context.buffers.create(context.imageDesc(tensor(layer_)).get_size());
    context.buffers.touch(part_, time);
    tensor(layer_).parts.push_back(part_);
  }
  void bind() override {
    if (part_ < 0) return;
    const Memory::desc from = Context::plainDesc(tensor(layer_).shape), to = context.imageDesc(tensor(layer_));
    reorder_ = dnnl::reorder(dnnl::reorder::primitive_desc(context.engine, from, context.engine, to));
    args_ = {{DNNL_ARG_FROM, context.memory(from, context.buffers.at(seed_))},
             {DNNL_ARG_TO, context.memory(to, context.buffers.at(part_))}};
  }
  void forward() override {}
  void backward() override {
    if (part_ >= 0) {
      reorder_.execute(context.stream, args_);
    } else {
      std::copy_n(context.buffers.at<float>(seed_), tensor(layer_).shape.count(), gradientRows(layer_));
    }
  }

 private:
  int layer_, seed_, part_ = -1;
  dnnl::reorder reorder_;
  Args args_;
};

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(Context& context, int layer) : Step(context), layer_(layer), in_(layerAt(layer).inputs[0]) {
    const Layer& l = layerAt(layer);
    const Memory::dims kernel = {l.kernel, l.kernel}, stride = {l.stride, l.stride}, pad = {l.pad, l.pad};
    // The last window may reach less far than the padding allows; oneDNN wants the padding it really uses.
    const auto after = [&](int in, int out) { return Memory::dim((out - 1) * l.stride + l.kernel - in - l.pad); };
    const Shape &in = layerAt(in_).shape, &out = l.shape;
    const Memory::dims padEnd = {after(in.h, out.h), after(in.w, out.w)};
    const Memory::desc source = context.imageDesc(tensor(in_)), result = context.imageDesc(tensor(layer));
    const auto kind = context.graph.training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    const auto max = dnnl::algorithm::pooling_max;
    forward_ = {{kind, max, source, result, stride, kernel, pad, padEnd}, context.attributes(), context.engine};
    context.reserveScratch(forward_);
    forwardPrimitive_ = dnnl::pooling_forward(forward_);
    if (!context.graph.training) return;
    backward_ = {{max, source, result, stride, kernel, pad, padEnd}, context.attributes(), context.engine, forward_};
    context.reserveScratch(backward_);
    backwardPrimitive_ = dnnl::pooling_backward(backward_);
  }
  int result() const override { return layer_; }
  void planForward(int time) override {
    tensor(layer_).buffer = context.buffers.create(forward_.dst_desc().get_size());
    touch(in_, time), touch(layer_, time);
    if (!context.graph.training) return;
    workspace_ = context.buffers.create(forward_.workspace_desc().get_size());
    context.buffers.touch(workspace_, time);
  }
  void planBackward(int time) override {
    Tensor& out = tensor(layer_);
    sum_.plan(context, out, 1, time);
    grad_ = out.parts[0];
    context.buffers.touch(grad_, time), context.buffers.touch(workspace_, time);
    if (!tensor(in_).wanted) return;
    inGrad_ = context.buffers.create(backward_.diff_src_desc().get_size());
    context.buffers.touch(inGrad_, time);
    tensor(in_).parts.push_back(inGrad_);
  }
  void bind() override {
    forwardArgs_ = {{DNNL_ARG_SRC, context.memory(forward_.src_desc(), data(in_))},
                    {DNNL_ARG_DST, context.memory(forward_.dst_desc(), data(layer_))},
                    {DNNL_ARG_SCRATCHPAD, context.scratchMemory(forward_)}};
    if (workspace_ < 0) return;
    const Memory workspace = context.memory(forward_.workspace_desc(), context.buffers.at(workspace_));
    forwardArgs_.insert({DNNL_ARG_WORKSPACE, workspace});
    if (inGrad_ < 0) return;
    backwardArgs_ = {{DNNL_ARG_DIFF_DST, context.memory(backward_.diff_dst_desc(), context.buffers.at(grad_))},
                     {DNNL_ARG_DIFF_SRC, context.memory(backward_.diff_src_desc(), context.buffers.at(inGrad_))},
                     {DNNL_ARG_WORKSPACE, workspace},
                     {DNNL_ARG_SCRATCHPAD, context.scratchMemory(backward_)}};
  }
  void forward() override { forwardPrimitive_.execute(context.stream, forwardArgs_); }
  void backward() override {
    sum_.run(context);
    if (inGrad_ >= 0) backwardPrimitive_.execute(context.stream, backwardArgs_);
  }

 private:
  int layer_, in_, workspace_ = -1, grad_ = -1, inGrad_ = -1;
  dnnl::pooling_forward::primitive_desc forward_;
  dnnl::pooling_backward::primitive_desc backward_;
  dnnl::pooling_forward forwardPrimitive_;
  dnnl::pooling_backward backwardPrimitive_;
  Args forwardArgs_, backwardArgs_;
  PartSum sum_;
};

/** Global average: image -> vector. */
class AverageStep : public Step {
 public:
  AverageStep(Context& context, int layer) : Step(context), layer_(layer), in_(layerAt(layer).inputs[0]) {}
  int result() const override { return layer_; }
  void planForward(int time) override { touch(in_, time); }
  void planBackward(int time) override {
    if (!tensor(in_).wanted) return;
    inGrad_ = context.buffers.create(context.imageCount(tensor(in_).shape) * context.elementBytes());
    context.buffers.touch(inGrad_, time);
    tensor(in_).parts.push_back(inGrad_);
  }
  void forward() override {
    context.kernels.averageForward[context.type()](data(in_), context.extent(tensor(in_).shape), tensor(in_).shape.c,
                                                   rows(layer_));
  }
  void backward() override {
    if (inGrad_ < 0) return;
    context.kernels.averageBackward[context.type()](gradientRows(layer_), context.extent(tensor(in_).shape),
                                                    tensor(in_).shape.c, context.buffers.at(inGrad_));
  }

 private:
  int layer_, in_, inGrad_ = -1;
};

}  // namespace

StepPtr inputStep(Context& context) { return std::make_unique<InputStep>(context); }
StepPtr seedStep(Context& context, int layer, int seed) { return std::make_unique<SeedStep>(context, layer, seed); }
StepPtr maxPoolStep(Context& context, int layer) { return std::make_unique<MaxPoolStep>(context, layer); }
StepPtr averageStep(Context& context, int layer) { return std::make_unique<AverageStep>(context, layer); }

}  // namespace comface::cpu
