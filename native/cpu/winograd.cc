// Groups of tiles go through all three stages while they are in the second-level cache:
//   V[xi] = B'dB of each tile and channel, 16 numbers xi; bf16, tiles x in
//   M[xi] = V[xi] U[xi], 16 products of matrices with dot products of bf16 pairs; fp32, tiles x 32 channels out
//   y     = A'MA, 2 x 2 pixels; bf16
// V and U are rounded besides what the direct way rounds: measured, the error is 1.6 times that of bf16's own.
#include "cpu/winograd.h"

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cstring>

namespace comface::cpu::avx512bf16 {
namespace {

constexpr int kXi = 16;    // numbers of a transformed tile
constexpr int kRows = 12;  // tiles times two vectors of 16 channels fill the registers
constexpr int kMostTiles = 48;
constexpr int kPad = 32;  // between the planes of V, which would else fall into the same places of the cache
using Vec = __m512;

inline Vec load(const Bf16* p) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
inline __m256i half(Vec v) {
  const __m256bh h = _mm512_cvtneps_pbh(v);
  __m256i bits;
  std::memcpy(&bits, &h, sizeof bits);
  return bits;
}
inline void store(Bf16* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half(v)); }

/** 16 channels of a pixel outside an image. */
constexpr Bf16 kZeroPixel[16] = {};

/** Tiles of 2 x 2 pixels, numbered through all images. */
struct Grid {
  int rows, columns;
  explicit Grid(const WinogradShape& s) : rows((s.h + 1) / 2), columns((s.w + 1) / 2) {}
};

/** Tiles of one row of tiles of an image. */
struct Run {
  int image, top, left, count;
};

/** @param each gets a run and the number of its first tile, counted from `first`. */
template <class F>
void forRuns(const Grid& grid, int first, int count, const F& each) {
  for (int tile = 0; tile < count;) {
    const int row = (first + tile) / grid.columns, column = (first + tile) % grid.columns;
    const int length = std::min(count - tile, grid.columns - column);
    each(Run{row / grid.rows, row % grid.rows * 2, column * 2, length}, tile);
    tile += length;
  }
}

/** Groups that go through the stages together. */
struct Tiles : Grid {
  int count, group;

  Tiles(const WinogradShape& s, int threads) : Grid(s), count(s.n * rows * columns) {
    // The group that leaves no thread waiting for another; the larger of equals reads the weights less often.
    group = kRows;
    for (int size = kRows; size <= kMostTiles; size += kRows) {
      if (longest(size, threads) <= longest(group, threads)) group = size;
    }
  }
  int groups() const { return (count + group - 1) / group; }

