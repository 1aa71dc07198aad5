// The painters of the parts of a face: each looks at one point in paint coordinates and changes the finish there.
// They run in order inside paintSkin; widths are softened by the pixel size, so small pictures stay smooth.
#pragma once

#include "head.h"
#include "identity.h"
#include "noise.h"
#include "raster.h"
#include "scene.h"

namespace comface::faces {

struct Portrait {
  const Face& face;
  const Landmarks& marks;
  const Scene& scene;
  float pixel;  // units per pixel
  Vec3 skin;    // skinColor(face)

  // Texture finer than a pixel only makes noise: 1 when a feature of this size is visible, 0 when not.
  float detail(float featureSize) const { return smooth(0.6f, 1.8f, featureSize / pixel); }
};

// The point being painted.
struct Spot {
  float x, y;      // paint coordinates
  float ax, side;  // |x| and its sign
  float angle;     // around the head axis
  Finish finish;
  float tiltX = 0, tiltY = 0;  // slope of small relief, added to the normal along the head's axes

  // A crease of the given depth; d is the signed distance across it in units of its width, (nx, ny) its direction.
  void crease(float d, float depth, float nx, float ny) {
    const float w = hill(d * d);
    if (w <= 0) return;
    finish.occlusion *= 1 - 0.5f * depth * w;
    tiltX += 1.6f * depth * d * w * nx * -1.0f;
    tiltY += 1.6f * depth * d * w * ny * -1.0f;
  }
  void tint(const Vec3& color, float amount) { finish.albedo = mix(finish.albedo, color, amount); }
};

Vec3 skinColor(const Face& face);

Color paintSkin(const Portrait& portrait, const Vertex& at);       // head
Color paintPlainSkin(const Portrait& portrait, const Vertex& at);  // ears and neck

void paintBrow(const Portrait& portrait, Spot& spot);
void paintEye(const Portrait& portrait, Spot& spot);
void paintMouth(const Portrait& portrait, Spot& spot);
void paintBeard(const Portrait& portrait, Spot& spot);
void paintWrinkles(const Portrait& portrait, Spot& spot);

}  // namespace comface::faces
