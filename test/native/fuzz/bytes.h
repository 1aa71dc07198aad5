// Turns the fuzzer's bytes into values: a stream of small, likely and hostile ones, and records as the native door
// reads them. Past the end everything is 0, so that every input is a whole one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "records.h"

namespace comface::fuzz {

/** Ends the run with a report: what must always hold did not. */
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "REQUIREMENT FAILED: %s\n", what);
  std::abort();
}

inline volatile double sink;
/** Keeps the compiler from leaving out the reading of what went into `sum`. */
inline void consume(double sum) { sink = sum; }

/** Counts inputs that a reader took, printed when the process ends: a fuzzer that is refused at the door tests the door
 * alone. */
class Tally {
 public:
  ~Tally() { std::fprintf(stderr, "stat::accepted: %lld\n", static_cast<long long>(accepted)); }
  int64_t accepted = 0;
};

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}
  bool empty() const { return data_ == end_; }
  uint8_t byte() { return empty() ? 0 : *data_++; }
  template <class T>
  T raw() {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value << 4 << 4 | byte());
    return value;
  }
  /** Mostly 0 .. 15; else what breaks readers. */
  double number() {
    static constexpr double kInfinity = std::numeric_limits<double>::infinity();
    static constexpr double kHostile[] = {-1,
                                          -0.0,
                                          0.5,
                                          1e-3,
                                          0.9,
                                          99,
                                          100,
                                          101,
                                          1e9,
                                          1e300,
                                          -1e300,
                                          2147483647.0,
                                          -2147483648.0,
                                          2147483648.0,
                                          4294967295.0,
                                          4294967296.0,
                                          9e15,
                                          1 << 20,
                                          (1 << 20) + 1,
                                          1 << 24,
                                          (1 << 24) + 1,
                                          65535,
                                          65536,
                                          1e-320,
                                          kInfinity,
                                          -kInfinity,
                                          std::numeric_limits<double>::quiet_NaN(),
                                          31,
                                          32,
                                          64,
                                          512,
                                          4096};
    const uint8_t b = byte();
    return b < 224 ? b % 16 : kHostile[b - 224];
  }
  int32_t integer() {
    const uint8_t b = byte();
    return b < 200 ? b % 16 : b < 210 ? -(b % 16) : b < 220 ? 1 << (b % 10 * 3) : raw<int32_t>();
  }

 private:
  const uint8_t *data_, *end_;
};

/** Answers every question with what comes next. */
class ByteRecord final : public Record {
 public:
  explicit ByteRecord(Bytes& bytes) : bytes_(bytes) {}
  bool has(const char* name) const override {
    const bool isReference = name[0] == 'i';  // input, inputs: without one of them no layer gets far
    const uint8_t b = bytes_.byte();
    return isReference ? (name[5] == 's') == (b % 4 == 0) : b % 2 == 1;
  }
  double number(const char*) const override { return bytes_.number(); }
  double number(const char*, uint32_t) const override { return bytes_.number(); }
  std::string string(const char* name) const override {
    static const char* const kOps[] = {"conv",
                                       "batchNorm",
                                       "relu",
                                       "add",
                                       "maxPool",
                                       "avgPool",
                                       "linear",
                                       "rows",
                                       "token",
                                       "tokens",
                                       "l2Normalize",
                                       "reluDifference",
                                       "infoNce",
                                       "squaredError",
                                       "gelu",
                                       "softmax",
                                       "attention",
                                       "layerNorm",
                                       "",
                                       "input",
                                       "flatten",
                                       "efficientAttention",
                                       "pixelNorm",
                                       "constant",
                                       "upsample",
                                       "convTranspose",
                                       "blur",
                                       "styleEpilogue",
                                       "fourierFeatures",
                                       "modulatedConv",
                                       "filteredRelu"};
    static const char* const kPrecisions[] = {"fp32", "bf16", "fp64", "fp16"};
    const uint8_t b = bytes_.byte();
    if (name[0] == 'o') return count_ == 0 ? "input" : kOps[b % 31];
    if (name[0] == 'p') return kPrecisions[b % 4];
    if (name[0] == 'n') return b < 240 ? layerName(count_) : layerName(b % 16);
    return layerName(b % 16 < count_ ? b % 16 : count_ - 1);
  }
  std::string string(const char* name, uint32_t) const override { return string(name); }
  bool truth(const char*) const override { return bytes_.byte() % 2 == 1; }
  uint64_t seed() const override { return bytes_.raw<uint64_t>(); }
  std::vector<uint32_t> words(const char*) const override { return list<uint32_t>(); }
  std::vector<int32_t> integers(const char*) const override { return list<int32_t>(); }
  std::vector<float> floats(const char*) const override {
    std::vector<float> values(bytes_.byte() % 8);
    for (float& value : values) value = static_cast<float>(bytes_.number());
    return values;
  }
  /** How many layers there are already. */
  void setLayerCount(int count) { count_ = count; }

 private:
  static std::string layerName(int index) { return std::string("l") + static_cast<char>('a' + (index & 31)); }
  template <class T>
  std::vector<T> list() const {
    std::vector<T> values(bytes_.byte() % 8);
    for (T& value : values) value = static_cast<T>(bytes_.integer());
    return values;
  }

  Bytes& bytes_;
  int count_ = 0;
};

inline constexpr int kMaxLayers = 16;

/** A graph as the native door reads it. */
inline Graph readGraph(Bytes& bytes) {
  ByteRecord record(bytes);
  int batch = 0;
  Graph graph = graphFrom(record, batch);
  while (!bytes.empty() && graph.layers.size() < kMaxLayers) {
    record.setLayerCount(static_cast<int>(graph.layers.size()));
    addLayer(graph, record, batch);
  }
  graph.finish();
  return graph;
}

}  // namespace comface::fuzz
