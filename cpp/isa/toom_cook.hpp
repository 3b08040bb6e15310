// The matrices of F(m, r): m outputs of an r-tap filter from A = m+r-1 products instead of m*r.
//
// Idea. Reverse the roles in a polynomial product: y = A^T [ (G w) * (B^T x) ], where each product is the value of the
// polynomials at one point p_j (the last point is infinity, the leading coefficient):
//
//   G   (A x r)  row j evaluates the filter at p_j:        p_j^k / N_j,  N_j = prod_{i != j} (p_j - p_i)
//   A^T (m x A)  column j puts it back:                    p_j^i
//   B^T (A x A)  row j holds the coefficients of           prod_{i != j} (x - p_i)      (Lagrange interpolation)
//
// Everything follows from the points, at compile time. They decide how exact the result is: large powers and large
// coefficients of both signs cancel. 0, +-3/4, +-3/2 give F(4,3) a fifth of the error of the textbook's 0, +-1, +-2.
// All are fractions of powers of two, so B and A^T are exact.
//
// Points come in pairs +-p, and that halves the work: rows p and -p of B^T are E + O and E - O with the same E and O,
// and columns p and -p of A^T want only the sum and the difference of their products.
//
// Source: S. Winograd, "Arithmetic Complexity of Computations", 1980, chapter IV; A. Lavin, S. Gray, "Fast Algorithms
// for Convolutional Neural Networks", CVPR 2016; B. Barabasz et al., "Error Analysis and Improving the Accuracy of
// Winograd Convolution for Deep Neural Networks", TOMS 2020 (choice of points).
#pragma once
#include "simd.hpp"

namespace konv::KONV_ISA {

// Positive halves of the pairs, then, where A is odd, one single point.
template <int A>
struct Points;
template <>
struct Points<1> {
  static constexpr double pairs[1] = {}, single = 0;
};
template <>
struct Points<4> {
  static constexpr double pairs[1] = {1}, single = 0;
};
template <>
struct Points<5> {
  static constexpr double pairs[1] = {0.75}, single = -1.5;
};
template <>
struct Points<6> {
  static constexpr double pairs[2] = {0.75, 1.5}, single = 0;
};
template <>
struct Points<8> {
  static constexpr double pairs[3] = {0.5, 1, 2}, single = 0;
};

constexpr double power(double base, int exponent) {
  double r = 1;
  for (int i = 0; i < exponent; i++) r *= base;
  return r;
}

template <int M, int R>
struct ToomCook {
  static constexpr int m = M, r = R, A = M + R - 1;
  static constexpr int pairs = A < 4 ? 0 : (A - 2) / 2;

  // Index 0 is the point 0, then the pairs +p, -p, then the single point; A-1 is infinity.
  static constexpr double point(int j) {
    if (j == 0) return 0;
    if (j > 2 * pairs) return Points<A>::single;
    return j % 2 ? Points<A>::pairs[(j - 1) / 2] : -Points<A>::pairs[(j - 2) / 2];
  }
  static constexpr bool opens_pair(int j) { return j % 2 == 1 && j < 2 * pairs; }
  static constexpr bool closes_pair(int j) { return j > 0 && j % 2 == 0 && j <= 2 * pairs; }

  struct Matrices {
    double bt[A][A] = {}, at[M][A] = {}, g[A][R] = {};
  };
  static constexpr Matrices make() {
    Matrices t;
    for (int j = 0; j < A; j++) {
      const bool infinity = j == A - 1;
      double poly[A + 1] = {1}, n = 1;
      for (int i = 0, degree = 0; i < A - 1; i++) {
        if (i == j) continue;
        for (int k = ++degree; k >= 0; k--) poly[k] = (k > 0 ? poly[k - 1] : 0) - point(i) * poly[k];
        if (!infinity) n *= point(j) - point(i);
      }
      for (int k = 0; k < A; k++) t.bt[j][k] = poly[k];
      for (int i = 0; i < M; i++) t.at[i][j] = infinity ? i == M - 1 : power(point(j), i);
      for (int k = 0; k < R; k++) t.g[j][k] = infinity ? k == R - 1 : power(point(j), k) / n;
    }
    return t;
  }
  static constexpr Matrices matrices = make();