 private:
  int longest(int size, int threads) const {
    const int groups = (count + size - 1) / size;
    return (groups + threads - 1) / threads * size;
  }
};

size_t planeOf(const WinogradShape& s, int tiles) { return static_cast<size_t>(tiles) * s.in + kPad; }

/** What a thread writes to: V, then M. */
size_t threadBytes(const WinogradShape& s) {
  return kXi * (planeOf(s, kMostTiles) * sizeof(Bf16) + size_t{kMostTiles} * 32 * sizeof(float));
}

size_t scratchBytes(const WinogradShape& s, int threads) { return threadBytes(s) * threads; }
size_t weightsBytes(const WinogradShape& s) { return size_t{kXi} * s.in * s.out * sizeof(Bf16); }

/** G g G' for 16 channels at once. */
inline void transformWeights(const Vec g[9], Vec u[kXi]) {
  const Vec two = _mm512_set1_ps(0.5f);
  Vec t[4][3];
  for (int x = 0; x < 3; ++x) {
    const Vec sum = _mm512_mul_ps(two, _mm512_add_ps(g[x], g[6 + x])), middle = _mm512_mul_ps(two, g[3 + x]);
    t[0][x] = g[x], t[1][x] = _mm512_add_ps(sum, middle), t[2][x] = _mm512_sub_ps(sum, middle), t[3][x] = g[6 + x];
  }
  for (int y = 0; y < 4; ++y) {
    const Vec sum = _mm512_mul_ps(two, _mm512_add_ps(t[y][0], t[y][2])), middle = _mm512_mul_ps(two, t[y][1]);
    u[4 * y] = t[y][0], u[4 * y + 1] = _mm512_add_ps(sum, middle);
    u[4 * y + 2] = _mm512_sub_ps(sum, middle), u[4 * y + 3] = t[y][2];
  }
}

/** Where U[xi] of a pair of `in` channels and 16 `out` channels lies: xi x out/32 x in/2 x 2 x 16 x a pair. */
inline Bf16* placeOf(const WinogradShape& s, Bf16* u, int xi, int outBlock, int pair) {
  const size_t panel = (static_cast<size_t>(xi) * (s.out / 32) + outBlock / 2) * (s.in / 2) + pair;
  return u + (panel * 2 + outBlock % 2) * 32;
}

/** `weightOf(in, out block, tap)`: the weights of 16 `out` channels. */
template <class F>
void transformAll(const WinogradShape& s, Bf16* u, const F& weightOf) {
#pragma omp parallel for collapse(2) schedule(static)
  for (int block = 0; block < s.out / 16; ++block) {
    for (int pair = 0; pair < s.in / 2; ++pair) {
      Vec g[9], even[kXi], odd[kXi];
      for (int tap = 0; tap < 9; ++tap) g[tap] = weightOf(2 * pair, block, tap);
      transformWeights(g, even);
      for (int tap = 0; tap < 9; ++tap) g[tap] = weightOf(2 * pair + 1, block, tap);
      transformWeights(g, odd);
      for (int xi = 0; xi < kXi; ++xi) {
        const __m512i low = _mm512_cvtepu16_epi32(half(even[xi])), high = _mm512_cvtepu16_epi32(half(odd[xi]));
        _mm512_storeu_si512(placeOf(s, u, xi, block, pair), _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    }
  }
}

void forwardWeights(const WinogradShape& s, const float* weights, void* transformed) {
  transformAll(s, static_cast<Bf16*>(transformed), [&](int in, int block, int tap) {
    const size_t at = (static_cast<size_t>(block) * (s.in / 16) + in / 16) * 9 + tap;
    return _mm512_loadu_ps(weights + (at * 16 + in % 16) * 16);
  });
}

/** Taps the other way round, and what was out is in. */
void backwardWeights(const WinogradShape& s, const float* weights, void* transformed) {
  const __m512i every16 = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                             _mm512_set1_epi32(16));
  transformAll(s, static_cast<Bf16*>(transformed), [&](int in, int block, int tap) {
    const size_t at = (static_cast<size_t>(in / 16) * (s.out / 16) + block) * 9 + (8 - tap);
    return _mm512_i32gather_ps(every16, weights + at * 256 + in % 16, sizeof(float));
  });
}

/** Four rows of an image's block of 16 channels; zeros above and below it. */
class Rows {
 public:
  Rows(const WinogradShape& s, const Bf16* x, int top) : width_(s.w) {
    for (int row = 0; row < 4; ++row) {
      const bool isInside = top + row >= 0 && top + row < s.h;
      rows_[row] = isInside ? x + static_cast<size_t>(top + row) * s.w * 16 : kZeroPixel;
      steps_[row] = isInside ? 16 : 0;
    }
  }
  /** B' times a column. */
  void transform(int column, Vec t[4]) const {
    if (column < 0 || column >= width_) {
      t[0] = t[1] = t[2] = t[3] = _mm512_setzero_ps();
      return;
    }
    Vec d[4];
    for (int row = 0; row < 4; ++row) d[row] = load(rows_[row] + column * steps_[row]);
    t[0] = _mm512_sub_ps(d[0], d[2]), t[1] = _mm512_add_ps(d[1], d[2]);
    t[2] = _mm512_sub_ps(d[2], d[1]), t[3] = _mm512_sub_ps(d[1], d[3]);
  }

 private:
  int width_;
  const Bf16* rows_[4];
  size_t steps_[4];
};

/** B'dB of `count` tiles beside each other, for 16 channels. V's tiles lie `step` apart, its planes `plane`. */
inline void transformTiles(const Rows& rows, int left, int count, Bf16* v, size_t step, size_t plane) {
  Vec t[4][4];  // columns; two of them are the next tile's, too
  rows.transform(left, t[0]), rows.transform(left + 1, t[1]);
  for (int tile = 0; tile < count; ++tile, v += step) {
    rows.transform(left + 2 * tile + 2, t[2]), rows.transform(left + 2 * tile + 3, t[3]);
    for (int row = 0; row < 4; ++row) {
      Bf16* to = v + 4 * row * plane;
      store(to, _mm512_sub_ps(t[0][row], t[2][row]));
      store(to + plane, _mm512_add_ps(t[1][row], t[2][row]));
      store(to + 2 * plane, _mm512_sub_ps(t[2][row], t[1][row]));
      store(to + 3 * plane, _mm512_sub_ps(t[1][row], t[3][row]));
      t[0][row] = t[2][row], t[1][row] = t[3][row];
    }
  }
}

/** m (12 x 32) = v (12 x in) u (in x 32). */
inline void multiply(const Bf16* v, const Bf16* u, int in, float* m) {
  Vec sum[kRows][2];
  for (auto& row : sum) row[0] = row[1] = _mm512_setzero_ps();
  const auto pairOf = [](const Bf16* p) {
    int32_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return reinterpret_cast<__m512bh>(_mm512_set1_epi32(bits));
  };
  for (int c = 0; c < in; c += 2, u += 64) {
    const __m512bh u0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(u));
    const __m512bh u1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(u + 32));
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
      const __m512bh a = pairOf(v + static_cast<size_t>(row) * in + c);
      sum[row][0] = _mm512_dpbf16_ps(sum[row][0], a, u0);
      sum[row][1] = _mm512_dpbf16_ps(sum[row][1], a, u1);
    }
  }
  for (int row = 0; row < kRows; ++row) {
    _mm512_storeu_ps(m + row * 32, sum[row][0]);
    _mm512_storeu_ps(m + row * 32 + 16, sum[row][1]);
  }
}

