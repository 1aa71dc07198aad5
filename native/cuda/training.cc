// The order of things: copies of step n + 1 run beside the computation of step n. A slot's host memory is free again
// when its copies are done, its device memory when its step is.
#include "cuda/training.h"

#include <cstring>

namespace comface::cuda {
namespace {

constexpr size_t kAlign = 16;
constexpr size_t kMostPlaces = 2;  // of pictures, for each view: all that a plan has with spares for every pair, twice
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

Training::Training(Network& network, const Graph& graph, cudaStream_t stream)
    : network_(network),
      graph_(graph),
      layout_([&] {
        Layout l{};
        l.views = aligned(sizeof(StepNumbers));
        l.targets = l.views + aligned(graph.batch() * sizeof(View));
        l.places = l.targets + aligned(graph.targetCount * sizeof(float));
        return l;
      }()),
      stream_(stream),
      losses_(kMostUncollected * graph.losses.size() * sizeof(double)),
      flags_(kMostUncollected * sizeof(StepFlags)) {}

std::span<uint8_t> Training::reserve(int index, size_t sizeBytes) {
  Slot& slot = slots_[index & 1];
  slot.copied.synchronize();
  if (!slot.devicePictures || slot.devicePictures->sizeBytes() < sizeBytes) {
    slot.done.synchronize();
    slot.captured.reset();  // it has the old address
    slot.pictures.reset(), slot.devicePictures.reset();
    slot.pictures = std::make_unique<PinnedMemory>(sizeBytes);
    slot.devicePictures = std::make_unique<DeviceMemory>(sizeBytes);
    makeRoom(slot, layout_.places + kMostPlaces * graph_.batch() * sizeof(PackedPicture));
  }
  return {reinterpret_cast<uint8_t*>(slot.pictures->data()), slot.pictures->sizeBytes()};
}

size_t Training::sizeBytes() const {
  size_t bytes = losses_.sizeBytes() + flags_.sizeBytes();
  for (const Slot& slot : slots_) {
    for (const auto* memory : {&slot.deviceSmall, &slot.devicePictures}) bytes += *memory ? (*memory)->sizeBytes() : 0;
  }
  return bytes;
}

void Training::check(const PictureStep& step) const {
  const auto expect = [](const char* name, size_t expected, size_t received) {
    if (received == expected) return;
    throw Error(Code::invalidInput, "Expected " + std::to_string(expected) + " numbers for `" + name +
                                        "` but received " + std::to_string(received) + ".");
  };
  expect("views", graph_.batch(), step.views.size());
  expect("targets", graph_.targetCount, step.targets.size());
}

/** For the numbers of a step, on both sides. What was captured has the old address. */
void Training::makeRoom(Slot& slot, size_t smallBytes) const {
  if (slot.deviceSmall && slot.deviceSmall->sizeBytes() >= smallBytes) return;
  slot.copied.synchronize(), slot.done.synchronize();
  slot.captured.reset();
  slot.small.reset(), slot.deviceSmall.reset();
  slot.small = std::make_unique<PinnedMemory>(smallBytes);
  slot.deviceSmall = std::make_unique<DeviceMemory>(smallBytes);
}

void Training::step(int index, const PictureStep& step, const Adam& adam) {
  check(step);
  Slot& slot = slots_[index & 1];
  if (uncollected_.size() == kMostUncollected) {
    throw Error(Code::invalidInput,
                "Expected a call of collect() after " + std::to_string(kMostUncollected) + " steps.");
  }
  upload(slot, step, adam);
  slot.copied.holdBack(stream_);
  run(slot, step);
  keepLosses();
  slot.done.record(stream_);
  uncollected_.push_back(adam.step);
}

void Training::upload(Slot& slot, const PictureStep& step, const Adam& adam) {
  slot.copied.synchronize();
  const size_t smallBytes = layout_.places + step.pictures.size_bytes();
  makeRoom(slot, smallBytes);
  char* small = slot.small->data();
  const StepNumbers numbers = numbersOf(adam);
  std::memcpy(small, &numbers, sizeof numbers);
  const auto put = [&](size_t at, const auto& list) {
    if (!list.empty()) std::memcpy(small + at, list.data(), list.size_bytes());
  };
  put(layout_.places, step.pictures), put(layout_.views, step.views), put(layout_.targets, step.targets);
  slot.done.holdBack(copies_);
  const auto copy = [&](const DeviceMemory& to, const PinnedMemory& from, size_t bytes) {
    cuda::check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyHostToDevice, copies_), "copying a batch");
  };
  size_t used = 0;
  for (const PackedPicture& p : step.pictures) used = std::max(used, p.offset + packedBytes(p.width, p.height));
  if (used > 0) copy(*slot.devicePictures, *slot.pictures, used);
  copy(*slot.deviceSmall, *slot.small, smallBytes);
  slot.copied.record(copies_);
}

