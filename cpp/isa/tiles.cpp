// Two register tiles: direct convolution, Winograd's products, the weight's gradient; for all types and vector widths.
//
// Output-lane: lanes are output channels, columns (pixels, Winograd tiles) are broadcast. A broadcast takes one value
// from anywhere, so columns and steps of k may lie at any distances in an image: windows are read where they are.
//            v[k][t], or x[column[t] + offset[k]]     t = 0 .. NT-1 (see columns_beside)
//           +----------------------
//   u[k][l] | m[t][l] += u[k][l] * v[k][t]        NV vectors of l; NT * NV sums in registers,
//           |                                     NV loads and NT broadcasts for each k
// Pixel-lane: lanes are neighbouring pixels, weights are broadcast, and a table of offsets says where tap k lies.
//            x[offset[k] + q]   q = 0 .. NV*L-1
//           +----------------------
//   w[k][r] | y[r][q] += w[k][r] * x[offset[k] + q]
// Both add the products of one output in the order of k, from a given value on: cutting the sum keeps its bits.
// Pairs: every value of u, v, w and x is two numbers of bfloat16, every product the sum of theirs, which AVX512-BF16
// adds by one instruction. All else is as for float.
//
// Registers (of 32, of 16): output-lane 28 + 2 + 1, 12 + 2 + 1; pixel-lane at most 27 + 3 + 1, 12 + 3 + 1.
// One broadcast feeds NV fused multiply-adds, one vector feeds NT or MR of them, so the two load ports keep ahead of
// the multipliers. Sources: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 2008,
// section 6; the table of offsets is M. Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

constexpr int least(int a, int b) { return a < b ? a : b; }

// Integers wrap, which C++ promises for unsigned ones alone. The instruction for pairs takes denormal numbers for
// zeros; it stands here as assembly because only some CPUs of this instruction set have it.
template <class T, bool Pairs = false> KONV_INLINE vec<T> add_product(vec<T> sum, vec<T> a, vec<T> b) {
  if constexpr (Pairs) {
#if defined(__AVX512F__)
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else
    using bits = vec<std::uint32_t>;
    sum += (vec<T>)((bits)a & 0xffff0000) * (vec<T>)((bits)b & 0xffff0000);
    return sum + (vec<T>)((bits)a << 16) * (vec<T>)((bits)b << 16);
#endif
  } else if constexpr (__is_same(T, index)) {
    using bits = vec<std::uint64_t>;
    return (vec<T>)((bits)sum + (bits)a * (bits)b);
  }
  return sum + a * b;
}

// ---- output-lane ---------------------------------------------------------------------------------------------------
constexpr int o_columns = registers == 32 ? 14 : 6;  // of one or two vectors of output channels
constexpr int columns_beside(int nv) { return nv < 3 ? o_columns : registers == 32 ? 9 : 4; }

// What a tile of NT columns and W output channels reads at one k, and where its sums lie. Streamed weights come from L2
// or beyond; others are used again from L1, or were fetched ahead.
template <class T, int NT, int W> struct Streamed {
  static constexpr bool prefetch = true;
  const T *u, *v;
  index pitch;
  KONV_INLINE T at(int t) const { return v[t]; }
  KONV_INLINE const T* weights() const { return u; }
  KONV_INLINE index row(int t) const { return t; }
  KONV_INLINE void next() { u += W, v += pitch; }
};
template <class T, int NT, int W> struct Gathered {
  static constexpr bool prefetch = false;
  const T *u, *v;
  const Place *column, *step;
  KONV_INLINE T at(int t) const { return v[t]; }
  KONV_INLINE const T* weights() const { return u + step->row * W; }
  KONV_INLINE index row(int t) const { return column[t].row; }
  KONV_INLINE void next() { step++, v += NT; }
};
template <class T, int NT, int W> struct Scattered : Gathered<T, NT, W> {
  const T* x[NT];
  Scattered(const T* u, const T* all, const Place* column, const Place* step)
      : Gathered<T, NT, W>{u, all, column, step} {
    KONV_UNROLL for (int t = 0; t < NT; t++) x[t] = all + column[t].x;
  }
  KONV_INLINE T at(int t) const { return x[t][this->step->x]; }
  KONV_INLINE void next() { this->step++; }
};

