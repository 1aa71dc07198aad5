// Growth line, volume, strands and sheen of the hair on the head.
// a is the angle around the head axis (0 in front), so strands that run down the rows converge at the crown.
#include "hair.h"

namespace comface::faces::COMFACE_ISA {
namespace {

// How much hair is left at a point: balding clears the top and keeps a fringe over the ears.
template <class T>
T kept(const Face& f, const T& v, const T& angle) {
  const float bare = clamp01(f.bald);
  return 1 - smooth(1.15f - 1.05f * bare, 1.45f - 1.05f * bare, v + 0.25f * (1 - magnitude(angle)));
}

float curtainEnd(const Face& f) { return -0.30f - 1.2f * std::max(0.0f, f.hairLength); }

struct Strand {
  Lanes tone;   // -1..1, per lock and hair
  Lanes loose;  // -1..1, ragged outline
};

Strand strands(const Portrait& q, const Lanes& across, const Lanes& along) {
  const Face& f = q.face;
  const float wave = clamp01(f.wave), curl = clamp01(f.curl), visible = q.detail(0.022f);
  Lanes x = across, y = along;
  if (wave > 0.02f) x += wave * 0.10f * sine(Lanes(along * 11 + 3 * noise(across * 2 + f.textureX, along * 1.5f)));
  if (curl > 0) {
    x += curl * 0.10f * noise(across * 9 + f.textureY, along * 11);
    y += curl * 0.10f * noise(across * 11, along * 9 + f.textureX);
  }
  const float stretch = mix(1.6f, 9.0f, curl);
  const Lanes lock = noise(x * 9 + f.textureX, y * stretch), hair = noise(x * 26 + f.textureY, y * stretch * 1.5f);
  const Lanes fine = visible > 0 ? noise(x * 64 + 9, y * stretch * 2.2f) * visible : kNone;
  return {0.42f * lock + 0.38f * hair + 0.34f * fine, 0.6f * hair + 0.4f * fine};
}

// Sheen where the strand is square to the half vector, plus plain light.
Vec3s lightHair(const Portrait& q, const Place& at, const Strand& strand, const Lanes& depth) {
  const Scene& s = q.scene;
  const Face& f = q.face;
  const float dry = clamp01(f.gray) * 0.5f + 0.4f * clamp01(f.curl);
  Finish finish{};
  finish.albedo = f.hairColor * ((1 + 0.55f * strand.tone) * depth);
  // White hairs come in strands, not as a wash.
  if (f.gray > 0.02f && f.gray < 0.98f) {
    finish.albedo = mix(finish.albedo, linear(0.75f, 0.75f, 0.76f),
                        0.30f * clamp01(f.gray * 2) * smooth(0.15f, 0.5f, strand.loose));
  }
  finish.normal = at.n + at.t * (0.25f * strand.loose);
  finish.occlusion = clamp01(0.75f + 0.35f * strand.tone);
  Vec3s out = light(s, at, finish);
  const Vec3s t = unit(at.t + at.n * (0.22f * strand.loose - 0.06f));
  const Vec3 tone =
      mix(f.hairColor * 1.6f, Vec3{0.5f, 0.5f, 0.5f}, 0.22f) * (std::max(0.05f, f.sheen) * (0.55f - 0.3f * dry));
  const Lanes shine = at.shadow * (0.7f + 0.9f * strand.tone) * depth;
  for (const Light* lamp : {&s.key, &s.fill}) {
    const Lanes along = dot(t, lamp->half);
    Lanes sheen = larger(1 - along * along, 0.0f);
    sheen *= sheen, sheen *= sheen, sheen *= sheen, sheen *= sheen;
    out = out + lamp->color * tone * (sheen * clamp01(dot(at.n, lamp->toLight) * 1.4f + 0.1f) * shine);
  }
  return {larger(out.x, 0.0f), larger(out.y, 0.0f), larger(out.z, 0.0f)};
}

}  // namespace

float hairEdge(const Face& f, float angle) {
  const float a = std::fabs(angle), back = f.recede * 0.27f, side = 0.025f * f.part * (angle > 0 ? 1.0f : -1.0f);
  const float front = 0.70f + f.hairline + side, burn = std::clamp(f.sideburns, -1.1f, 1.7f);
  // Long hair falls over the temples and the ears; short hair leaves them free.
  const float drape = smooth(0.1f, 0.5f, f.hairLength);
  const float line[8][2] = {{0.0f, front + 0.35f * back},
                            {0.40f, front + 0.025f + 1.25f * back - 0.02f * drape},
                            {0.75f, front - 0.07f + 1.3f * back - 0.16f * drape},
                            {1.0f, 0.36f + 0.45f * back - 0.20f * drape},
                            {1.12f, 0.08f + 0.1f * back - 0.35f * drape},
                            {1.28f, 0.02f - 0.34f * burn - 0.5f * drape},
                            {1.45f, -0.02f - 0.55f * drape},
                            {1.75f, -0.55f}};
  int i = 0;
  while (i < 6 && a > line[i + 1][0]) ++i;
  float edge = mix(line[i][1], line[i + 1][1], clamp01((a - line[i][0]) / (line[i + 1][0] - line[i][0])));
  edge = std::min(edge, 0.95f) + 0.02f * noise(angle * 5 + f.textureX, 3);
  // A fringe lowers the line over the forehead, furthest beside the parting.
  const float bangs = clamp01(f.bangs);
  if (bangs > 0) {
    const float low = 0.27f + 0.10f * sq((angle - 0.3f * f.part) / 0.8f);
    edge = mix(edge, std::min(edge, low), smooth(0.0f, 0.9f, bangs) * smooth(1.15f, 0.9f, a));
  }
  return edge;
}

void buildCap(const Face& f, const Landmarks& marks, Surface& head, Surface& cap) {
  const int rows = head.rows - underRows(head.rows);
  cap.resize(rows, head.cols);
  const float volume = std::max(0.02f, 0.055f + 0.12f * f.volume + 0.10f * std::max(0.0f, f.curl));
  const float uneven = 0.25f + 0.6f * clamp01(f.wave) + 0.9f * clamp01(f.curl), bald = 1 - 0.65f * clamp01(f.bald);
  for (int c = 0; c < head.cols; ++c) {
    const float angle = head.at(0, c).a, line = hairEdge(f, angle);  // all of a column share the angle
    for (int r = 0; r < head.rows; ++r) head.at(r, c).edge = head.at(r, c).v - line;
    for (int r = 0; r < rows; ++r) {
      const Vertex& skin = head.at(r, c);
      Vertex& vertex = cap.at(r, c);
      vertex = skin;
      const float over = skin.edge, left = kept(f, skin.v, angle);
      vertex.cover = over > -0.16f && left > 0.05f ? 1.0f : 0.0f;
      if (vertex.cover <= 0) continue;
      const float grown = smooth(-0.08f, 0.34f, over);
      float thick =
          0.012f + volume * grown * (0.35f + 0.65f * smooth(0.1f, 0.8f, skin.v)) * (0.25f + 0.75f * left) * bald;
      // Locks stand out unevenly; the parting sinks.
      const float lump =
          noise(angle * 3 + f.textureX, skin.v * 3) * uneven + 0.15f * noise(angle * 6 + f.textureY, skin.v * 2);
      const float pole = smooth(marks.crownY, marks.crownY - 0.2f, skin.v);  // all angles meet at the crown
      thick *= 1 - 0.35f * pole * ridge(angle - 0.45f * f.part, 0.16f) * smooth(0.6f, 1.0f, skin.v);
      thick *= 1 + 0.35f * lump * pole;
      thick += 0.03f * clamp01(f.bangs) * ridge(skin.v - 0.5f, 0.35f) * smooth(1.1f, 0.6f, std::fabs(angle));
      vertex.p = skin.p + skin.n * thick;
      vertex.ao = mix(0.55f, 1.0f, grown) * mix(1.0f, 0.8f, smooth(1.0f, 1.9f, std::fabs(angle)));
    }
  }
  computeNormals(cap);
}

void hideScalp(const Face& f, const Surface& cap, Surface& head) {
  for (int r = 0; r < cap.rows; ++r) {
    for (int c = 0; c < cap.cols; ++c) {
      Vertex& skin = head.at(r, c);
      if (cap.at(r, c).cover > 0 && skin.edge > 0.25f && skin.v < 1.0f && f.bald < 0.05f) skin.cover = 0;
    }
  }
}

void buildCurtain(const Face& f, const Pose& pose, float from, float to, int rows, int cols, Surface& curtain) {
  curtain.resize(rows, cols, true);
  const float length = std::max(0.0f, f.hairLength), bottom = curtainEnd(f);
  const float thick = 0.06f + 0.11f * std::max(0.0f, f.volume) + 0.08f * clamp01(f.curl);
  const float full = (0.06f + 0.10f * f.volume + 0.10f * clamp01(f.curl)) * smooth(0.0f, 0.5f, length);
  for (int r = 0; r < rows; ++r) {
    const float v = static_cast<float>(r) / static_cast<float>(rows - 1),
                y = mix(mix(0.70f, 0.05f, smooth(0.1f, 0.6f, f.bald)), bottom, v);
    const float swing = smooth(0.2f, 0.9f, 0.62f - y);
    const float middle = (0.765f + thick) * (1 + f.width) * (1 - 0.13f * smooth(0.35f, 0.70f, y)) + full * swing -
                         0.16f * smooth(-0.8f, -1.6f, y);
    for (int c = 0; c < cols; ++c) {
      const float s = static_cast<float>(c) / static_cast<float>(cols - 1);
      // Lower down the front edge comes forward over the collar bones.
      const float side = mix(from, to, s), turn = std::min(1.0f, std::fabs(side) / 1.5f);
      const float angle = side * (1 - 0.13f * swing * (1 - turn * turn));
      const float radius = middle * (1 + 0.04f * noise(angle * 4 + f.textureX, y * 2) * swing +
                                     0.03f * clamp01(f.wave) * sine(9 * y + 3 * angle));
      const float front = cosine(angle);
      Vertex& vertex = curtain.at(r, c);
      vertex.u = std::fabs(side), vertex.v = y, vertex.a = angle;
      vertex.p = pose.place({radius * sine(angle), y, (radius + 0.06f) * front * (0.92f - 0.12f * swing) - 0.02f});
      // Behind the neck no light arrives.
      vertex.ao = front > -0.2f ? 0.95f - 0.2f * swing * smooth(0.35f, -0.2f, front) : 0.30f;
    }
  }
  computeNormals(curtain);
  faceCamera(curtain);
}

Color paintCap(const Portrait& q, const Place& at) {
  const Face& f = q.face;
  if (!any(at.edge > -0.17f)) return Color{};
  // Combed to the side away from the parting, or straight down over a fringe.
  const Lanes angle = magnitude(at.a);
  const Lanes comb = smooth(0.2f, 0.6f, std::fabs(f.part)) * (1 - clamp01(f.bangs)) * smooth(1.2f, 0.6f, angle);
  const Lanes across = mix(at.a + 0.35f * f.part * smooth(1.0f, 0.3f, at.v),
                           1.5f * at.v + 0.45f * (f.part > 0 ? 1.0f : -1.0f) * at.a, comb);
  const Strand strand = strands(q, across, mix(at.v, at.a, comb));
  const float ragged = 1.4f * (0.025f + 0.075f * clamp01(f.bangs) + 0.03f * clamp01(f.curl));
  // Before the ears the growth line falls steeply: there single strands reach past it, or it would be cut as with
  // scissors.
  const Lanes strayed = 0.11f * smooth(0.85f, 1.05f, angle) * (strand.loose + 0.7f);
  const Lanes left = kept(f, at.v, at.a);
  // The outline frays where the shell turns away.
  const Lanes alpha = amount(at.edge > -0.17f) * smooth(-0.05f, 0.06f, at.edge + ragged * strand.loose + strayed) *
                      smooth(0.15f, 0.7f, left + 0.3f * strand.loose * left) *
                      smooth(-0.18f, 0.0f, at.n.z + 0.10f * strand.loose);
  const Mask seen = alpha > 0.01f;
  if (!any(seen)) return Color{};
  const Lanes parting = 1 - 0.4f * ridge(Lanes(at.a - 0.45f * f.part), 0.07f) * smooth(0.75f, 1.0f, at.v);
  const Lanes depth = mix(0.62f, 1.0f, smooth(-0.02f, 0.25f, at.edge)) * parting;
  return {lightHair(q, at, strand, depth), seen ? alpha : kNone};
}

Color paintCurtain(const Portrait& q, const Place& at) {
  const Face& f = q.face;
  const Strand strand = strands(q, at.a, at.v);
  // Ragged at the front edge and at the ends.
  const Lanes rim = (at.u - kCurtainStart) * 16;
  const Lanes alpha = smooth(0.0f, 0.5f, rim + 0.3f * strand.loose) * smooth(0.0f, 0.12f, f.hairLength) *
                      smooth(0.0f, 0.16f, at.v - curtainEnd(f) + 0.12f * strand.loose - 0.05f);
  const Mask seen = alpha > 0.01f;
  if (!any(seen)) return Color{};
  const Lanes inner = magnitude(at.a) > 1.8235f ? spread(0.45f) : spread(1);  // behind the neck
  return {lightHair(q, at, strand, inner * mix(0.75f, 1.0f, clamp01(Lanes(rim * 0.5f)))), seen ? alpha : kNone};
}

}  // namespace comface::faces::COMFACE_ISA
