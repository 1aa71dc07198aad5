// Everything that describes one person, as plain numbers: drawn by makeIdentity, moved by applyAttribute.
// Lengths are head units (10 cm), colors are linear light, amounts run 0..1 unless said otherwise.
#pragma once

#include <cstdint>

#include "vec.h"

namespace comface::faces::COMFACE_ISA {

struct Face {
  float male, age;  // amount, years

  // Skull and soft tissue. Offsets from the average head, so 0 is average.
  float width, length, jaw, chinWidth, chinLength, chinForward, cheekbone, browRidge, forehead, oval;
  float fat, puff, doubleChin, jowl, neck;  // fat -1..1.5; puff is swelling of lids, cheeks and lips
  float asymmetry, earSize;

  // Nose: half width, length, projection, ball of the tip, tip rotation, bridge hump, nostril size.
  float noseWidth, noseLength, noseHeight, noseTip, noseTurn, noseHump, nostril;

  // Eyes and brows.
  float eyeX, eyeY, eyeWidth, eyeOpen, eyeTilt, eyeDepth, lidFold, squint, gazeX, gazeY;
  Vec3 iris;
  float browY, browArch, browThick, browDensity, browLength, browTilt, browIn;

  // Mouth.
  float mouthY, mouthWidth, lipUpper, lipLower, bow, smile, open, press;

  // Skin.
  float melanin, undertone, redness, freckles, mottle, oil, pale, wrinkle, bags, blush;
  float lipstick, eyeshadow, eyeliner, foundation;
  float moleX[3], moleY[3], moleSize[3];
  float textureX, textureY;  // offsets into the noise, one place per person

  // Hair.
  float hairDark, hairRed, gray;  // hairDark 0 blond .. 1 black
  Vec3 hairColor;                 // derived by finishFace
  Vec3 dye;                       // color that replaces the natural one
  float dyed;
  float hairline, recede, bald, bangs, hairLength, volume, wave, curl, part, sideburns, sheen;
  float stubble, mustache, goatee, beard;

  // Things worn, and what the camera does for one attribute.
  float glasses, hat, earrings, necklace, tie, neckline;
  int glassesStyle, hatStyle, collar;
  Vec3 frameColor, hatColor, clothColor, tieColor, makeupColor;
  float blur;
};

// The person: a function of (seed, subject) only.
Face makeIdentity(uint64_t seed, uint32_t subject);

// Moves one attribute by alpha in [-5, 5].
void applyAttribute(Face& face, int attribute, float alpha);

// Settles what follows from the rest (hair color); call after the last change.
void finishFace(Face& face);

}  // namespace comface::faces::COMFACE_ISA
