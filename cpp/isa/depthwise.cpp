// Depthwise register tile: R output rows at once, pixels of a row in the lanes.
//
// A depthwise sum has no second channel to share a loaded vector with, so the rows share it. For one column b of the
// kernel, the R output rows of a tile need (R-1)*stride + kh image rows; each is loaded once and feeds every tap of
// that column (picture: kh = 3, stride 1, R = 3):
//
//     image row   0   1   2   3   4          v[0..4] loaded, 9 multiply-adds
//     output 0    w0  w1  w2
//     output 1        w0  w1  w2
//     output 2            w0  w1  w2
//
// The R accumulators, the rows v and one broadcast weight stay in registers (7 + 13 + 1 of 32 for 7x7). The loop over b
// is not unrolled: the weights of all columns would not fit and gcc would spill. Kernels of any height run in pieces of
// up to 7 rows. A dilation of the rows with stride 1 is that many interleaved problems without dilation.
//
// Columns: offset[b] says where column b of the kernel starts in a staged row, so that column strides and dilations are
// the driver's business. The last vector of a row overlaps the one before it and writes the same values again.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

constexpr int tile_rows = registers == 32 ? 7 : 4;
constexpr int small_rows = 4;

// acc[i] += sum over KH taps of one kernel column. S: row_step, with tap_step 1.
template <class T, int L, int KH, int S, int R>
KONV_INLINE void add_column(vec<T, L> (&acc)[R], const T* x, index pitch, const T* w, index kw) {
  constexpr int rows = (R - 1) * S + KH;
  vec<T, L> v[rows];
  KONV_UNROLL for (int r = 0; r < rows; r++)
    v[r] = load<T, L>(x + r * pitch);
  KONV_UNROLL for (int a = 0; a < KH; a++) {
    const vec<T, L> tap = splat<T, L>(w[a * kw]);
    KONV_UNROLL for (int i = 0; i < R; i++)
      acc[i] += tap * v[i * S + a];
  }
}

// All columns of KH kernel rows from `row` on.
template <class T, int L, int KH, int S, int R>
KONV_INLINE void add_rows(vec<T, L> (&acc)[R], const DepthwiseBlock<T>& b, const T* x, index row) {
  x += row * b.pitch;
  const T* w = b.w + row * b.kw;
  _Pragma("GCC unroll 1") for (index t = 0; t < b.kw; t++)
      add_column<T, L, KH, S, R>(acc, x + b.offset[t], b.pitch, w + t, b.kw);
}

// KH 0: any height; KW 3: three columns, unrolled. S 0: any steps of rows and taps.
template <class T, int L, int KH, int KW, int S, int R>
KONV_INLINE void tile(const DepthwiseBlock<T>& b, const T* x, T* y, int n) {
  vec<T, L> acc[R];
  KONV_UNROLL for (int i = 0; i < R; i++)
    acc[i] = splat<T, L>(b.bias);
  if constexpr (S == 0) {
    for (index a = 0; a < b.kh; a++)
      for (index t = 0; t < b.kw; t++) {
        const vec<T, L> tap = splat<T, L>(b.w[a * b.kw + t]);
        KONV_UNROLL for (int i = 0; i < R; i++)
          acc[i] += tap * load<T, L>(x + (i * b.row_step + a * b.tap_step) * b.pitch + b.offset[t]);
      }
  } else if constexpr (KW > 0) {
    KONV_UNROLL for (int t = 0; t < KW; t++)
      add_column<T, L, KH, S, R>(acc, x + b.offset[t], b.pitch, b.w + t, KW);
  } else if constexpr (KH > 0) {
    add_rows<T, L, KH, S, R>(acc, b, x, 0);
  } else {
    index a = 0;
    for (; a + 4 <= b.kh; a += 4) add_rows<T, L, 4, S, R>(acc, b, x, a);
    if (b.kh - a >= 2) add_rows<T, L, 2, S, R>(acc, b, x, a), a += 2;
    if (b.kh > a) add_rows<T, L, 1, S, R>(acc, b, x, a);
  }
  if (n == L) {
    KONV_UNROLL for (int i = 0; i < R; i++)
      store<T, L>(y + i * b.ldy, acc[i]);
  } else {
    for (int i = 0; i < R; i++) store_first<T, L>(y + i * b.ldy, acc[i], n);
  }
}

// R output rows, all columns.
template <class T, int KH, int KW, int S, int R>
__attribute__((noinline)) void band(const DepthwiseBlock<T>& b, const T* x, T* y) {
  constexpr int L = lanes_of<T>, half = L * sizeof(T) > 16 ? L / 2 : L;
  index q = 0;
  for (; q + L <= b.columns; q += L) tile<T, L, KH, KW, S, R>(b, x + q, y + q, L);
  const index left = b.columns - q;
  if (left == 0) return;
  if (left > half) {
    if (b.columns >= L) tile<T, L, KH, KW, S, R>(b, x + b.columns - L, y + b.columns - L, L);
    else tile<T, L, KH, KW, S, R>(b, x, y, static_cast<int>(left));
  } else if (b.columns >= half) {
    tile<T, half, KH, KW, S, R>(b, x + b.columns - half, y + b.columns - half, half);
  } else {
    tile<T, half, KH, KW, S, R>(b, x, y, static_cast<int>(left));
  }
}

