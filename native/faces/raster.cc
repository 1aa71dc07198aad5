// Triangle scan conversion and coverage counting for raster.h.
// A sample stores where in the grid it fell, not attributes: shading looks those up once a pixel.
#include "raster.h"

namespace comface::faces::COMFACE_ISA {
namespace {

using QuadMask = int32_t __attribute__((vector_size(16)));

inline int bitsOf(const QuadMask& mask) { return __builtin_ia32_movmskps(reinterpret_cast<Quad>(mask)); }
inline void transpose(Quad* rows) {
  const Quad a = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
  const Quad b = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
  const Quad c = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
  const Quad d = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5), rows[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  rows[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5), rows[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}
inline float sumOf(const Quad& q) { return (q[0] + q[1]) + (q[2] + q[3]); }

// Weights of two corners of a triangle at a pixel's samples; the third has the rest. Never inside where it is not seen.
struct Triangle {
  Quad b, c;  // at the first pixel of a line
  float bx = 0, by = 0, cx = 0, cy = 0;
  const Vec3 &first, &second, &third;
  bool isSeen;

  Triangle(const Vec3& p, const Vec3& q, const Vec3& r, bool twoSided) : first(p), second(q), third(r) {
    const float area = (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
    // Screen y runs down, so a grid facing the camera winds to a negative area.
    isSeen = area < -2.5e-7f || (twoSided && area > 2.5e-7f);
    b = c = Quad{-1, -1, -1, -1};
    if (!isSeen) return;
    const float inverse = 1 / area;
    bx = (r.y - p.y) * inverse, by = -(r.x - p.x) * inverse;
    cx = -(q.y - p.y) * inverse, cy = (q.x - p.x) * inverse;
  }
  void startAt(int x, int y) {
    if (!isSeen) return;
    const Quad dx = Quad{0.25f, 0.75f, 0.25f, 0.75f} + (static_cast<float>(x) - first.x);
    const Quad dy = Quad{0.25f, 0.25f, 0.75f, 0.75f} + (static_cast<float>(y) - first.y);
    b = dx * bx + dy * by, c = dx * cx + dy * cy;
  }
  void down() { b += by, c += cy; }
  Quad depth(const Quad& wb, const Quad& wc) const {
    return first.z + (second.z - first.z) * wb + (third.z - first.z) * wc;
  }
};

inline QuadMask insideOf(const Quad& b, const Quad& c) {
  constexpr float kEdge = -1e-4f;  // shared edges must not leave holes
  return (b >= kEdge) & (c >= kEdge) & (b + c <= 1 - kEdge);
}

}  // namespace

void Surface::resize(int newRows, int newCols, bool isTwoSided) {
  rows = newRows;
  cols = newCols;
  twoSided = isTwoSided;
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

void faceCamera(Surface& surface) {
  for (Vertex& vertex : surface.grid) {
    // Mirrored, not turned about: at the outline the normals of both sides must agree, or light flickers along it.
    vertex.n.z = std::fabs(vertex.n.z);
  }
}

void Raster::begin(int size, const Lens& lens) {
  const size_t pixels = static_cast<size_t>(size) * size;
  size_ = size;
  lens_ = lens;
  front_ = nullptr;
  color_.resize(pixels);
  depth_.assign(pixels, kFarQuad);
}

void Raster::scan(const Surface& surface, Layer& layer) {
  float x0 = kFar, y0 = kFar, x1 = -kFar, y1 = -kFar;
  screen_.resize(surface.grid.size());
  for (size_t i = 0; i < surface.grid.size(); ++i) {
    const Vec3 s = lens_.project(surface.grid[i].p);
    screen_[i] = s;
    x0 = std::min(x0, s.x), x1 = std::max(x1, s.x), y0 = std::min(y0, s.y), y1 = std::max(y1, s.y);
  }
  const auto bound = [this](float v) { return static_cast<int>(std::clamp(v, 0.0f, static_cast<float>(size_))); };
  layer.x0 = bound(x0), layer.y0 = bound(y0), layer.x1 = bound(x1 + 1), layer.y1 = bound(y1 + 1);
  const size_t pixels = static_cast<size_t>(size_) * size_;
  if (layer.z.size() < pixels) layer.z.resize(pixels), layer.at.resize(pixels);
  for (int y = layer.y0; y < layer.y1; ++y) {
    std::fill_n(&layer.z[static_cast<size_t>(y) * size_ + layer.x0], layer.x1 - layer.x0, kFarQuad);
  }
  for (int r = 0; r + 1 < surface.rows; ++r) {
    for (int c = 0; c + 1 < surface.cols; ++c) {
      const Vertex *g = &surface.at(r, c), *below = g + surface.cols;
      if (g[0].cover + g[1].cover + below[0].cover + below[1].cover <= 0) continue;
      cover(surface, r, c, layer);
    }
  }
}

// Both halves of the quad whose upper left corner is (row, col), at once: they are small, and one loop ends sooner than
// two.
void Raster::cover(const Surface& surface, int row, int col, Layer& layer) {
  const Vec3* quad = &screen_[static_cast<size_t>(row) * surface.cols + col];
  const Vec3 &a = quad[0], &b = quad[1], &c = quad[surface.cols], &d = quad[surface.cols + 1];
  // Samples sit a quarter inside a pixel; the box is clamped at 0, so truncation rounds the right way (std::ceil is a
  // call).
  const auto first = [](float p, float q, float r, float s) {
    return static_cast<int>(std::min(std::min(p, q), std::min(r, s)) + 0.2499f);
  };
  const auto last = [](float p, float q, float r, float s) {
    return static_cast<int>(std::max(std::max(p, q), std::max(r, s)) + 0.7501f) - 1;
  };
  const int x0 = std::max(layer.x0, first(a.x, b.x, c.x, d.x)), x1 = std::min(layer.x1 - 1, last(a.x, b.x, c.x, d.x));
  const int y0 = std::max(layer.y0, first(a.y, b.y, c.y, d.y)), y1 = std::min(layer.y1 - 1, last(a.y, b.y, c.y, d.y));
  if (x0 > x1 || y0 > y1) return;
  Triangle upper(a, c, b, surface.twoSided), lower(b, c, d, surface.twoSided);
  if (!upper.isSeen && !lower.isSeen) return;
  upper.startAt(x0, y0), lower.startAt(x0, y0);
  const float col0 = static_cast<float>(col), row0 = static_cast<float>(row);
  for (int y = y0; y <= y1; ++y) {
    const size_t line = static_cast<size_t>(y) * size_;
    Quad ub = upper.b, uc = upper.c, lb = lower.b, lc = lower.c;
    for (int x = x0; x <= x1; ++x) {
      const QuadMask inUpper = insideOf(ub, uc), inLower = insideOf(lb, lc);
      if (bitsOf(inUpper | inLower) != 0) {
        Quad& nearest = layer.z[line + x];
        auto& [cols, rows] = layer.at[line + x];
        const Quad z = inUpper ? upper.depth(ub, uc) : lower.depth(lb, lc);
        const QuadMask seen = (inUpper | inLower) & (z < nearest);
        nearest = seen ? z : nearest;
        cols = seen ? col0 + (inUpper ? uc : 1 - lb) : cols;
        rows = seen ? row0 + (inUpper ? ub : lb + lc) : rows;
      }
      ub += upper.bx, uc += upper.cx, lb += lower.bx, lc += lower.cx;
    }
    upper.down(), lower.down();
  }
}

// Whether an opaque surface covers the pixel whole, in front of all that this one has there.
bool Raster::isHidden(const Quad& z, int x, int y) const {
  if (front_ == nullptr || x < front_->x0 || x >= front_->x1 || y < front_->y0 || y >= front_->y1) return false;
  const Quad& front = front_->z[static_cast<size_t>(y) * size_ + x];
  return bitsOf((front < kFar) & (front < z)) == 15;  // where there is nothing z is kFar
}

// Adds the pixel to the batch if anything of it is seen.
bool Raster::collect(const Surface& surface, const Layer& layer, int x, int y, Batch& batch) const {
  static constexpr uint8_t kCount[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
  static constexpr float kShare[5] = {0, 1, 1.0f / 2, 1.0f / 3, 1.0f / 4};
  constexpr float kTouch = 0.004f;
  const size_t pixel = static_cast<size_t>(y) * size_ + x;
  const Quad& z = layer.z[pixel];
  const QuadMask seen = (z < kFar) & (z <= depth_[pixel] + kTouch);
  const int bits = bitsOf(seen);
  if (bits == 0 || isHidden(z, x, y)) return false;
  const int count = kCount[bits];
  const Quad cols = seen ? layer.at[pixel].col : Quad{}, rows = seen ? layer.at[pixel].row : Quad{};
  float col = sumOf(cols) * kShare[count], row = sumOf(rows) * kShare[count];
  // Across a fold (nose over cheek) the mean place would lie on neither side: take the nearer one.
  const Quad off = seen ? cols - col : Quad{};
  if (bitsOf((off > 1.5f) | (off < -1.5f)) != 0) {
    float nearest = kFar;
    for (int i = 0; i < 4; ++i) {
      if ((bits >> i & 1) != 0 && z[i] < nearest) nearest = z[i], col = cols[i], row = rows[i];
    }
  }
  col = std::max(0.0f, col), row = std::max(0.0f, row);
  const int c = std::min(static_cast<int>(col), surface.cols - 2),
            r = std::min(static_cast<int>(row), surface.rows - 2);
  const int i = batch.count++;
  batch.pixel[i] = pixel;
  batch.covered[i] = 0.25f * static_cast<float>(count);
  batch.corner[i] = &surface.at(r, c);
  batch.col[i] = col - static_cast<float>(c), batch.row[i] = row - static_cast<float>(r);
  return true;
}

Place Raster::place(const Surface& surface, const Batch& batch) {
  // Of each pixel the last three quarters of a vertex, as vectors.
  Quad part[3][kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const int k = std::min(i, batch.count - 1);  // idle lanes repeat the last pixel
    const Vertex* up = batch.corner[k];
    const auto quarter = [up](int offset, int p) { return reinterpret_cast<const Quad*>(up + offset)[p]; };
    const Quad fc = Quad{} + batch.col[k], fr = Quad{} + batch.row[k];
    for (int p = 0; p < 3; ++p) {
      const Quad above = mix(quarter(0, p + 1), quarter(1, p + 1), fc);
      const Quad below = mix(quarter(surface.cols, p + 1), quarter(surface.cols + 1, p + 1), fc);
      part[p][i] = mix(above, below, fr);
    }
  }
  for (Quad* rows : part) transpose(rows);
  return {.n = {part[0][0], part[0][1], part[0][2]},
          .t = {part[1][0], part[1][1], part[1][2]},
          .u = part[2][0],
          .v = part[2][1],
          .a = part[0][3],
          .edge = part[1][3],
          .ao = part[2][2],
          .shadow = part[2][3]};
}

void Raster::blend(const Color& color, const Layer& layer, Batch& batch) {
  for (int i = 0; i < batch.count; ++i) {
    const float alpha = color.alpha[i];
    if (alpha <= 0) continue;
    const size_t at = batch.pixel[i];
    color_[at] = mix(color_[at], Vec3{color.rgb.x[i], color.rgb.y[i], color.rgb.z[i]}, alpha * batch.covered[i]);
    const Quad& z = layer.z[at];
    if (alpha > 0.5f) depth_[at] = z < depth_[at] ? z : depth_[at];
  }
  batch.count = 0;
}

}  // namespace comface::faces::COMFACE_ISA