template <class T, bool Pairs, int NT, int NV, template <class, int, int> class Side, class... From>
__attribute__((noinline)) void output_tile(const OutputLane<T>& to, From... from) {
  constexpr int L = lanes_of<T>;
  Side<T, NT, NV * L> side{to.u, from...};
  vec<T> sum[NT][NV];
  KONV_UNROLL for (int t = 0; t < NT; t++) {
    KONV_UNROLL for (int i = 0; i < NV; i++) sum[t][i] = load<T>(to.init + side.row(t) * to.ldi + i * L);
  }
  KONV_UNROLL_4 for (index k = to.k; k > 0; k--, side.next()) {
    const T* u = side.weights();
    vec<T> a[NV];
    if constexpr (side.prefetch) {
      __builtin_prefetch(u + NV * 40 * L);  // forty steps ahead
      if (NV * L * sizeof(T) > 64) __builtin_prefetch(u + (NV * 40 + 1) * L);
    }
    KONV_UNROLL for (int i = 0; i < NV; i++) a[i] = load<T>(u + i * L);
    KONV_UNROLL for (int t = 0; t < NT; t++) {
      const vec<T> b = splat<T>(side.at(t));
      KONV_UNROLL for (int i = 0; i < NV; i++) sum[t][i] = add_product<T, Pairs>(sum[t][i], a[i], b);
    }
  }
  KONV_UNROLL for (int t = 0; t < NT; t++) {
    KONV_UNROLL for (int i = 0; i < NV; i++) store<T>(to.m + side.row(t) * to.ldm + i * L, sum[t][i]);
  }
}

template <class T, bool Pairs> struct OutputTiles {
  using AtPlaces = void(const OutputLane<T>&, const T*, const Place*, const Place*);
  void (*streamed[3][o_columns])(const OutputLane<T>&, const T*, index) = {};
  AtPlaces *scattered[3][o_columns] = {}, *gathered[2][o_columns] = {};
  constexpr OutputTiles() {
    static_for<3>([&](auto i) {
      static_for<columns_beside(i + 1)>([&](auto n) {
        streamed[i][n] = output_tile<T, Pairs, n + 1, i + 1, Streamed>;
        scattered[i][n] = output_tile<T, Pairs, n + 1, i + 1, Scattered>;
        if constexpr (i < 2) gathered[i][n] = output_tile<T, Pairs, n + 1, i + 1, Gathered>;
      });
    });
  }
};
template <class T, bool Pairs> constexpr OutputTiles<T, Pairs> output_tiles;

// f(t, n) for n columns from t on, as many as one tile takes.
template <class F> KONV_INLINE void for_tiles(int nv, index columns, F&& f) {
  for (index t = 0, n; t < columns; t += n) n = next_group(columns - t, columns_beside(nv)), f(t, n);
}
template <class T, bool Pairs>
void output_lane(int nv, index columns, const OutputLane<T>& all, const T* v, index pitch) {
  OutputLane<T> to = all;
  for_tiles(nv, columns, [&](index t, index n) KONV_INLINED {
    output_tiles<T, Pairs>.streamed[nv - 1][n - 1](to, v + t, pitch);
    to.m += n * to.ldm, to.init += n * to.ldi;
  });
}
template <class T, bool Pairs>
void output_lane_at(int nv, index columns, const OutputLane<T>& to, const T* x, const Place* column,
                    const Place* step) {
  for_tiles(nv, columns, [&](index t, index n) KONV_INLINED {
    output_tiles<T, Pairs>.scattered[nv - 1][n - 1](to, x, column + t, step);
  });
}

template <class T> void gather(index columns, index k, const T* x, const Place* column, const Place* step, T* v) {
  for_tiles(2, columns, [&](index t, index n) KONV_INLINED {
    static_for<o_columns>([&](auto i) {
      constexpr int NT = i + 1;
      for (index j = 0; n == NT && j < k; j++, v += NT)
        KONV_UNROLL for (int c = 0; c < NT; c++) v[c] = x[column[t + c].x + step[j].x];
    });
  });
}
template <class T, bool Pairs>
void output_lane_gathered(int nv, index columns, const OutputLane<T>& to, const T* v, const Place* column,
                          const Place* step, const T* next) {
  const index values = next ? to.k * nv * lanes_of<T> : 0;
  index fetched = 0;
  for_tiles(nv, columns, [&](index t, index n) KONV_INLINED {
    for (; fetched * columns < values * (t + n); fetched += 64 / index{sizeof(T)})
      __builtin_prefetch(next + fetched, 0, 2);
    output_tiles<T, Pairs>.gathered[nv - 1][n - 1](to, v + t * to.k, column + t, step);
  });
}

