// Steps on images that are neither convolution nor normalization nor in steps.h: input, gradient seed, pooling, and
// what makes a vector of an image.
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

/** Image -> vector, row by row: of a batch in several chunks those of the chunk that is here. */
class ToVectorStep : public ToVectorStepOf<Context> {
 public:
  using ToVectorStepOf<Context>::ToVectorStepOf;
  void forward() override {
    for (const RowRange& range : context.chunkRows())
      convertRows(firstOf(data(in_), range), range.count, rows(layer_) + range.whole * width());
  }
  void backward() override {
    if (inGradient_ < 0) return;
    for (const RowRange& range : context.chunkRows())
      convertBack(gradientRows(layer_) + range.whole * width(), range.count, firstOf(at(inGradient_), range));
  }

 protected:
  /** n images to n rows. */
  virtual void convertRows(const void* images, int n, float* vectors) const = 0;
  /** All of the images' gradient is written. */
  virtual void convertBack(const float* vectors, int n, void* images) const = 0;
  const Shape& shape() const { return tensor(in_).shape; }
  int area() const { return shape().h * shape().w; }

 private:
  size_t width() const { return layerAt(layer_).shape.c; }
  /** The first image of a range of those at `images`. */
  void* firstOf(void* images, const RowRange& range) const {
    return static_cast<char*>(images) + range.chunk * (context.imageBytes(shape()) / shape().n);
  }
};

/** Global average. */
class AverageStep : public ToVectorStep {
 public:
  using ToVectorStep::ToVectorStep;

 private:
  void convertRows(const void* images, int n, float* vectors) const override {
    averagePool(context.number, images, n, shape().c, area(), vectors, context.stream);
  }
  void convertBack(const float* vectors, int n, void* images) const override {
    averagePoolBackward(context.number, vectors, n, shape().c, area(), images, context.stream);
  }
};

class TokenStep : public ToVectorStep {
 public:
  using ToVectorStep::ToVectorStep;

 private:
  void convertRows(const void* images, int n, float* vectors) const override {
    token(context.number, images, n, shape().c, area(), layerAt(layer_).position, vectors, context.stream);
  }
  void convertBack(const float* vectors, int n, void* images) const override {
    tokenBackward(context.number, vectors, n, shape().c, area(), layerAt(layer_).position, images, context.stream);
  }
};

/** A row is an image in PyTorch's layout. */
class FlattenStep : public ToVectorStep {
 public:
  using ToVectorStep::ToVectorStep;

 private:
  void convertRows(const void* images, int n, float* vectors) const override {
    unpackImages(context.number, images, n, shape().c, shape().h, shape().w, vectors, context.stream);
  }
  void convertBack(const float* vectors, int n, void* images) const override {
    packImages(context.number, vectors, n, shape().c, shape().h, shape().w, images, context.stream);
  }
};

}  // namespace

StepPtr inputStep(Context& context) { return std::make_unique<InputStep>(context); }
StepPtr seedStep(Context& context, int layer, int seed) { return std::make_unique<SeedStep>(context, layer, seed); }
StepPtr maxPoolStep(Context& context, int layer) { return std::make_unique<MaxPoolStep>(context, layer); }
StepPtr averageStep(Context& context, int layer) { return std::make_unique<AverageStep>(context, layer); }
StepPtr tokenStep(Context& context, int layer) { return std::make_unique<TokenStep>(context, layer); }
StepPtr flattenStep(Context& context, int layer) { return std::make_unique<FlattenStep>(context, layer); }

}  // namespace comface::cuda
