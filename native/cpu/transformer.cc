// Tokens, layer normalization and attention for one instruction set; compiled as kernels.cc is. A thread always owns
// whole positions, channel blocks or heads, so sums never depend on timing. Attention is here and not oneDNN's matmul:
// a head's few rows fit a core's cache, where one pass makes scores, softmax and results without a matrix in memory.
#include "cpu/transformer.h"

#include <omp.h>

#include <limits>

#include "cpu/heads.h"

namespace comface::cpu::COMFACE_ISA {
namespace {

/** Channels of a block that are no padding. */
inline int lanesOf(int channels, int block) { return std::min(B, channels - block * B); }

/** The first `lanes` of B floats, zeros after them. */
inline Vec loadLanes(const float* p, int lanes) {
  if (lanes == B) return load(p);
  Vec v{};
  for (int j = 0; j < lanes; ++j) v[j] = p[j];
  return v;
}
inline void storeLanes(float* p, Vec v, int lanes) {
  if (lanes == B) return store(p, v);
  for (int j = 0; j < lanes; ++j) p[j] = v[j];
}
/** 1 in the first `lanes`, 0 in the padding. */
inline Vec maskOf(int lanes) {
  Vec v{};
  for (int j = 0; j < lanes; ++j) v[j] = 1;
  return v;
}
inline Wide widen(Vec v) { return __builtin_convertvector(v, Wide); }

// ---- tokens ----

Extent tokensExtent(const TokensArgs& a) { return {a.in.n, a.in.blocks, a.in.hw + (a.classToken ? 1 : 0)}; }

template <class E>
void tokensForward(const TokensArgs& a) {
  const Extent out = tokensExtent(a);
  const size_t first = out.hw - a.in.hw;
#pragma omp parallel for collapse(2)
  for (int n = 0; n < a.in.n; ++n) {
    for (int block = 0; block < a.in.blocks; ++block) {
      const int lanes = lanesOf(a.channels, block);
      const E* x = blockOf<E>(static_cast<const void*>(a.x), a.in, n, block);
      E* y = blockOf<E>(a.y, out, n, block);
      for (size_t t = 0; t < out.hw; ++t) {
        Vec v = t < first ? loadLanes(a.classToken + block * B, lanes) : load(x + (t - first) * B);
        if (a.positions) v += loadLanes(a.positions + t * a.channels + block * B, lanes);
        store(y + t * B, v);
      }
    }
  }
}

template <class E>
void tokensBackward(const TokensArgs& a) {
  const Extent out = tokensExtent(a);
  const size_t first = out.hw - a.in.hw;
#pragma omp parallel for
  for (int block = 0; block < a.in.blocks; ++block) {
    const int lanes = lanesOf(a.channels, block);
    for (size_t t = 0; t < out.hw; ++t) {
      Wide sum{};
      for (int n = 0; n < a.in.n; ++n) {
        const Vec g = load(blockOf<E>(static_cast<const void*>(a.y), out, n, block) + t * B);
        sum += widen(g);
        if (a.x && t >= first) store(blockOf<E>(a.x, a.in, n, block) + (t - first) * B, g);
      }
      const Vec total = __builtin_convertvector(sum, Vec);
      if (t < first) storeLanes(a.gradClassToken + block * B, total, lanes);
      if (a.positions) storeLanes(a.gradPositions + t * a.channels + block * B, total, lanes);
    }
  }
}

template <class E>
void tokenForward(const void* x, Extent e, int channels, int position, float* y) {
  for (int n = 0; n < e.n; ++n) {
    for (int block = 0; block < e.blocks; ++block) {
      const Vec v = load(blockOf<E>(x, e, n, block) + static_cast<size_t>(position) * B);
      storeLanes(y + static_cast<size_t>(n) * channels + block * B, v, lanesOf(channels, block));
    }
  }
}

template <class E>
void tokenBackward(const float* dy, Extent e, int channels, int position, void* dx) {
#pragma omp parallel for collapse(2)
  for (int n = 0; n < e.n; ++n) {
    for (int block = 0; block < e.blocks; ++block) {
      E* p = blockOf<E>(dx, e, n, block);
      std::fill_n(p, e.hw * B, E(0));
      const float* g = dy + static_cast<size_t>(n) * channels + block * B;
      store(p + static_cast<size_t>(position) * B, loadLanes(g, lanesOf(channels, block)));
    }
  }
}

// ---- layer normalization ----

template <class E>
void layerNormForward(const LayerNormArgs& a) {
  const auto [samples, blocks, hw] = a.extent;
  const size_t stride = hw * B;  // from a block to the next
  const float count = static_cast<float>(a.channels);
  const Vec mask = maskOf(lanesOf(a.channels, blocks - 1));
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < static_cast<int64_t>(samples * hw); ++row) {
    const size_t n = row / hw, at = (n * blocks * hw + row % hw) * B;
    const E* x = static_cast<const E*>(a.x) + at;
    E* y = static_cast<E*>(a.y) + at;
    Vec sum{}, squares{};
    for (int b = 0; b < blocks; ++b) sum += load(x + b * stride);  // padding is 0
    const float mean = sumOf(sum) / count;
    for (int b = 0; b < blocks; ++b) {
      const Vec v = load(x + b * stride) - mean;
      squares += b + 1 < blocks ? v * v : v * v * mask;
    }
    const float inverse = 1 / std::sqrt(sumOf(squares) / count + a.eps);
    for (int b = 0; b < blocks; ++b) {
      store(y + b * stride, load(a.gamma + b * B) * ((load(x + b * stride) - mean) * inverse) + load(a.beta + b * B));
    }
    if (a.mean) a.mean[row] = mean, a.inverseDeviation[row] = inverse;
  }
}

/** Gradients of gamma and beta first: dx takes the place of dy. */
template <class E>
void layerNormParameters(const LayerNormArgs& a) {
  const auto [samples, blocks, hw] = a.extent;
#pragma omp parallel for
  for (int block = 0; block < blocks; ++block) {
    Wide gamma{}, beta{};
    for (int n = 0; n < samples; ++n) {
      const E *x = blockOf<E>(a.x, a.extent, n, block),
              *g = blockOf<E>(static_cast<const void*>(a.gradient), a.extent, n, block);
      const float *mean = a.mean + n * hw, *inverse = a.inverseDeviation + n * hw;
      Vec ofGamma{}, ofBeta{};
      for (size_t p = 0; p < hw; ++p) {
        const Vec dy = load(g + p * B);
        ofBeta += dy, ofGamma += dy * ((load(x + p * B) - mean[p]) * inverse[p]);
      }
      gamma += widen(ofGamma), beta += widen(ofBeta);
    }
    store(a.gradGamma + block * B, __builtin_convertvector(gamma, Vec));
    store(a.gradBeta + block * B, __builtin_convertvector(beta, Vec));
  }
}

template <class E>
void layerNormBackward(const LayerNormArgs& a) {
  layerNormParameters<E>(a);
  const auto [samples, blocks, hw] = a.extent;
  const size_t stride = hw * B;
  const float count = static_cast<float>(a.channels);
  const Vec mask = maskOf(lanesOf(a.channels, blocks - 1));
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < static_cast<int64_t>(samples * hw); ++row) {
    const size_t n = row / hw, at = (n * blocks * hw + row % hw) * B;
    const E* x = static_cast<const E*>(a.x) + at;
    E* g = static_cast<E*>(a.gradient) + at;
    const float mean = a.mean[row], inverse = a.inverseDeviation[row];
    Vec sum{}, product{};
    for (int b = 0; b < blocks; ++b) {
      const Vec slope = load(g + b * stride) * load(a.gamma + b * B);
      sum += slope, product += slope * ((load(x + b * stride) - mean) * inverse);
    }
    const float meanSlope = sumOf(sum) / count, meanProduct = sumOf(product) / count;
    for (int b = 0; b < blocks; ++b) {
      const Vec slope = load(g + b * stride) * load(a.gamma + b * B);
      const Vec normalized = (load(x + b * stride) - mean) * inverse;
      const Vec dx = inverse * (slope - meanSlope - normalized * meanProduct);
      store(g + b * stride, b + 1 < blocks ? dx : dx * mask);
    }
  }
}

