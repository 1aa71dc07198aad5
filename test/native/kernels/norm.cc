// norm.cu against plain loops in double; see images.cc.
#include "images.h"

namespace comface::cuda {
namespace {

constexpr double kEps = 1e-5f, kMomentum = 0.1f;

/** A normalization's arrays and, in double, what they should hold. */
struct NormSetup {
  NormSetup(int c, int present)
      : gammas(c), betas(c), oldMean(c), oldVar(c), means(c), inverses(c), running(c), runningVars(c) {
    for (int k = 0; k < present; ++k) {
      gammas[k] = static_cast<float>(1 + 0.3 * normal()), betas[k] = static_cast<float>(0.3 * normal());
      oldMean[k] = static_cast<float>(normal()), oldVar[k] = static_cast<float>(0.5 + std::abs(normal()));
    }
    // Results that fp16 does not have: they are 0 there, and so is their gradient.
    if (present > 2) gammas[2] = 3e-8f, betas[2] = 0;
  }
  void expect(const Numbers& x, size_t m, int c) {
    for (int k = 0; k < c; ++k) {
      long double sum = 0, squares = 0;
      for (size_t i = 0; i < m; ++i) sum += x[i * c + k];
      const double mean = static_cast<double>(sum / m);
      for (size_t i = 0; i < m; ++i) squares += (x[i * c + k] - mean) * (x[i * c + k] - mean);
      const double variance = static_cast<double>(squares / m);
      means[k] = mean, inverses[k] = 1 / std::sqrt(variance + kEps);
      running[k] = (1 - kMomentum) * oldMean[k] + kMomentum * mean;
      runningVars[k] = (1 - kMomentum) * oldVar[k] + kMomentum * static_cast<double>(squares) / (m - 1.0);
    }
  }
  Numbers gammas, betas, oldMean, oldVar, means, inverses, running, runningVars;
};

struct NormOnDevice {
  NormOnDevice(const NormSetup& setup, int c)
      : gamma(setup.gammas),
        beta(setup.betas),
        dGamma(c),
        dBeta(c),
        runningMean(setup.oldMean),
        runningVar(setup.oldVar),
        mean(c),
        inverse(c),
        scale(c),
        shift(c) {}
  Norm norm() const {
    return {gamma,
            beta,
            dGamma,
            dBeta,
            runningMean,
            runningVar,
            mean,
            inverse,
            scale,
            shift,
            static_cast<float>(kEps),
            static_cast<float>(kMomentum)};
  }
  /** pivots: what the sums were taken about; whatever the mean is away from them costs digits of the variance. */
  void check(const std::string& what, const NormSetup& s, const Numbers& pivots) const {
    const Numbers means = mean.read(), inverses = inverse.read(), rm = runningMean.read(), rv = runningVar.read();
    for (size_t k = 0; k < means.size(); ++k) {
      const double deviation = 1 / s.inverses[k], size = std::abs(s.means[k]);
      const double lost = 1e-6 * (2 + std::pow((s.means[k] - pivots[k]) / deviation, 2));
      near(what + " mean", k, means[k], s.means[k], 1e-6 * deviation + 1.2e-7 * size);
      near(what + " inverse", k, inverses[k], s.inverses[k], lost * s.inverses[k]);
      near(what + " running mean", k, rm[k], s.running[k], 1e-6 * (deviation + size + std::abs(s.oldMean[k])));
      near(what + " running variance", k, rv[k], s.runningVars[k], 2 * lost * s.runningVars[k] + 1e-7 * s.oldVar[k]);
    }
  }
  void append(std::vector<char>& all) const {
    for (const Tensor* t : {&mean, &inverse, &scale, &shift, &runningMean, &runningVar, &dGamma, &dBeta})
      cuda::append(all, *t);
  }
  Floats gamma, beta, dGamma, dBeta, runningMean, runningVar, mean, inverse, scale, shift;
};

struct NormCase {
  size_t m;
  int c, present;
  double mean;
};

/** Statistics in their three ways. */
void testStatistics(Number number, const NormCase& shape) {
  const auto [m, c, present, mean] = shape;
  const std::string what = std::string("statistics ") + nameOf(number) + " " + std::to_string(m) + " x " +
                           std::to_string(c) + " about " + std::to_string(static_cast<int>(mean));
  const Numbers values = image(number, m, c, present, mean);
  NormSetup setup(c, present);
  setup.expect(values, m, c);
  inAllOrders(what, [&](bool checks) {
    const Tensor x(number, values);
    const Floats scratch(normScratch(m, c));
    const NormOnDevice one(setup, c), two(setup, c), three(setup, c);
    normStatistics(number, x, m, c, one.norm(), scratch, nullptr);
    if (checks) one.check(what, setup, Numbers(values.begin(), values.begin() + c));
    Numbers sum(c), squares(c);
    for (size_t i = 0; i < values.size(); ++i) sum[i % c] += values[i], squares[i % c] += values[i] * values[i];
    if (mean == 0) {  // a convolution's sums are about 0
      const Floats sums(sum), squareSums(squares);
      normFinish(sums, squareSums, m, c, two.norm(), nullptr);
      if (checks) two.check(what + " finish", setup, Numbers(c));
    }
    normInference(c, three.norm(), nullptr);
    if (checks) {
      const Numbers scale = three.scale.read(), shift = three.shift.read(), inverse = three.inverse.read();
      for (int k = 0; k < c; ++k) {
        const double r = 1 / std::sqrt(setup.oldVar[k] + kEps), s = setup.gammas[k] * r;
        near(what + " inference inverse", k, inverse[k], r, 2e-7 * r);
        near(what + " inference scale", k, scale[k], s, 3e-7 * std::abs(s));
        near(what + " inference shift", k, shift[k], setup.betas[k] - s * setup.oldMean[k], 3e-7 * (1 + std::abs(s)));
      }
    }
    std::vector<char> all;
    one.append(all);
    return all;
  });
}

struct BackwardCase {
  Residual kind;
  bool relu, second, isGiven;
};

struct Gradients {
  Numbers d, dx, dx2, dGamma, dBeta, dGamma2;
};

/** Plain loops. y is what the kernels stored: whether it is 0 is theirs to say. */
void expectThrough(const Numbers& x, const Numbers& d, const NormSetup& s, size_t m, int c, Numbers& dx,
                   Numbers& dGamma, Numbers& dBeta) {
  dx.resize(m * c), dGamma.assign(c, 0), dBeta.assign(c, 0);
  const auto h = [&](size_t i) { return (x[i] - s.means[i % c]) * s.inverses[i % c]; };
  for (size_t i = 0; i < m * c; ++i) dBeta[i % c] += d[i], dGamma[i % c] += d[i] * h(i);
  for (size_t i = 0; i < m * c; ++i) {
    const int k = static_cast<int>(i % c);
    dx[i] = s.gammas[k] * s.inverses[k] * (d[i] - dBeta[k] / m - h(i) * dGamma[k] / m);
  }
}

/** One case of apply and backward, from the same memory each time. */
class NormRun {
 public:
  NormRun(Number number, const NormCase& shape, const BackwardCase& kind)
      : number_(number), shape_(shape), case_(kind), setup_(shape.c, shape.present), setup2_(shape.c, shape.present) {
    const auto [m, c, present, mean] = shape;
    what_ = std::string("norm ") + nameOf(number) + " " + std::to_string(m) + " x " + std::to_string(c) + " kind " +
            std::to_string(static_cast<int>(kind.kind)) + (kind.relu ? " relu" : "") + (kind.second ? " second" : "") +
            (kind.isGiven ? " given sums" : "");
    x_ = image(number, m, c, present, mean), residual_ = image(number, m, c, present, 0.5);
    gradient_ = image(number, m, c, present), second_ = image(number, m, c, present);
    setup_.expect(x_, m, c), setup2_.expect(residual_, m, c);
  }

