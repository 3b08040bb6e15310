// Depthwise register tile: R output rows at once, pixels of a row in the lanes.
//
// A depthwise sum has no second channel to share a loaded vector with, so the rows share it. For one column b of the
// kernel, the R output rows of a tile need (R-1)*stride + kh image rows; each is loaded once and feeds every tap of
// that column (picture: kh = 3, stride 1, R = 3):
//     image row   0   1   2   3   4          5 loads, 9 multiply-adds
//     output 0    w0  w1  w2
//     output 1        w0  w1  w2
//     output 2            w0  w1  w2
// The R sums, the weights of the column and one row stay in registers (7 + 7 + 1 of 16 for 7x7). The loop over b is not
// unrolled: the weights of all columns would not fit. Kernels of other heights run in pieces of up to 4 rows.
// Columns: offset[b] says where column b of the kernel starts in a staged row, so that column strides and dilations are
// the driver's business; but a stride of 2 both ways picks its columns while it loads them (on 14x14 images 1.2 to 1.37
// times as fast as splitting rows before). The last vector of a row overlaps the one before and writes the same again.
// Where rows are the image's own, vectors that reach over its left or right edge are summed apart, with zeros there,
// and a row above or below it is a row of zeros.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

constexpr int tile_rows = 7, small_rows = 4;

// Every second of 2L neighbours, by a shuffle inside each 16 bytes; the places of its lanes in their order; and for
// each lane that of the one before.
template <class T, int L, int First = 0> struct EverySecond {
  static constexpr int E = 16 / sizeof(T), half = E / 2;
  static constexpr int at(int i) { return First + i / E * E + (i % E < half ? i % E * 2 : L + (i % E - half) * 2); }
};
template <class T, int L> struct InOrder : EverySecond<T, L> {
  using EverySecond<T, L>::E, EverySecond<T, L>::half;
  static constexpr int at(int q) { return q % (L / 2) / half * E + q % half + (q < L / 2 ? 0 : half); }
};
template <class T, int L> struct Before : InOrder<T, L> {
  using EverySecond<T, L>::E, EverySecond<T, L>::half;
  static constexpr int at(int i) {
    const int q = (i % E < half ? 0 : L / 2) + i / E * half + i % half;
    return InOrder<T, L>::at(q > 0 ? q - 1 : 0);  // the first has none
  }
};

// C: column_step.
template <class T, int L, int C> KONV_INLINE vec<T, L> load_columns(const T* p) {
  if constexpr (C == 1) return load<T, L>(p);
  else return shuffle<EverySecond<T, L>, T, L>(load<T, L>(p), load<T, L>(p + L));
}

// Of the columns that it brings from column `at` on, those in [0, width).
template <class T, int L, int C> KONV_INLINE auto inside(index at, index width) {
  vec<T, L> lane;
  KONV_UNROLL for (int i = 0; i < L; i++) lane[i] = static_cast<T>(C == 1 ? i : EverySecond<T, L>::at(i));
  return (lane >= splat<T, L>(static_cast<T>(-at))) & (lane < splat<T, L>(static_cast<T>(width - at)));
}

// Row r of the `rows` that a tile sees, or zeros where it lies outside of the image.
template <class T, int KH, int C>
KONV_INLINE const T* seen_row(const DepthwiseBlock<T>& b, const T* x, int r, int rows) {
  if constexpr (KH != 3 && (KH != 5 || C == 1)) return x;  // never the image's own
  return (r < KH / 2 && b.above > r) || (rows - 1 - r < KH / 2 && b.below > rows - 1 - r) ? no_sums<T> : x;
}

