// The networks and plans that the drivers without Node use: ComFace's shape, as small as it gets.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "graph.h"
#include "source.h"

namespace comface::tests {

inline constexpr int kPairs = 2;

inline Layer layer(Op op, std::string name, int input = -1, int out = 0, int kernel = 0) {
  Layer l;
  l.op = op, l.name = std::move(name), l.inputs[0] = input, l.out = out, l.kernel = kernel;
  return l;
}

/** conv, norm, relu, pool: layer 6 is the embedding of `rows` images. */
inline Graph backbone(int size, int rows) {
  Graph graph;
  graph.threads = 2;
  graph.layers.push_back(layer(Op::input, "input"));
  graph.layers[0].shape = {rows, 3, size, size};
  graph.layers.push_back(layer(Op::conv, "conv1", 0, 4, 3));
  graph.layers[1].stride = 2, graph.layers[1].pad = 1;
  graph.layers.push_back(layer(Op::batchNorm, "bn1", 1));
  graph.layers.push_back(layer(Op::relu, "relu1", 2));
  graph.layers.push_back(layer(Op::maxPool, "pool1", 3, 0, 3));
  graph.layers[4].stride = 2, graph.layers[4].pad = 1;
  graph.layers.push_back(layer(Op::conv, "conv2", 4, 8, 1));
  graph.layers.push_back(layer(Op::avgPool, "embedding", 5));
  return graph;
}

/** ComFace's two losses over kPairs pairs: rows are x~1, x~2, y~. */
inline Graph trainingGraph(int size) {
  Graph graph = backbone(size, 3 * kPairs);
  graph.training = true;
  const auto add = [&](Layer l) {
    graph.layers.push_back(std::move(l));
    return static_cast<int>(graph.layers.size()) - 1;
  };
  const auto rows = [&](const char* name, int from, int to) {
    Layer l = layer(Op::rows, name, 6);
    l.from = from, l.to = to, l.of = 3;
    return add(l);
  };
  const int views = rows("views", 0, 2), first = rows("first", 0, 1), manipulated = rows("manipulated", 2, 3);
  const int projection = add(layer(Op::linear, "projection", views, 4));
  const int unit = add(layer(Op::l2Normalize, "unit", projection));
  add(layer(Op::infoNce, "interPersonal", unit));
  Layer difference = layer(Op::reluDifference, "difference", manipulated);
  difference.inputs[1] = first;
  Layer head = layer(Op::linear, "head", add(difference), 1);
  head.bias = true;
  add(layer(Op::squaredError, "intraPersonal", add(head)));
  graph.finish();
  return graph;
}

inline Graph embeddingGraph(int size) {
  Graph graph = backbone(size, 2);
  graph.finish();
  return graph;
}

/** Pairs out of `samples` pictures and spares for broken ones. */
inline Plan planOf(uint64_t seed, int step, int samples) {
  Plan plan;
  plan.seed = seed, plan.step = static_cast<uint32_t>(step), plan.pairs = kPairs;
  for (int i = 0; i < kPairs + 4; ++i) {
    plan.x.push_back(static_cast<uint32_t>((step * 5 + i * 3) % (samples + 1)));  // one past the end: the broken one
    plan.y.push_back(static_cast<uint32_t>((step + i) % samples));
    plan.target.push_back(static_cast<float>(i) / 4);
  }
  return plan;
}

}  // namespace comface::tests