  void run() {
    inAllOrders(what_, [&](bool checks) { return runOnce(checks); });
  }

 private:
  std::vector<char> runOnce(bool checks) {
    const auto [m, c, present, mean] = shape_;
    const Residual kind = case_.kind;
    const Tensor x(number_, x_), residual(number_, residual_), y(number_, m * c);
    const NormOnDevice first(setup_, c), other(setup2_, c);
    const Floats scratch(normScratch(m, c));
    normStatistics(number_, x, m, c, first.norm(), scratch, nullptr);
    normStatistics(number_, residual, m, c, other.norm(), scratch, nullptr);
    const Norm a = first.norm(), b = other.norm();
    normApply(number_, {m, c, x, residual, y, a.scale, a.shift, b.scale, b.shift, kind, case_.relu}, nullptr);
    if (checks) checkApply(y.read());
    const Tensor own(number_, x_);  // inference may write over its input
    normApply(number_, {m, c, own, residual, own, a.scale, a.shift, b.scale, b.shift, kind, case_.relu}, nullptr);
    if (own.bytes() != y.bytes()) ++failures, printf("%s: other numbers in place\n", what_.c_str());

    const Gradients want = expectGradients(y.read());
    const bool isKept = kind == Residual::tensor, isNormalized = kind == Residual::normalized;
    const Tensor gradient(number_, case_.isGiven ? want.d : gradient_), second(number_, second_);
    const Tensor apart(number_, m * c), dx2(number_, m * c);
    Numbers products(c);
    for (size_t i = 0; i < m * c; ++i) products[i % c] += want.d[i] * x_[i];
    const Floats sums(want.dBeta), productSums(products);
    void* const dx = isKept ? apart : gradient;
    normBackward(number_,
                 {m, c, x, isNormalized ? residual.data() : nullptr, y, gradient,
                  case_.second && !case_.isGiven ? second.data() : nullptr, dx, isNormalized ? dx2.data() : nullptr, a,
                  b, kind, case_.relu && !case_.isGiven, case_.isGiven ? sums.data<float>() : nullptr,
                  case_.isGiven ? productSums.data<float>() : nullptr},
                 scratch, nullptr);
    if (checks) checkGradients(want, isKept ? apart : gradient, gradient, dx2, first, other);
    std::vector<char> all = y.bytes();
    append(all, gradient);
    if (isKept) append(all, apart);
    if (isNormalized) append(all, dx2);
    first.append(all);
    return all;
  }

