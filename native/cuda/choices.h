// cuDNN's choices of earlier runs, one small file for each device and cuDNN version: the same engines give the same
// bits, and heuristics need not be asked again.
#pragma once
#include <istream>

#include "cuda/planner.h"

namespace comface::cuda {

/** What was stored for `target`; empty where nothing (readable) was. */
Choices loadChoices(const std::string& target);
/** Adds to what is stored. A cache: where it cannot be written, nothing happens. */
void saveChoices(const std::string& target, const Choices& choices) noexcept;

/** As lines "choice<tab>key", and back; what is not such a line is passed over. */
std::string textOf(const Choices& choices);
Choices choicesFrom(std::istream& lines);

}  // namespace comface::cuda
