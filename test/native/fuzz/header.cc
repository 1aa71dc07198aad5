// Fuzzes the reader of JPEG headers. libjpeg-turbo is the system's, not instrumented: a wild write inside it shows only
// where it hits a red zone or an unmapped page; what our code does with its answers is fully watched.
#include "bytes.h"
#include "jpeg.h"

namespace {
comface::fuzz::Tally tally;
const std::string kName = "fuzz.jpg";
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comface;
  try {
    const JpegSize found = readJpegSize({data, size}, kName);
    fuzz::require(found.width > 0 && found.height > 0 && int64_t{found.width} * found.height <= 64'000'000,
                  "at most 64 megapixels");
    ++tally.accepted;
  } catch (const Error& e) {
    fuzz::require(e.code == Code::corruptFile, "corruptFile");
  }
  return 0;
}
