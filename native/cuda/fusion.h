// cuDNN's graph API (9.10 and newer) as a few calls: describe operations on tensors, ask for a plan, run it.
// Planning needs no device, only its description, so tests plan whole networks for GPUs that are not there.
#pragma once
#include <array>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kernels.h"
#include "cuda/libraries.h"

namespace comface::cuda {

/** Owns one backend descriptor; move only. */
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  cudnnBackendDescriptor_t get() const { return handle_; }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values);
  void set(cudnnBackendAttributeName_t name, const Descriptor& other);
  void set(cudnnBackendAttributeName_t name, int64_t value);
  void setFloat(cudnnBackendAttributeName_t name, float value);
  void finalize(const char* what);

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

/** What cuDNN plans for: a real device through its handle, or a described one (JSON of cuDNN's own form). */
class Target {
 public:
  /** The current device. */
  Target();
  explicit Target(const std::string& deviceJson);
  ~Target();
  Target(const Target&) = delete;
  /** Null for a described device. */
  cudnnHandle_t handle() const { return handle_; }
  const Descriptor& properties() const { return properties_; }
  /** Compute capability times ten: 90 for an H200. */
  int capability() const { return capability_; }
  /** Device and cuDNN version, for the cache and the manifest. */
  const std::string& name() const { return name_; }

 private:
  cudnnHandle_t handle_ = nullptr;
  Descriptor properties_;
  int capability_ = 0;
  std::string name_;
};

using TensorId = int;

/** Operations under construction. Ids are cuDNN's unique ids too, from 1. */
class Operations {
 public:
  /** isRepeatable: sums are the same each time, bit for bit; else in any order, which more kernels can. */
  explicit Operations(bool isRepeatable = true) : isRepeatable_(isRepeatable) {}

  /** N x H x W x C in memory. A virtual tensor lives only inside the plan. */
  TensorId image(Number number, int n, int c, int h, int w, bool isVirtual = false);
  /** K x R x S x C in memory. */
  TensorId filter(Number number, int k, int c, int size, bool isVirtual = false);
  /** One number for each channel, fp32. */
  TensorId channels(int c);

  void convolve(TensorId x, TensorId filter, TensorId y, int pad, int stride);
  void convolveBackwardData(TensorId dy, TensorId filter, TensorId dx, int pad, int stride);
  void convolveBackwardFilter(TensorId x, TensorId dy, TensorId dFilter, int pad, int stride);
  void identity(TensorId x, TensorId y);
  void multiply(TensorId a, TensorId b, TensorId y);
  void add(TensorId a, TensorId b, TensorId y);
  /** dx = y > 0 ? dy : 0. */
  void reluBackward(TensorId dy, TensorId y, TensorId dx);
  /** Sums over all but the channels. Kernels may add them to what is there: it has to be 0. */
  void sum(TensorId x, TensorId sums);
  void sumAndSquares(TensorId x, TensorId sums, TensorId squares);

  /** One line that says all, equal for equal graphs: a cache's key. */
  const std::string& key() const { return key_; }
  const std::vector<Descriptor>& operations() const { return operations_; }
  bool wantsOrderedSums() const { return isRepeatable_ && hasSums_; }
  /** All numbers are fp32, which then takes no tensor cores: those round what they multiply. */
  bool isExact() const { return isExact_; }

 private:
  Descriptor& keep(Descriptor descriptor);
  TensorId tensor(Number number, std::array<int64_t, 4> dims, std::array<int64_t, 4> strides, bool isVirtual);
  void convolution(int direction, TensorId x, TensorId filter, TensorId y, int pad, int stride);
  void pointwise(cudnnPointwiseMode_t mode, TensorId x, TensorId b, TensorId y);
  void note(const std::string& operation, std::initializer_list<TensorId> tensors);
  const Descriptor& at(TensorId id) const { return tensors_[id - 1]; }

  bool isRepeatable_, hasSums_ = false, isExact_ = true;
  std::vector<Descriptor> tensors_, parts_, operations_;
  std::string key_;
};

/** An execution plan, finalized. */
class Plan {
 public:
  /** A stand-in that cannot run. */
  Plan() = default;
  Plan(Descriptor plan, std::string choice, cudnnHandle_t handle);
  size_t workspaceBytes() const { return workspaceBytes_; }
  /** Engine and knobs, as planOf takes them: "57 2=1 5=0". */
  const std::string& choice() const { return choice_; }
  /** The newest kernel generation that the plan names, such as 90; 0 if it names none; -1 if cuDNN describes nothing.
   */
  int generation() const;
  /** Whether its kernels are of those known to add sums in a fixed order. */
  bool addsInOrder() const;
  /** cuDNN's own JSON of it, kernels included. */
  std::string description() const;
  using Binding = std::pair<TensorId, void*>;
  /** On the stream of the target that it was made for. */
  void run(const std::vector<Binding>& bindings, void* workspace) const;

 private:
  Descriptor plan_;
  cudnnHandle_t handle_ = nullptr;
  size_t workspaceBytes_ = 0;
  std::string choice_;
};

/** What is planned. `native`: only by kernels of the device's own generation (an H200 also runs those of an A100,
 * slower). */
struct Wanted {
  Operations operations;
  bool native;
};

/**
 * The first plan that the heuristics' list offers, that finalizes and that is what is wanted, or null. `isDefinite`
 * then: there were plans, and none was that; else it may have been a moment's trouble.
 */
std::unique_ptr<Plan> makePlan(const Target& target, const Wanted& wanted, bool* isDefinite);
/** The plan that a choice names, or null if cuDNN does not take it or it is not what is wanted. */
std::unique_ptr<Plan> planOf(const Target& target, const Wanted& wanted, const std::string& choice);

/** Throws deviceFailed, or outOfMemory, with cuDNN's own words. */
void expect(cudnnStatus_t status, const std::string& what);

}  // namespace comface::cuda