// ---- attention: Vaswani et al., 2017, section 3.2; scores of a block of queries at a time, made again in backward
// ----

constexpr int kQueries = 32;

/** What a thread works on: tokens x size, or size x tokens where transposed, with rows of whole vectors. */
struct HeadMemory {
  int tokens, size, wide, length;  // wide, length: size and tokens in whole vectors
  float *q, *k, *v, *dy, *kTransposed, *vTransposed, *dk, *dv, *scores, *slopes, *rows;

  HeadMemory(int tokens, int size, float* memory)
      : tokens(tokens), size(size), wide(roundUp(size)), length(roundUp(tokens)) {
    const auto take = [&](size_t count) {
      float* at = memory;
      memory += count;
      return at;
    };
    const size_t all = static_cast<size_t>(length) * wide;
    for (float** matrix : {&q, &k, &v, &dy, &kTransposed, &vTransposed, &dk, &dv}) *matrix = take(all);
    scores = take(static_cast<size_t>(kQueries) * length), slopes = take(static_cast<size_t>(kQueries) * length);
    rows = take(static_cast<size_t>(kQueries) * wide);
  }
  Part all(int n, int first) const { return {n, first, size, 0, tokens}; }
};

size_t attentionScratch(int tokens, int size) {
  const size_t wide = roundUp(size), whole = roundUp(tokens);
  return 8 * whole * wide + kQueries * (2 * whole + wide);
}

