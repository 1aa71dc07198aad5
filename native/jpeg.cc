// JPEG in and out through TurboJPEG (API 2, which libjpeg-turbo 3 keeps). Every warning is an error here: libjpeg fills
// what is missing with gray and goes on. EXIF orientation is not applied: the package's preparation step (sharp) turns
// pictures upright before they get here.
#include "jpeg.h"

#include <fcntl.h>
#include <turbojpeg.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core.h"
#include "file.h"

namespace comface {
namespace {

constexpr int64_t kMaxPixels = 64'000'000;
// Huffman codes take 2 bits or more for a block of 64 pixels, and subsampled color adds blocks: a file of no more bytes
// than this cannot be whole, and is not worth the memory that its header claims.
constexpr int64_t kMaxPixelsPerByte = 1024;
constexpr uint64_t kMaxFileBytes = 256'000'000;  // more than a sane file of 64 megapixels; a wrong path costs no memory

/** A new one for every picture, 0.15 us against 30 us for decoding 64 x 64: a used decoder keeps the tables of its last
 * file, which one without tables would then be decoded with, and the half-read state of a broken header. A kept one
 * would save 3 of 12 small blocks of memory a picture; the other 9 are libjpeg-turbo's own, which its interface cannot
 * be given. */
class Handle {
 public:
  explicit Handle(tjhandle handle) : handle_(handle) {
    if (!handle_) throw Error(Code::outOfMemory, "Cannot create a JPEG codec");
  }
  ~Handle() { tjDestroy(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator tjhandle() const { return handle_; }

 private:
  tjhandle handle_;
};

/** The library's text without the "tjDecompress2(): " in front. */
std::string reason(tjhandle handle) {
  const std::string text = tjGetErrorStr2(handle);
  const size_t at = text.find("(): ");
  return at == std::string::npos ? text : text.substr(at + 4);
}

[[noreturn]] void corrupt(const NameOf& nameOf, const std::string& why) {
  const std::string name = nameOf();
  // libjpeg's and TurboJPEG's own words for a failed malloc: no property of the picture, which must not count as
  // broken.
  if (why.starts_with("Insufficient memory") || why == "Memory allocation failure") {
    throw Error(Code::outOfMemory, "Not enough memory to decode " + name);
  }
  throw Error(Code::corruptFile, name + ": " + why);
}

JpegSize readSize(tjhandle decoder, std::span<const uint8_t> file, const NameOf& nameOf) {
  if (file.empty()) corrupt(nameOf, "the file is empty");
  int width = 0, height = 0, subsampling = 0, colors = 0;
  if (tjDecompressHeader3(decoder, file.data(), file.size(), &width, &height, &subsampling, &colors) != 0) {
    corrupt(nameOf, reason(decoder));
  }
  if (colors == TJCS_CMYK || colors == TJCS_YCCK) corrupt(nameOf, "CMYK pictures are not supported; convert it to RGB");
  if (width < 1 || height < 1) corrupt(nameOf, "the file ends before the picture");
  if (static_cast<int64_t>(width) * height > kMaxPixels) {
    corrupt(nameOf,
            "expected at most 64 megapixels but found " + std::to_string(width) + " x " + std::to_string(height));
  }
  return {width, height};
}

}  // namespace

JpegSize readJpegSize(std::span<const uint8_t> file, const std::string& name) {
  const Handle decoder(tjInitDecompress());
  return readSize(decoder, file, [&name] { return name; });
}

void decodeJpeg(std::span<const uint8_t> file, const NameOf& nameOf, Picture& picture, int edge) {
  const Handle decoder(tjInitDecompress());
  const auto [width, height] = readSize(decoder, file, nameOf);
  if (edge > 0 && (width != edge || height != edge)) {
    const std::string wanted = std::to_string(edge);
    corrupt(nameOf, "expected " + wanted + " x " + wanted + " pixels as in the data set but found " +
                        std::to_string(width) + " x " + std::to_string(height));
  }
  if (static_cast<int64_t>(width) * height > kMaxPixelsPerByte * static_cast<int64_t>(file.size())) {
    corrupt(nameOf, std::to_string(file.size()) + " bytes are too few for " + std::to_string(width) + " x " +
                        std::to_string(height) + " pixels");
  }
  picture.width = width;
  picture.height = height;
  picture.rgb.resize(static_cast<size_t>(width) * height * 3);
  // LIMITSCANS: a small progressive file can otherwise ask for hours of refinement scans. STOPONWARNING: a truncated
  // one of 64 megapixels would be filled with gray to its end before it is refused.
  constexpr int kFlags = TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS | TJFLAG_STOPONWARNING;
  if (tjDecompress2(decoder, file.data(), file.size(), picture.rgb.data(), width, 0, height, TJPF_RGB, kFlags) != 0) {
    corrupt(nameOf, reason(decoder));
  }
}

std::vector<uint8_t> encodeJpeg(const Picture& picture, int quality) {
  const Handle encoder(tjInitCompress());
  const int width = picture.width, height = picture.height;
  if (width < 1 || height < 1 || width > 65535 || height > 65535 ||
      picture.rgb.size() != static_cast<size_t>(width) * height * 3) {
    throw Error(Code::invalidInput, "Expected width x height x 3 bytes for `picture` but received " +
                                        std::to_string(picture.rgb.size()) + " for " + std::to_string(width) + " x " +
                                        std::to_string(height));
  }
  if (quality < 1 || quality > 100) {
    throw Error(Code::invalidInput, "Expected 1 to 100 for `quality` but received " + std::to_string(quality));
  }
  std::vector<uint8_t> file(tjBufSize(width, height, TJSAMP_420));
  unsigned char* data = file.data();
  unsigned long sizeBytes = file.size();
  constexpr int kFlags = TJFLAG_ACCURATEDCT | TJFLAG_NOREALLOC;
  if (tjCompress2(encoder, picture.rgb.data(), width, 0, height, TJPF_RGB, &data, &sizeBytes, TJSAMP_420, quality,
                  kFlags) != 0) {
    throw Error(Code::invalidInput, "Cannot encode the picture: " + reason(encoder));
  }
  file.resize(sizeBytes);
  file.shrink_to_fit();
  return file;
}

void readJpeg(const std::string& path, std::vector<uint8_t>& bytes, Picture& picture, int edge) {
  const File file(path);
  if (file.sizeBytes() > kMaxFileBytes)
    corrupt([&path] { return path; }, "expected at most 256 MB but found " + std::to_string(file.sizeBytes()));
  bytes.resize(file.sizeBytes());
  file.read(0, bytes);
  decodeJpeg(bytes, path, picture, edge);
}

void writeFile(const std::string& path, std::span<const uint8_t> bytes) {
  const auto refuse = [&] { throw Error(Code::io, "Cannot write " + path + ": " + std::strerror(errno)); };
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) refuse();
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = write(file, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int reason = errno;
      close(file);
      errno = reason;
      refuse();
    }
    done += static_cast<size_t>(count);
  }
  if (close(file) != 0) refuse();
}

}  // namespace comface
