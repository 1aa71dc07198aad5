// Ears, neck and shoulders: plain surfaces that need only look right from the front.
// The neck follows the head at its top and the shoulders at its bottom; the shoulders do not turn with the head.
#include "head.h"

namespace comface::faces::COMFACE_ISA {

void buildEar(const Face& face, const Pose& pose, float side, Surface& ear) {
  constexpr int kRows = 11, kCols = 8;
  ear.resize(kRows, kCols, true);
  const float rootX = (0.735f + 0.02f * face.jaw) * (1 + face.width);
  for (int r = 0; r < kRows; ++r) {
    const float v = 2.0f * static_cast<float>(r) / (kRows - 1) - 1;  // -1 top .. 1 lobe
    for (int c = 0; c < kCols; ++c) {
      const float u = static_cast<float>(c) / (kCols - 1);  // 0 at the head .. 1 outer rim
      const float outline = std::sqrt(std::max(0.0f, 1 - v * v * (0.72f + 0.28f * v * v))) * (1 - 0.22f * v);
      const float reach = u * outline * (0.21f + 0.05f * face.earSize);
      Vertex& vertex = ear.at(r, c);
      // The rim curls forward, the bowl sinks behind it; the root reaches into the head, or there would be a slit
      // beside a narrow one.
      const float bowl = 0.07f * hill((u - 0.5f) / 0.5f, v - 0.1f, 1, 0.9f);
      const Vec3 p{side * (rootX - 0.01f - 0.12f * sq(1 - u) + reach * 0.62f),
                   -0.13f - (0.27f + 0.07f * face.earSize) * v + 0.03f * u, 0.02f - reach * 0.85f - bowl};
      vertex.p = pose.place(p);
      vertex.u = u, vertex.v = v;
      vertex.ao = 0.9f - 0.45f * hill(u - 0.42f, v - 0.05f, 0.38f, 0.6f) - 0.2f * (1 - u);
    }
  }
  computeNormals(ear);
  faceCamera(ear);
}

void buildNeck(const Face& face, const Landmarks& marks, const Pose& pose, int size, Surface& neck) {
  constexpr int kRows = 9;
  const int cols = size < 128 ? 15 : 21;
  neck.resize(kRows, cols);
  const float full = std::max(0.0f, face.fat);
  for (int r = 0; r < kRows; ++r) {
    const float v = static_cast<float>(r) / (kRows - 1);
    for (int c = 0; c < cols; ++c) {
      const float angle = 2.0f * (2.0f * static_cast<float>(c) / static_cast<float>(cols - 1) - 1);
      const float across = sine(angle), ahead = cosine(angle);
      const float flare = 0.55f * smooth(0.45f, 1.1f, v) * std::fabs(across);
      // Narrow at its top, which must not stand out beside the jaw.
      const float radius =
          (0.485f + face.neck + 0.035f * full + 0.02f * std::fabs(v - 0.45f)) * mix(0.72f, 1.0f, smooth(0.0f, 0.3f, v));
      Vec3 p{(radius + flare) * across, mix(-0.40f, -1.70f, v), radius * 0.92f * ahead - mix(0.10f, 0.28f, v)};
      p.z += 0.05f * face.doubleChin * hill(p.x, v - 0.4f, 0.4f, 0.3f);
      p.z -= 0.05f * hill(p.x, v - 0.92f, 0.10f, 0.2f);  // pit between the collar bones
      if (face.male > 0.5f) p.z += 0.03f * (face.male - 0.5f) * hill(p.x, v - 0.58f, 0.1f, 0.09f);
      Vertex& vertex = neck.at(r, c);
      vertex.u = p.x, vertex.v = p.y, vertex.a = angle;
      // The bottom stays with the shoulders.
      vertex.p = mix(pose.place(p), p + pose.offset, smooth(0.1f, 0.9f, v));
      vertex.ao =
          0.30f + 0.6f * smooth(marks.chinY + 0.05f, marks.chinY - 0.4f, p.y) - 0.2f * std::fabs(across) * (1 - v);
    }
  }
  computeNormals(neck);
}

void buildTorso(const Face& face, const Pose& pose, int size, Surface& torso) {
  constexpr int kRows = 7;
  const int cols = size < 128 ? 19 : 31;
  torso.resize(kRows, cols);
  const float broad = 1.35f + 0.22f * (face.male - 0.5f) + 0.10f * face.fat;
  for (int r = 0; r < kRows; ++r) {
    const float v = static_cast<float>(r) / (kRows - 1);
    for (int c = 0; c < cols; ++c) {
      const float s = 2.0f * static_cast<float>(c) / static_cast<float>(cols - 1) - 1, x = s * 1.9f, ax = std::fabs(x);
      // Slope from the neck to the point of the shoulder, then down the arm.
      const float top = -1.19f - 0.16f * smooth(0.3f, broad, ax) - 0.75f * sq(std::max(0.0f, ax - broad + 0.45f)) -
                        0.4f * smooth(broad, broad + 0.5f, ax);
      const float bend = v * 1.5707963f;
      Vec3 p{x, top - 0.75f * v * v - 0.10f * v, -0.30f + 0.62f * sine(bend) * (1 - 0.25f * s * s)};
      // The neck hole: cloth dips in front of the throat.
      p.y -= 0.15f * ridge(x, 0.66f) * (1 - 0.4f * v);
      p.z += 0.02f * sine(7 * x + 4 * v) * v;
      Vertex& vertex = torso.at(r, c);
      vertex.p = p + pose.offset;
      vertex.u = x, vertex.v = p.y, vertex.a = v;
      vertex.ao = 0.45f + 0.5f * smooth(0.1f, 0.8f, ax + 0.7f * v);
    }
  }
  computeNormals(torso);
}

}  // namespace comface::faces::COMFACE_ISA
