// A view, row by row: resized, adjusted, normalized while it is in the first-level cache. CMake compiles this file once
// for each instruction set, with COMFACE_ISA (the namespace) and COMFACE_BLOCK (floats in a vector); no multiply-add is
// fused. Plain loops that GCC vectorizes at -O3: selects between finished values, no early exits, no calls; look at
// -fopt-info-vec after a change. Trap: a function that is not inlined must have internal linkage or stand in
// COMFACE_ISA, or the linker keeps one of several.
#include "views/views.h"

#include <cstring>

#include "formulas.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace comface::views::COMFACE_ISA {
namespace {

constexpr int B = COMFACE_BLOCK;
using Lanes = float __attribute__((vector_size(B * 4)));
using Quad = float __attribute__((vector_size(16)));
/** Pixels that are adjusted together: 12 KB of floats. Divides kRun. */
constexpr size_t kChunk = 1024;

template <class V, class T>
inline V load(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class V, class T>
inline void store(T* to, V v) {
  std::memcpy(to, &v, sizeof v);
}
inline size_t lesserOf(size_t a, size_t b) { return a < b ? a : b; }

/** Some pixels of the view, a plane for each color. */
struct Pixels {
  float *red, *green, *blue;
  size_t count;
};

// ---- resize: rows first, for they are contiguous; as torchvision, pixels outside the crop have no influence ----

/** row[i] = sum_k weights[k] * input[k * pitch + i]. row: n floats; input: `count` rows of n bytes. */
void sumRows(const uint8_t* __restrict input, size_t pitch, const float* weights, int count, int n,
             float* __restrict row) {
  const uint8_t* __restrict second = count > 1 ? input + pitch : input;
  const float w0 = weights[0], w1 = count > 1 ? weights[1] : 0;
  for (int i = 0; i < n; ++i) row[i] = w0 * input[i] + w1 * second[i];
  for (int k = 2; k < count; ++k) {
    const uint8_t* __restrict next = input + k * pitch;
    const float w = weights[k];
    for (int i = 0; i < n; ++i) row[i] += w * next[i];
  }
}

/** Resamples one row to `size` pixels. row: pixels of 3 floats and one float of padding (a load takes four); red,
 * green, blue: size floats. */
void sumColumns(const float* row, const Axis& axis, int size, bool isFlipped, float* red, float* green, float* blue) {
  ptrdiff_t to = isFlipped ? size - 1 : 0;
  for (int x = 0; x < size; ++x, to += isFlipped ? -1 : 1) {
    const float* pixel = row + 3 * static_cast<size_t>(axis.spans[2 * x]);
    const float* weight = axis.weights + static_cast<size_t>(x) * axis.capacity;
    Quad sum = {};
    for (int k = 0; k < axis.spans[2 * x + 1]; ++k) sum += weight[k] * load<Quad>(pixel + 3 * k);
    red[to] = sum[0];
    green[to] = sum[1];
    blue[to] = sum[2];
  }
}

/** Any crop: one interleaved row at a time. */
class AnyRows {
 public:
  explicit AnyRows(const Task& task) : task_(task), n_(3 * task.view->width) {
    task.memory[n_] = 0;  // the padding's lane is thrown away, but a stale NaN or denormal would slow the sums
  }
  void make(int y, const Pixels& out) {
    const Axis& rows = task_.rows;
    sumRows(task_.corner + rows.spans[2 * y] * task_.pitch, task_.pitch,
            rows.weights + static_cast<size_t>(y) * rows.capacity, rows.spans[2 * y + 1], n_, task_.memory);
    sumColumns(task_.memory, task_.columns, task_.size, task_.view->isFlipped, out.red, out.green, out.blue);
  }

 private:
  const Task& task_;
  const int n_;
};

#ifdef __AVX2__

/** Sixteen pixels of three bytes to a plane for each color. */
inline void splitSixteen(const uint8_t* from, float* red, float* green, float* blue) {
  const __m128i parts[3] = {load<__m128i>(from), load<__m128i>(from + 16), load<__m128i>(from + 32)};
  float* const planes[3] = {red, green, blue};
  constexpr char N = -1;  // makes a zero
  static constexpr char kWhere[3][3][16] = {{{0, 3, 6, 9, 12, 15, N, N, N, N, N, N, N, N, N, N},
                                             {N, N, N, N, N, N, 2, 5, 8, 11, 14, N, N, N, N, N},
                                             {N, N, N, N, N, N, N, N, N, N, N, 1, 4, 7, 10, 13}},
                                            {{1, 4, 7, 10, 13, N, N, N, N, N, N, N, N, N, N, N},
                                             {N, N, N, N, N, 0, 3, 6, 9, 12, 15, N, N, N, N, N},
                                             {N, N, N, N, N, N, N, N, N, N, N, 2, 5, 8, 11, 14}},
                                            {{2, 5, 8, 11, 14, N, N, N, N, N, N, N, N, N, N, N},
                                             {N, N, N, N, N, 1, 4, 7, 10, 13, N, N, N, N, N, N},
                                             {N, N, N, N, N, N, N, N, N, N, 0, 3, 6, 9, 12, 15}}};
  for (int c = 0; c < 3; ++c) {
    __m128i bytes = _mm_shuffle_epi8(parts[0], load<__m128i>(kWhere[c][0]));
    for (int p = 1; p < 3; ++p) bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(parts[p], load<__m128i>(kWhere[c][p])));
    _mm256_storeu_ps(planes[c], _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)));
    _mm256_storeu_ps(planes[c] + 8, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))));
  }
}

