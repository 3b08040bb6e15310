// Rows in and out of memory, and the two register tiles that carry direct convolution and Winograd's products.
#pragma once
#include "../geometry.hpp"

namespace konv {

// Rows of a block between a margin of zeros on either side:
//   dst[r*pitch + j] = src[r*src_pitch + (j - left)*stride] for left <= j < left + count, else 0 up to the right margin
template <class T>
struct BlockLoad {
  T* dst;
  index pitch;
  const void* src;
  index src_pitch, stride;  // in elements of the storage type
  index rows, left, count, right;
};
// dst[r*dst_pitch + j*stride] = src[r*pitch + j]
template <class T>
struct BlockStore {
  void* dst;
  index dst_pitch, stride;  // in elements of the storage type
  const T* src;
  index pitch;
  index rows, count;
};

// Compute type T: float (for f32, f16, bf16), double (f64), index (all integers; they wrap when stored).
// One function for each storage scalar that computes in T, else nullptr.
template <class T>
struct RowTable {
  // dst[j] = src[j * stride], converted.
  void (*load[static_cast<int>(Scalar::count)])(T* dst, const void* src, index stride, index count);
  // dst[j * stride] = src[j], converted (float16 and bfloat16 round to nearest even; integers wrap).
  void (*store[static_cast<int>(Scalar::count)])(void* dst, index stride, const T* src, index count);
  // The same for many rows.
  void (*load_block[static_cast<int>(Scalar::count)])(const BlockLoad<T>&);
  void (*store_block[static_cast<int>(Scalar::count)])(const BlockStore<T>&);
};

// Cells that follow each other in a plane and in the im2col panel.
struct Run {
  index from, to, count;
};

template <class T>
struct TileTable {
  int lanes;      // T in one vector
  int o_columns;  // columns of the output-lane tile
  int p_rows;     // most rows of output channels of the pixel-lane tile

  // Output-lane: for columns t and lanes l of nv (1 or 2) vectors of output channels
  //   m[t*ldm + l] = init[t*ldi + l] + sum_k u[k*nv*lanes + l] * v[k*ldv + t]
  void (*output_lane)(int nv, index columns, index k, const T* u, const T* v, index ldv, T* m, index ldm, const T* init,
                      index ldi);

  // Pixel-lane: for rows r and pixels q
  //   y[r*ldy + q] = bias[r] + sum_k w[k*rows + r] * x[offset[k] + q]        (y[r*ldy + q] + sum_k ... without bias)
  // x is readable up to the next whole vector past q = count; y is written only up to count.
  void (*pixel_lane)(int rows, index count, index k, const T* w, const T* x, const index* offset, const T* bias, T* y,
                     index ldy);

  // The im2col panel of one channel: dst[t*pitch + run.to + j] = plane[offset[t] + run.from + j], j < run.count. Whole
  // vectors are read and written, runs in order: both sides have room for one vector past the last run.
  void (*gather_taps)(const T* plane, const index* offset, index taps, const Run* runs, index run_count, T* dst,
                      index pitch);

  // dst[l*plane + q] = src[q*lds + l] for q < count, l < channels (<= lanes): channels leave the lanes.
  void (*transpose_store)(const T* src, index lds, index count, T* dst, index plane, int channels);
  // The way back: dst[q*width + l] = src[l*plane + q] for q < count, l < channels; zero for channels <= l < width, a
  // multiple of `lanes`.
  void (*transpose_load)(const T* src, index plane, index count, int channels, T* dst, index width);
};

}  // namespace konv
