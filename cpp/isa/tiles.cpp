// The two register tiles that carry direct convolution and the products of Winograd, written once for all types and
// vector widths.
//
// Output-lane: lanes are output channels, columns (pixels, Winograd tiles) are broadcast. For few columns and long
// sums.
//
//            v[k][t]   t = 0 .. NT-1 (14, or 6 where there are 16 registers)
//           +----------------------
//   u[k][l] | m[t][l] += u[k][l] * v[k][t]        NV vectors of l; NT * NV sums in registers,
//           |                                     NV loads and NT broadcasts for each k
//
// Pixel-lane: lanes are pixels, weights are broadcast, and a table of offsets says where tap k of the window lies, so
// that the input is never copied into a matrix.
//
//            x[offset[k] + q]   q = 0 .. NV*L-1
//           +----------------------
//   w[k][r] | y[r][q] += w[k][r] * x[offset[k] + q]
//
// Both add the products of one output in the order of k, starting from a given value: whoever cuts the sum into parts
// of k gets the same bits.
//
// Registers (AVX-512, AVX2): output-lane 28 + 2 + 1 of 32, 12 + 2 + 1 of 16; pixel-lane at most 27 + 3 + 1, 12 + 3 + 1.
// One broadcast feeds NV fused multiply-adds, one vector feeds NT or MR of them, so the two load ports keep ahead of
// the multipliers. Source: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 2008,
// section 6.
#include "simd.hpp"
#include "table.hpp"

