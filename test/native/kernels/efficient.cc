// efficient.cu against plain loops in double; see images.cc. What is allowed follows from how the kernels compute:
// shares, and squares where they are multiplied, are rounded to the number type; 2^x and sums are fp32's.
#include "images.h"

namespace comface::cuda {
namespace {

struct Case {
  int n, tokens, heads, width;
  double size = 1;  // of queries and keys
};

/** Numbers and by how much each may be off. */
struct Unsure {
  Numbers value, room;
  explicit Unsure(size_t count) : value(count), room(count) {}
  void round(double unit, double least) {
    for (size_t i = 0; i < value.size(); ++i) room[i] += std::abs(value[i]) * unit + least;
  }
};

/** sum over k of a(i,k) b(k,j), rows x columns; the two tell where a number is. */
template <class A, class B>
Unsure product(int rows, int columns, int depth, const Unsure& a, const A& atA, const Unsure& b, const B& atB) {
  Unsure c(static_cast<size_t>(rows) * columns);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      const size_t to = static_cast<size_t>(i) * columns + j;
      for (int k = 0; k < depth; ++k) {
        const size_t p = atA(i, k), q = atB(k, j);
        c.value[to] += a.value[p] * b.value[q];
        c.room[to] += a.room[p] * (std::abs(b.value[q]) + b.room[q]) + std::abs(a.value[p]) * b.room[q] +
                      4e-6 * std::abs(a.value[p] * b.value[q]);
      }
    }
  }
  return c;
}

/** One head of one sample: T x size each, and all that follows from them. */
class Head {
 public:
  Head(const Case& shape, Number number, Unsure query, Unsure key, Unsure value, Unsure dy)
      : t_(shape.tokens),
        d_(shape.width),
        unit_(unitOf(number)),
        least_(leastOf(number)),
        v_(std::move(value)),
        dy_(std::move(dy)),
        q_(query.value.size()),
        k_(key.value.size()) {
    for (int t = 0; t < t_; ++t) softmax(query.value, q_, static_cast<size_t>(t) * d_, 1, d_);
    for (int j = 0; j < d_; ++j) softmax(key.value, k_, j, d_, t_);
  }

  /** Where number (i, k), or (k, i), of rows of d is. */
  auto rows() const {
    return [d = d_](int i, int k) { return static_cast<size_t>(i) * d + k; };
  }
  auto across() const {
    return [d = d_](int i, int k) { return static_cast<size_t>(k) * d + i; };
  }

  Unsure context() const {
    return product(d_, d_, t_, k_, across(), v_, rows());  // of key j and value c
  }
  Unsure result() const { return product(t_, d_, d_, q_, rows(), rounded(context()), rows()); }

  /** Of queries, keys and values. */
  void backward(Unsure (&gradients)[3]) const {
    const Unsure context = this->context(), y = rounded(result());
    const Unsure slope = product(d_, d_, t_, q_, across(), dy_, rows());
    gradients[0] = product(t_, d_, d_, dy_, rows(), rounded(context), across());
    for (int t = 0; t < t_; ++t) {
      const auto row = [&](int, int k) { return static_cast<size_t>(t) * d_ + k; };
      const auto column = [&](int k, int) { return static_cast<size_t>(t) * d_ + k; };
      const Unsure along = product(1, 1, d_, dy_, row, y, column);
      for (int j = 0; j < d_; ++j) through(q_, gradients[0], static_cast<size_t>(t) * d_ + j, along);
    }
    gradients[1] = product(t_, d_, d_, v_, rows(), rounded(slope), across());
    for (int j = 0; j < d_; ++j) {
      const auto row = [&](int, int k) { return static_cast<size_t>(j) * d_ + k; };
      const auto column = [&](int k, int) { return static_cast<size_t>(j) * d_ + k; };
      const Unsure along = product(1, 1, d_, slope, row, context, column);
      for (int t = 0; t < t_; ++t) through(k_, gradients[1], static_cast<size_t>(t) * d_ + j, along);
    }
    gradients[2] = product(t_, d_, d_, k_, rows(), rounded(slope), rows());
  }

 private:
  Unsure rounded(Unsure square) const {
    square.round(unit_, least_);
    return square;
  }
  /** What a share's exponent is off by costs that share of it; of a key's, what is below the least number is lost. */
  void softmax(const Numbers& x, Unsure& shares, size_t first, int step, int count) const {
    double most = -INFINITY, sum = 0, longest = 0;
    for (int i = 0; i < count; ++i) most = std::max(most, x[first + size_t{1} * i * step]);
    for (int i = 0; i < count; ++i) {
      longest = std::max(longest, std::abs(x[first + size_t{1} * i * step]));
      sum += shares.value[first + size_t{1} * i * step] = std::exp(x[first + size_t{1} * i * step] - most);
    }
    for (int i = 0; i < count; ++i) {
      const size_t at = first + size_t{1} * i * step;
      shares.value[at] /= sum;
      shares.room[at] = shares.value[at] * (unit_ + 4e-6 + 4e-7 * longest) + least_;
    }
  }
  /** The gradient of a softmax. */
  static void through(const Unsure& share, Unsure& gradient, size_t at, const Unsure& along) {
    const double slope = gradient.value[at] - along.value[0], room = gradient.room[at] + along.room[0];
    gradient.value[at] = share.value[at] * slope;
    gradient.room[at] = share.room[at] * (std::abs(slope) + room) + share.value[at] * room;
  }

