// Register tiles of the weight's gradient, dW[o][c, tap] = sum over pixels of gy[o][pixel] * x[c][pixel moved by tap].
//
// Dense tile. Output channels stand in the lanes: gy arrives transposed, one vector pair a pixel, and the image is read
// as broadcast scalars at any address, so that strides, short rows and unpadded images cost nothing and no lane is lost
// at the end of a row:
//
//     for each pixel:          u = gyT[pixel][0 .. width)       2 loads
//       for each column t:     acc[t] += u * x[pixel + offset[t]]   1 broadcast, 2 multiply-adds
//
// 14 columns x 2 vectors = 28 accumulators of 32 registers (6 x 2 of 16). Narrow groups use one vector or half of one.
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

template <class T>
constexpr int half_of = lanes_of<T> * sizeof(T) > 16 ? lanes_of<T> / 2 : lanes_of<T>;

template <class T, int L, int NV, int C>
__attribute__((noinline)) void tile(bool first, const GradWeightTile<T>& g) {
  vec<T, L> acc[C][NV];
  KONV_UNROLL for (int t = 0; t < C; t++) KONV_UNROLL
    for (int v = 0; v < NV; v++) acc[t][v] = first ? vec<T, L>{} : load<T, L>(g.d + (t * NV + v) * L);
  const T* u = g.u;
  for (index r = 0; r < g.rows; r++) {
    const T* x = g.x + g.row_offset[r];
    for (index j = 0; j < g.row_length; j++, u += NV * L, x += g.step) {
      vec<T, L> gy[NV];
      KONV_UNROLL for (int v = 0; v < NV; v++)
        gy[v] = load<T, L>(u + v * L);
      KONV_UNROLL for (int t = 0; t < C; t++) {
        const vec<T, L> b = splat<T, L>(x[g.column_offset[t]]);
        KONV_UNROLL for (int v = 0; v < NV; v++)
          acc[t][v] += gy[v] * b;
      }
    }
  }
  KONV_UNROLL for (int t = 0; t < C; t++) KONV_UNROLL
    for (int v = 0; v < NV; v++) store<T, L>(g.d + (t * NV + v) * L, acc[t][v]);
}

template <class T, int L, int NV, int... I>
void tile_of(sequence<I...>, index columns, bool first, const GradWeightTile<T>& g) {
  static constexpr void (*by_columns[])(bool, const GradWeightTile<T>&) = {tile<T, L, NV, I + 1>...};
  by_columns[columns - 1](first, g);
}

template <class T>
void any_tile(index width, index columns, bool first, const GradWeightTile<T>& g) {
  using All = typename make_sequence<most_columns>::type;
  constexpr int L = lanes_of<T>;
  if (width == 2 * L) return tile_of<T, L, 2>(All{}, columns, first, g);
  if (width == L) return tile_of<T, L, 1>(All{}, columns, first, g);
  tile_of<T, half_of<T>, 1>(All{}, columns, first, g);
}

// Squares of lanes x lanes; the last pixels and channels by masks and by hand.
template <class T, int L>
KONV_INLINE void transpose_panel(const T* src, index plane, index count, int channels, T* dst, index width) {
  for (index q = 0; q < count; q += L) {
    const int n = count - q < L ? static_cast<int>(count - q) : L;
    vec<T, L> r[L];
    if (n == L && channels == L) {
      KONV_UNROLL for (int l = 0; l < L; l++)
        r[l] = load<T, L>(src + l * plane + q);
    } else {
      KONV_UNROLL for (int l = 0; l < L; l++)
        r[l] = l < channels ? load_first<T, L>(src + l * plane + q, n) : vec<T, L>{};
    }
    transpose<T, L>(r);
    KONV_UNROLL for (int i = 0; i < L; i++)
      if (i < n) store<T, L>(dst + (q + i) * width, r[i]);
  }
}

template <class T>
void transpose_load(const T* src, index plane, index count, int channels, T* dst, index width) {
  constexpr int L = lanes_of<T>;
  if (width < L) return transpose_panel<T, half_of<T>>(src, plane, count, channels, dst, width);
  for (int l = 0; l < width; l += L) {
    const int left = channels - l;
    transpose_panel<T, L>(src + l * plane, plane, count, left < 0 ? 0 : left < L ? left : L, dst + l, width);
  }
}

// ---- depthwise -----------------------------------------------------------------------------------------------------
template <int L, int D>
struct Rotate {
  static constexpr int at(int i) { return (i + D) % L; }
};
template <class T, int L, int D = L / 2>
KONV_INLINE T lane_sum(vec<T, L> v) {
  if constexpr (D == 0) return v[0];
  else return lane_sum<T, L, D / 2>(v + shuffle<Rotate<L, D>, T, L>(v, v));
}

// P kernel rows by Q kernel columns are summed at a time. Two accumulators a tap when there are few: a chain of
// additions to one would wait for itself.
template <int P, int Q>
constexpr int sets = P * Q <= 4 ? 2 : 1;
template <class T, int L, int P, int Q>
using Sums = vec<T, L>[P][Q][sets<P, Q>];

