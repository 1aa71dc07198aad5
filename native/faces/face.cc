// One picture from start to end: person, attribute, moment, surfaces, shadows, painting, camera.
// Surfaces are drawn back to front; the order matters where one is half transparent.
#include "face.h"

#include <memory>
#include <mutex>

#include "accessories.h"
#include "hair.h"
#include "paint.h"

namespace comface::faces::COMFACE_ISA {
namespace {

// What one picture is drawn with; its memory is used again for the next one.
struct Studio {
  Surface head, neck, torso, earLeft, earRight, cap, hairBack, hairLeft, hairRight, thing;
  bool hasCurtain = false;
  Raster raster;
  Layer headLayer;
};

// Studios at rest between pictures: threads come and go with each call, and fresh memory costs a tenth of a picture.
// Few and small ones are kept, some 8 MiB each. Never destroyed, since a thread may still draw while the process ends.
class Shelf {
 public:
  std::unique_ptr<Studio> take() {
    const std::lock_guard lock(mutex_);
    if (studios_.empty()) return std::make_unique<Studio>();
    std::unique_ptr<Studio> studio = std::move(studios_.back());
    studios_.pop_back();
    return studio;
  }
  void putBack(std::unique_ptr<Studio> studio) {
    constexpr int kLargest = 256;  // pixels
    const std::lock_guard lock(mutex_);
    if (studios_.size() < 4 && studio->raster.size() <= kLargest) studios_.push_back(std::move(studio));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Studio>> studios_;
};

void buildBody(const Face& face, const Landmarks& marks, const Scene& scene, int size, Studio& b) {
  // Two pixels or so a cell; painting is per pixel, so the mesh only carries shape.
  const int cols = std::clamp(size / 4 | 1, 29, 89), rows = std::clamp(size * 5 / 16, 32, 96);
  buildHead(face, marks, scene.pose, rows, cols, b.head);
  buildNeck(face, marks, scene.pose, size, b.neck);
  buildTorso(face, scene.pose, size, b.torso);
  buildEar(face, scene.pose, -1, b.earLeft);
  buildEar(face, scene.pose, 1, b.earRight);
  buildCap(face, marks, b.head, b.cap);
  b.hasCurtain = face.hairLength > 0.01f;
  if (b.hasCurtain) {
    // The back reaches under the sides, or the backdrop would show in the seam.
    constexpr float kUnder = kCurtainBack - 0.2f;
    buildCurtain(face, scene.pose, kUnder, 6.2831853f - kUnder, rows / 3, cols / 3, b.hairBack);
    buildCurtain(face, scene.pose, -kCurtainBack, -kCurtainStart, rows / 2, cols / 4, b.hairLeft);
    buildCurtain(face, scene.pose, kCurtainStart, kCurtainBack, rows / 2, cols / 4, b.hairRight);
  }
  Surface* all[] = {&b.head, &b.neck,     &b.torso,    &b.earLeft,  &b.earRight,
                    &b.cap,  &b.hairBack, &b.hairLeft, &b.hairRight};
  castShadows(scene, all, b.hasCurtain ? 9 : 6);
  hideScalp(face, b.cap, b.head);
}

void drawBody(const Portrait& q, Studio& b) {
  Raster& raster = b.raster;
  const auto plain = [&q](const Place& at) { return paintPlainSkin(q, at); };
  const auto curtain = [&q](const Place& at) { return paintCurtain(q, at); };
  // The head is opaque and hides much of the rest, so it is placed first and painted last.
  raster.scan(b.head, b.headLayer);
  raster.hideBehind(&b.headLayer);
  if (b.hasCurtain) raster.draw(b.hairBack, curtain);
  raster.draw(b.torso, [&q](const Place& at) { return paintTorso(q, at); });
  raster.draw(b.neck, [&q](const Place& at) { return paintNeck(q, at); });
  raster.draw(b.earLeft, plain);
  raster.draw(b.earRight, plain);
  raster.hideBehind(nullptr);
  raster.paint(b.head, b.headLayer, [&q](const Place& at) { return paintSkin(q, at); });
  if (b.hasCurtain) {
    raster.draw(b.hairLeft, curtain);
    raster.draw(b.hairRight, curtain);
  }
  raster.draw(b.cap, [&q](const Place& at) { return paintCap(q, at); });
}

void drawThings(const Portrait& q, int size, Studio& b) {
  const Pose& pose = q.scene.pose;
  Raster& raster = b.raster;
  Surface& thing = b.thing;
  const auto hat = [&q](const Place& at) { return paintHat(q, at); };
  if (q.face.earrings > 0.01f) {
    for (const float side : {-1.0f, 1.0f}) {
      buildEarring(q.face, pose, side, thing);
      raster.draw(thing, [&q](const Place& at) { return paintEarring(q, at); });
    }
  }
  if (q.face.hat > 0.01f) {
    buildHat(q.face, b.head, thing);
    raster.draw(thing, hat);
    if (q.face.hatStyle == 1) {
      buildBrim(q.face, pose, thing);
      raster.draw(thing, hat);
    }
  }
  if (q.face.glasses > 0.01f) {
    for (const float side : {-1.0f, 1.0f}) {
      buildTemple(q.face, pose, side, thing);
      raster.draw(thing, [&q](const Place& at) { return paintTemple(q, at); });
    }
    buildGlasses(q.face, q.marks, pose, size, thing);
    raster.draw(thing, [&q](const Place& at) { return paintGlasses(q, at); });
  }
}

}  // namespace

Face makeSitter(const Shot& shot, const Scene& scene) {
  Face face = makeIdentity(shot.seed, shot.subject);
  for (const auto& [attribute, alpha] : shot.changes) {
    if (attribute >= 0) applyAttribute(face, attribute, alpha);
  }
  applyExpression(face, scene);
  finishFace(face);
  return face;
}

void render(const Shot& shot, int size, uint8_t* rgb) {
  static Shelf* const shelf = new Shelf;
  std::unique_ptr<Studio> borrowed = shelf->take();
  Studio& studio = *borrowed;
  const Scene scene = makeScene(shot, size);
  const Face face = makeSitter(shot, scene);
  const Landmarks marks = findLandmarks(face);
  buildBody(face, marks, scene, size, studio);
  studio.raster.begin(size, scene.lens);
  const Portrait portrait{face, marks, scene, studio.raster.pixelSize(), skinColor(face)};
  paintBackdrop(scene, studio.raster);
  drawBody(portrait, studio);
  drawThings(portrait, size, studio);
  develop(scene, face.blur, studio.raster, rgb);
  shelf->putBack(std::move(borrowed));
}

}  // namespace comface::faces::COMFACE_ISA
