// Rows in and out of memory, and the two register tiles that carry direct convolution and Winograd's products.
#pragma once
#include "../geometry.hpp"

namespace konv {

// Compute type T: float (for f32, f16, bf16), double (f64), index (all integers; they wrap when stored).
template <class T>
struct RowTable {
  // dst[j] = src[j * stride], converted; one function for each storage scalar that computes in T, else nullptr.
  void (*load[static_cast<int>(Scalar::count)])(T* dst, const void* src, index stride, index count);
  // dst[j * stride] = src[j], converted (float16 and bfloat16 round to nearest even; integers wrap).
  void (*store[static_cast<int>(Scalar::count)])(void* dst, index stride, const T* src, index count);
};

template <class T>
struct TileTable {
  int lanes;       // T in one vector
  int o_columns;   // columns of the output-lane tile
  int p_rows;      // most rows of output channels of the pixel-lane tile

  // Output-lane: for columns t and lanes l of nv (1 or 2) vectors of output channels
  //   m[t*ldm + l] = init[t*ldi + l] + sum_k u[k*nv*lanes + l] * v[k*ldv + t]
  void (*output_lane)(int nv, index columns, index k, const T* u, const T* v, index ldv, T* m, index ldm, const T* init,
                      index ldi);

  // Pixel-lane: for rows r and pixels q
  //   y[r*ldy + q] = bias[r] + sum_k w[k*rows + r] * x[offset[k] + q]        (y[r*ldy + q] + sum_k ... without bias)
  // x is readable up to the next whole vector past q = count; y is written only up to count.
  void (*pixel_lane)(int rows, index count, index k, const T* w, const T* x, const index* offset, const T* bias, T* y,
                     index ldy);

  // dst[l*plane + q] = src[q*lds + l] for q < count, l < channels (<= lanes): channels leave the lanes.
  void (*transpose_store)(const T* src, index lds, index count, T* dst, index plane, int channels);
};

}  // namespace konv