// ---- pixel-lane ----------------------------------------------------------------------------------------------------
constexpr int p_rows = registers == 32 ? 12 : 6, p_vectors = 6;
template <class T, bool Pairs>  // over equal steps, beside one vector, where that is a line of the cache
constexpr int tall_rows = vector_bytes == 64 && !__is_same(T, index) && !Pairs ? registers - 2 : p_rows;

// Vectors of pixels beside `rows` rows: sums, pixels, a broadcast and, under SSE2 (no fused operations), a product fit.
constexpr int others = vector_bytes == 16 && registers == 16 ? 2 : 1;
constexpr int most_vectors(int rows) { return least(p_vectors, (registers - others) / (rows + 1)); }

// Where the pixels of each k begin.
template <class T> struct Offsets {
  const T* x;
  const index* offset;
  KONV_INLINE const T* at(index k) const { return x + offset[k]; }
};
template <class T> struct EqualSteps {
  const T* x;
  index step;
  KONV_INLINE const T* at(index k) const { return x + k * step; }
};

template <class T, bool Pairs, class Side, int MR, int NV>
__attribute__((noinline)) void pixel_tile(index count, index k, const T* w, Side side, const T* bias, T* y, index ldy) {
  constexpr int L = lanes_of<T>;
  vec<T> sum[MR][NV];  // only the last vector can be partial: the caller cuts rows into whole vectors first
  KONV_UNROLL for (int r = 0; r < MR; r++) {
    const vec<T> start = splat<T>(bias[r]);
    KONV_UNROLL for (int i = 0; i < NV; i++) sum[r][i] = start;
  }
  KONV_UNROLL_4 for (index j = 0; j < k; j++, w += MR) {
    const T* p = side.at(j);
    if constexpr (MR > p_rows) __builtin_prefetch(side.at(j + 16));
    vec<T> b[NV];
    KONV_UNROLL for (int i = 0; i < NV; i++) b[i] = load<T>(p + i * L);
    KONV_UNROLL for (int r = 0; r < MR; r++) {
      const vec<T> a = splat<T>(w[r]);
      KONV_UNROLL for (int i = 0; i < NV; i++) sum[r][i] = add_product<T, Pairs>(sum[r][i], a, b[i]);
    }
  }
  KONV_UNROLL for (int r = 0; r < MR; r++) {
    KONV_UNROLL for (int i = 0; i < NV; i++) {
      T* to = y + r * ldy + i * L;
      if (i < NV - 1 || count >= NV * L) store<T>(to, sum[r][i]);
      else store_first<T>(to, sum[r][i], static_cast<int>(count - i * L));
    }
  }
}

template <class T, bool Pairs, class Side, int Rows> struct PixelTiles {
  void (*of[Rows][p_vectors])(index count, index k, const T* w, Side side, const T* bias, T* y, index ldy) = {};
  constexpr PixelTiles() {
    static_for<Rows>([&](auto r) {
      static_for<p_vectors>(
          [&](auto i) { of[r][i] = pixel_tile<T, Pairs, Side, r + 1, least(i + 1, most_vectors(r + 1))>; });
    });
  }
};
template <class T, bool Pairs, class Side, int Rows> constexpr PixelTiles<T, Pairs, Side, Rows> pixel_tiles;

template <class T, bool Pairs>
void pixel_lane(int rows, index count, index k, const T* w, const T* x, const index* offset, const T* bias, T* y,
                index ldy) {
  constexpr int L = lanes_of<T>;
  const index vectors = ceil_div(count, L);
  for (index v = 0, n; v < vectors; v += n) {
    n = next_group(vectors - v, most_vectors(rows));
    const index left = count - v * L;
    pixel_tiles<T, Pairs, Offsets<T>, p_rows>.of[rows - 1][n - 1](left < n * L ? left : n * L, k, w,
                                                                  {x + v * L, offset}, bias, y + v * L, ldy);
  }
}
template <class T, bool Pairs>
void pixel_lane_tiles(int rows, index count, index width, index k, const T* w, const T* x, index step, index next,
                      const T* bias, T* y, index ldy) {
  for (; count > 0; count -= width, x += next, y += width) {
    const index n = count < width ? count : width;
    pixel_tiles<T, Pairs, EqualSteps<T>, tall_rows<T, Pairs>>.of[rows - 1][ceil_div(n, lanes_of<T>) - 1](
        n, k, w, {x, step}, bias, y, ldy);
  }
}

