// StyleGAN3's filtered leaky ReLU (Karras et al., 2021, section 3.2) for one instruction set; compiled as kernels.cc
// is. A thread owns a tile of the result and goes down it row by row: the upsampled image, four times as large or more,
// is only ever there as the few rows that the filter of the way down still needs.
#include <omp.h>

#include <utility>

#include "cpu/generator.h"
#include "cpu/vectors.h"

namespace comface::cpu::COMFACE_ISA {
namespace {

constexpr int kTileRows = 128, kTileColumns = 64;
/** Sums that are kept in registers. */
constexpr int kSums = 8;

int floorDivide(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
int ceilDivide(int a, int b) { return floorDivide(a + b - 1, b); }
int modulo(int a, int b) { return a - floorDivide(a, b) * b; }

/** The taps that meet numbers, not zeros between them, at place `at` of the upsampled image. */
struct Phase {
  int first;  // tap; then every `up`-th
  int count;
  int source;  // pixel of the input that meets the first

  Phase(const FilteredArgs& a, int at)
      : first(modulo(a.padLow - at, a.up)),
        count(first < a.upTaps ? (a.upTaps - first + a.up - 1) / a.up : 0),
        source((at + first - a.padLow) / a.up) {}
};

// Sums stay in registers only where the compiler sees each of them by a constant index before it unrolls loops, so what
// goes over them is unrolled and inlined here.
#define COMFACE_INLINE __attribute__((always_inline))

/** f<0>(), f<1>(), ... f<N - 1>(). */
template <int N, class F>
COMFACE_INLINE inline void unrolled(const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) COMFACE_INLINE { (f.template operator()<I>(), ...); }
  (std::make_integer_sequence<int, N>());
}

/** Runs body<sums>(i) for `count` numbers, the last tile overlapping the one before. */
template <class Body>
COMFACE_INLINE inline void forTiles(int count, const Body& body) {
  if (count < kSums) {
    for (int i = 0; i < count; ++i) body.template operator()<1>(i);
    return;
  }
  for (int i = 0; i < count; i += kSums) body.template operator()<kSums>(std::min(i, count - kSums));
}

/** to[i] = sum over k of weights[k] rows[k][i], whole vectors. */
template <int Taps>
void combineRows(const float* const* rows, const float* weights, int taps, int count, float* to) {
  if constexpr (Taps > 0) taps = Taps;
  forTiles(count, [&]<int S>(int i) COMFACE_INLINE {
    Vec sum[S] = {};
    const size_t at = static_cast<size_t>(i) * B;
    for (int k = 0; k < taps; ++k) {
      const Vec w = splat(weights[k]);
      const float* from = rows[k] + at;
      unrolled<S>([&]<int J>() COMFACE_INLINE { sum[J] += w * load(from + J * B); });
    }
    unrolled<S>([&]<int J>() COMFACE_INLINE { store(to + at + J * B, sum[J]); });
  });
}

/** sum[s] += over k of weights[k] from[s Step + k]: each number is loaded once for all the sums that it meets. With
 * `twin`, a row of the same weights, from and twin are added up before. */
template <int Taps, int Step, bool HasTwin, int S>
COMFACE_INLINE inline void addTaps(const float* from, const float* twin, const float* weights, Vec (&sum)[S]) {
  Vec w[Taps];
  unrolled<Taps>([&]<int K>() COMFACE_INLINE { w[K] = splat(weights[K]); });
  unrolled<(S - 1) * Step + Taps>([&]<int M>() COMFACE_INLINE {
    Vec v = load(from + M * B);
    if constexpr (HasTwin) v += load(twin + M * B);
    unrolled<S>([&]<int J>() COMFACE_INLINE {
      constexpr int k = M - J * Step;
      if constexpr (k >= 0 && k < Taps) sum[J] += w[k] * v;
    });
  });
}

/** to[i toStep] = finish(sum over r, k of weights[r][k] rows[r][i Step + k]), whole vectors; taps numbers in a row of
 * weights. Taps, Step: 0 where they are known at run time only. */
template <int Taps, int Step, class Finish>
void filterRows(const float* const* rows, int rowCount, const float* weights, int taps, int step, int count, float* to,
                int toStep, const Finish& finish) {
  if constexpr (Step > 0) step = Step;
  forTiles(count, [&]<int S>(int i) COMFACE_INLINE {
    Vec sum[S] = {};
    for (int r = 0; r < rowCount; ++r) {
      const float* from = rows[r] + static_cast<size_t>(i) * step * B;
      const float* w = weights + static_cast<size_t>(r) * taps;
      if constexpr (Taps > 0 && Step > 0) {
        addTaps<Taps, Step, false>(from, nullptr, w, sum);
        continue;
      }
      for (int k = 0; k < taps; ++k) {
        const Vec weight = splat(w[k]);
        unrolled<S>([&]<int J>() COMFACE_INLINE { sum[J] += weight * load(from + (J * step + k) * B); });
      }
    }
    float* out = to + static_cast<size_t>(i) * toStep * B;
    unrolled<S>([&]<int J>() COMFACE_INLINE { store(out + J * toStep * B, finish(sum[J])); });
  });
}

/** As filterRows<12, 2> of all 12 rows, the last of which have the weights of the first. */
void filterMirrored(const float* const* rows, const float* weights, int count, float* to) {
  forTiles(count, [&]<int S>(int i) COMFACE_INLINE {
    Vec sum[S] = {};
    const size_t at = static_cast<size_t>(i) * 2 * B;
    for (int r = 0; r < 6; ++r) addTaps<12, 2, true>(rows[r] + at, rows[11 - r] + at, weights + 12 * r, sum);
    unrolled<S>([&]<int J>() COMFACE_INLINE { store(to + (static_cast<size_t>(i) + J) * B, sum[J]); });
  });
}

/** One of the three that StyleGAN3's filters want, or any. */
template <class Body>
inline void forTaps(int taps, const Body& body) {
  if (taps == 6) return body.template operator()<6>();
  if (taps == 12) return body.template operator()<12>();
  body.template operator()<0>();
}

/** The rows of a tile's memory, and how wide they are in vectors. */
struct Widths {
  int inRows, inColumns, between, betweenRows, downRows;

