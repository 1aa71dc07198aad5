// For tests: backend graphs with few words, through the library's own functions, so that the real cuDNN can take the
// same tests.
#pragma once
#include <cudnn.h>

#include <array>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace comface::cuda::emulation {

/** Owns a descriptor. */
class Handle {
 public:
  explicit Handle(cudnnBackendDescriptorType_t type) { cudnnBackendCreateDescriptor(type, &descriptor_); }
  ~Handle() { cudnnBackendDestroyDescriptor(descriptor_); }
  Handle(const Handle&) = delete;
  operator cudnnBackendDescriptor_t() const { return descriptor_; }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

/** What became of a graph. */
struct Answer {
  cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
  std::string where, text;  // of the refusal
  /** By heuristic mode: kernel families of the plans that finalized ("90", "80", "?"), 'T' after those with tensor
   * cores. */
  std::string best, fallback;
};

/** A graph under construction. The first call that fails is kept, later ones do nothing. */
class Builder {
 public:
  using Dims = std::array<int64_t, 4>;
  using Id = int64_t;

  /** N C H W, channels last in memory. */
  Id tensor(cudnnDataType_t type, Dims dims, bool isVirtual = false);
  Id virtualTensor(cudnnDataType_t type, Dims dims) { return tensor(type, dims, true); }
  Id channels(int64_t c) { return tensor(CUDNN_DATA_FLOAT, {1, c, 1, 1}); }
  void forward(Id x, Id w, Id y, int64_t pad, int64_t stride, int64_t dilation = 1);
  void backwardData(Id dy, Id w, Id dx, int64_t pad, int64_t stride, int64_t dilation = 1);
  void backwardFilter(Id x, Id dy, Id dw, int64_t pad, int64_t stride, int64_t dilation = 1);
  /** b: 0 for none. RELU_BWD: x is dy, b is y. */
  void pointwise(cudnnPointwiseMode_t mode, Id x, Id b, Id y);
  void sum(Id x, Id y);
  void statistics(Id x, Id sum, Id squares);

  /** The next calls' odd choices. */
  int64_t alignment = 16, nextId = 1;
  float alpha = 1, beta = 0;
  bool isChannelsLast = true;
  /** For the operation graph, instead of a described device. */
  cudnnHandle_t handle = nullptr;

  /** Plans for a described device ("at most `most` configurations of each mode"). */
  Answer plan(int capability, int most = 3);
  /** A finalized operation graph, or null. */
  Handle* finish();
  cudnnStatus_t status() const { return answer_.status; }
  const Answer& answer() const { return answer_; }
  cudnnBackendDescriptor_t at(Id id) { return *tensors_.at(id); }

 private:
  Handle& keep(cudnnBackendDescriptorType_t type) { return kept_.emplace_back(type); }
  void check(cudnnStatus_t status, const std::string& where);
  void set(const Handle& handle, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(const Handle& handle, cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t part);
  void finalize(const Handle& handle, const char* what);
  Handle& geometry(int64_t pad, int64_t stride, int64_t dilation);
  void convolve(cudnnBackendDescriptorType_t type, const std::array<cudnnBackendAttributeName_t, 6>& names,
                std::array<Id, 3> ids, const Handle& geometry);
  std::string planMode(const Handle& graph, const Handle& device, cudnnBackendHeurMode_t mode, int most);

  std::deque<Handle> kept_;
  std::map<Id, Handle*> tensors_;
  std::vector<cudnnBackendDescriptor_t> operations_;
  Answer answer_;
};

/** The JSON of a device as cuDNN writes it. */
std::string deviceJson(int capability);

}  // namespace comface::cuda::emulation
