// Driver of the weight's gradient with pixels in the lanes.
//
// A unit is one image channel (both parts of a complex one) against the output channels of its group; a task is a run
// of units over one part of the pixels. Blocks of rows are staged as in the forward pass (padded, columns split by
// stride phase, 24 KB, so that they stay in L1 while every tap walks them) and each output channel's rows of gy are
// read from memory, or copied when they are not rows of T:
//
//     D[output][tap] += sum over the block's pixels of gy * x      lanes of D are summed at the end of a block
//
// There are as many parts as make 16 tasks, fixed by the sizes; their sums are added in order.
#include "grad_depthwise.hpp"

#include <algorithm>

#include "../parallel.hpp"
#include "../workspace.hpp"
#include "grad_rows.hpp"
#include "stage.hpp"

namespace konv::grad_depthwise {
namespace {

constexpr index most_outputs = 4;  // a group; beyond, lanes full of channels are faster
constexpr index stage_bytes = 24 << 10;
constexpr index most_columns = 1024;
constexpr index row_unit = 4;  // rows of the register tile
constexpr index target_tasks = 16;
constexpr index products_per_task = 128 << 10;

index block_of(index total, index most, index unit) {
  return std::min(total, round_up(ceil_div(total, ceil_div(total, most)), unit));
}

template <class T>
class Driver {
 public:
  explicit Driver(const GradWeightCall& call)
      : call_(call),
        g_(call.g),
        table_(call.isa.template grad_weight<T>()),
        stage_(call.isa, call.x, g_.mode),
        gy_(call.isa, call.gy, PadMode::zeros),
        out_(call.isa, call.dw, call.gy.scalar, call.x.parts, g_.group_c() * g_.taps()),
        parts_of_x_(call.x.parts),
        columns_(block_of(g_.ow, most_columns, table_.lanes)),
        across_(columns_, g_.stride_w, g_.kw, g_.dilation_w, table_.lanes) {
    const index fit = stage_bytes / index{sizeof(T)} / (across_.runs * across_.pitch);
    rows_ = block_of(g_.oh, std::max(row_unit, (fit - (g_.kh - 1)) / g_.stride_h / row_unit * row_unit), row_unit);
    column_blocks_ = ceil_div(g_.ow, columns_), row_blocks_ = ceil_div(g_.oh, rows_);
    blocks_ = call.n * row_blocks_ * column_blocks_;
    units_ = g_.c / parts_of_x_;
    sums_ = round_up(g_.group_oc() * g_.taps() * parts_of_x_, 16);
    parts_ = std::clamp<index>(ceil_div(target_tasks, units_), 1, blocks_);
    const index products = g_.oh * g_.ow * call.n * g_.group_oc() * g_.taps() * parts_of_x_;
    chunk_ = parts_ > 1 ? 1 : std::clamp<index>(products_per_task / products, 1, ceil_div(units_, target_tasks));
  }

  void run() {
    const StagedAxis down(rows_, g_.stride_h, g_.kh, g_.dilation_h);
    staged_ = round_up(down.cells * across_.runs * across_.pitch + table_.lanes, 16);
    const index gy = round_up(rows_ * columns_, 16), kw = g_.kw;
    const index slot = (staged_ + gy + sums_) * index{sizeof(T)} + kw * index{sizeof(index)};
    const index shared = parts_ > 1 ? checked_mul(checked_mul(parts_, units_), sums_ * index{sizeof(T)}) : 0;
    const index tasks = ceil_div(units_, chunk_) * parts_;
    const int slots = static_cast<int>(std::min<index>(num_threads(), tasks));
    Workspace scratch(round_up(shared, 64), round_up(slot, 64), slots);
    parallel_for(
        tasks,
        [&](index task, int id) {
          T* base = scratch.slot<T>(id);
          Scratch s{base, base + staged_, base + staged_ + gy, nullptr};
          s.offset = reinterpret_cast<index*>(s.sums + sums_);
          for (index b = 0; b < kw; b++) s.offset[b] = across_.offset(b);
          const index part = task % parts_, first = task / parts_ * chunk_;
          for (index u = first; u < std::min(units_, first + chunk_); u++) {
            if (parts_ > 1) s.sums = scratch.shared<T>() + (u * parts_ + part) * sums_;
            T* result = parts_ == 1 ? result_of(u) : nullptr;
            sum(u, blocks_ * part / parts_, blocks_ * (part + 1) / parts_, s, result ? result : s.sums);
            if (parts_ == 1 && !result) write(u, s.sums);
          }
        },
        slots);
    if (parts_ > 1)
      for (index u = 0; u < units_; u++) write(u, add_parts(scratch.shared<T>() + u * parts_ * sums_));
  }

