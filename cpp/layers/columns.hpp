// Pooling, a few rows of outputs at a time.
//
//   image rows of a window      down, into padded rows side by side     across: phases of the stride    out
//   r0  . . . . . .   \                                                   0: 0 2 4 | 0 2 4
//   r1  . . . . . .    >        # . . . . . . # | # . . . . . . #         1: 1 3 5 | 1 3 5   max -> y y y x y y y
//   r2  . . . . . .   /         <---- pitch --->  the next output row
//
// Reducing the rows first costs kh passes of vectors over rows as they lie in memory. Columns are then split into the
// phases of the stride, so that every tap reads neighbours; rows side by side keep the vectors full where images are
// narrow (the x between rows are computed for nothing). All of it lives in a few KiB of scratch in L1; the image is
// read from memory once, apart from the rows that windows share. Gradients of averages go the same way back, for rows
// of the image's gradient: each is written once, by one thread.
//
// Tasks are ranges of rows; no sum is ever split, so the bits do not depend on the number of threads.
#pragma once
#include <algorithm>
#include <numeric>

#include "../conv/rows.hpp"
#include "pool.hpp"
#include "rows.hpp"

namespace konv {

// Padded rows side by side, and their phases: cell q of row r stands at r*pitch + pad + q, output j of row r at
// r*out_pitch + j. Taps of outputs beyond a row's own read the next row: in bounds, and of no use.
template <class T>
struct Columns {
  const PoolAxis& axis;
  index stride, pad, pitch, out_pitch, rows, phases;
  void (*load)(T* dst, const void* src, index stride, index count);
  void (*store)(void* dst, index stride, const T* src, index count);

  Columns(const IsaTable& isa, const PoolAxis& axis)
      : axis(axis),
        stride(axis.outputs == 1 || axis.adaptive() ? 1 : axis.stride),
        pad(axis.adaptive() ? 0 : axis.pad),
        load(isa.rows<T>().load[static_cast<int>(scalar_of<T>)]),
        store(isa.rows<T>().store[static_cast<int>(scalar_of<T>)]) {
    const index reach = (axis.outputs - 1) * stride + (axis.kernel - 1) * axis.dilation + 1;
    pitch = round_up(std::max({reach, axis.size + pad, axis.outputs}), stride);
    out_pitch = pitch / stride;
    rows = std::clamp<index>(1024 / pitch, 1, 64);
    phases = std::min(axis.kernel, stride / std::gcd(stride, axis.dilation));  // those that taps read
  }
  index cells() const { return rows * pitch; }
  index outputs(index count) const { return (count - 1) * out_pitch + axis.outputs; }

  // U is T, or its key: moved as the bits of T. `staged` is not used at stride 1, where rows are their own phase.
  template <class U>
  void split(U* staged, const U* padded, index count) const {
    static_assert(sizeof(U) == sizeof(T));
    for (index t = 0; t < phases && stride > 1; t++) {
      const index phase = t * axis.dilation % stride;
      load(reinterpret_cast<T*>(staged + phase * rows * out_pitch), padded + phase, stride, count * out_pitch);
    }
  }
  void join(T* padded, const T* staged, index count) const {
    for (index t = 0; t < phases && stride > 1; t++) {
      const index phase = t * axis.dilation % stride;
      store(padded + phase, stride, staged + phase * rows * out_pitch, count * out_pitch);
    }
  }
  template <class U>
  void taps(U** places, U* staged, U* padded) const {
    for (index t = 0; t < axis.kernel; t++) {
      const index right = t * axis.dilation;
      places[t] = stride == 1 ? padded + right : staged + right % stride * rows * out_pitch + right / stride;
    }
  }
};

struct Unit {  // one row of one channel
  index n, c, row;
  Unit(index unit, index channels, index rows)
      : n(unit / rows / channels), c(unit / rows % channels), row(unit % rows) {}
};

inline index window_cells(const Pooling& p) {
  return ceil_div(p.rows.size, std::max<index>(p.rows.outputs, 1)) * p.columns.size;
}

}  // namespace konv
