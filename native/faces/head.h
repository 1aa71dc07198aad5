// Geometry of the head, ears, neck and shoulders, and where on the head the features sit.
// Painting happens in "paint coordinates": head space x, y of the smooth skull before relief (Vertex::u, v).
#pragma once

#include "identity.h"
#include "raster.h"
#include "scene.h"

namespace comface::faces::COMFACE_ISA {

struct Landmarks {
  float eyeX, eyeY, eyeWidth, eyeUpper, eyeLower;  // half width, heights of the lids at the middle
  float browY, browInner, browOuter;
  float noseTop, noseBase, noseWidth;         // noseWidth: half width over the wings
  float mouthY, mouthWidth, cornerLift, gap;  // gap: opening in paint coordinates
  float lipUpper, lipLower;
  float chinY, crownY;
};

Landmarks findLandmarks(const Face& face);

// The smooth skull before relief: half width and depth by height.
struct Skull {
  const Face& face;
  const Landmarks& marks;
  float width[12][2], depth[12][2];

  Skull(const Face& face, const Landmarks& marks);
  float halfWidth(float y) const;
  float halfDepth(float y) const;
  float jawLine(float angle) const;  // height, by the angle from the front
};

// kLanes points of the skin above the jaw line, in head space.
struct SkinPoints {
  Vec3s p;
  Lanes x, ax;  // paint coordinate, and distance from the middle of the face
};
// By sine and cosine of their angles from the front, and their heights.
SkinPoints raise(const Skull& skull, const Lanes& across, const Lanes& ahead, const Lanes& y);

// Rows run from the crown to the jaw line and then in under it; columns from the right ear to the left.
void buildHead(const Face& face, const Landmarks& marks, const Pose& pose, int rows, int cols, Surface& head);
int underRows(int rows);  // how many of the rows lie under the jaw

void buildEar(const Face& face, const Pose& pose, float side, Surface& ear);
void buildNeck(const Face& face, const Landmarks& marks, const Pose& pose, int size, Surface& neck);
void buildTorso(const Face& face, const Pose& pose, int size, Surface& torso);

}  // namespace comface::faces::COMFACE_ISA
