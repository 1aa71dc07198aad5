// The lines of eyes, brows and mouth in paint coordinates: painters fill them, and landmarks lie on them.
#pragma once

#include "head.h"

namespace comface::faces::COMFACE_ISA {

// Of an eye, at ex from -1 at its inner corner to 1 at the outer one: lid heights above its middle.
struct Opening {
  Lanes upper, lower;
};
inline Opening lids(const Landmarks& m, const Lanes& ex) {
  // The upper lid peaks towards the nose, the lower one sags towards the ear.
  const Lanes arch = 1 - smaller(ex * ex, 1.0f);
  return {m.eyeUpper * root(arch) * (0.55f + 0.45f * arch) * (1 - 0.14f * ex), -m.eyeLower * arch * (1 + 0.25f * ex)};
}

// Middle of the iris from the middle of the eye; side is -1 for the eye on the left of the picture, else 1.
template <class T>
Triple<T> irisOf(const Face& f, const T& side) {
  return {side * (f.gazeX * 0.062f), T{} + (f.gazeY * 0.05f + 0.008f), T{}};
}

// Height of a brow's middle, at k from 0 at its inner end to 1 at the outer one.
inline Lanes browLine(const Face& f, const Landmarks& m, const Lanes& k) {
  // Rises to a peak two thirds out, then falls; the arch parameter bends it.
  const float arch = 0.036f + 0.038f * f.browArch;
  const Lanes bend = arch * (1 - sq(Lanes((k - 0.62f) * (1 / 0.62f))));
  return m.browY + bend - 0.022f + f.browTilt * 0.05f * (k - 0.5f) - 0.02f * smooth(0.7f, 1.1f, k);
}

// Heights of the mouth's lines, at mx from -1 to 1 across it.
struct MouthLines {
  Lanes span;                      // 1 in the middle, 0 at the corners
  Lanes middle, gap, top, bottom;  // the closed line, and the opening below it
  Lanes upperEdge, lowerEdge;      // of the red
};
inline MouthLines mouthLines(const Face& f, const Landmarks& m, const Lanes& mx) {
  const Lanes ax = magnitude(mx), a2 = smaller(ax * ax, 1.0f), span = 1 - a2, arc = root(span);
  const Lanes middle = m.mouthY + m.cornerLift * ax * ax;
  const Lanes gap = m.gap * arc * (0.4f + 0.6f * span);
  // The closed line dips in the middle under the upper lip's bead.
  const Lanes top = middle - 0.008f * ridge(mx, 0.35f) + 0.15f * gap, bottom = top - gap;
  const Lanes bow = 0.011f * clamp01(f.bow) * (ridge(Lanes(ax - 0.22f), 0.24f) - 0.9f * ridge(ax, 0.16f));
  const Lanes upperEdge = top + m.lipUpper * (1 - ax * root(ax) * 0.98f) * root(1 - a2 * a2) + bow * span;
  const Lanes lowerEdge = bottom - m.lipLower * arc * (0.35f + 0.65f * span);
  return {span, middle, gap, top, bottom, upperEdge, lowerEdge};
}

}  // namespace comface::faces::COMFACE_ISA
