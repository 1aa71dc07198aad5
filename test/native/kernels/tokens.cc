// tokens.cu, layernorm.cu, attention.cu and efficient.cu against plain loops in double; see images.cc.
//   tokens [<part>]   0 if all numbers are within their tolerance.
#include "images.h"

namespace comface::cuda {
namespace {

struct TokensCase {
  int n, c, area;
  bool hasClass, hasPositions;
};

/** What tokens() and its gradient should give; c: padded. */
struct ExpectedTokens {
  Numbers y, dx, dClassToken, dPositions;
  ExpectedTokens(const TokensCase& shape, int c, const Numbers& x, const Numbers& classToken, const Numbers& positions,
                 const Numbers& dy)
      : y(dy.size()), dx(x.size()), dClassToken(c), dPositions(positions.size()) {
    const int first = shape.hasClass, count = shape.area + first;
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t k = i % c, t = i / c % count, n = i / c / count;
      const size_t from = (n * shape.area + t - first) * c + k;
      const bool isClass = t == 0 && shape.hasClass;
      y[i] = isClass ? classToken[k] : x[from];
      if (shape.hasPositions) y[i] += positions[t * c + k], dPositions[t * c + k] += dy[i];
      if (isClass)
        dClassToken[k] += dy[i];
      else
        dx[from] = dy[i];
    }
  }
};

void testTokens(Number number) {
  for (const TokensCase& shape : {TokensCase{3, 19, 9, true, true},
                                  {2, 16, 6, true, false},
                                  {1, 8, 4, false, true},
                                  {2, 5, 4, false, false},
                                  {5, 768, 49, true, true}}) {
    const int c = paddedChannels(shape.c), count = shape.area + shape.hasClass;
    const auto tensor = [&](Number of, size_t rows) { return image(of, rows, c, shape.c); };
    const Numbers x = tensor(number, static_cast<size_t>(shape.n) * shape.area),
                  dy = tensor(number, static_cast<size_t>(shape.n) * count);
    const Numbers classToken = tensor(Number::fp32, 1), positions = tensor(Number::fp32, count);
    const ExpectedTokens want(shape, c, x, classToken, positions, dy);
    const std::string what = std::string("tokens ") + nameOf(number) + " c " + std::to_string(shape.c);
    inAllOrders(what, [&](bool checks) {
      const Tensor from(number, x), to(number, dy.size()), gradient(number, dy), back(number, x.size());
      const Floats ofClass(classToken), ofPositions(positions), dClass(c), dPositions(positions.size());
      Tokens args{shape.n, c, shape.hasClass, static_cast<size_t>(shape.area), nullptr, nullptr, nullptr, nullptr};
      if (shape.hasClass) args.classToken = ofClass, args.dClassToken = dClass;
      if (shape.hasPositions) args.positions = ofPositions, args.dPositions = dPositions;
      tokens(number, args, from, to, nullptr);
      tokensBackward(number, args, gradient, back, nullptr);
      if (checks) {
        near(what, to.read(), want.y, number, 1e-6);
        near(what + " dx", back.read(), want.dx, Number::fp32, 0);
        if (shape.hasClass) near(what + " class token", dClass.read(), want.dClassToken, Number::fp32, 2e-6);
        if (shape.hasPositions) near(what + " positions", dPositions.read(), want.dPositions, Number::fp32, 2e-6);
      }
      std::vector<char> all = to.bytes();
      append(all, back);
      if (shape.hasClass) append(all, dClass);
      if (shape.hasPositions) append(all, dPositions);
      if (shape.hasClass || shape.hasPositions) tokensBackward(number, args, gradient, nullptr, nullptr);
      return all;
    });
  }
}

void testToken(Number number) {
  struct Case {
    int n, c, area, position;
  };
  for (const auto [n, c, area, position] : {Case{1, 1, 1, 0}, {3, 21, 16, 5}, {2, 768, 50, 0}, {5, 8, 7, 6}}) {
    const int padded = paddedChannels(c);
    const Numbers x = image(number, static_cast<size_t>(n) * area, padded, c);
    Numbers y(static_cast<size_t>(n) * c), dy = y, dx(x.size());
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t at = (i / c * area + position) * padded + i % c;
      dy[i] = static_cast<float>(normal());
      y[i] = x[at], dx[at] = dy[i];
    }
    const std::string what = std::string("token ") + nameOf(number) + " c " + std::to_string(c);
    inAllOrders(what, [&](bool checks) {
      const Tensor from(number, x), back(number, x.size());
      const Floats to(y.size()), gradient(dy);
      token(number, from, n, c, area, position, to, nullptr);
      tokenBackward(number, gradient, n, c, area, position, back, nullptr);
      if (checks) near(what, to.read(), y, Number::fp32, 0), near(what + " dx", back.read(), dx, number, 0);
      std::vector<char> all = to.bytes();
      append(all, back);
      return all;
    });
  }
}

struct NormCase {
  size_t m;
  int channels;
  double mean;
};

