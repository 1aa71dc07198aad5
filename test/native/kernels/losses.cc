// infonce.cu, infonceplain.cu, change.cu, vectors.cu and adam.cu against plain loops in double, in several orders of
// threads and blocks. Usage: losses [infonce | change | vectors | adam].
#include <cstdint>
#include <limits>

#include "images.h"

namespace comface::cuda {
namespace {

/** A stream for everything: the emulation's default. */
constexpr cudaStream_t kStream = nullptr;

template <class T>
class Values {
 public:
  explicit Values(size_t count) : count_(count) { check(cudaMalloc(&data_, bytes()), "cudaMalloc"); }
  explicit Values(const std::vector<T>& values) : Values(values.size()) { write(values); }
  ~Values() { cudaFree(data_); }
  Values(const Values&) = delete;
  void write(const std::vector<T>& values) {
    check(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    check(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }
  operator T*() const { return static_cast<T*>(data_); }

 private:
  size_t bytes() const { return count_ * sizeof(T); }
  size_t count_;
  void* data_ = nullptr;
};

template <class T>
void appendValues(std::vector<char>& all, const Values<T>& values) {
  for (const T& value : values.read()) {
    const char* const raw = reinterpret_cast<const char*>(&value);
    all.insert(all.end(), raw, raw + sizeof(T));
  }
}

double dot(const double* a, const double* b, int size) {
  double sum = 0;
  for (int d = 0; d < size; ++d) sum += a[d] * b[d];
  return sum;
}

// ---- InfoNCE ----

enum class Rows : int32_t { random, equal, pairs, clusters, opposite, longRows };
constexpr const char* kRowNames[] = {"random", "equal", "near pairs", "clusters", "opposite", "long"};

struct InfoNceCase {
  int rows, width;
  float temperature;
  Rows kind;
  bool isNormalized = true;
};

/** Rows of length 1 as fp32 has them, but for Rows::longRows. */
Numbers drawRows(const InfoNceCase& c) {
  Numbers z(static_cast<size_t>(c.rows) * c.width);
  for (int row = 0; row < c.rows; ++row) {
    double* const to = &z[static_cast<size_t>(row) * c.width];
    const int model = c.kind == Rows::equal      ? 0
                      : c.kind == Rows::pairs    ? row % (c.rows / 2)
                      : c.kind == Rows::clusters ? row % 3
                                                 : row;
    const double noise = c.kind == Rows::equal || c.kind == Rows::opposite ? 0 : 0.05;
    if (model < row) {
      for (int d = 0; d < c.width; ++d) to[d] = z[static_cast<size_t>(model) * c.width + d] + noise * normal();
    } else {
      for (int d = 0; d < c.width; ++d) to[d] = c.kind == Rows::opposite ? (row % 2 == 0) - 0.5 : normal();
    }
    const double length = std::sqrt(dot(to, to, c.width));
    for (int d = 0; d < c.width; ++d)
      to[d] = round(Number::fp32, c.kind == Rows::longRows ? to[d] * 0.5 : to[d] / std::max(length, 1e-12));
  }
  return z;
}

struct Loss {
  double loss = 0;
  Numbers gradient;
};

/** ComFace eq. (1). */
Loss plainLoss(const Numbers& z, const InfoNceCase& c) {
  const double temperature = c.temperature;
  Numbers s(static_cast<size_t>(c.rows) * c.rows), logs(c.rows);
  Loss result = {0, Numbers(z.size())};
  for (int j = 0; j < c.rows; ++j) {
    double highest = -INFINITY, sum = 0;
    double* const own = &s[static_cast<size_t>(j) * c.rows];
    for (int k = 0; k < c.rows; ++k) {
      own[k] = dot(&z[static_cast<size_t>(j) * c.width], &z[static_cast<size_t>(k) * c.width], c.width) / temperature;
      if (k != j) highest = std::max(highest, own[k]);
    }
    for (int k = 0; k < c.rows; ++k) sum += k == j ? 0 : std::exp(own[k] - highest);
    logs[j] = highest + std::log(sum);
    result.loss += (logs[j] - own[(j + c.rows / 2) % c.rows]) / c.rows;
  }
  for (int j = 0; j < c.rows; ++j) {
    for (int k = 0; k < c.rows; ++k) {
      const double e = s[static_cast<size_t>(j) * c.rows + k];
      const double pull = std::exp(e - logs[j]) + std::exp(e - logs[k]) - (k == (j + c.rows / 2) % c.rows ? 2 : 0);
      for (int d = 0; k != j && d < c.width; ++d)
        result.gradient[static_cast<size_t>(j) * c.width + d] +=
            pull * z[static_cast<size_t>(k) * c.width + d] / (c.rows * temperature);
    }
  }
  return result;
}

/** The greatest errors of a way: of the loss over max(1, loss), and of all gradients over the pull of the positives. */
struct Errors {
  double loss = 0, gradient = 0;
};

constexpr float kFactor = 512;
/** What dz holds before: of a gradient's size, so that it takes no digits from it. */
double startOf(const InfoNceCase& c) { return round(Number::fp32, 0.1 * kFactor / (c.rows * c.temperature)); }

/** Nothing is left of a gradient where pull and push cancel, as with equal rows: it is one of these that has an error.
 */
void checkInfoNce(const std::string& what, const InfoNceCase& c, const Loss& want, double loss, const Numbers& gradient,
                  Errors& errors) {
  const double lossError = std::abs(loss - want.loss) / std::max(1.0, want.loss);
  double squares = 0, length = 0;
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double error = (gradient[i] - startOf(c)) / kFactor - want.gradient[i];
    squares += error * error;
  }
  for (const double z : drawRows({2, c.width, 1, c.kind})) length += z * z / 2;  // of longRows it is not 1
  const double pull = 2 * std::sqrt(length / c.rows) / c.temperature;
  errors.loss = std::max(errors.loss, lossError);
  errors.gradient = std::max(errors.gradient, std::sqrt(squares) / pull);
  near(what + " loss", 0, lossError, 0, 2e-6);
  near(what + " gradient", 0, std::sqrt(squares) / pull, 0, 2e-6);
}

void testInfoNce(const InfoNceCase& c, Errors& errors) {
  const std::string what = "InfoNCE of " + std::to_string(c.rows) + " x " + std::to_string(c.width) + " " +
                           kRowNames[static_cast<int>(c.kind)] + " at " + std::to_string(c.temperature);
  const Numbers z = drawRows(c);
  const Floats rows(z);
  const Values<float> factors(std::vector<float>{kFactor});
  const auto body = [&](bool isFirst) {
    const Floats saved(2 * static_cast<size_t>(c.rows)), dz(Numbers(z.size(), startOf(c)));
    const Values<char> scratch(infoNceScratch(c.rows, c.width));
    const Values<double> loss(1);
    const InfoNce args = {rows, c.rows, c.width, c.temperature, c.isNormalized, saved, static_cast<char*>(scratch)};
    infoNce(args, loss, kStream);
    infoNceBackward(args, factors, dz, kStream);
    if (isFirst) checkInfoNce(what, c, plainLoss(z, c), loss.read()[0], dz.read(), errors);
    std::vector<char> all;
    appendValues(all, loss), append(all, dz);
    return all;
  };
  c.kind == Rows::clusters&& c.rows < 200 ? inAllOrders(what, body) : static_cast<void>(body(true));
}

void testAllInfoNce() {
  Errors tensor, plain;
  for (const int rows : {4, 6, 34, 66, 128, 130, 258}) {
    for (const int width : {1, 24, 64, 128, 200}) {
      if (rows > 100 && width != 24 && width != 128) continue;
      const float temperature = rows % 4 == 0 ? 0.1f : width == 24 ? 0.05f : 0.5f;
      for (const Rows kind : {Rows::random, Rows::equal, Rows::pairs, Rows::clusters}) {
        if (rows > 200 && kind != Rows::equal) continue;
        testInfoNce({rows, width, temperature, kind}, width <= 128 ? tensor : plain);
        if (width <= 128) testInfoNce({rows, width, temperature, kind, false}, plain);
      }
    }
  }
  testInfoNce({514, 24, 0.1f, Rows::clusters}, tensor);
  testInfoNce({20, 40, 0.023f, Rows::opposite}, tensor);
  testInfoNce({20, 40, 0.01f, Rows::opposite}, plain);
  testInfoNce({66, 100, 0.01f, Rows::random}, plain);
  testInfoNce({66, 100, 1e4f, Rows::random}, tensor);
  testInfoNce({130, 50, 0.2f, Rows::longRows, false}, plain);
  printf("InfoNCE by tensor cores: loss %.1e, gradient %.1e; plain: loss %.1e, gradient %.1e\n", tensor.loss,
         tensor.gradient, plain.loss, plain.gradient);
}

/** Not a number anywhere comes out as not a number, never as a loss. */
void testNotFinite() {
  for (const bool isNormalized : {true, false}) {
    for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
      Numbers z = drawRows({130, 24, 1, Rows::random});
      z[129 * 24 + 23] = bad;
      const Floats rows(z), saved(260);
      const Values<char> scratch(infoNceScratch(130, 24));
      const Values<double> loss(1);
      infoNce({rows, 130, 24, 0.1f, isNormalized, saved, static_cast<char*>(scratch)}, loss, kStream);
      if (std::isfinite(loss.read()[0])) ++failures, printf("InfoNCE of what is not finite is finite\n");
    }
  }
}

// ---- the intra-personal loss ----

void testChange() {
  for (const int rows : {1, 2, 31, 256, 257, 3000}) {
    const std::string what = "squared error of " + std::to_string(rows);
    const Numbers x = image(Number::fp32, rows, 1, 1), targets = image(Number::fp32, rows, 1, 1);
    const Floats xs(x), ts(targets);
    const Values<float> factor(std::vector<float>{0.5f});
    inAllOrders(what, [&](bool isFirst) {
      const Floats errors(rows), dx(Numbers(rows, 1.0));
      const Values<double> loss(1);
      squaredError(xs, ts, rows, errors, loss, kStream);
      squaredErrorBackward(errors, rows, factor, dx, kStream);
      double want = 0;
      Numbers gradient(rows);
      for (int i = 0; i < rows; ++i) {
        want += (x[i] - targets[i]) * (x[i] - targets[i]) / rows;
        gradient[i] = 1 + (x[i] - targets[i]) / rows;
      }
      if (isFirst) near(what, 0, loss.read()[0], want, 2e-7 * want);
      if (isFirst) near(what + " gradient", dx.read(), gradient, Number::fp32, 1e-6);
      std::vector<char> all;
      appendValues(all, loss), append(all, errors), append(all, dx);
      return all;
    });
  }
}

// ---- vectors ----

/** `shift` floats from an address that is a multiple of 16: parts of a tensor begin anywhere. */
void testNumbers(int count, int shift) {
  const std::string what = "vectors of " + std::to_string(count) + " from " + std::to_string(shift);
  const float slope = count % 2 ? 0.25f : 0;
  const int size = count + shift;
  const Numbers a = image(Number::fp32, size, 1, 1), b = image(Number::fp32, size, 1, 1);
  const Floats as(a), bs(b);
  inAllOrders(what, [&](bool isFirst) {
    const Floats sum(b), gradient(b), difference(Numbers(size, 7.0));
    addTo(as + shift, count, sum + shift, kStream);
    reluBackwardTo(as + shift, bs + shift, count, slope, -1, gradient + shift, kStream);
    reluDifference(as + shift, bs + shift, count, difference + shift, kStream);
    Numbers sums = b, gradients = b, differences(size, 7.0);
    for (int i = shift; i < size; ++i) {
      sums[i] = a[i] + b[i];
      gradients[i] = b[i] - (a[i] > 0 ? b[i] : slope * b[i]);
      differences[i] = std::max(a[i] - b[i], 0.0);
    }
    if (isFirst) near(what + " sum", sum.read(), sums, Number::fp32, 0);
    if (isFirst) near(what + " relu", gradient.read(), gradients, Number::fp32, 0);
    if (isFirst) near(what + " difference", difference.read(), differences, Number::fp32, 0);
    std::vector<char> all;
    append(all, sum), append(all, gradient), append(all, difference);
    return all;
  });
}

struct Normalized {
  Numbers y, dx;
};

Normalized normalizedRows(const Numbers& x, const Numbers& dy, int rows, int width) {
  Normalized result = {Numbers(x.size()), Numbers(x.size())};
  for (int row = 0; row < rows; ++row) {
    const size_t first = static_cast<size_t>(row) * width;
    const double length = std::sqrt(dot(&x[first], &x[first], width)), divisor = std::max(length, 1e-12);
    const double along = length > 1e-12 ? dot(&x[first], &dy[first], width) / divisor : 0;
    for (size_t i = first; i < first + width; ++i) {
      result.y[i] = x[i] / divisor;
      result.dx[i] = 0.5 + (dy[i] - result.y[i] * along) / divisor;
    }
  }
  return result;
}

void testRows(int rows, int width) {
  const std::string what = "vectors of " + std::to_string(rows) + " x " + std::to_string(width);
  Numbers x = image(Number::fp32, static_cast<size_t>(rows) * width, 1, 1), sums(width);
  std::fill_n(x.end() - width, width, 0.0);  // a row without direction
  Numbers dy = image(Number::fp32, x.size(), 1, 1);
  std::fill_n(dy.end() - width, width, 1e-13);
  for (size_t i = 0; i < x.size(); ++i) sums[i % width] += x[i];
  const Normalized want = normalizedRows(x, dy, rows, width);
  const Floats xs(x), dys(dy);
  inAllOrders(what, [&](bool isFirst) {
    const Floats y(x.size()), lengths(rows), dx(Numbers(x.size(), 0.5)), columns(Numbers(width, 0.5));
    l2Normalize(xs, rows, width, y, lengths, kStream);
    l2NormalizeBackward(y, dys, lengths, rows, width, dx, kStream);
    columnSums(xs, rows, width, columns, kStream);
    if (isFirst) near(what + " normalized", y.read(), want.y, Number::fp32, 3e-7);
    if (isFirst && width > 1) near(what + " gradient", dx.read(), want.dx, Number::fp32, 2e-5);
    if (isFirst) near(what + " column sums", columns.read(), sums, Number::fp32, 6e-7 * std::sqrt(rows) + 1e-7);
    std::vector<char> all;
    append(all, y), append(all, dx), append(all, columns), append(all, lengths);
    return all;
  });
}

void testVectors() {
  for (const int count : {1, 3, 4, 7, 1023, 4096, 5001}) testNumbers(count, 0), testNumbers(count, 1);
  for (const int rows : {1, 8, 9, 70, 1000}) {
    for (const int width : {1, 5, 32, 33, 128, 300}) testRows(rows, width);
  }
}

// ---- Adam ----

struct AdamState {
  Numbers values, first, second;
};

StepNumbers stepNumbers(int step) {
  const double beta1 = 0.9f, beta2 = 0.999f;
  StepNumbers n = {1e-3f, 0.9f, 0.999f, 1e-8f, 1e-2f, 0, 0, 0, 0};
  n.fresh1 = static_cast<float>(1 - beta1), n.fresh2 = static_cast<float>(1 - beta2);
  n.correction1 = static_cast<float>(1 - std::pow(beta1, step));
  n.correction2 = static_cast<float>(1 - std::pow(beta2, step));
  return n;
}

/** torch.optim.Adam with weight_decay. */
void plainAdam(const Numbers& gradients, double scale, const StepNumbers& n, AdamState& state) {
  for (size_t i = 0; i < gradients.size(); ++i) {
    const double g = gradients[i] / scale + n.weightDecay * state.values[i];
    state.first[i] += n.fresh1 * (g - state.first[i]);
    state.second[i] = n.beta2 * state.second[i] + n.fresh2 * g * g;
    const double root = std::sqrt(state.second[i]) / std::sqrt(n.correction2);
    state.values[i] -= n.learningRate / n.correction1 * state.first[i] / (root + n.epsilon);
  }
}

/** Three steps; before the last, one that must not happen. fp16 halves the scale then, if it was the gradients. */
struct AdamRun {
  Number number;
  size_t count;
  float lossScale;

