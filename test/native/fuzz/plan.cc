// Fuzzes the plan decoder: plans, augmentation settings, Adam's numbers, shots and sets of images as the native door
// reads them, then what every source asks of a plan. A view of a small picture is made with each settings that is
// accepted, and the averages of a small image with each set.
#include <cmath>

#include "augment.h"
#include "average.h"
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

void checkAverages(Bytes& bytes) {
  const ImageSet set = imageSetFrom(ByteRecord(bytes));
  require(set.size >= 1 && set.size <= set.edge && set.count >= 1 && set.quality <= 100, "a picture within its image");
  if (set.edge > 40) return;
  std::vector<float> image(size_t{3} * set.edge * set.edge);
  for (float& value : image) value = static_cast<float>(bytes.number());
  const Picture picture = averaged(image, set.edge, set.size, "picture");
  require(picture.rgb.size() == size_t{3} * set.size * set.size, "a picture of its size");
}

}  // namespace
}  // namespace comface::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace comface;
  fuzz::Bytes bytes(data, size);
  const fuzz::ByteRecord record(bytes);
  try {
    switch (bytes.byte() % 5) {
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
      case 3:
        fuzz::checkAverages(bytes);
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
