// attention.cu against plain loops in double; see images.cc. What is allowed follows from how the kernels compute: 2^x
// and sums in fp32, shares and their gradients rounded to the number type before they are multiplied.
#include "images.h"

namespace comface::cuda {
namespace {

struct Case {
  int n, tokens, heads, width;
  double size = 1;  // of queries: scores of `size` times a normal number
  double away = 0;  // of each head's first channel: of queries up, of keys down, so that all scores are far below 0
};

/** One head of one sample, queries, keys and values as T x width, and all that follows from them. */
class Head {
 public:
  Head(const Case& shape, Number number, const Numbers& x, const Numbers& y, const Numbers& dy, int sample, int head)
      : t_(shape.tokens), d_(shape.width), number_(number), scale_(1 / std::sqrt(static_cast<double>(shape.width))) {
    const int channels = shape.heads * d_;
    for (int which = 0; which < 3; ++which)
      take(x, paddedChannels(3 * channels), sample, which * channels + head * d_, parts_[which]);
    take(y, paddedChannels(channels), sample, head * d_, y_),
        take(dy, paddedChannels(channels), sample, head * d_, dy_);
  }

  /** Row by row: y, and what it and the logarithm may be off by. */
  void forward(Numbers& y, Numbers& room, Numbers& logSums) {
    shares_.assign(t_ * t_, 0), unsure_.assign(t_ * t_, 0);
    y.assign(t_ * d_, 0), room.assign(t_ * d_, 0), logSums.assign(t_, 0);
    for (size_t i = 0; i < t_; ++i) {
      double most = -INFINITY, sum = 0, longest = 0;
      for (size_t t = 0; t < t_; ++t) {
        const auto [score, length] = dot(parts_[0], i, parts_[1], t);
        shares_[i * t_ + t] = score * scale_;
        longest = std::max(longest, length * scale_), most = std::max(most, score * scale_);
      }
      for (size_t t = 0; t < t_; ++t) sum += shares_[i * t_ + t] = std::exp(shares_[i * t_ + t] - most);
      logSums[i] = (most + std::log(sum)) / std::log(2.0);
      for (size_t t = 0; t < t_; ++t) {
        double& p = shares_[i * t_ + t];
        p /= sum;
        unsure_[i * t_ + t] = p * (unitOf(number_) + 4e-6 + 2e-6 * longest) + leastOf(number_);
        for (size_t j = 0; j < d_; ++j) {
          y[i * d_ + j] += p * parts_[2][t * d_ + j];
          room[i * d_ + j] += unsure_[i * t_ + t] * std::abs(parts_[2][t * d_ + j]);
        }
      }
    }
  }

  /** Of queries, keys and values; after forward(). */
  void backward(Numbers (&gradients)[3], Numbers (&rooms)[3]) const {
    for (Numbers* all : {gradients, rooms})
      for (int which = 0; which < 3; ++which) all[which].assign(t_ * d_, 0);
    for (size_t i = 0; i < t_; ++i) {
      double along = 0, length = 0, most = 0;
      for (size_t j = 0; j < d_; ++j) length += std::abs(dy_[i * d_ + j] * y_[i * d_ + j]);
      for (size_t t = 0; t < t_; ++t) {
        const auto [dp, size] = dot(dy_, i, parts_[2], t);
        along += shares_[i * t_ + t] * dp, most = std::max(most, size);
      }
      // The kernels have y as it was rounded.
      const double alongRoom = length * unitOf(number_) + (length + most) * 4e-6;
      for (size_t t = 0; t < t_; ++t) {
        const double p = shares_[i * t_ + t], unsure = unsure_[i * t_ + t], dp = dot(dy_, i, parts_[2], t).first;
        const double ds = p * (dp - along);
        const double room = unsure * (std::abs(dp - along) + alongRoom) + p * alongRoom +
                            std::abs(ds) * unitOf(number_) + leastOf(number_);
        for (size_t j = 0; j < d_; ++j) {
          add(gradients[0], rooms[0], i, j, ds, room, scale_ * parts_[1][t * d_ + j]);
          add(gradients[1], rooms[1], t, j, ds, room, scale_ * parts_[0][i * d_ + j]);
          add(gradients[2], rooms[2], t, j, p, unsure, dy_[i * d_ + j]);
        }
      }
    }
  }

 private:
  void take(const Numbers& image, int pitch, int sample, int channel, Numbers& to) const {
    for (size_t t = 0; t < t_; ++t)
      for (size_t j = 0; j < d_; ++j) to.push_back(image[(sample * t_ + t) * pitch + channel + j]);
  }
  /** a_i . b_t, and the sum of its terms' sizes. */
  std::pair<double, double> dot(const Numbers& a, size_t i, const Numbers& b, size_t t) const {
    double sum = 0, size = 0;
    for (size_t j = 0; j < d_; ++j)
      sum += a[i * d_ + j] * b[t * d_ + j], size += std::abs(a[i * d_ + j] * b[t * d_ + j]);
    return {sum, size};
  }
  void add(Numbers& to, Numbers& room, size_t row, size_t j, double value, double unsure, double factor) const {
    to[row * d_ + j] += value * factor;
    room[row * d_ + j] += (unsure + 1e-6 * std::abs(value)) * std::abs(factor);
  }