// acc[i] += the columns of KH kernel rows from `row` on. S: row_step. Edge: x is column `left`, some may lie outside.
template <class T, int L, int KH, int KW, int S, int C, bool Edge, int R>
KONV_INLINE void add_rows(vec<T, L> (&acc)[R], const DepthwiseBlock<T>& b, const T* x, index row, index left = 0) {
  constexpr int rows = (R - 1) * S + KH;
  const index kw = KW > 0 ? KW : b.kw;
  const auto column = [&](index t) KONV_INLINED {
    vec<T, L> tap[KH];
    KONV_UNROLL for (int a = 0; a < KH; a++) tap[a] = splat<T, L>(b.w[(row + a) * kw + t]);
    [[maybe_unused]] const auto kept = inside<T, L, C>(left + b.offset[t], b.width);
    const T* from = x + b.offset[t] + row * b.pitch;
    KONV_UNROLL for (int r = 0; r < rows; r++, from += b.pitch) {
      vec<T, L> v = load_columns<T, L, C>(seen_row<T, KH, C>(b, from, r, rows));
      if constexpr (Edge) v = kept ? v : vec<T, L>{};
      KONV_UNROLL for (int i = 0; i < R; i++) {
        const int a = r - i * S;
        if (a >= 0 && a < KH) acc[i] += tap[a] * v;
      }
    }
  };
  if constexpr (KW > 0) KONV_UNROLL for (int t = 0; t < KW; t++) column(t);
  else _Pragma("GCC unroll 1") for (index t = 0; t < kw; t++) column(t);
}

// The same of 3x3 neighbours with a step of 2 both ways, row by row: the last two columns come from the same vectors,
// the first is the last one's neighbour. Beside one column of padding, those are whole cache lines of most images.
template <class T, int L, bool Edge, int R>
KONV_INLINE void add_every_second(vec<T, L> (&acc)[R], const DepthwiseBlock<T>& b, const T* x, index left) {
  constexpr int rows = 2 * R + 1;
  vec<T, L> tap[9];
  KONV_UNROLL for (int t = 0; t < 9; t++) tap[t] = splat<T, L>(b.w[t]);
  KONV_UNROLL for (int r = 0; r < rows; r++, x += b.pitch) {
    const T* from = seen_row<T, 3, 2>(b, x, r, rows);
    const vec<T, L> p = load<T, L>(from + 1), q = load<T, L>(from + 1 + L);
    vec<T, L> v[3] = {{}, shuffle<EverySecond<T, L>, T, L>(p, q), shuffle<EverySecond<T, L, 1>, T, L>(p, q)};
    v[0] = shuffle<Before<T, L>, T, L>(v[2], v[2]), v[0][0] = *from;
    KONV_UNROLL for (int t = 0; t < 3; t++) {
      if constexpr (Edge) v[t] = inside<T, L, 2>(left + t, b.width) ? v[t] : vec<T, L>{};
      KONV_UNROLL for (int i = 0; i < R; i++) {
        const int a = r - 2 * i;
        if (a >= 0 && a < 3) acc[i] += tap[3 * a + t] * v[t];
      }
    }
  }
}

// KH 0: any height; KW 3: three columns, unrolled.
template <class T, int L, int KH, int KW, int S, int C, int R, bool Edge = false>
KONV_INLINE void tile(const DepthwiseBlock<T>& b, const T* x, T* y, int n, index left = 0) {
  vec<T, L> acc[R];
  KONV_UNROLL for (int i = 0; i < R; i++) acc[i] = splat<T, L>(b.bias);
  if constexpr (KW == 3 && C == 2) {
    add_every_second<T, L, Edge>(acc, b, x, left);
  } else if constexpr (KH > 0) {
    add_rows<T, L, KH, KW, S, C, Edge>(acc, b, x, 0, left);
  } else {
    index a = 0;
    for (; a + 4 <= b.kh; a += 4) add_rows<T, L, 4, 0, S, C, false>(acc, b, x, a);
    if (b.kh - a >= 2) add_rows<T, L, 2, 0, S, C, false>(acc, b, x, a), a += 2;
    if (b.kh > a) add_rows<T, L, 1, 0, S, C, false>(acc, b, x, a);
  }
  if constexpr (C == 2) KONV_UNROLL for (int i = 0; i < R; i++) acc[i] = shuffle<InOrder<T, L>, T, L>(acc[i], acc[i]);
  KONV_UNROLL for (int i = 0; i < R; i++, y += b.y_pitch) n == L ? store<T, L>(y, acc[i])
                                                                     : store_first<T, L>(y, acc[i], n);
}

template <class T> KONV_INLINE void fetch(const T* p, index count) {
  for (index i = 0; i < count; i += 64 / index{sizeof(T)}) __builtin_prefetch(p + i);
}