/** A'MA: m's 16 numbers lie `plane` apart. */
inline void finishTile(const WinogradShape& s, const float* m, size_t plane, int top, int left, Bf16* y) {
  Vec t[2][4];
  for (int column = 0; column < 4; ++column) {
    const Vec m0 = _mm512_loadu_ps(m + column * plane), m1 = _mm512_loadu_ps(m + (4 + column) * plane);
    const Vec m2 = _mm512_loadu_ps(m + (8 + column) * plane), m3 = _mm512_loadu_ps(m + (12 + column) * plane);
    t[0][column] = _mm512_add_ps(_mm512_add_ps(m0, m1), m2);
    t[1][column] = _mm512_sub_ps(_mm512_sub_ps(m1, m2), m3);
  }
  for (int row = 0; row < 2 && top + row < s.h; ++row) {
    Bf16* to = y + (static_cast<size_t>(top + row) * s.w + left) * 16;
    const Vec* r = t[row];
    store(to, _mm512_add_ps(_mm512_add_ps(r[0], r[1]), r[2]));
    if (left + 1 < s.w) store(to + 16, _mm512_sub_ps(_mm512_sub_ps(r[1], r[2]), r[3]));
  }
}

void runGroup(const WinogradShape& s, const Tiles& tiles, int first, const Bf16* x, const Bf16* u, Bf16* y,
              char* scratch) {
  const int count = std::min(tiles.group, tiles.count - first), rows = (count + kRows - 1) / kRows * kRows;
  const size_t plane = planeOf(s, tiles.group), results = static_cast<size_t>(tiles.group) * 32;
  const size_t pixels = static_cast<size_t>(s.h) * s.w * 16;
  Bf16* v = reinterpret_cast<Bf16*>(scratch);
  float* m = reinterpret_cast<float*>(scratch + kXi * planeOf(s, kMostTiles) * sizeof(Bf16));
  forRuns(tiles, first, count, [&](const Run& run, int tile) {
    for (int block = 0; block < s.in / 16; ++block) {
      const Rows four(s, x + (static_cast<size_t>(run.image) * (s.in / 16) + block) * pixels, run.top - 1);
      transformTiles(four, run.left - 1, run.count, v + static_cast<size_t>(tile) * s.in + block * 16, s.in, plane);
    }
  });
  for (int xi = 0; xi < kXi; ++xi)
    std::fill(v + xi * plane + static_cast<size_t>(count) * s.in, v + xi * plane + static_cast<size_t>(rows) * s.in, 0);
  for (int block = 0; block < s.out / 32; ++block) {
    for (int xi = 0; xi < kXi; ++xi) {
      const Bf16* panel = u + (static_cast<size_t>(xi) * (s.out / 32) + block) * s.in * 32;
      for (int row = 0; row < rows; row += kRows)
        multiply(v + xi * plane + static_cast<size_t>(row) * s.in, panel, s.in, m + xi * results + row * 32);
    }
    forRuns(tiles, first, count, [&](const Run& run, int tile) {
      Bf16* to = y + (static_cast<size_t>(run.image) * (s.out / 16) + 2 * block) * pixels;
      for (int i = 0; i < run.count; ++i) {
        for (int part = 0; part < 2; ++part)
          finishTile(s, m + (tile + i) * 32 + part * 16, results, run.top, run.left + 2 * i, to + part * pixels);
      }
    });
  }
}

