// Eyes and brows. The lids are two curves in paint coordinates; between them the skin's normal gives way to a ball's.
// ex runs from -1 at the inner corner to 1 at the outer one, so both eyes share every formula.
#include "curves.h"
#include "paint.h"

namespace comface::faces::COMFACE_ISA {
namespace {

constexpr float kIris = 0.067f, kPupil = 0.025f;  // radii, units

// White, iris, pupil and the shade of the lid, before light; gx and gy are measured from the middle of the iris.
Vec3s ballColor(const Portrait& q, const Lanes& gx, const Lanes& gy, const Lanes& corner, const Lanes& below) {
  const Face& f = q.face;
  const Lanes r = root(gx * gx + gy * gy), inverse = 1 / (r + 1e-4f);
  const float soft = 0.5f * q.pixel + 0.004f, visible = q.detail(0.02f);
  const Vec3 white = linear(0.80f, 0.775f, 0.76f) * (1 - 0.15f * clamp01(f.mottle));
  Vec3s c = mix(white, white * Vec3{0.82f, 0.60f, 0.56f}, corner);
  const Lanes fiber =
      visible > 0 ? noise(gx * inverse * 6 + f.textureX, gy * inverse * 6 + r * 20 + 64) * visible : kNone;
  Vec3s iris = f.iris * ((1.15f + 0.45f * fiber) * mix(1.35f, 0.8f, smooth(0.3f * kIris, 0.9f * kIris, r)));
  iris = mix(iris, f.iris * 0.22f, smooth(kIris * 0.78f, kIris, r));
  c = mix(c, iris, smooth(kIris + soft, kIris - soft, r));
  c = mix(c, Vec3{0.006f, 0.005f, 0.005f}, smooth(kPupil + soft, kPupil - soft, r));
  // The lid and its lashes shade the top of the ball.
  return c * (1 - 0.62f * smooth(0.055f, 0.0f, below));
}

void paintBall(const Portrait& q, Spot& s, const Lanes& dx, const Lanes& dy, const Lanes& inside, const Lanes& upper) {
  const Face& f = q.face;
  const auto iris = irisOf(f, s.side);
  const Lanes gx = dx - iris.x, gy = dy - iris.y;
  const Lanes corner = smooth(0.5f * q.marks.eyeWidth, 1.05f * q.marks.eyeWidth, magnitude(dx));
  s.tint(ballColor(q, gx, gy, corner, upper - dy), inside);
  const Pose& pose = q.scene.pose;
  const Lanes bx = dx * s.side * (1 / 0.19f), by = dy * (1 / 0.19f);
  const Vec3s ball = pose.right * bx + pose.up * by + pose.front * root(larger(1 - bx * bx - by * by, 0.2f));
  s.finish.normal = mix(s.finish.normal, ball, inside);
  s.tiltX *= 1 - inside, s.tiltY *= 1 - inside;
  s.finish.occlusion = mix(s.finish.occlusion, spread(0.9f), inside);
  s.finish.flesh *= 1 - inside;
  s.finish.gloss = mix(s.finish.gloss, spread(0.10f), inside);
  s.finish.sharpness = mix(s.finish.sharpness, spread(1), inside);
  // Catch light of the key; painted, because at 64 pixels a true reflection falls between the samples.
  const Vec3& l = q.scene.key.toLight;
  const float size = 0.014f + 0.35f * q.pixel;
  const Lanes cx = dx * s.side - (0.030f * (l.x > 0 ? 1.0f : -1.0f) + 0.01f * l.x + f.gazeX * 0.05f), cy = dy - 0.022f;
  const float strength = 0.85f * std::min(1.0f, 0.02f / q.pixel + 0.25f);
  s.tint(Vec3{1.6f, 1.6f, 1.6f}, strength * inside * hill(cx, cy, size, size));
}

// The crease of the upper lid runs parallel to it; puffy or old lids bury it. Shadow is put between the two.
void paintLid(const Portrait& q, Spot& s, const Lanes& ex, const Lanes& dy, const Lanes& upper) {
  const Face& f = q.face;
  const Lanes reach = ridge(ex, 1.5f);
  const Lanes fold =
      upper + (0.030f + 0.030f * clamp01(f.lidFold)) * (1 - 0.35f * clamp01(f.puff)) * (1 - 0.3f * ex * ex);
  s.crease((dy - fold) * (1 / 0.026f), 0.72f * (0.25f + 0.75f * clamp01(f.lidFold)) * reach, 0.0f, 1.0f);
  const Lanes lid = smooth(0.02f, -0.02f, dy - fold) * smooth(-0.01f, 0.01f, dy - upper) * reach;
  s.tiltY += lid * (0.25f - 3.2f * (dy - upper));
  const float shadow = clamp01(f.eyeshadow);
  if (shadow <= 0) return;
  const Lanes painted = shadow * smooth(0.145f, 0.01f, dy - upper) * smooth(-0.01f, 0.005f, dy - upper) * reach;
  s.tint(mix(f.makeupColor * Vec3{0.28f, 0.35f, 0.55f}, s.finish.albedo * 0.5f, 0.35f), 0.85f * painted);
}

}  // namespace

void paintEye(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const Lanes dx = s.ax - m.eyeX, ex = dx * (1 / m.eyeWidth), dy = s.y - m.eyeY - f.eyeTilt * 0.9f * dx;
  const Mask near = (magnitude(ex) < 1.55f) & (dy < 0.25f) & (dy > -0.16f);
  if (!any(near)) return;
  const Opening o = lids(m, ex);
  const float soft = 0.55f * q.pixel + 0.003f;
  const Lanes within = smooth(1.04f, 0.97f, magnitude(ex)) * amount(near);
  const Lanes inside = smooth(-soft, soft, o.upper - dy) * smooth(-soft, soft, dy - o.lower) * within;
  paintLid(q, s, near ? ex : spread(2), dy, o.upper);
  if (any(inside > 0)) paintBall(q, s, dx, dy, inside, o.upper);
  // Lashes: a dark line along the upper lid, heavier outward; a faint one below.
  const float liner = clamp01(f.eyeliner),
              thick = 0.009f + 0.011f * liner + 0.003f * (1 - clamp01(f.male)) + 0.35f * q.pixel;
  const Lanes wing = smooth(1.10f + 0.22f * liner, 1.0f, magnitude(ex)) * (0.75f + 0.25f * ex) * amount(near);
  const float strength = (0.62f + 0.35f * liner) * std::min(1.0f, 1.3f * (thick - 0.3f * q.pixel) / thick + 0.15f);
  const Lanes upperLash = ridge(Lanes(dy - o.upper - 0.004f), thick) * wing * strength;
  const Lanes lowerLash = ridge(Lanes(dy - o.lower), 0.007f + 0.3f * q.pixel) * wing * (0.22f + 0.5f * liner);
  s.tint(linear(0.10f, 0.07f, 0.06f), clamp01(smaller(larger(upperLash, lowerLash), 0.95f)));
  // Moist lower rim.
  const Lanes rim = ridge(Lanes(dy - o.lower + 0.016f), 0.016f) * ridge(ex, 1.5f);
  s.tiltY += (inside <= 0) & (dy < o.lower) & near ? 0.35f * rim : kNone;
}

void paintBrow(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const Mask near = (s.ax < m.browOuter + 0.08f) & (s.ax > m.browInner - 0.08f) & (magnitude(s.y - m.browY) < 0.22f);
  if (!any(near)) return;
  const Lanes k = (s.ax - m.browInner) * (1 / (m.browOuter - m.browInner));
  const Lanes middle = browLine(f, m, k);
  const Lanes half = std::max(0.012f, 0.033f + f.browThick) * (0.62f + 0.55f * smooth(0.0f, 0.3f, k)) *
                     (1 - 0.62f * smooth(0.45f, 1.05f, k));
  const Lanes d = (s.y - middle) / (half + 0.3f * q.pixel);
  const Mask hairy = near & (magnitude(d) <= 1.6f);
  if (!any(hairy)) return;
  // Hairs lean outward, steeper near the nose.
  const float shown = q.detail(0.02f);
  const Lanes lean = mix(1.2f, 0.25f, clamp01(k));
  const Lanes strand = shown > 0 ? shown * noise((s.y - lean * s.ax) * 33 + f.textureX, s.ax * 9) : kNone;
  const Lanes edge =
      smooth(1.25f, 0.35f, magnitude(d) + 0.35f * strand) * smooth(-0.12f, 0.12f, k) * smooth(1.1f, 0.85f, k);
  const Lanes density =
      clamp01(Lanes(clamp01(f.browDensity) * edge * (1 - 0.3f * shown + 0.45f * strand) * amount(hairy)));
  s.tint(mix(f.hairColor * 0.55f, linear(0.13f, 0.09f, 0.07f), 0.55f + 0.2f * f.hairDark), density);
  s.finish.gloss *= 1 - density;
  s.tiltY += 0.2f * density * d;
}

}  // namespace comface::faces::COMFACE_ISA