  void checkApply(const Numbers& y) const {
    const auto [m, c, present, mean] = shape_;
    Numbers want(m * c);
    for (size_t i = 0; i < m * c; ++i) {
      const int k = static_cast<int>(i % c);
      want[i] = setup_.gammas[k] * ((x_[i] - setup_.means[k]) * setup_.inverses[k]) + setup_.betas[k];
      if (case_.kind == Residual::tensor) want[i] += residual_[i];
      if (case_.kind == Residual::normalized) {
        want[i] += setup2_.gammas[k] * ((residual_[i] - setup2_.means[k]) * setup2_.inverses[k]) + setup2_.betas[k];
      }
      if (case_.relu && want[i] < 0) want[i] = 0;
    }
    Numbers room(c, 1.5e-5);
    for (int k = 0; k < c; ++k) {
      for (const NormSetup* s : {&setup_, &setup2_}) {
        room[k] += 3e-7 * std::abs(s->gammas[k]) * s->inverses[k] * (1 + std::abs(s->means[k]));
      }
    }
    near(what_ + " y", y, want, number_, room);
    for (size_t i = 0; i < m * c; ++i) {
      if (static_cast<int>(i % c) >= present && y[i] != 0) ++failures, printf("%s: a padded channel\n", what_.c_str());
    }
  }

  Gradients expectGradients(const Numbers& y) const {
    const auto [m, c, present, mean] = shape_;
    Gradients want;
    want.d = gradient_;
    for (size_t i = 0; i < m * c; ++i) {
      if (case_.second) want.d[i] += second_[i];
      if (case_.relu && !(y[i] > 0)) want.d[i] = 0;
      if (case_.kind == Residual::tensor || case_.isGiven) want.d[i] = round(number_, want.d[i]);  // it is stored
    }
    Numbers dBeta2;
    expectThrough(x_, want.d, setup_, m, c, want.dx, want.dGamma, want.dBeta);
    expectThrough(residual_, want.d, setup2_, m, c, want.dx2, want.dGamma2, dBeta2);
    return want;
  }

