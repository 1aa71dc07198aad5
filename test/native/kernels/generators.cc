// The kernels that generators add (resample.cu, epilogue.cu, fourier.cu, modulate.cu, filtered.cu, pixelNorm) against
// plain loops in double; see images.cc. Modulation and the filtered ReLU are of fp32 and fp16, the others of fp32.
//   generators [<part>]   0 if all numbers are within their tolerance.
#include "cuda/generator.h"
#include "images.h"

namespace comface::cuda {
namespace {

constexpr Number kNumber = Number::fp32;

/** Within a few roundings of the largest number there is in fp32, and one more of its own to the number type. */
void nearMost(const std::string& what, const Tensor& got, const Numbers& want, Number number = kNumber) {
  double most = 0;
  for (const double x : want) most = std::max(most, std::abs(x));
  near(what, got.read(), want, number, 4e-6 * most);
}

/** Images as N x H x W x C, C padded; `channels` of them are there. */
struct Size {
  int n, h, w, channels;
  int c() const { return paddedChannels(channels); }
  size_t rows() const { return static_cast<size_t>(n) * h * w; }
  size_t count() const { return rows() * c(); }
  size_t at(int sample, int row, int column, int channel) const {
    return ((static_cast<size_t>(sample) * h + row) * w + column) * c() + channel;
  }
  Numbers drawn(Number number = kNumber) const { return image(number, rows(), c(), channels); }
  /** Calls visit(sample, row, column, channel), padding included. */
  template <class F>
  void each(const F& visit) const {
    for (int i = 0; i < n; ++i)
      for (int row = 0; row < h; ++row)
        for (int column = 0; column < w; ++column)
          for (int channel = 0; channel < c(); ++channel) visit(i, row, column, channel);
  }
};

/** fp32 numbers; 0 from `channels` on. */
Numbers vectorOf(int count, int channels, double mean = 0) { return image(kNumber, 1, count, channels, mean); }

void testResample(Number) {
  for (const Size& size : {Size{1, 1, 1, 1}, {2, 5, 7, 19}, {3, 4, 1, 16}, {1, 33, 9, 8}}) {
    const Numbers x = size.drawn(), one = Size{1, size.h, size.w, size.channels}.drawn();
    const int up = size.w % 2 ? 2 : 3;
    const Size large{size.n, up * size.h, up * size.w, size.channels};
    Numbers copies(size.count()), larger(large.count()), soft(size.count());
    for (size_t i = 0; i < copies.size(); ++i) copies[i] = one[i % one.size()];
    large.each([&](int n, int row, int column, int c) {
      larger[large.at(n, row, column, c)] = x[size.at(n, row / up, column / up, c)];
    });
    size.each([&](int n, int row, int column, int c) {
      for (int i = std::max(0, row - 1); i <= std::min(size.h - 1, row + 1); ++i)
        for (int j = std::max(0, column - 1); j <= std::min(size.w - 1, column + 1); ++j)
          soft[size.at(n, row, column, c)] +=
              (i == row ? 0.5 : 0.25) * (j == column ? 0.5 : 0.25) * x[size.at(n, i, j, c)];
    });
    const std::string what = "resample c " + std::to_string(size.channels);
    inAllOrders(what, [&](bool checks) {
      const Floats from(x), weight(one), filled(size.count()), to(large.count()), blurred(size.count());
      constant(weight, one.size(), size.n, filled, nullptr);
      upsample(from, size.n, size.h, size.w, size.c(), up, to, nullptr);
      blur(from, size.n, size.h, size.w, size.c(), blurred, nullptr);
      if (checks) {
        near(what + " constant", filled.read(), copies, kNumber, 0);
        near(what + " upsample", to.read(), larger, kNumber, 0);
        nearMost(what + " blur", blurred, soft);
      }
      std::vector<char> all = filled.bytes();
      append(all, to), append(all, blurred);
      return all;
    });
  }
}

void testPixelNorm(Number) {
  for (const auto& [rows, width] : {std::pair{1, 1}, {5, 37}, {9, 512}}) {
    const Numbers x = image(kNumber, rows, width, width);
    Numbers y = x;
    for (int row = 0; row < rows; ++row) {
      double squares = 0;
      for (int i = 0; i < width; ++i) squares += std::pow(x[size_t{1} * row * width + i], 2) / width;
      for (int i = 0; i < width; ++i) y[size_t{1} * row * width + i] /= std::sqrt(squares + 0.1f);
    }
    const std::string what = "pixel norm of " + std::to_string(width);
    inAllOrders(what, [&, n = rows, c = width](bool checks) {
      const Floats from(x), to(x.size());
      pixelNorm(from, n, c, 0.1f, to, nullptr);
      if (checks) nearMost(what, to, y);
      return to.bytes();
    });
  }
}

void testEpilogue(Number) {
  // The last two: more than a row block; a mean that is large beside what is around it.
  for (const auto& [size, mean] : {std::pair{Size{1, 1, 2, 1}, 0.0},
                                   {{3, 4, 4, 37}, 0.0},
                                   {{2, 5, 7, 16}, 0.0},
                                   {{1, 67, 61, 5}, 0.0},
                                   {{2, 16, 16, 8}, 300.0}}) {
    const int c = size.c(), channels = size.channels;
    const double slope = 0.2f, eps = 1e-3f;
    const Numbers x = image(kNumber, size.rows(), c, channels, mean);
    const Numbers noise = vectorOf(size.h * size.w, size.h * size.w), weights = vectorOf(c, channels),
                  bias = vectorOf(c, channels), style = image(kNumber, size.n, 2 * channels, 2 * channels);
    Numbers y(size.count());
    const double area = static_cast<double>(size.h) * size.w;
    for (int n = 0; n < size.n; ++n) {
      for (int k = 0; k < channels; ++k) {
        Numbers u;
        for (int p = 0; p < size.h * size.w; ++p) {
          const double moved = x[size.at(n, 0, p, k)] + noise[p] * weights[k] + bias[k];
          u.push_back(moved > 0 ? moved : slope * moved);
        }
        double sum = 0, squares = 0;
        for (const double value : u) sum += value / area;
        for (const double value : u) squares += (value - sum) * (value - sum) / area;
        const double *own = &style[size_t{2} * n * channels], scale = (own[k] + 1) / std::sqrt(squares + eps);
        for (int p = 0; p < size.h * size.w; ++p) y[size.at(n, 0, p, k)] = (u[p] - sum) * scale + own[channels + k];
      }
    }
    const std::string what = "style epilogue of " + std::to_string(size.h) + " x " + std::to_string(size.w);
    // Rounded, numbers about a large mean are off by parts of it.
    const double room = 4e-6 * (10 + mean);
    inAllOrders(what, [&, &size = size](bool checks) {
      const Floats from(x), to(size.count()), noises(noise), noiseWeights(weights), biases(bias), styles(style);
      const StyleEpilogue args{size.n,
                               size.channels,
                               static_cast<size_t>(size.h) * size.w,
                               from,
                               to,
                               noises,
                               noiseWeights,
                               biases,
                               styles,
                               static_cast<float>(slope),
                               static_cast<float>(eps)};
      const Floats scratch(styleEpilogueScratch(args));
      styleEpilogue(args, scratch, nullptr);
      if (checks) near(what, to.read(), y, kNumber, room);
      return to.bytes();
    });
  }
}

void testFourier(Number) {
  for (const Size& size : {Size{1, 1, 1, 1}, {2, 6, 5, 37}, {3, 36, 36, 16}}) {
    const float rate = 16, bandwidth = 2;
    Numbers t = image(kNumber, size.n, 4, 4), freqs = vectorOf(2 * size.channels, 2 * size.channels),
            phases = vectorOf(size.channels, size.channels), user = vectorOf(9, 9);
    for (double& f : freqs) f = round(kNumber, 3 * f);  // some are faded out
    Numbers y(size.count());
    size.each([&](int n, int row, int column, int k) {
      if (k >= size.channels) return;
      const double length = std::hypot(t[4 * n], t[4 * n + 1]), a = t[4 * n] / length, b = t[4 * n + 1] / length;
      double m[2][3];
      for (int i = 0; i < 3; ++i) {
        const double upper = user[i] - t[4 * n + 2] / length * user[6 + i],
                     lower = user[3 + i] - t[4 * n + 3] / length * user[6 + i];
        m[0][i] = a * upper - b * lower, m[1][i] = b * upper + a * lower;
      }
      double f[3];
      for (int i = 0; i < 3; ++i) f[i] = freqs[2 * k] * m[0][i] + freqs[2 * k + 1] * m[1][i];
      const double fading = 1 - (std::hypot(f[0], f[1]) - bandwidth) / (rate / 2 - bandwidth);
      const double px = (column + 0.5 - size.w / 2.0) / rate, py = (row + 0.5 - size.h / 2.0) / rate;
      y[size.at(n, row, column, k)] = std::clamp(fading, 0.0, 1.0) *
                                      std::sin(2 * 3.14159265358979323846 * (f[0] * px + f[1] * py + phases[k] + f[2]));
    });
    const std::string what = "Fourier features of " + std::to_string(size.h) + " x " + std::to_string(size.w);
    inAllOrders(what, [&](bool checks) {
      const Floats ts(t), ofFreqs(freqs), ofPhases(phases), transform(user), to(size.count());
      fourierFeatures({size.n, size.channels, size.h, size.w, ts, ofFreqs, ofPhases, transform, rate, bandwidth, to},
                      nullptr);
      if (checks) near(what, to.read(), y, kNumber, 1e-4);  // phases of some ten turns
      return to.bytes();
    });
  }
}

void testModulation(Number number) {
  struct Case {
    int n, in, out, window;
    bool isDemodulated;
  };
  for (const Case& shape : {Case{1, 1, 1, 1, true},
                            {3, 37, 19, 9, true},
                            {2, 300, 70, 1, true},
                            {1, 520, 9, 9, true},
                            {2, 19, 3, 9, false}}) {
    const bool isHalf = number != Number::fp32;
    const int in = paddedChannels(shape.in), out = paddedChannels(shape.out);
    const float eps = 1e-3f;
    const Numbers style = image(kNumber, shape.n, shape.in, shape.in), gain = {1.5};
    Numbers weight = image(kNumber, size_t{1} * out * shape.window, in, shape.in);
    std::fill(weight.begin() + size_t{1} * shape.out * shape.window * in, weight.end(), 0.0);
    const Size size{shape.n, 3, 2, shape.in};
    const Numbers x = size.drawn(), small = size.drawn(number);
    Numbers scales(size_t{1} * shape.n * in), factors(size_t{1} * shape.n * out), rounded = weight;
    const double fan = shape.in * shape.window;
    for (int n = 0; n < shape.n; ++n) {
      double squares = 0;
      for (int k = 0; k < shape.in; ++k) squares += std::pow(style[size_t{1} * n * shape.in + k], 2) / shape.in;
      const double norm = shape.isDemodulated ? std::sqrt(squares) : 1;
      for (int k = 0; k < shape.in; ++k) scales[size_t{1} * n * in + k] = style[size_t{1} * n * shape.in + k] / norm;
      for (int o = 0; o < shape.out; ++o) {
        double own = 0, modulated = 0;
        for (int i = 0; i < shape.window * in; ++i) {
          const double w = weight[size_t{1} * o * shape.window * in + i], s = scales[size_t{1} * n * in + i % in];
          own += w * w / fan, modulated += w * w * s * s;
        }
        const double norm = isHalf ? std::sqrt(fan) : 1 / std::sqrt(own);
        factors[size_t{1} * n * out + o] =
            gain[0] * (shape.isDemodulated ? norm / std::sqrt(modulated / own + eps) : 1);
        for (int i = 0; i < shape.window * in && shape.isDemodulated; ++i) {
          const size_t at = size_t{1} * o * shape.window * in + i;
          rounded[at] = weight[at] / std::sqrt(own * fan);
        }
      }
    }
    const auto scaled = [&](Numbers values) {
      size.each([&](int n, int row, int column, int k) {
        values[size.at(n, row, column, k)] *= scales[size_t{1} * n * in + k];
      });
      return values;
    };
    const std::string what = "modulation of " + std::to_string(shape.in) + " to " + std::to_string(shape.out);
    inAllOrders(what, [&](bool checks) {
      const Floats styles(style), weights(weight), gains(gain), toScales(scales.size()), toFactors(factors.size());
      // In place, and from fp32 to the number type.
      const Tensor images(number, small), from(kNumber, x), to(number, x.size()), toRounded(number, weight.size());
      const Modulation args{
          shape.n, shape.in, shape.out, shape.window, shape.isDemodulated, eps,
          styles,  weights,  gains,     toScales,     toFactors,           isHalf ? toRounded.data() : nullptr};
      const Floats scratch(modulationScratch(args));
      modulation(args, scratch, nullptr);
      scaleChannels({number, images}, toScales, size.n, size_t{6}, in, {number, images}, nullptr);
      scaleChannels({kNumber, from}, toScales, size.n, size_t{6}, in, {number, to}, nullptr);
      if (checks) {
        nearMost(what + " scales", toScales, scales);
        nearMost(what + " factors", toFactors, factors);
        nearMost(what + " image", images, scaled(small), number);
        nearMost(what + " image of fp32", to, scaled(x), number);
        if (isHalf) nearMost(what + " weights", toRounded, rounded, number);
      }
      std::vector<char> all = toScales.bytes();
      append(all, toFactors), append(all, images), append(all, to);
      if (isHalf) append(all, toRounded);
      return all;
    });
  }
}

struct Filters {
  Size in;
  int up, down, upTaps, downTaps, padLow, padHigh;
  bool isRadial;
};

/** By its definition: zeros between, filter, leaky ReLU, filter, every down-th. */
Numbers filtered(const Filters& f, const Size& out, const FilteredRelu& a, const Numbers& x, const Numbers& bias,
                 const Numbers& upFilter, const Numbers& downFilter) {
  Numbers y(out.count());
  const int between = (std::max(out.h, out.w) - 1) * f.down + f.downTaps;
  const auto source = [&](int at, int edge) {
    const int from = at - f.padLow;
    return from >= 0 && from % f.up == 0 && from / f.up < edge ? from / f.up : -1;
  };
  const auto tapDown = [&](int k, int l) {
    return f.isRadial ? downFilter[k * f.downTaps + l] : downFilter[k] * downFilter[l];
  };
  for (int n = 0; n < out.n; ++n) {
    for (int c = 0; c < out.channels; ++c) {
      Numbers u(static_cast<size_t>(between) * between);
      for (int i = 0; i < (out.h - 1) * f.down + f.downTaps; ++i) {
        for (int j = 0; j < (out.w - 1) * f.down + f.downTaps; ++j) {
          double sum = 0;
          for (int k = 0; k < f.upTaps; ++k) {
            const int row = source(i + f.upTaps - 1 - k, f.in.h);
            for (int l = 0; l < f.upTaps && row >= 0; ++l) {
              const int column = source(j + f.upTaps - 1 - l, f.in.w);
              if (column >= 0) sum += upFilter[k] * upFilter[l] * (x[f.in.at(n, row, column, c)] + bias[c]);
            }
          }
          sum *= f.up * f.up;
          u[static_cast<size_t>(i) * between + j] =
              std::clamp((sum > 0 ? sum : a.slope * sum) * a.gain, double{-a.clamp}, double{a.clamp});
        }
      }
      for (int i = 0; i < out.h; ++i)
        for (int j = 0; j < out.w; ++j)
          for (int k = 0; k < f.downTaps; ++k)
            for (int l = 0; l < f.downTaps; ++l)
              y[out.at(n, i, j, c)] +=
                  tapDown(k, l) *
                  u[static_cast<size_t>(i * f.down + f.downTaps - 1 - k) * between + j * f.down + f.downTaps - 1 - l];
    }
  }
  return y;
}

void testFiltered(Number number) {
  for (const Filters& f : {Filters{{1, 20, 19, 3}, 2, 2, 12, 12, 9, 8, false},
                           {{2, 9, 8, 19}, 2, 2, 12, 12, 11, 10, true},
                           {{1, 21, 14, 8}, 4, 2, 24, 12, -6, -9, false},
                           {{1, 12, 21, 5}, 4, 2, 24, 12, -2, -5, true},
                           {{2, 7, 5, 3}, 1, 1, 1, 1, 0, 0, false},
                           {{1, 9, 40, 8}, 3, 2, 7, 5, -3, 4, false},
                           {{1, 5, 4, 1}, 4, 4, 5, 3, 4, -2, true}}) {
    const auto edge = [&](int in) {
      return (in * f.up + f.padLow + f.padHigh - (f.upTaps - 1) - (f.downTaps - 1) - 1) / f.down + 1;
    };
    const Size out{f.in.n, edge(f.in.h), edge(f.in.w), f.in.channels};
    const Numbers x = f.in.drawn(number), bias = vectorOf(f.in.c(), f.in.channels);
    const int downCount = f.isRadial ? f.downTaps * f.downTaps : f.downTaps;
    Numbers upFilter = vectorOf(f.upTaps, f.upTaps), downFilter = vectorOf(downCount, downCount);
    if (f.upTaps == 1) upFilter = downFilter = {1};
    FilteredRelu args{f.in.n, f.in.c(), f.in.h,     f.in.w,   out.h,      out.w,   f.up,
                      f.down, f.upTaps, f.downTaps, f.padLow, f.isRadial, 0.2f,    1.5f,
                      20,     number,   nullptr,    nullptr,  nullptr,    nullptr, nullptr};
    const Numbers want = filtered(f, out, args, x, bias, upFilter, downFilter);
    const std::string what =
        "filtered relu of " + std::to_string(f.up) + " and " + std::to_string(f.down) + (f.isRadial ? ", radial" : "");
    inAllOrders(what, [&](bool checks) {
      const Tensor from(number, x), to(number, out.count());
      const Floats biases(bias), ups(upFilter), downs(downFilter);
      args.x = from, args.bias = biases, args.y = to;
      args.upFilter = f.upTaps > 1 ? ups : static_cast<const float*>(nullptr);
      args.downFilter = f.downTaps > 1 ? downs : static_cast<const float*>(nullptr);
      filteredRelu(args, nullptr);
      if (checks) nearMost(what, to, want, number);
      return to.bytes();
    });
  }
}

int run(const std::string& only) {
  const int ofFloats = runParts(
      only,
      {{"resample", testResample}, {"pixelNorm", testPixelNorm}, {"epilogue", testEpilogue}, {"fourier", testFourier}},
      {kNumber});
  const int ofBoth =
      runParts(only, {{"modulation", testModulation}, {"filtered", testFiltered}}, {Number::fp32, Number::fp16});
  return ofFloats || ofBoth;
}

}  // namespace
}  // namespace comface::cuda

int main(int argc, char** argv) { return comface::cuda::runPart(argc, argv, comface::cuda::run); }
