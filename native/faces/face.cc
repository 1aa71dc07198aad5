// One picture from start to end: person, attribute, moment, surfaces, shadows, painting, camera.
// Surfaces are drawn back to front; the order matters where one is half transparent.
#include "face.h"

#include "accessories.h"
#include "hair.h"
#include "paint.h"

namespace comface::faces {
namespace {

struct Body {
  Surface head, neck, torso, earLeft, earRight, cap;
  Surface hairBack, hairLeft, hairRight;
  bool hasCurtain = false;
};

Body buildBody(const Face& face, const Landmarks& marks, const Scene& scene, int size) {
  // Two pixels or so a cell; painting is per pixel, so the mesh only carries shape.
  const int cols = std::clamp(size / 4 | 1, 33, 89), rows = std::clamp(size * 5 / 16, 38, 96);
  Body b;
  buildHead(face, marks, scene.pose, rows, cols, b.head);
  buildNeck(face, marks, scene.pose, b.neck);
  buildTorso(face, scene.pose, b.torso);
  buildEar(face, scene.pose, -1, b.earLeft);
  buildEar(face, scene.pose, 1, b.earRight);
  buildCap(face, marks, b.head, b.cap);
  b.hasCurtain = face.hairLength > 0.01f;
  if (b.hasCurtain) {
    buildCurtain(face, scene.pose, kCurtainBack, 6.2831853f - kCurtainBack, rows / 3, cols / 3, b.hairBack);
    buildCurtain(face, scene.pose, -kCurtainBack, -kCurtainStart, rows / 2, cols / 4, b.hairLeft);
    buildCurtain(face, scene.pose, kCurtainStart, kCurtainBack, rows / 2, cols / 4, b.hairRight);
  }
  Surface* all[] = {&b.head, &b.neck,     &b.torso,    &b.earLeft,  &b.earRight,
                    &b.cap,  &b.hairBack, &b.hairLeft, &b.hairRight};
  castShadows(scene, all, b.hasCurtain ? 9 : 6);
  hideScalp(face, b.cap, b.head);
  return b;
}

void drawBody(const Portrait& q, const Body& b, Raster& raster) {
  const auto plain = [&q](const Vertex& at, int, int) { return paintPlainSkin(q, at); };
  if (b.hasCurtain) raster.draw(b.hairBack, [&q](const Vertex& at, int, int) { return paintCurtain(q, at); });
  raster.draw(b.torso, [&q](const Vertex& at, int, int) { return paintTorso(q, at); });
  raster.draw(b.neck, [&q](const Vertex& at, int, int) { return paintNeck(q, at); });
  raster.draw(b.earLeft, plain);
  raster.draw(b.earRight, plain);
  raster.draw(b.head, [&q](const Vertex& at, int, int) { return paintSkin(q, at); });
}

void drawHair(const Portrait& q, const Body& b, Raster& raster) {
  if (b.hasCurtain) {
    raster.draw(b.hairLeft, [&q](const Vertex& at, int, int) { return paintCurtain(q, at); });
    raster.draw(b.hairRight, [&q](const Vertex& at, int, int) { return paintCurtain(q, at); });
  }
  raster.draw(b.cap, [&q](const Vertex& at, int, int) { return paintCap(q, at); });
}

void drawThings(const Portrait& q, const Body& b, int size, Raster& raster) {
  const Pose& pose = q.scene.pose;
  Surface thing;
  if (q.face.earrings > 0.01f) {
    for (const float side : {-1.0f, 1.0f}) {
      buildEarring(q.face, pose, side, thing);
      raster.draw(thing, [&q](const Vertex& at, int, int) { return paintEarring(q, at); });
    }
  }
  if (q.face.hat > 0.01f) {
    buildHat(q.face, b.head, thing);
    raster.draw(thing, [&q](const Vertex& at, int, int) { return paintHat(q, at); });
    if (q.face.hatStyle == 1) {
      buildBrim(q.face, pose, thing);
      raster.draw(thing, [&q](const Vertex& at, int, int) { return paintHat(q, at); });
    }
  }
  if (q.face.glasses > 0.01f) {
    for (const float side : {-1.0f, 1.0f}) {
      buildTemple(q.face, pose, side, thing);
      raster.draw(thing, [&q](const Vertex& at, int, int) { return paintTemple(q, at); });
    }
    buildGlasses(q.face, q.marks, pose, size, thing);
    raster.draw(thing, [&q](const Vertex& at, int, int) { return paintGlasses(q, at); });
  }
}

}  // namespace

void render(const Shot& shot, int size, uint8_t* rgb) {
  Face face = makeIdentity(shot.seed, shot.subject);
  const Scene scene = makeScene(shot.seed, shot.subject, shot.photo, shot.domain, size);
  if (shot.attribute >= 0) applyAttribute(face, shot.attribute, shot.alpha);
  applyExpression(face, scene);
  finishFace(face);
  const Landmarks marks = findLandmarks(face);
  const Body body = buildBody(face, marks, scene, size);
  Raster raster(size, scene.lens);
  const Portrait portrait{face, marks, scene, raster.pixelSize(), skinColor(face)};
  paintBackdrop(scene, raster);
  drawBody(portrait, body, raster);
  drawHair(portrait, body, raster);
  drawThings(portrait, body, size, raster);
  develop(scene, face.blur, raster, rgb);
}

}  // namespace comface::faces