// R output rows, all columns.
template <class T, int KH, int KW, int S, int C, int R>
__attribute__((noinline)) void band(const DepthwiseBlock<T>& b, const T* x, T* y) {
  constexpr int L = lanes_of<T>, half = L * sizeof(T) > 16 ? L / 2 : L;
  const T* next = b.next ? b.next + (y - b.y) * S * C : nullptr;
  index q = 0;
  for (; q + L <= b.columns; q += L) {
    if (next) {
      fetch(next + q * R * S * C, L * R * S * C);
      fetch(y + R * b.y_pitch + q * R, L * R);
    }
    tile<T, L, KH, KW, S, C, R>(b, x + C * q, y + q, L);
  }
  // What is left: the last vector, or half of one, of the row; of a shorter row, some of its lanes.
  const auto last = [&](auto w) KONV_INLINED {
    const index at = b.columns < w ? 0 : b.columns - w, count = b.columns - at;
    tile<T, w, KH, KW, S, C, R>(b, x + C * at, y + at, static_cast<int>(count));
  };
  if (b.columns - q > half) last(constant<L>{});
  else if (b.columns > q) last(constant<half>{});
}

// f(row, height) for bands of rows, the last of which may repeat rows of the one before.
template <class F> KONV_INLINE void in_bands(index rows, F&& f) {
  for (index i = 0, left; (left = rows - i) > 0;) {
    const auto band = [&](auto height) KONV_INLINED { f(left < height ? rows - height : i, height), i += height; };
    if (rows >= tile_rows && left > small_rows && left != 2 * small_rows) band(constant<tile_rows>{});
    else if (rows >= small_rows) band(constant<small_rows>{});
    else band(constant<1>{});
  }
}

template <class T, int KH, int KW, int S, int C> void bands(const DepthwiseBlock<T>& b) {
  in_bands(b.rows, [&](index row, auto height) KONV_INLINED {
    band<T, KH, KW, S, C, height>(b, b.x + row * S * b.pitch, b.y + row * b.y_pitch);
  });
}

// Whole vectors from column q up to `end` that see an edge of the image.
template <class T, int KH, int KW, int S, int C, int R>
__attribute__((noinline)) void edge(const DepthwiseBlock<T>& b, const T* x, T* y, index q, index end) {
  constexpr int L = lanes_of<T>;
  for (; q < end; q += L) tile<T, L, KH, KW, S, C, R, true>(b, x + C * q, y + q, L, b.left + C * q);
}

template <class T, int KH, int KW, int S, int C> void image_bands(const DepthwiseBlock<T>& b) {
  constexpr int L = lanes_of<T>;
  const index seen = (b.width - b.left - b.offset[b.kw - 1] - 1) / C + 1;  // columns up to the right edge
  const index left = b.left < 0 ? round_up(ceil_div(-b.left, C), L) : 0;
  const index right = seen < b.columns ? b.columns - round_up(b.columns - seen, L) : b.columns;
  DepthwiseBlock<T> inner = b;
  inner.columns = right - left;
  in_bands(b.rows, [&](index row, auto height) KONV_INLINED {
    const T* x = b.x + row * S * b.pitch;
    T* y = b.y + row * b.y_pitch;
    inner.above = b.above - row * S, inner.below = b.below - (b.rows - row - height) * S;
    edge<T, KH, KW, S, C, height>(inner, x, y, 0, left);
    band<T, KH, KW, S, C, height>(inner, x + C * left, y + left);
    edge<T, KH, KW, S, C, height>(inner, x, y, right, b.columns);
  });
}

// f(b.row_step, b), with tap_step 1. Dilated rows at stride 1 interleave such problems; other steps share no rows.
template <class Rows, class F> KONV_INLINE void by_steps(const Rows& b, F&& f) {
  const bool neighbours = b.kh == 1 || b.tap_step == 1;
  if (neighbours && b.row_step == 1) return f(constant<1>{}, b);
  if (neighbours && b.row_step == 2) return f(constant<2>{}, b);
  const index apart = b.row_step == 1 ? b.tap_step : b.rows;
  for (index phase = 0; phase < apart && phase < b.rows; phase++) {
    Rows p = b;
    p.rows = ceil_div(b.rows - phase, apart);
    p.x = b.x + phase * b.row_step * b.pitch, p.y = b.y + phase * b.y_pitch;
    p.pitch = b.pitch * b.tap_step, p.y_pitch = b.y_pitch * apart, p.tap_step = p.row_step = 1;
    f(constant<1>{}, p);
  }
}

