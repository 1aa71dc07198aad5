// Draws grids of vertices with a z-buffer: 2x2 coverage samples a pixel, one shading a pixel and surface, kLanes pixels
// at a time. Surfaces are drawn back to front; the z-buffer sorts what overlaps, coverage and alpha soften the edges.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vec.h"

namespace comface::faces::COMFACE_ISA {

inline constexpr float kFar = 1e9f;

// The four samples of a pixel: upper left, upper right, lower left, lower right.
using Quad = float __attribute__((vector_size(16)));
inline constexpr Quad kFarQuad = {kFar, kFar, kFar, kFar};

// One corner of a grid. Sixteen floats, the painted ones last: interpolation reads them as vectors.
struct alignas(16) Vertex {
  Vec3 p;              // view space, units of 10 cm, camera looks along -z
  float cover = 1;     // 0: no quad touching only such corners is drawn
  Vec3 n;              // view space normal, unit length at the corners
  float a = 0;         // angle around the head axis, radians, or a surface's own coordinate
  Vec3 t;              // view space direction of strands (hair only)
  float edge = 0;      // head and hair: height above the line where hair grows
  float u = 0, v = 0;  // where to paint: head space x and y before relief, or a surface's own coordinates
  float ao = 1;        // ambient light that arrives, 0..1
  float shadow = 1;    // key light that arrives, 0..1
};
static_assert(sizeof(Vertex) == 64);

// What painters get: the same between the corners, for kLanes pixels.
struct Place {
  Vec3s n, t;
  Lanes u, v, a, edge, ao, shadow;
};

struct Surface {
  int cols = 0, rows = 0;
  bool twoSided = false;
  std::vector<Vertex> grid;  // rows x cols
  Vertex& at(int row, int col) { return grid[static_cast<size_t>(row) * cols + col]; }
  const Vertex& at(int row, int col) const { return grid[static_cast<size_t>(row) * cols + col]; }
  // All corners as new; memory is kept from picture to picture.
  void resize(int newRows, int newCols, bool isTwoSided = false);
};

// Normals (and strand tangents down the rows) from the neighbors of each corner.
void computeNormals(Surface& surface);
// For surfaces seen from both sides: normals that look at the camera.
void faceCamera(Surface& surface);

struct Lens {
  float distance;          // camera to the head's middle, units
  float zoom;              // pixels per unit at that distance
  float centerX, centerY;  // where head space (0, 0, 0) lands, pixels
  // Pixels x and y, and the distance from the camera, of a point in view space.
  Vec3 project(const Vec3& p) const {
    const float away = distance - p.z, scale = zoom * distance / away;
    return {centerX + p.x * scale, centerY - p.y * scale, away};
  }
};

// The colors of kLanes pixels.
struct Color {
  Vec3s rgb{};
  Lanes alpha{};
};

// Where a surface lies in the picture: its nearest point at each sample.
struct Layer {
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;  // pixels, half open
  struct Where {
    Quad col, row;
  };
  // Depth and place in the grid of each pixel's samples, for the whole picture; what lies outside the box, and places
  // where there is no depth, are left from earlier.
  std::vector<Quad> z;
  std::vector<Where> at;
};

class Raster {
 public:
  void begin(int size, const Lens& lens);
  int size() const { return size_; }
  Vec3& pixel(int x, int y) { return color_[static_cast<size_t>(y) * size_ + x]; }
  float pixelSize() const { return 1.0f / lens_.zoom; }  // units per pixel
  // Memory for whoever works on the picture as a whole: two blocks, kept like all of this from picture to picture.
  Vec3* scratch(int block, size_t count) {
    if (scratch_[block].size() < count) scratch_[block].resize(count);
    return scratch_[block].data();
  }

  void scan(const Surface& surface, Layer& layer);
  // What is opaque and wholly in front need not be painted over: pixels behind this layer are skipped from here on,
  // until there is another.
  void hideBehind(const Layer* front) { front_ = front; }

  // Painter: Color(const Place&).
  template <class Painter>
  void paint(const Surface& surface, const Layer& layer, Painter&& painter);
  template <class Painter>
  void draw(const Surface& surface, Painter&& painter) {
    scan(surface, layer_);
    paint(surface, layer_, painter);
  }

 private:
  // Pixels that wait for their painter.
  struct Batch {
    int count = 0;
    size_t pixel[kLanes];
    float covered[kLanes];           // share of the samples
    const Vertex* corner[kLanes];    // upper left of the quad
    float col[kLanes], row[kLanes];  // within it
  };
  void cover(const Surface& surface, int row, int col, Layer& layer);
  bool isHidden(const Quad& z, int x, int y) const;
  bool collect(const Surface& surface, const Layer& layer, int x, int y, Batch& batch) const;
  static Place place(const Surface& surface, const Batch& batch);
  void blend(const Color& color, const Layer& layer, Batch& batch);

  int size_ = 0;
  Lens lens_{};
  std::vector<Vec3> scratch_[2];
  std::vector<Vec3> color_;   // size x size, linear light
  std::vector<Quad> depth_;   // of each pixel's samples, distance from the camera
  std::vector<Vec3> screen_;  // corners of the surface being scanned: x, y in pixels, distance
  Layer layer_;
  const Layer* front_ = nullptr;
};

template <class Painter>
void Raster::paint(const Surface& surface, const Layer& layer, Painter&& painter) {
  Batch batch;
  for (int y = layer.y0; y < layer.y1; ++y) {
    for (int x = layer.x0; x < layer.x1; ++x) {
      if (!collect(surface, layer, x, y, batch)) continue;
      if (batch.count == kLanes) blend(painter(place(surface, batch)), layer, batch);
    }
  }
  if (batch.count > 0) blend(painter(place(surface, batch)), layer, batch);
}

}  // namespace comface::faces::COMFACE_ISA
