// Fuzzes the reader of cuDNN's choices, a text that a checkpoint's manifest or the cache brings: lines
// "choice<tab>key", each of which counts, the last of a key most, and whatever is not such a line is passed over.
#include "cuda/choices.h"

#include <sstream>

#include "bytes.h"

namespace {
comface::fuzz::Tally tally;

comface::cuda::Choices read(const std::string& text) {
  std::istringstream lines(text);
  return comface::cuda::choicesFrom(lines);
}

/** The same, letter by letter. */
comface::cuda::Choices plainly(const std::string& text) {
  comface::cuda::Choices choices;
  std::string choice, key;
  bool isKey = false;
  for (size_t i = 0; i <= text.size(); ++i) {
    const bool isEnd = i == text.size() || text[i] == '\n';
    if (!isEnd && !isKey && text[i] == '\t') {
      isKey = true;
    } else if (!isEnd) {
      (isKey ? key : choice) += text[i];
    } else {
      if (isKey) choices[key] = choice;
      choice.clear(), key.clear(), isKey = false;
    }
  }
  return choices;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comface;
  // Few letters, so that lines and keys meet again; one input in four as it is.
  std::string text(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] % 4 != 0) {
    for (char& c : text) c = "ab-1=\t\n\r"[static_cast<uint8_t>(c) % 8];
  }
  const cuda::Choices choices = read(text);
  fuzz::require(choices == plainly(text), "an entry for each line with a tab, and nothing else");
  const std::string written = cuda::textOf(choices);
  const cuda::Choices again = read(written);
  fuzz::require(again == choices, "what is written is read again");
  fuzz::require(cuda::textOf(again) == written, "and written the same");
  if (!choices.empty()) ++tally.accepted;
  return 0;
}
