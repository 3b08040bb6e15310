// Register tiles of the weight's gradient, dW[o][c, tap] = sum over pixels of gy[o][pixel] * x[c][pixel moved by tap].
//
// Dense tile. Output channels stand in the lanes: gy arrives transposed, one vector pair a pixel, and the image is read
// as broadcast scalars at any address, so that strides and short rows cost nothing and no lane is lost at the end of a
// row:
//
//     for each pixel:          u = gyT[pixel][0 .. width)       2 loads
//       for each column t:     acc[t] += u * x[pixel + offset[t]]   1 broadcast, 2 multiply-adds
//
// 14 columns x 2 vectors = 28 accumulators of 32 registers (6 x 2 of 16). Narrow groups use one vector.
//
// Depthwise tile. There is one output channel, so pixels stand in the lanes: R rows of gy are held in registers, each
// image vector is loaded once and feeds every tap of its kernel column; lanes are summed at the end of the block. Lanes
// past the end of a row are zeros in both operands: an infinity next to the row must not meet a zero, and gy and x may
// be the caller's own memory, which is not read past its end.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

constexpr int most_columns = registers == 32 ? 14 : 6;

template <class T, int NV, int C>
__attribute__((noinline)) void tile(bool first, const GradWeightTile<T>& g) {
  constexpr int L = lanes_of<T>;
  vec<T> acc[C][NV];
  KONV_UNROLL for (int t = 0; t < C; t++) KONV_UNROLL
    for (int v = 0; v < NV; v++) acc[t][v] = first ? vec<T>{} : load<T>(g.d + (t * NV + v) * L);
  const T* u = g.u;
  for (index r = 0; r < g.rows; r++) {
    const T* x = g.x + g.row_offset[r];
    for (index j = 0; j < g.row_length; j++, u += NV * L, x += g.step) {
      vec<T> gy[NV];
      KONV_UNROLL for (int v = 0; v < NV; v++)
        gy[v] = load<T>(u + v * L);
      KONV_UNROLL for (int t = 0; t < C; t++) {
        const vec<T> b = splat<T>(x[g.column_offset[t]]);
        KONV_UNROLL for (int v = 0; v < NV; v++)
          acc[t][v] += gy[v] * b;
      }
    }
  }
  KONV_UNROLL for (int t = 0; t < C; t++) KONV_UNROLL
    for (int v = 0; v < NV; v++) store<T>(g.d + (t * NV + v) * L, acc[t][v]);
}

template <class T>
void any_tile(int vectors, index columns, bool first, const GradWeightTile<T>& g) {
  static_for<most_columns>([&](auto i) {
    if (columns == i + 1) vectors == 1 ? tile<T, 1, i + 1>(first, g) : tile<T, 2, i + 1>(first, g);
  });
}

// ---- depthwise -----------------------------------------------------------------------------------------------------
template <int L, int D>
struct Rotate {
  static constexpr int at(int i) { return (i + D) % L; }
};
template <class T, int D = lanes_of<T> / 2>
KONV_INLINE T lane_sum(vec<T> v) {
  if constexpr (D == 0) return v[0];
  else return lane_sum<T, D / 2>(v + shuffle<Rotate<lanes_of<T>, D>, T>(v, v));
}

// P kernel rows by Q kernel columns are summed at a time. Two accumulators a tap when there are few: a chain of
// additions to one would wait for itself.
template <int P, int Q>
constexpr int sets = P * Q <= 4 ? 2 : 1;
template <class T, int P, int Q>
using Sums = vec<T>[P][Q][sets<P, Q>];

// acc += gy rows [0, R) against image rows, n columns (all lanes unless Tail). S: row_step with tap_step 1; 0: any
// steps.
template <class T, int P, int Q, int S, int R, bool Tail>
KONV_INLINE void add_taps(Sums<T, P, Q>& acc, const GradWeightDepthwise<T>& g, const T* gy, const T* x,
                          const index* offset, int n) {
  const auto columns = [&](const T* p) KONV_INLINED {
    if constexpr (Tail) return load_first<T>(p, n);
    else return load<T>(p);
  };
  vec<T> y[R];
  KONV_UNROLL for (int i = 0; i < R; i++)
    y[i] = columns(gy + i * g.gy_pitch);
  KONV_UNROLL for (int b = 0; b < Q; b++) {
    const T* column = x + offset[b];
    if constexpr (S == 0) {
      KONV_UNROLL for (int i = 0; i < R; i++) KONV_UNROLL
        for (int a = 0; a < P; a++)
          acc[a][b][i % sets<P, Q>] += y[i] * columns(column + (i * g.row_step + a * g.tap_step) * g.pitch);
    } else {
      KONV_UNROLL for (int r = 0; r < (R - 1) * S + P; r++) {
        const vec<T> v = columns(column + r * g.pitch);
        KONV_UNROLL for (int i = 0; i < R; i++) {
          const int a = r - i * S;
          if (a >= 0 && a < P) acc[a][b][i % sets<P, Q>] += y[i] * v;
        }
      }
    }
  }
}

