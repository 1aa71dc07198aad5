// Whole training steps that nobody waits for: pictures on a stream of their own, then views, the network's forward and
// backward pass and Adam as one captured graph.
#pragma once
#include "backend.h"
#include "cuda/augment.h"
#include "cuda/network.h"

namespace comface::cuda {

class Training : public PictureSteps {
 public:
  /** The network is bound; `stream` is the one it computes on. */
  Training(Network& network, const Graph& graph, cudaStream_t stream);

  std::span<uint8_t> reserve(int slot, size_t sizeBytes) override;
  void step(int slot, const PictureStep& step, const Adam& adam) override;
  CollectedSteps collect() override;
  /** On the device. */
  size_t sizeBytes() const;
  /** Off once the runtime has refused to record steps: each is enqueued kernel by kernel then. */
  bool isCapturing() const { return refusals_ < kMostRefusals; }

 private:
  /** What one of two steps under way reads. */
  struct Slot {
    std::unique_ptr<PinnedMemory> pictures, small;
    std::unique_ptr<DeviceMemory> devicePictures, deviceSmall;
    Event copied, done;  // the copies; the whole step
    CapturedGraph captured;
    Normalization normalization{};  // of the captured graph
  };
  /** Where views, targets and places of pictures lie in Slot::small; StepNumbers come first. The places are last: how
   * many there are depends on how many pictures were broken. */
  struct Layout {
    size_t views, targets, places;
  };

  void check(const PictureStep& step) const;
  void makeRoom(Slot& slot, size_t smallBytes) const;
  void upload(Slot& slot, const PictureStep& step, const Adam& adam);
  void run(Slot& slot, const PictureStep& step);
  bool capture(Slot& slot, const Normalization& normalization);
  void body(const char* small);
  void keepLosses();

  Network& network_;
  const Graph& graph_;
  const Layout layout_;
  cudaStream_t stream_;
  Stream copies_;
  Slot slots_[2];
  DeviceMemory losses_, flags_;            // of the steps not collected yet
  std::vector<int64_t> uncollected_;       // Adam::step of each
  bool isWarm_ = false;                    // the first step is not captured: libraries choose their algorithms in it
  static constexpr int kMostRefusals = 3;  // what another engine does meanwhile may break one
  int refusals_ = 0;
};

}  // namespace comface::cuda
