// Multi-head self-attention (Vaswani et al., 2017, section 3.2) between its two linear layers. One row of scores exists
// at a time: backward computes it again from its largest score and its sum (Dao et al., 2022, section 3.1).
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops.h"

namespace comface::reference {
namespace {

/** One head of one sample: channel j of its query, key, value, result starts at q, k, v, y + j * tokens. */
struct Head {
  size_t q, k, v, y, row;  // row: of its first query in a list of N x heads x tokens
};

template <typename Visit>
void forEachHead(const Layer& layer, const Shape& in, Visit visit) {
  const int heads = layer.heads, channels = layer.shape.c, size = channels / heads, tokens = in.h * in.w;
  for (int n = 0; n < in.n; ++n) {
    for (int head = 0; head < heads; ++head) {
      const int c = head * size;
      visit(Head{plane(in, n, c), plane(in, n, channels + c), plane(in, n, 2 * channels + c), plane(layer.shape, n, c),
                 (static_cast<size_t>(n) * heads + head) * tokens});
    }
  }
}

/** score[t] = q[i] . k[t] / sqrt(size), for all t. */
template <typename T>
void scoresOf(const Node<T>& node, const Head& head, int i, int size, int tokens, std::vector<T>& score) {
  const T scale = 1 / std::sqrt(static_cast<T>(size));
  for (int t = 0; t < tokens; ++t) {
    T sum = 0;
    for (int j = 0; j < size; ++j) sum += node.x[head.q + j * tokens + i] * node.x[head.k + j * tokens + t];
    score[t] = sum * scale;
  }
}

}  // namespace

/**
 * y[i] = sum over t of p[i,t] v[t], p[i,t] = exp(s[i,t] - highest[i]) / sum over u of exp(s[i,u] - highest[i]).
 * x: N 3C H W, y: N C H W. saved: highest, then 1 / sum (N x heads x tokens each).
 */
template <typename T>
void Attention<T>::forward(const Node<T>& node) {
  const int tokens = node.in.h * node.in.w, size = node.layer->shape.c / node.layer->heads;
  T *highest = node.saved, *inverse = node.saved + static_cast<size_t>(node.in.n) * node.layer->heads * tokens;
  std::vector<T> p(tokens);
  forEachHead(*node.layer, node.in, [&](const Head& head) {
    for (int i = 0; i < tokens; ++i) {
      scoresOf(node, head, i, size, tokens, p);
      T most = -std::numeric_limits<T>::infinity(), sum = 0;
      for (const T score : p) most = std::max(most, score);
      for (T& score : p) sum += score = std::exp(score - most);
      highest[head.row + i] = most, inverse[head.row + i] = 1 / sum;
      for (int j = 0; j < size; ++j) {
        T y = 0;
        for (int t = 0; t < tokens; ++t) y += p[t] * node.x[head.v + j * tokens + t];
        node.y[head.y + j * tokens + i] = y / sum;
      }
    }
  });
}

/**
 * dv[t] += p[i,t] dy[i]; dp[i,t] = dy[i] . v[t]; ds[i,t] = p[i,t] (dp[i,t] - sum over u of p[i,u] dp[i,u]);
 * dq[i] += sum over t of ds[i,t] k[t] / sqrt(size); dk[t] += ds[i,t] q[i] / sqrt(size).
 */
template <typename T>
void Attention<T>::backward(const Node<T>& node) {
  const int tokens = node.in.h * node.in.w, size = node.layer->shape.c / node.layer->heads;
  const T scale = 1 / std::sqrt(static_cast<T>(size));
  const T *highest = node.saved, *inverse = node.saved + static_cast<size_t>(node.in.n) * node.layer->heads * tokens;
  std::vector<T> p(tokens), ds(tokens);
  forEachHead(*node.layer, node.in, [&](const Head& head) {
    for (int i = 0; i < tokens; ++i) {
      scoresOf(node, head, i, size, tokens, p);
      T along = 0;
      for (int t = 0; t < tokens; ++t) {
        p[t] = std::exp(p[t] - highest[head.row + i]) * inverse[head.row + i];
        T dp = 0;
        for (int j = 0; j < size; ++j) dp += node.dy[head.y + j * tokens + i] * node.x[head.v + j * tokens + t];
        ds[t] = dp;
        along += p[t] * dp;
      }
      for (int t = 0; t < tokens; ++t) ds[t] = p[t] * (ds[t] - along) * scale;
      for (int j = 0; j < size; ++j) {
        const size_t channel = static_cast<size_t>(j) * tokens;
        const T dy = node.dy[head.y + channel + i], q = node.x[head.q + channel + i];
        T dq = 0;
        for (int t = 0; t < tokens; ++t) {
          dq += ds[t] * node.x[head.k + channel + t];
          node.dx[head.k + channel + t] += ds[t] * q;
          node.dx[head.v + channel + t] += p[t] * dy;
        }
        node.dx[head.q + channel + i] += dq;
      }
    }
  });
}

template struct Attention<float>;
template struct Attention<double>;

}  // namespace comface::reference
