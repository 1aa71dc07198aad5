// The head: a smooth skull from two profiles (half width and depth by height), then hills and hollows for features.
// Relief is pushed outward mostly along z; keep every hill compact, most corners visit all of them.
#include "head.h"

namespace comface::faces::COMFACE_ISA {
namespace {

constexpr float kMaxAngle = 2.15f;  // radians from the front; nothing further back is ever seen

// Catmull-Rom through (y, value) pairs sorted by falling y.
float profile(const float (*points)[2], int count, float y) {
  int i = 0;
  while (i + 2 < count && y < points[i + 1][0]) ++i;
  const float y0 = points[i][0], y1 = points[i + 1][0], t = clamp01((y0 - y) / (y0 - y1));
  const float p1 = points[i][1], p2 = points[i + 1][1];
  const float p0 = points[std::max(i - 1, 0)][1], p3 = points[std::min(i + 2, count - 1)][1];
  return p1 + 0.5f * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)));
}

// kLanes columns of the grid; the last ones of a row may lie beyond it.
struct Columns {
  Lanes angle, across, ahead, jaw;  // across and ahead: sine and cosine of the angle
};

// The relief of kLanes corners; ax is the distance from the middle of the face.
Lanes noseRelief(const Face& f, const Landmarks& m, const Lanes& ax, const Lanes& y) {
  // The wings end higher than the tip, so the rim of the underside is an arch.
  const Lanes k = (m.noseTop - y) * (1 / (m.noseTop - m.noseBase)) + 0.22f * ax;
  const Mask near = (k > -0.3f) & (k < 1.25f) & (ax < 0.3f);
  if (!any(near)) return kNone;
  const float tip = 0.90f - 0.03f * f.noseTurn;
  const float height = 0.30f + f.noseHeight;
  Lanes h = height * (0.20f + 0.80f * k * (0.55f + 0.45f * k)) * smooth(-0.3f, 0.15f, k);
  h += f.noseHump * 1.6f * ridge(Lanes(k - 0.45f), 0.3f);
  h *= smooth(1.17f, tip - 0.07f, k);
  const Lanes half = 0.082f + 0.055f * clamp01(k) + 0.5f * f.noseWidth * clamp01(Lanes(k + 0.2f)),
              w2 = sq(Lanes(ax / half));
  Lanes z = h * (0.65f * hill(Lanes(w2 * (1 / sq(1.2f)))) + 0.35f * hill(Lanes(w2 * (1 / sq(1.9f)))));
  z += (0.050f + f.noseTip) * hill(ax, y - (m.noseBase + 0.065f), 0.105f, 0.10f);
  z += 0.115f * hill(ax - m.noseWidth * 0.70f, y - (m.noseBase + 0.055f), 0.075f + 0.2f * f.noseWidth, 0.085f);
  return near ? z : kNone;
}

Lanes mouthRelief(const Face& f, const Landmarks& m, const Lanes& ax, const Lanes& y) {
  const float up = m.lipUpper, low = m.lipLower, w = m.mouthWidth, smile = f.smile;
  // Apples of the cheeks.
  const Lanes apples = 0.055f * smile * hill(ax - 0.40f, y + 0.30f - 0.06f * smile, 0.24f, 0.20f);
  if (!any((ax < 1.7f * w) & (y < m.mouthY + 0.4f))) return apples;
  Lanes z = 0.030f * hill(ax, y - (m.mouthY + 0.02f), w * 1.7f, 0.30f);  // the arch of the teeth
  z += (0.035f + 0.45f * (up - 0.066f)) * hill(ax, y - (m.mouthY + 0.45f * up), w * 0.95f, up * 1.2f);
  z += (0.045f + 0.45f * (low - 0.092f)) * hill(ax, y - (m.mouthY - m.gap - 0.5f * low), w * 0.8f, low * 1.1f);
  z -= 0.035f * hill(ax, y - (m.mouthY - m.gap - low - 0.085f), w * 0.9f, 0.09f);  // fold over the chin
  z -= 0.022f * hill(ax, y - (m.mouthY + up + 0.06f), 0.045f, 0.09f);              // philtrum
  z -= 0.03f * hill(ax - w, y - (m.mouthY + m.cornerLift), 0.07f, 0.07f);
  return z + apples;
}

