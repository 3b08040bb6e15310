// Driver of depthwise convolution.
//
// A unit of work is a block of output rows (and, in wide images, of columns) of one image channel:
//
//     image channel --stage--> padded rows, columns split by stride phase --block()--> output rows, filter by filter
//
// The staged block fits L1 (24 KB) with room for the output rows beside it, so each image value is read from memory
// once (rows shared by two blocks twice) and each output written once: past L2 the time is that of copying. A depth
// multiplier reuses the staged block. Of small images several channels are staged by one call before the first is
// summed: vectors that are loaded right after narrower stores would wait for those; and their frames of zeros stay for
// the next ones. Units are independent and handed out in chunks of some ten thousand outputs.
#include <algorithm>

#include "../workspace.hpp"
#include "direct.hpp"
#include "stage.hpp"

namespace konv::depthwise {
namespace {

constexpr index row_unit = 7;  // rows of the register tile
constexpr index outputs_per_task = 16 << 10;

template <class T> class Driver {
 public:
  explicit Driver(const Call<T>& call)
      : call_(call), g_(call.plan.g), table_(call.plan.isa->depthwise.template of<T>()),
        block_(g_, row_unit, table_.lanes, sizeof(T), true), reader_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y), grid_(g_, call.n * g_.c, 1, block_.rows, block_.columns) {}

  void run() {
    const index units = grid_.count();
    const bool images = units == call_.n * g_.c;  // a unit is a whole one
    const index out = block_.rows * round_up(block_.columns, 16);
    const index together = images ? std::max<index>(1, StagedBlock::bytes / (block_.size * index{sizeof(T)})) : 1;
    const index slot = (together * block_.size + out) * index{sizeof(T)};
    const index chunk = std::max<index>(1, outputs_per_task / (block_.rows * block_.columns * g_.group_oc()));
    const int slots = static_cast<int>(std::min<index>(num_threads(), ceil_div(units, chunk)));
    const index tasks = std::min(units, round_up(ceil_div(units, chunk), slots));
    Workspace scratch(0, slot, slots);
    parallel_for(
        tasks,
        [&](index task, int id) {
          T* x = scratch.slot<T>(id);
          T* y = x + together * block_.size;
          const index last = units * (task + 1) / tasks;
          index framed = 0;  // channels whose frames are there
          for (index first = units * task / tasks, count; first < last; first += count) {
            Block b = grid_.at(first);
            const index c = b.n % g_.c;
            b.n /= g_.c;
            count = std::min({together, last - first, g_.c - c});
            stage(reader_, x, block_.across.cells(), down(b), block_.across,
                  {b.n, c, b.row * g_.stride_h - g_.pad_top, b.column * g_.stride_w - g_.pad_left, count, block_.size,
                   count <= framed});
            if (images) framed = std::max(framed, count);
            sum(b, c, count, x, y);
          }
        },
        slots);
  }

 private:
  StagedAxis down(const Block& b) const {
    return b.rows == block_.rows ? block_.down : StagedAxis(b.rows, g_.stride_h, g_.kh, g_.dilation_h);
  }

  // Each filter of `channels` channels from c on over their staged rows.
  void sum(const Block& b, index c, index channels, const T* staged, T* buffer) const {
    const StagedAxis axis = down(b);
    DepthwiseBlock<T> to{{b.rows, b.columns, g_.kh, g_.kw, axis.step(), axis.offset(1), staged, block_.across.cells(),
                          block_.offsets.data()}};
    to.column_step = block_.across.step();
    for (index m = 0; m < channels * g_.group_oc(); m++) {
      const index o = c * g_.group_oc() + m;
      T* direct = writer_.in_place(b.n, o);
      to.x = staged + m / g_.group_oc() * block_.size;
      to.w = call_.weight + o * g_.taps(), to.bias = call_.bias[o];
      to.y = direct ? direct + b.row * call_.y.sh + b.column : buffer;
      to.y_pitch = direct ? call_.y.sh : b.columns;
      table_.block(to);
      if (!direct) writer_.write_rows(buffer, b.columns, {{b.n, o, b.row, b.column}, b.rows, b.columns});
    }
  }

  const Call<T>& call_;
  const Geometry& g_;
  const DepthwiseTable<T>& table_;
  const StagedBlock block_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  const Grid grid_;  // of the image's channels
};

}  // namespace

bool fits(const Geometry& g) { return g.groups == g.c && g.c > 0; }

using direct::pack, direct::packed_size;

template <class T> void run(const Call<T>& call) { Driver<T>(call).run(); }

const Algorithm algorithm = {"depthwise", "depthwise", fits, {KONV_DRIVER(float), KONV_DRIVER(double)}};

}  // namespace konv::depthwise
