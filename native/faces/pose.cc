// How somebody holds the head: pose and expression of a photograph, and how both drift from frame to frame of a video.
// The order of the draws is part of the format: add new ones at the end.
#include "noise.h"
#include "scene.h"

namespace comface::faces::COMFACE_ISA {
namespace {

constexpr float kDegree = 0.0174532925f;
constexpr int kKeyFrames = 48;  // between two poses of a video that are drawn; in between the head drifts

struct Stance {
  float yaw, pitch, roll;  // degrees
  float acrossX, acrossY;  // units
};

Stance drawStance(Random& r) {
  Stance s;
  s.yaw = std::clamp(13.0f * r.normal(), -30.0f, 30.0f);
  s.pitch = std::clamp(6.0f * r.normal(), -14.0f, 14.0f);
  s.roll = std::clamp(4.0f * r.normal(), -10.0f, 10.0f);
  // A face detector frames the features whatever the pose, but not to the pixel: boxes wander by a few percent of the
  // picture.
  s.acrossX = std::clamp(0.11f * r.normal(), -0.24f, 0.24f);
  s.acrossY = std::clamp(0.11f * r.normal(), -0.24f, 0.24f);
  return s;
}

// What is added to a video's stance and expression at one moment.
struct Drift {
  Stance stance;
  float smile, squint, browLift, gazeX, gazeY;
};

Drift drawDrift(const Shot& shot, uint32_t key) {
  Random r(shot.seed, shot.subject, shot.photo, kMotion, key);
  return {{4.0f * r.normal(), 2.5f * r.normal(), 1.5f * r.normal(), 0.02f * r.normal(), 0.02f * r.normal()},
          0.02f * r.normal(),
          0.03f * r.normal(),
          0.004f * r.normal(),
          0.1f * r.normal(),
          0.05f * r.normal()};
}

Drift driftOf(const Shot& shot) {
  if (shot.frame < 0) return {};
  const auto key = static_cast<uint32_t>(shot.frame / kKeyFrames);
  const float t = smooth(0, 1, static_cast<float>(shot.frame % kKeyFrames) * (1.0f / kKeyFrames));
  const Drift a = drawDrift(shot, key), b = drawDrift(shot, key + 1);
  const auto at = [t](float x, float y) { return mix(x, y, t); };
  return {{at(a.stance.yaw, b.stance.yaw), at(a.stance.pitch, b.stance.pitch), at(a.stance.roll, b.stance.roll),
           at(a.stance.acrossX, b.stance.acrossX), at(a.stance.acrossY, b.stance.acrossY)},
          at(a.smile, b.smile),
          at(a.squint, b.squint),
          at(a.browLift, b.browLift),
          at(a.gazeX, b.gazeX),
          at(a.gazeY, b.gazeY)};
}

// `moves`: 1, or 0 for a head that looks straight into the lens from the middle of the picture.
Pose poseOf(const Stance& s, const Stance& drift, float moves) {
  const float yaw = s.yaw * (moves * kDegree) + drift.yaw * kDegree;
  const float pitch = s.pitch * (moves * kDegree) + drift.pitch * kDegree;
  const float roll = s.roll * (moves * kDegree) + drift.roll * kDegree;
  const float cy = cosine(yaw), sy = sine(yaw), cp = cosine(pitch), sp = sine(pitch);
  const float cr = cosine(roll), sr = sine(roll);
  Pose p;
  const auto turn = [&](const Vec3& d) {
    const Vec3 a{cy * d.x + sy * d.z, d.y, -sy * d.x + cy * d.z};
    const Vec3 b{a.x, cp * a.y + sp * a.z, -sp * a.y + cp * a.z};
    return Vec3{cr * b.x - sr * b.y, sr * b.x + cr * b.y, b.z};
  };
  p.right = turn({1, 0, 0}), p.up = turn({0, 1, 0}), p.front = turn({0, 0, 1});
  p.pivot = {0, -0.55f, 0.05f};
  p.offset = {0, 0, 0};
  const Vec3 middle{0, -0.25f, 0.75f}, moved = p.place(middle);
  const float acrossX = moves * s.acrossX + drift.acrossX, acrossY = moves * s.acrossY + drift.acrossY;
  p.offset = {-0.85f * moved.x + acrossX, -0.85f * (moved.y - middle.y) + acrossY, 0};
  return p;
}

}  // namespace

float movesOf(const Shot& shot) {
  if (shot.photo == kPlainPhoto) return 0;
  return shot.frame < 0 ? 1.0f : 0.4f;  // who is filmed sits in front of the camera
}

void holdStill(const Shot& shot, Scene& s) {
  Random pose(shot.seed, shot.subject, shot.photo, kPose), mood(shot.seed, shot.subject, shot.photo, kExpression);
  const float moves = movesOf(shot);
  const Drift drift = driftOf(shot);
  s.pose = poseOf(drawStance(pose), drift.stance, moves);
  s.smile = moves * 0.10f * mood.normal() + drift.smile;
  s.open = moves * 0.05f * std::max(0.0f, mood.normal());
  s.squint = moves * 0.05f * mood.normal() + drift.squint;
  s.browLift = moves * 0.010f * mood.normal() + drift.browLift;
  s.gazeX = moves * 0.2f * mood.normal() + drift.gazeX;
  s.gazeY = moves * 0.1f * mood.normal() + drift.gazeY;
}

void applyExpression(Face& face, const Scene& s) {
  face.smile += s.smile;
  face.open += s.open;
  face.squint += s.squint;
  face.browY += s.browLift;
  // Eyes mostly look at the lens, so they turn against the head.
  face.gazeX = std::clamp(s.gazeX - 1.6f * s.pose.front.x, -0.8f, 0.8f);
  face.gazeY = std::clamp(s.gazeY - 1.2f * s.pose.front.y, -0.5f, 0.5f);
}

}  // namespace comface::faces::COMFACE_ISA
