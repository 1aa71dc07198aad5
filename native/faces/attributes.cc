// What each of the 43 attributes does to a face: one line a parameter, so the file reads like a list.
// t is alpha / 5 in [-1, 1]; up is its positive part. Every attribute must move monotonically over the whole range.
#include "face.h"
#include "identity.h"

namespace comface::faces::COMFACE_ISA {

namespace {

// For amounts that may be absent: full at t = 1, none at t = -1, the person's own level at 0.
void toward(float& level, float t, float top = 1) {
  const float base = std::clamp(level, 0.0f, top);
  level = t > 0 ? base + (top - base) * t : base * (1 + t);
}

// For lengths and offsets, which have no end to run into.
void shift(float& level, float t, float amount) { level += t * amount; }

void changeAge(Face& f, float t) {
  const float up = std::max(t, 0.0f);
  shift(f.wrinkle, t, 0.95f);
  shift(f.bags, t, 0.45f);
  shift(f.jowl, t, 0.7f);
  shift(f.gray, t, 0.35f);
  shift(f.mottle, t, 0.3f);
  shift(f.redness, t, 0.08f);
  shift(f.recede, t, 0.25f * clamp01(f.male));
  shift(f.lipUpper, t, -0.012f);
  shift(f.lipLower, t, -0.010f);
  shift(f.eyeOpen, t, -0.14f);
  shift(f.noseLength, t, 0.02f);
  shift(f.noseWidth, t, 0.012f);
  shift(f.browDensity, t, -0.12f);
  shift(f.browY, t, -0.012f);
  f.doubleChin += 0.25f * up;
}

void changeWeight(Face& f, float t, float puff) {
  shift(f.fat, t, 1.1f);
  shift(f.puff, t, puff);
  shift(f.doubleChin, t, 0.55f);
  shift(f.neck, t, 0.085f);
  shift(f.squint, t, 0.16f);
}

void changeSmile(Face& f, float t) {
  shift(f.smile, t, 1.25f);
  if (t > 0) f.open += 0.75f * t * t;
  if (t < 0) f.press -= 0.6f * t;
}

void changeSex(Face& f, float t) {
  const float m = 0.75f * t;
  shift(f.male, m, 1);
  shift(f.jaw, m, 0.07f);
  shift(f.chinWidth, m, 0.06f);
  shift(f.chinLength, m, 0.04f);
  shift(f.length, m, 0.04f);
  shift(f.browRidge, m, 0.07f);
  shift(f.neck, m, 0.11f);
  shift(f.noseWidth, m, 0.02f);
  shift(f.noseHeight, m, 0.03f);
  shift(f.noseLength, m, 0.025f);
  shift(f.eyeOpen, m, -0.18f);
  shift(f.browY, m, -0.045f);
  shift(f.browArch, m, -0.55f);
  shift(f.browThick, m, 0.02f);
  shift(f.browDensity, m, 0.15f);
  shift(f.lipUpper, m, -0.013f);
  shift(f.lipLower, m, -0.012f);
  shift(f.stubble, m, 0.6f);
  shift(f.lipstick, m, -0.45f);
  shift(f.eyeliner, m, -0.5f);
  shift(f.eyeshadow, m, -0.3f);
  shift(f.sideburns, m, 0.25f);
  shift(f.hairLength, m, -0.9f);
}

void changeBeauty(Face& f, float t) {
  f.asymmetry *= 1 - 0.8f * t;
  shift(f.wrinkle, t, -0.35f);
  shift(f.bags, t, -0.35f);
  shift(f.mottle, t, -0.35f);
  shift(f.redness, t, -0.1f);
  shift(f.eyeOpen, t, 0.2f);
  shift(f.eyeWidth, t, 0.012f);
  shift(f.cheekbone, t, 0.012f);
  shift(f.fat, t, -0.08f);
  shift(f.lipUpper, t, 0.01f);
  shift(f.lipLower, t, 0.01f);
  shift(f.noseWidth, t, -0.022f);
  shift(f.noseTip, t, -0.015f);
  shift(f.smile, t, 0.16f);
  shift(f.foundation, t, 0.5f);
  shift(f.eyeliner, t, 0.3f);
  shift(f.browArch, t, 0.25f);
}

void changeMakeup(Face& f, float t) {
  shift(f.lipstick, t, 0.7f);
  shift(f.eyeshadow, t, 0.9f);
  shift(f.eyeliner, t, 0.9f);
  shift(f.foundation, t, 0.7f);
  shift(f.blush, t, 0.5f);
  shift(f.browDensity, t, 0.12f);
  shift(f.mottle, t, -0.2f);
}

void changeYouth(Face& f, float t) {
  shift(f.wrinkle, t, -0.6f);
  shift(f.bags, t, -0.4f);
  shift(f.jowl, t, -0.5f);
  shift(f.gray, t, -0.3f);
  shift(f.mottle, t, -0.25f);
  shift(f.eyeOpen, t, 0.17f);
  shift(f.lipUpper, t, 0.012f);
  shift(f.lipLower, t, 0.012f);
  shift(f.length, t, -0.05f);
  shift(f.noseLength, t, -0.025f);
  shift(f.fat, t, 0.15f);
  shift(f.hairline, t, -0.04f);
}

// Dyes towards one color for t > 0 and towards its opposite for t < 0. The opposite lies on the far side of the
// person's own color in every channel, so the way from -5 to 5 never turns back.
void dye(Face& f, float t, const Vec3& color, const Vec3& opposite) {
  f.dye = t > 0 ? color : opposite;
  f.dyed = t > 0 ? t : -0.8f * t;
  shift(f.browDensity, t, 0.08f);
}

void changeToBlack(Face& f, float t) {
  finishFace(f);
  const Vec3 lighter = mix(f.hairColor, linear(0.90f, 0.86f, 0.80f), 0.6f), least = linear(0.62f, 0.46f, 0.32f);
  dye(f, t, linear(0.05f, 0.05f, 0.06f),
      {std::max(lighter.x, least.x), std::max(lighter.y, least.y), std::max(lighter.z, least.z)});
}

void changeToBlond(Face& f, float t) {
  finishFace(f);
  dye(f, t, linear(0.92f, 0.78f, 0.50f), f.hairColor * 0.12f);
}

void changeToBrown(Face& f, float t) {
  finishFace(f);
  const bool light = f.hairColor.x > 0.2f;
  dye(f, t, linear(0.43f, 0.25f, 0.14f), light ? linear(0.92f, 0.88f, 0.82f) : linear(0.08f, 0.08f, 0.26f));
}

void shave(Face& f, float t) {
  toward(f.stubble, -t, 1.2f);
  shift(f.stubble, std::max(t, 0.0f), -0.5f);  // smoother than a shave; only after what clamps at 0
  toward(f.beard, -t);
  toward(f.goatee, -t);
  toward(f.mustache, -t);
}

void applyToFeatures(Face& f, int attribute, float t) {
  switch (attribute) {
    case 0:
      return changeWeight(f, t, 0.8f);
    case 1:
      return changeAge(f, t);
    case 2:
      return changeSmile(f, t);
    case 4:
      return shift(f.browArch, t, 1.5f), shift(f.browY, t, 0.022f);
    case 5:
      return changeBeauty(f, t);
    case 6:
      return shift(f.bags, t, 1.5f);
    case 9:
      return shift(f.lipUpper, t, t > 0 ? 0.060f : 0.042f), shift(f.lipLower, t, t > 0 ? 0.075f : 0.052f),
             shift(f.mouthWidth, t, 0.02f);
    case 10:
      return shift(f.noseWidth, t, 0.06f), shift(f.noseHeight, t, 0.09f), shift(f.noseLength, t, 0.05f),
             shift(f.noseTip, t, 0.05f), shift(f.nostril, t, 0.4f);
    case 15:
      return shift(f.browThick, t, 0.042f), shift(f.browDensity, t, 0.3f), shift(f.browIn, t, 0.02f);
    case 16:
      return changeWeight(f, t, 0.15f), shift(f.width, t, 0.02f);
    case 17:
      return shift(f.doubleChin, t, 1.7f), shift(f.jowl, t, 0.25f), shift(f.neck, t, 0.03f);
    case 22:
      return shift(f.cheekbone, t, 0.095f), shift(f.fat, t, -0.06f);
    case 23:
      return changeSex(f, t);
    case 24:
      return shift(f.open, t, t > 0 ? 0.8f : 0.0f), shift(f.press, t, t < 0 ? -0.9f : 0.0f);
    case 26:
      return shift(f.squint, t, 0.80f), shift(f.eyeOpen, t, -0.15f), shift(f.lidFold, t, -0.3f);
    case 28:
      return shift(f.oval, t, 1.0f);
    case 30:
      return shift(f.noseWidth, t, -0.06f), shift(f.noseTip, t, -0.055f), shift(f.noseHeight, t, 0.14f),
             shift(f.noseTurn, t, -1.2f), shift(f.nostril, t, -0.5f);
    case 34:
      return changeSmile(f, 0.8f * t);
    case 42:
      return changeYouth(f, t);
    default:
      return;
  }
}

void applyToHairAndSkin(Face& f, int attribute, float t) {
  const float up = std::max(t, 0.0f);
  switch (attribute) {
    case 3:
      return shift(f.stubble, t, 1.0f), shift(f.foundation, t, -0.1f);
    case 7:
      return toward(f.bald, t), shift(f.recede, t, 0.5f), shift(f.volume, t, -0.35f);
    case 8:
      return shift(f.bangs, t, 1.0f), shift(f.hairline, t, -0.08f);
    case 11:
      return changeToBlack(f, t);
    case 12:
      return changeToBlond(f, t);
    case 14:
      return changeToBrown(f, t);
    case 19:
      return toward(f.goatee, t), shift(f.stubble, t, 0.2f);
    case 20:
      return toward(f.gray, t), shift(f.hairDark, std::min(t, 0.0f), -0.25f);
    case 21:
      return changeMakeup(f, t);
    case 25:
      return toward(f.mustache, t), shift(f.stubble, t, 0.2f);
    case 27:
      return shave(f, t);
    case 29:
      return shift(f.pale, t, 1.0f);
    case 31:
      return shift(f.recede, t, t > 0 ? 1.1f : 0.6f), shift(f.hairline, t, 0.12f), shift(f.bangs, t, -0.3f * up);
    case 32:
      return shift(f.blush, t, 1.15f);
    case 33:
      return shift(f.sideburns, t, 1.2f);
    case 35:
      return shift(f.wave, t, -0.8f), shift(f.curl, t, -0.6f), shift(f.volume, t, -0.3f), shift(f.sheen, t, 0.8f);
    case 36:
      return shift(f.wave, t, 0.9f), shift(f.volume, t, 0.3f);
    case 39:
      return shift(f.lipstick, t, 1.0f);
    default:
      return;
  }
}

void applyToThings(Face& f, int attribute, float t) {
  switch (attribute) {
    case 13:
      return shift(f.blur, t, 1.0f);
    case 18:
      return toward(f.glasses, t), shift(f.eyeOpen, std::min(t, 0.0f), -0.25f),
             shift(f.browY, std::min(t, 0.0f), -0.02f);
    case 37:
      return toward(f.earrings, t, 1.2f), shift(f.earSize, t, 0.9f);
    case 38:
      return toward(f.hat, t), shift(f.volume, std::min(t, 0.0f), -0.35f);
    case 40:
      return toward(f.necklace, t), shift(f.neckline, t, 0.6f);
    case 41:
      return toward(f.tie, t), shift(f.neckline, t, -0.6f);
    default:
      return;
  }
}

}  // namespace

void applyAttribute(Face& face, int attribute, float alpha) {
  const float t = std::clamp(alpha, -5.0f, 5.0f) * 0.2f;
  applyToFeatures(face, attribute, t);
  applyToHairAndSkin(face, attribute, t);
  applyToThings(face, attribute, t);
}

}  // namespace comface::faces::COMFACE_ISA
