// Things worn: glasses, hat, earrings as surfaces of their own; cloth, tie and necklace painted on the shoulders.
#pragma once

#include "paint.h"

namespace comface::faces::COMFACE_ISA {

void buildGlasses(const Face& face, const Landmarks& marks, const Pose& pose, int size, Surface& front);
void buildTemple(const Face& face, const Pose& pose, float side, Surface& arm);
Color paintGlasses(const Portrait& portrait, const Place& at);
Color paintTemple(const Portrait& portrait, const Place& at);

void buildHat(const Face& face, const Surface& head, Surface& hat);
void buildBrim(const Face& face, const Pose& pose, Surface& brim);
Color paintHat(const Portrait& portrait, const Place& at);

void buildEarring(const Face& face, const Pose& pose, float side, Surface& ring);
Color paintEarring(const Portrait& portrait, const Place& at);

Color paintTorso(const Portrait& portrait, const Place& at);
Color paintNeck(const Portrait& portrait, const Place& at);

}  // namespace comface::faces::COMFACE_ISA