  int t_, d_;
  double unit_, least_;
  Unsure v_, dy_, q_, k_;
};

/** A head's T x size numbers of an image, or back into it. */
template <class Visit>
void forHead(const Case& shape, int pitch, int sample, int channel, const Visit& visit) {
  for (int t = 0; t < shape.tokens; ++t)
    for (int j = 0; j < shape.width; ++j)
      visit(static_cast<size_t>(t) * shape.width + j,
            (static_cast<size_t>(sample) * shape.tokens + t) * pitch + channel + j);
}

struct Expected {
  Unsure y, dx;
  Expected(const Case& shape, Number number, const Numbers& x, const Numbers& dy) : y(dy.size()), dx(x.size()) {
    const int channels = shape.heads * shape.width, in = paddedChannels(3 * channels), out = paddedChannels(channels);
    for (int sample = 0; sample < shape.n; ++sample) {
      for (int head = 0; head < shape.heads; ++head) {
        const auto take = [&](const Numbers& image, int pitch, int channel) {
          Unsure part(static_cast<size_t>(shape.tokens) * shape.width);
          forHead(shape, pitch, sample, channel, [&](size_t i, size_t at) { part.value[i] = image[at]; });
          return part;
        };
        const auto give = [&](const Unsure& part, int pitch, int channel, Unsure& image) {
          forHead(shape, pitch, sample, channel,
                  [&](size_t i, size_t at) { image.value[at] = part.value[i], image.room[at] = part.room[i]; });
        };
        const int first = head * shape.width;
        const Head made(shape, number, take(x, in, first), take(x, in, channels + first),
                        take(x, in, 2 * channels + first), take(dy, out, first));
        give(made.result(), out, first, y);
        Unsure gradients[3] = {Unsure(0), Unsure(0), Unsure(0)};
        made.backward(gradients);
        for (int which = 0; which < 3; ++which) give(gradients[which], in, which * channels + first, dx);
      }
    }
  }
};

void testCase(const Case& shape, Number number) {
  const int channels = shape.heads * shape.width, in = paddedChannels(3 * channels), out = paddedChannels(channels);
  const size_t rows = static_cast<size_t>(shape.n) * shape.tokens;
  Numbers x = image(number, rows, in, 3 * channels);
  const Numbers dy = image(number, rows, out, channels);
  for (size_t i = 0; i < x.size(); ++i)
    if (static_cast<int>(i % in) < 2 * channels) x[i] = round(number, shape.size * x[i]);
  const Expected want(shape, number, x, dy);
  const std::string what = std::string("efficient attention ") + nameOf(number) + " of " +
                           std::to_string(shape.tokens) + " positions, " + std::to_string(shape.heads) + " x " +
                           std::to_string(shape.width);
  inAllOrders(what, [&](bool checks) {
    EfficientAttention args{shape.n, shape.tokens, shape.heads, shape.width, nullptr, nullptr, nullptr, nullptr};
    const Tensor from(number, x), to(number, rows * out), gradient(number, dy), back(number, rows * in);
    const Floats saved(efficientSaved(args)), scratch(efficientScratch(args));
    args.x = from, args.y = to, args.saved = saved, args.scratch = scratch;
    efficientAttention(number, args, nullptr);
    efficientAttentionBackward(number, args, gradient, back, nullptr);
    if (checks) {
      near(what, to.read(), want.y.value, number, want.y.room);
      near(what + " dx", back.read(), want.dx.value, number, want.dx.room);
    }
    std::vector<char> all = to.bytes();
    append(all, back);
    return all;
  });
}

/** Not a number in one key comes out wherever its channel is read, and nowhere in the other head. */
void testNotFinite(Number number) {
  const int tokens = 70, width = 8, in = 48, out = 16;
  Numbers x = image(number, tokens, in, in);
  x[size_t{66} * in + 16 + 3] = NAN;
  EfficientAttention args{1, tokens, 2, width, nullptr, nullptr, nullptr, nullptr};
  const Tensor from(number, x), to(number, size_t{tokens} * out);
  const Floats saved(efficientSaved(args)), scratch(efficientScratch(args));
  args.x = from, args.y = to, args.saved = saved, args.scratch = scratch;
  efficientAttention(number, args, nullptr);
  const Numbers y = to.read();
  for (size_t i = 0; i < y.size(); ++i) {
    if (std::isnan(y[i]) != (i % out < 8))
      ++failures, printf("efficient attention of what is no number: %zu is %g\n", i, y[i]);
  }
}

}  // namespace

void testEfficient(Number number) {
  for (const Case& shape : {Case{1, 1, 1, 8},
                            {3, 1, 3, 24},
                            {2, 25, 7, 1},
                            {2, 36, 2, 5},
                            {1, 64, 1, 64},
                            {1, 65, 2, 32},
                            {1, 130, 1, 72},
                            {1, 70, 1, 131},
                            {1, 40, 2, 16, 20},  // all but one share are as good as nothing
                            {1, 1090, 2, 6}}) {  // two pieces of positions
    testCase(shape, number);
  }
  testNotFinite(number);
}

}  // namespace comface::cuda
