// The absolute checks of the native door; see records.h. Every range stands here, and only here.
#include "records.h"

#include <charconv>
#include <cmath>

namespace comface {
namespace {

const char* const kOpNames[kOpCount] = {"input",        "conv",          "batchNorm",       "relu",
                                        "add",          "maxPool",       "avgPool",         "linear",
                                        "rows",         "l2Normalize",   "reluDifference",  "infoNce",
                                        "squaredError", "tokens",        "layerNorm",       "gelu",
                                        "attention",    "token",         "flatten",         "efficientAttention",
                                        "pixelNorm",    "constant",      "upsample",        "convTranspose",
                                        "blur",         "styleEpilogue", "fourierFeatures", "modulatedConv",
                                        "filteredRelu"};
const char* const kSlotNames[kSlotCount] = {"parameter", "gradient", "firstMoment",   "secondMoment",
                                            "statistic", "value",    "valueGradient", "lossScale"};
const char* const kPrecisions[] = {"fp32", "bf16", "fp64", "fp16"};

template <size_t N>
int indexOf(const std::string& name, const std::string& what, const char* const (&names)[N]) {
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<int>(i);
  }
  refuse(what, "a known name, not \"" + name.substr(0, 80) + "\",");
}

}  // namespace

void refuse(const std::string& name, const std::string& rule) {
  throw Error(Code::invalidInput, "Expected " + rule + " for `" + name + "`.");
}

double checkNumber(double number, const std::string& name, double low, double high) {
  if (!(number >= low && number <= high)) {
    refuse(name, "a number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return number;
}
int checkInteger(double number, const std::string& name, int low, int high) {
  checkNumber(number, name, low, high);
  if (number != std::floor(number)) refuse(name, "a whole number");
  return static_cast<int>(number);
}

AugmentSettings settingsFrom(const Record& record) {
  const auto number = [&](const char* name) {
    return static_cast<float>(checkNumber(record.number(name), name, 0, 100));
  };
  AugmentSettings s;
  s.cropAreaMin = number("cropAreaMin"), s.cropAreaMax = number("cropAreaMax");
  s.cropAspectMax = number("cropAspectMax"), s.flipProbability = number("flipProbability");
  s.jitterProbability = number("jitterProbability"), s.grayscaleProbability = number("grayscaleProbability");
  s.brightness = number("brightness"), s.contrast = number("contrast");
  s.saturation = number("saturation"), s.hue = number("hue");
  for (uint32_t c = 0; c < 3; ++c) {
    s.mean[c] = static_cast<float>(checkNumber(record.number("mean", c), "mean", -10, 10));
    s.deviation[c] = static_cast<float>(checkNumber(record.number("deviation", c), "deviation", 1e-3, 1e3));
  }
  return s;
}

Plan planFrom(const Record& record, const AugmentSettings& settings) {
  Plan plan;
  plan.seed = record.seed();
  plan.step = static_cast<uint32_t>(checkNumber(record.number("step"), "step", 0, 4294967295.0));
  plan.pairs = checkInteger(record.number("pairs"), "pairs", 1, 1 << 20);
  if (record.has("views")) plan.views = checkInteger(record.number("views"), "views", 1, 3);
  plan.x = record.words("x"), plan.y = record.words("y");
  plan.target = record.floats("target");
  plan.settings = settings;
  return plan;
}

Adam adamFrom(const Record& record) {
  const auto number = [&](const char* name, double high) { return checkNumber(record.number(name), name, 0, high); };
  Adam a;
  a.learningRate = number("learningRate", 1e300);
  a.beta1 = number("beta1", 1), a.beta2 = number("beta2", 1);
  a.epsilon = number("epsilon", 1e300), a.weightDecay = number("weightDecay", 1e300);
  a.step = static_cast<int64_t>(checkNumber(record.number("step"), "step", 1, 9e15));
  return a;
}

ShardSet shardSetFrom(const Record& record) {
  ShardSet set;
  set.folder = record.string("folder");
  set.counts = record.words("counts");
  set.edge = checkInteger(record.number("size"), "size", 8, 65535);
  set.isRaw = record.truth("raw");
  const std::string id = record.string("id");
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), set.id, 16);
  if (id.size() != 16 || error != std::errc() || end != id.data() + id.size()) refuse("id", "16 hexadecimal digits");
  return set;
}

ImageSet imageSetFrom(const Record& record) {
  ImageSet set{};
  set.count = checkInteger(record.number("count"), "count", 1, 1 << 20);
  set.edge = checkInteger(record.number("edge"), "edge", 1, 1 << 14);
  set.size = checkInteger(record.number("size"), "size", 1, set.edge);
  set.quality = checkInteger(record.number("quality"), "quality", 0, 100);
  return set;
}

Slot slotFrom(const std::string& name) { return static_cast<Slot>(indexOf(name, "slot", kSlotNames)); }