  /** A sum of m numbers of about 1 is about sqrt(m), and each float on the way rounds by a few parts of 2^-24. */
  double sumRoom() const { return 3e-6 * (1 + std::sqrt(static_cast<double>(shape_.m))); }
  /** Of dx, or of dGamma: h has lost what the mean has when it was rounded, times 1 / deviation. */
  Numbers roomFor(const NormSetup& s, bool isDx) const {
    Numbers room(shape_.c);
    for (int k = 0; k < shape_.c; ++k) {
      const double r = s.inverses[k], far = 1 + 0.3 * r * (std::abs(s.means[k]) + 1);
      room[k] = isDx ? 6e-6 * far * std::abs(s.gammas[k]) * r : sumRoom() * far;
    }
    return room;
  }

  void checkGradients(const Gradients& want, const Tensor& dx, const Tensor& d, const Tensor& dx2,
                      const NormOnDevice& first, const NormOnDevice& other) const {
    const auto [m, c, present, mean] = shape_;
    near(what_ + " dx", dx.read(), want.dx, number_, roomFor(setup_, true));
    near(what_ + " dBeta", first.dBeta.read(), want.dBeta, Number::fp32, sumRoom());
    near(what_ + " dGamma", first.dGamma.read(), want.dGamma, Number::fp32, roomFor(setup_, false));
    if (case_.kind == Residual::tensor) near(what_ + " d", d.read(), want.d, Number::fp32, 0);
    if (case_.kind == Residual::normalized) {
      near(what_ + " dx2", dx2.read(), want.dx2, number_, roomFor(setup2_, true));
      near(what_ + " dGamma2", other.dGamma.read(), want.dGamma2, Number::fp32, roomFor(setup2_, false));
      near(what_ + " dBeta2", other.dBeta.read(), want.dBeta, Number::fp32, sumRoom());
    }
    const Numbers got = dx.read();
    for (size_t i = 0; i < m * c; ++i) {
      if (static_cast<int>(i % c) >= present && got[i] != 0) ++failures, printf("%s: padding's dx\n", what_.c_str());
    }
  }

  Number number_;
  NormCase shape_;
  BackwardCase case_;
  NormSetup setup_, setup2_;
  std::string what_;
  Numbers x_, residual_, gradient_, second_;
};

}  // namespace

void testNorm(Number number) {
  const std::vector<NormCase> shapes = {{2, 8, 8, 0},       {3, 8, 3, 0},       {7, 24, 24, 0},    {50, 64, 61, 0},
                                        {257, 40, 40, 0},   {2, 2048, 2048, 0}, {33, 256, 256, 1}, {65, 264, 264, 0},
                                        {5, 2056, 2056, 0}, {3001, 16, 16, 0}};
  for (const NormCase& shape : shapes) {
    testStatistics(number, shape);
    for (const Residual kind : {Residual::none, Residual::tensor, Residual::normalized}) {
      for (const int flags : {0, 1, 2, 3})
        NormRun(number, shape, {kind, (flags & 1) > 0, (flags & 2) > 0, false}).run();
      if (kind != Residual::normalized) NormRun(number, shape, {kind, true, false, true}).run();
    }
  }
  if (number != Number::bf16) {
    testStatistics(number, {777, 16, 16, number == Number::fp32 ? 10000.0 : 100.0});
    NormRun(number, {777, 16, 16, 20}, {Residual::none, true, false, false}).run();
    NormRun(number, {777, 16, 16, 20}, {Residual::none, true, false, true}).run();
  }
  testStatistics(number, {20011, 64, 64, 0});  // several blocks under each other, each with several goes
  NormRun(number, {20011, 64, 64, 0}, {Residual::normalized, true, true, false}).run();
}

}  // namespace comface::cuda