void transpose(const float* from, const HeadMemory& m, float* to) {
  for (int j = 0; j < m.size; ++j) {
    for (int t = 0; t < m.length; ++t)
      to[static_cast<size_t>(j) * m.length + t] = t < m.tokens ? from[static_cast<size_t>(t) * m.wide + j] : 0.0f;
  }
}

/** Queries [first, first + count) times all keys, over sqrt(size); -infinity after the last token. */
void scoresOf(const HeadMemory& m, int first, int count) {
  const float scale = 1 / std::sqrt(static_cast<float>(m.size));
  const Matrix queries = {m.q + static_cast<size_t>(first) * m.wide, m.wide, 1};
  multiply(count, m.length, m.size, queries, m.kTransposed, m.length, m.scores, m.length);
  for (int i = 0; i < count; ++i) {
    float* row = m.scores + static_cast<size_t>(i) * m.length;
    for (int t = 0; t < m.length; ++t) row[t] *= scale;
    std::fill(row + m.tokens, row + m.length, -std::numeric_limits<float>::infinity());
  }
}

/** Runs body(n, head, memory) for every head, each on one thread. */
template <class Body>
void forHeads(const AttentionArgs& a, const Body& body) {
  const int size = a.channels / a.heads, tokens = static_cast<int>(a.in.hw);
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < static_cast<int64_t>(a.in.n) * a.heads; ++i) {
    const HeadMemory memory(tokens, size, a.scratch + omp_get_thread_num() * attentionScratch(tokens, size));
    body(static_cast<int>(i / a.heads), static_cast<int>(i % a.heads), memory);
  }
}

template <class E>
void attentionForward(const AttentionArgs& a) {
  const Extent out = resultExtent(a);
  forHeads(a, [&](int n, int head, const HeadMemory& m) {
    const int first = head * m.size;
    gather<E>(a.x, a.in, m.all(n, first), m.q);
    gather<E>(a.x, a.in, m.all(n, a.channels + first), m.k);
    gather<E>(a.x, a.in, m.all(n, 2 * a.channels + first), m.v);
    transpose(m.k, m, m.kTransposed);
    const size_t saved = (static_cast<size_t>(n) * a.heads + head) * m.tokens;
    for (int at = 0; at < m.tokens; at += kQueries) {
      const int count = std::min(kQueries, m.tokens - at);
      scoresOf(m, at, count);
      for (int i = 0; i < count; ++i) {
        float* row = m.scores + static_cast<size_t>(i) * m.length;
        const float most = mostOf(row, m.length);
        for (int t = 0; t < m.length; ++t) row[t] = exponential(row[t] - most);
        Vec sum{};
        for (int t = 0; t < m.length; t += B) sum += load(row + t);
        const float inverse = 1 / sumOf(sum);
        for (int t = 0; t < m.length; ++t) row[t] *= inverse;
        a.highest[saved + at + i] = most, a.inverse[saved + at + i] = inverse;
      }
      multiply(count, m.wide, m.tokens, {m.scores, m.length, 1}, m.v, m.wide, m.rows, m.wide);
      scatter<E>(m.rows, a.y, out, {n, first, m.size, at, count}, a.channels);
    }
  });
}

