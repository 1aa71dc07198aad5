// Pictures that are files of their own.
#include <limits>

#include "core.h"
#include "jpeg.h"
#include "pictures.h"

namespace comface {
namespace {

class FilePictures final : public Pictures {
 public:
  FilePictures(std::vector<std::string> paths, int edge) : paths_(std::move(paths)), edge_(edge) {}
  uint32_t count() const override { return static_cast<uint32_t>(paths_.size()); }
  int edge() const override { return edge_; }
  std::string name(uint32_t sample) const override { return paths_[sample]; }
  void load(uint32_t sample, std::vector<uint8_t>& bytes, Picture& picture) const override {
    readJpeg(paths_[sample], bytes, picture, edge_);
  }

 private:
  const std::vector<std::string> paths_;
  const int edge_;
};

}  // namespace

std::unique_ptr<Pictures> picturesInFiles(std::vector<std::string> paths, int edge) {
  if (paths.empty()) throw Error(Code::invalidInput, "Expected at least one path for `paths` but received none");
  if (paths.size() > std::numeric_limits<uint32_t>::max()) {
    throw Error(Code::invalidInput,
                "Expected fewer than 2^32 paths for `paths` but received " + std::to_string(paths.size()));
  }
  return std::make_unique<FilePictures>(std::move(paths), edge);
}

}  // namespace comface
