// Skin: tone, blotches, freckles, moles, make-up base, wrinkles, nostrils; then hands the point to the other painters.
// Colors come from melanin and blood, so one number darkens skin without turning it gray.
#include "paint.h"

namespace comface::faces::COMFACE_ISA {
namespace {

void paintTone(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const Lanes nx = s.x * 7 + f.textureX, ny = s.y * 7 + f.textureY;
  const Lanes blotch = 0.6f * noise(nx, ny) + 0.4f * noise(nx * 2.3f, ny * 2.3f);
  const float visible = q.detail(0.03f);
  const Lanes fine = visible > 0 ? noise(nx * 6, ny * 6) * visible : kNone;
  const float even = 1 - 0.75f * clamp01(f.foundation), mottle = std::max(0.0f, f.mottle) * even;
  // Blood shows on cheeks, nose tip and chin; the forehead is a touch yellower, the beard area cooler.
  Lanes red =
      0.55f * hill(s.ax - 0.40f, s.y + 0.30f, 0.30f, 0.30f) + 0.5f * hill(s.ax, s.y - m.noseBase - 0.08f, 0.2f, 0.18f);
  red += 0.25f * hill(s.ax, s.y - m.chinY - 0.12f, 0.25f, 0.2f) + 0.3f * mottle * blotch;
  red = red * clamp01(f.redness * 1.4f) +
        2.9f * std::clamp(f.blush, 0.0f, 1.3f) * hill(s.ax - 0.42f, s.y + 0.29f, 0.31f, 0.28f);
  if (f.blush < 0) red += 1.5f * f.blush * hill(s.ax - 0.40f, s.y + 0.30f, 0.34f, 0.34f);
  const Lanes r = 0.62f * red * (1 - 0.45f * f.melanin);
  // Thin dark skin around the eyes, more with tired lids.
  const Lanes around = hill(s.ax - m.eyeX, s.y - m.eyeY + 0.02f, 0.24f, 0.16f);
  s.shade((1 + 0.11f * mottle * blotch + 0.12f * (0.4f + mottle) * fine) *
          (1 - (0.10f + 0.12f * clamp01(f.bags)) * even * around));
  const Lanes brow = hill(s.ax, s.y - 0.5f, 0.7f, 0.35f);
  s.finish.albedo = s.finish.albedo * Vec3s{(1 + 0.03f * r) * (1 + 0.02f * brow), (1 - 0.40f * r) * (1 + 0.015f * brow),
                                            (1 - 0.34f * r) * (1 - 0.05f * brow)};
}

void paintSpots(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const float visible = q.detail(0.025f);
  if (f.freckles > 0.1f && visible > 0) {
    const Lanes zone = hill(s.ax - 0.25f, s.y + 0.2f, 0.5f, 0.4f) * (1 - 0.7f * clamp01(f.foundation));
    if (any(zone > 0)) {
      const Lanes n = noise(s.x * 26 + f.textureY, s.y * 26 + f.textureX);
      s.tint(s.finish.albedo * Vec3{0.66f, 0.50f, 0.40f}, 0.8f * f.freckles * visible * zone * smooth(0.25f, 0.6f, n));
    }
  }
  for (int i = 0; i < 3; ++i) {
    if (f.moleSize[i] <= 0) continue;
    const float size = f.moleSize[i] + 0.3f * q.pixel;
    const Lanes d = hill(s.x - f.moleX[i], s.y - f.moleY[i], size, size);
    if (any(d > 0)) s.tint(linear(0.28f, 0.17f, 0.13f), 0.7f * d);
  }
}

void paintNose(const Portrait& q, Spot& s) {
  const Landmarks& m = q.marks;
  const Face& f = q.face;
  if (!any((s.ax < m.noseWidth + 0.2f) & (s.y < m.noseBase + 0.25f) & (s.y > m.noseBase - 0.2f))) return;
  const float size = 1 + 0.35f * f.nostril;
  const Lanes dx = s.ax - m.noseWidth * 0.46f, dy = s.y - (m.noseBase + 0.004f) - 0.25f * dx;
  const Lanes hole = hill(dx, dy, 0.048f * size + 0.3f * q.pixel, 0.023f * size + 0.25f * q.pixel);
  if (any(hole > 0)) {
    s.tint(linear(0.20f, 0.09f, 0.07f) * (1 - 0.5f * f.melanin), smaller(1.4f * hole, 0.88f));
    s.finish.occlusion *= 1 - 0.55f * hole;
    s.finish.gloss *= 1 - hole;
  }
  // The groove around the wing.
  const Lanes wx = s.ax - m.noseWidth * 0.72f, wy = s.y - (m.noseBase + 0.05f), ring = root(wx * wx + wy * wy);
  const Lanes depth = ((wx > 0) & (wy > -0.06f)) ? spread(0.42f) : kNone, inverse = 1 / (ring + 1e-4f);
  s.crease((ring - 0.088f) * (1 / 0.03f), depth, wx * inverse, wy * inverse);
}

void paintPores(const Portrait& q, Spot& s) {
  const float shown = q.detail(0.014f);
  if (shown <= 0) return;
  const Face& f = q.face;
  const Lanes x = s.x * 70, y = s.y * 70, gx = noise(x + f.textureX, y), gy = noise(x, y + f.textureY);
  const float rough = shown * (0.12f + 0.12f * std::max(0.0f, f.mottle)) * (1 - 0.7f * clamp01(f.foundation));
  s.tiltX += rough * gx, s.tiltY += rough * gy;
}

// A curved line y = y0 + bend * x^2 across the forehead, broken up by noise.
void foreheadLine(Spot& s, float y0, float bend, float depth, float jitter) {
  const Lanes wave = 0.018f * noise(s.x * 4 + jitter, y0 * 9) + 0.012f * noise(s.x * 9, jitter);
  const Lanes d = (s.y - (y0 + bend * s.x * s.x + wave)) * (1 / 0.032f);
  if (!any(magnitude(d) < 1)) return;
  s.crease(d, depth * ridge(s.x, 0.56f) * (0.65f + 0.35f * noise(s.x * 5, jitter + 3)), 0.0f, 1.0f);
}

// Depth grows along the curve from (x0, y0) to (x1, y1), bowed outward.
void foldLine(Spot& s, float x0, float y0, float x1, float y1, float bow, float width, float depth) {
  const float dx = x1 - x0, dy = y1 - y0, inverse = 1 / std::sqrt(dx * dx + dy * dy);
  const float ux = dx * inverse, uy = dy * inverse;
  const Lanes px = s.ax - x0, py = s.y - y0, along = (px * ux + py * uy) * inverse;
  const Lanes across = (py * ux - px * uy - bow * 4 * along * (1 - along)) * (1 / width);
  if (!any((along > -0.1f) & (along < 1.1f) & (magnitude(across) < 1))) return;
  s.crease(across, depth * smooth(-0.1f, 0.2f, along) * smooth(1.1f, 0.6f, along), -uy * s.side, ux);
}

// Tired eyes: the lower rim of the bag and the dark skin above it.
void paintBags(const Portrait& q, Spot& s, const Lanes& ex, const Lanes& ey) {
  const Face& f = q.face;
  if (!any((magnitude(ex) < 1.5f) & (ey < 0.05f) & (ey > -0.3f))) return;
  const float tired = std::clamp(f.bags, -1.6f, 2.2f);
  const Lanes under = hill(ex, ey + 0.115f, 1.45f, 0.125f);
  const float bag = std::max(0.0f, f.bags) + 0.55f * std::max(0.0f, f.puff);
  const Lanes rim = -0.130f + 0.045f * ex * ex - 0.03f * ex;
  s.crease((ey - rim) * (1 / 0.038f), 0.8f * bag * ridge(ex, 1.35f), 0.0f, 1.0f);
  // Tired skin is dark and bluish; rested skin is a little lighter than the person's own.
  s.finish.albedo =
      s.finish.albedo * mix(Vec3{1, 1, 1}, Vec3{0.68f, 0.64f, 0.70f}, (tired > 0 ? 0.9f : 0.45f) * tired * under);
}

}  // namespace

void paintWrinkles(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const float w = std::max(0.0f, f.wrinkle), smile = std::max(0.0f, f.smile);
  if (w > 0.03f && any(s.y > 0.3f)) {
    for (int i = 0; i < 4; ++i) {
      const float k = static_cast<float>(i);
      foreheadLine(s, 0.38f + 0.095f * k, 0.10f - 0.03f * k, (0.85f - 0.12f * k) * w, f.textureX + 7 * k);
    }
  }
  if (w > 0.03f && any((s.ax < 0.14f) & (s.y > 0.08f) & (s.y < 0.36f))) {
    s.crease((s.ax - 0.055f) * (1 / 0.022f), 0.6f * w * ridge(Lanes(s.y - 0.22f), 0.14f), s.side, 0.0f);
  }
  // Nose to mouth corner: always a trace, deep with age, weight and a smile.
  const float fold = 0.10f + 0.65f * w + 0.50f * smile + 0.12f * std::max(0.0f, f.fat) + 0.15f * f.jowl;
  if (any((s.y < m.noseBase + 0.2f) & (s.y > m.mouthY - 0.35f))) {
    foldLine(s, m.noseWidth + 0.035f, m.noseBase + 0.07f, m.mouthWidth + 0.075f, m.mouthY + m.cornerLift - 0.05f,
             0.025f + 0.03f * smile, 0.045f, std::min(0.9f, fold));
  }
  if (any(s.y < m.mouthY + 0.3f)) {
    foldLine(s, m.mouthWidth + 0.025f, m.mouthY + m.cornerLift - 0.03f, m.mouthWidth + 0.06f, m.chinY + 0.16f, 0.01f,
             0.035f, 0.55f * w + 0.35f * std::max(0.0f, f.jowl));
  }
  const Lanes ex = (s.ax - m.eyeX) * (1 / m.eyeWidth), ey = s.y - m.eyeY;
  paintBags(q, s, ex, ey);
  // Crow's feet.
  const Lanes out = ex - 1.15f;
  const float feet = w * 0.8f + 0.55f * smile * w + 0.12f * smile;
  if (feet <= 0.02f || !any((out > 0) & (out < 1.1f) & (magnitude(ey) < 0.15f))) return;
  const Lanes depth = out > 0 ? feet * ridge(Lanes(out - 0.45f), 0.6f) : kNone;
  for (int i = -1; i <= 1; ++i) {
    s.crease((ey - 0.01f - static_cast<float>(i) * (0.022f + 0.045f * out)) * (1 / 0.017f), depth, 0.0f, 1.0f);
  }
}

Vec3 skinColor(const Face& f) {
  // Five tones from very fair to very dark, as seen, in order of melanin.
  static constexpr float kTone[5][3] = {{0.935f, 0.800f, 0.725f},
                                        {0.870f, 0.695f, 0.590f},
                                        {0.760f, 0.570f, 0.450f},
                                        {0.560f, 0.385f, 0.285f},
                                        {0.365f, 0.240f, 0.175f}};
  const float m = clamp01(f.melanin - 0.22f * f.pale * (0.5f + f.melanin)) * 3.999f;
  const int i = static_cast<int>(m);
  const float t = m - static_cast<float>(i), u = 0.03f * f.undertone;
  const auto at = [&](int k) { return mix(kTone[i][k], kTone[i + 1][k], t); };
  Vec3 c = linear(at(0), at(1) * (1 + 0.4f * u), at(2) * (1 - u));
  // Pale also drains the blood; its opposite is a sun tan.
  const float p = f.pale;
  return p > 0 ? mix(c, c * Vec3{1.0f, 1.13f, 1.20f} * (1 + 0.12f * f.melanin), p)
               : c * mix(Vec3{1, 1, 1}, Vec3{0.83f, 0.69f, 0.56f}, -p);
}

Color paintPlainSkin(const Portrait& q, const Place& at) {
  const Face& f = q.face;
  Finish finish{};
  const Lanes n = noise(at.u * 6 + f.textureX, at.v * 6 + f.textureY);
  finish.albedo = q.skin * Vec3{1.0f, 0.93f, 0.91f} * (1 + 0.05f * n);
  finish.normal = at.n;
  finish.occlusion = spread(1);
  finish.gloss = spread(0.12f);
  finish.flesh = spread(1);
  return {light(q.scene, at, finish), spread(1)};
}

Color paintSkin(const Portrait& q, const Place& at) {
  const Face& f = q.face;
  Spot s{};
  s.x = at.u - f.asymmetry * (1 - 0.6f * at.v), s.y = at.v, s.ax = magnitude(s.x);
  s.side = s.x < 0 ? spread(-1) : spread(1);
  s.angle = at.a, s.edge = at.edge;
  s.finish.albedo = q.skin * spread(1);
  s.finish.normal = at.n;
  s.finish.occlusion = s.finish.flesh = spread(1);
  // The oily middle shines, cheeks less; foundation powders it all.
  const Lanes middle = hill(s.ax, s.y - 0.1f, 0.45f, 0.75f);
  s.finish.gloss = clamp01(f.oil) * (0.22f + 0.42f * middle) * (1 - 0.5f * clamp01(f.foundation));
  s.finish.sharpness = spread(0.02f);
  paintTone(q, s);
  paintSpots(q, s);
  paintPores(q, s);
  paintWrinkles(q, s);
  paintNose(q, s);
  paintBeard(q, s);
  paintMouth(q, s);
  paintBrow(q, s);
  paintEye(q, s);
  const Pose& pose = q.scene.pose;
  s.finish.normal = s.finish.normal + pose.right * s.tiltX + pose.up * s.tiltY;
  return {light(q.scene, at, s.finish), spread(1)};
}

}  // namespace comface::faces::COMFACE_ISA
