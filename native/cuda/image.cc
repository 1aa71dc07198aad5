// Steps on images that are neither convolution nor normalization nor in steps.h: input, gradient seed, pooling.
#include "cuda/tensor.h"

namespace comface::cuda {

namespace {

/** fp32 N C H W as the caller gave it into the network's layout and number type. */
class InputStep : public Step {
 public:
  explicit InputStep(Context& context) : Step(context) {}
  int result() const override { return 0; }
  void planForward(int time) override {
    Tensor& t = tensor(0);
    if (t.image) t.buffer = create(context.imageBytes(t.shape), time);
  }
  void forward() override {
    if (context.isOnPictures) return makeViews();
    const Tensor& t = tensor(0);
    const float* from = context.input;
    if (t.image) {
      const size_t plain = static_cast<size_t>(t.shape.c) * t.shape.h * t.shape.w;
      const size_t bytes = context.imageBytes(t.shape) / t.shape.n;
      for (const RowRange& rows : context.chunkRows()) {
        packImages(context.number, from + rows.whole * plain, rows.count, t.shape.c, t.shape.h, t.shape.w,
                   static_cast<char*>(data(0)) + rows.chunk * bytes, context.stream);
      }
    } else {
      context.copy(rows(0), from, t.shape.count() * sizeof(float));
    }
  }

 private:
  void makeViews() const {
    const size_t bytes = context.imageBytes(tensor(0).shape) / tensor(0).shape.n;
    for (const RowRange& rows : context.chunkRows()) {
      AugmentArgs args = context.pictures;
      args.views += rows.whole;
      args.viewCount = rows.count;
      args.images = static_cast<char*>(data(0)) + rows.chunk * bytes;
      augment(context.number, args, context.graph.chunks == 1 ? context.graph.parts : 1, context.stream);
    }
  }
};

/** Without a loss the caller gives the gradient of the last layer. */
class SeedStep : public Step {
 public:
  SeedStep(Context& context, int layer, int seed) : Step(context), layer_(layer), seed_(seed) {}
  int result() const override { return -1; }
  void planForward(int) override {}
  void planBackward(int time) override {
    if (!tensor(layer_).image) return;
    part_ = create(context.imageBytes(tensor(layer_).shape), time);
    tensor(layer_).parts.push_back(part_);
  }
  void forward() override {}
  void backward() override {
    const Shape& s = tensor(layer_).shape;
    const float* seed = context.buffers.at<float>(seed_);
    if (part_ >= 0) {
      packImages(context.number, seed, s.n, s.c, s.h, s.w, at(part_), context.stream);
    } else {
      addTo(seed, s.count(), gradientRows(layer_), context.stream);
    }
  }

 private:
  int layer_, seed_, part_ = -1;
};

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(Context& context, int layer) : Step(context), layer_(layer), in_(layerAt(layer).inputs[0]) {
    const Layer& l = layerAt(layer);
    const Shape& in = tensor(in_).shape;
    pool_ = {in.n, context.channels(in), in.h, in.w, l.shape.h, l.shape.w, l.kernel, l.stride, l.pad};
    constexpr int kMostKernel = 16;  // places in a window are bytes
    if (l.kernel > kMostKernel) {
      throw Error(Code::invalidConfig, "Layer `" + l.name + "`: the CUDA backend pools over windows of at most 16.");
    }
  }
  int result() const override { return layer_; }
  void planForward(int time) override {
    const Shape& out = tensor(layer_).shape;
    tensor(layer_).buffer = create(context.imageBytes(out), time);
    touch(in_, time);
    if (context.graph.training) index_ = create(context.imageCount(out), time);
  }
  void planBackward(int time) override {
    Tensor& out = tensor(layer_);
    sum_.plan(context, out, 1, time);
    grad_ = out.parts[0];
    context.buffers.touch(grad_, time), context.buffers.touch(index_, time);
    if (!tensor(in_).wanted) return;
    inGrad_ = create(context.imageBytes(tensor(in_).shape), time);
    tensor(in_).parts.push_back(inGrad_);
  }
  void forward() override {
    maxPool(context.number, pool_, data(in_), data(layer_), static_cast<uint8_t*>(at(index_)), context.stream);
  }
  void backward() override {
    sum_.run(context);
    if (inGrad_ < 0) return;
    maxPoolBackward(context.number, pool_, at(grad_), static_cast<uint8_t*>(at(index_)), at(inGrad_), context.stream);
  }

 private:
  int layer_, in_, index_ = -1, grad_ = -1, inGrad_ = -1;
  Pool pool_{};
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
    inGrad_ = create(context.imageBytes(tensor(in_).shape), time);
    tensor(in_).parts.push_back(inGrad_);
  }
  void forward() override {
    const Shape& s = tensor(in_).shape;
    const size_t bytes = context.imageBytes(s) / s.n;
    for (const RowRange& range : context.chunkRows()) {
      averagePool(context.number, static_cast<char*>(data(in_)) + range.chunk * bytes, range.count, s.c, s.h * s.w,
                  rows(layer_) + range.whole * s.c, context.stream);
    }
  }
  void backward() override {
    if (inGrad_ < 0) return;
    const Shape& s = tensor(in_).shape;
    const size_t bytes = context.imageBytes(s) / s.n;
    for (const RowRange& range : context.chunkRows()) {
      averagePoolBackward(context.number, gradientRows(layer_) + range.whole * s.c, range.count, s.c, s.h * s.w,
                          static_cast<char*>(at(inGrad_)) + range.chunk * bytes, context.stream);
    }
  }

 private:
  int layer_, in_, inGrad_ = -1;
};

}  // namespace

StepPtr inputStep(Context& context) { return std::make_unique<InputStep>(context); }
StepPtr seedStep(Context& context, int layer, int seed) { return std::make_unique<SeedStep>(context, layer, seed); }
StepPtr maxPoolStep(Context& context, int layer) { return std::make_unique<MaxPoolStep>(context, layer); }
StepPtr averageStep(Context& context, int layer) { return std::make_unique<AverageStep>(context, layer); }

}  // namespace comface::cuda
