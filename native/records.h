// What JavaScript sends, checked: records of named values become settings, plans and graphs. Any Record will do, so the
// fuzz targets of test/native reach every check without Node. What does not fit throws invalidInput naming the value.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "augment.h"
#include "backend.h"
#include "faces/face.h"
#include "graph.h"
#include "source.h"

namespace comface {

/** Named values of any kind. Where a value is not of the kind that is asked for, the reader says so by throwing
 * invalidInput, or with NaN for a number. */
class Record {
 public:
  virtual ~Record() = default;
  virtual bool has(const char* name) const = 0;
  virtual double number(const char* name) const = 0;
  virtual double number(const char* name, uint32_t index) const = 0;
  virtual std::string string(const char* name) const = 0;
  /** Strings of a list. */
  virtual std::string string(const char* name, uint32_t index) const = 0;
  virtual bool truth(const char* name) const = 0;
  virtual uint64_t seed() const = 0;
  virtual std::vector<uint32_t> words(const char* name) const = 0;
  virtual std::vector<int32_t> integers(const char* name) const = 0;
  virtual std::vector<float> floats(const char* name) const = 0;
};

/** Throws "Expected <rule> for `<name>`.". */
[[noreturn]] void refuse(const std::string& name, const std::string& rule);

double checkNumber(double number, const std::string& name, double low = -1e300, double high = 1e300);
int checkInteger(double number, const std::string& name, int low, int high);

AugmentSettings settingsFrom(const Record& record);
Plan planFrom(const Record& record, const AugmentSettings& settings);
Adam adamFrom(const Record& record);
/** Of docs/data.md. */
ShardSet shardSetFrom(const Record& record);
Slot slotFrom(const std::string& name);
/** Images of a generator to be made pictures of. */
struct ImageSet {
  int count, edge;    // 3 x edge x edge numbers each
  int size, quality;  // of the pictures; quality 0: RGB as it is, else JPEG
};
ImageSet imageSetFrom(const Record& record);
/** The graph without its layers. */
Graph graphFrom(const Record& record, int& batch);
/** One layer more; its inputs are among those before. */
void addLayer(Graph& graph, const Record& record, int batch);

/** Pictures to draw, size x size each. */
struct Shots {
  std::vector<faces::Shot> list;
  int size;
};
Shots shotsFrom(const Record& record);

}  // namespace comface
