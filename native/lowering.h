// What every backend decides before it plans memory: which results are images and which are vectors, which need a
// gradient, and which layers run as one step. Then the buffers of a program, numbered first and placed later.
#pragma once
#include <algorithm>
#include <vector>

#include "graph.h"

namespace comface {

/** Layers a normalization step covers: norm [+ norm2 of a second path] [+ add] [+ relu]. -1: absent. */
struct NormGroup {
  int norm = -1, norm2 = -1, add = -1, relu = -1;
  int residual = -1;  // layer added (its norm's input if norm2 >= 0)
  int result() const { return relu >= 0 ? relu : add >= 0 ? add : norm; }
};

struct Lowered {
  // By layer. An image is N x C x H x W in the program's precision (but see Layer::half) and layout, a vector is fp32,
  // rows x width.
  std::vector<bool> image;
  std::vector<bool> wanted;       // some parameter (or a test) needs its gradient
  std::vector<NormGroup> groups;  // of the layer that ends one; norm is -1 elsewhere
  std::vector<int> steps;         // the layers that have a step of their own, in order
};

/** Throws invalidConfig where an op gets the wrong one of image and vector. */
Lowered lower(const Graph& graph);

/** Numbers buffers while a program is planned; the arena gives them addresses afterwards. */
class Buffers {
 public:
  static constexpr int kForever = 1 << 30;

  int create(size_t sizeBytes) {
    lifetimes_.push_back({sizeBytes, kForever, -1, 0});
    return static_cast<int>(lifetimes_.size()) - 1;
  }
  int keep(size_t sizeBytes) {
    const int id = create(sizeBytes);
    touch(id, 0), touch(id, kForever);
    return id;
  }
  void touch(int id, int time) {
    lifetimes_[id].first = std::min(lifetimes_[id].first, time);
    lifetimes_[id].last = std::max(lifetimes_[id].last, time);
  }
  size_t plan(size_t alignment = 64) { return planArena(lifetimes_, alignment); }
  void bind(char* arena) { arena_ = arena; }
  template <class T = void>
  T* at(int id) const {
    return reinterpret_cast<T*>(arena_ + lifetimes_[id].offset);
  }
  size_t sizeBytes(int id) const { return lifetimes_[id].sizeBytes; }

 private:
  std::vector<Lifetime> lifetimes_;
  char* arena_ = nullptr;
};

}  // namespace comface
