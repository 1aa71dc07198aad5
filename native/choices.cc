// The file is text: a line that names form and target, then a line "choice<tab>key" for each. Whatever is not that is
// passed over, and a new file replaces the old one in one step.
#include "choices.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace comface {
namespace {

std::filesystem::path folder() {
  const auto named = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value ? value : "");
  };
  if (const auto own = named("COMFACE_CACHE"); !own.empty()) return own;
  if (const auto cache = named("XDG_CACHE_HOME"); !cache.empty()) return cache / "comface";
  if (const auto home = named("HOME"); !home.empty()) return home / ".cache/comface";
  return {};
}

std::filesystem::path fileOf(const std::string& target) {
  std::string name;
  for (const char c : target) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '-';
  return folder() / ("plans-" + name + ".txt");
}

std::string headOf(const std::string& target) { return "comface plans 1\t" + target; }

Choices parse(std::istream& lines) {
  Choices choices;
  std::string line;
  while (std::getline(lines, line)) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos) choices[line.substr(tab + 1)] = line.substr(0, tab);
  }
  return choices;
}

Choices stored(const std::string& target) {
  if (folder().empty()) return {};
  std::ifstream file(fileOf(target));
  std::string line;
  if (!std::getline(file, line) || line != headOf(target)) return {};
  return parse(file);
}

/** Between processes and threads. Where there can be none, it is done without. */
class Lock {
 public:
  explicit Lock(const std::filesystem::path& path) : file_(open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666)) {
    if (file_ >= 0) flock(file_, LOCK_EX);
  }
  ~Lock() {
    if (file_ >= 0) close(file_);
  }
  Lock(const Lock&) = delete;

 private:
  int file_;
};

}  // namespace

std::string textOf(const Choices& choices) {
  std::string text;
  for (const auto& [key, choice] : choices) text += choice + '\t' + key + '\n';
  return text;
}

Choices choicesFrom(const std::string& text) {
  std::istringstream lines(text);
  return parse(lines);
}

Choices knownChoices(const std::string& text, const std::string& target) {
  Choices choices = choicesFrom(text);
  choices.merge(stored(target));
  return choices;
}

Choices saveChoices(const std::string& target, const Choices& choices) {
  if (folder().empty()) return choices;
  std::error_code none;
  std::filesystem::create_directories(folder(), none);
  const Lock lock(folder() / "lock");
  Choices all = stored(target);
  const size_t before = all.size();
  all.insert(choices.begin(), choices.end());
  if (all.size() == before) return all;
  try {
    const auto file = fileOf(target);
    auto temporary = file;
    temporary += '.';
    temporary += std::to_string(std::random_device()());
    {
      std::ofstream out(temporary);
      out << headOf(target) << '\n' << textOf(all);
      if (!out.flush()) throw std::filesystem::filesystem_error("write", temporary, {});
    }
    std::filesystem::rename(temporary, file);
  } catch (const std::exception&) {  // the next run chooses again
  }
  return all;
}

}  // namespace comface