template <class T, int KH, int KW, int S>
void bands(const DepthwiseBlock<T>& b) {
  constexpr int R = S == 2 && registers == 16 ? 3 : tile_rows;
  const index step = b.row_step * b.pitch;
  index i = 0;
  const auto at = [&](index row, auto height) { band<T, KH, KW, S, height>(b, b.x + row * step, b.y + row * b.ldy); };
  for (; b.rows - i >= R && b.rows - i != small_rows; i += R) at(i, constant<R>{});
  for (; i < b.rows && b.rows >= small_rows; i += small_rows)  // the last one repeats rows of the one before
    at(i + small_rows <= b.rows ? i : b.rows - small_rows, constant<small_rows>{});
  for (; i < b.rows; i++) at(i, constant<1>{});
}

template <class T, int S>
void by_kernel(const DepthwiseBlock<T>& b) {
  if (b.kh == 3 && b.kw == 3) return bands<T, 3, 3, S>(b);
  if (b.kh == 5) return bands<T, 5, 0, S>(b);
  if (b.kh == 7) return bands<T, 7, 0, S>(b);
  bands<T, 0, 0, S>(b);
}

template <class T>
void block(const DepthwiseBlock<T>& b) {
  if (b.kh == 1 || b.tap_step == 1) {
    if (b.row_step == 1) return by_kernel<T, 1>(b);
    if (b.row_step == 2) return by_kernel<T, 2>(b);
  } else if (b.row_step == 1) {
    for (index phase = 0; phase < b.tap_step && phase < b.rows; phase++) {
      DepthwiseBlock<T> p = b;
      p.rows = (b.rows - phase + b.tap_step - 1) / b.tap_step;
      p.x = b.x + phase * b.pitch, p.y = b.y + phase * b.ldy;
      p.pitch = b.pitch * b.tap_step, p.ldy = b.ldy * b.tap_step, p.tap_step = 1;
      by_kernel<T, 1>(p);
    }
    return;
  }
  bands<T, 0, 0, 0>(b);
}

// ---- staging rows between zeros ------------------------------------------------------------------------------------
// Whole vectors are stored, past the end as well: a row has room for that, and what comes next is written next.
template <class T>
KONV_INLINE void zero(T* dst, index from, index to) {
  if (from < to) store<T>(dst + from, vec<T>{});  // mostly all there is; gcc makes a call of the loop
  for (from += lanes_of<T>; from < to; from += lanes_of<T>) store<T>(dst + from, vec<T>{});
}
template <class T>
KONV_INLINE void zero_rows(const FrameCopy<T>& m, T* dst, index rows, index width) {
  for (index r = 0; r < rows; r++) zero(dst + r * m.pitch, 0, width);
}

template <class T>
void copy1(const FrameCopy<T>& m) {
  constexpr int L = lanes_of<T>;
  const index total = m.left + m.count + m.right;
  T* first = m.dst + m.top * m.pitch;
  zero_rows(m, m.dst, m.top, total);
  zero_rows(m, first + m.rows * m.pitch, m.bottom, total);
  for (index r = 0; r < m.rows; r++) {
    T* dst = first + r * m.pitch;
    const T* src = m.src + r * m.src_pitch;
    zero(dst, 0, m.left);
    dst += m.left;
    index j = 0;
    for (; j + L <= m.count; j += L) store<T>(dst + j, load<T>(src + j));
    if (j < m.count) store<T>(dst + j, load_first<T>(src + j, static_cast<int>(m.count - j))), j += L;
    zero(dst, j, m.count + m.right);
  }
}

// Even (P = 0) or odd (P = 1) lanes of two vectors.
template <int P>
struct Every2nd {
  static constexpr int at(int i) { return 2 * i + P; }
};

template <class T>
void copy2(const FrameCopy<T>& m) {
  constexpr int L = lanes_of<T>;
  // Staged column left + j is image column j: with an odd margin the image's even columns are the odd staged ones.
  const index before_even = (m.left + 1) / 2, before_odd = m.left / 2;
  const index total = m.left + m.count + m.right, evens = (total + 1) / 2, odds = total / 2;
  const bool swap = m.left % 2;
  T* first = m.dst + m.top * m.pitch;
  for (int phase = 0; phase < 2; phase++) {
    T* at = m.dst + phase * m.half;
    zero_rows(m, at, m.top, evens);
    zero_rows(m, at + (m.top + m.rows) * m.pitch, m.bottom, evens);
  }
  for (index r = 0; r < m.rows; r++) {
    T* even = first + r * m.pitch;
    T* odd = even + m.half;
    const T* src = m.src + r * m.src_pitch;
    zero(even, 0, before_even);
    zero(odd, 0, before_odd);
    even += before_even, odd += before_odd;
    T* a = swap ? odd : even;  // where image columns 0, 2, 4 ... go
    T* b = swap ? even : odd;
    index j = 0;
    for (; j < m.count; j += 2 * L) {
      const index left = m.count - j;
      const bool whole = left >= 2 * L;
      const vec<T> u = left >= L ? load<T>(src + j) : load_first<T>(src + j, static_cast<int>(left));
      const vec<T> v = whole      ? load<T>(src + j + L)
                       : left > L ? load_first<T>(src + j + L, static_cast<int>(left - L))
                                  : vec<T>{};
      store<T>(a + j / 2, shuffle<Every2nd<0>, T>(u, v));
      store<T>(b + j / 2, shuffle<Every2nd<1>, T>(u, v));
    }
    zero(even, j / 2, evens - before_even);
    zero(odd, j / 2, odds - before_odd);
  }
}

template <class T>
constexpr DepthwiseTable<T> table_of() {
  return {lanes_of<T>, block<T>, copy1<T>, copy2<T>};
}

}  // namespace

extern constinit const Family<DepthwiseTable> depthwise = {table_of<float>(), table_of<double>()};

}  // namespace konv::KONV_ISA