namespace konv::KONV_ISA {
namespace {

constexpr int least(int a, int b) { return a < b ? a : b; }

// Of what is left, as much as a tile takes; the last two share evenly: 15 columns run as 8 + 7, not as 14 + 1.
constexpr index next_group(index left, index most) {
  return left <= most ? left : left < 2 * most ? (left + 1) / 2 : most;
}

// Integers wrap, which C++ promises for unsigned ones alone.
template <class T>
KONV_INLINE vec<T> add_product(vec<T> sum, vec<T> a, vec<T> b) {
  if constexpr (__is_same(T, index)) {
    using bits = vec<std::uint64_t>;
    return (vec<T>)((bits)sum + (bits)a * (bits)b);
  } else {
    return sum + a * b;
  }
}

// ---- output-lane ---------------------------------------------------------------------------------------------------
constexpr int o_columns = registers == 32 ? 14 : 6;

template <class T>
using OutputTile = void (*)(index k, const T* u, const T* v, index ldv, T* m, index ldm, const T* init, index ldi);

template <class T, int NV, int NT>
__attribute__((noinline)) void output_tile(index k, const T* u, const T* v, index ldv, T* m, index ldm, const T* init,
                                           index ldi) {
  constexpr int L = lanes_of<T>;
  vec<T> sum[NT][NV];
  KONV_UNROLL for (int t = 0; t < NT; t++) {
    KONV_UNROLL for (int i = 0; i < NV; i++)
      sum[t][i] = load<T>(init + t * ldi + i * L);
  }
  KONV_UNROLL_4 for (; k > 0; k--, u += NV * L, v += ldv) {
    vec<T> a[NV];
    __builtin_prefetch(u + NV * 40 * L);  // u streams from L2 or beyond; forty steps ahead
    if (NV * L * sizeof(T) > 64) __builtin_prefetch(u + (NV * 40 + 1) * L);
    KONV_UNROLL for (int i = 0; i < NV; i++)
      a[i] = load<T>(u + i * L);
    KONV_UNROLL for (int t = 0; t < NT; t++) {
      const vec<T> b = splat<T>(v[t]);
      KONV_UNROLL for (int i = 0; i < NV; i++)
        sum[t][i] = add_product<T>(sum[t][i], a[i], b);
    }
  }
  KONV_UNROLL for (int t = 0; t < NT; t++) {
    KONV_UNROLL for (int i = 0; i < NV; i++)
      store<T>(m + t * ldm + i * L, sum[t][i]);
  }
}

template <class T>
struct OutputTiles {
  OutputTile<T> of[2][o_columns];
};
template <class T, int... I>
constexpr OutputTiles<T> make_output_tiles(sequence<I...>) {
  return {{{output_tile<T, 1, I + 1>...}, {output_tile<T, 2, I + 1>...}}};
}

template <class T>
void output_lane(int nv, index columns, index k, const T* u, const T* v, index ldv, T* m, index ldm, const T* init,
                 index ldi) {
  static constexpr OutputTiles<T> tiles = make_output_tiles<T>(make_sequence<o_columns>{});
  for (index t = 0; t < columns;) {
    const index n = next_group(columns - t, o_columns);
    tiles.of[nv - 1][n - 1](k, u, v + t, ldv, m + t * ldm, ldm, init + t * ldi, ldi);
    t += n;
  }
}

// ---- pixel-lane ----------------------------------------------------------------------------------------------------
constexpr int p_rows = registers == 32 ? 12 : 6;
constexpr int p_vectors = 6;

// Vectors of pixels beside `rows` rows: sums, pixels and one broadcast fit the registers; where the CPU has no fused
// multiply-add the product needs one more.
constexpr int most_vectors(int rows) {
#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
  return least(p_vectors, (registers - 1) / (rows + 1));
#else
  return least(p_vectors, (registers - 2) / (rows + 1));
#endif
}

template <class T>
using PixelTile = void (*)(index count, index k, const T* w, const T* x, const index* offset, const T* bias, T* y,
                           index ldy);

template <class T, int MR, int NV>
__attribute__((noinline)) void pixel_tile(index count, index k, const T* w, const T* x, const index* offset,
                                          const T* bias, T* y, index ldy) {
  constexpr int L = lanes_of<T>;
  vec<T> sum[MR][NV];  // only the last vector can be partial: the caller cuts rows into whole vectors first
  if (bias) {
    KONV_UNROLL for (int r = 0; r < MR; r++) {
      KONV_UNROLL for (int i = 0; i < NV; i++)
        sum[r][i] = splat<T>(bias[r]);
    }
  } else {
    KONV_UNROLL for (int r = 0; r < MR; r++) {
      KONV_UNROLL for (int i = 0; i < NV; i++) {
        const T* from = y + r * ldy + i * L;
        if (i < NV - 1 || count >= NV * L) sum[r][i] = load<T>(from);
        else sum[r][i] = load_first<T>(from, static_cast<int>(count - i * L));
      }
    }
  }
  KONV_UNROLL_4 for (index j = 0; j < k; j++, w += MR) {
    const T* p = x + offset[j];
    vec<T> b[NV];
    KONV_UNROLL for (int i = 0; i < NV; i++)
      b[i] = load<T>(p + i * L);
    KONV_UNROLL for (int r = 0; r < MR; r++) {
      const vec<T> a = splat<T>(w[r]);
      KONV_UNROLL for (int i = 0; i < NV; i++)
        sum[r][i] = add_product<T>(sum[r][i], a, b[i]);
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

template <class T>
struct PixelTiles {
  PixelTile<T> of[p_rows][p_vectors];
};
template <class T, int R, int... I>
constexpr void fill_rows(PixelTiles<T>& all, sequence<I...>) {
  ((all.of[R][I] = pixel_tile<T, R + 1, least(I + 1, most_vectors(R + 1))>), ...);
}
template <class T, int... R>
constexpr PixelTiles<T> make_pixel_tiles(sequence<R...>) {
  PixelTiles<T> all{};
  (fill_rows<T, R>(all, make_sequence<p_vectors>{}), ...);
  return all;
}

template <class T>
void pixel_lane(int rows, index count, index k, const T* w, const T* x, const index* offset, const T* bias, T* y,
                index ldy) {
  static constexpr PixelTiles<T> tiles = make_pixel_tiles<T>(make_sequence<p_rows>{});
  constexpr int L = lanes_of<T>;
  const index vectors = ceil_div(count, L);
  for (index v = 0; v < vectors;) {
    const index n = next_group(vectors - v, most_vectors(rows)), left = count - v * L;
    tiles.of[rows - 1][n - 1](left < n * L ? left : n * L, k, w, x + v * L, offset, bias, y + v * L, ldy);
    v += n;
  }
}

// ---- the panel of the output-lane tile ------------------------------------------------------------------------------
// The first n < 2N values, n whole halves of halves: masked stores take dozens of steps on some CPUs.
template <class T, int N>
KONV_INLINE void copy_first(T* dst, const T* src, index n) {
  if (n & N) store<T, N>(dst, load<T, N>(src)), dst += N, src += N;
  if constexpr (N > 1) copy_first<T, N / 2>(dst, src, n);
}

template <class T>
void gather_taps(const T* plane, const index* offset, index taps, const Run* runs, index run_count, T* dst,
                 index pitch) {
  constexpr int L = lanes_of<T>;
  for (index t = 0; t < taps; t++, dst += pitch) {
    const T* from = plane + offset[t];
    for (index i = 0; i < run_count; i++) {
      const Run run = runs[i];
      index j = 0;
      for (; j + L <= run.count; j += L) store<T>(dst + run.to + j, load<T>(from + run.from + j));
      if constexpr (L > 1) copy_first<T, L / 2>(dst + run.to + j, from + run.from + j, run.count - j);
    }
  }
}

// ---- channels leave the lanes --------------------------------------------------------------------------------------
// One block, not inlined: in a loop, the compiler would keep (and spill) an address for each of the L rows.
template <class T>
__attribute__((noinline)) void transpose_block(const T* src, index lds, T* dst, index plane) {
  constexpr int L = lanes_of<T>;
  vec<T> r[L];
  KONV_UNROLL for (int i = 0; i < L; i++, src += lds)
    r[i] = load<T>(src);
  transpose<T>(r);
  KONV_UNROLL for (int i = 0; i < L; i++, dst += plane)
    store<T>(dst, r[i]);
}

template <class T>
__attribute__((noinline)) void transpose_part(const T* src, index lds, int count, T* dst, index plane, int channels) {
  constexpr int L = lanes_of<T>;
  vec<T> r[L] = {};
  for (int i = 0; i < count; i++) r[i] = load<T>(src + i * lds);
  transpose<T>(r);
  for (int i = 0; i < channels; i++) store_first<T>(dst + i * plane, r[i], count);
}

template <class T>
void transpose_store(const T* src, index lds, index count, T* dst, index plane, int channels) {
  constexpr index L = lanes_of<T>;
  for (index q = 0; q < count; q += L) {
    if (count - q < L && count >= L) q = count - L;  // some columns twice: the same bits
    if (channels == L && count >= L) transpose_block<T>(src + q * lds, lds, dst + q, plane);
    else
      transpose_part<T>(src + q * lds, lds, static_cast<int>(count - q < L ? count - q : L), dst + q, plane, channels);
  }
}

// ---- and come back -------------------------------------------------------------------------------------------------
template <class T>
void transpose_load(const T* src, index plane, index count, int channels, T* dst, index width) {
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
      vec<T> r[L];
      KONV_UNROLL for (int i = 0; i < L; i++)
        r[i] = l + i < channels ? load_first<T>(from + i * plane, n) : vec<T>{};
      transpose<T>(r);
      KONV_UNROLL for (int i = 0; i < L; i++)
        if (i < n) store<T>(to + i * width, r[i]);
    }
}

template <class T>
constexpr TileTable<T> table_of() {
  return {lanes_of<T>,    o_columns,          p_rows,           most_vectors, output_lane<T>, pixel_lane<T>,
          gather_taps<T>, transpose_store<T>, transpose_load<T>};
}

}  // namespace

extern constinit const Family<TileTable> tiles = {table_of<float>(), table_of<double>(), table_of<index>()};

}  // namespace konv::KONV_ISA
