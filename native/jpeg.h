// Baseline JPEG through libjpeg-turbo's TurboJPEG API. Decoding refuses what is truncated or damaged: a gray lower half
// must not reach training.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "augment.h"

namespace comface {

struct JpegSize {
  int width, height;
};

/** What the header says. Throws corruptFile for what decodeJpeg() refuses without decoding. */
JpegSize readJpegSize(std::span<const uint8_t> file, const std::string& name);

/** What a message calls a picture: asked for where there is something to say, for a name is an allocation. */
using NameOf = std::function<std::string()>;

/** Decodes into `picture`, reusing its memory. Throws corruptFile ("<name>: <what libjpeg-turbo found>"); refuses more
 * than 64 megapixels and, unless `edge` is 0, all but edge x edge pixels, before any memory is claimed for them. */
void decodeJpeg(std::span<const uint8_t> file, const NameOf& nameOf, Picture& picture, int edge = 0);
inline void decodeJpeg(std::span<const uint8_t> file, const std::string& name, Picture& picture, int edge = 0) {
  decodeJpeg(
      file, [&name] { return name; }, picture, edge);
}

/** Encodes 4:2:0 baseline, quality 1..100. */
std::vector<uint8_t> encodeJpeg(const Picture& picture, int quality);

/** Reads and decodes a file, reusing `bytes`. Throws io or corruptFile naming the path. */
void readJpeg(const std::string& path, std::vector<uint8_t>& bytes, Picture& picture, int edge = 0);

/** Writes a whole file. Throws io naming the path. */
void writeFile(const std::string& path, std::span<const uint8_t> bytes);

}  // namespace comface
