// Forms and groups: the same for every backend, so that they fuse the same layers and refuse the same graphs.
#include "lowering.h"

namespace comface {
namespace {

bool isImageOp(Op op) {
  switch (op) {
    case Op::conv:
    case Op::batchNorm:
    case Op::maxPool:
    case Op::avgPool:
    case Op::tokens:
    case Op::layerNorm:
    case Op::gelu:
    case Op::attention:
    case Op::efficientAttention:
    case Op::token:
    case Op::flatten:
    case Op::upsample:
    case Op::convTranspose:
    case Op::blur:
    case Op::styleEpilogue:
    case Op::modulatedConv:
    case Op::filteredRelu:
      return true;
    default:
      return false;
  }
}

/** Makes an image of whatever. */
bool beginsImages(Op op) { return op == Op::constant || op == Op::fourierFeatures; }

[[noreturn]] void refuse(const Layer& layer, const char* rule) {
  throw Error(Code::invalidConfig, "Layer `" + layer.name + "`: " + rule + " here.");
}

void assignForms(const Graph& graph, Lowered& lowered) {
  for (size_t i = 0; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    bool image = false;
    if (layer.op == Op::input) {
      image = layer.shape.h > 1 || layer.shape.w > 1;
      for (const int user : graph.users[i]) {
        // A style is a vector, whatever reads it.
        image = image || (isImageOp(graph.layers[user].op) && graph.layers[user].inputs[0] == static_cast<int>(i));
      }
    } else {
      const bool inputImage = lowered.image[layer.inputs[0]];
      image = (inputImage && !endsImages(layer.op)) || beginsImages(layer.op);
      const bool needsImage = isImageOp(layer.op);
      const bool takesBoth =
          layer.op == Op::relu || layer.op == Op::add || layer.op == Op::linear || layer.op == Op::constant;
      const bool needsVector = !needsImage && !takesBoth;
      if (layer.op == Op::add && lowered.image[layer.inputs[1]] != inputImage) {
        refuse(layer, "expected two images or two vectors, not one of each,");
      }
      if (needsImage && !inputImage) refuse(layer, "expected an image");
      if (isStyled(layer.op) && lowered.image[layer.inputs[1]]) refuse(layer, "expected a vector as style");
      if (needsVector && inputImage) refuse(layer, "expected a vector (after avgPool, token or flatten)");
    }
    const bool ownParameters = hasWeights(layer.op) || isNorm(layer.op) || layer.op == Op::tokens;
    bool wanted = ownParameters || (i == 0 && graph.losses.empty());
    for (const int input : layer.inputs) wanted = wanted || (input >= 0 && lowered.wanted[input]);
    lowered.image.push_back(image);
    lowered.wanted.push_back(wanted && graph.training);
  }
}

/** The normalization group whose last layer is `layer`, if the layers before it have no other readers. */
NormGroup groupEndingAt(const Graph& graph, int layer) {
  const auto only = [&](int i, Op op) { return graph.layers[i].op == op && graph.users[i].size() == 1; };
  NormGroup group;
  int at = layer;
  if (graph.layers[at].op == Op::relu) {
    if (graph.layers[at].slope != 0) return {};
    group.relu = at;
    at = graph.layers[at].inputs[0];
    if (!only(at, Op::batchNorm) && !only(at, Op::add)) return {};
  }
  if (graph.layers[at].op == Op::add) {
    auto [a, b] = graph.layers[at].inputs;
    if (!only(a, Op::batchNorm)) std::swap(a, b);
    if (a == b || !only(a, Op::batchNorm)) return {};
    group.add = at, group.norm = a, group.residual = b;
    if (only(b, Op::batchNorm)) group.norm2 = b, group.residual = graph.layers[b].inputs[0];
    return group;
  }
  if (graph.layers[at].op == Op::batchNorm) group.norm = at;
  return group;
}

}  // namespace

Lowered lower(const Graph& graph) {
  Lowered lowered;
  assignForms(graph, lowered);
  const int count = static_cast<int>(graph.layers.size());
  lowered.groups.resize(count);
  std::vector<bool> fused(count, false);
  for (int i = count - 1; i >= 0; --i) {  // from the end, so that the longest group wins
    if (fused[i] || !lowered.image[i]) continue;
    const NormGroup group = groupEndingAt(graph, i);
    if (group.norm < 0) continue;
    lowered.groups[i] = group;
    for (const int member : {group.norm, group.norm2, group.add}) {
      if (member >= 0 && member != i) fused[member] = true;
    }
  }
  for (int i = 0; i < count; ++i) {
    if (!fused[i]) lowered.steps.push_back(i);
  }
  return lowered;
}

}  // namespace comface
