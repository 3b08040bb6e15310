// What one instruction set offers: a table of functions for each family of kernels and compute type; one of all tables.
//
// Each cpp/isa/<family>.cpp is compiled once per instruction set into its own namespace (konv::baseline, konv::avx2,
// konv::avx512, konv::neon) and defines that family's tables there; table.cpp, compiled the same way, gathers them.
// Drivers (cpp/conv, cpp/layers) are compiled once, for the baseline, and reach vectors only through these tables.
// The compute type T is float (for f32, f16, bf16), double (f64) or index; integers take any (summed_in in plan.cpp).
#pragma once
#include <span>
#include "../geometry.hpp"

namespace konv {

// ---- rows.cpp: blocks of rows in and out of memory -----------------------------------------------------------------
// `blocks` blocks, `distance` apart in dst and src_distance in src: `top` rows of zeros, `rows` rows of the image, each
//   dst[(top + r)*pitch + j] = src[r*src_pitch + (j - left)*stride] for left <= j < left + count, else 0
// up to left + count + right, and no more; `bottom` rows of zeros. half > 0: cell j goes to j/2, if odd to half + j/2.
// Of bf16x2, the second of each pair lies src_distance/2 further.
template <class T> struct BlockLoad {
  T* dst;
  index pitch, half;
  const void* src;
  index src_pitch, stride;  // in elements of the storage type
  index top, rows, bottom, left, count, right;
  index blocks = 1, distance = 0, src_distance = 0;
};
// dst[r*dst_pitch + j*stride] = src[r*pitch + j], converted (floats round to nearest even, integers wrap).
template <class T> struct BlockStore {
  void* dst;
  index dst_pitch, stride;  // in elements of the storage type
  const T* src;
  index pitch, rows, count;
};

// One function for each storage scalar that computes in T, else nullptr.
template <class T> struct RowTable {
  void (*load_block[static_cast<int>(Scalar::count)])(BlockLoad<T>);
  void (*store_block[static_cast<int>(Scalar::count)])(BlockStore<T>);
  // One row: dst[j] = src[j*stride], dst[j*stride] = src[j].
  void load(Scalar scalar, T* dst, const void* src, index stride, index count, index src_distance = 0) const {
    load_block[static_cast<int>(scalar)]({dst, 0, 0, src, 0, stride, 0, 1, 0, 0, count, 0, 1, 0, src_distance});
  }
  void store(Scalar scalar, void* dst, index stride, const T* src, index count) const {
    store_block[static_cast<int>(scalar)]({dst, 0, stride, src, 0, 1, count});
  }
};

// ---- tiles.cpp: the two register tiles that carry direct convolution and Winograd's products -----------------------
// k products of each column t and lane l of nv (1 to 3) vectors of output channels, added to init and left in m:
//   m[t*ldm + l] = init[t*ldi + l] + sum_k u[k*nv*lanes + l] * (what is broadcast for k and t)
// or, where columns t and steps k lie at any Place,
//   m[t.row*ldm + l] = init[t.row*ldi + l] + sum_k u[k.row*nv*lanes + l] * x[t.x + k.x]
// (rows of m and of u, and what is broadcast).
struct Place { index x, row; };
template <class T> struct OutputLane {
  index k;
  const T* u;
  T* m;
  index ldm;
  const T* init;
  index ldi;
};
template <class T> alignas(64) inline constexpr T no_sums[64] = {};  // an init: three of the longest vectors and more

template <class T> struct TileTable {
  int lanes;                 // T in one vector
  int o_columns;             // columns of the output-lane tile
  int p_rows, tall_rows;     // most rows of output channels of the pixel-lane tile, and over equal steps
  int (*vectors)(int rows);  // of pixels beside so many rows
  // Output-lane, broadcasting v[k*pitch + t], or from places in x.
  void (*output_lane)(int nv, index columns, const OutputLane<T>& to, const T* v, index pitch);
  void (*output_lane_at)(int nv, index columns, const OutputLane<T>& to, const T* x, const Place* column,
                         const Place* step);
  // In two steps, for values that serve often: columns*k of them in the order of the tiles; then sums of nv < 3
  // vectors, while as many weights of the next ones are fetched, unless `next` is null.
  void (*gather)(index columns, index k, const T* x, const Place* column, const Place* step, T* v);
  void (*output_lane_gathered)(int nv, index columns, const OutputLane<T>& to, const T* v, const Place* column,
                               const Place* step, const T* next);
  // Pixel-lane: for rows r and pixels q
  //   y[r*ldy + q] = bias[r] + sum_k w[k*rows + r] * x[offset[k] + q]
  // x is readable up to the next whole vector past q = count; y is written only up to count.
  void (*pixel_lane)(int rows, index count, index k, const T* w, const T* x, const index* offset, const T* bias, T* y,
                     index ldy);
  // The same over tiles of `width` pixels (whole vectors, at most vectors(rows)), `next` apart: pixel q of tile t under
  // k is x[t*next + k*step + q], which is x as it lies or what pack_pixels left: v[tile][k][pixel] = x[k*channel + q].
  void (*pack_pixels)(index count, index k, const T* x, index channel, index width, T* v);
  void (*pixel_lane_tiles)(int rows, index count, index width, index k, const T* w, const T* x, index step, index next,
                           const T* bias, T* y, index ldy);
  // dst[l*plane + q] = src[q*lds + l] for q < count, l < channels (<= lanes): channels leave the lanes.
  void (*transpose_store)(const T* src, index lds, index count, T* dst, index plane, int channels);
  // The way back: dst[q*width + l] = src[l*plane + q] for q < count, l < channels, zero up to width, whole vectors.
  void (*transpose_load)(const T* src, index plane, index count, int channels, T* dst, index width);
};

// ---- winograd.cpp: the transforms of Winograd convolution ----------------------------------------------------------
// Cache lines that a kernel brings in meanwhile, a few at each step: more at once would wait for each other.
struct Fetch {
  const void* base;
  const index *next, *end;  // bytes from base on
  index each;               // lines at a step
};

// Tiles of one transform, one a lane: value j of tile t in row i is
//   s[i*pitch + window[t] + j]       tiles anywhere; 8 columns of each are read
//   s[i*pitch + t + j*step]          without a window: tiles side by side, as under a dilation
// Product xi of tile t goes to v[at[xi] + t]. One whole vector at least is read and written; window has entries for it.
template <class T> struct WinogradTiles {
  const T* s;
  index pitch;
  const index* window;
  index step, tiles;
  const index* at;
  T* v;
  Fetch* fetch;
};

// F(mh x mw, rh x rw): a tile of mh x mw outputs under a kernel of rh x rw taps reads ah x aw inputs (ah = mh+rh-1, aw
// = mw+rw-1) and becomes ah*aw products; product xi = i*aw + j belongs to row i and column j of the transformed tile.
template <class T> struct WinogradTransform {
  int mh, mw, rh, rw;

  int ah() const { return mh + rh - 1; }
  int products() const { return ah() * (mw + rw - 1); }

  // B^T over the columns of a row of tiles: x[0..ah) become s[i*pitch + q], first <= q < last or at least a vector.
  void (*input_columns)(const T* const* x, index first, index last, T* s, index pitch);
  // B^T over the rows of s.
  void (*input_tiles)(const WinogradTiles<T>&);
  // G w G^T for one vector of output channels: taps[(a*rw + b)*lanes + l] to u[at[xi] + l].
  void (*weight)(const T* taps, const index* at, T* u);
  // A^T m A + bias for one vector of output channels of `tiles` neighbours. Product xi of tile t: m[(t*products +
  // xi)*width + l]; its pixel (i, j): z[(i*pitch + q)*lanes + l], q = t*tile_step + j*pixel_step, where q < columns.
  void (*output)(const T* m, index width, index tiles, const T* bias, T* z, index pitch, index tile_step,
                 index pixel_step, index columns);
  // For the weight's gradient, the adjoints of output and weight.
  // A z A^T of every pixel of z (laid out as above): y[xi*stride + t*width + l].
  void (*output_adjoint)(const T* z, index pitch, index tile_step, index pixel_step, index tiles, T* y, index width,
                         index stride);
  // G^T d G: taps[(a*rw + b)*lanes + l] from product xi at d[xi*stride + l].
  void (*weight_adjoint)(const T* d, index stride, T* taps);
};

template <class T> using WinogradTable = std::span<const WinogradTransform<T>>;

// ---- depthwise.cpp: one channel, pixels of a row in the lanes ------------------------------------------------------
// Rows i of an output channel, columns q, and what each tap (a, b) multiplies, in staged rows of an image channel:
//   y[i*y_pitch + q]   and   x[(i*row_step + a*tap_step)*pitch + offset[b] + q]
template <class T, class Y> struct TapRows {
  index rows, columns, kh, kw, row_step, tap_step;
  const T* x;
  index pitch;
  const index* offset;
  Y* y = nullptr;
  index y_pitch = 0;
};

// y = bias + sum over taps of w[a*kw + b] * x, here of column q*column_step, which is 1 or, where row_step is 2 and
// tap_step 1, 2. Each row of x is readable up to the next whole vector past its last column (at column_step 2, two
// vectors); y is written up to `columns` alone.
template <class T> struct DepthwiseBlock : TapRows<T, T> {
  const T* w = nullptr;
  T bias = 0;
  index column_step = 1;
  index left = 0, width = 0;   // of an image
  index above = 0, below = 0;  // of the rows of x, so many lie outside: not read, zeros; at most kh / 2
  const T* next = nullptr;     // the image's part after this: fetched meanwhile, as are the next rows of y; or null
};

// The gradient of w, of several elements d_step apart: d[(a*kw + b)*d_step] += sum of y * x; no more is read.
template <class T> struct DepthwiseGradient : TapRows<T, const T> {
  T* d = nullptr;
  index d_step = 1;
};

// Channels in the lanes, every cell a vector of them: y[i*columns + q] = bias + sum over taps of w[a*kw + b] *
// x(i*row_step + a*tap_row - top, q*column_step + b*tap_column - left), outside of x zero.
template <class T> struct DepthwiseChannels {
  index rows, columns, kh, kw, row_step, column_step, tap_row, tap_column;
  index height, width, top, left;  // of x, and padding before it
  const T *x, *w, *bias;
  T* y;
};

template <class T> struct DepthwiseTable {
  int lanes;
  void (*block)(const DepthwiseBlock<T>&);
  // Of 3x3 taps (offset[1] is 1 at column_step 2), or five rows of them at column_step 2, with tap_step 1, over rows of
  // the image itself: x is column `left` of `width`, and what lies outside counts as zero. Vectors reach over the ends
  // of rows; y has at least one whole vector of columns.
  void (*image_block)(const DepthwiseBlock<T>&);
  void (*gradient)(const DepthwiseGradient<T>&);
  void (*channels)(const DepthwiseChannels<T>&);
};

// ---- layers.cpp: pooling, normalisation, relu, over rows of the compute type T --------------------------------------
// Which cell of a window is a maximum (layers/pool.cpp): as wide as T, so that one mask chooses both.
template <class T> using Rank = std::conditional_t<std::is_same_v<T, float>, std::int32_t, index>;

// Ranks at and above this are no cell of the image: padding. Drivers refuse windows whose own ranks would reach it.
template <class T> constexpr Rank<T> no_cell = Rank<T>{1} << (sizeof(Rank<T>) * 8 - 2);

template <class T> struct LayerKernels {
  // Nowhere may an output be an input, too.
  // ---- pooling: output j of n reads taps[j], taps[step + j], ... of k taps; NaN is the maximum
  void (*sum_taps)(T* out, const T* taps, index step, index k, index n);
  void (*max_taps)(T* out, const T* taps, index step, index k, index n);
  // Maxima with ranks: down, tap t of output j has rank t*width + j (scanning order); across, `ranks` tell.
  using MaxRanks = void(T* out, Rank<T>* rank, const T* taps, const Rank<T>* ranks, index step, index width, index k,
                        index n);
  MaxRanks *max_down, *max_across;
  void (*cells)(index* cell, const Rank<T>* rank, index first, index n);  // first + the rank's cell, or -1
  void (*divide)(T* y, const T* x, T rows, const T* columns, index n);    // x / (rows*columns)
  // ---- passes (floating types); n is a few thousand, so that sums stay exact enough and x stays in L1
  void (*sum)(const T* x, index n, double* sum);
  void (*moments)(const T* x, index n, double* sums);                               // of x, of (x - mean)^2
  void (*products)(const T* g, const T* x, T center, index n, double* sums);        // of g, of g*(x - center)
  void (*affine)(T* y, const T* x, T center, T scale, T shift, index n);            // (x - center)*scale + shift
  void (*combine)(T* y, const T* g, const T* x, T a, T b, T center, T c, index n);  // a*g + b*(x - center) + c
  void (*relu)(T* y, const T* g, const T* x, index n);                              // g, but 0 where x <= 0
};

// ---- all of them ---------------------------------------------------------------------------------------------------
// One family for every compute type; some have no kernels for integers.
template <template <class> class Table> struct Family {
  Table<float> f32;
  Table<double> f64;
  Table<index> i64{};

  template <class T> const Table<T>& of() const {
    if constexpr (std::is_same_v<T, float>) return f32;
    else if constexpr (std::is_same_v<T, double>) return f64;
    else return i64;
  }
};

struct IsaTable {
  const char* name;  // "baseline", "avx2", "avx512", "avx512_bf16", "neon"
  const Family<RowTable>& rows;
  const Family<TileTable>& tiles;
  const Family<WinogradTable>& winograd;
  const Family<DepthwiseTable>& depthwise;
  const Family<LayerKernels>& layers;
  // Tiles of which every value of u, v, w and x is a pair of bfloat16, as load_block makes of bf16x2, and every product
  // the sum of two; null where the CPU has no instruction for it.
  const TileTable<float>* pairs = nullptr;
};
}  // namespace konv
