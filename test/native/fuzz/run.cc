// Fuzzes what runs after the decoder: graphs that are accepted and tiny are compiled by the plain loops and trained for
// a step, under the sanitizers, and every number that can be read is read.
#include "bytes.h"
#include "reference/backend.h"

namespace comface::fuzz {
namespace {

Tally tally;

/** Multiplications of one pass, roughly; also the numbers held. */
double work(const Graph& graph) {
  double total = 0;
  for (const Layer& l : graph.layers) {
    const double c = l.inputs[0] >= 0 ? graph.layers[l.inputs[0]].shape.c : 1,
                 n = l.inputs[0] >= 0 ? graph.layers[l.inputs[0]].shape.n : 1;
    const bool isWindow =
        l.op == Op::conv || l.op == Op::maxPool || l.op == Op::convTranspose || l.op == Op::modulatedConv;
    double window = isWindow ? static_cast<double>(l.kernel) * l.kernel : 1;
    if (l.op == Op::filteredRelu) {
      const Shape& in = graph.layers[l.inputs[0]].shape;
      const double between = static_cast<double>(edgeBetween(l, in.h)) * static_cast<double>(edgeBetween(l, in.w));
      total += static_cast<double>(in.n) * c * between * tapsUp(l) * tapsUp(l);
      window = static_cast<double>(tapsDown(l)) * tapsDown(l);
    }
    const bool isSum =
        hasWeights(l.op) || l.op == Op::efficientAttention || l.op == Op::convTranspose || l.op == Op::modulatedConv;
    const double inner = isSum                   ? c
                         : l.op == Op::infoNce   ? n * n * c
                         : l.op == Op::attention ? static_cast<double>(l.shape.h) * l.shape.w
                                                 : 1;
    total += static_cast<double>(l.shape.count()) * window * inner;
  }
  for (const Parameter& p : graph.parameters) total += static_cast<double>(p.count);
  return total;
}

void train(const Graph& graph) {
  const auto program = compileReference(graph);
  std::vector<float> values, input(graph.layers[0].shape.count(), 0.25f), targets(graph.targetCount, 0.5f);
  std::vector<double> losses(graph.losses.size());
  for (const Parameter& p : graph.parameters) {
    values.assign(p.count, 0.01f);
    program->write(Slot::parameter, p.name, values);
  }
  program->forward(input, targets, losses);
  if (graph.training) program->backward(), program->update({});
  double sum = 0;
  for (const Layer& l : graph.layers) {
    values.resize(l.shape.count());
    program->read(Slot::value, l.name, values);
    for (const float value : values) sum += value;
  }
  for (const Parameter& p : graph.parameters) {
    values.resize(p.count);
    program->read(graph.training ? Slot::gradient : Slot::parameter, p.name, values);
    for (const float value : values) sum += value;
  }
  for (const double loss : losses) sum += loss;
  consume(sum);
  require(!program->describe().empty() && program->sizeBytes() > 0, "a program that tells its size");
  ++tally.accepted;
}

}  // namespace
}  // namespace comface::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comface;
  fuzz::Bytes bytes(data, size);
  try {
    const Graph graph = fuzz::readGraph(bytes);
    if (fuzz::work(graph) < 20'000) fuzz::train(graph);
  } catch (const Error& e) {
    fuzz::require(e.code == Code::invalidInput || e.code == Code::invalidConfig, "invalidInput or invalidConfig");
  }
  return 0;
}