/** A crop of no more pixels than the view each way: an output pixel sees two input pixels, and as many neighbors as a
 * vector has lanes see one vector of them, which a permutation brings to their places. */
class EnlargedRows {
 public:
  static bool fits(const Task& task) {
    const View& view = *task.view;
    return view.width >= 16 && view.width <= task.size && view.height <= task.size && task.columns.most <= 2 &&
           task.rows.most <= 2;
  }

  explicit EnlargedRows(const Task& task)
      : task_(task),
        pitch_(rowPitch(task.view->width)),
        groups_(groupCount(task.size, B)),
        mixed_(task.memory + 6 * pitch_),
        first_(task.memory + 9 * pitch_),
        second_(first_ + groups_ * B),
        bases_(task.places + groups_ * B) {
    // What lies behind a row weighs nothing, but must be a number.
    std::memset(task.memory, 0, 6 * pitch_ * sizeof(float));
    for (size_t group = 0; group < groups_; ++group) place(group);
  }

  void make(int y, const Pixels& out) {
    const Axis& rows = task_.rows;
    const int row = rows.spans[2 * y], count = rows.spans[2 * y + 1];
    const float* weights = rows.weights + static_cast<size_t>(y) * rows.capacity;
    const float *upper = split(row), *lower = count > 1 ? split(row + 1) : upper;
    mix(upper, weights[0], lower, count > 1 ? weights[1] : 0);
    for (size_t group = 0; group < groups_; ++group) {
      const __m256i places = load<__m256i>(task_.places + group * B);
      const Lanes w0 = load<Lanes>(first_ + group * B), w1 = load<Lanes>(second_ + group * B);
      const size_t x = firstOf(group);
      const float* from = mixed_ + bases_[group];
      for (float* to : {out.red, out.green, out.blue}) {
        const Lanes left = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from), places);
        const Lanes right = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from + 1), places);
        store(to + x, w0 * left + w1 * right);
        from += pitch_;
      }
    }
  }

 private:
  /** The last group ends with the row and may make pixels of the one before again. */
  size_t firstOf(size_t group) const { return lesserOf(group * B, static_cast<size_t>(task_.size) - B); }

  /** Where the pixels of a group find what they see, and what it weighs. */
  void place(size_t group) {
    int firsts[B], base = task_.view->width;
    for (int lane = 0; lane < B; ++lane) {
      const int x = static_cast<int>(firstOf(group)) + lane, from = task_.view->isFlipped ? task_.size - 1 - x : x;
      const float* weights = task_.columns.weights + static_cast<size_t>(from) * task_.columns.capacity;
      firsts[lane] = task_.columns.spans[2 * from];
      first_[group * B + lane] = weights[0];
      second_[group * B + lane] = task_.columns.spans[2 * from + 1] > 1 ? weights[1] : 0;
      if (firsts[lane] < base) base = firsts[lane];
    }
    bases_[group] = base;
    for (int lane = 0; lane < B; ++lane) task_.places[group * B + lane] = firsts[lane] - base;
  }

  /** The planes of a row of the crop; those of the last two rows are kept. */
  const float* split(int row) {
    float* const planes = task_.memory + (row & 1) * 3 * pitch_;
    int& kept = kept_[row & 1];
    if (kept == row) return planes;
    kept = row;
    const int width = task_.view->width;
    const uint8_t* from = task_.corner + row * task_.pitch;
    for (int x = 0; x < width; x += 16) {
      const int at = x + 16 <= width ? x : width - 16;
      splitSixteen(from + 3 * at, planes + at, planes + pitch_ + at, planes + 2 * pitch_ + at);
    }
    return planes;
  }

  void mix(const float* __restrict upper, float w0, const float* __restrict lower, float w1) {
    float* __restrict to = mixed_;
    for (size_t i = 0; i < 3 * pitch_; ++i) to[i] = w0 * upper[i] + w1 * lower[i];
  }

  const Task& task_;
  const size_t pitch_, groups_;
  float *mixed_, *first_, *second_;
  int* bases_;
  int kept_[2] = {-1, -1};
};

