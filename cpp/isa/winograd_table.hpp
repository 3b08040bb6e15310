// The transforms of Winograd convolution: one set of functions for each F(mh x mw, rh x rw).
//
// A tile of mh x mw outputs under a kernel of rh x rw taps reads ah x aw inputs (ah = mh+rh-1, aw = mw+rw-1) and
// becomes ah*aw products; product xi = i*aw + j belongs to row i and column j of the transformed tile. Where a table of
// offsets at[xi] says where product xi lies, only the first `rows` rows and `columns` columns of it are read: the last
// row or column is left out for kernels that have no last tap there (see conv/winograd.cpp, strides).
#pragma once
#include "../geometry.hpp"

namespace konv {

template <class T>
struct WinogradTransform {
  int mh, mw, rh, rw;

  int ah() const { return mh + rh - 1; }
  int aw() const { return mw + rw - 1; }
  int products() const { return ah() * aw(); }

  // B^T over the columns of one row of tiles: image rows x[0..ah) become s[i*pitch + q], 0 <= q < count. Columns
  // [first, last) are in memory (x[i][q] is read there alone), the others are zero. Whole vectors are written: pitch is
  // at least count rounded up to the vector.
  void (*input_columns)(const T* const* x, index first, index last, index count, T* s, index pitch);

  // B^T over the rows of s, then tiles in lanes: v[at[xi] + t] for t < tiles. Whole vectors are written and read:
  // v up to `tiles` rounded up by `padded_tiles`, s up to padded_tiles*mw + aw.
  void (*input_rows)(const T* s, index pitch, index tiles, int rows, int columns, const index* at, T* v);
  // The same for tiles that begin at s[0], s[1] ... and read every step-th column (dilation). Whole vectors are read
  // and written, as many as for a row of so many tiles.
  void (*input_phases)(const T* s, index pitch, index step, index tiles, int rows, int columns, const index* at, T* v);
  // The same for tiles anywhere: tile t begins at s[window[t]] and reads 8 columns. Tiles are rounded up to the vector;
  // window has as many (valid) entries.
  void (*input_windows)(const T* s, index pitch, const index* window, index tiles, int rows, int columns,
                        const index* at, T* v);

  // G w G^T for one vector of output channels: taps[(a*rw + b)*lanes + l] to u[at[xi] + l].
  void (*weight)(const T* taps, int rows, int columns, const index* at, T* u);

  // A^T m A + bias for one vector of output channels of `tiles` neighbours. Product xi of tile t is
  // m[(t*products + xi)*width + l]; pixel (i, j) of it goes to z[(i*pitch + q)*lanes + l], q = t*tile_step +
  // j*pixel_step, where q < columns.
  void (*output)(const T* m, index width, index tiles, const T* bias, T* z, index pitch, index tile_step,
                 index pixel_step, index columns);

  // For the weight's gradient, the adjoints of output and weight.
  // A z A^T of every pixel of z (laid out as above): y[xi*stride + t*width + l].
  void (*output_adjoint)(const T* z, index pitch, index tile_step, index pixel_step, index tiles, T* y, index width,
                         index stride);
  // G^T d G: taps[(a*rw + b)*lanes + l] from product xi at d[xi*stride + l].
  void (*weight_adjoint)(const T* d, index stride, T* taps);
};

template <class T>
struct WinogradTable {
  int lanes;
  int count;
  const WinogradTransform<T>* transforms;
  index (*padded_tiles)(index tiles);

  const WinogradTransform<T>* find(index mh, index mw, index rh, index rw) const {
    for (int i = 0; i < count; i++) {
      const WinogradTransform<T>& f = transforms[i];
      if (f.mh == mh && f.mw == mw && f.rh == rh && f.rw == rw) return &f;
    }
    return nullptr;
  }
};

}  // namespace konv
