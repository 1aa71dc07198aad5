// A regular file that is read at given places, by any number of threads at once.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace comface {

class File {
 public:
  /** Throws io naming the path: not there, not readable, not a regular file. */
  explicit File(std::string path);
  ~File();
  File(const File&) = delete;
  const std::string& path() const { return path_; }
  /** When it was opened. */
  uint64_t sizeBytes() const { return sizeBytes_; }
  /** Fills `to`. Throws io, or corruptFile where the file ends before. */
  void read(uint64_t offset, std::span<uint8_t> to) const;
  /** Will be read soon: the kernel begins to fetch it from the disk. */
  void expect(uint64_t offset, uint64_t sizeBytes) const noexcept;

 private:
  /** reason: an errno, or 0. */
  [[noreturn]] void refuse(const std::string& why, int reason = 0) const;

  const std::string path_;
  int descriptor_ = -1;
  uint64_t sizeBytes_ = 0;
};

}  // namespace comface