// Channels lie far apart: no cache fetches the next one by itself.
template <class T> void pack_pixels(index count, index k, const T* x, index channel, index width, T* v) {
  constexpr int L = lanes_of<T>;
  for (index j = 0; j < k; j++, x += channel, v += width) {
    for (index q = 0; q < count; q += 64 / index{sizeof(T)}) __builtin_prefetch(x + 8 * channel + q);
    index q = 0;
    for (; q + width <= count; q += width)
      for (index i = 0; i < width; i += L) store<T>(v + q * k + i, load<T>(x + q + i));
    for (T* to = v + q * k; q < count; q += L, to += L)
      store<T>(to, count - q < L ? load_first<T>(x + q, static_cast<int>(count - q)) : load<T>(x + q));
  }
}

// ---- channels leave the lanes and come back -------------------------------------------------------------------------
// One block, not inlined: in a loop, the compiler would keep (and spill) an address for each of the L rows.
template <class T> __attribute__((noinline)) void transpose_block(const T* src, index lds, T* dst, index plane) {
  constexpr int L = lanes_of<T>;
  vec<T> r[L];
  KONV_UNROLL for (int i = 0; i < L; i++, src += lds) r[i] = load<T>(src);
  transpose<T>(r);
  KONV_UNROLL for (int i = 0; i < L; i++, dst += plane) store<T>(dst, r[i]);
}

template <class T>
__attribute__((noinline)) void transpose_part(const T* src, index lds, int count, T* dst, index plane, int channels) {
  constexpr int L = lanes_of<T>;
  vec<T> r[L] = {};
  for (int i = 0; i < count; i++) r[i] = load<T>(src + i * lds);
  transpose<T>(r);
  for (int i = 0; i < channels; i++) store_first<T>(dst + i * plane, r[i], count);
}

template <class T> void transpose_store(const T* src, index lds, index count, T* dst, index plane, int channels) {
  constexpr index L = lanes_of<T>;
  for (index q = 0; q < count; q += L) {
    if (count - q < L && count >= L) q = count - L;  // some columns twice: the same bits
    if (channels == L && count >= L) transpose_block<T>(src + q * lds, lds, dst + q, plane);
    else
      transpose_part<T>(src + q * lds, lds, static_cast<int>(count - q < L ? count - q : L), dst + q, plane, channels);
  }
}

template <class T> void transpose_load(const T* src, index plane, index count, int channels, T* dst, index width) {
  constexpr int L = lanes_of<T>;
  for (int l = 0; l < width; l += L)
    for (index q = 0; q < count; q += L) {
      const T* from = src + l * plane + q;
      T* to = dst + q * width + l;
      const int n = count - q < L ? static_cast<int>(count - q) : L;
      if (n == L && channels - l >= L) {
        transpose_block<T>(from, plane, to, width);
        continue;
      }
      vec<T> r[L] = {};
      KONV_UNROLL for (int i = 0; i < L; i++) if (l + i < channels) r[i] = load_first<T>(from + i * plane, n);
      transpose<T>(r);
      KONV_UNROLL for (int i = 0; i < L; i++) if (i < n) store<T>(to + i * width, r[i]);
    }
}

template <class T, bool Pairs = false> constexpr TileTable<T> table_of() {
  TileTable<T> t{};
  t.lanes = lanes_of<T>, t.o_columns = o_columns, t.p_rows = p_rows, t.tall_rows = tall_rows<T, Pairs>;
  t.output_lane = output_lane<T, Pairs>, t.output_lane_at = output_lane_at<T, Pairs>;
  t.gather = gather<T>, t.output_lane_gathered = output_lane_gathered<T, Pairs>;
  t.pixel_lane = pixel_lane<T, Pairs>, t.pixel_lane_tiles = pixel_lane_tiles<T, Pairs>;
  t.pack_pixels = pack_pixels<T>, t.vectors = most_vectors;
  t.transpose_store = transpose_store<T>, t.transpose_load = transpose_load<T>;
  return t;
}
}  // namespace

extern constinit const Family<TileTable> tiles = {table_of<float>(), table_of<double>(), table_of<index>()};
#if defined(KONV_PAIRS)
extern constinit const TileTable<float> pairs = table_of<float, true>();
#endif
}  // namespace konv::KONV_ISA
