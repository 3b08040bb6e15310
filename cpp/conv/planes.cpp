// Direct convolution with pixels in the lanes.
//
// Idea: a block of input rows is copied once into padded, phase-split planes (phases.hpp), so that tap (kh, kw) of
// every output lies at one fixed distance from it. The register tile walks a table of those distances: nothing is
// unrolled into a matrix.
//
// Layout of the scratch of a thread:  x[channel][row phase][column phase][row][pitch], then stage[channel][pixel].
//
// Two ways to walk the pixels of a block:
//   by row   one call of the tile for each output row; it writes straight into the output
//   flat     one call for all rows, gaps between rows included, into a stage; better when rows fit vectors badly. With
//            zero padding, the right padding of a row is the left padding of the next, which narrows the gaps.
//
// Loops: block of outputs (its planes fit in half of L2) -> panel of output channels (its weights pass through L1) ->
// vectors of pixels -> k. Threads take blocks of outputs. Images with so many channels that a block would be a few
// pixels are left to the matrix, which cuts the sum; its weights are the same.
// Source: the offset table is the "indirection" of M. Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129.
#include <vector>

#include "../workspace.hpp"
#include "direct.hpp"
#include "phases.hpp"

namespace konv::planes {
namespace {

constexpr index cache_bytes =
    512 << 10;                     // planes and stage of one block: half of a 1 MiB L2, the weights need the rest
constexpr index wide_block = 192;  // columns below which a row is not cut for the sake of the cache

// How one call is cut. All sizes in T.
struct Blocking {
  index rows, columns;  // outputs of a block
  index parts;          // shares of the panels of output channels, when there are few blocks
  index pitch;
  bool by_row, staged;
  index stage_ld;  // between channels of the stage
  index planes_size, stage_size;
  int threads;
};

// Columns that the right padding of a row shares with the left padding of the next.
index shared_padding(const Geometry& g, const PhaseAxis& across, bool whole_rows) {
  if (g.mode != PadMode::zeros || g.stride_w != 1 || across.count() != 1 || !whole_rows) return 0;
  const index right = g.ow + across.reach - g.pad_left - g.w;
  return std::max<index>(0, std::min({g.pad_left, right, across.reach}));  // rows of outputs must not overlap
}

template <class T>
class Driver {
 public:
  explicit Driver(const Call<T>& call)
      : call_(call),
        g_(call.plan.g),
        isa_(*call.plan.isa),
        lanes_(isa_.tiles.of<T>().lanes),
        panels_(direct::pixel_panels<T>(call.plan)),
        phases_(g_, std::min(g_.oh, wide_block), std::min(g_.ow, wide_block)),
        reader_(isa_, call.x, g_.mode),
        writer_(isa_, call.y) {}

  // False: a block is too small to be worth it.
  bool run() {
    if (!choose_blocks()) return false;
    const index slot_bytes = round_up((b_.planes_size + b_.stage_size + lanes_) * index(sizeof(T)), 64);
    b_.threads = direct::threads_within(direct::scratch_limit(call_), 0, slot_bytes, b_.threads);
    Workspace scratch(0, slot_bytes, b_.threads);
    const index down = ceil_div(g_.oh, b_.rows), across = ceil_div(g_.ow, b_.columns);
    parallel_for(
        call_.n * g_.groups * down * across * b_.parts,
        [&](index task, int slot) {
          Block block;
          block.part = task % b_.parts;
          block.column = task / b_.parts % across * b_.columns;
          block.row = task / b_.parts / across % down * b_.rows;
          block.group = task / b_.parts / across / down % g_.groups;
          block.n = task / b_.parts / across / down / g_.groups;
          block.rows = std::min(b_.rows, g_.oh - block.row);
          block.columns = std::min(b_.columns, g_.ow - block.column);
          run_block(block, scratch.slot<T>(slot));
        },
        b_.threads);
    return true;
  }

 private:
  struct Block {
    index n, group, row, column, rows, columns, part;
  };

  // ---- cutting the work --------------------------------------------------------------------------------------------
  index block_bytes(index rows, index columns) const {
    const index stage = panels_.width * (rows * (columns + phases_.across.reach) + lanes_);
    return (g_.group_c() * phases_.channel_size(rows, columns) + stage) * index(sizeof(T));
  }

