// Hair on the lower face: stubble shadow, mustache, goatee, full beard, sideburns.
// Each is a zone in paint coordinates times an amount; negative stubble means smoother, lighter skin than the person's
// own.
#include "hair.h"

namespace comface::faces::COMFACE_ISA {
namespace {

struct Zones {
  Lanes shave;  // where a man shaves
  Lanes mustache, goatee, burns;
};

Zones zones(const Portrait& q, const Spot& s) {
  const Landmarks& m = q.marks;
  Zones z;
  const Lanes a = magnitude(s.angle), cheek = m.mouthY + 0.10f + 0.62f * larger(s.ax - 0.30f, 0.0f);
  const Lanes face = smooth(0.07f, -0.06f, s.y - cheek) * smooth(1.45f, 1.2f, a);
  const Lanes philtrum = m.noseBase - 0.015f - 0.10f * smooth(0.1f, 0.32f, s.ax);
  const Lanes lip = smooth(0.02f, -0.04f, s.y - philtrum) * smooth(m.mouthWidth + 0.14f, m.mouthWidth + 0.02f, s.ax);
  z.shave = larger(face, lip) * smooth(m.chinY - 0.3f, m.chinY - 0.1f, s.y);
  const Lanes droop = 0.077f / sq(m.mouthWidth) * sq(s.ax);
  z.mustache = smooth(0.0f, 0.035f, philtrum - s.y + 0.02f) *
               smooth(-0.035f, 0.01f, s.y - (m.mouthY + m.lipUpper) + droop + 0.012f) *
               smooth(m.mouthWidth + 0.08f, m.mouthWidth - 0.03f, s.ax);
  const Lanes ring = sq(Lanes(s.x * (1 / (m.mouthWidth + 0.085f)))) + sq(Lanes((s.y - m.mouthY + 0.03f) * (1 / 0.22f)));
  const Lanes chin =
      sq(Lanes(s.x * (1 / (0.21f + 0.5f * q.face.chinWidth)))) + sq(Lanes((s.y - m.chinY - 0.12f) * (1 / 0.24f)));
  z.goatee = larger(smooth(1.15f, 0.9f, ring) * smooth(0.28f, 0.48f, ring), smooth(1.15f, 0.8f, chin)) *
             smooth(0.03f, -0.02f, s.y - philtrum);
  const float end = -0.50f * std::clamp(q.face.sideburns, 0.0f, 1.7f);
  z.burns =
      smooth(0.90f, 1.02f, a) * smooth(1.42f, 1.30f, a) * smooth(-0.05f, 0.05f, s.y - end) * smooth(0.3f, 0.2f, s.y);
  return z;
}

// Scalp seen through thin hair and past its frayed outline.
void paintScalp(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  const Mask above = (s.edge > -0.05f) & ((s.y > 0.3f) | (magnitude(s.angle) > 0.9f));
  if (f.bald >= 0.9f || !any(above)) return;
  const Lanes shown = 0.8f * (1 - clamp01(f.bald)) * smooth(-0.05f, 0.08f, s.edge);
  s.tint(f.hairColor * 0.8f, above ? shown : kNone);
}

void paintStubble(const Portrait& q, Spot& s, const Lanes& shave) {
  const Face& f = q.face;
  if (f.stubble < 0) s.shade(1 - 0.26f * f.stubble * shave);
  if (f.stubble <= 0 || !any(shave > 0)) return;
  const float visible = q.detail(0.02f);
  const Lanes grain = visible > 0 ? noise(s.x * 50 + f.textureX, s.y * 50 + f.textureY) * visible : kNone;
  const Lanes shadow = smaller(0.62f * f.stubble * shave * (1 + 0.35f * grain), 0.85f);
  const Vec3 root = mix(f.hairColor, linear(0.22f, 0.21f, 0.23f), 0.45f);
  s.tint(mix(root, s.finish.albedo * Vec3{0.62f, 0.68f, 0.76f}, 0.55f), shadow);
  s.finish.gloss *= 1 - 0.5f * shadow;
}

}  // namespace

void paintBeard(const Portrait& q, Spot& s) {
  const Face& f = q.face;
  paintScalp(q, s);
  if (!any(s.y < 0.35f)) return;
  const Zones z = zones(q, s);
  paintStubble(q, s, z.shave);
  const Lanes full = clamp01(f.beard) * z.shave, goat = larger(clamp01(f.goatee) * z.goatee, full);
  const Lanes longest = larger(larger(goat, clamp01(f.mustache) * z.mustache), clamp01(2 * f.sideburns) * z.burns);
  const Lanes hairy = longest > 0.01f ? longest : kNone;
  if (!any(hairy > 0)) return;
  const float visible = q.detail(0.02f);
  const Lanes flow = s.x * 30 + 3 * noise(s.x * 7 + f.textureY, s.y * 5);
  Lanes strand = 0.6f * noise(flow, s.y * 7 + f.textureX);
  if (visible > 0) strand += 0.5f * visible * noise(flow * 2.2f, s.y * 13);
  const Lanes amount = clamp01(Lanes(hairy * (1.15f + 0.5f * strand * (1.3f - hairy))));
  s.tint(f.hairColor * (0.72f + 0.42f * strand), 0.97f * amount);
  s.finish.gloss *= 1 - amount;
  s.finish.flesh *= 1 - amount;
  s.finish.occlusion *= 1 - 0.25f * amount * clamp01(Lanes(0.5f - strand));
  s.tiltX += 0.28f * amount * strand;
}

}  // namespace comface::faces::COMFACE_ISA
