// Hair on the lower face: stubble shadow, mustache, goatee, full beard, sideburns.
// Each is a zone in paint coordinates times an amount; negative stubble means smoother, lighter skin than the person's
// own.
#include "hair.h"

namespace comface::faces {
namespace {

struct Zones {
  float shave;  // where a man shaves
  float mustache, goatee, burns;
};

Zones zones(const Portrait& q, const Spot& s) {
  const Landmarks& m = q.marks;
  Zones z;
  const float cheek = m.mouthY + 0.10f + 0.62f * std::max(0.0f, s.ax - 0.30f);
  const float face = smooth(0.07f, -0.06f, s.y - cheek) * smooth(1.45f, 1.2f, std::fabs(s.angle));
  const float philtrum = m.noseBase - 0.015f - 0.10f * smooth(0.1f, 0.32f, s.ax);
  const float lip = smooth(0.02f, -0.04f, s.y - philtrum) * smooth(m.mouthWidth + 0.14f, m.mouthWidth + 0.02f, s.ax);
  z.shave = std::max(face, lip) * smooth(m.chinY - 0.3f, m.chinY - 0.1f, s.y);
  const float mouth = m.mouthY + m.lipUpper;
  const float droop = 0.22f * sq(s.ax / m.mouthWidth) * 0.35f;
  z.mustache = smooth(0.0f, 0.035f, philtrum - s.y + 0.02f) * smooth(-0.035f, 0.01f, s.y - mouth + droop + 0.012f) *
               smooth(m.mouthWidth + 0.08f, m.mouthWidth - 0.03f, s.ax);
  const float ring = sq(s.x / (m.mouthWidth + 0.085f)) + sq((s.y - m.mouthY + 0.03f) / 0.22f);
  const float chin = sq(s.x / (0.21f + 0.5f * q.face.chinWidth)) + sq((s.y - m.chinY - 0.12f) / 0.24f);
  z.goatee = std::max(smooth(1.15f, 0.9f, ring) * smooth(0.28f, 0.48f, ring), smooth(1.15f, 0.8f, chin)) *
             smooth(0.03f, -0.02f, s.y - philtrum);
  const float a = std::fabs(s.angle), end = 0.0f - 0.50f * std::clamp(q.face.sideburns, 0.0f, 1.5f);
  z.burns =
      smooth(1.00f, 1.08f, a) * smooth(1.42f, 1.30f, a) * smooth(-0.05f, 0.05f, s.y - end) * smooth(0.3f, 0.2f, s.y);
  return z;
}

}  // namespace

void paintBeard(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  if (s.y > 0.3f || std::fabs(s.angle) > 0.9f) {  // scalp seen through thin hair and past its frayed outline
    const float over = s.y - hairEdge(f, s.angle);
    if (over > -0.05f && f.bald < 0.9f)
      s.tint(f.hairColor * 0.8f, 0.8f * smooth(-0.05f, 0.08f, over) * (1 - clamp01(f.bald)));
    if (s.y > 0.35f) return;
  }
  const Zones z = zones(q, s);
  const float grain = noise(s.x * 50 + f.textureX, s.y * 50 + f.textureY) * q.detail(0.02f);
  if (f.stubble < 0) s.finish.albedo = s.finish.albedo * (1 - 0.16f * f.stubble * z.shave);
  const float shadow = std::min(0.85f, 0.62f * std::max(0.0f, f.stubble) * z.shave * (1 + 0.35f * grain));
  if (shadow > 0) {
    const Vec3 root = mix(f.hairColor, linear(0.22f, 0.21f, 0.23f), 0.45f);
    s.tint(mix(root, s.finish.albedo * Vec3{0.62f, 0.68f, 0.76f}, 0.55f), shadow);
    s.finish.gloss *= 1 - 0.5f * shadow;
  }
  const float full = clamp01(f.beard) * z.shave, goat = std::max(clamp01(f.goatee) * z.goatee, full);
  const float hairy = std::max({goat, clamp01(f.mustache) * z.mustache, clamp01(2 * f.sideburns) * z.burns});
  if (hairy <= 0.01f) return;
  const float flow = s.x * 30 + 3 * noise(s.x * 7 + f.textureY, s.y * 5);
  const float strand = 0.6f * noise(flow, s.y * 7 + f.textureX) + 0.5f * noise(flow * 2.2f, s.y * 13) * q.detail(0.02f);
  const float amount = clamp01(hairy * (1.15f + 0.5f * strand * (1.3f - hairy)));
  s.tint(f.hairColor * (0.72f + 0.42f * strand), 0.97f * amount);
  s.finish.gloss *= 1 - amount;
  s.finish.flesh *= 1 - amount;
  s.finish.occlusion *= 1 - 0.25f * amount * clamp01(0.5f - strand);
  s.tiltX += 0.28f * amount * strand;
}

}  // namespace comface::faces
