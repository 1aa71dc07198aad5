// Trap: what is opened may be anything; a named pipe must not be waited for, a folder not be read.
#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core.h"

namespace comface {
namespace {

std::string lastError() { return std::generic_category().message(errno); }

}  // namespace

File::File(std::string path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a named pipe would wait for a writer before fstat could refuse it; regular files ignore it.
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) refuse(lastError(), errno);
  struct stat info {};
  const std::string why = fstat(descriptor_, &info) != 0 ? lastError()
                          : !S_ISREG(info.st_mode)       ? "not a regular file"
                                                         : "";
  if (!why.empty()) {
    close(descriptor_);
    refuse(why);
  }
  sizeBytes_ = static_cast<uint64_t>(info.st_size);
}

File::~File() { close(descriptor_); }

void File::refuse(const std::string& why, int reason) const {
  // Of the process or the machine, not of this file: which must not count as a broken picture.
  const bool isLack = reason == EMFILE || reason == ENFILE || reason == ENOMEM;
  throw Error(isLack ? Code::outOfMemory : Code::io, "Cannot read " + path_ + ": " + why);
}

void File::read(uint64_t offset, std::span<uint8_t> to) const {
  while (!to.empty()) {
    const ssize_t count = pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse(lastError(), errno);
    if (count == 0)
      throw Error(Code::corruptFile, path_ + ": the file ends at byte " + std::to_string(offset) + ", " +
                                         std::to_string(to.size()) + " bytes too early");
    to = to.subspan(static_cast<size_t>(count)), offset += static_cast<uint64_t>(count);
  }
}

void File::expect(uint64_t offset, uint64_t sizeBytes) const noexcept {
  if (sizeBytes == 0) return;  // which would mean: to the end
  posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(sizeBytes), POSIX_FADV_WILLNEED);
}

}  // namespace comface