/** Plain loops over rows; c: padded. room: of y and dx, what a float's digits allow. */
struct ExpectedNorm {
  Numbers y, dx, dGamma, dBeta, yRoom, dxRoom, sumRoom;
  ExpectedNorm(const NormCase& shape, int c, double eps, const Numbers& x, const Numbers& gamma, const Numbers& beta,
               const Numbers& dy)
      : y(x.size()), dx(x.size()), dGamma(c), dBeta(c), yRoom(x.size()), dxRoom(x.size()), sumRoom(c, 1e-6) {
    const int channels = shape.channels;
    for (size_t row = 0; row < shape.m; ++row) {
      const size_t at = row * c;
      double mean = 0, squares = 0, sum = 0, product = 0, most = 0;
      for (int k = 0; k < channels; ++k) mean += x[at + k] / channels;
      for (int k = 0; k < channels; ++k) squares += std::pow(x[at + k] - mean, 2) / channels;
      const double inverse = 1 / std::sqrt(squares + eps);
      const auto normalized = [&](int k) { return (x[at + k] - mean) * inverse; };
      for (int k = 0; k < channels; ++k) {
        const double slope = gamma[k] * dy[at + k];
        sum += slope / channels, product += slope * normalized(k) / channels;
        most = std::max(most, std::abs(slope));
      }
      // The mean, rounded, is off by parts of its own size.
      const double lost = 1e-6 + 2e-7 * std::abs(mean) * inverse;
      for (int k = 0; k < channels; ++k) {
        const double h = normalized(k);
        y[at + k] = gamma[k] * h + beta[k];
        dx[at + k] = inverse * (gamma[k] * dy[at + k] - sum - h * product);
        dGamma[k] += dy[at + k] * h, dBeta[k] += dy[at + k];
        yRoom[at + k] = (1 + std::abs(h)) * lost * (1 + std::abs(gamma[k]));
        dxRoom[at + k] = 4 * inverse * most * (1 + std::abs(h)) * lost;
        sumRoom[k] += std::abs(dy[at + k]) * (1 + std::abs(h)) * lost;
      }
    }
  }
};

void testLayerNorm(Number number) {
  constexpr double kEps = 1e-6f;
  for (const NormCase& shape : {NormCase{1, 1, 0},
                                {4, 3, 0},
                                {7, 21, 0},
                                {50, 64, 0},
                                {257, 40, 0},
                                {33, 768, 1},
                                {5, 1000, 0},
                                {3001, 16, 0},
                                {40, 300, number == Number::bf16 ? 2.0 : 50.0}}) {
    const int c = paddedChannels(shape.channels);
    const Numbers x = image(number, shape.m, c, shape.channels, shape.mean),
                  dy = image(number, shape.m, c, shape.channels);
    const Numbers gamma = image(Number::fp32, 1, c, shape.channels, 1, 0.3),
                  beta = image(Number::fp32, 1, c, shape.channels);
    const ExpectedNorm want(shape, c, kEps, x, gamma, beta, dy);
    const std::string what = std::string("layer norm ") + nameOf(number) + " " + std::to_string(shape.m) + " x " +
                             std::to_string(shape.channels);
    inAllOrders(what, [&](bool checks) {
      const Tensor from(number, x), to(number, x.size()), again(number, x.size()), gradient(number, dy);
      const Floats scale(gamma), shift(beta), dGamma(c), dBeta(c), means(shape.m), inverses(shape.m);
      const Floats scratch(layerNormScratch(shape.m, shape.channels));
      LayerNorm args{shape.m,  shape.channels,          from, to, scale, shift, dGamma, dBeta, means,
                     inverses, static_cast<float>(kEps)};
      layerNorm(number, args, nullptr);
      layerNormBackward(number, args, gradient, scratch, nullptr);
      args.y = again, args.dGamma = args.dBeta = args.means = args.inverses = nullptr;  // inference
      layerNorm(number, args, nullptr);
      if (again.bytes() != to.bytes()) ++failures, printf("%s: other numbers in inference\n", what.c_str());
      if (checks) {
        near(what, to.read(), want.y, number, want.yRoom);
        near(what + " dx", gradient.read(), want.dx, number, want.dxRoom);
        near(what + " dGamma", dGamma.read(), want.dGamma, Number::fp32, want.sumRoom);
        near(what + " dBeta", dBeta.read(), want.dBeta, Number::fp32, want.sumRoom);
      }
      std::vector<char> all = to.bytes();
      append(all, gradient), append(all, dGamma), append(all, dBeta);
      return all;
    });
  }
}

int run(const std::string& only) {
  return runParts(only, {{"tokens", testTokens},
                         {"token", testToken},
                         {"layerNorm", testLayerNorm},
                         {"attention", testAttention},
                         {"efficient", testEfficient}});
}

}  // namespace
}  // namespace comface::cuda

int main(int argc, char** argv) { return comface::cuda::runPart(argc, argv, comface::cuda::run); }
