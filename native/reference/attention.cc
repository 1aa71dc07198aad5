// Multi-head self-attention (Vaswani et al., 2017, section 3.2) between its two linear layers. One row of scores exists
// at a time: backward computes it again from its largest score and its sum (Dao et al., 2022, section 3.1). And
// efficient attention (Shen et al., 2021), which has no scores.
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

namespace {

/** y = exp(x) / sum of exp(x) over `count` numbers, `step` apart in both. */
template <typename T>
void softmax(const T* x, int count, int step, T* y) {
  T most = -std::numeric_limits<T>::infinity(), sum = 0;
  for (int i = 0; i < count; ++i) most = std::max(most, x[static_cast<size_t>(i) * step]);
  for (int i = 0; i < count; ++i) {
    const size_t at = static_cast<size_t>(i) * step;
    sum += y[at] = std::exp(x[at] - most);
  }
  for (int i = 0; i < count; ++i) y[static_cast<size_t>(i) * step] /= sum;
}

/** dx += y (dy - sum of y dy). */
template <typename T>
void softmaxBackward(const T* y, const T* dy, int count, int step, T* dx) {
  T along = 0;
  for (int i = 0; i < count; ++i) along += y[static_cast<size_t>(i) * step] * dy[static_cast<size_t>(i) * step];
  for (int i = 0; i < count; ++i) {
    const size_t at = static_cast<size_t>(i) * step;
    dx[at] += y[at] * (dy[at] - along);
  }
}

/** a[i,j] = sum over p of x[i,p] y[j,p], for i, j < size and p < tokens. */
template <typename T>
std::vector<T> products(const T* x, const T* y, int size, int tokens) {
  std::vector<T> a(static_cast<size_t>(size) * size, T(0));
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) {
      for (int p = 0; p < tokens; ++p)
        a[static_cast<size_t>(i) * size + j] +=
            x[static_cast<size_t>(i) * tokens + p] * y[static_cast<size_t>(j) * tokens + p];
    }
  }
  return a;
}

/** y[i,p] += sum over j of a[i,j] x[j,p], or a[j,i] if it is turned. */
template <typename T>
void addProducts(const std::vector<T>& a, bool isTurned, const T* x, int size, int tokens, T* y) {
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) {
      const T factor = isTurned ? a[static_cast<size_t>(j) * size + i] : a[static_cast<size_t>(i) * size + j];
      for (int p = 0; p < tokens; ++p)
        y[static_cast<size_t>(i) * tokens + p] += factor * x[static_cast<size_t>(j) * tokens + p];
    }
  }
}

/** What one head makes of its input; query and key: size x tokens, context: size x size. */
template <typename T>
struct Context {
  std::vector<T> query, key, context;

  Context(const Node<T>& node, const Head& head, int size, int tokens)
      : query(static_cast<size_t>(size) * tokens), key(query.size()) {
    for (int p = 0; p < tokens; ++p) softmax(node.x + head.q + p, size, tokens, query.data() + p);
    for (int j = 0; j < size; ++j) {
      const size_t channel = static_cast<size_t>(j) * tokens;
      softmax(node.x + head.k + channel, tokens, 1, key.data() + channel);
    }
    context = products(node.x + head.v, key.data(), size, tokens);
  }
};

}  // namespace

/**
 * Shen et al., 2021, section 3, with softmax as both normalizations: with rho_q a softmax over the channels of a query
 * and rho_k one over the positions of a channel of the key, context[c,j] = sum over t of v[c,t] rho_k(k)[j,t] and
 * y[c,p] = sum over j of context[c,j] rho_q(q)[j,p]. x: N 3C H W, y: N C H W.
 */
template <typename T>
void EfficientAttention<T>::forward(const Node<T>& node) {
  const int tokens = node.in.h * node.in.w, size = node.layer->shape.c / node.layer->heads;
  std::fill_n(node.y, node.layer->shape.count(), T(0));
  forEachHead(*node.layer, node.in, [&](const Head& head) {
    const Context<T> made(node, head, size, tokens);
    addProducts(made.context, false, made.query.data(), size, tokens, node.y + head.y);
  });
}

/** Products' gradients by the products' other factors, then each softmax's. */
template <typename T>
void EfficientAttention<T>::backward(const Node<T>& node) {
  const int tokens = node.in.h * node.in.w, size = node.layer->shape.c / node.layer->heads;
  forEachHead(*node.layer, node.in, [&](const Head& head) {
    const Context<T> made(node, head, size, tokens);
    const T* dy = node.dy + head.y;
    const std::vector<T> dContext = products(dy, made.query.data(), size, tokens);
    std::vector<T> dQuery(made.query.size(), T(0)), dKey(made.key.size(), T(0));
    addProducts(made.context, true, dy, size, tokens, dQuery.data());
    addProducts(dContext, true, node.x + head.v, size, tokens, dKey.data());
    addProducts(dContext, false, made.key.data(), size, tokens, node.dx + head.v);
    for (int p = 0; p < tokens; ++p)
      softmaxBackward(made.query.data() + p, dQuery.data() + p, size, tokens, node.dx + head.q + p);
    for (int j = 0; j < size; ++j) {
      const size_t channel = static_cast<size_t>(j) * tokens;
      softmaxBackward(made.key.data() + channel, dKey.data() + channel, tokens, 1, node.dx + head.k + channel);
    }
  });
}

template struct Attention<float>;
template struct Attention<double>;
template struct EfficientAttention<float>;
template struct EfficientAttention<double>;

}  // namespace comface::reference
