// The matrices of F(m, r): m outputs of an r-tap filter from A = m+r-1 products instead of m*r.
//
// Idea. Reverse the roles in a polynomial product: y = A^T [ (G w) * (B^T x) ], where each product is the value of the
// polynomials at one point p_j (the last point is infinity, the leading coefficient):
//   G   (A x r)  row j evaluates the filter at p_j:        p_j^k / N_j,  N_j = prod_{i != j} (p_j - p_i)
//   A^T (m x A)  column j puts it back:                    p_j^i
//   B^T (A x A)  row j holds the coefficients of           prod_{i != j} (x - p_i)      (Lagrange interpolation)
// Everything follows from the points, at compile time. They decide how exact the result is: large powers and large
// coefficients of both signs cancel. 0, +-3/4, +-3/2 give F(4,3) a fifth of the error of the textbook's 0, +-1, +-2.
// All are fractions of powers of two, so B and A^T are exact.
//
// Points come in pairs +-p, and that halves the work: rows p and -p of B^T (and of A) are E + O and E - O with the same
// E and O, and columns p and -p of A^T want only the sum and the difference of their products.
// Source: S. Winograd, "Arithmetic Complexity of Computations", 1980, chapter IV; A. Lavin, S. Gray, "Fast Algorithms
// for Convolutional Neural Networks", CVPR 2016; B. Barabasz et al., "Error Analysis and Improving the Accuracy of
// Winograd Convolution for Deep Neural Networks", TOMS 2020 (choice of points).
#pragma once
#include "simd.hpp"

namespace konv::KONV_ISA {

// The points of A = 4 ... 8 products, but infinity: 0, the pairs +p, -p, then, where A is odd, a single one.
constexpr double points[][7] = {
    {0, 1, -1},
    {0, 0.75, -0.75, -1.5},
    {0, 0.75, -0.75, 1.5, -1.5},
    {0, 1, -1, 1.625, -1.625, -0.4375},
    {0, 0.5, -0.5, 1, -1, 2, -2},
};

template <int Rows, int Columns> struct Matrix {
  static constexpr int rows = Rows, columns = Columns;
  double at[Rows][Columns] = {};
  int row_pairs = 0;     // rows 1 and 2, 3 and 4 ... are E and O of so many pairs
  int column_pairs = 0;  // columns 1 and 2 ... want the sum and the difference of so many pairs

  constexpr Matrix<Columns, Rows> transposed() const {
    Matrix<Columns, Rows> t{.row_pairs = column_pairs, .column_pairs = row_pairs};
    for (int i = 0; i < Rows; i++)
      for (int j = 0; j < Columns; j++) t.at[j][i] = at[i][j];
    return t;
  }
};

template <int M, int R> struct ToomCook {
  static constexpr int m = M, r = R, A = M + R - 1;
  static constexpr int pairs = A < 4 ? 0 : (A - 2) / 2;
  static_assert(A == 1 || points[A - 4][1] != 0, "no points for so many products");

  struct Matrices {
    Matrix<A, A> bt{.row_pairs = pairs};
    Matrix<M, A> at{.column_pairs = pairs};
    Matrix<A, R> g;
  };
  static constexpr Matrices make() {
    Matrices t;
    const double (&p)[7] = points[A == 1 ? 0 : A - 4];
    for (int j = 0; j < A; j++) {
      const bool infinity = j == A - 1;
      double (&poly)[A] = t.bt.at[j];
      double n = 1, power = 1;
      poly[0] = 1;
      for (int i = 0; i < A - 1; i++) {
        if (i == j) continue;
        for (int k = A - 1; k >= 0; k--) poly[k] = (k > 0 ? poly[k - 1] : 0) - p[i] * poly[k];
        if (!infinity) n *= p[j] - p[i];
      }
      for (int i = 0; i < A; i++, power *= infinity ? 0 : p[j]) {
        if (i < M) t.at.at[i][j] = infinity ? i == M - 1 : power;
        if (i < R) t.g.at[j][i] = infinity ? i == R - 1 : power / n;
      }
    }
    for (int j = 1; j < 2 * pairs; j += 2) {
      for (int k = 0; k < A; k++) halve(t.bt.at[j][k], t.bt.at[j + 1][k]);
      for (int i = 0; i < M; i++) halve(t.at.at[i][j], t.at.at[i][j + 1]);
    }
    return t;
  }
  static constexpr void halve(double& a, double& b) {
    const double sum = a + b, difference = a - b;
    a = sum / 2, b = difference / 2;
  }

  static constexpr Matrices made = make();
  static constexpr auto input = made.bt, output = made.at, weight = made.g;
  static constexpr auto output_adjoint = output.transposed(), weight_adjoint = weight.transposed();
};

// Each of the pairs d[1] and d[2], d[3] and d[4] ... to its sum and difference.
template <int Pairs, class V> KONV_INLINE void fold_pairs(V* d) {
  KONV_UNROLL for (int j = 1; j < 2 * Pairs; j += 2) {
    const V sum = d[j] + d[j + 1], difference = d[j] - d[j + 1];
    d[j] = sum, d[j + 1] = difference;
  }
}

// o = M d, or each row of it added to *start; d is overwritten. A coefficient of 0 or +-1 costs no multiplication.
template <class T, const auto& M, class V> KONV_INLINE void multiply(V* d, V* o, const V* start = nullptr) {
  fold_pairs<M.column_pairs>(d);
  static_for<M.rows>([&](auto i) KONV_INLINED {
    bool fresh = !start;  // o[i] has no value yet
    if (start) o[i] = *start;
    static_for<M.columns>([&](auto j) KONV_INLINED {
      constexpr T c = static_cast<T>(M.at[i][j]);
      if constexpr (c != 0) {
        o[i] = fresh ? c * d[j] : o[i] + c * d[j];
        fresh = false;
      }
    });
  });
  fold_pairs<M.row_pairs>(o);
}
}  // namespace konv::KONV_ISA