  bool choose_blocks() {
    const int threads = direct::useful_threads(g_, call_.n);
    const index target = std::min(cache_bytes, direct::scratch_limit(call_) * 3 / 4 / threads);
    index rows = std::min<index>(g_.oh, 4), columns = g_.ow;
    const auto halve = [&](index& size, index least, index unit) {
      while (block_bytes(rows, columns) > target && size > least)
        size = std::max(least, round_up(ceil_div(size, 2), unit));
    };
    halve(columns, std::min(g_.ow, wide_block), 3 * lanes_);
    halve(rows, 1, 1);
    halve(columns, std::min<index>(g_.ow, 3 * lanes_), lanes_);
    if (block_bytes(rows, columns) > target) return false;
    while (rows < g_.oh && block_bytes(rows + 1, columns) <= target) rows++;

    const index others = call_.n * g_.groups * ceil_div(g_.ow, columns);
    rows = direct::balanced(g_.oh, rows, others, threads, 4);
    const index blocks = others * ceil_div(g_.oh, rows);
    b_.parts = blocks >= threads ? 1 : std::min(panels_.count(), ceil_div(threads, blocks));
    b_.threads = static_cast<int>(std::min<index>(threads, blocks * b_.parts));
    b_.rows = rows, b_.columns = columns;
    choose_walk();
    return true;
  }

  // By row wastes lanes at the end of each row, and rows of one vector keep few sums in flight; flat computes the gaps
  // between rows and copies the stage.
  void choose_walk() {
    const index reach = phases_.across.reach;
    b_.pitch = b_.columns + reach - shared_padding(g_, phases_.across, b_.columns == g_.ow);
    phases_.lay_out(b_.rows, b_.pitch);
    const double vectors = double(ceil_div(b_.columns, lanes_));
    const double by_row = vectors * double(lanes_) / double(b_.columns) * (1.0 + 0.5 / (vectors * vectors));
    const double flat = double(b_.pitch) / double(b_.columns) * (1.0 + 3.0 / double(panels_.k + 1));
    b_.by_row = by_row <= flat;
    b_.staged = !b_.by_row || !writer_.in_place(0, 0);
    b_.planes_size = round_up(g_.group_c() * phases_.channel_size() + reach + lanes_, lanes_);
    b_.stage_ld = round_up(b_.rows * b_.pitch, lanes_);
    b_.stage_size = b_.staged ? panels_.width * b_.stage_ld : 0;
    offsets_.reserve(panels_.k);
    for (index c = 0; c < g_.group_c(); c++) phases_.append_offsets(offsets_, c * phases_.channel_size());
  }

  // ---- one block ---------------------------------------------------------------------------------------------------
  void run_block(const Block& block, T* x) const {
    for (index c = 0; c < g_.group_c(); c++)
      phases_.load(reader_, block.n, block.group * g_.group_c() + c, block.row, block.rows, block.column, block.columns,
                   x + c * phases_.channel_size());
    const index last = panels_.count() * (block.part + 1) / b_.parts;
    for (index panel = panels_.count() * block.part / b_.parts; panel < last; panel++)
      run_panel(block, panel, x, x + b_.planes_size);
  }

  void run_panel(const Block& block, index panel, const T* x, T* stage) const {
    const index kept = panels_.kept(panel), first = block.group * g_.group_oc() + panels_.first(panel);
    const auto tile = [&](index count, const T* from, T* to, index ld) {
      isa_.tiles.of<T>().pixel_lane(static_cast<int>(kept), count, panels_.k,
                                    call_.weight + panels_.offset(block.group, panel), from, offsets_.data(),
                                    call_.bias + first, to, ld);
    };
    T* y = b_.staged ? stage : writer_.in_place(block.n, first) + block.row * call_.y.sh + block.column;
    const index pitch = b_.staged ? b_.pitch : call_.y.sh, ld = b_.staged ? b_.stage_ld : call_.y.sc;
    if (b_.by_row) {
      for (index r = 0; r < block.rows; r++) tile(block.columns, x + r * b_.pitch, y + r * pitch, ld);
    } else {
      tile((block.rows - 1) * b_.pitch + block.columns, x, stage, ld);
    }
    if (!b_.staged) return;
    for (index o = 0; o < kept; o++)
      writer_.write_rows(stage + o * ld, pitch, block.n, first + o, block.row, block.rows, block.column, block.columns);
  }

  const Call<T>& call_;
  const Geometry& g_;
  const IsaTable& isa_;
  const index lanes_;
  const Panels panels_;
  PhasePlanes phases_;
  const RowReader<T> reader_;
  const RowWriter<T> writer_;
  Blocking b_{};
  std::vector<index> offsets_;
};

}  // namespace

bool fits(const Geometry& g) { return g.taps() <= 1 << 14; }  // beyond, the table of distances outgrows the data

template <class T>
index packed_size(const Plan& plan) {
  return checked_mul(plan.g.groups, direct::pixel_panels<T>(plan).group_size());
}

template <class T>
void pack(const Plan& plan, const WeightView& w, T* dst) {
  pack_panels<T>(*plan.isa, w, plan.g, direct::pixel_panels<T>(plan), dst);
}

template <class T>
void run(const Call<T>& call) {
  if (!Driver<T>(call).run()) matrix::algorithm.driver.of<T>().run(call);
}

const Algorithm algorithm = {
    "planes", "direct planes", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};

}  // namespace konv::planes