void run(const WinogradShape& s, const void* x, const void* u, void* y, void* scratch) {
  const Tiles tiles(s, omp_get_max_threads());
#pragma omp parallel for schedule(static)
  for (int group = 0; group < tiles.groups(); ++group) {
    runGroup(s, tiles, group * tiles.group, static_cast<const Bf16*>(x), static_cast<const Bf16*>(u),
             static_cast<Bf16*>(y), static_cast<char*>(scratch) + omp_get_thread_num() * threadBytes(s));
  }
}

// ---- the gradient of the weights: dU[xi] = sum over tiles of V[xi]' (A dY A')[xi], dg = G' dU G ----
// Tiles of two images make a pair for the dot products. A task is a row of four xi and a part of the channels out.

constexpr int kGradientRows = 8;  // channels in times two vectors of channels out
/** V and the transformed dY of a task's chunk of pairs fit into the second-level cache, but where dU does not either.
 */
constexpr size_t kChunkBytes = 3u << 17, kLargeChunkBytes = 1u << 22, kLargeSumsBytes = 1u << 21;

struct Gradient : Grid {
  int pairs, parts = 1, chunk;

  Gradient(const WinogradShape& s, int threads) : Grid(s), pairs((s.n + 1) / 2 * rows * columns) {
    while (4 * parts < threads && s.out / 32 % (2 * parts) == 0) parts *= 2;
    const size_t pairBytes = 4 * sizeof(uint32_t) * (static_cast<size_t>(s.in) + s.out);
    const size_t chunkBytes = 4 * sizeof(float) * s.in * s.out > kLargeSumsBytes ? kLargeChunkBytes : kChunkBytes;
    chunk = static_cast<int>(std::clamp<size_t>(chunkBytes / pairBytes, 1, static_cast<size_t>(pairs)));
  }
};

int gradientTasks(const WinogradShape& s, int threads) { return 4 * Gradient(s, threads).parts; }

size_t gradientScratch(const WinogradShape& s, int threads) {
  const Gradient g(s, threads);
  const size_t chunk = 4 * sizeof(uint32_t) * g.chunk * (static_cast<size_t>(s.in) + s.out);
  return kXi * sizeof(float) * s.in * s.out + threads * chunk;
}

inline void storePair(uint32_t* to, Vec even, Vec odd) {
  const __m512i low = _mm512_cvtepu16_epi32(half(even)), high = _mm512_cvtepu16_epi32(half(odd));
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

/** Two rows of one image's block of channels, whose combination a task needs: a + sign * b, zeros outside. */
class TwoRows {
 public:
  /** x: null for an image that is not there. */
  TwoRows(const WinogradShape& s, const Bf16* x, int a, int b, float signA, float signB) : width_(s.w) {
    const auto set = [&](int which, int row, float sign) {
      const bool isInside = x && row >= 0 && row < s.h && sign != 0;
      rows_[which] = isInside ? x + static_cast<size_t>(row) * s.w * 16 : kZeroPixel;
      steps_[which] = isInside ? 16 : 0;
      signs_[which] = _mm512_set1_ps(sign);
    };
    set(0, a, signA), set(1, b, signB);
  }
  Vec column(int x) const {
    if (x < 0 || x >= width_) return _mm512_setzero_ps();
    const Vec a = load(rows_[0] + x * steps_[0]), b = load(rows_[1] + x * steps_[1]);
    return _mm512_fmadd_ps(signs_[1], b, _mm512_mul_ps(signs_[0], a));
  }

 private:
  int width_;
  const Bf16* rows_[2];
  size_t steps_[2];
  Vec signs_[2];
};

/** Row `xiRow` of B'd: which rows of a tile's patch, and their signs. */
inline TwoRows patchRow(const WinogradShape& s, const Bf16* x, int top, int xiRow) {
  constexpr int kA[4] = {0, 1, 2, 1}, kB[4] = {2, 2, 1, 3};
  return {s, x, top - 1 + kA[xiRow], top - 1 + kB[xiRow], 1, xiRow == 1 ? 1.0f : -1.0f};
}
/** Row `xiRow` of A dY. */
inline TwoRows gradientRow(const WinogradShape& s, const Bf16* dy, int top, int xiRow) {
  constexpr float kFirst[4] = {1, 1, 1, 0}, kSecond[4] = {0, 1, -1, -1};
  return {s, dy, top, top + 1, kFirst[xiRow], kSecond[xiRow]};
}

/** m (8 x 32) (+)= v' g over pairs of tiles: v pairs x in, g pairs x out. */
inline void multiplyPairs(const uint32_t* v, int in, const uint32_t* g, int out, int pairs, bool isFirst, float* m,
                          size_t step) {
  Vec sum[kGradientRows][2];
  for (int row = 0; row < kGradientRows; ++row) {
    for (int part = 0; part < 2; ++part)
      sum[row][part] = isFirst ? _mm512_setzero_ps() : _mm512_loadu_ps(m + row * step + part * 16);
  }
  for (int pair = 0; pair < pairs; ++pair, v += in, g += out) {
    const __m512bh g0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(g));
    const __m512bh g1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(g + 16));
#pragma GCC unroll 8
    for (int row = 0; row < kGradientRows; ++row) {
      const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int32_t>(v[row])));
      sum[row][0] = _mm512_dpbf16_ps(sum[row][0], a, g0);
      sum[row][1] = _mm512_dpbf16_ps(sum[row][1], a, g1);
    }
  }
  for (int row = 0; row < kGradientRows; ++row) {
    _mm512_storeu_ps(m + row * step, sum[row][0]);
    _mm512_storeu_ps(m + row * step + 16, sum[row][1]);
  }
}

