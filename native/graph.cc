// Checks layer records and derives shapes, parameter lists and the memory plan.
#include "graph.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

namespace comface {
namespace {

constexpr int kMostSize = 1 << 24;

[[noreturn]] void refuse(const Layer& layer, const std::string& rule) {
  throw Error(Code::invalidConfig, "Layer `" + layer.name + "`: " + rule + ".");
}

int windowed(const Layer& layer, int extent) {
  // In 64 bits: whoever calls the C border may ask for any padding.
  const int64_t room = extent + 2 * int64_t{layer.pad} - layer.kernel;
  int64_t out = room / layer.stride + 1;
  if (layer.op == Op::maxPool && layer.ceil && room % layer.stride != 0) {
    // As in PyTorch, a last window that would begin in the padding at the end is left out.
    out += out * layer.stride < extent + int64_t{layer.pad};
  }
  if (room < 0 || out > kMostSize) {
    refuse(layer,
           "a window of " + std::to_string(layer.kernel) + " does not fit an input of " + std::to_string(extent));
  }
  return static_cast<int>(out);
}

/** Of ConvTranspose2d. */
int transposed(const Layer& layer, int extent) {
  const int64_t out = (int64_t{extent} - 1) * layer.stride - 2 * int64_t{layer.pad} + layer.kernel;
  if (out < 1 || out > kMostSize) refuse(layer, "a result of " + std::to_string(out) + " pixels along an edge");
  return static_cast<int>(out);
}

/** Of filteredRelu: what is left of the image between its filters by the second one. */
int filtered(const Layer& layer, int extent) {
  const int64_t room = edgeBetween(layer, extent) - tapsDown(layer);
  if (room < 0 || room / layer.down >= kMostSize) {
    refuse(layer, "its filters do not fit an input of " + std::to_string(extent));
  }
  return static_cast<int>(room / layer.down + 1);
}

int enlarged(const Layer& layer, int extent) {
  return static_cast<int>(std::min<int64_t>(int64_t{extent} * layer.up, int64_t{kMostSize} + 1));
}

/** Product of sizes. No machine holds more than the limit, and below it no product of bytes overflows. */
size_t countOf(const Layer& layer, const std::vector<int>& sizes) {
  constexpr double kMost = 1ull << 40;
  double most = 1;
  for (const int size : sizes) most *= size;
  if (most > kMost) refuse(layer, "more than 2^40 numbers");
  return static_cast<size_t>(most);
}

/** Checks a result's sizes, the input's included. Loops count planes and the numbers of a plane in an int. */
void checkShape(const Layer& layer) {
  const Shape& s = layer.shape;
  for (const int size : {s.n, s.c, s.h, s.w}) {
    if (size < 1 || size > kMostSize) refuse(layer, "expected sizes from 1 to 2^24");
  }
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  if (int64_t{s.n} * s.c > kMost || int64_t{s.h} * s.w > kMost) refuse(layer, "more than 2^31 rows or pixels");
  countOf(layer, {s.n, s.c, s.h, s.w});
}

Shape resultShape(const Layer& layer, const Shape& in, const Shape* second) {
  switch (layer.op) {
    case Op::conv:
      return {in.n, layer.out, windowed(layer, in.h), windowed(layer, in.w)};
    case Op::maxPool:
      return {in.n, in.c, windowed(layer, in.h), windowed(layer, in.w)};
    case Op::avgPool:
      return {in.n, in.c, 1, 1};
    case Op::linear:
      return {in.n, layer.out, in.h, in.w};
    case Op::tokens:
      return {in.n, in.c, in.h * in.w + layer.classToken, 1};
    case Op::attention:
    case Op::efficientAttention:
      return {in.n, in.c / 3, in.h, in.w};
    case Op::flatten:
      return {in.n, static_cast<int>(std::min<int64_t>(int64_t{in.c} * in.h * in.w, int64_t{kMostSize} + 1)), 1, 1};
    case Op::token:
      return {in.n, in.c, 1, 1};
    case Op::constant:
    case Op::fourierFeatures:
      return {in.n, layer.out, layer.height, layer.width};
    case Op::upsample:
      return {in.n, in.c, enlarged(layer, in.h), enlarged(layer, in.w)};
    case Op::convTranspose:
      return {in.n, layer.out, transposed(layer, in.h), transposed(layer, in.w)};
    case Op::modulatedConv:
      return {in.n, layer.out, windowed(layer, in.h), windowed(layer, in.w)};
    case Op::filteredRelu:
      return {in.n, in.c, filtered(layer, in.h), filtered(layer, in.w)};
    case Op::rows: {
      const auto [first, last] = rowRange(layer, in.n);
      if (last <= first) refuse(layer, "no row of " + std::to_string(in.n) + " is left");
      return {last - first, in.c, 1, 1};
    }
    case Op::add:
    case Op::reluDifference:
      if (*second != in) refuse(layer, "its two inputs must have one shape");
      return in;
    case Op::infoNce:
    case Op::squaredError:
      return {1, 1, 1, 1};
    default:
      return in;
  }
}

void checkFilters(const Layer& layer) {
  constexpr int kMostFactor = 16, kMostTaps = 128;
  const auto within = [](int value, int low, int high) { return value >= low && value <= high; };
  if (!within(layer.up, 1, kMostFactor) || !within(layer.down, 1, kMostFactor)) {
    refuse(layer, "expected up and down from 1 to 16");
  }
  if (!within(layer.upTaps, 0, kMostTaps) || !within(layer.downTaps, 0, kMostTaps)) {
    refuse(layer, "expected filters of 0 to 128 taps");
  }
  if ((layer.up > 1 && layer.upTaps == 0) || (layer.down > 1 && layer.downTaps == 0)) {
    refuse(layer, "expected a filter where it changes the rate");
  }
  if (layer.radial && layer.downTaps == 0) refuse(layer, "expected downTaps of a radial filter");
  if (!within(layer.padLow, -kMostSize, kMostSize) || !within(layer.padHigh, -kMostSize, kMostSize)) {
    refuse(layer, "expected padLow and padHigh from -2^24 to 2^24");
  }
  if (!(std::isfinite(layer.gain) && layer.gain > 0 && std::isfinite(layer.clamp) && layer.clamp > 0)) {
    refuse(layer, "expected gain and clamp above 0");
  }
}

/** Of the generators' ops. @param second shape of the style, where there is one. */
void checkGenerator(const Layer& layer, const Shape& in, const Shape* second) {
  const auto isVector = [](const Shape& s) { return s.h == 1 && s.w == 1; };
  const bool makesImage = layer.op == Op::constant || layer.op == Op::fourierFeatures;
  if (makesImage && (layer.out < 1 || layer.height < 1 || layer.width < 1)) {
    refuse(layer, "expected out, height and width of at least 1");
  }
  if (layer.op == Op::fourierFeatures) {
    if (in.c != 4 || !isVector(in)) refuse(layer, "expected a vector of 4 numbers per sample as input");
    if (!(std::isfinite(layer.rate) && layer.bandwidth >= 0 && layer.rate > 2 * layer.bandwidth)) {
      refuse(layer, "expected a bandwidth of at least 0 and a rate above twice that");
    }
  }
  if (layer.op == Op::pixelNorm && !isVector(in)) refuse(layer, "expected a vector per sample as input");
  if (layer.op == Op::upsample && (layer.up < 1 || layer.up > kMostSize)) refuse(layer, "expected up >= 1");
  if (layer.op == Op::filteredRelu) checkFilters(layer);
  const bool isConv = layer.op == Op::convTranspose || layer.op == Op::modulatedConv;
  if (isConv && layer.out < 1) refuse(layer, "expected out >= 1");
  if (!isStyled(layer.op)) return;
  const int64_t width = layer.op == Op::styleEpilogue ? 2 * int64_t{in.c} : in.c;
  if (second->n != in.n || second->c != width || !isVector(*second)) {
    refuse(layer, "expected a style of " + std::to_string(width) + " numbers for each of " + std::to_string(in.n) +
                      " samples");
  }
}

void checkNumbers(const Layer& layer, const Shape& in) {
  const bool window =
      layer.op == Op::conv || layer.op == Op::maxPool || layer.op == Op::convTranspose || layer.op == Op::modulatedConv;
  if (window && (layer.kernel < 1 || layer.stride < 1 || layer.pad < 0 || layer.pad >= layer.kernel)) {
    refuse(layer, "expected kernel >= 1, stride >= 1 and 0 <= pad < kernel");
  }
  if (window && (layer.kernel > kMostSize || layer.stride > kMostSize)) refuse(layer, "expected sizes up to 2^24");
  if (hasWeights(layer.op) && layer.out < 1) refuse(layer, "expected out >= 1");
  if (layer.op == Op::rows && (layer.of < 1 || layer.from < 0 || layer.to <= layer.from || layer.to > layer.of)) {
    refuse(layer, "expected 0 <= from < to <= of");
  }
  if (layer.op == Op::infoNce && (in.n < 4 || in.n % 2 != 0)) {
    refuse(layer, "InfoNCE needs an even number of rows, at least 4, but has " + std::to_string(in.n));
  }
  if (layer.op == Op::infoNce && !(layer.temperature > 0)) refuse(layer, "expected temperature > 0");
  if (!(layer.eps > 0) || !(layer.momentum >= 0 && layer.momentum <= 1))
    refuse(layer, "expected eps > 0 and momentum from 0 to 1");
  if (!(std::isfinite(layer.weight) && layer.weight >= 0)) refuse(layer, "expected a weight of at least 0");
  if (!(std::isfinite(layer.slope) && layer.slope >= 0)) refuse(layer, "expected a slope of at least 0");
  if (layer.op == Op::squaredError && in.c != 1) refuse(layer, "expected one value per row");
  if (isAttention(layer.op) && (layer.heads < 1 || in.c % (3 * int64_t{layer.heads}) != 0)) {
    refuse(layer, "expected heads >= 1 and an input of 3 x heads x any number of channels, not " +
                      std::to_string(in.c) + " for " + std::to_string(layer.heads) + " heads");
  }
  if (layer.op == Op::efficientAttention) {
    const int size = in.c / 3 / layer.heads;
    countOf(layer, {in.n, layer.heads, size, size});  // the context of each head
  }
  const int64_t area = int64_t{in.h} * in.w;
  if (layer.op == Op::tokens && area >= kMostSize) refuse(layer, "expected fewer than 2^24 positions");
  if (layer.op == Op::token && (layer.position < 0 || layer.position >= area)) {
    refuse(layer, "expected a position from 0 to " + std::to_string(area - 1));
  }
  const bool needsVector =
      layer.op == Op::rows || layer.op == Op::l2Normalize || layer.op == Op::reluDifference || isLoss(layer.op);
  if (needsVector && (in.h != 1 || in.w != 1)) refuse(layer, "expected a vector per sample as input");
}

/** Only a modulated convolution reads numbers of another type than those it makes. */
void checkHalf(const Layer& layer, const Layer& in) {
  if (layer.half && !mayBeHalf(layer.op)) refuse(layer, "only modulatedConv and filteredRelu may be half");
  if (in.half && !layer.half) {
    refuse(layer, "its input `" + in.name + "` is half, which only modulatedConv and filteredRelu in half read");
  }
  if (layer.half && layer.op == Op::filteredRelu && !in.half) refuse(layer, "is half, but its input is not");
}

/** The tensors of a layer of the generators by name and sizes, in the order that backends find them in. */
std::vector<std::pair<const char*, std::vector<int>>> generatorTensors(const Layer& layer, const Shape& in) {
  const int kernel = layer.kernel;
  switch (layer.op) {
    case Op::constant:
      return {{".weight", {1, layer.out, layer.height, layer.width}}};
    case Op::convTranspose:
      return {{".weight", {in.c, layer.out, kernel, kernel}}};
    case Op::styleEpilogue:
      return {{".noise", {1, 1, in.h, in.w}}, {".noiseWeight", {in.c}}, {".bias", {in.c}}};
    case Op::fourierFeatures:
      return {{".freqs", {layer.out, 2}}, {".phases", {layer.out}}, {".transform", {3, 3}}};
    case Op::modulatedConv:
      return {{".weight", {layer.out, in.c, kernel, kernel}}, {".gain", {1}}};
    case Op::filteredRelu: {
      std::vector<std::pair<const char*, std::vector<int>>> tensors = {{".bias", {in.c}}};
      const int down = layer.downTaps;
      if (layer.upTaps > 0) tensors.push_back({".upFilter", {layer.upTaps}});
      if (down > 0) tensors.push_back({".downFilter", layer.radial ? std::vector{down, down} : std::vector{down}});
      return tensors;
    }
    default:
      return {};
  }
}

/** The tensors of layer `i`, whose input's shape and own shape are known. */
void addParameters(Graph& graph, int i) {
  const Layer& layer = graph.layers[i];
  const int channels = graph.layers[layer.inputs[0]].shape.c;
  const auto add = [&](std::vector<Parameter>& list, const std::string& name, std::vector<int> dims) {
    const size_t count = countOf(layer, dims);
    list.push_back({name, i, std::move(dims), count});
  };
  for (const auto& [name, dims] : generatorTensors(layer, graph.layers[layer.inputs[0]].shape)) {
    add(graph.parameters, layer.name + name, dims);
  }
  if (layer.op == Op::conv)
    add(graph.parameters, layer.name + ".weight", {layer.out, channels, layer.kernel, layer.kernel});
  if (layer.op == Op::linear) add(graph.parameters, layer.name + ".weight", {layer.out, channels});
  if (hasWeights(layer.op) && layer.bias) add(graph.parameters, layer.name + ".bias", {layer.out});
  if (isNorm(layer.op)) {
    add(graph.parameters, layer.name + ".weight", {channels});
    add(graph.parameters, layer.name + ".bias", {channels});
  }
  if (layer.op == Op::batchNorm) {
    add(graph.statistics, layer.name + ".running_mean", {channels});
    add(graph.statistics, layer.name + ".running_var", {channels});
  }
  if (layer.op == Op::tokens) {
    const std::string module = layer.name.substr(0, layer.name.rfind('.') + 1);
    for (const Parameter& p : graph.parameters) {
      if (p.name == module + "cls_token" || p.name == module + "pos_embed")
        refuse(layer, "its module has a class token or positions already");
    }
    if (layer.classToken) add(graph.parameters, module + "cls_token", {1, 1, channels});
    if (layer.positions) add(graph.parameters, module + "pos_embed", {1, layer.shape.h, channels});
  }
}

}  // namespace

int Graph::find(const std::string& name) const {
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

void Graph::finish() {
  if (layers.empty() || layers[0].op != Op::input) {
    throw Error(Code::invalidConfig, "The first layer record must be the input.");
  }
  checkShape(layers[0]);
  if (chunks < 1 || parts < 1 || layers[0].shape.n % (int64_t{chunks} * parts) != 0) {
    refuse(layers[0], "expected a batch that divides into " + std::to_string(parts) + " parts of " +
                          std::to_string(chunks) + " chunks");
  }
  layers[0].inputs = {-1, -1};
  if (layers[0].half) refuse(layers[0], "an input is not half");
  parameters.clear(), statistics.clear(), losses.clear();
  targetCount = 0;
  users.assign(layers.size(), {});
  std::set<std::string> names;
  for (int i = 0; i < static_cast<int>(layers.size()); ++i) {
    Layer& layer = layers[i];
    if (!names.insert(layer.name).second) refuse(layer, "the name is taken by another layer");
    if (i == 0) continue;
    if (static_cast<int>(layer.op) < 0 || static_cast<int>(layer.op) >= kOpCount) refuse(layer, "its op is not known");
    if (layer.op == Op::input) refuse(layer, "only the first layer may be an input");
    const bool two = readsTwo(layer.op);
    for (int k = 0; k < (two ? 2 : 1); ++k) {
      if (layer.inputs[k] < 0 || layer.inputs[k] >= i) refuse(layer, "its inputs must be earlier layers");
      if (isLoss(layers[layer.inputs[k]].op)) refuse(layer, "a loss has no result to read");
      users[layer.inputs[k]].push_back(i);
    }
    if (!two) layer.inputs[1] = -1;  // backends ask whether there is a second
    const Shape& in = layers[layer.inputs[0]].shape;
    const Shape* second = two ? &layers[layer.inputs[1]].shape : nullptr;
    if (layer.op == Op::modulatedConv) layer.stride = 1;
    if (layer.op == Op::linear)
      layer.kernel = layer.stride = 1, layer.pad = 0;  // a convolution, where it reads an image
    if (isGenerator(layer.op)) {
      if (training) refuse(layer, "is for inference only");
      if (precision == Precision::bf16) refuse(layer, "expected precision fp32 or fp16");
      checkGenerator(layer, in, second);
    }
    checkNumbers(layer, in);
    for (int k = 0; k < (two ? 2 : 1); ++k) checkHalf(layer, layers[layer.inputs[k]]);
    layer.shape = resultShape(layer, in, second);
    checkShape(layer);
    addParameters(*this, i);
    if (isLoss(layer.op)) losses.push_back(i);
    if (layer.op == Op::squaredError) {
      if (targetCount > 0 && targetCount != in.n)
        refuse(layer, "all squared errors share the targets, so they need one number of rows");
      targetCount = in.n;
    }
    if (layer.op == Op::batchNorm && training && static_cast<size_t>(in.n / chunks) * in.h * in.w < 2) {
      refuse(layer, "batch statistics need at least two values per channel");
    }
  }
  const auto generator = std::ranges::find_if(layers, [](const Layer& l) { return isGenerator(l.op); });
  for (const Layer& layer : layers) {
    if (generator != layers.end() && (layer.op == Op::rows || isLoss(layer.op))) {
      refuse(layer,
             "cannot be in a graph with layers of a generator, whose samples have nothing to do with each other");
    }
  }
  if (chunks > 1 && (!training || losses.empty())) refuse(layers[0], "chunks are for training with a loss");
}

size_t planArena(std::vector<Lifetime>& buffers, size_t alignment) {
  std::vector<Lifetime*> order;
  for (Lifetime& b : buffers) order.push_back(&b);
  // Largest first into the lowest gap: within a few percent of the lower bound for ResNets, and needs no search.
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->sizeBytes > b->sizeBytes; });
  std::vector<const Lifetime*> placed;  // by offset
  size_t total = 0;
  for (Lifetime* b : order) {
    size_t at = 0;
    for (const Lifetime* p : placed) {
      if (p->last < b->first || b->last < p->first) continue;
      if (at + b->sizeBytes <= p->offset) break;
      at = std::max(at, (p->offset + p->sizeBytes + alignment - 1) / alignment * alignment);
    }
    b->offset = at;
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), b, [](auto* x, auto* y) { return x->offset < y->offset; }), b);
    total = std::max(total, at + b->sizeBytes);
  }
  return (total + alignment - 1) / alignment * alignment;
}

}  // namespace comface
