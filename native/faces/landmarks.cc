// Where the drawn features lie in the picture: points in paint coordinates, on the lines that the painters fill, are
// raised on the head that is drawn, turned with it and seen through the same lens.
#include "curves.h"
#include "face.h"

namespace comface::faces::COMFACE_ISA {
namespace {

// From here on the skin bends away from a camera in front: the outline of the face, roughly.
constexpr float kOutline = 1.35f;  // radians from the front

// The first number of each part in iBUG's order.
constexpr int kBrows = 17, kNose = 27, kEyes = 36, kMouth = 48, kInnerMouth = 60, kPupils = 68;

struct Plan {
  float x[kLandmarkCount], y[kLandmarkCount];  // features of the face: paint coordinates but for its asymmetry
  void set(int i, float atX, float atY) { x[i] = atX, y[i] = atY; }
};

// side: -1 for the left of the picture.
void planEye(const Face& f, const Landmarks& m, float side, Plan& plan) {
  // The corner on the left of the picture comes first, then upper and lower lid, clockwise.
  const int first = kEyes + (side < 0 ? 0 : 6);
  const Lanes ex = {1, 0.4f, -0.4f, -1};
  const Opening lid = lids(m, ex);
  const auto at = [&](int i, float dx, float dy) {
    plan.set(i, side * (m.eyeX + dx), m.eyeY + f.eyeTilt * 0.9f * dx + dy);
  };
  for (int i = 0; i < 4; ++i) at(first + (side < 0 ? i : 3 - i), ex[i] * m.eyeWidth, lid.upper[i]);
  at(first + (side < 0 ? 4 : 5), ex[2] * m.eyeWidth, lid.lower[2]);
  at(first + (side < 0 ? 5 : 4), ex[1] * m.eyeWidth, lid.lower[1]);
  // Of an eye that is nearly closed the pupil may hide behind a lid: it is where one would see it first.
  const auto iris = irisOf(f, side);
  const float dx = iris.x;
  const Opening around = lids(m, spread(dx / m.eyeWidth));
  const float low = 0.6f * around.lower[0], high = 0.6f * around.upper[0];
  at(kPupils + (side < 0 ? 0 : 1), dx, std::clamp(iris.y, low, high));
}

void planBrows(const Face& f, const Landmarks& m, Plan& plan) {
  for (int i = 0; i < 5; ++i) {
    const float k = 0.25f * static_cast<float>(i), x = mix(m.browInner, m.browOuter, k);
    const float y = browLine(f, m, spread(k))[0];
    plan.set(kBrows + 4 - i, -x, y);
    plan.set(kBrows + 5 + i, x, y);
  }
}

void planNose(const Landmarks& m, Plan& plan) {
  const float tip = m.noseBase + 0.075f, root = m.noseTop - 0.04f;
  for (int i = 0; i < 4; ++i) plan.set(kNose + i, 0, mix(root, tip, static_cast<float>(i) / 3));
  const float wing = 0.6f * m.noseWidth + 0.035f;
  for (int i = 0; i < 5; ++i) {
    const float side = 0.5f * static_cast<float>(i - 2);
    plan.set(kNose + 4 + i, side * wing, m.noseBase - 0.018f + 0.035f * side * side);
  }
}

void planMouth(const Face& f, const Landmarks& m, Plan& plan) {
  // Clockwise from the left corner; lower is the number of the point below an upper one.
  constexpr float kOuter[7] = {-1, -0.62f, -0.25f, 0, 0.25f, 0.62f, 1}, kInner[5] = {-0.82f, -0.4f, 0, 0.4f, 0.82f};
  for (int i = 0; i < 7; ++i) {
    const MouthLines lines = mouthLines(f, m, spread(kOuter[i]));
    const float x = kOuter[i] * m.mouthWidth;
    const bool isCorner = i == 0 || i == 6;
    plan.set(kMouth + i, x, isCorner ? lines.middle[0] : lines.upperEdge[0]);
    if (!isCorner) plan.set(kMouth + 12 - i, x, lines.lowerEdge[0]);
  }
  for (int i = 0; i < 5; ++i) {
    const MouthLines lines = mouthLines(f, m, spread(kInner[i]));
    const float x = kInner[i] * m.mouthWidth;
    const bool isCorner = i == 0 || i == 4;
    plan.set(kInnerMouth + i, x, isCorner ? 0.5f * (lines.top[0] + lines.bottom[0]) : lines.top[0]);
    if (!isCorner) plan.set(kInnerMouth + 8 - i, x, lines.bottom[0]);
  }
}

// The outline from the left of the picture to the right: down beside the eyes, then along the jaw.
void locateJaw(const Skull& skull, Vec3* points) {
  constexpr float kBeside[3] = {0.02f, -0.18f, -0.38f};              // heights
  constexpr float kAlong[6] = {1.2f, 0.97f, 0.74f, 0.5f, 0.25f, 0};  // angles
  for (int i = 0; i <= 8; ++i) {
    const float angle = i < 3 ? kOutline : kAlong[i - 3];
    const Lanes y = spread(i < 3 ? kBeside[i] : skull.jawLine(angle));
    const Lanes angles = {-angle, angle, 0, 0};
    const Vec3s p = raise(skull, sine(angles), cosine(angles), y).p;
    points[i] = {p.x[0], p.y[0], p.z[0]};
    points[16 - i] = {p.x[1], p.y[1], p.z[1]};
  }
}

// Raises the planned points on the head.
void locateFeatures(const Skull& skull, const Plan& plan, Vec3* points) {
  for (int i = kBrows; i < kLandmarkCount; i += kLanes) {
    Lanes across{}, y{};
    for (int k = 0; k < kLanes; ++k) {
      const int at = std::min(i + k, kLandmarkCount - 1);
      y[k] = plan.y[at];
      const float x = plan.x[at] + skull.face.asymmetry * (1 - 0.6f * y[k]);
      across[k] = std::clamp(x / skull.halfWidth(y[k]), -0.99f, 0.99f);
    }
    const Vec3s p = raise(skull, across, root(1 - across * across), y).p;
    for (int k = 0; k < kLanes && i + k < kLandmarkCount; ++k) points[i + k] = {p.x[k], p.y[k], p.z[k]};
  }
}

}  // namespace

void locate(const Shot& shot, int size, float* out) {
  const Scene scene = makeScene(shot, size);
  const Face face = makeSitter(shot, scene);
  const Landmarks marks = findLandmarks(face);
  const Skull skull(face, marks);
  Plan plan{};
  planBrows(face, marks, plan);
  planNose(marks, plan);
  planEye(face, marks, -1, plan);
  planEye(face, marks, 1, plan);
  planMouth(face, marks, plan);
  Vec3 points[kLandmarkCount];
  locateJaw(skull, points);
  locateFeatures(skull, plan, points);
  for (int i = 0; i < kLandmarkCount; ++i) {
    const Vec3 seen = scene.lens.project(scene.pose.place(points[i]));
    out[2 * i] = seen.x, out[2 * i + 1] = seen.y;
  }
}

}  // namespace comface::faces::COMFACE_ISA
