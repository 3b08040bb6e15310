// Depthwise convolution: one channel in, one channel out, pixels of a row in the lanes.
#pragma once
#include "../geometry.hpp"

namespace konv {

// A block of output rows of one channel over staged rows of its image channel:
//   y[i*ldy + q] = bias + sum_{a,b} w[a*kw + b] * x[(i*row_step + a*tap_step)*pitch + offset[b] + q]
// Each row of x is readable up to the next whole vector past its last column; y is written up to `columns` alone.
template <class T>
struct DepthwiseBlock {
  index rows, columns;
  index kh, kw;
  index row_step, tap_step;
  const T* x;
  index pitch;
  const index* offset;
  const T* w;
  T bias;
  T* y;
  index ldy;
};

// Rows of one plane copied into a frame of zeros: `top` rows of zeros, then for r < rows and every column j
//   dst[(top + r)*pitch + j] = src[r*src_pitch + j - left] inside [left, left + count), else 0 up to left + count +
//   right,
// then `bottom` rows of zeros. Up to a vector more is written in each row. copy2 puts the even staged columns first and
// the odd ones from dst[r*pitch + half] on.
template <class T>
struct FrameCopy {
  T* dst;
  index pitch;
  const T* src;
  index src_pitch;
  index top, rows, bottom, left, count, right;
  index half;
};

template <class T>
struct DepthwiseTable {
  int lanes;
  void (*block)(const DepthwiseBlock<T>&);
  void (*copy1)(const FrameCopy<T>&);
  void (*copy2)(const FrameCopy<T>&);
};

}  // namespace konv
