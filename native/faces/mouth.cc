// Lips, the gap between them, teeth. The mouth is a set of curves y(x) over its half width.
// Below the gap everything is measured from the lower lip, so an opening mouth carries the lip down.
#include "paint.h"

namespace comface::faces {
namespace {

void paintInside(const Portrait& q, Spot& s, float mx, float y, float top, float bottom, float amount) {
  const float depth = top - bottom, k = clamp01((top - y) / std::max(depth, 1e-3f));
  Vec3 c = mix(linear(0.20f, 0.07f, 0.07f), linear(0.48f, 0.20f, 0.20f), smooth(0.55f, 1.0f, k) * 0.6f);
  // Upper teeth fill the gap from above down to their own length.
  const float rank = (std::fabs(mx) * q.marks.mouthWidth) / 0.048f,
              edge = 0.062f * (1 - 0.12f * mx * mx) - 0.006f * noise(rank * 1.7f, 5);
  const float tooth =
      smooth(edge + 0.5f * q.pixel, edge - 0.5f * q.pixel - 0.004f, top - y) * smooth(0.98f, 0.70f, std::fabs(mx));
  const float slot = std::fabs(rank - std::floor(rank) - 0.5f) * 2;
  Vec3 ivory =
      linear(0.92f, 0.89f, 0.82f) * (1 - 0.34f * smooth(0.75f, 1.0f, slot) * q.detail(0.03f)) * (1 - 0.55f * mx * mx);
  ivory = ivory * (0.70f + 0.30f * smooth(0.0f, 0.02f, top - y));
  c = mix(c, ivory, tooth * smooth(0.012f, 0.035f, depth));
  s.tint(c, amount);
  s.finish.occlusion = mix(s.finish.occlusion, 0.55f + 0.40f * tooth, amount);
  s.finish.gloss = mix(s.finish.gloss, 0.25f * tooth, amount);
  s.tiltX *= 1 - amount, s.tiltY *= 1 - amount;
}

Vec3 lipColor(const Face& f, const Vec3& skin) {
  const Vec3 bare = mix(skin * Vec3{0.84f, 0.46f, 0.47f}, linear(0.66f, 0.32f, 0.33f), 0.42f * (1 - f.melanin));
  const Vec3 paler = mix(bare, skin * Vec3{0.95f, 0.80f, 0.78f}, 0.75f * clamp01(-f.lipstick));
  return mix(paler, f.makeupColor, 0.88f * clamp01(f.lipstick));
}

}  // namespace

void paintMouth(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const float mx = s.x / m.mouthWidth, ax = std::fabs(mx);
  if (ax > 1.35f || s.y > m.mouthY + 0.2f || s.y < m.mouthY - 0.36f - m.gap) return;
  const float a2 = std::min(1.0f, ax * ax), span = 1 - a2;
  const float middle = m.mouthY + m.cornerLift * ax * ax;
  const float gap = m.gap * std::sqrt(span) * (0.4f + 0.6f * span);
  // The closed line dips in the middle under the upper lip's bead.
  const float top = middle - 0.008f * hill(mx / 0.35f, 0, 1, 1) + 0.15f * gap, bottom = top - gap;
  const float bow = 0.011f * clamp01(f.bow) * (hill((ax - 0.22f) / 0.24f, 0, 1, 1) - 0.9f * hill(ax / 0.16f, 0, 1, 1));
  const float upperEdge =
      top + m.lipUpper * (1 - ax * std::sqrt(ax) * 0.98f) * std::sqrt(std::max(0.0f, 1 - a2 * a2)) + bow * span;
  const float lowerEdge = bottom - m.lipLower * std::sqrt(span) * (0.35f + 0.65f * span);
  const float soft = 0.008f + 0.5f * q.pixel, within = smooth(1.06f, 0.94f, ax);
  const float lip = smooth(-soft, soft, upperEdge - s.y) * smooth(-soft, soft, s.y - lowerEdge) * within;
  if (lip > 0) {
    const float line = 1 + 0.09f * noise(s.x * 55 + f.textureX, s.y * 6) * q.detail(0.02f);
    // The upper lip faces the floor: darker by shape, not by color alone.
    s.tint(lipColor(f, q.skin) * line, lip * (0.82f + 0.18f * clamp01(f.lipstick)));
    const float upperPart = smooth(top - soft, top + soft, s.y);
    const float k = clamp01((bottom - s.y) / std::max(m.lipLower, 0.01f));
    s.tiltY += lip * mix(0.55f - 1.35f * k, -0.42f, upperPart);
    s.finish.gloss = mix(s.finish.gloss, 0.42f + 0.5f * clamp01(f.lipstick), lip * (1 - 0.5f * upperPart));
    s.finish.sharpness = mix(s.finish.sharpness, 0.12f, lip);
  }
  const float inside =
      smooth(-0.3f * soft, 0.6f * soft, top - s.y) * smooth(-0.3f * soft, 0.6f * soft, s.y - bottom) * within;
  const float open = inside * smooth(0.004f, 0.014f, gap);
  if (open > 0) paintInside(q, s, mx, s.y, top, bottom, open);
  // The line between closed lips, and the pit of each corner.
  const float thin = 0.010f + 0.45f * q.pixel, width = smooth(1.12f, 0.85f, ax);
  const float closed = hill(sq((s.y - 0.5f * (top + bottom)) / thin)) * width * (1 - smooth(0.01f, 0.03f, gap));
  const float pit = hill(ax - 1.0f, (s.y - middle) / m.mouthWidth, 0.16f, 0.12f);
  s.finish.albedo =
      s.finish.albedo * (1 - std::min(0.8f, 0.62f * closed * std::min(1.0f, 0.016f / thin + 0.25f) + 0.42f * pit));
  if (f.press > 0) s.crease((s.y - (lowerEdge - 0.03f)) / 0.04f, 0.6f * f.press * span, 0, 1);
}

}  // namespace comface::faces
