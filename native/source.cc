// What every source asks of a plan before it touches memory.
#include "source.h"

#include "core.h"

namespace comface {
namespace {

[[noreturn]] void invalid(const std::string& rule, const char* name, size_t received) {
  throw Error(Code::invalidInput, "Expected " + rule + " for `" + name + "` but received " + std::to_string(received));
}

void checkSamples(const std::vector<uint32_t>& samples, const char* name, size_t sampleCount) {
  for (const uint32_t sample : samples) {
    if (sample >= sampleCount) invalid("sample numbers below " + std::to_string(sampleCount), name, sample);
  }
}

}  // namespace

void checkPlan(const Plan& plan, size_t sampleCount) {
  if (plan.pairs < 1)
    throw Error(Code::invalidInput, "Expected at least 1 for `pairs` but received " + std::to_string(plan.pairs));
  if (plan.views < 1 || plan.views > 3) invalid("1, 2 or 3", "views", plan.views);
  if (plan.x.size() < static_cast<size_t>(plan.pairs)) invalid("at least `pairs` entries", "x", plan.x.size());
  if (plan.augment && plan.y.size() != plan.x.size()) invalid("as many entries as x", "y", plan.y.size());
  if (plan.augment && plan.target.size() != plan.x.size())
    invalid("as many entries as x", "target", plan.target.size());
  checkSamples(plan.x, "x", sampleCount);
  if (plan.augment) checkSamples(plan.y, "y", sampleCount);
}

}  // namespace comface
