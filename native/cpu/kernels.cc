// Normalization, elementwise, Adam and InfoNCE kernels for one instruction set. CMake compiles this file three times
// with COMFACE_ISA (the namespace) and COMFACE_BLOCK (channels in a vector). Vectors are GCC's; a thread always owns
// whole channels or rows, so sums never depend on timing.
#include "cpu/kernels.h"

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "cpu/vectors.h"

namespace comface::cpu::COMFACE_ISA {
namespace {

/** relu that lets NaN through, so that a lost run is noticed. */
inline Vec relu(Vec v) { return v < 0 ? Vec{} : v; }

/** Mean and variance of one channel block, shifted by its first pixel so that a large mean costs no digits. */
template <class E>
void batchStatistics(const NormForward& a, const E* x, int block, const NormState& s) {
  const auto [samples, blocks, hw] = a.extent;
  const Vec pivot = load(x + static_cast<size_t>(block) * hw * B);
  Wide sum{}, squares{};
  for (int n = 0; n < samples; ++n) {
    const E* p = x + (static_cast<size_t>(n) * blocks + block) * hw * B;
    Vec s0{}, s1{}, q0{}, q1{};
    size_t i = 0;
    for (; i + 2 <= hw; i += 2) {
      const Vec u = load(p + i * B) - pivot, v = load(p + (i + 1) * B) - pivot;
      s0 += u, s1 += v, q0 += u * u, q1 += v * v;
    }
    if (i < hw) {
      const Vec u = load(p + i * B) - pivot;
      s0 += u, q0 += u * u;
    }
    sum += __builtin_convertvector(s0 + s1, Wide);
    squares += __builtin_convertvector(q0 + q1, Wide);
  }
  const double count = static_cast<double>(samples) * hw;
  for (int j = 0; j < B; ++j) {
    const int c = block * B + j;
    const double shifted = sum[j] / count, variance = std::max(0.0, squares[j] / count - shifted * shifted);
    const bool nan = !(squares[j] == squares[j]);
    s.mean[c] = static_cast<float>(shifted + pivot[j]);
    s.inverseDeviation[c] = nan ? NAN : static_cast<float>(1 / std::sqrt(variance + s.eps));
    const double unbiased = count > 1 ? variance * count / (count - 1) : variance;
    s.runningMean[c] += s.momentum * (s.mean[c] - s.runningMean[c]);
    s.runningVar[c] += s.momentum * (static_cast<float>(unbiased) - s.runningVar[c]);
  }
}

template <class E>
void prepare(const NormForward& a, const void* x, int block, const NormState& s) {
  if (a.training) batchStatistics(a, static_cast<const E*>(x), block, s);
  for (int c = block * B; c < (block + 1) * B; ++c) {
    const float mean = a.training ? s.mean[c] : s.runningMean[c];
    const float inverse = a.training ? s.inverseDeviation[c] : 1 / std::sqrt(s.runningVar[c] + s.eps);
    s.scale[c] = s.gamma[c] * inverse;
    s.shift[c] = s.beta[c] - s.scale[c] * mean;
  }
}

template <class E, Residual R, bool kRelu>
void normForwardAs(const NormForward& a) {
  const auto [samples, blocks, hw] = a.extent;
#pragma omp parallel for schedule(dynamic, 1)
  for (int block = 0; block < blocks; ++block) {
    prepare<E>(a, a.x, block, a.norm);
    if (R == Residual::normalized) prepare<E>(a, a.residual, block, a.norm2);
    const Vec scale = load(a.norm.scale + block * B);
    Vec shift = load(a.norm.shift + block * B), scale2{};
    if (R == Residual::normalized) scale2 = load(a.norm2.scale + block * B), shift += load(a.norm2.shift + block * B);
    for (int n = 0; n < samples; ++n) {
      const size_t at = (static_cast<size_t>(n) * blocks + block) * hw * B;
      const E *x = static_cast<const E*>(a.x) + at, *r = static_cast<const E*>(a.residual) + at;
      E* y = static_cast<E*>(a.y) + at;
      for (size_t i = 0; i < hw * B; i += B) {
        Vec v = scale * load(x + i) + shift;
        if (R == Residual::tensor) v += load(r + i);
        if (R == Residual::normalized) v += scale2 * load(r + i);
        store(y + i, kRelu ? relu(v) : v);
      }
    }
  }
}

template <class E>
void normForward(const NormForward& a) {
  const auto pick = [&]<Residual R>() { return a.relu ? normForwardAs<E, R, true> : normForwardAs<E, R, false>; };
  (a.kind == Residual::none     ? pick.template operator()<Residual::none>()
   : a.kind == Residual::tensor ? pick.template operator()<Residual::tensor>()
                                : pick.template operator()<Residual::normalized>())(a);
}

/** dx = k0 * g + k1 * x + k2 per channel, from sum(g) and sum(g * (x - mean)) (Ioffe and Szegedy, 2015, section 3). */
struct Coefficients {
  Vec k0, k1, k2;
};
Coefficients coefficients(const NormState& s, int block, double count, const Wide& sumG, const Wide& sumGx) {
  Coefficients k;
  for (int j = 0; j < B; ++j) {
    const int c = block * B + j;
    const double r = s.inverseDeviation[c], gamma = s.gamma[c];
    const double gradGamma = sumGx[j] * r, k1 = -gamma * r * r * gradGamma / count;
    s.gradBeta[c] = static_cast<float>(sumG[j]);
    s.gradGamma[c] = static_cast<float>(gradGamma);
    k.k0[j] = static_cast<float>(gamma * r);
    k.k1[j] = static_cast<float>(k1);
    k.k2[j] = static_cast<float>(-gamma * r * sumG[j] / count - k1 * s.mean[c]);
  }
  return k;
}

template <class E, Residual R, bool kRelu>
void normBackwardAs(const NormBackward& a) {
  const auto [samples, blocks, hw] = a.extent;
  const double count = static_cast<double>(samples) * hw;
#pragma omp parallel for schedule(dynamic, 1)
  for (int block = 0; block < blocks; ++block) {
    const Vec scale = load(a.norm.scale + block * B), shift = load(a.norm.shift + block * B);
    const Vec mean = load(a.norm.mean + block * B);
    const Vec mean2 = R == Residual::normalized ? load(a.norm2.mean + block * B) : Vec{};
    const auto gradient = [&](const E* ga, const E* gb, const E* x, const E* y, size_t i) {
      Vec g = load(ga + i);
      if (gb) g += load(gb + i);
      if (!kRelu) return g;
      const Vec out = R == Residual::none ? scale * load(x + i) + shift : load(y + i);
      return out > 0 ? g : Vec{};
    };
    Wide sumG{}, sumGx{}, sumGx2{};
    for (int n = 0; n < samples; ++n) {
      const size_t at = (static_cast<size_t>(n) * blocks + block) * hw * B;
      E* ga = static_cast<E*>(a.gradA) + at;
      const E* gb = a.gradB ? static_cast<const E*>(a.gradB) + at : nullptr;
      const E *x = static_cast<const E*>(a.x) + at, *y = static_cast<const E*>(a.y) + at;
      const E* x2 = static_cast<const E*>(a.residual) + at;
      Vec g1{}, gx{}, gx2{};
      for (size_t i = 0; i < hw * B; i += B) {
        const Vec g = gradient(ga, gb, x, y, i);
        if (R != Residual::none) store(ga + i, g);
        g1 += g, gx += g * (load(x + i) - mean);
        if (R == Residual::normalized) gx2 += g * (load(x2 + i) - mean2);
      }
      sumG += __builtin_convertvector(g1, Wide);
      sumGx += __builtin_convertvector(gx, Wide);
      sumGx2 += __builtin_convertvector(gx2, Wide);
    }
    const Coefficients k = coefficients(a.norm, block, count, sumG, sumGx);
    Coefficients k2{};
    if (R == Residual::normalized) k2 = coefficients(a.norm2, block, count, sumG, sumGx2);
    for (int n = 0; n < samples; ++n) {
      const size_t at = (static_cast<size_t>(n) * blocks + block) * hw * B;
      const E* ga = static_cast<const E*>(a.gradA) + at;
      const E* gb = a.gradB && R == Residual::none ? static_cast<const E*>(a.gradB) + at : nullptr;
      const E *x = static_cast<const E*>(a.x) + at, *x2 = static_cast<const E*>(a.residual) + at;
      E *dx = static_cast<E*>(a.dx) + at, *dx2 = static_cast<E*>(a.dx2) + at;
      for (size_t i = 0; i < hw * B; i += B) {
        const Vec g = R == Residual::none ? gradient(ga, gb, x, nullptr, i) : load(ga + i);
        store(dx + i, k.k0 * g + (k.k1 * load(x + i) + k.k2));
        if (R == Residual::normalized) store(dx2 + i, k2.k0 * g + (k2.k1 * load(x2 + i) + k2.k2));
      }
    }
  }
}

template <class E>
void normBackward(const NormBackward& a) {
  const auto pick = [&]<Residual R>() { return a.relu ? normBackwardAs<E, R, true> : normBackwardAs<E, R, false>; };
  (a.kind == Residual::none     ? pick.template operator()<Residual::none>()
   : a.kind == Residual::tensor ? pick.template operator()<Residual::tensor>()
                                : pick.template operator()<Residual::normalized>())(a);
}

/** Elementwise over blocked tensors (count is a multiple of B). */
template <class F>
void forVectors(size_t count, const F& body) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < static_cast<int64_t>(count / B); ++i) body(static_cast<size_t>(i) * B);
}

