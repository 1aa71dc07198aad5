// Hair: a shell grown from the skull (cap) and, for long hair, a curtain hanging around the back of the head.
// Both are solid sheets whose painters cut them into strands with noise along the flow.
#pragma once

#include "paint.h"

namespace comface::faces::COMFACE_ISA {

// Paint-space height above which hair grows at this angle around the head.
float hairEdge(const Face& face, float angle);

// Also tells the head where its hair begins (Vertex::edge).
void buildCap(const Face& face, const Landmarks& marks, Surface& head, Surface& cap);
// Skin under dense hair need not be drawn: a quarter of the head.
void hideScalp(const Face& face, const Surface& cap, Surface& head);
// Hangs from one angle to another; the back half is drawn behind the neck, the sides in front of the shoulders.
inline constexpr float kCurtainStart = 0.98f, kCurtainBack = 1.62f;  // radians from the front
void buildCurtain(const Face& face, const Pose& pose, float from, float to, int rows, int cols, Surface& curtain);

Color paintCap(const Portrait& portrait, const Place& at);
Color paintCurtain(const Portrait& portrait, const Place& at);

}  // namespace comface::faces::COMFACE_ISA
