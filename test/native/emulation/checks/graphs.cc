// See graphs.h.
#include "checks/graphs.h"

namespace comface::cuda::emulation {
namespace {

constexpr auto kFp32 = CUDNN_DATA_FLOAT;
/** See GraphCase. */
constexpr bool kOwn = true;
constexpr auto kMultiply = CUDNN_POINTWISE_MUL, kAdd = CUDNN_POINTWISE_ADD, kRelu = CUDNN_POINTWISE_RELU_FWD,
               kReluBackward = CUDNN_POINTWISE_RELU_BWD, kIdentity = CUDNN_POINTWISE_IDENTITY;

/** Sizes of a convolution: N C H W, K, filter, stride; padded so that stride 1 keeps the size. */
struct Sizes {
  int64_t n = 16, c = 64, h = 28, k = 64, size = 3, stride = 1;
  int64_t pad() const { return size / 2; }
  Builder::Dims x() const { return {n, c, h, h}; }
  Builder::Dims w() const { return {k, c, size, size}; }
  Builder::Dims y() const { return {n, k, (h - 1) / stride + 1, (h - 1) / stride + 1}; }
};

using Id = Builder::Id;
using Type = cudnnDataType_t;

Id forward(Builder& g, const Sizes& s, Id x, Type type, Type output, bool isVirtual) {
  const Id w = g.tensor(type, s.w()), y = g.tensor(output, s.y(), isVirtual);
  g.forward(x, w, y, s.pad(), s.stride);
  return y;
}

Id backwardData(Builder& g, const Sizes& s, Type type, Type output, bool isVirtual) {
  const Id dy = g.tensor(type, s.y()), w = g.tensor(type, s.w()), dx = g.tensor(output, s.x(), isVirtual);
  g.backwardData(dy, w, dx, s.pad(), s.stride);
  return dx;
}

Id backwardFilter(Builder& g, const Sizes& s, Id x, Type type, Type output, bool isVirtual) {
  const Id dy = g.tensor(type, s.y()), dw = g.tensor(output, s.w(), isVirtual);
  g.backwardFilter(x, dy, dw, s.pad(), s.stride);
  return dw;
}

auto single(Kind kind, const Sizes& s) {
  return [=](Builder& g, Type type) {
    if (kind == Kind::forward) forward(g, s, g.tensor(type, s.x()), type, type, false);
    if (kind == Kind::backwardData) backwardData(g, s, type, type, false);
    if (kind == Kind::backwardFilter) backwardFilter(g, s, g.tensor(type, s.x()), type, type, false);
  };
}

/** y in fp32 inside, out of it the tensor in `type` and the sums. */
void identityAndStatistics(Builder& g, Id y, Builder::Dims dims, Type type) {
  g.pointwise(kIdentity, y, 0, g.tensor(type, dims));
  const Id sums = g.channels(dims[1]), squares = g.channels(dims[1]);
  g.statistics(y, sums, squares);
}

auto withStatistics(const Sizes& s) {
  return [=](Builder& g, Type type) {
    identityAndStatistics(g, forward(g, s, g.tensor(type, s.x()), type, kFp32, true), s.y(), type);
  };
}

auto withStatisticsOfOutput(const Sizes& s) {
  return [=](Builder& g, Type type) {
    const Id y = forward(g, s, g.tensor(type, s.x()), type, type, false), sums = g.channels(s.k),
             squares = g.channels(s.k);
    g.statistics(y, sums, squares);
  };
}

auto withSums(const Sizes& s, bool hasSquares) {
  return [=](Builder& g, Type type) {
    const Id y = forward(g, s, g.tensor(type, s.x()), type, kFp32, true);
    g.pointwise(kIdentity, y, 0, g.tensor(type, s.y()));
    g.sum(y, g.channels(s.k));
    if (!hasSquares) return;
    const Id square = g.virtualTensor(kFp32, s.y());
    g.pointwise(kMultiply, y, y, square);
    g.sum(square, g.channels(s.k));
  };
}

/** relu(scale x + bias), all virtual but for the last if `isKept`. */
Id prologue(Builder& g, const Sizes& s, Type type, Type inner, bool isKept = false) {
  const Id x = g.tensor(type, s.x()), scaled = g.virtualTensor(kFp32, s.x()), shifted = g.virtualTensor(kFp32, s.x());
  g.pointwise(kMultiply, x, g.channels(s.c), scaled);
  g.pointwise(kAdd, scaled, g.channels(s.c), shifted);
  const Id result = g.tensor(inner, s.x(), !isKept);
  g.pointwise(kRelu, shifted, 0, result);
  return result;
}

void prologueOnly(Builder& g, Type type) { forward(g, {}, prologue(g, {}, type, type), type, type, false); }
void prologueFp32(Builder& g, Type type) { forward(g, {}, prologue(g, {}, type, kFp32), type, type, false); }
void prologueKept(Builder& g, Type type) { forward(g, {}, prologue(g, {}, type, type, true), type, type, false); }
void prologueIdentity(Builder& g, Type type) {
  const Sizes s;
  g.pointwise(kIdentity, forward(g, s, prologue(g, s, type, type), type, kFp32, true), 0, g.tensor(type, s.y()));
}
void prologueStatistics(Builder& g, Type type) {
  const Sizes s;
  identityAndStatistics(g, forward(g, s, prologue(g, s, type, type), type, kFp32, true), s.y(), type);
}
void prologueFilter(Builder& g, Type type) {
  const Sizes s;
  const Id dw = backwardFilter(g, s, prologue(g, s, type, type), type, kFp32, true);
  g.pointwise(kIdentity, dw, 0, g.tensor(kFp32, s.w()));
}

void biasRelu(Builder& g, Type type) {
  const Sizes s;
  const Id y = forward(g, s, g.tensor(type, s.x()), type, kFp32, true), shifted = g.virtualTensor(kFp32, s.y());
  g.pointwise(kAdd, y, g.channels(s.k), shifted);
  g.pointwise(kRelu, shifted, 0, g.tensor(type, s.y()));
}

void biasFirst(Builder& g, Type type) {
  const Sizes s;
  const Id y = forward(g, s, g.tensor(type, s.x()), type, kFp32, true);
  g.pointwise(kAdd, g.channels(s.k), y, g.tensor(type, s.y()));
}

void scaleBiasAddRelu(Builder& g, Type type) {
  const Sizes s;
  const Id y = forward(g, s, g.tensor(type, s.x()), type, kFp32, true), scaled = g.virtualTensor(kFp32, s.y()),
           shifted = g.virtualTensor(kFp32, s.y()), sum = g.virtualTensor(kFp32, s.y());
  g.pointwise(kMultiply, y, g.channels(s.k), scaled);
  g.pointwise(kAdd, scaled, g.channels(s.k), shifted);
  g.pointwise(kAdd, shifted, g.tensor(type, s.y()), sum);
  g.pointwise(kRelu, sum, 0, g.tensor(type, s.y()));
}

auto filterThroughIdentity(const Sizes& s, Type output) {
  return [=](Builder& g, Type type) {
    g.pointwise(kIdentity, backwardFilter(g, s, g.tensor(type, s.x()), type, kFp32, true), 0, g.tensor(output, s.w()));
  };
}

auto filterDirect(const Sizes& s) {
  return [=](Builder& g, Type type) { backwardFilter(g, s, g.tensor(type, s.x()), type, kFp32, false); };
}

auto dataThroughIdentity(const Sizes& s) {
  return [=](Builder& g, Type type) {
    g.pointwise(kIdentity, backwardData(g, s, type, kFp32, true), 0, g.tensor(type, s.x()));
  };
}

auto dataAdd(const Sizes& s) {
  return [=](Builder& g, Type type) {
    const Id dx = backwardData(g, s, type, kFp32, true), other = g.tensor(type, s.x());
    g.pointwise(kAdd, dx, other, g.tensor(type, s.x()));
  };
}

auto dataRelu(const Sizes& s) {
  return [=](Builder& g, Type type) {
    const Id dx = backwardData(g, s, type, kFp32, true), y = g.tensor(type, s.x());
    g.pointwise(kReluBackward, dx, y, g.tensor(type, s.x()));
  };
}

auto dataAddRelu(const Sizes& s) {
  return [=](Builder& g, Type type) {
    const Id dx = backwardData(g, s, type, kFp32, true), sum = g.virtualTensor(kFp32, s.x());
    g.pointwise(kAdd, dx, g.tensor(type, s.x()), sum);
    const Id y = g.tensor(type, s.x());
    g.pointwise(kReluBackward, sum, y, g.tensor(type, s.x()));
  };
}

/** dgrad [+ add] + ReLU backward + the 16-bit gradient d + sum(d) + sum(d x). */
auto dataReluSums(const Sizes& s, bool adds, bool hasProduct) {
  return [=](Builder& g, Type type) {
    Id dx = backwardData(g, s, type, kFp32, true);
    if (adds) {
      const Id sum = g.virtualTensor(kFp32, s.x());
      g.pointwise(kAdd, dx, g.tensor(type, s.x()), sum);
      dx = sum;
    }
    const Id d = g.virtualTensor(kFp32, s.x());
    g.pointwise(kReluBackward, dx, g.tensor(type, s.x()), d);
    g.pointwise(kIdentity, d, 0, g.tensor(type, s.x()));
    g.sum(d, g.channels(s.c));
    if (!hasProduct) return;
    const Id product = g.virtualTensor(kFp32, s.x());
    g.pointwise(kMultiply, d, g.tensor(type, s.x()), product);
    g.sum(product, g.channels(s.c));
  };
}

void statisticsAlone(Builder& g, Type type) {
  const Id x = g.tensor(type, Sizes{}.x()), sums = g.channels(64), squares = g.channels(64);
  g.statistics(x, sums, squares);
}

void productSum(Builder& g, Type type) {
  const Sizes s;
  const Id product = g.virtualTensor(kFp32, s.x()), a = g.tensor(type, s.x()), b = g.tensor(type, s.x());
  g.pointwise(kMultiply, a, b, product);
  g.sum(product, g.channels(s.c));
}

void twoPieces(Builder& g, Type type) {
  const Sizes s;
  single(Kind::forward, s)(g, type);
  g.pointwise(kRelu, g.tensor(type, s.x()), 0, g.tensor(type, s.x()));
}

void twoConvolutions(Builder& g, Type type) {
  const Sizes s;
  forward(g, s, forward(g, s, g.tensor(type, s.x()), type, type, true), type, type, false);
}

void scaled(Builder& g, Type type) {
  g.alpha = 0.5f;
  dataAdd({})(g, type);
}

auto aligned(int64_t alignment, std::function<void(Builder&, Type)> build) {
  return [=](Builder& g, Type type) {
    g.alignment = alignment;
    build(g, type);
  };
}

void channelsFirst(Builder& g, Type type) {
  g.isChannelsLast = false;
  dataAdd({})(g, type);
}

constexpr Sizes kStrided{.stride = 2}, kOne{.k = 256, .size = 1}, kOneStrided{.k = 256, .size = 1, .stride = 2},
    kStem{.c = 8, .h = 64, .size = 7, .stride = 2}, kThree{.c = 3, .h = 64, .size = 7, .stride = 2},
    kOdd{.c = 12, .k = 20}, kSmall{.n = 6, .c = 16, .h = 8, .k = 16}, kTiny{.n = 6, .c = 128, .h = 1, .k = 128};

}  // namespace

std::string summary(const Answer& answer) {
  if (answer.status != CUDNN_STATUS_SUCCESS) return "error " + std::to_string(answer.status);
  const auto newest = [](const std::string& families) {
    for (const char* const family : {"90", "80", "?"})
      if (families[0] != '!' && families.find(family) != std::string::npos) return family;
    return "";
  };
  const std::string best = newest(answer.best), fallback = newest(answer.fallback);
  return !best.empty() ? best : !fallback.empty() ? fallback + "F" : "-";
}

const std::vector<GraphCase>& graphCases() {
  static const std::vector<GraphCase> cases = {
      {"fprop 3x3", single(Kind::forward, {}), {"?", "?", "?", "?"}},
      {"fprop 3x3, stride 2", single(Kind::forward, kStrided), {"?", "?", "?", "?"}},
      {"fprop 1x1", single(Kind::forward, kOne), {"?", "?", "?", "?"}},
      {"fprop 7x7, 3 channels", single(Kind::forward, kThree), {"?", "?", "?", "?"}},
      {"fprop 7x7, 8 channels", single(Kind::forward, kStem), {"?", "?", "?", "?"}},
      {"fprop, 12 to 20 channels", single(Kind::forward, kOdd), {"?", "?", "?", "?"}},
      {"fprop, alignment 4", aligned(4, single(Kind::forward, {})), {"?F", "?F", "?", "?F"}},
      {"dgrad 3x3", single(Kind::backwardData, {}), {"?", "?", "?", "?"}},
      {"dgrad 3x3, stride 2", single(Kind::backwardData, kStrided), {"?", "?", "?", "?"}},
      {"dgrad 1x1, stride 2", single(Kind::backwardData, kOneStrided), {"?", "?", "?", "?"}},
      {"wgrad 3x3", single(Kind::backwardFilter, {}), {"?", "?", "?", "?"}},
      {"wgrad 3x3, stride 2", single(Kind::backwardFilter, kStrided), {"?", "?", "?", "?"}},
      {"wgrad 7x7, 8 channels", single(Kind::backwardFilter, kStem), {"?", "?", "?", "?"}},
      {"wgrad to fp32", filterDirect({}), {"90F", "90F", "?", "-"}},
      {"wgrad to fp32, 8 channels", filterDirect(kStem), {"90F", "90F", "?", "-"}},
      {"wgrad, identity to fp32", filterThroughIdentity({}, kFp32), {"90", "90", "90", "80"}},
      {"wgrad, identity to fp32, stride 2", filterThroughIdentity(kStrided, kFp32), {"90", "90", "90", "80"}},
      {"wgrad, identity to fp32, 1x1", filterThroughIdentity(kOne, kFp32), {"90", "90", "90", "80"}},
      {"wgrad, identity to fp32, 8 channels", filterThroughIdentity(kStem, kFp32), {"90", "90", "90", "80"}},
      {"wgrad, identity to fp32, 3 channels", filterThroughIdentity(kThree, kFp32), {"-", "-", "-", "-"}, kOwn},
      {"wgrad, identity to fp32, small", filterThroughIdentity(kSmall, kFp32), {"90", "90", "90", "80"}},
      {"wgrad, identity to fp32, 1 pixel", filterThroughIdentity(kTiny, kFp32), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics", withStatistics({}), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics, stride 2", withStatistics(kStrided), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics, 1x1", withStatistics(kOne), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics, 1x1, stride 2", withStatistics(kOneStrided), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics, 8 channels", withStatistics(kStem), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics, 12 to 20", withStatistics(kOdd), {"-", "-", "90", "-"}, kOwn},
      {"fprop, identity and statistics, small", withStatistics(kSmall), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics, 1 pixel", withStatistics(kTiny), {"90", "90", "90", "80"}},
      {"fprop, identity and statistics, alignment 4", aligned(4, withStatistics({})), {"-", "-", "-", "-"}, kOwn},
      {"fprop, statistics of the output", withStatisticsOfOutput({}), {"80", "?", "80", "80"}},
      {"fprop, one sum", withSums({}, false), {"90", "90", "90", "80"}},
      {"fprop, two sums", withSums({}, true), {"90", "90", "90", "80"}},
      {"scale, bias, ReLU, fprop", prologueOnly, {"80", "80", "80", "80"}},
      {"scale, bias, ReLU in fp32, fprop", prologueFp32, {"-", "-", "80", "-"}},
      {"scale, bias, ReLU kept, fprop", prologueKept, {"-", "-", "-", "-"}},
      {"scale, bias, ReLU, fprop, identity", prologueIdentity, {"90", "90", "90", "80"}},
      {"scale, bias, ReLU, fprop, statistics", prologueStatistics, {"90", "90", "90", "80"}},
      {"scale, bias, ReLU, wgrad", prologueFilter, {"-", "-", "-", "-"}},
      {"fprop, bias, ReLU", biasRelu, {"90", "90", "90", "80"}, kOwn},
      {"fprop, bias first", biasFirst, {"-", "-", "-", "-"}, kOwn},
      {"fprop, scale, bias, add, ReLU", scaleBiasAddRelu, {"90", "90", "90", "80"}},
      {"dgrad, identity", dataThroughIdentity({}), {"90", "90", "90", "80"}},
      {"dgrad, add", dataAdd({}), {"90", "90", "90", "80"}},
      {"dgrad, add, small", dataAdd(kSmall), {"90", "90", "90", "80"}},
      {"dgrad, ReLU backward", dataRelu({}), {"90", "90", "90", "80"}},
      {"dgrad, add, ReLU backward", dataAddRelu({}), {"90", "90", "90", "80"}},
      {"dgrad, add, ReLU backward, 1x1", dataAddRelu(kOne), {"90", "90", "90", "80"}},
      {"dgrad, ReLU backward, sum", dataReluSums({}, false, false), {"90", "90", "90", "80"}},
      {"dgrad, ReLU backward, sums", dataReluSums({}, false, true), {"90", "90", "90", "80"}},
      {"dgrad, ReLU backward, sums, 1x1", dataReluSums(kOne, false, true), {"90", "90", "90", "80"}},
      {"dgrad, add, ReLU backward, sums", dataReluSums({}, true, true), {"90", "90", "90", "80"}},
      {"dgrad, add, stride 2", dataAdd(kStrided), {"80", "80", "80", "80"}},
      {"dgrad, ReLU backward, stride 2", dataRelu(kStrided), {"80", "80", "80", "80"}},
      {"dgrad, ReLU backward, sums, stride 2", dataReluSums(kStrided, false, true), {"-", "-", "-", "-"}},
      {"dgrad, add, 1x1, stride 2", dataAdd(kOneStrided), {"80", "80", "80", "80"}},
      {"dgrad halved, add", scaled, {"-", "-", "-", "-"}},
      {"dgrad, add, channels first", channelsFirst, {"-", "-", "-", "-"}},
      {"statistics alone", statisticsAlone, {"-", "-", "-", "-"}},
      {"product, sum", productSum, {"80", "80", "80", "80"}},
      {"two pieces", twoPieces, {"-", "-", "-", "-"}, kOwn},
      {"two convolutions", twoConvolutions, {"-", "-", "-", "-"}},
  };
  return cases;
}

}  // namespace comface::cuda::emulation
