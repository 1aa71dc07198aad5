// Glasses, hat, earrings, clothes, tie, necklace. Each grows and fades in with its amount, never pops.
#include "accessories.h"

namespace comface::faces::COMFACE_ISA {
namespace {

// Distance outside the rim of a lens, units: negative inside. Three shapes: round, square, drop.
Lanes lensEdge(const Face& f, const Landmarks& m, const Lanes& ax, const Lanes& y) {
  static constexpr float kHalf[3][2] = {{0.215f, 0.185f}, {0.245f, 0.150f}, {0.240f, 0.185f}};
  const int style = f.glassesStyle;
  const float grow = 0.80f + 0.25f * clamp01(f.glasses), w = kHalf[style][0] * grow, h = kHalf[style][1] * grow;
  const Lanes dy = (y - (m.eyeY - 0.02f)) * (1 / h);
  Lanes dx = (ax - (m.eyeX + 0.02f)) * (1 / w);
  if (style == 2) dx *= 1 - 0.18f * dy;
  const Lanes x2 = dx * dx, y2 = dy * dy;
  return ((style == 0 ? root(x2 + y2) : root(root(x2 * x2 + y2 * y2))) - 1) * h;
}

Vec3s matte(const Portrait& q, const Place& at, const Vec3s& color, float gloss, float sharpness) {
  Finish finish{};
  finish.albedo = color;
  finish.normal = at.n;
  finish.occlusion = spread(1);
  finish.gloss = spread(gloss);
  finish.sharpness = spread(sharpness);
  return light(q.scene, at, finish);
}

// Fine weave, folds, and a darker seam where the cloth ends.
Vec3s cloth(const Portrait& q, const Place& at, const Vec3s& color, const Lanes& seam) {
  const float visible = q.detail(0.03f);
  const Lanes weave = visible > 0 ? visible * noise(at.u * 60, at.v * 60) : kNone;
  const Lanes folds = noise(at.u * 3 + q.face.textureX, at.v * 3);
  return matte(q, at, color * ((1 + 0.08f * weave + 0.14f * folds) * (1 - 0.35f * seam)), 0.05f, 0);
}

// Beads along a hanging curve; returns the coverage at this point.
Lanes necklaceAt(const Portrait& q, const Lanes& x, const Lanes& y) {
  const Face& f = q.face;
  const float amount = clamp01(f.necklace), thick = 0.012f + 0.022f * amount + 0.3f * q.pixel;
  const Lanes hang = -1.30f - 0.06f * softUnit(f.neckline) + 0.50f * x * x;
  if (amount <= 0.01f || !any(magnitude(y - hang) < thick)) return kNone;
  const Lanes bead = 0.75f + 0.25f * q.detail(0.04f) * sine(Lanes(x * 75));
  return hill(sq(Lanes((y - hang) / (thick * bead)))) * smooth(0.62f, 0.5f, magnitude(x)) *
         std::min(1.0f, 1.6f * amount);
}

Vec3s gold(const Portrait& q, const Place& at) {
  const Lanes glint = 0.75f + 0.6f * magnitude(sine(Lanes(at.u * 75)));
  return matte(q, at, linear(0.86f, 0.70f, 0.38f) * glint, 0.9f, 0.25f);
}

// A knotted tie hanging from the collar edge; drop is the distance below it.
Vec3s knot(const Portrait& q, const Place& at, const Vec3s& under, const Lanes& drop, float tie) {
  const Lanes pinch = ridge(Lanes(drop - 0.12f), 0.07f);
  const float soft = 0.012f + 0.5f * q.pixel;
  const Lanes half = (0.06f + 0.06f * tie) * (1 - 0.35f * pinch) + 0.15f * larger(drop - 0.12f, 0.0f);
  const Lanes stripe = 1 + 0.2f * sine(Lanes((at.u + at.v) * 42));
  const Lanes inside = smooth(soft, -soft, magnitude(at.u) - half) * smooth(-soft, soft, drop) * (1 - 0.4f * pinch);
  return mix(under, cloth(q, at, q.face.tieColor * stripe, kNone), tie * inside);
}

// A white shirt with two collar wings comes with the tie; the jacket stays at the sides.
Vec3s shirt(const Portrait& q, const Place& at, const Vec3s& jacket, const Lanes& edge, const Lanes& seam, float tie) {
  const Lanes x = magnitude(at.u), y = at.v;
  const Vec3s white = cloth(q, at, linear(0.88f, 0.89f, 0.92f) * spread(1), seam);
  const Vec3s front = mix(jacket, white, tie * smooth(0.66f, 0.60f, x + 0.5f * (y + 1.3f)));
  const Lanes wing = ridge(Lanes(y - edge + 0.15f - 0.3f * x), 0.025f) * smooth(0.42f, 0.36f, x);
  return knot(q, at, front * (1 - 0.4f * tie * wing), edge - y, tie);
}

// Cloth over skin: a round or pointed neckline, collar, tie and necklace, by place on the neck or the chest.
Vec3s dress(const Portrait& q, const Place& at, const Vec3s& skin) {
  const Face& f = q.face;
  const Lanes x = magnitude(at.u), y = at.v;
  const float open = std::clamp(f.neckline, -0.35f, 1.2f), wide = 0.40f + 0.18f * open, tie = clamp01(f.tie);
  const Lanes k = clamp01(Lanes(x * (1 / wide))), shape = f.collar == 1 ? 1 - k : 1 - k * k;
  const Lanes edge = -1.27f - 0.36f * open * shape + 0.13f * smooth(0.25f, 0.6f, x);
  const float soft = 0.010f + 0.5f * q.pixel;
  const Lanes covered = smooth(soft, -soft, y - edge);
  Vec3s out = skin;
  if (any(covered > 0)) {
    const Lanes seam = ridge(Lanes(y - edge + 0.025f), 0.03f);
    const Vec3s plain = cloth(q, at, f.clothColor * spread(1), seam);
    out = mix(skin, tie > 0 ? shirt(q, at, plain, edge, seam, tie) : plain, covered);
  }
  const Lanes beads = necklaceAt(q, at.u, y);
  return any(beads > 0) ? mix(out, gold(q, at), beads) : out;
}

}  // namespace

void buildGlasses(const Face& f, const Landmarks& marks, const Pose& pose, int size, Surface& front) {
  const int cols = std::clamp(size / 4, 21, 61), rows = 9;
  front.resize(rows, cols, true);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < cols; ++c) {
      const float x = 0.74f * (2.0f * static_cast<float>(c) / static_cast<float>(cols - 1) - 1);
      const float y = marks.eyeY + mix(0.25f, -0.28f, static_cast<float>(r) / static_cast<float>(rows - 1));
      Vertex& vertex = front.at(r, c);
      vertex.u = x, vertex.v = y;
      vertex.p = pose.place({x, y, 1.02f + 0.5f * f.browRidge - 0.32f * x * x - 0.05f * (y - 0.2f) * -1.0f});
    }
  }
  computeNormals(front);
}

