// Draws the scene of a photograph and lights its surfaces: a key with soft shadows, a fill, a rim and a sky.
// Skin lets red light bleed past the terminator; everything else uses the same few terms with flesh = 0.
#include "noise.h"
#include "scene.h"

namespace comface::faces::COMFACE_ISA {
namespace {

constexpr float kPictureWidth =
    2.34f;  // units across the picture at the head: eyes at 45 %, the face fills 60 % of the width

Vec3 direction(float azimuth, float elevation) {
  return {cosine(elevation) * sine(azimuth), sine(elevation), cosine(elevation) * cosine(azimuth)};
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

void drawCamera(Scene& s, Random& r, int domain, int size, float moves) {
  const float near = domain == 0 ? r.range(6.0f, 8.0f) : r.range(9.5f, 13.0f);
  const float zoom =
      static_cast<float>(size) / kPictureWidth * (1 + moves * std::clamp(0.08f * r.normal(), -0.17f, 0.17f));
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
    return linear(v + c * cosine(h), v + c * cosine(h - 2.09f), v + c * cosine(h - 4.19f));
  };
  b.top = domain == 0 ? tone(0.2f, 0.75f, 0.12f) : tone(0.55f, 0.85f, 0.06f) * Vec3{0.92f, 1.0f, 0.98f};
  b.bottom = mix(b.top, domain == 0 ? tone(0.15f, 0.6f, 0.12f) : tone(0.5f, 0.8f, 0.08f), 0.7f);
  for (int i = 0; i < 4; ++i) {
    b.spotX[i] = r.range(-0.1f, 1.1f), b.spotY[i] = r.range(-0.1f, 1.0f), b.spotSize[i] = r.range(0.2f, 0.65f);
    b.spotColor[i] = domain == 0 ? tone(0.1f, 0.9f, 0.14f) : tone(0.4f, 0.9f, 0.08f);
  }
}

inline Lanes wrapped(const Lanes& cosine, const Lanes& wrap) {
  return larger(cosine * (1 - 0.8f * wrap) + 0.8f * wrap, 0.0f);
}

// x^16 and x^128 without pow.
inline void highlights(Lanes x, Lanes& broad, Lanes& tight) {
  x = larger(x, 0.0f);
  x *= x, x *= x, x *= x, x *= x;
  broad = x;
  x *= x, x *= x, x *= x;
  tight = x;
}

}  // namespace

Scene makeScene(const Shot& shot, int size) {
  Scene s{};
  const auto& [seed, subject, photo, domain, changes, frame] = shot;
  const uint64_t place = seed ^ static_cast<uint64_t>(domain);
  // Lights, camera and backdrop differ between domains even for one photograph number.
  Random lights(place, subject, photo, kLighting), camera(place, subject, photo, kCamera);
  Random room(place, subject, photo, kBackdrop);
  holdStill(shot, s);
  drawLights(s, lights, domain);
  drawCamera(s, camera, domain, size, movesOf(shot));
  if (frame >= 0) s.camera.grainKey ^= mix32(static_cast<uint32_t>(frame) + 1);
  drawBackdrop(s.backdrop, room, domain);
  return s;
}

Vec3s light(const Scene& s, const Place& at, const Finish& f) {
  const Vec3s n = unit(f.normal);
  const Lanes key = dot(n, s.key.toLight), fill = dot(n, s.fill.toLight), rim = dot(n, s.rim.toLight);
  const Lanes open = f.occlusion * at.ao;
  const Lanes shadow = at.shadow * (0.45f + 0.55f * f.occlusion), red = mix(shadow, spread(1), 0.10f * f.flesh);
  const Vec3s direct{wrapped(key, 0.34f * f.flesh) * red, wrapped(key, 0.12f * f.flesh) * shadow,
                     wrapped(key, 0.07f * f.flesh) * shadow};
  const Lanes up = 0.5f + 0.5f * n.y;
  Vec3s sum = s.key.color * direct + s.fill.color * (wrapped(fill, spread(0.3f)) * open) +
              mix(s.ground, s.sky, up) * open + s.rim.color * (larger(rim, 0.0f) * open * 0.8f);
  // Light that has been through skin once comes back redder out of the folds.
  sum.x += 0.05f * f.flesh * (1 - open);
  const Vec3s out = f.albedo * sum;
  if (!any(f.gloss > 0)) return out;
  Lanes broad, tight, broadFill, tightFill;
  highlights(dot(n, s.key.half), broad, tight);
  highlights(dot(n, s.fill.half), broadFill, tightFill);
  const Lanes edge = sq(sq(Lanes(1 - clamp01(n.z)))), gloss = larger(f.gloss, 0.0f);
  const Lanes k = mix(broad * 0.5f, tight * 4, f.sharpness) * shadow * gloss * 0.45f;
  const Lanes l = mix(broadFill * 0.5f, tightFill * 4, f.sharpness) * open * gloss * 0.45f;
  return out + s.key.color * k + s.fill.color * l + s.sky * (edge * gloss * open * 0.5f);
}

void castShadows(const Scene& s, Surface* const* surfaces, int count) {
  constexpr int kMap = 40;
  constexpr float kReach = 1.9f, kCell = 2 * kReach / kMap;
  float map[kMap * kMap];
  std::fill(map, map + kMap * kMap, -kFar);
  const Vec3 w = s.key.toLight, u = unit(cross({0, 1, 0}, w)), v = cross(w, u), middle{0, -0.2f, 0.3f};
  // Along u and v in cells, and the height towards the light.
  const Vec3 acrossMap = u * (1 / kCell), downMap = v * (1 / kCell);
  const float originX = kReach / kCell - dot(middle, acrossMap), originY = kReach / kCell - dot(middle, downMap);
  size_t corners = 0, next = 0;
  for (int i = 0; i < count; ++i) corners += surfaces[i]->grid.size();
  thread_local std::vector<Vec3> kept;
  kept.resize(corners);
  Vec3* const places = kept.data();  // once: in a library each look at what is local to a thread is a call
  for (int i = 0; i < count; ++i) {
    for (const Vertex& vertex : surfaces[i]->grid) {
      Vec3& at = places[next++];
      at = {dot(vertex.p, acrossMap) + originX, dot(vertex.p, downMap) + originY, dot(vertex.p, w)};
      const bool isOnMap = at.x >= 1 && at.y >= 1 && at.x < kMap - 2 && at.y < kMap - 2;
      if (vertex.cover <= 0 || !isOnMap) at.z = kFar;
      if (at.z >= kFar) continue;
      float& top = map[static_cast<int>(at.y) * kMap + static_cast<int>(at.x)];
      top = std::max(top, at.z);
    }
  }
  next = 0;
  for (int i = 0; i < count; ++i) {
    for (Vertex& vertex : surfaces[i]->grid) {
      const Vec3 at = places[next++];
      if (at.z >= kFar) continue;
      const float fx = at.x - 0.5f, fy = at.y - 0.5f;
      const int x0 = static_cast<int>(fx), y0 = static_cast<int>(fy);
      const float tx = fx - static_cast<float>(x0), ty = fy - static_cast<float>(y0);
      const float* cell = &map[y0 * kMap + x0];
      // The bias covers the slope inside one cell, or every surface would shade itself.
      const Quad dark = smooth(0.08f, 0.22f, Quad{cell[0], cell[1], cell[kMap], cell[kMap + 1]} - at.z);
      vertex.shadow = 1 - 0.88f * mix(mix(dark[0], dark[1], tx), mix(dark[2], dark[3], tx), ty);
    }
  }
}

void paintBackdrop(const Scene& s, Raster& raster) {
  const Backdrop& b = s.backdrop;
  const int size = raster.size();
  const float step = 1.0f / static_cast<float>(size);
  Lanes ahead{};
  for (int i = 0; i < kLanes; ++i) ahead[i] = (static_cast<float>(i) + 0.5f) * step;
  for (int y = 0; y < size; ++y) {
    const float fy = (static_cast<float>(y) + 0.5f) * step;
    const Vec3 wall = mix(b.top, b.bottom, smooth(0, 1, fy));
    for (int x = 0; x < size; x += kLanes) {
      const Lanes fx = ahead + static_cast<float>(x) * step;
      Vec3s c = wall * spread(1);
      for (int i = 0; i < 4; ++i) {
        // Kind 0: soft blobs of a room out of focus; kind 1: upright panels of a wall.
        const float dy = (b.kind == 0 ? 1.0f : 0.25f) * (fy - b.spotY[i]), spread = 1 / sq(b.spotSize[i]);
        const Lanes d = (sq(Lanes(fx - b.spotX[i])) + dy * dy) * spread;
        c = mix(c, b.spotColor[i], (b.kind == 0 ? 0.75f : 0.4f) * hill(d));
      }
      for (int i = 0; i < kLanes && x + i < size; ++i) raster.pixel(x + i, y) = {c.x[i], c.y[i], c.z[i]};
    }
  }
}

}  // namespace comface::faces::COMFACE_ISA