template <class T> void block(const DepthwiseBlock<T>& b) {
  by_steps(b, [](auto steps, const DepthwiseBlock<T>& p) {
    const auto sized = [&](auto columns) {
      if (p.kh == 3 && p.kw == 3 && (columns == 1 || p.offset[1] == 1)) bands<T, 3, 3, steps, columns>(p);
      else if (p.kh == 5) bands<T, 5, 0, steps, columns>(p);
      else if (p.kh == 7) bands<T, 7, 0, steps, columns>(p);
      else bands<T, 0, 0, steps, columns>(p);
    };
    if constexpr (steps == 2)
      if (p.column_step == 2) return sized(constant<2>{});
    sized(constant<1>{});
  });
}

template <class T> void image_block(const DepthwiseBlock<T>& b) {
  if (b.kh == 5) image_bands<T, 5, 0, 2, 2>(b);
  else if (b.row_step == 1) image_bands<T, 3, 3, 1, 1>(b);
  else if (b.column_step == 1) image_bands<T, 3, 3, 2, 1>(b);
  else image_bands<T, 3, 3, 2, 2>(b);
}

// ---- the gradient of the weight -------------------------------------------------------------------------------------
// R rows of gy are held in registers, each image vector is loaded once and feeds every tap of its kernel column; lanes
// are summed at the end of the block. Lanes past the end of a row are zeros in both operands: an infinity next to the
// row must not meet a zero, and gy and x may be the caller's own memory, which is not read past its end.
template <int L, int D> struct Rotate {
  static constexpr int at(int i) { return (i + D) % L; }
};
template <class T, int D = lanes_of<T> / 2> KONV_INLINE T lane_sum(vec<T> v) {
  if constexpr (D == 0) return v[0];
  else return lane_sum<T, D / 2>(v + shuffle<Rotate<lanes_of<T>, D>, T>(v, v));
}

// acc += a vector of columns from q on, all rows, R of gy at a time; n columns of the Tail. S: row_step; tap_step is 1.
template <class T, int P, int Q, int S, bool Tail>
KONV_INLINE void add_columns(vec<T> (&acc)[P][Q], const DepthwiseGradient<T>& g, const T* x, index q,
                             const index* offset, int n) {
  const auto columns = [&](const T* p) KONV_INLINED {
    if constexpr (Tail) return load_first<T>(p, n);
    else return load<T>(p);
  };
  index done = 0;
  const auto rows = [&]<int R>(constant<R>) KONV_INLINED {
    vec<T> y[R];
    KONV_UNROLL for (int i = 0; i < R; i++) y[i] = columns(g.y + q + (done + i) * g.y_pitch);
    KONV_UNROLL for (int b = 0; b < Q; b++) {
      const T* column = x + q + done * g.row_step * g.pitch + offset[b];
      KONV_UNROLL for (int r = 0; r < (R - 1) * S + P; r++) {
        const vec<T> v = columns(column + r * g.pitch);
        KONV_UNROLL for (int i = 0; i < R; i++) {
          const int a = r - i * S;
          if (a >= 0 && a < P) acc[a][b] += y[i] * v;
        }
      }
    }
    done += R;
  };
  while (done + 4 <= g.rows) rows(constant<4>{});
  if (g.rows - done >= 2) rows(constant<2>{});
  if (g.rows > done) rows(constant<1>{});
}

// P kernel rows from `row` on, every column, Q at a time.
template <class T, int P, int Q, int S> __attribute__((noinline)) void taps(const DepthwiseGradient<T>& g, index row) {
  constexpr int L = lanes_of<T>;
  const index whole = g.columns / L * L;
  const T* x = g.x + row * g.tap_step * g.pitch;
  for (index b = 0; b < g.kw; b += Q) {
    vec<T> acc[P][Q] = {};
    for (index q = 0; q < whole; q += L) add_columns<T, P, Q, S, false>(acc, g, x, q, g.offset + b, L);
    if (whole < g.columns)
      add_columns<T, P, Q, S, true>(acc, g, x, whole, g.offset + b, static_cast<int>(g.columns - whole));
    T* d = g.d + (row * g.kw + b) * g.d_step;
    KONV_UNROLL for (int a = 0; a < P; a++) KONV_UNROLL for (int c = 0; c < Q; c++)
        d[(a * g.kw + c) * g.d_step] += lane_sum<T>(acc[a][c]);
  }
}