template <class E>
void reluForward(const void* x, void* y, size_t count) {
  forVectors(count, [&](size_t i) { store(static_cast<E*>(y) + i, relu(load(static_cast<const E*>(x) + i))); });
}
template <class E>
void reluBackward(const void* y, void* grad, size_t count) {
  forVectors(count, [&](size_t i) {
    E* g = static_cast<E*>(grad) + i;
    store(g, load(static_cast<const E*>(y) + i) > 0 ? load(g) : Vec{});
  });
}
template <class E>
void addTensors(const void* a, const void* b, void* y, size_t count) {
  forVectors(count, [&](size_t i) {
    store(static_cast<E*>(y) + i, load(static_cast<const E*>(a) + i) + load(static_cast<const E*>(b) + i));
  });
}

template <class E>
void averageForward(const void* x, Extent e, int channels, float* y) {
#pragma omp parallel for collapse(2)
  for (int n = 0; n < e.n; ++n) {
    for (int block = 0; block < e.blocks; ++block) {
      const E* p = static_cast<const E*>(x) + (static_cast<size_t>(n) * e.blocks + block) * e.hw * B;
      Vec sum{};
      for (size_t i = 0; i < e.hw; ++i) sum += load(p + i * B);
      sum *= splat(1.0f / static_cast<float>(e.hw));
      for (int j = 0; j < std::min(B, channels - block * B); ++j)
        y[static_cast<size_t>(n) * channels + block * B + j] = sum[j];
    }
  }
}
template <class E>
void averageBackward(const float* dy, Extent e, int channels, void* dx) {
#pragma omp parallel for collapse(2)
  for (int n = 0; n < e.n; ++n) {
    for (int block = 0; block < e.blocks; ++block) {
      Vec g{};
      for (int j = 0; j < std::min(B, channels - block * B); ++j)
        g[j] = dy[static_cast<size_t>(n) * channels + block * B + j];
      g *= splat(1.0f / static_cast<float>(e.hw));
      E* p = static_cast<E*>(dx) + (static_cast<size_t>(n) * e.blocks + block) * e.hw * B;
      for (size_t i = 0; i < e.hw; ++i) store(p + i * B, g);
    }
  }
}