#endif

// ---- adjustments ----

void brightness(const Pixels& p, float factor) {
  for (float* __restrict plane : {p.red, p.green, p.blue}) {
    for (size_t i = 0; i < p.count; ++i) plane[i] = formulas::brightened(plane[i], factor);
  }
}

/** Mean of the grayscale picture, in an order that does not depend on the vector width; doubles every 4096 pixels keep
 * the error near 1e-7. Pixels come in chunks of kChunk; only the last may be shorter. */
class GrayMean {
 public:
  void add(const Pixels& p) {
    const size_t whole = p.count / kWidth * kWidth;
    float sums[kWidth];
    std::memcpy(sums, sums_, sizeof sums);
    for (size_t i = 0; i < whole; i += kWidth) {
      for (size_t k = 0; k < kWidth; ++k) sums[k] += formulas::luma(p.red[i + k], p.green[i + k], p.blue[i + k]);
    }
    std::memcpy(sums_, sums, sizeof sums);
    for (size_t i = whole; i < p.count; ++i) total_ += formulas::luma(p.red[i], p.green[i], p.blue[i]);
    count_ += p.count;
    if (count_ % kRun == 0) collect();
  }
  float mean() {
    collect();
    return static_cast<float>(total_ / static_cast<double>(count_));
  }

 private:
  static constexpr size_t kWidth = 16, kRun = 4096;
  static_assert(kRun % kChunk == 0);
  void collect() {
    for (float& sum : sums_) total_ += sum, sum = 0;
  }
  float sums_[kWidth] = {};
  double total_ = 0;
  size_t count_ = 0;
};

void contrast(const Pixels& p, float factor, float base) {
  for (float* __restrict plane : {p.red, p.green, p.blue}) {
    for (size_t i = 0; i < p.count; ++i) plane[i] = formulas::blended(plane[i], factor, base);
  }
}

/** Planes of `count` floats; as arguments, for GCC ignores __restrict on locals. */
void saturation(float* __restrict red, float* __restrict green, float* __restrict blue, size_t count, float factor) {
  for (size_t i = 0; i < count; ++i) {
    const float r = red[i], g = green[i], b = blue[i], base = (1 - factor) * formulas::luma(r, g, b);
    red[i] = formulas::blended(r, factor, base);
    green[i] = formulas::blended(g, factor, base);
    blue[i] = formulas::blended(b, factor, base);
  }
}

/** In explicit lanes, for GCC turns the selects of the formula into branches and then gives up. shift: turns in
 * [-0.5, 0.5]. */