  explicit Widths(const FilteredArgs& a)
      : inRows((a.upTaps + a.up - 1) / a.up + 1),
        inColumns(0),
        between((kTileColumns - 1) * a.down + a.downTaps),
        betweenRows(a.isRadial ? a.downTaps : 1),
        downRows(a.isRadial ? 0 : a.downTaps) {
    inColumns = (between + a.upTaps) / a.up + 2;
  }
  size_t floats() const {
    return (static_cast<size_t>(inRows + 1) * inColumns + static_cast<size_t>(betweenRows) * between +
            static_cast<size_t>(downRows) * kTileColumns) *
           B;
  }
};

/** One tile of one block of channels of a sample. */
class Tile {
 public:
  Tile(const FilteredArgs& a, float* scratch)
      : a_(a), widths_(a), in_(scratch), across_(in_ + vectors(widths_.inRows, widths_.inColumns)) {
    between_ = across_ + vectors(1, widths_.inColumns);
    narrow_ = between_ + vectors(widths_.betweenRows, widths_.between);
  }

  void run(int n, int block, int top, int left) {
    const size_t plane = static_cast<size_t>(n) * a_.in.blocks + block;
    x_ = a_.x + plane * a_.in.height * a_.in.width * B;
    bias_ = load(a_.bias + block * B);
    left_ = left * a_.down;
    columns_ = std::min(kTileColumns, a_.out.width - left);
    betweenColumns_ = (columns_ - 1) * a_.down + a_.downTaps;
    inLeft_ = ceilDivide(left_ - a_.padLow, a_.up);
    inColumns_ = floorDivide(left_ + betweenColumns_ + a_.upTaps - 2 - a_.padLow, a_.up) - inLeft_ + 1;
    nextIn_ = ceilDivide(top * a_.down - a_.padLow, a_.up);
    int next = top * a_.down;
    for (int row = top; row < std::min(top + kTileRows, a_.out.height); ++row) {
      const int first = row * a_.down;
      for (next = std::max(next, first); next < first + a_.downTaps; ++next) makeBetween(next);
      float* y = a_.y + ((plane * a_.out.height + row) * a_.out.width + left) * B;
      makeResult(first, y);
    }
  }

 private:
  static size_t vectors(int rows, int columns) { return static_cast<size_t>(rows) * columns * B; }
  float* inRow(int row) const { return in_ + vectors(modulo(row, widths_.inRows), widths_.inColumns); }
  float* betweenRow(int row) const { return between_ + vectors(row % widths_.betweenRows, widths_.between); }
  float* narrowRow(int row) const { return narrow_ + vectors(row % widths_.downRows, kTileColumns); }

  /** A row of x + bias with zeros beyond the image. */
  void readRow(int row) const {
    float* to = inRow(row);
    const bool isInside = row >= 0 && row < a_.in.height;
    const int first = std::clamp(-inLeft_, 0, inColumns_);
    const int end = isInside ? std::clamp(a_.in.width - inLeft_, first, inColumns_) : first;
    std::fill_n(to, static_cast<size_t>(first) * B, 0.0f);
    std::fill(to + static_cast<size_t>(end) * B, to + static_cast<size_t>(inColumns_) * B, 0.0f);
    const float* from = x_ + (static_cast<ptrdiff_t>(row) * a_.in.width + inLeft_) * B;
    for (int i = first; i < end; ++i)
      store(to + static_cast<size_t>(i) * B, load(from + static_cast<ptrdiff_t>(i) * B) + bias_);
  }

