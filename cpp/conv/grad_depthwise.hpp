// Sums of the weight's gradient with pixels in the lanes, for groups of few output channels (tasks: grad_driver.hpp).
//
// A cell is one image channel (both parts of a complex one) against the output channels of its group. Blocks of rows
// are staged as in the forward pass (padded, columns split by stride phase, 24 KB, so that they stay in L1 while every
// tap walks them) and each output channel's rows of gy are read from memory, or copied when they are not rows of T:
//
//     D[output][tap] += sum over the block's pixels of gy * x      lanes of D are summed at the end of a block
#pragma once
#include <vector>

#include "grad_driver.hpp"
#include "rows.hpp"
#include "stage.hpp"

namespace konv::grad_weight {

template <class T>
class DepthwiseTile {
 public:
  explicit DepthwiseTile(const GradWeightCall& call)
      : call_(call),
        g_(call.g),
        table_(call.isa.template grad_weight<T>()),
        stage_(call.isa, call.x, g_.mode),
        gy_(call.isa, call.gy, PadMode::zeros),
        writer_(call),
        block_(g_, row_unit, table_.lanes, sizeof(T)),
        staged_(round_up(block_.down.cells * block_.pitch() + table_.lanes, 16)) {
    for (index b = 0; b < g_.kw; b++) offset_.push_back(block_.across.offset(b));
  }

  Cut cut() const {
    const index parts = call_.x.parts, scratch = (staged_ + block_.rows * block_.columns) * index{sizeof(T)};
    return {g_.group_oc(), parts, 1, block_.rows, block_.columns, g_.group_oc() * parts * g_.taps(), scratch};
  }

  void add(const Cell& cell, const Block& b, bool first, T* sums, T* scratch) const {
    const index parts = cell.channels, columns = parts * g_.taps();
    if (first) std::fill_n(sums, cell.outputs * columns, T(0));
    GradWeightDepthwise<T> d{
        b.rows,  b.columns, g_.kh,   g_.kw, block_.down.step, block_.down.tap, scratch, block_.pitch(), offset_.data(),
        nullptr, 0,         nullptr, parts};
    for (index p = 0; p < parts; p++) {
      stage_.stage(scratch, b.image, cell.group * g_.group_c() + cell.channel + p, block_.down, block_.across,
                   b.row * g_.stride_h - g_.pad_top, b.column * g_.stride_w - g_.pad_left);
      for (index m = 0; m < cell.outputs; m++) {
        const index o = cell.group * g_.group_oc() + m;
        const T* gy = gy_.in_place(b.image, o, b.row);
        d.gy = gy ? gy + b.column : scratch + staged_;
        d.gy_pitch = gy ? call_.gy.sh : b.columns;
        if (!gy) gy_.read_rows(scratch + staged_, b.columns, b.image, o, b.row, 1, b.rows, b.column, 1, b.columns);
        d.d = sums + m * columns + p;
        table_.depthwise(d);
      }
    }
  }

  void write(const Cell& cell, T* sums, T*) const {
    const index columns = cell.channels * g_.taps();
    writer_.write(sums, columns, cell.group, 0, cell.outputs, cell.channel, columns);
  }

 private:
  static constexpr index row_unit = 4;  // rows of the register tile

  const GradWeightCall& call_;
  const Geometry& g_;
  const GradWeightTable<T>& table_;
  const RowStage<T> stage_;
  const RowReader<T> gy_;
  const Writer<T> writer_;
  const StagedBlock block_;
  const index staged_;
  std::vector<index> offset_;  // of the kernel's columns
};

}  // namespace konv::grad_weight