Lanes softRelief(const Face& f, const Landmarks& m, const Lanes& ax, const Lanes& y) {
  const float lean = std::max(0.0f, -f.fat), full = std::max(0.0f, f.fat) + 0.5f * f.puff;
  const Lanes ex = ax - m.eyeX, ey = y - m.eyeY;
  Lanes z{};
  if (any(y > -0.35f)) {
    z += (0.035f + f.browRidge) * hill(ax - 0.27f, y - (m.browY - 0.03f), 0.32f, 0.15f);
    z -= (0.02f - 0.4f * f.browRidge) * hill(ax, y - 0.13f, 0.11f, 0.16f);
    z -= (0.115f + f.eyeDepth - 0.03f * std::max(0.0f, f.puff)) * hill(ex, ey - 0.015f, 0.27f, 0.17f);
    z += 0.075f * hill(ex, ey + 0.005f, 0.165f, 0.13f);  // eyeball
    z += (0.045f * f.bags + 0.045f * f.puff) * hill(ex, ey + 0.125f, 0.15f, 0.055f);
    z += 0.15f * f.forehead * hill(ax, y - 0.55f, 0.5f, 0.3f);
    z -= 0.02f * hill(ax - 0.66f, y - 0.18f, 0.16f, 0.25f);  // temple
  }
  if (any(y < 0.1f)) {
    z += (0.040f + 0.9f * f.cheekbone) * hill(ax - 0.46f, y + 0.18f, 0.27f, 0.20f);
    z -= (0.01f + 0.055f * lean + 0.4f * f.cheekbone) * hill(ax - 0.44f, y + 0.52f, 0.32f, 0.34f);
    z += 0.085f * full * hill(ax - 0.40f, y + 0.50f, 0.42f, 0.48f);
    z += 0.05f * f.jowl * hill(ax - 0.40f, y - (m.chinY + 0.24f), 0.17f, 0.16f);
    z += (0.05f + 0.5f * f.chinForward) * hill(ax, y - (m.chinY + 0.13f), 0.20f + f.chinWidth, 0.14f);
  }
  return z;
}

// Open sky seen from a point, by place: sockets, beside the nose, under the lip and the jaw.
Lanes ambient(const Face& f, const Landmarks& m, const Lanes& ax, const Lanes& y, const Lanes& angle) {
  Lanes dark = 0.30f * smooth(m.chinY + 0.10f, m.chinY - 0.03f, y) + 0.30f * smooth(1.0f, 1.7f, magnitude(angle));
  if (any(y < 0.25f)) {
    dark += 0.34f * hill(ax - m.eyeX + 0.06f, y - m.eyeY - 0.05f, 0.24f, 0.13f);
    dark += 0.22f * hill(ax - 0.09f, y - m.eyeY + 0.01f, 0.09f, 0.12f);
    dark += 0.28f * hill(ax - m.noseWidth - 0.04f, y - m.noseBase - 0.02f, 0.09f, 0.12f);
    dark += 0.26f * hill(ax, y - (m.noseBase - 0.03f), 0.17f, 0.06f);
    dark += 0.26f * hill(ax, y - (m.mouthY - m.gap - m.lipLower - 0.055f), 0.2f, 0.06f);
    dark += 0.10f * std::max(0.0f, -f.fat) * hill(ax - 0.5f, y + 0.5f, 0.25f, 0.3f);
  }
  return 1 - smaller(dark, 0.75f);
}

Vec3 underJaw(const Face& f, const Vec3& edge, float q) {
  // Flesh hangs lowest a little behind the chin; a full neck fills the angle.
  const float bulge = f.doubleChin * 0.085f * sine(3.1f * std::min(1.0f, q * 1.1f)) * hill(sq(edge.x / 0.6f));
  Vec3 p = edge;
  p.x *= 1 - 0.30f * q;
  p.z = mix(edge.z, 0.18f, q * 0.95f) + 0.3f * bulge;
  p.y += -0.035f * sine(3.1f * q) + 0.07f * q * (1 - 0.5f * f.doubleChin) - 1.25f * bulge;
  return p;
}

// Corners of a row above the jaw line, in head space: y runs from the crown to each column's jaw.
void buildCorners(const Skull& skull, const Columns& columns, float down, Vertex* row, int count) {
  const Face& face = skull.face;
  const Landmarks& marks = skull.marks;
  const auto& [angle, across, ahead, jaw] = columns;
  const Lanes y = mix(marks.crownY, jaw, down);
  const auto [p, x, ax] = raise(skull, across, ahead, y);
  const Lanes ao = ambient(face, marks, ax, y, angle);
  for (int i = 0; i < count; ++i) {
    Vertex& vertex = row[i];
    vertex.p = {p.x[i], y[i], p.z[i]};
    vertex.u = x[i], vertex.v = y[i], vertex.a = angle[i], vertex.ao = ao[i];
  }
}

}  // namespace

