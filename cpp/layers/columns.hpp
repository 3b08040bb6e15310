// The windows along a row: every tap of neighbouring outputs brought side by side, so that vectors can walk them.
//
//   padded   # 0 1 2 3 4 5 #        kernel 3, stride 2:   phase 0: # 1 3 5     taps 0 and 2 read phase 0
//                                                         phase 1: 0 2 4 #     tap 1 reads phase 1
//
// Adaptive windows, which follow no rule, get a run of their own for each tap; the taps that a shorter window lacks
// read the cell after the row, which holds the padding.
#pragma once
#include <numeric>

#include "pool.hpp"
#include "rows.hpp"

namespace konv {

template <class T>
class Columns {
 public:
  const PoolAxis& axis;

  Columns(const IsaTable& isa, const PoolAxis& axis)
      : axis(axis),
        stride_(axis.outputs == 1 || axis.adaptive() ? 1 : axis.stride),
        load_(isa.rows<T>().load[static_cast<int>(scalar_of<T>)]) {
    const index reach = (axis.outputs - 1) * stride_ + (axis.kernel - 1) * axis.dilation + 1;
    run_ = ceil_div(std::max(reach, axis.size + axis.pad), stride_);
    cells_ = run_ * stride_;
    if (stride_ > 1) phases_ = std::min(axis.kernel, stride_ / std::gcd(stride_, axis.dilation)), staged_ = cells_;
    if (!axis.adaptive() || axis.whole()) return;
    run_ = axis.outputs, cells_ = axis.size + 1, staged_ = axis.kernel * run_;
    for (index t = 0; t < axis.kernel; t++)
      for (index j = 0; j < run_; j++) place_.push_back(t < axis.taps(j) ? axis.begin[j] + t : axis.size);
  }

  // Scratch of one row: the padded cells, whose image starts at `pad`, and behind them the runs of the taps.
  index cells() const { return cells_ + staged_; }
  const T* tap(const T* padded, index t) const {
    if (!place_.empty()) return padded + cells_ + t * run_;
    const index right = t * axis.dilation;
    return padded + (stride_ == 1 ? right : cells_ + phase(t) * run_ + right / stride_);
  }

  void split(T* padded) const {
    T* staged = padded + cells_;
    for (std::size_t i = 0; i < place_.size(); i++) staged[i] = padded[place_[i]];
    for (index t = 0; t < phases_; t++) load_(staged + phase(t) * run_, padded + phase(t), stride_, run_);
  }

 private:
  index phase(index t) const { return t * axis.dilation % stride_; }

  index stride_, run_, cells_, staged_ = 0, phases_ = 0;  // phases that taps read
  std::vector<index> place_;                              // adaptive: the cell of tap t of output j
  void (*load_)(T* dst, const void* src, index stride, index count);
};

}  // namespace konv