Graph graphFrom(const Record& record, int& batch) {
  Graph graph;
  batch = checkInteger(record.number("batch"), "batch", 1, 1 << 20);
  graph.training = record.truth("training");
  graph.precision = static_cast<Precision>(indexOf(record.string("precision"), "precision", kPrecisions));
  graph.threads = checkInteger(record.number("threads"), "threads", 1, 1024);
  if (record.has("chunks")) graph.chunks = checkInteger(record.number("chunks"), "chunks", 1, 1 << 20);
  if (record.has("parts")) graph.parts = checkInteger(record.number("parts"), "parts", 1, 1 << 20);
  if (record.has("deterministic")) graph.deterministic = record.truth("deterministic");
  if (record.has("choices")) graph.choices = record.string("choices");
  return graph;
}

void addLayer(Graph& graph, const Record& record, int batch) {
  Layer l;
  l.name = record.string("name");
  l.op = static_cast<Op>(indexOf(record.string("op"), "op", kOpNames));
  const auto earlier = [&](const std::string& name) {
    const int at = graph.find(name);
    if (at >= 0) return at;
    throw Error(Code::invalidConfig, "Layer `" + l.name + "` reads `" + name + "`, which is not an earlier layer.");
  };
  const auto whole = [&](const char* name, int& field) {
    if (record.has(name)) field = checkInteger(record.number(name), l.name + "." + name, 0, 1 << 24);
  };
  const auto signedWhole = [&](const char* name, int& field) {
    if (record.has(name)) field = checkInteger(record.number(name), l.name + "." + name, -(1 << 24), 1 << 24);
  };
  const auto real = [&](const char* name, float& field) {
    if (record.has(name)) field = static_cast<float>(checkNumber(record.number(name), l.name + "." + name));
  };
  if (record.has("input")) l.inputs[0] = earlier(record.string("input"));
  if (record.has("inputs")) l.inputs = {earlier(record.string("inputs", 0)), earlier(record.string("inputs", 1))};
  if (l.op == Op::input) {
    l.shape = {batch, 0, 0, 0};
    whole("channels", l.shape.c), whole("height", l.shape.h), whole("width", l.shape.w);
  }
  whole("out", l.out), whole("kernel", l.kernel), whole("stride", l.stride), whole("pad", l.pad);
  if (l.op != Op::input) whole("height", l.height), whole("width", l.width);
  whole("up", l.up), whole("down", l.down), whole("upTaps", l.upTaps), whole("downTaps", l.downTaps);
  signedWhole("padLow", l.padLow), signedWhole("padHigh", l.padHigh);
  whole("from", l.from), whole("to", l.to), whole("of", l.of), whole("heads", l.heads), whole("position", l.position);
  if (isGenerator(l.op)) l.eps = 1e-8f;
  if (l.op == Op::styleEpilogue) l.slope = 0.2f;
  real("slope", l.slope), real("eps", l.eps), real("momentum", l.momentum);
  real("gain", l.gain), real("clamp", l.clamp), real("rate", l.rate), real("bandwidth", l.bandwidth);
  real("temperature", l.temperature), real("weight", l.weight);
  const auto flag = [&](const char* name) { return record.has(name) && record.truth(name); };
  l.bias = flag("bias"), l.classToken = flag("classToken"), l.positions = flag("positions"), l.quick = flag("quick"),
  l.ceil = flag("ceil"), l.demodulate = flag("demodulate"), l.radial = flag("radial"), l.half = flag("half");
  graph.layers.push_back(std::move(l));
}

Shots shotsFrom(const Record& record) {
  const auto subject = record.words("subject"), photo = record.words("photo");
  const auto attribute = record.integers("attribute");
  const auto frame = record.has("frame") ? record.integers("frame") : std::vector<int32_t>();
  const auto alpha = record.floats("alpha");
  const size_t count = subject.size(), changes = count == 0 ? 1 : attribute.size() / count;
  if (photo.size() != count || attribute.size() != alpha.size() || attribute.size() != count * changes) {
    refuse("shots", "lists of one length, attribute and alpha of that times the changes of a picture");
  }
  if (changes < 1 || changes > faces::kMostChanges) refuse("shots", "1 to 8 changes of a picture");
  if (!frame.empty() && frame.size() != count) refuse("frame", "one for each picture, or none");
  Shots shots{{}, checkInteger(record.number("size"), "size", 32, 512)};
  const uint64_t seed = record.seed();
  const int domain = checkInteger(record.number("domain"), "domain", 0, 1);
  for (size_t i = 0; i < count; ++i) {
    faces::Shot shot{seed, subject[i], photo[i], domain};
    for (size_t k = 0; k < changes; ++k) {
      const auto& [which, much] = shot.changes[k] = {attribute[i * changes + k], alpha[i * changes + k]};
      if (which < -1 || which >= faces::kAttributeCount) refuse("attribute", "an index from -1 to 42");
      if (!(much >= -5 && much <= 5)) refuse("alpha", "a number from -5 to 5");
    }
    if (!frame.empty()) shot.frame = frame[i];
    if (shot.frame < -1 || shot.frame >= 1 << 24) refuse("frame", "a number from -1 to 2^24 - 1");
    shots.list.push_back(shot);
  }
  return shots;
}

}  // namespace comface