Skull::Skull(const Face& f, const Landmarks& m) : face(f), marks(m) {
  // Bone sets a limit to leanness, nothing to fullness.
  const float fat = f.fat < 0 ? 0.5f * f.fat : f.fat, low = m.chinY / -1.13f, oval = f.oval;
  const float jaw = f.jaw - 0.035f * oval, chin = f.chinWidth - 0.025f * oval;
  const float w[12][2] = {{0.45f, 0.765f + 0.02f * oval},
                          {0.25f, 0.765f},
                          {0.05f, 0.755f + 0.02f * fat},
                          {-0.18f, 0.715f + 0.5f * f.cheekbone + 0.05f * fat},
                          {-0.40f, 0.655f + 0.3f * f.cheekbone + 0.085f * fat + 0.4f * jaw},
                          {-0.58f * low, 0.620f + 0.135f * fat + 0.85f * jaw},
                          {-0.75f * low, 0.572f + 0.145f * fat + jaw + 0.03f * f.jowl},
                          {-0.90f * low, 0.505f + 0.125f * fat + 0.7f * jaw + 0.5f * chin + 0.035f * f.jowl},
                          {-1.02f * low, 0.450f + 0.09f * fat + 0.3f * jaw + 0.9f * chin},
                          {-1.10f * low, 0.415f + 0.05f * fat + 1.2f * chin},
                          {-1.16f * low, 0.39f + 0.04f * fat + 1.2f * chin},
                          {-1.30f * low, 0.34f + 0.04f * fat + 1.2f * chin}};
  const float d[12][2] = {{0.60f, 0.860f + 0.02f * f.forehead},
                          {0.40f, 0.885f},
                          {0.22f, 0.880f + 0.2f * f.browRidge},
                          {0.02f, 0.835f},
                          {-0.25f, 0.845f},
                          {-0.50f * low, 0.865f},
                          {-0.70f * low, 0.865f},
                          {-0.86f * low, 0.82f + 0.5f * f.chinForward},
                          {-1.0f * low, 0.835f + f.chinForward},
                          {-1.10f * low, 0.80f + f.chinForward},
                          {-1.16f * low, 0.73f + f.chinForward},
                          {-1.30f * low, 0.60f}};
  std::copy(&w[0][0], &w[0][0] + 24, &width[0][0]);
  std::copy(&d[0][0], &d[0][0] + 24, &depth[0][0]);
}

// Above the profiles both close over the top like an egg.
float Skull::halfWidth(float y) const {
  const float k = 1 + face.width;
  if (y <= 0.45f) return k * profile(width, 12, y);
  const float t = clamp01((y - 0.45f) / (marks.crownY - 0.45f));
  return k * width[0][1] * std::sqrt(std::max(0.0f, 1 - t * t * (0.85f + 0.15f * t)));
}
float Skull::halfDepth(float y) const {
  if (y <= 0.60f) return profile(depth, 12, y);
  const float t = clamp01((y - 0.60f) / (marks.crownY - 0.60f));
  return depth[0][1] * std::sqrt(std::max(0.0f, 1 - t * t));
}
// The jaw line climbs from the chin to behind the ear.
float Skull::jawLine(float angle) const {
  const float rise = smooth(0.28f, 1.75f, std::fabs(angle));
  return mix(marks.chinY, -0.42f, rise) - 0.02f * face.fat * smooth(0.1f, 0.6f, std::fabs(angle));
}

SkinPoints raise(const Skull& skull, const Lanes& across, const Lanes& ahead, const Lanes& y) {
  const Face& face = skull.face;
  const Landmarks& marks = skull.marks;
  Lanes wide{}, deep{};
  for (int i = 0; i < kLanes; ++i) wide[i] = skull.halfWidth(y[i]), deep[i] = skull.halfDepth(y[i]);
  // A face is flatter in front than an ellipse.
  const Lanes x = wide * across, back = deep * (ahead > 0 ? ahead * (1.22f - 0.22f * ahead * ahead) : ahead);
  const Lanes ax = magnitude(x - face.asymmetry * (1 - 0.6f * y)), facing = smooth(-0.05f, 0.3f, ahead);
  Lanes px = x, pz = back;
  if (any(facing > 0)) {
    const Lanes soft = facing * softRelief(face, marks, ax, y);
    px += 0.6f * soft * across;
    pz += facing * (noseRelief(face, marks, ax, y) + mouthRelief(face, marks, ax, y)) + soft * (0.4f + 0.6f * ahead);
  }
  return {{px, y, pz}, x, ax};
}

