// Driver of depthwise convolution.
//
// A unit of work is a block of output rows (and, in wide images, of columns) of one image channel:
//     image channel --stage--> padded rows, columns split by stride phase --block()--> output rows, filter by filter
// The staged block fits L1 (24 KB) with room for the output rows beside it, so each image value is read from memory
// once (rows shared by two blocks twice) and each output written once: past L2 the time is that of copying. A depth
// multiplier reuses the staged block. Under 3x3 taps, only short rows and those at an end of all channels are staged,
// others are read in place.
//
// Images that come from memory would be waited for at the start of a unit, lines of the output when they are written.
// So, while a tile is summed, lines of the next unit, or of the next rows in place, and of the output's next rows are
// fetched: 1.1 to 2 times as fast from 8 MiB on (it costs 2 to 5 % where everything is in a cache).
#include "direct.hpp"
#include "stage.hpp"

namespace konv::depthwise {
namespace {

constexpr index row_unit = 7;              // rows of the register tile
constexpr index fetched_bytes = 32 << 10;  // of an image, meanwhile: more would not stay in L1

template <class T> class Driver {
 public:
  explicit Driver(const Call<T>& call)
      : call_(call), g_(call.plan.g), table_(call.plan.isa->depthwise.template of<T>()),
        block_(g_, row_unit, table_.lanes, sizeof(T), true), reader_(*call.plan.isa, call.x, g_.mode),
        writer_(*call.plan.isa, call.y), grid_(g_, call.n * g_.c, 1, block_.rows, block_.columns),
        in_place_(lies_in_place()),
        fetches_(bytes_of(g_, call.x.scalar, call.n) > cached_bytes && block_.columns == g_.ow &&
                 reader_.in_place(0, 0, 0) && call.x.sh == g_.w && call.y.sh == g_.ow) {}

  void run() {
    const index work = block_.rows * block_.columns * g_.group_oc() * direct::depthwise_work(g_);
    const index values = block_.size + block_.rows * round_up(block_.columns, 16);
    each_range<T>(grid_.count, work, values, call_.scratch_limit(), [&](index first, index last, T* x) {
      for (index unit = first; unit < last; unit++) {
        Block b = grid_.at(unit);
        const index c = b.n % g_.c;
        b.n /= g_.c;
        const index end = in_place(b, c);
        sum_image(b, end, c, x + block_.size);
        sum_staged(b, end, c, x);
      }
    });
  }
 private:
  // Under 3x3 taps, and 5x5 at a stride of 2, all but short rows gain by it (1.1 to 1.7), under others, with more edges
  // and fewer reads of a cell, none; rows of 4 KiB would meet in L1.
  bool lies_in_place() const {
    const index last = (g_.ow - 1) * g_.stride_w - g_.pad_left + (g_.kw - 1) * g_.dilation_w, lanes = table_.lanes;
    const bool three = g_.kh == 3 && g_.kw == 3 && g_.stride_h <= 2 && (g_.stride_w == 1 || g_.dilation_w == 1);
    const bool five = g_.kh == 5 && g_.stride_h == 2 && g_.stride_w == 2;
    return (three || five) && g_.dilation_h == 1 && block_.across.runs == 1 && g_.w >= 2 * lanes && g_.ow >= lanes &&
           g_.pad_top <= g_.kh / 2 && g_.pad_left < lanes && last - g_.w < lanes - 1 && g_.mode == PadMode::zeros &&
           reader_.in_place(0, 0, 0) && call_.x.sh >= g_.w && call_.x.sc >= g_.h * call_.x.sh &&
           call_.x.sh * sizeof(T) % page_bytes != 0;
  }

  // The end of those first rows of b that are summed where they lie. Vectors reach over both ends of a row: to what is
  // the image's own but before its first channel and behind its last one, of which whole tiles leave out the last row.
  index in_place(const Block& b, index c) const {
    if (!in_place_ || b.columns < table_.lanes || (c == 0 && b.row == 0)) return b.row;
    const index end = b.row + b.rows, seen = g_.h + (c + 1 < g_.c ? g_.kh / 2 : -1);  // rows
    const index count = (seen - g_.kh + g_.pad_top + g_.stride_h) / g_.stride_h - b.row;
    return count >= b.rows ? end : b.row + std::max<index>(0, count) / row_unit * row_unit;
  }

  // The rows of b up to `end`, of the channel c, where they lie; the first and the last ones may see padding.
  void sum_image(Block b, index end, index c, T* out) const {
    if (b.row == end) return;
    b.rows = end - b.row;
    const Corner at = corner_of(g_, b, c);
    const index above = std::max<index>(0, -at.row);
    const index below = std::max<index>(0, at.row + (b.rows - 1) * g_.stride_h + g_.kh - g_.h);
    const T* x = reader_.in_place(b.n, c, at.row + above) - above * call_.x.sh + at.column;
    DepthwiseBlock<T> to{{b.rows, b.columns, g_.kh, g_.kw, g_.stride_h, 1, x, call_.x.sh, nullptr}};
    to.left = at.column, to.width = g_.w, to.above = above, to.below = below;
    sum(b, c, to, out);
  }

  // Those from `row` on, staged.
  void sum_staged(Block b, index row, index c, T* x) const {
    b.rows -= row - b.row, b.row = row;
    if (b.rows == 0) return;
    const StagedAxis down = b.rows == block_.rows ? block_.down : StagedAxis(b.rows, g_.stride_h, g_.kh, g_.dilation_h);
    const index pitch = block_.across.cells();
    stage(reader_, x, pitch, down, block_.across, corner_of(g_, b, c));
    sum(b, c, {{b.rows, b.columns, g_.kh, g_.kw, down.step(), down.offset(1), x, pitch, nullptr}}, x + block_.size);
  }

  // Each filter of the channel c.
  void sum(const Block& b, index c, DepthwiseBlock<T> to, T* out) const {
    const index now = (to.width > 0 ? row_unit : b.rows) * g_.stride_h * g_.w;
    if (fetches_ && now * index{sizeof(T)} <= fetched_bytes)
      to.next = reader_.in_place(b.n, c, 0) + b.row * g_.stride_h * g_.w + now;
    to.offset = block_.offsets.data(), to.column_step = block_.across.step();
    for (index o = c * g_.group_oc(); o < (c + 1) * g_.group_oc(); o++) {
      T* direct = writer_.in_place(b.n, o);
      to.w = call_.weight + o * g_.taps(), to.bias = call_.bias[o];
      to.y = direct ? direct + b.row * call_.y.sh + b.column : out;
      to.y_pitch = direct ? call_.y.sh : b.columns;
      (to.width > 0 ? table_.image_block : table_.block)(to);
      if (!direct) writer_.write_rows(out, b.columns, {{b.n, o, b.row, b.column}, b.rows, b.columns});
    }
  }

  const Call<T>& call_;
  const Geometry& g_;
  const DepthwiseTable<T>& table_;
  const StagedBlock block_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  const Grid grid_;  // of the image's channels
  const bool in_place_, fetches_;
};
}  // namespace

bool fits(const Geometry& g) { return g.groups == g.c && g.c > 0; }

using direct::pack, direct::packed_size;
template <class T> void run(const Call<T>& call) { Driver<T>(call).run(); }

const Algorithm algorithm = {"depthwise", "depthwise", fits, {KONV_DRIVER(float), KONV_DRIVER(double)}};
}  // namespace konv::depthwise
