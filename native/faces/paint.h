// The painters of the parts of a face: each looks at kLanes points in paint coordinates and changes the finish there.
// They run in order inside paintSkin; widths are softened by the pixel size, so small pictures stay smooth. A painter
// that has nothing to do for all lanes leaves early; what it would have done must then be exactly nothing, or pixels
// would depend on their neighbors in the batch.
#pragma once

#include "head.h"
#include "identity.h"
#include "noise.h"
#include "raster.h"
#include "scene.h"

namespace comface::faces::COMFACE_ISA {

struct Portrait {
  const Face& face;
  const Landmarks& marks;
  const Scene& scene;
  float pixel;  // units per pixel
  Vec3 skin;    // skinColor(face)

  // Texture finer than a pixel only makes noise: 1 when a feature of this size is visible, 0 when not.
  float detail(float featureSize) const { return smooth(0.6f, 1.8f, featureSize / pixel); }
};

// The points being painted.
struct Spot {
  Lanes x, y;      // paint coordinates
  Lanes ax, side;  // |x| and its sign
  Lanes angle;     // around the head axis
  Lanes edge;      // height above the growth line of the hair
  Finish finish;
  Lanes tiltX{}, tiltY{};  // slope of small relief, added to the normal along the head's axes

  // A crease of the given depth; d is the signed distance across it in units of its width, (nx, ny) its direction.
  template <class A, class X, class Y>
  void crease(const Lanes& d, const A& depth, const X& nx, const Y& ny) {
    const Lanes w = depth * hill(Lanes(d * d));
    finish.occlusion *= 1 - 0.5f * w;
    const Lanes slope = 1.6f * d * w;
    tiltX -= slope * nx, tiltY -= slope * ny;
  }
  template <class A>
  void tint(const Triple<A>& color, const Lanes& amount) {
    finish.albedo = mix(finish.albedo, color, amount);
  }
  void shade(const Lanes& factor) { finish.albedo = finish.albedo * factor; }
};

Vec3 skinColor(const Face& face);

Color paintSkin(const Portrait& portrait, const Place& at);       // head
Color paintPlainSkin(const Portrait& portrait, const Place& at);  // ears and neck

void paintBrow(const Portrait& portrait, Spot& spot);
void paintEye(const Portrait& portrait, Spot& spot);
void paintMouth(const Portrait& portrait, Spot& spot);
void paintBeard(const Portrait& portrait, Spot& spot);
void paintWrinkles(const Portrait& portrait, Spot& spot);

}  // namespace comface::faces::COMFACE_ISA
