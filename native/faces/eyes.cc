// Eyes and brows. The lids are two curves in paint coordinates; between them the skin's normal gives way to a ball's.
// ex runs from -1 at the inner corner to 1 at the outer one, so both eyes share every formula.
#include "paint.h"

namespace comface::faces {
namespace {

constexpr float kIris = 0.067f, kPupil = 0.025f;  // radii, units

struct Opening {
  float upper, lower;  // lid heights above the eye's middle at this ex
};

Opening lids(const Landmarks& m, float ex) {
  // The upper lid peaks towards the nose, the lower one sags towards the ear.
  const float e2 = std::min(1.0f, ex * ex), arch = 1 - e2;
  return {m.eyeUpper * std::sqrt(arch) * (0.55f + 0.45f * arch) * (1 - 0.14f * ex),
          -m.eyeLower * arch * (1 + 0.25f * ex)};
}

void paintBall(const Portrait& q, Spot& s, float dx, float dy, float inside, float upper) {
  const Face& f = q.face;
  const float gx = dx - s.side * f.gazeX * 0.062f, gy = dy - f.gazeY * 0.05f - 0.008f;
  const float r = std::sqrt(gx * gx + gy * gy), soft = 0.5f * q.pixel + 0.004f;
  const Vec3 white = linear(0.80f, 0.775f, 0.76f) * (1 - 0.15f * clamp01(f.mottle));
  const float corner = smooth(0.5f, 1.05f, std::fabs(dx) / q.marks.eyeWidth);
  Vec3 c = mix(white, white * Vec3{0.82f, 0.60f, 0.56f}, corner);
  const float fiber = noise(std::atan2(gy, gx) * 9 + f.textureX, r * 40) * q.detail(0.02f);
  Vec3 iris = f.iris * (1.15f + 0.45f * fiber) * mix(1.35f, 0.8f, smooth(0.3f, 0.9f, r / kIris));
  iris = mix(iris, f.iris * 0.22f, smooth(kIris * 0.78f, kIris, r));
  c = mix(c, iris, smooth(kIris + soft, kIris - soft, r));
  c = mix(c, Vec3{0.006f, 0.005f, 0.005f}, smooth(kPupil + soft, kPupil - soft, r));
  // The lid and its lashes shade the top of the ball.
  const float shade = smooth(0.055f, 0.0f, upper - dy);
  c = c * (1 - 0.62f * shade);
  s.tint(c, inside);
  const Pose& pose = q.scene.pose;
  const float bx = dx / 0.19f * s.side, by = dy / 0.19f;
  const Vec3 ball = pose.right * bx + pose.up * by + pose.front * std::sqrt(std::max(0.2f, 1 - bx * bx - by * by));
  s.finish.normal = mix(s.finish.normal, ball, inside);
  s.tiltX *= 1 - inside, s.tiltY *= 1 - inside;
  s.finish.occlusion = mix(s.finish.occlusion, 0.9f, inside);
  s.finish.flesh *= 1 - inside;
  s.finish.gloss = mix(s.finish.gloss, 0.10f, inside);
  s.finish.sharpness = mix(s.finish.sharpness, 1, inside);
  // Catch light of the key; painted, because at 64 pixels a true reflection falls between the samples.
  const Vec3& l = q.scene.key.toLight;
  const float cx = dx * s.side - 0.030f * (l.x > 0 ? 1.0f : -1.0f) - 0.01f * l.x - f.gazeX * 0.05f, cy = dy - 0.022f;
  const float spark = hill(cx, cy, 0.014f + 0.35f * q.pixel, 0.014f + 0.35f * q.pixel);
  s.tint(Vec3{1.6f, 1.6f, 1.6f}, inside * 0.85f * spark * std::min(1.0f, 0.02f / q.pixel + 0.25f));
}

}  // namespace

void paintEye(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const float dx = s.ax - m.eyeX, ex = dx / m.eyeWidth;
  const float dy = s.y - m.eyeY - f.eyeTilt * dx * 0.9f;
  if (std::fabs(ex) > 1.55f || dy > 0.25f || dy < -0.16f) return;
  const Opening o = lids(m, ex);
  const float soft = 0.55f * q.pixel + 0.003f, within = smooth(1.04f, 0.97f, std::fabs(ex));
  const float inside = smooth(-soft, soft, o.upper - dy) * smooth(-soft, soft, dy - o.lower) * within;
  const float reach = hill(sq(ex / 1.5f));
  // The crease of the upper lid runs parallel to it; puffy or old lids bury it.
  const float fold =
      o.upper + (0.030f + 0.030f * clamp01(f.lidFold)) * (1 - 0.3f * ex * ex) * (1 - 0.35f * clamp01(f.puff));
  s.crease((dy - fold) / 0.026f, 0.72f * (0.25f + 0.75f * clamp01(f.lidFold)) * reach, 0, 1);
  const float lid = smooth(fold + 0.02f, fold - 0.02f, dy) * smooth(o.upper - 0.01f, o.upper + 0.01f, dy) * reach;
  if (lid > 0) s.tiltY += lid * (0.25f - 8 * (dy - o.upper) * 0.4f);
  const float shadow = clamp01(f.eyeshadow) * smooth(0.145f, 0.01f, dy - o.upper) *
                       smooth(o.upper - 0.01f, o.upper + 0.005f, dy) * reach;
  if (shadow > 0) s.tint(mix(f.makeupColor * Vec3{0.28f, 0.35f, 0.55f}, s.finish.albedo * 0.5f, 0.35f), 0.85f * shadow);
  if (inside > 0) paintBall(q, s, dx, dy, inside, o.upper);
  // Lashes: a dark line along the upper lid, heavier outward; a faint one below.
  const float liner = clamp01(f.eyeliner),
              thick = 0.009f + 0.011f * liner + 0.003f * (1 - clamp01(f.male)) + 0.35f * q.pixel;
  const float wing = smooth(1.10f + 0.22f * liner, 1.0f, std::fabs(ex)) * (0.75f + 0.25f * ex);
  const float strength = (0.62f + 0.35f * liner) * std::min(1.0f, 1.3f * (thick - 0.3f * q.pixel) / thick + 0.15f);
  const float upperLash = hill(sq((dy - o.upper - 0.004f) / thick)) * wing * strength;
  const float lowerLash = hill(sq((dy - o.lower) / (0.007f + 0.3f * q.pixel))) * wing * (0.22f + 0.5f * liner);
  s.tint(linear(0.10f, 0.07f, 0.06f), std::min(0.95f, std::max(upperLash, lowerLash)));
  if (inside <= 0 && dy < o.lower) {  // moist lower rim
    s.tiltY += 0.35f * hill(sq((dy - o.lower + 0.016f) / 0.016f)) * reach;
  }
}

void paintBrow(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  if (s.ax > m.browOuter + 0.08f || s.ax < m.browInner - 0.08f || std::fabs(s.y - m.browY) > 0.22f) return;
  const float k = (s.ax - m.browInner) / (m.browOuter - m.browInner);
  // Rises to a peak two thirds out, then falls; the arch parameter bends it.
  const float arch = 0.036f + 0.038f * f.browArch;
  const float bend = arch * (1 - sq((k - 0.62f) / 0.62f));
  const float middle = m.browY + bend - 0.022f + f.browTilt * 0.05f * (k - 0.5f) - 0.02f * smooth(0.7f, 1.1f, k);
  const float half = std::max(0.012f, 0.033f + f.browThick) * (0.62f + 0.55f * smooth(0, 0.3f, k)) *
                     (1 - 0.62f * smooth(0.45f, 1.05f, k));
  const float d = (s.y - middle) / (half + 0.3f * q.pixel);
  if (std::fabs(d) > 1.6f) return;
  // Hairs lean outward, steeper near the nose.
  const float lean = mix(1.2f, 0.25f, clamp01(k)),
              strand = noise((s.y - lean * s.ax) * 60 * 0.55f + f.textureX, s.ax * 9);
  const float shown = q.detail(0.02f);
  const float edge =
      smooth(1.25f, 0.35f, std::fabs(d) + 0.35f * strand * shown) * smooth(-0.12f, 0.12f, k) * smooth(1.1f, 0.85f, k);
  const float density = clamp01(f.browDensity) * edge * (1 - 0.3f * shown + 0.45f * shown * strand);
  const Vec3 hair = mix(f.hairColor * 0.55f, linear(0.13f, 0.09f, 0.07f), 0.55f + 0.2f * f.hairDark);
  s.tint(hair, clamp01(density));
  s.finish.gloss *= 1 - density;
  s.tiltY += 0.2f * density * d;
}

}  // namespace comface::faces
