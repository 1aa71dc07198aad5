// Draws grids of vertices with a z-buffer: 2x2 coverage samples a pixel, one shading call a pixel and surface.
// Surfaces are drawn back to front; the z-buffer sorts what overlaps, coverage and alpha soften the edges.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vec.h"

namespace comface::faces {

inline constexpr int kSuper = 2;  // coverage samples per pixel and axis
inline constexpr float kFar = 1e9f;

// One corner of a grid, and also what a shader gets after interpolation.
struct Vertex {
  Vec3 p;              // view space, units of 10 cm, camera looks along -z
  Vec3 n;              // view space normal, unit length at the corners
  Vec3 t;              // view space direction of strands (hair only)
  float u = 0, v = 0;  // where to paint: head space x and y before relief, or a surface's own coordinates
  float a = 0;         // angle around the head axis, radians, or a surface's own coordinate
  float ao = 1;        // ambient light that arrives, 0..1
  float shadow = 1;    // key light that arrives, 0..1
  float cover = 1;     // 0: no quad touching only such corners is drawn
};

struct Surface {
  int cols = 0, rows = 0;
  bool twoSided = false;
  std::vector<Vertex> grid;  // rows x cols
  Vertex& at(int row, int col) { return grid[static_cast<size_t>(row) * cols + col]; }
  const Vertex& at(int row, int col) const { return grid[static_cast<size_t>(row) * cols + col]; }
  void resize(int newRows, int newCols);
};

// Normals (and optionally strand tangents down the rows) from the neighbors of each corner.
void computeNormals(Surface& surface);

struct Lens {
  float distance;          // camera to the head's middle, units
  float zoom;              // pixels per unit at that distance
  float centerX, centerY;  // where head space (0, 0, 0) lands, pixels
};

struct Color {
  Vec3 rgb;
  float alpha;
};

class Raster {
 public:
  Raster(int size, const Lens& lens);
  int size() const { return size_; }
  Vec3& pixel(int x, int y) { return color_[static_cast<size_t>(y) * size_ + x]; }
  float pixelSize() const { return 1.0f / lens_.zoom; }  // units per pixel

  // Shader: Color(const Vertex&, int px, int py).
  template <class Shader>
  void draw(const Surface& surface, Shader&& shader);

 private:
  struct Box {
    int x0, y0, x1, y1;  // samples, half open
  };
  struct Sample {
    float z, col, row;  // depth and place in the grid
  };
  Box scan(const Surface& surface);
  void triangle(const Surface& surface, int row, int col, bool lower, const Box& box);
  int resolve(int px, int py, float& col, float& row) const;
  void keepDepth(int px, int py);

  int size_;
  Lens lens_;
  std::vector<Vec3> color_;      // size x size, linear light
  std::vector<float> depth_;     // samples, distance from the camera
  std::vector<Sample> scratch_;  // the surface being drawn
  std::vector<Vec3> screen_;     // its corners: sample x, sample y, distance
};

Vertex interpolate(const Surface& surface, float col, float row);

template <class Shader>
void Raster::draw(const Surface& surface, Shader&& shader) {
  const Box box = scan(surface);
  for (int py = box.y0 / kSuper; py * kSuper < box.y1; ++py) {
    for (int px = box.x0 / kSuper; px * kSuper < box.x1; ++px) {
      float col, row;
      const int count = resolve(px, py, col, row);
      if (count == 0) continue;
      const Color c = shader(interpolate(surface, col, row), px, py);
      if (c.alpha <= 0) continue;
      Vec3& out = pixel(px, py);
      out = mix(out, c.rgb, c.alpha * static_cast<float>(count) / (kSuper * kSuper));
      if (c.alpha > 0.5f) keepDepth(px, py);
    }
  }
}

}  // namespace comface::faces