// acc += gy rows [0, R) against image rows, n columns (L unless Tail). S: row_step with tap_step 1; 0: any steps.
template <class T, int L, int P, int Q, int S, int R, bool Tail>
KONV_INLINE void add_taps(Sums<T, L, P, Q>& acc, const GradWeightDepthwise<T>& g, const T* gy, const T* x,
                          const index* offset, int n) {
  const auto columns = [&](const T* p) __attribute__((always_inline)) {
    if constexpr (Tail) return load_first<T, L>(p, n);
    else return load<T, L>(p);
  };
  vec<T, L> y[R];
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
        const vec<T, L> v = columns(column + r * g.pitch);
        KONV_UNROLL for (int i = 0; i < R; i++) {
          const int a = r - i * S;
          if (a >= 0 && a < P) acc[a][b][i % sets<P, Q>] += y[i] * v;
        }
      }
    }
  }
}

// One vector of columns, all rows.
template <class T, int L, int P, int Q, int S, bool Tail>
KONV_INLINE void add_rows(Sums<T, L, P, Q>& acc, const GradWeightDepthwise<T>& g, const T* x, index q,
                          const index* offset, int n) {
  constexpr int R = 4;
  const T* gy = g.gy + q;
  const index step = g.row_step * g.pitch;
  index i = 0;
  const auto rows = [&](auto count) __attribute__((always_inline)) {
    add_taps<T, L, P, Q, S, count, Tail>(acc, g, gy + i * g.gy_pitch, x + q + i * step, offset, n);
    i += count;
  };
  while (i + R <= g.rows) rows(constant<R>{});
  if (g.rows - i == 3) rows(constant<3>{});
  if (g.rows - i == 2) rows(constant<2>{});
  if (g.rows - i == 1) rows(constant<1>{});
}

template <class T, int L, int P, int Q>
KONV_INLINE void add_sums(Sums<T, L, P, Q>& acc, const GradWeightDepthwise<T>& g, T* d) {
  KONV_UNROLL for (int a = 0; a < P; a++) KONV_UNROLL
    for (int b = 0; b < Q; b++) {
      vec<T, L> v = acc[a][b][0];
      if constexpr (sets<P, Q> == 2) v += acc[a][b][1];
      d[(a * g.kw + b) * g.d_step] += lane_sum<T, L>(v);
    }
}

// P kernel rows from `row` on, every column, Q at a time.
template <class T, int P, int Q, int S>
__attribute__((noinline)) void taps(const GradWeightDepthwise<T>& g, index row) {
  constexpr int L = lanes_of<T>, half = half_of<T>;
  const index whole = g.columns / L * L;
  const int left = static_cast<int>(g.columns - whole);
  const T* x = g.x + row * g.tap_step * g.pitch;
  for (index b = 0; b < g.kw; b += Q) {
    const index* offset = g.offset + b;
    T* d = g.d + (row * g.kw + b) * g.d_step;
    if (whole || left > half || half == L) {
      Sums<T, L, P, Q> acc = {};
      for (index q = 0; q < whole; q += L) add_rows<T, L, P, Q, S, false>(acc, g, x, q, offset, L);
      if (left > half || (left && half == L)) add_rows<T, L, P, Q, S, true>(acc, g, x, whole, offset, left);
      add_sums<T, L, P, Q>(acc, g, d);
    }
    if constexpr (half < L) {
      if (left == 0 || left > half) continue;
      Sums<T, half, P, Q> acc = {};
      add_rows<T, half, P, Q, S, true>(acc, g, x, whole, offset, left);
      add_sums<T, half, P, Q>(acc, g, d);
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
  if (g.kh == 1 || g.tap_step == 1) {
    if (g.row_step == 1) return all_taps<T, 1>(g);
    if (g.row_step == 2) return all_taps<T, 2>(g);
  } else if (g.row_step == 1) {  // dilated rows: interleaved problems without dilation
    for (index phase = 0; phase < g.tap_step && phase < g.rows; phase++) {
      GradWeightDepthwise<T> p = g;
      p.rows = (g.rows - phase + g.tap_step - 1) / g.tap_step;
      p.x = g.x + phase * g.pitch, p.gy = g.gy + phase * g.gy_pitch;
      p.pitch = g.pitch * g.tap_step, p.gy_pitch = g.gy_pitch * g.tap_step, p.tap_step = 1;
      all_taps<T, 1>(p);
    }
    return;
  }
  all_taps<T, 0>(g);
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
  return {lanes_of<T>, most_columns, half_of<T>, any_tile<T>, transpose_load<T>, depthwise<T>, sum<T>};
}

}  // namespace

extern constinit const Family<GradWeightTable> grad_weight = {table_of<float>(), table_of<double>()};

}  // namespace konv::KONV_ISA