/** The images of a pair, and one block of their channels. */
struct ImagePair {
  const Bf16 *first, *second;  // second: null after the last image

  ImagePair(const WinogradShape& s, const void* images, int pair, int channels, int block) {
    const size_t pixels = static_cast<size_t>(s.h) * s.w * 16, image = pixels * (channels / 16);
    first = static_cast<const Bf16*>(images) + 2 * pair * image + block * pixels;
    second = 2 * pair + 1 < s.n ? first + image : nullptr;
  }
};

/** Row `xiRow` of B'dB of a run's pairs of tiles; `to`: 4 planes x pairs x in. */
inline void transformPairs(const WinogradShape& s, const ImagePair& x, const Run& run, int xiRow, uint32_t* to,
                           size_t plane) {
  const TwoRows even = patchRow(s, x.first, run.top, xiRow), odd = patchRow(s, x.second, run.top, xiRow);
  Vec e[4], o[4];  // columns; two of them are the next tile's, too
  for (int k = 0; k < 2; ++k) e[k] = even.column(run.left - 1 + k), o[k] = odd.column(run.left - 1 + k);
  for (int tile = 0; tile < run.count; ++tile, to += s.in) {
    for (int k = 2; k < 4; ++k) {
      const int column = run.left + 2 * tile - 1 + k;
      e[k] = even.column(column), o[k] = odd.column(column);
    }
    storePair(to, _mm512_sub_ps(e[0], e[2]), _mm512_sub_ps(o[0], o[2]));
    storePair(to + plane, _mm512_add_ps(e[1], e[2]), _mm512_add_ps(o[1], o[2]));
    storePair(to + 2 * plane, _mm512_sub_ps(e[2], e[1]), _mm512_sub_ps(o[2], o[1]));
    storePair(to + 3 * plane, _mm512_sub_ps(e[1], e[3]), _mm512_sub_ps(o[1], o[3]));
    e[0] = e[2], e[1] = e[3], o[0] = o[2], o[1] = o[3];
  }
}

/** Row `xiRow` of A dY A' of a run's pairs of tiles; `to`: 4 planes x pairs x outs. */
inline void transformGradient(const WinogradShape& s, const ImagePair& dy, const Run& run, int xiRow, uint32_t* to,
                              size_t step, size_t plane) {
  const TwoRows even = gradientRow(s, dy.first, run.top, xiRow), odd = gradientRow(s, dy.second, run.top, xiRow);
  const Vec zero = _mm512_setzero_ps();
  for (int tile = 0; tile < run.count; ++tile, to += step) {
    const int left = run.left + 2 * tile;
    const Vec e0 = even.column(left), e1 = even.column(left + 1), o0 = odd.column(left), o1 = odd.column(left + 1);
    storePair(to, e0, o0);
    storePair(to + plane, _mm512_add_ps(e0, e1), _mm512_add_ps(o0, o1));
    storePair(to + 2 * plane, _mm512_sub_ps(e0, e1), _mm512_sub_ps(o0, o1));
    storePair(to + 3 * plane, _mm512_sub_ps(zero, e1), _mm512_sub_ps(zero, o1));
  }
}

