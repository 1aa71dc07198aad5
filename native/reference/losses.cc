// ComFace's two losses, section 3.2. A loss has one value, y[0]; dy[0] is its weight in the total.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops.h"

namespace comface::reference {
namespace {

/** a . b, of `size` values each. */
template <typename T>
T dot(const T* a, const T* b, int size) {
  T sum = 0;
  for (int c = 0; c < size; ++c) sum += a[c] * b[c];
  return sum;
}

}  // namespace

/**
 * ComFace eq. (1), with R = 2N rows z[j] and s[j,k] = z[j] . z[k] / temperature; p(j) is the other view of row j:
 * L = (1/R) sum over j of ( lse[j] - s[j,p(j)] ),  lse[j] = log( sum over k != j of exp(s[j,k]) ).
 * x: R x D. saved: lse (R), then the row s[j,:] (R).
 */
template <typename T>
void InfoNce<T>::forward(const Node<T>& node) {
  const int rows = node.in.n, size = node.in.c;
  const T temperature = node.layer->temperature;
  T *lse = node.saved, *similarity = node.saved + rows;
  T total = 0;
  for (int j = 0; j < rows; ++j) {
    T highest = -std::numeric_limits<T>::infinity();  // taken out of the sum, or exp overflows
    for (int k = 0; k < rows; ++k) {
      similarity[k] = dot(node.x + plane(node.in, j, 0), node.x + plane(node.in, k, 0), size) / temperature;
      if (k != j) highest = std::max(highest, similarity[k]);
    }
    T sum = 0;
    for (int k = 0; k < rows; ++k) {
      if (k != j) sum += std::exp(similarity[k] - highest);
    }
    lse[j] = highest + std::log(sum);
    total += lse[j] - similarity[(j + rows / 2) % rows];
  }
  node.y[0] = total / rows;
}

/**
 * dL/ds[j,k] = ( exp(s[j,k] - lse[j]) - [k = p(j)] ) / R. As s is symmetric, a pair j < k counts twice: for
 * row j and for row k. Similarities are computed again: a matrix of R x R is never held.
 */
template <typename T>
void InfoNce<T>::backward(const Node<T>& node) {
  const int rows = node.in.n, size = node.in.c;
  const T temperature = node.layer->temperature;
  const T* lse = node.saved;
  for (int j = 0; j < rows; ++j) {
    for (int k = j + 1; k < rows; ++k) {
      const size_t rowJ = plane(node.in, j, 0), rowK = plane(node.in, k, 0);
      const T similarity = dot(node.x + rowJ, node.x + rowK, size) / temperature;
      const T positive = k == j + rows / 2 ? 2 : 0;
      const T pull = std::exp(similarity - lse[j]) + std::exp(similarity - lse[k]) - positive;
      const T factor = node.dy[0] * pull / (rows * temperature);
      for (int c = 0; c < size; ++c) {
        node.dx[rowJ + c] += factor * node.x[rowK + c];
        node.dx[rowK + c] += factor * node.x[rowJ + c];
      }
    }
  }
}

/** L_intra = (1/N) sum over n of (x[n] - targets[n])^2. x, targets: N. */
template <typename T>
void SquaredError<T>::forward(const Node<T>& node) {
  T sum = 0;
  for (int n = 0; n < node.in.n; ++n) sum += (node.x[n] - node.targets[n]) * (node.x[n] - node.targets[n]);
  node.y[0] = sum / node.in.n;
}

template <typename T>
void SquaredError<T>::backward(const Node<T>& node) {
  for (int n = 0; n < node.in.n; ++n) node.dx[n] += node.dy[0] * 2 * (node.x[n] - node.targets[n]) / node.in.n;
}

template struct InfoNce<float>;
template struct InfoNce<double>;
template struct SquaredError<float>;
template struct SquaredError<double>;

}  // namespace comface::reference
