// Skin: tone, blotches, freckles, moles, make-up base, wrinkles, nostrils; then hands the point to the other painters.
// Colors come from melanin and blood, so one number darkens skin without turning it gray.
#include "paint.h"

namespace comface::faces {
namespace {

// The part of the face in front of the ears; behind it nothing is painted but skin.
constexpr float kFaceAngle = 1.3f;

void paintTone(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const float nx = s.x * 7 + f.textureX, ny = s.y * 7 + f.textureY;
  const float blotch = 0.6f * noise(nx, ny) + 0.4f * noise(nx * 2.3f, ny * 2.3f);
  const float fine = q.detail(0.03f) > 0 ? noise(nx * 6, ny * 6) * q.detail(0.03f) : 0.0f;
  const float even = 1 - 0.75f * clamp01(f.foundation), mottle = std::max(0.0f, f.mottle) * even;
  // Blood shows on cheeks, nose tip and chin; the forehead is a touch yellower, the beard area cooler.
  float red =
      0.55f * hill(s.ax - 0.40f, s.y + 0.30f, 0.30f, 0.30f) + 0.5f * hill(s.ax, s.y - m.noseBase - 0.08f, 0.2f, 0.18f);
  red += 0.25f * hill(s.ax, s.y - m.chinY - 0.12f, 0.25f, 0.2f) + 0.3f * mottle * blotch;
  red = red * clamp01(f.redness * 1.4f) +
        1.8f * std::clamp(f.blush, 0.0f, 1.3f) * hill(s.ax - 0.42f, s.y + 0.29f, 0.31f, 0.28f);
  red -= 0.9f * std::max(0.0f, -f.blush) * hill(s.ax - 0.40f, s.y + 0.30f, 0.34f, 0.34f);
  Vec3& c = s.finish.albedo;
  const float r = 0.62f * red * (1 - 0.45f * f.melanin);
  c = c * Vec3{1 + 0.03f * r, 1 - 0.40f * r, 1 - 0.34f * r};
  c = c * (1 + 0.10f * mottle * blotch + 0.08f * (0.4f + mottle) * fine);
  const float brow = hill(s.ax, s.y - 0.5f, 0.7f, 0.35f);
  c = c * Vec3{1.0f + 0.02f * brow, 1.0f + 0.015f * brow, 1 - 0.05f * brow};
  // Thin dark skin around the eyes, more with tired lids.
  const float around = hill(s.ax - m.eyeX, s.y - m.eyeY + 0.02f, 0.24f, 0.16f);
  c = c * (1 - (0.10f + 0.12f * clamp01(f.bags)) * around * even);
}

void paintSpots(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  if (f.freckles > 0.1f) {
    const float zone = hill(s.ax - 0.25f, s.y + 0.2f, 0.5f, 0.4f) * (1 - 0.7f * clamp01(f.foundation));
    const float n = noise(s.x * 26 + f.textureY, s.y * 26 + f.textureX);
    s.tint(s.finish.albedo * Vec3{0.66f, 0.50f, 0.40f},
           0.8f * f.freckles * zone * smooth(0.25f, 0.6f, n) * q.detail(0.025f));
  }
  for (int i = 0; i < 3; ++i) {
    const float d =
        hill(s.x - f.moleX[i], s.y - f.moleY[i], f.moleSize[i] + 0.3f * q.pixel, f.moleSize[i] + 0.3f * q.pixel);
    if (f.moleSize[i] > 0 && d > 0) s.tint(linear(0.28f, 0.17f, 0.13f), 0.7f * d);
  }
}

void paintNose(const Portrait& q, Spot& s) {
  const Landmarks& m = q.marks;
  const Face& f = q.face;
  const float size = 1 + 0.35f * f.nostril;
  const float dx = s.ax - m.noseWidth * 0.46f, dy = s.y - (m.noseBase + 0.004f) - 0.25f * dx;
  const float hole = hill(dx, dy, 0.048f * size + 0.3f * q.pixel, 0.023f * size + 0.25f * q.pixel);
  if (hole > 0) {
    s.tint(linear(0.20f, 0.09f, 0.07f) * (1 - 0.5f * f.melanin), std::min(0.88f, 1.4f * hole));
    s.finish.occlusion *= 1 - 0.55f * hole;
    s.finish.gloss *= 1 - hole;
  }
  // The groove around the wing.
  const float wx = s.ax - m.noseWidth * 0.72f, wy = s.y - (m.noseBase + 0.05f);
  const float ring = std::sqrt(wx * wx + wy * wy);
  if (wx > 0 && wy > -0.06f) s.crease((ring - 0.088f) / 0.03f, 0.42f, wx / (ring + 1e-4f), wy / (ring + 1e-4f));
}

void paintPores(const Portrait& q, Spot& s) {
  const float shown = q.detail(0.014f);
  if (shown <= 0) return;
  const Face& f = q.face;
  const float gx = noise(s.x * 70 + f.textureX, s.y * 70), gy = noise(s.x * 70, s.y * 70 + f.textureY);
  const float rough = shown * (0.07f + 0.07f * std::max(0.0f, f.mottle)) * (1 - 0.7f * clamp01(f.foundation));
  s.tiltX += rough * gx, s.tiltY += rough * gy;
}

// A curved line y = y0 + bend * x^2 across the forehead, broken up by noise.
void foreheadLine(Spot& s, float y0, float bend, float depth, float jitter) {
  const float wave = 0.018f * noise(s.x * 4 + jitter, y0 * 9) + 0.012f * noise(s.x * 9, jitter);
  const float reach = hill(sq(s.x / 0.56f)) * (0.65f + 0.35f * noise(s.x * 5, jitter + 3));
  s.crease((s.y - (y0 + bend * s.x * s.x + wave)) / 0.032f, depth * reach, 0, 1);
}

// Depth grows along the curve from (x0, y0) to (x1, y1), bowed outward.
void foldLine(Spot& s, float x0, float y0, float x1, float y1, float bow, float width, float depth) {
  const float dx = x1 - x0, dy = y1 - y0, length = std::sqrt(dx * dx + dy * dy);
  const float ux = dx / length, uy = dy / length, px = s.ax - x0, py = s.y - y0;
  const float along = (px * ux + py * uy) / length;
  if (along < -0.1f || along > 1.1f) return;
  const float across = -px * uy + py * ux - bow * 4 * along * (1 - along);
  s.crease(across / width, depth * smooth(-0.1f, 0.2f, along) * smooth(1.1f, 0.6f, along), -uy * s.side, ux);
}

}  // namespace

void paintWrinkles(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Landmarks& m = q.marks;
  const float w = std::max(0.0f, f.wrinkle), smile = std::max(0.0f, f.smile);
  if (w > 0.03f && s.y > 0.3f && s.y < 0.8f) {
    for (int i = 0; i < 4; ++i) {
      const float k = static_cast<float>(i);
      foreheadLine(s, 0.38f + 0.095f * k, 0.10f - 0.03f * k, (0.85f - 0.12f * k) * w, f.textureX + 7 * k);
    }
  }
  if (w > 0.03f && s.ax < 0.14f && s.y > 0.08f && s.y < 0.36f) {
    s.crease((s.ax - 0.055f) / 0.022f, 0.6f * w * hill((s.y - 0.22f) / 0.14f, 0, 1, 1), s.side, 0);
  }
  // Nose to mouth corner: always a trace, deep with age, weight and a smile.
  const float fold = 0.10f + 0.65f * w + 0.50f * smile + 0.12f * std::max(0.0f, f.fat) + 0.15f * f.jowl;
  if (s.y < m.noseBase + 0.12f && s.y > m.mouthY - 0.2f) {
    foldLine(s, m.noseWidth + 0.035f, m.noseBase + 0.07f, m.mouthWidth + 0.075f, m.mouthY + m.cornerLift - 0.05f,
             0.025f + 0.03f * smile, 0.045f, std::min(0.9f, fold));
  }
  if (s.y < m.mouthY + 0.05f) {
    foldLine(s, m.mouthWidth + 0.025f, m.mouthY + m.cornerLift - 0.03f, m.mouthWidth + 0.06f, m.chinY + 0.16f, 0.01f,
             0.035f, 0.55f * w + 0.35f * std::max(0.0f, f.jowl));
  }
  // Under the eye: the lower rim of the bag, then crow's feet.
  const float ex = (s.ax - m.eyeX) / m.eyeWidth, ey = s.y - m.eyeY;
  if (std::fabs(ex) < 1.5f && ey < 0.05f && ey > -0.3f) {
    const float tired = std::clamp(f.bags, -0.8f, 1.5f), under = hill(ex, (ey + 0.10f) / 0.10f, 1.4f, 1);
    const float bag = std::max(0.0f, f.bags) + 0.55f * std::max(0.0f, f.puff),
                rim = -0.130f + 0.045f * ex * ex - 0.03f * ex;
    s.crease((ey - rim) / 0.038f, 0.8f * bag * hill(sq(ex / 1.35f)), 0, 1);
    // Tired skin is dark and bluish; rested skin is a little lighter than the person's own.
    s.finish.albedo =
        s.finish.albedo * mix(Vec3{1, 1, 1}, Vec3{0.66f, 0.55f, 0.60f}, (tired > 0 ? 0.85f : 0.35f) * tired * under);
  }
  const float out = ex - 1.15f, feet = w * 0.8f + 0.55f * smile * w + 0.12f * smile;
  if (out > 0 && out < 1.1f && feet > 0.02f) {
    for (int i = -1; i <= 1; ++i) {
      const float ray = ey - 0.01f - static_cast<float>(i) * (0.022f + 0.045f * out);
      s.crease(ray / 0.017f, feet * hill(sq((out - 0.45f) / 0.6f)), 0, 1);
    }
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

Color paintPlainSkin(const Portrait& q, const Vertex& at) {
  const Face& f = q.face;
  Finish finish;
  finish.albedo = q.skin * Vec3{1.0f, 0.93f, 0.91f};
  const float n = noise(at.u * 6 + f.textureX, at.v * 6 + f.textureY);
  finish.albedo = finish.albedo * (1 + 0.05f * n);
  finish.normal = at.n;
  finish.gloss = 0.12f;
  finish.flesh = 1;
  return {light(q.scene, at, finish), 1};
}

Color paintSkin(const Portrait& q, const Vertex& at) {
  const Face& f = q.face;
  Spot s{};
  s.x = at.u - f.asymmetry * (1 - 0.6f * at.v), s.y = at.v, s.ax = std::fabs(s.x), s.side = s.x < 0 ? -1.0f : 1.0f;
  s.angle = at.a;
  s.finish.albedo = q.skin;
  s.finish.normal = at.n;
  s.finish.occlusion = 1;
  s.finish.flesh = 1;
  // The oily middle shines, cheeks less; foundation powders it all.
  const float middle = hill(s.ax, s.y - 0.1f, 0.45f, 0.75f);
  s.finish.gloss = clamp01(f.oil) * (0.22f + 0.42f * middle) * (1 - 0.5f * clamp01(f.foundation));
  s.finish.sharpness = 0.02f;
  if (std::fabs(at.a) < kFaceAngle) {
    paintTone(q, s);
    paintSpots(q, s);
    paintPores(q, s);
    paintWrinkles(q, s);
    paintNose(q, s);
    paintBeard(q, s);
    paintMouth(q, s);
    paintBrow(q, s);
    paintEye(q, s);
  } else {
    paintBeard(q, s);
  }
  const Pose& pose = q.scene.pose;
  s.finish.normal = s.finish.normal + pose.right * s.tiltX + pose.up * s.tiltY;
  return {light(q.scene, at, s.finish), 1};
}

}  // namespace comface::faces