/** In a block of queries: p again, then ds = p (dp - sum of p dp) / sqrt(size) where dp was. */
void slopesOf(const AttentionArgs& a, const HeadMemory& m, size_t saved, int count) {
  const float scale = 1 / std::sqrt(static_cast<float>(m.size));
  for (int i = 0; i < count; ++i) {
    float *p = m.scores + static_cast<size_t>(i) * m.length, *ds = m.slopes + static_cast<size_t>(i) * m.length;
    const float most = a.highest[saved + i], inverse = a.inverse[saved + i];
    for (int t = 0; t < m.length; ++t) p[t] = exponential(p[t] - most) * inverse;
    Vec products{};
    for (int t = 0; t < m.length; t += B) products += load(p + t) * load(ds + t);
    const float along = sumOf(products);
    for (int t = 0; t < m.length; ++t) ds[t] = p[t] * (ds[t] - along) * scale;
  }
}

template <class E>
void attentionBackward(const AttentionArgs& a) {
  const Extent out = resultExtent(a);
  forHeads(a, [&](int n, int head, const HeadMemory& m) {
    const int first = head * m.size, channels = 3 * a.channels;
    gather<E>(a.x, a.in, m.all(n, first), m.q);
    gather<E>(a.x, a.in, m.all(n, a.channels + first), m.k);
    gather<E>(a.x, a.in, m.all(n, 2 * a.channels + first), m.v);
    gather<E>(a.dy, out, m.all(n, first), m.dy);
    transpose(m.k, m, m.kTransposed), transpose(m.v, m, m.vTransposed);
    const size_t whole = static_cast<size_t>(m.tokens) * m.wide;
    std::fill_n(m.dk, whole, 0.0f), std::fill_n(m.dv, whole, 0.0f);
    const size_t saved = (static_cast<size_t>(n) * a.heads + head) * m.tokens;
    for (int at = 0; at < m.tokens; at += kQueries) {
      const int count = std::min(kQueries, m.tokens - at);
      const float *q = m.q + static_cast<size_t>(at) * m.wide, *dy = m.dy + static_cast<size_t>(at) * m.wide;
      scoresOf(m, at, count);
      multiply(count, m.length, m.size, {dy, m.wide, 1}, m.vTransposed, m.length, m.slopes, m.length);
      slopesOf(a, m, saved + at, count);
      multiply(m.tokens, m.wide, count, {m.scores, 1, m.length}, dy, m.wide, m.dv, m.wide, true);
      multiply(m.tokens, m.wide, count, {m.slopes, 1, m.length}, q, m.wide, m.dk, m.wide, true);
      multiply(count, m.wide, m.tokens, {m.slopes, m.length, 1}, m.k, m.wide, m.rows, m.wide);
      scatter<E>(m.rows, a.dx, a.in, {n, first, m.size, at, count}, channels);
    }
    scatter<E>(m.dk, a.dx, a.in, m.all(n, a.channels + first), channels);
    scatter<E>(m.dv, a.dx, a.in, m.all(n, 2 * a.channels + first), channels);
  });
}

}  // namespace

extern const Transformer transformer;
const Transformer transformer = {
    {tokensForward<float>, tokensForward<Bf16>},
    {tokensBackward<float>, tokensBackward<Bf16>},
    {tokenForward<float>, tokenForward<Bf16>},
    {tokenBackward<float>, tokenBackward<Bf16>},
    {layerNormForward<float>, layerNormForward<Bf16>},
    {layerNormBackward<float>, layerNormBackward<Bf16>},
    {attentionForward<float>, attentionForward<Bf16>},
    {attentionBackward<float>, attentionBackward<Bf16>},
    attentionScratch,
};

}  // namespace comface::cpu::COMFACE_ISA
