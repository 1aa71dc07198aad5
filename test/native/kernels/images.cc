// The kernels of layout.cu, elementwise.cu, bias.cu, norm.cu and pool.cu against plain loops in double, over shapes,
// number types and orders of threads and blocks, all of which must give the same bits. Fresh memory is not a number and
// ends at a guard page, so what is read before it is written, or beside a tensor, shows. Writes a line for each part:
//   images [<part>]   0 if all numbers are within their tolerance.
#include "images.h"

namespace comface::cuda {
namespace {

void testLayout(Number number) {
  struct Case {
    int n, c, h, w;
  };
  for (const auto [n, c, h, w] : {Case{1, 1, 1, 1},
                                  {2, 3, 17, 19},
                                  {1, 8, 16, 16},
                                  {3, 9, 5, 7},
                                  {2, 64, 9, 9},
                                  {1, 65, 8, 5},
                                  {2, 200, 3, 3},
                                  {5, 3, 40, 40}}) {
    const int padded = paddedChannels(c), hw = h * w;
    Numbers plain(static_cast<size_t>(n) * c * hw), packed(static_cast<size_t>(n) * hw * padded), back = plain;
    for (double& x : plain) x = static_cast<float>(normal());
    for (int i = 0; i < n; ++i) {
      for (int k = 0; k < c; ++k) {
        for (int p = 0; p < hw; ++p) {
          const size_t at = (static_cast<size_t>(i) * c + k) * hw + p;
          packed[(static_cast<size_t>(i) * hw + p) * padded + k] = back[at] = round(number, plain[at]);
        }
      }
    }
    const std::string what = std::string("layout ") + nameOf(number) + " c " + std::to_string(c);
    inAllOrders(what, [&](bool checks) {
      const Floats from(plain), to(plain.size()), converted(plain.size());
      const Tensor image(number, packed.size()), copy(number, plain.size());
      packImages(number, from, n, c, h, w, image, nullptr);
      unpackImages(number, image, n, c, h, w, to, nullptr);
      convert(number, from, plain.size(), copy, nullptr);
      if (checks) {
        near(what + " pack", image.read(), packed, Number::fp32, 0);
        near(what + " unpack", to.read(), back, Number::fp32, 0);
        near(what + " convert", copy.read(), back, Number::fp32, 0);
      }
      std::vector<char> all = image.bytes();
      append(all, to), append(all, copy);
      return all;
    });
  }
}

void testElementwise(Number number) {
  for (const size_t count : {size_t{1}, size_t{7}, size_t{8}, size_t{2048}, size_t{8191}, size_t{40003}}) {
    const float slope = count % 2 ? 0.25f : 0;
    Numbers a(count), b(count), rectified(count), sum(count), masked(count);
    for (size_t i = 0; i < count; ++i) {
      a[i] = i % 5 == 0 ? 0 : round(number, normal()), b[i] = round(number, normal());
      if (i % 7 == 3) a[i] = NAN;
      rectified[i] = a[i] < 0 ? round(number, slope * a[i]) : a[i];
      sum[i] = round(number, a[i] + b[i]);
      masked[i] = a[i] > 0 ? b[i] : round(number, slope * b[i]);
    }
    const std::string what = std::string("elementwise ") + nameOf(number) + " " + std::to_string(count);
    inAllOrders(what, [&](bool checks) {
      const Tensor x(number, a), y(number, b), one(number, count), two(number, count), inPlace(number, b);
      relu(number, slope, x, one, count, nullptr);
      add(number, x, y, two, count, nullptr);
      reluBackward(number, slope, x, inPlace, inPlace, count, nullptr);
      if (checks) {
        near(what + " relu", one.read(), rectified, Number::fp32, 0);
        near(what + " add", two.read(), sum, Number::fp32, 0);
        near(what + " relu backward", inPlace.read(), masked, Number::fp32, 0);
      }
      relu(number, slope, x, x, count, nullptr);
      add(number, y, one, y, count, nullptr);
      if (checks) near(what + " relu in place", x.read(), rectified, Number::fp32, 0);
      std::vector<char> all = one.bytes();
      append(all, two), append(all, inPlace), append(all, x), append(all, y);
      return all;
    });
  }
}

/** P(X <= x), and its derivative, of the standard normal distribution; quick: sigmoid(1.702 x). */
double shareOf(bool isQuick, double x) {
  return isQuick ? 1 / (1 + std::exp(-1.702 * x)) : std::erfc(-x / std::sqrt(2.0)) / 2;
}
double densityOf(bool isQuick, double x) {
  const double share = shareOf(true, x);
  return isQuick ? 1.702 * share * (1 - share) : std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846);
}

void testGelu(Number number) {
  for (const bool isQuick : {false, true}) {
    for (const size_t count : {size_t{1}, size_t{8}, size_t{8191}, size_t{20003}}) {
      Numbers x(count), dy(count), y(count), dx(count);
      for (size_t i = 0; i < count; ++i) {
        x[i] = round(number, i % 11 == 3 ? 0 : 4 * normal()), dy[i] = round(number, normal());
        if (i % 101 == 7) x[i] = i % 2 == 0 ? 60 : -60;
        if (i % 1009 == 8) x[i] = NAN;
        y[i] = x[i] * shareOf(isQuick, x[i]);
        dx[i] = dy[i] * (shareOf(isQuick, x[i]) + x[i] * densityOf(isQuick, x[i]));
      }
      const std::string what = std::string(isQuick ? "quick gelu " : "gelu ") + nameOf(number);
      inAllOrders(what, [&](bool checks) {
        const Tensor from(number, x), to(number, count), gradient(number, dy);
        gelu(number, isQuick, from, to, count, nullptr);
        geluBackward(number, isQuick, from, gradient, gradient, count, nullptr);
        if (checks) {
          near(what, to.read(), y, number, 3e-6);
          near(what + " backward", gradient.read(), dx, number, 6e-6);
        }
        std::vector<char> all = to.bytes();
        append(all, gradient);
        return all;
      });
    }
  }
}

void testBias(Number number) {
  for (const auto& [m, c] : {std::pair{1, 8}, {7, 24}, {300, 64}, {257, 264}, {5, 2056}, {20011, 64}}) {
    const Numbers x = image(number, m, c, c), bias = image(Number::fp32, 1, c, c);
    Numbers sums(c), shifted = x, room(c);
    for (size_t i = 0; i < x.size(); ++i) {
      sums[i % c] += x[i], room[i % c] += std::abs(x[i]);
      shifted[i] += bias[i % c];
    }
    for (double& r : room) r *= 1e-6;
    const std::string what =
        std::string("bias ") + nameOf(number) + " " + std::to_string(m) + " x " + std::to_string(c);
    inAllOrders(what, [&](bool checks) {
      const Tensor values(number, x);
      const Floats shift(bias), gradient(c), scratch(biasScratch(m, c));
      biasGradient(number, values, m, c, gradient, scratch, nullptr);
      addBias(number, values, shift, m, c, nullptr);
      if (checks) {
        near(what + " gradient", gradient.read(), sums, Number::fp32, room);
        near(what, values.read(), shifted, number, 1e-6);
      }
      std::vector<char> all = gradient.bytes();
      append(all, values);
      return all;
    });
  }
}

// ---- Pooling ----

void expectMaxPool(const Pool& p, const Numbers& x, const Numbers& dy, Numbers& y, Numbers& index, Numbers& dx) {
  const size_t count = static_cast<size_t>(p.n) * p.outH * p.outW * p.c;
  y.assign(count, 0), index.assign(count, 0), dx.assign(x.size(), 0);
  for (size_t at = 0; at < count; ++at) {
    const int c = static_cast<int>(at % p.c), j = static_cast<int>(at / p.c % p.outW);
    const int i = static_cast<int>(at / p.c / p.outW % p.outH), n = static_cast<int>(at / p.c / p.outW / p.outH);
    size_t best = 0;
    bool isFirst = true;
    for (int row = 0; row < p.kernel; ++row) {
      for (int column = 0; column < p.kernel; ++column) {
        const int h = i * p.stride - p.pad + row, w = j * p.stride - p.pad + column;
        if (h < 0 || w < 0 || h >= p.h || w >= p.w) continue;
        const size_t from = ((static_cast<size_t>(n) * p.h + h) * p.w + w) * p.c + c;
        if (!isFirst && !(x[from] > x[best]) && !std::isnan(x[from])) continue;
        best = from, isFirst = false, index[at] = row * p.kernel + column;
      }
    }
    y[at] = x[best], dx[best] += dy[at];
  }
}

void testMaxPool(Number number) {
  struct Case {
    int n, c, h, w, kernel, stride, pad;
  };
  for (const auto [n, c, h, w, kernel, stride, pad] : {Case{2, 8, 12, 12, 3, 2, 1},
                                                       {1, 64, 9, 11, 3, 2, 1},
                                                       {3, 24, 5, 5, 2, 2, 0},
                                                       {1, 72, 7, 6, 3, 1, 1},
                                                       {1, 16, 20, 21, 16, 3, 15},
                                                       {1, 8, 10, 10, 2, 3, 0},
                                                       {2, 8, 16, 30, 16, 8, 7},
                                                       {1, 128, 1, 1, 1, 1, 0}}) {
    const Pool pool{n,      c,      h,  w, (h + 2 * pad - kernel) / stride + 1, (w + 2 * pad - kernel) / stride + 1,
                    kernel, stride, pad};
    const size_t count = static_cast<size_t>(n) * pool.outH * pool.outW * c;
    Numbers values = image(number, static_cast<size_t>(n) * h * w, c, c), y, index, dx;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % 3 == 0) values[i] = 1;  // equals
      if (i % 50 == 7) values[i] = NAN;
      if (i % 16 < 2) values[i] = -INFINITY;
    }
    const Numbers dy = image(number, count / c, c, c);
    expectMaxPool(pool, values, dy, y, index, dx);
    const std::string what = std::string("max pool ") + nameOf(number) + " kernel " + std::to_string(kernel);
    inAllOrders(what, [&](bool checks) {
      const Tensor x(number, values), result(number, count), again(number, count), gradient(number, dy),
          back(number, values.size());
      uint8_t* winners;
      check(cudaMalloc(reinterpret_cast<void**>(&winners), count), "cudaMalloc");
      maxPool(number, pool, x, result, winners, nullptr);
      maxPool(number, pool, x, again, nullptr, nullptr);
      maxPoolBackward(number, pool, gradient, winners, back, nullptr);
      std::vector<char> all(count);
      check(cudaMemcpy(all.data(), winners, count, cudaMemcpyDeviceToHost), "cudaMemcpy");
      check(cudaFree(winners), "cudaFree");
      if (checks) {
        Numbers places(count);
        for (size_t i = 0; i < count; ++i) places[i] = static_cast<uint8_t>(all[i]);
        near(what + " y", result.read(), y, Number::fp32, 0);
        near(what + " index", places, index, Number::fp32, 0);
        near(what + " dx", back.read(), dx, number, 4e-6);
      }
      append(all, result), append(all, again), append(all, back);
      return all;
    });
  }
}