/** Adds up dU of four xi and of the channels [first, first + outs). v: memory for a chunk. */
void gradientTask(const WinogradShape& s, const Gradient& gradient, int xiRow, int first, int outs, const void* x,
                  const void* dy, float* sums, uint32_t* v) {
  uint32_t* m = v + 4 * static_cast<size_t>(gradient.chunk) * s.in;
  for (int begin = 0; begin < gradient.pairs; begin += gradient.chunk) {
    const int count = std::min(gradient.chunk, gradient.pairs - begin);
    const size_t planeV = static_cast<size_t>(count) * s.in, planeM = static_cast<size_t>(count) * outs;
    forRuns(gradient, begin, count, [&](const Run& run, int tile) {
      for (int block = 0; block < s.in / 16; ++block)
        transformPairs(s, {s, x, run.image, s.in, block}, run, xiRow, v + static_cast<size_t>(tile) * s.in + block * 16,
                       planeV);
      for (int block = 0; block < outs / 16; ++block)
        transformGradient(s, {s, dy, run.image, s.out, first / 16 + block}, run, xiRow,
                          m + static_cast<size_t>(tile) * outs + block * 16, outs, planeM);
    });
    for (int k = 0; k < 4; ++k) {
      float* sum = sums + static_cast<size_t>(4 * xiRow + k) * s.in * s.out + first;
      for (int out = 0; out < outs; out += 32) {
        for (int in = 0; in < s.in; in += kGradientRows)
          multiplyPairs(v + k * planeV + in, s.in, m + k * planeM + out, outs, count, begin == 0,
                        sum + static_cast<size_t>(in) * s.out + out, s.out);
      }
    }
  }
}

/** G' dU G of one channel in and 16 channels out; the numbers xi lie `plane` apart, the taps 256. */
inline void finishGradient(const float* sums, size_t plane, float* weights) {
  const Vec half = _mm512_set1_ps(0.5f);
  Vec t[3][4];
  for (int column = 0; column < 4; ++column) {
    const auto at = [&](int row) { return _mm512_loadu_ps(sums + (4 * row + column) * plane); };
    const Vec u1 = at(1), u2 = at(2), sum = _mm512_mul_ps(half, _mm512_add_ps(u1, u2));
    t[0][column] = _mm512_add_ps(at(0), sum), t[1][column] = _mm512_mul_ps(half, _mm512_sub_ps(u1, u2));
    t[2][column] = _mm512_add_ps(sum, at(3));
  }
  for (int row = 0; row < 3; ++row) {
    const Vec sum = _mm512_mul_ps(half, _mm512_add_ps(t[row][1], t[row][2]));
    float* to = weights + 3 * row * 256;
    _mm512_storeu_ps(to, _mm512_add_ps(t[row][0], sum));
    _mm512_storeu_ps(to + 256, _mm512_mul_ps(half, _mm512_sub_ps(t[row][1], t[row][2])));
    _mm512_storeu_ps(to + 512, _mm512_add_ps(sum, t[row][3]));
  }
}

void weightsGradient(const WinogradShape& s, const void* x, const void* dy, float* weights, void* scratch) {
  const int threads = omp_get_max_threads();
  const Gradient gradient(s, threads);
  const int outs = s.out / gradient.parts;
  float* sums = static_cast<float*>(scratch);
  uint32_t* chunks = reinterpret_cast<uint32_t*>(sums + size_t{kXi} * s.in * s.out);
  const size_t chunk = 4 * static_cast<size_t>(gradient.chunk) * (static_cast<size_t>(s.in) + s.out);
#pragma omp parallel for schedule(static)
  for (int task = 0; task < 4 * gradient.parts; ++task) {
    gradientTask(s, gradient, task / gradient.parts, task % gradient.parts * outs, outs, x, dy, sums,
                 chunks + omp_get_thread_num() * chunk);
  }
#pragma omp parallel for collapse(2) schedule(static)
  for (int out = 0; out < s.out; out += 16) {
    for (int in = 0; in < s.in; ++in) {
      float* to = weights + ((static_cast<size_t>(out / 16) * (s.in / 16) + in / 16) * 9 * 16 + in % 16) * 16;
      finishGradient(sums + static_cast<size_t>(in) * s.out + out, static_cast<size_t>(s.in) * s.out, to);
    }
  }
}

}  // namespace

extern const Winograd winograd;
const Winograd winograd = {weightsBytes, scratchBytes,  forwardWeights,  backwardWeights,
                           run,          gradientTasks, gradientScratch, weightsGradient};

}  // namespace comface::cpu::avx512bf16