// One vector of columns, all rows.
template <class T, int P, int Q, int S, bool Tail>
KONV_INLINE void add_rows(Sums<T, P, Q>& acc, const GradWeightDepthwise<T>& g, const T* x, index q, const index* offset,
                          int n) {
  constexpr int R = 4;
  const T* gy = g.gy + q;
  const index step = g.row_step * g.pitch;
  index i = 0;
  const auto rows = [&](auto count) KONV_INLINED {
    add_taps<T, P, Q, S, count, Tail>(acc, g, gy + i * g.gy_pitch, x + q + i * step, offset, n);
    i += count;
  };
  while (i + R <= g.rows) rows(constant<R>{});
  if (g.rows - i == 3) rows(constant<3>{});
  if (g.rows - i == 2) rows(constant<2>{});
  if (g.rows - i == 1) rows(constant<1>{});
}

// P kernel rows from `row` on, every column, Q at a time.
template <class T, int P, int Q, int S>
__attribute__((noinline)) void taps(const GradWeightDepthwise<T>& g, index row) {
  constexpr int L = lanes_of<T>;
  const index whole = g.columns / L * L;
  const T* x = g.x + row * g.tap_step * g.pitch;
  for (index b = 0; b < g.kw; b += Q) {
    Sums<T, P, Q> acc = {};
    for (index q = 0; q < whole; q += L) add_rows<T, P, Q, S, false>(acc, g, x, q, g.offset + b, L);
    if (whole < g.columns)
      add_rows<T, P, Q, S, true>(acc, g, x, whole, g.offset + b, static_cast<int>(g.columns - whole));
    T* d = g.d + (row * g.kw + b) * g.d_step;
    KONV_UNROLL for (int a = 0; a < P; a++) KONV_UNROLL
      for (int c = 0; c < Q; c++) {
        vec<T> v = acc[a][c][0];
        if constexpr (sets<P, Q> == 2) v += acc[a][c][1];
        d[(a * g.kw + c) * g.d_step] += lane_sum<T>(v);
      }
  }
}

template <class T, int S>
void all_taps(const GradWeightDepthwise<T>& g) {
  if (g.kh == 7) return taps<T, 7, 1, S>(g, 0);
  if (g.kh == 5) return taps<T, 5, 1, S>(g, 0);
  index a = 0;
  for (; a + 3 <= g.kh; a += 3) g.kw % 3 == 0 ? taps<T, 3, 3, S>(g, a) : taps<T, 3, 1, S>(g, a);
  for (; a < g.kh; a++) taps<T, 1, 1, S>(g, a);
}

template <class T>
void depthwise(const GradWeightDepthwise<T>& g) {
  const bool neighbours = g.kh == 1 || g.tap_step == 1;
  if (neighbours && g.row_step == 1) return all_taps<T, 1>(g);
  if (neighbours && g.row_step == 2) return all_taps<T, 2>(g);
  if (g.row_step != 1) return all_taps<T, 0>(g);
  // Dilated rows: interleaved problems without dilation.
  for (index phase = 0; phase < g.tap_step && phase < g.rows; phase++) {
    GradWeightDepthwise<T> p = g;
    p.rows = (g.rows - phase + g.tap_step - 1) / g.tap_step;
    p.x = g.x + phase * g.pitch, p.gy = g.gy + phase * g.gy_pitch;
    p.pitch = g.pitch * g.tap_step, p.gy_pitch = g.gy_pitch * g.tap_step, p.tap_step = 1;
    all_taps<T, 1>(p);
  }
}

template <class T>
double sum(const T* src, index count) {
  constexpr int L = lanes_of<double>;
  double total[4 * L] = {};
  index q = 0;
  for (; q + 4 * L <= count; q += 4 * L)
    for (int l = 0; l < 4 * L; l++) total[l] += static_cast<double>(src[q + l]);
  for (int l = 0; q < count; q++, l++) total[l] += static_cast<double>(src[q]);
  for (int n = 2 * L; n > 0; n /= 2)
    for (int l = 0; l < n; l++) total[l] += total[l + n];
  return total[0];
}

template <class T>
constexpr GradWeightTable<T> table_of() {
  return {lanes_of<T>, most_columns, any_tile<T>, depthwise<T>, sum<T>};
}

}  // namespace

extern constinit const Family<GradWeightTable> grad_weight = {table_of<float>(), table_of<double>()};

}  // namespace konv::KONV_ISA