  std::vector<char> operator()(bool isFirst) const {
    const std::string what = std::string("Adam of ") + std::to_string(count) + " with " + nameOf(number);
    std::mt19937_64 draws(count);
    std::normal_distribution<double> distribution;
    const auto draw = [&](double size) {
      Numbers all(count);
      for (double& x : all) x = round(Number::fp32, size * distribution(draws));
      return all;
    };
    AdamState want = {draw(1), Numbers(count), Numbers(count)};
    const Floats values(want.values), first(want.first), second(want.second);
    Floats gradients(count);
    const Tensor copy(number, want.values);
    Values<StepNumbers> numbers(1);
    Values<StepFlags> flags(1);
    flags.write({{}});
    Values<LossScale> scale(1);
    scale.write({{lossScale, 0}});
    Values<double> losses(2);
    Floats weights({0.5, 2}), factors({0, 0});
    const Values<char> scratch(adamScratch(count));
    std::vector<char> all;
    const AdamArgs args = {values, first, second, gradients, count,   nullptr, numbers,
                           flags,  scale, 2,      losses,    weights, factors};
    for (int step = 1; step <= 4; ++step) {
      const bool isBad = step == 3;
      const float now = scale.read()[0].scale;
      Numbers g = draw(now);
      double squares = 0;
      for (const double x : g) squares += x * x;
      if (isBad && count % 8 == 0) g[count - 1] = count % 16 == 0 ? NAN : -INFINITY;
      gradients.write(g);
      losses.write({1.0, isBad && count % 8 != 0 ? std::numeric_limits<double>::quiet_NaN() : 2.0});
      numbers.write({stepNumbers(step)});
      AdamArgs own = args;
      if (number != Number::fp32) own.copy = copy;
      adam(number, own, static_cast<char*>(scratch), kStream);
      checkScale(what, isBad && count % 8 == 0, now, scale.read()[0].scale, factors.read());
      const StepFlags found = flags.read()[0];
      if (found.isFinite == isBad)
        ++failures, printf("%s: step %d was%s finite\n", what.c_str(), step, isBad ? "" : " not");
      const bool isLost = isBad && (number != Number::fp16 || count % 8 != 0);
      if ((found.isLost != 0) != isLost) ++failures, printf("%s: step %d lost: %d\n", what.c_str(), step, found.isLost);
      if (isLost) flags.write({{}});
      if (isBad) continue;
      near(what + " norm", step, found.norm, std::sqrt(squares) / now, 1e-12 * (1 + std::sqrt(squares)));
      plainAdam(g, now, stepNumbers(step), want);
      append(all, values), append(all, first), append(all, second), append(all, copy);
    }
    if (!isFirst) return all;
    near(what + " values", values.read(), want.values, Number::fp32, 2e-7);
    near(what + " first moments", first.read(), want.first, Number::fp32, 2e-7);
    near(what + " second moments", second.read(), want.second, Number::fp32, 2e-7);
    if (number != Number::fp32) {
      Numbers rounded = values.read();
      for (double& x : rounded) x = round(number, x);
      near(what + " copy", copy.read(), rounded, number, 0);
    }
    return all;
  }