void adam(const AdamArgs& a) {
  const float rate = a.learningRate / a.correction1, root = 1 / std::sqrt(a.correction2);
#pragma omp parallel for simd schedule(static)
  for (size_t i = 0; i < a.count; ++i) {
    const float g = a.grad[i] + a.weightDecay * a.value[i];
    const float m = a.first[i] = a.beta1 * a.first[i] + a.fresh1 * g;
    const float v = a.second[i] = a.beta2 * a.second[i] + a.fresh2 * g * g;
    a.value[i] -= rate * m / (std::sqrt(v) * root + a.epsilon);
  }
}

// ---- InfoNCE, ComFace eq. (1): tiles of kTile columns, nothing of size rows x rows ----

constexpr int kTile = 64;

/** Columns [first, first + kTile) of z transposed, width x kTile, zeros beyond the end. */
void transposeTile(const InfoNceArgs& a, int first, float* tile) {
  const int columns = std::min(kTile, a.rows - first);
  for (int d = 0; d < a.width; ++d) {
    for (int c = 0; c < kTile; ++c)
      tile[d * kTile + c] = c < columns ? a.z[static_cast<size_t>(first + c) * a.width + d] : 0.0f;
  }
}

/** s[c] = z_row . z_(first + c) / temperature. */
inline void similarities(const InfoNceArgs& a, int row, const float* tile, float* s) {
  float sum[kTile] = {};
  const float* z = a.z + static_cast<size_t>(row) * a.width;
  for (int d = 0; d < a.width; ++d) {
    const float v = z[d];
    for (int c = 0; c < kTile; ++c) sum[c] += v * tile[d * kTile + c];
  }
  const float inverse = 1 / a.temperature;
  for (int c = 0; c < kTile; ++c) s[c] = sum[c] * inverse;
}

