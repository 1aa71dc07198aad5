// Draws the scene of a photograph and lights its surfaces: a key with soft shadows, a fill, a rim and a sky.
// Skin lets red light bleed past the terminator; everything else uses the same few terms with flesh = 0.
#include "noise.h"
#include "scene.h"

namespace comface::faces {
namespace {

constexpr float kDegree = 0.0174532925f;
constexpr float kPictureWidth =
    2.34f;  // units across the picture at the head: eyes at 45 %, the face fills 60 % of the width

Vec3 direction(float azimuth, float elevation) {
  return {std::cos(elevation) * std::sin(azimuth), std::sin(elevation), std::cos(elevation) * std::cos(azimuth)};
}

Pose drawPose(Random& r) {
  const float yaw = std::clamp(13.0f * r.normal(), -30.0f, 30.0f) * kDegree;
  const float pitch = std::clamp(6.0f * r.normal(), -14.0f, 14.0f) * kDegree;
  const float roll = std::clamp(4.0f * r.normal(), -10.0f, 10.0f) * kDegree;
  const float cy = std::cos(yaw), sy = std::sin(yaw), cp = std::cos(pitch), sp = std::sin(pitch);
  const float cr = std::cos(roll), sr = std::sin(roll);
  Pose p;
  const auto turn = [&](const Vec3& d) {
    const Vec3 a{cy * d.x + sy * d.z, d.y, -sy * d.x + cy * d.z};
    const Vec3 b{a.x, cp * a.y + sp * a.z, -sp * a.y + cp * a.z};
    return Vec3{cr * b.x - sr * b.y, sr * b.x + cr * b.y, b.z};
  };
  p.right = turn({1, 0, 0}), p.up = turn({0, 1, 0}), p.front = turn({0, 0, 1});
  p.pivot = {0, -0.55f, 0.05f};
  p.offset = {0, 0, 0};
  // A face detector frames the features whatever the pose, but not to the pixel: boxes wander by a few percent of the
  // picture.
  const Vec3 middle{0, -0.25f, 0.75f}, moved = p.place(middle);
  const float acrossX = std::clamp(0.11f * r.normal(), -0.24f, 0.24f),
              acrossY = std::clamp(0.11f * r.normal(), -0.24f, 0.24f);
  p.offset = {-0.85f * moved.x + acrossX, -0.85f * (moved.y - middle.y) + acrossY, 0};
  return p;
}

void drawLights(Scene& s, Random& r, int domain) {
  const float side = r.chance(domain == 0 ? 0.6f : 0.45f) ? -1.0f : 1.0f;
  if (domain == 0) {  // a warm window or lamp from the side
    s.key = {direction(side * r.range(0.15f, 1.1f), r.range(0.2f, 0.85f)),
             Vec3{1.0f, 0.90f, 0.78f} * r.range(1.15f, 1.5f),
             {}};
    s.fill = {direction(-side * r.range(0.5f, 0.9f), r.range(0.0f, 0.3f)),
              Vec3{0.80f, 0.90f, 1.0f} * r.range(0.18f, 0.4f),
              {}};
    s.sky = Vec3{0.80f, 0.88f, 1.0f} * r.range(0.24f, 0.36f);
  } else {  // ceiling tubes and a lamp near the lens
    s.key = {direction(side * r.range(0.05f, 0.6f), r.range(0.4f, 0.95f)),
             Vec3{0.92f, 1.0f, 0.95f} * r.range(1.0f, 1.3f),
             {}};
    s.fill = {direction(-side * r.range(0.0f, 0.4f), r.range(0.0f, 0.15f)),
              Vec3{1.0f, 0.98f, 0.94f} * r.range(0.25f, 0.48f),
              {}};
    s.sky = Vec3{0.88f, 0.97f, 1.0f} * r.range(0.22f, 0.36f);
  }
  s.rim = {
      direction(side * r.range(2.2f, 2.6f), r.range(0.2f, 0.7f)), Vec3{1.0f, 0.97f, 0.94f} * r.range(0.05f, 0.4f), {}};
  s.ground = s.sky * Vec3{0.78f, 0.66f, 0.58f};
  for (Light* lamp : {&s.key, &s.fill, &s.rim}) lamp->half = unit(lamp->toLight + Vec3{0, 0, 1});
}

void drawCamera(Scene& s, Random& r, int domain, int size) {
  const float near = domain == 0 ? r.range(6.0f, 8.0f) : r.range(9.5f, 13.0f);
  const float zoom = static_cast<float>(size) / kPictureWidth * (1 + std::clamp(0.08f * r.normal(), -0.17f, 0.17f));
  s.lens = {near, zoom * (near - 0.75f) / near, 0.5f * static_cast<float>(size), 0.452f * static_cast<float>(size)};
  Camera& c = s.camera;
  if (domain == 0) {
    c.balance = {1.03f + 0.03f * r.normal(), 1.0f, 0.95f + 0.04f * r.normal()};
    c.vignette = r.range(0.15f, 0.4f), c.blur = r.range(0.0008f, 0.003f), c.sharpen = r.range(0.02f, 0.12f);
    c.grain = r.range(0.8f, 2.2f), c.contrast = r.range(0.15f, 0.45f);
  } else {
    c.balance = {0.96f + 0.03f * r.normal(), 1.0f, 1.04f + 0.04f * r.normal()};
    c.vignette = r.range(0.0f, 0.15f), c.blur = r.range(0.002f, 0.0045f), c.sharpen = 0;
    c.grain = r.range(1.6f, 3.2f), c.contrast = r.range(0.15f, 0.4f);
  }
  c.exposure = 0.80f * (1 + std::clamp(0.16f * r.normal(), -0.35f, 0.35f));
  c.grainKey = r.bits();
}

void drawBackdrop(Backdrop& b, Random& r, int domain) {
  b.kind = domain;
  const auto tone = [&r](float low, float high, float chroma) {
    const float v = r.range(low, high), h = r.uniform() * 6.2831853f, c = chroma * v;
    return linear(v + c * std::cos(h), v + c * std::cos(h - 2.09f), v + c * std::cos(h - 4.19f));
  };
  b.top = domain == 0 ? tone(0.2f, 0.75f, 0.12f) : tone(0.55f, 0.85f, 0.06f) * Vec3{0.92f, 1.0f, 0.98f};
  b.bottom = mix(b.top, domain == 0 ? tone(0.15f, 0.6f, 0.12f) : tone(0.5f, 0.8f, 0.08f), 0.7f);
  for (int i = 0; i < 4; ++i) {
    b.spotX[i] = r.range(-0.1f, 1.1f), b.spotY[i] = r.range(-0.1f, 1.0f), b.spotSize[i] = r.range(0.2f, 0.65f);
    b.spotColor[i] = domain == 0 ? tone(0.1f, 0.9f, 0.14f) : tone(0.4f, 0.9f, 0.08f);
  }
}

inline float wrapped(float cosine, float wrap) { return std::max(0.0f, cosine * (1 - 0.8f * wrap) + 0.8f * wrap); }

// x^16 and x^128 without pow.
inline void highlights(float x, float& broad, float& tight) {
  x = std::max(0.0f, x);
  x *= x, x *= x, x *= x, x *= x;
  broad = x;
  x *= x, x *= x, x *= x;
  tight = x;
}

}  // namespace

Scene makeScene(uint64_t seed, uint32_t subject, uint32_t photo, int domain, int size) {
  Scene s{};
  const uint32_t place = static_cast<uint32_t>(domain);
  Random pose(seed, subject, photo, kPose), mood(seed, subject, photo, kExpression);
  // Lights, camera and backdrop differ between domains even for one photograph number.
  Random lights(seed ^ place, subject, photo, kLighting), camera(seed ^ place, subject, photo, kCamera);
  Random room(seed ^ place, subject, photo, kBackdrop);
  s.pose = drawPose(pose);
  drawLights(s, lights, domain);
  drawCamera(s, camera, domain, size);
  drawBackdrop(s.backdrop, room, domain);
  s.smile = 0.10f * mood.normal();
  s.open = 0.05f * std::max(0.0f, mood.normal());
  s.squint = 0.05f * mood.normal();
  s.browLift = 0.010f * mood.normal();
  s.gazeX = 0.2f * mood.normal();
  s.gazeY = 0.1f * mood.normal();
  return s;
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

Vec3 light(const Scene& s, const Vertex& at, const Finish& f) {
  const Vec3 n = unit(f.normal);
  const float key = dot(n, s.key.toLight), fill = dot(n, s.fill.toLight), rim = dot(n, s.rim.toLight);
  const float open = f.occlusion * at.ao, wr = 0.34f * f.flesh, wg = 0.12f * f.flesh, wb = 0.07f * f.flesh;
  const float shadow = at.shadow * (0.45f + 0.55f * f.occlusion), red = mix(shadow, 1.0f, 0.10f * f.flesh);
  const Vec3 direct{wrapped(key, wr) * red, wrapped(key, wg) * shadow, wrapped(key, wb) * shadow};
  const float up = 0.5f + 0.5f * n.y;
  Vec3 sum = s.key.color * direct + s.fill.color * (wrapped(fill, 0.3f) * open) + mix(s.ground, s.sky, up) * open;
  sum = sum + s.rim.color * (std::max(0.0f, rim) * open * 0.8f);
  // Light that has been through skin once comes back redder out of the folds.
  if (f.flesh > 0) sum.x += 0.05f * f.flesh * (1 - open);
  Vec3 out = f.albedo * sum;
  if (f.gloss > 0) {
    float broad, tight, broadFill, tightFill;
    highlights(dot(n, s.key.half), broad, tight);
    highlights(dot(n, s.fill.half), broadFill, tightFill);
    const float edge = sq(sq(1 - clamp01(n.z)));
    const float k = mix(broad * 0.5f, tight * 4, f.sharpness) * shadow,
                l = mix(broadFill * 0.5f, tightFill * 4, f.sharpness);
    out = out + (s.key.color * k + s.fill.color * (l * open)) * (f.gloss * 0.45f) +
          s.sky * (edge * f.gloss * open * 0.5f);
  }
  return out;
}

void castShadows(const Scene& s, Surface* const* surfaces, int count) {
  constexpr int kMap = 40;
  constexpr float kReach = 1.9f, kCell = 2 * kReach / kMap;
  float map[kMap * kMap];
  std::fill(map, map + kMap * kMap, -kFar);
  const Vec3 w = s.key.toLight, u = unit(cross({0, 1, 0}, w)), v = cross(w, u);
  const Vec3 middle{0, -0.2f, 0.3f};
  const auto cell = [&](const Vec3& p, float& x, float& y) {
    x = (dot(p - middle, u) + kReach) / kCell, y = (dot(p - middle, v) + kReach) / kCell;
    return x >= 1 && y >= 1 && x < kMap - 2 && y < kMap - 2;
  };
  float x, y;
  for (int i = 0; i < count; ++i) {
    for (const Vertex& vertex : surfaces[i]->grid) {
      if (vertex.cover <= 0 || !cell(vertex.p, x, y)) continue;
      float& top = map[static_cast<int>(y) * kMap + static_cast<int>(x)];
      top = std::max(top, dot(vertex.p, w));
    }
  }
  for (int i = 0; i < count; ++i) {
    for (Vertex& vertex : surfaces[i]->grid) {
      if (vertex.cover <= 0 || !cell(vertex.p, x, y)) continue;
      const float height = dot(vertex.p, w), fx = x - 0.5f, fy = y - 0.5f;
      const int x0 = static_cast<int>(fx), y0 = static_cast<int>(fy);
      const float tx = fx - static_cast<float>(x0), ty = fy - static_cast<float>(y0);
      float dark = 0;
      for (int k = 0; k < 4; ++k) {
        const float over = map[(y0 + k / 2) * kMap + x0 + (k & 1)] - height;
        if (over < 0.08f) continue;
        const float weight = (k & 1 ? tx : 1 - tx) * (k & 2 ? ty : 1 - ty);
        // The bias covers the slope inside one cell, or every surface would shade itself.
        dark += weight * smooth(0.08f, 0.22f, over);
      }
      vertex.shadow = 1 - 0.88f * dark;
    }
  }
}

void paintBackdrop(const Scene& s, Raster& raster) {
  const Backdrop& b = s.backdrop;
  const float step = 1.0f / static_cast<float>(raster.size());
  float spread[4];
  for (int i = 0; i < 4; ++i) spread[i] = 1 / sq(b.spotSize[i]);
  for (int y = 0; y < raster.size(); ++y) {
    const float fy = (static_cast<float>(y) + 0.5f) * step;
    for (int x = 0; x < raster.size(); ++x) {
      const float fx = (static_cast<float>(x) + 0.5f) * step;
      Vec3 c = mix(b.top, b.bottom, smooth(0, 1, fy));
      for (int i = 0; i < 4; ++i) {
        // Kind 0: soft blobs of a room out of focus; kind 1: upright panels of a wall.
        const float dx = fx - b.spotX[i], dy = b.kind == 0 ? fy - b.spotY[i] : 0.25f * (fy - b.spotY[i]);
        const float d = (dx * dx + dy * dy) * spread[i];
        c = mix(c, b.spotColor[i], (b.kind == 0 ? 0.75f : 0.4f) * hill(d));
      }
      raster.pixel(x, y) = c;
    }
  }
}

}  // namespace comface::faces
