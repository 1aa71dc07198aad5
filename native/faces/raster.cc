// Triangle scan conversion and coverage counting for raster.h.
// A sample stores where in the grid it fell, not attributes: shading looks those up once a pixel.
#include "raster.h"

namespace comface::faces {

void Surface::resize(int newRows, int newCols) {
  rows = newRows;
  cols = newCols;
  grid.assign(static_cast<size_t>(rows) * cols, Vertex{});
}

void computeNormals(Surface& surface) {
  for (int r = 0; r < surface.rows; ++r) {
    const int up = std::max(r - 1, 0), down = std::min(r + 1, surface.rows - 1);
    for (int c = 0; c < surface.cols; ++c) {
      const int left = std::max(c - 1, 0), right = std::min(c + 1, surface.cols - 1);
      const Vec3 across = surface.at(r, right).p - surface.at(r, left).p;
      const Vec3 along = surface.at(down, c).p - surface.at(up, c).p;
      Vertex& vertex = surface.at(r, c);
      vertex.n = unit(cross(along, across));
      vertex.t = unit(along);
    }
  }
  // Where a row shrinks to a point there is no normal: the next row's will do.
  for (int c = 0; c < surface.cols; ++c) {
    if (dot(surface.at(0, c).n, surface.at(0, c).n) < 0.5f) surface.at(0, c).n = surface.at(1, c).n;
  }
}

Vertex interpolate(const Surface& surface, float col, float row) {
  const int c = std::min(static_cast<int>(col), surface.cols - 2),
            r = std::min(static_cast<int>(row), surface.rows - 2);
  const float fc = col - static_cast<float>(c), fr = row - static_cast<float>(r);
  const Vertex* q[4] = {&surface.at(r, c), &surface.at(r, c + 1), &surface.at(r + 1, c), &surface.at(r + 1, c + 1)};
  const float w[4] = {(1 - fc) * (1 - fr), fc * (1 - fr), (1 - fc) * fr, fc * fr};
  Vertex out;
  out.ao = out.shadow = out.cover = 0;
  for (int i = 0; i < 4; ++i) {
    out.p = out.p + q[i]->p * w[i];
    out.n = out.n + q[i]->n * w[i];
    out.t = out.t + q[i]->t * w[i];
    out.u += q[i]->u * w[i];
    out.v += q[i]->v * w[i];
    out.a += q[i]->a * w[i];
    out.ao += q[i]->ao * w[i];
    out.shadow += q[i]->shadow * w[i];
    out.cover += q[i]->cover * w[i];
  }
  return out;
}

Raster::Raster(int size, const Lens& lens) : size_(size), lens_(lens) {
  const size_t pixels = static_cast<size_t>(size) * size;
  color_.resize(pixels);
  depth_.assign(pixels * kSuper * kSuper, kFar);
  scratch_.resize(pixels * kSuper * kSuper);
}

Raster::Box Raster::scan(const Surface& surface) {
  const int side = size_ * kSuper;
  float x0 = kFar, y0 = kFar, x1 = -kFar, y1 = -kFar;
  screen_.resize(surface.grid.size());
  for (size_t i = 0; i < surface.grid.size(); ++i) {
    const Vec3& p = surface.grid[i].p;
    const float away = lens_.distance - p.z, scale = lens_.zoom * lens_.distance / away;
    const Vec3 s{(lens_.centerX + p.x * scale) * kSuper, (lens_.centerY - p.y * scale) * kSuper, away};
    screen_[i] = s;
    x0 = std::min(x0, s.x), x1 = std::max(x1, s.x), y0 = std::min(y0, s.y), y1 = std::max(y1, s.y);
  }
  const auto bound = [side](float v) { return static_cast<int>(std::clamp(v, 0.0f, static_cast<float>(side))); };
  // Whole pixels, so that resolve() never reads samples left by another surface.
  Box box{bound(x0) & ~1, bound(y0) & ~1, std::min(side, bound(x1 + 2) | 1), std::min(side, bound(y1 + 2) | 1)};
  box.x1 = std::min(side, box.x1 + 1), box.y1 = std::min(side, box.y1 + 1);
  for (int y = box.y0; y < box.y1; ++y) {
    Sample* line = &scratch_[static_cast<size_t>(y) * side];
    for (int x = box.x0; x < box.x1; ++x) line[x].z = kFar;
  }
  for (int r = 0; r + 1 < surface.rows; ++r) {
    for (int c = 0; c + 1 < surface.cols; ++c) {
      const int i = r * surface.cols + c, j = i + surface.cols;
      const auto* g = surface.grid.data();
      if (g[i].cover + g[i + 1].cover + g[j].cover + g[j + 1].cover <= 0) continue;
      triangle(surface, r, c, false, box);
      triangle(surface, r, c, true, box);
    }
  }
  return box;
}

// Half of the quad whose upper left corner is (row, col): the corner at its upper left, or the one at its lower right.
void Raster::triangle(const Surface& surface, int row, int col, bool lower, const Box& box) {
  const Vec3* quad = &screen_[static_cast<size_t>(row) * surface.cols + col];
  const Vec3 &a = lower ? quad[1] : quad[0], &b = quad[surface.cols], &c = lower ? quad[surface.cols + 1] : quad[1];
  // Samples sit at half integers; the box is clamped at 0, so truncation rounds the right way (std::ceil is a call).
  const int x0 = std::max(box.x0, static_cast<int>(std::min(a.x, std::min(b.x, c.x)) + 0.4999f));
  const int x1 = std::min(box.x1 - 1, static_cast<int>(std::max(a.x, std::max(b.x, c.x)) + 0.5001f) - 1);
  const int y0 = std::max(box.y0, static_cast<int>(std::min(a.y, std::min(b.y, c.y)) + 0.4999f));
  const int y1 = std::min(box.y1 - 1, static_cast<int>(std::max(a.y, std::max(b.y, c.y)) + 0.5001f) - 1);
  if (x0 > x1 || y0 > y1) return;
  const float area = (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
  // Screen y runs down, so a grid facing the camera winds to a negative area.
  if (area > -1e-6f && (!surface.twoSided || area < 1e-6f)) return;
  const float inverse = 1 / area;
  const float bx = (c.y - a.y) * inverse, by = -(c.x - a.x) * inverse;  // gradient of b's weight
  const float cx = -(b.y - a.y) * inverse, cy = (b.x - a.x) * inverse;  // gradient of c's weight
  const float col0 = static_cast<float>(col), row0 = static_cast<float>(row);
  constexpr float kEdge = -1e-4f;  // shared edges must not leave holes
  for (int y = y0; y <= y1; ++y) {
    const float dx = static_cast<float>(x0) + 0.5f - a.x, dy = static_cast<float>(y) + 0.5f - a.y;
    bool entered = false;
    float wb = dx * bx + dy * by, wc = dx * cx + dy * cy;
    Sample* line = &scratch_[static_cast<size_t>(y) * size_ * kSuper];
    for (int x = x0; x <= x1; ++x, wb += bx, wc += cx) {
      if (wb < kEdge || wc < kEdge || wb + wc > 1 - kEdge) {
        if (entered) break;  // a line crosses a triangle once
        continue;
      }
      entered = true;
      const float z = a.z + (b.z - a.z) * wb + (c.z - a.z) * wc;
      if (z >= line[x].z) continue;
      line[x] = lower ? Sample{z, col0 + 1 - wb, row0 + wb + wc} : Sample{z, col0 + wc, row0 + wb};
    }
  }
}

int Raster::resolve(int px, int py, float& col, float& row) const {
  int count = 0;
  float nearest = kFar, nearCol = 0, nearRow = 0, sumCol = 0, sumRow = 0, lo = kFar, hi = -kFar;
  for (int j = 0; j < kSuper; ++j) {
    for (int i = 0; i < kSuper; ++i) {
      const size_t at = static_cast<size_t>(py * kSuper + j) * size_ * kSuper + px * kSuper + i;
      const Sample& s = scratch_[at];
      if (s.z >= kFar || s.z > depth_[at] + 0.004f) continue;
      ++count;
      sumCol += s.col, sumRow += s.row;
      lo = std::min(lo, s.col), hi = std::max(hi, s.col);
      if (s.z < nearest) nearest = s.z, nearCol = s.col, nearRow = s.row;
    }
  }
  if (count == 0) return 0;
  // Across a fold (nose over cheek) the mean place would lie on neither side: take the nearer one.
  const bool fold = hi - lo > 3;
  col = std::max(0.0f, fold ? nearCol : sumCol / static_cast<float>(count));
  row = std::max(0.0f, fold ? nearRow : sumRow / static_cast<float>(count));
  return count;
}

void Raster::keepDepth(int px, int py) {
  for (int j = 0; j < kSuper; ++j) {
    for (int i = 0; i < kSuper; ++i) {
      const size_t at = static_cast<size_t>(py * kSuper + j) * size_ * kSuper + px * kSuper + i;
      depth_[at] = std::min(depth_[at], scratch_[at].z);
    }
  }
}

}  // namespace comface::faces
