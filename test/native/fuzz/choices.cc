// Fuzzes the reader of a backend's choices, a text that a checkpoint's manifest or the cache brings: lines
// "choice<tab>key", each of which counts, the last of a key most, and whatever is not such a line is passed over.
#include "choices.h"

#include "bytes.h"

namespace {
comface::fuzz::Tally tally;

/** The same, letter by letter. */
comface::Choices plainly(const std::string& text) {
  comface::Choices choices;
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
  const Choices choices = choicesFrom(text);
  fuzz::require(choices == plainly(text), "an entry for each line with a tab, and nothing else");
  const std::string written = textOf(choices);
  const Choices again = choicesFrom(written);
  fuzz::require(again == choices, "what is written is read again");
  fuzz::require(textOf(again) == written, "and written the same");
  if (!choices.empty()) ++tally.accepted;
  return 0;
}
