// The transforms of Winograd convolution F(mh x mw, rh x rw), from the matrices of toom_cook.hpp.
//   image rows                    s: transformed columns         v[xi][tile]
//   x[0]    ....................  s[0]   ....................    one tile a lane
//   x[1]    ....................  s[1]   ....................
//    :      |<-aw->|               :
//   x[ah-1] ....|<-aw->|........  s[ah-1]
//               mw apart
// 1. input_columns works on whole rows, a vector of columns at a time: no shuffles, and the rows are read where they
//    are. s is small (ah rows of one channel of some rows of tiles) and stays in L1.
// 2. input_tiles needs value j of every tile in one vector: 8 columns of each tile are loaded, wherever it begins, and
//    transposed in registers. Under a dilation the lanes lie side by side already.
// 3. weight: channels in lanes, done once when a weight is packed.
// 4. output: channels in lanes, m[tile][xi][width channels] -> z[pixel row][pixel column][channel lanes]. The gradient
//    of the weight needs the adjoints of 3 and 4.
#include "simd.hpp"
#include "table.hpp"
#include "toom_cook.hpp"

namespace konv::KONV_ISA {
namespace {

// ---- input ---------------------------------------------------------------------------------------------------------
template <class T, class F> void input_columns(const T* const* x, index first, index last, T* s, index pitch) {
  constexpr int A = F::A, L = lanes_of<T>;
  const T* row[A];
  KONV_UNROLL for (int i = 0; i < A; i++) row[i] = x[i];
  auto columns = [&](index q, auto&& get) KONV_INLINED {
    vec<T> d[A], o[A];
    KONV_UNROLL for (int i = 0; i < A; i++) d[i] = get(row[i] + q);
    multiply<T, F::input>(d, o);
    KONV_UNROLL for (int i = 0; i < A; i++) store<T>(s + i * pitch + q, o[i]);
  };
  index q = first;
  for (; q + L <= last; q += L) columns(q, load<T>);
  if (q < last && q > first) columns(last - L, load<T>);  // some twice: same bits
  else if (q < last) columns(q, [&](const T* p) KONV_INLINED { return load_first<T>(p, static_cast<int>(last - q)); });
}

// d[j][t] = value j of tile t, for 8 values of a vector of tiles.
template <class T, int L> KONV_INLINE void load_windows(const T* s, const index* window, vec<T, L>* d) {
  constexpr int R = L < 8 ? L : 8;  // transposed R x R at a time
  KONV_UNROLL for (int j = 0; j < 8; j += R) {
    KONV_UNROLL for (int t = 0; t < R; t++) {
      if constexpr (L == R) {
        d[j + t] = load<T, L>(s + window[t] + j);
      } else {
        const vec<T, R> a = load<T, R>(s + window[t]), b = load<T, R>(s + window[t + R]);
        d[t] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      }
    }
    transpose<T, L, R>(d + j);
  }
}

template <class T, class FH, class FW, int L = lanes_of<T>> void input_tiles(const WinogradTiles<T>& tiles) {
  static_assert(FW::A <= 8);
  if constexpr (L > 8)  // vectors half as long do half the work (1.0 to 1.2 times as fast)
    if (tiles.tiles <= 8) return input_tiles<T, FH, FW, 8>(tiles);
  const WinogradTiles<T> a = tiles;  // copies that no store changes
  Fetch ahead = *a.fetch;
  for (index q = 0; q < a.tiles; q += L) {
    const index t = q + L <= a.tiles || a.tiles < L ? q : a.tiles - L;  // some tiles twice: same bits
    for (int i = 0; i < FH::A; i++) {
      const T* s = a.s + i * a.pitch;
      for (index n = ahead.each; n > 0 && ahead.next < ahead.end; n--)
        __builtin_prefetch(static_cast<const char*>(ahead.base) + *ahead.next++);
      vec<T, L> d[8], o[FW::A];
      if (a.window) load_windows<T, L>(s, a.window + t, d);
      else KONV_UNROLL for (int j = 0; j < FW::A; j++) d[j] = load<T, L>(s + t + j * a.step);
      multiply<T, FW::input>(d, o);
      KONV_UNROLL for (int j = 0; j < FW::A; j++) store<T, L>(a.v + a.at[i * FW::A + j] + t, o[j]);
    }
  }
  a.fetch->next = ahead.next;
}

// ---- the others: channels in lanes ---------------------------------------------------------------------------------
// H d W^T (+ *start), columns of d first: d[i][j] lies at get(i, j), and put(i, j, value) takes the result.
template <class T, const auto& H, const auto& W, class Get, class Put>
KONV_INLINE void both_axes(Get&& get, Put&& put, const vec<T>* start = nullptr) {
  vec<T> half[W.columns][H.rows];
  KONV_UNROLL for (int j = 0; j < W.columns; j++) {
    vec<T> d[H.columns];
    KONV_UNROLL for (int i = 0; i < H.columns; i++) d[i] = load<T>(get(i, j));
    multiply<T, H>(d, half[j]);
  }
  KONV_UNROLL for (int i = 0; i < H.rows; i++) {
    vec<T> d[W.columns], o[W.rows];
    KONV_UNROLL for (int j = 0; j < W.columns; j++) d[j] = half[j][i];
    multiply<T, W>(d, o, start);
    KONV_UNROLL for (int j = 0; j < W.rows; j++) put(i, j, o[j]);
  }
}

template <class T, class FH, class FW> void weight(const T* taps, const index* at, T* u) {
  const auto tap = [&](int i, int j) KONV_INLINED { return taps + (i * FW::r + j) * lanes_of<T>; };
  const auto product = [&](int i, int j, vec<T> o) KONV_INLINED { store<T>(u + at[i * FW::A + j], o); };
  both_axes<T, FH::weight, FW::weight>(tap, product);
}

template <class T, class FH, class FW> void weight_adjoint(const T* d, index stride, T* taps) {
  const auto product = [&](int i, int j) KONV_INLINED { return d + (i * FW::A + j) * stride; };
  const auto tap = [&](int i, int j, vec<T> o) KONV_INLINED { store<T>(taps + (i * FW::r + j) * lanes_of<T>, o); };
  both_axes<T, FH::weight_adjoint, FW::weight_adjoint>(product, tap);
}

template <class T, class FH, class FW>
void output(const T* m, index width, index tiles, const T* bias, T* z, index pitch, index tile_step, index pixel_step,
            index columns) {
  constexpr int L = lanes_of<T>;
  const vec<T> start = load<T>(bias);
  for (index t = 0; t < tiles; t++, m += FH::A * FW::A * width, z += tile_step * L, columns -= tile_step) {
    const bool whole = (FW::m - 1) * pixel_step < columns;
    const auto product = [&](int i, int j) KONV_INLINED { return m + (i * FW::A + j) * width; };
    const auto pixel = [&](int i, int j, vec<T> o) KONV_INLINED {
      if (whole || j * pixel_step < columns) store<T>(z + (i * pitch + j * pixel_step) * L, o);
    };
    both_axes<T, FH::output, FW::output>(product, pixel, &start);
  }
}

template <class T, class FH, class FW>
void output_adjoint(const T* z, index pitch, index tile_step, index pixel_step, index tiles, T* y, index width,
                    index stride) {
  constexpr int L = lanes_of<T>;
  for (index t = 0; t < tiles; t++, z += tile_step * L, y += width) {
    const auto pixel = [&](int i, int j) KONV_INLINED { return z + (i * pitch + j * pixel_step) * L; };
    const auto product = [&](int i, int j, vec<T> o) KONV_INLINED { store<T>(y + (i * FW::A + j) * stride, o); };
    both_axes<T, FH::output_adjoint, FW::output_adjoint>(pixel, product);
  }
}

// ---- the table -----------------------------------------------------------------------------------------------------
template <class T, int MH, int MW, int RH, int RW, class FH = ToomCook<MH, RH>, class FW = ToomCook<MW, RW>>
constexpr WinogradTransform<T> transform() {
  WinogradTransform<T> t{};
  t.mh = MH, t.mw = MW, t.rh = RH, t.rw = RW;
  t.input_columns = input_columns<T, FH>, t.input_tiles = input_tiles<T, FH, FW>;
  t.weight = weight<T, FH, FW>, t.weight_adjoint = weight_adjoint<T, FH, FW>;
  t.output = output<T, FH, FW>, t.output_adjoint = output_adjoint<T, FH, FW>;
  return t;
}

template <class T>
constexpr WinogradTransform<T> transforms[] = {
    transform<T, 3, 3, 2, 2>(), transform<T, 4, 4, 2, 2>(), transform<T, 5, 5, 2, 2>(),  // r = 2
    transform<T, 2, 2, 3, 3>(), transform<T, 3, 3, 3, 3>(), transform<T, 4, 4, 3, 3>(),  // r = 3
    transform<T, 4, 5, 3, 3>(), transform<T, 5, 4, 3, 3>(), transform<T, 5, 5, 3, 3>(),
    transform<T, 6, 6, 3, 3>(), transform<T, 3, 3, 4, 4>(), transform<T, 5, 5, 4, 4>(),  // r = 4
    transform<T, 2, 2, 5, 5>(), transform<T, 4, 4, 5, 5>(),                              // r = 5
    transform<T, 2, 2, 7, 7>(),                                                          // r = 7
    transform<T, 1, 4, 1, 3>(), transform<T, 4, 1, 3, 1>(), transform<T, 1, 4, 1, 5>(),  // along one axis
    transform<T, 4, 1, 5, 1>(), transform<T, 1, 2, 1, 7>(), transform<T, 2, 1, 7, 1>(),
};
}  // namespace

extern constinit const Family<WinogradTable> winograd = {transforms<float>, transforms<double>};
}  // namespace konv::KONV_ISA
