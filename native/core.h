// Types that every native file shares: error codes, number types, the one exception class.
// Nothing here allocates on the step path or depends on a device.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace comface {

/** The codes of `ComFaceError` in lib/errors.ts, in the same order. */
enum class Code : int32_t {
  invalidConfig,
  invalidInput,
  corruptFile,
  deviceUnavailable,
  deviceFailed,
  outOfMemory,
  notFinite,
  busy,
  disposed,
  io,
};

/** The only exception that native code throws; addon.cc is the only place that catches it for JavaScript. */
class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code(code), message(std::move(message)) {}
  const char* what() const noexcept override { return message.c_str(); }

  Code code;
  std::string message;
};

/** The exception being handled, as an error of ours. Needs no memory when there is none: it runs where nothing may be
 * thrown. */
Error currentError() noexcept;
/** Counts the living objects of a class in the whole process: how tests see that nothing is left behind. */
template <class T>
class Counted {
 public:
  static int alive() { return alive_; }
  Counted(const Counted&) = delete;

 protected:
  Counted() { ++alive_; }
  ~Counted() { --alive_; }

 private:
  static inline std::atomic<int> alive_ = 0;
};

/** Number type of activations; master weights, statistics, losses and heads are fp32 whatever is chosen. */
enum class Precision : int32_t { fp32, bf16, fp64, fp16 };

/** N x C x H x W; a vector per sample has H = W = 1. */
struct Shape {
  int n = 0, c = 0, h = 1, w = 1;
  size_t count() const { return static_cast<size_t>(n) * c * h * w; }
  bool operator==(const Shape&) const = default;
};

}  // namespace comface