template <class T> void gradient(const DepthwiseGradient<T>& all) {
  by_steps(all, [](auto steps, const DepthwiseGradient<T>& g) {
    if (g.kh == 7) return taps<T, 7, 1, steps>(g, 0);
    if (g.kh == 5) return taps<T, 5, 1, steps>(g, 0);
    index a = 0;
    for (; a + 3 <= g.kh; a += 3) g.kw % 3 == 0 ? taps<T, 3, 3, steps>(g, a) : taps<T, 3, 1, steps>(g, a);
    for (; a < g.kh; a++) taps<T, 1, 1, steps>(g, a);
  });
}

// ---- channels in the lanes ------------------------------------------------------------------------------------------
// R neighbours of a row, the first one's window from (row, column) of the image on, share the taps. KW taps of a row
// stay in registers, and each cell is loaded once for all of them (the picture above, turned by 90 degrees), which is
// 1.05 to 1.6 times as fast as tap by tap (KW 0: other kernels). S: column_step. Padding is left out.
template <class T, int KW, int S, int R>
__attribute__((noinline)) void neighbours(const DepthwiseChannels<T>& c, index row, index column, T* y) {
  constexpr int L = lanes_of<T>;
  const T* w = c.w;
  const index step = c.column_step;
  const auto inside = [&, width = std::size_t(c.width)](index at) KONV_INLINED { return std::size_t(at) < width; };
  vec<T> acc[R];
  KONV_UNROLL for (int i = 0; i < R; i++) acc[i] = load<T>(c.bias);
  for (index a = 0; a < c.kh; a++, row += c.tap_row, w += c.kw * L) {
    if (row < 0 || row >= c.height) continue;
    const index cell = row * c.width + column;
    if constexpr (KW > 0) {
      vec<T> tap[KW];
      KONV_UNROLL for (int b = 0; b < KW; b++) tap[b] = load<T>(w + b * L);
      KONV_UNROLL for (int j = 0; j < (R - 1) * S + KW; j++) {
        if (!inside(column + j)) continue;
        const vec<T> v = load<T>(c.x + (cell + j) * L);
        KONV_UNROLL for (int i = 0; i < R; i++) {
          const int b = j - i * S;
          if (b >= 0 && b < KW) acc[i] += tap[b] * v;
        }
      }
    } else {
      for (index b = 0, at = column; b < c.kw; b++, at += c.tap_column) {
        const vec<T> tap = load<T>(w + b * L);
        const T* x = c.x + (cell + at - column) * L;
        const auto add = [&](int i) KONV_INLINED { acc[i] += tap * load<T>(x + i * step * L); };
        if (inside(at) && inside(at + (R - 1) * step)) KONV_UNROLL for (int i = 0; i < R; i++) add(i);
        else KONV_UNROLL for (int i = 0; i < R; i++) if (inside(at + i * step)) add(i);
      }
    }
  }
  KONV_UNROLL for (int i = 0; i < R; i++) store<T>(y + i * L, acc[i]);
}

template <class T, int KW, int S> void channel_rows(const DepthwiseChannels<T>& c) {
  constexpr int most = 7;
  T* y = c.y;
  for (index i = 0; i < c.rows; i++)
    for (index q = 0, n; q < c.columns; q += n, y += n * lanes_of<T>) {
      n = next_group(c.columns - q, most);
      static_for<most>([&](auto r) {
        if (n == r + 1) neighbours<T, KW, S, r + 1>(c, i * c.row_step - c.top, q * c.column_step - c.left, y);
      });
    }
}

template <class T> void channels(const DepthwiseChannels<T>& c) {
  auto* rows = channel_rows<T, 0, 0>;
  static_for<3>([&](auto i) {
    constexpr int kw = 3 + 2 * i;
    if (c.kw == kw && c.tap_column == 1 && c.column_step == 1) rows = channel_rows<T, kw, 1>;
    if (c.kw == kw && c.tap_column == 1 && c.column_step == 2) rows = channel_rows<T, kw, 2>;
  });
  rows(c);
}

template <class T> constexpr DepthwiseTable<T> kernels{lanes_of<T>, block<T>, image_block<T>, gradient<T>, channels<T>};
}  // namespace

extern constinit const Family<DepthwiseTable> depthwise = {kernels<float>, kernels<double>};
}  // namespace konv::KONV_ISA