void shiftHue(const Pixels& p, float shift) {
  const auto some = [&](size_t i, size_t bytes) {
    Lanes r = {}, g = {}, b = {};
    std::memcpy(&r, p.red + i, bytes);
    std::memcpy(&g, p.green + i, bytes);
    std::memcpy(&b, p.blue + i, bytes);
    formulas::shiftHue(r, g, b, 6 * shift);
    std::memcpy(p.red + i, &r, bytes);
    std::memcpy(p.green + i, &g, bytes);
    std::memcpy(p.blue + i, &b, bytes);
  };
  const size_t whole = p.count / B * B;
  for (size_t i = 0; i < whole; i += B) some(i, sizeof(Lanes));
  if (whole < p.count) some(whole, (p.count - whole) * sizeof(float));
}

/** torchvision rgb_to_grayscale with three output channels. */
void grayscale(float* __restrict red, float* __restrict green, float* __restrict blue, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float gray = formulas::luma(red[i], green[i], blue[i]);
    red[i] = green[i] = blue[i] = gray;
  }
}

void normalize(const Pixels& p, const Normalization& normalization) {
  float* const planes[3] = {p.red, p.green, p.blue};
  for (int c = 0; c < 3; ++c) {
    float* __restrict plane = planes[c];
    const float scale = normalization.scale[c], offset = normalization.offset[c];
    for (size_t i = 0; i < p.count; ++i) plane[i] = formulas::normalized(plane[i], scale, offset);
  }
}

/** All that happens to a pixel once it is resized. Contrast wants the mean of the whole view first: what comes before
 * it is done as the rows come, the rest in a second round. */
class Finish {
 public:
  explicit Finish(const Task& task) : task_(task), view_(*task.view), contrast_(view_.adjustmentCount) {
    for (int i = 0; i < view_.adjustmentCount; ++i) {
      if (view_.adjustments[i] == Adjustment::contrast) contrast_ = i;
    }
  }

  /** The view is resized up to pixel `end`. */
  void upTo(size_t end, size_t all) {
    while (end - done_ >= kChunk || (end == all && done_ < all)) {
      const Pixels p = chunk(done_, all);
      adjust(p, 0, contrast_);
      if (hasContrast())
        gray_.add(p);
      else
        end_(p);
      done_ += p.count;
    }
  }

  void rest(size_t all) {
    if (!hasContrast()) return;
    const float factor = view_.factors[contrast_], base = (1 - factor) * gray_.mean();
    for (size_t i = 0; i < all; i += kChunk) {
      const Pixels p = chunk(i, all);
      contrast(p, factor, base);
      adjust(p, contrast_ + 1, view_.adjustmentCount);
      end_(p);
    }
  }

 private:
  bool hasContrast() const { return contrast_ < view_.adjustmentCount; }
  Pixels chunk(size_t from, size_t all) const {
    return {task_.red + from, task_.green + from, task_.blue + from, lesserOf(kChunk, all - from)};
  }
  void adjust(const Pixels& p, int from, int to) const {
    for (int i = from; i < to; ++i) {
      const float factor = view_.factors[i];
      if (view_.adjustments[i] == Adjustment::brightness) brightness(p, factor);
      if (view_.adjustments[i] == Adjustment::saturation) saturation(p.red, p.green, p.blue, p.count, factor);
      if (view_.adjustments[i] == Adjustment::hue) shiftHue(p, factor);
    }
  }
  void end_(const Pixels& p) const {
    if (view_.isGray) grayscale(p.red, p.green, p.blue, p.count);
    normalize(p, task_.normalization);
  }

  const Task& task_;
  const View& view_;
  int contrast_;  // its place among the adjustments, or their number
  GrayMean gray_;
  size_t done_ = 0;
};

template <class Rows>
void makeRows(const Task& task) {
  Rows rows(task);
  Finish finish(task);
  const size_t size = task.size, all = size * size;
  for (size_t y = 0; y < size; ++y) {
    const size_t at = y * size;
    rows.make(static_cast<int>(y), {task.red + at, task.green + at, task.blue + at, size});
    finish.upTo(at + size, all);
  }
  finish.rest(all);
}

}  // namespace

void make(const Task& task) {
#ifdef __AVX2__
  if (EnlargedRows::fits(task)) return makeRows<EnlargedRows>(task);
#endif
  makeRows<AnyRows>(task);
}

}  // namespace comface::views::COMFACE_ISA
