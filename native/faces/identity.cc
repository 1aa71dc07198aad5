// Draws a person. The order of the draws is part of the format: add new ones at the end of their function.
// Traits hang together (sex, age, ancestry), so that faces look drawn from people and not from a box of parts.
#include "identity.h"

#include "noise.h"

namespace comface::faces::COMFACE_ISA {
namespace {

// The draws for a person have a stream of their own, so any number will do for the photograph.
constexpr uint32_t kNoPhoto = 0xFFFFFFFFu;

void drawShape(Face& f, Random& r) {
  const float m = f.male - 0.5f;
  f.width = 0.055f * r.normal() + 0.03f * m;
  f.length = 0.06f * r.normal() + 0.05f * m;
  f.jaw = 0.038f * r.normal() + 0.07f * m;
  f.chinWidth = 0.035f * r.normal() + 0.06f * m;
  f.chinLength = 0.045f * r.normal() + 0.04f * m;
  f.chinForward = 0.035f * r.normal() + 0.02f * m;
  f.cheekbone = 0.028f * r.normal();
  f.browRidge = 0.03f * r.normal() + 0.06f * m;
  f.forehead = 0.06f * r.normal();
  f.oval = 0.2f * r.normal();
  f.fat = 0.33f * r.normal() + 0.08f;
  f.puff = 0;
  f.doubleChin = std::max(0.0f, 0.35f * f.fat + 0.006f * (f.age - 45));
  f.jowl = clamp01((f.age - 48) / 40);
  f.neck = 0.02f * r.normal() + 0.1f * m + 0.03f * f.fat;
  f.asymmetry = 0.012f * r.normal();
  f.earSize = 0.35f * r.normal();
  f.noseWidth = 0.026f * r.normal() + 0.02f * m + 0.05f * (f.melanin - 0.35f);
  f.noseLength = 0.03f * r.normal() + 0.025f * m;
  f.noseHeight = 0.045f * r.normal() + 0.035f * m - 0.05f * (f.melanin - 0.35f);
  f.noseTip = 0.02f * r.normal();
  f.noseTurn = 0.5f * r.normal() - 0.3f * m;
  f.noseHump = 0.022f * r.normal() + 0.01f * m;
  f.nostril = 0.2f * r.normal();
}

void drawFeatures(Face& f, Random& r) {
  const float m = f.male - 0.5f;
  f.eyeX = 0.013f * r.normal();
  f.eyeY = 0.012f * r.normal();
  f.eyeWidth = 0.012f * r.normal() - 0.006f * m;
  f.eyeOpen = 0.11f * r.normal() - 0.16f * m;
  f.eyeTilt = 0.1f * r.normal() - 0.05f * m;
  f.eyeDepth = 0.03f * r.normal() + 0.02f * m;
  f.lidFold = clamp01(0.55f + 0.3f * r.normal());
  f.squint = f.gazeX = f.gazeY = 0;
  f.browY = 0.022f * r.normal() - 0.04f * m;
  f.browArch = 0.35f * r.normal() - 0.5f * m;
  f.browThick = 0.012f * r.normal() + 0.018f * m;
  f.browDensity = 0.72f + 0.12f * r.normal() + 0.12f * m;
  f.browLength = 0.025f * r.normal();
  f.browTilt = 0.15f * r.normal();
  f.browIn = 0.02f * r.normal();
  f.mouthY = 0.022f * r.normal() - 0.015f * m;
  f.mouthWidth = 0.022f * r.normal() + 0.014f * m;
  f.lipUpper = 0.012f * r.normal() - 0.012f * m + 0.018f * (f.melanin - 0.3f);
  f.lipLower = 0.014f * r.normal() - 0.010f * m + 0.018f * (f.melanin - 0.3f);
  f.bow = 0.5f + 0.25f * r.normal();
  f.smile = 0.12f * r.normal() + 0.20f;
  f.open = f.press = 0;
}

void drawSkin(Face& f, Random& r) {
  const float old = clamp01((f.age - 25) / 50);
  f.undertone = 0.5f * r.normal();
  f.redness = 0.35f + 0.14f * r.normal() + 0.1f * old;
  f.freckles = r.chance(0.3f * (1 - f.melanin)) ? r.range(0.3f, 0.9f) : 0.05f;
  f.mottle = 0.4f + 0.1f * r.normal() + 0.35f * old;
  f.oil = 0.45f + 0.15f * r.normal();
  f.pale = 0;
  f.wrinkle = sq(old) * 0.75f + 0.1f * old + 0.04f;
  f.bags = clamp01(0.2f + 0.12f * r.normal() + 0.4f * old);
  f.blush = 0.12f * r.uniform();
  const float makeup = f.male > 0.5f ? 0.0f : r.uniform();
  f.lipstick = 0.55f * sq(makeup);
  f.eyeshadow = 0.4f * makeup * makeup;
  f.eyeliner = 0.5f * makeup;
  f.foundation = 0.4f * makeup;
  for (int i = 0; i < 3; ++i) {
    f.moleX[i] = r.range(-0.6f, 0.6f);
    f.moleY[i] = r.range(-1.0f, 0.6f);
    f.moleSize[i] = r.chance(0.4f) ? r.range(0.01f, 0.022f) : 0.0f;
  }
  f.textureX = r.range(0, 128);
  f.textureY = r.range(0, 128);
}

Vec3 drawIris(float melanin, Random& r) {
  const float pick = r.uniform() + 1.3f * (melanin - 0.22f), v = r.range(-0.05f, 0.05f);
  if (pick < 0.22f) return linear(0.38f + v, 0.52f + v, 0.64f + v);
  if (pick < 0.36f) return linear(0.42f + v, 0.50f + v, 0.38f + v);
  if (pick < 0.50f) return linear(0.46f + v, 0.37f + v, 0.22f);
  return linear(0.30f + v, 0.19f + v, 0.11f);
}

void drawHair(Face& f, Random& r) {
  const float old = clamp01((f.age - 38) / 40), m = f.male;
  f.hairDark = clamp01(f.melanin > 0.42f ? r.range(0.8f, 1.0f) : r.range(0.0f, 1.0f) * 0.7f + 0.9f * f.melanin);
  f.hairRed = f.melanin < 0.35f && r.chance(0.14f) ? r.range(0.4f, 0.9f) : 0.15f * r.uniform();
  f.gray = clamp01(old * 1.25f + 0.25f * r.normal() - 0.15f) * (r.chance(0.25f) ? 0.2f : 1.0f);
  f.hairline = 0.06f * r.normal();
  f.recede = std::max(0.0f, m * (0.2f + 0.8f * old) * r.uniform());
  f.bald = m > 0.5f && r.chance(0.08f + 0.3f * old) ? r.range(0.5f, 1.0f) : 0.0f;
  f.bangs = (r.chance(m > 0.5f ? 0.15f : 0.3f) ? r.range(0.3f, 0.8f) : 0.0f) * (1 - f.bald);
  f.hairLength =
      m > 0.5f ? (r.chance(0.1f) ? r.range(0.3f, 0.8f) : 0.0f) : (r.chance(0.18f) ? 0.0f : r.range(0.35f, 1.2f));
  f.volume = clamp01(0.45f + 0.2f * r.normal() - 0.1f * m);
  const float kind = r.uniform() + 0.9f * std::max(0.0f, f.melanin - 0.6f);
  f.curl = kind > 0.84f ? r.range(0.5f, 1.0f) : 0.0f;
  f.wave = kind > 0.55f ? r.range(0.3f, 0.8f) : 0.1f * r.uniform();
  f.part = r.range(-0.8f, 0.8f);
  f.sheen = 1;
  f.sideburns = clamp01(0.15f + 0.3f * m + 0.15f * r.normal());
  const float style = r.uniform();
  const bool shaves = style < 0.5f;
  f.stubble = m * (shaves ? r.range(0.15f, 0.4f) : r.range(0.3f, 0.7f));
  f.mustache = m > 0.5f && style > 0.72f ? r.range(0.5f, 0.95f) : 0.0f;
  f.goatee = m > 0.5f && style > 0.78f ? r.range(0.5f, 0.95f) : 0.0f;
  f.beard = m > 0.5f && style > 0.86f ? r.range(0.5f, 0.95f) : 0.0f;
}

void drawThings(Face& f, Random& r) {
  f.glasses = r.chance(0.14f) ? r.range(0.75f, 1.0f) : 0.0f;
  f.glassesStyle = static_cast<int>(r.uniform() * 3);
  f.hat = 0;
  f.hatStyle = static_cast<int>(r.uniform() * 2);
  f.earrings = f.male < 0.5f && r.chance(0.3f) ? r.range(0.3f, 0.7f) : 0.0f;
  f.necklace = f.male < 0.5f && r.chance(0.2f) ? r.range(0.4f, 0.7f) : 0.0f;
  f.tie = f.male > 0.5f && r.chance(0.08f) ? 0.8f : 0.0f;
  f.neckline = clamp01(0.42f + 0.25f * r.normal() + 0.2f * (0.5f - f.male));
  f.collar = static_cast<int>(r.uniform() * 3);
  const float v = r.range(0.08f, 0.3f);
  f.frameColor = r.chance(0.6f) ? linear(v, v, v * 1.05f) : linear(0.35f, 0.2f + v * 0.4f, 0.1f);
  const auto fabric = [&r] {
    const float value = r.range(0.12f, 0.85f), chroma = r.range(0.0f, 0.45f) * value,
                hue = r.range(1.2f, 5.5f);  // not the hues of skin
    return linear(clamp01(value + chroma * cosine(hue)), clamp01(value + chroma * cosine(hue - 2.09f)),
                  clamp01(value + chroma * cosine(hue - 4.19f)));
  };
  f.clothColor = fabric();
  f.hatColor = fabric();
  f.tieColor = mix(fabric(), linear(0.45f, 0.08f, 0.12f), 0.4f);
  f.makeupColor = linear(r.range(0.52f, 0.72f), r.range(0.02f, 0.16f), r.range(0.1f, 0.26f));
  f.blur = 0;
}

}  // namespace

Face makeIdentity(uint64_t seed, uint32_t subject) {
  Random r(seed, subject, kNoPhoto, kIdentity);
  Face f{};
  f.male = r.chance(0.5f) ? r.range(0.75f, 1.1f) : r.range(-0.1f, 0.25f);
  const float years = r.uniform(), tone = r.uniform();
  f.age = 18 + 57 * years * root(root(years));
  // Mostly light to olive with a long tail to dark: roughly even coverage of visible tones.
  f.melanin = clamp01(0.04f + 0.92f * tone * root(tone));
  drawShape(f, r);
  drawFeatures(f, r);
  drawSkin(f, r);
  f.iris = drawIris(f.melanin, r);
  drawHair(f, r);
  drawThings(f, r);
  return f;
}

void finishFace(Face& f) {
  const float d = clamp01(f.hairDark);
  const Vec3 blond = linear(0.84f, 0.70f, 0.46f), brown = linear(0.40f, 0.26f, 0.16f),
             black = linear(0.10f, 0.08f, 0.075f);
  Vec3 color = d < 0.5f ? mix(blond, brown, d * 2) : mix(brown, black, d * 2 - 1);
  color = mix(color, linear(0.62f, 0.27f, 0.12f), clamp01(f.hairRed) * (1 - 0.8f * d));
  color = mix(color, linear(0.74f, 0.74f, 0.75f), clamp01(f.gray) * 0.92f);
  f.hairColor = mix(color, f.dye, clamp01(f.dyed));
}

}  // namespace comface::faces::COMFACE_ISA
