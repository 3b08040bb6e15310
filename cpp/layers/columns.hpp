// The windows along rows: every tap of neighbouring outputs brought side by side, so that vectors can walk them.
//
//   padded   # 0 1 2 3 4 5 # | # 0 1 2 ...        kernel 3, stride 2:   phase 0: # 1 3 5 | # 1 ...   taps 0 and 2
//            <---- pitch --->  the next row                             phase 1: 0 2 4 # | 0 2 ...   tap 1
//
// Rows side by side keep the vectors full where images are narrow; what is computed between rows is of no use. Adaptive
// windows, which follow no rule, get a run of their own for each tap; the taps that a shorter window lacks read the
// cell after the row, which holds the padding.
#pragma once
#include <numeric>

#include "pool.hpp"
#include "rows.hpp"

namespace konv {

template <class T>
class Columns {
 public:
  const PoolAxis& axis;

  index rows, pitch, out_pitch;  // at most; cell q of row r stands at r*pitch + pad + q, output j at r*out_pitch + j

  Columns(const IsaTable& isa, const PoolAxis& axis, index least_rows, index most_rows)
      : axis(axis), stride_(axis.outputs == 1 || axis.adaptive() ? 1 : axis.stride), table_(isa.rows<T>()) {
    const index reach = (axis.outputs - 1) * stride_ + (axis.kernel - 1) * axis.dilation + 1;
    out_pitch = axis.adaptive() ? axis.outputs : ceil_div(std::max(reach, axis.size + axis.pad), stride_);
    pitch = axis.adaptive() ? axis.size + 1 : out_pitch * stride_;
    rows = std::max(least_rows, std::min(most_rows, std::clamp<index>(1024 / std::max(pitch, out_pitch), 1, 64)));
    if (stride_ > 1) phases_ = std::min(axis.kernel, stride_ / std::gcd(stride_, axis.dilation));
    for (index t = 0; t < axis.kernel && axis.adaptive(); t++)
      for (index j = 0; j < axis.outputs; j++) place_.push_back(t < axis.taps(j) ? axis.begin[j] + t : axis.size);
  }

  // Scratch: the padded cells, and behind them the runs of the taps.
  index cells() const { return rows * (pitch + std::max(stride_, axis.adaptive() ? axis.kernel : 0) * out_pitch); }
  index outputs(index count) const { return (count - 1) * out_pitch + axis.outputs; }
  const T* tap(const T* padded, index t) const {
    if (axis.adaptive()) return padded + rows * pitch + t * rows * out_pitch;
    const index right = t * axis.dilation;
    return padded + (stride_ == 1 ? right : rows * pitch + phase(t) * rows * out_pitch + right / stride_);
  }

  void split(T* padded, index count) const {
    T* staged = padded + rows * pitch;
    for (index t = 0; t < axis.kernel && axis.adaptive(); t++)
      for (index r = 0; r < count; r++) {
        const index* place = place_.data() + t * out_pitch;
        const T* row = padded + r * pitch;
        T* out = staged + (t * rows + r) * out_pitch;
        for (index j = 0; j < axis.outputs; j++) out[j] = row[place[j]];
      }
    for (index t = 0; t < phases_; t++)
      table_.load(scalar_of<T>, staged + phase(t) * rows * out_pitch, padded + phase(t), stride_, count * out_pitch);
  }

 private:
  index phase(index t) const { return t * axis.dilation % stride_; }

  index stride_, phases_ = 0;  // phases that taps read
  std::vector<index> place_;   // adaptive: the cell of tap t of output j
  const RowTable<T>& table_;
};

}  // namespace konv
