// What a backend chose among ways that differ in their last bits, in earlier runs: one small file for each device and
// library version. The same ways give the same bits, and need not be looked for again.
#pragma once
#include <map>
#include <string>

namespace comface {

/** By key of the operation: what was chosen for it. */
using Choices = std::map<std::string, std::string>;

/** `text`, Graph::choices of an earlier run of this training, before what was stored for `target`. */
Choices knownChoices(const std::string& text, const std::string& target);
/** Adds to what is stored, where the first to store a choice is right, and returns all of it. A cache: where it cannot
 * be written, nothing is stored. */
Choices saveChoices(const std::string& target, const Choices& choices);

/** As lines "choice<tab>key", and back; what is not such a line is passed over. */
std::string textOf(const Choices& choices);
Choices choicesFrom(const std::string& text);

}  // namespace comface