void testAveragePool(Number number) {
  struct Case {
    int n, c, hw;
  };
  for (const auto [n, c, hw] : {Case{1, 1, 1}, {3, 2048, 49}, {2, 13, 49}, {5, 8, 1000}, {2, 260, 3}}) {
    const int padded = paddedChannels(c);
    const Numbers values = image(number, static_cast<size_t>(n) * hw, padded, c);
    Numbers y(static_cast<size_t>(n) * c), dy = y, dx(values.size());
    for (double& x : dy) x = static_cast<float>(normal());
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t k = i % padded, row = i / padded / hw;
      if (k >= static_cast<size_t>(c)) continue;
      y[row * c + k] += values[i] / hw, dx[i] = dy[row * c + k] / hw;
    }
    const std::string what = std::string("average pool ") + nameOf(number) + " c " + std::to_string(c);
    inAllOrders(what, [&](bool checks) {
      const Tensor x(number, values), back(number, values.size());
      const Floats result(y.size()), gradient(dy);
      averagePool(number, x, n, c, hw, result, nullptr);
      averagePoolBackward(number, gradient, n, c, hw, back, nullptr);
      if (checks)
        near(what + " y", result.read(), y, Number::fp32, 2e-6), near(what + " dx", back.read(), dx, number, 1e-7);
      std::vector<char> all = result.bytes();
      append(all, back);
      return all;
    });
  }
}

int run(const std::string& only) {
  return runParts(only, {{"layout", testLayout},
                         {"elementwise", testElementwise},
                         {"gelu", testGelu},
                         {"bias", testBias},
                         {"norm", testNorm},
                         {"maxPool", testMaxPool},
                         {"averagePool", testAveragePool}});
}

}  // namespace
}  // namespace comface::cuda

int main(int argc, char** argv) { return comface::cuda::runPart(argc, argv, comface::cuda::run); }
