// Driver of depthwise convolution.
//
// A unit of work is a block of output rows (and, in wide images, of columns) of one image channel:
//
//     image channel --stage--> padded rows, columns split by stride phase --block()--> output rows, one filter at a time
//
// The staged block fits L1 (24 KB) with room for the output rows beside it, so each image value is read from memory
// once (rows shared by two blocks twice) and each output written once: past L2 the time is that of copying. A depth
// multiplier reuses the staged block. Units are independent and handed out in chunks of some ten thousand outputs.
#include "depthwise.hpp"

#include <algorithm>

#include "../parallel.hpp"
#include "../workspace.hpp"
#include "pack.hpp"
#include "rows.hpp"
#include "stage.hpp"

namespace konv::depthwise {
namespace {

constexpr index stage_bytes = 24 << 10;
constexpr index most_columns = 1024;
constexpr index row_unit = 7;  // rows of the register tile; blocks hold whole tiles
constexpr index outputs_per_task = 16 << 10;

// `total` cut into equal blocks of at most `most`, each a multiple of `unit` but the last.
index block_of(index total, index most, index unit) {
  return std::min(total, round_up(ceil_div(total, ceil_div(total, most)), unit));
}

struct Blocking {
  index columns, rows;
  StagedColumns across;
  StagedAxis down;

  Blocking(const Geometry& g, index lanes, index bytes)
      : columns(block_of(g.ow, most_columns, lanes)),
        rows(0),
        across(columns, g.stride_w, g.kw, g.dilation_w, lanes),
        down(1, g.stride_h, g.kh, g.dilation_h) {
    const index fit = stage_bytes / bytes / (across.runs * across.pitch);
    const index most = std::max(row_unit, (fit - (g.kh - 1)) / g.stride_h / row_unit * row_unit);
    rows = block_of(g.oh, most, row_unit);
    down = StagedAxis(rows, g.stride_h, g.kh, g.dilation_h);
  }
  index pitch() const { return across.runs * across.pitch; }
};

template <class T>
class Driver {
 public:
  explicit Driver(const Call<T>& call)
      : call_(call),
        g_(call.plan.g),
        table_(call.plan.isa->template depthwise<T>()),
        blocking_(g_, table_.lanes, sizeof(T)),
        stage_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y),
        row_blocks_(ceil_div(g_.oh, blocking_.rows)),
        column_blocks_(ceil_div(g_.ow, blocking_.columns)) {}

  void run() {
    const index staged = round_up(blocking_.down.cells * blocking_.pitch() + table_.lanes, 16);
    const index out = blocking_.rows * round_up(blocking_.columns, 16), offsets = g_.kw;
    const index slot = (staged + out) * sizeof(T) + round_up(offsets * index{sizeof(index)}, 64);
    const index units = call_.n * g_.c * row_blocks_ * column_blocks_;
    const index chunk = std::max<index>(1, outputs_per_task / (blocking_.rows * blocking_.columns * g_.group_oc()));
    const index tasks = ceil_div(units, chunk);
    const int slots = static_cast<int>(std::min<index>(num_threads(), tasks));
    Workspace scratch(0, slot, slots);
    parallel_for(tasks, [&](index task, int id) {
      T* x = scratch.slot<T>(id);
      T* y = x + staged;
      index* offset = reinterpret_cast<index*>(y + out);
      for (index b = 0; b < g_.kw; b++) offset[b] = blocking_.across.offset(b);
      for (index u = task * chunk; u < std::min(units, (task + 1) * chunk); u++) unit(u, x, y, offset);
    }, slots);
  }

 private:
  // One block of output rows and columns of one image channel, for each of the channel's filters.
  void unit(index u, T* staged, T* buffer, const index* offset) const {
    const index column0 = u % column_blocks_ * blocking_.columns, row0 = u / column_blocks_ % row_blocks_ * blocking_.rows;
    const index plane = u / column_blocks_ / row_blocks_, n = plane / g_.c, c = plane % g_.c;
    const index rows = std::min(blocking_.rows, g_.oh - row0), columns = std::min(blocking_.columns, g_.ow - column0);
    const StagedAxis down(rows, g_.stride_h, g_.kh, g_.dilation_h);
    stage_.stage(staged, n, c, down, blocking_.across, row0 * g_.stride_h - g_.pad_top,
                 column0 * g_.stride_w - g_.pad_left);
    DepthwiseBlock<T> b{rows, columns, g_.kh, g_.kw, down.step, down.tap, staged, blocking_.pitch(), offset,
                        nullptr, T(0), nullptr, 0};
    for (index m = 0; m < g_.group_oc(); m++) {
      const index o = c * g_.group_oc() + m;
      T* direct = writer_.in_place(n, o);
      b.w = call_.weight + o * g_.taps(), b.bias = call_.bias[o];
      b.y = direct ? direct + row0 * call_.y.sh + column0 : buffer;
      b.ldy = direct ? call_.y.sh : columns;
      table_.block(b);
      if (direct) continue;
      for (index i = 0; i < rows; i++) writer_.write(buffer + i * columns, n, o, row0 + i, column0, columns);
    }
  }

  const Call<T>& call_;
  const Geometry& g_;
  const DepthwiseTable<T>& table_;
  const Blocking blocking_;
  const RowStage<T> stage_;
  const RowWriter<T> writer_;
  const index row_blocks_, column_blocks_;
};

}  // namespace

bool fits(const Geometry& g) { return g.groups == g.c && g.c > 0; }

template <class T>
index packed_size(const Plan& plan) {
  return checked_mul(plan.g.oc, plan.g.taps());
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  const Geometry& g = plan.g;
  for (index o = 0; o < g.oc; o++, dst += g.taps())
    read_taps<T>(*plan.isa, w, o / g.group_oc(), o % g.group_oc(), 0, g.kh, g.kw, dst);
}

template <class T>
void run(const Call<T>& call) {
  const Geometry& g = call.plan.g;
  if (call.n > 0 && g.oc > 0 && g.oh > 0 && g.ow > 0) Driver<T>(call).run();
}

template index packed_size<float>(const Plan&);
template index packed_size<double>(const Plan&);
template void pack<float>(const Plan&, const WeightView&, float*);
template void pack<double>(const Plan&, const WeightView&, double*);
template void run<float>(const Call<float>&);
template void run<double>(const Call<double>&);

}  // namespace konv::depthwise
