// Efficient attention (Shen et al., 2021, section 3) for one instruction set; compiled as kernels.cc is. A thread owns
// whole heads and goes over their positions a block at a time, three times: no array grows with the positions.
#include <omp.h>

#include "cpu/heads.h"
#include "cpu/transformer.h"

namespace comface::cpu::COMFACE_ISA {
namespace {

constexpr int kPositions = 128;

/** Of one head, in rows of whole vectors. */
struct HeadMemory {
  int size, wide;
  // Kept for backward. Of the softmax of each channel of the key, and size (of the key) x size (of the value).
  float *highest, *inverse, *context;
  float *a, *b, *rows;                  // kPositions x size
  float *turned, *slope, *turnedSlope;  // backward: the context transposed, its gradient, that transposed

  HeadMemory(int size, float* saved, float* scratch) : size(size), wide(roundUp(size)) {
    highest = saved, inverse = saved + wide, context = inverse + wide;
    const size_t block = static_cast<size_t>(kPositions) * wide, square = static_cast<size_t>(size) * wide;
    a = scratch, b = a + block, rows = b + block;
    turned = rows + block, slope = turned + square, turnedSlope = slope + square;
  }
};

size_t savedCount(int size) { return (size_t{2} + size) * roundUp(size); }
size_t scratchCount(int size) { return size_t{3} * (kPositions + size) * roundUp(size); }

/** Runs body(n, head, memory) for every head, each on one thread. */
template <class Body>
void forHeads(const EfficientArgs& a, const Body& body) {
  const int size = a.channels / a.heads;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < static_cast<int64_t>(a.in.n) * a.heads; ++i) {
    const HeadMemory memory(size, a.saved + i * savedCount(size),
                            a.scratch + omp_get_thread_num() * scratchCount(size));
    body(static_cast<int>(i / a.heads), static_cast<int>(i % a.heads), memory);
  }
}

/** Runs body(first, count) for every block of positions. */
template <class Body>
void forPositions(const Extent& e, const Body& body) {
  const int all = static_cast<int>(e.hw);
  for (int first = 0; first < all; first += kPositions) body(first, std::min(kPositions, all - first));
}

/** Each row becomes its softmax over the head's channels. */
void softmaxRows(float* rows, int count, const HeadMemory& m) {
  for (float* row = rows; row < rows + static_cast<size_t>(count) * m.wide; row += m.wide) {
    std::fill(row + m.size, row + m.wide, -std::numeric_limits<float>::infinity());
    const float most = mostOf(row, m.wide);
    for (int j = 0; j < m.wide; ++j) row[j] = exponential(row[j] - most);
    Vec sum{};
    for (int j = 0; j < m.wide; j += B) sum += load(row + j);
    const float inverse = 1 / sumOf(sum);
    for (int j = 0; j < m.wide; ++j) row[j] *= inverse;
  }
}

/** x = exp(x - highest) for each channel of the key. */
void exponentials(float* rows, int count, const HeadMemory& m) {
  for (float* row = rows; row < rows + static_cast<size_t>(count) * m.wide; row += m.wide) {
    for (int j = 0; j < m.wide; ++j) row[j] = exponential(row[j] - m.highest[j]);
  }
}

/** slopes = y (slopes - sum of y slopes) for each row: the gradient of its softmax y. */
void softmaxRowSlopes(const float* y, float* slopes, int count, const HeadMemory& m) {
  for (size_t at = 0; at < static_cast<size_t>(count) * m.wide; at += m.wide) {
    Vec products{};
    for (int j = 0; j < m.wide; j += B) products += load(y + at + j) * load(slopes + at + j);
    const float along = sumOf(products);
    for (int j = 0; j < m.wide; ++j) slopes[at + j] = y[at + j] * (slopes[at + j] - along);
  }
}

/** to = from transposed: size x size in rows of whole vectors, zeros at their ends. */
void transpose(const float* from, const HeadMemory& m, float* to) {
  std::fill_n(to, static_cast<size_t>(m.size) * m.wide, 0.0f);
  for (int i = 0; i < m.size; ++i) {
    for (int j = 0; j < m.size; ++j)
      to[static_cast<size_t>(j) * m.wide + i] = from[static_cast<size_t>(i) * m.wide + j];
  }
}

/** The largest key of each channel, then the context, whose rows are divided by the keys' sums at the end. */
template <class E>
void contextOf(const EfficientArgs& a, int n, int first, const HeadMemory& m) {
  std::fill_n(m.highest, m.wide, -std::numeric_limits<float>::infinity());
  std::fill_n(m.inverse, m.wide, 0.0f);
  std::fill_n(m.context, static_cast<size_t>(m.size) * m.wide, 0.0f);
  forPositions(a.in, [&](int at, int count) {
    gather<E>(a.x, a.in, {n, a.channels + first, m.size, at, count}, m.a);
    for (int t = 0; t < count; ++t) {
      const float* key = m.a + static_cast<size_t>(t) * m.wide;
      for (int j = 0; j < m.wide; ++j) m.highest[j] = key[j] > m.highest[j] ? key[j] : m.highest[j];
    }
  });
  forPositions(a.in, [&](int at, int count) {
    gather<E>(a.x, a.in, {n, a.channels + first, m.size, at, count}, m.a);
    gather<E>(a.x, a.in, {n, 2 * a.channels + first, m.size, at, count}, m.b);
    exponentials(m.a, count, m);
    for (int t = 0; t < count; ++t) {
      const float* key = m.a + static_cast<size_t>(t) * m.wide;
      for (int j = 0; j < m.wide; ++j) m.inverse[j] += key[j];
    }
    multiply(m.size, m.wide, count, {m.a, 1, m.wide}, m.b, m.wide, m.context, m.wide, true);
  });
  for (int j = 0; j < m.wide; ++j) m.inverse[j] = 1 / m.inverse[j];
  for (int i = 0; i < m.size; ++i) {
    float* row = m.context + static_cast<size_t>(i) * m.wide;
    for (int j = 0; j < m.wide; ++j) row[j] *= m.inverse[i];
  }
}

template <class E>
void forward(const EfficientArgs& a) {
  const Extent out = resultExtent(a);
  forHeads(a, [&](int n, int head, const HeadMemory& m) {
    const int first = head * m.size;
    contextOf<E>(a, n, first, m);
    forPositions(a.in, [&](int at, int count) {
      const Part query = {n, first, m.size, at, count};
      gather<E>(a.x, a.in, query, m.a);
      softmaxRows(m.a, count, m);
      multiply(count, m.wide, m.size, {m.a, m.wide, 1}, m.context, m.wide, m.rows, m.wide);
      scatter<E>(m.rows, a.y, out, query, a.channels);
    });
  });
}

/** The query's gradient, and that of the context. */
template <class E>
void queryBackward(const EfficientArgs& a, int n, int first, const HeadMemory& m) {
  const Extent out = resultExtent(a);
  transpose(m.context, m, m.turned);
  std::fill_n(m.slope, static_cast<size_t>(m.size) * m.wide, 0.0f);
  forPositions(a.in, [&](int at, int count) {
    const Part query = {n, first, m.size, at, count};
    gather<E>(a.x, a.in, query, m.a);
    gather<E>(a.dy, out, query, m.b);
    softmaxRows(m.a, count, m);
    multiply(m.size, m.wide, count, {m.a, 1, m.wide}, m.b, m.wide, m.slope, m.wide, true);
    multiply(count, m.wide, m.size, {m.b, m.wide, 1}, m.turned, m.wide, m.rows, m.wide);
    softmaxRowSlopes(m.a, m.rows, count, m);
    scatter<E>(m.rows, a.dx, a.in, query, 3 * a.channels);
  });
}

/** The gradients of key and value, from that of the context. */
template <class E>
void keyBackward(const EfficientArgs& a, int n, int first, const HeadMemory& m) {
  transpose(m.slope, m, m.turnedSlope);
  // A softmax's gradient wants the sum over all positions of key times gradient: it is that of a row of the context.
  float* along = m.turned;
  std::fill_n(along, m.wide, 0.0f);
  for (int i = 0; i < m.size; ++i) {
    const size_t row = static_cast<size_t>(i) * m.wide;
    for (int j = 0; j < m.size; ++j) along[i] += m.slope[row + j] * m.context[row + j];
  }
  forPositions(a.in, [&](int at, int count) {
    const Part key = {n, a.channels + first, m.size, at, count};
    const Part value = {n, 2 * a.channels + first, m.size, at, count};
    gather<E>(a.x, a.in, key, m.a);
    gather<E>(a.x, a.in, value, m.b);
    exponentials(m.a, count, m);
    for (int t = 0; t < count; ++t) {
      float* row = m.a + static_cast<size_t>(t) * m.wide;
      for (int j = 0; j < m.wide; ++j) row[j] *= m.inverse[j];
    }
    multiply(count, m.wide, m.size, {m.a, m.wide, 1}, m.slope, m.wide, m.rows, m.wide);
    scatter<E>(m.rows, a.dx, a.in, value, 3 * a.channels);
    multiply(count, m.wide, m.size, {m.b, m.wide, 1}, m.turnedSlope, m.wide, m.rows, m.wide);
    for (int t = 0; t < count; ++t) {
      const size_t row = static_cast<size_t>(t) * m.wide;
      for (int j = 0; j < m.wide; ++j) m.rows[row + j] = m.a[row + j] * (m.rows[row + j] - along[j]);
    }
    scatter<E>(m.rows, a.dx, a.in, key, 3 * a.channels);
  });
}

template <class E>
void backward(const EfficientArgs& a) {
  forHeads(a, [&](int n, int head, const HeadMemory& m) {
    queryBackward<E>(a, n, head * m.size, m);
    keyBackward<E>(a, n, head * m.size, m);
  });
}

}  // namespace

extern const EfficientAttention efficientAttention;
const EfficientAttention efficientAttention = {
    {forward<float>, forward<Bf16>},
    {backward<float>, backward<Bf16>},
    savedCount,
    scratchCount,
};

}  // namespace comface::cpu::COMFACE_ISA