/** Floats for so many threads: what InfoNceThread lays out, its doubles counted twice. */
size_t infoNceScratch(int width, int threads) { return static_cast<size_t>(width) * (kTile + 2 + 2 * kTile) * threads; }

/** What one thread writes to: a transposed tile, a row's part of a gradient, and the gradients of kTile rows. */
struct InfoNceThread {
  float *tile, *part;
  double* sums;
  InfoNceThread(const InfoNceArgs& a)
      : tile(a.scratch + omp_get_thread_num() * infoNceScratch(a.width, 1)),
        part(tile + static_cast<size_t>(a.width) * kTile),
        sums(reinterpret_cast<double*>(part + 2 * static_cast<size_t>(a.width))) {}
};

/** Halves added to halves: few roundings, and a vector at a time. */
inline float treeSum(float* s) {
  for (int half = kTile / 2; half > 0; half /= 2) {
    for (int c = 0; c < half; ++c) s[c] += s[c + half];
  }
  return s[0];
}

/**
 * part = sum over c of w[c] z_(first + c), w being 0 beyond the end. Thousands of equal terms added one by one to a
 * float drift away by as many roundings, so they meet eight at a time here and the caller adds parts up in double.
 */
inline void weightedRows(const InfoNceArgs& a, int first, const float* w, float* part) {
  std::fill_n(part, a.width, 0.0f);
  const int columns = std::min(kTile, a.rows - first);
  for (int c = 0; c < columns; c += 8) {
    const float* z[8];
    for (int i = 0; i < 8; ++i) z[i] = a.z + static_cast<size_t>(first + std::min(c + i, columns - 1)) * a.width;
    const float* v = w + c;
    for (int d = 0; d < a.width; ++d) {
      part[d] += ((v[0] * z[0][d] + v[1] * z[1][d]) + (v[2] * z[2][d] + v[3] * z[3][d])) +
                 ((v[4] * z[4][d] + v[5] * z[5][d]) + (v[6] * z[6][d] + v[7] * z[7][d]));
    }
  }
}

/** By a running maximum, so that z need not be normalized: highest s_jk and 1 / sum over k of exp(s_jk - highest), k !=
 * j. */
