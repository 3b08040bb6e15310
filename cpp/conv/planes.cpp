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
// Loops: block of outputs -> block of channels (planes fit in half of L2) -> panel of output channels (its weights pass
// through L1) -> vectors of pixels -> k. Threads take blocks of outputs.
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
  index rows, columns, channels;  // outputs of a block; channels whose planes are in memory together
  index parts;                    // shares of the panels of output channels, when there are few blocks
  index pitch;
  bool by_row, staged, all_panels_staged;
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
        lanes_(isa_.tiles<T>().lanes),
        panels_(direct::pixel_panels<T>(call.plan)),
        phases_(g_, std::min(g_.oh, wide_block), std::min(g_.ow, wide_block)),
        reader_(isa_, call.x, g_.mode),
        writer_(isa_, call.y) {}

  void run() {
    choose_blocks();
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
  }

 private:
  struct Block {
    index n, group, row, column, rows, columns, part;
  };

  // ---- cutting the work --------------------------------------------------------------------------------------------
  index stage_cells(index rows, index columns, index channels) const {
    const bool partial = channels < g_.group_c();
    return (partial ? g_.group_oc() : panels_.width) * (rows * (columns + phases_.across.reach) + lanes_);
  }
  index block_bytes(index rows, index columns, index channels) const {
    return (channels * phases_.channel_size(rows, columns) + stage_cells(rows, columns, channels)) * index(sizeof(T));
  }
  bool must_stage() const { return writer_.in_place(0, 0) == nullptr; }

  void choose_blocks() {
    const int threads = direct::useful_threads(g_, call_.n);
    const index target = std::min(cache_bytes, direct::scratch_limit(call_) * 3 / 4 / threads);
    const index least_channels = std::min(g_.group_c(), ceil_div(512, g_.taps()));
    index rows = std::min<index>(g_.oh, 4), columns = g_.ow, channels = g_.group_c();
    const auto too_big = [&] { return block_bytes(rows, columns, channels) > target; };
    const auto halve = [&](index& size, index least, index unit) {
      while (too_big() && size > least) size = std::max(least, round_up(ceil_div(size, 2), unit));
    };
    halve(columns, std::min(g_.ow, wide_block), 3 * lanes_);
    halve(channels, least_channels, 1);
    halve(columns, std::min<index>(g_.ow, 3 * lanes_), lanes_);
    halve(rows, 1, 1);
    halve(columns, std::min<index>(g_.ow, lanes_), lanes_);
    halve(channels, 1, 1);
    while (rows < g_.oh && block_bytes(rows + 1, columns, channels) <= target) rows++;

    const index others = call_.n * g_.groups * ceil_div(g_.ow, columns);
    rows = direct::balanced(g_.oh, rows, others, threads, 4);
    const index blocks = others * ceil_div(g_.oh, rows);
    b_.parts = blocks >= threads ? 1 : std::min(panels_.count(), ceil_div(threads, blocks));
    b_.threads = static_cast<int>(std::min<index>(threads, blocks * b_.parts));
    b_.rows = rows, b_.columns = columns, b_.channels = std::max<index>(1, channels);
    choose_walk();
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
    const bool partial = b_.channels < g_.group_c();
    b_.by_row = by_row <= flat;
    b_.staged = !b_.by_row || must_stage();
    b_.all_panels_staged = b_.staged && partial;
    b_.planes_size = round_up(b_.channels * phases_.channel_size() + reach + lanes_, lanes_);
    b_.stage_ld = round_up(b_.rows * b_.pitch, lanes_);
    b_.stage_size = b_.staged ? (b_.all_panels_staged ? g_.group_oc() : panels_.width) * b_.stage_ld : 0;
    offsets_.reserve(b_.channels * g_.taps());
    for (index c = 0; c < b_.channels; c++) phases_.append_offsets(offsets_, c * phases_.channel_size());
  }

  // ---- one block ---------------------------------------------------------------------------------------------------
  void run_block(const Block& block, T* x) {
    T* stage = x + b_.planes_size;
    const index first = panels_.count() * block.part / b_.parts, last = panels_.count() * (block.part + 1) / b_.parts;
    // Without input channels the sum is empty: one pass with k = 0 writes the bias.
    for (index c = 0; c == 0 || c < g_.group_c(); c += b_.channels) {
      const index channels = std::min(b_.channels, g_.group_c() - c);
      for (index i = 0; i < channels; i++)
        phases_.load(reader_, block.n, block.group * g_.group_c() + c + i, block.row, block.rows, block.column,
                     block.columns, x + i * phases_.channel_size());
      for (index panel = first; panel < last; panel++) run_panel(block, panel, c, channels, x, stage);
    }
  }

  void run_panel(const Block& block, index panel, index first_channel, index channels, const T* x, T* stage) {
    const index kept = panels_.kept(panel), first = block.group * g_.group_oc() + panels_.first(panel);
    const T* w = call_.weight + panels_.offset(block.group, panel) + first_channel * g_.taps() * kept;
    const T* bias = first_channel == 0 ? call_.bias + first : nullptr;
    const index k = channels * g_.taps();
    const auto tile = [&](index count, const T* from, T* to, index ld) {
      isa_.tiles<T>().pixel_lane(static_cast<int>(kept), count, k, w, from, offsets_.data(), bias, to, ld);
    };
    if (!b_.staged) {
      T* to = writer_.in_place(block.n, first) + block.row * call_.y.sh + block.column;
      for (index r = 0; r < block.rows; r++) tile(block.columns, x + r * b_.pitch, to + r * call_.y.sh, call_.y.sc);
      return;
    }
    if (b_.all_panels_staged) stage += panels_.first(panel) * b_.stage_ld;
    if (b_.by_row) {
      for (index r = 0; r < block.rows; r++) tile(block.columns, x + r * b_.pitch, stage + r * b_.pitch, b_.stage_ld);
    } else {
      tile((block.rows - 1) * b_.pitch + block.columns, x, stage, b_.stage_ld);
    }
    if (first_channel + channels < g_.group_c()) return;
    for (index o = 0; o < kept; o++)
      writer_.write_rows(stage + o * b_.stage_ld, b_.pitch, block.n, first + o, block.row, block.rows, block.column,
                         block.columns);
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
  Driver<T>(call).run();
}

const Algorithm algorithm = {
    "planes", "direct planes", fits, {KONV_DRIVER(float), KONV_DRIVER(double), KONV_DRIVER(index)}};

}  // namespace konv::planes