  void checkScale(const std::string& what, bool overflowed, float before, float after, const Numbers& factors) const {
    const bool isScaled = number == Number::fp16;
    if (after != (isScaled && overflowed ? before / 2 : before))
      ++failures, printf("%s: scale %g\n", what.c_str(), after);
    if (isScaled && (factors[0] != 0.5 * after || factors[1] != 2 * after)) {
      ++failures, printf("%s: factors %g, %g at scale %g\n", what.c_str(), factors[0], factors[1], after);
    }
  }
};

void testAdam() {
  for (const size_t count : {size_t{4}, size_t{8}, size_t{1016}, size_t{4100}, size_t{40000}}) {
    for (const Number number : {Number::fp32, Number::bf16, Number::fp16}) {
      const AdamRun run = {number, count, number == Number::fp16 ? 1024.0f : 1.0f};
      inAllOrders("Adam", run);
    }
  }
}

int run(const std::string& part) {
  const auto test = [&](const char* name, const auto& body) {
    if (!part.empty() && part != name) return;
    worst = 0, compared = 0;
    body();
    printf("%s: %zu numbers compared, worst error %.2f of its tolerance\n", name, compared, worst);
  };
  test("infonce", [] { testAllInfoNce(), testNotFinite(); });
  test("change", testChange);
  test("vectors", testVectors);
  test("adam", testAdam);
  printf(failures > 0 ? "%d failures\n" : "passed\n", failures);
  return failures > 0;
}

}  // namespace
}  // namespace comface::cuda

int main(int argc, char** argv) { return comface::cuda::runPart(argc, argv, comface::cuda::run); }
