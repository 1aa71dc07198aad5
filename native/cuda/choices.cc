// The file is text: a line that names form and target, then a line "choice<tab>key" for each. Whatever is not that is
// passed over, and a new file replaces the old one in one step.
#include "cuda/choices.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace comface::cuda {
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

}  // namespace

std::string textOf(const Choices& choices) {
  std::string text;
  for (const auto& [key, choice] : choices) text += choice + '\t' + key + '\n';
  return text;
}

Choices choicesFrom(std::istream& lines) {
  Choices choices;
  std::string line;
  while (std::getline(lines, line)) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos) choices[line.substr(tab + 1)] = line.substr(0, tab);
  }
  return choices;
}

Choices loadChoices(const std::string& target) {
  if (folder().empty()) return {};
  std::ifstream file(fileOf(target));
  std::string line;
  if (!std::getline(file, line) || line != headOf(target)) return {};
  return choicesFrom(file);
}

void saveChoices(const std::string& target, const Choices& choices) noexcept {
  try {
    if (folder().empty()) return;
    Choices all = loadChoices(target);
    const size_t before = all.size();
    all.insert(choices.begin(), choices.end());
    if (all.size() == before) return;
    std::filesystem::create_directories(folder());
    const auto file = fileOf(target);
    auto temporary = file;
    temporary += "." + std::to_string(getpid());
    {
      std::ofstream out(temporary);
      out << headOf(target) << '\n' << textOf(all);
      if (!out.flush()) throw std::filesystem::filesystem_error("write", temporary, {});
    }
    std::filesystem::rename(temporary, file);
  } catch (...) {  // the next run asks cuDNN again
  }
}

}  // namespace comface::cuda