  // Rows of B^T with each pair (+p, -p) replaced by its half sum and half difference (E and O).
  static constexpr double input(int j, int k) {
    const double (&b)[A][A] = matrices.bt;
    if (opens_pair(j)) return (b[j][k] + b[j + 1][k]) / 2;
    if (closes_pair(j)) return (b[j - 1][k] - b[j][k]) / 2;
    return b[j][k];
  }
  // Columns of A^T for products of which each pair was replaced by its sum and difference.
  static constexpr double output(int i, int j) {
    const double (&a)[M][A] = matrices.at;
    if (opens_pair(j)) return (a[i][j] + a[i][j + 1]) / 2;
    if (closes_pair(j)) return (a[i][j - 1] - a[i][j]) / 2;
    return a[i][j];
  }
  static constexpr double weight(int j, int k) { return matrices.g[j][k]; }
};

// sum += c * d for a constant c; costs nothing for 0, no multiplication for +-1. `fresh`: sum has no value yet.
template <class T, class C, class V>
KONV_INLINE void accumulate(V& sum, bool& fresh, C, const V& d) {
  constexpr T c = static_cast<T>(C::at);
  if constexpr (c == 0) return;
  else if (fresh) sum = c == 1 ? d : c == -1 ? -d : c * d;
  else if constexpr (c == 1) sum += d;
  else if constexpr (c == -1) sum -= d;
  else sum += c * d;
  fresh = false;
}

template <class F, int J, int K>
struct InputCoefficient {
  static constexpr double at = F::input(J, K);
};
template <class F, int I, int J>
struct OutputCoefficient {
  static constexpr double at = F::output(I, J);
};
template <class F, int J, int K>
struct WeightCoefficient {
  static constexpr double at = F::weight(J, K);
};

// o = B^T d: A values in, A out.
template <class F, class T, class V>
KONV_INLINE void input_transform(const V* d, V* o) {
  static_for<F::A>([&](auto j) KONV_INLINED {
    V sum{};
    bool fresh = true;
    static_for<F::A>([&](auto k) KONV_INLINED { accumulate<T>(sum, fresh, InputCoefficient<F, j, k>{}, d[k]); });
    if constexpr (F::closes_pair(j)) {
      const V even = o[j - 1];
      o[j - 1] = even + sum;
      o[j] = even - sum;
    } else {
      o[j] = sum;
    }
  });
}

// Each pair of products to its sum and difference, in place: what output() above expects.
template <class F, class V>
KONV_INLINE void fold_pairs(V* d) {
  static_for<F::A>([&](auto j) KONV_INLINED {
    if constexpr (F::opens_pair(j)) {
      const V sum = d[j] + d[j + 1], difference = d[j] - d[j + 1];
      d[j] = sum;
      d[j + 1] = difference;
    }
  });
}

// y = A^T d: A products in, m values out; d is overwritten.
template <class F, class T, class V>
KONV_INLINE void output_transform(V* d, V* y) {
  fold_pairs<F>(d);
  static_for<F::m>([&](auto i) KONV_INLINED {
    bool fresh = true;
    static_for<F::A>([&](auto j) KONV_INLINED { accumulate<T>(y[i], fresh, OutputCoefficient<F, i, j>{}, d[j]); });
  });
}

// o = A d, the adjoint of A^T: m values in, A out.
template <class F, class T, class V>
KONV_INLINE void output_adjoint(const V* d, V* o) {
  static_for<F::A>([&](auto j) KONV_INLINED {
    V sum{};
    bool fresh = true;
    static_for<F::m>([&](auto i) KONV_INLINED { accumulate<T>(sum, fresh, OutputCoefficient<F, i, j>{}, d[i]); });
    if constexpr (F::closes_pair(j)) {
      const V even = o[j - 1];
      o[j - 1] = even + sum;
      o[j] = even - sum;
    } else {
      o[j] = sum;
    }
  });
}

// u = G w: r taps in, A values out.
template <class F, class T, class V>
KONV_INLINE void weight_transform(const V* w, V* u) {
  static_for<F::A>([&](auto j) KONV_INLINED {
    bool fresh = true;
    static_for<F::r>([&](auto k) KONV_INLINED { accumulate<T>(u[j], fresh, WeightCoefficient<F, j, k>{}, w[k]); });
  });
}

// w = G^T u: A values in, r taps out.
template <class F, class T, class V>
KONV_INLINE void weight_adjoint(const V* u, V* w) {
  static_for<F::r>([&](auto k) KONV_INLINED {
    bool fresh = true;
    static_for<F::A>([&](auto j) KONV_INLINED { accumulate<T>(w[k], fresh, WeightCoefficient<F, j, k>{}, u[j]); });
  });
}

}  // namespace konv::KONV_ISA