  /** A row of the upsampled image after its ReLU; of a separable filter also filtered along the row. */
  void makeBetween(int row) {
    const Phase phase(a_, row);
    for (nextIn_ = std::max(nextIn_, phase.source); nextIn_ < phase.source + phase.count; ++nextIn_) readRow(nextIn_);
    const float* rows[kMostTaps];
    float weights[kMostTaps];
    for (int k = 0; k < phase.count; ++k) {
      rows[k] = inRow(phase.source + k), weights[k] = a_.upFilter[phase.first + k * a_.up];
    }
    forTaps(phase.count, [&]<int Taps>() { combineRows<Taps>(rows, weights, phase.count, inColumns_, across_); });
    for (int first = 0; first < std::min(a_.up, betweenColumns_); ++first) makeColumns(first, betweenRow(row));
    if (a_.isRadial) return;
    const float* from[] = {betweenRow(row)};
    const auto same = [](Vec v) { return v; };
    float* to = narrowRow(row);
    if (a_.downTaps == 12 && a_.down == 2) {
      return filterRows<12, 2>(from, 1, a_.downFilter, 12, 2, columns_, to, 1, same);
    }
    filterRows<0, 0>(from, 1, a_.downFilter, a_.downTaps, a_.down, columns_, to, 1, same);
  }

  /** Of one phase: columns `first`, `first` + up, ... */
  void makeColumns(int first, float* to) const {
    const Phase phase(a_, left_ + first);
    float weights[kMostTaps];
    for (int k = 0; k < phase.count; ++k) weights[k] = a_.upFilter[phase.first + k * a_.up];
    const float* from[] = {across_ + static_cast<ptrdiff_t>(phase.source - inLeft_) * B};
    const int count = (betweenColumns_ - first + a_.up - 1) / a_.up;
    const Vec slope = splat(a_.slope), gain = splat(a_.gain), high = splat(a_.clamp), low = -high;
    const auto bend = [&](Vec v) {
      const Vec bent = (v > 0 ? v : slope * v) * gain, capped = bent > high ? high : bent;
      return capped < low ? low : capped;
    };
    forTaps(phase.count, [&]<int Taps>() {
      filterRows<Taps, 1>(from, 1, weights, phase.count, 1, count, to + static_cast<size_t>(first) * B, a_.up, bend);
    });
  }

  /** A row of the result, from the rows between that begin with `first`. */
  void makeResult(int first, float* y) const {
    const float* rows[kMostTaps];
    for (int k = 0; k < a_.downTaps; ++k) rows[k] = a_.isRadial ? betweenRow(first + k) : narrowRow(first + k);
    if (!a_.isRadial) {
      return forTaps(a_.downTaps,
                     [&]<int Taps>() { combineRows<Taps>(rows, a_.downFilter, a_.downTaps, columns_, y); });
    }
    const auto same = [](Vec v) { return v; };
    const bool isUsual = a_.downTaps == 12 && a_.down == 2;
    if (isUsual && a_.isMirrored) return filterMirrored(rows, a_.downFilter, columns_, y);
    if (isUsual) return filterRows<12, 2>(rows, 12, a_.downFilter, 12, 2, columns_, y, 1, same);
    filterRows<0, 0>(rows, a_.downTaps, a_.downFilter, a_.downTaps, a_.down, columns_, y, 1, same);
  }

  static constexpr int kMostTaps = 128;  // of graph.cc

  const FilteredArgs& a_;
  const Widths widths_;
  float *in_, *across_, *between_ = nullptr, *narrow_ = nullptr;
  const float* x_ = nullptr;
  Vec bias_{};
  int left_ = 0, columns_ = 0, betweenColumns_ = 0, inLeft_ = 0, inColumns_ = 0, nextIn_ = 0;
};

size_t scratchOf(const FilteredArgs& a) { return Widths(a).floats(); }

void run(const FilteredArgs& a) {
  const int rows = (a.out.height + kTileRows - 1) / kTileRows,
            columns = (a.out.width + kTileColumns - 1) / kTileColumns;
  const int64_t tiles = static_cast<int64_t>(rows) * columns, planes = static_cast<int64_t>(a.out.n) * a.out.blocks;
#pragma omp parallel
  {
    Tile tile(a, a.scratch + omp_get_thread_num() * scratchOf(a));
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < planes * tiles; ++i) {
      const int plane = static_cast<int>(i / tiles), at = static_cast<int>(i % tiles);
      tile.run(plane / a.out.blocks, plane % a.out.blocks, at / columns * kTileRows, at % columns * kTileColumns);
    }
  }
}

}  // namespace

#undef COMFACE_INLINE

extern const Filtered filtered;
const Filtered filtered = {run, scratchOf};

}  // namespace comface::cpu::COMFACE_ISA