int underRows(int rows) { return std::max(5, rows / 7); }

Landmarks findLandmarks(const Face& f) {
  Landmarks m;
  const float low = 1 + f.length;
  m.eyeX = 0.317f + f.eyeX;
  m.eyeY = f.eyeY;
  m.eyeWidth = 0.163f + f.eyeWidth;
  const float squint = std::clamp(
      f.squint + 0.28f * std::max(0.0f, f.smile) + 0.12f * f.puff + 0.08f * std::max(0.0f, f.fat), -0.6f, 1.0f);
  const float open = std::max(0.25f, 1 + f.eyeOpen) * (1 - 0.72f * squint);
  m.eyeUpper = 0.070f * std::max(0.15f, open);
  m.eyeLower = 0.041f * std::max(0.25f, 0.4f + 0.6f * open - 0.25f * std::max(0.0f, f.smile));
  m.browY = 0.235f + f.browY;
  m.browInner = 0.125f - f.browIn;
  m.browOuter = 0.525f + f.browLength;
  m.noseTop = 0.06f;
  m.noseBase = -0.455f * (1 + 0.6f * f.length) - f.noseLength;
  m.noseWidth = 0.150f + f.noseWidth;
  const float smile = f.smile;
  m.mouthY = -0.705f * (1 + 0.8f * f.length) - 0.5f * f.noseLength + f.mouthY;
  m.mouthWidth = 0.258f + f.mouthWidth + 0.085f * smile - 0.012f * f.open;
  m.cornerLift = 0.095f * smile - 0.008f;
  m.gap = 0.100f * std::max(0.0f, f.open);
  const float thin = (1 - 0.22f * std::max(0.0f, smile)) * (1 - 0.5f * clamp01(f.press));
  m.lipUpper = std::max(0.018f, (0.066f + f.lipUpper + 0.006f * f.puff) * thin);
  m.lipLower = std::max(0.024f, (0.092f + f.lipLower + 0.008f * f.puff) * thin);
  m.chinY = -1.13f * low - f.chinLength - 0.03f * f.oval - 0.35f * m.gap;
  m.crownY = 1.10f + 0.3f * f.forehead;
  return m;
}

void buildHead(const Face& face, const Landmarks& marks, const Pose& pose, int rows, int cols, Surface& head) {
  const Skull skull(face, marks);
  const int under = underRows(rows), upper = rows - under;
  head.resize(rows, cols);
  for (int c = 0; c < cols; c += kLanes) {
    Columns columns;
    for (int i = 0; i < kLanes; ++i) {
      const float s = 2.0f * static_cast<float>(c + i) / static_cast<float>(cols - 1) - 1;
      columns.angle[i] = kMaxAngle * s * (0.62f + 0.38f * s * s);
      columns.jaw[i] = skull.jawLine(columns.angle[i]);
    }
    columns.across = sine(columns.angle), columns.ahead = cosine(columns.angle);
    for (int r = 0; r < upper; ++r) {
      // Rows crowd towards the crown, where the skull closes fast.
      const float v = static_cast<float>(r) / static_cast<float>(upper - 1);
      const float down = v < 0.15f ? 3.6036f * v * v : 3.6036f * 0.15f * (2 * v - 0.15f);
      buildCorners(skull, columns, down, &head.at(r, c), std::min(kLanes, cols - c));
    }
  }
  for (int r = upper; r < rows; ++r) {
    const float q = static_cast<float>(r - upper + 1) / static_cast<float>(under);
    for (int c = 0; c < cols; ++c) {
      const Vertex& edge = head.at(upper - 1, c);
      Vertex& vertex = head.at(r, c);
      vertex = edge;
      vertex.p = underJaw(face, edge.p, q);
      vertex.v = edge.v - 0.25f * q;
      vertex.ao = edge.ao * (1 - 0.35f * q);
    }
  }
  for (Vertex& vertex : head.grid) vertex.p = pose.place(vertex.p);
  computeNormals(head);
}

}  // namespace comface::faces::COMFACE_ISA