void buildTemple(const Face& f, const Pose& pose, float side, Surface& arm) {
  arm.resize(2, 5, true);
  for (int c = 0; c < 5; ++c) {
    const float k = static_cast<float>(c) / 4;
    for (int r = 0; r < 2; ++r) {
      Vertex& vertex = arm.at(r, c);
      const float y = 0.055f - 0.03f * k + (r == 0 ? 0.018f : -0.018f);
      vertex.p = pose.place({side * mix(0.56f, 0.81f * (1 + f.width), std::sqrt(k)), y, mix(0.90f, -0.05f, k)});
      vertex.n = pose.turn({side, 0, 0.3f});
    }
  }
}

Color paintGlasses(const Portrait& q, const Place& at) {
  const Face& f = q.face;
  const Lanes ax = magnitude(at.u), d = lensEdge(f, q.marks, ax, at.v);
  const float shown = clamp01(f.glasses * 1.6f), half = 0.009f + 0.016f * clamp01(f.glasses), soft = 0.5f * q.pixel;
  const Lanes outside = amount(d > 0), arch = q.marks.eyeY + 0.055f - 0.9f * ax * ax;
  const auto wire = [half, soft](const Lanes& off) { return smooth(half + soft, half - soft, magnitude(off)); };
  const Lanes bridge = wire(at.v - arch) * outside * amount(ax < q.marks.eyeX);
  const Lanes hinge = wire(at.v - 0.06f) * outside * amount((ax > q.marks.eyeX) & (ax < 0.60f));
  const Lanes rim = larger(larger(wire(d), bridge), hinge) * std::min(1.0f, 2 * half / (half + soft));
  const Mask isFrame = rim > 0.02f;
  if (!any(isFrame | (d <= 0))) return Color{};
  const Vec3s frame = matte(q, at, f.frameColor * spread(1), 0.8f, 0.4f);
  // The lens: a little tint and a diagonal reflection of the sky.
  const Lanes streak = smooth(0.3f, 1.0f, noise((at.u + at.v) * 5 + f.textureX, (at.u - at.v) * 1.2f));
  const Lanes lens = (0.035f + 0.16f * streak) * (1 - outside);
  const Vec3 sky = q.scene.sky * 1.9f;
  return {{isFrame ? frame.x : spread(sky.x), isFrame ? frame.y : spread(sky.y), isFrame ? frame.z : spread(sky.z)},
          shown * (isFrame ? rim : lens)};
}