 private:
  struct Scratch {
    T *x, *gy, *sums;
    index* offset;
  };

  void sum(index unit, index first, index last, const Scratch& s, T* sums) const {
    std::fill_n(sums, g_.group_oc() * g_.taps() * parts_of_x_, T(0));
    for (index b = first; b < last; b++)
      for (index p = 0; p < parts_of_x_; p++) add_block(unit * parts_of_x_ + p, b, s, sums);
  }

  // Channel c of x against all output channels of its group, one block of pixels.
  void add_block(index c, index block, const Scratch& s, T* sums) const {
    const index column = block % column_blocks_ * columns_, row = block / column_blocks_ % row_blocks_ * rows_;
    const index n = block / column_blocks_ / row_blocks_, group = c / g_.group_c();
    const index rows = std::min(rows_, g_.oh - row), columns = std::min(columns_, g_.ow - column);
    const StagedAxis down(rows, g_.stride_h, g_.kh, g_.dilation_h);
    stage_.stage(s.x, n, c, down, across_, row * g_.stride_h - g_.pad_top, column * g_.stride_w - g_.pad_left);
    GradWeightDepthwise<T> d{rows,     columns, g_.kh, g_.kw,   down.step,  down.tap, s.x, across_.runs * across_.pitch,
                             s.offset, nullptr, 0,     nullptr, parts_of_x_};
    for (index m = 0; m < g_.group_oc(); m++) {
      const index o = group * g_.group_oc() + m;
      d.gy = gy_.in_place(n, o, row);
      d.gy_pitch = d.gy ? call_.gy.sh : columns;
      if (d.gy) d.gy += column;
      else d.gy = copy_gy(n, o, row, rows, column, columns, s.gy);
      d.d = sums + m * g_.taps() * parts_of_x_ + c % parts_of_x_;
      table_.depthwise(d);
    }
  }

  const T* copy_gy(index n, index o, index row, index rows, index column, index columns, T* dst) const {
    gy_.read_rows(dst, columns, n, o, row, 1, rows, column, 1, columns);
    return dst;
  }

  T* add_parts(T* sums) const {
    for (index j = 0; j < sums_; j++) {
      double total = 0;
      for (index p = 0; p < parts_; p++) total += static_cast<double>(sums[p * sums_ + j]);
      sums[j] = static_cast<T>(total);
    }
    return sums;
  }

  // The unit's place in dW when sums may be kept there.
  T* result_of(index unit) const { return g_.group_c() == 1 ? out_.in_place(unit * g_.group_oc(), 0) : nullptr; }

  void write(index unit, T* sums) const {
    const index width = g_.taps() * parts_of_x_, elements = g_.group_c() / parts_of_x_;
    out_.write(sums, width, g_.group_oc(), unit / elements * g_.group_oc(), unit % elements * width, width);
  }

  const GradWeightCall& call_;
  const Geometry& g_;
  const GradWeightTable<T>& table_;
  const RowStage<T> stage_;
  const RowReader<T> gy_;
  const WeightGradWriter<T> out_;
  const int parts_of_x_;
  const index columns_;
  const StagedColumns across_;
  index rows_, column_blocks_, row_blocks_, blocks_;
  index units_, sums_, parts_, chunk_, staged_ = 0;
};

}  // namespace

bool fits(const Geometry& g) { return g.group_oc() <= most_outputs; }

template <class T>
void run(const GradWeightCall& call) {
  Driver<T>(call).run();
}

template void run<float>(const GradWeightCall&);
template void run<double>(const GradWeightCall&);

}  // namespace konv::grad_depthwise
