// The transforms of Winograd convolution F(mh x mw, rh x rw), from the matrices of toom_cook.hpp.
//
//   image rows                    s: transformed columns         v[xi][tile]
//   x[0]    ....................  s[0]   ....................    one tile a lane
//   x[1]    ....................  s[1]   ....................
//    :      |<-aw->|               :
//   x[ah-1] ....|<-aw->|........  s[ah-1]
//               mw apart
//
// 1. input_columns works on whole rows, a vector of columns at a time: no shuffles, and the rows are read where they
//    are. s is small (ah rows of one channel of one row of tiles) and stays in L1.
// 2. input_rows needs value j of every tile in one vector: values mw apart. Vectors are deinterleaved in registers
//    (log2(mw) rounds of even/odd lanes); values j >= mw of tile t are values j-mw of tile t+1, one lane further.
//    Where a row holds few tiles, input_windows fills the lanes with tiles from anywhere: 8 columns each, then the same
//    deinterleaving by 8. Under a dilation, input_phases finds its lanes side by side.
// 3. weight: channels in lanes, done once when a weight is packed.
// 4. output: channels in lanes. The ah x aw products of a tile are read column by column and added to its mh x mw
//    outputs, which stay in registers (16 of them for F(4x4), beside about 12 for the column at work).
//
//   m[tile][xi][width channels] -> z[pixel row][pixel column][channel lanes]
#include "simd.hpp"
#include "table.hpp"
#include "toom_cook.hpp"

