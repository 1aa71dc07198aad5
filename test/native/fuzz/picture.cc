// Fuzzes the decoder of JPEG pictures up to 64 x 64: header, decoding, and a view of what was decoded; every byte of
// both is read. header.cc says what is and is not watched inside libjpeg-turbo.
#include <cmath>

#include "bytes.h"
#include "jpeg.h"

namespace {
comface::fuzz::Tally tally;
const std::string kName = "fuzz.jpg";
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comface;
  static Picture picture;
  static AugmentScratch scratch;
  try {
    const JpegSize found = readJpegSize({data, size}, kName);
    if (found.width > 64 || found.height > 64) return -1;
    picture.rgb.clear();
    picture.rgb.shrink_to_fit();  // of the exact size, so that one byte too many is seen
    decodeJpeg({data, size}, kName, picture);
    fuzz::require(picture.width == found.width && picture.height == found.height, "the size of the header");
    fuzz::require(picture.rgb.size() == static_cast<size_t>(found.width) * found.height * 3, "three bytes a pixel");
    std::vector<float> view(8 * 8 * 3);
    plainView(picture, 8, {}, scratch, view);
    double sum = 0;
    for (const uint8_t value : picture.rgb) sum += value;
    for (const float value : view) sum += value;
    fuzz::require(std::isfinite(sum), "finite pixels");
    ++tally.accepted;
  } catch (const Error& e) {
    fuzz::require(e.code == Code::corruptFile, "corruptFile");
  }
  return 0;
}
