// Glasses, hat, earrings, clothes, tie, necklace. Each grows and fades in with its amount, never pops.
#include "accessories.h"

namespace comface::faces {
namespace {

// Distance outside the rim of a lens, units: negative inside. Three shapes: round, square, drop.
float lensEdge(const Face& f, const Landmarks& m, float ax, float y) {
  static constexpr float kHalf[3][2] = {{0.215f, 0.185f}, {0.245f, 0.150f}, {0.240f, 0.185f}};
  const int style = f.glassesStyle;
  const float grow = 0.80f + 0.25f * clamp01(f.glasses), w = kHalf[style][0] * grow, h = kHalf[style][1] * grow;
  float dx = (ax - (m.eyeX + 0.02f)) / w, dy = (y - (m.eyeY - 0.02f)) / h;
  if (style == 2) dx *= 1 - 0.18f * dy;
  const float x2 = dx * dx, y2 = dy * dy;
  const float r = style == 0 ? std::sqrt(x2 + y2) : std::sqrt(std::sqrt(x2 * x2 + y2 * y2));
  return (r - 1) * h;
}

Vec3 matte(const Portrait& q, const Vertex& at, const Vec3& color, float gloss, float sharpness) {
  Finish finish;
  finish.albedo = color;
  finish.normal = at.n;
  finish.gloss = gloss;
  finish.sharpness = sharpness;
  return light(q.scene, at, finish);
}

// Fine weave, folds, and a darker seam where the cloth ends.
Vec3 cloth(const Portrait& q, const Vertex& at, const Vec3& color, float seam) {
  const float weave = noise(at.u * 60, at.v * 60) * q.detail(0.03f),
              folds = noise(at.u * 3 + q.face.textureX, at.v * 3);
  return matte(q, at, color * ((1 + 0.08f * weave + 0.14f * folds) * (1 - 0.35f * seam)), 0.05f, 0);
}

// Beads along a hanging curve; returns the coverage at this point.
float necklaceAt(const Portrait& q, float x, float y) {
  const Face& f = q.face;
  const float amount = clamp01(f.necklace);
  if (amount <= 0.01f) return 0;
  const float hang = -1.30f - 0.06f * softUnit(f.neckline) + 0.50f * x * x,
              thick = 0.012f + 0.022f * amount + 0.3f * q.pixel;
  const float bead = 0.75f + 0.25f * std::sin(x * 75) * q.detail(0.04f);
  return hill((y - hang) / (thick * bead), 0, 1, 1) * smooth(0.62f, 0.5f, std::fabs(x)) * std::min(1.0f, 1.6f * amount);
}

Vec3 gold(const Portrait& q, const Vertex& at) {
  const float glint = 0.75f + 0.6f * std::fabs(std::sin(at.u * 75));
  return matte(q, at, linear(0.86f, 0.70f, 0.38f) * glint, 0.9f, 0.25f);
}

// A knotted tie hanging from the collar edge; drop is the distance below it.
Vec3 knot(const Portrait& q, const Vertex& at, const Vec3& under, float drop, float tie) {
  const float pinch = hill((drop - 0.12f) / 0.07f, 0, 1, 1), soft = 0.012f + 0.5f * q.pixel;
  const float half = (0.06f + 0.06f * tie) * (1 - 0.35f * pinch) + 0.15f * std::max(0.0f, drop - 0.12f);
  const float stripe = 1 + 0.2f * std::sin((at.u + at.v) * 42);
  const float inside =
      smooth(half + soft, half - soft, std::fabs(at.u)) * smooth(-soft, soft, drop) * (1 - 0.4f * pinch);
  return mix(under, cloth(q, at, q.face.tieColor * stripe, 0), tie * inside);
}

// Cloth over skin: a round or pointed neckline, collar, tie and necklace, by place on the neck or the chest.
Vec3 dress(const Portrait& q, const Vertex& at, const Vec3& skin) {
  const Face& f = q.face;
  const float x = std::fabs(at.u), y = at.v, open = std::clamp(f.neckline, -0.35f, 1.2f);
  const float wide = 0.40f + 0.18f * open, k = clamp01(x / wide), shape = f.collar == 1 ? 1 - k : 1 - k * k;
  const float edge = -1.27f - 0.36f * open * shape + 0.13f * smooth(0.25f, 0.6f, x), soft = 0.010f + 0.5f * q.pixel;
  const float covered = smooth(edge + soft, edge - soft, y);
  Vec3 out = skin;
  if (covered > 0) {
    const float seam = hill((y - edge + 0.025f) / 0.03f, 0, 1, 1), tie = clamp01(f.tie);
    Vec3 color = cloth(q, at, f.clothColor, seam);
    if (tie > 0) {
      // A white shirt with two collar wings comes with the tie; the jacket stays at the sides.
      color = mix(color, cloth(q, at, linear(0.88f, 0.89f, 0.92f), seam),
                  tie * smooth(0.66f, 0.60f, x + 0.5f * (y + 1.3f)));
      const float wing = hill((y - edge + 0.15f - 0.3f * x) / 0.025f, 0, 1, 1) * smooth(0.42f, 0.36f, x);
      color = knot(q, at, color * (1 - 0.4f * tie * wing), edge - y, tie);
    }
    out = mix(skin, color, covered);
  }
  const float beads = necklaceAt(q, at.u, y);
  return beads > 0 ? mix(out, gold(q, at), beads) : out;
}

}  // namespace

void buildGlasses(const Face& f, const Landmarks& marks, const Pose& pose, int size, Surface& front) {
  const int cols = std::clamp(size / 4, 21, 61), rows = 9;
  front.resize(rows, cols);
  front.twoSided = true;
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
  arm.resize(2, 5);
  arm.twoSided = true;
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

Color paintGlasses(const Portrait& q, const Vertex& at) {
  const Face& f = q.face;
  const float ax = std::fabs(at.u), d = lensEdge(f, q.marks, ax, at.v), shown = clamp01(f.glasses * 1.6f);
  const float half = 0.009f + 0.016f * clamp01(f.glasses), soft = 0.5f * q.pixel;
  float rim = smooth(half + soft, half - soft, std::fabs(d));
  const float arch = q.marks.eyeY + 0.055f - 0.9f * ax * ax;
  const float bridge =
      smooth(half + soft, half - soft, std::fabs(at.v - arch)) * (ax < q.marks.eyeX && d > 0 ? 1.0f : 0.0f);
  const float hinge = smooth(half + soft, half - soft, std::fabs(at.v - 0.06f)) *
                      (ax > q.marks.eyeX && d > 0 && ax < 0.60f ? 1.0f : 0.0f);
  rim = std::max({rim, bridge, hinge}) * std::min(1.0f, 2 * half / (half + soft));
  if (rim > 0.02f) return {matte(q, at, f.frameColor, 0.8f, 0.4f), rim * shown};
  if (d > 0) return {{}, 0};
  // The lens: a little tint and a diagonal reflection of the sky.
  const float streak = smooth(0.3f, 1.0f, noise((at.u + at.v) * 5 + f.textureX, (at.u - at.v) * 1.2f));
  return {q.scene.sky * 1.9f, shown * (0.035f + 0.16f * streak)};
}

Color paintTemple(const Portrait& q, const Vertex& at) {
  return {matte(q, at, q.face.frameColor, 0.6f, 0.3f), clamp01(q.face.glasses * 1.6f)};
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
  brim.resize(kRows, kCols);
  brim.twoSided = true;
  const float amount = clamp01(f.hat), base = mix(0.98f, 0.40f, amount);
  for (int r = 0; r < kRows; ++r) {
    const float k = static_cast<float>(r) / (kRows - 1), out = 0.02f + 0.42f * k * amount;
    for (int c = 0; c < kCols; ++c) {
      const float angle = 1.05f * (2.0f * static_cast<float>(c) / (kCols - 1) - 1), fade = std::cos(angle * 1.35f);
      Vertex& vertex = brim.at(r, c);
      vertex.p = pose.place({(0.84f + 0.5f * out) * std::sin(angle), base + 0.05f - 0.10f * k * k - 0.06f * sq(angle),
                             0.97f * std::cos(angle) + out * fade});
      vertex.u = angle, vertex.v = 0.5f, vertex.ao = 0.9f;
    }
  }
  computeNormals(brim);
}

Color paintHat(const Portrait& q, const Vertex& at) {
  const Face& f = q.face;
  const float inside = smooth(-0.01f, 0.01f + q.pixel, at.v);
  if (inside <= 0) return {{}, 0};
  const float band = smooth(0.15f, 0.13f, at.v), knit = f.hatStyle == 0 ? std::sin(at.u * 55) * q.detail(0.05f) : 0.0f;
  const Vec3 color = f.hatColor * ((1 - 0.35f * band) * (1 + 0.10f * knit + 0.08f * noise(at.u * 9, at.v * 9)));
  return {matte(q, at, color, 0.06f, 0), inside * smooth(0.0f, 0.35f, f.hat)};
}

void buildEarring(const Face& f, const Pose& pose, float side, Surface& ring) {
  constexpr int kRows = 7, kCols = 9;
  ring.resize(kRows, kCols);
  ring.twoSided = true;
  const float amount = clamp01(f.earrings), radius = 0.018f + 0.055f * amount;
  const Vec3 middle{side * (0.765f + 0.02f * f.jaw) * (1 + f.width), -0.41f - 0.07f * f.earSize - radius, 0.05f};
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kCols; ++c) {
      const float a = 3.1415927f * static_cast<float>(r) / (kRows - 1),
                  b = 3.1415927f * (static_cast<float>(c) / (kCols - 1) - 0.5f);
      const Vec3 n{std::sin(a) * std::sin(b), std::cos(a), std::sin(a) * std::cos(b)};
      Vertex& vertex = ring.at(r, c);
      vertex.p = pose.place(middle + n * Vec3{radius * 0.8f, radius * 1.35f, radius});
      vertex.n = pose.turn(n);
      vertex.u = b, vertex.v = a;
    }
  }
}

Color paintEarring(const Portrait& q, const Vertex& at) { return {gold(q, at), smooth(0.0f, 0.3f, q.face.earrings)}; }

Color paintNeck(const Portrait& q, const Vertex& at) {
  Vec3 skin = paintPlainSkin(q, at).rgb;
  const float full = std::max(0.0f, q.face.doubleChin);
  // Folds across a full neck.
  if (full > 0)
    skin = skin * (1 - 0.28f * std::min(1.0f, full) * hill((at.v + 1.24f - 0.12f * at.u * at.u) / 0.03f, 0, 1, 1));
  return {dress(q, at, skin), 1};
}

Color paintTorso(const Portrait& q, const Vertex& at) { return {dress(q, at, paintPlainSkin(q, at).rgb), 1}; }

}  // namespace comface::faces
