// Fuzzes the graph decoder: the door's layer records, and the records that cross the C border to a backend, whose
// integers may be anything. What is accepted must have sane shapes, and its buffers must find places that do not
// overlap.
#include "abi.h"
#include "bytes.h"

namespace comface::fuzz {
namespace {

Tally tally;

void checkShapes(const Graph& graph) {
  require(graph.users.size() == graph.layers.size(), "a list of users for each layer");
  for (size_t i = 0; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    const Shape& s = layer.shape;
    require(static_cast<int>(layer.op) >= 0 && static_cast<int>(layer.op) < kOpCount, "a known op");
    require(s.n > 0 && s.c > 0 && s.h > 0 && s.w > 0, "positive sizes");
    require(static_cast<double>(s.n) * s.c * s.h * s.w <= 1ull << 40 && s.count() >= 1, "at most 2^40 numbers");
    for (const int input : layer.inputs)
      require(input >= -1 && input < static_cast<int>(i), "inputs are earlier layers");
    require(i == 0 || layer.inputs[0] >= 0, "every layer but the first reads one");
    for (const int user : graph.users[i]) {
      require(user > static_cast<int>(i), "users come later");
      require(!layer.half || graph.layers[user].half, "half is read by half");
    }
    require(!layer.half || mayBeHalf(layer.op), "half is what may be");
  }
  for (const auto* list : {&graph.parameters, &graph.statistics}) {
    for (const Parameter& p : *list) {
      double count = 1;
      for (const int dim : p.dims) require(dim > 0, "positive dims"), count *= dim;
      require(count == static_cast<double>(p.count) && count <= 1ull << 40, "count is the product of dims");
    }
  }
}

/** The layers' results, each alive to its last user, and a few buffers of any lifetime. */
void checkArena(const Graph& graph, Bytes& bytes) {
  std::vector<Lifetime> buffers;
  for (size_t i = 0; i < graph.layers.size(); ++i) {
    const int last = graph.users[i].empty() ? 1 << 30 : graph.users[i].back();
    buffers.push_back({graph.layers[i].shape.count() * sizeof(float), static_cast<int>(i), last, 0});
  }
  for (int i = bytes.byte() % 8; i > 0; --i) {
    const int first = bytes.byte() % 16;
    buffers.push_back({bytes.byte() * 13u, first, first + bytes.byte() % 8, 0});
  }
  const size_t total = planArena(buffers);
  for (size_t i = 0; i < buffers.size(); ++i) {
    const Lifetime& a = buffers[i];
    require(a.offset % 64 == 0 && a.offset + a.sizeBytes <= total, "an aligned place in the arena");
    for (size_t k = 0; k < i; ++k) {
      const Lifetime& b = buffers[k];
      const bool together = a.first <= b.last && b.first <= a.last;
      const bool apart = a.offset + a.sizeBytes <= b.offset || b.offset + b.sizeBytes <= a.offset;
      require(!together || apart, "two buffers alive at once do not overlap");
    }
  }
}

Bytes* rest = nullptr;

/** Stands for a backend: what arrives there is checked as what left. */
std::unique_ptr<Program> compileNothing(const Graph& graph) {
  checkShapes(graph);
  checkArena(graph, *rest);
  ++tally.accepted;
  return nullptr;
}

void crossBorder(Bytes& bytes) {
  static const ComfaceBackend backend = exportBackend(compileNothing);
  static const char* const kNames[kMaxLayers] = {"a", "b", "c", "d", "e", "f", "g", "h",
                                                 "i", "j", "k", "l", "m", "n", "o", "a"};
  ComfaceLayer layers[kMaxLayers];
  int count = 0;
  const int32_t training = bytes.byte() % 2, precision = bytes.byte() % 2 == 0 ? bytes.byte() % 4 : bytes.integer();
  for (; !bytes.empty() && count < kMaxLayers; ++count) {
    ComfaceLayer& l = layers[count];
    const bool isFirst = count == 0;
    const int before = isFirst ? 1 : count;
    const uint8_t flags = bytes.byte();
    l.op = flags & 1 ? bytes.integer() : isFirst ? 0 : 1 + bytes.byte() % (kOpCount - 1);
    l.name = kNames[count];
    for (int32_t& input : l.inputs) input = flags & 2 ? bytes.integer() : bytes.byte() % before;
    if (!(flags & 4)) l.inputs[1] = -1;
    for (int32_t& size : l.shape) size = isFirst ? bytes.integer() : 1;
    for (int32_t* field :
         {&l.out,      &l.kernel, &l.stride, &l.pad,        &l.from,      &l.to,      &l.of,         &l.heads,
          &l.position, &l.bias,   &l.ceil,   &l.classToken, &l.positions, &l.quick,   &l.height,     &l.width,
          &l.up,       &l.down,   &l.upTaps, &l.downTaps,   &l.padLow,    &l.padHigh, &l.demodulate, &l.radial})
      *field = bytes.integer();
    l.half = flags & 16 ? bytes.integer() : 0;
    const bool isHostile = flags & 8;
    l.slope = isHostile ? static_cast<float>(bytes.number()) : 0;
    l.eps = isHostile ? static_cast<float>(bytes.number()) : 1e-5f,
    l.momentum = isHostile ? static_cast<float>(bytes.number()) : 0.1f;
    l.temperature = isHostile ? static_cast<float>(bytes.number()) : 0.1f,
    l.weight = isHostile ? static_cast<float>(bytes.number()) : 1;
    l.gain = isHostile ? static_cast<float>(bytes.number()) : 1,
    l.clamp = isHostile ? static_cast<float>(bytes.number()) : 4;
    l.rate = isHostile ? static_cast<float>(bytes.number()) : 16,
    l.bandwidth = isHostile ? static_cast<float>(bytes.number()) : 2;
  }
  const bool isWhole = bytes.byte() % 4 == 0;  // also past the end: no chunks would be refused before any layer
  const int32_t chunks = isWhole ? 1 : bytes.integer(), parts = isWhole ? 1 : bytes.integer();
  const ComfaceGraph graph = {layers, count, training, precision, 1, chunks, parts, 1, nullptr};
  rest = &bytes;
  ComfaceStatus status;
  backend.compile(&graph, &status);
  require(status.code >= -1 && status.code <= static_cast<int32_t>(Code::io), "a code of ours");
}

void throughDoor(Bytes& bytes) {
  try {
    const Graph graph = readGraph(bytes);
    checkShapes(graph);
    checkArena(graph, bytes);
    ++tally.accepted;
  } catch (const Error& e) {
    require(e.code == Code::invalidInput || e.code == Code::invalidConfig, "invalidInput or invalidConfig");
  }
}

}  // namespace
}  // namespace comface::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comface::fuzz::Bytes bytes(data, size);
  bytes.byte() % 2 == 0 ? comface::fuzz::throughDoor(bytes) : comface::fuzz::crossBorder(bytes);
  return 0;
}
