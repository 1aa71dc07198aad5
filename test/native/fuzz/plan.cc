// Fuzzes the plan decoder: plans, augmentation settings, Adam's numbers and shots as the native door reads them, then
// what every source asks of a plan. A view of a small picture is made with each settings that is accepted.
#include <cmath>

#include "augment.h"
#include "bytes.h"

namespace comface::fuzz {
namespace {

Tally tally;

void checkPlanOf(Bytes& bytes) {
  ByteRecord record(bytes);
  const bool plain = bytes.byte() % 4 == 0;
  const uint32_t sampleCount = bytes.byte() % 2 == 0 ? 16 : bytes.byte();
  Plan plan = planFrom(record, {});
  plan.augment = !plain;
  checkPlan(plan, sampleCount);
  require(viewsOf(plan) >= 1 && viewAt(plan, viewsOf(plan) - 1) <= 2, "views that there are");
  require(plan.pairs >= 1 && plan.x.size() >= static_cast<size_t>(plan.pairs), "a sample for each pair");
  for (size_t i = 0; i < plan.x.size(); ++i) {
    require(plan.x[i] < sampleCount, "x of the source");
    require(plain || plan.y.at(i) < sampleCount, "y of the source");
    require(plain || i < plan.target.size(), "a target for each pair");
  }
}

void checkSettings(Bytes& bytes) {
  const ByteRecord record(bytes);
  const AugmentSettings settings = settingsFrom(record);
  static AugmentScratch scratch;
  const int width = 1 + bytes.byte() % 12, height = 1 + bytes.byte() % 12, size = 1 + bytes.byte() % 6;
  Picture picture{width, height, std::vector<uint8_t>(static_cast<size_t>(width) * height * 3)};
  for (uint8_t& value : picture.rgb) value = bytes.byte();
  std::vector<float> view(static_cast<size_t>(size) * size * 3);
  augmentView(picture, size, settings, {bytes.byte(), bytes.byte(), 0, 0}, scratch, view);
  double sum = 0;
  for (const float value : view) sum += value;
  plainView(picture, size, settings, scratch, view);
  for (const float value : view) sum += value;
  require(std::isfinite(sum), "finite pixels");
}

}  // namespace
}  // namespace comface::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comface;
  fuzz::Bytes bytes(data, size);
  const fuzz::ByteRecord record(bytes);
  try {
    switch (bytes.byte() % 4) {
      case 0:
        fuzz::checkSettings(bytes);
        break;
      case 1: {
        const Adam adam = adamFrom(record);
        fuzz::require(adam.step >= 1 && adam.beta1 >= 0 && adam.beta1 <= 1 && adam.epsilon >= 0,
                      "Adam within its ranges");
        break;
      }
      case 2:
        for (const faces::Shot& shot : shotsFrom(record).list) {
          for (const auto& [attribute, alpha] : shot.changes) {
            fuzz::require(attribute >= -1 && attribute < faces::kAttributeCount && std::abs(alpha) <= 5,
                          "a known attribute");
          }
          fuzz::require(shot.frame >= -1 && shot.frame < 1 << 24, "a frame of a video, or none");
        }
        break;
      default:
        fuzz::checkPlanOf(bytes);
    }
    ++fuzz::tally.accepted;
  } catch (const Error& e) {
    fuzz::require(e.code == Code::invalidInput, "invalidInput");
  }
  return 0;
}