double infoNceForward(const InfoNceArgs& a) {
  const int half = a.rows / 2, tiles = (a.rows + kTile - 1) / kTile;
#pragma omp parallel for schedule(static)
  for (int group = 0; group < tiles; ++group) {
    float* tile = InfoNceThread(a).tile;
    const int first = group * kTile, count = std::min(kTile, a.rows - first);
    float high[kTile], s[kTile];
    double total[kTile] = {};
    std::fill_n(high, kTile, -INFINITY);
    for (int t = 0; t < tiles; ++t) {
      transposeTile(a, t * kTile, tile);
      const int columns = std::min(kTile, a.rows - t * kTile);
      for (int r = 0; r < count; ++r) {
        similarities(a, first + r, tile, s);
        const int self = first + r - t * kTile;
        if (self >= 0 && self < kTile) s[self] = -INFINITY;
        std::fill(s + columns, s + kTile, -INFINITY);
        const float top = std::max(high[r], *std::max_element(s, s + kTile));
        if (top == -INFINITY) continue;
        for (int c = 0; c < kTile; ++c) s[c] = exponential(s[c] - top);
        total[r] = total[r] * exponential(high[r] - top) + treeSum(s);
        high[r] = top;
      }
    }
    for (int r = 0; r < count; ++r) {
      a.highest[first + r] = high[r];
      a.inverse[first + r] = static_cast<float>(1 / total[r]);
    }
  }
  double loss = 0;
  for (int j = 0; j < a.rows; ++j) {
    const float* z = a.z + static_cast<size_t>(j) * a.width;
    const float* p = a.z + static_cast<size_t>((j + half) % a.rows) * a.width;
    double dot = 0;
    for (int d = 0; d < a.width; ++d) dot += static_cast<double>(z[d]) * p[d];
    loss += a.highest[j] - std::log(static_cast<double>(a.inverse[j])) - dot / a.temperature;
  }
  return loss / a.rows;
}

/** dL/dz_j = weight / (rows * temperature) * (sum_k (p_jk + p_kj) z_k - 2 z_pos(j)), p_jk = exp(s_jk - highest_j)
 * inverse_j; s is recomputed. */
void infoNceBackward(const InfoNceArgs& a) {
  const int half = a.rows / 2, tiles = (a.rows + kTile - 1) / kTile;
  const double factor = a.weight / (static_cast<double>(a.rows) * a.temperature);
#pragma omp parallel for schedule(static)
  for (int group = 0; group < tiles; ++group) {
    const InfoNceThread own(a);
    const int first = group * kTile, count = std::min(kTile, a.rows - first);
    std::fill_n(own.sums, static_cast<size_t>(count) * a.width, 0.0);
    for (int t = 0; t < tiles; ++t) {
      const int base = t * kTile, columns = std::min(kTile, a.rows - base);
      transposeTile(a, base, own.tile);
      float high[kTile] = {}, inverse[kTile] = {};
      std::copy_n(a.highest + base, columns, high), std::copy_n(a.inverse + base, columns, inverse);
      for (int r = 0; r < count; ++r) {
        const int row = first + r, self = row - base, positive = (row + half) % a.rows - base;
        float s[kTile];
        similarities(a, row, own.tile, s);
        const float rowHigh = a.highest[row], rowInverse = a.inverse[row];
        for (int c = 0; c < kTile; ++c)
          s[c] = exponential(s[c] - rowHigh) * rowInverse + exponential(s[c] - high[c]) * inverse[c];
        std::fill(s + columns, s + kTile, 0.0f);
        if (self >= 0 && self < kTile) s[self] = 0;
        if (positive >= 0 && positive < kTile) s[positive] -= 2;
        weightedRows(a, base, s, own.part);
        double* sum = own.sums + static_cast<size_t>(r) * a.width;
        for (int d = 0; d < a.width; ++d) sum[d] += own.part[d];
      }
    }
    float* dz = a.dz + static_cast<size_t>(first) * a.width;
    for (size_t i = 0; i < static_cast<size_t>(count) * a.width; ++i) dz[i] += static_cast<float>(factor * own.sums[i]);
  }
}

}  // namespace

extern const Kernels table;
const Kernels table = {
    COMFACE_ISA_NAME,
    B,
    {normForward<float>, normForward<Bf16>},
    {normBackward<float>, normBackward<Bf16>},
    {reluForward<float>, reluForward<Bf16>},
    {reluBackward<float>, reluBackward<Bf16>},
    {addTensors<float>, addTensors<Bf16>},
    {averageForward<float>, averageForward<Bf16>},
    {averageBackward<float>, averageBackward<Bf16>},
    adam,
    infoNceForward,
    infoNceBackward,
    infoNceScratch,
};

}  // namespace comface::cpu::COMFACE_ISA
