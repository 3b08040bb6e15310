// The gradient of the weight: a register tile with output channels in the lanes, and a depthwise one with pixels there.
#pragma once
#include "../geometry.hpp"

namespace konv {

// One tile of the product: `columns` columns (an image channel and a tap each) by `width` output channels, summed over
// the pixels of `rows` rows of `row_length` pixels:
//   d[t*width + l] += sum_{r,j} u[(r*row_length + j)*width + l] * x[row_offset[r] + column_offset[t] + j*step]
template <class T>
struct GradWeightTile {
  index rows, row_length;
  const T* u;
  const T* x;
  const index* row_offset;
  const index* column_offset;
  index step;
  T* d;
};

// One channel against its gradient:
//   d[(a*kw + b)*d_step] += sum_{i,q} gy[i*gy_pitch + q] * x[(i*row_step + a*tap_step)*pitch + offset[b] + q]
// for i < rows, q < columns; nothing else is read.
template <class T>
struct GradWeightDepthwise {
  index rows, columns;
  index kh, kw;
  index row_step, tap_step;
  const T* x;
  index pitch;
  const index* offset;
  const T* gy;
  index gy_pitch;
  T* d;
  index d_step;
};

template <class T>
struct GradWeightTable {
  int lanes;    // T in one vector
  int columns;  // most columns of one tile

  // width: `vectors` (1 or 2) vectors. first: d is written, not added to.
  void (*tile)(int vectors, index columns, bool first, const GradWeightTile<T>&);
  void (*depthwise)(const GradWeightDepthwise<T>&);
  double (*sum)(const T* src, index count);  // in double precision
};

}  // namespace konv