namespace konv::KONV_ISA {
namespace {

// ---- deinterleaving ------------------------------------------------------------------------------------------------
template <int L, int Odd>
struct EveryOther {
  static constexpr int at(int t) { return 2 * t + Odd; }
};
// Lane t wants element e = M*t + P of the concatenated vectors: the lanes found in vectors 0 and 1, then in vector K.
template <int L, int M, int P>
struct FromFirstTwo {
  static constexpr int at(int t) { return M * t + P < 2 * L ? M * t + P : 0; }
};
template <int L, int M, int P, int K>
struct FromVector {
  static constexpr int at(int t) { return (M * t + P) / L == K ? L + (M * t + P) % L : t; }
};

// d[p*Step][t] = element M*t + p of the M vectors v.
template <class T, int L, int M, int Step = 1>
KONV_INLINE void deinterleave(const vec<T, L>* v, vec<T, L>* d) {
  if constexpr (M == 1) {
    d[0] = v[0];
  } else if constexpr (M % 2 == 0) {
    vec<T, L> even[M / 2], odd[M / 2];
    KONV_UNROLL for (int k = 0; k < M / 2; k++) {
      even[k] = shuffle<EveryOther<L, 0>, T, L>(v[2 * k], v[2 * k + 1]);
      odd[k] = shuffle<EveryOther<L, 1>, T, L>(v[2 * k], v[2 * k + 1]);
    }
    deinterleave<T, L, M / 2, Step * 2>(even, d);
    deinterleave<T, L, M / 2, Step * 2>(odd, d + Step);
  } else {
    static_for<M>([&](auto p) KONV_INLINED {
      vec<T, L> r = shuffle<FromFirstTwo<L, M, p>, T, L>(v[0], v[1]);
      static_for<M>([&](auto k) KONV_INLINED {
        if constexpr (k >= 2) r = shuffle<FromVector<L, M, p, k>, T, L>(r, v[k]);
      });
      d[p * Step] = r;
    });
  }
}

// ---- input ---------------------------------------------------------------------------------------------------------
template <class T, class F>
KONV_INLINE void zero_columns(T* s, index pitch, index from, index to) {
  constexpr int L = lanes_of<T>;
  for (index q = from; q < to; q += L) {
    KONV_UNROLL for (int i = 0; i < F::A; i++)
      store<T>(s + i * pitch + q, vec<T>{});
    asm volatile("");  // a loop, not A calls of memset for a few bytes each
  }
}

template <class T, class F>
void input_columns(const T* const* x, index first, index last, index count, T* s, index pitch) {
  constexpr int A = F::A, L = lanes_of<T>;
  const T* row[A];
  KONV_UNROLL for (int i = 0; i < A; i++)
    row[i] = x[i];
  auto columns = [&](index q, auto&& get) KONV_INLINED {
    vec<T> d[A], o[A];
    KONV_UNROLL for (int i = 0; i < A; i++)
      d[i] = get(row[i] + q);
    input_transform<F, T>(d, o);
    KONV_UNROLL for (int i = 0; i < A; i++)
      store<T>(s + i * pitch + q, o[i]);
  };
  zero_columns<T, F>(s, pitch, 0, first);
  if (last - first >= L) {
    index q = first;
    for (; q + L <= last; q += L) columns(q, [](const T* p) KONV_INLINED { return load<T>(p); });
    if (q < last) columns(last - L, [](const T* p) KONV_INLINED { return load<T>(p); });  // some twice: same bits
  } else if (last > first) {
    const int n = static_cast<int>(last - first);
    columns(first, [n](const T* p) KONV_INLINED { return load_first<T>(p, n); });
  }
  zero_columns<T, F>(s, pitch, last, count);
}

template <class T, int L, class F>
KONV_INLINE void store_products(const vec<T, L>* o, int columns, const index* at, T* v) {
  static_for<F::A>([&](auto j) KONV_INLINED {
    if (j < F::A - 1 || columns == F::A) store<T, L>(v + at[j], o[j]);
  });
}

// L tiles side by side.
template <class T, int L, class F>
KONV_INLINE void input_row_group(const T* s, index pitch, int rows, int columns, const index* at, T* v) {
  constexpr int M = F::m, A = F::A;
  for (int i = 0; i < rows; i++, s += pitch, at += A) {
    vec<T, L> in[M], d[A], o[A];
    KONV_UNROLL for (int k = 0; k < M; k++)
      in[k] = load<T, L>(s + k * L);
    deinterleave<T, L, M>(in, d);
    static_for<A>([&](auto j) KONV_INLINED {
      struct NextTile {
        static constexpr int at(int t) { return t + 1; }
      };
      if constexpr (j >= M) d[j] = shuffle<NextTile, T, L>(d[j - M], splat<T, L>(s[M * (L - 1) + j]));
    });
    input_transform<F, T>(d, o);
    store_products<T, L, F>(o, columns, at, v);
  }
}

// Vectors of half and a quarter of the lanes (16 bytes at least) finish a row.
template <class T>
constexpr int half_lanes = lanes_of<T> / 2 * sizeof(T) >= 16 ? lanes_of<T> / 2 : lanes_of<T>;
template <class T>
constexpr int quarter_lanes = half_lanes<T> / 2 * sizeof(T) >= 16 ? half_lanes<T> / 2 : half_lanes<T>;

template <class T>
index padded_tiles(index tiles) {
  const index whole = tiles / lanes_of<T> * lanes_of<T>, rest = tiles - whole;
  if (rest == 0) return whole;
  return whole + (rest > half_lanes<T> ? lanes_of<T> : rest > quarter_lanes<T> ? half_lanes<T> : quarter_lanes<T>);
}

template <class T, class F>
void input_rows(const T* s, index pitch, index tiles, int rows, int columns, const index* at, T* v) {
  constexpr int L = lanes_of<T>;
  for (index t = 0; t < tiles; t += L, s += L * F::m, v += L) {
    const index rest = tiles - t;
    if (rest > half_lanes<T>) input_row_group<T, L, F>(s, pitch, rows, columns, at, v);
    else if (rest > quarter_lanes<T>) input_row_group<T, half_lanes<T>, F>(s, pitch, rows, columns, at, v);
    else input_row_group<T, quarter_lanes<T>, F>(s, pitch, rows, columns, at, v);
  }
}

// Phases of a dilation lie side by side: they are the lanes, and nothing needs to be shuffled.
template <class T, int L, class F>
KONV_INLINE void input_phase_group(const T* s, index pitch, index step, int rows, int columns, const index* at, T* v) {
  for (int i = 0; i < rows; i++, s += pitch, at += F::A) {
    vec<T, L> d[F::A], o[F::A];
    KONV_UNROLL for (int j = 0; j < F::A; j++)
      d[j] = load<T, L>(s + j * step);
    input_transform<F, T>(d, o);
    store_products<T, L, F>(o, columns, at, v);
  }
}

template <class T, class F>
void input_phases(const T* s, index pitch, index step, index tiles, int rows, int columns, const index* at, T* v) {
  constexpr int L = lanes_of<T>;
  for (index q = 0; q < tiles; q += L, s += L, v += L) {
    const index rest = tiles - q;
    if (rest > half_lanes<T>) input_phase_group<T, L, F>(s, pitch, step, rows, columns, at, v);
    else if (rest > quarter_lanes<T>) input_phase_group<T, half_lanes<T>, F>(s, pitch, step, rows, columns, at, v);
    else input_phase_group<T, quarter_lanes<T>, F>(s, pitch, step, rows, columns, at, v);
  }
}

constexpr int window_columns = 8;

// The windows of L tiles, one behind the other, in 8 vectors.
template <class T>
KONV_INLINE void load_windows(const T* s, const index* window, vec<T>* in) {
  constexpr int L = lanes_of<T>, P = window_columns;
  KONV_UNROLL for (int k = 0; k < P; k++) {
    if constexpr (L == 2 * P) {
      const vec<T, P> a = load<T, P>(s + window[2 * k]), b = load<T, P>(s + window[2 * k + 1]);
      in[k] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    } else {
      static_assert(P % L == 0);
      in[k] = load<T>(s + window[k * L / P] + k * L % P);
    }
  }
}

template <class T, class F>
void input_windows(const T* s, index pitch, const index* window, index tiles, int rows, int columns, const index* at,
                   T* v) {
  constexpr int L = lanes_of<T>;
  static_assert(F::A <= window_columns);
  for (index t = 0; t < tiles; t += L, window += L, v += L)
    for (int i = 0; i < rows; i++) {
      vec<T> in[window_columns], d[window_columns], o[F::A];
      load_windows<T>(s + i * pitch, window, in);
      deinterleave<T, L, window_columns>(in, d);
      input_transform<F, T>(d, o);
      store_products<T, L, F>(o, columns, at + i * F::A, v);
    }
}

// ---- weight --------------------------------------------------------------------------------------------------------
template <class T, class FH, class FW>
void weight(const T* taps, int rows, int columns, const index* at, T* u) {
  constexpr int L = lanes_of<T>;
  vec<T> half[FW::r][FH::A];  // columns transformed
  KONV_UNROLL for (int b = 0; b < FW::r; b++) {
    vec<T> w[FH::r];
    KONV_UNROLL for (int a = 0; a < FH::r; a++)
      w[a] = load<T>(taps + (a * FW::r + b) * L);
    weight_transform<FH, T>(w, half[b]);
  }
  for (int i = 0; i < rows; i++) {
    vec<T> w[FW::r], o[FW::A];
    KONV_UNROLL for (int b = 0; b < FW::r; b++)
      w[b] = half[b][i];
    weight_transform<FW, T>(w, o);
    store_products<T, L, FW>(o, columns, at + i * FW::A, u);
  }
}

// ---- output --------------------------------------------------------------------------------------------------------
// Column j of a tile's products, transformed.
template <class T, class FH, class FW>
KONV_INLINE void output_column(const T* m, index width, int j, vec<T>* q) {
  vec<T> d[FH::A];
  KONV_UNROLL for (int i = 0; i < FH::A; i++)
    d[i] = load<T>(m + (i * FW::A + j) * width);
  output_transform<FH, T>(d, q);
}

template <class T, class F, int J>
KONV_INLINE void add_column(vec<T>* y, vec<T> q) {
  static_for<F::m>([&](auto i) KONV_INLINED {
    bool fresh = false;
    accumulate<T>(y[i], fresh, OutputCoefficient<F, i, J>{}, q);
  });
}

template <class T, class FH, class FW>
void output(const T* m, index width, index tiles, const T* bias, T* z, index pitch, index tile_step, index pixel_step,
            index columns) {
  constexpr int L = lanes_of<T>, MH = FH::m, MW = FW::m;
  const vec<T> start = load<T>(bias);
  for (index t = 0; t < tiles; t++, m += FH::A * FW::A * width, z += tile_step * L, columns -= tile_step) {
    vec<T> y[MH][MW];
    KONV_UNROLL for (int i = 0; i < MH; i++) KONV_UNROLL
      for (int j = 0; j < MW; j++) y[i][j] = start;
    static_for<FW::A>([&](auto j) KONV_INLINED {
      if constexpr (FW::opens_pair(j)) {
        vec<T> p[MH], q[MH];
        output_column<T, FH, FW>(m, width, j, p);
        output_column<T, FH, FW>(m, width, j + 1, q);
        KONV_UNROLL for (int i = 0; i < MH; i++) {
          add_column<T, FW, j>(y[i], p[i] + q[i]);
          add_column<T, FW, j + 1>(y[i], p[i] - q[i]);
        }
      } else if constexpr (!FW::closes_pair(j)) {
        vec<T> p[MH];
        output_column<T, FH, FW>(m, width, j, p);
        KONV_UNROLL for (int i = 0; i < MH; i++)
          add_column<T, FW, j>(y[i], p[i]);
      }
    });
    const bool whole = (MW - 1) * pixel_step < columns;
    KONV_UNROLL for (int i = 0; i < MH; i++) KONV_UNROLL
      for (int j = 0; j < MW; j++)
        if (whole || j * pixel_step < columns) store<T>(z + (i * pitch + j * pixel_step) * L, y[i][j]);
  }
}

// ---- the weight's gradient -----------------------------------------------------------------------------------------
template <class T, class FH, class FW>
void gradient_tiles(const T* z, index pitch, index tile_step, index pixel_step, index tiles, T* y, index width,
                    index stride) {
  constexpr int L = lanes_of<T>;
  for (index t = 0; t < tiles; t++, z += tile_step * L, y += width) {
    vec<T> half[FW::m][FH::A];  // columns transformed
    KONV_UNROLL for (int j = 0; j < FW::m; j++) {
      vec<T> d[FH::m];
      KONV_UNROLL for (int i = 0; i < FH::m; i++)
        d[i] = load<T>(z + (i * pitch + j * pixel_step) * L);
      output_adjoint<FH, T>(d, half[j]);
    }
    KONV_UNROLL for (int i = 0; i < FH::A; i++) {
      vec<T> d[FW::m], o[FW::A];
      KONV_UNROLL for (int j = 0; j < FW::m; j++)
        d[j] = half[j][i];
      output_adjoint<FW, T>(d, o);
      KONV_UNROLL for (int j = 0; j < FW::A; j++)
        store<T>(y + (i * FW::A + j) * stride, o[j]);
    }
  }
}

template <class T, class FH, class FW>
void gradient_taps(const T* d, index stride, T* taps) {
  constexpr int L = lanes_of<T>;
  vec<T> half[FW::A][FH::r];
  KONV_UNROLL for (int j = 0; j < FW::A; j++) {
    vec<T> u[FH::A];
    KONV_UNROLL for (int i = 0; i < FH::A; i++)
      u[i] = load<T>(d + (i * FW::A + j) * stride);
    weight_adjoint<FH, T>(u, half[j]);
  }
  KONV_UNROLL for (int a = 0; a < FH::r; a++) {
    vec<T> u[FW::A], w[FW::r];
    KONV_UNROLL for (int j = 0; j < FW::A; j++)
      u[j] = half[j][a];
    weight_adjoint<FW, T>(u, w);
    KONV_UNROLL for (int b = 0; b < FW::r; b++)
      store<T>(taps + (a * FW::r + b) * L, w[b]);
  }
}

// ---- the table -----------------------------------------------------------------------------------------------------
template <class T, int MH, int MW, int RH, int RW>
constexpr WinogradTransform<T> transform() {
  using FH = ToomCook<MH, RH>;
  using FW = ToomCook<MW, RW>;
  return {MH,
          MW,
          RH,
          RW,
          input_columns<T, FH>,
          input_rows<T, FW>,
          input_phases<T, FW>,
          input_windows<T, FW>,
          weight<T, FH, FW>,
          output<T, FH, FW>,
          gradient_tiles<T, FH, FW>,
          gradient_taps<T, FH, FW>};
}

template <class T>
constexpr WinogradTransform<T> transforms[] = {
    transform<T, 3, 3, 2, 2>(), transform<T, 4, 4, 2, 2>(), transform<T, 5, 5, 2, 2>(),  // r = 2
    transform<T, 2, 2, 3, 3>(), transform<T, 4, 4, 3, 3>(), transform<T, 6, 6, 3, 3>(),  // r = 3
    transform<T, 3, 3, 4, 4>(), transform<T, 5, 5, 4, 4>(),                              // r = 4
    transform<T, 2, 2, 5, 5>(), transform<T, 4, 4, 5, 5>(),                              // r = 5
    transform<T, 2, 2, 7, 7>(),                                                          // r = 7
    transform<T, 1, 4, 1, 3>(), transform<T, 4, 1, 3, 1>(), transform<T, 1, 4, 1, 5>(),  // along one axis
    transform<T, 4, 1, 5, 1>(), transform<T, 1, 2, 1, 7>(), transform<T, 2, 1, 7, 1>(),
};

template <class T>
constexpr WinogradTable<T> table_of() {
  return {lanes_of<T>, sizeof(transforms<T>) / sizeof(transforms<T>[0]), transforms<T>, padded_tiles<T>};
}

}  // namespace

extern constinit const Family<WinogradTable> winograd = {table_of<float>(), table_of<double>()};

}  // namespace konv::KONV_ISA