Color paintTemple(const Portrait& q, const Place& at) {
  return {matte(q, at, q.face.frameColor * spread(1), 0.6f, 0.3f), spread(clamp01(q.face.glasses * 1.6f))};
}

void buildHat(const Face& f, const Surface& head, Surface& hat) {
  const int rows = head.rows - underRows(head.rows);
  hat.resize(rows, head.cols);
  const float amount = clamp01(f.hat), hair = 0.055f + 0.12f * f.volume + 0.1f * std::max(0.0f, f.curl);
  const float base = mix(0.98f, 0.38f, amount);  // pulled down as it grows
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < head.cols; ++c) {
      const Vertex& skin = head.at(r, c);
      Vertex& vertex = hat.at(r, c);
      vertex = skin;
      const float edge = base - 0.22f * smooth(0.5f, 1.6f, std::fabs(skin.a));
      vertex.cover = skin.v > edge - 0.12f ? 1.0f : 0.0f;
      const float top = smooth(0.4f, 1.1f, skin.v);
      vertex.p = skin.p + skin.n * (0.05f + 0.8f * hair + 0.07f * amount * top);
      vertex.u = skin.a, vertex.ao = 1;
      vertex.v = skin.v - edge;
    }
  }
  computeNormals(hat);
}

void buildBrim(const Face& f, const Pose& pose, Surface& brim) {
  constexpr int kRows = 5, kCols = 21;
  brim.resize(kRows, kCols, true);
  const float amount = clamp01(f.hat), base = mix(0.98f, 0.40f, amount);
  for (int r = 0; r < kRows; ++r) {
    const float k = static_cast<float>(r) / (kRows - 1), out = 0.02f + 0.42f * k * amount;
    for (int c = 0; c < kCols; ++c) {
      const float angle = 1.05f * (2.0f * static_cast<float>(c) / (kCols - 1) - 1), fade = cosine(angle * 1.35f);
      Vertex& vertex = brim.at(r, c);
      vertex.p = pose.place({(0.84f + 0.5f * out) * sine(angle), base + 0.05f - 0.10f * k * k - 0.06f * sq(angle),
                             0.97f * cosine(angle) + out * fade});
      vertex.u = angle, vertex.v = 0.5f, vertex.ao = 0.9f;
    }
  }
  computeNormals(brim);
}

Color paintHat(const Portrait& q, const Place& at) {
  const Face& f = q.face;
  const Lanes inside = smooth(-0.01f, 0.01f + q.pixel, at.v), band = smooth(0.15f, 0.13f, at.v);
  if (!any(inside > 0)) return Color{};
  const Lanes knit = f.hatStyle == 0 ? sine(Lanes(at.u * 55)) * q.detail(0.05f) : kNone;
  const Vec3s color = f.hatColor * ((1 - 0.35f * band) * (1 + 0.10f * knit + 0.08f * noise(at.u * 9, at.v * 9)));
  return {matte(q, at, color, 0.06f, 0), inside * smooth(0.0f, 0.35f, f.hat)};
}

void buildEarring(const Face& f, const Pose& pose, float side, Surface& ring) {
  constexpr int kRows = 7, kCols = 9;
  ring.resize(kRows, kCols, true);
  const float amount = clamp01(f.earrings), radius = 0.020f + 0.075f * amount;
  const Vec3 middle{side * (0.765f + 0.02f * f.jaw) * (1 + f.width), -0.41f - 0.07f * f.earSize - radius, 0.05f};
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kCols; ++c) {
      const float a = 3.1415927f * static_cast<float>(r) / (kRows - 1),
                  b = 3.1415927f * (static_cast<float>(c) / (kCols - 1) - 0.5f);
      const Vec3 n{sine(a) * sine(b), cosine(a), sine(a) * cosine(b)};
      Vertex& vertex = ring.at(r, c);
      vertex.p = pose.place(middle + n * Vec3{radius * 0.8f, radius * 1.35f, radius});
      vertex.n = pose.turn(n);
      vertex.u = b, vertex.v = a;
    }
  }
}

Color paintEarring(const Portrait& q, const Place& at) {
  return {gold(q, at), spread(smooth(0.0f, 0.3f, q.face.earrings))};
}

Color paintNeck(const Portrait& q, const Place& at) {
  Vec3s skin = paintPlainSkin(q, at).rgb;
  const float full = std::max(0.0f, q.face.doubleChin);
  // Folds across a full neck.
  if (full > 0)
    skin = skin * (1 - 0.28f * std::min(1.0f, full) * ridge(Lanes(at.v + 1.24f - 0.12f * at.u * at.u), 0.03f));
  return {dress(q, at, skin), spread(1)};
}

Color paintTorso(const Portrait& q, const Place& at) { return {dress(q, at, paintPlainSkin(q, at).rgb), spread(1)}; }

}  // namespace comface::faces::COMFACE_ISA