  size_t t_, d_;
  Number number_;
  double scale_;
  Numbers parts_[3], y_, dy_, shares_, unsure_;  // unsure: what a share may be off by
};

/** Puts a head's T x width numbers where they lie in an image. */
void place(const Case& shape, const Numbers& from, int pitch, int sample, int channel, Numbers& image) {
  for (size_t i = 0; i < from.size(); ++i)
    image[(sample * static_cast<size_t>(shape.tokens) + i / shape.width) * pitch + channel + i % shape.width] = from[i];
}

struct Images {
  Numbers y, dx, logSums, yRoom, dxRoom;
};

/** found: y as the kernel rounded it. */
Images expected(const Case& shape, Number number, const Numbers& x, const Numbers& found, const Numbers& dy) {
  const int channels = shape.heads * shape.width, in = paddedChannels(3 * channels), out = paddedChannels(channels);
  Images want{Numbers(dy.size()), Numbers(x.size()), {}, Numbers(dy.size()), Numbers(x.size())};
  for (int sample = 0; sample < shape.n; ++sample) {
    for (int head = 0; head < shape.heads; ++head) {
      Head all(shape, number, x, found, dy, sample, head);
      Numbers y, room, logSums, gradients[3], rooms[3];
      all.forward(y, room, logSums);
      all.backward(gradients, rooms);
      want.logSums.insert(want.logSums.end(), logSums.begin(), logSums.end());
      place(shape, y, out, sample, head * shape.width, want.y),
          place(shape, room, out, sample, head * shape.width, want.yRoom);
      for (int which = 0; which < 3; ++which) {
        const int channel = which * channels + head * shape.width;
        place(shape, gradients[which], in, sample, channel, want.dx),
            place(shape, rooms[which], in, sample, channel, want.dxRoom);
      }
    }
  }
  return want;
}

void testCase(const Case& shape, Number number) {
  const int channels = shape.heads * shape.width, in = paddedChannels(3 * channels), out = paddedChannels(channels);
  const size_t rows = static_cast<size_t>(shape.n) * shape.tokens, queries = rows * shape.heads;
  Numbers x = image(number, rows, in, 3 * channels);
  const Numbers dy = image(number, rows, out, channels);
  for (size_t i = 0; i < x.size(); ++i)
    if (const int channel = static_cast<int>(i % in); channel < 2 * channels) {
      const bool isQuery = channel < channels, isFirst = channel % shape.width == 0;
      x[i] = round(number, (isQuery ? shape.size : 1) * x[i] + (isFirst ? (isQuery ? 1 : -1) * shape.away : 0));
    }
  const std::string what = std::string("attention ") + nameOf(number) + " of " + std::to_string(shape.tokens) +
                           " tokens, " + std::to_string(shape.heads) + " x " + std::to_string(shape.width);
  inAllOrders(what, [&](bool checks) {
    const Tensor from(number, x), to(number, rows * out), again(number, rows * out), gradient(number, dy),
        back(number, rows * in);
    const Floats logSums(queries), slopes(queries);
    Attention args{shape.n, shape.tokens, shape.heads, shape.width, from, to, logSums};
    attention(number, args, nullptr);
    attentionBackward(number, args, gradient, back, slopes, nullptr);
    args.y = again, args.logSums = nullptr;  // inference
    attention(number, args, nullptr);
    if (again.bytes() != to.bytes()) ++failures, printf("%s: other numbers in inference\n", what.c_str());
    if (checks) {
      const Images want = expected(shape, number, x, to.read(), dy);
      near(what, to.read(), want.y, number, want.yRoom);
      near(what + " log sums", logSums.read(), want.logSums, Number::fp32, 1e-5 * (1 + shape.size + shape.away));
      near(what + " dx", back.read(), want.dx, number, want.dxRoom);
    }
    std::vector<char> all = to.bytes();
    append(all, back);
    return all;
  });
}

/** Not a number in one value comes out in its channel at every query, and nowhere in the other head. */
void testNotFinite(Number number) {
  const int tokens = 70, width = 8, in = 48, out = 16;
  Numbers x = image(number, tokens, in, in);
  x[size_t{66} * in + 32 + 3] = NAN;
  const Tensor from(number, x), to(number, size_t{tokens} * out);
  attention(number, {1, tokens, 2, width, from, to, nullptr}, nullptr);
  const Numbers y = to.read();
  for (size_t i = 0; i < y.size(); ++i) {
    if (std::isnan(y[i]) != (i % out == 3)) ++failures, printf("attention of what is no number: %zu is %g\n", i, y[i]);
  }
}

}  // namespace

void testAttention(Number number) {
  for (const Case& shape :
       {Case{1, 1, 1, 8},
        {3, 1, 3, 24},
        {2, 9, 2, 16},
        {2, 25, 7, 1},
        {2, 36, 2, 5},
        {1, 64, 1, 64},
        {1, 65, 2, 32},
        {1, 130, 1, 80},
        {1, 70, 1, 128},
        {2, 197, 1, 64},
        {1, 40, 2, 16, 100},    // all but one share are as good as nothing
        {1, 40, 2, 16, 1, 30},  // a score of 0, which tokens after the last would have, is far too large
        {1, 257, 1, 24}}) {
    testCase(shape, number);
  }
  testNotFinite(number);
}

}  // namespace comface::cuda