void Training::run(Slot& slot, const PictureStep& step) {
  Context& c = network_.context();
  const char* small = slot.deviceSmall->data();
  c.pictures = {reinterpret_cast<const uint8_t*>(slot.devicePictures ? slot.devicePictures->data() : nullptr),
                reinterpret_cast<const PackedPicture*>(small + layout_.places),
                reinterpret_cast<const View*>(small + layout_.views),
                nullptr,
                graph_.batch(),
                graph_.layers[0].shape.h,
                step.normalization};
  const struct OnPictures {
    explicit OnPictures(Context& context) : context(context) { context.isOnPictures = true; }
    ~OnPictures() { context.isOnPictures = false; }
    Context& context;
  } onPictures(c);
  if (isWarm_ && capture(slot, step.normalization)) {
    slot.captured.launch(stream_);
  } else {
    body(small);
    isWarm_ = true;
  }
}

/** Records the slot's step, if that is not done; false where it cannot be: what cannot be recorded still runs. */
bool Training::capture(Slot& slot, const Normalization& normalization) {
  const bool isSame = std::memcmp(&slot.normalization, &normalization, sizeof normalization) == 0;
  if (slot.captured && isSame) return true;
  slot.captured.reset();
  if (!isCapturing()) return false;
  try {
    slot.captured.capture(stream_, [&] { body(slot.deviceSmall->data()); });
  } catch (const Error&) {
    ++refusals_;  // what is wrong with the step itself will be told by running it
    return false;
  }
  slot.normalization = normalization;
  return true;
}

/** Enqueues the step whose numbers are at `small` on the device. */
void Training::body(const char* small) {
  Context& c = network_.context();
  const auto copy = [&](int to, size_t at, size_t bytes) {
    if (bytes == 0) return;
    cuda::check(cudaMemcpyAsync(c.buffers.at(to), small + at, bytes, cudaMemcpyDeviceToDevice, stream_),
                "copying a step's numbers");
  };
  copy(c.numbers, 0, sizeof(StepNumbers));
  copy(c.targets, layout_.targets, graph_.targetCount * sizeof(float));
  network_.forward();
  network_.backward();
  network_.update();
}

/** Losses and flags are overwritten by the next step, so each step's are put aside. */
void Training::keepLosses() {
  const Context& c = network_.context();
  const size_t index = uncollected_.size(), bytes = graph_.losses.size() * sizeof(double);
  const auto copy = [&](const DeviceMemory& to, int from, size_t size) {
    cuda::check(cudaMemcpyAsync(to.data() + index * size, c.buffers.at(from), size, cudaMemcpyDeviceToDevice, stream_),
                "keeping a loss");
  };
  if (bytes > 0) copy(losses_, c.losses, bytes);
  copy(flags_, c.flags, sizeof(StepFlags));
}

CollectedSteps Training::collect() {
  CollectedSteps all;
  const size_t count = uncollected_.size();
  std::vector<StepFlags> flags(count);
  all.losses.resize(count * graph_.losses.size());
  const auto copy = [&](void* to, const DeviceMemory& from, size_t bytes) {
    if (bytes > 0)
      cuda::check(cudaMemcpyAsync(to, from.data(), bytes, cudaMemcpyDeviceToHost, stream_), "reading the losses");
  };
  copy(all.losses.data(), losses_, all.losses.size() * sizeof(double));
  copy(flags.data(), flags_, count * sizeof(StepFlags));
  cuda::check(cudaStreamSynchronize(stream_), "waiting for the steps under way");
  all.steps = static_cast<int>(count);
  for (size_t i = 0; i < count && all.notFinite == 0; ++i) {
    if (flags[i].isLost) all.notFinite = uncollected_[i];
  }
  uncollected_.clear();
  return all;
}

}  // namespace comface::cuda
