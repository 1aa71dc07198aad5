// Lips, the gap between them, teeth. The mouth is a set of curves y(x) over its half width.
// Below the gap everything is measured from the lower lip, so an opening mouth carries the lip down.
#include "curves.h"
#include "paint.h"

namespace comface::faces::COMFACE_ISA {
namespace {

// Upper teeth fill the gap from above down to their own length; the tongue lies below.
void paintInside(const Portrait& q, Spot& s, const Lanes& mx, const Lanes& top, const Lanes& bottom,
                 const Lanes& amount) {
  const Lanes depth = top - bottom, below = top - s.y, k = clamp01(Lanes(below / larger(depth, 1e-3f)));
  Vec3s c = mix(linear(0.20f, 0.07f, 0.07f), linear(0.48f, 0.20f, 0.20f), smooth(0.55f, 1.0f, k) * 0.6f);
  const Lanes rank = magnitude(mx) * (q.marks.mouthWidth / 0.048f);
  const Lanes edge = 0.062f * (1 - 0.12f * mx * mx) - 0.006f * noise(rank * 1.7f, 5);
  const Lanes tooth =
      smooth(0.5f * q.pixel, -0.5f * q.pixel - 0.004f, below - edge) * smooth(0.98f, 0.70f, magnitude(mx));
  const Lanes whole = __builtin_convertvector(__builtin_convertvector(rank, Mask), Lanes);
  const Lanes slot = magnitude(rank - whole - 0.5f) * 2;
  const Vec3s ivory =
      linear(0.92f, 0.89f, 0.82f) * ((1 - 0.34f * q.detail(0.03f) * smooth(0.75f, 1.0f, slot)) * (1 - 0.55f * mx * mx) *
                                     (0.70f + 0.30f * smooth(0.0f, 0.02f, below)));
  c = mix(c, ivory, tooth * smooth(0.012f, 0.035f, depth));
  s.tint(c, amount);
  s.finish.occlusion = mix(s.finish.occlusion, 0.55f + 0.40f * tooth, amount);
  s.finish.gloss = mix(s.finish.gloss, 0.25f * tooth, amount);
  s.tiltX *= 1 - amount, s.tiltY *= 1 - amount;
}

Vec3 lipColor(const Face& f, const Vec3& skin) {
  const Vec3 bare = mix(skin * Vec3{0.84f, 0.46f, 0.47f}, linear(0.66f, 0.32f, 0.33f), 0.42f * (1 - f.melanin));
  const Vec3 paler = mix(bare, skin * Vec3{1.0f, 0.88f, 0.86f}, 0.95f * clamp01(-f.lipstick));
  const float stick = f.lipstick > 0.1f ? softUnit(f.lipstick) : std::max(0.0f, f.lipstick);
  return mix(paler, f.makeupColor, 0.95f * stick);
}

// The red of the lips, shaped by light; between top and bottom the mouth is open.
void paintLips(const Portrait& q, Spot& s, const Lanes& lip, const Lanes& top, const Lanes& bottom) {
  const Face& f = q.face;
  const float soft = 0.008f + 0.5f * q.pixel, visible = q.detail(0.02f), stick = clamp01(f.lipstick);
  const Lanes line = visible > 0 ? 1 + 0.09f * visible * noise(s.x * 55 + f.textureX, s.y * 6) : spread(1);
  // The upper lip faces the floor: darker by shape, not by color alone.
  s.tint(lipColor(f, q.skin) * line, lip * (0.82f + 0.18f * stick));
  const Lanes upperPart = smooth(-soft, soft, s.y - top);
  const Lanes k = clamp01(Lanes((bottom - s.y) * (1 / std::max(q.marks.lipLower, 0.01f))));
  s.tiltY += lip * mix(0.55f - 1.35f * k, spread(-0.42f), upperPart);
  s.finish.gloss = mix(s.finish.gloss, spread(0.42f + 0.5f * stick), lip * (1 - 0.5f * upperPart));
  s.finish.sharpness = mix(s.finish.sharpness, spread(0.12f), lip);
}

}  // namespace

void paintMouth(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const Lanes mx = s.x * (1 / m.mouthWidth), ax = magnitude(mx);
  const Mask near = (ax < 1.35f) & (s.y < m.mouthY + 0.25f) & (s.y > m.mouthY - 0.36f - m.gap);
  if (!any(near)) return;
  const auto [span, middle, gap, top, bottom, upperEdge, lowerEdge] = mouthLines(f, m, mx);
  const float soft = 0.008f + 0.5f * q.pixel;
  const Lanes within = smooth(1.06f, 0.94f, ax) * amount(near);
  const Lanes lip = smooth(-soft, soft, upperEdge - s.y) * smooth(-soft, soft, s.y - lowerEdge) * within;
  if (any(lip > 0)) paintLips(q, s, lip, top, bottom);
  const Lanes inside =
      smooth(-0.3f * soft, 0.6f * soft, top - s.y) * smooth(-0.3f * soft, 0.6f * soft, s.y - bottom) * within;
  const Lanes open = inside * smooth(0.004f, 0.014f, gap);
  if (any(open > 0)) paintInside(q, s, mx, top, bottom, open);
  // The line between closed lips, and the pit of each corner.
  const float thin = 0.010f + 0.45f * q.pixel;
  const Lanes closed =
      ridge(Lanes(s.y - 0.5f * (top + bottom)), thin) * smooth(1.12f, 0.85f, ax) * (1 - smooth(0.01f, 0.03f, gap));
  const Lanes pit = hill(ax - 1.0f, (s.y - middle) * (1 / m.mouthWidth), 0.16f, 0.12f);
  const float dark = 0.62f * std::min(1.0f, 0.016f / thin + 0.25f);
  s.shade(1 - amount(near) * smaller(dark * closed + 0.42f * pit, 0.8f));
  if (f.press > 0)
    s.crease((s.y - (lowerEdge - 0.03f)) * (1 / 0.04f), 0.6f * f.press * span * amount(near), 0.0f, 1.0f);
}

}  // namespace comface::faces::COMFACE_ISA
