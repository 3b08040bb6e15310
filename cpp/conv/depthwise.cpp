// Driver of depthwise convolution.
//
// A unit of work is a block of output rows (and, in wide images, of columns) of one image channel:
//
//     image channel --stage--> padded rows, columns split by stride phase --block()--> output rows, filter by filter
//
// The staged block fits L1 (24 KB) with room for the output rows beside it, so each image value is read from memory
// once (rows shared by two blocks twice) and each output written once: past L2 the time is that of copying. A depth
// multiplier reuses the staged block. Of small images several channels are staged before the first is summed: vectors
// that are loaded right after narrower stores would wait for those; and where a block is a whole image, its frame of
// zeros stays for the next ones (1.04 to 1.1 times as fast). Units are independent and handed out in chunks of some ten
// thousand outputs.
#include <algorithm>

#include "../parallel.hpp"
#include "../plan.hpp"
#include "../workspace.hpp"
#include "pack.hpp"
#include "rows.hpp"
#include "stage.hpp"

namespace konv::depthwise {
namespace {

constexpr index row_unit = 7;  // rows of the register tile
constexpr index outputs_per_task = 16 << 10;

template <class T>
class Driver {
 public:
  explicit Driver(const Call<T>& call)
      : call_(call),
        g_(call.plan.g),
        table_(call.plan.isa->depthwise.template of<T>()),
        block_(g_, row_unit, table_.lanes, sizeof(T)),
        reader_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y),
        row_blocks_(ceil_div(g_.oh, block_.rows)),
        column_blocks_(ceil_div(g_.ow, block_.columns)) {}

  void run() {
    const index out = block_.rows * round_up(block_.columns, 16);
    const index together = std::max<index>(1, StagedBlock::bytes / (block_.size * index{sizeof(T)}));
    const index slot = (together * block_.size + out) * index{sizeof(T)};
    const index units = call_.n * g_.c * row_blocks_ * column_blocks_;
    const index chunk = std::max<index>(1, outputs_per_task / (block_.rows * block_.columns * g_.group_oc()));
    const index tasks = ceil_div(units, chunk);
    const int slots = static_cast<int>(std::min<index>(num_threads(), tasks));
    Workspace scratch(0, slot, slots);
    parallel_for(
        tasks,
        [&](index task, int id) {
          T* x = scratch.slot<T>(id);
          T* y = x + together * block_.size;
          const index last = std::min(units, (task + 1) * chunk);
          Unit staging = unit_of(task * chunk), summing = staging;
          for (index first = task * chunk; first < last; first += together) {
            const index count = std::min(together, last - first);
            const bool framed = row_blocks_ == 1 && column_blocks_ == 1 && first > task * chunk;
            for (index i = 0; i < count; i++, next(staging)) load(staging, x + i * block_.size, framed);
            for (index i = 0; i < count; i++, next(summing)) sum(summing, x + i * block_.size, y);
          }
        },
        slots);
  }

 private:
  // One block of output rows and columns of one image channel.
  struct Unit {
    index n, c, row, column;
  };
  Unit unit_of(index u) const {
    const index plane = u / column_blocks_ / row_blocks_;
    return {plane / g_.c, plane % g_.c, u / column_blocks_ % row_blocks_ * block_.rows,
            u % column_blocks_ * block_.columns};
  }
  void next(Unit& u) const {
    if ((u.column += block_.columns) < g_.ow) return;
    u.column = 0;
    if ((u.row += block_.rows) < g_.oh) return;
    u.row = 0;
    if (++u.c == g_.c) u.c = 0, u.n++;
  }
  index rows(const Unit& u) const { return std::min(block_.rows, g_.oh - u.row); }
  StagedAxis down(const Unit& u) const {
    return rows(u) == block_.rows ? block_.down : StagedAxis(rows(u), g_.stride_h, g_.kh, g_.dilation_h);
  }

  void load(const Unit& u, T* staged, bool framed) const {
    stage(reader_, staged, u.n, u.c, down(u), block_.across, u.row * g_.stride_h - g_.pad_top,
          u.column * g_.stride_w - g_.pad_left, 0, framed);
  }

  // Each filter of the channel over the staged rows.
  void sum(const Unit& u, const T* staged, T* buffer) const {
    const index columns = std::min(block_.columns, g_.ow - u.column);
    const StagedAxis axis = down(u);
    DepthwiseBlock<T> b{{rows(u), columns, g_.kh, g_.kw, axis.step(), axis.offset(1), staged, block_.across.cells(),
                         block_.offsets.data()}};
    for (index m = 0; m < g_.group_oc(); m++) {
      const index o = u.c * g_.group_oc() + m;
      T* direct = writer_.in_place(u.n, o);
      b.w = call_.weight + o * g_.taps(), b.bias = call_.bias[o];
      b.y = direct ? direct + u.row * call_.y.sh + u.column : buffer;
      b.y_pitch = direct ? call_.y.sh : columns;
      table_.block(b);
      if (!direct) writer_.write_rows(buffer, columns, u.n, o, u.row, b.rows, u.column, columns);
    }
  }

  const Call<T>& call_;
  const Geometry& g_;
  const DepthwiseTable<T>& table_;
  const StagedBlock block_;
  const RowReader<T> reader_;
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
  Driver<T>(call).run();
}

const Algorithm algorithm = {"depthwise", "depthwise", fits, {KONV_DRIVER(float), KONV_DRIVER(double)}};

}  // namespace konv::depthwise
